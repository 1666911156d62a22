"""The server: one port for the page, the JSON socket and the pictures.

::

    GET /  /overlay  /camera  /…         files of a fixed list, nothing else
    GET /schema.json  /asyncapi.json  /healthz
    websocket /ws                        JSON, deflated
    websocket /ws/frames                 pictures, uncompressed
    websocket /ws/camera                 pictures from a browser's webcam, where a source waits

What is said to a client, and how a slow one is treated, is in
:mod:`facestage.stream.server.connection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http
import importlib.metadata
import ipaddress
import json
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote, urlsplit

import msgspec
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from ...core.errors import ConfigError
from ..protocol.asyncapi import asyncapi
from ..protocol.codec import json_schema
from ..protocol.messages import Body, Bye, Hello
from . import limits
from .camera import CameraClient, PictureInbox
from .certificate import Certificate
from .connection import Client, cancel
from .door import TlsDoor
from .guarded import GuardedConnection, HalfOpen
from .hub import Hub
from .requests import Requests
from .strangers import Guesses, Tally
from .turns import Turns

__all__ = ["Client", "Hub", "Server"]

logger = logging.getLogger(__name__)

_OVERLAY = Path(__file__).parents[1] / "overlay"
_MIME = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
_FILES = (
    "overlay.css",
    "scores.css",
    "address.js",
    "age.js",
    "announcer.js",
    "apart.js",
    "app.js",
    "bars.js",
    "callouts.js",
    "changes.js",
    "camera.css",
    "camera.js",
    "choice.js",
    "connection.js",
    "controls.js",
    "curves.js",
    "dom.js",
    "face.js",
    "facts.js",
    "feed.js",
    "focus.js",
    "fullscreen.js",
    "headline.js",
    "keys.js",
    "kiosk.css",
    "kiosk.js",
    "kiosk_cell.js",
    "kiosk_picture.js",
    "labels.js",
    "lanes.js",
    "language.js",
    "large.js",
    "layout.js",
    "markers.js",
    "masks.js",
    "model.js",
    "palette.js",
    "panel.js",
    "past.js",
    "overlay_look.css",
    "overlay_look.js",
    "notices.js",
    "patterns.js",
    "picture.js",
    "player.js",
    "prototypes.js",
    "ribbon.js",
    "series.js",
    "settings.js",
    "snapshot.js",
    "scores.js",
    "stage.js",
    "states.js",
    "stream.js",
    "table.js",
    "theme.js",
    "timeline.js",
    "token.js",
    "units.js",
    "viewport.js",
    "webcam.js",
    "wire.js",
    "languages/de.json",
    "languages/en.json",
    "languages/es.json",
    "languages/fr.json",
    "favicon.svg",
)
_PAGES = {
    "/": "index.html",
    "/overlay": "index.html",
    "/camera": "camera.html",
    "/kiosk": "kiosk.html",
}
_SOCKETS = ("/ws", "/ws/frames", "/ws/camera")
_EVERY_ADDRESS = ("", "0.0.0.0", "::")
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
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
        certificate: to serve https and wss with; None: plain HTTP.
        command: does what a client commands (``record.start``, ``record.stop``, ``replay``); called
            in the server's thread, it must return at once, and raises
            :class:`~facestage.core.errors.ProtocolError` where that is not allowed. None: nothing
            is.

    Attributes:
        cameras: where the webcams of browsers give their pictures; without one there is no
            ``/camera``. To be set before the server is entered.
        farewell: what clients are told when it stops.
        readings: path → what makes content type and content of it, each time it is asked for. Asked
            under the same rules as ``/healthz``: by a name of this machine only.

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
        max_connections: int = limits.MAX_CONNECTIONS,
        certificate: Certificate | None = None,
        command: Callable[[Body], None] | None = None,
    ) -> None:
        if token is not None and not token.strip():
            raise ConfigError(
                "the token is empty; give --token or --token-file a secret, or leave it out"
            )
        if token is None and not _is_loopback(host):
            raise ConfigError(
                f"--host {host} can be reached from other machines, which needs a secret; "
                "add --token-file (or --token), or use --host 127.0.0.1"
            )
        if not 0 <= port <= 65535:
            raise ConfigError(f"--port {port} is not a TCP port; use 1 to 65535, or 0 for any")
        for origin in allowed_origins:
            if not origin.startswith(("http://", "https://")) or urlsplit(origin).path not in "/":
                raise ConfigError(
                    f"{origin!r} is not an origin; write it as https://example.org or with a port"
                )
        self.hub = hub
        self.cameras: Sequence[PictureInbox] = ()
        self.farewell = Bye(reason="the server stops")
        self.host = host
        self.token = token
        self.max_connections = max_connections
        self._wanted_port = port
        self._certificate = certificate
        self._hello = hello
        self._allowed_origins = {origin.rstrip("/").lower() for origin in allowed_origins}
        self._clients: dict[Client, None] = {}  # in the order they came
        self._requests = Requests(hub, command)
        self._guesses = Guesses()
        self._half_open = HalfOpen()
        self._pushed_out = Tally(limits.REFUSAL_LOG_S)
        self._not_accepted = Tally(limits.ACCEPT_LOG_S)
        self._files = _load_files()
        self.readings: dict[str, Callable[[], tuple[str, bytes]]] = {}
        self._wake_pending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: WebSocketServer | None = None
        self._closing = contextlib.AsyncExitStack()

    @property
    def port(self) -> int:
        """TCP port listened on; the one asked for until the server runs."""
        if self._server is None:
            return self._wanted_port
        return next(iter(self._server.sockets)).getsockname()[1]

    @property
    def url(self) -> str:
        """:attr:`address` with the token in its hash, which browsers never send."""
        fragment = "" if self.token is None else f"#token={quote(self.token, safe='')}"
        return self.address + fragment

    @property
    def address(self) -> str:
        """Address of the page, without the token."""
        host = self.host
        if host in _EVERY_ADDRESS:
            # The name in the certificate is the one that browsers accept.
            names = () if self._certificate is None else self._certificate.names
            host = names[0] if names else socket.gethostname()
        if ":" in host:
            host = f"[{host}]"
        return f"{self._scheme}://{host}:{self.port}/"

    @property
    def _certified_names(self) -> set[str]:
        """Names that nobody else can point here, as only the owner gets a certificate for them."""
        return set() if self._certificate is None else {n.lower() for n in self._certificate.names}

    @property
    def _scheme(self) -> str:
        return "http" if self._certificate is None else "https"

    @property
    def clients(self) -> frozenset[Client]:
        """Open sockets."""
        return frozenset(self._clients)

    def hello(self) -> Hello:
        """Return the hello for a client that connects now."""
        hello = self._hello() if callable(self._hello) else self._hello
        first, last = self.hub.range
        return msgspec.structs.replace(
            hello,
            epoch=self.hub.epoch,
            first=first,
            last=last,
            streams=self.hub.streams,
            history_s=self.hub.history_s,
        )

    async def __aenter__(self) -> Server:
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(self._loop)
        try:
            self._server = await serve(
                self._handle,
                self.host or None,
                self._wanted_port,
                process_request=self._process_request,
                compression="deflate",
                server_header=None,
                max_size=limits.MAX_MESSAGE_BYTES,
                max_queue=limits.MAX_QUEUED_FRAMES,
                open_timeout=limits.HANDSHAKE_TIMEOUT_S,
                ping_interval=limits.PING_INTERVAL_S,
                ping_timeout=limits.PING_TIMEOUT_S,
                close_timeout=limits.SEND_TIMEOUT_S,
                logger=_peers_logger(),
                # A factory is all that is asked for, though the type says class.
                create_connection=cast("type[ServerConnection]", self._new_connection),
                backlog=limits.ACCEPT_BACKLOG,
            )
        except (OSError, OverflowError) as error:
            raise _bind_error(error, self.host, self._wanted_port) from error
        self._closing.callback(self._loop.set_exception_handler, self._loop.get_exception_handler())
        self._loop.set_exception_handler(
            partial(self._on_loop_error, self._loop.get_exception_handler())
        )
        self.hub.attach(self._wake)
        heart = asyncio.create_task(self._beat())
        self._closing.push_async_callback(self._close, self._server, heart)
        logger.info("serving %s", self.address)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._closing.aclose()

    async def _close(self, server: WebSocketServer, heart: asyncio.Task[None]) -> None:
        self.hub.detach(self._wake)
        await cancel([heart])
        server.close(close_connections=False)
        self._half_open.drop_all()
        await asyncio.gather(*(client.say_bye(self.farewell) for client in self.clients))
        server.close()
        await server.wait_closed()

    def _new_connection(self, *args: Any, **options: Any) -> asyncio.Protocol:
        """Return what takes a new socket: the connection, or the door of TLS before it."""
        connection = GuardedConnection(*args, half_open=self._half_open, **options)
        if self._certificate is None:
            return connection
        return TlsDoor(connection, self._certificate.context, self._half_open)

    def _on_loop_error(
        self,
        otherwise: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], Any] | None,
        loop: asyncio.AbstractEventLoop,
        context: dict[str, Any],
    ) -> None:
        """Log in a line that no socket can be accepted; asyncio tries again after a second.

        It reports that as an error with a traceback, a hundred times per second.
        """
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES and "socket" in context:
            if self._not_accepted.add(loop.time()):
                logger.error(
                    "no connection can be accepted (%s); retrying every second. Close what holds "
                    "descriptors, or raise the limit (ulimit -n)",
                    error.strerror,
                )
        elif otherwise is not None:
            otherwise(loop, context)
        else:
            loop.default_exception_handler(context)

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
            await asyncio.sleep(limits.HEARTBEAT_S)
            for client in self._clients:
                client.beat()
            for address, count in self._guesses.reports(time.monotonic()):
                logger.warning("%s refused %d times more for want of the token", address, count)

    # --- HTTP and handshake ---------------------------------------------------------------

    async def _handle(self, connection: ServerConnection) -> None:
        # Both narrow the library's types: the handshake is over, and these are its connections.
        assert connection.request is not None
        assert isinstance(connection, GuardedConnection)
        connection.end_handshake()
        path = urlsplit(connection.request.path).path
        client = self._client(connection, path)
        strangers = [other for other in self._clients if other.stranger]
        if client.stranger and len(strangers) >= limits.MAX_STRANGERS:
            # Of the address that has most, its oldest: nobody is made to pay for another.
            most = Counter(other.address for other in strangers).most_common(1)[0][0]
            surplus = next(other for other in strangers if other.address == most)
            count = self._pushed_out.add(time.monotonic())
            if count:
                logger.warning(
                    "too many clients without the token; %s is cut off, %d in all since the last "
                    "such line",
                    surplus.name,
                    count,
                )
            surplus.turn_away()
        self._clients[client] = None
        logger.info("client %s connected to %s", client.name, path)

        def crowded() -> bool:
            return sum(not other.stranger for other in self._clients) > self.max_connections

        try:
            await client.run(crowded=crowded)
        except Exception:
            logger.exception("client %s: the server failed, the connection is closed", client.name)
        finally:
            self._clients.pop(client, None)
            logger.info("client %s left", client.name)

    def _client(self, connection: GuardedConnection, path: str) -> Client:
        """Return what talks to a socket of this path."""
        known: dict[str, Any] = {
            "hello": self.hello,
            "token": self.token,
            "guesses": self._guesses,
            "turns": self._turns,
            "requests": self._requests,
        }
        if path == "/ws/camera":
            return CameraClient(self.hub, connection, inboxes=self.cameras, **known)
        return Client(self.hub, connection, pictures=path == "/ws/frames", **known)

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        # Not urlsplit: it raises for what is no address (GET //[), and this is only a path.
        path = request.path.partition("?")[0]
        if len(request.headers.get_all("Host")) > 1 or len(request.headers.get_all("Origin")) > 1:
            return _response(
                http.HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", b"Repeated header.\n"
            )
        if path in ("/camera", "/ws/camera") and not self.cameras:
            return _response(
                http.HTTPStatus.NOT_FOUND,
                "text/plain; charset=utf-8",
                b"No source waits for the webcam of a browser. Start facestage live browser:\n",
            )
        if path in _SOCKETS:
            origin = request.headers.get("Origin")
            if origin is not None and not self._origin_allowed(origin, request.headers.get("Host")):
                logger.warning("refused a connection from a page of %.100r", origin)
                return _response(
                    http.HTTPStatus.FORBIDDEN,
                    "text/plain; charset=utf-8",
                    f"Pages of this origin may not connect. Open {self.address} "
                    "instead, or allow the origin with --origin.\n".encode(),
                )
            if path != "/ws":
                # JPEG does not deflate: 1.8 ms per picture and client for nothing.
                request.headers.pop("Sec-WebSocket-Extensions", None)
            return None
        if path == "/healthz" or path in self.readings:
            host = request.headers.get("Host")
            if host is not None and not self._is_own_name(host):
                # A foreign site whose name points here (DNS rebinding) may not read it.
                return _response(
                    http.HTTPStatus.MISDIRECTED_REQUEST,
                    "text/plain; charset=utf-8",
                    b"This is no name of this server. Ask by address or by localhost, or start it "
                    b"with --origin and this name.\n",
                )
            if path in self.readings:
                return _response(http.HTTPStatus.OK, *self.readings[path]())
            first, last = self.hub.range
            health = {"status": "ok", "clients": self.hub.clients, "first": first, "last": last}
            return _response(http.HTTPStatus.OK, _MIME[".json"], json.dumps(health).encode())
        file = self._files.get(path)
        if file is None:
            return _response(
                http.HTTPStatus.NOT_FOUND,
                "text/plain; charset=utf-8",
                b"Nothing here. The page is at /, the protocol at /schema.json.\n",
            )
        return _response(http.HTTPStatus.OK, *file, own_styles=path == "/overlay")

    def _origin_allowed(self, origin: str, host: str | None) -> bool:
        origin = origin.lower()
        if origin in self._allowed_origins:
            return True
        scheme = self._scheme
        if self.token is not None:
            # The page's own origin. A name that a foreign site points at this address (DNS
            # rebinding) passes here as well, but does not know the token.
            return host is not None and origin == f"{scheme}://{host.lower()}"
        names = {"localhost", "127.0.0.1", "[::1]"} | self._certified_names
        names.add(f"[{self.host}]" if ":" in self.host else self.host.lower())
        ports = {f":{self.port}"} | (
            {""} if self.port == (443 if self._certificate else 80) else set()
        )
        return origin in {f"{scheme}://{name}{port}" for name in names for port in ports}

    def _is_own_name(self, host: str) -> bool:
        """Return whether a ``Host`` names this server: by address, or by a name known to be its."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            own = socket.gethostname().lower()
            names = {"localhost", self.host.lower(), own, own.partition(".")[0] + ".local"}
            names |= self._certified_names
            names |= {urlsplit(origin).hostname or "" for origin in self._allowed_origins}
            return bool(name) and name.rstrip(".") in names
        return True  # no name that somebody else could point here


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _load_files() -> dict[str, tuple[str, bytes]]:
    """Return path → (content type, content) of everything that may be asked for."""
    files = {
        path: (_MIME[".html"], (_OVERLAY / name).read_bytes()) for path, name in _PAGES.items()
    }
    for name in _FILES:
        files[f"/{name}"] = (_MIME[Path(name).suffix], (_OVERLAY / name).read_bytes())
    version = importlib.metadata.version("facestage")
    files["/asyncapi.json"] = (_MIME[".json"], json.dumps(asyncapi(version), indent=1).encode())
    files["/schema.json"] = (_MIME[".json"], json.dumps(json_schema(), indent=1).encode())
    return files


def _response(
    status: http.HTTPStatus, content_type: str, body: bytes, *, own_styles: bool = False
) -> Response:
    """Return an answer; ``own_styles``: a style sheet that the user's program adds may hold.

    OBS lays the user's own one into the page, which the policy of the other pages refuses. It can
    change how the overlay looks, and load nothing.
    """
    headers = Headers(
        {
            "Connection": "close",
            "Content-Length": str(len(body)),
            "Content-Type": content_type,
            **_SECURITY_HEADERS,
        }
    )
    if own_styles:
        policy = headers.pop("Content-Security-Policy")
        headers["Content-Security-Policy"] = policy.replace(
            "style-src 'self'", "style-src 'self' 'unsafe-inline'"
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


def _peers_logger() -> logging.Logger:
    # The library reports every port scan and broken handshake as an error with a traceback. Those
    # are faults of peers; our own faults are logged by Server._handle.
    peers = logging.getLogger(f"{__name__}.peers")
    peers.setLevel(logging.CRITICAL)
    return peers
