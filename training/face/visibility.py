"""How far each Action Unit moves the face, against how much faces differ at rest.

For every Action Unit at intensity C (3) some distances between landmarks are measured after
alignment. The shift over the spread between people (d') tells whether a network can see the
expression in a still picture of a stranger: below about 1 the change hides among faces.

References:
    Green & Swets, *Signal Detection Theory and Psychophysics*, 1966 (d').
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..render.scene import Pose, view
from .expressions import only, sample_anatomy
from .facs import AUS, FaceShapes

__all__ = ["FEATURES", "Visibility", "measure_visibility"]


def _middle(points: NDArray[np.float32], *at: int) -> NDArray[np.float32]:
    return points[:, list(at)].mean(1)


def _features(p: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances in ``(n, 68, 2)`` landmarks: ``(n, len(FEATURES))`` px, y down."""
    lids_up, lids_low = _middle(p, 37, 38, 43, 44), _middle(p, 40, 41, 46, 47)
    corners, lips = _middle(p, 48, 54), _middle(p, 62, 66)
    upper_red = _middle(p, 61, 62, 63) - _middle(p, 50, 51, 52)
    lower_red = _middle(p, 56, 57, 58) - _middle(p, 65, 66, 67)
    return np.stack(
        [
            (_middle(p, 39, 42) - _middle(p, 21, 22))[:, 1],
            (_middle(p, 36, 45) - _middle(p, 17, 18, 25, 26))[:, 1],
            p[:, 22, 0] - p[:, 21, 0],
            (lids_low - lids_up)[:, 1],
            (_middle(p, 36, 39, 42, 45) - lids_low)[:, 1],
            (_middle(p, 36, 39, 42, 45) - lids_up)[:, 1],
            (_middle(p, 31, 35) - _middle(p, 39, 42))[:, 1],
            p[:, 54, 0] - p[:, 48, 0],
            (corners - lips)[:, 1],
            (p[:, 66] - p[:, 62])[:, 1],
            (upper_red + lower_red)[:, 1],
            (_middle(p, 50, 52) - p[:, 33])[:, 1],
            (p[:, 57] - p[:, 33])[:, 1],
            (p[:, 8] - p[:, 33])[:, 1],
        ],
        1,
    )


FEATURES = (
    "inner brow height",
    "outer brow height",
    "brow distance",
    "eye aperture",
    "lower lid height",
    "upper lid height",
    "nostril drop",
    "mouth width",
    "corner drop",
    "lip gap",
    "red of the lips",
    "upper lip drop",
    "lower lip drop",
    "chin drop",
)
"""What is measured, template pixels."""


@dataclass(frozen=True)
class Visibility:
    """The feature of one Action Unit that stands out most.

    Attributes:
        au: the Action Unit.
        feature: what moves most against the spread.
        shift: its mean change, px.
        spread: its standard deviation between faces at rest, px.
        shape: greatest mean shift of any visible skin vertex after alignment, px.
    """

    au: int
    feature: str
    shift: float
    spread: float
    shape: float

    @property
    def d_prime(self) -> float:
        """Shift over spread, without sign."""
        return abs(self.shift) / self.spread


def measure_visibility(
    shapes: FaceShapes,
    landmarks: NDArray[np.int64],
    intensity: float = 3.0,
    people: int = 120,
    seed: int = 0,
) -> list[Visibility]:
    """Measure every Action Unit alone on the same people, frontal, after alignment.

    Args:
        shapes: of the face model.
        landmarks: ``(68,)`` vertices of the landmarks.
        intensity: FACS 0-5.
        people: identities that are compared.
        seed: of the identities.

    Returns:
        One result per Action Unit, in the order of ``facs.AUS``.
    """
    rng = np.random.default_rng(seed)
    anatomies = [sample_anatomy(rng) for _ in range(people)]
    # Only landmarks, and every eighth vertex for the greatest shift: the rest is interpolation.
    near = np.flatnonzero(shapes.generic[:, 2] > 4)[::8]
    chosen = np.concatenate([landmarks, near])
    basis = shapes.basis[:, chosen].reshape(len(shapes.basis), -1)
    poses = [Pose(0, 0, 0, 90)] * people

    def aligned(au: int, amount: float) -> NDArray[np.float32]:
        weights = np.stack([shapes.shape(only(au, amount), a).weights for a in anatomies])
        points = shapes.generic[chosen] + (weights.astype(np.float32) @ basis).reshape(
            people, -1, 3
        )
        seen = view(torch.from_numpy(points), poses, np.arange(68))
        return seen.screen[..., :2].numpy()

    neutral = aligned(AUS[0], 0)
    at_rest = _features(neutral[:, :68])
    results = []
    for au in AUS:
        moved = aligned(au, intensity)
        shift = (_features(moved[:, :68]) - at_rest).mean(0)
        best = int(np.argmax(np.abs(shift) / at_rest.std(0)))
        farthest = np.linalg.norm((moved - neutral).mean(0), axis=-1).max()
        results.append(
            Visibility(
                au,
                FEATURES[best],
                float(shift[best]),
                float(at_rest[:, best].std()),
                float(farthest),
            )
        )
    return results
