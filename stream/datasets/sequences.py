"""How corpora lie on disk, turned into a list of sequences.

::

    ckplus      cohn-kanade-images/S005/001/S005_001_00000001.png, …
                Emotion/S005/001/S005_001_00000011_emotion.txt      one code 0–7; often absent
                FACS/S005/001/S005_001_00000011_facs.txt            lines "AU intensity"; optional
                each of the three may lie one folder deeper (Emotion_labels/Emotion/S005/…)
    actorstudy  ACTOR/EMOTION/ANGLE.mp4, or a folder ACTOR/EMOTION/ANGLE with frames or one video
    videos      any tree of videos; the label is the folder's name, none directly in the top folder
    manifest    a CSV file with the columns path, label, subject, view, name (path is needed;
                relative to the file; a video or a folder of frames), or a folder with manifest.csv

References:
    Lucey et al., *The Extended Cohn-Kanade Dataset (CK+)*, CVPR workshops 2010 (codes of emotion).
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import ConfigError, SourceError
from ..sources.images import list_images, natural_key
from .folders import contents, expanded, label_lines, layout_folder, unpacked
from .labelled import ckplus_codes
from .manifest import column_of, csv_rows

logger = logging.getLogger(__name__)

__all__ = ["EMOTIONS", "LAYOUTS", "SequenceItem", "read_corpus"]

EMOTIONS = (
    "neutral", "anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise",
)  # fmt: skip
"""CK+ code → label."""

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
"""File name endings that are taken for videos, lower case."""

_LONGEST_NAME = 120


@dataclass(frozen=True, slots=True)
class SequenceItem:
    """One sequence of a corpus.

    Attributes:
        name: unique, fit for a folder.
        source: absolute path of a video or of a folder of frames.
        label: what is shown; empty where the corpus does not say.
        subject: who is seen. ``view``: from where.
        coded: AUs that the corpus codes at the sequence's apex; None where it was not coded.
        problem: why it must not be analysed (its label cannot be read); else empty.
    """

    name: str
    source: str
    label: str = ""
    subject: str = ""
    view: str = ""
    coded: tuple[int, ...] | None = None
    problem: str = ""


def read_corpus(folder: Path | str, layout: str) -> list[SequenceItem]:
    """List the sequences of a corpus in natural order of their names.

    Args:
        folder: its top folder; for ``manifest`` also the CSV file itself.
        layout: one of :data:`LAYOUTS`.

    Raises:
        ConfigError: there is no layout of that name.
        SourceError: the folder does not have it, holds no sequence, or two of the same name.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"--layout {layout} is unknown; use {', '.join(LAYOUTS)}")
    root = expanded(folder).absolute()
    if not root.exists():
        raise SourceError(f"there is no {root}; check the path (relative to {Path.cwd()})")
    items = sorted(LAYOUTS[layout](root), key=lambda item: natural_key(item.name))
    if not items:
        raise SourceError(
            f"{root} holds no sequence in the layout {layout}: expected {_EXPECTED[layout]}; "
            f"found: {contents(root) if root.is_dir() else root.name}"
        )
    if layout == "ckplus":
        _count_labels(root, items)
    first_of: dict[str, SequenceItem] = {}
    for item in items:
        # Two names that differ in case only are one folder on many disks.
        other = first_of.setdefault(item.name.casefold(), item)
        if other is not item:
            raise SourceError(
                f"two sequences are called {item.name}: {other.source} and {item.source}; rename "
                "one, or list them in a manifest with a column 'name'"
            )
    return items


def _ckplus(root: Path) -> Iterator[SequenceItem]:
    layout_folder(root, ("cohn-kanade-images",), "CK+")
    images = unpacked(root, "cohn-kanade-images")
    emotions, facs = unpacked(root, "Emotion"), unpacked(root, "FACS")
    for subject in _folders(images):
        for sequence in _folders(subject):
            if not _has_images(sequence):
                continue
            where = Path(subject.name) / sequence.name
            label, coded, problem = "", None, ""
            try:
                label = _emotion(emotions / where)
                coded = _apex(facs / where)
            except SourceError as error:
                problem = str(error)
            yield SequenceItem(_name(where), str(sequence), label, subject.name, "", coded, problem)


def _count_labels(root: Path, items: list[SequenceItem]) -> None:
    """Say so when none of the sequences has a label: most often the folder lies elsewhere."""
    if any(item.label or item.problem for item in items):
        return
    place = unpacked(root, "Emotion")
    coded = sum(item.coded is not None for item in items)
    logger.warning(
        "0 of %d sequences have a label: looked in %s/S005/001/*_emotion.txt%s; unpack "
        "Emotion_labels.zip of CK+ into %s (%d are coded in FACS)",
        len(items),
        place,
        "" if place.is_dir() else f" and {root}/*/Emotion, which are not there",
        root,
        coded,
    )


def _emotion(folder: Path) -> str:
    """Return the label of a CK+ sequence; empty where none was validated."""
    file = _only_file(folder, "*_emotion.txt")
    if file is None:
        return ""
    lines = label_lines(file)
    try:
        ((_, text),) = lines
        return EMOTIONS[_code(text)]
    except ValueError:
        codes = " / ".join(text.strip() for _, text in lines) or "nothing"
        raise SourceError(
            f"{file} holds {codes[:60]!a}, not one code of an emotion from 0 to 7; restore the file"
        ) from None


def _code(text: str) -> int:
    value = float(text)
    if not value.is_integer() or not 0 <= value < len(EMOTIONS):
        raise ValueError
    return int(value)


def _apex(folder: Path) -> tuple[int, ...] | None:
    """Return the AUs coded at the peak of a CK+ sequence."""
    file = _only_file(folder, "*_facs.txt")
    return None if file is None else tuple(sorted(ckplus_codes(file)))


def _only_file(folder: Path, pattern: str) -> Path | None:
    files = sorted(f for f in folder.glob(pattern) if not f.name.startswith("."))
    if len(files) > 1:
        raise SourceError(
            f"{folder} holds {len(files)} files {pattern}, one is expected; remove the others"
        )
    return files[0] if files else None


def _actorstudy(root: Path) -> Iterator[SequenceItem]:
    if (root / "cohn-kanade-images").is_dir():
        # Its images/subject/sequence would pass for actor/emotion/angle.
        raise SourceError(
            f"{root} holds 'cohn-kanade-images' and is a folder of CK+, not of the layout "
            f"actorstudy ({_EXPECTED['actorstudy']}); use --layout ckplus"
        )
    for path in _media(root):
        parts = path.relative_to(root).parts
        # A video may lie in a folder of its angle or be named after it.
        depth = 3 if path.is_dir() else len(parts)
        if len(parts) not in (3, 4) or (path.is_dir() and len(parts) != 3):
            raise SourceError(
                f"{path} does not fit the layout actorstudy: expected {_EXPECTED['actorstudy']}; "
                "move it, or list the sequences in a manifest"
            )
        actor, emotion = parts[:2]
        angle = parts[2] if path.is_dir() or depth == 4 else path.stem
        yield SequenceItem(
            _name(Path(actor, emotion, angle)), str(path), emotion.lower(), actor, angle
        )


def _videos(root: Path) -> Iterator[SequenceItem]:
    for path in _media(root, images=False):
        where = path.relative_to(root)
        label = where.parent.name
        yield SequenceItem(_name(where.with_suffix("")), str(path), label)


def _manifest(root: Path) -> Iterator[SequenceItem]:
    file = root / "manifest.csv" if root.is_dir() else root
    if root.is_dir() and not file.is_file():
        raise SourceError(
            f"{root} holds no manifest.csv; add one, or name the CSV file itself "
            f"(found: {contents(root)})"
        )
    _, first, rows = csv_rows(file)
    header = [name.strip() for name in next(rows)]
    where = f"{file}, line {first}"
    columns = {
        name: column_of(header, name, where)
        for name in ("path", "label", "subject", "view", "name")
    }
    if columns["path"] is None:
        raise SourceError(
            f"{where}: there is no column 'path'; add one with the video or folder of frames of "
            f"each sequence (found: {', '.join(header)})"
        )
    for cells in rows:
        line = f"{file}, line {first - 1 + rows.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise SourceError(
                f"{line}: {len(cells)} cells, but the header has {len(header)}; complete the row"
            )
        row = {n: "" if at is None else cells[at].strip() for n, at in columns.items()}
        if not row["path"] or "\0" in row["path"]:
            raise SourceError(f"{line}: no path; name the video or folder of this sequence")
        path = Path(os.path.abspath(file.parent / expanded(row["path"])))
        stated = Path(row["path"])
        name = row["name"] or (stated.with_suffix("") if _is_video(stated) else stated)
        yield SequenceItem(_name(Path(name)), str(path), row["label"], row["subject"], row["view"])


LAYOUTS: dict[str, Callable[[Path], Iterator[SequenceItem]]] = {
    "ckplus": _ckplus,
    "actorstudy": _actorstudy,
    "videos": _videos,
    "manifest": _manifest,
}
"""Name of a layout → what lists the sequences of a folder that has it."""

_EXPECTED = {
    "ckplus": "cohn-kanade-images/S005/001/S005_001_00000001.png, …",
    "actorstudy": "ACTOR/EMOTION/ANGLE.mp4 or ACTOR/EMOTION/ANGLE/ with frames or one video",
    "videos": f"files ending in {' '.join(sorted(VIDEO_SUFFIXES))}",
    "manifest": "one line per sequence below the header",
}


def _folders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder, in natural order."""
    try:
        folders = [e for e in folder.iterdir() if e.is_dir() and not e.name.startswith(".")]
    except OSError as error:
        raise SourceError(
            f"{folder} cannot be read: {error.strerror or error}; check its permissions"
        ) from None
    return sorted(folders, key=lambda path: natural_key(path.name))


def _has_images(folder: Path) -> bool:
    try:
        return bool(list_images(folder))
    except OSError as error:
        raise SourceError(
            f"{folder} cannot be read: {error.strerror or error}; check its permissions"
        ) from None


def _media(root: Path, *, images: bool = True) -> Iterator[Path]:
    """Yield the videos of a tree and the folders that hold images."""
    if not root.is_dir():
        raise SourceError(f"{root} is not a folder; name the top folder of the corpus")

    def refuse(error: OSError) -> None:
        raise SourceError(
            f"{error.filename} cannot be read: {error.strerror or error}; check its permissions"
        )

    for top, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        folder = Path(top)
        for name in sorted(files):
            if _is_video(Path(name)) and not name.startswith("."):
                yield folder / name
        if images and _has_images(folder):
            yield folder


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _name(where: Path) -> str:
    """Return a name fit for a folder; what had to be changed is told apart by a hash."""
    text = "_".join(part for part in where.parts if part not in ("/", ".", ".."))
    plain = re.sub(r"[^\w.+=@ -]", "_", text).strip(" .")
    if plain == text and len(plain.encode("utf-8", "surrogateescape")) <= _LONGEST_NAME:
        return plain
    digest = hashlib.sha256(str(where).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    short = plain.encode("ascii", "replace").decode().replace("?", "_")[:_LONGEST_NAME]
    return f"{short}-{digest}"
