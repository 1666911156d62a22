"""``facestage corpus``: analyse every sequence of a corpus, then evaluate it as the paper does."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import typer

from ...core.backend import namespace
from ...core.clustering.spectral import spray_preset
from ...core.config import AnalyzerConfig
from ...core.errors import ConfigError, SourceError
from ...core.network.au_network import AUNetwork
from ...core.network.selection import parse_aus, select_aus
from ..compute import cores
from ..console import err, out
from ..corpus.engines import check_ray, in_pool, in_process, on_ray
from ..corpus.evaluate import Evaluation, EvaluationOptions, evaluate_corpus
from ..corpus.job import SequenceOutcome, Settings
from ..corpus.page import write_outputs
from ..corpus.store import CorpusFolder, pending
from ..corpus.tables import counted, manifest_csv, table1_lines
from ..datasets.sequences import SequenceItem, read_corpus
from ..detectors import make_detector
from ..progress import interruptible, progress
from .options import analyzer_config, dwell
from .rest import judges_by_rise
from .signatures import CorpusOptions
from .text import selection_text

__all__ = ["parse_shard", "run_corpus"]

ENGINES = ("process", "ray")


def run_corpus(options: CorpusOptions) -> Evaluation | None:
    """Analyse what is not analysed yet, then write tables and pages once all is.

    Returns:
        The evaluation, or None while other parts of the corpus are still to be analysed.

    Raises:
        FacestageError: an option, the corpus, the model or the folder cannot be used.
        typer.Exit: stopped by a signal; the same command goes on from there.
    """
    run = _prepare(options)
    items, folder = run.items, run.folder
    todo = _todo(run)
    with interruptible() as stop:
        if todo:
            _follow(_outcomes(run, todo, stop), len(todo))
        _write_manifest(folder, items)
        stopped = stop()
    states = [folder.state(item) for item in items]
    waiting = states.count("waiting")
    summary = f"{states.count('done')} done, {states.count('failed')} failed, {waiting} waiting"
    if stopped:
        out.print(f"stopped: {summary}; the same command goes on from here", markup=False)
        raise typer.Exit(130)
    _check_written(folder, todo)
    out.print(summary, markup=False)
    if options.shard and waiting:
        out.print("the tables are written by the part that ends last", markup=False)
        return None
    if "done" not in states:
        first = next(item for item in items if folder.state(item) == "failed")
        raise SourceError(
            f"no sequence could be analysed, of {len(items)}; {first.name}: {folder.reason(first)}"
        )
    return _evaluate(run)


@dataclass(frozen=True, slots=True)
class _Run:
    """A corpus and all that its analysis needs, checked before the work begins."""

    options: CorpusOptions
    part: tuple[int, int]
    preset: str
    items: Sequence[SequenceItem]
    network: AUNetwork
    shown: tuple[int, ...]
    config: AnalyzerConfig
    folder: CorpusFolder
    identity: dict[str, Any]
    workers: int


def _prepare(options: CorpusOptions) -> _Run:
    part = parse_shard(options.shard)
    if options.engine not in ENGINES:
        raise ConfigError(f"--engine {options.engine} is unknown; use {' or '.join(ENGINES)}")
    if options.ray_address is not None and options.engine != "ray":
        raise ConfigError("--ray-address needs --engine ray")
    preset = options.preset or ("paper" if options.paper else "sequence")
    spray_preset(preset)
    if options.across:
        namespace(options.window_device)  # refused now, not after hours of work
    config = analyzer_config(
        dwell(options.min_stage, paper=options.paper),
        options.aus,
        baseline=judges_by_rise(options.baseline, paper=options.paper),
        lrp_preset=options.lrp_preset,
    )
    config = replace(config, stage_aus=parse_aus(options.stage_aus))
    items = read_corpus(options.source, options.layout)
    if options.engine == "ray":
        check_ray(options.ray_address)
    network = AUNetwork.load(options.model, device=options.device)
    shown = select_aus(network.card, config.aus)
    identity = _identity(options, network, preset, config)
    folder = CorpusFolder(options.out_dir, identity)
    folder.tidy()
    workers = options.workers or (1 if network.device.type == "cuda" else cores())
    return _Run(options, part, preset, items, network, shown, config, folder, identity, workers)


def _todo(run: _Run) -> list[SequenceItem]:
    """Return what is still to be analysed by this part; say so."""
    options, items = run.options, run.items
    index, parts = run.part
    share = [item for n, item in enumerate(items) if n % parts == index]
    todo = list(pending(run.folder, share, retry=options.retry_failed))
    labelled = sum(bool(item.label) for item in items)
    out.print(
        f"{options.source}: {counted(len(items))} ({options.layout}), {labelled} with a label, "
        f"{len(todo)} to analyse" + (f" in part {options.shard}" if options.shard else ""),
        markup=False,
    )
    if options.layout == "ckplus" and not labelled and not any(item.problem for item in items):
        err.print(
            f"no sequence has a label: nothing is in {options.source / 'Emotion'} "
            "(Emotion_labels.zip of the owners, unpacked beside cohn-kanade-images)",
            markup=False,
        )
    if options.across:
        out.print(f"corpus-wide letters: clustered on {options.window_device}", markup=False)
    return todo


def _outcomes(
    run: _Run, todo: list[SequenceItem], stop: Callable[[], bool]
) -> Iterator[SequenceOutcome]:
    """Analyse sequences by the engine asked for, as they get ready."""
    options = run.options
    settings = Settings(
        out=run.folder.path,
        identity=run.identity,
        config=run.config,
        preset=run.preset,
        model=options.model,
        device=str(run.network.device),
        detector=options.detector,
        threads=options.threads or max(1, cores() // run.workers),
        reports=options.reports,
    )
    if options.engine == "ray":
        return on_ray(todo, settings, run.workers, stop, options.ray_address)
    if run.workers == 1:
        return in_process(todo, settings, run.network, stop)
    return in_pool(todo, settings, run.workers, stop)


def _check_written(folder: CorpusFolder, done: Sequence[SequenceItem]) -> None:
    """Raise if what was analysed is not in the folder: another machine's folder, for example."""
    lost = [item for item in done if folder.state(item) == "waiting"]
    if lost:
        raise ConfigError(
            f"{len(lost)} sequences were analysed, but {folder.path} does not hold them (such as "
            f"{lost[0].name}); with --engine ray it must be the same folder on every machine"
        )


def _evaluate(run: _Run) -> Evaluation:
    """Write tables and pages of the whole corpus, and print Table 1."""
    options, folder = run.options, run.folder
    evaluation = evaluate_corpus(
        folder,
        run.items,
        EvaluationOptions(run.preset, options.across, options.min_support, options.window_device),
        layout=options.layout,
        source=str(run.identity["folder"]),
        facts=_facts(run),
    )
    write_outputs(evaluation, folder)
    # Table 1, a line per label, with the paper's figures below ours.
    for line in table1_lines(evaluation):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    out.print(f"written: {folder.path / 'index.html'}", markup=False)
    return evaluation


def _facts(run: _Run) -> list[tuple[str, str]]:
    """Return what the page says about how the corpus was analysed: name, value."""
    options, network, config = run.options, run.network, run.config
    facts = [
        ("Layout", options.layout),
        ("AU network", f"{network.name}, sha256 {network.card.sha256[:12] or 'not stated'}"),
        ("Action Units", selection_text(network.card, run.shown)),
        ("Face detector", str(run.identity["detector"])),
        ("Clustering (SpRAy preset)", run.preset),
        ("Relevance (LRP preset)", config.explain.preset),
        ("Shortest stage", f"{config.stage.min_stage_s:g} s"),
        ("Personal baseline", "on" if config.baseline.enabled else "off"),
    ]
    if options.across:
        facts.append(("Corpus-wide letters", f"clustered on {options.window_device}"))
    return facts


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
    options: CorpusOptions, network: AUNetwork, preset: str, config: AnalyzerConfig
) -> dict[str, Any]:
    """Return what makes results comparable: results under anything else belong elsewhere."""
    return {
        "folder": os.path.abspath(options.source.expanduser()),
        "layout": options.layout,
        "model": network.name,
        "weights": network.card.sha256,
        "detector": make_detector(options.detector).name,
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
