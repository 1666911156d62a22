"""Files of an analysed sequence: exact content, one self-contained page, all or nothing."""

from __future__ import annotations

import base64
import csv
import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
import pytest
from facestage.core.action_units import AU_COLOURS
from facestage.core.errors import ConfigError
from facestage.core.render.lettering import bgr
from facestage.core.render.prototype_card import CARD_GAP, CARD_HEAD, CARD_SIDE
from facestage.core.stages import stage_labels
from facestage.core.types import (
    LOST,
    BaselineState,
    FaceState,
    FrameRow,
    HeadPose,
    LetterChange,
    Prototype,
    RestLevels,
    SequenceResult,
    StageLabels,
)
from facestage.stream.offline import exports
from facestage.stream.offline.exports import SCHEMA, check_output, write_analysis

from tests.support.sequences import sequence_result

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}.mp4"


def result_of(
    letters: list[dict[int, str] | None], source: str = "clip.mp4", fps: float = 10.0
) -> SequenceResult:
    """Return a result with AU01 and AU12; None stands for a frame without a face."""
    rows = []
    labels: list[StageLabels] = []
    for i, shown in enumerate(letters):
        if shown is None:
            rows.append(FrameRow(i, i / 10, FaceState.LOST, None, None, {}))
            labels.append(LOST)
        else:
            presence = np.array([0.75 if au in shown else 0.125 for au in (1, 12)], np.float32)
            row = FrameRow(i, i / 10, FaceState.TRACKED, presence, 4 * presence, shown)
            rows.append(replace(row, pose=HeadPose(yaw=-3.04, pitch=4.12, roll=0.0), face_id=1))
            labels.append(stage_labels(shown))
    rng = np.random.default_rng(5)
    prototypes = {}
    for name in dict.fromkeys(n for label in labels for n in label if n.startswith("AU")):
        au, letter = int(name[2:4]), name[5:]
        frames = [row.index for row in rows if row.labels.get(au) == letter]
        prototypes[name] = Prototype(
            au,
            letter,
            rng.random((16, 16), np.float32),
            len(frames),
            frames[0],
            frames[-1],
            rng.integers(0, 255, (32, 32), dtype=np.uint8),
        )
    result = sequence_result(
        rows, labels, fps, source=source, lrp_engine="fused", prototypes=prototypes
    )
    crops = tuple(
        None if s.labels == LOST else rng.integers(0, 255, (32, 32), dtype=np.uint8)
        for s in result.stages
    )
    return replace(result, stage_crops=crops)


def story(**options: str) -> SequenceResult:
    return result_of([{}, {}, {12: "A"}, {1: "A", 12: "A"}, {1: "A", 12: "B"}, None], **options)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- content -------------------------------------------------------------------------------------


def test_all_files_are_written_and_listed(tmp_path: Path) -> None:
    written = write_analysis(story(), tmp_path / "out")
    expected = {
        "temporal_prototype.json",
        "stages.csv",
        "frames.csv",
        "prototypes/AU01_A.png",
        "prototypes/AU12_A.png",
        "prototypes/AU12_B.png",
        "strip.png",
        "report.html",
    }
    assert {str(path.relative_to(tmp_path / "out")) for path in written} == expected
    assert set(tree(tmp_path / "out")) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_json_holds_the_temporal_prototype(tmp_path: Path) -> None:
    write_analysis(story(), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text("utf-8"))
    assert document == {
        "schema": "facestage/temporal-prototype/1",
        "source": "clip.mp4",
        "model": "net",
        "detector": "haar",
        "device": "cpu",
        "preset": "sequence",
        "lrp_preset": "innvestigate_a_flat",
        "picture_preset": "innvestigate_a_flat",
        "lrp_engine": "fused",
        "lrp_engine_reason": "",
        "lrp_precision": "float32",
        "fps": 10.0,
        "frames": 6,
        "complete": True,
        "note": "",
        "aus": [
            {"au": 1, "grade": None, "shown": True},
            {"au": 12, "grade": None, "shown": True},
        ],
        "baseline": {"asked": False, "frames": 0, "own": 0, "rest": {}},
        "stages": [
            {"labels": ["NONE"], "start": 0, "end": 1, "start_s": 0.0, "end_s": 0.1, "changes": []},
            {
                "labels": ["AU12_A"],
                "start": 2,
                "end": 2,
                "start_s": 0.2,
                "end_s": 0.2,
                "changes": [],
            },
            {
                "labels": ["AU01_A", "AU12_A"],
                "start": 3,
                "end": 3,
                "start_s": 0.3,
                "end_s": 0.3,
                "changes": [],
            },
            {
                "labels": ["AU01_A", "AU12_B"],
                "start": 4,
                "end": 4,
                "start_s": 0.4,
                "end_s": 0.4,
                "changes": [],
            },
            {"labels": ["LOST"], "start": 5, "end": 5, "start_s": 0.5, "end_s": 0.5, "changes": []},
        ],
        "text": "(NONE) → (AU12_A) → (AU01_A, AU12_A) → (AU01_A, AU12_B) → (LOST)",
        "reduction": 0.166667,
        "unique_stages": 5,
        "prototypes": [
            {"label": "AU12_A", "frames": 2, "first": 2, "exemplar": 3, "regions": []},
            {"label": "AU01_A", "frames": 2, "first": 3, "exemplar": 4, "regions": []},
            {"label": "AU12_B", "frames": 1, "first": 4, "exemplar": 4, "regions": []},
        ],
    }


def test_a_result_that_is_not_whole_says_so(tmp_path: Path) -> None:
    note = "incomplete: of 600 frames stated only 6 could be read"
    write_analysis(dataclasses.replace(story(), note=note), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text("utf-8"))
    assert (document["complete"], document["note"]) == (False, note)
    assert f"Not the whole source:</strong> {note}." in (tmp_path / "out/report.html").read_text()


def test_unique_stages_counts_a_returning_stage_once(tmp_path: Path) -> None:
    write_analysis(result_of([{}, {1: "A"}, {}]), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text("utf-8"))
    assert (len(document["stages"]), document["unique_stages"]) == (3, 2)


def test_csv_files_have_exactly_these_lines(tmp_path: Path) -> None:
    write_analysis(story(), tmp_path / "out")
    assert (tmp_path / "out" / "stages.csv").read_bytes().decode() == (
        "stage,start_frame,end_frame,start_s,end_s,labels,face_id\n"
        "1,0,1,0.0000,0.1000,NONE,1\n"
        "2,2,2,0.2000,0.2000,AU12_A,1\n"
        "3,3,3,0.3000,0.3000,AU01_A+AU12_A,1\n"
        "4,4,4,0.4000,0.4000,AU01_A+AU12_B,1\n"
        "5,5,5,0.5000,0.5000,LOST,\n"
    )
    assert (tmp_path / "out" / "frames.csv").read_bytes().decode() == (
        "frame,face_id,time,face,yaw,pitch,roll,AU01,AU12,AU01_r,AU12_r,AU01_label,AU12_label\n"
        "0,1,0.0000,tracked,-3.0,4.1,0.0,0.1250,0.1250,0.500,0.500,,\n"
        "1,1,0.1000,tracked,-3.0,4.1,0.0,0.1250,0.1250,0.500,0.500,,\n"
        "2,1,0.2000,tracked,-3.0,4.1,0.0,0.1250,0.7500,0.500,3.000,,A\n"
        "3,1,0.3000,tracked,-3.0,4.1,0.0,0.7500,0.7500,3.000,3.000,A,A\n"
        "4,1,0.4000,tracked,-3.0,4.1,0.0,0.7500,0.7500,3.000,3.000,A,B\n"
        "5,,0.5000,lost,,,,,,,,,\n"
    )


def test_other_faces_have_folders_and_rows_of_their_own(tmp_path: Path) -> None:
    short = result_of([{}, {12: "A"}, {12: "A"}])
    late = tuple(replace(row, index=row.index + 2, face_id=2) for row in short.rows)
    other = replace(
        short,
        rows=late,
        stages=tuple(replace(s, start=s.start + 2, end=s.end + 2) for s in short.stages),
        prototypes={
            label: replace(p, first=p.first + 2, exemplar=p.exemplar + 2)
            for label, p in short.prototypes.items()
        },
        source="clip.mp4, face 2",
    )
    both = replace(story(), others=(other,))
    written = {str(p.relative_to(tmp_path / "out")) for p in write_analysis(both, tmp_path / "out")}
    assert {"frames.csv", "face2/frames.csv", "face2/report.html", "face2/strip.png"} <= written
    with (tmp_path / "out" / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] + row["face_id"] for row in rows] == [
        *("01", "11", "21", "22", "31", "32", "41", "42", "5")
    ]
    alone = (tmp_path / "out" / "face2" / "frames.csv").read_text().splitlines()
    assert len(alone) == 1 + len(late)
    # It may be replaced; but not where somebody put something into the folder of a face.
    write_analysis(story(), tmp_path / "out")
    assert not (tmp_path / "out" / "face2").exists()
    write_analysis(both, tmp_path / "out")
    (tmp_path / "out" / "face2" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"face2/notes\.txt"):
        check_output(tmp_path / "out")


def test_pictures_of_a_folder_are_named(tmp_path: Path) -> None:
    files = tuple(f'img_{n}, "x".jpg' for n in (10, 11, 12, 20, 21, 30))
    for name, plain in (("plain", story()), ("baseline", adjusted_story())):
        write_analysis(replace(plain, files=files), tmp_path / name)
        with (tmp_path / name / "frames.csv").open(newline="") as file:
            rows = list(csv.reader(file))
        assert [row[-1] for row in rows] == ["file", *files]
        write_analysis(plain, tmp_path / f"{name}-video")
        with (tmp_path / f"{name}-video" / "frames.csv").open(newline="") as file:
            assert list(csv.reader(file)) == [row[:-1] for row in rows]
    document = json.loads((tmp_path / "plain" / "temporal_prototype.json").read_text("utf-8"))
    named = [(stage["start_file"], stage["end_file"]) for stage in document["stages"]]
    assert named[:2] == [(files[0], files[1]), (files[2], files[2])]
    assert document["prototypes"][0]["first_file"] == files[2]
    assert document["prototypes"][0]["exemplar_file"] == files[3]


def test_names_of_pictures_are_no_formulas(tmp_path: Path) -> None:
    names = ("=1+1.png", "+x.png", "-2.png", "@sum.png", "'=y.png", "plain.png")
    write_analysis(replace(story(), files=names), tmp_path / "out")
    with (tmp_path / "out" / "frames.csv").open(newline="") as file:
        cells = [row[-1] for row in csv.reader(file)][1:]
    assert cells == ["'=1+1.png", "'+x.png", "'-2.png", "'@sum.png", "''=y.png", "plain.png"]


def test_a_result_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.rename

    def note_sync(handle: int) -> None:
        steps.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def note_rename(path: Path, target: Path) -> Path:
        steps.append(("rename", target.name))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    written = write_analysis(story(), tmp_path / "out")
    named = steps.index(("rename", "out"))
    assert {name for step, name in steps[:named]} >= {path.name for path in written}
    assert steps[named + 1 :] == [("sync", tmp_path.name)]  # and the name itself


def test_what_killed_runs_left_goes_with_the_next_result(tmp_path: Path) -> None:
    old, young, foreign = (
        tmp_path / name
        for name in (".out-a1b2c3d4.partial", ".out-b1b2c3d4.partial", ".other-a1b2c3d4.partial")
    )
    aside = tmp_path / ".out-a1b2c3d4.previous"
    for folder in (old, young, foreign, aside):
        (folder / "new").mkdir(parents=True)
        (folder / "new" / "stages.csv").write_text("half")
        if folder is not young:
            for path in (folder / "new" / "stages.csv", folder / "new", folder):
                os.utime(path, (0, 0))
    os.utime(young, (0, 0))  # but somebody writes in it
    write_analysis(story(), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [foreign.name, young.name, "out"]


def test_a_remark_does_not_make_a_result_incomplete(tmp_path: Path) -> None:
    write_analysis(replace(story(), remark="taken as 0–4095"), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text("utf-8"))
    assert (document["complete"], document["note"]) == (True, "")
    assert document["remark"] == "taken as 0–4095"


def adjusted_story() -> SequenceResult:
    """The story, with a baseline that is found in its third frame."""
    plain = story()
    rows = []
    for row in plain.rows:
        if row.presence is None or row.index < 2:
            rows.append(replace(row, baseline=BaselineState.LEARNING))
            continue
        lower = (row.presence / 2).astype(np.float32)
        rows.append(
            replace(
                row,
                baseline=BaselineState.ACTIVE,
                adjusted_presence=lower,
                adjusted_intensity=4 * lower,
                rest_s=18.25,
                rest_prior=0.099,
            )
        )
    rest = RestLevels(np.array([-3.25, -1.0]), np.array([18.25, 2.0]))
    return replace(plain, rows=tuple(rows), baseline=True, rest=rest)


def test_a_baseline_adds_columns_and_leaves_the_raw_values(tmp_path: Path) -> None:
    write_analysis(adjusted_story(), tmp_path / "out")
    lines = (tmp_path / "out" / "frames.csv").read_text().splitlines()
    assert lines[0] == (
        "frame,face_id,time,face,yaw,pitch,roll,AU01,AU12,AU01_r,AU12_r,AU01_label,AU12_label,"
        "baseline,rest_s,AU01_adjusted,AU12_adjusted,AU01_adjusted_r,AU12_adjusted_r"
    )
    assert (
        lines[1] == "0,1,0.0000,tracked,-3.0,4.1,0.0,0.1250,0.1250,0.500,0.500,,,learning,0.00,,,,"
    )
    assert lines[3] == (
        "2,1,0.2000,tracked,-3.0,4.1,0.0,0.1250,0.7500,0.500,3.000,,A,"
        "active,18.25,0.0625,0.3750,0.250,1.500"
    )
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text())
    assert document["baseline"] == {
        "asked": True,
        "frames": 3,
        "own": 3,
        "rest": {"1": -3.25, "12": -1.0},
    }
    page = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert "rest level learned from 18.2 s of rest" in page.text
    assert "dotted: as the" in page.text
    assert json.loads(page.scripts[0])["lanes"][1]["presence"] == [12, 12, 38, 38, 38, None]


def test_a_face_never_seen_at_rest_is_said_so(tmp_path: Path) -> None:
    _, page = page_of(replace(story(), baseline=True), tmp_path / "out")
    assert "no rest seen: judged by the level of faces in general" in page.text
    assert "dotted" not in page.text


def test_weak_and_hidden_aus_are_named(tmp_path: Path) -> None:
    graded = replace(story(), grades={1: "B", 12: "A"})
    _, page = page_of(graded, tmp_path / "out")
    assert "2 of 2; weak: AU01" in page.text
    marks = [
        v for tag, name, v in page.attributes if (tag, name, v) == ("span", "class", "mark weak")
    ]
    # Two stages in the strip and in the table, and one prototype.
    assert len(marks) == 5
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text())
    assert document["aus"][0] == {"au": 1, "grade": "B", "shown": True}

    only_12 = result_of([{}, {12: "A"}])
    hidden = replace(only_12, grades={1: "C", 12: "A"}, hidden=(1,))
    _, page = page_of(hidden, tmp_path / "hidden")
    assert "1 of 2; not used: AU01" in page.text
    assert not [v for _, name, v in page.attributes if (name, v) == ("class", "mark")]
    document = json.loads((tmp_path / "hidden" / "temporal_prototype.json").read_text())
    assert document["aus"][0] == {"au": 1, "grade": "C", "shown": False}
    # Hidden AUs keep their columns and values; only letters are never theirs.
    header, first = (tmp_path / "hidden" / "frames.csv").read_text().splitlines()[:2]
    assert header.startswith("frame,face_id,time,face,yaw,pitch,roll,AU01,AU12,")
    assert first == "0,1,0.0000,tracked,-3.0,4.1,0.0,0.1250,0.1250,0.500,0.500,,"


def test_stage_labels_and_frame_letters_agree_after_reading_back(tmp_path: Path) -> None:
    write_analysis(story(), tmp_path / "out")
    with open(tmp_path / "out" / "stages.csv", newline="") as file:
        stages = list(csv.DictReader(file))
    with open(tmp_path / "out" / "frames.csv", newline="") as file:
        for row in csv.DictReader(file):
            letters = {
                int(name[2:4]): row[name] for name in row if name.endswith("_label") and row[name]
            }
            labels = "LOST" if row["face"] == "lost" else "+".join(stage_labels(letters))
            frame = int(row["frame"])
            (stage,) = [s for s in stages if int(s["start_frame"]) <= frame <= int(s["end_frame"])]
            assert stage["labels"] == labels


def test_prototype_picture_shows_projection_and_heatmap_side_by_side(tmp_path: Path) -> None:
    write_analysis(story(), tmp_path / "out")
    picture = cv2.imread(str(tmp_path / "out" / "prototypes" / "AU12_A.png"))
    assert picture is not None
    assert picture.shape[1] == 2 * CARD_SIDE + CARD_GAP
    shown = picture[CARD_HEAD : CARD_HEAD + CARD_SIDE]
    assert (shown[:, CARD_SIDE : CARD_SIDE + CARD_GAP] == 255).all()
    assert (shown[:, :CARD_SIDE] < 255).any(axis=2).all()
    # Captions: the label with its colour above, words below both pictures.
    assert (picture[20, 4] == bgr(AU_COLOURS[12])).all()
    below = picture[CARD_HEAD + CARD_SIDE :]
    assert (below[:, :CARD_SIDE] < 128).any()
    assert (below[:, CARD_SIDE + CARD_GAP :] < 128).any()


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    write_analysis(story(), tmp_path / "one")
    write_analysis(story(), tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


# --- the page ------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collect what the page would load or run, and check that its tags are balanced."""

    VOID = frozenset({"meta", "img", "br", "hr", "input", "link"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text += data


def page_of(result: SequenceResult, folder: Path) -> tuple[str, Page]:
    write_analysis(result, folder)
    text = (folder / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.open == []
    return text, page


def test_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    text, page = page_of(story(), tmp_path / "out")
    assert text.startswith("<!DOCTYPE html>")
    for tag, name, value in page.attributes:
        if name in {"src", "href", "srcset", "poster", "data", "action"}:
            assert value.startswith("data:image/"), f"<{tag} {name}={value[:40]}>"
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert not {"link", "iframe", "object", "base"} & set(page.tags)
    (policy,) = [v for _, name, v in page.attributes if name == "content" and "default-src" in v]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_page_begins_with_a_summary_and_folds_what_is_many(tmp_path: Path) -> None:
    _, page = page_of(story(), tmp_path / "out")
    assert (
        "0.6 seconds in 6 frames, a face could be analysed in 83 % of them. "
        "Active were AU12 lip corner puller (60 % of the time), "
        "AU01 inner brow raiser (40 % of the time). "
        "The explanation of an active Action Unit changed: AU12 A → B at 0.4 s."
    ) in page.text
    assert "more stage" not in page.text
    many = result_of([{12: "A"} if i % 2 else {} for i in range(40)])
    text, page = page_of(many, tmp_path / "many")
    assert "28 more stages with pictures" in page.text
    folded = text[text.index("28 more stages") :]
    assert folded.count('class="tile"') == 28
    assert 'id="hide-weak"' not in text


def test_weak_aus_can_be_hidden_and_lie_last(tmp_path: Path) -> None:
    graded = replace(story(), grades={1: "B", 12: "A"})
    text, page = page_of(graded, tmp_path / "out")
    assert 'id="hide-weak"' in text
    data = json.loads(page.scripts[0])
    assert [lane["code"] for lane in data["lanes"]] == ["AU12", "AU01"]
    assert data["strong"] < data["height"]
    assert "AU01 inner brow raiser (weak, 40 % of the time)" in page.text


def test_a_clip_without_a_face_boasts_of_nothing(tmp_path: Path) -> None:
    _, page = page_of(result_of([None] * 300), tmp_path / "out")
    assert "No face:" in page.text
    assert "shorter" not in page.text
    assert "none of them with a face that could be analysed" in page.text
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text("utf-8"))
    assert document["reduction"] is None


def test_a_report_of_ten_thousand_stages_stays_small_enough_to_open(tmp_path: Path) -> None:
    result = result_of([{12: "A"} if i % 2 else {} for i in range(10_000)])
    assert len(result.stages) == 10_000
    text, page = page_of(result, tmp_path / "out")
    assert len(text) < 10_000_000
    assert page.tags.count("rect") < 6000
    assert page.tags.count("img") == 480 + 2
    assert page.tags.count("tr") == 10_001  # every stage is in the table
    assert "The first 480 of 10000 stages have pictures" in page.text


def test_the_video_beside_the_report_is_all_it_may_load(tmp_path: Path) -> None:
    write_analysis(story(), tmp_path / "out", film="annotated.mp4")
    page = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert [v for tag, name, v in page.attributes if (tag, name) == ("video", "src")] == [
        "annotated.mp4"
    ]
    (policy,) = [v for _, name, v in page.attributes if name == "content" and "default-src" in v]
    assert "media-src 'self' file:;" in policy


def test_policy_allows_exactly_the_script_of_the_page(tmp_path: Path) -> None:
    _, page = page_of(story(), tmp_path / "out")
    (policy,) = [v for _, name, v in page.attributes if name == "content" and "default-src" in v]
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_page_says_what_was_found(tmp_path: Path) -> None:
    _, page = page_of(story(), tmp_path / "out")
    for expected in (
        "clip.mp4",
        "haar",
        "net",
        "innvestigate_a_flat",
        "(NONE) → (AU12_A) → (AU01_A, AU12_A) → (AU01_A, AU12_B) → (LOST)",
        "16.7 %",
        "lip corner puller",
        "Research software. Not a medical device.",
    ):
        assert expected in page.text


def test_reasons_are_put_into_words(tmp_path: Path) -> None:
    said = "AU12: relevance moved from the cheeks to the mouth corners"
    plain = story()
    change = LetterChange(12, "AU12_A", "AU12_B", said)
    stages = tuple(
        replace(stage, changes=(change,) if stage.labels == ("AU01_A", "AU12_B") else ())
        for stage in plain.stages
    )
    regions = (("mouth corners", 0.61), ("left cheek", 0.2))
    smile = replace(plain.prototypes["AU12_B"], regions=regions)
    result = replace(plain, stages=stages, prototypes={**plain.prototypes, "AU12_B": smile})
    _, page = page_of(result, tmp_path / "out")
    assert said in page.text
    assert "Relevance: mouth corners 61 %, left cheek 20 %" in page.text
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text("utf-8"))
    assert [stage["changes"] for stage in document["stages"] if stage["changes"]] == [
        [{"au": 12, "before": "AU12_A", "after": "AU12_B", "text": said}]
    ]
    (words,) = (p["regions"] for p in document["prototypes"] if p["label"] == "AU12_B")
    assert words == [["mouth corners", 0.61], ["left cheek", 0.2]]


def test_page_draws_only_aus_that_were_ever_active(tmp_path: Path) -> None:
    _, page = page_of(result_of([{}, {12: "A"}, {12: "A"}]), tmp_path / "out")
    data = json.loads(page.scripts[0])
    assert [lane["code"] for lane in data["lanes"]] == ["AU12"]
    assert data["lanes"][0]["letters"] == [[1, 2, "A"]]
    assert data["lanes"][0]["presence"] == [12, 75, 75]
    assert data["stages"] == [[0, 0, "NONE"], [1, 2, "AU12_A"]]
    assert "AU01" not in page.text


def test_threshold_band_is_drawn_only_where_it_is_known(tmp_path: Path) -> None:
    _, without = page_of(story(), tmp_path / "without")
    write_analysis(story(), tmp_path / "with", thresholds={12: (0.5, 0.25)})
    given = Page((tmp_path / "with" / "report.html").read_text("utf-8"))
    assert "grey band" not in without.text
    assert "grey band" in given.text
    bands = [v for tag, name, v in given.attributes if (tag, name, v) == ("rect", "opacity", ".22")]
    assert len(bands) == 1


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    hostile = replace(story(source=HOSTILE), model="<b>net</b>", detector="'><svg onload=1>")
    text, page = page_of(hostile, tmp_path / "out")
    assert page.tags.count("script") == 2
    assert HOSTILE in page.text
    assert "<b>net</b>" in page.text
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert "alert(1)</script>" not in text
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text("utf-8"))
    assert document["source"] == HOSTILE


@pytest.mark.parametrize(
    "letters",
    [
        [{}],
        [None],
        [None, None, None],
        [{12: "A"}],
        [{12: "A"} if i % 2 else {} for i in range(300)],
        [{12: "A"}] * 4000,
    ],
    ids=["one frame", "one lost frame", "lost only", "one active frame", "300 stages", "long"],
)
def test_page_copes_with_every_length(letters: list[dict[int, str] | None], tmp_path: Path) -> None:
    _, page = page_of(result_of(letters), tmp_path / "out")
    numbers = [v for tag, _, v in page.attributes if tag in {"rect", "line", "path", "text"}]
    assert not any("nan" in v or "inf" in v for v in numbers)


@pytest.mark.parametrize("fps", [0.0, math.nan, math.inf])
def test_unknown_frame_rate_is_said_so(fps: float, tmp_path: Path) -> None:
    _, page = page_of(result_of([{12: "A"}], fps=fps), tmp_path / "out")
    assert "at an unknown rate" in page.text
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text("utf-8"))
    assert document["fps"] is None


def test_a_long_curve_keeps_its_extremes(tmp_path: Path) -> None:
    result = result_of([{12: "A"}] * 5000)
    rows = list(result.rows)
    spike = np.array([0.1, 0.99], np.float32)
    rows[3217] = replace(rows[3217], presence=spike)
    _, page = page_of(replace(result, rows=tuple(rows)), tmp_path / "out")
    curve = max((v for t, n, v in page.attributes if (t, n) == ("path", "d")), key=len)
    heights = [float(y) for y in re.findall(r",([\d.]+)", curve)]
    assert len(heights) < 2000
    # 0.99 against 0.75 on a scale of 28 units: the spike stands alone above the plateau.
    top = min(heights)
    plateau = sorted(heights)[5]
    assert plateau - top == pytest.approx((0.99 - 0.75) * 28, abs=0.05)


def test_file_name_that_is_not_utf8_is_written(tmp_path: Path) -> None:
    write_analysis(story(source="pr\udcfcfung.mp4"), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text("utf-8"))
    assert document["source"] == "pr\udcfcfung.mp4"


# --- all or nothing ------------------------------------------------------------------------------


def fail(*_: object) -> NoReturn:
    raise RuntimeError("stopped midway")


def disk_full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "render_report", fail)
    with pytest.raises(RuntimeError, match="midway"):
        write_analysis(story(), tmp_path / "new" / "out")
    assert list((tmp_path / "new").iterdir()) == []


def test_failure_keeps_the_earlier_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_analysis(story(), tmp_path / "out")
    before = tree(tmp_path)
    monkeypatch.setattr(exports, "render_report", fail)
    with pytest.raises(RuntimeError):
        write_analysis(result_of([{}, {1: "A"}]), tmp_path / "out")
    assert tree(tmp_path) == before


def test_failure_of_the_last_rename_brings_the_earlier_result_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_analysis(story(), tmp_path / "out")
    before = tree(tmp_path)
    rename = Path.rename

    def refuse_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(ConfigError, match="could not be written"):
        write_analysis(result_of([{}, {1: "A"}]), tmp_path / "out")
    assert tree(tmp_path) == before


def test_full_disk_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_write_png", disk_full)
    with pytest.raises(ConfigError, match="disk is full"):
        write_analysis(story(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_is_replaced_whole(tmp_path: Path) -> None:
    write_analysis(story(), tmp_path / "out")
    write_analysis(result_of([{}, {1: "A"}]), tmp_path / "out")
    pictures = [path.name for path in (tmp_path / "out" / "prototypes").iterdir()]
    assert pictures == ["AU01_A.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_result_of_another_recording_is_not_replaced_unasked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_analysis(story(), out)
    before = tree(out)
    with pytest.raises(ConfigError, match=r"of clip\.mp4; .* other\.mp4, or add --overwrite"):
        check_output(out, source="other.mp4")
    with pytest.raises(ConfigError, match="holds the result of"):
        write_analysis(story(source="other.mp4"), out)
    assert tree(out) == before
    write_analysis(story(source="other.mp4"), out, overwrite=True)
    assert tree(tmp_path / "out.old") == before
    assert json.loads((out / "temporal_prototype.json").read_text())["source"] == "other.mp4"


def test_the_same_recording_by_another_path_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_analysis(story(source="clip.mp4"), tmp_path / "out")
    write_analysis(story(source=str(tmp_path / "clip.mp4")), tmp_path / "out")
    name = "broken \udcff.mp4"
    write_analysis(story(source=name), tmp_path / "odd")
    write_analysis(story(source=name), tmp_path / "odd")


@pytest.mark.parametrize("kind", ["foreign folder", "notes beside a result", "other schema"])
def test_what_is_not_ours_is_never_lost(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if kind == "notes beside a result":
        write_analysis(story(), out)
    else:
        out.mkdir()
    if kind == "other schema":
        (out / "temporal_prototype.json").write_text('{"schema": "other/1"}')
    else:
        (out / "notes.txt").write_text("mine")
    before = tree(out)
    with pytest.raises(ConfigError, match="not an earlier result"):
        write_analysis(story(), out)
    assert tree(out) == before
    write_analysis(story(), out, overwrite=True)
    assert tree(tmp_path / "out.old") == before
    assert "report.html" in tree(out)
    assert "notes.txt" not in tree(out)


def test_moving_aside_never_hits_what_was_moved_before(tmp_path: Path) -> None:
    for text in ("first", "second"):
        if (tmp_path / "out").exists():
            (tmp_path / "out" / "notes.txt").write_text(text)
        else:
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "notes.txt").write_text(text)
        write_analysis(story(), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out.old" / "notes.txt").read_text() == "first"
    assert (tmp_path / "out.old-2" / "notes.txt").read_text() == "second"


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_analysis(story(), tmp_path / "out")
    assert (tmp_path / "out" / "report.html").exists()


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    write_analysis(story(), tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "report.html").exists()


def mounted_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``folder`` behave like a mount point: it cannot be renamed."""
    monkeypatch.setattr(Path, "is_mount", lambda self: self == folder)
    rename = Path.rename

    def guarded(self: Path, target: Path) -> Path:
        if folder in (self, target):
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", guarded)


def test_a_mount_point_is_filled_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_analysis(story(), tmp_path / "plain")
    out = tmp_path / "out"
    out.mkdir()
    mounted_at(out, monkeypatch)
    write_analysis(result_of([{1: "A"}]), out)
    write_analysis(story(), out)
    assert tree(out) == tree(tmp_path / "plain")


def test_a_mount_point_keeps_its_earlier_result_on_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mounted_at(out, monkeypatch)
    write_analysis(story(), out)
    before = tree(out)
    guarded = Path.rename

    def refuse_report(self: Path, target: Path) -> Path:
        if self.name == "strip.png" and target.parent == out and self.parent.name == "new":
            raise OSError(errno.EIO, "Input/output error")
        return guarded(self, target)

    monkeypatch.setattr(Path, "rename", refuse_report)
    with pytest.raises(ConfigError):
        write_analysis(result_of([{1: "A"}]), out)
    assert tree(out) == before


def test_a_mount_point_keeps_foreign_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    mounted_at(out, monkeypatch)
    with pytest.raises(ConfigError):
        write_analysis(story(), out)
    write_analysis(story(), out, overwrite=True)
    assert (out / "old" / "notes.txt").read_text() == "mine"
    assert (out / "report.html").exists()


def test_what_a_killed_run_left_does_not_block_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (out / ".out-abc123.partial").mkdir(parents=True)
    mounted_at(out, monkeypatch)
    write_analysis(story(), out)
    assert not (out / ".out-abc123.partial").exists()


def test_check_output_names_the_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        check_output(tmp_path / "file")
    with pytest.raises(ConfigError, match="is a file, so"):
        check_output(tmp_path / "file" / "out")
    check_output(tmp_path / "new" / "deep" / "out")
    assert not (tmp_path / "new").exists()


def test_check_output_says_when_the_rights_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Permission bits do not stop a superuser, which test containers often are.
    monkeypatch.setattr(exports.os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="no permission"):
        check_output(tmp_path / "out")


def test_schema_is_versioned() -> None:
    assert re.fullmatch(r"facestage/temporal-prototype/\d+", SCHEMA)


# --- in a browser --------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_script_runs_under_the_policy_and_hostile_names_do_not(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    write_analysis(story(source=HOSTILE), tmp_path / "out")
    page = tmp_path / "out" / "report.html"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
    ]
    done = subprocess.run(
        [browser, *options, page.as_uri()], capture_output=True, timeout=120, check=True
    )
    dom = done.stdout.decode("utf-8")
    # The script takes the browser's own tooltips away; that they are gone shows that it ran.
    assert "<title>Stage 1" in page.read_text("utf-8")
    assert "<title>Stage 1" not in dom
    assert "<title>Temporal prototype" in dom
    assert dom.count("<script") == 2
    assert "<img src=x" not in dom
    assert 'src="x"' not in dom
