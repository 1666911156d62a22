"""The ring buffer of a window: when its maps came, and what is known of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_PART", "MapRing"]

IntArray = NDArray[np.int64]

NO_PART = -1
"""Part of a map that the graph has not seen yet."""


class MapRing:
    """The maps of one window; a map's position is its number modulo the size.

    Args:
        size: most maps held.

    Attributes:
        seen: maps taken in so far.
        position: of the newest map.
        run: number of the unbroken run that is going on.
        parts: ``(W,)`` part of the graph that each map lies in, or :data:`NO_PART`.
        runs: ``(W,)`` number of its unbroken run.
        frames: ``(W,)`` its frame.
        confident: ``(W,)`` the AU was confidently present, and its relevance passed the mass gate.
        outlier: ``(W,)`` it resembled no prototype.
        steps: ``(W,)`` change of the similarity to the prototype from the map before it, NaN if
            unknown.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.seen = 0
        self.position = 0
        self.run = 0
        self.parts: IntArray = np.full(size, NO_PART)
        self.runs: IntArray = np.zeros(size, np.int64)
        self.frames: IntArray = np.zeros(size, np.int64)
        self.confident: NDArray[np.bool_] = np.zeros(size, bool)
        self.outlier: NDArray[np.bool_] = np.zeros(size, bool)
        self.steps: NDArray[np.float64] = np.full(size, np.nan)

    def __len__(self) -> int:
        """Number of maps held."""
        return min(self.seen, self.size)

    @property
    def next_position(self) -> int:
        """Position that the next map takes; in a full window, of the oldest map."""
        return self.seen % self.size

    def append(self, frame: int, confident: bool) -> None:
        """Give the newest map the position of the oldest."""
        self.position = position = self.seen % self.size
        self.parts[position] = NO_PART
        self.runs[position], self.frames[position] = self.run, frame
        self.confident[position], self.outlier[position] = confident, False
        self.steps[position] = np.nan
        self.seen += 1

    def order(self) -> IntArray:
        """Return ``(m,)`` positions from the oldest map to the newest."""
        first = max(self.seen - self.size, 0)
        return np.arange(first, self.seen) % self.size

    def age(self) -> IntArray:
        """Return the order in time of the maps by position ``(m,)``, rising; the oldest of a full
        window has 0."""
        return (np.arange(len(self)) - self.seen) % self.size

    def groups(self, order: IntArray) -> IntArray:
        """Return which maps may be compared to learn what noise does ``(m,)``.

        These are maps of one run and one part of the graph: what differs by more than noise must
        not pass for it, whether it has a letter already or not. An outlier stands alone.

        Args:
            order: positions, see :meth:`order`.
        """
        groups = self.runs[order] * (self.size + 1) + self.parts[order]
        return np.where(self.outlier[order], -2 - order, groups)
