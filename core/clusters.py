"""k-means on the rows of leading eigenvectors, for many windows at once.

The clusters of a window mostly go on as they were. So k-means starts from the labels of the last
time, which also spares it the question how eigenvectors have turned since; only a window whose
number of clusters changed starts from scratch.

Reference:
    Ng, Jordan & Weiss, "On spectral clustering", NeurIPS 2001 (rows scaled to unit length).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backend import array_namespace, to_numpy

__all__ = ["cluster_rows"]

IntArray = NDArray[np.int64]

ROUNDS = 3
"""Most rounds from the last labels."""
FRESH_ROUNDS = 12
"""Most rounds from scratch."""


def cluster_rows(
    vectors: Any, k: IntArray, before: IntArray, fresh: NDArray[np.bool_], counts: IntArray
) -> IntArray:
    """Cluster the rows of the first k eigenvectors.

    Args:
        vectors: ``(s, W, b)``; the maps of a window lie in its first rows.
        k: ``(s,)`` clusters wanted, 2 … b.
        before: ``(s, W)`` last labels; −1 for maps that had none.
        fresh: ``(s,)`` windows that must start from scratch.
        counts: ``(s,)`` maps in each window.

    Returns:
        ``(s, W)`` labels 0 … k − 1 (NumPy; 0 where there is no map).
    """
    xp = array_namespace(vectors)
    most, size = int(k.max()), vectors.shape[1]
    rows = vectors[:, :, :most]
    alike = bool((k == most).all())
    if not alike:
        rows = rows * xp.asarray(np.arange(most) < k[:, None])[:, None, :]
    rows = rows / xp.sqrt(xp.einsum("sij,sij->si", rows, rows) + 1e-30)[:, :, None]
    wanted = None if alike else xp.asarray(np.arange(most) < k[:, None])
    held = None if int(counts.min()) == size else np.arange(size) < counts[:, None]
    found = before
    follow = np.flatnonzero(~fresh)
    if len(follow):
        every = len(follow) == len(k)
        labels, full = _lloyd(
            rows if every else rows[follow],
            before if every else before[follow],
            wanted if every or wanted is None else wanted[follow],
            None if held is None else held[follow],
            ROUNDS,
        )
        found = before.copy()
        found[follow] = labels
        fresh = fresh.copy()
        fresh[follow[~full]] = True
    again = np.flatnonzero(fresh)
    if len(again):
        mine = np.ones((len(again), size), bool) if held is None else held[again]
        labels, _ = _lloyd(
            rows[again],
            _far_apart(rows[again], k[again], mine),
            None if wanted is None else wanted[again],
            mine,
            FRESH_ROUNDS,
        )
        found = found.copy()
        found[again] = labels
    return np.maximum(found, 0)


def _lloyd(
    rows: Any, labels: IntArray, wanted: Any, held: NDArray[np.bool_] | None, rounds: int
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Run k-means from labels (−1: none yet).

    Returns:
        ``(s, W)`` labels, and ``(s,)`` whether every wanted cluster kept some rows.
    """
    xp = array_namespace(rows)
    clusters = np.arange(rows.shape[2])
    full = np.ones(len(rows), bool)
    missing = None if wanted is None else ~to_numpy(wanted)
    for _ in range(rounds):
        member = (labels[:, :, None] == clusters).astype(np.float32)
        sizes = member.sum(axis=1)
        kept = sizes > 0
        if missing is not None:
            kept |= missing
        if not kept.all():
            full &= kept.all(axis=1)
        sizes = np.maximum(sizes, 1.0)
        centres = xp.asarray(member.transpose(0, 2, 1)) @ rows
        centres /= xp.asarray(sizes)[:, :, None]
        nearness = rows @ centres.transpose(0, 2, 1)
        nearness -= 0.5 * xp.einsum("sij,sij->si", centres, centres)[:, None, :]
        if wanted is not None:
            nearness = xp.where(wanted[:, None, :], nearness, -xp.inf)
        old, labels = labels, to_numpy(nearness.argmax(axis=2))
        if held is not None:
            labels = np.where(held, labels, -1)
        if ((old == labels) | (old < 0)).all():
            break
    return labels, full


def _far_apart(rows: Any, k: IntArray, held: NDArray[np.bool_]) -> IntArray:
    """Label the rows by the nearest of k rows that were chosen one by one, each far from all."""
    xp = array_namespace(rows)
    there = xp.asarray(held)
    at = xp.arange(len(rows))
    chosen = rows[:, 0]
    distance = ((rows - chosen[:, None]) ** 2).sum(axis=2)
    labels = xp.zeros(rows.shape[:2], xp.int64)
    for cluster in range(1, int(k.max())):
        farthest = xp.where(there, distance, -1.0).argmax(axis=1)
        chosen = rows[at, farthest]
        newer = ((rows - chosen[:, None]) ** 2).sum(axis=2)
        closer = (newer < distance) & xp.asarray(cluster < k)[:, None]
        labels = xp.where(closer, cluster, labels)
        distance = xp.where(closer, newer, distance)
    return to_numpy(xp.where(there, labels, -1))
