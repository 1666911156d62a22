"""A websocket whose socket has an allowance: what goes over it is never parsed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from ..protocol.codec import encode
from ..protocol.messages import Error
from . import limits
from .allowance import Excess, Meter
from .strangers import Lobby, Tally, address_of

__all__ = ["GuardedConnection", "HalfOpen", "Waiting"]

logger = logging.getLogger(__name__)


class Waiting(Protocol):
    """A socket that is not through the handshake, as :class:`HalfOpen` knows it."""

    address: str
    loop: asyncio.AbstractEventLoop

    def abort(self) -> None:
        """Drop the socket."""


class HalfOpen:
    """The sockets of a server that are not through the handshake, bounded in number.

    It also sees to it that strangers, who may come again and again, do not fill the log.
    """

    def __init__(self) -> None:
        self.lobby: Lobby[Waiting] = Lobby()
        self._pushed_out = Tally(limits.ACCEPT_LOG_S)
        self._cut = Tally(limits.REFUSAL_LOG_S)

    def enter(self, connection: Waiting) -> None:
        """Add a connection; drop another if there are too many."""
        surplus = self.lobby.enter(connection, connection.address)
        if surplus is None:
            return
        surplus.abort()
        count = self._pushed_out.add(connection.loop.time())
        if count:
            logger.warning(
                "too many sockets without a request; the oldest of %s is dropped, %d in all since "
                "the last such line",
                surplus.address,
                count,
            )

    def log_cut(self, connection: GuardedConnection, message: str) -> None:
        """Log that a stranger was cut off, once a minute: it may come again at once."""
        count = self._cut.add(connection.loop.time())
        if count:
            logger.warning(
                "a client of %s was cut off before the token: %s (%d in all since the last such "
                "line)",
                connection.address,
                message,
                count,
            )

    def leave(self, connection: Waiting) -> None:
        """Remove a connection that is through, or gone."""
        self.lobby.leave(connection, connection.address)

    def drop_all(self) -> None:
        """Drop every socket: the server closes."""
        for connection in self.lobby.sockets():
            connection.abort()


class GuardedConnection(ServerConnection):
    """A connection that is cut as soon as it sends more than its allowance.

    It is given the reason and close code, is read no more, and is dropped after
    :data:`~facestage.stream.server.limits.CLOSE_GRACE_S` whatever it does. A cut is better than
    reading slowly: the socket's place is free at once, and no client that means well comes near
    the allowance.

    Args:
        args: of the library's connection.
        half_open: where it waits until the handshake is over; None: the number is not bounded.
        options: of the library's connection.

    Attributes:
        address: of its peer, see :func:`~facestage.stream.server.strangers.address_of`.
        encode_error: makes the message with the reason.
    """

    def __init__(self, *args: Any, half_open: HalfOpen | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.address = "?"
        self._half_open = half_open
        self.encode_error: Callable[[Error], bytes] = encode
        self._meter = Meter(limits.STRANGER, self.loop.time())
        self._is_cut = False
        self._is_trusted = False
        self._death: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, among those that are not through it."""
        self.address = address_of(transport.get_extra_info("peername"))
        super().connection_made(transport)
        if self._half_open is not None:
            self._half_open.enter(self)

    def abort(self) -> None:
        """Drop the socket."""
        self.transport.abort()

    def end_handshake(self) -> None:
        """Count it no more among those that are not through the handshake."""
        if self._half_open is not None:
            self._half_open.leave(self)

    def trust(self) -> None:
        """Let it stay, with the allowance of a client."""
        self._is_trusted = True
        self._meter.allow(limits.CLIENT, self.loop.time())
        self._cancel_drop()

    def widen(self, allowance: limits.Allowance, max_bytes: int) -> None:
        """Let it send more than clients may, and larger messages, bytes."""
        self._meter.allow(allowance, self.loop.time())
        # websockets 16 bounds a message and its fragments apart; 15 has one bound.
        name = "max_message_size" if hasattr(self.protocol, "max_message_size") else "max_size"
        setattr(self.protocol, name, max_bytes)

    def drop_after(self, seconds: float) -> None:
        """Drop the socket after this time whatever is sent or read, unless it is trusted by then.

        A timer of the event loop does it, so it waits for no task of the connection.
        """
        self._cancel_drop()
        self._death = self.loop.call_later(seconds, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """Parse what came, if it is within the allowance."""
        if self._is_cut:
            # The library resumes reading when its queue has been emptied.
            self.transport.pause_reading()
            return
        excess = self._meter.excess(data, self.loop.time())
        if excess is None:
            super().data_received(data)
        else:
            self._cut(excess)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer, and the place in the handshake."""
        self._cancel_drop()
        self.end_handshake()
        super().connection_lost(exc)

    def _cut(self, excess: Excess) -> None:
        self._is_cut = True
        peer = self.remote_address
        name = f"{peer[0]}:{peer[1]}" if peer else "?"
        if self.protocol.state is State.CONNECTING:
            # No warning: whoever connects again and again would fill the log.
            logger.debug("%s cut off during the handshake: %s", name, excess.message)
            self.transport.abort()
            return
        if self._half_open is not None and not self._is_trusted:
            self._half_open.log_cut(self, excess.message)
        else:
            logger.warning("client %s cut off: %s", name, excess.message)
        if self.protocol.state is State.OPEN:
            error = Error(code=excess.code, message=excess.message)
            self.protocol.send_text(self.encode_error(error))
            self.protocol.fail(excess.close_code, excess.code)
            self.send_data()
        self.transport.pause_reading()
        self.drop_after(limits.CLOSE_GRACE_S)

    def _cancel_drop(self) -> None:
        if self._death is not None:
            self._death.cancel()
            self._death = None
