"""How good are the relevance maps of a network? Measures every source under every LRP preset.

The same measures as ``facestage explain-quality``, kept as one JSON, and written as tables into
``docs/explanations.md`` between its two markers. What was measured before with the same network and
settings is not measured again, so that a run can be broken off; a new network begins anew.

    python benchmarks/explain_quality.py [SOURCE …] [--model FILE] [--frames 60]
                                         [--detector ours|haar|yunet|FILE] [--again] [--page-only]

Without a source: the embedded demo clip, and the real clips of ../shared where they are at hand.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from facestage.core.action_units import au_code
from facestage.core.config import SAMPLE_FRAMES, ExplainConfig
from facestage.core.errors import FacestageError
from facestage.core.lrp import LRP_PRESETS
from facestage.core.network.au_network import AUNetwork
from facestage.core.quality import assess
from facestage.stream.commands.explain_quality import as_json, format_quality
from facestage.stream.detectors import make_detector
from facestage.stream.offline.sample import read_sample

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("FACESTAGE_SHARED", ROOT.parent / "shared"))
CLIPS = ("WolfgangLanger_Pexels.mp4", "single_face.mp4", "intel_asl_sorry.mkv")
"""Real clips, one per person."""
RESULTS = ROOT / "benchmarks" / "results" / "explain_quality.json"
PAGE = ROOT / "docs" / "explanations.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

COLUMNS: tuple[tuple[str, str], ...] = (
    ("mass", "mass"),
    ("area", "area"),
    ("enrichment", "enrichment"),
    ("hit", "hit"),
    ("morf_lerf", "LeRF − MoRF"),
    ("morf_random", "random − MoRF"),
    ("drop", "drop"),
    ("top_cosine", "output layer random"),
    ("full_cosine", "all random"),
    ("conserved", "sum ÷ logit"),
    ("positive", "positive"),
    ("same_au", "same AU"),
    ("other_aus", "other AUs"),
    ("within_stage", "within stage"),
    ("across_stages", "across"),
)

COMPARED = tuple(
    pair
    for pair in COLUMNS
    if pair[0] not in ("area", "drop", "top_cosine", "within_stage", "across_stages")
)
"""Columns of the table that compares presets."""


def measure(
    source: str, network: AUNetwork, detector: str, frames: int, presets: list[str]
) -> Iterator[dict[str, Any]]:
    """Measure one source; yield, after each preset, what ``facestage explain-quality --json`` has.

    Args:
        source: video file, or ``demo:``.
        network: the network.
        detector: see ``--detector``.
        frames: most to measure.
        presets: presets to measure; what is yielded holds one of them.
    """
    reading = read_sample(source, network, make_detector(detector), frames=frames)
    for preset in presets:
        found = assess(network, reading.sample, preset)
        print(f"\n{reading.result.source}", *format_quality(found), sep="\n", flush=True)
        facts = as_json(reading, network, [found])
        facts["source"] = Path(facts["source"]).name  # no folder of this machine
        yield facts | {"frames_asked": frames}


def usable(known: dict[str, Any], network: AUNetwork, frames: int) -> bool:
    """Tell whether earlier figures are of this network and as many frames."""
    return known["sha256"] == network.card.sha256 and known["frames_asked"] == frames


def page_tables(sources: dict[str, Any]) -> str:
    """Return the figures as the page shows them: presets side by side, then the usual one."""
    usual = ExplainConfig().preset
    parts = [_side_by_side(sources)]
    parts += [
        _table(name, facts, usual, facts["presets"][usual]) for name, facts in sources.items()
    ]
    return "\n\n".join(parts)


def _side_by_side(sources: dict[str, Any]) -> str:
    """Return a row per source and preset: means over the AUs, and the two AUs most alike."""
    lines = [
        "Presets side by side, means over the AUs of a recording:",
        "",
        "| recording | preset | AUs | "
        + " | ".join(title for _, title in COMPARED)
        + " | most alike |",
        "|---|---|---|" + "---|" * len(COMPARED) + "---|",
    ]
    for name, facts in sources.items():
        for preset, one in facts["presets"].items():
            rows = one["aus"]
            cells = [
                _cell(_mean([row["figures"][key]["value"] for row in rows.values()]))
                for key, _ in COMPARED
            ]
            pairs = [
                (row["figures"]["nearest"]["value"], int(au), row["nearest"])
                for au, row in rows.items()
                if row["nearest"] is not None
            ]
            alike = "–"
            if pairs:
                value, au, other = max(pairs)
                alike = f"{au_code(au)} and {au_code(other)} {_cell(value)}"
            lines.append(f"| {name} | `{preset}` | {len(rows)} | {' | '.join(cells)} | {alike} |")
    return "\n".join(lines)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _table(name: str, facts: dict[str, Any], preset: str, one: dict[str, Any]) -> str:
    lines = [
        f"**{name}**, preset `{preset}`: network {facts['model']} ({facts['sha256'][:8]}), "
        f"{len(facts['frames'])} of {facts['frames_with_face']} frames with a face; perturbed and "
        f"randomised on up to {facts['settings']['costly_frames']} frames per AU",
        "",
        "| AU | frames | " + " | ".join(title for _, title in COLUMNS) + " | most alike |",
        "|---|---|" + "---|" * len(COLUMNS) + "---|",
    ]
    for au, row in one["aus"].items():
        figures = row["figures"]
        cells = [_cell(figures[key]["value"]) for key, _ in COLUMNS]
        alike = "–"
        if row["nearest"] is not None:
            near = figures["nearest"]
            alike = f"{au_code(row['nearest'])} {_cell(near['value'])} ({near['frames']})"
        lines.append(f"| {au_code(int(au))} | {row['frames']} | {' | '.join(cells)} | {alike} |")
    if one["rare"]:
        rare = ", ".join(f"{au_code(int(au))} ({n})" for au, n in one["rare"].items())
        lines += ["", f"Active in too few frames: {rare}."]
    if one["findings"]:
        lines += ["", *(f"- {line}" for line in one["findings"])]
    layers = one["randomisation"]
    if layers["layers"]:
        pairs = zip(layers["layers"], layers["cosine"], strict=True)
        steps = ", ".join(f"`{layer}` {_cell(cosine)}" for layer, cosine in pairs)
        lines += ["", f"Mean cosine after each layer, randomised from the output down: {steps}."]
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def write_page(sources: dict[str, Any], page: Path = PAGE) -> None:
    """Replace what stands between the markers of the page."""
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n\n{page_tables(sources)}\n\n{END}{tail}", encoding="utf-8")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="*")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--frames", type=int, default=SAMPLE_FRAMES)
    parser.add_argument("--detector", default="ours")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    parser.add_argument("--page-only", action="store_true", help="only write the page anew")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    done: dict[str, Any] = {}
    if options.out.is_file():
        done = json.loads(options.out.read_text(encoding="utf-8"))
    if not options.page_only:
        network = AUNetwork.load(options.model, device=options.device)
        usable_results = {k: v for k, v in done.items() if usable(v, network, options.frames)}
        done = {} if options.again else usable_results
        clips = [SHARED / "clips" / clip for clip in CLIPS]
        sources = options.source or ["demo:", *(str(clip) for clip in clips if clip.is_file())]
        for source in sources:
            name = Path(source).name.rstrip(":")
            missing = [p for p in LRP_PRESETS if p not in done.get(name, {}).get("presets", {})]
            if not missing:
                print(f"{name}: measured before, see {options.out}")
                continue
            try:
                for facts in measure(source, network, options.detector, options.frames, missing):
                    known = done.get(name, {}).get("presets", {}) | facts["presets"]
                    ordered = {preset: known[preset] for preset in LRP_PRESETS if preset in known}
                    done[name] = facts | {"presets": ordered}
                    text = json.dumps(done, indent=1, ensure_ascii=False, allow_nan=False)
                    options.out.write_text(f"{text}\n", encoding="utf-8")
            except FacestageError as error:
                sys.exit(f"{source}: {error}")
    if options.out == RESULTS:
        write_page(done)


if __name__ == "__main__":
    main()
