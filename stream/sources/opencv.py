"""What the sources behind ``cv2.VideoCapture`` share: logs, options, decoding, one time line."""

from __future__ import annotations

import functools
import math
import os
import threading
from typing import Any

import cv2
from numpy.typing import NDArray

from .base import Grab, ProbedSource, to_bgr8

__all__ = ["Timeline", "VideoSource", "prefer_tcp", "quiet_logs"]

_CAPTURE_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_WHOLE_SHARE = 0.9
"""Durations and numbers of frames are estimates: up to a tenth may be missing from a healthy
file."""
_PTS = 71
"""``cv2.CAP_PROP_PTS``, the stamp of the last picture in frame periods. OpenCV 4.10 does not have
it and answers 0: then the number of frames alone decides."""
_environment_lock = threading.Lock()


@functools.cache
def quiet_logs() -> None:
    """Keep OpenCV and FFmpeg from writing to stderr, once per process.

    Whatever they complain about ends in a :class:`~facestage.core.errors.SourceError` or a log
    record of ours. ``OPENCV_LOG_LEVEL`` and ``OPENCV_FFMPEG_LOGLEVEL``, where the user has set
    them, stay in force. FFmpeg's level is read at its first use only.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_FATAL)


def prefer_tcp() -> None:
    """Make FFmpeg carry RTSP over TCP: over UDP lost packets become smeared faces.

    OpenCV takes the option from a variable of the process's environment only, and reads it at
    each open. Options of the user are kept, and a transport the user chose wins.
    """
    with _environment_lock:
        options = os.environ.get(_CAPTURE_OPTIONS, "")
        if "rtsp_transport" in options or "rtsp_flags" in options:
            return
        os.environ[_CAPTURE_OPTIONS] = "|".join(filter(None, (options, "rtsp_transport;tcp")))


class Timeline:
    """Positions in a medium that always grow.

    Containers without time stamps give 0 for every frame, reordered frames may step back a little,
    and streams restart their clock. A position that does not grow is replaced by the last one plus
    one frame period (for a container without stamps: index / fps); after a step back of more than
    a second all later positions are shifted, so that the line goes on instead of standing still.

    Args:
        fps: frames per second, None if unknown (then 30 is assumed for the replaced positions).
    """

    _RESTART_S = 1.0

    def __init__(self, fps: float | None) -> None:
        self._period = 1.0 / (fps or 30.0)
        self._shift = 0.0
        self._last: float | None = None

    def update(self, stated_s: float) -> float:
        """Return the position of the next frame, seconds, given the one the container states."""
        usable = math.isfinite(stated_s)
        if self._last is None:
            self._last = max(0.0, stated_s) if usable else 0.0
            return self._last
        position = stated_s + self._shift if usable else self._last
        if position <= self._last:
            replaced = self._last + self._period
            if self._last - position > self._RESTART_S:
                self._shift += replaced - position
            position = replaced
        self._last = position
        return position


class VideoSource(ProbedSource):
    """A source read through an open ``cv2.VideoCapture``, which a subclass puts into ``_video``."""

    _video: cv2.VideoCapture
    _timeline: Timeline | None = None
    """Positions in the medium; None where it has no clock."""
    _decoded = 0
    """Pictures decoded so far."""
    _first_tick = 0.0
    """Where the clock of the container starts, in frame periods."""

    def close(self) -> None:
        """Release the device, file or connection."""
        self._first = None
        self._video.release()

    def _decode(self) -> Grab | None:
        """Return the next picture, or None where there is none."""
        ok, image = self._video.read()
        return self._numbered(image) if ok else None

    def _breaks_off(self) -> bool:
        """Tell, after the last picture, whether a recording ended well before its stated end.

        Most containers state no number of frames, and OpenCV makes one up: duration times rate. It
        is too large where the rate varies and where the clock starts late, because the duration
        counts from zero. So too few frames are a sign only if the last one lies early, too.
        """
        stated = self.frame_count
        if stated is None or self._decoded >= _WHOLE_SHARE * stated:
            return False
        read = self._video.get(_PTS) + 1.0 - self._first_tick
        # A clock that starts beyond the stated end says nothing about where that end lies.
        late_start = self._first_tick if 0.0 < self._first_tick < stated else 0.0
        return read < _WHOLE_SHARE * (stated - late_start)

    def _numbered(self, image: NDArray[Any]) -> Grab:
        """Give a picture its index and, where there is a clock, its position."""
        pts = None
        if self._timeline is not None:
            if self._decoded == 0:
                self._first_tick = self._video.get(_PTS)
            pts = self._timeline.update(self._video.get(cv2.CAP_PROP_POS_MSEC) / 1000.0)
        grab = Grab(to_bgr8(image), self._decoded, pts)
        self._decoded += 1
        return grab
