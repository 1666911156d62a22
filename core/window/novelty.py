"""Novelty detection: whether a cluster that continues no prototype begins a new one.

What differs from all prototypes may be noise, a prototype that drifts, or the way from one to
another. A new prototype must differ by more than the noise of its own maps lets means differ, by
more than its neighbour's own dispersion, and must have begun where something changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..clustering.similarity import MIN_ENERGY, NoiseModel
from ..config import WindowConfig
from .comparison import Overlap, gain_if_noisier, is_mixture, products_without_overlap
from .noise import WindowNoise, corrected_lengths
from .prototypes import NO_PROTOTYPE, PrototypeMemory
from .ring import MapRing

__all__ = ["NEW", "UNCLEAR", "Novelty", "Verdict", "judge_cluster"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Descriptors = NDArray[np.float32]

LEAST_COHERENCE = 0.01
"""Floor of a coherence, which is divided by."""


class Novelty(Enum):
    """What a cluster that was not matched may be."""

    NEW = "new"
    KNOWN = "known"
    UNCLEAR = "unclear"


class Verdict(NamedTuple):
    """What an unmatched cluster is; the prototype where it is a known one."""

    novelty: Novelty
    prototype: int = NO_PROTOTYPE


NEW = Verdict(Novelty.NEW)
"""The cluster begins a prototype."""
UNCLEAR = Verdict(Novelty.UNCLEAR)
"""The cluster is left without a prototype until more is known of it."""


@dataclass(frozen=True, slots=True)
class _ClusterMean:
    """The mean of the latest maps of a cluster, and the noise in it.

    Attributes:
        mean: ``(D,)`` mean descriptor.
        count: maps behind it.
        length: its corrected length.
        energy: noise left in it if its maps are as noisy as usual …
        own_length, own_energy: … and the same, with the noise that its maps show themselves.
        coherence: cosine of two of its maps whose noise is independent.
    """

    mean: FloatArray
    count: int
    length: float
    energy: float
    own_length: float
    own_energy: float
    coherence: float


def judge_cluster(
    positions: IntArray,
    descriptors: Descriptors,
    overlap: Overlap,
    ring: MapRing,
    noise: WindowNoise,
    memory: PrototypeMemory,
) -> Verdict:
    """Decide what an unmatched cluster is: a new prototype, a known one, or not clear yet.

    Args:
        positions: ``(n,)`` maps of the cluster.
        descriptors: ``(W, D)`` by position.
        overlap: what it shares with the prototypes to compare it with.
        ring: maps of the window.
        noise: their noise.
        memory: prototypes, refreshed.
    """
    config = memory.config
    newest = _newest_maps(positions, ring, config)
    if newest is None:
        return UNCLEAR
    cluster = _cluster_mean(descriptors[newest], ring.age()[newest], noise, config)
    if len(overlap.prototypes):
        verdict = _known(cluster, overlap, noise, memory)
        if verdict is None:
            verdict = _continuation(positions, descriptors, ring, noise, memory)
        if verdict is not None:
            return verdict
    if len(positions) < config.mixture_hold and is_mixture(memory, cluster.mean, cluster.length):
        return UNCLEAR
    return NEW


def _newest_maps(positions: IntArray, ring: MapRing, config: WindowConfig) -> IntArray | None:
    """Return the maps that the cluster is judged by, in order; None if they cannot be a new one.

    They are to be enough, to come now and as one segment, and most of them confident.
    """
    if len(positions) < config.min_new:
        return None
    newest = positions[np.argsort(ring.age()[positions])][-config.newest_maps :]
    last, earlier = (ring.seen - 1 - newest[[-1, -config.min_new]]) % config.size
    if last >= config.recent or earlier >= config.span * config.min_new:
        return None
    return newest if ring.confident[newest].mean() > 0.5 else None


def _cluster_mean(
    maps: Descriptors, age: IntArray, noise: WindowNoise, config: WindowConfig
) -> _ClusterMean:
    """Take the mean of maps ``(n, D)``, ``age`` being their order in time ``(n,)``."""
    mean = maps.mean(axis=0, dtype=np.float64)
    square, energy = float(mean @ mean), float(noise.energies[len(maps)])
    coherence = _coherence(maps, age, noise.model, config.coherence_prior)
    own_energy = energy * max((1.0 - coherence) / (1.0 - noise.model.level), 1.0)
    length, own_length = (
        max(square - taken, config.least_energy * square, MIN_ENERGY) ** 0.5
        for taken in (energy, own_energy)
    )
    return _ClusterMean(mean, len(maps), length, energy, own_length, own_energy, coherence)


def _coherence(maps: Descriptors, age: IntArray, noise: NoiseModel, prior: float) -> float:
    """Return the cosine of two of these maps whose noise is independent, at most 1.

    Weak maps and displays of little contrast are noisier than the rest of the window, and the
    mean of a few of them resembles its prototype less than the noise of all would explain. What
    resembles no prototype because something is new, on the other hand, resembles itself.

    Two maps that share ρ of their noise have the cosine c + (1 − c)·ρ; c fits all pairs by least
    squares, so that those that share most of it hardly count.

    Args:
        maps: ``(n, D)``.
        age: ``(n,)`` their order in time.
        noise: that of the whole window, whose correlation says what two maps share at their
            distance.
        prior: weight of the whole window's level, in pairs whose noise is independent.
    """
    first, second = np.triu_indices(len(maps), 1)
    shared = np.asarray((0.0, *noise.correlation, 0.0))
    rho = shared[np.minimum(np.abs(age[first] - age[second]), len(shared) - 1)]
    cosines = (maps @ maps.T)[first, second].astype(np.float64)
    free = 1.0 - rho
    fitted = float((cosines - rho) @ free) + prior * noise.level
    return max(fitted / (float(free @ free) + prior), LEAST_COHERENCE)


def _known(
    cluster: _ClusterMean, overlap: Overlap, noise: WindowNoise, memory: PrototypeMemory
) -> Verdict | None:
    """Return the prototype that the cluster is, by itself or with slack; None if it is none."""
    config, prototypes = memory.config, overlap.prototypes
    products = products_without_overlap(memory, cluster.mean, overlap, noise.energies)
    dispersion = memory.dispersion(prototypes, cluster.count)
    limits = np.minimum(config.match, 1.0 - config.certainty * dispersion)
    excess = products / cluster.length - limits
    if excess.max() >= 0:
        return Verdict(Novelty.KNOWN, int(prototypes[excess.argmax()]))
    # Were its own noise, which is more than usual, the prototype's too, it might be that one.
    times = cluster.own_energy / cluster.energy
    gains = gain_if_noisier(memory, prototypes, noise.energies, times)
    cosines = products * gains / cluster.own_length
    slack = config.noise_slack * cluster.own_energy / cluster.coherence
    slack += config.slack_per_map * max(config.slack_maps - cluster.count, 0)
    if cosines.max() < config.match - slack:
        return None
    if cluster.count < config.slack_known:
        return UNCLEAR
    return Verdict(Novelty.KNOWN, int(prototypes[cosines.argmax()]))


def _continuation(
    positions: IntArray,
    descriptors: Descriptors,
    ring: MapRing,
    noise: WindowNoise,
    memory: PrototypeMemory,
) -> Verdict | None:
    """Return the prototype whose maps go on in this cluster without a break; None if none does.

    A new prototype comes within a few maps; where a cluster begins as the maps before it end, the
    window was cut somewhere along a drift.
    """
    config = memory.config
    order = ring.order()
    order = order[ring.runs[order] == ring.run]
    inside = np.isin(order, positions)
    onset, span = int(inside.argmax()), config.onset_span
    while onset < len(order) and inside[onset : onset + span].mean() < 0.5:
        onset += 1
    first = order[onset:][inside[onset:]][: config.newest_maps]
    before = order[:onset][~inside[:onset]][-config.continuation_maps :]
    if len(before) < config.min_new or len(first) < config.min_cluster:
        return None
    ends = [descriptors[maps].mean(axis=0, dtype=np.float64) for maps in (before, first)]
    squares = np.array([end @ end for end in ends])
    lengths = corrected_lengths(squares, np.array([len(before), len(first)]), noise.energies)
    least_cosine = 1.0 - config.continuation * (1.0 - noise.model.level)
    if ends[0] @ ends[1] < least_cosine * lengths[0] * lengths[1]:
        return None
    prototype = int(np.bincount(memory.labels[before] + 1).argmax()) - 1
    return UNCLEAR if prototype == NO_PROTOTYPE else Verdict(Novelty.KNOWN, prototype)
