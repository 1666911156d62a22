"""Zones of skin, drawn over the 68 landmarks of one face.

A zone is a convex patch: some landmarks, each moved by parts of the size of the face, and a margin
of skin around them. So a zone turns, grows and moves with its face. The forehead, which has no
landmarks, is reached from the brows by a part of the size of the face.

Landmarks are 68 points in Multi-PIE order: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, outer
lips 48-59, inner lips 60-67, from the viewer's left to right.

References:
    Gross et al., *Multi-PIE*, Image and Vision Computing 28(5), 2010 (order of the landmarks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError

__all__ = ["FOREHEAD", "LANDMARK_COUNT", "MIRROR", "Zone", "Zones", "at"]

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

FOREHEAD = 0.65
"""Height of the forehead above the brows, in face units: brows to hairline."""
_NOSE_UNITS = 1.35
"""Face units per distance from the eyes to the base of the nose. An upright frontal face has the
same unit by its eyes; a face turned to the side keeps it by its nose."""
_SUBPIXEL_BITS = 4
_FAR = 1e5
"""Farther out than this (pixels) a point makes no difference to any crop, and still fits an int."""


@dataclass(frozen=True, slots=True)
class Zone:
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


def at(*landmarks: int, out: float = 0.0, up: float = 0.0) -> tuple[tuple[int, float, float], ...]:
    """Return landmarks of a zone, all moved alike: outwards and up by parts of a face unit."""
    return tuple((landmark, out, up) for landmark in landmarks)


_ANGLES = (np.arange(8) + 0.5) * np.pi / 4
# An octagon around the circle of the margin: never thinner than asked for, and quick to draw.
_OCTAGON = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1) / np.cos(np.pi / 8)


class Zones:
    """Zones with names, which can be drawn over any face.

    All of them are written as one list of points, landmark and move, with the patches of each zone:
    all points are then moved by one sum, which is what makes this fast.

    Args:
        zones: name → zone.
    """

    def __init__(self, zones: Mapping[str, Zone]) -> None:
        landmarks: list[int] = []
        moves: list[tuple[float, float, float]] = []
        self._patches: dict[str, list[slice]] = {}
        for name, zone in zones.items():
            left = [(index, -out, up, zone.margin) for index, out, up in zone.points]
            right = [(int(MIRROR[index]), out, up, zone.margin) for index, out, up in zone.points]
            self._patches[name] = []
            for patch in [left + right] if zone.joined else [left, right]:
                begin = len(landmarks)
                self._patches[name].append(slice(begin, begin + len(patch)))
                landmarks += [index for index, *_ in patch]
                moves += [(along, up, margin) for _, along, up, margin in patch]
        self._landmarks = np.array(landmarks)
        along_up_margin = np.array(moves)[:, None]
        # (P, 8, 2) corners around each point, (towards the viewer's right, up), face units.
        self._offsets = along_up_margin[..., :2] + along_up_margin[..., 2:] * _OCTAGON

    def place(self, landmarks: ArrayLike, size: int) -> NDArray[np.int32]:
        """Return the corners of all zones for one face.

        Args:
            landmarks: ``(68, 2)`` x, y in crop pixels, Multi-PIE order; they may lie outside.
            size: side of the square crop, pixels.

        Returns:
            ``(P, 8, 2)`` int32, fixed-point crop pixels, for :meth:`draw` and :meth:`paint`.

        Raises:
            ConfigError: the size is not positive, or the landmarks are not ``(68, 2)``, not finite,
                or all eye points coincide.
        """
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
                "the landmarks do not form a face: they are not all finite, or both eyes lie on "
                "one point; leave out faces whose landmarks failed"
            )
        along = across / apart
        up = np.array([along[1], -along[0]])  # y points down
        unit = max(apart, _NOSE_UNITS * abs((face[33] - (left + right) / 2) @ up))
        placed = face[self._landmarks][:, None] + self._offsets @ (unit * np.stack([along, up]))
        np.clip(placed, -_FAR, _FAR, out=placed)
        placed *= 1 << _SUBPIXEL_BITS
        return np.rint(placed, out=placed).astype(np.int32)

    def draw(self, points: NDArray[np.int32], names: Sequence[str], size: int) -> NDArray[np.uint8]:
        """Return ``(size, size)`` uint8: 1 inside any of the zones of these names, else 0."""
        canvas = np.zeros((size, size), np.uint8)
        for name in names:
            for side in range(len(self._patches[name])):
                self.paint(canvas, points, name, side, 1)
        return canvas

    def paint(
        self, canvas: NDArray[np.uint8], points: NDArray[np.int32], name: str, side: int, value: int
    ) -> None:
        """Write a value into one patch of a zone.

        Args:
            canvas: ``(size, size)`` uint8, written to.
            points: of the face, see :meth:`place`.
            name: of the zone.
            side: 0 for its patch on the viewer's left, or over both halves; 1 for the mirrored one.
            value: 0–255.
        """
        outline = cv2.convexHull(points[self._patches[name][side]].reshape(-1, 2))
        cv2.fillConvexPoly(canvas, outline, (value,), cv2.LINE_8, _SUBPIXEL_BITS)
