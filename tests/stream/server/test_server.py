"""Server: replay, back-pressure, and what it refuses; real sockets on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from facestage.core.errors import ConfigError, ProtocolError
from facestage.stream import protocol
from facestage.stream.protocol import (
    Auth,
    Body,
    Cursor,
    Envelope,
    FaceChanged,
    FaceValue,
    FrameSample,
    Hello,
    PrototypeNew,
    PrototypeRetire,
    PrototypeUpdate,
    StageEnter,
    StageExit,
    StageRevise,
    StreamInfo,
    Subscribe,
    decode,
    encode,
    unpack_picture,
)
from facestage.stream.server import connection as client_module
from facestage.stream.server import hub as hub_module
from facestage.stream.server import server as server_module
from facestage.stream.server.hub import Hub
from facestage.stream.server.server import MAX_STRANGERS, Server
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

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


# --- Joining, replay --------------------------------------------------------------------------


def test_hello_says_who_and_which_events_can_be_replayed() -> None:
    async def test() -> None:
        hub = make_hub()
        for number in range(3):
            hub.publish_event(stage(number), stream="cam")
        async with serving(hub) as server, client(server) as peer:
            hello = await peer.next()
            assert hello.type == "hello"
            assert (hello.data.first, hello.data.last, hello.data.epoch) == (1, 3, hub.epoch)
            assert hello.data.streams == STREAMS
            assert hello.data.notice == "Research software. Not a medical device."
            assert hello.data.lrp_engine == "reference"
            assert hello.data.lrp_engine_reason == "there is no fused rule for silu"

    run(test)


def test_a_new_client_gets_the_state_and_then_the_news() -> None:
    async def test() -> None:
        hub = make_hub()
        hub.publish_event(FaceChanged(state="tracked", at=0), stream="cam")
        hub.publish_event(stage(0, "NONE"), stream="cam")
        hub.publish_event(prototype("AU12_A"), stream="cam")
        hub.publish_event(prototype("AU12_B"), stream="cam")
        hub.publish_event(stage(5, "AU12_B"), stream="cam")
        hub.publish_event(
            StageRevise(
                labels=("AU12_A",), start=5, start_s=0.1, reason="r", at=9, text="(AU12_A)"
            ),
            stream="cam",
        )
        for label, at in (("AU12_A", 7), ("AU12_B", 8), ("AU12_A", 9)):
            hub.publish_event(moved(label, at), stream="cam")
        hub.publish_event(PrototypeRetire(label="AU12_B", into="AU12_A", at=9), stream="cam")
        async with serving(hub) as server, client(server) as peer:
            await peer.subscribe()
            cam = await peer.until("snapshot")
            assert cam.stream == "cam"
            assert cam.data.seq == 10
            assert cam.data.stage.labels == ("AU12_A",)
            assert cam.data.stage.start == 5
            assert cam.data.face.state == "tracked"
            assert cam.data.prototypes == ("AU12_A",)
            other = await peer.next()
            assert (other.type, other.stream, other.data.stage) == ("snapshot", "file", None)
            alive = await peer.next()
            assert (alive.type, alive.seq, alive.data.label) == ("prototype.new", 3, "AU12_A")
            # Only the latest of what is still alive.
            now = await peer.next()
            assert (now.type, now.seq, now.data.at) == ("prototype.update", 9, 9)
            hub.publish_event(stage(20, "NONE"), stream="cam")
            news = await peer.next()
            assert (news.seq, news.data.start) == (11, 20)

    run(test)


def test_a_stage_that_ended_is_not_the_state() -> None:
    hub = make_hub()
    hub.publish_event(stage(0, "NONE"), stream="cam")
    hub.publish_event(
        StageExit(labels=("NONE",), start=0, end=9, start_s=0, end_s=0.3, reason="end", at=9),
        stream="cam",
    )
    assert hub.past().snapshots["cam"].stage is None


def test_a_returning_client_gets_exactly_the_events_it_missed() -> None:
    async def test() -> None:
        hub = make_hub()
        async with serving(hub) as server:
            async with client(server) as peer:
                await peer.subscribe()
                for number in range(5):
                    hub.publish_event(stage(number), stream="cam")
                assert await peer.events(5) == [1, 2, 3, 4, 5]
            for number in range(5, 45):
                hub.publish_event(stage(number), stream="cam")
            async with client(server) as peer:
                epoch = (await peer.next()).data.epoch
                await peer.send(Subscribe(since=Cursor(epoch=epoch, seq=5)))
                assert (await peer.next()).type == "ack"
                for seq in range(6, 46):  # nothing before, between or twice, and no snapshot
                    envelope = await peer.next()
                    assert (envelope.seq, envelope.data.start) == (seq, seq - 1)
                hub.publish_event(stage(45), stream="cam")
                assert (await peer.next()).seq == 46

    run(test)


def test_replay_and_news_meet_without_loss_while_events_arrive() -> None:
    # The join of "missed" and "new" is where events get lost or doubled: publish from another
    # thread throughout, and reconnect again and again.
    async def test() -> None:
        hub = make_hub()
        total, seen = 3000, 0
        publisher = threading.Thread(
            target=lambda: [hub.publish_event(stage(i), stream="cam") for i in range(total)]
        )
        chance = random.Random(4)
        async with serving(hub) as server:
            publisher.start()
            while seen < total:
                async with client(server) as peer:
                    await peer.subscribe(since=Cursor(epoch=hub.epoch, seq=seen))
                    for _ in range(min(chance.randrange(1, 900), total - seen)):
                        seen += 1
                        assert (await peer.next()).seq == seen
                    peer.connection.transport.abort()
            publisher.join()

    run(test)


@pytest.mark.parametrize("case", ["too old", "future", "other run"])
def test_a_place_that_cannot_be_served_means_resync(case: str) -> None:
    async def test() -> None:
        hub = make_hub(ring_events=10)
        for number in range(30):
            hub.publish_event(stage(number), stream="cam")
        since = {
            "too old": Cursor(epoch=hub.epoch, seq=19),
            "future": Cursor(epoch=hub.epoch, seq=31),
            "other run": Cursor(epoch=hub.epoch - 1, seq=25),
        }[case]
        async with serving(hub) as server, client(server) as peer:
            await peer.subscribe(since=since)
            assert (await peer.next()).type == "resync"
            snapshot = await peer.next()
            assert (snapshot.type, snapshot.data.seq) == ("snapshot", 30)
            assert snapshot.data.stage.start == 29
            hub.publish_event(stage(30), stream="cam")
            assert await peer.events(1) == [31]

    run(test)


def test_the_oldest_place_in_the_ring_is_served() -> None:
    async def test() -> None:
        hub = make_hub(ring_events=10)
        for number in range(30):
            hub.publish_event(stage(number), stream="cam")
        async with serving(hub) as server, client(server) as peer:
            await peer.subscribe(since=Cursor(epoch=hub.epoch, seq=20))
            assert await peer.events(10) == list(range(21, 31))

    run(test)


def test_history_tells_the_last_seconds_again() -> None:
    async def test() -> None:
        now = [1000.0]
        hub = make_hub(clock=lambda: now[0])
        for number in range(10):
            now[0] = 1000.0 + number
            hub.publish_event(stage(number), stream="cam")
        async with serving(hub) as server, client(server) as peer:
            await peer.subscribe(history_s=3.5)  # events at 1006, 1007, 1008, 1009
            assert (await peer.until("snapshot")).data.seq == 10
            assert await peer.events(4) == [7, 8, 9, 10]

    run(test)


def test_the_ring_forgets_by_age_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    hub = make_hub(ring_s=10.0, clock=lambda: now[0])
    hub.publish_event(stage(0), stream="cam")
    now[0] = 10.5
    hub.publish_event(stage(1), stream="cam")
    assert hub.range == (2, 2)
    monkeypatch.setattr(hub_module, "RING_BYTES", 5000)
    for _ in range(20):
        hub.publish_event(prototype("AU12_A", size=32), stream="cam")
    first, last = hub.range
    assert last == 22
    assert 1 <= last - first + 1 <= 3  # three of about 1.5 kB fit


def test_an_event_of_an_unknown_stream_is_a_mistake() -> None:
    hub = make_hub()
    with pytest.raises(ProtocolError, match=r"'webcam'.*cam"):
        hub.publish_event(stage(0), stream="webcam")
    with pytest.raises(ProtocolError, match="share"):
        Hub([StreamInfo(id="a", name="a"), StreamInfo(id="b", name="b")])


# --- Samples and pictures ---------------------------------------------------------------------


def test_samples_are_latest_wins_and_filtered() -> None:
    async def test() -> None:
        hub = make_hub()
        async with serving(hub) as server, client(server) as peer:
            for number in range(50):
                hub.publish_sample(frame(number), stream="cam")
                hub.publish_sample(frame(100 + number), stream="file")
                hub.publish_sample(protocol.Stats(fps_in=number, fps_analysed=0))
            await peer.subscribe(topics=("frame",), streams=("file",))
            assert hub.wants("frame", "file")
            assert not hub.wants("frame", "cam")
            assert not hub.wants("heat")
            sample = await peer.until("frame")
            assert (sample.stream, sample.seq, sample.data.frame) == ("file", None, 149)
            hub.publish_sample(frame(51), stream="cam")
            hub.publish_sample(frame(150), stream="file")
            sample = await peer.next()
            assert (sample.stream, sample.data.frame) == ("file", 150)

    run(test)


def test_pictures_go_only_to_who_asks_and_nobody_means_none_wanted() -> None:
    async def test() -> None:
        hub = make_hub()
        async with serving(hub) as server:
            async with client(server) as peer:
                await peer.subscribe()
                assert hub.clients == 1
                assert not hub.wants_pictures
            async with client(server, "/ws/frames") as viewer:
                await viewer.subscribe(streams=("file",))
                assert hub.wants_pictures
                assert not hub.wants(hub_module.PICTURE, "cam")
                hub.publish_picture(4, b"other", stream="cam")
                hub.publish_picture(5, b"jpeg", stream="file")
                message = await viewer.connection.recv()
                assert isinstance(message, bytes)
                picture = unpack_picture(message)
                assert (picture.stream, picture.frame, picture.jpeg) == (7, 5, b"jpeg")
            await eventually(lambda: not hub.wants_pictures and hub.clients == 0)

    run(test)


def test_json_is_deflated_and_pictures_are_not() -> None:
    async def test() -> None:
        async with serving(make_hub()) as server:
            for path, deflated in (("/ws", True), ("/ws/frames", False)):
                async with client(server, path) as peer:
                    assert peer.connection.response is not None
                    extensions = peer.connection.response.headers.get("Sec-WebSocket-Extensions")
                    assert (extensions is not None) is deflated

    run(test)


def test_too_large_a_picture_is_refused_at_the_source() -> None:
    with pytest.raises(ProtocolError, match="too large"):
        make_hub().publish_picture(1, bytes(protocol.MAX_PICTURE_BYTES + 1), stream="cam")


# --- Back-pressure ----------------------------------------------------------------------------


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
    monkeypatch.setattr(client_module, "SEND_TIMEOUT_S", 0.5)

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
                    hub.publish_event(noise[published % 20], stream="cam")
                    hub.publish_picture(published, picture, stream="cam")
                    published += 1
                    peak = max(peak, *(held.buffered_bytes for held in server.clients))
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


# --- Liveness ---------------------------------------------------------------------------------


def test_heartbeats_come_and_a_client_that_falls_silent_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(client_module, "SILENCE_S", 0.2)

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
            for one in (peer, viewer):
                said, code = await one.closed()
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


# --- What is refused --------------------------------------------------------------------------


async def verdict(server: Server, message: str | bytes, path: str = "/ws") -> tuple[str, int]:
    async with client(server, path) as peer:
        await peer.connection.send(message)
        said, code = await peer.closed()
        errors = [envelope.data.code for envelope in said if envelope.type == "error"]
        return errors[0] if errors else "", code


@pytest.mark.parametrize("path", ["/ws", "/ws/frames"])
@pytest.mark.parametrize(
    ("message", "error", "code"),
    [
        ("garbage", "bad_message", 1007),
        ('{"v":1,"type":"subscribe","data":{"topics":"all"}}', "bad_message", 1007),
        ('{"v":1,"type":"subscribe","data":{"streams":["webcam"]}}', "bad_message", 1007),
        ("[" * 50_000, "bad_message", 1007),
        ('{"v":1,"type":"launch","data":{}}', "unknown_type", 1008),
        (b"\x00\xff\x00", "bad_message", 1003),
        ("x" * (64 * 1024 + 1), "", 1009),
    ],
    ids=["text", "field", "stream", "nested", "type", "binary", "oversized"],
)
def test_bad_messages_end_the_connection_with_their_code(
    message: str | bytes, error: str, code: int, path: str
) -> None:
    async def test() -> None:
        async with serving(make_hub()) as server:
            assert await verdict(server, message, path) == (error, code)
            async with client(server) as peer:  # the server is unimpressed
                assert (await peer.next()).type == "hello"

    run(test)


def test_a_flood_of_messages_is_stopped() -> None:
    async def test() -> None:
        async with serving(make_hub()) as server, client(server) as peer:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(500):
                    await peer.send(protocol.CLIENT_MESSAGES["heartbeat"]())
            said, code = await peer.closed()
            assert (said[-1].data.code, code) == ("rate_limit", 1008)

    run(test)


def test_one_client_too_many_is_told_to_come_back() -> None:
    async def test() -> None:
        async with serving(make_hub(), max_connections=1) as server:
            async with client(server) as first:
                await first.until("hello")
                async with client(server) as second:
                    said, code = await second.closed()
                    assert ([one.data.code for one in said], code) == (["too_many_clients"], 1013)
            await eventually(lambda: not server.clients)
            async with client(server) as third:
                assert (await third.next()).type == "hello"

    run(test)


def test_sockets_without_the_token_lock_nobody_out() -> None:
    async def test() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(
                serving(make_hub(), token="secret", max_connections=2)
            )
            strangers = [
                await stack.enter_async_context(client(server)) for _ in range(MAX_STRANGERS + 3)
            ]
            await eventually(lambda: len(server.clients) <= MAX_STRANGERS)
            friend = await stack.enter_async_context(client(server))
            await friend.send(Auth(token="secret"))
            await friend.until("hello")
            # The oldest were cut off, without a word.
            assert (await strangers[0].closed())[0] == []

    run(test)


@pytest.mark.parametrize("path", ["/ws", "/ws/frames"])
@pytest.mark.parametrize("first", [Auth(token="wrong"), Auth(token=""), Subscribe()])
def test_without_the_token_nothing_is_told(first: Body, path: str) -> None:
    async def test() -> None:
        async with serving(make_hub(), token="s3cret-ä") as server, client(server, path) as peer:
            await peer.send(first)
            said, code = await peer.closed()
            assert ([one.type for one in said], code) == (["error"], 4401)
            assert said[0].data.code == "unauthorised"
            assert "s3cret" not in said[0].data.message

    run(test)


def test_no_token_in_time_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "AUTH_TIMEOUT_S", 0.05)

    async def test() -> None:
        async with serving(make_hub(), token="s3cret") as server, client(server) as peer:
            assert (await peer.closed())[1] == 4401

    run(test)


def test_the_token_opens_both_sockets() -> None:
    async def test() -> None:
        hub = make_hub()
        async with serving(hub, token="s3cret-ä") as server:
            assert server.url.endswith("/#token=s3cret-%C3%A4")
            async with client(server) as peer, client(server, "/ws/frames") as viewer:
                await peer.send(Auth(token="s3cret-ä"))
                assert [(await peer.next()).type for _ in range(2)] == ["ack", "hello"]
                await viewer.send(Auth(token="s3cret-ä"))
                assert (await viewer.next()).data.to == "auth"
                await viewer.subscribe()
                hub.publish_picture(1, b"jpeg", stream="cam")
                assert unpack_picture(bytes(await viewer.connection.recv())).frame == 1  # type: ignore[arg-type]

    run(test)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://127.0.0.1:{port}", True),
        ("http://localhost:{port}", True),
        ("http://[::1]:{port}", True),
        ("https://lab.example", True),
        ("http://127.0.0.1", False),
        ("https://127.0.0.1:{port}", False),
        ("http://evil.example", False),
        ("http://evil.example:{port}", False),
        ("http://127.0.0.1.evil.example:{port}", False),
        ("https://lab.example.evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_only_known_pages_may_connect(origin: str | None, allowed: bool) -> None:
    async def test() -> None:
        async with serving(make_hub(), allowed_origins=["https://lab.example/"]) as server:
            headers = {} if origin is None else {"Origin": origin.format(port=server.port)}
            for path in ("/ws", "/ws/frames"):
                if allowed:
                    async with client(server, path, additional_headers=headers):
                        continue
                with pytest.raises(InvalidStatus) as refused:
                    async with client(server, path, additional_headers=headers):
                        pass
                assert refused.value.response.status_code == 403

    run(test)


def test_a_page_of_the_servers_own_name_may_connect_where_a_token_guards() -> None:
    async def test() -> None:
        async with serving(make_hub(), token="s3cret") as server:
            own = {
                "Origin": f"http://booth.local:{server.port}",
                "Host": f"booth.local:{server.port}",
            }
            status = await asyncio.to_thread(upgrade_status, server.port, own)
            assert status == 101
            status = await asyncio.to_thread(
                upgrade_status, server.port, {**own, "Origin": "http://evil.example"}
            )
            assert status == 403

    run(test)


def upgrade_status(port: int, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    connection.request("GET", "/ws", headers={**upgrade, **headers})
    status = connection.getresponse().status
    connection.close()
    return status


# --- Files ------------------------------------------------------------------------------------


def get(port: int, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.putrequest("GET", path, skip_accept_encoding=True)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers, body


def fetch(path: str, **options: Any) -> tuple[int, http.client.HTTPMessage, bytes]:
    results: list[tuple[int, http.client.HTTPMessage, bytes]] = []

    async def test() -> None:
        async with serving(make_hub(), **options) as server:
            results.append(await asyncio.to_thread(get, server.port, path))

    run(test)
    return results[0]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/overlay", "text/html"),
        ("/?theme=x", "text/html"),
        ("/overlay.css", "text/css"),
        ("/app.js", "text/javascript"),
        ("/favicon.svg", "image/svg+xml"),
        ("/schema.json", "application/json"),
        ("/healthz", "application/json"),
    ],
)
def test_files_of_the_list_are_served_with_safe_headers(path: str, kind: str) -> None:
    status, headers, body = fetch(path)
    assert status == 200
    assert headers.get_content_type() == kind
    assert int(headers["Content-Length"]) == len(body) > 0
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/server.py",
        "/index.html.bak",
        "/../server.py",
        "/..%2fserver.py",
        "/%2e%2e/%2e%2e/pyproject.toml",
        "//etc/passwd",
        "/app.js/",
        "/./app.js",
        "/APP.JS",
        "/app.js%00.html",
        "/ws/../app.js",
        "/ws/frames/",
        "/protocol.d.ts",
        "/tsconfig.json",
    ],
)
def test_anything_else_is_not_found(path: str) -> None:
    status, headers, body = fetch(path)
    assert status == 404
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert b"import" not in body


def test_every_file_of_the_page_is_on_the_list_and_has_no_inline_script() -> None:
    folder = server_module._OVERLAY
    present = {path.name for path in folder.iterdir() if path.suffix in server_module._MIME}
    assert present == {*server_module._FILES, "index.html", "tsconfig.json"}
    page = (folder / "index.html").read_text()
    assert "<script>" not in page
    assert "style=" not in page
    assert " onclick" not in page


def test_schema_and_health_say_what_they_should() -> None:
    assert json.loads(fetch("/schema.json")[2]) == json.loads(json.dumps(protocol.json_schema()))
    assert json.loads(fetch("/healthz")[2]) == {"status": "ok", "clients": 0, "first": 1, "last": 0}


# --- Options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.org"])
def test_a_reachable_host_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="--token"):
        serving(make_hub(), host=host)
    serving(make_hub(), host=host, token="s3cret")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_none(host: str) -> None:
    serving(make_hub(), host=host)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"token": ""}, "--token"),
        ({"token": "  "}, "--token"),
        ({"port": 70000}, "--port"),
        ({"port": -1}, "--port"),
        ({"allowed_origins": ["example.org"]}, "not an origin"),
        ({"allowed_origins": ["https://example.org/page"]}, "not an origin"),
    ],
)
def test_options_that_cannot_work_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        serving(make_hub(), **options)


def test_a_port_in_use_is_a_configuration_error() -> None:
    async def test() -> None:
        async with serving(make_hub()) as first:
            with pytest.raises(ConfigError, match=f"port {first.port} .*--port") as error:
                async with serving(make_hub(), port=first.port):
                    pass
            assert error.value.exit_code == 2
            async with client(first) as peer:
                assert (await peer.next()).type == "hello"

    run(test)


def test_an_address_of_another_machine_is_a_configuration_error() -> None:
    async def test() -> None:
        with pytest.raises(ConfigError, match="--host"):
            async with serving(make_hub(), host="192.0.2.1", token="s3cret"):
                pass

    run(test)


def test_a_hub_can_be_served_again() -> None:
    async def test() -> None:
        hub = make_hub()
        async with serving(hub):
            hub.publish_event(stage(0), stream="cam")
        hub.publish_event(stage(1), stream="cam")
        async with serving(hub) as server, client(server) as peer:
            await peer.subscribe(since=Cursor(epoch=hub.epoch, seq=1))
            assert await peer.events(1) == [2]

    run(test)
