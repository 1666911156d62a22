"""Thresholds of an AU network from many people: a proposal, which changes no card.

``on`` of an AU is the lowest logit at which at most :data:`MOST_FALSE` of neutral people, and of
the absent frames (mean over people), are active; ``off`` lies ``people_figures.HYSTERESIS`` below.
Nothing else is asked of it: what is found follows.

Once with one scale for everybody, and once with each person's own rest level taken off first. On a
still a person's rest level is what the still shows, so neutral portraits say nothing of the second.

Nobody is judged by a threshold in which they took part: people are dealt to folds, and each fold is
judged by what the others ask for, or one half by what the other half asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from au_metrics import activity
from facestage.core.network.card import ModelCard
from intervals import wilson
from numpy.typing import NDArray
from people_figures import (
    HYSTERESIS,
    card_logits,
    events_found,
    false_activity,
    logits_by_person,
    rest_levels,
    smile_pairs,
)
from people_material import NEUTRAL, fold_of
from people_predictions import Judged, PredictedClip

__all__ = [
    "FOLDS",
    "MOST_FALSE",
    "Group",
    "choose_on",
    "cross_validated",
    "judge_thresholds",
    "proposal",
    "quiet_still_logits",
    "without_rest",
]

MOST_FALSE = 0.05
"""Share of neutral people, and of absent frames, that may be active."""
FOLDS = 5
"""Groups people are dealt to: each is judged by what the others ask for."""
FEWEST_PEOPLE = 20
"""Neutral people below which portraits ask for nothing."""
FEWEST_CLIPS = 2
"""People with absent frames below which clips ask for nothing."""
_LOWEST, _HIGHEST, _STEP = -12.0, 12.0, 0.05
"""Thresholds tried, logits."""

Logits = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """People to choose thresholds by, or to judge them by.

    Attributes:
        clips: one clip per person.
        neutral: person → ``(A,)`` logits of the neutral portrait.
        smile: person → the same, neutral and smiling.
        aus: AUs of the columns.
    """

    clips: tuple[PredictedClip, ...]
    neutral: Mapping[str, Logits]
    smile: Mapping[str, tuple[Logits, Logits]]
    aus: tuple[int, ...]

    @classmethod
    def of(cls, judged: Judged, aus: Sequence[int]) -> Group:
        """Gather what thresholds need of everything a network said."""
        neutral = logits_by_person(judged.stills, NEUTRAL)
        return cls(judged.clips, neutral, smile_pairs(judged.stills), tuple(aus))

    def people(self) -> set[str]:
        """Return the names of all of them."""
        return {clip.person for clip in self.clips} | set(self.neutral) | set(self.smile)

    def of_people(self, people: Iterable[str]) -> Group:
        """Return what belongs to some of them."""
        chosen = set(people)
        return replace(
            self,
            clips=tuple(clip for clip in self.clips if clip.person in chosen),
            neutral={name: z for name, z in self.neutral.items() if name in chosen},
            smile={name: pair for name, pair in self.smile.items() if name in chosen},
        )


def without_rest(group: Group) -> Group:
    """Take each person's rest level off.

    In clips it is the median over the absent frames of an AU; where an AU has none, its presence is
    unknown (NaN) and its events are left out. Of a smile the neutral portrait is taken off. Neutral
    portraits are left out.
    """
    levels = rest_levels(group.clips, group.aus)
    clips = tuple(
        _risen(clip, level, group.aus) for clip, level in zip(group.clips, levels, strict=True)
    )
    rise = {name: (below - below, above - below) for name, (below, above) in group.smile.items()}
    return replace(group, clips=clips, neutral={}, smile=rise)


def _risen(clip: PredictedClip, level: Logits, aus: Sequence[int]) -> PredictedClip:
    prediction = replace(clip.prediction, presence=_presence(clip.logits - level))
    return _known(replace(clip, prediction=prediction), np.isfinite(level), aus)


def _known(clip: PredictedClip, known: NDArray[np.bool_], aus: Sequence[int]) -> PredictedClip:
    """Leave out of a clip the presence and the events of AUs that cannot be judged in it."""
    facts = clip.clip.facts
    judged = {au for au, is_known in zip(aus, known, strict=True) if is_known}
    events = tuple(event for event in facts.events if event.au in judged)
    presence = np.where(known, clip.prediction.presence, np.nan)
    return replace(
        clip,
        clip=replace(clip.clip, facts=replace(facts, events=events)),
        prediction=replace(clip.prediction, presence=presence),
    )


def _presence(logits: Logits) -> Logits:
    return 1 / (1 + np.exp(-logits))


def _activity(clip: PredictedClip, on: Logits, off: Logits) -> NDArray[np.bool_]:
    """Return ``(N, A)`` bool; an AU without a threshold, or without a logit, is never active."""
    ends = [np.where(np.isnan(end), 1.0, _presence(end)) for end in (on, off)]
    presence = clip.prediction.presence
    # A whole row is unknown where there is no usable face; an AU alone where it has no rest level.
    seen = np.isfinite(presence).any(axis=1)
    filled = np.where(seen[:, None], np.nan_to_num(presence), np.nan)
    known = replace(clip.prediction, presence=filled)
    active = activity(known, ends[0].astype(np.float32), ends[1].astype(np.float32))
    return active & ~np.isnan(on)


def choose_on(group: Group, most: float = MOST_FALSE) -> Logits:
    """Return the ``(A,)`` logits of ``on`` that a group of people asks for, NaN of nobody."""
    portraits = quiet_still_logits(group, most)
    return np.fmax(portraits, _quiet_clip_logits(group, most))


def quiet_still_logits(group: Group, most: float = MOST_FALSE) -> Logits:
    """Return the ``(A,)`` logits that at most a share of neutral people reach; NaN of too few."""
    if len(group.neutral) < FEWEST_PEOPLE:
        return np.full(len(group.aus), np.nan)
    ordered = -np.sort(-np.stack(list(group.neutral.values())), axis=0)
    allowed = math.floor(most * len(ordered) + 1e-9)
    # Between the last person who may be active and the first who may not.
    return (ordered[allowed - 1] + ordered[allowed]) / 2 if allowed else ordered[0] + _STEP


def _quiet_clip_logits(group: Group, most: float) -> Logits:
    """Return the lowest ``(A,)`` logits tried with little enough false activity in the clips."""
    size = len(group.aus)
    people = _absent_people(group)
    low = np.zeros(size, np.intp)
    high = np.full(size, round((_HIGHEST - _LOWEST) / _STEP), np.intp)
    # The higher the threshold the less is active: halve the range of all AUs at once.
    while (low < high).any():
        middle = (low + high) // 2
        quiet = _false_means(group, _LOWEST + _STEP * middle) <= most
        high = np.where(quiet, middle, high)
        low = np.where(quiet, low, middle + 1)
    return np.where(people >= FEWEST_CLIPS, _LOWEST + _STEP * high, np.nan)


def _absent_people(group: Group) -> NDArray[np.intp]:
    rested = np.isfinite(rest_levels(group.clips, group.aus))
    return rested.sum(axis=0) if len(rested) else np.zeros(len(group.aus), np.intp)


def _false_means(group: Group, on: Logits) -> Logits:
    active = [_activity(clip, on, on - HYSTERESIS) for clip in group.clips]
    entries = false_activity(group.clips, active, group.aus)
    return np.array([entry.get("mean", 0.0) for entry in entries])


def cross_validated(group: Group, folds: int = FOLDS) -> dict[str, Logits]:
    """Return person → the ``(A,)`` logits of ``on`` that people of the other folds ask for."""
    # Clips are few, so they are dealt apart: each fold gets its share of them.
    of_clips = {clip.person for clip in group.clips}
    fold = fold_of(of_clips, folds) | fold_of(group.people() - of_clips, folds)
    chosen = {}
    for number in range(folds):
        others = choose_on(group.of_people(p for p, own in fold.items() if own != number))
        chosen |= {person: others for person, own in fold.items() if own == number}
    return chosen


def judge_thresholds(
    group: Group, on: Mapping[str, Logits], off: Mapping[str, Logits] | None = None
) -> list[dict[str, Any]]:
    """Judge each person by thresholds of their own; where there is none (NaN), not at all.

    Args:
        group: the people.
        on: person → ``(A,)`` logits of ``on``.
        off: the same of ``off``; by default :data:`people_figures.HYSTERESIS` below.

    Returns:
        For each AU ``found`` and ``false`` on clips, and where there are portraits ``neutral``
        (active share, people, interval) and ``smile`` (active share in smiles, likewise).
    """
    lower = {name: z - HYSTERESIS for name, z in on.items()} if off is None else off
    clips = [_known(clip, np.isfinite(on[clip.person]), group.aus) for clip in group.clips]
    active = [_activity(clip, on[clip.person], lower[clip.person]) for clip in clips]
    found = events_found(clips, active, group.aus)
    false = false_activity(clips, active, group.aus)
    result = []
    for column in range(len(group.aus)):
        entry: dict[str, Any] = {"found": found[column], "false": false[column]}
        smiles = {name: smile for name, (_, smile) in group.smile.items()}
        for kind, logits in (("neutral", group.neutral), ("smile", smiles)):
            asked = [name for name in logits if np.isfinite(on[name][column])]
            hits = [bool(logits[name][column] >= on[name][column]) for name in asked]
            if hits:
                share = float(np.mean(hits))
                people = len(hits)
                entry[kind] = {
                    "active": share,
                    "people": people,
                    "interval": wilson(share, people),
                }
        result.append(entry)
    return result


def proposal(judged: Judged, card: ModelCard, asking: Judged | None = None) -> dict[str, Any]:
    """Propose thresholds and say what they would change.

    Args:
        judged: people to judge by.
        card: AUs and present thresholds.
        asking: people to choose the thresholds by; by default those judged, cross-validated.

    Returns:
        ``proposed`` and ``own`` (with the rest level taken off), each ``on`` (logits that all who
        were asked want together) and ``figures``; ``card``: the figures by the card.
    """
    group = Group.of(judged, card.aus)
    asked = group if asking is None else Group.of(asking, card.aus)
    on, off = card_logits(card)
    of_card = judge_thresholds(
        group, dict.fromkeys(group.people(), on), dict.fromkeys(group.people(), off)
    )
    result: dict[str, Any] = {"card": {"on": on, "figures": of_card}}
    for name, ask, judge in (
        ("proposed", asked, group),
        ("own", without_rest(asked), without_rest(group)),
    ):
        together = choose_on(ask)
        apart = cross_validated(judge) if asking is None else {}
        each = {person: apart.get(person, together) for person in judge.people()}
        result[name] = {"on": together, "figures": judge_thresholds(judge, each)}
    return result
