"""Scores of a recording: columns, notices in the manifest, withheld in every LOST span."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from facestage.core.scores.definition import parse_scores
from facestage.core.types import LOST, FaceState, FrameRow, SequenceResult
from facestage.stream.offline.exports import write_analysis
from facestage.stream.offline.scores import score_sequence
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sequences import sequence_result

AUS = (4, 6, 7, 9, 10, 43)
FPS = 30
PSPI = parse_scores(["PSPI"])


def recording(spans: list[tuple[str, int, float]]) -> SequenceResult:
    """Return a recording of spans: a state (face, dark, none, or lost with a face), length, AU4."""
    rows: list[FrameRow] = []
    labels = []
    for kind, length, au4 in spans:
        for _ in range(length):
            n = len(rows)
            state = {"dark": FaceState.LOW_QUALITY, "none": FaceState.LOST}.get(kind)
            values = np.array([au4, 0, 0, 0, 0, 0], np.float32)
            usable = kind in ("face", "flicker")
            rows.append(
                FrameRow(
                    n,
                    n / FPS,
                    state or FaceState.TRACKED,
                    values / 5 if usable else None,
                    values if usable else None,
                    {},
                    face_id=1 if usable else None,
                )
            )
            labels.append(("NONE",) if kind == "face" else LOST)
    return sequence_result(rows, labels, FPS, aus=AUS)


SPANS = st.lists(
    st.tuples(
        st.sampled_from(["face", "dark", "none", "flicker"]), st.integers(1, 40), st.floats(0, 5)
    ),
    min_size=1,
    max_size=6,
)


@given(spans=SPANS)
def test_withheld_in_every_lost_span_and_told_in_every_other(
    spans: list[tuple[str, int, float]],
) -> None:
    result = recording(spans)
    scored = score_sequence(result, PSPI)
    lost = {
        frame
        for stage in result.stages
        if stage.labels == LOST
        for frame in range(stage.start, stage.end + 1)
    }
    assert {frame for frame, (value,) in scored.values.items() if value.withheld} == lost
    assert all(value.low is None for frame, (value,) in scored.values.items() if frame in lost)


def test_the_tables_say_it(tmp_path: Path) -> None:
    result = recording([("face", 60, 0.0), ("face", 60, 5.0), ("none", 60, 0.0)])
    scores = parse_scores(["PSPI", "twice=AU4 + AU4"])
    write_analysis(result, tmp_path / "out", scores=scores)
    with (tmp_path / "out" / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    last = rows[119]
    assert [last[name] for name in ("PSPI", "PSPI_low", "PSPI_high")] == ["5.000"] * 3
    terms = ["PSPI_AU04", "PSPI_AU06_AU07", "PSPI_AU09_AU10", "PSPI_AU43"]
    assert [last[name] for name in terms] == ["5.000", "0.000", "0.000", "0.000"]
    assert last["PSPI_missing"] == ""
    assert "a smile scores" in last["PSPI_note"]
    assert (last["twice_AU04"], last["twice_AU04_term2"]) == ("5.000", "5.000")
    assert rows[130]["PSPI_withheld"] == "face lost"
    assert [rows[130][name] for name in ("PSPI", "PSPI_low", *terms)] == [""] * 6
    document = json.loads((tmp_path / "out" / "temporal_prototype.json").read_text())
    pspi, twice = document["scores"]
    assert (pspi["name"], pspi["high"], pspi["delay_s"]) == ("PSPI", 16.0, 0.25)
    (notice,) = pspi["notices"]
    # A mean over half a second reaches 4.8 of 5 in its 15th frame.
    assert (notice["start"], notice["end"], notice["reason"]) == (74, 120, "face lost")
    assert notice["terms"]["AU4"] == [5.0, 5.0]
    assert [entry["start"] for entry in twice["notices"]] == [64]  # 3 of 10


def test_a_hidden_au_is_missing_in_the_table(tmp_path: Path) -> None:
    result = recording([("face", 20, 2.0)])
    hidden = sequence_result(
        result.rows, [("NONE",)] * 20, FPS, aus=AUS, hidden=(6, 7, 9), grades={4: "B"}
    )
    write_analysis(hidden, tmp_path / "out", scores=PSPI)
    with (tmp_path / "out" / "frames.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert (row["PSPI"], row["PSPI_low"], row["PSPI_high"]) == ("", "2.000", "12.000")
    assert row["PSPI_missing"] == "AU06+AU07+AU09"
    assert (row["PSPI_AU04"], row["PSPI_AU06_AU07"]) == ("2.000", "")


def test_without_scores_the_table_is_as_before(tmp_path: Path) -> None:
    write_analysis(recording([("face", 3, 1.0)]), tmp_path / "out")
    header = (tmp_path / "out" / "frames.csv").read_text().splitlines()[0]
    assert header.endswith("AU43_label")
    assert "scores" not in json.loads((tmp_path / "out" / "temporal_prototype.json").read_text())
