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

from ..backend import array_namespace, to_numpy

__all__ = ["cluster_rows"]

IntArray = NDArray[np.int64]

ROUNDS = 3
"""Most rounds from the last labels."""
FRESH_ROUNDS = 12
"""Most rounds from scratch."""
FAR = 1e3
"""A cluster that is not wanted is farther than this from every point."""


def cluster_rows(
    vectors: Any, k: list[int], before: IntArray, fresh: list[bool], counts: IntArray | None
) -> IntArray:
    """Cluster maps by their entries in the first k eigenvectors.

    Args:
        vectors: ``(s, b, W)`` in rows; the maps of a window lie in its first columns.
        k: ``(s,)`` clusters wanted, 2 … b.
        before: ``(s, W)`` last labels; −1 for maps that had none.
        fresh: ``(s,)`` windows that must start from scratch.
        counts: ``(s,)`` maps in each window; None if all are full.

    Returns:
        ``(s, W)`` labels 0 … k − 1 (NumPy; 0 where there is no map).
    """
    xp = array_namespace(vectors)
    most, size = max(k), vectors.shape[2]
    points, wanted = vectors[:, :most], None
    if min(k) < most:
        wanted = np.arange(most) < np.array(k)[:, None]
        points = points * xp.asarray(wanted)[:, :, None]
    # A last row of ones counts the points of a cluster, and carries what its centre is lifted by.
    lifted = xp.ones((len(points), most + 1, size), xp.float32)
    length = xp.sqrt(xp.einsum("sij,sij->sj", points, points) + 1e-30)
    xp.divide(points, length[:, None], out=lifted[:, :most])
    occupied = None if counts is None else np.arange(size) < counts[:, None]
    restarted = [row for row, new in enumerate(fresh) if new]
    labels = before
    if len(restarted) < len(k):
        labels, full = _lloyd(lifted, before, wanted, occupied, ROUNDS)
        restarted = [row for row, new in enumerate(fresh) if new or not full[row]]
    if restarted:
        places = np.ones((len(restarted), size), bool) if occupied is None else occupied[restarted]
        start = _far_apart(lifted[restarted, :most], np.array(k)[restarted], places)
        clusters = None if wanted is None else wanted[restarted]
        labels[restarted] = _lloyd(lifted[restarted], start, clusters, places, FRESH_ROUNDS)[0]
    return np.maximum(labels, 0)


def _lloyd(
    lifted: Any,
    labels: IntArray,
    wanted: NDArray[np.bool_] | None,
    occupied: NDArray[np.bool_] | None,
    rounds: int,
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Run k-means on points ``(s, k, W)`` with a last row of ones, from labels (−1: none yet).

    Returns:
        ``(s, W)`` labels, and ``(s,)`` whether every wanted cluster kept some points.
    """
    xp = array_namespace(lifted)
    k = lifted.shape[1] - 1
    clusters = np.arange(k)[:, None]
    columns = lifted.transpose(0, 2, 1)
    full = np.ones(len(lifted), bool)
    for _ in range(rounds):
        member = (labels[:, None] == clusters).astype(np.float32)
        centres = xp.asarray(member) @ columns
        sizes = to_numpy(centres[:, :, k])
        filled = sizes > 0 if wanted is None else (sizes > 0) | ~wanted
        if not filled.all():
            full &= filled.all(axis=1)
        centres /= xp.maximum(centres[:, :, k:], 1.0)
        # The nearest centre c is that of the largest p·c − |c|²/2.
        centres[:, :, k] = 0.0
        centres[:, :, k] = xp.einsum("sij,sij->si", centres, centres) * -0.5
        if wanted is not None:
            centres[:, :, k] -= xp.asarray(~wanted * np.float32(FAR))
        nearest = to_numpy((columns @ centres.transpose(0, 2, 1)).argmax(axis=2))
        old, labels = labels, nearest if occupied is None else np.where(occupied, nearest, -1)
        if ((old == labels) | (old < 0)).all():
            break
    return labels, full


def _far_apart(points: Any, k: IntArray, occupied: NDArray[np.bool_]) -> IntArray:
    """Label the points by the nearest of k that were chosen one by one, each far from all."""
    xp = array_namespace(points)
    inside = xp.asarray(occupied)
    windows = xp.arange(len(points))
    chosen = points[:, :, 0]
    distance = ((points - chosen[:, :, None]) ** 2).sum(axis=1)
    labels = xp.zeros(distance.shape, xp.int64)
    for cluster in range(1, int(k.max())):
        farthest = xp.where(inside, distance, -1.0).argmax(axis=1)
        chosen = points[windows, :, farthest]
        newer = ((points - chosen[:, :, None]) ** 2).sum(axis=1)
        closer = (newer < distance) & xp.asarray(cluster < k)[:, None]
        labels = xp.where(closer, cluster, labels)
        distance = xp.where(closer, newer, distance)
    return to_numpy(xp.where(inside, labels, -1))
