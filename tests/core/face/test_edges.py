"""Histograms of oriented gradients, by what edges they must see and by OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from facestage.core.face.edges import histograms
from numpy.typing import NDArray

from tests.support.opencv import needs_opencv_4


def step(angle: float, side: int = 48) -> NDArray[np.uint8]:
    """Return a bright half beside a dark one; the edge's normal points to ``angle`` degrees."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    across = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    return np.asarray(128 + 100 * np.tanh(across / 2), np.uint8)


@pytest.mark.parametrize("angle", [10, 30, 50, 90, 130, 170])
def test_an_edge_votes_for_its_own_direction_either_way_round(angle: int) -> None:
    found = histograms(step(angle)).reshape(-1, 9).sum(0)
    assert found.argmax() == angle // 20
    opposite = histograms(step(angle + 180)).reshape(-1, 9).sum(0)
    assert opposite == pytest.approx(found, rel=0.05, abs=0.05)


def test_an_edge_is_seen_where_it_is() -> None:
    image = np.full((48, 48), 90, np.uint8)
    image[:, 43:] = 160  # in the last column of blocks only
    energy = np.square(histograms(image)).reshape(5, 5, 36).sum(2)
    assert energy[:4].max() == 0
    assert energy[4] == pytest.approx(np.ones(5), abs=0.02)


def test_light_and_contrast_hardly_matter_and_a_flat_picture_is_zero() -> None:
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (48, 48)).astype(np.uint8), (0, 0), 1.0)
    darker = np.asarray(30 + np.asarray(image) * 0.5, np.uint8)
    bright, dim = histograms(np.asarray(image, np.uint8)), histograms(darker)
    assert bright @ dim > 0.98 * np.linalg.norm(bright) * np.linalg.norm(dim)
    assert not histograms(np.full((48, 48), 77, np.uint8)).any()


@needs_opencv_4
@pytest.mark.parametrize("side", [16, 48, 64])
def test_figures_are_those_of_opencv(side: int) -> None:
    rng = np.random.default_rng(side)
    theirs = cv2.HOGDescriptor((side, side), (16, 16), (8, 8), (8, 8), 9)
    for blur in (0.3, 1.0, 3.0):
        image = rng.integers(0, 256, (side, side)).astype(np.uint8)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8)
        assert histograms(image) == pytest.approx(np.ravel(theirs.compute(image)), abs=1e-6)
