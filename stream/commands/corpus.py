"""``facestage corpus``: analyse every sequence of a corpus, then evaluate it as the paper does."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from ...core.backend import namespace
from ...core.clustering.spectral import spray_preset
from ...core.config import AnalyzerConfig, ExplainConfig, WindowConfig
from ...core.errors import ConfigError, SourceError
from ...core.network.au_network import AUNetwork
from ...core.network.selection import select_aus
from ..console import err, out
from ..corpus.engines import check_ray, in_pool, in_process, on_ray
from ..corpus.evaluate import MIN_SHARE, Evaluation, EvaluationOptions, evaluate_corpus
from ..corpus.job import SequenceOutcome, Settings
from ..corpus.page import write_outputs
from ..corpus.store import CorpusFolder, pending
from ..corpus.tables import counted, manifest_csv, table1_lines
from ..datasets.sequences import LAYOUTS, SequenceItem, read_corpus
from ..detectors import make_detector
from ..progress import interruptible, progress
from .models import selection_text
from .options import (
    Aus,
    Baseline,
    Detector,
    Device,
    LrpPreset,
    MinStage,
    Paper,
    SprayPreset,
    Weights,
    WindowDevice,
    analyzer_config,
    dwell,
)

__all__ = ["corpus", "parse_shard"]

ENGINES = ("process", "ray")
_LRP_PRESET = ExplainConfig().preset
_WINDOW_DEVICE = WindowConfig().device


def corpus(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Top folder of the corpus, or a manifest.")
    ],
    layout: Annotated[str, typer.Option(help=f"{', '.join(LAYOUTS)}; see the README.")],
    out_dir: Annotated[
        Path,
        typer.Option(
            "--out",
            envvar="FACESTAGE_CORPUS_OUT",
            help="Folder for the results; the same one goes on where a run was stopped.",
        ),
    ],
    paper: Paper = False,
    preset: SprayPreset = None,
    across: Annotated[
        bool,
        typer.Option("--global", help="Also give letters that mean the same in the whole corpus."),
    ] = False,
    min_support: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Least support of a frequent pattern, share of the sequences."
        ),
    ] = MIN_SHARE,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes or actors; default: all cores on the CPU, else 1."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only part I of N, for job arrays.")
    ] = None,
    engine: Annotated[str, typer.Option(help="process, or ray (extra 'ray').")] = "process",
    ray_address: Annotated[
        str | None, typer.Option(help="A running cluster, HOST:PORT or ray://HOST:PORT.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed before.")
    ] = False,
    reports: Annotated[
        bool, typer.Option(help="Write report and pictures of every sequence.")
    ] = True,
    min_stage: MinStage = None,
    device: Device = "auto",
    window_device: WindowDevice = _WINDOW_DEVICE,
    detector: Detector = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads per worker on the CPU; default: cores / workers."),
    ] = None,
    model: Weights = None,
    aus: Aus = "shown",
    baseline: Baseline = False,
    lrp_preset: LrpPreset = _LRP_PRESET,
) -> None:
    """Analyse every sequence of a corpus; Table 1 of the paper, relations, patterns, pages."""
    part = parse_shard(shard)
    if engine not in ENGINES:
        raise ConfigError(f"--engine {engine} is unknown; use {' or '.join(ENGINES)}")
    if ray_address is not None and engine != "ray":
        raise ConfigError("--ray-address needs --engine ray")
    chosen = preset or ("paper" if paper else "sequence")
    spray_preset(chosen)
    if across:
        namespace(window_device)  # refused now, not after hours of work
    config = analyzer_config(
        dwell(min_stage, paper=paper), aus, baseline=baseline, lrp_preset=lrp_preset
    )
    items = read_corpus(source, layout)
    if engine == "ray":
        check_ray(ray_address)
    network = AUNetwork.load(model, device=device)
    shown = select_aus(network.card, config.aus)
    identity = _identity(source, layout, network, make_detector(detector).name, chosen, config)
    folder = CorpusFolder(out_dir, identity)
    folder.tidy()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if workers is None:
        workers = 1 if network.device.type == "cuda" else cores or 1
    settings = Settings(
        out=folder.path,
        identity=identity,
        config=config,
        preset=chosen,
        model=model,
        device=str(network.device),
        detector=detector,
        threads=threads or max(1, (cores or 1) // workers),
        reports=reports,
    )
    mine = [item for n, item in enumerate(items) if n % part[1] == part[0]]
    todo = pending(folder, mine, retry=retry_failed)
    labelled = sum(bool(item.label) for item in items)
    out.print(
        f"{source}: {counted(len(items))} ({layout}), {labelled} with a label, "
        f"{len(todo)} to analyse" + (f" in part {shard}" if shard else ""),
        markup=False,
    )
    if layout == "ckplus" and not labelled and not any(item.problem for item in items):
        err.print(
            f"no sequence has a label: nothing is in {source / 'Emotion'} (Emotion_labels.zip of "
            "the owners, unpacked beside cohn-kanade-images)",
            markup=False,
        )
    facts = [
        ("Layout", layout),
        ("AU network", f"{network.name}, sha256 {network.card.sha256[:12] or 'not stated'}"),
        ("Action Units", selection_text(network.card, shown)),
        ("Face detector", str(identity["detector"])),
        ("Clustering (SpRAy preset)", chosen),
        ("Relevance (LRP preset)", config.explain.preset),
        ("Shortest stage", f"{config.stage.min_stage_s:g} s"),
        ("Personal baseline", "asked for" if baseline else "off"),
    ]
    if across:
        facts.append(("Corpus-wide letters", f"clustered on {window_device}"))
        out.print(f"corpus-wide letters: clustered on {window_device}", markup=False)
    with interruptible() as stop:
        if todo:
            run = {
                "ray": lambda: on_ray(todo, settings, workers, stop, ray_address),
                "process": lambda: (
                    in_process(todo, settings, network, stop)
                    if workers == 1
                    else in_pool(todo, settings, workers, stop)
                ),
            }[engine]
            _follow(run(), len(todo))
        _write_manifest(folder, items)
        stopped = stop()
    states = [folder.state(item) for item in items]
    waiting = states.count("waiting")
    summary = f"{states.count('done')} done, {states.count('failed')} failed, {waiting} waiting"
    if stopped:
        out.print(f"stopped: {summary}; the same command goes on from here", markup=False)
        raise typer.Exit(130)
    lost = [item for item in todo if folder.state(item) == "waiting"]
    if lost:
        raise ConfigError(
            f"{len(lost)} sequences were analysed, but {folder.path} does not hold them (such as "
            f"{lost[0].name}); with --engine ray it must be the same folder on every machine"
        )
    out.print(summary, markup=False)
    if shard and waiting:
        out.print("the tables are written by the part that ends last", markup=False)
        return
    if "done" not in states:
        first = next(item for item in items if folder.state(item) == "failed")
        raise SourceError(
            f"no sequence could be analysed, of {len(items)}; {first.name}: {folder.reason(first)}"
        )
    evaluation = evaluate_corpus(
        folder,
        items,
        EvaluationOptions(chosen, across, min_support, window_device),
        layout=layout,
        source=str(identity["folder"]),
        facts=facts,
    )
    write_outputs(evaluation, folder)
    _print_table(evaluation)
    out.print(f"written: {folder.path / 'index.html'}", markup=False)


def parse_shard(text: str | None) -> tuple[int, int]:
    """Return (part counted from 0, parts).

    >>> parse_shard("2/8")
    (1, 8)

    Raises:
        ConfigError: it is not I/N with 1 ≤ I ≤ N.
    """
    if text is None:
        return 0, 1
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--shard {text} is not a part such as 1/8 … 8/8")
    return int(match[1]) - 1, int(match[2])


def _identity(
    source: Path,
    layout: str,
    network: AUNetwork,
    detector: str,
    preset: str,
    config: AnalyzerConfig,
) -> dict[str, Any]:
    """Return what makes results comparable: results under anything else belong elsewhere."""
    return {
        "folder": os.path.abspath(source.expanduser()),
        "layout": layout,
        "model": network.name,
        "weights": network.card.sha256,
        "detector": detector,
        "preset": preset,
        "lrp_preset": config.explain.preset,
        "aus": str(config.aus),
        "min_stage_s": config.stage.min_stage_s,
        "baseline": config.baseline.enabled,
    }


def _follow(outcomes: Iterator[SequenceOutcome], total: int) -> None:
    """Show how the work goes on; name each sequence that fails."""
    began = time.monotonic()
    done = failed = 0
    analysis = pictures = 0.0
    with progress("sequences", total) as update:

        def text() -> str:
            rate = done / max(time.monotonic() - began, 1e-9)
            left = timedelta(seconds=round((total - done) / rate)) if rate else "?"
            return f"{rate:.2f}/s, {left} left" + (f", {failed} failed" if failed else "")

        for outcome in outcomes:
            done += 1
            analysis += outcome.analysis_s
            pictures += outcome.pictures_s
            if outcome.reason:
                failed += 1
                err.print(f"left out: {outcome.item.name}: {outcome.reason}", markup=False)
            update(done, text)
    if done:
        out.print(
            f"per sequence: {analysis / done:.2f} s analysis, {pictures / done:.2f} s report and "
            "pictures",
            markup=False,
        )


def _write_manifest(folder: CorpusFolder, items: Sequence[SequenceItem]) -> None:
    stored, others = [], []
    for item in items:
        state = folder.state(item)
        if state == "done":
            stored.append(folder.read(item))
        else:
            others.append((item, state, folder.reason(item) if state == "failed" else ""))
    folder.write_text("manifest.csv", manifest_csv(stored, others))


def _print_table(evaluation: Evaluation) -> None:
    """Print Table 1, a line per label, with the paper's figures below ours."""
    for line in table1_lines(evaluation):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
