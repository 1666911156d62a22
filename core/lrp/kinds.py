"""Which kinds of network relevance can be propagated through, and how others are made one."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..errors import ModelError

__all__ = ["check_kind", "plain", "whole"]

_NORMALISATIONS = (nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)
_RMS_NORM = getattr(nn, "RMSNorm", None)
_SHORT = (torch.float16, torch.bfloat16)


def plain(model: nn.Module) -> nn.Module:
    """Return the network that ``torch.compile`` was given, or the model itself.

    Its weights are those of the compiled one; rules are attached to layers, which that hides.
    """
    # By name: importing torch._dynamo takes a second, and few networks are compiled.
    while type(model).__name__ == "OptimizedModule" and hasattr(model, "_orig_mod"):
        model = model._orig_mod  # type: ignore[assignment]
    return model


def whole(model: nn.Module) -> nn.Module:
    """Return a network in float32 if its weights are shorter, or the model itself.

    Relevance is divided by sums that nearly cancel: with the 8 or 11 bits of bfloat16 or float16
    the quotient would be noise.
    """
    if any(weight.dtype in _SHORT for weight in model.parameters()):
        return copy.deepcopy(model).float()
    return model


def check_kind(model: nn.Module) -> None:
    """Refuse a network that would be explained wrongly, or not at all.

    Raises:
        ModelError: it is TorchScript or quantised, hides compiled parts, has no weights in memory,
            or normalises by what it sees.
    """
    name = type(model).__name__
    for path, module in model.named_modules():
        where = f"{path!r} of {name}" if path else name
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"{where} is TorchScript, whose layers no rule can be attached to; give the "
                "nn.Module that it was made from"
            )
        if module is not model and plain(module) is not module:
            raise ModelError(
                f"{where} is compiled by itself; compile the whole network, or give it uncompiled"
            )
        if type(module).__module__.startswith(("torch.ao.nn.", "torchao.")):
            raise ModelError(
                f"{where} is quantised, and its relevance would be zero; give the network as it "
                "was before quantisation"
            )
        if _normalises(module):
            raise ModelError(
                f"{where} is a {type(module).__name__}: it divides by what it sees, so relevance "
                "sums to nothing below it; use a network with BatchNorm, which is folded away"
            )
    if any(weight.device.type == "meta" for weight in model.parameters()):
        raise ModelError(f"{name} is on the device meta and has no weights; load them first")


def _normalises(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        # With running statistics it is a BatchNorm, outside of training.
        return not module.track_running_stats
    if _RMS_NORM is not None and isinstance(module, _RMS_NORM):
        return True
    return isinstance(module, _NORMALISATIONS)
