"""The first half of the pipeline: frames in, explained Action Units out.

Face, prediction, on/off with hysteresis, and one relevance map per active AU; what live and
offline analysis share. Letters and stages come after, and differ between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import lrp, relevance
from .config import AnalyzerConfig
from .errors import ModelError
from .face import Detector, FaceTracker
from .network import AUNetwork
from .stages import PresenceGate
from .types import FaceObservation, FaceState, Frame

__all__ = ["Observation", "Observer"]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What one frame shows before letters are given.

    ``presence`` and ``intensity`` are ``(A,)`` float32 or None without a usable face. ``maps`` has
    the relevance ``(S, S)`` float32 of every active AU, ``descriptors`` its unit-length summary
    ``(D,)`` float32, or None where a map holds no positive relevance to compare.
    """

    frame: Frame
    face: FaceObservation
    presence: NDArray[np.float32] | None
    intensity: NDArray[np.float32] | None
    maps: dict[int, NDArray[np.float32]]
    descriptors: dict[int, NDArray[np.float32] | None]


class _SourceState:
    """What the observer remembers of one source."""

    def __init__(self, tracker: FaceTracker, gate: PresenceGate) -> None:
        self.tracker = tracker
        self.gate = gate
        self.epoch: int | None = None


class Observer:
    """Turn frames into explained Action Units.

    Args:
        detector: finds faces.
        network: the AU network.
        config: all defaults, when not given.
        on_step: called with the name of each step as it ends (``face``, ``predict``, ``explain``),
            so that a caller with a clock can time them; this module has none.
    """

    def __init__(
        self,
        detector: Detector,
        network: AUNetwork,
        config: AnalyzerConfig | None = None,
        *,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config or AnalyzerConfig()
        self.detector = detector
        self.network = network
        self._on_step = on_step or (lambda step: None)
        self._states: dict[str, _SourceState] = {}

    def reset(self, source: str | None = None) -> None:
        """Forget one source (its face and which AUs were active), or all."""
        if source is None:
            self._states.clear()
        else:
            self._states.pop(source, None)

    def gap(self, source: str) -> None:
        """Tell that a source paused: its face and which AUs were active are not known any more."""
        if source in self._states:
            self._states[source].tracker.reset()
            self._states[source].gate.reset()

    def warm_up(self) -> None:
        """Run network and LRP once on an empty picture, so that the first face need not wait."""
        size = self.network.card.input_size
        crops = np.zeros((1, size, size), np.uint8)
        self.network.predict(crops)
        self._explain(crops, [(0, 0)])

    def update(self, frames: Sequence[Frame]) -> list[Observation]:
        """Observe frames, in order within each source; sources may be mixed.

        All crops go through the network as one batch, and so do all (frame, AU) pairs through LRP.
        """
        states = [self._state(frame.source) for frame in frames]
        faces: list[FaceObservation] = []
        fresh: list[bool] = []
        for frame, state in zip(frames, states, strict=True):
            fresh.append(state.epoch not in (None, frame.epoch))
            state.epoch = frame.epoch
            if fresh[-1]:
                state.tracker.reset()
            faces.append(state.tracker.update(frame.image))
        self._on_step("face")

        usable = [i for i, face in enumerate(faces) if face.crop is not None]
        row = {i: n for n, i in enumerate(usable)}
        size = self.network.card.input_size
        crops = np.array([f.crop for f in faces if f.crop is not None], np.uint8)
        crops = crops.reshape(-1, size, size)
        prediction = self.network.predict(crops)
        presence, intensity = prediction.presence, prediction.intensity
        self._on_step("predict")

        active: list[tuple[int, ...]] = []
        pairs: list[tuple[int, int]] = []
        for i, state in enumerate(states):
            if fresh[i]:
                state.gate.reset()
            if i in row:
                on = np.flatnonzero(state.gate.update(presence[row[i]]))
                active.append(tuple(int(a) for a in on))
                pairs += [(row[i], a) for a in active[-1]]
            else:
                active.append(())
                if faces[i].state == FaceState.LOST:
                    state.gate.reset()
        maps, descriptors, valid = self._explain(crops, pairs)
        self._on_step("explain")

        observations: list[Observation] = []
        p = 0
        for i, frame in enumerate(frames):
            of_maps: dict[int, NDArray[np.float32]] = {}
            of_descriptors: dict[int, NDArray[np.float32] | None] = {}
            for a in active[i]:
                au = self.network.card.aus[a]
                of_maps[au] = maps[p]
                of_descriptors[au] = descriptors[p] if valid[p] else None
                p += 1
            n = row.get(i)
            observations.append(
                Observation(
                    frame,
                    faces[i],
                    None if n is None else presence[n],
                    None if n is None or intensity is None else intensity[n],
                    of_maps,
                    of_descriptors,
                )
            )
        return observations

    def _state(self, source: str) -> _SourceState:
        if source not in self._states:
            card = self.network.card
            tracker = FaceTracker(
                self.detector,
                self.network.five_points if self.network.has_landmarks else None,
                card.template,
                card.template_weights,
                card.input_size,
                card.box_points.get(self.detector.name),
                self.config.face,
            )
            self._states[source] = _SourceState(tracker, PresenceGate(*card.thresholds()))
        return self._states[source]

    def _explain(
        self,
        crops: NDArray[np.uint8],
        pairs: list[tuple[int, int]],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        explain = self.config.explain
        if not pairs:
            side = explain.descriptor_side
            empty = np.zeros((0, *crops.shape[1:]), np.float32)
            return empty, np.zeros((0, side * side), np.float32), np.zeros(0, bool)
        inputs = self.network.prepare(crops)
        maps = lrp.explain(self.network.logits_module, inputs, pairs, preset=explain.preset)
        array = maps.cpu().numpy()
        if not np.isfinite(array).all():
            aus = sorted({self.network.card.aus[output] for _, output in pairs})
            raise ModelError(
                f"{self.network.name} gave relevance that is not finite among AUs {aus}; check its "
                "weights and the normalisation in its card"
            )
        descriptors, valid = relevance.describe(
            array, side=explain.descriptor_side, mode=explain.descriptor_mode
        )
        return array, descriptors, valid
