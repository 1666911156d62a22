"""The fused LRP engine gives the maps of the reference engine and of iNNvestigate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from facestage.core.errors import ModelError
from facestage.core.lrp import LRP_PRESETS, engine_of, explain, lrp_preset
from facestage.core.lrp.presets import ConvolutionRule, Preset
from facestage.core.network.au_network import AUNetwork
from torch import nn

from tests.support.lrp_networks import BOTH, NETS, PAIRS, build, crops, l1, untrained_au_net
from tests.support.paths import GOLDEN_MAPS, SHARED


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize("name", NETS)
def test_equals_the_reference(name: str, preset: str, x: torch.Tensor) -> None:
    net = build(name)
    expected = explain(net, x, PAIRS, preset, "reference")
    maps = explain(net, x, PAIRS, preset, "fused")
    assert maps.dtype == torch.float32
    assert l1(maps, expected) <= 1e-4


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize("name", NETS)
def test_equals_the_reference_in_double_precision(name: str, preset: str, x: torch.Tensor) -> None:
    net = build(name).double()
    expected = explain(net, x, PAIRS, preset, "reference")
    maps = explain(net, x, PAIRS, preset, "fused")
    assert maps.dtype == torch.float64
    assert l1(maps, expected) <= 1e-9


NEGATIVE_INSIDE = ("pre-activation", "two stems")
"""Networks whose inner convolutions read what no ReLU has maps non-negative."""
MIXED = Preset(
    "mixed by depth",
    0.1,
    "signed",
    "all",
    1e-6,
    (
        ConvolutionRule(until=0.4),
        ConvolutionRule("gamma", 0.7, 0.25),
        ConvolutionRule("epsilon", 1.0, 0.01),
    ),
    contrast=True,
)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("preset", ["au_specific", "au_evidence", "mixed by depth"])
def test_rules_by_depth_equal_the_reference(
    name: str, preset: str, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LRP_PRESETS, MIXED.name, MIXED)
    net = build(name).double()
    expected = explain(net, x, PAIRS, preset, "reference")
    choice = engine_of(net, x.shape[1:], preset)
    if choice.name == "reference":
        assert "gamma rule of a convolution whose input can be negative" in choice.reason
        assert name in NEGATIVE_INSIDE
        return
    maps = explain(net, x, PAIRS, preset, "fused")
    # Denominators of both signs come close to 0, where orders of summation differ more.
    assert l1(maps, expected) <= 1e-7


@pytest.mark.parametrize("engine", ["auto", "fused", "reference"])
def test_a_positive_head_needs_a_dense_layer_for_the_logits(engine: str, x: torch.Tensor) -> None:
    pooled = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    single = nn.Sequential(nn.Flatten(), nn.Linear(882, 5))
    for net in (pooled, single):
        with pytest.raises(ModelError, match="needs a dense layer that makes the logits"):
            explain(net, x, PAIRS, "au_evidence", engine)


def test_contrast_starts_from_the_difference_to_the_other_logits(
    x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Preset("plain", 0.1, "signed", "zeros", 1e-7)
    monkeypatch.setitem(LRP_PRESETS, "plain", plain)
    monkeypatch.setitem(LRP_PRESETS, "against", replace(plain, name="against", contrast=True))
    net = build("residual")
    for engine in ("fused", "reference"):
        each = explain(net, x[:1], [(0, output) for output in range(5)], "plain", engine)
        maps = explain(net, x[:1], [(0, 3)], "against", engine)[0]
        # LRP is linear in what it starts from.
        others = [output for output in range(5) if output != 3]
        assert l1(maps, each[3] - each[others].mean(0)) <= 1e-4


def test_the_depth_of_a_rule_counts_from_the_input() -> None:
    rules = [MIXED.convolution(number, 5).kind for number in range(5)]
    assert rules == ["alpha1_beta0", "alpha1_beta0", "gamma", "epsilon", "epsilon"]
    assert lrp_preset("zennit").convolution(0, 1).kind == "alpha1_beta0"


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize("which", ["embedded", "untrained"])
def test_equals_the_reference_on_the_au_networks(which: str, preset: str) -> None:
    embedded = which == "embedded"
    net = AUNetwork.load(device="cpu").logits_module if embedded else untrained_au_net()
    assert engine_of(net, (1, 96, 96), preset).name == "fused"
    expected = explain(net, crops(), [(2, 8), (0, 0), (2, 3)], preset, "reference")
    maps = explain(net, crops(), [(2, 8), (0, 0), (2, 3)], preset)
    assert l1(maps, expected) <= 1e-4


def keras_net(gold: Any, tag: str) -> nn.Module:
    pool = nn.MaxPool2d if tag == "max" else nn.AvgPool2d
    convs = [nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)]
    convs.append(nn.Conv2d(8, 10, 3, padding=1))
    dense = [nn.Linear(360, 16), nn.Linear(16, 5)]
    for number, layer in enumerate((*convs, *dense)):
        kernel = torch.from_numpy(gold[f"{tag}/w{2 * number}"])
        if kernel.ndim == 4:
            kernel = kernel.permute(3, 2, 0, 1)
        else:
            kernel = kernel.T
            if number == 3:  # Keras flattens (H, W, C)
                kernel = kernel.unflatten(1, (6, 6, 10)).permute(0, 3, 1, 2).flatten(1)
        layer.weight.data = kernel.contiguous()
        assert layer.bias is not None
        layer.bias.data = torch.from_numpy(gold[f"{tag}/w{2 * number + 1}"])
    a, b, c = convs
    return nn.Sequential(
        *(a, nn.ReLU(), b, nn.ReLU(), pool(2), c, nn.ReLU(), pool(2), nn.Flatten()),
        *(dense[0], nn.ReLU(), dense[1]),
    ).eval()


@pytest.mark.parametrize("tag", ["max", "avg"])
@pytest.mark.parametrize("where", ["tests", "shared"])
def test_maps_equal_those_of_innvestigate(tag: str, where: str) -> None:
    path = GOLDEN_MAPS
    if where == "shared":
        path = SHARED / "parity" / "innvestigate_gold.npz"
        if not path.is_file():
            pytest.skip(f"no maps of iNNvestigate at {path} (set FACESTAGE_SHARED)")
    gold = np.load(path)
    x = torch.from_numpy(gold["x"]).permute(0, 3, 1, 2)
    pairs = [(frame, output) for output in range(5) for frame in range(len(x))]
    maps = explain(keras_net(gold, tag), x, pairs, engine="fused")
    expected = np.concatenate([gold[f"{tag}/r{output}"].sum(axis=-1) for output in range(5)])
    assert l1(maps, expected) <= 1e-5
