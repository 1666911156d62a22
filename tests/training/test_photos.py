"""Photographs that act: who may, what the labels say, that the face moves and the rest does not.

A rendered portrait stands in for a photograph, so that only the face model is needed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError, SourceError
from numpy.typing import NDArray
from typer.testing import CliRunner

from training import __main__ as command
from training.data.generator import Generator
from training.data.loader import ViewLoader, is_validation
from training.data.shards import read_shard
from training.face.expressions import only
from training.face.facekit import FaceKit, load_facekit
from training.face.facs import AU_INDEX, AUS, Expression
from training.fit.card import _trained_on, photograph_facts, shard_facts
from training.fit.rest import RENDERED_SIDE, neutral_faces, resting_generator
from training.photos import donors, fit
from training.photos.donors import Donor, Portrait, find_portraits, identity_of, prepare
from training.photos.fit import fit_mesh, irises, lip_gap, multi_pie
from training.photos.reenact import MASKED, NOT_DRAWN, WEAK, WEAK_UP_TO, Reenactor, draw_expression
from training.photos.texture import look_up
from training.render.scene import CANVAS, MARGIN, Pose

TRAINED, CHOOSING, REPORTED = "london:001", "london:003", "london:002"
"""Names of one whom the fixed rule trains with, one who chooses, and one who is reported on."""


def spread(landmarks: NDArray[np.floating], radius: float) -> NDArray[np.float64]:
    """Put 68 landmarks where MediaPipe has them, and irises into the middle of the eyes."""
    points = np.zeros((478, 2))
    points[[*fit._JAW, *fit._BROWS_UPPER, *fit._NOSE, *fit._EYES, *fit._LIPS]] = landmarks
    points[list(fit._BROWS_LOWER)] = landmarks[17:27]
    rim = radius * np.array([[1, 0], [0, -1], [-1, 0], [0, 1]])
    for first, eye in ((468, fit.EYES[0]), (473, fit.EYES[1])):
        points[first] = landmarks[eye].mean(0)
        points[first + 1 : first + 5] = points[first] + rim
    return points


def write_list(folder: Path, *rows: tuple[str, str, str]) -> None:
    (folder / "faces").mkdir(exist_ok=True)
    with (folder / donors.FACES).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "person", "expression"), *rows])


@pytest.fixture(scope="module")
def kit(shared: Path) -> FaceKit:
    return load_facekit(shared / "facekit" / "ict_facekit_compact.npz")


@pytest.fixture(scope="module")
def portraits(kit: FaceKit) -> list[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """Two rendered people: picture and 478 points, px."""
    generator = resting_generator(5)
    faces = [replace(face, pose=Pose(0.1, 0.05, 0, 120)) for face in neutral_faces(generator, 2)]
    marks = generator.draw(faces, np.arange(2), np.arange(2)).landmarks
    scale = RENDERED_SIDE / CANVAS
    pixels = (marks + MARGIN + 0.5) * scale - 0.5
    images = generator.portraits(faces)
    return [(im, spread(px, 3.4 * scale)) for im, px in zip(images, pixels, strict=True)]


@pytest.fixture(scope="module")
def acting(
    kit: FaceKit, portraits: list[tuple[NDArray[np.uint8], NDArray[np.float64]]]
) -> list[Donor]:
    kinds = (donors.NEUTRAL, donors.NEAR_NEUTRAL)
    return [
        prepare(kit, Portrait(Path(), kind, kind, identity_of(k)), *portrait)
        for k, (kind, portrait) in enumerate(zip(kinds, portraits, strict=True))
    ]


@pytest.fixture(scope="module")
def reenactor(kit: FaceKit, acting: list[Donor]) -> Reenactor:
    return Reenactor(3, kit, acting)


def act(
    reenactor: Reenactor, expression: Expression
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return reenactor.act(reenactor.donors[0], expression, rng, varied=False)


# -- who may act -----------------------------------------------------------------------------------


def test_only_neutral_portraits_that_are_trained_with_act(tmp_path: Path) -> None:
    write_list(
        tmp_path,
        ("b.jpg", TRAINED, "neutral"),
        ("a.jpg", REPORTED, "neutral"),
        ("c.jpg", TRAINED, "near_neutral"),
        ("d.jpg", TRAINED, "smile"),
        ("e.jpg", TRAINED, "not_labelled"),
        ("f.jpg", CHOOSING, "neutral"),
    )
    found = find_portraits(tmp_path)
    assert [(p.path.name, p.kind) for p in found] == [
        ("b.jpg", "neutral"),
        ("c.jpg", "near_neutral"),
    ]
    assert found[0].identity == found[1].identity


def test_identities_are_apart_from_rendered_ones_and_never_held_out() -> None:
    numbers = np.array([identity_of(k) for k in range(500)])
    assert len(set(numbers.tolist())) == 500
    assert not is_validation(numbers).any()
    assert numbers.min() >= 10**9


def test_a_missing_or_foreign_list_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set FACESTAGE_SHARED"):
        find_portraits(tmp_path)
    (tmp_path / "faces").mkdir()
    (tmp_path / donors.FACES).write_text("picture,who\na.jpg,b\n")
    with pytest.raises(ConfigError, match="needs the columns file, person and expression"):
        find_portraits(tmp_path)


@pytest.mark.shared
def test_what_cannot_act_is_left_out_with_its_reason(
    shared: Path, kit: FaceKit, tmp_path: Path
) -> None:
    known = find_portraits(shared)
    one, noise = known[0], np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)
    write_list(tmp_path, ("one.png", TRAINED, "neutral"), ("noise.png", TRAINED, "neutral"))
    with pytest.raises(ConfigError, match="no face detector"):
        donors.read_donors(kit, tmp_path)
    (tmp_path / "models").symlink_to(shared / "models")
    with pytest.raises(ConfigError, match=r"cannot read .*noise\.png"):
        donors.read_donors(kit, tmp_path)
    cv2.imwrite(str(tmp_path / "faces" / "noise.png"), noise)
    cv2.imwrite(str(tmp_path / "faces" / "one.png"), np.asarray(cv2.imread(str(one.path))))
    found, skipped = donors.read_donors(kit, tmp_path)
    assert len(found) == 1
    assert skipped == ["noise.png: no face is found in it"]
    write_list(tmp_path, ("noise.png", TRAINED, "neutral"))
    with pytest.raises(ConfigError, match="none of 1 portraits"):
        donors.read_donors(kit, tmp_path)


# -- the fit ---------------------------------------------------------------------------------------


@pytest.mark.shared
def test_the_fit_finds_pose_and_shape_of_the_model_itself(kit: FaceKit) -> None:
    weights = np.zeros(len(kit.identities))
    weights[:5] = (1, -1.5, 0.5, 1, -1)
    shape = kit.generic + np.tensordot(weights, kit.identities, 1)
    turn = Pose(np.deg2rad(12), np.deg2rad(-6), np.deg2rad(4), 100).rotation()
    screen = (shape @ turn.T * 14)[:, :2] * (1, -1) + (200, 180)
    found = fit_mesh(kit, screen[kit.landmarks])
    assert found.residual < 0.005
    angle = np.arccos((np.trace(found.turn @ turn.T) - 1) / 2)
    assert np.rad2deg(angle) < 3
    assert found.scale == pytest.approx(14, rel=0.08)
    face = shape[:, 2] > 4
    off = np.hypot(*(found.screen - screen)[face].T)
    assert np.median(off) / 14 < 0.1, "cm"


def test_landmarks_are_reduced_as_they_were_spread() -> None:
    marks = np.random.default_rng(1).uniform(0, 100, (68, 2))
    points = spread(marks, 4.0)
    assert np.allclose(multi_pie(points), marks)
    assert np.allclose(irises(points)[:, 2], 4)


@pytest.mark.shared
def test_faces_that_do_not_fit_or_wear_glasses_are_refused(
    kit: FaceKit, portraits: list[tuple[NDArray[np.uint8], NDArray[np.float64]]]
) -> None:
    image, points = portraits[0]
    somebody = Portrait(Path(), "a", donors.NEUTRAL, 1)
    with pytest.raises(SourceError, match="px apart"):
        prepare(kit, somebody, image, points / 4)
    with pytest.raises(SourceError, match="turned away"):
        prepare(kit, somebody, image, points * (1, -1) + (0, 272))
    noise = np.random.default_rng(2).normal(0, 12, points.shape)
    with pytest.raises(SourceError, match="misses its landmarks"):
        prepare(kit, somebody, image, points + noise)
    eyes = np.rint(irises(points)).astype(int)
    glasses = image.copy()
    cv2.line(glasses, eyes[0, :2].tolist(), eyes[1, :2].tolist(), 5, 4)
    with pytest.raises(SourceError, match="glasses"):
        prepare(kit, somebody, glasses, points)


# -- the labels ------------------------------------------------------------------------------------


def drawn(count: int, unknown: tuple[int, ...] = ()) -> Iterator[NDArray[np.float64]]:
    for seed in range(count):
        expression = draw_expression(np.random.default_rng([9, seed]), unknown)
        yield np.maximum(expression.left, expression.right)


def test_expressions_are_drawn_as_the_labels_need_them() -> None:
    values = np.stack(list(drawn(1500)))
    active = values >= 1
    assert 0.12 < (~values.any(1)).mean() < 0.22, "neutral faces"
    assert not active[:, [AU_INDEX[au] for au in NOT_DRAWN]].any()
    masked = [AU_INDEX[au] for au in MASKED]
    others = np.delete(values, masked, 1).any(1)
    assert not values[~others].any(), "what has no label is not drawn alone"
    alone = active & (active.sum(1, keepdims=True) == 1)
    often = {au: alone[:, AU_INDEX[au]].sum() for au in AUS}
    assert min(often[au] for au in (4, 15)) > 1.5 * max(often[au] for au in (14, 18, 20, 24))
    for au in WEAK:
        strength = values[:, AU_INDEX[au]]
        assert (strength[strength > 0] <= WEAK_UP_TO).mean() > 0.8
    assert values.max() > 4.5


def test_what_a_portrait_may_show_is_left_alone() -> None:
    mouth = [AU_INDEX[au] for au in donors.MOUTH]
    assert not np.stack(list(drawn(60, donors.MOUTH)))[:, mouth].any()


@pytest.mark.shared
def test_labels_are_unknown_where_the_photograph_or_the_method_leaves_them_so(
    reenactor: Reenactor, acting: list[Donor]
) -> None:
    batch = reenactor.render(range(8))
    assert [tuple(donor.unknown) for donor in acting] == [(), donors.MOUTH]
    for donor in acting:
        of = batch.intensity[batch.identity == donor.identity]
        assert len(of) == 4, "all act equally often"
        unknown = {au for au in AUS if np.isnan(of[:, AU_INDEX[au]]).all()}
        assert unknown == {*MASKED, *donor.unknown}
        known = [AU_INDEX[au] for au in AUS if au not in unknown]
        assert np.isfinite(of[:, known]).all()


@pytest.mark.shared
def test_a_mouth_that_is_open_is_not_called_neutral(
    kit: FaceKit, portraits: list[tuple[NDArray[np.uint8], NDArray[np.float64]]]
) -> None:
    image, points = portraits[0]
    open_mouth = points.copy()
    open_mouth[[87, 14, 317, 402, 178]] += (0, 6)
    assert lip_gap(multi_pie(open_mouth)) > donors.LIPS_PARTED > lip_gap(multi_pie(points))
    donor = prepare(kit, Portrait(Path(), "a", donors.NEUTRAL, 1), image, open_mouth)
    assert donor.unknown == (25, 26)


# -- the pictures ----------------------------------------------------------------------------------


@pytest.mark.shared
def test_a_picture_depends_on_seed_and_number_only(
    reenactor: Reenactor, kit: FaceKit, acting: list[Donor]
) -> None:
    batch, again = reenactor.render(range(4)), reenactor.render([3, 1])
    for name in ("image", "intensity", "landmarks", "identity"):
        assert np.array_equal(getattr(batch, name)[[3, 1]], getattr(again, name), equal_nan=True)
    other = Reenactor(4, kit, acting).render(range(4))
    assert not np.array_equal(other.landmarks, batch.landmarks)


@pytest.mark.shared
def test_a_donor_that_does_nothing_is_its_photograph(reenactor: Reenactor) -> None:
    picture, labels, marks = act(reenactor, only(1, 0))
    donor = reenactor.donors[0]
    assert np.nansum(labels) == 0
    assert np.allclose(marks, donor.landmarks, atol=1e-3)
    row, column = np.indices(picture.shape, np.float32)
    units = np.stack([column, row], -1) - MARGIN
    photo = look_up(donor.texture.photo, units)
    assert np.abs(picture - photo).mean() < 1.5
    assert np.percentile(np.abs(picture - photo), 99) < 12


@pytest.mark.shared
@pytest.mark.parametrize(
    ("au", "upper", "lower"),
    [(1, 21, 39), (2, 18, 37), (5, 37, 41), (15, 62, 48), (25, 62, 66), (26, 33, 8)],
)
def test_the_face_moves_by_its_action_unit(
    reenactor: Reenactor, au: int, upper: int, lower: int
) -> None:
    """Brows rise over the eyes, lids open, corners and jaw go down, lips part."""
    rest, weak, strong = (act(reenactor, only(au, level))[2] for level in (0, 2, 4.5))
    at_rest, at_b, at_e = (m[lower, 1] - m[upper, 1] for m in (rest, weak, strong))
    assert at_rest < at_b < at_e
    assert at_e - at_rest > 0.5, "template units"


@pytest.mark.shared
@pytest.mark.parametrize(
    ("au", "changed", "still"),
    [(4, (30, 55), (85, 120)), (25, (85, 110), (25, 60)), (43, (42, 56), (75, 120))],
)
def test_what_does_not_move_stays_the_photograph(
    reenactor: Reenactor, au: int, changed: tuple[int, int], still: tuple[int, int]
) -> None:
    """Rows of the picture: brows, mouth or eyes change, the other half of the face does not."""
    rest, active = (act(reenactor, only(au, level))[0].astype(int) for level in (0, 4))
    change = np.abs(active - rest)[:, 30:100]
    assert np.percentile(change[slice(*changed)], 90) > 8
    assert change[slice(*still)].mean() < 3


@pytest.mark.shared
def test_a_shut_eye_hides_the_iris_and_an_open_mouth_is_dark(reenactor: Reenactor) -> None:
    rest, labels, marks = act(reenactor, only(43, 5))
    assert labels[AU_INDEX[43]] == pytest.approx(5, abs=0.2)
    awake = act(reenactor, only(43, 0))[0]
    eye = np.rint(marks[36:42].mean(0) + MARGIN).astype(int)
    box = (slice(eye[1] - 4, eye[1] + 4), slice(eye[0] - 2, eye[0] + 3))
    assert rest[box].min() > awake[box].min() + 10
    closed, opened = (act(reenactor, only(26, level))[0] for level in (0, 5))
    mouth = np.rint(act(reenactor, only(26, 5))[2][60:68].mean(0) + MARGIN).astype(int)
    assert opened[mouth[1], mouth[0]] < 0.6 * closed[mouth[1], mouth[0]]


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.shared
def test_the_command_writes_shards_that_training_reads_and_keeps_them(
    reenactor: Reenactor, acting: list[Donor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(donors, "read_donors", lambda kit: (acting, ["x.jpg: glasses"]))
    words = ["reenact", "--out", str(tmp_path), "--count", "6", "--seed", "3"]
    done = CliRunner().invoke(command.app, words, catch_exceptions=False)
    assert "2 people act, 1 portraits cannot\n  x.jpg: glasses" in done.output
    (path,) = tmp_path.glob("*.npz")
    batch, expected = read_shard(path), reenactor.render(range(6))
    assert np.array_equal(batch.image, expected.image)
    assert np.allclose(batch.intensity, expected.intensity, atol=5e-3, equal_nan=True)
    written = path.stat().st_mtime_ns
    assert "already there" in CliRunner().invoke(command.app, words).output
    assert path.stat().st_mtime_ns == written
    with ViewLoader([tmp_path], 0, batch=3, workers=0) as loader:
        assert loader.faces == 6, "nobody is held out"
        view = next(iter(loader.epoch(0)))
    assert np.isnan(view.intensity[:, [AU_INDEX[au] for au in MASKED]]).all()


@pytest.mark.shared
def test_the_card_counts_photographs_apart_and_names_their_source(
    reenactor: Reenactor, kit: FaceKit, tmp_path: Path
) -> None:
    again = Reenactor(4, kit, reenactor.donors)
    for source, folder in (
        (reenactor, "acted"),
        (again, "acted"),
        (Generator(reenactor.seed, kit), "rendered"),
    ):
        list(command.shards.write_shards(source, tmp_path / folder, 0, 4))
    facts = photograph_facts([tmp_path / "acted"])
    assert facts["acted"] == {"pictures": 8, "people": 2}
    assert "portraits" not in facts
    data = shard_facts(tmp_path / "rendered") | {"photographs": facts}
    said = _trained_on(data, 100)
    assert said.startswith("4 renders of 1 synthetic faces")
    assert "8 pictures made of neutral portraits that act of 2 people" in said
    assert "CC BY 4.0" in said


def test_without_the_material_the_command_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESTAGE_SHARED", str(tmp_path))
    words = ["reenact", "--out", str(tmp_path / "out"), "--count", "1"]
    error = CliRunner().invoke(command.app, words).exception
    assert isinstance(error, ConfigError)
    assert "set FACESTAGE_SHARED" in str(error)
    assert not (tmp_path / "out").exists()
