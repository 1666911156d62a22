"""From a decoded picture to the one a player shows: full frames, square pixels, the right way up.

A container says how its pictures are meant to be seen: from two interlaced fields, with pixels that
are not square, turned or mirrored. A player obeys; a decoder hands over the raw picture.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import cv2
import numpy as np
from av.error import BlockingIOError as NotYetError
from av.error import EOFError as EndError
from av.error import FFmpegError
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ...core.errors import SourceError
from ...core.steps import step

__all__ = ["Display", "Shown", "display_size", "turn"]

_NEARLY_SQUARE = 0.01
"""Pixels this little off square are left alone: rounded sizes give such ratios."""
_LONGEST_PIXEL = 8
"""A pixel more than so many times as long as wide is a fault in the container, not a shape."""

_SAMPLE = np.zeros((1, 2, 3), np.uint8)
"""A picture that is wider than high: how it is turned says how all are."""


def display_size(width: int, height: int, pixel: Fraction | None) -> tuple[int, int]:
    """Return width and height at which a picture has square pixels; the longer way is enlarged.

    Args:
        width, height: of the decoded picture.
        pixel: width of a pixel over its height; None or zero where that is unknown.

    >>> display_size(720, 576, Fraction(64, 45))
    (1024, 576)
    """
    if not pixel or abs(pixel - 1) < _NEARLY_SQUARE:
        return width, height
    if not Fraction(1, _LONGEST_PIXEL) <= pixel <= _LONGEST_PIXEL:
        return width, height
    if pixel > 1:
        return max(1, round(width * pixel)), height
    return width, max(1, round(height / pixel))


def turn(image: NDArray[np.uint8], matrix: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """Turn and mirror a picture by a display matrix, to the nearest quarter turn.

    Args:
        image: ``(H, W, 3)`` uint8.
        matrix: nine numbers by rows, ``(x, y, 1) · matrix`` gives where a pixel is shown; None to
            leave the picture as it is.

    Returns:
        ``(H, W, 3)`` or ``(W, H, 3)`` uint8, contiguous; the input itself if nothing is to do.
    """
    if matrix is None:
        return image
    a, b, _, c, d, *_ = matrix
    if abs(a * d) >= abs(b * c):
        across, down = a < 0, d < 0
    else:
        image = cast(NDArray[np.uint8], cv2.transpose(image))
        across, down = c < 0, b < 0
    if across or down:
        image = cast(NDArray[np.uint8], cv2.flip(image, -1 if across and down else int(across)))
    return image


class Display:
    """Makes the pictures of one stream what a player would show.

    Args:
        stream: the open stream, asked for the shape of its pixels.
        name: name of the source, for errors.

    Attributes:
        remark: what was changed about the pictures, in words; empty while nothing was.
    """

    def __init__(self, stream: VideoStream, name: str) -> None:
        self._stream = stream
        self._name = name
        self._making = VideoReformatter(), threading.Lock()
        self._thumbnails = VideoReformatter()
        self._fields: Graph | None = None
        self._fields_of: tuple[int, int, str] | None = None
        self._remarks: dict[str, None] = {}

    @property
    def remark(self) -> str:
        """What was changed about the pictures, in words; empty while nothing was."""
        return "; ".join(self._remarks)

    def frames(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Take the next decoded frame, or None at the end; give the full frames that are ready.

        From the first interlaced frame on they come one frame late: both neighbours are needed to
        fill in the lines that a field lacks.
        """
        if frame is None:
            yield from self._drain()
            return
        kind = (frame.width, frame.height, frame.format.name)
        if self._fields is not None and kind != self._fields_of:
            yield from self._drain()
            self._fields = self._deinterlacer(frame)
        elif self._fields is None and frame.interlaced_frame:
            self._remarks["interlaced: each picture was made from its two fields"] = None
            self._fields = self._deinterlacer(frame)
        if self._fields is None:
            yield frame
            return
        self._fields_of = kind
        self._fields.vpush(frame)
        yield from self._pull(self._fields)

    def _deinterlacer(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        try:
            start = graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base or self._stream.time_base,
            )
            graph.link_nodes(
                start,
                graph.add("bwdif", "mode=send_frame:deint=interlaced"),
                graph.add("buffersink"),
            ).configure()
        except (ValueError, FFmpegError):
            raise SourceError(
                f"{self._name} is interlaced ({frame.format.name}), and this FFmpeg cannot make"
                " full pictures of it; do so first: ffmpeg -i IN -vf bwdif -c:v libx264 OUT.mp4"
            ) from None
        return graph

    def _drain(self) -> Iterator[VideoFrame]:
        if self._fields is not None:
            self._fields.vpush(None)
            yield from self._pull(self._fields)
            self._fields = None

    def _pull(self, graph: Graph) -> Iterator[VideoFrame]:
        while True:
            try:
                yield graph.vpull()
            except (NotYetError, EndError):
                return

    def picture(self, frame: VideoFrame) -> Shown:
        """Return a full frame as it is meant to be seen, not made yet."""
        pixel = self._stream.sample_aspect_ratio
        width, height = display_size(frame.width, frame.height, pixel)
        if (width, height) != (frame.width, frame.height):
            assert pixel is not None
            self._remarks[
                f"pixels {pixel.numerator}:{pixel.denominator}: {frame.width}×{frame.height} was"
                f" stretched to {width}×{height}"
            ] = None
        # PyAV ties what it reads beside a frame to the frame in a circle, which only a full garbage
        # collection opens: a thumbnail of it takes no memory to wait with.
        matrix = _display_matrix(self._thumbnails.reformat(frame, 16, 16, "gray8", threads=1))
        if turn(_SAMPLE, matrix) is not _SAMPLE:
            self._remarks["pictures were turned or mirrored as the container says"] = None
        return Shown(frame, (width, height), matrix, self._making)


class Shown:
    """A picture as it is meant to be seen, made when it is called for.

    Args:
        frame: the decoded frame.
        size: width and height with square pixels, before it is turned.
        matrix: how it is turned.
        making: what makes pictures of the source, by one thread at a time.

    Attributes:
        size: width and height as it is seen, pixels.
    """

    def __init__(
        self,
        frame: VideoFrame,
        size: tuple[int, int],
        matrix: tuple[int, ...] | None,
        making: tuple[VideoReformatter, threading.Lock],
    ) -> None:
        self._frame, self._flat, self._matrix, self._making = frame, size, matrix, making
        lies = turn(_SAMPLE, matrix).shape == _SAMPLE.shape
        self.size = size if lies else (size[1], size[0])

    def __call__(self) -> NDArray[np.uint8]:
        """Return the picture, ``(H, W, 3)`` uint8, BGR."""
        reformatter, alone = self._making
        with step("decode"), alone:
            made = reformatter.reformat(
                self._frame, *self._flat, "bgr24", interpolation=Interpolation.BICUBIC
            )
            return turn(np.ascontiguousarray(made.to_ndarray(), dtype=np.uint8), self._matrix)


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """Return the nine numbers that say how a frame is shown; None where they say nothing."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None or len(bytes(data)) < 36:
        return None
    matrix = struct.unpack("=9i", bytes(data)[:36])
    a, b, _, c, d, *_ = matrix
    return matrix if a * d != b * c else None
