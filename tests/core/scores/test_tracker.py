"""Scores through time: PSPI exactly, what is not known, blinks, losses, notices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from facestage.core.config import ScoreConfig
from facestage.core.errors import ConfigError
from facestage.core.scores.definition import PSPI, parse_scores
from facestage.core.scores.tracker import ScoreFrame, ScoreTracker, judge_face
from facestage.core.scores.values import NoticeOff, NoticeOn, ScoreValue
from facestage.core.types import LOST, NONE, FaceState
from hypothesis import given
from hypothesis import strategies as st

AUS = (4, 6, 7, 9, 10, 12, 43)
AT_ONCE = ScoreConfig(smooth_s=0.0, closed_s=0.0)
FPS = 30


def tracker(*scores: str, shown: tuple[int, ...] = AUS, config: ScoreConfig = AT_ONCE):
    grades = dict.fromkeys(AUS, "A")
    return ScoreTracker(
        parse_scores(scores or ("PSPI",)), AUS, shown=shown, grades=grades, config=config
    )


def seen(index: int, values: dict[int, float], **more: object) -> ScoreFrame:
    row = np.array([values.get(au, 0.0) for au in AUS], np.float32)
    active = (43,) if values.get(43) else ()
    return replace(ScoreFrame(index, index / FPS, row, active), **more)  # type: ignore[arg-type]


INTENSITY = st.floats(0, 5, width=32)


@given(
    au4=INTENSITY, au6=INTENSITY, au7=INTENSITY, au9=INTENSITY, au10=INTENSITY, closed=st.booleans()
)
def test_pspi_is_exactly_the_formula(
    au4: float, au6: float, au7: float, au9: float, au10: float, closed: bool
) -> None:
    frame = seen(0, {4: au4, 6: au6, 7: au7, 9: au9, 10: au10, 43: 5.0 * closed})
    (value,), _ = tracker().update(frame)
    terms = [au4, max(au6, au7), max(au9, au10), float(closed)]
    assert [term.value for term in value.terms] == terms
    assert value.value == value.low == value.high == sum(terms)
    assert value.missing == ()


def test_pspi_goes_from_0_to_16() -> None:
    assert (PSPI.formula.low, PSPI.formula.high) == (0.0, 16.0)
    assert "smile" in PSPI.caution


def test_an_au_that_does_not_take_part_is_missing_and_not_0() -> None:
    rows = {4: 2.0, 6: 5.0, 7: 5.0, 9: 5.0, 10: 3.0}
    (value,), _ = tracker(shown=(4, 10, 12, 43)).update(seen(0, rows))
    assert value.value is None
    assert (value.low, value.high) == (5.0, 12.0)  # 2 + 0…5 + 3…5 + 0
    assert value.missing == (6, 7, 9)
    spans = [(term.value, term.low, term.high) for term in value.terms]
    assert spans == [(2.0, 2.0, 2.0), (None, 0.0, 5.0), (None, 3.0, 5.0), (0.0, 0.0, 0.0)]
    parts = {part.au: (part.value, part.grade) for term in value.terms for part in term.aus}
    assert parts[6] == (None, None)
    assert parts[10] == (3.0, "A")


def test_a_missing_au_that_cannot_change_the_value_leaves_it_known() -> None:
    (value,), _ = tracker(shown=(4, 7, 9, 10, 43)).update(seen(0, {7: 5.0}))
    assert value.value == 5.0
    assert value.missing == (6,)


def test_a_smile_scores() -> None:
    (value,), _ = tracker().update(seen(0, {6: 3.0, 7: 1.0, 12: 4.0}))
    assert value.value == 3.0


def test_every_au_goes_in_as_its_mean_over_the_last_half_second() -> None:
    scores = tracker("brow=AU4", config=ScoreConfig())
    values = []
    for index in range(60):
        (value,), _ = scores.update(seen(index, {4: 5.0 * (index >= 30)}))
        values.append(value.value)
    assert values[29] == 0.0
    assert values[30] == pytest.approx(5 / 15)
    # It lags by the delay that is stated: half way up a quarter of a second after the step.
    half = next(index for index, value in enumerate(values) if value >= 2.5)
    assert (half - 29.5) / FPS == pytest.approx(scores.delay_s, abs=1 / FPS)
    assert values[44] == 5.0


def test_a_blink_is_no_closed_eye() -> None:
    scores = tracker("PSPI", config=ScoreConfig(smooth_s=0.0))
    closed = [*range(10, 22), *range(40, 70)]  # .4 s, then 1 s
    values = [
        scores.update(seen(index, {43: float(index in closed)}))[0][0].value for index in range(80)
    ]
    assert [index for index, value in enumerate(values) if value == 1.0] == list(range(55, 70))


def test_nothing_is_said_of_a_face_that_is_lost_or_poor() -> None:
    scores = tracker("PSPI", "smile=AU12*AU6", config=ScoreConfig())
    scores.update(seen(0, {4: 5.0}))
    values, _ = scores.update(seen(1, {}, intensity=None, withheld="low quality: face too dark"))
    assert [value.withheld for value in values] == ["low quality: face too dark"] * 2
    for value in values:
        assert (value.value, value.low, value.high, value.terms) == (None, None, None, ())
    # What was before the loss goes into nothing after it.
    (value, _), _ = scores.update(seen(2, {4: 1.0}))
    assert value.value == 1.0


@pytest.mark.parametrize(
    ("face", "reason", "stage", "withheld"),
    [
        (FaceState.TRACKED, "", NONE, ""),
        (FaceState.MULTIPLE, "", None, ""),
        (FaceState.LOST, "", ("AU12_A",), "face lost"),
        (FaceState.TRACKED, "", LOST, "face lost"),
        (FaceState.LOW_QUALITY, "face too dark", NONE, "low quality: face too dark"),
        (FaceState.LOW_QUALITY, "", NONE, "low quality"),
    ],
)
def test_why_a_face_has_no_score(face: FaceState, reason: str, stage, withheld: str) -> None:
    assert judge_face(face, reason, stage) == withheld


# ---- notices


def run(scores: ScoreTracker, levels: list[float | None], first: int = 0, **more: object):
    """Feed AU4 as a score; None: nobody is seen. Return values and notices."""
    values: list[ScoreValue] = []
    notices: list[NoticeOn | NoticeOff] = []
    for index, level in enumerate(levels, start=first):
        gone = {"intensity": None, "withheld": "face lost"} if level is None else {}
        found, news = scores.update(seen(index, {4: level or 0.0}, **gone, **more))
        values += found
        notices += news
    return values, notices


def test_a_notice_begins_after_the_dwell_and_is_dated_back() -> None:
    scores = tracker("brow=AU4")
    assert scores.thresholds("brow") == pytest.approx((1.5, 0.9))
    levels = [0.0] * 10 + [2.0] * 30 + [4.0] + [2.0] * 10 + [1.0] * 60 + [0.5] * 60
    _, (on, off) = run(scores, levels)
    assert isinstance(on, NoticeOn)
    assert (on.start, on.at) == (10, 10 + 18)  # .6 s
    assert on.value.low == 2.0
    assert isinstance(off, NoticeOff)
    assert (off.id, off.start, off.end, off.at) == (on.id, 10, 111, 111 + 45)  # 1.5 s
    assert off.peak.low == 4.0
    assert off.peak.terms[0].value == 4.0
    assert off.peak_s == pytest.approx(40 / FPS)
    assert off.duration_s == pytest.approx(101 / FPS)
    assert off.reason == "below"


def test_a_short_rise_is_none_and_a_short_dip_ends_none() -> None:
    scores = tracker("brow=AU4")
    _, notices = run(scores, [0.0] * 5 + [5.0] * 17 + [0.0] * 20)
    assert notices == []
    _, notices = run(scores, [2.0] * 30 + [0.0] * 44 + [2.0] * 30, first=100)
    assert [type(notice) for notice in notices] == [NoticeOn]


def test_a_notice_ends_where_the_face_was_lost_for_long() -> None:
    scores = tracker("brow=AU4")
    _, (_, off) = run(scores, [2.0] * 30 + [None] * 60)
    assert isinstance(off, NoticeOff)
    assert (off.end, off.at, off.reason) == (30, 75, "face lost")


def test_an_au_that_is_not_known_makes_no_notice() -> None:
    # Anything could be high here; the least that it can be is what counts.
    scores = tracker("PSPI", shown=(4, 43))
    values, notices = run(scores, [4.0] * 90)
    assert (values[-1].low, values[-1].high) == (4.0, 14.0)
    assert notices == []
    _, notices = run(scores, [4.9] * 90, first=90)
    assert [type(notice) for notice in notices] == [NoticeOn]


def test_another_person_and_a_gap_end_what_went_on() -> None:
    scores = tracker("brow=AU4")
    run(scores, [2.0] * 30, face_id=1)
    _, notices = run(scores, [2.0] * 30, first=30, face_id=2)
    assert [(type(n), n.id) for n in notices] == [(NoticeOff, 1), (NoticeOn, 2)]
    assert notices[0].reason == "another person"  # type: ignore[union-attr]
    (off,) = scores.gap("the source ended")
    assert (off.id, off.end, off.reason) == (2, 59, "the source ended")
    assert scores.gap() == ()
    # Time may start again after a gap, never without one.
    scores.update(seen(60, {}, time_s=0.0))
    with pytest.raises(ConfigError, match=r"call gap\(\)"):
        scores.update(seen(60, {}, time_s=1.0))


# ---- what was asked for


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["pain"], "name one of PSPI, or define one as NAME=FORMULA"),
        (["PSPI=AU4"], "has its formula; give yours another name"),
        (["a=AU4", "A=AU6"], "two scores are called"),
        (["AU12=AU4"], "cannot be a score's name"),
        (["time=AU4"], "cannot be a score's name"),
        (["x y=AU4"], "cannot be a score's name"),
        (["x=AU4/AU6"], "--score x: the formula 'AU4/AU6' can divide by zero"),
        ([f"s{n}=AU4" for n in range(9)], "at most 8"),
    ],
)
def test_scores_that_cannot_be(texts: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_scores(texts)
    assert says in str(caught.value)


def test_a_score_needs_an_au_of_the_network_that_takes_part() -> None:
    with pytest.raises(ConfigError, match="the network knows no AU18; its AUs are 4, 6"):
        tracker("kiss=AU18+AU4")
    with pytest.raises(ConfigError, match=r"none of its AUs takes part.*--aus 6,7"):
        tracker("eyes=AU6+AU7", shown=(4, 12))
    # PSPI of a network without AU7 is still told, with AU7 missing.
    few = ScoreTracker([PSPI], (4, 6), shown=(4, 6), config=AT_ONCE)
    (value,), _ = few.update(ScoreFrame(0, 0.0, np.array([1, 2], np.float32)))
    assert (value.missing, value.low, value.high) == ((7, 9, 10, 43), 3.0, 12.0)


def test_a_configuration_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="cannot be negative"):
        tracker(config=ScoreConfig(smooth_s=-1))
    with pytest.raises(ConfigError, match="not above the first"):
        tracker(config=ScoreConfig(on=0.2, off=0.3))
