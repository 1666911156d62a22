"""Kinds of network: short weights and compiled ones are explained, others are refused by name."""

from __future__ import annotations

import copy

import pytest
import torch
from facestage.core import lrp
from facestage.core.errors import ModelError
from torch import nn

PAIRS = [(0, 0), (1, 2), (1, 0)]
SHAPE = (1, 16, 16)


def network(*after_first: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        *after_first,
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()


def frames() -> torch.Tensor:
    return torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_short_weights_are_explained_as_exactly_as_long_ones(
    dtype: torch.dtype, engine: str
) -> None:
    short = network().to(dtype)
    long = copy.deepcopy(short).float()  # the same weights, rounded already
    x = frames().to(dtype)
    maps = lrp.explain(short, x, PAIRS, engine=engine)
    expected = lrp.explain(long, x.float(), PAIRS, engine=engine)
    assert maps.dtype == dtype
    torch.testing.assert_close(maps, expected.to(dtype))
    with torch.no_grad():
        short[-1].bias += 1  # and new weights are noticed
    assert not torch.equal(lrp.explain(short, x, PAIRS, engine=engine), maps)


def test_a_compiled_network_is_explained_by_its_layers() -> None:
    model = network()
    compiled = torch.compile(model)  # compiles when it first runs, which it need not do here
    assert torch.equal(lrp.explain(compiled, frames(), PAIRS), lrp.explain(model, frames(), PAIRS))
    assert lrp.engine_of(compiled, SHAPE).name == "fused"
    assert lrp.counts_of(compiled) == lrp.counts_of(model)
    ready = lrp.forward(compiled, frames())
    assert ready is not None
    torch.testing.assert_close(ready.logits, model(frames()))


@pytest.mark.parametrize("engine", lrp.ENGINES)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.jit.script(network()), "TorchScript.*nn.Module that it was made from"),
        (lambda: torch.jit.trace(network(), frames()), "TorchScript"),
        (lambda: network(torch.jit.script(nn.ReLU())), "'1' of Sequential is TorchScript"),
        (lambda: network(torch.compile(nn.ReLU())), "compiled by itself; compile the whole"),
        (lambda: network(nn.GroupNorm(2, 8)), "'1' of Sequential is a GroupNorm.*BatchNorm"),
        (lambda: network(nn.LayerNorm([8, 16, 16])), "LayerNorm"),
        (lambda: network(nn.InstanceNorm2d(8)), "InstanceNorm2d"),
        (lambda: network().to("meta"), "no weights; load"),
    ],
)
def test_what_would_be_explained_wrongly_is_refused_with_the_next_step(
    make: object, words: str, engine: str
) -> None:
    with pytest.raises(ModelError, match=words):
        lrp.explain(make(), frames(), PAIRS, engine=engine)  # type: ignore[operator]


def test_a_quantised_network_is_refused() -> None:
    try:
        quantised = torch.ao.quantization.quantize_dynamic(network(), {nn.Linear}, torch.qint8)
    except RuntimeError as error:
        pytest.skip(f"this build of torch does not quantise: {error}")
    with pytest.raises(ModelError, match=r"quantised.*before quantisation"):
        lrp.explain(quantised, frames(), PAIRS)


def test_an_instance_norm_with_running_statistics_is_none_that_looks() -> None:
    model = network(nn.InstanceNorm2d(8, track_running_stats=True))
    maps = lrp.explain(model, frames(), PAIRS)
    assert maps.abs().sum((1, 2)).min() > 0
