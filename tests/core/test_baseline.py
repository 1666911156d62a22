"""The personal baseline: it takes traits off, keeps expressions, and never acts in silence."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from facestage.core.baseline import (
    PersonalBaseline,
    adjust_intensity,
    adjust_presence,
    same_face,
    whole_sequence,
)
from facestage.core.config import BaselineConfig
from facestage.core.errors import ConfigError
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import BaselineState
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

FPS = 30
COUNT = 10  # AUs
TRAIT, SMILE = 3, 7  # one that this face fires at rest, one that it uses
ON, OFF = np.full(COUNT, 0.5), np.full(COUNT, 0.35)
USUAL = np.full(COUNT, np.log(0.1 / 0.9))

Array = NDArray[np.float32]


def new(**changes: float) -> PersonalBaseline:
    return PersonalBaseline(ON, OFF, USUAL, replace(BaselineConfig(), **changes))


def sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def film(
    *parts: tuple[float, float], trait: float = 0.8, rest: float = -3.0, seed: int = 0
) -> list[Array]:
    """Make presence per frame: parts of (seconds, logit of the smile), with a trait throughout."""
    rng = np.random.default_rng(seed)
    frames = []
    for seconds, smile in parts:
        for _ in range(round(seconds * FPS)):
            logits = rest + rng.normal(0, 0.1, COUNT)
            logits[TRAIT] = trait + rng.normal(0, 0.1)
            logits[SMILE] = smile + rng.normal(0, 0.1)
            frames.append((1 / (1 + np.exp(-logits))).astype(np.float32))
    return frames


def run(baseline: PersonalBaseline, frames: Sequence[Array], start_s: float = 0.0) -> Array:
    return np.array([baseline.update(start_s + i / FPS, f) for i, f in enumerate(frames)])


def test_a_trait_is_taken_off_after_a_neutral_phase_and_the_rest_is_left_alone() -> None:
    frames = film((5, -3.0))
    baseline = new()
    adjusted = run(baseline, frames)
    raw = np.array(frames)
    assert raw[:, TRAIT].min() > 0.5  # the network alone has it active all the time
    first = int(np.argmax(adjusted[:, TRAIT] != raw[:, TRAIT]))
    assert first == FPS + 1  # frames 0 to 30 span the neutral second
    np.testing.assert_array_equal(adjusted[:first], raw[:first])
    assert adjusted[first:, TRAIT].max() < 0.35
    others = [a for a in range(COUNT) if a != TRAIT]
    np.testing.assert_array_equal(adjusted[:, others], raw[:, others])
    assert baseline.state == BaselineState.ACTIVE


def test_an_expression_on_top_of_the_trait_still_shows() -> None:
    frames = film((3, -3.0))
    strong = film((1, -3.0), trait=4.0)
    adjusted = run(new(), frames + strong)
    assert adjusted[-FPS:, TRAIT].min() > 0.5


@pytest.mark.parametrize("smile", [0.3, 1.0, 4.0])
def test_a_held_smile_stays_active_to_its_end(smile: float) -> None:
    """Of a weak smile the cap alone would leave nothing: an active AU must not learn."""
    adjusted = run(new(), film((3, -3.0), (60, smile)))
    assert adjusted[3 * FPS :, SMILE].min() > 0.35
    assert adjusted[-1, SMILE] == pytest.approx(sigmoid(smile), abs=0.1)


def test_a_smile_after_a_long_smile_is_not_held_down() -> None:
    adjusted = run(new(), film((3, -3.0), (60, 2.0), (0.5, -3.0), (1, 1.0)))
    assert adjusted[-FPS:, SMILE].min() > 0.5


def test_no_more_than_the_cap_is_subtracted() -> None:
    frames = film((4, -3.0), trait=1.6)
    baseline = new(cap=1.0)
    adjusted = run(baseline, frames)
    assert baseline.offsets.max() == 1.0
    lost = np.log(frames[-1] / (1 - frames[-1])) - np.log(adjusted[-1] / (1 - adjusted[-1]))
    assert lost.max() == pytest.approx(1.0, abs=1e-4)


def test_an_offset_that_was_too_high_falls_at_once_and_rises_slowly() -> None:
    baseline = new()
    run(baseline, film((2, -3.0), trait=0.8))
    assert baseline.offsets[TRAIT] == pytest.approx(2.0)
    run(baseline, film((6, -3.0), trait=-1.6), start_s=2)  # the frown it began with is gone
    low = float(baseline.offsets[TRAIT])
    assert low == pytest.approx(0.5, abs=0.1)
    run(baseline, film((12, -3.0), trait=-0.2), start_s=8)
    most = low + 12 * baseline.config.rise_per_s
    assert low + 0.3 < baseline.offsets[TRAIT] <= most + 1e-5 < 1.9


@pytest.mark.parametrize(
    "frames",
    [
        film((0.9, -3.0)),  # too short
        film(*[(0.2, -3.0), (0.2, 1.0)] * 10),  # never steady
        film((5, -3.0), rest=-0.3),  # most AUs are above off
        film((5, 4.5)),  # an open smile from the first frame on
    ],
    ids=["short", "restless", "not quiet", "smiling"],
)
def test_without_a_neutral_phase_nothing_changes(frames: list[Array]) -> None:
    baseline = new()
    np.testing.assert_array_equal(run(baseline, frames), np.array(frames))
    assert baseline.state == BaselineState.LEARNING
    assert not baseline.ready
    assert not baseline.offsets.any()


def test_a_neutral_phase_may_come_later() -> None:
    baseline = new()
    run(baseline, film((4, 4.5), (2, -3.0)))
    assert baseline.state == BaselineState.ACTIVE
    assert baseline.offsets[SMILE] == 0  # what was shown before the phase is not part of it


def test_only_reliable_aus_decide_whether_the_face_rests() -> None:
    frames = film((4, 4.5))  # an open smile all along
    reliable = np.ones(COUNT, bool)
    reliable[SMILE] = False
    baseline = PersonalBaseline(ON, OFF, USUAL, reliable=reliable)
    run(baseline, frames)
    assert baseline.ready
    assert baseline.offsets[TRAIT] > 1.9
    assert baseline.offsets[SMILE] == baseline.config.cap  # learned all the same
    with pytest.raises(ConfigError, match="mark one at least"):
        PersonalBaseline(ON, OFF, USUAL, reliable=np.zeros(COUNT, bool))


def test_a_network_without_shown_aus_is_judged_by_all_of_them() -> None:
    card = AUNetwork.load(device="cpu").card
    number = len(card.aus)
    usual = 1 / (1 + np.exp(-card.neutral_logits()))
    rest = np.repeat(usual[None], 2 * FPS, 0).astype(np.float32)
    hidden = dict.fromkeys(card.aus, "C")
    loud = rest.copy()
    loud[:, 0] = 0.999
    for grades, ready in (({}, False), (hidden, False), (hidden | {card.aus[1]: "B"}, True)):
        baseline = PersonalBaseline.of_network(replace(card, grades=grades))
        assert baseline.neutral.shape == (number,)
        run(baseline, list(loud))
        assert baseline.ready is ready, grades
        quiet = PersonalBaseline.of_network(replace(card, grades=grades))
        run(quiet, list(rest))
        assert quiet.ready


def test_poor_pictures_teach_nothing() -> None:
    baseline = new()
    for i, frame in enumerate(film((3, -3.0))):
        baseline.update(i / FPS, frame, quality=0.2)
    assert not baseline.ready


def test_the_same_frames_give_the_same_result_and_reset_is_new() -> None:
    frames = film((3, -3.0), (2, 2.0), (2, -3.0))
    baseline = new()
    once = run(baseline, frames)
    np.testing.assert_array_equal(once, run(new(), frames))
    baseline.reset()
    np.testing.assert_array_equal(once, run(baseline, frames))


def test_its_state_can_be_stored_midway() -> None:
    frames = film((4, -3.0))
    baseline = new()
    run(baseline, frames[:60])
    again = pickle.loads(pickle.dumps(baseline))
    rest = run(baseline, frames[60:], start_s=2)
    np.testing.assert_array_equal(rest, run(again, frames[60:], start_s=2))


@pytest.mark.parametrize("jump", [2.1, -0.5])
def test_a_long_gap_or_time_running_back_forgets_the_person(jump: float) -> None:
    frames = film((3, -3.0))
    baseline = new()
    run(baseline, frames)
    now = (len(frames) - 1) / FPS
    np.testing.assert_array_equal(baseline.update(now + jump, frames[0]), frames[0])
    assert baseline.state == BaselineState.LEARNING


def test_a_short_loss_is_survived_and_a_long_one_is_not() -> None:
    baseline = new()
    run(baseline, film((3, -3.0)))
    baseline.skip(4.0)
    assert baseline.ready
    baseline.skip(5.1)
    assert not baseline.ready


LEARNT = new()
run(LEARNT, film((3, -3.0)))


@given(
    st.lists(st.floats(0, 1, width=32), min_size=COUNT, max_size=COUNT),
    st.integers(0, COUNT - 1),
    st.floats(0, 1, width=32),
    st.booleans(),
)
def test_adjusted_presence_is_never_above_and_rises_with_the_raw(
    values: list[float], which: int, other: float, learnt: bool
) -> None:
    presence = np.array(values, np.float32)
    start = LEARNT if learnt else new()
    adjusted = copy.deepcopy(start).update(3.0, presence)
    assert (adjusted <= presence).all()
    assert (adjusted >= 0).all()
    more = presence.copy()
    more[which] = max(more[which], np.float32(other))
    assert (copy.deepcopy(start).update(3.0, more) >= adjusted).all()


@given(st.floats(0, 5, width=32), st.floats(0, 1, width=32), st.floats(0, 10, width=32))
def test_intensity_never_rises(intensity: float, presence: float, offset: float) -> None:
    p, b = np.array([presence], np.float32), np.array([offset], np.float32)
    before = np.array([intensity], np.float32)
    after = adjust_intensity(before, p, adjust_presence(p, b))
    assert 0 <= after[0] <= before[0]


def test_intensity_falls_in_the_proportion_of_presence() -> None:
    presence, adjusted = np.array([0.8, 0.9], np.float32), np.array([0.2, 0.9], np.float32)
    after = adjust_intensity(np.array([4.0, 3.0], np.float32), presence, adjusted)
    np.testing.assert_allclose(after, [1.0, 3.0], rtol=1e-6)


def test_a_recording_is_adjusted_from_its_first_frame_and_then_as_live() -> None:
    frames = film((2, 2.0), (3, -3.0))
    times = [i / FPS for i in range(len(frames))]
    live = run(new(), frames)
    whole, states = whole_sequence(new(), times, frames, [1.0] * len(frames), [False] * len(frames))
    assert set(states) == {BaselineState.ACTIVE}
    offline = np.array(whole)
    learnt = int(np.argmax(live[:, TRAIT] != np.array(frames)[:, TRAIT]))
    assert learnt > 2 * FPS
    np.testing.assert_array_equal(offline[learnt:], live[learnt:])
    assert offline[:, TRAIT].max() < 0.35
    assert offline[: 2 * FPS, SMILE].min() > 0.5  # the smile before the phase stays


def test_in_a_recording_nobody_gets_the_baseline_of_another_person() -> None:
    first, second = film((0.5, -3.0)), film((3, -3.0))
    frames: list[Array | None] = [*first, None, *second]
    times = [i / FPS for i in range(len(frames))]
    fresh = [i == len(first) + 1 for i in range(len(frames))]
    adjusted, states = whole_sequence(new(), times, frames, [1.0] * len(frames), fresh)
    assert set(states[: len(first) + 1]) == {BaselineState.LEARNING}
    assert set(states[len(first) + 1 :]) == {BaselineState.ACTIVE}
    assert adjusted[len(first)] is None
    for before, after in zip(first, adjusted, strict=False):
        assert after is not None
        np.testing.assert_array_equal(before, after)


def test_crops_of_one_face_agree_and_of_two_do_not() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.integers(0, 256, (2, 96, 96), dtype=np.uint8)
    brighter = np.clip(one.astype(int) // 2 + 90, 0, 255).astype(np.uint8)
    assert same_face(one, brighter, 0.9)
    assert not same_face(one, other, 0.6)
    assert not same_face(one, np.zeros_like(one), 0.6)


@pytest.mark.parametrize(
    "changes",
    [
        {"cap": 0.0},
        {"quantile": 1.5},
        {"quiet_share": -0.1},
        {"rise_per_s": -1.0},
        {"neutral_frames": 1},
        {"window_s": 0.5},
        {"steady": float("nan")},
    ],
)
def test_constants_that_cannot_work_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        new(**changes)


def test_neutral_levels_must_fit_the_aus() -> None:
    with pytest.raises(ConfigError, match="9 neutral levels do not fit 10"):
        PersonalBaseline(ON, OFF, USUAL[:9])
