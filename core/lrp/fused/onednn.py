"""Convolutions with fixed weights, forward and back, laid out for the processor once.

A call of ``torch.nn.functional.conv2d`` arranges the weights anew each time, which takes longer
than a small convolution itself, and for a single small frame leaves oneDNN's kernels for a slower
product of matrices. Where torch was built with oneDNN and the weights are float32 or bfloat16 on a
CPU, they are arranged here when an engine is prepared: four maps took 82 ms instead of 99 in an
18-layer residual network, 12.3 instead of 13.4 in the embedded one. Elsewhere (float64, groups, a
GPU, a build without oneDNN, bfloat16 where oneDNN does not take it) the plain functions run.

oneDNN (torch 2.13, AVX-512) gives wrong values where weights are packed and a stride leaves a
single column: that is not packed. Forward in bfloat16 it does so for more shapes, packed or not,
so convolutions of float32 weights run forward in float32 (see :mod:`.convolutions`). In bfloat16 it
crashes, forward and back, packed or not, for some dilated shapes, such as those with fewer rows
than the dilation. So on a CPU only what is packed runs in bfloat16, and nothing dilated is: the
rest of the transposed ones run in float32. What is packed was right for 80,000 random shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F

from .program import Convolution

__all__ = ["ConvolutionShapes", "Convolve", "Transpose", "can_pack"]


@dataclass(frozen=True, slots=True, eq=False)
class ConvolutionShapes:
    """A convolution of a program with the shapes it runs for.

    Attributes:
        conv: its stride, padding, dilation and groups.
        given: ``(C, H, W)`` of one frame's input.
        made: ``(out, h, w)`` of one frame's output.
    """

    conv: Convolution
    given: Sequence[int]
    made: Sequence[int]


_EXACT = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Dtypes whose weights are arranged, and how near to the plain functions results must be, as a
share of the largest value: bfloat16 has 8 bits, and the two may add up in another order."""


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Tell whether torch convolves here with weights of a dtype arranged beforehand.

    Its functions for that are the compiler's, not public ones, and not every build or processor
    takes every dtype: they are tried before being used.
    """
    if dtype not in _EXACT:
        return False
    conv = Convolution((0,), torch.empty(0), None, (1, 1), (1, 1), (1, 1), 1)
    weight = torch.linspace(-1, 1, 72, dtype=dtype).reshape(4, 2, 3, 3)
    x, bias = torch.ones(1, 2, 5, 5, dtype=dtype), torch.linspace(-1, 1, 4, dtype=dtype)
    try:
        made = _pointwise(conv, x, _packed(conv, weight, x.shape), bias)
        back = _pointwise_back(conv, made, _packed_back(conv, weight, (0, 0), made.shape), (0, 0))
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = F.conv2d(x, weight, bias, padding=1)
    expected_back = F.conv_transpose2d(expected, weight, padding=1)
    return all(
        one.dtype == dtype
        and float((one - other).abs().max()) <= _EXACT[dtype] * float(other.abs().max())
        for one, other in ((made, expected), (back, expected_back))
    )


class Convolve:
    """``F.conv2d`` with fixed weights.

    Args:
        layer: the convolution.
        weight: ``(n, in / groups, kh, kw)``, not necessarily its own.
        bias: ``(n,)`` or None.

    Attributes:
        packed: whether the weights are laid out.
    """

    def __init__(
        self, layer: ConvolutionShapes, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        self._conv = layer.conv
        # The packed call reads a bias as if its entries lay side by side, wherever they lie.
        self._bias = None if bias is None else bias.contiguous()
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self.packed = _may_pack(layer, weight)
        if self.packed:
            self._weight = _packed(layer.conv, self._weight, (1, *layer.given))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(B, n, h, w)`` for ``(B, C, H, W)`` of the dtype of the weights."""
        conv = self._conv
        if self.packed:
            return _pointwise(conv, x, self._weight, self._bias)
        return F.conv2d(
            x, self._weight, self._bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )


class Transpose:
    """The transposed convolution with fixed weights, back to the size of the input.

    Args:
        layer: the convolution.
        weight: ``(out, in / groups, kh, kw)``, not necessarily its own.

    Attributes:
        packed: whether the weights are laid out.
    """

    def __init__(self, layer: ConvolutionShapes, weight: torch.Tensor) -> None:
        conv = self._conv = layer.conv
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        # Rows and columns at the far side that no window reaches.
        self._left = tuple(
            layer.given[1 + i]
            - (layer.made[1 + i] - 1) * conv.stride[i]
            + 2 * conv.padding[i]
            - conv.dilation[i] * (weight.shape[2 + i] - 1)
            - 1
            for i in (0, 1)
        )
        self.packed = _may_pack(layer, weight)
        if self.packed:
            self._weight = _packed_back(conv, self._weight, self._left, (1, *layer.made))
        elif weight.device.type == "cpu" and weight.dtype == torch.bfloat16:
            self._weight = self._weight.float()

    def __call__(self, s: torch.Tensor) -> torch.Tensor:
        """Return ``(P, C, H, W)`` for ``(P, out, h, w)`` of the dtype of the weights."""
        conv = self._conv
        if self.packed:
            return _pointwise_back(conv, s, self._weight, self._left)
        made = F.conv_transpose2d(
            s.to(self._weight.dtype),
            *(self._weight, None, conv.stride, conv.padding, self._left, conv.groups),
            conv.dilation,
        )
        return made.to(s.dtype)


def _may_pack(layer: ConvolutionShapes, weight: torch.Tensor) -> bool:
    dilated = layer.conv.dilation != (1, 1)
    return (
        weight.device.type == "cpu"
        and layer.conv.groups == 1
        and not (dilated and weight.dtype == torch.bfloat16)
        and not (layer.made[2] == 1 and layer.conv.stride[1] > 1)
        and can_pack(weight.dtype)
    )


def _packed(conv: Convolution, weight: torch.Tensor, given: Sequence[int]) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_convolution_weight(
        weight, conv.padding, conv.stride, conv.dilation, conv.groups, given
    )


def _packed_back(
    conv: Convolution, weight: torch.Tensor, left: Sequence[int], made: Sequence[int]
) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_convolution_transpose_weight(
        weight, conv.padding, left, conv.stride, conv.dilation, conv.groups, made
    )


def _pointwise(
    conv: Convolution, x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    return torch.ops.mkldnn._convolution_pointwise(
        x, packed, bias, conv.padding, conv.stride, conv.dilation, conv.groups, "none", [], ""
    )


def _pointwise_back(
    conv: Convolution, s: torch.Tensor, packed: torch.Tensor, left: Sequence[int]
) -> torch.Tensor:
    return torch.ops.mkldnn._convolution_transpose_pointwise(
        s, packed, None, conv.padding, left, conv.stride, conv.dilation, conv.groups, "none", [], ""
    )
