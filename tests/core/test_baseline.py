"""The personal baseline: it learns where a face rests, in both directions, and keeps expressions.

Levels are given in margins (threshold less neutral level), the unit of the estimate.
"""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from facestage.core.baseline import (
    PersonalBaseline,
    adjust_intensity,
    adjust_presence,
    presence_for,
    read_rest,
    rest_of_span,
    write_rest,
)
from facestage.core.config import BaselineConfig
from facestage.core.errors import ConfigError
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.card import ModelCard
from facestage.core.stages import PresenceGate
from facestage.core.types import BaselineState, RestLevels
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

FPS = 10
COUNT = 10  # AUs
SMILE, OTHER = 7, 3
ON, OFF = np.full(COUNT, 0.5), np.full(COUNT, 0.35)
MARGIN = float(np.log(9))
USUAL = np.full(COUNT, -MARGIN)
"""Presence .1, so that one margin above it is the threshold, logit 0."""
MINUTE = 60.0

Array = NDArray[np.float32]


def new(**changes: float) -> PersonalBaseline:
    return PersonalBaseline(ON, OFF, USUAL, replace(BaselineConfig(), **changes))


def film(
    *parts: tuple[float, float],
    au: int = SMILE,
    others: float = 0.0,
    seed: int = 0,
    noise: float = 0.03,
) -> list[Array]:
    """Make presence per frame: parts of (seconds, level of one AU in margins over neutral)."""
    rng = np.random.default_rng(seed)
    frames = []
    for seconds, level in parts:
        for _ in range(round(seconds * FPS)):
            levels = others + rng.normal(0, noise, COUNT)
            levels[au] += level - others
            frames.append((1 / (1 + np.exp(-MARGIN * (levels - 1)))).astype(np.float32))
    return frames


def run(baseline: PersonalBaseline, frames: Sequence[Array], start_s: float = 0.0) -> Array:
    return np.array([baseline.update(start_s + i / FPS, f) for i, f in enumerate(frames)])


def active(adjusted: Array, au: int = SMILE) -> NDArray[np.bool_]:
    """Return in which frames an AU is active, with hysteresis."""
    gate = PresenceGate(ON, OFF)
    return np.array([gate.update(row)[au] for row in adjusted])


def level(baseline: PersonalBaseline, au: int = SMILE) -> float:
    """Return how far a rest level lies over that of faces in general, margins."""
    own = baseline.offsets[au] / MARGIN
    evidence = baseline.levels.seconds[au]
    known = evidence / (evidence + baseline.config.prior_s)
    return float(own + known**2 * (1 - baseline.config.known_rise))


# -- learning --------------------------------------------------------------------------------------


def test_the_first_frame_is_judged_as_the_network_gives_it() -> None:
    frames = film((1, 0.4))
    baseline = new()
    np.testing.assert_array_equal(baseline.update(0.0, frames[0]), frames[0])
    assert baseline.state == BaselineState.LEARNING
    assert (baseline.rest_s, baseline.prior) == (0.0, 1.0)


def test_the_weight_of_faces_in_general_fades_as_evidence_comes() -> None:
    baseline = new()
    shares, states = [], []
    for i, frame in enumerate(film((20, 0.0))):
        baseline.update(i / FPS, frame)
        shares.append(baseline.prior)
        states.append(baseline.state)
    assert shares[2 * FPS] == pytest.approx(0.5, abs=0.01)
    assert shares[-1] == pytest.approx(2 / 22, abs=0.01)
    assert all(a >= b for a, b in itertools.pairwise(shares))
    turn = states.index(BaselineState.ACTIVE)
    assert turn == pytest.approx(18 * FPS, abs=3)
    assert set(states[turn:]) == {BaselineState.ACTIVE}


@pytest.mark.parametrize("rest", [-0.8, -0.4, 0.0, 0.4, 0.8])
def test_the_rest_level_is_found_in_both_directions(rest: float) -> None:
    baseline = new()
    run(baseline, film((30, rest)))
    assert level(baseline) == pytest.approx(rest * 30 / 32, abs=0.06)
    assert level(baseline, OTHER) == pytest.approx(0.0, abs=0.05)


def test_a_raise_over_a_low_rest_level_is_found_that_no_common_threshold_finds() -> None:
    frames = film((20, -0.8), (2, 0.2))
    raw, adjusted = np.array(frames), run(new(), frames)
    assert not active(raw).any()
    assert active(adjusted)[-15:].all()
    assert not active(adjusted)[: 20 * FPS].any()


def test_a_face_that_rests_high_is_not_active_when_it_does_nothing() -> None:
    frames = film((4, 0.6), (1, 0.7), (20, 0.9), (20, 1.05))
    raw, adjusted = np.array(frames), run(new(), frames)
    assert active(raw)[-20 * FPS :].mean() > 0.9
    assert not active(adjusted).any()


def test_no_level_leaves_its_bounds() -> None:
    low = new()
    run(low, film((60, -4.0)))
    assert level(low) == pytest.approx(-30 / 32, abs=0.01)


def test_evidence_of_one_frame_is_short_however_late_the_next_comes() -> None:
    baseline = new()
    for i, frame in enumerate(film((1, 0.0))):
        baseline.update(i * 1.9, frame)
    assert baseline.rest_s == pytest.approx(9 * 0.5)


def test_poor_pictures_and_moving_aus_teach_nothing() -> None:
    baseline = new()
    for i, frame in enumerate(film((3, -0.5))):
        baseline.update(i / FPS, frame, quality=0.2)
    assert baseline.rest_s == 0.0
    run(baseline, film(*[(0.1, -1.2), (0.1, 0.3)] * 20), start_s=3)
    assert baseline.levels.seconds[SMILE] < 0.2
    assert baseline.levels.seconds[OTHER] > 3


def test_what_is_active_in_one_half_of_the_face_does_not_stop_the_other() -> None:
    upper = np.arange(COUNT) < 5  # OTHER is of the upper half, SMILE of the lower
    baseline = PersonalBaseline(ON, OFF, USUAL, upper=upper)
    run(baseline, film((10, 2.0), others=-0.5))  # talks all the time
    seconds = baseline.levels.seconds
    assert seconds[OTHER] == pytest.approx(9.9)
    assert seconds[SMILE] == seconds[8] == 0.0
    assert level(baseline, OTHER) == pytest.approx(-0.5 * 9.9 / 11.9, abs=0.05)


def test_what_another_au_lowers_is_not_rest() -> None:
    """Closed eyes lower AU5: opening them is no raise of the lids."""
    closed = film((10, 2.0), others=-1.0)
    baseline = new()
    run(baseline, closed)
    assert level(baseline, OTHER) == 0.0


def test_a_face_that_is_never_neutral_is_judged_as_the_network_gives_it() -> None:
    frames = film((60, 3.0))
    baseline = new()
    np.testing.assert_array_equal(run(baseline, frames), np.array(frames))
    assert baseline.state == BaselineState.LEARNING
    assert baseline.rest_s == 0.0
    assert baseline.richest is None


# -- the rise of a known face ----------------------------------------------------------------------


def with_rise(*margins: float) -> PersonalBaseline:
    """Return a baseline whose AUs have known rises, margins; the last holds for all others."""
    rise = np.full(COUNT, margins[-1])
    rise[: len(margins)] = margins
    return PersonalBaseline(ON, OFF, USUAL, rise=rise * MARGIN)


def test_each_au_of_a_known_face_asks_for_its_own_rise() -> None:
    baseline = with_rise(0.3, 0.7, np.nan)
    run(baseline, film((40, 0.0)))
    known = 30 / 32
    asked = 1 + baseline.offsets / MARGIN
    for au, rise in enumerate((0.3, 0.7, BaselineConfig().known_rise)):
        assert asked[au] == pytest.approx(1 - known**2 * (1 - rise), abs=0.03)


def test_a_face_that_nobody_knows_is_judged_by_the_common_threshold_whatever_the_rise() -> None:
    frame = film((0.1, 0.9))[0]
    np.testing.assert_array_equal(with_rise(0.3).update(0.0, frame), frame)


def test_a_small_raise_of_an_au_that_hardly_wanders_is_found() -> None:
    frames = film((20, 0.0), (2, 0.42))
    assert not active(run(new(), frames)).any()
    calm = run(with_rise(0.3), frames)
    assert active(calm)[-15:].all()
    assert not active(calm)[: 20 * FPS].any()


def test_a_known_rise_stays_in_its_range() -> None:
    low, high = BaselineConfig().rise_range
    np.testing.assert_allclose(with_rise(0.01, 5.0).rise[:2], [low * MARGIN, high * MARGIN])


@pytest.mark.parametrize("rise", [0.25, 0.5, 0.75])
def test_whatever_rises_by_a_margin_over_the_lowest_level_is_never_hidden(rise: float) -> None:
    baseline = with_rise(rise)
    run(baseline, film((20, 0.0)))
    creeping = film(*[(1, k / 60) for k in range(80)], (60, 0.9), (3, 1.1), seed=3)
    assert active(run(baseline, creeping, start_s=20))[-2 * FPS :].all()


def test_known_rises_must_fit_the_aus() -> None:
    with pytest.raises(ConfigError, match="2 known rises do not fit 10 AUs; give one per AU"):
        PersonalBaseline(ON, OFF, USUAL, rise=[0.5, 0.5])


# -- an expression does not become rest ------------------------------------------------------------


@pytest.mark.parametrize("minutes", [1, 5, 30])
@pytest.mark.parametrize("smile", [1.15, 1.5, 3.0])
def test_a_held_expression_loses_nothing(minutes: int, smile: float) -> None:
    baseline = new()
    run(baseline, film((20, 0.0)))
    before = baseline.offsets[SMILE]
    held = run(baseline, film((minutes * MINUTE, smile), seed=1), start_s=20)
    assert active(held)[2:].all()
    assert (baseline.offsets[SMILE] - before) / MARGIN < 0.04  # noise of the last frames at rest


@pytest.mark.parametrize("minutes", [1, 5, 30])
@pytest.mark.parametrize("aus", [(SMILE,), (0, 1, 2, SMILE)])
def test_an_expression_from_the_first_frame_on_that_is_clear_loses_nothing(
    minutes: int, aus: tuple[int, ...]
) -> None:
    """A patient in pain before the camera was switched on: 1.6 margins, .1 over what is weak."""
    frames = film((minutes * MINUTE, 0.0))
    for frame in frames:
        frame[list(aus)] = 1 / (1 + np.exp(-MARGIN * 0.6))
    np.testing.assert_array_equal(run(new(), frames)[:, list(aus)], np.array(frames)[:, list(aus)])


def test_a_weak_expression_from_the_first_frame_on_that_moves_much_loses_nothing() -> None:
    frames = film((5 * MINUTE, 0.0))
    for frame in frames:
        frame[[0, 1, 2, SMILE]] = 0.6
    np.testing.assert_array_equal(run(new(), frames)[:, SMILE], np.array(frames)[:, SMILE])


@pytest.mark.parametrize("minutes", [1, 5, 30])
def test_what_is_weak_and_alone_from_the_first_frame_on_is_slowly_taken_for_a_trait(
    minutes: int,
) -> None:
    """Nothing tells the two apart; it must be seen before it goes, and loses half a margin."""
    frames = film((minutes * MINUTE, 1.08))
    baseline = new()
    shown = active(run(baseline, frames))
    assert shown[: 20 * FPS].all()
    assert 0.4 < baseline.offsets[SMILE] / MARGIN <= 0.5
    strong = run(baseline, film((2, 1.6)), start_s=minutes * MINUTE)
    assert active(strong)[2:].all()


@pytest.mark.parametrize("minutes", [1, 5, 30])
def test_an_expression_that_comes_and_goes_loses_half_a_margin_at_most(minutes: int) -> None:
    """A pulsing expression falls below its threshold again and again, and must not creep up."""
    baseline = new()
    run(baseline, film((20, 0.0)))
    before = baseline.offsets[SMILE]
    pulses = [(1.0, 1.2), (1.0, 0.45)] * round(minutes * MINUTE / 2)
    held = run(baseline, film(*pulses, seed=2), start_s=20)
    assert (baseline.offsets[SMILE] - before) / MARGIN < 0.55
    assert active(held)[-2 * FPS - 5 : -FPS - 5].all()


def test_an_expression_that_creeps_in_shows_once_it_is_a_margin_over_rest() -> None:
    baseline = new()
    run(baseline, film((20, 0.0)))
    creeping = film(*[(1, k / 60) for k in range(80)], (5, 1.3), seed=3)
    assert active(run(baseline, creeping, start_s=20))[-5 * FPS :].all()


def test_a_smile_after_a_long_smile_is_not_held_down() -> None:
    adjusted = run(new(), film((10, 0.0), (60, 2.0), (0.5, 0.0), (1, 1.2)))
    assert active(adjusted)[-8:].all()


def test_a_level_that_was_too_high_falls_within_seconds() -> None:
    baseline = new()
    run(baseline, film((30, 0.8)))  # sad from the beginning, not enough to be active
    assert level(baseline) > 0.7
    run(baseline, film((15, 0.0)), start_s=30)
    assert level(baseline) < 0.1


@pytest.mark.parametrize("step", [0.4, -0.4])
def test_glasses_put_on_half_way_are_learned(step: float) -> None:
    """Within half a margin the new level is followed, and nothing is active for it."""
    baseline = new()
    run(baseline, film((20, 0.0)))
    adjusted = run(baseline, film((60, step), seed=4), start_s=20)
    assert not active(adjusted).any()
    assert level(baseline) == pytest.approx(step, abs=0.08)


def test_glasses_that_change_much_show_as_activity_and_not_in_silence() -> None:
    baseline = new()
    run(baseline, film((20, 0.0)))
    adjusted = run(baseline, film((60, 1.3), seed=4), start_s=20)
    assert active(adjusted)[2:].all()


# -- one person, and what is known of them ---------------------------------------------------------


@pytest.mark.parametrize("jump", [2.1, -0.5])
def test_a_long_gap_or_time_running_back_forgets_the_person(jump: float) -> None:
    frames = film((20, 0.6))
    baseline = new()
    run(baseline, frames)
    now = (len(frames) - 1) / FPS
    np.testing.assert_array_equal(baseline.update(now + jump, frames[0]), frames[0])
    assert baseline.state == BaselineState.LEARNING


def test_a_short_loss_is_survived_and_a_long_one_is_not() -> None:
    baseline = new()
    run(baseline, film((20, 0.6)))
    known = baseline.offsets
    baseline.skip(21.0)
    np.testing.assert_array_equal(baseline.offsets, known)
    baseline.skip(22.1)
    assert not baseline.offsets.any()


def test_two_people_before_one_camera_are_never_judged_by_each_other() -> None:
    baseline = new()
    for turn in range(6):
        frames = film((4, (-0.6, 0.6)[turn % 2]), seed=turn)
        baseline.reset()
        seen = run(baseline, frames, start_s=4 * turn)
        np.testing.assert_allclose(seen, run(new(), frames), atol=1e-3)


def test_the_levels_of_who_rested_longest_are_kept_when_they_are_forgotten() -> None:
    baseline = new()
    run(baseline, film((20, 0.5)))
    baseline.reset()
    run(baseline, film((3, -0.5)), start_s=40)
    best = baseline.richest
    assert best is not None
    assert best.level[SMILE] / MARGIN + 1 == pytest.approx(0.5, abs=0.06)
    assert best.seconds[OTHER] == pytest.approx(19.9)


def test_levels_that_are_known_hold_from_the_first_frame_on() -> None:
    first = new()
    run(first, film((30, 0.7)))
    again = new()
    again.begin(first.levels)
    np.testing.assert_allclose(again.offsets, first.offsets, atol=1e-4)
    run(again, film((0.2, 0.7)))
    assert again.state == BaselineState.ACTIVE


def test_new_evidence_outweighs_levels_that_hold_no_more() -> None:
    baseline = new()
    baseline.begin(RestLevels(USUAL + 0.8 * MARGIN, np.full(COUNT, 10.0)))
    run(baseline, film((60, 0.0)))
    assert level(baseline) == pytest.approx(0.8 * 10 / 42, abs=0.05)


@pytest.mark.parametrize(
    "rest",
    [
        RestLevels(USUAL[:9], np.full(9, 3.0)),
        RestLevels(np.where(np.arange(COUNT) == 2, np.nan, USUAL), np.full(COUNT, 3.0)),
        RestLevels(USUAL, np.full(COUNT, -1.0)),
    ],
    ids=["other AUs", "NaN", "negative time"],
)
def test_levels_that_cannot_be_are_refused(rest: RestLevels) -> None:
    with pytest.raises(ConfigError, match="rest levels"):
        new().begin(rest)


def test_a_span_that_is_said_to_be_neutral_gives_its_medians() -> None:
    frames = np.array(film((2, 1.7)))
    rest = rest_of_span(frames, np.ones(len(frames)), BaselineConfig())
    assert rest is not None
    assert rest.level[SMILE] / MARGIN + 1 == pytest.approx(1.7, abs=0.05)
    baseline = new()
    baseline.begin(rest)
    assert not active(run(baseline, film((60, 1.7), seed=5))).any()  # whatever the bounds are
    assert rest_of_span(frames, np.full(len(frames), 0.2), BaselineConfig()) is None
    assert rest_of_span(frames[:2], np.ones(2), BaselineConfig()) is None


# -- a file of rest levels -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return AUNetwork.load(device="cpu").card


def written(card: ModelCard) -> dict[str, object]:
    size = len(card.aus)
    return json.loads(write_rest(RestLevels(np.linspace(-4, 1, size), np.full(size, 9.5)), card))


def test_rest_levels_survive_a_file(card: ModelCard) -> None:
    rest = read_rest(json.dumps(written(card)), card)
    np.testing.assert_allclose(rest.level, np.linspace(-4, 1, len(card.aus)), atol=1e-4)
    np.testing.assert_array_equal(rest.seconds, np.full(len(card.aus), 9.5))


def test_rest_levels_of_another_network_are_refused(card: ModelCard) -> None:
    with pytest.raises(ConfigError, match=r"learned with .*delete the file"):
        read_rest(json.dumps(written(card)), replace(card, sha256="0" * 64))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null", '"-3"', "true", "-51"])
def test_a_level_that_is_no_number_is_refused_and_named(card: ModelCard, value: str) -> None:
    facts = written(card)
    facts["aus"]["12"]["logit"] = "HERE"  # type: ignore[index]
    text = json.dumps(facts).replace('"HERE"', value)
    with pytest.raises(ConfigError, match=r"AU12: logit .*learn it anew"):
        read_rest(text, card)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other"}', b"\xff\xfe\x00"])
def test_what_is_no_file_of_rest_levels_is_refused(card: ModelCard, text: str | bytes) -> None:
    with pytest.raises(ConfigError, match="rest levels"):
        read_rest(text, card)


def test_rest_levels_of_some_aus_are_refused(card: ModelCard) -> None:
    facts = written(card)
    del facts["aus"]["12"]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="not of the AUs"):
        read_rest(json.dumps(facts), card)


# -- a network's baseline --------------------------------------------------------------------------


def test_only_aus_that_can_be_relied_on_say_that_a_face_does_not_rest(card: ModelCard) -> None:
    usual = 1 / (1 + np.exp(-card.neutral_logits()))
    loud = np.repeat(usual[None], 2 * FPS, 0).astype(np.float32)
    loud[:, 0] = 0.999  # AU1
    hidden = dict.fromkeys(card.aus, "C")
    second = hidden | {2: "B"}
    for grades, seconds in (({}, 0.0), (hidden, 0.0), (second, 1.9)):
        baseline = PersonalBaseline.of_network(replace(card, grades=grades))
        run(baseline, list(loud))
        assert baseline.levels.seconds[card.aus.index(4)] == pytest.approx(seconds), grades
        assert baseline.levels.seconds[card.aus.index(12)] == pytest.approx(1.9)


def test_a_card_whose_threshold_lies_below_its_neutral_level_still_has_a_margin() -> None:
    baseline = PersonalBaseline([0.05], [0.02], [-2.0])
    assert baseline.margin[0] == baseline.config.least_margin


# -- the arithmetic --------------------------------------------------------------------------------


def test_the_same_frames_give_the_same_result_and_reset_is_new() -> None:
    frames = film((3, 0.3), (2, 2.0), (2, 0.3))
    baseline = new()
    once = run(baseline, frames)
    np.testing.assert_array_equal(once, run(new(), frames))
    baseline.reset()
    np.testing.assert_array_equal(once, run(baseline, frames))


def test_its_state_can_be_stored_midway() -> None:
    frames = film((8, 0.5))
    baseline = new()
    run(baseline, frames[:40])
    again = pickle.loads(pickle.dumps(baseline))
    rest = run(baseline, frames[40:], start_s=4)
    np.testing.assert_array_equal(rest, run(again, frames[40:], start_s=4))


LEARNT = new()
run(LEARNT, film((3, 0.7)))


@given(
    st.lists(st.floats(0, 1, width=32), min_size=COUNT, max_size=COUNT),
    st.integers(0, COUNT - 1),
    st.floats(0, 1, width=32),
    st.booleans(),
)
def test_adjusted_presence_stays_a_probability_and_rises_with_the_raw(
    values: list[float], which: int, other: float, learnt: bool
) -> None:
    presence = np.array(values, np.float32)
    start = LEARNT if learnt else new()
    adjusted = copy.deepcopy(start).update(3.0, presence)
    assert ((adjusted >= 0) & (adjusted <= 1)).all()
    more = presence.copy()
    more[which] = max(more[which], np.float32(other))
    assert (copy.deepcopy(start).update(3.0, more) >= adjusted).all()


@given(st.floats(0, 1, width=32), st.floats(-10, 10, width=32))
def test_an_offset_lowers_presence_or_raises_it_by_its_sign(presence: float, offset: float) -> None:
    p, b = np.array([presence], np.float32), np.array([offset], np.float32)
    (after,) = adjust_presence(p, b)
    assert (after <= p[0]) if offset > 0 else (after >= p[0])
    if offset == 0:
        assert after == p[0]


@given(
    st.floats(0, 1, width=32),
    st.floats(-10, 10, width=32),
    st.floats(0, 1, width=32),
)
def test_no_presence_below_what_is_needed_reaches_the_threshold(
    threshold: float, offset: float, share: float
) -> None:
    t, b = np.array([threshold], np.float32), np.array([offset], np.float32)
    needed = presence_for(t, b)
    below = np.minimum(np.nextafter(needed, np.float32(-1)), needed * np.float32(share))
    assert (adjust_presence(below[below >= 0], b[below >= 0]) < t[below >= 0]).all()


def test_what_is_needed_is_hardly_less_than_what_suffices() -> None:
    rng = np.random.default_rng(0)
    t = rng.uniform(0.1, 0.9, 2000).astype(np.float32)
    b = rng.uniform(-5, 5, 2000).astype(np.float32)
    b[:100] = 0
    needed = presence_for(t, b)
    assert (needed[:100] == t[:100]).all()
    enough = np.minimum(needed * np.float32(1 + 1e-5), np.float32(1))
    assert (adjust_presence(enough, b) >= t).all()


@given(st.floats(0, 5, width=32), st.floats(0, 1, width=32), st.floats(-10, 10, width=32))
def test_intensity_never_rises(intensity: float, presence: float, offset: float) -> None:
    p, b = np.array([presence], np.float32), np.array([offset], np.float32)
    before = np.array([intensity], np.float32)
    after = adjust_intensity(before, p, adjust_presence(p, b))
    assert 0 <= after[0] <= before[0]


def test_intensity_falls_in_the_proportion_of_presence() -> None:
    presence = np.array([0.8, 0.9, 0.2], np.float32)
    adjusted = np.array([0.2, 0.9, 0.6], np.float32)
    after = adjust_intensity(np.array([4.0, 3.0, 1.0], np.float32), presence, adjusted)
    np.testing.assert_allclose(after, [1.0, 3.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"prior_s": 0.0},
        {"quantile": 1.5},
        {"known_rise": -0.1},
        {"rise_range": (0.6, 0.5)},
        {"rise_range": (0.5, 1.5)},
        {"most_drift": 2.0},
        {"window_s": 0.0},
        {"steady": float("nan")},
    ],
)
def test_constants_that_cannot_work_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        new(**changes)


@pytest.mark.parametrize("span", [(2.0, 1.0), (-1.0, 1.0), (0.0, float("inf"))])
def test_a_neutral_span_that_cannot_be_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="neutral span"):
        PersonalBaseline(ON, OFF, USUAL, replace(BaselineConfig(), rest_from=span))


def test_neutral_levels_and_marks_must_fit_the_aus() -> None:
    with pytest.raises(ConfigError, match="9 neutral levels do not fit 10"):
        PersonalBaseline(ON, OFF, USUAL[:9])
    with pytest.raises(ConfigError, match="mark one at least"):
        PersonalBaseline(ON, OFF, USUAL, reliable=np.zeros(COUNT, bool))
    with pytest.raises(ConfigError, match="upper face"):
        PersonalBaseline(ON, OFF, USUAL, upper=np.zeros(3, bool))
