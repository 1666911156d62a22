"""How corpora lie on disk: what is found, and one clear error for what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from facestage.core.errors import ConfigError, SourceError
from facestage.stream.datasets.folders import unpacked
from facestage.stream.datasets.sequences import SequenceItem, read_corpus


def touch(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def facts(items: list[SequenceItem]) -> list[tuple[str, str, str, str]]:
    return [(i.name, i.label, i.subject, i.view) for i in items]


CK = "cohn-kanade-images"


def test_ckplus(tmp_path: Path) -> None:
    for sequence in ("S005/001", "S005/002", "S010/001", "S999/003"):
        subject, number = sequence.split("/")
        touch(tmp_path, *(f"{CK}/{sequence}/{subject}_{number}_{n:08d}.png" for n in (1, 2)))
    touch(tmp_path, f"{CK}/.DS_Store", f"{CK}/S005/.DS_Store", f"{CK}/S010/001/Thumbs.db")
    (tmp_path / CK / "S011" / "001").mkdir(parents=True)  # no pictures: no sequence
    touch(tmp_path, "Emotion/S005/001/S005_001_00000002_emotion.txt", text="   3.0000000e+00\n")
    touch(tmp_path, "Emotion/S010/001/S010_001_00000002_emotion.txt", text="0\n\n")
    (tmp_path / "Emotion/S005/002").mkdir()
    touch(
        tmp_path,
        "FACS/S005/001/S005_001_00000002_facs.txt",
        text="   9.0e+00   4.0e+00\n   1.0e+00   0.0e+00\n\n",
    )
    items = read_corpus(tmp_path, "ckplus")
    assert facts(items) == [
        ("S005_001", "disgust", "S005", ""),
        ("S005_002", "", "S005", ""),
        ("S010_001", "neutral", "S010", ""),
        ("S999_003", "", "S999", ""),
    ]
    assert items[0].coded == (1, 9)
    assert items[1].coded is None
    assert items[0].source == str(tmp_path / CK / "S005" / "001")
    assert not any(i.problem for i in items)


def test_ckplus_archives_unpacked_into_folders_of_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, f"images/{CK}/S005/001/S005_001_00000001.png")
    touch(tmp_path, "Emotion_labels/Emotion/S005/001/S005_001_00000002_emotion.txt", text="5\n")
    touch(tmp_path, "FACS_labels/FACS/S005/001/S005_001_00000002_facs.txt", text="6 2\n12 3\n")
    (item,) = read_corpus(tmp_path, "ckplus")
    assert (item.label, item.coded) == ("happy", (6, 12))
    assert not caplog.records
    assert unpacked(tmp_path, "FACS") == tmp_path / "FACS_labels" / "FACS"
    (tmp_path / "FACS").mkdir()
    assert unpacked(tmp_path, "FACS") == tmp_path / "FACS"


def test_ckplus_without_any_label_says_where_it_looked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, f"{CK}/S005/001/S005_001_00000001.png", f"{CK}/S005/002/S005_002_00000001.png")
    touch(tmp_path, "labels/deep/Emotion/S005/001/S005_001_00000001_emotion.txt", text="5\n")
    read_corpus(tmp_path, "ckplus")
    (record,) = caplog.records
    assert "0 of 2 sequences have a label: looked in" in record.message
    assert str(tmp_path / "Emotion") in record.message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("happy", "'happy', not one code of an emotion from 0 to 7"),
        ("8", "'8', not one code"),
        ("1.5", "'1.5', not one code"),
        ("nan", "'nan', not one code"),
        ("", "'nothing', not one code"),
        ("1\n2\n", "'1 / 2', not one code"),
        ("\xff\xfe", "cannot be read"),
    ],
)
def test_a_label_file_with_junk_names_itself(tmp_path: Path, text: str, part: str) -> None:
    """The sequence is left out with this reason: without it, it would count as unlabelled."""
    touch(tmp_path, f"{CK}/S005/001/S005_001_00000001.png")
    touch(tmp_path, "Emotion/S005/001/S005_001_00000001_emotion.txt", text=text)
    (item,) = read_corpus(tmp_path, "ckplus")
    assert "S005_001_00000001_emotion.txt" in item.problem
    assert part in item.problem


def test_two_label_files_are_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, f"{CK}/S005/001/S005_001_00000001.png")
    for n in (1, 2):
        touch(tmp_path, f"Emotion/S005/001/S005_001_0000000{n}_emotion.txt", text="1")
    (item,) = read_corpus(tmp_path, "ckplus")
    assert "holds 2 files *_emotion.txt" in item.problem


def test_actorstudy(tmp_path: Path) -> None:
    touch(tmp_path, "a1/Happy/left.mp4", "a1/Happy/front/clip.avi")
    touch(tmp_path, "a2/pain/front/0001.png", "a2/pain/front/0002.png")
    assert facts(read_corpus(tmp_path, "actorstudy")) == [
        ("a1_Happy_front", "happy", "a1", "front"),
        ("a1_Happy_left", "happy", "a1", "left"),
        ("a2_pain_front", "pain", "a2", "front"),
    ]


@pytest.mark.parametrize("name", ["happy.mp4", "a/happy.mp4", "a/b/c/d/e.mp4", "a/b/x.png"])
def test_actorstudy_at_another_depth(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    with pytest.raises(SourceError, match="expected ACTOR/EMOTION/ANGLE") as error:
        read_corpus(tmp_path, "actorstudy")
    assert name.rpartition("/")[0] in str(error.value)


def test_videos(tmp_path: Path) -> None:
    touch(tmp_path, "happy/one.mp4", "day 2/sad/two.MKV", "top.mov", "notes.txt", ".x/y.mp4")
    assert facts(read_corpus(tmp_path, "videos")) == [
        ("day 2_sad_two", "sad", "", ""),
        ("happy_one", "happy", "", ""),
        ("top", "", "", ""),
    ]


def test_names_fit_for_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a/what?.mp4", f"a/{'long' * 50}.mp4", "a/süß.mp4")
    names = [i.name for i in read_corpus(tmp_path, "videos")]
    assert "a_süß" in names
    assert sum("?" in name for name in names) == 0
    assert all(len(name.encode()) < 140 for name in names)
    assert names == [i.name for i in read_corpus(tmp_path, "videos")]


def test_manifest(tmp_path: Path) -> None:
    text = "path,label,subject,age\nclips/a.mp4,happy,anna,33\nframes/b,,ben,\n\n/abs/c.mp4,,,\n"
    touch(tmp_path, "manifest.csv", text=text)
    for where in (tmp_path, tmp_path / "manifest.csv"):
        items = read_corpus(where, "manifest")
        assert facts(items) == [
            ("abs_c", "", "", ""),
            ("clips_a", "happy", "anna", ""),
            ("frames_b", "", "ben", ""),
        ]
    assert items[1].source == str(tmp_path / "clips" / "a.mp4")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("label\nx\n", "no column 'path'"),
        ("path,path\na,b\n", "is there twice"),
        ("path,label\na.mp4\n", "line 2: 1 cells, but the header has 2"),
        ("path,label\n,happy\n", "line 2: no path"),
        ("path,label\n", "holds no sequence"),
        ("", "is empty"),
        ("path\na.mp4\na.mp4\n", "two sequences are called a"),
        ('path\n"a.mp4\n', "not CSV"),
    ],
)
def test_manifests_that_do_not_work(tmp_path: Path, text: str, part: str) -> None:
    touch(tmp_path, "m.csv", text=text)
    with pytest.raises(SourceError) as error:
        read_corpus(tmp_path / "m.csv", "manifest")
    assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        ("ckplus", ("no 'cohn-kanade-images'", "found: other.txt")),
        ("actorstudy", ("expected ACTOR/EMOTION/ANGLE", "found: other.txt")),
        ("videos", ("expected files ending in .avi", "found: other.txt")),
        ("manifest", ("no manifest.csv", "found: other.txt")),
    ],
)
def test_wrong_layout_says_what_was_expected_and_found(
    tmp_path: Path, layout: str, parts: tuple[str, ...]
) -> None:
    touch(tmp_path, "other.txt")
    with pytest.raises(SourceError) as error:
        read_corpus(tmp_path, layout)
    assert all(part in str(error.value) for part in parts)


@pytest.mark.parametrize("layout", ["ckplus", "actorstudy", "videos", "manifest"])
def test_an_empty_tree(tmp_path: Path, layout: str) -> None:
    with pytest.raises(SourceError, match="found: nothing"):
        read_corpus(tmp_path, layout)


def test_ckplus_without_any_picture(tmp_path: Path) -> None:
    (tmp_path / CK / "S005").mkdir(parents=True)
    with pytest.raises(SourceError, match="expected cohn-kanade-images/S005/001/S005_001_0000"):
        read_corpus(tmp_path, "ckplus")


def test_duplicate_names(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.mp4", "a/X.mkv")
    with pytest.raises(SourceError, match=r"two sequences are called a_[xX]") as error:
        read_corpus(tmp_path, "videos")
    assert "x.mp4" in str(error.value)
    assert "X.mkv" in str(error.value)


def test_no_such_folder_or_layout(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no"):
        read_corpus(tmp_path / "nowhere", "videos")
    with pytest.raises(ConfigError, match="ckplus, actorstudy, videos, manifest"):
        read_corpus(tmp_path, "csv")


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/x.mp4", "b/y.mp4")
    scan = Path.iterdir

    def refuse(self: Path):  # type: ignore[no-untyped-def]
        if self.name == "S005":
            raise PermissionError(13, "Permission denied", str(self))
        return scan(self)

    touch(tmp_path, f"{CK}/S005/001/S005_001_00000001.png")
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(SourceError, match=r"S005 cannot be read: Permission denied"):
        read_corpus(tmp_path, "ckplus")


def test_ckplus_is_not_taken_for_the_actor_study(tmp_path: Path) -> None:
    """Images/subject/sequence has the depth of actor/emotion/angle."""
    touch(tmp_path, "cohn-kanade-images/S005/001/S005_001_00000001.png")
    with pytest.raises(SourceError, match="use --layout ckplus"):
        read_corpus(tmp_path, "actorstudy")
