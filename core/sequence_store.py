"""What a sequence keeps until it is explained as a whole: rows, relevance maps, face pictures."""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from .types import BaselineState, FaceState, FrameRow, HeadPose

__all__ = [
    "NOWHERE",
    "AUMaps",
    "Descriptors",
    "FrameRows",
    "MemoryShelf",
    "PartOfShelf",
    "Pictures",
    "Shelf",
]

NOWHERE = -1
"""Place of what is not kept."""

WAITING_BYTES = 64 << 20
"""Bound on the memory for frames whose face picture was not asked for yet, bytes."""


class Shelf(Protocol):
    """Keeps pieces of data until they are asked for: in memory, or where the shell has room."""

    def put(self, data: bytes) -> int:
        """Keep a piece; return the number to ask for it by, 0 to 2⁶³ − 1."""
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
        face_ids: number of the person of each, 0 where it is not known.
        descriptors: place of each map's ``(D,)`` float32; −1 where it holds nothing to compare.
        maps: number of the map → place of its ``(S, S)`` float32, for those kept in full.
    """

    shelf: Shelf
    frames: array[int] = field(default_factory=lambda: array("q"))
    face_ids: array[int] = field(default_factory=lambda: array("I"))
    descriptors: array[int] = field(default_factory=lambda: array("q"))
    maps: dict[int, int] = field(default_factory=dict)

    def add(
        self,
        frame: int,
        face_id: int | None,
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
        self.face_ids.append(face_id or _NOBODY)
        self.descriptors.append(
            NOWHERE if descriptor is None else self.shelf.put(descriptor.tobytes())
        )

    def map(self, n: int) -> NDArray[np.float32]:
        """Return the full map of a number, ``(S, S)``."""
        values = np.frombuffer(self.shelf.get(self.maps[n]), np.float32)
        side = math.isqrt(values.size)
        return values.reshape(side, side)

    def rows(self) -> Descriptors:
        """Return the descriptors of the maps that have one."""
        return Descriptors(self.shelf, array("q", (p for p in self.descriptors if p != NOWHERE)))

    def thin(self, stride: int) -> None:
        """Forget the full maps that are not on the stride."""
        for n in [n for n in self.maps if n % stride]:
            self.shelf.drop(self.maps.pop(n))


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Descriptors on a shelf; they are the ``Rows`` of :mod:`.clustering.spectral`.

    Attributes:
        shelf: where they lie.
        places: of each, ``(D,)`` float32.
    """

    shelf: Shelf
    places: array[int]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows of these numbers, at least one, ``(m, D)``."""
        pieces = (self.shelf.get(self.places[number]) for number in numbers.tolist())
        return np.stack([np.frombuffer(piece, np.float32) for piece in pieces])


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


_FACES = tuple(FaceState)
_BASELINES = tuple(BaselineState)
_NOBODY = 0
"""Stands for no number of a person; those begin with 1."""
_NO_POSE = (math.nan,) * 3
_Labels = tuple[tuple[int, str], ...]


class _Sets:
    """Every set of labels that occurs, by its number."""

    def __init__(self) -> None:
        self.known: list[_Labels] = []
        self._numbers: dict[_Labels, int] = {}

    def number(self, mapping: Mapping[int, str]) -> int:
        """Return the number of a set, a new one for a new set."""
        labels = tuple(mapping.items())
        if labels not in self._numbers:
            self._numbers[labels] = len(self.known)
            self.known.append(labels)
        return self._numbers[labels]


class FrameRows(Sequence[FrameRow]):
    """Rows that are made when they are asked for.

    A row takes about 80 bytes and 4 for each of its numbers per AU; as an object of its own it
    would take a thousand.
    """

    def __init__(self) -> None:
        self._index, self._start = array("q"), array("q")
        self._time_s, self._rest_s, self._rest_prior = array("d"), array("d"), array("d")
        self._face, self._baseline, self._has = bytearray(), bytearray(), bytearray()
        self._face_id, self._label = array("I"), array("I")
        self._pose = array("d")
        """Three angles a row, not-a-numbers where there are none."""
        self._values = array("f")
        """What rows have of their four vectors, one after the other; see ``_has``."""
        self._sets = _Sets()
        self._count = 0
        """Rows there were when the labels were given: the columns may have grown since."""

    def append(self, row: FrameRow) -> None:
        """Add a row; its vectors, where there are any, are of one length."""
        vectors = (row.presence, row.intensity, row.adjusted_presence, row.adjusted_intensity)
        self._index.append(row.index)
        self._start.append(len(self._values))
        self._time_s.append(row.time_s)
        self._rest_s.append(row.rest_s)
        self._rest_prior.append(row.rest_prior)
        self._face.append(_FACES.index(row.face))
        self._baseline.append(_BASELINES.index(row.baseline))
        self._has.append(sum(1 << n for n, vector in enumerate(vectors) if vector is not None))
        self._face_id.append(row.face_id or _NOBODY)
        pose = row.pose
        self._pose.extend(_NO_POSE if pose is None else (pose.yaw, pose.pitch, pose.roll))
        self._label.append(self._sets.number(row.labels))
        for vector in vectors:
            if vector is not None:
                self._values.frombytes(vector.astype(np.float32, copy=False).tobytes())
        self._count += 1

    def labelled(self, labels: Iterable[Mapping[int, str]]) -> FrameRows:
        """Return the same rows with other labels, one mapping for each; the rest is shared."""
        other = FrameRows()
        other.__dict__.update(self.__dict__)
        other._label, other._sets = array("I"), _Sets()
        other._label.extend(other._sets.number(mapping) for mapping in labels)
        return other

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> FrameRow: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[FrameRow, ...]: ...
    def __getitem__(self, at: int | slice) -> FrameRow | tuple[FrameRow, ...]:
        if isinstance(at, slice):
            return tuple(self._row(n) for n in range(*at.indices(len(self))))
        return self._row(range(len(self))[at])

    def __iter__(self) -> Iterator[FrameRow]:
        return map(self._row, range(len(self)))

    def _row(self, n: int) -> FrameRow:
        presence, intensity, adjusted, adjusted_intensity = self._vectors(n)
        angles = self._pose[3 * n : 3 * n + 3]
        return FrameRow(
            index=self._index[n],
            time_s=self._time_s[n],
            face=_FACES[self._face[n]],
            presence=presence,
            intensity=intensity,
            labels=dict(self._sets.known[self._label[n]]),
            baseline=_BASELINES[self._baseline[n]],
            adjusted_presence=adjusted,
            adjusted_intensity=adjusted_intensity,
            rest_s=self._rest_s[n],
            rest_prior=self._rest_prior[n],
            pose=None if math.isnan(angles[0]) else HeadPose(*angles),
            face_id=self._face_id[n] or None,
        )

    def _vectors(self, n: int) -> list[NDArray[np.float32] | None]:
        has = [bool(self._has[n] >> number & 1) for number in range(4)]
        start = self._start[n]
        end = self._start[n + 1] if n + 1 < len(self._start) else len(self._values)
        parts = iter(np.array(self._values[start:end], np.float32).reshape(max(1, sum(has)), -1))
        return [next(parts) if one else None for one in has]
