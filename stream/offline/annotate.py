"""Write the annotated video of a sequence: its pictures once more, with what was found in them.

Stages and prototypes are known only when a sequence is, so the source is read a second time. The
file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2

from ...core.errors import ConfigError, SourceError
from ...core.render import AnnotatedFrames
from ...core.render.mask_track import MaskTrack
from ...core.types import SequenceResult
from ..sources import open_source
from ..sources.opencv import quiet_logs
from .durable import sync
from .exports import unwritable

__all__ = ["write_annotated"]

# VP8 in WebM: the one pair that OpenCV's own packages can write and every browser plays.
_CODEC = "VP80"


def write_annotated(
    spec: str,
    result: SequenceResult,
    track: MaskTrack,
    path: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Read a source again and write its annotated video, without sound.

    Each frame of the result becomes one picture, at the frame rate of the result.

    Args:
        spec: path of the video or folder, or ``demo:``, as it was analysed.
        result: the analysed sequence.
        track: the masks of its frames.
        path: the file, replaced if it exists; its name ends in ``.webm``.
        on_progress: called with (pictures written, pictures in total) now and then.

    Returns:
        How many pictures were written.

    Raises:
        SourceError: the source cannot be read any more, or is not what it was.
        ConfigError: the file cannot be written.
    """
    wanted = {row.index for row in result.rows}
    total, done = len(wanted), 0
    with open_source(spec, keep_grey=True) as source, _replacing(path) as temporary:
        frames = AnnotatedFrames(result, *source.size)
        with _writer(temporary, result.fps, frames.size) as video:
            while done < total and (grab := source.read()) is not None:
                if grab.index not in wanted:
                    continue
                video.write(frames.draw(grab.image, grab.index, track.of(grab.index)))
                done += 1
                if on_progress is not None and (done % 8 == 0 or done == total):
                    on_progress(done, total)
        if done < total:
            raise SourceError(
                f"{source.name} gave {done} of its {total} frames when it was read again, so there "
                "is no annotated video; leave the recording as it is while it is analysed"
            )
        _check(temporary, path, done)
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
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _writer(path: Path, fps: float, size: tuple[int, int]) -> Iterator[cv2.VideoWriter]:
    quiet_logs()
    with _silent_stderr():
        video = cv2.VideoWriter(
            str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*_CODEC), fps, size
        )
    try:
        if not video.isOpened():
            raise ConfigError(
                f"this build of OpenCV ({cv2.__version__}) cannot write VP8 video; install the one "
                "from PyPI (pip install opencv-python-headless), or leave out --annotate"
            )
        yield video
    finally:
        video.release()


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep C code from writing to stderr: opening any WebM file, OpenCV prints a remark about the
    codec's tag, whatever its log level is."""
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _check(temporary: Path, path: Path, frames: int) -> None:
    """Make sure that the file holds what was written: OpenCV does not report a full disk."""
    video = cv2.VideoCapture(str(temporary), cv2.CAP_FFMPEG)
    stated = video.get(cv2.CAP_PROP_FRAME_COUNT) if video.isOpened() else 0
    video.release()
    if round(stated) != frames:
        raise ConfigError(
            f"the annotated video could not be written to {path}, it broke off; free some space on "
            "the disk or name a folder on another one"
        )
