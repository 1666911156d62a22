"""Frequent closed sub-sequences of a corpus of temporal prototypes (paper §5, future work).

A pattern is a sequence of stages; a prototype *supports* it when it includes it in the sense of
:mod:`~facestage.core.relations`. A pattern is *closed* when no larger pattern has the same support:
the closed ones say everything about all frequent ones, without repetition.

The patterns form a tree, as in SPAM: every item (such as ``AU12_A``) is one bit per stage of
every prototype, so that extending a pattern is a bitwise "and" over the prototypes that support it.
A pattern never has more support than the one it grew from, so the tree is searched from the highest
support down, and a search that is cut short is still complete for all supports above its end.
Closedness is decided as in BIDE, without keeping candidates: a pattern is not
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

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .types import LOST, NONE, StageLabels

__all__ = ["FrequentPattern", "Mined", "mine_closed"]

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
        min_support: every closed pattern with at least this support is there. Where the search was
            cut short that is more than what was asked for, and of those with less only some are.
        complete: whether it was not cut short.
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

    ``stages`` holds the numbers of its items; ``within_rows`` ``(n,)`` the prototypes that support
    the pattern it grew from (shared with its siblings, which saves most of the memory);
    ``after`` are items that may begin the next stage, ``within`` items that may join the last one.
    """

    stages: tuple[tuple[int, ...], ...]
    support: int
    within_rows: NDArray[np.int32]
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
        budget: stop after visiting patterns of this many stages in all (time goes with stages:
            few long prototypes can share patterns of hundreds); the result is then complete
            from a higher support on, which it states.

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
    everyone = np.arange(len(given), dtype=np.int32)
    serial = itertools.count()
    heap: list[tuple[int, int, _Node]] = []

    def push(node: _Node) -> None:
        # Of equal support the newest first: that leads straight to what is closed.
        heapq.heappush(heap, (-node.support, -next(serial), node))

    for a in range(len(items)):
        count = int(np.count_nonzero(_any_bit(bits[a])))
        push(_Node(((a,),), count, everyone, every, every[a + 1 :]))
    visited = work = 0
    while heap and (budget is None or work < budget):
        node = heapq.heappop(heap)[2]
        visited += 1
        work += len(node.stages)
        rows, children = _visit(node, bits, min_support)
        for child in children:
            push(child)
        if rows is not None:
            found.append(
                FrequentPattern(
                    tuple(tuple(items[a] for a in stage) for stage in node.stages),
                    node.support,
                    tuple(np.bincount(codes[rows], minlength=len(names)).tolist()),
                )
            )
    if heap:
        min_support = heap[0][2].support + 1  # what is left has less
    found.sort(key=lambda p: (-p.support, p.stages))
    return Mined(tuple(found), totals, min_support, not heap, visited)


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


def _visit(node: _Node, bits: Bits, least: int) -> tuple[NDArray[np.int32] | None, list[_Node]]:
    """Return the supporting prototypes of a closed pattern (else None), and what grows from it."""
    rows, stages = node.within_rows, node.stages
    holds = [np.bitwise_and.reduce(bits[list(stage)][:, rows], axis=0) for stage in stages]
    # after[g]: behind the earliest match of the first g stages.
    after = [np.full_like(holds[0], _ALL)]
    for hold in holds:
        after.append(_behind_first(hold & after[-1]))
    ends = holds[-1] & after[-2]
    support = _any_bit(ends)
    if not support.all():
        rows, ends = rows[support], ends[support]
        holds, after = [h[support] for h in holds], [a[support] for a in after]
    search = _Common(bits, rows)
    # Confined to the earliest match of the whole pattern.
    first = _before_last(holds, ~after[-1])
    if search.any_place(stages, holds, after, first, last=False):
        return None, []
    company = search.always(ends, stages[-1])
    if company.size and company[0] < stages[-1][-1]:
        # It can join no more: items join a stage in ascending order, and it was passed over.
        return None, []

    next_stage, next_counts = _frequent(bits, node.after, rows, after[-1], least)
    joined, joined_counts = _frequent(bits, node.within, rows, ends, least)
    closed = (
        not company.size
        and max(next_counts + joined_counts, default=0) < len(rows)
        and not search.any_place(stages, holds, after, _before_last(holds, after[0]), last=True)
    )
    children = [
        _Node((*stages[:-1], (*stages[-1], a)), count, rows, next_stage, joined[n + 1 :])
        for n, (a, count) in enumerate(zip(joined.tolist(), joined_counts, strict=True))
        # Only with the item that accompanies this stage everywhere can anything be closed.
        if not company.size or a <= company[0]
    ]
    if not company.size:
        children += [
            _Node((*stages, (a,)), count, rows, next_stage, next_stage[n + 1 :])
            for n, (a, count) in enumerate(zip(next_stage.tolist(), next_counts, strict=True))
        ]
    return rows if closed else None, children


def _frequent(
    bits: Bits, items: NDArray[np.int64], rows: NDArray[np.int32], window: Bits, least: int
) -> tuple[NDArray[np.int64], list[int]]:
    """Return the items that enough rows have inside the window, and how many rows have each."""
    counts = {a: int(np.count_nonzero(_any_bit(bits[a][rows] & window))) for a in items.tolist()}
    kept = [a for a, count in counts.items() if count >= least]
    return np.array(kept, np.int64), [counts[a] for a in kept]


class _Common:
    """Seek labels that all supporting prototypes have at some place of a pattern."""

    def __init__(self, bits: Bits, rows: NDArray[np.int32]) -> None:
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
