"""The rules of convolutions, for the fused engine; :mod:`.steps` has those of other operations.

All but the flat rule of the first layer run alike: one stacked convolution forward, for the
activation and whatever the denominator is made of; a quotient per frame; one transposed convolution
for all pairs back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from .flow import Flow
from .presets import Preset
from .program import Convolution, Program, Rectify
from .rules import away_from_zero, favoured, stabilized
from .step import Ran, Step, quotient

__all__ = ["UnsupportedRuleError", "convolution_step"]


class UnsupportedRuleError(Exception):
    """A preset asks for a rule that is not made for a layer here; the text names both."""


def convolution_step(program: Program, number: int, preset: Preset, dtype: torch.dtype) -> Step:
    """Return the step of a convolution of a program.

    Args:
        program: the program.
        number: of the convolution among the operations.
        preset: rules.
        dtype: of the convolution, unless it is the first layer.

    Raises:
        UnsupportedRuleError: the preset's rule for it is not made here.
    """
    conv = program.operations[number]
    assert isinstance(conv, Convolution)
    source = program.values[conv.sources[0]]
    if number == program.first:
        return _FlatConvolution(conv, preset, source.shape, program.values[number + 1].shape)
    inner = [
        n
        for n, operation in enumerate(program.operations)
        if isinstance(operation, Convolution) and n != program.first
    ]
    rule = preset.convolution(inner.index(number), len(inner))
    if rule.kind == "epsilon":
        return _EpsilonConvolution(conv, preset, rule.value, dtype)
    if rule.kind == "gamma":
        if not source.nonnegative:
            raise UnsupportedRuleError(
                "the gamma rule of a convolution whose input can be negative"
            )
        readers = [op for op in program.operations if number + 1 in op.sources]
        rectified = all(isinstance(reader, Rectify) for reader in readers)
        return _Gamma(conv, preset, rule.value, rectified, dtype)
    return _AlphaOneBetaZero(conv, preset, source.nonnegative, dtype)


class _FlatConvolution(Step):
    """Flat rule: every input that is not padding gets the same share, ``R_i = Σ_j R_j / n_j``.

    In closed form: relevance summed over the channels of a group, divided by the number of valid
    inputs, and handed to all rows and columns a window reads, which is a product of two matrices.
    """

    operation: Convolution

    def __init__(
        self, conv: Convolution, preset: Preset, given: Sequence[int], made: Sequence[int]
    ) -> None:
        super().__init__(conv, preset)
        self._rows, self._columns = (
            _reads(conv, axis, given[axis + 1], made[axis + 1]).to(conv.weight) for axis in (0, 1)
        )
        count = torch.outer(self._rows.sum(1), self._columns.sum(1)) * conv.weight.shape[1]
        self._count = stabilized(count, preset)

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        conv = self.operation
        relevance = ran.pairs.relevance(flow, ran.made)
        merged = relevance.unflatten(1, (conv.groups, -1)).sum(dim=2).div_(self._count)
        c = self._rows.T @ merged @ self._columns
        per_group = conv.weight.shape[1]
        shares = c.unsqueeze(2).expand(-1, -1, per_group, -1, -1)
        return [Flow(shares.flatten(1, 2) if conv.groups > 1 else shares[:, 0], None)]


def _reads(conv: Convolution, axis: int, size: int, windows: int) -> torch.Tensor:
    """Return ``(windows, size)``: 1 where a window of a convolution reads a row or column."""
    taps = torch.arange(conv.weight.shape[2 + axis]) * conv.dilation[axis] - conv.padding[axis]
    at = torch.arange(windows)[:, None] * conv.stride[axis] + taps
    valid = (at >= 0) & (at < size)
    reads = torch.zeros(windows, size)
    return reads.scatter_add_(1, at.clamp(0, size - 1), valid.float())


class _Transposable(Step):
    """A convolution whose rule sends quotients back through a transposed convolution."""

    operation: Convolution

    def __init__(self, conv: Convolution, preset: Preset, dtype: torch.dtype) -> None:
        super().__init__(conv, preset)
        self._dtype = dtype

    def _cast(self, weight: torch.Tensor | None) -> Any:
        if weight is None:
            return None
        weight = weight.to(self._dtype)
        if weight.ndim != 4:
            return weight
        return weight.contiguous(memory_format=torch.channels_last)

    def _convolve(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        conv = self.operation
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def _transposed(self, s: torch.Tensor, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        conv = self.operation
        left = [
            x.shape[2 + i]
            - (s.shape[2 + i] - 1) * conv.stride[i]
            + 2 * conv.padding[i]
            - conv.dilation[i] * (weight.shape[2 + i] - 1)
            - 1
            for i in (0, 1)
        ]
        return F.conv_transpose2d(
            s, weight, None, conv.stride, conv.padding, left, conv.groups, conv.dilation
        )


class _EpsilonConvolution(_Transposable):
    """Epsilon rule: a quotient per frame and one transposed convolution, whatever the signs."""

    def __init__(
        self, conv: Convolution, preset: Preset, epsilon: float, dtype: torch.dtype
    ) -> None:
        super().__init__(conv, preset, dtype)
        self._epsilon = epsilon
        self._weight, self._bias = self._cast(conv.weight), self._cast(conv.bias)

    def forward(self, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, None]:
        x = given[0]
        made = self._convolve(x.to(self._dtype), self._weight, self._bias)
        return made.to(x.dtype), None

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,) = ran.given
        q = quotient(flow.factor, away_from_zero(ran.made, self._epsilon))
        s = ran.pairs.scale(flow, q).to(self._dtype)
        return [Flow(self._transposed(s, self._weight, x), x, owned=True)]


class _Gamma(_Transposable):
    """Gamma rule of a convolution whose input has no negative entry.

    Args:
        conv: the convolution.
        preset: how denominators are kept from zero.
        gamma: γ.
        rectified: whether only a ReLU reads the output, so that no relevance comes to an entry
            that is not positive; otherwise those take a second pair of convolutions.
        dtype: of the convolutions.
    """

    def __init__(
        self,
        conv: Convolution,
        preset: Preset,
        gamma: float,
        rectified: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(conv, preset, dtype)
        signs = (gamma,) if rectified else (gamma, -gamma)
        favoured_ = [favoured(conv.weight, conv.bias, sign) for sign in signs]
        self._back = [self._cast(weight) for weight, _ in favoured_]
        self._forward = [
            (self._cast(weight), self._cast(bias))
            for weight, bias in ((conv.weight, conv.bias), *favoured_)
        ]
        if conv.groups == 1:  # one convolution gives all
            weights, biases = zip(*self._forward, strict=True)
            bias = None if biases[0] is None else torch.cat(biases)
            self._forward = [(self._cast(torch.cat(weights)), bias)]

    def forward(self, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        x = given[0].to(self._dtype)
        parts = [self._convolve(x, *layer).to(given[0].dtype) for layer in self._forward]
        if len(parts) == 1:
            parts = list(parts[0].chunk(1 + len(self._back), dim=1))
        made, denominator = parts[:2]
        if len(parts) > 2:
            denominator = torch.where(made < 0, parts[2], denominator)
        return made, stabilized(denominator, self.preset)

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,) = ran.given
        q = quotient(flow.factor, ran.kept)
        if len(self._back) == 1:
            s = ran.pairs.scale(flow, q).to(self._dtype)
            return [Flow(self._transposed(s, self._back[0], x), x, owned=True)]
        flow = replace(flow, owned=False)  # it is read twice
        c: torch.Tensor | float = 0.0
        for mask, weight in zip((ran.made > 0, ran.made < 0), self._back, strict=True):
            s = ran.pairs.scale(flow, q * mask).to(self._dtype)
            c = c + self._transposed(s, weight, x)
        assert isinstance(c, torch.Tensor)
        return [Flow(c, x, owned=True)]


class _AlphaOneBetaZero(_Transposable):
    """α1β0 rule: positive contributions only, bias term as the preset says.

    Where the input is known to have no negative entry, which holds after ReLU, activation and
    denominator come from one convolution with stacked weights ``[W; W⁺]``.

    Args:
        conv: the convolution.
        preset: constants.
        nonnegative: whether its input is known to have no negative entry.
        dtype: of the convolutions; denominators and relevance stay in that of the weights.
    """

    def __init__(
        self, conv: Convolution, preset: Preset, nonnegative: bool, dtype: torch.dtype
    ) -> None:
        super().__init__(conv, preset, dtype)
        self._nonnegative = nonnegative
        weight, bias = conv.weight, conv.bias
        if bias is not None and preset.conv_bias == "positive":
            bias = bias.clamp(min=0)
        positive = weight.clamp(min=0)
        self._weight, self._bias = self._cast(weight), self._cast(conv.bias)
        self._positive, self._positive_bias = self._cast(positive), self._cast(bias)
        self._negative = None if nonnegative else self._cast(weight.clamp(max=0))
        self._stacked = nonnegative and conv.groups == 1
        if self._stacked:
            self._weight = self._cast(torch.cat((weight, positive)))
            if bias is not None and conv.bias is not None:
                self._bias = self._cast(torch.cat((conv.bias, bias)))

    def forward(self, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        exact = given[0].dtype
        x = given[0].to(self._dtype)
        if self._stacked:
            both = self._convolve(x, self._weight, self._bias).to(exact)
            made, denominator = both.chunk(2, dim=1)
        else:
            made = self._convolve(x, self._weight, self._bias).to(exact)
            if self._negative is None:
                denominator = self._convolve(x, self._positive, self._positive_bias).to(exact)
            else:
                denominator = self._convolve(
                    x.clamp(min=0), self._positive, self._positive_bias
                ).to(exact)
                denominator += self._convolve(x.clamp(max=0), self._negative, None)
        return made, stabilized(denominator, self.preset)

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,) = ran.given
        s = ran.pairs.scale(flow, quotient(flow.factor, ran.kept)).to(self._dtype)
        c = self._transposed(s, self._positive, x)
        if self._negative is not None:
            c = torch.where(ran.pairs.spread(x > 0), c, self._transposed(s, self._negative, x))
        return [Flow(c, x, owned=True)]
