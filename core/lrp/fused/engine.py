"""LRP in one forward pass per frame and one transposed layer per pair: the fast path.

The reference engine follows autograd and repeats, for every output, what depends on the frame
alone. Here a network is a list of operations (:mod:`.lower`), each with its rule
(:mod:`.layer_rules`). The rules run forward once per frame, for activations and denominators, and
backward once for all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from ...backend import arithmetic
from ...errors import ConfigError, ModelError
from ...steps import timed
from ..formulas import logit_weights
from ..presets import Preset
from .batched_relevance import BatchIndex, Relevance
from .convolution_rules import UnsupportedRuleError
from .layer_rules import make_rule
from .lower import UnsupportedNetworkError, lower
from .program import Dense, Program
from .rule import Context

__all__ = [
    "CHUNK_BYTES",
    "TF32",
    "Counts",
    "ForwardPass",
    "FusedEngine",
    "Reduced",
    "is_out_of_memory",
    "with_less_memory",
]

TF32: Literal["tf32"] = "tf32"
"""In place of a dtype: products of float32 numbers may be rounded to 10 bits, on a GPU."""
Reduced = torch.dtype | Literal["tf32"] | None
"""What may be less precise on the way back: nothing, products, or the dtype of convolutions."""

CHUNK_BYTES = 256 << 20
"""The most memory that one round may take for the activations and denominators of its frames, and
again for the relevance of its pairs, however many frames and pairs are asked for."""

# On a CPU the backward pass is fastest while its tensors stay in the last-level cache: 8 frames
# with 12 outputs each took 184 ms in rounds of 24 pairs, 201 ms all at once, 245 ms in rounds of 4.
_CACHE_BYTES = 32 << 20
# Tensors alive at once in the backward pass: relevance above and below a layer, and the workspace
# of a convolution.
_LIVE = 3


@dataclass(slots=True)
class Counts:
    """What an engine has done since it was prepared.

    Attributes:
        frames: frames run forward; a frame whose pairs did not fit one round counts again.
        pairs: maps returned.
        halved: how often rounds were halved because memory was short.
        recorded: batch shapes recorded as CUDA graphs.
        eager: batches on a GPU that ran operation by operation.
    """

    frames: int = 0
    pairs: int = 0
    halved: int = 0
    recorded: int = 0
    eager: int = 0


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """What the forward pass of some frames leaves for the backward pass.

    Attributes:
        values: all values of the program, ``(B, …)`` each: the input first, the logits last.
        saved: what each rule saved besides; rows are frames where it is a tensor.
    """

    values: list[torch.Tensor]
    saved: list[Any]

    def rows(self, first: int, end: int) -> ForwardPass:
        """Return the same of the frames from ``first`` to before ``end``."""
        return ForwardPass(_rows(self.values, first, end), _rows(self.saved, first, end))


class FusedEngine:
    """A network prepared for LRP under one preset, for inputs of one shape.

    Args:
        net: ``(B, C, H, W)`` → ``(B, A)`` logits in eval mode, BatchNorm folded.
        example: ``(B, C, H, W)`` input with B ≥ 2, of the dtype and device of the weights.
        preset: which rules, with which constants.
        dtype: of the inner convolutions in the backward pass, such as ``torch.bfloat16``;
            activations, divisions and maps stay in the dtype of the weights. None for that of the
            weights everywhere; :data:`TF32` for that, too, but a GPU may round what it multiplies
            in the backward pass.

    Attributes:
        outputs: number of logits.
        device: where it runs.
        dtype: of input, divisions and relevance.
        shape: ``(C, H, W)`` of one frame.
        frames_at_once, pairs_at_once: most in one round; halved when memory is short.
        counts: what it has done.

    Raises:
        UnsupportedNetworkError: a part of the network has no fused rule; the message names it.
        ConfigError: TF32 is asked for on a CPU.
    """

    def __init__(
        self,
        net: nn.Module,
        example: torch.Tensor,
        preset: Preset,
        dtype: Reduced = None,
    ) -> None:
        self._tf32 = dtype == TF32
        if isinstance(dtype, str):
            dtype = None
            if example.device.type == "cpu":
                raise ConfigError("TF32 is a precision of GPUs; use float32 on a CPU")
        with arithmetic(example.device):
            self._program: Program = lower(net, example)
        self.dtype = example.dtype
        self.shape = tuple(example.shape[1:])
        self.counts = Counts()
        self.device = example.device
        self.outputs = self._program.outputs
        self._preset = preset
        last = len(self._program.operations) - 1
        ends_dense = isinstance(self._program.operations[last], Dense)
        if preset.head == "positive" and (not ends_dense or last == self._program.first):
            raise UnsupportedNetworkError(
                f"preset {preset.name!r} needs a dense layer that makes the logits"
            )
        try:
            self._rules = [
                make_rule(self._program, number, preset, dtype or example.dtype)
                for number in range(len(self._program.operations))
            ]
        except UnsupportedRuleError as error:
            raise UnsupportedNetworkError(f"there is no fused rule for {error}") from error
        sizes = [math.prod(value.shape) * example.element_size() for value in self._program.values]
        # Every convolution saves a denominator beside its output.
        self.frames_at_once = max(1, CHUNK_BYTES // (2 * sum(sizes)))
        room = min(_CACHE_BYTES, CHUNK_BYTES) if self.device.type == "cpu" else CHUNK_BYTES
        self.pairs_at_once = max(1, room // (_LIVE * max(sizes)))

    def relevance(
        self,
        x: torch.Tensor,
        frames: Sequence[int],
        outputs: Sequence[int],
        stop: int | None = None,
    ) -> torch.Tensor:
        """Propagate ``P`` logits back to their frames.

        Args:
            x: ``(B, C, H, W)`` on the network's device, of the shape it was prepared for.
            frames: P row numbers of ``x``.
            outputs: P numbers of outputs.
            stop: see :func:`~facestage.core.lrp.explain`.

        Returns:
            ``(P, h, w)`` relevance in logit units, summed over channels, of the dtype of the
            weights; ``(h, w)`` is ``(H, W)`` without ``stop``.

        Raises:
            ConfigError: nothing in the network is as small as ``stop``.
        """
        end = self.end(stop)
        return with_less_memory(self, lambda: self._relevance(x, frames, outputs, end))

    def batch(
        self, x: torch.Tensor, frames: torch.Tensor, outputs: torch.Tensor, end: int
    ) -> torch.Tensor:
        """Explain in one round; no value of the arguments is read on the host.

        Args:
            x: ``(B, C, H, W)``, channels last.
            frames: ``(P,)`` int64 rows of ``x``.
            outputs: ``(P,)`` int64 numbers of outputs.
            end: see :meth:`end`.

        Returns:
            ``(P, h, w)``.
        """
        return self._backward(self._forward(x), BatchIndex.from_frames(frames), outputs, end)

    @timed("forward")
    def forward(self, x: torch.Tensor) -> ForwardPass:
        """Run frames forward; :meth:`explain` can then be called any number of times.

        Args:
            x: ``(B, C, H, W)`` on the network's device, at most :attr:`frames_at_once`.
        """
        return self._forward(x.to(self.dtype).contiguous(memory_format=torch.channels_last))

    def hidden(self, forward: ForwardPass) -> torch.Tensor | None:
        """Return the input of the last layer, ``(B, F)``; None if that is no dense layer."""
        last = self._program.operations[-1]
        return forward.values[last.sources[0]] if isinstance(last, Dense) else None

    def features(self, forward: ForwardPass) -> torch.Tensor | None:
        """Return the input of the last dense layer but one, ``(B, F)``; None if there is none."""
        layers = [op for op in self._program.operations if isinstance(op, Dense)]
        return forward.values[layers[-2].sources[0]] if len(layers) > 1 else None

    def pairs(
        self, forward: ForwardPass, frames: torch.Tensor, outputs: torch.Tensor
    ) -> torch.Tensor:
        """Propagate ``P`` logits to the pixels in one go; no value is read on the host.

        Args:
            forward: what :meth:`forward` returned.
            frames: ``(P,)`` int64 rows of its frames.
            outputs: ``(P,)`` int64 numbers of outputs.

        Returns:
            ``(P, H, W)``, see :meth:`relevance`.
        """
        return self._backward(forward, BatchIndex.from_frames(frames), outputs, 0)

    def explain(
        self, forward: ForwardPass, frames: Sequence[int], outputs: Sequence[int], end: int
    ) -> torch.Tensor:
        """Propagate ``P`` logits of frames that ran forward already.

        Args:
            forward: what :meth:`forward` returned.
            frames: P row numbers of its frames, in any order; a frame may have no pair.
            outputs: P numbers of outputs.
            end: see :meth:`end`.

        Returns:
            ``(P, h, w)``, see :meth:`relevance`.
        """
        maps = None
        order = sorted(range(len(frames)), key=lambda pair: frames[pair])
        for start in range(0, len(order), self.pairs_at_once):
            pairs = order[start : start + self.pairs_at_once]
            first_frame, end_frame = frames[pairs[0]], frames[pairs[-1]] + 1
            counts = [0] * (end_frame - first_frame)
            for pair in pairs:
                counts[frames[pair] - first_frame] += 1
            round_outputs = torch.tensor([outputs[pair] for pair in pairs]).to(self.device)
            index = BatchIndex(counts, self.device)
            frames_of_round = forward.rows(first_frame, end_frame)
            round_maps = self._backward(frames_of_round, index, round_outputs, end)
            self.counts.pairs += len(pairs)
            maps = _insert(maps, round_maps, pairs, len(frames))
        return forward.values[0].new_empty((0, *self.side(end))) if maps is None else maps

    def _relevance(
        self, x: torch.Tensor, frames: Sequence[int], outputs: Sequence[int], end: int
    ) -> torch.Tensor:
        maps = None
        for rows, pairs in self._rounds(frames):
            batch = x if rows == list(range(len(x))) else x[rows]
            position = {row: i for i, row in enumerate(rows)}
            round_maps = self.explain(
                self.forward(batch),
                [position[frames[pair]] for pair in pairs],
                [outputs[pair] for pair in pairs],
                end,
            )
            self.counts.frames += len(rows)
            maps = _insert(maps, round_maps, pairs, len(frames))
        return x.new_empty((0, *self.side(end)), dtype=self.dtype) if maps is None else maps

    def side(self, end: int) -> tuple[int, ...]:
        """Return rows and columns of a value."""
        return self._program.values[end].shape[1:]

    def end(self, stop: int | None) -> int:
        """Return the number of the value at which relevance stops.

        Raises:
            ConfigError: nothing in the network is as small as ``stop``.
        """
        if stop is None:
            return 0
        number = self._program.cut(stop)
        if number is None:
            sides = {max(v.shape[1:]) for v in self._program.values if len(v.shape) == 3}
            smallest = min(side for side in sides if self._program.cut(side) is not None)
            raise ConfigError(
                f"relevance cannot stop at {stop} px in this network; stop at {smallest} px or "
                "more, or not at all"
            )
        return number

    def _rounds(self, frames: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Yield rows of frames that run forward together, and the numbers of their pairs."""
        pairs_of: dict[int, list[int]] = {}
        for pair, frame in enumerate(frames):
            pairs_of.setdefault(frame, []).append(pair)
        rows = list(pairs_of)
        for start in range(0, len(rows), self.frames_at_once):
            round_rows = rows[start : start + self.frames_at_once]
            yield round_rows, [pair for row in round_rows for pair in pairs_of[row]]

    def _forward(self, x: torch.Tensor) -> ForwardPass:
        values, saved = [x], []
        with arithmetic(self.device):
            for rule in self._rules:
                output, rule_saved = rule.forward([values[n] for n in rule.operation.sources])
                values.append(output)
                saved.append(rule_saved)
        return ForwardPass(values, saved)

    def _backward(
        self, forward: ForwardPass, index: BatchIndex, outputs: torch.Tensor, end: int
    ) -> torch.Tensor:
        """Return ``(P, h, w)`` relevance of the value numbered ``end``."""
        with arithmetic(self.device, tf32=self._tf32):
            return self._propagated(forward, index, outputs, end)

    def _propagated(
        self, forward: ForwardPass, index: BatchIndex, outputs: torch.Tensor, end: int
    ) -> torch.Tensor:
        values, saved = forward.values, forward.saved
        logits = values[-1]
        start = logit_weights(outputs, self.outputs, self._preset).to(logits.dtype)
        relevance = {len(values) - 1: Relevance(start, logits, owned=True)}  # by value number
        for number in range(len(values) - 1, end, -1):
            if number not in relevance:
                continue
            rule = self._rules[number - 1]
            sources = rule.operation.sources
            inputs = [values[source] for source in sources]
            ctx = Context(index, inputs, values[number], saved[number - 1])
            shares = rule.backward(ctx, relevance.pop(number))
            for source, share in zip(sources, shares, strict=True):
                if source in relevance:
                    share = index.add(relevance[source], share, values[source])
                relevance[source] = share
        return index.full(relevance[end], values[end]).sum(dim=1)


def _insert(
    maps: torch.Tensor | None, new: torch.Tensor, pairs: list[int], count: int
) -> torch.Tensor:
    """Return ``count`` maps with the new ones at their pairs; no copy if they are all, in order."""
    if pairs == list(range(count)):
        return new
    if maps is None:
        maps = new.new_empty((count, *new.shape[1:]))
    maps[pairs] = new
    return maps


_T = TypeVar("_T")


def _rows(tensors: Sequence[Any], first: int, end: int) -> list[Any]:
    """Return some rows of each tensor, and None for None."""
    return [
        tensor if tensor is None or (first == 0 and end == len(tensor)) else tensor[first:end]
        for tensor in tensors
    ]


def with_less_memory(engine: FusedEngine, run: Callable[[], _T]) -> _T:
    """Return ``run()``; where memory is short, halve the engine's rounds and run again.

    Raises:
        ModelError: memory is too short for one pair of one frame.
    """
    while True:
        try:
            return run()
        except RuntimeError as error:  # of which torch.OutOfMemoryError is one
            if not is_out_of_memory(error):
                raise
            if engine.frames_at_once == engine.pairs_at_once == 1:
                raise ModelError(
                    f"there is not enough memory on {engine.device} to explain one frame of shape "
                    f"{engine.shape}; free some, or use another device"
                ) from error
        engine.frames_at_once = max(1, engine.frames_at_once // 2)
        engine.pairs_at_once = max(1, engine.pairs_at_once // 2)
        engine.counts.halved += 1
        if engine.device.type == "cuda":
            torch.cuda.empty_cache()


_SHORT_MEMORY = (
    *("not enough memory", "can't allocate memory", "could not create a primitive"),
    *("out of memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory was short, or hides one that does.

    Where memory ends while a graph is recorded, the end of the recording fails as well, and that
    is the error that arrives.
    """
    seen: BaseException | None = error
    while seen is not None:
        # On a CPU torch raises a plain RuntimeError. oneDNN cannot create a primitive that it had a
        # descriptor for; without a descriptor it cannot run such a convolution at all.
        message = str(seen).replace("create a primitive descriptor", "describe")
        short = any(phrase in message for phrase in _SHORT_MEMORY)
        if isinstance(seen, RuntimeError) and (short or isinstance(seen, torch.OutOfMemoryError)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
