"""Convolutions with weights laid out once: equal to the plain functions, whatever the shape."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from facestage.core.lrp import explain
from facestage.core.lrp.fused.program import Convolution
from facestage.core.network import onednn
from facestage.core.network.onednn import (
    ConvolutionShapes,
    Convolve,
    ConvolveTranspose,
    can_prepack,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


@pytest.fixture
def without_prepacking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A build of torch without the compiler's functions."""
    can_prepack.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    yield
    can_prepack.cache_clear()


@st.composite
def layers(draw: st.DrawFn) -> tuple[ConvolutionShapes, torch.Tensor, torch.Tensor | None]:
    """Any convolution that fits its input, with weights and a bias or none."""
    groups = draw(st.sampled_from([1, 1, 2]))
    inputs, outputs = (groups * draw(st.integers(1, 5)) for _ in range(2))
    kernel, stride = ((draw(st.integers(1, 4)), draw(st.integers(1, 4))) for _ in range(2))
    dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    padding = draw(st.integers(0, reach[0])), draw(st.integers(0, reach[1]))
    least = [max(1, r + 1 - 2 * p) for r, p in zip(reach, padding, strict=True)]
    side = [draw(st.integers(size, 14)) for size in least]
    random = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    weight = torch.randn(outputs, inputs // groups, *kernel, generator=random)
    bias = torch.randn(outputs, generator=random) if draw(st.booleans()) else None
    conv = Convolution((0,), weight, bias, stride, padding, dilation, groups)
    x = torch.zeros(1, inputs, *side)
    result = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return ConvolutionShapes(conv, x.shape[1:], result.shape[1:]), weight, bias


def laid_out(shape: tuple[int, ...], layout: str) -> torch.Tensor:
    """Values in a layout that steps of the engine produce."""
    batch, channels, height, width = shape
    if layout == "expanded":  # what an average pool leaves
        return torch.randn(batch, channels, 1, 1).expand(shape)
    x = torch.randn(batch, 2 * channels, height, width)
    x = x.contiguous(memory_format=torch.channels_last) if layout == "chunk" else x
    return x.chunk(2, dim=1)[1] if layout == "chunk" else x[:, :channels].contiguous()


DTYPES = {torch.float32: 1e-4, torch.bfloat16: 1e-2}
"""Dtypes that are packed, and how far off a result may be, of the largest value or 1."""


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None)  # shared machines stall now and then
@given(layers(), st.integers(1, 3), st.sampled_from(["rows", "chunk", "expanded"]))
def test_equals_the_plain_convolution_and_its_transpose(
    dtype: torch.dtype,
    case: tuple[ConvolutionShapes, torch.Tensor, torch.Tensor | None],
    batch: int,
    layout: str,
) -> None:
    layer, weight, bias = case
    conv = layer.conv
    torch.manual_seed(0)
    # What bfloat16 can hold, so that only the arithmetic differs.
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    x = laid_out((batch, *layer.input_shape), layout).to(dtype)
    leaf = x.float().requires_grad_()
    expected = F.conv2d(
        leaf,
        weight.float(),
        None if bias is None else bias.float(),
        *(conv.stride, conv.padding, conv.dilation, conv.groups),
    )
    if dtype == torch.float32:
        assert torch.allclose(Convolve(layer, weight, bias)(x), expected, atol=1e-4)
    s = laid_out(tuple(expected.shape), layout).to(dtype)
    (transposed,) = torch.autograd.grad(expected, leaf, s.float())
    result = ConvolveTranspose(layer, weight)(s)
    assert result.dtype == dtype
    most = DTYPES[dtype] * max(1.0, float(transposed.abs().max()))
    assert torch.allclose(result.float(), transposed, 0, most)


def test_a_bias_whose_entries_lie_apart_is_read_right() -> None:
    weight = torch.randn(4, 2, 3, 3)
    conv = Convolution((0,), weight, None, (1, 1), (1, 1), (1, 1), 1)
    x, bias = torch.randn(1, 2, 6, 6), torch.randn(4, 5)[:, 2]
    result = Convolve(ConvolutionShapes(conv, (2, 6, 6), (4, 6, 6)), weight, bias)(x)
    assert torch.allclose(result, F.conv2d(x, weight, bias, padding=1), atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "groups", "expected"),
    [
        (torch.float32, 1, True),
        (torch.bfloat16, 1, None),
        (torch.float64, 1, False),
        (torch.float32, 2, False),
    ],
)
def test_these_convolutions_are_packed(
    dtype: torch.dtype, groups: int, expected: bool | None
) -> None:
    """The releases of torch that pyproject.toml allows all can, where oneDNN is built in."""
    weight = torch.randn(4, 2 // groups, 3, 3, dtype=dtype)
    conv = Convolution((0,), weight, None, (1, 1), (1, 1), (1, 1), groups)
    layer = ConvolutionShapes(conv, (2, 6, 6), (4, 6, 6))
    if expected is None:  # the processor decides
        expected = can_prepack(dtype)
    expected = expected and torch.backends.mkldnn.is_available()
    assert Convolve(layer, weight, None).prepacked == expected
    assert ConvolveTranspose(layer, weight).prepacked == expected


def test_a_single_column_left_by_a_stride_comes_out_right() -> None:
    """Packed, some processors read past the input there."""
    torch.manual_seed(0)
    weight, x = torch.randn(1, 1, 2, 4), torch.randn(3, 1, 3, 5)
    conv = Convolution((0,), weight, None, (1, 2), (0, 0), (1, 1), 1)
    result = Convolve(ConvolutionShapes(conv, (1, 3, 5), (1, 2, 1)), weight, None)(x)
    expected = F.conv2d(x.double(), weight.double(), stride=(1, 2))
    assert torch.allclose(result.double(), expected, atol=1e-5)


def test_nothing_dilated_runs_in_bfloat16() -> None:
    """Some processors crash where there are fewer rows than the dilation, packed or not."""
    torch.manual_seed(0)
    dtype, weight = torch.bfloat16, torch.randn(10, 10, 4, 3).to(torch.bfloat16)
    for groups in (1, 2):
        group_weight = weight[:, : 10 // groups]
        conv = Convolution((0,), group_weight, None, (1, 1), (3, 0), (2, 2), groups)
        transpose = ConvolveTranspose(
            ConvolutionShapes(conv, (10, 1, 12), (10, 1, 8)), group_weight
        )
        assert not transpose.prepacked
        s = torch.randn(2, 10, 1, 8).to(dtype)
        result = transpose(s)
        assert result.dtype == dtype
        expected = F.conv_transpose2d(
            s.double(), group_weight.double(), padding=(3, 0), dilation=2, groups=groups
        )
        assert torch.allclose(result.double(), expected, atol=1e-2 * float(expected.abs().max()))
    straight = Convolution((0,), weight, None, (1, 1), (3, 0), (1, 1), 1)
    transpose = ConvolveTranspose(ConvolutionShapes(straight, (10, 1, 12), (10, 4, 10)), weight)
    assert transpose.prepacked == can_prepack(dtype)


@pytest.mark.usefixtures("without_prepacking")
def test_a_build_that_cannot_pack_is_found_out() -> None:
    assert not any(can_prepack(dtype) for dtype in DTYPES)


def test_a_processor_without_bfloat16_packs_float32_only(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = onednn._convolve

    def convolve(conv: Convolution, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        if x.dtype == torch.bfloat16:
            raise RuntimeError("mkldnn_convolution: bf16 path needs the cpu support avx512bw")
        return plain(conv, x, *rest)

    can_prepack.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(onednn, "_convolve", convolve)
            assert can_prepack(torch.float32) == torch.backends.mkldnn.is_available()
            assert not can_prepack(torch.bfloat16)
    finally:
        can_prepack.cache_clear()


def test_functions_that_give_other_values_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    can_prepack.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(onednn, "_convolve", lambda conv, x, *_: F.pad(x, (0,) * 5 + (2,)))
            assert not can_prepack(torch.float32)
    finally:
        can_prepack.cache_clear()


@pytest.mark.parametrize(("dtype", "most"), [(None, 1e-5), (torch.bfloat16, 2e-2)])
def test_maps_are_the_same_without_packing(
    dtype: torch.dtype | None, most: float, request: pytest.FixtureRequest
) -> None:
    torch.manual_seed(1)
    convs = (nn.Conv2d(1, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 4, 2, 2))
    flat = (nn.Flatten(), nn.Linear(4 * 5 * 5, 3))
    net = nn.Sequential(*(m for conv in convs for m in (conv, nn.ReLU())), *flat).eval()
    x = torch.randn(2, 1, 20, 20)
    pairs = [(0, 1), (1, 0), (1, 2)]
    packed_maps = explain(net, x, pairs, engine="fused", dtype=dtype)
    request.getfixturevalue("without_prepacking")
    # Another network with the same weights, because the first stays prepared.
    plain = explain(nn.Sequential(*net).eval(), x, pairs, engine="fused", dtype=dtype)
    assert float((packed_maps - plain).abs().sum() / plain.abs().sum()) <= most
