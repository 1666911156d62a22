"""Memory of a long recording: made-up observations of 100,000 frames through the sequence analyzer.

Detector and network are left out; what is kept of each frame is real: rows, three relevance maps,
their descriptors and a face picture. Prints the peak of the process above what it takes before the
first frame: while frames come in, after the whole was explained, and after it was written.

    python -m benchmarks.long_recording [--frames 100000] [--memory] [--out results.json]
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from facestage.core.network.au_network import AUNetwork
from facestage.core.observer import Observation
from facestage.core.sequence import SequenceAnalyzer
from facestage.core.types import FaceObservation, FaceState, Frame
from facestage.stream.compute import limit_blas
from facestage.stream.detectors import make_detector
from facestage.stream.offline.exports import write_analysis
from facestage.stream.offline.shelf import DiskShelf

AUS = (4, 12, 25)
SIDE, PARTS = 112, 256
BATCH = 8


def peak_mb() -> float:
    """Return the largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def now_mb() -> float:
    """Return the memory of this process now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def observations(analyzer: SequenceAnalyzer, frames: int) -> Iterator[list[Observation]]:
    """Give batches of observations: a face that slides through a few patterns."""
    rng = np.random.default_rng(0)
    card = analyzer.network.card
    images = rng.integers(0, 256, (4, 360, 640), np.uint8)
    points = (card.template * 2 + (200, 80)).astype(np.float32)
    maps = rng.random((8, len(AUS), SIDE, SIDE), np.float32)
    values = rng.random((2, len(card.aus)), np.float32)
    patterns = rng.random((3, 1, 1, PARTS)).astype(np.float32)
    patterns = patterns + 0.1 * rng.random((3, 64, len(AUS), PARTS), np.float32)
    for start in range(0, frames, BATCH):
        batch = []
        for n in range(start, min(start + BATCH, frames)):
            rows = patterns[(n // 3000) % 3, n % 64]
            frame = Frame("made up", n, images[n % 4], n * 40_000_000, 0.0, n / 25)
            face = FaceObservation(
                FaceState.TRACKED, points=points, crop=np.zeros((SIDE, SIDE), np.uint8), quality=1.0
            )
            batch.append(
                Observation(
                    frame,
                    face,
                    values[0].copy(),
                    5 * values[1],
                    dict(zip(AUS, maps[n % 8], strict=True)),
                    dict(zip(AUS, rows, strict=True)),
                )
            )
        yield batch


def measure(frames: int, *, memory: bool = False) -> dict[str, float]:
    """Run once in this process; the peaks are above the state before the first frame, MB."""
    limit_blas(1)  # as the commands do: its threads have buffers of their own
    analyzer = SequenceAnalyzer(
        make_detector("ours"),
        AUNetwork.load(device="cpu"),
        shelf=None if memory else DiskShelf(),
    )
    before = now_mb()
    for batch in observations(analyzer, frames):
        for seen in batch:
            assert seen.face.points is not None
            analyzer._pictures.add(seen.frame.index, seen.frame.image, seen.face.points)
            analyzer._keep(seen)
    kept = peak_mb() - before
    result = analyzer.finish(source="made up", fps=25.0)
    explained = peak_mb() - before
    with tempfile.TemporaryDirectory() as folder:
        write_analysis(result, Path(folder) / "result")
    return {
        "frames": frames,
        "before_mb": before,
        "kept_mb": kept,
        "explained_mb": explained,
        "written_mb": peak_mb() - before,
        "whole_mb": peak_mb(),
        "stages": len(result.stages),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--memory", action="store_true", help="keep all in memory, as before")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    figures = measure(options.frames, memory=options.memory)
    text = json.dumps({name: round(value, 1) for name, value in figures.items()}, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
