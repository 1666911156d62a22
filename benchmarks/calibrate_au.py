"""Choose thresholds and grades of an AU network by rule: a fragment for its model card.

    python benchmarks/calibrate_au.py --synthetic DIR [--weights FILE] [--cache DIR] [--out JSON]

The rest level of faces in general is the median over neutral people. ``on`` of an AU is the lowest
logit at which

- at most :data:`FALSE_PEOPLE` of the neutral people are active, by their single picture;
- at most :data:`FALSE_ACTIVE` of all people are active where the AU is surely absent: those of the
  pictures together with those of the clips, a person of a clip by the share of its absent frames,
  judged live, by the rise over the rest level; and at most :data:`FALSE_FRAMES` of the absent
  frames alone (mean over people). The clips alone are too few to ask for 5 %;
- at most :data:`CONFUSED` of rendered faces that do anything but this AU are active.

The *known rise* of an AU is the lowest rise over the own rest level, known from the marks, that at
most ``people_thresholds.MOST_FALSE`` of the absent frames reach (mean over people). It is left out
where fewer than ``people_thresholds.FEWEST_CLIPS`` people tell.

Events and reference curves play no part in it: they judge. Only people of the choosing half who
were not trained with choose (``training.photos.halves``). Figures are those of everybody who was
not trained with, each by thresholds in which they took no part: people of the reporting half by
those of the choosing half, and people of the choosing half by those of the other folds. Grades
follow from the figures by ``au_grades.RULE``.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from au_evidence import (
    CLEAR,
    MARKED,
    SEED,
    held_out_views,
    predict_views,
    relevance_figures,
    rendered_aus,
    synthetic_figures,
)
from au_grades import RULE, Evidence, Share, grade
from au_metrics import JAW, activity, correlations, predict_clips
from au_options import network_options, run_command
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.card import ModelCard
from intervals import wilson
from numpy.typing import NDArray
from people_figures import (
    HYSTERESIS,
    clip_figures,
    events_found,
    false_activity,
    logits_by_person,
    marked_figures,
    smile_figures,
)
from people_halves import CHOOSE, parted_lips
from people_material import NEUTRAL, SMILE, fold_of, half_of, lent_to_training, load_material
from people_predictions import Judged, logit, predict_people, tracked_people
from people_rest import LIVE, by_rise
from people_thresholds import Group, choose_on, without_rest
from real_clips import load_facts, load_real_crops, make_shared_detector, shared_folder

__all__ = [
    "CONFUSED",
    "FALSE_ACTIVE",
    "FALSE_FRAMES",
    "FALSE_PEOPLE",
    "Rendered",
    "choose",
    "judge",
    "with_levels",
    "without_unknown",
]

FALSE_PEOPLE = 0.03
"""Share of the choosing neutral people in whom an AU may be active. Stricter than the 5 % that are
promised, for the next people are others."""
FALSE_ACTIVE = 0.05
"""Share of all choosing people, of pictures and clips, that may be active."""
FALSE_FRAMES = 0.10
"""Share of the absent frames of the choosing clips that may be active, mean over people."""
CONFUSED = 0.15
"""Share of rendered faces without the AU, whatever else they do, in which it may be active."""
FOLDS = 5
"""Groups the choosing people are dealt to: each is judged by what the others ask for."""
FEWEST = 20
"""Neutral people, or rendered views, below which no level is taken from them."""
PARTED = (25, 26)
"""AUs that a neutral face with parted lips may show."""
SMILING = (6, 12)
"""AUs that smiles speak for; of others that rise with a smile it is a leak."""
_STEP, _STEPS = 0.1, 64
"""By how much, and how often at most, a threshold is raised for absent frames, logits."""

Logits = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """Presence logits ``(B, A)`` of rendered views and the labels ``(B, A)``, NaN where unknown."""

    logits: Logits
    intensity: NDArray[np.floating]

    def confusing(self) -> Logits:
        """Return ``(A,)`` the level that :data:`CONFUSED` of views without the AU exceed."""
        return self._levels(self.intensity < MARKED / 2, 1 - CONFUSED)

    def detected(self, on: Logits) -> NDArray[np.float64]:
        """Return ``(A,)`` the share of views with the AU plain to see that reach a threshold."""
        clear = self.intensity >= CLEAR
        with np.errstate(invalid="ignore"):
            return ((self.logits >= on) & clear).sum(0) / clear.sum(0)

    def _levels(self, chosen: NDArray[np.bool_], quantile: float) -> Logits:
        levels = np.full(self.logits.shape[1], np.nan)
        for column, rows in enumerate(chosen.T):
            if rows.sum() >= FEWEST:
                levels[column] = np.quantile(self.logits[rows, column], quantile)
        return levels


def choose(people: Judged, card: ModelCard, rendered: Rendered) -> ModelCard:
    """Choose rest levels and thresholds.

    Args:
        people: who may choose.
        card: of the network; its thresholds play no part.
        rendered: rendered views of held-out identities.

    Returns:
        The card with the thresholds, neutral levels and known rises that were chosen. Where too few
        people or views ask for anything, thresholds and levels of the card stay.
    """
    neutral = list(logits_by_person(people.stills, NEUTRAL).values())
    rest, asked = card.neutral_logits().astype(np.float64), rendered.confusing()
    if len(neutral) >= FEWEST:
        of_people = np.stack(neutral)
        rest = np.nanmedian(of_people, axis=0)
        asked = np.fmax(asked, np.nanquantile(of_people, 1 - FALSE_PEOPLE, axis=0))
    on = np.where(np.isfinite(asked), asked, logit(card.thresholds()[0]))
    rises = choose_on(without_rest(Group.of(people, card.aus)))
    known = {au: float(rise) for au, rise in zip(card.aus, rises, strict=True) if rise > 0}
    card = dataclasses.replace(card, rise=known)
    return _raised(people, with_levels(card, on, rest), on, rest)


def with_levels(card: ModelCard, on: Logits, rest: Logits) -> ModelCard:
    """Return a card with other thresholds and neutral levels, ``(A,)`` logits each."""

    def per_au(values: Logits) -> dict[int, float]:
        return {au: float(value) for au, value in zip(card.aus, values, strict=True)}

    return dataclasses.replace(
        card,
        on=per_au(_presence(on)),
        off=per_au(_presence(on - HYSTERESIS)),
        neutral=per_au(rest),
    )


def _raised(people: Judged, card: ModelCard, on: Logits, rest: Logits) -> ModelCard:
    """Raise each threshold until few enough people are active, in clips judged as live."""
    pictures = list(logits_by_person(people.stills, NEUTRAL).values())
    neutral = np.stack(pictures) if pictures else np.zeros((0, len(on)))
    low, high = np.zeros(len(on), np.intp), np.full(len(on), _STEPS)
    # The higher the threshold the less is active: halve the range of all AUs at once.
    while (low < high).any():
        middle = (low + high) // 2
        raised = on + _STEP * middle
        entries = false_activity(*_live(people, with_levels(card, raised, rest)), card.aus)
        persons = np.array([entry["people"] for entry in entries]) + np.isfinite(neutral).sum(0)
        shares = np.array([entry["people"] * entry.get("mean", 0.0) for entry in entries])
        quiet = (neutral >= raised).sum(0) + shares <= FALSE_ACTIVE * persons
        quiet &= np.array([entry.get("mean", 0.0) <= FALSE_FRAMES for entry in entries])
        high = np.where(quiet, middle, high)
        low = np.where(quiet, low, middle + 1)
    return with_levels(card, on + _STEP * high, rest)


def _live(people: Judged, card: ModelCard) -> tuple[list[Any], list[NDArray[np.bool_]]]:
    """Return the clips as live analysis judges them, and what is active in each."""
    clips = list(by_rise(people, card, LIVE).clips)
    return clips, [activity(clip.prediction, *card.thresholds()) for clip in clips]


def judge(people: Judged, cards: Mapping[str, ModelCard], aus: Sequence[int]) -> list[Evidence]:
    """Gather what people say of each AU, each judged by thresholds of their own.

    Args:
        people: everybody who was not trained with.
        cards: person → card with thresholds in which the person took no part.
        aus: AUs of the columns.
    """
    clips, active = [], []
    for clip in people.clips:
        alone = replace(people, clips=(clip,), stills=())
        of_person, on = _live(alone, cards[clip.person])
        clips += of_person
        active += on
    any_card = next(iter(cards.values()))
    found, false = events_found(clips, active, aus), false_activity(clips, active, aus)
    raw = clip_figures(people.clips, any_card)
    level = np.zeros(len(aus))
    marked = marked_figures(people.stills, aus, level)
    smiles = smile_figures(people.stills, level)
    shares = {kind: _active_share(people, cards, kind) for kind in (NEUTRAL, SMILE)}
    evidence = []
    for column, au in enumerate(aus):
        sure = found[column] if found[column].get("marks") == "sure" else None
        smile = smiles[column] if au in SMILING else {}
        evidence.append(
            Evidence(
                found=Share.of(sure, "share"),
                own=Share.of(raw[column].get("own")),
                marked=Share.of(marked[column].get("auc")),
                smile=Share.of(smile.get("auc")),
                smile_found=shares[SMILE][column] if au in SMILING else None,
                neutral=shares[NEUTRAL][column],
                absent=Share.of(false[column], "mean"),
            )
        )
    return evidence


def _active_share(people: Judged, cards: Mapping[str, ModelCard], kind: str) -> list[Share | None]:
    """Return for each AU the share of people in whose single picture of a kind it is active."""
    logits = logits_by_person(people.stills, kind)
    if not logits:
        size = len(next(iter(cards.values())).aus)
        return [None] * size
    on = {name: logit(cards[name].thresholds()[0]) for name in logits}
    active = np.stack([logits[name] >= on[name] for name in logits]).sum(axis=0)
    counts = np.isfinite(np.stack(list(logits.values()))).sum(axis=0)
    shares = []
    for share, count in zip(active / np.maximum(counts, 1), counts.tolist(), strict=True):
        known = Share(float(share), count, wilson(float(share), count)) if count else None
        shares.append(known)
    return shares


def without_unknown(
    people: Judged, parted: Collection[Path], aus: Sequence[int], unknown: Sequence[int] = PARTED
) -> Judged:
    """Take out what neutral pictures with parted lips say of the lips: they may well show it.

    Args:
        people: everybody.
        parted: pictures with parted lips.
        aus: AUs of the columns.
        unknown: AUs of which such a picture says nothing; their logits become NaN.
    """
    columns = [aus.index(au) for au in unknown if au in aus]
    stills = []
    for still in people.stills:
        logits = still.logits
        if still.still.path in parted:
            logits = logits.copy()
            logits[columns] = np.nan
        stills.append(replace(still, logits=logits))
    return replace(people, stills=tuple(stills))


def deal(
    choosing: Judged, others: Judged, card: ModelCard, rendered: Rendered
) -> tuple[ModelCard, dict[str, ModelCard]]:
    """Choose thresholds by all who may, and for each of them by the others.

    Args:
        choosing: people who may choose.
        others: people who are only judged.
        card: of the network.
        rendered: rendered views.

    Returns:
        The card with what all who choose want together, and person → card to be judged by.
    """
    together = choose(choosing, card, rendered)
    cards = dict.fromkeys(_people(others), together)
    # Clips are few, so they are dealt apart: each fold gets its share of them.
    of_clips = {clip.person for clip in choosing.clips}
    fold = fold_of(of_clips, FOLDS) | fold_of(_people(choosing) - of_clips, FOLDS)
    for number in range(FOLDS):
        own = {name for name, of in fold.items() if of == number}
        apart = choose(_of(choosing, _people(choosing) - own), card, rendered)
        cards |= dict.fromkeys(own, apart)
    return together, cards


def _people(judged: Judged) -> set[str]:
    return {item.person for item in (*judged.clips, *judged.stills)}


def _of(judged: Judged, people: set[str]) -> Judged:
    return replace(
        judged,
        clips=tuple(clip for clip in judged.clips if clip.person in people),
        stills=tuple(still for still in judged.stills if still.person in people),
    )


def _presence(logits: Logits) -> Logits:
    return 1 / (1 + np.exp(-logits))


def _rendered(network: AUNetwork, folder: Path, views: int) -> Rendered:
    batch = held_out_views(folder, views, SEED)
    columns = [rendered_aus().index(au) for au in network.card.aus]
    logits = logit(predict_views(network, batch.image).astype(np.float64))
    return Rendered(logits, batch.intensity[:, columns])


def run(options: argparse.Namespace) -> None:
    """Calibrate, print, write."""
    folder = shared_folder(options.shared)
    network = AUNetwork.load(options.weights, device=options.device)
    aus = network.card.aus
    detector = make_shared_detector("yunet", folder)
    material = load_material(folder)
    everybody = predict_people(material, detector, network, options.weights, options.cache)
    neutral = [still.path for still in material.stills if still.kind == NEUTRAL]
    everybody = without_unknown(everybody, parted_lips(neutral), aus)
    untrained = _of(everybody, _people(everybody) - lent_to_training(material))
    choosing = _of(untrained, {p for p in _people(untrained) if half_of(p) == CHOOSE})
    others = _of(untrained, _people(untrained) - _people(choosing))
    rendered = _rendered(network, options.synthetic, options.views)
    card, cards = deal(choosing, others, network.card, rendered)
    evidence = _completed(
        judge(untrained, cards, aus), network, card, rendered, options, folder, untrained
    )
    fragment = _fragment(card, evidence, choosing, others)
    _print(card, evidence)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(fragment, indent=1) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


def _completed(
    evidence: Sequence[Evidence],
    network: AUNetwork,
    card: ModelCard,
    rendered: Rendered,
    options: argparse.Namespace,
    folder: Path,
    people: Judged,
) -> list[Evidence]:
    """Add curves, relevance and rendered figures, by the thresholds of the card."""
    aus, (on, off) = card.aus, card.thresholds()
    detector = make_shared_detector("yunet", folder)
    facts = load_facts(folder)
    tracked = load_real_crops(folder, facts, detector, network, options.cache)
    curves = correlations(facts, predict_clips(network, tracked), aus)
    clips = list(by_rise(people, card, LIVE).clips)
    relevance = relevance_figures(
        network,
        [replace(clip.clip.facts, person=clip.clip.facts.name) for clip in clips],
        tracked_people(people, detector, network, options.weights, options.cache),
        [clip.prediction for clip in clips],
        on=on,
        off=off,
    )
    synthetic = synthetic_figures(network, options.synthetic, options.views, on=on)
    detected = rendered.detected(logit(on))
    result = []
    for column, (au, known) in enumerate(zip(aus, evidence, strict=True)):
        name = str(au)
        # The jaw curve judges the jaw: AU26 by the sum of AU26 and AU27, AU27 by nothing.
        curve = curves.get(JAW if au == 26 and JAW in curves else name, {})
        r = curve.get("r_persons")
        result.append(
            replace(
                known,
                r=None if r is None else Share(r, curve["persons"]),
                auc=synthetic["auc"].get(name),
                detected=_known(detected[column]),
                relevance=_known(relevance.get(name, {}).get("ratio")),
                relevance_rendered=_known(synthetic["relevance"].get(name)),
            )
        )
    return result


def _known(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _fragment(
    card: ModelCard, evidence: Sequence[Evidence], choosing: Judged, others: Judged
) -> dict[str, Any]:
    """Return what the model card takes over, JSON-ready."""
    rest = card.neutral_logits()
    return {
        "thresholds": {
            "on": 0.5,
            "off": 0.35,
            "per_au": {
                str(au): {"on": _significant(card.on[au]), "off": _significant(card.off[au])}
                for au in card.aus
            },
        },
        "neutral": {
            str(au): round(float(level), 3) for au, level in zip(card.aus, rest, strict=True)
        },
        "rise": {str(au): round(rise, 3) for au, rise in card.rise.items()},
        "grades": {str(au): grade(e) for au, e in zip(card.aus, evidence, strict=True)},
        "evaluation": {
            str(au): _rounded(asdict(e)) for au, e in zip(card.aus, evidence, strict=True)
        }
        | {
            "grade_rule": RULE,
            "people": {"choosing": len(_people(choosing)), "judged_only": len(_people(others))},
        },
    }


def _significant(presence: float) -> float:
    """Round a probability to three digits that count: small ones have some left, too."""
    return float(f"{presence:.3g}")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, tuple) else value


def _print(card: ModelCard, evidence: Sequence[Evidence]) -> None:
    print(
        f"{'AU':>4} grade    on   off    auc det>=B  {'found':>9} {'own auc':>9} {'marked':>9} "
        f"{'smile':>9} {'in smiles':>9} {'r':>9} {'neutral':>10} {'absent':>9}  region/rendered"
    )
    for au, e in zip(card.aus, evidence, strict=True):
        people = " ".join(
            f"{_show(share):>{width}}"
            for share, width in (
                (e.found, 9),
                (e.own, 9),
                (e.marked, 9),
                (e.smile, 9),
                (e.smile_found, 9),
                (e.r, 9),
                (e.neutral, 10),
                (e.absent, 9),
            )
        )
        print(
            f"{au:>4}   {grade(e)}   {card.on[au]:.3f} {card.off[au]:.3f}  {_number(e.auc)}   "
            f"{_number(e.detected)}  {people}  {_number(e.relevance)}/"
            f"{_number(e.relevance_rendered)}"
        )
    print("(people); found: by default settings, over the rest level; marked: by eye, one scale")


def _show(share: Share | None) -> str:
    return "-" if share is None else f"{share.value:.2f}({share.people})"


def _number(value: float | None) -> str:
    return "   -" if value is None else f"{value:4.2f}"


def main() -> None:
    """Run from the command line."""
    parser = network_options(__doc__, "calibration.json")
    parser.add_argument("--synthetic", type=Path, required=True, help="folder of rendered shards")
    run_command(parser, run, "calibrate_au")


if __name__ == "__main__":
    main()
