"""The noise of one window's maps, followed as they come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..clustering.similarity import DEFAULT_NOISE, MIN_ENERGY, MIN_EXPLAINED, NoiseModel
from ..config import WindowConfig

__all__ = ["WindowNoise", "corrected_length", "corrected_lengths"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NORMAL_MEDIAN = 0.6745
"""The median of a normal variable's size, in standard deviations."""


class WindowNoise:
    """Noise of the maps of one window.

    Args:
        config: thresholds and bounds.

    Attributes:
        model: the noise model.
        energies: ``(W + 1,)`` noise left in a mean of so many maps, see
            :meth:`facestage.core.clustering.similarity.NoiseModel.energies`.
        split: clusters whose noise-corrected cosine exceeds this are one.
        variances: ``(W + 1,)`` variance of a cosine that noise explains, for means of so many maps.
        usual_mass: sum of the positive relevance of a map as it usually is; 0 if unknown.
    """

    def __init__(self, config: WindowConfig) -> None:
        self.config = config
        self.usual_mass = 0.0
        self._deviation = 0.0
        self._estimates = 0
        self._adopt(DEFAULT_NOISE)

    def learn(self, newer: NoiseModel, steps: FloatArray, seen: int) -> None:
        """Follow a newer noise model: a plain mean of the first estimates, then slowly.

        Args:
            newer: the estimate.
            steps: changes of similarity from one map to the next, NaN where unknown.
            seen: maps taken in so far.
        """
        if seen > 2 * self.config.refresh:
            self._estimates += 1
        weight = max(self.config.noise_follow, 1.0 / max(self._estimates, 1))
        known = steps[np.isfinite(steps)]
        if len(known) >= self.config.min_new:
            self._deviation = _deviation(known)
        self._adopt(self.model.blend(newer, weight))

    def _adopt(self, model: NoiseModel) -> None:
        """Take over a model and what follows from it."""
        config = self.config
        self.model = model
        self.energies = energies = model.energies(config.size)
        low, high = config.split_levels
        clearness = min(max((model.level - low) / (high - low), 0.0), 1.0)
        self.split = config.split + clearness * (config.split_clear - config.split)
        limit = config.certainty * self._deviation
        self.variances: FloatArray = np.minimum(
            limit**2 * energies / energies[1], config.max_variance
        )

    def expected_similarity(self, mass: float) -> float:
        """Return how similar a map of this mass is to its prototype, against one of usual mass.

        Noise stays while an expression fades: in a map of half the mass, noise has twice the share.

        Args:
            mass: sum of its positive relevance; 0 if unknown.
        """
        if mass <= 0 or mass >= self.usual_mass:
            return 1.0
        level = self.model.level
        return (level + (1.0 - level) * (self.usual_mass / mass) ** 2) ** -0.5

    def learn_mass(self, mass: float, seen: int) -> None:
        """Follow the usual mass.

        Args:
            mass: sum of the positive relevance of a map; 0 if unknown.
            seen: maps taken in before it.
        """
        if mass > 0:
            self.usual_mass += (mass - self.usual_mass) / min(seen + 1, self.config.size)

    def passes_mass_gate(self, mass: float) -> bool:
        """Tell whether a map is strong enough to count for a new prototype; 0 if unknown."""
        return mass <= 0 or mass >= self.config.mass_gate * self.usual_mass


def _deviation(steps: FloatArray) -> float:
    """Return the standard deviation of the similarity, from its changes between two maps.

    From one map to the next noise changes and drift hardly does. A difference has twice the
    variance of its terms.
    """
    rising = np.sort(np.abs(steps))
    median = 0.5 * float(rising[len(rising) // 2] + rising[(len(rising) - 1) // 2])
    return median / (NORMAL_MEDIAN * 2**0.5)


def corrected_length(square: float, energy: float) -> float:
    """Return the length of a mean of that squared length without the noise energy left in it."""
    return max(square - energy, MIN_EXPLAINED * square, MIN_ENERGY) ** 0.5


def corrected_lengths(squares: FloatArray, counts: IntArray, energies: FloatArray) -> FloatArray:
    """Return the lengths of mean descriptors without the noise left in them.

    Args:
        squares: ``(k,)`` squared lengths of the means.
        counts: ``(k,)`` maps behind each mean.
        energies: noise left in a mean of 0, 1, 2, … maps.
    """
    corrected = np.maximum(squares - energies[counts], MIN_EXPLAINED * squares)
    return np.sqrt(np.maximum(corrected, MIN_ENERGY))
