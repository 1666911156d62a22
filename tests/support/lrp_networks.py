"""Small networks that exercise every layer and rule of LRP, and a distance between maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from facestage.core.network.architectures import au_net
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.card import ModelCard
from torch import nn

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


def vgg_like() -> nn.Module:
    """Conv-BatchNorm-ReLU with max-pooling, two dense layers."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((2, 6), (6, 8)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Dropout(), nn.Linear(8 * 25, 9), nn.ReLU(), nn.Linear(9, 5)
    )


class Block(nn.Module):
    """Residual block, with a projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, addition: str = "+=") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.addition = addition

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.addition == "+=":
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
        self.logits, self.unused = nn.Linear(4 * 16, 5), nn.Linear(4 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = torch.flatten(F.relu(self.body(x)), 1)
        self.unused(features)
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


PAIRS = [(2, 0), (0, 4), (0, 1), (1, 3), (0, 4), (2, 2)]  # unsorted, ragged, one twice


AUS = (1, 2, 4, 6, 7, 9, 10, 12, 15, 17, 25, 26, 43)


def untrained_au_net() -> nn.Module:
    torch.manual_seed(0)
    net = randomise(au_net(AUS))
    return AUNetwork.from_module(net, _card(), device="cpu").logits_module


def _card() -> ModelCard:
    """The embedded network's card, for other AUs."""
    embedded = AUNetwork.load(device="cpu").card
    return replace(embedded, aus=AUS, grades=None)


def crops() -> torch.Tensor:
    values = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    return F.interpolate(values, 96, mode="bilinear").clamp(-3, 3)
