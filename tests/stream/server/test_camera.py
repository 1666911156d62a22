"""``/ws/camera``: a page that gives pictures, and those who mean it ill; others never notice."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import cv2
import numpy as np
import pytest
from facestage.stream.protocol import CameraOpen, CameraPause, Subscribe
from facestage.stream.server import limits
from facestage.stream.server.server import Server
from facestage.stream.sources import BrowserCamera, Inbox
from websockets.exceptions import InvalidStatus

from tests.support.wire import Peer, client, make_hub, run, serving, stage


def picture(jpeg: bytes, milliseconds: int = 0) -> bytes:
    return struct.pack("<HBBHHII", 0x5346, 1, 1, 0, 0, 0, milliseconds) + jpeg


JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()


@contextlib.asynccontextmanager
async def camera_server(*names: str, **options: Any) -> AsyncIterator[tuple[Server, list[Inbox]]]:
    server = serving(make_hub(), **options)
    inboxes = [Inbox(name) for name in names or ("browser",)]
    server.cameras = inboxes
    async with server:
        yield server, inboxes


async def opened(peer: Peer, source: str | None = None) -> str:
    await peer.send(CameraOpen(source=source))
    return (await peer.until("camera.ready")).data.source


async def refusal(peer: Peer) -> tuple[str, int]:
    said, code = await peer.closed()
    return next((one.data.code for one in said if one.type == "error"), ""), code


def test_pictures_are_answered_when_they_were_taken() -> None:
    async def test() -> None:
        async with camera_server() as (server, (inbox,)), client(server, "/ws/camera") as peer:
            await peer.until("hello")
            assert await opened(peer) == "browser"
            with BrowserCamera(inbox) as source:
                for number in range(3):
                    await peer.connection.send(picture(JPEG, 1000 + 40 * number))
                    grab = await asyncio.to_thread(source.read)
                    assert grab is not None
                    assert grab.pts == pytest.approx(0.04 * number)
                    assert (await peer.until("camera.ack")).data.result == "taken"
                await peer.connection.send(picture(JPEG[:-30], 1200))
                reading = asyncio.create_task(asyncio.to_thread(source.read))
                assert (await peer.until("camera.ack")).data.result == "broken"
                await peer.connection.send(picture(JPEG, 1240))
                assert (await reading) is not None

    run(test)


def test_pictures_larger_than_any_other_message_are_taken() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    large = cv2.imencode(".jpg", noise, (cv2.IMWRITE_JPEG_QUALITY, 95))[1].tobytes()
    assert limits.MAX_MESSAGE_BYTES < len(large) < limits.MAX_CAMERA_BYTES

    async def test() -> None:
        async with camera_server() as (server, (inbox,)), client(server, "/ws/camera") as peer:
            await opened(peer)
            with BrowserCamera(inbox) as source:
                for number in range(4):
                    await peer.connection.send(picture(large, number))
                    grab = await asyncio.to_thread(source.read)
                    assert grab is not None
                    assert grab.image.shape == (720, 1280, 3)
                    assert (await peer.until("camera.ack")).data.result == "taken"

    run(test)


async def too_early(peer: Peer) -> None:
    await peer.connection.send(picture(JPEG))


async def no_header(peer: Peer) -> None:
    await opened(peer)
    await peer.connection.send(JPEG)


async def a_flood(peer: Peer) -> None:
    await opened(peer)
    for _ in range(50):
        await peer.connection.send(picture(JPEG))


async def a_second_opening(peer: Peer) -> None:
    await opened(peer)
    await peer.send(CameraOpen())


async def no_such_source(peer: Peer) -> None:
    await peer.send(CameraOpen(source="browser right"))


async def a_subscription(peer: Peer) -> None:
    await peer.send(Subscribe())


async def a_huge_message(peer: Peer) -> None:
    await opened(peer)
    await peer.connection.send(bytes(limits.MAX_CAMERA_BYTES + 1))


async def no_reason(peer: Peer) -> None:
    await opened(peer)
    await peer.connection.send('{"v":1,"type":"camera.pause","data":{"reason":"bored"}}')


@pytest.mark.parametrize(
    ("does", "ends"),
    [
        (too_early, ("bad_message", 1007)),
        (no_header, ("bad_message", 1007)),
        (a_flood, ("rate_limit", 1008)),
        (a_second_opening, ("bad_message", 1007)),
        (no_such_source, ("bad_message", 1007)),
        (a_subscription, ("unknown_type", 1008)),
        (a_huge_message, ("", 1009)),
        (no_reason, ("bad_message", 1007)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_no_page_does_ends_its_connection_and_no_other(
    does: Callable[[Peer], Coroutine[Any, Any, None]], ends: tuple[str, int]
) -> None:
    async def test() -> None:
        async with camera_server() as (server, (inbox,)), client(server) as watcher:
            await watcher.subscribe()
            async with client(server, "/ws/camera") as peer:
                with contextlib.suppress(Exception):
                    await does(peer)
                assert await refusal(peer) == ends
            server.hub.publish_event(stage(1), stream="cam")
            assert await watcher.events(1) == [1]
            async with client(server, "/ws/camera") as next_page:  # the place is free again
                assert await opened(next_page) == inbox.name

    run(test)


def test_the_second_page_is_told_and_the_first_notices_nothing() -> None:
    async def test() -> None:
        async with camera_server() as (server, (inbox,)), client(server, "/ws/camera") as first:
            await opened(first)
            async with client(server, "/ws/camera") as second:
                await second.send(CameraOpen())
                assert await refusal(second) == ("camera_taken", 4409)
            with BrowserCamera(inbox) as source:
                await first.connection.send(picture(JPEG))
                assert await asyncio.to_thread(source.read) is not None
                assert (await first.until("camera.ack")).data.result == "taken"

    run(test)


def test_two_pages_give_two_sources_by_name_or_in_turn() -> None:
    async def test() -> None:
        names = ("browser left", "browser right")
        async with (
            camera_server(*names) as (server, _),
            client(server, "/ws/camera") as first,
            client(server, "/ws/camera") as second,
        ):
            assert await opened(first, "browser right") == "browser right"
            assert await opened(second) == "browser left"

    run(test)


def test_a_pause_and_a_page_that_leaves_are_losses_with_their_reasons() -> None:
    async def lost(inbox: Inbox, reason: str, peer: Peer, end: Coroutine[Any, Any, None]) -> None:
        with BrowserCamera(inbox) as source:
            await peer.connection.send(picture(JPEG))
            assert await asyncio.to_thread(source.read) is not None
            await peer.until("camera.ack")
            await end
            with pytest.raises(Exception, match=reason):
                await asyncio.to_thread(source.read)

    async def test() -> None:
        async with camera_server() as (server, (inbox,)):
            async with client(server, "/ws/camera") as peer:
                await opened(peer)
                await lost(inbox, "hidden", peer, peer.send(CameraPause(reason="hidden")))
                await lost(inbox, "taken away", peer, peer.send(CameraPause(reason="ended")))
                await lost(inbox, "sleeps", peer, peer.send(CameraPause(reason="muted")))
            async with client(server, "/ws/camera") as peer:
                await opened(peer)
                await lost(inbox, "has left", peer, peer.connection.close())

    run(test)


def test_without_such_a_source_there_is_no_camera_page() -> None:
    def get(port: int, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    async def test() -> None:
        async with serving(make_hub()) as server:
            status, body = await asyncio.to_thread(get, server.port, "/camera")
            assert status == 404
            assert b"facestage live browser:" in body
            with pytest.raises(InvalidStatus):
                async with client(server, "/ws/camera"):
                    pass
        async with camera_server() as (server, _):
            status, body = await asyncio.to_thread(get, server.port, "/camera")
            assert status == 200
            assert b"camera.js" in body

    run(test)


def test_token_and_origin_are_asked_for_as_of_viewers() -> None:
    async def test() -> None:
        async with camera_server(token="s3cret") as (server, _):
            async with client(server, "/ws/camera") as peer:
                await peer.send(CameraOpen())
                assert await refusal(peer) == ("unauthorised", 4401)
            async with client(server, "/ws/camera") as peer:  # before the token no large message
                await peer.connection.send(bytes(limits.MAX_MESSAGE_BYTES + 1))
                assert (await refusal(peer))[1] in (1008, 1009)
            with pytest.raises(InvalidStatus):
                async with client(server, "/ws/camera", origin="https://evil.example"):
                    pass

    run(test)
