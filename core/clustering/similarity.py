"""Similarity of relevance maps, and how much of their difference is noise.

Descriptors are L2-normalised rows, so their Gram matrix holds cosines. Maps of one pattern differ
from each other by noise, and maps that are close in time share part of it. The cosine as a
function of the lag shows both, and with them how far a mean of n maps still is from the clean
pattern: the correction that lets clusters of different size be compared.

References:
    Lapuschkin et al., "Unmasking Clever Hans predictors", Nature Communications 10, 2019 (SpRAy);
    the variance of the mean of a correlated series is textbook time-series analysis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..backend import array_namespace, to_numpy

__all__ = [
    "NoiseModel",
    "corrected_cosines",
    "gram",
    "gram_row",
    "lag_profile",
    "noise_model",
    "normalise",
    "normalise_valid",
    "profile_noise",
    "ring_profile",
]

MAX_LAG = 14
"""Longest lag whose similarity is measured, maps (half a second at 30 per second)."""
FAR_LAG = 8
"""From this lag on the noise of two maps counts as independent."""
PROFILE_QUANTILE = 0.6
"""Quantile of the cosines at one lag: above the median, because pairs that straddle a change of
pattern only ever lower them."""
NO_RUN = -1 << 40
"""Number that no run has."""
MIN_MAPS = 8
"""With fewer maps the noise cannot be measured and :data:`DEFAULT_NOISE` stands in."""
MIN_EXPLAINED = 0.5
"""A mean keeps at least this share of its energy in the noise correction, so that a wrong noise
estimate cannot blow a cosine up."""
TILE = 512
"""Rows of a Gram matrix that are worked on together."""
TINY, HUGE = 1e-200, 1e200
"""Squared lengths between which nothing can have been lost to the range of numbers."""
MIN_ENERGY = 1e-6
"""Floor of a mean's squared length: signed maps of opposite sign cancel to nothing."""


def normalise(x: Any) -> Any:
    """Scale rows to unit Euclidean length.

    Args:
        x: ``(n, D)`` or ``(D,)`` array of NumPy or CuPy, finite.

    Returns:
        An array of the same shape and library, float64.

    Raises:
        ValueError: a row is zero or not finite.
    """
    xp = array_namespace(x)
    x = xp.asarray(x, dtype=xp.float64)
    # Dividing by the largest entry first keeps squares of tiny or huge relevances in range.
    peak = xp.max(xp.abs(x), axis=-1, keepdims=True) if x.size else xp.ones((*x.shape[:-1], 1))
    if not bool(xp.all(xp.isfinite(peak))):
        raise ValueError(
            "a relevance map holds NaN or infinite values; check the input picture and the "
            "network's weights"
        )
    if not bool(xp.all(peak > 0)):
        rows = xp.flatnonzero(peak.reshape(-1) == 0)
        raise ValueError(
            f"map {int(rows[0])} of {peak.size} is zero everywhere and has no direction to "
            "compare; leave maps without relevance out before clustering"
        )
    x = x / peak
    return x / xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))


def normalise_valid(x: Any) -> tuple[NDArray[np.float32], list[bool], list[bool]]:
    """Scale rows to unit length and tell which rows have a direction at all.

    Args:
        x: ``(n, D)`` real, NumPy.

    Returns:
        ``(n, D)`` float32 (zero where there is no direction); for each row whether it is finite,
        and whether it is finite and not zero.
    """
    x = np.asarray(x, dtype=np.float64)
    squares = np.einsum("ij,ij->i", x, x)
    plain = [TINY < square < HUGE for square in squares.tolist()]
    if all(plain):
        return (x / np.sqrt(squares)[:, None]).astype(np.float32), plain, plain
    # Squares of tiny or huge entries leave the range of numbers; scaled by the largest they do not.
    peak = np.abs(x).max(axis=1)
    finite = np.isfinite(peak)
    valid = finite & (peak > 0)
    x = np.where(valid[:, None], x, 1.0) / np.where(valid, peak, 1.0)[:, None]
    x /= np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
    return np.where(valid[:, None], x, 0.0).astype(np.float32), finite.tolist(), valid.tolist()


def gram(x: Any) -> Any:
    """Return the cosines between all rows.

    Args:
        x: ``(n, D)`` L2-normalised rows.

    Returns:
        ``(n, n)``, symmetric, values in [−1, 1], ones on the diagonal.
    """
    xp = array_namespace(x)
    g = x @ x.T
    # In place, tile by tile: of a long sequence each further matrix of this size would be 134 MB.
    xp.clip(g, -1.0, 1.0, out=g)
    tiles = [slice(start, start + TILE) for start in range(0, len(g), TILE)]
    for number, upper in enumerate(tiles):
        for lower in tiles[number:]:
            mean = (g[upper, lower] + g[lower, upper].T) / 2
            g[upper, lower] = mean
            g[lower, upper] = mean.T
    xp.fill_diagonal(g, 1.0)
    return g


def gram_row(window: Any, x: Any) -> Any:
    """Return the cosines of one new map with those of a window.

    Args:
        window: ``(n, D)`` L2-normalised rows.
        x: ``(D,)`` L2-normalised.

    Returns:
        ``(n,)`` values in [−1, 1].
    """
    xp = array_namespace(window, x)
    return xp.clip(window @ x, -1.0, 1.0)


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Noise of the maps of one pattern.

    Attributes:
        level: c, cosine of two maps of one pattern whose noise is independent, (0, 1).
        correlation: ρ_1, ρ_2, …: how much of their noise two maps at that lag share, 0–1, falling.
    """

    level: float
    correlation: tuple[float, ...]

    def energy(self, count: ArrayLike) -> NDArray[np.float64]:
        """Return the noise energy left in the mean of ``count`` consecutive maps.

        e(n) = (1 − c)/n · (1 + 2·Σ_l max(1 − l/n, 0)·ρ_l), the variance of a mean of n
        correlated values; e(1) = 1 − c.
        """
        n = np.maximum(np.asarray(count, dtype=np.float64), 1.0)
        shared = _lag_shares(n, len(self.correlation)) @ np.asarray(self.correlation)
        return (1.0 - self.level) / n * (1.0 + 2.0 * shared)

    def energies(self, count: int) -> NDArray[np.float64]:
        """Return the noise energy left in means of 0 (taken as 1), 1, …, ``count`` maps."""
        n, shares = _shares(count, len(self.correlation))
        return (1.0 - self.level) / n * (1.0 + 2.0 * (shares @ np.asarray(self.correlation)))

    def blend(self, newer: NoiseModel, weight: float) -> NoiseModel:
        """Move towards a newer estimate by ``weight`` (0–1)."""
        pairs = zip_longest(self.correlation, newer.correlation, fillvalue=0.0)
        return NoiseModel(
            self.level + weight * (newer.level - self.level),
            tuple(old + weight * (new - old) for old, new in pairs),
        )


def _lag_shares(n: NDArray[np.float64], lags: int) -> NDArray[np.float64]:
    """Return max(1 − l/n, 0) for l = 1, 2, …, ``lags`` along a new last axis."""
    return np.clip(1.0 - np.arange(1, lags + 1) / n[..., None], 0.0, None)


@lru_cache(maxsize=16)
def _shares(count: int, lags: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what :meth:`NoiseModel.energies` needs that no noise model changes."""
    n = np.maximum(np.arange(count + 1, dtype=np.float64), 1.0)
    return n, _lag_shares(n, lags)


DEFAULT_NOISE = NoiseModel(0.9, tuple(0.5**lag for lag in range(1, MAX_LAG + 1)))
"""What is assumed of the first few maps."""


def lag_profile(
    cosines: Any, runs: NDArray[np.int64] | None = None, max_lag: int = MAX_LAG
) -> NDArray[np.float64]:
    """Measure the similarity of maps as a function of their distance in time.

    Args:
        cosines: ``(n, n)`` Gram matrix of maps in the order of time, NumPy or CuPy.
        runs: ``(n,)`` number of the unbroken run each map belongs to; pairs from different runs
            are left out. One run if None.
        max_lag: longest lag wanted, maps.

    Returns:
        ``(L,)`` with L ≤ max_lag: m_l, the 60 % quantile of the cosines at lag l = 1, 2, …; it
        ends before the first lag that no pair of one run has.
    """
    profile: list[float] = []
    for lag in range(1, min(max_lag, len(cosines) - 1) + 1):
        pairs = to_numpy(array_namespace(cosines).diagonal(cosines, lag))
        if runs is not None:
            pairs = pairs[runs[lag:] == runs[:-lag]]
        if not pairs.size:
            break
        profile.append(float(np.quantile(pairs, PROFILE_QUANTILE)))
    return np.asarray(profile, dtype=np.float64)


def _shifted(values: NDArray[np.int64], lags: int, beyond: int) -> NDArray[np.int64]:
    """Return the values ``(m,)`` of what is later by 1, 2, … ``(lags, m)``, as a view.

    Args:
        values: in the order of time.
        lags: how many.
        beyond: stands for what is later than the last.
    """
    m, step = len(values), values.itemsize
    longer = np.concatenate((values, np.full(lags, beyond)))
    return np.ndarray((lags, m), np.int64, longer, offset=step, strides=(step, step))


def ring_profile(
    gram: Any, order: NDArray[np.int64], runs: NDArray[np.int64], max_lag: int = MAX_LAG
) -> NDArray[np.float64]:
    """Return :func:`lag_profile` of a window kept as a ring.

    Args:
        gram: ``(W, W)`` cosines of the maps by place in the ring, NumPy or CuPy.
        order: ``(m,)`` places from the oldest map to the newest.
        runs: ``(m,)`` number of the unbroken run of each, in that order.
        max_lag: longest lag wanted, maps.

    Returns:
        As :func:`lag_profile`, with at most m − 4 lags: the longest ones of a short window rest on
        a handful of pairs.
    """
    xp = array_namespace(gram)
    m = len(order)
    lags = min(max_lag, m - 4)
    if lags < 1:
        return np.empty(0)
    # Maps later by 1, 2, … in rows; those beyond the newest are paired with nothing.
    paired = _shifted(runs, lags, NO_RUN) == runs
    pairs = paired.sum(axis=1)
    flat = _shifted(order * gram.shape[1], lags, 0) + order
    # Sorting with what does not count at the end puts the quantile of each row at a known place.
    cosines = xp.where(xp.asarray(paired), gram.reshape(-1)[xp.asarray(flat)], xp.inf)
    ascending = to_numpy(xp.sort(cosines, axis=1))
    known = int(np.argmin(pairs > 0)) if (pairs == 0).any() else lags
    place = PROFILE_QUANTILE * (pairs[:known] - 1)
    below = place.astype(np.int64)
    above = np.minimum(below + 1, pairs[:known] - 1)
    row = np.arange(known)
    low, high = ascending[row, below], ascending[row, above]
    return (low + (place - below) * (high - low)).astype(np.float64)


def noise_model(cosines: Any, runs: NDArray[np.int64] | None = None) -> NoiseModel:
    """Estimate the noise of the maps from their Gram matrix.

    c is the mean of m_8 … m_14 (of the longest lags there are, in a short sequence) and
    ρ_l = (m_l − c)/(1 − c), made non-increasing.

    Args:
        cosines: ``(n, n)`` Gram matrix of maps in the order of time, NumPy or CuPy.
        runs: as in :func:`lag_profile`.

    Returns:
        The model; :data:`DEFAULT_NOISE` for fewer than 8 maps, which show too few lags.
    """
    # The longest lags of a short sequence rest on a handful of pairs.
    n = len(cosines)
    return profile_noise(lag_profile(cosines, runs, max(min(MAX_LAG, n - 4), 0)))


def profile_noise(profile: NDArray[np.float64], far_lag: int = FAR_LAG) -> NoiseModel:
    """Return the noise model of a lag profile, see :func:`noise_model`.

    Args:
        profile: ``(L,)`` m_1, m_2, …
        far_lag: from this lag on the noise of two maps counts as independent.
    """
    if profile.size < MIN_MAPS - 4:
        return DEFAULT_NOISE
    far = profile[max(0, min(far_lag, profile.size - 2) - 1) :]
    level = min(max(float(far.mean()), 0.2), 0.995)
    rho = np.minimum.accumulate((profile - level) / (1.0 - level)).tolist()
    return NoiseModel(level, tuple([min(max(value, 0.0), 1.0) for value in rho]))


def corrected_cosines(
    block_means: NDArray[np.float64], counts: NDArray[np.float64], noise: NoiseModel
) -> NDArray[np.float64]:
    """Return the cosines of the clean patterns behind clusters of maps.

    cos_ab = S_ab / √((S_aa − e_a)·(S_bb − e_b)): the mean of a cluster is its pattern plus the
    noise that averaging left, which lengthens the mean but does not turn it.

    Args:
        block_means: ``(k, k)`` S, means of the Gram matrix over pairs of clusters; the diagonal is
            the squared length of the mean map (each map's cosine of one with itself included).
        counts: ``(k,)`` sizes of the clusters.
        noise: noise of the maps.

    Returns:
        ``(k, k)``; the diagonal is not meaningful.
    """
    own = np.diagonal(block_means)
    clean = np.maximum(own - noise.energy(counts), MIN_EXPLAINED * own)
    length = np.sqrt(np.maximum(clean, MIN_ENERGY))
    return np.clip(block_means / np.outer(length, length), -1.0, 1.0)
