"""What can an AU network see on real faces? One command, every figure.

    python benchmarks/au_real.py [--weights FILE] [--detector yunet ours] [--baseline]
                                 [--synthetic DIR] [--cache DIR] [--out JSON]

The network runs over the clips of ../shared by the path of live analysis (detector, tracker,
alignment, thresholds with hysteresis). Printed, and written as JSON:

- correlation of each AU with the MediaPipe curve within a clip, where that curve varies at all; not
  of AU1, 2 and 4, whose curves are wrong too often (``real_clips.UNRELIABLE_CURVES``);
- AUC on frames marked by eye, beside that of the MediaPipe curves on the same frames;
- events marked by eye that were found, and AUs that are active where they cannot be;
- positive relevance in the region of each AU against the region's share of the face;
- with ``--synthetic``, AUC on rendered faces of identities that were never trained on, degraded;
- size, names, versions, and a table against the targets.

Clips that show one take count as one person. Nothing is tuned here: thresholds come from the card.
The first detector named gives the table; the others are reported beside it. Many more people, with
intervals, judge a network in ``au_people.py``.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from au_evidence import region_ratio, relevance_figures, synthetic_figures
from au_metrics import (
    JAW,
    evaluate_predictions,
    invented_faces,
    predict_clips,
    steady_below,
    with_baseline,
)
from au_options import network_options, run_command
from facestage.core.config import ExplainConfig
from facestage.core.network.au_network import EMBEDDED, AUNetwork
from real_clips import (
    ClipFacts,
    TrackedClip,
    load_facts,
    load_real_crops,
    make_shared_detector,
    shared_folder,
)

__all__ = [
    "evaluate_predictions",
    "load_real_crops",
    "measure_real",
    "must_show",
    "region_ratio",
    "relevance_figures",
    "synthetic_figures",
]


def measure_real(
    network: AUNetwork,
    facts: Sequence[ClipFacts],
    tracked: Sequence[TrackedClip],
    *,
    baseline: bool = False,
    relevance: bool = True,
) -> dict[str, Any]:
    """Return all figures of a network on crops that are at hand.

    Args:
        network: the network.
        facts: the clips, see :func:`real_clips.load_facts`.
        tracked: their crops, see :func:`load_real_crops`.
        baseline: judge AUs against the person's own baseline.
        relevance: also explain (seconds instead of a moment).
    """
    card = network.card
    predictions = predict_clips(network, tracked)
    if baseline:
        predictions = [
            with_baseline(prediction, clip, card)
            for prediction, clip in zip(predictions, tracked, strict=True)
        ]
    on, off = card.thresholds()
    figures = evaluate_predictions(facts, predictions, card.aus, on, off)
    figures["invented_faces"] = invented_faces(facts, tracked)
    if relevance:
        figures["relevance"] = relevance_figures(network, facts, tracked, predictions)
    return figures


_FOLLOWED = (("12", 0.9), ("25", 0.85), (JAW, 0.85), ("43", 0.8), ("10", 0.75))
_FOLLOWED_WEAKLY = (("5", 0.65), ("7", 0.65))
_EVENTS = (
    *((au, 0.9, 0.05) for au in (12, 25, 43)),
    *((au, 0.7, 0.1) for au in (4, 6, 1, 2)),
)
_RATIO = 2.0
_MEGABYTES = 10.0


def must_show(report: dict[str, Any], figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare the figures with the targets.

    Args:
        report: holds ``synthetic`` (or None), ``grades`` and ``megabytes``.
        figures: of :func:`measure_real`.

    Returns:
        Rows of ``figure``, ``target``, ``got``, ``reached`` (None where nothing could judge).
    """
    rows: list[dict[str, Any]] = []

    def row(
        figure: str, target: float, got: float | None, sign: str = ">=", note: str = ""
    ) -> None:
        reached = None if got is None else (got >= target if sign == ">=" else got <= target)
        rows.append(
            {"figure": figure, "target": f"{sign} {target:g}", "got": got, "reached": reached}
            | ({"note": note} if note else {})
        )

    synthetic = report["synthetic"]
    row("synthetic held-out mean AUC", 0.9, None if synthetic is None else synthetic["mean_auc"])
    for name, target in _FOLLOWED + _FOLLOWED_WEAKLY:
        entry = figures["correlation"].get(name, {})
        row(f"correlation AU{name}", target, entry.get("r_persons"), note=_persons(entry))
    for au, found, false in _EVENTS:
        entry = figures["events"].get(str(au), {})
        quiet = figures["false_active"].get(str(au), {})
        row(f"events found AU{au}", found, entry.get("found"), note=_persons(entry))
        row(f"false active AU{au}", false, quiet.get("rate"), "<=", note=_persons(quiet))
    grades = report["grades"]
    for name, entry in figures.get("relevance", {}).items():
        if not grades or grades.get(name) == "A":
            note = _persons({"persons": len(entry["persons"])})
            row(f"relevance in region AU{name}", _RATIO, entry["ratio"], note=note)
    row("size of the weights, MB", _MEGABYTES, report["megabytes"], "<=")
    return rows


def _persons(entry: dict[str, Any]) -> str:
    count = entry.get("persons", 0)
    return f"{count} person{'s' if count > 1 else ''}" if count else "no clip can judge"


def print_report(report: dict[str, Any]) -> None:
    """Print the report for people."""
    for detector, figures in report["detectors"].items():
        print(f"\n{report['model']} on real clips, {detector}, baseline {report['baseline']}")
        print(
            f"{'AU':>6} {'r':>6} {'clips':>6} {'logit':>6} {'pooled':>6} {'found':>6} "
            f"{'+likely':>7} {'+cover':>6} {'false':>6} {'frames':>6} {'region':>6}"
        )
        names = [str(au) for au in report["aus"]] + [JAW]
        for name in names:
            curve = figures["correlation"].get(name, {})
            event = figures["events"].get(name, {})
            false = figures["false_active"].get(name, {})
            ratio = figures.get("relevance", {}).get(name, {})
            cells = (
                (curve.get("r_persons"), 6),
                (curve.get("r_clips"), 6),
                (curve.get("r_logit_persons"), 6),
                (curve.get("pooled"), 6),
                (event.get("found"), 6),
                (event.get("found_likely"), 7),
                (event.get("found_covered"), 6),
                (false.get("rate"), 6),
                (false.get("frames"), 6),
                (ratio.get("ratio"), 6),
            )
            print(f"{name:>6} " + " ".join(_cell(value, width) for value, width in cells))
        print("r: median over persons of the correlation of intensity with MediaPipe; clips: over")
        print("clips; found: share of sure events, visible frames; false: share of frames active")
        print("where the AU cannot be; region: relevance in the region / its share of the face.")
        _print_beside(figures["beside_reference"])
        print(f"frames without a face in which one was analysed: {figures['invented_faces']}")
    if report["synthetic"] is not None:
        synthetic = report["synthetic"]
        print(f"\nrendered, held out ({synthetic['views']} views): AUC")
        print(", ".join(f"AU{au} {_cell(v, 0).strip()}" for au, v in synthetic["auc"].items()))
        print("relevance ratio of rendered AUs")
        ratios = synthetic["relevance"].items()
        print(", ".join(f"AU{au} {_cell(v, 0).strip()}" for au, v in ratios))
    print(f"\n{'figure':32} {'target':>8} {'got':>8}  reached")
    for row in report["must_show"]:
        reached = {True: "yes", False: "NO", None: "not judged"}[row["reached"]]
        note = f"  ({row['note']})" if "note" in row else ""
        print(f"{row['figure']:32} {row['target']:>8} {_cell(row['got'], 8)}  {reached}{note}")


def _print_beside(figures: dict[str, Any]) -> None:
    print(f"\n{'AUC, marked frames':>20} {'ours':>12} {'MediaPipe':>12}   (within a clip, across)")
    for name, entry in figures.items():
        pairs = (
            f"{_cell(entry[side]['within'], 5)} {_cell(entry[side]['across'], 5)}"
            for side in ("ours", "reference")
        )
        print(f"{'AU' + name:>20}  {'   '.join(pairs)}   {entry['people']} people")


def _cell(value: float | None, width: int) -> str:
    if value is None:
        return f"{'-':>{width}}"
    return f"{value:>{width}}" if isinstance(value, int) else f"{value:>{width}.2f}"


def main() -> None:
    """Run from the command line."""
    parser = network_options(__doc__, "au_real.json")
    parser.add_argument("--detector", nargs="+", default=["yunet", "ours"])
    parser.add_argument("--baseline", action="store_true")
    parser.add_argument("--synthetic", type=Path, help="folder of rendered shards")
    run_command(parser, run, "au_real")


def run(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    begun = time.monotonic()
    folder = shared_folder(options.shared)
    facts = load_facts(folder)
    network = AUNetwork.load(options.weights, device=options.device)
    detectors: dict[str, Any] = {}
    for spec in options.detector:
        detector = make_shared_detector(spec, folder)
        tracked = load_real_crops(folder, facts, detector, network, options.cache)
        detectors[detector.name] = measure_real(network, facts, tracked, baseline=options.baseline)
    synthetic = None
    if options.synthetic is not None:
        synthetic = synthetic_figures(network, options.synthetic, options.views)
    weights = options.weights or EMBEDDED
    card = network.card
    report: dict[str, Any] = {
        "model": f"{card.name} {card.version}",
        "sha256": card.sha256,
        "aus": list(card.aus),
        "grades": {str(au): grade for au, grade in card.grades.items()},
        "megabytes": weights.stat().st_size / 1e6,
        "baseline": options.baseline,
        "device": str(network.device),
        "versions": {
            "torch": torch.__version__,
            "opencv": cv2.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "reference_std_floor": {str(au): steady_below(au) for au in facts[0].reference},
        "lrp_preset": ExplainConfig().preset,
        "detectors": detectors,
        "synthetic": synthetic,
    }
    report["must_show"] = must_show(report, next(iter(detectors.values())))
    print_report(report)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written: {options.out} ({time.monotonic() - begun:.0f} s)")


if __name__ == "__main__":
    main()
