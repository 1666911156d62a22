"""Two people who cross, hide each other and come nearer, with the truth of every frame.

``python benchmarks/crossings.py --scenes 6`` renders pairs of people (needs the folder of shared
material), lets them move for a minute each, and says how often the one followed was lost, and how
often somebody else was analysed in their name.

One minute: the first is alone; the second passes in front, nearer; passes behind; stands beside, is
larger, and leans in front; both walk and cross; the second goes.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from facestage.core.config import FollowConfig
from facestage.core.face.people import People
from facestage.core.face.tracker import Choice, Detector, FaceTracker, Landmarks
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import FaceObservation
from facestage.stream.detectors import make_detector
from numpy.typing import NDArray

from training.data.generator import Generator
from training.finder.heads import _forehead, _render
from training.render.scene import Pose

WIDTH, HEIGHT = 640, 360
POSES = 16
"""Pictures of a head, along a closed path of poses."""
EYES = 36.0
"""Distance of the eyes of the first person, pixels."""
SEEN = 0.75
"""A face of which so much shows should be analysed."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A person: ``(n, 256, 256)`` grey and opacity, ``(n, 5, 2)`` points."""

    image: NDArray[np.float32]
    alpha: NDArray[np.float32]
    points: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame.

    Attributes:
        image: ``(360, 640, 3)`` uint8.
        points: ``(2, 5, 2)`` float32 where the faces are, also hidden ones; NaN for one that is
            not there.
        shows: ``(2,)`` share of the face that is not hidden, 0–1.
    """

    image: NDArray[np.uint8]
    points: NDArray[np.float32]
    shows: NDArray[np.float64]


def actor(generator: Generator, person: int) -> Actor:
    """Render a person from all sides that a minute needs."""
    kit = generator.kit
    outline = torch.from_numpy(np.concatenate([kit.landmarks[:17], _forehead(kit)]))
    base = generator.face(4 * person)
    faces = []
    for n in range(POSES):
        turn = 2 * math.pi * n / POSES
        pose = Pose(math.radians(14 * math.sin(turn)), math.radians(7 * math.cos(turn)), 0.0, 90.0)
        faces.append(replace(base, pose=pose))
    heads = [
        head
        for s in range(0, POSES, 8)
        for head in _render(generator, faces[s : s + 8], outline)[0]
    ]
    return Actor(
        np.stack([head.image for head in heads]).astype(np.float32),
        np.stack([head.alpha for head in heads]).astype(np.float32) / 255,
        np.stack([head.points for head in heads]),
    )


def _between(time: float, *stops: tuple[float, float]) -> float:
    """Return a value that moves smoothly from stop to stop."""
    for (start, before), (end, after) in itertools.pairwise(stops):
        if start <= time <= end:
            share = (time - start) / (end - start)
            return before + (after - before) * (3 - 2 * share) * share * share
    return stops[0][1] if time < stops[0][0] else stops[-1][1]


def places(time: float) -> tuple[tuple[float, float, float], tuple[float, float, float], bool]:
    """Return x, y and size of both faces at a time (s), and whether the first is in front."""
    x = _between(time, (40, 240), (45, 430), (48, 430), (53, 250))
    first = (x + 6 * math.sin(time), 190 + 4 * math.sin(1.7 * time), 1.0)
    across = _between(
        time,
        (8, -120),
        (14, 780),
        (17, 780),
        (23, -120),
        (27, -120),
        (30, 400),
        (33, 400),
        (34.5, 265),
        (37, 265),
        (38.5, 420),
        (40, 430),
        (45, 230),
        (48, 230),
        (53, 440),
        (55, 440),
        (58, 800),
    )
    size = _between(
        time, (14, 1.35), (15, 0.9), (23, 0.9), (25, 1.5), (38.5, 1.5), (40, 1.1), (60, 1.1)
    )
    return first, (across, 185 + 5 * math.sin(1.3 * time), size), 15 < time < 25


def shots(
    pair: tuple[Actor, Actor], seed: int, fps: float = 30.0, end: float = 60.0
) -> Iterator[Shot]:
    """Compose the minute."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 170, (6, 10)).astype(np.float32)
    room = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    room += np.where(np.arange(WIDTH)[None] % 97 < 6, -30, 0)
    for n in range(round(end * fps)):
        first, second, in_front = places(n / fps)
        grey = room.copy()
        points = np.full((2, 5, 2), np.nan, np.float32)
        covers: list[NDArray[np.float32]] = [np.zeros((HEIGHT, WIDTH), np.float32)] * 2
        for who in (1, 0) if in_front else (0, 1):
            x, y, size = (first, second)[who]
            if not -90 < x < WIDTH + 90:
                continue
            person, at = pair[who], (n // 3 + 5 * who) % POSES
            own = person.points[at]
            scale = EYES * size / float(np.linalg.norm(person.points[0, 1] - person.points[0, 0]))
            middle = own.mean(0)
            matrix = np.array(
                [[scale, 0, x - scale * middle[0]], [0, scale, y - scale * middle[1]]]
            )
            cover = cv2.warpAffine(person.alpha[at], matrix, (WIDTH, HEIGHT))
            tone = cv2.warpAffine(person.image[at], matrix, (WIDTH, HEIGHT))
            grey += cover * (tone - grey)
            points[who] = own * scale + matrix[:, 2]
            covers[1 - who] = covers[1 - who] * (1 - cover)  # what lay in front lies behind now
            covers[who] = cover
        noisy = grey + rng.normal(0, 2.5, grey.shape)
        image = np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        yield Shot(
            image, points, np.array([_shows(c, p) for c, p in zip(covers, points, strict=True)])
        )


def _shows(cover: NDArray[np.float32], points: NDArray[np.float32]) -> float:
    """Return how much of the face, within its five points and around, shows."""
    if not np.isfinite(points).all():
        return 0.0
    grown = points.mean(0) + 1.5 * (points - points.mean(0))
    mask = np.zeros(cover.shape, np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(grown).astype(np.int32)), 1)
    area = float(cv2.contourArea(cv2.convexHull(grown)))
    return float(cover[mask > 0].sum()) / max(area, 1.0)


def whose(face: FaceObservation, shot: Shot) -> int | None:
    """Return whose face was found: 0, 1, or None for nobody's."""
    if face.points is None:
        return None
    eyes = np.linalg.norm(shot.points[:, 1] - shot.points[:, 0], axis=1)
    error = np.linalg.norm(shot.points - face.points, axis=2).mean(1) / eyes
    error = np.where(np.isfinite(error), error, np.inf)
    return int(error.argmin()) if error.min() < 0.5 else None


def people_of(network: AUNetwork, detector: Detector, config: FollowConfig) -> People:
    """Return what follows the faces of a source, as the analyzer makes it."""

    def make(look: Detector, landmarks: Landmarks | None) -> FaceTracker:
        del landmarks  # the network's own
        return FaceTracker.of_network(look, network)

    return People(detector, network.five_points, make, config)


def measure(
    scene: int,
    fps: float = 30.0,
    detector: str = "ours",
    alone: bool = False,
    tell: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """Follow the first person through a minute.

    Args:
        scene: which pair of people.
        fps: frames per second.
        detector: finds faces.
        alone: follow with a tracker that knows nobody.
        tell: is told of every frame that went wrong.

    Returns:
        Counts of frames: all, ``wanted`` (the face shows), ``analysed`` of these, ``swapped``
        (somebody else was analysed); and the ``numbers`` that whoever was followed had.
    """
    generator, network = Generator(777), AUNetwork.load(device="cpu")
    pair = actor(generator, 2 * scene), actor(generator, 2 * scene + 1)
    people = people_of(network, make_detector(detector), FollowConfig())
    tracker = people._places[0].tracker
    if alone:
        tracker.choice = Choice()
        tracker.attach(make_detector(detector), network.five_points)
    counts = dict.fromkeys(("frames", "wanted", "analysed", "swapped"), 0)
    numbers: set[int] = set()
    for n, shot in enumerate(shots(pair, scene, fps)):
        face = tracker.update(shot.image) if alone else people.update(shot.image)[0]
        found = whose(face, shot) if face.crop is not None else None
        wanted = bool(shot.shows[0] >= SEEN)
        counts["frames"] += 1
        counts["wanted"] += int(wanted)
        counts["analysed"] += int(wanted and found == 0)
        counts["swapped"] += int(found == 1)
        if face.id is not None:
            numbers.add(face.id)
        if tell is not None and (found == 1 or (wanted and found != 0)):
            tell(f"{n / fps:.2f} s {face.state} {face.reason} {found} {shot.shows.round(2)}")
    return {**counts, "numbers": sorted(numbers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--detector", default="ours")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--alone", action="store_true", help="a tracker that knows nobody")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    tell = print if options.verbose else None
    for scene in range(options.first, options.first + options.scenes):
        found = measure(scene, options.fps, options.detector, options.alone, tell)
        print(f"scene {scene}: {found}", flush=True)


if __name__ == "__main__":
    main()
