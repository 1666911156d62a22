"""A network's way forward on a CPU with the weights of its convolutions laid out once.

torch lays them out anew in every call, and for a single small frame takes a slower way altogether,
see :mod:`.onednn`. The LRP engine has its own way forward; this one is for prediction and
landmarks.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from .onednn import ConvolutionShapes, Convolve
from .weight_watch import WeightWatch

__all__ = ["PackedForward"]


class PackedForward:
    """Keeps a copy of a network that shares all weights but has laid-out convolutions.

    The copy is made at the first call and again after the weights have changed.

    Args:
        module: the network; in eval mode, on a CPU.
        shape: ``(C, H, W)`` of its input.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        self._module, self._shape = module, shape
        self._watch: WeightWatch | None = None
        self._packed = module

    def __call__(self) -> nn.Module:
        """Return the copy, to be run in inference mode; the network itself if none can be made."""
        if self._watch is None or not self._watch.unchanged(self._module):
            self._watch = WeightWatch(self._module)
            self._packed = _pack(self._module, self._shape)
        return self._packed


def _pack(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Return a copy with laid-out convolutions; the network itself where there is none to lay out.

    Compiled networks and those of TorchScript hold their convolutions elsewhere, and stay as they
    are.
    """
    layers = list(module.modules())
    if any(isinstance(layer, torch.jit.ScriptModule) or _is_compiled(layer) for layer in layers):
        return module
    # Of these exactly: a subclass may do something else.
    plain = [layer for layer in layers if type(layer) is nn.Conv2d and _is_simple(layer)]
    seen = _shapes(module, plain, shape)
    memo: dict[int, Any] = {}
    for convolution, shapes in seen.items():
        packed = _PackedConvolution(convolution, *shapes)
        if packed.is_packed:
            memo[id(convolution)] = packed
    if not memo:
        return module
    # What is in the memo is taken as it is: weights stay those of the network.
    for tensor in (*module.parameters(), *module.buffers()):
        memo[id(tensor)] = tensor
    return copy.deepcopy(module, memo)


def _is_compiled(layer: nn.Module) -> bool:
    return hasattr(layer, "_orig_mod")


def _is_simple(layer: nn.Conv2d) -> bool:
    """Tell whether a convolution is what its attributes say, and nothing looks on."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str) and not hooked


def _shapes(
    module: nn.Module, convolutions: list[nn.Conv2d], shape: tuple[int, ...]
) -> dict[nn.Conv2d, tuple[torch.Size, torch.Size]]:
    """Return the shapes of one frame at convolutions, of those that see one shape only."""
    seen: dict[nn.Conv2d, set[tuple[torch.Size, torch.Size]]] = {}

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        seen.setdefault(layer, set()).add((inputs[0].shape[1:], output.shape[1:]))

    handles = [convolution.register_forward_hook(note) for convolution in convolutions]
    try:
        module(torch.zeros(1, *shape))
    finally:
        for handle in handles:
            handle.remove()
    return {layer: next(iter(shapes)) for layer, shapes in seen.items() if len(shapes) == 1}


class _PackedConvolution(nn.Module):
    """A convolution with its weights laid out, for frames of one shape; it has none of its own."""

    def __init__(
        self, convolution: nn.Conv2d, input_shape: torch.Size, output_shape: torch.Size
    ) -> None:
        super().__init__()
        layer = ConvolutionShapes(convolution, input_shape, output_shape)  # type: ignore[arg-type]
        weight, bias = convolution.weight.detach(), convolution.bias
        self._plain = [convolution]  # in a list, so that it is no part of the copy
        self._shape = input_shape
        self._convolve = Convolve(layer, weight, None if bias is None else bias.detach())

    @property
    def is_packed(self) -> bool:
        """Whether that could be done."""
        return self._convolve.prepacked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1:] != self._shape:
            return self._plain[0](x)
        # A single channel has no order in memory, and what follows wants channels last.
        return self._convolve(x).contiguous(memory_format=torch.channels_last)
