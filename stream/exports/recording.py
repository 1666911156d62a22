"""Read what ``facestage analyze`` wrote: frames, stages, scores and markers of one recording."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError
from ..offline.exports import SCHEMA
from .markers import Marker, read_markers, read_text

__all__ = ["Recording", "ScoreTrack", "StageSpan", "read_recording"]

_MANIFEST = "temporal_prototype.json"
_AU = re.compile(r"AU\d{2}")
DEFAULT_FPS = 30.0
"""Frames per second where the recording states none."""


@dataclass(frozen=True, slots=True)
class StageSpan:
    """A stage: its labels (``("AU12_A",)``) and when it was, seconds; ``end_s`` is exclusive."""

    labels: tuple[str, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTrack:
    """A score: ``low`` and ``high`` ``(n,)``, between which it lies; nan where it is withheld."""

    name: str
    formula: str
    source: str
    caution: str
    least: float
    most: float
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    notices: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What is known of one face of a recording.

    Attributes:
        source: its name. ``model``: the network's. ``schema``: of the folder.
        fps: frames per second.
        times: ``(n,)`` seconds of the analysed frames, ascending.
        aus: numbers of the AUs that took part.
        intensity: ``(n, A)`` 0–5, after the rest level where there was one; nan without a face.
        letters: ``(n, A)`` letter of each active AU, else empty.
        stages, scores, markers: in the order of time.
    """

    source: str
    model: str
    fps: float
    times: NDArray[np.float64]
    aus: tuple[int, ...]
    intensity: NDArray[np.float64]
    letters: NDArray[np.str_]
    stages: tuple[StageSpan, ...]
    scores: tuple[ScoreTrack, ...]
    markers: tuple[Marker, ...]

    @property
    def end_s(self) -> float:
        """When the last frame ends, seconds."""
        return float(self.times[-1]) + 1 / self.fps if len(self.times) else 0.0

    def without(self, spans: Sequence[tuple[float, float]]) -> Recording:
        """Return what is left where these spans, seconds, are cut out; times stay as they are."""
        if not spans:
            return self
        keep = np.ones(len(self.times), bool)
        for first, last in spans:
            keep &= (self.times < first) | (self.times > last)
        scores = [
            replace(
                score,
                low=score.low[keep],
                high=score.high[keep],
                notices=tuple(one for one in score.notices if not _touches(one[:2], spans)),
            )
            for score in self.scores
        ]
        stages = [
            StageSpan(stage.labels, start, end)
            for stage in self.stages
            for start, end in outside((stage.start_s, stage.end_s), spans)
        ]
        return replace(
            self,
            times=self.times[keep],
            intensity=self.intensity[keep],
            letters=self.letters[keep],
            stages=tuple(stages),
            scores=tuple(scores),
            markers=tuple(
                one for one in self.markers if not _touches((one.start_s, one.end_s), spans)
            ),
        )


def outside(
    span: tuple[float, float], spans: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Return the parts of a span that lie outside of all others.

    >>> outside((0.0, 10.0), [(2.0, 3.0), (5.0, 12.0)])
    [(0.0, 2.0), (3.0, 5.0)]
    """
    parts = [span]
    for first, last in spans:
        cut: list[tuple[float, float]] = []
        for start, end in parts:
            cut += [(start, min(end, first)), (max(start, last), end)]
        parts = [(start, end) for start, end in cut if end > start]
    return parts


def _touches(span: tuple[float, float], spans: Sequence[tuple[float, float]]) -> bool:
    return any(span[0] <= last and span[1] >= first for first, last in spans)


def read_recording(folder: Path) -> Recording:
    """Read a folder of results.

    Raises:
        ConfigError: it is none, is from a newer version, or a table in it is damaged.
    """
    manifest = _read_manifest(folder)
    rows = _first_of_each_frame(_table(folder / "frames.csv"), folder)
    aus, intensity, letters = _aus(rows, manifest)
    times = np.array([_number(row, "time", folder) for row in rows])
    fps = float(manifest.get("fps") or DEFAULT_FPS)
    return Recording(
        source=Path(str(manifest.get("source", ""))).name,
        model=str(manifest.get("model", "")),
        fps=fps,
        times=times,
        aus=aus,
        intensity=intensity,
        letters=letters,
        stages=_stages(manifest, float(times[-1]) + 1 / fps if len(times) else 0.0),
        scores=tuple(_score(entry, rows, folder) for entry in manifest.get("scores", ())),
        markers=tuple(read_markers(folder)),
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds no results of facestage analyze; name the folder given to --out"
        )
    try:
        manifest = json.loads(read_text(path))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); analyse the recording again") from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise ConfigError(
            f"{path} is of another version ({schema!r}, this one reads {SCHEMA!r}); analyse the "
            "recording again with this version, or use the version that wrote it"
        )
    return manifest


def _table(path: Path) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(read_text(path)))
    try:
        return list(reader)
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}") from error


def _first_of_each_frame(rows: list[dict[str, str]], folder: Path) -> list[dict[str, str]]:
    """Return the row of the face that was followed; those of other faces come after it."""
    if rows and not {"frame", "time", "face"} <= rows[0].keys():
        raise ConfigError(f"{folder / 'frames.csv'} is no table of frames; analyse again")
    return list({row["frame"]: row for row in reversed(rows)}.values())[::-1]


def _number(row: dict[str, str], column: str, folder: Path) -> float:
    try:
        return float(row[column])
    except (KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{folder / 'frames.csv'}: frame {row.get('frame')!r} has no number in the column "
            f"{column!r}; analyse the recording again"
        ) from None


def _numbers(rows: list[dict[str, str]], column: str, folder: Path) -> NDArray[np.float64]:
    return np.array(
        [_number(row, column, folder) if row.get(column) else np.nan for row in rows], float
    )


def _aus(
    rows: list[dict[str, str]], manifest: dict[str, Any]
) -> tuple[tuple[int, ...], NDArray[np.float64], NDArray[np.str_]]:
    hidden = {entry["au"] for entry in manifest.get("aus", ()) if not entry.get("shown", True)}
    columns = rows[0].keys() if rows else ()
    aus = tuple(
        int(name[2:]) for name in columns if _AU.fullmatch(name) and int(name[2:]) not in hidden
    )
    strengths = [f"AU{au:02d}_adjusted_r" for au in aus]
    if not set(strengths) <= set(columns):
        strengths = [f"AU{au:02d}_r" for au in aus]
    # Inactive AUs have an intensity, too; without a face the cells are empty.
    intensity = [[float(row.get(name) or "nan") for name in strengths] for row in rows]
    letters = [[row.get(f"AU{au:02d}_label") or "" for au in aus] for row in rows]
    shape = (len(rows), len(aus))
    return (
        aus,
        np.array(intensity, float).reshape(shape),
        np.array(letters, np.str_).reshape(shape),
    )


def _stages(manifest: dict[str, Any], end_s: float) -> tuple[StageSpan, ...]:
    """Return the stages; each lasts until the next begins."""
    entries = manifest.get("stages", ())
    starts = [float(entry["start_s"]) for entry in entries] + [end_s]
    return tuple(
        StageSpan(tuple(entry["labels"]), start, max(start, end))
        for entry, start, end in zip(entries, starts[:-1], starts[1:], strict=True)
    )


def _score(entry: dict[str, Any], rows: list[dict[str, str]], folder: Path) -> ScoreTrack:
    name = str(entry["name"])
    return ScoreTrack(
        name=name,
        formula=str(entry.get("formula", "")),
        source=str(entry.get("source", "")),
        caution=str(entry.get("caution", "")),
        least=float(entry["low"]),
        most=float(entry["high"]),
        low=_numbers(rows, f"{name}_low", folder),
        high=_numbers(rows, f"{name}_high", folder),
        notices=tuple(
            (float(one["start_s"]), float(one["end_s"]), f"{name} at least {one['peak']:g}")
            for one in entry.get("notices", ())
        ),
    )
