"""Results that stay once they are reported as written, and what killed runs left behind.

A rename makes a folder appear whole, but a power cut may find the name on the disk and not the
bytes. So the bytes go to the disk first, then the name, and then somebody is told.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from pathlib import Path

__all__ = ["STALE_S", "is_stale", "sweep", "sync", "sync_tree"]

STALE_S = 3600.0
"""Age from which something half-written counts as left over, seconds; nothing takes longer."""


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: the disk is full or broken.
    """
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot open folders, and does not need to
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Wait until everything in a folder is on the disk, see :func:`sync`."""
    for path, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(path, name))
        sync(Path(path))


def is_stale(path: Path) -> bool:
    """Return whether nothing at or below a path was touched for :data:`STALE_S`."""
    eldest = time.time() - STALE_S
    try:
        return all(entry.lstat().st_mtime < eldest for entry in (path, *path.rglob("*")))
    except OSError:  # somebody is at it
        return False


def sweep(folder: Path, pattern: re.Pattern[str]) -> None:
    """Remove what killed runs left half-written; another run may be writing just now, so only what
    is stale.

    Args:
        folder: where to look, not below it.
        pattern: whole names of what may go.
    """
    with contextlib.suppress(OSError):
        for left in folder.iterdir():
            if pattern.fullmatch(left.name) and is_stale(left):
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)
