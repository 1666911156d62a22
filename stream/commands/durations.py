"""Durations as they are typed: ``90s``, ``10m``, ``1h``, or a number of seconds."""

from __future__ import annotations

import re

from ...core.errors import ConfigError

__all__ = ["parse_duration"]

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(option: str, text: str, *, most_s: float) -> float:
    """Return a duration, seconds.

    Args:
        option: that it was given to, for the error.
        text: as it was typed.
        most_s: longest that is possible, seconds.

    Raises:
        ConfigError: it is none, or too long.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text, re.ASCII)
    if found is None:
        raise ConfigError(f"{option} {text!r} is no duration; write it as 90s, 10m or 1h")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > most_s:
        raise ConfigError(
            f"{option} {text} is longer than is kept in memory; use at most {most_s / 60:g}m"
        )
    return seconds
