"""The prototypes of one Action Unit, and which of them each map of the window belongs to.

A prototype is the mean of the maps of one cluster, followed over time. Its descriptor sum has two
parts: the maps that are still in the window, which may yet be relabelled, and the maps that have
left it, whose share is bounded so that a prototype follows its maps as they drift. A prototype is
known by its id; it gets its letter when it is first shown, and a letter shown once is never given
to another prototype.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..action_units import letter as letter_of
from ..config import WindowConfig
from .contingency import NO_PROTOTYPE, Blocks
from .noise import corrected_length
from .pictures import Picture

__all__ = ["NO_PROTOTYPE", "Forgotten", "PrototypeMemory"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class _Prototype:
    """What is known of a prototype besides the sums of its maps.

    Attributes:
        fit: how similar its maps usually are to it.
        dispersion: variance of the mean similarity of consecutive maps, as a share of the usual.
        fit_count: maps that both were learnt from, up to a bound.
        born: maps that the window had taken in when it began; None where there is no prototype.
        n_inside: its maps in the window.
        n_outside: its maps that have left the window, up to a bound.
        square: squared length of its mean as it is, current after a refresh.
        origin: ``(D,)`` what it was when it had come of age, at unit length.
        last_use: number of the use (of all prototypes) that gave it maps last.
        letter: its letter, once it was shown.
        picture: its full-size maps.
    """

    fit: float
    dispersion: float
    fit_count: int = 0
    born: int | None = None
    n_inside: int = 0
    n_outside: float = 0.0
    square: float = 0.0
    origin: NDArray[np.float32] | None = None
    last_use: int = 0
    letter: str | None = None
    picture: Picture = field(default_factory=Picture)


class _SeriesKey(NamedTuple):
    """Of which prototype and unbroken run the latest similarities are."""

    prototype: int
    run: int


class Forgotten(NamedTuple):
    """A prototype that was forgotten to make room, and its letter if it was ever shown."""

    prototype: int
    letter: str | None


class PrototypeMemory:
    """At most ``config.max_letters`` prototypes, and the labels of the maps in the window.

    A label changes nowhere else: whatever changes one moves the map's descriptor between the sums
    behind the prototypes, too.

    Args:
        config: thresholds and bounds.
        dimension: length of a descriptor.

    Attributes:
        labels: ``(W,)`` prototype of each map of the window by position, or :data:`NO_PROTOTYPE`.
        lengths: ``(L,)`` lengths of the mean descriptors without the noise that averaging left,
            current after :meth:`refresh`; infinite for a prototype without maps, so that it is
            similar to nothing.
    """

    def __init__(self, config: WindowConfig, dimension: int) -> None:
        self.config = config
        count = config.max_letters
        self.labels: IntArray = np.full(config.size, NO_PROTOTYPE)
        self.lengths: FloatArray = np.full(count, np.inf)
        # Corrected length of each sum.
        self._reach = [np.inf] * count
        # Sums of all maps, and of those that have left the window: a map that leaves moves from
        # one part to the other, and their sum stays as it is.
        self._total: FloatArray = np.zeros((count, dimension))
        self._outside: FloatArray = np.zeros((count, dimension))
        self._prototypes = [self._blank() for _ in range(count)]
        self._stale: set[int] = set()
        self._used = 0
        self._uses = 0
        self._letters_given = 0
        self._series_key = _SeriesKey(NO_PROTOTYPE, 0)
        self._series: list[float] = []

    def _blank(self) -> _Prototype:
        return _Prototype(self.config.start_fit, self.config.start_dispersion**2)

    # ---- identities

    def __len__(self) -> int:
        """Number of live prototypes, those without a letter included."""
        return sum(entry.born is not None for entry in self._prototypes)

    def __contains__(self, prototype: object) -> bool:
        return (
            isinstance(prototype, int)
            and prototype >= 0
            and self._prototypes[prototype].born is not None
        )

    @property
    def used(self) -> int:
        """Ids below this number may be live, those from it on are not."""
        return self._used

    @property
    def full(self) -> bool:
        """True if there is no room for a further prototype."""
        return len(self) == len(self._prototypes)

    def create(self, now: int) -> int:
        """Begin a prototype without maps and return its id."""
        prototype = next(i for i, entry in enumerate(self._prototypes) if entry.born is None)
        self._prototypes[prototype].born = now
        self._used = max(self._used, prototype + 1)
        return prototype

    def drop(self, prototype: int) -> None:
        """Forget a prototype; its maps in the window belong to none."""
        self._prototypes[prototype] = self._blank()
        self._total[prototype] = self._outside[prototype] = 0.0
        self.labels[self.labels == prototype] = NO_PROTOTYPE
        self._stale.add(prototype)

    def make_room(self, keep: Collection[int]) -> Forgotten | None:
        """Forget the prototype unseen for longest.

        Its letter is not given again. Should such maps come back, they get a new one.

        Args:
            keep: ids in use; prototypes with maps in the window are kept, too.

        Returns:
            What was forgotten, or None if all are in use.
        """
        idle = [
            prototype
            for prototype, entry in enumerate(self._prototypes)
            if entry.born is not None and entry.n_inside == 0 and prototype not in keep
        ]
        if not idle:
            return None
        stalest = min(idle, key=lambda prototype: self._prototypes[prototype].last_use)
        letter = self._prototypes[stalest].letter
        self.drop(stalest)
        return Forgotten(stalest, letter)

    def absorb(self, younger: int, older: int) -> tuple[str, str] | None:
        """Merge a prototype into an older one.

        Returns:
            (letter that ends, letter that stands for it), or None if the younger never had one.
        """
        ending, staying = self._prototypes[younger], self._prototypes[older]
        self._total[older] += self._total[younger]
        self._outside[older] += self._outside[younger]
        staying.n_inside += ending.n_inside
        staying.n_outside += ending.n_outside
        staying.last_use = max(staying.last_use, ending.last_use)
        staying.picture.absorb(ending.picture)
        self.labels[self.labels == younger] = older
        self.drop(younger)
        self._stale.add(older)
        if ending.letter is None:
            return None
        if staying.letter is None:
            staying.letter, staying.picture.first = ending.letter, ending.picture.first
            return None
        return ending.letter, staying.letter

    # ---- letters

    def give_letter(
        self, prototype: int, relevance: NDArray[np.float32] | None = None
    ) -> tuple[str, bool]:
        """Return the letter of a prototype, and whether it was given just now.

        ``relevance``, the full-size map of the moment, pictures a new letter until it has a mean.
        """
        entry = self._prototypes[prototype]
        if entry.letter is not None:
            return entry.letter, False
        entry.letter = letter_of(self._letters_given)
        entry.picture.first = relevance
        self._letters_given += 1
        return entry.letter, True

    def letter(self, prototype: int) -> str | None:
        """Return the letter of a prototype; None if it was never shown."""
        return self._prototypes[prototype].letter

    def by_letter(self) -> dict[str, int]:
        """Return letter → id of the live prototypes, in the order the letters were given."""
        lettered = [
            (entry.letter, prototype)
            for prototype, entry in enumerate(self._prototypes)
            if entry.letter is not None
        ]
        return dict(sorted(lettered, key=lambda item: (len(item[0]), item[0])))

    def never_shown(self, before: int) -> list[int]:
        """Return prototypes that began before a map and were never shown."""
        return [
            prototype
            for prototype, entry in enumerate(self._prototypes)
            if entry.born is not None and entry.born < before and entry.letter is None
        ]

    def picture(self, prototype: int) -> Picture:
        """Return the full-size maps of a prototype that have settled."""
        return self._prototypes[prototype].picture

    # ---- labels of the maps in the window, and the sums that follow from them

    def apply(self, blocks: Blocks, assignment: list[int]) -> None:
        """Give the maps of each block to a prototype.

        Args:
            blocks: of the window, as its maps are labelled now.
            assignment: ``(p,)`` prototype of each block, or :data:`NO_PROTOTYPE`.
        """
        if assignment == blocks.label:
            return
        for block, (old, new) in enumerate(zip(blocks.label, assignment, strict=True)):
            if old == new:
                continue
            total, count = blocks.sums[block], blocks.size[block]
            if old != NO_PROTOTYPE:
                self.remove(old, total, count)
            if new != NO_PROTOTYPE:
                self.add(new, total, count)
        self.labels[: len(blocks.of_map)] = np.array(assignment)[blocks.of_map]

    def assign(self, position: int, prototype: int, x: NDArray[np.float32]) -> None:
        """Give one map of the window, of descriptor ``(D,)``, to a prototype."""
        before = int(self.labels[position])
        if before != NO_PROTOTYPE:
            self.remove(before, x)
        self.add(prototype, x)
        self.labels[position] = prototype

    def evict(self, position: int, x: NDArray[np.float32]) -> None:
        """Let a map of descriptor ``(D,)`` leave the window; a new one takes its position."""
        prototype = int(self.labels[position])
        if prototype != NO_PROTOTYPE:
            self.expel(prototype, x)
        self.labels[position] = NO_PROTOTYPE

    def add(self, prototype: int, total: NDArray[np.floating], count: int = 1) -> None:
        """Count maps of the window, given by their sum, for a prototype."""
        entry, all_maps = self._prototypes[prototype], self._total[prototype]
        all_maps += total
        entry.n_inside += count
        self._uses += 1
        entry.last_use = self._uses
        self._stale.add(prototype)

    def remove(self, prototype: int, total: NDArray[np.floating], count: int = 1) -> None:
        """Take maps of the window away from a prototype."""
        entry = self._prototypes[prototype]
        entry.n_inside -= count
        if entry.n_inside:
            self._total[prototype] -= total
        else:
            # Rounding must not pile up over hours.
            self._total[prototype] = self._outside[prototype]
        self._stale.add(prototype)

    def expel(self, prototype: int, x: NDArray[np.floating]) -> None:
        """Move a map from the window's part of a prototype to the older part."""
        entry, most = self._prototypes[prototype], self.config.memory
        outside = self._outside[prototype]
        outside += x
        entry.n_inside -= 1
        entry.n_outside += 1
        if entry.n_outside > most:
            excess = outside * (1.0 - most / entry.n_outside)
            outside -= excess
            self._total[prototype] -= excess
            entry.n_outside = float(most)
            self._stale.add(prototype)
        if not entry.n_inside:
            self._total[prototype] = outside

    # ---- how well a prototype's own maps fit it

    def learn_fit(self, prototype: int, similarity: float, run: int, scale: float) -> None:
        """Note how similar a map of a prototype was to it before it joined it.

        Two things are followed: the usual similarity, which is the scale of
        :meth:`similarity` (noise makes every map resemble its prototype less), and how far the
        mean of a few consecutive maps strays from it: drift and slow noise, which a new prototype
        has to exceed.

        Args:
            prototype: of the map.
            similarity: of the map, see :meth:`similarity`.
            run: number of the unbroken run the map belongs to.
            scale: of that similarity.
        """
        config, entry = self.config, self._prototypes[prototype]
        entry.fit_count = min(entry.fit_count + 1, config.fit_memory)
        weight = 1.0 / (entry.fit_count + config.start_weight)
        relative = similarity * (scale / entry.fit)
        entry.fit *= 1.0 + weight * self._bounded(relative - 1.0)
        if self._series_key != (prototype, run):
            self._series_key = _SeriesKey(prototype, run)
            self._series.clear()
        self._series.append(relative)
        if len(self._series) == config.dispersion_maps:
            deviation = self._bounded(sum(self._series) / config.dispersion_maps - 1.0)
            series_weight = min(config.dispersion_maps * weight, config.max_dispersion_weight)
            entry.dispersion += series_weight * (deviation**2 - entry.dispersion)
            self._series.clear()

    def _bounded(self, deviation: float) -> float:
        most = self.config.max_deviation
        return min(max(deviation, -most), most)

    def dispersion(self, prototypes: IntArray, count: int) -> FloatArray:
        """Return the standard deviation ``(l,)`` of the mean similarity of ``count`` consecutive
        maps, as a share of the usual similarity."""
        longer = max(self.config.dispersion_maps / count, 1.0)
        variances = [self._prototypes[i].dispersion * longer for i in prototypes.tolist()]
        return np.sqrt(variances)

    # ---- drift

    def drift(self, prototype: int) -> float:
        """Return the cosine of a prototype with what it was when it had come of age, −1 to 1."""
        origin = self._prototypes[prototype].origin
        if origin is None:
            return 1.0
        now = self._total[prototype]
        return float(origin @ now) / max(float(now @ now) ** 0.5, 1e-12)

    def come_of_age(self) -> None:
        """Remember prototypes that now rest on ``config.mature`` maps, for :meth:`drift`."""
        for prototype, entry in enumerate(self._prototypes[: self._used]):
            if (
                entry.origin is None
                and entry.born is not None
                and self.count(prototype) >= self.config.mature
            ):
                total = self._total[prototype]
                unit = total / max(float(total @ total) ** 0.5, 1e-12)
                entry.origin = unit.astype(np.float32)

    # ---- means and lengths

    def refresh(self, energies: FloatArray, everything: bool = False) -> None:
        """Bring ``lengths`` up to date.

        Args:
            energies: noise left in a mean of 0, 1, 2, … maps, see
                :meth:`facestage.core.clustering.similarity.NoiseModel.energies`.
            everything: the noise model has changed, too.
        """
        stale, most = self._stale, len(energies) - 1
        for prototype in stale.union(self.with_maps().tolist()) if everything else stale:
            entry = self._prototypes[prototype]
            count = entry.n_inside + entry.n_outside
            if count < 0.5:
                self.lengths[prototype] = self._reach[prototype] = np.inf
                continue
            if prototype in stale:
                total = self._total[prototype]
                entry.square = float(total.dot(total)) / count**2
            length = corrected_length(entry.square, float(energies[min(round(count), most)]))
            self.lengths[prototype], self._reach[prototype] = length, length * count
        stale.clear()

    def similarity(self, x: NDArray[np.float32]) -> tuple[list[float], float]:
        """Compare a map with all prototypes; call :meth:`refresh` before.

        All share one scale, the fit of the nearest: noise shortens what a map has in common with
        every prototype alike, and a scale for each would favour the vaguest one.

        Returns:
            ``(used,)``: 1 for what the own maps of the nearest prototype usually have, 0 for a
            prototype without maps; and that scale.
        """
        if not self._used:
            return [], 1.0
        products = self._total[: self._used].dot(x.astype(np.float64)).tolist()
        cosines = [p / reach for p, reach in zip(products, self._reach, strict=False)]
        scale = self._prototypes[cosines.index(max(cosines))].fit
        return [cosine / scale for cosine in cosines], scale

    def cosines(self, prototype: int) -> FloatArray:
        """Return the corrected cosines ``(used,)`` of a prototype with all; 0 without maps."""
        reach = np.array(self._reach[: self._used])
        return self.totals @ self._total[prototype] / (reach * self._reach[prototype])

    @property
    def totals(self) -> FloatArray:
        """Sums of all maps of each prototype ``(used, D)``; zero where there are none."""
        return self._total[: self._used]

    @property
    def means(self) -> FloatArray:
        """Mean descriptors of all prototypes ``(used, D)``; zero where there are no maps."""
        counts = np.array([self.count(prototype) for prototype in range(self._used)])
        return self.totals / np.maximum(counts, 1.0)[:, None]

    def with_maps(self) -> IntArray:
        """Return the prototypes that have maps; call :meth:`refresh` before."""
        return np.flatnonzero(np.isfinite(self.lengths[: self._used]))

    def count(self, prototype: int) -> float:
        """Return the number of maps behind a prototype; those outside of the window are bounded."""
        entry = self._prototypes[prototype]
        return entry.n_inside + entry.n_outside

    def count_without(self, prototype: int, overlap: float) -> float | None:
        """Return how many maps are behind a prototype without ``overlap`` of a cluster's own.

        None if it consists of little else, and is to be compared as it is: taking them away would
        leave nothing, or hardly more than rounding.
        """
        count = self.count(prototype) - overlap
        return count if count >= self.config.min_cluster and count >= overlap else None

    def square(self, prototype: int) -> float:
        """Return the squared length of a mean as it is; call :meth:`refresh` before."""
        return self._prototypes[prototype].square

    def reach(self, prototype: int) -> float:
        """Return the corrected length of the sum of maps; call :meth:`refresh` before."""
        return self._reach[prototype]

    def born(self, prototype: int) -> int:
        """Return how many maps the window had taken in when a live prototype began."""
        return self._prototypes[prototype].born or 0
