"""How much of a corpus run is analysis, and whether its memory stays flat.

    python benchmarks/corpus.py [--sequences 1000] [--frames 20] [--out FILE]

Makes a corpus in the layout of CK+ from the demo clip (a few different sequences, repeated by
links, so that the disk is not what is measured), then runs ``facestage corpus`` in this process
with one worker. Every CPU second from the listing of the corpus to its last sequence belongs to one
of these steps:

    network      forward passes for AUs            detector     the search for faces
    landmarks    forward passes for the points     following    the face from frame to frame
    lrp          relevance maps                    decoding     reading frames
    clustering   SpRAy, letters, stages            pictures     cut-outs, pictures, reports, tables
    rest         of the analysis                   bookkeeping  listing, resuming, noting

The analysis is all but pictures and bookkeeping. The evaluation at the end (tables, relations,
patterns, page) is timed apart. Times are CPU seconds of this process, so that other load on the
machine does not count; memory is the resident set.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import torch
from facestage.core import lrp
from facestage.core.face.tracker import FaceTracker
from facestage.core.network.au_network import AUNetwork
from facestage.core.sequence_store import Pictures
from facestage.stream.commands.options import analyzer_config
from facestage.stream.corpus.evaluate import EvaluationOptions, evaluate_corpus
from facestage.stream.corpus.job import SequenceWorker, Settings
from facestage.stream.corpus.page import write_outputs
from facestage.stream.corpus.store import CorpusFolder, pending
from facestage.stream.datasets.sequences import read_corpus
from facestage.stream.sources import open_source
from facestage.stream.sources.images import ImageFolder

STEPS = (
    *("network", "landmarks", "lrp", "detector", "following"),
    *("decoding", "clustering", "pictures", "rest", "bookkeeping"),
)
NETWORK = ("network", "landmarks", "lrp")
"""Steps that are work of the network: forward, and back."""

DIFFERENT = 12
"""Sequences with frames of their own; the others are links to these."""


def make(root: Path, sequences: int, frames: int) -> None:
    """Write the corpus."""
    with open_source("demo:") as source:
        clip = []
        while (grab := source.read()) is not None:
            clip.append(
                cv2.resize(grab.image, (872, 490), interpolation=cv2.INTER_AREA)[:, 116:756]
            )
    images = root / "cohn-kanade-images"
    for n in range(sequences):
        folder = images / f"S{n // 4:03d}" / f"{1 + n % 4:03d}"
        if n >= DIFFERENT:
            other = images / f"S{n % DIFFERENT // 4:03d}" / f"{1 + n % DIFFERENT % 4:03d}"
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(other, target_is_directory=True)
            continue
        folder.mkdir(parents=True)
        start = n * (len(clip) - 4 * frames) // DIFFERENT
        for k in range(frames):
            name = f"{folder.parent.name}_{folder.name}_{k + 1:08d}.png"
            grey = cv2.cvtColor(clip[start + 3 * k], cv2.COLOR_BGR2GRAY)
            cv2.imwrite(str(folder / name), grey, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def resident_mb() -> float:
    """Return the memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class Clock:
    """CPU seconds by step. A step inside another one counts for itself alone.

    Args:
        worker: what runs the sequences; the functions it calls are wrapped, each under the step it
            belongs to.
        network: its network.
    """

    def __init__(self, worker: SequenceWorker, network: AUNetwork) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
        self._running = ["bookkeeping"]
        self._since = time.process_time()
        analyzer = worker._analyzer
        observer = analyzer._observer
        # From the outermost to the innermost.
        self._wrap(worker, "_analyse", "rest")
        self._wrap(ImageFolder, "_scan", "decoding")
        self._wrap(FaceTracker, "update", "following")
        self._wrap(observer.detector, "detect", "detector")
        self._wrap(network, "predict_prepared", "network")
        self._wrap(network, "predict_from", "network")
        self._wrap(lrp, "forward", "network")  # of which LRP makes use as well
        self._wrap(network, "five_points", "landmarks")
        self._wrap(lrp, "explain", "lrp")
        self._wrap(lrp.Forward, "explain", "lrp")
        self._wrap(analyzer, "_keep", "pictures")
        self._wrap(Pictures, "nearest", "pictures")
        self._wrap(analyzer, "finish", "clustering")
        self._wrap(worker._folder, "put", "pictures")

    def stop(self) -> float:
        """End the measurement; return all seconds of it."""
        self._switch()
        return sum(self.seconds.values())

    def of(self, *steps: str) -> float:
        """Return the seconds of some steps."""
        return sum(self.seconds[step] for step in steps)

    def _switch(self) -> None:
        now = time.process_time()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def _wrap(self, owner: Any, name: str, step: str) -> None:
        inner = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            self._switch()
            self._running.append(step)
            try:
                return inner(*args, **options)
            finally:
                self._switch()
                self._running.pop()

        setattr(owner, name, timed)


def main() -> None:
    """Run, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--no-reports", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        root, out = Path(place, "corpus"), Path(place, "out")
        make(root, options.sequences, options.frames)
        network = AUNetwork.load(device="cpu")
        settings = Settings(
            out,
            {},
            analyzer_config(0.0, "shown", baseline=False),
            "paper",
            detector="ours",
            reports=not options.no_reports,
        )
        worker = SequenceWorker(settings, network)
        marks: dict[int, float] = {}
        wall = time.perf_counter()
        clock = Clock(worker, network)
        items = read_corpus(root, "ckplus")
        folder = CorpusFolder(out, {})
        for done, item in enumerate(pending(folder, items, retry=False), 1):
            outcome = worker.run(item)
            assert not outcome.reason, outcome.reason
            if done in (10, 50, 100, 200, 300, 500, 700, options.sequences):
                marks[done] = round(resident_mb(), 1)
                print(f"{done}: {marks[done]} MB", file=sys.stderr, flush=True)
        total = clock.stop()
        seconds = time.perf_counter() - wall
        began = time.process_time()
        evaluation = evaluate_corpus(
            folder, items, EvaluationOptions(across=True), layout="ckplus", source=str(root)
        )
        write_outputs(evaluation, folder)
        end = time.process_time() - began
        figures = {
            "sequences": options.sequences,
            "frames": options.frames,
            "reports": not options.no_reports,
            "cpu_s": round(total, 1),
            "cpu_s_per_sequence": round(total / options.sequences, 3),
            "share": {step: round(s / total, 4) for step, s in clock.seconds.items()},
            "network_landmarks_lrp": {
                "of_all": round(clock.of(*NETWORK) / total, 4),
                "of_the_analysis": round(
                    clock.of(*NETWORK) / (total - clock.of("pictures", "bookkeeping")), 4
                ),
            },
            "evaluation_cpu_s": round(end, 1),
            "wall_s": round(seconds, 1),
            "load_average": round(os.getloadavg()[0], 1),
            "resident_mb": marks,
        }
        text = json.dumps(figures, indent=1)
        print(text)
        if options.out is not None:
            options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
