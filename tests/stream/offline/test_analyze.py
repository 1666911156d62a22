"""Reading a source for its analysis: what the result says about where its frames come from."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError
from facestage.core.network.au_network import AUNetwork
from facestage.core.sequence import SequenceAnalyzer
from facestage.core.stages import stage_labels
from facestage.core.types import FaceState, Frame, FrameRow, SequenceResult
from facestage.stream.commands.rest import parse_spans
from facestage.stream.detectors import make_detector
from facestage.stream.offline.analyze import analyze_source

from tests.support.sequences import sequence_result


class ListingAnalyzer:
    """Stands in for the sequence analyser: notes which frames it is given, and finds no face."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def update(self, frames: list[Frame]) -> list[Any]:
        self.frames += frames
        return []

    def break_before(self, index: int) -> None:
        raise AssertionError("nothing was left out")

    def settle(self) -> list[list[Any]]:
        return []

    def finish(self, *, source: str, fps: float, note: str = "") -> SequenceResult:
        rows = [FrameRow(f.index, 0.0, FaceState.LOST, None, None, {}) for f in self.frames]
        labels = [stage_labels({})] * len(rows)
        return sequence_result(rows, labels, fps, source=source, note=note)


def analyze(path: Path) -> SequenceResult:
    return analyze_source(str(path), cast(SequenceAnalyzer, ListingAnalyzer()))


def write_grey(path: Path) -> None:
    assert cv2.imwrite(str(path), np.full((48, 64), 90, np.uint8))


def test_rows_of_a_folder_lead_back_to_their_files(tmp_path: Path) -> None:
    names = [f"img_{n:05d}.png" for n in (10, 11, 12, 20, 21, 22, 30)]
    for name in names:
        write_grey(tmp_path / name)
    (tmp_path / names[3]).write_bytes(b"broken")
    result = analyze(tmp_path)
    del names[3]
    assert [result.files[row.index] for row in result.rows] == names
    assert result.note == "incomplete: 1 of 7 pictures cannot be decoded"


def test_a_range_of_values_that_was_recognised_is_a_remark(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "1.png"), np.full((48, 64), 3000, np.uint16))
    assert cv2.imwrite(str(tmp_path / "2.png"), np.full((48, 64), 3900, np.uint16))
    result = analyze(tmp_path)
    assert result.note == ""
    assert result.remark == (
        "the values of the first 2 image(s) of type uint16 reach 3900 of 65535; "
        "all are taken as 0–4095"
    )


def test_one_image_is_named_and_a_video_names_nothing(tmp_path: Path) -> None:
    write_grey(tmp_path / "face.png")
    assert analyze(tmp_path / "face.png").files == ("face.png",)
    video = cv2.VideoWriter(
        str(tmp_path / "a.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48)
    )
    video.write(np.full((48, 64, 3), 90, np.uint8))
    video.release()
    assert analyze(tmp_path / "a.avi").files == ()


def test_spans_that_are_left_out_have_no_rows_and_a_stage_lost_in_their_place() -> None:
    analyzer = SequenceAnalyzer(make_detector("auto"), AUNetwork.load(device="cpu"))
    cut = analyze_source("demo:", analyzer, max_frames=40, exclude=[(0.0, 0.2), (1.0, 1.25)])
    assert [row.index for row in cut.rows] == [
        n for n in range(55) if not (n <= 6 or 30 <= n <= 37)
    ]
    assert cut.note == (
        "left out as asked: 0 to 0.2 s, 1 to 1.25 s; only the first 40 frames were asked for"
    )
    assert all(row.presence is not None for row in cut.rows)
    (hole,) = (stage for stage in cut.stages if stage.labels == ("LOST",))
    assert (hole.start, hole.end) == (30, 37)
    assert hole.end_s == pytest.approx(38 / 30)
    # Stages leave no hole and do not overlap.
    assert all(one.end + 1 == two.start for one, two in itertools.pairwise(cut.stages))


@pytest.mark.parametrize("text", ["3", "5-3s", "3-3s", "a-b", "-1-2s", "1-2m"])
def test_a_span_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="is no span; give first and last second"):
        parse_spans([text])
    assert parse_spans(["3-4.5s", " 10 - 12 "]) == [(3.0, 4.5), (10.0, 12.0)]
