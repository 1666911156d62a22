"""One training view of a stored face: occluded, lit, photographed, aligned as the live path does.

The alignment is `facestage.core.face.alignment.warp` itself, from the camera's frame to the
crop: the blur against aliasing, the bilinear sampling and the border are those that the network
meets live.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from facestage.core.face.alignment import compose, similarity, transform, warp
from facestage.core.face.regions import MIRROR, au_regions
from numpy.typing import NDArray

from ..face.facs import AUS
from .camera import capture, draw_strength, expose, to_light
from .canvas import SIZE, Array
from .occluders import label_visible, occlude, point_visibility, visible_fractions
from .relight import flash, relight

__all__ = [
    "CROP",
    "MARGIN",
    "TEMPLATE",
    "TEMPLATE_WEIGHTS",
    "FaceView",
    "clean_view",
    "draw_misalignment",
    "jittered",
    "make_view",
    "to_crop",
]

CROP = 96
"""Side of the network's input, pixels."""
MARGIN = 4
"""Template unit u lies at pixel u + 4 of a stored render."""
_CENTRE = (64.0, 66.0)
"""Point of the template, units, that comes to lie at `_CROP_CENTRE` of the crop."""
_CROP_CENTRE = (48.0, 47.0)
_SCALE = CROP / 116
"""Crop pixels per template unit."""

TEMPLATE: Array = (
    (np.array([[45.5, 49], [82.5, 49], [64, 71], [49, 92], [79, 92]]) - _CENTRE) * _SCALE
    + _CROP_CENTRE
).astype(np.float32)
"""``(5, 2)`` crop pixels: where alignment puts eyes, nose tip and mouth corners."""
TEMPLATE_WEIGHTS: Array = np.array([1, 1, 1, 0.6, 0.6], np.float32)

POINT_NOISE = 0.025
"""Error of each detected point, standard deviation over the distance between the eyes."""
POINT_BIAS = 0.012
"""Error that both eyes, or both mouth corners, share in a view (a detector's habit), likewise."""
SCALE_NOISE = 0.035
"""Standard deviation of the logarithm of the further error of scale."""
TURN_NOISE = math.radians(2.3)
"""Standard deviation of the further error of rotation, radians."""
SHIFT_NOISE = 1.6
"""Standard deviation of the further shift along each axis, template units."""
WILD_RATE = 0.1
"""Share of views whose alignment errors are twice as large."""
ASTRAY_RATE = 0.07
"""Share of views whose alignment errors are four times as large, as in the first crop cut from a
detector's box. They teach the landmarks, which correct the crop, and no action unit."""
_WILD, _ASTRAY = 2.0, 4.0
_REGION_SIZE = SIZE // 2

_MIDDLE: list[float] = (TEMPLATE_WEIGHTS @ TEMPLATE / TEMPLATE_WEIGHTS.sum()).tolist()
"""Centre of the template, crop pixels."""
_FIVE = np.zeros((5, 68))
"""From the 68 landmarks to eyes, nose tip and mouth corners."""
_FIVE[0, 36:42] = _FIVE[1, 42:48] = 1 / 6
_FIVE[2, 30] = _FIVE[3, 48] = _FIVE[4, 54] = 1
_SHARED = [5, 5, 6, 7, 7]
"""Rows of errors that the two eyes, the nose and the two mouth corners take together."""


@dataclass(frozen=True, slots=True)
class FaceView:
    """One picture for the network, with what is known about it.

    Attributes:
        image: ``(96, 96)`` uint8 grey.
        intensity: ``(A,)`` float32, 0–5, NaN where the picture does not decide.
        landmarks: ``(68, 2)`` float32, crop pixels (they may lie outside).
        visibility: ``(68,)`` float32, 0–1: weight of each landmark.
    """

    image: NDArray[np.uint8]
    intensity: Array
    landmarks: Array
    visibility: Array


def to_crop(units: Array) -> Array:
    """Map ``(..., 2)`` points from template units to the crop of an exactly aligned face."""
    return ((units - np.array(_CENTRE)) * _SCALE + _CROP_CENTRE).astype(np.float32)


def draw_misalignment(rng: np.random.Generator) -> float:
    """Draw by what factor a view's alignment errors exceed the usual ones: 1, 2 or 4."""
    draw = rng.random()
    if draw < ASTRAY_RATE:
        return _ASTRAY
    return _WILD if draw < ASTRAY_RATE + WILD_RATE else 1.0


def jittered(landmarks: Array, rng: np.random.Generator, factor: float = 1.0) -> Array:
    """Align a face as a real detector would: five points with errors, then the similarity.

    Args:
        landmarks: ``(68, 2)`` true points, pixels of the render.
        rng: source of all choices.
        factor: of all errors.

    Returns:
        ``(2, 3)`` float32 matrix, render pixels → crop pixels.
    """
    five = _FIVE @ landmarks
    iod = factor * math.hypot(five[1, 0] - five[0, 0], five[1, 1] - five[0, 1])
    errors = rng.standard_normal((8, 2))
    five += errors[:5] * (POINT_NOISE * iod) + errors[_SHARED] * (POINT_BIAS * iod)
    (a, _, tx), (b, _, ty) = similarity(five, TEMPLATE, TEMPLATE_WEIGHTS).tolist()

    # A further similarity about the template's centre: x' = centre + k·R·(x − centre) + shift.
    more = rng.standard_normal(4) * factor
    scale, turn = math.exp(SCALE_NOISE * more[0]), TURN_NOISE * more[1]
    c, s = scale * math.cos(turn), scale * math.sin(turn)
    x, y = tx - _MIDDLE[0], ty - _MIDDLE[1]
    tx = _MIDDLE[0] + c * x - s * y + SHIFT_NOISE * _SCALE * more[2]
    ty = _MIDDLE[1] + s * x + c * y + SHIFT_NOISE * _SCALE * more[3]
    a, b = c * a - s * b, s * a + c * b
    return np.array([[a, -b, tx], [b, a, ty]], np.float32)


def make_view(
    image: NDArray[np.uint8],
    intensity: Array,
    landmarks: Array,
    rng: np.random.Generator,
    *,
    occluders: Sequence[str] | None = None,
) -> FaceView:
    """Turn a clean stored render into a training view.

    Args:
        image: ``(136, 136)`` uint8 grey, display-encoded.
        intensity: ``(23,)`` 0–5 in the order of `training.face.facs.AUS`, NaN where unknown.
        landmarks: ``(68, 2)`` template units.
        rng: source of all choices.
        occluders: put exactly these in front of the face instead of drawing (see `occlude`).

    Returns:
        The view.
    """
    points = landmarks.astype(np.float32) + MARGIN
    labels = intensity.astype(np.float32)
    visibility = np.ones(len(points), np.float32)
    strength = draw_strength(rng)
    mirror = rng.random() < 0.5
    misalignment = draw_misalignment(rng)
    matrix = jittered(points, rng, misalignment)

    covered = occlude(to_light(image), points, rng, kinds=occluders)
    if covered.opacity.any():
        half = cv2.resize(covered.opacity, (_REGION_SIZE, _REGION_SIZE), None, 0, 0, cv2.INTER_AREA)
        regions = au_regions((points - 0.5) / 2, AUS, _REGION_SIZE)
        labels = label_visible(labels, visible_fractions(half.astype(np.float32), regions))
        visibility = point_visibility(covered.opacity, points)
    if misalignment >= _ASTRAY:
        labels = np.full_like(labels, np.nan)
    light = relight(covered.image, rng, strength)
    light = flash(expose(light, rng, strength), rng, strength)
    frame = capture(light, rng, strength)
    return _cut(frame, matrix, labels, points, visibility, mirror)


def clean_view(image: NDArray[np.uint8], intensity: Array, landmarks: Array) -> FaceView:
    """Cut the crop of a stored render as it is: exactly aligned, nothing added.

    Args:
        image: ``(136, 136)`` uint8 grey, display-encoded.
        intensity: ``(23,)`` 0–5, NaN where unknown.
        landmarks: ``(68, 2)`` template units.

    Returns:
        The view.
    """
    points = landmarks.astype(np.float32) + MARGIN
    offset = np.array(_CROP_CENTRE) - (np.array(_CENTRE) + MARGIN) * _SCALE
    matrix = np.array([[_SCALE, 0, offset[0]], [0, _SCALE, offset[1]]], np.float32)
    visible = np.ones(len(points), np.float32)
    return _cut(image, matrix, intensity.astype(np.float32), points, visible, mirror=False)


def _cut(
    frame: NDArray[np.uint8],
    matrix: Array,
    intensity: Array,
    points: Array,
    visibility: Array,
    mirror: bool,
) -> FaceView:
    """Align a frame, which may be coarser than the render, and mirror the result."""
    if mirror:  # about the template's midline, x = 48, which lies on a pixel, not between two
        matrix = matrix - np.array([[0, 0, 1], [0, 0, 0]], np.float32)
    placed = transform(matrix, points)
    if len(frame) != SIZE:
        # Areas, not centres, are scaled: frame pixel x is render pixel (x + ½)·k − ½.
        k = SIZE / len(frame)
        to_render = np.array([[k, 0, (k - 1) / 2], [0, k, (k - 1) / 2]], np.float32)
        matrix = compose(matrix, to_render)
    crop = warp(frame, matrix, CROP)
    if mirror:
        crop = crop[:, ::-1]
        placed[:, 0] = CROP - 1 - placed[:, 0]
        placed, visibility = placed[MIRROR], visibility[MIRROR]
    return FaceView(crop, intensity, placed, visibility)
