"""Nearest-neighbour graphs of many small windows, kept up to date as maps are replaced.

When a map of a window is replaced, few rows of its graph change: that of the new map, those that
counted the old one among their neighbours, and those to which the new one is nearer than their
farthest neighbour. All windows of a batch go through each step together (NumPy or CuPy).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import array_namespace, is_numpy

__all__ = ["ANY_MAP", "NO_MAP", "degrees", "flat_rows", "update_graph"]

NO_MAP = -2.0
"""Stands for the cosine of a map with itself and with a place that holds no map; below any cosine,
so that neither becomes a neighbour."""
ANY_MAP = -1.5
"""Below any cosine and above :data:`NO_MAP`."""
LEAST_DEGREE = 0.5
"""Weight of a single one-sided edge: no map that has a neighbour has less."""


def flat_rows(places: Any, size: int) -> Any:
    """Return where rows lie in ``(s·W, W)`` matrices: ``(s·c,)`` of places ``(s, c)``."""
    if len(places) > 1:
        places = places + array_namespace(places).arange(0, len(places) * size, size)[:, None]
    return places.reshape(-1)


def update_graph(gram: Any, graph: Any, weakest: Any, places: Any, neighbours: int) -> None:
    """Bring graphs up to date with replaced maps, in place.

    A map is connected with all maps as similar as its k-th most similar one: duplicates keep each
    other, in whatever order they came.

    Args:
        gram: ``(s, W, W)`` float32 cosines by place, symmetric to the last bit, :data:`NO_MAP` on
            the diagonal and where there is no map.
        graph: ``(s, W, W)`` float32 A = (B + Bᵀ)/2 where row i of B marks the neighbours of map i;
            written to.
        weakest: ``(s, W)`` float32 cosine of each map with its k-th neighbour (:data:`ANY_MAP`
            with fewer maps or where there is none); written to.
        places: ``(s, c)`` places of the maps that are new; a place may be named twice.
        neighbours: k.
    """
    xp = array_namespace(gram)
    count, size = weakest.shape
    new = flat_rows(places, size)
    cosines, edges = gram.reshape(-1, size), graph.reshape(-1, size)
    # Rows to which a new map is nearer than their farthest neighbour, and those tied to an old one.
    if len(new) == 1:
        changed = gram[0, new[0]] > weakest[0]
        changed |= edges[new[0]] > 0.0
    else:
        changed = cosines[new].reshape(count, -1, size) > weakest[:, None]
        changed |= edges[new].reshape(changed.shape) > 0.0
        changed = changed.any(axis=1).reshape(-1)
    changed[new] = True
    (row,) = changed.nonzero()
    cosines = cosines[row]
    best = xp.sort(cosines, axis=1)[:, size - neighbours]
    xp.maximum(best, ANY_MAP, out=best)
    weakest.reshape(-1)[row] = best
    # Cosines are the same both ways: a row also shows which others count its map as a neighbour.
    at: Any = 0
    if count == 1:
        others = weakest
    else:
        at = row // size
        others, row = weakest[at], row % size
    weights = (cosines >= best[:, None]).astype(xp.float32)
    weights += cosines >= others
    weights *= 0.5
    if count == 1 or not is_numpy(xp):
        graph[at, row] = weights
        graph.transpose(0, 2, 1)[at, row] = weights
        return
    # On a CPU columns take long to write, and few of their entries are new.
    (different,) = (graph[at, row] != weights).reshape(-1).nonzero()
    graph[at, row] = weights
    which = different // size
    graph[at[which], different % size, row[which]] = weights.reshape(-1)[different]


@lru_cache(maxsize=4)
def _ones(count: int) -> NDArray[np.float32]:
    return np.ones(count, np.float32)


def degrees(graph: Any) -> Any:
    """Return the sums D of the weights of each map, above zero for a map without any neighbour.

    Args:
        graph: ``(s, W, W)`` float32, symmetric.

    Returns:
        ``(s, W)`` float32.
    """
    xp = array_namespace(graph)
    # Weights are halves: whichever way they are added up, the sum is exact.
    # Ones of another GPU would not do, so they are not kept there.
    degree = graph @ _ones(graph.shape[2]) if is_numpy(xp) else graph.sum(axis=2)
    return xp.maximum(degree, LEAST_DEGREE, out=degree)
