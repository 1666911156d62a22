"""What clients ask of the server beyond listening: markers, notices that they have seen, commands.

The first two become events, so that every other client and every recording has them, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ...core.errors import ProtocolError
from ..protocol.bodies import Body
from ..protocol.markers import Marker, MarkerAdd
from ..protocol.messages import RecordStart, RecordStop, Replay
from ..protocol.scores import NoticeAck, NoticeAcknowledged
from . import limits
from .allowance import TokenBucket
from .hub import Hub

__all__ = ["NotAllowedError", "Requests"]


class NotAllowedError(ProtocolError):
    """A command that this server does not take."""


class Requests:
    """Turn what clients ask for into events of a hub.

    Args:
        hub: whose streams they are about.
        command: does what a client commands (``record.start``, ``record.stop``, ``replay``); see
            :class:`~facestage.stream.server.server.Server`.
        ticks: clock that is never set, seconds.
    """

    def __init__(
        self,
        hub: Hub,
        command: Callable[[Body], None] | None = None,
        *,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._command = command or _refuse
        self._ticks = ticks
        self._markers = 0
        self._room = TokenBucket(limits.MARKER_RATE, limits.MARKER_BURST, ticks())

    def take(self, message: Body) -> bool:
        """Carry a message out; return whether it was one of those meant for here.

        Raises:
            NotAllowedError: this server takes no such command.
            ProtocolError: it cannot be carried out.
        """
        match message:
            case MarkerAdd():
                self._mark(message)
            case NoticeAck():
                self._acknowledge(message)
            case RecordStart() | RecordStop() | Replay():
                self._obey(message)
            case _:
                return False
        return True

    def _obey(self, message: Body) -> None:
        try:
            self._command(message)
        except ProtocolError as error:
            raise NotAllowedError(str(error)) from error

    def _mark(self, wish: MarkerAdd) -> None:
        if not self._room.take(1, self._ticks()):
            raise ProtocolError(
                f"more than {limits.MARKER_RATE:g} markers per second; wait before the next"
            )
        self._check_stream(wish.stream)
        latest = self._hub.latest_frame(wish.stream)
        start_s, t_capture = wish.start_s, None
        if latest is None:
            if start_s is None:
                raise ProtocolError(
                    f"no frame of {wish.stream!r} was analysed yet; say where the marker begins "
                    "with start_s"
                )
        else:
            sample, captured = latest
            start_s = sample.time_s if start_s is None else start_s
            if captured is not None:
                t_capture = captured + start_s - sample.time_s
        end_s = start_s if wish.end_s is None else wish.end_s
        if end_s < start_s:
            raise ProtocolError(
                f"a marker cannot end at {end_s:g} s before it begins at {start_s:g} s; give "
                "start_s, too"
            )
        self._markers += 1
        marker = Marker(id=self._markers, text=wish.text.strip(), start_s=start_s, end_s=end_s)
        self._hub.publish_event(marker, stream=wish.stream, t_capture=t_capture)

    def _acknowledge(self, wish: NoticeAck) -> None:
        self._check_stream(wish.stream)
        if self._hub.has_open_notice(wish.stream, wish.id):
            self._hub.publish_event(NoticeAcknowledged(id=wish.id), stream=wish.stream)

    def _check_stream(self, stream: str) -> None:
        known = [info.id for info in self._hub.streams]
        if stream not in known:
            raise ProtocolError(f"there is no stream {stream[:40]!r}; name one of {known}")


def _refuse(command: Body) -> None:
    raise ProtocolError(
        f"this server takes no {command.type!r}: it replays nothing, and recordings are begun and "
        "ended from afar only with --allow-control"
    )
