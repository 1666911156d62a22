"""Who is who in one source: which faces are followed, and that each stays the person it was.

A tracker follows a face by its texture and its points; it would as gladly follow the face of
whoever steps in front. So people are remembered here, by where they were and by how they looked
(:mod:`.looks`), each under a number that is never given again. A face that is found is one of
them, or a stranger. A face that is followed is looked at again while another one is near, whenever
the detector ran, and after every jump; once it looks like somebody else it is given up, and the
person counts as absent until they are seen again.

Whoever is followed stays so, however large others are. Only when they were absent for long, or the
scene was cut, somebody else is followed. There is no clock: spans of time are counts of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import MOST_FACES, FollowConfig
from ..errors import ConfigError
from ..steps import step
from ..types import FaceObservation, FaceState
from .boxes import Box, apart, overlap
from .detections import Answer, Choice, Detection, Detector, ask
from .looks import Description, Looks, describe
from .probe import Landmarks
from .tracker import FaceTracker

__all__ = ["FOLLOWED_BY", "SOMEBODY_ELSE", "People", "check_follow"]

FOLLOWED_BY = ("largest", "centre", "first")
"""Ways to choose who is followed, beside a person's number."""
SOMEBODY_ELSE = "another face is in front"
"""Reason of a face that may be somebody else's."""

_SAME_PLACE = 0.25
"""A face is that of whoever was there a moment ago from this intersection over union on."""
_APART = 0.02
"""Two faces do not hide each other below this intersection over union."""
_LOOK_EVERY = 5
"""A person's looks follow them in steps of so many frames: a head turns within a second."""
_MOMENT = 30
"""A person may still be where they were seen last for so many frames."""


def check_follow(config: FollowConfig) -> None:
    """Check what was asked for.

    Raises:
        ConfigError: there is no such choice, or no such number of faces.
    """
    if not 1 <= config.faces <= MOST_FACES:
        raise ConfigError(f"{config.faces} faces at once are not possible; use 1 to {MOST_FACES}")
    if config.follow not in FOLLOWED_BY and _number(config.follow) is None:
        raise ConfigError(
            f"nobody is followed by {config.follow!r}; use one of {', '.join(FOLLOWED_BY)}, or the "
            "number of a person (1 is the first who was seen)"
        )


def _number(follow: str) -> int | None:
    """Return the person's number that is asked for; None where none is."""
    return int(follow) if follow.isascii() and follow.isdigit() and int(follow) > 0 else None


class _OneLook:
    """Runs a detector once a picture, whoever asks."""

    def __init__(self, detector: Detector) -> None:
        self.name = detector.name
        self._detector = detector
        self._image: NDArray[np.uint8] | None = None
        self._forget()

    def begin(self, image: NDArray[np.uint8]) -> None:
        """Begin with a picture, unless that is done."""
        if self._image is not image:
            self._image = image
            self._forget()

    def end(self) -> None:
        """Keep no picture."""
        self._image = None
        self._forget()

    def _forget(self) -> None:
        self.found: list[Detection] | None = None
        self._smallest = 0.0
        self._asked: tuple[Answer, float] | None = None

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        if self.found is None or smallest < self._smallest:
            self.found, self._smallest = self._detector.detect(image, smallest), smallest
        return self.found

    def ask(self, image: NDArray[np.uint8], smallest: float = 0.0) -> Answer:
        if self._asked is None or smallest < self._asked[1]:
            self._asked = ask(self._detector, image, smallest), smallest
        return self._asked[0]


@dataclass(slots=True, eq=False)
class _Person:
    """Somebody who was seen.

    Attributes:
        id: number, by the order in which people were seen.
        box: where, last.
        first, seen: frames in which they were seen first and last.
        sure: frame in which they were recognised last.
        looks: how they look.
    """

    id: int
    box: Box
    first: int
    seen: int
    sure: int
    looks: Looks = field(default_factory=Looks)


class _Place(Choice):
    """One of the faces that are analysed.

    Attributes:
        people: everybody.
        tracker: follows it.
        person: whose it is, also while they are absent; None before the first.
        wary: frames for which it is checked who it is.
        unseen: frames since it was.
        doubts: frames in a row in which it looked like somebody else.
        looked: what the detector found was taken in for it in this frame.
        admitted: who was found in this frame, and how they look.
        likeness: of the face in this frame to the person, as they were known before it; None where
            it was not looked at.
    """

    def __init__(self, people: People, tracker: FaceTracker) -> None:
        self.people, self.tracker = people, tracker
        tracker.choice = self
        self.forget()

    def forget(self) -> None:
        self.person: _Person | None = None
        self.wary = self.doubts = self.unseen = 0
        self.looked = False
        self.admitted: tuple[_Person, Description] | None = None
        self.likeness: float | None = None

    def order(self, found: Sequence[Detection], own: Detection | None) -> list[Detection]:
        return self.people._order(self, found, own)

    def admits(self, crop: NDArray[np.uint8], box: Box, detection: Detection | None) -> bool:
        return self.people._admits(self, crop, box, detection)

    def knows(self, box: Box) -> bool:
        return self.people._followed_elsewhere(box, self)

    def begin(self) -> None:
        """Begin the next frame."""
        self.admitted = self.likeness = None


class People:
    """Follow one or several faces through the frames of one source.

    Picklable as :class:`~facestage.core.face.tracker.FaceTracker` is: give the detector and the
    landmark network back with :meth:`attach`.

    Args:
        detector: finds faces.
        landmarks: landmark network on aligned crops; None without one.
        make_tracker: makes the tracker of one face from these two.
        config: who is followed.

    Raises:
        ConfigError: see :func:`check_follow`.
    """

    def __init__(
        self,
        detector: Detector,
        landmarks: Landmarks | None,
        make_tracker: Callable[[Detector, Landmarks | None], FaceTracker],
        config: FollowConfig | None = None,
    ) -> None:
        self.config = config or FollowConfig()
        check_follow(self.config)
        self._look: _OneLook | None = _OneLook(detector)
        self._places = [
            _Place(self, make_tracker(self._look, landmarks)) for _ in range(self.config.faces)
        ]
        self._wanted = _number(self.config.follow)
        self.reset()

    def attach(self, detector: Detector, landmarks: Landmarks | None) -> None:
        """Give the trackers their detector and landmark network after unpickling."""
        self._look = _OneLook(detector)
        for place in self._places:
            place.tracker.attach(self._look, landmarks)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_look": None}

    def reset(self) -> None:
        """Forget everybody; numbers begin anew."""
        self._persons: list[_Person] = []
        self._next_id = 1
        self._frame = 0
        self._thumbnail: NDArray[np.float32] | None = None
        self._cut = False
        self._middle: Box = (0.0, 0.0, 0.0, 0.0)
        for place in self._places:
            place.tracker.reset()
            place.forget()

    def pause(self) -> None:
        """Take in that frames are missing: whoever comes next may be anybody, also one known."""
        self._thumbnail = None
        for place in self._places:
            place.tracker.reset()
            place.wary = place.doubts = 0

    @property
    def faces(self) -> int:
        """How many faces are analysed at once."""
        return len(self._places)

    def likeness(self, place: int, crop: NDArray[np.uint8]) -> float:
        """Return how like the person of a place, as they were known before, a face is; −1 to 1."""
        where = self._places[place]
        if where.likeness is not None:
            return where.likeness
        return -1.0 if where.person is None else where.person.looks.likeness(describe(crop))

    def another(self, place: int, face: FaceObservation) -> FaceObservation:
        """Take in that the usable face in a place is not the person's who was there a moment ago.

        It becomes that of whoever it is like, of those whom no other place follows; else that of
        somebody who was not seen before.

        Returns:
            The face under its person's number; lost, where that person is not to be followed.
        """
        where = self._places[place]
        box = where.tracker.box
        if face.crop is None or box is None:
            raise RuntimeError("only a usable face can be another person's")
        looks, before = describe(face.crop), where.person
        if before is not None:
            before.looks.forget(looks)
            before.seen = min(before.seen, self._frame - 1)
        who = self._most_alike(looks, where) or self._meet(box)
        who.looks.add(looks)
        who.box, who.seen, who.sure = box, self._frame, self._frame
        where.wary = where.doubts = 0
        if not self._wants(where, who.id):
            where.tracker.drop()
            return FaceObservation(FaceState.LOST)
        where.person = who
        return replace(face, id=who.id)

    def foresee(self, image: NDArray[np.uint8]) -> list[NDArray[np.uint8] | None]:
        """Begin the next frame: return the crops whose landmarks :meth:`update` needs first.

        See :meth:`FaceTracker.foresee <facestage.core.face.tracker.FaceTracker.foresee>`; one entry
        a face.
        """
        return [place.tracker.foresee(image) for place in self._places]

    def prepare(self, image: NDArray[np.uint8]) -> bool:
        """Do what needs no landmarks ahead of :meth:`update` for the next frame; changes nothing.

        The motion of the texture is measured; where nobody is followed, or that motion breaks, the
        picture is searched.

        Returns:
            Whether :meth:`update` will need none either.
        """
        look, easy = self._attached(), True
        for place, crop in zip(self._places, self.foresee(image), strict=True):
            easy = easy and crop is None and not place.tracker.searches and not place.tracker.checks
        followed = [p.tracker for p in self._places if p.tracker.crop is not None]
        if not followed or any(tracker.searches for tracker in followed):
            look.begin(image)
            with step("detect"):
                easy = not look.detect(image)
        return easy

    def learns(self, place: int) -> bool:
        """Tell whether the landmarks of a place are of use to its tracker."""
        return self._places[place].tracker.learns

    def learn(self, place: int, landmarks: NDArray[np.float32]) -> None:
        """Take in the landmarks of the crop that the last frame gave for a place.

        See :meth:`FaceTracker.learn <facestage.core.face.tracker.FaceTracker.learn>`.
        """
        self._places[place].tracker.learn(landmarks)

    def update(
        self,
        image: NDArray[np.uint8],
        points: Sequence[NDArray[np.float32] | None] | None = None,
    ) -> list[FaceObservation]:
        """Find the faces of the next frame.

        Args:
            image: ``(H, W, 3)`` uint8 BGR (or ``(H, W)`` grey).
            points: landmarks of the crops that :meth:`foresee` gave for this image.

        Returns:
            One observation a place, in an order that does not change: a person keeps their place,
            and whoever is followed has the first one.

        Raises:
            SourceError, ConfigError: see :meth:`FaceTracker.update`.
        """
        self._attached().begin(image)
        self._frame += 1
        given = [None] * len(self._places) if points is None else points
        self._note_picture(image)
        for place in self._places:
            place.looked = False
        seen: dict[int, FaceObservation] = {}
        busy = [n for n, place in enumerate(self._places) if place.tracker.crop is not None]
        if len(self._places) > 1 and any(self._places[n].tracker.due for n in busy):
            for n in busy:  # one look at the picture serves all
                self._places[n].tracker.check_within(1)
        for n in busy:
            seen[n] = self._follow(self._places[n], image, given[n], True)
        self._part(seen)
        anybody = any(place.tracker.crop is not None for place in self._places)
        search = not anybody or self._looked()
        search = search or self._frame % self.config.search_every == 0
        for n, place in enumerate(self._places):
            if n not in seen:
                seen[n] = self._follow(place, image, given[n], search)
        self._attached().end()
        return [seen[n] for n in range(len(self._places))]

    def _attached(self) -> _OneLook:
        if self._look is None:
            raise ConfigError("the faces were restored from their state: call attach() first")
        return self._look

    def _looked(self) -> bool:
        """Tell whether what the detector found was taken in in this frame."""
        return any(place.looked for place in self._places)

    # -- following ---------------------------------------------------------------------------------

    def _follow(
        self,
        place: _Place,
        image: NDArray[np.uint8],
        points: NDArray[np.float32] | None,
        search: bool,
    ) -> FaceObservation:
        tracker = place.tracker
        place.begin()
        face = tracker.update(image, points, search)
        place.looked = tracker.looked
        if tracker.crop is None:
            place.doubts = 0
            return face
        if tracker.fresh and place.admitted is not None:
            who, looks = place.admitted
            place.likeness = who.looks.likeness(looks) if who is place.person else -1.0
            if who is place.person and place.likeness < self.config.alike:
                tracker.check_within(1)  # nobody else may be seen beside them
                place.wary = self.config.wary
            else:
                who.looks.add(looks)
            place.person, place.doubts = who, 0
        if place.person is None:
            raise RuntimeError("a face is followed that nobody was admitted for")
        self._note_neighbour(place)
        return self._guarded(place, place.person, face)

    def _guarded(self, place: _Place, person: _Person, face: FaceObservation) -> FaceObservation:
        """Check that a face still is the person's; note where they are and how they look."""
        tracker, config = place.tracker, self.config
        box, crop = tracker.box, tracker.crop
        if box is None or crop is None:  # it was given up for the neighbour's sake
            return FaceObservation(FaceState.LOST)
        rivals = self._rivals(person, box)
        place.wary = config.wary if rivals else max(0, place.wary - 1)
        if rivals:
            tracker.check_within(config.near_check)
        looked = self._looked()
        place.unseen += 1
        if face.crop is not None and (
            place.wary or tracker.fresh or looked or place.unseen >= _LOOK_EVERY
        ):
            place.unseen = 0
            looks = describe(crop)
            own = person.looks.likeness(looks)
            if place.likeness is None:
                place.likeness = own
            clear = bool(rivals) and all(
                overlap(rival.box, box) < _APART and self._frame - rival.seen <= config.near_check
                for rival in rivals
            )
            if self._somebody_else(person, looks, own, clear):
                place.doubts += 1
                place.wary = max(place.wary, config.doubts)
                if place.doubts >= config.doubts:
                    tracker.drop()
                    return FaceObservation(FaceState.LOST)
                return _doubtful(face, person.id)
            place.doubts = 0
            if own >= config.alike or not (rivals or place.wary):
                person.looks.add(looks)
        person.box, person.seen = box, self._frame
        return replace(face, id=person.id)

    def _somebody_else(self, person: _Person, looks: Description, own: float, clear: bool) -> bool:
        config = self.config
        if own >= config.alike:
            return False
        if own < config.unlike and not clear:
            return True
        others = [p.looks.likeness(looks) for p in self._persons if p is not person]
        best = max(others, default=-1.0)
        return best >= config.alike and best > own + config.lead

    def _rivals(self, person: _Person, box: Box) -> list[_Person]:
        """Return who is, or was a moment ago, near a face."""
        return [
            other
            for other in self._persons
            if other is not person
            and self._frame - other.seen <= _MOMENT
            and apart(other.box, box) < self.config.near * (other.box[2] + box[2]) / 2
        ]

    def _part(self, seen: dict[int, FaceObservation]) -> None:
        """Where two places follow one face, leave it to the person it is more like."""
        busy = [n for n in seen if self._places[n].tracker.crop is not None]
        for i, n in enumerate(busy):
            for m in busy[i + 1 :]:
                one, other = self._places[n], self._places[m]
                a, b = one.tracker.box, other.tracker.box
                if a is None or b is None or overlap(a, b) < _SAME_PLACE:
                    continue
                loser = n if self._own_likeness(one) < self._own_likeness(other) else m
                self._places[loser].tracker.drop()
                seen[loser] = FaceObservation(FaceState.LOST)

    def _own_likeness(self, place: _Place) -> float:
        crop, person = place.tracker.crop, place.person
        return -1.0 if crop is None or person is None else person.looks.likeness(describe(crop))

    def _note_neighbour(self, place: _Place) -> None:
        """Remember the other face that was seen when a face was checked."""
        if place.tracker.neighbour is None or place.person is None:
            return
        detection, crop = place.tracker.neighbour
        if self._followed_elsewhere(detection.box, None):
            return
        looks = describe(crop)
        theirs = place.person.looks.likeness(looks)
        own = self._own_likeness(place)
        if own < self.config.alike <= theirs and theirs > own + self.config.lead:
            place.tracker.drop()  # the person is over there: the face followed is another's
            return
        who = self._most_alike(looks, place)
        if who is None:
            there = self._there(detection.box)
            if there is not None and there.looks.likeness(looks) >= self.config.unlike:
                who = there
        if who is None or who is place.person:
            who = self._meet(detection.box)
        who.box, who.seen, who.sure = detection.box, self._frame, self._frame
        who.looks.add(looks)

    # -- who is it? --------------------------------------------------------------------------------

    def _order(
        self, place: _Place, found: Sequence[Detection], own: Detection | None
    ) -> list[Detection]:
        """Return the faces that a place may follow, the first choice first."""
        allowed: list[tuple[tuple[bool, float, float], Detection]] = []
        for detection in found:
            if self._followed_elsewhere(detection.box, place):
                continue
            who = self._there(detection.box)
            if who is not None and who is not place.person:
                may = self._may(place, who)
                if not may and self._frame - who.sure <= self.config.sure:
                    who.box, who.seen = detection.box, self._frame
                    continue
            rank = self._rank(detection.box, who)
            allowed.append(((detection is not own, *rank), detection))
        return [detection for _, detection in sorted(allowed, key=lambda pair: pair[0])]

    def _rank(self, box: Box, who: _Person | None) -> tuple[float, float]:
        """Return what decides between faces: the lower one is followed."""
        size = -box[2] * box[3]
        if self.config.follow == "centre":
            return apart(self._middle, box), size
        if self.config.follow == "first":
            return float(self._next_id if who is None else who.id), size
        return size, 0.0

    def _admits(
        self, place: _Place, crop: NDArray[np.uint8], box: Box, detection: Detection | None
    ) -> bool:
        looks = describe(crop)
        who = self._identify(place, looks, box)
        may = self._may(place, who)
        if who is None and not may:
            known = place.person is not None and (
                place.person.looks.likeness(looks) >= self.config.unlike
            )
            if detection is None or known:
                return False  # it may be the person, hidden in part
        if detection is not None:
            box = detection.box
        if who is None:
            who = self._meet(box)
        if may:
            place.admitted = who, looks
        else:
            who.box, who.seen, who.sure = box, self._frame, self._frame
            who.looks.add(looks)
        return may

    def _identify(self, place: _Place, looks: Description, box: Box) -> _Person | None:
        """Return who a face found by a place is; None for a stranger."""
        config, person = self.config, place.person
        best = self._most_alike(looks, place)
        if person is None:
            return best
        own = person.looks.likeness(looks)
        if best is not None and best.looks.likeness(looks) - own > config.lead:
            return best
        return person if own >= self._needed(place, person, box) else None

    def _needed(self, place: _Place, person: _Person, box: Box) -> float:
        """Return how alike a face must be to be the person's, by where it is and how large.

        A face does not jump or grow within a moment: one that did must look very much alike. One
        that is where the person was is theirs in doubt, if nobody else was near.
        """
        config, absent = self.config, self._frame - person.seen
        calm = not place.wary and not self._cut
        if self._cut or absent > _MOMENT:
            return config.unlike if calm and len(self._persons) == 1 else config.alike
        size = box[2] / max(person.box[2], 1e-6)
        growth = 1.2 + 0.01 * absent
        here = apart(box, person.box) < (0.4 + 0.05 * absent) * person.box[2]
        if here and 1 / growth < size < growth:
            return config.unlike if calm else config.alike
        return config.surely

    def _most_alike(self, looks: Description, place: _Place) -> _Person | None:
        """Return the person whom a face is like, of those no other place follows now."""
        taken = [
            other.person
            for other in self._places
            if other is not place and other.tracker.crop is not None
        ]
        scores = [(p.looks.likeness(looks), p) for p in self._persons if p not in taken]
        score, best = max(scores, key=lambda pair: pair[0], default=(-1.0, None))
        return best if score >= self.config.alike else None

    def _wants(self, place: _Place, number: int) -> bool:
        """Tell whether a person of this number is to be followed by a place, if anybody is."""
        return self._wanted is None or (place is self._places[0]) == (number == self._wanted)

    def _may(self, place: _Place, who: _Person | None) -> bool:
        """Tell whether a place may follow a person; None stands for a stranger."""
        config, person = self.config, place.person
        if not self._wants(place, self._next_id if who is None else who.id):
            return False
        if person is who and who is not None:
            return True
        if who is not None and any(who is p.person for p in self._places if p is not place):
            return False  # their own place waits for them
        if person is None or self._cut:
            return True
        if any(other.person is None for other in self._places):
            return False  # a free place takes them
        absent = self._frame - person.seen
        stranger = who is None or who.first > person.seen
        return absent > (config.stranger_after if stranger else config.companion_after)

    def _meet(self, box: Box) -> _Person:
        """Give a number to somebody who was not seen before."""
        who = _Person(self._next_id, box, self._frame, self._frame, self._frame)
        self._next_id += 1
        self._persons.append(who)
        if len(self._persons) > self.config.most_known:
            held = [place.person for place in self._places]
            free = [p for p in self._persons if p not in held and p is not who]
            if free:
                self._persons.remove(min(free, key=lambda p: p.seen))
        return who

    def _there(self, box: Box) -> _Person | None:
        """Return who was in this place a moment ago and is followed by nobody."""
        busy = [p.person for p in self._places if p.tracker.crop is not None]
        near = [
            (overlap(p.box, box), p)
            for p in self._persons
            if p not in busy and self._frame - p.seen <= _MOMENT
        ]
        share, who = max(near, key=lambda pair: pair[0], default=(0.0, None))
        return who if share >= _SAME_PLACE else None

    def _followed_elsewhere(self, box: Box, place: _Place | None) -> bool:
        boxes = [p.tracker.box for p in self._places if p is not place]
        return any(other is not None and overlap(other, box) >= _SAME_PLACE for other in boxes)

    def _note_picture(self, image: NDArray[np.uint8]) -> None:
        """Note the middle of the picture, and whether it is of another scene than the last."""
        height, width = image.shape[:2]
        self._middle = (width / 2, height / 2, 0.0, 0.0)
        few = image[:: max(1, height // 27), :: max(1, width // 48)]
        now = few.reshape(*few.shape[:2], -1).mean(2, dtype=np.float32)
        now = now - now.mean()
        before, self._thumbnail = self._thumbnail, now
        self._cut = before is None or before.shape != now.shape
        if before is not None and not self._cut:
            norm = float(np.sqrt((before * before).sum() * (now * now).sum()))
            self._cut = norm > 0 and float((before * now).sum()) < self.config.cut * norm


def _doubtful(face: FaceObservation, number: int) -> FaceObservation:
    return replace(
        face,
        state=FaceState.LOW_QUALITY,
        crop=None,
        quality=0.0,
        reason=SOMEBODY_ELSE,
        id=number,
    )
