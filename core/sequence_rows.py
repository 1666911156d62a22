"""The rows of a sequence in columns: a long recording has hundreds of thousands."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from .types import BaselineState, FaceState, FrameRow

__all__ = ["FrameRows"]

_FACES = tuple(FaceState)
_BASELINES = tuple(BaselineState)
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

    A row takes about 50 bytes and 4 for each of its numbers per AU; as an object of its own it
    would take a thousand.
    """

    def __init__(self) -> None:
        self._index, self._start = array("q"), array("q")
        self._time_s, self._rest_s, self._rest_prior = array("d"), array("d"), array("d")
        self._face, self._baseline, self._has = bytearray(), bytearray(), bytearray()
        self._person, self._label = array("I"), array("I")
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
        self._person.append(row.person)
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
            person=self._person[n],
        )

    def _vectors(self, n: int) -> list[NDArray[np.float32] | None]:
        has = [bool(self._has[n] >> number & 1) for number in range(4)]
        start = self._start[n]
        end = self._start[n + 1] if n + 1 < len(self._start) else len(self._values)
        parts = iter(np.array(self._values[start:end], np.float32).reshape(max(1, sum(has)), -1))
        return [next(parts) if one else None for one in has]
