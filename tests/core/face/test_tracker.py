"""The face step: geometry against independent forms, the tracker against a scripted world."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.config import FaceConfig
from facestage.core.errors import ConfigError, SourceError
from facestage.core.face.alignment import (
    align,
    compose,
    crop_motion,
    invert,
    similarity,
    to_grey,
    transform,
    warp,
)
from facestage.core.face.quality import NOT_A_FACE, implausible
from facestage.core.face.track import FIRST_UPDATES
from facestage.core.face.tracker import Detection, Detector, FaceTracker
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import FaceObservation, FaceState
from facestage.stream.detectors import HaarDetector, YuNetDetector
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.opencv import needs_opencv_4
from tests.support.painted_faces import TEMPLATE, WEIGHTS, find_marks
from tests.support.paths import DEMO_CLIP

SIZE = 96
BOX_TO_POINTS = np.array(
    [[0.32, 0.4], [0.68, 0.4], [0.5, 0.616], [0.356, 0.82], [0.644, 0.82]], np.float32
)

coordinates = st.floats(-100, 100, allow_nan=False)
angles = st.floats(-3.1, 3.1)
scales = st.floats(0.05, 20)


def matrix_of(angle: float, scale: float, tx: float, ty: float) -> NDArray[np.float32]:
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[a, -b, tx], [b, a, ty]], np.float32)


def texture(height: int, width: int, seed: int = 0, cell: int = 9) -> NDArray[np.uint8]:
    """Smooth random grey between 40 and 160."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 160, (height // cell + 2, width // cell + 2)).astype(np.float32)
    return (
        cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        .clip(0, 200)
        .astype(np.uint8)
    )


# -- similarity -----------------------------------------------------------------------------------


@given(angles, scales, coordinates, coordinates, st.integers(0, 2**31))
def test_similarity_recovers_a_known_transform(
    angle: float, scale: float, tx: float, ty: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    src = rng.uniform(-50, 50, (5, 2))
    truth = matrix_of(angle, scale, tx, ty)
    found = similarity(src, transform(truth, src), rng.uniform(0.1, 1, 5))
    np.testing.assert_allclose(found, truth, atol=2e-3 * max(1, scale))


@given(st.integers(0, 2**31))
def test_similarity_equals_general_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    src, dst = rng.uniform(-50, 50, (2, 5, 2))
    w = rng.uniform(0.1, 1, 5)
    # The same problem as a plain linear system in (a, b, tx, ty).
    rows, right = [], []
    for (x, y), (u, v), weight in zip(src, dst, np.sqrt(w), strict=True):
        rows += [[weight * x, -weight * y, weight, 0], [weight * y, weight * x, 0, weight]]
        right += [weight * u, weight * v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    np.testing.assert_allclose(
        similarity(src, dst, w), [[a, -b, tx], [b, a, ty]], rtol=1e-4, atol=1e-4
    )


def test_similarity_never_mirrors_and_ignores_weightless_points() -> None:
    mirrored = TEMPLATE * [-1, 1]
    m = similarity(mirrored, TEMPLATE, WEIGHTS)
    assert np.linalg.det(m[:, :2]) > 0
    spoiled = TEMPLATE.copy()
    spoiled[2] = (900, -900)
    weights = np.array([1, 1, 0, 1, 1])
    np.testing.assert_allclose(
        similarity(spoiled, TEMPLATE, weights), matrix_of(0, 1, 0, 0), atol=1e-4
    )


@pytest.mark.parametrize(
    "points",
    [np.full((5, 2), value) for value in (0.0, 7.0, -1e4 / 3, np.nan)],
)
def test_similarity_refuses_points_without_extent(points: NDArray[np.float64]) -> None:
    with pytest.raises(ConfigError, match="no extent"):
        similarity(points, TEMPLATE, WEIGHTS)


@given(angles, scales, coordinates, coordinates)
def test_invert_and_compose_undo_each_other(a: float, s: float, tx: float, ty: float) -> None:
    m = matrix_of(a, s, tx, ty)
    points = np.array([[0, 0], [30, -20]])
    there_and_back = transform(invert(m), transform(m, points))
    np.testing.assert_allclose(there_and_back, points, atol=1e-3 * (1 + abs(tx) + abs(ty)) / s)
    np.testing.assert_allclose(
        transform(compose(m, m), points), transform(m, transform(m, points)), rtol=1e-4, atol=0.05
    )


# -- grey and warp --------------------------------------------------------------------------------


def test_grey_of_every_layout() -> None:
    bgr = np.zeros((2, 3, 3), np.uint8)
    bgr[..., 2] = 200  # red: weight 0.299
    assert to_grey(bgr).tolist() == [[60] * 3] * 2
    alpha = np.concatenate([bgr, np.full((2, 3, 1), 9, np.uint8)], axis=2)
    assert to_grey(alpha).tolist() == to_grey(bgr).tolist()
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert to_grey(grey) is grey
    assert to_grey(grey[:, :, None]).tolist() == grey.tolist()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_grey_refuses_what_is_no_picture(image: NDArray[np.uint8]) -> None:
    with pytest.raises(SourceError, match="frame has"):
        to_grey(image)


def test_warp_by_identity_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(warp(image, matrix_of(0, 1, 0, 0), 40), image)


def centroid(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    weights = crop.astype(np.float64)
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]]
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


@pytest.mark.parametrize("shrink", [0.6, 1, 1.3, 1.9, 2.5, 4.1, 7.7, 20, 33])
def test_align_puts_each_point_on_the_template(shrink: float) -> None:
    truth = matrix_of(0.3, shrink, 40 * shrink, 10 * shrink)  # crop → frame
    points = transform(truth, TEMPLATE)
    extent = int(140 * shrink)
    for i in range(5):
        # An isotropic spot around the point, wide enough to be sampled well in the crop.
        distance = np.arange(extent) - points[i][:, None]
        along_x, along_y = np.exp(-(distance**2) / (2 * (3 * shrink) ** 2)).astype(np.float32)
        image = np.outer(250 * along_y, along_x).astype(np.uint8)
        crop = align(image, points, TEMPLATE, WEIGHTS, SIZE)
        assert crop.shape == (SIZE, SIZE)
        np.testing.assert_allclose(centroid(crop), TEMPLATE[i], atol=0.12)
        if shrink < 5:
            double = align(image, points, TEMPLATE, WEIGHTS, SIZE, scale=2)
            # The centre of pixel x is the place 2x + ½ among pixels half as large.
            np.testing.assert_allclose(centroid(double), 2 * TEMPLATE[i] + 0.5, atol=0.25)


@pytest.mark.parametrize("shrink", [3, 9, 40])
def test_shrinking_removes_what_the_crop_cannot_show(shrink: int) -> None:
    side = SIZE * shrink
    stripes = np.where(np.arange(side) % 2, 255, 0).astype(np.uint8)
    image = np.broadcast_to(stripes, (side, side)).copy()
    crop = warp(image, matrix_of(0, 1 / shrink, 0.21, 0), SIZE)
    assert abs(float(crop.mean()) - 127.5) < 2
    assert crop[8:-8, 8:-8].std() < 2


def test_sharpness_has_no_jump_where_decimation_begins() -> None:
    image = texture(900, 900, cell=5)
    for scale in (1 / 4, 1 / 6, 0.999):
        before = warp(image, matrix_of(0, scale * 1.00001, 0, 0), SIZE).astype(float)
        after = warp(image, matrix_of(0, scale * 0.99999, 0, 0), SIZE).astype(float)
        assert np.abs(before - after).mean() < 0.8


def test_beyond_the_picture_its_border_is_repeated() -> None:
    image = np.full((50, 60), 10, np.uint8)
    image[:, 0] = 77
    assert (warp(image, matrix_of(0, 1, 500, 0), 32) == 77).all()
    assert (warp(np.full((1, 1), 5, np.uint8), matrix_of(0.4, 30, 7, -3), 32) == 5).all()


def test_a_crop_of_an_8k_picture_in_colour() -> None:
    image = np.full((4320, 7680, 3), (10, 20, 30), np.uint8)
    points = transform(matrix_of(0, 40, 1500, 300), TEMPLATE)
    assert (align(image, points, TEMPLATE, WEIGHTS, SIZE, 2) == (10, 20, 30)).all()


# -- motion ---------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.floats(-0.06, 0.06), st.floats(0.95, 1.05), st.floats(-4, 4), st.floats(-4, 4))
def test_motion_of_a_texture_is_measured(angle: float, scale: float, dx: float, dy: float) -> None:
    image = texture(300, 300, seed=3)
    look = matrix_of(0, 1, -100, -100)
    middle = np.array([48.0, 48.0])
    truth = matrix_of(angle, scale, 0, 0)
    truth[:, 2] = middle + np.array([dx, dy]) - truth[:, :2] @ middle
    found, agreement = crop_motion(warp(image, look, SIZE), warp(image, compose(truth, look), SIZE))
    assert agreement > 0.8
    corners = [[20, 20], [76, 20], [20, 76], [76, 76]]
    np.testing.assert_allclose(transform(found, corners), transform(truth, corners), atol=0.25)


def test_motion_of_the_head_not_of_the_lips() -> None:
    before = warp(texture(300, 300, seed=4), matrix_of(0, 1, -100, -100), SIZE)
    after = np.roll(before, 2, axis=1)
    after[62:80, 30:66] = np.roll(before, (6, -3), axis=(0, 1))[62:80, 30:66]
    motion, _ = crop_motion(before, after)
    np.testing.assert_allclose(motion, matrix_of(0, 1, 2, 0), atol=0.15)


def test_no_motion_agrees_between_unrelated_or_flat_pictures() -> None:
    one, other = texture(SIZE, SIZE, seed=5), texture(SIZE, SIZE, seed=6)
    assert crop_motion(one, other)[1] < FaceConfig().motion_agreement
    flat = np.full((SIZE, SIZE), 90, np.uint8)
    assert crop_motion(flat, flat)[1] < FaceConfig().motion_agreement


# -- plausibility ---------------------------------------------------------------------------------


def test_faces_are_plausible_at_any_size_and_place() -> None:
    for angle in np.arange(-3, 3.1, 0.5):
        points = transform(matrix_of(angle, 3.7, 200, -50), TEMPLATE)
        assert implausible(points, TEMPLATE, FaceConfig()) == ""


def test_a_limit_of_roll_refuses_tilted_heads() -> None:
    tilted = transform(matrix_of(1.2, 1, 0, 0), TEMPLATE)
    assert implausible(tilted, TEMPLATE, FaceConfig(max_roll_deg=50)) == "head tilted too far"


def spoil(index: int, x: float, y: float) -> NDArray[np.float32]:
    points = TEMPLATE.copy()
    points[index] = (x, y)
    return points


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (TEMPLATE * np.float32([-1, 1]), NOT_A_FACE),  # mirrored: upside down for its own eyes
        (TEMPLATE[[0, 1, 2, 4, 3]], NOT_A_FACE),  # mouth corners crossed
        (TEMPLATE[[3, 4, 2, 0, 1]], NOT_A_FACE),  # mouth above the eyes
        (spoil(2, 48, 80), NOT_A_FACE),  # nose below the mouth
        (np.full((5, 2), np.nan, np.float32), NOT_A_FACE),
        (np.zeros((5, 2), np.float32), NOT_A_FACE),
        (spoil(2, 64, 51), "head turned away"),
        (TEMPLATE * np.float32([0.5, 1]), "head turned away"),
        (TEMPLATE * np.float32([1, 0.5]), "head turned away"),
    ],
)
def test_what_is_wrong_with_points(points: NDArray[np.float32], reason: str) -> None:
    assert implausible(points.astype(np.float32), TEMPLATE, FaceConfig()) == reason


# -- a world for the tracker ----------------------------------------------------------------------


def draw(
    *faces: NDArray[np.float32], seed: int = 0, height: int = 480, width: int = 640
) -> NDArray[np.uint8]:
    """A picture whose faces are patches of texture with five white marks; ``seed`` is the scene."""
    image = texture(height, width, seed)
    for points in faces:
        m = invert(similarity(points, TEMPLATE, np.ones(5)))
        patch = texture(140, 140, seed + 100, cell=7)
        centred = compose(m, matrix_of(0, 1, 48 - 70, 50 - 70))
        warped = cv2.warpAffine(patch, centred, (width, height))
        inside = cv2.warpAffine(np.full_like(patch, 255), centred, (width, height)) > 250
        image = np.where(inside, warped, image)
        radius = max(1.5, 0.09 * float(np.linalg.norm(points[1] - points[0])))
        for x, y in points:
            at = (round(float(x) * 16), round(float(y) * 16))
            cv2.circle(image, at, round(radius * 16), 255, -1, cv2.LINE_AA, shift=4)
    return np.repeat(image[:, :, None], 3, axis=2)


def box_of(points: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """The box a box detector would give, a little off as real ones are."""
    m = similarity(BOX_TO_POINTS, points, np.ones(5))
    side = float(np.hypot(m[0, 0], m[1, 0]))
    x, y = transform(m, [0.5, 0.5]) - side / 2
    return float(x) + 0.04 * side, float(y) - 0.03 * side, side, side


@dataclass
class World:
    """Scripted detector: reports ``faces`` unless told to miss; also whatever is in ``ghosts``."""

    points: bool = False
    faces: list[NDArray[np.float32]] = field(default_factory=list)
    ghosts: list[Detection] = field(default_factory=list)
    miss: bool = False
    calls: int = 0
    smallest: list[float] = field(default_factory=list)
    name: str = "world"

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        assert image.ndim == 3
        assert image.shape[2] == 3
        self.calls += 1
        self.smallest.append(smallest)
        if self.miss:
            return list(self.ghosts)
        seen = [Detection(box_of(p), 1.0, p if self.points else None) for p in self.faces]
        return seen + self.ghosts

    def show(
        self, tracker: FaceTracker, *faces: NDArray[np.float32], seed: int = 0
    ) -> FaceObservation:
        self.faces = list(faces)
        return tracker.update(draw(*faces, seed=seed))


def at(x: float, y: float, eyes: float = 90, angle: float = 0) -> NDArray[np.float32]:
    """Points of a face around (x, y) with that eye distance."""
    m = matrix_of(angle, eyes / 30, 0, 0)
    m[:, 2] = (x, y) - m[:, :2] @ (48, 48)
    return transform(m, TEMPLATE)


HOME = at(300, 230)


def make(world: World, config: FaceConfig | None = None) -> FaceTracker:
    landmarks = None if world.points else find_marks
    return FaceTracker(world, landmarks, TEMPLATE, WEIGHTS, SIZE, BOX_TO_POINTS, config)


def error(seen: FaceObservation, points: NDArray[np.float32]) -> float:
    assert seen.points is not None
    return float(np.linalg.norm(seen.points - points, axis=1).max())


both_kinds = pytest.mark.parametrize("points", [False, True], ids=["boxes", "points"])


# -- the tracker ----------------------------------------------------------------------------------


@both_kinds
def test_without_detection_the_face_is_lost(points: bool) -> None:
    world = World(points)
    seen = world.show(make(world))
    assert seen.state == FaceState.LOST
    assert seen.crop is None
    assert seen.points is None
    assert seen.box is None


@both_kinds
def test_a_face_is_found_and_cut_out(points: bool) -> None:
    world = World(points)
    face = at(300, 230, eyes=80, angle=0.2)
    seen = world.show(make(world), face)
    assert seen.state == FaceState.TRACKED
    assert seen.reason == ""
    assert 0 < seen.quality <= 1
    assert error(seen, face) < 1.5
    assert seen.crop is not None
    assert seen.matrix is not None
    assert seen.crop.shape == (SIZE, SIZE)
    np.testing.assert_allclose(find_marks(seen.crop[None])[0], TEMPLATE, atol=1)
    np.testing.assert_allclose(transform(seen.matrix, seen.points), TEMPLATE, atol=1)
    assert seen.box is not None
    x, y, width, height = seen.box
    assert (face > (x, y)).all()
    assert (face < (x + width, y + height)).all()


def test_a_box_on_the_wall_is_no_face() -> None:
    world = World(ghosts=[Detection(box_of(HOME), 9.0)])
    tracker = make(world)
    assert all(world.show(tracker).state == FaceState.LOST for _ in range(3))


def test_points_that_are_no_face_are_not_followed() -> None:
    world = World(points=True, ghosts=[Detection(box_of(HOME), 0.9, HOME[[3, 4, 2, 0, 1]])])
    assert world.show(make(world)).state == FaceState.LOST


def test_a_box_detector_runs_only_now_and_then() -> None:
    world, config = World(), FaceConfig(verify_every=10)
    tracker = make(world, config)
    for _ in range(41):
        assert world.show(tracker, HOME).state == FaceState.TRACKED
    assert world.calls == 5  # frames 0, 10, 20, 30, 40
    assert tracker.detections == 5


@both_kinds
def test_a_moving_face_is_followed_without_lag(points: bool) -> None:
    world = World(points)
    tracker = make(world, FaceConfig(verify_every=1000))
    for i in range(30):
        face = at(150 + 9 * i, 230 - 3 * i, eyes=80 + i, angle=0.012 * i)
        seen = world.show(tracker, face)
        assert seen.state == FaceState.TRACKED
        assert error(seen, face) < 2


def test_noise_of_the_points_hardly_reaches_a_still_face() -> None:
    rng = np.random.default_rng(0)
    world = World(points=True)
    tracker = make(world)
    image, raw, smooth = draw(HOME), [], []
    for _ in range(60):
        world.faces = [(HOME + rng.normal(0, 1.5, (5, 2))).astype(np.float32)]
        raw.append(world.faces[0])
        smooth.append(tracker.update(image).points)

    def jitter(p: NDArray[np.float32]) -> float:
        return float(np.abs(np.diff(p, n=2, axis=0)).mean())

    assert jitter(np.array(smooth)[5:]) < 0.3 * jitter(np.array(raw)[5:])
    assert np.abs(np.array(smooth)[10:].mean(0) - HOME).max() < 1


def test_a_wrong_measurement_is_refused_but_a_lasting_one_believed() -> None:
    config = FaceConfig()
    world = World(points=True)
    tracker = make(world, config)
    image = draw(HOME)
    world.faces = [HOME]
    for _ in range(5):
        tracker.update(image)
    # The same box, but points that sit half an eye distance higher.
    elsewhere = HOME - np.float32([0, 45])
    world.faces, world.ghosts = [], [Detection(box_of(HOME), 1.0, elsewhere)]
    for _ in range(config.max_rejected):
        assert error(tracker.update(image), HOME) < 1
    assert error(tracker.update(image), elsewhere) < 1


def test_a_face_on_its_head_is_lost_and_found_when_it_stands_upright() -> None:
    world = World()
    tracker = make(world)
    head_down = at(300, 230, angle=np.pi)
    world.ghosts = [Detection(box_of(HOME), 1.0)]  # the box detector takes it for an upright one
    for _ in range(3):
        assert tracker.update(draw(head_down)).state == FaceState.LOST
    assert tracker.update(draw(HOME)).state == FaceState.TRACKED


def test_landmarks_carry_a_face_that_the_detector_misses() -> None:
    world = World()
    tracker = make(world)
    world.show(tracker, HOME)
    world.miss = True
    for i in range(60):
        face = at(300 + i, 230, angle=0.008 * i)
        seen = world.show(tracker, face)
        assert seen.state == FaceState.TRACKED
        assert error(seen, face) < 2


@pytest.mark.parametrize(("share", "survives"), [(0.36, False), (0.6, True)])
def test_weak_evidence_alone_does_not_carry_a_face_for_ever(share: float, survives: bool) -> None:
    def weak(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (share * find_marks(crops) + (1 - share) * TEMPLATE).astype(np.float32)

    config = FaceConfig(max_undetected=20)
    world = World(faces=[HOME])
    tracker = FaceTracker(world, weak, TEMPLATE, WEIGHTS, SIZE, BOX_TO_POINTS, config)
    image = draw(HOME)
    tracker.update(image)
    world.miss = True
    states = [tracker.update(image).state for _ in range(40)]
    assert set(states[:20]) == {FaceState.TRACKED}
    assert (states[-1] == FaceState.TRACKED) == survives


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_points_that_make_no_sense_never_move_the_track(value: float) -> None:
    config = FaceConfig()
    world = World(points=True, faces=[HOME])
    tracker = make(world, config)
    image = draw(HOME)
    for _ in range(3):
        tracker.update(image)
    world.faces = []
    world.ghosts = [Detection(box_of(HOME), 1.0, np.full((5, 2), value, np.float32))]
    seen = [tracker.update(image) for _ in range(config.max_rejected + 3)]
    assert all(error(s, HOME) < 1 for s in seen)
    assert [s.state for s in seen[: config.max_rejected]] == (
        [FaceState.TRACKED] * config.max_rejected
    )
    assert seen[-1].state == FaceState.LOW_QUALITY
    assert seen[-1].reason == NOT_A_FACE
    world.faces, world.ghosts = [HOME], []
    assert tracker.update(image).state == FaceState.TRACKED


@both_kinds
def test_a_cut_loses_the_face_at_once(points: bool) -> None:
    world = World(points)
    tracker = make(world)
    for _ in range(3):
        world.show(tracker, HOME)
    assert world.show(tracker, seed=50).state == FaceState.LOST
    assert world.show(tracker, seed=50).state == FaceState.LOST
    assert world.show(tracker, HOME).state == FaceState.TRACKED


@both_kinds
def test_a_cut_to_another_face_costs_no_frame(points: bool) -> None:
    world = World(points)
    tracker = make(world)
    for _ in range(3):
        world.show(tracker, HOME)
    for face in (at(420, 200, eyes=60), at(300, 240, eyes=100, angle=0.15)):
        seen = world.show(tracker, face, seed=int(face[0, 0]))
        assert seen.state == FaceState.TRACKED
        assert error(seen, face) < 1.5


def test_a_wall_is_not_followed_where_a_face_faded_away() -> None:
    config = FaceConfig()
    world = World()
    tracker = make(world, config)
    face, wall = draw(HOME).astype(float), draw(seed=0).astype(float)
    world.faces = [HOME]
    for _ in range(3):
        tracker.update(face.astype(np.uint8))
    world.faces = []
    states = []
    for i in range(60):
        share = min(1.0, i / 20)
        states.append(tracker.update(((1 - share) * face + share * wall).astype(np.uint8)).state)
    lost_at = states.index(FaceState.LOST)
    assert lost_at <= 20 + config.verify_every + config.misses + 1
    assert set(states[lost_at:]) == {FaceState.LOST}


def test_texture_bridges_short_misses_of_a_detector_with_points() -> None:
    config = FaceConfig()
    world = World(points=True)
    tracker = make(world, config)
    for i in range(4):
        world.show(tracker, at(300 + 4 * i, 230))
    world.miss = True
    for i in range(4, 4 + config.misses):
        face = at(300 + 4 * i, 230)
        seen = world.show(tracker, face)
        assert seen.state == FaceState.TRACKED
        assert error(seen, face) < 2
    assert world.show(tracker, at(300 + 4 * 8, 230)).state == FaceState.LOST


@both_kinds
def test_two_faces_are_multiple_and_the_followed_one_stays(points: bool) -> None:
    world = World(points)
    tracker = make(world, FaceConfig(verify_every=4))
    small, large = at(150, 230, eyes=70), at(450, 230, eyes=90)
    for _ in range(3):
        assert world.show(tracker, small).state == FaceState.TRACKED
    seen = [world.show(tracker, small, large) for _ in range(12)]
    states = [s.state for s in seen]
    assert states[0] == FaceState.TRACKED  # one sighting is not enough
    first = states.index(FaceState.MULTIPLE)
    assert set(states[first:]) == {FaceState.MULTIPLE}
    assert all(error(s, small) < 1.5 and s.crop is not None for s in seen)
    states = [world.show(tracker, small).state for _ in range(8)]
    assert states[-1] == FaceState.TRACKED


@both_kinds
def test_the_largest_of_several_new_faces_is_taken(points: bool) -> None:
    world = World(points)
    small, large = at(150, 230, eyes=60), at(450, 230, eyes=90)
    seen = world.show(make(world), small, large)
    assert seen.state == FaceState.MULTIPLE
    assert error(seen, large) < 1.5


def test_a_second_box_without_a_face_in_it_does_not_count() -> None:
    world = World(ghosts=[Detection(box_of(at(520, 350, eyes=60)), 6.0)])
    tracker = make(world, FaceConfig(verify_every=1))
    assert all(world.show(tracker, HOME).state == FaceState.TRACKED for _ in range(4))


def dim(image: NDArray[np.uint8], factor: float, offset: float) -> NDArray[np.uint8]:
    return (image * factor + offset).astype(np.uint8)


def poor_faces() -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.float32]]]:
    yield "face too small", draw(at(300, 230, eyes=13)), at(300, 230, eyes=13)
    yield "face too dark", dim(draw(HOME), 0.06, 0), HOME
    yield "face without contrast", dim(draw(HOME), 0.04, 120), HOME
    turned = HOME.copy()
    turned[2, 0] += 50
    yield "head turned away", draw(turned), turned
    yield "face partly outside the picture", draw(at(20, 230)), at(20, 230)


@pytest.mark.parametrize(
    ("reason", "image", "face"), poor_faces(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_poor_face_is_reported_but_not_analysed(
    reason: str, image: NDArray[np.uint8], face: NDArray[np.float32]
) -> None:
    world = World(points=True, faces=[face])
    seen = make(world).update(image)
    assert seen.state == FaceState.LOW_QUALITY
    assert seen.reason == reason
    assert seen.crop is None
    assert seen.quality == 0
    assert seen.points is not None


@pytest.mark.parametrize("angle", [0.8, 1.57, 2.4, 3.14, -1.57])
def test_rough_points_begin_a_face_at_any_roll_and_landmarks_measure_it(angle: float) -> None:
    lying = at(300, 230, angle=angle)
    eyes = float(np.linalg.norm(lying[1] - lying[0]))
    off = (lying + np.random.default_rng(1).normal(0, 0.08 * eyes, (5, 2))).astype(np.float32)
    world = World(ghosts=[Detection(box_of(lying), 0.9, off, rough=True)])
    tracker = make(world, FaceConfig(verify_every=5))
    image = draw(lying)
    for frame in range(12):
        seen = tracker.update(image)
        assert seen.state == FaceState.TRACKED
        assert error(seen, lying) < 1.5, frame
    # The crop is upright: the marks lie where the template has them.
    assert seen.crop is not None
    np.testing.assert_allclose(find_marks(seen.crop[None])[0], TEMPLATE, atol=1.5)
    # The detector is asked now and then, as one that gives boxes only.
    assert tracker.detections == 3
    # The face's box lies around the face, whichever way is up.
    assert seen.box is not None
    x, y, side, _ = seen.box
    middle = lying[:2].mean(0) * 0.4 + lying[3:].mean(0) * 0.6
    assert np.linalg.norm(np.array([x, y]) + side / 2 - middle) < 0.25 * side


def test_rough_points_on_no_face_begin_nothing() -> None:
    nowhere = at(520, 350, eyes=60, angle=1.2)
    world = World(ghosts=[Detection(box_of(nowhere), 0.9, nowhere, rough=True)])
    assert make(world).update(draw()).state == FaceState.LOST


def test_without_landmarks_rough_points_are_followed_as_they_are() -> None:
    world = World(ghosts=[Detection(box_of(HOME), 0.9, HOME, rough=True)])
    tracker = FaceTracker(world, None, TEMPLATE, WEIGHTS, SIZE)
    assert [tracker.update(draw(HOME)).state for _ in range(4)] == [FaceState.TRACKED] * 4
    assert tracker.detections == 4


def test_a_face_at_the_limit_of_size_does_not_flicker() -> None:
    world = World(points=True)
    tracker = make(world)
    states = [
        world.show(tracker, at(300, 230, eyes=eyes)).state
        for eyes in (15.0, 16.6, 15.5, 16.6, 20.0, 20.0, 20.0, 20.0, 16.9, 16.9, 16.9, 16.9)
    ]
    assert set(states[:4]) == {FaceState.LOW_QUALITY}
    assert set(states[7:]) == {FaceState.TRACKED}


@both_kinds
def test_state_survives_pickling_and_reset_forgets_it(points: bool) -> None:
    path = [at(200 + 5 * i, 230, angle=0.01 * i) for i in range(24)]
    world = World(points)
    tracker = make(world, FaceConfig(verify_every=5))
    for face in path[:12]:
        world.show(tracker, face)
    restored = pickle.loads(pickle.dumps(tracker))
    with pytest.raises(ConfigError, match="attach"):
        restored.update(draw(path[12]))
    restored = pickle.loads(pickle.dumps(tracker))
    twin = World(points)
    restored.attach(twin, None if points else find_marks)
    for face in path[12:]:
        a, b = world.show(tracker, face), twin.show(restored, face)
        np.testing.assert_array_equal(a.points, b.points)
        np.testing.assert_array_equal(a.crop, b.crop)
    tracker.reset()
    new = make(twin, FaceConfig(verify_every=5))
    for face in path:
        a, b = world.show(tracker, face), twin.show(new, face)
        np.testing.assert_array_equal(a.points, b.points)
        assert a.state == b.state
    assert tracker.detections == new.detections


def test_boxes_without_landmarks_or_their_place_are_a_configuration_error() -> None:
    world = World(faces=[HOME])
    for landmarks, place, missing in (
        (None, BOX_TO_POINTS, "landmark head"),
        (find_marks, None, "box points for world"),
    ):
        tracker = FaceTracker(world, landmarks, TEMPLATE, WEIGHTS, SIZE, place)
        with pytest.raises(ConfigError, match=missing):
            tracker.update(draw(HOME))
    with pytest.raises(ConfigError, match="template"):
        FaceTracker(world, find_marks, TEMPLATE[:4], WEIGHTS, SIZE)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1), (2, 900, 3), (4320, 7680, 3), (30, 30, 4)])
def test_pictures_of_any_size_and_layout(shape: tuple[int, ...]) -> None:
    world = World()
    tracker = make(world)
    # In fewer pixels than the smallest face has, there is nothing to look for.
    expected = FaceState.LOST if min(shape[:2]) >= 44 else FaceState.LOW_QUALITY
    for _ in range(2):
        seen = tracker.update(np.full(shape, 80, np.uint8))
        assert seen.state == expected
        assert seen.reason == ("" if expected == FaceState.LOST else "picture too small for a face")


def test_grey_frames_give_the_same_face_as_colour() -> None:
    world = World(faces=[HOME])
    image = draw(HOME)
    a, b = make(world).update(image), make(world).update(image[:, :, 0])
    np.testing.assert_array_equal(a.crop, b.crop)


def test_a_face_from_frame_to_frame_in_8k() -> None:
    world = World()
    tracker = make(world)
    for i in range(3):
        face = at(4000 + 60 * i, 2100, eyes=1100)
        world.faces = [face]
        small = draw(face / 12, height=360, width=640)
        image = cv2.resize(small, (7680, 4320), interpolation=cv2.INTER_LINEAR)
        seen = tracker.update(image.astype(np.uint8))
        assert seen.state == FaceState.TRACKED
        assert error(seen, face) < 20


# -- real clips -----------------------------------------------------------------------------------


def frames_of(path: Path) -> Iterator[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(path))
    while True:
        ok, image = capture.read()
        if not ok:
            return
        yield image.astype(np.uint8, copy=False)


def follow(
    path: Path, detector: Detector, turn: int | None = None, every: int = 1
) -> list[FaceState]:
    """Follow the face of a clip, or of every n-th picture, turned where asked."""
    network = AUNetwork.load(device="cpu")
    tracker = FaceTracker.of_network(detector, network)
    pictures = itertools.islice(frames_of(path), 0, None, every)
    turned = (f if turn is None else cv2.rotate(f, turn) for f in pictures)
    return [tracker.update(image.astype(np.uint8, copy=False)).state for image in turned]


@needs_opencv_4
def test_a_clip_on_its_head_is_never_tracked() -> None:
    assert set(follow(DEMO_CLIP, HaarDetector(), every=15)) == {FaceState.TRACKED}
    assert set(follow(DEMO_CLIP, HaarDetector(), cv2.ROTATE_180, 15)) == {FaceState.LOST}


@needs_opencv_4
@pytest.mark.shared
def test_a_real_clip_on_its_head_is_hardly_ever_tracked(shared: Path) -> None:
    states = follow(shared / "clips" / "single_face.mp4", HaarDetector(), cv2.ROTATE_180)
    # One frame may pass for an upright face, but the next takes it back.
    assert states.count(FaceState.LOST) >= 0.97 * len(states)


@pytest.fixture(scope="module")
def follow_clip(shared: Path) -> Callable[[str, str], list[FaceState]]:
    def follow_with(clip: str, kind: str) -> list[FaceState]:
        model = shared / "models" / "face_detection_yunet_2023mar.onnx"
        return follow(
            shared / "clips" / clip, HaarDetector() if kind == "haar" else YuNetDetector(model)
        )

    return follow_with


@pytest.mark.shared
@pytest.mark.parametrize("kind", [pytest.param("haar", marks=needs_opencv_4), "yunet"])
@pytest.mark.parametrize(
    ("clip", "first", "last", "frames"),
    [
        ("face_noface.mov", 0, 71, 169),
        ("noface_face.mov", 96, 167, 169),
        ("single_face.mp4", 0, 71, 72),
        ("no_face.mp4", None, None, 95),
    ],
)
def test_real_faces_come_and_go(
    follow_clip: Callable[[str, str], list[FaceState]],
    clip: str,
    first: int | None,
    last: int | None,
    frames: int,
    kind: str,
) -> None:
    states = follow_clip(clip, kind)
    assert len(states) == frames
    with_face = [i for i, state in enumerate(states) if state != FaceState.LOST]
    if first is None or last is None:
        assert with_face == []
        return
    assert abs(with_face[0] - first) <= 5
    assert abs(with_face[-1] - last) <= 5
    assert len(with_face) == with_face[-1] - with_face[0] + 1
    assert {states[i] for i in with_face} == {FaceState.TRACKED}


@pytest.mark.shared
@pytest.mark.parametrize("kind", [pytest.param("haar", marks=needs_opencv_4), "yunet"])
def test_a_hand_or_a_tilt_does_not_lose_a_real_face(
    follow_clip: Callable[[str, str], list[FaceState]], kind: str
) -> None:
    states = follow_clip("WolfgangLanger_Pexels.mp4", kind)
    assert len(states) == 472
    assert sum(state == FaceState.TRACKED for state in states) >= 467


def test_a_check_looks_for_no_smaller_face_than_counts_and_a_search_for_all() -> None:
    world = World()
    config = FaceConfig(verify_every=3, misses=0)
    tracker = make(world, config)
    seen = [world.show(tracker, HOME) for _ in range(4)]
    assert seen[-1].box is not None
    assert world.smallest[0] == 0.0  # the search for the face
    assert len(world.smallest) == 2
    assert world.smallest[1] == pytest.approx(config.other_face_size * seen[-1].box[2], rel=0.01)
    # When the check finds no proof, a face of any size may be the next.
    world.show(tracker)
    assert world.smallest[2:][-1] == 0.0


def test_landmarks_searched_beforehand_change_nothing() -> None:
    world, faces = World(), [at(300 + 6 * n, 230) for n in range(8)]
    alone, together = make(world), make(world)
    for face in faces:
        picture = draw(face)
        world.faces = [face]
        crop = together.foresee(picture)
        points = None if crop is None else find_marks(crop[None])[0]
        ours, theirs = together.update(picture, points), alone.update(picture)
        assert ours.state == theirs.state == FaceState.TRACKED
        np.testing.assert_array_equal(ours.points, theirs.points)
        np.testing.assert_array_equal(ours.crop, theirs.crop)


class Marks:
    """The landmarks of the scripted world, counted."""

    def __init__(self) -> None:
        self.crops = 0
        self.shift = np.zeros(2, np.float32)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.crops += len(crops)
        return find_marks(crops) + self.shift


def teach(tracker: FaceTracker, seen: FaceObservation, off: float = 0.0) -> None:
    """Tell a tracker the landmarks of the crop that it gave, as the network does."""
    assert seen.crop is not None
    tracker.learn(find_marks(seen.crop[None])[0] + np.float32(off))


def learning(config: FaceConfig | None = None) -> tuple[World, Marks, FaceTracker]:
    world, marks = World(), Marks()
    return world, marks, FaceTracker(world, marks, TEMPLATE, WEIGHTS, SIZE, BOX_TO_POINTS, config)


def test_a_tracker_that_learns_landmarks_searches_for_none_once_it_knows_the_face() -> None:
    world, marks, tracker = learning(FaceConfig(verify_every=1000))
    asked = []
    for i in range(30):
        face = at(150 + 9 * i, 230 - 3 * i, eyes=80 + i, angle=0.012 * i)
        before = marks.crops
        seen = world.show(tracker, face)
        assert seen.state == FaceState.TRACKED
        assert error(seen, face) < 2  # without lag
        asked.append(marks.crops - before)
        teach(tracker, seen)
    assert asked[0] > 1  # the search
    assert asked[1:FIRST_UPDATES] == [1] * (FIRST_UPDATES - 1)
    assert asked[FIRST_UPDATES:] == [0] * (30 - FIRST_UPDATES)


def test_landmarks_that_contradict_the_track_are_searched_for_in_the_next_frame() -> None:
    world, marks, tracker = learning(FaceConfig(verify_every=1000))
    for _ in range(8):
        seen = world.show(tracker, HOME)
        teach(tracker, seen)
    off = 0.08 * 30  # either way: .11 of the eye distance in the crop, which is 30 pixels
    asked, errors = [], []
    for i in range(16):
        before = marks.crops
        seen = world.show(tracker, HOME)
        teach(tracker, seen, off if i == 2 else 0.0)
        asked.append(marks.crops - before)
        errors.append(error(seen, HOME))
    assert asked[:4] == [0, 0, 0, 1]  # in the frame after it
    assert asked[-4:] == [0] * 4  # until what it did is made good
    assert max(errors) < 0.12 * 90
    assert errors[-1] < 1.5


def test_a_frame_whose_landmarks_were_not_learned_measures_its_own() -> None:
    world, marks, tracker = learning(FaceConfig(verify_every=1000))
    for _ in range(8):
        teach(tracker, world.show(tracker, HOME))
    before = marks.crops
    world.show(tracker, HOME)  # nobody analyses it
    assert marks.crops == before
    world.show(tracker, HOME)
    assert marks.crops == before + 1


def test_a_still_face_stands_as_still_with_learned_landmarks() -> None:
    rng = np.random.default_rng(0)
    world, _, tracker = learning(FaceConfig(verify_every=1000))
    image, smooth = draw(HOME), []
    world.faces = [HOME]
    for _ in range(60):
        seen = tracker.update(image)
        assert seen.crop is not None
        smooth.append(seen.points)
        noisy = find_marks(seen.crop[None])[0] + rng.normal(0, 0.5, (5, 2))
        tracker.learn(noisy.astype(np.float32))
    steps = np.abs(np.diff(np.array(smooth)[10:], n=2, axis=0)).mean()
    assert steps < 0.3 * 0.5 * 3 * np.sqrt(6)  # of noise of half a crop pixel, three in the frame
    assert np.abs(np.array(smooth)[10:].mean(0) - HOME).max() < 1


@dataclass
class Later(World):
    """The scripted detector, whose answers come some frames later."""

    frames: int = 2

    def ask(self, image: NDArray[np.uint8], smallest: float = 0.0) -> Callable[..., object]:
        found, asked = self.detect(image, smallest), itertools.count()

        def answer(wait: bool = False) -> list[Detection] | None:
            return found if wait or next(asked) >= self.frames else None

        return answer


def test_a_detector_that_is_late_holds_no_frame_up_and_still_proves_the_face() -> None:
    world = Later(frames=3)
    tracker = make(world, FaceConfig(verify_every=6))
    looked = []
    for i in range(30):
        seen = world.show(tracker, at(300 + 3 * i, 230))
        assert seen.state == FaceState.TRACKED
        looked.append(tracker.looked)
    # Asked in frame 6, answered in frame 10 (the fourth time it was looked after), and so on.
    assert [i for i, now in enumerate(looked) if now] == [0, 10, 19, 28]
    copied = pickle.loads(pickle.dumps(tracker))
    copied.attach(World(faces=[at(390, 230)]), find_marks)
    assert copied.update(draw(at(390, 230))).state == FaceState.TRACKED


def test_a_face_that_a_late_detector_does_not_find_is_given_up_all_the_same() -> None:
    world, config = Later(frames=1), FaceConfig(verify_every=4)
    tracker = make(world, config)
    face, wall = draw(HOME).astype(float), draw(seed=0).astype(float)
    world.faces = [HOME]
    for _ in range(3):
        tracker.update(face.astype(np.uint8))
    world.faces, states = [], []
    for i in range(60):
        share = min(1.0, i / 20)
        states.append(tracker.update(((1 - share) * face + share * wall).astype(np.uint8)).state)
    assert states[-1] == FaceState.LOST


def test_a_detector_that_saw_which_way_is_up_is_not_doubted() -> None:
    marks = Marks()
    tilted = at(300, 230, angle=0.4)
    world = World(ghosts=[Detection(box_of(tilted), 0.9, tilted, rough=True)])
    tracker = FaceTracker(world, marks, TEMPLATE, WEIGHTS, SIZE, None, FaceConfig(verify_every=4))
    image, before = draw(tilted), 0
    for _ in range(20):
        before = marks.crops
        seen = tracker.update(image)
        assert seen.state == FaceState.TRACKED
        if before:
            assert marks.crops - before <= 1
        teach(tracker, seen)
    # One that says the face is on its head is: the landmarks decide.
    world.ghosts = [Detection(box_of(tilted), 0.9, tilted[[3, 4, 2, 0, 1]], rough=True)]
    asked = []
    for _ in range(6):
        before = marks.crops
        teach(tracker, tracker.update(image))
        asked.append(marks.crops - before)
    assert max(asked) > 4


def test_no_landmarks_are_searched_in_a_picture_too_small_for_a_face() -> None:
    world = World()
    tracker, tiny = make(world), np.zeros((20, 30, 3), np.uint8)
    world.show(tracker, HOME)
    assert tracker.foresee(draw(HOME)) is not None
    assert tracker.foresee(tiny) is None
    seen = tracker.update(tiny)
    assert (seen.state, seen.reason) == (FaceState.LOW_QUALITY, "picture too small for a face")
