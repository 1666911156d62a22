"""Figures of a network on many people; pure functions on predictions.

On clips, per AU (``present``: frames of its marked events; ``absent``: frames of spans in which it
is surely not there):

- *inside*: AUC of present against absent frames within a clip, median over clips;
- *across*: the same over all clips, with one scale for everybody; every pair of people counts the
  same, so that a long clip does not speak for all;
- *own*: the same after each person's own rest level (median logit over the absent frames) is taken
  off. What it gains over *across* is what a personal rest level can gain;
- *found*: share of events in which the AU is active in half of the frames or more, with hysteresis;
- *false*: active share of the absent frames, mean over people, and the worst of them.

Likely marks speak only for AUs without any sure one, and the entry says so.

On stills: the share of neutral people in whom an AU is active, and where their logits rest against
the level that the card names; smile against neutral of the same people; marked photographs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from au_metrics import activity, quiet_frames
from facestage.core.network.card import ModelCard
from intervals import Interval, PairWins, bootstrap_values, wilson
from numpy.typing import NDArray
from people_material import MARKED, NEUTRAL, SMILE
from people_predictions import PredictedClip, PredictedStill, logit
from real_clips import ClipFacts, Event

__all__ = [
    "HYSTERESIS",
    "Flags",
    "card_logits",
    "clip_figures",
    "event_found",
    "event_marks",
    "events_found",
    "false_activity",
    "logits_by_person",
    "marked_figures",
    "neutral_figures",
    "rest_levels",
    "smile_figures",
    "smile_pairs",
]

Flags = NDArray[np.bool_]
Figure = dict[str, Any]

HYSTERESIS = 0.62
"""How far ``off`` lies below ``on``, logits: .5 and .35."""
FEWEST_FRAMES = 5
"""Frames on each side below which a clip has no AUC, and no rest level, of its own."""


def event_marks(facts: Sequence[ClipFacts], au: int) -> tuple[str, list[tuple[Event, ...]]]:
    """Return the events of an AU in each clip: the sure ones, or the likely ones if all are.

    Args:
        facts: the clips, all of them: whether there is a sure mark is asked of all at once.
        au: the AU.

    Returns:
        ``sure`` or ``likely``, and the events of each clip.
    """
    of_clip = [tuple(event for event in clip.events if event.au == au) for clip in facts]
    sure = [tuple(event for event in events if event.sure) for events in of_clip]
    return ("sure", sure) if any(sure) or not any(of_clip) else ("likely", of_clip)


def _shown_frames(facts: ClipFacts, events: Sequence[Event], au: int) -> Flags:
    """Return ``(N,)`` bool: frames of the events in which nothing lies over the AU's place."""
    shown = np.zeros(facts.frames, bool)
    for event in events:
        shown[event.first : event.last + 1] = True
    return shown & ~facts.mask(facts.covered, au)


def rest_levels(clips: Sequence[PredictedClip], aus: Sequence[int]) -> NDArray[np.float64]:
    """Return ``(clips, A)`` each clip's median logit over the absent frames of an AU.

    NaN where there are fewer than :data:`FEWEST_FRAMES`.
    """
    levels = np.full((len(clips), len(aus)), np.nan)
    for row, clip in enumerate(clips):
        logits = clip.logits
        for column, au in enumerate(aus):
            values = logits[quiet_frames(clip.clip.facts, au), column]
            values = values[np.isfinite(values)]
            if len(values) >= FEWEST_FRAMES:
                levels[row, column] = np.median(values)
    return levels


def event_found(active: Flags, facts: ClipFacts, event: Event) -> bool | None:
    """Tell whether the AU is active in half of the event's frames or more.

    A frame without a usable face counts as not active; one in which something lies over the AU's
    place does not count.

    Args:
        active: ``(N,)`` bool, of the AU.
        facts: of the clip.
        event: one of its events.

    Returns:
        None where no frame is left.
    """
    frames = _shown_frames(facts, [event], event.au)
    return bool(active[frames].mean() >= 0.5) if frames.any() else None


def events_found(
    clips: Sequence[PredictedClip], active: Sequence[Flags], aus: Sequence[int]
) -> list[Figure]:
    """Return for each AU: ``events``, how many were ``found``, and the share with its interval.

    Args:
        clips: the clips.
        active: ``(N, A)`` bool of each.
        aus: AUs of the columns.
    """
    facts = [clip.clip.facts for clip in clips]
    result = []
    for column, au in enumerate(aus):
        marks, events = event_marks(facts, au)
        by_person: dict[str, list[bool]] = {}
        for clip, of_clip, on in zip(clips, events, active, strict=True):
            for event in of_clip:
                found = event_found(on[:, column], clip.clip.facts, event)
                if found is not None:
                    by_person.setdefault(clip.person, []).append(found)
        every = [found for of_person in by_person.values() for found in of_person]
        entry: Figure = {"events": len(every), "found": sum(every), "people": len(by_person)}
        if every:
            entry["marks"] = marks
            entry["share"] = float(np.mean(every))
            entry["interval"] = wilson(entry["share"], len(by_person))
        result.append(entry)
    return result


def false_activity(
    clips: Sequence[PredictedClip], active: Sequence[Flags], aus: Sequence[int]
) -> list[Figure]:
    """Return for each AU the active share of absent frames: mean over people, and the worst.

    Frames without a usable face are left out: they are inactive by construction.
    """
    result = []
    for column, au in enumerate(aus):
        shares = []
        for clip, on in zip(clips, active, strict=True):
            frames = quiet_frames(clip.clip.facts, au)
            frames &= np.isfinite(clip.prediction.presence[:, column])
            if frames.any():
                shares.append(float(on[frames, column].mean()))
        entry: Figure = {"people": len(shares)}
        if shares:
            entry["mean"], entry["worst"] = float(np.mean(shares)), max(shares)
            entry["interval"] = wilson(entry["mean"], len(shares))
        result.append(entry)
    return result


def clip_figures(clips: Sequence[PredictedClip], card: ModelCard) -> list[Figure]:
    """Return the figures of each AU on clips, by the thresholds of the card.

    Args:
        clips: one clip per person.
        card: AUs and thresholds.
    """
    facts = [clip.clip.facts for clip in clips]
    logits = [clip.logits for clip in clips]
    levels = rest_levels(clips, card.aus)
    active = [activity(clip.prediction, *card.thresholds()) for clip in clips]
    found = events_found(clips, active, card.aus)
    false = false_activity(clips, active, card.aus)
    result = []
    for column, au in enumerate(card.aus):
        _, events = event_marks(facts, au)
        present, absent = [], []
        for fact, of_clip, z in zip(facts, events, logits, strict=True):
            for side, frames in (
                (present, _shown_frames(fact, of_clip, au)),
                (absent, quiet_frames(fact, au)),
            ):
                values = z[frames, column]
                side.append(values[np.isfinite(values)])
        result.append(
            {
                "people_present": sum(len(part) > 0 for part in present),
                "people_absent": sum(len(part) > 0 for part in absent),
                **_areas(present, absent, levels[:, column]),
                "found": found[column],
                "false": false[column],
            }
        )
    return result


def _areas(
    present: Sequence[NDArray[np.float64]],
    absent: Sequence[NDArray[np.float64]],
    levels: NDArray[np.float64],
) -> Figure:
    """Return the three areas of one AU with their intervals, as far as there are any."""
    areas: Figure = {}
    wins = PairWins.of(present, absent)
    enough = (wins.present >= FEWEST_FRAMES) & (wins.absent >= FEWEST_FRAMES)
    inside = wins.within()[enough]
    if len(inside):
        areas["inside"] = _figure(
            float(np.median(inside)), len(inside), bootstrap_values(inside.tolist(), np.median)
        )
    if math.isfinite(wins.auc()):
        areas["across"] = _figure(wins.auc(), int((wins.present > 0).sum()), wins.interval())
    rested = np.flatnonzero(np.isfinite(levels))
    own = PairWins.of(
        [present[i] - levels[i] for i in rested], [absent[i] - levels[i] for i in rested]
    )
    if math.isfinite(own.auc()):
        areas["own"] = _figure(own.auc(), int((own.present > 0).sum()), own.interval())
    return areas


def _figure(value: float, people: int, interval: Interval | None) -> Figure:
    return {"value": value, "people": people, "interval": interval}


def _mean_by_person(
    stills: Sequence[PredictedStill], values: Sequence[NDArray[Any]]
) -> dict[str, NDArray[np.float64]]:
    by_person: dict[str, list[NDArray[Any]]] = {}
    for still, row in zip(stills, values, strict=True):
        by_person.setdefault(still.person, []).append(row)
    return {person: np.mean(rows, axis=0) for person, rows in by_person.items()}


def logits_by_person(stills: Sequence[PredictedStill], kind: str) -> dict[str, NDArray[np.float64]]:
    """Return person → logits ``(A,)``, the mean over the person's stills of one kind."""
    chosen = [still for still in stills if still.still.kind == kind]
    return _mean_by_person(chosen, [still.logits for still in chosen])


def neutral_figures(
    stills: Sequence[PredictedStill], on: NDArray[np.floating], rest: NDArray[np.floating]
) -> list[Figure]:
    """Return for each AU how often it is active in neutral people, and where it rests.

    Several pictures of a person count as one, their mean. ``sets`` gives the share of the pictures
    of each set: a light, a camera and an age say as much as the people do.

    Args:
        stills: of any kind; the neutral ones are taken.
        on: ``(A,)`` logits from which an AU is active.
        rest: ``(A,)`` logits at which the card says neutral faces rest.
    """
    neutral = [still for still in stills if still.still.kind == NEUTRAL]
    if not neutral:
        return [{"people": 0} for _ in on]
    logits = [still.logits for still in neutral]
    active = np.stack(list(_mean_by_person(neutral, [z >= on for z in logits]).values()))
    levels = np.stack(list(logits_by_person(stills, NEUTRAL).values()))
    people = len(levels)
    sets = {
        source: [s for s in neutral if s.still.source == source] for source in _sources(neutral)
    }
    result = []
    for column in range(len(on)):
        share = float(active[:, column].mean())
        raised = levels[:, column] - float(rest[column])
        result.append(
            {
                "people": people,
                "active": share,
                "interval": wilson(share, people),
                "rest": float(np.median(levels[:, column])),
                "spread": float(levels[:, column].std()),
                "above_card": float(np.median(raised)),
                "above_card_interval": bootstrap_values(raised.tolist(), np.median),
                "sets": {
                    source: float(np.mean([still.logits[column] >= on[column] for still in chosen]))
                    for source, chosen in sets.items()
                },
            }
        )
    return result


def _sources(stills: Sequence[PredictedStill]) -> list[str]:
    return sorted({still.still.source for still in stills})


def smile_pairs(
    stills: Sequence[PredictedStill],
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return person → logits ``(A,)`` neutral and smiling, of those who are seen as both."""
    neutral, smile = logits_by_person(stills, NEUTRAL), logits_by_person(stills, SMILE)
    return {person: (neutral[person], smile[person]) for person in neutral if person in smile}


def smile_figures(stills: Sequence[PredictedStill], on: NDArray[np.floating]) -> list[Figure]:
    """Return for each AU what a smile changes in the same people.

    ``found``: active in the smile; ``false``: active in the neutral picture; ``auc``: smiles
    against neutral pictures, one scale for everybody; ``own``: share of people in whom the smile is
    higher than their own neutral picture; ``rise``: median change of the logit.

    Args:
        stills: of any kind; people seen neutral and smiling are taken.
        on: ``(A,)`` logits from which an AU is active.
    """
    pairs = smile_pairs(stills)
    if not pairs:
        return [{"people": 0} for _ in on]
    neutral, smile = (np.stack(side) for side in zip(*pairs.values(), strict=True))
    people = len(pairs)
    result = []
    for column in range(len(on)):
        below, above = neutral[:, column], smile[:, column]
        wins = PairWins.of(above[:, None], below[:, None])
        entry: Figure = {"people": people, "auc": _figure(wins.auc(), people, wins.interval())}
        for name, values in (
            ("found", above >= on[column]),
            ("false", below >= on[column]),
            ("own", above > below),
        ):
            share = float(values.mean())
            entry[name] = _figure(share, people, wilson(share, people))
        rise = above - below
        interval = bootstrap_values(rise.tolist(), np.median)
        entry["rise"] = _figure(float(np.median(rise)), people, interval)
        result.append(entry)
    return result


def marked_figures(
    stills: Sequence[PredictedStill], aus: Sequence[int], on: NDArray[np.floating]
) -> list[Figure]:
    """Return for each AU how photographs marked with it compare with the others.

    A photograph whose mark does not name an AU is taken to lack it, which a mark by eye does not
    quite say. So ``found`` counts marked ones only, and ``false`` those marked as neutral.

    Args:
        stills: of any kind; the marked ones are taken.
        aus: AUs of the columns.
        on: ``(A,)`` logits from which an AU is active.
    """
    marked = [still for still in stills if still.still.kind == MARKED]
    people = sorted({still.person for still in marked})
    result = []
    for column, au in enumerate(aus):
        values: dict[str, tuple[list[float], list[float]]] = {p: ([], []) for p in people}
        neutral = []
        for still in marked:
            if au in still.still.unknown:
                continue
            value = float(still.logits[column])
            values[still.person][0 if au in still.still.aus else 1].append(value)
            if not still.still.aus:
                neutral.append(value)
        present, absent = ([np.array(values[p][side]) for p in people] for side in (0, 1))
        shown = np.concatenate([*present, np.zeros(0)])
        entry: Figure = {"pictures": len(shown), "found": int((shown >= on[column]).sum())}
        entry["people"] = sum(len(part) > 0 for part in present)
        if entry["people"]:
            entry["interval"] = wilson(entry["found"] / len(shown), entry["people"])
        entry["neutral_pictures"] = len(neutral)
        entry["neutral_active"] = int((np.array(neutral) >= on[column]).sum())
        wins = PairWins.of(present, absent)
        if math.isfinite(wins.auc()):
            entry["auc"] = _figure(wins.auc(), entry["people"], wins.interval())
        result.append(entry)
    return result


def card_logits(card: ModelCard) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``(A,)`` logits of the card's ``on`` and ``off``."""
    on, off = card.thresholds()
    return logit(on), logit(off)
