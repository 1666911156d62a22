"""Checkpoints: what was saved comes back, and nothing that fails costs the last good one."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest
import torch
from facestage.core.errors import ModelError
from facestage.stream.learning import checkpoints
from safetensors.torch import save_file

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "count": torch.tensor(7),
    "flag": torch.tensor([True, False]),
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "new", 12, TENSORS, {"aus": [1, 2], "seed": 3})
    assert path == checkpoints.latest(tmp_path / "new")
    read = checkpoints.load(path)
    assert read.facts == {"aus": [1, 2], "seed": 3}
    assert read.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(read.tensors[key], value) for key, value in TENSORS.items())


def test_the_newest_two_are_kept_and_foreign_files_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    for step in (5, 999, 1_000_000_000, 2_000_000_000):
        checkpoints.save(tmp_path, step, TENSORS, {})
    assert names(tmp_path) == [
        "checkpoint-1000000000.safetensors",
        "checkpoint-2000000000.safetensors",
        "model.safetensors",
    ]


def test_no_folder_or_an_empty_one_has_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path) is None
    assert checkpoints.latest(tmp_path / "absent") is None


class FullDisk(io.FileIO):
    """Takes some bytes, then says that the disk is full."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        super().write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_clear_error_and_the_last_checkpoint_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_on_full_disk(path: Path, mode: str) -> FullDisk:
        return FullDisk(path, mode)

    good = checkpoints.save(tmp_path, 1, TENSORS, {"n": 1})
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", open_on_full_disk)
        advice = rf"No space left.*; free some space, then go on with --resume: {good.name} is"
        with pytest.raises(ModelError, match=f"checkpoint-000000002.*{advice}"):
            checkpoints.save(tmp_path, 2, TENSORS, {"n": 2})
        # Nothing to resume from: the advice would fail.
        with pytest.raises(ModelError, match=r"No space left.*, then begin again: there is no"):
            checkpoints.save(tmp_path / "new", 1, TENSORS, {})
    assert not names(tmp_path / "new")
    (tmp_path / "new").rmdir()
    assert names(tmp_path) == [good.name]
    assert checkpoints.load(good).facts == {"n": 1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_device_that_is_really_full_is_reported(tmp_path: Path) -> None:
    good = checkpoints.save(tmp_path, 1, TENSORS, {})
    os.symlink("/dev/full", tmp_path / ".checkpoint-000000002.safetensors.partial")
    with pytest.raises(ModelError, match="No space left"):
        checkpoints.save(tmp_path, 2, TENSORS, {})
    assert names(tmp_path) == [good.name]


def test_a_crash_while_writing_leaves_no_part_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = checkpoints.save(tmp_path, 1, TENSORS, {})

    def interrupt(_fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, 2, TENSORS, {})
    assert names(tmp_path) == [good.name]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_refused_and_the_good_one_named(
    tmp_path: Path, damage: str
) -> None:
    good = checkpoints.save(tmp_path, 1, TENSORS, {})
    bad = checkpoints.save(tmp_path, 2, TENSORS, {})
    data = bytearray(bad.read_bytes())
    if damage == "cut":
        data = data[:-5]
    elif damage == "flipped":
        data[-20] ^= 1
    elif damage == "empty":
        data = bytearray()
    else:
        data = bytearray(b"not a checkpoint, whatever its name says")
    bad.write_bytes(data)
    with pytest.raises(ModelError, match=f"cannot be used.*resume from {good.name}"):
        checkpoints.load(bad)
    assert checkpoints.load(good).facts == {}


def test_damaged_facts_are_as_bad_as_damaged_tensors(tmp_path: Path) -> None:
    good = checkpoints.save(tmp_path, 1, TENSORS, {})
    bad = checkpoints.save(tmp_path, 2, TENSORS, {"seed": 3})
    data = bad.read_bytes()
    assert data.count(b"seed") == 1
    bad.write_bytes(data.replace(b'{\\"seed', b'[\\"seed'))
    with pytest.raises(ModelError, match=f"cannot be used.*resume from {good.name}"):
        checkpoints.load(bad)


def test_other_safetensors_files_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(TENSORS, path)
    with pytest.raises(ModelError, match=r"no checkpoint.*begin again without --resume"):
        checkpoints.load(path)
    with pytest.raises(ModelError, match="No such file"):
        checkpoints.load(tmp_path / "absent.safetensors")
