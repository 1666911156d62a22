"""LRP in one forward pass per frame and one transposed layer per pair: the fast path.

The reference engine follows autograd and repeats, for every output, what depends on the frame
alone. Here a network is a list of operations (:mod:`.lower`), each with its rule (:mod:`.steps`):
forward once per frame, for activations and denominators; back once for all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...errors import ConfigError, ModelError
from ..formulas import start_weights
from ..presets import Preset
from .convolution_rules import UnsupportedRuleError
from .layer_rules import make_step
from .lower import UnsupportedNetworkError, lower
from .program import Dense, Program
from .relevance_flow import Flow, Pairs
from .rule import Ran

__all__ = ["CHUNK_BYTES", "Counts", "FusedEngine", "Values", "is_shortage", "with_less_memory"]

CHUNK_BYTES = 256 << 20
"""Most memory for what one round keeps, however many frames and pairs are asked for: activations
and denominators of its frames, and the relevance of its pairs, each."""

# On a CPU the way back is fastest while its tensors stay in the last-level cache: 8 frames with 12
# outputs each took 184 ms in rounds of 24 pairs, 201 ms all at once, 245 ms in rounds of 4.
_CACHE_BYTES = 32 << 20
# Alive at once on the way back: relevance above and below a layer, and what convolving needs.
_LIVE = 3


@dataclass(slots=True)
class Counts:
    """What an engine has done since it was prepared.

    Attributes:
        frames: frames run forward; one whose pairs did not fit one round counts again.
        pairs: maps made.
        halved: batches made smaller because memory was short.
        recorded: batch shapes recorded as CUDA graphs.
        eager: batches on a GPU that ran operation by operation.
    """

    frames: int = 0
    pairs: int = 0
    halved: int = 0
    recorded: int = 0
    eager: int = 0


@dataclass(frozen=True, slots=True)
class Values:
    """What a pass forward through some frames gave.

    Attributes:
        values: all values, ``(B, …)`` each: the input first, the logits last.
        kept: what each step keeps besides; rows are frames where it is a tensor.
    """

    values: list[torch.Tensor]
    kept: list[Any]

    def rows(self, first: int, last: int) -> Values:
        """Return the same of some frames."""
        return Values(_rows(self.values, first, last), _rows(self.kept, first, last))


class FusedEngine:
    """A network prepared for LRP under one preset, for inputs of one shape.

    Args:
        net: ``(B, C, H, W)`` → ``(B, A)`` logits in eval mode, BatchNorm folded.
        example: ``(B, C, H, W)`` input with B ≥ 2, of the dtype and device of the weights.
        preset: rules.
        dtype: of the inner convolutions on the way back, such as ``torch.bfloat16``; the rest,
            activations and divisions above all, stays in that of the weights, and so do maps. None
            for the same everywhere.

    Attributes:
        outputs: number of logits.
        device: where it runs.
        dtype: of input, divisions and relevance.
        shape: ``(C, H, W)`` of one frame.
        frames_at_once, pairs_at_once: most in one round; halved when memory is short.
        counts: what it has done.

    Raises:
        UnsupportedNetworkError: a part of the network has no rule here; the message names it.
    """

    def __init__(
        self,
        net: nn.Module,
        example: torch.Tensor,
        preset: Preset,
        dtype: torch.dtype | None = None,
    ) -> None:
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
            self._steps = [
                make_step(self._program, number, preset, dtype or example.dtype)
                for number in range(len(self._program.operations))
            ]
        except UnsupportedRuleError as error:
            raise UnsupportedNetworkError(f"there is no fused rule for {error}") from error
        sizes = [math.prod(value.shape) * example.element_size() for value in self._program.values]
        # Every convolution keeps a denominator beside its value.
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
        """Explain in one round, with nothing that depends on the values of its arguments.

        Args:
            x: ``(B, C, H, W)``, channels last.
            frames: ``(P,)`` int64 rows of ``x``.
            outputs: ``(P,)`` int64 numbers of outputs.
            end: see :meth:`end`.

        Returns:
            ``(P, h, w)``.
        """
        return self._back(self._forward(x), Pairs.of(frames), outputs, end)

    def forward(self, x: torch.Tensor) -> Values:
        """Run frames forward, so that :meth:`explain` can go back as often as is wanted.

        Args:
            x: ``(B, C, H, W)`` on the network's device, at most :attr:`frames_at_once`.
        """
        return self._forward(x.to(self.dtype).contiguous(memory_format=torch.channels_last))

    def hidden(self, forward: Values) -> torch.Tensor | None:
        """Return ``(B, F)``: what the dense layer that makes the logits got; None without one."""
        last = self._program.operations[-1]
        return forward.values[last.sources[0]] if isinstance(last, Dense) else None

    def explain(
        self, forward: Values, frames: Sequence[int], outputs: Sequence[int], end: int
    ) -> torch.Tensor:
        """Propagate ``P`` logits of frames that ran forward already.

        Args:
            forward: what :meth:`forward` returned.
            frames: P row numbers of its frames, in any order; not every frame needs to have one.
            outputs: P numbers of outputs.
            end: see :meth:`end`.

        Returns:
            ``(P, h, w)``, see :meth:`relevance`.
        """
        maps = None
        order = sorted(range(len(frames)), key=lambda pair: frames[pair])
        for begin in range(0, len(order), self.pairs_at_once):
            numbers = order[begin : begin + self.pairs_at_once]
            first, last = frames[numbers[0]], frames[numbers[-1]] + 1
            counts = [0] * (last - first)
            for number in numbers:
                counts[frames[number] - first] += 1
            wanted = torch.tensor([outputs[number] for number in numbers]).to(self.device)
            pairs = Pairs(counts, self.device)
            made = self._back(forward.rows(first, last), pairs, wanted, end)
            self.counts.pairs += len(numbers)
            maps = _placed(maps, made, numbers, len(frames))
        return forward.values[0].new_empty((0, *self.side(end))) if maps is None else maps

    def _relevance(
        self, x: torch.Tensor, frames: Sequence[int], outputs: Sequence[int], end: int
    ) -> torch.Tensor:
        maps = None
        for rows, numbers in self._rounds(frames):
            together = x if rows == list(range(len(x))) else x[rows]
            place = {row: at for at, row in enumerate(rows)}
            made = self.explain(
                self.forward(together),
                [place[frames[number]] for number in numbers],
                [outputs[number] for number in numbers],
                end,
            )
            self.counts.frames += len(rows)
            maps = _placed(maps, made, numbers, len(frames))
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
        """Lay out which frames run forward together: their rows, and the numbers of their pairs."""
        of_frame: dict[int, list[int]] = {}
        for number, frame in enumerate(frames):
            of_frame.setdefault(frame, []).append(number)
        rows = list(of_frame)
        for start in range(0, len(rows), self.frames_at_once):
            together = rows[start : start + self.frames_at_once]
            yield together, [number for row in together for number in of_frame[row]]

    def _forward(self, x: torch.Tensor) -> Values:
        values, kept = [x], []
        for step in self._steps:
            made, keep = step.forward([values[source] for source in step.operation.sources])
            values.append(made)
            kept.append(keep)
        return Values(values, kept)

    def _back(self, forward: Values, pairs: Pairs, outputs: torch.Tensor, end: int) -> torch.Tensor:
        """Return ``(P, h, w)`` relevance of the value numbered ``end``."""
        values, kept = forward.values, forward.kept
        logits = values[-1]
        start = start_weights(outputs, self.outputs, self._preset).to(logits.dtype)
        flows: dict[int, Flow] = {len(values) - 1: Flow(start, logits, owned=True)}
        for number in range(len(values) - 1, end, -1):
            if number not in flows:
                continue
            step = self._steps[number - 1]
            sources = step.operation.sources
            given = [values[source] for source in sources]
            ran = Ran(pairs, given, values[number], kept[number - 1])
            pulled = step.pull(flows.pop(number), ran)
            for source, flow in zip(sources, pulled, strict=True):
                if source in flows:
                    flow = pairs.merge(flows[source], flow, values[source])
                flows[source] = flow
        return pairs.relevance(flows[end], values[end]).sum(dim=1)


def _placed(
    maps: torch.Tensor | None, made: torch.Tensor, numbers: list[int], count: int
) -> torch.Tensor:
    """Return ``count`` maps with those just made at their numbers; all, in order, as they are."""
    if numbers == list(range(count)):
        return made
    if maps is None:
        maps = made.new_empty((count, *made.shape[1:]))
    maps[numbers] = made
    return maps


def _rows(kept: Sequence[Any], first: int, last: int) -> list[Any]:
    """Return some rows of each tensor, and None where there is none."""
    return [
        one if one is None or (first == 0 and last == len(one)) else one[first:last] for one in kept
    ]


def with_less_memory(engine: FusedEngine, run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return ``run()``; where memory is short, halve the engine's rounds and run again.

    Raises:
        ModelError: there is no memory for one pair of one frame.
    """
    while True:
        try:
            return run()
        except RuntimeError as error:  # of which torch.OutOfMemoryError is one
            if not is_shortage(error):
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


def is_shortage(error: RuntimeError) -> bool:
    """Tell whether memory was short."""
    # On a CPU torch raises a plain RuntimeError. oneDNN cannot create a primitive that it had a
    # descriptor for; without a descriptor it cannot run such a convolution at all.
    words = ("not enough memory", "can't allocate memory", "could not create a primitive")
    said = str(error).replace("create a primitive descriptor", "describe")
    return isinstance(error, torch.OutOfMemoryError) or any(word in said for word in words)
