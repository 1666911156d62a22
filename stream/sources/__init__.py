"""Every place pictures come from, behind one interface.

:func:`open_source` turns what a user writes into an open :class:`Source`.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from ...core.errors import ConfigError, SourceError
from .base import Grab, Source, SourceInfo, redact
from .browser import BrowserCamera, Inbox, browser_name
from .camera import Camera, is_camera_path
from .images import IMAGE_SUFFIXES, ImageFolder
from .network import NetworkStream, SinglePictureError
from .snapshot import SnapshotAddress
from .video import DemoClip, VideoFile

__all__ = [
    "BrowserCamera",
    "Grab",
    "Inbox",
    "Source",
    "SourceInfo",
    "browser_name",
    "may_appear",
    "open_source",
    "redact",
    "source_name",
]

_NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")
_WORDS = ("demo", "browser", "synthetic")
"""Kinds of source written with a colon and without slashes."""
_FORMS = (
    "a camera number (0), a device file (/dev/video0), rtsp://…, http(s)://…, a video file, "
    "a folder of images, or demo:"
)


def open_source(
    spec: str,
    *,
    realtime: bool = False,
    open_timeout_s: float = 10.0,
    read_timeout_s: float = 5.0,
    image_fps: float = 30.0,
    keep_grey: bool = False,
    poll_s: float | None = None,
) -> Source:
    """Open a source and make sure that it gives a picture.

    Args:
        spec: camera number, or device file or link to one (``/dev/v4l/by-id/…``); ``rtsp://``,
            ``rtsps://``, ``http://``, ``https://`` address; path of a video file, an image or a
            folder of images; or ``demo:``, the clip of the package. A file named like a number or a
            word: ``./0``. A colon in a file's name is no protocol: only ``://`` makes an address.
        realtime: play a file at its own pace (the pacing is the reader's: see
            :class:`~facestage.stream.live.capture.Capture`).
        open_timeout_s: longest wait for a network stream to open, seconds.
        read_timeout_s: longest wait for the next frame of a network stream, seconds.
        image_fps: frames per second a folder of images is taken to have.
        keep_grey: take grey images of a folder as ``(H, W)`` instead of expanding them to colour.
        poll_s: ask an HTTP address that gives one picture again after so many seconds; without it
            such an address is refused.

    Returns:
        The open source; close it, or use it in a ``with`` block.

    Raises:
        ConfigError: the form is unknown, or an option cannot work.
        SourceError: it cannot be opened or gives no picture.
    """
    _check_positive(
        open_timeout_s=open_timeout_s, read_timeout_s=read_timeout_s, image_fps=image_fps
    )
    if poll_s is not None:
        _check_positive(poll_s=poll_s)
    scheme = _scheme_of(spec)
    if scheme in _NETWORK_SCHEMES:
        limits = {"open_timeout_s": open_timeout_s, "read_timeout_s": read_timeout_s}
        try:
            return NetworkStream(spec, realtime=realtime, **limits)
        except SinglePictureError:
            if poll_s is None:
                raise
        return SnapshotAddress(spec, poll_s=poll_s, **limits)
    if scheme == "demo":
        if spec.lower() != "demo:":
            raise ConfigError(
                f"the demo takes nothing after the colon; write 'demo:', not {spec!r}"
            )
        return DemoClip(realtime=realtime)
    if spec.isascii() and spec.isdigit():
        return Camera(int(spec))
    if "://" in spec:
        raise ConfigError(f"{redact(spec)} is no kind of source known here; give {_FORMS}")
    path = Path(spec).expanduser()
    if is_camera_path(path):
        return Camera(str(path))
    try:
        if path.is_dir() or (path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()):
            return ImageFolder(path, fps=image_fps, realtime=realtime, keep_grey=keep_grey)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}; check its permissions") from None
    return VideoFile(path, realtime=realtime)


def _check_positive(**options: float) -> None:
    for option, value in options.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{option} is {value}; give a positive number")


def _scheme_of(spec: str) -> str:
    """Return the kind of source that stands before the colon, lower case; empty for all others.

    Before ``://`` it is any word, before a colon alone one of the kinds that are written so: a
    file may have a colon in its name, and one that exists is that file.

    Raises:
        ConfigError: no source can have that name, or this version does not know its kind.
    """
    if not spec.strip() or "\0" in spec:
        raise ConfigError(f"the source is empty or not a name; give {_FORMS}")
    try:
        spec.encode()
    except UnicodeEncodeError:
        # FFmpeg would crash on such a name, and no message could carry it.
        raise ConfigError(
            f"the name {spec!a} is not valid UTF-8; rename it, or use a UTF-8 locale (LANG=C.UTF-8)"
        ) from None
    match = re.match("([A-Za-z][A-Za-z0-9+.-]+):(//)?", spec)
    scheme = match[1].lower() if match is not None else ""
    if match is not None and match[2] is None:
        kind_alone = spec.lower() == f"{scheme}:"
        if scheme not in _WORDS or (not kind_alone and os.path.exists(spec)):
            return ""
    if spec == "browser" or scheme == "browser":
        raise ConfigError(
            "the webcam of a browser needs the page that facestage serves: start "
            "'facestage live browser:' and open the address it prints"
        )
    if scheme in _WORDS[1:]:
        raise ConfigError(
            f"the source {redact(spec)!r} is not available in this version; give {_FORMS}"
        )
    return scheme


def may_appear(spec: str) -> bool:
    """Tell whether a source that is missing may be there later: a camera or an address."""
    if spec.isascii() and spec.isdigit():
        return True
    if browser_name(spec) is not None:
        return True
    scheme = spec.partition("://")[0].lower() if "://" in spec else ""
    return scheme in _NETWORK_SCHEMES or (not scheme and is_camera_path(Path(spec).expanduser()))


def source_name(spec: str) -> str:
    """Return the name :func:`open_source` gives a source, without opening it."""
    if spec.isascii() and spec.isdigit():
        return f"camera {int(spec)}"
    if spec.lower() == "demo:":
        return "demo"
    if (webcam := browser_name(spec)) is not None:
        return webcam
    if "://" in spec:
        return redact(spec)
    return str(Path(spec).expanduser())
