"""Counts and latencies."""

from __future__ import annotations

import numpy as np
import pytest
from facestage.stream.live.metrics import COUNTERS, LatencyHistogram, Metrics
from facestage.stream.step_clock import StepTime


def test_percentiles_are_within_their_bucket() -> None:
    values = np.random.default_rng(3).lognormal(3.0, 1.0, 5000)
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(float(value))
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        exact = float(np.quantile(values, share, method="inverted_cdf"))
        assert histogram.percentile(share) == pytest.approx(exact, rel=0.016)


def test_percentiles_of_nothing_and_of_extremes() -> None:
    histogram = LatencyHistogram()
    assert histogram.percentile(0.5) is None
    histogram.add(0.0)
    histogram.add(1e9)
    low, high = histogram.percentile(0.5), histogram.percentile(1.0)
    assert low is not None
    assert high is not None
    assert low <= 0.1
    assert high == pytest.approx(1e5)


def test_rates_cover_the_last_seconds_only() -> None:
    metrics = Metrics()
    assert metrics.fps(0.0) == 0.0
    assert metrics.recent_latency_ms() is None
    for n in range(100):
        metrics.frame(n * 0.1, 20.0)
    assert metrics.fps(9.9) == pytest.approx(10, rel=0.05)
    assert metrics.fps(100.0) == 0.0
    assert metrics.recent_latency_ms() == (20.0, 20.0)


def test_summary_says_what_happened() -> None:
    metrics = Metrics()
    for n in range(11):
        metrics.frame(5.0 + n * 0.1, 30.0)
        metrics.steps({"lrp": StepTime(0.02), "grey": StepTime(0.001)})
    metrics.stage()
    summary = metrics.summary({"overwritten": 3, "stale": 0})
    assert summary.frames == 11
    assert summary.drops == {"overwritten": 3}
    assert summary.stages == 1
    assert summary.fps == pytest.approx(10.0)
    assert summary.latency_p50_ms == pytest.approx(30.0, rel=0.016)
    assert list(summary.steps_ms.items()) == [
        ("grey", pytest.approx(1.0)),
        ("lrp", pytest.approx(20.0)),
    ]
    assert Metrics().summary({}).fps is None


def test_counters_begin_at_zero_and_sum_up() -> None:
    metrics = Metrics()
    assert metrics.counters == dict.fromkeys(COUNTERS, 0)
    metrics.count({"frames_explained": 1, "pairs_explained": 4})
    metrics.count({"frames_explained": 0, "pairs_explained": 0})
    metrics.count({"pairs_explained": 3, "something_new": 2})
    told = metrics.counters
    assert told == {
        "frames_explained": 1,
        "pairs_explained": 7,
        "engine_fallbacks": 0,
        "batches_halved": 0,
        "batches_eager": 0,
        "something_new": 2,
    }
    assert metrics.summary({}).counters == told
    told["pairs_explained"] = 0  # a copy
    assert metrics.counters["pairs_explained"] == 7
