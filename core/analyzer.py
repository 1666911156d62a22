"""The eight steps as one object: frames in, explained stages and their changes out, live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from .action_units import parse_label
from .backend import on_stream_of_torch, same_gpu
from .config import AnalyzerConfig
from .errors import ConfigError
from .face.reasons import letter_changes
from .face.region_shares import Shares, region_parts, shares, strongest
from .face.tracker import Detector
from .lrp import Counts, EngineChoice, lrp_preset
from .network.au_network import AUNetwork
from .observer import Observation, Observer, turns
from .stages import StageTracker
from .types import (
    LOST,
    OTHER_PERSON,
    FaceChange,
    FaceState,
    Frame,
    FrameResult,
    PrototypeDrifted,
    PrototypeFound,
    PrototypeRetired,
    RestLevels,
    StageEvent,
    StageLabels,
)
from .window import MapInput, WindowBank, WindowUpdate
from .window.letters import LetterTrack

__all__ = ["Analyzer"]

_Event = StageEvent | PrototypeFound | PrototypeDrifted | PrototypeRetired | FaceChange


class _SourceTracks:
    """Windows, stage and face state of one stream: of one face of a source.

    Args:
        config: constants of all steps.
        bank: holds the windows.
        on_thresholds: AU number → presence from which it is on.
        parts: ``(S, S)`` uint8 parts of the face in aligned maps.
    """

    def __init__(
        self,
        config: AnalyzerConfig,
        bank: WindowBank,
        on_thresholds: dict[int, float],
        staged: frozenset[int],
        parts: NDArray[np.uint8],
    ) -> None:
        self._staged = staged
        self.bank = bank
        self.own_letters = config.follow.faces > 1
        self.windows: dict[int, int] = {}
        self.stages = StageTracker(config.stage)
        self.face: FaceState | None = None
        self.epoch: int | None = None
        self.index = -1
        self.running: set[int] = set()
        self._on = on_thresholds
        self._parts = parts
        self._before: StageLabels | None = None  # of the stage before the current one

    def begin(self, seen: Observation) -> tuple[list[_Event], dict[int, MapInput]]:
        """Note a frame; return the events before its letters, and its map of each AU."""
        frame = seen.frame
        events: list[_Event] = []
        if self.epoch is not None and frame.epoch != self.epoch:
            events += self.gap()
        self.epoch, self.index = frame.epoch, frame.index
        if seen.face.state != self.face or seen.other_person:
            reason = OTHER_PERSON if seen.other_person else seen.face.reason
            events.append(FaceChange(seen.face.state, self.face, reason, frame.index))
            self.face = seen.face.state
        if seen.other_person:
            self._break(self.windows.keys())
            events += self.stages.other_person(frame.index, frame.time_s)
            if self.own_letters:
                events += self._retire(frame.index)
        if seen.presence is None:
            return events, {}
        self._break(self.windows.keys() - seen.maps.keys())
        presence = seen.presence if seen.adjusted_presence is None else seen.adjusted_presence
        level = dict(zip(self._on, presence, strict=True))
        maps: dict[int, MapInput] = {}
        for au, relevance in seen.maps.items():
            descriptor = seen.descriptors[au]
            if descriptor is None and au not in self.windows:
                continue  # no evidence yet that a prototype could show
            if au not in self.windows:
                self.windows[au] = self.bank.open()
            self.running.add(au)
            mass = float(np.maximum(relevance, 0.0).sum())
            confident = bool(level[au] >= self._on[au])
            slot = self.windows[au]
            picture = seen.pictures.get(au, relevance)
            maps[au] = MapInput(slot, frame.index, descriptor, picture, mass, confident)
        return events, maps

    def end(
        self, seen: Observation, events: list[_Event], found: dict[int, WindowUpdate]
    ) -> FrameResult:
        """Turn the letters of a frame into its stage."""
        frame = seen.frame
        for au, update in found.items():
            track = self.bank.track(self.windows[au])
            for letter in update.born:
                relevance = track.prototype(letter)
                regions = strongest(shares(relevance, self._parts))
                events.append(PrototypeFound(au, letter, relevance, frame.index, regions))
            events += [
                PrototypeDrifted(
                    au, letter, track.prototype(letter), track.drift(letter), frame.index
                )
                for letter in update.drifted
                if letter in track.letters
            ]
            retired = (*update.retired, *((letter, None) for letter in update.forgotten))
            events += [PrototypeRetired(au, letter, into, frame.index) for letter, into in retired]
        letters = (
            None
            if seen.presence is None
            else {au: (update.letter, update.since) for au, update in found.items()}
        )
        lost = seen.face.state == FaceState.LOST
        if lost:
            self._break(self.windows.keys())
        staged = letters and {au: letters[au] for au in letters if au in self._staged}
        changes = self.stages.update(frame.index, frame.time_s, staged, lost=lost)
        events += [self._explained(event) for event in changes]
        if self.stages.labels == LOST:
            self._break(self.windows.keys())
        return FrameResult(
            frame=frame,
            face=seen.face,
            presence=seen.presence,
            intensity=seen.intensity,
            active=tuple(sorted(seen.maps)),
            maps=seen.maps,
            masks=seen.masks,
            pictures={} if seen.pictures is seen.maps else seen.pictures,
            letters={au: letter for au, (letter, _) in (letters or {}).items()},
            stage=self.stages.labels,
            events=tuple(events),
            log={"frames_explained": int(bool(seen.maps)), "pairs_explained": len(seen.maps)},
            baseline=seen.baseline,
            adjusted_presence=seen.adjusted_presence,
            adjusted_intensity=seen.adjusted_intensity,
            rest_s=seen.rest_s,
            rest_prior=seen.rest_prior,
        )

    def _explained(self, event: StageEvent) -> StageEvent:
        """Say of a new stage, or of a corrected one, what changed from the stage before it."""
        if event.kind == "exit":
            return event
        if event.kind == "enter":
            self._before = event.previous
        changes = letter_changes(self._before, event.labels, self._shares_of)
        return replace(event, changes=changes)

    def _shares_of(self, label: str) -> Shares | None:
        """Return the shares of a prototype as it is now; None if it is not known any more."""
        au, letter = parse_label(label)
        if au not in self.windows or letter is None:
            return None
        track = self.bank.track(self.windows[au])
        if not track.knows(letter):
            return None
        return shares(track.prototype(letter), self._parts)

    def _retire(self, at: int) -> list[_Event]:
        """End the letters of a person whose place another one has now."""
        events: list[_Event] = []
        for au, slot in self.windows.items():
            letters = self.bank.track(slot).letters
            events += [PrototypeRetired(au, letter, None, at) for letter in letters]
        self.close()
        return events

    def close(self) -> None:
        """Give all windows back."""
        for slot in self.windows.values():
            self.bank.close(slot)
        self.windows.clear()

    def gap(self) -> list[StageEvent]:
        self._break(self.windows.keys())
        return self.stages.gap()

    def _break(self, aus: Iterable[int]) -> None:
        """End the runs of these AUs: what comes next does not follow what was."""
        for au in self.running & set(aus):
            self.bank.gap(self.windows[au])
            self.running.discard(au)


class Analyzer:
    """Explain faces live, for any number of sources.

    State advances by :meth:`update`; whether 100 frames come one by one or as one batch changes
    nothing but the speed.

    It can be pickled with its network and all that it knows of its sources, and goes on where it
    was, if its detector can be; those of facestage can.

    Args:
        detector: finds faces, see ``facestage.stream.detectors.make_detector``.
        model: the AU network; the embedded one when not given.
        config: constants of all steps.
        device: torch device for the embedded network (``auto``, ``cpu``, ``cuda``, ``cuda:1``);
            a given ``model`` brings its own.
        rest: rest levels with which the first person of every source begins, or source → those of
            its first person.

    Attributes:
        network: the AU network.
        window_device: where the windows are.

    Raises:
        ConfigError: a value of the configuration cannot work.
        ModelError: the embedded weights are damaged.
        DeviceError: a device does not exist on this machine, or network and windows are to be on
            two GPUs.
    """

    def __init__(
        self,
        detector: Detector,
        model: AUNetwork | None = None,
        config: AnalyzerConfig | None = None,
        *,
        device: str = "auto",
        rest: RestLevels | Mapping[str, RestLevels] | None = None,
    ) -> None:
        self.config = config or AnalyzerConfig()
        # What cannot work is refused here, not at the first face.
        StageTracker(self.config.stage)
        side = self.config.explain.descriptor_side
        lrp_preset(self.config.explain.preset)
        self.network = model or AUNetwork.load(device=device)
        self.window_device = same_gpu(self.config.window.device, self.network.device)
        self._bank = WindowBank(self.config.window, side * side, self.window_device)
        self._observer = Observer(detector, self.network, self.config, rest=rest)
        on, _ = self.network.card.thresholds()
        self._on = dict(zip(self.network.card.aus, (float(v) for v in on), strict=True))
        card = self.network.card
        self._parts = region_parts(card.template, card.input_size)
        self._states: dict[str, _SourceTracks] = {}

    @property
    def shown(self) -> tuple[int, ...]:
        """AUs that take part, in the order of the model's card."""
        return self._observer.shown

    @property
    def staged(self) -> frozenset[int]:
        """Those of them that make stages."""
        return self._observer.staged

    def rest(self, source: str) -> RestLevels | None:
        """Return the rest levels of the person of a source who was seen at rest for longest.

        None where there is no baseline, or nobody was seen for long enough.
        """
        return self._observer.rest(source)

    @property
    def detector(self) -> Detector:
        """The face detector in use."""
        return self._observer.detector

    @property
    def detector_name(self) -> str:
        """Name of the face detector in use."""
        return self.detector.name

    @property
    def engine(self) -> EngineChoice:
        """LRP engine in use; prepares the network on first use, see :meth:`warm_up`."""
        return self._observer.engine

    @property
    def counts(self) -> Counts:
        """What the fused LRP engine has done for the network, whoever asked it to."""
        return self._observer.counts

    def warm_up(self) -> None:
        """Prepare network, LRP and windows ahead of the first frame; changes no state."""
        self._observer.warm_up()
        with on_stream_of_torch(self._bank.module, self.window_device):
            self._bank.warm_up()

    def prepare(self, frame: Frame) -> None:
        """Find the faces of the next frame of a source ahead of :meth:`update`.

        It changes no result, but ``update`` must be given this frame next. Another thread may do so
        from the moment in which ``update`` has looked at the frame before it (``on_looked``), one
        at a time for each source; :meth:`gap` and :meth:`reset` have to wait for it, and the
        network must be prepared (:meth:`warm_up`). The detector must bear to be asked by several
        threads.
        """
        self._observer.prepare(frame)

    def update(
        self, frames: Sequence[Frame], on_looked: Callable[[], None] | None = None
    ) -> list[FrameResult]:
        """Analyse frames and return one result each, in the same order.

        Where several faces of a source are analysed (``FollowConfig.faces``), the result of the
        one followed is followed by those of the others, in streams of their own: ``frame.source``
        is ``cam`` for the first and ``cam/2``, ``cam/3``, … for them. A place in which nobody was
        yet has no result. A person keeps their place; whoever takes another's begins with no
        letters.

        Args:
            frames: ascending by index within each source; sources may be mixed. A new ``epoch``
                of a source, or a face that is another person's, ends its stage and starts the
                next one afresh; where one face of a source is analysed, letters are kept.
            on_looked: called once all frames were looked at and only their explanation is left, see
                :meth:`prepare`.

        Raises:
            ConfigError: a frame does not come after the one before it; nothing is analysed then.
        """
        last = {source: state.index for source, state in self._states.items()}
        for frame in frames:
            if frame.index <= last.get(frame.source, -1):
                raise ConfigError(
                    f"{frame.source}: frame {frame.index} came after frame {last[frame.source]}; "
                    "hand frames over in order, or reset() the source"
                )
            last[frame.source] = frame.index
        look = self._observer.look(frames)
        if on_looked is not None:
            on_looked()
        return self._name(self._observer.show(look.drafts, look))

    def _name(self, seen: Sequence[Observation]) -> list[FrameResult]:
        """Give letters and stages; the windows of all sources go through the bank together."""
        results: dict[int, FrameResult] = {}
        for turn in turns([one.frame.source for one in seen]):
            # Windows are opened on their own device, too: in this thread another may be current.
            with on_stream_of_torch(self._bank.module, self.window_device):
                begun: list[tuple[int, _SourceTracks, list[_Event], dict[int, MapInput]]] = []
                for position in turn:
                    state = self._state(seen[position].frame.source)
                    begun.append((position, state, *state.begin(seen[position])))
                maps = [new for *_, by_au in begun for new in by_au.values()]
                rows = [
                    seen[position].on_gpu.get(au) for position, *_, by_au in begun for au in by_au
                ]
                updates = iter(self._bank.update(maps, _on_gpu(rows)))
            for position, state, events, by_au in begun:
                letters = {au: next(updates) for au in by_au}
                results[position] = state.end(seen[position], events, letters)
        return [results[position] for position in range(len(seen))]

    def _state(self, source: str) -> _SourceTracks:
        if source not in self._states:
            self._states[source] = _SourceTracks(
                self.config, self._bank, self._on, self._observer.staged, self._parts
            )
        return self._states[source]

    def prototypes(self, source: str) -> dict[int, LetterTrack]:
        """Return the window of each AU of a source that was ever active (read, do not update)."""
        state = self._states.get(source)
        if state is None:
            return {}
        return {au: self._bank.track(slot) for au, slot in state.windows.items()}

    def streams(self, source: str) -> list[str]:
        """Return the streams of a source, one for each of its faces that may be analysed."""
        return self._observer.streams(source)

    def gap(self, source: str) -> list[StageEvent]:
        """Tell that a source (or one of its :meth:`streams`) paused; return its stage's exit."""
        self._observer.gap(source)
        state = self._states.get(source)
        return [] if state is None else state.gap()

    def finish(self, source: str) -> list[StageEvent]:
        """End a source (or another of its :meth:`streams`); return its last events.

        Its letters stay until :meth:`reset`.
        """
        state = self._states.get(source)
        return [] if state is None else state.stages.finish()

    def reset(self, source: str | None = None) -> None:
        """Forget one source, or all: the next frame is the first."""
        self._observer.reset(source)
        streams = list(self._states) if source is None else self.streams(source)
        for name in streams:
            state = self._states.pop(name, None)
            if state is not None:
                state.close()


def _on_gpu(rows: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Return rows on a GPU as one tensor ``(n, D)``; None where there are none."""
    found = [row for row in rows if row is not None]
    return torch.stack(found) if found and len(found) == len(rows) else None
