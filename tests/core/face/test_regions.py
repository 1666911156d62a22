"""Regions of the AUs: they lie where FACS says, and go with the face."""

from __future__ import annotations

import numpy as np
import pytest
from facestage.core.errors import ConfigError
from facestage.core.face.regions import MIRROR, REGION_AUS, au_regions, face_region
from numpy.typing import NDArray

SIZE = 96
MIDDLE = 48.0


def frontal() -> NDArray[np.float64]:
    """Return a symmetric frontal face in a crop of 96 pixels, Multi-PIE order."""
    left = {
        **{i: (MIDDLE - 40 * np.cos(i * np.pi / 16), 45 + 43 * np.sin(i * np.pi / 16))
           for i in range(8)},
        17: (20, 28), 18: (25, 24), 19: (31, 23), 20: (37, 24), 21: (43, 27),
        31: (41, 56), 32: (44, 57),
        36: (26, 34), 37: (30, 31), 38: (35, 31), 39: (39, 34), 40: (35, 36), 41: (30, 36),
        48: (36, 68), 49: (40, 66), 50: (44, 65), 59: (40, 71), 58: (44, 73),
        60: (38, 68), 61: (44, 68), 67: (44, 69),
    }  # fmt: skip
    middle = {8: 88, 27: 34, 28: 41, 29: 47, 30: 52, 33: 58, 51: 66, 57: 74, 62: 68, 66: 69}
    face = np.zeros((68, 2))
    for i, (x, y) in left.items():
        face[i], face[MIRROR[i]] = (x, y), (2 * MIDDLE - x, y)
    for i, y in middle.items():
        face[i] = MIDDLE, y
    return face


def region(au: int, face: NDArray[np.float64] | None = None, size: int = SIZE) -> NDArray[np.bool_]:
    return au_regions(frontal() if face is None else face, [au], size)[0]


def at(mask: NDArray[np.bool_], point: NDArray[np.float64]) -> bool:
    x, y = np.rint(point).astype(int)
    return bool(mask[y, x])


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(
    ("au", "inside", "outside"),
    [
        (1, [20, 21, 22, 23], [17, 26, 36, 30, 48, 8]),
        (2, [17, 18, 25, 26], [21, 22, 27, 48, 8]),
        (4, [18, 20, 21, 22, 25, 27], [30, 33, 48, 57, 40]),
        (5, [36, 38, 39, 44, 45], [19, 30, 48]),
        (6, [40, 41, 46, 47], [19, 27, 30, 48, 57]),
        (9, [27, 28, 29, 31, 35], [18, 37, 48, 57, 8]),
        (10, [50, 51, 52, 33], [27, 57, 8, 37]),
        (12, [48, 54, 51, 57], [19, 24, 27, 37, 8]),
        (14, [48, 54], [51, 57, 33, 8]),
        (15, [48, 54], [51, 33, 37, 27]),
        (16, [57, 58, 56], [33, 31, 27]),
        (17, [57, 8], [51, 33, 37]),
        (20, [48, 54, 51, 57], [27, 37, 8]),
        (24, [51, 57, 62], [30, 8, 37]),
        (25, [51, 57, 62, 66], [30, 8, 37]),
        (26, [57, 8, 66, 6, 10], [30, 37, 19]),
        (43, [37, 41, 44, 46], [19, 30, 48]),
    ],
)
def test_a_region_lies_where_facs_says(au: int, inside: list[int], outside: list[int]) -> None:
    face, mask = frontal(), region(au)
    assert [i for i in inside if not at(mask, face[i])] == []
    assert [i for i in outside if at(mask, face[i])] == []


def test_the_forehead_is_reached_above_the_brows() -> None:
    inner, outer = region(1), region(2)
    assert at(inner, np.array([48, 12]))
    assert not at(outer, np.array([48, 12]))
    assert at(outer, np.array([25, 14]))
    assert not at(inner, np.array([25, 14]))


@pytest.mark.parametrize("au", REGION_AUS)
def test_a_region_is_a_part_of_the_face(au: int) -> None:
    face, mask = face_region(frontal(), SIZE), region(au)
    assert not (mask & ~face).any()
    # Larger regions could never hold twice the relevance that chance gives them.
    assert 0.05 < mask.sum() / face.sum() < 0.35


@pytest.mark.parametrize("au", REGION_AUS)
def test_a_mirrored_face_has_mirrored_regions(au: int) -> None:
    face = frontal() + np.random.default_rng(3).normal(0, 1.5, (68, 2))
    mirrored = face[MIRROR] * (-1, 1) + (SIZE - 1, 0)
    assert overlap(region(au, mirrored), region(au, face)[:, ::-1]) > 0.97


def test_mirroring_twice_changes_nothing() -> None:
    assert (MIRROR[MIRROR] == np.arange(68)).all()


@pytest.mark.parametrize("au", REGION_AUS)
def test_a_region_turns_with_the_face(au: int) -> None:
    # A quarter turn moves pixels onto pixels, so the masks can be compared as they are.
    face = frontal()
    turned = np.stack([SIZE - 1 - face[:, 1], face[:, 0]], axis=1)
    assert overlap(region(au, turned), np.rot90(region(au, face), -1)) > 0.97


@pytest.mark.parametrize("au", REGION_AUS)
def test_a_region_grows_with_the_face(au: int) -> None:
    twice = region(au, (frontal() + 0.5) * 2 - 0.5, 2 * SIZE)
    once = np.kron(region(au), np.ones((2, 2), bool))
    assert overlap(twice, once) > 0.88  # outlines are one pixel finer


def test_a_turned_head_keeps_its_forehead() -> None:
    """Yaw brings the eyes together; the unit of the face then comes from the nose."""
    narrow = (frontal() - (MIDDLE, 0)) * (0.6, 1) + (MIDDLE, 0)
    top = np.flatnonzero(region(1).any(axis=1))[0]
    assert abs(int(np.flatnonzero(region(1, narrow).any(axis=1))[0]) - int(top)) <= 6


def test_regions_come_in_the_order_asked_for() -> None:
    both = au_regions(frontal(), [43, 12, 43], SIZE)
    assert both.shape == (3, SIZE, SIZE)
    assert both.dtype == bool
    assert (both[0] == region(43)).all()
    assert (both[1] == region(12)).all()
    assert (both[2] == both[0]).all()
    assert au_regions(frontal(), [], SIZE).shape == (0, SIZE, SIZE)


def test_a_face_partly_outside_the_crop_is_cut_off() -> None:
    shifted = region(12, frontal() + np.array([60, 0]))
    assert (shifted[:, 60:] == region(12)[:, : SIZE - 60]).all()
    assert not region(12, frontal() + 1e12).any()


@pytest.mark.parametrize(
    ("face", "aus", "size", "part"),
    [
        (np.zeros((5, 2)), [12], SIZE, "68"),
        (np.zeros((68, 2)), [12], SIZE, "one point"),
        (np.full((68, 2), np.nan), [12], SIZE, "finite"),
        (frontal(), [12, 99], SIZE, "99"),
        (frontal(), [12], 0, "positive"),
    ],
)
def test_what_is_no_face_is_refused(
    face: NDArray[np.float64], aus: list[int], size: int, part: str
) -> None:
    with pytest.raises(ConfigError, match=part):
        au_regions(face, aus, size)
