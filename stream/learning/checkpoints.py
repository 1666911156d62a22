"""Checkpoints that survive: a full disk, a crash or a damaged file never costs the last good one.

A checkpoint is one safetensors file: the tensors, and facts as JSON in its header. It is written
under a temporary name, flushed to the disk and only then renamed; after that all but the newest two
are removed. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from ...core.errors import ConfigError, ModelError
from ..files import write_file

__all__ = ["Checkpoint", "latest", "load", "save"]

SCHEMA = "facestage/checkpoint/1"
"""``schema`` in the header; the number rises when an older reader would break."""

KEPT = 2
"""Checkpoints kept, the newest."""

_NAME = re.compile(r"checkpoint-(\d{9,})\.safetensors")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        path: its file.
        tensors: name → tensor, on the CPU.
        facts: what was put beside them (JSON).
    """

    path: Path
    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


def save(
    folder: Path, step: int, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
) -> Path:
    """Write a checkpoint, then remove all but the newest two.

    Args:
        folder: where; made if needed.
        step: its number; later checkpoints have higher ones.
        tensors: contiguous tensors that share no memory.
        facts: JSON-ready values to keep with them.

    Returns:
        The file.

    Raises:
        ModelError: it cannot be written; the earlier checkpoints are as they were.
    """
    header = {
        "schema": SCHEMA,
        "facts": json.dumps(dict(facts), allow_nan=False),
        "crc32": str(_checksum(tensors)),
    }
    target = Path(folder) / f"checkpoint-{step:09d}.safetensors"
    before = latest(folder)
    try:
        write_file(target, save_safetensors(dict(tensors), header))
    except ModelError as error:
        advice = (
            "begin again: there is no checkpoint before it"
            if before is None
            else f"go on with --resume: {before.name} is untouched"
        )
        raise ModelError(f"{error}, then {advice}") from error
    for old in _all(Path(folder))[:-KEPT]:
        if old != target:
            old.unlink(missing_ok=True)
    return target


def latest(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder, None without any."""
    checkpoints = _all(Path(folder))
    return checkpoints[-1] if checkpoints else None


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and check every byte of its tensors.

    Args:
        path: a file of :func:`save`.

    Returns:
        Its content.

    Raises:
        ModelError: it is missing, unreadable, damaged or something else; the message names an
            earlier checkpoint where there is one.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, str(error.strerror or error)) from error
    try:
        tensors = load_safetensors(data)
        header = _header(data)
        facts = json.loads(header.get("facts", "{}"))
    except (safetensors.SafetensorError, ValueError) as error:
        raise _unreadable(path, f"it is not a whole safetensors file ({error})") from error
    if header.get("schema") != SCHEMA:
        raise _unreadable(
            path, f"it is no checkpoint (schema {header.get('schema')!r}, expected {SCHEMA!r})"
        )
    if header.get("crc32") != str(_checksum(tensors)):
        raise _unreadable(path, "its checksum is wrong, the file was damaged")
    return Checkpoint(path, tensors, facts)


def _all(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first."""
    if not folder.is_dir():
        return []
    try:
        numbered = [(m[1], path) for path in folder.iterdir() if (m := _NAME.fullmatch(path.name))]
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error}; check its permissions") from error
    return [path for _, path in sorted(numbered, key=lambda pair: int(pair[0]))]


def _checksum(tensors: Mapping[str, torch.Tensor]) -> int:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        flat = tensors[name].contiguous().view(-1).view(torch.uint8)
        value = zlib.crc32(flat.numpy().data, value)
    return value


def _header(data: bytes) -> dict[str, str]:
    """Read the metadata of a safetensors file: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})


def _unreadable(path: Path, why: str) -> ModelError:
    others = [other.name for other in _all(path.parent) if other != path]
    advice = (
        f"delete it to resume from {others[-1]}"
        if others
        else "delete it and begin again without --resume"
    )
    return ModelError(f"the checkpoint {path} cannot be used: {why}; {advice}")
