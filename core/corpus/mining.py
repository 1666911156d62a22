"""Frequent closed sub-sequences of a corpus of temporal prototypes (paper §5, future work).

A pattern is a sequence of stages; a prototype *supports* it when it includes it in the sense of
:mod:`~facestage.core.corpus.relations`. A pattern is *closed* when no larger pattern has the same
support: the closed ones say everything about all frequent ones, without repetition.

The patterns form a tree, as in SPAM: every item (such as ``AU12_A``) is one bit per stage of
every prototype, so that extending a pattern is a bitwise "and" over the prototypes that support it.
Whether an item comes after the earliest match of a pattern follows from the last stage that holds
it, one small number per item and prototype.
A pattern never has more support than the one it grew from, so the tree is searched from the highest
support down, and a search that is cut short is still complete for all supports above its end.
Closedness is decided as in BIDE, without keeping candidates: a pattern is not
closed exactly when one more label can be put somewhere into it (before, between, after or inside
its stages) in every prototype that supports it. For each such place the positions it can take are
those after the earliest match of what comes before and before the latest match of what comes
after. The same test, confined to the earliest match of the whole pattern, tells that no pattern
grown from this one can be closed; then the branch is cut (BIDE's back scan). BIDE knows single
events; here the last stage may still grow, so inside it a label counts only where it accompanies
*every* occurrence, and if the label itself may yet join, the branch is kept for what holds it. Both
tests look at a few of the supporting prototypes first: a label that these do not share is not
common to all.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..types import LOST, NONE, StageLabels

__all__ = ["FrequentPattern", "Mined", "mine_closed"]

_WORD = 64
_ALL, _ONE = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1)
_PROBES = 32
"""Supporting prototypes looked at first when a label common to all is sought."""

Bits = NDArray[np.uint64]
Rows = NDArray[np.intp]


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


@dataclass(slots=True, eq=False)
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
    label_of = [""] * len(prototypes) if labels is None else list(labels)
    if len(label_of) != len(prototypes):
        raise ConfigError(f"{len(label_of)} labels were given for {len(prototypes)} prototypes")
    names = sorted(set(label_of))
    codes = np.array([names.index(label) for label in label_of], np.int64)
    totals = {name: int((codes == n).sum()) for n, name in enumerate(names)}
    index = _Index.of(prototypes, min_support)
    frontier = _Frontier()
    for node in index.roots():
        frontier.push(node)
    patterns: list[FrequentPattern] = []
    visited = work = 0
    while frontier and (budget is None or work < budget):
        node = frontier.pop()
        visited += 1
        work += len(node.stages)
        rows, children = _visit(node, index, min_support)
        for child in children:
            frontier.push(child)
        if rows is not None:
            stages = tuple(tuple(index.items[a] for a in stage) for stage in node.stages)
            by_label = tuple(np.bincount(codes[rows], minlength=len(names)).tolist())
            patterns.append(FrequentPattern(stages, node.support, by_label))
    if frontier:
        min_support = frontier.highest_support + 1  # the patterns not visited have less
    patterns.sort(key=lambda p: (-p.support, p.stages))
    return Mined(tuple(patterns), totals, min_support, not frontier, visited)


class _Frontier:
    """Patterns to be visited, the most supported first; of equal support the newest.

    The newest leads straight to what is closed.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, _Node]] = []
        self._serial = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, node: _Node) -> None:
        heapq.heappush(self._heap, (-node.support, -next(self._serial), node))

    def pop(self) -> _Node:
        return heapq.heappop(self._heap)[2]

    @property
    def highest_support(self) -> int:
        return self._heap[0][2].support


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    """The prototypes by item: where each is, for the A items that are frequent by themselves.

    ``bits`` is ``(A, N, words)``, one bit per stage; ``last`` ``(N, A)`` the number of the last
    stage that holds the item, counted from 1, or 0.
    """

    items: list[str]
    bits: Bits
    last: NDArray[np.unsignedinteger]

    @classmethod
    def of(cls, prototypes: Sequence[Sequence[StageLabels]], min_support: int) -> _Index:
        stages = [
            (row, place, stage)
            for row, prototype in enumerate(prototypes)
            for place, stage in enumerate(prototype)
            if stage not in (NONE, LOST)
        ]
        sizes = [len(stage) for *_, stage in stages]
        row = np.repeat(np.array([r for r, *_ in stages], np.int64), sizes)
        place = np.repeat(np.array([p for _, p, _ in stages], np.int64), sizes)
        names = sorted({label for *_, stage in stages for label in stage})
        number = {label: n for n, label in enumerate(names)}
        item = np.array([number[label] for *_, stage in stages for label in stage], np.int64)
        longest = max(map(len, prototypes), default=0)
        last = np.zeros((len(prototypes), len(names)), np.min_scalar_type(longest))
        np.maximum.at(last, (row, item), (place + 1).astype(last.dtype))
        frequent = np.count_nonzero(last, axis=0) >= min_support
        keep = frequent[item]
        item, row, place = (np.cumsum(frequent) - 1)[item[keep]], row[keep], place[keep]
        words = max(1, -(-longest // _WORD))
        bits = np.zeros((int(frequent.sum()), len(prototypes), words), np.uint64)
        bit = np.left_shift(_ONE, (place % _WORD).astype(np.uint64))
        np.bitwise_or.at(bits, (item, row, place // _WORD), bit)
        items = [label for label, often in zip(names, frequent, strict=True) if often]
        return cls(items, bits, np.ascontiguousarray(last[:, frequent]))

    def roots(self) -> Iterator[_Node]:
        """Yield the patterns of one item."""
        every_item = np.arange(len(self.items), dtype=np.int64)
        every_row = np.arange(len(self.last), dtype=np.int32)
        for a in range(len(self.items)):
            support = int(np.count_nonzero(self.last[:, a]))
            yield _Node(((a,),), support, every_row, every_item, every_item[a + 1 :])

    def hold(self, stage: tuple[int, ...], rows: Rows) -> Bits:
        """Return the positions of some prototypes that hold all items of a stage."""
        positions = self.bits[stage[0]].take(rows, axis=0)
        for a in stage[1:]:
            positions &= self.bits[a].take(rows, axis=0)
        return positions

    def later(
        self, items: NDArray[np.int64], rows: Rows, end: NDArray[np.integer], least: int
    ) -> tuple[NDArray[np.int64], list[int]]:
        """Return the items that enough prototypes have behind stage ``end``, and how many do."""
        present = self.last.take(rows, axis=0) > end.astype(self.last.dtype)[:, None]
        # Counted as a product, which takes a quarter of the time of a sum along this axis; exact
        # below 2^24.
        counts = (np.ones(len(rows), np.float32) @ present.astype(np.float32))[items]
        often = counts >= least
        return items[often], counts[often].astype(np.int64).tolist()

    def among(
        self, items: NDArray[np.int64], rows: Rows, places: Bits, least: int
    ) -> tuple[NDArray[np.int64], list[int]]:
        """Return the items that enough prototypes have at some places, and how many do."""
        counts = {
            a: int(np.count_nonzero(_any_bit(self.bits[a].take(rows, axis=0) & places)))
            for a in items.tolist()
        }
        often = [a for a, count in counts.items() if count >= least]
        return np.array(often, np.int64), [counts[a] for a in often]


def _visit(node: _Node, index: _Index, least: int) -> tuple[Rows | None, list[_Node]]:
    """Return the supporting prototypes of a closed pattern (else None), and what grows from it."""
    rows, stages = node.within_rows.astype(np.intp), node.stages
    match = _Match.of([index.hold(stage, rows) for stage in stages])
    support = np.flatnonzero(_any_bit(match.ends))
    rows, ends, end = rows[support], match.ends[support], _first_number(match.ends[support])
    # Most patterns have no label in common at any place: a few prototypes are enough to see it.
    probe = np.arange(min(_PROBES, len(rows))) * len(rows) // min(_PROBES, len(rows))
    few = match.take(support[probe])
    sample = index.bits[:, rows[probe]]
    closed = True
    if few.common(sample, stages).any():
        whole = match.take(support)
        # Confined to the earliest match of the whole pattern.
        if whole.holds_common(index, rows, stages, few.common(sample, stages, last=False), False):
            return None, []
        closed = not whole.holds_common(index, rows, stages, few.common(sample, stages), True)
    company = [
        a
        for a in np.flatnonzero(~_any_bit(ends[probe] & ~sample).any(axis=1)).tolist()
        if a not in stages[-1] and not _any_bit(ends & ~index.bits[a].take(rows, axis=0)).any()
    ]
    if company and company[0] < stages[-1][-1]:
        # It can join no more: items join a stage in ascending order, and it was passed over.
        return None, []

    after, after_counts = index.later(node.after, rows, end, least)
    within, within_counts = index.among(node.within, rows, ends, least)
    shared = rows.astype(np.int32)
    children = [
        _Node((*stages[:-1], (*stages[-1], a)), count, shared, after, within[n + 1 :])
        for n, (a, count) in enumerate(zip(within.tolist(), within_counts, strict=True))
        # Only with the item that accompanies this stage everywhere can anything be closed.
        if not company or a <= company[0]
    ]
    if not company:
        children += [
            _Node((*stages, (a,)), count, shared, after, after[n + 1 :])
            for n, (a, count) in enumerate(zip(after.tolist(), after_counts, strict=True))
        ]
    return rows if closed and not company else None, children


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """How a pattern of m stages lies in prototypes; arrays ``(n, words)``, one bit per stage.

    ``holds[i]`` are the positions that hold stage i, ``after[g]`` those behind the earliest match
    of the first g stages, ``ends`` those where the last stage can be matched.
    """

    holds: list[Bits]
    after: list[Bits]
    ends: Bits

    @classmethod
    def of(cls, holds: list[Bits]) -> _Match:
        after = [np.full_like(holds[0], _ALL)]
        for hold in holds:
            after.append(_behind_first(hold & after[-1]))
        return cls(holds, after, holds[-1] & after[-2])

    def take(self, rows: Rows) -> _Match:
        """Return the match in some of the prototypes."""
        return _Match(
            [hold.take(rows, axis=0) for hold in self.holds],
            [after.take(rows, axis=0) for after in self.after],
            self.ends.take(rows, axis=0),
        )

    def places(self, *, last: bool) -> list[Bits]:
        """Return where one more label may be: between the stages, then inside each.

        ``last``: also behind and inside the last stage; without it, before the end of the earliest
        match only.
        """
        size = len(self.holds)
        before = _before_last(self.holds, self.after[0] if last else ~self.after[-1])
        between = [self.after[g] & before[g] for g in range(size + last)]
        return between + [
            self.holds[i] & self.after[i] & before[i + 1] for i in range(size - (not last))
        ]

    def common(
        self, sample: Bits, stages: tuple[tuple[int, ...], ...], *, last: bool = True
    ) -> NDArray[np.bool_]:
        """Tell which labels ``(A, places)`` all these prototypes have at each place.

        ``sample`` holds their bits, ``(A, n, words)``.
        """
        places = np.stack(self.places(last=last))
        found = np.asarray(_any_bit(sample[:, None] & places).all(axis=2))
        inside = len(stages) + last
        for place in range(inside, len(places)):
            found[list(stages[place - inside]), place] = False
        return found

    def holds_common(
        self,
        index: _Index,
        rows: Rows,
        stages: tuple[tuple[int, ...], ...],
        candidates: NDArray[np.bool_],
        last: bool,
    ) -> bool:
        """Tell whether one of the candidates ``(A, places)`` is common to all prototypes."""
        if not candidates.any():
            return False
        places = self.places(last=last)
        return any(
            _any_bit(index.bits[a].take(rows, axis=0) & places[g]).all()
            for a, g in np.argwhere(candidates).tolist()
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


def _first_number(words: Bits) -> NDArray[np.int64]:
    """Return, per row, the number of the lowest bit set, counted from 1; all rows have one."""
    before = 0
    first = words[:, 0]
    if words.shape[1] > 1:
        word = (words != 0).argmax(axis=1)
        before, first = word * _WORD, np.take_along_axis(words, word[:, None], axis=1)[:, 0]
    lowest = first & (~first + _ONE)
    # A power of two is exact as a float, and its exponent is what is asked for.
    return before + np.frexp(lowest.astype(np.float64))[1]


def _behind_first(words: Bits) -> Bits:
    """Return, per row, all bits above the lowest one set; none where none is set."""
    # The lowest bit set and all below it; none set: all.
    above = ~(words ^ (words - _ONE))
    if words.shape[1] > 1:
        seen = np.logical_or.accumulate(words != 0, axis=1)
        above[:, 1:][seen[:, :-1]] = _ALL
    return above


def _ahead_of_last(words: Bits) -> Bits:
    """Return, per row, all bits below the highest one set; none where none is set."""
    # Without the bit below the highest, a float cannot be rounded up to the next power of two.
    highest = np.frexp((words & ~(words >> _ONE)).astype(np.float64))[1].astype(np.uint64)
    below = ((_ONE << highest) - _ONE) >> _ONE
    if words.shape[1] > 1:
        seen = np.logical_or.accumulate((words != 0)[:, ::-1], axis=1)[:, ::-1]
        below[:, :-1][seen[:, 1:]] = _ALL
    return below
