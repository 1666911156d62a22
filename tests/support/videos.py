"""Videos for tests, encoded with PyAV: interlaced, anamorphic, turned, in any codec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

FPS = 25


def write_video(
    path: Path,
    pictures: Sequence[Picture],
    codec: str = "mjpeg",
    *,
    pixel_format: str = "yuv420p",
    pixel: Fraction | None = None,
    matrix: Sequence[int] | None = None,
    interlaced: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video of ``(H, W, 3)`` BGR pictures at 25 per second.

    Args:
        path: its ending chooses the container.
        pictures: one a frame; for an interlaced video already woven of two fields, the upper first.
        codec, pixel_format, options: FFmpeg's names.
        pixel: width of a pixel over its height.
        matrix: display matrix, nine numbers.
        interlaced: mark the frames as made of two fields.
    """
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        flags = {"flags": "+ildct+ilme"} if interlaced else {}
        stream.options = {**flags, **(options or {})}
        if pixel is not None:
            stream.codec_context.sample_aspect_ratio = pixel
        if matrix is not None:
            stream.set_display_matrix(matrix)
        convert = _converter(width, height, pixel_format, pixel, interlaced)
        for n, picture in enumerate(pictures):
            frame = convert(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "bgr24"), n)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _converter(
    width: int, height: int, pixel_format: str, pixel: Fraction | None, interlaced: bool
) -> Callable[[av.VideoFrame, int], av.VideoFrame]:
    """Return a function that turns the n-th BGR picture into a frame of the wanted format."""
    graph = av.filter.Graph()
    start = graph.add_buffer(
        width=width,
        height=height,
        format=av.VideoFormat(pixel_format, width, height),
        time_base=Fraction(1, FPS),
    )
    shape = graph.add("setsar", f"{pixel.numerator}/{pixel.denominator}" if pixel else "1")
    fields = graph.add("setfield", "tff" if interlaced else "prog")
    graph.link_nodes(start, shape, fields, graph.add("buffersink")).configure()

    def convert(frame: av.VideoFrame, n: int) -> av.VideoFrame:
        frame = frame.reformat(format=pixel_format)
        frame.pts, frame.time_base = n, Fraction(1, FPS)
        graph.vpush(frame)
        return graph.vpull()

    return convert


def weave(upper: Picture, lower: Picture) -> Picture:
    """Return the frame whose even lines are those of one picture and odd ones those of the next."""
    frame = upper.copy()
    frame[1::2] = lower[1::2]
    return frame
