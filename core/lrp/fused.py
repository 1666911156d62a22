"""LRP in one forward pass per frame and one transposed layer per pair: the fast path.

The reference engine follows autograd and repeats, for every output, what depends on the frame
alone. Here a network is a list of operations (:mod:`.lower`), each with its rule (:mod:`.steps`):
forward once per frame, for activations and denominators; back once for all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError
from .convolutions import UnsupportedRuleError
from .flow import Flow, Pairs
from .lower import UnsupportedNetworkError, lower
from .presets import Preset
from .program import Program
from .rules import start_weights
from .step import Ran
from .steps import make_step

__all__ = ["CHUNK_BYTES", "FusedEngine"]

CHUNK_BYTES = 256 << 20
"""Most memory for what one round keeps, however many frames and pairs are asked for: activations
and denominators of its frames, and the relevance of its pairs, each."""

# On a CPU the way back is fastest while its tensors stay in the last-level cache: 8 frames with 12
# outputs each took 184 ms in rounds of 24 pairs, 201 ms all at once, 245 ms in rounds of 4.
_CACHE_BYTES = 32 << 20
# Alive at once on the way back: relevance above and below a layer, and what convolving needs.
_LIVE = 3


class FusedEngine:
    """A network prepared for LRP under one preset, for inputs of one shape.

    Args:
        net: ``(B, C, H, W)`` → ``(B, A)`` logits in eval mode, BatchNorm folded.
        example: ``(B, C, H, W)`` input with B ≥ 2, of the dtype and device of the weights.
        preset: rules.
        dtype: of the inner convolutions, such as ``torch.bfloat16``; the rest, divisions and
            relevance above all, stays in that of the weights. None for the same everywhere.

    Attributes:
        outputs: number of logits.
        device: where it runs.

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
        self._dtype = example.dtype
        self.device = example.device
        self.outputs = self._program.outputs
        self._preset = preset
        try:
            self._steps = [
                make_step(self._program, number, preset, dtype or example.dtype)
                for number in range(len(self._program.operations))
            ]
        except UnsupportedRuleError as error:
            raise UnsupportedNetworkError(f"there is no fused rule for {error}") from error
        sizes = [math.prod(value.shape) * example.element_size() for value in self._program.values]
        # Every convolution keeps a denominator beside its value.
        self._frames_at_once = max(1, CHUNK_BYTES // (2 * sum(sizes)))
        room = min(_CACHE_BYTES, CHUNK_BYTES) if self.device.type == "cpu" else CHUNK_BYTES
        self._pairs_at_once = max(1, room // (_LIVE * max(sizes)))

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
        end = 0 if stop is None else self._end(stop)
        x = x.to(self._dtype)
        maps = x.new_empty((len(frames), *self._program.values[end].shape[1:]))
        for rows, chunks in self._rounds(frames):
            values, kept = self._forward(x[rows].contiguous(memory_format=torch.channels_last))
            for first, counts, numbers in chunks:
                last = first + len(counts)
                pairs = Pairs(counts, self.device)
                wanted = torch.tensor([outputs[number] for number in numbers]).to(self.device)
                maps[numbers] = self._back(
                    [value[first:last] for value in values],
                    [None if keep is None else keep[first:last] for keep in kept],
                    pairs,
                    wanted,
                    end,
                )
        return maps

    def _end(self, stop: int) -> int:
        """Return the number of the value at which relevance stops."""
        number = self._program.cut(stop)
        if number is None:
            sides = {max(v.shape[1:]) for v in self._program.values if len(v.shape) == 3}
            smallest = min(side for side in sides if self._program.cut(side) is not None)
            raise ConfigError(
                f"relevance cannot stop at {stop} px in this network; stop at {smallest} px or "
                "more, or not at all"
            )
        return number

    def _rounds(
        self, frames: Sequence[int]
    ) -> Iterator[tuple[list[int], list[tuple[int, list[int], list[int]]]]]:
        """Lay out which frames run forward together, and which of their pairs run back together.

        Yields:
            Row numbers of the frames, and per way back: the first of these frames it is about,
            how many pairs that frame and those after it have, and the numbers of all these pairs.
        """
        of_frame: dict[int, list[int]] = {}
        for number, frame in enumerate(frames):
            of_frame.setdefault(frame, []).append(number)
        rows = list(of_frame)
        for start in range(0, len(rows), self._frames_at_once):
            together = rows[start : start + self._frames_at_once]
            flat = [(at, n) for at, row in enumerate(together) for n in of_frame[row]]
            chunks = []
            for begin in range(0, len(flat), self._pairs_at_once):
                part = flat[begin : begin + self._pairs_at_once]
                counts = [0] * (part[-1][0] - part[0][0] + 1)
                for at, _ in part:
                    counts[at - part[0][0]] += 1
                chunks.append((part[0][0], counts, [number for _, number in part]))
            yield together, chunks

    def _forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[Any]]:
        """Return all values of some frames, and what each step keeps of them."""
        values, kept = [x], []
        for step in self._steps:
            made, keep = step.forward([values[source] for source in step.operation.sources])
            values.append(made)
            kept.append(keep)
        return values, kept

    def _back(
        self,
        values: list[torch.Tensor],
        kept: list[Any],
        pairs: Pairs,
        outputs: torch.Tensor,
        end: int,
    ) -> torch.Tensor:
        """Return ``(P, h, w)`` relevance of the value numbered ``end``."""
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
