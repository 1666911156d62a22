"""Explain a network of your own: one relevance map per (image, output) pair.

A small network learns two things about pictures of 32 x 32 pixels: is there a disc in the upper
half, and is there a bar in the lower half? LRP then says which pixels each answer came from.

    python examples/explain_my_network.py --out relevance.png

Replace `small_network` and `pictures` by your own. Any `torch.nn.Module` from images to logits will
do; `engine_of` says whether the fast engine has a rule for each of its layers.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from facestage.core.lrp import engine_of, explain
from facestage.core.render import heatmap
from torch import nn

SIDE = 32
OUTPUTS = ("disc above", "bar below")


def pictures(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw noisy pictures with or without a disc above and a bar below.

    Returns:
        ``(count, 1, 32, 32)`` float32 pictures, and ``(count, 2)`` float32 truth, 0 or 1.
    """
    random = np.random.default_rng(seed)
    shown = random.normal(0, 0.1, (count, SIDE, SIDE)).astype(np.float32)
    truth = random.integers(0, 2, (count, 2))
    for picture, (disc, bar) in zip(shown, truth, strict=True):
        x, y = (int(value) for value in random.integers((5, 5), (27, 11)))
        if disc:
            cv2.circle(picture, (x, y), 4, 1.0, -1)
        if bar:
            cv2.rectangle(picture, (x - 4, y + 14), (x + 4, y + 17), 1.0, -1)
    return torch.from_numpy(shown)[:, None], torch.from_numpy(truth.astype(np.float32))


def small_network() -> nn.Module:
    """Return an untrained network: ``(B, 1, 32, 32)`` pictures → ``(B, 2)`` logits."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * 8 * 8, 32), nn.ReLU(), nn.Linear(32, len(OUTPUTS))),
    )


def train(network: nn.Module, steps: int) -> None:
    """Teach the network both questions."""
    x, truth = pictures(512, seed=1)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for step in range(steps):
        rows = torch.arange(64) + 64 * (step % 8)
        loss = nn.functional.binary_cross_entropy_with_logits(network(x[rows]), truth[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()


def main() -> None:
    """Train, explain, say where the relevance lies, and draw it."""
    parser = argparse.ArgumentParser(description="Explain a network that is no AU network.")
    parser.add_argument("--out", type=Path, default=Path("relevance.png"))
    parser.add_argument("--steps", type=int, default=120)
    options = parser.parse_args()

    torch.manual_seed(0)
    network = small_network()
    train(network, options.steps)

    x, truth = pictures(64, seed=2)
    with torch.no_grad():
        right = ((network(x) > 0) == (truth > 0.5)).float().mean()
    print(f"right on new pictures: {right:.0%}")
    print(f"engine: {engine_of(network, (1, SIDE, SIDE)).name}")

    both = torch.nonzero(truth.all(dim=1)).flatten()[:4].tolist()
    pairs = [(row, output) for row in both for output in range(len(OUTPUTS))]
    maps = explain(network, x, pairs)  # (P, 32, 32), in units of the logit
    for output, name in enumerate(OUTPUTS):
        positive = maps[output :: len(OUTPUTS)].clamp(min=0)
        upper = positive[:, : SIDE // 2].sum() / positive.sum()
        print(f"{name}: {upper:.0%} of the relevance in the upper half")

    drawn = heatmap(maps).numpy()  # (P, 32, 32, 3) uint8, red speaks for, blue against
    seen = (x[both, 0].clamp(0, 1) * 255).to(torch.uint8).numpy()
    rows = [
        np.hstack([cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR), *drawn[2 * n : 2 * n + 2]])
        for n, picture in enumerate(seen)
    ]
    sheet = cv2.resize(np.vstack(rows), None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST)
    if not cv2.imwrite(str(options.out), sheet):
        raise SystemExit(f"{options.out} cannot be written; name a .png in a folder that exists")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
