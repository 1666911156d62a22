"""Split labelled faces by subject, so that nobody is in both training and test."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError, SourceError
from ..datasets.faces import Item, LabelledFaces

__all__ = ["check_subjects", "given_split", "held_out", "subject_folds", "subjects_of"]


def check_subjects(data: LabelledFaces) -> None:
    """Refuse a picture that is given to two subjects: it could be learnt from and tested on.

    Raises:
        SourceError: there is one; the message names both rows.
    """
    files: dict[Path, str] = {}
    first_of: dict[tuple[str, int | None], Item] = {}
    for item in data.items:
        file = files.get(item.path)
        if file is None:
            file = files[item.path] = os.path.realpath(item.path)
        first = first_of.setdefault((file, item.frame), item)
        if first.subject != item.subject:
            raise SourceError(
                f"{item.origin}: this picture is of subject {item.subject!r} here and of "
                f"{first.subject!r} at {first.origin}; give one person one name, or the same face "
                "is in training and test"
            )


def given_split(data: LabelledFaces) -> tuple[str, ...]:
    """Return the subjects that the data itself puts into the test part.

    Raises:
        SourceError: a subject is in both parts, or has rows with and without a split.
    """
    where: dict[str, tuple[str, str]] = {}
    for item in data.items:
        split, origin = where.setdefault(item.subject, (item.split, item.origin))
        if split != item.split:
            raise SourceError(
                f"{item.origin}: subject {item.subject!r} is in split "
                f"{item.split or 'blank'!r} here and in {split or 'blank'!r} at {origin}; a "
                "subject must be in one part only, or the figures mean nothing"
            )
    return tuple(sorted(s for s, (split, _) in where.items() if split == "test"))


def subjects_of(data: LabelledFaces, spec: str) -> tuple[str, ...]:
    """Return the subjects that an option names: a share of them, or a list.

    Args:
        data: the faces.
        spec: a share such as ``0.2`` (of the subjects, spread by a hash of their names, so that a
            subject stays where it is when others are added), or names joined by commas.

    Raises:
        ConfigError: the share is out of range or leaves a part empty, or a name is unknown.
    """
    everybody = data.subjects
    try:
        share = float(spec)
    except ValueError:
        share = None
    if share is not None and spec not in everybody:
        count = round(share * len(everybody)) if 0 < share < 1 else 0
        if not 0 < count < len(everybody):
            raise ConfigError(
                f"--holdout {spec} of {len(everybody)} subjects leaves nobody to test or to train "
                "on; give a share between 0 and 1 that makes at least one, or names"
            )
        return tuple(sorted(_shuffled(everybody)[:count]))
    names = tuple(name.strip() for name in spec.split(",") if name.strip())
    unknown = [name for name in names if name not in everybody]
    if unknown or not names:
        raise ConfigError(
            f"--holdout names {', '.join(unknown) or 'nobody'}, not a subject of the data; there "
            f"are {', '.join(everybody[:8])}{' …' if len(everybody) > 8 else ''}"
        )
    if len(set(names)) == len(everybody):
        raise ConfigError("--holdout names every subject; leave somebody to train on")
    return tuple(sorted(set(names)))


def subject_folds(data: LabelledFaces, folds: int, fold: int) -> tuple[str, ...]:
    """Return the subjects of one of ``folds`` parts of nearly equal numbers of subjects.

    Raises:
        ConfigError: there are fewer subjects than folds, or no such fold.
    """
    everybody = data.subjects
    if folds < 2 or folds > len(everybody):
        raise ConfigError(
            f"--folds {folds} needs at least 2 and at most as many as there are subjects "
            f"({len(everybody)})"
        )
    if not 0 <= fold < folds:
        raise ConfigError(f"--fold {fold} does not exist; --folds {folds} has 0 to {folds - 1}")
    return tuple(sorted(_shuffled(everybody)[fold::folds]))


def held_out(data: LabelledFaces, subjects: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return ``(N,)`` bool: the rows of these subjects."""
    chosen = set(subjects)
    return np.array([item.subject in chosen for item in data.items])


def _shuffled(subjects: tuple[str, ...]) -> list[str]:
    """Order subjects by a hash of their names: the same everywhere, unrelated to their order."""
    return sorted(subjects, key=lambda name: (zlib.crc32(f"split:{name}".encode()), name))
