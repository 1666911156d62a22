"""Pictures of relevance maps: the heatmap, the Top-X relevance projection, the composite.

All pictures are uint8 in OpenCV's channel order, blue first.

References:
    The paper, §3.5, Figure 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..relevance import top_x
from .lettering import Colour, bgr, blend, draw_text, rounded_mask, text_width

__all__ = [
    "SMALLEST_WITH_TEXT",
    "Layer",
    "compose",
    "composite",
    "enlarge",
    "heatmap",
    "layer",
    "projection",
]

SMALLEST_WITH_TEXT = 110
"""Pictures of a smaller side, pixels, carry no words: they would not be readable."""
_DIM, _LIFT = 0.58, 40.0
"""Contrast (of 1) and added brightness (of 255) of the face below projections: a flatter face keeps
its features and leaves the bright and dark ends to the colours."""
_FAINTEST, _STRONGEST = 0.40, 0.85
"""Opacity of a projection's least and most relevant pixel, 0–1."""
_OUTLINE = 0.6
"""Share of the colour in its contour; the rest is white: it must stand out from its own area."""
_STRIPE = 1 / 45
"""Width of the stripes where projections overlap, as a share of the picture's side."""
_BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16
# A first layer of stride 2 prints a lattice of period 2 on every map. This kernel (σ = 1 px) is
# zero at exactly that frequency, and keeps the mass.


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A projection at picture size, ready to be painted over any face.

    Attributes:
        colour: colour of the Action Unit.
        alpha: ``(side, side)`` float32 opacity, 0–1; 0 outside the projection.
        outline: ``(side, side)`` float32 coverage of the contour, 0–1.
        name: written on the projection where another one has the same colour.
    """

    colour: Colour
    alpha: NDArray[np.float32]
    outline: NDArray[np.float32]
    name: str = ""


def heatmap(relevance: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colour a relevance map blue-white-red.

    Args:
        relevance: ``(H, W)`` float, any unit. Divided by max|R|, so that values lie in [−1, 1]:
            −1 is pure blue, 0 white, +1 pure red. A map of zeros is white.

    Returns:
        ``(H, W, 3)`` uint8, BGR.

    References:
        The paper, §3.5, the "traditional" heatmap of Figure 3.
    """
    values = _finite(relevance)
    peak = np.abs(values).max(initial=0.0)
    share = values / peak if peak > 0 else values
    fade = np.rint(255 * (1 - np.abs(share))).astype(np.uint8)
    blue = np.where(share > 0, fade, 255)
    red = np.where(share < 0, fade, 255)
    return np.stack([blue, fade, red], axis=-1).astype(np.uint8)


def projection(relevance: NDArray[np.floating], colour: str, x: float = 0.25) -> NDArray[np.uint8]:
    """Return the Top-X relevance projection of a map, in one colour.

    Args:
        relevance: ``(H, W)`` float, any unit.
        colour: ``#rrggbb``.
        x: share of the positive relevance to keep, 0–1.

    Returns:
        ``(H, W, 4)`` uint8, BGRA, not premultiplied. Alpha is 0 outside the projection; inside
        it grows with the relevance.

    References:
        The paper, §3.5, Figure 3.
    """
    values = _finite(relevance)
    mask = top_x(values[None], x)[0]
    picture = np.empty((*values.shape, 4), np.uint8)
    picture[..., :3] = bgr(colour)
    picture[..., 3] = np.where(mask, np.rint(255 * _opacity(_strength(values))), 0)
    return picture


def enlarge(relevance: NDArray[np.floating], side: int) -> NDArray[np.float32]:
    """Enlarge a map for the eye: smoothed by a 5-tap binomial kernel, then interpolated.

    The smoothing takes away the lattice that a network's stride leaves in its maps; it blurs by
    one pixel of the map.

    Args:
        relevance: ``(H, W)`` float.
        side: side of the picture, pixels.

    Returns:
        ``(side, side)`` float32.
    """
    smooth = _smooth(_finite(relevance))
    return _interpolated(smooth, side)


def layer(
    relevance: NDArray[np.floating], colour: str, side: int, x: float = 0.25, name: str = ""
) -> Layer:
    """Return the Top-X projection of a map as :func:`enlarge` shows it, with a contour.

    Args:
        relevance: ``(S, S)`` float.
        colour: ``#rrggbb``.
        side: side of the picture, pixels.
        x: share of the positive relevance to keep, 0–1.
        name: written on the projection where another one has the same colour.
    """
    values = np.maximum(_smooth(_finite(relevance)), 0)
    mask = top_x(values[None], x)[0]
    if not mask.any():
        nothing = np.zeros((side, side), np.float32)
        return Layer(bgr(colour), nothing, nothing, name)
    # The contour lies between the weakest pixel kept and the strongest one dropped.
    level = (values[mask].min() + values[~mask].max(initial=0)) / 2
    strength = _interpolated(values, side)
    down, right = np.gradient(strength)
    # Height over slope is the distance to the contour in pixels of the picture.
    slope = np.maximum(np.hypot(down, right), 1e-6 * values.max())
    distance = (strength - level) / slope
    inside = np.clip(distance + 0.5, 0, 1)
    outline = np.clip(max(1.0, side / 200) / 2 + 0.5 - np.abs(distance), 0, 1)
    alpha = inside * _opacity(np.clip(strength / values.max(), 0, 1))
    return Layer(bgr(colour), alpha.astype(np.float32), outline.astype(np.float32), name)


def compose(crop: NDArray[np.uint8], layers: Sequence[Layer], side: int) -> NDArray[np.uint8]:
    """Paint layers over a face crop; without layers, return the enlarged grey crop.

    Args:
        crop: ``(C, C)`` or ``(C, C, 3)`` uint8, BGR.
        layers: projections of this ``side``. Where they overlap they take turns in stripes; those
            that share a colour carry their names.
        side: side of the picture, pixels.

    Returns:
        ``(side, side, 3)`` uint8, BGR.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY) if crop.ndim == 3 else crop
    shrinks = side < grey.shape[0]
    face = cv2.resize(
        grey, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    picture = np.repeat(face[..., None], 3, axis=2).astype(np.float32)
    if not layers:
        return picture.astype(np.uint8)
    picture = picture * _DIM + _LIFT
    tint, alpha = _striped(layers, side)
    picture += alpha * (tint - picture)
    # The contours of small areas are painted last: those of large ones would hide them.
    for item in sorted(layers, key=lambda item: -np.count_nonzero(item.alpha)):
        bright = 255 - _OUTLINE * (255 - np.asarray(item.colour, np.float32))
        picture += item.outline[..., None] * (bright - picture)
    painted = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    if side >= SMALLEST_WITH_TEXT:
        _name_lookalikes(painted, layers)
    return painted


def _name_lookalikes(picture: NDArray[np.uint8], layers: Sequence[Layer]) -> None:
    """Write their names on projections that share a colour with another one."""
    colours = Counter(item.colour for item in layers)
    side = picture.shape[0]
    size = max(7.5, side * 0.045)
    for number, item in enumerate(layers):
        if colours[item.colour] < 2 or not item.name or not item.alpha.any():
            continue
        shown = item.alpha > 0
        twins = [
            other.alpha > 0
            for n, other in enumerate(layers)
            if n != number and other.colour == item.colour
        ]
        alone = shown & ~np.any(twins, axis=0)
        # The middle of the widest part that cannot be meant for the other, if there is one.
        region = (alone if alone.any() else shown).astype(np.uint8)
        depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        high = round(size * 1.7)
        wide = max(high, text_width(item.name, size, bold=True) + round(size * 0.8))
        left = min(max(int(x) - wide // 2, 0), side - wide)
        top = min(max(int(y) - high // 2, 0), side - high)
        blend(picture, rounded_mask(wide, high, high / 2) * 0.9, left, top, (255, 255, 255))
        middle, baseline = left + wide / 2, top + (high + size) / 2
        draw_text(
            picture, item.name, middle, baseline, size, (24, 20, 16), bold=True, anchor="centre"
        )


def _striped(layers: Sequence[Layer], side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return colour ``(side, side, 3)`` and opacity ``(side, side, 1)`` of all layers together.

    Where k projections overlap, their colours take turns in diagonal stripes: mixed, they would
    give a colour that belongs to none of them.
    """
    present = np.stack([item.alpha > 0 for item in layers])
    rank = np.cumsum(present, axis=0) - 1
    count = np.maximum(present.sum(axis=0), 1)
    width = max(3.0, side * _STRIPE)
    rows, columns = np.mgrid[0:side, 0:side]
    along = (rows + columns) * (1 / (width * np.sqrt(2)))
    edge = np.rint(along).astype(int)
    # Softened over one pixel around the edge between a stripe and the next.
    after = np.clip((along - edge) * width + 0.5, 0, 1).astype(np.float32)
    tint = np.zeros((side, side, 3), np.float32)
    alpha = np.zeros((side, side, 1), np.float32)
    for item, here, place in zip(layers, present, rank, strict=True):
        share = here * ((edge - 1) % count == place) * (1 - after)
        share = (share + here * (edge % count == place) * after)[..., None].astype(np.float32)
        tint += share * np.asarray(item.colour, np.float32)
        alpha += share * item.alpha[..., None]
    return tint, alpha


def composite(
    crop: NDArray[np.uint8],
    maps: Sequence[tuple[NDArray[np.floating], str]],
    x: float = 0.25,
    scale: float = 2.0,
) -> NDArray[np.uint8]:
    """Show the Top-X relevance projections of several Action Units over one face.

    Args:
        crop: ``(C, C)`` or ``(C, C, 3)`` uint8, BGR; shown in grey, dimmed.
        maps: relevance maps ``(S, S)`` with the colour ``#rrggbb`` of their Action Unit. Map and
            crop show the same part of the face.
            Maps are smoothed by one pixel first, see :func:`enlarge`.
        x: share of the positive relevance to keep, 0–1.
        scale: enlargement of the crop.

    Returns:
        ``(round(C·scale), round(C·scale), 3)`` uint8, BGR.

    References:
        The paper, §3.5, Figures 3 and 4.
    """
    side = round(crop.shape[0] * scale)
    return compose(crop, [layer(values, colour, side, x) for values, colour in maps], side)


def _finite(relevance: NDArray[np.floating]) -> NDArray[np.float32]:
    if relevance.ndim != 2 or not relevance.size:
        raise ConfigError(
            f"a relevance map has two dimensions, got shape {relevance.shape}; pass one map at a "
            "time"
        )
    values = np.asarray(relevance, np.float32)
    if not np.isfinite(values).all():
        raise ConfigError(
            "a relevance map holds NaN or infinite values and cannot be drawn; check the network's "
            "input and weights"
        )
    return values


def _smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    smooth = cv2.sepFilter2D(values, -1, _BINOMIAL, _BINOMIAL, borderType=cv2.BORDER_REFLECT)
    return np.asarray(smooth, np.float32)


def _interpolated(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    enlarged = cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(enlarged, np.float32)


def _strength(values: NDArray[np.float32]) -> NDArray[np.float32]:
    positive = np.maximum(values, 0)
    peak = positive.max()
    return positive / peak if peak > 0 else positive


def _opacity(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    return _FAINTEST + (_STRONGEST - _FAINTEST) * strength
