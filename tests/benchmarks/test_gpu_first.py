"""The script for the first minutes on a GPU: its lines stand whatever breaks, and it judges."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from facestage.core import lrp
from facestage.core.lrp.fused import rounds
from facestage.core.network import recording

from tests.support.cuda_twin import CudaTwin
from tests.support.paths import BENCHMARKS


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("gpu_first")
    monkeypatch.setattr(module, "CLIP", 6)
    yield module
    sys.modules.pop("gpu_first")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_experiment_that_breaks_leaves_a_line_and_the_others_run(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(bench: Any) -> dict[str, Any]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setitem(script.EXPERIMENTS, "maps", broken)
    out = tmp_path / "first.jsonl"
    only = ["--only", "maps", "round", "environment"]
    assert script.main(["--device", "cpu", "--boxes", "0.01", "--out", str(out), *only]) == 1
    failed, skipped, environment, done = lines(out)
    assert failed["experiment"] == "maps"
    assert not failed["ok"]
    assert "illegal memory access" in failed["error"]
    assert skipped["result"] == {"skipped": "only a GPU launches"}
    assert environment["result"]["torch"] == torch.__version__
    assert done["failed"] == ["maps"]


def test_nothing_begins_after_the_budget(script: Any, tmp_path: Path) -> None:
    out = tmp_path / "first.jsonl"
    only = ["--only", "maps"]
    assert script.main(["--device", "cpu", "--budget", "0", "--out", str(out), *only]) == 1
    assert lines(out)[0]["error"] == "no time was left"


def test_a_box_without_time_is_refused(script: Any) -> None:
    with pytest.raises(SystemExit):
        script.main(["--boxes", "0"])


@pytest.mark.parametrize("wrong", [False, True])
def test_maps_of_a_gpu_are_judged_by_those_of_the_cpu(
    wrong: bool, script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "FRAMES", (1,))
    monkeypatch.setattr(recording, "WARM_UP_RUNS", 0)
    explain = lrp.explain

    def other(model: Any, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        found = explain(model, x, *args, **options)
        return found * 1.01 if x.device.type == "cuda" else found

    if wrong:
        monkeypatch.setattr(lrp, "explain", other)
    out = tmp_path / "first.jsonl"
    arguments = ["--device", "cuda", "--window-device", "cpu", "--boxes", "0.01"]
    with CudaTwin().installed(monkeypatch):
        status = script.main([*arguments, "--out", str(out), "--only", "environment", "maps"])
    environment, maps, _ = lines(out)
    assert environment["result"]["gpu"] == "twin"
    assert maps.get("error") is None, maps
    assert status == int(wrong)
    assert maps["result"]["right"] is not wrong
    assert maps["result"]["replay reads its input"]
