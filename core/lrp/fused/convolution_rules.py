"""The rules of convolutions, for the fused engine; :mod:`.steps` has those of other operations.

All but the flat rule of the first layer run alike: one stacked convolution forward, for the
activation and whatever the denominator is made of; a quotient per frame; one transposed convolution
for all pairs back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..formulas import away_from_zero, favoured, stabilized
from ..presets import Preset
from .onednn import ConvolutionShapes, Convolve, Transpose
from .program import Convolution, Program, Rectify
from .relevance_flow import Flow, Pairs
from .rule import Ran, Step, quotient

__all__ = ["UnsupportedRuleError", "convolution_step"]


class UnsupportedRuleError(Exception):
    """A preset asks for a rule that is not made for a layer here; the text names both."""


def convolution_step(program: Program, number: int, preset: Preset, dtype: torch.dtype) -> Step:
    """Return the step of a convolution of a program.

    Args:
        program: the program.
        number: of the convolution among the operations.
        preset: rules.
        dtype: of the transposed convolution, unless it is the first layer.

    Raises:
        UnsupportedRuleError: the preset's rule for it is not made here.
    """
    conv = program.operations[number]
    assert isinstance(conv, Convolution)
    source, made = program.values[conv.sources[0]], program.values[number + 1]
    layer = ConvolutionShapes(conv, source.shape, made.shape)
    if number == program.first:
        return _FlatConvolution(layer, preset)
    inner = [
        n
        for n, operation in enumerate(program.operations)
        if isinstance(operation, Convolution) and n != program.first
    ]
    rule = preset.convolution(inner.index(number), len(inner))
    if rule.kind == "epsilon":
        return _EpsilonConvolution(layer, preset, rule.value, dtype)
    if rule.kind == "gamma":
        if not source.nonnegative:
            raise UnsupportedRuleError(
                "the gamma rule of a convolution whose input can be negative"
            )
        readers = [op for op in program.operations if number + 1 in op.sources]
        rectified = all(isinstance(reader, Rectify) for reader in readers)
        return _Gamma(layer, preset, rule.value, rectified, dtype)
    return _AlphaOneBetaZero(layer, preset, source.nonnegative, dtype)


class _FlatConvolution(Step):
    """Flat rule: every input that is not padding gets the same share, ``R_i = Σ_j R_j / n_j``.

    In closed form: relevance summed over the channels of a group, divided by the number of valid
    inputs, and handed to all rows and columns a window reads, which is a product of two matrices.
    """

    def __init__(self, layer: ConvolutionShapes, preset: Preset) -> None:
        super().__init__(layer.conv, preset)
        conv = layer.conv
        self._plain = Convolve(layer, conv.weight, conv.bias)
        self._groups, self._per_group = conv.groups, conv.weight.shape[1]
        self._rows, self._columns = (
            _reads(conv, axis, layer.given[axis + 1], layer.made[axis + 1]).to(conv.weight)
            for axis in (0, 1)
        )
        count = torch.outer(self._rows.sum(1), self._columns.sum(1)) * self._per_group
        self._count = stabilized(count, preset)

    def forward(self, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, None]:
        # A single channel has no order in memory, and plain convolutions then put channels first.
        return self._plain(given[0]).contiguous(memory_format=torch.channels_last), None

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        relevance = ran.pairs.relevance(flow, ran.made)
        merged = relevance.unflatten(1, (self._groups, -1)).sum(dim=2).div_(self._count)
        c = self._rows.T @ merged @ self._columns
        shares = c.unsqueeze(2).expand(-1, -1, self._per_group, -1, -1)
        return [Flow(shares.flatten(1, 2) if self._groups > 1 else shares[:, 0], None)]


def _reads(conv: Convolution, axis: int, size: int, windows: int) -> torch.Tensor:
    """Return ``(windows, size)``: 1 where a window of a convolution reads a row or column."""
    taps = torch.arange(conv.weight.shape[2 + axis]) * conv.dilation[axis] - conv.padding[axis]
    at = torch.arange(windows)[:, None] * conv.stride[axis] + taps
    valid = (at >= 0) & (at < size)
    reads = torch.zeros(windows, size)
    return reads.scatter_add_(1, at.clamp(0, size - 1), valid.float())


class _Inner(Step):
    """A convolution after the first layer; its rule sends quotients back through it, transposed.

    Forward it runs in the dtype of its weights whatever is asked for: activations and denominators
    rounded to bfloat16 change the maps far more than what is rounded on the way back (cosines down
    to .76 in an 18-layer network, 1.0000 otherwise), and the logits would be others.

    Args:
        layer: the convolution.
        preset: rules.
        dtype: of the way back; denominators and relevance stay in that of the weights.
    """

    def __init__(self, layer: ConvolutionShapes, preset: Preset, dtype: torch.dtype) -> None:
        super().__init__(layer.conv, preset)
        self._layer, self._dtype = layer, dtype

    def _convolve(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Convolve:
        return Convolve(self._layer, weight, bias)

    def _transpose(self, weight: torch.Tensor) -> Transpose:
        return Transpose(self._layer, weight.to(self._dtype))

    def _scaled(self, pairs: Pairs, flow: Flow, q: torch.Tensor) -> torch.Tensor:
        """Return ``c · q`` in the dtype of the way back.

        Where ``c`` comes from another convolution it has that dtype already. The quotient is then
        rounded to it, once per frame: in float32 the product would take three passes per pair.
        """
        if flow.c.dtype == self._dtype:
            q = q.to(self._dtype)
        return pairs.scale(flow, q).to(self._dtype)


class _EpsilonConvolution(_Inner):
    """Epsilon rule: a quotient per frame and one transposed convolution, whatever the signs."""

    def __init__(
        self, layer: ConvolutionShapes, preset: Preset, epsilon: float, dtype: torch.dtype
    ) -> None:
        super().__init__(layer, preset, dtype)
        self._epsilon = epsilon
        self._plain = self._convolve(layer.conv.weight, layer.conv.bias)
        self._back = self._transpose(layer.conv.weight)

    def forward(self, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, None]:
        x = given[0]
        return self._plain(x), None

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,) = ran.given
        q = quotient(flow.factor, away_from_zero(ran.made, self._epsilon))
        return [Flow(self._back(self._scaled(ran.pairs, flow, q)), x, owned=True)]


class _Gamma(_Inner):
    """Gamma rule of a convolution whose input has no negative entry.

    Args:
        layer: the convolution.
        preset: how denominators are kept from zero.
        gamma: γ.
        rectified: whether only a ReLU reads the output, so that no relevance comes to an entry
            that is not positive; otherwise those take a second pair of convolutions.
        dtype: of the way back.
    """

    def __init__(
        self,
        layer: ConvolutionShapes,
        preset: Preset,
        gamma: float,
        rectified: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(layer, preset, dtype)
        conv = layer.conv
        signs = (gamma,) if rectified else (gamma, -gamma)
        weights, biases = zip(
            (conv.weight, conv.bias),
            *(favoured(conv.weight, conv.bias, sign) for sign in signs),
            strict=True,
        )
        self._back = [self._transpose(weight) for weight in weights[1:]]
        if conv.groups == 1:  # one convolution gives all
            weights = (torch.cat(weights),)
            biases = (None if conv.bias is None else torch.cat(biases),)
        self._all = [self._convolve(*layer) for layer in zip(weights, biases, strict=True)]

    def forward(self, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        (x,) = given
        parts = [convolve(x) for convolve in self._all]
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
            return [Flow(self._back[0](self._scaled(ran.pairs, flow, q)), x, owned=True)]
        flow = replace(flow, owned=False)  # it is read twice
        c: torch.Tensor | float = 0.0
        for mask, back in zip((ran.made > 0, ran.made < 0), self._back, strict=True):
            c = c + back(self._scaled(ran.pairs, flow, q * mask)).to(x.dtype)
        assert isinstance(c, torch.Tensor)
        return [Flow(c, x, owned=True)]


class _AlphaOneBetaZero(_Inner):
    """α1β0 rule: positive contributions only, bias term as the preset says.

    Where the input is known to have no negative entry, which holds after ReLU, activation and
    denominator come from one convolution with stacked weights ``[W; W⁺]``.

    Args:
        layer: the convolution.
        preset: constants.
        nonnegative: whether its input is known to have no negative entry.
        dtype: of the way back.
    """

    def __init__(
        self, layer: ConvolutionShapes, preset: Preset, nonnegative: bool, dtype: torch.dtype
    ) -> None:
        super().__init__(layer, preset, dtype)
        weight, bias = layer.conv.weight, layer.conv.bias
        if bias is not None and preset.conv_bias == "positive":
            bias = bias.clamp(min=0)
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        self._stacked = nonnegative and layer.conv.groups == 1
        if self._stacked:
            own = layer.conv.bias
            both = None if own is None or bias is None else torch.cat((own, bias))
            self._plain = self._convolve(torch.cat((weight, positive)), both)
        else:
            self._plain = self._convolve(weight, layer.conv.bias)
            self._above = self._convolve(positive, bias)
            self._below = None if nonnegative else self._convolve(negative, None)
        self._back = self._transpose(positive)
        self._back_below = None if nonnegative else self._transpose(negative)

    def forward(self, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        (x,) = given
        made = self._plain(x)
        if self._stacked:
            made, denominator = made.chunk(2, dim=1)
        elif self._below is None:
            denominator = self._above(x)
        else:
            denominator = self._above(x.clamp(min=0))
            denominator += self._below(x.clamp(max=0))
        return made, stabilized(denominator, self.preset)

    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        (x,) = ran.given
        s = self._scaled(ran.pairs, flow, quotient(flow.factor, ran.kept))
        c = self._back(s)
        if self._back_below is not None:
            c = torch.where(ran.pairs.spread(x > 0), c, self._back_below(s))
        return [Flow(c, x, owned=True)]
