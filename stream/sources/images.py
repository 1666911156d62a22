"""A folder of images, or one image, as a source (CK+ keeps its sequences like this)."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.errors import SourceError
from ...core.steps import timed
from .. import PIXEL_LIMIT
from .base import Grab, ProbedSource, to_bgr8, to_uint8
from .opencv import quiet_logs
from .pictures import breaks_off, count_pictures

__all__ = ["IMAGE_SUFFIXES", "ImageFolder", "list_images", "load_image", "natural_key"]

logger = logging.getLogger(__name__)

_TOO_LARGE = "CV_IO_MAX_IMAGE"
"""In OpenCV's error where the header of an image states more pixels, or a longer side, than its
bounds allow."""

RANGE_IMAGES = 8
"""Images whose values are looked at to find the range of all that follow."""

_WHITES = (255.0, 1023.0, 4095.0, 65535.0)
"""Largest values of 8, 10, 12 and 16 bits: the ranges that occur inside wider types. Values of 14
bits in 16 give a picture of a quarter of the brightness, in which faces are still found, and could
as well be a dark picture of 16 bits."""

_DARK_SHARE = 0.3
"""Integers that use less of their range than this may be 14 bits in 16: said, not changed."""
_OVERSHOOT = 1.25
"""Floats may go beyond white by this factor (sharpening, resizing)."""

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

    A file deeper than 8 bits that uses only a part of its range is brightened with a warning, see
    :class:`ValueRange`.

    Args:
        path: image of any depth and number of channels; alpha is dropped.
        keep_grey: return a grey file as it is, which takes a fifth of the time off.

    Returns:
        ``(H, W, 3)`` uint8, BGR; with ``keep_grey``, ``(H, W)`` where the file is grey.

    Raises:
        SourceError: the file is missing, empty, not an image, damaged, or holds several pictures
            (an animation, the pages of a TIFF file).
    """
    return ValueRange([path], path).narrow(path, _decode(path, keep_grey), keep_grey=keep_grey)


@timed("decode")
def _decode(path: Path, keep_grey: bool) -> NDArray[Any]:
    """Read one image file in its own depth; see :func:`load_image`."""
    quiet_logs()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(
            f"{path}: {error.strerror or error}; check the path and its permissions"
        ) from None
    if not content:
        raise SourceError(f"{path} is empty (0 bytes); copy it again")
    if breaks_off(content):
        raise SourceError(f"{path} breaks off before its end; copy it again")
    pictures = count_pictures(content)
    if pictures > 1:
        tiff = path.suffix.lower() in (".tif", ".tiff")
        step = (
            f"a folder of images (magick {path.name}{'' if tiff else ' -coalesce'} FOLDER/%05d.png)"
        )
        if not tiff:
            step = f"a video of it (ffmpeg -i {path.name} {path.stem}.mp4) or {step}"
        raise SourceError(
            f"{path} holds {pictures} pictures, and an image is read for its first only; make"
            f" {step}, and give that"
        )
    data = np.frombuffer(content, dtype=np.uint8)
    image = None
    colour = cv2.IMREAD_ANYCOLOR if keep_grey else cv2.IMREAD_COLOR
    # Some formats (float TIFF with one or four channels) cannot be expanded to colour on reading.
    for flags in (colour | cv2.IMREAD_ANYDEPTH, cv2.IMREAD_UNCHANGED):
        try:
            image = cv2.imdecode(data, flags)
        except cv2.error as error:
            if _TOO_LARGE in str(error):
                raise SourceError(
                    f"{path} has more pixels than are decoded, {os.environ[PIXEL_LIMIT]} (unless"
                    f" set, 2^26, 8192 × 8192); save it smaller, or set {PIXEL_LIMIT} to more"
                ) from None
            logger.debug("%s: %s", path, error)
        if image is not None:
            return image
    raise SourceError(
        f"{path} is not an image that can be read; it may be damaged: open it in a viewer, save it"
        " as PNG"
    )


class ValueRange:
    """The range of values that images deeper than 8 bits use, one for each type of value.

    Cameras store 10 or 12 bits in 16, and programs store 0–255 as float, without a word in the
    file: taken at full range, such pictures are black or white. The first images of a type decide
    for all that follow, so the brightness never jumps within a folder. A decision other than the
    full range is logged as a warning.

    Args:
        paths: the images, in the order they are read.
        name: the file or folder they come from, for the warning.

    Attributes:
        remark: what was decided last, in words; empty while every type has its full range.
    """

    def __init__(self, paths: Sequence[Path], name: Path) -> None:
        self._paths = paths
        self._name = name
        self.remark = ""
        self._white: dict[np.dtype[Any], float | None] = {}
        self._exceeded: set[np.dtype[Any]] = set()

    def narrow(
        self, path: Path, image: NDArray[Any], *, keep_grey: bool = False
    ) -> NDArray[np.uint8]:
        """Convert one of the images to 8 bits.

        Args:
            path: where it was read from.
            image: the image in its own depth.
            keep_grey: as for :func:`load_image`.

        Raises:
            SourceError: its shape or type is none that a picture has.
        """
        white = None
        if image.dtype.itemsize > 1 and image.size:
            if image.dtype not in self._white:
                self._decide(path, image)
            white = self._white.get(image.dtype)
            self._watch(path, image, white)
        return to_uint8(image, white) if keep_grey else to_bgr8(image, white)

    def _decide(self, path: Path, image: NDArray[Any]) -> None:
        """Find the value that is white by an image and those after it, unless all are black."""
        seen = [_largest_and_mean(image)]
        seen += [_largest_and_mean(later) for later in self._same_type(path, image.dtype)]
        largest, mean = np.max(seen, axis=0)
        if largest <= 0:
            return
        # Radiance files hold light without an upper end, so beyond 1 is no sign of another range.
        white = None if path.suffix.lower() == ".hdr" else _white_of(image.dtype, largest, mean)
        self._white[image.dtype] = white
        full_range = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else 0
        if white is None and largest < _DARK_SHARE * full_range:
            logger.warning(
                "%s: the values of the first %d image(s) reach %d %% of their range; they are "
                "taken for dark pictures. If they are not, save them as 8-bit PNG",
                self._name,
                len(seen),
                round(100 * largest / full_range),
            )
        if white is not None:
            full = f"{np.iinfo(image.dtype).max}" if image.dtype.kind in "iu" else "1.0"
            self.remark = (
                f"the values of the first {len(seen)} image(s) of type {image.dtype} reach "
                f"{largest:g} of {full}; all are taken as 0–{white:g}"
            )
            logger.warning(
                "%s: %s. If that is wrong, save them as 8-bit PNG", self._name, self.remark
            )

    def _same_type(self, path: Path, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """Read those of the next few images that can be read and have the same type."""
        start = self._paths.index(path) + 1
        for later in self._paths[start : start + RANGE_IMAGES - 1]:
            try:
                image = _decode(later, keep_grey=True)
            except SourceError:
                continue
            if image.dtype == dtype:
                yield image

    def _watch(self, path: Path, image: NDArray[Any], white: float | None) -> None:
        """Say once that a later image goes beyond the range the first ones have."""
        if white is None or image.dtype in self._exceeded:
            return
        largest = _largest_and_mean(image)[0]
        if largest > _OVERSHOOT * white:
            self._exceeded.add(image.dtype)
            logger.warning(
                "%s: its values reach %g, but the first images of %s were taken as 0–%g; what is "
                "brighter is white. Save the images as 8-bit PNG",
                path,
                largest,
                self._name,
                white,
            )


def _largest_and_mean(image: NDArray[Any]) -> tuple[float, float]:
    """Return the largest finite value and the mean of an image without its alpha."""
    colour = image if image.ndim == 2 or image.shape[2] == 3 else image[..., :-1]
    colour = colour if colour.size else image
    if colour.dtype.kind == "f":
        colour = np.where(np.isfinite(colour), colour, 0)
    return float(colour.max()), float(colour.mean(dtype=np.float64))


def _white_of(dtype: np.dtype[Any], largest: float, mean: float) -> float | None:
    """Return the end of the smallest usual range that holds the values; None for the full one."""
    if dtype.kind == "f":
        # A picture of 0–1 that was resized or graded goes a little beyond 1 here and there.
        full = 1.0 if mean <= 1.0 else math.inf
        largest /= _OVERSHOOT
    elif dtype.kind in "iu":
        full = float(np.iinfo(dtype).max)
    else:
        return None
    if full == 1.0:
        return None
    fitting = (white for white in _WHITES if largest <= white < full)
    return next(fitting, None if math.isfinite(full) else _WHITES[-1])


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
        SourceError: there is no image, none can be read, or the only one is an animation.
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
        self.files = tuple(path.name for path in self._paths)
        self._range = ValueRange(self._paths, path)
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
                path = self._paths[index]
                decoded = _decode(path, self._keep_grey)
                image = self._range.narrow(path, decoded, keep_grey=self._keep_grey)
                self.remark = self._range.remark
            except SourceError as error:
                if len(self._paths) == 1:
                    raise
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
