"""Where on the face each AU shows: zones by FACS over the 68 landmarks.

A relevance map that is right for the right reason lies where the muscle moves the skin. The zones
here follow the appearance changes that the FACS manual lists for each AU; they are drawn over the
landmarks of one face, so they turn, grow and move with it. The forehead, which has no landmarks, is
reached from the brows by a part of the size of the face.

Landmarks are 68 points in Multi-PIE order: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, outer
lips 48-59, inner lips 60-67, from the viewer's left to right.

References:
    Ekman, Friesen & Hager, *Facial Action Coding System: the manual*, 2002 (appearance changes,
    section A of each AU).
    Gross et al., *Multi-PIE*, Image and Vision Computing 28(5), 2010 (order of the landmarks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError

__all__ = ["LANDMARK_COUNT", "MIRROR", "REGION_AUS", "au_regions", "face_region"]

LANDMARK_COUNT = 68
"""Landmarks of a face, Multi-PIE order."""

_MIRRORED_RUNS = {0: 16, 17: 26, 31: 35, 36: 45, 40: 47, 48: 54, 55: 59, 60: 64, 65: 67}
_RUN_LENGTHS = {0: 17, 17: 10, 31: 5, 36: 4, 40: 2, 48: 7, 55: 5, 60: 5, 65: 3}


def _mirror_order() -> NDArray[np.int64]:
    order = np.arange(LANDMARK_COUNT)
    for first, last in _MIRRORED_RUNS.items():
        for step in range(_RUN_LENGTHS[first]):
            order[first + step], order[last - step] = last - step, first + step
    return order


MIRROR: NDArray[np.int64] = _mirror_order()
"""Index of each landmark's counterpart on the other side of the face."""

_FOREHEAD = 0.65
"""Height of the forehead above the brows, in face units: brows to hairline."""
_NOSE_UNITS = 1.35
"""Face units per distance from the eyes to the base of the nose. An upright frontal face has the
same unit by its eyes; a face turned to the side keeps it by its nose."""
_SUBPIXEL_BITS = 4
_FAR = 1e5
"""Farther out than this (pixels) a point makes no difference to any crop, and still fits an int."""


@dataclass(frozen=True, slots=True)
class _Zone:
    """A convex patch of skin on the viewer's left half of the face, and its mirror image.

    Attributes:
        points: (landmark, outward, up): the landmark moved by parts of a face unit, away from the
            midline and towards the forehead.
        margin: width of skin added all around, face units.
        joined: one patch over both halves, else one on each.
    """

    points: tuple[tuple[int, float, float], ...]
    margin: float
    joined: bool = False


def _at(*landmarks: int, out: float = 0.0, up: float = 0.0) -> tuple[tuple[int, float, float], ...]:
    return tuple((landmark, out, up) for landmark in landmarks)


_ZONES: dict[str, _Zone] = {
    "central_forehead": _Zone(_at(20, 21, up=-0.1) + _at(20, 21, up=_FOREHEAD), 0.08, joined=True),
    "lateral_forehead": _Zone(_at(17, 18, 19, up=-0.1) + _at(17, 18, 19, up=_FOREHEAD), 0.08),
    "brows": _Zone(_at(17, 18, 19, 20, 21), 0.12),
    "glabella": _Zone(_at(20, 21, 27) + _at(21, up=0.3), 0.06, joined=True),
    "eyes": _Zone(_at(36, 37, 38, 39, 40, 41), 0.16),
    "crow_feet": _Zone(_at(36) + _at(36, out=0.25, up=0.12) + _at(36, out=0.25, up=-0.2), 0.08),
    "lids_cheeks": _Zone(
        _at(36, 41, 40, 39) + _at(40, up=-0.5) + _at(36, out=0.12, up=-0.5) + _at(36, out=0.15),
        0.08,
    ),
    "nose_sides": _Zone(_at(21, 39, 31) + _at(31, out=0.12, up=0.1), 0.06, joined=True),
    "upper_lip": _Zone(_at(49, 50, 51, 48) + _at(31, out=0.2, up=0.05), 0.08, joined=True),
    "smile": _Zone(
        _at(48, 49, 59, 58, 57) + _at(48, out=0.3) + _at(48, out=0.3, up=0.35) + _at(31, out=0.1),
        0.1,
        joined=True,
    ),
    "corners": _Zone(_at(48) + _at(48, out=0.1), 0.22),
    "below_corners": _Zone(_at(48) + _at(48, out=0.1, up=-0.4), 0.2),
    "lower_lip": _Zone(_at(48, 59, 58, 57) + _at(59, 58, 57, up=-0.2), 0.08, joined=True),
    "chin": _Zone(_at(48, 59, 58, 57) + _at(7, 8), 0.04, joined=True),
    "mouth": _Zone(_at(*range(48, 52), 57, 58, 59), 0.18, joined=True),
    "mouth_wide": _Zone(_at(*range(48, 52), 57, 58, 59) + _at(48, out=0.3), 0.18, joined=True),
    "jaw": _Zone(_at(*range(48, 52), 57, 58, 59) + _at(5, 6, 7, 8), 0.08, joined=True),
    "face": _Zone(_at(*range(9)) + _at(17, up=0.35) + _at(18, 19, 20, up=_FOREHEAD), 0.0, True),
}

_SHOWS: dict[int, tuple[str, ...]] = {
    1: ("central_forehead",),
    2: ("lateral_forehead",),
    4: ("brows", "glabella"),
    5: ("eyes",),
    # The manual lists the narrowed eye opening and the bagged lower lid with the raised cheek.
    6: ("lids_cheeks", "crow_feet", "eyes"),
    7: ("eyes",),
    9: ("nose_sides",),
    10: ("upper_lip",),
    12: ("smile",),
    14: ("corners",),
    15: ("below_corners",),
    16: ("lower_lip",),
    17: ("chin",),
    18: ("mouth",),
    20: ("mouth_wide",),
    22: ("mouth",),
    23: ("mouth",),
    24: ("mouth",),
    25: ("mouth",),
    26: ("jaw",),
    27: ("jaw",),
    28: ("mouth",),
    43: ("eyes",),
}

REGION_AUS: tuple[int, ...] = tuple(_SHOWS)
"""AUs that have a region."""


def _flatten() -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, list[slice]]]:
    """Write all zones as one list of points: landmark, (to the right, up, margin), and patches.

    All points of all zones are then moved by one sum, which is what makes this fast.
    """
    landmarks: list[int] = []
    moves: list[tuple[float, float, float]] = []
    patches: dict[str, list[slice]] = {}
    for name, zone in _ZONES.items():
        left = [(index, -out, up, zone.margin) for index, out, up in zone.points]
        right = [(int(MIRROR[index]), out, up, zone.margin) for index, out, up in zone.points]
        patches[name] = []
        for patch in [left + right] if zone.joined else [left, right]:
            patches[name].append(slice(len(landmarks), len(landmarks) + len(patch)))
            landmarks += [index for index, *_ in patch]
            moves += [(along, up, margin) for _, along, up, margin in patch]
    return np.array(landmarks), np.array(moves), patches


_LANDMARKS, _MOVES, _PATCHES = _flatten()
_ANGLES = (np.arange(8) + 0.5) * np.pi / 4
# An octagon around the circle of the margin: never thinner than asked for, and quick to draw.
_OCTAGON = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1) / np.cos(np.pi / 8)
_OFFSETS = _MOVES[:, None, :2] + _MOVES[:, None, 2:] * _OCTAGON
"""``(P, 8, 2)`` corners around each point, (towards the viewer's right, up), face units."""


def au_regions(landmarks: ArrayLike, aus: Sequence[int], size: int) -> NDArray[np.bool_]:
    """Mark where each AU shows on one face.

    Args:
        landmarks: ``(68, 2)`` x, y in crop pixels, Multi-PIE order; they may lie outside the crop.
        aus: AU numbers, each one of :data:`REGION_AUS`.
        size: side of the square crop, pixels.

    Returns:
        ``(A, size, size)`` bool, one region per AU in the order of ``aus``; each lies inside
        :func:`face_region`.

    Raises:
        ConfigError: an AU has no region, the size is not positive, or the landmarks are not
            ``(68, 2)``, not finite, or all eye points coincide.

    References:
        Ekman, Friesen & Hager, *Facial Action Coding System: the manual*, 2002.
    """
    unknown = sorted(set(aus) - _SHOWS.keys())
    if unknown:
        raise ConfigError(
            f"no facial region is known for AU {', '.join(map(str, unknown))}; regions exist for "
            f"AU {', '.join(map(str, REGION_AUS))}"
        )
    points = _place(landmarks, size)
    face = _draw(points, ("face",), size)
    # Several AUs share a zone: each combination is drawn once.
    drawn = {shows: _draw(points, shows, size) & face for shows in {_SHOWS[au] for au in aus}}
    regions = np.zeros((len(aus), size, size), np.uint8)
    for row, au in zip(regions, aus, strict=True):
        row[:] = drawn[_SHOWS[au]]
    return regions.view(np.bool_)


def face_region(landmarks: ArrayLike, size: int) -> NDArray[np.bool_]:
    """Mark the face: the jaw line, the temples and the forehead above the brows.

    Args:
        landmarks: ``(68, 2)`` x, y in crop pixels, Multi-PIE order.
        size: side of the square crop, pixels.

    Returns:
        ``(size, size)`` bool.

    Raises:
        ConfigError: as for :func:`au_regions`.
    """
    return _draw(_place(landmarks, size), ("face",), size).view(np.bool_)


def _place(landmarks: ArrayLike, size: int) -> NDArray[np.int32]:
    """Return the corners of all zones for a face: (P, 8, 2), fixed-point crop pixels."""
    face = np.asarray(landmarks, np.float64)
    if face.shape != (LANDMARK_COUNT, 2):
        raise ConfigError(
            f"a face needs {LANDMARK_COUNT} landmarks of shape ({LANDMARK_COUNT}, 2), got "
            f"{face.shape}; use a network whose landmark head gives the Multi-PIE points"
        )
    if size <= 0:
        raise ConfigError(f"the side of a crop must be positive, got {size}")
    left, right = face[36:42].mean(0), face[42:48].mean(0)
    across = right - left
    apart = np.hypot(*across)
    if not np.isfinite(face).all() or not apart > 0:
        raise ConfigError(
            "the landmarks do not form a face: they are not all finite, or both eyes lie on one "
            "point; leave out faces whose landmarks failed"
        )
    along = across / apart
    up = np.array([along[1], -along[0]])  # y points down
    unit = max(apart, _NOSE_UNITS * abs((face[33] - (left + right) / 2) @ up))
    placed = face[_LANDMARKS][:, None] + _OFFSETS @ (unit * np.stack([along, up]))
    np.clip(placed, -_FAR, _FAR, out=placed)
    placed *= 1 << _SUBPIXEL_BITS
    return np.rint(placed, out=placed).astype(np.int32)


def _draw(points: NDArray[np.int32], zones: tuple[str, ...], size: int) -> NDArray[np.uint8]:
    canvas = np.zeros((size, size), np.uint8)
    for name in zones:
        for patch in _PATCHES[name]:
            outline = cv2.convexHull(points[patch].reshape(-1, 2))
            cv2.fillConvexPoly(canvas, outline, (1,), cv2.LINE_8, _SUBPIXEL_BITS)
    return canvas
