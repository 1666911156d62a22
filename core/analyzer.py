"""The eight steps as one object: frames in, explained stages and their changes out, live."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .config import AnalyzerConfig
from .face import Detector
from .network import AUNetwork
from .observer import Observation, Observer
from .stages import StageTracker
from .types import (
    FaceChange,
    FaceState,
    Frame,
    FrameResult,
    PrototypeNew,
    PrototypeRetire,
    StageEvent,
)
from .window import PrototypeWindow

__all__ = ["Analyzer"]

_Event = StageEvent | PrototypeNew | PrototypeRetire | FaceChange


class _SourceState:
    """Windows, stage and face state of one source."""

    def __init__(self, config: AnalyzerConfig) -> None:
        self.config = config
        self.windows: dict[int, PrototypeWindow] = {}
        self.stages = StageTracker(config.stage)
        self.face: FaceState | None = None
        self.epoch: int | None = None
        self.on: frozenset[int] = frozenset()

    def update(self, seen: Observation) -> FrameResult:
        frame = seen.frame
        events: list[_Event] = []
        if self.epoch is not None and frame.epoch != self.epoch:
            events += self.gap()
        self.epoch = frame.epoch
        if seen.face.state != self.face:
            events.append(FaceChange(seen.face.state, self.face, seen.face.reason, frame.index))
            self.face = seen.face.state

        letters: dict[int, tuple[str, int]] | None = None
        if seen.presence is not None:
            letters = {}
            for au in self.on - seen.maps.keys():
                self.windows[au].gap()
            for au, relevance in seen.maps.items():
                if au not in self.windows:
                    self.windows[au] = PrototypeWindow(self.config.window)
                window = self.windows[au]
                found = window.update(frame.index, seen.descriptors[au], relevance)
                letters[au] = (found.letter, found.since)
                events += [
                    PrototypeNew(au, letter, window.prototype(letter), frame.index)
                    for letter in found.born
                ]
                events += [
                    PrototypeRetire(au, letter, into, frame.index) for letter, into in found.retired
                ]
            self.on = frozenset(seen.maps)
        elif self.on and seen.face.state == FaceState.LOST:
            for au in self.on:
                self.windows[au].gap()
            self.on = frozenset()
        lost = seen.face.state == FaceState.LOST
        events += self.stages.update(frame.index, frame.time_s, letters, lost=lost)
        return FrameResult(
            frame=frame,
            face=seen.face,
            presence=seen.presence,
            intensity=seen.intensity,
            active=tuple(sorted(seen.maps)),
            maps=seen.maps,
            letters={au: letter for au, (letter, _) in (letters or {}).items()},
            stage=self.stages.labels,
            events=tuple(events),
            log={"pairs": float(len(seen.maps))},
        )

    def gap(self) -> list[StageEvent]:
        for window in self.windows.values():
            window.gap()
        self.on = frozenset()
        return self.stages.gap()


class Analyzer:
    """Explain faces live, for any number of sources.

    State advances by :meth:`update`; whether 100 frames come one by one or as one batch changes
    nothing but the speed.

    Args:
        detector: finds faces, see ``facestage.stream.detectors.make_detector``.
        model: the AU network; the embedded one when not given.
        config: constants of all steps.
        device: torch device for the embedded network (``auto``, ``cpu``, ``cuda``, ``cuda:1``);
            a given ``model`` brings its own.
        on_step: called with the name of each step as it ends, so that a caller can time them.

    Raises:
        ModelError: the embedded weights are damaged.
        DeviceError: the device does not exist on this machine.
    """

    def __init__(
        self,
        detector: Detector,
        model: AUNetwork | None = None,
        config: AnalyzerConfig | None = None,
        *,
        device: str = "auto",
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config or AnalyzerConfig()
        self.network = model or AUNetwork.load(device=device)
        self._on_step = on_step or (lambda step: None)
        self._observer = Observer(detector, self.network, self.config, on_step=on_step)
        self._states: dict[str, _SourceState] = {}

    @property
    def detector_name(self) -> str:
        """Name of the face detector in use."""
        return self._observer.detector.name

    def warm_up(self) -> None:
        """Prepare network and LRP ahead of the first frame; changes no state."""
        self._observer.warm_up()

    def update(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """Analyse frames and return one result each, in the same order.

        Args:
            frames: ascending by index within each source; sources may be mixed. A new ``epoch``
                of a source ends its stage and starts the next one afresh; letters are kept.

        Raises:
            ConfigError: a frame comes before one that was already analysed.
        """
        results = [
            self._states.setdefault(seen.frame.source, _SourceState(self.config)).update(seen)
            for seen in self._observer.update(frames)
        ]
        self._on_step("cluster")
        return results

    def prototypes(self, source: str) -> dict[int, PrototypeWindow]:
        """Return the window of each AU of a source that was ever active (read, do not update)."""
        state = self._states.get(source)
        return {} if state is None else dict(state.windows)

    def gap(self, source: str) -> list[StageEvent]:
        """Tell that a source paused; return the exit of its stage."""
        state = self._states.get(source)
        return [] if state is None else state.gap()

    def finish(self, source: str) -> list[StageEvent]:
        """End a source; return its last events. Its letters stay until :meth:`reset`."""
        state = self._states.get(source)
        return [] if state is None else state.stages.finish()

    def reset(self, source: str | None = None) -> None:
        """Forget one source, or all: the next frame is the first."""
        self._observer.reset(source)
        if source is None:
            self._states.clear()
        else:
            self._states.pop(source, None)
