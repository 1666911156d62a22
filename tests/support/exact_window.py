"""The reference for the sliding window: everything computed anew and exactly at each map.

The last maps are clustered anew (the exact reference path), the clusters are matched with the
prototypes known so far, and a change of letter must prove itself over a few maps. Most maps
clearly show the letter already on display; for them the clustering is skipped.

References:
    Kuhn, "The Hungarian method for the assignment problem", 1955 (matching of clusters).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from facestage.core.clustering.similarity import DEFAULT_NOISE, gram_row, noise_model, normalise
from facestage.core.clustering.spectral import SprayPreset, partition
from facestage.core.config import WindowConfig
from facestage.core.errors import ConfigError
from numpy.typing import NDArray

from tests.support.exact_prototypes import PrototypeMemory, clean_length

__all__ = ["PrototypeWindow", "WindowUpdate"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

UNDECIDED = -1
DEBOUNCE_HITS, DEBOUNCE_OF = 3, 4
LIVE = 5
EARLY_REFRESH = (8, 12, 20, 24)
"""Numbers of maps at which the noise model is refreshed besides every ``refresh`` maps."""


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
    """

    letter: str
    since: int
    born: tuple[str, ...] = ()
    retired: tuple[tuple[str, str], ...] = ()


class PrototypeWindow:
    """State of one Action Unit of one source.

    The same maps give the same letters however calls are grouped, and the object can be pickled.

    Args:
        config: thresholds and bounds.

    Raises:
        ConfigError: the bounds contradict each other.
    """

    def __init__(self, config: WindowConfig | None = None) -> None:
        self.config = config = config if config is not None else WindowConfig()
        if not 4 <= config.min_cluster <= config.min_new <= config.size:
            raise ConfigError(
                "a window needs 4 <= min_cluster <= min_new <= size, got "
                f"{config.min_cluster}, {config.min_new}, {config.size}; enlarge the window"
            )
        self._preset = SprayPreset(
            "window",
            knn=config.knn,
            tau=config.tau,
            max_clusters=config.max_clusters,
            merge_above=config.split,
            linkage_below=config.linkage_below,
            restarts=3,
        )
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if new."""
        self._memory = PrototypeMemory(self.config)
        self._x: FloatArray = np.empty((0, 0))
        self._gram: FloatArray = np.empty((0, 0))
        self._frames: IntArray = np.empty(0, dtype=np.int64)
        self._runs: IntArray = np.empty(0, dtype=np.int64)
        self._labels: IntArray = np.empty(0, dtype=np.int64)
        self._fast: IntArray = np.empty(0, dtype=np.int64)
        self._recent: deque[NDArray[np.float32] | None] = deque()
        self._noise = DEFAULT_NOISE
        self._noise_estimates = 0
        self._seen = 0
        self._run = 0
        self._last_index: int | None = None
        self._founding = True
        self._shown: int | None = None
        self._since = 0
        self._run_start: int | None = None
        self._history: list[int] = []
        self._map_shape: tuple[int, ...] | None = None
        self._counts: dict[str, int] = {}
        self._aliases: dict[str, str] = {}

    # ---- what is known

    @property
    def letters(self) -> tuple[str, ...]:
        """Letters in use, in the order they were given; retired ones left out."""
        return tuple(self._memory.by_letter())

    @property
    def counts(self) -> dict[str, int]:
        """Letter → number of updates that showed it."""
        return dict(self._counts)

    def __len__(self) -> int:
        """Number of maps in the window."""
        return len(self._x)

    def prototype(self, letter: str) -> NDArray[np.float32]:
        """Return the mean relevance map of a letter.

        Args:
            letter: a letter given by this window; a retired one shows the letter it went into.

        Returns:
            ``(S, S)`` float32, logit units.

        Raises:
            ConfigError: the letter was never given, or ``update`` was never handed a map of it.
        """
        while letter in self._aliases:
            letter = self._aliases[letter]
        identity = self._memory.by_letter().get(letter)
        if identity is None:
            raise ConfigError(
                f"there is no prototype {letter!r}; known are {', '.join(self.letters) or 'none'}"
            )
        total, count = self._memory.map_sum(identity)
        newest = self._labels[len(self._labels) - len(self._recent) :]
        for label, relevance in zip(newest, self._recent, strict=True):
            if label == identity and relevance is not None:
                total = relevance.astype(np.float64) if total is None else total + relevance
                count += 1
        if total is None:
            total, count = self._memory.first_map(identity), 1
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
        self._history.clear()

    def update(
        self,
        index: int,
        descriptor: NDArray[np.floating] | None,
        relevance: NDArray[np.floating] | None = None,
    ) -> WindowUpdate:
        """Take in one map.

        Args:
            index: number of its frame; rises from call to call.
            descriptor: ``(D,)`` real, see :mod:`facestage.core.relevance`; None for a map without
                relevance, which holds the letter.
            relevance: ``(S, S)`` full-size map for the picture of the prototype, logit units.

        Returns:
            The letter now, and what changed.

        Raises:
            ValueError: the index does not rise, the descriptor has another length than before or
                is zero or not finite, or the map has another shape. The state is unchanged then.
        """
        if self._last_index is not None and index <= self._last_index:
            raise ValueError(
                f"frame {index} came after frame {self._last_index}; feed frames in order, "
                "or reset() the window for a new source"
            )
        x = None if descriptor is None else self._checked(descriptor)
        relevance = self._checked_map(relevance)
        self._last_index = index
        if self._run_start is None:
            self._run_start = self._since = index
        if self._shown is None:
            self._shown = self._memory.create(self._seen)
        retired: tuple[tuple[str, str], ...] = ()
        if x is not None:
            self._append(index, x, relevance)
            self._label_newest(x)
            retired = self._tidy()
            self._choose_letter(x)
        letter, new = self._memory.give_letter(self._shown, relevance)
        self._counts[letter] = self._counts.get(letter, 0) + 1
        return WindowUpdate(letter, self._since, (letter,) if new else (), retired)

    def _checked(self, descriptor: NDArray[np.floating]) -> FloatArray:
        """Return the descriptor at unit length."""
        x = np.asarray(descriptor)
        expected = self._x.shape[1:] if len(self._x) else x.shape
        if x.ndim != 1 or x.shape != expected:
            raise ValueError(
                f"a descriptor of shape {x.shape} does not fit a window of {expected}; hand over "
                "one flattened map, always pooled to the same side"
            )
        return np.asarray(normalise(x))

    def _checked_map(self, relevance: NDArray[np.floating] | None) -> NDArray[np.float32] | None:
        """Return the full-size map as float32."""
        if relevance is None:
            return None
        if not np.isfinite(relevance).all():
            raise ValueError("the relevance map holds NaN or infinite values; check the network")
        if self._map_shape is not None and relevance.shape != self._map_shape:
            raise ValueError(
                f"a relevance map of shape {relevance.shape} came after {self._map_shape}; "
                "reset() the window when the model changes"
            )
        self._map_shape = relevance.shape
        return np.array(relevance, dtype=np.float32)

    # ---- the window

    def _append(self, index: int, x: FloatArray, relevance: NDArray[np.float32] | None) -> None:
        """Put a map into the window; the oldest leaves a full one."""
        if len(self._x) == 0:
            self._x = np.empty((0, len(x)))
        keep = slice(1 if len(self._x) == self.config.size else 0, None)
        if keep.start and self._labels[0] != UNDECIDED:
            self._memory.expel(int(self._labels[0]), self._x[0])
        row = gram_row(self._x[keep], x)
        n = len(row) + 1
        cosines = np.ones((n, n))
        cosines[:-1, :-1] = self._gram[keep, keep]
        cosines[-1, :-1] = cosines[:-1, -1] = row
        self._gram = cosines
        self._x = np.concatenate([self._x[keep], x[None]])
        self._frames = np.append(self._frames[keep], index)
        self._runs = np.append(self._runs[keep], self._run)
        self._labels = np.append(self._labels[keep], UNDECIDED)
        self._fast = np.append(self._fast[keep], UNDECIDED)
        self._seen += 1
        self._recent.append(relevance)
        if len(self._recent) > min(self.config.recent_maps, self.config.size - 1):
            settled = self._recent.popleft()
            label = int(self._labels[len(self._labels) - len(self._recent) - 1])
            if settled is not None and label != UNDECIDED:
                self._memory.add_map(label, settled)

    def _relabel(self, position: int, identity: int) -> None:
        """Give a map of the window to another pattern."""
        old = int(self._labels[position])
        if old == identity:
            return
        if old != UNDECIDED:
            self._memory.remove(old, self._x[position])
        if identity != UNDECIDED:
            self._memory.add(identity, self._x[position])
        self._labels[position] = identity

    def _label_newest(self, x: FloatArray) -> None:
        """Find the pattern of the newest map, by its prototype or by clustering the window."""
        config, n = self.config, len(self._x)
        fast = self._memory.fast_match(x, self._noise)
        self._fast[-1] = UNDECIDED if fast is None else fast
        settled = fast is not None and fast == self._shown and not self._founding
        if n >= config.min_cluster and (not settled or self._seen % config.every == 0):
            labels, _ = partition(self._gram, self._preset, self._noise)
            self._name_clusters(labels)
        elif self._founding:
            assert self._shown is not None
            self._relabel(n - 1, self._shown)
        if self._labels[-1] == UNDECIDED and fast is not None:
            self._relabel(n - 1, fast)

    def _name_clusters(self, labels: IntArray) -> None:
        """Continue known patterns with the clusters of the window, or begin new ones."""
        config = self.config
        ids, first, counts = np.unique(labels, return_index=True, return_counts=True)
        large = counts >= config.min_cluster
        if not large.any():
            return
        order = np.argsort(first[large])
        members = [labels == i for i in ids[large][order]]
        if self._founding:
            # What the first maps showed was a guess; the first real cluster is the first pattern.
            self._founding = False
            for position in range(len(labels)):
                self._relabel(position, UNDECIDED)
            self._continue(members[0], self._shown)
        sizes = np.array([m.sum() for m in members], dtype=np.float64)
        means = np.stack([self._x[m].mean(axis=0) for m in members])
        known = np.unique(self._labels[self._labels != UNDECIDED])
        overlap = {
            int(i): np.array([(self._labels[m] == i).mean() for m in members]) for i in known
        }
        assigned = self._memory.assign(means, sizes, overlap, self._noise)
        for member, identity in zip(members, assigned, strict=True):
            self._continue(member, self._judge(member) if identity is None else identity)

    def _continue(self, member: NDArray[np.bool_], identity: int | None) -> None:
        """Give all maps of a cluster to a pattern; None leaves them as they are."""
        if identity is not None:
            for position in np.flatnonzero(member):
                self._relabel(int(position), identity)

    def _judge(self, member: NDArray[np.bool_]) -> int | None:
        """Decide what an unmatched cluster is: a new pattern, a known one, or not clear yet."""
        config, memory, noise = self.config, self._memory, self._noise
        positions = np.flatnonzero(member)
        past = len(member) - 1 - positions[-1] >= config.recent
        if len(positions) < config.min_new or past:
            return None
        newest = positions[-LIVE:]
        mean = self._x[newest].mean(axis=0)
        length = float(clean_length(mean[None], np.array([len(newest)]), noise)[0])
        nearest, cosine = memory.closest(mean, length, noise)
        if nearest is not None and cosine >= config.match:
            return nearest
        shown = self._fast[newest]
        _, hits = np.unique(shown[shown != UNDECIDED], return_counts=True)
        if hits.max(initial=0) >= 0.4 * len(newest):
            return None
        brief = len(positions) < config.mixture_hold
        if brief and memory.is_mixture(mean, length, noise):
            return None
        assert self._shown is not None
        if memory.full and not memory.make_room([*self._history, self._shown]):
            return None
        return memory.create(self._seen)

    def _tidy(self) -> tuple[tuple[str, str], ...]:
        """Refresh the noise model and join patterns that turned out to be one."""
        config = self.config
        due = self._seen % config.refresh == 0
        if due or self._seen in EARLY_REFRESH:
            newer = noise_model(self._gram, self._runs)
            self._noise_estimates += 1
            # A plain mean of the first estimates, then a slow follower.
            weight = max(0.1, 1.0 / self._noise_estimates)
            self._noise = self._noise.blend(newer, weight)
        if not due:
            return ()
        for identity in self._memory.unlettered_and_empty():
            self._memory.drop(identity)
        pair = self._memory.agreeing(self._noise, self._seen)
        if pair is None:
            return ()
        younger, older = pair
        letters = self._memory.absorb(younger, older)
        self._labels[self._labels == younger] = older
        self._fast[self._fast == younger] = older
        self._history = [older if i == younger else i for i in self._history]
        self._shown = older if self._shown == younger else self._shown
        if letters is None:
            return ()
        gone, stays = letters
        self._aliases[gone] = stays
        self._counts[stays] = self._counts.get(stays, 0) + self._counts.pop(gone, 0)
        return (letters,)

    # ---- the letter on display

    def _choose_letter(self, x: FloatArray) -> None:
        """Show another pattern once enough of the latest maps agree on it."""
        memory = self._memory
        assert self._shown is not None
        fast, label = int(self._fast[-1]), int(self._labels[-1])
        if fast != UNDECIDED and fast in memory:
            now = fast
        elif label != UNDECIDED:
            now = label
        else:
            now = self._shown
        if not self._history and memory.letter(now) is None:
            known = memory.nearest(x, self._noise)
            now = self._shown if known is None else known
        self._history = [*self._history, now][-DEBOUNCE_OF:]
        if now == self._shown:
            return
        if len(self._history) == 1:
            # Nothing precedes the first map of a run, so there is nothing to hold on to.
            self._shown = now
        elif self._history.count(now) >= DEBOUNCE_HITS:
            self._shown, self._since = now, max(self._since, self._first_of_run(now))

    def _first_of_run(self, identity: int) -> int:
        """Return the frame from which on the latest maps show a pattern almost without break."""
        tolerated = DEBOUNCE_OF - DEBOUNCE_HITS
        first, misses = int(self._frames[-1]), 0
        for position in range(len(self._x) - 1, -1, -1):
            if self._runs[position] != self._run:
                break
            if self._labels[position] == identity:
                first, misses = int(self._frames[position]), 0
            else:
                misses += 1
                if misses > tolerated:
                    break
        return first
