"""Floods from a process of their own: who floods is cut, and the others notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

import pytest
from facestage.stream import protocol
from facestage.stream.protocol import Auth, Subscribe
from facestage.stream.server import limits
from facestage.stream.server.server import Server
from websockets.asyncio.messages import Assembler
from websockets.frames import Frame

from tests.support.paths import ROOT
from tests.support.wire import client, eventually, frame, make_hub, run, serving, stage

ATTACK = ROOT / "tests/support/hostile.py"
TOKEN = "s3cret"
MOST_S = 15.0
"""An attack ends by itself after this time, seconds, if the server does not end it."""


async def start_attack(server: Server, **options: object) -> asyncio.subprocess.Process:
    options.setdefault("seconds", MOST_S)
    arguments = [
        f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()
    ]
    attack = await asyncio.create_subprocess_exec(
        sys.executable, str(ATTACK), str(server.port), *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert attack.stdout is not None
    assert await attack.stdout.readline() == b"flooding\n"
    return attack


async def fates(attack: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    output, _ = await attack.communicate()
    return json.loads(output)


def test_ten_floods_without_the_token_leave_a_good_client_its_frames() -> None:
    async def test() -> None:
        hub = make_hub()

        async def publish() -> None:
            number = 0
            while True:
                number += 1
                hub.publish_sample(frame(number), stream="cam")
                await asyncio.sleep(1 / 30)

        async with serving(hub, token=TOKEN) as server, client(server) as peer:
            await peer.send(Auth(token=TOKEN))
            await peer.until("hello")
            await peer.subscribe()

            async def frames_within(seconds: float) -> int:
                count = 0
                try:
                    async with asyncio.timeout(seconds):
                        while True:
                            count += (await peer.next()).type == "frame"
                except TimeoutError:
                    return count

            publisher = asyncio.create_task(publish())
            try:
                undisturbed = await frames_within(2.0)
                attack = await start_attack(server, sockets=10)
                disturbed = await frames_within(2.0)
            finally:
                publisher.cancel()
            assert undisturbed > 10
            assert disturbed >= 0.6 * undisturbed
            ends = await fates(attack)
            assert [(end["gone"], end["code"]) for end in ends] == [(True, 1008)] * 10
            assert max(end["seconds"] for end in ends) < limits.AUTH_TIMEOUT_S
            assert len(server.clients) == 1

    run(test)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("pings", 1008),
        ("pongs", 1008),
        ("fragments", 1008),
        ("messages", 4401),
        ("bytes", 1008),
        ("early pings", None),
        ("headers", None),
    ],
)
def test_no_flood_without_the_token_lasts(kind: str, code: int | None) -> None:
    async def test() -> None:
        async with serving(make_hub(), token=TOKEN) as server:
            (end,) = await fates(await start_attack(server, kind=kind, rate=20_000))
            assert end["gone"]
            assert end["seconds"] < MOST_S
            # Which of the two is over first, the token or the allowance, is a matter of chunks.
            assert end["code"] in {code, 1008 if code == 4401 else code}
            await eventually(lambda: not server.clients)

    run(test)


@pytest.mark.parametrize("kind", ["pings", "fragments", "pongs"])
def test_the_time_for_the_token_is_over_whatever_arrives_and_is_read(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AUTH_TIMEOUT_S", 0.5)
    monkeypatch.setattr(limits, "SEND_TIMEOUT_S", 60.0)  # so that politeness would take a minute

    async def test() -> None:
        async with serving(make_hub(), token=TOKEN) as server:
            # Within the allowance; and it does not leave when told to.
            attack = await start_attack(server, kind=kind, rate=limits.STRANGER.frames_per_s - 1)
            (end,) = await fates(attack)
            assert (end["gone"], end["code"]) == (True, 4401)
            await eventually(lambda: not server.clients)

    run(test)


@pytest.mark.parametrize("rate", [1000, 100_000])
def test_a_message_of_endless_empty_fragments_ends_with_few_of_them_held(
    rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Assembler.put
    held = 0

    def counting_put(self: Assembler, part: Frame) -> None:
        nonlocal held
        held += 1
        put(self, part)

    monkeypatch.setattr(Assembler, "put", counting_put)

    async def test() -> None:
        async with serving(make_hub()) as server:  # without a token: everybody is a client
            (end,) = await fates(await start_attack(server, kind="fragments", rate=rate))
            assert (end["gone"], end["code"]) == (True, 1009)
            assert held <= limits.MAX_FRAGMENTS
            await eventually(lambda: not server.clients)

    run(test)


@pytest.mark.parametrize("kind", ["pings", "pongs", "bytes"])
def test_a_client_that_was_let_in_may_not_flood_either(kind: str) -> None:
    async def test() -> None:
        async with serving(make_hub()) as server, client(server) as peer:
            (end,) = await fates(await start_attack(server, kind=kind, rate=20_000))
            assert end["gone"]
            assert end["code"] in {1008, 1003}  # a binary message is refused for itself
            await eventually(lambda: len(server.clients) == 1)
            await peer.subscribe()  # the other one is as it was

    run(test)


@pytest.mark.parametrize("sockets", [1, 10])
def test_guessing_the_token_is_slow_quiet_and_nobody_elses_problem(
    sockets: int, caplog: pytest.LogCaptureFixture
) -> None:
    answers = 0

    async def guess(server: Server, until: float, **options: Any) -> None:
        nonlocal answers
        while (left := until - asyncio.get_running_loop().time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left), client(server, **options) as peer:
                    await peer.send(Auth(token="wrong"))
                    assert (await peer.closed())[1] == 4401
                    answers += 1

    async def seconds_to_enter(server: Server, **options: Any) -> float:
        clock = asyncio.get_running_loop().time
        async with client(server, **options) as peer:
            begin = clock()
            await peer.send(Auth(token=TOKEN))
            await peer.until("hello")
            return clock() - begin

    async def test() -> None:
        async with serving(make_hub(), token=TOKEN) as server:
            until = asyncio.get_running_loop().time() + 3.0
            attack = [asyncio.create_task(guess(server, until)) for _ in range(sockets)]
            await asyncio.sleep(1.0)
            assert await seconds_to_enter(server, local_addr=("127.0.0.2", 0)) < 0.4
            await asyncio.gather(*attack)
            # At once, after 0.5 s, 1 s and 2 s; without a wait it would be hundreds.
            assert 0 < answers <= 5 * sockets
            assert 0 < await seconds_to_enter(server) < limits.GUESS_DELAY_MAX_S + 1
            assert await seconds_to_enter(server) < 0.4  # what was waited for need not be again
            await eventually(lambda: not server.clients)

    with caplog.at_level("WARNING"):
        run(test)
    assert len([record for record in caplog.records if "token" in record.message]) == 1


def test_floods_that_come_again_and_again_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with serving(make_hub(), token=TOKEN) as server:
            attack = await start_attack(server, sockets=4, seconds=2, rate=20_000, persistent=True)
            assert len(await fates(attack)) > 8
            await eventually(lambda: not server.clients)

    with caplog.at_level("WARNING"):
        run(test)
    assert len([record for record in caplog.records if "cut off" in record.message]) == 1


def test_a_page_without_a_token_is_no_guess(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving(make_hub(), token=TOKEN) as server:
            for _ in range(20):  # it asks its user only after it was refused
                async with client(server) as peer:
                    await peer.send(Subscribe())
                    assert (await peer.closed())[1] == 4401
            async with asyncio.timeout(0.4), client(server) as peer:
                await peer.send(Auth(token=TOKEN))
                await peer.until("hello")

    with caplog.at_level("WARNING"):
        run(test)
    assert len([record for record in caplog.records if "token" in record.message]) == 1


def test_refusals_that_were_not_logged_at_once_are_logged_with_their_number(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "REFUSAL_LOG_S", 0.5)
    monkeypatch.setattr(limits, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(limits, "GUESS_DELAY_S", 0.0)

    async def test() -> None:
        async with serving(make_hub(), token=TOKEN) as server:
            for _ in range(6):
                async with client(server) as peer:
                    await peer.send(Auth(token="wrong"))
                    await peer.closed()
            await eventually(lambda: any("more for want" in r.message for r in caplog.records))

    with caplog.at_level("WARNING"):
        run(test)
    assert "127.0.0.1 refused 5 times more for want of the token" in caplog.text


def test_a_flood_is_told_why_it_is_cut() -> None:
    async def test() -> None:
        async with serving(make_hub(), token=TOKEN) as server, client(server) as peer:
            for _ in range(10 * limits.STRANGER.burst_frames):
                await peer.connection.pong()
            said, code = await peer.closed()
            assert ([envelope.data.code for envelope in said], code) == (["rate_limit"], 1008)
            assert "frames" in said[0].data.message
            assert said[0].epoch == server.hub.epoch

    run(test)


def test_a_client_that_means_well_is_never_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(limits, "PING_INTERVAL_S", 0.1)

    async def test() -> None:
        hub = make_hub()
        for number in range(500):
            hub.publish_event(stage(number), stream="cam")
        async with (
            serving(hub, token=TOKEN) as server,
            client(server) as peer,
            client(server, "/ws/frames") as viewer,
        ):
            for socket in (peer, viewer):
                await socket.send(Auth(token=TOKEN))
                await socket.until("ack")
            for _ in range(8):  # somebody who cannot decide what to look at
                await viewer.subscribe()
                await peer.subscribe(history_s=3600.0, topics=("frame", "heat", "stats"))
                assert await peer.events(500) == list(range(1, 501))
                await peer.send(protocol.CLIENT_MESSAGES["heartbeat"]())
                await peer.connection.ping()
            reader = asyncio.create_task(viewer.closed())
            for _ in range(20):  # two seconds of pings and heartbeats, answered
                hub.publish_sample(frame(1), stream="cam")
                await peer.until("frame")
                await asyncio.sleep(0.1)
            for socket in (peer, viewer):
                assert socket.connection.close_code is None
            assert len(server.clients) == 2
            await viewer.connection.close()
            await reader

    run(test)
