"""Options of the server: addresses, ports and tokens that can work."""

from __future__ import annotations

from typing import Any

import pytest
from facestage.core.errors import ConfigError
from facestage.stream.protocol import (
    Cursor,
)

from tests.support.wire import client, make_hub, run, serving, stage


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
