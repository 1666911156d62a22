"""A camera of this machine as a source."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import cv2

from ...core.errors import SourceError
from ...core.steps import step
from .base import Grab, ProbedSource, to_bgr8, valid_fps
from .opencv import quiet_logs

__all__ = ["Camera", "is_camera_path"]

_MAX_NUMBER = 2**31 - 1
"""Largest number OpenCV takes for a camera; beyond it, it raises an error of its own."""


_DEVICE = re.compile("/dev/video[0-9]+")


def is_camera_path(path: Path) -> bool:
    """Tell whether a path is a camera: its device file, a link to one, or a name udev gives it.

    The names in ``/dev/v4l/by-id`` and ``/dev/v4l/by-path`` stand for a camera even while it is
    unplugged, when they lead nowhere.
    """
    names = (os.path.abspath(path), os.path.realpath(path))
    return any(_DEVICE.fullmatch(name) or name.startswith("/dev/v4l/") for name in names)


class Camera(ProbedSource):
    """A camera, by number or by device file.

    Frames carry no ``pts``: a camera's only clock is the moment of the grab.

    Args:
        device: number of the camera (0 is the first), or path of its device file or of a link to
            that.

    Raises:
        SourceError: there is no such camera, it is in use, or it gives no picture.
    """

    kind = "camera"
    live = True
    endless = True
    frame_count = None
    _grabbed = 0
    """Pictures read so far."""

    def __init__(self, device: int | str) -> None:
        self.name = f"camera {device}" if isinstance(device, int) else device
        if isinstance(device, int) and device > _MAX_NUMBER:
            raise SourceError(f"{self.name} cannot be opened; {_advice(device)}")
        quiet_logs()
        backend = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
        self._video = cv2.VideoCapture(
            device if isinstance(device, int) else os.path.realpath(device), backend
        )
        if not self._video.isOpened():
            raise SourceError(f"{self.name} cannot be opened; {_advice(device)}")
        self.fps = valid_fps(self._video.get(cv2.CAP_PROP_FPS))
        try:
            self._keep_first(self._read_on())
        except SourceError:
            self.close()
            raise

    def _read_on(self) -> Grab:
        # A camera has no end.
        ok, image = self._video.grab(), None
        if ok:
            with step("decode"):
                ok, image = self._video.retrieve()
        if not ok or image is None:
            raise SourceError(
                f"{self.name} gives no picture; check its cable and that no other program uses it"
            )
        grab = Grab(to_bgr8(image), self._grabbed)
        self._grabbed += 1
        return grab

    def close(self) -> None:
        """Release the device."""
        self._first = None
        self._video.release()


def _advice(device: int | str) -> str:
    """Say which cameras the machine has, where the system lists them."""
    if not sys.platform.startswith("linux"):
        return "check that it is connected and that this program may use it"
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    if not devices:
        return "this machine has no camera (no /dev/video*): connect one or give a video file"
    wanted = f"/dev/video{device}" if isinstance(device, int) else os.path.realpath(device)
    if wanted in devices:
        return "another program may use it, or you may not (join the group 'video')"
    links = sorted(str(path) for path in Path("/dev/v4l").glob("by-id/*"))
    return f"there are: {', '.join(devices + links)}"
