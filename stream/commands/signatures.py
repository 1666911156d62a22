"""The options of each command, as data: one frozen dataclass a command, one field an option.

The same records run the commands from Python, without a command line::

    from facestage.stream.commands.analyze import run_analyze
    from facestage.stream.commands.signatures import AnalyzeOptions

    run_analyze(AnalyzeOptions(source="demo:", out_dir=Path("out")))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ...core.config import (
    COSTLY_FRAMES,
    DEFAULT_LRP_PRESET,
    LEAST_FRAMES,
    MIN_SHARE,
    SAMPLE_FRAMES,
    ExplainConfig,
    FollowConfig,
    WindowConfig,
)
from ...core.errors import ConfigError
from ...core.lrp import LRP_PRESETS
from ..server.limits import MAX_CONNECTIONS
from .cameras import no_source_text
from .options import (
    AllowControl,
    Aus,
    Baseline,
    Cert,
    Config,
    Detector,
    Device,
    Exclude,
    Faces,
    Follow,
    History,
    Host,
    Key,
    LrpPrecision,
    LrpPreset,
    MaxConnections,
    MinStage,
    Names,
    NetworkThreads,
    Paper,
    People,
    PicturePreset,
    Port,
    PrintToken,
    Privacy,
    Record,
    RecordMax,
    RecordVideo,
    Rest,
    RestFrom,
    Scores,
    SessionFolder,
    SprayPreset,
    StageAus,
    Token,
    TokenFile,
    TorchThreads,
    Weights,
    WindowDevice,
)

__all__ = [
    "ALL_PRESETS",
    "ANNOTATE_FORMATS",
    "CORPUS_LAYOUTS",
    "MOST_FRAMES",
    "AnalyzeOptions",
    "BenchOptions",
    "CorpusOptions",
    "DemoOptions",
    "DoctorOptions",
    "EvaluateOptions",
    "ExportOptions",
    "LiveOptions",
    "MarkerOptions",
    "QualityOptions",
    "ReplayOptions",
    "ReportOptions",
    "TrainOptions",
    "WatchOptions",
]

CORPUS_LAYOUTS = ("ckplus", "actorstudy", "videos", "manifest")
"""Names of the layouts that ``corpus`` reads."""
ANNOTATE_FORMATS = ("mp4", "webm")
"""Formats of the annotated video."""
ALL_PRESETS = "all"
"""In place of an LRP preset: each of them, a table each."""
MOST_FRAMES = 1000
"""Most frames that explanation quality can be measured on: their maps are kept in memory, 36 KiB
per AU active in one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceOptions:
    """How faces are found, and where the network runs."""

    device: Device = "auto"
    detector: Detector = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOptions(FaceOptions):
    """What makes an explained stage of a frame."""

    aus: Aus = "shown"
    stage_aus: StageAus = "shown"
    baseline: Baseline = None
    lrp_preset: LrpPreset = DEFAULT_LRP_PRESET
    min_stage: MinStage = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions(ExplainOptions):
    """What ``demo`` and ``live`` share."""

    picture_preset: PicturePreset = None
    host: Host = "127.0.0.1"
    port: Port = 8765
    token: Token = None
    token_file: TokenFile = None
    print_token: PrintToken = False
    max_connections: MaxConnections = MAX_CONNECTIONS
    history: History = "10m"
    cert: Cert = None
    key: Key = None
    threads: NetworkThreads = None
    lrp_precision: LrpPrecision = ExplainConfig().precision
    rest: Rest = None
    score: Scores = None
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Tell Prometheus counts and latencies at /metrics.")
    ] = False
    lsl: Annotated[
        bool, typer.Option("--lsl", help="Send AU values and stages by Lab Streaming Layer.")
    ] = False
    faces: Faces = FollowConfig().faces
    follow: Follow = FollowConfig().follow
    name: Names = None
    person: People = None
    record: Record = None
    record_max: RecordMax = "20GB"
    record_video: RecordVideo = False
    allow_control: AllowControl = False
    config: Config = None
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after N analysed frames.")] = None
    privacy: Privacy = "picture"
    browser: Annotated[
        bool, typer.Option(help="Open the page in a browser, where there is a terminal.")
    ] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions(WatchOptions):
    """Options of ``facestage demo``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions(WatchOptions):
    """Options of ``facestage live``.

    Raises:
        ConfigError: neither a source nor a file of sources is named.
    """

    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            envvar="FACESTAGE_LIVE_SOURCE",
            help="Camera number, /dev/video0, rtsp:// or http(s):// address, video file, folder of "
            "images, browser: (the webcam of a browser, here or elsewhere) or demo:; in the "
            "environment, several are separated by spaces.",
        ),
    ] = None
    source_file: Annotated[
        Path | None,
        typer.Option(
            help="File of further sources, one per line (# begins a comment): the process list "
            "does not show the passwords in it."
        ),
    ] = None
    origin: Annotated[
        list[str] | None, typer.Option(help="Foreign page allowed to connect (https://…).")
    ] = None
    model: Weights = None
    policy: Annotated[
        str | None,
        typer.Option(
            help="latest (show the newest frame, drop older ones), fifo (in order, at most 0.5 s "
            "old) or every (no frame lost); default: latest, and every for files not played in "
            "real time."
        ),
    ] = None
    require: Annotated[
        str,
        typer.Option(
            help="all, any or none: how many of the sources the run needs. A camera or stream that "
            "is not needed and missing at the start is waited for; the run fails (exit code 4) "
            "only when too few are left."
        ),
    ] = "any"
    realtime: Annotated[bool, typer.Option(help="Play files at their own pace.")] = False
    window: Annotated[int | None, typer.Option(help="Maps per AU in the sliding window.")] = None
    window_device: WindowDevice = WindowConfig().device
    paper: Annotated[
        bool,
        typer.Option("--paper", help="As in the paper: every frame counts (no minimum dwell)."),
    ] = False
    video: Annotated[
        bool, typer.Option("--video/--no-video", help="Send pictures to the page.")
    ] = True
    open_timeout: Annotated[float, typer.Option(help="Longest wait for a stream, seconds.")] = 10.0
    poll: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            metavar="SECONDS",
            help="Ask an address that gives one picture (http://camera/snapshot.jpg) for the next "
            "after so long.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if not self.sources and self.source_file is None:
            raise ConfigError(no_source_text())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """Options of ``facestage replay``."""

    session: SessionFolder
    speed: Annotated[
        str, typer.Option(help="Seconds of the session per second, or max: as fast as can be sent.")
    ] = "1"
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Begin there: seconds, or 00:01:20.")
    ] = "0"
    paused: Annotated[
        bool, typer.Option("--paused", help="Wait until the page, or a client, says play.")
    ] = False
    once: Annotated[
        bool, typer.Option("--once", help="End with the session; else Ctrl-C ends it.")
    ] = False
    host: Host = "127.0.0.1"
    port: Port = 8765
    token: Token = None
    token_file: TokenFile = None
    print_token: PrintToken = False
    max_connections: MaxConnections = MAX_CONNECTIONS
    cert: Cert = None
    key: Key = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """Options of ``facestage report``."""

    session: SessionFolder
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out",
            envvar="FACESTAGE_REPORT_OUT",
            help="Folder for the results; default: report, in the session.",
        ),
    ] = None
    overwrite: Annotated[
        bool, typer.Option(help="Move a folder that holds something else aside.")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzeOptions(ExplainOptions):
    """Options of ``facestage analyze``."""

    source: Annotated[str, typer.Argument(help="Video file, folder of images, or demo:")]
    out_dir: Annotated[
        Path, typer.Option("--out", envvar="FACESTAGE_ANALYZE_OUT", help="Folder for the results.")
    ]
    paper: Paper = False
    preset: SprayPreset = None
    picture_preset: PicturePreset = None
    threads: NetworkThreads = None
    model: Weights = None
    lrp_precision: LrpPrecision = ExplainConfig().precision
    rest: Rest = None
    rest_from: RestFrom = None
    score: Scores = None
    exclude: Exclude = None
    faces: Faces = FollowConfig().faces
    follow: Follow = FollowConfig().follow
    frames: Annotated[int | None, typer.Option(min=1, help="Stop after N frames.")] = None
    annotate: Annotated[
        bool,
        typer.Option("--annotate", help="Write annotated.mp4 too: relevance over the moving face."),
    ] = False
    annotate_format: Annotated[
        str, typer.Option(help="mp4 (H.264) or webm (VP8): what --annotate writes.")
    ] = "mp4"
    overwrite: Annotated[
        bool,
        typer.Option(help="Move a folder that holds something else, or another result, aside."),
    ] = False

    def __post_init__(self) -> None:
        if self.annotate_format not in ANNOTATE_FORMATS:
            raise ConfigError(
                f"--annotate-format {self.annotate_format} is unknown; use "
                f"{' or '.join(ANNOTATE_FORMATS)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusOptions(ExplainOptions):
    """Options of ``facestage corpus``."""

    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Top folder of the corpus, or a manifest.")
    ]
    layout: Annotated[str, typer.Option(help=f"{', '.join(CORPUS_LAYOUTS)}; see the README.")]
    out_dir: Annotated[
        Path,
        typer.Option(
            "--out",
            envvar="FACESTAGE_CORPUS_OUT",
            help="Folder for the results; the same one goes on where a run was stopped.",
        ),
    ]
    paper: Paper = False
    preset: SprayPreset = None
    across: Annotated[
        bool,
        typer.Option("--global", help="Also give letters that mean the same in the whole corpus."),
    ] = False
    min_support: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Least support of a frequent pattern, share of the sequences."
        ),
    ] = MIN_SHARE
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes or actors; default: all cores on the CPU, else 1."),
    ] = None
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only part I of N, for job arrays.")
    ] = None
    engine: Annotated[str, typer.Option(help="process, or ray (extra 'ray').")] = "process"
    ray_address: Annotated[
        str | None, typer.Option(help="A running cluster, HOST:PORT or ray://HOST:PORT.")
    ] = None
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed before.")
    ] = False
    reports: Annotated[bool, typer.Option(help="Write report and pictures of every sequence.")] = (
        True
    )
    window_device: WindowDevice = WindowConfig().device
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads per worker on the CPU; default: cores / workers."),
    ] = None
    model: Weights = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions(FaceOptions):
    """What ``train`` and ``evaluate`` share: labelled faces and how they are cut out."""

    manifest: Annotated[
        list[Path] | None,
        typer.Option(
            help="CSV with path, frame, subject and AU columns; may be given several times."
        ),
    ] = None
    ckplus: Annotated[Path | None, typer.Option(help="Folder of CK+ (your own copy).")] = None
    disfa: Annotated[Path | None, typer.Option(help="Folder of DISFA (your own copy).")] = None
    crops: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps the aligned crops for the next run."),
    ] = None
    threads: TorchThreads = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(LabelOptions):
    """Options of ``facestage train``."""

    out_dir: Annotated[
        Path,
        typer.Option(
            "--out", envvar="FACESTAGE_TRAIN_OUT", help="Folder for checkpoints and the model."
        ),
    ]
    init: Annotated[
        str, typer.Option(help="embedded, scratch, or a .safetensors file with its card.")
    ] = "embedded"
    epochs: Annotated[
        float | None, typer.Option(min=0.001, help="Times every picture is seen; default 20.")
    ] = None
    views: Annotated[
        int | None,
        typer.Option(min=1, help="Crops to see in all (whole batches), not --epochs."),
    ] = None
    batch: Annotated[int, typer.Option(min=2, help="Crops per step.")] = 48
    lr: Annotated[
        float | None,
        typer.Option(min=1e-9, help="Highest learning rate; default 5e-4, from scratch 2e-3."),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Of everything random in the run.")] = 0
    holdout: Annotated[
        str | None,
        typer.Option(help="Subjects to test on: a share such as 0.2, or names joined by commas."),
    ] = None
    folds: Annotated[
        int | None, typer.Option(min=2, help="Split the subjects into N parts, test on one.")
    ] = None
    fold: Annotated[
        int | None, typer.Option(min=0, help="Which part of --folds, from 0; default 0.")
    ] = None
    freeze_batchnorm: Annotated[
        bool, typer.Option("--freeze-batchnorm", help="Keep its statistics; for little data.")
    ] = False
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")
    ] = False
    licence: Annotated[
        str, typer.Option(help="For the model card; the data decides what is allowed.")
    ] = "Not stated; bound by the licences of the training data and of the network it began from."


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions(LabelOptions):
    """Options of ``facestage evaluate``."""

    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            "--model",
            help="AU network: a .safetensors file, its card (.json) beside it; default: embedded.",
        ),
    ] = None
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", envvar="FACESTAGE_EVALUATE_OUT", help="JSON file to write the figures to."
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityOptions(FaceOptions):
    """Options of ``facestage explain-quality``."""

    source: Annotated[str, typer.Argument(help="Video file, folder of images, or demo:")]
    aus: Aus = "shown"
    preset: Annotated[
        str,
        typer.Option(
            "--lrp-preset",
            help=f"LRP preset: {', '.join(LRP_PRESETS)}, or {ALL_PRESETS} for a table of each.",
        ),
    ] = DEFAULT_LRP_PRESET
    frames: Annotated[
        int,
        typer.Option(
            min=LEAST_FRAMES,
            max=MOST_FRAMES,
            help="Frames to measure on, spread over those with an active AU. Perturbation and "
            f"randomisation take {COSTLY_FRAMES} per AU.",
        ),
    ] = SAMPLE_FRAMES
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every figure to this file.")
    ] = None
    model: Weights = None
    threads: TorchThreads = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions(FaceOptions):
    """Options of ``facestage bench``."""

    scenario: Annotated[
        str,
        typer.Argument(
            metavar="[SCENARIO]", help="single, multi, paced, offline, or all of them (default)."
        ),
    ] = "all"
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="What the cameras play, in turn, over and over; default: the demo clip.",
        ),
    ] = None
    cameras: Annotated[
        str, typer.Option(help="Numbers of cameras for multi and paced, joined by commas.")
    ] = "1,2,4,8"
    fps: Annotated[
        float, typer.Option(min=0.1, max=1000.0, help="Frames per second of each camera (paced).")
    ] = 30.0
    jitter: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.5,
            help="Longest shift of a frame from its time, share of the time between two (paced).",
        ),
    ] = 0.1
    seconds: Annotated[float, typer.Option(min=1.0, help="How long each scenario is measured.")] = (
        20.0
    )
    active: Annotated[
        str,
        typer.Option(
            help="Action Units explained in every frame: a number, or real for those that the "
            "faces show."
        ),
    ] = "real"
    window_device: WindowDevice = WindowConfig().device
    lrp_precision: Annotated[
        str,
        typer.Option(
            "--lrp-precision",
            "--precision",
            help="Of the LRP engine's way back: float32, bfloat16, tf32 (on a GPU), or auto.",
        ),
    ] = ExplainConfig().precision
    lrp_preset: LrpPreset = DEFAULT_LRP_PRESET
    threads: NetworkThreads = None
    model: Weights = None
    video: Annotated[
        bool, typer.Option("--video/--no-video", help="Encode and send pictures, too.")
    ] = True
    peers: Annotated[
        str, typer.Option(help="none, or zennit: time its rules on the same maps.")
    ] = "none"
    budget: Annotated[
        str, typer.Option(help="Time for everything, such as 90s or 10m; what does not fit is cut.")
    ] = "600s"
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every figure to this file.")
    ] = None
    fail_over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT",
            help="Exit with 3 unless the figure keeps to it, such as "
            "'paced.capture_to_emit.p99<33ms' or 'offline.frames_per_s>100'; may be repeated.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Options of ``facestage export``."""

    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder that facestage analyze wrote.")
    ]
    to: Annotated[str, typer.Option(help="elan, nova, boris, csv, fhir or edf.")]
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="File to write (nova: folder); default: beside OUT."),
    ] = None
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="SPAN",
            help="Leave this span out, such as 12-15s, or those of all markers with this text; "
            "may be repeated.",
        ),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerOptions:
    """Options of ``facestage markers``."""

    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder that facestage analyze wrote.")
    ]
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Add those of this file: .eaf (ELAN), .annotation (NOVA), .boris, .csv."
        ),
    ] = None
    tier: Annotated[
        str | None,
        typer.Option(help="Tier (ELAN) or behaviour (BORIS) to read; default: those of markers."),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions:
    """Options of ``facestage doctor``."""

    source: Annotated[
        str | None, typer.Option(help="Try this source as well: open it and read a picture.")
    ] = None
    port: Port = 8765
    open_timeout: Annotated[float, typer.Option(help="Longest wait for a stream, seconds.")] = 10.0
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False
