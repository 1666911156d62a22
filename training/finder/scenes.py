"""Scenes composed of heads, things and backgrounds, with the truth of every face.

A scene is drawn at the size the detector sees, grey: a background, things on it, up to nine people
at any roll and size, some of them on a pillow under a blanket, and the camera's faults at the end.
What lies over what is kept, so that a face that hardly shows is neither wanted nor wrong.

Scene ``i`` of a seed depends on (seed, i) and the stock only.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from facestage.core.errors import ConfigError
from numpy.typing import NDArray

from ..augment.canvas import log_uniform
from .heads import Head, Stock

__all__ = ["MOST_FACES", "SIDE", "Backgrounds", "Composer", "Scene"]

SIDE = 160
"""Side of a scene, pixels: square, so that it can be turned by quarters when it is used again."""
MOST_FACES = 9
"""Rows of the truth; a scene has at most so many faces."""
SMALLEST, LARGEST, HUGE = 6.5, 140.0, 220.0
"""Longer side of the faces drawn, pixels: larger ones are seen in smaller copies; a few huge
ones teach what their parts look like."""
NEAR, NEAR_SHARE = 30.0, 0.4
"""In this share of the scenes the first face is at least so large, pixels: a person at a desk."""
IGNORED_BELOW = 7.3
"""A face smaller than this is neither wanted nor wrong, pixels."""
HIDDEN = 0.4
"""A face of which less than this shows, or lies in the picture, is neither wanted nor wrong."""
CLUTTERED, CLUTTER = 0.3, (7.0, 30.0)
"""In this share of the scenes lie many things of these sizes, pixels: as large as small faces."""
LETTERED = 0.3
"""Share of the scenes with words in them: round letters on a plain ground look like faces."""
STRETCH = 0.07
"""Deviation of how much a head is stretched and sheared: other people with the same skin."""
HARD_SHARE = 0.25
"""Share of the scenes with a background in which a face was seen, where there are such."""
_STREAM = 91

Picture = NDArray[np.uint8]
Real = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and its faces.

    Attributes:
        image: ``(160, 160)`` uint8 grey.
        faces: ``(9, 19)`` float32, one row a face: left, top, right, bottom, five points (x, y),
            five visibilities 0 or 1. Rows without a face are NaN.
        wanted: ``(9,)`` bool; a face that is not wanted is not wrong either.
        roll: ``(9,)`` float32, radians, clockwise in the picture.
    """

    image: Picture
    faces: Real
    wanted: NDArray[np.bool_]
    roll: Real


@dataclass(frozen=True, slots=True)
class Backgrounds:
    """Pictures without people.

    Attributes:
        pictures: grey photographs and paintings.
        things: grey cut-outs with their opacity.
        hard: ``(160, 160)``, parts of the pictures, and painted scenes, in which a finder saw a
            face.
    """

    pictures: tuple[Picture, ...]
    things: tuple[tuple[Picture, Picture], ...] = field(default=())
    hard: tuple[Picture, ...] = field(default=())

    @staticmethod
    def read(pictures: Sequence[Path], things: Sequence[Path] = (), side: int = 900) -> Backgrounds:
        """Read files.

        Args:
            pictures: without people.
            things: PNG with transparency, one thing each.
            side: longest side kept, pixels.

        Raises:
            ConfigError: a file is no picture.
        """
        found = []
        for path in pictures:
            found.append(_shrunk(_decoded(path, cv2.IMREAD_GRAYSCALE), side))
        cut = []
        for path in things:
            image = _decoded(path, cv2.IMREAD_UNCHANGED)
            if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 4:
                image = _shrunk(image, 128)
                grey = np.asarray(cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2GRAY), np.uint8)
                cut.append((grey, np.ascontiguousarray(image[..., 3])))
        return Backgrounds(tuple(found), tuple(cut))


def _decoded(path: Path, how: int) -> Picture:
    image = _panorama(path) if path.suffix == ".js" else cv2.imread(str(path), how)
    if image is None:
        raise ConfigError(f"{path} is not a picture that OpenCV can read: leave it out")
    return np.asarray(image)


def _panorama(path: Path) -> Picture | None:
    """Read a panorama (EXR in a module of JavaScript) and expose it for its middle tones."""
    coded = re.search(r"base64,([A-Za-z0-9+/=]+)", path.read_text(encoding="utf-8"))
    if coded is None:
        return None
    data = np.frombuffer(base64.b64decode(coded.group(1)), np.uint8)
    light = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if light is None:
        return None
    grey = np.maximum(cv2.cvtColor(light[..., :3].astype(np.float32), cv2.COLOR_BGR2GRAY), 0)
    middle = max(float(np.median(grey)), 1e-6)
    shown = np.clip(0.2 * grey / middle, 0, 1) ** (1 / 2.2)
    # The middle of the sphere: its poles are smeared.
    height = len(shown)
    shown = cv2.resize(shown[height // 5 : -height // 5], None, fx=1.5, fy=1.5)
    return np.asarray(np.rint(255 * shown), np.uint8)


def _shrunk(image: Picture, side: int) -> Picture:
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return image
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


@dataclass(slots=True)
class _Canvas:
    """A scene in the making."""

    image: Real
    owner: NDArray[np.int8]
    """Which face lies on top at each pixel; 0 none."""
    faces: list[tuple[Real, Real, NDArray[np.bool_], float, float]] = field(default_factory=list)
    """Outline, points, visible, roll, area of the outline."""


class Composer:
    """Draws scenes.

    Args:
        rendered, photographed: heads.
        backgrounds: without people.
        seed: of all scenes.
    """

    def __init__(
        self, rendered: Stock, photographed: Stock, backgrounds: Backgrounds, seed: int
    ) -> None:
        self.rendered, self.photographed = rendered.heads, photographed.heads
        self.backgrounds = backgrounds
        self.seed = seed

    @staticmethod
    def of(other: Composer, backgrounds: Backgrounds) -> Composer:
        """Return a composer of the same heads with other backgrounds."""
        return Composer(Stock(other.rendered), Stock(other.photographed), backgrounds, other.seed)

    def scene(self, index: int, people: bool = True) -> Scene:
        """Draw scene ``index``, or one of things only."""
        rng = np.random.default_rng([self.seed, index, _STREAM])
        canvas = _Canvas(self._background(rng), np.zeros((SIDE, SIDE), np.int8))
        for _ in range(rng.choice([0, 0, 1, 2, 4])):
            self._thing(canvas, rng)
        if rng.random() < CLUTTERED:
            for _ in range(rng.integers(4, 16)):
                self._thing(canvas, rng, CLUTTER)
        if rng.random() < LETTERED:
            for _ in range(rng.integers(1, 5)):
                _letters(canvas, rng)
        for _ in range(rng.choice([0, 0, 0, 1, 3])):
            _limb(canvas, rng)
        if people and rng.random() < 0.12:
            self._scrambled(canvas, rng)
        count = int(rng.choice([0, 1, 3, 5, 7, 9], p=[0.08, 0.12, 0.2, 0.25, 0.2, 0.15]))
        for _ in range(count if people else 0):
            self._person(canvas, rng, crowd=count > 2)
        if canvas.faces and rng.random() < 0.15:
            self._before(canvas, rng)
        return _finished(canvas, camera(canvas.image, rng))

    # -- parts -------------------------------------------------------------------------------------

    def _background(self, rng: np.random.Generator) -> Real:
        hard = self.backgrounds.hard
        if hard and rng.random() < HARD_SHARE:
            return hard[rng.integers(len(hard))].astype(np.float32)
        if self.backgrounds.pictures and rng.random() < 0.7:
            picture = self.backgrounds.pictures[rng.integers(len(self.backgrounds.pictures))]
            most = min(picture.shape)
            part = int(log_uniform(rng, min(96, most), most))
            y, x = (int(rng.integers(0, n - part + 1)) for n in picture.shape)
            cut = picture[y : y + part, x : x + part]
            how = cv2.INTER_AREA if part > SIDE else cv2.INTER_LINEAR
            image = cv2.resize(cut, (SIDE, SIDE), interpolation=how).astype(np.float32)
            return image[:, ::-1].copy() if rng.random() < 0.5 else image
        return room(rng)

    def _thing(
        self,
        canvas: _Canvas,
        rng: np.random.Generator,
        sizes: tuple[float, float] = (12.0, 200.0),
    ) -> None:
        if not self.backgrounds.things:
            return
        grey, opacity = self.backgrounds.things[rng.integers(len(self.backgrounds.things))]
        factor = log_uniform(rng, *sizes) / max(grey.shape)
        middle = rng.uniform(0, SIDE, 2)
        turn = rng.uniform(0, 2 * math.pi) if rng.random() < 0.5 else rng.normal(0, 0.2)
        tone = _toned(grey, rng, 0.4)
        _paste(canvas, tone, opacity, _placing(grey.shape, factor, turn, middle), 0)

    def _scrambled(self, canvas: _Canvas, rng: np.random.Generator) -> None:
        """Paste the tiles of a face in another order: the parts of a face are no face."""
        heads = self.photographed if rng.random() < 0.5 else self.rendered
        head = heads[rng.integers(len(heads))]
        low, high = _ends(head.around)
        x, y = np.maximum(low, 0).astype(int)
        side = int((high - low).max())
        face = cv2.resize(head.image[y : y + side, x : x + side], (96, 96))
        n = int(rng.choice([2, 3]))
        step = 96 // n
        tiles = [
            face[a : a + step, b : b + step]
            for a in range(0, step * n, step)
            for b in range(0, step * n, step)
        ]
        order = np.roll(np.arange(n * n), int(rng.integers(1, n * n)))
        mixed = np.vstack(
            [np.hstack([tiles[k] for k in order[r * n : r * n + n]]) for r in range(n)]
        )
        grey = np.ascontiguousarray(mixed.astype(np.uint8))
        factor = log_uniform(rng, 16, 160) / 96
        place = _placing(grey.shape, factor, rng.uniform(0, 6.28), rng.uniform(0, SIDE, 2))
        _paste(canvas, grey.astype(np.float32), np.full(grey.shape, 255, np.uint8), place, 0)

    def _before(self, canvas: _Canvas, rng: np.random.Generator) -> None:
        """Hide a part of a face behind a thing."""
        outline = canvas.faces[rng.integers(len(canvas.faces))][0]
        low, high = _ends(outline)
        things = self.backgrounds.things
        if things and rng.random() < 0.6:
            grey, opacity = things[rng.integers(len(things))]
        else:
            grey, opacity = np.full((2, 24, 24), 255, np.uint8)
            grey = np.asarray(grey * rng.uniform(0.05, 1), np.uint8)
        factor = float((high - low).max()) * rng.uniform(0.3, 0.8) / max(grey.shape)
        middle = rng.uniform(low, high)
        place = _placing(grey.shape, factor, rng.uniform(0, 6.28), middle)
        _paste(canvas, grey.astype(np.float32), opacity, place, 0)

    def _person(self, canvas: _Canvas, rng: np.random.Generator, crowd: bool) -> None:
        photographed = rng.random() < 0.5
        heads = self.photographed if photographed else self.rendered
        head = heads[rng.integers(len(heads))]
        if rng.random() < 0.5:
            head = _mirrored(head)
        low, high = _ends(head.around)
        own = float((high - low).max())
        most = 60.0 if crowd else LARGEST
        size = log_uniform(rng, SMALLEST, most) if rng.random() < 0.95 else rng.uniform(most, HUGE)
        if not canvas.faces and rng.random() < NEAR_SHARE:
            size = log_uniform(rng, NEAR, LARGEST)
        turn = rng.normal(0, 0.2) if rng.random() < 0.35 else rng.uniform(0, 2 * math.pi)
        reach = min(0.35 * size, 60)
        middle = rng.uniform(-0.2 * reach, SIDE + 0.2 * reach, 2)
        if size > 90:
            middle = rng.uniform(0.25 * SIDE, 0.75 * SIDE, 2)
        matrix = _placing_at((low + high) / 2, size / own, turn, middle)
        matrix = _stretched(matrix, (low + high) / 2, rng)
        outline = _moved(matrix, head.around)
        if _covered(canvas, outline) > 0.25:
            return
        bed = rng.random() < (0.1 if canvas.faces else 0.25)
        if bed:
            _pillow(canvas, rng, middle, size, turn)
        tone = _toned(head.image, rng, 0.35)
        whole = head.whole and rng.random() < 0.35
        alpha = _frame_of(head) if whole else head.alpha
        if not whole and rng.random() < 0.7:
            _shoulders(canvas, rng, outline, turn, size)
        _paste(canvas, tone, alpha, matrix, len(canvas.faces) + 1)
        if bed and rng.random() < 0.6:
            _blanket(canvas, rng, middle, size, turn)
        canvas.faces.append(
            (outline, _moved(matrix, head.points), head.visible, turn, _area(outline))
        )


# -- geometry --------------------------------------------------------------------------------------


def _ends(outline: Real) -> tuple[Real, Real]:
    return outline.min(0), outline.max(0)


def _area(outline: Real) -> float:
    return float(cv2.contourArea(cv2.convexHull(outline)))


def _moved(matrix: NDArray[np.float64], points: Real) -> Real:
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _placing_at(
    origin: NDArray[np.floating], factor: float, turn: float, middle: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the matrix that turns clockwise about ``origin``, scales, and moves to ``middle``."""
    c, s = factor * math.cos(turn), factor * math.sin(turn)
    linear = np.array([[c, -s], [s, c]])
    return np.column_stack([linear, middle - linear @ origin])


def _placing(
    shape: tuple[int, ...], factor: float, turn: float, middle: NDArray[np.floating]
) -> NDArray[np.float64]:
    return _placing_at(np.array([shape[1] / 2, shape[0] / 2]), factor, turn, middle)


def _stretched(
    matrix: NDArray[np.float64], origin: NDArray[np.floating], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Stretch and shear along the head's own axes, about ``origin``; the eyes stay level."""
    wide, skew = np.clip(rng.normal(0, STRETCH, 2), -0.2, 0.2)
    change = np.array([[1 + wide, skew], [0.0, 1 - wide]])
    linear = matrix[:, :2] @ change
    return np.column_stack([linear, matrix[:, 2] + (matrix[:, :2] - linear) @ origin])


def _paste(
    canvas: _Canvas, tone: Real, opacity: Picture, matrix: NDArray[np.float64], number: int
) -> None:
    """Warp a cut-out onto the canvas without aliasing and remember who lies on top."""
    height, width = tone.shape
    factor = math.hypot(matrix[0, 0], matrix[1, 0])
    if factor < 0.75:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        shrink = np.array([size[0] / width, size[1] / height])
        tone = cv2.resize(tone, size, interpolation=cv2.INTER_AREA)
        opacity = np.asarray(cv2.resize(opacity, size, interpolation=cv2.INTER_AREA))
        # Areas are scaled, not centres.
        offset = matrix[:, :2] @ (0.5 / shrink - 0.5)
        matrix = np.column_stack([matrix[:, :2] / shrink, matrix[:, 2] + offset])
        height, width = size[1], size[0]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    placed = _moved(matrix, corners)
    left, top = np.clip(np.floor(placed.min(0)) - 1, 0, SIDE).astype(int)
    right, bottom = np.clip(np.ceil(placed.max(0)) + 1, 0, SIDE).astype(int)
    if right <= left or bottom <= top:
        return
    local = matrix - np.array([[0, 0, left], [0, 0, top]])
    size = (int(right - left), int(bottom - top))
    colour = cv2.warpAffine(tone, local, size, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(opacity, local, size).astype(np.float32) / 255
    region = canvas.image[top:bottom, left:right]
    region += cover * (colour - region)
    canvas.owner[top:bottom, left:right][cover > 0.5] = number


def _mask(polygon: NDArray[np.floating], soft: float) -> Real:
    mask = np.zeros((SIDE, SIDE), np.float32)
    cv2.fillPoly(mask, [np.rint(polygon * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), soft)) if soft > 0.3 else mask


def _covered(canvas: _Canvas, outline: Real) -> float:
    """Return how much of earlier faces a new face would hide, the worst share."""
    if not canvas.faces:
        return 0.0
    low, high = _ends(outline)
    # Hair and shoulders hide more than the face does.
    spread = 0.3 * (high - low)
    worst = 0.0
    for other, *_ in canvas.faces:
        left, right = _ends(other)
        common = np.minimum(high + spread, right) - np.maximum(low - spread, left)
        share = np.clip(common, 0, None).prod() / max((right - left).prod(), 1)
        worst = max(worst, float(share))
    return worst


# -- people ----------------------------------------------------------------------------------------


def _mirrored(head: Head) -> Head:
    width = head.image.shape[1]
    swap = [1, 0, 2, 4, 3]
    flip = np.array([-1, 1], np.float32)
    shift = np.array([width - 1, 0], np.float32)
    alpha, image = head.alpha[:, ::-1], head.image[:, ::-1]
    return Head(
        np.ascontiguousarray(image),
        np.ascontiguousarray(alpha),
        head.outline * flip + shift,
        (head.points * flip + shift)[swap],
        head.visible[swap],
        np.array([-head.extent[0], head.extent[1]]),
        head.whole,
    )


def _frame_of(head: Head) -> Picture:
    mask = np.zeros(head.image.shape, np.uint8)
    width, height = int(head.extent[0]), int(head.extent[1])
    # A mirrored picture lies at the right border.
    mask[:height, width if width < 0 else 0 : None if width < 0 else width] = 255
    return mask


def _toned(image: Picture, rng: np.random.Generator, strength: float) -> Real:
    """Light a cut-out anew: gamma, gain, and light from one side."""
    if rng.random() < 0.25:
        return image.astype(np.float32)
    gamma = math.exp(rng.normal(0, strength))
    gain = 255 * math.exp(rng.normal(-0.15, 0.6 * strength))
    table = (gain * (np.arange(256) / 255) ** gamma).astype(np.float32)
    tone = table[image]
    if rng.random() < 0.4:
        height, width = image.shape
        angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.85)
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        ramp = (math.cos(angle) * x + math.sin(angle) * y) * rng.uniform(1, 5)
        tone = tone * (1 - depth / (1 + np.exp(ramp))).astype(np.float32)
    return np.minimum(tone, 255).astype(np.float32)


def _shoulders(
    canvas: _Canvas, rng: np.random.Generator, outline: Real, turn: float, size: float
) -> None:
    down = np.array([-math.sin(turn), math.cos(turn)])
    across = np.array([math.cos(turn), math.sin(turn)])
    chin = outline.mean(0) + down * 0.55 * size
    wide, drop = size * rng.uniform(0.7, 1.3), size * rng.uniform(0.15, 0.4)
    shape = [
        (-0.3, 0.0),
        (0.3, 0.0),
        (0.75, 0.6),
        (1.0, 1.2),
        (1.05, 6),
        (-1.05, 6),
        (-1.0, 1.2),
        (-0.75, 0.6),
    ]
    polygon = np.array([chin + across * x * wide + down * y * drop for x, y in shape])
    mask = _mask(polygon, min(0.02 * size, 3))
    cloth = rng.uniform(10, 240) + rng.uniform(0, 40) * _noise(rng, int(rng.integers(3, 24)))
    canvas.image += mask * (np.clip(cloth, 0, 255) - canvas.image)
    canvas.owner[mask > 0.5] = 0


def _pillow(
    canvas: _Canvas,
    rng: np.random.Generator,
    middle: NDArray[np.floating],
    size: float,
    turn: float,
) -> None:
    """Put linen and a pillow under a head."""
    if not canvas.faces and rng.random() < 0.7:
        linen = rng.uniform(70, 235) + rng.uniform(3, 25) * _folds(rng)
        canvas.image[:] = np.clip(linen, 0, 255)
        canvas.owner[:] = 0
    half = size * rng.uniform((1.0, 0.7), (2.0, 1.3))
    angle = np.linspace(0, 2 * math.pi, 40)
    power = rng.uniform(0.35, 0.8)
    ring = np.stack(
        [
            np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power * half[0],
            np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power * half[1],
        ],
        1,
    )
    tilt = turn + rng.normal(0, 0.25)
    c, s = math.cos(tilt), math.sin(tilt)
    up = np.array([math.sin(turn), -math.cos(turn)]) * size * rng.uniform(-0.1, 0.4)
    polygon = ring @ np.array([[c, s], [-s, c]]) + middle + up
    mask = _mask(polygon, 1.0)
    cloth = rng.uniform(90, 250) + rng.uniform(5, 25) * _folds(rng)
    shadow = np.asarray(cv2.GaussianBlur(mask, (0, 0), max(2.0, 0.1 * size)))
    canvas.image *= 1 - 0.4 * shadow * (1 - mask)
    canvas.image += mask * (np.clip(cloth * (0.75 + 0.25 * shadow), 0, 255) - canvas.image)
    canvas.owner[mask > 0.5] = 0


def _blanket(
    canvas: _Canvas,
    rng: np.random.Generator,
    middle: NDArray[np.floating],
    size: float,
    turn: float,
) -> None:
    down = np.array([-math.sin(turn), math.cos(turn)])
    across = np.array([math.cos(turn), math.sin(turn)])
    start = middle + down * size * rng.uniform(0.35, 1.1)
    wide = size * rng.uniform(0.8, 3)
    skew = rng.normal(0, 0.2)
    polygon = np.array(
        [
            start - across * wide - down * skew * wide,
            start + across * wide + down * skew * wide,
            start + across * wide * 1.3 + down * 6 * size,
            start - across * wide * 1.3 + down * 6 * size,
        ]
    )
    mask = _mask(polygon, 0.8)
    cloth = rng.uniform(40, 245) + rng.uniform(5, 30) * _folds(rng)
    canvas.image += mask * (np.clip(cloth, 0, 255) - canvas.image)
    canvas.owner[mask > 0.5] = 0


def _limb(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Draw a shaded rod, such as an arm, a leg or a rail, or a ball, such as the back of a head."""
    start = rng.uniform(-20, SIDE + 20, 2)
    length = 0 if rng.random() < 0.3 else rng.uniform(20, 200)
    angle, radius = rng.uniform(0, 2 * math.pi), log_uniform(rng, 3, 50)
    axis = np.array([math.cos(angle), math.sin(angle)])
    y, x = np.ogrid[:SIDE, :SIDE]
    dx, dy = x - start[0], y - start[1]
    along = np.clip(dx * axis[0] + dy * axis[1], 0, length)
    away_x, away_y = dx - along * axis[0], dy - along * axis[1]
    away = np.sqrt(away_x**2 + away_y**2) / radius
    mask = np.clip((1 - away) * radius / 1.5, 0, 1).astype(np.float32)
    light = rng.uniform(0, 2 * math.pi)
    side = (away_x * math.cos(light) + away_y * math.sin(light)) / radius
    depth = np.sqrt(np.clip(1 - away**2, 0, 1))
    shade = rng.uniform(0.3, 1) * depth + rng.uniform(0, 0.5) * side + rng.uniform(0.2, 0.5)
    tone = np.clip(rng.uniform(40, 230) * shade, 0, 255).astype(np.float32)
    tone += rng.uniform(0, 12) * _noise(rng, int(rng.integers(4, 40)))
    canvas.image += mask * (np.clip(tone, 0, 255) - canvas.image)


def _letters(canvas: _Canvas, rng: np.random.Generator) -> None:
    """Write a word of one to eight letters, with or without an edge, at any roll and size."""
    alphabet = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789&@%")
    count = int(rng.integers(1, 9))
    word = "".join(rng.choice(alphabet, count))
    font = int(rng.integers(0, 8)) | (cv2.FONT_ITALIC if rng.random() < 0.2 else 0)
    thick, edge = int(rng.integers(2, 13)), int(rng.choice([0, 0, 4, 8]))
    (width, height), below = cv2.getTextSize(word, font, 2.0, thick)
    pad = thick + edge + 4
    fill, rim = rng.uniform(0, 255, 2)
    grey = np.full((height + below + 2 * pad, width + 2 * pad), rim, np.float32)
    opacity = np.zeros(grey.shape, np.uint8)
    at = (pad, pad + height)
    cv2.putText(opacity, word, at, font, 2.0, 255, thick + 2 * edge, cv2.LINE_AA)
    cv2.putText(grey, word, at, font, 2.0, fill, thick, cv2.LINE_AA)
    factor = log_uniform(rng, 9, 40) / height
    turn = rng.uniform(0, 2 * math.pi) if rng.random() < 0.6 else rng.normal(0, 0.1)
    _paste(canvas, grey, opacity, _placing(grey.shape, factor, turn, rng.uniform(0, SIDE, 2)), 0)


# -- surroundings ----------------------------------------------------------------------------------


def _noise(rng: np.random.Generator, cells: int) -> Real:
    grid = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(grid, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def _folds(rng: np.random.Generator) -> Real:
    """Return creased cloth, zero mean: stretched noise, sharp where it turns."""
    field = np.zeros((SIDE, SIDE), np.float32)
    for cells, weight in ((3, 1.0), (7, 0.7), (16, 0.4)):
        grid = rng.standard_normal((cells, max(2, cells // 2)), np.float32)
        field += weight * np.abs(cv2.resize(grid, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
    if rng.random() < 0.5:
        field = field.T
    return np.ascontiguousarray(field - field.mean())


def room(rng: np.random.Generator) -> Real:
    """Paint a background: soft clouds of light, flat shapes, stripes, grain."""
    tone = np.full((SIDE, SIDE), rng.uniform(10, 240), np.float32)
    for cells, most in ((2, 60.0), (5, 30.0), (14, 20.0)):
        tone += rng.uniform(0, most) * _noise(rng, cells)
    for _ in range(int(rng.integers(0, 14))):
        centre, half = rng.uniform(0, SIDE, 2), np.exp(rng.uniform(0.7, 4.5, 2))
        angle = float(rng.normal(0, 6) if rng.random() < 0.6 else rng.uniform(0, 180))
        value = rng.uniform(0, 255)
        if rng.random() < 0.3:
            size = tuple(np.maximum(1, half).astype(int).tolist())
            place = tuple(centre.astype(int).tolist())
            cv2.ellipse(
                tone, place, size, angle, 0, 360, value, int(rng.choice([-1, 1, 2, 4])), cv2.LINE_AA
            )
        else:
            box = cv2.boxPoints((tuple(centre), tuple(2 * half), angle))
            cv2.fillPoly(tone, [np.rint(box).astype(np.int32)], value, cv2.LINE_AA)
    if rng.random() < 0.3:
        angle, period = rng.uniform(0, math.pi), log_uniform(rng, 3, 40)
        y, x = np.ogrid[:SIDE, :SIDE]
        wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period)
        tone += (rng.uniform(4, 40) * wave).astype(np.float32)
    if rng.random() < 0.5:
        tone = np.asarray(cv2.GaussianBlur(tone, (0, 0), rng.uniform(0.5, 4)))
    if rng.random() < 0.4:
        tone += rng.uniform(2, 25) * _noise(rng, int(rng.integers(40, SIDE)))
    return np.clip(tone, 0, 255).astype(np.float32)


def camera(image: Real, rng: np.random.Generator) -> Picture:
    """Take the picture: light, optics, sensor, codec.

    The finder sees reduced pictures, in which blur, noise and coding are weaker than they were.
    """
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8)))
    if rng.random() < 0.05:
        length, angle = int(rng.integers(3, 8)), rng.uniform(0, math.pi)
        streak = np.zeros((length, length), np.float32)
        half = (length - 1) / 2
        offset = half * np.array([math.cos(angle), math.sin(angle)])
        a, b = (tuple(np.rint(half + s * offset).astype(int).tolist()) for s in (-1, 1))
        cv2.line(streak, a, b, 1.0)
        image = np.asarray(cv2.filter2D(image, -1, streak / streak.sum()))
    level = rng.random()
    if level < 0.07:  # a dark room: little light, much noise
        gain, noise = rng.uniform(0.12, 0.5), rng.uniform(1, 7)
    else:
        gain, noise = math.exp(rng.normal(0, 0.2)), abs(rng.normal(0, 2.5))
    lift = rng.uniform(0, 30) if rng.random() < 0.3 else 0.0
    image = image * gain + lift
    if rng.random() < 0.2:  # a flash or infrared lamp: bright middle
        y, x = np.ogrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
        away = (x - rng.uniform(-0.5, 0.5)) ** 2 + (y - rng.uniform(-0.5, 0.5)) ** 2
        image = image * (0.3 + 0.9 * np.exp(-away * rng.uniform(0.5, 3))).astype(np.float32)
    image = image + noise * rng.standard_normal((SIDE, SIDE), np.float32)
    done = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        coded = cv2.imencode(".jpg", done, quality)[1]
        done = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)
    return done


def _finished(canvas: _Canvas, image: Picture) -> Scene:
    faces = np.full((MOST_FACES, 19), np.nan, np.float32)
    wanted, roll = np.zeros(MOST_FACES, bool), np.zeros(MOST_FACES, np.float32)
    for row, (outline, points, visible, turn, area) in enumerate(canvas.faces):
        low, high = _ends(outline)
        inside = ((points > 0) & (points < SIDE - 1)).all(1)
        faces[row] = np.concatenate([low, high, points.ravel(), visible & inside])
        hull = _mask(cv2.convexHull(outline)[:, 0], 0)
        shows = float((hull > 0.5)[canvas.owner == row + 1].sum()) / max(area, 1.0)
        small = float((high - low).max()) < IGNORED_BELOW
        wanted[row] = shows >= HIDDEN and not small
        roll[row] = turn
    return Scene(image, faces, wanted, roll)
