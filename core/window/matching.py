"""Label assignment: which prototype each cluster of a window continues.

Everything here is a pure function of the blocks of a window
(:mod:`facestage.core.window.contingency`) and of the prototypes.

References:
    Kuhn, "The Hungarian method for the assignment problem", 1955 (matching of clusters).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ..config import WindowConfig
from .contingency import NO_PROTOTYPE, Blocks
from .noise import corrected_length
from .prototypes import PrototypeMemory

__all__ = [
    "Contingency",
    "Matching",
    "best_matching",
    "cluster_cosines",
    "contingency",
    "match_clusters",
    "prototypes_of_parts",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NEVER = -10.0
"""Score of a pair that must not be matched: no allowed score is as low."""


class Contingency(NamedTuple):
    """How k clusters of a window and l prototypes overlap.

    Attributes:
        members: ``(k,)`` blocks of each cluster.
        sizes: ``(k,)`` maps of each cluster.
        known: ``(l,)`` the prototypes that have maps.
        counts: ``k × l`` maps of the cluster that carry the prototype.
        totals: ``(l,)`` maps of the window that carry the prototype.
    """

    members: Sequence[list[int]]
    sizes: list[int]
    known: list[int]
    counts: list[list[int]]
    totals: list[int]


class Matching(NamedTuple):
    """Which prototypes the clusters of a window continue.

    Attributes:
        table: how clusters and prototypes overlap.
        prototypes: ``(k,)`` prototype of each cluster, or :data:`NO_PROTOTYPE`.
    """

    table: Contingency
    prototypes: list[int]


def match_clusters(
    blocks: Blocks, members: Sequence[list[int]], memory: PrototypeMemory, energies: FloatArray
) -> Matching:
    """Find the prototypes that clusters of the window continue.

    Args:
        blocks: of the window.
        members: ``(k,)`` blocks of each cluster.
        memory: prototypes, refreshed.
        energies: noise left in means, see :meth:`PrototypeMemory.refresh`.
    """
    known = [i for i, length in enumerate(memory.lengths.tolist()) if length < np.inf]
    table = contingency(blocks, members, known)
    cosines = cluster_cosines(blocks, table, memory, energies)
    columns = best_matching(cosines, table, memory.config)
    return Matching(table, [NO_PROTOTYPE if b is None else known[b] for b in columns])


def contingency(blocks: Blocks, members: Sequence[list[int]], known: list[int]) -> Contingency:
    """Count what clusters, given by their blocks, and known prototypes have in common."""
    column = {prototype: b for b, prototype in enumerate(known)}
    totals = [0] * len(known)
    for label, size in zip(blocks.label, blocks.size, strict=True):
        if label != NO_PROTOTYPE:
            totals[column[label]] += size
    counts = [[0] * len(known) for _ in members]
    for cluster, line in zip(members, counts, strict=True):
        for block in cluster:
            if blocks.label[block] != NO_PROTOTYPE:
                line[column[blocks.label[block]]] += blocks.size[block]
    sizes = [sum([blocks.size[block] for block in cluster]) for cluster in members]
    return Contingency(members, sizes, known, counts, totals)


def cluster_cosines(
    blocks: Blocks, table: Contingency, memory: PrototypeMemory, energies: FloatArray
) -> list[list[float]]:
    """Return the corrected cosines ``k × l`` of clusters with prototypes without their own maps.

    Args:
        blocks: of the window.
        table: its clusters and the known prototypes.
        memory: prototypes, those that the blocks' products were taken with.
        energies: noise left in means, see :meth:`PrototypeMemory.refresh`.
    """
    products, labels, known = blocks.products, blocks.label, table.known
    totals = [products[len(labels) + prototype] for prototype in known]
    squares = [total[len(labels) + i] for i, total in zip(known, totals, strict=True)]
    # Corrected lengths of the sums behind the prototypes as they are.
    reach = [memory.count(prototype) * float(memory.lengths[prototype]) for prototype in known]
    cosines = []
    for cluster, size, counts in zip(table.members, table.sizes, table.counts, strict=True):
        cluster_square = sum([products[p][q] for p in cluster for q in cluster])
        length = size * corrected_length(cluster_square / size**2, float(energies[size]))
        line = []
        for b, overlap in enumerate(counts):
            total = totals[b]
            dot = sum([total[block] for block in cluster])
            count = memory.count_without(known[b], overlap) if overlap else None
            if count is None:
                line.append(dot / (length * reach[b]))
                continue
            square = squares[b]
            shared = [block for block in cluster if labels[block] == known[b]]
            for block in shared:
                product = products[block]
                square += sum([product[other] for other in shared]) - 2.0 * total[block]
                dot -= sum([product[other] for other in cluster])
            energy = float(energies[min(round(count), len(energies) - 1)])
            line.append(dot / (length * count * corrected_length(square / count**2, energy)))
        cosines.append(line)
    return cosines


def best_matching(
    cosines: Sequence[Sequence[float]], table: Contingency, config: WindowConfig
) -> list[int | None]:
    """Match clusters of the window with known prototypes, one to one, for the best total score.

    A cluster that is left over and as similar to a prototype as two clusters that are one
    continues it, too.

    Args:
        cosines: ``k × l`` of clusters with prototypes, see :func:`cluster_cosines`.
        table: what they have in common.
        config: thresholds.

    Returns:
        ``(k,)`` column of the cluster's prototype in the table, or None.
    """
    matched: list[int | None] = [None] * len(cosines)
    if not table.known:
        return matched
    scores = _scores(cosines, table, config)
    wishes = [_best_column(line) for line in scores]
    wished = [b for b in wishes if b is not None]
    if len(set(wished)) == len(wished):
        # Each gets the prototype it fits best: no other matching can be better.
        matched = wishes
    else:
        for a, b in zip(*linear_sum_assignment(scores, maximize=True), strict=True):
            if scores[a][b] > NEVER:
                matched[a] = int(b)
    for a, line in enumerate(cosines):
        top = max(line)
        if matched[a] is None and top >= config.split:
            matched[a] = line.index(top)
    return matched


def _best_column(score: list[float]) -> int | None:
    """Return the column of the largest score; None where no prototype fits."""
    largest = max(score)
    return score.index(largest) if largest > NEVER else None


def _scores(
    cosines: Sequence[Sequence[float]], table: Contingency, config: WindowConfig
) -> list[list[float]]:
    """Return the scores ``k × l`` of pairs; :data:`NEVER` where they do not fit at all.

    The score is the cosine plus a bonus for what they have in common already: the share of the
    cluster's maps that carry the prototype, and the share of the prototype's maps in the window
    that lie in the cluster.
    """
    match, keep_cosine = config.match, config.keep_cosine
    scores = []
    for line, counts, size in zip(cosines, table.counts, table.sizes, strict=True):
        score = [NEVER] * len(line)
        for b, cosine in enumerate(line):
            of_cluster = counts[b] / size
            if cosine >= match or (cosine >= keep_cosine and of_cluster >= config.keep_overlap):
                of_prototype = counts[b] / max(table.totals[b], 1)
                score[b] = cosine + config.overlap_bonus * (of_cluster + of_prototype)
        scores.append(score)
    return scores


def prototypes_of_parts(
    blocks: Blocks,
    parts: IntArray,
    clusters: Sequence[int],
    assignment: Sequence[int],
    purity: float,
) -> tuple[list[int], bool]:
    """Return the prototype that new maps inherit from each part of the graph.

    Args:
        blocks: of the window.
        parts: ``(m,)`` part of each map.
        clusters: ``(p,)`` cluster that each block was merged into.
        assignment: ``(p,)`` prototype that its maps carry now, or :data:`NO_PROTOTYPE`.
        purity: share of a part's maps that must carry its prototype, or the part is mixed.

    Returns:
        The prototype of each part, empty where a part has none; and whether all is clear: no part
        is mixed, and no prototype lies in two clusters. Otherwise something is still to be decided.
    """
    carried: list[dict[int, int]] = [{} for _ in range(blocks.part[-1] + 1)]
    for part, prototype, size in zip(blocks.part, assignment, blocks.size, strict=True):
        carried[part][prototype] = carried[part].get(prototype, 0) + size
    inherited, pure = [], True
    for counts in carried:
        most = max(counts, key=counts.__getitem__, default=NO_PROTOTYPE)
        if most == NO_PROTOTYPE:
            return [], False
        inherited.append(most)
        pure &= counts[most] >= purity * sum(counts.values())
    # Should a part lie in two clusters, its last map says in which it counts.
    last_block = np.zeros(len(inherited), np.int64)
    last_block[parts] = blocks.of_map
    cluster_of_part = [clusters[block] for block in last_block.tolist()]
    pairs = set(zip(inherited, cluster_of_part, strict=True))
    return inherited, pure and len(pairs) == len(set(inherited))
