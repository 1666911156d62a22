"""Pictures of single relevance maps: the heatmap and the Top-X relevance projection.

All pictures are uint8 in OpenCV's channel order, blue first. Maps come as stacks, tensors on any
device or arrays, and are drawn all at once; each function looks once whether they are finite, which
waits for the device.

References:
    The paper, §3.5, Figure 3.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..errors import ConfigError
from ..relevance import Maps, stacked, top_x
from .lettering import bgr

__all__ = ["enlarge", "heatmap", "projection"]

_FAINTEST, _STRONGEST = 0.40, 0.85
"""Opacity of a projection's least and most relevant pixel, 0–1."""
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16)
# Outer, next and middle tap. A first layer of stride 2 prints a lattice of period 2 on every map.
# This kernel (σ = 1 px) is zero at exactly that frequency, and keeps the mass.


def heatmap(maps: Maps) -> torch.Tensor:
    """Colour relevance maps blue-white-red.

    Args:
        maps: ``(P, H, W)`` float, any unit. Each is divided by its max|R|, so that values lie in
            [−1, 1]: −1 is pure blue, 0 white, +1 pure red. A map of zeros is white.

    Returns:
        ``(P, H, W, 3)`` uint8, BGR.

    Raises:
        ConfigError: wrong shape, or a value that is not finite.

    References:
        The paper, §3.5, the "traditional" heatmap of Figure 3.
    """
    values = finite(maps)
    peak = values.abs().amax(dim=(1, 2), keepdim=True)
    share = values * torch.where(peak > 0, 255 / peak, 0)
    # What speaks for the AU fades blue, what speaks against it red, and both fade green.
    if share.device.type == "cpu":
        rows = share.flatten(0, 1).numpy()  # one tall picture; bytes saturate
        blue, red = (cv2.addWeighted(rows, sign, rows, 0, 255, dtype=cv2.CV_8U) for sign in (-1, 1))
        picture = cv2.merge((blue, cv2.min(blue, red), red))
        return torch.from_numpy(picture.reshape(*share.shape, 3))
    blue, red = ((255 + sign * share).clamp(0, 255).round().to(torch.uint8) for sign in (-1, 1))
    return torch.stack((blue, torch.minimum(blue, red), red), dim=-1)


def projection(maps: Maps, colours: Sequence[str], x: float = 0.25) -> torch.Tensor:
    """Return the Top-X relevance projection of each map, in one colour.

    Args:
        maps: ``(P, H, W)`` float, any unit.
        colours: ``#rrggbb``, one per map.
        x: share of the positive relevance to keep, 0–1.

    Returns:
        ``(P, H, W, 4)`` uint8, BGRA, not premultiplied. Alpha is 0 outside the projection; inside
        it grows with the relevance.

    Raises:
        ConfigError: wrong shape, a value that is not finite, or not one colour per map.

    References:
        The paper, §3.5, Figure 3.
    """
    values = finite(maps).clamp(min=0)
    check_one_each("colours", colours, values)
    peak = values.amax(dim=(1, 2), keepdim=True)
    shade = opacity(values / torch.where(peak > 0, peak, 1))
    picture = values.new_empty((*values.shape, 4), dtype=torch.uint8)
    tints = torch.tensor([bgr(colour) for colour in colours], dtype=torch.uint8)
    picture[..., :3] = tints.to(values.device).view(-1, 1, 1, 3)
    picture[..., 3] = torch.where(top_x(values, x), (255 * shade).round(), 0)
    return picture


def enlarge(maps: Maps, side: int) -> torch.Tensor:
    """Enlarge maps for the eye: smoothed by a 5-tap binomial kernel, then interpolated.

    The smoothing takes away the lattice that a network's stride leaves in its maps; it blurs by
    one pixel of the map.

    Args:
        maps: ``(P, H, W)`` float.
        side: side of the pictures, pixels.

    Returns:
        ``(P, side, side)`` float32.

    Raises:
        ConfigError: wrong shape, or a value that is not finite.
    """
    return _interpolated(smooth(finite(maps)), side)


def finite(maps: Maps) -> torch.Tensor:
    """Return ``(P, H, W)`` float32."""
    values = stacked(maps).float()
    # A sum is not finite if any value is not, and in float64 it cannot overflow.
    if not bool(torch.isfinite(values.sum(dtype=torch.float64))):
        raise ConfigError(
            "a relevance map holds NaN or infinite values and cannot be drawn; check the network's "
            "input and weights"
        )
    return values


def check_one_each(what: str, given: Sequence[str], maps: torch.Tensor) -> None:
    """Check that there is one of something per map."""
    if len(given) != len(maps):
        raise ConfigError(f"{len(maps)} relevance maps need as many {what}, got {len(given)}")


def smooth(values: torch.Tensor) -> torch.Tensor:
    """Smooth maps ``(P, H, W)`` by the binomial kernel."""
    for axis in (1, 2):
        size = values.shape[axis]
        # The border is mirrored, edge pixels included.
        places = torch.from_numpy(np.pad(np.arange(size), 2, mode="symmetric"))
        padded = values.index_select(axis, places.to(values.device))
        taps = [padded.narrow(axis, k, size) for k in range(5)]
        values = (taps[0] + taps[4]) * _BINOMIAL[0]
        values = values.add_(taps[1] + taps[3], alpha=_BINOMIAL[1]).add_(
            taps[2], alpha=_BINOMIAL[2]
        )
    return values


def _interpolated(values: torch.Tensor, side: int) -> torch.Tensor:
    if values.shape[1:] == (side, side):
        return values
    return weights(values, 1, side) @ values @ weights(values, 2, side).T


def weights(values: torch.Tensor, axis: int, side: int) -> torch.Tensor:
    """Return what an axis of the maps is multiplied with to get ``side`` pixels."""
    return _bicubic(values.shape[axis], side).to(values.device)


@functools.lru_cache(maxsize=16)
def _bicubic(size: int, side: int) -> torch.Tensor:
    """Return the ``(side, size)`` matrix of bicubic interpolation along one axis.

    As a product of matrices it takes a third to a half of the time of PyTorch's own function on a
    CPU, and any part of a picture can be had without the rest.
    """
    unit = torch.eye(size)[None, None]
    return F.interpolate(unit, (side, size), mode="bicubic")[0, 0].contiguous()


def opacity(strength: torch.Tensor) -> torch.Tensor:
    """Return the opacity of a projection where its strength is 0–1 of its peak."""
    return _FAINTEST + (_STRONGEST - _FAINTEST) * strength
