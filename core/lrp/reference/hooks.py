"""LRP rules as zennit hooks that compute each denominator once per forward pass.

zennit's own rules attach to the autograd graph: every backward pass computes the layer's plain
gradient, throws it away, and evaluates each modified layer again. The hooks here replace a layer's
``forward`` while they are attached. The modified layers are built once, and run once per forward
pass; a backward pass for one more output costs a single transposed layer. Where the input of a
layer has no negative value, which holds after ReLU, the layers for negative input are left out.

:mod:`..fused.layer_rules` and :mod:`..fused.convolution_rules` have the same rules for the fused
engine; a rule has to be changed in both.

References:
    Bach et al., PLoS ONE 10(7), 2015. Montavon et al., *Layer-wise Relevance Propagation: An
    Overview*, 2019, §10.2.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.grad import conv2d_input

from ...errors import ModelError
from ..formulas import gamma_modified, stabilize, stabilize_denominator
from ..presets import Preset
from . import zennit_guard  # noqa: F401  (must come before zennit)

# zennit must follow the guard.
from zennit.core import Hook, RemovableHandleList  # isort: skip

__all__ = [
    "AlphaOneBetaZero",
    "Epsilon",
    "Flat",
    "Gamma",
    "Pass",
    "PositiveHead",
    "Rule",
    "ZRule",
    "pass_through",
    "z_rule",
]


_Map = Callable[[torch.Tensor], torch.Tensor]


class LinearTerm(NamedTuple):
    """One input of a modified layer, and the layer's vector-Jacobian product with respect to it.

    Attributes:
        input: the input.
        vjp: output-shaped values → input-shaped values.
    """

    input: torch.Tensor
    vjp: _Map


class RuleContext(NamedTuple):
    """What the backward passes need of one forward pass through a layer.

    Attributes:
        terms: inputs of the modified layers.
        denominator: sum of their outputs with bias and stabiliser.
        weighted: whether the vector-Jacobian product is multiplied by the input.
        merged: dimension of the output over which relevance is summed first, as all its entries
            have the same shares; None for no such dimension.
    """

    terms: tuple[LinearTerm, ...]
    denominator: torch.Tensor
    weighted: bool = True
    merged: int | None = None

    def shares(self, relevance: torch.Tensor) -> list[torch.Tensor]:
        """Return, for each term, its share of the output's relevance."""
        if self.merged is not None:
            relevance = relevance.sum(self.merged, keepdim=True)
        quotient = relevance / self.denominator
        gradients = [term.vjp(quotient) for term in self.terms]
        if not self.weighted:
            return gradients
        return [term.input * grad for term, grad in zip(self.terms, gradients, strict=True)]


def _linearize(
    layer: Callable[..., torch.Tensor], *inputs: torch.Tensor
) -> tuple[torch.Tensor, tuple[LinearTerm, ...]]:
    """Run a linear map; return its output and one :class:`LinearTerm` per input."""
    vjp = _closed_form_vjp(layer, *inputs)
    if vjp is not None:
        return layer(*inputs), (LinearTerm(inputs[0], vjp),)
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        z = layer(*leaves)

    def vjp_of(leaf: torch.Tensor) -> _Map:
        return lambda quotient: torch.autograd.grad(z, leaf, quotient, retain_graph=True)[0]

    return z.detach(), tuple(LinearTerm(leaf.detach(), vjp_of(leaf)) for leaf in leaves)


def _closed_form_vjp(layer: object, *inputs: torch.Tensor) -> _Map | None:
    """Return the transposed layer in closed form; None where autograd must find it.

    Autograd inside a backward pass costs about 0.1 ms a call, as much as a small convolution.
    """
    if type(layer) is nn.Linear:
        weight = layer.weight
        return lambda quotient: quotient @ weight
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
        conv, shape = layer, inputs[0].shape
        if not isinstance(conv.padding, str):
            return lambda quotient: conv2d_input(
                shape,
                conv.weight,
                quotient,
                conv.stride,  # type: ignore[arg-type]
                conv.padding,  # type: ignore[arg-type]
                conv.dilation,  # type: ignore[arg-type]
                conv.groups,
            )
    return None


class _Redistribute(torch.autograd.Function):
    """Run a layer forward; backward, redistribute relevance by a rule instead of the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        run: _Map,
        save_context: Callable[[torch.Tensor], RuleContext],
    ) -> torch.Tensor:
        ctx.save_for_backward(x)  # which also notices if x is overwritten later
        ctx.save_context, ctx.rule_context = save_context, None
        return run(x)

    @staticmethod
    def backward(ctx: Any, *relevance: torch.Tensor) -> Any:
        if ctx.rule_context is None:
            ctx.rule_context = ctx.save_context(ctx.saved_tensors[0].detach())
        shares = ctx.rule_context.shares(relevance[0])
        total = shares[0]
        for share in shares[1:]:
            total = total + share
        return total, None, None


class _PassThrough(torch.autograd.Function):
    """Run an element-wise layer; relevance passes unchanged."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, run: _Map) -> torch.Tensor:
        return run(x)

    @staticmethod
    def backward(ctx: Any, *relevance: torch.Tensor) -> Any:
        return relevance[0], None


def pass_through(run: _Map, x: torch.Tensor) -> torch.Tensor:
    """Return ``run(x)``, an element-wise map; relevance passes unchanged."""
    return _PassThrough.apply(x, run)  # type: ignore[no-any-return]


class _Restore:
    """A removable handle that restores a module's ``forward``."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._replaced = module.__dict__.get("forward")

    def remove(self) -> None:
        if self._replaced is None:
            self._module.__dict__.pop("forward", None)
        else:
            self._module.__dict__["forward"] = self._replaced


class _ForwardHook(Hook):
    """A zennit hook that replaces ``forward`` for passes with gradient; others run as before."""

    def register(self, module: nn.Module) -> RemovableHandleList:
        """Attach to a module; remove the handles returned to detach."""
        original = module.forward

        def forward(x: torch.Tensor) -> torch.Tensor:
            if not (torch.is_grad_enabled() and x.requires_grad):
                return original(x)
            # An in-place layer would write into a tensor that another layer still needs.
            if getattr(module, "inplace", False):
                x = x.clone()
            return self.run(module, x, original)

        restore = _Restore(module)
        module.__dict__["forward"] = forward
        return RemovableHandleList([restore])

    @abstractmethod
    def run(self, module: nn.Module, x: torch.Tensor, original: _Map) -> torch.Tensor:
        """Return ``original(x)`` with the rule as its derivative."""


class Pass(_ForwardHook):
    """Pass rule of activations: ``R_i = R_j``."""

    def run(self, module: nn.Module, x: torch.Tensor, original: _Map) -> torch.Tensor:
        """Return ``original(x)``; relevance passes as it comes."""
        return pass_through(original, x)


class Rule(_ForwardHook):
    """Redistribute ``R_j / denominator_j`` along a modified layer."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self._layers: tuple[nn.Module, ...] | None = None

    def copy(self) -> Rule:
        """Return a fresh rule for another layer."""
        return type(self)(self.preset)

    def run(self, module: nn.Module, x: torch.Tensor, original: _Map) -> torch.Tensor:
        """Return ``original(x)``; relevance comes back along the modified layers."""
        if self._layers is None:
            self._layers = self.modified(module)
        layers = self._layers
        return _Redistribute.apply(x, original, lambda x: self.save_context(layers, x))  # type: ignore[no-any-return]

    @abstractmethod
    def modified(self, module: nn.Module) -> tuple[nn.Module, ...]:
        """Return the modified layers that :meth:`save_context` runs; called once."""

    @abstractmethod
    def save_context(self, layers: tuple[nn.Module, ...], x: torch.Tensor) -> RuleContext:
        """Return terms and denominator for the layer input ``x``."""


class Epsilon(Rule):
    """Epsilon rule: ``R_i = x_i Σ_j w_ij R_j / (z_j + ε·s(z_j))``, bias in z.

    Args:
        preset: gives ε where no other is given.
        epsilon: ε.
    """

    def __init__(self, preset: Preset, epsilon: float | None = None) -> None:
        super().__init__(preset)
        self.epsilon = preset.epsilon if epsilon is None else epsilon

    def copy(self) -> Epsilon:
        """Return a fresh rule for another layer."""
        return type(self)(self.preset, self.epsilon)

    def modified(self, module: nn.Module) -> tuple[nn.Module, ...]:
        """Return the layer itself, without hooks."""
        return (_variant(module, _weight(module), module._parameters.get("bias")),)

    def save_context(self, layers: tuple[nn.Module, ...], x: torch.Tensor) -> RuleContext:
        """Return the contributions to z, and z moved away from 0 by ε."""
        z, terms = _linearize(layers[0], x)
        return RuleContext(terms, stabilize(z, self.epsilon))


class PositiveHead(Rule):
    """Start of relevance at the last dense layer: ``R_i = Σ_j (x_i w_ij)⁺ s_j``.

    The relevance of the output is the logit times its weight s_j.
    """

    def modified(self, module: nn.Module) -> tuple[nn.Module, ...]:
        """Return the layer, and its positive and negative weights without bias."""
        weight = _weight(module)
        return (
            _variant(module, weight, module._parameters.get("bias")),
            _variant(module, weight.clamp(min=0), None),
            _variant(module, weight.clamp(max=0), None),
        )

    def save_context(self, layers: tuple[nn.Module, ...], x: torch.Tensor) -> RuleContext:
        """Return what speaks for the output, with the logit as denominator."""
        plain, positive, negative = layers
        _, positive_terms = _linearize(positive, x.clamp(min=0))
        _, negative_terms = _linearize(negative, x.clamp(max=0))
        z = plain(x)
        # The denominator is exactly the logit that relevance starts from, so that it cancels.
        return RuleContext(positive_terms + negative_terms, torch.where(z == 0, 1.0, z))


class ZRule(Rule):
    """Z-rule of layers without parameters (average pooling, sums): ``R_i = z_ij R_j / z_j``."""

    def modified(self, module: nn.Module) -> tuple[nn.Module, ...]:
        """Return the layer itself, without hooks."""
        return (_hookless(module),)

    def save_context(self, layers: tuple[nn.Module, ...], x: torch.Tensor) -> RuleContext:
        """Return the contributions to z, and z kept from 0."""
        z, terms = _linearize(layers[0], x)
        return RuleContext(terms, stabilize_denominator(z, self.preset))


class AlphaOneBetaZero(Rule):
    """α1β0 rule: positive contributions x⁺w⁺ and x⁻w⁻ only, bias term as the preset says."""

    def modified(self, module: nn.Module) -> tuple[nn.Module, ...]:
        """Return the positive weights with their bias, and the negative ones without."""
        weight = _weight(module)
        bias = module._parameters.get("bias")
        if bias is not None and self.preset.conv_bias == "positive":
            bias = bias.clamp(min=0)
        return (
            _variant(module, weight.clamp(min=0), bias),
            _variant(module, weight.clamp(max=0), None),
        )

    def save_context(self, layers: tuple[nn.Module, ...], x: torch.Tensor) -> RuleContext:
        """Return the positive contributions and their sum, kept from 0."""
        positive, negative = layers
        z, terms = _linearize(positive, x.clamp(min=0))
        if bool((x < 0).any()):
            z_negative, negative_terms = _linearize(negative, x.clamp(max=0))
            z, terms = z + z_negative, terms + negative_terms
        return RuleContext(terms, stabilize_denominator(z, self.preset))


class Gamma(Rule):
    """Gamma rule: as epsilon without ε, contributions of the sign of z_j scaled up by γ.

    Args:
        preset: how denominators are kept from zero.
        gamma: γ.
    """

    def __init__(self, preset: Preset, gamma: float) -> None:
        super().__init__(preset)
        self.gamma = gamma

    def copy(self) -> Gamma:
        """Return a fresh rule for another layer."""
        return type(self)(self.preset, self.gamma)

    def modified(self, module: nn.Module) -> tuple[nn.Module, ...]:
        """Return the layer, and what favours either sign of its output."""
        weight, bias = _weight(module), module._parameters.get("bias")
        positive = gamma_modified(weight, bias, self.gamma)
        negative = gamma_modified(weight, bias, -self.gamma)
        return (
            _variant(module, weight, bias),
            _variant(module, *positive),
            _variant(module, negative[0], None),
            _variant(module, *negative),
            _variant(module, positive[0], None),
        )

    def save_context(self, layers: tuple[nn.Module, ...], x: torch.Tensor) -> RuleContext:
        """Return the contributions that favour the sign of each output, and their sum."""
        plain, *modified = layers
        z = plain(x)
        denominator, terms = torch.zeros_like(z), ()
        for mask, (positive, negative) in ((z > 0, modified[:2]), (z < 0, modified[2:])):
            total: torch.Tensor | float = 0.0
            for layer, clamped in ((positive, x.clamp(min=0)), (negative, x.clamp(max=0))):
                output, layer_terms = _linearize(layer, clamped)
                total = total + output
                terms += tuple(LinearTerm(t.input, _masked(t.vjp, mask)) for t in layer_terms)
            denominator = torch.where(mask, total, denominator)
        return RuleContext(terms, stabilize_denominator(denominator, self.preset))


def _masked(vjp: _Map, mask: torch.Tensor) -> _Map:
    return lambda quotient: vjp(quotient * mask)


class Flat(Rule):
    """Flat rule: every input that is not padding gets the same share, ``R_i = Σ_j R_j / n_j``."""

    def modified(self, module: nn.Module) -> tuple[nn.Module, ...]:
        """Return the layer with all weights 1, of one output channel where all share alike."""
        ones = torch.ones_like(_weight(module))
        # Without groups all output channels have the same shares: one channel is enough.
        if self._merges(module):
            ones = ones[:1]
        return (_variant(module, ones, None),)

    def save_context(self, layers: tuple[nn.Module, ...], x: torch.Tensor) -> RuleContext:
        """Return equal contributions, and how many inputs each output has."""
        count, terms = _linearize(layers[0], torch.ones_like(x))
        merged = None
        if self._merges(layers[0]):
            merged = -1 if isinstance(layers[0], nn.Linear) else 1
        return RuleContext(
            terms, stabilize_denominator(count, self.preset), weighted=False, merged=merged
        )

    @staticmethod
    def _merges(module: nn.Module) -> bool:
        if isinstance(module, nn.Linear):
            return True
        return isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and module.groups == 1


class _ZRuleFunction(torch.autograd.Function):
    """A linear map of several tensors, with the z-rule as its derivative."""

    @staticmethod
    def forward(
        ctx: Any,
        preset: Preset,
        inplace: bool,
        apply: Callable[..., torch.Tensor],
        *inputs: torch.Tensor,
    ) -> torch.Tensor:
        # Copies, because the tensors may be overwritten before the backward pass.
        z, terms = _linearize(apply, *(tensor.detach().clone() for tensor in inputs))
        ctx.rule_context = RuleContext(terms, stabilize_denominator(z, preset))
        if not inplace:
            return z
        ctx.mark_dirty(inputs[0])
        return inputs[0].copy_(z)

    @staticmethod
    def backward(ctx: Any, *relevance: torch.Tensor) -> Any:
        return (None, None, None, *ctx.rule_context.shares(relevance[0]))


def z_rule(
    preset: Preset,
    apply: Callable[..., torch.Tensor],
    *inputs: torch.Tensor,
    inplace: bool = False,
) -> torch.Tensor:
    """Return ``apply(*inputs)``; its relevance is redistributed by the z-rule.

    Args:
        preset: stabiliser of the denominator.
        apply: a map without bias that is linear in all tensors together, such as a sum.
        inputs: the tensors; each receives ``z_ij R_j / z_j``.
        inplace: write the result into the first tensor, as ``a += b`` does.
    """
    return _ZRuleFunction.apply(preset, inplace, apply, *inputs)  # type: ignore[no-any-return]


def _weight(module: nn.Module) -> torch.Tensor:
    weight = module._parameters.get("weight")
    if weight is None:
        raise ModelError(
            f"a {type(module).__name__} has no plain weight (parametrised or lazy?); remove the "
            "parametrisation (torch.nn.utils.parametrize.remove_parametrizations) first"
        )
    return weight.detach()


def _hookless(module: nn.Module) -> nn.Module:
    """Return a copy of a layer that shares its parameters but runs the class's own ``forward``."""
    twin = copy.copy(module)
    twin.__dict__.pop("forward", None)
    return twin


def _variant(module: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    """Return a copy of a layer with other parameters and without a rule."""
    twin = _hookless(module)
    twin._parameters = {
        "weight": nn.Parameter(weight, requires_grad=False),
        "bias": None if bias is None else nn.Parameter(bias.detach(), requires_grad=False),
    }
    return twin
