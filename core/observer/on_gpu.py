"""Frames on a GPU: recorded rounds that also explain what may be active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .. import lrp, relevance
from ..baseline import presence_for
from ..config import AnalyzerConfig
from ..lrp.fused.engine import FusedEngine
from ..network.au_network import AUNetwork
from ..types import Frame
from .draft import Draft, FaceMemory, Look, Shown, not_finite, turns
from .faces import Faces

__all__ = ["OnGpu"]

BASELINE_SLACK = 0.25
"""What a baseline takes off the logits of an AU may become less by this within the frames of one
source that are looked at together; logits. It is more than a second of frames changes."""


@dataclass(slots=True, eq=False)
class _Ahead:
    """What is known of the next frame of a source before it is predicted.

    Attributes:
        active: which AUs were active before it, ``(A,)`` bool.
        offsets: what the baseline takes off its logits, ``(A,)`` float32.
        later: a frame that is not predicted yet comes before it.
    """

    active: NDArray[np.bool_]
    offsets: NDArray[np.float32]
    later: bool = False

    @classmethod
    def of(cls, memory: FaceMemory, time_s: float, aus: int) -> _Ahead:
        """Tell what is known of a frame at this time."""
        baseline = memory.baseline
        if baseline is None or baseline.stale(time_s):
            return cls(memory.gate.active, np.zeros(aus, np.float32))
        return cls(memory.gate.active, baseline.offsets)


class OnGpu:
    """Look at frames and explain them in recorded rounds.

    Args:
        engine: explains the network's logits; another one after its weights have changed.
        faces: finds and follows the faces.
        network: the AU network.
        config: constants of all steps.
        takes_part: ``(A,)`` which AUs may be active.
    """

    def __init__(
        self,
        engine: FusedEngine,
        faces: Faces,
        network: AUNetwork,
        config: AnalyzerConfig,
        takes_part: NDArray[np.bool_],
    ) -> None:
        self.faces, self.network, self.config = faces, network, config
        self._takes_part = takes_part
        outputs = np.flatnonzero(takes_part).tolist()
        self.rounds = lrp.Rounds(engine, network, outputs, self._summarise)

    def record(self) -> None:
        """Record everything that a round of frames can ask of the GPU."""
        self.network.record()
        self.rounds.record()

    def look(self, frames: Sequence[Frame]) -> Look:
        """Find and predict the faces of frames, in order within each source.

        What the round finds of landmarks serves the next frames of the sources. Where one of those
        is looked at in the same round, landmarks are searched for on their own.
        """
        drafts: dict[int, list[Draft]] = {}
        ahead: set[int] = set()
        rest = list(turns([frame.source for frame in frames]))
        while rest:
            turn = rest.pop(0)
            later = {frames[n].source for n in rest[0]} if rest else set()
            for n, found in zip(turn, self.faces.find([frames[n] for n in turn]), strict=True):
                drafts[n] = found
            waiting = [d for n in turn for d in drafts[n] if d.source in later]
            ahead |= self._learn_ahead(waiting)
        every = [draft for n in range(len(frames)) for draft in drafts[n]]
        usable = [draft for draft in every if draft.face.crop is not None]
        levels, expected = self.levels(every)
        shown, most = [], self.rounds.most_frames
        for start in range(0, len(usable), most):
            part = slice(start, start + most)
            shown.append(self._run(usable[part], levels[part], int(expected[part].sum())))
            self._note(shown[-1], ahead)
        return Look(every, shown=shown)

    def _learn_ahead(self, drafts: Sequence[Draft]) -> set[int]:
        """Search for the landmarks of faces whose next frame waits; return which drafts."""
        some = [d for d in drafts if d.face.crop is not None and self.faces.learns(d)]
        if some:
            crops = np.array([draft.face.crop for draft in some], np.uint8)
            self.faces.learn(some, self.network.five_points(crops))
        return {id(draft) for draft in some}

    def _note(self, shown: Shown, ahead: set[int]) -> None:
        """Note what a round predicts, and the landmarks of the frames that come last."""
        seen = shown.round
        for row, draft in enumerate(shown.drafts):
            draft.presence = seen.presence[row]
            if seen.intensity is not None:
                draft.intensity = seen.intensity[row]
            if seen.points is not None and id(draft) not in ahead:
                self.faces.learn([draft], seen.points[row : row + 1])

    def explain(self, drafts: Sequence[Draft], found: Sequence[Shown]) -> None:
        """Take the maps of active AUs out of rounds; those that are in none need another one.

        Raises:
            ModelError: relevance is not finite.
        """
        for one in found:
            self._take(one)
        aus, missing = self.network.card.aus, []
        for draft in drafts:
            outputs = [output for output in draft.active if aus[output] not in draft.maps]
            if outputs:
                missing.append((draft, outputs))
        most = self.rounds.most_frames
        for start in range(0, len(missing), most):
            part = missing[start : start + most]
            levels = np.full((len(part), len(aus)), lrp.NEVER, np.float32)
            for row, (_, outputs) in enumerate(part):
                levels[row, outputs] = lrp.ALWAYS
            expected = sum(len(outputs) for _, outputs in part)
            self._take(self._run([draft for draft, _ in part], levels, expected))

    def _run(self, drafts: Sequence[Draft], levels: NDArray[np.float32], expected: int) -> Shown:
        """Run a round of frames with usable faces."""
        crops = np.array([draft.face.crop for draft in drafts], np.uint8)
        found = self.rounds.run(crops, levels, expected)
        # The next round writes where these descriptors are.
        on_gpu = None if self.config.window.device == "cpu" else found.on_gpu[0].clone()
        return Shown(drafts, found, on_gpu)

    def levels(self, drafts: Sequence[Draft]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return from which presence each AU of each usable frame may be active.

        Of a source's first frame it is known: the gate knows what was active before it, and the
        baseline judges it by what it learned before it. Of later ones, that depends on those before
        them; they get some slack, and what is active all the same is explained in another round.

        Returns:
            ``(n, A)`` levels of the n usable frames, and ``(n,)`` how many AUs of each will be
            active, roughly.
        """
        on, off = self.network.card.thresholds()
        usable = sum(draft.face.crop is not None for draft in drafts)
        levels = np.full((usable, len(on)), lrp.NEVER, np.float32)
        expected = np.ones(usable, np.int64)
        ahead: dict[int, _Ahead] = {}
        row = 0
        for draft in drafts:
            memory = draft.memory
            if id(memory) not in ahead:
                ahead[id(memory)] = _Ahead.of(memory, draft.frame.time_s, len(on))
            state = ahead[id(memory)]
            if draft.new_face:
                state.active[:] = False
                state.offsets[:] = 0.0
            if draft.face.crop is None:
                continue
            level = np.where(state.active | state.later, off, on)
            slack = BASELINE_SLACK if state.later and memory.baseline is not None else 0.0
            level = presence_for(level, state.offsets - np.float32(slack))
            levels[row, self._takes_part] = level[self._takes_part]
            expected[row] += int((state.active & self._takes_part).sum())
            state.later = True
            row += 1
        return levels, expected

    def _take(self, found: Shown) -> None:
        """Take the maps of active AUs out of a round."""
        descriptors, valid, finite, *masks = found.round.summaries
        for row, draft in enumerate(found.drafts):
            for output in draft.active:
                slot = found.round.slots.get((row, output))
                if slot is None:
                    continue
                if not finite[slot]:
                    raise not_finite(self.network, [output])
                au = self.network.card.aus[output]
                draft.maps[au] = found.round.maps[slot]
                draft.descriptors[au] = descriptors[slot] if valid[slot] else None
                if masks:
                    draft.masks[au] = masks[0][slot]
                if found.on_gpu is not None:
                    draft.on_gpu[au] = found.on_gpu[slot]

    def _summarise(self, maps: torch.Tensor) -> list[torch.Tensor]:
        """Return descriptors, which are valid, which maps are finite, and masks if wanted."""
        explain = self.config.explain
        descriptors, valid = relevance.describe(
            maps, side=explain.descriptor_side, mode=explain.descriptor_mode
        )
        # A sum is not finite if any value is not.
        found = [descriptors, valid, torch.isfinite(maps.sum(dim=(1, 2)))]
        if explain.mask_side is not None and not explain.draws_apart:
            found.append(relevance.masks(maps, explain.mask_side, explain.top_x))
        return found
