"""One client of the server: its handshake, the task that reads it and the task that writes to it.

A client has no queue that could overflow. It is a place in the hub's ring and the versions of the
samples it was sent; it goes on at its own pace, and is cut off if it takes no message at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from websockets.exceptions import ConnectionClosed

from ...core.errors import ProtocolError
from ...core.steps import step, watching
from ..protocol.codec import UnknownTypeError, decode_client, encode
from ..protocol.messages import (
    SAMPLES,
    Ack,
    Auth,
    Body,
    Bye,
    Error,
    Heartbeat,
    Hello,
    PastFrames,
    PastWish,
    Resync,
    Subscribe,
)
from ..step_clock import StepClock
from . import limits
from .allowance import TokenBucket
from .guarded import GuardedConnection
from .hub import PICTURE, EventsLostError, Hub, Past
from .past import portions
from .requests import NotAllowedError, Requests
from .strangers import Guesses
from .turns import Turns, cost_of

__all__ = ["Client", "cancel"]

logger = logging.getLogger(__name__)

# Close codes (RFC 6455 §7.4.1; 4000–4999 are the application's).
_GOING_AWAY = 1001
_UNSUPPORTED = 1003
_BAD_DATA = 1007
_POLICY = 1008
_TRY_LATER = 1013
_UNAUTHORISED = 4401
_SILENT = 4408


class _Refusal(Exception):  # noqa: N818 - not an error of ours, a verdict on the client
    """The client gets an error of ``code`` and ``message``; ``close_code`` ends its connection."""

    def __init__(self, code: str, close_code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.close_code = close_code


class _StalledError(Exception):
    """The client took no message for too long, and was cut off."""


class Client:
    """One connected socket and the task that writes to it.

    Args:
        hub: what it reads.
        connection: the open socket.
        pictures: whether it is a socket of ``/ws/frames``.
        hello: makes its hello.
        token: secret it must send first; None: none.
        guesses: what is remembered of wrong tokens.
        turns: gives out the past.
        requests: carries out what it asks for beyond listening, and what it commands.

    Attributes:
        address: of its peer, see :func:`~facestage.stream.server.strangers.address_of`.
        name: address and port, for the log.
        pictures: whether it is a socket of ``/ws/frames``.
        past_bytes: what it was told of the past, as
            :func:`~facestage.stream.server.turns.cost_of` counts.
        subscription: what it last asked for; None before.
        stranger: whether it still has to prove that it knows the token.
    """

    def __init__(
        self,
        hub: Hub,
        connection: GuardedConnection,
        *,
        pictures: bool,
        hello: Callable[[], Hello],
        token: str | None,
        guesses: Guesses,
        turns: Turns,
        requests: Requests,
    ) -> None:
        self._hub = hub
        self._connection = connection
        self._hello = hello
        self._token = token
        self._guesses = guesses
        self._turns = turns
        self._requests = requests
        self.stranger = token is not None
        self.pictures = pictures
        peer = connection.remote_address
        self.address = connection.address
        self.name = f"{peer[0]}:{peer[1]}" if peer else "?"
        self.news = asyncio.Event()
        self._control: deque[bytes] = deque()
        self._in_flight = 0
        self._heartbeat_due = False
        self.subscription: Subscribe | None = None
        self._join = False
        self._cursor = 0
        self._moves = hub.moves
        self._state: deque[bytes] = deque()  # snapshots and prototypes still to be told
        self._news_from = 0  # events up to this number are the past
        self._credit = 0  # of the past, bytes; less than 0 where the last message was larger
        self.past_bytes = 0
        self._topics: frozenset[str] = frozenset()
        self._streams: frozenset[str] | None = None
        self._sent: dict[tuple[str, str | None], int] = {}
        self._past_wish: PastWish | None = None
        self._beats = False
        self._heard = time.monotonic()
        self._steps = StepClock()
        self._messages = TokenBucket(limits.MESSAGE_RATE, limits.MESSAGE_BURST, self._heard)
        connection.encode_error = self._control_message

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for this client now: the socket's buffer, the message being sent, replies."""
        waiting = self._connection.transport.get_write_buffer_size()
        return waiting + self._in_flight + sum(map(len, self._control))

    def turn_away(self) -> None:
        """Cut a stranger off, to make room for another."""
        self._connection.transport.abort()

    async def run(self, *, crowded: Callable[[], bool]) -> None:
        """Talk to the client until it or the server leaves.

        Args:
            crowded: called once the client is no stranger; true says that there is no room for it,
                and the client is refused.
        """
        _bound_send_buffer(self._connection)
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._authenticate()
            self.stranger = False
            self._connection.trust()
            if crowded():
                raise _Refusal(
                    "too_many_clients", _TRY_LATER, "too many sockets are open; try again later"
                )
            if not self.pictures:
                self._reply(self._hello())
            tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except _Refusal as refusal:
            self._log_refusal(refusal)
            await cancel(tasks)
            await self._refuse(refusal)
        except (ConnectionClosed, _StalledError):
            pass
        finally:
            self._hub.clear_interest(self)
            self._turns.withdraw(self)
            await cancel(tasks)

    def beat(self) -> None:
        """Have a heartbeat sent, and note a client that fell silent."""
        self._heartbeat_due = True
        self.news.set()

    async def say_bye(self, bye: Bye) -> None:
        """Tell the client that the server leaves, and close."""
        try:
            async with asyncio.timeout(limits.SEND_TIMEOUT_S):
                await self._connection.send(self._control_message(bye), text=True)
                await self._connection.close(_GOING_AWAY, bye.reason)
        except (TimeoutError, ConnectionClosed):
            self._connection.transport.abort()

    # --- Reading --------------------------------------------------------------------------

    async def _authenticate(self) -> None:
        if self._token is None:
            return
        # The refusal below tells why; this holds although it finds no time, or nobody reads it.
        self._connection.drop_after(limits.AUTH_TIMEOUT_S + limits.CLOSE_GRACE_S)
        # Waited for and not cut short: websockets fails with an assertion if reading is cancelled
        # in the moment in which a further fragment of a message arrives.
        first = asyncio.create_task(self._connection.recv())
        first.add_done_callback(_noticed)
        done, _ = await asyncio.wait({first}, timeout=limits.AUTH_TIMEOUT_S)
        if not done:
            raise _Refusal(
                "unauthorised",
                _UNAUTHORISED,
                f"no token within {limits.AUTH_TIMEOUT_S:g} s; send auth{{token}} first",
            )
        message = self._parse(first.result())
        token = message.token if isinstance(message, Auth) else ""
        is_right = hmac.compare_digest(token.encode(), self._token.encode())
        if isinstance(message, Auth):  # nothing else is a guess: a page asks first, then its user
            await self._answer_slowly(is_right=is_right)
        if not is_right:
            raise _Refusal(
                "unauthorised",
                _UNAUTHORISED,
                "the token is missing or wrong; send auth with the server's --token, "
                "or open the page with #token=…",
            )
        self._reply(Ack(to=Auth.type))

    async def _answer_slowly(self, *, is_right: bool) -> None:
        """Wait as long as this address has to after wrong tokens, or until the client has gone."""
        now = time.monotonic()
        delay = self._guesses.delay(self.address, now)
        if not is_right:
            # Before the wait: who does not stay for the answer has guessed all the same.
            self._guesses.wrong(self.address, now)
        if delay > 0:
            self._connection.drop_after(delay + limits.AUTH_TIMEOUT_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._connection.wait_closed()

    def _log_refusal(self, refusal: _Refusal) -> None:
        if refusal.close_code != _UNAUTHORISED:
            logger.warning("client %s refused: %s", self.name, refusal)
            return
        count = self._guesses.refused(self.address, time.monotonic())
        if count:
            logger.warning("client %s refused: %s%s", self.name, refusal, _times(count))

    async def _read(self) -> None:
        async for text in self._connection:
            message = self._parse(text)
            if isinstance(message, Subscribe):
                self._subscribe(message)
            elif isinstance(message, PastWish):
                self._look_back(message)
            elif message.type == Heartbeat.type:
                self._beats = True
            elif message.type == Bye.type:
                await self._connection.close()
            else:
                # auth on a server without a token asks for nothing: the page sends what its URL
                # holds.
                self._carry_out(message)

    def _carry_out(self, message: Body) -> None:
        try:
            self._requests.take(message)
        except NotAllowedError as error:
            raise _Refusal("not_allowed", _POLICY, str(error)) from error
        except ProtocolError as error:
            raise _Refusal("bad_message", _BAD_DATA, str(error)) from error

    def _parse(self, message: str | bytes) -> Body:
        self._heard = time.monotonic()
        if not self._messages.take(1, self._heard):
            raise _Refusal(
                "rate_limit",
                _POLICY,
                f"more than {limits.MESSAGE_RATE:g} messages per second; send fewer",
            )
        if isinstance(message, bytes):
            raise _Refusal("bad_message", _UNSUPPORTED, "a binary message; send JSON as text")
        try:
            return decode_client(message).data
        except UnknownTypeError as error:
            raise _Refusal("unknown_type", _POLICY, str(error)) from error
        except ProtocolError as error:
            raise _Refusal("bad_message", _BAD_DATA, str(error)) from error

    def _look_back(self, wish: PastWish) -> None:
        self._must_know([wish.stream])
        self._past_wish = wish  # who drags a slider wants the last place alone
        self.news.set()

    def _must_know(self, streams: Sequence[str]) -> None:
        known = {stream.id for stream in self._hub.streams}
        unknown = sorted(set(streams) - known)
        if unknown:
            raise _Refusal(
                "bad_message",
                _BAD_DATA,
                f"there is no stream {unknown[0][:40]!r}; there are {sorted(known)}",
            )

    def _subscribe(self, wish: Subscribe) -> None:
        self._must_know(wish.streams or ())
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
        with watching(self._steps):  # this task's alone, so that no other comes between
            await self._write_news()

    async def _write_news(self) -> None:
        while True:
            await self.news.wait()
            self.news.clear()
            await self._write_control()
            if self.subscription is None:
                continue
            if self.pictures:
                for message in self._hub.pictures_since(self._sent, self._streams):
                    await self._send(message, text=False)
                await self._write_frames_of_the_past()
                continue
            if not await self._write_past(self.subscription):
                continue
            if not await self._write_events():
                continue
            with step("send"):
                samples = self._hub.samples_since(self._sent, self._topics, self._streams)
            for message in samples:
                await self._send(message)
            await self._write_frames_of_the_past()

    async def _write_frames_of_the_past(self) -> None:
        """Answer the last wish, in portions between which everything else goes on."""
        wish, self._past_wish = self._past_wish, None
        if wish is None:
            return
        frames, span = self._hub.frames_of_the_past(wish)
        first, last = span or (None, None)
        waiting = portions(frames, limits.PAST_MESSAGE_BYTES)
        for i, portion in enumerate(waiting):
            if self._past_wish is not None:
                return  # it wants something else by now, which the next turn answers
            answer = PastFrames(
                from_s=wish.from_s,
                to_s=wish.to_s,
                first_s=first,
                last_s=last,
                frames=portion,
                done=i == len(waiting) - 1,
            )
            await self._send(self._control_message(answer, stream=wish.stream))
            await self._write_control()

    def take_turn(self, credit: int) -> None:
        """Be told so much more of the past, bytes."""
        self._credit += credit
        self.news.set()

    async def _write_past(self, wish: Subscribe) -> bool:
        """Tell the past as far as the credit goes, and return whether all of it is told.

        If not, a turn has been asked for. Samples come after the past: clients rely on that.
        """
        while self._join or self._state or self._cursor < self._news_from:
            if self._credit <= 0:
                self._turns.ask(self)
                return False
            if self._join:
                self._join = False
                self._begin(wish)
                continue
            await self._write_control()
            message = self._state.popleft() if self._state else self._next_event()
            if message is None:
                continue
            self._charge(cost_of(message))
            await self._send(message)
            if self._join:  # it asked anew meanwhile
                assert self.subscription is not None  # what asked anew has set it
                wish = self.subscription
        return True

    def _charge(self, cost: int) -> None:
        self._credit -= cost
        self.past_bytes += cost

    def _begin(self, wish: Subscribe) -> None:
        """Note what of the past there is to tell."""
        self._charge(limits.HISTORY_LEAST_BYTES)  # asking alone costs something, too
        self._state.clear()
        self._news_from = self._hub.range[1]
        if wish.since is None:
            self._begin_with_state(wish.history_s)
            return
        self._cursor = wish.since.seq
        self._moves = self._hub.moves
        if wish.since.epoch != self._hub.epoch:
            self._begin_anew("the server has been started again since")

    def _begin_anew(self, reason: str) -> None:
        self._state.clear()
        self._state.append(self._control_message(Resync(reason=reason)))
        self._begin_with_state(self.subscription.history_s if self.subscription else 0.0)

    def _begin_with_state(self, history_s: float) -> None:
        past: Past = self._hub.past()
        for stream, snapshot in past.snapshots.items():
            self._state.append(self._control_message(snapshot, stream=stream))
        self._state.extend(past.prototypes)
        if past.recording is not None:
            self._state.append(past.recording)
        self._cursor = self._news_from = past.seq
        self._moves = past.moves
        if history_s > 0:
            self._cursor = min(past.seq, self._hub.seq_before(history_s))

    async def _write_events(self) -> bool:
        """Tell what has happened since; return False if some of it is lost, and becomes past."""
        while True:
            await self._write_control()
            message = self._next_event()
            if self._state:
                self.news.set()
                return False
            if message is None:
                return True
            await self._send(message)

    def _next_event(self) -> bytes | None:
        """Return the next event; None: there is none, or it is lost and the state replaces it."""
        try:
            message = self._hub.event_after(self._cursor, self._moves)
        except EventsLostError as error:
            self._begin_anew(str(error))
            return None
        if message is not None:
            self._cursor += 1
        return message

    async def _write_control(self) -> None:
        while self._control:
            await self._send(self._control.popleft())
        if self._heartbeat_due:
            self._heartbeat_due = False
            await self._send(self._control_message(Heartbeat()))
            if self._beats and time.monotonic() - self._heard > limits.SILENCE_S:
                raise _Refusal(
                    "silent", _SILENT, f"no heartbeat for {limits.SILENCE_S:g} s; connect again"
                )

    async def _send(self, message: bytes, *, text: bool = True) -> None:
        self._in_flight = len(message)
        try:
            with step("send"):
                async with asyncio.timeout(limits.SEND_TIMEOUT_S):
                    await self._connection.send(message, text=text)
            self._hub.on_steps(self._steps.take())
        except TimeoutError:
            logger.warning(
                "client %s took no message for %g s and was cut off with %d bytes waiting",
                self.name,
                limits.SEND_TIMEOUT_S,
                self.buffered_bytes,
            )
            self._connection.transport.abort()
            raise _StalledError from None
        finally:
            self._in_flight = 0

    async def _refuse(self, refusal: _Refusal) -> None:
        message = self._control_message(Error(code=refusal.code, message=str(refusal)))
        try:
            async with asyncio.timeout(limits.SEND_TIMEOUT_S):
                await self._connection.send(message, text=True)
                await self._connection.close(refusal.close_code, refusal.code)
        except (TimeoutError, ConnectionClosed):
            self._connection.transport.abort()

    def _reply(self, data: Body) -> None:
        self._control.append(self._control_message(data))
        self.news.set()

    def _control_message(self, data: Body, stream: str | None = None) -> bytes:
        return encode(data, stream=stream, epoch=self._hub.epoch, t_emit=self._hub.now())


def _times(count: int) -> str:
    return "" if count == 1 else f" ({count} times since this was last logged)"


def _noticed(reading: asyncio.Task[str | bytes]) -> None:
    """Take note of how reading ended where nobody waits for it any more: with the connection."""
    if not reading.cancelled():
        reading.exception()


def _bound_send_buffer(connection: GuardedConnection) -> None:
    sock = connection.transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.SEND_BUFFER_BYTES)


async def cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
