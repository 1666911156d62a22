"""Faces at rest: the distances on points made by hand, the comparison, the traits of people."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from facestage.core.errors import ConfigError
from typer.testing import CliRunner

from training.__main__ import app
from training.face.expressions import only, sample_anatomy
from training.face.facekit import load_facekit
from training.face.facs import AU_INDEX, Expression, FaceShapes
from training.face.traits import BROW_ROOM, FARTHEST, TRAITS, brow_room, sample_traits, trait_shapes
from training.fit.amplitude import rendered_amplitudes, smiles_of_people
from training.fit.face_mesh import POINTS, FaceMesh
from training.fit.rest import (
    DISTANCES,
    Comparison,
    compare,
    distances,
    read_people,
    resting_generator,
)

EYE_L, EYE_R = (33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380)
BROW_LINE, MOUTH_LINE = 0.26, -1.07


def drawn_face() -> np.ndarray:
    """Return 478 points with the eyes at (-1/2, 0) and (1/2, 0), up positive, one unit apart."""
    points = np.zeros((POINTS, 2))
    lids = {159: 0.08, 386: 0.08, 145: -0.06, 374: -0.06}
    for eye, x in ((EYE_L, -0.5), (EYE_R, 0.5)):
        points[list(eye)] = x, 0.0
    for point, up in lids.items():
        points[point] = (-0.5 if point < 200 else 0.5), up
    for point in (107, 55, 105, 52, 70, 46):
        points[point] = -0.22, BROW_LINE
    for point in (336, 285, 334, 282, 300, 276):
        points[point] = 0.22, BROW_LINE
    for point, y in ((2, -0.72), (0, -0.97), (13, MOUTH_LINE), (14, MOUTH_LINE), (17, -1.22)):
        points[point] = 0.0, y
    points[61], points[291] = (-0.4, MOUTH_LINE), (0.4, MOUTH_LINE)
    points[98], points[327] = (-0.25, -0.7), (0.25, -0.7)
    points[152] = 0.0, -1.82
    return points


def as_pixels(points: np.ndarray, scale: float = 90.0, angle: float = 0.0) -> np.ndarray:
    """Put points on a picture: y down, turned, scaled, shifted."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points * (1, -1)) @ turn.T * scale + (200, 170)


def measured(points: np.ndarray) -> dict[str, float]:
    return {name: float(value[0]) for name, value in distances(points[None]).items()}


def test_distances_are_lengths_between_the_eyes_with_up_positive() -> None:
    found = measured(as_pixels(drawn_face()))
    assert list(found) == list(DISTANCES)
    assert len(found) == 18
    for brow in ("brow_inner", "brow_mid", "brow_outer"):
        assert found[brow] == pytest.approx(BROW_LINE)
    expected = {
        "brow_gap": 0.44,
        "aperture": 0.14,
        "upper_lid": 0.08,
        "lower_lid": 0.06,
        "mouth_width": 0.8,
        "corner_above_lipline": 0.0,
        "lip_upper": 0.10,
        "lip_lower": 0.15,
        "lip_gap": 0.0,
        "nose_to_lip": 0.25,
        "lip_to_chin": 0.6,
        "nose_width": 0.5,
        "eyes_to_nose": 0.72,
        "eyes_to_mouth": 1.07,
        "philtrum": 0.35,
    }
    # The lids are points of the eyes, whose centre they move by a third of their own mean.
    assert found == pytest.approx(found | expected, abs=0.02)


@pytest.mark.parametrize("angle", [-0.4, 0.2])
def test_distances_do_not_depend_on_tilt_place_and_size(angle: float) -> None:
    plain, other = as_pixels(drawn_face()), as_pixels(drawn_face(), scale=33.0, angle=angle)
    assert measured(other) == pytest.approx(measured(plain))


@pytest.mark.parametrize(
    ("point", "by", "distance", "change"),
    [
        (13, (0, 0.06), "lip_gap", 0.06),
        (14, (0, -0.06), "lip_gap", 0.06),
        (61, (0, 0.1), "corner_above_lipline", 0.05),
        (107, (0, -0.08), "brow_inner", -0.02),
        (55, (-0.08, 0), "brow_gap", 0.04),
        (291, (0.1, 0), "mouth_width", 0.1),
        (152, (0, -0.2), "lip_to_chin", 0.2),
        (2, (0, -0.1), "eyes_to_nose", 0.1),
    ],
)
def test_a_point_moves_its_distance(
    point: int, by: tuple[float, float], distance: str, change: float
) -> None:
    before, after = drawn_face(), drawn_face()
    after[point] += by
    difference = measured(as_pixels(after))[distance] - measured(as_pixels(before))[distance]
    assert difference == pytest.approx(change)


def test_a_mirrored_face_has_the_same_distances() -> None:
    face = as_pixels(drawn_face())
    swapped = face.copy()
    pairs = [(33, 263), (160, 387), (158, 385), (133, 362), (153, 380), (144, 373)]
    pairs += [(159, 386), (145, 374), (61, 291), (98, 327)]
    pairs += [(107, 336), (55, 285), (105, 334), (52, 282), (70, 300), (46, 276)]
    for a, b in pairs:
        swapped[[a, b]] = face[[b, a]]
    swapped[:, 0] = 400 - swapped[:, 0]
    assert measured(swapped) == pytest.approx(measured(face))


def test_the_verdict_names_what_is_off() -> None:
    c = Comparison("brow_inner", 0.26, 0.05, 0.27, 0.045)
    assert c.verdict == "fits"
    assert c.shift == pytest.approx(0.2)
    assert c.pixels == pytest.approx(0.01 * 37 * 96 / 116, rel=1e-3)
    assert replace(c, rendered_mean=0.30).verdict == "mean off"
    assert replace(c, rendered_sd=0.03).verdict == "spread off"
    assert replace(c, rendered_mean=0.2, rendered_sd=0.07).verdict == "mean and spread off"
    assert c.facts()["verdict"] == "fits"


def test_comparison_takes_mean_and_sample_deviation() -> None:
    people = dict.fromkeys(DISTANCES, (1.0, 0.5))
    rendered = {name: np.array([0.5, 1.0, 1.5]) for name in DISTANCES}
    found = compare(people, rendered)
    assert [c.distance for c in found] == list(DISTANCES)
    assert all(c.rendered_mean == 1.0 and c.rendered_sd == pytest.approx(0.5) for c in found)


def write_people(path: Path, **changed: str) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["feature", "real_mean", "real_sd"])
        for name in DISTANCES:
            writer.writerow([name, "0.3", changed.get(name, "0.05")])
    return path


def test_people_are_read_from_their_file(tmp_path: Path) -> None:
    people = read_people(write_people(tmp_path / "rest.csv"))
    assert people == dict.fromkeys(DISTANCES, (0.3, 0.05))


@pytest.mark.parametrize("sd", ["", "wide", "0", "-1", "nan", "inf"])
def test_a_file_without_a_usable_number_is_refused(tmp_path: Path, sd: str) -> None:
    path = write_people(tmp_path / "rest.csv", lip_gap=sd)
    with pytest.raises(ConfigError, match="lip_gap"):
        read_people(path)


def test_missing_files_are_named_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rest\.csv.*--real.*FACESTAGE_SHARED"):
        read_people(tmp_path / "rest.csv")
    with pytest.raises(ConfigError, match=r"none\.tflite.*face_landmarker\.task.*FACESTAGE_SHARED"):
        FaceMesh(tmp_path / "none.tflite")
    (tmp_path / "broken.tflite").write_bytes(b"not a network")
    with pytest.raises(ConfigError, match="cannot read"):
        FaceMesh(tmp_path / "broken.tflite")


def test_traits_are_repeatable_and_within_their_bounds() -> None:
    drawn = [sample_traits(np.random.default_rng(i)) for i in range(400)]
    assert drawn[7] == sample_traits(np.random.default_rng(7))
    for name, trait in TRAITS.items():
        values = np.array([traits[name] for traits in drawn])
        assert values.mean() == pytest.approx(trait.mean, abs=0.2 * trait.spread)
        assert values.std() == pytest.approx(trait.spread, rel=0.2)
        farthest = FARTHEST + abs(trait.skew) * (FARTHEST**2 - 1)
        assert np.abs(values - trait.mean).max() <= farthest * trait.spread + 1e-9


def test_a_low_brow_has_less_room_to_go_down() -> None:
    low = TRAITS["browLow"]
    at = [{"browLow": low.mean + n * low.spread} for n in (-2, 0, 1, 2)]
    assert [brow_room(t) for t in at] == pytest.approx([1, 1, 1 - BROW_ROOM / 2, 1 - BROW_ROOM])


@pytest.fixture(scope="module")
def shapes(shared: Path) -> FaceShapes:
    return FaceShapes(load_facekit(shared / "facekit" / "ict_facekit_compact.npz"))


@pytest.mark.shared
@pytest.mark.xdist_group("training")
class TestOnTheModel:
    """With the face model."""

    def test_traits_move_both_sides_alike_and_leave_the_lids(self, shared: Path) -> None:
        kit = load_facekit(shared / "facekit" / "ict_facekit_compact.npz")
        fields = dict(zip(TRAITS, trait_shapes(kit)[:, kit.landmarks], strict=True))
        assert np.isfinite(trait_shapes(kit)).all()
        mirrored = [*range(26, 16, -1)]
        for name, field in fields.items():
            brows = field[17:27]
            np.testing.assert_allclose(brows[:, 1], field[mirrored][:, 1], atol=0.02, err_msg=name)
            np.testing.assert_allclose(brows[:, 0], -field[mirrored][:, 0], atol=0.02)
            assert np.abs(field[36:48, 1]).max() < 0.04, name
        assert fields["browLow"][17:27, 1].max() < -0.6
        assert fields["browNear"][22, 0] < -0.3 < 0.3 < fields["browNear"][21, 0]
        assert fields["noseWide"][35, 0] - fields["noseWide"][31, 0] == pytest.approx(1.0, abs=0.15)
        chin, lip = fields["chinLong"][8, 1], fields["chinLong"][57, 1]
        assert chin < -0.9 < -0.01 < lip + 0.01

    def test_a_brow_that_is_low_at_rest_is_no_action_unit(self, shapes: FaceShapes) -> None:
        anatomy = sample_anatomy(np.random.default_rng(3))
        low = replace(anatomy, rest=anatomy.rest | {"browLow": 1.2})
        for au in (1, 2, 4):
            assert shapes.shape(only(1, 0), low).intensity[AU_INDEX[au]] == 0
            assert shapes.shape(only(au, 3), low).intensity[AU_INDEX[au]] == 3

    def test_a_raise_is_as_far_from_a_low_brow_as_from_a_high_one(self, shapes: FaceShapes) -> None:
        anatomy = sample_anatomy(np.random.default_rng(3))
        moved = []
        for height in (0.3, 1.2):
            person = replace(anatomy, rest=anatomy.rest | {"browLow": height})
            rest, raised = (shapes.shape(only(1, i), person).weights for i in (0, 4))
            moved.append(raised - rest)
        np.testing.assert_allclose(moved[0], moved[1], atol=1e-12)

    @pytest.mark.parametrize("wanted", [-0.08, 0.0, 0.3])
    def test_lips_rest_where_the_person_has_them(self, shapes: FaceShapes, wanted: float) -> None:
        for seed in range(5):
            anatomy = sample_anatomy(np.random.default_rng(seed))
            rest = {name: value for name, value in anatomy.rest.items() if name != "jawOpen"}
            person = replace(anatomy, rest=rest, lip_gap=wanted)
            assert shapes.shape(only(1, 0), person).lip_gap == pytest.approx(wanted, abs=1e-6)
            hanging = replace(person, rest=rest | {"jawOpen": 0.05})
            assert shapes.shape(only(1, 0), hanging).lip_gap > wanted + 0.1

    def test_most_lips_meet_at_rest(self, shapes: FaceShapes) -> None:
        people = [sample_anatomy(np.random.default_rng(seed)) for seed in range(300)]
        gaps = np.array([shapes.shape(only(1, 0), person).lip_gap for person in people])
        assert 0.02 < (gaps > 0.05).mean() < 0.15
        assert np.median(gaps) < -0.06

    def test_a_shut_mouth_still_closes_over_a_dropped_jaw(self, shapes: FaceShapes) -> None:
        values = np.zeros(len(AU_INDEX))
        values[AU_INDEX[26]] = 3
        closed = Expression(values, values.copy(), closing=1.0)
        for seed in range(4):
            anatomy = replace(sample_anatomy(np.random.default_rng(seed)), lip_gap=-0.08)
            assert shapes.shape(closed, anatomy).intensity[AU_INDEX[25]] < 1


@pytest.mark.shared
@pytest.mark.xdist_group("training")
def test_command_prints_a_row_for_each_distance(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for needed in ("models/face_landmarks_detector.tflite", "faces/rest.csv"):
        if not (shared / needed).is_file():
            pytest.skip(f"no {needed} in {shared}: landmarks and people are local material")
    monkeypatch.setenv("FACESTAGE_SHARED", str(shared))
    out = tmp_path / "rest.json"
    result = CliRunner().invoke(app, ["rest", "--count", "48", "--json", str(out)])
    facts = json.loads(out.read_text())
    assert facts["count"] == 48
    found = {row["distance"]: row for row in facts["distances"]}
    assert list(found) == list(DISTANCES)
    assert all(f"\n{name} " in result.output for name in DISTANCES)
    off = [row for row in found.values() if row["verdict"] != "fits"]
    assert result.exit_code == (1 if off else 0)
    # Of so few people a mean is known to .15 sd and a spread to a tenth: limits with that room.
    # The few people with parted lips make the spread of the gap uncertain, so it is left out.
    assert max(abs(row["shift"]) for row in found.values()) < 0.3 + 0.3
    assert all(0.6 < row["spread"] < 1.4 for name, row in found.items() if name != "lip_gap")


@pytest.fixture(scope="module")
def mesh(shared: Path) -> FaceMesh:
    path = shared / "models" / "face_landmarks_detector.tflite"
    if not path.is_file():
        pytest.skip(f"no landmark network at {path}: it is local material")
    return FaceMesh(path)


@pytest.mark.shared
@pytest.mark.xdist_group("training")
def test_amplitudes_grow_with_intensity_and_stay_where_people_are(
    shared: Path, mesh: FaceMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESTAGE_SHARED", str(shared))
    found = rendered_amplitudes(resting_generator(2), mesh, [1, 12], 4)
    by_name = {(a.au, a.distance): a.pixels for a in found}
    assert len(found) == 2 * len(DISTANCES)
    raised, smile = by_name[1, "brow_inner"], by_name[12, "mouth_width"]
    for change in (raised, smile):
        assert list(change) == sorted(change)
        assert change[0] > 0.1
    # People raise their brows by 1.0 to 2.4 px, and smiles widen their mouths by 1.2 to 6.4.
    assert raised[0] < 1.0 < raised[-1]
    assert smile[0] < 2.5 < smile[-1] < 9.0


def test_smiles_need_the_photographs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"faces\.csv.*FACESTAGE_SHARED.*--smiles"):
        smiles_of_people(None, tmp_path)  # type: ignore[arg-type]


def test_amplitude_refuses_an_unknown_action_unit() -> None:
    result = CliRunner().invoke(app, ["amplitude", "--au", "99"])
    assert isinstance(result.exception, ConfigError)
    assert "99" in str(result.exception)
