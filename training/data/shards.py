"""Faces for training on disk: files of 1024, written whole or not at all.

A shard is an uncompressed npz: reading one costs a copy, and its name says which faces it holds,
so a broken or stopped run continues where it was.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from facestage.core.errors import ConfigError, SourceError

from ..face.facs import AUS
from ..render.scene import CANVAS

if TYPE_CHECKING:
    from .generator import RenderedBatch

__all__ = [
    "SHARD_SIZE",
    "FaceSource",
    "is_complete",
    "read_shard",
    "shard_path",
    "write_shard",
    "write_shards",
]

SHARD_SIZE = 1024
"""Faces per shard (about 20 MB)."""
_CHUNK = 64
"""Faces rendered between two reports of progress."""


class FaceSource(Protocol):
    """Makes faces, each a function of (seed, index).

    Attributes:
        prefix: begins the names of its shards, so that those of several sources can lie together.
        seed: of all its faces.
    """

    prefix: str
    seed: int

    def render(self, indices: Sequence[int]) -> RenderedBatch:
        """Make faces by index, in the order of the indices."""
        ...


def shard_path(folder: Path, seed: int, first: int, prefix: str = "faces") -> Path:
    """Return the file of the shard whose first face is ``first``."""
    return folder / f"{prefix}-{seed:05d}-{first:09d}.npz"


def write_shard(path: Path, batch: RenderedBatch) -> None:
    """Write faces to a temporary file and rename it, so that no half shard is ever seen.

    Args:
        path: the shard; its folder must exist.
        batch: the faces.

    Raises:
        SourceError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.stem}-{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            np.savez(
                file,
                image=batch.image,
                intensity=batch.intensity.astype(np.float16),
                landmarks=batch.landmarks.astype(np.float16),
                identity=batch.identity,
                index=batch.index,
            )
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SourceError(
            f"cannot write the shard {path}: {error}; free space or choose another --out and run "
            "the command again, finished shards are kept"
        ) from error


def read_shard(path: Path) -> RenderedBatch:
    """Read a shard.

    Args:
        path: a file of :func:`write_shard`.

    Returns:
        Its faces; intensity and landmarks as float32.

    Raises:
        SourceError: the file is missing, damaged or not a shard.
    """
    from .generator import RenderedBatch

    try:
        with np.load(path) as data:
            batch = RenderedBatch(
                image=data["image"],
                intensity=data["intensity"].astype(np.float32),
                landmarks=data["landmarks"].astype(np.float32),
                identity=data["identity"],
                index=data["index"],
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise SourceError(
            f"{path} is not a readable shard ({error}): delete it and render it again"
        ) from error
    n = len(batch.index)
    shapes = (batch.image.shape, batch.intensity.shape, batch.landmarks.shape)
    if shapes != ((n, CANVAS, CANVAS), (n, len(AUS)), (n, 68, 2)) or len(batch.identity) != n:
        raise SourceError(
            f"{path} holds arrays of shapes {shapes}, which do not fit {n} faces: delete it and "
            "render it again"
        )
    return batch


def is_complete(path: Path, first: int, count: int) -> bool:
    """Tell whether a shard is there, readable, and holds faces ``first`` to ``first + count``."""
    if not path.is_file():
        return False
    try:
        index = read_shard(path).index
    except SourceError:
        return False
    return bool(np.array_equal(index, np.arange(first, first + count)))


def write_shards(
    source: FaceSource,
    folder: Path,
    start: int,
    count: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Path]:
    """Make faces ``start`` to ``start + count`` into shards and skip those that are there.

    Args:
        source: makes them.
        folder: where to; made if needed.
        start: first face, a multiple of 1024.
        count: how many.
        progress: called with (faces done in all, faces made by this run).

    Yields:
        The path of each shard once it is complete, also of those found complete.

    Raises:
        ConfigError: ``start`` is not at the beginning of a shard, or ``count`` is not positive.
        SourceError: a shard cannot be written.
    """
    if start < 0 or start % SHARD_SIZE or count <= 0:
        raise ConfigError(
            f"cannot render {count} faces from number {start}: start must be a multiple of "
            f"{SHARD_SIZE} and count positive"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(
            f"cannot make the folder {folder}: {error}; choose another --out"
        ) from error
    done = rendered = 0
    for first in range(start, start + count, SHARD_SIZE):
        size = min(SHARD_SIZE, start + count - first)
        path = shard_path(folder, source.seed, first, source.prefix)
        if not is_complete(path, first, size):
            parts = []
            for at in range(first, first + size, _CHUNK):
                parts.append(source.render(range(at, min(at + _CHUNK, first + size))))
                rendered += len(parts[-1])
                if progress is not None:
                    progress(done + at + len(parts[-1]) - first, rendered)
            write_shard(path, type(parts[0]).join(parts))
        elif progress is not None:
            progress(done + size, rendered)
        done += size
        yield path
