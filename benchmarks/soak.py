"""A night in which everything goes wrong: does the live path still stand in the morning?

Cameras that play the embedded clip go through capture, analysis, hub and a server with a token, in
this process; a good client listens by websocket. On a schedule, one fault after the other:

    kill      a camera's connection breaks, and cannot be opened for a while
    freeze    a camera gives no picture
    garble    a camera gives noise
    resize    a camera changes the size of its pictures
    clock     the wall clock is put forward by two hours, then back
    disk      every line of the log takes as long as on a slow disk
    stalled   clients that know the token, subscribe to everything and never read
    hostile   clients that flood, without the token and with it (tests/support/hostile.py)

Printed every minute, and judged at the end against ``LIMITS``: the slope of the resident memory
with its 95 % interval once the ring of events is full and an hour has passed, descriptors,
threads, holes in the events of the good client, letters per AU, and the 99th percentile of capture
to emit. Exit status 1: a limit was broken, or a camera was not live again after its faults.

    python -m benchmarks.soak --hours 8 --cameras 4 --faults all [--json FILE]

Hours are those of the cameras. At ``--pace 4``, the default, every camera gives four times its
pictures, one after the other, so that ``--hours 8`` takes two: a night's frames, maps and events in
a quarter of it. Faults, memory and delay keep the time on the wall. On a machine that others use,
``--p99-ms`` moves the only limit that depends on them; the result names the limits that were kept.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import asyncio
import bisect
import contextlib
import json
import logging
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from facestage.core.analyzer import Analyzer
from facestage.core.errors import SourceError
from facestage.core.network.au_network import AUNetwork
from facestage.stream.compute import limit_blas
from facestage.stream.detectors import make_detector
from facestage.stream.live.capture import SourceState
from facestage.stream.live.pipeline import Pipeline
from facestage.stream.protocol import Auth, Cursor, Hello, StreamInfo, Subscribe, decode, encode
from facestage.stream.server.hub import PICTURE, RING_EVENTS, Hub
from facestage.stream.server.server import Server
from facestage.stream.sources import Grab, Source, open_source
from scipy import stats
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

ATTACK = Path(__file__).parents[1] / "tests/support/hostile.py"
TOKEN = "soak"
FAULTS = ("kill", "freeze", "garble", "resize", "clock", "disk", "stalled", "hostile")
SAMPLES = 400
"""Samples of the process in a run."""
BLOCKS = 20
"""Memory is averaged over so many parts of the run before a line is fitted: neighbouring samples
say the same, and would make the interval too narrow."""
HEAL_S = 90.0
"""Time that cameras have at the end to be live again, seconds: the longest wait between two
attempts to reconnect is 36."""


@dataclass(frozen=True)
class Limits:
    """What a run must keep.

    Attributes:
        slope_mb_per_h: growth of the resident memory, per hour on the wall. It is broken where the
            whole interval lies above it, and judged from :data:`JUDGED_H` on: before, windows and
            prototypes fill.
        resident_mb: memory of the process, at the end.
        descriptors, threads: more in the end than the most in the first half, in which decoders and
            pools of threads begin.
        holes: events that the good client did not get, or got twice.
        connections: of the good client; one more means that it was cut, or the server began anew.
        letters: alive of one AU of one camera.
        p99_ms: capture to emit.
    """

    slope_mb_per_h: float = 5.0
    resident_mb: float = 1500.0
    descriptors: int = 8
    threads: int = 4
    holes: int = 0
    connections: int = 1
    letters: int = 12
    p99_ms: float = 2000.0


LIMITS = Limits()
JUDGED_H = 0.5
"""Least time that the slope of the memory is judged by, hours."""
SETTLED_H = 1.0
"""Time that the process has to fill what fills more slowly than the ring of events, hours on the
wall: windows of Action Units that are rarely active, pools of threads and of the allocator. In the
run of two hours that is kept in ``benchmarks/results`` it stood from 1.1 hours on."""


class Camera(Source):
    """The embedded clip over and over, with the faults of the moment.

    Args:
        name: of the camera.
        fps: pictures per second.
        faults: what is wrong with cameras now, by name.
    """

    def __init__(self, name: str, fps: float, faults: dict[str, str]) -> None:
        if faults.get(name) == "kill":
            raise SourceError(f"{name} cannot be reached")
        self.name, self.kind, self.live, self.endless = name, "camera", True, True
        self.fps, self.frame_count, self.size = fps, None, (640, 360)
        self._faults = faults
        self._clip = open_source("demo:")
        self._noise = np.random.default_rng(0)
        self._number = 0
        self._closed = threading.Event()

    def read(self) -> Grab | None:
        self._closed.wait(1 / (self.fps or 1))
        while self._faults.get(self.name) == "freeze":
            if self._closed.wait(0.1):
                break
        fault = self._faults.get(self.name)
        if fault == "kill" or self._closed.is_set():
            raise SourceError(f"{self.name} was lost")
        grab = self._clip.read()
        if grab is None:
            self._clip.close()
            self._clip = open_source("demo:")
            grab = self._clip.read()
            assert grab is not None  # the clip is not empty
        image = grab.image
        if fault == "garble":
            image = self._noise.integers(0, 256, image.shape, np.uint8)
        if fault == "resize":
            image = cv2.resize(image, None, fx=0.5, fy=0.75)
        self._number += 1
        return Grab(image, self._number - 1, None)

    def close(self) -> None:
        self._closed.set()
        self._clip.close()


class SlowLog(logging.Handler):
    """A log on a disk that is slow now and then; nobody reads it.

    Attributes:
        delay_s: how long a line takes, seconds.
    """

    delay_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)
        time.sleep(self.delay_s)


@dataclass
class Listener:
    """What the good client was told.

    Attributes:
        events: how many.
        holes: events lost or told twice.
        letters: (stream, AU) → letters alive.
        most_letters: largest number of them at a time.
        connections: times it connected.
    """

    events: int = 0
    holes: int = 0
    letters: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    most_letters: int = 0
    connections: int = 0
    _last: Cursor | None = None

    async def listen(self, address: str) -> None:
        """Listen for good, and come back with what was seen last."""
        while True:
            with contextlib.suppress(OSError, ConnectionClosed, TimeoutError):
                async with connect(address, max_size=None) as connection:
                    self.connections += 1
                    await connection.send(encode(Auth(token=TOKEN)), text=True)
                    await connection.send(encode(Subscribe(since=self._last)), text=True)
                    async for message in connection:
                        self._take(decode(message))
            await asyncio.sleep(1)

    def _take(self, envelope) -> None:  # type: ignore[no-untyped-def]
        if envelope.type == "resync":
            self.holes += 1
        if envelope.type == "snapshot" and self._last is None:
            self._last = Cursor(epoch=envelope.epoch, seq=envelope.data.seq)
        if envelope.seq is None or self._last is None or envelope.seq <= 0:
            return
        if envelope.type == "prototype.new" and envelope.seq <= self._last.seq:
            return  # of the state at the beginning
        self.events += 1
        self.holes += envelope.seq != self._last.seq + 1
        self._last = Cursor(epoch=envelope.epoch, seq=envelope.seq)
        if envelope.type in ("prototype.new", "prototype.retire"):
            key = (envelope.stream, int(envelope.data.label[2:4]))
            alive = self.letters.setdefault(key, set())
            (alive.add if envelope.type == "prototype.new" else alive.discard)(envelope.data.label)
            self.most_letters = max(self.most_letters, len(alive))


@dataclass(frozen=True)
class Sample:
    """The process at one moment: hours on the wall since the begin, MB, numbers."""

    hours: float
    resident_mb: float
    descriptors: int
    threads: int


def sample(begin: float) -> Sample:
    """Read the process's own figures."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        (time.monotonic() - begin) / 3600,
        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
    )


def slope(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """Return the growth of the memory in MB per hour, and its 95 % interval."""
    blocks = [block for block in np.array_split(np.arange(len(samples)), BLOCKS) if len(block)]
    hours = [np.mean([samples[i].hours for i in block]) for block in blocks]
    memory = [np.mean([samples[i].resident_mb for i in block]) for block in blocks]
    if len(blocks) < 3:
        return 0.0, float("-inf"), float("inf")
    line = stats.linregress(hours, memory)
    reach = stats.t.ppf(0.975, len(blocks) - 2) * line.stderr
    return line.slope, line.slope - reach, line.slope + reach


@dataclass
class Soak:
    """The parts of a run that faults reach into.

    Attributes:
        cameras: their names.
        faults: camera → what is wrong with it now.
        log: the slow disk.
        clock_step_s: what the wall clock is wrong by, seconds.
        injected: fault → how often.
    """

    cameras: list[str]
    faults: dict[str, str] = field(default_factory=dict)
    log: SlowLog = field(default_factory=SlowLog)
    clock_step_s: float = 0.0
    injected: Counter[str] = field(default_factory=Counter)

    def wall(self) -> float:
        """Return the wall clock, which faults set."""
        return time.time() + self.clock_step_s

    @contextlib.asynccontextmanager
    async def fault(self, kind: str, camera: str, port: int, seconds: float) -> AsyncIterator[None]:
        """Have something go wrong."""
        self.injected[kind] += 1
        async with contextlib.AsyncExitStack() as stack:
            if kind == "clock":
                self.clock_step_s = 7200.0
            elif kind == "disk":
                self.log.delay_s = 0.2
            elif kind == "stalled":
                for path in ("/ws", "/ws/frames"):
                    await stack.enter_async_context(stalled(f"ws://127.0.0.1:{port}{path}"))
            elif kind == "hostile":
                for attack in ATTACKS:
                    await stack.enter_async_context(attacking(port, seconds, attack))
            else:
                self.faults[camera] = kind
            try:
                yield
            finally:
                self.faults.pop(camera, None)
                self.clock_step_s = self.log.delay_s = 0.0


ATTACKS = (
    ("--kind", "pings", "--sockets", "4", "--persistent"),
    ("--kind", "fragments", "--rate", "100000", "--persistent"),
    ("--kind", "headers", "--sockets", "4", "--persistent"),
    ("--kind", "histories", "--sockets", "4", "--rate", "4", "--token", TOKEN),
)


@contextlib.asynccontextmanager
async def stalled(address: str) -> AsyncIterator[None]:
    """Connect, subscribe to everything, and read nothing until the end."""
    connection: ClientConnection = await connect(address, max_queue=1, ping_interval=None)
    try:
        await connection.send(encode(Auth(token=TOKEN)), text=True)
        await connection.send(encode(Subscribe(history_s=3600)), text=True)
        connection.transport.pause_reading()
        yield
    finally:
        connection.transport.abort()


@contextlib.asynccontextmanager
async def attacking(port: int, seconds: float, options: Sequence[str]) -> AsyncIterator[None]:
    """Flood the server from another process."""
    attack = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ATTACK), str(port), "--seconds", f"{min(seconds, 20):.1f}", *options),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            attack.kill()
        await attack.wait()


async def inject(soak: Soak, kinds: Sequence[str], port: int, end: float, every_s: float) -> None:
    """Have one fault after the other until the end, each for half of its time, none alike."""
    chance = random.Random(0)
    turn = 0
    while time.monotonic() + every_s < end:
        kind = kinds[turn % len(kinds)]
        camera = chance.choice(soak.cameras)
        seconds = every_s * chance.uniform(0.3, 0.7)
        async with soak.fault(kind, camera, port, seconds):
            await asyncio.sleep(seconds)
        await asyncio.sleep(every_s - seconds)
        turn += 1


async def watch(
    hub: Hub, ring: int, begin: float, end: float, report: Callable[[list[Sample], int], None]
) -> tuple[list[Sample], int]:
    """Sample the process until the end; return the samples and the first with a full ring.

    ``report`` is told both every minute.
    """
    samples: list[Sample] = []
    full = -1
    period = (end - begin) / SAMPLES
    told = begin
    while time.monotonic() < end:
        await asyncio.sleep(period)
        samples.append(sample(begin))
        first, last = hub.range
        if full < 0 and (first > 1 or last - first + 1 >= ring):
            full = len(samples) - 1
        if time.monotonic() - told >= 60:
            told = time.monotonic()
            report(samples, full)
    return samples, full


async def healed(pipeline: Pipeline) -> list[str]:
    """Wait until every camera is live again; return those that are not."""
    end = time.monotonic() + HEAL_S
    while True:
        ill = [s.id for s in pipeline.streams if s.capture.state is not SourceState.LIVE]
        if not ill or time.monotonic() > end:
            return ill
        await asyncio.sleep(0.5)


async def run(
    options: argparse.Namespace,
    kinds: Sequence[str],
    so_far: Callable[[dict[str, object]], None],
) -> dict[str, object]:
    """Run the night and return its figures; ``so_far`` is told those of every minute."""
    seconds = options.hours * 3600 / options.pace
    soak = Soak([f"camera {n}" for n in range(options.cameras)])
    logger = logging.getLogger("facestage")
    logger.addHandler(soak.log)
    logger.propagate = False
    ring = options.ring_events or max(50, round(RING_EVENTS * min(1.0, seconds / 7200)))
    fps = options.fps * options.pace
    infos = [StreamInfo(id=name, name=name, number=n) for n, name in enumerate(soak.cameras)]
    hub = Hub(infos, ring_events=ring, clock=soak.wall)
    hub.set_interest("page", ["events", "frame", "heat", "stats", PICTURE], None)
    analyzer = Analyzer(make_detector("ours"), AUNetwork.load(device=options.device))
    pipeline = Pipeline(analyzer, hub)
    for name in soak.cameras:
        pipeline.add(name, lambda name=name: Camera(name, fps, soak.faults))
    hello = Hello(server="0", model="m", device="cpu", detector="ours", lrp_preset="p")
    listener = Listener()
    async with Server(hub, hello=hello, port=0, token=TOKEN) as server:
        await asyncio.to_thread(analyzer.warm_up)
        await asyncio.to_thread(pipeline.open)
        analysis = asyncio.create_task(asyncio.to_thread(pipeline.run))
        good = asyncio.create_task(listener.listen(f"ws://127.0.0.1:{server.port}/ws"))
        await asyncio.sleep(min(5.0, seconds / 10))
        begin = time.monotonic()
        end = begin + seconds
        every = max(3.0, min(120.0, seconds / (2 * len(kinds)))) if kinds else seconds
        faults = asyncio.create_task(inject(soak, kinds, server.port, end, every))

        def found(samples: list[Sample], full: int, ill: list[str]) -> dict[str, object]:
            summary = pipeline.metrics.summary({})
            return {
                **figures(samples, full, sample(begin), listener, soak, ill),
                "ring_events": ring,
                "frames": summary.frames,
                "p99_ms": summary.latency_p99_ms,
            }

        def report(samples: list[Sample], full: int) -> None:
            tell(samples[-1], listener, soak)
            so_far({**found(samples, full, []), "ended": False})

        samples, full = await watch(hub, ring, begin, end, report)
        faults.cancel()
        await asyncio.gather(faults, return_exceptions=True)
        ill = await healed(pipeline)
        result = found(samples, full, ill)
        pipeline.stop()
        summary = await analysis
        good.cancel()
        await asyncio.gather(good, return_exceptions=True)
    return {**result, "drops": summary.drops, "ended": True}


def tell(now: Sample, listener: Listener, soak: Soak) -> None:
    """Print how it stands."""
    print(
        f"{now.hours * 60:6.1f} min  {now.resident_mb:7.1f} MB  {now.descriptors} descriptors  "
        f"{now.threads} threads  {listener.events} events, {listener.holes} holes, "
        f"{listener.most_letters} letters  faults {sum(soak.injected.values())}",
        flush=True,
    )


def figures(
    samples: list[Sample], full: int, last: Sample, listener: Listener, soak: Soak, ill: list[str]
) -> dict[str, object]:
    """Return what was measured."""
    # A ring that never filled grows with what is in it; then the second half has to do.
    half = len(samples) // 2
    settled = bisect.bisect_left([s.hours for s in samples], SETTLED_H)
    start = min(max(full, settled), half) if full >= 0 else half
    per_hour, low, high = slope(samples[start:])
    first = samples[: len(samples) // 2 + 1]
    return {
        "hours": samples[-1].hours,
        "faults": dict(soak.injected),
        "ring_full_after_h": samples[full].hours if full >= 0 else None,
        "slope_from_h": samples[start].hours,
        "slope_mb_per_h": per_hour,
        "slope_interval": [low, high],
        "memory": [[round(s.hours, 4), round(s.resident_mb, 1)] for s in samples],
        "resident_mb": last.resident_mb,
        "descriptors": [max(s.descriptors for s in first), last.descriptors],
        "threads": [max(s.threads for s in first), last.threads],
        "events": listener.events,
        "holes": listener.holes,
        "letters": listener.most_letters,
        "connections": listener.connections,
        "not_live": ill,
    }


def broken(result: dict, limits: Limits = LIMITS) -> list[str]:  # type: ignore[type-arg]
    """Return what a run broke, a sentence each."""
    found = []
    judged = result["hours"] - result["slope_from_h"] >= JUDGED_H
    if judged and result["slope_interval"][0] > limits.slope_mb_per_h:
        found.append(f"memory grows by more than {limits.slope_mb_per_h:g} MB per hour")
    if result["resident_mb"] > limits.resident_mb:
        found.append(f"{result['resident_mb']:.0f} MB of memory")
    for name in ("descriptors", "threads"):
        before, after = result[name]
        if after > before + getattr(limits, name):
            found.append(f"{name} grew from {before} to {after}")
    if result["holes"] > limits.holes:
        found.append(f"{result['holes']} holes in the events")
    if result["connections"] > limits.connections:
        found.append(f"the good client connected {result['connections']} times")
    if not result["events"]:
        found.append("no event arrived")
    if result["letters"] > limits.letters:
        found.append(f"{result['letters']} letters of one AU")
    if result["p99_ms"] is None or result["p99_ms"] > limits.p99_ms:
        found.append(f"capture to emit p99 {result['p99_ms']} ms")
    if result["not_live"]:
        found.append(f"not live again: {', '.join(result['not_live'])}")
    return found


def command_line() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, default=8.0, help="of the cameras, see --pace")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--faults", default="all", help="all, none, or names joined by commas")
    parser.add_argument("--fps", type=float, default=2.5, help="of each camera, at its own pace")
    parser.add_argument("--pace", type=float, default=4.0, help="so many times as fast")
    parser.add_argument(
        "--ring-events", type=int, help="default: 10,000, fewer if it takes less than two hours"
    )
    parser.add_argument(
        "--p99-ms", type=float, default=LIMITS.p99_ms, help="limit, capture to emit"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = command_line()
    options = parser.parse_args(arguments)
    kinds = {"all": FAULTS, "none": ()}.get(options.faults, tuple(options.faults.split(",")))
    if unknown := set(kinds) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; use {', '.join(FAULTS)}")
    if not 0 < options.hours <= 24 or not 1 <= options.cameras <= 16:
        parser.error("--hours is more than 0 and at most 24, --cameras 1 to 16")
    if options.pace <= 0 or not 0 < options.fps * options.pace <= 240:
        parser.error("--pace is more than 0, --fps times --pace more than 0 and at most 240")
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    limit_blas(1)
    limits = replace(LIMITS, p99_ms=options.p99_ms)
    asked = {name: getattr(options, name) for name in ("cameras", "fps", "pace")}

    def keep(result: dict[str, object]) -> None:
        """Write the figures: a night that is ended early has told what it knew."""
        if options.json:
            told = {"camera_hours": result["hours"] * options.pace, **asked, **result}  # type: ignore[operator]
            told |= {"limits": asdict(limits), "broken": broken(result, limits)}
            options.json.write_text(json.dumps(told, indent=1) + "\n")

    result = asyncio.run(run(options, kinds, keep))
    verdict = broken(result, limits)
    low, high = result["slope_interval"]  # type: ignore[misc]
    hours = result["hours"] - result["slope_from_h"]  # type: ignore[operator]
    note = "" if hours >= JUDGED_H else ", too short to be judged"
    print(
        f"{'memory':18} {result['slope_mb_per_h']:+.2f} MB/h (95 % {low:+.2f} to {high:+.2f}) in "
        f"{hours:.2f} h{note}"
    )
    for name, value in result.items():
        if name not in ("slope_interval", "memory"):
            print(f"{name:18} {value}")
    print("broken: " + "; ".join(verdict) if verdict else f"all kept: {asdict(limits)}")
    keep(result)
    return 1 if verdict else 0


if __name__ == "__main__":
    sys.exit(main())
