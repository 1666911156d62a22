"""Relevance maps: descriptors to compare them, projections to show them (paper §3.3, §3.5)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError

__all__ = ["describe", "pool", "top_x"]


def describe(
    maps: NDArray[np.float32], side: int = 16, mode: str = "positive"
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
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
    maps = _stack(maps)
    if mode == "positive":
        maps = np.maximum(maps, 0)  # keeps NaN, which makes the map invalid below
    elif mode != "signed":
        raise ConfigError(f"unknown descriptor mode {mode!r}; use positive or signed")
    cells = pool(maps, side).reshape(len(maps), side * side)
    finite = np.isfinite(cells).all(axis=1)
    cells[~finite] = 0
    # Scaled to a largest value of 1 first: squares of tiny relevance would vanish.
    largest = np.abs(cells).max(axis=1, initial=0)
    valid = finite & (largest > 0)
    cells /= np.where(valid, largest, 1)[:, None]
    cells /= np.where(valid, np.linalg.norm(cells, axis=1), 1)[:, None]
    return cells.astype(np.float32), valid


def pool(maps: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Average maps over a grid of equal cells, pixels on a border counted by their share.

    Args:
        maps: ``(P, H, W)``.
        side: cells per side; need not divide H or W.

    Returns:
        ``(P, side, side)`` float64 cell means.

    Raises:
        ConfigError: ``side`` is below 1, or wrong shape.
    """
    if side < 1:
        raise ConfigError(f"a map is pooled to at least 1 cell per side, not {side}")
    stack = np.asarray(_stack(maps), np.float64)
    height, width = stack.shape[1:]
    finite = np.isfinite(stack).all(axis=(1, 2))
    if finite.all():
        return _cells(height, side) @ stack @ _cells(width, side).T
    # A single bad pixel would spread by 0·inf = NaN through the whole product.
    pooled = np.full((len(stack), side, side), np.nan)
    pooled[finite] = _cells(height, side) @ stack[finite] @ _cells(width, side).T
    return pooled


@lru_cache(maxsize=32)
def _cells(size: int, side: int) -> NDArray[np.float64]:
    """Return ``(side, size)``: the share of each pixel in the mean of each cell."""
    edges = np.arange(side + 1) * (size / side)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.maximum(overlap, 0) * (side / size)
    shares.flags.writeable = False
    return shares


def top_x(maps: NDArray[np.float32], x: float = 0.25) -> NDArray[np.bool_]:
    """Select the Top-X relevance projection of each map.

    With R⁺ = max(R, 0) and M = Σ R⁺ these are the fewest largest pixels whose sum reaches x·M:
    a quantile of the relevance mass, not of the number of pixels.

    Args:
        maps: ``(P, H, W)`` relevance.
        x: share of the positive mass to keep, 0–1.

    Returns:
        ``(P, H, W)`` bool. Of equal pixels the first in reading order are taken; a map without
        positive relevance gives an empty mask.

    Raises:
        ConfigError: ``x`` is outside 0–1, or wrong shape.

    References:
        Paper §3.5, Top-X-Relevance Projection.
    """
    if not 0 <= x <= 1:
        raise ConfigError(f"the share of relevance to keep lies between 0 and 1, not at {x}")
    maps = _stack(maps)
    count, height, width = maps.shape
    values = np.where(maps > 0, maps, 0).reshape(count, height * width).astype(np.float64)
    order = np.argsort(-values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    reached = np.cumsum(ranked, axis=1)
    # The sum before each pixel is taken from the running sum itself, not by subtraction, so
    # rounding cannot let a smaller pixel in after a larger one was left out.
    before = np.concatenate((np.zeros((count, 1)), reached[:, :-1]), axis=1)
    keep = (before < x * reached[:, -1:]) & (ranked > 0)
    mask = np.empty_like(keep)
    np.put_along_axis(mask, order, keep, axis=1)
    return mask.reshape(maps.shape)


def _stack(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    maps = np.asarray(maps)
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ConfigError(
            f"relevance maps come as (P, H, W), got shape {maps.shape}; add the first axis to a "
            "single map"
        )
    return maps
