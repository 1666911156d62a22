"""Steps are timed without those within them, and nobody is told where nobody listens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from facestage.core.steps import STEPS, step, timed, watching
from facestage.stream.step_clock import StepClock

from tests.support.paths import ROOT


class Ticks:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Ticks:
    return Ticks()


@pytest.fixture
def cpu() -> Ticks:
    return Ticks()


@pytest.fixture
def work(wall: Ticks, cpu: Ticks) -> Callable[[float, float], None]:
    def spend(computing: float, waiting: float = 0.0) -> None:
        wall.now += computing + waiting
        cpu.now += computing

    return spend


def test_a_step_within_another_counts_once(
    wall: Ticks, cpu: Ticks, work: Callable[..., None]
) -> None:
    clock = StepClock(wall, cpu)

    @timed("upload")
    def upload() -> str:
        work(2.0)
        return "sent"

    with watching(clock), step("forward"):
        work(1.0, 4.0)
        assert upload() == "sent"
        work(8.0)
    work(100.0)  # between steps
    with watching(clock):
        upload()
    taken = clock.take()
    assert {n: (t.wall_s, t.cpu_s, t.calls) for n, t in taken.items()} == {
        "forward": (13.0, 9.0, 1),
        "upload": (4.0, 4.0, 2),
    }
    assert clock.take() == {}


def test_a_step_ends_with_an_error_and_the_next_is_timed(
    wall: Ticks, cpu: Ticks, work: Callable[..., None]
) -> None:
    clock = StepClock(wall, cpu)

    @timed("detect")
    def fail() -> None:
        work(1.0)
        raise ValueError

    with watching(clock), step("warp"):
        with pytest.raises(ValueError):  # noqa: PT011 - its own
            fail()
        work(2.0)
    assert {n: t.wall_s for n, t in clock.take().items()} == {"detect": 1.0, "warp": 2.0}


def test_a_profiler_sees_the_same_names() -> None:
    seen: list[str] = []

    class Profiler:
        def range_push(self, msg: str) -> None:
            seen.append(msg)

        def range_pop(self) -> None:
            seen.append("end")

    with watching(StepClock(ranges=Profiler())), step("lrp"), step("forward"):
        pass
    assert seen == ["lrp", "forward", "end", "end"]


def test_who_listens_hears_only_what_runs_meanwhile() -> None:
    clock = StepClock(count().__next__, count().__next__)
    with step("lrp"):
        pass
    with watching(clock), watching(None), step("grey"):
        pass
    assert clock.take() == {}


def test_every_step_is_described() -> None:
    assert all(STEPS.values())


@pytest.fixture(autouse=True)
def nobody_listens() -> Iterator[None]:
    with watching(None):
        yield


def test_the_document_names_every_step() -> None:
    document = (ROOT / "docs" / "benchmarking.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ", document.partition("**Steps.**")[2], re.MULTILINE)
    assert rows == list(STEPS)
