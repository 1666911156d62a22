"""Videos decoded by FFmpeg (PyAV): files and network streams.

OpenCV's own FFmpeg reader says of an interlaced picture that it was read and hands over memory that
was never written; it keeps no pixel shape, no mirror, no later size, and calls a broken picture
good. So OpenCV reads cameras and images only.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from collections.abc import Generator
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.error import EOFError as EndError
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ...core.errors import SourceError
from ...core.steps import step
from .base import Grab, ProbedSource, valid_count, valid_fps
from .display import Display, Shown

__all__ = ["Decoder", "Timeline", "VideoSource"]

logger = logging.getLogger(__name__)

_WHOLE_SHARE = 0.9
"""Durations and numbers of frames are estimates: up to a tenth may be missing from a healthy
file."""
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_NO_VIDEO = ("tty",)
"""Formats FFmpeg finds in any text file."""
_STRICT = ("mjpeg",)
"""Codecs whose decoder finishes a broken picture without a word unless it is told to be strict.
Strict decoders of pictures that build on each other throw away healthy ones with the broken."""
_SILENT = ("h264", "hevc")
"""Codecs whose decoder, after a broken picture, keeps those that build on it without a word."""
_MOST_THREADS = 16


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


class Decoder:
    """The pictures of one video, as a player shows them.

    Args:
        address: absolute path of a file, or an address.
        name: name safe to show, for errors.
        options: options of FFmpeg's demuxer and protocol.
        timeout: longest waits for opening and for each read, seconds; None waits for ever.
        live: give each picture at once: one thread, no picture held back.
        patience_s: longest time of broken pictures only before :meth:`read` gives up, seconds.

    Attributes:
        fps: stated frames per second, or None.
        frame_count: stated number of frames, or None.
        format: FFmpeg's name of the container.
        damaged: broken pictures left out before the one read last; at the end, all of them.

    Raises:
        SourceError: what was opened holds no video, or nothing this FFmpeg can decode.
        av.error.FFmpegError: it cannot be opened.
    """

    def __init__(
        self,
        address: str,
        name: str,
        *,
        options: dict[str, str] | None = None,
        timeout: tuple[float, float] | None = None,
        live: bool = False,
        patience_s: float = math.inf,
    ) -> None:
        self._name = name
        self._patience_s = patience_s
        self._whole_s = time.monotonic()
        self.damaged = 0
        self._ahead: list[int] = []
        """Stamps of pictures that are broken, or not given out yet since one was."""
        self._container: InputContainer = av.open(
            address, "r", options=options or {}, timeout=timeout, metadata_errors="replace"
        )
        try:
            self.format = self._container.format.name
            self._stream = _choose_stream(self._container, name)
            self._start(live)
        except BaseException:
            self._container.close()
            raise

    def _start(self, live: bool) -> None:
        stream, codec = self._stream, self._stream.codec_context
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        self.fps = valid_fps(float(rate))
        self.frame_count = valid_count(float(stream.frames))
        if self.frame_count is None and self.fps is not None:
            self.frame_count = valid_count(math.floor(_duration_s(stream) * self.fps + 0.5))
        self.start_s = float((stream.start_time or 0) * (stream.time_base or 0))
        if codec.name in _STRICT:
            codec.options = {**codec.options, "err_detect": "explode"}
        # Never several frames at a time: a broken one is then reported late (VP9: not at all), so
        # it would be missing in the wrong place, and a live picture would wait for its successors.
        codec.thread_type = "SLICE"
        codec.thread_count = 1 if live else min(_MOST_THREADS, os.cpu_count() or 1)
        self._silent = codec.name in _SILENT
        self._smeared = False
        self._display = Display(stream, self._name)
        self._frames = self._decode()

    @property
    def remark(self) -> str:
        """What is unusual about its pictures, in words; empty where nothing is."""
        return self._display.remark

    def read(self) -> tuple[NDArray[np.uint8], float] | None:
        """Return the next picture and its position, seconds (NaN where unknown), or None at the
        end.

        The picture is ``(H, W, 3)`` uint8, BGR, upright with square pixels; its size may change
        from one to the next. Broken pictures are left out and counted.

        Raises:
            av.error.FFmpegError: the connection was lost, or sent nothing in time.
            SourceError: for longer than ``patience_s`` no picture was whole.
        """
        grabbed = self.grab()
        return None if grabbed is None else (grabbed[0](), grabbed[1])

    def grab(self) -> tuple[Shown, float] | None:
        """Return the same as :meth:`read`, the picture not turned into pixels yet."""
        try:
            frame = next(self._frames, None)
        except BaseException:
            self._count_ahead()
            raise
        if frame is None:
            return None
        self._pass(frame)
        position = frame.time
        with step("decode"):
            picture = self._display.picture(frame)
        return picture, math.nan if position is None else position

    def _decode(self) -> Generator[VideoFrame, None, None]:
        for packet in self._container.demux(self._stream):
            try:
                with step("decode"):
                    frames = packet.decode()
            except EndError:
                frames = []
            except FFmpegError:  # of whatever kind: what was read does not decode
                self._leave_out(packet.pts)
                continue
            if (self.damaged or self._ahead) and self._silent and packet.pts is not None:
                self._ahead.append(packet.pts)
            for frame in frames:
                if frame.pts in self._ahead:
                    self._ahead.remove(frame.pts)
                # What builds on a broken picture is smeared, and nobody says so, until one that
                # builds on none.
                self._smeared = frame.is_corrupt or (self._smeared and not frame.key_frame)
                if self._smeared:
                    self._leave_out(frame.pts)
                    continue
                self._whole_s = time.monotonic()
                yield from self._display.frames(frame)
        yield from self._display.frames(None)
        self._count_ahead()

    def _count_ahead(self) -> None:
        """Count the broken pictures that no whole one follows."""
        self.damaged += len(self._ahead)
        self._ahead = []

    def _leave_out(self, stamp: int | None) -> None:
        if stamp is None:
            self.damaged += 1
        else:
            self._ahead.append(stamp)
        broken_s = time.monotonic() - self._whole_s
        if broken_s > self._patience_s:
            raise SourceError(
                f"{self._name} has sent nothing but broken pictures for {broken_s:.0f} s; check"
                " the cable or the network, and the stream in a player"
            )

    def _pass(self, frame: VideoFrame) -> None:
        """Count the broken pictures that lie before a frame."""
        if self._ahead and frame.pts is not None and frame.time_base is not None:
            now = frame.pts * frame.time_base
            ahead = [s for s in self._ahead if s * (self._stream.time_base or 0) >= now]
            self.damaged += len(self._ahead) - len(ahead)
            self._ahead = ahead

    def close(self) -> None:
        """Close the file or connection; calling it again does nothing."""
        self._frames.close()
        self._container.close()


def _choose_stream(container: InputContainer, name: str) -> VideoStream:
    """Return the longest video; of equals the one FFmpeg thinks best. A cover picture is none."""
    best = container.streams.best("video")
    videos = [
        stream
        for stream in container.streams.video
        if not stream.disposition & _STILLS and container.format.name not in _NO_VIDEO
    ]
    if not videos:
        raise SourceError(
            f"{name} holds no video (its format is {container.format.name}); give a video file"
        )
    chosen = max(videos, key=lambda stream: (_own_duration_s(stream), stream is best))
    if chosen.codec_context is None:
        raise SourceError(
            f"{name} holds a video of a kind that this FFmpeg cannot decode; convert it:"
            " ffmpeg -i IN -c:v libx264 OUT.mp4"
        )
    return chosen


def _own_duration_s(stream: VideoStream) -> float:
    """Return the duration that a stream states for itself, seconds; 0 where it states none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    try:  # Matroska keeps it as a tag: 00:01:30.000000000
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return 3600.0 * int(hours) + 60.0 * int(minutes) + float(seconds)
    except (KeyError, ValueError):
        return 0.0


def _duration_s(stream: VideoStream) -> float:
    """Return the stated duration of a recording, seconds; 0 where none is stated."""
    whole = stream.container.duration  # type: ignore[attr-defined]
    return whole / av.time_base if whole and whole > 0 else _own_duration_s(stream)


@functools.lru_cache(maxsize=256)
def _say_once(name: str, remark: str) -> None:
    """Log what is unusual about a source, however often it is opened."""
    logger.warning("%s: %s", name, remark)


class VideoSource(ProbedSource):
    """A source read through an open :class:`Decoder`, which a subclass puts into ``_video``."""

    _video: Decoder
    _timeline: Timeline
    _decoded = 0
    """Pictures decoded so far."""
    _first_s = math.nan
    _last_s = math.nan
    """Positions the container states for the first and the last picture, seconds."""

    def close(self) -> None:
        """Release the file or connection."""
        self._first = None
        self._video.close()

    def _open(self, video: Decoder) -> None:
        """Take over an open decoder."""
        self._video = video
        self.fps = video.fps
        self._timeline = Timeline(video.fps)

    def _decode(self) -> Grab | None:
        """Return the next picture, or None where there is none."""
        try:
            read = self._video.grab()
        finally:
            self.skipped = self._video.damaged
        if self._video.remark != self.remark:
            self.remark = self._video.remark
            _say_once(self.name, self.remark)
        if read is None:
            return None
        picture, position = read
        if self._decoded == 0:
            self._first_s = position
        self._last_s = position
        pts = self._timeline.update(position - self._video.start_s)
        image = picture if self.late else picture()
        grab = Grab(image, self._decoded + self.skipped, pts)
        self._decoded += 1
        return grab

    def _breaks_off(self) -> bool:
        """Tell, after the last picture, whether a recording ended well before its stated end.

        Most containers state no number of frames, and it is made up: duration times rate. It is
        too large where the rate varies and where the clock starts late, because the duration
        counts from zero. So too few frames are a sign only if the last one lies early, too.
        """
        stated = self.frame_count
        if stated is None or self._decoded + self.skipped >= _WHOLE_SHARE * stated:
            return False
        if self.fps is None or not math.isfinite(self._last_s - self._first_s):
            return True
        stated_s = stated / self.fps
        read_s = self._last_s - self._first_s + 1.0 / self.fps
        # A clock that starts beyond the stated end says nothing about where that end lies.
        late_s = self._first_s if 0.0 < self._first_s < stated_s else 0.0
        return read_s < _WHOLE_SHARE * (stated_s - late_s)
