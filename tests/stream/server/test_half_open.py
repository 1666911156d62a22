"""Sockets that are opened and say nothing: bounded, and no log full of tracebacks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator

import pytest
from facestage.stream.server import limits
from facestage.stream.server.server import Server

from tests.support.wire import client, eventually, make_hub, run, serving


@contextlib.contextmanager
def descriptors(most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Silent:
    """Sockets that connect and say nothing, over and over, in a thread.

    Args:
        server: to connect to.
        address: to come from.
        most: sockets held at a time; the oldest is closed for the next one.
    """

    def __init__(self, server: Server, address: str, most: int) -> None:
        self._port = server.port
        self._address = address
        self._most = most
        self.opened = 0

    def attack(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        held: list[socket.socket] = []
        while time.monotonic() < end:
            try:
                held.append(
                    socket.create_connection(
                        ("127.0.0.1", self._port), timeout=1, source_address=(self._address, 0)
                    )
                )
                self.opened += 1
            except OSError:
                time.sleep(0.01)
            if len(held) > self._most:
                held.pop(0).close()
            time.sleep(0.0005)
        for connection in held:
            connection.close()


def waiting(server: Server) -> int:
    return len(server._half_open.lobby)


async def enter(server: Server, **options: object) -> None:
    async with client(server, **options) as peer:  # type: ignore[arg-type]
        assert (await peer.next()).type == "hello"


def test_sockets_that_say_nothing_are_bounded_and_lock_nobody_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with serving(make_hub()) as server:
            silent = Silent(server, "127.0.0.2", 300)
            attack = asyncio.create_task(asyncio.to_thread(silent.attack, 3.0))
            await eventually(lambda: silent.opened > 200)
            entered = 0
            while not attack.done():
                assert waiting(server) <= limits.MAX_HALF_OPEN_PER_ADDRESS + 1
                async with asyncio.timeout(2.0):
                    await enter(server)
                entered += 1
                await asyncio.sleep(0.1)
            await attack
            assert entered > 3
            await eventually(lambda: waiting(server) == 0)

    with descriptors(2048):
        run(test)
    assert len([r for r in caplog.records if "without a request" in r.message]) == 1
    assert not any(record.exc_info for record in caplog.records)


def test_sockets_of_many_addresses_are_bounded_too() -> None:
    async def test() -> None:
        async with serving(make_hub()) as server:
            loop = asyncio.get_running_loop()
            held = []
            for number in range(2 * limits.MAX_HALF_OPEN):
                connection = socket.socket()
                connection.setblocking(False)
                connection.bind((f"127.0.1.{number % 100 + 1}", 0))
                await loop.sock_connect(connection, ("127.0.0.1", server.port))
                held.append(connection)
            await eventually(lambda: waiting(server) >= limits.MAX_HALF_OPEN)
            assert waiting(server) == limits.MAX_HALF_OPEN
            await enter(server)
            for connection in held:
                connection.close()
            await eventually(lambda: waiting(server) == 0)

    run(test)


def test_a_handshake_that_is_over_takes_no_place() -> None:
    async def test() -> None:
        async with serving(make_hub()) as server, contextlib.AsyncExitStack() as stack:
            for _ in range(5):
                peer = await stack.enter_async_context(client(server))
                await peer.until("hello")
            assert waiting(server) == 0

    run(test)


def test_few_descriptors_are_enough_for_a_flood_of_silent_sockets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The attacker is a thread of this process, so what it holds comes on top of the server's."""

    async def test() -> None:
        async with serving(make_hub()) as server:
            silent = Silent(server, "127.0.0.2", 60)
            attack = asyncio.create_task(asyncio.to_thread(silent.attack, 2.0))
            await eventually(lambda: silent.opened > 100)
            while not attack.done():
                async with asyncio.timeout(2.0):
                    await enter(server)
                await asyncio.sleep(0.1)
            await attack

    with descriptors(open_descriptors() + 60 + 150):
        run(test)
    assert not any(record.exc_info for record in caplog.records)
    assert not any("can be accepted" in record.message for record in caplog.records)


def test_without_descriptors_one_line_is_logged_and_the_server_recovers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with serving(make_hub()) as server:
            before = asyncio.get_running_loop().get_exception_handler()
            assert before is not None
            held: list[socket.socket] = []
            with descriptors(open_descriptors() + 20):
                # Nothing is accepted in between: the loop does not run.
                with contextlib.suppress(OSError):
                    while len(held) < 30:
                        held.append(socket.create_connection(("127.0.0.1", server.port)))
                assert 10 < len(held) < 30
                await asyncio.sleep(2.5)
                lines = [r for r in caplog.records if "can be accepted" in r.message]
                assert len(lines) == 1
                assert "ulimit -n" in lines[0].message
                for connection in held:
                    connection.close()
            async with asyncio.timeout(5.0):
                await enter(server)
        assert asyncio.get_running_loop().get_exception_handler() is None

    run(test)
    assert not any(record.exc_info for record in caplog.records)
    assert not any("Traceback" in record.message for record in caplog.records)


def test_other_errors_of_the_loop_are_told_as_ever() -> None:
    async def test() -> None:
        told: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["message"]))
        async with serving(make_hub()):
            loop.call_exception_handler({"message": "something else", "exception": OSError(9)})
            assert told == ["something else"]

    run(test)
