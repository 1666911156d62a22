"""Calibrate the thresholds of the sliding window on relevance maps of the embedded network.

    python -m training clip --out CLIPS --count 4 --frames 300 --seed 9500
    python benchmarks/calibrate.py [--rendered CLIPS] [--json FILE]

One command, to be repeated whenever the network changes. It looks at the real clips of ../shared,
whose segments were seen by eye (``events.csv``), and at rendered sequences, whose segments are the
frames with one set of Action Units at FACS intensity B or more. Per AU it prints how alike two
halves of a segment are (what must stay one letter) and neighbouring segments (what may be two), and
the cosine of maps by their distance in time. Then it moves ``split`` and ``match`` together and
shows what becomes of the letters: their number and agreement with the segments. ``fast`` and
``alias`` follow them at .01 above.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from facestage.core import lrp, relevance
from facestage.core.config import AnalyzerConfig, WindowConfig
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.selection import select_aus
from facestage.core.observer import Observer
from facestage.core.stages import PresenceGate
from facestage.core.types import Frame
from facestage.core.window import MapInput, WindowBank
from facestage.stream.detectors import make_detector
from facestage.stream.sources import open_source
from live_offline import SHARED
from stream_quality import agreement

LAGS = (1, 5, 10, 20, 40, 80)
GRID = (0.84, 0.86, 0.88, 0.90, 0.92)
SHORT = 10
"""Segments with fewer maps of an AU say nothing about it."""
CLEAR = 2.0
"""FACS intensity (B) from which a rendered AU counts."""
BATCH = 16


@dataclass(frozen=True)
class Track:
    """The maps of one AU in one clip: frames ``(n,)``, descriptors ``(n, D)``, segments ``(n,)``
    (−1: none)."""

    clip: str
    au: int
    frames: np.ndarray
    x: np.ndarray
    segment: np.ndarray


def tracks(
    clip: str, seen: dict[int, list[tuple[int, np.ndarray]]], segment: np.ndarray
) -> Iterator[Track]:
    """Yield the tracks of a clip, one per AU."""
    for au, rows in sorted(seen.items()):
        frames = np.array([frame for frame, _ in rows])
        yield Track(clip, au, frames, np.stack([x for _, x in rows]), segment[frames])


def real(network: AUNetwork, detector: str) -> Iterator[Track]:
    """Look at the real clips."""
    with (SHARED / "clips" / "events.csv").open() as file:
        events = list(csv.DictReader(file))
    for clip in sorted({event["clip"] for event in events}):
        observer = Observer(make_detector(detector), network)
        seen: dict[int, list[tuple[int, np.ndarray]]] = {}
        with open_source(str(SHARED / "clips" / clip)) as source:
            count, batch = 0, []
            while True:
                grab = source.read()
                if grab is not None:
                    t = grab.index / (source.fps or 30.0)
                    batch.append(Frame(clip, grab.index, grab.image, 0, 0.0, t))
                    count = grab.index + 1
                if batch and (grab is None or len(batch) == BATCH):
                    for observation in observer.update(batch):
                        for au, x in observation.descriptors.items():
                            if x is not None:
                                seen.setdefault(au, []).append((observation.frame.index, x))
                    batch = []
                if grab is None:
                    break
        segment = np.full(count, -1)
        for number, event in enumerate(events):
            # What merely covers the face is no expression of its own.
            if event["clip"] == clip and event["aus"]:
                segment[int(event["on_frame"]) : int(event["off_frame"]) + 1] = number
        yield from tracks(clip, seen, segment)


def rendered(network: AUNetwork, folder: Path) -> Iterator[Track]:
    """Look at rendered sequences."""
    from au_evidence import rendered_aus

    columns = {au: k for k, au in enumerate(rendered_aus())}
    from training.augment.views import clean_view

    explain = AnalyzerConfig().explain
    shown = select_aus(network.card, "shown")
    for path in sorted(folder.glob("clip-*.npz")):
        with np.load(path, allow_pickle=False) as file:
            image, intensity, landmarks = (file[k] for k in ("image", "intensity", "landmarks"))
        views = [clean_view(*frame) for frame in zip(image, intensity, landmarks, strict=True)]
        crops = np.stack([view.image for view in views])
        gate = PresenceGate(*network.card.thresholds())
        seen: dict[int, list[tuple[int, np.ndarray]]] = {}
        for start in range(0, len(crops), BATCH):
            part = crops[start : start + BATCH]
            active = [gate.update(row) for row in network.predict(part).presence]
            pairs = [
                (i, a)
                for i, on in enumerate(active)
                for a in map(int, np.flatnonzero(on))
                if network.card.aus[a] in shown
            ]
            if not pairs:
                continue
            maps = lrp.explain(
                network.logits_module, network.prepare(part), pairs, preset=explain.preset
            )
            x, valid = relevance.describe(maps.cpu().numpy(), side=explain.descriptor_side)
            for (i, a), row, good in zip(pairs, x, valid, strict=True):
                if good:
                    seen.setdefault(network.card.aus[a], []).append((start + i, row))
        present = intensity[:, [columns[au] for au in shown if au in columns]] >= CLEAR
        _, segment = np.unique(present, axis=0, return_inverse=True)
        yield from tracks(path.stem, seen, segment.ravel())


def unit(x: np.ndarray) -> np.ndarray:
    """Return the mean of rows at unit length."""
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def quantiles(values: list[float]) -> list[float] | None:
    """Return the 10 %, 50 % and 90 % quantile."""
    return np.quantile(values, (0.1, 0.5, 0.9)).round(3).tolist() if values else None


def distributions(found: list[Track]) -> dict[str, Any]:
    """Return cosines within and between segments, and by distance in time."""
    within: list[float] = []
    between: list[float] = []
    by_lag: dict[int, list[float]] = {lag: [] for lag in LAGS}
    for track in found:
        means: list[np.ndarray] = []
        for number in np.unique(track.segment[track.segment >= 0]):
            x = track.x[track.segment == number]
            if len(x) >= SHORT:
                half = len(x) // 2
                within.append(float(unit(x[:half]) @ unit(x[half:])))
                means.append(unit(x))
        between += [float(a @ b) for i, a in enumerate(means) for b in means[i + 1 :]]
        cosines = track.x @ track.x.T
        apart = track.frames[None] - track.frames[:, None]
        for lag in LAGS:
            by_lag[lag] += cosines[apart == lag].tolist()
    level = None
    if within and between:
        candidates = np.linspace(0.5, 0.99, 50)
        errors = [
            np.mean(np.array(within) < c) + np.mean(np.array(between) >= c) for c in candidates
        ]
        level = round(float(candidates[int(np.argmin(errors))]), 2)
    return {
        "within": quantiles(within),
        "between": quantiles(between),
        "best_split": level,
        "lags": {lag: round(float(np.median(v)), 3) for lag, v in by_lag.items() if v},
    }


def letters(track: Track, config: WindowConfig) -> tuple[int, float | None]:
    """Return the number of letters of a track, and their agreement with the segments."""
    bank = WindowBank(config, track.x.shape[1])
    slot, last, shown = bank.open(), None, []
    for frame, x in zip(track.frames.tolist(), track.x, strict=True):
        if last is not None and frame > last + 1:
            bank.gap(slot)
        last = frame
        shown.append(bank.update([MapInput(slot, frame, x)])[0].letter)
    known = track.segment >= 0
    found = [letter for letter, k in zip(shown, known, strict=True) if k]
    if len(set(track.segment[known])) < 2:
        return len(set(shown)), None
    return len(set(shown)), agreement(track.segment[known].tolist(), found)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rendered", type=Path)
    parser.add_argument("--detector", default="ours")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    network = AUNetwork.load(device="cpu")
    groups: dict[str, list[Track]] = {}
    if (SHARED / "clips" / "events.csv").exists():
        groups["real"] = list(real(network, args.detector))
    if args.rendered:
        groups["rendered"] = list(rendered(network, args.rendered))
    if not groups:
        parser.error(f"no real clips at {SHARED} and no --rendered folder: nothing to look at")
    base = WindowConfig()
    result: dict[str, Any] = {"network": network.name, "defaults": [base.split, base.match]}
    for name, found in groups.items():
        aus = {au: [t for t in found if t.au == au] for au in sorted({t.au for t in found})}
        report: dict[str, Any] = {
            "all": distributions(found),
            "aus": {f"AU{au:02d}": distributions(v) for au, v in aus.items()},
        }
        print(f"{name}: {len(found)} tracks, all: {report['all']}")
        for au, figures in report["aus"].items():
            print(f"  {au}: {figures}")
        report["grid"] = {}
        for level in GRID:
            config = replace(base, split=level, match=level, fast=level + 0.01, alias=level + 0.01)
            runs = [letters(track, config) for track in found if len(track.x) >= SHORT]
            agree = [a for _, a in runs if a is not None]
            report["grid"][level] = {
                "letters_per_track": round(float(np.mean([n for n, _ in runs])), 2),
                "agreement": round(float(np.mean(agree)), 3) if agree else None,
            }
            print(f"  split = match = {level}: {report['grid'][level]}")
        result[name] = report
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
