"""Pictures of a recorded video, by their time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
from av.error import FFmpegError

from .video import CLOCK

__all__ = ["Film", "PictureAt"]

_AHEAD = 2 * CLOCK
"""So far ahead it is cheaper to decode on than to seek."""
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class PictureAt:
    """Where a picture is.

    Attributes:
        number: of its stream.
        frame: its number.
        path: its video.
        time: its time there, in units of :data:`~.video.CLOCK`.
    """

    number: int
    frame: int
    path: Path
    time: int


class Film:
    """Reads pictures, one after the other as a rule; for one thread."""

    def __init__(self) -> None:
        self._files: dict[int, tuple[Path, Any, Iterator[Any]]] = {}
        self._last: dict[int, int] = {}

    def jpeg(self, at: PictureAt) -> bytes | None:
        """Return a picture; None where its video is missing, cut off before it, or damaged."""
        try:
            picture = self._find(at)
        except (FFmpegError, OSError):
            return None
        if picture is None:
            return None
        image = picture.to_ndarray(format="bgr24")
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()

    def close(self) -> None:
        """Close the files."""
        for _, file, _ in self._files.values():
            with contextlib.suppress(FFmpegError, OSError):
                file.close()
        self._files.clear()

    def _find(self, at: PictureAt) -> Any:
        known = self._files.get(at.number)
        last = self._last.get(at.number, -1)
        if known is None or known[0] != at.path:
            if known is not None:
                known[1].close()
            file: Any = av.open(str(at.path))
            known = (at.path, file, file.decode(file.streams.video[0]))
            last = -1
        if not last < at.time <= last + _AHEAD:
            file = known[1]
            file.seek(at.time, stream=file.streams.video[0], backward=True)
            known = (at.path, file, file.decode(file.streams.video[0]))
        self._files[at.number] = known
        for picture in known[2]:
            self._last[at.number] = picture.pts
            if picture.pts >= at.time:
                return picture if picture.pts == at.time else None
        self._last[at.number] = -2 * _AHEAD
        return None
