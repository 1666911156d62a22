"""Each rule of the fused LRP engine in explicit matrix form, and the conservation of relevance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from facestage.core.lrp import explain, lrp_preset
from facestage.core.network.folding import fold_batchnorm
from torch import nn

from tests.support.lrp_networks import BOTH, PAIRS, TwoStems, build, l1

# The head is a set of fixed dense outputs, so R at the features below it is known by one matrix
# product; what the layer under test makes of it is then compared with the rule applied to the
# layer's Jacobian. Double precision throughout.


def jacobian(layer: nn.Module, x: torch.Tensor) -> np.ndarray:
    """Return ``(outputs, inputs)`` of a linear layer at one frame, bias left out."""
    flat = torch.func.jacrev(lambda v: layer(v[None])[0])(x)  # type: ignore[arg-type]
    return flat.reshape(-1, x.numel()).detach().numpy()


def by_hand(layers: Sequence[nn.Module], x: torch.Tensor, output: int, preset: str) -> np.ndarray:
    """Relevance of one frame's input by explicit matrices, layer after layer."""
    rules = lrp_preset(preset)

    def safe(d: np.ndarray) -> np.ndarray:
        if rules.stabilize == "zeros":
            return np.where(d == 0, rules.stabilizer, d)
        return d + np.where(d < 0, -rules.stabilizer, rules.stabilizer)

    values = [x]
    with torch.no_grad():
        for layer in layers:
            values.append(layer(values[-1][None])[0])
    R = np.zeros(values[-1].numel())
    R[output] = values[-1][output].item()
    first = next(layer for layer in layers if isinstance(layer, (nn.Conv2d, nn.Linear)))
    steps = list(zip(layers, values[:-1], values[1:], strict=True))
    for layer, layer_input, output_values in reversed(steps):
        v, z = layer_input.numpy().ravel(), output_values.numpy().ravel()
        if isinstance(layer, (nn.ReLU, nn.Flatten)):
            continue
        W = jacobian(layer, layer_input)
        if layer is first:
            ones = type(layer)(**_sizes(layer)).double()
            nn.init.ones_(ones.weight)
            J = jacobian(ones, layer_input)
            R = J.T @ (R / safe(J.sum(axis=1)))
        elif isinstance(layer, nn.Conv2d):
            shares = np.maximum(W * v, 0)
            bias = z - W @ v
            R = shares.T @ (R / safe(shares.sum(1) + (bias if "inn" in preset else bias.clip(0))))
        elif isinstance(layer, nn.Linear):
            R = (W * v).T @ (R / (z + rules.epsilon * np.where(z < 0, -1, 1)))
        elif isinstance(layer, nn.MaxPool2d):
            R = W.T @ R
        else:
            R = (W * v).T @ (R / safe(z))
    return R.reshape(x.shape)


def _sizes(layer: nn.Module) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    names = (*names, "groups", "in_features", "out_features")
    return {name: getattr(layer, name) for name in names if hasattr(layer, name)}


MIDDLES: dict[str, Callable[[], list[nn.Module]]] = {
    "padded": lambda: [nn.ReLU(), nn.Conv2d(3, 4, 3, padding=1)],
    "strided": lambda: [nn.ReLU(), nn.Conv2d(3, 4, (3, 2), stride=2, padding=1)],
    "grouped": lambda: [nn.ReLU(), nn.Conv2d(3, 6, 3, groups=3)],
    "dilated": lambda: [nn.ReLU(), nn.Conv2d(3, 4, 2, dilation=2, padding=(0, 1))],
    "without bias": lambda: [nn.ReLU(), nn.Conv2d(3, 4, 1, bias=False)],
    "over-padded": lambda: [nn.ReLU(), nn.Conv2d(3, 4, 2, padding=2)],
    "both signs": lambda: [nn.Conv2d(3, 4, 3, padding=1)],
    "both signs grouped": lambda: [nn.Conv2d(3, 3, 3, stride=2, groups=3)],
    "max": lambda: [nn.MaxPool2d(2)],
    "max overlapping": lambda: [nn.ReLU(), nn.MaxPool2d(3, 2, 1)],
    "average": lambda: [nn.AvgPool2d(2)],
    "average overlapping": lambda: [nn.ReLU(), nn.AvgPool2d(3, 2, 1, count_include_pad=False)],
    "average and convolution": lambda: [nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 2)],
    "max and convolution": lambda: [nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2)],
    "nothing": lambda: [nn.ReLU()],
}


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize("middle", MIDDLES)
def test_rules_are_their_matrix_form(middle: str, preset: str) -> None:
    torch.manual_seed(len(middle))
    body = [nn.Conv2d(2, 3, 3, stride=2, padding=1), *MIDDLES[middle]()]
    x = torch.randn(2, 2, 9, 8, dtype=torch.float64)
    features = nn.Sequential(*body)(x.float()).flatten(1).shape[1]
    layers = [*body, nn.ReLU(), nn.Flatten(), nn.Linear(features, 6), nn.ReLU(), nn.Linear(6, 3)]
    for layer in layers:
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.3)
    net = nn.Sequential(*layers).double()
    maps = explain(net, x, [(0, 0), (1, 2), (1, 0)], preset, "fused")
    for relevance_map, (frame, output) in zip(maps, [(0, 0), (1, 2), (1, 0)], strict=True):
        expected = by_hand(layers, x[frame], output, preset).sum(axis=0)
        np.testing.assert_allclose(relevance_map.numpy(), expected, rtol=1e-7, atol=1e-10)


def test_a_sum_shares_relevance_by_the_z_rule() -> None:
    net = TwoStems().double()
    nn.init.zeros_(net.second.weight)  # then the sum is the first stem's alone
    assert net.second.bias is not None
    nn.init.zeros_(net.second.bias)
    x = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    alone = [net.first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)]
    alone[-1].weight.data = 2 * net.out.weight.data  # type: ignore[union-attr, operator]
    alone[-1].bias.data = net.out.bias.data  # type: ignore[union-attr]
    maps = explain(net, x, [(0, 3)], engine="fused")
    np.testing.assert_allclose(
        maps[0].numpy(), by_hand(alone, x[0], 3, BOTH[0]).sum(axis=0), rtol=1e-7, atol=1e-10
    )


def test_of_equal_entries_the_first_wins_as_in_torch() -> None:
    def tied(pool: nn.Module) -> nn.Module:
        stem = nn.Conv2d(1, 1, 1, bias=False)
        head = nn.LazyLinear(2, bias=False)
        net = nn.Sequential(stem, nn.ReLU(), nn.Conv2d(1, 1, 1, bias=False), pool, nn.Flatten())
        net.append(head)
        for layer in (stem, net[2]):
            nn.init.ones_(layer.weight)  # type: ignore[arg-type]
        net(torch.zeros(1, 1, 6, 6))
        return net

    x = torch.ones(1, 1, 6, 6)
    for pool in (nn.MaxPool2d(2), nn.MaxPool2d(3, 2)):
        net = tied(pool)
        maps = explain(net, x, [(0, 0), (0, 1)], engine="fused")
        assert l1(maps, explain(net, x, [(0, 0), (0, 1)], engine="reference")) <= 1e-6
        assert maps[0].count_nonzero() < 36


def test_dead_layers_give_finite_maps() -> None:
    net = build("vgg-like")
    nn.init.zeros_(net[3].weight)  # type: ignore[index, arg-type]
    nn.init.constant_(net[3].bias, -1.0)  # type: ignore[index, arg-type]
    for preset in BOTH:
        maps = explain(net, torch.zeros(1, 2, 21, 21), [(0, 0)], preset, "fused")
        assert torch.isfinite(maps).all()


@pytest.mark.parametrize("name", ["vgg-like", "residual", "average 3/2", "two stems"])
def test_without_biases_the_map_sums_to_the_logit(name: str, x: torch.Tensor) -> None:
    net = fold_batchnorm(build(name), x)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    net, x = net.double(), x.double()
    for stop in (None, 11):
        maps = explain(net, x, PAIRS, "zennit", "fused", stop)
        with torch.no_grad():
            logits = net(x)
        for total, (frame, output) in zip(maps.sum(dim=(1, 2)), PAIRS, strict=True):
            assert total.item() == pytest.approx(logits[frame, output].item(), rel=2e-3)
