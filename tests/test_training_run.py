"""The long run: processes that share batches, checkpoints that are gone on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from facestage.core.errors import ConfigError
from facestage.stream.learning import checkpoints

from training import train
from training.canvas import SIZE
from training.facs import AUS


def render(folder: Path, first: int, count: int) -> None:
    """Write a shard of noise with labels; index // 2 is the identity."""
    rng = np.random.default_rng(first)
    index = np.arange(first, first + count)
    np.savez(
        folder / f"{first:06d}.npz",
        image=rng.integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8),
        intensity=rng.choice([0, 0.5, 3], (count, len(AUS))).astype(np.float32),
        landmarks=rng.uniform(30, 100, (count, 68, 2)).astype(np.float32),
        identity=index // 2,
        index=index,
    )


def config(folder: Path, views: int, processes: int = 1) -> train.RunConfig:
    return train.RunConfig(
        folder / "shards", folder / "out", views, 8, every=16, validation=4, processes=processes
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_goes_on_from_its_newest_checkpoint(tmp_path: Path, processes: int) -> None:
    (tmp_path / "shards").mkdir()
    render(tmp_path / "shards", 0, 44)
    seen: list[train.Progress] = []
    train.run(config(tmp_path, 24, processes), seen.append)
    assert [progress.views for progress in seen if progress.figures] == [16, 24]
    render(tmp_path / "shards", 44, 20)  # more faces have been rendered meanwhile

    seen.clear()
    net = train.run(config(tmp_path, 64, processes), seen.append)
    assert seen[0].views > 24  # not from the start again
    assert [progress.views for progress in seen if progress.figures] == [32, 48, 64]
    assert seen[-1].faces == 64 - 4  # identities 0 and 20 are held out
    newest = checkpoints.latest(tmp_path / "out")
    assert newest is not None
    kept = checkpoints.load(newest)
    assert int(kept.tensors["views"]) == 64
    state = net.state_dict()
    assert torch.equal(state["features.0.weight"], kept.tensors["ema.features.0.weight"])


def test_a_batch_too_small_to_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be shared by 8 processes"):
        config(tmp_path, 24, 8)
