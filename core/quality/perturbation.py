"""Does the logit depend on what the map marks? Region perturbation.

Patches of the crop are blurred one after another: the most relevant first (MoRF), the least
relevant first (LeRF), or in random order. If a map ranks pixels by what they do for the logit, the
logit falls fast in the first order, late in the second, and in between in the third.

References:
    Samek, Binder, Montavon, Lapuschkin & Müller, *Evaluating the Visualization of What a Deep
    Neural Network has Learned*, IEEE TNNLS 28(11), 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ..errors import ConfigError

__all__ = ["Perturbation", "PerturbationOptions", "blur", "patch_grid", "perturb"]

PATCH = 8
"""Side of a patch, pixels of the crop: 144 patches of the 96 px crop. Samek et al. took 9 × 9."""
PER_STEP = 4
"""Patches replaced between two values of a curve."""
RANDOM_ORDERS = 2
"""Random orders that the random curve is the mean of."""
BLUR = 8.0
"""Standard deviation of the fill's blur, pixels: nothing as fine as a patch is left of the face.
A blur keeps brightness and colour, so that no edge of a grey square is read as a feature."""
BATCH = 64
"""Crops in one forward pass."""


@dataclass(frozen=True, slots=True)
class PerturbationOptions:
    """How patches are cut and replaced.

    Attributes:
        side: of a patch, pixels; patches at the right and lower border may be smaller.
        per_step: patches replaced between two values of a curve.
        random_orders: random orders to average.

    Raises:
        ConfigError: a number is not positive.
    """

    side: int = PATCH
    per_step: int = PER_STEP
    random_orders: int = RANDOM_ORDERS

    def __post_init__(self) -> None:
        if min(self.side, self.per_step, self.random_orders) < 1:
            raise ConfigError(
                f"side {self.side}, per_step {self.per_step} and random_orders "
                f"{self.random_orders} must be 1 or more"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Perturbation:
    """Logit curves of P pairs under perturbation.

    Attributes:
        share: ``(K+1,)`` float64, share of the patches replaced so far, 0 to 1.
        morf, lerf, random: ``(P, K+1)`` float64 logits.
    """

    share: NDArray[np.float64]
    morf: NDArray[np.float64]
    lerf: NDArray[np.float64]
    random: NDArray[np.float64]

    @property
    def area(self) -> NDArray[np.float64]:
        """``(P,)`` area between the LeRF and the MoRF curve, logit units; > 0 is right."""
        return self._between(self.lerf)

    @property
    def area_random(self) -> NDArray[np.float64]:
        """``(P,)`` area between the random and the MoRF curve, logit units; > 0 is right."""
        return self._between(self.random)

    @property
    def drop(self) -> NDArray[np.float64]:
        """``(P,)`` logit of the whole crop minus that of the blurred one: the scale of areas."""
        return self.morf[:, 0] - self.morf[:, -1]

    def _between(self, upper: NDArray[np.float64]) -> NDArray[np.float64]:
        # Trapezoids: the last step may be shorter than the others.
        gap = upper - self.morf
        return ((gap[:, 1:] + gap[:, :-1]) / 2 * np.diff(self.share)).sum(axis=1)


def perturb(
    model: nn.Module,
    x: torch.Tensor,
    pairs: Sequence[tuple[int, int]],
    maps: torch.Tensor,
    options: PerturbationOptions | None = None,
    *,
    fill: torch.Tensor | None = None,
    seed: int = 0,
) -> Perturbation:
    """Blur patches in the order of their relevance and follow the logit.

    Patches are replaced in the normalised input, so the rest of the crop stays what it was. A
    patch's relevance is the sum of its pixels, negative ones included; of equal patches the first
    in reading order comes first.

    Args:
        model: ``(B, C, H, W)`` → ``(B, A)`` logits.
        x: ``(B, C, H, W)`` network input.
        pairs: P pairs (row of ``x``, number of the output).
        maps: ``(P, H, W)`` relevance of each pair.
        options: how patches are cut and replaced; all defaults when not given.
        fill: ``(B, C, H, W)`` what patches are replaced by; :func:`blur` of ``x`` when not given.
        seed: of the random orders, which differ between pairs.

    Returns:
        The curves.

    Raises:
        ConfigError: shapes do not fit, or a map is not finite.

    References:
        Samek et al. 2017, §III-B (MoRF), §III-C (LeRF, area between the curves).
    """
    options = options or PerturbationOptions()
    if tuple(maps.shape) != (len(pairs), *x.shape[2:]):
        raise ConfigError(
            f"{len(pairs)} pairs on input of {tuple(x.shape)} need maps of "
            f"{(len(pairs), *x.shape[2:])}, got {tuple(maps.shape)}; explain without stop"
        )
    if not bool(torch.isfinite(maps).all()):
        raise ConfigError("a map has values that are not finite; it gives patches no order")
    fill = blur(x) if fill is None else fill
    grid, count = patch_grid(int(x.shape[2]), int(x.shape[3]), options.side)
    ranks = torch.from_numpy(_ranks(maps, grid, count, options.random_orders, seed)).to(x.device)
    steps = [*range(0, count, options.per_step), count]
    curves = _curves(model.eval(), x, fill, pairs, ranks, grid.to(x.device), steps)
    return Perturbation(
        share=np.array(steps) / count,
        morf=curves[0],
        lerf=curves[1],
        random=curves[2:].mean(axis=0),
    )


def blur(x: torch.Tensor, sigma: float = BLUR) -> torch.Tensor:
    """Blur pictures by a Gaussian, their border reflected.

    Args:
        x: ``(B, C, H, W)``.
        sigma: standard deviation, pixels.

    Returns:
        ``(B, C, H, W)``.
    """
    channels = x.shape[1]
    for axis in (2, 3):
        reach = min(math.ceil(3 * sigma), x.shape[axis] - 1)
        at = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-0.5 * (at / sigma) ** 2)
        kernel = (kernel / kernel.sum()).repeat(channels, 1, 1)
        shape = (channels, 1, -1, 1) if axis == 2 else (channels, 1, 1, -1)
        border = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        x = F.conv2d(F.pad(x, border, mode="reflect"), kernel.reshape(shape), groups=channels)
    return x


def patch_grid(height: int, width: int, side: int) -> tuple[torch.Tensor, int]:
    """Number the patches of a picture.

    Args:
        height, width: of the picture, pixels.
        side: of a patch, pixels.

    Returns:
        ``(height, width)`` int64 number of the patch of each pixel, in reading order, and how many
        patches there are.

    >>> patch_grid(2, 5, 2)[0].tolist()
    [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2]]
    """
    columns = -(-width // side)
    rows = torch.arange(height) // side
    grid = rows[:, None] * columns + torch.arange(width) // side
    return grid, columns * -(-height // side)


def _ranks(
    maps: torch.Tensor, grid: torch.Tensor, count: int, random_orders: int, seed: int
) -> NDArray[np.int64]:
    """Return ``(2 + random_orders, P, count)``: when each patch is replaced, 0 for the first.

    The first two orders are the descending and the ascending one of the patches' relevance.
    """
    # Summed on the CPU in double precision, so that ties are ties on every device.
    flat = maps.detach().double().cpu().reshape(len(maps), -1)
    scores = torch.zeros(len(maps), count, dtype=torch.float64)
    scores = scores.index_add(1, grid.reshape(-1), flat).numpy()
    descending = np.argsort(-scores, axis=1, kind="stable")
    ascending = np.argsort(scores, axis=1, kind="stable")
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(np.arange(count), (random_orders, len(maps), 1)), axis=2)
    return np.argsort(np.concatenate((descending[None], ascending[None], shuffled)), axis=2)


@torch.inference_mode()
def _curves(
    model: nn.Module,
    x: torch.Tensor,
    fill: torch.Tensor,
    pairs: Sequence[tuple[int, int]],
    ranks: torch.Tensor,
    grid: torch.Tensor,
    steps: Sequence[int],
) -> NDArray[np.float64]:
    """Return ``(O, P, K+1)`` logits; the untouched and the fully blurred crop run only once."""
    orders, count = ranks.shape[:2]
    values = np.empty((orders, count, len(steps)))
    rows = torch.tensor([row for row, _ in pairs], device=x.device, dtype=torch.long)
    outputs = torch.tensor([output for _, output in pairs], device=x.device, dtype=torch.long)
    for k, whole in ((0, x), (len(steps) - 1, fill)):
        logits = torch.cat([model(batch) for batch in whole.split(BATCH)])
        values[:, :, k] = logits[rows, outputs].double().cpu().numpy()
    inner = range(1, len(steps) - 1)
    todo = [(o, p, k) for o in range(orders) for p in range(count) for k in inner]
    for start in range(0, len(todo), BATCH):
        batch = todo[start : start + BATCH]
        order, pair, step = (
            torch.tensor(column, device=x.device) for column in zip(*batch, strict=True)
        )
        # Patches of a lower rank than the number replaced so far are blurred.
        replaced = torch.tensor([steps[k] for _, _, k in batch], device=x.device)
        # (N, H, W): the rank of each pixel's patch.
        rank = ranks[order, pair].gather(1, grid.reshape(1, -1).expand(len(batch), -1))
        mask = (rank < replaced[:, None]).unflatten(1, grid.shape).unsqueeze(1)
        row = rows[pair]
        logits = model(torch.where(mask, fill[row], x[row]))
        chosen = logits[torch.arange(len(batch), device=x.device), outputs[pair]]
        values[tuple(column.cpu().numpy() for column in (order, pair, step))] = (
            chosen.double().cpu().numpy()
        )
    return values
