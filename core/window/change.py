"""Change detection: which prototype an Action Unit shows now, and since when.

References:
    Page, "Continuous inspection schemes", Biometrika 1954 (cumulative sums, CUSUM).
    Lucas & Crosier, "Fast initial response for CUSUM quality-control schemes", Technometrics 1982
    (the head start).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config import WindowConfig
from .prototypes import NO_PROTOTYPE, PrototypeMemory
from .ring import MapRing

__all__ = ["ChangeDetector", "MapSimilarity"]

FloatArray = NDArray[np.float64]


class MapSimilarity(NamedTuple):
    """How the newest map resembles the prototypes.

    Attributes:
        values: ``(used,)`` similarity to each, see :meth:`PrototypeMemory.similarity`.
        scale: what of a cosine counts as 1 in them.
        recognised: prototype that the map clearly shows by itself, or :data:`NO_PROTOTYPE`.
        outlier: whether it resembles none of them.
    """

    values: list[float]
    scale: float = 1.0
    recognised: int = NO_PROTOTYPE
    outlier: bool = False

    @property
    def is_recognised(self) -> bool:
        """Whether the map clearly shows a prototype by itself."""
        return self.recognised != NO_PROTOTYPE


class _DistanceKey(NamedTuple):
    """What the distances of prototypes were taken for."""

    shown: int
    used: int
    period: int


class ChangeDetector:
    """The prototype on display, and one cumulative sum for each other that may replace it.

    Args:
        config: thresholds and bounds.
        shown: the prototype on display at first.

    Attributes:
        shown: the prototype on display.
        since: frame at which the unbroken run of its letter began.
    """

    def __init__(self, config: WindowConfig, shown: int) -> None:
        self.config = config
        self.shown = shown
        self.since = 0
        self._run_begun = False
        self._first_of_run = True
        self._sums = [0.0] * config.max_letters
        self._any_positive = False
        self._distances: list[float] = []
        self._distances_of = _DistanceKey(NO_PROTOTYPE, 0, 0)

    # ---- runs

    def gap(self) -> None:
        """Note that the next frame begins a new run."""
        self._run_begun = False
        self._reset_sums()

    def begin_frame(self, frame: int) -> None:
        """Date a run that begins with this frame."""
        if not self._run_begun:
            self._run_begun = self._first_of_run = True
            self.since = frame

    # ---- prototypes that come and go

    def add(self, prototype: int) -> None:
        """Let a new prototype begin with the head start that its first maps earned it."""
        self._sums[prototype] = self.config.head_start
        self._any_positive = True

    def drop(self, prototype: int) -> None:
        """Forget the sum of a prototype that was dropped."""
        self._sums[prototype] = 0.0

    def replace(self, prototype: int, into: int) -> None:
        """Let a prototype stand for one that was merged into it."""
        self._sums[into] = max(self._sums[into], self._sums[prototype])
        self._sums[prototype] = 0.0
        if self.shown == prototype:
            self.shown = into

    # ---- detection

    def update(
        self,
        ring: MapRing,
        memory: PrototypeMemory,
        energies: FloatArray,
        similarity: MapSimilarity,
    ) -> None:
        """Show another prototype once the latest maps speak for it clearly enough.

        What speaks for another prototype is added up map by map and never falls below zero. What a
        map adds is how much more it resembles the other prototype than the shown one, measured by
        how far the two are apart: noise that is small against that hardly counts, and no single map
        decides.

        Args:
            ring: maps of the window.
            memory: prototypes, the newest map with its label.
            energies: noise left in means, see :meth:`PrototypeMemory.refresh`.
            similarity: of the newest map to the prototypes.
        """
        if self._first_of_run:
            self._first_of_run = False
            self._begin_run(memory, int(memory.labels[ring.position]), similarity)
            return
        values = similarity.values
        if len(values) < 2 or self.shown >= len(values):
            return
        if values[self.shown] >= max(values) and not self._any_positive:
            return  # nothing speaks for another prototype, and nothing did
        self._accumulate(values, self._distances_from_shown(ring, memory, energies, len(values)))
        largest = max(self._sums[: len(values)])
        candidate = self._sums.index(largest)
        if largest >= self.config.change_threshold and candidate in memory:
            self.shown = candidate
            self.since = max(self.since, _run_start(ring, memory, candidate))
            self._reset_sums()
        else:
            self._any_positive = any(self._sums)

    def _accumulate(self, values: list[float], distances: list[float]) -> None:
        """Add to the sums what the newest map says, by its similarity to the prototypes."""
        sums, most, shown = self._sums, self.config.change_step, values[self.shown]
        for prototype, value in enumerate(values):
            step = min(max((value - shown) / distances[prototype], -most), most)
            # A map that resembles neither of the two speaks for neither.
            if step < 0 or value >= self.config.keep_cosine:
                sums[prototype] = max(sums[prototype] + step, 0.0)
        sums[self.shown] = 0.0

    def _reset_sums(self) -> None:
        self._sums = [0.0] * len(self._sums)
        self._any_positive = False

    def _distances_from_shown(
        self, ring: MapRing, memory: PrototypeMemory, energies: FloatArray, used: int
    ) -> list[float]:
        """Return how far the shown prototype is from all others, 1 − cosine ``(used,)``.

        Prototypes move slowly: it is looked at again every few maps.
        """
        key = _DistanceKey(self.shown, used, ring.seen // self.config.distance_every)
        if key != self._distances_of:
            memory.refresh(energies)
            distances = 1.0 - memory.cosines(self.shown)[:used]
            self._distances = np.maximum(distances, self.config.min_distance).tolist()
            self._distances_of = key
        return self._distances

    def _begin_run(self, memory: PrototypeMemory, label: int, similarity: MapSimilarity) -> None:
        """Choose the prototype of the first map of a run: nothing precedes it to hold on to."""
        for prototype in (similarity.recognised, label):
            if prototype in memory and memory.letter(prototype) is not None:
                self.shown = prototype
                return
        values = similarity.values
        known = [prototype for prototype in memory.by_letter().values() if prototype < len(values)]
        if known:
            self.shown = max(known, key=lambda prototype: values[prototype])


def _run_start(ring: MapRing, memory: PrototypeMemory, prototype: int) -> int:
    """Return the frame from which on the latest maps show a prototype almost without break."""
    newest_first = ring.order()[::-1]
    start, misses = int(ring.frames[newest_first[0]]), 0
    for position in newest_first:
        if ring.runs[position] != ring.run:
            break
        if memory.labels[position] == prototype:
            start, misses = int(ring.frames[position]), 0
        else:
            misses += 1
            if misses > memory.config.tolerated_misses:
                break
    return start
