"""Projections of several Action Units over one face: layers, and the picture painted with them.

Maps come as stacks, tensors on any device or arrays; the pictures are uint8, blue first.

References:
    The paper, §3.5, Figures 3 and 4.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..relevance import Maps, top_x
from .lettering import Colour, bgr, blend, draw_text, rounded_mask, text_width
from .projections import check_one_each, finite, opacity, smooth, weights

__all__ = ["SMALLEST_WITH_TEXT", "Layers", "compose", "composite", "layers"]

SMALLEST_WITH_TEXT = 110
"""Pictures of a smaller side, pixels, carry no words: they would not be readable."""
_DIM, _LIFT = 0.58, 40.0
"""Contrast (of 1) and added brightness (of 255) of the face below projections: a flatter face keeps
its features and leaves the bright and dark ends to the colours."""
_OUTLINE = 0.6
"""Share of the colour in its contour; the rest is white: it must stand out from its own area."""
_STRIPE = 1 / 45
"""Width of the stripes where projections overlap, as a share of the picture's side."""
_REACH = 2
"""Pixels of the map around a projection within which its enlarged contour runs."""

Box = tuple[slice, slice]
"""Rows and columns of a picture."""
_NOTHING: Box = (slice(0, 0), slice(0, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """Projections at picture size, ready to be painted over any face.

    Attributes:
        colours: of the Action Units, P.
        alpha: ``(P, side, side)`` float32 opacity, 0–1; 0 outside the projection.
        outline: ``(P, side, side)`` float32 coverage of the contour, 0–1.
        names: written on the projection where another one has the same colour.
        boxes: outside its box a layer is 0. A projection usually covers less than a tenth of the
            picture, so that most of the work is saved by keeping to it.
    """

    colours: tuple[Colour, ...]
    alpha: torch.Tensor
    outline: torch.Tensor
    names: tuple[str, ...]
    boxes: tuple[Box, ...]

    def take(self, numbers: Sequence[int]) -> Layers:
        """Return some of the layers, in this order."""
        first = numbers[0] if numbers else 0
        # Neighbours, as a rule: they need not be copied.
        inside = list(numbers) == list(range(first, first + len(numbers)))
        chosen = slice(first, first + len(numbers)) if inside else list(numbers)
        return Layers(
            tuple(self.colours[n] for n in numbers),
            self.alpha[chosen],
            self.outline[chosen],
            tuple(self.names[n] for n in numbers),
            tuple(self.boxes[n] for n in numbers),
        )

    @staticmethod
    def joined(parts: Sequence[Layers]) -> Layers:
        """Return the layers of all parts, one after the other; all have one side."""
        return Layers(
            tuple(colour for part in parts for colour in part.colours),
            torch.cat([part.alpha for part in parts]),
            torch.cat([part.outline for part in parts]),
            tuple(name for part in parts for name in part.names),
            tuple(box for part in parts for box in part.boxes),
        )


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
    values = smooth(finite(maps)).clamp(min=0)
    check_one_each("colours", colours, values)
    names = names or [""] * len(values)
    check_one_each("names", names, values)
    mask = top_x(values, x)
    # The contour lies between the weakest pixel kept and the strongest one dropped. (Arithmetic on
    # masks takes a fifth of the time of where() and masked_fill() on a CPU.)
    outside = (~mask).float()
    kept = (values + outside * torch.finfo(values.dtype).max).amin(dim=(1, 2), keepdim=True)
    dropped = (values * outside).amax(dim=(1, 2), keepdim=True)
    peak = values.amax(dim=(1, 2), keepdim=True)
    floor = torch.where(peak > 0, peak, 1)
    level = (kept + dropped) / 2
    boxes = _boxes(mask, side)
    alpha = values.new_zeros((len(values), side, side))
    outline = torch.zeros_like(alpha)
    for n, (rows, columns) in enumerate(boxes):
        if boxes[n] == _NOTHING:
            continue
        # One pixel more all around, where there is one: for the slope.
        wider = slice(max(rows.start - 1, 0), rows.stop + 1)
        broader = slice(max(columns.start - 1, 0), columns.stop + 1)
        tall, wide = weights(values, 1, side), weights(values, 2, side)
        strength = tall[wider] @ values[n] @ wide[broader].T
        down, right = torch.gradient(strength)
        inner = (
            slice(rows.start - wider.start, rows.stop - wider.start),
            slice(columns.start - broader.start, columns.stop - broader.start),
        )
        strength = strength[inner]
        # Height over slope is the distance to the contour in pixels of the picture.
        slope = torch.maximum(torch.hypot(down[inner], right[inner]), 1e-6 * floor[n])
        distance = (strength - level[n]) / slope
        inside = (distance + 0.5).clamp(0, 1)
        alpha[n, rows, columns] = inside * opacity((strength / floor[n]).clamp(0, 1))
        line = max(1.0, side / 200) / 2 + 0.5
        outline[n, rows, columns] = (line - distance.abs()).clamp(0, 1)
    return Layers(tuple(bgr(colour) for colour in colours), alpha, outline, tuple(names), boxes)


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
    device = shown.alpha.device
    tints = torch.tensor(shown.colours, dtype=torch.float32).to(device)
    flat = torch.arange(256).float() * _DIM + _LIFT
    painted = cv2.cvtColor(cv2.LUT(face, flat.round().numpy().astype(np.uint8)), cv2.COLOR_GRAY2BGR)
    painted = torch.from_numpy(painted).to(device)
    rows, columns = _around(shown.boxes)
    numbers = [n for n, box in enumerate(shown.boxes) if box != _NOTHING]
    picture = torch.from_numpy(face[rows, columns]).to(device).float() * _DIM + _LIFT
    picture = torch.lerp(picture, *_striped(shown.alpha, tints, (rows, columns)))
    # The contours of small areas are painted last: those of large ones would hide them.
    areas = {n: int(shown.alpha[n][shown.boxes[n]].count_nonzero()) for n in numbers}
    bright = 255 - _OUTLINE * (255 - tints)
    for n in sorted(numbers, key=lambda n: -areas[n]):
        down, right = shown.boxes[n]
        part = picture[
            :,
            down.start - rows.start : down.stop - rows.start,
            right.start - columns.start : right.stop - columns.start,
        ]
        part.copy_(torch.lerp(part, bright[n][:, None, None], shown.outline[n, down, right]))
    painted[rows, columns] = picture.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    painted = painted.cpu().numpy()
    if side >= SMALLEST_WITH_TEXT:
        _name_lookalikes(painted, shown)
    return painted


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


def _boxes(mask: torch.Tensor, side: int) -> tuple[Box, ...]:
    """Return for each mask ``(S, S)`` the box of a picture that holds its outline; may be empty."""
    found: list[Box] = []
    line = math.ceil(max(1.0, side / 200) / 2 + 1)
    for one in mask.cpu().numpy():
        places = []
        for axis in (0, 1):
            held = np.flatnonzero(one.any(axis=1 - axis))
            if not held.size:
                continue
            scale = side / one.shape[axis]
            first = math.floor((int(held[0]) - _REACH) * scale) - line
            last = math.ceil((int(held[-1]) + 1 + _REACH) * scale) + line
            places.append(slice(max(first, 0), min(last, side)))
        found.append((places[0], places[1]) if places else _NOTHING)
    return tuple(found)


def _around(boxes: Sequence[Box]) -> Box:
    """Return the box around boxes."""
    full = [box for box in boxes if box != _NOTHING]
    if not full:
        return _NOTHING
    return (
        slice(min(b[0].start for b in full), max(b[0].stop for b in full)),
        slice(min(b[1].start for b in full), max(b[1].stop for b in full)),
    )


def _striped(
    alpha: torch.Tensor, tints: torch.Tensor, box: Box
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return colour ``(3, h, w)`` and opacity ``(h, w)`` of all layers together, inside a box.

    Where k projections overlap, their colours take turns in diagonal stripes: mixed, they would
    give a colour that belongs to none of them.

    Args:
        alpha: ``(P, side, side)`` float32.
        tints: ``(P, 3)`` float32, 0–255.
        box: of size ``(h, w)``.
    """
    side = alpha.shape[1]
    alpha = alpha[:, *box]
    if len(alpha) == 1:  # the usual picture of a prototype
        return tints[0][:, None, None].expand(3, *alpha.shape[1:]), alpha[0]
    present = alpha > 0
    rank = present.cumsum(dim=0, dtype=torch.int16)
    count = rank[-1].clamp(min=1)
    width = max(3.0, side * _STRIPE)
    places = torch.arange(side, device=alpha.device)
    along = (places[box[0], None] + places[box[1]]) / (width * 2**0.5)
    edge = along.round()
    # Softened over one pixel around the edge between a stripe and the next.
    after = ((along - edge) * width + 0.5).clamp(0, 1)
    turn = edge.short()
    share = ((turn - 1) % count + 1 == rank).float() * (1 - after)
    share += (turn % count + 1 == rank).float() * after
    share *= present.float()
    return torch.einsum("phw,pc->chw", share, tints), (share * alpha).sum(dim=0)


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
