"""What a sliding window knows of its maps, by their places in the ring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNDECIDED", "MapRing"]

IntArray = NDArray[np.int64]

UNDECIDED = -1
"""Label of a map that belongs to no pattern (yet)."""


class MapRing:
    """The maps of one window; a map's place is its number modulo the size.

    Args:
        size: most maps held.

    Attributes:
        seen: maps taken in so far.
        place: of the newest map.
        run: number of the unbroken run that is going on.
        labels: ``(W,)`` pattern of each map, or −1.
        clusters: ``(W,)`` part of the graph it lies in, or −1.
        runs: ``(W,)`` number of its unbroken run.
        frames: ``(W,)`` its frame.
        firm: ``(W,)`` the AU was clearly present.
        odd: ``(W,)`` it resembled no prototype.
        steps: ``(W,)`` change of likeness from the map before it, NaN if unknown.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.seen = 0
        self.place = 0
        self.run = 0
        self.labels: IntArray = np.full(size, UNDECIDED)
        self.clusters: IntArray = np.full(size, UNDECIDED)
        self.runs: IntArray = np.zeros(size, np.int64)
        self.frames: IntArray = np.zeros(size, np.int64)
        self.firm: NDArray[np.bool_] = np.zeros(size, bool)
        self.odd: NDArray[np.bool_] = np.zeros(size, bool)
        self.steps: NDArray[np.float64] = np.full(size, np.nan)

    def __len__(self) -> int:
        """Number of maps held."""
        return min(self.seen, self.size)

    def enter(self, frame: int, firm: bool) -> None:
        """Give the newest map the place of the oldest; it has no label yet."""
        self.place = place = self.seen % self.size
        self.labels[place] = self.clusters[place] = UNDECIDED
        self.runs[place], self.frames[place] = self.run, frame
        self.firm[place], self.odd[place], self.steps[place] = firm, False, np.nan
        self.seen += 1

    def order(self) -> IntArray:
        """Return ``(m,)`` places from the oldest map to the newest."""
        first = max(self.seen - self.size, 0)
        return np.arange(first, self.seen) % self.size

    def age(self) -> IntArray:
        """Return the order in time of the maps by place ``(m,)``, rising; the oldest of a full
        window has 0."""
        return (np.arange(len(self)) - self.seen) % self.size

    def groups(self, order: IntArray) -> IntArray:
        """Return which maps may be compared to learn what noise does ``(m,)``.

        Maps of one run and one part of the graph: what differs by more than noise must not pass
        for it, whether it has a name already or not. A map like no prototype stands alone.

        Args:
            order: places, see :meth:`order`.
        """
        found = self.runs[order] * (self.size + 1) + self.clusters[order]
        return np.where(self.odd[order], -2 - order, found)
