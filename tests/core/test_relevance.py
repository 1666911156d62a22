"""Descriptors and projections, against plain loops, one map at a time, and their properties."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from facestage.core import relevance
from facestage.core.errors import ConfigError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tests.support import relevance_twins as twins

# Shared machines stall now and then: no deadline.
unhurried = settings(deadline=None, max_examples=50)

MAPS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7),
    elements=st.floats(-8, 8, width=32),
)


def describe(
    maps: NDArray[np.float32], side: int = 16, mode: str = "positive"
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rows, valid = relevance.describe(maps, side, mode)
    return rows.numpy(), valid.numpy()


def pool(maps: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    return relevance.pool(maps, side).numpy()


def top_x(maps: NDArray[np.float32], x: float = 0.25) -> NDArray[np.bool_]:
    return relevance.top_x(maps, x).numpy()


def pool_by_loop(image: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Cell means with exact overlaps, one pixel at a time."""
    height, width = image.shape
    out = np.zeros((side, side))

    def overlap(cell: int, pixel: int, size: int) -> Fraction:
        low = max(Fraction(cell * size, side), Fraction(pixel))
        high = min(Fraction((cell + 1) * size, side), Fraction(pixel + 1))
        return max(high - low, Fraction(0))

    for i in range(side):
        for j in range(side):
            for y in range(height):
                for x in range(width):
                    share = overlap(i, y, height) * overlap(j, x, width)
                    out[i, j] += float(share) * float(image[y, x])
    return out * side * side / (height * width)


def top_x_by_loop(image: NDArray[np.float32], x: float) -> NDArray[np.bool_]:
    """Add the largest remaining pixel until the sum reaches x·M."""
    flat = [max(float(value), 0.0) for value in image.ravel()]
    ranked = sorted(range(len(flat)), key=lambda i: (-flat[i], i))
    total = 0.0
    for i in ranked:
        total += flat[i]
    mask = np.zeros(len(flat), bool)
    got = 0.0
    for i in ranked:
        if flat[i] <= 0 or got >= x * total:
            break
        mask[i] = True
        got += flat[i]
    return mask.reshape(image.shape)


def test_pooling_96_to_16_is_the_mean_of_six_by_six() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 96, 96)).astype(np.float32)
    expected = maps.reshape(3, 16, 6, 16, 6).astype(np.float64).mean(axis=(2, 4))
    np.testing.assert_allclose(pool(maps, 16), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("height", "width", "side"), [(7, 5, 3), (4, 6, 4), (3, 2, 5), (1, 1, 2)])
def test_pooling_of_any_size_matches_exact_overlaps(height: int, width: int, side: int) -> None:
    maps = np.random.default_rng(1).normal(size=(2, height, width)).astype(np.float32)
    expected = np.stack([pool_by_loop(image, side) for image in maps])
    np.testing.assert_allclose(pool(maps, side), expected, atol=1e-12)


@unhurried
@given(maps=MAPS, side=st.integers(1, 9))
def test_pooling_keeps_the_mean(maps: NDArray[np.float32], side: int) -> None:
    np.testing.assert_allclose(
        pool(maps, side).mean(axis=(1, 2)), maps.astype(float).mean(axis=(1, 2)), atol=1e-9
    )


def test_descriptor_is_the_normalised_pooled_positive_part() -> None:
    maps = np.random.default_rng(2).normal(size=(4, 12, 12)).astype(np.float32)
    got, valid = describe(maps, side=4)
    assert got.dtype == np.float32
    assert valid.all()
    for row, image in zip(got, maps, strict=True):
        cells = pool_by_loop(np.maximum(image, 0), 4).ravel()
        np.testing.assert_allclose(row, cells / np.linalg.norm(cells), atol=1e-6)


def test_signed_descriptor_tells_a_map_from_its_negative() -> None:
    maps = np.random.default_rng(3).normal(size=(1, 16, 16)).astype(np.float32)
    signed, _ = describe(np.concatenate((maps, -maps)), side=8, mode="signed")
    assert signed[0] @ signed[1] == pytest.approx(-1, abs=1e-6)
    positive, _ = describe(np.concatenate((maps, -maps)), side=8)
    assert positive[0] @ positive[1] > 0


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1.0, 1e20])
def test_descriptor_does_not_depend_on_scale(scale: float) -> None:
    maps = np.random.default_rng(4).uniform(size=(2, 32, 32))
    small, valid = describe((maps * scale).astype(np.float32))
    large, _ = describe(maps.astype(np.float32))
    assert valid.all()
    np.testing.assert_allclose(small, large, atol=1e-6)


def test_maps_without_descriptor_are_zero_rows_and_do_not_touch_the_others() -> None:
    good = np.random.default_rng(5).uniform(size=(16, 16)).astype(np.float32)
    nan, infinite = good.copy(), good.copy()
    nan[3, 4], infinite[0, 0] = np.nan, np.inf
    maps = np.stack([good, np.zeros_like(good), -good, nan, infinite])
    rows, valid = describe(maps)
    assert valid.tolist() == [True, False, False, False, False]
    assert not rows[1:].any()
    np.testing.assert_array_equal(rows[:1], describe(good[None])[0])


def test_no_maps_give_no_descriptors() -> None:
    rows, valid = describe(np.empty((0, 96, 96), np.float32))
    assert rows.shape == (0, 256)
    assert valid.shape == (0,)
    assert top_x(np.empty((0, 96, 96), np.float32)).shape == (0, 96, 96)


@unhurried
@given(maps=MAPS, x=st.floats(0, 1))
def test_top_x_matches_the_loop(maps: NDArray[np.float32], x: float) -> None:
    expected = np.stack([top_x_by_loop(image, x) for image in maps])
    np.testing.assert_array_equal(top_x(maps, x), expected)


@unhurried
@given(maps=MAPS, x=st.floats(0.01, 0.99))
def test_top_x_is_the_smallest_set_that_reaches_the_mass(
    maps: NDArray[np.float32], x: float
) -> None:
    for image, mask in zip(maps, top_x(maps, x), strict=True):
        values = np.maximum(image, 0).astype(float)
        kept, total = values[mask], values.sum()
        assert kept.sum() >= x * total - 1e-9
        if kept.size:
            assert kept.sum() - kept.min() < x * total + 1e-9  # one pixel fewer is too little
            rest = values[~mask]
            assert not rest.size or kept.min() >= rest.max()  # none left out is larger
        else:
            assert total == 0


def test_top_x_is_a_quantile_of_mass_not_of_pixels() -> None:
    image = np.full((10, 10), 1.0, np.float32)
    image[2, 3] = 99.0  # half of the mass in one pixel
    assert top_x(image[None], 0.5)[0].sum() == 1
    assert top_x(image[None], 0.25)[0].sum() == 1
    assert top_x(image[None], 0.51)[0].sum() == 3


def test_top_x_takes_equal_pixels_in_reading_order() -> None:
    mask = top_x(np.ones((1, 2, 4), np.float32), 0.5)[0]
    assert mask.tolist() == [[True] * 4, [False] * 4]


def test_top_x_never_selects_negative_or_zero_relevance() -> None:
    image = np.array([[[-5.0, 0.0, 2.0]]], np.float32)
    assert top_x(image, 1.0).tolist() == [[[False, False, True]]]
    assert not top_x(-np.abs(image), 1.0).any()


@pytest.mark.parametrize(
    "call",
    [
        lambda: describe(np.ones((4, 4), np.float32)),
        lambda: describe(np.ones((1, 4, 4), np.float32), side=0),
        lambda: describe(np.ones((1, 4, 4), np.float32), mode="abs"),
        lambda: top_x(np.ones((1, 4, 4), np.float32), 1.5),
        lambda: top_x(np.ones((1, 0, 4), np.float32)),
    ],
)
def test_impossible_requests_are_config_errors(call: object) -> None:
    assert callable(call)
    with pytest.raises(ConfigError):
        call()


# --- a batch against one map at a time -----------------------------------------------------------


def batch(kind: str, count: int = 12, side: int = 96) -> NDArray[np.float32]:
    """Return maps of one kind, ``(count, side, side)``."""
    rng = np.random.default_rng(7)
    shape = (count, side, side)
    heavy = rng.normal(size=shape) * np.exp(2 * rng.normal(size=shape))
    made = {
        "random": heavy,
        "tied": rng.integers(-3, 4, shape).astype(float),
        "constant": np.ones(shape),
        "zero": np.zeros(shape),
        "negative": -np.abs(heavy),
        "tiny": heavy * 1e-39,
        "mixed": np.where(np.arange(count)[:, None, None] % 3, heavy, np.round(heavy)),
    }[kind]
    if kind == "mixed":
        made[1], made[4] = 0, -np.abs(made[4])
    return made.astype(np.float32)


KINDS = ("random", "tied", "constant", "zero", "negative", "tiny", "mixed")


@pytest.mark.parametrize("side", [96, 37])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_the_projections_of_its_maps(kind: str, side: int) -> None:
    maps = batch(kind, side=side)
    for x in (0.0, 0.25, 0.5, 1.0):
        expected = np.stack([twins.top_x(image, x) for image in maps])
        np.testing.assert_array_equal(top_x(maps, x), expected)


@pytest.mark.parametrize("mode", ["positive", "signed"])
@pytest.mark.parametrize("side", [96, 37])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_the_descriptors_of_its_maps(kind: str, side: int, mode: str) -> None:
    maps = batch(kind, side=side)
    rows, valid = describe(maps, mode=mode)
    expected = [twins.describe(image, mode=mode) for image in maps]
    assert valid.tolist() == [has for _, has in expected]
    # Summed in another order, in float64: the last bit of a float32 at most.
    np.testing.assert_allclose(rows, np.stack([row for row, _ in expected]), rtol=0, atol=6e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_the_cells_of_its_maps(kind: str) -> None:
    maps = batch(kind)
    cells, top = relevance.cells(maps, 48, 0.25)
    assert cells.dtype == top.dtype == torch.uint8
    for image, got, level in zip(maps, cells.numpy(), top.tolist(), strict=True):
        if kind != "tiny":  # where the twin's 255 over the peak overflows
            expected, begins = twins.cells(image, 48, 0.25)
            np.testing.assert_array_equal(got, expected)
            assert level == begins
        # Rounding to bytes may let in cells equal to the weakest, and never loses one.
        means = relevance.pool(np.maximum(image, 0)[None], 48).float()
        kept = relevance.top_x(means, 0.25)[0].numpy()
        assert (got[kept] >= level).all()
        assert got.max() == (255 if image.max() > 0 else 0)


@pytest.mark.parametrize("side", [48, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_made_alike_on_any_device(kind: str, side: int) -> None:
    maps = torch.from_numpy(batch(kind))
    maps[3, 7, 8] = torch.nan
    for x in (0.0, 0.25, 1.0):
        cells, level = relevance._cells_host(maps, side, x)
        there, begins = relevance._cells_device(maps, side, x)  # the twin needs no device
        assert int((cells.int() - there.int()).abs().max()) <= 1  # halves may be rounded otherwise
        same = (cells == there).flatten(1).all(dim=1)
        assert same.sum() >= 6
        assert torch.equal(level[same], begins[same])
        assert not cells[3].any()
        assert level[3] == begins[3] == 255


def test_cells_of_no_maps_and_of_no_size() -> None:
    cells, level = relevance.cells(np.empty((0, 96, 96), np.float32), 48)
    assert cells.shape == (0, 48, 48)
    assert level.shape == (0,)
    with pytest.raises(ConfigError, match="at least 1 cell"):
        relevance.cells(batch("random", count=1), 0)


@pytest.mark.parametrize("x", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_the_cells_from_the_level_on(kind: str, x: float) -> None:
    cells, level = relevance.cells(batch(kind), 48, x)
    masks = relevance.masks(batch(kind), 48, x)
    assert masks.dtype == torch.uint8
    for mask, of_map, least in zip(masks, cells, level.tolist(), strict=True):
        kept = of_map >= least
        assert torch.equal(mask[kept], of_map[kept])
        assert not mask[~kept].any()
        assert mask.any() == of_map.any()
    assert torch.equal(relevance._kept_device(cells, level), masks)
    assert relevance.masks(np.empty((0, 96, 96), np.float32), 48).shape == (0, 48, 48)


@pytest.mark.parametrize("kind", ["random", "tied", "mixed"])
def test_a_map_is_the_same_alone_and_in_company(kind: str) -> None:
    maps = batch(kind)
    rows, valid = describe(maps)
    masks, (cells, top) = top_x(maps), relevance.cells(maps, 48)
    for n in range(len(maps)):
        alone = maps[n : n + 1]
        np.testing.assert_array_equal(describe(alone)[0][0], rows[n])
        assert describe(alone)[1][0] == valid[n]
        np.testing.assert_array_equal(top_x(alone)[0], masks[n])
        own, level = relevance.cells(alone, 48)
        assert torch.equal(own[0], cells[n])
        assert level[0] == top[n]


def test_maps_may_be_tensors_or_any_kind_of_array() -> None:
    maps = batch("random", count=3, side=24)
    expected = top_x(maps)
    frozen = maps.copy()
    frozen.flags.writeable = False
    for one in (torch.from_numpy(maps), torch.from_numpy(maps).double(), frozen):
        np.testing.assert_array_equal(relevance.top_x(one).numpy(), expected)
    turned = np.ascontiguousarray(maps[:, ::-1])[:, ::-1]
    np.testing.assert_array_equal(top_x(turned), expected)
    leaf = torch.from_numpy(maps).requires_grad_()
    assert not relevance.describe(leaf)[0].requires_grad


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_broken_map_breaks_no_other(bad: float) -> None:
    maps = batch("random", count=4, side=37)
    broken = maps.copy()
    broken[2, 5, 6] = bad
    whole = [0, 1, 3]
    np.testing.assert_array_equal(describe(broken)[0][whole], describe(maps)[0][whole])
    np.testing.assert_array_equal(top_x(broken)[whole], top_x(maps)[whole])
    assert not describe(broken, mode="signed")[1][2]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_what_the_cpu_gives(kind: str) -> None:
    maps = torch.from_numpy(batch(kind))
    there = maps.cuda()
    rows, valid = relevance.describe(there)
    assert torch.equal(valid.cpu(), relevance.describe(maps)[1])
    torch.testing.assert_close(rows.cpu(), relevance.describe(maps)[0], rtol=0, atol=6e-8)
    # A running sum is made in another order there: a pixel at the very edge may differ.
    differ = (relevance.top_x(there).cpu() != relevance.top_x(maps)).sum(dim=(1, 2))
    assert int(differ.max()) <= 1
    cells, level = relevance.cells(there, 48)
    near = (cells.cpu().int() - relevance.cells(maps, 48)[0].int()).abs()
    assert int(near.max()) <= 1
    assert torch.equal(relevance.masks(there, 48) > 0, cells >= level[:, None, None])


@pytest.mark.gpu
def test_nothing_waits_for_a_gpu() -> None:
    maps = torch.from_numpy(batch("random")).cuda()
    relevance.describe(maps), relevance.masks(maps, 48)  # what is prepared once
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        relevance.describe(maps)
        relevance.top_x(maps)
        relevance.masks(maps, 48)
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize("x", [0.0, 0.1, 0.25, 0.9, 1.0])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_the_brink_of_a_projection_is_where_its_mask_ends(x: float, scale: float) -> None:
    rng = np.random.default_rng(11)
    sharp = rng.exponential(size=(6, 12, 12)) ** 3
    flat = rng.integers(0, 3, (6, 12, 12)) * 1.0  # ties, and zeros
    lone = np.zeros((2, 12, 12))
    lone[1, 3, 4] = 1
    maps = np.concatenate((sharp, flat, lone, np.ones((1, 12, 12)))).astype(np.float32)
    maps[::2] *= np.float32(scale)  # faint and strong maps side by side
    masks = relevance.top_x(maps, x).numpy()
    for among, chosen in ((slice(None), masks), (slice(3, 4), masks[3:4]), (slice(0), masks[:0])):
        peak, kept, dropped = relevance.brinks(maps[among], x)
        assert peak.shape == kept.shape == dropped.shape == (len(chosen),)
        ends = zip(maps[among], chosen, peak, kept, dropped, strict=True)
        for one, mask, most, least, rest in ends:
            if not mask.any():
                assert (least, rest) == (np.inf, 0)
                continue
            assert (most, least) == (one.max(), one[mask].min())
            assert rest == one[~mask].max(initial=0)


def test_the_brink_asks_for_a_share() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        relevance.brinks(np.ones((1, 2, 2), np.float32), 1.5)
