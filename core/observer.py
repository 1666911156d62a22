"""The first half of the pipeline: frames in, explained Action Units out.

Face, prediction, on/off with hysteresis, and one relevance map per active AU; what live and
offline analysis share. Letters and stages come after, and differ between the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from . import lrp, relevance
from .baseline import PersonalBaseline, adjust_intensity, same_face
from .config import AnalyzerConfig
from .errors import ConfigError, ModelError
from .face.tracker import Detector, FaceTracker
from .network.au_network import AUNetwork
from .network.selection import select_aus
from .stages import PresenceGate
from .types import BaselineState, FaceObservation, FaceState, Frame

__all__ = ["Observation", "Observer"]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What one frame shows before letters are given.

    Attributes:
        frame, face: the frame and its face.
        presence, intensity: ``(A,)`` float32 as the network gives them, or None without a usable
            face.
        maps: relevance ``(S, S)`` float32 of every active AU.
        descriptors: its unit-length summary ``(D,)`` float32, or None where a map holds no positive
            relevance to compare.
        on_gpu: the descriptors once more where the network is on a GPU: on it, zeros where there is
            none.
        baseline, adjusted_presence, adjusted_intensity: as in
            :class:`~facestage.core.types.FrameResult`.
        new_face: the frame does not continue the last one with a usable face: another connection,
            or another person.
    """

    frame: Frame
    face: FaceObservation
    presence: NDArray[np.float32] | None
    intensity: NDArray[np.float32] | None
    maps: dict[int, NDArray[np.float32]]
    descriptors: dict[int, NDArray[np.float32] | None]
    baseline: BaselineState = BaselineState.OFF
    adjusted_presence: NDArray[np.float32] | None = None
    adjusted_intensity: NDArray[np.float32] | None = None
    new_face: bool = False
    on_gpu: dict[int, torch.Tensor] = field(default_factory=dict)


class _SourceFaces:
    """What the observer remembers of one source."""

    def __init__(
        self, tracker: FaceTracker, gate: PresenceGate, baseline: PersonalBaseline | None
    ) -> None:
        self.tracker = tracker
        self.gate = gate
        self.baseline = baseline
        self.crop: NDArray[np.uint8] | None = None
        self.epoch: int | None = None

    @property
    def baseline_state(self) -> BaselineState:
        return BaselineState.OFF if self.baseline is None else self.baseline.state

    def forget(self) -> None:
        """Forget who was seen and what was active."""
        self.gate.reset()
        self.crop = None
        if self.baseline is not None:
            self.baseline.reset()

    def continues(self, crop: NDArray[np.uint8], least: float) -> bool:
        """Note the next usable crop; return whether it can be of the person of the last one."""
        before, self.crop = self.crop, crop
        return before is None or same_face(before, crop, least)


class Observer:
    """Turn frames into explained Action Units.

    Args:
        detector: finds faces.
        network: the AU network.
        config: all defaults, when not given.
        on_step: called with the name of each step as it ends (``face``, ``predict``, ``explain``),
            so that a caller with a clock can time them; this module has none.

    Raises:
        ConfigError: the network lacks AUs that were asked for, the baseline cannot work, or there
            is no such precision.

    Attributes:
        shown: AUs that take part, in the order of the card.
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
        precision = self.config.explain.precision
        if precision not in lrp.PRECISIONS:
            raise ConfigError(
                f"unknown LRP precision {precision!r}; use one of {', '.join(lrp.PRECISIONS)}"
            )
        self._dtype = lrp.PRECISIONS[precision]
        self.shown = select_aus(network.card, self.config.aus)
        self._takes_part = np.isin(network.card.aus, self.shown)
        self._make_baseline()
        self._on_step = on_step or (lambda step: None)
        self._states: dict[str, _SourceFaces] = {}

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
            self._states[source].forget()

    @property
    def engine(self) -> lrp.EngineChoice:
        """LRP engine that explains the network; the network is prepared on first use."""
        shape = (1, *[self.network.card.input_size] * 2)
        return lrp.engine_of(
            self.network.logits_module, shape, self.config.explain.preset, self._dtype
        )

    @property
    def counts(self) -> lrp.Counts:
        """What the fused LRP engine has done for the network."""
        return lrp.counts_of(self.network.logits_module)

    def warm_up(self) -> None:
        """Run network and LRP once on an empty picture, so that the first face need not wait.

        On a GPU the batches of one frame with any number of the AUs shown are recorded as well.
        """
        size = self.network.card.input_size
        inputs = self.network.prepare(np.zeros((1, size, size), np.uint8))
        self.network.predict_prepared(inputs)
        self._explain(inputs, [(0, 0)])
        explain = self.config.explain
        lrp.record(
            self.network.logits_module,
            (1, size, size),
            explain.preset,
            self._dtype,
            most_pairs=len(self.shown),
        )

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
        inputs = self.network.prepare(crops)  # once, for prediction and explanation
        ran = self._forward(inputs, states)
        if ran is None or ran.hidden is None:
            prediction = self.network.predict_prepared(inputs)
        else:
            prediction = self.network.predict_from(ran.logits, ran.hidden)
        presence, intensity = prediction.presence, prediction.intensity
        self._on_step("predict")

        active: list[tuple[int, ...]] = []
        adjusted: list[NDArray[np.float32] | None] = []
        baselines: list[BaselineState] = []
        pairs: list[tuple[int, int]] = []
        for i, state in enumerate(states):
            if fresh[i]:
                state.forget()
            values, crop = None, faces[i].crop
            if crop is not None:
                values = presence[row[i]]
                if not state.continues(crop, self.config.baseline.same_face):
                    fresh[i] = True
                    if state.baseline is not None:
                        state.baseline.reset()
                        state.gate.reset()
                if state.baseline is not None:
                    values = state.baseline.update(frames[i].time_s, values, faces[i].quality)
                on = np.flatnonzero(state.gate.update(values) & self._takes_part)
                active.append(tuple(int(a) for a in on))
                pairs += [(row[i], a) for a in active[-1]]
            else:
                active.append(())
                if state.baseline is not None:
                    state.baseline.skip(frames[i].time_s)
                if faces[i].state == FaceState.LOST:
                    state.gate.reset()
            baselines.append(state.baseline_state)
            adjusted.append(values if baselines[i] == BaselineState.ACTIVE else None)
        maps, descriptors, valid, there = self._explain(inputs, pairs, ran)
        self._on_step("explain")

        observations: list[Observation] = []
        p = 0
        for i, frame in enumerate(frames):
            of_maps: dict[int, NDArray[np.float32]] = {}
            of_descriptors: dict[int, NDArray[np.float32] | None] = {}
            on_gpu: dict[int, torch.Tensor] = {}
            for a in active[i]:
                au = self.network.card.aus[a]
                of_maps[au] = maps[p]
                of_descriptors[au] = descriptors[p] if valid[p] else None
                if there is not None:
                    on_gpu[au] = there[p]
                p += 1
            n = row.get(i)
            raw = None if n is None else presence[n]
            strength = None if n is None or intensity is None else intensity[n]
            lowered = adjusted[i]
            observations.append(
                Observation(
                    frame,
                    faces[i],
                    raw,
                    strength,
                    of_maps,
                    of_descriptors,
                    baselines[i],
                    lowered,
                    None
                    if strength is None or raw is None or lowered is None
                    else adjust_intensity(strength, raw, lowered),
                    fresh[i],
                    on_gpu,
                )
            )
        return observations

    def _make_baseline(self) -> PersonalBaseline | None:
        if not self.config.baseline.enabled:
            return None
        return PersonalBaseline.of_network(self.network.card, self.config.baseline)

    def _state(self, source: str) -> _SourceFaces:
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
            gate = PresenceGate(*card.thresholds())
            self._states[source] = _SourceFaces(tracker, gate, self._make_baseline())
        return self._states[source]

    def _forward(self, inputs: torch.Tensor, states: Sequence[_SourceFaces]) -> lrp.Forward | None:
        """Run the network forward once for prediction and explanation, where that saves time.

        What LRP needs of the way forward costs a quarter of it, so it is made only where an AU was
        active in the frame before; any AU, so that probabilities do not depend, by their rounding,
        on which AUs take part.
        """
        if not self.network.reads_hidden or not any(s.gate.active.any() for s in states):
            return None
        return lrp.forward(
            self.network.logits_module, inputs, self.config.explain.preset, self._dtype
        )

    def _explain(
        self,
        inputs: torch.Tensor,
        pairs: list[tuple[int, int]],
        ran: lrp.Forward | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], torch.Tensor | None]:
        """Return maps, descriptors, which are valid, and the descriptors on a GPU if any."""
        explain = self.config.explain
        if not pairs:
            side = explain.descriptor_side
            empty = np.zeros((0, *inputs.shape[2:]), np.float32)
            return empty, np.zeros((0, side * side), np.float32), np.zeros(0, bool), None
        # Crops of bytes are finite; looking at them here would wait for the device.
        maps = (
            lrp.explain(
                self.network.logits_module,
                inputs,
                pairs,
                preset=explain.preset,
                dtype=self._dtype,
                check=False,
            )
            if ran is None
            else ran.explain(pairs)
        )
        descriptors, valid = relevance.describe(
            maps, side=explain.descriptor_side, mode=explain.descriptor_mode
        )
        # A sum is not finite if any value is not. Up to here all was only asked of the device; this
        # waits for it.
        if not math.isfinite(float(maps.sum())):
            aus = sorted({self.network.card.aus[output] for _, output in pairs})
            raise ModelError(
                f"{self.network.name} gave relevance that is not finite among AUs {aus}; check its "
                "weights and the normalisation in its card"
            )
        there = None if descriptors.device.type == "cpu" else descriptors
        return maps.cpu().numpy(), descriptors.cpu().numpy(), valid.cpu().numpy(), there
