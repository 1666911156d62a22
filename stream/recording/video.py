"""Pictures as clients may see them, as video with the times they had; in a thread of its own.

H.264 in fragments of MP4: a file that breaks off plays up to its last fragment. Beside each file
stands ``….jsonl.gz`` with a line per picture, ``[seconds, time, frame]``: when it came, since the
session began; its time in the video, which begins with 0, in units of a 90,000th of a second; and
the number of its frame.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType
from numpy.typing import NDArray

from .files import PackedFile
from .folder import VIDEO, Range

__all__ = ["CLOCK", "MOST_PICTURES", "VideoRecorder"]

CLOCK = 90_000
"""Units of time in a second."""
MOST_PICTURES = 60
"""Pictures that may wait: two seconds of a camera, some 6 MB."""
PART_S = 3600.0
"""A file holds so much at most, seconds."""
KEY_S = 0.5
"""From one picture that stands for itself, and one fragment, to the next, seconds: what a seek
decodes in vain, and what a killed process loses."""
_OPTIONS = {"preset": "superfast", "crf": "26", "tune": "zerolatency", "bf": "0"}
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
_PIECE = 1 << 20


class _Part:
    """A video file under way, with the list of its pictures."""

    def __init__(self, folder: Path, name: str, size: tuple[int, int], began: float) -> None:
        self.size, self.began = size, began
        self.list = PackedFile(folder, f"{VIDEO}/{name}.jsonl.gz")
        self.name = f"{VIDEO}/{name}.mp4"
        self._path = folder / self.name
        # Made by us, so that nobody else may read it; FFmpeg opens it again.
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._file: Any = av.open(str(self._path), "w", format="mp4", options=_FRAGMENTS)
        self._video: Any = self._file.add_stream("libx264", rate=30, options=_OPTIONS)
        self._video.width, self._video.height = (side // 2 * 2 for side in size)
        self._video.pix_fmt = "yuv420p"
        self._video.time_base = self._video.codec_context.time_base = Fraction(1, CLOCK)
        self._last, self._key = -1, -CLOCK

    def add(self, at: float, frame: int, image: NDArray[np.uint8]) -> None:
        time = max(self._last + 1, round((at - self.began) * CLOCK))
        width, height = self._video.width, self._video.height
        even = np.ascontiguousarray(image[:height, :width])
        picture = av.VideoFrame.from_ndarray(even, format="bgr24")
        picture.pts, picture.time_base = time, Fraction(1, CLOCK)
        if time - self._key >= KEY_S * CLOCK:
            picture.pict_type, self._key = PictureType.I, time
        for packet in self._video.encode(picture):
            self._file.mux(packet)
        self._last = time
        self.list.append(b"[%.6f,%d,%d]\n" % (at, time, frame), at)

    def flush(self) -> None:
        self.list.flush()

    @property
    def bytes(self) -> int:
        return self._path.stat().st_size + self.list.size

    def end(self) -> Iterator[Range]:
        """Close both files, and say what they hold."""
        for packet in self._video.encode():
            self._file.mux(packet)
        self._file.close()
        total, size = hashlib.sha256(), 0
        with self._path.open("rb") as file:
            while data := file.read(_PIECE):
                total.update(data)
                size += len(data)
            os.fsync(file.fileno())
        listed = self.list.mark()
        self.list.sync()
        self.list.close()
        yield Range(file=self.name, start=0, end=size, sha256=total.hexdigest())
        if listed is not None:
            yield listed


class VideoRecorder:
    """Write pictures as video, a file per stream and hour.

    Args:
        folder: of the session.

    Attributes:
        dropped: pictures that found the queue full.
        error: why nothing more can be written; None as long as it can.
        bytes: size of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, int, float, bytes]] = deque()
        self._closed = False
        self._parts: dict[int, _Part] = {}
        self._counts: dict[int, int] = {}
        self._finished: list[Range] = []
        self._done_bytes = 0
        self.bytes = 0
        self.dropped = 0
        self.error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="recorder video", daemon=True)
        self._thread.start()

    def take(self, number: int, frame: int, at: float, jpeg: bytes) -> None:
        """Take a picture; returns at once.

        Args:
            number: of its stream.
            frame: its number.
            at: seconds since the session began.
            jpeg: as clients get it.
        """
        with self._changed:
            if len(self._waiting) >= MOST_PICTURES or self.error is not None:
                self.dropped += 1
                return
            self._waiting.append((number, frame, at, jpeg))
            self._changed.notify()

    def finished(self) -> list[Range]:
        """Return what was finished since the last call.

        Raises:
            OSError: nothing more can be written.
        """
        if self.error is not None:
            raise self.error
        with self._changed:
            done, self._finished = self._finished, []
            return done

    def close(self) -> None:
        """Write what waits, and end the files."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while (waiting := self._next()) is not None:
                for number, frame, at, jpeg in waiting:
                    self._write(number, frame, at, jpeg)
                for part in self._parts.values():
                    part.flush()
                self.bytes = self._done_bytes + sum(part.bytes for part in self._parts.values())
            for number in list(self._parts):
                self._end(number)
        except (OSError, FFmpegError) as error:
            # FFmpeg's errors of the system have its numbers.
            self.error = OSError(error.errno or 0, error.strerror)

    def _next(self) -> list[tuple[int, int, float, bytes]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            taken = list(self._waiting)
            self._waiting.clear()
            return taken or None

    def _write(self, number: int, frame: int, at: float, jpeg: bytes) -> None:
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            return
        size = image.shape[1], image.shape[0]
        part = self._parts.get(number)
        if part is not None and (part.size != size or at - part.began >= PART_S):
            self._end(number)
            part = None
        if part is None:
            count = self._counts.get(number, 0)
            self._counts[number] = count + 1
            part = _Part(self._folder, f"{number}-{count:04d}", size, at)
            self._parts[number] = part
        part.add(at, frame, image.astype(np.uint8, copy=False))

    def _end(self, number: int) -> None:
        part = self._parts.pop(number)
        done = list(part.end())
        self._done_bytes += sum(one.end for one in done)
        with self._changed:
            self._finished += done
