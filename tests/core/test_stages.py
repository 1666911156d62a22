"""Stages and temporal prototypes, first of all the paper's own example."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from facestage.core.config import StageConfig
from facestage.core.errors import ConfigError
from facestage.core.stages import (
    PresenceGate,
    StageTracker,
    format_prototype,
    reduction,
    stage_labels,
    temporal_prototype,
)
from facestage.core.types import LOST, NONE, Stage, StageEvent
from hypothesis import given
from hypothesis import strategies as st

# Figure 2 of the paper: 18 frames, the letter of each AU per frame ("." = not active).
FIGURE_2 = {
    1: "...AAAAAAAAAAA....",
    2: ".AAAABBBBBBBAAAA..",
    4: "...AAAAA..........",
}
FIGURE_2_TEXT = (
    "(NONE) → (AU02_A) → (AU01_A, AU02_A, AU04_A) → (AU01_A, AU02_B, AU04_A) → "
    "(AU01_A, AU02_B) → (AU01_A, AU02_A) → (AU02_A) → (NONE)"
)


def figure_2_letters() -> list[dict[int, str]]:
    return [{au: row[t] for au, row in FIGURE_2.items() if row[t] != "."} for t in range(18)]


def since(letters: Sequence[dict[int, str]], t: int, au: int) -> int:
    start = t
    while start > 0 and letters[start - 1].get(au) == letters[t][au]:
        start -= 1
    return start


def run(
    tracker: StageTracker,
    frames: Sequence[dict[int, str] | None],
    *,
    fps: float = 30.0,
    lost: bool = True,
    finish: bool = True,
) -> list[StageEvent]:
    events: list[StageEvent] = []
    known = [frame or {} for frame in frames]
    for t, frame in enumerate(frames):
        dated = None if frame is None else {au: (x, since(known, t, au)) for au, x in frame.items()}
        events += tracker.update(t, t / fps, dated, lost=lost)
    return events + (tracker.finish() if finish else [])


def stages_of(events: Sequence[StageEvent]) -> list[tuple[tuple[str, ...], int, int]]:
    return [(e.labels, e.start, e.end) for e in events if e.kind == "exit" and e.end is not None]


def test_figure_2_collapses_to_its_eight_stages() -> None:
    stages = temporal_prototype([stage_labels(frame) for frame in figure_2_letters()])
    assert format_prototype(stages) == FIGURE_2_TEXT
    assert len(stages) == 8
    assert len({s.labels for s in stages}) == 6  # NONE and AU02_A each occur twice
    assert sum(s.frames for s in stages) == 18
    assert reduction(len(stages), 18) == pytest.approx(1 - 8 / 18)


def test_figure_2_live_gives_the_same_stages() -> None:
    events = run(StageTracker(StageConfig(min_stage_s=0.0)), figure_2_letters())
    offline = temporal_prototype([stage_labels(frame) for frame in figure_2_letters()])
    assert stages_of(events) == [(s.labels, s.start, s.end) for s in offline]
    assert [e.reason for e in events if e.kind == "enter"] == [
        "first",
        "au_on",
        "au_on",
        "cluster_change",
        "au_off",
        "cluster_change",
        "au_off",
        "au_off",
    ]


frame_letters = st.dictionaries(st.sampled_from([1, 2, 12]), st.sampled_from("ABC"), max_size=3)


@given(st.lists(st.none() | frame_letters, min_size=1, max_size=40))
def test_without_dwell_live_equals_run_length_collapse(frames: list[dict[int, str] | None]) -> None:
    events = run(StageTracker(StageConfig(min_stage_s=0.0, lost_after_s=0.0)), frames)
    offline = temporal_prototype([LOST if f is None else stage_labels(f) for f in frames])
    assert stages_of(events) == [(s.labels, s.start, s.end) for s in offline]
    assert not [e for e in events if e.kind == "revise"]


@given(st.lists(st.none() | frame_letters, min_size=1, max_size=60), st.sampled_from([0.1, 0.2]))
def test_with_dwell_stages_still_cover_every_frame_once(
    frames: list[dict[int, str] | None], dwell: float
) -> None:
    events = run(StageTracker(StageConfig(min_stage_s=dwell, lost_after_s=0.3)), frames)
    stages = stages_of(events)
    assert stages[0][1] == 0
    assert stages[-1][2] == len(frames) - 1
    for (_, _, end), (_, start, _) in itertools.pairwise(stages):
        assert start == end + 1
    enters = [e for e in events if e.kind == "enter"]
    assert len(enters) == len(stages)
    assert all(e.at >= e.start for e in events)


def test_a_flicker_shorter_than_the_dwell_changes_nothing() -> None:
    frames: list[dict[int, str] | None] = [{12: "A"}] * 10 + [{}] * 5 + [{12: "A"}] * 10
    events = run(StageTracker(StageConfig(min_stage_s=0.2)), frames)
    assert stages_of(events) == [(("AU12_A",), 0, 24)]


def test_a_stage_is_dated_back_to_where_it_began() -> None:
    frames: list[dict[int, str] | None] = [{}] * 20 + [{12: "A"}] * 20
    events = run(StageTracker(StageConfig(min_stage_s=0.2)), frames, finish=False)
    enter = events[-1]
    assert (enter.kind, enter.labels, enter.start, enter.reason) == (
        "enter",
        ("AU12_A",),
        20,
        "au_on",
    )
    assert enter.at == 26  # 0.2 s after frame 20 at 30 frames per second
    assert (events[-2].kind, events[-2].labels, events[-2].end) == ("exit", NONE, 19)


def test_aus_that_begin_apart_give_stages_of_their_own() -> None:
    frames: list[dict[int, str] | None] = [{}] * 10 + [{12: "A"}] * 7 + [{12: "A", 25: "A"}] * 20
    events = run(StageTracker(StageConfig(min_stage_s=0.2)), frames)
    assert stages_of(events) == [
        (NONE, 0, 9),
        (("AU12_A",), 10, 16),
        (("AU12_A", "AU25_A"), 17, 36),
    ]


def test_aus_that_begin_together_are_one_stage_revised_as_they_prove_to_last() -> None:
    frames: list[dict[int, str] | None] = [{}] * 10 + [{12: "A"}] * 3 + [{12: "A", 25: "A"}] * 20
    events = run(StageTracker(StageConfig(min_stage_s=0.2)), frames)
    assert stages_of(events) == [(NONE, 0, 9), (("AU12_A", "AU25_A"), 10, 32)]
    changes = [(e.kind, e.labels, e.start, e.at, e.reason) for e in events if e.kind != "exit"]
    assert changes[1:] == [
        ("enter", ("AU12_A",), 10, 16, "au_on"),
        ("revise", ("AU12_A", "AU25_A"), 10, 19, "au_on"),
    ]


@given(st.lists(frame_letters, min_size=1, max_size=80), st.sampled_from([0.1, 0.2, 0.3]))
def test_no_stage_but_the_last_is_shorter_than_the_dwell(
    frames: list[dict[int, str]], dwell: float
) -> None:
    events = run(StageTracker(StageConfig(min_stage_s=dwell)), frames)
    for (_, start, _), (_, after, _) in itertools.pairwise(stages_of(events)):
        assert (after - start) / 30 >= dwell - 1e-6


def test_an_au_is_on_even_while_its_letter_still_changes() -> None:
    frames: list[dict[int, str] | None] = [{}] * 10
    frames += [{12: "A"}] * 4 + [{12: "B"}] * 3 + [{12: "A"}] * 4 + [{12: "B"}] * 20
    events = run(StageTracker(StageConfig(min_stage_s=0.2)), frames)
    assert stages_of(events) == [
        (NONE, 0, 9),
        (("AU12_A",), 10, 20),  # on after seven frames; A had the most of them
        (("AU12_B",), 21, 40),
    ]


def test_a_letter_corrected_back_to_the_start_is_a_revision() -> None:
    tracker = StageTracker(StageConfig(min_stage_s=0.2))
    events: list[StageEvent] = []
    for t in range(30):
        letters: dict[int, tuple[str, int]] = {}
        if t >= 10:
            letters = {12: ("A", 10)} if t < 18 else {12: ("B", 10)}
        events += tracker.update(t, t / 30, letters)
    revise = events[-1]
    assert (revise.kind, revise.labels, revise.previous) == ("revise", ("AU12_B",), ("AU12_A",))
    assert (revise.start, revise.at) == (10, 18)


def test_lost_is_not_none_and_ends_every_au() -> None:
    frames: list[dict[int, str] | None] = [{12: "A"}] * 20 + [None] * 20 + [{}] * 20
    events = run(StageTracker(StageConfig(min_stage_s=0.2)), frames)
    assert stages_of(events) == [(("AU12_A",), 0, 19), (LOST, 20, 39), (NONE, 40, 59)]
    assert [e.reason for e in events if e.kind == "enter"] == ["first", "face_lost", "face_found"]


def test_a_poor_face_holds_the_stage_then_loses_it() -> None:
    frames: list[dict[int, str] | None] = [{12: "A"}] * 20 + [None] * 60
    config = StageConfig(min_stage_s=0.2, lost_after_s=1.0)
    short = run(StageTracker(config), frames[:45], lost=False)
    assert stages_of(short) == [(("AU12_A",), 0, 44)]
    long = run(StageTracker(config), frames, lost=False)
    assert stages_of(long) == [(("AU12_A",), 0, 19), (LOST, 20, 79)]


def test_a_gap_loses_the_face_and_starts_again() -> None:
    tracker = StageTracker(StageConfig(min_stage_s=0.0))
    events = tracker.update(5, 7.0, {12: ("A", 5)})
    events += tracker.gap()
    assert [(e.kind, e.labels, e.start, e.end) for e in events[1:]] == [
        ("exit", ("AU12_A",), 5, 5),
        ("enter", LOST, 6, None),
    ]
    assert tracker.gap() == []  # lost already
    events = tracker.update(9, 0.0, {12: ("A", 9)})  # a new connection: time starts again
    assert [(e.kind, e.labels, e.start, e.end, e.reason) for e in events] == [
        ("exit", LOST, 6, 8, "face_found"),
        ("enter", ("AU12_A",), 9, None, "face_found"),
    ]
    tracker.gap()
    with pytest.raises(ConfigError, match="frame 9"):
        tracker.update(9, 0.0, {})


def test_another_person_begins_a_stage_also_after_the_same_labels() -> None:
    tracker = StageTracker(StageConfig(min_stage_s=0.2))
    events = run(tracker, [{}] * 20, finish=False)
    events += tracker.other_person(20, 20 / 30)
    assert [(e.kind, e.labels, e.start, e.end, e.reason, e.at) for e in events[-2:]] == [
        ("exit", NONE, 0, 19, "other_person", 20),
        ("enter", NONE, 20, None, "other_person", 20),
    ]


def test_another_person_begins_with_every_au_off() -> None:
    tracker = StageTracker(StageConfig(min_stage_s=0.2))
    events: list[StageEvent] = []
    for t in range(40):
        if t == 20:
            events += tracker.other_person(t, t / 30)
        # The window does not know of the person: it says that the AU goes on since frame 0.
        events += tracker.update(t, t / 30, {12: ("A", 0)})
    events += tracker.finish()
    assert stages_of(events) == [(("AU12_A",), 0, 19), (("AU12_A",), 20, 39)]
    revise = next(e for e in events if e.kind == "revise")
    assert (revise.start, revise.at, revise.previous) == (20, 26, NONE)


def test_another_person_while_lost_or_at_first_is_no_stage_of_its_own() -> None:
    tracker = StageTracker(StageConfig(min_stage_s=0.2))
    assert tracker.other_person(0, 0.0) == []
    events: list[StageEvent] = []
    for t in range(40):
        if t == 30:
            assert tracker.other_person(t, t / 30) == []
        events += tracker.update(t, t / 30, {} if t >= 30 else None, lost=t < 30)
    events += tracker.finish()
    assert stages_of(events) == [(LOST, 0, 29), (NONE, 30, 39)]


def test_frames_must_come_in_order() -> None:
    tracker = StageTracker()
    tracker.update(3, 0.1, {})
    with pytest.raises(ConfigError, match="frame 3"):
        tracker.update(3, 0.2, {})
    with pytest.raises(ConfigError, match=r"gap\(\)"):
        tracker.update(4, 0.0, {})


def test_state_survives_pickling() -> None:
    frames = figure_2_letters()
    config = StageConfig(min_stage_s=0.05)
    whole = run(StageTracker(config), frames)
    tracker = StageTracker(config)
    events: list[StageEvent] = []
    for t, frame in enumerate(frames):
        dated = {au: (x, since(frames, t, au)) for au, x in frame.items()}
        events += tracker.update(t, t / 30, dated)
        tracker = pickle.loads(pickle.dumps(tracker))
    assert events + tracker.finish() == whole


def test_finish_names_a_stage_even_for_one_frame() -> None:
    tracker = StageTracker(StageConfig(min_stage_s=0.2))
    assert tracker.update(0, 0.0, {4: ("A", 0)}) == []
    assert stages_of(tracker.finish()) == [(("AU04_A",), 0, 0)]
    assert StageTracker().finish() == []


def test_gate_holds_between_its_thresholds() -> None:
    gate = PresenceGate([0.5, 0.5], [0.35, 0.35])
    values = [(0.4, 0.6), (0.5, 0.4), (0.36, 0.34), (0.34, 0.49)]
    seen = [gate.update(np.array(v, np.float32)).tolist() for v in values]
    assert seen == [[False, True], [True, True], [True, False], [False, False]]
    gate.update(np.array([0.9, 0.9], np.float32))
    gate.reset()
    assert gate.update(np.array([0.4, 0.4], np.float32)).tolist() == [False, False]


@pytest.mark.parametrize(
    ("on", "off"), [([0.5], [0.6]), ([1.2], [0.5]), ([0.5, 0.5], [0.3]), ([0.5], [-0.1])]
)
def test_gate_rejects_impossible_thresholds(on: list[float], off: list[float]) -> None:
    with pytest.raises(ConfigError):
        PresenceGate(on, off)


def test_reduction_needs_frames() -> None:
    with pytest.raises(ConfigError):
        reduction(1, 0)
    with pytest.raises(ConfigError):
        reduction(3, 2)


def test_temporal_prototype_keeps_given_indices_and_times() -> None:
    stages = temporal_prototype(
        [("AU12_A",), ("AU12_A",), NONE], times=[1.0, 1.5, 2.0], indices=[10, 15, 20]
    )
    assert stages == (
        Stage(("AU12_A",), 10, 15, 1.0, 1.5),
        Stage(NONE, 20, 20, 2.0, 2.0),
    )
    assert temporal_prototype([]) == ()
