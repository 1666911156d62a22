"""Compare the embedded face path (Haar + landmark head) with YuNet on real clips.

Usage: ``python benchmarks/face_points.py [FOLDER] [--yunet FILE] [--out FILE]``. FOLDER holds
``clips/`` and ``models/`` (default ``../shared`` beside the project). Prints one table and writes
``benchmarks/results/face_points.json``. Distances are per cent of YuNet's inter-ocular distance,
times are CPU milliseconds per frame on one thread, decoding not included.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from facestage.core.face.tracker import Detector, FaceTracker
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import FaceObservation, FaceState
from facestage.stream.detectors import HaarDetector, YuNetDetector
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Run:
    """One tracker over one clip."""

    seen: list[FaceObservation]
    ms_per_frame: float
    detections_per_frame: float

    def points(self) -> NDArray[np.float64]:
        """``(F, 5, 2)`` points, NaN where there is no analysable face."""
        none = np.full((5, 2), np.nan)
        return np.array([none if o.crop is None else o.points for o in self.seen], np.float64)

    def states(self) -> str:
        """Run-length timeline such as ``tracked 0-71, lost 72-168``."""
        runs: list[list[Any]] = []
        for i, o in enumerate(self.seen):
            if runs and runs[-1][0] == (o.state, o.reason):
                runs[-1][2] = i
            else:
                runs.append([(o.state, o.reason), i, i])
        return ", ".join(
            f"{state}{f' ({reason})' if reason else ''} {a}-{b}" for (state, reason), a, b in runs
        )


def read(path: Path) -> list[NDArray[np.uint8]]:
    """Decode a clip."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        ok, image = capture.read()
        if not ok:
            return frames
        frames.append(image)


def follow(frames: list[NDArray[np.uint8]], detector: Detector, network: AUNetwork) -> Run:
    """Track a clip and time it."""
    tracker = FaceTracker.of_network(detector, network)
    start = time.process_time()  # the machine may be shared: count our own CPU time
    seen = [tracker.update(frame) for frame in frames]
    spent = time.process_time() - start
    return Run(seen, 1e3 * spent / len(frames), tracker.detections / len(frames))


def jitter(points: NDArray[np.float64], eyes: NDArray[np.float64]) -> float:
    """Mean length of the second difference of the points, % of the eye distance."""
    second = points[2:] - 2 * points[1:-1] + points[:-2]
    return float(np.nanmean(np.linalg.norm(second, axis=-1) / eyes[1:-1, None]) * 100)


def measure(path: Path, yunet: YuNetDetector, network: AUNetwork) -> dict[str, Any]:
    """All figures of one clip."""
    frames = read(path)
    haar = HaarDetector()
    raw = np.full((len(frames), 5, 2), np.nan)
    hits = 0
    for i, frame in enumerate(frames):
        found = yunet.detect(frame)
        if found:
            best = max(found, key=lambda d: d.box[2] * d.box[3])
            assert best.points is not None
            raw[i] = best.points
        hits += bool(haar.detect(frame))
    embedded, reference = follow(frames, haar, network), follow(frames, yunet, network)
    faces = ~np.isnan(raw[:, 0, 0])
    figures: dict[str, Any] = {
        "frames": len(frames),
        "frames_with_face_yunet": int(faces.sum()),
        "haar_hits": hits,
        "embedded_analysed": sum(o.crop is not None for o in embedded.seen),
        "embedded_invented": sum(
            o.state != FaceState.LOST and not face
            for o, face in zip(embedded.seen, faces, strict=True)
        ),
        "embedded_ms": embedded.ms_per_frame,
        "embedded_detections_per_frame": embedded.detections_per_frame,
        "yunet_ms": reference.ms_per_frame,
        "embedded_states": embedded.states(),
        "yunet_states": reference.states(),
    }
    points = embedded.points()
    both = faces & ~np.isnan(points[:, 0, 0])
    if both.any():
        eyes = np.linalg.norm(raw[:, 1] - raw[:, 0], axis=-1)
        offset = (points - raw) / eyes[:, None, None]
        crops = [
            (a.crop.astype(float).ravel(), b.crop.astype(float).ravel())
            for a, b in zip(embedded.seen, reference.seen, strict=True)
            if a.crop is not None and b.crop is not None
        ]
        figures |= {
            "eye_distance_px": float(np.nanmean(eyes)),
            "error": float(np.nanmean(np.linalg.norm(offset, axis=-1)) * 100),
            "error_without_mean": float(
                np.nanmean(np.linalg.norm(offset - np.nanmean(offset, axis=0), axis=-1)) * 100
            ),
            "mean_offset": np.round(np.nanmean(offset, axis=0) * 100, 2).tolist(),
            "jitter_yunet_raw": jitter(raw, eyes),
            "jitter_yunet": jitter(reference.points(), eyes),
            "jitter_embedded": jitter(points, eyes),
            "crop_difference": float(np.mean([np.abs(a - b).mean() for a, b in crops])),
            "crop_correlation": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in crops])),
        }
    return figures


COLUMNS = {
    "frames": "frames",
    "frames_with_face_yunet": "yunet",
    "haar_hits": "haar",
    "embedded_analysed": "tracked",
    "embedded_invented": "invented",
    "error": "error %",
    "error_without_mean": "-mean %",
    "jitter_yunet_raw": "jit raw",
    "jitter_yunet": "jit yunet",
    "jitter_embedded": "jit emb",
    "crop_difference": "crop diff",
    "crop_correlation": "crop r",
    "embedded_ms": "ms emb",
    "yunet_ms": "ms yunet",
}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT.parent / "shared")
    parser.add_argument("--yunet", type=Path, help="YuNet ONNX file (default: FOLDER/models)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "face_points.json"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = options.yunet or options.folder / "models" / "face_detection_yunet_2023mar.onnx"
    yunet, network = YuNetDetector(model), AUNetwork.load(device="cpu")
    clips = sorted(p for p in (options.folder / "clips").iterdir() if p.suffix != ".csv")
    results = {}
    print(f"{'clip':26}" + "".join(f"{name:>10}" for name in COLUMNS.values()))
    for clip in clips:
        figures = results[clip.name] = measure(clip, yunet, network)
        cells = (figures.get(key, "–") for key in COLUMNS)
        print(
            f"{clip.name:26}"
            + "".join(f"{c:>10.2f}" if isinstance(c, float) else f"{c:>10}" for c in cells)
        )
        print(f"    haar:  {figures['embedded_states']}\n    yunet: {figures['yunet_states']}")
    report = {"model": network.name, "opencv": cv2.__version__, "clips": results}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
