"""What a sequence keeps until it is explained as a whole: relevance maps and face pictures."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["AUMaps", "MemoryShelf", "PartOfShelf", "Pictures", "Shelf"]

WAITING_BYTES = 64 << 20
"""Bound on the memory for frames whose face picture was not asked for yet, bytes."""


class Shelf(Protocol):
    """Keeps pieces of data until they are asked for: in memory, or where the shell has room."""

    def put(self, data: bytes) -> int:
        """Keep a piece; return the number to ask for it by."""
        ...

    def get(self, place: int) -> bytes:
        """Return a piece."""
        ...

    def drop(self, place: int) -> None:
        """Forget a piece; its number may be given to another."""
        ...

    def clear(self) -> None:
        """Forget all."""
        ...


class PartOfShelf:
    """A part of a shelf that others use, too: it is the owner's to clear.

    Args:
        whole: the shelf.
    """

    def __init__(self, whole: Shelf) -> None:
        self.put, self.get, self.drop = whole.put, whole.get, whole.drop

    def clear(self) -> None:
        """Leave it to the owner."""


class MemoryShelf:
    """A shelf in memory."""

    def __init__(self) -> None:
        self._pieces: dict[int, bytes] = {}
        self._next = 0

    def put(self, data: bytes) -> int:
        """Keep a piece; see :class:`Shelf`."""
        self._pieces[self._next] = data
        self._next += 1
        return self._next - 1

    def get(self, place: int) -> bytes:
        """Return a piece."""
        return self._pieces[place]

    def drop(self, place: int) -> None:
        """Forget a piece."""
        del self._pieces[place]

    def clear(self) -> None:
        """Forget all."""
        self._pieces.clear()


@dataclass(slots=True)
class AUMaps:
    """Maps of one AU over the sequence: all descriptors, and full maps at a stride.

    Attributes:
        shelf: where they lie.
        frames: index of the frame of each map, ascending.
        descriptors: place of each map's ``(D,)`` float32; None where it holds nothing to compare.
        maps: number of the map → place of its ``(S, S)`` float32, for those kept in full.
    """

    shelf: Shelf
    frames: list[int] = field(default_factory=list)
    descriptors: list[int | None] = field(default_factory=list)
    maps: dict[int, int] = field(default_factory=dict)

    def add(
        self,
        frame: int,
        descriptor: NDArray[np.float32] | None,
        relevance: NDArray[np.float32],
        stride: int,
    ) -> None:
        """Add the map of the next frame; the full map only if its number is on the stride."""
        if len(self.frames) % stride == 0:
            self.maps[len(self.frames)] = self.shelf.put(
                relevance.astype(np.float32, copy=False).tobytes()
            )
        self.frames.append(frame)
        self.descriptors.append(
            None if descriptor is None else self.shelf.put(descriptor.tobytes())
        )

    def map(self, n: int) -> NDArray[np.float32]:
        """Return the full map of a number, ``(S, S)``."""
        values = np.frombuffer(self.shelf.get(self.maps[n]), np.float32)
        side = math.isqrt(values.size)
        return values.reshape(side, side)

    def rows(self) -> NDArray[np.float32]:
        """Return the descriptors of the maps that have one, ``(n, D)``."""
        places = [place for place in self.descriptors if place is not None]
        first = np.frombuffer(self.shelf.get(places[0]), np.float32)
        rows = np.empty((len(places), first.size), np.float32)
        for row, place in zip(rows, places, strict=True):
            row[:] = np.frombuffer(self.shelf.get(place), np.float32)
        return rows

    def thin(self, stride: int) -> None:
        """Forget the full maps that are not on the stride."""
        for n in [n for n in self.maps if n % stride]:
            self.shelf.drop(self.maps.pop(n))


class Pictures:
    """Face pictures by frame, compressed, within a bound on their room.

    Where the bound is exceeded every second picture is dropped, and from then on only every second
    frame is taken; the same again the next time. Most pictures of a short sequence are never looked
    at: they are cut out and compressed only when one is asked for, or when the frames that wait for
    it take too much room.

    Args:
        cut: makes the picture of a frame: its image, and the points of its face.
        limit: room for compressed pictures, bytes.
        waiting: memory for frames that wait, bytes; :data:`WAITING_BYTES` if None.
        shelf: where compressed pictures lie; in memory if None.
    """

    def __init__(
        self,
        cut: Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.uint8]],
        limit: int,
        waiting: int | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self._cut = cut
        self._shelf: Shelf = MemoryShelf() if shelf is None else shelf
        self._limit = limit
        self._most_waiting = WAITING_BYTES if waiting is None else waiting
        self._frames: list[int] = []
        self._jpegs: dict[int, tuple[int, int]] = {}
        """Frame → place and number of bytes of its picture."""
        self._waiting: dict[int, tuple[NDArray[np.uint8], NDArray[np.float32]]] = {}
        self._jpeg_bytes = self._waiting_bytes = 0
        self._stride = 1
        self._seen = 0

    def __contains__(self, frame: int) -> bool:
        return frame in self._jpegs or frame in self._waiting

    def add(self, frame: int, image: NDArray[np.uint8], points: NDArray[np.float32]) -> None:
        """Keep the picture of the next frame if it lies on the stride.

        Args:
            frame: its index.
            image: the whole frame. It is not copied, so it must not be written to.
            points: ``(5, 2)`` points of the face.
        """
        self._seen += 1
        if (self._seen - 1) % self._stride:
            return
        self._frames.append(frame)
        self._waiting[frame] = image, points
        self._waiting_bytes += image.nbytes
        while self._waiting_bytes > self._most_waiting:
            self._compress(next(iter(self._waiting)))
            if self._jpeg_bytes > self._limit:
                self._thin()

    def nearest(self, frame: float, first: int, last: int) -> NDArray[np.uint8] | None:
        """Return the picture nearest to a frame among the frames ``first`` … ``last``."""
        start = bisect.bisect_left(self._frames, first)
        end = bisect.bisect_right(self._frames, last)
        if start == end:
            return None
        found = min(self._frames[start:end], key=lambda candidate: abs(candidate - frame))
        if found in self._waiting:
            self._compress(found)
        jpeg = np.frombuffer(self._shelf.get(self._jpegs[found][0]), np.uint8)
        picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        if picture is None:
            raise RuntimeError(f"OpenCV cannot read the JPEG that it wrote of frame {found}")
        return picture.astype(np.uint8, copy=False)

    def _compress(self, frame: int) -> None:
        """Cut out the picture of a frame that waits for it."""
        picture = self._cut(*self._waiting[frame])
        self._drop(frame)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
        jpeg = cv2.imencode(".jpg", picture, quality)[1].tobytes()
        self._jpegs[frame] = self._shelf.put(jpeg), len(jpeg)
        self._jpeg_bytes += len(jpeg)

    def _thin(self) -> None:
        """Forget every second picture, the first excepted."""
        self._stride *= 2
        for frame in self._frames[1::2]:
            self._drop(frame)
        self._frames = self._frames[::2]

    def _drop(self, frame: int) -> None:
        if frame in self._waiting:
            self._waiting_bytes -= self._waiting.pop(frame)[0].nbytes
        if frame in self._jpegs:
            place, length = self._jpegs.pop(frame)
            self._shelf.drop(place)
            self._jpeg_bytes -= length
