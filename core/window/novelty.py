"""Whether a cluster that matches no pattern is a new one.

What differs from all prototypes may be noise, a pattern that drifts, or the way from one pattern to
another. A new pattern must differ by more than the noise of its own maps lets means differ, by more
than its neighbour strays by itself, and must have begun where something changed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..clustering.similarity import MIN_ENERGY, NoiseModel
from ..config import WindowConfig
from .noise import WindowNoise
from .prototypes import PrototypeMemory, clean_length
from .ring import UNDECIDED, MapRing

__all__ = ["NEW", "judge_cluster"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Rows = NDArray[np.float32]

NEW = -2
"""The cluster is a new pattern."""
EXPECTED = 0.3
"""The usual likeness of two maps of the window counts as this share of a pair of the cluster's own
whose noise is independent."""
LEAST = 0.25
"""A mean keeps at least this share of its energy when a cluster's own noise is taken off it."""
UNSURE = 0.2
"""Noise left in the mean of a cluster, as a share of its coherence, lowers the cosine from which on
it may be a known pattern by this much …"""
PLENTY = 7
"""So many maps show well enough how noisy they are …"""
HASTE = 0.03
"""… and each that lacks lowers that cosine by this much: what is told in a hurry must be clear."""
ROUGH_KNOWN = 12
"""So many noisy maps that may be a known pattern are taken for it; fewer wait."""
GOES_ON = 0.28
"""A cluster goes on from the maps before it if the two means are apart (1 − cosine) by at most this
share of what two maps are."""
BEFORE = 12
"""Maps before a cluster that it is compared with."""
SPAN = 8
"""A cluster has begun where it holds half of so many maps in a row."""


def judge_cluster(
    ring: MapRing,
    noise: WindowNoise,
    memory: PrototypeMemory,
    places: IntArray,
    x: Rows,
    known: IntArray,
    own: FloatArray,
    held: FloatArray,
) -> int | None:
    """Decide what an unmatched cluster is: a new pattern, a known one, or not clear yet.

    Args:
        ring: maps of the window.
        noise: their noise.
        memory: prototypes.
        places: ``(n,)`` maps of the cluster.
        x: ``(W, D)`` descriptors by place.
        known: ``(l,)`` patterns to compare with.
        own: ``(l, D)`` sum of the cluster's maps that carry each of them …
        held: ``(l,)`` … and their number.

    Returns:
        :data:`NEW`, a known pattern, or None.
    """
    config, level = memory.config, noise.model.level
    if len(places) < config.min_new:
        return None
    age = ring.age()
    newest = places[np.argsort(age[places])][-config.live :]
    ages = (ring.seen - 1 - newest[[-1, -config.min_new]]) % config.size
    if (
        ages[0] >= config.recent
        or ages[1] >= config.span * config.min_new
        or ring.firm[newest].mean() <= 0.5
    ):
        return None
    maps = x[newest]
    mean = maps.mean(axis=0, dtype=np.float64)
    square, energy = float(mean @ mean), float(noise.energies[len(newest)])
    coherence = _coherence(maps, age[newest], noise.model)
    rough = energy * max((1.0 - coherence) / (1.0 - level), 1.0)
    length, eased_length = (
        max(square - e, LEAST * square, MIN_ENERGY) ** 0.5 for e in (energy, rough)
    )
    if len(known):
        near = memory.compare(mean[None], np.ones(1), known, own[None], held[None], noise.energies)[
            0
        ]
        limit = np.minimum(config.match, 1.0 - config.certainty * memory.wander(known, len(newest)))
        excess = near / length - limit
        if excess.max() >= 0:
            return int(known[excess.argmax()])
        eased = near * memory.ease(known, noise.energies, rough / energy) / eased_length
        unsure = UNSURE * rough / coherence + HASTE * max(PLENTY - len(newest), 0)
        if eased.max() >= config.match - unsure:
            return int(known[eased.argmax()]) if len(newest) >= ROUGH_KNOWN else None
        shown = _drifted_from(ring, noise, config, places, x)
        if shown is not None:
            return shown if shown != UNDECIDED else None
    if len(places) < config.mixture_hold and memory.is_mixture(mean, length):
        return None
    return NEW


def _coherence(maps: Rows, age: IntArray, noise: NoiseModel) -> float:
    """Return the cosine of two of these maps whose noise is independent, at most 1.

    Weak maps and patterns of little contrast are noisier than the rest of the window, and the
    mean of a few of them resembles its prototype less than the noise of all would explain. What
    resembles no pattern because something is new, on the other hand, resembles itself.

    Two maps that share ρ of their noise have the cosine c + (1 − c)·ρ; c fits all pairs by least
    squares, so that those that share most of it hardly count.

    Args:
        maps: ``(n, D)``.
        age: ``(n,)`` their order in time.
        noise: that of the whole window, whose correlation says what two maps share at their
            distance.
    """
    first, second = np.triu_indices(len(maps), 1)
    shared = np.asarray((0.0, *noise.correlation, 0.0))
    rho = shared[np.minimum(np.abs(age[first] - age[second]), len(shared) - 1)]
    own = (maps @ maps.T)[first, second].astype(np.float64)
    free = 1.0 - rho
    fitted = float((own - rho) @ free) + EXPECTED * noise.level
    return max(fitted / (float(free @ free) + EXPECTED), 0.01)


def _drifted_from(
    ring: MapRing, noise: WindowNoise, config: WindowConfig, places: IntArray, x: Rows
) -> int | None:
    """Return the pattern whose maps go on in this cluster without a break; None if none does.

    A new pattern comes within a few maps; where a cluster begins as the maps before it end, the
    window was cut somewhere along a drift.
    """
    order = ring.order()
    order = order[ring.runs[order] == ring.run]
    inside = np.isin(order, places)
    at = int(inside.argmax())
    while at < len(order) and inside[at : at + SPAN].mean() < 0.5:
        at += 1
    first = order[at:][inside[at:]][: config.live]
    before = order[:at][~inside[:at]][-BEFORE:]
    if len(before) < config.min_new or len(first) < config.min_cluster:
        return None
    ends = [x[part].mean(axis=0, dtype=np.float64) for part in (before, first)]
    squares = np.array([end @ end for end in ends])
    lengths = clean_length(squares, np.array([len(before), len(first)]), noise.energies)
    goes_on = 1.0 - GOES_ON * (1.0 - noise.model.level)
    if ends[0] @ ends[1] < goes_on * lengths[0] * lengths[1]:
        return None
    return int(np.bincount(ring.labels[before] + 1).argmax()) - 1
