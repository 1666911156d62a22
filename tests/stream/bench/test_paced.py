"""Frames that come when they come: nothing is forgiven because the machine was busy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from facestage.core.analyzer import Analyzer
from facestage.core.errors import FacestageError, SourceError
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import Frame, FrameResult
from facestage.stream.bench.clients import Clients, Log
from facestage.stream.bench.paced import LEAD_S, Load, answers, run_paced, shown_ages
from facestage.stream.bench.workload import Camera, PacedCamera
from facestage.stream.detectors import OurDetector
from facestage.stream.live.background import BackgroundDetector
from facestage.stream.sources import Grab, Source, open_source
from websockets.asyncio.server import ServerConnection, serve


class Ticks:
    """A clock that is moved by hand, and by waiting."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Clip(Source):
    """A recording of black pictures."""

    frames: int = 5
    name: str = "clip"
    kind: str = "video"
    live: bool = False
    endless: bool = False
    fps: float | None = 10.0
    frame_count: int | None = 5
    size: tuple[int, int] = (4, 3)
    at: int = 0
    closed: bool = False

    def read(self) -> Grab | None:
        if self.at == self.frames:
            return None
        self.at += 1
        return Grab(np.full((3, 4, 3), self.at, np.uint8), self.at - 1, self.at / 10)

    def close(self) -> None:
        self.closed = True


def analyse(due: Sequence[float], cost: Callable[[float], float]) -> list[tuple[int, float]]:
    """Return when each analysed frame is seen if the newest is always taken."""
    seen: list[tuple[int, float]] = []
    now = due[0]
    while True:
        waiting = [n for n, t in enumerate(due) if t <= now and (not seen or n > seen[-1][0])]
        if not waiting:
            later = [t for t in due if t > now]
            if not later:
                return seen
            now = later[0]
            continue
        now += cost(now)
        seen.append((waiting[-1], now))


def test_a_stall_of_a_second_shows_in_every_frame_scheduled_during_it() -> None:
    due = [n / 30 for n in range(300)]
    calm = answers(due, analyse(due, lambda now: 0.010), end=11.0)
    assert calm == pytest.approx([0.010] * 300)

    def stalls(now: float) -> float:
        return 1.0 if now == due[150] else 0.010

    seen = analyse(due, stalls)
    assert len(seen) == 300 - 29  # they were overwritten
    found = answers(due, seen, end=11.0)
    during = found[150:181]
    assert during[0] == pytest.approx(1.0)
    # The stall ends at due[150] + 1; the newest frame that waits then is due[180].
    assert during[1:] == pytest.approx([1.010 - n / 30 for n in range(1, 31)])
    assert max(found[:150] + found[181:]) == pytest.approx(0.010)
    # Who asks only those that were analysed hears of two slow frames in 271.
    assert sum(t - due[n] > 0.033 for n, t in seen) == 1
    assert sum(latency > 0.033 for latency in found) == 30


def test_what_is_never_seen_took_at_least_until_the_end() -> None:
    assert answers([1.0, 2.0, 3.0], [(1, 2.5)], end=9.0) == [1.5, 0.5, 6.0]
    assert answers([1.0, 2.0], [], end=4.0) == [3.0, 2.0]
    # An older one that comes late answers nothing.
    assert answers([1.0, 2.0, 3.0], [(2, 3.5), (0, 8.0)], end=9.0) == [2.5, 1.5, 0.5]


def test_the_age_of_what_is_shown_grows_until_the_next_is_there() -> None:
    ages = shown_ages([0.0, 1.0, 2.0], [(0, 0.5), (2, 2.25)], start=0.25, end=3.0)
    assert len(ages) == 2500
    assert ages[0] == pytest.approx(0.5)
    assert ages.max() == pytest.approx(2.249)
    assert ages[1750] == pytest.approx(0.25)
    assert len(shown_ages([0.0], [], 0.0, 1.0)) == 0


def test_the_schedule_stands_whoever_reads_late() -> None:
    clock = Ticks()
    clips: list[Clip] = []

    def opener() -> Source:
        clips.append(Clip())
        return clips[-1]

    camera = PacedCamera("c", opener, fps=10.0, seed=3, clock=clock, sleep=clock.sleep)
    first = camera.read()
    assert (first.index, first.pts) == (0, 0.0)
    start = camera.due[0]
    assert 100.0 <= start <= 100.1
    assert clock.now == start
    clock.now += 0.55  # the reader was away
    taken = [(camera.read().index, clock.now) for _ in range(7)]
    assert [index for index, _ in taken] == [1, 2, 3, 4, 5, 6, 7]
    assert camera.due == pytest.approx([start + n / 10 for n in range(8)])
    late = start + 0.55
    assert [now for _, now in taken] == pytest.approx([late] * 5 + [start + 0.6, start + 0.7])
    assert len(clips) == 2
    assert clips[0].closed


def test_jitter_moves_each_frame_alone_and_is_the_same_for_a_seed() -> None:
    def schedule(seed: int) -> list[float]:
        clock = Ticks()
        camera = PacedCamera(
            "c", Clip, fps=10.0, jitter=0.4, seed=seed, clock=clock, sleep=clock.sleep
        )
        for _ in range(200):
            camera.read()
        return camera.due

    one = np.array(schedule(1))
    shifts = (one - one[0]) * 10 - np.arange(200)
    assert np.ptp(shifts) > 0.6
    assert np.abs(shifts - shifts.mean()).max() < 0.5
    assert schedule(1) == one.tolist() != schedule(2)


def test_a_stream_that_ends_is_no_clip_to_begin_again() -> None:
    def opener() -> Source:
        return Clip(endless=True, frame_count=None, frames=2)

    camera = PacedCamera("c", opener, fps=10.0, sleep=lambda seconds: None)
    assert [camera.read().index for _ in range(2)] == [0, 1]
    with pytest.raises(SourceError, match="c ended; check it in a player"):
        camera.read()
    closed = Camera("c", opener, 10.0)
    assert [closed.read().index for _ in range(2)] == [0, 1]
    with pytest.raises(SourceError, match="c ended; check it in a player"):
        closed.read()


def test_a_clip_is_read_over_and_over() -> None:
    camera = Camera("c", Clip, 10.0)
    frames = [camera.read() for _ in range(7)]
    assert [frame.index for frame in frames] == list(range(7))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 3, 4, 5, 1, 2]
    assert frames[6].time_s == pytest.approx(0.6)


class Stalling(Analyzer):
    """Stands still once for a second."""

    stalled: tuple[float, float] | None = None
    begun: float | None = None

    def update(
        self, frames: Sequence[Frame], on_looked: Callable[[], None] | None = None
    ) -> list[FrameResult]:
        now = time.monotonic()
        if self.begun is None:
            self.begun = now
        # Well after the time that is left out, well before the end of that which counts.
        if self.stalled is None and now > self.begun + LEAD_S + 0.3:
            threading.Event().wait(1.0)
            self.stalled = (now, time.monotonic())
        return super().update(frames, on_looked)


def test_the_live_path_under_a_load_that_does_not_wait() -> None:
    analyzer = Stalling(BackgroundDetector(OurDetector()), AUNetwork.load(device="cpu"))
    analyzer.warm_up()
    openers = {name: lambda: open_source("demo:") for name in ("a", "b")}
    load = Load(openers, fps=20.0, jitter=0.1, seconds=3.0, video=True)
    found = run_paced(analyzer, load)
    assert analyzer.stalled is not None
    emit = found.capture_to_emit
    assert emit is not None
    assert emit.n == found.scheduled == pytest.approx(2 * 20 * found.seconds, abs=3)
    # Each camera had 18 frames due between the stall's begin and .1 s before its end.
    assert emit.max > 950.0
    assert found.missed_100ms * found.scheduled >= 2 * 17
    assert found.missed_33ms >= found.missed_67ms >= found.missed_100ms
    assert found.drop_share > 0.2
    assert set(found.drops) == {"overwritten"}
    client = found.capture_to_client
    assert client is not None
    assert client.n == emit.n
    assert client.mean > emit.mean
    assert found.stage_age is not None
    assert found.stage_age.max > 950.0
    assert {"capture", "decode", "forward", "picture", "heat", "send"} <= set(found.steps)
    assert found.cpu_s_per_camera_s > 0


def test_a_client_that_is_cut_off_is_no_client_that_saw_nothing() -> None:
    """A server that sends a client away at once."""

    async def leave(connection: ServerConnection) -> None:
        await connection.close()

    async def look() -> str:
        async with serve(leave, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            clients = Clients(f"http://127.0.0.1:{port}/", Log())
            with contextlib.suppress(FacestageError):
                await asyncio.to_thread(clients.start)
            await asyncio.to_thread(clients.stop)
            return str(clients.trouble)

    assert asyncio.run(look())
    with pytest.raises(FacestageError, match="a client of the benchmark was cut off"):
        asyncio.run(nobody_there())


async def nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    clients = Clients(f"http://127.0.0.1:{port}/", Log())
    await asyncio.to_thread(clients.start)
