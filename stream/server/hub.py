"""The hub: what the compute thread publishes, kept for the clients to read at their own pace.

There is one ring of encoded events and one slot per sample, shared by all clients. A client is only
a position in the ring and the versions of the samples it was sent, so a slow one costs nothing
here, and "the events missed" and "the next event" are the same operation.

Every method may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ...core.errors import ProtocolError
from .. import protocol
from ..step_clock import StepTimes
from .past import PastRing

__all__ = [
    "PICTURE",
    "RING_BYTES",
    "RING_EVENTS",
    "RING_S",
    "EventsLostError",
    "Hub",
    "Past",
    "Slot",
    "StreamState",
    "Tap",
]

RING_EVENTS = 10_000
"""Events kept for replay, number."""
RING_S = 3600.0
"""Events are kept at most this long, seconds."""
RING_BYTES = 32 * 1024 * 1024
"""Memory of the ring, bytes: prototypes with thumbnails are larger than other events."""

MOST_NOTICES = 20
"""Notices of a stream that a snapshot tells at most, number."""

PICTURE = "picture"
"""Topic of the pictures, beside the types of the samples."""


class Tap(Protocol):
    """Is handed everything that is published, in its order; see :meth:`Hub.tap`.

    All are called with the hub locked: they must return at once and must not call it.
    """

    def take_event(self, seq: int, message: bytes) -> None:
        """Take an event: its number, and the message that clients get."""
        ...

    def take_sample(
        self, sample: protocol.Sample, stream: str | None, t_capture: float | None, t_emit: float
    ) -> None:
        """Take a sample with what its envelope says."""
        ...

    def take_picture(self, frame: int, jpeg: bytes, stream: str, number: int) -> None:
        """Take a picture, with the id and the number of its stream."""
        ...


def _tell_nobody(times: StepTimes) -> None:
    """Take what steps took where nobody asked."""


class EventsLostError(ProtocolError):
    """Events that were asked for are no longer, or not yet, in the ring."""


@dataclass(slots=True)
class StreamState:
    """What a client that joins now has to know of one stream."""

    stage: protocol.StageEnter | None = None
    face: protocol.FaceChanged | None = None
    source: protocol.SourceChanged | None = None
    prototypes: dict[str, bytes] = field(default_factory=dict)
    updates: dict[str, bytes] = field(default_factory=dict)
    notices: dict[int, protocol.NoticeState] = field(default_factory=dict)


class Slot:
    """The latest sample of one topic and stream; encoded only if somebody reads it."""

    __slots__ = ("_message", "_stream", "_t_emit", "sample", "t_capture", "version")

    def __init__(
        self,
        version: int,
        sample: protocol.Sample,
        stream: str | None,
        t_capture: float | None,
        t: float,
    ) -> None:
        self.version = version
        self.sample = sample
        self._stream = stream
        self.t_capture = t_capture
        self._t_emit = t
        self._message: bytes | None = None

    def message(self, epoch: int) -> bytes:
        if self._message is None:
            self._message = protocol.encode(
                self.sample,
                stream=self._stream,
                epoch=epoch,
                t_capture=self.t_capture,
                t_emit=self._t_emit,
            )
        return self._message


@dataclass(frozen=True, slots=True)
class Past:
    """The state of all streams after event ``seq``: what a client needs to join.

    Attributes:
        seq: number of the last event that is part of it.
        snapshots: stream id → its snapshot.
        prototypes: the encoded ``prototype.new`` events of the prototypes alive, and the latest
            ``prototype.update`` of those that had one.
        recording: the encoded latest ``record.state``; None before the first.
        moves: :attr:`Hub.moves` at that moment.
    """

    seq: int
    snapshots: dict[str, protocol.Snapshot]
    prototypes: tuple[bytes, ...]
    recording: bytes | None = None
    moves: int = 0


class Hub:
    """Number, keep and hand out everything that is published.

    Args:
        streams: the sources; their numbers must differ.
        ring_events: events kept for replay.
        ring_s: the longest they are kept, seconds.
        clock: wall clock, seconds since 1970; what messages are stamped with.
        ticks: clock that is never set, seconds; what ages are measured with. A wall clock that is
            put forward by two hours would empty the ring.
        past: keeps frames, so that clients can look back; None: they cannot.

    Raises:
        ProtocolError: two streams share an id or a number.

    Attributes:
        streams: the sources.
        epoch: name of this numbering: milliseconds since 1970 at which it began.
        moves: how often time was moved, which only a replay does: what a client has been told is
            void then.
        on_steps: told in the server's thread what sending a message took.
    """

    def __init__(
        self,
        streams: Sequence[protocol.StreamInfo],
        *,
        ring_events: int = RING_EVENTS,
        ring_s: float = RING_S,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
        past: PastRing | None = None,
    ) -> None:
        self._past_ring = past
        self.streams = tuple(streams)
        for key in ("id", "number"):
            values = [getattr(stream, key) for stream in self.streams]
            if len(set(values)) != len(values):
                raise ProtocolError(f"two streams share an {key} ({values}); give each its own")
        self._numbers = {stream.id: stream.number for stream in self.streams}
        self._ring_events = ring_events
        self._ring_s = ring_s
        self._clock = clock
        self._ticks = ticks
        self.epoch = int(clock() * 1000)
        self.moves = 0
        self._lock = threading.Lock()
        self._ring: dict[int, tuple[float, bytes]] = {}
        self._ring_bytes = 0
        self._first = 1
        self._last = 0
        self._states = {stream.id: StreamState() for stream in self.streams}
        self._version = 0
        self._samples: dict[tuple[str, str | None], Slot] = {}
        self._pictures: dict[str, tuple[int, bytes]] = {}
        self._recording: bytes | None = None
        self._tap: Tap | None = None
        self._wakes: list[Callable[[], None]] = []
        self._interests: dict[object, tuple[frozenset[str], frozenset[str] | None]] = {}
        self.on_steps: Callable[[StepTimes], None] = _tell_nobody

    # --- Publishing -----------------------------------------------------------------------

    def publish_event(
        self, event: protocol.Event, *, stream: str | None, t_capture: float | None = None
    ) -> int:
        """Number an event and keep it for all clients, present and returning.

        Args:
            event: its class decides the type.
            stream: id of the stream; None where it is about none of them.
            t_capture: when the frame behind it was grabbed, seconds since 1970.

        Returns:
            Its number.

        Raises:
            ProtocolError: no such stream.
        """
        if stream is not None:
            self._number_of(stream)
        with self._lock:
            now = self._ticks()
            seq = self._last + 1
            message = protocol.encode(
                event,
                stream=stream,
                epoch=self.epoch,
                seq=seq,
                t_capture=t_capture,
                t_emit=self._clock(),
            )
            self._keep(seq, now, message)
            self._note(stream, event, message)
            if self._tap is not None:
                self._tap.take_event(seq, message)
            self._wake()
        return seq

    def publish_sample(
        self, sample: protocol.Sample, *, stream: str | None = None, t_capture: float | None = None
    ) -> None:
        """Replace the latest sample of this type and stream.

        Costs next to nothing while nobody subscribes: it is encoded when the first client reads it.

        Args:
            sample: its class decides the type.
            stream: id of the stream, None for all of them (``Stats`` of the whole process).
            t_capture: when the frame was grabbed, seconds since 1970.

        Raises:
            ProtocolError: no such stream.
        """
        if stream is not None:
            self._number_of(stream)
        with self._lock:
            self._version += 1
            t_emit = self._clock()
            self._samples[sample.type, stream] = Slot(
                self._version, sample, stream, t_capture, t_emit
            )
            if self._past_ring is not None and stream is not None:
                if isinstance(sample, protocol.Heat):
                    self._past_ring.add_heat(stream, sample)
                elif isinstance(sample, protocol.FrameSample) and t_capture is not None:
                    self._past_ring.add_frame(stream, sample, t_capture)
            if self._tap is not None:
                self._tap.take_sample(sample, stream, t_capture, t_emit)
            self._wake()

    def publish_picture(self, frame: int, jpeg: bytes, *, stream: str) -> None:
        """Replace the latest picture of a stream. Encode one only if :attr:`wants_pictures`.

        Args:
            frame: number of the frame, as in its ``FrameSample`` and ``Heat``.
            jpeg: JPEG, at most :data:`MAX_PICTURE_BYTES`.
            stream: id of the stream.

        Raises:
            ProtocolError: no such stream, or too large a picture.
        """
        limit = protocol.MAX_PICTURE_BYTES
        if len(jpeg) > limit:
            raise ProtocolError(
                f"a picture of {len(jpeg)} bytes is too large to send (limit {limit}); "
                "scale it down or lower the JPEG quality"
            )
        message = protocol.pack_picture(
            protocol.Picture(stream=self._number_of(stream), frame=frame, jpeg=jpeg)
        )
        with self._lock:
            self._version += 1
            self._pictures[stream] = (self._version, message)
            if self._past_ring is not None:
                self._past_ring.add_picture(stream, frame, jpeg)
            if self._tap is not None:
                self._tap.take_picture(frame, jpeg, stream, self._numbers[stream])
            self._wake()

    # --- What is wanted -------------------------------------------------------------------

    @property
    def clients(self) -> int:
        """Number of connected clients that subscribed to events."""
        with self._lock:
            return sum("events" in topics for topics, _ in self._interests.values())

    @property
    def wants_pictures(self) -> bool:
        """Whether any client watches pictures; if not, do not encode any."""
        return self.wants(PICTURE)

    def wants(self, topic: str, stream: str | None = None) -> bool:
        """Whether any client wants this topic, or the past is due for one.

        Args:
            topic: ``frame``, ``heat``, ``stats`` or :data:`PICTURE`.
            stream: of this stream; None: of any.
        """
        with self._lock:
            return any(
                topic in topics and (stream is None or streams is None or stream in streams)
                for topics, streams in self._interests.values()
            ) or self._past_wants(topic, stream)

    # --- For the server and the recorder --------------------------------------------------

    def now(self) -> float:
        """Return the time that messages are stamped with, seconds since 1970."""
        return self._clock()

    def tap(self, tap: Tap | None) -> Past:
        """Hand whatever is published from now on to a tap, too; None ends that.

        Returns:
            The state of all streams just before.
        """
        with self._lock:
            self._tap = tap
            return self._past()

    def attach(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called, from the publishing thread, after whatever is published.

        It must return at once and must not call the hub.
        """
        with self._lock:
            self._wakes.append(wake)

    def detach(self, wake: Callable[[], None]) -> None:
        """Undo :meth:`attach`; no call of ``wake`` is under way when this returns."""
        with self._lock:
            self._wakes.remove(wake)

    def set_interest(
        self, client: object, topics: Iterable[str], streams: Iterable[str] | None
    ) -> None:
        """Note what a client wants; see :meth:`wants`."""
        with self._lock:
            self._interests[client] = (
                frozenset(topics),
                None if streams is None else frozenset(streams),
            )

    def clear_interest(self, client: object) -> None:
        """Note that a client has left."""
        with self._lock:
            self._interests.pop(client, None)

    @property
    def range(self) -> tuple[int, int]:
        """First and last number in the ring; ``(n + 1, n)`` while it is empty."""
        with self._lock:
            return self._first, self._last

    def event_after(self, seq: int, moves: int | None = None) -> bytes | None:
        """Return the encoded event ``seq + 1``, or None if it has not happened yet.

        Args:
            seq: number of the last event known.
            moves: :attr:`moves` when it became known; None: time was not moved since.

        Raises:
            EventsLostError: it is no longer in the ring, ``seq`` lies in the future, or time was
                moved.
        """
        with self._lock:
            if moves not in (None, self.moves):
                raise EventsLostError("the replay was moved to another time")
            if not self._first - 1 <= seq <= self._last:
                raise EventsLostError(
                    f"event {seq + 1} cannot be served, the ring holds {self._first} to "
                    f"{self._last}; take the snapshot instead"
                )
            return self._ring[seq + 1][1] if seq < self._last else None

    def past(self) -> Past:
        """Return the state of all streams now."""
        with self._lock:
            return self._past()

    def latest_frame(self, stream: str) -> tuple[protocol.FrameSample, float | None] | None:
        """Return the latest frame of a stream and when it was grabbed; None before the first."""
        with self._lock:
            slot = self._samples.get((protocol.FrameSample.type, stream))
        if slot is None or not isinstance(slot.sample, protocol.FrameSample):
            return None
        return slot.sample, slot.t_capture

    def has_open_notice(self, stream: str, number: int) -> bool:
        """Whether a notice of a stream is known and nobody has acknowledged it."""
        with self._lock:
            notice = self._states[stream].notices.get(number)
            return notice is not None and not notice.acknowledged

    def seq_before(self, seconds: float) -> int:
        """Return the number of the last event older than ``seconds``, within the ring."""
        with self._lock:
            oldest = self._ticks() - seconds
            seq = self._last
            while seq >= self._first and self._ring[seq][0] >= oldest:
                seq -= 1
            return seq

    def frames_of_the_past(
        self, wish: protocol.PastWish
    ) -> tuple[list[protocol.PastFrame], tuple[float, float] | None]:
        """Return frames that a client wants to see again, and from when to when there are some."""
        if self._past_ring is None:
            return [], None
        with self._lock:
            ring, stream = self._past_ring, wish.stream
            return ring.between(stream, wish.from_s, wish.to_s, wish.most), ring.span(stream)

    @property
    def history_s(self) -> float:
        """How far clients can look back, seconds; 0: not at all."""
        return 0.0 if self._past_ring is None else self._past_ring.seconds

    def samples_since(
        self,
        sent: dict[tuple[str, str | None], int],
        topics: Iterable[str],
        streams: frozenset[str] | None,
    ) -> list[bytes]:
        """Return the samples newer than those sent, and note them as sent.

        Args:
            sent: (topic, stream) → version last sent; updated in place.
            topics: types wanted.
            streams: stream ids wanted; None: all.
        """
        with self._lock:
            fresh = [
                (key, slot)
                for key, slot in self._samples.items()
                if key[0] in topics
                and (streams is None or key[1] is None or key[1] in streams)
                and slot.version > sent.get(key, 0)
            ]
        for key, slot in fresh:
            sent[key] = slot.version
        return [slot.message(self.epoch) for _, slot in fresh]

    def pictures_since(
        self, sent: dict[tuple[str, str | None], int], streams: frozenset[str] | None
    ) -> list[bytes]:
        """Return the pictures newer than those sent; see :meth:`samples_since`."""
        with self._lock:
            fresh = [
                (stream, version, message)
                for stream, (version, message) in self._pictures.items()
                if (streams is None or stream in streams)
                and version > sent.get((PICTURE, stream), 0)
            ]
        for stream, version, _ in fresh:
            sent[PICTURE, stream] = version
        return [message for _, _, message in fresh]

    # --- Inside, with the lock held -------------------------------------------------------

    def _past_wants(self, topic: str, stream: str | None) -> bool:
        if self._past_ring is None or stream is None or topic not in (PICTURE, "heat"):
            return False
        return self._past_ring.due(stream, self._clock(), picture=topic == PICTURE)

    def _wake(self) -> None:
        for wake in self._wakes:
            wake()

    def _past(self) -> Past:
        snapshots = {
            stream: protocol.Snapshot(
                seq=self._last,
                stage=state.stage,
                face=state.face,
                source=state.source,
                prototypes=tuple(state.prototypes),
                notices=tuple(state.notices.values()),
            )
            for stream, state in self._states.items()
        }
        prototypes = tuple(
            message
            for state in self._states.values()
            for message in (*state.prototypes.values(), *state.updates.values())
        )
        return Past(self._last, snapshots, prototypes, self._recording, self.moves)

    def _keep(self, seq: int, now: float, message: bytes) -> None:
        self._last = seq
        self._ring[seq] = (now, message)
        self._ring_bytes += len(message)
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._first < self._last and (
            len(self._ring) > self._ring_events
            or self._ring_bytes > RING_BYTES
            or now - self._ring[self._first][0] > self._ring_s
        ):
            self._ring_bytes -= len(self._ring.pop(self._first)[1])
            self._first += 1

    def _note(self, stream: str | None, event: protocol.Event, message: bytes) -> None:
        """Take an event into what a client that joins has to know."""
        if stream is not None:
            self._remember(self._states[stream], event, message)
        elif isinstance(event, protocol.RecordState):
            self._recording = message

    @staticmethod
    def _remember(state: StreamState, event: protocol.Event, message: bytes) -> None:
        match event:
            case protocol.StageEnter():
                state.stage = event
            case protocol.StageRevise() if state.stage is not None:
                state.stage = msgspec.structs.replace(
                    state.stage, labels=event.labels, text=event.text, changes=event.changes
                )
            case protocol.StageExit():
                state.stage = None
            case protocol.PrototypeNew():
                state.prototypes.pop(event.label, None)
                state.updates.pop(event.label, None)
                state.prototypes[event.label] = message
            case protocol.PrototypeUpdate() if event.label in state.prototypes:
                state.updates[event.label] = message
            case protocol.PrototypeRetire():
                state.prototypes.pop(event.label, None)
                state.updates.pop(event.label, None)
            case protocol.FaceChanged():
                state.face = event
            case protocol.SourceChanged():
                state.source = event
            case protocol.NoticeOn() | protocol.NoticeOff() | protocol.NoticeAcknowledged():
                _note_notice(state.notices, event)

    def _number_of(self, stream: str) -> int:
        number = self._numbers.get(stream)
        if number is None:
            raise ProtocolError(
                f"there is no stream {stream!r}; the hub was made for {sorted(self._numbers)}"
            )
        return number


def _note_notice(
    notices: dict[int, protocol.NoticeState],
    event: protocol.NoticeOn | protocol.NoticeOff | protocol.NoticeAcknowledged,
) -> None:
    """Keep the notices that go on or that nobody has acknowledged, the last of them."""
    if isinstance(event, protocol.NoticeOn):
        notices[event.id] = protocol.NoticeState(on=event)
        while len(notices) > MOST_NOTICES:
            del notices[next(iter(notices))]
    elif (known := notices.get(event.id)) is not None:
        ended = isinstance(event, protocol.NoticeOff)
        known = msgspec.structs.replace(
            known,
            off=event if ended else known.off,
            acknowledged=known.acknowledged or not ended,
        )
        notices[event.id] = known
        if known.acknowledged and known.off is not None:
            del notices[event.id]
