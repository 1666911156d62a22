"""The drawing board of the occluders: a face's frame of reference, and soft shapes.

Pictures are ``(SIZE, SIZE)`` float32; coordinates are OpenCV's (pixel centres at whole numbers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SIZE",
    "Array",
    "Layer",
    "Real",
    "Rod",
    "Scene",
    "X",
    "Y",
    "blur",
    "capsule",
    "clear",
    "fill",
    "log_uniform",
    "measure",
    "over",
    "smooth_noise",
    "stroke",
]

Array = NDArray[np.float32]
Real = NDArray[np.integer | np.floating]
"""What OpenCV says that it returns."""
Layer = tuple[Array, Array]
"""A picture and the opacity of what was drawn on it."""

SIZE = 136
"""Side of a stored render, pixels."""

Y, X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)

_EYES = np.zeros((2, 68), np.float32)
"""From the landmarks to the centres of the eyes."""
_EYES[0, 36:42] = _EYES[1, 42:48] = 1 / 6

_BITS = 4
"""Fractional bits of polygon corners handed to OpenCV."""


@dataclass(frozen=True, slots=True)
class Rod:
    """A round-ended rod, on a window of the picture.

    Attributes:
        window: rows and columns that the arrays below cover.
        cover: coverage, 0–1.
        height: height of the surface, pixels; 0 outside.
        along: position along the rod, 0 at its start, 1 at its end.
    """

    window: tuple[slice, slice]
    cover: Array
    height: Array
    along: Array

    def whole(self, field: Array) -> Array:
        """Put one of the arrays into a picture that is 0 elsewhere."""
        picture = clear()
        picture[self.window] = field
        return picture


@dataclass(frozen=True, slots=True)
class Scene:
    """A face to draw on.

    Attributes:
        image: ``(SIZE, SIZE)`` linear light, 0–1.
        points: ``(68, 2)`` landmarks, pixels.
        left_eye: ``(2,)`` centre of the eye on the viewer's left.
        right_eye: ``(2,)`` centre of the other eye.
        u: ``(2,)`` unit vector from the left to the right eye.
        v: ``(2,)`` unit vector down the face.
        iod: distance between the eyes, pixels.
        skin: typical light of the cheeks, linear.
        hair: darkest light of the brows, linear.
        light: ``(3,)`` unit vector towards a plausible main light (right, up, out of the picture).
    """

    image: Array
    points: Array
    left_eye: Array
    right_eye: Array
    u: Array
    v: Array
    iod: float
    skin: float
    hair: float
    light: Array

    def at(self, x: float, y: float) -> Array:
        """Place a point: ``x`` and ``y`` eye distances right of and below the eyes' middle."""
        middle = (self.left_eye + self.right_eye) / 2
        return (middle + (self.u * x + self.v * y) * self.iod).astype(np.float32)


def measure(image: Array, points: Array, rng: np.random.Generator) -> Scene:
    """Read a face's frame, skin tone and light off its picture.

    Args:
        image: ``(SIZE, SIZE)`` float32, linear light, 0–1.
        points: ``(68, 2)`` landmarks, pixels.
        rng: draws what one picture does not tell: how high and how frontal the light stands.

    Returns:
        The scene.
    """
    p = points.astype(np.float32)
    left, right = _EYES @ p
    axis = right - left
    iod = max(math.hypot(*axis.tolist()), 1.0)
    u = axis / np.float32(iod)
    v = np.array([-u[1], u[0]], np.float32)
    cheeks = []
    for eye, corner in ((left, p[48]), (right, p[54])):
        x, y = (min(max(round(c), 4), SIZE - 5) for c in ((eye + corner) / 2).tolist())
        cheeks.append(cv2.mean(image[y - 3 : y + 4, x - 3 : x + 4])[0])
    column, row = np.clip(np.rint(p[17:27]), 0, SIZE - 1).astype(int).T
    skin = max(sum(cheeks) / 2, 0.01)
    sideways = min(max((cheeks[1] - cheeks[0]) / (2 * skin), -0.8), 0.8)
    light = np.array([sideways, rng.uniform(-0.1, 0.8), rng.uniform(0.5, 1.2)], np.float32)
    return Scene(
        image=image,
        points=p,
        left_eye=left,
        right_eye=right,
        u=u,
        v=v,
        iod=iod,
        skin=skin,
        hair=sum(sorted(image[row, column].tolist())[:3]) / 3,
        light=light / np.float32(math.hypot(*light.tolist())),
    )


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number between ``low`` and ``high``, each factor alike likely."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def clear() -> Array:
    """Return an opacity that hides nothing."""
    return np.zeros((SIZE, SIZE), np.float32)


def over(image: Real, colour: Real | float, opacity: Real) -> Array:
    """Lay a colour over a picture: ``image + (colour − image)·opacity``, float32."""
    return (image + (colour - image) * opacity).astype(np.float32, copy=False)


def blur(field: Real, sigma: float) -> Array:
    """Blur by a Gaussian of ``sigma`` pixels."""
    return cv2.GaussianBlur(field, (0, 0), sigma).astype(np.float32, copy=False)


def fill(polygon: Real) -> Array:
    """Fill a polygon ``(N, 2)``, smooth at its edges; 1 inside."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    corners = np.rint(np.asarray(polygon) * (1 << _BITS)).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, _BITS)
    return np.multiply(mask, 1 / 255, dtype=np.float32)


def stroke(lines: Sequence[Real], width: float) -> Array:
    """Draw poly-lines of one width, pixels; widths below half a pixel only get fainter."""
    mask = np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
    scaled = [np.rint((line * 2 + 0.5) * (1 << _BITS)).astype(np.int32) for line in lines]
    cv2.polylines(mask, scaled, False, 255, max(1, round(2 * width)), cv2.LINE_AA, _BITS)
    soft = cv2.resize(mask, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.multiply(soft, min(1.0, 2 * width) / 255, dtype=np.float32)


def smooth_noise(rng: np.random.Generator, cells: int) -> Array:
    """Draw smooth noise: unit normal values on ``cells`` × ``cells`` knots, cubic between them."""
    knots = rng.standard_normal((cells, cells), np.float32)
    noise = cv2.resize(knots, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return noise.astype(np.float32, copy=False)


def capsule(start: Real, end: Real, radius: float, taper: float = 1.0) -> Rod:
    """Draw a round-ended rod, such as a finger.

    Args:
        start: ``(2,)`` centre of one end, pixels.
        end: ``(2,)`` centre of the other end.
        radius: radius at the start, pixels.
        taper: radius at the end ÷ radius at the start, ≤ 1.

    Returns:
        The rod, on the part of the picture that it may touch.
    """
    ax, ay, bx, by = float(start[0]), float(start[1]), float(end[0]), float(end[1])
    reach = radius + 1
    window = _span(ay, by, reach), _span(ax, bx, reach)
    dx, dy = bx - ax, by - ay
    px, py = X[window] - ax, Y[window] - ay
    along = np.clip((px * dx + py * dy) * (1 / max(dx * dx + dy * dy, 1e-6)), 0, 1)
    px -= along * dx
    py -= along * dy
    distance2 = px * px + py * py
    r = radius * (1 + (taper - 1) * along)
    height = np.sqrt(np.maximum(r * r - distance2, 0))
    cover = np.clip(r - np.sqrt(distance2) + 0.5, 0, 1)
    return Rod(window, cover, height, along)


def _span(a: float, b: float, reach: float) -> slice:
    """Pixels of one axis within reach of a segment; at least one, so that no array is empty."""
    low = min(max(math.floor(min(a, b) - reach), 0), SIZE - 1)
    return slice(low, max(min(math.ceil(max(a, b) + reach) + 1, SIZE), low + 1))
