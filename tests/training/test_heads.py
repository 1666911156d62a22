"""Read-outs trained anew: only their own units move, the same seed gives the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from facestage.core.errors import ConfigError, ModelError, SourceError
from facestage.core.learning.metrics import roc_auc
from facestage.core.network.architectures import AUNet96
from facestage.core.network.au_network import AUNetwork
from facestage.stream.learning import checkpoints

from training.augment.canvas import SIZE
from training.data.loader import ViewLoader
from training.face.facs import AUS
from training.fit import card, features, heads, train

CHEEKS = slice(112, 144)
"""Hidden units of the cheeks, which AU 6 alone reads; those of brows and eyes come before."""
CONFIG = heads.HeadsConfig((6,), epochs=3, batch=8, decays=(0.0, 1.0))


def render(folder: Path, count: int) -> Path:
    """Write a shard of noise; every other face shows AU 6, index // 2 is the identity."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    index = np.arange(count)
    intensity = np.zeros((count, len(AUS)), np.float32)
    intensity[:, AUS.index(6)] = 4 * (index % 2)
    np.savez(
        folder / "faces-00000-000000000.npz",
        image=rng.integers(0, 256, (count, SIZE, SIZE), dtype=np.uint8),
        intensity=intensity,
        landmarks=rng.uniform(30, 100, (count, 68, 2)).astype(np.float32),
        identity=index // 2,
        index=index,
    )
    return folder


def drawn(count: int, seed: int) -> features.Features:
    """Make up features of which the first of the cheeks says whether AU 6 is there."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, 6 * 6 * 96)).astype(np.float16)
    values[:, 12] *= 10  # row 2 of the grid
    labels = np.zeros((count, len(AUS)), np.float32)
    labels[:, AUS.index(6)] = 4.0 * (values[:, 12] > 0)
    labels[: count // 10] = np.nan
    return features.Features(values, labels)


@pytest.fixture(scope="module")
def net() -> AUNet96:
    return train.new_network(3).eval()


def test_an_au_without_units_of_its_own_is_refused(net: AUNet96) -> None:
    assert heads.own_units(net, [6]).nonzero()[:, 0].tolist() == list(range(112, 144))
    assert heads.own_units(net, [10, 12])[:144].sum() == 0
    with pytest.raises(ConfigError, match="shares all with AU 2, 4"):
        heads.own_units(net, [1])
    with pytest.raises(ConfigError, match="no AU 3"):
        heads.own_units(net, [3])
    with pytest.raises(ConfigError, match="name an AU"):
        heads.HeadsConfig(())
    with pytest.raises(ConfigError, match="rising numbers"):
        heads.HeadsConfig((6,), decays=(1.0, 0.5))


def test_the_simplest_within_one_error_of_the_best_is_taken() -> None:
    error = 0.01
    assert heads.one_error_rule([(0.90, error), (0.93, error), (0.921, error)]) == 2
    assert heads.one_error_rule([(0.90, error), (0.93, error), (0.919, error)]) == 1
    assert heads.one_error_rule([(0.93, error), (0.90, 0.1), (0.89, 0.1)]) == 0
    assert heads.one_error_rule([(0.925, error), (0.90, error), (0.93, error)]) == 2


def test_other_outputs_stay_bit_by_bit(net: AUNet96) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tensors, facts = heads.retrain(net, drawn(48, 0), drawn(40, 1), CONFIG)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

    renewed = train.new_network(3).eval()
    heads.put_in(renewed, tensors, facts)
    crops = torch.randn((6, 1, 96, 96), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        old, new = net(crops), renewed(crops)
    others = [k for k, au in enumerate(AUS) if au != 6]
    row = AUS.index(6)
    for a, b in zip(old[:2], new[:2], strict=True):
        assert torch.equal(a[:, others], b[:, others])
        assert not torch.equal(a[:, row], b[:, row])
    assert torch.equal(old[2], new[2])  # landmarks
    outside = torch.ones(net.presence.in_features, dtype=torch.bool)
    outside[CHEEKS] = False
    assert not renewed.presence.weight[row, outside].any()
    assert facts["decay"] in CONFIG.decays
    assert len(facts["auc"]["6"]["tried"]) == 2


def test_a_label_that_follows_a_feature_is_learned(net: AUNet96) -> None:
    config = heads.HeadsConfig((6,), epochs=30, batch=64, decays=(0.02,))
    losses: list[float] = []
    tensors = heads.fit(net, drawn(512, 0), config, 0.02, lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.5 * losses[0]
    other = drawn(200, 1)
    hidden = torch.relu(
        torch.from_numpy(other.features[20:]).float() @ tensors["hidden.weight"].T
        + tensors["hidden.bias"]
    )
    row = AUS.index(6)
    logits = hidden @ tensors["presence.weight"][row] + tensors["presence.bias"][row]
    assert roc_auc(other.intensity[20:, row] > 0, logits.detach().numpy()) > 0.9


def test_strong_decay_does_not_leave_all_logits_together(
    net: AUNet96, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = heads.HeadsConfig((6,), epochs=30, batch=64)
    seen, row = drawn(512, 0), AUS.index(6)
    values = torch.from_numpy(seen.features[60:]).float()
    present = torch.from_numpy(seen.intensity[60:, row] > 0)

    def logits() -> torch.Tensor:
        tensors = heads.fit(net, seen, config, 8.0)
        hidden = torch.relu(values @ tensors["hidden.weight"].T + tensors["hidden.bias"])
        given = hidden @ tensors["presence.weight"][row] + tensors["presence.bias"][row]
        return given.detach()

    scaled = logits()
    monkeypatch.setattr(heads, "_scale", lambda *_: None)
    plain = logits()
    area = roc_auc(present.numpy(), plain.numpy())
    assert roc_auc(present.numpy(), scaled.numpy()) == pytest.approx(area, abs=1e-3)

    def gap(given: torch.Tensor) -> float:
        return float(given[present].mean() - given[~present].mean())

    assert 3 * gap(plain) < gap(scaled) < 30  # separable views would stretch without end


def test_views_of_a_neighbour_alone_count_more(net: AUNet96) -> None:
    """A feature that only tells smiles apart is believed less where smiles come without AU 6."""
    rng = np.random.default_rng(0)
    smile, cheeks = rng.random((2, 600)) < [[0.5], [0.6]]
    labels = np.zeros((600, len(AUS)), np.float32)
    labels[:, AUS.index(12)] = 4.0 * smile
    labels[:, AUS.index(6)] = 4.0 * (smile & cheeks)
    values = np.repeat(smile[:, None].astype(np.float16), 6 * 6 * 96, axis=1)
    seen = features.Features(values, labels)
    answers = []
    for confusing in (3, 1):
        config = heads.HeadsConfig((6,), epochs=20, batch=64, confusing=confusing)
        tensors = heads.fit(net, seen, config, 0.02)
        hidden = torch.relu(
            torch.from_numpy(values).float() @ tensors["hidden.weight"].T + tensors["hidden.bias"]
        )
        row = AUS.index(6)
        logits = hidden @ tensors["presence.weight"][row] + tensors["presence.bias"][row]
        answers.append(float(logits[smile].mean().detach()))
    assert answers[0] < answers[1] - 0.5


def test_the_same_seed_gives_the_same_read_outs(net: AUNet96) -> None:
    seen = drawn(24, 0)
    state = torch.random.get_rng_state()
    first, again = heads.fit(net, seen, CONFIG, 0.1), heads.fit(net, seen, CONFIG, 0.1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = heads.fit(net, seen, heads.HeadsConfig((6,), 3, 8, seed=2), 0.1)
    assert not torch.equal(first["hidden.weight"], other["hidden.weight"])
    broken = features.Features(seen.features * np.float16(np.nan), seen.intensity)
    with pytest.raises(ModelError, match="diverged in epoch 0"):
        heads.fit(net, broken, CONFIG, 0.1)
    nobody = features.Features(seen.features, np.zeros_like(seen.intensity))
    with pytest.raises(SourceError, match="in all or in none"):
        heads.retrain(net, seen, nobody, CONFIG)


def test_features_go_on_where_they_stopped(
    net: AUNet96, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BATCH", 8)
    shards = render(tmp_path / "shards", 44)
    folder = tmp_path / "features"
    with ViewLoader([shards], 3, batch=8, workers=0) as loader:
        seen: list[tuple[int, int]] = []
        half = features.gather(folder, net, loader, 16, report=lambda *at: seen.append(at))
        assert seen == [(8, 16), (16, 16)]
        seen.clear()
        whole = features.gather(folder, net, loader, 1000, report=lambda *at: seen.append(at))
        assert seen[0] == (24, 40)  # not from the start again
        assert len(whole) == 40  # identities 0 and 20 are held out
        assert np.array_equal(whole.features[:16], half.features)
        fresh = features.gather(tmp_path / "fresh", net, loader, 40)
        assert np.array_equal(whole.features, fresh.features)
        assert np.array_equal(whole.intensity, fresh.intensity, equal_nan=True)
        people = np.concatenate([batch.identity for batch in loader.once()])
        assert len(people) == 40
        assert (np.diff(people) != 0).sum() == 19  # both faces of a person together
        judged = features.gather(folder, net, loader, 4, held_out=True)
        assert len(judged) == 4
        batch = next(loader.once(held_out=True))
        assert set(batch.identity) == {0, 20}
        with pytest.raises(ConfigError, match="give another folder"):
            features.gather(folder, train.new_network(4).eval(), loader, 16)
    with (
        ViewLoader([shards], 4, batch=8, workers=0) as other,
        pytest.raises(ConfigError, match=r"holds features of network \w+, seed 3"),
    ):
        features.gather(folder, net, other, 16)
    (folder / "train.json").write_text("{", encoding="utf-8")
    with (
        ViewLoader([shards], 3, batch=8, workers=0) as loader,
        pytest.raises(SourceError, match="delete this one"),
    ):
        features.gather(folder, net, loader, 16)


def test_the_card_takes_read_outs_of_its_own_network_only(net: AUNet96, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "heads"
    shards = render(tmp_path / "shards", 84)
    train.run(train.RunConfig(shards, run, 16, 8, every=16, validation=4), lambda _: None)
    trained = train.averaged_network(run)
    made = heads.retrain(trained, drawn(24, 0), drawn(40, 1), CONFIG)
    heads.save(out, (made[0], made[1] | {"commit": "def"}))
    kept = heads.load(out)
    facts = card.assemble(run, shards, "abc", "a clock", None, None, heads=kept.facts)
    assert "AU 6: hidden units of its own" in facts["recipe"]["read_outs"]
    assert "24 views of faces rendered at commit def" in facts["recipe"]["read_outs"]
    train.export_newest(run, facts, tmp_path / "net.safetensors", heads=kept)
    loaded = AUNetwork.load(tmp_path / "net.safetensors", device="cpu")
    renewed = train.averaged_network(run)
    heads.put_in(renewed, *made)
    crops = np.random.default_rng(0).integers(0, 256, (2, 96, 96), dtype=np.uint8)
    with torch.inference_mode():
        expected = torch.sigmoid(renewed(loaded.prepare(crops))[0]).numpy()
    np.testing.assert_allclose(loaded.predict(crops).presence, expected, atol=1e-5)

    with pytest.raises(ModelError, match="trained for the network"):
        heads.put_in(net, *made)
    with pytest.raises(ModelError, match="no read-outs in"):
        heads.load(tmp_path / "nothing")
    checkpoints.load(out / "checkpoint-000000024.safetensors")
