"""The command line: ``facestage demo | live | analyze | corpus | models | explain-quality | …``.

Every option can also be set by environment: ``facestage live --port`` is ``FACESTAGE_LIVE_PORT``.
Exit codes: 0 done, 2 usage, 4 a source failed, 5 a model or device failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import io
import logging
import os
import signal
import sys
import threading
import webbrowser
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, cast, get_args

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..core.analyzer import Analyzer
from ..core.config import ExplainConfig, WindowConfig
from ..core.errors import ConfigError, FacestageError
from ..core.lrp import SlowEngineWarning
from ..core.network.au_network import AUNetwork
from ..core.render.mask_track import MaskTrack
from ..core.sequence import SequenceAnalyzer
from ..core.stages import format_labels, format_prototype, reduction
from ..core.types import SequenceResult, StageEvent
from .commands.corpus import corpus
from .commands.explain_quality import explain_quality
from .commands.learning import evaluate, train
from .commands.models import models_app, selection_text
from .commands.options import (
    Aus,
    Baseline,
    Detector,
    Device,
    LrpPrecision,
    LrpPreset,
    MinStage,
    Paper,
    SprayPreset,
    Weights,
    WindowDevice,
    analyzer_config,
    dwell,
)
from .compute import choose_precision, limit_blas
from .console import err, out, tell_warnings
from .detectors import make_detector
from .live.handover import Policy
from .live.metrics import Summary
from .live.pipeline import Pipeline, StepClock, Stream
from .live.publish import MASK_SIDE, action_units
from .offline.analyze import analyze_source
from .offline.annotate import write_annotated
from .offline.exports import ANNOTATED, check_output, write_analysis
from .protocol.messages import Hello, StreamInfo
from .server.hub import Hub
from .server.server import Server
from .sources import Source, open_source, source_name

__all__ = ["app", "main"]

app = typer.Typer(
    name="facestage",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "FACESTAGE"},
    help="Explained facial Action Units, live: stages, and when the explanation changes. "
    "Research software, not a medical device.",
)
app.add_typer(models_app, name="models")


Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads for the network on the CPU; default: half the cores."),
]
Host = Annotated[str, typer.Option(help="Address to listen on; any but loopback needs --token.")]
Port = Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")]
Token = Annotated[str | None, typer.Option(help="Secret that every client must send.")]
LivePaper = Annotated[
    bool, typer.Option("--paper", help="As in the paper: every frame counts (no minimum dwell).")
]
Video = Annotated[bool, typer.Option("--video/--no-video", help="Send pictures to the page.")]


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"facestage {importlib.metadata.version('facestage')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    tell_warnings(SlowEngineWarning)
    # A client that breaks its handshake is its own problem, not a line in everybody's log.
    logging.getLogger("websockets").setLevel(logging.ERROR if not verbose else logging.INFO)


@app.command()
def demo(
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after N analysed frames.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    host: Host = "127.0.0.1",
    port: Port = 8765,
    token: Token = None,
    device: Device = "auto",
    detector: Detector = "auto",
    threads: Threads = None,
    aus: Aus = "shown",
    baseline: Baseline = False,
    lrp_preset: LrpPreset = ExplainConfig().preset,
    lrp_precision: LrpPrecision = ExplainConfig().precision,
    min_stage: MinStage = None,
) -> None:
    """Play the embedded clip of a synthetic face through the whole live path.

    On a terminal it loops until Ctrl-C; without one it plays once.
    """
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    options = LiveOptions(
        sources=("demo:",),
        host=host,
        port=port,
        token=token,
        device=device,
        detector=detector,
        threads=threads,
        aus=aus,
        baseline=baseline,
        lrp_preset=lrp_preset,
        lrp_precision=lrp_precision,
        policy="latest",
        realtime=True,
        loop=terminal and frames is None,
        min_stage_s=dwell(min_stage, paper=False),
        max_frames=frames,
        open_page=terminal and browser,
    )
    _run_live(options)


@app.command()
def live(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Camera number, /dev/video0, rtsp:// or http(s):// address, video file, folder of "
            "images, or demo:",
        ),
    ],
    host: Host = "127.0.0.1",
    port: Port = 8765,
    token: Token = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="Foreign page allowed to connect (https://…).")
    ] = None,
    device: Device = "auto",
    detector: Detector = "auto",
    threads: Threads = None,
    model: Weights = None,
    aus: Aus = "shown",
    baseline: Baseline = False,
    lrp_preset: LrpPreset = ExplainConfig().preset,
    lrp_precision: LrpPrecision = ExplainConfig().precision,
    policy: Annotated[
        str | None,
        typer.Option(
            help="latest (newest frame wins), fifo (at most 0.5 s old) or every (no frame lost); "
            "default: latest, and every for files not played in real time."
        ),
    ] = None,
    realtime: Annotated[bool, typer.Option(help="Play files at their own pace.")] = False,
    window: Annotated[int | None, typer.Option(help="Maps per AU in the sliding window.")] = None,
    window_device: WindowDevice = WindowConfig().device,
    min_stage: MinStage = None,
    paper: LivePaper = False,
    video: Video = True,
    open_timeout: Annotated[float, typer.Option(help="Longest wait for a stream, seconds.")] = 10.0,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after N analysed frames.")] = None,
) -> None:
    """Explain live sources, with a page to watch and a websocket to listen to."""
    options = LiveOptions(
        sources=tuple(sources),
        host=host,
        port=port,
        token=token,
        origins=tuple(origin or ()),
        device=device,
        detector=detector,
        threads=threads,
        model=model,
        aus=aus,
        baseline=baseline,
        lrp_preset=lrp_preset,
        lrp_precision=lrp_precision,
        policy=policy,
        realtime=realtime,
        window=window,
        window_device=window_device,
        min_stage_s=dwell(min_stage, paper=paper),
        video=video,
        open_timeout_s=open_timeout,
        max_frames=frames,
    )
    _run_live(options)


@app.command()
def analyze(
    source: Annotated[str, typer.Argument(help="Video file, folder of images, or demo:")],
    out_dir: Annotated[
        Path, typer.Option("--out", envvar="FACESTAGE_ANALYZE_OUT", help="Folder for the results.")
    ],
    paper: Paper = False,
    preset: SprayPreset = None,
    min_stage: MinStage = None,
    device: Device = "auto",
    detector: Detector = "auto",
    threads: Threads = None,
    model: Weights = None,
    aus: Aus = "shown",
    baseline: Baseline = False,
    lrp_preset: LrpPreset = ExplainConfig().preset,
    lrp_precision: LrpPrecision = ExplainConfig().precision,
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after N frames.")] = None,
    annotate: Annotated[
        bool,
        typer.Option("--annotate", help=f"Write {ANNOTATED} too: relevance over the moving face."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Move a folder that holds something else aside.")
    ] = False,
) -> None:
    """Explain a whole recording: temporal prototype, pictures, report."""
    check_output(out_dir, overwrite=overwrite)
    _use_threads(threads)
    network = AUNetwork.load(model, device=device)
    config = analyzer_config(
        dwell(min_stage, paper=paper),
        aus,
        baseline=baseline,
        lrp_preset=lrp_preset,
        lrp_precision=choose_precision(lrp_precision, network, lrp_preset),
    )
    analyzer = SequenceAnalyzer(
        make_detector(detector),
        network,
        config,
        preset=preset or ("paper" if paper else "sequence"),
    )
    track = MaskTrack(MASK_SIDE, config.explain.top_x) if annotate else None
    with _progress() as progress:
        task = progress.add_task(source_name(source), total=None)
        result = analyze_source(
            source,
            analyzer,
            max_frames=frames,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            on_seen=None if track is None else track.add,
        )
    on, off = network.card.thresholds()
    limits = {au: (float(on[i]), float(off[i])) for i, au in enumerate(network.card.aus)}
    write_analysis(result, out_dir, overwrite=overwrite, thresholds=limits)
    try:
        if track is not None:
            with _progress() as progress:
                task = progress.add_task(ANNOTATED, total=len(result.rows))
                write_annotated(
                    source,
                    result,
                    track,
                    out_dir / ANNOTATED,
                    on_progress=lambda done, _: progress.update(task, completed=done),
                )
    finally:
        # What is written already is told whatever becomes of the video, and a reader of this text
        # who leaves early (a pipe into head) does not cost it.
        _print_analysis(result, network, out_dir)
    if track is not None:
        out.print(f"written: {out_dir / ANNOTATED}", markup=False)


app.command()(corpus)
app.command()(train)
app.command()(evaluate)
app.command()(explain_quality)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """What ``demo`` and ``live`` need to know; see the options of the same names."""

    sources: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    origins: tuple[str, ...] = ()
    device: str = "auto"
    detector: str = "auto"
    threads: int | None = None
    model: Path | None = None
    aus: str = "shown"
    baseline: bool = False
    lrp_preset: str = ExplainConfig().preset
    lrp_precision: str = ExplainConfig().precision
    policy: str | None = None
    realtime: bool = False
    loop: bool = False
    window: int | None = None
    window_device: str = WindowConfig().device
    min_stage_s: float = 0.2
    video: bool = True
    open_timeout_s: float = 10.0
    max_frames: int | None = None
    open_page: bool = False


def _print_analysis(result: SequenceResult, network: AUNetwork, out_dir: Path) -> None:
    """Say what was found in a sequence, by what, and where it is written."""
    out.print(f"{result.source}: {len(result.rows)} frames, {result.fps:g} fps", markup=False)
    out.print(
        f"device {_device(result.device)}, model {result.model}, detector {result.detector}, "
        f"LRP {_lrp(result)}, SpRAy {result.preset}",
        markup=False,
    )
    shown_aus = tuple(au for au in result.aus if au not in result.hidden)
    out.print(f"AUs: {selection_text(network.card, shown_aus)}", markup=False)
    if result.baseline:
        out.print(f"baseline: {_baseline_text(result)}", markup=False)
    out.print(format_prototype(result.stages), markup=False)
    share = reduction(len(result.stages), len(result.rows))
    shown = len({label for stage in result.stages for label in stage.labels if "_" in label})
    brief = len(result.prototypes) - shown
    also = f" (and {brief} too brief for a stage)" if brief else ""
    out.print(
        f"stages: {len(result.stages)}, prototypes in them: {shown}{also}, reduction in "
        f"description length: {share:.0%}",
        markup=False,
    )
    if result.note:
        out.print(f"note: {result.note}", markup=False)
    out.print(f"written: {out_dir / 'report.html'}", markup=False)


def _progress() -> Progress:
    """Return a bar on stderr, shown on a terminal only."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def _use_threads(wanted: int | None) -> None:
    """Share the cores out between the network and the rest: capture, decoding, server.

    Threads of the network that wait for each other spin. On two cores, two of them beside a
    decoding capture thread made each frame tens of times slower than one (benchmarks/live.py).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(wanted or max(1, (cores or 1) // 2))
    limit_blas(1)  # products of windows and sequences are small: more threads made them no faster


def _baseline_text(result: SequenceResult) -> str:
    usable = [row for row in result.rows if row.presence is not None]
    adjusted = sum(row.adjusted_presence is not None for row in usable)
    if adjusted:
        return f"applied to {adjusted} of {len(usable)} frames with a usable face"
    return "not applied: the face never rested for long enough to learn it"


def _stream_ids(sources: tuple[str, ...]) -> list[str]:
    ids: list[str] = []
    for spec in sources:
        name, n = source_name(spec), 1
        unique = name
        while unique in ids:
            n += 1
            unique = f"{name} #{n}"
        ids.append(unique)
    return ids


def _run_live(options: LiveOptions) -> None:
    _use_threads(options.threads)
    network = AUNetwork.load(options.model, device=options.device)
    config = analyzer_config(
        options.min_stage_s,
        options.aus,
        baseline=options.baseline,
        lrp_preset=options.lrp_preset,
        lrp_precision=choose_precision(options.lrp_precision, network, options.lrp_preset),
        window=options.window,
        window_device=options.window_device,
    )
    detector = make_detector(options.detector)
    steps = StepClock()
    analyzer = Analyzer(detector, network, config, on_step=steps)
    names = _stream_ids(options.sources)
    hub = Hub([StreamInfo(id=name, name=name, number=n) for n, name in enumerate(names)])
    several = len(names) > 1
    pipeline = Pipeline(
        analyzer,
        hub,
        video=options.video,
        max_frames=options.max_frames,
        step_clock=steps,
        on_stage=lambda stream, event: _print_stage(stream, event, several=several),
    )
    for name, spec in zip(names, options.sources, strict=True):
        pipeline.add(
            name, partial(_open, spec, options), policy=_policy(spec, options), loop=options.loop
        )
    card = network.card
    hello = Hello(
        server=importlib.metadata.version("facestage"),
        model=network.name,
        model_card=f"{card.trained_on} {card.intended_use}".strip(),
        device=str(network.device),
        detector=detector.name,
        lrp_preset=analyzer.config.explain.preset,
        lrp_engine=analyzer.engine.name,
        lrp_engine_reason=analyzer.engine.reason,
        lrp_precision=config.explain.precision,
        window_device=analyzer.window_device,
        top_x=analyzer.config.explain.top_x,
        aus=action_units(network, analyzer.shown),
        baseline=options.baseline,
        video=options.video,
    )
    server = Server(
        hub,
        hello=hello,
        host=options.host,
        port=options.port,
        token=options.token,
        allowed_origins=options.origins,
    )
    summary = asyncio.run(_serve(pipeline, server, hello, options, analyzer))
    _print_summary(summary)
    if pipeline.failed:
        raise pipeline.failed[0]


def _open(spec: str, options: LiveOptions) -> Source:
    return open_source(spec, realtime=options.realtime, open_timeout_s=options.open_timeout_s)


def _policy(spec: str, options: LiveOptions) -> Policy:
    """Return the policy asked for; else ``every`` for what waits for its reader: a file."""
    if options.policy is None:
        waits = spec.lower() == "demo:" or os.path.exists(os.path.expanduser(spec))
        device = spec.startswith("/dev/") or spec.isdigit()
        return "every" if waits and not device and not options.realtime else "latest"
    if options.policy not in get_args(Policy):
        raise ConfigError(f"--policy {options.policy} is unknown; use latest, fifo or every")
    return cast(Policy, options.policy)


async def _serve(
    pipeline: Pipeline,
    server: Server,
    hello: Hello,
    options: LiveOptions,
    analyzer: Analyzer,
) -> Summary:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not on every platform; there KeyboardInterrupt ends the run without a summary.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, pipeline.stop)
    async with server:
        await asyncio.to_thread(analyzer.warm_up)
        await asyncio.to_thread(pipeline.open)
        try:
            _print_head(hello, server, pipeline, analyzer)
        except BaseException:
            # A capture thread that outlives the interpreter's end aborts the process.
            await asyncio.to_thread(pipeline.close)
            raise
        if options.open_page:
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        try:
            return await asyncio.to_thread(pipeline.run)
        finally:
            pipeline.stop()


def _device(name: str) -> str:
    n = torch.get_num_threads()
    return f"{name} ({n} thread{'s' if n > 1 else ''})" if name == "cpu" else name


def _lrp(told: Hello | SequenceResult) -> str:
    """Name the preset and the engine that runs it; of the slow one, why it must."""
    reason = f": {told.lrp_engine_reason}" if told.lrp_engine_reason else ""
    rough = f", {told.lrp_precision}" if told.lrp_precision != ExplainConfig().precision else ""
    return f"{told.lrp_preset} ({told.lrp_engine} engine{rough}{reason})"


def _print_head(hello: Hello, server: Server, pipeline: Pipeline, analyzer: Analyzer) -> None:
    out.print(f"facestage {hello.server}: research software, not a medical device")
    out.print(f"page     {server.url}", markup=False)
    out.print(
        f"device   {_device(hello.device)}, model {hello.model}, detector {hello.detector}, "
        f"LRP {_lrp(hello)}, windows on {hello.window_device}",
        markup=False,
    )
    personal = ", personal baseline" if hello.baseline else ""
    out.print(
        f"AUs      {selection_text(analyzer.network.card, analyzer.shown)}{personal}", markup=False
    )
    out.print(f"source   {', '.join(s.id for s in pipeline.streams)}", markup=False)


def _print_stage(stream: Stream, event: StageEvent, *, several: bool) -> None:
    if event.kind == "exit":
        return
    where = f"{stream.id}: " if several else ""
    before = "" if event.previous is None else f"{format_labels(event.previous)} → "
    note = ""
    if event.kind == "revise":
        before, note = "… now ", ", revised"
    out.print(
        f"{where}{event.start_s:8.2f} s  {before}{format_labels(event.labels)}"
        f"  [{event.reason}{note}]",
        markup=False,
    )


def _print_summary(summary: Summary) -> None:
    drops = ", ".join(f"{n} {cause}" for cause, n in summary.drops.items()) or "none"
    out.print(
        f"summary  {summary.frames} frames analysed"
        + (f" at {summary.fps:.1f} fps" if summary.fps and summary.seconds > 1 else "")
        + f", drops: {drops}, {summary.stages} stages"
    )
    counters = summary.counters
    out.print(
        f"explained {counters['pairs_explained']} relevance maps in "
        f"{counters['frames_explained']} frames"
    )
    if summary.latency_p50_ms is not None and summary.latency_p99_ms is not None:
        out.print(
            f"latency  capture to emit p50 {summary.latency_p50_ms:.0f} ms, "
            f"p99 {summary.latency_p99_ms:.0f} ms"
        )
    if summary.steps_ms:
        steps = ", ".join(f"{step} {ms:.1f}" for step, ms in summary.steps_ms.items())
        out.print(f"steps    ms per frame: {steps}")


def main() -> None:
    """Run the command line; turn every error of ours into one line and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 shows "?" for what it lacks, instead of ending the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except FacestageError as error:
        err.print(f"facestage: {error}", markup=False)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone (a pipe into head): nothing left to say.
        sys.exit(0)
