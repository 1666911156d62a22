"""Seeded streams of synthetic relevance descriptors with known patterns, for tests.

A pattern is a sum of Gaussian blobs on the face. Its blobs wander and swell slowly (the drift of a
living face), and noise that is smooth in space and correlated in time is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SIDE = 16


@dataclass(frozen=True)
class Stream:
    """Descriptors ``(n, 256)`` at unit length and the pattern ``(n,)`` behind each."""

    descriptors: NDArray[np.float64]
    labels: NDArray[np.int64]


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale rows to unit length."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def render(blobs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw blobs ``(m, 4)`` of x, y, width (fractions of the face) and height as ``(256,)``."""
    axis = (np.arange(SIDE) + 0.5) / SIDE
    x, y = np.meshgrid(axis, axis)
    image = np.zeros((SIDE, SIDE))
    for bx, by, width, height in blobs:
        image += height * np.exp(-0.5 * ((x - bx) ** 2 + (y - by) ** 2) / width**2)
    return image.ravel()


def patterns(
    rng: np.random.Generator, count: int, cosine: tuple[float, float]
) -> list[NDArray[np.float64]]:
    """Draw blob lists whose pairwise cosines lie in a range."""
    for _ in range(5000):
        shared = np.column_stack(
            [rng.uniform(0.25, 0.75, (1, 2)), rng.uniform(0.06, 0.1, 1), rng.uniform(0.4, 1.2, 1)]
        )
        drawn = []
        for _ in range(count):
            own = np.column_stack(
                [
                    rng.uniform(0.15, 0.85, (3, 2)),
                    rng.uniform(0.05, 0.1, 3),
                    rng.uniform(0.5, 1.2, 3),
                ]
            )
            drawn.append(np.concatenate([shared, own]))
        images = unit(np.stack([render(p) for p in drawn]))
        pairs = (images @ images.T)[np.triu_indices(count, 1)]
        if not pairs.size or (pairs.min() >= cosine[0] and pairs.max() <= cosine[1]):
            return drawn
    raise AssertionError(f"no {count} patterns with cosines in {cosine}")


def autoregressive(
    rng: np.random.Generator, shape: tuple[int, ...], keep: float
) -> NDArray[np.float64]:
    """Return a unit-variance first-order autoregressive series along the first axis."""
    fresh = rng.standard_normal(shape)
    series = np.empty(shape)
    series[0] = fresh[0]
    for t in range(1, len(series)):
        series[t] = keep * series[t - 1] + np.sqrt(1 - keep**2) * fresh[t]
    return series


def make_stream(
    seed: int,
    segments: Sequence[tuple[int, int]],
    *,
    noise: float = 0.25,
    noise_memory: float = 0.5,
    drift: float = 0.006,
    cosine: tuple[float, float] = (0.1, 0.6),
) -> Stream:
    """Draw a stream.

    Args:
        seed: of everything.
        segments: (pattern, number of maps) in the order of time.
        noise: energy of the noise relative to that of the pattern; two maps of a pattern have a
            cosine of about 1/(1 + noise²).
        noise_memory: correlation of the noise from one map to the next.
        drift: standard deviation of the slow wandering of blobs, fractions of the face.
        cosine: range of the cosines between patterns.
    """
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.full(length, pattern) for pattern, length in segments])
    n, count = len(labels), max(p for p, _ in segments) + 1
    drawn = patterns(rng, count, cosine)
    places = [autoregressive(rng, (n, len(p), 2), 0.99) * drift for p in drawn]
    swell = [np.exp(autoregressive(rng, (n, len(p)), 0.98) * 10 * drift) for p in drawn]
    maps = np.empty((n, SIDE * SIDE))
    for t, k in enumerate(labels):
        blobs = drawn[k].copy()
        blobs[:, :2] += places[k][t]
        blobs[:, 3] *= swell[k][t]
        maps[t] = render(blobs)
    maps = unit(maps)
    grain = autoregressive(rng, (n, SIDE, SIDE), noise_memory)
    grain = np.stack([gaussian_filter(g, 0.7) for g in grain]).reshape(n, -1)
    return Stream(unit(maps + noise * unit(grain)), labels.astype(np.int64))
