"""The rules of :mod:`.presets` in the form the fused engine runs them.

A :class:`Step` stands for one operation of a program. ``forward`` runs once per frame and keeps
what the rule needs of the frame: the denominator, mostly. ``pull`` turns the relevance of the
operation's output into that of its sources, for all pairs at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from .flow import Flow, Pairs
from .presets import Preset
from .program import (
    Add,
    AveragePool,
    Convolution,
    Dense,
    Flatten,
    MaxPool,
    Operation,
    Program,
    Rectify,
    forward,
)
from .rules import away_from_zero, stabilized

__all__ = ["Ran", "Step", "make_step"]


@dataclass(frozen=True, slots=True)
class Ran:
    """A step that ran forward, seen from the way back.

    Attributes:
        pairs: which frame each pair belongs to.
        given: the sources, ``(B, …)`` each.
        made: the value made, ``(B, …)``.
        kept: what :meth:`Step.forward` kept besides.
    """

    pairs: Pairs
    given: Sequence[torch.Tensor]
    made: torch.Tensor
    kept: Any


class Step(ABC):
    """One operation of a program under a preset."""

    def __init__(self, operation: Operation, preset: Preset) -> None:
        self.operation = operation
        self.preset = preset

    def forward(self, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, Any]:
        """Return the value the operation makes, and what :meth:`pull` needs besides.

        Args:
            given: the sources, ``(B, …)`` each.
        """
        return forward(self.operation, given), None

    @abstractmethod
    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        """Return the relevance of each source.

        Args:
            flow: relevance of the value made.
            ran: what the operation read and made.
        """


def _over(factor: torch.Tensor | None, denominator: torch.Tensor) -> torch.Tensor:
    return denominator.reciprocal() if factor is None else factor / denominator


class _Rectify(Step):
    """Relevance passes an activation unchanged."""

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        return [flow]


class _Flatten(Step):
    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,) = ran.given
        c = flow.c.unflatten(1, x.shape[1:])
        if flow.factor is ran.made:
            return [Flow(c, x, owned=flow.owned)]
        factor = None if flow.factor is None else flow.factor.unflatten(1, x.shape[1:])
        return [Flow(c, factor, owned=flow.owned)]


class _Add(Step):
    """Z-rule: ``R_i = x_i R_j / z_j``, the same quotient for both summands."""

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        c = ran.pairs.scale(flow, _over(flow.factor, stabilized(ran.made, self.preset)))
        return [Flow(c, x) for x in ran.given]


class _Dense(Step):
    """Epsilon rule."""

    operation: Dense

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        q = _over(flow.factor, away_from_zero(ran.made, self.preset.epsilon))
        return [Flow(ran.pairs.scale(flow, q) @ self.operation.weight, ran.given[0], owned=True)]


class _FlatDense(Step):
    """Flat rule of a dense layer: every input gets the same share."""

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,) = ran.given
        count = stabilized(x.new_tensor(float(x.shape[1])), self.preset)
        total = ran.pairs.relevance(flow, ran.made).sum(dim=1, keepdim=True)
        return [Flow((total / count).expand(-1, x.shape[1]), None)]


class _MaxPool(Step):
    """All relevance to the winner of a window."""

    operation: MaxPool

    def _options(self) -> tuple[Any, ...]:
        pool = self.operation
        return pool.kernel, pool.stride, pool.padding, pool.dilation, pool.ceil

    def forward(self, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return F.max_pool2d(given[0], *self._options(), return_indices=True)

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,) = ran.given
        pool = self.operation
        if pool.tiles and flow.tile == (1, 1):
            # Which entry of a tile wins is the frame's business: it goes into the factor.
            factor = torch.ones_like(ran.made) if flow.factor is None else flow.factor
            won = F.max_unpool2d(factor, ran.kept, pool.kernel, output_size=x.shape[2:])
            return [Flow(flow.c, won, pool.kernel, owned=False)]
        # A winner has the value of each window it wins, so the factor of the output carries over.
        same = flow.factor is ran.made and flow.tile == (1, 1)
        c = flow.c if same else ran.pairs.relevance(flow, ran.made)
        shape = x.new_empty(1).expand(len(ran.pairs), *x.shape[1:])
        c = torch.ops.aten.max_pool2d_with_indices_backward(
            c.contiguous(memory_format=_layout(x)),
            shape,
            *self._options(),
            ran.pairs.spread(ran.kept).expand_as(c),
        )
        return [Flow(c, x if same else None, owned=True)]


def _layout(x: torch.Tensor) -> torch.memory_format:
    if x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


class _AveragePool(Step):
    """Z-rule: ``R_i = x_i Σ_j a_ij R_j / z_j`` with the shares a of the average."""

    operation: AveragePool

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        pool = self.operation
        q = _over(flow.factor, stabilized(ran.made, self.preset))
        if pool.tile is not None:
            c = ran.pairs.scale(flow, q / (pool.tile[0] * pool.tile[1]))
            return [Flow(c, ran.given[0], pool.tile)]
        c = pool.rows.T @ ran.pairs.scale(flow, q) @ pool.columns
        return [Flow(c, ran.given[0], owned=True)]


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


class _AlphaOneBetaZero(Step):
    """α1β0 rule: positive contributions only, bias term as the preset says.

    Where the input is known to have no negative entry, which holds after ReLU, activation and
    denominator come from one convolution with stacked weights ``[W; W⁺]``.

    Args:
        conv: the convolution.
        preset: constants.
        nonnegative: whether its input is known to have no negative entry.
        dtype: of the convolutions; denominators and relevance stay in that of the weights.
    """

    operation: Convolution

    def __init__(
        self, conv: Convolution, preset: Preset, nonnegative: bool, dtype: torch.dtype
    ) -> None:
        super().__init__(conv, preset)
        self._nonnegative = nonnegative
        self._dtype = dtype
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
        s = ran.pairs.scale(flow, _over(flow.factor, ran.kept)).to(self._dtype)
        c = self._transposed(s, self._positive, x)
        if self._negative is not None:
            c = torch.where(ran.pairs.spread(x > 0), c, self._transposed(s, self._negative, x))
        return [Flow(c, x, owned=True)]

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


def make_step(program: Program, number: int, preset: Preset, dtype: torch.dtype) -> Step:
    """Return the step of an operation of a program.

    Args:
        program: the program.
        number: of the operation.
        preset: rules.
        dtype: of inner convolutions.
    """
    operation = program.operations[number]
    source = program.values[operation.sources[0]]
    match operation:
        case Convolution() if number == program.first:
            return _FlatConvolution(
                operation, preset, source.shape, program.values[number + 1].shape
            )
        case Convolution():
            return _AlphaOneBetaZero(operation, preset, source.nonnegative, dtype)
        case Dense():
            return (_FlatDense if number == program.first else _Dense)(operation, preset)
        case Rectify():
            return _Rectify(operation, preset)
        case MaxPool():
            return _MaxPool(operation, preset)
        case AveragePool():
            return _AveragePool(operation, preset)
        case Add():
            return _Add(operation, preset)
        case Flatten():
            return _Flatten(operation, preset)
    raise TypeError(f"no rule for {type(operation).__name__}")
