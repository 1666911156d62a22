"""Full-size relevance maps of prototypes: what a prototype looks like."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Picture", "RecentMaps"]

Map = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Picture:
    """The mean full-size map of a prototype.

    Attributes:
        total: ``(S, S)`` sum of its maps; None before the first.
        count: how many they are.
        first: the map of the moment when the letter was given, which stands in for the mean.
    """

    total: Map | None = None
    count: float = 0.0
    first: Map | None = None

    def add(self, relevance: Map, most: int) -> None:
        """Add a map; those added before count as at most ``most``."""
        if self.total is None:
            self.total = np.zeros(relevance.shape, np.float32)
        self.total += relevance
        self.count += 1
        if self.count > most:
            self.total *= most / self.count
            self.count = float(most)

    def absorb(self, other: Picture) -> None:
        """Add the maps of a prototype that turned out to be this one."""
        if other.total is not None:
            self.total = other.total if self.total is None else self.total + other.total
            self.count += other.count

    def mean(self, unsettled: Iterable[Map]) -> Map | None:
        """Return the mean, with maps that are not added yet; None if there is no map at all."""
        total, count = self.total, self.count
        for relevance in unsettled:
            total = relevance if total is None else total + relevance
            count += 1
        if total is None:
            total, count = self.first, 1
        return None if total is None else (total / count).astype(np.float32)


class RecentMaps:
    """The latest full-size maps, kept apart until their prototypes have settled."""

    def __init__(self) -> None:
        self._maps: deque[tuple[int, Map]] = deque()
        self._shape: tuple[int, ...] | None = None

    def __iter__(self) -> Iterator[tuple[int, Map]]:
        """Give number and full-size map of each, the oldest first."""
        return iter(self._maps)

    def check(self, relevance: NDArray[np.floating] | None) -> None:
        """Refuse a map that cannot be; changes nothing.

        Raises:
            ValueError: the map has another shape than before or holds values that are not finite.
        """
        if relevance is None:
            return
        # Counting is faster than all().
        if np.count_nonzero(np.isfinite(relevance)) < relevance.size:
            raise ValueError("the relevance map holds NaN or infinite values; check the network")
        if self._shape is not None and relevance.shape != self._shape:
            raise ValueError(
                f"a relevance map of shape {relevance.shape} came after {self._shape}; "
                "reset() the window when the model changes"
            )

    def note_shape(self, relevance: NDArray[np.floating] | None) -> None:
        """Remember the shape that all maps must have from now on."""
        if relevance is not None:
            self._shape = relevance.shape

    def append(self, number: int, relevance: NDArray[np.floating] | None) -> None:
        """Keep a copy of the newest map, the ``number``-th of the window."""
        if relevance is not None:
            self._maps.append((number, np.array(relevance, np.float32)))

    def take_settled(self, before: int) -> list[tuple[int, Map]]:
        """Return and forget the maps whose number is below ``before``."""
        settled = []
        while self._maps and self._maps[0][0] < before:
            settled.append(self._maps.popleft())
        return settled
