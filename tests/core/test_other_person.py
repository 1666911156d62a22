"""A cut to another person, from frames to events, stages, rest levels and tables; real faces."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from facestage.core.analyzer import Analyzer
from facestage.core.network.au_network import AUNetwork
from facestage.core.sequence import SequenceAnalyzer
from facestage.core.types import (
    OTHER_PERSON,
    BaselineState,
    FaceChange,
    FaceState,
    Frame,
    FrameResult,
    StageEvent,
)
from facestage.stream.detectors import OurDetector
from facestage.stream.offline.exports import write_analysis
from facestage.stream.sources import open_source

FPS = 25.0
CUT = 40
"""Frames of the first person."""

pytestmark = pytest.mark.shared


def pictures(clip: Path, start: int, count: int) -> list[np.ndarray]:
    with open_source(str(clip)) as source:
        grabs = [source.read() for _ in range(start + count)]
    return [grab.image for grab in grabs[start:] if grab is not None]


@pytest.fixture(scope="module")
def frames(shared: Path) -> list[Frame]:
    """One man, then at once a woman who laughs, then the man again; every clip begins at rest."""
    man = pictures(shared / "clips/single_face.mp4", 0, CUT)
    woman = pictures(shared / "clips/WolfgangLanger_Pexels.mp4", 260, CUT)
    images = [*man, *woman, *man[:20]]
    return [Frame("joined", n, image, pts=n / FPS) for n, image in enumerate(images)]


@pytest.fixture(scope="module")
def network() -> AUNetwork:
    return AUNetwork.load(device="cpu")


@pytest.fixture(scope="module")
def results(frames: list[Frame], network: AUNetwork) -> list[FrameResult]:
    analyzer = Analyzer(OurDetector(), network)
    return [result for frame in frames for result in analyzer.update([frame])]


def others(results: Sequence[FrameResult]) -> list[FaceChange]:
    events = [event for result in results for event in result.events]
    return [e for e in events if isinstance(e, FaceChange) and e.reason == OTHER_PERSON]


def test_the_change_is_an_event_in_the_frame_of_the_cut(results: list[FrameResult]) -> None:
    assert all(result.face.state == FaceState.TRACKED for result in results)
    changes = others(results)
    assert [change.at for change in changes] == [CUT, 2 * CUT]
    assert all(c.state == c.previous == FaceState.TRACKED for c in changes)


def test_the_stage_ends_and_another_begins(results: list[FrameResult]) -> None:
    at_cut = [event for event in results[CUT].events if isinstance(event, StageEvent)]
    assert [(e.kind, e.reason, e.at) for e in at_cut] == [
        ("exit", "other_person", CUT),
        ("enter", "other_person", CUT),
    ]
    assert (at_cut[0].end, at_cut[1].start, at_cut[1].labels) == (CUT - 1, CUT, ("NONE",))
    # She laughs from her first frame on: the stage is corrected to begin with it.
    revised = [
        event
        for result in results[CUT : 2 * CUT]
        for event in result.events
        if isinstance(event, StageEvent) and event.kind == "revise" and event.start == CUT
    ]
    assert any("AU12" in label for event in revised for label in event.labels)


def test_rest_levels_begin_anew_and_active_aus_off(results: list[FrameResult]) -> None:
    assert results[CUT - 1].rest_s > results[CUT].rest_s
    assert results[CUT].baseline == BaselineState.LEARNING
    assert results[CUT].rest_prior == pytest.approx(1.0, abs=0.05)


def test_a_recording_tells_the_persons_apart(
    frames: list[Frame], network: AUNetwork, tmp_path: Path
) -> None:
    analyzer = SequenceAnalyzer(OurDetector(), network)
    for start in range(0, len(frames), 16):
        analyzer.update(frames[start : start + 16])
    result = analyzer.finish(source="joined", fps=FPS)
    # The man is known again: people have numbers that last.
    assert [row.face_id for row in result.rows] == [1] * CUT + [2] * CUT + [1] * 20
    starts = {stage.start for stage in result.stages}
    assert {0, CUT, 2 * CUT} <= starts
    write_analysis(result, tmp_path / "out")
    with (tmp_path / "out/stages.csv").open(newline="") as file:
        stages = list(csv.DictReader(file))
    for row in stages:
        first, last = int(row["start_frame"]), int(row["end_frame"])
        assert row["face_id"] == str(result.rows[last].face_id) == str(result.rows[first].face_id)
    with (tmp_path / "out/frames.csv").open(newline="") as file:
        persons = [row["face_id"] for row in csv.DictReader(file)]
    assert persons == [str(row.face_id) for row in result.rows]
