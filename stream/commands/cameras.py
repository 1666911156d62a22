"""The cameras of a Linux machine and the formats they give, as V4L2 tells them.

Nothing is changed: the device is opened, asked and closed, and a camera that another program reads
answers as well.

References:
    Linux media API, ``VIDIOC_QUERYCAP`` and ``VIDIOC_ENUM_FMT`` (``linux/videodev2.h``).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Camera", "find_cameras", "no_source_text"]

_QUERYCAP = 0x80685600  # _IOR('V', 0, struct v4l2_capability), 104 bytes
_ENUM_FMT = 0xC0405602  # _IOWR('V', 2, struct v4l2_fmtdesc), 64 bytes
_CAPTURE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, and the bit of V4L2_CAP_VIDEO_CAPTURE
_DEVICE_CAPS = 1 << 31  # V4L2_CAP_DEVICE_CAPS: device_caps is filled in
_MOST_FORMATS = 32

Ioctl = Callable[[int, int, bytearray], object]


@dataclass(frozen=True, slots=True)
class Camera:
    """A device file.

    Attributes:
        path: of the device.
        name: that the driver gives.
        formats: four-letter codes of pixel formats, such as ``MJPG``.
        error: why it cannot be asked; empty if it can.
    """

    path: str
    name: str = ""
    formats: tuple[str, ...] = ()
    error: str = ""


def find_cameras(folder: Path = Path("/dev"), ioctl: Ioctl | None = None) -> list[Camera]:
    """Return what stands at ``/dev/video*`` and gives pictures, or cannot be asked.

    Args:
        folder: where device files are.
        ioctl: asks an open device; None: the system's.
    """
    if ioctl is None:
        try:
            from fcntl import ioctl as ask
        except ImportError:  # Windows: cameras have numbers only
            return []
        ioctl = ask
    paths = [path for path in folder.glob("video*") if re.fullmatch(r"video\d+", path.name)]
    cameras = []
    for path in sorted(paths, key=lambda path: int(path.name[5:])):
        camera = _ask(path, ioctl)
        if camera is not None:
            cameras.append(camera)
    return cameras


def no_source_text(cameras: list[Camera] | None = None) -> str:
    """Say that no source was given, and which there are.

    Args:
        cameras: of this machine; None: look for them.
    """
    found = find_cameras() if cameras is None else cameras
    lines = ["no source is given; here is what you can write:"]
    for camera in found:
        number = re.sub(r".*/video", "", camera.path)
        about = camera.name or camera.error
        lines.append(f"  facestage live {number:<14}{camera.path}{f' ({about})' if about else ''}")
    if not found:
        lines.append("  (no camera is found on this machine)")
    lines += [
        "  facestage live browser:      the webcam of a browser, on this machine or any other",
        "  facestage live rtsp://…      a camera on the network, also http(s)://…",
        "  facestage live clip.mp4      a video file, or a folder of images",
        "  facestage live --source-file FILE    sources in a file, one a line",
    ]
    return "\n".join(lines)


def _ask(path: Path, ioctl: Ioctl) -> Camera | None:
    """Return a camera; None for a device that gives no pictures, such as one of its metadata."""
    try:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        return Camera(str(path), error=error.strerror or str(error))
    try:
        capability = bytearray(104)
        ioctl(handle, _QUERYCAP, capability)
        _, card, _, _, all_caps, device_caps = struct.unpack_from("16s32s32sIII", capability)
        if not (device_caps if all_caps & _DEVICE_CAPS else all_caps) & _CAPTURE:
            return None
        return Camera(str(path), _text(card), tuple(_formats(handle, ioctl)))
    except OSError as error:
        return Camera(str(path), error=error.strerror or str(error))
    finally:
        os.close(handle)


def _formats(handle: int, ioctl: Ioctl) -> list[str]:
    found: list[str] = []
    for index in range(_MOST_FORMATS):
        description = bytearray(64)
        struct.pack_into("II", description, 0, index, _CAPTURE)
        try:
            ioctl(handle, _ENUM_FMT, description)
        except OSError:  # EINVAL: that was the last one
            break
        found.append(_text(bytes(description[44:48])))
    return found


def _text(field: bytes) -> str:
    return bytes(field).split(b"\0")[0].decode("ascii", errors="replace").strip()
