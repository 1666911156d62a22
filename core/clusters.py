"""k-means on the entries of leading eigenvectors, for many windows at once.

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
    """Cluster maps by their entries in the first k eigenvectors.

    Args:
        vectors: ``(s, b, W)`` in rows; the maps of a window lie in its first columns.
        k: ``(s,)`` clusters wanted, 2 … b.
        before: ``(s, W)`` last labels; −1 for maps that had none.
        fresh: ``(s,)`` windows that must start from scratch.
        counts: ``(s,)`` maps in each window.

    Returns:
        ``(s, W)`` labels 0 … k − 1 (NumPy; 0 where there is no map).
    """
    xp = array_namespace(vectors)
    most, size = int(k.max()), vectors.shape[2]
    points = vectors[:, :most]
    alike = bool((k == most).all())
    if not alike:
        points = points * xp.asarray(np.arange(most) < k[:, None])[:, :, None]
    points = points / xp.sqrt(xp.einsum("sij,sij->sj", points, points) + 1e-30)[:, None]
    wanted = None if alike else xp.asarray(np.arange(most) < k[:, None])
    held = None if int(counts.min()) == size else np.arange(size) < counts[:, None]
    found = before
    follow = np.flatnonzero(~fresh)
    if len(follow):
        every = len(follow) == len(k)
        labels, full = _lloyd(
            points if every else points[follow],
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
            points[again],
            _far_apart(points[again], k[again], mine),
            None if wanted is None else wanted[again],
            mine,
            FRESH_ROUNDS,
        )
        found = found.copy()
        found[again] = labels
    return np.maximum(found, 0)


def _lloyd(
    points: Any, labels: IntArray, wanted: Any, held: NDArray[np.bool_] | None, rounds: int
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Run k-means on points ``(s, k, W)`` from labels (−1: none yet).

    Returns:
        ``(s, W)`` labels, and ``(s,)`` whether every wanted cluster kept some points.
    """
    xp = array_namespace(points)
    clusters = np.arange(points.shape[1])[:, None]
    there = points.transpose(0, 2, 1)
    full = np.ones(len(points), bool)
    missing = None if wanted is None else ~to_numpy(wanted)
    for _ in range(rounds):
        member = (labels[:, None] == clusters).astype(np.float32)
        sizes = member.sum(axis=2)
        kept = sizes > 0
        if missing is not None:
            kept |= missing
        if not kept.all():
            full &= kept.all(axis=1)
        np.maximum(sizes, 1.0, out=sizes)
        centres = xp.asarray(member) @ there
        centres /= xp.asarray(sizes)[:, :, None]
        nearness = centres @ points
        nearness -= 0.5 * xp.einsum("sij,sij->si", centres, centres)[:, :, None]
        if wanted is not None:
            nearness = xp.where(wanted[:, :, None], nearness, -xp.inf)
        old, labels = labels, to_numpy(nearness.argmax(axis=1))
        if held is not None:
            labels = np.where(held, labels, -1)
        if ((old == labels) | (old < 0)).all():
            break
    return labels, full


def _far_apart(points: Any, k: IntArray, held: NDArray[np.bool_]) -> IntArray:
    """Label the points by the nearest of k that were chosen one by one, each far from all."""
    xp = array_namespace(points)
    there = xp.asarray(held)
    at = xp.arange(len(points))
    chosen = points[:, :, 0]
    distance = ((points - chosen[:, :, None]) ** 2).sum(axis=1)
    labels = xp.zeros(distance.shape, xp.int64)
    for cluster in range(1, int(k.max())):
        farthest = xp.where(there, distance, -1.0).argmax(axis=1)
        chosen = points[at, :, farthest]
        newer = ((points - chosen[:, :, None]) ** 2).sum(axis=1)
        closer = (newer < distance) & xp.asarray(cluster < k)[:, None]
        labels = xp.where(closer, cluster, labels)
        distance = xp.where(closer, newer, distance)
    return to_numpy(xp.where(there, labels, -1))
