"""What is kept of a sequence: face pictures are made when they are asked for, within a bound."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from facestage.core.sequence_store import Pictures
from numpy.typing import NDArray

POINTS = np.zeros((5, 2), np.float32)
SIDE = 64


def frame(number: int) -> NDArray[np.uint8]:
    """Return a grey frame that JPEG cannot make small, different for each number."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (SIDE, SIDE)).astype(np.uint8)


class Cutter:
    """Cuts nothing off, and counts."""

    def __init__(self) -> None:
        self.made: list[bytes] = []

    def __call__(self, image: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.uint8]:
        assert points is POINTS
        self.made.append(image.tobytes())
        return image


def test_a_picture_is_made_when_it_is_asked_for_and_once() -> None:
    cut = Cutter()
    pictures = Pictures(cut, limit=1 << 20)
    for n in range(10):
        pictures.add(n, frame(n), POINTS)
    assert cut.made == []
    assert all(n in pictures for n in range(10))
    first = pictures.nearest(3.2, 0, 9)
    again = pictures.nearest(3, 0, 9)
    assert cut.made == [frame(3).tobytes()]
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first, again)
    assert pictures.nearest(3, 20, 30) is None


def test_frames_that_wait_stay_within_their_bound_and_change_no_picture() -> None:
    cut = Cutter()
    lazy = Pictures(Cutter(), limit=1 << 20)
    eager = Pictures(cut, limit=1 << 20, waiting=3 * SIDE * SIDE)
    for n in range(10):
        lazy.add(n, frame(n), POINTS)
        eager.add(n, frame(n), POINTS)
        assert eager._waiting_bytes <= 3 * SIDE * SIDE
    assert cut.made == [frame(n).tobytes() for n in range(7)]
    for n in range(10):
        a, b = lazy.nearest(n, 0, 9), eager.nearest(n, 0, 9)
        assert a is not None
        assert b is not None
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("waiting", [0, 5 * SIDE * SIDE])
def test_beyond_the_bound_every_second_picture_is_kept(waiting: int) -> None:
    picture_bytes = len(cv2.imencode(".jpg", frame(0), [cv2.IMWRITE_JPEG_QUALITY, 92])[1])
    pictures = Pictures(Cutter(), limit=6 * picture_bytes, waiting=waiting)
    for n in range(100):
        pictures.add(n, frame(n), POINTS)
        assert pictures._jpeg_bytes <= 6 * picture_bytes
    kept = [n for n in range(100) if n in pictures]
    assert kept == list(range(0, 100, kept[1]))
    assert kept[1] in (16, 32)
    assert pictures._jpeg_bytes == sum(length for _, length in pictures._jpegs.values())
    assert pictures._waiting_bytes == SIDE * SIDE * len(pictures._waiting)


def test_a_grey_frame_gives_the_picture_of_the_same_frame_in_colour() -> None:
    smooth = cv2.GaussianBlur(frame(1), (0, 0), 3).astype(np.uint8)
    grey = Pictures(Cutter(), limit=1 << 20)
    colour = Pictures(Cutter(), limit=1 << 20)
    grey.add(0, smooth, POINTS)
    colour.add(0, np.repeat(smooth[:, :, None], 3, axis=2), POINTS)
    a, b = grey.nearest(0, 0, 0), colour.nearest(0, 0, 0)
    assert a is not None
    assert b is not None
    assert a.shape == (SIDE, SIDE, 3)
    np.testing.assert_array_equal(a, b)
