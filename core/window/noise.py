"""The noise of one window's maps, followed as they come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..clustering.similarity import DEFAULT_NOISE, NoiseModel
from ..config import WindowConfig

__all__ = ["WindowNoise"]

FloatArray = NDArray[np.float64]

MAX_SPREAD = 0.04
"""Bound on the variance that noise may explain, so that no noise makes everything one pattern."""


class WindowNoise:
    """Noise of the maps of one window.

    Args:
        config: thresholds and bounds.

    Attributes:
        model: the noise model.
        energies: ``(W + 1,)`` noise left in a mean of so many maps, see
            :meth:`facestage.core.clustering.similarity.NoiseModel.energies`.
        split: clusters whose clean cosine exceeds this are one pattern.
        usual_mass: sum of the positive relevance of a map as it usually is; 0 if unknown.
        spread: ``(W + 1,)`` variance of a cosine that noise explains, for means of so many maps.
    """

    def __init__(self, config: WindowConfig) -> None:
        self.config = config
        self.usual_mass = 0.0
        self._deviation = 0.0
        self._estimates = 0
        self._take(DEFAULT_NOISE, np.empty(0))

    def _take(self, model: NoiseModel, steps: FloatArray) -> None:
        config = self.config
        self.model = model
        self.energies = energies = model.energies(config.size)
        known = steps[np.isfinite(steps)]
        if len(known) >= config.min_new:
            # From one map to the next noise changes and drift hardly does. The median of a normal
            # variable's size is .67 of its deviation, and a difference has twice the variance.
            rising = np.sort(np.abs(known))
            median = 0.5 * float(rising[len(rising) // 2] + rising[(len(rising) - 1) // 2])
            self._deviation = median / (0.6745 * 2**0.5)
        low, high = config.clear
        clearness = min(max((model.level - low) / (high - low), 0.0), 1.0)
        self.split = config.split + clearness * (config.split_clear - config.split)
        limit = config.certainty * self._deviation
        self.spread: FloatArray = np.minimum(limit**2 * energies / energies[1], MAX_SPREAD)

    def learn(self, newer: NoiseModel, steps: FloatArray, seen: int) -> None:
        """Follow a newer noise model: a plain mean of the first estimates, then slowly.

        Args:
            newer: the estimate.
            steps: changes of likeness from one map to the next, NaN where unknown.
            seen: maps taken in so far.
        """
        if seen > 2 * self.config.refresh:
            self._estimates += 1
        weight = max(self.config.noise_follow, 1.0 / max(self._estimates, 1))
        self._take(self.model.blend(newer, weight), steps)

    def strength(self, mass: float, seen: int) -> float:
        """Return how similar a map of this mass is to its prototype, against one of usual mass.

        Noise stays while a pattern fades: of a map of half the mass, noise is twice the share. What
        is usual is learnt from each map.

        Args:
            mass: sum of its positive relevance; 0 if unknown.
            seen: maps taken in before.
        """
        if mass <= 0:
            return 1.0
        usual, level = self.usual_mass, self.model.level
        self.usual_mass += (mass - usual) / min(seen + 1, self.config.size)
        if mass >= usual:
            return 1.0
        return (level + (1.0 - level) * (usual / mass) ** 2) ** -0.5
