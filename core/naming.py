"""Bookkeeping between the clusters of a window and the patterns its maps carry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["add_up", "patterns_of_parts"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOSTLY = 0.9
"""A part of the graph passes a pattern on if this share of its maps carries it."""


def add_up(
    clusters: IntArray,
    wanted: IntArray,
    labels: IntArray,
    known: IntArray,
    x: NDArray[np.float32],
) -> tuple[FloatArray, FloatArray]:
    """Add up the maps of clusters, and of each cluster those of each pattern.

    Args:
        clusters: ``(m,)`` cluster of each map.
        wanted: ``(k,)`` clusters to add up.
        labels: ``(m,)`` pattern that each map carries, one of ``known`` or −1.
        known: ``(l,)`` patterns, rising.
        x: ``(W, D)`` descriptors by place, W ≥ m.

    Returns:
        ``(k, D)`` and ``(k, l, D)``.
    """
    kinds, k = len(known) + 1, len(wanted)
    column = np.zeros(int(known.max(initial=-1)) + 2, np.int64)
    column[known + 1] = np.arange(1, kinds)
    row = np.full(int(clusters.max()) + 1, -1)
    row[wanted] = np.arange(k)
    # Of a cluster that is not wanted the code is negative, and no row of the product.
    code = row[clusters] * kinds + column[labels + 1]
    present = np.flatnonzero(np.bincount(code[code >= 0]))
    member = (code == present[:, None]).astype(np.float32)
    parts = np.zeros((k * kinds, x.shape[1]))
    parts[present] = member @ x[: len(code)]
    parts = parts.reshape(k, kinds, -1)
    return parts.sum(axis=1), parts[:, 1:]


def patterns_of_parts(
    parts: IntArray, clusters: IntArray, labels: IntArray, used: int
) -> list[int] | None:
    """Return the pattern that each part of the graph passes on to new maps.

    Args:
        parts: ``(m,)`` part of each map.
        clusters: ``(m,)`` cluster that its part was merged into.
        labels: ``(W,)`` pattern of each map by place, or −1, W ≥ m.
        used: patterns are below this number.

    Returns:
        Per part its pattern; None where a part is not clear, or one pattern lies in two clusters:
        then something is still to be decided.
    """
    wide = used + 1
    codes = parts * wide + labels[: len(parts)] + 1
    table = np.bincount(codes, minlength=(int(parts.max()) + 1) * wide).reshape(-1, wide)
    most = table.argmax(axis=1)
    if not ((table.max(axis=1) >= MOSTLY * table.sum(axis=1)) & (most > 0)).all():
        return None
    patterns = (most - 1).tolist()
    cluster_of = np.zeros(len(table), np.int64)
    cluster_of[parts] = clusters
    if len(set(zip(patterns, cluster_of.tolist(), strict=True))) > len(set(patterns)):
        return None
    return patterns
