"""A server on a free port and well-behaved clients of it, for tests of the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from facestage.stream import protocol
from facestage.stream.protocol import (
    Body,
    Envelope,
    FaceValue,
    FrameSample,
    Hello,
    PrototypeNew,
    PrototypeUpdate,
    StageEnter,
    StreamInfo,
    Subscribe,
    decode,
    encode,
)
from facestage.stream.server.hub import Hub
from facestage.stream.server.server import Server
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

STREAMS = (StreamInfo(id="cam", name="Camera"), StreamInfo(id="file", name="File", number=7))
HELLO = Hello(
    server="0",
    model="m",
    device="cpu",
    detector="d",
    lrp_preset="p",
    lrp_engine="reference",
    lrp_engine_reason="there is no fused rule for silu",
)
PATIENCE_S = 20.0


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def make_hub(**options: Any) -> Hub:
    return Hub(STREAMS, **options)


def serving(hub: Hub, **options: Any) -> Server:
    options.setdefault("port", 0)
    return Server(hub, hello=HELLO, **options)


def stage(number: int, *labels: str) -> StageEnter:
    labels = labels or ("NONE",)
    return StageEnter(
        labels=labels, start=number, start_s=number / 30, reason="au_on", at=number, text="()"
    )


def frame(number: int) -> FrameSample:
    return FrameSample(
        frame=number, time_s=number / 30, width=64, height=36, face=FaceValue(state="lost")
    )


def moved(label: str, at: int) -> PrototypeUpdate:
    return PrototypeUpdate(label=label, at=at, cosine=0.5, size=1, data=b"\xff", top=1)


def prototype(label: str, size: int = 4) -> PrototypeNew:
    au, letter = int(label[2:4]), label[5:]
    return PrototypeNew(
        label=label, au=au, letter=letter, at=1, size=size, data=bytes(size * size), top=1
    )


class Peer:
    """A well-behaved client: answers heartbeats, hands out everything else."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, body: Body) -> None:
        await self.connection.send(encode(body), text=True)

    async def next(self) -> Envelope:
        while True:
            async with asyncio.timeout(PATIENCE_S):
                envelope = decode(await self.connection.recv())
            if envelope.type != "heartbeat":
                return envelope
            await self.send(protocol.CLIENT_MESSAGES["heartbeat"]())

    async def until(self, kind: str) -> Envelope:
        while True:
            envelope = await self.next()
            if envelope.type == kind:
                return envelope

    async def events(self, count: int) -> list[int]:
        """Return the numbers of the next events, skipping samples."""
        numbers: list[int] = []
        while len(numbers) < count:
            envelope = await self.next()
            if envelope.seq is not None:
                numbers.append(envelope.seq)
        return numbers

    async def subscribe(self, **options: Any) -> None:
        await self.send(Subscribe(**options))
        assert (await self.until("ack")).data.to == "subscribe"

    async def closed(self) -> tuple[list[Envelope], int]:
        """Return what is still said, and the close code."""
        said: list[Envelope] = []
        try:
            while True:
                said.append(await self.next())
        except ConnectionClosed as end:
            return said, end.rcvd.code if end.rcvd else 1006


@contextlib.asynccontextmanager
async def client(server: Server, path: str = "/ws", **options: Any) -> AsyncIterator[Peer]:
    address = f"ws://127.0.0.1:{server.port}{path}"
    async with connect(address, **options) as connection:
        yield Peer(connection)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
