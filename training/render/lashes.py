"""The dark line of the upper lashes, drawn along the lid from the landmarks.

At the size of the network's crop an eye's clearest mark is this line: open, it borders the iris
from above; shut, it is all that is left of the eye, a dark arc that hangs downwards. It lies on the
rim of the lid, which the mesh rolls inwards where no camera sees it, so it is drawn on the picture.
"""

from __future__ import annotations

import torch

from .appearance import Appearance
from .gbuffer import EYE_SOCKET, IRIS, SCLERA, SKIN, GBuffer

__all__ = ["lash_cover"]

_EYES = ((36, 37, 38, 39, 41, 40, 1.0), (45, 44, 43, 42, 46, 47, -1.0))
"""Outer corner, upper lid (outer, inner), inner corner, lower lid (outer, inner) of the viewer's
left and right eye, and the sense of rotation from corner to corner."""
_BETWEEN_EYES = 6.2
"""Distance between the eye centres, cm: the scale of the picture."""
_OPEN = 0.55
"""Height between the lids from which lashes no longer hang, cm."""
_DEPTH = 1.3
"""What lies farther than this before or behind the lid is not the lid, cm."""


def lash_cover(
    gbuffer: GBuffer, people: tuple[Appearance, ...], lids: torch.Tensor
) -> torch.Tensor:
    """Compute how much light the lashes of the upper lids take away.

    Args:
        gbuffer: geometry of B faces.
        people: B persons.
        lids: ``(68,)`` int64, vertices of the landmarks.

    Returns:
        ``(B, S, S)`` float32, 0 nothing, 1 black.
    """
    device, side = gbuffer.device, gbuffer.side
    points = gbuffer.landmarks
    between = points[:, 36:42].mean(1) - points[:, 42:48].mean(1)
    unit = (between.norm(dim=-1) / _BETWEEN_EYES).view(-1, 1, 1)
    line, fringe, length = (
        torch.tensor([float(getattr(person.eyes, name)) for person in people], device=device).view(
            -1, 1, 1
        )
        for name in ("lash_line", "lashes", "lash_length")
    )
    at = torch.arange(side, device=device, dtype=torch.float32)
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    depth = gbuffer.vertices[:, lids][..., 2]
    cover = torch.zeros((len(gbuffer), side, side), device=device)
    for outer, up_outer, up_inner, inner, low_outer, low_inner, sense in _EYES:
        origin = points[:, outer]
        across = points[:, inner] - origin
        width = across.norm(dim=-1).clamp(min=1.0)
        along = across / width[:, None]
        up = sense * torch.stack([along[:, 1], -along[:, 0]], -1)

        x, y = columns - origin[:, 0].view(-1, 1, 1), rows - origin[:, 1].view(-1, 1, 1)
        t = (x * along[:, 0].view(-1, 1, 1) + y * along[:, 1].view(-1, 1, 1)) / width.view(-1, 1, 1)
        height = x * up[:, 0].view(-1, 1, 1) + y * up[:, 1].view(-1, 1, 1)
        upper = points[:, [up_outer, up_inner]] - origin[:, None]
        place = (upper * along[:, None]).sum(-1) / width[:, None]
        above = height - _arc(t, place, (upper * up[:, None]).sum(-1))

        aperture = (points[:, [up_outer, up_inner]] - points[:, [low_outer, low_inner]]).norm(
            dim=-1
        )
        shut = (1 - aperture.mean(-1).view(-1, 1, 1) / unit / _OPEN).clamp(0, 1)
        # Thin towards the nose, longest outside the middle, a little beyond the outer corner.
        ends = _ramp(t, -0.08, 0.12) * _ramp(1 - t, 0.02, 0.35)
        # A shut lid shows its lashes' whole length from above, an open one their roots.
        rim = torch.exp(-0.5 * (above / ((0.11 + 0.06 * shut) * unit)) ** 2)
        hanging = -above / (length * unit * (0.5 + ends))
        hairs = ((hanging > 0) & (hanging < 1)).float() * (1 - hanging)
        drawn = torch.maximum(line * (0.75 + 0.25 * shut) * rim, 0.95 * fringe * shut * hairs)
        near = (
            gbuffer.position[..., 2] - depth[:, [up_outer, up_inner]].mean(1).view(-1, 1, 1)
        ).abs()
        cover = torch.maximum(cover, drawn * ends * (near < _DEPTH))
    region = gbuffer.region
    seen = (region == SKIN) | (region == SCLERA) | (region == IRIS) | (region == EYE_SOCKET)
    return cover * seen


def _arc(t: torch.Tensor, at: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
    """Evaluate the cubic from corner (0, 0) to corner (1, 0) through two points between.

    Args:
        t: ``(B, S, S)`` where, 0 one corner, 1 the other.
        at, height: ``(B, 2)`` the points between.
    """
    first, second = at[:, 0].clamp(0.1, 0.45), at[:, 1].clamp(0.55, 0.9)
    low = height[:, 0] / (first * (1 - first))
    high = height[:, 1] / (second * (1 - second))
    slope = (high - low) / (second - first)
    base = low - slope * first
    inside = t.clamp(0, 1)
    return inside * (1 - inside) * (base.view(-1, 1, 1) + slope.view(-1, 1, 1) * inside)


def _ramp(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    s = ((x - low) / (high - low)).clamp(0, 1)
    return s * s * (3 - 2 * s)
