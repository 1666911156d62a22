"""What a recording costs and loses: disk, memory, frames, and what a kill takes with it.

Plays the messages of a recorded session over and over through a hub of two sources, at a pace,
with a recorder and two clients that read everything; prototypes are new the first time only. Then
kills recorders at random moments and reads what they leave. No network runs: what is measured is
the recorder. One line of JSON with: seconds of camera time, MB per hour and source, resident memory
after a fifth of the time and at its end, frames published, recorded, and counted as dropped, CPU
seconds of the recorder's thread per camera hour; and of the kills: how many sessions could be read,
how many claimed to be complete, and the longest time between the last frame and the kill.

    python benchmarks/recordings.py SESSION [--minutes M] [--pace P] [--kills N] [--seed N]
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
from facestage.stream import protocol
from facestage.stream.protocol import StreamInfo, Subscribe, encode
from facestage.stream.recording.reader import Record, Session, open_session
from facestage.stream.recording.recorder import Plan, Recorder
from facestage.stream.server.hub import Hub
from facestage.stream.server.server import Server
from websockets.asyncio.client import connect

STREAMS = ("a", "b")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("session", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0, help="of the clock on the wall")
    parser.add_argument("--pace", type=float, default=4.0)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    material = open_session(options.session)
    with tempfile.TemporaryDirectory() as place:
        figures = asyncio.run(record(material, Path(place), 60 * options.minutes, options.pace))
        chance = random.Random(options.seed)
        figures |= kill(Path(place), [chance.uniform(0.3, 4.0) for _ in range(options.kills)])
    sys.stdout.write(json.dumps(figures) + "\n")


# ---- an hour, or a part of it


async def record(material: Session, place: Path, seconds: float, pace: float) -> dict[str, object]:
    """Record for so long, and return the figures."""
    hub = Hub([StreamInfo(id=name, name=name, number=n) for n, name in enumerate(STREAMS)])
    hello = msgspec.structs.replace(material.head.hello, streams=hub.streams)
    recorder = Recorder(hub, Plan(place, "bench", hello, material.head.model))
    folder = recorder.start()
    player = _Looped(material, hub, pace)
    memory: list[float] = []
    async with Server(hub, hello=hello, port=0) as server:
        readers = [asyncio.create_task(read_all(server.port)) for _ in range(2)]
        while hub.clients < 2:
            await asyncio.sleep(0.05)
        thread = threading.Thread(target=player.run, args=(seconds,))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(1.0)
            memory.append(resident_mb())
        cpu_s = thread_cpu_s("recorder")
        await asyncio.to_thread(recorder.stop)
        received = 0
        for reader in readers:
            reader.cancel()
        received = sum(await asyncio.gather(*readers))
    session = open_session(folder)
    there = sum(
        1
        for record in session.samples()
        if record.envelope is not None and record.envelope.type == "frame"
    )
    hours = player.camera_s / 3600
    sizes = {
        kind: sum(path.stat().st_size for path in folder.rglob(f"*{kind}*") if path.is_file())
        for kind in ("events.jsonl", "0000.jsonl.gz")
    }
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "camera_s": round(player.camera_s, 1),
        "pace": round(player.camera_s / seconds, 2),
        "mb_per_hour_and_source": round(total / 1e6 / hours / len(STREAMS), 1),
        "of_it_events": round(sizes["events.jsonl"] / 1e6 / hours / len(STREAMS), 1),
        "memory_mb": [round(memory[len(memory) // 5], 1), round(memory[-1], 1)],
        "frames": player.frames,
        "frames_recorded": there,
        "samples_dropped": recorder.dropped,
        "complete": session.complete,
        "events": player.events,
        "events_recorded": sum(1 for _ in session.events()) - 2,
        "messages_read_by_clients": received,
        "recorder_cpu_s_per_camera_hour": round(cpu_s / hours / len(STREAMS), 1),
    }


class _Looped:
    """The messages of a session, over and over, to every stream of a hub."""

    def __init__(self, material: Session, hub: Hub, pace: float) -> None:
        self.records: list[Record] = [
            record
            for record in material.records()
            if record.envelope is not None and record.envelope.stream is not None
        ]
        times = [
            record.envelope.data.time_s
            for record in self.records
            if record.envelope is not None and record.envelope.type == "frame"
        ]
        self.span_s = times[-1] - times[0] + times[1] - times[0]
        self.hub, self.pace = hub, pace
        self.frames = self.events = 0
        self.camera_s = 0.0
        heats = {
            record.envelope.data.frame: record.envelope.data
            for record in self.records
            if record.envelope is not None and record.envelope.type == "heat"
        }
        self.heats = heats
        self.first_s = times[0]

    def run(self, seconds: float) -> None:
        """Publish for so long."""
        began, loop = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            for record in self.records:
                envelope = record.envelope
                assert envelope is not None
                data = envelope.data
                if isinstance(data, protocol.FrameSample):
                    at = loop * self.span_s + data.time_s - self.first_s
                    time.sleep(max(0.0, began + at / self.pace - time.monotonic()))
                    self.camera_s = at
                    self.publish_frame(data, at, loop)
                elif isinstance(data, protocol.Event) and (
                    loop == 0 or not isinstance(data, protocol.PrototypeNew)
                ):
                    for stream in STREAMS:
                        self.hub.publish_event(data, stream=stream)
                        self.events += 1
            loop += 1

    def publish_frame(self, data: protocol.FrameSample, at: float, loop: int) -> None:
        number = loop * 100_000 + data.frame
        heat = self.heats.get(data.frame)
        for stream in STREAMS:
            if heat is not None:
                moved = msgspec.structs.replace(heat, frame=number)
                self.hub.publish_sample(moved, stream=stream, t_capture=time.time())
            frame = msgspec.structs.replace(data, frame=number, time_s=at)
            self.hub.publish_sample(frame, stream=stream, t_capture=time.time())
            self.frames += 1


async def read_all(port: int) -> int:
    """Read everything a server says; return how many messages came."""
    count = 0
    async with connect(f"ws://127.0.0.1:{port}/ws", max_queue=None) as socket:
        await socket.send(encode(Subscribe()).decode())
        try:
            async for message in socket:
                count += 1
                if '"heartbeat"' in str(message)[:40]:
                    await socket.send(encode(protocol.CLIENT_MESSAGES["heartbeat"]()).decode())
        except asyncio.CancelledError:
            return count
    return count


def resident_mb() -> float:
    """Return the resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def thread_cpu_s(name: str) -> float:
    """Return what the thread of a name has computed so far, seconds."""
    for thread in threading.enumerate():
        if thread.name == name and thread.native_id is not None:
            text = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
            fields = text.rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


# ---- killed at any moment


def kill(place: Path, moments: list[float]) -> dict[str, object]:
    """Kill a recorder at each of these times after its first frame; return what was left."""
    read = complete = 0
    longest = 0.0
    for seed, moment in enumerate(moments):
        command = [sys.executable, "-m", "tests.support.recording", str(place), "2", str(seed)]
        root = Path(__file__).parents[1]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            folder = Path(process.stdout.readline().strip())
            process.stdout.readline()
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            process.stdout.read()
        session = open_session(folder)
        read += 1
        complete += session.complete or session.end is not None
        last = max(record.at for record in session.records())
        longest = max(longest, killed - session.head.clock.monotonic - last)
    return {
        "kills": len(moments),
        "readable": read,
        "claimed_complete": complete,
        "longest_loss_s": round(longest, 3),
    }


if __name__ == "__main__":
    main()
