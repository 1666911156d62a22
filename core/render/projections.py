"""Pictures of relevance maps: the heatmap, the Top-X relevance projection, the composite.

All pictures are uint8 in OpenCV's channel order, blue first. Maps come as stacks, tensors on any
device or arrays, and are drawn all at once; each function looks once whether they are finite, which
waits for the device.

References:
    The paper, §3.5, Figure 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..errors import ConfigError
from ..relevance import Maps, stacked, top_x
from .lettering import Colour, bgr, blend, draw_text, rounded_mask, text_width

__all__ = [
    "SMALLEST_WITH_TEXT",
    "Layers",
    "compose",
    "composite",
    "enlarge",
    "heatmap",
    "layers",
    "projection",
]

SMALLEST_WITH_TEXT = 110
"""Pictures of a smaller side, pixels, carry no words: they would not be readable."""
_DIM, _LIFT = 0.58, 40.0
"""Contrast (of 1) and added brightness (of 255) of the face below projections: a flatter face keeps
its features and leaves the bright and dark ends to the colours."""
_FAINTEST, _STRONGEST = 0.40, 0.85
"""Opacity of a projection's least and most relevant pixel, 0–1."""
_OUTLINE = 0.6
"""Share of the colour in its contour; the rest is white: it must stand out from its own area."""
_STRIPE = 1 / 45
"""Width of the stripes where projections overlap, as a share of the picture's side."""
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16)
# Outer, next and middle tap. A first layer of stride 2 prints a lattice of period 2 on every map.
# This kernel (σ = 1 px) is zero at exactly that frequency, and keeps the mass.


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """Projections at picture size, ready to be painted over any face.

    Attributes:
        colours: of the Action Units, P.
        alpha: ``(P, side, side)`` float32 opacity, 0–1; 0 outside the projection.
        outline: ``(P, side, side)`` float32 coverage of the contour, 0–1.
        names: written on the projection where another one has the same colour.
    """

    colours: tuple[Colour, ...]
    alpha: torch.Tensor
    outline: torch.Tensor
    names: tuple[str, ...]

    def take(self, numbers: Sequence[int]) -> Layers:
        """Return some of the layers, in this order."""
        return Layers(
            tuple(self.colours[n] for n in numbers),
            self.alpha[list(numbers)],
            self.outline[list(numbers)],
            tuple(self.names[n] for n in numbers),
        )


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
    values = _finite(maps)
    peak = values.abs().amax(dim=(1, 2), keepdim=True)
    share = values / torch.where(peak > 0, peak, 1)
    # What speaks for the AU fades blue, what speaks against it red, and both fade green.
    faded = (1 - share.clamp(min=0), 1 - share.abs(), 1 + share.clamp(max=0))
    # Channels are brought together as bytes: as floats it would take five times as long.
    return torch.stack([(255 * one).round().to(torch.uint8) for one in faded], dim=-1)


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
    values = _finite(maps).clamp(min=0)
    _check_one_each("colours", colours, values)
    peak = values.amax(dim=(1, 2), keepdim=True)
    opacity = _opacity(values / torch.where(peak > 0, peak, 1))
    picture = values.new_empty((*values.shape, 4), dtype=torch.uint8)
    tints = torch.tensor([bgr(colour) for colour in colours], dtype=torch.uint8)
    picture[..., :3] = tints.to(values.device).view(-1, 1, 1, 3)
    picture[..., 3] = torch.where(top_x(values, x), (255 * opacity).round(), 0)
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
    return _interpolated(_smooth(_finite(maps)), side)


def layers(
    maps: Maps, colours: Sequence[str], side: int, x: float = 0.25, names: Sequence[str] = ()
) -> Layers:
    """Return the Top-X projections of maps as :func:`enlarge` shows them, with contours.

    Args:
        maps: ``(P, S, S)`` float.
        colours: ``#rrggbb``, one per map.
        side: side of the picture, pixels.
        x: share of the positive relevance to keep, 0–1.
        names: one per map; written on the projection where another one has the same colour.

    Raises:
        ConfigError: wrong shape, a value that is not finite, or not one colour and name per map.
    """
    values = _smooth(_finite(maps)).clamp(min=0)
    _check_one_each("colours", colours, values)
    names = names or [""] * len(values)
    _check_one_each("names", names, values)
    mask = top_x(values, x)
    # The contour lies between the weakest pixel kept and the strongest one dropped. (Arithmetic on
    # masks takes a fifth of the time of where() and masked_fill() on a CPU.)
    outside = (~mask).float()
    kept = (values + outside * torch.finfo(values.dtype).max).amin(dim=(1, 2), keepdim=True)
    dropped = (values * outside).amax(dim=(1, 2), keepdim=True)
    peak = values.amax(dim=(1, 2), keepdim=True)
    strength = _interpolated(values, side)
    down, right = torch.gradient(strength, dim=(1, 2))
    # Height over slope is the distance to the contour in pixels of the picture. A map without a
    # projection has its contour out of reach.
    slope = torch.maximum(torch.hypot(down, right), 1e-6 * torch.where(peak > 0, peak, 1))
    distance = (strength - (kept + dropped) / 2) / slope
    inside = (distance + 0.5).clamp(0, 1)
    outline = (max(1.0, side / 200) / 2 + 0.5 - distance.abs()).clamp(0, 1)
    relative = (strength / torch.where(peak > 0, peak, 1)).clamp(0, 1)
    return Layers(
        tuple(bgr(colour) for colour in colours),
        inside * _opacity(relative),
        outline,
        tuple(names),
    )


def compose(crop: NDArray[np.uint8], shown: Layers | None, side: int) -> NDArray[np.uint8]:
    """Paint layers over a face crop; without layers, return the enlarged grey crop.

    Args:
        crop: ``(C, C)`` or ``(C, C, 3)`` uint8, BGR.
        shown: projections of this ``side``, or None. Where they overlap they take turns in
            stripes; those that share a colour carry their names.
        side: side of the picture, pixels.

    Returns:
        ``(side, side, 3)`` uint8, BGR.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY) if crop.ndim == 3 else crop
    shrinks = side < grey.shape[0]
    face = cv2.resize(
        grey, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    if shown is None or not shown.colours:
        return np.repeat(face[..., None], 3, axis=2).astype(np.uint8, copy=False)
    alpha, outline = shown.alpha, shown.outline
    tints = torch.tensor(shown.colours, dtype=torch.float32).to(alpha.device)
    picture = torch.from_numpy(face).to(alpha.device).float() * _DIM + _LIFT
    picture = torch.lerp(picture, *_striped(alpha, tints, side))
    # The contours of small areas are painted last: those of large ones would hide them.
    order = torch.argsort(alpha.count_nonzero(dim=(1, 2)), descending=True, stable=True)
    bright = 255 - _OUTLINE * (255 - tints[order])
    for tint, cover in zip(bright, outline[order], strict=True):
        picture = torch.lerp(picture, tint[:, None, None], cover)
    painted = picture.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
    painted = painted.cpu().numpy()
    if side >= SMALLEST_WITH_TEXT:
        _name_lookalikes(painted, shown)
    return painted


def _name_lookalikes(picture: NDArray[np.uint8], shown: Layers) -> None:
    """Write their names on projections that share a colour with another one."""
    counts = Counter(shown.colours)
    if max(counts.values()) < 2:
        return
    side = picture.shape[0]
    size = max(7.5, side * 0.045)
    areas = (shown.alpha > 0).cpu().numpy()
    for number, (colour, name) in enumerate(zip(shown.colours, shown.names, strict=True)):
        if counts[colour] < 2 or not name or not areas[number].any():
            continue
        twins = [n for n, other in enumerate(shown.colours) if n != number and other == colour]
        alone = areas[number] & ~areas[twins].any(axis=0)
        # The middle of the widest part that cannot be meant for the other, if there is one.
        region = (alone if alone.any() else areas[number]).astype(np.uint8)
        depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        high = round(size * 1.7)
        wide = max(high, text_width(name, size, bold=True) + round(size * 0.8))
        left = min(max(int(x) - wide // 2, 0), side - wide)
        top = min(max(int(y) - high // 2, 0), side - high)
        blend(picture, rounded_mask(wide, high, high / 2) * 0.9, left, top, (255, 255, 255))
        middle, baseline = left + wide / 2, top + (high + size) / 2
        draw_text(picture, name, middle, baseline, size, (24, 20, 16), bold=True, anchor="centre")


def _striped(
    alpha: torch.Tensor, tints: torch.Tensor, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return colour ``(3, side, side)`` and opacity ``(side, side)`` of all layers together.

    Where k projections overlap, their colours take turns in diagonal stripes: mixed, they would
    give a colour that belongs to none of them.

    Args:
        alpha: ``(P, side, side)`` float32.
        tints: ``(P, 3)`` float32, 0–255.
        side: side of the picture, pixels.
    """
    present = alpha > 0
    rank = present.cumsum(dim=0, dtype=torch.int16)
    count = rank[-1].clamp(min=1)
    width = max(3.0, side * _STRIPE)
    places = torch.arange(side, device=alpha.device)
    along = (places[:, None] + places) / (width * 2**0.5)
    edge = along.round()
    # Softened over one pixel around the edge between a stripe and the next.
    after = ((along - edge) * width + 0.5).clamp(0, 1)
    turn = edge.short()
    share = ((turn - 1) % count + 1 == rank).float() * (1 - after)
    share += (turn % count + 1 == rank).float() * after
    share *= present.float()
    return torch.einsum("phw,pc->chw", share, tints), (share * alpha).sum(dim=0)


def composite(
    crop: NDArray[np.uint8],
    maps: Maps,
    colours: Sequence[str],
    x: float = 0.25,
    scale: float = 2.0,
) -> NDArray[np.uint8]:
    """Show the Top-X relevance projections of several Action Units over one face.

    Args:
        crop: ``(C, C)`` or ``(C, C, 3)`` uint8, BGR; shown in grey, dimmed.
        maps: ``(P, S, S)`` relevance, P may be 0. Maps and crop show the same part of the face.
            Maps are smoothed by one pixel first, see :func:`enlarge`.
        colours: ``#rrggbb`` of the Action Unit of each map.
        x: share of the positive relevance to keep, 0–1.
        scale: enlargement of the crop.

    Returns:
        ``(round(C·scale), round(C·scale), 3)`` uint8, BGR.

    Raises:
        ConfigError: wrong shape, a value that is not finite, or not one colour per map.

    References:
        The paper, §3.5, Figures 3 and 4.
    """
    side = round(crop.shape[0] * scale)
    return compose(crop, layers(maps, colours, side, x), side)


def _finite(maps: Maps) -> torch.Tensor:
    """Return ``(P, H, W)`` float32."""
    values = stacked(maps).float()
    # A sum is not finite if any value is not, and in float64 it cannot overflow.
    if not bool(torch.isfinite(values.sum(dtype=torch.float64))):
        raise ConfigError(
            "a relevance map holds NaN or infinite values and cannot be drawn; check the network's "
            "input and weights"
        )
    return values


def _check_one_each(what: str, given: Sequence[str], maps: torch.Tensor) -> None:
    if len(given) != len(maps):
        raise ConfigError(f"{len(maps)} relevance maps need as many {what}, got {len(given)}")


def _smooth(values: torch.Tensor) -> torch.Tensor:
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
    if not len(values):  # interpolate refuses to have nothing to do
        return values.new_zeros((0, side, side))
    if values.shape[1:] == (side, side):
        return values
    return F.interpolate(values[:, None], (side, side), mode="bicubic")[:, 0]


def _opacity(strength: torch.Tensor) -> torch.Tensor:
    return _FAINTEST + (_STRONGEST - _FAINTEST) * strength
