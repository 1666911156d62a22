"""What every source of pictures has in common: one picture, one interface, one safe name."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.errors import SourceError

__all__ = [
    "Grab",
    "LatePicture",
    "ProbedSource",
    "Source",
    "SourceInfo",
    "redact",
    "to_bgr8",
    "to_uint8",
    "valid_count",
    "valid_fps",
]

_MAX_FPS = 1000.0
"""Containers without a frame rate state their clock instead (90,000 per second): not a rate."""


class LatePicture(Protocol):
    """A picture that is there, but not turned into pixels yet."""

    size: tuple[int, int]
    """Width and height, pixels."""

    def __call__(self) -> NDArray[np.uint8]:
        """Return its pixels ``(H, W, 3)`` uint8, BGR; in any thread, once."""
        ...


class Grab:
    """One picture as a source gives it.

    Args:
        image: the picture; one that is late is made when it is asked for.
        index: 0-based position in the source; a jump of more than one counts pictures skipped.
        pts: position in the medium, seconds, growing; None where the source has no clock.
    """

    __slots__ = ("_image", "index", "pts", "size")

    def __init__(
        self, image: NDArray[np.uint8] | LatePicture, index: int, pts: float | None = None
    ) -> None:
        self._image = image
        self.index = index
        self.pts = pts
        self.size: tuple[int, int] = (
            (image.shape[1], image.shape[0]) if isinstance(image, np.ndarray) else image.size
        )
        """Width and height, pixels."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """The picture, ``(H, W, 3)`` uint8, BGR; where the source keeps grey, also ``(H, W)``."""
        if not isinstance(self._image, np.ndarray):
            self._image = self._image()
        return self._image

    def at(self, index: int, pts: float | None) -> Grab:
        """Return the same picture in another place of a medium."""
        return Grab(self._image, index, pts)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What an open source says about itself.

    Attributes:
        name: name safe to show and log.
        kind: ``camera``, ``rtsp``, ``http``, ``video``, ``images`` or ``demo``.
        live: pictures come at their own pace (camera, network, or a file played in real time).
        endless: it has no end of its own, so an end is a loss and reopening it continues it.
        fps: stated frames per second, or None.
        frame_count: stated number of frames (containers often state it wrong), or None.
        size: width and height of the first picture, pixels.
    """

    name: str
    kind: str
    live: bool
    endless: bool
    fps: float | None
    frame_count: int | None
    size: tuple[int, int]


class Source(ABC):
    """An opened camera, stream, video or folder, read one picture after the other.

    A source is open, and its first picture is known to be readable, once it is constructed;
    :class:`~facestage.core.errors.SourceError` says why not. It is used by one thread at a time.
    The attributes are those of :class:`SourceInfo`.
    """

    name: str
    kind: str
    live: bool
    endless: bool
    fps: float | None
    frame_count: int | None
    size: tuple[int, int]
    skipped: int = 0
    """Pictures passed over so far because they could not be decoded."""
    files: tuple[str, ...] = ()
    """Names of the pictures' files by index, relative to the folder; empty where there are none."""
    remark: str = ""
    """What is unusual about how its pictures are read, in words for the user."""
    broke_off: bool = False
    """It has ended, well before the end its container states."""
    late: bool = False
    """Whoever reads it throws pictures away: they are made when asked for, if the source can."""

    @abstractmethod
    def read(self) -> Grab | None:
        """Return the next picture, or None at the end.

        A source that is not ``endless`` gives every picture a ``pts``.

        Raises:
            SourceError: it broke; it must be closed and may be opened anew.
        """

    def wake(self) -> None:  # noqa: B027 - most sources do not pause
        """End a pause that :meth:`read` makes of its own; from any thread, for good."""

    @abstractmethod
    def close(self) -> None:
        """Release the device, connection or file; calling it again does nothing."""

    @property
    def info(self) -> SourceInfo:
        """The description of this source."""
        return SourceInfo(
            self.name,
            self.kind,
            self.live,
            self.endless,
            self.fps,
            self.frame_count,
            self.size,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class ProbedSource(Source):
    """A source that reads its first picture when it is opened: to see that it can, and its size."""

    _first: Grab | None = None
    """The first picture, until :meth:`read` returns it."""

    def read(self) -> Grab | None:
        """Return the next picture; see :meth:`Source.read`."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._read_on()

    @abstractmethod
    def _read_on(self) -> Grab | None:
        """Return a picture after the first, as :meth:`read` does."""

    def _keep_first(self, grab: Grab | None) -> bool:
        """Keep the first picture for :meth:`read` and note its size; return whether it exists."""
        if grab is None:
            return False
        self._first = grab
        self.size = grab.size
        return True


def valid_fps(value: float) -> float | None:
    """Return the frame rate if it can be one (0–1000 per second), else None."""
    return float(value) if math.isfinite(value) and 0.0 < value < _MAX_FPS else None


def valid_count(value: float) -> int | None:
    """Return the number of frames if it can be one (positive), else None."""
    return int(value) if math.isfinite(value) and value >= 1.0 else None


def to_bgr8(image: NDArray[Any], white: float | None = None) -> NDArray[np.uint8]:
    """Convert any decoded picture to 8-bit BGR.

    Args:
        image: ``(H, W)`` or ``(H, W, C)`` with C = 1 (grey), 2 (grey, alpha), 3 (BGR) or 4 (BGRA);
            integers of any width use their full positive range, floats 0–1. Alpha is dropped: the
            colour below it is kept.
        white: value that becomes 255 in a picture deeper than 8 bits, where its range is another.

    Returns:
        ``(H, W, 3)`` uint8, BGR; the input itself if it is that already.

    Raises:
        SourceError: the shape or the type is none of these.
    """
    narrow = to_uint8(image, white)
    if narrow.ndim == 2:
        return np.asarray(cv2.cvtColor(narrow, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    return narrow


def to_uint8(image: NDArray[Any], white: float | None = None) -> NDArray[np.uint8]:
    """Convert any decoded picture to 8 bits; grey stays grey.

    Args:
        image, white: as for :func:`to_bgr8`.

    Returns:
        ``(H, W)`` uint8 for one channel or two, else ``(H, W, 3)`` uint8, BGR; the input itself if
        it is that already.

    Raises:
        SourceError: the shape or the type is none of these.
    """
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
        return np.ascontiguousarray(image)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 2, 3, 4) or 0 in image.shape:
        raise SourceError(
            f"a picture of shape {image.shape} is neither grey nor colour; convert it to PNG first"
        )
    colour = image[:, :, :1] if image.shape[2] < 3 else image[:, :, :3]
    if colour.dtype == np.uint8:
        narrow = colour.astype(np.uint8, copy=False)
    elif np.issubdtype(colour.dtype, np.integer):
        scale = 255.0 / (white or float(np.iinfo(colour.dtype).max))
        values = np.rint(np.maximum(colour, 0).astype(np.float32) * scale)
        narrow = np.minimum(values, 255.0).astype(np.uint8)
    elif np.issubdtype(colour.dtype, np.floating):
        unit = np.nan_to_num(colour.astype(np.float32), nan=0.0)
        if white is not None:
            unit = unit / white
        unit = np.clip(unit, 0.0, 1.0)
        narrow = np.rint(unit * 255.0).astype(np.uint8)
    else:
        raise SourceError(
            f"a picture of type {colour.dtype} cannot be read; convert it to 8-bit PNG first"
        )
    return np.ascontiguousarray(narrow[:, :, 0] if narrow.shape[2] == 1 else narrow)


def redact(spec: str) -> str:
    """Remove user names, passwords and tokens from an address; leave anything else as it is.

    The user part goes, as does the fragment; of the query only the names stay, and values that are
    numbers of one or two digits (the channel of a recorder). A slash or hash left unescaped in a
    password brings no part of it to light, because everything up to the last ``@`` before the query
    counts as the user part; an ``@`` in the query leaves it open where the host begins, so then
    nothing is shown.

    >>> redact("rtsp://user:pw@camera.local:554/stream?channel=1&token=abc")
    'rtsp://camera.local:554/stream?channel=1&token=***'
    """
    scheme, separator, rest = spec.partition("://")
    if not separator:
        return spec
    address, mark, query = rest.partition("?")
    if "@" in query:
        return f"{scheme}://***"
    address = address.rpartition("@")[2].partition("#")[0]
    shown = (_redact_field(field) for field in query.partition("#")[0].split("&"))
    return f"{scheme}://{address}{mark}{'&'.join(shown) if query else ''}"


def _redact_field(field: str) -> str:
    key, equals, value = field.partition("=")
    if not equals:
        return "***"
    return f"{key}={value}" if re.fullmatch("[0-9]{1,2}", value) else f"{key}=***"
