"""The door of a server that speaks TLS: what is not TLS is told so, what is goes on as a socket.

asyncio would do the handshake itself, but out of sight: sockets that never finish it would be
bounded by nothing, and whoever writes ``http://`` by mistake would be cut off without a word. So a
socket is counted among the half-open ones from its first moment, and its first byte is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl

from . import limits
from .guarded import GuardedConnection, HalfOpen
from .strangers import address_of

__all__ = ["TlsDoor"]

logger = logging.getLogger(__name__)

_TLS_HANDSHAKE = 0x16  # type of a TLS record (RFC 8446 §5.1): what every client begins with
_TOO_MUCH = 64 * 1024
_WORDS = b"This port speaks TLS. Write https:// for the page, wss:// for a socket.\n"
_REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"X-Content-Type-Options: nosniff\r\nContent-Length: %d\r\n\r\n%s" % (len(_WORDS), _WORDS)
)


class _Corridor(asyncio.Protocol):
    """What comes between the end of the TLS handshake and the connection's begin, kept for it."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.has_ended = False

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)

    def eof_received(self) -> None:
        self.has_ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended = True


class TlsDoor(asyncio.Protocol):
    """A socket until its TLS handshake is over; then the connection has it.

    Args:
        connection: that has not begun.
        context: with the certificate.
        half_open: where it waits.

    Attributes:
        address: of its peer, see :func:`~facestage.stream.server.strangers.address_of`.
        loop: the event loop.
    """

    def __init__(
        self, connection: GuardedConnection, context: ssl.SSLContext, half_open: HalfOpen
    ) -> None:
        self.loop = connection.loop
        self.address = "?"
        self._connection = connection
        self._context = context
        self._half_open = half_open
        self._received = 0
        self._spy: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._death: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        """Drop the socket."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first byte, and leave it where it is: the handshake needs it."""
        assert isinstance(transport, asyncio.Transport)  # TCP: narrows the library's type
        self._transport = transport
        self.address = address_of(transport.get_extra_info("peername"))
        self._half_open.enter(self)
        self._death = self.loop.call_later(limits.HANDSHAKE_TIMEOUT_S, self.abort)
        transport.pause_reading()
        try:
            # The transport has its own descriptor in the loop, and lets nobody else watch it.
            descriptor = transport.get_extra_info("socket").fileno()
            self._spy = socket.socket(fileno=socket.dup(descriptor))
            self.loop.add_reader(self._spy, self._look)
        except NotImplementedError:  # the loop of Windows: without the kind word, then
            self._close_spy()
            self._task = self.loop.create_task(self._shake_hands())
        except OSError:  # no descriptor left
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Throw away what comes after the refusal."""
        self._received += len(data)
        if self._received > _TOO_MUCH:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the socket; the handshake ends by itself."""
        self._close_spy()
        if self._task is None:
            self._leave()

    def _look(self) -> None:
        assert self._spy is not None
        try:
            first = self._spy.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        self._close_spy()
        if first and first[0] == _TLS_HANDSHAKE:
            self._task = self.loop.create_task(self._shake_hands())
        elif first.isalpha():
            self._refuse()
        else:
            self.abort()

    def _refuse(self) -> None:
        """Answer in plain HTTP, and take what is still sent: else the kernel drops the answer."""
        self._transport.write(_REFUSAL)
        self._transport.write_eof()
        self._cancel_drop()
        self._death = self.loop.call_later(limits.CLOSE_GRACE_S, self.abort)
        self._transport.resume_reading()

    async def _shake_hands(self) -> None:
        corridor = _Corridor()
        try:
            transport = await self.loop.start_tls(
                self._transport,
                corridor,
                self._context,
                server_side=True,
                ssl_handshake_timeout=limits.HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=limits.SEND_TIMEOUT_S,
            )
        except (OSError, asyncio.CancelledError) as error:  # SSLError is an OSError
            logger.debug("%s: no TLS handshake: %s", self.address, error)
            return
        finally:
            self._leave()
        if corridor.has_ended or transport is None:
            if transport is not None:
                transport.abort()
            return
        transport.set_protocol(self._connection)
        self._connection.connection_made(transport)
        for chunk in corridor.chunks:
            self._connection.data_received(chunk)

    def _leave(self) -> None:
        self._cancel_drop()
        self._half_open.leave(self)

    def _cancel_drop(self) -> None:
        if self._death is not None:
            self._death.cancel()
            self._death = None

    def _close_spy(self) -> None:
        if self._spy is None:
            return
        with contextlib.suppress(NotImplementedError):
            self.loop.remove_reader(self._spy)
        self._spy.close()
        self._spy = None
