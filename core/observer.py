"""The first half of the pipeline: frames in, explained Action Units out.

Face, prediction, on/off with hysteresis, and one relevance map per active AU; what live and
offline analysis share. Letters and stages come after, and differ between the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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

__all__ = ["Observation", "Observer", "turns"]

BASELINE_SLACK = 0.25
"""An AU may be active this far below its threshold, as the baseline of the frame before places it;
logits. More than a baseline moves from one frame to the next."""


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
        on_gpu: the descriptors once more where network and windows are on a GPU: on it, zeros where
            there is none.
        masks: Top-X projection ``(M, M)`` uint8 of every map, see
            :func:`~facestage.core.relevance.masks`, where they were made with the maps: on a GPU,
            if ``ExplainConfig.mask_side`` asks for it.
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
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)


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
        self.shift: NDArray[np.float32] | float = 0.0
        """What the baseline last added to the presence logits, ``(A,)``."""

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


@dataclass(slots=True, eq=False)
class _Draft:
    """The observation of one frame while it is being made.

    Attributes:
        frame: the frame.
        source: what is remembered of its source.
        face: its face.
        new_face, presence, intensity, baseline, maps, descriptors, on_gpu, masks: as in
            :class:`Observation`.
        adjusted: presence ``(A,)`` float32 after the baseline, or None while it subtracts nothing.
        active: outputs of the network whose AUs are active and take part, ascending.
    """

    frame: Frame
    source: _SourceFaces
    face: FaceObservation
    new_face: bool
    presence: NDArray[np.float32] | None = None
    intensity: NDArray[np.float32] | None = None
    baseline: BaselineState = BaselineState.OFF
    adjusted: NDArray[np.float32] | None = None
    active: list[int] = field(default_factory=list)
    maps: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    descriptors: dict[int, NDArray[np.float32] | None] = field(default_factory=dict)
    on_gpu: dict[int, torch.Tensor] = field(default_factory=dict)
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

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
            new_face=self.new_face,
            on_gpu=self.on_gpu,
            masks=self.masks,
        )


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
        if precision == "tf32" and network.device.type == "cpu":
            raise ConfigError(
                "LRP precision 'tf32' is for GPUs, and the network runs on the CPU; use float32, "
                "or --device cuda"
            )
        self._dtype = lrp.PRECISIONS[precision]
        self.shown = select_aus(network.card, self.config.aus)
        self._takes_part = np.isin(network.card.aus, self.shown)
        self._make_baseline()  # one that cannot work is refused here, not at the first face
        self._on_step = on_step or (lambda step: None)
        self._states: dict[str, _SourceFaces] = {}
        self._rounds: lrp.Rounds | None = None

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

        On a GPU everything that a round of frames can ask of it is recorded, so that no recording
        is made in mid-stream.
        """
        rounds = self._rounds_on_gpu()
        if rounds is not None:
            self.network.record()
            rounds.record()
            return
        size = self.network.card.input_size
        inputs = self.network.prepare(np.zeros((1, size, size), np.uint8))
        self.network.predict_prepared(inputs)
        self._explain(inputs, [(0, 0)])

    def update(self, frames: Sequence[Frame]) -> list[Observation]:
        """Observe frames, in order within each source; sources may be mixed.

        All crops go through the network as one batch, and so do all (frame, AU) pairs through LRP.
        """
        rounds = self._rounds_on_gpu()
        if rounds is not None:
            return self._update_on_gpu(frames, rounds)
        drafts = [self._locate(frame) for frame in frames]
        self._on_step("face")
        inputs, forward = self._predict(drafts)
        self._on_step("predict")
        for draft in drafts:
            self._decide_active(draft)
        self._explain_active(drafts, inputs, forward)
        self._on_step("explain")
        return [draft.finish() for draft in drafts]

    def _locate(self, frame: Frame) -> _Draft:
        """Find the face of a frame."""
        source, reconnected = self._connected(frame)
        return _Draft(frame, source, source.tracker.update(frame.image), reconnected)

    def _connected(self, frame: Frame) -> tuple[_SourceFaces, bool]:
        """Return the source of a frame, and whether it reconnected; its face is then forgotten."""
        source = self._state(frame.source)
        reconnected = source.epoch not in (None, frame.epoch)
        source.epoch = frame.epoch
        if reconnected:
            source.tracker.reset()
        return source, reconnected

    def _predict(self, drafts: Sequence[_Draft]) -> tuple[torch.Tensor, lrp.Forward | None]:
        """Predict the AUs of all usable faces.

        Returns:
            The crops as the network takes them, prepared once for prediction and explanation; and
            the way forward where LRP can use it.
        """
        usable = [draft for draft in drafts if draft.face.crop is not None]
        size = self.network.card.input_size
        crops = np.array([draft.face.crop for draft in usable], np.uint8)
        inputs = self.network.prepare(crops.reshape(-1, size, size))
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

    def _decide_active(self, draft: _Draft) -> None:
        """Decide which AUs of a frame are active, against the person's baseline where one is kept.

        Frames of one source must come in order.
        """
        source, frame, face = draft.source, draft.frame, draft.face
        if draft.new_face:
            source.forget()
        if draft.presence is None or face.crop is None:
            if source.baseline is not None:
                source.baseline.skip(frame.time_s)
            if face.state == FaceState.LOST:
                source.gate.reset()
            draft.baseline = source.baseline_state
            return
        if not source.continues(face.crop, self.config.baseline.same_face):
            draft.new_face = True
            if source.baseline is not None:
                source.baseline.reset()
                source.gate.reset()
        presence = draft.presence
        if source.baseline is not None:
            presence = source.baseline.update(frame.time_s, presence, face.quality)
        draft.baseline = source.baseline_state
        if draft.baseline == BaselineState.ACTIVE:
            draft.adjusted = presence
        draft.active = np.flatnonzero(source.gate.update(presence) & self._takes_part).tolist()

    def _explain_active(
        self, drafts: Sequence[_Draft], inputs: torch.Tensor, forward: lrp.Forward | None
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

    # ---- on a GPU

    def _rounds_on_gpu(self) -> lrp.Rounds | None:
        """Return what runs whole rounds on a GPU; None where the steps run one by one."""
        if self.network.device.type == "cpu":
            return None
        shape, explain = (1, *[self.network.card.input_size] * 2), self.config.explain
        model = self.network.logits_module
        engine = lrp.recorded_engine(model, shape, explain.preset, self._dtype)
        if engine is None:
            return None
        if self._rounds is None or self._rounds.engine is not engine:  # its weights changed
            outputs = np.flatnonzero(self._takes_part).tolist()
            self._rounds = lrp.Rounds(engine, self.network, outputs, self._summarise)
        return self._rounds

    def _summarise(self, maps: torch.Tensor) -> list[torch.Tensor]:
        """Return descriptors, which are valid, which maps are finite, and masks if wanted."""
        explain = self.config.explain
        descriptors, valid = relevance.describe(
            maps, side=explain.descriptor_side, mode=explain.descriptor_mode
        )
        # A sum is not finite if any value is not.
        found = [descriptors, valid, torch.isfinite(maps.sum(dim=(1, 2)))]
        if explain.mask_side is not None:
            found.append(relevance.masks(maps, explain.mask_side, explain.top_x))
        return found

    def _update_on_gpu(self, frames: Sequence[Frame], rounds: lrp.Rounds) -> list[Observation]:
        """Observe frames in recorded rounds: what may be active is explained as it is predicted."""
        drafts = self._locate_together(frames)
        self._on_step("face")
        usable = [draft for draft in drafts if draft.face.crop is not None]
        decided = 0
        for start in range(0, len(usable), rounds.most_frames):
            some = usable[start : start + rounds.most_frames]
            crops = np.array([draft.face.crop for draft in some], np.uint8)
            levels, expected = self._levels(some)
            found = rounds.run(crops, levels, expected)
            for row, draft in enumerate(some):
                draft.presence = found.presence[row]
                if found.intensity is not None:
                    draft.intensity = found.intensity[row]
            # Frames without a usable face are decided in their turn.
            upto = drafts.index(some[-1]) + 1
            for draft in drafts[decided:upto]:
                self._decide_active(draft)
                draft.source.shift = _shift(draft)
            decided = upto
            missed = self._take(some, found)
            if missed:
                levels = np.full_like(levels, lrp.NEVER)
                for row, output in missed:
                    levels[row, output] = lrp.ALWAYS
                self._take(some, rounds.run(crops, levels, len(missed)))
        for draft in drafts[decided:]:
            self._decide_active(draft)
        self._on_step("predict")
        self._on_step("explain")
        return [draft.finish() for draft in drafts]

    def _levels(self, drafts: Sequence[_Draft]) -> tuple[NDArray[np.float32], int]:
        """Return from which presence each AU of each frame may be active, and how many will be.

        Presence is judged after the baseline, which moves it by about as much as in the frame
        before. What is active all the same is explained after the others.
        """
        on, off = self.network.card.thresholds()
        levels = np.full((len(drafts), len(on)), lrp.NEVER, np.float32)
        seen: set[int] = set()
        expected = 0
        for row, draft in enumerate(drafts):
            source = draft.source
            # In its second frame of a round, an AU may have become active in the first one.
            again = id(source) in seen
            seen.add(id(source))
            active = source.gate.active
            level = np.where(active | again, off, on).astype(np.float32)
            if source.baseline is not None:
                level = _moved(level, -np.asarray(source.shift) - BASELINE_SLACK)
            levels[row, self._takes_part] = level[self._takes_part]
            expected += int((active & self._takes_part).sum()) + 1
        return levels, expected

    def _take(self, drafts: Sequence[_Draft], found: lrp.Round) -> list[tuple[int, int]]:
        """Take the maps of active AUs out of a round; return those it does not have."""
        descriptors, valid, finite, *masks = found.summaries
        on_gpu = None
        if self.config.window.device != "cpu":
            on_gpu = found.on_gpu[0].clone()  # the next round writes there
        missed = []
        for row, draft in enumerate(drafts):
            for output in draft.active:
                au = self.network.card.aus[output]
                slot = found.slots.get((row, output))
                if slot is None:
                    if au not in draft.maps:
                        missed.append((row, output))
                    continue
                if not finite[slot]:
                    raise self._not_finite([output])
                draft.maps[au] = found.maps[slot]
                draft.descriptors[au] = descriptors[slot] if valid[slot] else None
                if masks:
                    draft.masks[au] = masks[0][slot]
                if on_gpu is not None:
                    draft.on_gpu[au] = on_gpu[slot]
        return missed

    def _locate_together(self, frames: Sequence[Frame]) -> list[_Draft]:
        """Find the faces of frames; the landmarks of all sources are searched in one batch."""
        drafts: dict[int, _Draft] = {}
        for turn in turns([frame.source for frame in frames]):
            sources = [self._connected(frames[n]) for n in turn]
            crops = [
                source.tracker.foresee(frames[n].image)
                for n, (source, _) in zip(turn, sources, strict=True)
            ]
            asked = [crop for crop in crops if crop is not None]
            points = iter(self.network.five_points(np.stack(asked)) if asked else ())
            for n, (source, reconnected), crop in zip(turn, sources, crops, strict=True):
                found = None if crop is None else next(points)
                face = source.tracker.update(frames[n].image, found)
                drafts[n] = _Draft(frames[n], source, face, reconnected)
        return [drafts[n] for n in range(len(frames))]

    def _not_finite(self, outputs: Iterable[int]) -> ModelError:
        aus = sorted({self.network.card.aus[output] for output in outputs})
        return ModelError(
            f"{self.network.name} gave relevance that is not finite among AUs {aus}; check its "
            "weights and the normalisation in its card"
        )

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
            raise self._not_finite(output for _, output in pairs)
        on_gpu = None if descriptors.device.type == "cpu" else descriptors
        return maps.cpu().numpy(), descriptors.cpu().numpy(), valid.cpu().numpy(), on_gpu


def turns(sources: Sequence[str]) -> Iterator[list[int]]:
    """Give the positions of one frame of each source at a time, in order within each source."""
    waiting = list(range(len(sources)))
    while waiting:
        turn: dict[str, int] = {}
        for position in waiting:
            turn.setdefault(sources[position], position)
        yield list(turn.values())
        waiting = [position for position in waiting if position not in turn.values()]


def _moved(presence: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities whose logits were moved."""
    p = np.clip(presence.astype(np.float64), 1e-9, 1 - 1e-9)
    return (1 / (1 + np.exp(-(np.log(p / (1 - p)) + by)))).astype(np.float32)


def _shift(draft: _Draft) -> NDArray[np.float32] | float:
    """Return what the baseline added to the presence logits of a frame."""
    if draft.adjusted is None or draft.presence is None:
        return 0.0
    before, after = (
        np.clip(presence.astype(np.float64), 1e-9, 1 - 1e-9)
        for presence in (draft.presence, draft.adjusted)
    )
    return np.log(after / (1 - after) * (1 - before) / before).astype(np.float32)
