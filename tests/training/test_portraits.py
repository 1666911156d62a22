"""Photographs as training faces: who may be used, what is known of them, how they are aligned."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError

from tests.support.paths import SHARED
from training.augment.views import MARGIN
from training.face.facs import AUS
from training.photos import portraits
from training.photos.halves import CHOOSE, REPORT, half_of, is_trained_with
from training.photos.portraits import Mouth, labels
from training.render.scene import TEMPLATE

AT_REST = Mouth(gap=0.005, width=0.81, corners=0.0)
SMILING = Mouth(gap=0.14, width=1.0, corners=0.1)


def known(values: np.ndarray) -> dict[int, float]:
    return {au: float(v) for au, v in zip(AUS, values, strict=True) if np.isfinite(v)}


def test_a_neutral_face_shows_nothing() -> None:
    assert known(labels("neutral", AT_REST)) == dict.fromkeys(AUS, 0.0)
    # Lips that are a little apart say nothing of AU 25, or of the jaw.
    parted = known(labels("neutral", Mouth(0.05, 0.81, 0.0)))
    assert set(AUS) - set(parted) == {25, 26}


def test_a_smile_shows_au12_and_not_what_its_leaks_show() -> None:
    smile = known(labels("smile", SMILING))
    assert smile[12] == smile[25] == portraits.SMILES_AT
    assert all(smile[au] == 0 for au in (4, 14, 16, 20, 24))
    assert not {6, 7, 10, 26} & smile.keys()  # smiles differ in these
    closed = known(labels("smile", Mouth(0.0, 1.0, 0.1)))
    assert closed[10] == closed[25] == 0


def test_a_portrait_nobody_called_anything_smiles_only_beyond_every_neutral_mouth() -> None:
    smiling = known(labels("not_labelled", SMILING))
    assert smiling[12] >= 2
    assert not {1, 2, 5} & smiling.keys()
    for mouth in (Mouth(0.14, 0.9, 0.1), Mouth(0.14, 1.0, 0.0)):
        assert not {6, 10, 12, 14} & known(labels("not_labelled", mouth)).keys()
    assert known(labels("not_labelled", AT_REST))[4] == 0


def test_who_is_near_neutral_or_half_smiling_keeps_the_mouth_unknown() -> None:
    assert set(known(labels("near_neutral", AT_REST))) == {1, 2, 4, 5, 9, 43, 25}
    assert 12 not in known(labels("weak_smile", AT_REST))


def test_an_aligned_photograph_lies_where_renders_lie() -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform(0, 1, (68, 2)) * 40 + 200
    five = {36: TEMPLATE[0], 42: TEMPLATE[1], 30: TEMPLATE[2], 48: TEMPLATE[3], 54: TEMPLATE[4]}
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    for first, place in five.items():
        span = slice(first, first + 6) if first in (36, 42) else first
        points[span] = place @ turn.T * 3 + (210, 190)
    grey = np.zeros((700, 700), np.uint8)
    for place in TEMPLATE:
        at = place @ turn.T * 3 + (210, 190)
        cv2.circle(grey, tuple(int(v) for v in np.rint(at)), 6, 255, -1)
    canvas, units = portraits.on_canvas(grey, points)
    np.testing.assert_allclose(units[30], TEMPLATE[2], atol=0.01)
    for x, y in np.rint(TEMPLATE + MARGIN).astype(int):
        assert canvas[y, x] > 200
    assert canvas.mean() < 10


def test_nobody_is_trained_with_and_chosen_or_reported_by(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"set:{n}" for n in range(400)]
    trained = {name for name in names if is_trained_with(name)}
    assert {half_of(name) for name in trained} == {CHOOSE}
    assert 60 < len(trained) < 140  # half of a half
    assert {half_of(name) for name in names} == {CHOOSE, REPORT}


def test_the_list_holds_the_people_that_may_be_trained_with(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    names = [f"set:{n}" for n in range(60)]
    rows = [f"{n}-{kind}.jpg,{name},{kind}" for n, name in enumerate(names) for kind in (
        "neutral", "not_labelled"
    )]  # fmt: skip
    table = tmp_path / "faces" / "faces.csv"
    table.write_text("\n".join(["file,person,expression", *rows]) + "\n")
    listed = portraits.list_portraits(tmp_path)
    neutral = {p.person for p in listed if p.expression == "neutral"}
    others = {p.person for p in listed if p.expression == "not_labelled"}
    assert neutral == {name for name in names if is_trained_with(name)}
    assert others == {name for name in names if half_of(name) == CHOOSE}
    table.write_text("file,person\n1.jpg,a\n")
    with pytest.raises(ConfigError, match="no column 'expression'"):
        portraits.list_portraits(tmp_path)
    with pytest.raises(ConfigError, match="FACESTAGE_SHARED"):
        portraits.list_portraits(tmp_path / "nowhere")


@pytest.mark.shared
def test_photographs_of_the_shared_folder() -> None:
    if not (SHARED / portraits.TABLE).is_file():
        pytest.skip("needs the photographs of ../shared")
    chosen = [p for p in portraits.list_portraits(SHARED) if p.expression in ("neutral", "smile")]
    batch, lost = portraits.portrait_batch(chosen[:4] + chosen[-4:], folder=SHARED)
    assert not lost
    assert batch.image.shape == (8, 136, 136)
    assert (batch.identity % 20 != 0).all()
    eyes = batch.landmarks[:, 36:48].reshape(8, 2, 6, 2).mean(2)
    np.testing.assert_allclose(eyes.mean(0), TEMPLATE[:2], atol=1.5)
    assert len(np.unique(batch.identity)) == len({p.person for p in chosen[:4] + chosen[-4:]})
