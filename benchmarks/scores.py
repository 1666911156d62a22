"""PSPI of rendered people whose Action Units are known: how near the score comes to the truth.

``python benchmarks/scores.py --people 6`` renders people who move as clips for tuning do (needs the
folder of shared material), then grimace as in pain, then smile, and leave the picture for two
seconds in between. Each recording goes the whole way of ``facestage analyze``; the truth gets the
same smoothing and blink guard. Two selections: the AUs shown by default, where both the score
and the truth are of the terms known, and all AUs.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from facestage.core.config import AnalyzerConfig
from facestage.core.network.au_network import AUNetwork
from facestage.core.scores.definition import PSPI
from facestage.core.scores.tracker import ScoreFrame, ScoreTracker
from facestage.core.sequence import SequenceAnalyzer
from facestage.core.types import LOST, Frame, SequenceResult
from facestage.stream.detectors import make_detector
from facestage.stream.offline.scores import score_sequence
from numpy.typing import NDArray

from training.data.clips import _motion
from training.data.generator import Generator
from training.face.expressions import Expression, temporal_expressions
from training.face.facs import AU_INDEX, AUS
from training.finder.heads import _forehead, _render

SEED = 4242
"""Of the people; the network was trained on those of other seeds."""
RATE = 12.5
ACTS, GRIMACE, SMILE, AWAY = 200, 50, 50, 25
"""Frames that somebody acts, grimaces, smiles, and is not there (in the middle of the acts)."""
GRIMACES = {4: 4.0, 6: 3.0, 7: 4.0, 9: 3.0, 10: 3.0, 43: 5.0}
SMILES = {6: 3.0, 12: 4.0}
"""AU → intensity at the height of it."""
WIDTH, HEIGHT = 480, 360
CLOSED = 4.0
"""Rendered AU43 from which the eyes are closed, of 5."""
SHOWN = "shown"


def swell(frames: int, heights: dict[int, float]) -> list[Expression]:
    """Return an expression that comes and goes."""
    strength = np.sin(np.linspace(0, np.pi, frames)) ** 0.7
    found = []
    for share in strength:
        values = np.zeros(len(AUS))
        for au, height in heights.items():
            values[AU_INDEX[au]] = height * share
        found.append(Expression(left=values, right=values.copy()))
    return found


def render(
    generator: Generator, person: int
) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32], NDArray[np.bool_]]:
    """Return pictures ``(360, 480, 3)``, intensities ``(n, 23)`` and whether somebody is there."""
    rng = np.random.default_rng([SEED, person])
    acts = temporal_expressions(rng, ACTS, RATE)
    acts += swell(GRIMACE, GRIMACES) + swell(SMILE, SMILES)
    poses = _motion(rng, len(acts), RATE)
    base = generator.face(4 * person)
    faces = [replace(base, expression=acts[n], pose=poses[n]) for n in range(len(acts))]
    outline = torch.from_numpy(
        np.concatenate([generator.kit.landmarks[:17], _forehead(generator.kit)])
    )
    truth = np.stack(
        [generator.shapes.shape(face.expression, face.anatomy).intensity for face in faces]
    )
    pictures: list[NDArray[np.uint8]] = []
    room = np.full((HEIGHT, WIDTH), 110, np.float32)
    for start in range(0, len(faces), 8):
        for head in _render(generator, faces[start : start + 8], outline)[0]:
            grey = room.copy()
            part = grey[52:308, 112:368]
            part += head.alpha.astype(np.float32) / 255 * (head.image - part)
            noisy = grey + rng.normal(0, 2, grey.shape)
            pictures.append(np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[..., None], 3, 2))
    middle = ACTS // 2
    empty = np.repeat(room.astype(np.uint8)[..., None], 3, 2)
    pictures[middle:middle] = [empty] * AWAY
    present = np.ones(len(pictures), bool)
    present[middle : middle + AWAY] = False
    truth = np.insert(truth, [middle] * AWAY, 0, axis=0)
    return pictures, truth.astype(np.float32), present


def analyse(pictures: list[NDArray[np.uint8]], network: AUNetwork, aus: str) -> SequenceResult:
    config = replace(AnalyzerConfig(), aus=aus)
    analyzer = SequenceAnalyzer(make_detector("auto"), network, config)
    frames = [Frame("render", n, image, 1, 0.0, n / RATE) for n, image in enumerate(pictures)]
    for start in range(0, len(frames), 8):
        analyzer.update(frames[start : start + 8])
    return analyzer.finish(source="render", fps=RATE)


def true_scores(
    truth: NDArray[np.float32], lost: NDArray[np.bool_], shown: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the least value of the true score per frame; nan where nobody was analysed."""
    tracker = ScoreTracker([PSPI], AUS, shown=shown)
    found = []
    for n, row in enumerate(truth):
        closed = {43} if row[AU_INDEX[43]] >= CLOSED else set()
        frame = ScoreFrame(n, n / RATE, None if lost[n] else row, closed)
        (value,), _ = tracker.update(frame)
        found.append(np.nan if value.low is None else value.low)
    return np.array(found)


def measure(people: int, tell=print) -> dict[str, object]:
    """Return the figures of both selections."""
    generator, network = Generator(SEED), AUNetwork.load(device="cpu")
    told: dict[str, list[NDArray[np.float64]]] = {}
    lost_frames = withheld = away = away_withheld = 0
    smiles: list[float] = []
    for person in range(people):
        pictures, truth, present = render(generator, person)
        for aus in (SHOWN, "all"):
            result = analyse(pictures, network, aus)
            scored = score_sequence(result, [PSPI])
            low = np.array([scored.values[n][0].low for n in range(len(truth))], float)
            is_lost = np.zeros(len(truth), bool)
            for stage in result.stages:
                if stage.labels == LOST:
                    is_lost[stage.start : stage.end + 1] = True
            lost_frames += int(is_lost.sum())
            withheld += int(np.isnan(low[is_lost]).sum())
            away += int((~present).sum())
            away_withheld += int(np.isnan(low[~present]).sum())
            shown = tuple(au for au in AUS if au not in result.hidden)
            true = true_scores(truth, np.isnan(low), shown)
            both = ~np.isnan(low)
            told.setdefault(aus, []).append(np.stack([low[both], true[both]]))
            if aus == "all":
                smiles.append(float(np.nanmax(low[-SMILE:])))
            tell(f"person {person}, {aus}: {_figures(told[aus][-1])}")
    return {
        "model": f"{network.name} {network.card.version}",
        "people": people,
        "frames": int(sum(one.shape[1] for one in told[SHOWN])),
        **{aus: _figures(np.concatenate(parts, axis=1)) for aus, parts in told.items()},
        "lost": {"frames": lost_frames, "withheld": withheld},
        "away": {"frames": away, "withheld": away_withheld},
        "smile": {"truth": 3.0, "peak": [round(value, 2) for value in smiles]},
    }


def _figures(pair: NDArray[np.float64]) -> dict[str, float]:
    found, true = pair
    r = float(np.corrcoef(found, true)[0, 1]) if true.std() > 0 and found.std() > 0 else 0.0
    return {
        "r": round(r, 3),
        "mean_error": round(float(np.abs(found - true).mean()), 3),
        "mean_truth": round(float(true.mean()), 3),
        "most_truth": round(float(true.max()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    figures = measure(options.people)
    print(json.dumps(figures))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
