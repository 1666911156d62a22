"""A second look at each face that may have been found, at the size at which the finder sees best.

One pass over a reduced picture meets faces of every size and roll. Small ones are a handful of
pixels there; where a face fills the picture, the cells that speak of it see a part of it each,
disagree on which way is up, and the mean of their points collapses. So whatever may be a face is
cut out of the full picture with its surroundings, brought to one size, and looked at again: a pass
over 96 × 96 pixels, a sixth of the one over a picture. What both looks together are sure of is a
face; its points and roll are those of the second.

On people who are not trained with (``benchmarks/finder.py``; thresholds of one half, figures of the
other) it finds small faces that one look misses, nearly ends false
boxes, and no longer loses frontal portraits whose points had collapsed.

References:
    Viola and Jones, *Robust real-time face detection*, IJCV 2004 (the cascade).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .detection import FaceFinder, FoundFaces

__all__ = ["CANDIDATE", "MOST", "SIDE", "close_up"]

SIDE = 96
"""Side of the cut-out, pixels."""
LEVELS = 3
"""Strides of the finder that are asked in a cut-out, the finest first."""
SPAN = 2.4
"""Side of what is cut out, in sides of the face's box: the face is 40 pixels wide then."""
OTHER_SPANS = (1.9, 3.4)
"""Where the closer look is not :data:`SURE`, these are tried, and the surest gives the points: what
was found may be a part of the face, or more than it."""
SURE = 0.8
CANDIDATE = 0.2
"""What is so much less certain than a face has to be is looked at again, too."""
MOST = 6
"""Most faces of a picture that are looked at again, the most certain first. Of any others the first
look decides, and tells their points."""
SAME = 0.1
"""Intersection over union from which the face of a closer look is that of the first: the first may
have taken the whole head."""
SHRUNK = 0.94
"""Boxes are wider and taller than the outline of the face (on 44 people who choose, upright: by 2 %
with 64, by 10 % with 12 pixels between the eyes); so much of the size is given."""
AGREED = 0.4
"""Intersection over union from which the box of a face is the mean of those of both looks."""


@dataclass(frozen=True)
class _Face:
    """One face; the fields of :class:`~.detection.FoundFaces`."""

    box: NDArray[np.float32]
    score: float
    points: NDArray[np.float32]
    visible: NDArray[np.float32]
    roll: float


def close_up(
    finder: FaceFinder, picture: NDArray[np.uint8], found: FoundFaces, threshold: float
) -> FoundFaces:
    """Look at what was found once more, closely, and keep what is a face.

    Args:
        finder: found it, with a threshold lower by :data:`CANDIDATE`.
        picture: ``(H, W)`` uint8 grey, as fine as there is; it may be finer than what was searched.
        found: what may be faces, the most certain first, in pixels of ``picture``.
        threshold: least mean score of both looks, 0–1; beyond :data:`MOST` of the first.

    Returns:
        The faces, the most certain first.
    """
    first = _faces(found)
    closer = _look(finder, picture, [(face.box, SPAN) for face in first[:MOST]])
    seen = [face for face in first[MOST:] if face.score >= threshold]
    for before, face in zip(first, closer, strict=False):
        if face is not None and (before.score + face.score) / 2 >= threshold:
            best = face
            if face.score < SURE:
                others = _look(finder, picture, [(face.box, span) for span in OTHER_SPANS])
                best = max((face, *filter(None, others)), key=lambda one: one.score)
            # Sizes err to both sides, unless the first look took the whole head for the face.
            alike = _overlap(before.box[None], face.box)[0] >= AGREED
            box = _shrunk((before.box + face.box) / 2 if alike else face.box)
            seen.append(replace(best, box=box, score=(before.score + face.score) / 2))
    seen.sort(key=lambda face: -face.score)
    kept: list[_Face] = []
    for face in seen:  # two may have turned out to be one
        if not kept or _overlap(np.stack([k.box for k in kept]), face.box).max() <= finder.overlap:
            kept.append(face)
    return FoundFaces(
        np.array([face.box for face in kept], np.float32).reshape(-1, 4),
        np.array([face.score for face in kept], np.float32),
        np.array([face.points for face in kept], np.float32).reshape(-1, 5, 2),
        np.array([face.visible for face in kept], np.float32).reshape(-1, 5),
        np.array([face.roll for face in kept], np.float32),
    )


def _faces(found: FoundFaces) -> list[_Face]:
    rows = zip(found.boxes, found.scores, found.points, found.visible, found.roll, strict=True)
    return [
        _Face(box, float(score), points, seen, float(roll))
        for box, score, points, seen, roll in rows
    ]


def _look(
    finder: FaceFinder, picture: NDArray[np.uint8], places: list[tuple[NDArray[np.float32], float]]
) -> list[_Face | None]:
    """Look closely at boxes, each with its span; return the surest face at each, if it is there."""
    cuts = [_cut(picture, box, span) for box, span in places]
    faces: list[_Face | None] = []
    # No face fills a cut-out: the coarsest cells need not be asked.
    found = finder.find([cut for cut, _, _ in cuts], LEVELS)
    for (box, _), (_, scale, corner), seen in zip(places, cuts, found, strict=True):
        # Areas were resized, not centres: pixel centre x of the cut is (x + ½)/s − ½.
        move = corner + 0.5 / scale - 0.5
        there = [
            replace(
                face,
                box=(face.box / np.tile(scale, 2)) + np.append(move, (0, 0)).astype(np.float32),
                points=face.points / scale + move,
            )
            for face in _faces(seen)
        ]
        alike = [face for face in there if _overlap(face.box[None], box)[0] >= SAME]
        faces.append(max(alike, key=lambda face: face.score, default=None))
    return faces


def _cut(
    picture: NDArray[np.uint8], box: NDArray[np.float32], span: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return the square around a box at :data:`SIDE`, its scale in x and y, and its corner."""
    height, width = picture.shape
    side = max(span * float(max(box[2], box[3])), 1.0)
    middle = box[:2] + box[2:] / 2
    # Whole pixels: what lies in the picture is resized by area, the rest repeats its edge.
    first = np.floor(middle - side / 2).astype(int)
    last = first + max(1, round(side))
    low = np.clip(first, 0, (width - 1, height - 1))
    high = np.clip(last, low + 1, (width, height))
    scale = SIDE / (last - first)
    inner = np.maximum(1, np.round((high - low) * scale)).astype(int)
    before = np.clip(np.round((low - first) * scale).astype(int), 0, SIDE - inner)
    seen = picture[low[1] : high[1], low[0] : high[0]]
    shrinks = scale.max() < 1
    small = cv2.resize(
        seen, inner.tolist(), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    after = SIDE - inner - before
    cut = cv2.copyMakeBorder(
        small, int(before[1]), int(after[1]), int(before[0]), int(after[0]), cv2.BORDER_REPLICATE
    )
    exact = inner / (high - low)
    corner = low - before / exact
    return np.asarray(cut, np.uint8), exact.astype(np.float32), corner.astype(np.float32)


def _shrunk(box: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the box about the same middle, smaller by :data:`SHRUNK`."""
    size = box[2:] * np.float32(SHRUNK)
    return np.append(box[:2] + (box[2:] - size) / 2, size).astype(np.float32)


def _overlap(boxes: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of ``(F, 4)`` boxes with one."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], box[:2] + box[2:])
    common = np.prod(np.maximum(high - low, 0), 1)
    return np.asarray(common / (boxes[:, 2:].prod(1) + box[2:].prod() - common), np.float32)
