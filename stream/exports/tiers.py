"""A recording as named spans (tiers) and as samples at a steady rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.action_units import au_code, prototype_label
from .markers import Marker
from .recording import Recording

__all__ = ["MARKER_TIER", "Samples", "Span", "Tier", "apart", "samples", "tiers"]

MARKER_TIER = "markers"
"""Begins the names of the tiers of markers: ``markers``, and ``markers 2`` where some overlap."""
_GRADES = "–ABCDE"
"""FACS intensity of 0 to 5."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a tier: when it was, seconds, and its text."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Tier:
    """Spans of one kind that do not overlap, in the order of time."""

    name: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Samples:
    """Values at a steady rate, the first at 0 s.

    Attributes:
        name: such as ``AU12 intensity`` or ``PSPI low``.
        unit: what a value counts.
        least, most: between them every value lies.
        values: ``(n,)``; nan where nothing is known.
    """

    name: str
    unit: str
    least: float
    most: float
    values: NDArray[np.float64]


def tiers(recording: Recording) -> list[Tier]:
    """Return stages, letters and intensity of each AU, notices of scores, and markers."""
    found = [
        Tier(
            "stages",
            tuple(Span(s.start_s, s.end_s, "+".join(s.labels)) for s in recording.stages),
        )
    ]
    for column, au in enumerate(recording.aus):
        letters = recording.letters[:, column]
        labels = [prototype_label(au, letter) if letter else "" for letter in letters]
        grades = [
            _GRADES[round(float(np.clip(value, 0, 5)))] if letter else ""
            for value, letter in zip(
                np.nan_to_num(recording.intensity[:, column]), letters, strict=True
            )
        ]
        found.append(Tier(au_code(au), tuple(_runs(recording, labels))))
        found.append(Tier(f"{au_code(au)} intensity", tuple(_runs(recording, grades))))
    for score in recording.scores:
        spans = tuple(Span(start, end, text) for start, end, text in score.notices if end > start)
        found.append(Tier(f"{score.name} notices", spans))
    found += apart(recording.markers)
    return [tier for tier in found if tier.spans]


def _runs(recording: Recording, texts: Sequence[str]) -> Iterator[Span]:
    """Yield the runs of equal texts; one ends with its last frame, or where frames are missing."""
    times, period = recording.times, 1 / recording.fps
    start = 0
    for n in range(1, len(texts) + 1):
        ends = n == len(texts) or times[n] - times[n - 1] > 1.5 * period
        if ends or texts[n] != texts[start]:
            if texts[start]:
                end_s = float(times[n - 1]) + period if ends else float(times[n])
                yield Span(float(times[start]), end_s, texts[start])
            start = n


def apart(markers: Iterable[Marker]) -> list[Tier]:
    """Lay markers into as few tiers as they need so that none overlaps another."""
    rows: list[list[Span]] = []
    for one in sorted(markers):
        span = Span(one.start_s, one.end_s, one.text)
        row = next((row for row in rows if _is_free(row[-1], span)), None)
        if row is None:
            rows.append([span])
        else:
            row.append(span)
    return [
        Tier(MARKER_TIER if n == 1 else f"{MARKER_TIER} {n}", tuple(row))
        for n, row in enumerate(rows, start=1)
    ]


def _is_free(last: Span, span: Span) -> bool:
    # A moment takes a thousandth of a second where a format knows only spans.
    return span.start_s >= max(last.end_s, last.start_s + 0.001)


def samples(recording: Recording) -> tuple[int, list[Samples]]:
    """Return the rate, samples per second, and the samples of each AU and score.

    The rate is a whole number, as EDF+ needs it. Each sample is that of the frame nearest in time,
    and nan where there is none within a frame's length.
    """
    rate = max(1, round(recording.fps))
    places = np.arange(int(np.ceil(recording.end_s * rate))) / rate
    nearest, known = _nearest(recording.times, places, 1 / recording.fps)

    def steady(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(known, values[nearest] if len(values) else np.nan, np.nan)

    found = [
        Samples(f"{au_code(au)} intensity", "FACS", 0.0, 5.0, steady(recording.intensity[:, n]))
        for n, au in enumerate(recording.aus)
    ]
    for score in recording.scores:
        bounds = score.least, score.most
        found.append(Samples(f"{score.name} low", "score", *bounds, steady(score.low)))
        found.append(Samples(f"{score.name} high", "score", *bounds, steady(score.high)))
    return rate, found


def _nearest(
    times: NDArray[np.float64], places: NDArray[np.float64], period: float
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return for each place the index of the nearest time, and whether it is near enough."""
    if not len(times):
        return np.zeros(len(places), np.intp), np.zeros(len(places), bool)
    after = np.clip(np.searchsorted(times, places), 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    closer = np.abs(times[before] - places) <= np.abs(times[after] - places)
    nearest = np.where(closer, before, after)
    return nearest, np.abs(times[nearest] - places) <= period
