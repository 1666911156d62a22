"""``facestage bench``: how fast is this machine, at this load, and where does the time go?"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from rich.table import Table

from ...core.analyzer import Analyzer
from ...core.errors import ConfigError
from ...core.network.au_network import AUNetwork
from ...core.steps import STEPS
from ..bench.figures import SCENARIOS, SCHEMA, Closed, Paced, Report, Spread, Workload
from ..bench.limits import judge, parse_limit
from ..bench.machine import MOST_LOST, describe_machine, is_as_fast, measure_machine
from ..bench.plan import Cell, LiveRunner, cells_of, run_cells
from ..bench.workload import check_cameras, check_sources, with_active
from ..compute import choose_precision, use_threads
from ..console import out
from ..detectors import make_detector
from ..files import check_place, write_file
from ..live.background import BackgroundDetector
from ..live.publish import MASK_SIDE
from ..progress import progress
from ..sources import open_source, source_name
from .options import analyzer_config, dwell
from .signatures import BenchOptions

__all__ = ["parse_duration", "run_bench"]

_ALL = "all"
_PEERS = ("none", "zennit")
_AFTER_S = 1.5
"""Time kept for what is measured after the scenarios, seconds; ``_PEER_S``: for a peer."""
_PEER_S = 4.0
_PEER_PAIRS = 4
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|m|h)?\s*")
_UNITS_S = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def run_bench(options: BenchOptions, clock: Callable[[], float] = time.monotonic) -> Report:
    """Measure, print a table and a verdict, and write the JSON that was asked for.

    Args:
        options: of the command.
        clock: of the budget, seconds.

    Raises:
        FacestageError: an option cannot work, or the model, a device or a source cannot be used.
    """
    started = clock()
    scenarios = _scenarios(options.scenario)
    counts, specs = _counts(options.cameras), options.sources or ["demo:"]
    budget_s = parse_duration(options.budget)
    limits = [parse_limit(text) for text in options.fail_over or ()]
    if options.peers not in _PEERS:
        raise ConfigError(f"--peers {options.peers} is unknown; use {' or '.join(_PEERS)}")
    if options.json_file is not None:
        check_place(options.json_file, "--json")
    check_cameras(counts if {"multi", "paced"} & set(scenarios) else (1,), specs)
    check_sources(specs, open_source)
    use_threads(options.threads)
    workload = Workload(
        scenarios=scenarios,
        sources=tuple(source_name(spec) for spec in specs),
        cameras=counts,
        fps=options.fps,
        jitter=options.jitter,
        seconds=options.seconds,
        active=options.active,
        window_device=options.window_device,
        video=options.video,
        budget_s=budget_s,
    )
    kept = _AFTER_S + (0.0 if options.peers == "none" else _PEER_S)
    left = budget_s - kept
    report = _measure(options, workload, specs, lambda: left - (clock() - started), clock)
    report = msgspec.structs.replace(report, limits=judge(limits, report.results))
    _show(report)
    if options.json_file is not None:
        data = msgspec.json.format(msgspec.json.encode(report), indent=1)
        write_file(options.json_file, data + b"\n")
        out.print(f"written  {options.json_file}", markup=False)
    return report


def parse_duration(text: str) -> float:
    """Return seconds.

    Args:
        text: a number with ``s`` (or nothing), ``m`` or ``h``.

    Raises:
        ConfigError: it is none.

    >>> parse_duration("10m")
    600.0
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ConfigError(f"--budget {text!r} is no time; write it as 90s or 10m")
    return float(found[1]) * _UNITS_S[found[2]]


def _scenarios(name: str) -> tuple[str, ...]:
    if name == _ALL:
        return SCENARIOS
    if name not in SCENARIOS:
        raise ConfigError(
            f"there is no scenario {name!r}; use one of {', '.join(SCENARIOS)} or {_ALL}, and name "
            "the sources after it"
        )
    return (name,)


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(
            f"--cameras {text!r} is no list of numbers; write them as 1,2,4"
        ) from None


def _measure(
    options: BenchOptions,
    workload: Workload,
    specs: Sequence[str],
    left_s: Callable[[], float],
    clock: Callable[[], float],
) -> Report:
    """Measure machine, scenarios, roofline and peers, and the machine again."""
    analyzer = _analyzer(options)
    runner = LiveRunner(
        analyzer,
        [partial(open_source, spec) for spec in specs],
        fps=workload.fps,
        jitter=workload.jitter,
        video=workload.video,
    )
    device = analyzer.network.device
    before = measure_machine(device)
    cells = cells_of(workload.scenarios, workload.cameras)
    with progress("bench", len(cells)) as show:

        def tell(done: int, cell: Cell) -> None:
            show(done, lambda: str(cell))

        measured = run_cells(
            cells,
            runner,
            seconds=workload.seconds,
            budget_s=left_s(),
            clock=clock,
            tell=tell,
        )
        show(len(cells), lambda: "")
    roofline = runner.roofline(before)
    peers = runner.compare(options.peers, _PEER_PAIRS)
    after = measure_machine(device)
    return Report(
        schema=SCHEMA,
        environment=describe_machine(
            device,
            model=analyzer.network.name,
            detector=analyzer.detector_name,
            precision=analyzer.config.explain.precision,
        ),
        workload=workload,
        before=before,
        after=after,
        valid=is_as_fast(before, after),
        results=measured.results,
        roofline=roofline,
        peers=peers,
        cut=measured.cut,
    )


def _analyzer(options: BenchOptions) -> Analyzer:
    """Return the analyzer that is measured, warmed up."""
    network = AUNetwork.load(options.model, device=options.device)
    config = analyzer_config(
        dwell(None, paper=False),
        "shown",
        baseline=True,
        lrp_preset=options.lrp_preset,
        lrp_precision=choose_precision(options.lrp_precision, network, options.lrp_preset),
        window_device=options.window_device,
    )
    explain = dataclasses.replace(config.explain, mask_side=MASK_SIDE)
    config = dataclasses.replace(config, explain=explain)
    network, config = with_active(network, config, options.active)
    analyzer = Analyzer(BackgroundDetector(make_detector(options.detector)), network, config)
    analyzer.warm_up()
    return analyzer


# --- what is printed ------------------------------------------------------------------------------


def _show(report: Report) -> None:
    """Print the machine, one table of steps, a line per measurement, and the verdict."""
    machine, speed = report.environment, report.before
    out.print(
        f"machine  {machine.gpu or machine.cpu}, {machine.affinity} cores, "
        f"{machine.torch_threads} threads for the network; {speed.gemm_gflops:.0f} GFLOP/s, copies "
        f"{speed.copy_gb_per_s:.1f} GB/s, load {'unknown' if speed.load is None else speed.load}",
        markup=False,
    )
    columns = _columns(report)
    if columns:
        out.print(_table(columns))
    results = report.results
    closed = ({"single": results.single} if results.single else {}) | {
        f"multi {count}": one for count, one in results.multi.items()
    }
    for name, one in closed.items():
        out.print(
            f"{name:9s}{one.frames_per_s:.1f} frames/s, round p50 {one.round.p50:.1f} ms, p99 "
            f"{one.round.p99:.1f} ms, first {one.first_ms:.0f} ms, {one.active_per_frame:.1f} AUs "
            "explained in a frame"
        )
    for count, paced in results.paced.items():
        out.print(f"paced {count:3s}{_paced_text(paced)}")
    if results.offline is not None:
        offline = results.offline
        out.print(
            f"offline  {offline.frames_per_s:.1f} frames/s, {offline.maps_per_s:.1f} maps/s, peak "
            f"memory {offline.peak_memory_mb:.0f} MB"
        )
    for name, peer in report.peers.items():
        out.print(
            f"peer     {name}: {peer.peer_ms:.1f} ms for {peer.pairs} maps, ours "
            f"{peer.ours_ms:.1f} ms: {peer.ratio:.1f} times as long"
        )
    if report.cut:
        out.print(f"cut      no time in the budget for {', '.join(report.cut)}", markup=False)
    for verdict in report.limits:
        value = "not measured" if verdict.value is None else f"{verdict.value:g}"
        kept = "kept" if verdict.holds else "broken"
        out.print(f"limit    {verdict.limit}: {value}, {kept}", markup=False)
    out.print(_verdict(report), markup=False)


def _paced_text(paced: Paced) -> str:
    latency = paced.capture_to_emit
    emit = "no frame" if latency is None else f"p50 {latency.p50:.0f}, p99 {latency.p99:.0f} ms"
    return (
        f"{paced.analysed_per_s:.1f} of {paced.fps:g} frames/s each, capture to emit {emit}, "
        f"dropped {100 * paced.drop_share:.1f} %, later than 33/67/100 ms "
        f"{100 * paced.missed_33ms:.0f}/{100 * paced.missed_67ms:.0f}/"
        f"{100 * paced.missed_100ms:.0f} %, {paced.cpu_s_per_camera_s:.2f} CPU s per camera and s"
    )


def _columns(report: Report) -> dict[str, Closed | Paced]:
    """Return the measurements whose steps the table shows: one camera, and the most at a pace."""
    results = report.results
    columns: dict[str, Closed | Paced] = {}
    if results.single is not None:
        columns["single"] = results.single
    name, found = ("paced", results.paced) if results.paced else ("multi", results.multi)
    if found:
        most = max(found, key=int)
        columns[f"{name} {most}"] = found[most]
    return columns


def _table(columns: dict[str, Closed | Paced]) -> Table:
    table = Table(title="ms: p50 / p99, and the mean of what its thread computed", box=None)
    table.add_column("step")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for step in [name for name in STEPS if any(name in one.steps for one in columns.values())]:
        table.add_row(step, *(_cell(one, step) for one in columns.values()))
    rounds = [one.round if isinstance(one, Closed) else None for one in columns.values()]
    if any(rounds):
        means = [one.round_cpu if isinstance(one, Closed) else None for one in columns.values()]
        table.add_row("all", *map(_spreads, rounds, means))
    return table


def _cell(one: Closed | Paced, step: str) -> str:
    figures = one.steps.get(step)
    return "" if figures is None else _spreads(figures.gpu or figures.wall, figures.cpu)


def _spreads(wall: Spread | None, cpu: Spread | None) -> str:
    if wall is None or cpu is None:
        return ""
    return f"{wall.p50:.2f} / {wall.p99:.2f}  {cpu.mean:.2f}"


def _verdict(report: Report) -> str:
    """Return the one line that says how it went."""
    broken = sum(not verdict.holds for verdict in report.limits)
    parts = []
    if report.limits:
        parts.append(f"{broken} of {len(report.limits)} limits broken" if broken else "limits kept")
    if not report.valid:
        parts.append(
            f"not valid: the machine lost more than {100 * MOST_LOST:.0f} % of its speed meanwhile "
            f"({report.before.gemm_gflops:.0f} → {report.after.gemm_gflops:.0f} GFLOP/s, "
            f"{report.before.copy_gb_per_s:.1f} → {report.after.copy_gb_per_s:.1f} GB/s); "
            "measure again while nothing else runs"
        )
    else:
        parts.append("valid: the machine was as fast after as before")
    load, cores = report.before.load, report.environment.affinity
    if load is not None and load > cores:
        parts.append(
            f"but {load:.0f} threads already wanted the {cores} cores before: these are the "
            "figures of a busy machine"
        )
    return f"verdict  {'; '.join(parts)}"
