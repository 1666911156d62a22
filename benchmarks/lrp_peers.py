"""What ``benchmarks/lrp.py`` compares: networks, and ways to explain all pairs of a batch.

All peers of other projects get the rules of the preset from parts of their own where they have
them: zennit all but the signed bias, Captum all but the flat rule of the first layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from facestage.core.lrp import explain
from facestage.core.lrp.reference import zennit_guard  # noqa: F401
from facestage.core.network.architectures import SplitHeads, au_net
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.folding import example_input, fold_batchnorm
from torch import nn

# zennit can be imported once the guard has been.
from zennit.attribution import Gradient  # isort: skip
from zennit.composites import EpsilonPlusFlat, LayerMapComposite  # isort: skip
from zennit.core import BasicHook, Composite  # isort: skip
from zennit.rules import ClampMod, Epsilon, Flat, Gamma, Norm, Pass  # isort: skip
from zennit.types import Activation, AvgPool, Convolution as AnyConvolution, Linear  # isort: skip
from zennit.layer import Sum  # isort: skip

__all__ = ["NETS", "Calls", "Case", "peers"]

AUS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 22, 23, 24, 25, 26, 27, 28, 43)


# ----------------------------------------------------------------------------------- the networks


class Block(nn.Module):
    """Basic residual block. The sum is a module, as zennit's rules need it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = (
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.project: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.project = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        self.plus = Plus()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(self.plus(self.project(x), y))


class Plus(nn.Module):
    """``a + b``; for zennit through its own sum, which it can hook."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum()
        self.by_zennit = False

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.sum(torch.stack((a, b), dim=-1)) if self.by_zennit else a + b


def resnet18(outputs: int = 12) -> nn.Module:
    """Build an 18-layer residual network for RGB input, with random weights."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)]
    layers += [nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    in_channels = 64
    for out_channels in (64, 128, 256, 512):
        stride = 1 if in_channels == out_channels else 2
        layers += [Block(in_channels, out_channels, stride), Block(out_channels, out_channels, 1)]
        in_channels = out_channels
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, outputs)]
    return _settled(nn.Sequential(*layers), (3, 112, 112))


def _settled(net: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Give BatchNorm the statistics of some input, then fold it."""
    net.train()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
        for _ in range(2):
            net(torch.randn(4, *shape))
    return fold_batchnorm(net.eval(), example_input(net, shape))


def untrained_au_net() -> nn.Module:
    """Build the presence path of the architecture ``au_net_96_zoned``."""
    folded = _settled(au_net(AUS), (1, 96, 96))
    return SplitHeads(folded).presence_logits()  # type: ignore[arg-type]


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "embedded": (lambda: AUNetwork.load(device="cpu").logits_module, (1, 96, 96)),
    "au_net": (untrained_au_net, (1, 96, 96)),
    "resnet18": (resnet18, (3, 112, 112)),
}
# -------------------------------------------------------------------------------------- the peers


def zennit_composite(preset: str) -> Composite | None:
    """Return the preset made of zennit's own rules; None where it has none for it."""
    if preset == "zennit":
        return EpsilonPlusFlat()
    if preset == "innvestigate_a_flat":
        convolution: BasicHook = BasicHook(
            input_modifiers=[lambda x: x.clamp(min=0), lambda x: x.clamp(max=0)],
            param_modifiers=[
                lambda p, name: p if name == "bias" else p.clamp(min=0),
                ClampMod(max=0.0, zero_params=["bias"]),
            ],
            output_modifiers=[lambda z: z] * 2,
            gradient_mapper=lambda r, z: [r / (sum(z) + 1e-7 * (sum(z) == 0))] * 2,
            reducer=lambda x, g: x[0] * g[0] + x[1] * g[1],
        )
    elif preset == "au_specific":
        convolution = Gamma(gamma=0.1)
    else:
        return None
    composite = LayerMapComposite(
        [
            (Activation, Pass()),
            ((AvgPool, Sum), Norm()),
            (AnyConvolution, convolution),
            (nn.Linear, Epsilon(epsilon=0.1)),
        ]
    )
    rules = composite.module_map

    def first_flat(ctx: dict[str, bool], name: str, module: nn.Module) -> Any:
        if isinstance(module, Linear) and not ctx.get("seen"):
            ctx["seen"] = True
            return Flat()
        return rules(ctx, name, module)

    composite.module_map = first_flat
    return composite


def attach_captum_rules(net: nn.Module) -> None:
    """Give the layers of a network Captum's rules of ``innvestigate_a_flat``.

    Captum takes them off after every call. Its α1β0 rule is that of iNNvestigate where no input is
    negative, and it has no flat rule.
    """
    from captum.attr._utils import lrp_rules

    class FlatRule(lrp_rules.EpsilonRule):
        def _manipulate_weights(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
            del outputs
            module.weight.data = torch.ones_like(module.weight)
            module.bias.data = torch.zeros_like(module.bias)
            module.activations[inputs[0].device] = (torch.ones_like(inputs[0]),)

    first = True
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.rule = FlatRule() if first else lrp_rules.Alpha1_Beta0_Rule()
            first = False
        elif isinstance(layer, nn.Linear):
            layer.rule = lrp_rules.EpsilonRule(0.1)
        elif isinstance(layer, nn.Flatten):
            layer.rule = lrp_rules.EpsilonRule()


@dataclass
class Case:
    """One network with its input.

    Attributes:
        net: ``(B, C, H, W)`` → ``(B, A)``.
        x: ``(B, C, H, W)``.
        outputs: K outputs, explained of every frame.
        preset: LRP preset.
    """

    net: nn.Module
    x: torch.Tensor
    outputs: list[int]
    preset: str

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs, frame by frame."""
        return [(frame, output) for frame in range(len(self.x)) for output in self.outputs]

    def zennit(self, attribute: Gradient) -> torch.Tensor:
        """Return ``(P, H, W)`` from one call per output."""
        maps = []
        for output in self.outputs:

            def start(logits: torch.Tensor, output: int = output) -> torch.Tensor:
                pick = torch.zeros_like(logits)
                pick[:, output] = logits.detach()[:, output]
                return pick

            _, relevance = attribute(self.x.clone(), start)
            maps.append(relevance.detach().sum(dim=1))
        return torch.stack(maps, dim=1).flatten(0, 1)

    def zennit_replicated(self, attribute: Gradient) -> torch.Tensor:
        """Return ``(P, H, W)`` from one call with a row per pair."""
        x = self.x.repeat_interleave(len(self.outputs), 0)
        wanted = torch.tensor(self.outputs * len(self.x), device=x.device)

        def start(logits: torch.Tensor) -> torch.Tensor:
            return logits.detach() * F.one_hot(wanted, logits.shape[1])

        _, relevance = attribute(x, start)
        return relevance.detach().sum(dim=1)

    def batched_gradients(self, hooked: nn.Module) -> torch.Tensor:
        """Return ``(P, H, W)`` from one forward pass and one call for all outputs.

        Args:
            hooked: the network with zennit's rules on.
        """
        leaf = self.x.clone().requires_grad_()
        logits = hooked(leaf)
        starts = torch.zeros((len(self.outputs), *logits.shape), device=logits.device)
        for at, output in enumerate(self.outputs):
            starts[at, :, output] = logits.detach()[:, output]
        (relevance,) = torch.autograd.grad(logits, leaf, starts, is_grads_batched=True)
        return relevance.sum(dim=2).transpose(0, 1).flatten(0, 1)

    def captum(self, net: nn.Module) -> torch.Tensor:
        """Return ``(P, H, W)`` from one call of Captum's LRP per output.

        Args:
            net: a copy of the network, which it may write into.
        """
        from captum.attr import LRP

        maps = []
        for output in self.outputs:
            attach_captum_rules(net)
            x = self.x.clone().requires_grad_()
            relevance = LRP(net).attribute(x, target=output)
            maps.append(relevance.detach().sum(dim=1))
        return torch.stack(maps, dim=1).flatten(0, 1)

    def ours(self, engine: str, **options: Any) -> torch.Tensor:
        """Return the maps of one of this project's engines."""
        return explain(self.net, self.x, self.pairs, self.preset, engine, **options)


Calls = dict[str, Callable[[], torch.Tensor]]


@contextmanager
def peers(case: Case) -> Iterator[Calls]:
    """Yield what is compared: name → a call that explains all pairs of the case as it is then.

    Hooks and rules of other projects sit on copies of the network.
    """
    half = {"dtype": torch.bfloat16}
    ours: Calls = {
        "reference": lambda: case.ours("reference"),
        "fused": lambda: case.ours("fused"),
        "fused stop 28": lambda: case.ours("fused", stop=28),
        "fused bf16": lambda: case.ours("fused", **half),
        "fused bf16 stop 28": lambda: case.ours("fused", stop=28, **half),
    }
    composite = zennit_composite(case.preset)
    if composite is None:
        yield ours
        return
    example = example_input(case.net, case.x.shape[1:])
    hooked = fold_batchnorm(case.net, example)
    # Captum writes into the weights, which the folded copy shares and our engines keep an eye on.
    plain = copy.deepcopy(case.net)
    for module in hooked.modules():
        if isinstance(module, Plus):
            module.by_zennit = True
    with Gradient(hooked, composite) as attribute:
        theirs: Calls = {
            "zennit": lambda: case.zennit(attribute),
            "zennit replicated": lambda: case.zennit_replicated(attribute),
            "batched gradients": lambda: case.batched_gradients(hooked),
        }
        if case.preset == "innvestigate_a_flat":
            theirs["captum"] = lambda: case.captum(plain)
        yield theirs | ours
