"""The first half of the pipeline: frames in, explained Action Units out.

Face, prediction, on/off with hysteresis, and one relevance map per active AU; what live and
offline analysis share. Letters and stages come after, and differ between the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import lrp, relevance
from .baseline import PersonalBaseline, adjust_intensity, same_face
from .config import AnalyzerConfig
from .errors import ConfigError, ModelError
from .face.tracker import Detector, FaceTracker, Landmarks
from .network.au_network import AUNetwork
from .network.selection import select_aus
from .stages import PresenceGate
from .types import BaselineState, FaceObservation, FaceState, Frame, RestLevels

__all__ = ["Draft", "Look", "Observation", "Observer"]


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
        baseline, adjusted_presence, adjusted_intensity, rest_s, rest_prior: as in
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
    rest_s: float = 0.0
    rest_prior: float = 1.0
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

    def forget(self) -> None:
        """Forget who was judged and what was active."""
        self.gate.reset()
        if self.baseline is not None:
            self.baseline.reset()

    def continues(self, crop: NDArray[np.uint8], least: float) -> bool:
        """Note the next usable crop; return whether it can be of the person of the last one."""
        before, self.crop = self.crop, crop
        return before is None or same_face(before, crop, least)


@dataclass(slots=True, eq=False)
class Draft:
    """The observation of one frame while it is being made.

    Attributes:
        frame: the frame.
        source: what is remembered of its source.
        face: its face.
        reconnected: the source's connection is another than that of the frame before.
        new_face, presence, intensity, baseline, rest_s, rest_prior, maps, descriptors, on_gpu: as
            in :class:`Observation`.
        rest: rest levels with which the person begins in this frame, where they are known.
        adjusted: presence ``(A,)`` float32 after the baseline, or None without one.
        active: outputs of the network whose AUs are active and take part, ascending.
    """

    frame: Frame
    source: _SourceFaces
    face: FaceObservation
    reconnected: bool
    new_face: bool
    presence: NDArray[np.float32] | None = None
    intensity: NDArray[np.float32] | None = None
    rest: RestLevels | None = None
    baseline: BaselineState = BaselineState.OFF
    rest_s: float = 0.0
    rest_prior: float = 1.0
    adjusted: NDArray[np.float32] | None = None
    active: list[int] = field(default_factory=list)
    maps: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    descriptors: dict[int, NDArray[np.float32] | None] = field(default_factory=dict)
    on_gpu: dict[int, torch.Tensor] = field(default_factory=dict)

    def finish(self) -> Observation:
        """Return what the frame shows."""
        adjusted_intensity = None
        if self.presence is not None and self.intensity is not None and self.adjusted is not None:
            adjusted_intensity = adjust_intensity(self.intensity, self.presence, self.adjusted)
        return Observation(
            frame=self.frame,
            face=self.face,
            presence=self.presence,
            intensity=self.intensity,
            maps=self.maps,
            descriptors=self.descriptors,
            baseline=self.baseline,
            adjusted_presence=self.adjusted,
            adjusted_intensity=adjusted_intensity,
            rest_s=self.rest_s,
            rest_prior=self.rest_prior,
            new_face=self.new_face,
            on_gpu=self.on_gpu,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Frames of which is known what the network says, not yet what is active.

    Attributes:
        drafts: one per frame.
        inputs: the crops of all usable faces as the network takes them.
        forward: its way forward, where LRP can use it.
    """

    drafts: list[Draft]
    inputs: torch.Tensor
    forward: lrp.Forward | None


def tell_nobody(step: str) -> None:
    """Take the end of a step where nobody asked to be told; unlike a lambda it can be pickled."""


class Observer:
    """Turn frames into explained Action Units.

    Args:
        detector: finds faces.
        network: the AU network.
        config: all defaults, when not given.
        on_step: called with the name of each step as it ends (``face``, ``predict``, ``explain``),
            so that a caller with a clock can time them; this module has none.
        rest: rest levels with which the first person of every source begins.

    Raises:
        ConfigError: the network lacks AUs that were asked for, the baseline cannot work, the rest
            levels do not fit, or there is no such precision.

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
        rest: RestLevels | None = None,
    ) -> None:
        self.config = config or AnalyzerConfig()
        self._rest = rest
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
        self._make_baseline()  # one that cannot work is refused here, not at the first face
        self._on_step = on_step or tell_nobody
        self._states: dict[str, _SourceFaces] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give the trackers back what they leave out when they are pickled."""
        self.__dict__.update(state)
        for source in self._states.values():
            source.tracker.attach(self.detector, self._landmarks)

    @property
    def _landmarks(self) -> Landmarks | None:
        return self.network.five_points if self.network.has_landmarks else None

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
            self._states[source].crop = None
            self._states[source].forget()

    def rest(self, source: str) -> RestLevels | None:
        """Return the rest levels of the person of a source who was seen at rest for longest.

        None where there is no baseline, or nobody was seen for long enough.
        """
        state = self._states.get(source)
        return None if state is None or state.baseline is None else state.baseline.richest

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
        look = self.look(frames)
        return self.show(look.drafts, look)

    def look(self, frames: Sequence[Frame]) -> Look:
        """Find and predict the faces of frames, in order within each source."""
        drafts = [self._locate(frame) for frame in frames]
        self._on_step("face")
        inputs, forward = self._predict(drafts)
        self._on_step("predict")
        return Look(drafts, inputs, forward)

    def show(self, drafts: Sequence[Draft], look: Look | None = None) -> list[Observation]:
        """Decide what is active in frames that were looked at, and explain it.

        Args:
            drafts: in order within each source, each once.
            look: that all of them came from, where it is still known: it saves a way forward.
        """
        for draft in drafts:
            self._decide_active(draft)
        if look is None:
            self._explain_active(drafts, self._inputs(drafts), None)
        else:
            self._explain_active(drafts, look.inputs, look.forward)
        self._on_step("explain")
        return [draft.finish() for draft in drafts]

    def _locate(self, frame: Frame) -> Draft:
        """Find the face of a frame."""
        source = self._state(frame.source)
        reconnected = source.epoch not in (None, frame.epoch)
        source.epoch = frame.epoch
        if reconnected:
            source.tracker.reset()
            source.crop = None
        face = source.tracker.update(frame.image)
        same = face.crop is None or source.continues(face.crop, self.config.baseline.same_face)
        return Draft(frame, source, face, reconnected, reconnected or not same)

    def _predict(self, drafts: Sequence[Draft]) -> tuple[torch.Tensor, lrp.Forward | None]:
        """Predict the AUs of all usable faces.

        Returns:
            The crops as the network takes them, prepared once for prediction and explanation; and
            the way forward where LRP can use it.
        """
        usable = [draft for draft in drafts if draft.face.crop is not None]
        inputs = self._inputs(drafts)
        forward = self._forward(inputs, [draft.source for draft in drafts])
        if forward is None or forward.hidden is None:
            prediction = self.network.predict_prepared(inputs)
        else:
            prediction = self.network.predict_from(forward.logits, forward.hidden)
        for row, draft in enumerate(usable):
            draft.presence = prediction.presence[row]
            if prediction.intensity is not None:
                draft.intensity = prediction.intensity[row]
        return inputs, forward

    def _inputs(self, drafts: Sequence[Draft]) -> torch.Tensor:
        """Return the crops of all usable faces as the network takes them."""
        size = self.network.card.input_size
        crops = [draft.face.crop for draft in drafts if draft.face.crop is not None]
        return self.network.prepare(np.array(crops, np.uint8).reshape(-1, size, size))

    def _decide_active(self, draft: Draft) -> None:
        """Decide which AUs of a frame are active, by their rise over rest where that is kept.

        Frames of one source must come in order.
        """
        source, frame, face = draft.source, draft.frame, draft.face
        baseline = source.baseline
        if draft.reconnected or (draft.new_face and baseline is not None):
            source.forget()
        if baseline is not None and draft.rest is not None:
            baseline.begin(draft.rest)
        if draft.presence is None:
            if baseline is not None:
                baseline.skip(frame.time_s)
            if face.state == FaceState.LOST:
                source.gate.reset()
        else:
            presence = draft.presence
            if baseline is not None:
                presence = draft.adjusted = baseline.update(frame.time_s, presence, face.quality)
            draft.active = np.flatnonzero(source.gate.update(presence) & self._takes_part).tolist()
        if baseline is not None:
            draft.baseline = baseline.state
            draft.rest_s, draft.rest_prior = baseline.rest_s, baseline.prior

    def _explain_active(
        self, drafts: Sequence[Draft], inputs: torch.Tensor, forward: lrp.Forward | None
    ) -> None:
        """Explain the active AUs of all frames as one batch."""
        usable = [draft for draft in drafts if draft.presence is not None]
        pairs = [(row, output) for row, draft in enumerate(usable) for output in draft.active]
        maps, descriptors, valid, on_gpu = self._explain(inputs, pairs, forward)
        for n, (row, output) in enumerate(pairs):
            draft, au = usable[row], self.network.card.aus[output]
            draft.maps[au] = maps[n]
            draft.descriptors[au] = descriptors[n] if valid[n] else None
            if on_gpu is not None:
                draft.on_gpu[au] = on_gpu[n]

    def _make_baseline(self) -> PersonalBaseline | None:
        if not self.config.baseline.enabled:
            return None
        baseline = PersonalBaseline.of_network(self.network.card, self.config.baseline)
        if self._rest is not None:
            baseline.begin(self._rest)
        return baseline

    def _state(self, source: str) -> _SourceFaces:
        if source not in self._states:
            card = self.network.card
            tracker = FaceTracker(
                self.detector,
                self._landmarks,
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

        What LRP needs of the way forward costs a quarter of it, so it is kept only where an AU was
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
        forward: lrp.Forward | None = None,
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
            if forward is None
            else forward.explain(pairs)
        )
        descriptors, valid = relevance.describe(
            maps, side=explain.descriptor_side, mode=explain.descriptor_mode
        )
        # A sum is not finite if any value is not. Everything above was only queued on the
        # device; this waits for it.
        if not math.isfinite(float(maps.sum())):
            aus = sorted({self.network.card.aus[output] for _, output in pairs})
            raise ModelError(
                f"{self.network.name} gave relevance that is not finite among AUs {aus}; check its "
                "weights and the normalisation in its card"
            )
        on_gpu = None if descriptors.device.type == "cpu" else descriptors
        return maps.cpu().numpy(), descriptors.cpu().numpy(), valid.cpu().numpy(), on_gpu
