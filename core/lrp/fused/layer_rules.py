"""The rules of :mod:`..presets` as the fused engine runs them, and which operation gets which.

Convolutions have a module of their own (:mod:`.convolution_rules`). :mod:`..reference.hooks` has
the same rules for the reference engine; a rule has to be changed in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..formulas import stabilize, stabilize_denominator
from ..presets import Preset
from .batched_relevance import Relevance
from .convolution_rules import convolution_rule
from .program import Add, AveragePool, Convolution, Dense, Flatten, MaxPool, Program, Rectify
from .rule import Context, Rule, quotient

__all__ = ["make_rule"]


class _Pass(Rule):
    """Pass rule of activations: relevance passes unchanged."""

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        return [relevance]


class _Flatten(Rule):
    """Relevance takes the shape of the input."""

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        (x,) = ctx.inputs
        pair_factor = relevance.pair_factor.unflatten(1, x.shape[1:])
        if pair_factor.ndim == 4:  # values are laid out channels last, and convolutions want it
            pair_factor = pair_factor.contiguous(memory_format=torch.channels_last)
        frame_factor = relevance.frame_factor
        if frame_factor is ctx.output:
            return [Relevance(pair_factor, x, owned=relevance.owned)]
        if frame_factor is not None:
            frame_factor = frame_factor.unflatten(1, x.shape[1:])
        return [Relevance(pair_factor, frame_factor, owned=relevance.owned)]


class _Sum(Rule):
    """Z-rule: ``R_i = x_i R_j / z_j``, the same quotient for both summands."""

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        denominator = stabilize_denominator(ctx.output, self.preset)
        pair_factor = ctx.index.multiply(relevance, quotient(relevance.frame_factor, denominator))
        return [Relevance(pair_factor, x) for x in ctx.inputs]


class _EpsilonDense(Rule):
    """Epsilon rule of a dense layer."""

    operation: Dense

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        q = quotient(relevance.frame_factor, stabilize(ctx.output, self.preset.epsilon))
        pair_factor = ctx.index.multiply(relevance, q) @ self.operation.weight
        return [Relevance(pair_factor, ctx.inputs[0], owned=True)]


class _PositiveHead(Rule):
    """Start of relevance: ``R_i = Σ_j (x_i w_ij)⁺ s_j``, without the frame factor, the logit."""

    operation: Dense

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        (x,), weight, start = ctx.inputs, self.operation.weight, relevance.pair_factor
        positive = start @ weight.clamp(min=0)
        # A negative input speaks for the output through negative weights.
        below = ctx.index.gather(x < 0)
        pair_factor = torch.where(below, start @ weight.clamp(max=0), positive)
        return [Relevance(pair_factor, x, owned=True)]


class _FlatDense(Rule):
    """Flat rule of a dense layer: every input gets the same share."""

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        (x,) = ctx.inputs
        count = stabilize_denominator(x.new_tensor(float(x.shape[1])), self.preset)
        total = ctx.index.full(relevance, ctx.output).sum(dim=1, keepdim=True)
        return [Relevance((total / count).expand(-1, x.shape[1]), None)]


class _MaxPool(Rule):
    """Gradient of max-pooling: the maximum of a window gets all its relevance."""

    operation: MaxPool

    def _options(self) -> tuple[Any, ...]:
        pool = self.operation
        return pool.kernel, pool.stride, pool.padding, pool.dilation, pool.ceil

    def forward(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return F.max_pool2d(inputs[0], *self._options(), return_indices=True)

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        (x,), indices = ctx.inputs, ctx.saved
        pool, frame_factor = self.operation, relevance.frame_factor
        if pool.tiles and relevance.tile == (1, 1):
            # Which entry of a tile is the maximum depends on the frame alone: it goes into the
            # frame factor.
            factor = torch.ones_like(ctx.output) if frame_factor is None else frame_factor
            # The function of torch.nn imports symbolic shapes for a check, which takes .3 s.
            unpooled = torch.ops.aten.max_unpool2d(factor, indices, x.shape[2:])
            return [Relevance(relevance.pair_factor, unpooled, pool.kernel, owned=False)]
        # A maximum has the value of each window it is the maximum of, so the frame factor of the
        # output carries over to the input.
        carries_over = frame_factor is ctx.output and relevance.tile == (1, 1)
        if carries_over:
            pair_factor = relevance.pair_factor.to(x.dtype)
        else:
            pair_factor = ctx.index.full(relevance, ctx.output)
        shape = x.new_empty(1).expand(len(ctx.index), *x.shape[1:])
        pair_factor = torch.ops.aten.max_pool2d_with_indices_backward(
            pair_factor.contiguous(memory_format=_memory_format(x)),
            shape,
            *self._options(),
            ctx.index.gather(indices).expand_as(pair_factor),
        )
        return [Relevance(pair_factor, x if carries_over else None, owned=True)]


class _FirstMaxPool(_MaxPool):
    """The same where only the first layer lies below, as in most residual networks.

    The flat rule of the first layer shares out the sum over all channels. So the relevance of all
    channels is added up at the positions of the maxima at once, and nothing as large as the first
    layer's output is needed for any pair.
    """

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        (x,) = ctx.inputs
        # Channels last, as they lie in memory.
        shares = _channels_last_rows(ctx.index.full(relevance, ctx.output))
        indices = _channels_last_rows(ctx.index.gather(ctx.saved))
        total = x.new_zeros((len(ctx.index), x.shape[2] * x.shape[3]))
        total.scatter_add_(1, indices.expand_as(shares), shares)
        return [Relevance(total.unflatten(1, (1, *x.shape[2:])), None, owned=True)]


def _channels_last_rows(values: torch.Tensor) -> torch.Tensor:
    """Return ``(N, C, H, W)`` as ``(N, H·W·C)``."""
    return values.permute(0, 2, 3, 1).flatten(1)


def _reads_only_first_layer(program: Program, number: int) -> bool:
    """Tell whether an operation is the only reader of the first layer's output, rectified or not.

    True on a CPU only: elsewhere the order of the sums in ``scatter_add_`` is not fixed.
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


def _memory_format(x: torch.Tensor) -> torch.memory_format:
    if x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


class _AveragePool(Rule):
    """Z-rule: ``R_i = x_i Σ_j a_ij R_j / z_j`` with the shares a of the average."""

    operation: AveragePool

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        pool, (x,) = self.operation, ctx.inputs
        denominator = stabilize_denominator(ctx.output, self.preset)
        q = quotient(relevance.frame_factor, denominator)
        if pool.tile is not None:
            pair_factor = ctx.index.multiply(relevance, q / (pool.tile[0] * pool.tile[1]))
            return [Relevance(pair_factor, x, pool.tile)]
        pair_factor = pool.rows.T @ ctx.index.multiply(relevance, q) @ pool.columns
        return [Relevance(pair_factor, x, owned=True)]


def make_rule(program: Program, number: int, preset: Preset, dtype: torch.dtype) -> Rule:
    """Return the rule of an operation of a program.

    Args:
        program: the program.
        number: of the operation.
        preset: which rules, with which constants.
        dtype: of inner convolutions in the backward pass.

    Raises:
        UnsupportedRuleError: the fused engine lacks the preset's rule for this operation.
    """
    operation = program.operations[number]
    match operation:
        case Convolution():
            return convolution_rule(operation, program, number, preset, dtype)
        case Dense() if number == program.first:
            return _FlatDense(operation, preset)
        case Dense() if preset.head == "positive" and number == len(program.operations) - 1:
            return _PositiveHead(operation, preset)
        case Dense():
            return _EpsilonDense(operation, preset)
        case Rectify():
            return _Pass(operation, preset)
        case MaxPool() if not operation.tiles and _reads_only_first_layer(program, number):
            return _FirstMaxPool(operation, preset)
        case MaxPool():
            return _MaxPool(operation, preset)
        case AveragePool():
            return _AveragePool(operation, preset)
        case Add():
            return _Sum(operation, preset)
        case Flatten():
            return _Flatten(operation, preset)
    raise TypeError(f"no rule for {type(operation).__name__}")
