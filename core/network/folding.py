"""Fold BatchNorm into the layer before it, so that prediction and explanation share one network.

In eval mode BatchNorm is a per-channel affine map. Folded into the weights of the convolution or
dense layer that feeds it, it leaves the function unchanged and removes a layer that LRP has no
sound rule for (iNNvestigate 2's own BatchNorm rule doubles relevance, and zennit's merge drops
``eps``).

References:
    Montavon et al., *Layer-wise Relevance Propagation: An Overview*, 2019, §10.3 (canonisation).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

from ..errors import ModelError

__all__ = ["example_input", "fold_batchnorm", "frozen_copy"]

_BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
_Foldable = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_ModuleT = TypeVar("_ModuleT", bound=nn.Module)
# Float32 convolutions summed in another order differ by about 1e-6 of the largest output.
_TOLERANCE = 1e-4


def example_input(model: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    """Return two inputs that exercise the layers of a network; a real crop might be flat.

    Args:
        model: any network.
        shape: ``(C, H, W)`` of its input.

    Returns:
        ``(2, C, H, W)`` normally distributed, always the same, of the dtype and on the device of
        the network's parameters.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    values = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))
    return values.to(like.device, like.dtype)


def frozen_copy(model: _ModuleT) -> _ModuleT:
    """Copy the structure of a network; weights stay shared, need no gradient, mode is eval.

    Args:
        model: any network.

    Returns:
        A copy with its own hooks, flags and submodules. Its parameters and buffers share the memory
        of the original's, except those created in inference mode, which are cloned.

    Raises:
        ModelError: the network cannot be copied.
    """
    shared: dict[int, object] = {}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(_detached(parameter), requires_grad=False)
    for buffer in model.buffers():
        shared[id(buffer)] = _detached(buffer)
    try:
        twin = copy.deepcopy(model, shared)
    except Exception as error:
        raise ModelError(
            f"the network {type(model).__name__} cannot be copied ({error}); remove open files, "
            "locks and tensors with gradients from its attributes"
        ) from error
    return twin.eval()


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    # Autograd refuses tensors created in inference mode; a clone outside it is a usual tensor.
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()


@torch.no_grad()
def fold_batchnorm(model: _ModuleT, example: torch.Tensor) -> _ModuleT:
    """Return an equal network without BatchNorm.

    Which layer feeds which BatchNorm is observed in one forward pass, so the order in which
    modules were registered does not matter. The result is checked against the original on
    ``example``.

    Args:
        model: network in any mode; evaluated in eval mode. It is not changed.
        example: ``(N, C, H, W)`` float32 input that takes the usual path through the network;
            random values exercise it better than zeros.

    Returns:
        A :func:`frozen_copy`, with each BatchNorm replaced by ``nn.Identity``. Without BatchNorm
        in use it is just the copy.

    Raises:
        ModelError: the input of a BatchNorm is not the output of a convolution or dense layer, one
            of the two runs more than once, or folding changes the output.
    """
    twin = frozen_copy(model)
    pairs = _feeding_layers(twin, example)
    if not pairs:
        return twin
    before = _first_tensor(twin(example)).clone()
    names = {module: name for name, module in twin.named_modules()}
    for norm, layer in pairs:
        _fold_into(layer, norm)
        parent, _, leaf = names[norm].rpartition(".")
        setattr(twin.get_submodule(parent), leaf, nn.Identity())
    after = _first_tensor(twin(example))
    scale = float(before.abs().max()) or 1.0
    error = float((after - before).abs().max()) / scale
    if not error <= _TOLERANCE:
        raise ModelError(
            f"folding BatchNorm changes the output of {type(model).__name__} by {error:.1e} "
            "(relative): the layer before a BatchNorm is also used elsewhere; give the BatchNorm "
            "its own convolution, or fold it by hand first"
        )
    return twin


def _feeding_layers(model: nn.Module, example: torch.Tensor) -> list[tuple[_BatchNorm, _Foldable]]:
    """Pair every BatchNorm that runs with the layer whose output it receives."""
    layer_of: dict[int, _Foldable] = {}  # by the id of its output
    fed: list[tuple[_BatchNorm, _Foldable | None]] = []
    alive: list[torch.Tensor] = []  # keeps ids unique while the pass runs
    handles = []

    def note_output(layer: _Foldable, _args: object, output: torch.Tensor) -> None:
        layer_of[id(output)] = layer
        alive.append(output)

    def note_input(norm: _BatchNorm, args: tuple[torch.Tensor, ...]) -> None:
        fed.append((norm, layer_of.get(id(args[0]))))

    for module in model.modules():
        if isinstance(module, _Foldable):
            handles.append(module.register_forward_hook(note_output))
        elif isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(note_input))
    try:
        model(example)
    finally:
        for handle in handles:
            handle.remove()

    names = {module: name for name, module in model.named_modules()}
    layer_calls = list(layer_of.values())
    norm_calls = [norm for norm, _ in fed]
    pairs = []
    for norm, layer in fed:
        if layer is None or norm_calls.count(norm) != 1 or layer_calls.count(layer) != 1:
            raise ModelError(
                f"BatchNorm {names[norm]!r} of {type(model).__name__} does not follow its own "
                "convolution or dense layer; LRP needs it folded: place it right after one, and "
                "use both once"
            )
        pairs.append((norm, layer))
    return pairs


def _fold_into(layer: _Foldable, norm: _BatchNorm) -> None:
    """Give ``layer`` the weights of ``norm(layer(.))``: w·g/√(v+ε) and (b−m)·g/√(v+ε)+β."""
    if norm.running_mean is None or norm.running_var is None:
        raise ModelError(
            "a BatchNorm without running statistics depends on the batch; train the network with "
            "track_running_stats=True"
        )
    # Double precision: folding happens once, its rounding error would stay.
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    shift = -norm.running_mean.double()
    if layer.bias is not None:
        shift = shift + layer.bias.double()
    shift = shift * gain
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    weight = layer.weight
    scaled = weight.double() * gain.reshape(-1, *[1] * (weight.ndim - 1))
    layer.weight = nn.Parameter(scaled.to(weight), requires_grad=False)
    layer.bias = nn.Parameter(shift.to(weight), requires_grad=False)


def _first_tensor(output: object) -> torch.Tensor:
    """Return the tensor, or the first one of a tuple."""
    if isinstance(output, (tuple, list)):
        return _first_tensor(output[0])
    if not isinstance(output, torch.Tensor):
        raise ModelError(f"the network returned {type(output).__name__}, a tensor was expected")
    return output
