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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..relevance import Maps, brinks, check_share
from .lettering import Colour, bgr, blend, draw_text, rounded_mask, text_width
from .projections import PAD, check_one_each, finite, opacity, smooth_tall

__all__ = [
    "DIMMED_BYTES",
    "OUTLINE",
    "SMALLEST_WITH_TEXT",
    "Layer",
    "compose",
    "composite",
    "layers",
    "lookalikes",
    "write_name",
]

SMALLEST_WITH_TEXT = 110
"""Pictures of a smaller side, pixels, carry no words: they would not be readable."""
_DIM, _LIFT = 0.58, 40.0
"""Contrast (of 1) and added brightness (of 255) of the face below projections: a flatter face keeps
its features and leaves the bright and dark ends to the colours."""
OUTLINE = 0.6
"""Share of the colour in its contour; the rest is white: it must stand out from its own area."""
_STRIPE = 1 / 45
"""Width of the stripes where projections overlap, as a share of the picture's side."""
IntArray = NDArray[np.int64]

_LEAST_PEAK = np.finfo(np.float32).tiny
"""A map is divided by at least this: one over less may not be finite."""
_FLAT = 1e-6
"""Least slope that counts, in shares of a map's peak per pixel: no plateau is infinitely wide."""
_DIMMED: NDArray[np.float32] = (np.arange(256) * _DIM + _LIFT).astype(np.float32)
DIMMED_BYTES: NDArray[np.uint8] = np.rint(_DIMMED).astype(np.uint8)
"""Grey below projections for each grey of a face."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """The projection of one map at picture size, ready to be painted over any face.

    Only what it paints is held: as a rule less than a tenth of the picture. A pixel has the number
    row · side + column; numbers rise.

    Attributes:
        colour: of its Action Unit.
        name: written on the projection where another one has the same colour.
        area: ``(n,)`` int64 pixels of the projection.
        alpha: ``(n,)`` float32 opacity of each pixel of ``area``, 0–1.
        edge: ``(m,)`` int64 pixels of its contour.
        outline: ``(m,)`` float32 coverage of each pixel of ``edge``, 0–1.
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
    tops = array.max(axis=(1, 2), initial=0)
    numbers = np.flatnonzero(tops > 0).tolist()
    drawn: dict[int, _Painted] = {}
    if numbers:
        if len(numbers) < len(array):
            array, tops = array[numbers], tops[numbers]
        # As shares of their peaks: squares of faint relevance would vanish.
        tall = smooth_tall(array, 1 / np.maximum(tops, _LEAST_PEAK))
        np.maximum(tall, 0, out=tall)
        tall[:, :PAD] = tall[:, -PAD:] = 0
        drawn = dict(zip(numbers, _drawn(tall, x, side), strict=True))
    nothing, bare = np.empty(0, np.int64), np.empty(0, np.float32)
    nowhere: _Painted = (nothing, bare, nothing, bare)
    return tuple(
        Layer(bgr(colour), name, *drawn.get(n, nowhere))
        for n, (colour, name) in enumerate(zip(colours, names, strict=True))
    )


_Painted = tuple[IntArray, NDArray[np.float32], IntArray, NDArray[np.float32]]


def _drawn(tall: NDArray[np.float32], x: float, side: int) -> list[_Painted]:
    """Return area, opacity, edge and coverage of each map's projection, see :class:`Layer`.

    The pixels of all maps go through each step together.

    Args:
        tall: ``(P, PAD + H + PAD, W)`` maps at like scales, smoothed, none negative, and zeros.
        x: share of the relevance to keep, 0–1.
        side: side of the picture, pixels.
    """
    count, width = len(tall), tall.shape[2]
    height = tall.shape[1] - 2 * PAD
    peak, least_kept, most_dropped = brinks(tall, x)
    # The contour runs less than a pixel of the map away from what is kept.
    line = max(1.0, side / 200) / 2 + 0.5
    reach = 1 + math.ceil(line * max(height, width) / side)
    mask = (tall >= least_kept[:, None, None]).view(np.uint8).reshape(-1, width)
    around = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = cv2.dilate(mask, around).reshape(tall.shape).view(np.bool_)
    near[:, :PAD] = near[:, -PAD:] = False
    sample = _pixels if height == width == side else _enlarged
    number, pixel, heights, slopes = sample(tall, near, side)
    # Height over slope is the distance to the contour, in pixels of the picture. The contour lies
    # between the weakest pixel kept and the strongest one dropped.
    distance = heights - ((least_kept + most_dropped) / 2)[number]
    distance /= np.maximum(slopes, np.float32(_FLAT))
    inside, from_line = np.flatnonzero(distance > -0.5), np.abs(distance)
    along = np.flatnonzero(from_line < line)
    strength = heights[inside] / peak[number[inside]]
    alpha = np.minimum(distance[inside] + np.float32(0.5), 1)
    alpha *= opacity(np.minimum(strength, 1))
    outline = np.minimum(np.float32(line) - from_line[along], 1)
    ends = number.searchsorted(np.arange(count + 1))
    areas, edges = inside.searchsorted(ends).tolist(), along.searchsorted(ends).tolist()
    area, edge = pixel[inside], pixel[along]
    return [
        (area[a:b], alpha[a:b], edge[c:d], outline[c:d])
        for (a, b), (c, d) in zip(itertools.pairwise(areas), itertools.pairwise(edges), strict=True)
    ]


_Pixels = tuple[IntArray, IntArray, NDArray[np.float32], NDArray[np.float32]]


def _pixels(tall: NDArray[np.float32], near: NDArray[np.bool_], side: int) -> _Pixels:
    """Return pixels of a picture, with height and slope.

    Args:
        tall: ``(P, PAD + S + PAD, S)`` maps of the size of the picture.
        near: same shape, which pixels.
        side: S.

    Returns:
        ``(n,)`` each: the map of each pixel, rising, its number in the picture, its height, and its
        slope per pixel.
    """
    at = np.flatnonzero(near)
    number, pixel = np.divmod(at, tall[0].size)
    pixel -= PAD * side
    return number, pixel, *_slopes(tall.reshape(-1), at, side, pixel, side)


def _enlarged(tall: NDArray[np.float32], near: NDArray[np.bool_], side: int) -> _Pixels:
    """Return pixels of a picture as :func:`_pixels` does, for maps of another size.

    Only the part of each map that is near its projection is enlarged.
    """
    maps, masks = tall[:, PAD:-PAD], near[:, PAD:-PAD].view(np.uint8)
    found = []
    for n, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        left, top, wide, high = cv2.boundingRect(mask)
        rows, first_row, height = _enlargeable(top, high, len(values), side)
        columns, first_column, width = _enlargeable(left, wide, values.shape[1], side)
        part, where = values[rows, columns], mask[rows, columns]
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)
        wanted = cv2.resize(where, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        at = np.flatnonzero(wanted.view(np.bool_))
        row, column = np.divmod(at, width)
        pixel = (row + first_row) * side + column + first_column
        found.append(
            (np.full(len(at), n), pixel, *_slopes(part.reshape(-1), at, width, pixel, side))
        )
    number, pixel, heights, rises = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return number, pixel, heights, rises


def _enlargeable(begin: int, length: int, size: int, side: int) -> tuple[slice, int, int]:
    """Return which part of an axis of a map can be enlarged as if all of it were.

    Args:
        begin: first pixel of the map that is wanted.
        length: how many pixels are wanted.
        size: pixels of the map along this axis.
        side: pixels of the picture that they become.

    Returns:
        Pixels of the map, as few as begin and end with a pixel of the picture, too, and reach two
        beyond those wanted, which cubic interpolation needs; the first of them in the picture, and
        how many they become.
    """
    step = size // math.gcd(size, side)
    first = max(begin - 2, 0) // step * step
    end = min(math.ceil((begin + length + 2) / step) * step, size)
    return slice(first, end), first * side // size, (end - first) * side // size


def _slopes(
    field: NDArray[np.float32], at: IntArray, width: int, pixel: IntArray, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return heights and slopes per pixel ``(n,)`` of pixels of a picture.

    Args:
        field: heights, row after row.
        at: ``(n,)`` where the pixels are in ``field``.
        width: length of a row of ``field``.
        pixel: ``(n,)`` number of each pixel in the picture.
        side: of the picture.
    """
    column = pixel % side
    # At the edge of the picture the pixel stands for the neighbour it lacks.
    above, below = pixel >= side, pixel < side * (side - 1)
    before, after = column > 0, column < side - 1
    down = field[at + width * below] - field[at - width * above]
    right = field[at + after] - field[at - before]
    for rise, both in ((down, above & below), (right, before & after)):
        rise /= both.view(np.int8) + np.int8(1)
        rise *= rise
    down += right
    return field[at], np.sqrt(down, out=down)


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
    painted = cv2.cvtColor(cv2.LUT(face, DIMMED_BYTES), cv2.COLOR_GRAY2BGR)
    painted = painted.astype(np.uint8, copy=False)
    drawn = [layer for layer in shown if len(layer.area)]
    if drawn:
        _paint(painted.reshape(-1, 3), face.reshape(-1), drawn, side)
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


def _paint(
    painted: NDArray[np.uint8], face: NDArray[np.uint8], drawn: Sequence[Layer], side: int
) -> None:
    """Paint layers, the pixels of all of them together.

    Args:
        painted: ``(side², 3)`` picture to be painted.
        face: ``(side²,)`` the face in grey.
        drawn: layers that paint anything.
        side: of the picture.
    """
    # The contours of small areas are painted last: those of large ones would hide them.
    outlined = sorted(drawn, key=lambda layer: -len(layer.area))
    area = np.concatenate([layer.area for layer in drawn])
    edge = np.concatenate([layer.edge for layer in outlined])
    # Where each of them is among the pixels that any layer paints.
    painted_at = np.zeros(side * side, bool)
    painted_at[area] = painted_at[edge] = True
    touched = np.flatnonzero(painted_at)
    place = np.empty(side * side, np.int64)
    place[touched] = np.arange(len(touched))
    area, edge = place[area], place[edge]
    picture = np.repeat(_DIMMED[face[touched]], 3).reshape(-1, 3)
    tint, cover = _striped(drawn, area, touched, side)
    picture += (tint - picture) * cover[:, None]
    bright = 255 - OUTLINE * (255 - np.array([layer.colour for layer in outlined], np.float32))
    bright = bright.repeat([len(layer.edge) for layer in outlined], axis=0)
    outline = np.concatenate([layer.outline for layer in outlined])[:, None]
    turn = _turns(edge, len(touched))
    for number in range(int(turn.max(initial=-1)) + 1):
        now = np.flatnonzero(turn == number)
        at = edge[now]
        part = picture[at]
        picture[at] = part + (bright[now] - part) * outline[now]
    painted[touched] = np.rint(picture).astype(np.uint8)


def _turns(pixels: IntArray, count: int) -> IntArray:
    """Return how often each pixel ``(n,)`` of ``count`` came before in their order."""
    met = np.bincount(pixels, minlength=count)
    if met.max(initial=0) < 2:
        return np.zeros(len(pixels), np.int64)
    order = pixels.argsort(kind="stable")
    turns = np.empty(len(pixels), np.int64)
    turns[order] = np.arange(len(pixels)) - np.repeat(np.cumsum(met) - met, met)
    return turns


def _striped(
    drawn: Sequence[Layer], area: IntArray, touched: IntArray, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return colour ``(t, 3)`` and opacity ``(t,)`` of all layers together.

    Where k projections overlap, their colours take turns in diagonal stripes: mixed, they would
    give a colour that belongs to none of them.

    Args:
        drawn: the layers.
        area: ``(n,)`` the pixels of all their areas, as places in ``touched``.
        touched: ``(t,)`` pixels.
        side: of the picture.
    """
    tint, cover = np.zeros((len(touched), 3), np.float32), np.zeros(len(touched), np.float32)
    colours = np.array([layer.colour for layer in drawn], np.float32)
    colours = colours.repeat([len(layer.area) for layer in drawn], axis=0)
    alpha = np.concatenate([layer.alpha for layer in drawn])
    turn = _turns(area, len(touched))
    if not turn.any():
        tint[area], cover[area] = colours, alpha
        return tint, cover
    count = np.bincount(area)[area]
    edges, softened = _stripes(side)
    at = touched[area]
    edge, after = edges[at], softened[at]
    # Whose turn it is before an edge between two stripes, and after it.
    share = ((edge + count - 1) % count == turn) * (1 - after) + (edge % count == turn) * after
    for channel in range(3):
        tint[:, channel] = np.bincount(area, share * colours[:, channel], len(touched))
    cover[:] = np.bincount(area, share * alpha, len(touched))
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
    colours = [layer.colour for layer in shown]
    if len(set(colours)) == len(colours):
        return
    side = picture.shape[0]
    areas = np.zeros((len(shown), side * side), bool)
    for layer, area in zip(shown, areas, strict=True):
        area[layer.area] = True
    size = max(7.5, side * 0.045)
    for number, x, y in lookalikes(areas.reshape(-1, side, side), colours):
        if shown[number].name:
            write_name(picture, shown[number].name, x, y, size)


def lookalikes(
    areas: NDArray[np.bool_], colours: Sequence[Colour]
) -> Iterator[tuple[int, int, int]]:
    """Find where projections can be named that share a colour with another one.

    Args:
        areas: ``(n, H, W)`` which pixels belong to each projection.
        colours: n colours, one of each.

    Yields:
        Number of a projection, column and row: the middle of its widest part that cannot be meant
        for another one of its colour, if there is one.
    """
    counts = Counter(colours)
    for number, (area, colour) in enumerate(zip(areas, colours, strict=True)):
        if counts[colour] < 2 or not area.any():
            continue
        twins = [n for n, other in enumerate(colours) if n != number and other == colour]
        alone = area & ~areas[twins].any(axis=0)
        region = (alone if alone.any() else area).astype(np.uint8)
        depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        yield number, int(x), int(y)


def write_name(picture: NDArray[np.uint8], name: str, x: int, y: int, size: float) -> None:
    """Write a name on a light ground, centred at ``(x, y)`` or as near as the picture allows.

    Args:
        picture: ``(H, W, 3)`` uint8 BGR, drawn into.
        name: a few characters.
        x, y: pixels.
        size: height of capitals, pixels.
    """
    high = round(size * 1.7)
    wide = max(high, text_width(name, size, bold=True) + round(size * 0.8))
    left = min(max(x - wide // 2, 0), picture.shape[1] - wide)
    top = min(max(y - high // 2, 0), picture.shape[0] - high)
    blend(picture, rounded_mask(wide, high, high / 2) * 0.9, left, top, (255, 255, 255))
    middle, baseline = left + wide / 2, top + (high + size) / 2
    draw_text(picture, name, middle, baseline, size, (24, 20, 16), bold=True, anchor="centre")
