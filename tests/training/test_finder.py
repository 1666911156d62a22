"""Scenes of the face finder and its training: the truth fits the picture, however it is turned."""

from __future__ import annotations

import base64
import csv
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from facestage.core.errors import ConfigError
from facestage.core.face.detection import POINT_UNIT, FinderNetwork, cells, standardise
from facestage.stream.detectors import make_detector

from training.finder import recipe, scenes, train
from training.finder.heads import OUTLINED, Head, Stock, chooses, outlined
from training.finder.heads import SIDE as HEAD
from training.finder.scenes import MOST_FACES, SIDE, Backgrounds, Composer, Scene
from training.photos.halves import CHOOSE, half_of

DARK = np.array([[95, 95], [160, 95], [128, 130], [105, 165], [150, 165]], np.float32)
"""Where the five points of the dummy head lie."""


def dummy(tone: int = 220) -> Head:
    """A bright disc with its five points in different, dark tones."""
    y, x = np.mgrid[:HEAD, :HEAD]
    disc = (x - 128) ** 2 + (y - 128) ** 2 < 90**2
    image = np.where(disc, tone, 90).astype(np.uint8)
    for number, (px, py) in enumerate(DARK):
        image[(x - px) ** 2 + (y - py) ** 2 < 100] = 10 + 12 * number
    angle = np.linspace(0, 2 * math.pi, 24)
    outline = 128 + 90 * np.stack([np.cos(angle), np.sin(angle)], 1)
    alpha = np.where(disc, 255, 0).astype(np.uint8)
    seen = np.ones(5, bool)
    return Head(
        image, alpha, outline.astype(np.float32), DARK, seen, np.array([HEAD, HEAD]), whole=True
    )


@pytest.fixture
def composer() -> Composer:
    rng = np.random.default_rng(0)
    pictures = tuple(rng.integers(0, 256, (300, 400), np.uint8) for _ in range(2))
    stock = Stock((dummy(), dummy(180)))
    return Composer(stock, stock, Backgrounds(pictures), seed=3)


def test_a_rendered_outline_is_moved_to_where_portraits_have_theirs() -> None:
    points = np.array([[90, 100], [110, 100], [100, 110], [92, 120], [108, 120]], np.float32)
    edge = np.array([[100, 90], [100, 130], [80, 100]], np.float32)
    across, above, below = OUTLINED
    found = outlined(edge, points)
    expected = [[100, 100 - 10 * above], [100, 100 + 30 * below], [100 - 20 * across, 100]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_who_chooses_is_of_the_choosing_half_and_a_quarter_of_it() -> None:
    people = [f"set:{number:04d}" for number in range(2_000)]
    choosers = [person for person in people if chooses(person)]
    assert all(half_of(person) == CHOOSE for person in choosers)
    assert 200 < len(choosers) < 300


def test_pictures_that_choose_or_report_are_not_trained_with() -> None:
    with recipe.PICTURES.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["file"] for row in rows}) == len(rows)
    assert {row["use"] for row in rows} == {"train", "choose", "report"}
    # Packages under GPL or CC BY-SA only judge.
    trained = {row["file"].split("/")[0] for row in rows if row["use"] == "train"}
    assert trained == {
        "lomiri-wallpapers-16.04",
        "opencv-doc",
        "openclipart-png",
        "pmndrs-assets",
        "python3-skimage",
    }


def test_a_panorama_is_read_as_a_grey_picture(tmp_path: Path) -> None:
    """EXR in a module of JavaScript; a file that holds none is named."""
    light = np.full((20, 40, 3), 0.5, np.float32)
    light[:, 20:] = 2.0
    done, coded = cv2.imencode(".exr", light)
    assert done
    module = tmp_path / "room.exr.js"
    text = base64.b64encode(coded.tobytes()).decode()
    module.write_text(f'export default "data:application/octet-stream;base64,{text}"')
    (picture,) = Backgrounds.read([module]).pictures
    assert picture.dtype == np.uint8
    assert picture[:, -5:].mean() > picture[:, :5].mean() + 20
    module.write_text("export default 1")
    with pytest.raises(ConfigError, match=r"room\.exr\.js"):
        Backgrounds.read([module])


def scenes_of(composer: Composer, count: int = 60) -> list[Scene]:
    return [composer.scene(index) for index in range(count)]


def test_a_scene_depends_on_seed_and_number_only(composer: Composer) -> None:
    stock = Stock(composer.rendered)
    again, other = (Composer(stock, stock, composer.backgrounds, seed) for seed in (3, 4))
    composer.scene(5)
    np.testing.assert_array_equal(composer.scene(7).image, again.scene(7).image)
    assert (composer.scene(7).image != other.scene(7).image).any()


def test_truth_lies_inside_its_box_and_turns_with_the_roll(composer: Composer) -> None:
    rows = 0
    for scene in scenes_of(composer):
        assert scene.image.shape == (SIDE, SIDE)
        for face, roll in zip(scene.faces, scene.roll, strict=True):
            if np.isnan(face[0]):
                continue
            rows += 1
            points = face[4:14].reshape(5, 2)
            assert (points >= face[:2] - 0.01).all()
            assert (points <= face[2:4] + 0.01).all()
            across = points[1] - points[0]
            found = math.atan2(across[1], across[0])
            assert math.cos(found - roll) > 0.9999
    assert rows > 60


@pytest.mark.parametrize("factor", [0.06, 0.2, 0.5, 0.9, 1.4])
@pytest.mark.parametrize("turn", [0.0, 0.8, 2.0, 3.1, -1.6])
def test_a_pasted_head_lies_where_its_points_say(factor: float, turn: float) -> None:
    """The disc's centre of mass stays its middle, to a tenth of a pixel, at any size and roll."""
    head = dummy()
    disc = np.where(head.alpha > 0, 255, 0).astype(np.float32)
    canvas = scenes._Canvas(np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.int8))
    target = np.array([80.3, 70.8])
    factor = min(factor, 0.8)
    matrix = scenes._placing_at(np.array([128.0, 128.0]), factor, turn, target)
    scenes._paste(canvas, disc, head.alpha, matrix, 1)
    y, x = np.mgrid[:SIDE, :SIDE]
    mass = canvas.image / canvas.image.sum()
    assert abs((mass * x).sum() - target[0]) < 0.1
    assert abs((mass * y).sum() - target[1]) < 0.1
    area = math.pi * (90 * factor) ** 2
    assert abs((canvas.owner == 1).sum() - area) < 0.15 * area + 6


def test_a_hidden_face_is_neither_wanted_nor_wrong(composer: Composer) -> None:
    wanted = np.concatenate([s.wanted[~np.isnan(s.faces[:, 0])] for s in scenes_of(composer)])
    assert 0.4 < wanted.mean() < 1
    small = [
        w
        for s in scenes_of(composer)
        for f, w in zip(s.faces, s.wanted, strict=True)
        if (f[2:4] - f[:2]).max() < scenes.IGNORED_BELOW
    ]
    assert small
    assert not any(small)


def test_letters_are_in_the_picture_and_belong_to_nobody() -> None:
    changed = 0
    for seed in range(20):
        canvas = scenes._Canvas(
            np.full((SIDE, SIDE), 120, np.float32), np.ones((SIDE, SIDE), np.int8)
        )
        scenes._letters(canvas, np.random.default_rng(seed))
        written = np.abs(canvas.image - 120) > 1
        changed += bool(written.any())
        assert canvas.faces == []
        assert (canvas.owner[np.abs(canvas.image - 120) > 70] == 0).all()
    assert changed >= 15


def one_scene() -> train.Truth:
    """A scene whose image marks the five points of its only face."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    points = np.array([[40, 30], [60, 34], [49, 44], [38, 52], [57, 56]], np.float32)
    for number, (x, y) in enumerate(points.astype(int)):
        image[y, x] = 50 + 40 * number
    faces = np.full((MOST_FACES, 19), np.nan, np.float32)
    faces[0] = np.concatenate([[32, 22, 68, 68], points.ravel(), [1, 1, 1, 1, 0]])
    roll = np.zeros(MOST_FACES, np.float32)
    roll[0] = math.atan2(4, 20)
    wanted = np.zeros(MOST_FACES, bool)
    wanted[0] = True
    return train.truth_of([Scene(image, faces, wanted, roll)])


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_turning_a_scene_turns_all_that_is_known(quarters: int, mirror: bool) -> None:
    image, faces, _, roll = train.turned(one_scene(), quarters, mirror)
    points = faces[0, 0, 4:14].reshape(5, 2).long()
    tones = [int(image[0, y, x]) for x, y in points.tolist()]
    order = [1, 0, 2, 4, 3] if mirror else [0, 1, 2, 3, 4]
    assert tones == [50 + 40 * k for k in order]
    assert faces[0, 0, 14:].tolist() == ([1, 1, 1, 0, 1] if mirror else [1, 1, 1, 1, 0])
    across = (points[1] - points[0]).double()
    assert math.cos(math.atan2(across[1], across[0]) - float(roll[0, 0])) > 0.9999
    low, high = faces[0, 0, :2], faces[0, 0, 2:4]
    assert (points >= low).all()
    assert (points <= high).all()


def sized(faces: torch.Tensor, side: float) -> torch.Tensor:
    """The face of :func:`one_scene` with another longer side, at the same place."""
    middle = torch.tensor([50.0, 45.0])
    half = torch.tensor([18.0, 23.0]) * side / 46
    changed = faces.clone()
    changed[0, 0, :4] = torch.cat([middle - half, middle + half])
    return changed


@pytest.mark.parametrize(
    ("side", "strides"),
    [(12, {8.0}), (24, {8.0, 16.0}), (40, {16.0}), (60, {16.0, 32.0}), (100, {32.0})],
)
def test_cells_in_the_middle_of_a_face_of_their_size_answer(
    side: float, strides: set[float]
) -> None:
    _, faces, wanted, _ = one_scene()
    at = torch.from_numpy(cells(SIDE, SIDE, train.LEVELS))
    which = train.assigned(sized(faces, side), wanted, at)[0]
    answering = at[which == 0]
    assert set(answering[:, 2].tolist()) == strides
    away = (answering[:, :2] - torch.tensor([50.0, 45.0])).abs().amax(1)
    assert (away <= train.REACH * answering[:, 2]).all()
    none = train.assigned(faces, torch.zeros_like(wanted), at)[0]
    assert not (none >= 0).any()


def test_a_face_a_little_too_large_is_not_asked_and_parts_of_a_huge_one_are_background() -> None:
    _, faces, wanted, _ = one_scene()
    at = torch.from_numpy(cells(SIDE, SIDE, train.LEVELS))
    inside = (at[:, 2] == 8) & ((at[:, :2] - torch.tensor([50.0, 45.0])).abs().amax(1) < 9)
    beside = (at[:, 2] == 8) & ((at[:, :2] - torch.tensor([50.0, 68.0])).abs().amax(1) < 5)
    nearly = train.assigned(sized(faces, 40), wanted, at)[0]
    assert (nearly[inside] == -2).all()
    huge = train.assigned(sized(faces, 110), wanted, at)[0]
    assert (huge[beside] == -1).all()


def test_losses_vanish_for_the_truth_and_grow_with_the_error() -> None:
    truth = one_scene()
    at = torch.from_numpy(cells(SIDE, SIDE, train.LEVELS))
    face = truth[1][0, 0]
    answers = torch.zeros(1, len(at), 22)
    stride = at[:, 2:]
    answers[0, :, 0] = torch.where(train.assigned(truth[1], truth[2], at)[0] == 0, 20.0, -20.0)
    answers[0, :, 1:3] = (torch.tensor([50.0, 45.0]) - at[:, :2]) / stride
    answers[0, :, 3:5] = torch.log(torch.tensor([36.0, 46.0]) / stride)
    roll = truth[3][0, 0]
    away = face[4:14].reshape(5, 2) - torch.tensor([50.0, 45.0])
    back = torch.tensor(
        [[math.cos(roll), math.sin(roll)], [-math.sin(roll), math.cos(roll)]], dtype=torch.float32
    )
    answers[0, :, 5:15] = (away @ back.T / (POINT_UNIT * (36.0 * 46.0) ** 0.5)).flatten()
    answers[0, :, 15:20] = (face[14:] - 0.5) * 40
    answers[0, :, 20:] = torch.stack([torch.sin(roll), torch.cos(roll)])
    assert all(abs(float(v)) < 1e-4 for v in train.losses(answers, truth, at).values())
    for column, part in ((0, "centre"), (1, "box"), (3, "box"), (7, "points"), (20, "roll")):
        wrong = answers.clone()
        wrong[..., column] -= 30 if part == "centre" else 1.5
        assert train.losses(wrong, truth, at)[part] > 0.02, part


def test_scenes_are_standardised_as_parts_of_flat_pictures() -> None:
    """As a picture is that holds the scene and else one tone; half of them alone."""
    scenes_given = torch.rand(64, 1, 20, 20) * 255
    found = train.framed(scenes_given, np.random.default_rng(0))
    alone = (found - standardise(scenes_given)).abs().amax((1, 2, 3)) < 1e-3
    assert 16 < int(alone.sum()) < 48
    share, tone = 0.25, 200.0

    class Choices:
        """The same choice for every scene: a quarter of the picture, the rest of one tone."""

        drawn = iter([np.zeros(64), np.ones(64)])

        def random(self, count: int) -> np.ndarray:
            return next(self.drawn)

        def uniform(self, low: float, high: float, count: int) -> np.ndarray:
            return np.full(count, tone if high else math.log(share))

    found = train.framed(scenes_given, Choices())  # type: ignore[arg-type]
    whole = torch.full((64, 1, 40, 20 * 2), tone)
    whole[..., :20, :20] = scenes_given
    torch.testing.assert_close(found, standardise(whole)[..., :20, :20], atol=1e-4, rtol=1e-4)


def test_stored_weights_answer_as_the_trained_ones() -> None:
    torch.manual_seed(0)
    network = FinderNetwork(norm=True)
    x = standardise(torch.rand(4, 1, 64, 64) * 255)
    for _ in range(3):
        network(x)  # moves the norms' means
    network.eval()
    plain = FinderNetwork().eval()
    plain.load_state_dict({k: v.float() for k, v in train.finder_tensors(network).items()})
    expected, found = network(x), plain(x)
    scale = float(expected.detach().abs().max())
    assert float((expected - found).detach().abs().max()) < 0.01 * scale


def test_a_run_learns_goes_on_and_its_weights_load(composer: Composer, tmp_path: Path) -> None:
    settings = train.Settings(scenes=16 * 12, batch=16, pool=32, uses=4, every=2)
    lines: list[dict[str, float]] = []
    train.train(composer, tmp_path, settings, report=lines.append)
    assert lines[-1]["step"] == 12
    assert all(math.isfinite(value) for line in lines for value in line.values())
    longer = train.Settings(scenes=16 * 14, batch=16, pool=32, uses=4, every=2)
    more: list[dict[str, float]] = []
    network = train.train(composer, tmp_path, longer, report=more.append)
    assert [line["step"] for line in more] == [14]
    path = tmp_path / "finder.safetensors"
    recipe.write_finder(network.eval(), path, longer, {"threshold": 0.3})
    detector = make_detector(path)
    assert detector.name == "ours"
    detector.detect(np.zeros((90, 120, 3), np.uint8))
    assert path.stat().st_size < 1_000_000


def test_a_checkpoint_of_something_else_is_refused(composer: Composer, tmp_path: Path) -> None:
    torch.save({"network": {}}, tmp_path / "newest.pt")
    with pytest.raises(ConfigError, match="choose another --out"):
        train.train(composer, tmp_path, train.Settings(scenes=16))


def test_missing_pictures_name_their_package(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"apt-get download [\w.-]+"):
        recipe.backgrounds(tmp_path)
    with pytest.raises(ConfigError, match="training finder"):
        Stock.read([])


def test_heads_survive_the_disk(tmp_path: Path) -> None:
    stock = Stock((dummy(), dummy(100)))
    stock.write(tmp_path / "heads.npz")
    back = Stock.read([tmp_path / "heads.npz", tmp_path / "heads.npz"])
    assert len(back.heads) == 4
    np.testing.assert_array_equal(back.heads[1].image, stock.heads[1].image)
    np.testing.assert_array_equal(back.heads[2].around, stock.heads[0].around)
    assert back.heads[3].whole
