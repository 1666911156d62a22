"""What a sequence keeps until it is explained as a whole: relevance maps and face pictures."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["AUMaps", "Pictures"]

WAITING_BYTES = 64 << 20
"""Bound on the memory for frames whose face picture was not asked for yet, bytes."""


@dataclass(slots=True)
class AUMaps:
    """Maps of one AU over the sequence: all descriptors, and full maps at a stride.

    Attributes:
        frames: index of the frame of each map, ascending.
        descriptors: of each map, ``(D,)`` float32; None where it holds nothing to compare.
        maps: number of the map → ``(S, S)`` float32, for those kept in full.
    """

    frames: list[int] = field(default_factory=list)
    descriptors: list[NDArray[np.float32] | None] = field(default_factory=list)
    maps: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def add(
        self,
        frame: int,
        descriptor: NDArray[np.float32] | None,
        relevance: NDArray[np.float32],
        stride: int,
    ) -> None:
        """Add the map of the next frame; the full map only if its number is on the stride."""
        if len(self.frames) % stride == 0:
            # A copy: a row of a batch would keep the whole batch alive.
            self.maps[len(self.frames)] = relevance.copy()
        self.frames.append(frame)
        self.descriptors.append(descriptor)

    def thin(self, stride: int) -> None:
        """Forget the full maps that are not on the stride."""
        self.maps = {n: m for n, m in self.maps.items() if n % stride == 0}


class Pictures:
    """Face pictures by frame, compressed, within a bound on their memory.

    Where the bound is exceeded every second picture is dropped, and from then on only every second
    frame is taken; the same again the next time. Most pictures of a short sequence are never looked
    at: they are cut out and compressed only when one is asked for, or when the frames that wait for
    it take too much room.

    Args:
        cut: makes the picture of a frame: its image, and the points of its face.
        limit: memory for compressed pictures, bytes.
        waiting: memory for frames that wait, bytes; :data:`WAITING_BYTES` if None.
    """

    def __init__(
        self,
        cut: Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.uint8]],
        limit: int,
        waiting: int | None = None,
    ) -> None:
        self._cut = cut
        self._limit = limit
        self._most_waiting = WAITING_BYTES if waiting is None else waiting
        self._frames: list[int] = []
        self._jpegs: dict[int, NDArray[np.uint8]] = {}
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
        picture = cv2.imdecode(self._jpegs[found], cv2.IMREAD_COLOR)
        if picture is None:
            raise RuntimeError(f"OpenCV cannot read the JPEG that it wrote of frame {found}")
        return picture.astype(np.uint8, copy=False)

    def _compress(self, frame: int) -> None:
        """Cut out the picture of a frame that waits for it."""
        picture = self._cut(*self._waiting[frame])
        self._drop(frame)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
        jpeg = cv2.imencode(".jpg", picture, quality)[1].astype(np.uint8, copy=False)
        self._jpegs[frame] = jpeg
        self._jpeg_bytes += jpeg.nbytes

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
            self._jpeg_bytes -= self._jpegs.pop(frame).nbytes
