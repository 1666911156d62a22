"""Nearest-neighbour graphs of many small windows, kept up to date as maps are replaced.

When a map of a window is replaced, few rows of its graph change: that of the new map, those that
counted the old one among their neighbours, and those to which the new one is nearer than their
farthest neighbour. All windows of a batch go through each step together (NumPy or CuPy).
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any

from .backend import array_namespace

__all__ = ["NO_MAP", "degree_scale", "normalised_graph", "update_graph"]

NO_MAP = -2.0
"""Stands for the cosine of a map with itself and with a place that holds no map; below any cosine,
so that neither becomes a neighbour."""
LEAST_DEGREE = 0.5
"""Weight of a single one-sided edge: no map that has a neighbour has less."""


def update_graph(
    gram: Any, near: Any, graph: Any, weakest: Any, places: Any, neighbours: int
) -> None:
    """Bring graphs up to date with replaced maps, in place.

    A map is connected with all maps as similar as its k-th most similar one: duplicates keep each
    other, in whatever order they came.

    Args:
        gram: ``(s, W, W)`` float32 cosines by place, :data:`NO_MAP` on the diagonal and where
            there is no map.
        near: ``(s, W, W)`` bool B, row i marks the neighbours of map i; written to.
        graph: ``(s, W, W)`` float32 A = (B + Bᵀ)/2; written to.
        weakest: ``(s, W)`` float32 cosine of each map with its k-th neighbour (:data:`NO_MAP` with
            fewer maps, infinite where there is no map); written to.
        places: ``(s, c)`` places of the maps that are new; a place may be named twice.
        neighbours: k.
    """
    xp = array_namespace(gram)
    window = xp.arange(len(gram))[:, None]
    rows = (gram[window, places] > weakest[:, None, :]).any(axis=1)
    rows |= near[window, :, places].any(axis=1)
    rows[window, places] = True
    at, row = xp.nonzero(rows)
    cosines = gram[at, row]
    last = gram.shape[1] - neighbours
    best = xp.partition(cosines, last, axis=1)[:, last]
    marked = cosines >= best[:, None]
    marked &= cosines > NO_MAP
    near[at, row] = marked
    weakest[at, row] = best
    weights = marked.astype(xp.float32)
    weights += near[at, :, row]
    weights *= 0.5
    graph[at, row] = weights
    graph[at, :, row] = weights


@lru_cache(maxsize=4)
def _ones(count: int, xp: ModuleType) -> Any:
    return xp.ones(count, xp.float32)


def degree_scale(graph: Any) -> Any:
    """Return D^−½ of graphs, finite for a map without any neighbour (whose row is zero anyway).

    Args:
        graph: ``(s, W, W)`` float32, symmetric.

    Returns:
        ``(s, W)`` float32.
    """
    xp = array_namespace(graph)
    # Weights are halves: whichever way they are added up, the sum is exact.
    degree = graph @ _ones(graph.shape[2], xp)
    return xp.maximum(degree, LEAST_DEGREE) ** -0.5


def normalised_graph(graph: Any, scale: Any) -> Any:
    """Return M = D^−½ A D^−½, whose leading eigenvectors are the lowest of the Laplacian I − M.

    Args:
        graph: ``(s, W, W)`` float32 A, symmetric.
        scale: ``(s, W)`` D^−½, see :func:`degree_scale`.

    Returns:
        ``(s, W, W)`` float32; rows without any neighbour are zero.
    """
    return graph * scale[:, :, None] * scale[:, None, :]
