"""Figures of agreement between labels and predictions, per AU.

Every function takes one AU's values over N samples and leaves out the samples where any of them is
NaN (not labelled). A figure that the remaining samples do not define is NaN, without a warning, so
that a table shows a gap instead of a number that means nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["correlation", "ece", "f1", "icc_3_1", "prevalence", "roc_auc", "roc_auc_error"]

_NAN = float("nan")


def prevalence(present: ArrayLike) -> float:
    """Return the share of samples in which the AU is present.

    Args:
        present: ``(N,)`` labels, 0 or 1 (or bool), NaN where missing.

    Returns:
        0–1; NaN without a label.
    """
    (y,) = _complete(present)
    return float((y > 0).mean()) if y.size else _NAN


def f1(present: ArrayLike, predicted: ArrayLike) -> float:
    """Return the F1 score, ``2·TP / (2·TP + FP + FN)``.

    Args:
        present: ``(N,)`` labels, 0 or 1 (or bool), NaN where missing.
        predicted: ``(N,)`` predictions, 0 or 1 (or bool).

    Returns:
        0–1; NaN where the AU is neither present nor predicted in any sample.
    """
    y, p = (v > 0 for v in _complete(present, predicted))
    relevant = int(y.sum() + p.sum())
    return 2 * int((y & p).sum()) / relevant if relevant else _NAN


def roc_auc(present: ArrayLike, score: ArrayLike) -> float:
    """Return the area under the ROC curve from ranks (Mann–Whitney U); ties count half.

    Args:
        present: ``(N,)`` labels, 0 or 1 (or bool), NaN where missing.
        score: ``(N,)`` any real score, higher for presence.

    Returns:
        0–1; NaN where only one class is left.

    References:
        Hanley & McNeil, *The meaning and use of the area under a ROC curve*, Radiology 143, 1982.
    """
    y, s = _complete(present, score)
    positive = y > 0
    n = int(positive.sum())
    m = positive.size - n
    if not n or not m:
        return _NAN
    from scipy.stats import rankdata  # takes .3 s, which every other command would wait for

    return float((rankdata(s)[positive].sum() - n * (n + 1) / 2) / (n * m))


def roc_auc_error(present: ArrayLike, score: ArrayLike) -> float:
    """Return the standard error of :func:`roc_auc`: how far other samples may take it.

    Args:
        present: ``(N,)`` labels, 0 or 1 (or bool), NaN where missing.
        score: ``(N,)`` any real score, higher for presence.

    Returns:
        ≥ 0; NaN where only one class is left.

    References:
        Hanley & McNeil, 1982, eqs. 1 and 2 (both spreads from the area, as of exponential scores).
    """
    y, s = _complete(present, score)
    n = int((y > 0).sum())
    m = y.size - n
    if not n or not m:
        return _NAN
    area = roc_auc(y, s)
    # Hanley and McNeil's Q1 and Q2.
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)
    return float(np.sqrt(max(spread, 0.0) / (n * m)))


def icc_3_1(*ratings: ArrayLike) -> float:
    """Return the intraclass correlation ICC(3,1): consistency of fixed raters, single rating.

    ``(BMS − EMS) / (BMS + (k − 1)·EMS)`` of a two-way layout of n targets by k raters. A constant
    offset between raters does not lower it, another scale does.

    Args:
        ratings: k ≥ 2 arrays ``(N,)``, one per rater, in the same unit; NaN where missing.

    Returns:
        −1/(k − 1) to 1; NaN with fewer than two complete targets, or where no rater varies.

    References:
        Shrout & Fleiss, *Intraclass correlations: uses in assessing rater reliability*,
        Psychological Bulletin 86(2), 1979.
    """
    x = np.stack(_complete(*ratings), axis=1)
    n, k = x.shape
    if n < 2 or k < 2 or not np.ptp(x, axis=0).any():
        return _NAN
    targets = x.mean(1, keepdims=True)
    raters = x.mean(0, keepdims=True)
    between = k * ((targets - x.mean()) ** 2).sum() / (n - 1)
    error = ((x - targets - raters + x.mean()) ** 2).sum() / ((n - 1) * (k - 1))
    whole = between + (k - 1) * error
    return float((between - error) / whole) if whole > 0 else _NAN


def ece(present: ArrayLike, probability: ArrayLike, bins: int = 15) -> float:
    """Return the expected calibration error of presence probabilities.

    The samples are put into bins of equal width by their probability; the error is the mean over
    the samples of ``|share present − mean probability|`` of their bin.

    Args:
        present: ``(N,)`` labels, 0 or 1 (or bool), NaN where missing.
        probability: ``(N,)`` 0–1.
        bins: number of bins.

    Returns:
        0–1; NaN without a label.

    References:
        Naeini, Cooper & Hauskrecht, *Obtaining well calibrated probabilities using Bayesian
        binning*, AAAI 2015; Guo et al., *On calibration of modern neural networks*, ICML 2017
        (15 bins).
    """
    y, p = _complete(present, probability)
    if not y.size:
        return _NAN
    index = np.clip((p * bins).astype(int), 0, bins - 1)
    gap = np.bincount(index, weights=(y > 0) - p, minlength=bins)
    return float(np.abs(gap).sum() / y.size)


def correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Return Pearson's correlation.

    Args:
        a: ``(N,)`` real, NaN where missing.
        b: ``(N,)`` real, NaN where missing.

    Returns:
        −1 to 1; NaN where either does not vary over the complete samples.
    """
    x, y = _complete(a, b)
    if x.size < 2 or not np.ptp(x) or not np.ptp(y):
        return _NAN
    x = x - x.mean()
    y = y - y.mean()
    # Scaled first: the squares of very small or large values would leave the range of floats.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def _complete(*values: ArrayLike) -> list[NDArray[np.float64]]:
    """Return the samples at which no value is NaN."""
    arrays = [np.asarray(v, np.float64).ravel() for v in values]
    keep = ~np.any([np.isnan(a) for a in arrays], axis=0)
    return [a[keep] for a in arrays]
