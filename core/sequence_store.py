"""What is kept of a sequence until it is explained as a whole: relevance maps and face pictures."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["AUMaps", "Pictures"]


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

    def keep(self, wanted: Sequence[bool]) -> None:
        """Forget the maps that are not wanted; those that stay are numbered anew."""
        places = [n for n, stays in enumerate(wanted) if stays]
        self.frames = [self.frames[n] for n in places]
        self.descriptors = [self.descriptors[n] for n in places]
        kept = {k: self.maps[n] for k, n in enumerate(places) if n in self.maps}
        if places and not kept:  # all fell to the thinning: the nearest of the others stands in
            kept = {0: self.maps[min(self.maps, key=lambda n: abs(n - places[0]))]}
        self.maps = kept


class Pictures:
    """Face pictures by frame, compressed, within a bound: beyond it every second one, …"""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._frames: list[int] = []
        self._jpegs: list[NDArray[np.uint8]] = []
        self._bytes = 0
        self._stride = 1
        self._seen = 0

    def __contains__(self, frame: int) -> bool:
        at = bisect.bisect_left(self._frames, frame)
        return at < len(self._frames) and self._frames[at] == frame

    def add(self, frame: int, picture: NDArray[np.uint8]) -> None:
        """Keep the picture of the next frame, if its turn comes."""
        self._seen += 1
        if (self._seen - 1) % self._stride:
            return
        quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
        jpeg = cv2.imencode(".jpg", picture, quality)[1].astype(np.uint8, copy=False)
        self._frames.append(frame)
        self._jpegs.append(jpeg)
        self._bytes += jpeg.nbytes
        if self._bytes > self._limit:
            self._stride *= 2
            self._frames, self._jpegs = self._frames[::2], self._jpegs[::2]
            self._bytes = sum(jpeg.nbytes for jpeg in self._jpegs)

    def nearest(self, frame: float, first: int, last: int) -> NDArray[np.uint8] | None:
        """Return the picture nearest to a frame among the frames ``first`` … ``last``."""
        start = bisect.bisect_left(self._frames, first)
        end = bisect.bisect_right(self._frames, last)
        if start == end:
            return None
        at = min(range(start, end), key=lambda n: abs(self._frames[n] - frame))
        picture = cv2.imdecode(self._jpegs[at], cv2.IMREAD_UNCHANGED)
        assert picture is not None  # our own JPEG
        return picture.astype(np.uint8, copy=False)
