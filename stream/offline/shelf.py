"""A shelf on a disk: what a long recording would otherwise keep in memory."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from typing import Any

from ...core.errors import ConfigError

__all__ = ["DiskShelf"]


_LENGTH_BITS = 28
"""Bits of a number that hold the length: pieces of up to 256 MiB, in a file of up to 32 GiB, so
that numbers stay below 2⁶³ and fit into arrays."""
_LENGTH = (1 << _LENGTH_BITS) - 1


class DiskShelf:
    """Pieces of data in one temporary file that goes with the process.

    It is a ``Shelf`` of ``core/sequence_store.py``.

    A piece's number holds its offset and its length. The room of a piece that was dropped is used
    again by the next of the same length: full relevance maps are all of one.

    Raises:
        ConfigError: the folder for temporary files (TMPDIR) cannot be written to, or is full.
    """

    def __init__(self) -> None:
        self._file: Any = None
        self.clear()

    def put(self, data: bytes) -> int:
        """Keep a piece of at most 256 MiB; return the number to ask for it by, below 2⁶³."""
        free = self._free.get(len(data))
        offset = free.pop() if free else self._end
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0, prefix="facestage-")  # noqa: SIM115
            self._file.seek(offset)
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise ConfigError(
                f"the folder for temporary files, {tempfile.gettempdir()}, cannot take what is kept"
                f" of a long recording ({error.strerror or error}); free some space there, or set"
                " TMPDIR"
            ) from None
        self._end = max(self._end, offset + len(data))
        return offset << _LENGTH_BITS | len(data)

    def get(self, place: int) -> bytes:
        """Return a piece."""
        self._file.seek(place >> _LENGTH_BITS)
        return bytes(self._file.read(place & _LENGTH))

    def drop(self, place: int) -> None:
        """Forget a piece; its number may be given to another."""
        self._free[place & _LENGTH].append(place >> _LENGTH_BITS)

    def clear(self) -> None:
        """Forget all."""
        if self._file is not None:
            self._file.close()
        self._file = None
        self._end = 0
        self._free: defaultdict[int, list[int]] = defaultdict(list)
