"""The rules of :mod:`.presets` in the form the fused engine runs them.

Convolutions have a module of their own (:mod:`.convolutions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..formulas import away_from_zero, stabilized
from ..presets import Preset
from .convolution_rules import convolution_step
from .program import Add, AveragePool, Convolution, Dense, Flatten, MaxPool, Program, Rectify
from .relevance_flow import Flow
from .rule import Ran, Step, quotient

__all__ = ["make_step"]


class _Rectify(Step):
    """Relevance passes an activation unchanged."""

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        return [flow]


class _Flatten(Step):
    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,) = ran.given
        c = flow.c.unflatten(1, x.shape[1:])
        if c.ndim == 4:  # laid out as values are, and convolutions want it
            c = c.contiguous(memory_format=torch.channels_last)
        if flow.factor is ran.made:
            return [Flow(c, x, owned=flow.owned)]
        factor = None if flow.factor is None else flow.factor.unflatten(1, x.shape[1:])
        return [Flow(c, factor, owned=flow.owned)]


class _Add(Step):
    """Z-rule: ``R_i = x_i R_j / z_j``, the same quotient for both summands."""

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        c = ran.pairs.scale(flow, quotient(flow.factor, stabilized(ran.made, self.preset)))
        return [Flow(c, x) for x in ran.given]


class _Dense(Step):
    """Epsilon rule."""

    operation: Dense

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        q = quotient(flow.factor, away_from_zero(ran.made, self.preset.epsilon))
        return [Flow(ran.pairs.scale(flow, q) @ self.operation.weight, ran.given[0], owned=True)]


class _PositiveHead(Step):
    """Start of relevance: ``R_i = Σ_j (x_i w_ij)⁺ s_j``; the factor, the logit, is left out."""

    operation: Dense

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,), weight = ran.given, self.operation.weight
        c = flow.c @ weight.clamp(min=0)
        # Of a negative input what comes through negative weights speaks for the output.
        below = ran.pairs.spread(x < 0)
        return [Flow(torch.where(below, flow.c @ weight.clamp(max=0), c), x, owned=True)]


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
            # The function of torch.nn imports symbolic shapes for a check, which takes .3 s.
            won = torch.ops.aten.max_unpool2d(factor, ran.kept, x.shape[2:])
            return [Flow(flow.c, won, pool.kernel, owned=False)]
        # A winner has the value of each window it wins, so the factor of the output carries over.
        same = flow.factor is ran.made and flow.tile == (1, 1)
        c = flow.c.to(x.dtype) if same else ran.pairs.relevance(flow, ran.made)
        shape = x.new_empty(1).expand(len(ran.pairs), *x.shape[1:])
        c = torch.ops.aten.max_pool2d_with_indices_backward(
            c.contiguous(memory_format=_layout(x)),
            shape,
            *self._options(),
            ran.pairs.spread(ran.kept).expand_as(c),
        )
        return [Flow(c, x if same else None, owned=True)]


class _FirstMaxPool(_MaxPool):
    """The same where only the first layer lies below, as in most residual networks.

    Its flat rule shares out what all channels got together, so the relevance of all channels is
    added up at the places of the winners at once, and nothing as large as the first layer's output
    is needed for any pair.
    """

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,) = ran.given
        relevance = ran.pairs.relevance(flow, ran.made)
        places = ran.pairs.spread(ran.kept)
        # Channels last, as they lie in memory.
        shares, places = (one.permute(0, 2, 3, 1).flatten(1) for one in (relevance, places))
        total = x.new_zeros((len(ran.pairs), x.shape[2] * x.shape[3]))
        total.scatter_add_(1, places.expand_as(shares), shares)
        return [Flow(total.unflatten(1, (1, *x.shape[2:])), None, owned=True)]


def _lies_on_the_first_layer(program: Program, number: int) -> bool:
    """Tell whether an operation alone reads what the first layer made, rectified or not.

    And whether that is on a CPU: elsewhere sums over places are made in any order.
    """
    while True:
        (source,) = program.operations[number].sources
        if sum(source in operation.sources for operation in program.operations) > 1 or not source:
            return False
        number = source - 1
        below = program.operations[number]
        if number == program.first:
            if not isinstance(below, Convolution):
                return False
            return below.groups == 1 and below.weight.device.type == "cpu"
        if not isinstance(below, Rectify):
            return False


def _layout(x: torch.Tensor) -> torch.memory_format:
    if x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


class _AveragePool(Step):
    """Z-rule: ``R_i = x_i Σ_j a_ij R_j / z_j`` with the shares a of the average."""

    operation: AveragePool

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        pool = self.operation
        q = quotient(flow.factor, stabilized(ran.made, self.preset))
        if pool.tile is not None:
            c = ran.pairs.scale(flow, q / (pool.tile[0] * pool.tile[1]))
            return [Flow(c, ran.given[0], pool.tile)]
        c = pool.rows.T @ ran.pairs.scale(flow, q) @ pool.columns
        return [Flow(c, ran.given[0], owned=True)]


def make_step(program: Program, number: int, preset: Preset, dtype: torch.dtype) -> Step:
    """Return the step of an operation of a program.

    Args:
        program: the program.
        number: of the operation.
        preset: rules.
        dtype: of inner convolutions on the way back.

    Raises:
        UnsupportedRuleError: the preset's rule for it is not made here.
    """
    operation = program.operations[number]
    match operation:
        case Convolution():
            return convolution_step(program, number, preset, dtype)
        case Dense() if number == program.first:
            return _FlatDense(operation, preset)
        case Dense() if preset.head == "positive" and number == len(program.operations) - 1:
            return _PositiveHead(operation, preset)
        case Dense():
            return _Dense(operation, preset)
        case Rectify():
            return _Rectify(operation, preset)
        case MaxPool() if not operation.tiles and _lies_on_the_first_layer(program, number):
            return _FirstMaxPool(operation, preset)
        case MaxPool():
            return _MaxPool(operation, preset)
        case AveragePool():
            return _AveragePool(operation, preset)
        case Add():
            return _Add(operation, preset)
        case Flatten():
            return _Flatten(operation, preset)
    raise TypeError(f"no rule for {type(operation).__name__}")
