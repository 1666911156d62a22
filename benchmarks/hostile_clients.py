"""What hostile clients cost a good one: frames per second, and memory, on 127.0.0.1.

A server with a token gets 30 frames per second, while a thread computes in Python without pause, as
the analysis may; a client that knows the token counts those that it
is sent, while none, one or ten sockets without the token send 64,000 pings per second each. Then
the ten connect again whenever they are dropped, and one socket sends one message of empty
fragments without end, and the memory of the process is read. Last, ten clients that do know the
token ask 4 times per second each for all of a full ring of events, at once and then for as long
again, when the budget of the past is used up. Takes about 24 seconds.

    python benchmarks/hostile_clients.py [--seconds N]
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import asyncio
import json
import logging
import sys
import threading
from pathlib import Path

from facestage.stream.protocol import (
    Auth,
    FaceValue,
    FrameSample,
    Hello,
    StageEnter,
    StreamInfo,
    Subscribe,
    decode,
    encode,
)
from facestage.stream.server.hub import RING_EVENTS, Hub
from facestage.stream.server.server import Server
from websockets.asyncio.client import ClientConnection, connect

ATTACK = Path(__file__).parents[1] / "tests/support/hostile.py"
TOKEN = "secret"
FRAMES_PER_S = 30
MAX_SECONDS = 3.0
"""Longest measurement, seconds: seven of them and their starts take less than 30 s."""


def resident_bytes() -> int:
    """Return the memory of this process, bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def compute(stop: threading.Event) -> None:
    """Keep the interpreter busy."""
    while not stop.is_set():
        sum(range(1000))


async def publish(hub: Hub) -> None:
    """Publish samples at a steady rate."""
    number = 0
    while True:
        number += 1
        face = FaceValue(state="lost")
        sample = FrameSample(
            frame=number, time_s=number / FRAMES_PER_S, width=640, height=360, face=face
        )
        hub.publish_sample(sample, stream="cam")
        await asyncio.sleep(1 / FRAMES_PER_S)


def fill(hub: Hub) -> None:
    """Fill the ring of events."""
    for number in range(RING_EVENTS):
        event = StageEnter(
            labels=("AU06_A", "AU12_B"),
            start=number,
            start_s=number / FRAMES_PER_S,
            reason="au_on",
            at=number,
            text="(AU06_A, AU12_B)",
        )
        hub.publish_event(event, stream="cam")


async def count_frames(connection: ClientConnection, seconds: float) -> int:
    """Return the number of samples that arrive within a time."""
    frames = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                frames += decode(await connection.recv()).type == "frame"
    except TimeoutError:
        return frames


async def measure(
    server: Server, good: ClientConnection, seconds: float, *options: str
) -> tuple[float, list[dict]]:
    """Return the frames per second of the good client under an attack, and the sockets' fates."""
    if not options:
        return await count_frames(good, seconds) / seconds, []
    attack = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ATTACK),
        str(server.port),
        *("--seconds", str(seconds), *options),
        stdout=asyncio.subprocess.PIPE,
    )
    assert attack.stdout is not None  # it is piped: narrows the library's type
    await attack.stdout.readline()
    frames = await count_frames(good, seconds)
    return frames / seconds, json.loads(await attack.stdout.read())


def describe(fates: list[dict]) -> str:
    """Return one line on what became of the attackers."""
    if not fates:
        return ""
    dropped = [fate for fate in fates if fate["gone"]]
    text = f"{len(dropped)} of {len(fates)} sockets dropped"
    if dropped:
        codes = {fate["code"] for fate in dropped}
        text += f", after at most {max(fate['seconds'] for fate in dropped):.2f} s, code {codes}"
    sent, received = (sum(fate[way] for fate in fates) / 1e6 for way in ("sent", "received"))
    return f"{text}; {sent:.1f} MB sent, {received:.1f} MB received"


async def run(seconds: float) -> None:
    """Measure everything and print it."""
    hub = Hub([StreamInfo(id="cam", name="Camera")])
    hello = Hello(server="0", model="m", device="cpu", detector="d", lrp_preset="p")
    async with Server(hub, hello=hello, port=0, token=TOKEN) as server:
        publisher = asyncio.create_task(publish(hub))
        async with connect(f"ws://127.0.0.1:{server.port}/ws", ping_interval=None) as good:
            await good.send(encode(Auth(token=TOKEN)), text=True)
            await good.send(encode(Subscribe()), text=True)
            fill(hub)
            histories = ("--kind", "histories", "--rate", "4", "--sockets", "10", "--token", TOKEN)
            cases: dict[str, tuple[str, ...]] = {
                "no attacker": (),
                "1 socket, 64,000 pings/s": ("--sockets", "1"),
                "10 sockets, 64,000 pings/s each": ("--sockets", "10"),
                "10 sockets that connect again": ("--sockets", "10", "--persistent"),
                "1 message of empty fragments": ("--kind", "fragments", "--rate", "1000000"),
                "10 that ask for all history": histories,
                "10 that go on to": histories,
            }
            for name, options in cases.items():
                before = resident_bytes()
                rate, fates = await measure(server, good, seconds, *options)
                grown = (resident_bytes() - before) / 1e6
                print(f"{name:32} {rate:5.1f} frames/s  {grown:+7.1f} MB  {describe(fates)}")
        publisher.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=MAX_SECONDS, help="per measurement")
    logging.disable(logging.WARNING)  # one line per socket that is cut off
    seconds = min(parser.parse_args().seconds, MAX_SECONDS)
    stop = threading.Event()
    threading.Thread(target=compute, args=(stop,), daemon=True).start()
    try:
        asyncio.run(run(seconds))
    finally:
        stop.set()


if __name__ == "__main__":
    main()
