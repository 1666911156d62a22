"""The past has a budget: whoever asks for much of it waits, and what happens now never does."""

from __future__ import annotations

import asyncio
import time

import pytest
from facestage.stream.protocol import Cursor, Subscribe, decode
from facestage.stream.server import limits
from facestage.stream.server.allowance import TokenBucket
from facestage.stream.server.hub import Hub
from facestage.stream.server.turns import Turns, cost_of

from tests.support.wire import client, eventually, frame, make_hub, prototype, run, serving, stage


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a budget of ten messages at once, and one in a thousand seconds after that."""
    monkeypatch.setattr(limits, "HISTORY_BURST_BYTES", 10.0 * limits.HISTORY_LEAST_BYTES)
    monkeypatch.setattr(limits, "HISTORY_TURN_BYTES", limits.HISTORY_LEAST_BYTES)
    monkeypatch.setattr(limits, "HISTORY_BYTES_PER_S", limits.HISTORY_LEAST_BYTES / 1000)


def filled(events: int) -> Hub:
    hub = make_hub()
    for number in range(events):
        hub.publish_event(stage(number), stream="cam")
    return hub


@pytest.mark.usefixtures("tight")
def test_a_client_waits_for_its_past_and_another_goes_on_live() -> None:
    async def test() -> None:
        hub = filled(100)
        async with serving(hub) as server, client(server) as good, client(server) as greedy:
            await good.subscribe(since=Cursor(epoch=hub.epoch, seq=100))
            await greedy.subscribe(history_s=3600)
            told = [await greedy.until("snapshot"), await greedy.next()]
            told += [await greedy.next() for _ in range(6)]  # asking cost each of both one
            assert [envelope.seq for envelope in told] == [None, None, 1, 2, 3, 4, 5, 6]
            for number in range(101, 131):
                hub.publish_event(stage(number), stream="cam")
                hub.publish_sample(frame(number), stream="cam")
                assert await good.events(1) == [number]
                assert (await good.until("frame")).data.frame == number
            # It is answered all the same, and hears that the server lives; but no sample of now.
            await greedy.send(Subscribe(history_s=3600))
            assert (await greedy.next()).type == "ack"
            for other in server.clients:
                other.beat()
            assert decode(await greedy.connection.recv()).type == "heartbeat"

    run(test)


def test_all_together_are_told_no_more_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HISTORY_BURST_BYTES", 20.0 * limits.HISTORY_TURN_BYTES)
    monkeypatch.setattr(limits, "HISTORY_BYTES_PER_S", 8.0 * limits.HISTORY_TURN_BYTES)
    enough = 1500

    async def test() -> None:
        hub = filled(2000)
        async with serving(hub) as server:
            begin = time.monotonic()
            told = 0

            async def ask() -> None:
                nonlocal told
                async with client(server) as peer:
                    await peer.subscribe(history_s=3600)
                    while told < enough:
                        if (await peer.next()).seq is not None:
                            told += 1
                            if told % 40 == 0:
                                await peer.send(Subscribe(history_s=3600))  # from the start again

            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(ask())
            # Not how fast it went, but that no more was told than the time allows.
            spent = time.monotonic() - begin
            allowed = limits.HISTORY_BURST_BYTES + spent * limits.HISTORY_BYTES_PER_S
            most = (allowed + 5 * limits.HISTORY_TURN_BYTES) / limits.HISTORY_LEAST_BYTES
            assert enough <= told <= most

    run(test)


def test_the_past_comes_whole_and_before_the_news_however_it_is_portioned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HISTORY_TURN_BYTES", 1500)

    async def test() -> None:
        hub = filled(300)
        hub.publish_event(prototype("AU12_A"), stream="cam")
        async with serving(hub) as server, client(server) as peer:
            await peer.subscribe(history_s=3600)
            await peer.until("snapshot")
            await peer.until("snapshot")
            assert (await peer.next()).seq == 301  # the prototype alive
            seen: list[int] = []
            for number in range(302, 322):
                hub.publish_event(stage(number), stream="cam")
                hub.publish_sample(frame(number), stream="cam")
                seen += await peer.events(1)
            while seen[-1] < 321:
                envelope = await peer.next()
                assert envelope.type != "frame" or seen[-1] >= 301  # samples come after the past
                if envelope.seq is not None:
                    seen.append(envelope.seq)
            assert seen == list(range(1, 322))

    run(test)


@pytest.mark.usefixtures("tight")
def test_who_asks_anew_is_told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HISTORY_BYTES_PER_S", 50.0 * limits.HISTORY_LEAST_BYTES)

    async def test() -> None:
        hub = filled(1000)
        async with serving(hub) as server, client(server) as peer:
            await peer.subscribe(history_s=3600)
            assert await peer.events(3) == [1, 2, 3]  # and is in the midst of it
            await peer.subscribe(since=Cursor(epoch=hub.epoch, seq=998))
            seen = await peer.events(1)
            while seen[-1] != 1000:
                seen += await peer.events(1)
            assert seen[-2:] == [999, 1000]
            assert len(seen) < 100  # the rest of what was asked for first is not told

    run(test)


class Reader:
    def __init__(self, name: str, order: list[str]) -> None:
        self.past_bytes = 0
        self.name, self.order = name, order

    def take_turn(self, credit: int) -> None:
        self.past_bytes += credit
        self.order.append(self.name)


def test_whoever_has_had_least_is_next() -> None:
    async def test() -> None:
        turns = Turns(asyncio.get_running_loop())
        order: list[str] = []
        greedy, newcomer, gone = (Reader(name, order) for name in ("greedy", "newcomer", "gone"))
        for _ in range(3):
            turns.ask(greedy)
            await eventually(lambda: greedy not in turns._waiting)
        for reader in (greedy, gone, newcomer):
            turns.ask(reader)
        turns.withdraw(gone)
        await eventually(lambda: not turns._waiting)
        assert order == ["greedy"] * 3 + ["newcomer", "greedy"]

    run(test)


def test_a_bucket_says_how_long_until_it_has_enough() -> None:
    bucket = TokenBucket(rate=2.0, burst=4.0, now=0.0)
    assert bucket.wait(4, 0.0) == 0
    bucket.take(4, 0.0)
    assert bucket.wait(3, 0.5) == pytest.approx(1.0)


def test_a_small_message_is_charged_what_sending_it_costs() -> None:
    assert cost_of(b"{}") == limits.HISTORY_LEAST_BYTES
    assert cost_of(bytes(5000)) == 5000
