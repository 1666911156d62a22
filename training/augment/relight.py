"""Cheap two-dimensional relighting: gradients, shadow edges, and lamps that go on or off.

A flashing lamp brightens a closed mouth's dark line and its surroundings alike, up to saturation.
A network that saw only even light takes that for parted lips; here it sees it with the label at 0.
Everything is a smooth factor in linear light, computed on a coarse grid.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .canvas import SIZE, Array, X, Y, log_uniform, smooth_noise

__all__ = ["flash", "relight"]

_COARSE = 34
_V, _U = ((np.mgrid[0:_COARSE, 0:_COARSE] + 0.5) / _COARSE * 2 - 1).astype(np.float32)
"""Coarse grid over the picture, −1 at its left or upper border, 1 at the other."""


def relight(image: Array, rng: np.random.Generator, strength: float) -> Array:
    """Multiply a picture by gradients of light and, at times, a blotchy shadow.

    Args:
        image: ``(SIZE, SIZE)`` float32, linear light.
        rng: source of all choices.
        strength: 0 (even light stays) to 1 (strong).

    Returns:
        ``(SIZE, SIZE)`` float32, linear light.
    """
    if rng.random() < 0.3 + 0.5 * strength:
        angle = rng.uniform(0, 2 * math.pi)
        slope = rng.normal(0, 0.15 + 0.55 * strength)
        field = slope * (math.cos(angle) * _U + math.sin(angle) * _V)
        knots = rng.standard_normal((4, 4), np.float32) * (0.25 * strength)
        field += cv2.resize(knots, (_COARSE, _COARSE), interpolation=cv2.INTER_CUBIC)
        image = image * _grow(np.exp(field))
    if rng.random() < 0.08 + 0.2 * strength:
        image = image * _shadow(rng, strength)
    return image


def _shadow(rng: np.random.Generator, strength: float) -> Array:
    """A half-plane or blotches in shadow, with an edge from hard to soft."""
    angle = rng.uniform(0, 2 * math.pi)
    offset = rng.normal(0, 0.25) * SIZE
    side = math.cos(angle) * (X - SIZE / 2) + math.sin(angle) * (Y - SIZE / 2) + offset
    blot = smooth_noise(rng, int(rng.integers(4, 9)))
    share = rng.uniform(0, 1)
    field = side * (1 - share) + blot * (share * 16)
    width = log_uniform(rng, 1.0, 12.0)
    dark = np.clip(field / width + 0.5, 0, 1)
    return 1 - dark * (rng.uniform(0.1, 0.35) + 0.4 * strength)


def flash(image: Array, rng: np.random.Generator, strength: float) -> Array:
    """Switch a lamp on or off: a gain of the whole picture and of a spot in it.

    Faster than a camera adapts, so it comes after the exposure was set.

    Args:
        image: ``(SIZE, SIZE)`` float32, linear light as exposed (1 saturates).
        rng: source of all choices.
        strength: 0 to 1.

    Returns:
        ``(SIZE, SIZE)`` float32, linear light, not yet clipped.
    """
    if rng.random() >= 0.05 + 0.12 * strength:
        return image
    if rng.random() < 0.25:
        return image * np.float32(log_uniform(rng, 0.15, 0.7))
    gain = np.full((_COARSE, _COARSE), log_uniform(rng, 1.0, 1.4 + 2.2 * strength), np.float32)
    if rng.random() < 0.6:
        at = rng.uniform(-1.2, 1.2, 2).astype(np.float32)
        reach = np.float32(rng.uniform(0.25, 1.2))
        near = np.exp(-((_U - at[0]) ** 2 + (_V - at[1]) ** 2) / (2 * reach * reach))
        gain += near * np.float32(log_uniform(rng, 0.3, 1.5 + 3.5 * strength))
    veil = rng.uniform(0, 0.12) * strength  # light scattered in the lens lifts the darks too
    return image * _grow(gain) + np.float32(veil)


def _grow(field: Array) -> Array:
    """Bring a coarse field to the size of the picture, without steps."""
    fine = cv2.resize(field, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return np.maximum(fine, np.float32(0.02))
