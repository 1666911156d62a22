"""Pictures: colours, projections, composites, lettering and the strip."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from facestage.core.action_units import AU_COLOURS
from facestage.core.errors import ConfigError
from facestage.core.render import (
    MAX_STRIP_STAGES,
    SequencePictures,
    composite,
    heatmap,
    legend,
    projection,
    stage_seconds,
    strip,
)
from facestage.core.render.layers import compose, layers
from facestage.core.render.lettering import bgr, draw_text, fit_text, ink_on, luminance, text_width
from facestage.core.render.projections import enlarge
from facestage.core.types import (
    LOST,
    NONE,
    FaceState,
    FrameRow,
    Prototype,
    SequenceResult,
    StageLabels,
)
from numpy.typing import NDArray

from tests.support import relevance_twins as twins
from tests.support.sequences import sequence_result

BLUE, WHITE, RED = (255, 0, 0), (255, 255, 255), (0, 0, 255)
SIDE = 48


def blob(x: float, y: float, sigma: float = 4.0, side: int = SIDE) -> NDArray[np.float32]:
    rows, columns = np.mgrid[0:side, 0:side]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)).astype(np.float32)


def face(side: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(60, 200, (side, side), dtype=np.uint8)


def sequence(labels: list[StageLabels], fps: float = 25.0) -> SequenceResult:
    """Return a result whose frames carry these labels; AU and letter set the map."""
    rows = tuple(
        FrameRow(i, i / 25, FaceState.LOST if label == LOST else FaceState.TRACKED, None, None, {})
        for i, label in enumerate(labels)
    )
    names = sorted({name for label in labels if label not in (NONE, LOST) for name in label})
    prototypes = {
        name: Prototype(
            int(name[2:4]), name[5:], blob(10 + 3 * k, 20), 1, 0, 0, face(2 * SIDE, seed=k)
        )
        for k, name in enumerate(names)
    }
    result = sequence_result(rows, labels, fps, prototypes=prototypes)
    crops = tuple(
        None if stage.labels == LOST else face(2 * SIDE, seed=i)
        for i, stage in enumerate(result.stages)
    )
    return replace(result, stage_crops=crops)


def tinted(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.ptp(picture.astype(int), axis=2) > 2


# --- heatmap -------------------------------------------------------------------------------------


def test_heatmap_maps_the_extremes_to_pure_colours() -> None:
    (picture,) = heatmap(np.array([[[-2.0, 0.0, 2.0]]], np.float32))
    assert [tuple(int(v) for v in pixel) for pixel in picture[0]] == [BLUE, WHITE, RED]


def test_heatmap_divides_by_the_largest_magnitude() -> None:
    small, large = np.array([[-1.0, 4.0, 2.0]], np.float32), np.array([[-10, 40, 20]], np.float32)
    picture, same = heatmap(np.stack((small, large)))
    # −1/4 and 2/4 of full scale: the other channels fade by the same share.
    assert picture[0, 0].tolist() == [255, 191, 191]
    assert picture[0, 1].tolist() == [0, 0, 255]
    assert picture[0, 2].tolist() == [128, 128, 255]
    assert np.array_equal(picture, same)


def test_heatmap_of_nothing_is_white() -> None:
    assert (heatmap(np.zeros((2, 3, 4), np.float32)).numpy() == 255).all()


@pytest.mark.parametrize(
    "bad",
    [np.zeros((3, 3)), np.full((1, 2, 2), np.nan), np.full((1, 2, 2), np.inf), np.zeros((1, 0, 4))],
)
def test_maps_that_cannot_be_drawn_are_refused(bad: NDArray[np.float64]) -> None:
    draws = (
        heatmap,
        lambda m: projection(m, ["#ffffff"]),
        lambda m: enlarge(m, 8),
        lambda m: layers(m, ["#ffffff"], 8),
    )
    for draw in draws:
        with pytest.raises(ConfigError):
            draw(bad)


def test_every_map_needs_a_colour_and_a_name_if_any_has_one() -> None:
    maps = np.stack((blob(9, 9), blob(20, 9)))
    for draw in (
        lambda: projection(maps, ["#ffffff"]),
        lambda: layers(maps, ["#ffffff"], 48),
        lambda: layers(maps, ["#ffffff", "#000000"], 48, names=["1"]),
    ):
        with pytest.raises(ConfigError, match="2 relevance maps need as many"):
            draw()


# --- projection ----------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [0.1, 0.25, 0.6])
def test_projection_keeps_the_smallest_set_with_the_asked_mass(x: float) -> None:
    rng = np.random.default_rng(3)
    relevance = rng.standard_normal((20, 20)).astype(np.float32)
    alpha = projection(relevance[None], ["#E69F00"], x)[0, ..., 3].numpy()
    positive = np.maximum(relevance.astype(np.float64), 0)
    kept = positive[alpha > 0]
    assert kept.sum() >= x * positive.sum()
    assert kept.sum() - kept.min() < x * positive.sum()
    assert kept.min() >= positive[alpha == 0].max()


def test_projection_has_one_colour_and_alpha_grows_with_relevance() -> None:
    relevance = blob(24, 24)
    picture = projection(relevance[None], ["#E69F00"], 0.5)[0].numpy()
    assert (picture[..., :3] == (0x00, 0x9F, 0xE6)).all()
    inside = picture[..., 3] > 0
    order = np.argsort(relevance[inside])
    assert (np.diff(picture[..., 3][inside][order].astype(int)) >= 0).all()
    assert picture[24, 24, 3] == picture[..., 3].max()


def test_projection_of_a_map_without_positive_relevance_is_empty() -> None:
    assert not projection(-np.ones((1, 4, 4), np.float32), ["#E69F00"])[..., 3].any()


# --- composite -----------------------------------------------------------------------------------


def test_composite_without_maps_is_the_grey_crop() -> None:
    crop = face()
    picture = composite(crop, np.zeros((0, SIDE, SIDE), np.float32), [], scale=1.0)
    assert np.array_equal(picture, np.repeat(crop[..., None], 3, axis=2))


def test_composite_tints_the_projection_and_nothing_else() -> None:
    crop, relevance = np.full((SIDE, SIDE), 120, np.uint8), blob(15, 30)
    picture = composite(crop, relevance[None], [AU_COLOURS[12]], x=0.25, scale=4.0)
    assert picture.shape == (4 * SIDE, 4 * SIDE, 3)
    # A round blob holds 25 % of its mass within σ·√(2·ln(4/3)); the kernel adds 1 px² of variance.
    radius = math.sqrt(4.0**2 + 1) * math.sqrt(2 * math.log(4 / 3))
    rows, columns = (np.mgrid[0 : 4 * SIDE, 0 : 4 * SIDE] + 0.5) / 4 - 0.5
    away = np.hypot(columns - 15, rows - 30)
    colourful = tinted(picture)
    assert colourful[away < radius - 0.5].all()
    assert not colourful[away > radius + 1.0].any()
    rest = picture[~colourful]
    assert np.ptp(rest.astype(int)) <= 2, "the face is dimmed evenly"
    assert rest.max() < 120


def test_composite_turns_a_colour_crop_grey() -> None:
    crop = np.zeros((SIDE, SIDE, 3), np.uint8)
    crop[..., 0] = 250
    assert not tinted(compose(crop, None, 2 * SIDE)).any()


def test_overlapping_projections_keep_their_own_colours() -> None:
    crop, relevance = np.full((SIDE, SIDE), 90, np.uint8), blob(24, 24, sigma=9)
    red, green = "#ff0000", "#00ff00"
    picture = composite(crop, np.stack([relevance] * 2), [red, green], scale=6.0).astype(int)
    middle = picture[120:168, 120:168].reshape(-1, 3)
    reddish = middle[:, 2] > middle[:, 1] + 60
    greenish = middle[:, 1] > middle[:, 2] + 60
    # Stripes share the area evenly; only their softened edges are mixed.
    assert 0.35 < reddish.mean() < 0.65
    assert 0.35 < greenish.mean() < 0.65
    assert (reddish | greenish).mean() > 0.75


def test_projections_of_one_colour_are_told_apart_by_name() -> None:
    crop = np.full((SIDE, SIDE), 90, np.uint8)
    left, right = blob(12, 24), blob(36, 24)

    def picture(second: str, names: tuple[str, str]) -> NDArray[np.uint8]:
        return compose(
            crop, layers(np.stack((left, right)), ["#D55E00", second], 240, names=names), 240
        )

    plain = picture("#D55E00", ("", ""))
    named = picture("#D55E00", ("9", "12"))
    changed = (plain != named).any(axis=2)
    columns, rows = np.flatnonzero(changed.any(axis=0)), np.flatnonzero(changed.any(axis=1))
    # Each number stands in the middle of its own projection: at x = 62 and 182 of 240, y = 122.
    assert abs(columns[columns < 120].mean() - 62) < 4
    assert abs(columns[columns >= 120].mean() - 182) < 4
    assert abs(rows.mean() - 122) < 4
    assert np.array_equal(picture("#009E73", ("9", "12")), picture("#009E73", ("", "")))


def test_composite_of_a_map_without_positive_relevance_shows_only_the_dimmed_face() -> None:
    assert not tinted(composite(face(), -blob(9, 9)[None], ["#ff0000"])).any()


def test_enlarging_removes_the_lattice_of_a_stride_of_two() -> None:
    lattice = np.zeros((SIDE, SIDE), np.float32)
    lattice[::2, ::2] = 4.0
    smooth = enlarge(lattice[None], SIDE)[0].numpy()
    assert np.allclose(smooth[4:-4, 4:-4], 1.0, atol=1e-5)


# --- a batch against one map at a time ------------------------------------------------------------


def relevance_like(count: int = 6, side: int = 96) -> NDArray[np.float32]:
    """Return maps with several blobs of both signs, among them one empty and one negative."""
    rng = np.random.default_rng(5)
    maps = [
        sum(
            rng.normal(0.6, 1)
            * blob(*rng.uniform(5, side - 5, 2), sigma=rng.uniform(2, 9), side=side)
            for _ in range(5)
        )
        for _ in range(count)
    ]
    maps[1] = np.zeros_like(maps[0])
    maps[3] = -np.abs(maps[3])
    return np.stack(maps).astype(np.float32)


COLOURS = [AU_COLOURS[au] for au in (1, 4, 6, 12, 25, 26)]


def test_a_batch_gives_the_heatmaps_and_projections_of_its_maps() -> None:
    maps = np.concatenate(
        (relevance_like(), np.random.default_rng(2).integers(-2, 3, (2, 96, 96)).astype(np.float32))
    )
    colours = [*COLOURS, "#ffffff", "#123456"]
    expected = np.stack([twins.heatmap(image) for image in maps])
    assert np.array_equal(heatmap(maps), expected)
    for x in (0.25, 0.6):
        ones = [twins.projection(m, bgr(c), x) for m, c in zip(maps, colours, strict=True)]
        assert np.array_equal(projection(maps, colours, x), np.stack(ones))


@pytest.mark.parametrize("side", [96, 232])
def test_a_batch_gives_the_layers_and_the_composite_of_its_maps(side: int) -> None:
    maps = relevance_like()
    enlarged = np.stack([twins.enlarge(image, side) for image in maps])
    np.testing.assert_allclose(enlarge(maps, side), enlarged, atol=1e-5)
    expected = [twins.layer(m, bgr(c), side, 0.25) for m, c in zip(maps, COLOURS, strict=True)]
    got = layers(maps, COLOURS, side)
    # Sums are made in another order than OpenCV's; next to a flat top a contour may move by that.
    for where, name in (("area", "alpha"), ("edge", "outline")):
        made = np.zeros((len(maps), side * side), np.float32)
        for layer, whole in zip(got, made, strict=True):
            whole[getattr(layer, where)] = getattr(layer, name)
        made = made.reshape(-1, side, side)
        away = np.abs(made - np.stack([getattr(one, name) for one in expected]))
        assert np.quantile(away, 0.999) < 1e-4, name
        assert away.max() < 0.02, name
    picture = compose(face(96), got, side).astype(int)
    away = np.abs(picture - twins.compose(face(96), expected, side))
    assert away.max() <= 2
    assert (away > 1).mean() < 1e-4


def test_pictures_of_a_sequence_do_not_depend_on_how_many_prototypes_it_has() -> None:
    few = sequence([("AU01_A",), ("AU12_A",)])
    many = sequence([(f"AU{au:02d}_A",) for au in (1, 12, *range(30, 60))])
    for label in ("AU01_A", "AU12_A"):
        prototype = many.prototypes[label]
        same = replace(few, prototypes={label: prototype})
        alone, among = SequencePictures(same), SequencePictures(many)
        assert np.array_equal(alone.prototype(label, 120), among.prototype(label, 120))
        assert np.array_equal(alone.heat(label, 120), among.heat(label, 120))


def test_a_layer_holds_what_it_paints_and_nothing_else() -> None:
    made = layers(relevance_like(), COLOURS, 232)
    for layer in made:
        for pixels, values in ((layer.area, layer.alpha), (layer.edge, layer.outline)):
            assert pixels.shape == values.shape
            assert (np.diff(pixels) > 0).all()
            assert ((values > 0) & (values <= 1)).all()
    painted = [len(layer.area) for layer in made]
    assert painted.count(0) == 2, "the empty and the negative map"
    assert max(painted) < 232**2 / 4


def test_a_smaller_picture_of_a_sequence_looks_like_one_painted_in_its_size() -> None:
    result = sequence(STORY)
    pictures = SequencePictures(result)
    label = next(iter(result.prototypes))
    item = result.prototypes[label]
    painted = compose(item.crop, layers(item.map[None], [AU_COLOURS[item.au]], 256), 256)
    away = np.abs(pictures.prototype(label, 256).astype(int) - painted)
    assert away.mean() < 1.5
    assert np.quantile(away, 0.99) < 24


def test_drawing_on_a_picture_of_a_sequence_leaves_the_next_one_clean() -> None:
    pictures = SequencePictures(sequence(STORY))
    first = pictures.stage(1, pictures.tile)
    clean = first.copy()
    first[:] = 0
    assert np.array_equal(pictures.stage(1, pictures.tile), clean)
    assert np.array_equal(strip(sequence(STORY), pictures), strip(sequence(STORY)))


# --- lettering -----------------------------------------------------------------------------------


def test_text_has_the_asked_height_and_stands_on_its_baseline() -> None:
    canvas = np.full((80, 200, 3), 255, np.uint8)
    draw_text(canvas, "HEH", 20, 60, 30, (0, 0, 0))
    rows = np.flatnonzero((canvas < 128).any(axis=(1, 2)))
    assert abs(rows.max() + 1 - 60) <= 2
    assert abs((rows.max() + 1 - rows.min()) - 30) <= 3


@pytest.mark.parametrize("anchor", ["left", "centre", "right"])
def test_text_is_placed_by_its_anchor(anchor: str) -> None:
    canvas = np.full((60, 400, 3), 255, np.uint8)
    width = draw_text(canvas, "AU12_A 3", 200, 40, 16, (0, 0, 0), anchor=anchor)
    columns = np.flatnonzero((canvas < 128).any(axis=(0, 2)))
    left = {"left": 200, "centre": 200 - width / 2, "right": 200 - width}[anchor]
    assert abs(columns.min() - left) <= 4
    assert abs(columns.max() - (left + width)) <= 4


def test_text_outside_the_picture_is_cut_not_wrapped() -> None:
    canvas = np.full((20, 40, 3), 255, np.uint8)
    draw_text(canvas, "a long line of text", -30, 15, 14, (0, 0, 0))
    draw_text(canvas, "below", 5, 500, 14, (0, 0, 0))
    assert (canvas < 128).any()


def test_fit_text_keeps_what_fits_and_shortens_the_middle() -> None:
    assert fit_text("short", 12, 400) == "short"
    long = "a_very_long_name_of_a_recording_from_the_archive.mp4"
    fitted = fit_text(long, 12, 200)
    assert text_width(fitted, 12) <= 200
    assert "..." in fitted
    assert fitted.startswith("a_very")
    assert fitted.endswith(".mp4")
    assert fit_text(long, 12, 3) == ""


def test_accents_fold_to_plain_letters() -> None:
    assert fit_text("Prüfung é", 12, 400) == "Prufung e"
    assert fit_text("表情", 12, 400) == "??"


@pytest.mark.parametrize("au", sorted(AU_COLOURS))
def test_label_text_is_readable_on_its_colour(au: int) -> None:
    ground = bgr(AU_COLOURS[au])
    light, dark = sorted((luminance(ground), luminance(ink_on(ground))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5, "WCAG AA"


# --- strip ---------------------------------------------------------------------------------------

STORY: list[StageLabels] = [
    *[NONE] * 5,
    *[("AU01_A",)] * 3,
    *[("AU01_A", "AU12_A")] * 4,
    *[LOST] * 2,
]


def test_stage_seconds_run_to_the_next_stage() -> None:
    assert stage_seconds(sequence(STORY)) == pytest.approx((0.2, 0.12, 0.16, 0.08))
    assert stage_seconds(sequence(STORY, fps=math.nan))[-1] == pytest.approx(0.04)


def columns_of(picture: NDArray[np.uint8]) -> int:
    """Count the tiles along the line through the middle of the first row of tiles."""
    # The strip's paper is white; no tile has a white run as wide as a gap between columns.
    line = (picture[112 + 60 : 112 + 180] < 250).any(axis=(0, 2))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
    widths = edges[1::2] - edges[::2]
    return int((widths > 120).sum())


@pytest.mark.parametrize("count", [1, 3, 4, 8])
def test_strip_has_one_column_per_stage(count: int) -> None:
    labels: list[StageLabels] = [(f"AU01_{'AB'[i % 2]}",) for i in range(count)]
    assert columns_of(strip(sequence(labels))) == count


def test_strip_wraps_into_even_rows() -> None:
    ten: list[StageLabels] = [("AU01_A",) if i % 2 else NONE for i in range(10)]
    five = ten[:5]
    wrapped, single = strip(sequence(ten)), strip(sequence(five))
    assert columns_of(wrapped) == 5
    assert wrapped.shape[1] == single.shape[1]
    assert wrapped.shape[0] > 1.5 * single.shape[0]


def test_strip_is_the_same_for_the_same_result() -> None:
    assert np.array_equal(strip(sequence(STORY)), strip(sequence(STORY)))


def test_stage_pictures_show_none_plain_and_lost_without_a_face() -> None:
    result = sequence(STORY)
    pictures = SequencePictures(result)
    assert result.stage_crops[0] is not None
    plain = compose(result.stage_crops[0], None, 2 * SIDE)
    assert np.array_equal(pictures.stage(0, plain.shape[0]), plain)
    assert tinted(pictures.stage(1, 96)).any()
    lost = pictures.stage(3, 96)
    assert lost.min() > 60
    assert not np.array_equal(lost, pictures.stage(0, 96))


def test_strip_of_one_au_carries_its_colour_below_the_picture() -> None:
    picture = strip(sequence([("AU12_A",)]))
    below = picture[112 + 248 :].reshape(-1, 3)
    assert (below == bgr(AU_COLOURS[12])).all(axis=1).sum() > 500
    assert not (below == bgr(AU_COLOURS[1])).all(axis=1).any()


def test_strip_of_very_many_stages_stays_openable_and_says_what_is_left_out() -> None:
    labels: list[StageLabels] = [("AU01_A",) if i % 2 else NONE for i in range(700)]
    result = sequence(labels)
    cut = strip(result)
    assert max(cut.shape) < 16_384
    kept = replace(
        result,
        stages=result.stages[:MAX_STRIP_STAGES],
        stage_crops=result.stage_crops[:MAX_STRIP_STAGES],
    )
    whole = strip(kept)
    assert cut.shape == whole.shape
    assert not np.array_equal(cut[-64:], whole[-64:]), "the note differs"


def test_legend_wraps_and_carries_each_colour() -> None:
    aus = (1, 2, 4, 6, 12)
    wide, narrow = legend(aus, 1600), legend(aus, 420)
    assert narrow.shape[0] > wide.shape[0]
    assert wide.shape[1] == 1600
    for au in aus:
        assert (narrow.reshape(-1, 3) == bgr(AU_COLOURS[au])).all(axis=1).any()


def test_layers_ask_for_a_share_whatever_the_maps() -> None:
    for maps in (np.zeros((1, 8, 8), np.float32), np.ones((1, 8, 8), np.float32)):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            layers(maps, ["#E69F00"], 16, 1.5)
