"""Options that several commands share, and the way from them to the constants of an analysis.

Each option's help and environment variable is written once, here. A command declares its options
as a dataclass (:mod:`.signatures`); :func:`takes` turns that into a command of Typer. Nothing here
imports torch or OpenCV: help and a usage error must not wait for them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from ...core import lrp
from ...core.config import (
    MOST_FACES,
    PICTURE_LRP_PRESET,
    AnalyzerConfig,
    ExplainConfig,
    WindowConfig,
)
from ...core.errors import ConfigError
from ...core.network.selection import parse_aus
from ..server.limits import MOST_CONNECTIONS
from .settings import use_settings

__all__ = [
    "AllowControl",
    "Aus",
    "Baseline",
    "Cert",
    "Config",
    "Detector",
    "Device",
    "Exclude",
    "Faces",
    "Follow",
    "History",
    "Host",
    "Key",
    "LrpPrecision",
    "LrpPreset",
    "MaxConnections",
    "MinStage",
    "Names",
    "NetworkThreads",
    "Paper",
    "People",
    "PicturePreset",
    "Port",
    "PrintToken",
    "Privacy",
    "Record",
    "RecordMax",
    "RecordVideo",
    "Rest",
    "RestFrom",
    "Scores",
    "SessionFolder",
    "SprayPreset",
    "StageAus",
    "Token",
    "TokenFile",
    "TorchThreads",
    "Weights",
    "WindowDevice",
    "analyzer_config",
    "dwell",
    "pictures_by",
    "takes",
]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; cuda must exist.")]
Detector = Annotated[
    str,
    typer.Option(help="auto (ours), ours, haar, yunet (once pulled), or a weights file."),
]
Weights = Annotated[
    Path | None,
    typer.Option("--model", help="AU network: a .safetensors file, its card (.json) beside it."),
]
TorchThreads = Annotated[
    int | None, typer.Option(min=1, help="Threads on the CPU; default: as torch chooses.")
]
NetworkThreads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads for the network on the CPU; default: half the cores."),
]
Host = Annotated[str, typer.Option(help="Address to listen on; any but loopback needs a token.")]
Port = Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")]
Token = Annotated[
    str | None,
    typer.Option(
        help="Secret that every client must send. The process list shows it: better --token-file, "
        "or the environment."
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="File whose first line is the secret that every client must send; only its owner may "
        "be able to open it."
    ),
]
Privacy = Annotated[
    str,
    typer.Option(
        help="What pages see of a person: picture, blur, outline (oval, eyes, mouth) or none."
    ),
]
PrintToken = Annotated[
    bool, typer.Option("--print-token", help="Print, and open, the address with the token in it.")
]
Cert = Annotated[
    Path | None,
    typer.Option(
        help="Certificate in PEM, followed by those that lead to its authority: the page is then "
        "https, its sockets wss."
    ),
]
Key = Annotated[Path | None, typer.Option(help="Private key of --cert in PEM.")]
History = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="How far the page can look back, such as 90s, 10m or 1h; kept in memory, 160 MB at "
        "most; 0: not at all.",
    ),
]
MaxConnections = Annotated[
    int,
    typer.Option(
        min=1,
        max=MOST_CONNECTIONS,
        help="Open sockets of clients; a page uses two. One more is refused.",
    ),
]
MinStage = Annotated[
    float | None,
    typer.Option(
        min=0.0, help="Seconds a label must last before it counts; default 0.2, with --paper 0."
    ),
]
Paper = Annotated[
    bool,
    typer.Option("--paper", help="As in the paper: SpRAy preset 'paper', every frame counts."),
]
SprayPreset = Annotated[str | None, typer.Option(help="SpRAy preset; default: sequence.")]
Aus = Annotated[
    str,
    typer.Option(
        envvar="FACESTAGE_AUS",
        help="AUs that take part: shown (graded A or B), all, A (only those graded A), or numbers "
        "such as 1,2,12.",
    ),
]
StageAus = Annotated[
    str,
    typer.Option(
        help="AUs that make stages: shown (each that takes part), A (only those graded A), or "
        "numbers such as 12,25. Others keep letters and lanes of their own."
    ),
]
Baseline = Annotated[
    bool | None,
    typer.Option(
        "--baseline/--no-baseline",
        envvar="FACESTAGE_BASELINE",
        help="Judge presence by its rise over the person's own rest level, which is learned all "
        "the time; on, but with --paper.",
    ),
]
Rest = Annotated[
    Path | None,
    typer.Option(
        help="File of one person's rest levels: read where it exists, else written in the end."
    ),
]
RestFrom = Annotated[
    str | None,
    typer.Option(
        "--rest-from", metavar="SPAN", help="The face is neutral in this span, such as 0-2s."
    ),
]
Record = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Record: what is found goes into a folder of its own in this one, without pictures.",
    ),
]
RecordVideo = Annotated[
    bool,
    typer.Option(
        "--record-video", help="Keep the pictures, too, as pages may see them (see --record)."
    ),
]
RecordMax = Annotated[
    str, typer.Option(metavar="SIZE", help="A recording ends at this size, such as 20GB.")
]
AllowControl = Annotated[
    bool,
    typer.Option(
        "--allow-control", help="Clients, such as the page, may begin and end a recording."
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", help="What a source is called; one for each, in their order."),
]
People = Annotated[
    list[str] | None,
    typer.Option(
        "--person",
        metavar="ID",
        help="Who is seen, one for each source (- for nobody known): their rest level is read "
        "where it was kept, else kept in the end.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        is_eager=True,
        callback=use_settings,
        help="Options from a file, facestage.toml; the command line comes before it.",
    ),
]
SessionFolder = Annotated[
    Path, typer.Argument(metavar="SESSION", help="Folder that --record wrote.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="SPAN",
        help="Leave this span out, such as 12-15s; may be repeated.",
    ),
]
Scores = Annotated[
    list[str] | None,
    typer.Option(
        "--score",
        metavar="NAME[=FORMULA]",
        envvar="FACESTAGE_SCORE",
        help="Follow a score: PSPI, or one of your own such as 'smile=AU12*AU6' (numbers, AUs, "
        "+ - * / min max and parentheses); may be repeated. See docs/scores.md.",
    ),
]
Faces = Annotated[
    int,
    typer.Option(
        min=1,
        max=MOST_FACES,
        envvar="FACESTAGE_FACES",
        help="Faces of a source that are analysed at once, each as a stream of its own.",
    ),
]
Follow = Annotated[
    str,
    typer.Option(
        envvar="FACESTAGE_FOLLOW",
        help="Who is followed where there are several faces: largest, centre, first, or the number "
        "of a person (1 is the first who was seen). Whoever is followed stays so.",
    ),
]
LrpPreset = Annotated[
    str,
    typer.Option(
        "--lrp-preset",
        envvar="FACESTAGE_LRP_PRESET",
        help=f"How relevance is propagated: {', '.join(lrp.LRP_PRESETS)}. The first is the "
        "paper's; see docs/explanations.md.",
    ),
]
PicturePreset = Annotated[
    str | None,
    typer.Option(
        "--picture-preset",
        envvar="FACESTAGE_PICTURE_PRESET",
        help="LRP preset of the maps that are drawn and put into words, where --lrp-preset is that "
        f"of the maps that give letters; default: {PICTURE_LRP_PRESET}, with --paper the same.",
    ),
]
LrpPrecision = Annotated[
    str,
    typer.Option(
        "--lrp-precision",
        help="Of the LRP engine's way back: float32, bfloat16, tf32 (on a GPU), or auto for the "
        "faster of the first two.",
    ),
]
WindowDevice = Annotated[
    str,
    typer.Option(
        "--window-device",
        envvar="FACESTAGE_WINDOW_DEVICE",
        help="Where maps are clustered, live and with --global: cpu (NumPy), cuda or cuda:N "
        "(CuPy).",
    ),
]

_Options = TypeVar("_Options")


def takes(options: type[_Options]) -> Callable[[Callable[[_Options], None]], Callable[..., None]]:
    """Let a function of one options record be a command of Typer with an option per field.

    Args:
        options: a frozen dataclass whose fields are annotated for Typer. Its own fields come first
            in the help, then those of its bases.
    """
    hints = get_type_hints(options, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(options)}  # type: ignore[arg-type]
    order = dict.fromkeys(
        name for kind in options.__mro__ for name in vars(kind).get("__annotations__", ())
    )
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(fields[name]),
            annotation=hints[name],
        )
        for name in order
    ]

    def decorate(run: Callable[[_Options], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            run(options(**values))

        command.__name__, command.__doc__ = run.__name__, run.__doc__
        command.__module__ = run.__module__
        command.__annotations__ = {name: hints[name] for name in order}
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def _default(field: dataclasses.Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def dwell(min_stage: float | None, *, paper: bool) -> float:
    """Return how long a label must last before it counts, seconds.

    Raises:
        ConfigError: ``--paper`` follows every frame, and a dwell was asked for.
    """
    if paper and min_stage:
        raise ConfigError(
            f"--paper follows every frame, so --min-stage {min_stage:g} cannot hold; leave one out"
        )
    if min_stage is None:
        return 0.0 if paper else AnalyzerConfig().stage.min_stage_s
    return min_stage


def pictures_by(preset: str | None, lrp_preset: str, *, paper: bool) -> str:
    """Return the LRP preset whose maps are drawn; ``--paper`` draws those that give letters.

    Raises:
        ConfigError: there is no such preset.
    """
    return lrp.lrp_preset(preset or (lrp_preset if paper else PICTURE_LRP_PRESET)).name


def analyzer_config(
    min_stage_s: float,
    aus: str,
    *,
    baseline: bool,
    rest_from: tuple[float, float] | None = None,
    lrp_preset: str = ExplainConfig().preset,
    lrp_precision: str = ExplainConfig().precision,
    window: int | None = None,
    window_device: str = WindowConfig().device,
) -> AnalyzerConfig:
    """Return the default constants with what the user asked for.

    Raises:
        ConfigError: AUs or LRP preset of that name are not known.
    """
    config = AnalyzerConfig()
    return replace(
        config,
        aus=parse_aus(aus),
        explain=replace(
            config.explain,
            preset=lrp.lrp_preset(lrp_preset).name,
            precision=lrp_precision,
        ),
        stage=replace(config.stage, min_stage_s=min_stage_s),
        baseline=replace(config.baseline, enabled=baseline, rest_from=rest_from),
        window=replace(
            config.window,
            size=config.window.size if window is None else window,
            device=window_device,
        ),
    )
