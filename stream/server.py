"""The server: one port for the page, the JSON socket and the pictures.

::

    GET /  /overlay  /…                  files of a fixed list, nothing else
    GET /schema.json  /healthz
    websocket /ws                        JSON, deflated
    websocket /ws/frames                 pictures, uncompressed

Each client has one task that writes, and no queue that could overflow: it reads the
:class:`~facestage.stream.hub.Hub` at its own pace. A client that takes no message for
:data:`SEND_TIMEOUT_S` is cut off.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import http
import ipaddress
import json
import logging
import os
import socket
import ssl as tls
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, urlsplit

import msgspec
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ..core.errors import ConfigError, ProtocolError
from .hub import PICTURE, EventsLostError, Hub, Past
from .protocol import (
    SAMPLES,
    Ack,
    Auth,
    Body,
    Bye,
    Error,
    Heartbeat,
    Hello,
    Resync,
    Subscribe,
    UnknownTypeError,
    decode_client,
    encode,
    json_schema,
)

__all__ = ["Client", "Hub", "Server"]

logger = logging.getLogger(__name__)

SEND_TIMEOUT_S = 2.0
"""A client that does not take one message in so long is cut off, seconds."""
HEARTBEAT_S = 2.0
"""Interval of the server's heartbeat, seconds."""
SILENCE_S = 10.0
"""A client that has answered heartbeats and then says nothing for so long is closed, seconds."""
AUTH_TIMEOUT_S = 5.0
"""Time to send the token, seconds."""
MAX_MESSAGE_BYTES = 64 * 1024
"""Largest message a client may send, bytes."""
MESSAGE_RATE = 20.0
"""Messages a client may send per second, on average."""
MESSAGE_BURST = 40.0
"""Messages a client may send at once."""
MAX_CONNECTIONS = 32
"""Open sockets; a page uses two."""
SEND_BUFFER_BYTES = 128 * 1024
"""Kernel's send buffer of a socket (it doubles the figure), bytes. Without a bound the kernel grows
it to megabytes: memory, and seconds of old pictures on a slow line."""

_OVERLAY = Path(__file__).parent / "overlay"
_MIME = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
_FILES = (
    "overlay.css",
    "app.js",
    "bars.js",
    "connection.js",
    "dom.js",
    "model.js",
    "picture.js",
    "prototypes.js",
    "ribbon.js",
    "favicon.svg",
)
_SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

# Close codes (RFC 6455 §7.4.1; 4000–4999 are the application's).
_GOING_AWAY = 1001
_UNSUPPORTED = 1003
_BAD_DATA = 1007
_POLICY = 1008
_TRY_LATER = 1013
_UNAUTHORISED = 4401
_SILENT = 4408


class _Refusal(Exception):  # noqa: N818 - not an error of ours, a verdict on the client
    """The client is told ``code`` and ``message``, then closed with ``close_code``."""

    def __init__(self, code: str, close_code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.close_code = close_code


class _StalledError(Exception):
    """The client took no message for too long, and was cut off."""


class Client:
    """One connected socket and the task that writes to it.

    Attributes:
        name: address, for the log.
        pictures: whether it is a socket of ``/ws/frames``.
        subscription: what it last asked for; None before.
    """

    def __init__(self, server: Server, connection: ServerConnection, *, pictures: bool) -> None:
        self._server = server
        self._hub = server.hub
        self._connection = connection
        self.pictures = pictures
        peer = connection.remote_address
        self.name = f"{peer[0]}:{peer[1]}" if peer else "?"
        self.news = asyncio.Event()
        self._control: deque[bytes] = deque()
        self._in_flight = 0
        self._heartbeat_due = False
        self.subscription: Subscribe | None = None
        self._join = False
        self._cursor = 0
        self._topics: frozenset[str] = frozenset()
        self._streams: frozenset[str] | None = None
        self._sent: dict[tuple[str, str | None], int] = {}
        self._beats = False
        self._heard = time.monotonic()
        self._allowance = MESSAGE_BURST

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for this client now: the socket's buffer, the message being sent, replies."""
        waiting = self._connection.transport.get_write_buffer_size()
        return waiting + self._in_flight + sum(map(len, self._control))

    async def run(self) -> None:
        """Talk to the client until it or the server leaves."""
        _bound_send_buffer(self._connection)
        tasks: list[asyncio.Task[None]] = []
        try:
            if len(self._server.clients) > self._server.max_connections:
                raise _Refusal(
                    "too_many_clients",
                    _TRY_LATER,
                    f"{self._server.max_connections} sockets are open already; try again later",
                )
            await self._authenticate()
            if not self.pictures:
                self._reply(self._server.hello())
            tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except _Refusal as refusal:
            logger.warning("client %s refused: %s", self.name, refusal)
            await _cancel(tasks)
            await self._refuse(refusal)
        except (ConnectionClosed, _StalledError):
            pass
        finally:
            self._hub.clear_interest(self)
            await _cancel(tasks)

    def beat(self) -> None:
        """Have a heartbeat sent, and note a client that fell silent."""
        self._heartbeat_due = True
        self.news.set()

    async def say_bye(self, reason: str) -> None:
        """Tell the client that the server leaves, and close."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._connection.send(self._control_message(Bye(reason=reason)), text=True)
                await self._connection.close(_GOING_AWAY, reason)
        except (TimeoutError, ConnectionClosed):
            self._connection.transport.abort()

    # --- Reading --------------------------------------------------------------------------

    async def _authenticate(self) -> None:
        if self._server.token is None:
            return
        try:
            async with asyncio.timeout(AUTH_TIMEOUT_S):
                message = self._parse(await self._connection.recv())
        except TimeoutError:
            raise _Refusal(
                "unauthorised",
                _UNAUTHORISED,
                f"no token within {AUTH_TIMEOUT_S:g} s; send auth{{token}} first",
            ) from None
        token = message.token if isinstance(message, Auth) else ""
        if not hmac.compare_digest(token.encode(), self._server.token.encode()):
            raise _Refusal(
                "unauthorised",
                _UNAUTHORISED,
                "the token is missing or wrong; send auth with the server's --token, "
                "or open the page with #token=…",
            )
        self._reply(Ack(to=Auth.type))

    async def _read(self) -> None:
        async for text in self._connection:
            message = self._parse(text)
            if isinstance(message, Subscribe):
                self._subscribe(message)
            elif message.type == Heartbeat.type:
                self._beats = True
            elif message.type == Bye.type:
                await self._connection.close()
            # auth on a server without a token asks for nothing: the page sends what its URL holds

    def _parse(self, message: str | bytes) -> Body:
        now = time.monotonic()
        self._allowance = min(MESSAGE_BURST, self._allowance + (now - self._heard) * MESSAGE_RATE)
        self._heard = now
        if self._allowance < 1:
            raise _Refusal(
                "rate_limit", _POLICY, f"more than {MESSAGE_RATE:g} messages per second; send fewer"
            )
        self._allowance -= 1
        if isinstance(message, bytes):
            raise _Refusal("bad_message", _UNSUPPORTED, "a binary message; send JSON as text")
        try:
            return decode_client(message).data
        except UnknownTypeError as error:
            raise _Refusal("unknown_type", _POLICY, str(error)) from error
        except ProtocolError as error:
            raise _Refusal("bad_message", _BAD_DATA, str(error)) from error

    def _subscribe(self, wish: Subscribe) -> None:
        known = {stream.id for stream in self._hub.streams}
        unknown = sorted(set(wish.streams or ()) - known)
        if unknown:
            raise _Refusal(
                "bad_message",
                _BAD_DATA,
                f"there is no stream {unknown[0][:40]!r}; subscribe to some of {sorted(known)}",
            )
        self._streams = None if wish.streams is None else frozenset(wish.streams)
        self._topics = frozenset(SAMPLES if wish.topics is None else wish.topics)
        self._reply(Ack(to=Subscribe.type))
        wanted = {PICTURE} if self.pictures else self._topics | {"events"}
        self._hub.set_interest(self, wanted, self._streams)
        self._sent.clear()
        self.subscription = wish
        self._join = True
        self.news.set()

    # --- Writing --------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            await self.news.wait()
            self.news.clear()
            await self._write_control()
            if self.subscription is None:
                continue
            if self.pictures:
                for message in self._hub.pictures_since(self._sent, self._streams):
                    await self._send(message, text=False)
                continue
            if self._join:
                self._join = False
                await self._write_start(self.subscription)
            await self._write_events()
            for message in self._hub.samples_since(self._sent, self._topics, self._streams):
                await self._send(message)

    async def _write_start(self, wish: Subscribe) -> None:
        if wish.since is None:
            await self._write_past(wish.history_s)
            return
        self._cursor = wish.since.seq
        if wish.since.epoch != self._hub.epoch:
            await self._write_resync("the server has been started again since", wish.history_s)

    async def _write_resync(self, reason: str, history_s: float) -> None:
        await self._send(self._control_message(Resync(reason=reason)))
        await self._write_past(history_s)

    async def _write_past(self, history_s: float) -> None:
        past: Past = self._hub.past()
        for stream, snapshot in past.snapshots.items():
            await self._send(self._control_message(snapshot, stream=stream))
        for message in past.prototypes:
            await self._send(message)
        self._cursor = past.seq
        if history_s > 0:
            self._cursor = min(past.seq, self._hub.seq_before(history_s))

    async def _write_events(self) -> None:
        while True:
            await self._write_control()
            try:
                message = self._hub.event_after(self._cursor)
            except EventsLostError as error:
                history_s = self.subscription.history_s if self.subscription else 0.0
                await self._write_resync(str(error), history_s)
                continue
            if message is None:
                return
            await self._send(message)
            self._cursor += 1

    async def _write_control(self) -> None:
        while self._control:
            await self._send(self._control.popleft())
        if self._heartbeat_due:
            self._heartbeat_due = False
            await self._send(self._control_message(Heartbeat()))
            if self._beats and time.monotonic() - self._heard > SILENCE_S:
                raise _Refusal(
                    "silent", _SILENT, f"no heartbeat for {SILENCE_S:g} s; connect again"
                )

    async def _send(self, message: bytes, *, text: bool = True) -> None:
        self._in_flight = len(message)
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._connection.send(message, text=text)
        except TimeoutError:
            logger.warning(
                "client %s took no message for %g s and was cut off with %d bytes waiting",
                self.name,
                SEND_TIMEOUT_S,
                self.buffered_bytes,
            )
            self._connection.transport.abort()
            raise _StalledError from None
        finally:
            self._in_flight = 0

    async def _refuse(self, refusal: _Refusal) -> None:
        message = self._control_message(Error(code=refusal.code, message=str(refusal)))
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._connection.send(message, text=True)
                await self._connection.close(refusal.close_code, refusal.code)
        except (TimeoutError, ConnectionClosed):
            self._connection.transport.abort()

    def _reply(self, data: Body) -> None:
        self._control.append(self._control_message(data))
        self.news.set()

    def _control_message(self, data: Body, stream: str | None = None) -> bytes:
        return encode(data, stream=stream, epoch=self._hub.epoch, t_emit=time.time())


class Server:
    """Serve a hub; an asynchronous context manager.

    Args:
        hub: what is served.
        hello: who the server is; the hub's epoch, range and streams are filled in. A callable is
            asked for every client.
        host: address to listen on. Any but a loopback address needs a token.
        port: TCP port; 0 takes a free one, see :attr:`port`.
        token: secret that clients must send first; None: no secret.
        allowed_origins: origins of foreign pages that may connect (``https://example.org``).
        max_connections: open sockets.
        ssl: TLS context; None: plain HTTP.

    Raises:
        ConfigError: the options cannot work together (on construction), or the port or the address
            cannot be used (on entering).
    """

    def __init__(
        self,
        hub: Hub,
        *,
        hello: Hello | Callable[[], Hello],
        host: str = "127.0.0.1",
        port: int = 8765,
        token: str | None = None,
        allowed_origins: Sequence[str] = (),
        max_connections: int = MAX_CONNECTIONS,
        ssl: tls.SSLContext | None = None,
    ) -> None:
        if token is not None and not token.strip():
            raise ConfigError("the token is empty; give --token a secret, or leave it out")
        if token is None and not _is_loopback(host):
            raise ConfigError(
                f"--host {host} can be reached from other machines, which needs a secret; "
                "add --token, or use --host 127.0.0.1"
            )
        if not 0 <= port <= 65535:
            raise ConfigError(f"--port {port} is not a TCP port; use 1 to 65535, or 0 for any")
        for origin in allowed_origins:
            if not origin.startswith(("http://", "https://")) or urlsplit(origin).path not in "/":
                raise ConfigError(
                    f"{origin!r} is not an origin; write it as https://example.org or with a port"
                )
        self.hub = hub
        self.host = host
        self.token = token
        self.max_connections = max_connections
        self._wanted_port = port
        self._ssl = ssl
        self._hello = hello
        self._allowed_origins = {origin.rstrip("/").lower() for origin in allowed_origins}
        self._clients: set[Client] = set()
        self._files = _load_files()
        self._wake_pending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: WebSocketServer | None = None
        self._heart: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """TCP port listened on; the one asked for until the server runs."""
        if self._server is None:
            return self._wanted_port
        return next(iter(self._server.sockets)).getsockname()[1]

    @property
    def url(self) -> str:
        """Address of the page, with the token in its hash, which browsers never send."""
        host = socket.gethostname() if self.host in ("", "0.0.0.0", "::") else self.host
        if ":" in host:
            host = f"[{host}]"
        scheme = "http" if self._ssl is None else "https"
        fragment = "" if self.token is None else f"#token={quote(self.token, safe='')}"
        return f"{scheme}://{host}:{self.port}/{fragment}"

    @property
    def clients(self) -> frozenset[Client]:
        """Open sockets."""
        return frozenset(self._clients)

    def hello(self) -> Hello:
        """Return the hello for a client that connects now."""
        hello = self._hello() if callable(self._hello) else self._hello
        first, last = self.hub.range
        return msgspec.structs.replace(
            hello, epoch=self.hub.epoch, first=first, last=last, streams=self.hub.streams
        )

    async def __aenter__(self) -> Server:
        self._loop = asyncio.get_running_loop()
        try:
            self._server = await serve(
                self._handle,
                self.host or None,
                self._wanted_port,
                process_request=self._process_request,
                compression="deflate",
                server_header=None,
                max_size=MAX_MESSAGE_BYTES,
                max_queue=4,
                ping_interval=10,
                ping_timeout=10,
                close_timeout=SEND_TIMEOUT_S,
                ssl=self._ssl,
                logger=_peers_logger(),
            )
        except (OSError, OverflowError) as error:
            raise _bind_error(error, self.host, self._wanted_port) from error
        self.hub.attach(self._wake)
        self._heart = asyncio.create_task(self._beat())
        logger.info("serving %s", self.url.partition("#")[0])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        assert self._heart is not None
        self.hub.detach(self._wake)
        await _cancel([self._heart])
        self._server.close(close_connections=False)
        await asyncio.gather(*(client.say_bye("the server stops") for client in self.clients))
        self._server.close()
        await self._server.wait_closed()

    # --- Waking the clients ---------------------------------------------------------------

    def _wake(self) -> None:
        # Runs in the publishing thread, with the hub's lock held. One call into the loop is enough
        # however much is published before it runs.
        if not self._wake_pending and self._loop is not None:
            self._wake_pending = True
            self._loop.call_soon_threadsafe(self._wake_clients)

    def _wake_clients(self) -> None:
        self._wake_pending = False
        for client in self._clients:
            client.news.set()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for client in self._clients:
                client.beat()

    # --- HTTP and handshake ---------------------------------------------------------------

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        path = urlsplit(connection.request.path).path
        client = Client(self, connection, pictures=path == "/ws/frames")
        self._clients.add(client)
        logger.info("client %s connected to %s", client.name, path)
        try:
            await client.run()
        except Exception:
            logger.exception("client %s: the server failed, the connection is closed", client.name)
        finally:
            self._clients.discard(client)
            logger.info("client %s left", client.name)

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if path in ("/ws", "/ws/frames"):
            origin = request.headers.get("Origin")
            if origin is not None and not self._origin_allowed(origin, request.headers.get("Host")):
                logger.warning("refused a connection from a page of %.100r", origin)
                return _response(
                    http.HTTPStatus.FORBIDDEN,
                    "text/plain; charset=utf-8",
                    f"Pages of this origin may not connect. Open {self.url.partition('#')[0]} "
                    "instead, or allow the origin with --origin.\n".encode(),
                )
            if path == "/ws/frames":
                # JPEG does not deflate: 1.8 ms per picture and client for nothing.
                request.headers.pop("Sec-WebSocket-Extensions", None)
            return None
        if path == "/healthz":
            first, last = self.hub.range
            health = {"status": "ok", "clients": self.hub.clients, "first": first, "last": last}
            return _response(http.HTTPStatus.OK, _MIME[".json"], json.dumps(health).encode())
        found = self._files.get(path)
        if found is None:
            return _response(
                http.HTTPStatus.NOT_FOUND,
                "text/plain; charset=utf-8",
                b"Nothing here. The page is at /, the protocol at /schema.json.\n",
            )
        return _response(http.HTTPStatus.OK, *found)

    def _origin_allowed(self, origin: str, host: str | None) -> bool:
        origin = origin.lower()
        if origin in self._allowed_origins:
            return True
        scheme = "http" if self._ssl is None else "https"
        if self.token is not None:
            # The page's own origin. A name that a foreign site points at this address (DNS
            # rebinding) passes here as well, but does not know the token.
            return host is not None and origin == f"{scheme}://{host.lower()}"
        names = {"localhost", "127.0.0.1", "[::1]"}
        names.add(f"[{self.host}]" if ":" in self.host else self.host.lower())
        ports = {f":{self.port}"} | ({""} if self.port == (443 if self._ssl else 80) else set())
        return origin in {f"{scheme}://{name}{port}" for name in names for port in ports}


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _load_files() -> dict[str, tuple[str, bytes]]:
    """Return path → (content type, content) of everything that may be asked for."""
    page = (_MIME[".html"], (_OVERLAY / "index.html").read_bytes())
    files = {"/": page, "/overlay": page}
    for name in _FILES:
        files[f"/{name}"] = (_MIME[Path(name).suffix], (_OVERLAY / name).read_bytes())
    files["/schema.json"] = (_MIME[".json"], json.dumps(json_schema(), indent=1).encode())
    return files


def _response(status: http.HTTPStatus, content_type: str, body: bytes) -> Response:
    headers = Headers(
        {
            "Connection": "close",
            "Content-Length": str(len(body)),
            "Content-Type": content_type,
            **_SECURITY_HEADERS,
        }
    )
    return Response(status.value, status.phrase, headers, body)


def _bind_error(error: OSError | OverflowError, host: str, port: int) -> ConfigError:
    code = getattr(error, "errno", None)
    # asyncio sums several failed addresses up in an error of its own, whose text has the cause.
    if code == errno.EADDRINUSE or os.strerror(errno.EADDRINUSE) in str(error):
        return ConfigError(
            f"port {port} on {host} is in use already; choose another with --port, "
            "or --port 0 for any free one"
        )
    if code == errno.EACCES:
        return ConfigError(f"port {port} may not be opened by this user; choose --port above 1023")
    return ConfigError(
        f"cannot listen on {host}, port {port} ({error}); "
        "give --host an address of this machine, such as 127.0.0.1"
    )


def _bound_send_buffer(connection: ServerConnection) -> None:
    sock = connection.transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def _peers_logger() -> logging.Logger:
    # The library reports every port scan and broken handshake as an error with a traceback. Those
    # are faults of peers; our own faults are logged by Server._handle.
    peers = logging.getLogger(f"{__name__}.peers")
    peers.setLevel(logging.CRITICAL)
    return peers


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
