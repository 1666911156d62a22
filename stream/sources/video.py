"""A video file as a source, every frame in order."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

from av.error import FFmpegError

from ...core.errors import SourceError
from .base import Grab
from .ffmpeg import Decoder, VideoSource

__all__ = ["DemoClip", "VideoFile"]

logger = logging.getLogger(__name__)


class VideoFile(VideoSource):
    """A video file, decoded by FFmpeg from its first to its last frame.

    Indices are counted, never sought: seeking is not frame-exact in most containers.

    Args:
        path: the file.
        realtime: whether to play it at its own pace.

    Raises:
        SourceError: it is missing, not a file, empty, not a video, damaged, or has no frame.
    """

    kind = "video"
    endless = False
    _said_single = False

    def __init__(self, path: Path, *, realtime: bool = False, name: str | None = None) -> None:
        self.name = name or str(path)
        self.live = realtime
        _check_file(path)
        try:
            # FFmpeg takes what stands before a colon for a protocol ("10:30.mp4"), except after a
            # "/".
            self._open(Decoder(str(path.absolute()), self.name))
        except FFmpegError:
            raise SourceError(
                f"{self.name} is not a video that FFmpeg can read, or it is damaged; check that it"
                " plays elsewhere, or convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
            ) from None
        self.frame_count = self._video.frame_count
        if not self._keep_first(self._decode()):
            self.close()
            raise SourceError(
                f"{self.name} holds no frame that can be decoded; record or copy it again"
            )

    def _read_on(self) -> Grab | None:
        try:
            grab = self._decode()
        except FFmpegError as error:
            raise SourceError(
                f"{self.name} cannot be read on after {self._decoded} frames ({error.strerror});"
                " copy it again"
            ) from None
        if grab is None and self._decoded == 1 and not self.skipped and not self._said_single:
            self._said_single = True
            logger.warning("%s holds a single picture; nothing can change in it", self.name)
        if grab is None and not self.broke_off and self._breaks_off():
            self.broke_off = True
            logger.warning(
                "%s ended after %d of about %d frames; the file may be damaged",
                self.name,
                self._decoded,
                self.frame_count,
            )
        return grab


class DemoClip(VideoFile):
    """The clip that comes with the package.

    Raises:
        SourceError: the installation lacks it.
    """

    kind = "demo"

    def __init__(self, *, realtime: bool = False) -> None:
        self._files = ExitStack()
        clip = resources.files("facestage.stream.demo").joinpath("face.mp4")
        if not clip.is_file():
            raise SourceError(
                "the demo clip is not in this installation; reinstall: pip install"
                " --force-reinstall facestage"
            )
        try:
            path = self._files.enter_context(resources.as_file(clip))
            super().__init__(path, realtime=realtime, name="demo")
        except BaseException:
            self._files.close()
            raise

    def close(self) -> None:
        """Close the clip."""
        super().close()
        self._files.close()


def _check_file(path: Path) -> None:
    """Raise the clearest error for what FFmpeg would only call unreadable."""
    try:
        status = path.stat()
        if not path.is_file():
            if path.is_char_device():
                raise SourceError(f"{path} is a device, but no camera; cameras are /dev/video0, …")
            raise SourceError(f"{path} is not a file; give a video file or a folder of images")
        if not os.access(path, os.R_OK):
            raise SourceError(f"{path} may not be read; change its permissions (chmod +r)")
    except FileNotFoundError:
        raise SourceError(
            f"{path} does not exist; check the path (relative to {Path.cwd()})"
        ) from None
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}; check the path") from None
    if status.st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes); record or copy it again")
