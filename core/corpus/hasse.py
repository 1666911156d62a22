"""The inclusion lattice as a drawing: a Hasse diagram whose lines all lead upward.

What is drawn of a large corpus is a part of it: the prototypes that most sequences include. Their
covering relation is computed anew among themselves, so that every line still says "included, and
nothing shown lies between".

The layout is the usual one for layered graphs: rows that are not too wide, places for lines that
pass a row, an order with few crossings, then positions as near to their neighbours' mean as the
boxes allow.

References:
    Sugiyama, Tagawa & Toda, "Methods for visual understanding of hierarchical system structures",
    IEEE Trans. Systems, Man, and Cybernetics 11(2), 1981.
    Coffman & Graham, "Optimal scheduling for two-processor systems", Acta Informatica 1, 1972
    (rows of bounded width).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .relations import InclusionOrder, TemporalPrototype, inclusion_order

__all__ = ["LatticeColumn", "LatticeLayout", "LatticePart", "lattice_layout", "lattice_part"]

IntArray = NDArray[np.int64]

SWEEPS = 24
"""Passes over the rows, up and down in turn, to order them and to place their boxes."""
LANE = 10.0
"""Width kept for a line that passes a row, pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class LatticePart:
    """The part of an inclusion order that is drawn.

    Attributes:
        shown: ``(M,)`` int64, numbers of the prototypes, the most supported first.
        covers: ``(E, 2)`` int64 pairs (i, j) of places in ``shown``, ascending: i is included in j
            and no other one shown lies between.
        alone: prototypes not drawn because they include no other one, nor are included in one.
        left_out: prototypes not drawn because there are too many.
    """

    shown: IntArray
    covers: IntArray
    alone: int
    left_out: int


def lattice_part(
    prototypes: Sequence[TemporalPrototype], order: InclusionOrder, most: int
) -> LatticePart:
    """Choose what to draw: the most supported prototypes that have anything to do with another.

    Args:
        prototypes: N different temporal prototypes.
        order: the inclusions between them.
        most: bound on the prototypes drawn.
    """
    related = np.flatnonzero(order.included + order.including)
    support = order.support[related].sum(axis=1)
    # Of equally supported ones the shorter come first: longer ones are a line away from these.
    stages = np.array([len(prototypes[n]) for n in related.tolist()], np.int64)
    shown = related[np.lexsort((related, stages, -support))[:most]]
    covers = inclusion_order([prototypes[n] for n in shown]).covers
    # Some may have been related only to others that were not chosen.
    tied = np.unique(covers)
    number = np.full(len(shown), -1)
    number[tied] = np.arange(len(tied))
    return LatticePart(
        shown[tied],
        number[covers],
        len(prototypes) - len(related),
        len(related) - len(tied),
    )


@dataclass(frozen=True, slots=True)
class LatticeColumn:
    """An upright piece of a line: at ``x``, from ``low`` up to ``high`` (``high`` ≤ ``low``)."""

    x: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class LatticeLayout:
    """Where everything is drawn; pixels, y grows downward.

    Attributes:
        boxes: ``(M, 4)`` float64, left, top, width, height.
        rows: ``(M,)`` int64, 0 for the lowest.
        lines: of each cover, upright pieces from the inner box up to the outer one. Between two
            pieces a line crosses the gap between two rows, where there is nothing else.
        width, height: of the whole drawing.
    """

    boxes: NDArray[np.float64]
    rows: IntArray
    lines: tuple[tuple[LatticeColumn, ...], ...]
    width: float
    height: float


def lattice_layout(
    sizes: NDArray[np.float64], covers: IntArray, width: float, gap: float = 14.0, rise: float = 46
) -> LatticeLayout:
    """Place boxes and lines so that lines lead upward and no box touches another box or line.

    Parts that no line connects are laid out each by itself, the largest first, and stand side by
    side where there is room.

    Args:
        sizes: ``(M, 2)`` width and height of each box, pixels.
        covers: ``(E, 2)`` pairs (lower, upper), without cycles.
        width: bound on the boxes and gaps of a row, pixels; lines that pass add to it.
        gap: least distance of boxes and lines in a row, pixels; of parts it is twice that.
        rise: height between two rows, pixels.

    Raises:
        ConfigError: the pairs form a cycle, so that no drawing leads upward.
    """
    count = len(sizes)
    boxes, rows = np.empty((count, 4)), np.zeros(count, np.int64)
    lines: list[tuple[LatticeColumn, ...]] = [()] * len(covers)
    shelves: list[list[tuple[IntArray, IntArray, LatticeLayout]]] = []
    room = 0.0
    for members in _connected(count, covers):
        number = np.full(count, -1)
        number[members] = np.arange(len(members))
        own = np.flatnonzero(number[covers[:, 0]] >= 0)
        layout = _connected_layout(sizes[members], number[covers[own]], width, gap, rise)
        if not shelves or layout.width > room:
            shelves.append([])
            room = width
        room -= layout.width + 2 * gap
        shelves[-1].append((members, own, layout))
    bottom, first_row = 0.0, 0
    for shelf in reversed(shelves):  # rows count from below
        left, height = 0.0, max(layout.height for *_, layout in shelf)
        for members, own, layout in shelf:
            # All stand on one line; heights are negative until the whole is known.
            shift = bottom - layout.height
            boxes[members] = layout.boxes + np.array([left, shift, 0.0, 0.0])
            rows[members] = layout.rows + first_row
            for edge, line in zip(own.tolist(), layout.lines, strict=True):
                lines[edge] = tuple(_moved(piece, left, shift) for piece in line)
            left += layout.width + 2 * gap
        bottom -= height + rise
        first_row = int(rows[[m for members, *_ in shelf for m in members]].max()) + 1
    height = max(0.0, -bottom - rise)
    boxes[:, 1] += height
    moved = [tuple(_moved(piece, 0.0, height) for piece in line) for line in lines]
    across = float((boxes[:, 0] + boxes[:, 2]).max(initial=0.0))
    across = max([across, *(piece.x + LANE / 2 for line in moved for piece in line)])
    return LatticeLayout(boxes, rows, tuple(moved), across, height)


def _moved(piece: LatticeColumn, right: float, down: float) -> LatticeColumn:
    return LatticeColumn(piece.x + right, piece.low + down, piece.high + down)


def _connected(count: int, covers: IntArray) -> list[IntArray]:
    """Return the parts that lines connect, the largest first."""
    part = np.arange(count)
    for lower, upper in covers.tolist():
        part[part == part[lower]] = part[upper]
    members = [np.flatnonzero(part == number) for number in np.unique(part)]
    return sorted(members, key=lambda boxes: (-len(boxes), int(boxes[0])))


def _connected_layout(
    sizes: NDArray[np.float64], covers: IntArray, width: float, gap: float, rise: float
) -> LatticeLayout:
    count = len(sizes)
    rows = _rows(sizes[:, 0], covers, width, gap)
    vertices, chains = _with_lanes(rows, covers)
    wide = np.concatenate([sizes[:, 0], np.full(len(vertices) - count, LANE)])
    levels = _ordered(vertices, chains, int(rows.max()) + 1)
    x = _placed(levels, chains, wide, gap)
    x -= float((x - wide / 2).min())
    tall = [max((float(sizes[v, 1]) for v in level if v < count), default=0.0) for level in levels]
    # Rows from the top: the uppermost begins at 0.
    top = np.cumsum([0.0, *(high + rise for high in reversed(tall))])[: len(tall)][::-1]
    middle = top + np.array(tall) / 2
    boxes = np.column_stack([x[:count] - sizes[:, 0] / 2, middle[rows] - sizes[:, 1] / 2, sizes])
    lines = []
    for chain in chains:
        pieces = []
        for v in chain:
            level = int(vertices[v])
            low, high = float(top[level]) + tall[level], float(top[level])
            if v == chain[0]:
                low = float(boxes[v, 1])
            elif v == chain[-1]:
                high = float(boxes[v, 1] + boxes[v, 3])
            pieces.append(LatticeColumn(float(x[v]), low, high))
        lines.append(tuple(pieces))
    across = float((x + wide / 2).max())
    return LatticeLayout(
        boxes, rows, tuple(lines), across, float(sum(tall) + rise * (len(tall) - 1))
    )


def _rows(wide: NDArray[np.float64], covers: IntArray, width: float, gap: float) -> IntArray:
    """Give each box the lowest row above all it includes that has room for it."""
    count = len(wide)
    below: list[list[int]] = [[] for _ in range(count)]
    for lower, upper in covers.tolist():
        below[upper].append(lower)
    rank = np.zeros(count, np.int64)
    for _ in range(count + 1):
        higher = [max((rank[n] + 1 for n in lower), default=0) for lower in below]
        higher = np.array(higher, np.int64)
        if np.array_equal(higher, rank):
            break
        rank = higher
    else:
        raise ConfigError("the pairs of an order form a cycle; give its covering relation")
    rows = np.zeros(count, np.int64)
    used: list[float] = []
    for v in np.lexsort((np.arange(count), rank)).tolist():
        row = max((int(rows[n]) + 1 for n in below[v]), default=0)
        while row < len(used) and used[row] and used[row] + gap + wide[v] > width:
            row += 1
        while row >= len(used):
            used.append(0.0)
        used[row] += float(wide[v]) + (gap if used[row] else 0.0)
        rows[v] = row
    return rows


def _with_lanes(rows: IntArray, covers: IntArray) -> tuple[IntArray, list[list[int]]]:
    """Give each line a lane of its own in every row it passes.

    Returns:
        The row of each vertex (boxes, then lanes), and of each line its vertices from below.
    """
    places = rows.tolist()
    chains = []
    for lower, upper in covers.tolist():
        first = len(places)
        places += range(int(rows[lower]) + 1, int(rows[upper]))
        chains.append([lower, *range(first, len(places)), upper])
    return np.array(places, np.int64), chains


def _ordered(vertices: IntArray, chains: list[list[int]], count: int) -> list[list[int]]:
    """Order each row: by the mean place of the neighbours below, then above, and so on."""
    levels: list[list[int]] = [[] for _ in range(count)]
    for v, row in enumerate(vertices.tolist()):
        levels[row].append(v)
    pairs = [(a, b) for chain in chains for a, b in itertools.pairwise(chain)]
    near: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
    for a, b in pairs:
        near[0].setdefault(b, []).append(a)
        near[1].setdefault(a, []).append(b)
    place = np.zeros(len(vertices))

    def number() -> None:
        for level in levels:
            # A row is centred below and above the others, however many there are in it.
            place[level] = np.arange(len(level)) - (len(level) - 1) / 2

    number()
    best, fewest = [list(level) for level in levels], _crossings(vertices, pairs, place)
    for sweep in range(SWEEPS):
        side = near[sweep % 2]
        for level in levels if sweep % 2 == 0 else reversed(levels):
            wanted = {v: np.mean(place[side[v]]) if v in side else place[v] for v in level}
            level.sort(key=lambda v: (wanted[v], place[v]))
            number()
        crossings = _crossings(vertices, pairs, place)
        if crossings < fewest:
            best, fewest = [list(level) for level in levels], crossings
    return best


def _crossings(vertices: IntArray, pairs: list[tuple[int, int]], place: NDArray[np.float64]) -> int:
    """Count the pairs of lines that cross between two rows."""
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    total = 0
    for row in np.unique(vertices[ends[:, 0]]):
        low, high = place[ends[vertices[ends[:, 0]] == row]].T
        apart = (low[:, None] - low) * (high[:, None] - high)
        total += int((apart < 0).sum()) // 2
    return total


def _placed(
    levels: list[list[int]], chains: list[list[int]], wide: NDArray[np.float64], gap: float
) -> NDArray[np.float64]:
    """Return the middle of each vertex, as near to its neighbours' mean as the row allows."""
    near: list[list[int]] = [[] for _ in wide]
    for chain in chains:
        for a, b in itertools.pairwise(chain):
            near[a].append(b)
            near[b].append(a)
    x = np.zeros(len(wide))
    offsets = []
    for level in levels:
        own = wide[level]
        offsets.append(np.cumsum(own) - own / 2 + gap * np.arange(len(level)))
        x[level] = offsets[-1] - offsets[-1].mean()
    for sweep in range(SWEEPS):
        for n in range(len(levels)) if sweep % 2 == 0 else range(len(levels) - 1, -1, -1):
            level = levels[n]
            wanted = np.array([np.mean(x[near[v]]) if near[v] else x[v] for v in level])
            x[level] = _rising(wanted - offsets[n]) + offsets[n]
    return x


def _rising(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest values that never fall, by least squares (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, size = value, 1
        while blocks and blocks[-1][0] > mean:
            other, more = blocks.pop()
            mean, size = (mean * size + other * more) / (size + more), size + more
        blocks.append((mean, size))
    return np.concatenate([np.full(size, mean) for mean, size in blocks] or [np.empty(0)])
