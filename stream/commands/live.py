"""``facestage demo`` and ``facestage live``: sources to explained stages, a page and a socket."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast, get_args

import msgspec

from ...core.analyzer import Analyzer
from ...core.config import FollowConfig
from ...core.errors import ConfigError
from ...core.network.au_network import AUNetwork
from ...core.network.selection import parse_aus
from ...core.stages import format_labels
from ...core.types import StageEvent
from ..compute import choose_precision, use_threads
from ..console import out
from ..detectors import make_detector
from ..live.background import BackgroundDetector
from ..live.capture import BACKOFF_S
from ..live.handover import Policy
from ..live.metrics import Summary
from ..live.pipeline import Pipeline, Require, Stream
from ..live.privacy import Level, Privacy
from ..live.publish import MASK_SIDE, action_units
from ..protocol.messages import Bye, Hello, StreamInfo
from ..recording.recorder import Recorder
from ..server.certificate import Certificate
from ..server.hub import Hub
from ..server.past import PastRing
from ..server.server import Server
from ..sources import (
    BrowserCamera,
    Inbox,
    Source,
    browser_name,
    may_appear,
    open_source,
    source_name,
)
from .bridges import lsl_push, metrics_page
from .credentials import (
    certificate_notes,
    read_certificate,
    read_sources,
    read_token,
    visible_secrets,
)
from .durations import parse_duration
from .options import analyzer_config, dwell, pictures_by
from .people import people_of, rest_of_people
from .recording import make_recorder, name_sources, tell_recorded
from .rest import judges_by_rise, load_rest, save_rest
from .serving import ending_signals
from .signatures import DemoOptions, LiveOptions, WatchOptions
from .text import device_text, lrp_text, scores_text, selection_text

__all__ = ["run_demo", "run_live"]


_MOST_HISTORY_S = 3600.0  # events are kept as long
PAGE_WAIT_S = 0.2
"""Wait before the webcam of a browser is taken again after a loss, seconds."""

_TEXT_BROWSERS = ("www-browser", "links", "elinks", "lynx", "w3m")


def run_demo(options: DemoOptions) -> Summary:
    """Play the embedded clip; on a terminal over and over, with the page opened.

    Raises:
        FacestageError: an option, the model or the port cannot be used.
    """
    terminal = _is_terminal()
    shared = {
        field.name: getattr(options, field.name) for field in dataclasses.fields(WatchOptions)
    }
    live = LiveOptions(sources=["demo:"], policy="latest", realtime=True, **shared)
    return run_live(live, loop=terminal and options.frames is None)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def run_live(options: LiveOptions, *, loop: bool = False) -> Summary:
    """Explain sources until they end, a signal comes or enough frames were analysed.

    Args:
        options: of the command. The page is opened in a browser on a terminal only.
        loop: whether files begin again at their end.

    Raises:
        FacestageError: an option, the model or the port cannot be used, or a source failed.
    """
    sources = read_sources(options.sources or (), options.source_file)
    token = read_token(options.token, options.token_file)
    certificate = read_certificate(options.cert, options.key)
    use_threads(options.threads)
    session = _prepare(options, sources, _Access(token, certificate), loop=loop)
    open_page = options.browser and _is_terminal()
    summary = asyncio.run(_serve(session, open_page=open_page))
    _print_summary(summary)
    for stream, path in session.rest.items():
        analyzer = session.analyzer
        saved = save_rest(path, analyzer.rest(stream), analyzer.network.card)
        if saved:
            out.print(f"rest     {saved}", markup=False)
    tell_recorded(session.recorder)
    unmet = session.pipeline.unmet()
    for error in session.pipeline.failed:
        if error is not unmet:
            out.print(f"lost     {error}", markup=False)
    if unmet is not None:
        raise unmet
    return summary


@dataclass(frozen=True, slots=True)
class _Access:
    """What keeps others out: the secret, and the certificate that keeps it one on the way."""

    token: str | None
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class _Session:
    """The parts of a live run, put together and not yet started."""

    analyzer: Analyzer
    pipeline: Pipeline
    hello: Hello
    server: Server
    print_token: bool
    notes: list[str]
    recorder: Recorder | None
    rest: dict[str, Path]
    """Stream → file of the rest level of its person."""

    @property
    def address(self) -> str:
        """Address of the page, with the token only if that was asked for."""
        return self.server.url if self.print_token else self.server.address

    @property
    def camera_address(self) -> str:
        """Address of the page that gives the pictures of its webcam; empty where none waits."""
        if not self.server.cameras:
            return ""
        page, mark, token = self.address.partition("#")
        return f"{page}camera{mark}{token}"


def _prepare(
    options: LiveOptions, sources: Sequence[str], access: _Access, *, loop: bool
) -> _Session:
    network = AUNetwork.load(options.model, device=options.device)
    config = analyzer_config(
        dwell(options.min_stage, paper=options.paper),
        options.aus,
        baseline=judges_by_rise(options.baseline, paper=options.paper, rest=options.rest),
        lrp_preset=options.lrp_preset,
        lrp_precision=choose_precision(options.lrp_precision, network, options.lrp_preset),
        window=options.window,
        window_device=options.window_device,
    )
    pictures = pictures_by(options.picture_preset, options.lrp_preset, paper=options.paper)
    explain = dataclasses.replace(config.explain, mask_side=MASK_SIDE, picture_preset=pictures)
    follow = FollowConfig(faces=options.faces, follow=options.follow)
    scores = tuple(options.score or ())
    config = dataclasses.replace(
        config,
        explain=explain,
        follow=follow,
        scores=scores,
        stage_aus=parse_aus(options.stage_aus),
    )
    detector = BackgroundDetector(make_detector(options.detector))
    names = name_sources(_stream_ids(sources), options.name or ())
    people = people_of(
        names, options.person or (), rest=options.rest, judged=config.baseline.enabled
    )
    rest = load_rest(options.rest, network.card, sources=len(sources))
    privacy = _privacy(options, sources)
    if options.rest is not None:
        people = {names[0]: options.rest}
    analyzer = Analyzer(
        detector, network, config, rest=rest or rest_of_people(people, network.card)
    )
    history_s = parse_duration("--history", options.history, most_s=_MOST_HISTORY_S)
    hub = Hub(_stream_infos(analyzer, names), past=PastRing(history_s) if history_s else None)
    several = len(hub.streams) > 1
    inboxes = {
        name: Inbox(name)
        for name, spec in zip(names, sources, strict=True)
        if browser_name(spec) is not None
    }
    pipeline = Pipeline(
        analyzer,
        hub,
        video=options.video and privacy.level != "none",
        require=_require(options),
        max_frames=options.frames,
        on_stage=lambda stream, event: _print_stage(stream, event, several=several),
        on_result=lsl_push(options, hub, analyzer),
    )
    pipeline.privacy = privacy
    for name, spec in zip(names, sources, strict=True):
        pipeline.add(
            name,
            partial(_open, spec, options, inboxes.get(name)),
            policy=_policy(spec, options),
            loop=loop,
            # With one source "any" is "all": its error ends the run at once, and is said once.
            endless=may_appear(spec) and (several or options.require == "none"),
            # Nothing has to be connected to: the page comes to us.
            backoff=(PAGE_WAIT_S,) if name in inboxes else BACKOFF_S,
        )
    hello = _hello(options, analyzer, detector.name)
    hello = msgspec.structs.replace(hello, scores=pipeline.scoring.infos())
    recorder = make_recorder(options, hub, hello, network.card)
    server = Server(
        hub,
        hello=hello,
        host=options.host,
        port=options.port,
        token=access.token,
        allowed_origins=tuple(options.origin or ()),
        certificate=access.certificate,
        max_connections=options.max_connections,
        command=recorder.command if recorder is not None and options.allow_control else None,
    )
    server.cameras = tuple(inboxes.values())
    if options.metrics:
        server.readings["/metrics"] = metrics_page(pipeline, hub, hello)
    notes = visible_secrets(access.token, sources)
    notes += certificate_notes(access.certificate, time.time())
    return _Session(analyzer, pipeline, hello, server, options.print_token, notes, recorder, people)


def _hello(options: LiveOptions, analyzer: Analyzer, detector: str) -> Hello:
    """Return what every client is told first: what analyses, with which settings."""
    network, explain = analyzer.network, analyzer.config.explain
    card = network.card
    return Hello(
        server=importlib.metadata.version("facestage"),
        model=network.name,
        model_card=f"{card.trained_on} {card.intended_use}".strip(),
        device=str(network.device),
        detector=detector,
        lrp_preset=explain.preset,
        picture_preset=explain.picture_preset or explain.preset,
        lrp_engine=analyzer.engine.name,
        lrp_engine_reason=analyzer.engine.reason,
        lrp_precision=explain.precision,
        window_device=analyzer.window_device,
        top_x=explain.top_x,
        aus=action_units(network, analyzer.shown, analyzer.staged),
        baseline=analyzer.config.baseline.enabled,
        video=options.video and options.privacy != "none",
        privacy=options.privacy if options.video else "none",
        allow_control=options.allow_control,
    )


def _privacy(options: LiveOptions, sources: Sequence[str]) -> Privacy:
    """Return what may be sent: of pictures by the options, of files their base names only."""
    full = {source_name(spec) for spec in sources}
    names = {name: _shown_name(name) for name in full if _shown_name(name) != name}
    return Privacy(cast(Level, options.privacy), names)


def _shown_name(name: str) -> str:
    """Return the name of a source for others: without folders, which may be patients' names."""
    return name if "://" in name or name.startswith("/dev/") else os.path.basename(name) or name


def _stream_ids(sources: Sequence[str]) -> list[str]:
    ids: list[str] = []
    for spec in sources:
        name, n = _shown_name(source_name(spec)), 1
        unique = name
        while unique in ids:
            n += 1
            unique = f"{name} #{n}"
        ids.append(unique)
    return ids


def _stream_infos(analyzer: Analyzer, names: Sequence[str]) -> list[StreamInfo]:
    """Return what clients are told of the streams: of each source, one for each of its faces."""
    infos: list[StreamInfo] = []
    for name in names:
        for place, stream in enumerate(analyzer.streams(name)):
            shown = name if place == 0 else f"{name}, face {place + 1}"
            infos.append(StreamInfo(id=stream, name=shown, number=len(infos)))
    return infos


def _open(spec: str, options: LiveOptions, inbox: Inbox | None) -> Source:
    if inbox is not None:
        return BrowserCamera(inbox)
    return open_source(
        spec,
        realtime=options.realtime,
        open_timeout_s=options.open_timeout,
        poll_s=options.poll,
    )


def _policy(spec: str, options: LiveOptions) -> Policy:
    """Return the policy asked for; else ``every`` for what waits for its reader: a file."""
    if options.policy is None:
        waits = spec.lower() == "demo:" or os.path.exists(os.path.expanduser(spec))
        device = spec.startswith("/dev/") or spec.isdigit()
        return "every" if waits and not device and not options.realtime else "latest"
    if options.policy not in get_args(Policy):
        raise ConfigError(f"--policy {options.policy} is unknown; use latest, fifo or every")
    return cast(Policy, options.policy)


def _require(options: LiveOptions) -> Require:
    if options.require not in get_args(Require):
        raise ConfigError(f"--require {options.require} is unknown; use all, any or none")
    return cast(Require, options.require)


async def _serve(session: _Session, *, open_page: bool) -> Summary:
    pipeline, server = session.pipeline, session.server
    loop = asyncio.get_running_loop()
    for number in ending_signals():
        # Not on every platform; there KeyboardInterrupt ends the run without a summary.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, pipeline.stop)
    async with server:
        await asyncio.to_thread(session.analyzer.warm_up)
        await asyncio.to_thread(pipeline.open)
        try:
            if session.recorder is not None:
                session.recorder.start()
            _print_head(session)
        except BaseException:
            # A capture thread that outlives the interpreter's end aborts the process.
            await asyncio.to_thread(pipeline.close)
            raise
        if open_page:
            address = session.camera_address or session.address
            threading.Thread(target=_show, args=(address,), daemon=True).start()
        try:
            summary = await asyncio.to_thread(pipeline.run)
            if not (pipeline.is_stopped or pipeline.failed):
                server.farewell = Bye(reason="the recording has ended", ended=True)
            return summary
        finally:
            pipeline.stop()
            if session.recorder is not None:
                await asyncio.to_thread(session.recorder.stop)


def _show(address: str) -> None:
    """Open the page, unless the only browser is one for the terminal: it would take this one."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    name = os.path.basename(getattr(browser, "name", ""))
    waits = isinstance(browser, webbrowser.GenericBrowser) and not isinstance(
        browser, webbrowser.BackgroundBrowser
    )
    if not waits and name not in _TEXT_BROWSERS:
        browser.open(address)


def _print_head(session: _Session) -> None:
    hello, analyzer = session.hello, session.analyzer
    hint = ""
    if session.server.token is not None and not session.print_token:
        hint = "  (asks for the token; --print-token puts it into the address)"
    out.print(f"page     {session.address}{hint}", markup=False)
    if session.camera_address:
        out.print(
            f"camera   open {session.camera_address} in the browser that has the camera",
            markup=False,
        )
    for note in session.notes:
        out.print(f"note     {note}", markup=False)
    out.print(
        f"device   {device_text(hello.device)}, model {hello.model}, detector {hello.detector}, "
        f"LRP {lrp_text(hello)}, windows on {hello.window_device}",
        markup=False,
    )
    personal = ", judged by their rise over rest" if hello.baseline else ""
    out.print(
        f"AUs      {selection_text(analyzer.network.card, analyzer.shown)}{personal}", markup=False
    )
    for line in scores_text(session.pipeline.scoring.scores, analyzer.shown):
        out.print(f"score    {line}", markup=False)
    out.print(f"source   {', '.join(s.id for s in session.pipeline.streams)}", markup=False)
    if session.recorder is not None:
        out.print(f"record   {session.recorder.folder}", markup=False)


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
    for change in event.changes:
        if change.before and change.after:
            out.print(f"{'':{len(where)}}            {change.text}", markup=False)


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
