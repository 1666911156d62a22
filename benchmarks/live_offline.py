"""Do live and offline agree? One clip through both; the labels of its frames compared.

Live: the capture thread with policy ``every``, the pipeline, the sliding window, stages from the
events that were published. Offline: whole-sequence SpRAy, as ``facestage analyze`` does it. Printed
per clip: the adjusted Rand index of the per-frame stage labels (letters up to renaming), the same
for each AU on the frames where both see it active, and the number of stages and letters of both.

    python benchmarks/live_offline.py [CLIP …] [--detector ours|haar|yunet|FILE] [--json FILE]

Without a clip: the embedded demo clip, and the real clips of ../shared where they are at hand.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import os
from pathlib import Path

import numpy as np
from facestage.core.analyzer import Analyzer
from facestage.core.config import AnalyzerConfig
from facestage.core.network.au_network import AUNetwork
from facestage.core.sequence import SequenceAnalyzer
from facestage.core.types import FrameResult, SequenceResult, Stage, StageEvent
from facestage.stream.detectors import make_detector
from facestage.stream.live.pipeline import Pipeline
from facestage.stream.offline.analyze import analyze_source
from facestage.stream.protocol import StreamInfo
from facestage.stream.server.hub import Hub
from facestage.stream.sources import open_source
from sklearn.metrics import adjusted_rand_score

SHARED = Path(os.environ.get("FACESTAGE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def run_live(
    clip: str, detector: str, network: AUNetwork, config: AnalyzerConfig | None = None
) -> tuple[list[Stage], list[FrameResult]]:
    """Return the stages published for a clip, and the result of each frame."""
    events: list[StageEvent] = []
    results: list[FrameResult] = []
    pipeline = Pipeline(
        Analyzer(make_detector(detector), network, config),
        Hub([StreamInfo(id=clip, name=clip)]),
        on_stage=lambda _, event: events.append(event),
        on_result=lambda _, result: results.append(result),
    )
    pipeline.add(clip, lambda: open_source(clip), policy="every")
    pipeline.open()
    pipeline.run()
    stages: list[Stage] = []
    for event in events:
        if event.kind == "exit" and event.end is not None and event.end_s is not None:
            stages.append(Stage(event.labels, event.start, event.end, event.start_s, event.end_s))
    return stages, results


def per_frame(stages: list[Stage] | tuple[Stage, ...], frames: int) -> list[str]:
    """Return the label of each frame, ``""`` where no stage covers it."""
    labels = [""] * frames
    for stage in stages:
        for index in range(stage.start, min(stage.end + 1, frames)):
            labels[index] = "+".join(stage.labels)
    return labels


def per_au(stages: list[Stage] | tuple[Stage, ...], frames: int) -> dict[int, list[str]]:
    """Return the letter of each AU per frame, ``""`` where it is not part of the stage."""
    letters: dict[int, list[str]] = {}
    for stage in stages:
        for label in stage.labels:
            if label.startswith("AU"):
                row = letters.setdefault(int(label[2:4]), [""] * frames)
                for index in range(stage.start, min(stage.end + 1, frames)):
                    row[index] = label[5:]
    return letters


def compare(clip: str, live: list[Stage], offline: SequenceResult) -> dict[str, object]:
    """Return the figures of one clip."""
    frames = len(offline.rows)
    a, b = per_frame(live, frames), per_frame(offline.stages, frames)
    aus: dict[str, dict[str, float]] = {}
    of_live, of_offline = per_au(live, frames), per_au(offline.stages, frames)
    for au in sorted(of_live.keys() & of_offline.keys()):
        both = [(x, y) for x, y in zip(of_live[au], of_offline[au], strict=True) if x and y]
        if both:
            x, y = zip(*both, strict=True)
            aus[f"AU{au:02d}"] = {
                "frames": len(both),
                "letters_live": len(set(x)),
                "letters_offline": len(set(y)),
                "ari": round(float(adjusted_rand_score(x, y)), 3),
            }
    return {
        "clip": Path(clip).name,
        "frames": frames,
        "ari_stages": round(float(adjusted_rand_score(a, b)), 3),
        "stages_live": len(live),
        "stages_offline": len(offline.stages),
        "aus": aus,
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", nargs="*")
    parser.add_argument("--detector", default="ours")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    clips = args.clips or [
        "demo:",
        *(
            str(SHARED / "clips" / name)
            for name in (
                "WolfgangLanger_Pexels.mp4",
                "single_face.mp4",
                "face_noface.mov",
                "noface_face.mov",
                "intel_asl_sorry.mkv",
            )
            if (SHARED / "clips" / name).exists()
        ),
    ]
    network = AUNetwork.load(device="cpu")
    rows = []
    for clip in clips:
        live, _ = run_live(clip, args.detector, network)
        sequence = SequenceAnalyzer(make_detector(args.detector), network)
        offline = analyze_source(clip, sequence)
        row = compare(clip, live, offline)
        rows.append(row)
        print(
            f"{row['clip']}: {row['frames']} frames, stages live {row['stages_live']} / offline "
            f"{row['stages_offline']}, ARI of per-frame stage labels {row['ari_stages']}"
        )
        for au, figures in row["aus"].items():  # type: ignore[union-attr]
            print(
                f"  {au}: {figures['frames']} frames in both, letters {figures['letters_live']} / "
                f"{figures['letters_offline']}, ARI {figures['ari']}"
            )
    print(f"mean ARI of {len(rows)} clips: {np.mean([r['ari_stages'] for r in rows]):.3f}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
