"""What a further face costs: CPU time of a frame with two people, one and then both analysed.

``python benchmarks/faces.py`` shows the embedded clip twice, side by side, one mirrored. The
frames go in turns of 16 through an analyzer of one face and one of two, live, with every active AU
explained.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import time

import cv2
import numpy as np
import torch
from facestage.core.analyzer import Analyzer
from facestage.core.config import AnalyzerConfig, FollowConfig
from facestage.core.network.au_network import AUNetwork
from facestage.core.steps import watching
from facestage.core.types import Frame
from facestage.stream.detectors import make_detector
from facestage.stream.sources import open_source
from facestage.stream.step_clock import StepClock

TURN = 16
"""Frames that one analyzer takes before the other's turn."""


def frames(count: int) -> list[Frame]:
    """Return frames that show two people."""
    found = []
    with open_source("demo:") as source:
        for n in range(count):
            grab = source.read()
            if grab is None:
                break
            face = grab.image[:, 140:500]
            found.append(Frame("cam", n, np.hstack([face, face[:, ::-1]]), pts=n / 30))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--detector", default="ours")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network = AUNetwork.load(device="cpu")
    spent = {1: 0.0, 2: 0.0}
    pairs, clocks = {1: 0, 2: 0}, {1: StepClock(), 2: StepClock()}
    analyzers = {}
    for faces in spent:
        config = AnalyzerConfig(follow=FollowConfig(faces=faces))
        analyzers[faces] = Analyzer(make_detector(options.detector), network, config)
        analyzers[faces].warm_up()
    shown = frames(options.frames)
    for start in range(0, len(shown), TURN):
        for faces, analyzer in analyzers.items():
            for frame in shown[start : start + TURN]:
                before = time.thread_time()
                with watching(clocks[faces]):
                    results = analyzer.update([frame])
                if start:  # the first turn finds the faces
                    spent[faces] += time.thread_time() - before
                    pairs[faces] += sum(len(result.maps) for result in results)
                    both = [r.face.crop is not None for r in results]
                    if faces == 2 and both != [True, True]:
                        print(f"frame {frame.index}: faces analysed: {both}")
    counted = len(shown) - TURN
    for faces in spent:
        steps = clocks[faces].take().items()
        parts = ", ".join(f"{name} {1e3 * took.cpu_s / len(shown):.2f}" for name, took in steps)
        print(
            f"{faces} of two faces: {1e3 * spent[faces] / counted:.2f} ms of CPU a frame, "
            f"{pairs[faces] / counted:.2f} maps a frame ({parts})"
        )
    print(f"ratio {spent[2] / spent[1]:.2f}")


if __name__ == "__main__":
    main()
