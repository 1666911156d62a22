"""The figures that judge a network on real clips: checked on sequences made by hand."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError, SourceError
from facestage.core.face.tracker import Detection
from facestage.core.network.au_network import AUNetwork
from numpy.typing import NDArray

from tests.support.paths import BENCHMARKS

sys.path.append(str(BENCHMARKS))
real_clips: Any = importlib.import_module("real_clips")
au_metrics: Any = importlib.import_module("au_metrics")
au_evidence: Any = importlib.import_module("au_evidence")
au_real: Any = importlib.import_module("au_real")
brows: Any = importlib.import_module("brows")

FRAMES = 100
AUS = (4, 12)
ON, OFF = np.full(2, 0.5, np.float32), np.full(2, 0.35, np.float32)
Flags = NDArray[np.bool_]


def clip(name: str = "a", person: str | None = None, **known: Any) -> Any:
    empty = {"events": (), "quiet": (), "covered": (), "absent": (), "reference": {}}
    return real_clips.ClipFacts(name, person or name, FRAMES, **{**empty, **known})


def span(first: int, last: int, *aus: int) -> Any:
    return real_clips.Span(first, last, aus)


def event(au: int, first: int, last: int, sure: bool = True) -> Any:
    return real_clips.Event(au, first, last, sure, "")


def active(*spans: tuple[int, int], column: int = 1) -> Flags:
    on = np.zeros((FRAMES, len(AUS)), bool)
    for first, last in spans:
        on[first : last + 1, column] = True
    return on


def said(intensity: NDArray[np.float64]) -> Any:
    both = np.stack([np.zeros(FRAMES), intensity], axis=1)
    return au_metrics.ClipPrediction(both / 5, both, np.zeros(FRAMES, bool))


# -- material --------------------------------------------------------------------------------------


@pytest.mark.shared
def test_events_of_the_real_clips(shared: Path) -> None:
    facts = {fact.name: fact for fact in real_clips.load_facts(shared)}
    woman, man = facts["WolfgangLanger_Pexels.mp4"], facts["single_face.mp4"]
    assert {e.au for e in woman.events if e.first == 0} == {1, 4, 7, 17, 43}
    assert event(12, 249, 471) in [
        real_clips.Event(e.au, e.first, e.last, e.sure, "") for e in woman.events
    ]
    # What only the text says: the hand, the blink, the lowered eyes.
    assert woman.mask(woman.covered, 12).sum() == 228 - 60 + 1
    assert woman.mask(woman.covered, 43).sum() == 140 - 95 + 1
    assert not woman.mask(woman.covered, 4).any()
    assert [(e.first, e.last, e.sure) for e in man.events if e.au == 43] == [(26, 31, True)]
    assert [(e.first, e.last, e.sure) for e in woman.events if e.au == 43] == [
        (0, 140, True),
        (426, 471, False),
    ]


@pytest.mark.shared
def test_a_copied_take_has_the_marks_of_the_first_one(shared: Path) -> None:
    facts = {fact.name: fact for fact in real_clips.load_facts(shared)}
    copy = facts["noface_face.mov"]
    assert copy.person == "single_face.mp4"
    assert [(e.first, e.last, e.sure) for e in copy.events if e.au == 43] == [(122, 127, False)]
    assert [e.first for e in copy.events if e.au == 12] == [115]
    assert copy.mask(copy.absent).sum() == 96
    assert facts["face_noface.mov"].mask(facts["face_noface.mov"].absent)[72:].all()
    assert facts["no_face.mp4"].person == "no_face.mp4"


@pytest.mark.shared
def test_quiet_spans_contradict_no_event(shared: Path) -> None:
    for fact in real_clips.load_facts(shared):
        for mark in fact.events:
            within = fact.mask([span(mark.first, mark.last)])
            assert not (fact.mask(fact.quiet, mark.au) & within).any(), (fact.name, mark)


@pytest.mark.shared
def test_the_lips_part_in_the_reference_where_the_eye_saw_it(shared: Path) -> None:
    facts = {fact.name: fact for fact in real_clips.load_facts(shared)}
    curve = facts["single_face.mp4"].reference[25]
    assert curve[25:65].min() > 3 * curve[:15].max()
    assert np.isnan(facts["no_face.mp4"].reference[12]).all()


def test_a_damaged_table_of_events_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "events.csv"
    table.write_text("clip,on_frame,off_frame,what,aus,certainty\na.mp4,0,ten,smile,12,sure\n")
    with pytest.raises(SourceError, match="line 2"):
        real_clips.parse_events(table)


def test_the_folder_of_clips_is_the_one_named_and_a_missing_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("named", "by environment", "beside"):
        (tmp_path / name / "clips").mkdir(parents=True)
        (tmp_path / name / "clips" / "events.csv").touch()
        (tmp_path / name / "reference").mkdir()
    monkeypatch.setattr(real_clips, "SHARED", tmp_path / "beside")
    monkeypatch.setenv("FACESTAGE_SHARED", str(tmp_path / "by environment"))
    assert real_clips.shared_folder(tmp_path / "named").name == "named"
    assert real_clips.shared_folder().name == "by environment"
    monkeypatch.delenv("FACESTAGE_SHARED")
    assert real_clips.shared_folder().name == "beside"
    with pytest.raises(SourceError, match="FACESTAGE_SHARED"):
        real_clips.shared_folder(tmp_path)


class Corner:
    """A detector with points, called YuNet, whose weights come from a file."""

    name = "yunet"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls = 0

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        self.calls += 1
        points = np.array([[60, 60], [100, 60], [80, 84], [64, 106], [96, 106]], np.float32)
        return [Detection((40, 30, 80, 90), 1.0, points)]


def test_crops_are_kept_for_one_weights_file_of_the_detector(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    writer = cv2.VideoWriter(
        str(tmp_path / "clips" / "a.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 25, (160, 160)
    )
    coarse = np.random.default_rng(0).uniform(40, 220, (10, 10)).astype(np.float32)
    face = cv2.resize(coarse, (160, 160), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    for _ in range(2):
        writer.write(np.repeat(face.astype(np.uint8)[:, :, None], 3, axis=2))
    writer.release()
    facts = [dataclasses.replace(clip("a.avi"), frames=2)]
    network = AUNetwork.load(device="cpu")
    weights, cache = tmp_path / "yunet.onnx", tmp_path / "cache"

    def track(content: bytes) -> tuple[int, NDArray[np.uint8]]:
        weights.write_bytes(content)
        detector = Corner(weights)
        (tracked,) = real_clips.load_real_crops(tmp_path, facts, detector, network, cache)
        return detector.calls, tracked.crops

    calls, crops = track(b"one")
    assert calls > 0
    assert len(crops) == 2
    calls, again = track(b"one")
    assert calls == 0
    assert np.array_equal(crops, again)
    assert track(b"two")[0] > 0
    assert track(b"one")[0] == 0  # both are kept


# -- command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["au_real", "calibrate_au"])
def test_the_commands_share_their_options_and_end_with_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--weights", "w.safetensors", "--views", "7", "--cache", "c", "--device", "cuda:1"]
    given += ["--synthetic", "s", "--shared", str(tmp_path)]
    module = importlib.import_module(name)
    seen: list[Any] = []
    monkeypatch.setattr(sys, "argv", [name, *given])
    monkeypatch.setattr(module, "run", seen.append)
    module.main()
    (options,) = seen
    assert (options.weights, options.cache) == (Path("w.safetensors"), Path("c"))
    assert (options.views, options.device, options.synthetic) == (7, "cuda:1", Path("s"))
    assert options.out.parent == Path(module.__file__).parent / "results"
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", [name, *given])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == SourceError.exit_code
    assert capsys.readouterr().err.startswith(f"{name}: {tmp_path} holds no clips/events.csv")


# -- events and false activity ---------------------------------------------------------------------


def test_an_event_is_found_when_active_for_half_of_it() -> None:
    facts = [clip(events=(event(12, 20, 59),))]
    # 4 frames at either end do not count: of 24 … 55 the half is 16.
    for last, found in ((39, 1.0), (38, 0.0)):
        figures = au_metrics.found_events(facts, [active((24, last))], AUS)
        assert figures["12"]["found"] == found
    assert figures["12"]["persons"] == 1


def test_a_short_event_may_be_off_by_the_tolerance() -> None:
    everything = np.ones(FRAMES, bool)
    on = active((32, 35))[:, 1]
    assert au_metrics.event_share(on, everything, 30, 35) == pytest.approx(4 / 6)
    assert au_metrics.event_share(on, everything, 26, 31) == pytest.approx(4 / 6)
    assert au_metrics.event_share(on, everything, 20, 25) == 0
    assert au_metrics.event_share(active((0, 3))[:, 1], everything, 0, 5) == pytest.approx(4 / 6)


def test_covered_frames_are_left_out_and_reported_apart() -> None:
    facts = [clip(events=(event(12, 0, 99),), covered=(span(40, 99, 12),))]
    entry = au_metrics.found_events(facts, [active((0, 39))], AUS)["12"]
    assert entry["events"][0]["visible"] == 1
    assert entry["found"] == 1
    assert entry["found_covered"] == 0
    hidden = [clip(events=(event(12, 0, 99),), covered=(span(0, 99, 12),))]
    assert au_metrics.found_events(hidden, [active((0, 99))], AUS)["12"]["found"] is None


def test_likely_marks_count_apart() -> None:
    facts = [clip(events=(event(12, 0, 30), event(12, 50, 80, sure=False)))]
    entry = au_metrics.found_events(facts, [active((0, 30))], AUS)["12"]
    assert (entry["found"], entry["found_likely"]) == (1, 0.5)


def test_copies_of_a_take_share_one_vote() -> None:
    marks = (event(12, 10, 60),)
    facts = [clip("a", events=marks), clip("b", "a", events=marks), clip("c", events=marks)]
    on = [active((10, 60)), active((10, 60)), active()]
    assert au_metrics.found_events(facts, on, AUS)["12"]["found"] == pytest.approx(0.5)
    quiet = (span(0, 49, 4),)
    facts = [clip("a", quiet=quiet), clip("b", "a", quiet=quiet), clip("c", quiet=quiet)]
    on = [active((0, 49), column=0), active((0, 49), column=0), active()]
    entry = au_metrics.false_activity(facts, on, AUS)["4"]
    assert entry["rate"] == pytest.approx(0.5)
    assert entry["persons"] == 2


def test_false_activity_counts_only_frames_in_which_the_au_cannot_be() -> None:
    facts = [
        clip(quiet=(span(0, 79, 12),), covered=(span(60, 79, 12),), events=(event(12, 40, 99),))
    ]
    # Frames 0 … 35 are left: the event and its tolerance, and the covered ones, are not judged.
    figures = au_metrics.false_activity(facts, [active((27, 99))], AUS)
    assert figures["12"]["frames"] == 36
    assert figures["12"]["rate"] == pytest.approx(9 / 36)
    assert figures["4"]["rate"] is None


def test_activity_has_the_hysteresis_of_live_analysis() -> None:
    presence = np.full((8, 2), 0.0)
    presence[:, 1] = [0.4, 0.6, 0.4, np.nan, 0.4, 0.3, 0.6, 0.4]
    presence[3, 0] = np.nan
    lost = np.zeros(8, bool)
    seen = au_metrics.ClipPrediction(presence, presence * 5, lost)
    expected = [False, True, True, False, True, False, True, True]
    assert au_metrics.activity(seen, ON, OFF)[:, 1].tolist() == expected
    lost[3] = True  # a face that went starts again from inactive
    expected[4] = False
    assert au_metrics.activity(seen, ON, OFF)[:, 1].tolist() == expected


# -- correlation -----------------------------------------------------------------------------------


def test_correlation_within_clips() -> None:
    wave = np.sin(np.arange(FRAMES) / 9)
    facts = [
        clip("a", reference={12: wave}),
        clip("b", reference={12: -wave + 5}),
        clip("c", "b", reference={12: wave}),
        clip("still", reference={12: wave * 1e-3}),
    ]
    entry = au_metrics.correlations(facts, [said(wave + 2)] * 4, AUS)["12"]
    assert {name: round(row["r"], 3) for name, row in entry["clips"].items()} == {
        "a": 1,
        "b": -1,
        "c": 1,
    }
    assert entry["r_clips"] == pytest.approx(1)
    assert entry["r_persons"] == pytest.approx(0.5)  # a 1, b and c together 0
    assert entry["persons"] == 2


def test_correlation_leaves_out_covered_and_missing_frames() -> None:
    wave = np.sin(np.arange(FRAMES) / 9)
    wrong = wave.copy()
    wrong[50:70] = -3
    wrong[70:80] = np.nan
    facts = [clip(reference={12: wave}, covered=(span(50, 69, 12),))]
    row = au_metrics.correlations(facts, [said(wrong)], AUS)["12"]["clips"]["a"]
    assert row["r"] == pytest.approx(1)
    assert row["frames"] == FRAMES - 30


@pytest.mark.parametrize("au", [1, 2, 4])
def test_the_reference_does_not_judge_the_brows(au: int) -> None:
    wave = np.sin(np.arange(FRAMES) / 9)
    facts = [clip(reference={au: wave, 12: wave})]
    entries = au_metrics.correlations(facts, [said(wave)], (au, 12))
    assert str(au) not in entries
    assert entries["12"]["persons"] == 1
    report = {"synthetic": None, "grades": {}, "megabytes": 3.2}
    empty = {"correlation": {}, "events": {}, "false_active": {}}
    asked = {row["figure"] for row in au_real.must_show(report, empty)}
    assert f"correlation AU{au}" not in asked
    assert f"events found AU{au}" in asked


def test_an_output_that_never_moves_follows_nothing() -> None:
    facts = [clip(reference={12: np.sin(np.arange(FRAMES) / 9)})]
    assert au_metrics.correlations(facts, [said(np.zeros(FRAMES))], AUS)["12"]["r_persons"] == 0


# -- relevance -------------------------------------------------------------------------------------


def test_relevance_without_preference_has_a_ratio_of_one() -> None:
    face = np.zeros((20, 20), bool)
    face[2:18, 2:18] = True
    region = np.zeros_like(face)
    region[4:8, 4:12] = True
    flat = np.ones((20, 20), np.float32)
    ratio, outside = au_evidence.region_ratio(flat, region, face)
    assert ratio == pytest.approx(1)
    assert outside == pytest.approx(1 - 256 / 400)
    inside = np.where(region, 1, -1).astype(np.float32)
    assert au_evidence.region_ratio(inside, region, face) == pytest.approx((256 / 32, 0))
    assert np.isnan(au_evidence.region_ratio(-flat, region, face)).all()


# -- report ----------------------------------------------------------------------------------------


def test_the_table_says_what_could_not_be_judged() -> None:
    figures = {
        "correlation": {"12": {"persons": 2, "r_persons": 0.95}},
        "events": {"12": {"found": 0.8}},
        "false_active": {str(au): {"rate": None} for au in (1, 2, 4, 6, 12, 25, 43)},
        "relevance": {
            "12": {"ratio": 2.1, "persons": {"a": 2.1}},
            "4": {"ratio": 1.0, "persons": {"a": 1.0}},
        },
    }
    report = {"synthetic": None, "grades": {"12": "A", "4": "C"}, "megabytes": 3.2}
    rows = {row["figure"]: row for row in au_real.must_show(report, figures)}
    assert rows["correlation AU12"]["reached"] is True
    assert rows["events found AU12"]["reached"] is False
    assert rows["correlation AU5"]["reached"] is None
    assert rows["correlation AU5"]["note"] == "no clip can judge"
    assert rows["synthetic held-out mean AUC"]["reached"] is None
    assert rows["size of the weights, MB"]["reached"] is True
    assert "relevance in region AU12" in rows
    assert "relevance in region AU4" not in rows  # promised for grade A only


def test_rendered_faces_need_the_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(au_evidence, "ROOT", tmp_path)
    with pytest.raises(ConfigError, match="checkout"):
        au_evidence.held_out_views(tmp_path)


# -- brows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [-8.0, 0.0, 8.0])
def test_brow_height_follows_brows_in_the_picture_whatever_the_roll(turn: float) -> None:
    points = np.zeros((68, 2), np.float32)
    points[[36, 39, 42, 45]] = [(26, 45), (38, 45), (58, 45), (70, 45)]
    about = cv2.getRotationMatrix2D((48, 45), turn, 1)
    turned = points @ about[:, :2].T.astype(np.float32) + about[:, 2].astype(np.float32)
    heights = []
    for up in (10, 14):
        face = np.full((96, 96), 180, np.uint8)
        for x in (24, 56):
            cv2.rectangle(face, (x, 45 - up - 2), (x + 16, 45 - up + 2), 60, -1)
            cv2.circle(face, (x + 8, 45), 3, 0, -1)  # an eye, which is darker
        crop = cv2.warpAffine(face, about, (96, 96), borderValue=180)
        heights.append(32 * brows.brow_height(crop, turned))
    np.testing.assert_allclose(heights, [10, 14], atol=0.6)
