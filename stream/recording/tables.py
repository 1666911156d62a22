"""``facestage.read``: a session, or a result of ``analyze``, as tables.

Tables are DataFrames where pandas is installed (extra ``pandas``), else structured arrays of NumPy
with the same column names; those of ``frames`` are the columns of ``frames.csv``. Nobody waits for
torch here.
"""

from __future__ import annotations

import csv
import importlib
import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...core.action_units import au_code, parse_label
from ...core.errors import ConfigError, SourceError
from .. import protocol
from .folder import HEAD
from .reader import Session, open_session
from .result import session_results

__all__ = ["Recording", "read"]

_RESULT = "temporal_prototype.json"
_TEXT = ("stream", "face", "baseline", "file", "labels", "label", "letter", "type", "data")
_WHOLE = ("frame", "seq", "stage", "start_frame", "end_frame", "frames", "first", "exemplar", "au")
_EXACT = ("time", "seconds", "t_capture", "t_emit", "start_s", "end_s")
_OPENFACE = re.compile(r"\s*AU(\d{2})_([rc])\s*")


class Recording:
    """A session or a result as tables.

    Attributes:
        frames: a row per frame and face: ``stream``, ``frame``, ``face_id`` (NaN: nobody), ``time``
            (seconds on the source's time line), ``face`` (its state), ``x``, ``y``, ``width``,
            ``height`` (the box in pixels, where it is known), ``yaw``, ``pitch``, ``roll``
            (degrees), ``AU12`` (presence 0–1), ``AU12_r`` (intensity 0–5), ``AU12_label`` (its
            letter; empty where it is not active), and what else ``frames.csv`` has; of a session
            also ``t_capture`` (seconds since 1970), ``labels`` (those of the stage) and each score
            by its name (NaN: withheld, or not known).
        stages: ``stream``, ``stage`` (its number), ``start_frame``, ``end_frame``,
            ``start_s``, ``end_s``, ``labels``.
        events: of a session: ``seq``, ``seconds`` (since it began), ``stream``, ``type``,
            ``t_capture``, ``t_emit`` (seconds since 1970), ``data`` (JSON).
        prototypes: ``stream``, ``label``, ``au``, ``letter``, ``frames``, ``first``, ``exemplar``.
        notes: what is missing or was altered, a sentence each.
    """

    def __init__(
        self, frames: Any, stages: Any, events: Any, prototypes: Any, notes: tuple[str, ...] = ()
    ) -> None:
        self.frames, self.stages = frames, stages
        self.events, self.prototypes = events, prototypes
        self.notes = notes

    def to_openface_csv(self, path: str | Path) -> None:
        """Write the frames with the column names of OpenFace.

        ``frame`` begins with 1 and ``face_id`` with 0, as there; ``success`` is 1 where AUs could
        be analysed; angles are radians with the signs of facestage; ``AU12_r`` is intensity 0–5 and
        ``AU12_c`` whether it is active.
        """
        header = ["frame", "face_id", "timestamp", "confidence", "success"]
        header += ["pose_Rx", "pose_Ry", "pose_Rz"]
        codes = _codes(self.frames)
        header += [f"{code}_r" for code in codes] + [f"{code}_c" for code in codes]
        columns = {name: _column(self.frames, name) for name in _names(self.frames)}

        def row(n: int) -> list[Any]:
            usable = bool(codes) and not math.isnan(columns[codes[0]][n])
            face = columns["face_id"][n]
            angles = [_or_zero(columns[name][n]) for name in ("pitch", "yaw", "roll")]
            return [
                int(columns["frame"][n]) + 1,
                0 if math.isnan(face) else int(face) - 1,
                f"{columns['time'][n]:.4f}",
                1.0 if usable else 0.0,
                int(usable),
                *(f"{math.radians(angle):.4f}" for angle in angles),
                *(f"{_or_zero(columns[f'{code}_r'][n]):.3f}" for code in codes),
                *(int(columns[f"{code}_label"][n] != "") for code in codes),
            ]

        _write_csv(Path(path), header, map(row, range(len(self.frames))))

    def to_fex_csv(self, path: str | Path) -> None:
        """Write the frames with the column names of py-feat's ``Fex``.

        ``AU12`` is presence 0–1; ``FaceRectX`` and so on are empty where the box is not known.
        """
        codes = _codes(self.frames)
        own = ["stream", "frame", "time", "x", "y", "width", "height", "pitch", "roll", "yaw"]
        theirs = ["input", "frame", "approx_time", "FaceRectX", "FaceRectY", "FaceRectWidth"]
        theirs += ["FaceRectHeight", "Pitch", "Roll", "Yaw"]
        names = _names(self.frames)
        columns = [_column(self.frames, name) if name in names else None for name in own + codes]

        def row(n: int) -> list[Any]:
            return ["" if column is None else _cell(column[n]) for column in columns]

        _write_csv(Path(path), theirs + codes, map(row, range(len(self.frames))))


def read(path: str | Path) -> Recording:
    """Read a session, a result of ``analyze`` or ``report``, or a table of another program.

    Args:
        path: folder of a session (``--record``) or of a result (``--out``); or a CSV file of
            OpenFace, or of py-feat's ``Fex``, of which only ``frames`` has rows.

    Raises:
        SourceError: it is none of these, or cannot be read.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return _read_other(place)
    if (place / HEAD).exists():
        return _read_session(open_session(place))
    if (place / _RESULT).exists():
        return _read_result(place)
    if place.is_dir():
        open_session(place)  # says what to name instead
    raise SourceError(
        f"{place} is neither a session nor a result; name a folder that --record or --out wrote"
    )


# ---- a session


def _read_session(session: Session) -> Recording:
    results = session_results(session)
    frames, events = _Columns(), _Columns()
    codes = {unit.au: unit.code for unit in session.head.hello.aus}
    for record in session.records():
        envelope = record.envelope
        if envelope is None:
            continue
        if isinstance(envelope.data, protocol.FrameSample) and envelope.stream is not None:
            frames.add(_frame(envelope.stream, envelope.t_capture, envelope.data, codes))
        elif envelope.seq is not None:
            events.add(
                {
                    "seq": envelope.seq,
                    "seconds": record.at,
                    "stream": envelope.stream or "",
                    "type": envelope.type,
                    "t_capture": envelope.t_capture,
                    "t_emit": envelope.t_emit,
                    "data": json.dumps(json.loads(record.message)["data"], ensure_ascii=False),
                }
            )
    stages, prototypes = _Columns(), _Columns()
    every = list(results.items())
    for name, result in results.items():
        every += [(f"{name}/{n}", other) for n, other in enumerate(result.others, start=2)]
    for name, result in every:
        for number, stage in enumerate(result.stages, start=1):
            stages.add(
                _stage(name, number, stage.start, stage.end, stage.start_s, stage.end_s)
                | {"labels": "+".join(stage.labels)}
            )
        for label, item in result.prototypes.items():
            prototypes.add(_prototype(name, label, item.frames, item.first, item.exemplar))
    tables = (table.made() for table in (frames, stages, events, prototypes))
    return Recording(*tables, notes=session.notes)


def _frame(
    stream: str, t_capture: float | None, data: protocol.FrameSample, codes: Mapping[int, str]
) -> dict[str, Any]:
    face = data.face
    row: dict[str, Any] = {
        "stream": stream,
        "frame": data.frame,
        "face_id": face.id,
        "time": data.time_s,
        "t_capture": t_capture,
        "face": face.state,
    }
    row |= zip(("x", "y", "width", "height"), face.box or (None,) * 4, strict=True)
    row |= zip(("yaw", "pitch", "roll"), face.pose or (None,) * 3, strict=True)
    values = {value.au: value for value in data.aus}
    for au, code in codes.items():
        value = values.get(au)
        active = value is not None and value.active
        row[code] = value and value.presence
        row[f"{code}_r"] = value and value.intensity
        row[f"{code}_label"] = (value.letter or "") if value is not None and active else ""
        row[f"{code}_adjusted"] = value and value.adjusted
        row[f"{code}_adjusted_r"] = value and value.adjusted_intensity
    row |= {"baseline": data.baseline, "rest_s": data.rest_s}
    row |= {score.name: score.value for score in data.scores}
    return row | {"labels": "+".join(data.stage or ())}


def _stage(
    stream: str, number: int, start: int, end: int, start_s: float, end_s: float
) -> dict[str, Any]:
    return {
        "stream": stream,
        "stage": number,
        "start_frame": start,
        "end_frame": end,
        "start_s": start_s,
        "end_s": end_s,
    }


def _prototype(stream: str, label: str, frames: int, first: int, exemplar: int) -> dict[str, Any]:
    au, letter = parse_label(label)
    row: dict[str, Any] = {"stream": stream, "label": label, "au": au, "letter": letter or ""}
    return row | {"frames": frames, "first": first, "exemplar": exemplar}


# ---- a result, or a table of another program


def _read_result(folder: Path) -> Recording:
    frames, stages, prototypes = _Columns(), _Columns(), _Columns()
    notes: list[str] = []
    places = [folder, *sorted(folder.glob("face[0-9]*/"))]
    for place in places:
        try:
            facts = json.loads((place / _RESULT).read_bytes())
            source, note = str(facts["source"]), str(facts.get("note") or "")
            if place == folder:
                frames.fill({"stream": source} | row for row in _rows(place / "frames.csv"))
            for row in _rows(place / "stages.csv"):
                stages.add({"stream": source} | row)
            for item in facts["prototypes"]:
                counts = (int(item[key]) for key in ("frames", "first", "exemplar"))
                prototypes.add(_prototype(source, item["label"], *counts))
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            raise SourceError(
                f"{place} cannot be read as a result ({error}); let analyze write it anew"
            ) from error
        notes += [note] if note else []
    events = _Columns()
    tables = (table.made() for table in (frames, stages, events, prototypes))
    return Recording(*tables, notes=tuple(notes))


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {name: _typed(name, text) for name, text in row.items()}


def _typed(name: str, text: str) -> Any:
    if _kind(name) == "text":
        return text
    return None if text == "" else float(text)


def _read_other(path: Path) -> Recording:
    """Read the CSV of OpenFace, or of py-feat, into the columns of ``frames``."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = [name.strip() for name in reader.fieldnames or ()]
            convert = _converter(names)
            if convert is None:
                raise SourceError(
                    f"{path} is no table of OpenFace or py-feat; it lacks their columns (AU01_r, "
                    "or FaceRectX)"
                )
            frames = _Columns()
            for row in reader:
                frames.add(convert({key.strip(): text for key, text in row.items() if key}))
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read ({error}); write it anew") from error
    empty = (_Columns().made() for _ in range(3))
    return Recording(frames.made(), *empty)


def _converter(names: list[str]) -> Callable[[dict[str, str]], dict[str, Any]] | None:
    if "FaceRectX" in names:
        return _of_fex
    return _of_openface if any(map(_OPENFACE.fullmatch, names)) else None


def _of_openface(row: dict[str, str]) -> dict[str, Any]:
    own: dict[str, Any] = {
        "frame": int(row["frame"]) - 1,
        "face_id": int(row.get("face_id") or 0) + 1,
        "time": float(row["timestamp"]),
    }
    usable = float(row.get("success") or 1) > 0
    for theirs, name in (("pose_Ry", "yaw"), ("pose_Rx", "pitch"), ("pose_Rz", "roll")):
        own[name] = math.degrees(float(row[theirs])) if theirs in row and usable else None
    for name, text in row.items():
        match = _OPENFACE.fullmatch(name)
        if match and match[2] == "r":
            own[f"AU{match[1]}_r"] = float(text) if usable else None
        elif match:
            own[f"AU{match[1]}"] = float(text) if usable else None
    return own


def _of_fex(row: dict[str, str]) -> dict[str, Any]:
    pairs = [("frame", "frame"), ("approx_time", "time"), ("FaceRectX", "x"), ("FaceRectY", "y")]
    pairs += [("FaceRectWidth", "width"), ("FaceRectHeight", "height")]
    pairs += [("Yaw", "yaw"), ("Pitch", "pitch"), ("Roll", "roll")]
    pairs += [(name, name) for name in row if re.fullmatch(r"AU\d{2}", name)]
    own = {own: _typed(own, row[theirs]) for theirs, own in pairs if theirs in row}
    return {"stream": row.get("input", "")} | own


# ---- tables


class _Columns:
    """A table that grows row by row, in little memory."""

    def __init__(self) -> None:
        self._columns: dict[str, Any] = {}
        self._rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row; a column that an earlier one lacked has nothing there."""
        for name, value in row.items():
            if name not in self._columns:
                self._columns[name] = _empty(name)
                self._columns[name].extend([_blank(name)] * self._rows)
            self._columns[name].append(_blank(name) if value is None else _whole(name, value))
        self._rows += 1
        for name, column in self._columns.items():
            if len(column) < self._rows:
                column.append(_blank(name))

    def fill(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows."""
        for row in rows:
            self.add(row)

    def made(self) -> Any:
        """Return the table."""
        arrays = {name: np.array(column) for name, column in self._columns.items()}
        try:
            pandas: Any = importlib.import_module("pandas")
        except ModuleNotFoundError:
            kinds = [(name, values.dtype) for name, values in arrays.items()]
            table = np.empty(self._rows, kinds)
            for name, values in arrays.items():
                table[name] = values
            return table
        return pandas.DataFrame(
            {name: list(v) if _kind(name) == "text" else v for name, v in arrays.items()}
        )


def _kind(name: str) -> str:
    if name in _TEXT or name.endswith("_label"):
        return "text"
    if name in _WHOLE:
        return "whole"
    return "exact" if name in _EXACT else "number"


def _empty(name: str) -> Any:
    kinds: dict[str, Any] = {"text": [], "whole": array("q"), "exact": array("d")}
    return kinds.get(_kind(name), array("f"))


def _blank(name: str) -> Any:
    return {"text": "", "whole": -1}.get(_kind(name), math.nan)


def _whole(name: str, value: Any) -> Any:
    return int(value) if _kind(name) == "whole" else value


def _names(table: Any) -> list[str]:
    if isinstance(table, np.ndarray):
        return list(table.dtype.names or ())
    return list(table.columns)


def _column(table: Any, name: str) -> Any:
    return np.asarray(table[name])


def _codes(table: Any) -> list[str]:
    """Return the AUs of a table of frames, ``AU12``, in their order."""
    found = sorted(int(n[2:]) for n in _names(table) if re.fullmatch(r"AU\d+", n))
    return [au_code(au) for au in found]


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else float(value)


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else round(float(value), 4)
    return value


def _write_csv(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror or error}); name another file"
        ) from error
