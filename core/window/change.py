"""The letter on display: which pattern an Action Unit shows now, and since when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import WindowConfig
from .prototypes import PrototypeMemory
from .ring import UNDECIDED, MapRing

__all__ = ["LetterDisplay", "Likeness"]

FloatArray = NDArray[np.float64]

TOLERATED = 1
"""Maps of other patterns in a row that do not break a run that is dated back."""
MIN_APART = 0.05
"""Prototypes count as at least this far apart (1 − cosine) when evidence is measured."""
MOST_EVIDENCE = 1.25
"""Most that one map can speak for or against a pattern."""
APART_EVERY = 8
"""How far prototypes are apart is looked at again every so many maps."""


@dataclass(slots=True)
class Likeness:
    """How the newest map resembles the prototypes.

    Attributes:
        similarity: to each, 1 for what the nearest pattern's own maps have.
        scale: what of a cosine counts as 1, see :meth:`PrototypeMemory.similarity`.
        fast: pattern that the map clearly shows by its prototype alone, or −1.
    """

    similarity: list[float]
    scale: float = 1.0
    fast: int = UNDECIDED


class LetterDisplay:
    """The pattern on display and the evidence for others.

    Args:
        config: thresholds and bounds.

    Attributes:
        shown: the pattern on display; None before the first map.
        since: frame at which the unbroken run of its letter began.
    """

    def __init__(self, config: WindowConfig) -> None:
        self.config = config
        self.shown: int | None = None
        self.since = 0
        self._run_start: int | None = None
        self._first_of_its_run = True
        self._evidence = [0.0] * config.max_letters
        self._any_evidence = False
        self._last_score = (0, UNDECIDED, 0.0)
        self._apart: list[float] = []
        self._apart_of = (UNDECIDED, 0, 0)

    def gap(self) -> None:
        """Note that the next map begins a new run."""
        self._run_start = None
        self._clear()

    def _clear(self) -> None:
        """Forget all evidence."""
        self._evidence = [0.0] * len(self._evidence)
        self._any_evidence = False

    def begin(self, frame: int) -> None:
        """Begin the update of a frame."""
        if self._run_start is None:
            self._run_start = self.since = frame
            self._first_of_its_run = True

    def welcome(self, row: int) -> None:
        """Let a pattern that was just born begin with what its first maps said for it."""
        self._evidence[row] = self.config.head_start
        self._any_evidence = True

    def replace(self, row: int, into: int) -> None:
        """Let a pattern (−1: none) stand for one that is gone."""
        if into >= 0:
            self._evidence[into] = max(self._evidence[into], self._evidence[row])
        self._evidence[row] = 0.0
        if into >= 0 and self.shown == row:
            self.shown = into

    def choose(
        self, ring: MapRing, memory: PrototypeMemory, energies: FloatArray, likeness: Likeness
    ) -> None:
        """Show another pattern once the latest maps speak for it clearly enough.

        Evidence is added up map by map and never falls below zero (a cumulative sum test, Page
        1954). What a map adds is how much more it resembles the other pattern than the shown one,
        measured by how far the two are apart: noise that is small against that hardly counts, and
        no single map decides.

        Args:
            ring: maps of the window, the newest with its label.
            memory: prototypes.
            energies: noise left in means, see :meth:`PrototypeMemory.refresh`.
            likeness: of the newest map to the prototypes.
        """
        similarity = likeness.similarity
        assert self.shown is not None
        label = int(ring.labels[ring.place])
        if label != UNDECIDED and label < len(similarity):
            value = similarity[label]
            memory.learn_fit(label, value, ring.run, likeness.scale)
            run, last, before = self._last_score
            if (run, last) == (ring.run, label):
                ring.steps[ring.place] = value - before
            self._last_score = (ring.run, label, value)
        else:
            self._last_score = (ring.run, UNDECIDED, 0.0)
        if self._first_of_its_run:
            self._first_of_its_run = False
            self._begin_run(ring, memory, likeness)
            return
        used = len(similarity)
        if used < 2 or self.shown >= used:
            return
        shown = similarity[self.shown]
        if shown >= max(similarity) and not self._any_evidence:
            return  # nothing speaks for another pattern, and nothing did
        evidence, apart = self._evidence, self._apartness(ring, memory, energies, used)
        for row, one in enumerate(similarity):
            lead = min(max((one - shown) / apart[row], -MOST_EVIDENCE), MOST_EVIDENCE)
            # What resembles neither speaks for neither.
            if lead < 0 or one >= self.config.keep_cosine:
                evidence[row] = max(evidence[row] + lead, 0.0)
        evidence[self.shown] = 0.0
        most = max(evidence[:used])
        now = evidence.index(most)
        if most >= self.config.evidence and now in memory:
            self.shown, self.since = now, max(self.since, _first_of_run(ring, now))
            self._clear()
        else:
            self._any_evidence = any(evidence)

    def _apartness(
        self, ring: MapRing, memory: PrototypeMemory, energies: FloatArray, used: int
    ) -> list[float]:
        """Return how far the shown prototype is from all others, 1 − cosine ``(used,)``.

        Prototypes move slowly: it is looked at again every few maps.
        """
        key = (self.shown, used, ring.seen // APART_EVERY)
        if key != self._apart_of:
            assert self.shown is not None
            memory.refresh(energies)
            apart = 1.0 - memory.cosines(self.shown)[:used]
            self._apart = np.maximum(apart, MIN_APART).tolist()
            self._apart_of = key
        return self._apart

    def _begin_run(self, ring: MapRing, memory: PrototypeMemory, likeness: Likeness) -> None:
        """Choose the letter of the first map of a run: nothing precedes it to hold on to."""
        similarity = likeness.similarity
        for row in (likeness.fast, int(ring.labels[ring.place])):
            if row in memory and memory.letter(row) is not None:
                self.shown = row
                return
        known = [row for row in memory.by_letter().values() if row < len(similarity)]
        if known:
            self.shown = max(known, key=lambda row: similarity[row])


def _first_of_run(ring: MapRing, row: int) -> int:
    """Return the frame from which on the latest maps show a pattern almost without break."""
    order = ring.order()[::-1]
    first, misses = int(ring.frames[order[0]]), 0
    for place in order:
        if ring.runs[place] != ring.run:
            break
        if ring.labels[place] == row:
            first, misses = int(ring.frames[place]), 0
        else:
            misses += 1
            if misses > TOLERATED:
                break
    return first
