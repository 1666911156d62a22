"""Which engine explains a network, and why: what the fused engine cannot lower."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from facestage.core.errors import ModelError
from facestage.core.lrp import SlowEngineWarning, UnsupportedNetworkError, engine_of, explain
from torch import nn

from tests.support.lrp_networks import PAIRS, build


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
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        explain(net, x, PAIRS, engine="reference")  # asked for: nothing to warn of
        explain(build("vgg-like"), x, PAIRS)
        assert raised == []
        explain(net, x, PAIRS)
        explain(net, x, PAIRS)
        with torch.no_grad():
            net[0].weight.mul_(2)  # type: ignore[union-attr, operator]
        explain(net, x, PAIRS)  # is prepared anew
        (warning,) = raised
        assert warning.category is SlowEngineWarning
        assert "Sequential goes to the reference LRP engine" in str(warning.message)
        assert "no fused rule for SiLU '1'" in str(warning.message)
        assert warning.filename == __file__  # where we called, not inside the package
        engine_of(with_activation(nn.SiLU()), (2, 21, 21))
        assert len(raised) == 2


def test_gates_are_named_before_the_reference_refuses_them(x: torch.Tensor) -> None:
    with pytest.raises(UnsupportedNetworkError, match=r"Sigmoid 'gate.2', mul\(…\)"):
        explain(SqueezeExcite(), x, PAIRS, engine="fused")
    with pytest.raises(ModelError, match="combines two branches"):
        explain(SqueezeExcite(), x, PAIRS)


def test_the_choice_of_a_usual_network_is_fused() -> None:
    choice = engine_of(build("residual"), (2, 21, 21), "EpsilonPlusFlat")
    assert (choice.name, choice.reason) == ("fused", "")
