"""Wrinkle relief tied to action units, drawn once on the flattened generic face.

The skin texture lives on a cylinder around the generic ICT face: `s` is arc length to the
side, `y` height, both in kit units (about one centimetre on an adult). Positions below are
in these units, so a line of code reads like the FACS manual's appearance changes (Ekman,
Friesen & Hager 2002, *Facial Action Coding System*): which furrow, where, how long.

Every kind is drawn in several seeded variants, so that faces differ in the number, place and
curvature of their lines. Heights are in groove depths: -1 is the floor of a full furrow.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np

from ..face.facs import AU_INDEX, AUS

__all__ = [
    "CYLINDER_CENTRE_Z",
    "CYLINDER_RADIUS",
    "KINDS",
    "TEXTURE_SIZE",
    "VARIANTS",
    "WINDOW",
    "drives",
    "texel_grid",
    "wrinkle_bank",
]

TEXTURE_SIZE = 192
"""Texels along each side of the skin texture."""
WINDOW = (-10.5, -10.0, 21.0)
"""Left edge (s), lower edge (y) and side of the square texture window, kit units."""
CYLINDER_RADIUS = 9.0
"""Radius of the cylinder, kit units: that of the face around the cheekbones."""
CYLINDER_CENTRE_Z = 1.0
"""Depth of the cylinder's axis, kit units."""
VARIANTS = 8
"""Seeded drawings of each kind of wrinkle."""


_SEED = 20_02

_DRIVE: dict[str, dict[int, float]] = {
    "forehead_inner": {1: 1.0},
    "forehead_outer": {2: 1.0},
    "omega": {},  # product of AU1 and AU4, see drives()
    "glabella": {4: 1.0, 9: 0.35},
    "nose_root": {9: 0.8, 4: 0.55},
    "nose_side": {9: 1.0},
    "alar": {9: 0.8, 10: 0.8, 12: 0.2},
    "nasolabial": {12: 1.0, 10: 0.55, 9: 0.35, 6: 0.3, 14: 0.2, 20: 0.15},
    "crows_feet": {6: 1.0, 12: 0.05, 7: 0.15},
    "infraorbital": {6: 1.0, 12: 0.05, 9: 0.2},
    "lower_lid": {7: 1.0, 6: 0.6, 43: 0.15},
    "dimple": {14: 1.0, 12: 0.15},
    "corner": {15: 1.0, 20: 0.1},
    "chin": {17: 1.0, 15: 0.15},
    "stretch": {20: 1.0, 12: 0.15, 27: 0.2},
    "lip_lines": {18: 0.9, 23: 0.8, 24: 0.8, 28: 0.7, 22: 0.3},
    "upper_lid": {},  # always there, flattened by AU43, see drives()
}
KINDS = tuple(_DRIVE)
"""Kinds of wrinkle, in the order of the bank's rows and of `drives`."""

_Points = list[tuple[float, float]]


@functools.cache
def texel_grid() -> tuple[np.ndarray, np.ndarray]:
    """Return the surface coordinates of the texel centres.

    Returns:
        s and y, each (T, T) float32, kit units; row 0 is the top.
    """
    left, bottom, side = WINDOW
    step = (np.arange(TEXTURE_SIZE, dtype=np.float32) + 0.5) / TEXTURE_SIZE * side
    return np.meshgrid(left + step, bottom + side - step, indexing="xy")  # type: ignore[return-value]


class _Sheet:
    """One height map being drawn."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.s, self.y = texel_grid()
        self.height = np.zeros_like(self.s)

    def groove(self, points: _Points, width: float, depth: float = 1.0, bulge: float = 0.0) -> None:
        """Draw a furrow that fades at both ends.

        Args:
            points: Control points of a Bezier curve of any degree, kit units.
            width: Standard deviation across, kit units.
            depth: Height below the skin at the middle.
            bulge: Height of the smooth swelling on the left of the walking direction.
        """
        curve = _bezier(np.asarray(points, np.float64), 28)
        reach = max(4.0 * width, 1.6 if bulge else 0.5)
        box = (
            (self.s > curve[:, 0].min() - reach)
            & (self.s < curve[:, 0].max() + reach)
            & (self.y > curve[:, 1].min() - reach)
            & (self.y < curve[:, 1].max() + reach)
        )
        here = np.stack([self.s[box], self.y[box]], 1)
        delta = here[:, None] - curve
        square = (delta**2).sum(2)
        nearest = square.argmin(1)
        rows = np.arange(len(here))
        distance2 = square[rows, nearest]
        t = nearest / (len(curve) - 1.0)
        taper = np.clip(4.0 * t * (1.0 - t) * 1.6, 0.0, 1.0)
        relief = -depth * np.exp(-0.5 * distance2 / width**2)
        # Skin is not lost in a fold: it is pushed up on both sides.
        relief += 0.3 * depth * np.exp(-0.5 * distance2 / (2.4 * width) ** 2)
        if bulge:
            tangent = np.gradient(curve, axis=0)[nearest]
            offset = delta[rows, nearest]
            side = tangent[:, 0] * offset[:, 1] - tangent[:, 1] * offset[:, 0]
            distance = np.sqrt(distance2) * np.sign(side)
            relief += bulge * np.exp(-0.5 * ((distance - 0.8) / 0.5) ** 2)
        self.height[box] += (relief * taper).astype(np.float32)

    def swell(self, s: float, y: float, radius_s: float, radius_y: float, height: float) -> None:
        """Add a smooth bump (or a pit, with a negative height)."""
        self.height += height * np.exp(
            -0.5 * (((self.s - s) / radius_s) ** 2 + ((self.y - y) / radius_y) ** 2)
        ).astype(np.float32)

    def both(self, draw: Callable[[float], None]) -> None:
        """Draw on the face's two sides, each with its own chance."""
        for sign in (-1.0, 1.0):
            draw(sign)


def _bezier(control: np.ndarray, count: int) -> np.ndarray:
    t = np.linspace(0.0, 1.0, count)[:, None]
    level = [np.broadcast_to(p, (count, 2)) for p in control]
    while len(level) > 1:
        level = [(1.0 - t) * a + t * b for a, b in itertools.pairwise(level)]
    return level[0]


def _forehead_inner(sheet: _Sheet) -> None:
    rng, count = sheet.rng, int(sheet.rng.integers(2, 5))
    y = rng.uniform(6.9, 7.3)
    for _ in range(count):
        half, sag = rng.uniform(1.7, 3.3), rng.normal(0.0, 0.25)
        a, b = -half + rng.normal(0, 0.4), half + rng.normal(0, 0.4)
        sheet.groove(
            [(a, y - 0.1), (a / 3, y + sag), (b / 3, y + sag + rng.normal(0, 0.15)), (b, y - 0.1)],
            rng.uniform(0.09, 0.15),
            rng.uniform(0.6, 1.1),
        )
        y += rng.uniform(0.5, 0.85)


def _forehead_outer(sheet: _Sheet) -> None:
    rng, count, first = sheet.rng, int(sheet.rng.integers(2, 4)), sheet.rng.uniform(6.9, 7.3)
    step = rng.uniform(0.5, 0.8)

    def side(sign: float) -> None:
        y = first
        for _ in range(count):
            a, b = rng.uniform(0.9, 2.2), rng.uniform(5.3, 6.6)
            sheet.groove(
                [(sign * a, y), (sign * 3.6, y + rng.uniform(0.4, 0.9)), (sign * b, y - 0.6)],
                rng.uniform(0.09, 0.15),
                rng.uniform(0.5, 1.1),
            )
            y += step

    sheet.both(side)


def _omega(sheet: _Sheet) -> None:
    rng = sheet.rng
    for k in range(int(rng.integers(1, 4))):
        y, half = 6.9 + 0.6 * k + rng.normal(0, 0.08), rng.uniform(0.9, 1.7)
        sheet.groove([(-half, y), (0.0, y + 0.35), (half, y)], rng.uniform(0.1, 0.15))

    def side(sign: float) -> None:
        sheet.groove(
            [(sign * 0.8, 6.5), (sign * 1.5, 7.3), (sign * rng.uniform(2.2, 3.0), 6.9)],
            rng.uniform(0.1, 0.15),
        )
        sheet.swell(sign * 1.5, 6.3, 0.6, 0.35, 0.7)

    sheet.both(side)


def _glabella(sheet: _Sheet) -> None:
    rng, count = sheet.rng, int(sheet.rng.choice([1, 2, 2, 2, 3]))
    for place in {1: (0.1,), 2: (-0.62, 0.62), 3: (-0.85, 0.05, 0.8)}[count]:
        s = place * rng.uniform(0.75, 1.2) + rng.normal(0, 0.08)
        low, high = rng.uniform(4.5, 5.2), rng.uniform(6.2, 7.2)
        lean = 0.22 * np.sign(place) + rng.normal(0, 0.08)
        sheet.groove(
            [(s * 0.9, low), (s, (low + high) / 2), (s + lean, high)],
            rng.uniform(0.11, 0.17),
            rng.uniform(0.9, 1.4),
        )

    def side(sign: float) -> None:  # corrugator: a swelling over the inner brow, a pit beyond
        sheet.swell(sign * 1.25, 5.7, 0.55, 0.5, rng.uniform(0.5, 1.0))
        sheet.swell(sign * 2.9, 6.9, 0.7, 0.4, -rng.uniform(0.2, 0.7))

    sheet.both(side)


def _nose_root(sheet: _Sheet) -> None:
    rng = sheet.rng
    for k in range(int(rng.integers(1, 4))):
        y, half = 3.9 + 0.42 * k + rng.normal(0, 0.06), rng.uniform(0.6, 1.0)
        sheet.groove(
            [(-half, y - 0.1), (0.0, y + rng.normal(0.1, 0.1)), (half, y - 0.1)],
            rng.uniform(0.08, 0.12),
            1.1,
        )


def _nose_side(sheet: _Sheet) -> None:
    rng, count = sheet.rng, int(sheet.rng.integers(2, 5))

    def side(sign: float) -> None:
        for k in range(count):
            y = 3.5 - 0.36 * k + rng.normal(0, 0.05)
            sheet.groove(
                [(sign * 0.25, y), (sign * 0.75, y - 0.1), (sign * rng.uniform(1.0, 1.4), y - 0.7)],
                rng.uniform(0.08, 0.12),
                1.1,
            )

    sheet.both(side)


def _alar(sheet: _Sheet) -> None:
    rng = sheet.rng

    def side(sign: float) -> None:
        top = rng.uniform(0.5, 1.1)
        points = [(1.05, top), (1.75, 0.3), (2.0, -0.5), (1.9, -1.2)]
        sheet.groove([(sign * s, y) for s, y in points], rng.uniform(0.12, 0.18), 1.2)
        sheet.swell(sign * 2.5, 0.4, 0.6, 0.7, 0.8)

    sheet.both(side)


def _nasolabial(sheet: _Sheet) -> None:
    rng = sheet.rng
    end, out, width = rng.uniform(-4.6, -3.2), rng.uniform(2.9, 3.5), rng.uniform(0.12, 0.2)

    def side(sign: float) -> None:
        points = [(1.75, 0.0), (2.5, -0.8), (out, -2.2), (out + rng.normal(0, 0.1), end)]
        # Walked upwards on one side, downwards on the other: the cheek is on the left.
        line = [(sign * s, y) for s, y in points]
        sheet.groove(line if sign > 0 else line[::-1], width, 1.1, bulge=rng.uniform(0.9, 1.7))

    sheet.both(side)


def _crows_feet(sheet: _Sheet) -> None:
    rng, count = sheet.rng, int(sheet.rng.integers(3, 6))

    def side(sign: float) -> None:
        angles = np.linspace(-0.85, 0.6, count) + rng.normal(0, 0.1, count)
        for angle in angles:
            a, b = rng.uniform(0.25, 0.6), rng.uniform(1.3, 2.3)
            bend = rng.normal(-0.1, 0.12)
            points = [
                (
                    sign * (4.85 + r * np.cos(angle + turn)),
                    3.35 + r * np.sin(angle + turn),
                )
                for r, turn in ((a, 0.0), ((a + b) / 2, bend / 2), (b, bend))
            ]
            sheet.groove(points, rng.uniform(0.1, 0.14), rng.uniform(0.8, 1.3))

    sheet.both(side)


def _infraorbital(sheet: _Sheet) -> None:
    rng = sheet.rng
    low = rng.uniform(1.5, 2.1)

    def side(sign: float) -> None:
        points = [(1.7, 2.6), (2.4, low), (3.9, low - 0.1), (5.0, 2.6)]
        sheet.groove([(sign * s, y) for s, y in points], rng.uniform(0.12, 0.2), 1.9)
        sheet.swell(sign * 3.3, 2.45, 1.1, 0.28, 1.0)
        sheet.swell(sign * 4.0, 0.9, 1.2, 0.7, 2.2)  # the cheek, pushed up and out

    sheet.both(side)


def _lower_lid(sheet: _Sheet) -> None:
    rng, count = sheet.rng, int(sheet.rng.integers(1, 3))

    def side(sign: float) -> None:
        for k in range(count):
            y = 2.62 - 0.33 * k + rng.normal(0, 0.05)
            sheet.groove(
                [(sign * 2.0, y + 0.2), (sign * 3.2, y - 0.2), (sign * 4.5, y + 0.25)],
                rng.uniform(0.07, 0.12),
                1.0 - 0.3 * k,
            )
        sheet.swell(sign * 3.2, 2.8, 0.9, 0.14, 0.6)

    sheet.both(side)


def _dimple(sheet: _Sheet) -> None:
    rng, away = sheet.rng, sheet.rng.uniform(2.85, 3.3)

    def side(sign: float) -> None:
        bow = rng.uniform(0.15, 0.4)
        points = [(away - 0.1, -2.7), (away + bow, -3.5), (away - 0.1, -4.3)]
        sheet.groove([(sign * s, y) for s, y in points], rng.uniform(0.11, 0.17), 1.2)
        sheet.swell(sign * (away - 0.1), -3.5, 0.28, 0.4, -0.8)
        sheet.swell(sign * (away + 0.75), -3.5, 0.4, 0.7, 0.7)

    sheet.both(side)


def _corner(sheet: _Sheet) -> None:
    rng, end = sheet.rng, sheet.rng.uniform(-5.6, -4.7)

    def side(sign: float) -> None:
        points = [(2.6, -3.55), (2.85, -4.2), (rng.uniform(2.7, 3.2), end)]
        sheet.groove([(sign * s, y) for s, y in points], rng.uniform(0.11, 0.17), 1.2)
        sheet.swell(sign * 2.2, -4.5, 0.4, 0.4, 0.5)
        sheet.swell(sign * 3.5, -4.4, 0.4, 0.7, 0.6)

    sheet.both(side)


def _chin(sheet: _Sheet) -> None:
    rng = sheet.rng
    for _ in range(int(rng.integers(16, 30))):
        s, y = rng.normal(0, 0.8), rng.normal(-6.1, 0.45)
        sheet.swell(s, y, rng.uniform(0.1, 0.2), rng.uniform(0.1, 0.2), -rng.uniform(0.3, 0.8))
    sheet.swell(0.0, -6.0, 1.1, 0.6, 0.8)
    sheet.groove([(-1.5, -5.4), (0.0, -4.85), (1.5, -5.4)], 0.14, 0.8)


def _stretch(sheet: _Sheet) -> None:
    rng, count = sheet.rng, int(sheet.rng.integers(2, 4))

    def side(sign: float) -> None:
        for k in range(count):
            s = 3.1 + 0.55 * k + rng.normal(0, 0.08)
            points = [(s - 0.2, -2.1), (s + 0.35, -3.6), (s - 0.1, -5.2)]
            sheet.groove([(sign * x, y) for x, y in points], rng.uniform(0.1, 0.16), 1.0 - 0.2 * k)

    sheet.both(side)


def _lip_lines(sheet: _Sheet) -> None:
    rng = sheet.rng
    for s in np.arange(-1.9, 1.95, rng.uniform(0.26, 0.4)):
        s = s + rng.normal(0, 0.05)
        for low, high in ((-3.2, rng.uniform(-2.2, -1.6)), (-4.6, -3.5)):
            sheet.groove(
                [(s * 0.95, low), (s + rng.normal(0, 0.04), high)],
                0.1,
                rng.uniform(0.25, 0.65),
            )


def _upper_lid(sheet: _Sheet) -> None:
    rng, top = sheet.rng, sheet.rng.uniform(4.25, 4.65)

    def side(sign: float) -> None:
        points = [(1.9, 3.6), (2.5, top + 0.1), (3.9, top + 0.15), (4.7, 3.7)]
        sheet.groove([(sign * s, y) for s, y in points], rng.uniform(0.09, 0.14), 1.0)

    sheet.both(side)


_DRAW: dict[str, Callable[[_Sheet], None]] = {
    "forehead_inner": _forehead_inner,
    "forehead_outer": _forehead_outer,
    "omega": _omega,
    "glabella": _glabella,
    "nose_root": _nose_root,
    "nose_side": _nose_side,
    "alar": _alar,
    "nasolabial": _nasolabial,
    "crows_feet": _crows_feet,
    "infraorbital": _infraorbital,
    "lower_lid": _lower_lid,
    "dimple": _dimple,
    "corner": _corner,
    "chin": _chin,
    "stretch": _stretch,
    "lip_lines": _lip_lines,
    "upper_lid": _upper_lid,
}


@functools.cache
def wrinkle_bank() -> np.ndarray:
    """Draw all kinds in all variants.

    Returns:
        (K, V, T, T) float32 heights in groove depths, K kinds in the order of `KINDS`.
    """
    bank = np.empty((len(KINDS), VARIANTS, TEXTURE_SIZE, TEXTURE_SIZE), np.float32)
    for k, kind in enumerate(KINDS):
        for v in range(VARIANTS):
            sheet = _Sheet(np.random.default_rng([_SEED, k, v]))
            _DRAW[kind](sheet)
            bank[k, v] = sheet.height
    bank.setflags(write=False)
    return bank


def drives(activity: np.ndarray) -> np.ndarray:
    """Return how strongly the action units call each kind of wrinkle.

    Args:
        activity: (B, 23) float, AU intensity / 5, 0-1, in the fixed order of AUs.

    Returns:
        (B, K) float64, 0-1.
    """
    matrix = np.zeros((len(AUS), len(KINDS)))
    for k, kind in enumerate(KINDS):
        for au, weight in _DRIVE[kind].items():
            matrix[AU_INDEX[au], k] = weight
    drive = np.asarray(activity, np.float64) @ matrix
    # Frontalis against corrugator: the "omega" of sadness and pain, absent in AU1 or AU4 alone.
    drive[:, KINDS.index("omega")] = np.sqrt(
        activity[:, AU_INDEX[1]].clip(0.0, 1.0) * activity[:, AU_INDEX[4]].clip(0.0, 1.0)
    )
    drive[:, KINDS.index("upper_lid")] = 1.0 - activity[:, AU_INDEX[43]].clip(0.0, 1.0)
    return drive.clip(0.0, 1.0)
