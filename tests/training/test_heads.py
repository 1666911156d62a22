"""Read-outs trained anew: only their own units move, the same seed gives the same weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from facestage.core.errors import ConfigError, ModelError, SourceError
from facestage.core.learning.metrics import roc_auc
from facestage.core.network.architectures import SECOND_LAYOUT, AUNet96
from facestage.core.network.au_network import AUNetwork
from facestage.stream.learning import checkpoints

from training.augment.canvas import SIZE
from training.data.loader import ViewLoader
from training.face.facs import AUS
from training.fit import card, features, heads, train

UNITS = SECOND_LAYOUT.units()
CHEEKS = UNITS["cheeks"]
"""Hidden units of the cheeks, which AU 6 alone reads."""
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
    own = heads.own_units(net, [6]).nonzero()[:, 0].tolist()
    assert own == list(range(CHEEKS.start, CHEEKS.stop))
    assert heads.own_units(net, [10, 12]).nonzero()[:, 0].tolist() == list(
        range(UNITS["upper_lip"].start, UNITS["upper_lip"].stop)
    )
    with pytest.raises(ConfigError, match="shares all with AU 15, 16"):
        heads.own_units(net, [14])
    with pytest.raises(ConfigError, match="no AU 3"):
        heads.own_units(net, [3])
    with pytest.raises(ConfigError, match="name an AU"):
        heads.HeadsConfig(())
    with pytest.raises(ConfigError, match="rising numbers"):
        heads.HeadsConfig((6,), decays=(1.0, 0.5))
    with pytest.raises(ConfigError, match="no gate where only outputs"):
        heads.HeadsConfig((6,), gate=1.0, outputs_only=True)
    with pytest.raises(ConfigError, match="share below 1"):
        heads.HeadsConfig((6,), photographs=1.0)


def test_the_simplest_within_one_error_of_the_best_is_taken() -> None:
    error = 0.01
    assert heads.one_error_rule([(0.90, error), (0.93, error), (0.921, error)]) == 2
    assert heads.one_error_rule([(0.90, error), (0.93, error), (0.919, error)]) == 1
    assert heads.one_error_rule([(0.93, error), (0.90, 0.1), (0.89, 0.1)]) == 0
    assert heads.one_error_rule([(0.925, error), (0.90, error), (0.93, error)]) == 2


def test_other_outputs_stay_bit_by_bit(net: AUNet96) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tensors, facts = heads.retrain(net, heads.Material(drawn(48, 0)), drawn(40, 1), CONFIG)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

    renewed = train.new_network(3).eval()
    heads.put_in(renewed, [(tensors, facts)])
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
    material = heads.Material(drawn(512, 0))
    tensors = heads.fit(net, material, config, 0.02, lambda _, loss: losses.append(loss))
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
        tensors = heads.fit(net, heads.Material(seen), config, 8.0)
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
        tensors = heads.fit(net, heads.Material(seen), config, 0.02)
        hidden = torch.relu(
            torch.from_numpy(values).float() @ tensors["hidden.weight"].T + tensors["hidden.bias"]
        )
        row = AUS.index(6)
        logits = hidden @ tensors["presence.weight"][row] + tensors["presence.bias"][row]
        answers.append(float(logits[smile].mean().detach()))
    assert answers[0] < answers[1] - 0.5


def test_the_same_seed_gives_the_same_read_outs(net: AUNet96) -> None:
    seen = heads.Material(drawn(24, 0))
    state = torch.random.get_rng_state()
    first, again = heads.fit(net, seen, CONFIG, 0.1), heads.fit(net, seen, CONFIG, 0.1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = heads.fit(net, seen, heads.HeadsConfig((6,), 3, 8, seed=2), 0.1)
    assert not torch.equal(first["hidden.weight"], other["hidden.weight"])
    views = seen.seen
    broken = features.Features(views.features * np.float16(np.nan), views.intensity)
    with pytest.raises(ModelError, match="diverged in epoch 0"):
        heads.fit(net, heads.Material(broken), CONFIG, 0.1)
    nobody = features.Features(views.features, np.zeros_like(views.intensity))
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
        judged = features.gather(folder, net, loader, 4, kind=features.HELD_OUT)
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


def test_rounds_show_every_face_again_in_another_view(
    net: AUNet96, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BATCH", 8)
    shards = render(tmp_path / "shards", 24)
    twice = features.Kind("twice", rounds=2)
    with ViewLoader([shards], 3, batch=8, workers=0) as loader:
        once = features.gather(tmp_path / "once", net, loader, 100)
        both = features.gather(tmp_path / "both", net, loader, 100, kind=twice)
    assert len(both) == 2 * len(once) == 44
    assert np.array_equal(both.features[:22], once.features)
    assert not np.array_equal(both.features[22:], once.features)


def test_photographs_teach_presence_and_only_where_they_are_labelled(net: AUNet96) -> None:
    """Renders do not show the AU; photographs say that the feature means it, without how much."""
    seen = drawn(256, 0)
    plain = features.Features(seen.features, np.zeros_like(seen.intensity))
    shown = drawn(256, 1)
    shown.intensity[shown.intensity > 0] = 3.0
    material = heads.Material(plain, shown)
    row = AUS.index(6)

    def answers(share: float) -> tuple[np.ndarray, np.ndarray]:
        config = heads.HeadsConfig((6,), 30, 64, decays=(0.02,), photographs=share)
        tensors = heads.fit(net, material, config, 0.02)
        other = drawn(200, 2)
        hidden = torch.relu(
            torch.from_numpy(other.features[20:]).float() @ tensors["hidden.weight"].T
            + tensors["hidden.bias"]
        )
        said = [
            (hidden @ tensors[f"{head}.weight"][row] + tensors[f"{head}.bias"][row]).detach()
            for head in ("presence", "intensity")
        ]
        truth = other.intensity[20:, row] > 0
        return truth, torch.stack(said).numpy()

    truth, (presence, intensity) = answers(0.5)
    assert roc_auc(truth, presence) > 0.75  # the renders say that it is never there
    # Nobody said how much: where presence is sure, intensity stays at what the renders taught.
    assert abs(intensity[truth].mean()) < 0.1
    with pytest.raises(ConfigError, match="needs photographs"):
        heads.fit(net, heads.Material(plain), heads.HeadsConfig((6,), photographs=0.5), 0.1)


def test_a_teacher_says_what_photographs_show_that_nobody_coded(net: AUNet96) -> None:
    """Renders never show the AU; portraits are not labelled but for those that are neutral."""
    seen, row = drawn(256, 0), AUS.index(6)
    plain = features.Features(seen.features, np.zeros_like(seen.intensity))
    teacher = copy.deepcopy(net)
    learned = heads.HeadsConfig((6,), 30, 64, decays=(0.02,))
    tensors = heads.fit(net, heads.Material(drawn(256, 3)), learned, 0.02)
    heads.put_in(teacher, [(tensors, {"network": features.digest_of(net), "aus": (6,)})])
    portraits = drawn(256, 1)
    truth = portraits.intensity[:, row] > 0
    uncoded = features.Features(portraits.features, np.full_like(portraits.intensity, np.nan))
    taught = heads.HeadsConfig((6,), 30, 64, decays=(0.02,), photographs=0.5, teacher=heads.GIVEN)

    def area(material: heads.Material, config: heads.HeadsConfig) -> float:
        layers = heads.fit(net, material, config, 0.02)
        hidden = torch.relu(
            torch.from_numpy(portraits.features).float() @ layers["hidden.weight"].T
            + layers["hidden.bias"]
        )
        return roc_auc(truth, (hidden @ layers["presence.weight"][row]).numpy())

    learned_from = area(heads.Material(plain, uncoded, teacher=teacher), taught)
    assert learned_from > 0.75
    labelled = features.Features(portraits.features, np.zeros_like(portraits.intensity))
    # Who is known to be neutral is not taught.
    assert area(heads.Material(plain, labelled, teacher=teacher), taught) < learned_from - 0.1
    with pytest.raises(ConfigError, match="a teacher is asked for and not given"):
        heads.fit(net, heads.Material(plain, uncoded), taught, 0.02)
    with pytest.raises(ConfigError, match="needs photographs"):
        heads.HeadsConfig((6,), teacher=heads.PRESENT)


def test_a_gate_closes_features_that_look_elsewhere(net: AUNet96) -> None:
    enriched = np.ones(6 * 6 * 96)
    enriched[: 6 * 6 * 48] = 3.0
    config = heads.HeadsConfig((6,), 2, 64, decays=(0.02,), gate=2.0)
    tensors = heads.fit(net, heads.Material(drawn(128, 0), enriched=enriched), config, 0.02)
    weight = tensors["hidden.weight"][CHEEKS]
    assert weight[:, : 6 * 6 * 48].any()
    assert not weight[:, 6 * 6 * 48 :].any()
    with pytest.raises(ConfigError, match="no feature passes the gate of 9"):
        heads.fit(
            net,
            heads.Material(drawn(64, 0), enriched=enriched),
            heads.HeadsConfig((6,), gate=9.0),
            0.1,
        )
    with pytest.raises(ConfigError, match="a gate needs portraits"):
        heads.fit(net, heads.Material(drawn(64, 0)), config, 0.1)


def test_outputs_alone_leave_every_hidden_unit_as_it_is(net: AUNet96) -> None:
    config = heads.HeadsConfig((7,), 2, 16, decays=(0.1,), outputs_only=True)
    seen = drawn(64, 0)
    seen.intensity[:, AUS.index(7)] = seen.intensity[:, AUS.index(6)]
    tensors, facts = heads.retrain(net, heads.Material(seen), drawn_for(7, 40), config)
    before = net.state_dict()
    assert torch.equal(tensors["hidden.weight"], before["hidden.weight"])
    row, others = AUS.index(7), [k for k, au in enumerate(AUS) if au != 7]
    assert torch.equal(tensors["presence.weight"][others], before["presence.weight"][others])
    assert not torch.equal(tensors["presence.weight"][row], before["presence.weight"][row])
    unread = ~net.presence.reads[row].bool()
    assert not tensors["presence.weight"][row, unread].any()
    assert facts["outputs_only"]

    # Half of each says the mean of what both say.
    half = heads.HeadsConfig((7,), 2, 16, decays=(0.1,), outputs_only=True, keep=0.5)
    mixed = heads.fit(net, heads.Material(seen), half, 0.1)
    hidden = torch.rand((5, net.presence.in_features), generator=torch.Generator().manual_seed(3))

    def said(layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        reads = net.presence.reads[row]
        return hidden @ (layers["presence.weight"][row] * reads) + layers["presence.bias"][row]

    torch.testing.assert_close(said(mixed), (said(tensors) + said(before)) / 2)
    with pytest.raises(ConfigError, match="train the outputs only"):
        heads.HeadsConfig((7,), keep=0.5)


def drawn_for(au: int, count: int) -> features.Features:
    """Make up features with the label of AU 6 given to another AU."""
    made = drawn(count, 5)
    made.intensity[:, AUS.index(au)] = made.intensity[:, AUS.index(6)]
    return made


def test_read_outs_of_several_aus_are_put_in_together(net: AUNet96) -> None:
    six = heads.retrain(net, heads.Material(drawn(48, 0)), drawn(40, 1), CONFIG)
    two_config = heads.HeadsConfig((2,), 3, 8, decays=(0.1,))
    seen = drawn(48, 3)
    seen.intensity[:, AUS.index(2)] = seen.intensity[:, AUS.index(6)]
    two = heads.retrain(net, heads.Material(seen), drawn_for(2, 40), two_config)
    renewed = copy.deepcopy(net)
    heads.put_in(renewed, [six, two])
    for au, (tensors, _) in ((6, six), (2, two)):
        row = AUS.index(au)
        assert torch.equal(renewed.presence.weight[row], tensors["presence.weight"][row])
    assert torch.equal(
        renewed.hidden.weight[UNITS["outer_brows"]], two[0]["hidden.weight"][UNITS["outer_brows"]]
    )
    with pytest.raises(ModelError, match="two read-outs are for AU 6"):
        heads.put_in(copy.deepcopy(net), [six, six])


def test_renewed_weights_keep_what_their_card_says_of_the_trunk(tmp_path: Path) -> None:
    shards = render(tmp_path / "shards", 84)
    net = train.stored_network("embedded")
    made = heads.retrain(net, heads.Material(drawn(24, 0)), drawn(40, 1), CONFIG)
    heads.save(tmp_path / "heads", made)
    kept = heads.load(tmp_path / "heads")
    old = train.card_of("embedded")
    making = card.Making("abc", "a clock", heads=(kept.facts,))
    facts = card.renewed(old, "9.0.0", shards, making, card.Judgement())
    assert facts["version"] == "9.0.0"
    assert facts["data"]["faces"] == old["data"]["faces"]
    assert facts["data"]["renewal"]["faces"] == 84
    assert facts["data"]["renewal"]["from_version"] == old["version"]
    assert facts["recipe"]["read_outs"].startswith("AU 6: hidden units of its own")
    assert "AU 6: " not in facts["recipe"]["read_outs_kept"]
    assert "grades" not in facts
    assert f"{old['trained_on']}. Version 9.0.0: the read-outs of AU06 anew" in facts["trained_on"]
    exported = train.export_with(net, facts, tmp_path / "net.safetensors", [kept])
    assert "| read-outs renewed | from version" in card.page(exported)
    again = AUNetwork.load(tmp_path / "net.safetensors", device="cpu")
    before = AUNetwork.load(device="cpu")
    crops = np.random.default_rng(0).integers(0, 256, (2, 96, 96), dtype=np.uint8)
    others = [k for k, au in enumerate(AUS) if au != 6]
    np.testing.assert_allclose(
        again.predict(crops).presence[:, others],
        before.predict(crops).presence[:, others],
        atol=1e-5,
    )


def test_a_card_drops_what_it_said_of_read_outs_that_are_renewed(tmp_path: Path) -> None:
    shards = render(tmp_path, 84)
    net = train.stored_network("embedded")
    facts = heads.retrain(net, heads.Material(drawn(24, 0)), drawn(40, 1), CONFIG)[1]
    old = train.card_of("embedded")
    old["recipe"] = {
        "epochs": 20,
        "read_outs_kept": "AU 6: twice; weight decay 8 (AUC on rendered views: AU 6 0.9)",
        "read_outs": "AU 1: once; weight decay 1; AU 6, 7: both; AU 6: later",
    }
    made = card.Making("abc", "a clock", heads=(facts,))
    recipe = card.renewed(old, "9.0.0", shards, made, card.Judgement())["recipe"]
    assert recipe["read_outs_kept"] == "AU 1: once; weight decay 1; AU 6, 7: both"
    assert recipe["epochs"] == 20


def test_the_card_takes_read_outs_of_its_own_network_only(net: AUNet96, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "heads"
    shards = render(tmp_path / "shards", 84)
    train.run(train.RunConfig(shards, run, 16, 8, every=16, validation=4), lambda _: None)
    trained = train.averaged_network(run)
    made = heads.retrain(trained, heads.Material(drawn(24, 0)), drawn(40, 1), CONFIG)
    heads.save(out, (made[0], made[1] | {"commit": "def"}))
    kept = heads.load(out)
    making = card.Making("abc", "a clock", heads=(kept.facts,))
    facts = card.assemble(run, shards, making, card.Judgement())
    assert "AU 6: hidden units of its own" in facts["recipe"]["read_outs"]
    assert "24 views of faces rendered at commit def" in facts["recipe"]["read_outs"]
    train.export_with(train.averaged_network(run), facts, tmp_path / "net.safetensors", [kept])
    loaded = AUNetwork.load(tmp_path / "net.safetensors", device="cpu")
    renewed = train.averaged_network(run)
    heads.put_in(renewed, [made])
    crops = np.random.default_rng(0).integers(0, 256, (2, 96, 96), dtype=np.uint8)
    with torch.inference_mode():
        expected = torch.sigmoid(renewed(loaded.prepare(crops))[0]).numpy()
    np.testing.assert_allclose(loaded.predict(crops).presence, expected, atol=1e-5)

    with pytest.raises(ModelError, match="trained for the network"):
        heads.put_in(net, [made])
    with pytest.raises(ModelError, match="no read-outs in"):
        heads.load(tmp_path / "nothing")
    checkpoints.load(out / "checkpoint-000000024.safetensors")
