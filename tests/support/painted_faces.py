"""People for the face step who need no renders: waves with five white marks.

Each person has a texture of their own, so that an upright crop tells them apart; a detector is told
where they are, and the landmark network finds the marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from facestage.core.face.alignment import compose, invert, similarity, transform
from facestage.core.face.tracker import Detection, Detector, FaceTracker, Landmarks
from numpy.typing import NDArray

SIZE = 96
TEMPLATE = np.array([[33, 33], [63, 33], [48, 51], [36, 68], [60, 68]], np.float32)
WEIGHTS = np.array([1, 1, 1, 0.6, 0.6], np.float32)
HEIGHT, WIDTH = 360, 640


@dataclass(frozen=True, slots=True)
class Seen:
    """A person in a picture: who, and their five points."""

    who: int
    points: NDArray[np.float32]


def at(who: int, x: float, y: float = 180, eyes: float = 60) -> Seen:
    """A person with the middle of the eyes' and mouth's box around (x, y)."""
    middle = (TEMPLATE.max(0) + TEMPLATE.min(0)) / 2
    return Seen(who, ((TEMPLATE - middle) * eyes / 30 + (x, y)).astype(np.float32))


def texture(height: int, width: int, seed: int, cell: int) -> NDArray[np.uint8]:
    """Smooth random grey between 40 and 160."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 160, (height // cell + 2, width // cell + 2)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return smooth.clip(0, 200).astype(np.uint8)


def skin(who: int) -> NDArray[np.uint8]:
    """The texture of a person: waves of their own direction, bent a little."""
    angle, (y, x) = who * np.pi / 4, np.mgrid[:140, :140]
    bent = texture(140, 140, 1000 + who, 40).astype(np.float32) / 40
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) / 3.2 + bent)
    return (100 + 55 * wave).astype(np.uint8)


def paint(*people: Seen, scene: int = 0) -> NDArray[np.uint8]:
    """A picture of people, the last one in front."""
    image = texture(HEIGHT, WIDTH, scene, 40)
    for person in people:
        matrix = invert(similarity(person.points, TEMPLATE, np.ones(5)))
        centred = compose(matrix, np.array([[1, 0, 48 - 70], [0, 1, 50 - 70]], np.float32))
        warped = cv2.warpAffine(skin(person.who), centred, (WIDTH, HEIGHT))
        full = np.full((140, 140), 255, np.uint8)
        inside = cv2.warpAffine(full, centred, (WIDTH, HEIGHT)) > 250
        image = np.where(inside, warped, image)
        radius = 0.09 * float(np.linalg.norm(person.points[1] - person.points[0]))
        for x, y in person.points:
            spot = (round(float(x) * 16), round(float(y) * 16))
            cv2.circle(image, spot, round(radius * 16), 255, -1, cv2.LINE_AA, shift=4)
    return np.repeat(image[:, :, None], 3, axis=2)


def find_marks(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The landmark network of that world: the marks, or blindly the mean shape, as a real one."""
    answers = []
    for crop in crops:
        count, _, stats, centres = cv2.connectedComponentsWithStats((crop > 215).astype(np.uint8))
        order = np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:5] + 1
        if count < 6:
            answers.append(TEMPLATE)
            continue
        marks = centres[order]
        marks = marks[np.argsort(marks[:, 1])]
        eyes, nose, mouth = marks[:2], marks[2:3], marks[3:]
        by_x = [pair[np.argsort(pair[:, 0])] for pair in (eyes, mouth)]
        found = np.concatenate([by_x[0], nose, by_x[1]])
        if np.ptp(eyes[:, 0]) < np.ptp(mouth[:, 0]):  # on its head: half an answer, as a real one
            found = (TEMPLATE + found) / 2
        answers.append(found)
    return np.array(answers, np.float32)


@dataclass
class Room:
    """A detector that knows who is in the picture, and counts how often it is asked."""

    name: str = "room"
    people: Sequence[Seen] = field(default=())
    calls: int = 0

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        """Return everybody who is not hidden, largest last; the order must not matter."""
        self.calls += 1
        return [
            Detection(box_of(person.points), 1.0, person.points, rough=True)
            for n, person in enumerate(self.people)
            if not any(_hides(other, person) for other in self.people[n + 1 :])
        ]


def box_of(points: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """The box around a face."""
    eyes = float(np.linalg.norm(points[1] - points[0]))
    side, middle = 2.75 * eyes, points.mean(0)
    return float(middle[0]) - side / 2, float(middle[1]) - side / 2, side, side


def _hides(front: Seen, behind: Seen) -> bool:
    """Whether a face in front covers the middle of another."""
    eyes = float(np.linalg.norm(front.points[1] - front.points[0]))
    return bool(np.abs(front.points.mean(0) - behind.points.mean(0)).max() < 1.4 * eyes)


def make_tracker(detector: Detector, landmarks: Landmarks | None) -> FaceTracker:
    """A tracker of that world."""
    return FaceTracker(detector, landmarks, TEMPLATE, WEIGHTS, SIZE)


def crop_of(person: Seen) -> NDArray[np.uint8]:
    """The aligned crop of a person, alone in a picture."""
    matrix = similarity(person.points, TEMPLATE, WEIGHTS)
    image = paint(person)[:, :, 0]
    return cv2.warpAffine(image, matrix, (SIZE, SIZE)).astype(np.uint8)


def whose(points: NDArray[np.float32] | None, people: Sequence[Seen]) -> int | None:
    """Who of them has these points; None for nobody."""
    if points is None:
        return None
    near = [p for p in people if float(np.abs(transform(_STAY, p.points) - points).mean()) < 6]
    return near[-1].who if near else None


_STAY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
