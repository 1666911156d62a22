"""Is an upright face's least lead chosen well? Chosen on half of the people, told on the other.

Every portrait is shown upright and standing on its head. What the detector finds there is settled
by the landmark head as in the tracker, and its *lead* is measured: how much better the landmarks
answer it upright than upside down. The threshold is the largest, in steps of .01, that keeps at
least 99.5 % of the upright faces of the choosing half (``training/photos/halves.py``); how many
upright faces keep it, and how many upside-down pictures pass, is told on the other half, and for
the threshold in use on both.

    python -m benchmarks.upright [--people 400] [--detector ours] [--out results.json]
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from facestage.core.config import FaceConfig
from facestage.core.face.alignment import to_grey, warp
from facestage.core.face.tracker import Detection, FaceTracker
from facestage.core.network.au_network import AUNetwork
from facestage.stream.detectors import make_detector
from facestage.stream.sources.images import load_image
from numpy.typing import NDArray

from training.photos.halves import CHOOSE, REPORT, half_of

FACES = Path(__file__).parents[2] / "shared/faces"
KEEP = 0.995
"""Share of the upright faces that the chosen threshold keeps."""


def make_tracker(name: str) -> FaceTracker:
    """Return a tracker with the embedded landmarks."""
    network, detector = AUNetwork.load(device="cpu"), make_detector(name)
    return FaceTracker.of_network(detector, network)


def lead(tracker: FaceTracker, found: Detection, grey: NDArray[np.uint8]) -> float | None:
    """Return the lead of a detection; None where it is no face by its points or its evidence."""
    if found.points is not None:
        points = found.points
    else:
        box_to_points = tracker._search.box_to_points
        assert box_to_points is not None
        x, y, width, _ = found.box
        points = (box_to_points * width + (x, y)).astype(np.float32)
    probe = tracker.probe
    for _ in range(tracker.config.passes):
        matrix = probe.fit(points)
        points = probe.measure(warp(grey, matrix, tracker.size), matrix)
        if not probe.plausible(points):
            return None
    evidence = probe.evidence(points, grey)
    if evidence < tracker.config.evidence:
        return None
    return evidence - probe.evidence_upside_down(probe.fit(points), grey)


def best_lead(tracker: FaceTracker, image: NDArray[np.uint8]) -> float | None:
    """Return the largest lead of what is found in a picture: it passes if that is large enough."""
    grey = to_grey(image)
    leads = [lead(tracker, found, grey) for found in tracker._search.attached().detect(image)]
    return max((value for value in leads if value is not None), default=None)


def people(most: int) -> list[tuple[str, Path]]:
    """Return one portrait a person, in the order of the file."""
    with (FACES / "faces.csv").open(newline="") as rows:
        first = {row["person"]: FACES / row["file"] for row in reversed(list(csv.DictReader(rows)))}
    return sorted(first.items())[:: max(1, len(first) // most)][:most]


def share(leads: Sequence[float | None], threshold: float, of: int) -> float:
    """Return the share of pictures whose lead reaches a threshold."""
    return sum(value is not None and value >= threshold for value in leads) / of


def told(upright: list[float | None], turned: list[float | None], at: float) -> dict[str, float]:
    """Return the figures of a half at a threshold."""
    found = sum(value is not None for value in upright)
    return {
        "people": len(upright),
        "found_upright": found,
        "kept_of_found": round(share(upright, at, found), 4),
        "least_lead": round(min(value for value in upright if value is not None), 3),
        "upside_down_pass": round(share(turned, at, len(turned)), 4),
    }


def measure(most: int, detector: str) -> dict[str, object]:
    """Return what was measured."""
    tracker = make_tracker(detector)
    leads: dict[str, tuple[list[float | None], list[float | None]]] = {
        half: ([], []) for half in (CHOOSE, REPORT)
    }
    for person, path in people(most):
        image = load_image(path)
        turned = np.ascontiguousarray(cv2.rotate(image, cv2.ROTATE_180), np.uint8)
        for kept, shown in zip(leads[half_of(person)], (image, turned), strict=True):
            kept.append(best_lead(tracker, shown))
    seen = [value for value in leads[CHOOSE][0] if value is not None]
    steps = np.round(np.arange(-0.5, 1.0, 0.01), 2)
    chosen = max(float(at) for at in steps if share(seen, at, len(seen)) >= KEEP)
    in_use = FaceConfig().upright
    return {
        "detector": detector,
        "chosen": chosen,
        "in_use": in_use,
        "at_chosen": {half: told(*leads[half], chosen) for half in leads},
        "at_in_use": {half: told(*leads[half], in_use) for half in leads},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--detector", default="ours")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = json.dumps(measure(options.people, options.detector), indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
