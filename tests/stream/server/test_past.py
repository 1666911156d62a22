"""The last minutes in memory: what is kept, what goes, and how a client asks for it."""

from __future__ import annotations

import asyncio
import json

import pytest
from facestage.core.errors import ConfigError
from facestage.stream import protocol
from facestage.stream.commands.durations import parse_duration
from facestage.stream.server.hub import PICTURE, Hub
from facestage.stream.server.past import PastRing, portions
from facestage.stream.server.server import Server
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.scripted_page import HELLO

RATE = 30


def sample(frame: int, stage: str = "NONE") -> protocol.FrameSample:
    return protocol.FrameSample(
        frame=frame,
        time_s=frame / RATE,
        width=64,
        height=48,
        face=protocol.FaceValue(state="tracked"),
        stage=(stage,),
    )


def fill(ring: PastRing, seconds: float, *, size: int = 100, change_at: int = -1) -> None:
    for frame in range(round(seconds * RATE)):
        ring.add_picture("cam", frame, bytes([frame % 256]) * size)
        ring.add_heat("cam", protocol.Heat(frame=frame, size=2))
        stage = "AU12_A" if frame >= change_at >= 0 else "NONE"
        ring.add_frame("cam", sample(frame, stage), 1000 + frame / RATE)


def test_all_of_the_last_seconds_are_kept_and_some_of_the_older_ones() -> None:
    ring = PastRing()
    fill(ring, 60.0, change_at=137)
    newest = ring.between("cam", 1050.0, 1060.0, 10_000)
    assert len(newest) == 10 * RATE
    old = ring.between("cam", 1000.0, 1030.0, 10_000)
    assert 30 * 4 <= len(old) <= 30 * 5 + 2
    # The very frame with which a stage began stays, however close to the one before.
    assert 137 in [one.frame.frame for one in old]
    assert [one.picture[:1] for one in old] == [bytes([one.frame.frame % 256]) for one in old]


def test_time_and_bytes_are_bounded() -> None:
    ring = PastRing(seconds=30.0)
    fill(ring, 100.0)
    span = ring.span("cam")
    assert span is not None
    assert 29.0 < span[1] - span[0] <= 30.0
    small = PastRing(most_bytes=1_000_000)
    fill(small, 100.0, size=10_000)
    assert small.bytes <= 1_000_000
    span = small.span("cam")
    assert span is not None
    assert span[1] == pytest.approx(1100 - 1 / RATE)  # the newest are those that stay


def test_a_stream_that_takes_too_much_room_loses_its_oldest_first() -> None:
    ring = PastRing(most_bytes=1_000_000)
    ring.add_heat("quiet", protocol.Heat(frame=0, size=2))
    ring.add_frame("quiet", sample(0), 1099.0)
    fill(ring, 100.0, size=10_000)
    assert ring.span("quiet") == (1099.0, 1099.0)


def test_frames_are_spread_over_the_time_that_is_asked_for() -> None:
    ring = PastRing()
    fill(ring, 10.0)
    some = ring.between("cam", 1000.0, 1010.0, 11)
    assert len(some) == 11
    assert some[0].frame.frame == 0
    assert some[-1].frame.frame == 299
    assert ring.between("cam", 2000.0, 3000.0, 5) == []
    assert ring.between("nobody", 0.0, 3000.0, 5) == []


def test_a_frame_without_its_heat_is_not_kept_and_one_without_a_picture_is() -> None:
    ring = PastRing()
    ring.add_frame("cam", sample(1), 1000.0)
    ring.add_heat("cam", protocol.Heat(frame=1, size=2))
    ring.add_frame("cam", sample(2), 1000.1)
    assert ring.span("cam") is None
    ring.add_heat("cam", protocol.Heat(frame=3, size=2))
    ring.add_picture("cam", 2, b"of another frame")
    ring.add_frame("cam", sample(3), 1000.2)
    assert [one.picture for one in ring.between("cam", 0, 2000, 5)] == [b""]


def test_without_watchers_a_picture_is_made_twice_a_second() -> None:
    now = [1000.0]
    hub = Hub([protocol.StreamInfo(id="cam", name="Cam")], past=PastRing(), clock=lambda: now[0])
    made = 0
    for frame in range(300):
        now[0] = 1000 + frame / RATE
        if hub.wants(PICTURE, "cam"):
            made += 1
            hub.publish_picture(frame, b"jpeg", stream="cam")
        if hub.wants("heat", "cam"):
            hub.publish_sample(protocol.Heat(frame=frame, size=2), stream="cam", t_capture=now[0])
        hub.publish_sample(sample(frame), stream="cam", t_capture=now[0])
    assert 18 <= made <= 21
    assert not Hub([protocol.StreamInfo(id="cam", name="Cam")]).wants(PICTURE, "cam")


def test_portions_hold_about_so_many_bytes_and_never_nothing() -> None:
    ring = PastRing()
    fill(ring, 1.0, size=1000)
    frames = ring.between("cam", 0, 2000, 60)
    parts = portions(frames, 5000)
    assert [frame for part in parts for frame in part] == frames
    assert max(len(part) for part in parts) == 5
    assert portions([], 5000) == [()]
    assert [len(part) for part in portions(frames[:3], 1)] == [1, 1, 1]


def ask(stream: str = "cam", **wish: float) -> str:
    return json.dumps({"v": 1, "type": "past", "data": {"stream": stream, **wish}})


def make_hub() -> Hub:
    ring = PastRing()
    fill(ring, 10.0, size=60_000)
    return Hub([protocol.StreamInfo(id="cam", name="Cam")], past=ring)


def test_a_client_is_told_the_past_in_portions_and_how_far_it_reaches() -> None:
    async def session() -> None:
        async with Server(make_hub(), hello=HELLO, port=0) as server:
            url = f"ws://127.0.0.1:{server.port}/ws/frames"
            async with asyncio.timeout(30), connect(url, max_size=None) as client:
                await client.send(json.dumps({"v": 1, "type": "subscribe", "data": {}}))
                await client.send(ask(from_s=1002.0, to_s=1003.0, most=30))
                frames: list[protocol.PastFrame] = []
                messages = 0
                while True:
                    envelope = protocol.decode(await client.recv())
                    if not isinstance(envelope.data, protocol.PastFrames):
                        continue
                    answer = envelope.data
                    messages += 1
                    frames += answer.frames
                    assert envelope.stream == "cam"
                    assert (answer.first_s, answer.last_s) == (1000.0, 1000 + 299 / RATE)
                    if answer.done:
                        break
                assert [one.frame.frame for one in frames] == list(range(60, 90))
                assert len(frames[0].picture) == 60_000
                assert messages > 4
                # Beyond what is kept: nothing comes, and it is said what there is.
                await client.send(ask(from_s=1.0, to_s=2.0))
                answer = protocol.decode(await client.recv()).data
                assert isinstance(answer, protocol.PastFrames)
                assert answer.frames == ()
                assert answer.done
                assert answer.first_s == 1000.0

    asyncio.run(session())


@pytest.mark.parametrize(
    "message",
    [
        ask("other", from_s=0.0, to_s=1.0),
        ask(from_s=0.0, to_s=1.0, most=61),
        ask(from_s=0.0, to_s=1.0, most=0),
        ask(to_s=1.0),
    ],
)
def test_a_wrong_wish_is_refused_with_a_reason(message: str) -> None:
    async def session() -> str:
        async with Server(make_hub(), hello=HELLO, port=0) as server:
            url = f"ws://127.0.0.1:{server.port}/ws/frames"
            async with asyncio.timeout(30), connect(url) as client:
                await client.send(message)
                told = ""
                try:
                    while True:
                        data = protocol.decode(await client.recv()).data
                        if isinstance(data, protocol.Error):
                            told = f"{data.code}: {data.message}"
                except ConnectionClosed:
                    return told

    assert asyncio.run(session()).startswith("bad_message: ")


def test_a_server_without_a_past_says_so() -> None:
    hub = Hub([protocol.StreamInfo(id="cam", name="Cam")])
    assert Server(hub, hello=HELLO, port=0).hello().history_s == 0
    assert Server(make_hub(), hello=HELLO, port=0).hello().history_s == 600
    wish = protocol.PastWish(stream="cam", from_s=0, to_s=1)
    assert hub.frames_of_the_past(wish) == ([], None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("0", 0), (" 1.5 m ", 90)]
)
def test_durations_as_they_are_typed(text: str, seconds: float) -> None:
    assert parse_duration("--history", text, most_s=3600) == seconds


@pytest.mark.parametrize("text", ["", "ten", "-1m", "10 days", "1:30", "2h", "١٠m"])
def test_a_duration_that_is_none_names_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match="--history"):
        parse_duration("--history", text, most_s=3600)
