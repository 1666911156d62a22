"""The inclusion lattice as SVG: boxes of stages, lines that lead upward, who shows it as a disc."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

from ...core.action_units import parse_label
from ...core.corpus.hasse import LatticeColumn, LatticeLayout, lattice_layout, lattice_part
from ...core.render import au_colour
from ...core.stages import format_prototype
from ...core.types import LOST, NONE, StageLabels
from .evaluate import Related
from .graphs import centred_text
from .tables import label_text

__all__ = ["MOST_DRAWN", "LatticePicture", "lattice_picture"]

MOST_DRAWN = 36
"""Most prototypes drawn; a drawing of more is not readable."""
WIDTH = 1180.0
"""Bound on the boxes of a row, pixels."""

_MOST_STAGES, _PER_LINE = 5, 4
_LINE, _STEP, _PAD, _DISC, _NUMBER, _CHIP_GAP = 21.0, 5.0, 9.0, 46.0, 15.0, 4.0
_SMALLEST, _LARGEST = 5.0, 15.0
"""Least radius of a disc, and the radius of the most supported prototype's, pixels."""
_OTHER = "#8b949e"
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#b3589a"),
    *("#8a6d00", "#4aa3d8", "#6a3d9a", "#3f4750"),
)
"""Colours of labels that colour-blind readers can distinguish as well (after Okabe & Ito)."""

_INK, _SOFT = "var(--ink,#1a1e24)", "var(--soft,#5e6670)"
_CARD = "var(--card,#fff)"


@dataclass(frozen=True, slots=True)
class LatticePicture:
    """The drawing and what it leaves out.

    Attributes:
        svg: an ``<svg>`` element; empty where nothing is included in anything.
        shown, alone, left_out: prototypes drawn; not drawn because they have no relation; not
            drawn because they are too many.
        legend: colour and name of each label.
    """

    svg: str
    shown: int
    alone: int
    left_out: int
    legend: tuple[tuple[str, str], ...]


def lattice_picture(related: Related, most: int = MOST_DRAWN) -> LatticePicture:
    """Draw the covering relation of the most supported prototypes.

    Args:
        related: the prototypes of a corpus and their inclusions.
        most: bound on the prototypes drawn.
    """
    prototypes = [stages for stages, _ in related.counted]
    part = lattice_part(prototypes, related.order, most)
    if not len(part.shown):
        return LatticePicture("", 0, part.alone, part.left_out, ())
    colours, legend = _label_colours(related)
    sizes = np.array([_size(prototypes[n]) for n in part.shown])
    layout = lattice_layout(sizes, part.covers, WIDTH)
    largest = float(related.order.support[part.shown].sum(axis=1).max())
    parts = [
        f'<path class="link" data-low="{low}" data-high="{high}" d="{_path(line)}" fill="none" '
        f'stroke="{_SOFT}" stroke-opacity=".55" stroke-width="1.5"/>'
        for (low, high), line in zip(part.covers.tolist(), layout.lines, strict=True)
    ]
    parts += [
        _node(related, n, place, layout, colours, largest)
        for place, n in enumerate(part.shown.tolist())
    ]
    width, height = math.ceil(layout.width) + 4, math.ceil(layout.height) + 4
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {width} {height}" '
        f'width="{width}" height="{height}" role="group" aria-label="inclusion lattice, '
        f'{len(part.shown)} prototypes" font-family="system-ui, sans-serif">'
        + "".join(parts)
        + "</svg>"
    )
    return LatticePicture(svg, len(part.shown), part.alone, part.left_out, legend)


def _label_colours(related: Related) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Return label → colour, and the legend: the labels with most sequences have their own."""
    totals = np.array([sum(s.label == g for s in related.sequences) for g in related.groups])
    named = [g for g in related.groups if g]
    ranked = sorted(named, key=lambda g: -totals[related.groups.index(g)])[: len(_COLOURS)]
    colours = {g: _COLOURS[ranked.index(g)] if g in ranked else _OTHER for g in related.groups}
    legend = [(colours[g], label_text(g)) for g in related.groups if g in ranked]
    if others := [label_text(g) for g in related.groups if g not in ranked]:
        legend.append((_OTHER, ", ".join(others[:3]) + (" …" if len(others) > 3 else "")))
    return colours, tuple(legend)


def _node(
    related: Related,
    n: int,
    place: int,
    layout: LatticeLayout,
    colours: Mapping[str, str],
    largest: float,
) -> str:
    """Return the box of prototype ``n``, the ``place``-th that is drawn.

    Its disc has the colour of the label that shows it most, and an area as large as its support is
    beside the ``largest``.
    """
    stages, shown_by = related.counted[n]
    support = related.order.support[n]
    by_label = [
        f"{label_text(g)} {count}"
        for g, count in zip(related.groups, support.tolist(), strict=True)
        if count
    ]
    leading = np.flatnonzero(support == support.max())
    is_clear = len(leading) == 1
    colour = colours[related.groups[leading[0]]] if is_clear else _SOFT
    note = (
        f"{format_prototype(stages)} · shown by {shown_by}, shown or "
        f"included by {support.sum()} ({', '.join(by_label)})"
    )
    radius = max(_SMALLEST, _LARGEST * math.sqrt(support.sum() / largest))
    left, top, width, height = layout.boxes[place]
    return (
        f'<g class="node" data-n="{place}" data-row="{layout.rows[place]}" '
        f'tabindex="{-1 if place else 0}" role="img" aria-label="{escape(note)}" '
        f'transform="translate({left:.1f} {top:.1f})"><title>{escape(note)}</title>'
        f'<rect width="{width:.1f}" height="{height:.1f}" rx="8" fill="{_CARD}" '
        f'stroke="{colour}" stroke-width="1.5"/>'
        f'<circle cx="{_DISC / 2:g}" cy="{height / 2 - 7:.1f}" r="{radius:.1f}" '
        f'fill="{colour if is_clear else _CARD}" stroke="{colour}" stroke-width="1.5"/>'
        + centred_text(_DISC / 2, height / 2 + 21, str(support.sum()), 12, bold=True, colour=_INK)
        + _stages(stages)
        + "</g>"
    )


def _lines(stages: Sequence[StageLabels]) -> list[tuple[int, tuple[str, ...]]]:
    """Return the lines of a box: number of the stage (0 where it goes on), and its labels."""
    shown = stages if len(stages) <= _MOST_STAGES else stages[: _MOST_STAGES - 1]
    lines = []
    for number, stage in enumerate(shown, 1):
        for first in range(0, len(stage), _PER_LINE):
            lines.append((0 if first else number, tuple(stage[first : first + _PER_LINE])))
    return lines


def _more(stages: Sequence[StageLabels]) -> str:
    left = len(stages) - (_MOST_STAGES - 1)
    return f"… {left} more stages" if len(stages) > _MOST_STAGES else ""


def _short(label: str) -> str:
    if label in (NONE[0], LOST[0]):
        return label
    au, letter = parse_label(label)
    return f"{au}{letter or ''}"


def _chip(label: str) -> float:
    return 10 + 7.6 * len(_short(label))


def _size(stages: Sequence[StageLabels]) -> tuple[float, float]:
    lines = _lines(stages)
    wide = max(sum(_chip(x) + _CHIP_GAP for x in labels) - _CHIP_GAP for _, labels in lines)
    if _more(stages):
        wide = max(wide, 96.0)
    high = 2 * _PAD + _LINE * (len(lines) + bool(_more(stages))) - 3
    high += _STEP * (sum(number > 0 for number, _ in lines) - 1)
    return _DISC + _NUMBER + wide + _PAD, max(high, 52.0)


def _stages(stages: Sequence[StageLabels]) -> str:
    lines = _lines(stages)
    _, height = _size(stages)
    used = _LINE * (len(lines) + bool(_more(stages))) - 3
    used += _STEP * (sum(number > 0 for number, _ in lines) - 1)
    y = (height - used) / 2
    parts = []
    for place, (number, labels) in enumerate(lines):
        if number and place:
            y += _STEP
        if number:
            parts.append(centred_text(_DISC + 5, y + 13.5, str(number), 11, colour=_SOFT))
        x = _DISC + _NUMBER
        for label in labels:
            plain = label in (NONE[0], LOST[0])
            wide = _chip(label)
            look = (
                f'fill="{_CARD}" stroke="{_SOFT}"'
                + (' stroke-dasharray="3 2"' if label == LOST[0] else "")
                if plain
                else f'fill="{au_colour(parse_label(label)[0])}"'
            )
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{_LINE - 3:g}" rx="4.5" '
                f"{look}/>"
                + centred_text(
                    x + wide / 2,
                    y + 13.5,
                    _short(label),
                    12,
                    bold=True,
                    colour=_INK if plain else "#10141a",
                )
            )
            x += wide + _CHIP_GAP
        y += _LINE
    if more := _more(stages):
        parts.append(
            f'<text x="{_DISC + _NUMBER:g}" y="{y + 13:.1f}" font-size="11.5" '
            f'fill="{_SOFT}">{more}</text>'
        )
    return "".join(parts)


def _path(line: Sequence[LatticeColumn]) -> str:
    """Return a line: straight beside boxes, bent where it crosses from row to row."""
    path = f"M{line[0].x:.1f},{line[0].low:.1f}"
    for lower, upper in pairwise(line):
        bend = (lower.high - upper.low) / 2
        path += f"V{lower.high:.1f}C{lower.x:.1f},{lower.high - bend:.1f} "
        path += f"{upper.x:.1f},{upper.low + bend:.1f} {upper.x:.1f},{upper.low:.1f}"
    return path + f"V{line[-1].high:.1f}"
