"""All that a round of frames asks of a GPU, in one recording: crops in, what they show out.

Normalisation, forward pass, relevance of the active AUs, descriptors and masks run as one CUDA
graph, whatever the number of frames: one upload, one launch, one download, one wait
(:class:`~facestage.core.network.recording.Recording`). Which AUs are active is decided on the host,
from probabilities that it gets with the maps. So the GPU explains what *may* be active, the pairs
whose probability reaches a level that the caller gives, and the caller asks again for what it
missed.

Recordings have fixed shapes. Frames are padded to the next of :data:`FRAMES`, and there is room for
:data:`PAIRS_PER_FRAME` pairs a frame, or for all. The pairs that reach their level are moved
together on the GPU; places that stay free hold pair (0, 0), whose maps nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...network.au_network import AUNetwork
from ...network.recording import Recorder, Recording, fitting_size, padded_size
from .engine import FusedEngine, with_less_memory

__all__ = ["ALWAYS", "FRAMES", "NEVER", "PAIRS_PER_FRAME", "Round", "Rounds"]

FRAMES = (1, 4, 16, 32)
"""The numbers of frames that a round is padded to; more run in several rounds."""
PAIRS_PER_FRAME = (4, 8)
"""The numbers of pairs a frame, in the mean of a round, that there is room for; or for all."""
ALWAYS, NEVER = -1.0, 2.0
"""Levels of probability that every output reaches, and none."""


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """What a round of n frames shows.

    Attributes:
        presence: ``(n, A)`` float32, 0–1.
        intensity: ``(n, A)`` float32, 0–5, or None where the network has none.
        points: ``(n, 5, 2)`` float32 landmarks, crop pixels, or None where the network has none.
        slots: (row, output) → row of the following arrays, of every pair that was explained.
        maps: ``(P, H, W)`` float32 relevance.
        summaries: what ``summarise`` made of them, ``(P, …)`` each.
        on_gpu: the same summaries on the GPU; valid until the next round.
    """

    presence: NDArray[np.float32]
    intensity: NDArray[np.float32] | None
    points: NDArray[np.float32] | None
    slots: dict[tuple[int, int], int]
    maps: NDArray[np.float32]
    summaries: list[NDArray]
    on_gpu: list[torch.Tensor]


class Rounds:
    """Run rounds of frames on a GPU.

    Args:
        engine: explains the network's logits; on a GPU.
        network: normalises crops and predicts; on that GPU.
        outputs: numbers of the outputs that may be explained.
        summarise: maps ``(P, H, W)`` → tensors ``(P, …)``, without reading a value on the host.

    Attributes:
        engine: as given.
    """

    def __init__(
        self,
        engine: FusedEngine,
        network: AUNetwork,
        outputs: Sequence[int],
        summarise: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    ) -> None:
        self.engine = engine
        self._network, self._outputs, self._summarise = network, tuple(outputs), summarise
        self._recorder = Recorder(engine.device)
        self._recordings: dict[tuple[int, int], Recording] = {}
        self._has_intensity = False  # known when something was recorded

    @property
    def most_frames(self) -> int:
        """Most frames of one round: fewer where memory was short."""
        return fitting_size(self.engine.frames_at_once, FRAMES)

    def record(self) -> None:
        """Record the rounds of all shapes that are not recorded yet, so that no frame waits."""
        for frames in FRAMES:
            if frames <= self.most_frames:
                for room in self._rooms(frames):
                    self._recording(frames, room)

    def run(self, crops: NDArray[np.uint8], levels: NDArray[np.float32], expected: int) -> Round:
        """Run a round.

        Args:
            crops: ``(n, S, S)`` uint8 grey, aligned; n from 1 to :attr:`most_frames`.
            levels: ``(n, A)`` float32 probability from which each output is explained;
                :data:`NEVER` for those that may not be.
            expected: how many will be. Where it is more after all, the round runs twice.

        Raises:
            ModelError: memory is too short for one pair of one frame.
        """
        n = len(crops)
        frames = padded_size(n, FRAMES)
        padded = np.full((frames, levels.shape[1]), NEVER, np.float32)
        padded[:n] = levels
        rooms = self._rooms(frames)
        room = padded_size(min(max(expected, 1), rooms[-1]), rooms)
        found = self._call(frames, room, padded, crops)
        if found[1][0] > room:
            room = padded_size(int(found[1][0]), rooms)
            found = self._call(frames, room, padded, crops)
        return self._round(n, found, self._recordings[frames, room])

    def _call(
        self, frames: int, room: int, levels: NDArray[np.float32], crops: NDArray[np.uint8]
    ) -> list[NDArray]:
        return self._recording(frames, room)([levels, crops])

    def _round(self, n: int, found: list[NDArray], recording: Recording) -> Round:
        index, (count,), presence, *rest = found
        intensity = rest.pop(0) if self._has_intensity else None
        landmarks = rest.pop(0) if self._network.has_landmarks else None
        maps, *summaries = rest
        rows, outputs = np.divmod(index[:count], presence.shape[1])
        pairs = zip(rows.tolist(), outputs.tolist(), strict=True)
        slots = {pair: slot for slot, pair in enumerate(pairs)}
        self.engine.counts.frames += len(set(rows.tolist()))
        self.engine.counts.pairs += len(slots)
        return Round(
            presence=presence[:n],
            intensity=None if intensity is None else intensity[:n],
            points=None if landmarks is None else self._network.alignment_points(landmarks[:n]),
            slots=slots,
            maps=maps,
            summaries=summaries,
            on_gpu=recording.results[len(found) - len(summaries) :],
        )

    def _rooms(self, frames: int) -> tuple[int, ...]:
        """Return the numbers of pairs that rounds of so many frames have room for."""
        most = frames * max(len(self._outputs), 1)
        rooms = [frames * each for each in PAIRS_PER_FRAME]
        return (*(room for room in rooms if room < most), most)

    def _recording(self, frames: int, room: int) -> Recording:
        if (frames, room) not in self._recordings:
            self._recordings[frames, room] = with_less_memory(
                self.engine, lambda: self._record(frames, room)
            )
            self.engine.counts.recorded += 1
        return self._recordings[frames, room]

    def _record(self, frames: int, room: int) -> Recording:
        side, outputs = self._network.card.input_size, self.engine.outputs
        bytes_of_levels = 4 * frames * outputs

        @torch.inference_mode()
        def run(request: torch.Tensor) -> list[torch.Tensor]:
            levels = request[:bytes_of_levels].view(torch.float32).view(frames, outputs)
            crops = request[bytes_of_levels:].view(frames, side, side)
            return self._run(crops, levels, room)

        return Recording(run, bytes_of_levels + frames * side * side, self._recorder)

    def _run(self, crops: torch.Tensor, levels: torch.Tensor, room: int) -> list[torch.Tensor]:
        """Return index ``(room,)``, count ``(1,)``, presence, intensity and landmarks if any, maps,
        summaries."""
        network, engine = self._network, self.engine
        x = network.normalise(crops)
        forward = engine.forward(x)
        logits = forward.values[-1]
        hidden, features = engine.hidden(forward), engine.features(forward)
        presence, *others = network.read(x, logits, hidden, features)
        index, count = _moved_together(presence >= levels, room)
        rows = torch.div(index, engine.outputs, rounding_mode="floor")
        outputs = index - rows * engine.outputs
        # In pieces of bounded memory; how many is known when the round is recorded.
        at_once = engine.pairs_at_once
        maps = torch.cat(
            [
                engine.pairs(forward, rows[at : at + at_once], outputs[at : at + at_once])
                for at in range(0, room, at_once)
            ]
        )
        self._has_intensity = others[0] is not None
        read = [presence, *(one for one in others if one is not None)]
        return [index, count, *read, maps, *self._summarise(maps)]


def _moved_together(chosen: torch.Tensor, room: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where a mask is set, without reading how often on the host.

    Args:
        chosen: ``(B, A)`` bool.
        room: how many places there are.

    Returns:
        ``(room,)`` int64 places in the flat mask, the rest 0; and ``(1,)`` int64 how often it is
        set, which may be more.
    """
    flat = chosen.reshape(-1)
    # What is not set, or finds no room, goes to a place behind the last one.
    place = torch.where(flat, flat.cumsum(0) - 1, room).clamp(max=room)
    index = torch.zeros(room + 1, dtype=torch.int64, device=flat.device)
    index.scatter_(0, place, torch.arange(len(flat), device=flat.device))
    return index[:room], flat.sum().reshape(1)
