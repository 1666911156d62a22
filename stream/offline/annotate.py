"""Write the annotated video of a sequence: its pictures once more, with what was found in them.

Stages and prototypes are known only when a sequence is, so the source is read a second time. Each
picture has the time that it has in the source, also where that has no steady rate. The file appears
whole or not at all.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from ...core.errors import ConfigError, SourceError
from ...core.render import AnnotatedFrames
from ...core.render.mask_track import MaskTrack
from ...core.types import SequenceResult
from ..sources import open_source
from .durable import sync
from .exports import unwritable

__all__ = ["write_annotated"]

_CODECS = {
    # H.264 plays everywhere, also in slides; no B-frames and two seconds between key frames, so
    # that a click on a stage is there at once. The index goes to the front (faststart).
    ".mp4": ("libx264", {"crf": "20", "preset": "veryfast", "bf": "0"}, {"movflags": "+faststart"}),
    ".webm": ("libvpx", {"crf": "10", "b:v": "4M", "deadline": "realtime", "cpu-used": "4"}, {}),
}
_TIME_BASE = {".mp4": Fraction(1, 90_000), ".webm": Fraction(1, 1000)}
"""Units of time: MPEG's clock, and the milliseconds of Matroska."""
_KEY_S = 2.0
"""Time between key frames, seconds."""
_BT601, _STUDIO_RANGE = 6, 1
"""How BGR becomes YCbCr, by FFmpeg's numbers, so that players turn it back alike."""


def write_annotated(
    spec: str,
    result: SequenceResult,
    track: MaskTrack,
    path: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Read a source again and write its annotated video, without sound.

    Each frame of the result becomes one picture, at its time after the first one.

    Args:
        spec: path of the video or folder, or ``demo:``, as it was analysed.
        result: the analysed sequence.
        track: the masks of its frames.
        path: the file, replaced if it exists; ``.mp4`` (H.264) or ``.webm`` (VP8).
        on_progress: called with (pictures written, pictures in total) now and then.

    Returns:
        How many pictures were written.

    Raises:
        SourceError: the source cannot be read any more, or is not what it was.
        ConfigError: the file cannot be written.
    """
    times = {row.index: row.time_s - result.rows[0].time_s for row in result.rows}
    total, done = len(times), 0
    with open_source(spec, keep_grey=True) as source, _replacing(path) as temporary:
        frames = AnnotatedFrames(result, *source.size)
        with _Video(temporary, frames.size, result.fps) as video:
            while done < total and (grab := source.read()) is not None:
                if grab.index not in times:
                    continue
                picture = frames.draw(grab.image, grab.index, track.of(grab.index))
                video.write(picture, times[grab.index])
                done += 1
                if on_progress is not None and (done % 8 == 0 or done == total):
                    on_progress(done, total)
        if done < total:
            raise SourceError(
                f"{source.name} gave {done} of its {total} frames when it was read again, so there "
                "is no annotated video; leave the recording as it is while it is analysed"
            )
    return done


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` that takes its place in the end, or goes if anything fails."""
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except FFmpegError as error:
        # FFmpeg's errors of the system have its numbers.
        raise unwritable(path, OSError(error.errno, error.strerror)) from error
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


class _Video:
    """A video under way.

    Args:
        path: the file; its ending chooses container and codec.
        size: width and height, pixels, both even.
        fps: frames per second by and large; how long the last picture lasts.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        codec, options, container_options = _CODECS[path.suffix]
        known = math.isfinite(fps) and fps > 0
        rate = Fraction(fps if known else 25.0).limit_denominator(1001)
        self._base = _TIME_BASE[path.suffix]
        self._length = round(1 / (rate * self._base))
        self._last = -1
        self._container = av.open(str(path), "w", options=container_options)
        try:
            stream: Any = self._container.add_stream(codec, rate=rate)
        except (ValueError, FFmpegError) as error:
            self._container.close()
            raise ConfigError(
                f"this build of PyAV ({av.__version__}) cannot write {codec} video; install the one"
                " from PyPI (pip install av), or choose another --annotate-format"
            ) from error
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = self._base
        stream.codec_context.gop_size = max(1, round(_KEY_S * rate))
        stream.codec_context.colorspace = _BT601
        stream.codec_context.color_range = _STUDIO_RANGE
        stream.options = options
        self._stream = stream

    def write(self, picture: NDArray[np.uint8], time_s: float) -> None:
        """Add a picture, ``(H, W, 3)`` uint8 BGR, at a time after the start, seconds."""
        frame = av.VideoFrame.from_ndarray(picture, "bgr24")
        # Two pictures of one time are not lost: the second comes a unit later.
        self._last = max(self._last + 1, round(time_s / self._base))
        frame.pts, frame.time_base, frame.duration = self._last, self._base, self._length
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> _Video:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()
