"""BORIS projects (``.boris``): tiers as state events, markers as events with a comment.

A project is one JSON document. A state event is two rows of the same behaviour: its start, then its
stop. Source: projects of format 7.0 that BORIS wrote.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from .elan import choose_tiers
from .markers import Marker, read_text
from .tiers import MARKER_TIER, Tier

__all__ = ["boris_bytes", "read_boris"]

_STATE, _POINT = "State event", "Point event"
_POINT_TIER = "marker points"
"""Behaviour of the markers that are moments."""


def boris_bytes(tiers: Sequence[Tier], media: str, fps: float, end_s: float) -> bytes:
    """Return tiers as a BORIS project with one observation.

    Args:
        tiers: stages and letters become behaviours of their own, of the category of their tier.
        media: name of the recording's file.
        fps: its frames per second.
        end_s: its length, seconds.
    """
    behaviours: dict[str, dict[str, Any]] = {}
    events: list[tuple[float, int, list[Any]]] = []
    for tier in tiers:
        for span in tier.spans:
            is_marker = tier.name.startswith(MARKER_TIER)
            is_point = is_marker and span.end_s == span.start_s
            code = span.text if tier.name.startswith("AU") else f"{tier.name}: {span.text}"
            if tier.name.endswith("intensity"):
                code = f"{tier.name} {span.text}"
            if is_marker:
                code = _POINT_TIER if is_point else tier.name
            comment = span.text if is_marker else ""
            behaviours.setdefault(code, _behaviour(code, _POINT if is_point else _STATE, tier.name))
            events.append((span.start_s, 1, [span.start_s, "", code, "", comment]))
            if not is_point:
                # Where one state stops as the next starts, the stop comes first.
                events.append((span.end_s, 0, [span.end_s, "", code, "", ""]))
    rows = [row for *_, row in sorted(events, key=lambda event: event[:2])]
    project = {
        "time_format": "hh:mm:ss",
        "project_name": media,
        "project_date": "1970-01-01T00:00:00",
        "project_description": "Written by facestage.",
        "project_format_version": "7.0",
        "subjects_conf": {},
        "behaviors_conf": {str(n): one for n, one in enumerate(behaviours.values())},
        "behavioral_categories": sorted({str(one["category"]) for one in behaviours.values()}),
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
        "observations": {"facestage": _observation(media, fps, end_s, rows)},
    }
    return json.dumps(project, ensure_ascii=False, indent=1).encode()


def _behaviour(code: str, kind: str, category: str) -> dict[str, Any]:
    return {
        "type": kind,
        "key": "",
        "code": code,
        "description": "",
        "color": "",
        "category": category,
        "modifiers": {},
        "excluded": "",
        "coding map": "",
    }


def _observation(media: str, fps: float, end_s: float, rows: list[list[Any]]) -> dict[str, Any]:
    return {
        "file": {str(player): [media] if player == 1 else [] for player in range(1, 9)},
        "type": "MEDIA",
        "date": "1970-01-01T00:00:00",
        "description": "",
        "time offset": 0.0,
        "events": rows,
        "observation time interval": [0, 0],
        "independent_variables": {},
        "visualize_spectrogram": False,
        "visualize_waveform": False,
        "close_behaviors_between_videos": False,
        "scan_sampling_time": 0,
        "media_info": {
            "length": {media: end_s},
            "fps": {media: fps},
            "hasVideo": {media: True},
            "hasAudio": {media: False},
            "offset": {"1": 0.0},
        },
    }


def read_boris(path: Path, tier: str | None = None) -> list[Marker]:
    """Read markers from a BORIS project.

    Args:
        path: of the project.
        tier: code of the behaviour to read; by default those that begin with ``marker``. The text
            of a marker is the comment of its event, or the code where there is none.

    Raises:
        ConfigError: it is no project, has not exactly one observation with events, or a state
            event has no end.
    """
    try:
        project = json.loads(read_text(path))
        observations = {
            name: one["events"] for name, one in project["observations"].items() if one["events"]
        }
        kinds = {one["code"]: one["type"] for one in project["behaviors_conf"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no project of BORIS ({error!r}); save it again") from error
    if len(observations) != 1:
        raise ConfigError(
            f"{path} has {len(observations)} observations with events; export the one of this "
            "recording to a project of its own"
        )
    (events,) = observations.values()
    wanted = choose_tiers(path, [str(row[2]) for row in events], tier)
    markers: list[Marker] = []
    open_since: dict[tuple[str, str, str], tuple[float, str]] = {}
    for row in sorted(events, key=lambda row: float(row[0])):
        time_s, subject, code, modifier, comment = float(row[0]), *map(str, row[1:5])
        if code not in wanted:
            continue
        text = " ".join((comment or code).split())
        key = (subject, code, modifier)
        if kinds.get(code, "").lower().startswith("point"):
            markers.append(Marker(time_s, time_s, text))
        elif key in open_since:
            begun, text = open_since.pop(key)
            markers.append(Marker(begun, time_s, text))
        else:
            open_since[key] = (time_s, text)
    if open_since:
        (_, code, _), (begun, _) = next(iter(open_since.items()))
        raise ConfigError(
            f"{path}: the state {code!r} that starts at {begun:g} s never stops; add its stop in "
            "BORIS"
        )
    return sorted(markers)
