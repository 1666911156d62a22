"""The long run with faults, for some seconds, and how it judges."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import soak
from tests.support.paths import ROOT


def rising(per_hour: float, noise: float, hours: float = 2.0) -> list[soak.Sample]:
    chance = np.random.default_rng(0)
    return [
        soak.Sample(hour, 500 + per_hour * hour + chance.normal(0, noise), 20, 10)
        for hour in np.linspace(0, hours, 400)
    ]


@pytest.mark.parametrize("per_hour", [-3.0, 0.0, 8.0])
def test_the_interval_of_the_slope_holds_the_truth_and_is_narrow(per_hour: float) -> None:
    found, low, high = soak.slope(rising(per_hour, noise=4.0))
    assert low < per_hour < high
    assert low < found < high
    assert high - low < 5


def kept() -> dict:  # type: ignore[type-arg]
    return {
        "hours": 2.0, "slope_from_h": 0.5, "slope_interval": [-1.0, 4.0], "resident_mb": 700.0,
        "descriptors": [20, 20], "threads": [9, 9], "events": 10, "holes": 0, "letters": 3,
        "connections": 1, "p99_ms": 80.0, "not_live": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"slope_interval": [4.0, 90.0]}, None),  # it may be less than the limit
        ({"slope_interval": [5.1, 9.0]}, "grows"),
        ({"slope_interval": [50.0, 90.0], "slope_from_h": 1.9}, None),  # too short to be judged
        ({"resident_mb": 1501.0}, "MB of memory"),
        ({"descriptors": [20, 29]}, "descriptors"),
        ({"threads": [9, 14]}, "threads"),
        ({"holes": 1}, "holes"),
        ({"connections": 2}, "connected 2 times"),
        ({"events": 0}, "no event"),
        ({"letters": 13}, "letters"),
        ({"p99_ms": 2001.0}, "p99"),
        ({"p99_ms": None}, "p99"),
        ({"not_live": ["camera 1"]}, "camera 1"),
    ],
)
def test_each_limit_can_be_broken(change: dict, words: str | None) -> None:  # type: ignore[type-arg]
    found = soak.broken({**kept(), **change})
    assert (found == []) if words is None else (len(found) == 1 and words in found[0])


def test_a_tenth_of_an_hour_with_every_fault_is_survived(tmp_path: Path) -> None:
    """The command as documented: six minutes of the cameras in a minute and a half."""
    figures = tmp_path / "soak.json"
    # The machine is shared with other tests, so the delay says nothing here.
    command = ("-m", "benchmarks.soak", "--hours", ".1", "--p99-ms", "60000", "--json", figures)
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads(figures.read_text())
    assert result["broken"] == []
    assert set(result["faults"]) == set(soak.FAULTS)
    assert result["ring_full_after_h"] is not None
    assert (result["holes"], result["connections"], result["not_live"]) == (0, 1, [])
    assert result["events"] > result["ring_events"]
    assert result["cameras"] == 4
    assert result["ended"]
    assert result["camera_hours"] == pytest.approx(0.1, rel=0.2)
    assert result["hours"] == pytest.approx(0.025, rel=0.2)
