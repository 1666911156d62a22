"""How good is an AU network on many real people? Every figure with its interval and its people.

    python benchmarks/au_people.py [--weights FILE] [--detector yunet|ours|haar] [--thresholds]
                                   [--rest none|live|recording|oracle]
                                   [--half choose|report|all] [--cache DIR] [--out JSON]

Clips with marked events, neutral and smiling portraits, and Darwin's photographs (of ../shared, see
``people_material.py``) go through detector, tracker, alignment and network as they do live. What
the figures mean stands in ``people_figures.py``, what an interval rests on in ``intervals.py``.

Whoever chooses between weights, or thresholds, looks at ``--half choose`` (the default) only, and
reports ``--half report``. ``--thresholds`` also proposes thresholds (``people_thresholds.py``):
cross-validated by person; with ``--half report`` those that the choosing half asks for. No card is
changed.

``--rest`` says by which rest level clips are judged (``people_rest.py``): ``none`` judges the
network alone, ``live`` as live analysis does, ``recording`` as that of a recording, ``oracle`` by
levels that nobody can know. Thresholds are always proposed from presence as the network gives it,
and stills have one frame, which is judged by the card alone.

The JSON file holds figures and counts only, no name of a file or a person.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from au_options import RESULTS, run_command
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.card import ModelCard
from people_figures import (
    card_logits,
    clip_figures,
    marked_figures,
    neutral_figures,
    smile_figures,
)
from people_material import ALL, CHOOSE, MARKED, REPORT, Material, load_material
from people_predictions import Judged, predict_people
from people_rest import NONE, RESTS, by_rise
from people_thresholds import proposal
from real_clips import make_shared_detector, shared_folder

__all__ = ["judge_people", "main"]

_SMILES = (6, 12)
"""AUs that a smile shows. In all others a smile is false activity, or a leak."""


def judge_people(judged: Judged, card: ModelCard) -> dict[str, list[dict[str, Any]]]:
    """Return the figures of each AU: on clips, neutral people, smiles and marked photographs."""
    on, _ = card_logits(card)
    return {
        "clips": clip_figures(judged.clips, card),
        "neutral": neutral_figures(judged.stills, on, card.neutral_logits()),
        "smile": smile_figures(judged.stills, on),
        "marked": marked_figures(judged.stills, card.aus, on),
    }


def counts(material: Material, judged: Judged) -> dict[str, Any]:
    """Return how many people and files there are, and where no face was found."""
    stills: dict[str, int] = {}
    for still in material.stills:
        stills[still.source] = stills.get(still.source, 0) + 1
    return {
        "people": len(material.people()),
        "clips": len(material.clips),
        "frames": sum(len(clip.prediction.lost) for clip in judged.clips),
        "frames_without_face": judged.unseen,
        "stills": stills,
        "stills_without_face": dict(judged.not_found),
    }


# -- printing --------------------------------------------------------------------------------------


def print_report(report: Mapping[str, Any]) -> None:
    """Print all tables."""
    said = report["counts"]
    missing = sum(said["stills_without_face"].values())
    print(
        f"{report['model']}, {report['detector']}, half: {report['half']}, rest level of clips: "
        f"{report['rest']}"
    )
    print(
        f"{said['people']} people; {said['clips']} clips, {said['frames']} frames, "
        f"{said['frames_without_face']:.1%} without a usable face; "
        f"{sum(said['stills'].values())} stills, {missing} without"
    )
    names = [f"{au}{grade}" for au, grade in report["aus"].items()]
    _print_clips(names, report["clips"])
    _print_neutral(names, report["neutral"])
    _print_smiles(names, report["smile"])
    _print_marked(names, report["marked"])
    if "thresholds" in report:
        _print_thresholds(names, report["thresholds"])
    print("\n[ ]: 95 % interval, from people. Grade of the card after the AU.")


def _print_clips(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    print("\nclips: people with the AU / without; AUC; events found; false activity")
    print(
        f"{'AU':>4} {'people':>6} {'inside':>16} {'across':>16} {'own':>16} {'found':>20} "
        f"{'false':>16} {'worst':>5}"
    )
    for name, row in zip(names, rows, strict=True):
        if not row["people_present"] and not row["people_absent"]:
            continue
        areas = " ".join(_with_interval(row.get(kind)) for kind in ("inside", "across", "own"))
        people = f"{row['people_present']}/{row['people_absent']}"
        print(f"{name:>4} {people:>6} {areas} {_found(row['found'])} {_false(row['false'])}")
    print("inside a clip (median), across all, across with each person's own rest level taken off;")
    print("~: likely marks only; false: mean over people, worst person")


def _print_neutral(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    people = rows[0]["people"]
    print(f"\nneutral people ({people}): share active, rest level against the card's, logits")
    if not people:
        return
    sets = list(rows[0]["sets"])
    print(
        f"{'AU':>4} {'active':>16} {'rest':>6} {'sd':>5} {'over the card':>20} "
        + " ".join(f"{name:>14}" for name in sets)
    )
    for name, row in zip(names, rows, strict=True):
        active = _with_interval({"value": row["active"], "interval": row["interval"]})
        above = {"value": row["above_card"], "interval": row["above_card_interval"]}
        print(
            f"{name:>4} {active} {row['rest']:6.2f} {row['spread']:5.2f} "
            f"{_with_interval(above, 20)} "
            + " ".join(f"{row['sets'][source]:14.2f}" for source in sets)
        )


def _print_smiles(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    people = rows[0]["people"]
    print(f"\nsmile against neutral of the same people ({people})")
    if not people:
        return
    kinds = ("found", "false", "auc", "own", "rise")
    print(f"{'AU':>4} " + " ".join(f"{kind:>20}" for kind in kinds))
    for name, row in zip(names, rows, strict=True):
        print(f"{name:>4} " + " ".join(_with_interval(row[kind], 20) for kind in kinds))
    shown = " and ".join(f"AU{au}" for au in _SMILES)
    print(f"found: active in the smile (of other AUs than {shown}: a leak); false: in the neutral")
    print("picture; own: the smile is higher than the same person's neutral picture; rise: logits")


def _print_marked(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"\nmarked photographs ({MARKED} by eye): found of pictures, people, AUC against others")
    for name, row in zip(names, rows, strict=True):
        if row["pictures"]:
            found = f"{row['found']}/{row['pictures']}"
            auc = _with_interval(row.get("auc"))
            quiet = f"{row['neutral_active']}/{row['neutral_pictures']}"
            print(f"{name:>4} {found:>5} ({row['people']}) {auc}  active in neutral ones {quiet}")


def _print_thresholds(names: Sequence[str], kinds: Mapping[str, Any]) -> None:
    print("\nthresholds, logits: the card's; proposed; proposed over the person's own rest level")
    titles = ("card", "proposed", "own")
    print(
        f"{'AU':>4} "
        + " | ".join(f"{title + ': on':>9} found  false neutr smile" for title in titles)
    )
    for place, name in enumerate(names):
        cells = []
        for title in titles:
            entry = kinds[title]["figures"][place]
            on = kinds[title]["on"][place]
            found = entry["found"]
            of_events = f"{found['found']}/{found['events']}" if found["events"] else "-"
            shares = (
                entry["false"].get("mean"),
                entry.get("neutral", {}).get("active"),
                entry.get("smile", {}).get("active"),
            )
            cells.append(
                f"{_number(on, 12)} {of_events:>5} " + " ".join(_number(s, 5) for s in shares)
            )
        print(f"{name:>4} " + " | ".join(cells))
    print("found: events; false: of absent frames, mean over people; neutral people and smiles:")
    print("share active. Each person is judged by thresholds that others ask for.")


def _title(kind: str) -> str:
    return f"{kind + ': on':>12} found false neutr smile"


def _found(entry: Mapping[str, Any]) -> str:
    if not entry["events"]:
        return f"{'-':>20}"
    mark = "~" if entry["marks"] == "likely" else ""
    low, high = entry["interval"]
    return f"{mark}{entry['found']}/{entry['events']} [{low:.2f} {high:.2f}]".rjust(20)


def _false(entry: Mapping[str, Any]) -> str:
    if "mean" not in entry:
        return f"{'-':>16} {'-':>5}"
    shown = _with_interval({"value": entry["mean"], "interval": entry["interval"]})
    return f"{shown} {entry['worst']:5.2f}"


def _with_interval(entry: Mapping[str, Any] | None, width: int = 16) -> str:
    if entry is None:
        return "-".rjust(width)
    if entry["interval"] is None:
        return f"{entry['value']:.2f} [one person]".rjust(width)
    low, high = entry["interval"]
    return f"{entry['value']:.2f} [{low:.2f} {high:.2f}]".rjust(width)


def _number(value: float | None, width: int) -> str:
    return "-".rjust(width) if value is None or np.isnan(value) else f"{value:{width}.2f}"


# -- writing ---------------------------------------------------------------------------------------


def rounded(value: Any) -> Any:
    """Return what JSON can hold: floats to three digits, NaN as null, arrays as lists."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [rounded(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return round(float(value), 3) if np.isfinite(value) else None
    return value


def written(report: Mapping[str, Any]) -> str:
    """Return the report as JSON with one line for each AU of each table."""
    plain = rounded(report)
    aus = list(plain["aus"])
    tables = {key: plain.pop(key) for key in ("clips", "neutral", "smile", "marked")}
    for kind, table in plain.pop("thresholds", {}).items():
        tables[f"thresholds_{kind}"] = [
            {"on": on, **figures} for on, figures in zip(table["on"], table["figures"], strict=True)
        ]
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in plain.items()]
    for key, rows in tables.items():
        lines = ",\n".join(
            f'  "{au}": {json.dumps(row)}' for au, row in zip(aus, rows, strict=True)
        )
        parts.append(f"{json.dumps(key)}: {{\n{lines}\n }}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def default_out(half: str) -> Path:
    """Return where the figures of a half are written; those of all people have their own file."""
    return RESULTS / ("au_people.json" if half == ALL else f"au_people_{half}.json")


def run(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    begun = time.monotonic()
    folder = shared_folder(options.shared)
    everybody = load_material(folder)
    network = AUNetwork.load(options.weights, device=options.device)
    detector = make_shared_detector(options.detector, folder)

    def predict(material: Material) -> Judged:
        return predict_people(material, detector, network, options.weights, options.cache)

    material = everybody.of_half(options.half)
    judged = predict(material)
    card = network.card
    report: dict[str, Any] = {
        "model": f"{card.name} {card.version}",
        "sha256": card.sha256,
        "aus": {str(au): card.grades.get(au, "") for au in card.aus},
        "detector": detector.name,
        "half": options.half,
        "rest": options.rest,
        "versions": {"torch": torch.__version__, "opencv": cv2.__version__},
        "counts": counts(material, judged),
        **judge_people(by_rise(judged, card, options.rest), card),
    }
    if options.thresholds:
        asking = predict(everybody.of_half(CHOOSE)) if options.half == REPORT else None
        report["thresholds"] = proposal(judged, card, asking)
    print_report(report)
    out = options.out or default_out(options.half)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(written(report), encoding="utf-8")
    print(f"written: {out} ({time.monotonic() - begun:.0f} s)")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, help="safetensors file (default: embedded)")
    parser.add_argument("--detector", default="yunet", choices=("yunet", "ours", "haar"))
    parser.add_argument("--half", default=CHOOSE, choices=(CHOOSE, REPORT, ALL))
    parser.add_argument("--rest", default=NONE, choices=RESTS, help="rest level of clips")
    parser.add_argument("--thresholds", action="store_true", help="also propose thresholds")
    parser.add_argument("--cache", type=Path, help="folder that keeps crops and predictions")
    parser.add_argument("--shared", type=Path, help="folder of the real people")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    parser.add_argument("--out", type=Path, help="JSON file to write (default: in results)")
    run_command(parser, run, "au_people")


if __name__ == "__main__":
    main()
