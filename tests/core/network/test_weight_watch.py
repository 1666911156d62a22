"""Every way in which the weights of a network can change is noticed, and nothing else is."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from facestage.core.network.weight_watch import WeightWatch
from torch import nn


class Net(nn.Module):
    """A convolution with BatchNorm, an activation, and a layer that is used in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
        self.head = nn.Linear(2, 2)
        self.again = self.head
        self.spare = nn.Linear(2, 2)
        self.register_parameter("absent", None)
        self.child_of_child = nn.Module()
        self.child_of_child.parent = self.body  # a module that is met twice


def in_place(net: Net) -> None:
    with torch.no_grad():
        net.head.weight.mul_(-1)


def state_dict(net: Net) -> None:
    net.load_state_dict(Net().state_dict())


def assigned_state_dict(net: Net) -> None:
    net.load_state_dict(copy.deepcopy(net.state_dict()), assign=True)


def replaced_parameter(net: Net) -> None:
    net.head.weight = nn.Parameter(net.head.weight.detach().clone())


def replaced_data(net: Net) -> None:
    net.head.weight.data = net.head.weight.data.clone()


def replaced_module(net: Net) -> None:
    net.body[0] = nn.Conv2d(1, 2, 3)


def another_dtype(net: Net) -> None:
    net.double()


def another_dtype_and_back(net: Net) -> None:
    net.half()
    gc.collect()
    net.float()


def statistics(net: Net) -> None:
    net.train()
    net.body(torch.rand(2, 1, 5, 5))
    net.eval()


def reset_statistics(net: Net) -> None:
    batchnorm = net.body[1]
    assert isinstance(batchnorm, nn.BatchNorm2d)
    batchnorm.reset_running_stats()


def optimiser_step(net: Net) -> None:
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    net.head(torch.ones(1, 2)).sum().backward()
    optimiser.step()


def one_more(net: Net) -> None:
    net.body[2].register_buffer("slope", torch.ones(1))


def one_less(net: Net) -> None:
    net.head.bias = None


def swapped(net: Net) -> None:
    """Two layers of one shape change places."""
    net.head, net.spare = net.spare, net.head


@pytest.mark.parametrize(
    "change",
    [
        in_place,
        state_dict,
        assigned_state_dict,
        replaced_parameter,
        replaced_data,
        replaced_module,
        another_dtype,
        another_dtype_and_back,
        statistics,
        reset_statistics,
        optimiser_step,
        one_more,
        one_less,
        swapped,
    ],
)
def test_a_change_is_noticed(change: Callable[[Net], None]) -> None:
    net = Net().eval()
    watch = WeightWatch(net)
    assert watch.unchanged(net)
    change(net)
    assert not watch.unchanged(net)
    assert WeightWatch(net).unchanged(net)


def test_use_and_mode_are_no_change() -> None:
    net = Net().eval()
    watch = WeightWatch(net)
    net.head(torch.ones(1, 2)).sum().backward()
    net.train().eval()
    net.to("cpu", torch.float32).requires_grad_(False)
    assert watch.unchanged(net)
    assert not watch.unchanged(copy.deepcopy(net))


def test_weights_made_in_inference_mode_can_be_watched() -> None:
    with torch.inference_mode():
        net = Net()
        watch = WeightWatch(net)
    assert watch.unchanged(net)
    net.head.weight = nn.Parameter(torch.zeros(2, 2))
    assert not watch.unchanged(net)


def test_the_network_is_not_kept_alive() -> None:
    net = Net()
    watch, reference = WeightWatch(net), weakref.ref(net)
    del net
    gc.collect()
    assert reference() is None
    assert watch.unchanged(nn.Module()) is False
