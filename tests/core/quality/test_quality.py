"""Measures of explanations: planted maps and hand-made networks with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from facestage.core.errors import ConfigError, ModelError
from facestage.core.face.regions import au_regions, face_region
from facestage.core.lrp import explain
from facestage.core.network.au_network import AUNetwork
from facestage.core.quality import (
    FIGURES,
    MapSample,
    PerturbationOptions,
    StoppedError,
    assess,
    between_aus,
    between_stages,
    blur,
    choose_frames,
    conserve,
    cosines,
    localise,
    perturb,
    pointing_game,
    randomise,
    rank_correlations,
    weighted_layers,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

SIDE = 32
PATCH = 8
QUANTUS = "not installed beside opencv-python-headless, see docs/explanations.md"


def box(top: int, left: int, height: int = PATCH, width: int = PATCH) -> NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def looking_at(*masks: NDArray[np.bool_], bias: float = 0.0) -> nn.Sequential:
    """A network whose k-th logit is the sum of the positive pixels under the k-th mask."""
    side = masks[0].shape[0]
    first = nn.Conv2d(1, 1, 1)
    last = nn.Linear(side * side, len(masks))
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.bias.zero_()  # type: ignore[union-attr]
        last.weight.copy_(torch.from_numpy(np.stack(masks).reshape(len(masks), -1)).float())
        last.bias.fill_(bias)
    return nn.Sequential(first, nn.ReLU(), nn.Flatten(), last).eval()


def small_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 16 * 16, 10),
        nn.ReLU(),
        nn.Linear(10, 3),
    )
    return net.eval()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------ where


def test_mass_is_the_share_in_the_region_and_enrichment_its_ratio_to_the_area() -> None:
    face, region = box(0, 0, 16, 32), box(0, 0, 8, 16)  # a quarter of the face
    relevance = np.zeros((SIDE, SIDE))
    relevance[region] = 3.0 / region.sum()
    relevance[face & ~region] = 1.0 / (face & ~region).sum()
    relevance[20, 20] = 1.0  # outside the face
    relevance[0, 0] -= 100.0  # what speaks against the AU does not count
    relevance[0, 1] += 3.0 / region.sum()
    found = localise(relevance[None], region[None], face[None])
    assert found.mass[0] == pytest.approx(3 / 5)
    assert found.area[0] == pytest.approx(1 / 4)
    assert found.enrichment[0] == pytest.approx((3 / 4) / (1 / 4))
    assert found.outside[0] == pytest.approx(1 / 5)


def test_relevance_without_preference_is_not_enriched() -> None:
    face, region = box(4, 4, 24, 24), box(10, 10)
    found = localise(np.ones((1, SIDE, SIDE)), region[None], face[None])
    assert found.enrichment[0] == pytest.approx(1.0)


def test_a_map_without_positive_relevance_or_region_has_no_figures() -> None:
    maps = np.stack([-np.ones((SIDE, SIDE)), np.ones((SIDE, SIDE))])
    masks = np.stack([box(0, 0), np.zeros((SIDE, SIDE), bool)])
    found = localise(maps, masks, np.stack([box(0, 0, 16, 16)] * 2))
    assert np.isnan(found.mass).all()
    assert np.isnan(found.enrichment).all()
    assert np.isnan(pointing_game(maps, masks)).all()


def test_pointing_game_counts_the_maximum_up_to_its_tolerance() -> None:
    region = box(8, 8)
    maps = np.zeros((3, SIDE, SIDE))
    maps[0, 10, 10] = 1  # inside
    maps[1, 10, 18] = 1  # 3 px to the right of the last column, 15
    maps[2, 18, 19] = 1  # 3 below and 4 beside: 5 px
    regions = np.stack([region] * 3)
    assert pointing_game(maps, regions).tolist() == [1, 0, 0]
    assert pointing_game(maps, regions, 2.9).tolist() == [1, 0, 0]
    assert pointing_game(maps, regions, 3).tolist() == [1, 1, 0]
    assert pointing_game(maps, regions, 5).tolist() == [1, 1, 1]


def test_a_maximum_shared_by_pixels_counts_by_parts() -> None:
    relevance = np.zeros((1, SIDE, SIDE))
    relevance[0, 10, 7:9] = 1  # one pixel on each side of the region's border
    assert pointing_game(relevance, box(8, 8)[None]).tolist() == [0.5]


def test_maps_and_regions_of_different_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match="draw regions at the size"):
        localise(np.ones((1, 4, 4)), np.ones((1, 8, 8)), np.ones((1, 8, 8)))
    with pytest.raises(ConfigError, match="tolerance"):
        pointing_game(np.ones((1, 4, 4)), np.ones((1, 4, 4)), -1)


# ------------------------------------------------------------------------------------ perturbation


def test_the_first_patch_of_a_right_map_takes_the_whole_logit() -> None:
    net = looking_at(box(8, 16))
    x = torch.ones(1, 1, SIDE, SIDE)
    maps = explain(net, x, [(0, 0)])
    found = perturb(
        net, x, [(0, 0)], maps, fill=torch.zeros_like(x), options=PerturbationOptions(per_step=1)
    )
    count = (SIDE // PATCH) ** 2
    assert found.share.tolist() == [k / count for k in range(count + 1)]
    assert found.morf[0].tolist() == [64.0] + [0.0] * count
    assert found.lerf[0].tolist() == [64.0] * count + [0.0]
    assert found.area[0] == pytest.approx(64 * (count - 1) / count)
    assert found.drop[0] == 64
    assert 0 < found.area_random[0] < found.area[0]


def test_a_map_turned_around_has_the_negative_area() -> None:
    net, x = looking_at(box(8, 16)), torch.ones(1, 1, SIDE, SIDE)
    maps = explain(net, x, [(0, 0)])
    fill = torch.zeros_like(x)
    right = perturb(net, x, [(0, 0)], maps, fill=fill, options=PerturbationOptions(per_step=1))
    wrong = perturb(net, x, [(0, 0)], -maps, fill=fill, options=PerturbationOptions(per_step=1))
    assert wrong.area[0] == pytest.approx(-right.area[0])
    assert wrong.area_random[0] < 0


def test_each_pair_has_its_own_frame_output_and_map() -> None:
    net = looking_at(box(0, 0), box(24, 24))
    x = torch.stack([torch.full((1, SIDE, SIDE), 1.0), torch.full((1, SIDE, SIDE), 2.0)])
    pairs = [(1, 0), (0, 1), (1, 1)]
    found = perturb(
        net,
        x,
        pairs,
        explain(net, x, pairs),
        fill=torch.zeros_like(x),
        options=PerturbationOptions(per_step=1),
    )
    assert found.morf[:, 0].tolist() == [128, 64, 128]
    assert (found.morf[:, 1:] == 0).all()


def test_random_orders_are_those_of_the_seed() -> None:
    net, x = small_net(), noise(1, 1, SIDE, SIDE)
    maps = explain(net, x, [(0, 1)])
    one, same, other = (perturb(net, x, [(0, 1)], maps, seed=seed).random for seed in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()


def test_steps_and_patches_need_not_divide_the_picture() -> None:
    x = torch.ones(1, 1, 10, 14)
    net = nn.Sequential(nn.Flatten(), nn.Linear(140, 1, bias=False))
    with torch.no_grad():
        net[1].weight.fill_(1.0)
    maps = torch.zeros(1, 10, 14)
    maps[0, 8:, 12:] = 1.0  # the smallest patch, 2 × 2
    found = perturb(
        net,
        x,
        [(0, 0)],
        maps,
        options=PerturbationOptions(side=4, per_step=5),
        fill=torch.zeros_like(x),
    )
    assert found.share.tolist() == [0, 5 / 12, 10 / 12, 1]
    # The corner; of the others, all equal, a row of four; then another row and one of 4 × 2.
    row = 3 * 16 + 8
    assert found.morf[0].tolist() == [140, 140 - 4 - row, 140 - 4 - 2 * row - 8, 0]
    assert found.lerf[0, 0] == 140


def test_a_blur_keeps_the_mean_and_takes_the_detail() -> None:
    x = noise(2, 1, SIDE, SIDE)
    assert torch.allclose(blur(torch.full_like(x, 0.7)), torch.full_like(x, 0.7))
    assert float(blur(x).std()) < 0.1 * float(x.std())


def test_perturbation_refuses_what_gives_no_order() -> None:
    net, x = small_net(), noise(1, 1, SIDE, SIDE)
    with pytest.raises(ConfigError, match="explain without stop"):
        perturb(net, x, [(0, 0)], torch.zeros(1, 8, 8))
    with pytest.raises(ConfigError, match="not finite"):
        perturb(net, x, [(0, 0)], torch.full((1, SIDE, SIDE), float("nan")))
    with pytest.raises(ConfigError, match="1 or more"):
        perturb(net, x, [(0, 0)], torch.zeros(1, SIDE, SIDE), PerturbationOptions(per_step=0))


# ----------------------------------------------------------------------------------- randomisation


def test_layers_are_randomised_from_the_output_down_and_the_network_is_left_alone() -> None:
    net, x = small_net(), noise(2, 1, SIDE, SIDE)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert weighted_layers(net, x) == ["0", "2", "6", "8"]
    seen: list[str] = []
    found = randomise(net, x, [(0, 0), (1, 2)], on_layer=seen.append)
    assert found.layers == ("8", "6", "2", "0") == tuple(seen)
    assert found.cosine.shape == found.rank.shape == (4, 2)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    again = randomise(net, x, [(0, 0), (1, 2)])
    assert np.array_equal(found.cosine, again.cosine, equal_nan=True)
    other = randomise(net, x, [(0, 0), (1, 2)], seed=1)
    assert not np.array_equal(found.cosine, other.cosine, equal_nan=True)


def test_shuffling_equal_weights_changes_no_map() -> None:
    net, x = looking_at(box(8, 16)), noise(1, 1, SIDE, SIDE).abs()
    found = randomise(net, x, [(0, 0)])
    assert found.cosine == pytest.approx(1.0)
    assert found.rank == pytest.approx(1.0)


def test_weights_of_zero_stay_so_a_masked_layer_keeps_its_layout() -> None:
    net, x = looking_at(box(8, 16)), torch.ones(1, 1, SIDE, SIDE)
    with torch.no_grad():
        weight = net[3].weight  # type: ignore[union-attr]
        weight[weight != 0] = torch.linspace(0.5, 1.5, PATCH * PATCH)
    found = randomise(net, x, [(0, 0)])
    # Shuffled within the patch alone: elsewhere the map stays empty.
    assert 0.8 < found.cosine[0, 0] < 0.999


def test_a_map_that_learned_weights_made_does_not_survive_them() -> None:
    net, x = looking_at(box(8, 16)), torch.ones(1, 1, SIDE, SIDE)
    with torch.no_grad():
        net[3].weight.add_(1e-3)  # type: ignore[operator,union-attr]
    found = randomise(net, x, [(0, 0)])
    assert found.cosine[0, 0] < 0.5
    assert found.rank[0, 0] < 0.5


def test_a_network_without_weights_cannot_be_randomised() -> None:
    with pytest.raises(ModelError, match="no layer with weights"):
        randomise(nn.Flatten(), torch.ones(1, 1, 2, 2), [(0, 0)])


def test_similarities_are_those_of_their_definitions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 16, 16))
    b[2] = 1.0  # constant: no ranks
    expected = [spearmanr(a[k].ravel(), b[k].ravel()).statistic for k in range(2)]
    assert rank_correlations(a, b)[:2] == pytest.approx(expected)
    assert np.isnan(rank_correlations(a, b)[2])
    p, q = np.maximum(a[0], 0).ravel(), np.maximum(b[0], 0).ravel()
    assert cosines(a, b)[0] == pytest.approx(p @ q / np.linalg.norm(p) / np.linalg.norm(q))
    assert np.isnan(cosines(a, -np.abs(a))).all()


# ------------------------------------------------------------------------------------ conservation


@pytest.mark.parametrize("preset", ["innvestigate_a_flat", "zennit", "au_specific"])
def test_what_dense_layers_keep_is_what_does_not_arrive_below_them(preset: str) -> None:
    net, x, pairs = small_net(), noise(2, 1, SIDE, SIDE), [(0, 0), (1, 2), (1, 1)]
    maps = explain(net, x, pairs, preset).numpy()
    found = conserve(net, x, pairs, maps, preset)
    assert found.logit == pytest.approx([net(x)[pair].item() for pair in pairs], abs=1e-5)
    below = explain(net, x, pairs, preset, stop=16).sum(dim=(1, 2)).numpy()
    arrived = found.logit - found.dense_bias - found.dense_epsilon
    assert arrived == pytest.approx(below, abs=1e-4)
    assert found.rest == pytest.approx(arrived - maps.sum(axis=(1, 2)), abs=1e-4)
    assert np.abs(found.dense_bias).min() > 1e-4
    assert found.error == pytest.approx(maps.sum(axis=(1, 2)) - found.logit, abs=1e-4)


def test_a_map_that_does_not_start_from_the_logit_has_no_balance() -> None:
    net, x, pairs = small_net(), noise(2, 1, SIDE, SIDE), [(0, 0), (1, 2)]
    found = conserve(net, x, pairs, explain(net, x, pairs, "au_evidence").numpy(), "au_evidence")
    assert np.isnan(found.dense_bias).all()
    assert np.isnan(found.rest).all()
    assert np.isfinite(found.error).all()
    assert ((found.positive > 0) & (found.positive <= 1)).all()


def test_without_biases_only_epsilon_takes_something() -> None:
    net, x = looking_at(box(8, 16)), torch.full((1, 1, SIDE, SIDE), 0.01)
    found = conserve(net, x, [(0, 0)], explain(net, x, [(0, 0)]).numpy())
    assert found.logit[0] == pytest.approx(0.64)
    assert found.dense_epsilon[0] == pytest.approx(0.64 * 0.1 / 0.74)
    assert found.dense_bias[0] == 0
    assert found.rest[0] == pytest.approx(0, abs=1e-6)
    assert found.positive[0] == 1


def test_parts_are_told_only_where_they_are_known() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    net, x = Wrapped().eval(), noise(1, 1, SIDE, SIDE)
    found = conserve(net, x, [(0, 0)], explain(net, x, [(0, 0)]).numpy())
    assert np.isfinite(found.error).all()
    assert np.isnan([found.dense_bias, found.dense_epsilon, found.rest]).all()


# --------------------------------------------------------------------------------------- agreement


def test_aus_of_one_frame_are_compared_with_each_other_only() -> None:
    left, right = box(0, 0).astype(float), box(0, 16).astype(float)
    maps = np.stack([left, left, right, left, right])
    found = between_aus(maps, [0, 0, 0, 1, 1], [4, 12, 25, 4, 12])
    assert found.aus == (4, 12, 25)
    assert found.cosine[0, 1] == pytest.approx(0.5)  # the same once, apart once
    assert found.cosine[0, 2] == pytest.approx(0.0)
    assert found.frames.tolist() == [[0, 2, 1], [2, 0, 1], [1, 1, 0]]
    assert np.isnan(np.diag(found.cosine)).all()
    assert found.own[0] == pytest.approx(1.0)
    assert found.own[1] == pytest.approx(0.0)
    assert np.isnan(found.own[2])
    assert found.others(4) == pytest.approx((1 + 0 + 0) / 3)
    assert found.nearest(4) == (12, pytest.approx(0.5))
    assert found.nearest(4, least=3) is None


def test_a_map_without_positive_relevance_is_not_compared() -> None:
    maps = np.stack([box(0, 0).astype(float), -box(0, 0).astype(float)])
    found = between_aus(maps, [0, 0], [4, 12])
    assert found.frames.sum() == 0
    assert np.isnan(found.others(4))


def test_comparing_needs_one_frame_and_au_per_map() -> None:
    with pytest.raises(ConfigError, match="one of each"):
        between_aus(np.ones((2, 4, 4)), [0], [4, 12])
    with pytest.raises(ConfigError, match="two maps of one AU"):
        between_aus(np.ones((2, 4, 4)), [0, 0], [4, 4])
    with pytest.raises(ConfigError, match="one label per map"):
        between_stages(np.ones((2, 4, 4)), ["a"])


def test_stages_agree_within_and_differ_across() -> None:
    left, right = box(0, 0).astype(float), box(0, 16).astype(float)
    found = between_stages(np.stack([left, left, right, right, left]), ["a", "a", "b", "b", "b"])
    assert (found.within_pairs, found.across_pairs) == (4, 6)
    assert found.within == pytest.approx((1 + 1 + 0 + 0) / 4)
    assert found.across == pytest.approx(2 / 6)
    alone = between_stages(np.stack([left, right]), ["a", "a"])
    assert np.isnan(alone.across)
    assert alone.across_pairs == 0


# ---------------------------------------------------------------------------------- all at once


def test_rare_aus_are_chosen_first() -> None:
    active = [(12,)] * 100
    active[41] = active[57] = (12, 4)
    chosen = choose_frames(active, 10)
    assert len(chosen) == 10
    assert {41, 57} <= set(chosen)
    assert choose_frames([(), (4,), ()], 10) == [1]
    with pytest.raises(ConfigError, match="at least 1 frame"):
        choose_frames(active, 0)


@given(
    st.lists(st.sets(st.sampled_from([1, 4, 12, 25])), max_size=60),
    st.integers(min_value=1, max_value=30),
)
def test_chosen_frames_are_active_distinct_and_no_more_than_asked(
    active: list[set[int]], count: int
) -> None:
    chosen = choose_frames(active, count)
    possible = [k for k, aus in enumerate(active) if aus]
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(possible)
    assert len(chosen) == min(count, len(possible))


class FacingForward(nn.Module):
    """AU04 and AU12 both read from the mouth; the same 68 landmarks whatever is seen."""

    def __init__(self, masks: NDArray[np.bool_], landmarks: torch.Tensor) -> None:
        super().__init__()
        self.logits = looking_at(*masks)
        self.register_buffer("points", landmarks)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor]:
        return self.logits(x), None, self.points.expand(len(x), -1)


@pytest.fixture(scope="module")
def planted() -> tuple[AUNetwork, NDArray[np.float32]]:
    embedded = AUNetwork.load(device="cpu")
    card = embedded.card
    assert card.landmarks is not None
    points = embedded.landmarks(np.zeros((1, 96, 96), np.uint8))[0]  # the mean face, about
    raw = (points / 96 - card.landmarks.offset) / card.landmarks.scale
    mouth = au_regions(points, [12], 96)[0]
    # The mouth without the brows: what AU04 must not be read from.
    assert not (mouth & au_regions(points, [4], 96)[0]).any()
    network = AUNetwork.from_module(
        FacingForward(np.stack([mouth, mouth]), torch.from_numpy(raw.reshape(1, -1))),
        replace(
            card, aus=(4, 12), on={4: 0.5, 12: 0.5}, off={4: 0.4, 12: 0.4}, grades={}, neutral={}
        ),
        device="cpu",
    )
    return network, points


def crops(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 96, 96), dtype=np.uint8)


def test_an_au_that_is_read_from_the_wrong_place_is_found_out(
    planted: tuple[AUNetwork, NDArray[np.float32]],
) -> None:
    network, points = planted
    sample = MapSample(crops(6), ((4, 12),) * 5 + ((12,),), ("a",) * 3 + ("b",) * 3)
    steps: list[tuple[int, int]] = []
    found = assess(
        network,
        sample,
        costly_frames=1,
        draws=1,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    wrong, right = found.aus
    assert (wrong.au, wrong.frames, right.au, right.frames) == (4, 5, 12, 6)
    assert wrong.figures.keys() == FIGURES.keys()
    area = au_regions(points, [12], 96).sum() / face_region(points, 96).sum()
    assert right.figures["area"].value == pytest.approx(area)
    # A pixel is explained by a window of one: all relevance lies in the mouth.
    assert right.figures["mass"].value == pytest.approx(1.0)
    assert right.figures["enrichment"].value == pytest.approx(1 / area)
    assert right.figures["hit"].value == 1
    assert wrong.figures["mass"].value == pytest.approx(0.0)
    assert wrong.figures["hit"].value == 0
    # Perturbation cannot tell: both maps mark what their logit depends on.
    for one in (wrong, right):
        area_between = one.figures["morf_lerf"].value
        assert area_between is not None
        assert area_between > 0
        assert one.figures["morf_lerf"].frames == 1
        # Neither is specific: both get the map of the mouth.
        assert one.figures["nearest"].value == pytest.approx(1.0)
        assert one.figures["nearest"].frames == 5
    assert (wrong.nearest, right.nearest) == (12, 4)
    assert wrong.figures["same_au"].frames == 5
    assert wrong.figures["within_stage"].frames == 3 + 1
    assert wrong.figures["across_stages"].frames == 6
    assert found.layers[0] == "module.logits.3"
    assert steps[-1][0] == steps[-1][1]
    assert found.with_regions


def test_an_au_active_in_few_frames_has_no_figures_but_is_named(
    planted: tuple[AUNetwork, NDArray[np.float32]],
) -> None:
    network, _ = planted
    sample = MapSample(crops(6), ((4, 12),) * 4 + ((12,), (12,)))
    found = assess(network, sample, costly_frames=1, draws=0)
    assert [one.au for one in found.aus] == [12]
    assert found.rare == {4: 4}
    assert found.aus[0].nearest is None
    assert found.aus[0].figures["full_cosine"].value is None
    assert found.aus[0].figures["within_stage"].value is None
    with pytest.raises(ConfigError, match="at least 5 of the 4 frames"):
        assess(network, MapSample(crops(4), ((12,),) * 4))


def test_work_ends_when_it_is_told_to(planted: tuple[AUNetwork, NDArray[np.float32]]) -> None:
    network, _ = planted
    with pytest.raises(StoppedError):
        assess(network, MapSample(crops(5), ((12,),) * 5), stop=lambda: True)


# ------------------------------------------------------------------ against other implementations


def test_mass_and_pointing_game_agree_with_quantus() -> None:
    quantus = pytest.importorskip(
        "quantus", reason="pip install quantus (see docs/explanations.md)"
    )
    rng = np.random.default_rng(0)
    maps = rng.random((4, SIDE, SIDE))
    regions = np.stack([box(0, 0), box(8, 8, 16, 16), box(20, 4), box(0, 0, 31, 31)])
    options = {"abs": False, "normalise": False, "disable_warnings": True}
    given = {
        "model": None,
        "x_batch": maps[:, None],
        "y_batch": np.zeros(4, int),
        "a_batch": maps[:, None],
        "s_batch": regions[:, None],
    }
    mass = quantus.RelevanceMassAccuracy(**options)(**given)
    found = localise(maps, regions, np.ones_like(regions))
    assert found.mass == pytest.approx(np.ravel(mass))
    hits = quantus.PointingGame(**options)(**given)
    assert pointing_game(maps, regions).tolist() == np.ravel(hits).astype(float).tolist()


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_perturbation_curves_agree_with_quantus(order: str) -> None:
    quantus = pytest.importorskip(
        "quantus", reason="pip install quantus (see docs/explanations.md)"
    )
    net = nn.Sequential(small_net(), nn.Identity()).eval()
    x, pairs = noise(2, 1, SIDE, SIDE), [(0, 2), (1, 2)]
    maps = explain(net, x, pairs)
    count = (SIDE // PATCH) ** 2
    metric = quantus.RegionPerturbation(
        patch_size=PATCH,
        order=order,
        regions_evaluation=count,
        abs=False,
        normalise=False,
        perturb_baseline=0.0,
        disable_warnings=True,
    )
    drops = metric(
        model=net,
        x_batch=x.numpy(),
        y_batch=np.array([2, 2]),
        a_batch=maps.numpy()[:, None],
        softmax=False,
        device="cpu",
    )
    found = perturb(
        net, x, pairs, maps, fill=torch.zeros_like(x), options=PerturbationOptions(per_step=1)
    )
    curve = found.morf if order == "morf" else found.lerf
    assert curve[:, :1] - curve[:, 1:] == pytest.approx(np.array(drops), abs=1e-4)


def test_the_first_step_agrees_with_captums_ablation_of_that_patch() -> None:
    attr = pytest.importorskip("captum.attr", reason="pip install captum")
    net, x = small_net(), noise(1, 1, SIDE, SIDE)
    maps = explain(net, x, [(0, 1)])
    rows, columns = np.mgrid[:SIDE, :SIDE] // PATCH
    grid = torch.from_numpy(rows * (SIDE // PATCH) + columns)
    fill = blur(x)
    ablated = attr.FeatureAblation(net).attribute(
        x, baselines=fill, target=1, feature_mask=grid[None, None]
    )
    scores = torch.zeros(16).index_add(0, grid.reshape(-1), maps.reshape(-1))
    expected = float(ablated[0, 0][grid == scores.argmax()][0])
    found = perturb(net, x, [(0, 1)], maps, options=PerturbationOptions(per_step=1))
    assert found.morf[0, 0] - found.morf[0, 1] == pytest.approx(expected, abs=1e-5)
