"""Options that several commands share, and the way from them to the constants of an analysis.

Each option's help and environment variable is written once, here; its default is the command's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ...core import lrp
from ...core.config import AnalyzerConfig, ExplainConfig, WindowConfig
from ...core.errors import ConfigError
from ...core.network.selection import parse_aus

__all__ = [
    "Aus",
    "Baseline",
    "Detector",
    "Device",
    "LrpPrecision",
    "LrpPreset",
    "MinStage",
    "Paper",
    "SprayPreset",
    "TorchThreads",
    "Weights",
    "WindowDevice",
    "analyzer_config",
    "dwell",
]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; cuda must exist.")]
Detector = Annotated[
    str,
    typer.Option(help="auto (YuNet if pulled, else haar), haar, yunet, or a YuNet file."),
]
Weights = Annotated[
    Path | None,
    typer.Option("--model", help="AU network: a .safetensors file, its card (.json) beside it."),
]
TorchThreads = Annotated[
    int | None, typer.Option(min=1, help="Threads on the CPU; default: as torch chooses.")
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
Baseline = Annotated[
    bool,
    typer.Option(
        "--baseline",
        envvar="FACESTAGE_BASELINE",
        help="Judge presence against the person's own face at rest, once it was seen for a second.",
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
LrpPrecision = Annotated[
    str,
    typer.Option(
        "--lrp-precision",
        help="Of the LRP engine's way back: float32, bfloat16, or auto for the faster.",
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


def analyzer_config(
    min_stage_s: float,
    aus: str,
    *,
    baseline: bool,
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
            config.explain, preset=lrp.lrp_preset(lrp_preset).name, precision=lrp_precision
        ),
        stage=replace(config.stage, min_stage_s=min_stage_s),
        baseline=replace(config.baseline, enabled=baseline),
        window=replace(
            config.window,
            size=config.window.size if window is None else window,
            device=window_device,
        ),
    )
