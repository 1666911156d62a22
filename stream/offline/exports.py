"""Write what was found in a sequence: tables, pictures and a report in one folder.

The folder appears whole or not at all. Everything is written next to it first; the last step is a
rename. An earlier result in the same place is replaced only then, and comes back if that fails.
"""

from __future__ import annotations

import errno
import functools
import heapq
import itertools
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.action_units import au_code
from ...core.errors import ConfigError
from ...core.render import SequencePictures, prototype_card, strip
from ...core.scores.definition import Score
from ...core.stages import format_prototype, reduction
from ...core.types import BaselineState, FrameRow, SequenceResult, Stage
from .cells import csv_text
from .durable import sweep, sync, sync_tree
from .encoding import png_bytes
from .report import render_report
from .scores import ScoredSequence, score_sequence

__all__ = ["ANNOTATED", "MARKERS", "SCHEMA", "check_output", "unwritable", "write_analysis"]

SCHEMA = "facestage/temporal-prototype/1"
"""``schema`` of ``temporal_prototype.json``; the number rises when a reader would break."""

ANNOTATED = {"mp4": "annotated.mp4", "webm": "annotated.webm"}
"""Names of the annotated video in the folder of results, by format; see :mod:`.annotate`."""

_MANIFEST = "temporal_prototype.json"
_STAGES, _FRAMES, _STRIP, _REPORT = "stages.csv", "frames.csv", "strip.png", "report.html"
_PROTOTYPES = "prototypes"
_FACE = "face"
"""Begins the names of the folders of other faces: ``face2``, ``face3``, …"""
MARKERS = "markers.csv"
"""Name of the markers that people made beside the results; it stays when they are made anew."""
_NAMES = frozenset(
    {_MANIFEST, _STAGES, _FRAMES, _STRIP, _REPORT, _PROTOTYPES, MARKERS, *ANNOTATED.values()}
)
_PICTURE = re.compile(r"AU\d{2}_[A-Z]+\.png")
_FRESH = "new"

Scorer = Callable[[SequenceResult], ScoredSequence]


def write_analysis(
    result: SequenceResult,
    out: Path,
    *,
    overwrite: bool = False,
    thresholds: Mapping[int, tuple[float, float]] | None = None,
    pictures: SequencePictures | None = None,
    scores: Sequence[Score] = (),
    film: str = "",
) -> list[Path]:
    """Write the files of ``facestage analyze`` into a folder.

    Args:
        result: the analysed sequence.
        out: the folder; its parent folders are made. An earlier result of the same source is
            replaced.
        overwrite: where ``out`` holds anything else, or the result of another source, move that
            aside to ``<out>.old`` (then ``.old-2``, …) instead of refusing.
        thresholds: AU number → presence probability that turns the AU on and the one that turns it
            off again; drawn in the report's timeline where given.
        pictures: those of the result, where they are needed for something else as well.
        scores: those whose columns ``frames.csv`` gets, and whose notices the manifest gets.
        film: name of the annotated video that will lie in the folder; the report plays it.

    Returns:
        The files written: ``temporal_prototype.json``, ``stages.csv``, ``frames.csv``,
        ``prototypes/AU12_A.png`` and so on (projection over the face, heatmap), ``strip.png``,
        ``report.html``. ``face_id`` in both tables is the number of the person, by the order in
        which people were seen; it is empty where nobody was. Of an image folder
        ``frames.csv`` has one more column in the end, ``file``:
        the picture's name in the folder, by which rows are joined with labels where the numbers in
        the names have gaps. Where several faces were analysed, ``frames.csv`` has the rows of all,
        and each of the others has these files in a folder of its own, ``face2``, ``face3``, …. The
        JSON names the files of the frames it mentions
        (``start_file``, ``end_file``; ``first_file``, ``exemplar_file``), and has a ``remark``
        where the range of values of deep images was recognised.

    Raises:
        ConfigError: ``out`` holds something else, or cannot be written.
    """
    target = Path(out).resolve()
    check_output(target, overwrite=overwrite, source=result.source)
    # A mount point (a container's volume) cannot be renamed; its entries can.
    home = target if target.is_mount() else target.parent
    staging: Path | None = None
    try:
        home.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".partial", dir=home))
        fresh = staging / _FRESH
        fresh.mkdir()
        pictures = pictures or SequencePictures(result)
        scored = functools.cache(functools.partial(score_sequence, scores=tuple(scores)))
        names = _write_all(result, fresh, thresholds or {}, pictures, scored, film)
        if (target / MARKERS).is_file() and _foreign_entry(target) is None:
            shutil.copyfile(target / MARKERS, fresh / MARKERS)
        sync_tree(fresh)
        _publish(staging, target, result.source)
        sync(home)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    # Only now: until the new result stood in its place, an earlier one may have been among them.
    sweep(target.parent, _leftovers(target))
    return [target / name for name in names]


def check_output(out: Path, *, overwrite: bool = False, source: str | None = None) -> None:
    """Check that a result could be written to a folder, before the work of making it.

    Args:
        out: the folder.
        overwrite: whether anything else in it may be moved aside.
        source: what is analysed; None: not known.

    Raises:
        ConfigError: ``out`` is a file, holds something that is not an earlier result of facestage,
            or that of another source (and ``overwrite`` is not set), or cannot be written.
    """
    target = Path(out).resolve()
    try:
        if target.exists() and not target.is_dir():
            raise ConfigError(f"{target} is a file; name a folder for the results")
        if target.is_dir() and not overwrite:
            foreign = _foreign_entry(target)
            if foreign is not None:
                raise ConfigError(
                    f"{target} holds {foreign!r}, which is not an earlier result of facestage; "
                    "name a new or empty folder, or allow overwriting to move the old one aside"
                )
            other = _other_source(target, source)
            if other is not None:
                raise ConfigError(
                    f"{target} holds the result of {other}; name another folder for that of "
                    f"{source}, or add --overwrite to move the old one aside"
                )
        existing = target if target.is_mount() else target.parent
        while not existing.exists():
            existing = existing.parent
    except OSError as error:
        raise unwritable(target, error) from error
    if not existing.is_dir():
        raise ConfigError(f"{existing} is a file, so {target} cannot be made; name another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(
            f"no permission to write to {existing}; name a folder of your own or change its rights"
        )


def _write_all(
    result: SequenceResult,
    folder: Path,
    thresholds: Mapping[int, tuple[float, float]],
    pictures: SequencePictures,
    scored: Scorer,
    film: str = "",
) -> list[str]:
    _write_text(folder / _MANIFEST, _manifest(result, scored(result)))
    _write_text(folder / _STAGES, _stages_csv(result))
    _write_text(folder / _FRAMES, _frames_csv(result, scored))
    names = [_MANIFEST, _STAGES, _FRAMES]
    for place, other in enumerate(result.others, start=2):
        inner = folder / f"{_FACE}{place}"
        inner.mkdir()
        written = _write_all(other, inner, thresholds, SequencePictures(other), scored)
        names += [f"{inner.name}/{name}" for name in written]
    (folder / _PROTOTYPES).mkdir()
    for label in result.prototypes:
        name = f"{_PROTOTYPES}/{label}.png"
        _write_png(folder / name, prototype_card(result, pictures, label))
        names.append(name)
    _write_png(folder / _STRIP, strip(result, pictures))
    _write_text(folder / _REPORT, render_report(result, pictures, thresholds, film))
    return [*names, _STRIP, _REPORT]


def _manifest(result: SequenceResult, scored: ScoredSequence) -> str:
    document = {
        "schema": SCHEMA,
        "source": result.source,
        "model": result.model,
        "detector": result.detector,
        "device": result.device,
        "preset": result.preset,
        "lrp_preset": result.lrp_preset,
        "picture_preset": result.picture_preset or result.lrp_preset,
        "lrp_engine": result.lrp_engine,
        "lrp_engine_reason": result.lrp_engine_reason,
        "lrp_precision": result.lrp_precision,
        "fps": round(result.fps, 6) if math.isfinite(result.fps) and result.fps > 0 else None,
        "frames": len(result.rows),
        "complete": not result.note,
        "note": result.note,
        **({"remark": result.remark} if result.remark else {}),
        "aus": [
            {"au": au, "grade": result.grades.get(au), "shown": au not in result.hidden}
            for au in result.aus
        ],
        "baseline": _baseline(result),
        "stages": [
            {
                "labels": list(stage.labels),
                "start": stage.start,
                "end": stage.end,
                "start_s": round(stage.start_s, 4),
                "end_s": round(stage.end_s, 4),
                "changes": [
                    {"au": c.au, "before": c.before, "after": c.after, "text": c.text}
                    for c in stage.changes
                ],
                **_files(result, start=stage.start, end=stage.end),
            }
            for stage in result.stages
        ],
        "text": format_prototype(result.stages),
        "reduction": round(reduction(len(result.stages), len(result.rows)), 6)
        if any(row.presence is not None for row in result.rows)
        else None,
        "unique_stages": len({stage.labels for stage in result.stages}),
        "prototypes": [
            {
                "label": label,
                "frames": item.frames,
                "first": item.first,
                "exemplar": item.exemplar,
                "regions": [list(pair) for pair in item.regions],
                **_files(result, first=item.first, exemplar=item.exemplar),
            }
            for label, item in result.prototypes.items()
        ],
        **({"scores": scored.document()} if scored.scores else {}),
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _files(result: SequenceResult, **frames: int) -> dict[str, str]:
    """Name the files of some frames of an image folder; nothing for a video."""
    if not result.files:
        return {}
    return {f"{name}_file": result.files[index] for name, index in frames.items()}


def _baseline(result: SequenceResult) -> dict[str, object]:
    """Say whether presence was judged by its rise over rest, and what the rest levels were.

    ``frames``: judged so, of them ``own`` by a level that is the person's own; ``rest``: by AU, of
    the person seen at rest for longest.
    """
    judged = [row.baseline for row in result.rows if row.adjusted_presence is not None]
    levels = [] if result.rest is None else zip(result.aus, result.rest.level, strict=True)
    return {
        "asked": result.baseline,
        "frames": len(judged),
        "own": judged.count(BaselineState.ACTIVE),
        "rest": {str(au): round(float(level), 3) for au, level in levels},
    }


def _stages_csv(result: SequenceResult) -> str:
    header = ["stage", "start_frame", "end_frame", "start_s", "end_s", "labels", "face_id"]
    persons = {
        row.index: "" if row.face_id is None else str(row.face_id)
        for row in result.rows
        if row.presence is not None
    }
    rows = (
        [
            str(number),
            str(stage.start),
            str(stage.end),
            f"{stage.start_s:.4f}",
            f"{stage.end_s:.4f}",
            "+".join(stage.labels),
            _person(stage, persons),
        ]
        for number, stage in enumerate(result.stages, start=1)
    )
    return csv_text(header, rows)


def _person(stage: Stage, persons: Mapping[int, str]) -> str:
    """Return the number of the person of a stage: of its last frame with a usable face."""
    frames = range(stage.end, stage.start - 1, -1)
    return next((persons[frame] for frame in frames if frame in persons), "")


def _frames_csv(result: SequenceResult, scored: Scorer) -> str:
    codes = [au_code(au) for au in result.aus]
    header = ["frame", "face_id", "time", "face", "yaw", "pitch", "roll", *codes]
    header += [f"{code}_r" for code in codes] + [f"{code}_label" for code in codes]
    if result.baseline:
        header += ["baseline", "rest_s", *(f"{code}_adjusted" for code in codes)]
        header += [f"{code}_adjusted_r" for code in codes]
    if result.files:
        header.append("file")
    header += scored(result).header()
    each = [((row, one) for row in one.rows) for one in (result, *result.others)]
    rows = heapq.merge(*each, key=lambda pair: pair[0].index)
    cells = ([*_frame_cells(row, one), *scored(one).cells(row.index)] for row, one in rows)
    return csv_text(header, cells)


def _frame_cells(row: FrameRow, result: SequenceResult) -> list[str]:
    def cells(values: NDArray[np.float32] | None, digits: int) -> list[str]:
        return [""] * len(result.aus) if values is None else [f"{v:.{digits}f}" for v in values]

    letters = [row.labels.get(au, "") for au in result.aus]
    number = "" if row.face_id is None else str(row.face_id)
    texts = [str(row.index), number, f"{row.time_s:.4f}", str(row.face)]
    pose = row.pose
    angles = ("", "", "") if pose is None else (pose.yaw, pose.pitch, pose.roll)
    texts += [angle if isinstance(angle, str) else f"{angle:.1f}" for angle in angles]
    texts += [*cells(row.presence, 4), *cells(row.intensity, 3), *letters]
    if result.baseline:
        texts += [str(row.baseline), f"{row.rest_s:.2f}"]
        texts += [*cells(row.adjusted_presence, 4), *cells(row.adjusted_intensity, 3)]
    if result.files:
        texts.append(result.files[row.index])
    return texts


def _write_text(path: Path, text: str) -> None:
    # A file name that is no valid UTF-8 reaches us with surrogates; they are written as escapes.
    path.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def _write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    # cv2.imwrite hides why it failed; writing the bytes raises the system's own error.
    path.write_bytes(png_bytes(picture))


def _foreign_entry(folder: Path) -> str | None:
    """Return the name of something in ``folder`` that facestage did not write, or None."""
    # What a killed run left half-written is ours as well.
    leftover = _leftovers(folder)
    entries = sorted(e.name for e in folder.iterdir() if not leftover.fullmatch(e.name))
    if not entries:
        return None
    try:
        document = json.loads((folder / _MANIFEST).read_bytes())
        ours = isinstance(document, dict) and document.get("schema") == SCHEMA
    except (OSError, ValueError):
        ours = False
    if not ours:
        return entries[0]
    for name in entries:
        if re.fullmatch(rf"{_FACE}[1-9]\d*", name) and (folder / name).is_dir():
            inner = _foreign_entry(folder / name)
            if inner is not None:
                return f"{name}/{inner}"
        elif name not in _NAMES:
            return name
    inside = sorted(path.name for path in (folder / _PROTOTYPES).glob("*"))
    return next((f"{_PROTOTYPES}/{name}" for name in inside if not _PICTURE.fullmatch(name)), None)


def _other_source(folder: Path, source: str | None) -> str | None:
    """Return the source of the result in a folder, where that is another; else None."""
    try:
        known = json.loads((folder / _MANIFEST).read_bytes()).get("source")
    except (OSError, ValueError, AttributeError):
        return None
    if source is None or not isinstance(known, str) or known == _written(source):
        return None
    return None if os.path.realpath(known) == os.path.realpath(source) else known


def _written(text: str) -> str:
    """Return a text as it is read back from a file of ours: what is no UTF-8 is escaped."""
    return text.encode("utf-8", errors="backslashreplace").decode()


def _leftovers(target: Path) -> re.Pattern[str]:
    """Return the names of what a killed run may have left half-written of a result."""
    return re.compile(
        rf"\.{re.escape(target.name)}-\w+\.(partial|previous)"
        r"|\.annotated-\w+\.(mp4|webm)"
    )


def _publish(staging: Path, target: Path, source: str) -> None:
    """Move the finished files into place; undo every move if one fails."""
    foreign = target.is_dir() and (
        _foreign_entry(target) is not None or _other_source(target, source) is not None
    )
    aside = staging.with_suffix(".previous")
    if staging.parent == target:
        if foreign:
            aside = _free_name(target / "old")
        old = [entry for entry in target.iterdir() if entry != staging]
        # The list of stages tells that a result is complete: it goes first and comes last.
        old.sort(key=lambda entry: entry.name != _MANIFEST)
        new = sorted((staging / _FRESH).iterdir(), key=lambda entry: entry.name == _MANIFEST)
        aside.mkdir()
        moves = [(entry, aside / entry.name) for entry in old]
        moves += [(entry, target / entry.name) for entry in new]
    else:
        if foreign:
            aside = _free_name(target.with_name(f"{target.name}.old"))
        moves = [(target, aside)] if target.exists() else []
        moves.append((staging / _FRESH, target))
    done: list[tuple[Path, Path]] = []
    try:
        for entry, destination in moves:
            entry.rename(destination)
            done.append((entry, destination))
    except BaseException:
        for entry, destination in reversed(done):
            destination.rename(entry)
        raise
    if not foreign:
        shutil.rmtree(aside, ignore_errors=True)


def _free_name(wanted: Path) -> Path:
    names = (wanted.with_name(f"{wanted.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([wanted], names) if not path.exists())


def unwritable(target: Path, error: OSError) -> ConfigError:
    """Turn the system's reason why a folder could not be written into an error of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ConfigError(
            f"the disk is full, so the results were not written to {target}; free some space or "
            "name a folder on another disk"
        )
    return ConfigError(
        f"the results could not be written to {target} ({error.strerror or error}); name a folder "
        "that can be written to"
    )
