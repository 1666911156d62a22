"""The command ``facestage explain-quality``: are the relevance maps any good?"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer

from ...core.action_units import au_code
from ...core.lrp import LRP_PRESETS, lrp_preset
from ...core.network.au_network import AUNetwork
from ...core.quality import FIGURES, AUQuality, ExplanationQuality, StoppedError, assess
from ...core.quality.figures import COSTLY_FRAMES, DRAWS, LEAST_FRAMES, TOLERANCE
from ...core.quality.perturbation import BLUR, PATCH, PER_STEP, RANDOM_ORDERS
from ..compute import set_threads
from ..console import out
from ..detectors import make_detector
from ..files import check_place, write_file
from ..offline.sample import Reading, read_sample
from ..progress import interruptible, progress, read_progress
from .signatures import ALL_PRESETS, QualityOptions
from .text import selection_text

__all__ = ["SCHEMA", "as_json", "findings", "format_quality", "run_explain_quality"]

SCHEMA = "facestage/explain-quality/1"
"""``schema`` of the JSON; the number rises when a reader would break."""

ALIKE = 0.9
"""Maps of two AUs that agree more than this in a frame are nearly the same."""
AGAINST = 0.5
"""Maps with a smaller share of positive relevance speak against their AU."""


def run_explain_quality(options: QualityOptions) -> list[ExplanationQuality]:
    """Measure the maps of a recording; print a table per preset, write the figures if asked to.

    Raises:
        FacestageError: an option, the source, the model or the file cannot be used.
        typer.Exit: stopped by a signal; nothing was written.
    """
    presets = _presets(options.preset)
    if options.json_file is not None:
        check_place(options.json_file, "--json")
    set_threads(options.threads)
    network = AUNetwork.load(options.model, device=options.device)
    detector = make_detector(options.detector)
    with interruptible() as stop:
        try:
            reading = read_sample(
                options.source,
                network,
                detector,
                options.aus,
                presets[0],
                options.frames,
                show=read_progress,
                stop=stop,
            )
            _print_head(reading, network)
            measured = [_measure(network, reading, preset, stop) for preset in presets]
        except StoppedError:
            out.print(
                "stopped: nothing was written; run it again, with fewer --frames to be quicker",
                markup=False,
            )
            raise typer.Exit(130) from None
    if options.json_file is not None:
        facts = as_json(reading, network, measured)
        text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
        write_file(options.json_file, f"{text}\n".encode())
        out.print(f"written: {options.json_file}", markup=False)
    return measured


def _measure(
    network: AUNetwork, reading: Reading, preset: str, stop: Callable[[], bool]
) -> ExplanationQuality:
    """Measure one preset and print its table."""
    with progress(f"measuring {preset}", _STEPS) as update:
        quality = assess(
            network,
            reading.sample,
            preset,
            on_progress=lambda done, total: update(_STEPS * done // total, str),
            stop=stop,
        )
    for line in format_quality(quality):
        out.print(line, markup=False)
    return quality


_STEPS = 1000
"""Length of the progress bar; the work in it is known only once it has begun."""


def _presets(text: str) -> list[str]:
    return list(LRP_PRESETS) if text == ALL_PRESETS else [lrp_preset(text).name]


def _print_head(reading: Reading, network: AUNetwork) -> None:
    result = reading.result
    shown = tuple(au for au in result.aus if au not in result.hidden)
    out.print(
        f"{result.source}: {len(result.rows)} frames, {reading.faces} with a usable face, measured "
        f"on {len(reading.index)}",
        markup=False,
    )
    out.print(
        f"device {result.device}, model {result.model}, detector {result.detector}", markup=False
    )
    out.print(f"AUs: {selection_text(network.card, shown)}", markup=False)


# ------------------------------------------------------------------------------------- what is said

_COLUMNS: tuple[tuple[str, int, str], ...] = (
    ("mass", 6, "mass"),
    ("area", 6, "area"),
    ("enrichment", 8, "enrich"),
    ("hit", 6, "hit"),
    ("morf_lerf", 7, "L−M"),
    ("morf_random", 7, "R−M"),
    ("drop", 6, "drop"),
    ("top_cosine", 6, "top"),
    ("full_cosine", 6, "all"),
    ("full_rank", 6, "all ρ"),
    ("conserved", 6, "sum"),
    ("positive", 6, "pos"),
    ("same_au", 6, "same"),
    ("other_aus", 6, "other"),
    ("within_stage", 7, "within"),
    ("across_stages", 7, "across"),
)
_LEGEND = (
    "mass, area, enrich: share of relevance in the AU's region, the region's share of the face, "
    "their ratio · hit: the maximum lies in it",
    f"L−M, R−M: area of LeRF and of random order above MoRF; drop: their scale (logit, n of "
    f"{COSTLY_FRAMES} frames) · top, all: cosine with the map after the output layer, all layers "
    "were randomised, ρ rank correlation (n)",
    "sum: of the map ÷ logit · pos: positive share · cosines: same AU in other frames, other AUs "
    "and the most alike one (frames) in the same frame, within and across stages",
)


def format_quality(quality: ExplanationQuality) -> list[str]:
    """Write a measurement as a table, one line per AU."""
    lines = [f"LRP {quality.preset} ({quality.engine} engine)"]
    titles = "".join(f"{title:>{width}}" for _, width, title in _COLUMNS)
    lines.append(f"{'AU':<6}{'frames':>6}{'n':>4}{titles}  most alike")
    lines += [_row(au_quality) for au_quality in quality.aus]
    lines += _LEGEND
    lines += [f"! {line}" for line in findings(quality)]
    if not quality.with_regions:
        lines.append("no regions: the network has no 68 landmarks to draw them over")
    if quality.rare:
        rare = ", ".join(f"{au_code(au)} ({n})" for au, n in sorted(quality.rare.items()))
        lines.append(f"active in fewer than {LEAST_FRAMES} frames, not measured: {rare}")
    return lines


def findings(quality: ExplanationQuality) -> list[str]:
    """Say in a line each what is wrong with the maps, as far as the figures tell."""
    lines: list[str] = []
    reported: set[frozenset[int]] = set()
    for au_quality in quality.aus:
        name = au_code(au_quality.au)
        value = {key: figure.value for key, figure in au_quality.figures.items()}
        if (positive := value["positive"]) is not None and positive < AGAINST:
            lines.append(
                f"{name}: its maps speak more against it than for it (positive {positive:.2f}): "
                "it is active at low logits, and its prototypes rest on remainders"
            )
        if (gain := value["morf_random"]) is not None and gain <= 0:
            lines.append(f"{name}: its logit falls no faster by its maps than in random order")
        if (ratio := value["enrichment"]) is not None and ratio < 1:
            lines.append(f"{name}: its region has less relevance than the rest of the face")
        alike = value["nearest"]
        if au_quality.nearest is None or alike is None or alike <= ALIKE:
            continue
        both = frozenset((au_quality.au, au_quality.nearest))
        if both not in reported:
            reported.add(both)
            lines.append(
                f"{name} and {au_code(au_quality.nearest)}: nearly the same map ({alike:.2f})"
            )
    return lines


def _row(au_quality: AUQuality) -> str:
    cells = "".join(
        f"{_number(au_quality.figures[name].value):>{width}}" for name, width, _ in _COLUMNS
    )
    alike = ""
    if au_quality.nearest is not None:
        figure = au_quality.figures["nearest"]
        alike = f"  {au_code(au_quality.nearest)} {_number(figure.value)} ({figure.frames})"
    n = au_quality.figures["morf_lerf"].frames
    return f"{au_code(au_quality.au):<6}{au_quality.frames:>6}{n:>4}{cells}{alike}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def as_json(
    reading: Reading, network: AUNetwork, measured: Sequence[ExplanationQuality]
) -> dict[str, Any]:
    """Return every figure, with what it rests on, as JSON can hold it."""
    result = reading.result
    return {
        "schema": SCHEMA,
        "facestage": importlib.metadata.version("facestage"),
        "source": result.source,
        "model": network.name,
        "sha256": network.card.sha256,
        "device": result.device,
        "detector": result.detector,
        "frames_read": len(result.rows),
        "frames_with_face": reading.faces,
        "frames": list(reading.index),
        "settings": {
            "least_frames": LEAST_FRAMES,
            "costly_frames": COSTLY_FRAMES,
            "draws": DRAWS,
            "pointing_tolerance_px": TOLERANCE,
            "patch_px": PATCH,
            "patches_per_step": PER_STEP,
            "random_orders": RANDOM_ORDERS,
            "blur_px": BLUR,
        },
        "figures": {name: {"taken": how, "is": what} for name, (how, what) in FIGURES.items()},
        "presets": {quality.preset: _preset_json(quality) for quality in measured},
    }


def _preset_json(quality: ExplanationQuality) -> dict[str, Any]:
    between = quality.agreement
    return {
        "engine": quality.engine,
        "aus": {
            str(au_quality.au): {
                "frames": au_quality.frames,
                "nearest": au_quality.nearest,
                "figures": {
                    name: {"value": _finite(figure.value), "frames": figure.frames}
                    for name, figure in au_quality.figures.items()
                },
            }
            for au_quality in quality.aus
        },
        "rare": _keyed(quality.rare),
        "findings": findings(quality),
        "between_aus": {
            "aus": list(between.aus),
            "cosine": [[_finite(value) for value in row] for row in between.cosine.tolist()],
            "frames": between.frames.tolist(),
        },
        "randomisation": {
            "layers": list(quality.layers),
            "cosine": [_finite(value) for value in quality.layer_cosine],
            "rank": [_finite(value) for value in quality.layer_rank],
        },
    }


def _keyed(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(au): number for au, number in sorted(counts.items())}


def _finite(value: float | None) -> float | None:
    """Round to what a sample can tell; None for what is not known."""
    return None if value is None or not math.isfinite(value) else round(value, 4)
