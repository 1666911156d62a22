"""From the clusters of one sliding window to lasting letters.

Clusters come and go with the window; prototypes stay. Each clustering of the window is matched with
the prototypes known so far (:mod:`.matching`), a cluster that is left over must prove to be
something new before it begins a prototype (:mod:`.novelty`), and the letter on display changes only
once several maps agree (:mod:`.change`). The arrays of the window (descriptors, cosines, graph)
belong to :class:`facestage.core.window.bank.WindowBank`, which drives this part.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..clustering.similarity import NoiseModel
from ..clustering.spectral import merge_blocks
from ..config import WindowConfig
from ..errors import ConfigError
from .change import ChangeDetector, MapSimilarity
from .comparison import Overlap, agreeing_pair
from .contingency import NO_PROTOTYPE, Blocks, contingency_blocks, large_clusters
from .letter_book import LetterBook
from .matching import Contingency, Matching, match_clusters, prototypes_of_parts
from .noise import WindowNoise
from .novelty import Novelty, Verdict, judge_cluster
from .pictures import RecentMaps
from .prototypes import PrototypeMemory
from .ring import MapRing
from .updates import MapInput, WindowUpdate

__all__ = ["LetterTrack", "WindowUpdate"]

IntArray = NDArray[np.int64]
Descriptors = NDArray[np.float32]


class _Inheritance(NamedTuple):
    """What new maps inherit from the parts of the graph.

    Attributes:
        prototypes: prototype of each part; empty where parts must be matched anew.
        until: number of the last map that may inherit.
    """

    prototypes: list[int]
    until: int


NOTHING_INHERITED = _Inheritance([], 0)
"""The parts of the graph must be matched with the prototypes before maps can inherit."""


class _LastSimilarity(NamedTuple):
    """How similar the last map was to its prototype."""

    run: int
    prototype: int
    value: float


class LetterTrack:
    """Prototypes, letters and the letter on display of one Action Unit of one source.

    Read it through :meth:`WindowBank.track`; only the bank updates it. For each map it calls
    :meth:`begin`, :meth:`insert`, one of :meth:`inherit`, :meth:`match_parts` and
    :meth:`match_merged` where :meth:`due` says so, :meth:`settle`, and :meth:`finish`.

    Args:
        config: thresholds and bounds.
        dimension: length of a descriptor.

    Attributes:
        memory: prototypes, and the prototype of each map of the window.
        ring: maps of the window, by position.
        noise: their noise.
        change: which prototype is on display.
        book: what happened to the letters.
        similarity: of the newest map to the prototypes.
        refused: descriptors refused so far because they held NaN or infinity.
    """

    def __init__(self, config: WindowConfig, dimension: int) -> None:
        self.config = config
        self.memory = PrototypeMemory(config, dimension)
        self.ring = MapRing(config.size)
        self.noise = WindowNoise(config)
        self.change = ChangeDetector(config, self.memory.create(0))
        self.book = LetterBook()
        self.similarity = MapSimilarity([])
        self.refused = 0
        self._maps = RecentMaps()
        self._last_frame: int | None = None
        self._last_similarity = _LastSimilarity(0, NO_PROTOTYPE, 0.0)
        self._inheritance = NOTHING_INHERITED
        # What the first maps showed is a guess until there is a cluster.
        self._first_is_guess = True

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
        return dict(self.book.counts)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Letters whose prototype has moved far from what it was when young.

        A prototype that turns slowly into another keeps its letter; this flag says that the letter
        no longer means what it meant.
        """
        return tuple(
            letter
            for letter, prototype in self.memory.by_letter().items()
            if self.memory.drift(prototype) < self.config.drifted
        )

    def drift(self, letter: str) -> float:
        """Return the cosine of a live letter's prototype with what it was when young, −1 to 1."""
        return self.memory.drift(self.memory.by_letter()[letter])

    def knows(self, letter: str) -> bool:
        """Tell whether a letter was given and its prototype, or what it went into, is alive."""
        return self.book.current(letter) in self.memory.by_letter()

    def prototype(self, letter: str) -> NDArray[np.float32]:
        """Return the mean relevance map of a letter.

        Args:
            letter: a letter given by this window; a retired one shows the letter it went into.

        Returns:
            ``(S, S)`` float32, logit units.

        Raises:
            ConfigError: the letter is not known (any more), or no full-size map was handed over.
        """
        letter = self.book.current(letter)
        prototype = self.memory.by_letter().get(letter)
        if prototype is None:
            raise ConfigError(
                f"there is no prototype {letter!r}; known are {', '.join(self.letters) or 'none'}"
            )
        labels, size = self.memory.labels, self.config.size
        mean = self.memory.picture(prototype).mean(
            relevance for number, relevance in self._maps if labels[number % size] == prototype
        )
        if mean is None:
            raise ConfigError(
                f"no full-size map of {letter!r} was handed over; pass the map to update()"
            )
        return mean

    # ---- a map comes

    def gap(self) -> None:
        """Note that the AU was off or the face lost: the next map begins a new run.

        Prototypes and window stay; maps on both sides of the gap no longer count as neighbours in
        time, and the first map of the new run may show any known letter at once.
        """
        self.ring.run += 1
        self.change.gap()

    def check(self, frame: int, relevance: NDArray[np.floating] | None) -> None:
        """Refuse a frame or a full-size map that cannot be; changes nothing.

        Raises:
            ValueError: the frame number does not rise, or the map has another shape than before or
                holds values that are not finite.
        """
        if self._last_frame is not None and frame <= self._last_frame:
            raise ValueError(
                f"frame {frame} came after frame {self._last_frame}; feed frames in order, "
                "or reset() the window for a new source"
            )
        self._maps.check(relevance)

    def begin(self, frame: int, relevance: NDArray[np.floating] | None) -> None:
        """Begin the update of a frame."""
        self._last_frame = frame
        self._maps.note_shape(relevance)
        self.change.begin_frame(frame)

    def insert(self, descriptors: Descriptors, x: NDArray[np.float32], new: MapInput) -> None:
        """Take the newest map in; the oldest leaves a full window.

        Args:
            descriptors: ``(W, D)`` by position; written to.
            x: ``(D,)`` descriptor of the new map at unit length.
            new: the map.
        """
        memory, ring, noise = self.memory, self.ring, self.noise
        position = ring.next_position
        memory.evict(position, descriptors[position])
        descriptors[position] = x
        expected = noise.expected_similarity(new.mass)
        noise.learn_mass(new.mass, ring.seen)
        self._maps.append(ring.seen, new.relevance)
        ring.append(new.frame, new.confident and noise.passes_mass_gate(new.mass))
        self._settle_pictures()
        memory.refresh(noise.energies)
        self.similarity = self._compare(x, expected)
        ring.outlier[position] = self.similarity.outlier

    def _settle_pictures(self) -> None:
        """Add the full-size maps whose label has settled to the pictures of the prototypes."""
        config = self.config
        settled = self.ring.seen - min(config.recent_maps, config.size - 1)
        for number, relevance in self._maps.take_settled(settled):
            label = int(self.memory.labels[number % config.size])
            if label != NO_PROTOTYPE:
                self.memory.picture(label).add(relevance, config.memory)

    def _compare(self, x: NDArray[np.float32], expected: float) -> MapSimilarity:
        """Compare the newest map with the prototypes; ``expected`` is what weak maps have."""
        values, scale = self.memory.similarity(x)
        if expected != 1.0:
            values = [value / expected for value in values]
        top, recognised = max(values), NO_PROTOTYPE
        if top >= self.config.fast:
            best = values.index(top)
            others = values[:best] + values[best + 1 :]
            if not others or top - max(others) >= self.config.margin:
                recognised = best
        return MapSimilarity(values, scale, recognised, top < self.config.outlier)

    def due(self) -> bool:
        """Tell whether the window is to be clustered for the newest map."""
        if len(self) < self.config.min_cluster:
            return False
        recognised = self.similarity.recognised
        settled = recognised == self.change.shown and not self._first_is_guess
        return not settled or self.ring.seen % self.config.every == 0

    # ---- the window was clustered

    def may_inherit(self) -> bool:
        """Tell whether new maps may inherit the prototypes of the parts they join.

        Only while the newest map clearly shows a prototype.
        """
        clear = self.similarity.is_recognised and bool(self._inheritance.prototypes)
        return clear and self.ring.seen <= self._inheritance.until

    def inherit(self, parts: IntArray, positions: list[int], descriptors: Descriptors) -> None:
        """Let new maps inherit the prototypes of their parts.

        Args:
            parts: ``(W,)`` part of each map by position.
            positions: new maps, some of them repeated.
            descriptors: ``(W, D)`` by position.
        """
        ring, memory = self.ring, self.memory
        for position in positions:
            part = int(parts[position])
            ring.parts[position] = part
            # The newest map's own similarity to a prototype says more than that of its neighbours.
            prototype = (
                self.similarity.recognised
                if position == ring.position
                else self._inheritance.prototypes[part]
            )
            if memory.labels[position] != prototype and not ring.outlier[position]:
                memory.assign(position, prototype, descriptors[position])

    def match_parts(self, parts: IntArray, descriptors: Descriptors) -> None:
        """Merge the parts of the graph to clusters, and match those with the prototypes.

        What is merged are the parts cut by the prototypes that their maps carry already: one step
        of k-means gone wrong, or a new prototype of fewer maps than the graph can see, must not
        wipe out letters. What was cut without need is merged again, as its mean maps agree; two
        known prototypes are one only if they agree themselves, which is looked at in its own time.

        Args:
            parts: ``(m,)`` non-negative part of each map by position.
            descriptors: ``(W, D)`` by position.
        """
        config, noise = self.config, self.noise
        self._note_parts(parts)
        blocks = self._blocks(parts, descriptors)
        clusters = merge_blocks(
            blocks.products, blocks.size, noise.energies, noise.split, noise.variances, blocks.label
        )
        assignment = self._label_clusters(blocks, clusters, descriptors)
        inherited, clear = prototypes_of_parts(
            blocks, parts, clusters, assignment, config.part_purity
        )
        maps = config.inherit_maps if clear else config.inherit_maps_unclear
        self._inheritance = _Inheritance(inherited, self.ring.seen + maps)

    def match_merged(self, clusters: IntArray, descriptors: Descriptors) -> None:
        """Match clusters that need no merging with the prototypes.

        Args:
            clusters: ``(m,)`` non-negative cluster of each map by position.
            descriptors: ``(W, D)`` by position.
        """
        self._note_parts(clusters)
        blocks = self._blocks(clusters, descriptors)
        self._label_clusters(blocks, blocks.part, descriptors)

    def _note_parts(self, parts: IntArray) -> None:
        """Note the part of each map; what was inherited from the parts before is void."""
        self.ring.parts[: len(parts)] = parts
        self._inheritance = NOTHING_INHERITED

    def _blocks(self, parts: IntArray, descriptors: Descriptors) -> Blocks:
        """Cut the parts by the prototypes that their maps carry."""
        count, memory = len(parts), self.memory
        return contingency_blocks(parts, memory.labels[:count], descriptors[:count], memory.totals)

    def _label_clusters(
        self, blocks: Blocks, clusters: list[int], descriptors: Descriptors
    ) -> list[int]:
        """Give the maps of each cluster to the prototype that it continues or begins, or to none.

        Args:
            blocks: of the window.
            clusters: ``(p,)`` cluster of each block.
            descriptors: ``(W, D)`` by position.

        Returns:
            ``(p,)`` the prototype that the maps of each block carry now, or :data:`NO_PROTOTYPE`.
        """
        memory, energies = self.memory, self.noise.energies
        large = large_clusters(blocks, clusters, self.config.min_cluster)
        if not large:
            return blocks.label
        if self._first_is_guess:
            blocks = self._replace_guess(blocks, clusters, large)
        memory.refresh(energies)
        matching = match_clusters(blocks, list(large.values()), memory, energies)
        verdicts = self._verdicts(blocks, matching, descriptors)
        assignment = self._assignment(blocks, matching.table, verdicts)
        memory.apply(blocks, assignment)
        return assignment

    def _verdicts(
        self, blocks: Blocks, matching: Matching, descriptors: Descriptors
    ) -> list[Verdict]:
        """Return what each cluster is: those that match a prototype, and the others once judged."""
        return [
            Verdict(Novelty.KNOWN, prototype)
            if prototype != NO_PROTOTYPE
            else self._judge(blocks, matching.table, cluster, descriptors)
            for cluster, prototype in enumerate(matching.prototypes)
        ]

    def _assignment(self, blocks: Blocks, table: Contingency, verdicts: list[Verdict]) -> list[int]:
        """Return the prototype ``(p,)`` of each block, and begin those that are new.

        A cluster that is unclear gets none: it must not pull the prototype it was taken for.
        """
        assignment = list(blocks.label)
        for members, verdict in zip(table.members, verdicts, strict=True):
            is_new = verdict.novelty is Novelty.NEW
            prototype = self._begin_prototype() if is_new else verdict.prototype
            for block in members:
                assignment[block] = prototype
        return assignment

    def _replace_guess(
        self, blocks: Blocks, clusters: list[int], large: dict[int, list[int]]
    ) -> Blocks:
        """Let the cluster that came first be the first prototype, and return the blocks anew."""
        self._first_is_guess = False
        cluster_of_map, age = np.array(clusters)[blocks.of_map], self.ring.age()
        first = min(large, key=lambda cluster: int(age[cluster_of_map == cluster].min()))
        shown = self.change.shown
        assignment = [shown if cluster == first else NO_PROTOTYPE for cluster in clusters]
        self.memory.apply(blocks, assignment)
        return blocks.relabelled(assignment, self.memory.totals)

    def _judge(
        self, blocks: Blocks, table: Contingency, cluster: int, descriptors: Descriptors
    ) -> Verdict:
        """Judge a cluster of the table that matches no prototype."""
        members = table.members[cluster]
        positions = np.flatnonzero(np.isin(blocks.of_map, members))
        overlap = Overlap(
            np.array(table.known, np.int64),
            blocks.overlap_sums(members, table.known),
            np.array(table.counts[cluster], np.float64),
        )
        return judge_cluster(positions, descriptors, overlap, self.ring, self.noise, self.memory)

    def _begin_prototype(self) -> int:
        """Begin a prototype and return its id; where all are in use, :data:`NO_PROTOTYPE`."""
        if self.memory.full:
            forgotten = self.memory.make_room([self.change.shown])
            if forgotten is None:
                return NO_PROTOTYPE
            self._note_dropped(forgotten.prototype)
            if forgotten.letter is not None:
                self.book.forget(forgotten.letter)
        prototype = self.memory.create(self.ring.seen)
        self.change.add(prototype)
        return prototype

    # ---- once the window is clustered, or was not

    def learn_noise(self, newer: NoiseModel) -> None:
        """Follow a newer noise model of the window."""
        self.noise.learn(newer, self.ring.steps, self.ring.seen)
        self.memory.refresh(self.noise.energies, everything=True)

    def settle(self, descriptors: Descriptors, tidy: bool) -> None:
        """Finish a map: label it where clustering did not, and choose the letter.

        Args:
            descriptors: ``(W, D)`` by position.
            tidy: whether to look which prototypes agree.
        """
        position = self.ring.position
        if self.memory.labels[position] == NO_PROTOTYPE:
            guess = self.change.shown
            prototype = guess if self._first_is_guess else self.similarity.recognised
            if prototype != NO_PROTOTYPE:
                self.memory.assign(position, prototype, descriptors[position])
        if tidy:
            self._tidy()
        self._learn_fit()
        self.change.update(self.ring, self.memory, self.noise.energies, self.similarity)

    def _tidy(self) -> None:
        """Drop prototypes that were not borne out, and join two that turned out to be one."""
        memory = self.memory
        for prototype in memory.never_shown(self.ring.seen - self.config.refresh):
            if prototype != self.change.shown:
                memory.drop(prototype)
                self._note_dropped(prototype)
        memory.refresh(self.noise.energies)
        memory.come_of_age()
        self.book.note_drifted(self.drifted)
        pair = agreeing_pair(memory, self.ring.seen, self.noise.split)
        if pair is None:
            return
        younger, older = pair
        letters = memory.absorb(younger, older)
        self._note_absorbed(younger, older)
        if letters is not None:
            self.book.retire(*letters)

    def _note_dropped(self, prototype: int) -> None:
        """Let nothing refer to a prototype that the memory has forgotten."""
        self._inheritance = NOTHING_INHERITED
        if self.similarity.recognised == prototype:
            self.similarity = self.similarity._replace(recognised=NO_PROTOTYPE)
        self.change.drop(prototype)

    def _note_absorbed(self, younger: int, older: int) -> None:
        """Let everything that referred to a prototype refer to the one it was merged into."""
        self._inheritance = NOTHING_INHERITED
        if self.similarity.recognised == younger:
            self.similarity = self.similarity._replace(recognised=older)
        self.change.replace(younger, older)

    def _learn_fit(self) -> None:
        """Learn from the newest map how well maps fit their prototypes, and how that changes."""
        ring, values = self.ring, self.similarity.values
        label = int(self.memory.labels[ring.position])
        if label == NO_PROTOTYPE or label >= len(values):
            self._last_similarity = _LastSimilarity(ring.run, NO_PROTOTYPE, 0.0)
            return
        value, last = values[label], self._last_similarity
        self.memory.learn_fit(label, value, ring.run, self.similarity.scale)
        if (last.run, last.prototype) == (ring.run, label):
            ring.steps[ring.position] = value - last.value
        self._last_similarity = _LastSimilarity(ring.run, label, value)

    def finish(self, relevance: NDArray[np.floating] | None) -> WindowUpdate:
        """End the update of a frame."""
        memory, shown = self.memory, self.change.shown
        picture = None
        if relevance is not None and memory.letter(shown) is None:
            picture = np.array(relevance, np.float32)
        letter, given_now = memory.give_letter(shown, picture)
        return self.book.close_update(letter, self.change.since, given_now)
