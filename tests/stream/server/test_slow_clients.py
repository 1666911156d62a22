"""Slow, silent and leaving clients: bounded memory, heartbeats and the end of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator

import pytest
from facestage.stream import protocol
from facestage.stream.protocol import (
    PrototypeNew,
    Subscribe,
    decode,
    encode,
)
from facestage.stream.server import limits
from facestage.stream.server.server import Server
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support.wire import PATIENCE_S, client, eventually, make_hub, run, serving, stage


async def stalled_client(server: Server, path: str) -> socket.socket:
    """Open a websocket by hand, subscribe, and never read again."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await loop.sock_connect(raw, ("127.0.0.1", server.port))
    await loop.sock_sendall(
        raw,
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode(),
    )
    assert b" 101 " in await loop.sock_recv(raw, 4096)
    body = encode(Subscribe())
    mask = b"\x11\x22\x33\x44"
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))
    assert 126 <= len(body) < 65536
    await loop.sock_sendall(raw, b"\x81\xfe" + len(body).to_bytes(2, "big") + mask + masked)
    return raw


@pytest.mark.parametrize("path", ["/ws", "/ws/frames"])
def test_a_stalled_client_is_cut_off_within_bounds_and_harms_nobody(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEND_TIMEOUT_S", 0.5)

    async def test() -> None:
        hub = make_hub()
        chance = random.Random(1)
        size = protocol.MAX_THUMBNAIL_SIDE
        noise = [
            PrototypeNew(
                label=f"AU12_{i}",
                au=12,
                letter="A",
                at=0,
                size=size,
                data=chance.randbytes(size * size),
                top=1,
                face=chance.randbytes(size * size),
            )
            for i in range(20)
        ]
        picture = chance.randbytes(protocol.MAX_PICTURE_BYTES)
        async with serving(hub) as server, client(server, max_size=None) as peer:
            await peer.subscribe()
            await peer.until("snapshot")
            raw = await stalled_client(server, path)
            try:
                await eventually(
                    lambda: len(server.clients) == 2 and hub.clients + hub.wants_pictures == 2
                )
                received: list[int] = []

                async def listen() -> None:
                    while True:
                        envelope = await peer.next()
                        if envelope.seq is not None:
                            received.append(envelope.seq)
                        if envelope.type == "stage.enter":
                            return

                listener = asyncio.create_task(listen())
                peak = published = 0
                while len(server.clients) > 1:
                    for _ in range(3):  # enough of them on a busy machine, too
                        hub.publish_event(noise[published % 20], stream="cam")
                        published += 1
                    hub.publish_picture(published, picture, stream="cam")
                    peak = max(peak, *(other.buffered_bytes for other in server.clients))
                    await asyncio.sleep(0.002)
                last = hub.publish_event(stage(0), stream="cam")
                await listener
                assert received == list(range(1, last + 1))  # the other one missed nothing
                assert published * len(noise[0].data) > 1_000_000  # more was said than was held
                assert 0 < peak < 1_000_000
            finally:
                raw.close()

    run(test)


def test_a_slow_client_that_loses_events_is_told_and_recovers() -> None:
    async def test() -> None:
        hub = make_hub(ring_events=5)
        async with serving(hub) as server, client(server) as peer:
            await peer.subscribe()
            await peer.until("snapshot")
            await peer.until("snapshot")  # one per stream
            # All in one turn of the loop: the writer wakes when most have left the ring again.
            for number in range(50):
                hub.publish_event(stage(number), stream="cam")
            assert (await peer.next()).type == "resync"
            snapshot = await peer.next()
            assert (snapshot.data.seq, snapshot.data.stage.start) == (50, 49)
            hub.publish_event(stage(50), stream="cam")
            assert await peer.events(1) == [51]

    run(test)


def test_heartbeats_come_and_a_client_that_falls_silent_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(limits, "SILENCE_S", 0.2)

    async def test() -> None:
        async with (
            serving(make_hub()) as server,
            client(server) as listener,
            client(server) as peer,
        ):
            await peer.send(protocol.CLIENT_MESSAGES["heartbeat"]())
            kinds = [decode(text).type async for text in until_closed(peer.connection)]
            assert kinds[0] == "hello"
            assert kinds[-1] == "error"
            assert set(kinds[1:-1]) == {"heartbeat"}
            assert peer.connection.close_code == 4408
            # One that never sent a heartbeat is a plain listener and stays.
            assert decode(await listener.connection.recv()).type == "hello"
            assert decode(await listener.connection.recv()).type == "heartbeat"
            assert listener.connection.close_code is None

    run(test)


async def until_closed(connection: ClientConnection) -> AsyncIterator[str | bytes]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            async with asyncio.timeout(PATIENCE_S):
                message = await connection.recv()
            yield message


def test_the_server_says_bye() -> None:
    async def test() -> None:
        async with contextlib.AsyncExitStack() as peers:
            async with serving(make_hub()) as server:
                peer = await peers.enter_async_context(client(server))
                viewer = await peers.enter_async_context(client(server, "/ws/frames"))
                await peer.subscribe()
                await viewer.subscribe()
            for subscriber in (peer, viewer):
                said, code = await subscriber.closed()
                assert (said[-1].type, code) == ("bye", 1001)

    run(test)


def test_publishing_after_the_server_has_left_is_harmless() -> None:
    hub = make_hub()

    async def test() -> None:
        async with serving(hub):
            hub.publish_event(stage(0), stream="cam")

    run(test)
    hub.publish_event(stage(1), stream="cam")  # its event loop is closed by now
    assert hub.range == (1, 2)
