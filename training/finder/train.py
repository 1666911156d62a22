"""Training of the face finder: targets of the cells, losses, and the loop.

Scenes are drawn in pools and used several times, each time turned by a quarter, mirrored and lit
anew, so that the drawing takes a small part of the time.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from facestage.core.errors import ConfigError
from facestage.core.face.detection import (
    FLOOR,
    STRIDES,
    FaceFinder,
    FinderNetwork,
    cells,
    placed,
)
from torch import nn

from .mining import mined
from .scenes import SIDE, Composer, Scene

__all__ = ["Settings", "finder_tensors", "train", "truth_of"]

LEVELS = 3
"""Strides that are trained at; the last sees a smaller copy with the weights of the second."""
SIZES = ((0.85, 3.6), (1.2, 4.5), (1.6, 5.2))
"""Longer sides of the faces that the strides of 8, 16 and 32 answer for, strides."""
DOUBT = 1.5
"""Cells do not answer, and are not asked, for faces out of these sizes by up to this factor; parts
of faces larger still are background."""
REACH = 0.75
"""Cells whose middle is this near to the middle of a face answer for it, strides."""
INNER = 0.3
"""Other cells nearer than this share of a face's sides are not asked."""
FIRST_POINTS = (-1.0, -0.7, 1.0, -0.7, 0.0, 0.3, -0.8, 1.0, 0.8, 1.0)
"""Where the answers for the points begin: a face."""
MINED_FROM, MINED_EVERY = 0.2, 4
"""Hard negatives are looked for after this share of the run, in every fourth pool."""
VALIDATION = 1_000_000_000
"""Scenes from this number on are never trained with, but with those without people."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is.

    Attributes:
        scenes: to see in all. ``batch``: of a step. ``rate``: highest learning rate.
        pool: scenes drawn at once. ``uses``: times each is seen.
        every: steps between checkpoints.
    """

    scenes: int = 640_000
    batch: int = 16
    rate: float = 2e-3
    pool: int = 1_024
    uses: int = 6
    every: int = 200


Truth = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def truth_of(scenes: list[Scene]) -> Truth:
    """Stack scenes: pictures ``(B, S, S)`` uint8, faces ``(B, 9, 19)``, wanted, roll ``(B, 9)``."""
    return (
        torch.from_numpy(np.stack([s.image for s in scenes])),
        torch.from_numpy(np.stack([s.faces for s in scenes])),
        torch.from_numpy(np.stack([s.wanted for s in scenes])),
        torch.from_numpy(np.stack([s.roll for s in scenes])),
    )


def turned(truth: Truth, quarters: int, mirror: bool) -> Truth:
    """Turn scenes clockwise by quarters and mirror them, with all that is known of them."""
    image, faces, wanted, roll = truth
    boxes, points, visible = faces[..., :4], faces[..., 4:14].unflatten(-1, (5, 2)), faces[..., 14:]
    corners = boxes.unflatten(-1, (2, 2))
    for _ in range(quarters % 4):
        image = torch.rot90(image, -1, (1, 2))
        corners, points = (
            torch.stack([SIDE - 1 - p[..., 1], p[..., 0]], -1) for p in (corners, points)
        )
        roll = roll + math.pi / 2
    if mirror:
        image = image.flip(2)
        corners, points = (
            torch.stack([SIDE - 1 - p[..., 0], p[..., 1]], -1) for p in (corners, points)
        )
        points, visible = points[..., [1, 0, 2, 4, 3], :], visible[..., [1, 0, 2, 4, 3]]
        roll = -roll
    boxes = torch.cat([corners.amin(-2), corners.amax(-2)], -1)
    return image, torch.cat([boxes, points.flatten(-2), visible], -1), wanted, roll


def assigned(faces: torch.Tensor, wanted: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Say which face each cell answers for.

    Args:
        faces: ``(B, 9, 19)``. ``wanted``: ``(B, 9)``. ``at``: ``(N, 3)`` cells.

    Returns:
        ``(B, N)`` int64: the face, −1 background, −2 not asked.
    """
    there = ~faces[..., 0].isnan()
    boxes = faces[..., :4].nan_to_num(-1e4)
    middle, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2])
    away = (at[None, :, None, :2] - middle[:, None]).abs()
    stride = at[None, :, None, 2]
    size = sides.amax(-1)[:, None] / stride
    level = (at[:, 2] / STRIDES[0]).log2().round().long()
    least, most = at.new_tensor(SIZES)[level].T[:, None, :, None]
    close = away.amax(-1) <= REACH * stride
    fits = (size >= least) & (size <= most)
    near = close & fits & (there & wanted)[:, None]
    inner = (away <= INNER * sides[:, None]).all(-1) & (size <= DOUBT * most)
    inner = (inner | (close & ~fits)) & (there & wanted)[:, None]
    unsure = ((away <= 0.6 * sides[:, None]).all(-1) | close) & (there & ~wanted)[:, None]
    # Of two faces the smaller one is asked for: it is in front, or the other has more cells.
    area = torch.where(near, sides.prod(-1)[:, None].expand_as(near), math.inf)
    smallest, which = area.min(-1)
    result = torch.where((inner | unsure).any(-1), -2, -1)
    return torch.where(smallest.isfinite(), which, result)


def losses(answers: torch.Tensor, truth: Truth, at: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the parts of the loss, each a mean over the cells with a face."""
    _, faces, wanted, roll = truth
    which = assigned(faces, wanted, at)
    asked, face = which > -2, which >= 0
    count = face.sum().clamp(min=1)
    logits = answers[..., 0]
    sure = torch.sigmoid(logits)
    target = face.float()
    wrong = torch.where(face, 1 - sure, sure)
    weight = torch.where(face, 0.5, 0.5) * wrong.detach() ** 2
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    centre = (weight * cross * asked).sum() / count

    batch, cell = face.nonzero(as_tuple=True)
    own, known = answers[batch, cell], faces[batch, which[batch, cell]]
    turn = roll[batch, which[batch, cell]]
    middle, half, heading, placing = placed(own, at[cell])
    box = 1 - distance_overlap(torch.cat([middle - half, middle + half], 1), known[:, :4])
    # Errors of points count in sides of the face, whatever its size.
    side = (known[:, 2:4] - known[:, :2]).amax(1)
    error = ((placing - known[:, 4:14]) / side[:, None]).unflatten(1, (5, 2))
    shown = 0.2 + 0.8 * known[:, 14:, None]
    points = (
        F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.03, reduction="none") * shown
    ).mean((1, 2))
    seen = F.binary_cross_entropy_with_logits(own[:, 15:20], known[:, 14:], reduction="none")
    angle = 1 - heading[:, 0] * torch.sin(turn) - heading[:, 1] * torch.cos(turn)
    parts = {"box": box * 1.5, "points": points * 10, "seen": seen.mean(1) * 0.2, "roll": angle}
    return {"centre": centre * 2, **{name: part.sum() / count for name, part in parts.items()}}


def distance_overlap(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the overlap less the squared distance of the middles (DIoU), ``(M,)``, −1 to 1."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    both = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - common
    around = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    apart = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2
    return common / both.clamp(min=1e-6) - (apart**2).sum(1) / (around**2).sum(1).clamp(min=1e-6)


def finder_tensors(network: FinderNetwork) -> dict[str, torch.Tensor]:
    """Fold the norms into the convolutions and return half-precision weights to store."""
    plain = FinderNetwork()
    state = plain.state_dict()
    source = dict(network.named_modules())
    for name, module in plain.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        conv = source[name]
        parent, _, place = name.rpartition(".")
        norm = source.get(f"{parent}.{int(place) + 1}") if place.isdigit() else None
        weight = conv.weight.detach().double()
        if isinstance(norm, nn.BatchNorm2d):
            gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
            weight = weight * gain[:, None, None, None]
            bias = norm.bias.detach().double() - norm.running_mean.double() * gain
        else:
            bias = conv.bias.detach().double()
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    return {name: value.half().contiguous() for name, value in state.items()}


def _pool(composer: Composer, settings: Settings, number: int) -> Truth:
    """Draw the scenes of a pool."""
    start = number * settings.pool
    return truth_of([composer.scene(i) for i in range(start, start + settings.pool)])


@dataclass(slots=True)
class _Run:
    network: FinderNetwork
    average: FinderNetwork
    optimiser: torch.optim.Optimizer
    step: int = 0


def _rate(settings: Settings, step: int) -> float:
    last = settings.scenes // settings.batch
    warm = min(1.0, (step + 1) / 100)
    return settings.rate * warm * max(0.01, 0.5 * (1 + math.cos(math.pi * min(1, step / last))))


def train(
    composer: Composer,
    out: Path,
    settings: Settings,
    seed: int = 1,
    report: Callable[[dict[str, float]], None] | None = None,
) -> FinderNetwork:
    """Train, going on from the newest checkpoint in ``out``.

    Returns:
        The average of the weights over the last steps, which is what is stored.

    Raises:
        ConfigError: the folder cannot be written, or its checkpoint belongs to another network.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = _resumed(out / "newest.pt", settings, seed)
    last = settings.scenes // settings.batch
    per_pool = settings.pool * settings.uses // settings.batch
    at = torch.from_numpy(cells(SIDE, SIDE, LEVELS))
    begun, sums, seen = time.perf_counter(), {}, 0
    for number in itertools.count(run.step // per_pool):
        if run.step > last * MINED_FROM and (
            number % MINED_EVERY == 0 or not composer.backgrounds.hard
        ):
            run.average.eval()
            finder = FaceFinder(finder_tensors(run.average), 0.3)
            first = VALIDATION + number * settings.pool
            composer = Composer.of(composer, mined(composer, finder, first))
        truth = _pool(composer, settings, number)
        order = np.random.default_rng([seed, run.step]).permutation(
            np.tile(np.arange(settings.pool), settings.uses)
        )
        for start in range(0, len(order) - settings.batch + 1, settings.batch):
            if run.step >= last:
                break
            rng = np.random.default_rng([seed, run.step, 7])
            pick = torch.from_numpy(order[start : start + settings.batch])
            batch = turned(
                tuple(part[pick] for part in truth), int(rng.integers(4)), rng.random() < 0.5
            )
            parts = _step(run, batch, at, _rate(settings, run.step), rng)
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value
            seen += 1
            if run.step % settings.every == 0 or run.step == last:
                torch.save(
                    {
                        "network": run.network.state_dict(),
                        "average": run.average.state_dict(),
                        "optimiser": run.optimiser.state_dict(),
                        "step": run.step,
                    },
                    out / "newest.partial",
                )
                (out / "newest.partial").replace(out / "newest.pt")
                if report is not None:
                    report(
                        {
                            "step": run.step,
                            "seconds": time.perf_counter() - begun,
                            **{k: v / seen for k, v in sums.items()},
                        }
                    )
                sums, seen = {}, 0
        if run.step >= last:
            break
    return run.average


def _resumed(path: Path, settings: Settings, seed: int) -> _Run:
    torch.manual_seed(seed)
    network, average = FinderNetwork(norm=True), FinderNetwork(norm=True)
    # A face is rare: begin with one cell in a hundred.
    for last in (network.answer_small, network.answer_large, network.answer_huge):
        nn.init.constant_(last.bias[:1], -4.6)
        last.bias.data[5:15] = torch.tensor(FIRST_POINTS)
    average.load_state_dict(network.state_dict())
    network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=0.02)
    run = _Run(network, average, optimiser)
    if path.is_file():
        try:
            kept = torch.load(path, weights_only=True)
            network.load_state_dict(kept["network"])
            average.load_state_dict(kept["average"])
            optimiser.load_state_dict(kept["optimiser"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise ConfigError(
                f"{path} is no checkpoint of this network ({error}): choose another --out"
            ) from error
        run.step = int(kept["step"])
    return run


def framed(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Standardise scenes, half of them as if they were a part of a larger flat picture.

    Mean and deviation of a picture say little about a face that takes a hundredth of it: before
    black all of it is bright and rich in contrast, before a bright wall dark.

    Args:
        x: ``(B, 1, S, S)``, grey 0–255.
        rng: source of all choices.
    """
    count = len(x)
    share = np.where(rng.random(count) < 0.5, np.exp(rng.uniform(math.log(0.03), 0, count)), 1.0)
    tone = np.where(rng.random(count) < 0.3, 0.0, rng.uniform(0, 255, count))
    share, tone = (
        torch.from_numpy(v.astype(np.float32))[:, None, None, None] for v in (share, tone)
    )
    own = x.mean((1, 2, 3), keepdim=True)
    mean = share * own + (1 - share) * tone
    spread = share * (x - mean).square().mean((1, 2, 3), keepdim=True)
    spread = spread + (1 - share) * (tone - mean).square()
    return (x - mean) / (spread.sqrt() + FLOOR)


def _step(
    run: _Run, truth: Truth, at: torch.Tensor, rate: float, rng: np.random.Generator
) -> dict[str, float]:
    run.network.train()
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    x = truth[0][:, None].float()
    gamma = torch.from_numpy(np.exp(rng.normal(0, 0.25, (len(x), 1, 1, 1))).astype(np.float32))
    x = framed(255 * (x / 255) ** gamma, rng)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        answers = run.network(x, LEVELS)
    parts = losses(answers.float(), truth, at)
    loss = torch.stack(list(parts.values())).sum()
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(run.network.parameters(), 5.0)
    run.optimiser.step()
    run.step += 1
    keep = min(0.998, run.step / (run.step + 20))
    with torch.no_grad():
        for mean, value in zip(
            run.average.state_dict().values(), run.network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)
    return {name: float(value.detach()) for name, value in parts.items()} | {"rate": rate}
