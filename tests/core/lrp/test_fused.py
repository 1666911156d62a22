"""The fused LRP engine: equal to the reference, to explicit Jacobians, and to iNNvestigate."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facestage.core.errors import ConfigError, ModelError
from facestage.core.lrp import (
    LRP_PRESETS,
    SlowEngineWarning,
    UnsupportedNetworkError,
    counts_of,
    engine_of,
    explain,
    forward,
    lrp_preset,
)
from facestage.core.lrp.fused import engine as fused
from facestage.core.lrp.fused.engine import FusedEngine
from facestage.core.lrp.fused.lower import lower
from facestage.core.lrp.fused.relevance_flow import Flow, Pairs
from facestage.core.lrp.presets import ConvolutionRule, Preset
from facestage.core.network.architectures import au_net
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.folding import example_input, fold_batchnorm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.support.paths import GOLDEN_MAPS, SHARED

BOTH = ("innvestigate_a_flat", "zennit")


def l1(got: Any, expected: Any) -> float:
    """Relative L1 distance."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    return float(np.abs(got - expected).sum() / np.abs(expected).sum())


def randomise(net: nn.Module) -> nn.Module:
    """Give BatchNorm layers statistics and biases that matter."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(std=0.2)
            layer.running_var.uniform_(0.3, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
    return net.eval()


# ----------------------------------------------------------------------------------- the networks


def vgg_like() -> nn.Module:
    """Conv-BatchNorm-ReLU with max-pooling, two dense layers."""
    layers: list[nn.Module] = []
    for given_, made in ((2, 6), (6, 8)):
        layers += [nn.Conv2d(given_, made, 3, padding=1, bias=False), nn.BatchNorm2d(made)]
        layers += [nn.ReLU(), nn.Conv2d(made, made, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Dropout(), nn.Linear(8 * 25, 9), nn.ReLU(), nn.Linear(9, 5)
    )


class Block(nn.Module):
    """Residual block, with a projection where the shape changes."""

    def __init__(self, given_: int, made: int, stride: int, how: str = "+=") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given_, made, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(made)
        self.conv2 = nn.Conv2d(made, made, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or given_ != made:
            self.downsample = nn.Sequential(
                nn.Conv2d(given_, made, 1, stride, bias=False), nn.BatchNorm2d(made)
            )
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.how == "+=":
            out += identity
        else:
            out = torch.add(identity, out)
        return self.relu(out)


def residual() -> nn.Module:
    """The layout of ResNets: overlapping max-pool, blocks with and without projection."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 7, 2, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        Block(6, 6, 1),
        Block(6, 8, 2, "add"),
        Block(8, 8, 1),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


class PooledTwice(nn.Module):
    """The value below an overlapping max-pool is also read by something else."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(2, 6, 3, 2), nn.MaxPool2d(3, 2)
        self.short, self.out = nn.Conv2d(6, 6, 4, 2), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return self.out((self.pool(x) + self.short(x)).relu().mean((2, 3)))


class PreActivation(nn.Module):
    """Convolutions on values of both signs; functions instead of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3)
        self.signed = nn.Conv2d(6, 6, 3, padding=1)
        self.strided = nn.Conv2d(6, 8, (3, 2), stride=(2, 3), groups=2)
        self.out = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.signed(x)
        x = F.avg_pool2d(x, 3, 2, padding=1)
        x = self.strided(F.dropout(x, 0.5, self.training))
        return self.out(torch.relu(x).mean((2, 3)))


def strided_and_grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 5, stride=3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=(1, 2), padding=(0, 1), groups=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, 2, dilation=2, padding="same"),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1, padding=1),
        nn.Flatten(),
        nn.LazyLinear(5),
    )


def pools(kind: str) -> nn.Module:
    pool = {
        "max 2": nn.MaxPool2d(2),
        "max 3/2": nn.MaxPool2d(3, 2),
        "max 2 dilated": nn.MaxPool2d(2, 2, dilation=2),
        "max 2 ceil": nn.MaxPool2d(2, ceil_mode=True),
        "max 3x2": nn.MaxPool2d((3, 2)),
        "average 2": nn.AvgPool2d(2),
        "average 3/2": nn.AvgPool2d(3, 2, padding=1),
        "average 3/2 inside": nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        "average 2 ceil": nn.AvgPool2d(2, ceil_mode=True),
        "adaptive 7": nn.AdaptiveAvgPool2d(7),
        "adaptive 5x2": nn.AdaptiveAvgPool2d((5, 2)),
        "two": nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2)),
        "two the other way": nn.Sequential(nn.AvgPool2d(2), nn.MaxPool2d(2)),
        "max then average overlapping": nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(3, 1)),
    }[kind]
    body = [nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), pool, nn.ReLU()]
    return nn.Sequential(*body, nn.Conv2d(6, 6, 3, padding=1), nn.Flatten(), nn.LazyLinear(5))


def pooled_input() -> nn.Module:
    """The layer with the flat rule is not the first step."""
    return nn.Sequential(
        nn.AvgPool2d(2), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 5)
    )


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * 21 * 21, 8), nn.ReLU(), nn.Linear(8, 5))


class TwoStems(nn.Module):
    """Two layers read the input; the flat rule is for the first to run."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(2, 4, 3, padding=1)
        self.first = nn.Conv2d(2, 4, 5, padding=2)
        self.out = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.first(x).relu()
        b = self.second(x).relu()
        y = a + b
        return self.out((y + y).mean(dim=[-1, -2], keepdim=True).view(x.shape[0], -1))


class TwoHeads(nn.Module):
    """Only one of the heads is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2))
        self.logits, self.other = nn.Linear(4 * 16, 5), nn.Linear(4 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = torch.flatten(F.relu(self.body(x)), 1)
        self.other(features)
        return self.logits(features)


NETS: dict[str, Callable[[], nn.Module]] = {
    "vgg-like": vgg_like,
    "residual": residual,
    "pooled twice": PooledTwice,
    "stem pooled with overlap": lambda: nn.Sequential(
        *(nn.Conv2d(2, 6, 3), nn.MaxPool2d(3, 2), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU()),
        *(nn.Flatten(), nn.LazyLinear(5)),
    ),
    "pre-activation": PreActivation,
    "strided and grouped": strided_and_grouped,
    "pooled input": pooled_input,
    "perceptron": perceptron,
    "two stems": TwoStems,
    "two heads": TwoHeads,
    **{
        kind: (lambda kind=kind: pools(kind))
        for kind in (
            "max 2",
            "max 3/2",
            "max 2 dilated",
            "max 2 ceil",
            "max 3x2",
            "average 2",
            "average 3/2",
            "average 3/2 inside",
            "average 2 ceil",
            "adaptive 7",
            "adaptive 5x2",
            "two",
            "two the other way",
            "max then average overlapping",
        )
    },
}


def build(name: str) -> nn.Module:
    torch.manual_seed(len(name))
    net = NETS[name]()
    net(torch.zeros(2, 2, 21, 21))  # lazy layers find their size
    return randomise(net)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 2, 21, 21, generator=torch.Generator().manual_seed(7))


PAIRS = [(2, 0), (0, 4), (0, 1), (1, 3), (0, 4), (2, 2)]  # unsorted, ragged, one twice


# ------------------------------------------------------------------------- equal to the reference


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize("name", NETS)
def test_equals_the_reference(name: str, preset: str, x: torch.Tensor) -> None:
    net = build(name)
    expected = explain(net, x, PAIRS, preset, "reference")
    made = explain(net, x, PAIRS, preset, "fused")
    assert made.dtype == torch.float32
    assert l1(made, expected) <= 1e-4


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize("name", NETS)
def test_equals_the_reference_in_double_precision(name: str, preset: str, x: torch.Tensor) -> None:
    net = build(name).double()
    expected = explain(net, x, PAIRS, preset, "reference")
    made = explain(net, x, PAIRS, preset, "fused")
    assert made.dtype == torch.float64
    assert l1(made, expected) <= 1e-9


NEGATIVE_INSIDE = ("pre-activation", "two stems")
"""Networks whose inner convolutions read what no ReLU has made non-negative."""
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
    made = explain(net, x, PAIRS, preset, "fused")
    # Denominators of both signs come close to 0, where orders of summation differ more.
    assert l1(made, expected) <= 1e-7


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
        made = explain(net, x[:1], [(0, 3)], "against", engine)[0]
        # LRP is linear in what it starts from.
        others = [output for output in range(5) if output != 3]
        assert l1(made, each[3] - each[others].mean(0)) <= 1e-4


def test_the_depth_of_a_rule_counts_from_the_input() -> None:
    rules = [MIXED.convolution(number, 5).kind for number in range(5)]
    assert rules == ["alpha1_beta0", "alpha1_beta0", "gamma", "epsilon", "epsilon"]
    assert lrp_preset("zennit").convolution(0, 1).kind == "alpha1_beta0"


AUS = (1, 2, 4, 6, 7, 9, 10, 12, 15, 17, 25, 26, 43)


def untrained_au_net() -> nn.Module:
    torch.manual_seed(0)
    net = randomise(au_net(AUS))
    return AUNetwork.from_module(net, _card(), device="cpu").logits_module


def _card() -> Any:
    """The embedded network's card, for other AUs."""
    embedded = AUNetwork.load(device="cpu").card
    return replace(embedded, aus=AUS, grades=None)


def crops() -> torch.Tensor:
    values = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    return F.interpolate(values, 96, mode="bilinear").clamp(-3, 3)


@pytest.mark.parametrize("preset", BOTH)
@pytest.mark.parametrize("which", ["embedded", "untrained"])
def test_equals_the_reference_on_the_au_networks(which: str, preset: str) -> None:
    embedded = which == "embedded"
    net = AUNetwork.load(device="cpu").logits_module if embedded else untrained_au_net()
    assert engine_of(net, (1, 96, 96), preset).name == "fused"
    expected = explain(net, crops(), [(2, 8), (0, 0), (2, 3)], preset, "reference")
    made = explain(net, crops(), [(2, 8), (0, 0), (2, 3)], preset)
    assert l1(made, expected) <= 1e-4


# --------------------------------------------------------------------- equal to real iNNvestigate


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


# ---------------------------------------------------------------- each rule in explicit matrix form
#
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
    for layer, given_, made in reversed(list(zip(layers, values[:-1], values[1:], strict=True))):
        v, z = given_.numpy().ravel(), made.numpy().ravel()
        if isinstance(layer, (nn.ReLU, nn.Flatten)):
            continue
        W = jacobian(layer, given_)
        if layer is first:
            ones = type(layer)(**_sizes(layer)).double()
            nn.init.ones_(ones.weight)
            J = jacobian(ones, given_)
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
    for made, (frame, output) in zip(maps, [(0, 0), (1, 2), (1, 0)], strict=True):
        expected = by_hand(layers, x[frame], output, preset).sum(axis=0)
        np.testing.assert_allclose(made.numpy(), expected, rtol=1e-7, atol=1e-10)


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
        made = explain(net, x, [(0, 0), (0, 1)], engine="fused")
        assert l1(made, explain(net, x, [(0, 0), (0, 1)], engine="reference")) <= 1e-6
        assert made[0].count_nonzero() < 36


def test_dead_layers_give_finite_maps() -> None:
    net = build("vgg-like")
    nn.init.zeros_(net[3].weight)  # type: ignore[index, arg-type]
    nn.init.constant_(net[3].bias, -1.0)  # type: ignore[index, arg-type]
    for preset in BOTH:
        maps = explain(net, torch.zeros(1, 2, 21, 21), [(0, 0)], preset, "fused")
        assert torch.isfinite(maps).all()


# ------------------------------------------------------------------------------------ conservation


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


# ------------------------------------------------------------------------- pairs, batches, chunks

EVERY = [(frame, output) for frame in range(4) for output in range(5)]


LIMITS = (1, 20_000, 100_000, fused.CHUNK_BYTES)


@pytest.fixture(scope="module")
def single() -> Any:
    """Engines with different limits of memory, frames, and each pair's map from its own call."""
    net = build("vgg-like")
    x = torch.randn(4, 2, 21, 21, generator=torch.Generator().manual_seed(1))
    maps = {
        (frame, output): explain(net, x[frame : frame + 1], [(0, output)], engine="fused")[0]
        for frame, output in EVERY
    }
    engines = {}
    for limit in LIMITS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fused, "CHUNK_BYTES", limit)
            example = example_input(net, (2, 21, 21))
            engines[limit] = FusedEngine(fold_batchnorm(net, x), example, lrp_preset(BOTH[0]))
    return engines, x, maps


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    pairs=st.lists(st.sampled_from(EVERY), min_size=1, max_size=30),
    order=st.permutations(range(4)),
    limit=st.sampled_from(LIMITS),
)
def test_any_batch_order_and_number_of_pairs_gives_the_same_maps(
    single: Any, pairs: list[tuple[int, int]], order: list[int], limit: int
) -> None:
    engines, x, expected = single
    place = {frame: row for row, frame in enumerate(order)}
    frames = [place[frame] for frame, _ in pairs]
    with torch.no_grad():
        maps = engines[limit].relevance(x[order], frames, [output for _, output in pairs])
    for made, pair in zip(maps, pairs, strict=True):
        assert l1(made, expected[pair]) <= 1e-5


def test_no_pairs_give_no_maps(x: torch.Tensor) -> None:
    assert explain(build("residual"), x, [], engine="fused").shape == (0, 21, 21)
    assert explain(build("residual"), x, [], stop=12).shape == (0, 11, 11)
    assert explain(build("residual"), x, [], engine="reference", stop=12).shape == (0, 21, 21)


# ------------------------------------------------------------------------------ forward only once


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    pairs=st.lists(st.sampled_from(EVERY), min_size=1, max_size=20),
    limit=st.sampled_from(LIMITS),
)
def test_frames_that_ran_forward_are_explained_in_any_order_and_not_all(
    single: Any, pairs: list[tuple[int, int]], limit: int
) -> None:
    engines, x, expected = single
    engine = engines[limit]
    with torch.no_grad():
        maps = engine.explain(engine.forward(x), *map(list, zip(*pairs, strict=True)), 0)
    for made, pair in zip(maps, pairs, strict=True):
        assert l1(made, expected[pair]) <= 1e-5


@pytest.mark.parametrize("name", NETS)
def test_what_ran_forward_gives_the_logits_and_their_maps(name: str, x: torch.Tensor) -> None:
    net = build(name)
    with torch.inference_mode():
        ran = forward(net, x * 1)
    assert ran is not None
    with torch.no_grad():
        torch.testing.assert_close(ran.logits, net(x), rtol=1e-4, atol=1e-5)
        assert ran.hidden is not None
        dense = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
        (last,) = (d for d in dense if (d.in_features, d.out_features) == (ran.hidden.shape[1], 5))
        torch.testing.assert_close(last(ran.hidden), ran.logits)
    assert counts_of(net).pairs == 0
    assert l1(ran.explain(PAIRS), explain(net, x, PAIRS)) <= 1e-5
    assert ran.explain([]).shape == (0, 21, 21)
    assert (counts_of(net).frames, counts_of(net).pairs) == (6, 12)
    for pairs in ([(3, 0)], [(0, 5)], [(-1, 0)]):
        with pytest.raises(ModelError, match="pairs name"):
            ran.explain(pairs)


def test_what_cannot_wait_for_its_pairs_does_not_run_forward(
    x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = build("vgg-like")
    assert forward(net, x[:0]) is None
    smooth = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * 19 * 19, 5))
    assert engine_of(smooth.eval(), (2, 21, 21)).name == "reference"
    assert forward(smooth, x) is None
    monkeypatch.setattr(fused, "CHUNK_BYTES", 1)  # of one frame only the values are kept
    other = build("vgg-like")
    assert forward(other, x) is None
    assert forward(other, x[:1]) is not None

    def fails(text: str) -> None:
        def run(self: FusedEngine, x: torch.Tensor) -> Any:
            raise RuntimeError(text)

        monkeypatch.setattr(FusedEngine, "_forward", run)

    fails("not enough memory")
    assert forward(other, x[:1]) is None
    fails("something else")
    with pytest.raises(RuntimeError, match="something else"):
        forward(other, x[:1])


def test_short_memory_on_the_way_back_halves_the_rounds(
    x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = build("residual")
    expected = explain(net, x, PAIRS)
    back = FusedEngine._back

    def guarded(self: FusedEngine, values: Any, pairs: Any, *rest: Any) -> torch.Tensor:
        if len(pairs) > 2:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1")
        return back(self, values, pairs, *rest)

    monkeypatch.setattr(FusedEngine, "_back", guarded)
    ran = forward(net, x)
    assert ran is not None
    assert l1(ran.explain(PAIRS), expected) <= 1e-5
    assert counts_of(net).halved > 0


@pytest.mark.parametrize(
    ("words", "short"),
    [
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes", True),
        ("DefaultCPUAllocator: not enough memory: you tried to allocate 7 bytes.", True),
        ("could not create a primitive", True),  # oneDNN, under a limit on the address space
        ("could not create a primitive descriptor for a convolution", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_what_is_said_when_memory_is_short_is_known(words: str, short: bool) -> None:
    assert fused.is_shortage(RuntimeError(words)) is short


# -------------------------------------------------------------------------------------- early stop


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
    made = explain(net, x, PAIRS, preset, "fused", stop)
    assert made.shape[1:] == features.shape[2:]
    assert l1(made, expected) <= 1e-4


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
        for made, operation in enumerate(net.operations, start=1):
            if made > cut:
                assert all(source >= cut for source in operation.sources)


def test_impossible_stops_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        explain(build("vgg-like"), x, PAIRS, stop=0)
    with pytest.raises(ConfigError, match="stop at 5 px or more"):
        explain(build("vgg-like"), x, PAIRS, stop=4)


def test_the_reference_engine_goes_on_to_the_pixels(x: torch.Tensor) -> None:
    assert explain(build("residual"), x, PAIRS, engine="reference", stop=5).shape == (6, 21, 21)


# --------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("name", NETS)
def test_bfloat16_convolutions_stay_close_in_any_network(name: str, x: torch.Tensor) -> None:
    net = build(name)
    for stop in (None, 21):
        exact = explain(net, x, PAIRS, "zennit", "fused", stop)
        rough = explain(net, x, PAIRS, "zennit", "fused", stop, dtype=torch.bfloat16)
        assert rough.dtype == torch.float32
        assert F.cosine_similarity(exact.flatten(1), rough.flatten(1)).min() >= 0.999


def test_relevance_of_several_branches_is_added_up_in_float32() -> None:
    """In bfloat16 a small addend would vanish beside a large one."""
    value = torch.ones(1, 1, 2, 2)
    large = Flow(torch.full((3, 1, 2, 2), 256.0), value)
    small = Flow(torch.ones(3, 1, 2, 2).bfloat16(), value, owned=True)
    for flows in ((large, small), (small, large), (replace(large, c=large.c.bfloat16()), small)):
        merged = Pairs([3], value.device).merge(*flows, value)
        assert merged.c.dtype == torch.float32
        assert (merged.c == 257).all()
        assert (small.c == 1).all()


def test_bfloat16_convolutions_stay_close() -> None:
    net = AUNetwork.load(device="cpu").logits_module
    pairs = [(0, 0), (1, 5), (2, 8)]
    exact = explain(net, crops(), pairs).flatten(1)
    rough = explain(net, crops(), pairs, dtype=torch.bfloat16).flatten(1)
    assert rough.dtype == torch.float32
    assert F.cosine_similarity(exact, rough).min() >= 0.999


# ---------------------------------------------------------------------------------- what falls back


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, 4, 3)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.out = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.body(x))
        x = x * self.gate(x)
        return self.out(x.mean((2, 3)))


class Overwriting(nn.Module):
    """Uses a tensor after it has been written over."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(2, 4, 3), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z = y.relu_()
        return self.out((y + z).mean((2, 3)))


class Undecided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(2, 4, 3), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.out((x.relu() if x.sum() > 0 else x).mean((2, 3)))


def with_activation(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), layer, nn.Flatten(), nn.Linear(4 * 361, 5))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (with_activation(nn.SiLU()), "no fused rule for SiLU '1'"),
        (with_activation(nn.Sequential(nn.GELU(), nn.SiLU())), "GELU '1.0', SiLU '1.1'"),
        (with_activation(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")), "Conv2d '1'"),
        (with_activation(nn.AvgPool2d(1, divisor_override=2)), "AvgPool2d '1' with a divisor"),
        (Undecided(), "Undecided cannot be traced"),
        (Overwriting(), "other logits"),
    ],
    ids=["SiLU", "two", "padding", "divisor", "control flow", "in place"],
)
def test_what_has_no_fused_rule_goes_to_the_reference_and_says_why(
    net: nn.Module, reason: str, x: torch.Tensor
) -> None:
    choice = engine_of(net, (2, 21, 21))
    assert choice.name == "reference"
    assert reason in choice.reason
    with pytest.raises(UnsupportedNetworkError, match="use engine='auto' or 'reference'"):
        explain(net, x, PAIRS, engine="fused")
    expected = explain(net, x, PAIRS, engine="reference")
    torch.testing.assert_close(explain(net, x, PAIRS), expected)


def test_the_slow_engine_is_warned_of_once_per_network(x: torch.Tensor) -> None:
    net = with_activation(nn.SiLU())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        explain(net, x, PAIRS, engine="reference")  # asked for: nothing to warn of
        explain(build("vgg-like"), x, PAIRS)
        assert told == []
        explain(net, x, PAIRS)
        explain(net, x, PAIRS)
        with torch.no_grad():
            net[0].weight.mul_(2)  # type: ignore[union-attr, operator]
        explain(net, x, PAIRS)  # is prepared anew
        (warning,) = told
        assert warning.category is SlowEngineWarning
        assert "Sequential goes to the reference LRP engine" in str(warning.message)
        assert "no fused rule for SiLU '1'" in str(warning.message)
        assert warning.filename == __file__  # where we called, not inside the package
        engine_of(with_activation(nn.SiLU()), (2, 21, 21))
        assert len(told) == 2


def test_gates_are_named_before_the_reference_refuses_them(x: torch.Tensor) -> None:
    with pytest.raises(UnsupportedNetworkError, match=r"Sigmoid 'gate.2', mul\(…\)"):
        explain(SqueezeExcite(), x, PAIRS, engine="fused")
    with pytest.raises(ModelError, match="combines two branches"):
        explain(SqueezeExcite(), x, PAIRS)


def test_the_choice_of_a_usual_network_is_fused() -> None:
    choice = engine_of(build("residual"), (2, 21, 21), "EpsilonPlusFlat")
    assert (choice.name, choice.reason) == ("fused", "")


# ------------------------------------------------------------------------------- the caller's side


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
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


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
            made = explain(net.cuda(), x.cuda(), PAIRS, engine="fused").cpu()
            assert l1(made, expected) <= 1e-4
    finally:
        torch.backends.cudnn.allow_tf32 = True
