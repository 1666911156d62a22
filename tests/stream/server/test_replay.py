"""Joining and replay: a client gets the state, what it missed and the news, each event once."""

from __future__ import annotations

import random
import threading

import pytest
from facestage.core.errors import ProtocolError
from facestage.stream.protocol import (
    Cursor,
    FaceChanged,
    PrototypeRetire,
    StageExit,
    StageRevise,
    StreamInfo,
    Subscribe,
    decode,
)
from facestage.stream.server import hub as hub_module
from facestage.stream.server.hub import Hub

from tests.support.wire import STREAMS, client, make_hub, moved, prototype, run, serving, stage


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
        hub = make_hub(ticks=lambda: now[0])
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
    hub = make_hub(ring_s=10.0, ticks=lambda: now[0])
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


def test_a_clock_that_is_put_forward_forgets_nothing() -> None:
    now, wall = [0.0], [1_700_000_000.0]
    hub = make_hub(ring_s=10.0, ticks=lambda: now[0], clock=lambda: wall[0])
    for number, step in enumerate((0, 7200, -7200)):
        now[0] += 1
        wall[0] += step
        hub.publish_event(stage(number), stream="cam")
    assert hub.range == (1, 3)
    assert hub.seq_before(1.5) == 1
    stamped = [decode(message).t_emit for seq in range(3) if (message := hub.event_after(seq))]
    assert stamped == [1_700_000_000.0, 1_700_007_200.0, 1_700_000_000.0]


def test_an_event_of_an_unknown_stream_is_a_mistake() -> None:
    hub = make_hub()
    with pytest.raises(ProtocolError, match=r"'webcam'.*cam"):
        hub.publish_event(stage(0), stream="webcam")
    with pytest.raises(ProtocolError, match="share"):
        Hub([StreamInfo(id="a", name="a"), StreamInfo(id="b", name="b")])
