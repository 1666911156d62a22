"""Percentiles, limits and the plan, with clocks that are moved by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import jsonschema
import msgspec
import pytest
from facestage.core.errors import ConfigError
from facestage.core.steps import STEPS, step
from facestage.stream.bench.closed import LEAST_ROUNDS, Clocks, measure
from facestage.stream.bench.figures import (
    Closed,
    MachineSpeed,
    Offline,
    Paced,
    Results,
    Spread,
    StepSamples,
    json_schema,
)
from facestage.stream.bench.gpu_steps import GpuSteps
from facestage.stream.bench.limits import judge, parse_limit
from facestage.stream.bench.machine import is_as_fast
from facestage.stream.bench.plan import Cell, cells_of, run_cells
from facestage.stream.step_clock import StepClock, StepTime


class Ticks:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def spread(*values: float) -> Spread:
    made = Spread.of(values)
    assert made is not None
    return made


def closed(cameras: int = 1, **changes: object) -> Closed:
    steps = StepSamples()
    steps.add({"lrp": StepTime(0.004, 0.003), "grey": StepTime(0.001, 0.001)})
    made = Closed(
        cameras=cameras,
        rounds=3,
        first_ms=50.0,
        round=spread(10, 12, 14),
        round_cpu=spread(9, 9, 9),
        frame_ms=12.0,
        frames_per_s=83.3,
        active_per_frame=2.0,
        steps=steps.figures(STEPS),
    )
    return msgspec.structs.replace(made, **changes)


def paced(cameras: int, emit: Spread | None) -> Paced:
    return Paced(
        cameras=cameras,
        fps=30.0,
        seconds=5.0,
        scheduled=150,
        analysed=148,
        analysed_per_s=29.6,
        capture_to_emit=emit,
        capture_to_client=None,
        stage_age=None,
        missed_33ms=0.05,
        missed_67ms=0.0,
        missed_100ms=0.0,
        drops={"overwritten": 2},
        drop_share=2 / 150,
        cpu_s_per_camera_s=0.3,
        steps={},
    )


RESULTS = Results(
    single=closed(),
    multi={"1": closed(), "4": closed(4)},
    paced={"1": paced(1, spread(10, 20)), "4": paced(4, spread(15, 40))},
)


def test_percentiles_are_times_that_occurred() -> None:
    found = spread(*range(1000, 0, -1))
    assert (found.n, found.mean) == (1000, 500.5)
    assert (found.p50, found.p90, found.p99, found.p999, found.max) == (500, 900, 990, 999, 1000)
    assert spread(7.0) == Spread(n=1, mean=7, p50=7, p90=7, p99=7, p999=7, max=7)
    assert Spread.of([]) is None


def test_rounds_of_known_times_give_known_figures() -> None:
    wall, cpu = Ticks(), Ticks()
    rounds = 0

    def make_round() -> Sequence[int]:
        nonlocal rounds
        rounds += 1
        with step("forward"):
            wall.now += 0.900 if rounds == 1 else 0.010
            cpu.now += 0.008
        with step("lrp"):
            wall.now += 0.001 * (rounds % 2)  # every other round explains nothing
        wall.now += 0.005  # in no step
        return [1, 2]

    found = measure(make_round, 2, 1.5, clocks=Clocks(wall, cpu))
    assert found.first_ms == pytest.approx(906.0)
    assert found.rounds == rounds - 1 > LEAST_ROUNDS
    assert found.round.p50 == pytest.approx(15.0, abs=1.01)
    assert found.round.max == pytest.approx(16.0)
    assert found.round_cpu.p99 == pytest.approx(8.0)
    assert found.frame_ms == pytest.approx(found.round.mean / 2, abs=1e-3)
    assert found.active_per_frame == 1.5
    assert found.steps["forward"].wall.max == pytest.approx(10.0)
    assert found.steps["forward"].cpu.mean == pytest.approx(8.0)
    assert found.steps["lrp"].wall.p90 == pytest.approx(1.0)
    assert list(found.steps) == ["forward", "lrp"]


class Marks:
    """A GPU that works off what is queued when told to."""

    def __init__(self) -> None:
        self.queued, self.passed = 0.0, 0.0

    def event(self) -> Mark:
        return Mark(self)


class Mark:
    def __init__(self, gpu: Marks) -> None:
        self.gpu, self.at = gpu, -1.0

    def record(self) -> None:
        self.at = self.gpu.queued

    def query(self) -> bool:
        return self.gpu.passed >= self.at

    def elapsed_time(self, end_event: Mark) -> float:
        assert end_event.query(), "read before the GPU was there"
        return end_event.at - self.at


def test_steps_of_a_gpu_are_read_when_it_has_passed_them() -> None:
    gpu, recording = Marks(), False
    steps = GpuSteps(StepClock(), gpu.event, lambda: recording)
    steps.begin("lrp")
    gpu.queued += 4.0
    steps.begin("grey")  # the host's: nothing of the GPU is its
    gpu.queued += 1.0
    steps.end("grey")
    steps.begin("forward")
    gpu.queued += 2.0
    steps.end("forward")
    gpu.queued += 8.0
    steps.end("lrp")
    assert steps.ms == {}
    gpu.queued += 100.0  # between steps
    gpu.passed = gpu.queued
    steps.begin("forward")
    gpu.queued += 3.0
    steps.end("forward")
    assert steps.ms == {"lrp": [13.0], "forward": [2.0]}
    gpu.passed, recording = gpu.queued, True
    steps.begin("lrp")
    steps.end("lrp")
    recording = False
    steps.begin("upload")
    steps.end("upload")
    assert steps.ms == {"lrp": [13.0], "forward": [2.0, 3.0], "upload": [0.0]}


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("single.round.p99<15", 14.0, True),
        ("single.round.p99 < 14ms", 14.0, False),
        ("single.round.max<0.1s", 14.0, True),
        ("single.steps.lrp.wall.p50<4.1", 4.0, True),
        ("multi.4.frames_per_s>80", 83.3, True),
        ("paced.capture_to_emit.p99<33ms", 40.0, False),  # the worst of all
        ("paced.1.capture_to_emit.p99<33ms", 20.0, True),
        ("paced.missed_33ms<6%", 0.05, True),
        ("paced.analysed_per_s>29.5", 29.6, True),
        ("paced.cpu_s_per_camera_s<200ms", 0.3, False),
        ("paced.drops.overwritten<3", 2.0, True),
        ("paced.stage_age.p50<100ms", None, False),
        ("paced.8.missed_33ms<1", None, False),
        ("offline.frames_per_s>1", None, False),
        ("single.steps.detect.wall.p99<50", None, False),
    ],
)
def test_limits(text: str, value: float | None, holds: bool) -> None:
    (verdict,) = judge([parse_limit(text)], RESULTS)
    assert (verdict.limit, verdict.holds) == (text, holds)
    assert verdict.value == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("paced.p99=3", "is no limit; write PATH<VALUE"),
        ("paced.p99<fast", "is no limit"),
        ("paced.p99<nan", "is no limit"),
        ("fast.round.p99<3", "no scenario 'fast'; use one of single, multi"),
        ("single.steps.laser.wall.p99<3", "no step 'laser'; use one of capture"),
        ("single.rounds.p99<3", "no figure 'p99' there"),
        ("single.nothing<3", "no figure 'nothing' there; it holds cameras"),
        ("paced.capture_to_emit<33ms", "no single figure; go on, for example .*capture_to_emit.n"),
        ("single.frames_per_s>3s", "frames_per_s is not measured in s; leave the unit out"),
        ("single.round.p99<3MB", "p99 is not measured in MB; use ms"),
    ],
)
def test_limits_that_cannot_be_meant(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_limit(text)


def test_the_machine_may_lose_little() -> None:
    before = MachineSpeed(gemm_gflops=100.0, copy_gb_per_s=10.0)
    assert is_as_fast(before, MachineSpeed(gemm_gflops=85.0, copy_gb_per_s=8.5))
    assert is_as_fast(before, MachineSpeed(gemm_gflops=200.0, copy_gb_per_s=10.0))
    assert not is_as_fast(before, MachineSpeed(gemm_gflops=84.9, copy_gb_per_s=10.0))
    assert not is_as_fast(before, MachineSpeed(gemm_gflops=100.0, copy_gb_per_s=8.4))


class FakeRunner:
    """Takes the time that it was told to, and some beside it."""

    def __init__(self, clock: Ticks, beside: Callable[[Cell], float]) -> None:
        self.clock, self.beside = clock, beside
        self.ran: dict[str, float] = {}

    def run(self, cell: Cell, seconds: float) -> Closed | Paced | Offline:
        self.clock.now += seconds + self.beside(cell)
        self.ran[str(cell)] = seconds
        if cell.scenario == "paced":
            return paced(cell.cameras, None)
        if cell.scenario == "offline":
            return Offline(
                batch=1,
                frames=1,
                maps=1,
                seconds=seconds,
                frames_per_s=1.0,
                maps_per_s=1.0,
                peak_memory_mb=1.0,
            )
        return closed(cell.cameras)


CELLS = cells_of(("single", "multi", "paced", "offline"), (1, 4))


def test_each_is_measured_for_as_long_as_was_asked_for() -> None:
    clock = Ticks()
    runner = FakeRunner(clock, lambda cell: 0.5)
    told: list[str] = []
    done = run_cells(
        CELLS,
        runner,
        seconds=20.0,
        budget_s=600.0,
        clock=clock,
        tell=lambda n, cell: told.append(f"{n} {cell}"),
    )
    assert runner.ran == dict.fromkeys(map(str, CELLS), 20.0)
    assert told == [f"{n} {cell}" for n, cell in enumerate(CELLS)]
    assert done.cut == ()
    assert done.results.single is not None
    assert done.results.offline is not None
    assert (list(done.results.multi), list(done.results.paced)) == (["1", "4"], ["1", "4"])


@pytest.mark.parametrize("budget", [3.0, 5.0, 9.0, 30.0, 100.0])
def test_the_budget_ends_in_time_and_says_what_was_cut(budget: float) -> None:
    clock = Ticks()
    runner = FakeRunner(clock, lambda cell: 2.5 if cell.scenario == "paced" else 0.5)
    done = run_cells(CELLS, runner, seconds=20.0, budget_s=budget, clock=clock)
    assert clock.now <= budget
    assert list(runner.ran) + list(done.cut) == sorted(
        map(str, CELLS), key=lambda name: (name in done.cut, list(map(str, CELLS)).index(name))
    )
    assert bool(done.cut) == (budget < 20.0)
    assert all(1.0 <= seconds <= 20.0 for seconds in runner.ran.values())


def test_a_slow_scenario_takes_from_those_after_it_not_from_the_end() -> None:
    clock = Ticks()
    runner = FakeRunner(clock, lambda cell: 9.0 if str(cell) == "single" else 0.4)
    done = run_cells(
        cells_of(("single", "offline"), (1,)), runner, seconds=20, budget_s=12.0, clock=clock
    )
    assert clock.now > 12.0  # a scenario that overran could not be stopped
    assert done.cut == ("offline",)


def test_too_small_a_budget_names_what_it_is_too_small_for() -> None:
    with pytest.raises(ConfigError, match=r"too little for even one of paced 1, paced 4; give at"):
        run_cells(
            cells_of(("paced",), (1, 4)),
            FakeRunner(Ticks(), lambda cell: 0.0),
            seconds=20.0,
            budget_s=2.0,
            clock=Ticks(),
        )


def test_the_results_fit_the_schema_and_a_wrong_one_does_not() -> None:
    schema = json_schema()
    results = {"$defs": schema["$defs"], "$ref": "#/$defs/Results"}
    plain = json.loads(msgspec.json.encode(RESULTS))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(plain, results)
    del plain["single"]["round"]["p99"]
    with pytest.raises(jsonschema.ValidationError, match="p99"):
        jsonschema.validate(plain, results)
