"""The measures of ``benchmarks/reasons.py``: reasons found, and letters that change for nothing."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest

from tests.support.paths import BENCHMARKS


@pytest.fixture(scope="module")
def reasons() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("reasons")
    finally:
        sys.path.remove(str(BENCHMARKS))


def maps(reasons: ModuleType, segment: list[str], x: np.ndarray | None = None) -> object:
    n = len(segment)
    rows = np.ones((n, 4), np.float32) / 2 if x is None else x
    return reasons.Maps(np.arange(n), rows, np.ones(n), np.ones(n, bool), tuple(segment))


def test_letters_that_follow_reasons_agree_with_them(reasons: ModuleType) -> None:
    seen = maps(reasons, ["left"] * 6 + [""] * 3 + ["right"] * 6)
    assert reasons.reason_index(seen, "AAAAAABBBBBBBBB") == 1.0
    assert reasons.reason_index(seen, "A" * 15) == 0.0


def test_a_reason_hardly_seen_is_not_judged(reasons: ModuleType) -> None:
    seen = maps(reasons, ["left"] * 6 + ["right"] * 4)
    assert reasons.reason_index(seen, "AAAAAABBBB") is None


def test_changes_count_until_the_face_is_as_before(reasons: ModuleType) -> None:
    segment = ["base"] * 6 + ["yaw"] * 6 + ["base"] * 3 + ["blur"] * 6 + ["base"] * 3
    seen = maps(reasons, segment)
    assert reasons.nuisance_changes(seen, "A" * 24) == {"yaw": 0, "blur": 0}
    away = "A" * 6 + "B" * 6 + "A" * 12
    assert reasons.nuisance_changes(seen, away) == {"yaw": 2, "blur": 0}
    late = "A" * 22 + "C" * 2
    assert reasons.nuisance_changes(seen, late) == {"yaw": 0, "blur": 1}
    assert reasons.nuisance_changes(seen, "AB" + "B" * 22) == {"yaw": 0, "blur": 0}


def test_both_ways_give_letters_to_what_differs(reasons: ModuleType) -> None:
    rng = np.random.default_rng(3)
    one, other = np.eye(16, dtype=np.float32)[:2]
    x = np.concatenate([np.tile(one, (30, 1)), np.tile(other, (30, 1)), np.tile(one, (30, 1))])
    x = np.abs(x + rng.normal(0, 0.02, x.shape)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    seen = maps(reasons, ["left"] * 30 + ["right"] * 30 + ["left"] * 30, x)
    live = reasons.live_letters(seen, reasons.AnalyzerConfig())
    assert reasons.reason_index(seen, live) > 0.9
    assert reasons.reason_index(seen, reasons.whole_letters(seen)) == 1.0


def test_one_side_moves_one_side() -> None:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        material = importlib.import_module("reasons_material")
    finally:
        sys.path.remove(str(BENCHMARKS))
    left = material._expression("12", "left", 4.0, 25)
    column = material.AU_INDEX[12]
    assert (left.left[column], left.right[column]) == (4.0, 0.0)
    assert left.left[material.AU_INDEX[25]] == left.right[material.AU_INDEX[25]] > 0
    assert set(material.NEAR) == set(material.FAR) == set(material.GROUPS)
