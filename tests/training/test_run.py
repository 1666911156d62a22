"""The long run: processes that share batches, checkpoints that are gone on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from facestage.core.action_units import AU_NAMES
from facestage.core.errors import ConfigError
from facestage.core.network.au_network import EMBEDDED, AUNetwork
from facestage.stream.learning import checkpoints
from facestage.stream.learning.networks import start

from training.augment.canvas import SIZE
from training.data.loader import ViewBatch
from training.face.facs import AUS
from training.fit import card, train
from training.photos.portraits import FIRST_IDENTITY


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


def test_photographs_have_their_share_of_every_batch_and_teach_no_landmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, first, count in (("shards", 0, 44), ("photographs", 1001, 9)):
        (tmp_path / folder).mkdir()
        render(tmp_path / folder, first, count)
    seen: list[train.TrainingBatch] = []
    step = train.Trainer.step

    def watched(trainer: train.Trainer, batch: train.TrainingBatch) -> train.StepLosses:
        seen.append(batch)
        return step(trainer, batch)

    monkeypatch.setattr(train.Trainer, "step", watched)
    beside = ((tmp_path / "photographs", 0.25),)
    run = replace(config(tmp_path, 24), beside=beside, bfloat16=True)
    assert run.parts() == (6, 2)
    train.run(run, lambda _: None)
    assert [len(batch.crops) for batch in seen] == [8, 8, 8]
    for batch in seen:
        weights = np.asarray(batch.landmark_weight)
        assert weights[:6].any()
        assert not weights[6:].any()
    kept = checkpoints.load(checkpoints.latest(tmp_path / "out"))
    assert kept.facts["beside"] == [["photographs", 0.25]]
    # Going on takes the photographs that come next, not the first ones again.
    seen.clear()
    train.run(replace(run, views=32), lambda _: None)
    assert [len(batch.crops) for batch in seen] == [8]


def test_of_portraits_it_is_learned_that_an_au_is_there_and_not_how_much() -> None:
    def batch(identity: int, intensity: list[float]) -> ViewBatch:
        labels = np.full((1, len(AUS)), np.nan, np.float32)
        labels[0, :3] = intensity
        nothing = np.zeros((1, 96, 96), np.uint8), labels, np.zeros((1, 68, 2)), np.ones((1, 68))
        return ViewBatch(*nothing, np.array([identity]), np.array([0]))

    both = train._joined(batch(7, [0, 3, np.nan]), [batch(FIRST_IDENTITY, [0, 3, np.nan])])
    intensity, presence = np.asarray(both.intensity), np.asarray(both.presence)
    assert intensity[0, :2].tolist() == [0, 3]
    assert np.isnan(presence[0]).all()
    assert intensity[1, 0] == 0
    assert np.isnan(intensity[1, 1:]).all()
    assert presence[1, 1] == 1
    assert np.isnan(presence[1, 0])


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.0,), (-0.1,)])
def test_photographs_leave_room_for_rendered_faces(tmp_path: Path, shares: tuple) -> None:
    beside = tuple((tmp_path, share) for share in shares)
    with pytest.raises(ConfigError, match="above 0 that make less than 1"):
        replace(config(tmp_path, 24), beside=beside)


def test_a_run_begins_from_weights_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    render(tmp_path / "shards", 0, 44)
    train.run(replace(config(tmp_path, 8), begin="embedded"), lambda _: None)
    kept = checkpoints.load(checkpoints.latest(tmp_path / "out"))
    embedded = start("embedded", AUS, 1).net.state_dict()["features.0.weight"]
    scratch = train.new_network(1).state_dict()["features.0.weight"]
    now = kept.tensors["net.features.0.weight"]
    assert (now - embedded).abs().mean() < 0.1 * (now - scratch).abs().mean()


def test_weights_are_averaged_with_those_of_earlier_checkpoints_by_shares(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    render(tmp_path / "shards", 0, 88)
    runs = []
    for views in (8, 16, 24):
        copy = replace(config(tmp_path, views), out=tmp_path / str(views))
        train.run(copy, lambda _: None)
        runs.append(checkpoints.latest(copy.out))
    first, second, _ = runs
    blends = [(first, 0.25), (second, 0.125)]
    net = train.averaged_network(tmp_path / "24", blends).state_dict()
    alone = [train.averaged_network(tmp_path / str(views)).state_dict() for views in (8, 16, 24)]
    for name, value in net.items():
        if value.is_floating_point():
            a, b, c = (one[name] for one in alone)
            torch.testing.assert_close(value, 0.25 * a + 0.125 * b + 0.625 * c)
    making, unjudged = card.Making("abc", "a clock"), card.Judgement()
    facts = card.assemble(tmp_path / "24", tmp_path / "shards", making, unjudged, blends=blends)
    assert facts["recipe"]["averaged_with"] == (
        "the weights of the same run after 8 views, share 0.25; of the same run after 16 views, "
        "share 0.125"
    )
    # Weights with a card blend, too: those that a run began with.
    mixed = train.averaged_network(tmp_path / "24", [(EMBEDDED, 0.5)]).state_dict()
    own, before = alone[2], start("embedded", AUS, 0).net.state_dict()
    name = "features.0.weight"
    torch.testing.assert_close(mixed[name], 0.5 * own[name] + 0.5 * before[name])
    facts = card.assemble(
        tmp_path / "24", tmp_path / "shards", making, unjudged, blends=[(EMBEDDED, 0.5)]
    )
    assert "the weights of au_net_v1 1." in facts["recipe"]["averaged_with"]
    with pytest.raises(ConfigError, match=r"leave -0\.2"):
        train.averaged_network(tmp_path / "24", [(first, 0.6), (second, 0.6)])


def test_the_card_states_the_run_and_what_was_measured(tmp_path: Path) -> None:
    shards, out = tmp_path / "shards", tmp_path / "out"
    shards.mkdir()
    render(shards, 0, 88)
    train.run(config(tmp_path, 24), lambda _: None)
    measured = {
        "auc": 0.9,
        "r": {"value": 0.91, "people": 3, "interval": None},
        "found": {"value": 1.0, "people": 2, "interval": [0.34, 1.0]},
        "neutral": {"value": 0.04, "people": 101, "interval": [0.015, 0.097]},
    }
    calibration = {
        "thresholds": {"on": 0.5, "off": 0.35, "per_au": {"12": {"on": 0.25, "off": 0.2}}},
        "neutral": {str(au): -2.0 for au in AUS},
        "grades": {str(au): "C" for au in AUS} | {"12": "A", "43": "B"},
        "evaluation": {"12": measured, "grade_rule": "as good as it looks"},
    }
    real = {"must_show": [{"figure": "AU12", "target": ">= 0.9", "got": 0.91, "reached": True}]}
    making = card.Making("abc123", "a pocket watch")
    facts = card.assemble(out, shards, making, card.Judgement(calibration, real), "other faces")
    net = train.averaged_network(out)
    made = train.export_with(net, facts, tmp_path / "net.safetensors")

    loaded = AUNetwork.load(tmp_path / "net.safetensors", device="cpu")
    assert loaded.card.sha256 == made.sha256
    assert loaded.card.on[12] == 0.25
    assert loaded.card.on[43] == 0.5
    assert made.data["faces"] == 88
    assert made.data["identities"] == 44
    assert made.data["held_out_identities"] == 3  # 0, 20 and 40
    assert made.recipe["views"] == 24
    text = card.page(made, "- and one more thing")
    for said in (
        "abc123",
        "a pocket watch",
        "other faces",
        "as good as it looks",
        f"| 12 | {AU_NAMES[12]} | A | 0.25 / 0.2 | 100 % [34–100] (2) |",
        "| 0.91 (3) | 4 % [2–10] (101) |",
        "Weak on real faces: AU43.",
        "- and one more thing",
        made.sha256,
    ):
        assert said in text, said


def test_a_batch_too_small_to_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be shared by 8 processes"):
        config(tmp_path, 24, 8)
