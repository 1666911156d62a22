"""Shares of relevance by facial region: they lie where the names say, and go with the face."""

from __future__ import annotations

import numpy as np
import pytest
from facestage.core.errors import ConfigError
from facestage.core.face.region_shares import (
    OUTSIDE,
    PARTS,
    Shares,
    movement,
    region_parts,
    shares,
    strongest,
)
from numpy.typing import NDArray

SIZE = 96
FIVE = np.array([[32.7, 32.9], [63.3, 32.9], [48, 51.1], [35.6, 68.5], [60.4, 68.5]])
"""Template of the embedded network: what an aligned face looks like."""


def part_at(x: float, y: float, points: NDArray[np.float64] = FIVE, size: int = SIZE) -> str:
    return PARTS[region_parts(points, size)[round(y), round(x)]]


def blob(*places: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return a map with a spot of relevance at each (x, y), of so much in all."""
    yy, xx = np.mgrid[:SIZE, :SIZE]
    spots = [w * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 8.0) for x, y, w in places]
    return np.sum(spots, axis=0).astype(np.float32)


def of(*places: tuple[float, float, float]) -> Shares:
    return shares(blob(*places), region_parts(FIVE, SIZE))


@pytest.mark.parametrize(
    ("x", "y", "name"),
    [
        (35.6, 68.5, "right mouth corner"),  # the viewer's left
        (60.4, 68.5, "left mouth corner"),
        (48, 45, "nose"),
        (48, 29, "nose root"),
        (33, 32, "right upper lid"),
        (63, 36, "left lower lid"),
        (41, 22, "right inner brow"),
        (70, 22, "left outer brow"),
        (40, 8, "right half of the forehead"),
        (30, 50, "right cheek"),
        (65, 52, "left cheek"),
        (48, 85, "chin"),
        (2, 2, OUTSIDE),
        (94, 60, OUTSIDE),
    ],
)
def test_a_region_lies_where_its_name_says(x: float, y: float, name: str) -> None:
    assert part_at(x, y) == name


def test_every_part_has_room() -> None:
    counts = np.bincount(region_parts(FIVE, SIZE).ravel(), minlength=len(PARTS))
    assert {name: int(n) for name, n in zip(PARTS, counts, strict=True) if n < 12} == {}


def test_a_mirrored_face_has_mirrored_regions() -> None:
    skewed = FIVE + np.array([[1, 0], [2, 1], [-3, 1], [0, 2], [4, 0]])
    mirrored = skewed[[1, 0, 2, 4, 3]] * (-1, 1) + (SIZE, 0)
    order = [
        PARTS.index(name.replace("right", "?").replace("left", "right").replace("?", "left"))
        for name in PARTS
    ]
    swapped = np.array(order, np.uint8)[region_parts(skewed, SIZE)]
    # Column x of one is column SIZE - x of the other.
    assert (region_parts(mirrored, SIZE)[:, :0:-1] == swapped[:, 1:]).mean() > 0.97


def test_a_corner_of_the_mouth_takes_its_region_along() -> None:
    moved = FIVE + np.array([[0, 0], [0, 0], [0, 0], [-6, -4], [0, 0]])
    assert part_at(29, 64, moved) == "right mouth corner"
    assert part_at(29, 64) != "right mouth corner"
    assert part_at(60.4, 68.5, moved) == "left mouth corner"


def test_regions_grow_with_the_crop() -> None:
    twice = region_parts(FIVE * 2, 2 * SIZE)
    assert (np.kron(region_parts(FIVE, SIZE), np.ones((2, 2), np.uint8)) == twice).mean() > 0.93


def test_shares_add_up_and_leave_negative_relevance_out() -> None:
    relevance = blob((35.6, 68.5, 3), (48, 90, 1)) - 0.001
    found = shares(relevance, region_parts(FIVE, SIZE))
    assert found.dtype == np.float32
    assert found.sum() == pytest.approx(1)
    assert found[PARTS.index("right mouth corner")] > 0.6
    assert shares(-relevance - 1, region_parts(FIVE, SIZE)).sum() == 0


def test_names_say_the_side_only_where_it_is_one() -> None:
    assert strongest(of((35.6, 68.5, 1), (60.4, 68.5, 1)))[0][0] == "mouth corners"
    assert strongest(of((35.6, 68.5, 1), (60.4, 68.5, 0.1)))[0][0] == "right mouth corner"
    assert strongest(np.zeros(len(PARTS), np.float32)) == ()
    names = [name for name, _ in strongest(of((35.6, 68.5, 3), (48, 85, 2), (33, 32, 1)), most=2)]
    assert names == ["right mouth corner", "chin"]


def test_what_is_small_is_named_only_if_nothing_is_larger() -> None:
    even = np.full(len(PARTS), 1 / len(PARTS), np.float32)
    spread = np.where(np.array([name.endswith("lip") for name in PARTS]), 0.0, even)
    assert all(share >= 0.05 for _, share in strongest(spread.astype(np.float32)))
    faint = np.zeros(len(PARTS), np.float32)
    faint[3] = 0.01
    assert len(strongest(faint)) == 1


def test_movement_names_what_lost_and_what_gained() -> None:
    both = of((35.6, 68.5, 1), (60.4, 68.5, 1))
    right, left = of((35.6, 68.5, 1)), of((60.4, 68.5, 1))
    chin = of((48, 85, 1))
    assert movement(right, left) == ("right mouth corner", "left mouth corner")
    assert movement(both, chin) == ("mouth corners", "chin")
    assert movement(chin, both) == ("chin", "mouth corners")
    assert movement(both, both) is None
    assert movement(both, (both * 0.99 + chin * 0.01).astype(np.float32)) is None


@pytest.mark.parametrize(
    "points", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.zeros((68, 2)), FIVE[:4]]
)
def test_what_is_no_face_is_refused(points: NDArray[np.float64]) -> None:
    with pytest.raises(ConfigError):
        region_parts(points, SIZE)


def test_a_crop_and_a_map_must_fit() -> None:
    with pytest.raises(ConfigError, match="positive"):
        region_parts(FIVE, 0)
    with pytest.raises(ConfigError, match="shape"):
        shares(np.zeros((48, 48), np.float32), region_parts(FIVE, SIZE))
