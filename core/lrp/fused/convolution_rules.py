"""The rules of convolutions in the fused engine; :mod:`.layer_rules` has those of other operations.

All but the flat rule of the first layer run alike. Forward, one stacked convolution gives the
output and what the denominator is made of. Backward, the quotient is taken once per frame, and one
transposed convolution runs for all pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ...network.onednn import ConvolutionShapes, Convolve, ConvolveTranspose
from ..formulas import gamma_modified, stabilize, stabilize_denominator
from ..presets import Preset
from .batched_relevance import BatchIndex, Relevance
from .program import Convolution, Program, Rectify
from .rule import Context, Rule, quotient

__all__ = ["UnsupportedRuleError", "convolution_rule"]


class UnsupportedRuleError(Exception):
    """A preset asks for a rule that the fused engine lacks for a layer; the text names both."""


def convolution_rule(
    conv: Convolution, program: Program, number: int, preset: Preset, dtype: torch.dtype
) -> Rule:
    """Return the rule of a convolution of a program.

    Args:
        conv: the convolution.
        program: the program.
        number: of the convolution among the operations.
        preset: which rules, with which constants.
        dtype: of the transposed convolution, unless it is the first layer.

    Raises:
        UnsupportedRuleError: the fused engine lacks the preset's rule for this convolution.
    """
    source, output = program.values[conv.sources[0]], program.values[number + 1]
    layer = ConvolutionShapes(conv, source.shape, output.shape)
    if number == program.first:
        return _FlatConvolution(layer, preset)
    inner = [
        n
        for n, operation in enumerate(program.operations)
        if isinstance(operation, Convolution) and n != program.first
    ]
    choice = preset.convolution(inner.index(number), len(inner))
    if choice.kind == "epsilon":
        return _EpsilonConvolution(layer, preset, choice.value, dtype)
    if choice.kind == "gamma":
        if not source.nonnegative:
            raise UnsupportedRuleError(
                "the gamma rule of a convolution whose input can be negative"
            )
        readers = [op for op in program.operations if number + 1 in op.sources]
        rectified = all(isinstance(reader, Rectify) for reader in readers)
        return _GammaConvolution(layer, preset, choice.value, rectified, dtype)
    return _AlphaOneBetaZero(layer, preset, source.nonnegative, dtype)


class _FlatConvolution(Rule):
    """Flat rule: every input that is not padding gets the same share, ``R_i = Σ_j R_j / n_j``.

    In closed form: relevance is summed over the channels of a group and divided by the number of
    valid inputs. Each share goes to all rows and columns its window reads, which is a product of
    two matrices.
    """

    def __init__(self, layer: ConvolutionShapes[Convolution], preset: Preset) -> None:
        super().__init__(layer.conv, preset)
        conv = layer.conv
        self._convolve = Convolve(layer, conv.weight, conv.bias)
        self._groups, self._per_group = conv.groups, conv.weight.shape[1]
        self._rows, self._columns = (
            _reads(conv, axis, layer.input_shape[axis + 1], layer.output_shape[axis + 1]).to(
                conv.weight
            )
            for axis in (0, 1)
        )
        count = torch.outer(self._rows.sum(1), self._columns.sum(1)) * self._per_group
        self._count = stabilize_denominator(count, preset)

    def forward(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, None]:
        # A single channel has no order in memory, and plain convolutions then put channels first.
        output = self._convolve(inputs[0])
        return output.contiguous(memory_format=torch.channels_last), None

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        full = ctx.index.full(relevance, ctx.output)
        merged = full.unflatten(1, (self._groups, -1)).sum(dim=2).div_(self._count)
        shares = (self._rows.T @ merged @ self._columns).unsqueeze(2)
        shares = shares.expand(-1, -1, self._per_group, -1, -1)
        return [Relevance(shares[:, 0] if self._groups == 1 else shares.flatten(1, 2), None)]


def _reads(conv: Convolution, axis: int, size: int, windows: int) -> torch.Tensor:
    """Return ``(windows, size)``: 1 where a window of a convolution reads a row or column."""
    taps = torch.arange(conv.weight.shape[2 + axis]) * conv.dilation[axis] - conv.padding[axis]
    positions = torch.arange(windows)[:, None] * conv.stride[axis] + taps
    valid = (positions >= 0) & (positions < size)
    reads = torch.zeros(windows, size)
    return reads.scatter_add_(1, positions.clamp(0, size - 1), valid.float())


class _InnerConvolution(Rule):
    """A convolution after the first layer; its rule sends quotients back through it, transposed.

    Forward it runs in the dtype of its weights whatever ``dtype`` is: activations and denominators
    rounded to bfloat16 change the maps far more than what is rounded in the backward pass (cosines
    down to .76 in an 18-layer network, 1.0000 otherwise), and the logits would change as well.

    Args:
        layer: the convolution.
        preset: constants of the rule.
        dtype: of the transposed convolution; denominators and relevance keep that of the weights.
    """

    def __init__(
        self, layer: ConvolutionShapes[Convolution], preset: Preset, dtype: torch.dtype
    ) -> None:
        super().__init__(layer.conv, preset)
        self._layer, self._dtype = layer, dtype

    def _convolve_by(self, weight: torch.Tensor, bias: torch.Tensor | None) -> Convolve:
        return Convolve(self._layer, weight, bias)

    def _transpose_by(self, weight: torch.Tensor) -> ConvolveTranspose:
        return ConvolveTranspose(self._layer, weight.to(self._dtype))

    def _multiply(self, index: BatchIndex, relevance: Relevance, q: torch.Tensor) -> torch.Tensor:
        """Return ``pair_factor · q`` in the dtype of the transposed convolution.

        A pair factor that comes from another convolution has that dtype already. The quotient is
        then rounded to it, once per frame: in float32 the product would take three passes per pair.
        """
        if relevance.pair_factor.dtype == self._dtype:
            q = q.to(self._dtype)
        return index.multiply(relevance, q).to(self._dtype)


class _EpsilonConvolution(_InnerConvolution):
    """Epsilon rule: a quotient per frame and one transposed convolution, whatever the signs."""

    def __init__(
        self,
        layer: ConvolutionShapes[Convolution],
        preset: Preset,
        epsilon: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(layer, preset, dtype)
        self._epsilon = epsilon
        self._convolve = self._convolve_by(layer.conv.weight, layer.conv.bias)
        self._transpose = self._transpose_by(layer.conv.weight)

    def forward(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, None]:
        return self._convolve(inputs[0]), None

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        q = quotient(relevance.frame_factor, stabilize(ctx.output, self._epsilon))
        pair_factor = self._transpose(self._multiply(ctx.index, relevance, q))
        return [Relevance(pair_factor, ctx.inputs[0], owned=True)]


class _GammaConvolution(_InnerConvolution):
    """Gamma rule of a convolution whose input has no negative entry.

    Args:
        layer: the convolution.
        preset: how denominators are kept from zero.
        gamma: γ.
        rectified: whether only a ReLU reads the output. Then only positive entries of the output
            have relevance; otherwise the rest takes a second pair of convolutions.
        dtype: of the transposed convolution.
    """

    def __init__(
        self,
        layer: ConvolutionShapes[Convolution],
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
            *(gamma_modified(conv.weight, conv.bias, sign) for sign in signs),
            strict=True,
        )
        self._transposes = [self._transpose_by(weight) for weight in weights[1:]]
        if conv.groups == 1:  # one convolution gives all
            weights = (torch.cat(weights),)
            biases = (None if conv.bias is None else torch.cat(biases),)
        self._convolutions = [
            self._convolve_by(weight, bias) for weight, bias in zip(weights, biases, strict=True)
        ]

    def forward(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = [convolve(inputs[0]) for convolve in self._convolutions]
        if len(outputs) == 1:
            outputs = list(outputs[0].chunk(1 + len(self._transposes), dim=1))
        output, denominator = outputs[:2]
        if len(outputs) > 2:
            denominator = torch.where(output < 0, outputs[2], denominator)
        return output, stabilize_denominator(denominator, self.preset)

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        (x,) = ctx.inputs
        q = quotient(relevance.frame_factor, ctx.saved)
        if len(self._transposes) == 1:
            pair_factor = self._transposes[0](self._multiply(ctx.index, relevance, q))
            return [Relevance(pair_factor, x, owned=True)]
        relevance = replace(relevance, owned=False)  # it is read twice
        above, below = (
            transpose(self._multiply(ctx.index, relevance, q * mask)).to(x.dtype)
            for mask, transpose in zip(
                (ctx.output > 0, ctx.output < 0), self._transposes, strict=True
            )
        )
        return [Relevance(above + below, x, owned=True)]


class _AlphaOneBetaZero(_InnerConvolution):
    """α1β0 rule: positive contributions only, bias term as the preset says.

    Where the input is known to have no negative entry, which holds after ReLU, output and
    denominator come from one convolution with stacked weights ``[W; W⁺]``.

    Args:
        layer: the convolution.
        preset: constants of the rule.
        nonnegative: whether its input is known to have no negative entry.
        dtype: of the transposed convolution.
    """

    def __init__(
        self,
        layer: ConvolutionShapes[Convolution],
        preset: Preset,
        nonnegative: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(layer, preset, dtype)
        weight, bias = layer.conv.weight, layer.conv.bias
        term = bias  # of the denominator
        if term is not None and preset.conv_bias == "positive":
            term = term.clamp(min=0)
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        self._stacked = nonnegative and layer.conv.groups == 1
        if self._stacked:
            stacked_bias = None if bias is None or term is None else torch.cat((bias, term))
            self._convolve = self._convolve_by(torch.cat((weight, positive)), stacked_bias)
        else:
            self._convolve = self._convolve_by(weight, bias)
            self._convolve_positive = self._convolve_by(positive, term)
            self._convolve_negative = None if nonnegative else self._convolve_by(negative, None)
        self._transpose_positive = self._transpose_by(positive)
        self._transpose_negative = None if nonnegative else self._transpose_by(negative)

    def forward(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        (x,) = inputs
        output = self._convolve(x)
        if self._stacked:
            output, denominator = output.chunk(2, dim=1)
        elif self._convolve_negative is None:
            denominator = self._convolve_positive(x)
        else:
            denominator = self._convolve_positive(x.clamp(min=0))
            denominator += self._convolve_negative(x.clamp(max=0))
        return output, stabilize_denominator(denominator, self.preset)

    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        (x,) = ctx.inputs
        quotients = self._multiply(
            ctx.index, relevance, quotient(relevance.frame_factor, ctx.saved)
        )
        pair_factor = self._transpose_positive(quotients)
        if self._transpose_negative is not None:
            negative = self._transpose_negative(quotients)
            pair_factor = torch.where(ctx.index.gather(x > 0), pair_factor, negative)
        return [Relevance(pair_factor, x, owned=True)]
