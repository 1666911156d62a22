"""Things in front of a face: glasses, hair, hands, masks, objects, tubes; and what they hide.

All drawing happens on the stored render (136 × 136 pixels) in linear light, 0–1. Every occluder
returns the new picture and its opacity, 0–1 per pixel: how much of the face's light is gone there.
Clear glasses have no opacity: an action unit shows through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import (
    SIZE,
    Array,
    Layer,
    Real,
    Scene,
    X,
    Y,
    blur,
    capsule,
    clear,
    fill,
    log_uniform,
    measure,
    over,
    smooth_noise,
    stroke,
)
from .hands import HAND_PLACEMENTS, hand

__all__ = [
    "GLASSES_RATE",
    "HIDDEN_BELOW",
    "OCCLUDERS",
    "OCCLUDER_RATE",
    "SHOWN_ABOVE",
    "Occluded",
    "glasses",
    "label_visible",
    "occlude",
    "point_visibility",
    "visible_fractions",
]

OCCLUDER_RATE = 0.25
"""Share of views with something other than glasses in front of the face."""
GLASSES_RATE = 0.12
"""Share of views with glasses."""
SUNGLASSES_RATE = 0.06
"""Share of the glasses that are dark."""
SECOND_RATE = 0.2
"""Share of occluded views that get a second occluder."""
HIDDEN_BELOW = 0.25
"""Visible share of an action unit's region below which it is labelled absent."""
SHOWN_ABOVE = 0.6
"""Visible share of an action unit's region from which its label is kept."""


def glasses(scene: Scene, rng: np.random.Generator, dark: bool | None = None) -> Layer:
    """Put glasses on: full, half or no lower rim; a tint; reflections; sometimes dark lenses.

    Args:
        scene: the face.
        rng: source of all choices.
        dark: sunglasses or not; drawn when None.

    Returns:
        ``(SIZE, SIZE)`` float32 picture and opacity; only dark lenses are opaque.
    """
    dark = bool(rng.random() < SUNGLASSES_RATE) if dark is None else dark
    iod = scene.iod
    half = iod * rng.uniform(0.34, 0.44)
    height = iod * rng.uniform(0.22, 0.38) if not dark else iod * rng.uniform(0.3, 0.42)
    power = float(rng.choice([2.0, 2.6, 4.5]))
    drop = rng.uniform(0.02, 0.1)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    x = np.sign(c) * np.abs(c) ** (2 / power) * half
    y = np.sign(s) * np.abs(s) ** (2 / power) * height
    thick = rng.uniform(0.6, 3.6) if rng.random() < 0.8 else rng.uniform(3.5, 6)
    half_rim = rng.random() < 0.2
    lines: list[Real] = []
    image = scene.image
    opacity = clear()
    lenses = clear()
    for eye in (scene.left_eye, scene.right_eye):
        rim = eye + scene.v * drop * iod + x[:, None] * scene.u + y[:, None] * scene.v
        lines.append(rim[20:] if half_rim else np.vstack([rim, rim[:1]]))
        np.maximum(lenses, fill(rim), out=lenses)
    middle = (scene.left_eye + scene.right_eye) / 2 + scene.v * (drop - 0.06) * iod
    gap = max(iod / 2 - half, 1.0)
    bend = scene.v * iod * 0.05
    lines.append(np.array([middle - scene.u * gap, middle - bend, middle + scene.u * gap]))
    for eye, side in ((scene.left_eye, -1), (scene.right_eye, 1)):
        hinge = eye + scene.u * side * half + scene.v * (drop - 0.08) * iod
        # The temple ends where the head does: at the ear, however the head is turned.
        ear = scene.points[0 if side < 0 else 16] - eye
        length = max(side * float(ear @ scene.u) - half, 0.05 * iod)
        lines.append(np.array([hinge, hinge + scene.u * side * length - bend * 0.5]))
    if dark:
        tone = log_uniform(rng, 0.01, 0.1)
        fade = np.clip((Y - middle[1]) / iod + 0.5, 0, 1) * rng.uniform(0, 0.3)
        opacity = lenses * (rng.uniform(0.85, 0.99) - fade)
        image = over(image, tone, opacity)
    else:
        image = image * (1 - lenses * rng.uniform(0, 0.3) * (rng.random() < 0.5))
    if rng.random() < 0.45:  # a window or a lamp mirrored in the lenses
        a = rng.uniform(0, math.pi)
        width = iod * rng.uniform(0.05, 0.35)
        cx, cy = math.cos(a) / width, math.sin(a) / width
        at = cx * float(middle[0]) + cy * float(middle[1]) + rng.normal(0, 0.4) * iod / width
        streak = np.exp(-np.square(np.square(cx * X + cy * Y - at)))
        image = image + lenses * streak * (rng.uniform(0.03, 0.5) * (scene.skin + 0.15))
    frame = stroke(lines, thick)
    shadow = blur(np.roll(frame, 3, axis=0), 1.5) * rng.uniform(0, 0.4)
    image = image * (1 - shadow)
    tone = log_uniform(rng, 0.01, 0.5) * (1 + 0.3 * smooth_noise(rng, 9))
    image = over(image, np.clip(tone, 0.004, 1), frame * rng.uniform(0.65, 1))
    return image.astype(np.float32, copy=False), opacity


def _profile(rng: np.random.Generator, knots: int) -> Array:
    """Unit normal values on a number of knots, joined by straight lines; ``(SIZE,)``."""
    at = np.linspace(0, SIZE, knots)
    return np.interp(np.arange(SIZE), at, rng.normal(0, 1, knots)).astype(np.float32)


def _hair(scene: Scene, rng: np.random.Generator) -> Layer:
    """A fringe over the forehead, hair down one or both sides, or loose strands."""
    tone = min(scene.hair, scene.skin * 1.2) * math.exp(rng.normal(0, 0.4))
    tone = float(np.clip(tone, 0.006, 0.5))
    steps = np.arange(SIZE)
    comb = _profile(rng, 85)
    opacity = clear()
    colour = np.full((SIZE, SIZE), tone, np.float32)
    kind = rng.random()
    if kind < 0.45:
        brow = scene.points[17:27, 1].mean()
        low = brow - scene.iod * rng.uniform(-0.25, 0.9)
        edge = low + _profile(rng, int(rng.integers(3, 8))) * scene.iod * 0.12
        edge = edge + _profile(rng, 45) * rng.uniform(0.5, 6)
        soft = rng.uniform(0.6, 2.5)
        opacity = np.clip((edge[None] - Y) / (2 * soft) + 0.5, 0, 1).astype(np.float32)
        colour = colour * np.clip(1 + 0.45 * comb[None], 0.15, 2.5)
    elif kind < 0.7:
        for side in (-1, 1) if rng.random() < 0.35 else (-1 if rng.random() < 0.5 else 1,):
            jaw = scene.points[[0, 2, 4] if side < 0 else [16, 14, 12]]
            inset = scene.iod * rng.uniform(-0.15, 0.45)
            edge = np.interp(steps, jaw[:, 1], jaw[:, 0]).astype(np.float32) - side * inset
            edge = edge + _profile(rng, 6) * 3.5
            band = np.clip(side * (X - edge[:, None]) / 3 + 0.5, 0, 1)
            opacity = np.maximum(opacity, band)
        colour = colour * np.clip(1 + 0.4 * comb[None] + 0.2 * smooth_noise(rng, 9), 0.15, 2.5)
    else:
        root = scene.at(rng.uniform(-1, 1), rng.uniform(-1.3, -0.9))
        aim = scene.at(rng.uniform(-1.1, 1.1), rng.uniform(0, 1.6))
        locks = []
        t = np.linspace(0, 1, 12)[:, None]
        for _ in range(rng.integers(3, 16)):
            a = root + rng.normal(0, 0.16 * scene.iod, 2)
            b = aim + rng.normal(0, 0.22 * scene.iod, 2)
            bow = (a + b) / 2 + rng.normal(0, 0.2 * scene.iod, 2)
            locks.append((1 - t) ** 2 * a + 2 * t * (1 - t) * bow + t**2 * b)
        opacity = stroke(locks, rng.uniform(0.5, 2.2)) * rng.uniform(0.5, 1)
        colour = colour * np.clip(1 + 0.4 * smooth_noise(rng, 30), 0.2, 2.5)
    shade = 1 - 0.35 * blur(opacity, 2.5)  # hair shades the skin beside it
    return over(scene.image * shade, np.clip(colour, 0.004, 1), opacity), opacity


def _hand(scene: Scene, rng: np.random.Generator) -> Layer:
    return hand(scene, rng, str(rng.choice(HAND_PLACEMENTS)))


def _mask(scene: Scene, rng: np.random.Generator) -> Layer:
    """A surgical (pleated) or cloth mask over nose, mouth and chin, with straps."""
    p, iod = scene.points, scene.iod
    surgical = rng.random() < 0.6
    top = p[28] + (p[29] - p[28]) * rng.uniform(-0.6, 1.2)
    left = p[1] + (p[2] - p[1]) * rng.uniform(-0.3, 1) + scene.u * iod * rng.uniform(0, 0.22)
    right = p[15] + (p[14] - p[15]) * rng.uniform(-0.3, 1) - scene.u * iod * rng.uniform(0, 0.22)
    chin = scene.v * iod * rng.uniform(0.04, 0.16)
    jaw = p[12:3:-1] + chin
    outline = np.vstack([left, (left + top) / 2 + scene.v * iod * 0.05, top])
    outline = np.vstack([outline, (right + top) / 2 + scene.v * iod * 0.05, right, jaw])
    opacity = blur(fill(outline), 0.7)
    px, py = X - np.float32(top[0]), Y - np.float32(top[1])
    across = (px * scene.u[0] + py * scene.u[1]) / iod
    down = (px * scene.v[0] + py * scene.v[1]) / iod
    round_ = np.sqrt(np.clip(1 - (across / 1.35) ** 2, 0.08, 1))
    lit = round_ * (1 + 0.6 * scene.light[0] * across - 0.35 * scene.light[1] * (down - 0.6))
    if surgical:
        tone = rng.uniform(0.35, 0.9)
        bow = down + 0.12 * across**2 + 0.05 * smooth_noise(rng, 4)
        for at in np.linspace(0.35, 1.15, rng.integers(2, 5)) + rng.normal(0, 0.03):
            fold = np.exp(-np.square((bow - np.float32(at)) / 0.045))
            lit = lit * (1 - rng.uniform(0.1, 0.4) * fold)
    else:
        tone = log_uniform(rng, 0.02, 0.7)
        print_ = smooth_noise(rng, int(rng.integers(10, 40))) * rng.uniform(0, 0.35)
        lit = lit * np.clip(1 + print_, 0.3, 2)
    lit = lit * np.clip(1 + 0.12 * smooth_noise(rng, 6), 0.5, 1.5)
    lines = [np.array([left, p[0] - scene.u * iod * 0.2]), np.array([right, p[16] + scene.u * 6])]
    lines += [np.array([p[4], p[1] - scene.u * 3]), np.array([p[12], p[15] + scene.u * 3])]
    straps = stroke(lines, rng.uniform(0.6, 1.8)) * 0.9
    scale = max(scene.skin, 0.08) / 0.35  # white cloth is as bright as the light on the skin
    shadow = blur(opacity, 2.5) * rng.uniform(0.1, 0.5)
    image = over(scene.image * (1 - shadow), tone * scale, straps)
    return over(image, np.clip(tone * scale * lit, 0.004, 1.2), opacity), opacity


def _thing(scene: Scene, rng: np.random.Generator) -> Layer:
    """A microphone, a cup or a telephone at the mouth, the chin or beside the face."""
    iod = scene.iod
    kind = rng.choice(["microphone", "cup", "telephone"])
    mouth = scene.points[48:60].mean(0)
    side = -1 if rng.random() < 0.5 else 1
    if kind == "microphone":
        radius = iod * rng.uniform(0.2, 0.42)
        head = (
            mouth
            + scene.u * side * iod * rng.uniform(0, 0.6)
            + scene.v * iod * rng.uniform(-0.05, 0.6)
        )
        away = scene.u * side * rng.uniform(-0.2, 0.9) + scene.v
        rod = capsule(head, head + away * iod * 3, radius * rng.uniform(0.45, 0.75))
        handle = rod.whole(rod.cover)
        rod = capsule(head, head + away * 0.5, radius)
        ball, height = rod.whole(rod.cover), rod.whole(rod.height)
        pitch = rng.uniform(1.2, 2.6)
        mesh = 1 + 0.35 * np.sin((X + Y) * pitch) * np.sin((X - Y) * pitch)
        tone = log_uniform(rng, 0.01, 0.3)
        lit = 0.35 + 0.65 * height / radius
        image = over(scene.image, tone * rng.uniform(0.4, 1.2), handle)
        opacity = np.maximum(ball, handle)
        return over(image, np.clip(tone * lit * mesh, 0.003, 1), ball), opacity
    if kind == "cup":
        width = iod * rng.uniform(0.4, 0.7)
        rim = mouth + scene.v * iod * rng.uniform(-0.3, 0.25)
        tilt = scene.u * math.cos(a := rng.normal(0, 0.15)) + scene.v * math.sin(a)
        down = np.array([-tilt[1], tilt[0]])
        foot = rim + down * iod * rng.uniform(1.1, 2)
        low = width * rng.uniform(0.65, 1)
        body = np.vstack([rim - tilt * width, rim + tilt * width, foot + tilt * low])
        opacity = fill(np.vstack([body, foot - tilt * low]))
        around = ((X - rim[0]) * tilt[0] + (Y - rim[1]) * tilt[1]) / width
        lit = np.sqrt(np.clip(1 - around**2, 0.1, 1)) * (1 + 0.5 * scene.light[0] * around)
        tone = log_uniform(rng, 0.02, 0.8) * (1 + 0.2 * smooth_noise(rng, 5))
        lip = stroke([np.array([rim - tilt * width, rim + tilt * width])], 2.0)
        image = over(scene.image, np.clip(tone * lit, 0.003, 1), opacity)
        return over(image, np.clip(tone * 1.4, 0, 1), lip * 0.7), opacity
    centre = scene.at(side * rng.uniform(0.2, 1.1), rng.uniform(0.2, 1.5))
    box = (centre.tolist(), (iod * rng.uniform(0.9, 1.2), iod * rng.uniform(1.9, 2.4)))
    turn = float(rng.normal(0, 25) + (90 if rng.random() < 0.2 else 0))
    corners = cv2.boxPoints((*box, turn)).astype(np.float32)
    opacity = blur(fill(corners), 0.8)
    tone = log_uniform(rng, 0.005, 0.25)
    sheen = np.exp(-(((X * 0.6 + Y - rng.uniform(40, 180)) / 14) ** 2)) * rng.uniform(0, 0.2)
    diagonal = corners[3] - corners[1]
    lens = capsule(corners[1] + diagonal * 0.25, corners[1] + diagonal * 0.3, 4)
    image = over(scene.image, tone + sheen, opacity)
    return over(image, 0.003, lens.whole(lens.cover) * 0.8), opacity


def _cloth(scene: Scene, rng: np.random.Generator) -> Layer:
    """A scarf, a collar or a blanket drawn up over the chin, the mouth or the nose."""
    y = scene.points[8, 1] - scene.iod * max(rng.normal(0.45, 0.5), -0.1)
    steps = np.arange(SIZE, dtype=np.float32)
    bump = _profile(rng, int(rng.integers(3, 7))) * 0.12 * scene.iod
    edge = y + bump + rng.normal(0, 0.12) * (steps - SIZE / 2)
    opacity = np.clip((Y - edge[None]) / 2 + 0.5, 0, 1).astype(np.float32)
    tone = log_uniform(rng, 0.015, 0.7)
    folds = np.sin((Y - bump[None]) * rng.uniform(0.15, 0.5) + 3 * smooth_noise(rng, 4))
    knit = np.sin(X * (k := rng.uniform(0.8, 2.4))) * np.sin(Y * k) * rng.uniform(0, 0.2)
    lit = np.clip(1 + rng.uniform(0.1, 0.4) * folds + knit + 0.15 * smooth_noise(rng, 12), 0.1, 2)
    shadow = blur(opacity, 3) * rng.uniform(0.1, 0.6)
    return over(scene.image * (1 - shadow), np.clip(tone * lit, 0.003, 1), opacity), opacity


def _blob(scene: Scene, rng: np.random.Generator) -> Layer:
    """Something near the lens, out of focus: any tone, any place."""
    centre = rng.uniform(8, SIZE - 8, 2).astype(np.float32)
    axes = rng.uniform(6, 32, 2).astype(np.float32)
    c, s = math.cos(a := rng.uniform(0, math.pi)), math.sin(a)
    px, py = X - centre[0], Y - centre[1]
    x, y = (px * c + py * s) / axes[0], (py * c - px * s) / axes[1]
    radius = np.sqrt(x * x + y * y) + 0.15 * smooth_noise(rng, 5)
    opacity = np.clip((1 - radius) / rng.uniform(0.05, 0.5) + 0.5, 0, 1).astype(np.float32)
    tone = log_uniform(rng, 0.01, 0.9) * (1 + 0.25 * smooth_noise(rng, 9))
    return over(scene.image, np.clip(tone, 0.003, 1), opacity), opacity


def _tube(scene: Scene, rng: np.random.Generator) -> Layer:
    """An oxygen cannula under the nose, or a nasal tube with its tape."""
    p, iod = scene.points, scene.iod
    t = np.linspace(0, 1, 16)[:, None]
    base = p[33] + scene.v * iod * rng.uniform(0.02, 0.1)
    lines: list[Real] = []
    tape = clear()
    if rng.random() < 0.6:
        for nostril, ear, side in ((p[32], p[0], -1), (p[34], p[16], 1)):
            start = base + scene.u * side * iod * 0.08
            knee = (start + ear) / 2 + scene.v * iod * rng.uniform(0.05, 0.35)
            lines.append((1 - t) ** 2 * start + 2 * t * (1 - t) * knee + t**2 * ear)
            lines.append(np.array([start, nostril]))
        lines.append(np.array([base - scene.u * iod * 0.1, base + scene.u * iod * 0.1]))
    else:
        side = -1 if rng.random() < 0.5 else 1
        start = p[32] if side < 0 else p[34]
        end = scene.at(side * rng.uniform(0.3, 1.4), rng.uniform(0.6, 2.4))
        knee = start + scene.v * iod * rng.uniform(0.05, 0.5) + scene.u * side * iod * 0.1
        lines.append((1 - t) ** 2 * start + 2 * t * (1 - t) * knee + t**2 * end)
        strip = np.array([p[29], p[30] + scene.v * iod * rng.uniform(0, 0.15)])
        tape = stroke([strip], iod * rng.uniform(0.15, 0.3)) * rng.uniform(0.6, 1)
    width = rng.uniform(1.2, 2.6)
    tube = stroke(lines, width) * rng.uniform(0.5, 0.95)
    tone = scene.skin * rng.uniform(0.7, 2.2)
    image = over(scene.image, scene.skin * rng.uniform(1.2, 2), tape)
    image = image * (1 - 0.4 * blur(tube, 1.2))
    image = over(image, tone, tube)
    gleam = stroke([line - 0.5 for line in lines], 0.6) * rng.uniform(0, 0.5)
    return over(image, min(tone * 1.8, 1.2), gleam), np.maximum(tube, tape)


def _plaster(scene: Scene, rng: np.random.Generator) -> Layer:
    """One to three strips of plaster or tape on cheek, nose, forehead or upper lip."""
    image, opacity = scene.image, clear()
    for _ in range(rng.integers(1, 4)):
        spot = scene.at(rng.uniform(-0.8, 0.8), rng.choice([-0.65, 0.45, 0.7, 0.95]))
        along = np.array([math.cos(a := rng.uniform(0, math.pi)), math.sin(a)]) * scene.iod
        along = along * rng.uniform(0.1, 0.35)
        strip = stroke([np.array([spot - along, spot + along])], scene.iod * rng.uniform(0.1, 0.28))
        tone = scene.skin * rng.uniform(0.8, 2.2) * (1 + 0.12 * smooth_noise(rng, 24))
        image = image * (1 - 0.3 * blur(strip, 1.5))
        image = over(image, np.clip(tone, 0.003, 1.2), strip * rng.uniform(0.75, 1))
        opacity = np.maximum(opacity, strip)
    return image, opacity


Occluder = Callable[[Scene, np.random.Generator], Layer]

OCCLUDERS: dict[str, tuple[Occluder, float]] = {
    "hair": (_hair, 0.32),
    "hand": (_hand, 0.25),
    "mask": (_mask, 0.1),
    "thing": (_thing, 0.1),
    "cloth": (_cloth, 0.07),
    "blob": (_blob, 0.06),
    "tube": (_tube, 0.05),
    "plaster": (_plaster, 0.05),
}
"""Each kind of occluder and its share of the occluded views."""


@dataclass(frozen=True, slots=True)
class Occluded:
    """A face with things in front of it.

    Attributes:
        image: ``(SIZE, SIZE)`` float32, linear light.
        opacity: ``(SIZE, SIZE)`` float32, 0 where the face shows, 1 where it is hidden.
        kinds: what was put there, in order.
    """

    image: Array
    opacity: Array
    kinds: tuple[str, ...]


def occlude(
    image: Array,
    points: Array,
    rng: np.random.Generator,
    *,
    occluder_rate: float = OCCLUDER_RATE,
    glasses_rate: float = GLASSES_RATE,
    kinds: Sequence[str] | None = None,
) -> Occluded:
    """Put glasses and other things in front of a face, or leave it as it is.

    Args:
        image: ``(SIZE, SIZE)`` float32, linear light, 0–1.
        points: ``(68, 2)`` landmarks, pixels of the image.
        rng: source of all choices.
        occluder_rate: probability of an occluder other than glasses, 0–1.
        glasses_rate: probability of glasses, 0–1.
        kinds: put exactly these in front (keys of `OCCLUDERS`, or ``"glasses"``) and draw nothing.

    Returns:
        The new picture, the joint opacity and the kinds used.
    """
    if kinds is None:
        chosen = ["glasses"] if rng.random() < glasses_rate else []
        if rng.random() < occluder_rate:
            names = list(OCCLUDERS)
            shares = np.array([share for _, share in OCCLUDERS.values()])
            count = 2 if rng.random() < SECOND_RATE else 1
            order = rng.choice(len(names), count, replace=False, p=shares / shares.sum())
            chosen += [names[k] for k in order]
    else:
        chosen = list(kinds)
    opacity = clear()
    for kind in chosen:
        scene = measure(image, points, rng)
        draw = glasses if kind == "glasses" else OCCLUDERS[kind][0]
        image, layer = draw(scene, rng)
        opacity = 1 - (1 - opacity) * (1 - layer)
    return Occluded(image.astype(np.float32, copy=False), opacity, tuple(chosen))


def visible_fractions(opacity: Array, regions: NDArray[np.bool_]) -> Array:
    """Measure how much of each action unit's region still shows.

    Args:
        opacity: ``(H, W)`` 0–1.
        regions: ``(A, H, W)`` where each action unit shows.

    Returns:
        ``(A,)`` float32, 0–1; 1 for an empty region.
    """
    area = regions.reshape(len(regions), -1).astype(np.float32)
    total = area.sum(1)
    hidden = area @ opacity.astype(np.float32, copy=False).ravel()
    return 1 - hidden / np.maximum(total, 1)


def label_visible(intensity: Array, visible: Array) -> Array:
    """Make the labels say only what the picture can show.

    A hidden action unit is absent: the network must answer from what it sees, and not guess a
    covered mouth from the cheeks. One that shows in part is not labelled.

    Args:
        intensity: ``(A,)`` 0–5, NaN where unknown.
        visible: ``(A,)`` visible share of each region, 0–1.

    Returns:
        ``(A,)`` float32.
    """
    partly = np.where(visible < SHOWN_ABOVE, np.float32(np.nan), intensity)
    return np.where(visible < HIDDEN_BELOW, np.float32(0), partly).astype(np.float32)


def point_visibility(opacity: Array, points: Array) -> Array:
    """Weigh each landmark by how visible it is.

    Args:
        opacity: ``(SIZE, SIZE)`` 0–1.
        points: ``(P, 2)`` landmarks, pixels; outside the picture they count as at its border.

    Returns:
        ``(P,)`` float32, 0–1.
    """
    column, row = np.clip(np.rint(points), 0, SIZE - 1).astype(int).T
    return 1 - opacity[row, column]
