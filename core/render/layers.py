"""Projections of several Action Units over one face: layers, and the picture painted with them.

Maps come as stacks, tensors on any device or arrays; the pictures are uint8, blue first, and are
painted on the CPU wherever the maps lie: a projection is small, and files are written from there.

References:
    The paper, §3.5, Figures 3 and 4.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..relevance import Maps, brink, check_share
from .lettering import Colour, bgr, blend, draw_text, rounded_mask, text_width
from .projections import check_one_each, finite, opacity, smooth, weights

__all__ = ["SMALLEST_WITH_TEXT", "Layer", "compose", "composite", "layers"]

SMALLEST_WITH_TEXT = 110
"""Pictures of a smaller side, pixels, carry no words: they would not be readable."""
_DIM, _LIFT = 0.58, 40.0
"""Contrast (of 1) and added brightness (of 255) of the face below projections: a flatter face keeps
its features and leaves the bright and dark ends to the colours."""
_OUTLINE = 0.6
"""Share of the colour in its contour; the rest is white: it must stand out from its own area."""
_STRIPE = 1 / 45
"""Width of the stripes where projections overlap, as a share of the picture's side."""
_REACH = 2
"""Pixels of the map around a projection within which its enlarged contour runs."""

_FLAT = 1e-6
"""Least slope that counts, in shares of a map's peak per pixel: no plateau is infinitely wide."""
_DIMMED: NDArray[np.float32] = (np.arange(256) * _DIM + _LIFT).astype(np.float32)
_DIMMED_BYTES: NDArray[np.uint8] = np.rint(_DIMMED).astype(np.uint8)
"""Grey below projections for each grey of a face."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The projection of one map at picture size, ready to be painted over any face.

    Only what it paints is held: as a rule less than a tenth of the picture. A pixel has the number
    row · side + column; numbers rise.

    Attributes:
        colour: of its Action Unit.
        name: written on the projection where another one has the same colour.
        area: ``(n,)`` int64 pixels of the projection …
        alpha: ``(n,)`` float32 … and their opacity, 0–1.
        edge: ``(m,)`` int64 pixels of its contour …
        outline: ``(m,)`` float32 … and their coverage, 0–1.
    """

    colour: Colour
    name: str
    area: NDArray[np.int64]
    alpha: NDArray[np.float32]
    edge: NDArray[np.int64]
    outline: NDArray[np.float32]


def layers(
    maps: Maps, colours: Sequence[str], side: int, x: float = 0.25, names: Sequence[str] = ()
) -> tuple[Layer, ...]:
    """Return the Top-X projections of maps as :func:`enlarge` shows them, with contours.

    Args:
        maps: ``(P, S, S)`` float.
        colours: ``#rrggbb``, one per map.
        side: side of the picture, pixels.
        x: share of the positive relevance to keep, 0–1.
        names: one per map; written on the projection where another one has the same colour.

    Raises:
        ConfigError: wrong shape, a value that is not finite, not one colour and name per map, or
            ``x`` is outside 0–1.
    """
    check_share(x)
    raw = finite(maps)
    check_one_each("colours", colours, raw)
    names = names or [""] * len(raw)
    check_one_each("names", names, raw)
    array = raw.cpu().numpy()
    strong = np.flatnonzero(array.max(axis=(1, 2), initial=0) > 0).tolist()
    values = smooth(array if len(strong) == len(array) else array[strong])
    np.maximum(values, 0, out=values)
    boxes, numbers = [], []
    for n, one in zip(strong, values, strict=True):
        box = _box_of(one, x, side)
        if box is not None:
            boxes.append(box)
            numbers.append(n)
    nowhere, nothing = np.empty(0, np.int64), np.empty(0, np.float32)
    made = [
        Layer(bgr(colour), name, nowhere, nothing, nowhere, nothing)
        for colour, name in zip(colours, names, strict=True)
    ]
    for n, parts in zip(numbers, _drawn(boxes, side), strict=True):
        made[n] = Layer(made[n].colour, made[n].name, *parts)
    return tuple(made)


@dataclass(frozen=True, slots=True, eq=False)
class _Box:
    """The part of a picture around the projection of one map.

    Attributes:
        peak: largest value of the map.
        level: height of the contour, as a share of it.
        pixels: ``(n,)`` int64 the pixels of the box.
        height, down, right: ``(n,)`` float32 their values, and the slopes to the next pixels.
    """

    peak: float
    level: float
    pixels: NDArray[np.int64]
    height: NDArray[np.float32]
    down: NDArray[np.float32]
    right: NDArray[np.float32]


def _box_of(values: NDArray[np.float32], x: float, side: int) -> _Box | None:
    """Return the box around the projection of a smoothed map ``(S, S)``; None if it has none."""
    ends = brink(values.reshape(-1), x)
    if ends is None:
        return None
    peak, kept, dropped = ends
    rows, columns = _reach(cv2.boundingRect((values >= kept).view(np.uint8)), len(values), side)
    # One pixel more all around, where there is one: for the slope.
    top, left = max(rows.start - 1, 0), max(columns.start - 1, 0)
    wider, broader = slice(top, min(rows.stop + 1, side)), slice(left, min(columns.stop + 1, side))
    heights: Any
    if values.shape == (side, side):
        heights = np.ascontiguousarray(values[wider, broader])
    else:
        tall, wide = weights(values.shape[0], side), weights(values.shape[1], side)
        heights = tall[wider] @ values @ wide[broader].T
    down: Any
    right: Any
    down, right = (
        cv2.Sobel(heights, cv2.CV_32F, *way, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE)
        for way in ((0, 1), (1, 0))
    )
    # At the edge of the picture the difference is that of two neighbours, not of three pixels.
    for step, place in ((down, rows), (right.T, columns)):
        if place.start == 0:
            step[0] *= 2
        if place.stop == side:
            step[-1] *= 2
    inner = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    # The contour lies between the weakest pixel kept and the strongest one dropped.
    return _Box(
        peak,
        (kept + dropped) / 2 / peak,
        _numbered(side)[rows, columns].reshape(-1),
        *(part[inner].reshape(-1) for part in (heights, down, right)),
    )


@lru_cache(maxsize=4)
def _numbered(side: int) -> NDArray[np.int64]:
    """Return the number of each pixel of a picture ``(side, side)``."""
    return np.arange(side * side).reshape(side, side)


def _drawn(
    boxes: Sequence[_Box], side: int
) -> list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]]:
    """Return area, opacity, edge and coverage of each box, see :class:`Layer`.

    The pixels of all boxes go through each step together.
    """
    if not boxes:
        return []
    sizes = [len(box.pixels) for box in boxes]

    def spread(values: list[float]) -> NDArray[np.float32]:
        return np.repeat(np.array(values, np.float32), sizes)

    pixels, height, down, right = (
        np.concatenate(parts)
        for parts in zip(*((b.pixels, b.height, b.down, b.right) for b in boxes), strict=True)
    )
    # As shares of the peak: squares of faint relevance would vanish.
    peaks = spread([box.peak for box in boxes])
    for part in (height, down, right):
        part /= peaks
    # Height over slope is the distance to the contour in pixels of the picture.
    down *= down
    right *= right
    down += right
    slope = np.maximum(np.sqrt(down, out=down), np.float32(_FLAT), out=down)
    distance = height - spread([box.level for box in boxes])
    distance /= slope
    # Few pixels are painted, and they are picked once.
    line = np.float32(max(1.0, side / 200) / 2 + 0.5)
    away = np.abs(distance)
    inside, along = np.flatnonzero(distance > -0.5), np.flatnonzero(away < line)
    alpha = np.minimum(distance[inside] + np.float32(0.5), 1)
    alpha *= opacity(np.minimum(np.maximum(height[inside], 0), 1))
    outline = np.minimum(line - away[along], 1)
    ends = np.cumsum([0, *sizes])
    areas, edges = (np.searchsorted(found, ends).tolist() for found in (inside, along))
    area, edge = pixels[inside], pixels[along]
    return [
        (area[a:b], alpha[a:b], edge[c:d], outline[c:d])
        for (a, b), (c, d) in zip(itertools.pairwise(areas), itertools.pairwise(edges), strict=True)
    ]


def compose(crop: NDArray[np.uint8], shown: Sequence[Layer] | None, side: int) -> NDArray[np.uint8]:
    """Paint layers over a face crop; without layers, return the enlarged grey crop.

    Args:
        crop: ``(C, C)`` or ``(C, C, 3)`` uint8, BGR.
        shown: projections of this ``side``, or None. Where they overlap they take turns in
            stripes; those that share a colour carry their names.
        side: side of the picture, pixels.

    Returns:
        ``(side, side, 3)`` uint8, BGR.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY) if crop.ndim == 3 else crop
    if grey.shape != (side, side):
        kind = cv2.INTER_AREA if side < grey.shape[0] else cv2.INTER_CUBIC
        grey = cv2.resize(grey, (side, side), interpolation=kind)
    face = grey.astype(np.uint8, copy=False)
    if not shown:
        return cv2.cvtColor(face, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
    painted = cv2.cvtColor(cv2.LUT(face, _DIMMED_BYTES), cv2.COLOR_GRAY2BGR)
    painted = painted.astype(np.uint8, copy=False)
    drawn = [layer for layer in shown if len(layer.area)]
    if drawn:
        # Pixels that any layer paints, and where each is among them.
        place = np.zeros(side * side, np.intp)
        for layer in drawn:
            place[layer.area] = place[layer.edge] = 1
        touched = np.flatnonzero(place)
        place[touched] = np.arange(len(touched))
        picture = np.repeat(_DIMMED[face.reshape(-1)[touched]], 3).reshape(-1, 3)
        tint, cover = _striped(drawn, [place[layer.area] for layer in drawn], touched, side)
        picture += (tint - picture) * cover[:, None]
        # The contours of small areas are painted last: those of large ones would hide them.
        for layer in sorted(drawn, key=lambda layer: -len(layer.area)):
            bright = 255 - _OUTLINE * (255 - np.array(layer.colour, np.float32))
            at = place[layer.edge]
            part = picture[at]
            picture[at] = part + (bright - part) * layer.outline[:, None]
        painted.reshape(-1, 3)[touched] = np.rint(picture).astype(np.uint8)
    if side >= SMALLEST_WITH_TEXT:
        _name_lookalikes(painted, shown)
    return painted


def composite(
    crop: NDArray[np.uint8],
    maps: Maps,
    colours: Sequence[str],
    x: float = 0.25,
    scale: float = 2.0,
) -> NDArray[np.uint8]:
    """Show the Top-X relevance projections of several Action Units over one face.

    Args:
        crop: ``(C, C)`` or ``(C, C, 3)`` uint8, BGR; shown in grey, dimmed.
        maps: ``(P, S, S)`` relevance, P may be 0. Maps and crop show the same part of the face.
            Maps are smoothed by one pixel first, see :func:`enlarge`.
        colours: ``#rrggbb`` of the Action Unit of each map.
        x: share of the positive relevance to keep, 0–1.
        scale: enlargement of the crop.

    Returns:
        ``(round(C·scale), round(C·scale), 3)`` uint8, BGR.

    Raises:
        ConfigError: wrong shape, a value that is not finite, or not one colour per map.

    References:
        The paper, §3.5, Figures 3 and 4.
    """
    side = round(crop.shape[0] * scale)
    return compose(crop, layers(maps, colours, side, x), side)


def _reach(found: Sequence[int], whole: int, side: int) -> tuple[slice, slice]:
    """Return rows and columns of a picture that hold a projection's outline.

    Args:
        found: left, top, width and height of the projection in a map …
        whole: … of this side.
        side: of the picture.
    """
    left, top, wide, tall = found
    line = math.ceil(max(1.0, side / 200) / 2 + 1)
    scale = side / whole
    places = []
    for first, size in ((top, tall), (left, wide)):
        begin = math.floor((first - _REACH) * scale) - line
        end = math.ceil((first + size + _REACH) * scale) + line
        places.append(slice(max(begin, 0), min(end, side)))
    return places[0], places[1]


def _striped(
    drawn: Sequence[Layer], places: Sequence[NDArray[np.intp]], touched: NDArray[np.intp], side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return colour ``(n, 3)`` and opacity ``(n,)`` of all layers together.

    Where k projections overlap, their colours take turns in diagonal stripes: mixed, they would
    give a colour that belongs to none of them.

    Args:
        drawn: the layers.
        places: where the pixels of each one's area are in ``touched``.
        touched: ``(n,)`` pixels.
        side: of the picture.
    """
    tint, cover = np.zeros((len(touched), 3), np.float32), np.zeros(len(touched), np.float32)
    count = np.zeros(len(touched), np.uint16)
    for place in places:
        count[place] += 1
    if count.max() == 1:
        for layer, place in zip(drawn, places, strict=True):
            tint[place], cover[place] = layer.colour, layer.alpha
        return tint, cover
    np.maximum(count, 1, out=count)
    edges, softened = _stripes(side)
    turn, after = edges[touched], softened[touched]
    # Whose turn it is before an edge between two stripes, and after it.
    one, other = (turn + count - 1) % count + 1, turn % count + 1
    before = 1 - after
    rank = np.zeros(len(touched), np.uint16)
    for layer, place in zip(drawn, places, strict=True):
        rank[place] += 1
        mine = rank[place]
        share = (one[place] == mine) * before[place]
        share += (other[place] == mine) * after[place]
        tint[place] += share[:, None] * np.array(layer.colour, np.float32)
        cover[place] += share * layer.alpha
    return tint, cover


@lru_cache(maxsize=4)
def _stripes(side: int) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Return for each pixel ``(side²,)`` the number of the nearest edge between two stripes, and
    how far it lies behind it, 0–1: softened over one pixel."""
    width = max(3.0, side * _STRIPE)
    places = np.arange(side, dtype=np.float32)
    along = ((places[:, None] + places) / np.float32(width * 2**0.5)).reshape(-1)
    edge = np.rint(along)
    after = np.clip((along - edge) * np.float32(width) + np.float32(0.5), 0, 1)
    return edge.astype(np.uint16), after.astype(np.float32)


def _name_lookalikes(picture: NDArray[np.uint8], shown: Sequence[Layer]) -> None:
    """Write their names on projections that share a colour with another one."""
    counts = Counter(layer.colour for layer in shown)
    if max(counts.values()) < 2:
        return
    side = picture.shape[0]
    size = max(7.5, side * 0.045)
    areas = np.zeros((len(shown), side * side), bool)
    for layer, area in zip(shown, areas, strict=True):
        area[layer.area] = True
    areas = areas.reshape(-1, side, side)
    for number, layer in enumerate(shown):
        name = layer.name
        if counts[layer.colour] < 2 or not name or not areas[number].any():
            continue
        twins = [n for n, other in enumerate(shown) if n != number and other.colour == layer.colour]
        alone = areas[number] & ~areas[twins].any(axis=0)
        # The middle of the widest part that cannot be meant for the other, if there is one.
        region = (alone if alone.any() else areas[number]).astype(np.uint8)
        depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        high = round(size * 1.7)
        wide = max(high, text_width(name, size, bold=True) + round(size * 0.8))
        left = min(max(int(x) - wide // 2, 0), side - wide)
        top = min(max(int(y) - high // 2, 0), side - high)
        blend(picture, rounded_mask(wide, high, high / 2) * 0.9, left, top, (255, 255, 255))
        middle, baseline = left + wide / 2, top + (high + size) / 2
        draw_text(picture, name, middle, baseline, size, (24, 20, 16), bold=True, anchor="centre")
