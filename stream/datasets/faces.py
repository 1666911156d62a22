"""Labelled faces as a table: where each picture is, who it shows, what was coded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError

__all__ = ["PRESENT_FROM", "Item", "LabelledFaces", "merge"]

PRESENT_FROM = 1.0
"""FACS intensity from which evaluation calls an AU present: A, as in CK+."""


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled picture.

    Attributes:
        path: image or video file.
        frame: 0-based frame of the video; None for an image.
        subject: who is seen; the same text is the same person in every data set.
        origin: where the row comes from, for messages.
        split: ``train`` or ``test`` where the data fixes it, else empty.
        past_end_allowed: whether a frame past the end of the video is left out and counted; else
            it is an error.
    """

    path: Path
    frame: int | None
    subject: str
    origin: str
    split: str = ""
    past_end_allowed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFaces:
    """N labelled pictures.

    Attributes:
        items: the pictures.
        aus: AU numbers of the columns, ascending.
        intensity: ``(N, A)`` float32, FACS 0–5; NaN where not coded.
        presence: ``(N, A)`` float32, 0 or 1 where presence itself was coded; NaN elsewhere.
        notes: what the user should know about how it was read.
    """

    items: tuple[Item, ...]
    aus: tuple[int, ...]
    intensity: NDArray[np.float32]
    presence: NDArray[np.float32]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The persons, in alphabetical order."""
        return tuple(sorted({item.subject for item in self.items}))

    def present(self) -> NDArray[np.float32]:
        """Return ``(N, A)`` presence 0/1 for evaluation: as coded, else intensity ≥ A; NaN gaps."""
        follows = np.where(
            np.isnan(self.intensity), np.nan, (self.intensity >= PRESENT_FROM).astype(np.float32)
        )
        return np.where(np.isnan(self.presence), follows, self.presence).astype(np.float32)

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> LabelledFaces:
        """Return some of the pictures, in the order given."""
        index = np.asarray(rows, np.intp)
        items = tuple(self.items[i] for i in index)
        return LabelledFaces(
            items, self.aus, self.intensity[index], self.presence[index], self.notes
        )

    def columns(self, aus: Sequence[int]) -> LabelledFaces:
        """Return the labels in the AU order of a network; AUs that were not coded are NaN."""
        intensity = np.full((len(self), len(aus)), np.nan, np.float32)
        presence = intensity.copy()
        for column, au in enumerate(aus):
            if au in self.aus:
                intensity[:, column] = self.intensity[:, self.aus.index(au)]
                presence[:, column] = self.presence[:, self.aus.index(au)]
        return LabelledFaces(self.items, tuple(aus), intensity, presence, self.notes)

    def coded(self) -> tuple[int, ...]:
        """Return the AUs with at least one label."""
        blank = np.isnan(self.intensity) & np.isnan(self.presence)
        return tuple(au for column, au in enumerate(self.aus) if not blank[:, column].all())


def merge(parts: Iterable[LabelledFaces]) -> LabelledFaces:
    """Put data sets with different AU lists together; what one did not code is NaN there.

    Raises:
        ConfigError: there is no data set.
    """
    parts = list(parts)
    if not parts:
        raise ConfigError("no data was given; name it with --manifest, --ckplus or --disfa")
    aus = tuple(sorted({au for part in parts for au in part.aus}))
    wide = [part.columns(aus) for part in parts]
    return LabelledFaces(
        tuple(item for part in wide for item in part.items),
        aus,
        np.concatenate([part.intensity for part in wide]),
        np.concatenate([part.presence for part in wide]),
        tuple(note for part in wide for note in part.notes),
    )
