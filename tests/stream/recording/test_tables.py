"""``facestage.read``: sessions, results and tables of others, with and without pandas."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from facestage.core.errors import ConfigError, SourceError
from facestage.stream.commands.report import write_report
from facestage.stream.recording import tables
from facestage.stream.recording.reader import open_session

import facestage
from tests.support.recording import AUS, make_recorder, publish

FRAMES = 45


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hub, recorder = make_recorder(tmp_path_factory.mktemp("sessions"))
    folder = recorder.start()
    chance = random.Random(7)
    for number in range(FRAMES):
        publish(hub, number, chance)
    recorder.stop()
    return folder


@pytest.fixture(scope="module")
def result(session: Path) -> Path:
    write_report(open_session(session), session / "report", quiet=True)
    return session / "report"


@pytest.fixture(autouse=True)
def no_pandas(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide pandas where the test is of tables without it."""
    if "pandas" not in request.keywords:
        monkeypatch.setitem(sys.modules, "pandas", None)


def test_a_session_is_read_as_it_was_recorded(session: Path) -> None:
    read = facestage.read(session)
    frames = read.frames
    assert isinstance(frames, np.ndarray)
    assert frames["frame"].tolist() == list(range(FRAMES))
    assert frames["time"] == pytest.approx(np.arange(FRAMES) / 30)
    first = next(r.envelope.data for r in open_session(session).samples() if r.envelope)
    for value in first.aus:
        code = f"AU{value.au:02d}"
        assert frames[code][0] == pytest.approx(value.presence)
        assert frames[f"{code}_r"][0] == pytest.approx(value.intensity)
        assert frames[f"{code}_label"][0] == ("A" if value.au == 12 else "")
    assert (frames["x"][0], frames["height"][0], frames["pitch"][0]) == (100.0, 200.0, 2.0)
    assert read.stages["labels"].tolist() == ["NONE", "AU12_A", "NONE", "AU12_A", "NONE"]
    assert read.stages["start_frame"].tolist() == [0, 10, 20, 30, 40]
    assert read.stages["end_frame"].tolist() == [9, 19, 29, 39, 44]
    assert read.events["seq"].tolist() == list(range(1, len(read.events) + 1))
    assert json.loads(read.events["data"][1])["label"] == "AU12_A"
    assert read.prototypes[["label", "au", "letter", "frames"]].tolist() == [
        ("AU12_A", 12, "A", FRAMES)
    ]
    assert read.notes == ()


def test_its_report_is_read_the_same(session: Path, result: Path) -> None:
    live, written = facestage.read(session), facestage.read(result)
    for name in ("frame", "face_id", "face", "AU12_label"):
        assert written.frames[name].tolist() == live.frames[name].tolist()
    for name in ("time", "AU04", "AU04_r", "AU04_adjusted", "yaw"):
        assert written.frames[name] == pytest.approx(live.frames[name], abs=6e-4)
    for name in ("stream", "stage", "start_frame", "end_frame", "labels"):
        assert written.stages[name].tolist() == live.stages[name].tolist()
    assert written.prototypes.tolist() == live.prototypes.tolist()
    assert len(written.events) == 0
    assert {path.name for path in result.iterdir()} == {
        "frames.csv",
        "prototypes",
        "report.html",
        "stages.csv",
        "strip.png",
        "temporal_prototype.json",
    }


def test_openface_and_back(session: Path, tmp_path: Path) -> None:
    own = facestage.read(session)
    own.to_openface_csv(tmp_path / "openface.csv")
    with (tmp_path / "openface.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["frame"], rows[0]["face_id"], rows[0]["success"]) == ("1", "0", "1")
    assert float(rows[0]["pose_Rx"]) == pytest.approx(math.radians(2.0), abs=1e-4)
    assert [rows[0][f"AU{au:02d}_c"] for au in (1, 12)] == ["0", "1"]
    back = facestage.read(tmp_path / "openface.csv").frames
    for name in (
        "frame",
        "face_id",
        "time",
        "yaw",
        "pitch",
        "roll",
        *(f"AU{n:02d}_r" for n in AUS),
    ):
        assert back[name] == pytest.approx(own.frames[name], abs=6e-3)


def test_openface_with_its_spaces_and_lost_faces(tmp_path: Path) -> None:
    path = tmp_path / "of.csv"
    path.write_text(
        "frame, face_id, timestamp, confidence, success, pose_Rx, pose_Ry, AU01_r, AU01_c\n"
        "1, 0, 0.000, 0.98, 1, 0.1, -0.2, 1.25, 1.00\n"
        "2, 0, 0.033, 0.02, 0, 0.0, 0.0, 0.00, 0.00\n"
    )
    frames = facestage.read(path).frames
    assert frames["AU01_r"][0] == 1.25
    assert frames["AU01"][0] == 1.0
    assert np.isnan(frames["AU01_r"][1])
    assert frames["yaw"][0] == pytest.approx(math.degrees(-0.2))


def test_fex_and_back(session: Path, tmp_path: Path) -> None:
    own = facestage.read(session)
    own.to_fex_csv(tmp_path / "fex.csv")
    header = (tmp_path / "fex.csv").read_text().splitlines()[0].split(",")
    assert header[:2] == ["input", "frame"]
    assert {"FaceRectX", "FaceRectHeight", "Pitch", "Yaw", "AU12"} < set(header)
    back = facestage.read(tmp_path / "fex.csv").frames
    for name in ("frame", "time", "x", "height", "pitch", *(f"AU{n:02d}" for n in AUS)):
        assert back[name] == pytest.approx(own.frames[name], abs=6e-5)
    assert back["stream"].tolist() == own.frames["stream"].tolist()


@pytest.mark.pandas
@pytest.mark.skipif(
    importlib.util.find_spec("pandas") is None, reason="pandas is not installed (extra 'pandas')"
)
def test_with_pandas_the_tables_are_data_frames(
    session: Path, result: Path, tmp_path: Path
) -> None:
    for place in (session, result):
        read = facestage.read(place)
        assert read.frames["AU12"].between(0, 1).all()
        assert read.frames[read.frames["AU12_label"] == "A"]["frame"].tolist() == list(
            range(FRAMES)
        )
        assert read.stages.groupby("labels")["stage"].count().to_dict() == {"AU12_A": 2, "NONE": 3}
        assert list(read.prototypes.columns)[:2] == ["stream", "label"]
    facestage.read(session).to_openface_csv(tmp_path / "of.csv")
    assert len(facestage.read(tmp_path / "of.csv").frames) == FRAMES


def test_what_cannot_be_read_says_what_to_name(tmp_path: Path, session: Path, result: Path) -> None:
    with pytest.raises(SourceError, match="is no session; name a folder"):
        facestage.read(tmp_path)
    with pytest.raises(SourceError, match="neither a session nor a result"):
        facestage.read(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="no table of OpenFace or py-feat"):
        facestage.read(result / "stages.csv")
    with pytest.raises(ConfigError, match="cannot be written"):
        facestage.read(session).to_fex_csv(tmp_path / "nowhere" / "x.csv")
    broken = tmp_path / "result"
    broken.mkdir()
    (broken / "temporal_prototype.json").write_text('{"source": "x"}')
    with pytest.raises(SourceError, match="let analyze write it anew"):
        facestage.read(broken)


def test_nobody_who_reads_waits_for_torch() -> None:
    code = "import sys, facestage; facestage.read; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert tables.read is facestage.read
