"""The faces of all sources: who is in them, and what is remembered of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..baseline import PersonalBaseline
from ..config import AnalyzerConfig
from ..face.detections import Detector
from ..face.likeness import LastFaces
from ..face.people import People, check_follow
from ..face.probe import Landmarks
from ..face.tracker import FaceTracker
from ..network.au_network import AUNetwork
from ..stages import PresenceGate
from ..types import FaceObservation, FaceState, Frame, RestLevels
from .draft import Draft, FaceMemory, stream_name

__all__ = ["Faces"]


class _Source:
    """What is remembered of one source: who is in it, and its connection."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.epoch: int | None = None
        self.prepared: tuple[Frame, list[Draft]] | None = None


class Faces:
    """Find and follow the faces of all sources.

    Picklable as trackers are: :meth:`attach` gives back what they leave out.

    Args:
        detector: finds faces.
        network: finds landmarks.
        config: constants of all steps.
        rest: rest levels with which the first person of every source begins, or source → those of
            its first person.

    Attributes:
        detector: as given.
        memories: what is remembered of the face of each stream.
    """

    def __init__(
        self,
        detector: Detector,
        network: AUNetwork,
        config: AnalyzerConfig,
        rest: RestLevels | Mapping[str, RestLevels] | None,
    ) -> None:
        self.detector, self.network, self.config = detector, network, config
        self._rest = rest
        # One that cannot work is refused here, not at the first face.
        for source in rest if isinstance(rest, Mapping) else ("",):
            self._make_baseline(source)
        self._make_baseline(None)
        check_follow(config.follow)
        self._sources: dict[str, _Source] = {}
        self.memories: dict[str, FaceMemory] = {}

    def attach(self) -> None:
        """Give the trackers back what they leave out when they are pickled."""
        landmarks = self.network.five_points if self.network.has_landmarks else None
        for source in self._sources.values():
            source.people.attach(self.detector, landmarks)

    def reset(self, source: str | None = None) -> None:
        """Forget one source, or all."""
        if source is None:
            self._sources.clear()
            self.memories.clear()
            return
        self._sources.pop(source, None)
        for stream in self.streams(source):
            self.memories.pop(stream, None)

    def streams(self, source: str) -> list[str]:
        """Return the streams of a source: one for each of its faces that may be analysed."""
        return [stream_name(source, place) for place in range(self.config.follow.faces)]

    def gap(self, source: str) -> None:
        """Take in that a source paused, or the stream of another of its faces."""
        if source in self._sources:
            self._sources[source].people.pause()
            self._sources[source].prepared = None
        if source in self.memories:
            self.memories[source].last.forget()
            self.memories[source].pictures.forget()
            self.memories[source].forget()

    def find(self, frames: Sequence[Frame]) -> list[list[Draft]]:
        """Find the faces of frames.

        The landmarks that are needed to cut them out are searched for in one batch.

        Args:
            frames: one of each source.

        Returns:
            For each frame a draft of each of its faces.
        """
        done = [self._take(frame) for frame in frames]
        rest = [frame for frame, drafts in zip(frames, done, strict=True) if drafts is None]
        found = iter(self._find(rest) if rest else ())
        return [next(found) if drafts is None else drafts for drafts in done]

    def _take(self, frame: Frame) -> list[Draft] | None:
        """Return the faces of a frame that was prepared; None for another."""
        source = self._sources.get(frame.source)
        if source is None or source.prepared is None:
            return None
        (prepared, drafts), source.prepared = source.prepared, None
        if prepared is not frame:
            raise RuntimeError(f"{frame.source}: another frame was prepared than the one that came")
        return drafts

    def _find(self, frames: Sequence[Frame]) -> list[list[Draft]]:
        sources = [self._connected(frame) for frame in frames]
        crops = [
            people.foresee(frame.image) for frame, (people, _) in zip(frames, sources, strict=True)
        ]
        asked = [crop for some in crops for crop in some if crop is not None]
        points = iter(self.network.five_points(np.stack(asked)) if asked else ())
        found = []
        for frame, (people, reconnected), some in zip(frames, sources, crops, strict=True):
            given = [None if crop is None else next(points) for crop in some]
            faces = people.update(frame.image, given)
            found.append(
                [
                    self._begun(frame, people, place, face, reconnected)
                    for place, face in enumerate(faces)
                    if place == 0 or self._known(frame.source, place, face)
                ]
            )
        return found

    def prepare(self, frame: Frame) -> None:
        """Find the faces of a frame ahead of :meth:`find`, which must be given it next.

        On a GPU, where one thread asks for landmarks, a frame that needs some is begun only.
        """
        if self.network.device.type != "cpu":
            source = self._sources.get(frame.source)
            if source is None or source.epoch != frame.epoch:
                return
            if not source.people.prepare(frame.image):
                return
        (drafts,) = self._find([frame])
        self._sources[frame.source].prepared = frame, drafts

    def learns(self, draft: Draft) -> bool:
        """Tell whether the landmarks of a usable face that was found are of use."""
        return self._sources[draft.source].people.learns(draft.place)

    def learn(self, drafts: Sequence[Draft], points: NDArray[np.float32]) -> None:
        """Take in the landmarks of faces of the last frames that were found.

        Args:
            drafts: n of them.
            points: ``(n, 5, 2)`` float32 in their crops.
        """
        for draft, landmarks in zip(drafts, points, strict=True):
            self._sources[draft.source].people.learn(draft.place, landmarks)

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
                if stream in self.memories:
                    self.memories[stream].last.forget()
        return source.people, reconnected

    def _begun(
        self, frame: Frame, people: People, place: int, face: FaceObservation, reconnected: bool
    ) -> Draft:
        """Begin the observation of one of the faces of a frame."""
        name = stream_name(frame.source, place)
        memory = self._memory(name)
        other = False
        if face.crop is not None:
            other = memory.changes(face.id)
            if (
                not memory.last.continues(face.crop, frame.time_s)
                and people.likeness(place, face.crop) < self.config.follow.alike
            ):
                face = people.another(place, face)
                other = memory.changes(face.id) or other
        seen = frame if place == 0 else replace(frame, source=name)
        return Draft(seen, frame.source, place, memory, face, reconnected, other)

    def _known(self, source: str, place: int, face: FaceObservation) -> bool:
        """Tell whether anybody is or was in a place; before that it is not spoken of."""
        return face.state != FaceState.LOST or stream_name(source, place) in self.memories

    def _make_baseline(self, source: str | None) -> PersonalBaseline | None:
        """Make a baseline for the first face of a source; None: for another face."""
        if not self.config.baseline.enabled:
            return None
        baseline = PersonalBaseline.of_network(self.network.card, self.config.baseline)
        if source is not None:
            rest = self._rest.get(source) if isinstance(self._rest, Mapping) else self._rest
            if rest is not None:
                baseline.begin(rest)
        return baseline

    def _make_people(self) -> People:
        def make(detector: Detector, landmarks: Landmarks | None) -> FaceTracker:
            del landmarks  # the network's own
            return FaceTracker.of_network(detector, self.network, self.config.face)

        landmarks = self.network.five_points if self.network.has_landmarks else None
        return People(self.detector, landmarks, make, self.config.follow)

    def _memory(self, stream: str) -> FaceMemory:
        if stream not in self.memories:
            gate = PresenceGate(*self.network.card.thresholds())
            baseline = self._make_baseline(stream if stream in self._sources else None)
            last = LastFaces(self.config.face.same_person)
            self.memories[stream] = FaceMemory(gate, baseline, last)
        return self.memories[stream]
