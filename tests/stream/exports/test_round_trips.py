"""Markers go out to each program and come back the same; files of others are read with care."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from facestage.core.errors import ConfigError, FacestageError
from facestage.core.scores.definition import parse_scores
from facestage.core.types import LOST, FaceState, FrameRow
from facestage.stream.commands.export import run_export, run_markers
from facestage.stream.commands.signatures import ExportOptions, MarkerOptions
from facestage.stream.exports.boris import boris_bytes, read_boris
from facestage.stream.exports.elan import eaf_bytes, read_eaf
from facestage.stream.exports.markers import Marker, marker_table, parse_markers, read_markers
from facestage.stream.exports.nova import annotation_files, read_annotation
from facestage.stream.exports.recording import Recording, read_recording
from facestage.stream.exports.tiers import apart, samples, tiers
from facestage.stream.offline.exports import check_output, write_analysis
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sequences import sequence_result

FPS = 10
AUS = (4, 6, 12, 43)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of 6 s: a face at rest, brows lowered, nobody, a smile."""
    rows, labels = [], []
    for n in range(60):
        letters = {4: "A"} if 10 <= n < 30 else {12: "B"} if n >= 45 else {}
        is_lost = 30 <= n < 45
        strength = np.array([4.6 if 4 in letters else 0.4, 0, 2.2 if 12 in letters else 0, 0])
        rows.append(
            FrameRow(
                n,
                n / FPS,
                FaceState.LOST if is_lost else FaceState.TRACKED,
                None if is_lost else (strength / 5).astype(np.float32),
                None if is_lost else strength.astype(np.float32),
                {} if is_lost else letters,
            )
        )
        names = tuple(f"AU{au:02d}_{x}" for au, x in letters.items()) or ("NONE",)
        labels.append(LOST if is_lost else names)
    result = sequence_result(
        rows, labels, FPS, source="/home/me/clip.mp4", aus=AUS, hidden=(6,), grades={6: "C"}
    )
    write_analysis(result, tmp_path / "out", scores=parse_scores(["brow=AU4", "PSPI"]))
    return tmp_path / "out"


MARKERS = [
    Marker(0.5, 0.5, "needle"),
    Marker(1.0, 4.0, "=she; spoke \"Grüße\" <&> 'so'"),
    Marker(2.0, 3.5, "nurse"),
    Marker(3.5, 5.0, "needle"),
]


def mark(folder: Path, markers: list[Marker]) -> None:
    (folder / "markers.csv").write_text(marker_table(markers))


# ---- what is written of a recording


def test_tiers_hold_stages_letters_intensity_notices_and_markers(folder: Path) -> None:
    mark(folder, MARKERS)
    found = {tier.name: tier.spans for tier in tiers(read_recording(folder))}
    assert list(found) == [
        "stages",
        "AU04",
        "AU04 intensity",
        "AU12",
        "AU12 intensity",
        "brow notices",
        "markers",
        "markers 2",
    ]
    assert [(s.start_s, s.end_s, s.text) for s in found["stages"]] == [
        (0.0, 1.0, "NONE"),
        (1.0, 3.0, "AU04_A"),
        (3.0, 4.5, "LOST"),
        (4.5, 6.0, "AU12_B"),
    ]
    assert [(s.start_s, s.end_s, s.text) for s in found["AU04"]] == [(1.0, 3.0, "AU04_A")]
    assert [s.text for s in found["AU04 intensity"]] == ["E"]
    assert [s.text for s in found["AU12 intensity"]] == ["B"]
    assert [s.text for s in found["markers"]] == ["needle", MARKERS[1].text]
    assert [s.text for s in found["markers 2"]] == ["nurse", "needle"]


def test_samples_are_steady_and_unknown_where_nobody_was_seen(folder: Path) -> None:
    rate, found = samples(read_recording(folder))
    assert rate == FPS
    by_name = {one.name: one for one in found}
    assert "AU06 intensity" not in by_name  # did not take part
    brow = by_name["AU04 intensity"].values
    assert len(brow) == 60
    assert np.isnan(brow[30:45]).all()
    assert brow[10] == pytest.approx(4.6)
    low, high = by_name["PSPI low"], by_name["PSPI high"]
    assert (low.least, low.most) == (0.0, 16.0)
    assert np.isnan(low.values[30:45]).all()
    # AU6, 7, 9 and 10 are not known: of each pair up to 5.
    assert (high.values[29] - low.values[29]) == pytest.approx(10.0)


def test_what_is_left_out_is_in_no_tier_and_no_sample(folder: Path) -> None:
    mark(folder, MARKERS)
    cut = read_recording(folder).without([(1.45, 2.45)])
    found = {tier.name: [(s.start_s, s.end_s) for s in tier.spans] for tier in tiers(cut)}
    assert found["stages"][1:3] == [(1.0, 1.45), (2.45, 3.0)]
    assert [tuple(map(float, np.round(s, 6))) for s in found["AU04"]] == [(1.0, 1.5), (2.5, 3.0)]
    assert [s[0] for s in found["markers"]] == [0.5, 3.5]
    assert np.isnan(samples(cut)[1][0].values[16:24]).all()


# ---- out and back


TEXTS = (
    st.text("aZ09 äß€語😀;\"'<>&,=+-@|\\/#%:", min_size=1, max_size=30)
    .map(lambda text: " ".join(text.split()))
    .filter(bool)
)


@st.composite
def some_markers(draw: st.DrawFn) -> list[Marker]:
    found = []
    for text in draw(st.lists(TEXTS, max_size=6)):
        start = draw(st.integers(0, 100_000))
        length = draw(st.just(0) | st.integers(2, 20_000))
        found.append(Marker(start / 1000, (start + length) / 1000, text))
    return sorted(set(found))


@given(markers=some_markers())
def test_csv_brings_markers_back(markers: list[Marker]) -> None:
    assert parse_markers(marker_table(markers), "x.csv") == markers


@given(markers=some_markers())
def test_elan_brings_markers_back(
    markers: list[Marker], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("elan") / "x.eaf"
    path.write_bytes(eaf_bytes(apart(markers), "clip.mp4"))
    if markers:
        assert sorted(read_eaf(path)) == markers


@given(markers=some_markers())
def test_nova_brings_markers_back(
    markers: list[Marker], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("nova")
    back = []
    for tier in apart(markers):
        for name, data in annotation_files(tier).items():
            (folder / name).write_bytes(data)
            head = folder / name
        back += read_annotation(head)
    assert sorted(back) == markers


@given(markers=some_markers())
def test_boris_brings_markers_back(
    markers: list[Marker], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("boris") / "x.boris"
    path.write_bytes(boris_bytes(apart(markers), "clip.mp4", 30.0, 100.0))
    if markers:
        assert sorted(read_boris(path)) == markers


@pytest.mark.parametrize("to", ["elan", "boris", "csv"])
def test_export_then_markers_from_it_is_a_round_trip(folder: Path, to: str) -> None:
    mark(folder, MARKERS)
    (path,) = run_export(ExportOptions(folder=folder, to=to))
    (folder / "markers.csv").unlink()
    assert run_markers(MarkerOptions(folder=folder, from_file=path)) == MARKERS
    assert read_markers(folder) == MARKERS
    # What is there already is not added again.
    assert run_markers(MarkerOptions(folder=folder, from_file=path)) == MARKERS


def test_nova_is_a_folder_of_tiers_and_a_stream(folder: Path) -> None:
    mark(folder, MARKERS)
    written = run_export(ExportOptions(folder=folder, to="nova"))
    home = written[0].parent
    assert home == folder.with_name("out.nova")
    first = read_annotation(home / "markers.annotation")
    assert sorted(first + read_annotation(home / "markers_2.annotation~")) == MARKERS
    stages = read_annotation(home / "stages.annotation")
    assert [one.text for one in stages] == ["NONE", "AU04_A", "LOST", "AU12_B"]
    head = (home / "facestage.stream").read_text()
    assert 'sr="10.000000" dim="7" byte="4" type="FLOAT"' in head
    values = np.fromfile(home / "facestage.stream~", "<f4").reshape(-1, 7)
    assert len(values) == 60
    assert values[10, 0] == pytest.approx(4.6)
    assert np.isnan(values[30:45]).all()


def test_spans_of_a_marker_are_left_out_by_its_text(folder: Path) -> None:
    mark(folder, MARKERS)
    (path,) = run_export(ExportOptions(folder=folder, to="csv", exclude=["nurse", "5-5.5s"]))
    with path.open(newline="") as file:
        stages = [row for row in csv.DictReader(file) if row["tier"] == "stages"]
    assert [(float(row["start_s"]), float(row["end_s"])) for row in stages] == [
        (0.0, 1.0),
        (1.0, 2.0),
        (3.5, 4.5),
        (4.5, 5.0),
        (5.5, 6.0),
    ]


def test_markers_stay_when_the_recording_is_analysed_anew(folder: Path) -> None:
    mark(folder, MARKERS)
    check_output(folder)  # they are no foreign file
    rows = [FrameRow(0, 0.0, FaceState.LOST, None, None, {})]
    source = "/home/me/clip.mp4"
    write_analysis(sequence_result(rows, [LOST], FPS, aus=AUS, source=source), folder)
    assert read_markers(folder) == MARKERS


# ---- what cannot be read or written


def test_what_is_there_is_not_overwritten_unasked(folder: Path) -> None:
    (path,) = run_export(ExportOptions(folder=folder, to="csv"))
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists already; name another with --out"):
        run_export(ExportOptions(folder=folder, to="csv"))
    assert path.read_text() == "mine"
    run_export(ExportOptions(folder=folder, to="csv", overwrite=True))
    assert path.read_text() != "mine"


@pytest.mark.parametrize(
    ("to", "exclude", "says"),
    [
        ("excel", None, "use one of boris, csv, edf, elan, fhir, nova"),
        ("csv", ["lunch"], "is no span; give first and last second"),
    ],
)
def test_exports_that_cannot_be(
    folder: Path, to: str, exclude: list[str] | None, says: str
) -> None:
    with pytest.raises(FacestageError, match=says):
        run_export(ExportOptions(folder=folder, to=to, exclude=exclude))


def test_folders_that_hold_no_results(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no results of facestage analyze"):
        read_recording(tmp_path)
    manifest = folder / "temporal_prototype.json"
    text = manifest.read_text()
    manifest.write_text(text.replace("temporal-prototype/1", "temporal-prototype/9"))
    with pytest.raises(ConfigError, match="is of another version"):
        read_recording(folder)
    manifest.write_text(text[:100])
    with pytest.raises(ConfigError, match="is damaged"):
        read_recording(folder)
    manifest.write_text(text)
    (folder / "frames.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="is no table of frames"):
        read_recording(folder)


BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]>
<ANNOTATION_DOCUMENT>&lol2;</ANNOTATION_DOCUMENT>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_not_expanded(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "bomb.eaf"
    path.write_bytes(BOMB.replace('"1.0"', f'"1.0" encoding="{encoding}"').encode(encoding))
    with pytest.raises(ConfigError, match="has a document type, which is not read for safety"):
        read_eaf(path)


def test_a_file_of_another_tool_says_which_tiers_it_has(tmp_path: Path) -> None:
    path = tmp_path / "x.eaf"
    found = apart([Marker(1.0, 2.0, "hello")])
    path.write_bytes(eaf_bytes(found, "").replace(b'"markers"', b'"K-Spch"'))
    with pytest.raises(ConfigError, match=r"say with --tier .* Its tiers are: K-Spch"):
        read_eaf(path)
    with pytest.raises(ConfigError, match="has no tier 'other'; its tiers are: K-Spch"):
        read_eaf(path, "other")
    assert read_eaf(path, "K-Spch") == [Marker(1.0, 2.0, "hello")]


def test_annotations_that_hang_on_others_have_their_times(tmp_path: Path) -> None:
    path = tmp_path / "x.eaf"
    text = eaf_bytes(apart([Marker(1.0, 2.0, "hello")]), "").decode()
    child = (
        '<TIER TIER_ID="child" PARENT_REF="markers" LINGUISTIC_TYPE_REF="x"><ANNOTATION>'
        '<REF_ANNOTATION ANNOTATION_ID="b1" ANNOTATION_REF="a1">'
        "<ANNOTATION_VALUE>gloss</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER>"
    )
    path.write_text(text.replace("<LINGUISTIC_TYPE ", child + "<LINGUISTIC_TYPE "))
    assert read_eaf(path, "child") == [Marker(1.0, 2.0, "gloss")]
    path.write_text(text.replace(' TIME_VALUE="1000"', ""))
    with pytest.raises(ConfigError, match="has no times; align it in ELAN"):
        read_eaf(path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.eaf", "<html/>", "it begins with <html>, not <ANNOTATION_DOCUMENT>"),
        ("x.eaf", "not xml", "is no XML that can be read"),
        ("x.annotation", "<annotation><scheme type='CONTINUOUS'/></annotation>", "'CONTINUOUS'"),
        ("x.annotation", "<annotation><scheme type='FREE'/></annotation>", "cannot read"),
        ("x.boris", "[]", "is no project of BORIS"),
        ("x.boris", '{"observations": {}, "behaviors_conf": {}}', "0 observations with events"),
        ("x.csv", "text,start_s\n", "has no column 'end_s'"),
        ("x.csv", "text,start_s,end_s\nx,2,1\n", "line 2: the marker 'x' ends at 1 s before"),
        ("x.csv", "text,start_s,end_s\nx,one,2\n", "line 2: could not convert"),
        ("x.csv", "text,start_s,end_s\nx,nan,2\n", "has a time that is no number"),
        ("x.csv", "text,start_s,end_s\n,1,2\n", "has no text"),
        ("x.txt", "", "markers are read from .eaf"),
    ],
)
def test_files_that_hold_no_markers(folder: Path, name: str, content: str, says: str) -> None:
    path = folder.parent / name
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        run_markers(MarkerOptions(folder=folder, from_file=path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "markers.csv").exists()


def test_a_state_without_an_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.boris"
    project = json.loads(boris_bytes(apart([Marker(1.0, 2.0, "x")]), "c.mp4", 30.0, 9.0))
    del project["observations"]["facestage"]["events"][1]
    path.write_text(json.dumps(project))
    with pytest.raises(ConfigError, match="'markers' that starts at 1 s never stops"):
        read_boris(path)


def test_an_empty_recording_has_no_samples() -> None:
    empty = np.zeros((0, 0))
    recording = Recording("x", "m", 30.0, np.zeros(0), (), empty, empty.astype(str), (), (), ())
    assert tiers(recording) == []
    assert samples(recording) == (30, [])
