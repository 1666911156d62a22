"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..core.errors import ConfigError, ModelError

__all__ = ["check_place", "check_target", "write_file"]


def check_target(target: Path) -> None:
    """Refuse a path that names a folder, so that it is known before the work and not after it.

    Raises:
        ModelError: it does.
    """
    if not target.name or os.path.isdir(target):  # unlike Path, no error without permission
        raise ModelError(f"cannot write {target}: it is a folder; name a file in it")


def check_place(target: Path, option: str) -> None:
    """Refuse before the work what could not be written after it.

    Args:
        target: place of a file.
        option: that names it.

    Raises:
        ModelError: it is a folder.
        ConfigError: its folder is missing, or may not be written to.
    """
    check_target(target)
    folder = target.parent
    if not folder.is_dir():
        raise ConfigError(f"{option} {target}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"no permission to write to {folder}; name a folder of your own")


def write_file(target: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, whatever happens.

    Args:
        target: its place; an existing file is replaced at the end, by a rename.
        data: its bytes.

    Raises:
        ModelError: the disk is full or refuses, or ``target`` is a folder; it is as it was.
    """
    check_target(target)
    temporary = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        _discard(temporary)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space" if full else "name a place you can write to"
        raise ModelError(
            f"cannot write {target} ({len(data) / 1e6:.1f} MB): {error.strerror or error}; {advice}"
        ) from error
    except BaseException:
        _discard(temporary)
        raise


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the folder itself is out of reach: nothing was written there either
        return


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; systems that cannot open folders do not need it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
