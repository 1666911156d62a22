"""The training views: labels follow what shows, points follow the warp, batches are repeatable."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError, SourceError
from facestage.core.face.regions import MIRROR
from numpy.typing import NDArray

from tests.support.paths import ROOT
from training.augment.camera import capture, expose, to_light
from training.augment.canvas import SIZE, measure
from training.augment.hands import HAND_PLACEMENTS, hand
from training.augment.occluders import (
    OCCLUDERS,
    glasses,
    label_visible,
    occlude,
    point_visibility,
    visible_fractions,
)
from training.augment.relight import flash, relight
from training.augment.views import (
    CROP,
    TEMPLATE,
    TEMPLATE_WEIGHTS,
    clean_view,
    jittered,
    make_view,
    to_crop,
)
from training.data import loader as loader_module
from training.data.loader import (
    ViewBatch,
    ViewLoader,
    face_weights,
    is_validation,
    known_weights,
)
from training.face.facs import AU_INDEX, AUS

MOUTH_AUS = (10, 12, 16, 18, 20, 22, 23, 24, 25, 26, 27, 28)
BROW_AUS = (1, 2, 4)


def face_points() -> NDArray[np.float32]:
    """A frontal face in template units: 68 points, symmetric about x = 64."""
    turn = np.linspace(np.pi, 0, 17)
    jaw = np.stack([64 + 42 * np.cos(turn), 55 + 62 * np.sin(turn)], 1)
    brow = np.array([[35, 38], [40, 34], [46, 33], [51, 34], [56, 37]])
    nose = np.array([[64, 46], [64, 54], [64, 62], [64, 71]])
    base = np.array([[56, 76], [60, 78], [64, 79], [68, 78], [72, 76]])
    eye = np.array([[38.5, 49], [43, 46], [48, 46], [52.5, 49], [48, 52], [43, 52]])
    outer = np.stack([64 - 15 * np.cos(a := np.arange(12) * np.pi / 6), 92 - 7 * np.sin(a)], 1)
    inner = np.stack([64 - 11 * np.cos(a := np.arange(8) * np.pi / 4), 92 - 2 * np.sin(a)], 1)
    half = np.vstack([jaw, brow, np.zeros((5, 2)), nose, base, eye, np.zeros((6, 2)), outer, inner])
    points = half.copy()
    for k in (*range(22, 27), *range(42, 48)):
        points[k] = [128 - half[MIRROR[k], 0], half[MIRROR[k], 1]]
    return points.astype(np.float32)


POINTS = face_points()


def face_picture(tone: int = 150) -> NDArray[np.uint8]:
    """A flat drawing of that face: an oval with eyes, brows and a mouth."""
    image = np.full((SIZE, SIZE), 60, np.uint8)
    place = np.rint(POINTS + 4).astype(np.int32)
    cv2.ellipse(image, (68, 70), (44, 58), 0, 0, 360, tone, -1, cv2.LINE_AA)
    for run in (slice(36, 42), slice(42, 48), slice(48, 60)):
        cv2.fillPoly(image, [place[run]], 50, cv2.LINE_AA)
    cv2.polylines(image, [place[17:22], place[22:27]], False, 40, 2, cv2.LINE_AA)
    return image


def make_shard(first: int, count: int) -> dict[str, NDArray]:
    rng = np.random.default_rng(first)
    number = np.arange(first, first + count)
    intensity = rng.uniform(0, 5, (count, len(AUS))) * (rng.random((count, len(AUS))) < 0.3)
    return {
        "image": np.stack([face_picture(120 + int(k) % 100) for k in number]),
        "intensity": intensity.astype(np.float16),
        "landmarks": np.repeat(POINTS[None], count, 0).astype(np.float16),
        "identity": number,
        "index": number,
    }


def save(path: Path, shard: dict[str, NDArray]) -> None:
    np.savez(
        path,
        image=shard["image"],
        intensity=shard["intensity"],
        landmarks=shard["landmarks"],
        identity=shard["identity"],
        index=shard["index"],
    )


def columns(aus: tuple[int, ...]) -> list[int]:
    return [AU_INDEX[au] for au in aus]


def same(a: ViewBatch, b: ViewBatch) -> bool:
    names = ViewBatch.__dataclass_fields__
    return all(np.array_equal(getattr(a, n), getattr(b, n), equal_nan=True) for n in names)


def test_template_is_the_networks() -> None:
    card = json.loads((ROOT / "core" / "weights" / "au_net_v1.json").read_text())["input"]
    np.testing.assert_allclose(TEMPLATE, card["template"], atol=1e-3)
    np.testing.assert_allclose(TEMPLATE_WEIGHTS, card["template_weights"])


def test_mirroring_twice_changes_nothing_and_swaps_the_sides() -> None:
    np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(68))
    np.testing.assert_allclose(POINTS[MIRROR] * [-1, 1] + [128, 0], POINTS, atol=1e-3)


@pytest.mark.parametrize("side", [SIZE, 87, 50])
def test_landmarks_follow_the_warp_in_plain_and_mirrored_views(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.full((SIZE, SIZE), 90, np.uint8)
    spot = 48  # the mouth corner on the viewer's left
    x, y = np.rint(POINTS[spot] + 4).astype(int)
    cv2.circle(image, (x, y), 4, 255, -1, cv2.LINE_AA)
    points = POINTS.copy()
    points[spot] = [x - 4, y - 4]
    labels = np.linspace(0, 5, len(AUS), dtype=np.float32)
    # Even light and a camera that only samples: what moves is the geometry alone.
    frame = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    monkeypatch.setattr("training.augment.views.capture", lambda *_: frame)
    monkeypatch.setattr("training.augment.views.ASTRAY_RATE", 0.0)  # its spot may leave the crop
    found = set()
    for seed in range(12):
        view = make_view(image, labels, points, np.random.default_rng(seed), occluders=[])
        bright = view.image.astype(float) - 90
        rows, cols = np.mgrid[0:CROP, 0:CROP]
        centre = np.array([(bright * cols).sum(), (bright * rows).sum()]) / bright.sum()
        distance = np.linalg.norm(view.landmarks - centre, axis=1)
        nearest = min((spot, int(MIRROR[spot])), key=lambda k: distance[k])
        assert distance[nearest] < 0.2
        np.testing.assert_array_equal(view.intensity, labels)
        found.add(nearest)
    assert found == {spot, int(MIRROR[spot])}  # both occur, and the table names them rightly


def test_a_mirrored_view_of_a_symmetric_face_lies_on_the_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.augment.views.ASTRAY_RATE", 0.0)
    shift = []
    for seed in range(300):
        view = make_view(
            face_picture(),
            np.zeros(len(AUS), np.float32),
            POINTS,
            np.random.default_rng(seed),
            occluders=[],
        )
        shift.append(view.landmarks - to_crop(POINTS))
    mean = np.mean(shift, axis=0)
    assert np.abs(mean).max() < 0.5  # no bias of half a pixel or more from either kind of view


def test_jitter_has_the_size_of_a_detectors_errors() -> None:
    points = POINTS + 4
    matrices = np.array([jittered(points, np.random.default_rng(k)) for k in range(600)])
    scale = np.log(np.hypot(matrices[:, 0, 0], matrices[:, 1, 0]))
    turn = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert 0.03 < scale.std() < 0.06
    assert 2.0 < turn.std() < 4.2
    assert abs(scale.mean() - np.log(96 / 116)) < 0.01
    assert abs(turn.mean()) < 0.5


def test_clean_view_is_exactly_aligned() -> None:
    view = clean_view(face_picture(), np.zeros(len(AUS), np.float32), POINTS)
    np.testing.assert_allclose(view.landmarks, to_crop(POINTS), atol=1e-3)
    np.testing.assert_allclose(view.landmarks[30], TEMPLATE[2], atol=1e-3)


def test_views_far_astray_teach_landmarks_and_no_action_unit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = np.full(len(AUS), 3, np.float32)
    off = []
    for rate in (0.0, 1.0):
        monkeypatch.setattr("training.augment.views.ASTRAY_RATE", rate)
        views = [
            make_view(face_picture(), labels, POINTS, np.random.default_rng(k), occluders=[])
            for k in range(40)
        ]
        assert all(np.isnan(v.intensity).all() == bool(rate) for v in views)
        assert all((v.visibility == 1).all() for v in views)
        off.append(np.median([np.abs(v.landmarks[36] - to_crop(POINTS)[36]).max() for v in views]))
    assert off[1] > 2.5 * off[0]


def test_covered_mouth_is_labelled_absent_and_brows_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.augment.views.ASTRAY_RATE", 0.0)
    labels = np.full(len(AUS), 3, np.float32)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        view = make_view(face_picture(), labels, POINTS, rng, occluders=["mask"])
        assert (view.intensity[columns((18, 23, 24, 25, 26))] == 0).all()
        assert (view.intensity[columns(BROW_AUS)] == 3).all()
        assert view.visibility[48:68].max() < 0.3
        assert view.visibility[17:27].min() > 0.9


def test_clear_glasses_hide_nothing_and_dark_ones_the_eyes() -> None:
    light = to_light(face_picture())
    for seed in range(6):
        rng = np.random.default_rng(seed)
        scene = measure(light, POINTS + 4, rng)
        image, opacity = glasses(scene, rng, dark=False)
        assert not opacity.any()
        assert np.abs(image - light).max() > 0.02
        image, opacity = glasses(scene, rng, dark=True)
        seen = point_visibility(opacity, POINTS + 4)
        assert seen[36:48].max() < 0.5
        assert seen[48:68].min() == 1
        regions = loader_regions()
        labels = label_visible(np.full(len(AUS), 2.0), visible_fractions(opacity, regions))
        assert not (labels[columns((5, 7, 43))] == 2).any()
        assert (labels[columns(MOUTH_AUS)] == 2).all()


def loader_regions() -> NDArray[np.bool_]:
    from facestage.core.face.regions import au_regions

    return au_regions(POINTS + 4, AUS, SIZE)


def test_partly_hidden_units_are_not_labelled() -> None:
    visible = np.array([0.1, 0.24, 0.26, 0.59, 0.61, 1.0], np.float32)
    labels = label_visible(np.full(6, 4, np.float32), visible)
    np.testing.assert_array_equal(labels, [0, 0, np.nan, np.nan, 4, 4])
    unknown = label_visible(np.full(6, np.nan, np.float32), visible)
    np.testing.assert_array_equal(unknown, [0, 0, np.nan, np.nan, np.nan, np.nan])


def test_visible_fractions_count_the_regions_area() -> None:
    opacity = np.zeros((10, 10), np.float32)
    opacity[:, :5] = 0.5
    regions = np.zeros((3, 10, 10), bool)
    regions[0], regions[1, :, :5] = True, True
    np.testing.assert_allclose(visible_fractions(opacity, regions), [0.75, 0.5, 1])


@pytest.mark.parametrize("kind", ["glasses", *OCCLUDERS])
def test_each_occluder_draws_where_it_is_opaque(kind: str) -> None:
    light = to_light(face_picture())
    changed = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        done = occlude(light, POINTS + 4, rng, kinds=[kind])
        assert done.kinds == (kind,)
        assert done.image.dtype == done.opacity.dtype == np.float32
        assert done.image.shape == done.opacity.shape == (SIZE, SIZE)
        assert np.isfinite(done.image).all()
        assert done.image.min() >= 0
        assert done.opacity.min() >= 0
        assert done.opacity.max() <= 1 + 1e-6
        changed += bool(np.abs(done.image - light).max() > 0.01)
    assert changed >= 9  # something may fall beside the picture, but seldom


@pytest.mark.parametrize("placement", HAND_PLACEMENTS)
def test_hands_cover_their_target(placement: str) -> None:
    light = to_light(face_picture())
    target = {"mouth": 62, "chin": 8, "cheek": 2, "eye": 39, "forehead": 0, "both": 62}[placement]
    hidden = []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        scene = measure(light, POINTS + 4, rng)
        _, opacity = hand(scene, rng, placement)
        assert opacity.max() > 0.9
        seen = point_visibility(opacity, POINTS + 4)
        hidden.append(seen[[target, MIRROR[target]]].min() < 0.5)
    if placement in ("mouth", "eye", "both"):
        assert np.mean(hidden) >= 0.6


def test_occluder_rates() -> None:
    light = to_light(face_picture())
    kinds = [occlude(light, POINTS + 4, np.random.default_rng(k)).kinds for k in range(600)]
    other = np.mean([bool(set(k) - {"glasses"}) for k in kinds])
    worn = np.mean(["glasses" in k for k in kinds])
    assert 0.2 < other < 0.3
    assert 0.08 < worn < 0.16


def test_light_and_camera_keep_shape_and_range() -> None:
    light = to_light(face_picture())
    sides = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        strength = seed / 39
        lit = flash(expose(relight(light, rng, strength), rng, strength), rng, strength)
        frame = capture(lit, rng, strength)
        assert frame.dtype == np.uint8
        assert frame.shape[0] == frame.shape[1] <= SIZE
        assert frame.std() > 2
        sides.add(frame.shape[0])
    assert min(sides) < 80  # small faces occur
    assert max(sides) == SIZE


@pytest.mark.parametrize(("workers", "processes"), [(0, False), (2, False), (1, True)])
def test_batches_depend_on_the_seed_only(workers: int, processes: bool) -> None:
    shard = make_shard(1, 19)
    with ViewLoader([shard], 5, batch=6, workers=0) as plain:
        expected = list(plain.epoch(2))
    with ViewLoader([shard], 5, batch=6, workers=workers, processes=processes) as loader:
        batches = list(loader.epoch(2))
        rest = list(loader.epoch(2, skip=1))
        other = next(iter(loader.epoch(3)))
    assert len(batches) == 3
    assert all(same(a, b) for a, b in zip(batches, expected, strict=True))
    assert all(same(a, b) for a, b in zip(rest, expected[1:], strict=True))
    assert not same(other, expected[0])


def test_a_view_does_not_depend_on_the_other_faces() -> None:
    small = ViewLoader([make_shard(1, 5)], 5, batch=5, workers=0, weigh=None)
    large = ViewLoader([make_shard(1, 5), make_shard(21, 9)], 5, batch=14, workers=0, weigh=None)
    few, many = next(iter(small.epoch(0))), next(iter(large.epoch(0)))
    for k, index in enumerate(few.index):
        twin = int(np.flatnonzero(many.index == index)[0])
        np.testing.assert_array_equal(few.image[k], many.image[twin])
        np.testing.assert_array_equal(few.landmarks[k], many.landmarks[twin])


def test_processes_share_an_epoch_without_overlap() -> None:
    with ViewLoader([make_shard(1, 100)], 5, batch=8, workers=0) as loader:
        whole = list(loader.epoch(2))
        parts = [list(loader.epoch(2, share=(rank, 2))) for rank in (0, 1)]
        later = list(loader.epoch(2, skip=2, share=(1, 2)))
    assert len(parts[0]) == len(parts[1]) == len(whole) // 2
    for k, (first, second) in enumerate(zip(*parts, strict=True)):
        assert np.array_equal(first.image, whole[2 * k].image)
        assert np.array_equal(second.image, whole[2 * k + 1].image)
    assert np.array_equal(later[0].image, parts[1][2].image)


def test_batch_shapes() -> None:
    loader = ViewLoader([make_shard(1, 12)], 0, batch=8, workers=0)
    (batch,) = loader.epoch(0)
    assert batch.image.shape == (8, 96, 96)
    assert batch.image.dtype == np.uint8
    assert batch.intensity.shape == (8, 23)
    assert batch.intensity.dtype == np.float32
    assert batch.landmarks.shape == (8, 68, 2)
    assert batch.landmarks.dtype == np.float32
    assert batch.visibility.shape == (8, 68)
    assert batch.visibility.dtype == np.float32
    assert batch.identity.dtype == batch.index.dtype == np.int64


def test_held_out_identities_are_never_trained_on() -> None:
    loader = ViewLoader([make_shard(0, 60)], 1, batch=10, workers=0)
    trained = {int(i) for e in range(2) for b in loader.epoch(e) for i in b.identity}
    fixed = loader.validation_views(10, seed=9)
    assert set(fixed.identity.tolist()) == {0, 20, 40}
    assert not trained & set(fixed.identity.tolist())
    assert is_validation(fixed.identity).all()
    assert loader.faces + loader.held_out == 60
    other = ViewLoader([make_shard(0, 60)], 77, batch=2, workers=1)
    assert same(fixed, other.validation_views(10, seed=9))  # whatever the seed of the training
    other.close()


def test_rare_units_and_neutral_faces_are_drawn_more_often() -> None:
    intensity = np.zeros((1000, 3), np.float32)
    intensity[:, 0] = 3
    intensity[:20, 1] = 2  # 2 %
    intensity[990:] = 0  # 1 % neutral
    intensity[500:600, 2] = np.nan
    weights = face_weights(intensity)
    assert weights.max() <= loader_module.MAX_WEIGHT
    assert weights[20:990].max() == 1
    np.testing.assert_allclose(weights[:20], np.sqrt(loader_module.RARE / 0.02), rtol=1e-5)
    np.testing.assert_allclose(weights[990:], np.sqrt(loader_module.NEUTRAL / 0.01), rtol=1e-5)


def test_copies_of_a_face_in_an_epoch_differ() -> None:
    shard = make_shard(1, 19)
    shard["intensity"][:] = 0
    shard["intensity"][:, 0] = 3
    shard["intensity"][4, 1] = 3
    loader = ViewLoader([shard], 0, batch=19, workers=0)
    batch = next(iter(loader.epoch(0)))
    rows = np.flatnonzero(batch.index == 5)
    assert len(rows) >= 1
    numbers, counts = np.unique(batch.index, return_counts=True)
    assert (numbers == 5).any()
    for number in numbers[counts > 1]:
        twins = np.flatnonzero(batch.index == number)
        assert (batch.landmarks[twins[0]] != batch.landmarks[twins[1]]).any()


def test_refresh_finds_new_shards_only(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", make_shard(1, 5))
    save(tmp_path / ".b.npz", make_shard(100, 5))  # still being written
    loader = ViewLoader([tmp_path], 0, batch=4, workers=0)
    assert loader.faces == 5
    assert loader.refresh() == 0
    save(tmp_path / "c.npz", make_shard(21, 7))
    assert loader.refresh() == 7
    assert loader.faces == 12
    seen = {int(i) for e in range(4) for b in loader.epoch(e) for i in b.index}
    assert seen & set(range(21, 28))
    assert not seen & set(range(100, 105))


def test_bad_shards_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"no zip")
    with pytest.raises(SourceError, match=r"broken\.npz"):
        ViewLoader([broken], 0)
    with pytest.raises(SourceError, match="identity"):
        ViewLoader([{k: v for k, v in make_shard(1, 3).items() if k != "identity"}], 0)
    with pytest.raises(SourceError, match="landmarks"):
        ViewLoader([make_shard(1, 3) | {"landmarks": np.zeros((3, 5, 2))}], 0)
    with pytest.raises(SourceError, match="no face"):
        next(iter(ViewLoader([tmp_path / "nothing"][:0], 0, workers=0).epoch(0)))
    with pytest.raises(SourceError, match="held out"):
        ViewLoader([make_shard(1, 3)], 0, workers=0).validation_views(4, 0)
    with pytest.raises(ConfigError, match="batch"):
        ViewLoader([make_shard(1, 3)], 0, batch=0)


def test_few_full_labels_are_not_drowned_by_many_poor_ones() -> None:
    labels = np.full((40, len(AUS)), np.nan, np.float32)
    labels[:4] = 0  # all known
    labels[4:, :2] = 0  # two of 23 known
    assert known_weights(labels) == pytest.approx([1] * 4 + [2 / 23] * 36)
    shard = {**make_shard(1, 40), "intensity": labels, "identity": np.full(40, 1)}
    with ViewLoader([shard], 5, batch=40, workers=0, weigh=known_weights) as loader:
        batch = next(iter(loader.epoch(0)))
    full = np.isfinite(batch.intensity).mean(1) > 0.5
    assert 18 <= full.sum() <= 26  # 4 of 4 + 36 * 2 / 23 = 56 % of 40


def test_endless_batches_go_on_in_any_epoch() -> None:
    with ViewLoader([make_shard(1, 19)], 5, batch=6, workers=0) as loader:
        expected = [*loader.epoch(0), *loader.epoch(1), *loader.epoch(2)]
        assert len(expected) == 9
        for skip in (0, 2, 3, 7):
            got = [batch for batch, _ in zip(loader.endless(skip), range(2), strict=False)]
            assert all(same(a, b) for a, b in zip(got, expected[skip : skip + 2], strict=True))
