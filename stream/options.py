"""From the options of the command line to the constants of an analysis."""

from __future__ import annotations

from dataclasses import replace

from ..core.config import AnalyzerConfig, ExplainConfig
from ..core.errors import ConfigError
from ..core.lrp import preset_by_name
from ..core.selection import parse_aus

__all__ = ["analyzer_config", "dwell"]


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
            config.explain, preset=preset_by_name(lrp_preset).name, precision=lrp_precision
        ),
        stage=replace(config.stage, min_stage_s=min_stage_s),
        baseline=replace(config.baseline, enabled=baseline),
        window=config.window if window is None else replace(config.window, size=window),
    )
