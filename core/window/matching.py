"""Clusters of a window cut by the patterns their maps carry, and which pattern each cluster is.

A piece is what one part of the graph has in common with one pattern. A window has a handful of
pieces, and all that is asked of clusters and patterns (sums, sizes, cosines) adds up from theirs:
arrays are touched a few times, the rest is arithmetic with a few numbers in plain Python.

References:
    Kuhn, "The Hungarian method for the assignment problem", 1955 (matching of clusters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ..config import WindowConfig
from .prototypes import PrototypeMemory, clean
from .ring import UNDECIDED, MapRing

__all__ = [
    "Pieces",
    "cluster_cosines",
    "cut",
    "give",
    "large_clusters",
    "match_clusters",
    "match_pieces",
    "patterns_of_parts",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOSTLY = 0.9
"""A part of the graph passes a pattern on if this share of its maps carries it."""
NEVER = -10.0
"""Score of a pair that must not be matched."""


@dataclass(slots=True)
class Pieces:
    """Pieces of the maps of a window.

    Attributes:
        of: ``(m,)`` piece of each map by place.
        part, label, size: ``(p,)`` of each piece its part, the pattern that its maps carry (−1:
            none), and how many they are.
        sums: ``(p, D)`` float32 sum of its maps.
        products: ``(p + L, p + L)`` inner products of these sums and, after them, of the sums
            behind the prototypes (rows of patterns without maps are zero).
    """

    of: IntArray
    part: list[int]
    label: list[int]
    size: list[int]
    sums: NDArray[np.float32]
    products: list[list[float]] = field(default_factory=list)

    def multiply(self, totals: FloatArray) -> None:
        """Take the inner products anew, with prototypes of these sums ``(L, D)``."""
        both = np.concatenate((self.sums, totals))
        self.products = (both @ both.T).tolist()

    def carried(self, members: list[int], known: list[int]) -> FloatArray:
        """Add up what some pieces have of each pattern ``(l, D)``."""
        found = np.zeros((len(known), self.sums.shape[1]))
        for piece in members:
            if self.label[piece] != UNDECIDED:
                found[known.index(self.label[piece])] += self.sums[piece]
        return found


def cut(parts: IntArray, labels: IntArray, x: NDArray[np.float32], totals: FloatArray) -> Pieces:
    """Cut parts by the patterns that their maps carry.

    Args:
        parts: ``(m,)`` non-negative part of each map.
        labels: ``(m,)`` pattern of each, below L, or −1.
        x: ``(m, D)`` descriptors.
        totals: ``(L, D)`` sums of the maps behind each prototype.
    """
    wide = len(totals) + 1
    codes = parts * wide
    codes += labels
    codes += 1
    count = np.bincount(codes).tolist()
    present = [code for code, n in enumerate(count) if n]
    member = codes == np.array(present)[:, None]
    pieces = Pieces(
        member.argmax(axis=0),
        [code // wide for code in present],
        [code % wide - 1 for code in present],
        [count[code] for code in present],
        member.astype(np.float32) @ x,
    )
    pieces.multiply(totals)
    return pieces


def give(pieces: Pieces, labels: list[int], ring: MapRing, memory: PrototypeMemory) -> None:
    """Give the maps of each piece to a pattern (−1: to none)."""
    if labels == pieces.label:
        return
    for piece, (old, new) in enumerate(zip(pieces.label, labels, strict=True)):
        if old == new:
            continue
        total, count = pieces.sums[piece], pieces.size[piece]
        if old != UNDECIDED:
            memory.remove(old, total, count)
        if new != UNDECIDED:
            memory.add(new, total, count)
    ring.labels[: len(pieces.of)] = np.array(labels)[pieces.of]


def large_clusters(pieces: Pieces, clusters: Sequence[int], least: int) -> dict[int, list[int]]:
    """Return clusters of at least so many maps, in order, each with its pieces.

    Args:
        pieces: of the window.
        clusters: ``(p,)`` cluster of each piece.
        least: maps.
    """
    members: dict[int, list[int]] = {}
    for piece, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(piece)
    return {
        cluster: mine
        for cluster, mine in sorted(members.items())
        if sum([pieces.size[piece] for piece in mine]) >= least
    }


def match_pieces(
    pieces: Pieces, members: Sequence[list[int]], memory: PrototypeMemory, energies: FloatArray
) -> tuple[list[int], list[list[int]], list[int | None]]:
    """Find the patterns that clusters of the window go on with.

    Args:
        pieces: of the window.
        members: pieces of each of k clusters.
        memory: prototypes, refreshed.
        energies: noise left in means, see :meth:`PrototypeMemory.refresh`.

    Returns:
        The l known patterns, how many maps of each cluster carry each of them (``k × l``), and per
        cluster its pattern, or None.
    """
    known = [row for row, length in enumerate(memory.lengths.tolist()) if length < np.inf]
    at = {row: b for b, row in enumerate(known)}
    everywhere = [0] * len(known)
    for label, size in zip(pieces.label, pieces.size, strict=True):
        if label != UNDECIDED:
            everywhere[at[label]] += size
    held = [[0] * len(known) for _ in members]
    for mine, line in zip(members, held, strict=True):
        for piece in mine:
            if pieces.label[piece] != UNDECIDED:
                line[at[pieces.label[piece]]] += pieces.size[piece]
    sizes = [sum([pieces.size[piece] for piece in mine]) for mine in members]
    cosine = cluster_cosines(pieces, members, sizes, known, held, memory, energies)
    found = match_clusters(cosine, held, sizes, everywhere, memory.config)
    return known, held, [None if b is None else known[b] for b in found]


def cluster_cosines(
    pieces: Pieces,
    members: Sequence[list[int]],
    sizes: Sequence[int],
    known: Sequence[int],
    held: Sequence[Sequence[int]],
    memory: PrototypeMemory,
    energies: FloatArray,
) -> list[list[float]]:
    """Return the clean cosines ``k × l`` of clusters with prototypes without the cluster's maps.

    Args:
        pieces: of the window.
        members: pieces of each of the k clusters.
        sizes: how many maps each has.
        known: the l patterns.
        held: ``k × l`` maps of the cluster that carry the pattern.
        memory: prototypes, those that ``pieces`` was cut with.
        energies: noise left in means, see :meth:`PrototypeMemory.refresh`.
    """
    products, labels = pieces.products, pieces.label
    totals = [products[len(labels) + row] for row in known]
    squares = [total[len(labels) + row] for row, total in zip(known, totals, strict=True)]
    # Clean lengths of the sums behind the prototypes as they are.
    reach = [memory.count(row) * float(memory.lengths[row]) for row in known]
    found = []
    for mine, size, own_counts in zip(members, sizes, held, strict=True):
        own_square = sum([products[p][q] for p in mine for q in mine])
        length = size * clean(own_square / size**2, float(energies[size]))
        line = []
        for b, own_count in enumerate(own_counts):
            total = totals[b]
            dot = sum([total[piece] for piece in mine])
            count = memory.without(known[b], own_count) if own_count else None
            if count is None:
                line.append(dot / (length * reach[b]))
                continue
            square = squares[b]
            own = [piece for piece in mine if labels[piece] == known[b]]
            for piece in own:
                part = products[piece]
                square += sum([part[other] for other in own]) - 2.0 * total[piece]
                dot -= sum([part[other] for other in mine])
            energy = float(energies[min(round(count), len(energies) - 1)])
            line.append(dot / (length * count * clean(square / count**2, energy)))
        found.append(line)
    return found


def match_clusters(
    cosine: Sequence[Sequence[float]],
    held: Sequence[Sequence[int]],
    sizes: Sequence[int],
    everywhere: Sequence[int],
    config: WindowConfig,
) -> list[int | None]:
    """Match clusters of the window with known patterns, one to one.

    The score of a pair is the clean cosine of the cluster's mean with the prototype plus a bonus
    for what they have in common already: the share of the cluster's maps that carry the pattern,
    and the share of the pattern's maps in the window that lie in the cluster. The best total wins
    (Kuhn–Munkres).

    Args:
        cosine: ``k × l`` of clusters with patterns, see :func:`cluster_cosines`.
        held: ``k × l`` maps of the cluster that carry the pattern.
        sizes: ``(k,)`` maps of each cluster.
        everywhere: ``(l,)`` maps of the window that carry the pattern.
        config: thresholds.

    Returns:
        Per cluster the position of its pattern among the l, or None.
    """
    result: list[int | None] = [None] * len(cosine)
    if not everywhere:
        return result
    scores, best = [], []
    match, keep = config.match, config.keep_cosine
    for line, mine, size in zip(cosine, held, sizes, strict=True):
        score = [NEVER] * len(line)
        for b, value in enumerate(line):
            share = mine[b] / size
            if value >= match or (value >= keep and share >= config.keep_overlap):
                hold = mine[b] / max(everywhere[b], 1)
                score[b] = value + config.overlap_bonus * (share + hold)
        top = max(score)
        best.append(score.index(top) if top > NEVER else None)
        scores.append(score)
    wished = [b for b in best if b is not None]
    if len(set(wished)) == len(wished):
        # Each gets the pattern it fits best: no other matching can be better.
        result = best
    else:
        for a, b in zip(*linear_sum_assignment(scores, maximize=True), strict=True):
            if scores[a][b] > NEVER:
                result[a] = int(b)
    for a, line in enumerate(cosine):
        top = max(line)
        if result[a] is None and top >= config.split:
            result[a] = line.index(top)
    return result


def patterns_of_parts(
    pieces: Pieces, parts: IntArray, clusters: Sequence[int], labels: Sequence[int]
) -> tuple[list[int], bool]:
    """Return the pattern that each part of the graph passes on to new maps.

    Args:
        pieces: of the window.
        parts: ``(m,)`` part of each map.
        clusters: ``(p,)`` cluster that each piece was merged into.
        labels: ``(p,)`` pattern that its maps carry now, or −1.

    Returns:
        Per part its pattern, empty where a part has none; and whether all is clear: no part is
        mixed, and no pattern lies in two clusters. Otherwise something is still to be decided.
    """
    carried: list[dict[int, int]] = [{} for _ in range(pieces.part[-1] + 1)]
    for part, label, size in zip(pieces.part, labels, pieces.size, strict=True):
        carried[part][label] = carried[part].get(label, 0) + size
    passed, pure = [], True
    for counts in carried:
        most = max(counts, key=counts.__getitem__, default=UNDECIDED)
        if most == UNDECIDED:
            return [], False
        passed.append(most)
        pure &= counts[most] >= MOSTLY * sum(counts.values())
    # Should a part lie in two clusters, its last map says in which it counts.
    last = np.zeros(len(passed), np.int64)
    last[parts] = pieces.of
    lie_in = [clusters[piece] for piece in last.tolist()]
    return passed, pure and len(set(zip(passed, lie_in, strict=True))) == len(set(passed))
