"""Choose thresholds and grades of an AU network by rule: a fragment for its model card.

    python benchmarks/calibrate_au.py --synthetic DIR [--weights FILE] [--cache DIR] [--out JSON]

Thresholds. On rendered held-out views each AU gets the logit that separates best FACS intensity B
and more from absence (Youden's J; of equally good ones the highest), but not below what keeps
:data:`FALSE_ACTIVE` of the neutral views active. On real faces each person gets the logit that does
the same in the frames in which the AU cannot be. The person who needs most draws the rendered one
towards itself with the weight n / (n + 1) of n persons, within bounds: not so far down that more
than :data:`MOST_FALSE` of the rendered neutral views are active, nor so far up that fewer than
:data:`LEAST_FOUND` of the clear rendered ones are found. Events and reference curves play no part:
they judge.

Grades, by :func:`grade`. Real figures in it are found by leaving each person out of the thresholds
it is judged by, so that no AU is praised for a threshold fitted to the same face. AU1, 2 and 4
have no reference to follow (``real_clips.UNRELIABLE_CURVES``): marked events speak for them.

References:
    Youden, *Index for rating diagnostic tests*, Cancer 3(1), 1950.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from au_metrics import (
    JAW,
    ClipPrediction,
    activity,
    correlations,
    false_activity,
    found_events,
    predict_clips,
    quiet_frames,
)
from au_options import network_options, run_command
from facestage.core.network.au_network import AUNetwork
from numpy.typing import NDArray
from real_clips import (
    ClipFacts,
    load_facts,
    load_real_crops,
    make_shared_detector,
    shared_folder,
)

__all__ = ["FALSE_ACTIVE", "Evidence", "combine", "grade", "quiet_logit", "separating_logit"]

FALSE_ACTIVE = 0.05
"""Share of frames without the AU in which it may be active."""
HYSTERESIS = 0.62
"""How far ``off`` lies below ``on``, logits: .5 and .35."""
MARGIN = 0.3
"""Kept above the quiet level of real faces, logits: the next face is another one."""
MOST_FALSE = 0.15
"""Share of rendered neutral views that may be active where real faces ask for a lower threshold:
rendered people differ more at rest, and are pictured worse, than most people before a camera."""
LEAST_FOUND = 0.7
"""Share of rendered views with the AU plain to see that are found however calm real faces are."""
FLAT = 0.02
"""Differences of Youden's J that do not count: where many thresholds separate equally well, the
highest is taken, because faces without the AU are commoner before a camera than among renders."""
LOWER, RAISE = 1.0, 2.0
"""Farthest that real faces may draw a threshold down or up, logits."""
FEWEST = 20
"""Views or frames below which no level is taken from them."""

RULE = (
    "A: follows the reference (r >= .65) or finds the marked events (>= 70 %) on two persons or "
    "more, neither of them contradicting (r < .6, found < 50 %), false active <= 10 % on each of "
    "two persons or more, relevance in its region >= 2 on real faces, rendered AUC >= .85. "
    "B: rendered AUC >= .8, some support by real faces (r >= .2 or found >= 30 %) and contradicted "
    "by neither, false active <= 10 % in the median person, and on each with the thresholds of the "
    "card, relevance in its region >= 1.3; or all of A but the false activity. "
    "C: all others. But for those of the card real figures leave the judged person out "
    "of the thresholds."
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a grade rests on; None where nothing could judge.

    Attributes:
        auc: on rendered views of held-out identities.
        detected: share of rendered views at B or more with presence above ``on``.
        r: median over persons of the correlation with the reference curve; None of AU1, 2 and 4.
        r_persons: their number.
        found: share of the sure events found.
        found_persons: persons with such events.
        false_active: worst person's share of frames active where the AU cannot be.
        false_median: the same of the median person.
        false_card: worst person's with the thresholds of the card, found with that person.
        false_persons: persons with such frames.
        relevance: ratio on real faces, see :func:`au_evidence.region_ratio`.
        relevance_rendered: the same on rendered ones.
    """

    auc: float | None = None
    detected: float | None = None
    r: float | None = None
    r_persons: int = 0
    found: float | None = None
    found_persons: int = 0
    false_active: float | None = None
    false_median: float | None = None
    false_card: float | None = None
    false_persons: int = 0
    relevance: float | None = None
    relevance_rendered: float | None = None


def grade(evidence: Evidence) -> str:
    """Return A, B or C by :data:`RULE`.

    An AU that no real clip can judge gets C: nothing speaks for showing it. A figure that is
    missing helps nobody: it fails every test that asks for it.
    """
    e = evidence

    def contradicted(r: float, found: float) -> bool:
        return (e.r is not None and e.r < r) or (e.found is not None and e.found < found)

    follows = e.r is not None and e.r >= 0.65 and e.r_persons >= 2
    finds = e.found is not None and e.found >= 0.7 and e.found_persons >= 2

    def calm(*shares: float | None) -> bool:
        return all(share is not None and share <= 0.1 for share in shares)

    auc = -1.0 if e.auc is None else e.auc
    if (
        (follows or finds)
        and not contradicted(0.6, 0.5)
        and (e.relevance or 0) >= 2
        and auc >= 0.85
    ):
        return "A" if calm(e.false_active) and e.false_persons >= 2 else "B"
    supported = (e.r is not None or e.found is not None) and not contradicted(0.2, 0.3)
    quiet = calm(e.false_median, e.false_card)
    if auc >= 0.8 and supported and quiet and (e.relevance or 0) >= 1.3:
        return "B"
    return "C"


def separating_logit(
    absent: NDArray[np.float64], clear: NDArray[np.float64], neutral: NDArray[np.float64]
) -> float:
    """Return the logit that separates an AU best, with few false alarms on neutral faces.

    Args:
        absent: logits of views without the AU.
        clear: logits of views in which it is plain to see.
        neutral: logits of views in which nothing is active.

    Returns:
        The highest at which Youden's J (share of ``clear`` found − share of ``absent`` taken for
        it) is within :data:`FLAT` of its largest value, but not below the level that
        :data:`FALSE_ACTIVE` of ``neutral`` exceed; 0 where there are too few views to tell.
    """
    best = 0.0
    if min(len(absent), len(clear)) >= FEWEST:
        cuts = np.quantile(np.concatenate([absent, clear]), np.linspace(0.01, 0.99, 197))
        found = 1 - np.searchsorted(np.sort(clear), cuts) / len(clear)
        wrong = 1 - np.searchsorted(np.sort(absent), cuts) / len(absent)
        gain = found - wrong
        best = float(cuts[gain >= gain.max() - FLAT].max())
    floor = quiet_logit(neutral)
    return best if floor is None else max(best, floor)


def quiet_logit(logits: NDArray[np.float64], share: float = FALSE_ACTIVE) -> float | None:
    """Return the level that a share of the logits exceeds; None of too few."""
    if len(logits) < FEWEST:
        return None
    return float(np.quantile(logits, 1 - share))


def combine(
    rendered: float, bounds: tuple[float | None, float | None], persons: Sequence[float]
) -> float:
    """Draw a threshold from rendered faces towards what real persons need.

    Args:
        rendered: best logit on rendered faces.
        bounds: least and greatest logit by rendered faces; None where there are too few.
        persons: per person the level that its quiet frames rarely exceed.

    Returns:
        The logit of ``on``.
    """
    if not persons:
        return rendered
    weight = len(persons) / (len(persons) + 1)
    moved = weight * (max(persons) + MARGIN - rendered)
    logit = rendered + float(np.clip(moved, -LOWER, RAISE))
    least, greatest = bounds
    # Never beyond a bound, but a threshold that lies beyond it by itself stays.
    if least is not None:
        logit = max(logit, min(least, rendered))
    if greatest is not None:
        logit = min(logit, max(greatest, rendered))
    return logit


def _logit(presence: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    p = np.clip(presence.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def _presence(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def real_levels(
    facts: Sequence[ClipFacts], runs: Sequence[Sequence[ClipPrediction]], aus: Sequence[int]
) -> list[dict[str, float]]:
    """Return for each AU: person → level of its logit in frames in which the AU cannot be.

    Args:
        facts: the clips.
        runs: predictions per clip, for each detector.
        aus: AUs of the columns.
    """
    levels: list[dict[str, float]] = []
    for column, au in enumerate(aus):
        frames: dict[str, list[NDArray[np.float64]]] = {}
        for predictions in runs:
            for fact, prediction in zip(facts, predictions, strict=True):
                # One clip per person: copies of a take would only repeat the same frames.
                if fact.name == fact.person:
                    values = prediction.presence[quiet_frames(fact, au), column]
                    frames.setdefault(fact.person, []).append(_logit(values[~np.isnan(values)]))
        found = {name: quiet_logit(np.concatenate(parts)) for name, parts in frames.items()}
        levels.append({name: level for name, level in found.items() if level is not None})
    return levels


def calibrate(
    network: AUNetwork,
    facts: Sequence[ClipFacts],
    runs: Sequence[Sequence[ClipPrediction]],
    batch: Any,
) -> tuple[dict[str, NDArray[np.float64]], list[dict[str, Any]]]:
    """Choose the logit of ``on`` for each AU.

    Args:
        network: the network.
        facts: the clips.
        runs: its predictions per clip, for each detector.
        batch: rendered held-out views (``training.data.loader.ViewBatch``).

    Returns:
        (person left out, or ``""`` for nobody → ``(A,)`` logits, facts of the choice per AU).
    """
    aus = network.card.aus
    logits = _logit(predict_views(network, batch.image))
    columns = {au: k for k, au in enumerate(rendered_aus())}
    neutral = np.nan_to_num(batch.intensity, nan=np.inf).max(axis=1) < 0.5
    levels = real_levels(facts, runs, aus)
    persons = sorted({fact.person for fact in facts})
    chosen = {name: np.zeros(len(aus)) for name in ("", *persons)}
    notes: list[dict[str, Any]] = []
    for k, au in enumerate(aus):
        z = logits[:, k]
        nothing = np.full(len(z), np.nan, np.float32)
        label = batch.intensity[:, columns[au]] if au in columns else nothing
        clear, absent = z[label >= CLEAR], z[label < MARKED / 2]
        bounds = quiet_logit(z[neutral], MOST_FALSE), quiet_logit(clear, LEAST_FOUND)
        rendered = separating_logit(absent, clear, z[neutral])
        for left_out in chosen:
            others = [level for name, level in levels[k].items() if name != left_out]
            chosen[left_out][k] = combine(rendered, bounds, others)
        on = chosen[""][k]
        notes.append(
            {
                "rendered_logit": rendered,
                "real_logits": levels[k],
                "neutral_logit": float(np.median(z[neutral])) if neutral.any() else None,
                "detected": float((clear >= on).mean()) if len(clear) else None,
                "false_rendered_neutral": float((z[neutral] >= on).mean())
                if neutral.any()
                else None,
            }
        )
    return chosen, notes


def judge_left_out(
    facts: Sequence[ClipFacts],
    predictions: Sequence[ClipPrediction],
    aus: Sequence[int],
    chosen: Mapping[str, NDArray[np.float64]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Judge each person with thresholds that it took no part in: events found, false activity."""
    active = []
    for fact, prediction in zip(facts, predictions, strict=True):
        logits = chosen[fact.person]
        active.append(activity(prediction, _presence(logits), _presence(logits - HYSTERESIS)))
    return found_events(facts, active, aus), false_activity(facts, active, aus)


def gather(
    aus: Sequence[int],
    notes: Sequence[Mapping[str, Any]],
    synthetic: Mapping[str, Any],
    curves: Mapping[str, Any],
    events: Mapping[str, Any],
    false: Mapping[str, Any],
    false_card: Mapping[str, Any],
    relevance: Mapping[str, Any],
    person: Mapping[str, str],
) -> dict[int, Evidence]:
    """Put the figures of each AU together."""
    evidence = {}
    for k, au in enumerate(aus):
        name = str(au)
        # The jaw curve judges the jaw: AU26 by the sum of AU26 and AU27, AU27 by nothing.
        curve = curves.get(JAW if au == 26 and JAW in curves else name, {})
        event = events.get(name, {})
        left_out = _per_person(false.get(name, {}), person)
        evidence[au] = Evidence(
            auc=synthetic["auc"].get(name),
            detected=notes[k]["detected"],
            r=curve.get("r_persons"),
            r_persons=curve.get("persons", 0),
            found=event.get("found"),
            found_persons=event.get("persons", 0),
            false_active=max(left_out, default=None),
            false_median=float(np.median(left_out)) if left_out else None,
            false_card=max(_per_person(false_card.get(name, {}), person), default=None),
            false_persons=len(left_out),
            relevance=relevance.get(name, {}).get("ratio"),
            relevance_rendered=synthetic["relevance"].get(name),
        )
    return evidence


def _per_person(rates: Mapping[str, Any], person: Mapping[str, str]) -> list[float]:
    """Return each person's mean over the clips that show it."""
    of: dict[str, list[float]] = {}
    for clip, rate in rates.get("clips", {}).items():
        of.setdefault(person[clip], []).append(rate)
    return [float(np.mean(values)) for values in of.values()]


def run(options: argparse.Namespace) -> None:
    """Calibrate, print, write."""
    folder = shared_folder(options.shared)
    facts = load_facts(folder)
    network = AUNetwork.load(options.weights, device=options.device)
    aus = network.card.aus
    runs = []
    tracked = []
    for spec in ("yunet", "haar"):
        detector = make_shared_detector(spec, folder)
        tracked.append(load_real_crops(folder, facts, detector, network, options.cache))
        runs.append(predict_clips(network, tracked[-1]))
    batch = held_out_views(options.synthetic, options.views, SEED)
    chosen, notes = calibrate(network, facts, runs, batch)
    on, off = _presence(chosen[""]), _presence(chosen[""] - HYSTERESIS)
    events, false = judge_left_out(facts, runs[0], aus, chosen)
    with_card = [activity(prediction, on, off) for prediction in runs[0]]
    evidence = gather(
        aus,
        notes,
        synthetic_figures(network, options.synthetic, options.views, on=on),
        correlations(facts, runs[0], aus),
        events,
        false,
        false_activity(facts, with_card, aus),
        relevance_figures(network, facts, tracked[0], runs[0], on=on, off=off),
        {fact.name: fact.person for fact in facts},
    )
    grades = {au: grade(evidence[au]) for au in aus}
    fragment = {
        "thresholds": {
            "on": 0.5,
            "off": 0.35,
            "per_au": {
                str(au): {"on": round(float(on[k]), 3), "off": round(float(off[k]), 3)}
                for k, au in enumerate(aus)
            },
        },
        "neutral": {
            str(au): round(note["neutral_logit"], 3)
            for au, note in zip(aus, notes, strict=True)
            if note["neutral_logit"] is not None
        },
        "grades": {str(au): grades[au] for au in aus},
        "evaluation": {
            str(au): _rounded(asdict(evidence[au]) | {"choice": note})
            for au, note in zip(aus, notes, strict=True)
        }
        | {"grade_rule": RULE},
    }
    print(f"{'AU':>4} grade   on  off  auc  det>=B   r(n)    found(n)  false(n)  region/rendered")
    for k, au in enumerate(aus):
        e = evidence[au]
        print(
            f"{au:>4}   {grades[au]}   {on[k]:.2f} {off[k]:.2f} {_show(e.auc)}  {_show(e.detected)}"
            f"  {_show(e.r)}({e.r_persons})  {_show(e.found)}({e.found_persons})"
            f"   {_show(e.false_active)}({e.false_persons})   {_show(e.relevance)}/"
            f"{_show(e.relevance_rendered)}"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(fragment, indent=1) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


def _show(value: float | None) -> str:
    return "   -" if value is None else f"{value:4.2f}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def main() -> None:
    """Run from the command line."""
    parser = network_options(__doc__, "calibration.json")
    parser.add_argument("--synthetic", type=Path, required=True, help="folder of rendered shards")
    run_command(parser, run, "calibrate_au")


if __name__ == "__main__":
    main()
