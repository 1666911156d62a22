"""Which facial regions carry the relevance of a map, in shares and in words.

The face is divided into regions that do not overlap and have plain names; what is left of the crop
lies outside the face. A region with two sides is kept in halves: that somebody smiles on one side
is a reason of its own. Left and right are the person's own, as in FACS; in a mirrored picture they
are those of the mirror image.

Where the regions lie is known from the five points by which the crop was aligned: a mean face of 68
landmarks is moved so that its five points fall on them. Lips that are wide open move nothing but
the corners of the mouth, so a lower lip that hangs far down counts as chin.

References:
    Ekman, Friesen & Hager, *Facial Action Coding System: the manual*, 2002 (sides, appearance).
    Shepard, *A two-dimensional interpolation function for irregularly-spaced data*, ACM, 1968.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError
from .alignment import similarity, transform
from .zones import FOREHEAD, MIRROR, Zone, Zones, at

__all__ = [
    "OUTSIDE",
    "PARTS",
    "Region",
    "Shares",
    "movement",
    "region_parts",
    "shares",
    "strongest",
]

Shares = NDArray[np.float32]
"""``(N,)`` float32, 0–1: share of each of :data:`PARTS` in the positive relevance of a map. They
add up to 1; all are 0 where a map holds no positive relevance."""

OUTSIDE = "outside the face"
"""Name of what is left of the crop."""

ONE_SIDE = 0.8
"""A region is named with its side if that side has at least this share of its relevance."""
LEAST = 0.05
"""Regions with less than this share of the relevance are not named, unless they are the first."""
MOVED = 0.05
"""Relevance moved if at least this share of it lies in other parts than before."""
_STEPS = 48
"""Points are rounded to this fraction of the crop's side, the cell of a mask on the wire."""


@dataclass(frozen=True, slots=True)
class Region:
    """A facial region.

    Attributes:
        name: of both sides together.
        half: of one side, after ``left`` or ``right``; empty for a region without sides.
        zone: where it lies.
    """

    name: str
    half: str
    zone: Zone


_REGIONS = (
    # What comes later lies on top.
    Region("cheeks", "cheek", Zone(at(*range(9), 27, 33) + at(17, up=0.35), 0.0)),
    Region(
        "forehead",
        "half of the forehead",
        Zone(at(17, 18, 19, 20) + at(27, up=0.3) + at(18, 20, up=FOREHEAD) + at(27, up=0.95), 0.0),
    ),
    Region("jaw", "side of the jaw", Zone(at(4, 5, 6, 7) + at(48, out=0.3, up=-0.35), 0.0)),
    Region(
        "outer eye corners",
        "outer eye corner",
        Zone(at(36, out=0.05) + at(36, out=0.25, up=0.12) + at(36, out=0.25, up=-0.2), 0.06),
    ),
    Region("lower lids", "lower lid", Zone(at(36, 39, 40, 41) + at(40, 41, up=-0.2), 0.04)),
    Region("upper lids", "upper lid", Zone(at(36, 37, 38, 39) + at(37, 38, up=0.08), 0.03)),
    Region("sides of the nose", "side of the nose", Zone(at(39, 31) + at(31, out=0.1), 0.06)),
    Region(
        "nasolabial folds",
        "nasolabial fold",
        Zone(at(31, out=0.2, up=0.05) + at(48, out=0.2, up=0.15), 0.09),
    ),
    Region("nose", "", Zone(at(27, 30, 31, 33), 0.03, joined=True)),
    Region("nose root", "", Zone(at(27, 28) + at(27, out=0.1) + at(27, up=0.3), 0.08, joined=True)),
    Region("outer brows", "outer brow", Zone(at(17, 18, 19), 0.1)),
    Region("inner brows", "inner brow", Zone(at(20, 21), 0.12)),
    Region("chin", "", Zone(at(58, 57, up=-0.08) + at(7, 8), 0.02, joined=True)),
    Region("upper lip", "half of the upper lip", Zone(at(48, 49, 50, 51, 33, 62, 60), 0.02)),
    Region("lower lip", "half of the lower lip", Zone(at(60, 67, 66, 57, 58, 59, 48), 0.03)),
    Region("mouth corners", "mouth corner", Zone(at(48) + at(48, out=0.06), 0.13)),
)

_ZONES = Zones({region.name: region.zone for region in _REGIONS})
_SIDES = ("right", "left")  # the viewer's left is the person's right


def _parts() -> Iterator[tuple[str, int]]:
    """Yield the name of each part, and the number of its region (−1: none)."""
    yield OUTSIDE, -1
    for number, region in enumerate(_REGIONS):
        if region.half:
            yield from ((f"{side} {region.half}", number) for side in _SIDES)
        else:
            yield region.name, number


PARTS, _REGION_OF = (tuple(column) for column in zip(*_parts(), strict=True))
"""Name of each part: :data:`OUTSIDE`, then the regions, those with two sides in halves, the
person's right one first."""

_LEFT_HALF = {
    0: (-1.051, 0.028), 1: (-1.042, 0.311), 2: (-1.003, 0.59), 3: (-0.957, 0.853),
    4: (-0.85, 1.173), 5: (-0.653, 1.461), 6: (-0.472, 1.591), 7: (-0.243, 1.668),
    8: (0, 1.721), 17: (-0.879, -0.158), 18: (-0.755, -0.285), 19: (-0.584, -0.336),
    20: (-0.363, -0.332), 21: (-0.167, -0.289), 27: (0, -0.024), 28: (0, 0.111),
    29: (0, 0.265), 30: (0, 0.457), 31: (-0.205, 0.705), 32: (-0.1, 0.705), 33: (0, 0.717),
    36: (-0.681, 0.003), 37: (-0.597, -0.059), 38: (-0.427, -0.069), 39: (-0.284, 0.026),
    40: (-0.418, 0.048), 41: (-0.593, 0.051), 48: (-0.405, 1.048), 49: (-0.276, 0.951),
    50: (-0.12, 0.905), 51: (0, 0.917), 57: (0, 1.199), 58: (-0.167, 1.184),
    59: (-0.29, 1.138), 60: (-0.354, 1.042), 61: (-0.161, 1.032), 62: (0, 1.039),
    66: (0, 1.041), 67: (-0.173, 1.035),
}  # fmt: skip
"""Landmark → its mean over 200 rendered neutral faces, made symmetric: x to the right and y down,
distances between the eyes, from the point between them. The other half is the mirror image."""


def _mean_face() -> NDArray[np.float64]:
    face = np.zeros((len(MIRROR), 2))
    for landmark, (x, y) in _LEFT_HALF.items():
        face[landmark], face[MIRROR[landmark]] = (x, y), (-x, y)
    return face


_MEAN_FACE = _mean_face()


def _five(face: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the five points of 68 landmarks: eye centres, nose tip, mouth corners."""
    return np.stack([face[36:42].mean(0), face[42:48].mean(0), face[30], face[48], face[54]])


def _pull() -> NDArray[np.float64]:
    """Return ``(68, 5)``: how far each landmark follows each of the five points (Shepard)."""
    apart = np.linalg.norm(_MEAN_FACE[:, None] - _five(_MEAN_FACE)[None], axis=2)
    weights = 1 / np.maximum(apart, 1e-3) ** 2
    return weights / weights.sum(1, keepdims=True)


_PULL = _pull()


def region_parts(points: ArrayLike, size: int) -> NDArray[np.uint8]:
    """Divide the crop of a face into its parts.

    Args:
        points: ``(5, 2)`` x, y in crop pixels: viewer-left eye, viewer-right eye, nose tip,
            viewer-left and viewer-right mouth corner; rounded to a 48th of the side.
        size: side of the square crop, pixels.

    Returns:
        ``(size, size)`` uint8 index into :data:`PARTS`; read-only.

    Raises:
        ConfigError: the points are not ``(5, 2)``, not finite, or no face; the size is not
            positive.
    """
    five = np.asarray(points, np.float64)
    if five.shape != (5, 2) or not np.isfinite(five).all():
        raise ConfigError(
            f"facial regions need five finite points (5, 2), got shape {five.shape}; leave out "
            "frames without a face"
        )
    if size <= 0:
        raise ConfigError(f"the side of a crop must be positive, got {size}")
    step = size / _STEPS
    return _divided(tuple(np.rint(five.ravel() / step).astype(int).tolist()), size)


# Points of an aligned crop hardly move from frame to frame.
@lru_cache(maxsize=256)
def _divided(rounded: tuple[int, ...], size: int) -> NDArray[np.uint8]:
    five = np.array(rounded, np.float64).reshape(5, 2) * (size / _STEPS)
    own = _five(_MEAN_FACE)
    if len(np.unique(five[:2], axis=0)) < 2:
        raise ConfigError("both eyes lie on one point; leave out faces whose points failed")
    matrix = similarity(own, five, np.ones(5))
    astray = five - transform(matrix, own)
    placed = _ZONES.place(transform(matrix, _MEAN_FACE) + _PULL @ astray, size)
    parts = np.zeros((size, size), np.uint8)
    number = 0
    for region in _REGIONS:
        for side in range(2 if region.half else 1):
            number += 1
            _ZONES.paint(parts, placed, region.name, side, number)
    parts.setflags(write=False)
    return parts


def shares(relevance: NDArray[np.floating], parts: NDArray[np.uint8]) -> Shares:
    """Return how the positive relevance of a map is divided among the parts of its face.

    Args:
        relevance: ``(S, S)``, finite, any unit.
        parts: ``(S, S)`` of the same crop, see :func:`region_parts`.

    Raises:
        ConfigError: the shapes differ.
    """
    if relevance.shape != parts.shape:
        raise ConfigError(
            f"a map of shape {relevance.shape} cannot be divided by parts of shape {parts.shape}; "
            "make the parts for the size of the map"
        )
    positive = np.maximum(relevance, 0)
    sums = np.bincount(parts.ravel(), positive.ravel(), len(PARTS))
    total = sums.sum()
    return (sums / total if total > 0 else sums).astype(np.float32)


def strongest(of: Shares, most: int = 3) -> tuple[tuple[str, float], ...]:
    """Name the regions that carry the most relevance.

    Args:
        of: shares of a map.
        most: regions named at most.

    Returns:
        (name, share 0–1, in hundredths) of each, the largest first. A region is named with its side
        where nearly all of its relevance lies there. Empty without positive relevance.
    """
    found: list[tuple[str, float]] = []
    for name, first, count in _groups():
        each = of[first : first + count]
        total = float(each.sum())
        side = int(each.argmax())
        one_sided = count == 2 and each[side] >= ONE_SIDE * total
        found.append((PARTS[first + side] if one_sided else name, total))
    found.sort(key=lambda pair: -pair[1])
    named = [(name, round(share, 2)) for name, share in found[:most] if share >= LEAST]
    return tuple(named or [(name, round(share, 2)) for name, share in found[:1] if share > 0])


def movement(before: Shares, after: Shares) -> tuple[str, str] | None:
    """Name the region that lost most relevance from one map to another, and the one that gained.

    The sides of a region are told apart where one gained and the other did not.

    Returns:
        The two names, or None if hardly any relevance moved between the parts.
    """
    gained = after - before
    if np.abs(gained).sum() < 2 * MOVED:
        return None
    candidates: list[tuple[float, str]] = []
    for name, first, count in _groups():
        each = gained[first : first + count]
        low, high = sorted(np.abs(each))[0], np.abs(each).max()
        apart = count == 2 and (each[0] * each[1] < 0 or low < (1 - ONE_SIDE) * high)
        if apart:
            candidates += [(float(each[side]), PARTS[first + side]) for side in range(2)]
        else:
            candidates.append((float(each.sum()), name))
    return min(candidates)[1], max(candidates)[1]


@lru_cache(maxsize=1)
def _groups() -> tuple[tuple[str, int, int], ...]:
    """Return name, first part and number of parts of each region, and of what lies outside."""
    names = [OUTSIDE, *(region.name for region in _REGIONS)]
    numbers = [_REGION_OF.index(k) for k in range(-1, len(_REGIONS))]
    return tuple(
        (name, first, _REGION_OF.count(k - 1))
        for k, (name, first) in enumerate(zip(names, numbers, strict=True))
    )
