"""Where on the face each AU shows: zones by FACS over the 68 landmarks.

A relevance map that is right for the right reason lies where the muscle moves the skin. The zones
here follow the appearance changes that the FACS manual lists for each AU; they are drawn over the
68 landmarks of one face (:mod:`.zones`), so they turn, grow and move with it.

References:
    Ekman, Friesen & Hager, *Facial Action Coding System: the manual*, 2002 (appearance changes,
    section A of each AU).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError
from .zones import FOREHEAD, LANDMARK_COUNT, MIRROR, Zone, Zones, at

__all__ = ["LANDMARK_COUNT", "MIRROR", "REGION_AUS", "au_regions", "face_region"]

_ZONES = Zones(
    {
        "central_forehead": Zone(at(20, 21, up=-0.1) + at(20, 21, up=FOREHEAD), 0.08, joined=True),
        "lateral_forehead": Zone(at(17, 18, 19, up=-0.1) + at(17, 18, 19, up=FOREHEAD), 0.08),
        "brows": Zone(at(17, 18, 19, 20, 21), 0.12),
        "glabella": Zone(at(20, 21, 27) + at(21, up=0.3), 0.06, joined=True),
        "eyes": Zone(at(36, 37, 38, 39, 40, 41), 0.16),
        "crow_feet": Zone(at(36) + at(36, out=0.25, up=0.12) + at(36, out=0.25, up=-0.2), 0.08),
        "lids_cheeks": Zone(
            at(36, 41, 40, 39) + at(40, up=-0.5) + at(36, out=0.12, up=-0.5) + at(36, out=0.15),
            0.08,
        ),
        "nose_sides": Zone(at(21, 39, 31) + at(31, out=0.12, up=0.1), 0.06, joined=True),
        "upper_lip": Zone(at(49, 50, 51, 48) + at(31, out=0.2, up=0.05), 0.08, joined=True),
        "smile": Zone(
            at(48, 49, 59, 58, 57) + at(48, out=0.3) + at(48, out=0.3, up=0.35) + at(31, out=0.1),
            0.1,
            joined=True,
        ),
        "corners": Zone(at(48) + at(48, out=0.1), 0.22),
        "below_corners": Zone(at(48) + at(48, out=0.1, up=-0.4), 0.2),
        "lower_lip": Zone(at(48, 59, 58, 57) + at(59, 58, 57, up=-0.2), 0.08, joined=True),
        "chin": Zone(at(48, 59, 58, 57) + at(7, 8), 0.04, joined=True),
        "mouth": Zone(at(*range(48, 52), 57, 58, 59), 0.18, joined=True),
        "mouth_wide": Zone(at(*range(48, 52), 57, 58, 59) + at(48, out=0.3), 0.18, joined=True),
        "jaw": Zone(at(*range(48, 52), 57, 58, 59) + at(5, 6, 7, 8), 0.08, joined=True),
        "face": Zone(at(*range(9)) + at(17, up=0.35) + at(18, 19, 20, up=FOREHEAD), 0.0, True),
    }
)

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
    points = _ZONES.place(landmarks, size)
    face = _ZONES.draw(points, ("face",), size)
    # Several AUs share a zone: each combination is drawn once.
    drawn = {shows: _ZONES.draw(points, shows, size) & face for shows in {_SHOWS[au] for au in aus}}
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
    return _ZONES.draw(_ZONES.place(landmarks, size), ("face",), size).view(np.bool_)
