"""What callers of ``explain`` rely on: their network and input, new weights, errors."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from facestage.core.errors import ConfigError, ModelError
from facestage.core.lrp import explain

from tests.support.lrp_networks import PAIRS, build, l1


def test_training_mode_is_left_as_it_is(x: torch.Tensor) -> None:
    net = build("vgg-like")
    expected = explain(net, x, PAIRS)
    net.train()
    statistics = net[1].running_mean.clone()  # type: ignore[index, union-attr, operator]
    torch.testing.assert_close(explain(net, x, PAIRS), expected)
    assert all(module.training for module in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    torch.testing.assert_close(net[1].running_mean, statistics)  # type: ignore[index, union-attr]


def test_new_weights_are_noticed(x: torch.Tensor) -> None:
    net = build("vgg-like")
    before = explain(net, x, PAIRS)
    with torch.no_grad():
        net[3].weight.mul_(-1)  # type: ignore[index, union-attr, operator]
    after = explain(net, x, PAIRS)
    assert l1(after, before) > 0.1
    assert l1(after, explain(net, x, PAIRS, engine="reference")) <= 1e-4


def test_another_size_of_input_is_prepared_on_its_own() -> None:
    net = build("residual")
    for side in (21, 24, 17, 21):
        x = torch.randn(1, 2, side, side + 3)
        expected = explain(net, x, [(0, 1)], engine="reference")
        assert l1(explain(net, x, [(0, 1)], engine="fused"), expected) <= 1e-4


def test_a_forgotten_network_is_freed(x: torch.Tensor) -> None:
    net = build("residual")
    explain(net, x, PAIRS, engine="fused")
    reference = weakref.ref(net)
    del net
    gc.collect()
    assert reference() is None


def test_networks_and_inputs_from_inference_mode_are_accepted(x: torch.Tensor) -> None:
    expected = explain(build("residual"), x, PAIRS, engine="fused")
    with torch.inference_mode():
        net, frames = build("residual"), x.clone()
        torch.testing.assert_close(explain(net, frames, PAIRS, engine="fused"), expected)
    torch.testing.assert_close(explain(net, frames, PAIRS, engine="fused"), expected)


def test_the_input_is_left_alone(x: torch.Tensor) -> None:
    for name in ("residual", "pre-activation", "pooled input"):
        leaf = x.clone().requires_grad_()
        maps = explain(build(name), leaf, PAIRS, engine="fused")
        assert leaf.grad is None
        assert not maps.requires_grad
        torch.testing.assert_close(leaf.detach(), x)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_values_that_are_not_finite_are_refused(value: float, engine: str, x: torch.Tensor) -> None:
    net = build("vgg-like")
    x[1, 0, 3, 4] = value
    with pytest.raises(ModelError, match="input has values that are not finite"):
        explain(net, x, PAIRS, engine=engine)
    with torch.no_grad():
        net[3].weight[0, 0, 0, 0] = value  # type: ignore[index, union-attr, operator]
    with pytest.raises(ModelError, match=r"3\.weight of Sequential has values that are not"):
        explain(net, x, PAIRS, engine=engine)


@pytest.mark.parametrize("shape", [(3, 2, 20, 20), (3, 1, 21, 21)])
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_input_of_another_size_is_refused(shape: tuple[int, ...], engine: str) -> None:
    net = build("vgg-like")
    explain(net, torch.randn(3, 2, 21, 21), PAIRS, engine=engine)
    with pytest.raises(ModelError, match="does not accept input of shape"):
        explain(net, torch.randn(3, 1, 9, 9), PAIRS, engine=engine)


@pytest.mark.parametrize("pairs", [[(3, 0)], [(-1, 0)], [(0, 5)], [(0, -1)]])
def test_pairs_out_of_range_are_refused(x: torch.Tensor, pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(ModelError, match="pairs name"):
        explain(build("residual"), x, pairs, engine="fused")


def test_a_precision_that_cannot_be_had_is_refused_not_ignored(x: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="leave out bfloat16"):
        explain(build("residual"), x, PAIRS, engine="reference", dtype=torch.bfloat16)


def test_unknown_engines_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="auto, fused, reference"):
        explain(build("residual"), x, PAIRS, engine="captum")


@pytest.mark.gpu
def test_cuda_gives_the_maps_of_the_cpu(x: torch.Tensor) -> None:
    torch.backends.cudnn.allow_tf32 = False
    try:
        for name in ("vgg-like", "residual", "pre-activation"):
            net = build(name)
            expected = explain(net, x, PAIRS, engine="fused")
            maps = explain(net.cuda(), x.cuda(), PAIRS, engine="fused").cpu()
            assert l1(maps, expected) <= 1e-4
    finally:
        torch.backends.cudnn.allow_tf32 = True
