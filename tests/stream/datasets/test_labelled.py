"""The folder layouts of CK+ and DISFA, on small folders made here."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.errors import SourceError
from facestage.stream.datasets.labelled import read_ckplus, read_disfa


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((8, 8), np.uint8))


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture
def ckplus(tmp_path: Path) -> Path:
    images, facs = tmp_path / "cohn-kanade-images", tmp_path / "FACS"
    for number in (1, 2, 11):
        image(images / f"S005/001/S005_001_000000{number:02d}.png")
    text(
        facs / "S005/001/S005_001_00000011_facs.txt",
        "   9.0000000e+00   4.0000000e+00\n   1.7000000e+01   0.0000000e+00\n"
        "   3.8000000e+01   1.0000000e+00\n",
    )
    image(images / "S010/002/S010_002_00000001.png")
    text(facs / "S010/002/S010_002_00000001_facs.txt", "")
    return tmp_path


def test_ckplus_may_lie_one_folder_deeper(ckplus: Path) -> None:
    before = read_ckplus(ckplus)
    for part in ("cohn-kanade-images", "FACS"):
        (ckplus / f"{part}_labels").mkdir()
        (ckplus / part).rename(ckplus / f"{part}_labels" / part)
    after = read_ckplus(ckplus)
    assert [item.path.name for item in after.items] == [item.path.name for item in before.items]


def test_ckplus_gives_peak_and_neutral_frames(ckplus: Path) -> None:
    faces = read_ckplus(ckplus)
    peak, neutral, single = faces.items
    assert peak.path.name == "S005_001_00000011.png"
    assert neutral.path.name == "S005_001_00000001.png"
    assert single.subject == "ckplus/S010"
    nine, seventeen, twelve = (faces.aus.index(au) for au in (9, 17, 12))
    assert faces.intensity[0, nine] == 4
    assert math.isnan(faces.presence[0, nine])  # follows from the intensity
    assert faces.presence[0, seventeen] == 1
    assert math.isnan(faces.intensity[0, seventeen])  # coded without intensity
    assert faces.intensity[0, twelve] == 0
    assert not faces.intensity[1:].any()
    present = faces.present()
    assert present[0].sum() == 2
    assert not present[1:].any()
    assert any("38" in note for note in faces.notes)


@pytest.mark.parametrize(
    ("content", "intensity"),
    [
        ("9 4\n9 2\n", 4),
        ("9 2\n9 4\n", 4),
        ("9 2\n9 0\n", 2),  # present at 2 says more than present
        ("9 0\n9 2\n", 2),
        ("9 0\n9 0\n", None),
    ],
)
def test_of_an_au_listed_twice_the_larger_intensity_counts(
    ckplus: Path, content: str, intensity: float | None
) -> None:
    text(ckplus / "FACS/S005/001/S005_001_00000011_facs.txt", content)
    faces = read_ckplus(ckplus)
    nine = faces.aus.index(9)
    assert faces.present()[0].nonzero()[0].tolist() == [nine]
    if intensity is None:
        assert math.isnan(faces.intensity[0, nine])
        assert faces.presence[0, nine] == 1
    else:
        assert faces.intensity[0, nine] == intensity
        assert math.isnan(faces.presence[0, nine])


def test_ckplus_with_holes_is_refused(ckplus: Path) -> None:
    with pytest.raises(SourceError, match="no 'cohn-kanade-images' in it"):
        read_ckplus(ckplus / "cohn-kanade-images")
    labels = ckplus / "FACS/S005/001/S005_001_00000011_facs.txt"
    for content in ("9 six\n", "9\n", "9 6\n", "9.5 1\n", "nan 1\n"):
        labels.write_text(content)
        with pytest.raises(SourceError, match=r"facs\.txt, line 1"):
            read_ckplus(ckplus)
    labels.write_text("9 1\n")
    (ckplus / "cohn-kanade-images/S005/001/S005_001_00000011.png").unlink()
    with pytest.raises(SourceError, match="not there; unpack the images"):
        read_ckplus(ckplus)


@pytest.fixture
def disfa(tmp_path: Path) -> Path:
    for name in ("SN001", "SN002"):
        text(tmp_path / f"ActionUnit_Labels/{name}/{name}_au1.txt", "1,0\n2,3\n3,5\n")
        text(tmp_path / f"Videos_LeftCamera/LeftVideo{name}_comp.avi", "not looked into here")
    text(tmp_path / "ActionUnit_Labels/SN001/SN001_au12.txt", "1,1\n2,2\n")
    return tmp_path


def test_disfa_frames_count_from_zero_and_gaps_are_missing(disfa: Path) -> None:
    faces = read_disfa(disfa)
    assert faces.aus == (1, 12)
    assert [item.frame for item in faces.items] == [0, 1, 2, 0, 1, 2]
    assert faces.subjects == ("disfa/SN001", "disfa/SN002")
    assert faces.items[3].path.name == "LeftVideoSN002_comp.avi"
    assert faces.intensity[:, 0].tolist() == [0, 3, 5, 0, 3, 5]
    assert faces.intensity[:2, 1].tolist() == [1, 2]
    assert np.isnan(faces.intensity[2:, 1]).all()


def test_copies_and_files_of_another_subject_do_not_replace_disfa_labels(disfa: Path) -> None:
    own = disfa / "ActionUnit_Labels/SN001"
    text(own / "SN001_au1.txt~", "1,5\n")
    text(own / "SN002_au12.txt", "1,5\n")
    faces = read_disfa(disfa)
    assert faces.intensity[0].tolist() == [0, 1]


@pytest.mark.parametrize("content", ["0,1\n", "1,6\n", "1;2\n", "1,x\n", "1.5,2\n"])
def test_disfa_lines_that_cannot_be_are_named(disfa: Path, content: str) -> None:
    (disfa / "ActionUnit_Labels/SN002/SN002_au1.txt").write_text("1,0\n" + content)
    with pytest.raises(SourceError, match=r"SN002_au1\.txt, line 2"):
        read_disfa(disfa)


def test_disfa_with_holes_is_refused(disfa: Path) -> None:
    (disfa / "Videos_LeftCamera/LeftVideoSN002_comp.avi").unlink()
    with pytest.raises(SourceError, match=r"there is no .*LeftVideoSN002_comp\.avi"):
        read_disfa(disfa)
    (disfa / "ActionUnit_Labels/SN002/SN002_au1.txt").unlink()
    with pytest.raises(SourceError, match=r"SN002 holds no file such as SN002_au1\.txt"):
        read_disfa(disfa)
    with pytest.raises(SourceError, match="not the DISFA folder"):
        read_disfa(disfa / "absent")
