"""Prototypes of the reference window (:mod:`exact_window`), kept as plain objects.

A prototype is the mean of the maps of one pattern. Its descriptor sum has two parts: the maps that
are still in the window, which may yet be relabelled, and the maps that have left it, whose share
is bounded so that a prototype follows its pattern. Identities are internal numbers; a pattern gets
its letter when it is first shown, and a letter shown once is never given to another pattern.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from facestage.core.action_units import letter as letter_of
from facestage.core.clustering.similarity import MIN_ENERGY, MIN_EXPLAINED, NoiseModel
from facestage.core.config import WindowConfig
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

log = logging.getLogger(__name__)

__all__ = ["PrototypeMemory"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class _Entry:
    """One pattern. ``inside`` sums the maps in the window, ``outside`` those that left it."""

    born: int
    # One zero stands for a vector of any length until the first map is added.
    inside: FloatArray = field(default_factory=lambda: np.zeros(1))
    outside: FloatArray = field(default_factory=lambda: np.zeros(1))
    n_inside: int = 0
    n_outside: float = 0.0
    letter: str | None = None
    map_sum: FloatArray | None = None
    map_count: float = 0.0
    first_map: NDArray[np.float32] | None = None
    last_use: int = 0

    @property
    def count(self) -> float:
        return self.n_inside + self.n_outside


class PrototypeMemory:
    """Prototypes with stable identities.

    Args:
        config: thresholds and bounds.
    """

    def __init__(self, config: WindowConfig) -> None:
        self.config = config
        self._entries: dict[int, _Entry] = {}
        self._next_id = 0
        self._letters_given = 0
        self._uses = 0
        self._cache: tuple[IntArray, FloatArray, FloatArray] | None = None

    # ---- identities and letters

    def __len__(self) -> int:
        """Number of live patterns, those without a letter included."""
        return len(self._entries)

    def __contains__(self, identity: object) -> bool:
        return identity in self._entries

    @property
    def full(self) -> bool:
        """True if no further pattern may be born."""
        return len(self._entries) >= self.config.max_letters

    def create(self, now: int) -> int:
        """Begin a pattern without maps and return its identity."""
        identity = self._next_id
        self._next_id += 1
        self._entries[identity] = _Entry(born=now)
        self._cache = None
        return identity

    def drop(self, identity: int) -> None:
        """Forget a pattern."""
        del self._entries[identity]
        self._cache = None

    def make_room(self, keep: Collection[int]) -> bool:
        """Forget the pattern unseen for longest, and tell whether there was one to forget.

        Its letter is not given again. Should the pattern come back, it gets a new one.

        Args:
            keep: identities in use; patterns with maps in the window are kept, too.
        """
        idle = [i for i, e in self._entries.items() if e.n_inside == 0 and i not in keep]
        if not idle:
            return False
        stalest = min(idle, key=lambda i: self._entries[i].last_use)
        log.info("prototype %s forgotten to make room", self._entries[stalest].letter)
        self.drop(stalest)
        return True

    def give_letter(
        self, identity: int, relevance: NDArray[np.float32] | None = None
    ) -> tuple[str, bool]:
        """Return the letter of a pattern, and whether it was given just now.

        ``relevance``, the full-size map of the moment, pictures a new letter until it has a mean.
        """
        entry = self._entries[identity]
        if entry.letter is not None:
            return entry.letter, False
        entry.letter = letter_of(self._letters_given)
        entry.first_map = relevance
        self._letters_given += 1
        return entry.letter, True

    def letter(self, identity: int) -> str | None:
        """Return the letter of a pattern; None if it was never shown."""
        return self._entries[identity].letter

    def by_letter(self) -> dict[str, int]:
        """Return letter → identity of the live patterns, in the order the letters were given."""
        live = [(e.letter, i) for i, e in self._entries.items() if e.letter is not None]
        return dict(sorted(live, key=lambda item: (len(item[0]), item[0])))

    def count(self, identity: int) -> float:
        """Return the number of maps behind a prototype; those long gone count as at most 200."""
        return self._entries[identity].count

    def unlettered_and_empty(self) -> list[int]:
        """Return patterns that were never shown and have lost all their maps in the window."""
        return [i for i, e in self._entries.items() if e.letter is None and e.n_inside == 0]

    # ---- sums

    def add(self, identity: int, x: FloatArray) -> None:
        """Count a map of the window for a pattern."""
        entry = self._entries[identity]
        entry.inside = entry.inside + x
        entry.n_inside += 1
        self._uses += 1
        entry.last_use = self._uses
        self._cache = None

    def remove(self, identity: int, x: FloatArray) -> None:
        """Take a map of the window away from a pattern."""
        entry = self._entries[identity]
        entry.n_inside -= 1
        # Rounding must not pile up over hours.
        entry.inside = entry.inside - x if entry.n_inside else np.zeros_like(x)
        self._cache = None

    def expel(self, identity: int, x: FloatArray) -> None:
        """Move a map from the window's part of a prototype to the older part."""
        self.remove(identity, x)
        entry = self._entries[identity]
        entry.outside = entry.outside + x
        entry.n_outside += 1
        if entry.n_outside > self.config.memory:
            entry.outside = entry.outside * (self.config.memory / entry.n_outside)
            entry.n_outside = float(self.config.memory)

    def add_map(self, identity: int, relevance: NDArray[np.floating]) -> None:
        """Count a full-size relevance map for the picture of a prototype."""
        entry = self._entries[identity]
        if entry.map_sum is None:
            entry.map_sum = np.zeros(relevance.shape)
        entry.map_sum += relevance
        entry.map_count += 1
        if entry.map_count > self.config.memory:
            entry.map_sum *= self.config.memory / entry.map_count
            entry.map_count = float(self.config.memory)

    def map_sum(self, identity: int) -> tuple[FloatArray | None, float]:
        """Return the sum of the settled full-size maps of a pattern and their number."""
        entry = self._entries[identity]
        return entry.map_sum, entry.map_count

    def first_map(self, identity: int) -> FloatArray | None:
        """Return the full-size map of the moment the letter was given."""
        first = self._entries[identity].first_map
        return None if first is None else first.astype(np.float64)

    # ---- comparison

    def vectors(self, noise: NoiseModel) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return identities ``(L,)``, mean descriptors ``(L, D)`` and clean lengths ``(L,)``.

        Patterns without any map are left out. The clean length is that of the mean without the
        noise energy that averaging left in it.
        """
        if self._cache is None:
            ids = [i for i, e in self._entries.items() if e.count >= 0.5]
            entries = [self._entries[i] for i in ids]
            means = np.array([(e.inside + e.outside) / e.count for e in entries])
            counts = np.array([e.count for e in entries])
            self._cache = (np.array(ids, dtype=np.int64), means, counts)
        ids, means, counts = self._cache
        return ids, means, clean_length(means, counts, noise) if len(ids) else counts

    def similarity(self, x: FloatArray, noise: NoiseModel) -> tuple[IntArray, FloatArray]:
        """Compare one map with all prototypes.

        Returns:
            Identities ``(L,)`` and s_l = x·P_l / (|P_l| · √c) ``(L,)``, both lengths clean.
        """
        ids, means, length = self.vectors(noise)
        if not len(ids):
            return ids, np.empty(0)
        return ids, means @ x / (length * np.sqrt(noise.level))

    def fast_match(self, x: FloatArray, noise: NoiseModel) -> int | None:
        """Return the pattern a map clearly belongs to, by its prototype alone, or None."""
        ids, s = self.similarity(x, noise)
        if not len(ids):
            return None
        best = int(s.argmax())
        lead = s[best] - np.delete(s, best).max(initial=-1.0)
        clear = s[best] >= self.config.fast and lead >= self.config.margin
        return int(ids[best]) if clear else None

    def nearest(self, x: FloatArray, noise: NoiseModel) -> int | None:
        """Return the pattern with a letter that is most similar to a map; None without any."""
        ids, s = self.similarity(x, noise)
        for position in np.argsort(-s, kind="stable"):
            if self._entries[int(ids[position])].letter is not None:
                return int(ids[position])
        return None

    def assign(
        self,
        means: FloatArray,
        counts: FloatArray,
        overlap: dict[int, FloatArray],
        noise: NoiseModel,
    ) -> list[int | None]:
        """Match clusters of the window with known patterns, one to one.

        The score of a pair is the clean cosine of the cluster's mean with the prototype plus a
        bonus for the share of the cluster's maps that carry the identity already; the best total
        wins (Kuhn–Munkres).

        Args:
            means: ``(k, D)`` mean descriptors of the clusters.
            counts: ``(k,)`` sizes.
            overlap: identity → ``(k,)`` share of each cluster's maps that carry it, 0–1.
            noise: noise of the maps.

        Returns:
            Per cluster its pattern, or None.
        """
        config = self.config
        ids, prototypes, length = self.vectors(noise)
        k = len(means)
        if not len(ids):
            return [None] * k
        own = clean_length(means, counts, noise)
        cosine = means @ prototypes.T / np.outer(own, length)
        share = np.stack([overlap.get(int(i), np.zeros(k)) for i in ids], axis=1)
        allowed = (cosine >= config.match) | (
            (share >= config.keep_overlap) & (cosine >= config.keep_cosine)
        )
        score = np.where(allowed, cosine + config.overlap_bonus * share, -10.0)
        result: list[int | None] = [None] * k
        for a, b in zip(*linear_sum_assignment(-score), strict=True):
            if allowed[a, b]:
                result[a] = int(ids[b])
        for a in range(k):
            if result[a] is None and cosine[a].max() >= config.split:
                result[a] = int(ids[cosine[a].argmax()])
        return result

    def closest(
        self, mean: FloatArray, length: float, noise: NoiseModel
    ) -> tuple[int | None, float]:
        """Return the pattern whose prototype agrees best with a mean, and their clean cosine.

        Args:
            mean: ``(D,)`` mean descriptor.
            length: its clean length.
            noise: noise of the maps.
        """
        ids, means, lengths = self.vectors(noise)
        if not len(ids):
            return None, -1.0
        cosine = means @ mean / (lengths * length)
        best = int(cosine.argmax())
        return int(ids[best]), float(cosine[best])

    def is_mixture(self, mean: FloatArray, length: float, noise: NoiseModel) -> bool:
        """Tell whether a mean is a blend of two known prototypes, as it is during a transition.

        Args:
            mean: ``(D,)`` mean descriptor.
            length: its clean length.
            noise: noise of the maps.
        """
        ids, prototypes, lengths = self.vectors(noise)
        if len(ids) < 2:
            return False
        nearest = np.argsort(-(prototypes @ mean) / lengths, kind="stable")[:3]
        for position, a in enumerate(nearest):
            for b in nearest[position + 1 :]:
                pair = prototypes[[a, b]].T
                weights = np.linalg.lstsq(pair, mean, rcond=None)[0]
                if (weights <= 0.1).any():
                    continue
                blend = pair @ weights
                if blend @ mean >= self.config.mixture * np.linalg.norm(blend) * length:
                    return True
        return False

    def agreeing(self, noise: NoiseModel, now: int) -> tuple[int, int] | None:
        """Return (younger, older) of the two most similar patterns if they are one, else None.

        A young prototype rests on few maps, so it is compared with the threshold that keeps
        clusters apart; an old one with a stricter threshold.
        """
        config = self.config
        ids, means, length = self.vectors(noise)
        if len(ids) < 2:
            return None
        born = np.array([self._entries[int(i)].born for i in ids])
        young = now - np.maximum(born[:, None], born[None]) < config.size
        # Over its own threshold by most: a similar pair of old ones must not hide a young pair.
        excess = means @ means.T / np.outer(length, length)
        excess -= np.where(young, config.split, config.alias)
        np.fill_diagonal(excess, -np.inf)
        a, b = divmod(int(excess.argmax()), len(ids))
        if excess[a, b] <= 0:
            return None
        older, younger = sorted(
            (int(ids[a]), int(ids[b])), key=lambda i: (self._entries[i].born, i)
        )
        return younger, older

    def absorb(self, younger: int, older: int) -> tuple[str, str] | None:
        """Merge a pattern into an older one.

        Returns:
            (letter that ends, letter that stands for it), or None if the younger never had one.
        """
        gone, stays = self._entries.pop(younger), self._entries[older]
        stays.inside = stays.inside + gone.inside
        stays.n_inside += gone.n_inside
        stays.outside = stays.outside + gone.outside
        stays.n_outside += gone.n_outside
        stays.last_use = max(stays.last_use, gone.last_use)
        if gone.map_sum is not None:
            stays.map_sum = gone.map_sum + (0.0 if stays.map_sum is None else stays.map_sum)
            stays.map_count += gone.map_count
        self._cache = None
        if gone.letter is None:
            return None
        if stays.letter is None:
            stays.letter, stays.first_map = gone.letter, gone.first_map
            return None
        return gone.letter, stays.letter


def clean_length(means: FloatArray, counts: FloatArray, noise: NoiseModel) -> FloatArray:
    """Return the lengths of mean descriptors without the noise left in them.

    Args:
        means: ``(k, D)``.
        counts: ``(k,)`` maps behind each mean.
        noise: noise of the maps.
    """
    own = np.einsum("ij,ij->i", means, means)
    clean = np.maximum(own - noise.energy(counts), MIN_EXPLAINED * own)
    return np.sqrt(np.maximum(clean, MIN_ENERGY))
