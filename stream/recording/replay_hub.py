"""A hub whose messages come from a session, with the numbers and times they had."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...core.errors import ProtocolError
from .. import protocol
from ..server.hub import Hub, Slot, StreamState
from .folder import Before, Head
from .reader import Record

__all__ = ["ReplayHub"]


class ReplayHub(Hub):
    """Hand out what was recorded as if it happened now.

    Args:
        head: of the session.
        position: returns where the replay is, seconds since the session began. The clock of all
            messages follows it, and so does the age of events.

    Raises:
        ProtocolError: two streams of the session share an id or a number.
    """

    def __init__(self, head: Head, position: Callable[[], float]) -> None:
        super().__init__(
            head.hello.streams, clock=lambda: head.clock.wall + position(), ticks=position
        )
        self.epoch = head.hello.epoch
        self._begin(head.before)

    def publish_event(
        self, event: protocol.Event, *, stream: str | None, t_capture: float | None = None
    ) -> int:
        """Refuse: what was recorded has its numbers.

        Raises:
            ProtocolError: always.
        """
        raise ProtocolError(
            f"this is a replay, and no {event.type!r} can be added to what was recorded; mark it "
            "while it is live"
        )

    def put(self, record: Record) -> None:
        """Publish a message of the session as it was: an event with its number, or a sample."""
        envelope = record.envelope
        if envelope is None:
            return
        with self._lock:
            if envelope.seq is not None:
                self._take_event(record, envelope)
            else:
                self._take_sample(envelope)
            self._wake()

    def jump(self, before: Before, events: Iterable[Record], samples: Iterable[Record]) -> None:
        """Go to another time: clients are told the state then, and what comes after it.

        Args:
            before: the state when the session began.
            events: those since, in order.
            samples: the latest of each kind and stream.
        """
        with self._lock:
            self._begin(before)
            for record in events:
                if record.envelope is not None:
                    self._take_event(record, record.envelope)
            for record in samples:
                if record.envelope is not None:
                    self._take_sample(record.envelope)
            self.moves += 1
            self._wake()

    # --- Inside, with the lock held -------------------------------------------------------

    def _begin(self, before: Before) -> None:
        self._ring.clear()
        self._ring_bytes = 0
        self._first, self._last = before.seq + 1, before.seq
        self._samples.clear()
        self._pictures.clear()
        self._recording = None
        self._states = {stream.id: StreamState() for stream in self.streams}
        for stream, snapshot in before.snapshots.items():
            state = self._states.get(stream)
            if state is not None:
                state.stage, state.face = snapshot.stage, snapshot.face
                state.source = snapshot.source
                state.notices = {notice.on.id: notice for notice in snapshot.notices}
        for message in before.events:
            envelope = protocol.decode(message)
            self._note_known(envelope, message.encode())

    def _take_event(self, record: Record, envelope: protocol.Envelope) -> None:
        assert envelope.seq is not None
        if envelope.seq != self._last + 1:  # a part of the session is missing
            self._ring.clear()
            self._ring_bytes = 0
            self._first = envelope.seq
            self.moves += 1
        self._keep(envelope.seq, record.at, record.message)
        self._note_known(envelope, record.message)

    def _note_known(self, envelope: protocol.Envelope, message: bytes) -> None:
        if envelope.stream is None or envelope.stream in self._states:
            self._note(envelope.stream, envelope.data, message)

    def _take_sample(self, envelope: protocol.Envelope) -> None:
        self._version += 1
        self._samples[envelope.type, envelope.stream] = Slot(
            self._version,
            envelope.data,
            envelope.stream,
            envelope.t_capture,
            0.0 if envelope.t_emit is None else envelope.t_emit,
        )
