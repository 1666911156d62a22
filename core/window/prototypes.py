"""The prototypes of one Action Unit: what its relevance maps have looked like so far.

A prototype is the mean of the maps of one pattern. Its descriptor sum has two parts: the maps that
are still in the window, which may yet be relabelled, and the maps that have left it, whose share
is bounded so that a prototype follows its pattern. A pattern is known by the number of its row; it
gets its letter when it is first shown, and a letter shown once is never given to another pattern.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..action_units import letter as letter_of
from ..clustering.similarity import MIN_ENERGY, MIN_EXPLAINED
from ..config import WindowConfig

__all__ = ["PrototypeMemory", "clean", "clean_length"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class _Picture:
    """Full-size maps of a pattern: their sum and number, and the first one."""

    total: NDArray[np.float32] | None = None
    count: float = 0.0
    first: NDArray[np.float32] | None = None


START_FIT = 0.9
"""How similar the maps of a pattern are to its prototype, until that is known."""
START_WANDER = 0.04
"""How far the mean of a few of them strays from the usual, until that is known."""
FIT_MEMORY = 60
"""Maps over which both are averaged."""
SPELL = 8
"""Maps in a row whose mean is watched straying."""
LEAST_NOISY = 0.25
"""A prototype keeps at least this share of its energy when its maps are held to be noisier."""
MOST_ASTRAY = 0.2
"""Most by which one map or mean counts as astray: what is not of the pattern must teach little."""


class PrototypeMemory:
    """Prototypes of at most ``config.max_letters`` patterns.

    Args:
        config: thresholds and bounds.
        dimension: length of a descriptor.

    Attributes:
        lengths: ``(L,)`` lengths of the mean descriptors without the noise that averaging left,
            current after :meth:`refresh`; infinite in rows without maps, so that those are similar
            to nothing.
        fit: ``(L,)`` how similar the maps of each pattern usually are to its prototype, see
            :meth:`learn_fit`.
    """

    def __init__(self, config: WindowConfig, dimension: int) -> None:
        self.config = config
        rows = config.max_letters
        self.lengths: FloatArray = np.full(rows, np.inf)
        # Sums of all maps, and of those that have left the window: a map that leaves moves from
        # one part to the other, and their sum stays as it is.
        self._total: FloatArray = np.zeros((rows, dimension))
        self._outside: FloatArray = np.zeros((rows, dimension))
        self._n_inside = [0] * rows
        self._n_outside = [0.0] * rows
        # Length of each mean as it is, squared; clean length of each sum.
        self._squares = [0.0] * rows
        self._reach = [np.inf] * rows
        self._born: list[int | None] = [None] * rows
        self._birth: list[NDArray[np.float32] | None] = [None] * rows
        self._last_use = [0] * rows
        self._letters: list[str | None] = [None] * rows
        self._pictures: list[_Picture] = [_Picture() for _ in range(rows)]
        self.fit: FloatArray = np.full(rows, START_FIT)
        self._fits = [0] * rows
        self._wander = [START_WANDER**2] * rows
        self._spell: list[float] = []
        self._spell_of = (-1, -1)
        self._letters_given = 0
        self._uses = 0
        self._stale: set[int] = set()
        self._used = 0

    # ---- identities and letters

    def __len__(self) -> int:
        """Number of live patterns, those without a letter included."""
        return sum(born is not None for born in self._born)

    def __contains__(self, row: object) -> bool:
        return isinstance(row, int) and row >= 0 and self._born[row] is not None

    @property
    def used(self) -> int:
        """Rows below this number may be live, those from it on are not."""
        return self._used

    @property
    def full(self) -> bool:
        """True if no further pattern may be born."""
        return None not in self._born

    def create(self, now: int) -> int:
        """Begin a pattern without maps and return its row."""
        row = self._born.index(None)
        self._born[row] = now
        self._used = max(self._used, row + 1)
        return row

    def drop(self, row: int) -> None:
        """Forget a pattern."""
        self._born[row] = self._letters[row] = self._birth[row] = None
        self._total[row] = self._outside[row] = 0.0
        self._n_inside[row], self._n_outside[row] = 0, 0.0
        self._pictures[row] = _Picture()
        self.fit[row], self._fits[row], self._wander[row] = START_FIT, 0, START_WANDER**2
        self._stale.add(row)

    def make_room(self, keep: Collection[int]) -> tuple[int, str | None] | None:
        """Forget the pattern unseen for longest.

        Its letter is not given again. Should the pattern come back, it gets a new one.

        Args:
            keep: rows in use; patterns with maps in the window are kept, too.

        Returns:
            Its row and letter (None if it was never shown), or None if all are in use.
        """
        idle = [
            row
            for row, born in enumerate(self._born)
            if born is not None and self._n_inside[row] == 0 and row not in keep
        ]
        if not idle:
            return None
        stalest = min(idle, key=self._last_use.__getitem__)
        letter = self._letters[stalest]
        self.drop(stalest)
        return stalest, letter

    def give_letter(
        self, row: int, relevance: NDArray[np.float32] | None = None
    ) -> tuple[str, bool]:
        """Return the letter of a pattern, and whether it was given just now.

        ``relevance``, the full-size map of the moment, pictures a new letter until it has a mean.
        """
        letter = self._letters[row]
        if letter is not None:
            return letter, False
        letter = self._letters[row] = letter_of(self._letters_given)
        self._pictures[row].first = relevance
        self._letters_given += 1
        return letter, True

    def letter(self, row: int) -> str | None:
        """Return the letter of a pattern; None if it was never shown."""
        return self._letters[row]

    def by_letter(self) -> dict[str, int]:
        """Return letter → row of the live patterns, in the order the letters were given."""
        live = [(letter, row) for row, letter in enumerate(self._letters) if letter is not None]
        return dict(sorted(live, key=lambda item: (len(item[0]), item[0])))

    def count(self, row: int) -> float:
        """Return the number of maps behind a prototype; those long gone count as at most 200."""
        return self._n_inside[row] + self._n_outside[row]

    @property
    def totals(self) -> FloatArray:
        """Sums of all maps of each pattern ``(used, D)``; zero in rows without maps."""
        return self._total[: self._used]

    @property
    def means(self) -> FloatArray:
        """Mean descriptors of all patterns ``(used, D)``; zero in rows without maps."""
        counts = np.array([self.count(row) for row in range(self._used)])
        return self.totals / np.maximum(counts, 1.0)[:, None]

    def never_shown(self, before: int) -> list[int]:
        """Return patterns that began before a map and were never shown."""
        return [
            row
            for row, born in enumerate(self._born)
            if born is not None and born < before and self._letters[row] is None
        ]

    # ---- sums

    def add(self, row: int, total: NDArray[np.floating], count: int = 1) -> None:
        """Count maps of the window, given by their sum, for a pattern."""
        mine = self._total[row]
        mine += total
        self._n_inside[row] += count
        self._uses += 1
        self._last_use[row] = self._uses
        self._stale.add(row)

    def remove(self, row: int, total: NDArray[np.floating], count: int = 1) -> None:
        """Take maps of the window away from a pattern."""
        self._n_inside[row] -= count
        if self._n_inside[row]:
            self._total[row] -= total
        else:
            self._total[row] = self._outside[row]  # rounding must not pile up over hours
        self._stale.add(row)

    def expel(self, row: int, x: NDArray[np.floating]) -> None:
        """Move a map from the window's part of a prototype to the older part."""
        outside, most = self._outside[row], self.config.memory
        outside += x
        self._n_inside[row] -= 1
        self._n_outside[row] += 1
        if self._n_outside[row] > most:
            excess = outside * (1.0 - most / self._n_outside[row])
            outside -= excess
            self._total[row] -= excess
            self._n_outside[row] = float(most)
            self._stale.add(row)
        if not self._n_inside[row]:
            self._total[row] = outside

    def add_map(self, row: int, relevance: NDArray[np.float32]) -> None:
        """Count a full-size relevance map for the picture of a prototype."""
        picture = self._pictures[row]
        if picture.total is None:
            picture.total = np.zeros(relevance.shape, np.float32)
        picture.total += relevance
        picture.count += 1
        if picture.count > self.config.memory:
            picture.total *= self.config.memory / picture.count
            picture.count = float(self.config.memory)

    def picture(
        self, row: int
    ) -> tuple[NDArray[np.float32] | None, float, NDArray[np.float32] | None]:
        """Return the sum of the settled full-size maps of a pattern, their number, and the map of
        the moment its letter was given."""
        found = self._pictures[row]
        return found.total, found.count, found.first

    # ---- how well a pattern's own maps fit it

    def learn_fit(self, row: int, similarity: float, run: int, scale: float) -> None:
        """Note how similar a map of a pattern was to its prototype before it joined it.

        Two things are followed: the usual similarity, which is the scale of
        :meth:`similarity` (noise makes every map resemble its prototype less), and how far the
        means of a few maps in a row stray from it: drift and slow noise, which a new pattern has
        to exceed.

        Args:
            row: the pattern.
            similarity: of the map, see :meth:`similarity`.
            run: number of the unbroken run the map belongs to.
            scale: of that similarity.
        """
        fits = self._fits[row] = min(self._fits[row] + 1, FIT_MEMORY)
        weight, fit = 1.0 / (fits + 4), float(self.fit[row])
        similarity *= scale / fit
        self.fit[row] = fit * (1.0 + weight * _bounded(similarity - 1.0))
        if self._spell_of != (row, run):
            self._spell_of = (row, run)
            self._spell.clear()
        self._spell.append(similarity)
        if len(self._spell) == SPELL:
            astray = _bounded(sum(self._spell) / SPELL - 1.0) ** 2
            self._wander[row] += min(SPELL * weight, 0.5) * (astray - self._wander[row])
            self._spell.clear()

    def wander(self, rows: IntArray, count: int) -> FloatArray:
        """Return how far the mean similarity of ``count`` maps in a row strays from the usual."""
        return np.sqrt([self._wander[int(row)] * max(SPELL / count, 1.0) for row in rows])

    # ---- comparison

    def refresh(self, energies: FloatArray, everything: bool = False) -> None:
        """Bring ``means`` and ``lengths`` up to date.

        Args:
            energies: noise left in a mean of 0, 1, 2, … maps, see
                :meth:`facestage.core.clustering.similarity.NoiseModel.energies`.
            everything: the noise model has changed, too.
        """
        stale, most = self._stale, len(energies) - 1
        for row in stale.union(self.rows().tolist()) if everything else stale:
            count = self._n_inside[row] + self._n_outside[row]
            if count < 0.5:
                self.lengths[row] = self._reach[row] = np.inf
                continue
            if row in stale:
                total = self._total[row]
                self._squares[row] = float(total.dot(total)) / count**2
            length = clean(self._squares[row], float(energies[min(round(count), most)]))
            self.lengths[row], self._reach[row] = length, length * count
        stale.clear()

    def similarity(self, x: NDArray[np.float32]) -> tuple[list[float], float]:
        """Compare a map with all prototypes; call :meth:`refresh` before.

        All share one scale, the ``fit`` of the nearest: noise shortens what a map has in common
        with every prototype alike, and a scale for each would favour the vaguest one.

        Returns:
            ``(used,)``: 1 for what the own maps of the nearest pattern usually have, 0 in rows
            without maps; and that scale.
        """
        if not self._used:
            return [], 1.0
        products = self._total[: self._used].dot(x.astype(np.float64)).tolist()
        cosines = [p / reach for p, reach in zip(products, self._reach, strict=False)]
        scale = float(self.fit[cosines.index(max(cosines))])
        return [cosine / scale for cosine in cosines], scale

    def rows(self) -> IntArray:
        """Return the rows of patterns with maps; call :meth:`refresh` before."""
        return np.flatnonzero(np.isfinite(self.lengths[: self._used]))

    def cosines(self, row: int) -> FloatArray:
        """Return the clean cosines ``(used,)`` of a prototype with all; 0 without maps."""
        reach = np.array(self._reach[: self._used])
        return self.totals @ self._total[row] / (reach * self._reach[row])

    def drift(self, row: int) -> float:
        """Return the cosine of a prototype with what it was when it had come of age, −1 to 1."""
        birth = self._birth[row]
        if birth is None:
            return 1.0
        now = self._total[row]
        return float(birth @ now) / max(float(now @ now) ** 0.5, 1e-12)

    def come_of_age(self) -> None:
        """Remember prototypes that now rest on ``config.mature`` maps, for :meth:`drift`."""
        for row in range(self._used):
            if (
                self._birth[row] is None
                and self._born[row] is not None
                and self.count(row) >= self.config.mature
            ):
                total = self._total[row]
                unit = total / max(float(total @ total) ** 0.5, 1e-12)
                self._birth[row] = unit.astype(np.float32)

    def compare(
        self,
        means: FloatArray,
        lengths: FloatArray,
        rows: IntArray,
        own_sums: FloatArray,
        own_counts: FloatArray,
        energies: FloatArray,
    ) -> FloatArray:
        """Compare clusters with prototypes, each without the cluster's own maps.

        A new pattern is taken for an old one until the graph shows it as a cluster of its own, and
        by then its maps are part of that prototype; without this they would vouch for themselves.
        A prototype that consists of little else is compared as it is, see :meth:`without`.

        Args:
            means: ``(k, D)`` mean descriptors of the clusters.
            lengths: ``(k,)`` their clean lengths.
            rows: ``(l,)`` patterns.
            own_sums: ``(k, l, D)`` sum of the cluster's maps that carry the pattern.
            own_counts: ``(k, l)`` how many there are.
            energies: as in :meth:`refresh`.

        Returns:
            ``(k, l)`` clean cosines.
        """
        found = np.empty(own_counts.shape)
        for a, mean in enumerate(means):
            for b, row in enumerate(rows.tolist()):
                rest, count = self._total[row], self.without(row, own_counts[a, b])
                if count is None:
                    count = self.count(row)
                else:
                    rest = rest - own_sums[a, b]
                energy = energies[min(round(count), len(energies) - 1)]
                length = clean(float(rest @ rest) / count**2, energy)
                found[a, b] = rest @ mean / (count * lengths[a] * length)
        return found

    def ease(self, rows: IntArray, energies: FloatArray, times: float) -> FloatArray:
        """Return by what factor cosines with prototypes rise if their maps were noisier than usual.

        A prototype of few maps is as noisy as the maps that may continue it; of many, noise is
        gone however much there was.

        Args:
            rows: ``(l,)`` patterns.
            energies: as in :meth:`refresh`.
            times: how much noisier, at least 1.

        Returns:
            ``(l,)`` at least 1.
        """
        factors = []
        for row in rows.tolist():
            square = self._squares[row]
            energy = float(energies[min(round(self.count(row)), len(energies) - 1)])
            noisier = max(square - times * energy, LEAST_NOISY * square, MIN_ENERGY)
            factors.append(float(self.lengths[row]) / noisier**0.5)
        return np.array(factors)

    def without(self, row: int, held: float) -> float | None:
        """Return how many maps are behind a prototype without ``held`` of a cluster's own.

        None if it consists of little else, and is to be compared as it is: taking them away would
        leave nothing, or hardly more than rounding.
        """
        count = self.count(row) - held
        return count if count >= self.config.min_cluster and count >= held else None

    def is_mixture(self, mean: FloatArray, length: float) -> bool:
        """Tell whether a mean is a blend of two known prototypes, as it is during a transition.

        Args:
            mean: ``(D,)`` mean descriptor.
            length: its clean length.
        """
        rows = self.rows()
        if len(rows) < 2:
            return False
        prototypes = self.means[rows]
        nearest = np.argsort(-(prototypes @ mean) / self.lengths[rows], kind="stable")[:3]
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

    def agreeing(self, now: int, split: float) -> tuple[int, int] | None:
        """Return (younger, older) of the two most similar patterns if they are one, else None.

        A young prototype rests on few maps, so it is compared with the threshold that keeps
        clusters apart; an old one with a stricter threshold.

        Args:
            now: maps taken in so far.
            split: the threshold of clusters, see :class:`facestage.core.window.noise.WindowNoise`.
        """
        config = self.config
        rows = self.rows().tolist()
        if len(rows) < 2:
            return None
        sums = self._total[rows]
        products = (sums @ sums.T).tolist()
        born = [self._born[row] or 0 for row in rows]
        most, pair = 0.0, None
        for a, b in itertools.combinations(range(len(rows)), 2):
            young = now - max(born[a], born[b]) < config.size
            # Over its own threshold by most: a similar pair of old ones must not hide a young pair.
            cosine = products[a][b] / (self._reach[rows[a]] * self._reach[rows[b]])
            excess = cosine - (split if young else config.alias)
            if excess > most:
                most, pair = excess, sorted(((born[a], rows[a]), (born[b], rows[b])))
        return None if pair is None else (pair[1][1], pair[0][1])

    def absorb(self, younger: int, older: int) -> tuple[str, str] | None:
        """Merge a pattern into an older one.

        Returns:
            (letter that ends, letter that stands for it), or None if the younger never had one.
        """
        self._total[older] += self._total[younger]
        self._outside[older] += self._outside[younger]
        self._n_inside[older] += self._n_inside[younger]
        self._n_outside[older] += self._n_outside[younger]
        self._last_use[older] = max(self._last_use[older], self._last_use[younger])
        gone, stays = self._pictures[younger], self._pictures[older]
        if gone.total is not None:
            stays.total = gone.total if stays.total is None else stays.total + gone.total
            stays.count += gone.count
        ends, keeps = self._letters[younger], self._letters[older]
        first = gone.first
        self.drop(younger)
        self._stale.add(older)
        if ends is None:
            return None
        if keeps is None:
            self._letters[older], stays.first = ends, first
            return None
        return ends, keeps


def _bounded(astray: float) -> float:
    return min(max(astray, -MOST_ASTRAY), MOST_ASTRAY)


def clean(square: float, energy: float) -> float:
    """Return the length of a mean of that squared length without the noise left in it."""
    return max(square - energy, MIN_EXPLAINED * square, MIN_ENERGY) ** 0.5


def clean_length(squares: FloatArray, counts: IntArray, energies: FloatArray) -> FloatArray:
    """Return the lengths of mean descriptors without the noise left in them.

    Args:
        squares: ``(k,)`` squared lengths of the means.
        counts: ``(k,)`` maps behind each mean.
        energies: noise left in a mean of 0, 1, 2, … maps.
    """
    clean = np.maximum(squares - energies[counts], MIN_EXPLAINED * squares)
    return np.sqrt(np.maximum(clean, MIN_ENERGY))
