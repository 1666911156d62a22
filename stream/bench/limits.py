"""Figures that must not be passed: ``--fail-over 'paced.capture_to_emit.p99<33ms'``."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from ...core.errors import ConfigError
from ...core.steps import STEPS
from .figures import SCENARIOS, Results, Spread, Verdict

__all__ = ["Limit", "judge", "parse_limit"]

_FORM = re.compile(r"\s*([\w.]+)\s*([<>])\s*([0-9.eE+-]+?)\s*(ms|s|MB|%)?\s*")
_EXAMPLE = "such as 'paced.capture_to_emit.p99<33ms'"


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure and what it must stay below or above.

    Attributes:
        text: as it was written.
        path: of the figure in :class:`~.figures.Results`.
        below: whether it must be below ``value`` and not above.
        value: in the figure's own unit.
    """

    text: str
    path: tuple[str, ...]
    below: bool
    value: float

    def holds(self, value: float | None) -> bool:
        """Tell whether a figure keeps to it; one that was not measured does not."""
        if value is None or math.isnan(value):
            return False
        return value < self.value if self.below else value > self.value


def parse_limit(text: str) -> Limit:
    """Read a limit.

    Args:
        text: ``PATH<VALUE`` or ``PATH>VALUE``. The path leads through the JSON's ``results``; a
            number of cameras may be left out of it, and stands for each that is measured. The
            value may have a unit: ms, s, MB or %.

    Raises:
        ConfigError: it has another form, the unit does not fit, or there is no such figure.
    """
    found = _FORM.fullmatch(text)
    try:
        value = math.nan if found is None else float(found[3])
    except ValueError:
        value = math.nan
    if found is None or not math.isfinite(value):
        raise ConfigError(f"--fail-over {text!r} is no limit; write PATH<VALUE, {_EXAMPLE}")
    path = tuple(found[1].split("."))
    leaf_of = _check_path(text, path)
    return Limit(text, path, found[2] == "<", _scaled(text, value, found[4], path, leaf_of))


def _check_path(text: str, path: tuple[str, ...]) -> Any:
    """Return what holds the figure; refuse a path that leads nowhere."""
    scenario, *rest = path
    if scenario not in SCENARIOS:
        raise ConfigError(
            f"--fail-over {text!r}: there is no scenario {scenario!r}; use one of "
            f"{', '.join(SCENARIOS)}"
        )
    kind, holder = _plain(get_type_hints(Results)[scenario]), None
    if get_origin(kind) is dict:  # by number of cameras, which may be left out
        kind = get_args(kind)[1]
        rest = rest[1:] if rest and rest[0].isdecimal() else rest
    for name in rest:
        if get_origin(kind) is dict:
            if holder is not None and name not in STEPS and get_args(kind)[1] is not int:
                raise ConfigError(
                    f"--fail-over {text!r}: there is no step {name!r}; use one of "
                    f"{', '.join(STEPS)}"
                )
            holder, kind = kind, _plain(get_args(kind)[1])
            continue
        fields = get_type_hints(kind) if _is_struct(kind) else {}
        if name not in fields:
            known = f"; it holds {', '.join(fields)}" if fields else ""
            raise ConfigError(f"--fail-over {text!r}: there is no figure {name!r} there{known}")
        holder, kind = kind, _plain(fields[name])
    if kind not in (int, float):
        inside = f", for example {'.'.join([*path, next(iter(get_type_hints(kind)))])}" * (
            _is_struct(kind)
        )
        raise ConfigError(f"--fail-over {text!r} names no single figure; go on{inside}")
    return holder


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _plain(kind: Any) -> Any:
    """Return a type without ``| None``."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(one for one in get_args(kind) if one is not type(None))
    return kind


def _scaled(text: str, value: float, unit: str | None, path: Sequence[str], holder: Any) -> float:
    """Return a value in the unit of its figure."""
    name = path[-1]
    own = ""
    if (holder is Spread and name != "n") or name.endswith("_ms"):
        own = "ms"
    elif name == "seconds" or name.endswith("_s_per_camera_s"):
        own = "s"
    elif name.endswith("_mb"):
        own = "MB"
    elif name.startswith("missed_") or name.endswith("_share"):
        own = "%"
    scale = {("ms", "s"): 1e3, ("ms", "ms"): 1.0, ("s", "s"): 1.0, ("s", "ms"): 1e-3}
    scale |= {("MB", "MB"): 1.0, ("%", "%"): 1e-2}
    if unit is None:
        return value
    if (own, unit) not in scale:
        raise ConfigError(
            f"--fail-over {text!r}: {name} is not measured in {unit}; "
            + (f"use {own}" if own else "leave the unit out")
        )
    return value * scale[own, unit]


def judge(limits: Sequence[Limit], results: Results) -> tuple[Verdict, ...]:
    """Hold the figures against their limits; the worst counts where a path leads to several."""
    plain = msgspec.to_builtins(results)
    verdicts = []
    for limit in limits:
        found = _find(plain, limit.path)
        worst = None if not found else (max if limit.below else min)(found)
        verdicts.append(Verdict(limit=limit.text, value=worst, holds=limit.holds(worst)))
    return tuple(verdicts)


def _find(results: dict[str, Any], path: tuple[str, ...]) -> list[float]:
    scenario, *rest = path
    inside = results.get(scenario)
    if not inside:
        return []
    if scenario not in ("multi", "paced"):
        parts = [inside]
    elif rest and rest[0].isdecimal():
        parts = [inside[rest[0]]] if rest[0] in inside else []
        rest = rest[1:]
    else:
        parts = list(inside.values())
    found = []
    for part in parts:
        for name in rest:
            part = part.get(name) if isinstance(part, dict) else None
        if not isinstance(part, (int, float)):
            return []  # one that was not measured counts as worst
        found.append(float(part))
    return found
