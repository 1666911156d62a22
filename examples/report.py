"""Analyse a recording from Python: the report, and figures of your own from the result.

    python examples/report.py demo: --out result
    python examples/report.py face.mp4 --out result --aus 4,12,25

The files are those of `facestage analyze`. The result also stays in memory: below, how long each
prototype was shown, and how strong each AU was at most.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from facestage.core.stages import format_prototype
from facestage.core.types import SequenceResult
from facestage.stream.commands.analyze import run_analyze
from facestage.stream.commands.signatures import AnalyzeOptions


def seconds_shown(result: SequenceResult) -> Counter[str]:
    """Return label → seconds that it is part of a stage."""
    shown: Counter[str] = Counter()
    for stage in result.stages:
        for label in stage.labels:
            shown[label] += stage.frames / result.fps
    return shown


def strongest(result: SequenceResult) -> dict[int, tuple[float, float]]:
    """Return AU → its greatest intensity (0-5) and the time of it, seconds."""
    rows = [row for row in result.rows if row.intensity is not None]
    if not rows:
        return {}
    intensity = np.stack([row.intensity for row in rows])  # (frames with a face, AUs)
    at = intensity.argmax(axis=0)
    return {
        au: (float(intensity[at[n], n]), rows[at[n]].time_s)
        for n, au in enumerate(result.aus)
        if au not in result.hidden
    }


def main() -> None:
    """Analyse, write the files, print a summary."""
    parser = argparse.ArgumentParser(description="Analyse a recording and summarise it.")
    parser.add_argument("source", help="video file, folder of images, or demo:")
    parser.add_argument("--out", type=Path, default=Path("result"))
    parser.add_argument("--aus", default="shown", help="which AUs take part")
    parser.add_argument("--frames", type=int, help="stop after so many frames")
    options = parser.parse_args()

    result = run_analyze(
        AnalyzeOptions(
            source=options.source, out_dir=options.out, aus=options.aus, frames=options.frames
        )
    )
    print("temporal prototype:", format_prototype(result.stages))
    for label, seconds in seconds_shown(result).most_common():
        print(f"{label:8} {seconds:6.2f} s")
    for au, (most, time_s) in strongest(result).items():
        print(f"AU{au:02d} at most {most:.1f} of 5, at {time_s:.2f} s")


if __name__ == "__main__":
    main()
