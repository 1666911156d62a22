"""What is refused: bad messages, floods, too many clients, wrong tokens and foreign pages."""

from __future__ import annotations

import asyncio
import contextlib
import http.client

import pytest
from facestage.stream import protocol
from facestage.stream.protocol import (
    Auth,
    Body,
    Subscribe,
    unpack_picture,
)
from facestage.stream.server import limits
from facestage.stream.server.limits import MAX_STRANGERS
from facestage.stream.server.server import Server
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.wire import PATIENCE_S, client, eventually, make_hub, run, serving


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
                    assert ([envelope.data.code for envelope in said], code) == (
                        ["too_many_clients"],
                        1013,
                    )
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


def test_sockets_of_one_address_do_not_push_out_those_of_another() -> None:
    async def test() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(make_hub(), token="secret"))
            friend = await stack.enter_async_context(client(server))
            for _ in range(2 * MAX_STRANGERS):
                await stack.enter_async_context(client(server, local_addr=("127.0.0.2", 0)))
            await friend.send(Auth(token="secret"))
            await friend.until("hello")

    run(test)


@pytest.mark.parametrize("path", ["/ws", "/ws/frames"])
@pytest.mark.parametrize("first", [Auth(token="wrong"), Auth(token=""), Subscribe()])
def test_without_the_token_nothing_is_told(first: Body, path: str) -> None:
    async def test() -> None:
        async with serving(make_hub(), token="s3cret-ä") as server, client(server, path) as peer:
            await peer.send(first)
            said, code = await peer.closed()
            assert ([envelope.type for envelope in said], code) == (["error"], 4401)
            assert said[0].data.code == "unauthorised"
            assert "s3cret" not in said[0].data.message

    run(test)


def test_no_token_in_time_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUTH_TIMEOUT_S", 0.05)

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
