"""From the clusters of one sliding window to lasting letters.

Clusters come and go with the window; patterns stay. Each clustering of the window is matched with
the patterns known so far, an unmatched cluster must prove itself before it becomes a new one, and
the letter on display changes only once several maps agree. The arrays of the window (descriptors,
cosines, graph) belong to :class:`facestage.core.window.bank.WindowBank`, which drives this part.

References:
    Kuhn, "The Hungarian method for the assignment problem", 1955 (matching of clusters).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..clustering.similarity import NoiseModel
from ..clustering.spectral import merge_blocks
from ..config import WindowConfig
from ..errors import ConfigError
from .change import LetterDisplay, Likeness
from .matching import Pieces, cut, give, large_clusters, match_pieces, patterns_of_parts
from .noise import WindowNoise
from .novelty import NEW, judge_cluster
from .prototypes import PrototypeMemory
from .ring import UNDECIDED, MapRing

__all__ = ["UNDECIDED", "LetterTrack", "WindowUpdate"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Rows = NDArray[np.float32]

FULL_CHECK = 16
"""Clusters that go on as they were are compared with the prototypes only every so many maps …"""
SOON = 3
"""… and after so many where something is still to be decided."""
UNLIKE = 0.4
"""A map that resembles its nearest prototype less is like none of them."""


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    """What one map told.

    Attributes:
        letter: letter the AU shows now; while a new pattern is not confirmed, the previous one.
        since: index of the frame at which the unbroken run of this letter began. It reaches back
            to the first map of a pattern that needed several maps to be confirmed, but never
            before the start of the letter it follows.
        born: letters given for the first time.
        retired: (letter, the older letter that stands for it now).
        forgotten: letters given up to make room, unseen for longest. They are not given again.
        drifted: letters whose prototype was found, for the first time, to have moved far from what
            it was when young, see :attr:`LetterTrack.drifted`.
    """

    letter: str
    since: int
    born: tuple[str, ...] = ()
    retired: tuple[tuple[str, str], ...] = ()
    forgotten: tuple[str, ...] = ()
    drifted: tuple[str, ...] = ()


class LetterTrack:
    """Patterns, letters and the letter on display of one Action Unit of one source.

    Read it through :meth:`WindowBank.track`; only the bank updates it.

    Args:
        config: thresholds and bounds.
        dimension: length of a descriptor.

    Attributes:
        memory: prototypes.
        ring: maps of the window, by place.
        noise: their noise.
        likeness: of the newest map to the prototypes.
        display: the pattern on display.
        refused: descriptors refused so far because they held NaN or infinity.
    """

    def __init__(self, config: WindowConfig, dimension: int) -> None:
        self.config = config
        self.memory = PrototypeMemory(config, dimension)
        self.ring = MapRing(config.size)
        self.noise = WindowNoise(config)
        self.display = LetterDisplay(config)
        self.likeness = Likeness([])
        self.refused = 0
        self._recent: deque[tuple[int, Rows]] = deque()
        self._map_shape: tuple[int, ...] | None = None
        self._last_index: int | None = None
        self._founding = True
        self._counts: dict[str, int] = {}
        self._aliases: dict[str, str] = {}
        self._pattern_of_part: list[int] = []
        self._carry_until = 0
        self._retired: tuple[tuple[str, str], ...] = ()
        self._forgotten: list[str] = []
        self._told_drifted: set[str] = set()
        self._newly_drifted: tuple[str, ...] = ()

    # ---- what is known

    def __len__(self) -> int:
        """Number of maps in the window."""
        return len(self.ring)

    @property
    def letters(self) -> tuple[str, ...]:
        """Letters in use, in the order they were given; retired ones left out."""
        return tuple(self.memory.by_letter())

    @property
    def counts(self) -> dict[str, int]:
        """Letter → number of updates that showed it."""
        return dict(self._counts)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Letters whose prototype has moved far from what it was when young.

        A pattern that turns slowly into another keeps its letter; this flag says that the letter
        no longer means what it meant.
        """
        return tuple(
            letter
            for letter, row in self.memory.by_letter().items()
            if self.memory.drift(row) < self.config.drifted
        )

    def drift(self, letter: str) -> float:
        """Return the cosine of a live letter's prototype with what it was when young, −1 to 1."""
        return self.memory.drift(self.memory.by_letter()[letter])

    def prototype(self, letter: str) -> NDArray[np.float32]:
        """Return the mean relevance map of a letter.

        Args:
            letter: a letter given by this window; a retired one shows the letter it went into.

        Returns:
            ``(S, S)`` float32, logit units.

        Raises:
            ConfigError: the letter is not known (any more), or no full-size map was handed over.
        """
        while letter in self._aliases:
            letter = self._aliases[letter]
        row = self.memory.by_letter().get(letter)
        if row is None:
            raise ConfigError(
                f"there is no prototype {letter!r}; known are {', '.join(self.letters) or 'none'}"
            )
        total, count, first = self.memory.picture(row)
        for number, relevance in self._recent:
            if self.ring.labels[number % self.config.size] == row:
                total = relevance if total is None else total + relevance
                count += 1
        if total is None:
            total, count = first, 1
        if total is None:
            raise ConfigError(
                f"no full-size map of {letter!r} was handed over; pass the map to update()"
            )
        return (total / count).astype(np.float32)

    # ---- time

    def gap(self) -> None:
        """Note that the AU was off or the face lost: the next map begins a new run.

        Prototypes and window stay; maps on both sides of the gap no longer count as neighbours in
        time, and the first map of the new run may show any known letter at once.
        """
        self.ring.run += 1
        self.display.gap()

    def check(self, index: int, relevance: NDArray[np.floating] | None) -> None:
        """Refuse an index or a full-size map that cannot be; changes nothing.

        Raises:
            ValueError: the index does not rise, or the map has another shape than before or holds
                values that are not finite.
        """
        if self._last_index is not None and index <= self._last_index:
            raise ValueError(
                f"frame {index} came after frame {self._last_index}; feed frames in order, "
                "or reset() the window for a new source"
            )
        if relevance is None:
            return
        if not np.isfinite(relevance).all():
            raise ValueError("the relevance map holds NaN or infinite values; check the network")
        if self._map_shape is not None and relevance.shape != self._map_shape:
            raise ValueError(
                f"a relevance map of shape {relevance.shape} came after {self._map_shape}; "
                "reset() the window when the model changes"
            )

    def begin(self, index: int, relevance: NDArray[np.floating] | None) -> None:
        """Begin the update of frame ``index``."""
        self._last_index = index
        if relevance is not None:
            self._map_shape = relevance.shape
        self.display.begin(index)
        if self.display.shown is None:
            self.display.shown = self.memory.create(self.ring.seen)

    def insert(
        self,
        rows: Rows,
        index: int,
        x: NDArray[np.float32],
        relevance: NDArray[np.floating] | None,
        mass: float,
        sure: bool,
    ) -> None:
        """Take the newest map in; the oldest leaves a full window.

        Args:
            rows: ``(W, D)`` descriptors by place; written to.
            index: number of the frame.
            x: ``(D,)`` descriptor of the new map at unit length.
            relevance: full-size map.
            mass: sum of its positive relevance; 0 if unknown.
            sure: the AU is clearly present.
        """
        config, memory, ring = self.config, self.memory, self.ring
        place = ring.seen % config.size
        label = int(ring.labels[place])
        if label != UNDECIDED:
            memory.expel(label, rows[place])
        rows[place] = x
        strength = self.noise.strength(mass, ring.seen)
        if relevance is not None:
            self._recent.append((ring.seen, np.array(relevance, np.float32)))
        heavy = mass <= 0 or mass >= config.birth_mass * self.noise.usual_mass
        ring.enter(index, sure and heavy)
        settled = ring.seen - min(config.recent_maps, config.size - 1)
        while self._recent and self._recent[0][0] < settled:
            number, full = self._recent.popleft()
            label = int(ring.labels[number % config.size])
            if label != UNDECIDED:
                memory.add_map(label, full)

        memory.refresh(self.noise.energies)
        similarity, scale = memory.similarity(x)
        if strength != 1.0:
            similarity = [one / strength for one in similarity]
        self.likeness = likeness = Likeness(similarity, scale)
        if similarity:
            top = max(similarity)
            ring.odd[place] = top < UNLIKE
            if top >= config.fast:
                best = similarity.index(top)
                others = similarity[:best] + similarity[best + 1 :]
                if not others or top - max(others) >= config.margin:
                    likeness.fast = best

    def due(self) -> bool:
        """Tell whether the window is to be clustered for the newest map."""
        if len(self) < self.config.min_cluster:
            return False
        fast = self.likeness.fast
        settled = fast != UNDECIDED and fast == self.display.shown and not self._founding
        return not settled or self.ring.seen % self.config.every == 0

    # ---- patterns

    def _relabel(self, place: int, row: int, x: NDArray[np.float32]) -> None:
        """Give a map of the window to a pattern."""
        before = int(self.ring.labels[place])
        if before != UNDECIDED:
            self.memory.remove(before, x)
        self.memory.add(row, x)
        self.ring.labels[place] = row

    def may_carry(self) -> bool:
        """Tell whether new maps may join the parts of the graph as they were named last.

        Only while the newest map clearly shows a prototype.
        """
        clear = self.likeness.fast != UNDECIDED and bool(self._pattern_of_part)
        return clear and self.ring.seen <= self._carry_until

    def carry(self, parts: IntArray, places: list[int], rows: Rows) -> None:
        """Let new maps join the patterns of their parts.

        Args:
            parts: ``(W,)`` part of each map by place.
            places: new maps, some of them repeated.
            rows: ``(W, D)`` descriptors by place.
        """
        for place in places:
            part = int(parts[place])
            self.ring.clusters[place] = part
            # Its own likeness to a prototype says more than that of its neighbours.
            pattern = (
                self.likeness.fast if place == self.ring.place else self._pattern_of_part[part]
            )
            label = self.ring.labels[place]
            if label == pattern or self.ring.odd[place]:
                continue
            self._relabel(place, pattern, rows[place])

    def name_clusters(self, clusters: IntArray, rows: Rows) -> None:
        """Continue known patterns with the clusters of the window, or begin new ones.

        Args:
            clusters: ``(m,)`` non-negative cluster of each map by place.
            rows: ``(W, D)`` descriptors by place.
        """
        pieces = self._cut(clusters, rows)
        self._name_clusters(pieces, pieces.part, rows)

    def name_parts(self, parts: IntArray, rows: Rows) -> None:
        """Merge what the graph split, and name the result as :meth:`name_clusters` does.

        What is merged are the parts cut by the patterns that their maps carry already: one step
        of k-means gone wrong, or a new pattern of fewer maps than the graph can see, must not wipe
        out letters. What was cut without need is merged again, as its mean maps agree; two known
        patterns are one only if their prototypes agree, which is looked at in its own time.

        Args:
            parts: ``(m,)`` non-negative part of each map by place.
            rows: ``(W, D)`` descriptors by place.
        """
        pieces, noise = self._cut(parts, rows), self.noise
        clusters = merge_blocks(
            pieces.products,
            pieces.size,
            noise.energies,
            noise.split,
            noise.spread,
            pieces.label,
        )
        labels = self._name_clusters(pieces, clusters, rows)
        # Parts whose maps carry one pattern each pass it on until something changes.
        self._pattern_of_part, clear = patterns_of_parts(pieces, parts, clusters, labels)
        self._carry_until = self.ring.seen + (FULL_CHECK if clear else SOON)

    def _cut(self, parts: IntArray, rows: Rows) -> Pieces:
        """Note the part of each map and cut the parts by the patterns that their maps carry."""
        m = len(parts)
        self.ring.clusters[:m] = parts
        self._pattern_of_part = []
        return cut(parts, self.ring.labels[:m], rows[:m], self.memory.totals)

    def _name_clusters(self, pieces: Pieces, clusters: list[int], x: Rows) -> list[int]:
        """Give the maps of each cluster to a pattern, or to none.

        Args:
            pieces: of the window.
            clusters: ``(p,)`` cluster of each piece.
            x: ``(W, D)`` descriptors by place.

        Returns:
            ``(p,)`` the pattern that the maps of each piece carry now, or −1.
        """
        memory = self.memory
        large = large_clusters(pieces, clusters, self.config.min_cluster)
        if not large:
            return pieces.label
        if self._founding:
            # What the first maps showed was a guess; the first real cluster is the first pattern.
            self._founding = False
            assert self.display.shown is not None
            of_map, age = np.array(clusters)[pieces.of], self.ring.age()
            first = min(large, key=lambda cluster: int(age[of_map == cluster].min()))
            shown = self.display.shown
            labels = [shown if cluster == first else UNDECIDED for cluster in clusters]
            give(pieces, labels, self.ring, memory)
            pieces.label = labels
            pieces.multiply(memory.totals)
        memory.refresh(self.noise.energies)
        members = list(large.values())
        known, held, found = match_pieces(pieces, members, memory, self.noise.energies)
        labels = list(pieces.label)
        for mine, counts, row in zip(members, held, found, strict=True):
            if row is None:
                row = self._decide(pieces, mine, x, known, counts)
            for piece in mine:
                # A cluster that is not clear yet must not pull the pattern it was taken for.
                labels[piece] = UNDECIDED if row is None else row
        give(pieces, labels, self.ring, memory)
        return labels

    def _decide(
        self, pieces: Pieces, members: list[int], x: Rows, known: list[int], held: list[int]
    ) -> int | None:
        """Return the pattern of an unmatched cluster, begun now if it is a new one, or None."""
        memory, rows = self.memory, np.array(known, np.int64)
        places = np.flatnonzero(np.isin(pieces.of, members))
        own, counts = pieces.carried(members, known), np.array(held, np.float64)
        row = judge_cluster(self.ring, self.noise, memory, places, x, rows, own, counts)
        if row != NEW:
            return row
        assert self.display.shown is not None
        if memory.full:
            gone = memory.make_room([self.display.shown])
            if gone is None:
                return None
            row, letter = gone
            self._forget(row, UNDECIDED)
            if letter is not None:
                self._forgotten.append(letter)
                self._counts.pop(letter, None)
                self._aliases = {a: b for a, b in self._aliases.items() if b != letter}
        born = memory.create(self.ring.seen)
        self.display.welcome(born)
        return born

    def learn_noise(self, newer: NoiseModel) -> None:
        """Follow a newer noise model of the window."""
        self.noise.learn(newer, self.ring.steps, self.ring.seen)
        self.memory.refresh(self.noise.energies, everything=True)

    def settle(self, rows: Rows, tidy: bool) -> None:
        """Finish a map once the window is clustered, or was not: join patterns, choose the letter.

        Args:
            rows: ``(W, D)`` descriptors by place.
            tidy: whether to look which patterns agree.
        """
        place = self.ring.place
        if self.ring.labels[place] == UNDECIDED:
            pattern = self.likeness.fast
            if self._founding and self.display.shown is not None:
                pattern = self.display.shown
            if pattern != UNDECIDED:
                self._relabel(place, pattern, rows[place])
        if tidy:
            self._tidy()
        self.display.choose(self.ring, self.memory, self.noise.energies, self.likeness)

    def _tidy(self) -> None:
        """Drop patterns that were not borne out and join two that turned out to be one."""
        memory = self.memory
        for row in memory.never_shown(self.ring.seen - self.config.refresh):
            if row != self.display.shown:
                memory.drop(row)
                self._forget(row, UNDECIDED)
        memory.refresh(self.noise.energies)
        memory.come_of_age()
        # Told once: a prototype may hover about the threshold for long.
        self._newly_drifted = tuple(
            letter for letter in self.drifted if letter not in self._told_drifted
        )
        self._told_drifted.update(self._newly_drifted)
        pair = memory.agreeing(self.ring.seen, self.noise.split)
        if pair is None:
            return
        younger, older = pair
        letters = memory.absorb(younger, older)
        self._forget(younger, older)
        if letters is not None:
            gone, stays = letters
            self._aliases[gone] = stays
            self._counts[stays] = self._counts.get(stays, 0) + self._counts.pop(gone, 0)
            self._retired = (letters,)

    def _forget(self, row: int, into: int) -> None:
        """Replace a pattern that is gone wherever it is noted."""
        self.ring.labels[self.ring.labels == row] = into
        self._pattern_of_part = []
        if self.likeness.fast == row:
            self.likeness.fast = into
        self.display.replace(row, into)

    def finish(self, relevance: NDArray[np.floating] | None) -> WindowUpdate:
        """End the update of a frame."""
        assert self.display.shown is not None
        full = None
        if relevance is not None and self.memory.letter(self.display.shown) is None:
            full = np.array(relevance, np.float32)
        letter, new = self.memory.give_letter(self.display.shown, full)
        self._counts[letter] = self._counts.get(letter, 0) + 1
        born = (letter,) if new else ()
        update = WindowUpdate(
            letter,
            self.display.since,
            born,
            self._retired,
            tuple(self._forgotten),
            self._newly_drifted,
        )
        self._retired, self._forgotten, self._newly_drifted = (), [], ()
        return update
