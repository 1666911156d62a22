"""Turn the result of a sequence into one self-contained HTML page.

The page loads nothing: pictures are data URIs, styles and script are inline, and a content security
policy forbids everything else. The same result gives the same bytes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np

from ...core.action_units import AU_NAMES, GRADE_MARKS, au_code, letter_index, parse_label
from ...core.face.reasons import region_text
from ...core.render import MAX_STRIP_STAGES, SequencePictures, au_colour, stage_seconds
from ...core.stages import format_prototype, reduction
from ...core.types import LOST, NONE, FrameRow, SequenceResult
from .encoding import jpeg_uri, png_uri
from .summary import changes, summary

__all__ = ["render_report", "template"]

# The timeline's drawing, in SVG user units. The page scales it to its width.
_WIDTH, _GUTTER, _BAND, _LANE, _LANE_GAP, _BLOCK = 1160.0, 176.0, 34.0, 46.0, 10.0, 15.0
_AXIS = 26.0
# A curve of more frames than this is reduced to its extremes per bin: no screen shows more.
_CURVE_BINS = 800
_LEAST = 0.4
"""Width of a stage or a run of letters in the drawing below which it is drawn with its neighbours,
units: 10,000 of them would be no picture, and no browser draws them at once."""
FIRST_TILES, FIRST_PROTOTYPES = 12, 4
"""Stages and prototypes that are seen at once; the others are folded."""
_LETTER_ROOM = 11.0
_NUMBER_ROOM = 8.0


def render_report(
    result: SequenceResult,
    pictures: SequencePictures,
    thresholds: Mapping[int, tuple[float, float]],
    film: str = "",
) -> str:
    """Return the report of a sequence as HTML.

    Args:
        result: the sequence.
        pictures: its pictures.
        thresholds: AU number → presence probability that turns the AU on and off; may be empty.
        film: name of the annotated video beside the report; empty: there is none.
    """
    stages = _stages(result, pictures)
    usable = sum(row.presence is not None for row in result.rows)
    marked = {
        label["code"]: label["mark"]
        for stage in stages
        for label in stage["labels"]
        if label["mark"]
    }
    return template("report.html").render(
        result=result,
        facts=_facts(result),
        film=film,
        usable=usable,
        summary=summary(result),
        # Thousands of stages in one line are for programs; they are in the JSON file.
        text=format_prototype(result.stages) if len(stages) <= MAX_STRIP_STAGES else "",
        first_tiles=FIRST_TILES,
        first_prototypes=FIRST_PROTOTYPES,
        reduction=100 * reduction(len(result.stages), len(result.rows)),
        marked=[
            (mark, sorted(code for code in marked if marked[code] == mark))
            for mark in dict.fromkeys(GRADE_MARKS.values())
            if mark in marked.values()
        ],
        unique=len({stage.labels for stage in result.stages}),
        stages=stages,
        strip=stages[:MAX_STRIP_STAGES],
        prototypes=_prototypes(result, pictures),
        adjusted=any(row.adjusted_presence is not None for row in result.rows),
        timeline=_timeline(result, thresholds),
        curves=_curves_script(),
    )


@functools.cache
def _curves_script() -> str:
    """Return the module that draws curves on the page, as a part of the report's one script."""
    module = importlib.resources.files("facestage.stream").joinpath("overlay", "curves.js")
    text = module.read_text("utf-8")
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)


@functools.cache
def template(name: str) -> jinja2.Template:
    """Return a page template; it is compiled once per process, which takes longer than a page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("facestage.stream", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sha256"] = _sha256
    return environment.get_template(name)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Time, seconds, to a horizontal place in the drawing."""

    start: float
    end: float

    def x(self, time: float) -> float:
        share = (time - self.start) / (self.end - self.start)
        return round(_GUTTER + share * (_WIDTH - _GUTTER), 2)

    def ticks(self) -> list[dict[str, Any]]:
        span = self.end - self.start
        power = 10.0 ** math.floor(math.log10(span / 8))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= span / 8)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.start / step - 1e-9)
        last = math.floor(self.end / step + 1e-9)
        times = [number * step for number in range(first, last + 1)]
        return [{"x": self.x(time), "text": f"{time:.{digits}f}"} for time in times]


def _facts(result: SequenceResult) -> list[tuple[str, str]]:
    usable = sum(row.presence is not None for row in result.rows)
    known = math.isfinite(result.fps) and result.fps > 0
    rate = f"at {result.fps:.2f} per second" if known else "at an unknown rate"
    baseline = "off"
    if result.baseline:
        rest_s = max((row.rest_s for row in result.rows), default=0.0)
        own = f"rest level learned from {rest_s:.1f} s of rest"
        baseline = own if rest_s else "no rest seen: judged by the level of faces in general"
    shown = [au for au in result.aus if au not in result.hidden]
    aus = f"{len(shown)} of {len(result.aus)}"
    for mark in dict.fromkeys(result.marks.values()):
        codes = [au_code(au) for au in shown if result.marks.get(au) == mark]
        aus += f"; {mark}: {', '.join(codes)}"
    if result.hidden:
        aus += f"; not used: {', '.join(map(au_code, result.hidden))}"
    engine = result.lrp_engine or "not known"
    if result.lrp_engine_reason:
        engine += f": {result.lrp_engine_reason}"
    if result.lrp_precision != "float32":
        engine += f", {result.lrp_precision}"
    return [
        ("Frames", f"{len(result.rows)} {rate}"),
        ("Frames with a usable face", f"{usable} of {len(result.rows)}"),
        ("AU network", result.model),
        ("Action Units used", aus),
        ("Personal baseline", baseline),
        ("Face detector", result.detector),
        ("Device", result.device),
        ("Relevance that gives letters (LRP preset)", result.lrp_preset),
        ("Relevance that is drawn (LRP preset)", result.picture_preset or result.lrp_preset),
        ("Relevance (LRP engine)", engine),
        ("Clustering (SpRAy preset)", result.preset),
    ]


def _label(text: str, result: SequenceResult) -> dict[str, Any]:
    if text in (NONE[0], LOST[0]):
        name = "no Action Unit" if text == NONE[0] else "no usable face"
        return {
            "text": text,
            "kind": text.lower(),
            "name": name,
            "colour": "",
            "code": "",
            "mark": "",
        }
    au = parse_label(text)[0]
    return {
        "text": text,
        "kind": "au",
        "name": AU_NAMES.get(au, ""),
        "colour": au_colour(au),
        "code": au_code(au),
        "mark": result.marks.get(au, ""),
    }


def _stages(result: SequenceResult, pictures: SequencePictures) -> list[dict[str, Any]]:
    # The pictures of the strip, where they are large enough for the page.
    has_thumbnails = len(result.stages) <= MAX_STRIP_STAGES
    side = max(pictures.tile, 232 if len(result.stages) <= 60 else 136)
    return [
        {
            "number": index + 1,
            "labels": (labels := [_label(label, result) for label in stage.labels]),
            "only_weak": all(label["mark"] for label in labels),
            "start": stage.start,
            "end": stage.end,
            "start_s": stage.start_s,
            "end_s": stage.end_s,
            "seconds": seconds,
            "frames": stage.frames,
            "changes": [c.text for c in stage.changes if c.before and c.after],
            "picture": jpeg_uri(pictures.stage(index, side)) if index < MAX_STRIP_STAGES else "",
            "thumbnail": jpeg_uri(pictures.stage(index, 72)) if has_thumbnails else "",
        }
        for index, (stage, seconds) in enumerate(
            zip(result.stages, stage_seconds(result), strict=True)
        )
    ]


def _prototypes(result: SequenceResult, pictures: SequencePictures) -> list[dict[str, Any]]:
    times = {row.index: row.time_s for row in result.rows}
    return [
        {
            **_label(label, result),
            "frames": item.frames,
            "share": 100 * item.frames / len(result.rows),
            "first": item.first,
            "first_s": times[item.first],
            "exemplar": item.exemplar,
            "regions": region_text(item.regions),
            "picture": jpeg_uri(pictures.prototype(label, 256)),
            "heat": png_uri(pictures.heat(label, 256)),
        }
        for label, item in sorted(
            result.prototypes.items(), key=lambda pair: (pair[1].au, letter_index(pair[1].letter))
        )
    ]


def _timeline(
    result: SequenceResult, thresholds: Mapping[int, tuple[float, float]]
) -> dict[str, Any]:
    rows = result.rows
    seconds = stage_seconds(result)
    start = rows[0].time_s
    end = result.stages[-1].start_s + seconds[-1]
    axis = _Axis(start, end if end > start else start + 1.0)
    # The end of each frame on the axis: the next frame's time.
    ends = [row.time_s for row in rows[1:]] + [axis.end]
    top = _BAND + _AXIS + _LANE_GAP
    lanes = []
    active = {au for row in rows for au in row.labels}
    # Weak ones come last, so that the drawing has no gaps where they are hidden.
    for number, au in enumerate(sorted(active, key=lambda au: (au in result.marks, au))):
        y = top + number * (_LANE + _LANE_GAP)
        lanes.append(_lane(au, y, result, ends, axis, thresholds.get(au)))
    return {
        "width": _WIDTH,
        "gutter": _GUTTER,
        "band": _BAND,
        "lane": _LANE - _BLOCK,
        "block": _BLOCK,
        "top": top,
        "height": top + len(lanes) * (_LANE + _LANE_GAP),
        "ticks": axis.ticks(),
        "segments": _segments(result, seconds, axis),
        "lanes": lanes,
        "has_band": any(lane["band"] for lane in lanes),
        "hover": {
            **_hover(result, axis, lanes),
            "height": top + len(lanes) * (_LANE + _LANE_GAP),
            "strong": top + sum(not lane["mark"] for lane in lanes) * (_LANE + _LANE_GAP),
        },
    }


def _lane(
    au: int,
    y: float,
    result: SequenceResult,
    ends: list[float],
    axis: _Axis,
    band: tuple[float, float] | None,
) -> dict[str, Any]:
    """Return the row of one AU: its curves and the runs of its letters."""
    rows, column = result.rows, result.aus.index(au)
    # What was judged, and, where a baseline changed it, what the network gave.
    judged = [r.presence if r.adjusted_presence is None else r.adjusted_presence for r in rows]
    presence = [None if p is None else float(p[column]) for p in judged]
    raw = [
        float(r.presence[column])
        if r.presence is not None and r.adjusted_presence is not None
        else None
        for r in rows
    ]
    return {
        "code": au_code(au),
        "name": AU_NAMES.get(au, ""),
        "colour": au_colour(au),
        "y": y,
        "curves": _curves(presence, rows, ends, axis, y),
        "raw": _curves(raw, rows, ends, axis, y),
        "mark": result.marks.get(au, ""),
        "band": None if band is None else {"on": band[0], "off": band[1]},
        "blocks": _blocks(au, rows, ends, axis),
        "presence": [None if p is None else round(100 * p) for p in presence],
        "letters": [[first, last, letter] for first, last, letter in _runs(au, rows) if letter],
    }


def _hover(result: SequenceResult, axis: _Axis, lanes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the page's script says under the pointer, frame by frame."""
    return {
        "start": axis.start,
        "end": axis.end,
        "gutter": _GUTTER,
        "width": _WIDTH,
        "frame": [row.index for row in result.rows],
        "time": [round(row.time_s, 4) for row in result.rows],
        "face": [str(row.face) for row in result.rows],
        "changes": [time for _, time in changes(result)],
        "stages": [[s.start, s.end, " + ".join(s.labels)] for s in result.stages],
        "lanes": [
            {
                "code": lane["code"],
                "presence": lane["presence"],
                "letters": lane["letters"],
                "colour": lane["colour"],
                "mark": lane["mark"],
                "on": None if lane["band"] is None else round(100 * lane["band"]["on"]),
            }
            for lane in lanes
        ],
    }


def _segments(
    result: SequenceResult, seconds: tuple[float, ...], axis: _Axis
) -> list[dict[str, Any]]:
    segments: list[dict[str, Any]] = []
    for index, (stage, length) in enumerate(zip(result.stages, seconds, strict=True)):
        left, right = axis.x(stage.start_s), axis.x(stage.start_s + length)
        if segments and right - left < _LEAST and segments[-1]["narrow"]:
            joined = segments[-1]
            joined["width"] = round(max(right - joined["x"], 0.5), 2)
            joined["title"] = f"Stages {joined['first'] + 1} to {index + 1}"
            joined["narrow"] = joined["width"] < 2 * _LEAST
            continue
        kind = {NONE: "none", LOST: "lost"}.get(stage.labels, "au")
        number = str(index + 1)
        text = number if right - left >= _NUMBER_ROOM * len(number) + 4 else ""
        if text and kind != "au" and right - left >= _NUMBER_ROOM * (len(number) + 5) + 8:
            text = f"{number} {stage.labels[0]}"
        segments.append(
            {
                "x": left,
                "width": round(max(right - left, 0.5), 2),
                "kind": kind,
                "odd": len(segments) % 2,
                "first": index,
                "narrow": right - left < _LEAST,
                "text": text,
                "title": f"Stage {number}: {' + '.join(stage.labels)}",
            }
        )
    return segments


def _runs(au: int, rows: Sequence[FrameRow]) -> Iterable[tuple[int, int, str]]:
    """Yield the first and last row of each run of one letter (``""``: AU not active)."""
    letters = (row.labels.get(au, "") for row in rows)
    first = 0
    for letter, group in itertools.groupby(letters):
        last = first + sum(1 for _ in group) - 1
        yield first, last, letter
        first = last + 1


def _blocks(
    au: int, rows: Sequence[FrameRow], ends: list[float], axis: _Axis
) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for first, last, letter in _runs(au, rows):
        if not letter:
            continue
        left = axis.x(rows[first].time_s)
        width = max(axis.x(ends[last]) - left, 0.5)
        if blocks and width < 2 * _LEAST and left + width - blocks[-1]["x"] < 2 * _LEAST:
            continue  # it would lie on the one before
        blocks.append(
            {
                "x": left,
                "width": round(width, 2),
                "letter": letter if width >= _LETTER_ROOM * len(letter) else "",
                "title": f"{au_code(au)}_{letter}: frames {rows[first].index}–{rows[last].index}",
            }
        )
    return blocks


def _curves(
    presence: list[float | None],
    rows: Sequence[FrameRow],
    ends: list[float],
    axis: _Axis,
    y: float,
) -> list[dict[str, str]]:
    """Return the presence curve as SVG paths, one per run of frames with a usable face."""
    height = _LANE - _BLOCK - 3
    base = y + height + 2
    curves = []
    position = 0
    for known, group in itertools.groupby(presence, key=lambda value: value is not None):
        values = list(group)
        members = range(position, position + len(values))
        position += len(values)
        if not known:
            continue
        points = [
            (axis.x(rows[i].time_s), round(base - height * min(max(v, 0.0), 1.0), 2))
            for i, v in zip(members, values, strict=True)
            if v is not None
        ]
        # The last frame lasts until the next one's time.
        points = [*_thin(points), (axis.x(ends[members[-1]]), points[-1][1])]
        line = "M" + "L".join(f"{px:g},{py:g}" for px, py in points)
        area = f"{line}L{points[-1][0]:g},{base:g}L{points[0][0]:g},{base:g}Z"
        curves.append({"line": line, "area": area})
    return curves


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep the lowest and the highest point of each bin of a long curve, in order."""
    if len(points) <= 2 * _CURVE_BINS:
        return points
    extreme_points: list[tuple[float, float]] = []
    for chunk in np.array_split(np.arange(len(points)), _CURVE_BINS):
        heights = [points[i][1] for i in chunk]
        extremes = {int(np.argmin(heights)), int(np.argmax(heights))}
        extreme_points += [points[chunk[i]] for i in sorted(extremes)]
    return extreme_points


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
