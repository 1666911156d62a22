"""The player: a session through a hub, at its own pace or another, moved by whoever watches."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import takewhile

import msgspec

from ...core.errors import ProtocolError
from .. import protocol
from ..server.hub import PICTURE
from .film import Film, PictureAt
from .reader import Record, Session
from .replay_hub import ReplayHub

__all__ = ["Player"]

TELL_S = 0.25
"""So often clients are told where the replay is, seconds."""
_LOOK_BACK_S = 2.0
"""The samples that hold at a moment are sought so far before it, seconds."""
_BEFORE_ALL = -math.inf


class Player:
    """Play a session; :meth:`run` in a thread of its own.

    Args:
        session: what is played.
        speed: seconds of the session per second; None: as fast as it can be sent.
        start_s: where to begin, seconds.
        playing: whether it plays from the start; else a client has to send ``play``.
        ticks: clock that is never set, seconds.

    Attributes:
        hub: where its messages go.
        ended: set while it stands at the end.
    """

    def __init__(
        self,
        session: Session,
        *,
        speed: float | None = 1.0,
        start_s: float = 0.0,
        playing: bool = True,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._ticks = ticks
        self._start_s = start_s
        self._playing = playing
        self._mark: tuple[float, float | None, float | None] = (start_s, None, speed)
        """Where the replay was, what the clock showed then (None: time stands still), and the
        speed. The server's thread reads it, so it is set in one."""
        self._told = -math.inf
        self._changed = threading.Condition()
        self._commands: deque[protocol.Replay] = deque()
        self._stopped = False
        self.ended = threading.Event()
        self.hub = ReplayHub(session.head, self.position)
        self._film = Film()
        self._coming: Iterator[Record] = iter(())
        self._next: Record | None = None
        self._frame_s = _BEFORE_ALL
        """Time of the last frame that was published."""

    def hello(self) -> protocol.Hello:
        """Return what clients are told first: as it was live, and that it is a replay."""
        head = self._session.head
        replay = protocol.Replaying(
            duration_s=round(self._session.duration_s, 3), start=head.clock.wall
        )
        return msgspec.structs.replace(
            head.hello, replay=replay, allow_control=False, video=self._session.has_video
        )

    def position(self) -> float:
        """Return where the replay is, seconds since the session began."""
        position, since, speed = self._mark
        if since is None or speed is None:
            return position
        return min(position + (self._ticks() - since) * speed, self._session.duration_s)

    def command(self, message: protocol.Body) -> None:
        """Move in the replay as a client commands; done in the player's thread, in order.

        Raises:
            ProtocolError: it is another command.
        """
        if not isinstance(message, protocol.Replay):
            raise ProtocolError(f"{message.type!r} is for a live server; this one replays")
        with self._changed:
            self._commands.append(message)
            self._changed.notify()

    def stop(self) -> None:
        """Ask :meth:`run` to end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def run(self) -> None:
        """Play until :meth:`stop`; at the end it waits for commands."""
        try:
            self._run()
        finally:
            self._film.close()

    def _run(self) -> None:
        self._go_to(self._start_s)
        self._tell()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._commands, self._patience())
                if self._stopped:
                    return
                command = self._latest_command()
            if command is not None:
                self._obey(command)
            elif self._playing:
                self._play()

    # --- In the thread --------------------------------------------------------------------

    def _patience(self) -> float | None:
        """Return how long nothing is due but commands, seconds; None: for ever."""
        if not self._playing:
            return None
        speed = self._mark[2]
        if self._next is None or speed is None:
            return 0.0
        due = (self._next.at - self.position()) / speed
        return min(max(due, 0.0), TELL_S)

    def _latest_command(self) -> protocol.Replay | None:
        """Return the next command; of a run of ``seek`` the last, as only that matters."""
        command = self._commands.popleft() if self._commands else None
        while command is not None and command.command == "seek" and self._commands:
            if self._commands[0].command != "seek":
                break
            command = self._commands.popleft()
        return command

    def _play(self) -> None:
        """Publish what is due, and say from time to time where the replay is."""
        at_once = self._mark[2] is None
        if at_once and self._next is not None:
            self._set(self._next.at)
        now = self.position()
        while self._next is not None and self._next.at <= now:
            self._publish_next()
            if at_once or self._commands or self._stopped:
                break
        if self._next is None:
            self._playing = False
            self._set(self._session.duration_s)
            self._tell()
            self.ended.set()
        elif self._ticks() - self._told >= TELL_S:
            self._tell()

    def _publish_next(self) -> None:
        record = self._next
        assert record is not None
        if record.picture is not None:
            self._show(record.picture)
        self.hub.put(record)
        if _is_frame(record):
            self._frame_s = record.at
        self._next = next(self._coming, None)

    def _show(self, at: PictureAt) -> None:
        """Publish a picture, if anybody watches."""
        streams = {stream.number: stream.id for stream in self.hub.streams}
        stream = streams.get(at.number)
        if stream is not None and self.hub.wants(PICTURE, stream):
            jpeg = self._film.jpeg(at)
            if jpeg is not None:
                self.hub.publish_picture(at.frame, jpeg, stream=stream)

    def _obey(self, command: protocol.Replay) -> None:
        value = command.value
        match command.command:
            case "play":
                self._playing = True
                if self.ended.is_set():
                    self._go_to(0.0)
                self._set(self.position())
            case "pause":
                self._playing = False
                self._set(self.position())
            case "seek":
                self._go_to(0.0 if value is None else value)
            case "speed":
                self._mark = (self.position(), self._ticks() if self._playing else None, value)
            case "step":
                self._step(1 if value is None else int(value))
        self._tell()

    def _step(self, frames: int) -> None:
        self._playing = False
        self._set(self.position())
        if frames < 0:
            self._go_to(self._frame_before(-frames))
            return
        while frames > 0 and self._next is not None:
            frames -= _is_frame(self._next)
            self._set(self._next.at)
            self._publish_next()

    def _frame_before(self, frames: int) -> float:
        """Return the time of a frame so many before the last one."""
        back = _LOOK_BACK_S
        while True:
            start = self._frame_s - back
            samples = self._session.samples(start)
            before = takewhile(lambda record: record.at < self._frame_s, samples)
            times = [record.at for record in before if _is_frame(record)]
            if len(times) >= frames:
                return times[-frames]
            if start <= 0:
                return times[0] if times else 0.0
            back *= 8

    def _go_to(self, position: float) -> None:
        """Go to a time, held within the session; what plays goes on from there."""
        position = min(max(position, 0.0), self._session.duration_s)
        self.ended.clear()
        session, before = self._session, self._session.head.before
        self._playing, playing = False, self._playing
        self._set(position)
        self._frame_s = _BEFORE_ALL
        if position > 0:
            events = list(_until(position, session.events()))
            latest = self._latest(position)
            self.hub.jump(before, events, latest)
            self._show_latest(position, latest)
            self._coming = session.records(math.nextafter(position, math.inf))
        else:
            self.hub.jump(before, (), ())
            self._coming = session.records()
        self._next = next(self._coming, None)
        self._playing = playing
        self._set(position)

    def _latest(self, position: float) -> list[Record]:
        """Return the latest sample of each kind and stream at a time; note the last frame's.

        Masks are kept ten times a second. Of each stream the frame is the one of its latest masks,
        as pages draw only what belongs together; it is a tenth of a second older at most.
        """
        latest: dict[tuple[str, str | None], Record] = {}
        masked: dict[str | None, int] = {}
        for record in _until(position, self._session.heat(position - _LOOK_BACK_S)):
            if record.envelope is not None:
                latest[record.envelope.type, record.envelope.stream] = record
                masked[record.envelope.stream] = record.envelope.data.frame
        for record in _until(position, self._session.samples(position - _LOOK_BACK_S)):
            if record.envelope is None:
                continue
            if _is_frame(record):
                self._frame_s = record.at
                number = record.envelope.data.frame
                if number > masked.get(record.envelope.stream, number):
                    continue
            latest[record.envelope.type, record.envelope.stream] = record
        return list(latest.values())

    def _show_latest(self, position: float, latest: list[Record]) -> None:
        """Publish the pictures of the frames that are shown at a time."""
        numbers = {stream.id: stream.number for stream in self.hub.streams}
        frames = {
            numbers.get(record.envelope.stream or ""): record.envelope.data.frame
            for record in latest
            if record.envelope is not None and _is_frame(record)
        }
        shown: dict[int, PictureAt] = {}
        for record in _until(position, self._session.pictures(position - _LOOK_BACK_S)):
            picture = record.picture
            if picture is not None and picture.frame <= frames.get(picture.number, picture.frame):
                shown[picture.number] = picture
        for picture in shown.values():
            self._show(picture)

    def _set(self, position: float) -> None:
        """Let time go on from a moment, or stand still there."""
        self._mark = (position, self._ticks() if self._playing else None, self._mark[2])

    def _tell(self) -> None:
        self._told = self._ticks()
        self.hub.publish_sample(
            protocol.ReplayState(
                playing=self._playing,
                speed=self._mark[2],
                position_s=round(self.position(), 3),
                duration_s=round(self._session.duration_s, 3),
            )
        )


def _until(position: float, records: Iterator[Record]) -> Iterator[Record]:
    return takewhile(lambda record: record.at <= position, records)


def _is_frame(record: Record) -> bool:
    return record.envelope is not None and record.envelope.type == protocol.FrameSample.type
