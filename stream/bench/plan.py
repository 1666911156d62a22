"""What is run, in which order, in the time there is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from ...core.analyzer import Analyzer
from ...core.errors import ConfigError
from .closed import compare_engines, measure_roofline, run_closed, run_offline
from .figures import Closed, MachineSpeed, Offline, Paced, Peer, Results, Roofline
from .paced import LEAD_S, Load, run_paced
from .workload import Camera, Opener

__all__ = ["LEAST_S", "Cell", "Done", "LiveRunner", "Runner", "cells_of", "run_cells"]

LEAST_S = 1.0
"""A scenario that gets less than this is not measured, seconds."""
_OVERHEAD_S = {"single": 0.5, "multi": 0.5, "paced": LEAD_S + 1.5, "offline": 0.5}
"""Time that a scenario takes beside that which it measures, roughly, seconds."""
_ROOFLINE_S, _PEER_S = 0.5, 2.0
_LOOK_FRAMES = 300
"""In so many frames a face must be found for a comparison with peers."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: a scenario with so many cameras."""

    scenario: str
    cameras: int

    def __str__(self) -> str:
        if self.scenario in ("single", "offline"):
            return self.scenario
        return f"{self.scenario} {self.cameras}"


@dataclass(frozen=True, slots=True)
class Done:
    """What was measured, and what there was no time for."""

    results: Results
    cut: tuple[str, ...]


class Runner(Protocol):
    """Runs one cell for some seconds."""

    def run(self, cell: Cell, seconds: float) -> Closed | Paced | Offline:
        """Run a cell for so many seconds and return its figures."""
        ...


def cells_of(scenarios: Sequence[str], cameras: Sequence[int]) -> list[Cell]:
    """Return the measurements of some scenarios, in order."""
    cells: list[Cell] = []
    for scenario in scenarios:
        counts = cameras if scenario in ("multi", "paced") else (1,)
        cells += [Cell(scenario, count) for count in counts]
    return cells


def run_cells(
    cells: Sequence[Cell],
    runner: Runner,
    *,
    seconds: float,
    budget_s: float,
    clock: Callable[[], float] = time.monotonic,
    tell: Callable[[int, Cell], None] = lambda done, cell: None,
) -> Done:
    """Measure, each for as long as was asked for or as the budget leaves it.

    Args:
        cells: what to measure.
        runner: measures.
        seconds: for each.
        budget_s: for all of it, seconds from now.
        clock: seconds.
        tell: called before each, with how many are done.

    Raises:
        ConfigError: there is no time for even one.
    """
    end = clock() + budget_s
    results: dict[str, Any] = {"multi": {}, "paced": {}}
    cut: list[str] = []
    for done, cell in enumerate(cells):
        waiting = cells[done:]
        beside = sum(_OVERHEAD_S[one.scenario] for one in waiting)
        share = (end - clock() - beside) / len(waiting)
        # Where there is no time for all, the first ones get enough.
        alone = end - clock() - _OVERHEAD_S[cell.scenario]
        length = min(seconds, alone, max(share, LEAST_S))
        if length < min(seconds, LEAST_S):
            cut.append(str(cell))
            continue
        tell(done, cell)
        found = runner.run(cell, length)
        if cell.scenario in ("multi", "paced"):
            results[cell.scenario][str(cell.cameras)] = found
        else:
            results[cell.scenario] = found
    if len(cut) == len(cells):
        needed = math.ceil(LEAST_S + min(_OVERHEAD_S[cell.scenario] for cell in cells))
        raise ConfigError(
            f"--budget leaves {max(budget_s, 0.0):.1f} s for measuring, too little for even one of "
            f"{', '.join(cut)}; give at least {needed} s more, or fewer scenarios"
        )
    return Done(Results(**results), tuple(cut))


class LiveRunner:
    """Runs cells on this machine.

    Args:
        analyzer: warmed up; it forgets what it saw before each cell.
        openers: what opens each source; cameras play them in turn.
        fps, jitter: pace of a camera, see :class:`~.paced.Load`.
        video: whether pictures are encoded and sent.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        openers: Sequence[Opener],
        *,
        fps: float,
        jitter: float,
        video: bool,
    ) -> None:
        self._analyzer, self._openers = analyzer, tuple(openers)
        self._fps, self._jitter, self._video = fps, jitter, video

    def run(self, cell: Cell, seconds: float) -> Closed | Paced | Offline:
        """Measure a cell.

        Raises:
            FacestageError: a source, the network or a device cannot be used.
        """
        analyzer = self._analyzer
        analyzer.reset()
        openers = {
            f"camera {n + 1}": self._openers[n % len(self._openers)] for n in range(cell.cameras)
        }
        if cell.scenario == "paced":
            load = Load(openers, self._fps, self._jitter, seconds, self._video)
            return run_paced(analyzer, load)
        with ExitStack() as stack:
            read = []
            for name, opener in openers.items():
                camera = Camera(name, opener, self._fps)
                stack.callback(camera.close)
                read.append(camera.read)
            if cell.scenario == "offline":
                return run_offline(analyzer, read[0], seconds)
            return run_closed(analyzer, read, seconds, video=self._video)

    def compare(self, peer: str, pairs: int) -> dict[str, Peer]:
        """Compare the LRP engine with a peer, by its name, on the first face that is found."""
        if peer == "none":
            return {}
        analyzer = self._analyzer
        analyzer.reset()
        camera = Camera("camera", self._openers[0], self._fps)
        try:
            for _ in range(_LOOK_FRAMES):
                (result,) = analyzer.update([camera.read()])
                if result.face.crop is not None:
                    break
            else:
                raise ConfigError(
                    f"--peers {peer} needs a face, and the first {_LOOK_FRAMES} frames show none; "
                    "use another source"
                )
        finally:
            camera.close()
        network, explain = analyzer.network, analyzer.config.explain
        crop = network.prepare(result.face.crop[None])
        return {peer: compare_engines(network, crop, pairs, _PEER_S, explain.preset)}

    def roofline(self, before: MachineSpeed) -> Roofline:
        """Compare the network's way forward with what the machine can do."""
        return measure_roofline(self._analyzer.network, _ROOFLINE_S, before.gemm_gflops)
