"""The recorder: what the hub publishes, on its way to the disk in a thread of its own.

The analysis never waits for the disk. What is published is put into a queue; the thread writes it.
Samples that find the queue full are dropped, and counted; events are not. When the disk is full or
refuses, the recording ends with an event, and the analysis goes on.
"""

from __future__ import annotations

import datetime
import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from ...core.errors import ConfigError, FacestageError, ProtocolError
from .. import protocol
from ..server.hub import PICTURE, Hub, Past
from .folder import FRAMES, HEAT, Before, Clock, Head, session_folder
from .waiting import Waiting, WaitingQueue
from .writer import SessionWriter

__all__ = ["LEAST_FREE_BYTES", "MOST_BYTES", "Plan", "Recorder"]

logger = logging.getLogger(__name__)

MOST_BYTES = 20 * 10**9
"""Size at which a recording ends, unless another is asked for, bytes."""
LEAST_FREE_BYTES = 512 * 1024 * 1024
"""Room that is left to others on the disk, bytes."""
FLUSH_S = 0.25
"""So often everything is handed to the system: what a killed process loses, seconds."""
SYNC_S = 1.0
"""So often everything is put on the disk, and the room looked at: what a power cut loses."""
CLOCK_STEP_S = 1.0
"""A wall clock that jumps by so much against the other was set, seconds."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is recorded, and where.

    Attributes:
        place: folder of the sessions.
        name: what sessions are called.
        hello: what clients are told first.
        model: ``name``, ``version`` and ``sha256`` of the AU network.
        settings: option → value, of those that decide what is found.
        most_bytes: size at which a session ends.
        least_free_bytes: room that is left on the disk.
        video: whether the pictures that clients may see are kept.
    """

    place: Path
    name: str
    hello: protocol.Hello
    model: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    most_bytes: int = MOST_BYTES
    least_free_bytes: int = LEAST_FREE_BYTES
    video: bool = False


@dataclass(slots=True)
class _Session:
    """One recording from its begin to its end.

    Attributes:
        folder: where it is written.
        queue: what waits to be written.
        skew: wall clock minus the other one, seconds, as last seen.
        reason: why it ended; empty if somebody asked for it.
        bytes: its size as last looked at.
    """

    folder: Path
    queue: WaitingQueue
    skew: float
    reason: str = ""
    bytes: int = 0


class Recorder:
    """Record what a hub publishes, one session after the other.

    Args:
        hub: what is recorded.
        plan: what, and where.
        wall: wall clock, seconds since 1970.
        ticks: clock that is never set, seconds.
        free: returns the room left on the disk of a folder, bytes.

    Attributes:
        folder: of the session that is written, or of the last; None before the first.
        dropped: samples lost in it because the disk was too slow.
        dropped_pictures: pictures lost because they came faster than they were encoded.
    """

    def __init__(
        self,
        hub: Hub,
        plan: Plan,
        *,
        wall: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._hub, self._plan = hub, plan
        self._wall, self._ticks, self._free = wall, ticks, free
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._thread: threading.Thread | None = None
        self.folder: Path | None = None
        self.dropped = self.dropped_pictures = 0

    @property
    def recording(self) -> bool:
        """Whether a session is being written."""
        return self._session is not None

    def start(self) -> Path:
        """Begin a session; where one is being written nothing happens.

        Returns:
            Its folder.

        Raises:
            ConfigError: the folder cannot be made or written, or too little room is left.
        """
        with self._lock:
            if self._session is not None:
                return self._session.folder
            plan, wall, began = self._plan, self._wall(), self._ticks()
            folder = session_folder(plan.place, plan.name, wall)
            self._check_room(folder)
            queue = WaitingQueue(self._ticks, began, {one.id for one in self._hub.streams})
            past = self._hub.tap(queue)
            try:
                clock = Clock(wall=wall, monotonic=began)
                head = _head(plan, self._hello(), clock, past)
                writer = SessionWriter(folder, head, video=plan.video)
                queue.video = writer.video
            except (OSError, FacestageError) as error:
                self._hub.tap(None)
                raise ConfigError(
                    f"--record {plan.place}: no session can be written there ({error}); name a "
                    "folder of your own"
                ) from error
            session = _Session(folder, queue, wall - began)
            self._session, self.folder, self.dropped = session, folder, 0
            wanted = ("frame", "heat", *((PICTURE,) if plan.video else ()))
            self._hub.set_interest(self, wanted, None)
            self._tell(session, "recording", "")
            self._thread = threading.Thread(
                target=self._run, args=(session, writer), name="recorder", daemon=True
            )
            self._thread.start()
            return folder

    def stop(self) -> None:
        """End the session and wait until it is written; without one nothing happens."""
        with self._lock:
            session, thread = self._session, self._thread
        if session is not None and self._release(session, ""):
            session.queue.close()
        if thread is not None:
            thread.join()

    def command(self, message: protocol.Body) -> None:
        """Begin or end a recording as a client commands, without waiting for it.

        Raises:
            ProtocolError: it is another command.
        """
        if not isinstance(message, protocol.RecordStart | protocol.RecordStop):
            raise ProtocolError(f"{message.type!r} is for a replay; this server is live")
        started = isinstance(message, protocol.RecordStart)
        target = self._start_or_tell if started else self.stop
        threading.Thread(target=target, name="recorder command", daemon=True).start()

    def _start_or_tell(self) -> None:
        try:
            self.start()
        except ConfigError as error:
            logger.warning("%s", error)
            # The path is the server's own business.
            reason = "the folder of recordings cannot be written; the server's log says why"
            self._hub.publish_event(
                protocol.RecordState(state="stopped", reason=reason), stream=None
            )

    def _hello(self) -> protocol.Hello:
        """Return what clients are told first, as far as it holds for a recording."""
        hub = self._hub
        return msgspec.structs.replace(
            self._plan.hello, epoch=hub.epoch, streams=hub.streams, allow_control=False, video=False
        )

    def _check_room(self, folder: Path) -> None:
        free = self._free(folder)
        if free < self._plan.least_free_bytes:
            folder.rmdir()
            raise ConfigError(
                f"--record {self._plan.place}: only {free / 1e6:.0f} MB are free there, "
                f"{self._plan.least_free_bytes / 1e6:.0f} MB must be left; free some space, or "
                "name a folder on another disk"
            )

    def _tell(self, session: _Session, state: Literal["recording", "stopped"], reason: str) -> None:
        self._hub.publish_event(
            protocol.RecordState(
                state=state, name=session.folder.name, reason=reason, bytes=session.bytes
            ),
            stream=None,
        )

    def _release(self, session: _Session, reason: str) -> bool:
        """Let nothing more come into a session; return whether it was not so already."""
        with self._lock:
            if self._session is not session:
                return False
            self._session = None
        session.reason = reason
        self._tell(session, "stopped", reason)
        self._hub.tap(None)
        self._hub.clear_interest(self)
        return True

    # --- In the thread --------------------------------------------------------------------

    def _run(self, session: _Session, writer: SessionWriter) -> None:
        try:
            self._write(session, writer)
            seconds = session.queue.now()
            self.dropped = session.queue.dropped
            if writer.video is not None:
                self.dropped_pictures = writer.video.dropped
            writer.close(seconds=seconds, dropped=session.queue.dropped, reason=session.reason)
        except Exception as error:
            writer.abandon()
            reason = _why(error)
            logger.warning("recording %s ended: %s", session.folder, reason)
            self._release(session, reason)
            session.queue.close()
            if not isinstance(error, OSError | FacestageError):
                raise
        finally:
            session.bytes = writer.size

    def _write(self, session: _Session, writer: SessionWriter) -> None:
        """Write until nothing comes any more."""
        flushed = synced = self._ticks()
        while (waiting := session.queue.take(FLUSH_S)) is not None:
            for one in waiting:
                _write_one(writer, one)
            now = self._ticks()
            if now - flushed >= FLUSH_S:
                flushed = now
                writer.flush()
            if now - synced >= SYNC_S:
                synced = now
                writer.sync()
                session.bytes = writer.size
                self._look(session)

    def _look(self, session: _Session) -> None:
        """Look at the room left and at the clock; end the session where it must end."""
        plan, free = self._plan, self._free(session.folder)
        reason = ""
        if session.bytes >= plan.most_bytes:
            reason = f"the recording has reached {plan.most_bytes / 1e6:.0f} MB (--record-max)"
        elif free < plan.least_free_bytes:
            reason = f"only {free / 1e6:.0f} MB are left on the disk; free some space"
        if reason and self._release(session, reason):
            session.queue.close()
        step = self._wall() - self._ticks() - session.skew
        if abs(step) >= CLOCK_STEP_S and not reason:
            session.skew += step
            way = "back" if step < 0 else "forward"
            self._tell(
                session,
                "recording",
                f"the clock was set {way} by {abs(step):.1f} s; the recording keeps time by the "
                "clock that is never set",
            )


def _write_one(writer: SessionWriter, one: Waiting) -> None:
    if one.message is not None:
        writer.event(one.at, one.seq, one.message)
        return
    assert one.sample is not None
    stream, t_capture, t_emit = one.envelope
    message = protocol.encode(one.sample, stream=stream, t_capture=t_capture, t_emit=t_emit)
    kind = HEAT if isinstance(one.sample, protocol.Heat) else FRAMES
    writer.sample(kind, one.at, message)


def _head(plan: Plan, hello: protocol.Hello, clock: Clock, past: Past) -> Head:
    began = datetime.datetime.fromtimestamp(clock.wall).astimezone()
    return Head(
        name=plan.name,
        began=began.isoformat(timespec="milliseconds"),
        clock=clock,
        hello=hello,
        model=plan.model,
        settings=plan.settings,
        before=Before(
            seq=past.seq,
            snapshots=past.snapshots,
            events=tuple(message.decode() for message in past.prototypes),
        ),
    )


def _why(error: BaseException) -> str:
    """Say in a sentence why nothing more can be written, without a path."""
    if isinstance(error, OSError):
        advice = "free some space" if error.errno in _FULL else "look at the disk"
        return f"nothing more can be written ({os.strerror(error.errno or 0)}); {advice}"
    return f"nothing more can be written ({error})"
