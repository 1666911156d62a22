"""The figures over many people, on predictions made by hand whose answers are known."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from facestage.core.errors import SourceError
from facestage.core.face.tracker import Detection
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.card import ModelCard
from numpy.typing import NDArray

from tests.support.paths import BENCHMARKS

sys.path.append(str(BENCHMARKS))
real_clips: Any = importlib.import_module("real_clips")
au_metrics: Any = importlib.import_module("au_metrics")
intervals: Any = importlib.import_module("intervals")
material: Any = importlib.import_module("people_material")
predictions: Any = importlib.import_module("people_predictions")
figures: Any = importlib.import_module("people_figures")
thresholds: Any = importlib.import_module("people_thresholds")
au_people: Any = importlib.import_module("au_people")
people_rest: Any = importlib.import_module("people_rest")

AUS = (4, 12)
ON = 0.0
"""Logit from which an AU of the made-up card is active; 0.62 below it is off."""


@pytest.fixture(scope="module")
def card() -> ModelCard:
    """A card with the AUs 4 and 12, on at .5 and off at .35."""
    own = AUNetwork.load(device="cpu").card
    return dataclasses.replace(
        own,
        aus=AUS,
        grades={4: "B", 12: "A"},
        on=dict.fromkeys(AUS, 0.5),
        off=dict.fromkeys(AUS, 0.35),
        neutral=dict.fromkeys(AUS, -2.0),
    )


@pytest.fixture
def real_people(shared: Path) -> Any:
    """The people of ../shared; the test is skipped without them."""
    for folder in ("judge", "faces"):
        if not (shared / folder).is_dir():
            pytest.skip(f"no folder of real people at {shared / folder}")
    return material.load_material(shared)


def event(au: int, first: int, last: int, sure: bool = True) -> Any:
    return real_clips.Event(au, first, last, sure, "")


def span(first: int, last: int, *aus: int) -> Any:
    return real_clips.Span(first, last, aus)


def clip(person: str, logits: Sequence[float] | NDArray[np.float64], **known: Any) -> Any:
    """A clip in which AU12 has these logits (NaN: no face), and AU4 always −9."""
    z = np.asarray(logits, np.float64)
    empty: dict[str, Any] = {"events": (), "quiet": (), "covered": ()}
    facts = real_clips.ClipFacts(
        f"{person}.mp4", person, len(z), absent=(), reference={}, **{**empty, **known}
    )
    presence = np.stack([np.where(np.isnan(z), np.nan, -9.0), z], axis=1)
    presence = 1 / (1 + np.exp(-presence))
    nothing = np.full_like(presence, np.nan)
    seen = au_metrics.ClipPrediction(presence, nothing, np.isnan(z))
    judged = material.JudgedClip(Path(facts.name), person, facts)
    times, none = np.arange(len(z)) / 10, np.zeros(len(z), bool)
    return predictions.PredictedClip(judged, seen, times, np.ones(len(z)), none)


def still(person: str, z: float, kind: str = "neutral", **known: Any) -> Any:
    """A still in which AU12 has this logit, and AU4 −9."""
    shown = material.Still(Path(f"{person}.png"), person, "set", kind, **known)
    return predictions.PredictedStill(shown, np.array([-9.0, z]))


def of_au12(rows: Sequence[Any]) -> Any:
    return rows[AUS.index(12)]


def two_parts(rest: float, shown: float, length: int = 20) -> NDArray[np.float64]:
    return np.repeat([rest, shown], length)


def person(name: str, rest: float, shown: float, length: int = 20) -> Any:
    """A clip that rests, then shows AU12; the frames next to the event are not judged."""
    return clip(
        name,
        two_parts(rest, shown, length),
        events=(event(12, length, 2 * length - 1),),
        quiet=(span(0, length - 1, 12),),
    )


# -- halves and folds ------------------------------------------------------------------------------


def test_the_half_of_a_person_is_fixed_for_ever() -> None:
    names = (
        "london:001",
        "london:002",
        "darwin:old_man",
        "clips:single_face",
        "judge:sadtalker_aoc",
    )
    halves = [material.half_of(name) for name in names]
    assert halves == ["choose", "report", "choose", "choose", "choose"]


def test_every_person_is_in_one_half_with_all_that_shows_them() -> None:
    names = [f"somebody {n}" for n in range(400)]
    stills = tuple(still(name, 0.0, kind).still for name in names for kind in ("neutral", "smile"))
    clips = tuple(clip(name, [0.0]).clip for name in names[::7])
    everybody = material.Material(clips, stills)
    choose, report = everybody.of_half("choose"), everybody.of_half("report")
    assert not choose.people() & report.people()
    assert choose.people() | report.people() == set(names)
    assert len(choose.stills) + len(report.stills) == len(stills)
    assert len(choose.stills) == 2 * len({s.person for s in choose.stills})
    assert 150 < len(choose.people()) < 250
    assert everybody.of_half("all") is everybody


@pytest.mark.shared
def test_no_real_person_is_in_both_halves(real_people: Any) -> None:
    halves = [real_people.of_half(name) for name in ("choose", "report")]
    assert not halves[0].people() & halves[1].people()
    assert halves[0].people() | halves[1].people() == real_people.people()
    for half in halves:
        marked = {mark.au for c in half.clips for mark in c.facts.events}
        assert marked >= {1, 2, 4, 6, 12, 15, 25}
        assert 50 < len({s.person for s in half.stills if s.kind == "neutral"}) < 85


def test_people_are_dealt_to_folds_of_equal_size_whatever_their_order() -> None:
    names = [f"n{n}" for n in range(23)]
    fold = material.fold_of(names, 5)
    assert fold == material.fold_of(reversed(names), 5)
    assert sorted(np.bincount(list(fold.values()))) == [4, 4, 5, 5, 5]


# -- material --------------------------------------------------------------------------------------

HEAD = "clip,on_frame,off_frame,what,aus,certainty\n"


def test_marks_of_the_judge_are_events_and_spans(tmp_path: Path) -> None:
    table = tmp_path / "events.csv"
    table.write_text(
        f"{HEAD}a.mp4,3,9,smile,6+12,sure\na.mp4,4,8,frown,4,likely\na.mp4,20,30,rest,all,absent\n"
    )
    (facts,) = material.parse_judge_events(table).values()
    assert [(e.au, e.sure) for e in facts.events] == [(6, True), (12, True), (4, False)]
    assert set(facts.quiet[0].aus) == set(real_clips.ALL_AUS)
    assert (facts.frames, facts.person) == (31, "judge:a")


@pytest.mark.parametrize(
    "row", ["a,9,3,x,12,sure", "a,1,2,x,12,perhaps", "a,1,2,x,,sure", "a,-1,2,x,1,sure", "a,1"]
)
def test_a_damaged_mark_is_refused(tmp_path: Path, row: str) -> None:
    table = tmp_path / "events.csv"
    table.write_text(f"{HEAD}{row}\n")
    with pytest.raises(SourceError, match="line 2"):
        material.parse_judge_events(table)


def test_missing_folders_and_short_clips_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="FACESTAGE_SHARED"):
        material.load_material(tmp_path)
    marked = clip("a", np.zeros(9)).clip
    assert material.with_frames(marked, 12).facts.frames == 12
    with pytest.raises(SourceError, match="decodes to 8 frames"):
        material.with_frames(marked, 8)


@pytest.mark.shared
def test_people_of_the_shared_folder(real_people: Any) -> None:
    # Each clip is one person: copies of a take are left out.
    assert len({c.person for c in real_people.clips}) == len(real_people.clips)
    darwin = [s for s in real_people.stills if s.source == "darwin"]
    assert (len(darwin), len({s.person for s in darwin})) == (11, 7)
    (parted,) = [s for s in darwin if s.unknown]
    assert parted.aus == ()
    smiling = {s.person for s in real_people.stills if s.kind == "smile"}
    assert smiling <= {s.person for s in real_people.stills if s.kind == "neutral"}


# -- intervals -------------------------------------------------------------------------------------


def test_wilson_intervals_of_known_shares() -> None:
    assert intervals.wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert intervals.wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert intervals.wilson(1.0, 1) == pytest.approx((0.2065, 1.0), abs=1e-4)
    assert intervals.wilson(0.5, 0) is None


def test_the_bootstrap_draws_people_not_frames() -> None:
    random = np.random.default_rng(3)
    rests = random.normal(0, 1, 8)
    shown = [np.array([z + 1]) for z in rests]
    absent = [np.array([z]) for z in rests]
    few = intervals.PairWins.of(shown, absent)
    # A thousand like frames of the same people make nothing more certain.
    many = intervals.PairWins.of(*([np.repeat(z, 1000) for z in side] for side in (shown, absent)))
    assert many.auc() == pytest.approx(few.auc())
    assert many.interval() == pytest.approx(few.interval())
    # More people do.
    more = intervals.PairWins.of(shown * 8, absent * 8)
    widths = [high - low for low, high in (few.interval(), more.interval())]
    assert widths[1] < 0.6 * widths[0]
    assert few.interval()[0] < few.auc() < few.interval()[1]


def test_one_person_gives_no_interval() -> None:
    shown = [np.ones(50), np.zeros(0), np.zeros(0)]
    wins = intervals.PairWins.of(shown, [np.zeros(50)] * 3)
    assert wins.auc() == 1
    assert wins.interval() is None
    assert intervals.bootstrap_values([1.0], np.median) is None
    assert np.isnan(intervals.PairWins.of([np.zeros(0)], [np.zeros(3)]).auc())


def test_equal_values_count_half() -> None:
    wins = intervals.PairWins.of([np.array([1.0, 2.0])], [np.array([1.0, 0.0])])
    assert wins.auc() == pytest.approx((0.5 + 1 + 1 + 1) / 4)


# -- areas -----------------------------------------------------------------------------------------


def test_areas_inside_across_and_over_the_own_rest_level(card: ModelCard) -> None:
    # One rests where the other shows the AU: perfect within each, one pair of four is wrong.
    people = [person("low", -6, -4), person("high", -3, -1)]
    entry = of_au12(figures.clip_figures(people, card))
    assert entry["inside"]["value"] == 1
    assert entry["across"]["value"] == pytest.approx(0.75)
    assert entry["own"]["value"] == 1
    assert (entry["people_present"], entry["people_absent"]) == (2, 2)
    # However long one of the clips is.
    longer = [people[0], person("high", -3, -1, 200)]
    assert of_au12(figures.clip_figures(longer, card))["across"]["value"] == pytest.approx(0.75)


def test_people_who_never_show_the_au_count_across_but_not_inside(card: ModelCard) -> None:
    calm = clip("calm", np.full(30, -3.0), quiet=(span(0, 29, 12),))
    entry = of_au12(figures.clip_figures([person("low", -6, -4), calm], card))
    assert entry["inside"] == {"value": 1.0, "people": 1, "interval": None}
    assert entry["across"]["value"] == pytest.approx(0.5)
    assert entry["own"]["value"] == 1
    assert "inside" not in figures.clip_figures([calm], card)[0]


def test_a_person_without_absent_frames_has_no_rest_level(card: ModelCard) -> None:
    shown = clip("shown", np.full(30, 2.0), events=(event(12, 0, 29),))
    entry = of_au12(figures.clip_figures([shown, person("low", -6, -4)], card))
    assert entry["across"]["people"] == 2
    assert entry["own"]["people"] == 1


# -- events and false activity ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "found"),
    [
        ([0.1] + [-0.6] * 9, 1),  # on once, and never below off: active throughout
        ([-0.6] * 10, 0),  # between off and on, and never on
        ([0.1] * 5 + [-0.7] * 5, 1),  # half of the frames
        ([0.1] * 4 + [-0.7] * 6, 0),
        ([0.1] * 4 + [np.nan] * 6, 0),  # no face: not active
    ],
)
def test_an_event_is_found_if_active_for_half_of_it_with_hysteresis(
    card: ModelCard, logits: list[float], found: int
) -> None:
    entry = of_au12(figures.clip_figures([clip("a", logits, events=(event(12, 0, 9),))], card))
    assert (entry["found"]["found"], entry["found"]["events"]) == (found, 1)


def test_covered_frames_do_not_count(card: ModelCard) -> None:
    z = [1.0] * 3 + [-3.0] * 17
    marks = {"events": (event(12, 0, 19),), "covered": (span(4, 19, 12),)}
    assert of_au12(figures.clip_figures([clip("a", z, **marks)], card))["found"]["found"] == 1
    marks["covered"] = (span(0, 19, 12),)
    assert of_au12(figures.clip_figures([clip("a", z, **marks)], card))["found"]["events"] == 0


def test_likely_marks_speak_only_where_there_is_no_sure_one(card: ModelCard) -> None:
    likely = clip("a", np.full(20, 2.0), events=(event(12, 0, 9, sure=False),))
    entry = of_au12(figures.clip_figures([likely], card))["found"]
    assert (entry["marks"], entry["events"]) == ("likely", 1)
    sure = clip("b", np.full(20, -2.0), events=(event(12, 0, 9),))
    entry = of_au12(figures.clip_figures([likely, sure], card))["found"]
    assert (entry["marks"], entry["events"], entry["found"]) == ("sure", 1, 0)


def test_events_of_one_person_make_no_interval_narrower(card: ModelCard) -> None:
    marks = tuple(event(12, first, first + 4) for first in range(0, 100, 10))
    entry = of_au12(figures.clip_figures([clip("a", np.ones(100), events=marks)], card))["found"]
    assert (entry["found"], entry["events"], entry["people"]) == (10, 10, 1)
    assert entry["interval"] == intervals.wilson(1.0, 1)


def test_false_activity_is_the_mean_over_people_and_the_worst(card: ModelCard) -> None:
    quiet = (span(0, 9, 12),)
    loud = clip("loud", [1.0] * 5 + [-3.0] * 5, quiet=quiet)
    calm = clip("calm", np.full(1000, -3.0), quiet=(span(0, 999, 12),))
    lost = clip("lost", [1.0] * 2 + [np.nan] * 8, quiet=quiet)  # only what is seen can be false
    entry = of_au12(figures.clip_figures([loud, calm, lost], card))["false"]
    assert entry["mean"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert (entry["worst"], entry["people"]) == (1, 3)


# -- stills ----------------------------------------------------------------------------------------


def neutral_on(stills: Sequence[Any], level: float = -2.0) -> Any:
    return of_au12(figures.neutral_figures(stills, np.full(2, ON), np.full(2, level)))


def test_neutral_people_count_once_each() -> None:
    seen = [still("a", 1.0), still("a", -3.0), still("b", -3.0), still("c", 9.0, "smile")]
    entry = neutral_on(seen)
    assert entry["people"] == 2
    assert entry["active"] == pytest.approx(0.25)
    assert entry["interval"] == intervals.wilson(0.25, 2)
    assert entry["rest"] == pytest.approx(-2)
    assert entry["above_card"] == pytest.approx(0)
    assert entry["sets"] == {"set": pytest.approx(1 / 3)}  # of pictures
    assert neutral_on([])["people"] == 0


def test_smiles_are_compared_with_the_same_person() -> None:
    pairs = [("a", -4.0, -1.0), ("b", -2.0, 1.0), ("c", 1.0, 3.0)]
    seen = [still(name, z) for name, z, _ in pairs]
    seen += [still(name, z, "smile") for name, _, z in pairs]
    seen += [still("neutral only", 5.0), still("smile only", -5.0, "smile")]
    entry = of_au12(figures.smile_figures(seen, np.full(2, ON)))
    assert entry["people"] == 3
    assert entry["found"]["value"] == pytest.approx(2 / 3)
    assert entry["false"]["value"] == pytest.approx(1 / 3)
    assert entry["own"]["value"] == 1
    assert entry["rise"]["value"] == 3
    assert entry["auc"]["value"] == pytest.approx((2 + 2.5 + 3) / 9)
    assert of_au12(figures.smile_figures([], np.full(2, ON)))["people"] == 0


def test_marked_photographs() -> None:
    seen = [
        still("a", 2.0, "marked", aus=(12, 25)),
        still("b", -1.0, "marked", aus=(12,)),
        still("b", -3.0, "marked", aus=(4,)),
        still("c", 1.0, "marked", aus=()),
        still("d", 4.0, "marked", aus=(), unknown=(12,)),
    ]
    entry = of_au12(figures.marked_figures(seen, AUS, np.full(2, ON)))
    assert (entry["pictures"], entry["found"], entry["people"]) == (2, 1, 2)
    assert (entry["neutral_pictures"], entry["neutral_active"]) == (1, 1)
    assert entry["auc"]["value"] == pytest.approx(3 / 4)


# -- thresholds ------------------------------------------------------------------------------------


def group(clips: Sequence[Any] = (), stills: Sequence[Any] = ()) -> Any:
    judged = predictions.Judged(tuple(clips), tuple(stills), {}, 0.0)
    return thresholds.Group.of(judged, AUS)


def portraits(values: Sequence[float]) -> list[Any]:
    return [still(f"p{n}", z) for n, z in enumerate(values)]


@pytest.mark.parametrize(("people", "allowed"), [(20, 1), (39, 1), (40, 2), (134, 6)])
def test_at_most_five_per_cent_of_neutral_people_are_active(people: int, allowed: int) -> None:
    values = np.random.default_rng(1).normal(-3, 1, people)
    on = of_au12(thresholds.choose_on(group(stills=portraits(values.tolist()))))
    assert (values >= on).sum() == allowed


def test_too_few_people_ask_for_nothing() -> None:
    assert np.isnan(of_au12(thresholds.choose_on(group(stills=portraits([0.0] * 19)))))
    assert np.isnan(of_au12(thresholds.choose_on(group([person("a", -3, 1)]))))
    assert np.isnan(of_au12(thresholds.choose_on(group())))


def test_absent_frames_ask_for_the_lowest_quiet_threshold() -> None:
    frames = (span(0, 99, 12),)
    # Nine people rest at −4, one is at 2 in every second frame.
    calm = [clip(f"c{n}", np.full(100, -4.0), quiet=frames) for n in range(9)]
    loud = clip("loud", np.tile([2.0, -4.0], 50), quiet=frames)
    on = of_au12(thresholds.choose_on(group([*calm, loud])))
    # Half of the frames of one in ten are 5 %, which is allowed: as low as it may lie so that the
    # loud one is off again in every second frame.
    assert on == pytest.approx(-4 + thresholds.HYSTERESIS, abs=0.06)
    # Of one in nine it is more, and the threshold must rise above all.
    assert of_au12(thresholds.choose_on(group([*calm[1:], loud]))) == pytest.approx(2, abs=0.06)


def test_the_stricter_of_portraits_and_clips_decides() -> None:
    stills = portraits([-1.0] * 40)
    clips = [person("a", -3, 1), person("b", -3, 1)]
    assert of_au12(thresholds.choose_on(group(clips, stills))) == pytest.approx(-1, abs=0.06)
    clips = [person("a", 0, 1), person("b", 0, 1)]
    assert of_au12(thresholds.choose_on(group(clips, stills))) == pytest.approx(0, abs=0.06)


def test_nobody_is_judged_by_a_threshold_they_took_part_in() -> None:
    people = group(stills=portraits(np.random.default_rng(2).normal(-3, 1, 60).tolist()))
    chosen = thresholds.cross_validated(people)
    assert set(chosen) == people.people()
    fold = material.fold_of(people.people(), thresholds.FOLDS)
    for name, on in chosen.items():
        others = people.of_people(p for p in fold if fold[p] != fold[name])
        assert name not in others.people()
        np.testing.assert_array_equal(on, thresholds.choose_on(others))


def test_the_rest_level_is_taken_off_clips_and_smiles() -> None:
    shown = clip("shown", np.full(30, 2.0), events=(event(12, 0, 29),))
    stills = [still("a", -4.0), still("a", -1.0, "smile")]
    risen = thresholds.without_rest(group([person("low", -6, -4), shown], stills))
    z = risen.clips[0].logits[:, 1]
    assert z[:20] == pytest.approx(np.zeros(20), abs=1e-6)
    assert z[20:] == pytest.approx(np.full(20, 2.0), abs=1e-6)
    assert risen.smile["a"][1][1] == pytest.approx(3)
    assert risen.neutral == {}
    # Without absent frames nothing is known of the rise, and the event is not judged.
    assert np.isnan(risen.clips[1].logits[:, 1]).all()
    assert risen.clips[1].clip.facts.events == ()


def test_own_rest_levels_find_what_one_threshold_cannot(card: ModelCard) -> None:
    # Everybody shows two logits over their own rest, which differs by more than that.
    people = [person(f"p{n}", -8 + 1.5 * n, -6 + 1.5 * n) for n in range(6)]
    judged = predictions.Judged(tuple(people), (), {}, 0.0)
    result = thresholds.proposal(judged, card)
    found = {kind: of_au12(entry["figures"])["found"] for kind, entry in result.items()}
    assert found["own"]["found"] == 6
    assert found["proposed"]["found"] < 6
    assert of_au12(result["own"]["figures"])["false"]["mean"] == 0
    assert of_au12(result["card"]["on"]) == pytest.approx(0, abs=1e-6)


def test_the_other_half_may_choose(card: ModelCard) -> None:
    def half(level: float) -> Any:
        return predictions.Judged((), tuple(portraits([level] * 40)), {}, 0.0)

    result = thresholds.proposal(half(-1.0), card, asking=half(-3.0))
    entry = result["proposed"]
    assert of_au12(entry["on"]) == pytest.approx(-3, abs=0.06)
    assert of_au12(entry["figures"])["neutral"]["active"] == 1


def test_without_a_threshold_nothing_is_judged() -> None:
    people = group([person("a", -3, 1)], portraits([0.0]))
    unknown = dict.fromkeys(people.people(), np.full(2, np.nan))
    entry = of_au12(thresholds.judge_thresholds(people, unknown))
    assert entry["found"]["events"] == 0
    assert entry["false"]["people"] == 0
    assert "neutral" not in entry


# -- predictions -----------------------------------------------------------------------------------


class Corner:
    """A detector with points whose weights come from a file; it sees a face in light pictures."""

    name = "yunet"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls = 0

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        self.calls += 1
        points = np.array([[60, 60], [100, 60], [80, 84], [64, 106], [96, 106]], np.float32)
        return [Detection((40, 30, 80, 90), 1.0, points)] if image.mean() > 20 else []


def test_faces_are_found_once_and_missing_ones_counted(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).uniform(40, 220, (10, 10)).astype(np.float32)
    face = cv2.resize(coarse, (160, 160), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    cv2.imwrite(str(tmp_path / "face.png"), face)
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((160, 160), np.uint8))
    size = (160, 160)
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 25, size)
    for _ in range(3):
        writer.write(np.repeat(face.astype(np.uint8)[:, :, None], 3, axis=2))
    writer.release()
    facts = real_clips.ClipFacts("a.avi", "a", 2, (event(12, 0, 1),), (), (), (), {})
    everybody = material.Material(
        (material.JudgedClip(tmp_path / "a.avi", "a", facts),),
        tuple(
            material.Still(tmp_path / f"{name}.png", name, name, "neutral")
            for name in ("face", "dark")
        ),
    )
    network = AUNetwork.load(device="cpu")
    weights = tmp_path / "w.safetensors"
    detector_file = tmp_path / "yunet.onnx"
    detector_file.write_bytes(b"weights")

    def predict(content: bytes, cache: Path | None = tmp_path / "cache") -> tuple[int, Any]:
        weights.write_bytes(content)
        detector = Corner(detector_file)
        judged = predictions.predict_people(everybody, detector, network, weights, cache)
        return detector.calls, judged

    calls, first = predict(b"one")
    assert calls > 0
    assert first.not_found == {"dark": 1, "face": 0}
    assert [seen.person for seen in first.stills] == ["face"]
    assert first.clips[0].prediction.presence.shape == (3, len(network.card.aus))
    assert first.clips[0].clip.facts.frames == 3  # it goes on after its last mark
    calls, second = predict(b"one")
    assert calls == 0
    np.testing.assert_array_equal(first.stills[0].logits, second.stills[0].logits)
    assert predict(b"two")[0] == 0  # the crops are still good
    assert len(list((tmp_path / "cache").glob("presence-*"))) == 2
    detector_file.write_bytes(b"others")
    assert predict(b"one")[0] > 0
    assert predict(b"one", None)[0] > 0


# -- rest levels -----------------------------------------------------------------------------------


def test_a_raise_over_a_low_rest_is_found_by_every_rest_level_but_none(card: ModelCard) -> None:
    """Two margins below the threshold at rest, for 20 s; then up by 1.6, for a second."""
    logits = np.r_[np.full(200, -3.8), np.full(20, -0.6)]
    shy = clip("shy", logits, events=(event(12, 200, 219),), quiet=(span(0, 199, 12),))
    judged = predictions.Judged((shy,), (still("other", -1.0),), {}, 0.0)
    for rest, found in ((people_rest.NONE, 0), *((name, 1) for name in people_rest.RESTS[1:])):
        seen = people_rest.by_rise(judged, card, rest)
        row = figures.clip_figures(seen.clips, card)[1]
        assert row["found"]["found"] == found, rest
        assert row["false"]["mean"] == 0.0
        assert seen.stills is judged.stills


# -- report ----------------------------------------------------------------------------------------


def test_the_report_names_nobody(card: ModelCard, capsys: pytest.CaptureFixture[str]) -> None:
    stills = [still(f"secret {n}", -3.0 + n % 2) for n in range(30)]
    stills += [still(f"secret {n}", 1.0, "smile") for n in range(9)]
    stills += [still("secret old man", 1.0, "marked", aus=(12,))]
    clips = [person("secret a", -3, 1), person("secret b", -2, 1)]
    judged = predictions.Judged(tuple(clips), tuple(stills), {"set": 2}, 0.01)
    everybody = material.Material(tuple(c.clip for c in clips), tuple(s.still for s in stills))
    report = {
        "model": "made up",
        "aus": {"4": "B", "12": "A"},
        "detector": "none",
        "half": "all",
        "rest": "none",
        "counts": au_people.counts(everybody, judged),
        **au_people.judge_people(judged, card),
        "thresholds": thresholds.proposal(judged, card),
    }
    au_people.print_report(report)
    text = au_people.written(report)
    for shown in (text, capsys.readouterr().out):
        assert "secret" not in shown
        assert ".mp4" not in shown
    read = json.loads(text)
    assert read["counts"]["people"] == 33
    assert read["counts"]["stills_without_face"] == {"set": 2}
    assert read["clips"]["12"]["found"]["found"] == 2
    assert read["neutral"]["12"]["people"] == 30
    assert read["thresholds_own"]["4"]["on"] is None
    assert "NaN" not in text


def test_the_command_ends_with_one_line_without_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["au_people", "--shared", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        au_people.main()
    assert ended.value.code == SourceError.exit_code
    assert capsys.readouterr().err.startswith(f"au_people: {tmp_path} holds no")


def test_results_of_one_half_do_not_replace_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(au_people, "run", seen.append)
    monkeypatch.setattr(sys, "argv", ["au_people"])
    au_people.main()
    assert (seen[0].half, seen[0].detector, seen[0].out) == ("choose", "yunet", None)
    assert au_people.default_out("all").name == "au_people.json"
    assert au_people.default_out("choose").name == "au_people_choose.json"
