"""Open loop: frames come when they come, through the live path, to two websocket clients.

A closed loop forgives a stall: while nothing is asked, nothing is late. Here each frame has a
schedule that stands from the start, and its latency counts from there, whether it was analysed or
dropped because the machine was busy. A frame that was dropped is answered when a later one of its
camera is: from then on what is shown is at least as new.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...core.analyzer import Analyzer
from ...core.errors import SourceError
from ...core.steps import STEPS
from ..live.pipeline import Pipeline
from ..live.publish import action_units
from ..protocol import Hello, StreamInfo
from ..server.hub import Hub
from ..server.server import Server
from .clients import Clients, Log
from .figures import Paced, Spread, StepSamples
from .workload import Opener, PacedCamera

__all__ = ["DEADLINES_MS", "LEAD_S", "Load", "answers", "run_paced", "shown_ages"]

DEADLINES_MS = (33, 67, 100)
"""One, two and three frames at 30 frames per second."""
LEAD_S = 1.0
"""Time that is left out at the start: first looks for faces, clients that join, seconds."""
_GRACE_S = 0.5
"""Time after the last scheduled frame in which it may still be answered, seconds."""
_AGE_GRID_S = 1e-3


@dataclass(frozen=True, slots=True)
class Load:
    """What is put on the machine.

    Attributes:
        openers: name → what opens what the camera plays.
        fps: frames per second of each camera.
        jitter: longest shift of a frame, share of the time between two.
        seconds: for how long.
        video: whether pictures are sent.
    """

    openers: Mapping[str, Opener]
    fps: float
    jitter: float
    seconds: float
    video: bool


def answers(due: Sequence[float], seen: Sequence[tuple[int, float]], end: float) -> list[float]:
    """Return for each scheduled frame how long it took until it, or a later one, was seen.

    Args:
        due: when each frame was scheduled, by its index.
        seen: index of a frame and when it was seen, in the order of time.
        end: when nobody looked any more; what was not seen by then took at least until then.

    Returns:
        Times, in the unit of the clock.
    """
    newest: list[int] = []
    at: list[float] = []
    for index, time_seen in seen:
        if not newest or index > newest[-1]:
            newest.append(index)
            at.append(time_seen)
    found = []
    for index, scheduled in enumerate(due):
        place = bisect.bisect_left(newest, index)
        found.append((at[place] if place < len(at) else end) - scheduled)
    return found


def shown_ages(
    due: Sequence[float], seen: Sequence[tuple[int, float]], start: float, end: float
) -> np.ndarray:
    """Return the age of what is shown at moments a millisecond apart, ``(n,)`` float64.

    Args:
        due, seen: as for :func:`answers`.
        start, end: between which the moments lie; those before the first frame was seen are left
            out.
    """
    if not seen:
        return np.empty(0)
    moments = np.arange(start, end, _AGE_GRID_S)
    times = np.array([when for _, when in seen])
    shown = np.array([due[index] for index, _ in seen])
    last = np.searchsorted(times, moments, side="right") - 1
    return moments[last >= 0] - shown[last[last >= 0]]


def run_paced(analyzer: Analyzer, load: Load) -> Paced:
    """Put a load on the live path for some time.

    Args:
        analyzer: warmed up, and with no memory of these cameras.
        load: cameras and their pace.

    Raises:
        SourceError: a source cannot be opened, or ended early.
        FacestageError: a client was cut off.
    """
    log, samples = Log(), StepSamples()
    cameras: dict[str, PacedCamera] = {}
    names = list(load.openers)
    hub = Hub([StreamInfo(id=name, name=name, number=n) for n, name in enumerate(names)])
    pipeline = Pipeline(
        analyzer,
        hub,
        video=load.video,
        require="all",
        on_result=log.note_emitted,
        on_steps=samples.add,
    )

    def open_camera(name: str, seed: int) -> PacedCamera:
        cameras[name] = PacedCamera(
            name, load.openers[name], fps=load.fps, jitter=load.jitter, seed=seed
        )
        return cameras[name]

    for seed, name in enumerate(names):
        pipeline.add(name, partial(open_camera, name, seed), policy="latest", max_attempts=0)
    used = asyncio.run(_serve(pipeline, _server(hub, analyzer, load), log, load))
    if pipeline.failed:
        raise pipeline.failed[0]
    due = {name: camera.due for name, camera in cameras.items()}
    return _figures(load, due, log, used, samples)


def _server(hub: Hub, analyzer: Analyzer, load: Load) -> Server:
    network = analyzer.network
    hello = Hello(
        server="bench",
        lrp_preset=analyzer.config.explain.preset,
        model=network.name,
        device=str(network.device),
        detector=analyzer.detector_name,
        aus=action_units(network, analyzer.shown),
        video=load.video,
    )
    return Server(hub, hello=hello, port=0)


@dataclass(frozen=True, slots=True)
class _Used:
    """From when to when frames count, by the monotonic clock, and what was used and lost then."""

    start: float
    end: float
    closed: float
    cpu_s: float
    drops: Counter[str]


async def _serve(pipeline: Pipeline, server: Server, log: Log, load: Load) -> _Used:
    """Run server, clients and pipeline together for as long as the load lasts."""
    async with server:
        clients = Clients(server.address, log)
        await asyncio.to_thread(clients.start)
        try:
            await asyncio.to_thread(pipeline.open)
            running = asyncio.create_task(asyncio.to_thread(pipeline.run))
            try:
                await asyncio.wait({running}, timeout=LEAD_S)
                start, lost = time.monotonic(), _drops(pipeline)
                cpu_s = clients.cpu_now() - time.process_time()
                await asyncio.wait({running}, timeout=load.seconds)
                end, lost = time.monotonic(), _drops(pipeline) - lost
                cpu_s += time.process_time() - clients.cpu_now()
                await asyncio.wait({running}, timeout=_GRACE_S)
            finally:
                pipeline.stop()
                await running
        finally:
            await asyncio.to_thread(clients.stop)
    clients.check()
    return _Used(start, end, time.monotonic(), cpu_s, lost)


def _drops(pipeline: Pipeline) -> Counter[str]:
    total: Counter[str] = Counter()
    for stream in pipeline.streams:
        total.update(stream.capture.drops)
    return total


def _figures(
    load: Load,
    due: Mapping[str, Sequence[float]],
    log: Log,
    used: _Used,
    samples: StepSamples,
) -> Paced:
    """Count and judge the frames that were scheduled in the time that counts."""
    emitted: list[float] = []
    received: list[float] = []
    ages: list[np.ndarray] = []
    analysed = 0
    for name, scheduled in due.items():
        counts = [used.start <= moment < used.end for moment in scheduled]
        seen = log.emitted.get(name, [])
        had = log.received.get(name, [])
        emitted += _counted(answers(scheduled, seen, used.closed), counts)
        received += _counted(answers(scheduled, had, used.closed), counts)
        ages.append(shown_ages(scheduled, seen, used.start, used.end))
        analysed += sum(counts[index] for index, _ in seen)
    seconds = used.end - used.start
    if not emitted:
        raise SourceError("no camera gave a frame in time; use a longer --seconds")
    return Paced(
        cameras=len(due),
        fps=load.fps,
        seconds=round(seconds, 3),
        scheduled=len(emitted),
        analysed=analysed,
        analysed_per_s=round(analysed / seconds / len(due), 3),
        capture_to_emit=Spread.of(1e3 * s for s in emitted),
        capture_to_client=Spread.of(1e3 * s for s in received),
        stage_age=Spread.of(1e3 * np.concatenate(ages)),
        **{f"missed_{ms}ms": _missed(emitted, ms) for ms in DEADLINES_MS},
        drops=dict(used.drops),
        drop_share=round(1.0 - analysed / len(emitted), 5),
        cpu_s_per_camera_s=round(used.cpu_s / seconds / len(due), 4),
        steps=samples.figures(STEPS),
    )


def _counted(values: Sequence[float], counts: Sequence[bool]) -> list[float]:
    return [value for value, does in zip(values, counts, strict=True) if does]


def _missed(seconds: Sequence[float], deadline_ms: float) -> float:
    """Return which share of some times is longer than a deadline."""
    return round(sum(1e3 * s > deadline_ms for s in seconds) / len(seconds), 5)
