"""Comparison of clusters and prototypes; nothing here changes them.

All lengths and cosines are noise-corrected: averaging leaves noise in a mean, and a mean of few
maps would otherwise look less like its prototype than a mean of many.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..clustering.similarity import MIN_ENERGY
from .noise import corrected_length
from .prototypes import PrototypeMemory

__all__ = [
    "Overlap",
    "agreeing_pair",
    "gain_if_noisier",
    "is_mixture",
    "products_without_overlap",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a cluster of the window shares with prototypes.

    Attributes:
        prototypes: ``(l,)`` the prototypes.
        sums: ``(l, D)`` sum of the cluster's maps that carry each of them.
        counts: ``(l,)`` how many those are.
    """

    prototypes: IntArray
    sums: FloatArray
    counts: FloatArray


def products_without_overlap(
    memory: PrototypeMemory, mean: FloatArray, overlap: Overlap, energies: FloatArray
) -> FloatArray:
    """Compare a cluster with prototypes, each without the cluster's own maps.

    A new prototype's maps are taken for an old one until the graph shows them as a cluster, and by
    then they are part of that prototype; without this they would vouch for themselves. A prototype
    that consists of little else is compared as it is, see :meth:`PrototypeMemory.count_without`.

    Args:
        memory: prototypes, refreshed.
        mean: ``(D,)`` mean descriptor of the cluster.
        overlap: what the cluster shares with the prototypes to compare with.
        energies: noise left in a mean of 0, 1, 2, … maps.

    Returns:
        ``(l,)`` inner products of the mean with the prototypes at unit (corrected) length.
    """
    products = np.empty(len(overlap.prototypes))
    for i, prototype in enumerate(overlap.prototypes.tolist()):
        total = memory.totals[prototype]
        count = memory.count_without(prototype, overlap.counts[i])
        if count is None:
            count = memory.count(prototype)
        else:
            total = total - overlap.sums[i]
        energy = energies[min(round(count), len(energies) - 1)]
        length = corrected_length(float(total @ total) / count**2, energy)
        products[i] = total @ mean / (count * length)
    return products


def gain_if_noisier(
    memory: PrototypeMemory, prototypes: IntArray, energies: FloatArray, times: float
) -> FloatArray:
    """Return by what factor cosines with prototypes rise if their maps were noisier than usual.

    A prototype of few maps is as noisy as the maps that may continue it; a mean of many has little
    noise left however noisy they are.

    Args:
        memory: prototypes, refreshed.
        prototypes: ``(l,)`` which.
        energies: noise left in a mean of 0, 1, 2, … maps.
        times: how much noisier, at least 1.

    Returns:
        ``(l,)`` at least 1.
    """
    factors = []
    for prototype in prototypes.tolist():
        square = memory.square(prototype)
        energy = float(energies[min(round(memory.count(prototype)), len(energies) - 1)])
        least = memory.config.least_energy * square
        noisier = max(square - times * energy, least, MIN_ENERGY)
        factors.append(float(memory.lengths[prototype]) / noisier**0.5)
    return np.array(factors)


def is_mixture(memory: PrototypeMemory, mean: FloatArray, length: float) -> bool:
    """Tell whether a mean is a blend of two known prototypes, as it is during a transition.

    Args:
        memory: prototypes, refreshed.
        mean: ``(D,)`` mean descriptor.
        length: its corrected length.
    """
    known = memory.with_maps()
    if len(known) < 2:
        return False
    prototypes = memory.means[known]
    cosines = (prototypes @ mean) / memory.lengths[known]
    nearest = np.argsort(-cosines, kind="stable")[: memory.config.mixture_nearest]
    for a, b in itertools.combinations(nearest, 2):
        pair = prototypes[[a, b]].T
        weights = np.linalg.lstsq(pair, mean, rcond=None)[0]
        if (weights <= memory.config.mixture_weight).any():
            continue
        blend = pair @ weights
        if blend @ mean >= memory.config.mixture * np.linalg.norm(blend) * length:
            return True
    return False


def agreeing_pair(memory: PrototypeMemory, now: int, split: float) -> tuple[int, int] | None:
    """Return (younger, older) of the two most similar prototypes if they are one, else None.

    A young prototype rests on few maps, so it is compared with the threshold that keeps clusters
    apart; an old one with a stricter threshold.

    Args:
        memory: prototypes, refreshed.
        now: maps taken in so far.
        split: the threshold of clusters, see :class:`facestage.core.window.noise.WindowNoise`.
    """
    config = memory.config
    known = memory.with_maps().tolist()
    if len(known) < 2:
        return None
    sums = memory.totals[known]
    products = (sums @ sums.T).tolist()
    born = [memory.born(prototype) for prototype in known]
    reach = [memory.reach(prototype) for prototype in known]
    largest, pair = 0.0, None
    for a, b in itertools.combinations(range(len(known)), 2):
        young = now - max(born[a], born[b]) < config.size
        # Over its own threshold by most: a similar pair of old ones must not hide a young pair.
        excess = products[a][b] / (reach[a] * reach[b]) - (split if young else config.alias)
        if excess > largest:
            largest, pair = excess, sorted(((born[a], known[a]), (born[b], known[b])))
    return None if pair is None else (pair[1][1], pair[0][1])
