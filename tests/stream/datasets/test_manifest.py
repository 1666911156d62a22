"""Manifests and splits: what is read, and one clear line for everything that is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError, SourceError
from facestage.stream.datasets.faces import LabelledFaces, merge
from facestage.stream.datasets.manifest import read_manifest
from facestage.stream.learning.splits import (
    check_subjects,
    given_split,
    held_out,
    subject_folds,
    subjects_of,
)

NAN = math.nan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an image and something that is named like a video."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint8))
    (tmp_path / "v.mp4").write_bytes(b"not looked into when the manifest is read")
    return tmp_path


def read(folder: Path, text: str) -> LabelledFaces:
    path = folder / "data.csv"
    path.write_text(text, encoding="utf-8")
    return read_manifest(path)


def equal(array: np.ndarray, expected: list[list[float]]) -> bool:
    return np.array_equal(array, np.array(expected, np.float32), equal_nan=True)


def test_images_frames_subjects_and_blanks(folder: Path) -> None:
    faces = read(
        folder,
        "# labels: intensity\n\nsubject,path,frame,AU12,AU1,mood\nanna,a.png,,3,,calm\n"
        "\nben,v.mp4,41,0.5,nan,\n",
    )
    assert faces.aus == (1, 12)
    assert equal(faces.intensity, [[NAN, 3], [NAN, 0.5]])
    assert np.isnan(faces.presence).all()
    first, second = faces.items
    assert (first.path, first.frame, first.subject) == (folder / "a.png", None, "anna")
    assert (second.path, second.frame, second.subject) == (folder / "v.mp4", 41, "ben")
    assert second.origin.endswith("data.csv, line 6")
    assert faces.coded() == (12,)
    assert equal(faces.present(), [[NAN, 1], [NAN, 0]])


def test_declared_presence_leaves_the_intensity_of_what_is_present_open(folder: Path) -> None:
    faces = read(folder, "# labels: presence\npath,subject,AU04,AU12\na.png,x,1,0\na.png,x,,1\n")
    assert equal(faces.presence, [[1, 0], [NAN, 1]])
    assert equal(faces.intensity, [[NAN, 0], [NAN, NAN]])
    assert equal(faces.present(), [[1, 0], [NAN, 1]])


def test_columns_of_openface(folder: Path) -> None:
    faces = read(folder, "path,subject, AU01_r, AU01_c, AU02_c\na.png,x,1.57,0,1\na.png,x,,1,\n")
    assert faces.aus == (1, 2)
    assert equal(faces.intensity, [[1.57, NAN], [NAN, NAN]])
    assert equal(faces.presence, [[0, 1], [1, NAN]])


@pytest.mark.parametrize(
    ("cells", "rule"), [("0,1", "presence"), ("0,2", "intensity"), ("0.5,1", "intensity")]
)
def test_without_a_declaration_the_values_decide_and_the_note_says_so(
    folder: Path, cells: str, rule: str
) -> None:
    faces = read(folder, f"path,subject,AU01,AU02\na.png,x,{cells}\n")
    assert any(f"taken as {rule}" in note for note in faces.notes)
    assert np.isnan(faces.presence).all() == (rule == "intensity")


def test_a_byte_order_mark_and_windows_lines_are_fine(folder: Path) -> None:
    path = folder / "data.csv"
    path.write_bytes("\ufeffpath,subject,AU01\r\na.png,x,4\r\n".encode())
    assert equal(read_manifest(path).intensity, [[4]])


HEAD = "path,frame,subject,AU01,AU12_c\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "data.csv is empty"),
        ("# labels: presence\n", "is empty"),
        ("# labels: strength\npath\n", r"line 1: labels are 'strength'"),
        (HEAD, "no row"),
        ("path,frame,AU01\na.png,,1\n", "line 1: there is no column 'subject'"),
        ("subject,AU01\nx,1\n", "no column 'path'"),
        ("path,subject\na.png,x\n", "no AU column"),
        ("path,subject,AU99\na.png,x,1\n", "'AU99' is no Action Unit known here"),
        ("path,subject,AU01,AU45_r\na.png,x,1,1\n", "'AU45_r' is no Action Unit known here"),
        ("path,subject,AU 1\na.png,x,1\n", "'AU 1' is no Action Unit"),
        ("path,subject,AU1,AU01\na.png,x,1,1\n", "AU1 and AU01 are the same AU"),
        ("path,path,subject,AU1\na.png,a.png,x,1\n", "'path' is there twice"),
        (HEAD + "a.png,,x,,\n", "all labels are blank"),
        (HEAD + "a.png,,x,1\n", "line 2: 4 cells, but the header has 5"),
        (HEAD + "a.png,,x,1,0\na.png,,x,strong,\n", "line 3: AU01 is 'strong'"),
        (HEAD + "a.png,,x,5.1,\n", "AU01 is '5.1'; give a FACS intensity from 0 to 5"),
        (HEAD + "a.png,,x,-1,\n", "AU01 is '-1'"),
        (HEAD + "a.png,,x,inf,\n", "AU01 is 'inf'"),
        (HEAD + "a.png,,x,,9\n", "AU12_c is '9'; give 0 or 1"),
        (HEAD + "b.png,,x,1,\n", r"line 2: there is no file .*b\.png"),
        (HEAD + ",,x,1,\n", "line 2: no path"),
        (HEAD + "a.png,,,1,\n", "line 2: no subject"),
        (HEAD + "a.png,3,x,1,\n", "a.png is an image; leave frame blank"),
        (HEAD + "v.mp4,,x,1,\n", "v.mp4 is taken for a video"),
        (HEAD + "v.mp4,-2,x,1,\n", "frame is '-2'"),
        (HEAD + f"v.mp4,{'9' * 5000},x,1,\n", "line 2: frame is '9+[.]{3}9+'; v.mp4"),
        (HEAD + f"{'a' * 300}.png,,x,1,\n", "line 2: there is no file"),
        (HEAD + "~nobody.png,,x,1,\n", r"line 2: there is no file .*/~nobody\.png"),
        ("path;subject;AU01\na.png;x;1\n", "not separated by commas"),
        ("path\tsubject\tAU01\na.png\tx\t1\n", "not separated by commas"),
        ("# labels: presence\npath,subject,AU01\na.png,x,3\n", "line 3: AU01 is 3, but"),
        ("path,subject,split,AU01\na.png,x,validation,1\n", "split is 'validation'"),
        ('path,subject,AU01\n"a.png,x,1\n', "not CSV"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(folder, text)


def test_a_manifest_that_is_missing_or_no_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.csv cannot be read: No such file"):
        read_manifest(tmp_path / "absent.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="not UTF-8"):
        read_manifest(tmp_path / "x.csv")


def test_data_sets_with_different_aus_are_put_together(folder: Path) -> None:
    first = read(folder, "path,subject,AU12_r\na.png,x,3\n")
    second = read(folder, "path,subject,AU01_r,AU12_c\na.png,y,2,1\n")
    both = merge([first, second])
    assert both.aus == (1, 12)
    assert equal(both.intensity, [[NAN, 3], [2, NAN]])
    assert equal(both.presence, [[NAN, NAN], [NAN, 1]])
    assert both.subjects == ("x", "y")
    assert equal(both.columns((12, 25)).intensity, [[3, NAN], [NAN, NAN]])
    with pytest.raises(ConfigError, match="--manifest"):
        merge([])


def people(folder: Path, *subjects: str) -> LabelledFaces:
    return read(folder, "path,subject,AU01\n" + "".join(f"a.png,{name},{1}\n" for name in subjects))


def test_folds_part_the_subjects(folder: Path) -> None:
    faces = people(folder, *"abcdefg", "a")
    parts = [subject_folds(faces, 3, fold) for fold in range(3)]
    assert sorted(sum(parts, ())) == list("abcdefg")
    assert sorted(map(len, parts)) == [2, 2, 3]
    with pytest.raises(ConfigError, match="--fold 3 does not exist"):
        subject_folds(faces, 3, 3)
    with pytest.raises(ConfigError, match=r"at most as many as there are subjects \(7\)"):
        subject_folds(faces, 8, 0)


def test_held_out_subjects_by_share_or_name_take_all_their_rows(folder: Path) -> None:
    faces = people(folder, "a", "b", "a", "c", "d")
    assert held_out(faces, subjects_of(faces, "a,c")).tolist() == [True, False, True, True, False]
    half = subjects_of(faces, "0.5")
    assert len(half) == 2
    assert half == subjects_of(people(folder, "d", "c", "b", "a"), "0.5")
    for spec, message in (
        ("e", "names e, not a subject"),
        ("", "nobody"),
        ("0.01", "leaves nobody"),
        ("1.5", "leaves nobody"),
        ("a,b,c,d", "every subject"),
    ):
        with pytest.raises(ConfigError, match=message):
            subjects_of(faces, spec)


def test_one_picture_of_two_subjects_is_refused(folder: Path) -> None:
    head = "path,frame,subject,AU01\n"
    check_subjects(read(folder, head + "a.png,,x,1\na.png,,x,2\nv.mp4,1,x,1\nv.mp4,2,y,1\n"))
    (folder / "sub").mkdir()
    other = read(folder, head + "sub/../a.png,0,anna,1\n")
    both = merge([read(folder, head + "a.png,,Anna,1\n"), other])
    with pytest.raises(SourceError, match=r"of subject 'anna' here and of 'Anna' at .*line 2"):
        check_subjects(both)


def test_a_subject_in_both_splits_is_refused(folder: Path) -> None:
    head = "path,subject,split,AU01\n"
    good = read(folder, head + "a.png,x,train,1\na.png,y,test,1\na.png,y,test,2\n")
    assert given_split(good) == ("y",)
    bad = read(folder, head + "a.png,x,train,1\na.png,y,test,1\na.png,x,test,1\n")
    with pytest.raises(SourceError, match=r"line 4: subject 'x' is in split 'test' here"):
        given_split(bad)
