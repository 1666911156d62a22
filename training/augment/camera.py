"""A camera, from light to a decoded grey frame: exposure, optics, sensor, tone, codec.

The order is that of a real chain: blur happens in linear light before sampling, noise before the
tone curve, artefacts of the codec last and on the frame's own pixel grid. The frame may be coarser
than the render: a small face is few pixels, which the alignment then enlarges.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import SIZE, Array, Real, log_uniform

__all__ = ["DISPLAY_GAMMA", "capture", "draw_strength", "expose", "to_light"]

DISPLAY_GAMMA = 2.2
"""Exponent between the stored renders and linear light."""
FACE_WIDTH = 92.0
"""Width of an adult face in a render, pixels (template units)."""

_TO_LIGHT = ((np.arange(256) / 255) ** DISPLAY_GAMMA).astype(np.float32)
_BRIGHTEST = 4.0
"""Light beyond which every tone curve is flat."""
_LEVELS = np.linspace(0, math.sqrt(_BRIGHTEST), 1024, dtype=np.float32) ** 2
_BANK_SIDE = 512
# Fresh normal numbers for every pixel would cost as much as all other steps together; a window
# of a fixed field, placed and turned at random, is as good.
_BANK = np.random.default_rng(20260101).standard_normal((_BANK_SIDE, _BANK_SIDE), np.float32)


def to_light(image: NDArray[np.uint8]) -> Array:
    """Turn a stored render into linear light, ``float32`` 0–1."""
    return np.take(_TO_LIGHT, image)


def draw_strength(rng: np.random.Generator) -> float:
    """Draw how bad a view's light and camera are, 0–1: mild 45 %, middling 45 %, strong 10 %."""
    grade = rng.random()
    if grade < 0.45:
        return rng.uniform(0, 0.15)
    return rng.uniform(0.15, 0.5) if grade < 0.9 else rng.uniform(0.5, 0.9)


def expose(image: Array, rng: np.random.Generator, strength: float) -> Array:
    """Set the exposure on the middle of the picture, as a camera does, more or less well.

    Args:
        image: ``(SIZE, SIZE)`` float32, linear light of any scale.
        rng: source of all choices.
        strength: 0 to 1.

    Returns:
        ``(SIZE, SIZE)`` float32, linear light; 1 saturates.
    """
    middle = np.sort(image[32:108:4, 34:102:4], axis=None)
    reference = float(middle[int(rng.uniform(0.5, 0.9) * len(middle))])
    reach = 0.35 + 0.65 * strength
    target = 0.36 * math.exp(rng.uniform(-1.1, 0.75) * reach)
    return image * np.float32(target / max(reference, 1e-3))


def capture(image: Real, rng: np.random.Generator, strength: float) -> NDArray[np.uint8]:
    """Photograph, compress and decode a picture.

    Args:
        image: ``(SIZE, SIZE)`` float32, linear light as exposed.
        rng: source of all choices.
        strength: 0 (a clean webcam) to 1 (a bad one).

    Returns:
        ``(N, N)`` uint8 grey frame, N ≤ SIZE; it shows the same square as the render.
    """
    image = _optics(image, rng, strength)
    widest, narrowest = 140 - 50 * strength, 95 - 65 * strength
    side = round(SIZE * min(1.0, log_uniform(rng, narrowest, widest) / FACE_WIDTH))
    if side < SIZE:
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    image = _tone(_noise(image, rng, strength), rng, strength)
    if side < 0.9 * SIZE and rng.random() < 0.35:  # a stream enlarged before it was encoded
        way = cv2.INTER_CUBIC if rng.random() < 0.6 else cv2.INTER_LINEAR
        image = cv2.resize(image, (SIZE, SIZE), interpolation=way)
    if rng.random() < 0.12 + 0.15 * strength:  # sharpening halos
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.7, 1.6))
        image = cv2.addWeighted(image, a := 1 + rng.uniform(0.2, 1.1), soft, 1 - a, 0)
    frame = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return _codec(frame, rng, strength)


def _optics(image: Real, rng: np.random.Generator, strength: float) -> Real:
    """Blur by focus, lens and motion, and darken towards a corner."""
    if rng.random() < 0.2 + 0.3 * strength:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.6 + 1.2 * strength))
    if rng.random() < 0.03 + 0.12 * strength:
        image = cv2.filter2D(image, -1, _streak(rng.uniform(1.5, 3 + 5 * strength), rng))
    if rng.random() < 0.03 + 0.08 * strength:
        radius = rng.uniform(0.8, 1.4 + 1.6 * strength)
        reach = math.ceil(radius)
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
        image = cv2.filter2D(image, -1, disc / disc.sum())
    if rng.random() < 0.25:
        # The face may be anywhere in the frame, so the fall-off's centre may lie far outside.
        axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
        cx, cy = rng.normal(0, 0.9, 2)
        radius2 = (axis[None] - np.float32(cx)) ** 2 + (axis[:, None] - np.float32(cy)) ** 2
        image = image / (1 + np.float32(rng.uniform(0.02, 0.15 + 0.2 * strength)) * radius2)
    return image


def _streak(length: float, rng: np.random.Generator) -> Array:
    """The path of a point during the exposure: a short straight line, pixels."""
    side = 2 * math.ceil(length / 2) + 1
    angle = rng.uniform(0, math.pi)
    t = np.linspace(-length / 2, length / 2, 24)
    kernel = np.zeros((side, side), np.float32)
    middle = side // 2
    column = np.rint(middle + t * math.cos(angle)).astype(int)
    row = np.rint(middle + t * math.sin(angle)).astype(int)
    np.add.at(kernel, (np.clip(row, 0, side - 1), np.clip(column, 0, side - 1)), 1)
    return kernel / kernel.sum()


def _noise(image: Real, rng: np.random.Generator, strength: float) -> Real:
    """Add photon and read noise, and rows of fixed pattern, in linear light."""
    if rng.random() < 0.35 - 0.3 * strength:
        return image
    side = len(image)
    level = log_uniform(rng, 0.15, 1.0) * (0.15 + strength)
    row, column = rng.integers(0, _BANK_SIDE - side + 1, 2)
    grain = _BANK[row : row + side, column : column + side]
    if rng.random() < 0.5:
        grain = grain.T
    if rng.random() < 0.35:  # a sensor's colour mosaic and a denoiser make grains larger
        grain = cv2.GaussianBlur(grain, (0, 0), 0.7) * np.float32(2)
    light = np.maximum(image, 0)
    sigma = np.sqrt(light * np.float32(0.006 * level) + np.float32((0.012 * level) ** 2))
    noisy = image + grain * sigma
    if rng.random() < 0.1 + 0.1 * strength:
        stripes = rng.standard_normal((side, 1), np.float32)
        noisy += stripes * np.float32(0.01 * level)
    return noisy


def _tone(image: Real, rng: np.random.Generator, strength: float) -> Array:
    """Apply the tone curve: shoulder or clipping, gamma, contrast, black level, grey conversion."""
    curve = _LEVELS
    if rng.random() < 0.5:  # a soft shoulder: x / (1 + xᵏ)^(1/k)
        k = rng.uniform(2.5, 6)
        curve = curve / (1 + curve**k) ** (1 / k)
    else:
        curve = np.minimum(curve, 1)
    spread = 0.4 + 0.6 * strength
    curve = curve ** (1 / (DISPLAY_GAMMA + rng.uniform(-0.6, 0.5) * spread))
    if rng.random() < 0.06:  # video range read as full range, or the other way round
        low, high = 16 / 255, 235 / 255
        curve = curve * (high - low) + low if rng.random() < 0.5 else (curve - low) / (high - low)
    elif rng.random() < 0.15:
        # Luma, one colour channel or their mean: on skin they differ by a bend of the curve.
        curve = curve + rng.uniform(-0.35, 0.35) * curve * (1 - curve)
    contrast = 1 + rng.uniform(-0.3, 0.25) * spread
    curve = (curve - 0.5) * contrast + 0.5 + rng.normal(0, 0.06) * spread
    # Looked up by the root of the light, so that the darks have as many levels as the eye sees.
    root = np.sqrt(np.clip(image, 0, _BRIGHTEST))
    index = (root * np.float32((len(curve) - 1) / math.sqrt(_BRIGHTEST)) + 0.5).astype(np.intp)
    return np.take(curve.astype(np.float32, copy=False), index)


def _codec(
    frame: NDArray[np.uint8], rng: np.random.Generator, strength: float
) -> NDArray[np.uint8]:
    """Interlace, filter and compress a frame as webcams, phones and video files do."""
    if rng.random() < 0.015:  # fields taken at different times
        frame = frame.copy()
        frame[1::2] = np.roll(frame[1::2], int(rng.integers(-3, 4)), axis=1)
    if rng.random() < 0.03 + 0.07 * strength:
        frame = cv2.medianBlur(frame, 3).astype(np.uint8, copy=False)  # the flat look of a denoiser
    draw = rng.random()
    if draw < 0.3:
        low = 85 - 60 * strength
        return _jpeg(frame, int(rng.uniform(low, 96)))
    if draw < 0.38 + 0.2 * strength:
        # Video: blocks of a reference frame, moved, and blocks of the frame itself.
        low = 60 - 48 * strength
        dy, dx = (int(k) for k in rng.integers(0, 8, 2))
        shifted = np.roll(_jpeg(frame, int(rng.uniform(low, 75))), (dy, dx), axis=(0, 1))
        return np.roll(_jpeg(shifted, int(rng.uniform(low, 85))), (-dy, -dx), axis=(0, 1))
    return frame


def _jpeg(frame: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Compress to JPEG and back."""
    _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
