"""From the clusters of one sliding window to lasting letters.

Clusters come and go with the window; patterns stay. Each clustering of the window is matched with
the patterns known so far, an unmatched cluster must prove itself before it becomes a new one, and
the letter on display changes only once several maps agree. The arrays of the window (descriptors,
cosines, graph) belong to :class:`facestage.core.window.WindowBank`, which drives this part.

References:
    Kuhn, "The Hungarian method for the assignment problem", 1955 (matching of clusters).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import WindowConfig
from .errors import ConfigError
from .prototypes import PrototypeMemory, clean_length
from .similarity import DEFAULT_NOISE, NoiseModel

__all__ = ["UNDECIDED", "LetterTrack", "WindowUpdate"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Rows = NDArray[np.float32]

UNDECIDED = -1
FULL_CHECK = 4
"""Clusters that go on as they were are compared with the prototypes only every so many times."""
TOLERATED = 1
"""Maps of other patterns in a row that do not break a run that is dated back."""
MIN_APART = 0.05
"""Prototypes count as at least this far apart (1 − cosine) when evidence is measured."""
MOST_EVIDENCE = 1.25
"""Most that one map can speak for or against a pattern."""
MAX_SPREAD = 0.04
"""Bound on the variance that noise may explain, so that no noise makes everything one pattern."""
MOSTLY = 0.9
"""A part of the graph passes a pattern on if this share of its maps carries it."""
UNLIKE = 0.4
"""A map that resembles its nearest prototype less is like none of them."""
APART_EVERY = 8
"""How far prototypes are apart is looked at again every so many maps."""


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
    """

    letter: str
    since: int
    born: tuple[str, ...] = ()
    retired: tuple[tuple[str, str], ...] = ()
    forgotten: tuple[str, ...] = ()


class LetterTrack:
    """Patterns, letters and the letter on display of one Action Unit of one source.

    Read it through :meth:`WindowBank.track`; only the bank updates it.

    Args:
        config: thresholds and bounds.
        dimension: length of a descriptor.

    Attributes:
        memory: prototypes.
        seen: maps taken in so far; a map's place in the window is its number modulo the size.
        place: of the newest map.
        similarity: ``(L,)`` of the newest map to the prototypes, 1 for what their own maps have.
        fast: pattern that the newest map clearly shows by its prototype alone, or −1.
        labels: ``(W,)`` pattern of each map by place, or −1.
        runs: ``(W,)`` number of the unbroken run of each map.
        noise: noise of the maps.
        refused: descriptors refused so far because they held NaN or infinity.
    """

    def __init__(self, config: WindowConfig, dimension: int) -> None:
        self.config = config
        self.memory = PrototypeMemory(config, dimension)
        self.seen = 0
        self.refused = 0
        self.fast = UNDECIDED
        self.place = 0
        self.similarity: FloatArray = np.empty(0)
        self.labels: IntArray = np.full(config.size, UNDECIDED)
        self.clusters: IntArray = np.full(config.size, UNDECIDED)
        self.runs: IntArray = np.zeros(config.size, np.int64)
        self._frames: IntArray = np.zeros(config.size, np.int64)
        self._firm: NDArray[np.bool_] = np.zeros(config.size, bool)
        self._steps: FloatArray = np.full(config.size, np.nan)
        self._last_score = (0, UNDECIDED, 0.0)
        self._strengths: FloatArray = np.ones(config.size)
        self._odd: NDArray[np.bool_] = np.zeros(config.size, bool)
        self._deviation = 0.0
        self._noise_estimates = 0
        self._take_noise(DEFAULT_NOISE)
        self._typical_mass = 0.0
        self._recent: deque[tuple[int, Rows]] = deque()
        self._map_shape: tuple[int, ...] | None = None
        self._run = 0
        self._last_index: int | None = None
        self._founding = True
        self._shown: int | None = None
        self._since = 0
        self._run_start: int | None = None
        self._first_of_its_run = True
        self._evidence: FloatArray = np.zeros(config.max_letters)
        self._counts: dict[str, int] = {}
        self._aliases: dict[str, str] = {}
        self._pattern_of_part: list[int] = []
        self._carried = 0
        self._retired: tuple[tuple[str, str], ...] = ()
        self._forgotten: list[str] = []
        self._apart: FloatArray = np.ones(0)
        self._apart_of = (UNDECIDED, 0, 0)

    # ---- what is known

    def __len__(self) -> int:
        """Number of maps in the window."""
        return min(self.seen, self.config.size)

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
            if self.labels[number % self.config.size] == row:
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
        self._run += 1
        self._run_start = None
        self._evidence[:] = 0.0

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
        if self._run_start is None:
            self._run_start = self._since = index
            self._first_of_its_run = True
        if self._shown is None:
            self._shown = self.memory.create(self.seen)

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
        config, memory = self.config, self.memory
        self.place = place = self.seen % config.size
        label = int(self.labels[place])
        if label != UNDECIDED:
            memory.expel(label, rows[place])
        rows[place] = x
        self.labels[place] = self.clusters[place] = UNDECIDED
        self._steps[place] = np.nan
        self._frames[place], self.runs[place] = index, self._run
        strength = self._strengths[place] = self._strength(mass)
        self._firm[place] = sure and (mass <= 0 or mass >= config.birth_mass * self._typical_mass)
        if relevance is not None:
            self._recent.append((self.seen, np.array(relevance, np.float32)))
        self.seen += 1
        settled = self.seen - min(config.recent_maps, config.size - 1)
        while self._recent and self._recent[0][0] < settled:
            number, full = self._recent.popleft()
            label = int(self.labels[number % config.size])
            if label != UNDECIDED:
                memory.add_map(label, full)

        memory.refresh(self.energies)
        self.similarity = similarity = memory.similarity(x) / strength
        self.fast = UNDECIDED
        self._odd[place] = False
        if len(similarity):
            best = int(similarity.argmax())
            top = similarity[best]
            self._odd[place] = top < UNLIKE
            if top >= config.fast:
                similarity[best] = -np.inf
                if top - similarity.max() >= config.margin:
                    self.fast = best
                similarity[best] = top

    def _strength(self, mass: float) -> float:
        """Return how similar a map of this mass is to its prototype, against one of usual mass.

        Noise stays while a pattern fades: of a map of half the mass, noise is twice the share.
        """
        if mass <= 0:
            return 1.0
        usual = self._typical_mass
        self._typical_mass += (mass - usual) / min(self.seen + 1, self.config.size)
        if mass >= usual:
            return 1.0
        level = self.noise.level
        return (level + (1.0 - level) * (usual / mass) ** 2) ** -0.5

    def due(self) -> bool:
        """Tell whether the window is to be clustered for the newest map."""
        if len(self) < self.config.min_cluster:
            return False
        settled = self.fast != UNDECIDED and self.fast == self._shown and not self._founding
        return not settled or self.seen % self.config.every == 0

    def order(self) -> IntArray:
        """Return ``(m,)`` places from the oldest map to the newest."""
        first = max(self.seen - self.config.size, 0)
        return np.arange(first, self.seen) % self.config.size

    def groups(self, order: IntArray) -> IntArray:
        """Return which maps may be compared to learn what noise does ``(m,)``.

        Maps of one run and one part of the graph: what differs by more than noise must not pass
        for it, whether it has a name already or not. A map like no prototype stands alone.

        Args:
            order: places, see :meth:`order`.
        """
        found = self.runs[order] * (self.config.size + 1) + self.clusters[order]
        return np.where(self._odd[order], -2 - order, found)

    # ---- patterns

    def _relabel(self, places: IntArray, row: int, x: Rows) -> None:
        """Give maps of the window to a pattern (−1: to none)."""
        before = self.labels[places]
        moved = places[before != row]
        if not len(moved):
            return
        before = self.labels[moved]
        for old in np.unique(before) if len(moved) > 1 else before:
            mine = moved[before == old]
            total = x[mine].sum(axis=0) if len(mine) > 1 else x[mine[0]]
            if old != UNDECIDED:
                self.memory.remove(int(old), total, len(mine))
            if row != UNDECIDED:
                self.memory.add(row, total, len(mine))
        self.labels[moved] = row

    def may_carry(self) -> bool:
        """Tell whether new maps may join the parts of the graph as they were named last.

        Only while the newest map clearly shows a prototype.
        """
        self._carried += 1
        clear = self.fast != UNDECIDED and bool(self._pattern_of_part)
        return clear and self._carried <= FULL_CHECK

    def carry(self, parts: IntArray, places: IntArray, rows: Rows) -> None:
        """Let new maps join the patterns of their parts.

        Args:
            parts: ``(W,)`` part of each map by place.
            places: ``(c,)`` new maps, some of them repeated.
            rows: ``(W, D)`` descriptors by place.
        """
        for place in places.tolist():
            part = int(parts[place])
            self.clusters[place] = part
            # Its own likeness to a prototype says more than that of its neighbours.
            pattern = self.fast if place == self.place else self._pattern_of_part[part]
            if self.labels[place] != pattern and not self._odd[place]:
                self._relabel(np.array([place]), pattern, rows)

    def name_clusters(self, clusters: IntArray, rows: Rows, parts: IntArray | None = None) -> None:
        """Continue known patterns with the clusters of the window, or begin new ones.

        Args:
            clusters: ``(m,)`` non-negative cluster of each map by place.
            rows: ``(W, D)`` descriptors by place.
            parts: ``(m,)`` the parts that the clusters were merged from, if they may go on.
        """
        self._pattern_of_part = []
        self.clusters[: len(clusters)] = clusters if parts is None else parts
        self._name_clusters(clusters, rows)
        if parts is None:
            return
        # Parts whose maps carry one pattern each pass it on until something changes.
        labels = self.labels[: len(parts)]
        wide = self.memory.used + 1
        table = np.bincount(parts * wide + labels + 1, minlength=(int(parts.max()) + 1) * wide)
        table = table.reshape(-1, wide)
        most = table.argmax(axis=1)
        clear = table.max(axis=1) >= MOSTLY * table.sum(axis=1)
        # One pattern in two clusters means that something is still to be decided.
        patterns = (most - 1).tolist()
        if (clear & (most > 0)).all():
            cluster_of = np.zeros(len(table), np.int64)
            cluster_of[parts] = clusters
            if len(set(zip(patterns, cluster_of.tolist(), strict=True))) == len(set(patterns)):
                self._pattern_of_part, self._carried = patterns, 0

    def _name_clusters(self, clusters: IntArray, x: Rows) -> None:
        config, memory = self.config, self.memory
        counts = np.bincount(clusters)
        large = np.flatnonzero(counts >= config.min_cluster)
        if not len(large):
            return
        m = len(clusters)
        rows = memory.used + 1
        table = np.bincount(clusters * rows + self.labels[:m] + 1, minlength=len(counts) * rows)
        table = table.reshape(-1, rows)[large][:, 1:]
        members = [np.flatnonzero(clusters == cluster) for cluster in large]
        age = (np.arange(m) - self.seen) % config.size  # 0 for the oldest place of a full window
        if self._founding:
            # What the first maps showed was a guess; the first real cluster is the first pattern.
            self._founding = False
            self._relabel(np.arange(m), UNDECIDED, x)
            assert self._shown is not None
            first = min(members, key=lambda places: int(age[places].min()))
            self._relabel(first, self._shown, x)
            table = np.stack([np.bincount(self.labels[p] + 1, minlength=rows) for p in members])
            table = table[:, 1:]
        memory.refresh(self.energies)
        sizes = counts[large].astype(np.float64)
        member = (clusters == large[:, None]).astype(np.float32)
        means = (member @ x[:m]).astype(np.float64) / sizes[:, None]
        lengths = clean_length(np.einsum("ij,ij->i", means, means), sizes, self.noise)
        known = memory.rows()
        held = table[:, known].astype(np.float64)
        carried = (self.labels[:m] == known[:, None]).astype(np.float32)
        own = ((member[:, None] * carried) @ x[:m]).astype(np.float64)
        cosine = memory.compare(means, lengths, known, own, held, self.energies)
        hold = held / np.maximum(carried.sum(axis=1), 1.0)
        assigned = memory.assign(cosine, held / sizes[:, None], hold, known)
        decided = [
            self._judge(places, age, x, known, own[a], held[a]) if row is None else row
            for a, (places, row) in enumerate(zip(members, assigned, strict=True))
        ]
        for places, row in zip(members, decided, strict=True):
            # A cluster that is not clear yet must not pull the pattern it was taken for.
            self._relabel(places, UNDECIDED if row is None else row, x)

    def _judge(
        self,
        places: IntArray,
        age: IntArray,
        x: Rows,
        known: IntArray,
        own: FloatArray,
        held: FloatArray,
    ) -> int | None:
        """Decide what an unmatched cluster is: a new pattern, a known one, or not clear yet."""
        config, memory = self.config, self.memory
        enough = min(self._enough, config.plenty)
        if len(places) < enough:
            return None
        newest = places[np.argsort(age[places])][-max(config.live, self._enough) :]
        ages = (self.seen - 1 - newest[[-1, -enough]]) % config.size
        if (
            ages[0] >= config.recent
            or ages[1] >= config.span * enough
            or self._firm[newest].mean() <= 0.5
        ):
            return None
        mean = x[newest].mean(axis=0, dtype=np.float64)
        lengths = clean_length(np.array([mean @ mean]), [len(newest)], self.noise)
        if len(known):
            cosine = memory.compare(
                mean[None], lengths, known, own[None], held[None], self.energies
            )[0]
            eased = (x[newest] / self._strengths[newest, None]).mean(axis=0, dtype=np.float64)
            fit = (
                memory.compare(
                    eased[None], np.ones(1), known, own[None], held[None], self.energies
                )[0]
                / memory.fit[known]
            )
            limit = np.minimum(
                config.match, 1.0 - config.certainty * memory.wander(known, len(newest))
            )
            excess = np.maximum(fit - limit, cosine - config.match)
            if excess.max() >= 0:
                return int(known[excess.argmax()])
            if len(newest) < self._enough and excess.max() >= -(self.spread[len(newest)] ** 0.5):
                return None
        if len(places) < config.mixture_hold and memory.is_mixture(mean, float(lengths[0])):
            return None
        assert self._shown is not None
        if memory.full:
            gone = memory.make_room([self._shown])
            if gone is None:
                return None
            row, letter = gone
            self._forget(row, UNDECIDED)
            if letter is not None:
                self._forgotten.append(letter)
                self._counts.pop(letter, None)
                self._aliases = {a: b for a, b in self._aliases.items() if b != letter}
        return memory.create(self.seen)

    def _take_noise(self, noise: NoiseModel) -> None:
        self.noise = noise
        self.energies = energies = noise.energies(self.config.size)
        known = self._steps[np.isfinite(self._steps)]
        if len(known) >= self.config.min_new:
            # From one map to the next noise changes and drift hardly does. The median of a normal
            # variable's size is .67 of its deviation, and a difference has twice the variance.
            self._deviation = float(np.median(np.abs(known))) / (0.6745 * 2**0.5)
        # So many maps tell a pattern from the noise around it.
        clear = energies <= self.config.birth_noise * noise.level
        clear[: self.config.min_new] = False
        self._enough = int(clear.argmax()) if clear.any() else self.config.size
        limit = self.config.certainty * self._deviation
        self.spread = np.minimum(limit**2 * energies / energies[1], MAX_SPREAD)

    def learn_noise(self, newer: NoiseModel) -> None:
        """Follow a newer noise model: a plain mean of the first estimates, then slowly."""
        if self.seen > 2 * self.config.refresh:
            self._noise_estimates += 1
        weight = max(self.config.noise_follow, 1.0 / max(self._noise_estimates, 1))
        self._take_noise(self.noise.blend(newer, weight))
        self.memory.refresh(self.energies, everything=True)

    def settle(self, rows: Rows, tidy: bool) -> None:
        """Finish a map once the window is clustered, or was not: join patterns, choose the letter.

        Args:
            rows: ``(W, D)`` descriptors by place.
            tidy: whether to look which patterns agree.
        """
        place = self.place
        if self.labels[place] == UNDECIDED:
            pattern = self.fast
            if self._founding and self._shown is not None:
                pattern = self._shown
            if pattern != UNDECIDED:
                self._relabel(np.array([place]), pattern, rows)
        if tidy:
            self._tidy()
        self._choose_letter()

    def _tidy(self) -> None:
        """Drop patterns that were not borne out and join two that turned out to be one."""
        memory = self.memory
        for row in memory.never_shown(self.seen - self.config.refresh):
            if row != self._shown:
                memory.drop(row)
                self._forget(row, UNDECIDED)
        memory.refresh(self.energies)
        memory.come_of_age()
        pair = memory.agreeing(self.seen)
        if pair is None:
            return
        younger, older = pair
        letters = memory.absorb(younger, older)
        self._forget(younger, older)
        self._shown = older if self._shown == younger else self._shown
        if letters is not None:
            gone, stays = letters
            self._aliases[gone] = stays
            self._counts[stays] = self._counts.get(stays, 0) + self._counts.pop(gone, 0)
            self._retired = (letters,)

    def _forget(self, row: int, into: int) -> None:
        """Replace a pattern that is gone wherever it is noted."""
        self.labels[self.labels == row] = into
        self._pattern_of_part = []
        if self.fast == row:
            self.fast = into
        if into >= 0:
            self._evidence[into] = max(self._evidence[into], self._evidence[row])
        self._evidence[row] = 0.0

    # ---- the letter on display

    def _choose_letter(self) -> None:
        """Show another pattern once the latest maps speak for it clearly enough.

        Evidence is added up map by map and never falls below zero (a cumulative sum test, Page
        1954). What a map adds is how much more it resembles the other pattern than the shown one,
        measured by how far the two are apart: noise that is small against that hardly counts, and
        no single map decides.
        """
        memory, similarity = self.memory, self.similarity
        assert self._shown is not None
        label = int(self.labels[self.place])
        if label != UNDECIDED and label < len(similarity):
            value = float(similarity[label])
            memory.learn_fit(label, value, self._run)
            run, last, before = self._last_score
            if (run, last) == (self._run, label):
                self._steps[self.place] = value - before
            self._last_score = (self._run, label, value)
        else:
            self._last_score = (self._run, UNDECIDED, 0.0)
        if self._first_of_its_run:
            self._first_of_its_run = False
            self._begin_run()
            return
        used = len(similarity)
        if used < 2 or self._shown >= used:
            return
        evidence = self._evidence[:used]
        lead = similarity - similarity[self._shown]
        lead /= self._apartness(used)
        np.minimum(lead, MOST_EVIDENCE, out=lead)
        np.maximum(lead, -MOST_EVIDENCE, out=lead)
        # What resembles neither speaks for neither.
        lead[(similarity < self.config.keep_cosine) & (lead > 0)] = 0.0
        evidence += lead
        np.maximum(evidence, 0.0, out=evidence)
        evidence[self._shown] = 0.0
        now = int(evidence.argmax())
        if evidence[now] >= self.config.evidence and now in memory:
            self._shown, self._since = now, max(self._since, self._first_of_run(now))
            self._evidence[:] = 0.0

    def _apartness(self, used: int) -> FloatArray:
        """Return how far the shown prototype is from all others, 1 − cosine ``(used,)``.

        Prototypes move slowly: it is looked at again every few maps.
        """
        key = (self._shown, used, self.seen // APART_EVERY)
        if key != self._apart_of:
            assert self._shown is not None
            self.memory.refresh(self.energies)
            self._apart = np.maximum(1.0 - self.memory.cosines(self._shown)[:used], MIN_APART)
            self._apart_of = key
        return self._apart

    def _begin_run(self) -> None:
        """Choose the letter of the first map of a run: nothing precedes it to hold on to."""
        memory, similarity = self.memory, self.similarity
        for row in (self.fast, int(self.labels[self.place])):
            if row in memory and memory.letter(row) is not None:
                self._shown = row
                return
        known = [row for row in memory.by_letter().values() if row < len(similarity)]
        if known:
            self._shown = max(known, key=lambda row: similarity[row])

    def _first_of_run(self, row: int) -> int:
        """Return the frame from which on the latest maps show a pattern almost without break."""
        order = self.order()[::-1]
        first, misses = int(self._frames[order[0]]), 0
        for place in order:
            if self.runs[place] != self._run:
                break
            if self.labels[place] == row:
                first, misses = int(self._frames[place]), 0
            else:
                misses += 1
                if misses > TOLERATED:
                    break
        return first

    def finish(self, relevance: NDArray[np.floating] | None) -> WindowUpdate:
        """End the update of a frame."""
        assert self._shown is not None
        full = None
        if relevance is not None and self.memory.letter(self._shown) is None:
            full = np.array(relevance, np.float32)
        letter, new = self.memory.give_letter(self._shown, full)
        self._counts[letter] = self._counts.get(letter, 0) + 1
        born = (letter,) if new else ()
        update = WindowUpdate(letter, self._since, born, self._retired, tuple(self._forgotten))
        self._retired, self._forgotten = (), []
        return update
