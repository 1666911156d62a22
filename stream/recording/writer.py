"""Write one session: the files of the present hour, and the index of what is whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..files import write_file
from .files import AppendedFile, Index, PackedFile
from .folder import EVENTS, HEAD, Head
from .video import VideoRecorder

__all__ = ["HOUR_S", "MARK_S", "SessionWriter"]

HOUR_S = 3600.0
"""Samples of so many seconds share a file."""
MARK_S = 60.0
"""So often the index notes what is whole, seconds. A damaged file costs a minute, not an hour; a
seek reads at most so much in vain."""


class SessionWriter:
    """Append to the files of a session; for one thread.

    Args:
        folder: an empty folder.
        head: what is known at the begin.
        video: whether there is video.

    Raises:
        ModelError: the head cannot be written.
        OSError: a file cannot be made.

    Attributes:
        events: number of the last event written.
        video: writes the pictures; None where none are kept.
    """

    def __init__(self, folder: Path, head: Head, *, video: bool = False) -> None:
        self._folder = folder
        self.events = head.before.seq
        self._encode = msgspec.json.Encoder().encode
        data = msgspec.json.format(self._encode(head), indent=1) + b"\n"
        write_file(folder / HEAD, data)
        self._head_bytes = len(data)
        self._index = Index(folder)
        self._events = AppendedFile(folder, EVENTS)
        self._hour = -1
        self._samples: dict[str, PackedFile] = {}
        self._done_bytes = 0
        self._marked_s = 0.0
        self.video = VideoRecorder(folder) if video else None

    @property
    def size(self) -> int:
        """Bytes of the session on the disk."""
        files = sum(file.size for file in self._files())
        video = 0 if self.video is None else self.video.bytes
        return self._head_bytes + self._index.size + self._done_bytes + files + video

    def event(self, at: float, seq: int, message: bytes) -> None:
        """Write an event.

        Args:
            at: seconds since the session began.
            seq: its number.
            message: as clients get it.

        Raises:
            OSError: the disk is full or broken.
        """
        self._turn(at)
        self._events.append(self._line(at, message), at)
        self.events = seq

    def sample(self, kind: str, at: float, message: bytes) -> None:
        """Take a sample.

        Args:
            kind: :data:`~.folder.FRAMES` or :data:`~.folder.HEAT`.
            at: seconds since the session began.
            message: as clients get it.

        Raises:
            OSError: the disk is full or broken.
        """
        self._turn(at)
        if kind not in self._samples:
            name = f"{kind}/{self._hour:04d}.jsonl.gz"
            self._samples[kind] = PackedFile(self._folder, name)
        self._samples[kind].append(self._line(at, message), at)

    def flush(self) -> None:
        """Hand everything to the system, so that it survives the end of this process."""
        for file in self._files():
            file.flush()

    def sync(self) -> None:
        """Wait until all is on the disk."""
        self.flush()
        for file in self._files():
            file.sync()
        self._mark_video()

    def close(self, *, seconds: float, dropped: int, reason: str) -> None:
        """Write what is left, and that the session is complete.

        Args:
            seconds: how long it is.
            dropped: samples that never came here.
            reason: why it ends; empty if somebody asked for it.

        Raises:
            OSError: the disk is full or broken; the session is then readable, and not complete.
        """
        try:
            if self.video is not None:
                self.video.close()
            self._mark_video()
            self._mark()
            self._index.end(seconds=seconds, events=self.events, dropped=dropped, reason=reason)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files as they are."""
        if self.video is not None:
            self.video.close()
        for file in (*self._files(), self._index):
            with contextlib.suppress(OSError):
                file.close()

    def _mark(self) -> None:
        for file in self._files():
            whole = file.mark()
            if whole is not None:
                file.sync()
                self._index.add(whole)

    def _mark_video(self) -> None:
        for whole in () if self.video is None else self.video.finished():
            self._index.add(whole)

    def _files(self) -> Iterator[AppendedFile]:
        yield self._events
        yield from self._samples.values()

    def _line(self, at: float, message: bytes) -> bytes:
        return self._encode((round(at, 6), msgspec.Raw(message))) + b"\n"

    def _turn(self, at: float) -> None:
        """Note each minute what is whole, and begin other files each hour."""
        hour = int(at // HOUR_S)
        if hour <= self._hour and at - self._marked_s < MARK_S:
            return
        self._mark()
        self._marked_s = at
        if hour <= self._hour:
            return
        for file in self._samples.values():
            file.close()
            self._done_bytes += file.size
        self._samples.clear()
        self._hour = hour
