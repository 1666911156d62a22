"""Relevance maps: descriptors to compare them, projections to show them (paper §3.3, §3.5).

Every function takes all maps of a batch at once, on whatever device they lie, and answers there;
none of them waits for that device.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from .errors import ConfigError
from .steps import timed

__all__ = [
    "Maps",
    "brinks",
    "cells",
    "check_share",
    "describe",
    "masks",
    "pool",
    "stacked",
    "top_x",
]

Maps = torch.Tensor | NDArray[np.floating]
"""``(P, H, W)`` relevance: a tensor, or an array, which is taken for one on the CPU."""
_WELL_ABOVE = 7.0
"""Times the mean of a map: pixels above it are ranked first."""


@timed("describe")
def describe(
    maps: Maps, side: int = 16, mode: str = "positive"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn relevance maps into unit vectors, so that a dot product is their cosine.

    Args:
        maps: ``(P, H, W)`` relevance, any unit.
        side: cells per side of the area-pooled map.
        mode: ``positive`` keeps the evidence for the AU only; ``signed`` keeps all relevance.

    Returns:
        ``(P, side²)`` float32 descriptors of length 1, and ``(P,)`` bool that tells which maps
        have one. A map without relevance, or with a value that is not finite, has none: its row
        is 0.

    Raises:
        ConfigError: unknown mode, or wrong shape.
    """
    stack = stacked(maps)
    if mode == "positive" and stack.device.type == "cpu" and side >= 1:
        return _describe_host(stack, side)
    if mode == "positive":
        stack = stack.relu()  # keeps NaN, which makes the map invalid below
    elif mode != "signed":
        raise ConfigError(f"unknown descriptor mode {mode!r}; use positive or signed")
    return _units(pool(stack, side).flatten(1))


def _units(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float64 rows scaled to length 1, float32, and which have a direction."""
    # In float64 the squares of float32 relevance neither vanish nor overflow.
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    # 0/0, inf/inf and NaN become 0, a finite value over inf is 0: a row without direction vanishes.
    units = (rows / length).nan_to_num_(nan=0).float()
    return units, units.any(dim=1)


def _describe_host(stack: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return descriptors of the positive part of maps that lie on the CPU.

    A frame's maps are few and small: most of the time goes to calling, so little is called, and
    cells are added up in float32 where that is safe.
    """
    means = _means_host(stack, side)
    units, valid, rest = np.zeros(means.shape, np.float32), np.zeros(len(means), bool), []
    for n, (row, unit) in enumerate(zip(means, units, strict=True)):
        length = cv2.norm(row)  # in float64
        if 1e-30 < length < 1e30:
            np.divide(row, length, out=unit)
            valid[n] = True
        elif length != 0:  # faint, huge or not finite
            rest.append(n)
    descriptors, has = torch.from_numpy(units), torch.from_numpy(valid)
    if rest:
        descriptors[rest], has[rest] = _units(pool(stack[rest].relu(), side).flatten(1))
    return descriptors, has


def pool(maps: Maps, side: int) -> torch.Tensor:
    """Average maps over a grid of equal cells, pixels on a border counted by their share.

    Args:
        maps: ``(P, H, W)``.
        side: cells per side; need not divide H or W.

    Returns:
        ``(P, side, side)`` float64 cell means. A value that is not finite makes at least one cell
        of its map so, and none of another map.

    Raises:
        ConfigError: ``side`` is below 1, or wrong shape.
    """
    if side < 1:
        raise ConfigError(f"a map is pooled to at least 1 cell per side, not {side}")
    stack = stacked(maps).double()
    height, width = stack.shape[1:]
    if height % side == 0 and width % side == 0:
        return F.avg_pool2d(stack[:, None], (height // side, width // side))[:, 0]
    down, across = (
        torch.from_numpy(_shares(size, side)).to(stack.device, non_blocking=True)
        for size in (height, width)
    )
    return down @ stack @ across.T


@lru_cache(maxsize=32)
def _shares(size: int, side: int) -> NDArray[np.float64]:
    """Return ``(side, size)``: the share of each pixel in the mean of each cell."""
    edges = np.arange(side + 1) * (size / side)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(overlap, 0) * (side / size)


def top_x(maps: Maps, x: float = 0.25) -> torch.Tensor:
    """Select the Top-X relevance projection of each map.

    With R⁺ = max(R, 0) and M = Σ R⁺ these are the fewest largest pixels whose sum reaches x·M:
    a quantile of the relevance mass, not of the number of pixels.

    Args:
        maps: ``(P, H, W)`` relevance.
        x: share of the positive mass to keep, 0–1.

    Returns:
        ``(P, H, W)`` bool. Of equal pixels the first in reading order are taken; a map without
        positive relevance, or with NaN, gives an empty mask.

    Raises:
        ConfigError: ``x`` is outside 0–1, or wrong shape.

    References:
        Paper §3.5, Top-X-Relevance Projection.
    """
    check_share(x)
    stack = stacked(maps)
    values = stack.relu().flatten(1)
    mask = (_top_x_host if stack.device.type == "cpu" else _top_x_device)(values, x)
    return mask.view(stack.shape)


def _top_x_host(values: torch.Tensor, x: float) -> torch.Tensor:
    """Return the projections ``(P, N)`` bool of maps ``(P, N)`` on the CPU, none negative."""
    rows = values.numpy()
    mask = np.zeros(rows.shape, bool)
    for n, row in enumerate(rows):
        ranked, last = _ranked(row, x)
        if last < 0:
            continue
        level = ranked[last]
        np.greater_equal(row, level, out=mask[n])
        if np.count_nonzero(mask[n]) > last + 1:
            mask[n] = row > level
            equal = np.flatnonzero(row == level)
            mask[n, equal[: last + 1 - np.count_nonzero(mask[n])]] = True
    return torch.from_numpy(mask)


def brinks(
    maps: NDArray[np.float32], x: float = 0.25
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return where the Top-X projection of each map begins and ends, see :func:`top_x`.

    Args:
        maps: ``(P, H, W)`` float32 relevance, finite, none negative.
        x: share of the mass to keep, 0–1.

    Returns:
        ``(P,)`` float32 each: the largest value, the least that is kept (infinite if none is), and
        the largest that is not (0 if all are kept).

    Raises:
        ConfigError: ``x`` is outside 0–1.
    """
    check_share(x)
    count, size = len(maps), math.prod(maps.shape[1:])
    rows = maps.reshape(count, size)
    if count < 2:
        peak, kept, dropped = (
            np.array([_brink(row, x) for row in rows], np.float32).reshape(-1, 3).T
        )
        return peak, kept, dropped
    totals = cv2.reduce(rows, 1, cv2.REDUCE_SUM, dtype=cv2.CV_64F)[:, 0]
    wanted = x * totals
    # As in _ranked, only what is well above the mean is ranked, but that of all maps by one sort:
    # the bits of floats that are not negative rise with them, and the number of the map goes first.
    level = (totals * (_WELL_ABOVE / size)).astype(np.float32)
    found = np.flatnonzero(rows >= level[:, None])
    bounds = found.searchsorted(np.arange(0, (count + 1) * size, size))
    begins, ends = bounds[:-1], bounds[1:]
    sizes = ends - begins
    number = (np.arange(count) << 32).repeat(sizes)
    falling = number - rows.reshape(-1)[found].view(np.int32)
    falling.sort()
    values = np.zeros(len(found) + 1, np.float32)
    np.subtract(number, falling, out=values[:-1].view(np.int32), casting="unsafe")
    # One running sum, too, of maps at like scales; powers of two round nothing.
    scale = np.ldexp(1.0, -np.frexp(totals)[1])
    reached = np.zeros(len(values))
    np.cumsum(values[:-1] * scale.repeat(sizes), out=reached[1:])
    # The pixel that first reaches what is wanted is the last one kept.
    last = reached.searchsorted(reached[begins] + scale * wanted) - 1
    np.maximum(last, begins, out=last)
    seen = (wanted > 0) & (last + 1 < ends)
    peak, kept, dropped = values[begins], values[last], values[np.minimum(last + 1, bounds[-1])]
    for n in np.flatnonzero(~seen).tolist():
        peak[n], kept[n], dropped[n] = _brink(rows[n], x)
    return peak, kept, dropped


def _brink(row: NDArray[np.float32], x: float) -> tuple[float, float, float]:
    """Do the same for one map ``(N,)``."""
    ranked, last = _ranked(row, x)
    if last < 0:
        return 0.0, np.inf, 0.0
    if last + 1 < ranked.size:
        return ranked[0], ranked[last], ranked[last + 1]
    return ranked[0], ranked[last], row[row < ranked[last]].max(initial=0)


def check_share(x: float) -> None:
    """Refuse a share of relevance outside 0–1.

    Raises:
        ConfigError: it is.
    """
    if not 0 <= x <= 1:
        raise ConfigError(f"the share of relevance to keep lies between 0 and 1, not at {x}")


def _ranked(row: NDArray[np.floating], x: float) -> tuple[NDArray[np.floating], int]:
    """Return the largest values in falling order, and the place among them of the last one kept;
    −1 if none is."""
    total = cv2.sumElems(row)[0]  # in float64
    wanted = x * total
    if not wanted > 0:  # NaN is not either
        return row[:0], -1
    # Relevance is concentrated: the fewest pixels that reach what is wanted are among those well
    # above the mean, as a rule a thirtieth of all, and only these need be ranked. NumPy
    # sorts values alone with vector instructions; torch would sort their places along.
    ranked, reached = _summed(row[np.flatnonzero(row >= _WELL_ABOVE * total / row.size)])
    if not reached.size or reached[-1] < wanted:
        ranked, reached = _summed(row)
        wanted = x * reached[-1]  # the same sum, rounded alike: all of it can be reached
    # The pixel that first reaches what is wanted is the last one kept.
    return ranked, min(int(reached.searchsorted(wanted)), ranked.size - 1)


def _summed(values: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """Return values in falling order, and their running sum."""
    ranked = np.sort(values)[::-1]
    return ranked, ranked.cumsum(dtype=np.float64)


def _top_x_device(values: torch.Tensor, x: float) -> torch.Tensor:
    """Do the same wherever the maps lie, without waiting for them."""
    ranked = (-values).sort(dim=1).values
    reached = -ranked.cumsum(dim=1, dtype=torch.float64)
    wanted = x * reached[:, -1:]
    last = torch.searchsorted(reached, wanted).clamp(max=reached.shape[1] - 1)
    level = torch.where(wanted > 0, -ranked.gather(1, last), torch.inf)
    above, equal = values > level, values == level
    missing = last + 1 - above.sum(dim=1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= missing))


def cells(maps: Maps, side: int, x: float = 0.25) -> tuple[torch.Tensor, torch.Tensor]:
    """Summarise the positive relevance of each map in a few bytes, with its projection.

    Args:
        maps: ``(P, H, W)`` relevance.
        side: cells per side.
        x: share of the positive mass that the projection keeps, 0–1.

    Returns:
        ``(P, side, side)`` uint8, cell means with the largest scaled to 255, and ``(P,)`` uint8:
        the level, 1–255, from which on a cell belongs to the Top-X projection of the cells. Cells
        that rounding made equal to the weakest of them are let in. A map without positive
        relevance gives zeros and the level 255.

    Raises:
        ConfigError: ``x`` is outside 0–1, ``side`` below 1, or wrong shape.
    """
    check_share(x)
    stack = stacked(maps)
    return (_cells_host if stack.device.type == "cpu" else _cells_device)(stack, side, x)


def masks(maps: Maps, side: int, x: float = 0.25) -> torch.Tensor:
    """Return the Top-X projection of the cells of each map, see :func:`cells`.

    Args:
        maps: ``(P, H, W)`` relevance.
        side: cells per side.
        x: share of the positive mass to keep, 0–1.

    Returns:
        ``(P, side, side)`` uint8: the cells of the projection, 1–255, and 0 outside.

    Raises:
        ConfigError: ``x`` is outside 0–1, ``side`` below 1, or wrong shape.
    """
    check_share(x)
    stack = stacked(maps)
    if stack.device.type == "cpu":
        return _cells_host(stack, side, x, only_masks=True)[0]
    return _kept_device(*_cells_device(stack, side, x))


# The bytes decide which cells belong to the projection, so their masses are summed byte by byte,
# and nothing is sorted. Both ways do the same. A frame's maps are few and small: on a CPU most of
# the time is spent on calling, which NumPy does at half the cost.


def _cells_host(
    stack: torch.Tensor, side: int, x: float, *, only_masks: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cells and levels of maps that lie on the CPU; cells below the level are 0 where only
    masks are wanted."""
    means = _means_host(stack, side)
    scaled, level = np.zeros(means.shape, np.uint8), np.full(len(means), 255, np.uint8)
    for n, (row, bytes_) in enumerate(zip(means, scaled, strict=True)):
        peak = float(row.max())
        if not 0 < peak < np.inf:  # NaN is not either
            continue
        if peak < 1e-30:  # 255 over it may not be finite
            row, peak = row / np.float32(peak), 1.0
        cv2.convertScaleAbs(row, bytes_, 255 / peak)
        reached = np.bincount(bytes_, row, 256)[::-1].cumsum()
        wanted = x * reached[-1]
        least = max(255 - int(reached.searchsorted(wanted)), 1) if wanted > 0 else 255
        level[n] = least
        if only_masks:
            cv2.threshold(bytes_, least - 1, 0, cv2.THRESH_TOZERO, bytes_)
    return torch.from_numpy(scaled.reshape(-1, side, side)), torch.from_numpy(level)


def _means_host(stack: torch.Tensor, side: int) -> NDArray[np.float32]:
    """Return the mean positive relevance of cells ``(P, side²)``, up to a factor for all maps."""
    count, height, width = stack.shape
    down, across = height // max(side, 1), width // max(side, 1)
    if (height, width) != (down * side, across * side) or stack.dtype != torch.float32:
        return pool(stack.clamp(min=0), side).float().flatten(1).numpy()
    # One tall picture: cells do not reach from one map into the next.
    if not count:
        return np.empty((0, side * side), np.float32)
    rows = np.maximum(stack.numpy(), 0).reshape(-1, width)  # keeps NaN
    means = cv2.resize(rows, (side, count * side), interpolation=cv2.INTER_AREA)
    return means.reshape(count, side * side).astype(np.float32, copy=False)


def _cells_device(stack: torch.Tensor, side: int, x: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Do the same wherever the maps lie, without waiting for them."""
    means = pool(stack.clamp(min=0), side).float().flatten(1)
    peak = means.amax(dim=1, keepdim=True)
    sound = (peak > 0) & (peak < torch.inf)
    means, peak = torch.where(sound, means, 0), torch.where(sound, peak, 1)
    scaled = (means / peak * 255).round()
    masses = means.new_zeros((len(means), 256), dtype=torch.float64)
    masses.scatter_add_(1, scaled.long(), means.double())
    reached = masses.flip(1).cumsum(dim=1)
    level = (255 - torch.searchsorted(reached, x * reached[:, -1:])).clamp(min=1)
    level = torch.where(sound, level, 255)[:, 0]
    return scaled.to(torch.uint8).view(-1, side, side), level.to(torch.uint8)


def _kept_device(scaled: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Return cells with those below their map's level set to 0."""
    return scaled * (scaled >= level[:, None, None])


def stacked(maps: Maps) -> torch.Tensor:
    """Return maps as a float32 or float64 tensor ``(P, H, W)``; shares memory where it can.

    Args:
        maps: ``(P, H, W)`` relevance, any unit; an array is taken for a tensor on the CPU.

    Raises:
        ConfigError: wrong shape.
    """
    if not isinstance(maps, torch.Tensor):
        # torch cannot take read-only or reversed arrays as they are.
        maps = torch.from_numpy(np.require(maps, requirements=["C_CONTIGUOUS", "WRITEABLE"]))
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ConfigError(
            f"relevance maps come as (P, H, W), got shape {tuple(maps.shape)}; add the first axis "
            "to a single map"
        )
    maps = maps.detach()
    return maps if maps.dtype in (torch.float32, torch.float64) else maps.float()
