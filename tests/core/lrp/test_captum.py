"""The same maps as Captum's LRP, which shares no code with zennit or iNNvestigate."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from facestage.core.lrp import explain
from facestage.core.network.au_network import AUNetwork
from torch import nn

attr = pytest.importorskip("captum.attr", reason="pip install captum")
rules = pytest.importorskip("captum.attr._utils.lrp_rules", reason="another version of captum")


class FlatRule(rules.EpsilonRule):
    """Captum has no flat rule: every weight and every input counts as 1."""

    def _manipulate_weights(self, module: Any, inputs: Any, outputs: Any) -> None:
        module.weight.data = torch.ones_like(module.weight)
        module.bias.data = torch.zeros_like(module.bias)
        module.activations[inputs[0].device] = (torch.ones_like(inputs[0]),)


def by_captum(net: nn.Module, x: torch.Tensor, output: int) -> torch.Tensor:
    """Explain one output of every frame with the rules of ``innvestigate_a_flat``."""
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.rule = FlatRule() if layer is convolutions[0] else rules.Alpha1_Beta0_Rule()
        elif isinstance(layer, nn.Linear):
            layer.rule = rules.EpsilonRule(0.1)
        elif isinstance(layer, nn.Flatten):
            layer.rule = rules.EpsilonRule()
    relevance = attr.LRP(net).attribute(x.clone().requires_grad_(), target=output)
    return relevance.detach().sum(dim=1)


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_maps_of_the_embedded_network_are_captums(engine: str) -> None:
    net = AUNetwork.load(device="cpu").logits_module
    x = torch.randn(2, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    copied = copy.deepcopy(net)  # Captum writes into the weights
    expected = torch.stack([by_captum(copied, x, output) for output in (0, 8, 17)])
    pairs = [(frame, output) for output in (0, 8, 17) for frame in range(2)]
    maps = explain(net, x, pairs, engine=engine).unflatten(0, (3, 2))
    assert float((maps - expected).abs().sum() / expected.abs().sum()) <= 1e-5
