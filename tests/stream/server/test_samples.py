"""Samples and pictures: the latest of each, and only to those who ask."""

from __future__ import annotations

import pytest
from facestage.core.errors import ProtocolError
from facestage.stream import protocol
from facestage.stream.protocol import (
    unpack_picture,
)
from facestage.stream.server import hub as hub_module

from tests.support.wire import client, eventually, frame, make_hub, run, serving


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
