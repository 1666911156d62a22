"""Hands in front of a face: fingers, palm and thumb as rods, shaded like skin.

Dark gaps between fingers and the dark rim under a hand look much like an open mouth. They are
drawn on purpose, so that a network learns that they are not.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .canvas import SIZE, Array, Layer, Scene, blur, capsule, clear, over, smooth_noise

__all__ = ["HAND_PLACEMENTS", "hand"]

HAND_PLACEMENTS = ("mouth", "chin", "cheek", "eye", "forehead", "both")
"""Where a hand can be; ``both`` is two hands at the mouth."""

_FINGER_RADIUS = 0.13
"""Half a finger's width over the distance between the eyes (17 mm of 63 mm)."""
_FINGER_LENGTH = 1.15
"""Length of the middle finger over the distance between the eyes."""
_FINGER_SHARES = (0.82, 0.97, 1.0, 0.9)
"""Length of little, ring, middle and index finger over the middle finger's."""


def hand(scene: Scene, rng: np.random.Generator, placement: str) -> Layer:
    """Hold a hand, or two, in front of the face.

    Args:
        scene: the face.
        rng: source of all choices.
        placement: one of `HAND_PLACEMENTS`.

    Returns:
        ``(SIZE, SIZE)`` float32 picture and opacity.
    """
    mouth = scene.points[48:60].mean(0)
    side = -1.0 if rng.random() < 0.5 else 1.0
    jitter = rng.normal(0, 0.1, 2) * scene.iod
    if placement == "both":
        image, first = _one(scene, scene.image, rng, mouth + jitter, -rng.uniform(0.3, 1.1), -1)
        image, second = _one(scene, image, rng, mouth - jitter, rng.uniform(0.3, 1.1), 1)
        return image, np.maximum(first, second)
    target, lean = {
        "mouth": (mouth, side * rng.uniform(0, 1.5)),
        "chin": (scene.points[8] - scene.v * scene.iod * 0.2, side * rng.uniform(0, 0.9)),
        "cheek": (scene.at(side * 0.75, 0.8), side * rng.uniform(0, 0.6)),
        "eye": (scene.right_eye if side > 0 else scene.left_eye, side * rng.uniform(0.1, 1.2)),
        "forehead": (scene.at(side * 0.2, -0.6), side * rng.uniform(1.0, 2.0)),
    }[placement]
    return _one(scene, scene.image, rng, target + jitter, lean, side)


def _one(
    scene: Scene,
    picture: Array,
    rng: np.random.Generator,
    target: Array,
    lean: float,
    side: float,
) -> Layer:
    """Draw one hand whose fingers lie over ``target``, leaning ``lean`` radians off upright."""
    iod = scene.iod * rng.uniform(0.9, 1.2)
    # Fingers point up the face and, from the right-hand side of the picture, to the left.
    ahead = -scene.v * np.cos(lean) - scene.u * np.sin(lean)
    across = np.array([-ahead[1], ahead[0]], np.float32)
    radius = iod * _FINGER_RADIUS * rng.uniform(0.9, 1.15)
    pitch = 2 * radius * rng.uniform(0.96, 1.35)
    fan = rng.uniform(0, 0.14)
    fist = rng.random() < 0.2
    length = iod * _FINGER_LENGTH * (rng.uniform(0.3, 0.45) if fist else rng.uniform(0.75, 1.1))
    knuckles = target - ahead * length * rng.uniform(0.2, 0.9)

    height, cover, crease = clear(), clear(), clear()
    shares = _FINGER_SHARES if side > 0 else _FINGER_SHARES[::-1]
    for k, share in enumerate(shares):
        offset = k - 1.5
        root = knuckles + across * offset * pitch
        angle = offset * fan + rng.normal(0, 0.04)
        point = ahead * np.cos(angle) + across * np.sin(angle)
        tip = root + point * length * share
        _add(height, cover, crease, root, tip, radius, taper=0.82, joints=True)
    palm = 2.05 * pitch
    wrist = knuckles - ahead * iod * 1.25
    _add(height, cover, crease, knuckles - ahead * palm * 0.75, wrist, palm, flat=0.35)
    _add(height, cover, crease, wrist, wrist - ahead * iod * 2, palm * 0.75, flat=0.5)
    if rng.random() < 0.7:
        root = knuckles - ahead * iod * 0.6 + across * side * palm * 0.7
        turn = rng.uniform(0.2, 0.9)
        tip = root + (ahead * np.cos(turn) + across * side * np.sin(turn)) * iod * 0.75
        _add(height, cover, crease, root, tip, radius * 1.2, taper=0.8, joints=True)

    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    facing = 1 / np.sqrt(1 + gx * gx + gy * gy)
    lx, ly, lz = (float(c) for c in scene.light)
    lit = (-lx * gx + ly * gy + lz) * facing
    shade = 0.35 + 0.65 * np.maximum(lit, 0) / max(lz, 0.3)
    shade *= 0.55 + 0.45 * facing  # grazing parts see less of the room
    shade *= 1 - rng.uniform(0.1, 0.35) * crease
    shade *= 1 + 0.08 * smooth_noise(rng, 20) + 0.08 * smooth_noise(rng, 5)
    tone = scene.skin * math.exp(rng.normal(0.0, 0.22))

    # Between the fingers it is dark: skin that no light reaches.
    span = 2 * round(radius * rng.uniform(0.5, 1.1)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (span, span))
    joined = cv2.morphologyEx(cover, cv2.MORPH_CLOSE, kernel)
    gaps = blur(joined - cover, 0.7) * rng.uniform(0.5, 1)
    down = radius * rng.uniform(0.2, 0.9)
    shift = np.array([[1, 0, -lx * down], [0, 1, ly * down]], np.float32)
    cast = cv2.warpAffine(cover, shift, (SIZE, SIZE))
    cast = blur(cast, rng.uniform(0.8, 3)) * rng.uniform(0.15, 0.75)

    soft = rng.uniform(0.3, 1.3)
    colour = blur(tone * shade, soft)
    opacity = blur(cover, soft)
    image = over(picture * (1 - cast), tone * rng.uniform(0.03, 0.3), gaps)
    image = over(image, np.clip(colour, 0.003, 1.2), opacity)
    return image, np.clip(np.maximum(opacity, gaps), 0, 1)


def _add(
    height: Array,
    cover: Array,
    crease: Array,
    start: Array,
    end: Array,
    radius: float,
    *,
    taper: float = 1.0,
    flat: float = 1.0,
    joints: bool = False,
) -> None:
    """Join one rod to the hand, in place; ``flat`` is its depth over its width."""
    rod = capsule(start, end, radius, taper)
    high, covered, creased = height[rod.window], cover[rod.window], crease[rod.window]
    bulge = rod.height * flat
    if joints:
        on_top = (rod.cover >= covered) & (bulge >= high)
        bent = np.exp(-np.square((rod.along - 0.38) / 0.035))
        bent += np.exp(-np.square((rod.along - 0.7) / 0.03))
        np.copyto(creased, bent, where=on_top)
    # A dark seam where a finger lies on something lower: the rim of the rod on top.
    rim = np.clip(1 - bulge / max(0.5 * radius * flat, 1e-3), 0, 1) * 0.8 * (rod.cover > 0.5)
    np.maximum(creased, rim * (covered > 0.5), out=creased)
    np.maximum(high, bulge, out=high)
    np.maximum(covered, rod.cover, out=covered)
