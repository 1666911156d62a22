"""Pictures of single relevance maps: the heatmap and the Top-X relevance projection.

All pictures are uint8 in OpenCV's channel order, blue first. Maps come as stacks, tensors on any
device or arrays, and are drawn all at once; each function looks once whether they are finite, which
waits for the device.

References:
    The paper, §3.5, Figure 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ConfigError
from ..relevance import Maps, stacked, top_x
from .lettering import bgr

__all__ = ["enlarge", "heatmap", "projection"]

_Values = TypeVar("_Values", torch.Tensor, NDArray[np.float32])
_FAINTEST, _STRONGEST = 0.40, 0.85
"""Opacity of a projection's least and most relevant pixel, 0–1."""
_BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16
PAD = 2
"""Half the width of that kernel."""
# A first layer of stride 2 prints a lattice of period 2 on every map. This kernel (σ = 1 px) is
# zero at exactly that frequency, and keeps the mass.


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
        ``(P, side, side)`` float32, on the CPU.

    Raises:
        ConfigError: wrong shape, or a value that is not finite.
    """
    values = smooth(finite(maps).cpu().numpy())
    if values.shape[1:] == (side, side):
        return torch.from_numpy(values)
    enlarged = np.empty((len(values), side, side), np.float32)
    for small, large in zip(values, enlarged, strict=True):
        cv2.resize(small, (side, side), large, interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(enlarged)


def finite(maps: Maps) -> torch.Tensor:
    """Return ``(P, H, W)`` float32."""
    values = stacked(maps).float()
    if values.device.type == "cpu":
        # A sum that is finite has no term that is not, and in float64 none overflows.
        rows = values.numpy().reshape(-1, values.shape[2])
        sound = math.isfinite(cv2.sumElems(rows)[0])
    else:  # least and largest are NaN if any value is
        sound = not values.numel() or bool(torch.isfinite(torch.stack(values.aminmax())).all())
    if not sound:
        raise ConfigError(
            "a relevance map holds NaN or infinite values and cannot be drawn; check the network's "
            "input and weights"
        )
    return values


def check_one_each(what: str, items: Sequence[str], maps: torch.Tensor) -> None:
    """Check that there is one of something per map."""
    if len(items) != len(maps):
        raise ConfigError(f"{len(maps)} relevance maps need as many {what}, got {len(items)}")


def smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth maps ``(P, H, W)`` by the binomial kernel; the border is mirrored with its edge."""
    return smooth_tall(values, np.ones(len(values), np.float32))[:, PAD:-PAD]


def smooth_tall(values: NDArray[np.float32], times: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth maps as :func:`smooth` does, with rows between them, so that all are one picture.

    Args:
        values: ``(P, H, W)``.
        times: ``(P,)`` what each is multiplied with first.

    Returns:
        ``(P, PAD + H + PAD, W)`` float32, contiguous. The rows around each map mean nothing.
    """
    count, height, width = values.shape
    tall = np.empty((count, height + 2 * PAD, width), np.float32)
    if not tall.size:
        return tall
    np.multiply(values, times[:, None, None], out=tall[:, PAD:-PAD])
    # A map one pixel high mirrors that pixel again.
    tall[:, 1], tall[:, 0] = tall[:, 2], tall[:, min(3, height + 1)]
    tall[:, -2], tall[:, -1] = tall[:, -3], tall[:, max(-4, -height - 2)]
    filtered = cv2.sepFilter2D(
        tall.reshape(-1, width), cv2.CV_32F, _BINOMIAL, _BINOMIAL, borderType=cv2.BORDER_REFLECT
    )
    return filtered.reshape(tall.shape).astype(np.float32, copy=False)


def opacity(strength: _Values) -> _Values:
    """Return the opacity of a projection where its strength is 0–1 of its peak."""
    return _FAINTEST + (_STRONGEST - _FAINTEST) * strength
