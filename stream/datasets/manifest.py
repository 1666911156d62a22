"""Manifests: CSV files of labelled pictures.

A manifest is a CSV file with one row per picture::

    # labels: intensity
    path,frame,subject,AU01,AU04,AU12
    s1/smile.png,,anna,0,,3
    clips/talk.mp4,41,ben,,2.5,0

``path`` is relative to the manifest; ``frame`` counts from 0 and is blank for images; a blank label
is *not coded*, which is not the same as absent. Columns that are neither these nor AUs are ignored.
``AU12_r`` is an intensity (FACS 0–5) and ``AU12_c`` presence (0 or 1), as in OpenFace. What plain
columns (``AU12`` or ``AU1``) hold is said by a first line ``# labels: intensity`` or
``# labels: presence``; without it they are presence where the file has nothing but 0 and 1 in them,
and intensity otherwise, and the summary says which.
"""

from __future__ import annotations

import csv
import io
import math
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.action_units import AU_NAMES, au_code
from ...core.errors import SourceError
from ..sources.images import IMAGE_SUFFIXES
from .faces import Item, LabelledFaces
from .folders import expanded

__all__ = ["column_of", "csv_rows", "is_image", "read_manifest"]

_COLUMN = re.compile(r"AU0*(\d{1,2})(?:_([RC]))?", re.IGNORECASE)
_LOOKS_LIKE_AU = re.compile(r"AU\s*\d", re.IGNORECASE)
_RULE = re.compile(r"#\s*labels\s*:\s*(\S+)\s*", re.IGNORECASE)
_SPLITS = ("", "train", "test")
_MOST_DIGITS = 9
"""Most digits of a frame's number: more than any video needs, and few enough to count with."""


def is_image(path: Path) -> bool:
    """Tell an image from a video by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_manifest(path: Path | str) -> LabelledFaces:
    """Read a manifest (see the module's text) and check that every file in it exists.

    Args:
        path: the CSV file.

    Returns:
        Its rows.

    Raises:
        SourceError: it cannot be read, or a row or column is wrong; the message names file and
            line.
    """
    path = expanded(path)
    rule, first_line, rows = csv_rows(path)
    header = [name.strip() for name in next(rows)]
    where = f"{path}, line {first_line}"
    columns = _au_columns(header, where)
    fixed = {name: column_of(header, name, where) for name in ("path", "frame", "subject", "split")}
    for name, hint in (
        ("path", "the image or video of each row"),
        ("subject", "who is seen, so that no person is in both training and test"),
    ):
        if fixed[name] is None:
            raise SourceError(
                f"{where}: there is no column {name!r}; add one with {hint} "
                f"(found: {', '.join(header) or 'nothing'})"
            )
    reader = _RowReader(path, fixed)
    items: list[Item] = []
    values: list[list[float]] = []
    for cells in rows:
        line = first_line - 1 + rows.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise SourceError(
                f"{path}, line {line}: {len(cells)} cells, but the header has {len(header)}; "
                "complete the row (a blank label keeps its comma)"
            )
        items.append(reader.item(cells, line))
        values.append([_label(cells[c.index], c, f"{path}, line {line}") for c in columns])
    if not items:
        raise SourceError(f"{path} has a header but no row; add one line per picture")
    table = np.array(values, np.float64)
    if np.isnan(table).all():
        raise SourceError(
            f"{path}: all labels are blank, nothing can be learnt or compared; code at least one "
            "AU in one row"
        )
    return _assemble(path, tuple(items), columns, table, rule)


@dataclass(frozen=True, slots=True)
class _Column:
    """An AU column: its place, its AU, and ``r``, ``c`` or ``""`` for what it holds."""

    index: int
    name: str
    au: int
    kind: str


class _RowReader:
    """Reads the columns of a row that are not labels; looks at each file once."""

    def __init__(self, manifest: Path, columns: dict[str, int | None]) -> None:
        self._manifest = manifest
        self._columns = columns
        self._known: dict[str, Path] = {}

    def item(self, cells: list[str], line: int) -> Item:
        where = f"{self._manifest}, line {line}"
        path = self._file(self._cell(cells, "path"), where)
        subject = self._cell(cells, "subject")
        if not subject:
            raise SourceError(f"{where}: no subject; say who is seen (any name or number)")
        split = self._cell(cells, "split").lower()
        if split not in _SPLITS:
            raise SourceError(f"{where}: split is {split!r}; write train, test or leave it blank")
        frame = self._frame(self._cell(cells, "frame"), path, where)
        return Item(path, frame, subject, where, split)

    def _cell(self, cells: list[str], name: str) -> str:
        index = self._columns[name]
        return "" if index is None else cells[index].strip()

    def _file(self, text: str, where: str) -> Path:
        if text not in self._known:
            if not text:
                raise SourceError(f"{where}: no path; name the image or video of this row")
            path = self._manifest.parent / expanded(text)
            if not _is_file(path):
                raise SourceError(
                    f"{where}: there is no file {path} (or no permission to see it); correct the "
                    "path (relative ones start at the manifest's folder) or remove the row"
                )
            self._known[text] = path
        return self._known[text]

    def _frame(self, text: str, path: Path, where: str) -> int | None:
        if is_image(path):
            if text not in ("", "0"):
                raise SourceError(
                    f"{where}: frame {text!r}, but {path.name} is an image; leave frame blank"
                )
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            raise SourceError(
                f"{where}: frame is {reprlib.repr(text)}; {path.name} is taken for a video, give "
                "the number of the frame, counted from 0"
            )
        return int(text)


def _is_file(path: Path) -> bool:
    """Tell whether a file is there and can be reached."""
    try:
        return path.is_file()
    except OSError:  # no permission for a folder on the way, or no name a file can have
        return False


class _Rows:
    """CSV rows that count lines."""

    def __init__(self, text: str, path: Path) -> None:
        self._reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        self._path = path

    @property
    def line_num(self) -> int:
        return self._reader.line_num

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> list[str]:
        try:
            return next(self._reader)
        except csv.Error as error:
            raise SourceError(
                f"{self._path}, line {self._reader.line_num}: not CSV ({error}); check the quotes"
            ) from error


def csv_rows(path: Path) -> tuple[str, int, _Rows]:
    """Read a file; return its declared rule, the number of the header's line, and its rows."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text ({error}); save it as CSV UTF-8") from error
    except OSError as error:
        raise SourceError(
            f"the manifest {path} cannot be read: {error.strerror or error}; check the path"
        ) from error
    rule, line = "", 1
    rest = text
    while rest and (rest.startswith("#") or not rest.partition("\n")[0].strip()):
        first, _, rest = rest.partition("\n")
        match = _RULE.fullmatch(first.strip())
        if match is not None:
            rule = match[1].lower()
            if rule not in ("intensity", "presence"):
                raise SourceError(
                    f"{path}, line {line}: labels are {match[1]!r}; write '# labels: intensity' "
                    "(FACS 0 to 5) or '# labels: presence' (0 or 1)"
                )
        line += 1
    if not rest.strip():
        raise SourceError(
            f"{path} is empty; the first line names the columns: path,frame,subject,AU01,…"
        )
    return rule, line, _Rows(rest, path)


def column_of(header: list[str], name: str, where: str) -> int | None:
    """Return the place of a column, or None; a column that stands there twice is an error."""
    places = [i for i, title in enumerate(header) if title.lower() == name]
    if len(places) > 1:
        raise SourceError(f"{where}: the column {name!r} is there twice; keep one")
    return places[0] if places else None


def _au_columns(header: list[str], where: str) -> list[_Column]:
    columns: list[_Column] = []
    for index, name in enumerate(header):
        match = _COLUMN.fullmatch(name)
        if match is None or int(match[1]) not in AU_NAMES:
            if _LOOKS_LIKE_AU.match(name):
                raise SourceError(
                    f"{where}: the column {name!r} is no Action Unit known here; remove or rename "
                    f"it (known: {', '.join(map(str, AU_NAMES))}; AU12, AU12_r or AU12_c)"
                )
            continue
        column = _Column(index, name, int(match[1]), (match[2] or "").lower())
        for other in columns:
            if other.au == column.au and (
                other.kind == column.kind or "" in (other.kind, column.kind)
            ):
                raise SourceError(
                    f"{where}: {other.name} and {name} are the same AU; keep one of them"
                )
        columns.append(column)
    if not columns:
        if len(header) == 1 and re.search("[;\t]", header[0]):
            raise SourceError(
                f"{where}: the columns are not separated by commas (found: {header[0]}); save the "
                "table as CSV with commas"
            )
        raise SourceError(
            f"{where}: there is no AU column (found: {', '.join(header)}); add AU01, AU02, …"
        )
    return columns


def _label(text: str, column: _Column, where: str) -> float:
    text = text.strip()
    if not text or text.lower() == "nan":
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    top = 1 if column.kind == "c" else 5
    if not 0 <= value <= top or (column.kind == "c" and value not in (0, 1)):
        meaning = "0 or 1" if column.kind == "c" else "a FACS intensity from 0 to 5"
        raise SourceError(
            f"{where}: {column.name} is {text!r}; give {meaning}, or leave it blank where it was "
            "not coded"
        )
    return value


def _assemble(
    path: Path,
    items: tuple[Item, ...],
    columns: list[_Column],
    table: NDArray[np.float64],
    rule: str,
) -> LabelledFaces:
    """Turn columns of values into intensity and presence."""
    aus = tuple(sorted({column.au for column in columns}))
    intensity = np.full((len(items), len(aus)), np.nan, np.float32)
    presence = intensity.copy()
    plain = [i for i, column in enumerate(columns) if not column.kind]
    notes: list[str] = []
    if plain:
        labels = table[:, plain]
        binary = bool(np.isin(labels[~np.isnan(labels)], (0, 1)).all())
        if rule == "presence" and not binary:
            row, at = np.argwhere(~np.isnan(labels) & ~np.isin(labels, (0, 1)))[0]
            raise SourceError(
                f"{items[row].origin}: {columns[plain[at]].name} is {labels[row, at]:g}, but the "
                "file says '# labels: presence'; write 0 or 1, or '# labels: intensity'"
            )
        if not rule:
            rule = "presence" if binary else "intensity"
            notes.append(
                f"{path}: its AU columns are taken as {rule} (add '# labels: {rule}' as first line "
                "to say so)"
            )
    for i, column in enumerate(columns):
        at = aus.index(column.au)
        if (column.kind or rule[0]) in ("r", "i"):
            intensity[:, at] = table[:, i]
        else:
            presence[:, at] = table[:, i]
    # What is absent has an intensity: none. How strong something present is, stays open.
    absent = (presence == 0) & np.isnan(intensity)
    intensity[absent] = 0.0
    codes = " ".join(au_code(au) for au in aus)
    persons = len({item.subject for item in items})
    notes.append(f"{path}: {len(items)} pictures, {persons} subjects, {codes}")
    return LabelledFaces(items, aus, intensity, presence, tuple(notes))
