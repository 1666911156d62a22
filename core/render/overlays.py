"""Overlays: the projections of a frame's Action Units, to be laid over its face while it moves.

A picture for a report is drawn once, from whole maps (:mod:`.layers`); an overlay is drawn for each
frame, so it is made of the masks that a page is sent for it, by few calls that work on bytes. It
shows the same: the areas of all Action Units in their colours, contours, stripes where they
overlap.

References:
    The paper, §3.5, Figures 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .layers import DIMMED_BYTES, OUTLINE
from .lettering import bgr

__all__ = ["over", "overlays"]

MOST_AT_ONCE = 127
"""Maps of one frame: two colours of each, and none, are numbered by a byte."""
_FAINTEST, _STRONGEST = 0.30, 0.62
"""Opacity of a projection's least and most relevant cell, 0–1: less than in a report, for a face
that moves must still be seen."""
_LINE = 1 / 200
"""A contour has this share of the overlay's side as its width, but see :data:`_THINNEST`."""
_THINNEST = 1.5
"""A contour is at least this wide, pixels: it then covers more than any area, wherever it runs."""
_STRIPE = 1 / 32
"""Width of the stripes where projections overlap, as a share of the overlay's side."""
_PRECEDENCE = 97
"""Opacity, of 255, that a projection gains within its stripes when the strongest is looked for:
enough to come before any other."""

_SMOOTHED = 3
"""From so many pixels per cell on, contours are smoothed: there the corners of cells would be seen.
That takes away single cells, as on the page."""
_TENT = np.array([1, 2, 1], np.float32) / 4

_ROOM = 2
"""Cells around all projections that contours can reach."""

_STRENGTH: NDArray[np.uint8] = np.rint(
    255 * np.linspace(_FAINTEST, _STRONGEST, 256) * (np.arange(256) > 0)
).astype(np.uint8)
"""Opacity, of 255, for each value of a mask."""


def overlays(
    masks: NDArray[np.uint8], colours: Sequence[str], counts: Sequence[int], scale: int = 2
) -> NDArray[np.uint8]:
    """Paint the masks of each frame into one transparent picture.

    Args:
        masks: ``(P, M, M)`` uint8, as :func:`~facestage.core.relevance.masks` makes them: 0 outside
            the projection. Those of the first frame come first.
        colours: ``#rrggbb``, one per mask.
        counts: ``(B,)`` how many masks each frame has, at most :data:`MOST_AT_ONCE`; 0 leaves a
            picture empty.
        scale: pixels per cell, at least 1.

    Returns:
        ``(B, M·scale, M·scale, 4)`` uint8, BGRA, colours multiplied with alpha. Where projections
        overlap each one goes before the others in its own stripes, and between them the strongest.

    Raises:
        ConfigError: wrong shape or type, not one colour per mask, counts that do not add up, or too
            many masks in a frame.

    References:
        Porter and Duff, *Compositing Digital Images*, SIGGRAPH 1984 (premultiplied alpha).
    """
    _check(masks, colours, counts, scale)
    side = masks.shape[1] * scale
    pictures = np.zeros((len(counts), side, side, 4), np.uint8)
    if not len(masks):
        return pictures
    rows, columns = _around(masks)
    line = _contour(masks.shape[1], scale)
    areas, contours = _enlarged(masks[:, rows, columns], scale, line)
    seen = tuple(slice(cells.start * scale, cells.stop * scale) for cells in (rows, columns))
    tints = np.array([bgr(colour) for colour in colours], np.float32)
    first = 0
    for picture, count in zip(pictures, counts, strict=True):
        part = slice(first, first + count)
        first += count
        if count:
            stripes = [stripe[seen] for stripe in _stripes(count, side)]
            numbers = [number[seen] for number in _numbers(2 * count, side)]
            _paint(picture[seen], areas[part], contours[part], tints[part], stripes, numbers)
    return pictures


def over(crops: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay overlays over grey faces.

    Args:
        crops: ``(B, S, S)`` uint8, grey; they are dimmed.
        shown: ``(B, S, S, 4)`` uint8, see :func:`overlays`.

    Returns:
        ``(B, S, S, 3)`` uint8, BGR.

    Raises:
        ConfigError: wrong shape or type.
    """
    if crops.dtype != np.uint8 or shown.dtype != np.uint8 or shown.shape != (*crops.shape, 4):
        raise ConfigError(
            f"overlays {shown.shape} cover grey faces of their own size, (B, S, S) uint8, not "
            f"{crops.shape} {crops.dtype}"
        )
    if not crops.size:
        return np.zeros((*crops.shape, 3), np.uint8)
    width = crops.shape[2]
    grey = cv2.LUT(np.ascontiguousarray(crops).reshape(-1, width), DIMMED_BYTES)
    face = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
    return blended(face, shown.reshape(-1, width, 4)).reshape(*crops.shape, 3)


def blended(ground: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture ``(H, W, 3)`` below an overlay ``(H, W, 4)`` of the same size."""
    colour = cv2.cvtColor(shown, cv2.COLOR_BGRA2BGR)
    clear = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(shown, 3)), cv2.COLOR_GRAY2BGR)
    covered = cv2.add(colour, cv2.multiply(ground, clear, scale=1 / 255))
    return covered.astype(np.uint8, copy=False)


def _around(masks: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Return the rows and columns of cells that any mask reaches, with room for contours."""
    left, top, wide, high = cv2.boundingRect(np.bitwise_or.reduce(masks, axis=0))
    return (
        slice(max(top - _ROOM, 0), min(top + high + _ROOM, masks.shape[1])),
        slice(max(left - _ROOM, 0), min(left + wide + _ROOM, masks.shape[2])),
    )


def _enlarged(
    masks: NDArray[np.uint8], scale: int, line: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return opacity of the areas, and coverage of the contours, of 255 each.

    All masks are one tall picture, an empty cell around each: none reaches into another.

    Args:
        masks: ``(P, h, w)``.
        scale: pixels per cell.
        line: coverage of a contour, see :func:`_contour`.

    Returns:
        ``(P, h·scale, w·scale)`` uint8 each.
    """
    count, high, wide = masks.shape
    padded = np.zeros((2, count, high + 2, wide + 2), np.uint8)
    support, strength = padded[:, :, 1:-1, 1:-1]
    np.multiply(masks > 0, np.uint8(255), out=support)
    flat = np.ascontiguousarray(masks).reshape(-1, wide)
    strength[:] = cv2.LUT(flat, _STRENGTH).reshape(masks.shape)
    tall = padded.reshape(-1, wide + 2)
    half = count * (high + 2)
    if scale >= _SMOOTHED:
        tall[:half] = cv2.sepFilter2D(tall[:half], -1, _TENT, _TENT)
    size = ((wide + 2) * scale, 2 * half * scale)
    large = cv2.resize(tall, size, interpolation=cv2.INTER_LINEAR)
    half *= scale
    areas, contours = (
        part.reshape(count, -1, size[0])[:, scale:-scale, scale:-scale].astype(np.uint8, copy=False)
        for part in (large[half:], cv2.LUT(large[:half], line))
    )
    return areas, contours


def _paint(
    picture: NDArray[np.uint8],
    areas: NDArray[np.uint8],
    contours: NDArray[np.uint8],
    tints: NDArray[np.float32],
    stripes: Sequence[NDArray[np.uint8]],
    numbers: Sequence[NDArray[np.uint8]],
) -> None:
    """Paint the areas and contours of one frame.

    Args:
        picture: ``(h, w, 4)``, painted into.
        areas, contours: ``(n, h, w)``.
        tints: ``(n, 3)`` colours.
        stripes: n of ``(h, w)``: precedence of each.
        numbers: 2n + 1 of ``(h, w)``: pictures filled with 0, 1, 2, …
    """
    count = len(areas)
    palette = np.zeros((3, 256), np.uint8)
    palette[:, 1 : count + 1] = tints.T
    palette[:, count + 1 : 2 * count + 1] = np.rint(255 - OUTLINE * (255 - tints.T))
    owner, alpha = (np.zeros(areas.shape[1:], np.uint8) for _ in range(2))
    best = alpha.copy()
    for n, (area, stripe) in enumerate(zip(areas, stripes, strict=True)):
        rank = cv2.add(area, stripe, mask=area)
        first = cv2.compare(rank, best, cv2.CMP_GT)
        best = cv2.max(best, rank)
        cv2.copyTo(area, first, alpha)
        cv2.copyTo(numbers[n + 1], first, owner)
    for n, contour in enumerate(contours):
        first = cv2.compare(contour, alpha, cv2.CMP_GT)
        alpha = cv2.max(alpha, contour)
        cv2.copyTo(numbers[count + n + 1], first, owner)
    # Channel by channel: one table for three of them takes twice the time.
    covered = [cv2.multiply(cv2.LUT(owner, tones), alpha, scale=1 / 255) for tones in palette]
    picture[:] = cv2.merge([*covered, alpha])


@lru_cache(maxsize=16)
def _contour(cells: int, scale: int) -> NDArray[np.uint8]:
    """Return the coverage of a contour, of 255, for each share of 255 of a cell in a projection.

    Interpolated, the share falls from 1 to 0 within one cell, smoothed within two. The contour runs
    just outside: around few pixels, so that it leaves something of a small area, around many, to
    make up for what smoothing takes from corners.
    """
    level, fall = (0.4, 2) if scale >= _SMOOTHED else (0.25, 1)
    distance = np.abs(np.arange(256) / 255 - level) * scale * fall
    half = max(_THINNEST, cells * scale * _LINE) / 2
    cover = np.clip(half + 0.5 - distance, 0, 1)
    cover[0] = 0  # the ground, however small the scale
    return np.rint(255 * cover).astype(np.uint8)


@lru_cache(maxsize=8)
def _numbers(last: int, side: int) -> tuple[NDArray[np.uint8], ...]:
    """Return a picture ``(side, side)`` filled with each number from 0 to the last."""
    return tuple(np.full((side, side), number, np.uint8) for number in range(last + 1))


@lru_cache(maxsize=8)
def _stripes(count: int, side: int) -> tuple[NDArray[np.uint8], ...]:
    """Return the precedence ``(side, side)`` of each of so many projections."""
    places = np.arange(side)
    width = max(3, round(side * _STRIPE))
    turn = np.add.outer(places, places) // width % count
    return tuple(np.where(turn == n, _PRECEDENCE, 0).astype(np.uint8) for n in range(count))


def _check(
    masks: NDArray[np.uint8], colours: Sequence[str], counts: Sequence[int], scale: int
) -> None:
    if masks.dtype != np.uint8 or masks.ndim != 3 or masks.shape[1] != masks.shape[2]:
        raise ConfigError(f"masks come as (P, M, M) uint8, not {masks.shape} {masks.dtype}")
    if len(colours) != len(masks) or sum(counts) != len(masks) or min(counts, default=0) < 0:
        raise ConfigError(
            f"{len(masks)} masks need as many colours and frames that have as many between them, "
            f"got {len(colours)} colours and frames with {list(counts)}"
        )
    if max(counts, default=0) > MOST_AT_ONCE:
        raise ConfigError(
            f"a frame can show {MOST_AT_ONCE} masks at once, not {max(counts)}; leave some out"
        )
    if not masks.shape[1] or scale < 1:
        raise ConfigError(
            f"{masks.shape[1]} cells of {scale} pixels make no picture; both are at least 1"
        )
