"""LRP by zennit composites: the reference path, for any ``nn.Module``.

The network is prepared once: it is copied (weights are shared, but the caller's modules never carry
hooks), BatchNorm is folded, and rules are attached. Then one forward pass serves several outputs of
a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ...config import DEFAULT_LRP_PRESET
from ...errors import ModelError
from ...network.folding import example_input, fold_batchnorm
from ..formulas import logit_weights
from ..presets import LRP_PRESETS, ConvolutionRule, Preset
from . import zennit_guard  # noqa: F401  (must come before zennit)
from .hooks import (
    AlphaOneBetaZero,
    Epsilon,
    Flat,
    Gamma,
    Pass,
    PositiveHead,
    Rule,
    ZRule,
    pass_through,
    z_rule,
)

# zennit must follow the guard.
from zennit.composites import LayerMapComposite, register_composite  # isort: skip
from zennit.core import Hook  # isort: skip
from zennit.layer import Sum  # isort: skip
from zennit.types import Activation, AvgPool, Convolution, Linear  # isort: skip

__all__ = ["MAX_BATCH", "FlatComposite", "InnvestigateAFlat", "ReferenceEngine"]

MAX_BATCH = 32
"""The most frames in one forward pass; it bounds memory however many pairs are asked for."""

# A forward pass with its denominators costs about as much as this many backward passes.
_FORWARD_COST = 2


class FlatComposite(LayerMapComposite):
    """Rules of a preset as a zennit composite.

    Args:
        preset: constants of the rules.
        first_layer: name of the module that gets the flat rule; None takes the first registered
            one with weights, as zennit does (which may not be the first that runs).
        convolutions: name of a convolution → its rule; a convolution that is not named gets the
            preset's first rule.
        last_layer: name of the dense layer whose output is the logits, for presets with a rule for
            it.
    """

    def __init__(
        self,
        preset: Preset,
        first_layer: str | None = None,
        convolutions: Mapping[str, ConvolutionRule] | None = None,
        last_layer: str | None = None,
    ) -> None:
        super().__init__(
            layer_map=[
                (Activation, Pass()),
                ((AvgPool, Sum), ZRule(preset)),
                (Convolution, _rule(preset, preset.convolutions[0])),
                (nn.Linear, Epsilon(preset)),
            ]
        )
        self._first_layer = first_layer
        self._flat = Flat(preset)
        self._rules_by_name: dict[str, Rule] = {
            name: _rule(preset, rule) for name, rule in (convolutions or {}).items()
        }
        if preset.head == "positive" and last_layer is not None:
            self._rules_by_name[last_layer] = PositiveHead(preset)

    def mapping(self, ctx: dict[str, bool], name: str, module: nn.Module) -> Hook | None:
        """Return the rule of a module, or None."""
        may_be_first = self._first_layer in (None, name) and not ctx.get("first_seen")
        if may_be_first and isinstance(module, Linear):
            ctx["first_seen"] = True
            return self._flat
        if name in self._rules_by_name:
            return self._rules_by_name[name]
        return super().mapping(ctx, name, module)


def _rule(preset: Preset, rule: ConvolutionRule) -> Rule:
    match rule.kind:
        case "alpha1_beta0":
            return AlphaOneBetaZero(preset)
        case "gamma":
            return Gamma(preset, rule.value)
        case "epsilon":
            return Epsilon(preset, rule.value)


@register_composite(DEFAULT_LRP_PRESET)
class InnvestigateAFlat(FlatComposite):
    """iNNvestigate's ``LRPSequentialPresetAFlat`` for zennit users.

    ``zennit.composites.COMPOSITES["innvestigate_a_flat"]`` finds it once this module is imported.
    """

    def __init__(self, first_layer: str | None = None) -> None:
        super().__init__(LRP_PRESETS[DEFAULT_LRP_PRESET], first_layer)


class ReferenceEngine:
    """A network prepared for LRP under one preset.

    Args:
        model: ``(B, C, H, W)`` → ``(B, A)`` logits. Layers with weights must be modules.
        shape: ``(C, H, W)`` of a usual input.
        preset: which rules, with which constants.

    Raises:
        ModelError: the network is of a kind LRP has no rule for; the message says why.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int], preset: Preset) -> None:
        self.preset = preset
        example = example_input(model, shape)
        self.device = example.device
        self._dtype = example.dtype
        self._net = fold_batchnorm(model, example)
        calls, output = _observe(self._net, example, preset)
        _check_graph(output, len(calls), type(model).__name__)
        self.outputs: int = output.shape[1]
        # zennit's SpecialFirstLayer composites take the layer registered first; here the flat rule
        # is for the one that runs first. The rules stay attached, as no caller has this copy.
        layers = dict(self._net.named_modules())
        inner = [name for name in dict.fromkeys(calls[1:]) if isinstance(layers[name], Convolution)]
        rules = {name: preset.convolution(i, len(inner)) for i, name in enumerate(inner)}
        last = calls[-1] if calls and isinstance(layers[calls[-1]], nn.Linear) else None
        if preset.head == "positive" and (last is None or len(calls) < 2):
            raise ModelError(
                f"preset {preset.name!r} needs a dense layer that makes the logits; "
                f"{type(model).__name__} ends otherwise, use another preset"
            )
        FlatComposite(preset, calls[0] if calls else None, rules, last).register(self._net)

    def relevance(
        self, x: torch.Tensor, frames: Sequence[int], outputs: Sequence[int]
    ) -> torch.Tensor:
        """Propagate ``P`` logits back to their frames.

        Args:
            x: ``(B, C, H, W)`` on the network's device.
            frames: P row numbers of ``x``.
            outputs: P numbers of outputs.

        Returns:
            ``(P, H, W)`` relevance in logit units, summed over channels, of the dtype of the
            weights.
        """
        x = x.to(self._dtype)
        maps = x.new_empty((len(frames), *x.shape[2:]))
        rounds, lanes = _schedule(frames)
        for start in range(0, len(lanes), MAX_BATCH):
            self._relevance(x, lanes[start : start + MAX_BATCH], rounds, frames, outputs, maps)
        return maps

    def _relevance(
        self,
        x: torch.Tensor,
        lanes: list[list[int]],
        rounds: int,
        frames: Sequence[int],
        outputs: Sequence[int],
        maps: torch.Tensor,
    ) -> None:
        """Fill ``maps`` for some lanes: one forward pass, and one backward pass a round."""
        leaf = x[[frames[lane[0]] for lane in lanes]].detach().requires_grad_()
        with _FunctionRules(self.preset), torch.enable_grad():
            logits = self._net(leaf)
        for round_number in range(rounds):
            rows = [row for row, lane in enumerate(lanes) if round_number < len(lane)]
            if not rows:
                break
            pairs = [lanes[row][round_number] for row in rows]
            start = torch.zeros_like(logits)
            targets = torch.tensor([outputs[pair] for pair in pairs], device=logits.device)
            start[rows] = logits.detach()[rows] * logit_weights(targets, self.outputs, self.preset)
            (relevance,) = torch.autograd.grad(logits, leaf, start, retain_graph=True)
            maps[pairs] = relevance[rows].sum(dim=1)


def _schedule(frames: Sequence[int]) -> tuple[int, list[list[int]]]:
    """Lay pairs out in lanes of one frame each, so that unequal counts need few passes.

    A lane is one row of the forward batch; each round propagates one of its pairs. With T rounds a
    frame of n pairs needs ⌈n/T⌉ lanes, and all L lanes cost about L·(forward + T·backward).

    Returns:
        T, and per lane the numbers of its pairs.
    """
    pairs_of: dict[int, list[int]] = {}
    for pair, frame in enumerate(frames):
        pairs_of.setdefault(frame, []).append(pair)
    counts = [len(pairs) for pairs in pairs_of.values()]

    def cost(rounds: int) -> int:
        return sum(-(-count // rounds) for count in counts) * (_FORWARD_COST + rounds)

    rounds = min(range(1, max(counts) + 1), key=cost)
    lanes = [
        pairs[start : start + rounds]
        for pairs in pairs_of.values()
        for start in range(0, len(pairs), rounds)
    ]
    return rounds, lanes


class _FunctionRules(TorchFunctionMode):
    """Attaches rules to linear operations that are written as functions.

    Sums of two branches, and sums and averages over positions, follow the z-rule; scaling by a
    constant passes relevance. Such operations (``out += identity``, ``x.mean((2, 3))``,
    ``x / 255``) are no modules, so zennit cannot hook them. Their plain gradient would pass the
    full relevance to both branches of a sum, or scale it.
    """

    # Python spells `a + b` as Tensor.add and `a += b` as Tensor.add_.
    _sums = frozenset((torch.add, torch.Tensor.add, torch.Tensor.add_))
    _reductions = frozenset(
        (
            torch.mean,
            torch.Tensor.mean,
            torch.sum,
            torch.Tensor.sum,
            F.avg_pool2d,
            F.adaptive_avg_pool2d,
        )
    )
    _scalings = frozenset((torch.mul, torch.Tensor.mul, torch.div, torch.Tensor.div))

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self._preset = preset

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        traced = [_is_traced(value) for value in args]
        if func in self._sums and traced == [True, True] and not kwargs:
            return z_rule(self._preset, torch.add, *args, inplace=func is torch.Tensor.add_)
        if traced[:1] == [True]:
            x, *rest = args
            if func in self._reductions:
                return z_rule(self._preset, lambda x: func(x, *rest, **kwargs), x)
            if func in self._scalings and not any(traced[1:]):
                return pass_through(lambda x: func(x, *rest, **kwargs), x)
        return func(*args, **kwargs)


def _is_traced(value: object) -> bool:
    return torch.is_grad_enabled() and isinstance(value, torch.Tensor) and value.requires_grad


def _observe(net: nn.Module, example: torch.Tensor, preset: Preset) -> tuple[list[str], Any]:
    """Run a network; return the names of its layers with weights in running order, and its output.

    The output's graph shows every operation that has no rule yet.
    """
    calls: list[str] = []
    names = {module: name for name, module in net.named_modules()}

    def note(module: nn.Module, _args: object) -> None:
        if isinstance(module, Linear):
            calls.append(names[module])

    handles = [module.register_forward_pre_hook(note) for module in names]
    try:
        with _FunctionRules(preset), torch.enable_grad():
            return calls, net(example.requires_grad_())
    finally:
        for handle in handles:
            handle.remove()


# Names of graph nodes that combine two branches in a way no rule covers, that apply weights, and
# that give probabilities.
_MIXING = ("AddBackward0", "SubBackward0", "MulBackward0", "DivBackward0")
_WEIGHTED = ("ConvolutionBackward0", "AddmmBackward0", "MmBackward0", "BmmBackward0")
_SQUASHING = ("SigmoidBackward0", "SoftmaxBackward0", "LogSoftmaxBackward0")


def _check_graph(output: Any, calls: int, name: str) -> None:
    """Refuse networks whose relevance would silently be wrong.

    Args:
        output: output of the network.
        calls: number of layers with weights that ran as modules.
        name: of the network, for messages.
    """
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.grad_fn is None:
        raise ModelError(
            f"{name} must return logits of shape (B, A) that depend on the input; wrap it in a "
            "module that does"
        )
    if output.grad_fn.name() in _SQUASHING:
        raise ModelError(
            f"{name} ends in a sigmoid or softmax, which flattens relevance; pass the network "
            "without it (relevance explains the logit)"
        )
    seen, todo = set(), [output.grad_fn]
    weighted = 0
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        inputs = [child for child, _ in node.next_functions if child is not None]
        if node.name() in _MIXING and len(inputs) > 1:
            raise ModelError(
                f"{name} combines two branches by {node.name().removesuffix('Backward0')}, which "
                "LRP has no rule for here; use `a + b` or zennit.layer.Sum for residual sums"
            )
        weighted += node.name() in _WEIGHTED
        todo.extend(inputs)
    if weighted > calls:
        raise ModelError(
            f"{name} applies weights by functions (F.conv2d, F.linear, @), which rules cannot be "
            "attached to; use modules such as nn.Conv2d and nn.Linear"
        )
