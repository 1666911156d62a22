"""The first half of the pipeline: frames in, explained Action Units out.

Face, prediction, on/off with hysteresis, and one relevance map per active AU; what live and
offline analysis share. Letters and stages come after, and differ between the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import lrp, relevance
from .baseline import PersonalBaseline, adjust_intensity, presence_for
from .config import AnalyzerConfig
from .errors import ConfigError, ModelError
from .face.likeness import LastFaces
from .face.people import People, check_follow
from .face.tracker import Detector, FaceTracker, Landmarks
from .network.au_network import AUNetwork
from .network.selection import select_aus, staging_aus
from .stages import PresenceGate
from .types import BaselineState, FaceObservation, FaceState, Frame, RestLevels

__all__ = ["Draft", "Look", "Observation", "Observer", "stream_name", "turns"]

BASELINE_SLACK = 0.25
"""What a baseline takes off the logits of an AU may become less by this within the frames of one
source that are looked at together; logits. It is more than a second of frames changes."""


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
        baseline, adjusted_presence, adjusted_intensity, rest_s, rest_prior: as in
            :class:`~facestage.core.types.FrameResult`.
        new_face: the frame does not continue the last one with a usable face: another connection,
            or another person.
        other_person: its face is not that of the last one with a usable face.
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
    other_person: bool = False
    on_gpu: dict[int, torch.Tensor] = field(default_factory=dict)
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)


def stream_name(source: str, place: int) -> str:
    """Return the name of the stream of one face of a source: ``cam``, ``cam/2``, ``cam/3``, …

    Args:
        source: name of the source.
        place: 0 for whoever is followed, then 1, 2, …
    """
    return source if place == 0 else f"{source}/{place + 1}"


class _SourceFaces:
    """What the observer remembers of one face of a source."""

    def __init__(
        self, gate: PresenceGate, baseline: PersonalBaseline | None, last: LastFaces
    ) -> None:
        self.gate = gate
        self.baseline = baseline
        self.last = last
        self.person: int | None = None

    def forget(self) -> None:
        """Forget who was judged and what was active."""
        self.gate.reset()
        if self.baseline is not None:
            self.baseline.reset()

    def changes(self, person: int | None) -> bool:
        """Note whose usable face is seen now; return whether the last one was another's."""
        before = self.person
        self.person = before if person is None else person
        if before in (None, self.person):
            return False
        self.last.forget()
        return True


class _Source:
    """What the observer remembers of one source: who is in it, and its connection."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.epoch: int | None = None


@dataclass(slots=True, eq=False)
class Draft:
    """The observation of one frame while it is being made.

    Attributes:
        frame: the frame.
        source: what is remembered of its source.
        face: its face.
        reconnected: the source's connection is another than that of the frame before.
        other_person, presence, intensity, baseline, rest_s, rest_prior, maps, descriptors, on_gpu,
            masks: as in :class:`Observation`.
        rest: rest levels with which the person begins in this frame, where they are known.
        adjusted: presence ``(A,)`` float32 after the baseline, or None without one.
        active: outputs of the network whose AUs are active and take part, ascending.
    """

    frame: Frame
    source: _SourceFaces
    face: FaceObservation
    reconnected: bool
    other_person: bool
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
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def new_face(self) -> bool:
        """Whether what is remembered of the source's last person does not hold for this one."""
        return self.reconnected or self.other_person

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
            other_person=self.other_person,
            on_gpu=self.on_gpu,
            masks=self.masks,
        )


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
    def of(cls, source: _SourceFaces, time_s: float, aus: int) -> _Ahead:
        """Tell what is known of a frame at this time."""
        baseline = source.baseline
        if baseline is None or baseline.stale(time_s):
            return cls(source.gate.active, np.zeros(aus, np.float32))
        return cls(source.gate.active, baseline.offsets)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What a round on a GPU shows of frames.

    Attributes:
        drafts: the frames, in the order of the round's rows.
        round: what it shows.
        on_gpu: descriptors ``(P, D)`` of its pairs on the GPU where the windows are there, too.
    """

    drafts: Sequence[Draft]
    round: lrp.Round
    on_gpu: torch.Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Frames of which is known what the network says, not yet what is active.

    Attributes:
        drafts: one per frame.
        inputs: the crops of all usable faces as the network takes them; None where the frames went
            through recorded rounds on a GPU.
        forward: its way forward, where LRP can use it.
        found: what the rounds found, with the maps of what may be active.
    """

    drafts: list[Draft]
    inputs: torch.Tensor | None
    forward: lrp.Forward | None
    found: Sequence[_Found] = ()


class Observer:
    """Turn frames into explained Action Units.

    Args:
        detector: finds faces.
        network: the AU network.
        config: all defaults, when not given.
        rest: rest levels with which the first person of every source begins.

    Raises:
        ConfigError: the network lacks AUs that were asked for, the baseline cannot work, the rest
            levels do not fit, or there is no such precision.

    Attributes:
        shown: AUs that take part, in the order of the card.
        staged: those of them that make stages.
    """

    def __init__(
        self,
        detector: Detector,
        network: AUNetwork,
        config: AnalyzerConfig | None = None,
        *,
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
        if precision == "tf32" and network.device.type == "cpu":
            raise ConfigError(
                "LRP precision 'tf32' is for GPUs, and the network runs on the CPU; use float32, "
                "or --device cuda"
            )
        self._dtype: lrp.Reduced = lrp.PRECISIONS[precision]
        self.shown = select_aus(network.card, self.config.aus)
        self.staged = frozenset(staging_aus(network.card, self.shown, self.config.stage_aus))
        self._takes_part = np.isin(network.card.aus, self.shown)
        self._make_baseline()  # one that cannot work is refused here, not at the first face
        check_follow(self.config.follow)
        self._sources: dict[str, _Source] = {}
        self._states: dict[str, _SourceFaces] = {}
        self._rounds: lrp.Rounds | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the recordings when pickled: they belong to the GPU of this process."""
        return {**self.__dict__, "_rounds": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give the trackers back what they leave out when they are pickled."""
        self.__dict__.update(state)
        for source in self._sources.values():
            source.people.attach(self.detector, self._landmarks)

    @property
    def _landmarks(self) -> Landmarks | None:
        return self.network.five_points if self.network.has_landmarks else None

    def reset(self, source: str | None = None) -> None:
        """Forget one source (its face and which AUs were active), or all."""
        if source is None:
            self._sources.clear()
            self._states.clear()
            return
        self._sources.pop(source, None)
        for stream in self.streams(source):
            self._states.pop(stream, None)

    def streams(self, source: str) -> list[str]:
        """Return the streams of a source: one for each of its faces that may be analysed."""
        return [stream_name(source, place) for place in range(self.config.follow.faces)]

    def gap(self, source: str) -> None:
        """Tell that a source paused: its faces and which AUs were active are not known any more.

        ``source`` may also be the stream of another of its faces.
        """
        if source in self._sources:
            self._sources[source].people.pause()
        if source in self._states:
            self._states[source].last.forget()
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

        There is one observation a frame, of the face that is followed; where several faces of a
        source are analysed, one more for each other face, under the name of its stream.

        All crops go through the network as one batch, and so do all (frame, AU) pairs through LRP.
        On a GPU both are one recorded round: what may be active is explained as it is predicted.
        """
        look = self.look(frames)
        return self.show(look.drafts, look)

    def look(self, frames: Sequence[Frame]) -> Look:
        """Find and predict the faces of frames, in order within each source."""
        rounds = self._rounds_on_gpu()
        if rounds is not None:
            return self._look_on_gpu(frames, rounds)
        if self.config.follow.faces == 1:
            drafts = [self._locate(frame) for frame in frames]
        else:
            drafts = self._locate_together(frames)
        inputs, forward = self._predict(drafts)
        return Look(drafts, inputs, forward)

    def show(self, drafts: Sequence[Draft], look: Look | None = None) -> list[Observation]:
        """Decide what is active in frames that were looked at, and explain it.

        Args:
            drafts: in order within each source, each once.
            look: that all of them came from, where it is still known: it saves a way forward, and
                on a GPU the maps that it found already.
        """
        for draft in drafts:
            self._decide_active(draft)
        rounds = self._rounds_on_gpu()
        if rounds is not None:
            self._explain_on_gpu(drafts, rounds, () if look is None else look.found)
        elif look is None or look.inputs is None:
            self._explain_active(drafts, self._inputs(drafts), None)
        else:
            self._explain_active(drafts, look.inputs, look.forward)
        return [draft.finish() for draft in drafts]

    def _locate(self, frame: Frame) -> Draft:
        """Find the face of a frame."""
        people, reconnected = self._connected(frame)
        (face,) = people.update(frame.image)
        return self._begun(frame, people, 0, face, reconnected)

    def _connected(self, frame: Frame) -> tuple[People, bool]:
        """Return who is in a frame, and whether its source reconnected: they may be anywhere."""
        if frame.source not in self._sources:
            self._sources[frame.source] = _Source(self._make_people())
        source = self._sources[frame.source]
        reconnected = source.epoch not in (None, frame.epoch)
        source.epoch = frame.epoch
        if reconnected:
            source.people.pause()
            for stream in self.streams(frame.source):
                if stream in self._states:
                    self._states[stream].last.forget()
        return source.people, reconnected

    def _begun(
        self, frame: Frame, people: People, place: int, face: FaceObservation, reconnected: bool
    ) -> Draft:
        """Begin the observation of one of the faces of a frame."""
        name = stream_name(frame.source, place)
        source = self._state(name)
        other = False
        if face.crop is not None:
            other = source.changes(face.id)
            if (
                not source.last.continues(face.crop, frame.time_s)
                and people.likeness(place, face.crop) < self.config.follow.alike
            ):
                face = people.another(place, face)
                other = source.changes(face.id) or other
        seen = frame if place == 0 else replace(frame, source=name)
        return Draft(seen, source, face, reconnected, other)

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
        if draft.new_face:
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

    def _look_on_gpu(self, frames: Sequence[Frame], rounds: lrp.Rounds) -> Look:
        """Predict the faces of frames in recorded rounds that also explain what may be active."""
        drafts = self._locate_together(frames)
        usable = [draft for draft in drafts if draft.face.crop is not None]
        levels, expected = self._levels(drafts)
        found = []
        most = rounds.most_frames
        for start in range(0, len(usable), most):
            part = slice(start, start + most)
            found.append(self._run(rounds, usable[part], levels[part], int(expected[part].sum())))
            seen = found[-1].round
            for row, draft in enumerate(usable[part]):
                draft.presence = seen.presence[row]
                if seen.intensity is not None:
                    draft.intensity = seen.intensity[row]
        return Look(drafts, None, None, found)

    def _explain_on_gpu(
        self, drafts: Sequence[Draft], rounds: lrp.Rounds, found: Sequence[_Found]
    ) -> None:
        """Take the maps of active AUs out of rounds; those that are in none need another one."""
        for one in found:
            self._take(one)
        aus, missing = self.network.card.aus, []
        for draft in drafts:
            outputs = [output for output in draft.active if aus[output] not in draft.maps]
            if outputs:
                missing.append((draft, outputs))
        most = rounds.most_frames
        for start in range(0, len(missing), most):
            part = missing[start : start + most]
            levels = np.full((len(part), len(aus)), lrp.NEVER, np.float32)
            for row, (_, outputs) in enumerate(part):
                levels[row, outputs] = lrp.ALWAYS
            expected = sum(len(outputs) for _, outputs in part)
            self._take(self._run(rounds, [draft for draft, _ in part], levels, expected))

    def _run(
        self,
        rounds: lrp.Rounds,
        drafts: Sequence[Draft],
        levels: NDArray[np.float32],
        expected: int,
    ) -> _Found:
        """Run a round of frames with usable faces."""
        found = rounds.run(np.array([d.face.crop for d in drafts], np.uint8), levels, expected)
        # The next round writes where these descriptors are.
        on_gpu = None if self.config.window.device == "cpu" else found.on_gpu[0].clone()
        return _Found(drafts, found, on_gpu)

    def _levels(self, drafts: Sequence[Draft]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
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
            source = draft.source
            if id(source) not in ahead:
                ahead[id(source)] = _Ahead.of(source, draft.frame.time_s, len(on))
            state = ahead[id(source)]
            if draft.new_face:
                state.active[:] = False
                state.offsets[:] = 0.0
            if draft.face.crop is None:
                continue
            level = np.where(state.active | state.later, off, on)
            slack = BASELINE_SLACK if state.later and source.baseline is not None else 0.0
            level = presence_for(level, state.offsets - np.float32(slack))
            levels[row, self._takes_part] = level[self._takes_part]
            expected[row] += int((state.active & self._takes_part).sum())
            state.later = True
            row += 1
        return levels, expected

    def _take(self, found: _Found) -> None:
        """Take the maps of active AUs out of a round."""
        descriptors, valid, finite, *masks = found.round.summaries
        for row, draft in enumerate(found.drafts):
            for output in draft.active:
                slot = found.round.slots.get((row, output))
                if slot is None:
                    continue
                if not finite[slot]:
                    raise self._not_finite([output])
                au = self.network.card.aus[output]
                draft.maps[au] = found.round.maps[slot]
                draft.descriptors[au] = descriptors[slot] if valid[slot] else None
                if masks:
                    draft.masks[au] = masks[0][slot]
                if found.on_gpu is not None:
                    draft.on_gpu[au] = found.on_gpu[slot]

    def _locate_together(self, frames: Sequence[Frame]) -> list[Draft]:
        """Find the faces of frames; the landmarks of all sources are searched in one batch."""
        drafts: dict[int, list[Draft]] = {}
        for turn in turns([frame.source for frame in frames]):
            sources = [self._connected(frames[n]) for n in turn]
            crops = [
                people.foresee(frames[n].image)
                for n, (people, _) in zip(turn, sources, strict=True)
            ]
            asked = [crop for some in crops for crop in some if crop is not None]
            points = iter(self.network.five_points(np.stack(asked)) if asked else ())
            for n, (people, reconnected), some in zip(turn, sources, crops, strict=True):
                found = [None if crop is None else next(points) for crop in some]
                faces = people.update(frames[n].image, found)
                drafts[n] = [
                    self._begun(frames[n], people, place, face, reconnected)
                    for place, face in enumerate(faces)
                    if place == 0 or self._known(frames[n].source, place, face)
                ]
        return [draft for n in range(len(frames)) for draft in drafts[n]]

    def _known(self, source: str, place: int, face: FaceObservation) -> bool:
        """Tell whether anybody is or was in a place; before that it is not spoken of."""
        return face.state != FaceState.LOST or stream_name(source, place) in self._states

    def _not_finite(self, outputs: Iterable[int]) -> ModelError:
        aus = sorted({self.network.card.aus[output] for output in outputs})
        return ModelError(
            f"{self.network.name} gave relevance that is not finite among AUs {aus}; check its "
            "weights and the normalisation in its card"
        )

    def _make_baseline(self, first: bool = True) -> PersonalBaseline | None:
        """Make a baseline; rest levels that are known are those of the ``first`` face."""
        if not self.config.baseline.enabled:
            return None
        baseline = PersonalBaseline.of_network(self.network.card, self.config.baseline)
        if self._rest is not None and first:
            baseline.begin(self._rest)
        return baseline

    def _make_people(self) -> People:
        return People(self.detector, self._landmarks, self._make_tracker, self.config.follow)

    def _make_tracker(self, detector: Detector, landmarks: Landmarks | None) -> FaceTracker:
        card = self.network.card
        return FaceTracker(
            detector,
            landmarks,
            card.template,
            card.template_weights,
            card.input_size,
            card.box_points.get(detector.name),
            self.config.face,
        )

    def _state(self, stream: str) -> _SourceFaces:
        if stream not in self._states:
            gate = PresenceGate(*self.network.card.thresholds())
            baseline = self._make_baseline(first=stream in self._sources)
            last = LastFaces(self.config.face.same_person)
            self._states[stream] = _SourceFaces(gate, baseline, last)
        return self._states[stream]

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
