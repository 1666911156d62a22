"""Markers of a recording: what people wrote beside a moment or a span, in :data:`MARKERS`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import ConfigError
from ..offline.cells import csv_text, plain_text
from ..offline.exports import MARKERS

__all__ = ["MARKERS", "Marker", "add_markers", "marker_table", "parse_markers", "read_markers"]

MOST_BYTES = 64 << 20
"""A larger file is no file of markers."""
_COLUMNS = ("text", "start_s", "end_s")


@dataclass(frozen=True, slots=True, order=True)
class Marker:
    """A moment or a span, and what somebody wrote beside it.

    Attributes:
        start_s, end_s: on the source's time line, seconds; the same for a moment.
        text: one line.

    Raises:
        ConfigError: it ends before it begins, a time is no number, or the text is empty.
    """

    start_s: float
    end_s: float
    text: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and math.isfinite(self.end_s)):
            raise ConfigError(f"the marker {self.text[:40]!r} has a time that is no number")
        if self.end_s < self.start_s:
            raise ConfigError(
                f"the marker {self.text[:40]!r} ends at {self.end_s:g} s before it begins at "
                f"{self.start_s:g} s; correct it where it was made"
            )
        if not self.text.strip():
            raise ConfigError(f"the marker at {self.start_s:g} s has no text; write some")


def marker_table(markers: Iterable[Marker]) -> str:
    """Return markers as CSV, in the order of time."""
    rows = (
        [str(number), one.text, f"{one.start_s:.6f}", f"{one.end_s:.6f}"]
        for number, one in enumerate(sorted(markers), start=1)
    )
    return csv_text(["id", *_COLUMNS], rows)


def parse_markers(text: str, name: str) -> list[Marker]:
    """Read markers from CSV with the columns ``text``, ``start_s`` and ``end_s``.

    Of a table with a column ``tier``, as ``facestage export --to csv`` writes it, the rows of tiers
    whose name begins with ``markers``.

    Args:
        text: of the file.
        name: of the file, for errors.

    Raises:
        ConfigError: a column is missing, or a row holds no marker.
    """
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(
            f"{name} has no column {missing[0]!r}; markers need {', '.join(_COLUMNS)}"
        )
    markers: list[Marker] = []
    try:
        for row in reader:
            if not (row.get("tier") or "markers").startswith("markers"):
                continue
            words = " ".join(plain_text(row["text"] or "").split())
            markers.append(Marker(float(row["start_s"]), float(row["end_s"]), words))
    except (TypeError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"{name}, line {reader.line_num}: {error}; write seconds as numbers"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{name}, line {reader.line_num}: {error}") from error
    return markers


def read_markers(folder: Path) -> list[Marker]:
    """Return the markers of a folder of results; none where nobody made any.

    Raises:
        ConfigError: its file cannot be read.
    """
    path = folder / MARKERS
    if not path.exists():
        return []
    return parse_markers(read_text(path), str(path))


def add_markers(known: Sequence[Marker], new: Sequence[Marker]) -> list[Marker]:
    """Return both together; what is there already is not added again."""
    return sorted(dict.fromkeys([*known, *new]))


def read_text(path: Path) -> str:
    """Return a text file's content.

    Raises:
        ConfigError: it cannot be read, is too large, or is no UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text in UTF-8; save it as such") from error


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        ConfigError: it cannot be read, or is too large.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} is too large to hold annotations; name another file")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror or error}; name a file that you can read"
        ) from error
