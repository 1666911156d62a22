"""Overlays: colours, contours, stripes, and that no mask reaches into another."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError
from facestage.core.render import over, overlays
from facestage.core.render.lettering import bgr
from numpy.typing import NDArray

ORANGE, BLUE, GREEN = "#E69F00", "#0072B2", "#009E73"
CELLS = 48


def mask(top: int, left: int, high: int, wide: int, value: int = 255) -> NDArray[np.uint8]:
    made = np.zeros((CELLS, CELLS), np.uint8)
    made[top : top + high, left : left + wide] = value
    return made


def random_masks(count: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    made = np.zeros((count, CELLS, CELLS), np.uint8)
    for one in made:
        for _ in range(3):
            y, x = rng.integers(0, CELLS - 4, 2)
            high, wide = rng.integers(1, 12, 2)
            one[y : y + high, x : x + wide] = rng.integers(1, 256)
    return made


def straight(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the colours of an overlay without alpha."""
    return pixels[..., :3] * (255.0 / np.maximum(pixels[..., 3:], 1))


@pytest.mark.parametrize("scale", [1, 2, 3, 7])
def test_an_area_has_its_colour_inside_a_lighter_contour(scale: int) -> None:
    (made,) = overlays(mask(10, 20, 12, 9)[None], [ORANGE], [1], scale)
    assert made.shape == (CELLS * scale, CELLS * scale, 4)
    middle = made[16 * scale, 24 * scale]
    np.testing.assert_allclose(straight(middle), bgr(ORANGE), atol=2)
    # Along a row through the middle: nothing, the contour, the area, the contour, nothing.
    row = made[16 * scale]
    edges = [20 * scale, 29 * scale]
    assert not row[: edges[0] - 2 * scale].any()
    assert not row[edges[1] + 2 * scale :].any()
    if scale > 1:
        for edge in edges:
            contour = row[edge - scale : edge + scale]
            strongest = contour[contour[:, 3].argmax()]
            assert strongest[3] > middle[3]
            assert (straight(strongest) >= np.array(bgr(ORANGE)) - 3).all()
            assert straight(strongest).min() > min(bgr(ORANGE)) + 60


@pytest.mark.parametrize("scale", [2, 5])
def test_the_contour_lies_where_the_cells_end(scale: int) -> None:
    (made,) = overlays(mask(8, 12, 20, 16)[None], [BLUE], [1], scale)
    across = made[18 * scale, :, 3].astype(int)
    down = made[:, 20 * scale, 3].astype(int)
    for profile, begin, end in ((across, 12, 28), (down, 8, 28)):
        found = profile.argmax(), len(profile) - 1 - profile[::-1].argmax()
        assert abs(found[0] + 0.5 - begin * scale) <= 1 + 0.2 * scale
        assert abs(found[1] + 0.5 - end * scale) <= 1 + 0.2 * scale


def test_opacity_grows_with_the_relevance() -> None:
    faint, strong = mask(10, 10, 10, 10, value=1), mask(10, 10, 10, 10, value=255)
    one, other = overlays(np.stack([faint, strong]), [BLUE, BLUE], [1, 1])
    assert 0.29 * 255 < one[30, 30, 3] < other[30, 30, 3] < 0.64 * 255


def test_colours_are_premultiplied() -> None:
    made = overlays(random_masks(6), [ORANGE, BLUE, GREEN] * 2, [4, 2])
    assert (made[..., :3].max(axis=-1) <= made[..., 3]).all()
    assert not made[made[..., 3] == 0].any()


@pytest.mark.parametrize("scale", [2, 4])
def test_frames_are_painted_alike_alone_and_in_company(scale: int) -> None:
    masks = random_masks(7, seed=3)
    colours = [ORANGE, BLUE, GREEN, ORANGE, BLUE, GREEN, BLUE]
    counts = [3, 0, 1, 3]
    made = overlays(masks, colours, counts, scale)
    first = 0
    for picture, count in zip(made, counts, strict=True):
        part = slice(first, first + count)
        first += count
        np.testing.assert_array_equal(
            picture, overlays(masks[part], colours[part], [count], scale)[0]
        )
    assert not made[1].any()


def test_no_mask_reaches_into_another_one_or_over_the_border() -> None:
    bottom, top = mask(CELLS - 6, 0, 6, CELLS), mask(0, 0, 6, CELLS)
    one, other = overlays(np.stack([bottom, top]), [ORANGE, BLUE], [1, 1])
    assert not one[: 2 * (CELLS - 7)].any()
    assert not other[2 * 7 :].any()
    assert one[-1, CELLS, 3] > 0  # each goes on to its own border
    assert other[0, CELLS, 3] > 0


def test_overlapping_areas_take_turns_in_stripes() -> None:
    both = np.stack([mask(8, 8, 30, 30, 255), mask(8, 8, 30, 30, 1)])
    (made,) = overlays(both, [ORANGE, BLUE], [2], 4)
    inside = made[4 * 12 : 4 * 34, 4 * 12 : 4 * 34]
    seen = straight(inside)
    shares = [
        (np.abs(seen - np.array(bgr(colour))).max(axis=-1) < 4).mean() for colour in (ORANGE, BLUE)
    ]
    assert sum(shares) > 0.99
    assert min(shares) > 0.4  # also of the one with the least relevance
    # Stripes stay where they are when the areas move: they do not flicker in a video.
    moved = np.stack([mask(9, 9, 30, 30, 255), mask(9, 9, 30, 30, 1)])
    (later,) = overlays(moved, [ORANGE, BLUE], [2], 4)
    common = np.s_[4 * 12 : 4 * 34, 4 * 12 : 4 * 34]
    assert (made[common] == later[common]).all(axis=-1).mean() > 0.99


def test_beside_its_stripes_the_strongest_area_is_seen() -> None:
    # Three projections, the third elsewhere: in its stripes the stronger of the two others shows.
    masks = np.stack([mask(4, 4, 16, 16, 255), mask(4, 4, 16, 16, 60), mask(30, 30, 8, 8, 90)])
    (made,) = overlays(masks, [ORANGE, BLUE, GREEN], [3], 4)
    seen = straight(made[4 * 8 : 4 * 16, 4 * 8 : 4 * 16])
    orange, blue, green = (
        (np.abs(seen - np.array(bgr(colour))).max(axis=-1) < 4).mean()
        for colour in (ORANGE, BLUE, GREEN)
    )
    assert green == 0
    assert 0.2 < blue < 0.45
    assert orange > 0.55


def test_a_contour_inside_a_stronger_area_is_seen() -> None:
    masks = np.stack([mask(4, 4, 36, 36), mask(16, 16, 10, 10)])
    (made,) = overlays(masks, [ORANGE, BLUE], [2], 4)
    row = straight(made[4 * 21])
    light_blue = 255 - 0.6 * (255 - np.array(bgr(BLUE)))
    near = np.abs(row - light_blue).max(axis=-1) < 12
    assert near[4 * 15 : 4 * 17].any()
    assert near[4 * 25 : 4 * 27].any()


def test_enlarged_contours_are_smooth_and_leave_out_single_cells() -> None:
    single, corner = mask(20, 20, 1, 1), mask(10, 10, 20, 20)
    shown, lone = overlays(np.stack([corner, single]), [ORANGE, BLUE], [1, 1], 8)
    assert lone[..., 3].max() < 0.62 * 255  # no contour
    # The contour cuts the corner: there it lies further inside than along the sides.
    side = shown[8 * 20, :, 3].argmax()
    diagonal = next(n for n in range(8 * 20) if shown[n, n, 3] > 0.7 * 255)
    assert diagonal - side >= 2
    # With two pixels per cell single cells are seen, contour and all.
    assert overlays(single[None], [BLUE], [1], 2)[0, ..., 3].max() > 0.7 * 255


def test_empty_masks_and_no_masks_leave_the_face_as_it_is() -> None:
    assert overlays(np.zeros((0, 48, 48), np.uint8), [], []).shape == (0, 96, 96, 4)
    assert not overlays(np.zeros((0, 48, 48), np.uint8), [], [0, 0]).any()
    assert not overlays(np.zeros((2, 48, 48), np.uint8), [BLUE, BLUE], [2]).any()


def test_over_blends_by_alpha_over_a_dimmed_face() -> None:
    rng = np.random.default_rng(2)
    crops = rng.integers(0, 256, (2, 96, 96)).astype(np.uint8)
    shown = overlays(random_masks(5, seed=4), [ORANGE, BLUE, GREEN, BLUE, ORANGE], [3, 2])
    made = over(crops, shown)
    ground = crops[..., None] * 0.58 + 40
    expected = shown[..., :3] + ground * (1 - shown[..., 3:] / 255.0)
    assert made.dtype == np.uint8
    assert np.abs(made - np.clip(expected, 0, 255)).max() <= 1.6  # three roundings
    bare = shown[..., 3] == 0
    grey = made[bare]
    assert (grey == grey[:, :1]).all()


def test_over_takes_crops_that_are_views() -> None:
    crops = np.random.default_rng(3).integers(0, 256, (4, 96, 96)).astype(np.uint8)
    shown = overlays(random_masks(2), [ORANGE, BLUE], [1, 1])
    np.testing.assert_array_equal(over(crops[::2], shown), over(crops[::2].copy(), shown))
    assert over(crops[:0], shown[:0]).shape == (0, 96, 96, 3)


@pytest.mark.parametrize(
    ("masks", "colours", "counts", "scale", "word"),
    [
        (np.zeros((1, 48, 48), np.float32), [BLUE], [1], 2, "uint8"),
        (np.zeros((48, 48), np.uint8), [BLUE], [1], 2, "(P, M, M)"),
        (np.zeros((1, 48, 40), np.uint8), [BLUE], [1], 2, "(P, M, M)"),
        (np.zeros((2, 48, 48), np.uint8), [BLUE], [2], 2, "1 colours"),
        (np.zeros((2, 48, 48), np.uint8), [BLUE] * 2, [1], 2, "[1]"),
        (np.zeros((2, 48, 48), np.uint8), [BLUE] * 2, [3, -1], 2, "[3, -1]"),
        (np.zeros((128, 8, 8), np.uint8), [BLUE] * 128, [128], 2, "127"),
        (np.zeros((1, 48, 48), np.uint8), [BLUE], [1], 0, "at least 1"),
        (np.zeros((1, 0, 0), np.uint8), [BLUE], [1], 2, "at least 1"),
    ],
)
def test_what_cannot_be_painted_is_refused(
    masks: NDArray[np.uint8], colours: list[str], counts: list[int], scale: int, word: str
) -> None:
    with pytest.raises(ConfigError) as error:
        overlays(masks, colours, counts, scale)
    assert word in str(error.value)


def test_as_many_masks_as_a_byte_can_number_keep_their_colours() -> None:
    masks = np.zeros((127, 48, 48), np.uint8)
    masks[126] = mask(10, 10, 20, 20)
    (made,) = overlays(masks, [BLUE] * 126 + [ORANGE], [127])
    np.testing.assert_allclose(straight(made[40, 40]), bgr(ORANGE), atol=2)


def test_over_wants_faces_of_the_size_of_the_overlays() -> None:
    shown = np.zeros((1, 96, 96, 4), np.uint8)
    for crops in (
        np.zeros((1, 48, 48), np.uint8),
        np.zeros((2, 96, 96), np.uint8),
        np.zeros((1, 96, 96), np.float32),
    ):
        with pytest.raises(ConfigError, match="of their own size"):
            over(crops, shown)


def test_pictures_do_not_depend_on_the_threads_of_opencv() -> None:
    masks = random_masks(12, seed=8)
    before = cv2.getNumThreads()
    made = overlays(masks, [ORANGE] * 12, [12])
    try:
        cv2.setNumThreads(1 if before != 1 else 2)
        np.testing.assert_array_equal(overlays(masks, [ORANGE] * 12, [12]), made)
    finally:
        cv2.setNumThreads(before)
