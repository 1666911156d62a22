"""Thresholds and grades from many people: who chooses, who judges, and by what rule."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.card import ModelCard

from tests.support.paths import BENCHMARKS

sys.path.append(str(BENCHMARKS))
real_clips: Any = importlib.import_module("real_clips")
au_grades: Any = importlib.import_module("au_grades")
au_metrics: Any = importlib.import_module("au_metrics")
calibrate_au: Any = importlib.import_module("calibrate_au")
material: Any = importlib.import_module("people_material")
predictions: Any = importlib.import_module("people_predictions")

AUS = (4, 12)
Share = au_grades.Share


@pytest.fixture(scope="module")
def card() -> ModelCard:
    """A card with the AUs 4 and 12, on at .5 and off at .35."""
    return dataclasses.replace(
        AUNetwork.load(device="cpu").card,
        aus=AUS,
        grades={4: "B", 12: "A"},
        on=dict.fromkeys(AUS, 0.5),
        off=dict.fromkeys(AUS, 0.35),
        neutral=dict.fromkeys(AUS, -2.0),
    )


def still(person: str, z: float, kind: str = "neutral") -> Any:
    """A still in which AU12 has this logit, and AU4 −9."""
    shown = material.Still(Path(f"{person}.png"), person, "set", kind)
    return predictions.PredictedStill(shown, np.array([-9.0, z]))


def clip(person: str, logits: Sequence[float], **known: Any) -> Any:
    """A clip, 25 frames/s, in which AU12 has these logits, and AU4 always −9."""
    z = np.asarray(logits, np.float64)
    empty: dict[str, Any] = {"events": (), "quiet": (), "covered": ()}
    facts = real_clips.ClipFacts(
        f"{person}.mp4", person, len(z), absent=(), reference={}, **{**empty, **known}
    )
    presence = 1 / (1 + np.exp(-np.stack([np.full_like(z, -9.0), z], axis=1)))
    said = au_metrics.ClipPrediction(presence, np.full_like(presence, np.nan), np.zeros(len(z)))
    return predictions.PredictedClip(
        material.JudgedClip(Path(facts.name), person, facts),
        said,
        np.arange(len(z)) / 25,
        np.ones(len(z)),
        np.zeros(len(z), bool),
    )


def judged(*items: Any) -> Any:
    clips = tuple(item for item in items if hasattr(item, "prediction"))
    stills = tuple(item for item in items if not hasattr(item, "prediction"))
    return predictions.Judged(clips, stills, {}, 0.0)


def rendered(level: float = -20.0) -> Any:
    """Rendered views whose AU12 is absent and lies at one level."""
    return calibrate_au.Rendered(np.full((100, 2), level), np.zeros((100, 2)))


def on_logit(card: ModelCard, au: int = 12) -> float:
    return float(np.log(card.on[au] / (1 - card.on[au])))


# -- thresholds ------------------------------------------------------------------------------------


def test_few_neutral_people_reach_a_threshold_and_their_median_is_rest(card: ModelCard) -> None:
    levels = np.linspace(-5, 1, 101)
    people = judged(*(still(f"p{n}", z) for n, z in enumerate(levels)))
    chosen = calibrate_au.choose(people, card, rendered())
    active = (levels >= on_logit(chosen)).mean()
    assert 0.02 <= active <= calibrate_au.FALSE_PEOPLE + 0.01
    assert chosen.neutral[12] == pytest.approx(-2)
    assert chosen.off[12] < chosen.on[12]


def test_rendered_faces_that_do_something_else_keep_a_threshold_up(card: ModelCard) -> None:
    people = judged(*(still(f"p{n}", -6) for n in range(40)))
    chosen = calibrate_au.choose(people, card, rendered(-1.0))
    assert on_logit(chosen) == pytest.approx(-1.0, abs=0.01)


def test_too_few_people_leave_the_card_as_it_is(card: ModelCard) -> None:
    few = judged(*(still(f"p{n}", 3.0) for n in range(5)))
    views = calibrate_au.Rendered(np.zeros((3, 2)), np.zeros((3, 2)))
    chosen = calibrate_au.choose(few, card, views)
    assert chosen.neutral == {4: -2.0, 12: -2.0}
    assert chosen.on[4] == pytest.approx(0.5)


def test_absent_frames_of_clips_raise_a_threshold_once_they_are_people_enough(
    card: ModelCard,
) -> None:
    neutral = [still(f"p{n}", -4.0) for n in range(40)]
    quiet = (real_clips.Span(0, 99, (12,), ""),)
    loud = [clip(f"c{n}", np.full(100, 2.0), quiet=quiet) for n in range(4)]
    without = on_logit(calibrate_au.choose(judged(*neutral), card, rendered()))
    one = on_logit(calibrate_au.choose(judged(*neutral, *loud[:1]), card, rendered()))
    four = on_logit(calibrate_au.choose(judged(*neutral, *loud), card, rendered()))
    assert one > 1.5 > without  # one of 41 people is less than 5 %, but all absent frames there are
    assert four == pytest.approx(one, abs=0.01)
    calm = [clip(f"d{n}", np.full(100, -5.0), quiet=quiet) for n in range(12)]
    few = on_logit(calibrate_au.choose(judged(*neutral, *loud[:1], *calm), card, rendered()))
    assert few == pytest.approx(without, abs=0.01)
    many = on_logit(calibrate_au.choose(judged(*neutral, *loud, *calm), card, rendered()))
    assert many == pytest.approx(one, abs=0.01)


def test_the_known_rise_is_what_few_absent_frames_reach_over_the_own_level(card: ModelCard) -> None:
    quiet = (real_clips.Span(0, 99, (12,), ""),)
    # Four frames in a hundred rise by 1.5, from levels that differ by 2; more than 5 % by .9.
    wander = np.concatenate([np.zeros(88), np.full(8, 0.9), np.full(4, 1.5)])
    loud = [clip(f"c{n}", wander - 3 + 2 * n, quiet=quiet) for n in range(2)]
    neutral = [still(f"p{n}", -4.0) for n in range(40)]
    chosen = calibrate_au.choose(judged(*neutral, *loud), card, rendered())
    assert 0.9 < chosen.rise[12] <= 1.5
    assert 4 not in chosen.rise
    alone = calibrate_au.choose(judged(*neutral, loud[0]), card, rendered())
    assert alone.rise == {}


def test_nobody_is_judged_by_a_threshold_in_which_they_took_part(card: ModelCard) -> None:
    people = [still(f"p{n}", -4.0 + 0.01 * n) for n in range(100)]
    choosing, others = judged(*people), judged(still("judged", 0.0))
    together, cards = calibrate_au.deal(choosing, others, card, rendered())
    assert cards["judged"] == together
    # The loudest person raises the threshold of everybody else, and not their own.
    loudest = on_logit(cards["p99"])
    assert loudest <= max(on_logit(cards[f"p{n}"]) for n in range(99))
    folds = {id(cards[f"p{n}"]) for n in range(100)}
    assert len(folds) == calibrate_au.FOLDS
    assert id(together) not in folds


def test_each_person_is_judged_by_their_own_thresholds(card: ModelCard) -> None:
    quiet = (real_clips.Span(0, 99, (12,), ""),)
    people = judged(
        clip("a", np.full(100, 0.5), quiet=quiet),
        clip("b", np.full(100, 0.5), quiet=quiet),
        still("a", 0.5),
        still("b", 0.5),
    )
    loose = calibrate_au.with_levels(card, np.full(2, -1.0), np.full(2, -3.0))
    strict = calibrate_au.with_levels(card, np.full(2, 2.0), np.full(2, -3.0))
    smile = calibrate_au.judge(people, {"a": loose, "b": strict}, AUS)[AUS.index(12)]
    assert smile.neutral.value == 0.5
    assert smile.neutral.people == 2
    assert smile.absent.value == pytest.approx(0.5, abs=0.02)
    assert smile.found is None


def test_lips_that_are_parted_say_nothing_of_the_lips(card: ModelCard) -> None:
    people = judged(*(still(f"p{n}", -4.0) for n in range(60)))
    loud = [
        dataclasses.replace(s, logits=np.array([-9.0, 5.0 if n < 6 else -4.0]))
        for n, s in enumerate(people.stills)
    ]
    people = dataclasses.replace(people, stills=tuple(loud))
    parted = {s.still.path for s in loud[:6]}
    known = calibrate_au.without_unknown(people, parted, AUS, unknown=(12,))
    assert on_logit(calibrate_au.choose(people, card, rendered())) > 4
    assert on_logit(calibrate_au.choose(known, card, rendered())) < -3
    cards = dict.fromkeys((s.person for s in loud), card)
    neutral = calibrate_au.judge(known, cards, AUS)[AUS.index(12)].neutral
    assert (neutral.value, neutral.people) == (0.0, 54)


# -- grades ----------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "found": Share(1.0, 3),
    "own": Share(0.97, 2),
    "neutral": Share(0.04, 100),
    "absent": Share(0.02, 10),
    "r": Share(0.9, 3),
    "auc": 0.95,
    "relevance": 2.5,
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "A"),
        ({"r": None}, "A"),
        ({"found": None}, "A"),
        ({"own": None}, "A"),
        ({"found": Share(1.0, 1), "r": None}, "B"),
        ({"found": Share(0.6, 3), "r": None}, "B"),
        ({"found": Share(0.4, 3)}, "B"),
        ({"found": Share(0.2, 3)}, "C"),
        ({"r": Share(0.5, 3)}, "B"),
        ({"r": Share(0.1, 3)}, "C"),
        ({"own": Share(0.85, 3)}, "B"),
        ({"neutral": Share(0.09, 100)}, "B"),
        ({"neutral": Share(0.12, 100)}, "C"),
        ({"neutral": None}, "C"),
        ({"absent": Share(0.12, 10)}, "B"),
        ({"absent": Share(0.2, 10)}, "C"),
        ({"relevance": 1.9}, "B"),
        ({"relevance": 0.9}, "C"),
        ({"relevance": None}, "C"),
        # Renders decide where fewer than two people have sure events, and only there.
        ({"auc": 0.82, "found": Share(1.0, 1)}, "B"),
        ({"auc": None, "found": None}, "C"),
        ({"auc": 0.7}, "A"),
        ({"found": None, "r": None, "own": None}, "C"),
        ({"found": None, "r": None, "own": None, "marked": Share(0.8, 2)}, "B"),
        ({"found": None, "r": None, "own": None, "marked": Share(0.6, 2)}, "C"),
        ({"found": None, "smile_found": Share(0.95, 40), "r": None}, "A"),
    ],
)
def test_a_grade_follows_the_rule(change: dict[str, Any], expected: str) -> None:
    assert au_grades.grade(au_grades.Evidence(**{**GOOD, **change})) == expected


def test_the_rule_is_said_with_the_numbers_it_has() -> None:
    for number in ("70 %", "0.65", "0.9", "7 %", "10 %", "15 %", ">= 2", "0.85"):
        assert number in au_grades.RULE
