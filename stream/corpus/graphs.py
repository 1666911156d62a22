"""Drawings of a corpus as SVG: transitions between stages, and distributions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from ...core.action_units import parse_label
from ...core.corpus.relations import TemporalPrototype
from ...core.corpus.summary import transitions
from ...core.render import au_colour
from ...core.types import LOST, NONE, StageLabels

__all__ = ["centred_text", "histograms", "transition_graph"]

MOST_STAGES = 12
"""Stages drawn in a graph of transitions: the most frequent ones."""
MOST_ARROWS = 26

_INK, _SOFT, _LINE = "#1a1e24", "#5e6670", "#c3cad2"
_CHIP, _CHIP_H, _NODE_PAD = 40, 22, 8
_PER_ROW = 3
_COLUMN, _ROW_GAP = 236, 34


def transition_graph(prototypes: Sequence[TemporalPrototype]) -> str:
    """Draw which stages follow which: the most frequent stages, left to right by when they come.

    A stage's place is its mean place in the sequences, 0 (first stage) to 1 (last). Arrows are as
    thick as the transition is frequent; those that lead back run below.

    Args:
        prototypes: of one label, without letters.

    Returns:
        An ``<svg>`` element.
    """
    places: dict[StageLabels, list[float]] = {}
    for stages in prototypes:
        for n, stage in enumerate(stages):
            places.setdefault(stage, []).append(n / max(1, len(stages) - 1))
    frequent = sorted(places, key=lambda s: (-len(places[s]), s))[:MOST_STAGES]
    pairs = transitions(prototypes)
    drawn = [row for row in pairs if row[0] in frequent and row[1] in frequent][:MOST_ARROWS]
    boxes, width, height = _layout(frequent, {s: float(np.mean(places[s])) for s in frequent})
    most = max((n for *_, n in drawn), default=1)
    parts = [_arrow(boxes[a], boxes[b], n, most, height) for a, b, n in reversed(drawn)]
    parts += [_node(boxes[s], s, len(places[s])) for s in frequent]
    shown, total = sum(n for *_, n in drawn), sum(n for *_, n in pairs)
    note = f"{len(frequent)} of {len(places)} different stages; {shown} of {total} transitions"
    parts.append(f'<text x="4" y="{height + 52}" fill="{_SOFT}" font-size="13">{note}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 62}" '
        f'width="{width}" height="{height + 62}" role="img" aria-label="{note}" '
        'font-family="system-ui, sans-serif">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" '
        'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path d="M0,0L8,4L0,8Z" fill="{_SOFT}"/></marker></defs>' + "".join(parts) + "</svg>"
    )


_Box = tuple[float, float, float, float]
"""Left, top, width, height."""


def _layout(
    stages: Sequence[StageLabels], mean: Mapping[StageLabels, float]
) -> tuple[dict[StageLabels, _Box], int, int]:
    """Place the stages in columns, earliest at the left, each column centred."""
    columns = max(1, min(5, math.ceil(len(stages) / 2)))
    ordered = sorted(stages, key=lambda s: (mean[s], s))
    groups = [list(g) for g in np.array_split(np.arange(len(ordered)), columns)]
    tall = [sum(_size(ordered[n])[1] + _ROW_GAP for n in g) - _ROW_GAP for g in groups]
    height = round(max(tall, default=0)) + 24
    boxes: dict[StageLabels, _Box] = {}
    for column, (group, total) in enumerate(zip(groups, tall, strict=True)):
        y = 12 + (height - 24 - total) / 2
        for n in group:
            wide, high = _size(ordered[n])
            boxes[ordered[n]] = (6 + column * _COLUMN + (150 - wide) / 2, y, wide, high)
            y += high + _ROW_GAP
    return boxes, max(420, 6 + columns * _COLUMN - 70), height


def _size(stage: StageLabels) -> tuple[float, float]:
    rows = math.ceil(len(stage) / _PER_ROW)
    return (
        min(len(stage), _PER_ROW) * (_CHIP + 4) + 2 * _NODE_PAD + (24 if len(stage) == 1 else 0),
        rows * (_CHIP_H + 4) + 2 * _NODE_PAD + 14,
    )


def _node(box: _Box, stage: StageLabels, count: int) -> str:
    x, y, wide, high = box
    dash = ' stroke-dasharray="4 3"' if stage == LOST else ""
    name = escape("+".join(stage))
    parts = [
        f'<g><title>{name}: {count} times</title><rect x="{x:g}" y="{y:g}" width="{wide:g}" '
        f'height="{high:g}" rx="9" fill="#fff" stroke="{_SOFT}"{dash}/>'
    ]
    if stage in (NONE, LOST):
        parts.append(centred_text(x + wide / 2, y + 24, stage[0], 13, bold=True))
    else:
        row_wide = min(len(stage), _PER_ROW) * (_CHIP + 4) - 4
        for n, label in enumerate(stage):
            au = parse_label(label)[0]
            cx = x + (wide - row_wide) / 2 + n % _PER_ROW * (_CHIP + 4)
            cy = y + _NODE_PAD + n // _PER_ROW * (_CHIP_H + 4)
            parts.append(
                f'<rect x="{cx:g}" y="{cy:g}" width="{_CHIP}" height="{_CHIP_H}" rx="5" '
                f'fill="{au_colour(au)}"/>'
                + centred_text(cx + _CHIP / 2, cy + 16, str(au), 13, bold=True)
            )
    parts.append(
        centred_text(x + wide / 2, y + high - 7, f"{count} ×", 11.5, colour=_SOFT) + "</g>"
    )
    return "".join(parts)


def _arrow(start: _Box, end: _Box, count: int, most: int, height: float) -> str:
    stroke = 1 + 6 * count / max(most, 6)
    sx, sy, sw, sh = start
    ex, ey, ew, eh = end
    if ex > sx + sw:
        x1, y1, x2, y2 = sx + sw, sy + sh / 2, ex - 3, ey + eh / 2
        bend = (x2 - x1) / 2
        path = f"M{x1:g},{y1:g}C{x1 + bend:g},{y1:g} {x2 - bend:g},{y2:g} {x2:g},{y2:g}"
        tx, ty = (x1 + x2) / 2, (y1 + y2) / 2
    elif ex + ew < sx:
        x1, y1, x2, y2 = sx + sw / 2, sy + sh, ex + ew / 2, ey + eh + 3
        low = max(y1, y2) + 20 + 0.05 * (x1 - x2)
        low = min(low, height + 26)
        path = f"M{x1:g},{y1:g}C{x1:g},{low + 12:g} {x2:g},{low + 12:g} {x2:g},{y2:g}"
        tx, ty = (x1 + x2) / 2, min(low + 4, height + 30)
    else:
        # In one column: down at the right, up at the left, so that both can be told apart.
        down = ey > sy
        side = 1 if down else -1
        x1 = sx + sw / 2 + side * 16
        x2 = ex + ew / 2 + side * 16
        y1, y2 = (sy + sh, ey - 3) if down else (sy, ey + eh + 3)
        reach = side * (0 if abs(y2 - y1) < 2 * _ROW_GAP else 70)
        path = f"M{x1:g},{y1:g}C{x1 + reach:g},{y1:g} {x2 + reach:g},{y2:g} {x2:g},{y2:g}"
        tx, ty = (x1 + x2) / 2 + 0.75 * reach + side * 9, (y1 + y2) / 2 + 4
    return (
        f'<path d="{path}" fill="none" stroke="#8b949e" stroke-opacity=".62" '
        f'stroke-width="{stroke:.2f}" marker-end="url(#tip)"><title>{count} times</title></path>'
        f'<text x="{tx:.1f}" y="{ty:.1f}" font-size="11.5" text-anchor="middle" fill="{_INK}" '
        f'stroke="#fff" stroke-width="3" paint-order="stroke">{count}</text>'
    )


_LEFT, _WIDTH, _ROW = 130, 480, 46
"""Where the bars of a histogram begin, the width of its axis, and the height of a row, pixels."""


def histograms(groups: Mapping[str, Sequence[float]], axis: str, *, log: bool = False) -> str:
    """Draw the distribution of a quantity, one row per group, on a common axis.

    Bars are shares of the group; the tick below each row is its median.

    Args:
        groups: name → values, positive where ``log``.
        axis: what the values are.
        log: logarithmic axis; else whole numbers, one bar each up to 40 of them.

    Returns:
        An ``<svg>`` element.
    """
    values = np.concatenate([np.asarray(v, float) for v in groups.values()])
    if log:
        low, high = math.log10(values.min()), math.log10(values.max())
        edges = 10 ** np.linspace(low, max(high, low + 1e-6), 29)
    else:
        top = int(values.max())
        step = max(1, math.ceil(top / 40))
        edges = np.arange(0.5, top + step + 0.5, step)
    span = np.log10(edges) if log else edges

    def x(value: float) -> float:
        at = (math.log10(value) if log else value) - span[0]
        return _LEFT + at / (span[-1] - span[0]) * _WIDTH

    parts = [
        _histogram(name, of, edges, x, 20 + n * _ROW)
        for n, (name, of) in enumerate(groups.items(), 1)
    ]
    foot = 20 + len(groups) * _ROW
    for tick in _ticks(float(values.min()), float(values.max()), log=log):
        parts.append(centred_text(x(tick), foot + 24, f"{tick:g}", 12, colour=_SOFT))
    parts.append(centred_text(_LEFT + _WIDTH / 2, foot + 44, axis, 12.5, colour=_SOFT))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {foot + 54}" '
        f'width="{_LEFT + _WIDTH + 20}" height="{foot + 54}" role="img" '
        f'aria-label="{escape(axis)}" font-family="system-ui, sans-serif">{"".join(parts)}</svg>'
    )


def _histogram(
    name: str,
    values: Sequence[float],
    edges: NDArray[np.float64],
    x: Callable[[float], float],
    base: float,
) -> str:
    """Return the row of one group, its bars on the line at ``base``."""
    clipped = np.clip(np.asarray(values, float), edges[0], edges[-1])
    shares = np.histogram(clipped, edges)[0] / len(values)
    peak = shares.max()
    parts = [
        f'<text x="{_LEFT - 12}" y="{base - 8}" font-size="13.5" text-anchor="end" '
        f'fill="{_INK}">{escape(name)}</text><text x="{_LEFT - 12}" y="{base + 8}" '
        f'font-size="11.5" text-anchor="end" fill="{_SOFT}">n = {len(values)}</text>'
        f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{base}" y2="{base}" stroke="{_LINE}"/>'
    ]
    for k in np.flatnonzero(shares):
        a, b = x(edges[k]), x(edges[k + 1])
        high = shares[k] / peak * (_ROW - 12)
        parts.append(
            f'<rect x="{a + 0.5:.1f}" y="{base - high:.1f}" width="{max(b - a - 1, 1):.1f}" '
            f'height="{high:.1f}" fill="#4C8DFF" fill-opacity=".75"><title>'
            f"{shares[k]:.0%}</title></rect>"
        )
    middle = x(float(np.median(clipped)))
    parts.append(
        f'<path d="M{middle:.1f},{base + 1}l4,7h-8Z" fill="{_INK}"><title>median '
        f"{float(np.median(values)):g}</title></path>"
    )
    return "".join(parts)


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [m * 10.0**p for p in powers for m in (1, 2, 5)]
        return [t for t in ticks if low <= t * 1.0001 and t <= high * 1.0001]
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if high / s <= 12)
    return [float(t) for t in range(step, int(high) + 1, step)]


def centred_text(
    x: float, y: float, text: str, size: float, *, bold: bool = False, colour: str = _INK
) -> str:
    """Return one line of text as SVG, its middle at ``x`` and its foot at ``y``; pixels."""
    weight = ' font-weight="650"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="middle" '
        f'fill="{colour}"{weight}>{escape(text)}</text>'
    )
