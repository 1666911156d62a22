"""The second look: where it looks, what it keeps, and that points come back to their place."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from facestage.core.face.close_up import MOST, SHRUNK, SIDE, close_up
from facestage.core.face.detection import FaceFinder, FoundFaces
from numpy.typing import NDArray


def faces(boxes: list[tuple[float, float, float, float]], scores: list[float]) -> FoundFaces:
    n = len(boxes)
    return FoundFaces(
        np.array(boxes, np.float32).reshape(n, 4),
        np.array(scores, np.float32),
        np.zeros((n, 5, 2), np.float32),
        np.zeros((n, 5), np.float32),
        np.zeros(n, np.float32),
    )


class SpotFinder:
    """Takes the bright pixels of a cut for a face; all its points lie in their middle."""

    overlap = 0.4

    def __init__(self, *scores: float) -> None:
        self.scores = scores
        self.looks: list[int] = []

    def find(self, pictures: list[NDArray[np.uint8]], levels: int) -> list[FoundFaces]:
        assert levels == 3
        self.looks.append(len(pictures))
        found = []
        for number, picture in enumerate(pictures):
            assert picture.shape == (SIDE, SIDE)
            rows, columns = np.nonzero(picture > 127)
            if not len(rows):
                found.append(faces([], []))
                continue
            left, top = columns.min() - 0.5, rows.min() - 0.5
            box = (left, top, columns.max() + 0.5 - left, rows.max() + 0.5 - top)
            seen = faces([box], [self.scores[min(number, len(self.scores) - 1)]])
            middle = np.array([columns.mean(), rows.mean()], np.float32)
            found.append(
                FoundFaces(
                    seen.boxes,
                    seen.scores,
                    np.tile(middle, (1, 5, 1)),
                    seen.visible + 1,
                    seen.roll + 90,
                )
            )
        return found


def look(
    finder: SpotFinder, picture: NDArray[np.uint8], found: FoundFaces, threshold: float = 0.55
) -> FoundFaces:
    return close_up(cast(FaceFinder, finder), picture, found, threshold)


def spot(x: int, y: int, side: int, shape: tuple[int, int] = (360, 640)) -> NDArray[np.uint8]:
    picture = np.zeros(shape, np.uint8)
    picture[y : y + side, x : x + side] = 255
    return picture


@pytest.mark.parametrize(
    ("x", "y", "side"), [(300, 100, 40), (2, 3, 40), (597, 317, 40), (100, 50, 250), (400, 200, 9)]
)
def test_points_and_roll_are_those_of_the_closer_look_in_pixels_of_the_picture(
    x: int, y: int, side: int
) -> None:
    rough = (x - 0.1 * side, y + 0.1 * side, side, 1.1 * side)
    seen = look(SpotFinder(0.9), spot(x, y, side), faces([rough], [0.8]))
    middle = np.array([x, y]) + (side - 1) / 2
    pixel = 2.4 * 1.1 * side / SIDE  # of the cut
    assert seen.points[0] == pytest.approx(np.tile(middle, (5, 1)), abs=max(0.6, 0.6 * pixel))
    assert seen.roll.tolist() == [90]
    assert seen.visible.tolist() == [[1] * 5]
    # The box has the middle and nearly the size of the mean of both.
    mean = (np.array([x - 0.5, y - 0.5, side, side]) + rough) / 2
    box = seen.boxes[0]
    assert box[:2] + box[2:] / 2 == pytest.approx(mean[:2] + mean[2:] / 2, abs=max(1.0, pixel))
    assert box[2:] == pytest.approx(SHRUNK * mean[2:], abs=max(1.0, pixel))


def test_both_looks_together_decide() -> None:
    picture, found = spot(300, 100, 40), faces([(300, 100, 40, 40)], [0.4])
    assert look(SpotFinder(0.9), picture, found).scores == pytest.approx([0.65])
    assert len(look(SpotFinder(0.6), picture, found)) == 0
    sure = faces([(300, 100, 40, 40)], [0.95])
    assert len(look(SpotFinder(0.9), np.zeros_like(picture), sure)) == 0  # not seen again


def test_what_the_closer_look_is_not_sure_of_is_seen_at_two_more_sizes() -> None:
    finder = SpotFinder(0.7)
    look(finder, spot(300, 100, 40), faces([(300, 100, 40, 40)], [0.8]))
    assert finder.looks == [1, 2]
    finder = SpotFinder(0.9)
    look(finder, spot(300, 100, 40), faces([(300, 100, 40, 40)], [0.8]))
    assert finder.looks == [1]


def test_two_that_turn_out_to_be_one_are_one() -> None:
    found = faces([(300, 100, 40, 40), (312, 112, 40, 40)], [0.9, 0.6])
    seen = look(SpotFinder(0.9), spot(305, 105, 40), found)
    assert seen.scores == pytest.approx([0.9])


def test_of_a_crowd_the_first_look_decides_on_those_beyond_the_most() -> None:
    boxes = [(40.0 * i, 100.0, 30.0, 30.0) for i in range(MOST + 2)]
    finder = SpotFinder(0.9)
    seen = look(finder, np.zeros((360, 640), np.uint8), faces(boxes, [0.9] * MOST + [0.8, 0.5]))
    assert finder.looks == [MOST]
    assert seen.boxes.tolist() == [list(boxes[MOST])]


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (3, 5), (2160, 3840)])
def test_pictures_of_any_size_and_boxes_beyond_them_are_looked_at(shape: tuple[int, int]) -> None:
    picture = np.full(shape, 200, np.uint8)
    boxes = [(-50.0, -50.0, 60.0, 60.0), (0.0, 0.0, 5000.0, 4000.0), (0.0, 0.0, 0.4, 0.4)]
    look(SpotFinder(0.9), picture, faces(boxes, [0.9, 0.8, 0.7]))
    assert len(look(SpotFinder(0.9), picture, faces([], []))) == 0
