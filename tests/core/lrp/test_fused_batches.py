"""Batches, forward passes and short memory in the fused LRP engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from facestage.core.errors import ModelError
from facestage.core.lrp import counts_of, engine_of, explain, forward, lrp_preset
from facestage.core.lrp.fused import engine as fused
from facestage.core.lrp.fused.engine import FusedEngine
from facestage.core.network.folding import example_input, fold_batchnorm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.support.lrp_networks import BOTH, NETS, PAIRS, build, l1

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
    row_of = {frame: row for row, frame in enumerate(order)}
    frames = [row_of[frame] for frame, _ in pairs]
    with torch.no_grad():
        maps = engines[limit].relevance(x[order], frames, [output for _, output in pairs])
    for relevance_map, pair in zip(maps, pairs, strict=True):
        assert l1(relevance_map, expected[pair]) <= 1e-5


def test_no_pairs_give_no_maps(x: torch.Tensor) -> None:
    assert explain(build("residual"), x, [], engine="fused").shape == (0, 21, 21)
    assert explain(build("residual"), x, [], stop=12).shape == (0, 11, 11)
    assert explain(build("residual"), x, [], engine="reference", stop=12).shape == (0, 21, 21)


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
    for relevance_map, pair in zip(maps, pairs, strict=True):
        assert l1(relevance_map, expected[pair]) <= 1e-5


@pytest.mark.parametrize("name", NETS)
def test_what_ran_forward_gives_the_logits_and_their_maps(name: str, x: torch.Tensor) -> None:
    net = build(name)
    with torch.inference_mode():
        forwarded = forward(net, x * 1)
    assert forwarded is not None
    with torch.no_grad():
        torch.testing.assert_close(forwarded.logits, net(x), rtol=1e-4, atol=1e-5)
        assert forwarded.hidden is not None
        dense = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
        (last,) = (
            d for d in dense if (d.in_features, d.out_features) == (forwarded.hidden.shape[1], 5)
        )
        torch.testing.assert_close(last(forwarded.hidden), forwarded.logits)
    assert counts_of(net).pairs == 0
    assert l1(forwarded.explain(PAIRS), explain(net, x, PAIRS)) <= 1e-5
    assert forwarded.explain([]).shape == (0, 21, 21)
    assert (counts_of(net).frames, counts_of(net).pairs) == (6, 12)
    for pairs in ([(3, 0)], [(0, 5)], [(-1, 0)]):
        with pytest.raises(ModelError, match="pairs name"):
            forwarded.explain(pairs)


def test_what_cannot_wait_for_its_pairs_does_not_run_forward(
    x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = build("vgg-like")
    assert forward(net, x[:0]) is None
    smooth = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * 19 * 19, 5))
    assert engine_of(smooth.eval(), (2, 21, 21)).name == "reference"
    assert forward(smooth, x) is None
    monkeypatch.setattr(fused, "CHUNK_BYTES", 1)  # of one frame only the values are kept
    large = build("vgg-like")
    assert forward(large, x) is None
    assert forward(large, x[:1]) is not None

    def fails(text: str) -> None:
        def run(self: FusedEngine, x: torch.Tensor) -> Any:
            raise RuntimeError(text)

        monkeypatch.setattr(FusedEngine, "_forward", run)

    fails("not enough memory")
    assert forward(large, x[:1]) is None
    fails("something else")
    with pytest.raises(RuntimeError, match="something else"):
        forward(large, x[:1])


def test_short_memory_on_the_way_back_halves_the_rounds(
    x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = build("residual")
    expected = explain(net, x, PAIRS)
    backward = FusedEngine._backward

    def guarded(self: FusedEngine, values: Any, pairs: Any, *rest: Any) -> torch.Tensor:
        if len(pairs) > 2:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1")
        return backward(self, values, pairs, *rest)

    monkeypatch.setattr(FusedEngine, "_backward", guarded)
    forwarded = forward(net, x)
    assert forwarded is not None
    assert l1(forwarded.explain(PAIRS), expected) <= 1e-5
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
    assert fused.is_out_of_memory(RuntimeError(words)) is short
