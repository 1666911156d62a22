"""Frequent closed sub-sequences of a corpus of temporal prototypes (paper §5, future work).

A pattern is a sequence of stages; a prototype *supports* it when it includes it in the sense of
:mod:`~facestage.core.relations`. A pattern is *closed* when no larger pattern has the same support:
the closed ones say everything about all frequent ones, without repetition.

The search is depth-first over patterns, as in SPAM: every item (a label such as ``AU12_A``) is one
bit per stage of every prototype, so that extending a pattern is a bitwise "and" over the prototypes
that support it. Closedness is decided as in BIDE, without keeping candidates: a pattern is not
closed exactly when one more label can be put somewhere into it (before, between, after or inside
its stages) in every prototype that supports it. For each such place the positions it can take are
those after the earliest match of what comes before and before the latest match of what comes
after. The same test, confined to the earliest match of the whole pattern, tells that no pattern
grown from this one can be closed; then the branch is cut (BIDE's back scan). BIDE knows single
events; here the last stage may still grow, so inside it a label counts only where it accompanies
*every* occurrence, and if the label itself may yet join, the branch is kept for what holds it.

``NONE`` and ``LOST`` are no prototypes of an AU: they are empty stages here and never part of a
pattern.

References:
    Wang & Han, "BIDE: efficient mining of frequent closed sequences", ICDE 2004.
    Ayres et al., "Sequential pattern mining using a bitmap representation" (SPAM), KDD 2002.
    Lift: Brin et al., "Dynamic itemset counting and implication rules", SIGMOD 1997.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .types import LOST, NONE, StageLabels

__all__ = ["FrequentPattern", "Mined", "mine_closed", "mine_within"]

_WORD = 64
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_PROBES = 16
"""Supporting prototypes looked at first when a label common to all is sought."""

Bits = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class FrequentPattern:
    """A closed pattern.

    Attributes:
        stages: its stages, in order; the labels of each are sorted.
        support: prototypes of the corpus that include it.
        by_label: the same for each label of the corpus, in the order of ``Mined.totals``.
    """

    stages: tuple[StageLabels, ...]
    support: int
    by_label: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mined:
    """What a search found.

    Attributes:
        patterns: the closed patterns, most supported first, then by their stages.
        totals: label → prototypes that carry it.
        min_support: least support of a pattern, prototypes.
        complete: whether the search ended by itself and not by its bound.
        visited: patterns looked at.
    """

    patterns: tuple[FrequentPattern, ...]
    totals: dict[str, int]
    min_support: int
    complete: bool
    visited: int

    def lift(self, pattern: FrequentPattern, label: str) -> float:
        """Return how many times more frequent the pattern is with a label than in the corpus.

        P(pattern | label) / P(pattern): 1 when they are independent, 0 when they never meet.
        """
        at = list(self.totals).index(label)
        everywhere = pattern.support / sum(self.totals.values())
        return pattern.by_label[at] / self.totals[label] / everywhere


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A frequent pattern, and what may be added to it.

    ``stages`` holds the numbers of its items; ``rows`` ``(n,)`` the prototypes that support it;
    ``after`` are items that may begin the next stage, ``within`` items that may join the last one.
    """

    stages: tuple[tuple[int, ...], ...]
    rows: NDArray[np.int64]
    after: NDArray[np.int64]
    within: NDArray[np.int64]


def mine_closed(
    prototypes: Sequence[Sequence[StageLabels]],
    *,
    min_support: int,
    labels: Sequence[str] | None = None,
    budget: int | None = None,
) -> Mined:
    """Find all closed patterns that at least ``min_support`` prototypes include.

    Each pattern visited costs O(A·n·L/64) word operations for A labels and n supporting
    prototypes of at most L stages; how many are visited depends on the data and grows fast as
    ``min_support`` falls.

    Args:
        prototypes: N temporal prototypes, one per sequence (equal ones count each).
        min_support: prototypes, at least 1.
        labels: label of each prototype, for support per label; one label for all if None.
        budget: stop after visiting this many patterns; ``complete`` says whether that happened.

    Raises:
        ConfigError: ``min_support`` is below 1, or there are not as many labels as prototypes.
    """
    if min_support < 1:
        raise ConfigError(
            f"the least support is {min_support}; it counts prototypes, give 1 or more"
        )
    given = [""] * len(prototypes) if labels is None else list(labels)
    if len(given) != len(prototypes):
        raise ConfigError(f"{len(given)} labels were given for {len(prototypes)} prototypes")
    names = sorted(set(given))
    codes = np.array([names.index(label) for label in given], np.int64)
    totals = {name: int((codes == n).sum()) for n, name in enumerate(names)}
    items, bits = _vertical(prototypes, min_support)
    found: list[FrequentPattern] = []
    every = np.arange(len(items), dtype=np.int64)
    stack = [
        _Node(((a,),), _rows_with(bits[a]), every, every[a + 1 :])
        for a in reversed(range(len(items)))
    ]
    visited = 0
    while stack:
        if budget is not None and visited >= budget:
            break
        visited += 1
        node = stack.pop()
        children, closed = _visit(node, bits, min_support)
        if closed:
            found.append(
                FrequentPattern(
                    tuple(tuple(items[a] for a in stage) for stage in node.stages),
                    len(node.rows),
                    tuple(np.bincount(codes[node.rows], minlength=len(names)).tolist()),
                )
            )
        stack += reversed(children)
    found.sort(key=lambda p: (-p.support, p.stages))
    return Mined(tuple(found), totals, min_support, not stack, visited)


def mine_within(
    prototypes: Sequence[Sequence[StageLabels]],
    *,
    min_support: int,
    labels: Sequence[str] | None = None,
    budget: int = 20_000,
) -> Mined:
    """Mine with the least support asked for, or the next that can be afforded.

    Where the search would visit more than ``budget`` patterns, the least support is raised by half
    until it does not. The result says which one it was.

    Raises:
        ConfigError: as :func:`mine_closed`.
    """
    while True:
        mined = mine_closed(prototypes, min_support=min_support, labels=labels, budget=budget)
        if mined.complete:
            return mined
        min_support += max(1, min_support // 2)


def _vertical(
    prototypes: Sequence[Sequence[StageLabels]], min_support: int
) -> tuple[list[str], Bits]:
    """Return the frequent labels, sorted, and ``(A, N, words)`` one bit per stage for each."""
    longest = max(map(len, prototypes), default=0)
    words = max(1, -(-longest // _WORD))
    rows: dict[str, dict[int, int]] = {}
    for row, prototype in enumerate(prototypes):
        for place, stage in enumerate(prototype):
            if stage in (NONE, LOST):
                continue
            for label in stage:
                of_label = rows.setdefault(label, {})
                of_label[row] = of_label.get(row, 0) | 1 << place
    items = sorted(label for label, of_label in rows.items() if len(of_label) >= min_support)
    bits = np.zeros((len(items), len(prototypes), words), np.uint64)
    for a, label in enumerate(items):
        for row, mask in rows[label].items():
            for word in range(words):
                bits[a, row, word] = (mask >> (_WORD * word)) & int(_ALL)
    return items, bits


def _visit(node: _Node, bits: Bits, least: int) -> tuple[list[_Node], bool]:
    """Return the frequent patterns that grow from one, and whether it is closed."""
    rows, stages = node.rows, node.stages
    everywhere = np.full((len(rows), bits.shape[2]), _ALL, np.uint64)
    holds = [np.bitwise_and.reduce(bits[list(stage)][:, rows], axis=0) for stage in stages]
    # after[g]: behind the earliest match of the first g stages.
    after = [everywhere]
    for hold in holds:
        after.append(_behind_first(hold & after[-1]))
    ends = holds[-1] & after[-2]
    search = _Common(bits, rows)
    # Confined to the earliest match of the whole pattern.
    first = _before_last(holds, ~after[-1])
    if search.any_place(stages, holds, after, first, last=False):
        return [], False
    company = search.always(ends, stages[-1])
    if company.size and company[0] < stages[-1][-1]:
        # It can join no more: items join a stage in ascending order, and it was passed over.
        return [], False

    next_stage, next_rows = _frequent(bits, node.after, rows, after[-1], least)
    joined, joined_rows = _frequent(bits, node.within, rows, ends, least)
    whole = len(rows)
    closed = (
        not company.size
        and all(len(r) < whole for r in (*next_rows, *joined_rows))
        and not search.any_place(stages, holds, after, _before_last(holds, everywhere), last=True)
    )
    if company.size:
        # Only with the item that accompanies this stage everywhere can anything be closed.
        up_to = joined <= company[0]
        joined_rows = [kept for kept, stays in zip(joined_rows, up_to, strict=True) if stays]
    children = [
        _Node((*stages[:-1], (*stages[-1], int(a))), kept, next_stage, joined[n + 1 :])
        for n, (a, kept) in enumerate(zip(joined[: len(joined_rows)], joined_rows, strict=True))
    ]
    if company.size:
        return children, closed
    children += [
        _Node((*stages, (int(a),)), kept, next_stage, next_stage[n + 1 :])
        for n, (a, kept) in enumerate(zip(next_stage, next_rows, strict=True))
    ]
    return children, closed


def _frequent(
    bits: Bits, items: NDArray[np.int64], rows: NDArray[np.int64], window: Bits, least: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return the items that enough rows have inside the window, and these rows for each."""
    kept: list[int] = []
    found: list[NDArray[np.int64]] = []
    for a in items.tolist():
        hit = _any_bit(bits[a][rows] & window)
        if np.count_nonzero(hit) >= least:
            kept.append(a)
            found.append(rows[hit])
    return np.array(kept, np.int64), found


class _Common:
    """Seek labels that all supporting prototypes have at some place of a pattern."""

    def __init__(self, bits: Bits, rows: NDArray[np.int64]) -> None:
        self._bits, self._rows = bits, rows
        # Most labels fail on a few prototypes already: those are asked first.
        self._probe = np.unique(np.linspace(0, len(rows) - 1, _PROBES).astype(np.int64))
        self._sample = bits[:, rows[self._probe]]

    def any_in(self, window: Bits, besides: tuple[int, ...] = ()) -> bool:
        """Tell whether some label is inside the window of every prototype."""
        hits = np.atleast_1d(_any_bit(self._sample & window[self._probe]).all(axis=1))
        hits[list(besides)] = False
        return any(_any_bit(self._bits[a][self._rows] & window).all() for a in np.flatnonzero(hits))

    def always(self, window: Bits, besides: tuple[int, ...]) -> NDArray[np.int64]:
        """Return the other labels that are at every position of the window of every prototype."""
        hits = np.atleast_1d(~_any_bit(window[self._probe] & ~self._sample).any(axis=1))
        hits[list(besides)] = False
        return np.array(
            [
                a
                for a in np.flatnonzero(hits)
                if not _any_bit(window & ~self._bits[a][self._rows]).any()
            ],
            np.int64,
        )

    def any_place(
        self,
        stages: tuple[tuple[int, ...], ...],
        holds: list[Bits],
        after: list[Bits],
        before: list[Bits],
        *,
        last: bool,
    ) -> bool:
        """Tell whether some label can be added at one place in every prototype.

        ``last``: also inside the last stage and behind it.
        """
        size = len(stages)
        return any(self.any_in(after[g] & before[g]) for g in range(size + last)) or any(
            self.any_in(holds[i] & after[i] & before[i + 1], stages[i])
            for i in range(size - (not last))
        )


def _before_last(holds: list[Bits], end: Bits) -> list[Bits]:
    """Return for each g the positions before the latest match, within ``end``, of stages g …"""
    before = [end]
    for hold in reversed(holds):
        before.append(_ahead_of_last(hold & before[-1]))
    return before[::-1]


def _rows_with(item: Bits) -> NDArray[np.int64]:
    return np.flatnonzero(_any_bit(item)).astype(np.int64)


def _any_bit(words: Bits) -> NDArray[np.bool_]:
    """Tell for each row ``(…, words)`` whether it has a bit set."""
    # One word is the usual case, and a comparison is much faster than a reduction.
    return np.asarray(words[..., 0] != 0 if words.shape[-1] == 1 else words.any(axis=-1))


def _behind_first(words: Bits) -> Bits:
    """Return, per row, all bits above the lowest one set; none where none is set."""
    low = words & (~words + np.uint64(1))
    above = ~(low | (low - np.uint64(1)))
    if words.shape[1] > 1:
        seen = np.logical_or.accumulate(words != 0, axis=1)
        above[:, 1:][seen[:, :-1]] = _ALL
    return above


def _ahead_of_last(words: Bits) -> Bits:
    """Return, per row, all bits below the highest one set; none where none is set."""
    below = words.copy()
    for shift in (1, 2, 4, 8, 16, 32):
        below |= below >> np.uint64(shift)
    below >>= np.uint64(1)
    if words.shape[1] > 1:
        seen = np.logical_or.accumulate((words != 0)[:, ::-1], axis=1)[:, ::-1]
        below[:, :-1][seen[:, 1:]] = _ALL
    return below
