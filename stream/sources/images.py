"""A folder of images, or one image, as a source (CK+ keeps its sequences like this)."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.errors import SourceError
from .base import Grab, ProbedSource, to_bgr8, to_uint8
from .opencv import quiet_logs

__all__ = ["IMAGE_SUFFIXES", "ImageFolder", "list_images", "load_image", "natural_key"]

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".hdr", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"}
    | {".pgm", ".png", ".pnm", ".ppm", ".ras", ".sr", ".tif", ".tiff", ".webp"}
)
"""File name endings that are taken for images, lower case."""


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that puts ``img2`` before ``img10``; case counts only between equals."""
    parts = re.split("([0-9]+)", name.casefold())
    return [int(part) if part.isdigit() else part for part in parts], name


def list_images(folder: Path) -> list[Path]:
    """Return the images directly in a folder in natural order; hidden files are left out."""
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(images, key=lambda path: natural_key(path.name))


def load_image(path: Path, *, keep_grey: bool = False) -> NDArray[np.uint8]:
    """Read one image file as 8-bit BGR, turned upright by its EXIF orientation.

    Args:
        path: image of any depth and number of channels; alpha is dropped.
        keep_grey: return a grey file as it is, which takes a fifth of the time off.

    Returns:
        ``(H, W, 3)`` uint8, BGR; with ``keep_grey``, ``(H, W)`` where the file is grey.

    Raises:
        SourceError: the file is missing, empty, not an image or damaged.
    """
    quiet_logs()
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror or error}; check the path and its permissions"
        ) from None
    if not data.size:
        raise SourceError(f"{path} is empty (0 bytes); copy it again")
    image = None
    colour = cv2.IMREAD_ANYCOLOR if keep_grey else cv2.IMREAD_COLOR
    # Some formats (float TIFF with one or four channels) cannot be expanded to colour on reading.
    for flags in (colour | cv2.IMREAD_ANYDEPTH, cv2.IMREAD_UNCHANGED):
        try:
            image = cv2.imdecode(data, flags)
        except cv2.error as error:
            logger.debug("%s: %s", path, error)
        if image is not None:
            return to_uint8(image) if keep_grey else to_bgr8(image)
    raise SourceError(
        f"{path} is not an image that can be read; it may be damaged: open it in a viewer, save it"
        " as PNG"
    )


class ImageFolder(ProbedSource):
    """The images of a folder in natural order, or a single image.

    An image that cannot be read is skipped with a warning and counted; its index stays empty, so
    the time of the others does not shift.

    Args:
        path: folder, or image file.
        fps: frames per second the images are taken to have.
        realtime: whether to play them at that rate.
        keep_grey: whether grey images stay ``(H, W)``.

    Raises:
        SourceError: there is no image, or none can be read.
    """

    kind = "images"
    endless = False

    def __init__(
        self,
        path: Path,
        *,
        fps: float = 30.0,
        realtime: bool = False,
        keep_grey: bool = False,
    ) -> None:
        self.name = str(path)
        self.live = realtime
        self.fps: float | None = fps
        self._period = 1.0 / fps
        self._keep_grey = keep_grey
        self._paths = list_images(path) if path.is_dir() else [path]
        if not self._paths:
            raise SourceError(f"folder {path} holds no image; {_advice(path)}")
        self.frame_count: int | None = len(self._paths)
        self._next = 0
        if not self._keep_first(self._read_on()):
            raise SourceError(
                f"none of the {len(self._paths)} images of {path} can be read; open one in a viewer"
                " and save them anew, as PNG or JPEG"
            )

    def close(self) -> None:
        """Forget the images not read yet."""
        self._first = None
        self._next = len(self._paths)

    def _read_on(self) -> Grab | None:
        while self._next < len(self._paths):
            index = self._next
            self._next += 1
            try:
                image = load_image(self._paths[index], keep_grey=self._keep_grey)
            except SourceError as error:
                self.skipped += 1
                logger.warning("image skipped: %s", error)
                continue
            return Grab(image, index, index * self._period)
        return None


def _advice(folder: Path) -> str:
    """Say what to give instead of a folder without images."""
    entries = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    if not entries:
        return "it is empty: give a folder of images or a video file"
    for entry in entries:
        if entry.is_dir() and list_images(entry):
            return f"its subfolder {entry.name!r} does: give that one"
    videos = [e.name for e in entries if e.suffix.lower() in (".mp4", ".mov", ".mkv", ".avi")]
    if videos:
        return f"it holds videos: give one of them, for example {str(folder / videos[0])!r}"
    return "give a folder of images (" + " ".join(sorted(IMAGE_SUFFIXES)) + ") or a video file"
