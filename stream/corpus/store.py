"""The output folder of a corpus: what is done, what failed, and what it belongs to.

::

    corpus.json              which corpus and which settings; an --out of another is refused
    sequences/S005_001/      one folder per sequence, written whole or not at all
    failed/S005_002.json     the sequence and the reason
    manifest.csv             the same as a table, made anew by each run

Nothing else is kept: what exists *is* the state, so a run that is killed loses what it was working
on and nothing more, and shards on several machines can share one folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core import relevance
from ...core.config import ExplainConfig
from ...core.corpus.summary import CorpusSequence
from ...core.errors import ConfigError
from ...core.render import SequencePictures, stage_seconds
from ...core.types import SequenceResult
from ..datasets.sequences import SequenceItem
from ..offline.durable import sweep, sync, sync_tree
from ..offline.encoding import jpeg_bytes
from ..offline.exports import unwritable, write_analysis

__all__ = ["TILE", "CorpusFolder", "Stored", "pending"]

SCHEMA = "facestage/corpus/1"
SEQUENCE_SCHEMA = "facestage/corpus-sequence/1"

TILE = 176
"""Side of the small stage pictures kept for the pages of the corpus, pixels."""
MOST_TILES = 24
"""Stages of a sequence that are kept as small pictures; longer ones are not shown side by side."""

_PARTIAL = re.compile(r"\..*\.partial", re.DOTALL)
_SEQUENCE, _PROTOTYPES, _TILES, _REPORT = (
    "sequence.json", "prototypes.npz", "stages.jpg", "report.html",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An analysed sequence as read back.

    Attributes:
        item: where it came from.
        sequence: what the evaluation needs.
        report: its report, relative to the output folder; empty without one.
    """

    item: SequenceItem
    sequence: CorpusSequence
    report: str


class CorpusFolder:
    """An output folder.

    Args:
        path: the folder; made where it does not exist.
        identity: what tells this corpus and these settings from others; JSON values.

    Raises:
        ConfigError: it holds another corpus or something else, or cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(path).absolute()
        self._check(identity)
        with self.writing():
            for folder in (self.path, self._sequences, self._failed):
                folder.mkdir(parents=True, exist_ok=True)
            if not (self.path / "corpus.json").exists():
                self.write_text("corpus.json", _json({"schema": SCHEMA, **identity}))

    @property
    def _sequences(self) -> Path:
        return self.path / "sequences"

    @property
    def _failed(self) -> Path:
        return self.path / "failed"

    def _check(self, identity: Mapping[str, Any]) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; name a folder for the results")
        try:
            entries = sorted(e.name for e in self.path.iterdir() if not _partial(e.name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise unwritable(self.path, error) from error
        if not entries:
            return
        try:
            document = json.loads((self.path / "corpus.json").read_bytes())
            ours = isinstance(document, dict) and document.get("schema") == SCHEMA
        except (OSError, ValueError):
            ours, document = False, {}
        if not ours:
            raise ConfigError(
                f"{self.path} holds {entries[0]!r} and is no corpus of facestage; name a new or "
                "empty folder"
            )
        for key, wanted in identity.items():
            if document.get(key) != wanted:
                raise ConfigError(
                    f"{self.path} holds another corpus: its {key} is {document.get(key)!r}, here "
                    f"it is {wanted!r}; name another folder for --out"
                )

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn the system's reasons why a file cannot be written into one clear error."""
        try:
            yield
        except OSError as error:
            raise unwritable(self.path, error) from error
        except ConfigError as error:
            # Of a folder inside, whose name of the moment tells the user nothing.
            if isinstance(error.__cause__, OSError):
                raise unwritable(self.path, error.__cause__) from error
            raise

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the folder: whole or not at all.

        Raises:
            ConfigError: the disk is full, or it cannot be written.
        """
        return self.write_bytes(name, text.encode("utf-8", errors="backslashreplace"))

    def write_bytes(self, name: str, data: bytes) -> Path:
        """See :meth:`write_text`."""
        target = self.path / name
        with self.writing():
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(
                prefix=f".{target.name}-", suffix=".partial", dir=target.parent
            )
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.chmod(temporary, 0o644)
                sync(Path(temporary))
                os.replace(temporary, target)
                sync(target.parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        return target

    def remove(self, name: str) -> None:
        """Remove a file of the folder, if it is there.

        Raises:
            ConfigError: it cannot be removed.
        """
        with self.writing():
            (self.path / name).unlink(missing_ok=True)

    def state(self, item: SequenceItem) -> str:
        """Return ``done``, ``failed`` or ``waiting``."""
        if (self._sequences / item.name / _SEQUENCE).is_file():
            return "done"
        return "failed" if self._failure(item).is_file() else "waiting"

    def reason(self, item: SequenceItem) -> str:
        """Return why a sequence failed."""
        try:
            return str(json.loads(self._failure(item).read_bytes())["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return "unknown: its record cannot be read"

    def fail(self, item: SequenceItem, reason: str) -> None:
        """Note that a sequence cannot be analysed.

        Raises:
            ConfigError: that cannot be written.
        """
        record = {"name": item.name, "source": item.source, "reason": reason}
        self.write_text(f"failed/{item.name}.json", _json(record))

    def forget_failure(self, item: SequenceItem) -> None:
        """Let a sequence be tried again."""
        with self.writing():
            self._failure(item).unlink(missing_ok=True)

    def sweep(self, item: SequenceItem) -> None:
        """Remove what a killed run left half-written of a sequence."""
        for left in self._sequences.glob(f".{_escaped(item.name)}-*.partial"):
            shutil.rmtree(left, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what killed runs left half-written.

        Another part of a job array may be writing just now: only what is old is removed.
        """
        for folder in (self.path, self._failed, self._sequences, self.path / "figures"):
            sweep(folder, _PARTIAL)

    def put(
        self,
        item: SequenceItem,
        result: SequenceResult,
        thresholds: Mapping[int, tuple[float, float]],
        *,
        reports: bool,
    ) -> None:
        """Write the folder of an analysed sequence: whole or not at all.

        Raises:
            ConfigError: the disk is full, or it cannot be written.
        """
        target = self._sequences / item.name
        pictures = SequencePictures(result)
        with self.writing():
            staging = Path(
                tempfile.mkdtemp(prefix=f".{item.name}-", suffix=".partial", dir=self._sequences)
            )
            try:
                fresh = staging / "new"
                if reports:
                    write_analysis(result, fresh, thresholds=thresholds, pictures=pictures)
                else:
                    fresh.mkdir()
                _write_extras(item, result, pictures, fresh)
                if self.state(item) != "done":
                    sync_tree(fresh)
                    fresh.rename(target)
                    sync(self._sequences)
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def read(self, item: SequenceItem) -> Stored:
        """Read an analysed sequence; its label is the one the corpus gives it now.

        Raises:
            ConfigError: its folder was changed.
        """
        path = self._sequences / item.name / _SEQUENCE
        try:
            document = json.loads(path.read_bytes())
            sequence = CorpusSequence(
                item.name,
                item.label,
                int(document["frames"]),
                tuple(tuple(labels) for labels in document["stages"]),
                tuple(float(s) for s in document["seconds"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} cannot be read ({error}); remove its folder and run again"
            ) from error
        report = f"sequences/{item.name}/{_REPORT}"
        return Stored(item, sequence, report if (self.path / report).is_file() else "")

    def descriptors(self, item: SequenceItem) -> dict[str, NDArray[np.float32] | None]:
        """Return label → descriptor of each prototype; None where its mean map has none."""
        path = self._sequences / item.name / _PROTOTYPES
        try:
            with np.load(path, allow_pickle=False) as stored:
                names, rows = stored["labels"].tolist(), stored["descriptors"]
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"{path} cannot be read ({error}); remove its folder and run again"
            ) from error
        return {
            str(name): row if row.any() else None for name, row in zip(names, rows, strict=True)
        }

    def tiles(self, item: SequenceItem) -> list[NDArray[np.uint8]]:
        """Return the small pictures of the first stages, ``(TILE, TILE, 3)`` uint8 each."""
        path = self._sequences / item.name / _TILES
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise ConfigError(f"{path} cannot be read; remove its folder and run again")
        return [
            picture[:, left : left + TILE].astype(np.uint8, copy=False)
            for left in range(0, picture.shape[1], TILE)
        ]

    def _failure(self, item: SequenceItem) -> Path:
        return self._failed / f"{item.name}.json"


def pending(
    folder: CorpusFolder, items: Iterable[SequenceItem], *, retry: bool
) -> Sequence[SequenceItem]:
    """Return the sequences that have still to be analysed; failed ones only to try them again."""
    waiting = []
    for item in items:
        state = folder.state(item)
        if state == "failed" and retry:
            folder.forget_failure(item)
            state = "waiting"
        if state == "waiting":
            folder.sweep(item)
            waiting.append(item)
    return waiting


def _write_extras(
    item: SequenceItem, result: SequenceResult, pictures: SequencePictures, folder: Path
) -> None:
    """Write what the evaluation of the corpus needs beside the files of ``analyze``."""
    document = {
        "schema": SEQUENCE_SCHEMA,
        "name": item.name,
        "source": item.source,
        "label": item.label,
        "subject": item.subject,
        "view": item.view,
        "coded": item.coded,
        "frames": len(result.rows),
        "stages": [list(stage.labels) for stage in result.stages],
        "seconds": [round(seconds, 4) for seconds in stage_seconds(result)],
    }
    (folder / _SEQUENCE).write_text(_json(document), encoding="utf-8", errors="backslashreplace")
    labels = sorted({x for s in result.stages for x in s.labels if x in result.prototypes})
    explain = ExplainConfig()
    side = explain.descriptor_side
    rows = np.zeros((0, side * side), np.float32)
    if labels:
        maps = np.stack([result.prototypes[label].map for label in labels])
        rows, _ = relevance.describe(maps, side=side, mode=explain.descriptor_mode)
    with (folder / _PROTOTYPES).open("wb") as file:
        np.savez(file, labels=np.array(labels, "U16"), descriptors=rows)
    tiles = [pictures.stage(n, TILE) for n in range(min(len(result.stages), MOST_TILES))]
    (folder / _TILES).write_bytes(jpeg_bytes(np.hstack(tiles), 90))


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _partial(name: str) -> bool:
    return _PARTIAL.fullmatch(name) is not None


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
