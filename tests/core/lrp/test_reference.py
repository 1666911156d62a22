"""LRP by the reference engine: real iNNvestigate maps, zennit's own composites, each rule in
explicit matrix form. test_fused_equality.py compares the fused engine with it."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facestage.core.errors import ConfigError, ModelError
from facestage.core.lrp import explain as explain_by_any
from facestage.core.lrp import lrp_preset
from facestage.core.lrp.reference import engine as reference
from facestage.core.lrp.reference.hooks import (
    AlphaOneBetaZero,
    Epsilon,
    Flat,
    Gamma,
    Pass,
    PositiveHead,
    Rule,
    ZRule,
)
from facestage.core.network.au_network import AUNetwork
from numpy.typing import NDArray
from torch import nn

from tests.support.lrp_networks import l1
from tests.support.paths import GOLDEN_MAPS

# zennit can be imported once the reference engine has been.
from zennit.attribution import Gradient  # isort: skip
from zennit.composites import COMPOSITES, EpsilonPlusFlat, LayerMapComposite  # isort: skip
from zennit.composites import SpecialFirstLayerMapComposite  # isort: skip
from zennit.core import BasicHook  # isort: skip
from zennit.layer import Sum  # isort: skip
from zennit.rules import ClampMod, Norm, Gamma as ZennitGamma, Pass as ZennitPass  # isort: skip
from zennit.rules import Epsilon as ZennitEpsilon, Flat as ZennitFlat  # isort: skip
from zennit.types import Activation, AvgPool, Convolution  # isort: skip

GOLD = np.load(GOLDEN_MAPS)
INN = lrp_preset("innvestigate_a_flat")
ZEN = lrp_preset("zennit")

explain = partial(explain_by_any, engine="reference")


class KerasFlatten(nn.Module):
    """Keras flattens (H, W, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def keras_net(tag: str) -> nn.Sequential:
    pool = nn.MaxPool2d if tag == "max" else nn.AvgPool2d
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        pool(2),
        nn.Conv2d(8, 10, 3, padding=1),
        nn.ReLU(),
        pool(2),
        KerasFlatten(),
        nn.Linear(360, 16),
        nn.ReLU(),
        nn.Linear(16, 5),
    )
    layers = [layer for layer in net if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for number, layer in enumerate(layers):
        kernel = torch.from_numpy(GOLD[f"{tag}/w{2 * number}"])
        kernel = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        layer.weight.data = kernel.contiguous()
        assert layer.bias is not None
        layer.bias.data = torch.from_numpy(GOLD[f"{tag}/w{2 * number + 1}"])
    return net.eval()


def small_net(seed: int = 0, *, bias: bool = True, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=2, padding=2, bias=bias),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=bias),
        nn.ReLU(inplace),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 3 * 3, 7, bias=bias),
        nn.ReLU(inplace),
        nn.Linear(7, 4, bias=bias),
    )


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 1, 24, 24, generator=torch.Generator().manual_seed(7))


ALL = [(frame, output) for frame in range(3) for output in range(4)]


# ---------------------------------------------------------------------------- parity with the peers


@pytest.mark.parametrize("tag", ["max", "avg"])
@pytest.mark.parametrize("output", range(5))
def test_maps_equal_those_of_innvestigate(tag: str, output: int) -> None:
    x = torch.from_numpy(GOLD["x"]).permute(0, 3, 1, 2)
    gold = GOLD[f"{tag}/r{output}"]
    maps = explain(keras_net(tag), x, [(frame, output) for frame in range(len(x))])
    assert l1(maps, gold.sum(axis=-1)) <= 1e-5


@pytest.mark.parametrize("tag", ["max", "avg"])
def test_the_registered_composite_gives_innvestigates_relevance_per_channel(tag: str) -> None:
    x = torch.from_numpy(GOLD["x"]).permute(0, 3, 1, 2)
    net = keras_net(tag)
    with Gradient(net, COMPOSITES["innvestigate_a_flat"]()) as attribute:
        for output in range(5):
            pick = torch.eye(5)[output]
            _, relevance = attribute(x.clone(), lambda logits, pick=pick: logits * pick)
            gold = GOLD[f"{tag}/r{output}"]
            assert l1(relevance.permute(0, 2, 3, 1), gold) <= 1e-5
    np.testing.assert_allclose(net(x).detach(), GOLD[f"{tag}/y"], atol=1e-5)
    assert not any("forward" in vars(module) for module in net.modules())


def by_zennit(net: nn.Module, composite: Any, x: torch.Tensor, pairs: Any) -> torch.Tensor:
    """One zennit call per pair."""
    maps = []
    with Gradient(net, composite) as attribute:
        for frame, output in pairs:

            def start(logits: torch.Tensor, output: int = output) -> torch.Tensor:
                return logits.detach() * F.one_hot(torch.tensor(output), logits.shape[1])

            _, relevance = attribute(x[frame : frame + 1].clone(), start)
            maps.append(relevance.sum(dim=1)[0].detach())
    return torch.stack(maps)


@pytest.mark.parametrize("seed", range(3))
def test_preset_zennit_is_zennits_epsilon_plus_flat(x: torch.Tensor, seed: int) -> None:
    net = small_net(seed)
    expected = by_zennit(net, EpsilonPlusFlat(), x, ALL)
    assert l1(explain(net, x, ALL, preset="zennit"), expected) <= 1e-5
    assert l1(explain(net, x, ALL, preset="EpsilonPlusFlat"), expected) <= 1e-5


def signed_alpha_one_beta_zero() -> BasicHook:
    """α1β0 with the full signed bias, from zennit's generic hook."""
    return BasicHook(
        input_modifiers=[lambda x: x.clamp(min=0), lambda x: x.clamp(max=0)],
        param_modifiers=[
            lambda p, name: p if name == "bias" else p.clamp(min=0),
            ClampMod(max=0.0, zero_params=["bias"]),
        ],
        output_modifiers=[lambda z: z] * 2,
        gradient_mapper=lambda r, z: [r / (sum(z) + 1e-7 * (sum(z) == 0))] * 2,
        reducer=lambda x, g: x[0] * g[0] + x[1] * g[1],
    )


def test_embedded_network_equals_an_independent_zennit_composite() -> None:
    net = AUNetwork.load(device="cpu")
    rng = np.random.default_rng(3)
    crops = np.kron(rng.integers(0, 256, (2, 12, 12)), np.ones((8, 8))).astype(np.uint8)
    x = net.prepare(crops).clone()
    first = net.logits_module[0]  # type: ignore[index]
    composite = LayerMapComposite(
        [(nn.Conv2d, signed_alpha_one_beta_zero()), (nn.Linear, ZennitEpsilon(epsilon=0.1))]
    )
    rules = composite.module_map
    composite.module_map = lambda ctx, name, module: (
        ZennitFlat() if module is first else rules(ctx, name, module)
    )
    pairs = [(0, 0), (1, 8), (0, 22)]
    expected = by_zennit(net.logits_module, composite, x, pairs)
    maps = explain(net.logits_module, net.prepare(crops), pairs)
    assert maps.shape == (3, 96, 96)
    assert l1(maps, expected) <= 1e-5


# -------------------------------------------------------------------- rules in explicit matrix form


def matrix(layer: nn.Conv2d, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return W ``(outputs, inputs)`` of a convolution without padding entries, and the bias."""
    channels, height, width = shape
    kernel = layer.weight.detach().double().numpy()
    out, per_group, kh, kw = kernel.shape
    (sy, sx), (py, px) = layer.stride, layer.padding  # type: ignore[misc]
    dy, dx = layer.dilation
    oh = (height + 2 * int(py) - dy * (kh - 1) - 1) // sy + 1
    ow = (width + 2 * int(px) - dx * (kw - 1) - 1) // sx + 1
    dense = np.zeros((out, oh, ow, channels, height, width))
    for o in range(out):
        group = o // (out // layer.groups)
        for y in range(oh):
            for z in range(ow):
                for i in range(per_group):
                    for u in range(kh):
                        for v in range(kw):
                            row, col = y * sy - int(py) + u * dy, z * sx - int(px) + v * dx
                            if 0 <= row < height and 0 <= col < width:
                                c = group * per_group + i
                                dense[o, y, z, c, row, col] = kernel[o, i, u, v]
    bias = np.zeros(out) if layer.bias is None else layer.bias.detach().double().numpy()
    return dense.reshape(out * oh * ow, -1), np.repeat(bias, oh * ow)


def through(rule: Rule, layer: nn.Module, x: torch.Tensor, relevance: torch.Tensor) -> Any:
    """Relevance of the layer's input under a rule; twice, as rounds share a forward pass."""
    handles = rule.register(layer)
    try:
        leaf = x.clone().requires_grad_()
        out = layer(leaf)
        assert torch.equal(out, type(layer).forward(layer, x))
        torch.autograd.grad(out, leaf, torch.ones_like(out), retain_graph=True)
        (received,) = torch.autograd.grad(out, leaf, relevance)
        return received.double().numpy()
    finally:
        handles.remove()


CONVS: dict[str, dict[str, Any]] = {
    "padded": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": (3, 2), "stride": 2, "padding": 1},
    "grouped": {"kernel_size": 3, "groups": 2},
    "dilated": {"kernel_size": 2, "dilation": 2, "padding": (0, 1)},
    "without bias": {"kernel_size": 1, "bias": False},
    "same": {"kernel_size": 3, "padding": "same"},
}


def conv_case(name: str, sign: str) -> tuple[nn.Conv2d, torch.Tensor, torch.Tensor]:
    torch.manual_seed(len(name))
    layer = nn.Conv2d(2, 4, **CONVS[name])
    nn.init.normal_(layer.weight)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    x = torch.randn(2, 2, 5, 6)
    if sign == "non-negative":
        x = x.relu()
    with torch.no_grad():
        return layer, x, torch.randn_like(layer(x))


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("sign", ["mixed", "non-negative"])
@pytest.mark.parametrize("preset", [INN, ZEN], ids=lambda p: p.name)
def test_alpha_one_beta_zero_is_its_matrix_form(name: str, sign: str, preset: Any) -> None:
    # A denominator that is nearly zero makes much of how float32 sums are rounded.
    layer, x, relevance = (part.double() for part in conv_case(name, sign))
    got = through(AlphaOneBetaZero(preset), layer, x, relevance)
    if name == "same":
        layer.padding = (1, 1)
    W, b = matrix(layer, (2, 5, 6))
    for row in range(2):
        v = x[row].double().numpy().ravel()
        shares = np.maximum(W * v, 0)  # x⁺w⁺ + x⁻w⁻ are the positive contributions
        if preset is INN:
            d = shares.sum(axis=1) + b
            d[d == 0] = 1e-7
        else:
            d = shares.sum(axis=1) + np.maximum(b, 0)
            d += np.where(d < 0, -1e-6, 1e-6)
        expected = (shares / d[:, None] * relevance[row].double().numpy().ravel()[:, None]).sum(0)
        np.testing.assert_allclose(got[row].ravel(), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("preset", [INN, ZEN], ids=lambda p: p.name)
def test_flat_counts_valid_inputs_only(name: str, preset: Any) -> None:
    layer, x, relevance = conv_case(name, "mixed")
    got = through(Flat(preset), layer, x, relevance)
    if name == "same":
        layer.padding = (1, 1)
    nn.init.ones_(layer.weight)
    W, _ = matrix(layer, (2, 5, 6))
    n = W.sum(axis=1)
    for row in range(2):
        expected = (W / n[:, None]).T @ relevance[row].double().numpy().ravel()
        np.testing.assert_allclose(got[row].ravel(), expected, rtol=1e-4, atol=1e-5)


def test_flat_of_a_dense_layer_spreads_evenly() -> None:
    layer = nn.Linear(5, 3)
    relevance = torch.randn(2, 3)
    got = through(Flat(INN), layer, torch.randn(2, 5), relevance)
    expected = np.repeat(relevance.double().sum(1, keepdim=True).numpy() / 5, 5, axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("preset", [INN, ZEN], ids=lambda p: p.name)
def test_epsilon_is_its_matrix_form(preset: Any) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    with torch.no_grad():
        layer.weight[1] = 0  # an output that is exactly 0 counts as positive
        assert layer.bias is not None
        layer.bias[1] = 0
    x, relevance = torch.randn(3, 6), torch.randn(3, 4)
    got = through(Epsilon(preset), layer, x, relevance)
    W = layer.weight.detach().double().numpy()
    for row in range(3):
        v = x[row].double().numpy()
        z = W @ v + layer.bias.detach().double().numpy()
        z = z + preset.epsilon * np.where(z < 0, -1, 1)
        expected = (W * v).T @ (relevance[row].double().numpy() / z)
        np.testing.assert_allclose(got[row], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("sign", ["mixed", "non-negative"])
def test_gamma_is_its_matrix_form(name: str, sign: str) -> None:
    layer, x, relevance = conv_case(name, sign)
    got = through(Gamma(ZEN, 0.3), layer, x, relevance)
    if name == "same":
        layer.padding = (1, 1)
    W, b = matrix(layer, (2, 5, 6))
    for row in range(2):
        v = x[row].double().numpy().ravel()
        z = W @ v + b
        assert (z > 0).any()
        assert (z < 0).any()
        # γ favours the contributions that have the sign of the output.
        shares = W * v
        shares = shares + 0.3 * np.where(z[:, None] > 0, shares.clip(min=0), shares.clip(max=0))
        d = shares.sum(axis=1) + b + 0.3 * np.where(z > 0, b.clip(min=0), b.clip(max=0))
        d += np.where(d < 0, -1e-6, 1e-6)
        expected = (shares / d[:, None] * relevance[row].double().numpy().ravel()[:, None]).sum(0)
        np.testing.assert_allclose(got[row].ravel(), expected, rtol=2e-3, atol=2e-4)


def test_a_positive_head_starts_from_what_speaks_for_the_output() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    x, weights = torch.randn(3, 6), torch.randn(3, 4)
    # From above comes the logit times its weight in what is explained.
    got = through(PositiveHead(ZEN), layer, x, layer(x).detach() * weights)
    W = layer.weight.detach().double().numpy()
    for row in range(3):
        v = x[row].double().numpy()
        expected = (W * v).clip(min=0).T @ weights[row].double().numpy()
        np.testing.assert_allclose(got[row], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_au_specific_is_zennits_gamma(x: torch.Tensor, seed: int) -> None:
    net = small_net(seed)
    composite = SpecialFirstLayerMapComposite(
        layer_map=[
            (Activation, ZennitPass()),
            (AvgPool, Norm()),
            (Convolution, ZennitGamma(0.1)),
            (nn.Linear, ZennitEpsilon(0.1)),
        ],
        first_map=[(Convolution, ZennitFlat())],
    )
    expected = by_zennit(net, composite, x, ALL)
    assert l1(explain(net, x, ALL, preset="au_specific"), expected) <= 1e-4
    assert l1(explain_by_any(net, x, ALL, "au_specific", "fused"), expected) <= 1e-4


def test_average_pooling_follows_the_z_rule() -> None:
    torch.manual_seed(0)
    x, relevance = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 2, 2)
    got = through(ZRule(INN), nn.AvgPool2d(2), x, relevance)
    v = x.double().numpy()
    for c in range(2):
        for y in range(4):
            for z in range(4):
                cell = v[0, c, y // 2 * 2 : y // 2 * 2 + 2, z // 2 * 2 : z // 2 * 2 + 2]
                share = v[0, c, y, z] / cell.sum()
                expected = share * float(relevance[0, c, y // 2, z // 2])
                assert got[0, c, y, z] == pytest.approx(expected, rel=1e-4)


def test_a_zero_denominator_loses_nothing_but_its_own_relevance() -> None:
    layer = nn.AvgPool2d(2)
    got = through(ZRule(INN), layer, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 1, 1))
    assert np.isfinite(got).all()
    assert not got.any()


def test_activations_pass_relevance_unchanged() -> None:
    x = torch.tensor([[-1.0, 0.0, 2.0]])
    for layer in (nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(), nn.GELU()):
        handles = Pass().register(layer)
        leaf = x.clone().requires_grad_()
        out = layer(leaf * 1.0)
        (relevance,) = torch.autograd.grad(out, leaf, torch.tensor([[3.0, 4.0, 5.0]]))
        handles.remove()
        assert relevance.tolist() == [[3.0, 4.0, 5.0]]


def test_max_pooling_gives_all_relevance_to_the_winner() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.MaxPool2d(2), nn.Flatten(), _pick(4))
    nn.init.ones_(net[0].weight)  # type: ignore[arg-type]
    x = torch.rand(1, 1, 4, 4) + 0.5
    relevance = explain(net, x, [(0, output) for output in range(4)], preset="zennit")
    for output in range(4):
        y, z = output // 2 * 2, output % 2 * 2
        cell = x[0, 0, y : y + 2, z : z + 2]
        expected = torch.zeros(4, 4)
        expected[y : y + 2, z : z + 2] = torch.where(cell == cell.max(), cell, 0.0)
        torch.testing.assert_close(relevance[output], expected, rtol=1e-4, atol=1e-5)


def _pick(size: int) -> nn.Linear:
    layer = nn.Linear(size, size, bias=False)
    nn.init.eye_(layer.weight)
    return layer


# ----------------------------------------------------------------------------- sums of two branches


class Residual(nn.Module):
    """Two branches summed in one of the ways people write it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.how = how
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.branch = nn.Conv2d(4, 4, 3, padding=1)
        self.sum = Sum()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.out = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        y = self.branch(x)
        match self.how:
            case "module":
                y = self.sum(torch.stack((y, x), dim=-1))
            case "+":
                y = x + y
            case "+=":
                y += x
            case "torch.add":
                y = torch.add(y, x)
            case "add_":
                y.add_(x)
            case "add, scaled":
                y = torch.add(y, x, alpha=2)
            case "-":
                y = y - x
            case "*":
                y = y * x
        y = F.relu(y)
        y = y.mean((2, 3)) if self.how == "+" else self.pool(y).flatten(1)
        return self.out(y)


@pytest.mark.parametrize("how", ["+", "+=", "torch.add", "add_"])
def test_sums_of_branches_share_relevance_however_written(how: str, x: torch.Tensor) -> None:
    pairs = [(0, 0), (1, 1), (2, 0)]
    expected = explain(Residual("module"), x, pairs)
    assert l1(explain(Residual(how), x, pairs), expected) <= 1e-5


@pytest.mark.parametrize("how", ["module", "+", "+="])
def test_a_sum_of_branches_conserves_relevance(how: str, x: torch.Tensor) -> None:
    net = Residual(how)
    for layer in (net.stem, net.branch, net.out):
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    maps = explain(net, x, [(0, 0), (1, 1)], preset="zennit")
    logits = net(x)
    assert maps[0].sum().item() == pytest.approx(logits[0, 0].item(), rel=1e-3)
    assert maps[1].sum().item() == pytest.approx(logits[1, 1].item(), rel=1e-3)


@pytest.mark.parametrize("how", ["add, scaled", "-", "*"])
def test_branches_without_a_rule_are_refused(how: str, x: torch.Tensor) -> None:
    with pytest.raises(ModelError, match="combines two branches"):
        explain(Residual(how), x, [(0, 0)])


# ------------------------------------------------------------------------------------- conservation


@pytest.mark.parametrize("seed", range(3))
def test_without_bias_and_epsilon_the_map_sums_to_the_logit(seed: int, x: torch.Tensor) -> None:
    net = small_net(seed, bias=False)
    maps = explain(net, x, ALL, preset="zennit").sum(dim=(1, 2))
    with torch.no_grad():
        logits = net(x)
    for total, (frame, output) in zip(maps, ALL, strict=True):
        assert total.item() == pytest.approx(logits[frame, output].item(), rel=2e-3, abs=1e-4)


def test_epsilon_absorbs_a_known_share(x: torch.Tensor) -> None:
    # One dense layer, no bias: what arrives below it is f · f/(f + ε·s(f)); convolutions keep it.
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(3, 3, 3, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3 * 20 * 20, 4, bias=False),
    )
    maps = explain(net, x, ALL).sum(dim=(1, 2))
    with torch.no_grad():
        logits = net(x)
    for total, (frame, output) in zip(maps, ALL, strict=True):
        f = logits[frame, output].item()
        assert total.item() == pytest.approx(f * f / (f + 0.1 * np.sign(f)), rel=1e-3)


# --------------------------------------------------------------------------- pairs, batches, chunks


@pytest.mark.parametrize("limit", [1, 2, 32])
def test_any_mix_of_pairs_gives_the_maps_of_single_calls(
    x: torch.Tensor, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "MAX_BATCH", limit)
    net = small_net()
    single = {pair: explain(net, x[pair[0]][None], [(0, pair[1])])[0] for pair in ALL}
    rng = np.random.default_rng(0)
    for size in (1, 5, 12, 17):
        pairs = [ALL[i] for i in rng.integers(0, len(ALL), size)]  # repeats, any order
        maps = explain(net, x, pairs)
        assert maps.dtype == torch.float32
        for relevance_map, pair in zip(maps, pairs, strict=True):
            assert l1(relevance_map, single[pair]) <= 1e-5


def test_schedule_serves_every_pair_once_and_each_lane_one_frame() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        frames = rng.integers(0, 5, rng.integers(1, 30)).tolist()
        rounds, lanes = reference._schedule(frames)
        assert sorted(pair for lane in lanes for pair in lane) == list(range(len(frames)))
        for lane in lanes:
            assert 1 <= len(lane) <= rounds
            assert len({frames[pair] for pair in lane}) == 1


def test_no_pairs_give_no_maps(x: torch.Tensor) -> None:
    assert explain(small_net(), x, []).shape == (0, 24, 24)
    assert explain(small_net(), x[:0], []).shape == (0, 24, 24)


@pytest.mark.parametrize("pairs", [[(3, 0)], [(-1, 0)], [(0, 4)], [(0, -1)]])
def test_pairs_out_of_range_are_refused(x: torch.Tensor, pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(ModelError, match="pairs name"):
        explain(small_net(), x, pairs)


def test_unusable_input_and_presets_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"\(B, C, H, W\)"):
        explain(small_net(), x[0], [(0, 0)])
    with pytest.raises(ModelError, match="float"):
        explain(small_net(), x.to(torch.uint8), [(0, 0)])
    with pytest.raises(ConfigError, match="innvestigate_a_flat"):
        explain(small_net(), x, [(0, 0)], preset="gradcam")


# -------------------------------------------------------------------------------- kinds of networks


def with_batchnorm(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(36, 4),
    )
    for layer in net:
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(std=0.2)
            layer.running_var.uniform_(0.3, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
    return net


def test_batchnorm_is_folded_before_anything(x: torch.Tensor) -> None:
    net = with_batchnorm(0)  # in training mode: explanation is about the network in use
    plain = [net[0], net[2], net[3], *net[5:]]
    by_hand = nn.Sequential(*plain)
    for conv, norm, at in ((net[0], net[1], 0), (net[3], net[4], 2)):
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        bias = 0 if conv.bias is None else conv.bias
        folded = nn.Conv2d(conv.in_channels, 4, 3)
        folded.weight.data = conv.weight.data * gain.data[:, None, None, None]
        assert folded.bias is not None
        folded.bias.data = ((bias - norm.running_mean) * gain + norm.bias).detach()
        by_hand[at] = folded
    assert l1(explain(net, x, ALL), explain(by_hand, x, ALL)) <= 1e-5


def test_inplace_activations_change_nothing(x: torch.Tensor) -> None:
    assert l1(explain(small_net(inplace=True), x, ALL), explain(small_net(), x, ALL)) <= 1e-6


class Backwards(nn.Module):
    """Registers the layers last to first."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4 * 4 * 4, 4)
        self.second = nn.Conv2d(3, 4, 3, stride=2)
        self.first = nn.Conv2d(1, 3, 5, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(F.relu(self.second(F.relu(self.first(x)))).flatten(1))


def test_the_flat_rule_goes_to_the_layer_that_runs_first(x: torch.Tensor) -> None:
    net = Backwards()
    plain = nn.Sequential(net.first, nn.ReLU(), net.second, nn.ReLU(), nn.Flatten(), net.out)
    assert l1(explain(net, x, ALL), explain(plain, x, ALL)) <= 1e-6


class Functional(nn.Module):
    """Scales, sums and applies weights by functions instead of modules."""

    def __init__(self, *, head: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.next = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.out = nn.Linear(4, 4)
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x / 5.0))
        x = F.relu(self.next(0.5 * x)).sum((2, 3))
        return F.linear(x, self.out.weight) if self.head else self.out(x)


def test_scaling_and_summing_by_functions_keep_relevance(x: torch.Tensor) -> None:
    net = Functional()
    with torch.no_grad():
        half = nn.Conv2d(4, 4, 3)
        half.weight.copy_(net.next.weight / 2)
        assert half.bias is not None
        half.bias.copy_(net.next.bias)  # type: ignore[arg-type]
        total = nn.Linear(4, 4)
        total.weight.copy_(net.out.weight * 400)  # 20 × 20 positions
        assert total.bias is not None
        total.bias.copy_(net.out.bias)
    plain = nn.Sequential(
        net.stem, nn.ReLU(), half, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), total
    )
    assert l1(explain(net, x, ALL), explain(plain, x / 5, ALL)) <= 1e-5


def test_weights_applied_by_functions_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(ModelError, match="by functions"):
        explain(Functional(head=True), x, [(0, 0)])


class Twice(nn.Module):
    """Runs one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.again = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.out = nn.Linear(4 * 22 * 22, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        return self.out(F.relu(self.again(F.relu(self.again(x)))).flatten(1))


def test_a_layer_may_run_twice(x: torch.Tensor) -> None:
    net = Twice()
    again = nn.Conv2d(4, 4, 3, padding=1)
    again.load_state_dict(net.again.state_dict())
    plain = nn.Sequential(
        net.stem, nn.ReLU(), net.again, nn.ReLU(), again, nn.ReLU(), nn.Flatten(), net.out
    )
    assert l1(explain(net, x, ALL), explain(plain, x, ALL)) <= 1e-6


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Softmax(dim=1)])
def test_probabilities_are_refused_as_outputs(x: torch.Tensor, last: nn.Module) -> None:
    with pytest.raises(ModelError, match="logit"):
        explain(nn.Sequential(*small_net(), last), x, [(0, 0)])


def test_outputs_of_another_shape_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"\(B, A\)"):
        explain(nn.Conv2d(1, 2, 3), x, [(0, 0)])


# ----------------------------------------------------------------------------- the caller's network


class Fragile(nn.Module):
    """Fails on demand, in the middle of a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.body = small_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.body[:5](x)
        if x.mean() > 100:
            raise ArithmeticError("overexposed")
        return self.body[5:](features)


def untouched(net: nn.Module) -> bool:
    return not any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or "forward" in vars(m)
        for m in net.modules()
    )


def test_a_failing_pass_leaves_no_trace(x: torch.Tensor) -> None:
    net = Fragile().train()
    before = net.body[0](x).detach()
    good = explain(net, x, ALL)
    assert untouched(net)
    with pytest.raises(ArithmeticError, match="overexposed"):
        explain(net, x + 1000, ALL)
    assert untouched(net)
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    torch.testing.assert_close(net.body[0](x), before)
    torch.testing.assert_close(explain(net, x, ALL), good)


def test_new_weights_are_noticed(x: torch.Tensor) -> None:
    net, retrained = with_batchnorm(0), with_batchnorm(1)
    first = explain(net, x, ALL)
    expected = explain(retrained, x, ALL)
    assert l1(first, expected) > 0.1
    net.load_state_dict(retrained.state_dict())
    torch.testing.assert_close(explain(net, x, ALL), expected)
    with torch.no_grad():
        net[0].weight.mul_(-1)
    assert l1(explain(net, x, ALL), expected) > 0.1


def test_the_input_is_left_alone(x: torch.Tensor) -> None:
    leaf = x.clone().requires_grad_()
    maps = explain(small_net(), leaf, ALL)
    assert leaf.grad is None
    assert not maps.requires_grad
    torch.testing.assert_close(leaf.detach(), x)


def test_networks_and_inputs_from_inference_mode_are_accepted(x: torch.Tensor) -> None:
    expected = explain(small_net(), x, ALL)
    with torch.inference_mode():
        net, frames = small_net(), x.clone()
        maps = explain(net, frames, ALL)
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(explain(net, frames, ALL), expected)


def test_a_forgotten_network_is_freed(x: torch.Tensor) -> None:
    net = small_net()
    explain(net, x, ALL)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


@pytest.mark.gpu
def test_cuda_gives_the_maps_of_the_cpu(x: torch.Tensor) -> None:
    net = small_net()
    expected = explain(net, x, ALL)
    torch.backends.cudnn.allow_tf32 = False
    try:
        assert l1(explain(net.cuda(), x.cuda(), ALL).cpu(), expected) <= 1e-4
    finally:
        torch.backends.cudnn.allow_tf32 = True
