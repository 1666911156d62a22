"""Laid-out weights: the same numbers, whatever the batch, also after the weights have changed."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from facestage.core.network import packed_forward
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.onednn import can_prepack
from facestage.core.network.packed_forward import PackedForward
from torch import nn

SHAPE = (1, 24, 24)
packs = pytest.mark.skipif(
    not can_prepack(torch.float32), reason="this torch lays out no weights for oneDNN"
)


def small() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 1, 1, padding_mode="reflect"),  # not what its attributes say
        nn.Conv2d(8, 12, 3, 1, 1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12 * 12 * 12, 5),
    ).eval()


def crops(count: int) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(count))


def packed_layers(forward: PackedForward) -> list[str]:
    return [
        name
        for name, layer in forward._packed.named_modules()
        if isinstance(layer, packed_forward._PackedConvolution)
    ]


@packs
@torch.inference_mode()
def test_the_embedded_network_gives_the_same_numbers() -> None:
    network = AUNetwork.load(device="cpu")
    for count in (1, 2, 8):
        images = np.random.default_rng(count).integers(0, 256, (count, 96, 96), np.uint8)
        x = network.prepare(images)
        plain = network._outputs(x)
        for found, expected in zip(network._forward(x), plain, strict=True):
            assert found is not None
            assert expected is not None
            scale = float(expected.abs().max())
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * max(scale, 1.0))
        scores = network.predict_prepared(x)
        presence, _ = network._scaled(plain[0], plain[1])
        np.testing.assert_allclose(scores.presence, presence.numpy(), rtol=0, atol=1e-6)
        points = network._decode(plain[2]).numpy()
        np.testing.assert_allclose(network.landmarks(images), points, rtol=0, atol=1e-4)
    assert network._packed is not None
    convolutions = [m for m in network._outputs.modules() if isinstance(m, nn.Conv2d)]
    assert len(packed_layers(network._packed)) == len(convolutions) > 4


@packs
@torch.inference_mode()
def test_only_plain_convolutions_are_laid_out_and_other_shapes_run_all_the_same() -> None:
    net = small()
    forward = PackedForward(net, SHAPE)
    torch.testing.assert_close(forward()(crops(3)), net(crops(3)), rtol=0, atol=1e-6)
    assert packed_layers(forward) == ["0", "3"]
    features = PackedForward(net[:5], SHAPE)  # type: ignore[index]
    features()(crops(1))
    large = torch.randn(2, 1, 40, 36)
    torch.testing.assert_close(features()(large), net[:5](large), rtol=0, atol=1e-6)  # type: ignore[index]


@packs
@torch.inference_mode()
def test_changed_weights_are_laid_out_anew() -> None:
    with torch.inference_mode(False):
        net = small()
    forward = PackedForward(net, SHAPE)
    before = forward()(crops(1))
    with torch.inference_mode(False), torch.no_grad():
        net[3].weight.mul_(2.0)  # type: ignore[index, union-attr, operator]
    changed = forward()(crops(1))
    torch.testing.assert_close(changed, net(crops(1)), rtol=0, atol=1e-5)
    assert not torch.allclose(changed, before)
    with torch.inference_mode(False):
        net[6].weight = nn.Parameter(torch.zeros(5, 12 * 12 * 12))  # type: ignore[index, union-attr]
    torch.testing.assert_close(forward()(crops(1)), net[6].bias[None])  # type: ignore[index, union-attr]


@torch.inference_mode()
def test_what_cannot_be_laid_out_runs_as_it_is() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(24 * 24, 2)).eval()
    forward = PackedForward(net, SHAPE)
    torch.testing.assert_close(forward()(crops(2)), net(crops(2)))
    assert forward._packed is net
    traced = torch.jit.trace(small(), crops(1))
    assert isinstance(traced, nn.Module)
    forward = PackedForward(traced, SHAPE)
    torch.testing.assert_close(forward()(crops(2)), traced(crops(2)))
    assert forward._packed is traced


@torch.inference_mode()
def test_copies_and_pickles_of_a_network_lay_out_their_own() -> None:
    network = AUNetwork.load(device="cpu")
    x = network.prepare(np.full((1, 96, 96), 90, np.uint8))
    expected = network.predict_prepared(x).presence
    for other in (copy.copy(network), copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        np.testing.assert_array_equal(other.predict_prepared(x).presence, expected)
        assert other._packed is not network._packed
