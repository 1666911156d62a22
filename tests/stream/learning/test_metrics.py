"""Figures of agreement against scikit-learn, printed examples and work by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from facestage.core.learning.metrics import (
    correlation,
    ece,
    f1,
    icc_3_1,
    prevalence,
    roc_auc,
    roc_auc_error,
)
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

NAN = math.nan


def test_prevalence_skips_missing_labels() -> None:
    assert prevalence([1, 0, NAN, 1, NAN]) == pytest.approx(2 / 3)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=60))
def test_auc_with_ties_and_f1_equal_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    y = np.array([p[0] for p in pairs])
    s = np.array([p[1] for p in pairs], float)
    if 0 < y.sum() < len(y):
        assert roc_auc(y, s) == pytest.approx(roc_auc_score(y, s))
    else:
        assert math.isnan(roc_auc(y, s))
    if (y | (s > 2)).any():
        assert f1(y, s > 2) == pytest.approx(f1_score(y, s > 2))
    else:
        assert math.isnan(f1(y, s > 2))


def test_missing_labels_leave_f1_and_auc_as_without_these_samples() -> None:
    y = np.array([1, 0, NAN, 1, 0, NAN])
    s = np.array([0.9, 0.2, 0.1, 0.4, 0.6, NAN])
    assert roc_auc(y, s) == roc_auc([1, 0, 1, 0], [0.9, 0.2, 0.4, 0.6]) == 0.75
    assert f1(y, s > 0.5) == f1([1, 0, 1, 0], [1, 0, 0, 1]) == 0.5


def test_the_error_of_an_auc_is_its_spread_over_samples() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(240) < 60
    drawn = [rng.standard_normal(240) + 1.5 * y for _ in range(400)]
    areas, errors = zip(*((roc_auc(y, s), roc_auc_error(y, s)) for s in drawn), strict=True)
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.15)
    assert roc_auc_error(y, y) == 0
    assert math.isnan(roc_auc_error([1, 1, NAN], [0.1, 0.2, 0.3]))


def test_icc_of_shrout_and_fleiss_table_2() -> None:
    """Six targets, four judges; the paper's Table 4 gives ICC(3,1) = .71."""
    judges = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    )
    assert icc_3_1(*judges.T) == pytest.approx(0.7148, abs=1e-4)


def test_icc_by_hand_ignores_an_offset_but_not_a_scale() -> None:
    a = np.array([0.0, 1, 2, 3])
    assert icc_3_1(a, a) == pytest.approx(1)
    assert icc_3_1(a, a + 2) == pytest.approx(1)
    # Targets' means 0, 1.5, 3, 4.5: BMS = 2 · 11.25 / 3. Residuals ±(a − 1.5) / 2: EMS = 2.5 / 3.
    assert icc_3_1(a, 2 * a) == pytest.approx((7.5 - 2.5 / 3) / (7.5 + 2.5 / 3))
    assert icc_3_1(a, -a) == pytest.approx(-1)


def test_icc_skips_targets_that_one_rater_missed() -> None:
    assert icc_3_1([0, 1, 2, NAN], [0, 1, 3, 9]) == icc_3_1([0, 1, 2], [0, 1, 3])


def test_ece_by_hand() -> None:
    # Bin of .05: mean probability .05, none present; bin of .9: mean .9, half present.
    y, p = [0, 0, 1, 0], [0.05, 0.05, 0.9, 0.9]
    assert ece(y, p) == pytest.approx((2 * 0.05 + 2 * 0.4) / 4)
    assert ece([1, 1, NAN], [1.0, 1.0, 0.0]) == 0
    assert ece([0, 1], [0.5, 0.5]) == 0


def test_ece_of_a_calibrated_forecast_is_small_and_of_a_shifted_one_is_the_shift() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    y = rng.random(p.size) < p
    assert ece(y, p) < 0.01
    assert ece(y, np.clip(p * 0.5, 0, 1)) == pytest.approx(0.25, abs=0.01)


def test_correlation_equals_numpy_whatever_the_unit() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 50))
    expected = np.corrcoef(a, b)[0, 1]
    for unit in (1.0, 1e200, 1e-200):
        assert correlation(a * unit, b) == pytest.approx(expected)
    assert correlation(np.append(a, NAN), np.append(b, 3.0)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value",
    [
        prevalence([]),
        prevalence([NAN, NAN]),
        f1([0, 0], [0, 0]),
        f1([], []),
        roc_auc([1, 1], [0.1, 0.2]),
        roc_auc([NAN, 0], [0.1, 0.2]),
        icc_3_1([1], [1]),
        icc_3_1([0.1, 0.1, 0.1], [0.3, 0.3, 0.3]),
        icc_3_1([NAN, 1], [1, NAN]),
        ece([], []),
        correlation([0.1, 0.1, 0.1], [1, 2, 3]),
        correlation([1], [1]),
    ],
)
def test_what_is_not_defined_is_nan_without_a_warning(value: float) -> None:
    assert math.isnan(value)
