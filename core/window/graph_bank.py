"""Graphs and leading eigenvectors of all windows of a bank, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backend import to_numpy
from ..clustering.graph import ANY_MAP, degrees, update_graph
from ..clustering.subspace import Filter, exact_subspace, track_subspace
from ..config import WindowConfig

__all__ = ["GraphBank", "slot_index"]

ON_DEVICE = ("graph", "weakest", "vectors")
"""Arrays that live on the device."""


class GraphBank:
    """What is carried along of each window's graph.

    Args:
        config: thresholds and bounds.
        slots: windows there is room for.
        xp: array module, see :mod:`facestage.core.backend`.

    Attributes:
        graph, weakest: see :func:`facestage.core.clustering.graph.update_graph`.
        vectors: ``(slots, b, W)`` float32 leading eigenvectors of the normalised graphs, in rows.
        values: ``(slots, b)`` float32 their eigenvalues, descending; on the CPU, as what follows.
        since_exact: ``(slots,)`` updates since they were computed from scratch; −1 if never.
    """

    def __init__(self, config: WindowConfig, slots: int, xp: ModuleType) -> None:
        size, block = config.size, config.block
        self.config = config
        self._filter = Filter(config.degree, config.filter_low, config.residual)
        self._xp = xp
        self.graph = xp.zeros((slots, size, size), xp.float32)
        self.weakest = xp.full((slots, size), ANY_MAP, xp.float32)
        self.vectors = xp.zeros((slots, block, size), xp.float32)
        self.values: NDArray[np.float32] = np.zeros((slots, block), np.float32)
        self.since_exact = [-1] * slots

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {name: to_numpy(getattr(self, name)) for name in ON_DEVICE}
        del state["_xp"]
        return state

    def move_to(self, xp: ModuleType) -> None:
        """Take the arrays to the device of a module, after they were unpickled."""
        self._xp = xp
        for name in ON_DEVICE:
            setattr(self, name, xp.asarray(getattr(self, name)))

    def clear(self, slot: int) -> None:
        """Forget a window."""
        for name in ON_DEVICE:
            getattr(self, name)[slot] = 0
        self.weakest[slot], self.values[slot] = ANY_MAP, 0.0
        self.since_exact[slot] = -1

    def copy(self, smaller: GraphBank) -> None:
        """Take over the windows of a bank with fewer slots."""
        for name in (*ON_DEVICE, "values", "since_exact"):
            old = getattr(smaller, name)
            getattr(self, name)[: len(old)] = old

    def advance(
        self, slots: list[int], gram: Any, positions: Any, counts: list[int], n_parts: list[int]
    ) -> tuple[Any, Any, NDArray[np.float32]]:
        """Bring windows up to date with new maps.

        Args:
            slots: the windows.
            gram: ``(s, W, W)`` their cosines, see
                :func:`facestage.core.clustering.graph.update_graph`.
            positions: ``(s, c)`` of the new maps, some of them repeated.
            counts: ``(s,)`` maps in each window.
            n_parts: ``(s,)`` parts that each graph had.

        Returns:
            Graphs ``(s, W, W)``, eigenvectors ``(s, b, W)`` and eigenvalues ``(s, b)`` (NumPy).
        """
        at = slot_index(slots)
        graph, weakest = self.graph[at], self.weakest[at]
        update_graph(gram, graph, weakest, positions, self.config.knn)
        vectors, values = self._eigenpairs(
            slots, graph, self.vectors[at], self.values[at], positions, counts, n_parts
        )
        if not isinstance(at, slice):  # those were copies
            self.graph[at], self.weakest[at] = graph, weakest
        self.vectors[at], self.values[at] = vectors, values
        return graph, vectors, values

    def _eigenpairs(
        self,
        slots: list[int],
        graph: Any,
        vectors: Any,
        values: NDArray[np.float32],
        positions: Any,
        counts: list[int],
        n_parts: list[int],
    ) -> tuple[Any, NDArray[np.float32]]:
        """Carry the eigenpairs along; where that is new, due or fails, compute them exactly."""
        config = self.config
        degree = degrees(graph)
        wanted = [min(n + 1, config.block) for n in n_parts]
        age = [self.since_exact[slot] for slot in slots]
        carried = [a for a, n in enumerate(age) if 0 <= n < config.restart]
        if len(carried) == len(slots):
            vectors, values, worst = track_subspace(
                graph, degree, vectors, values, positions, wanted, self._filter
            )
        else:
            vectors, values, worst = vectors.copy(), values.copy(), [np.inf] * len(slots)
            if carried:
                vectors[carried], values[carried], residuals = track_subspace(
                    graph[carried],
                    degree[carried],
                    vectors[carried],
                    values[carried],
                    positions[carried],
                    [wanted[a] for a in carried],
                    self._filter,
                )
                for a, residual in zip(carried, residuals, strict=True):
                    worst[a] = residual
        for a, slot in enumerate(slots):
            self.since_exact[slot] = age[a] + 1
            if worst[a] <= config.restart_residual:
                continue
            m = counts[a]
            exact, level = exact_subspace(
                to_numpy(graph[a, :m, :m]), to_numpy(degree[a, :m]), config.block
            )
            vectors[a] = 0.0
            vectors[a, :, :m] = self._xp.asarray(exact)
            values[a] = level
            self.since_exact[slot] = 0
        return vectors, values


def slot_index(slots: Sequence[int]) -> slice | list[int]:
    """Return what takes rows of an array; a slice, and no copy, where they follow each other."""
    first, n = slots[0], len(slots)
    if n == 1 or list(slots) == list(range(first, first + n)):
        return slice(first, first + n)
    return list(slots)
