"""The strip: a temporal prototype as one picture for slides and papers.

One column per stage, in order: the projections of its prototypes over the face, the labels and the
duration below. All pictures are ``(H, W, 3)`` uint8, BGR.

References:
    The paper, §3.5 and §4, Figures 4 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

import cv2
import numpy as np
from numpy.typing import NDArray

from ..action_units import AU_NAMES, au_code, parse_label
from ..stages import reduction
from ..types import LOST, NONE, SequenceResult
from .lettering import Colour, bgr, blend, draw_text, fit_text, ink_on, rounded_mask, text_width
from .pictures import SequencePictures, au_colour, tile_side

__all__ = [
    "MAX_STRIP_STAGES",
    "draw_arrow",
    "draw_pill",
    "draw_state",
    "legend",
    "paste_rounded",
    "pill_width",
    "stage_seconds",
    "strip",
]

MAX_STRIP_STAGES = 480
"""Stages drawn at most: more would make a picture that viewers refuse to open."""

_PAPER: Colour = (255, 255, 255)
_INK: Colour = (36, 30, 26)
_SOFT: Colour = (112, 102, 94)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes in pixels; everything follows from the tile and the type size."""

    tile: int
    type: float
    columns: int
    names: bool

    @property
    def gap(self) -> int:
        return round(self.tile * 0.17)

    @property
    def margin(self) -> int:
        return 44

    @property
    def line(self) -> int:
        return round(self.type * 2.2)


def stage_seconds(result: SequenceResult) -> tuple[float, ...]:
    """Return the duration of each stage, seconds: from its first frame to the next stage's.

    The last stage ends one frame period after its last frame.
    """
    stages = result.stages
    if not stages:
        return ()
    period = 1 / result.fps if math.isfinite(result.fps) and result.fps > 0 else 0.0
    ends = [s.start_s for s in stages[1:]] + [stages[-1].end_s + period]
    return tuple(max(end - stage.start_s, 0.0) for stage, end in zip(stages, ends, strict=True))


def strip(result: SequenceResult, pictures: SequencePictures | None = None) -> NDArray[np.uint8]:
    """Draw the temporal prototype of a sequence: one column per stage.

    Args:
        result: the sequence. Beyond ``MAX_STRIP_STAGES`` stages the rest is left out, and the
            picture says how many.
        pictures: its pictures, where they exist already.

    Returns:
        ``(H, W, 3)`` uint8, BGR, on white. The same result gives the same pixels.

    References:
        The paper, Figures 4 and 5.
    """
    shown = min(len(result.stages), MAX_STRIP_STAGES)
    layout = _layout(shown)
    pictures = pictures or SequencePictures(result)
    seconds = stage_seconds(result)
    rows = [
        range(first, min(first + layout.columns, shown))
        for first in range(0, shown, layout.columns)
    ]
    heights = [_row_height(layout, (len(result.stages[i].labels) for i in row)) for row in rows]
    aus = _active_aus(result)
    foot = legend(aus, _inner_width(layout), result.marks) if aus and not layout.names else None
    head, note = 112, 68 if set(aus) & set(result.marks) else 44
    height = head + sum(heights) + (0 if foot is None else foot.shape[0] + 16) + note + 20
    width = _inner_width(layout) + 2 * layout.margin
    canvas = np.full((height, width, 3), 255, np.uint8)
    _draw_head(canvas, result, layout)
    top = head
    for row, row_height in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left = layout.margin + layout.gap + column * (layout.tile + layout.gap)
            if index:
                draw_arrow(canvas, left - layout.gap / 2, top + layout.tile / 2, layout.gap * 0.52)
            _draw_column(canvas, result, pictures, layout, index, seconds[index], left, top)
        top += row_height
    if foot is not None:
        start = layout.margin + layout.gap
        canvas[top : top + foot.shape[0], start : start + foot.shape[1]] = foot
        top += foot.shape[0] + 16
    _draw_note(canvas, result, layout, pictures.x, shown, top + 14)
    return canvas


def legend(
    aus: Iterable[int], width: int = 1200, marks: Mapping[int, str] | None = None
) -> NDArray[np.uint8]:
    """Draw the colours of Action Units with their numbers and names.

    Args:
        aus: AU numbers.
        width: width of the picture, pixels; entries wrap.
        marks: AU number → a word of warning to write before its name.

    Returns:
        ``(H, width, 3)`` uint8, BGR, on white.
    """
    size, line = 13.0, 36
    marks = marks or {}
    places: list[tuple[int, int, int]] = []
    x = y = 0
    for au in sorted(set(aus)):
        need = pill_width(au_code(au), size) + 12 + text_width(_name(au, marks), size) + 36
        if x and x + need > width:
            x, y = 0, y + line
        places.append((au, x, y))
        x += need
    canvas = np.full((y + line, width, 3), 255, np.uint8)
    for au, x, y in places:
        wide = draw_pill(canvas, au_code(au), x, y + 4, size, bgr(au_colour(au)))
        draw_text(canvas, _name(au, marks), x + wide + 12, y + 4 + 18, size, _SOFT)
    return canvas


def _layout(stages: int) -> _Layout:
    # Up to eight columns fill a wide slide; longer sequences get smaller tiles, in even rows.
    tile, size, most, names = next(
        sizes
        for sizes in ((248, 15.5, 8, True), (192, 13.5, 9, False), (136, 12.0, 12, False))
        if sizes[0] == tile_side(stages)
    )
    rows = max(1, math.ceil(stages / most))
    return _Layout(tile, size, max(1, math.ceil(stages / rows)), names)


def _inner_width(layout: _Layout) -> int:
    # Half a gap of air at the right balances the arrow's room at the left of the first column.
    body = layout.columns * (layout.tile + layout.gap) + layout.gap
    return max(body, 760)


def _name(au: int, marks: Mapping[int, str]) -> str:
    """Return what is written beside an AU: its name, after a word of warning where it has one."""
    name = AU_NAMES.get(au, "")
    return f"{marks[au]}, {name}" if au in marks else name


def _row_height(layout: _Layout, labels: Iterable[int]) -> int:
    return layout.tile + max(labels) * layout.line + round(layout.type * 6)


def _active_aus(result: SequenceResult) -> list[int]:
    labels = {label for stage in result.stages for label in stage.labels}
    return sorted({result.prototypes[label].au for label in labels if label in result.prototypes})


def _draw_head(canvas: NDArray[np.uint8], result: SequenceResult, layout: _Layout) -> None:
    left = layout.margin + layout.gap
    draw_text(canvas, "Temporal prototype", left, 54, 24, _INK, bold=True)
    stages, frames = len(result.stages), len(result.rows)
    facts = f"{frames} frames in {stages} stage{'s' if stages != 1 else ''}"
    if frames >= stages > 0:
        facts += f",  {100 * reduction(stages, frames):.1f} % shorter"
    size = 14.5
    room = canvas.shape[1] - 2 * left - text_width(facts, size) - 28
    name = fit_text(_short_name(result.source), size, room)
    used = draw_text(canvas, name, left, 84, size, _INK, bold=True) if name else -28
    draw_text(canvas, facts, left + used + 28, 84, size, _SOFT)


def _draw_note(
    canvas: NDArray[np.uint8],
    result: SequenceResult,
    layout: _Layout,
    x: float,
    shown: int,
    baseline: int,
) -> None:
    note = ""
    if _active_aus(result):
        note = (
            f"Coloured areas: Top-{100 * x:g} % relevance projection of each Action Unit's "
            "prototype, striped where they overlap. "
            "Letters tell the prototypes of one Action Unit apart."
        )
        warned = {result.marks[au] for au in _active_aus(result) if au in result.marks}
        if warned:
            words = " or ".join(sorted(warned, reverse=True))
            note += f" What is called {words} is to be taken with care (grades of the model card)."
    left = layout.margin + layout.gap
    if shown < len(result.stages):
        note = f"The first {shown} of {len(result.stages)} stages; all are in the tables. {note}"
    room = canvas.shape[1] - left - layout.margin
    for line in _wrapped(note, 12.5, room)[:3]:
        draw_text(canvas, line, left, baseline, 12.5, _SOFT)
        baseline += 24


def _wrapped(text: str, size: float, room: float) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _draw_column(
    canvas: NDArray[np.uint8],
    result: SequenceResult,
    pictures: SequencePictures,
    layout: _Layout,
    index: int,
    seconds: float,
    left: int,
    top: int,
) -> None:
    stage, tile = result.stages[index], layout.tile
    paste_rounded(canvas, pictures.stage(index, tile), left, top, tile * 0.045)
    _draw_badge(canvas, str(index + 1), left, top, layout.type)
    y = top + tile + layout.type * 2.0
    wide = draw_text(canvas, _seconds(seconds), left + 2, y, layout.type, _INK, bold=True)
    frames = f"{stage.frames} frame{'s' if stage.frames != 1 else ''}"
    draw_text(canvas, frames, left + 2 + wide + layout.type, y, layout.type * 0.86, _SOFT)
    y = round(y + layout.type * 0.9)
    for label in stage.labels:
        mark = ""
        if label in (NONE[0], LOST[0]):
            wide = draw_state(canvas, label, left, y, layout.type)
            name = "no Action Unit" if label == NONE[0] else "no usable face"
        else:
            au = parse_label(label)[0]
            wide = draw_pill(canvas, label, left, y, layout.type, bgr(au_colour(au)))
            name = _name(au, result.marks)
            mark = result.marks.get(au, "")
        if not layout.names:  # no room for names; a warning always has some
            name = mark
        if name:
            size = layout.type * 0.8
            name = fit_text(name, size, tile - wide - 10)
            draw_text(canvas, name, left + wide + 10, y + layout.type * 1.36, size, _SOFT)
        y += layout.line


def paste_rounded(
    canvas: NDArray[np.uint8], picture: NDArray[np.uint8], left: int, top: int, radius: float
) -> None:
    """Paste a square picture with round corners, its top-left corner at ``(left, top)``."""
    side = picture.shape[0]
    cover = rounded_mask(side, side, radius)[..., None]
    ground = canvas[top : top + side, left : left + side]
    ground[:] = np.rint(ground + cover * (picture.astype(np.float32) - ground)).astype(np.uint8)


def _draw_badge(canvas: NDArray[np.uint8], text: str, left: int, top: int, size: float) -> None:
    high = round(size * 1.9)
    wide = max(high, text_width(text, size, bold=True) + round(size * 0.6))
    inset = round(size * 0.55)
    mask = rounded_mask(wide, high, high / 2)
    blend(canvas, mask * 0.92, left + inset, top + inset, _PAPER)
    middle = left + inset + wide / 2
    draw_text(
        canvas, text, middle, top + inset + (high + size) / 2, size, _INK, bold=True,
        anchor="centre",
    )  # fmt: skip


def pill_width(text: str, size: float) -> int:
    """Return the width of a label drawn with capitals ``size`` pixels high."""
    return text_width(text, size, bold=True) + round(size * 1.2)


def draw_pill(
    canvas: NDArray[np.uint8], text: str, left: int, top: int, size: float, ground: Colour
) -> int:
    """Draw a label on its colour and return its width, pixels."""
    high, wide = round(size * 1.85), pill_width(text, size)
    blend(canvas, rounded_mask(wide, high, size * 0.5), left, top, ground)
    baseline = top + (high + size) / 2
    draw_text(canvas, text, left + size * 0.6, baseline, size, ink_on(ground), bold=True)
    return wide


def draw_state(canvas: NDArray[np.uint8], text: str, left: int, top: int, size: float) -> int:
    """Draw ``NONE`` or ``LOST`` in an outline and return its width, pixels."""
    high, wide = round(size * 1.85), pill_width(text, size)
    radius = size * 0.5
    blend(canvas, rounded_mask(wide, high, radius), left, top, _SOFT)
    inner = rounded_mask(wide - 4, high - 4, radius - 2)
    blend(canvas, inner, left + 2, top + 2, _PAPER)
    draw_text(canvas, text, left + size * 0.6, top + (high + size) / 2, size, _INK, bold=True)
    return wide


def draw_arrow(canvas: NDArray[np.uint8], x: float, y: float, length: float) -> None:
    """Draw an arrow to the right, centred on ``(x, y)``."""
    head, half, shaft = length * 0.42, length * 0.28, max(1.2, length * 0.055)
    left, right = x - length / 2, x + length / 2
    outline = np.array(
        [
            (left, y - shaft),
            (right - head, y - shaft),
            (right - head, y - half),
            (right, y),
            (right - head, y + half),
            (right - head, y + shaft),
            (left, y + shaft),
        ]
    )
    fixed = np.rint(outline * 16).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], _SOFT, cv2.LINE_AA, shift=4)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def _short_name(source: str) -> str:
    return source if "://" in source else PurePath(source).name or source
