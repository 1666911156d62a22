"""Convolutions with fixed weights, forward and transposed, with weights prepacked for oneDNN.

Each call of ``torch.nn.functional.conv2d`` packs the weights anew. That takes longer than a small
convolution itself, and for a single small frame torch leaves oneDNN's kernels for a slower matrix
product. Where torch was built with oneDNN and the weights are float32 or bfloat16 on a CPU, they
are packed here when an engine is prepared: four maps took 82 ms instead of 99 in an 18-layer
residual network, 12.3 instead of 13.4 in the embedded one. Elsewhere (float64, groups, a GPU, a
build without oneDNN, bfloat16 where oneDNN does not take it) the plain functions run.

oneDNN (torch 2.13, AVX-512) gives wrong values for prepacked weights where a stride leaves a single
column: those are not prepacked. Forward in bfloat16 it does so for more shapes, prepacked or not,
so convolutions of float32 weights run forward in float32. In
bfloat16 it crashes, forward and transposed, prepacked or not, for some dilated shapes, such as
those with fewer rows than the dilation. So on a CPU only prepacked convolutions run in bfloat16,
and no dilated one is prepacked: the other transposed ones run in float32. What is prepacked was
right for 80,000 random shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, Protocol, TypeVar

import torch
import torch.nn.functional as F

__all__ = ["ConvolutionShapes", "Convolve", "ConvolveTranspose", "can_prepack"]


class Convolution(Protocol):
    """How a convolution moves over its input: of a program of the LRP engine, or ``nn.Conv2d``."""

    @property
    def stride(self) -> Sequence[int]: ...
    @property
    def padding(self) -> Sequence[int]: ...
    @property
    def dilation(self) -> Sequence[int]: ...
    @property
    def groups(self) -> int: ...


C_co = TypeVar("C_co", bound=Convolution, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class ConvolutionShapes(Generic[C_co]):
    """A convolution of a program with the shapes it runs for.

    Attributes:
        conv: its stride, padding, dilation and groups.
        input_shape: ``(C, H, W)`` of one frame.
        output_shape: ``(out, h, w)`` of one frame.
    """

    conv: C_co
    input_shape: Sequence[int]
    output_shape: Sequence[int]


class _ByOne:
    """A convolution that moves by one, over an input with a margin of one."""

    stride, padding, dilation, groups = (1, 1), (1, 1), (1, 1), 1


_TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Dtypes whose weights are prepacked → the largest difference from the plain functions, as a share
of the largest value: bfloat16 has 8 bits, and the order of summation may differ."""


@cache
def can_prepack(dtype: torch.dtype) -> bool:
    """Tell whether this torch convolves correctly with prepacked weights of a dtype.

    The functions it has for that belong to its compiler and are not public, and not every build or
    processor takes every dtype: they are tried before they are used.
    """
    if dtype not in _TOLERANCES:
        return False
    conv = _ByOne()
    weight = torch.linspace(-1, 1, 72, dtype=dtype).reshape(4, 2, 3, 3)
    x, bias = torch.ones(1, 2, 5, 5, dtype=dtype), torch.linspace(-1, 1, 4, dtype=dtype)
    try:
        output = _convolve(conv, x, _prepack(conv, weight, x.shape), bias)
        packed = _prepack_transpose(conv, weight, (0, 0), output.shape)
        transposed = _convolve_transpose(conv, output, packed, (0, 0))
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = F.conv2d(x, weight, bias, padding=1)
    expected_transposed = F.conv_transpose2d(expected, weight, padding=1)
    return _agree(output, expected) and _agree(transposed, expected_transposed)


def _agree(result: torch.Tensor, expected: torch.Tensor) -> bool:
    """Tell whether a prepacked result is of the dtype and near the values of the plain one."""
    largest = float((result - expected).abs().max())
    tolerance = _TOLERANCES[expected.dtype] * float(expected.abs().max())
    return result.dtype == expected.dtype and largest <= tolerance


class Convolve:
    """``F.conv2d`` with fixed weights.

    Args:
        layer: the convolution.
        weight: ``(n, in / groups, kh, kw)``, not necessarily its own.
        bias: ``(n,)`` or None.

    Attributes:
        prepacked: whether the weights are.
    """

    def __init__(
        self, layer: ConvolutionShapes[Convolution], weight: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        self._conv = layer.conv
        # With prepacked weights torch reads a bias as if its entries were contiguous.
        self._bias = None if bias is None else bias.contiguous()
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self.prepacked = _may_prepack(layer, weight)
        if self.prepacked:
            self._weight = _prepack(layer.conv, self._weight, (1, *layer.input_shape))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(B, n, h, w)`` for ``(B, C, H, W)`` of the dtype of the weights."""
        conv = self._conv
        if self.prepacked:
            return _convolve(conv, x, self._weight, self._bias)
        return F.conv2d(
            x, self._weight, self._bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )


class ConvolveTranspose:
    """``F.conv_transpose2d`` with fixed weights, from the output's size to that of the input.

    Args:
        layer: the convolution.
        weight: ``(out, in / groups, kh, kw)``, not necessarily its own.

    Attributes:
        prepacked: whether the weights are.
    """

    def __init__(self, layer: ConvolutionShapes[Convolution], weight: torch.Tensor) -> None:
        conv = self._conv = layer.conv
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        # Rows and columns at the far side that no window reaches.
        self._output_padding = tuple(
            layer.input_shape[1 + i]
            - (layer.output_shape[1 + i] - 1) * conv.stride[i]
            + 2 * conv.padding[i]
            - conv.dilation[i] * (weight.shape[2 + i] - 1)
            - 1
            for i in (0, 1)
        )
        self.prepacked = _may_prepack(layer, weight)
        if self.prepacked:
            shape = (1, *layer.output_shape)
            self._weight = _prepack_transpose(conv, self._weight, self._output_padding, shape)
        elif weight.device.type == "cpu" and weight.dtype == torch.bfloat16:
            self._weight = self._weight.float()

    def __call__(self, s: torch.Tensor) -> torch.Tensor:
        """Return ``(P, C, H, W)`` for ``(P, out, h, w)`` of the dtype of the weights."""
        conv = self._conv
        if self.prepacked:
            return _convolve_transpose(conv, s, self._weight, self._output_padding)
        result = F.conv_transpose2d(
            s.to(self._weight.dtype),
            *(self._weight, None, conv.stride, conv.padding, self._output_padding, conv.groups),
            conv.dilation,
        )
        return result.to(s.dtype)


def _may_prepack(layer: ConvolutionShapes[Convolution], weight: torch.Tensor) -> bool:
    dilated = layer.conv.dilation != (1, 1)
    return (
        weight.device.type == "cpu"
        and layer.conv.groups == 1
        and not (dilated and weight.dtype == torch.bfloat16)
        and not (layer.output_shape[2] == 1 and layer.conv.stride[1] > 1)
        and can_prepack(weight.dtype)
    )


def _prepack(conv: Convolution, weight: torch.Tensor, input_shape: Sequence[int]) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_convolution_weight(
        weight, conv.padding, conv.stride, conv.dilation, conv.groups, input_shape
    )


def _prepack_transpose(
    conv: Convolution,
    weight: torch.Tensor,
    output_padding: Sequence[int],
    output_shape: Sequence[int],
) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_convolution_transpose_weight(
        weight,
        *(conv.padding, output_padding, conv.stride, conv.dilation, conv.groups),
        output_shape,
    )


def _convolve(
    conv: Convolution, x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    return torch.ops.mkldnn._convolution_pointwise(
        x, packed, bias, conv.padding, conv.stride, conv.dilation, conv.groups, "none", [], ""
    )


def _convolve_transpose(
    conv: Convolution, s: torch.Tensor, packed: torch.Tensor, output_padding: Sequence[int]
) -> torch.Tensor:
    return torch.ops.mkldnn._convolution_transpose_pointwise(
        s,
        packed,
        None,
        *(conv.padding, output_padding, conv.stride, conv.dilation, conv.groups),
        *("none", [], ""),
    )
