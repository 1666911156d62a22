"""Have the weights of a network changed since it was prepared? Asked before every pass."""

from __future__ import annotations

import operator

import torch
from torch import nn

__all__ = ["WeightWatch"]


class WeightWatch:
    """The parameters and buffers of a network at one moment.

    It notices replaced tensors, modules that come or go with weights, changes in place (torch
    counts them), and values that moved to another device, dtype or place in memory. It cannot
    notice values written past torch's counter, such as through ``weight.data``.

    Args:
        model: the network. It is not kept alive; its tensors and what they store are, so that
            nothing new can have their addresses.
    """

    def __init__(self, model: nn.Module) -> None:
        self._tensors = _tensors(model)
        self._storages = [tensor.untyped_storage() for tensor in self._tensors]
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]
        # Tensors made in inference mode count nothing.
        self._counting = [tensor for tensor in self._tensors if not tensor.is_inference()]
        self._versions = [tensor._version for tensor in self._counting]

    def unchanged(self, model: nn.Module) -> bool:
        """Return whether a network has the weights of that moment."""
        now = _tensors(model)
        return (
            len(now) == len(self._tensors)
            and all(map(operator.is_, now, self._tensors))
            and [tensor.data_ptr() for tensor in now] == self._addresses
            and [tensor._version for tensor in self._counting] == self._versions
        )


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    """Return parameters and buffers, those of a shared module once.

    Several times as fast as ``parameters`` and ``buffers``, which go through nested generators.
    """
    modules, found = [model], []
    seen = {model}
    for module in modules:  # grows meanwhile
        for tensors in (module._parameters, module._buffers):
            if tensors:
                found += [tensor for tensor in tensors.values() if tensor is not None]
        if module._modules:
            for child in module._modules.values():
                if child is not None and child not in seen:
                    seen.add(child)
                    modules.append(child)
    return found
