"""A recorded session brings its markers and scores into its report, and from there everywhere."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
from facestage.stream.commands.export import run_export, run_markers
from facestage.stream.commands.report import write_report
from facestage.stream.commands.signatures import ExportOptions, MarkerOptions
from facestage.stream.exports.markers import Marker
from facestage.stream.exports.recording import read_recording
from facestage.stream.protocol import MarkerAdd, ScoreInfo
from facestage.stream.recording.reader import open_session
from facestage.stream.recording.recorder import Plan, Recorder
from facestage.stream.server.requests import Requests

from tests.support.recording import HELLO, MODEL, frame, make_recorder
from tests.support.wire import stage

SCORE = ScoreInfo(
    name="smile", formula="AU12*AU6", low=0, high=25, on=7.5, off=4.5, delay_s=0.25, closed_s=0.5
)


def test_markers_and_scores_of_a_session_are_exported(tmp_path: Path) -> None:
    hub, _ = make_recorder(tmp_path)
    hello = msgspec.structs.replace(HELLO, scores=(SCORE,), streams=hub.streams)
    recorder = Recorder(hub, Plan(tmp_path, "bed 1", hello, MODEL, {"device": "cpu"}))
    recorder.start()
    chance = random.Random(7)
    requests = Requests(hub, lambda message: None)
    stream = hub.streams[0].id
    hub.publish_event(stage(0, "NONE"), stream=stream)
    for number in range(30):
        hub.publish_sample(frame(number, chance), stream=stream, t_capture=number / 30)
        if number == 15:
            requests.take(MarkerAdd(stream=stream, text="needle"))
            requests.take(MarkerAdd(stream=stream, text="nurse", start_s=0.2, end_s=0.4))
    folder = recorder.folder
    recorder.stop()
    assert folder is not None
    report = tmp_path / "report"
    for _ in range(2):  # written anew, nothing is there twice
        write_report(open_session(folder), report, quiet=True)
        markers = run_markers(MarkerOptions(folder=report))
        assert markers == [Marker(0.2, 0.4, "nurse"), Marker(0.5, 0.5, "needle")]
    recording = read_recording(report)
    (score,) = recording.scores
    assert (score.name, score.most) == ("smile", 25.0)
    assert len(score.low) == 30
    (path,) = run_export(ExportOptions(folder=report, to="elan"))
    assert b">nurse<" in path.read_bytes()
