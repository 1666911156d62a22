"""``facestage bench``: what it writes, and what it says to what cannot be measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import msgspec
import numpy as np
import pytest
import torch
from facestage.core.errors import ConfigError, FacestageError, SourceError
from facestage.stream import cli
from facestage.stream.bench import plan
from facestage.stream.bench.figures import (
    SCHEMA,
    MachineSpeed,
    Report,
    Results,
    Workload,
    json_schema,
)
from facestage.stream.bench.machine import describe_machine
from facestage.stream.bench.workload import LEAST_FRAMES
from facestage.stream.commands import bench
from facestage.stream.commands.bench import run_bench
from facestage.stream.commands.signatures import BenchOptions


@pytest.fixture
def short(tmp_path: Path) -> str:
    """A folder with too few pictures."""
    for n in range(LEAST_FRAMES - 1):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.zeros((48, 64, 3), np.uint8))
    return str(tmp_path)


def test_everything_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "bench.json"
    report = run_bench(
        BenchOptions(
            cameras="1,2",
            fps=10.0,
            seconds=1.0,
            active="2",
            detector="haar",
            device="cpu",
            threads=1,
            peers="zennit",
            json_file=target,
            fail_over=["single.frames_per_s>0", "paced.1.scheduled<1"],
        )
    )
    found = json.loads(target.read_text())
    jsonschema.validate(found, json_schema())
    assert found["schema"] == SCHEMA == "facestage/bench/1"
    assert report.cut == ()
    single, paced = report.results.single, report.results.paced
    assert single is not None
    assert {"capture", "decode", "warp", "forward", "lrp", "picture"} <= set(single.steps)
    # No face, no AU: the clip shows one in every frame.
    assert single.active_per_frame == 2.0
    assert set(report.results.multi) == set(paced) == {"1", "2"}
    assert report.results.multi["2"].cameras == 2
    assert report.results.offline is not None
    assert report.results.offline.maps == 2 * report.results.offline.frames
    assert report.peers["zennit"].cosine > 0.999
    assert report.roofline is not None
    assert report.roofline.of_gemm > 0
    assert [(one.limit, one.holds) for one in report.limits] == [
        ("single.frames_per_s>0", True),
        ("paced.1.scheduled<1", False),
    ]
    printed = capsys.readouterr().out
    assert "verdict  1 of 2 limits broken" in printed
    for line in ("machine", "step", "lrp", "single", "multi 2", "paced 2", "offline", "peer"):
        assert line in printed
    environment = found["environment"]
    assert environment["torch_threads"] == 1
    assert environment["detector"] == "haar"
    assert found["valid"] in (True, False)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"scenario": "fast"}, ConfigError, "no scenario 'fast'; use one of single, multi, paced"),
        ({"scenario": "x.mp4"}, ConfigError, "name the sources after it"),
        ({"cameras": "0"}, ConfigError, "--cameras 0 holds no camera; use 1 or more"),
        ({"cameras": "1,-4"}, ConfigError, "holds no camera"),
        ({"cameras": "many"}, ConfigError, "'many' is no list of numbers; write them as 1,2,4"),
        ({"cameras": "1,100000"}, ConfigError, r"100000 is more than this machine can open \("),
        ({"cameras": "2", "sources": ["0"]}, ConfigError, "would open a camera or stream twice"),
        ({"active": "many"}, ConfigError, "--active many is neither real nor a number from 0 to"),
        ({"active": "99"}, ConfigError, "--active 99 is neither"),
        ({"peers": "captum"}, ConfigError, "--peers captum is unknown; use none or zennit"),
        ({"budget": "soon"}, ConfigError, "--budget 'soon' is no time; write it as 90s or 10m"),
        ({"budget": "1s"}, ConfigError, "too little for even one of single; give at least"),
        ({"fail_over": ["fast.p99<3"]}, ConfigError, "no scenario 'fast'"),
        ({"sources": ["missing.mp4"]}, SourceError, "missing.mp4 does not exist"),
        ({"lrp_precision": "float8"}, ConfigError, "float8"),
    ],
)
def test_what_cannot_be_measured(
    options: dict[str, Any], error: type[FacestageError], says: str
) -> None:
    given = {"scenario": "single", "cameras": "1", "device": "cpu", "threads": 1} | options
    if "cameras" in options:
        given["scenario"] = "multi"
    with pytest.raises(error, match=says):
        run_bench(BenchOptions(**given))


def test_a_source_that_ends_early(short: str) -> None:
    says = f"ends after {LEAST_FRAMES - 1} frames; give a source of at least {LEAST_FRAMES}"
    with pytest.raises(ConfigError, match=says):
        run_bench(BenchOptions(scenario="single", sources=[short]))


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--json .*there is no folder .*; make it first"):
        run_bench(BenchOptions(scenario="single", json_file=tmp_path / "no" / "bench.json"))
    with pytest.raises(FacestageError, match="it is a folder; name a file in it"):
        run_bench(BenchOptions(scenario="single", json_file=tmp_path))


@pytest.mark.parametrize(
    ("limit", "code"), [("single.round.p50<100s", None), ("offline.frames_per_s>0", 3)]
)
def test_the_exit_code_of_a_limit(
    limit: str, code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["facestage", "bench", "single", "--seconds", "1", "--threads", "1"]
    monkeypatch.setattr("sys.argv", [*words, "--device", "cpu", "--fail-over", limit])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code or None) == code


def test_the_budget_is_kept_for_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def clock() -> float:
        return now

    def run(self: plan.LiveRunner, cell: plan.Cell, seconds: float) -> Any:
        nonlocal now
        now += seconds + 0.5
        ran.append(str(cell))
        return original(self, cell, 0.01)

    ran: list[str] = []
    original: Callable[..., Any] = plan.LiveRunner.run
    monkeypatch.setattr(plan.LiveRunner, "run", run)
    report = run_bench(
        BenchOptions(scenario="multi", cameras="1,2,3,4,5,6", budget="5s", threads=1, device="cpu"),
        clock,
    )
    assert now <= 5.0
    assert ran == ["multi 1", "multi 2"]
    assert report.cut == ("multi 3", "multi 4", "multi 5", "multi 6")


@pytest.mark.parametrize(("load", "says"), [(None, False), (1.5, False), (9.0, True)])
def test_the_verdict_says_that_the_machine_was_busy(load: float | None, says: bool) -> None:
    def speed(load: float | None) -> MachineSpeed:
        return MachineSpeed(gemm_gflops=50.0, copy_gb_per_s=5.0, load=load)

    report = Report(
        schema=SCHEMA,
        environment=msgspec.structs.replace(ENVIRONMENT, affinity=2),
        workload=WORKLOAD,
        before=speed(load),
        after=speed(20.0),
        valid=True,
        results=Results(),
    )
    assert ("9 threads already wanted the 2 cores" in bench._verdict(report)) == says
    assert bench._verdict(report).startswith("verdict  valid")
    slower = msgspec.structs.replace(report, valid=False)
    assert "not valid: the machine lost more than 15 %" in bench._verdict(slower)


ENVIRONMENT = describe_machine(torch.device("cpu"), model="m", detector="haar", precision="float32")
WORKLOAD = Workload(
    scenarios=("single",),
    sources=("demo",),
    cameras=(1,),
    fps=30.0,
    jitter=0.1,
    seconds=20.0,
    active="real",
    window_device="cpu",
    video=True,
    budget_s=600.0,
)
