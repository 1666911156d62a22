"""The fused LRP engine with early stops, and in bfloat16."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from facestage.core.errors import ConfigError
from facestage.core.lrp import explain
from facestage.core.lrp.fused.batched_relevance import BatchIndex, Relevance
from facestage.core.lrp.fused.lower import lower
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.folding import fold_batchnorm
from torch import nn

from tests.support.lrp_networks import BOTH, NETS, PAIRS, build, crops, l1


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize(
    ("name", "stop", "at"),
    [("vgg-like", 20, 6), ("vgg-like", 10, 6), ("residual", 12, 3), ("residual", 10, 4)],
)
def test_early_stop_is_the_references_relevance_there(
    name: str, stop: int, at: int, preset: str, x: torch.Tensor
) -> None:
    net = fold_batchnorm(build(name), x)
    assert isinstance(net, nn.Sequential)
    below, above = net[:at], net[at:]
    # The flat rule is for the first layer; here that is an identity each of whose windows reads
    # one entry, so relevance passes it unchanged and the layers above keep their own rules.
    with torch.no_grad():
        features = below(x)
    channels = features.shape[1]
    same = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
    nn.init.ones_(same.weight)
    expected = explain(nn.Sequential(same, *above), features, PAIRS, preset, "reference")
    maps = explain(net, x, PAIRS, preset, "fused", stop)
    assert maps.shape[1:] == features.shape[2:]
    assert l1(maps, expected) <= 1e-4


def test_early_stop_of_the_embedded_network_has_24_rows() -> None:
    net = AUNetwork.load(device="cpu").logits_module
    assert explain(net, crops(), [(0, 1), (2, 3)], stop=28).shape == (2, 24, 24)
    assert explain(net, crops(), [(0, 1)], stop=96).shape == (1, 96, 96)


def test_stopping_inside_a_residual_block_would_lose_a_branch(x: torch.Tensor) -> None:
    net = lower(fold_batchnorm(build("residual"), x), x)
    for side in range(1, 22):
        cut = net.cut(side)
        if cut is None:
            continue
        for output, operation in enumerate(net.operations, start=1):
            if output > cut:
                assert all(source >= cut for source in operation.sources)


def test_impossible_stops_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        explain(build("vgg-like"), x, PAIRS, stop=0)
    with pytest.raises(ConfigError, match="stop at 5 px or more"):
        explain(build("vgg-like"), x, PAIRS, stop=4)


def test_the_reference_engine_goes_on_to_the_pixels(x: torch.Tensor) -> None:
    assert explain(build("residual"), x, PAIRS, engine="reference", stop=5).shape == (6, 21, 21)


@pytest.mark.parametrize("name", NETS)
def test_bfloat16_convolutions_stay_close_in_any_network(name: str, x: torch.Tensor) -> None:
    net = build(name)
    for stop in (None, 21):
        exact = explain(net, x, PAIRS, "zennit", "fused", stop)
        rounded = explain(net, x, PAIRS, "zennit", "fused", stop, dtype=torch.bfloat16)
        assert rounded.dtype == torch.float32
        assert F.cosine_similarity(exact.flatten(1), rounded.flatten(1)).min() >= 0.999


def test_relevance_of_several_branches_is_added_up_in_float32() -> None:
    """In bfloat16 a small addend would vanish beside a large one."""
    value = torch.ones(1, 1, 2, 2)
    large = Relevance(torch.full((3, 1, 2, 2), 256.0), value)
    small = Relevance(torch.ones(3, 1, 2, 2).bfloat16(), value, owned=True)
    for summands in (
        (large, small),
        (small, large),
        (replace(large, pair_factor=large.pair_factor.bfloat16()), small),
    ):
        total = BatchIndex([3], value.device).add(*summands, value)
        assert total.pair_factor.dtype == torch.float32
        assert (total.pair_factor == 257).all()
        assert (small.pair_factor == 1).all()


def test_bfloat16_convolutions_stay_close() -> None:
    net = AUNetwork.load(device="cpu").logits_module
    pairs = [(0, 0), (1, 5), (2, 8)]
    exact = explain(net, crops(), pairs).flatten(1)
    rounded = explain(net, crops(), pairs, dtype=torch.bfloat16).flatten(1)
    assert rounded.dtype == torch.float32
    assert F.cosine_similarity(exact, rounded).min() >= 0.999
