"""Relations between temporal prototypes: identity and inclusion (paper §4).

The paper calls two temporal prototypes identical "if they share the exact same sequence of
transitions into the exact same stages", and proposes to relax that by reading stages as sets::

    (AU01_A, AU02_A) → (AU02_A)  ⊂  (AU01_A, AU02_A) → (AU02_A, AU25_A)

Here P is *included* in Q when there is a **strictly increasing** map f from the stages of P to the
stages of Q with every stage Pᵢ a subset of Q_f(i). The paper leaves open whether f may send two
stages to one. It may not, for two reasons. A temporal prototype is a succession of changes, and
with a merely non-decreasing f the change (AU02) → (AU01, AU02) would be found in the single,
unchanging stage (AU01, AU02). And only the strict relation is an order: with the other, that pair
and many more would include each other without being equal, and there would be no lattice to draw.
It is also the sub-sequence relation of sequential pattern mining (Agrawal & Srikant 1995).

``NONE`` is the empty set: nothing is asked of the stage it is mapped to, but a stage it needs.
``LOST`` is no statement about the face, so it is an element of its own and included only in
``LOST``.

References:
    Agrawal & Srikant, "Mining sequential patterns", ICDE 1995.
    Aho, Garey & Ullman, "The transitive reduction of a directed graph", SIAM J. Comput. 1(2), 1972.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..types import NONE, StageLabels

__all__ = ["InclusionOrder", "TemporalPrototype", "includes", "inclusion_order", "stage_sets"]

TemporalPrototype = tuple[StageLabels, ...]
"""Labels of the stages, in order; neighbours differ."""

_WORD = 64


def stage_sets(prototype: Iterable[StageLabels]) -> tuple[frozenset[str], ...]:
    """Return the stages as sets; ``NONE`` is the empty one.

    >>> [sorted(stage) for stage in stage_sets([("NONE",), ("AU01_A", "AU02_A")])]
    [[], ['AU01_A', 'AU02_A']]
    """
    return tuple(frozenset() if stage == NONE else frozenset(stage) for stage in prototype)


def includes(outer: Sequence[StageLabels], inner: Sequence[StageLabels]) -> bool:
    """Tell whether ``inner`` is included in ``outer`` (equal ones include each other).

    Each stage of ``inner`` takes the earliest stage of ``outer`` that holds it. That never spoils
    a later choice, so one pass decides: O(|outer|) comparisons of sets.

    >>> includes([("AU01_A", "AU02_A"), ("AU02_A", "AU25_A")], [("AU01_A", "AU02_A"), ("AU02_A",)])
    True
    """
    wanted = stage_sets(inner)
    found = 0
    for stage in stage_sets(outer):
        if found == len(wanted):
            break
        found += wanted[found] <= stage
    return found == len(wanted)


@dataclass(frozen=True, slots=True, eq=False)
class InclusionOrder:
    """Which prototypes of a corpus are included in which.

    Attributes:
        included: ``(N,)`` int64, number of other prototypes included in each.
        including: ``(N,)`` int64, number of other prototypes that include each.
        covers: ``(E, 2)`` int64 pairs (i, j), ascending: i is included in j and nothing lies
            between. All inclusions follow from these (the transitive reduction).
        support: ``(N, G)`` int64, sequences of each group that show a prototype or include it.
    """

    included: NDArray[np.int64]
    including: NDArray[np.int64]
    covers: NDArray[np.int64]
    support: NDArray[np.int64]


def inclusion_order(
    prototypes: Sequence[Sequence[StageLabels]], counts: NDArray[np.int64] | None = None
) -> InclusionOrder:
    """Find all inclusions between distinct prototypes, and those that generate the others.

    Pairs are compared N at a time with stages as bit sets: O(N²·L·A/64) word operations for N
    prototypes of at most L stages over A labels, most of them saved by comparing lengths and
    unions of stages first. The reduction takes one union of bit rows per inclusion.

    Args:
        prototypes: N temporal prototypes, no two of them the same.
        counts: ``(N, G)`` how many sequences of each group (such as a label) show exactly each;
            one sequence of one group if None.

    Raises:
        ConfigError: two of them are the same; count them first. Or ``counts`` are not theirs.
    """
    count = len(prototypes)
    counts = np.ones((count, 1), np.int64) if counts is None else counts
    if len(counts) != count:
        raise ConfigError(f"{count} prototypes came with {len(counts)} counts; give a row of each")
    if len({tuple(p) for p in prototypes}) != count:
        raise ConfigError("the prototypes to relate must be distinct; count equal ones first")
    below = [0] * count
    including = np.zeros(count, np.int64)
    support = counts.astype(np.int64)
    bits, lengths = _bits(prototypes)
    unions = np.bitwise_or.reduce(bits, axis=1)
    for inner in range(count):
        may = (lengths >= lengths[inner]) & ~np.any(unions[inner] & ~unions, axis=1)
        may[inner] = False
        candidates = np.flatnonzero(may)
        needs = bits[inner, : lengths[inner]]
        outer = candidates[_match(needs, bits[candidates], lengths[candidates])]
        including[inner] = outer.size
        support[inner] += counts[outer].sum(axis=0)
        for index in outer.tolist():
            below[index] |= 1 << inner
    covers: list[tuple[int, int]] = []
    for outer, rest in enumerate(below):
        indirect = 0
        for inner in _members(rest):
            indirect |= below[inner]
        covers += [(inner, outer) for inner in _members(rest & ~indirect)]
    return InclusionOrder(
        np.array([row.bit_count() for row in below], np.int64),
        including,
        np.array(sorted(covers), np.int64).reshape(-1, 2),
        support,
    )


def _bits(
    prototypes: Sequence[Sequence[StageLabels]],
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return ``(N, L, words)`` bit sets of the stages, padded, and the ``(N,)`` lengths."""
    sets = [stage_sets(p) for p in prototypes]
    number = {label: n for n, label in enumerate(sorted({x for p in sets for s in p for x in s}))}
    longest = max(map(len, sets), default=0)
    words = max(1, -(-len(number) // _WORD))
    bits = np.zeros((len(sets), longest, words), np.uint64)
    for row, prototype in enumerate(sets):
        for place, stage in enumerate(prototype):
            for label in stage:
                word, bit = divmod(number[label], _WORD)
                bits[row, place, word] |= np.uint64(1 << bit)
    return bits, np.array([len(p) for p in sets], np.int64)


def _match(
    needs: NDArray[np.uint64], stages: NDArray[np.uint64], lengths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Match one prototype ``(m, words)`` greedily into many ``(C, L, words)`` at once."""
    found = np.zeros(len(stages), np.int64)
    wanted = len(needs)
    for place in range(int(lengths.max(initial=0))):
        need = needs[np.minimum(found, wanted - 1)]
        holds = ~np.any(need & ~stages[:, place], axis=1)
        found += holds & (place < lengths) & (found < wanted)
    return found == wanted


def _members(row: int) -> Iterable[int]:
    """Yield the numbers of the bits that are set, highest first."""
    while row:
        top = row.bit_length() - 1
        yield top
        row ^= 1 << top
