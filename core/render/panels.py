"""Temporal prototypes side by side, as in the paper's Figure 5; ``(H, W, 3)`` uint8, BGR.

References:
    The paper, §4, Figure 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..action_units import parse_label
from ..types import LOST, NONE, StageLabels
from .lettering import Colour, bgr, draw_text, fit_text
from .pictures import au_colour
from .strips import draw_arrow, draw_pill, draw_state, paste_rounded

__all__ = ["PanelEntry", "panel"]

_INK: Colour = (36, 30, 26)
_SOFT: Colour = (112, 102, 94)
_RULE: Colour = (225, 219, 214)
_TYPE = 12.5
_LINE = 27
_HEAD, _MARGIN, _BETWEEN = 92, 36, 44


@dataclass(frozen=True, slots=True, eq=False)
class PanelEntry:
    """One temporal prototype of a panel.

    Attributes:
        title: a few words above it. ``note``: smaller words below that.
        stages: labels of its stages.
        tiles: one square picture per stage, all of one size; may be fewer than the stages.
    """

    title: str
    note: str
    stages: tuple[StageLabels, ...]
    tiles: Sequence[NDArray[np.uint8]]


def panel(heading: str, entries: Sequence[PanelEntry], width: int = 1500) -> NDArray[np.uint8]:
    """Draw temporal prototypes side by side; they wrap like words where a line is full.

    Args:
        heading: written above all.
        entries: at least one.
        width: width of the picture, pixels, but for a single prototype that is wider.
    """
    places: list[tuple[PanelEntry, int, int]] = []
    x, y, tallest, right = _MARGIN, _HEAD, 0, 0
    for entry in entries:
        wide, high = _size(entry)
        if x > _MARGIN and x + wide > width - _MARGIN:
            x, y, tallest = _MARGIN, y + tallest + 30, 0
        places.append((entry, x, y))
        right, tallest = max(right, x + wide), max(tallest, high)
        x += wide + _BETWEEN
    canvas = np.full((y + tallest + 24, max(right + _MARGIN, 560), 3), 255, np.uint8)
    room = canvas.shape[1] - 2 * _MARGIN
    draw_text(canvas, fit_text(heading, 19, room, bold=True), _MARGIN, 52, 19, _INK, bold=True)
    cv2.line(canvas, (_MARGIN, 70), (canvas.shape[1] - _MARGIN, 70), _RULE, 1)
    for entry, left, top in places:
        _draw_entry(canvas, entry, left, top)
    return canvas


def _gap(tile: int) -> int:
    return round(tile * 0.19)


def _size(entry: PanelEntry) -> tuple[int, int]:
    tile = entry.tiles[0].shape[0]
    count = len(entry.tiles)
    labels = max(len(stage) for stage in entry.stages[:count])
    return count * tile + (count - 1) * _gap(tile), 58 + tile + 12 + labels * _LINE


def _draw_entry(canvas: NDArray[np.uint8], entry: PanelEntry, left: int, top: int) -> None:
    tile = entry.tiles[0].shape[0]
    room = _size(entry)[0]
    title = fit_text(entry.title, 13.5, room, bold=True)
    draw_text(canvas, title, left, top + 18, 13.5, _INK, bold=True)
    draw_text(canvas, fit_text(entry.note, 11, room), left, top + 42, 11, _SOFT)
    y = top + 56
    for number, (picture, stage) in enumerate(zip(entry.tiles, entry.stages, strict=False)):
        x = left + number * (tile + _gap(tile))
        if number:
            draw_arrow(canvas, x - _gap(tile) / 2, y + tile / 2, _gap(tile) * 0.6)
        paste_rounded(canvas, picture, x, y, tile * 0.045)
        below = y + tile + 10
        for label in stage:
            if stage in (NONE, LOST):
                draw_state(canvas, label, x, below, _TYPE)
            else:
                draw_pill(canvas, label, x, below, _TYPE, bgr(au_colour(parse_label(label)[0])))
            below += _LINE
