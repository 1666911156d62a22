"""An hour in which expressions return: do they regain their letters, and at what cost?

Takes the relevance maps that the embedded network gives for the demo clip (and for the real clips
of ../shared where they are at hand), cuts each Action Unit's maps into segments of at most three
seconds, and plays the segments in random order for an hour through one bank of windows, with
pauses between them. Per Action Unit: the letters after the first ten minutes and at the end, and
the share of visits of a segment whose most frequent letter is that of its first visit (or the older
letter that this one was joined with). Over all:
CPU time per map and memory per window in the first minute and in the last.

    python benchmarks/session.py [--minutes N] [--seed N] [--json FILE]
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import pickle
import time
from collections import Counter
from pathlib import Path

import numpy as np
from facestage.core.config import WindowConfig
from facestage.core.network.au_network import AUNetwork
from facestage.core.observer import Observer
from facestage.core.types import Frame
from facestage.core.window import MapInput, WindowBank
from facestage.stream.detectors import make_detector
from facestage.stream.sources import open_source
from live_offline import SHARED

RATE = 30
"""Maps per second."""
LONGEST = 3 * RATE
"""Longest segment, maps."""
SHORTEST = RATE // 2
"""Shortest segment, maps."""
BATCH = 16

Segment = tuple[np.ndarray, np.ndarray]
"""Descriptors ``(n, D)`` and relevance masses ``(n,)`` of one Action Unit."""


def segments(clip: str, network: AUNetwork) -> dict[int, list[Segment]]:
    """Return the maps of each Action Unit of a clip in unbroken segments."""
    observer = Observer(make_detector("ours"), network)
    seen: dict[int, list[tuple[int, np.ndarray, float]]] = {}
    with open_source(clip) as source:
        batch: list[Frame] = []
        while True:
            grab = source.read()
            if grab is not None:
                batch.append(Frame(clip, grab.index, grab.image, pts=grab.pts))
            if batch and (grab is None or len(batch) == BATCH):
                for observation in observer.update(batch):
                    for au, x in observation.descriptors.items():
                        if x is not None:
                            mass = float(np.maximum(observation.maps[au], 0.0).sum())
                            seen.setdefault(au, []).append((observation.frame.index, x, mass))
                batch = []
            if grab is None:
                break
    found: dict[int, list[Segment]] = {}
    for au, rows in seen.items():
        frames = np.array([frame for frame, _, _ in rows])
        breaks = np.flatnonzero(np.diff(frames) > 1) + 1
        for run in np.split(np.arange(len(rows)), breaks):
            for part in np.array_split(run, max(-(-len(run) // LONGEST), 1)):
                if len(part) >= SHORTEST:
                    x = np.stack([rows[i][1] for i in part])
                    found.setdefault(au, []).append((x, np.array([rows[i][2] for i in part])))
    return found


def play(found: dict[int, list[Segment]], minutes: float, seed: int) -> dict[str, object]:
    """Play the segments of all Action Units in random order and judge the letters."""
    rng = np.random.default_rng(seed)
    dimension = next(iter(found.values()))[0][0].shape[1]
    bank = WindowBank(WindowConfig(), dimension)
    slots = {au: bank.open() for au in found}
    first: dict[tuple[int, int], str] = {}
    visits: dict[int, list[bool]] = {au: [] for au in found}
    retired: dict[int, int] = dict.fromkeys(found, 0)
    early: dict[int, int] = {}
    cost: list[tuple[float, int, float]] = []
    total = int(minutes * 60 * RATE)
    t, memory = 0, []
    while t < total:
        # One segment of every Action Unit at a time, each its own, then a pause.
        chosen = {au: int(rng.integers(len(parts))) for au, parts in found.items()}
        length = max(len(found[au][k][0]) for au, k in chosen.items())
        letters: dict[int, Counter[str]] = {au: Counter() for au in found}
        for i in range(length):
            active = [au for au, k in chosen.items() if i < len(found[au][k][0])]
            begun = time.thread_time()
            updates = bank.update(
                [
                    MapInput(
                        slots[au],
                        t + i,
                        found[au][chosen[au]][0][i],
                        mass=float(found[au][chosen[au]][1][i]),
                    )
                    for au in active
                ]
            )
            cost.append(((t + i) / RATE / 60, len(active), time.thread_time() - begun))
            for au, update in zip(active, updates, strict=True):
                letters[au][update.letter] += 1
                # A letter that was joined with an older one stands for it from then on.
                for gone, stays in update.retired:
                    retired[au] += 1
                    for key, letter in first.items():
                        if key[0] == au and letter == gone:
                            first[key] = stays
        for au, k in chosen.items():
            bank.gap(slots[au])
            letter = letters[au].most_common(1)[0][0]
            if (au, k) in first:
                visits[au].append(first[au, k] == letter)
            first.setdefault((au, k), letter)
        t += length + RATE // 2
        if not early and t >= 10 * 60 * RATE:
            early = {au: len(bank.track(slots[au]).letters) for au in found}
        if len(memory) < 1 + t // (60 * RATE):
            memory.append(max(len(pickle.dumps(bank.track(slot))) for slot in slots.values()))

    def each(low: float, high: float) -> float:
        part = [(n, s) for at, n, s in cost if low <= at < high]
        return round(sum(s for _, s in part) / max(sum(n for n, _ in part), 1) * 1e6, 1)

    return {
        "minutes": minutes,
        "seed": seed,
        "us_per_map_first_minute": each(0, 1),
        "us_per_map_last_minute": each(t / RATE / 60 - 1, 1e9),
        "track_bytes_second_minute": memory[min(1, len(memory) - 1)],
        "track_bytes_last_minute": memory[-1],
        "regained": round(float(np.mean([ok for v in visits.values() for ok in v])), 3),
        "aus": {
            f"AU{au:02d}": {
                "segments": len(found[au]),
                "visits": len(visits[au]),
                "regained": round(float(np.mean(visits[au])), 3) if visits[au] else None,
                "joined": retired[au],
                "letters_10_min": early.get(au),
                "letters_end": len(bank.track(slots[au]).letters),
            }
            for au in sorted(found)
        },
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    network = AUNetwork.load(device="cpu")
    clips = ["demo:", *sorted(map(str, (SHARED / "clips").glob("*.m*")))]
    found: dict[int, list[Segment]] = {}
    for clip in clips:
        for au, parts in segments(clip, network).items():
            found.setdefault(au, []).extend(parts)
    if not found:
        parser.error("no Action Unit is active long enough in any clip")
    result = {"network": network.name, "clips": [Path(c).name for c in clips]}
    result |= play(found, args.minutes, args.seed)
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
