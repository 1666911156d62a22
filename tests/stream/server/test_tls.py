"""TLS on the one port: wss for those who speak it, a word for those who do not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from facestage.core.errors import ConfigError
from facestage.stream.protocol import Subscribe, encode
from facestage.stream.server import limits
from facestage.stream.server.certificate import load_certificate
from facestage.stream.server.server import Server
from websockets.asyncio.client import connect

from tests.support.certificates import make_certificate
from tests.support.certificates import run as openssl
from tests.support.wire import PATIENCE_S, Peer, eventually, make_hub, run, serving, stage


def trusting(cert: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cert))


@contextlib.asynccontextmanager
async def client(server: Server, cert: Path, path: str = "/ws") -> AsyncIterator[Peer]:
    address = f"wss://127.0.0.1:{server.port}{path}"
    async with connect(address, ssl=trusting(cert)) as connection:
        yield Peer(connection)


async def speak(server: Server, data: bytes, *, end: bool = False) -> bytes:
    """Send bytes without TLS, and return everything that comes back."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(data)
        if end:
            writer.write_eof()
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
        writer.close()
        return answer


def test_page_and_socket_are_served_over_tls(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)

    async def test() -> None:
        hub = make_hub()
        async with serving(hub, certificate=load_certificate(cert, key)) as server:
            assert server.address == f"https://127.0.0.1:{server.port}/"
            async with client(server, cert) as peer:
                await peer.subscribe()
                hub.publish_event(stage(1), stream="cam")
                assert await peer.events(1) == [1]
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=trusting(cert)
            )
            # The request comes with the last flight of the handshake: nothing of it may be lost.
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"<title>facestage</title>" in await reader.read()
            writer.close()
            await eventually(lambda: len(server._half_open.lobby) == 0)

    run(test)


def test_plain_http_on_the_port_gets_a_plain_refusal(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)

    async def test() -> None:
        async with serving(make_hub(), certificate=load_certificate(cert, key)) as server:
            request = (
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Long: " + bytes(30_000) + b"\r\n\r\n"
            )
            answer = await speak(server, request)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"https://" in answer
            assert await speak(server, b"\x00\x01garbage") == b""
            assert b"HTTP" not in await speak(server, b"\x16\x03\x01\x00\x05nonsense", end=True)
            await eventually(lambda: len(server._half_open.lobby) == 0)
            async with client(server, cert) as peer:
                assert (await peer.next()).type == "hello"

    run(test)


def test_sockets_that_never_finish_the_tls_handshake_are_bounded_and_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = make_certificate(tmp_path)
    monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT_S", 1.0)
    caplog.set_level(logging.WARNING)

    async def test() -> None:
        async with serving(make_hub(), certificate=load_certificate(cert, key)) as server:
            silent = []
            for number in range(limits.MAX_HALF_OPEN_PER_ADDRESS + 20):
                silent.append(socket.create_connection(("127.0.0.1", server.port)))
                if number % 2:
                    silent[-1].send(b"\x16\x03\x01\x02\x00")  # a handshake that goes no further
                await asyncio.sleep(0)
            lobby = server._half_open.lobby
            await eventually(lambda: len(lobby) == limits.MAX_HALF_OPEN_PER_ADDRESS)
            async with client(server, cert) as peer:
                assert (await peer.next()).type == "hello"
                await eventually(lambda: len(lobby) == 0)  # all timed out, the good one stays
                await peer.subscribe()
            for connection in silent:
                connection.close()
        assert "without a request" in caplog.text
        assert "Traceback" not in caplog.text

    run(test)


def test_the_server_ends_while_a_handshake_is_under_way(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)

    async def test() -> None:
        async with serving(make_hub(), certificate=load_certificate(cert, key)) as server:
            silent = socket.create_connection(("127.0.0.1", server.port))
            silent.send(b"\x16\x03\x01")
            await eventually(lambda: len(server._half_open.lobby) == 1)
            async with client(server, cert) as peer:
                assert (await peer.next()).type == "hello"
                closing = asyncio.create_task(server.__aexit__(None, None, None))
                said, code = await peer.closed()
                assert (said[-1].type, code) == ("bye", 1001)
                await closing
            silent.close()

    run(test)


def test_a_stalled_client_is_cut_off_over_tls_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = make_certificate(tmp_path)
    monkeypatch.setattr(limits, "SEND_TIMEOUT_S", 0.3)

    async def test() -> None:
        hub = make_hub()
        async with serving(hub, certificate=load_certificate(cert, key)) as server:
            stalled = await connect(
                f"wss://127.0.0.1:{server.port}/ws", ssl=trusting(cert), max_queue=1
            )
            await stalled.send(encode(Subscribe()), text=True)
            await eventually(lambda: hub.clients == 1)
            stalled.transport.pause_reading()
            peak = 0
            while server.clients:
                hub.publish_event(stage(1, "AU12_A" * 10_000), stream="cam")
                peak = max(peak, *(c.buffered_bytes for c in server.clients), 0)
                await asyncio.sleep(0.002)
            assert peak < 1_000_000
            stalled.transport.abort()

    run(test)


def test_the_name_of_the_certificate_is_printed_where_any_address_is_listened_on(
    tmp_path: Path,
) -> None:
    certificate = load_certificate(*make_certificate(tmp_path, subject="lab.example"))

    async def test() -> None:
        options = {"host": "0.0.0.0", "token": "s3cret", "certificate": certificate}
        async with serving(make_hub(), **options) as server:
            assert server.address == f"https://lab.example:{server.port}/"

    run(test)


def test_pages_served_over_tls_may_connect_and_plain_ones_may_not(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)

    async def test() -> None:
        async with serving(make_hub(), certificate=load_certificate(cert, key)) as server:
            for origin, status in (("https", b"101"), ("http", b"403")):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", server.port, ssl=trusting(cert)
                )
                writer.write(
                    f"GET /ws HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
                    f"Origin: {origin}://localhost:{server.port}\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    "Sec-WebSocket-Version: 13\r\n\r\n".encode()
                )
                assert (await reader.readline()).split()[1] == status
                writer.close()

    run(test)


def test_files_that_cannot_work_are_told_with_the_way_on(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, name="good")
    _, other = make_certificate(tmp_path, name="other")
    locked = tmp_path / "locked.key"
    openssl("pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked)
    locked.chmod(0o600)
    empty = tmp_path / "empty"
    empty.write_text("")
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    public = tmp_path / "open.key"
    public.write_bytes(key.read_bytes())
    public.chmod(0o644)
    old, _ = make_certificate(tmp_path, name="old", days=(-9, -1))
    early, _ = make_certificate(tmp_path, name="early", days=(2, 9))
    for files, words in (
        ((tmp_path / "none", key), "cert .*none cannot be read.*No such file"),
        ((cert, tmp_path / "none"), "key .*none cannot be read"),
        ((tmp_path, key), "cannot be read.*directory"),
        ((empty, key), "no certificate in PEM"),
        ((cert, cert), "no private key in PEM"),
        ((broken, key), "cannot be used"),
        ((cert, locked), "passphrase.*openssl pkey"),
        ((cert, public), "chmod o="),
        ((cert, other), "does not belong"),
        ((old, tmp_path / "old.key"), "has expired.*renew"),
        ((early, tmp_path / "early.key"), "not valid yet.*clock"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_certificate(*files)


def test_a_certificate_that_only_clients_may_use_is_refused(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    key, cert = tmp_path / "client.key", tmp_path / "client.crt"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=x", "-addext", "extendedKeyUsage=clientAuth", "-keyout", key,
            "-out", cert)  # fmt: skip
    key.chmod(0o600)
    with pytest.raises(ConfigError, match="no client would accept"):
        load_certificate(cert, key)
