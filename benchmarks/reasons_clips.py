"""Letters on the real clips whose segments were marked by eye, for ``reasons.py``."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from facestage.core.config import AnalyzerConfig
from facestage.core.network.au_network import AUNetwork
from facestage.core.sequence import SequenceAnalyzer
from facestage.core.types import FrameResult, FrameRow
from facestage.stream.detectors import make_detector
from facestage.stream.offline.analyze import analyze_source
from live_offline import SHARED, compare, run_live
from stream_quality import agreement

__all__ = ["judge_clips"]

LEAST = 10
"""Segments in which an Action Unit is active in fewer frames say nothing about it."""
LONG = "WolfgangLanger_Pexels.mp4"
WEEPING, LAUGHING = (0, 229), (249, 472)
"""Frames of the long clip, from the first to before the last."""

Letters = dict[int, dict[int, str]]
"""Action Unit → frame → letter."""


def marked_segments() -> dict[str, dict[int, int]]:
    """Return clip → frame → number of the expression that was marked there."""
    found: dict[str, dict[int, int]] = {}
    with (SHARED / "clips" / "events.csv").open() as file:
        for number, event in enumerate(csv.DictReader(file)):
            if event["aus"]:  # what merely covers the face is no expression of its own
                for frame in range(int(event["on_frame"]), int(event["off_frame"]) + 1):
                    found.setdefault(event["clip"], {})[frame] = number
    return found


def letters_of_live(results: Sequence[FrameResult]) -> Letters:
    """Return the letters shown live."""
    found: Letters = {}
    for result in results:
        for au, letter in result.letters.items():
            found.setdefault(au, {})[result.frame.index] = letter
    return found


def letters_of_rows(rows: Sequence[FrameRow]) -> Letters:
    """Return the letters of a whole sequence."""
    found: Letters = {}
    for row in rows:
        for au, letter in row.labels.items():
            found.setdefault(au, {})[row.index] = letter
    return found


def segment_index(letters: Letters, segments: Mapping[int, int]) -> dict[str, float]:
    """Return the adjusted Rand index of the letters of each Action Unit with the segments."""
    found = {}
    for au, by_frame in sorted(letters.items()):
        counts = Counter(segments[frame] for frame in by_frame if frame in segments)
        names = {number for number, count in counts.items() if count >= LEAST}
        pairs = [(segments[f], x) for f, x in by_frame.items() if segments.get(f) in names]
        if len(names) > 1:
            found[f"AU{au:02d}"] = round(agreement(*map(list, zip(*pairs, strict=True))), 3)
    return found


def apart(letters: Letters) -> float | None:
    """Return how far the weeping and the laughing AU 12 of the long clip have letters of their own.

    The total variation distance of the two distributions of letters: 0 the same, 1 none in common.
    """
    by_frame = letters.get(12, {})
    weeping, laughing = (
        Counter(letter for frame, letter in by_frame.items() if first <= frame < end)
        for first, end in (WEEPING, LAUGHING)
    )
    if not weeping or not laughing:
        return None
    names = weeping.keys() | laughing.keys()
    shares = [abs(weeping[n] / weeping.total() - laughing[n] / laughing.total()) for n in names]
    return round(sum(shares) / 2, 3)


def judge_clips(
    network: AUNetwork, presets: Sequence[str], detector: str = "haar"
) -> dict[str, Any]:
    """Return the figures of the marked clips for each preset.

    Args:
        network: explains them.
        presets: LRP presets that give letters.
        detector: of faces.
    """
    segments = marked_segments()
    report: dict[str, Any] = {}
    for preset in presets:
        config = AnalyzerConfig()
        config = replace(config, explain=replace(config.explain, preset=preset))
        report[preset] = {}
        for clip in sorted(segments):
            path = str(SHARED / "clips" / clip)
            stages, results = run_live(path, detector, network, config)
            analyzer = SequenceAnalyzer(make_detector(detector), network, config)
            whole = analyze_source(path, analyzer)
            live_letters, whole_letters = letters_of_live(results), letters_of_rows(whole.rows)
            figures: dict[str, Any] = {
                "live_with_whole": compare(clip, stages, whole)["ari_stages"],
                "segments_live": segment_index(live_letters, segments[clip]),
                "segments_whole": segment_index(whole_letters, segments[clip]),
                "letters_live": {
                    f"AU{a:02d}": len(set(v.values())) for a, v in live_letters.items()
                },
            }
            if clip == LONG:
                figures["au12_apart_live"] = apart(live_letters)
                figures["au12_apart_whole"] = apart(whole_letters)
            report[preset][clip] = figures
            print(f"{preset}, {clip}: {figures}")
        agree = [row["live_with_whole"] for row in report[preset].values()]
        report[preset]["live_with_whole_mean"] = round(float(np.mean(agree)), 3)
    return report
