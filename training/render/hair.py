"""Hair, and what lies behind the person: cap, silhouette, fringe, side hair, background.

The cap grows on the scalp (coordinates of the generic head), the fringe and the side hair hang
in front of the face (coordinates of the turned head), the silhouette stands behind the head
(coordinates of the plane through its middle), so that all three turn with the head and none
follows the brows.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from .appearance import Appearance
from .gbuffer import HEAD, SKIN, GBuffer

__all__ = ["HairLayers", "backdrop", "clothes", "hair_layers"]

HAIR_STREAM = 72
"""Constant of the random stream of a person's hair noise."""
BACKDROP_STREAM = 73
"""Constant of the random stream of a person's background."""
CROWN = 5.0
"""Height of the centre from which the silhouette is drawn, kit units."""
SKULL = (7.9, 9.0)
"""Half width and height above `CROWN` of a head with flat hair, kit units."""
_ANGLES = np.array([0.0, 3.0, 5.0, 6.4, 7.4, 8.2, 9.4, 11.0, 13.0, 16.0, 29.0])
_LINE = np.array([0.0, -0.25, -0.9, -2.4, -5.2, -8.0, -8.2, -6.2, -5.5, -8.0, -12.0])
"""The hairline: height over the middle one, by arc length (temples, sideburns, ears, nape)."""


@dataclass(frozen=True)
class HairLayers:
    """Hair of B faces on a canvas of S pixels, each (B, S, S) float32.

    Attributes:
        cap: opacity of the hair on the head's own surface, 0 where nothing is covered.
        front: opacity of fringe and side hair over the face, 0 where nothing is covered.
        back: opacity of the silhouette behind the head.
        tone: brightness of the strands, around 1.
        cast: shade of the fringe on the forehead, 0-1.
    """

    cap: torch.Tensor
    front: torch.Tensor
    back: torch.Tensor
    tone: torch.Tensor
    cast: torch.Tensor


@functools.lru_cache(maxsize=64)
def _noise(seed: int) -> NDArray[np.float32]:
    """Return two noise maps (2, 64, 160): strands (fine across, long) and loose clumps."""
    rng = np.random.default_rng([seed, HAIR_STREAM])
    size = (160, 64)
    strands = 0.7 * cv2.resize(rng.standard_normal((20, 160), np.float32), size)
    strands += 0.9 * cv2.resize(rng.standard_normal((14, 70), np.float32), size)
    strands += 0.6 * cv2.resize(rng.standard_normal((10, 24), np.float32), size)
    clumps = cv2.resize(
        rng.standard_normal((8, 36), np.float32), size, interpolation=cv2.INTER_CUBIC
    )
    return np.stack([strands / 1.1, clumps]).astype(np.float32)


def _sample(maps: torch.Tensor, across: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    """Look the hair noise up; one period is 30 units across and 30 along. (B, 2, S, S)."""
    grid = torch.stack([across / 15.0, along / 15.0], -1)
    return torch.nn.functional.grid_sample(
        maps, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _scalars(
    appearances: tuple[Appearance, ...], names: tuple[str, ...], device: torch.device
) -> list[torch.Tensor]:
    table = [[float(getattr(a.hair, name)) for name in names] for a in appearances]
    return list(torch.tensor(table, device=device).T[:, :, None, None])


def _ramp(values: torch.Tensor, width: torch.Tensor | float) -> torch.Tensor:
    return torch.sigmoid(values / width)


def hair_layers(
    gbuffer: GBuffer,
    appearances: tuple[Appearance, ...],
    surface: torch.Tensor,
    plane: torch.Tensor,
) -> HairLayers:
    """Grow the hair of a batch.

    Args:
        gbuffer: geometry of B faces.
        appearances: B persons.
        surface: (B, S, S, 2) float32, cylinder coordinates (`skin.surface_coordinates`).
        plane: (B, S, S, 2) float32, head coordinates of each pixel on the plane through the
            middle of the head, kit units.

    Returns:
        The layers.
    """
    device = gbuffer.device
    noise = torch.from_numpy(np.stack([_noise(a.seed) for a in appearances])).to(device)
    grows = torch.tensor([0.0 if a.hair.bald else 1.0 for a in appearances], device=device)
    grows = grows.view(-1, 1, 1)
    strands, curl = _scalars(appearances, ("strands", "curl"), device)
    on_head = gbuffer.covered & ((gbuffer.region == SKIN) | (gbuffer.region == HEAD))

    local = _sample(noise, surface[..., 0], surface[..., 1])
    cap = grows * on_head * _cap(appearances, surface, local)
    head = (gbuffer.position.flatten(1, 2) @ gbuffer.head).view_as(gbuffer.position)
    front, cast = _front(appearances, head, noise)
    front, cast = front * grows * gbuffer.covered, cast * grows * on_head
    # What is behind the head is out of focus: half the resolution is enough.
    coarse = torch.stack(_back(appearances, plane[:, ::2, ::2], noise), 1)
    size = (gbuffer.side, gbuffer.side)
    fine = torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
    back, behind = fine.unbind(1)
    detail = torch.where(gbuffer.covered, local[:, 0], behind)
    tone = (0.9 + strands * (1.0 + 0.2 * curl) * detail).clamp(0.4, 1.6)
    return HairLayers(cap, front, back * grows, tone, cast)


def _cap(
    appearances: tuple[Appearance, ...], surface: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Return how far inside the hairline each point of the head lies."""
    device = surface.device
    line, recession, softness = _scalars(appearances, ("line", "recession", "softness"), device)
    across = surface[..., 0].abs()
    cells = torch.linspace(0.0, 29.0, 117)
    shape = np.interp(cells.numpy(), _ANGLES, _LINE)
    temple = np.exp(-0.5 * ((cells.numpy() - 4.6) / 1.3) ** 2)
    curve = torch.from_numpy(np.stack([shape, temple]).astype(np.float32)).to(device)
    index = (across * 4.0).clamp(0.0, 116.0).long()
    height = line + curve[0][index] + 1.6 * recession * curve[1][index]
    inside = surface[..., 1] - height + 0.16 * noise[:, 0] + 0.22 * noise[:, 1]
    return _ramp(inside, softness)


def _front(
    appearances: tuple[Appearance, ...], head: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return fringe and side hair, and the shade that the fringe casts below its ends."""
    device = head.device
    names = ("line", "fringe", "fringe_slant", "fringe_gap", "curtain", "curl", "softness")
    line, fringe, slant, gap, curtain, curl, softness = _scalars(appearances, names, device)
    x, y = head[..., 0], head[..., 1]
    # Strands lean to the side they are combed to.
    local = _sample(noise, (x + 0.35 * slant * (y - 8.0)) * 1.3, 0.35 * y)
    end = line - fringe * (line - 5.6) + 0.09 * slant * x - 0.02 * x**2
    end = end + 0.22 * local[:, 0] + (0.25 + 0.3 * curl) * local[:, 1]
    open_ = (1.0 - gap * torch.sigmoid(4.0 * (local[:, 0] + 0.6 * local[:, 1] - 0.6))).clamp(0, 1)
    present = (fringe > 0.0) * (x.abs() < 7.6) * (y < 13.0)
    hanging = _ramp(y - end, 0.10 + 0.3 * softness)
    cast = present * _ramp(y - end + 0.55, 0.3) * (1.0 - hanging)

    edge = 7.7 - 2.6 * curtain + 0.10 * slant * x.sign() + 0.018 * (y - 2.0) ** 2 * (y < 2.0)
    edge = edge + (0.12 + 0.25 * curl) * local[:, 1]
    side = (curtain > 0.0) * _ramp(x.abs() - edge, 0.14) * (y < 11.0)
    return torch.maximum(present * hanging * open_, side), cast


def _back(
    appearances: tuple[Appearance, ...], plane: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the silhouette behind the head and its strands."""
    volume, length, curl = _scalars(appearances, ("volume", "length", "curl"), plane.device)
    x, y = plane[..., 0], plane[..., 1] - CROWN
    wide, high = SKULL[0] + volume, SKULL[1] + 0.8 * volume
    # Below the crown the hair hangs: wider with length, and cut off at its end.
    drop = (-y).clamp(min=0.0)
    width = wide * torch.where(
        length > 0.3,
        1.0 + 0.02 * drop - 0.0012 * drop**2,
        (1.0 - (drop / 9.0) ** 2).clamp(min=0.0).sqrt(),
    )
    radius = torch.where(
        y > 0, torch.sqrt((x / wide) ** 2 + (y / high) ** 2), x.abs() / width.clamp(min=0.1)
    )
    angle = torch.atan2(x, y)
    local = _sample(noise, radius * 13.0, torch.where(y > 0, angle * 4.0, 4.0 * x.sign() - y))
    wave = _sample(noise, torch.where(y > 0, angle * 2.5, x.sign() * 4.0 + y * 0.6), radius * 0.5)
    border = 1.0 - radius + (0.012 + 0.04 * curl) * wave[:, 1]
    end = drop - (3.0 + 17.0 * length) + 0.5 * local[:, 1]
    back = _ramp(border, 0.012 + 0.014 * curl) * torch.where(
        length > 0.3, _ramp(-end, 0.5), torch.ones_like(end)
    )
    return back, local[:, 0] - 0.5 * radius.clamp(max=1.0)


def clothes(
    appearances: tuple[Appearance, ...], gbuffer: GBuffer
) -> tuple[torch.Tensor, torch.Tensor]:
    """Dress the shoulders.

    Args:
        appearances: B persons.
        gbuffer: geometry of B faces.

    Returns:
        Opacity (B, S, S) and albedo (B, 1, 1) of the clothes.
    """
    table = [[a.backdrop.neckline, a.backdrop.clothes] for a in appearances]
    neckline, albedo = torch.tensor(table, device=gbuffer.device).T[:, :, None, None]
    x, y = gbuffer.canonical[..., 0].abs(), gbuffer.canonical[..., 1]
    below = neckline + 0.22 * (x - 4.0) - y
    body = gbuffer.covered & ((gbuffer.region == HEAD) | (gbuffer.region == SKIN))
    return _ramp(below, 0.08) * body, albedo


@functools.lru_cache(maxsize=64)
def _room(appearance: Appearance, side: int) -> NDArray[np.float32]:
    """Paint one background at half resolution."""
    look = appearance.backdrop
    rng = np.random.default_rng([appearance.seed, BACKDROP_STREAM])
    small = max(side // 2, 8)
    size = (small, small)
    tone = np.zeros((small, small), np.float32)
    for cells, amplitude in ((2, 0.5), (4, 0.4), (9, 0.2)):
        grid = rng.standard_normal((cells, cells), np.float32)
        tone += amplitude * cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    for _ in range(look.shapes):
        centre, half = rng.uniform(0.0, small, 2), rng.uniform(0.03, 0.35, 2) * small
        box = cv2.boxPoints((tuple(centre), tuple(2.0 * half), float(rng.normal(0.0, 6.0))))
        value = float(rng.normal(0.0, 1.1))
        cv2.fillPoly(tone, [np.rint(box).astype(np.int32)], value)
    tone = cv2.GaussianBlur(tone, (0, 0), max(look.blur * small, 0.6))
    image = look.level * np.exp(look.contrast * tone)
    full = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    return full.clip(0.003, 1.3).astype(np.float32)


def backdrop(appearances: tuple[Appearance, ...], side: int, device: torch.device) -> torch.Tensor:
    """Return the backgrounds.

    Args:
        appearances: B persons.
        side: side of the canvas, pixels.
        device: where the result lives.

    Returns:
        (B, S, S) float32, linear light.
    """
    return torch.from_numpy(np.stack([_room(a, side) for a in appearances])).to(device)
