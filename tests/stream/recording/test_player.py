"""Replay: a client sees what one saw live, and can move in it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from facestage.stream import protocol
from facestage.stream.protocol import Cursor, Envelope, Replay, StageEnter
from facestage.stream.recording.player import Player
from facestage.stream.recording.reader import Session, open_session
from facestage.stream.server.server import Server

from tests.support.recording import make_recorder, publish
from tests.support.wire import Peer, client, run, serving

FRAMES = 60
PERIOD_S = 1.0
"""Of the session's clock: a frame a second, so that a minute of it is short."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A minute of two streams, a frame a second."""
    now = [0.0]
    hub, recorder = make_recorder(
        tmp_path_factory.mktemp("sessions"), 2, ticks=lambda: now[0], wall=lambda: 1.7e9 + now[0]
    )
    folder = recorder.start()
    chance = random.Random(4)
    for number in range(FRAMES):
        now[0] = number * PERIOD_S
        publish(hub, number, chance)
    recorder.stop()
    return open_session(folder)


@contextlib.contextmanager
def playing(player: Player) -> Iterator[None]:
    thread = threading.Thread(target=player.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        player.stop()
        thread.join(20)
        assert not thread.is_alive()


@contextlib.asynccontextmanager
async def replay(player: Player) -> AsyncIterator[Peer]:
    """Serve a player that is paused to a client that has subscribed."""
    server = Server(player.hub, hello=player.hello, port=0, command=player.command)
    with playing(player):
        async with server, client(server) as peer:
            hello = await peer.until("hello")
            assert hello.data.replay is not None
            await peer.subscribe()
            yield peer


async def heard(peer: Peer, last: int) -> list[Envelope]:
    """Return what is said up to the event of a number."""
    said = [await peer.next()]
    while said[-1].seq != last:
        said.append(await peer.next())
    return said


async def standing(peer: Peer, position_s: float) -> list[Envelope]:
    """Return what is said until the replay stands still at a time."""
    said = []
    while True:
        said.append(await peer.next())
        state = said[-1].data
        stands = isinstance(state, protocol.ReplayState) and not state.playing
        if stands and abs(state.position_s - position_s) < 1e-3:
            return said


def test_a_client_sees_what_one_saw_live(tmp_path: Path) -> None:
    hub, recorder = make_recorder(tmp_path, 2)

    async def live() -> list[Envelope]:
        async with serving(hub) as server, client(server) as peer:
            await peer.subscribe(topics=())
            # The session begins with a client there, as on a ward.
            await asyncio.to_thread(recorder.start)
            chance = random.Random(4)
            for number in range(FRAMES):
                publish(hub, number, chance)
            await asyncio.to_thread(recorder.stop)
            said: list[Envelope] = []
            while len(said) < hub.range[1]:
                envelope = await peer.next()
                if envelope.seq is not None:
                    said.append(envelope)
            return said

    async def again(last: int) -> list[Envelope]:
        assert recorder.folder is not None
        player = Player(open_session(recorder.folder), speed=None, playing=False)
        async with replay(player) as peer:
            await peer.send(Replay(command="play"))
            return [envelope for envelope in await heard(peer, last) if envelope.seq is not None]

    async def both() -> None:
        before = await live()
        after = await again(hub.range[1])
        assert len(before) > 2 * FRAMES / 5
        assert after == before  # number, epoch, times, stream and content of each

    run(both)


def test_frames_come_with_the_masks_and_times_they_had(session: Session) -> None:
    async def test() -> None:
        player = Player(session, playing=False)
        async with replay(player) as peer:
            await peer.send(Replay(command="step", value=8.0))
            frames: list[Envelope] = []
            masks: list[Envelope] = []
            while len(frames) < 2 or len(masks) < 2:
                envelope = await peer.next()
                if envelope.type in ("frame", "heat") and envelope.data.frame == 3:
                    (frames if envelope.type == "frame" else masks).append(envelope)
            assert {e.stream for e in frames} == {e.stream for e in masks} == {"cam 0", "cam 1"}
            recorded = [r.envelope for r in session.samples() if r.envelope is not None]
            for envelope in frames:
                (same,) = (
                    one
                    for one in recorded
                    if (one.stream, one.data) == (envelope.stream, envelope.data)
                )
                assert (same.t_capture, same.t_emit) == (envelope.t_capture, envelope.t_emit)

    run(test)


def test_seek_tells_the_state_then_and_step_goes_both_ways(session: Session) -> None:
    async def test() -> None:
        player = Player(session, playing=False)
        async with replay(player) as peer:
            await peer.send(Replay(command="seek", value=35.0))
            said = await standing(peer, 35.0)
            resync = [n for n, envelope in enumerate(said) if envelope.type == "resync"]
            after = said[resync[-1] :]
            snapshots = {e.stream: e.data for e in after if e.type == "snapshot"}
            assert snapshots["cam 1"].stage.start == 30
            assert snapshots["cam 1"].stage.labels == ("AU12_A",)
            assert snapshots["cam 1"].prototypes == ("AU12_A",)
            frames = [e.data.frame for e in said if e.type == "frame"]
            assert frames[-1] == 33  # the last with masks: pages draw only what belongs together
            # One frame on: of the two streams it is the first.
            await peer.send(Replay(command="step"))
            said = await standing(peer, 36.0)
            # And three back: those of a second share their time.
            await peer.send(Replay(command="step", value=-3.0))
            await standing(peer, 34.0)

    run(test)


def test_after_a_seek_the_events_go_on_with_the_next_number(session: Session) -> None:
    expected = [record.seq for record in session.events() if record.at > 35.0]

    async def test() -> None:
        player = Player(session, speed=None, playing=False)
        async with replay(player) as peer:
            await peer.send(Replay(command="seek", value=55.0))
            await standing(peer, 55.0)
            await peer.send(Replay(command="seek", value=35.0))
            said = await standing(peer, 35.0)
            await peer.send(Replay(command="play"))
            said += await heard(peer, session.head.before.seq + len(list(session.events())))
            resync = [n for n, envelope in enumerate(said) if envelope.type == "resync"]
            numbers = [e.seq for e in said[resync[-1] :] if e.seq is not None]
            assert [n for n in numbers if n >= expected[0]] == expected

    run(test)


def test_a_page_that_joins_after_a_seek_has_a_past_to_draw(session: Session) -> None:
    async def test() -> None:
        player = Player(session, playing=False)
        async with replay(player) as peer:
            await peer.send(Replay(command="seek", value=45.0))
            await standing(peer, 45.0)
            await peer.subscribe(history_s=20.0)
            starts = []
            while len(starts) < 4:
                envelope = await peer.next()
                if isinstance(envelope.data, StageEnter):
                    starts.append(envelope.data.start)
            assert starts == [30, 30, 40, 40]  # those from 25 s on, of both streams

    run(test)


def test_time_goes_at_the_speed_asked_for_and_stands_still_when_paused(session: Session) -> None:
    now = [100.0]
    player = Player(session, speed=2.0, ticks=lambda: now[0])
    told: list[protocol.ReplayState] = []
    publish_sample = player.hub.publish_sample

    def note(sample: protocol.Sample, **options: object) -> None:
        if isinstance(sample, protocol.ReplayState):
            told.append(sample)
        publish_sample(sample)

    player.hub.publish_sample = note  # type: ignore[method-assign]
    player._go_to(10.0)
    assert player.position() == 10.0
    now[0] += 3
    assert player.position() == 16.0
    assert player.hub.now() == pytest.approx(1.7e9 + 16.0)
    player._play()
    _, last = player.hub.range
    assert last == sum(record.at <= 16.0 for record in session.events())
    player._obey(Replay(command="pause"))
    now[0] += 50
    assert player.position() == 16.0
    player._obey(Replay(command="speed", value=4.0))
    player._obey(Replay(command="play"))
    now[0] += 1
    assert player.position() == 20.0
    player._obey(Replay(command="seek", value=1e9))
    assert player.position() == session.duration_s
    assert [one.playing for one in told] == [True, False, False, True, True]
    assert told[-1].position_s == pytest.approx(session.duration_s, abs=1e-3)
    player._play()
    assert player.ended.is_set()
    player._obey(Replay(command="play"))
    assert player.position() == 0.0


def test_a_client_of_before_goes_on_with_what_it_missed(session: Session) -> None:
    """The numbering is that of then: a client that lost its connection live goes on here."""

    async def test() -> None:
        player = Player(session, speed=None, playing=False)
        server = Server(player.hub, hello=player.hello, port=0, command=player.command)
        with playing(player):
            player.command(Replay(command="play"))
            await asyncio.to_thread(player.ended.wait, 20)
            async with server, client(server) as peer:
                await peer.subscribe(since=Cursor(epoch=session.head.hello.epoch, seq=5))
                assert await peer.events(3) == [6, 7, 8]

    run(test)


def test_a_live_server_refuses_to_be_moved_and_a_replay_to_record(session: Session) -> None:
    async def test() -> None:
        hub, _ = make_recorder(Path("nowhere"))
        async with serving(hub) as server, client(server) as peer:
            await peer.send(Replay(command="pause"))
            said, _ = await peer.closed()
            assert said[-1].data.code == "not_allowed"
            assert "replays nothing" in said[-1].data.message
        player = Player(session, playing=False)
        async with replay(player) as peer:
            await peer.send(protocol.RecordStart())
            said, _ = await peer.closed()
            assert said[-1].data.code == "not_allowed"
        async with replay(Player(session, playing=False)) as peer:
            await peer.send(protocol.MarkerAdd(stream="cam 0", text="late", start_s=1.0))
            said, _ = await peer.closed()
            assert "no 'marker' can be added to what was recorded" in said[-1].data.message

    run(test)
