"""Can the MediaPipe curves judge AU1, AU2 and AU7? What the pictures and the marks say of them.

    python benchmarks/brows.py [--weights FILE] [--cache DIR] [--out JSON]

Per person of ../shared, over the frames with a face:

- the height of the inner brows above the line of the eye corners, measured twice: in the picture
  (:func:`brow_height`) and by the landmarks of the network;
- the correlation of the curves of AU1 and AU2 with it, and with the curve of AU4, their opposite;
- the correlation of the curve of AU7 with that of AU43: a blink is no AU7;
- the correlation of each curve with the spans in which the AU is marked by eye: no detector that
  finds just what is marked follows the curve better than that;
- the mean height within each marked event of AU1 and AU2, and outside all of them.

They cannot judge AU1 and AU2, which is why ``real_clips.UNRELIABLE_CURVES`` keeps them, and that of
AU4, out of ``au_real.py`` and ``calibrate_au.py``.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
from typing import Any

import cv2
import numpy as np
from au_metrics import steady_below
from au_options import network_options, run_command
from facestage.core.face.alignment import similarity
from facestage.core.learning.metrics import correlation
from facestage.core.network.au_network import AUNetwork
from numpy.typing import NDArray
from real_clips import (
    ClipFacts,
    TrackedClip,
    load_facts,
    load_real_crops,
    make_shared_detector,
    shared_folder,
)

__all__ = ["brow_height", "judge"]

EYE_CORNERS = (36, 39), (42, 45)
INNER_BROW = (20, 21, 22, 23)
_BETWEEN = 240
"""Pixels between the eyes in the picture that is measured."""
_LEVEL = 240
"""Row of the line between the eyes in it."""
_HIGH, _LOW = 60, 180
"""Rows in which a brow is looked for: ¾ to ¼ of the distance between the eyes above that line."""
_COLUMNS = (120, 170), (310, 360)
"""Above the inner half of each eye."""
_REST = 0.8
"""Quantile of the brightness of these rows that is taken for skin."""


def brow_height(crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> float:
    """Measure how high the inner brows are, in the picture.

    The picture is turned and scaled so that the eyes (the middles of their corners, which lids do
    not move) lie level and at a fixed distance. In the columns above the inner half of each eye a
    brow is what is darker than skin by more than half of the darkest row; its height is that of
    the middle of its darkness.

    Args:
        crop: ``(S, S)`` uint8.
        landmarks: ``(68, 2)`` crop pixels; the corners of the eyes are used.

    Returns:
        Height above the line between the eyes, in distances between the eyes; the mean of both.
    """
    eyes = np.stack([landmarks[list(corners)].mean(0) for corners in EYE_CORNERS])
    left = (_LEVEL * 2 - _BETWEEN) / 2
    level = np.array([[left, _LEVEL], [left + _BETWEEN, _LEVEL]])
    matrix = similarity(eyes, level, np.ones(2))
    large = cv2.warpAffine(crop, matrix, (2 * _LEVEL, _LEVEL), flags=cv2.INTER_LINEAR)
    rows = np.arange(_HIGH, _LOW)
    heights = []
    for first, last in _COLUMNS:
        brightness = large[_HIGH:_LOW, first:last].astype(np.float64).mean(axis=1)
        dark = np.clip(np.quantile(brightness, _REST) - brightness, 0, None)
        dark[dark < dark.max() / 2] = 0
        heights.append((_LEVEL - dark @ rows / max(dark.sum(), 1e-9)) / _BETWEEN)
    return float(np.mean(heights))


def landmark_height(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ``(N,)`` the same by ``(N, 68, 2)`` landmarks."""
    corners = [list(pair) for pair in EYE_CORNERS]
    eyes = np.stack([landmarks[:, pair].mean(1) for pair in corners], axis=1)
    between = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1)
    return (eyes[..., 1].mean(1) - landmarks[:, list(INNER_BROW), 1].mean(1)) / between


def judge(fact: ClipFacts, clip: TrackedClip, network: AUNetwork) -> dict[str, Any]:
    """Return the figures of one clip, see the top of this file.

    Args:
        fact: what is known about it.
        clip: its crops.
        network: gives the landmarks.
    """
    landmarks = network.landmarks(clip.crops)
    height = np.array([brow_height(*pair) for pair in zip(clip.crops, landmarks, strict=True)])
    between = np.linalg.norm(
        landmarks[:, [36, 39]].mean(1) - landmarks[:, [42, 45]].mean(1), axis=1
    )
    curve = {au: fact.reference[au][clip.index] for au in (1, 2, 4, 7, 43)}
    figures: dict[str, Any] = {
        "frames": len(clip.index),
        "eyes_px": float(np.median(between)),
        "image_with_landmarks": _r(height, landmark_height(landmarks)),
        "au7_with_au43": _r(curve[7], curve[43]),
    }
    marked_brows = np.zeros(len(clip.index), bool)
    events = []
    for au in (1, 2, 7):
        marked = np.zeros(len(clip.index), bool)
        for event in fact.events:
            if event.au == au and event.sure:
                inside = (clip.index >= event.first) & (clip.index <= event.last)
                marked |= inside
                if au != 7:
                    mean = float(height[inside].mean())
                    span = {"au": au, "first": event.first, "last": event.last, "height": mean}
                    events.append(span)
        figures[f"au{au}"] = {
            "judges": bool(np.nanstd(curve[au]) > steady_below(au)),
            "with_marks": _r(curve[au], marked) if marked.any() and not marked.all() else None,
        }
        if au != 7:
            marked_brows |= marked
            figures[f"au{au}"] |= {
                "with_height": _r(curve[au], height),
                "with_au4": _r(curve[au], curve[4]),
            }
    figures["events"] = events
    rest = height[~marked_brows]
    figures["height_elsewhere"] = float(rest.mean()) if len(rest) else None
    return figures


def _r(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    known = np.isfinite(a) & np.isfinite(b)
    value = correlation(a[known].astype(np.float64), b[known].astype(np.float64))
    return None if np.isnan(value) else round(float(value), 3)


def run(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    folder = shared_folder(options.shared)
    facts = load_facts(folder)
    network = AUNetwork.load(options.weights, device=options.device)
    detector = make_shared_detector("yunet", folder)
    tracked = load_real_crops(folder, facts, detector, network, options.cache)
    clips = {
        fact.name: judge(fact, clip, network)
        for fact, clip in zip(facts, tracked, strict=True)
        if fact.name == fact.person and len(clip.index)
    }
    names = ("with_height", "with_au4", "with_marks")
    medians = {
        f"au{au}": {
            name: float(np.median(values))
            for name in names
            if (values := [v for c in clips.values() if (v := c[f"au{au}"].get(name)) is not None])
        }
        for au in (1, 2, 7)
    }
    for name, figures in clips.items():
        print(f"\n{name}: {figures['frames']} frames")
        print(f"  brow height, picture with landmarks: r {figures['image_with_landmarks']}")
        for au in (1, 2):
            print(f"  curve of AU{au}: " + ", ".join(f"{k} {figures[f'au{au}'][k]}" for k in names))
        print(f"  curve of AU7: with AU43 {figures['au7_with_au43']}, {figures['au7']}")
        scale = figures["eyes_px"]
        for event in figures["events"]:
            print(
                f"  AU{event['au']} marked {event['first']}-{event['last']}: brows "
                f"{scale * event['height']:.1f} px above the eyes, elsewhere "
                f"{scale * figures['height_elsewhere']:.1f}"
            )
    print(f"\nmedians over persons: {medians}")
    result = {"model": f"{network.card.name} {network.card.version}", "clips": clips}
    result["medians"] = medians
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


def main() -> None:
    """Run from the command line."""
    run_command(network_options(__doc__, "brows.json"), run, "brows")


if __name__ == "__main__":
    main()
