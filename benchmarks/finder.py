"""Face detectors on real people: ours, YuNet and Haar side by side, at every size and roll.

Usage: ``python benchmarks/finder.py [FOLDER] [--yunet FILE] [--ours FILE] [--pictures FOLDER]
[--half report|choose] [--people N] [--clips NAME …] [--skip PART …] [--out FILE]``. FOLDER holds
``faces/``, ``clips/`` and ``models/`` (default ``../shared`` beside the project). ``--pictures`` is
the folder of pictures without people that training reads; those of the same half, which are never
trained with, are pasted into and searched for faces. Without it they are painted. Prints tables and
writes ``benchmarks/results/finder.json``.

The portraits are those of people of one half: figures are reported on ``report``, nothing is
trained with them; ``choose`` takes the people who choose weights and thresholds. The truth of a
portrait is MediaPipe's outline of the face; a face is found when a box overlaps that of the outline
by half, and a box is false when its middle lies outside. Intervals hold 95 %: Wilson's for shares,
Poisson's exact ones for counts.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from facestage.core.face.tracker import Detection, Detector
from facestage.core.network.au_network import AUNetwork
from facestage.core.sequence import SequenceAnalyzer
from facestage.core.types import Frame
from facestage.stream.detectors import HaarDetector, OurDetector, YuNetDetector
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2
from sklearn.metrics import adjusted_rand_score

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.face_points import follow as followed_points
from benchmarks.face_points import read
from training.finder.heads import MESH_OVAL, chooses, mesh_of, mesh_points
from training.finder.recipe import pictures_of
from training.finder.scenes import room
from training.fit.face_mesh import FaceMesh
from training.photos.halves import half_of

SIZES = (8, 12, 16, 32, 64)
"""Distances between the eyes in the picture, pixels."""
ROLLS = (0, 45, 90, 135, 180)
CLIP_ROLLS = (0, 45, 90)
PAINTED = 4
"""Of the pictures without people one in so many is painted."""
HEIGHT, WIDTH = 360, 640
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Portrait:
    """A photograph with its truth, pixels."""

    image: Image
    outline: NDArray[np.float64]
    points: NDArray[np.float64]


def load_portraits(folder: Path, yunet: Path, half: str, people: int) -> Iterator[Portrait]:
    """Yield portraits of the first ``people`` people of a half, one each."""
    with (folder / "faces" / "faces.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if half_of(row["person"]) == half]
    if half == "choose":
        rows = [row for row in rows if chooses(row["person"])]
    one_each = {row["person"]: row["file"] for row in rows}
    every = max(1, len(one_each) // people)
    network = cv2.FaceDetectorYN.create(str(yunet), "", (320, 320), 0.6)
    mesh = FaceMesh(folder / "models" / "face_landmarks_detector.tflite")
    for name in [one_each[person] for person in sorted(one_each)][::every][:people]:
        image = np.asarray(cv2.imread(str(folder / "faces" / name)), np.uint8)
        marks = mesh_of(image, network, mesh)
        if marks is not None:
            yield Portrait(image, marks[list(MESH_OVAL)], mesh_points(marks).astype(np.float64))


class Places:
    """Pictures without people to paste into.

    Args:
        folder: of the pictures of training; painted ones if None.
        half: ``report`` or ``choose``.
    """

    def __init__(self, folder: Path | None, half: str = "report") -> None:
        files = [] if folder is None else pictures_of(folder, half)["picture"]
        self.files = [str(p) for p in files]
        self._kept: dict[str, Image] = {}

    def draw(self, rng: np.random.Generator) -> Image:
        """Return a part of a picture, ``(360, 640, 3)``."""
        if not self.files or rng.integers(PAINTED) == 0:
            grey = cv2.resize(room(rng), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
            return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2)
        name = self.files[rng.integers(len(self.files))]
        if name not in self._kept:
            image = np.asarray(cv2.imread(name), np.uint8)
            factor = max(1280 / image.shape[1], 720 / image.shape[0])
            self._kept[name] = np.asarray(
                cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            )
        image = self._kept[name]
        share = math.exp(rng.uniform(math.log(0.3), 0))
        height = int(min(image.shape[0], image.shape[1] * 9 / 16) * share)
        width = min(image.shape[1], height * 16 // 9)
        y, x = (
            int(rng.integers(0, n - m + 1))
            for n, m in zip(image.shape[:2], (height, width), strict=True)
        )
        cut = image[y : y + height, x : x + width]
        return np.asarray(cv2.resize(cut, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))


def pasted(
    portrait: Portrait, place: Image, eyes: float, roll: float, rng: np.random.Generator
) -> tuple[Image, NDArray[np.float64], NDArray[np.float64]]:
    """Paste a portrait; return the picture, the box (edges) and the points of the face in it."""
    points = portrait.points
    factor = eyes / float(np.linalg.norm(points[1] - points[0]))
    small = cv2.resize(
        portrait.image,
        None,
        fx=factor,
        fy=factor,
        interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR,
    )
    true = np.array(
        [small.shape[1] / portrait.image.shape[1], small.shape[0] / portrait.image.shape[0]]
    )
    outline, points = portrait.outline * true, points * true
    across = points[1] - points[0]
    tilt = math.radians(roll) - math.atan2(across[1], across[0])
    linear = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    turned = outline @ linear.T
    low, high = turned.min(0), turned.max(0)
    room_left = np.maximum((WIDTH, HEIGHT) - (high - low), 0)
    shift = rng.uniform(0, 1, 2) * room_left - low
    matrix = np.column_stack([linear, shift])
    mask = np.full(small.shape[:2], 255, np.uint8)
    cover = cv2.warpAffine(mask, matrix, (WIDTH, HEIGHT))[..., None] / 255.0
    over = cv2.warpAffine(small, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    image = np.rint(place + cover * (over - place.astype(np.float64))).astype(np.uint8)
    turned = turned + shift
    return image, np.concatenate([turned.min(0), turned.max(0)]), points @ linear.T + shift


def overlap(found: Detection, box: NDArray[np.float64]) -> float:
    """Intersection over union."""
    x, y, w, h = found.box
    wide = min(x + w, box[2]) - max(x, box[0])
    high = min(y + h, box[3]) - max(y, box[1])
    common = max(wide, 0) * max(high, 0)
    return common / (w * h + (box[2] - box[0]) * (box[3] - box[1]) - common)


def outside(found: Detection, box: NDArray[np.float64]) -> bool:
    """Whether the middle of a box lies outside the face."""
    x, y = found.box[0] + found.box[2] / 2, found.box[1] + found.box[3] / 2
    return not (box[0] <= x <= box[2] and box[1] <= y <= box[3])


def measure_pasted(
    detectors: list[Detector], portraits: list[Portrait], places: Places
) -> dict[str, Any]:
    """Found, false per picture and mean overlap of each detector, by size and roll."""
    figures: dict[str, Any] = {d.name: {} for d in detectors}
    for size in SIZES:
        for roll in ROLLS:
            sums = {d.name: np.zeros(4) for d in detectors}
            for number, portrait in enumerate(portraits):
                rng = np.random.default_rng([size, roll, number])
                image, box, points = pasted(portrait, places.draw(rng), size, roll, rng)
                for detector in detectors:
                    found = detector.detect(image)
                    best = max(found, key=lambda d: overlap(d, box), default=None)
                    share = 0.0 if best is None else overlap(best, box)
                    off = 0.0
                    if share >= 0.5 and best is not None and best.points is not None:
                        off = float(np.linalg.norm(best.points - points, axis=1).mean()) / size
                    sums[detector.name] += (
                        share >= 0.5,
                        sum(outside(d, box) for d in found),
                        share * (share >= 0.5),
                        off,
                    )
            for name, (hits, false, share, off) in sums.items():
                figures[name][f"{size}px {roll}°"] = {
                    "found": hits / len(portraits),
                    "found_95": share_between(int(hits), len(portraits)),
                    "false": false / len(portraits),
                    "false_95": count_between(int(false), len(portraits)),
                    "overlap": share / max(hits, 1),
                    "points": 100 * off / max(hits, 1),
                }
    return figures


def share_between(hits: int, of: int) -> list[float]:
    """95 % interval of a share."""
    return list(binomtest(hits, of).proportion_ci(method="wilson"))


def count_between(count: int, of: int) -> list[float]:
    """95 % interval of a count per picture."""
    low = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return [float(low / of), float(chi2.ppf(0.975, 2 * count + 2) / 2 / of)]


def measure_empty(
    detectors: list[Detector], places: Places, clip: Path, count: int, network: AUNetwork
) -> Any:
    """Pictures without people in which something is found, and in which a face is followed."""
    figures = {}
    for detector in detectors:
        boxes, followed = [], 0
        for i in range(count):
            image = places.draw(np.random.default_rng([99, i]))
            boxes.append(len(detector.detect(image)))
            # Where nothing is found nobody is followed.
            followed += boxes[-1] > 0 and bool(
                follow([image] * 2, detector, network, 0).faces.any()
            )
        in_clip = read(clip)
        figures[detector.name] = {
            "pictures": count,
            "with_a_box": sum(n > 0 for n in boxes),
            "with_a_box_95": share_between(sum(n > 0 for n in boxes), count),
            "boxes": sum(boxes),
            "followed": followed,
            "no_face_frames": len(in_clip),
            "no_face_boxes": sum(len(detector.detect(frame)) for frame in in_clip),
            "no_face_followed": int(follow(in_clip, detector, network, 0).faces.sum()),
        }
    return figures


def measure_points(
    ours: Detector, yunet: Detector, clips: list[Path], network: AUNetwork
) -> dict[str, Any]:
    """Distance of our points to YuNet's on upright clips, % of YuNet's eye distance.

    Without the mean offset of each point: where a nose tip is, is a matter of definition. ``own``
    are the detector's, ``followed`` what the tracker makes of them.
    """
    figures: dict[str, Any] = {}
    for clip in clips:
        frames = read(clip)
        theirs = np.stack([best_points(yunet.detect(frame)) for frame in frames])
        eyes = np.linalg.norm(theirs[:, 1] - theirs[:, 0], axis=-1)[:, None, None]
        of_clip = figures[clip.name] = {}
        for name, points in (
            ("own", np.stack([best_points(ours.detect(frame)) for frame in frames])),
            ("followed", followed_points(frames, ours, network).points()),
        ):
            offset = ((points - theirs) / eyes)[~np.isnan(points - theirs).any((1, 2))]
            away = np.linalg.norm(offset - offset.mean(0), axis=-1)
            of_clip[name] = 100 * float(away.mean()) if len(offset) else None
            of_clip[f"{name}_frames"] = len(offset)
    return figures


def best_points(found: list[Detection]) -> NDArray[np.float64]:
    """Points of the largest face; NaN without one."""
    largest = max(found, key=lambda d: d.box[2] * d.box[3], default=None)
    if largest is None or largest.points is None:
        return np.full((5, 2), np.nan)
    return largest.points.astype(np.float64)


def measure_time(detectors: list[Detector], image: Image, rounds: int = 40) -> dict[str, float]:
    """Processor time of one look, ms, the median of alternating looks."""
    spent: dict[str, list[float]] = {d.name: [] for d in detectors}
    for _ in range(rounds):
        for detector in detectors:
            start = time.thread_time()
            detector.detect(image)
            spent[detector.name].append(1e3 * (time.thread_time() - start))
    return {name: float(np.median(values)) for name, values in spent.items()}


def turn(image: Image, roll: float) -> Image:
    """Turn a picture clockwise on a canvas that holds all of it."""
    height, width = image.shape[:2]
    c, s = abs(math.cos(math.radians(roll))), abs(math.sin(math.radians(roll)))
    wide, high = round(width * c + height * s), round(width * s + height * c)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -roll, 1.0)
    matrix[:, 2] += ((wide - width) / 2, (high - height) / 2)
    return np.asarray(cv2.warpAffine(image, matrix, (wide, high)), np.uint8)


@dataclass
class Followed:
    """A clip analysed.

    Attributes:
        faces: ``(F,)`` bool, frames with a face that was analysed.
        presence: ``(F, A)`` of the network, 0–1.
        active: ``(F, A)`` bool, AUs that are active.
        stages: name of each frame's stage.
        looks: times the detector was asked.
    """

    faces: NDArray[np.bool_]
    presence: NDArray[np.float32]
    active: NDArray[np.bool_]
    stages: list[str]
    looks: int


class Counted:
    """A detector that counts how often it is asked."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.name, self.looks = detector, detector.name, 0

    def detect(self, image: Image, smallest: float = 0.0) -> list[Detection]:
        """Ask it."""
        self.looks += 1
        return self.detector.detect(image, smallest)


def follow(frames: list[Image], detector: Detector, network: AUNetwork, roll: float) -> Followed:
    """Analyse a turned clip as ``facestage analyze`` does."""
    counted = Counted(detector)
    analyzer = SequenceAnalyzer(counted, network)
    for index, frame in enumerate(frames):
        image = turn(frame, roll) if roll else frame
        analyzer.update([Frame("clip", index, image, pts=index / 25)])
    result = analyzer.finish(source="clip", fps=25.0)
    none = np.zeros(len(result.aus), np.float32)
    stages = [str(stage.labels) for stage in result.stages for _ in range(stage.frames)]
    return Followed(
        np.array([row.presence is not None for row in result.rows]),
        np.stack([none if row.presence is None else row.presence for row in result.rows]),
        np.array([[au in row.labels for au in result.aus] for row in result.rows]),
        stages,
        counted.looks,
    )


def measure_clips(detectors: list[Detector], clips: list[Path], network: AUNetwork) -> Any:
    """Of each clip, detector and roll: frames analysed, AUs and stages against upright runs.

    ``own`` compares with the same detector's upright run, ``haar`` with Haar's.
    """
    figures: dict[str, Any] = {}
    for clip in clips:
        frames = read(clip)
        upright = {d.name: follow(frames, d, network, 0) for d in detectors}
        of_clip = figures.setdefault(clip.name, {})
        for detector in detectors:
            for roll in CLIP_ROLLS:
                run = follow(frames, detector, network, roll) if roll else upright[detector.name]
                of_clip.setdefault(detector.name, {})[f"{roll}°"] = {
                    "frames": len(frames),
                    "analysed": int(run.faces.sum()),
                    "looks": run.looks,
                    "own": agreement(run, upright[detector.name]),
                    **({"haar": agreement(run, upright["haar"])} if "haar" in upright else {}),
                }
    return figures


def agreement(a: Followed, b: Followed) -> dict[str, float]:
    """Compare two runs of a clip.

    ``presence`` is the mean difference of an AU's presence where both saw a face, that of the AU
    that differs most; ``active`` the share of (frame, AU) of all frames that agree; ``stages`` the
    adjusted Rand index of the stages of all frames.
    """
    both = a.faces & b.faces
    change = np.abs((a.presence - b.presence)[both].mean(0)).max() if both.any() else 1.0
    return {
        "presence": float(change),
        "active": float((a.active == b.active).mean()),
        "stages": float(adjusted_rand_score(a.stages, b.stages)),
    }


def show_pasted(figures: dict[str, Any]) -> None:
    """Print found % and false per picture."""
    for key, title, factor in (
        ("found", "found %", 100),
        ("false", "false per picture", 1),
        ("points", "points %", 1),
    ):
        print(f"\n{title:20}" + "".join(f"{f'{s}px':>9}" for s in SIZES))
        for name in figures:
            for roll in ROLLS:
                cells = "".join(
                    f"{factor * figures[name][f'{s}px {roll}°'][key]:9.2f}" for s in SIZES
                )
                print(f"{name:10}{roll:>8}°  {cells}")


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT.parent / "shared")
    parser.add_argument("--yunet", type=Path, help="YuNet ONNX file (default: FOLDER/models)")
    parser.add_argument("--ours", type=Path, help="another face finder's safetensors file")
    parser.add_argument("--pictures", type=Path, help="folder of pictures without people")
    parser.add_argument("--half", choices=("report", "choose"), default="report")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--empty", type=int, default=1000, help="pictures without people")
    parser.add_argument("--long-side", type=int, default=320, help="of ours, pixels")
    parser.add_argument("--clips", nargs="*", default=("single_face.mp4",))
    parts = ("pasted", "empty", "points", "clips")
    parser.add_argument("--skip", nargs="*", default=(), choices=parts)
    parser.add_argument("--without", nargs="*", default=(), choices=("haar", "yunet"))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "finder.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = options.yunet or options.folder / "models" / "face_detection_yunet_2023mar.onnx"
    detectors: list[Detector] = [OurDetector(options.ours, options.long_side)]
    detectors += [] if "yunet" in options.without else [YuNetDetector(model)]
    detectors += [] if "haar" in options.without else [HaarDetector()]
    report: dict[str, Any] = {"opencv": cv2.__version__, "torch": torch.__version__}
    places, network = Places(options.pictures, options.half), AUNetwork.load(device="cpu")
    report["look_ms"] = measure_time(detectors, places.draw(np.random.default_rng(0)))
    print("one look, ms:", {k: round(v, 2) for k, v in report["look_ms"].items()})
    if "pasted" not in options.skip:
        portraits = list(load_portraits(options.folder, model, options.half, options.people))
        report["half"], report["people"] = options.half, len(portraits)
        report["pasted"] = measure_pasted(detectors, portraits, places)
        show_pasted(report["pasted"])
    if "empty" not in options.skip:
        clip = options.folder / "clips" / "no_face.mp4"
        report["empty"] = measure_empty(detectors, places, clip, options.empty, network)
        for name, found in report["empty"].items():
            print(name, found)
    clips = [options.folder / "clips" / name for name in options.clips]
    if "points" not in options.skip:
        report["points"] = measure_points(detectors[0], YuNetDetector(model), clips, network)
        for clip_name, found in report["points"].items():
            print(clip_name, "points against YuNet's, % of the eye distance:", found)
    if "clips" not in options.skip:
        report["clips"] = measure_clips(detectors, clips, network)
        for clip_name, by_detector in report["clips"].items():
            for name, by_roll in by_detector.items():
                for roll, found in by_roll.items():
                    print(clip_name, name, roll, found)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
