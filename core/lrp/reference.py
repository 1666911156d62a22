"""LRP by zennit composites: the reference path, for any ``nn.Module``.

The network is prepared once: copied (weights shared, so the caller's modules never carry hooks),
BatchNorm folded, rules attached. Then one forward pass serves several outputs of a frame.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import ModelError
from ..folding import fold_batchnorm
from . import zennit_guard  # noqa: F401  (must come before zennit)
from .presets import PRESETS, Preset
from .rules import AlphaOneBetaZero, Epsilon, Flat, Pass, ZRule, z_rule

# zennit must follow the guard.
from zennit.composites import LayerMapComposite, register_composite  # isort: skip
from zennit.core import Hook  # isort: skip
from zennit.layer import Sum  # isort: skip
from zennit.types import Activation, AvgPool, Convolution, Linear  # isort: skip

__all__ = ["MAX_BATCH", "FlatComposite", "InnvestigateAFlat", "ReferenceEngine"]

MAX_BATCH = 32
"""Most frames in one forward pass; bounds memory however many pairs are asked for."""

# A forward pass with its denominators costs about as much as this many backward passes.
_FORWARD_COST = 2


class FlatComposite(LayerMapComposite):
    """Rules of a preset as a zennit composite.

    Args:
        preset: constants of the rules.
        first_layer: name of the module that gets the flat rule; None takes the first registered
            one with weights, as zennit does (which may not be the first that runs).
    """

    def __init__(self, preset: Preset, first_layer: str | None = None) -> None:
        super().__init__(
            layer_map=[
                (Activation, Pass()),
                ((AvgPool, Sum), ZRule(preset)),
                (Convolution, AlphaOneBetaZero(preset)),
                (nn.Linear, Epsilon(preset)),
            ]
        )
        self._first_layer = first_layer
        self._flat = Flat(preset)

    def mapping(self, ctx: dict[str, bool], name: str, module: nn.Module) -> Hook | None:
        """Return the rule of a module, or None."""
        wanted = self._first_layer in (None, name) and not ctx.get("first_seen")
        if wanted and isinstance(module, Linear):
            ctx["first_seen"] = True
            return self._flat
        return super().mapping(ctx, name, module)


@register_composite("innvestigate_a_flat")
class InnvestigateAFlat(FlatComposite):
    """iNNvestigate's ``LRPSequentialPresetAFlat`` for zennit users.

    ``zennit.composites.COMPOSITES["innvestigate_a_flat"]`` finds it once this module is imported.
    """

    def __init__(self, first_layer: str | None = None) -> None:
        super().__init__(PRESETS["innvestigate_a_flat"], first_layer)


class ReferenceEngine:
    """A network prepared for LRP under one preset.

    Calls are serialised by a lock; the network given is never modified.

    Args:
        model: ``(B, C, H, W)`` → ``(B, A)`` logits. Layers with weights must be modules, each
            used once per pass.
        shape: ``(C, H, W)`` of a usual input.
        preset: rules.

    Raises:
        ModelError: the network is of a kind LRP has no rule for; the message says why.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int], preset: Preset) -> None:
        self.preset = preset
        self._lock = threading.Lock()
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        # Pseudo-random values exercise the layers; a real crop might be flat.
        example = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0)).to(device)
        self.device = device
        self._net = fold_batchnorm(model, example)
        # zennit's SpecialFirstLayer composites take the module registered first.
        first = _first_linear_layer(self._net, example)
        with _BranchRules(preset), torch.enable_grad():
            output = self._net(example.requires_grad_())
        _check_graph(output, type(model).__name__)
        self.outputs: int = output.shape[1]
        FlatComposite(preset, first).register(self._net)  # for good: this copy is ours alone

    def relevance(
        self, x: torch.Tensor, frames: Sequence[int], outputs: Sequence[int]
    ) -> torch.Tensor:
        """Propagate ``P`` logits back to their frames.

        Args:
            x: ``(B, C, H, W)`` float32 on the network's device.
            frames: P row numbers of ``x``.
            outputs: P numbers of outputs.

        Returns:
            ``(P, H, W)`` float32 relevance in logit units, summed over channels.
        """
        maps = x.new_empty((len(frames), *x.shape[2:]))
        rounds, lanes = _schedule(frames)
        with self._lock:
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
        """Fill ``maps`` for the pairs of some lanes: one forward pass, a backward pass a round."""
        leaf = x[[frames[lane[0]] for lane in lanes]].detach().requires_grad_()
        with _BranchRules(self.preset), torch.enable_grad():
            logits = self._net(leaf)
        for turn in range(rounds):
            rows = [row for row, lane in enumerate(lanes) if turn < len(lane)]
            if not rows:
                break
            pairs = [lanes[row][turn] for row in rows]
            index = (rows, [outputs[pair] for pair in pairs])
            start = torch.zeros_like(logits)
            start[index] = logits.detach()[index]
            (relevance,) = torch.autograd.grad(logits, leaf, start, retain_graph=True)
            maps[pairs] = relevance[rows].sum(dim=1)


def _schedule(frames: Sequence[int]) -> tuple[int, list[list[int]]]:
    """Lay pairs out in lanes of one frame each, so that few passes serve frames of unequal need.

    A lane is one row of the forward batch; it takes one pair a round. With T rounds a frame of n
    pairs needs ⌈n/T⌉ lanes, and all L lanes cost about L·(forward + T·backward).

    Returns:
        T, and per lane the numbers of its pairs.
    """
    of_frame: dict[int, list[int]] = {}
    for pair, frame in enumerate(frames):
        of_frame.setdefault(frame, []).append(pair)
    counts = [len(pairs) for pairs in of_frame.values()]

    def cost(rounds: int) -> int:
        return sum(-(-count // rounds) for count in counts) * (_FORWARD_COST + rounds)

    rounds = min(range(1, max(counts) + 1), key=cost)
    lanes = [
        pairs[start : start + rounds]
        for pairs in of_frame.values()
        for start in range(0, len(pairs), rounds)
    ]
    return rounds, lanes


class _BranchRules(TorchFunctionMode):
    """Gives sums of two branches and averages written as functions the z-rule.

    Such operations (``out += identity``, ``x.mean((2, 3))``) are no modules, so zennit cannot
    hook them. Their plain gradient would hand the full relevance to both branches of a sum.
    """

    # Python spells `a + b` as Tensor.add and `a += b` as Tensor.add_.
    _sums = frozenset((torch.add, torch.Tensor.add, torch.Tensor.add_))
    _averages = frozenset((torch.mean, torch.Tensor.mean, F.avg_pool2d, F.adaptive_avg_pool2d))

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self._preset = preset

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._sums and len(args) == 2 and not kwargs and all(map(_traced, args)):
            return z_rule(self._preset, torch.add, *args, inplace=func is torch.Tensor.add_)
        if func in self._averages and args and _traced(args[0]):
            return z_rule(self._preset, lambda x: func(x, *args[1:], **kwargs), args[0])
        return func(*args, **kwargs)


def _traced(value: object) -> bool:
    return torch.is_grad_enabled() and isinstance(value, torch.Tensor) and value.requires_grad


@torch.no_grad()
def _first_linear_layer(net: nn.Module, example: torch.Tensor) -> str | None:
    """Return the name of the layer with weights that runs first."""
    order: list[str] = []
    handles = []
    names = {module: name for name, module in net.named_modules()}

    def note(module: nn.Module, _args: object) -> None:
        if isinstance(module, Linear):
            order.append(names[module])

    for module in names:
        handles.append(module.register_forward_pre_hook(note))
    try:
        net(example)
    finally:
        for handle in handles:
            handle.remove()
    return order[0] if order else None


# Nodes that mix two branches in a way no rule here covers.
_MIXING = ("AddBackward0", "SubBackward0", "MulBackward0", "DivBackward0")
_SQUASHING = ("SigmoidBackward0", "SoftmaxBackward0", "LogSoftmaxBackward0")


def _check_graph(output: Any, name: str) -> None:
    """Refuse networks whose relevance would silently be wrong."""
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
        todo.extend(inputs)
