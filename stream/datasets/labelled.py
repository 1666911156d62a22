"""CK+ and DISFA as they come from their owners, turned into labelled faces.

Both are licensed to each user by their owners and never shipped. Expected folders::

    CK+     cohn-kanade-images/S005/001/S005_001_00000001.png, …
            FACS/S005/001/S005_001_00000011_facs.txt       lines "AU intensity"
    DISFA   Videos_LeftCamera/LeftVideoSN001_comp.avi
            ActionUnit_Labels/SN001/SN001_au1.txt          lines "frame,intensity"

References:
    Lucey et al., *The Extended Cohn-Kanade Dataset (CK+)*, CVPR workshops 2010;
    Mavadati et al., *DISFA: A spontaneous facial action intensity database*, IEEE TAC 4(2), 2013.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from ...core.action_units import AU_NAMES
from ...core.errors import SourceError
from .faces import Item, LabelledFaces
from .folders import label_lines, layout_folder, unpacked

__all__ = ["ckplus_codes", "read_ckplus", "read_disfa"]

_VIDEO = re.compile(r"LeftVideo(SN\d+)_comp\.avi", re.IGNORECASE)
_DISFA_FILE = re.compile(r"(SN\d+)_au(\d+)\.txt", re.IGNORECASE)


def read_ckplus(folder: Path | str) -> LabelledFaces:
    """Read CK+: of each coded sequence its peak, and its first frame as neutral.

    The coders wrote down every AU they saw at the peak, so an AU that is not listed is absent. An
    AU without a given intensity (written as 0) is present with unknown intensity. Of an AU that is
    listed twice the larger intensity counts, and any intensity before an unknown one. Sequences
    begin neutral by the protocol of the recordings.

    Args:
        folder: holds ``cohn-kanade-images`` and ``FACS``, or folders that hold them.

    Returns:
        The faces; subjects are ``ckplus/S005`` and so on.

    Raises:
        SourceError: a folder, an image or a number is missing or wrong; the message names it.
    """
    root = layout_folder(folder, ("cohn-kanade-images", "FACS"), "CK+")
    facs, pictures = unpacked(root, "FACS"), unpacked(root, "cohn-kanade-images")
    files = sorted(facs.glob("*/*/*_facs.txt"))
    if not files:
        raise SourceError(
            f"{facs} holds no file such as S005/001/S005_001_00000011_facs.txt; unpack "
            "FACS_labels.zip of CK+ there"
        )
    aus = tuple(sorted(AU_NAMES))
    items: list[Item] = []
    intensity: list[list[float]] = []
    presence: list[list[float]] = []
    others: set[int] = set()
    for file in files:
        subject, sequence = file.parent.parent.name, file.parent.name
        images = pictures / subject / sequence
        peak = images / file.name.replace("_facs.txt", ".png")
        if not peak.is_file():
            raise SourceError(
                f"{file} codes {peak}, which is not there; unpack the images of CK+ next to FACS"
            )
        codes = ckplus_codes(file)
        others |= codes.keys() - set(aus)
        items.append(Item(peak, None, f"ckplus/{subject}", str(file)))
        intensity.append([codes.get(au, 0.0) for au in aus])
        presence.append([1.0 if math.isnan(codes.get(au, 0.0)) else math.nan for au in aus])
        first = min(images.glob(f"{subject}_{sequence}_*.png"), key=lambda path: path.name)
        if first != peak:
            items.append(Item(first, None, f"ckplus/{subject}", str(file)))
            intensity.append([0.0] * len(aus))
            presence.append([math.nan] * len(aus))
    notes = [f"{root}: CK+, {len(files)} sequences, {len(items)} pictures"]
    if others:
        notes.append(
            f"{root}: codes that are no AUs known here were left out: "
            + ", ".join(map(str, sorted(others)))
        )
    return LabelledFaces(
        tuple(items),
        aus,
        np.array(intensity, np.float32),
        np.array(presence, np.float32),
        tuple(notes),
    )


def read_disfa(folder: Path | str) -> LabelledFaces:
    """Read DISFA: every coded frame of the left camera's videos, intensities 0–5.

    DISFA counts frames from 1; here they count from 0. Its label files may have a few rows fewer
    or more than the video has frames: a frame without a row has no label, and rows past the end of
    the video are left out and counted when the faces are found, see :func:`collect_crops`.

    Args:
        folder: holds ``Videos_LeftCamera`` and ``ActionUnit_Labels``.

    Returns:
        The faces; subjects are ``disfa/SN001`` and so on.

    Raises:
        SourceError: a folder, a file or a number is missing or wrong; the message names it.
    """
    root = layout_folder(folder, ("Videos_LeftCamera", "ActionUnit_Labels"), "DISFA")
    videos = _disfa_videos(root)
    subjects = sorted(path for path in (root / "ActionUnit_Labels").iterdir() if path.is_dir())
    if not subjects:
        raise SourceError(f"{root / 'ActionUnit_Labels'} holds no folder such as SN001")
    labels: dict[tuple[str, int], dict[int, float]] = {}
    origins: dict[str, Path] = {}
    aus: set[int] = set()
    for subject in subjects:
        name = subject.name.upper()
        files = _disfa_files(subject, name)
        if name not in videos:
            raise SourceError(
                f"{subject} has labels, but there is no {root / 'Videos_LeftCamera'}/"
                f"LeftVideo{name}_comp.avi; copy the video there or remove the labels"
            )
        origins[name] = subject
        for au, file in files:
            if au not in AU_NAMES:
                raise SourceError(f"{file} labels AU{au}, which is no AU known here; remove it")
            aus.add(au)
            for frame, value in _disfa_codes(file):
                labels.setdefault((name, frame), {})[au] = value
    columns = tuple(sorted(aus))
    keys = sorted(labels)
    intensity = np.array(
        [[labels[key].get(au, math.nan) for au in columns] for key in keys], np.float32
    ).reshape(len(keys), len(columns))
    if not keys:
        raise SourceError(f"{root}/ActionUnit_Labels: all files are empty; copy them again")
    items = tuple(
        Item(
            videos[name],
            frame - 1,
            f"disfa/{name}",
            f"{origins[name]}, frame {frame}",
            past_end_allowed=True,
        )
        for name, frame in keys
    )
    note = f"{root}: DISFA, {len(origins)} subjects, {len(items)} frames"
    return LabelledFaces(items, columns, intensity, np.full_like(intensity, np.nan), (note,))


def ckplus_codes(file: Path) -> dict[int, float]:
    """Return AU → intensity of a CK+ file, its largest; NaN where only presence was coded."""
    codes: dict[int, float] = {}
    for number, line in label_lines(file):
        au, value = _numbers(line.split(), file, number, "AU intensity", top=5)
        codes[au] = max(value, codes.get(au, 0.0))
    return {au: value or math.nan for au, value in codes.items()}


def _disfa_videos(root: Path) -> dict[str, Path]:
    """Return subject → video of the left camera."""
    return {
        match[1].upper(): path
        for path in sorted((root / "Videos_LeftCamera").iterdir())
        if (match := _VIDEO.fullmatch(path.name))
    }


def _disfa_files(folder: Path, name: str) -> list[tuple[int, Path]]:
    """Return (AU, file) of each label file of a subject."""
    files = [
        (int(match[2]), file)
        for file in sorted(folder.iterdir())
        if (match := _DISFA_FILE.fullmatch(file.name)) and match[1].upper() == name
    ]
    if not files:
        raise SourceError(f"{folder} holds no file such as {name}_au1.txt; copy its labels again")
    return files


def _disfa_codes(file: Path) -> list[tuple[int, float]]:
    """Return (frame counted from 1, intensity) of a DISFA file."""
    codes = []
    for number, line in label_lines(file):
        frame, value = _numbers(line.split(","), file, number, "frame,intensity", top=5)
        if frame < 1:
            raise SourceError(f"{file}, line {number}: frame {frame}; DISFA counts from 1")
        codes.append((frame, value))
    return codes


def _numbers(
    parts: list[str], file: Path, line: int, expected: str, *, top: float
) -> tuple[int, float]:
    """Parse a whole number and an intensity 0–``top``."""
    try:
        first, second = (float(part) for part in parts)
    except ValueError:
        first = second = math.nan
    if not first.is_integer() or not 0 <= second <= top:
        raise SourceError(
            f"{file}, line {line}: {' '.join(parts)!r} is not {expected!r} with an intensity from "
            f"0 to {top:g}; restore the file"
        )
    return int(first), second
