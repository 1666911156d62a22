"""A clock for the steps of a frame: how long each takes, and how much of that it computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Ranges", "StepClock", "StepTime", "StepTimes"]


@dataclass(slots=True)
class StepTime:
    """What a step took.

    Attributes:
        wall_s: seconds by the clock on the wall, steps within it left out.
        cpu_s: seconds in which its own thread computed; the wall minus this is waiting, or the
            machine was busy with something else. What other threads computed for it is not in it.
        calls: times it began.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    calls: int = 0


StepTimes = Mapping[str, StepTime]
"""Step → what it took; names as in :data:`~facestage.core.steps.STEPS`."""


class Ranges(Protocol):
    """Named ranges of a profiler, such as ``torch.cuda.nvtx``."""

    def range_push(self, msg: str) -> object:
        """Begin a range within the one that is open."""
        ...

    def range_pop(self) -> object:
        """End the range that began last."""
        ...


class StepClock:
    """Time the steps of one thread or task; hand it to :func:`~facestage.core.steps.watching`.

    A moment counts for the innermost step alone, so the steps of a frame add up to no more than
    the frame.

    Args:
        wall: clock, seconds.
        cpu: clock of the time that this thread computed, seconds.
        ranges: shows the steps to a profiler.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.thread_time,
        ranges: Ranges | None = None,
    ) -> None:
        self._wall, self._cpu, self._ranges = wall, cpu, ranges
        self._open: list[StepTime] = []
        self._times: dict[str, StepTime] = {}
        self._wall_at = self._cpu_at = 0.0

    def begin(self, name: str) -> None:
        """Begin a step, perhaps within another."""
        self._lap()
        found = self._times.get(name)
        if found is None:
            found = self._times[name] = StepTime()
        found.calls += 1
        self._open.append(found)
        if self._ranges is not None:
            self._ranges.range_push(name)

    def end(self, name: str) -> None:
        """End the step that began last."""
        self._lap()
        self._open.pop()
        if self._ranges is not None:
            self._ranges.range_pop()

    def take(self) -> dict[str, StepTime]:
        """Return what the steps since the last call took, and begin anew; between steps only."""
        taken, self._times = self._times, {}
        return taken

    def _lap(self) -> None:
        wall, cpu = self._wall(), self._cpu()
        if self._open:
            self._open[-1].wall_s += wall - self._wall_at
            self._open[-1].cpu_s += cpu - self._cpu_at
        self._wall_at, self._cpu_at = wall, cpu
