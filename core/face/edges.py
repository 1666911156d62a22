"""Histograms of oriented gradients (HOG) of a small grey picture.

OpenCV up to version 4 has them as ``HOGDescriptor``; version 5 has not. The figures are those of
its ``HOGDescriptor((S, S), (16, 16), (8, 8), (8, 8), 9)``, to float32 rounding.

References:
    Dalal and Triggs, *Histograms of oriented gradients for human detection*, CVPR 2005.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["CELL", "histograms"]

CELL = 8
"""Side of a cell, pixels; a block is two by two cells, and blocks overlap by one cell."""
BINS = 9
"""Directions of a cell, from 0 to 180 degrees."""
MOST = 0.2
"""No number of a block is more than so much of its length: one strong edge is not everything."""

_BLOCK = 2 * CELL


def histograms(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how strong edges of each direction are in each cell.

    Args:
        image: ``(S, S)`` uint8 grey, S a multiple of :data:`CELL` and at least two of it.

    Returns:
        ``((S / 8 - 1)^2 * 36,)`` float32: blocks column by column, in each its four cells column by
        column, in each the nine directions. Each block has about unit length; a flat one is zero.
    """
    windows = sliding_window_view(_votes(image), (_BLOCK, _BLOCK), (0, 1))[::CELL, ::CELL]
    # (rows, columns, bins, y, x) to blocks column by column, each (pixels, bins).
    pixels = windows.transpose(1, 0, 3, 4, 2).reshape(-1, _BLOCK * _BLOCK, BINS)
    blocks = np.asarray(_weights() @ pixels, np.float32).reshape(-1, 4 * BINS)
    blocks /= np.linalg.norm(blocks, axis=1, keepdims=True) + np.float32(0.1 * 4 * BINS)
    np.minimum(blocks, np.float32(MOST), out=blocks)
    blocks /= np.linalg.norm(blocks, axis=1, keepdims=True) + np.float32(1e-3)
    return blocks.ravel()


def _votes(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return ``(S, S, 9)``: each pixel's strength, shared by the two directions nearest its own."""
    grey = np.pad(image.astype(np.float32), 1, "reflect")
    right = np.ascontiguousarray(grey[1:-1, 2:] - grey[1:-1, :-2])
    down = np.ascontiguousarray(grey[2:, 1:-1] - grey[:-2, 1:-1])
    strength, angle = (
        np.asarray(found, np.float32).ravel() for found in cv2.cartToPolar(right, down)
    )
    place = angle * np.float32(BINS / np.pi) - np.float32(0.5)
    below = np.floor(place).astype(np.intp)
    share = place - below.astype(np.float32)
    votes = np.zeros((strength.size, BINS), np.float32)
    pixels = np.arange(strength.size)
    # The two directions are never the same one, so that nothing is written twice.
    votes[pixels, below % BINS] = strength * (1 - share)
    votes[pixels, (below + 1) % BINS] = strength * share
    return votes.reshape(*image.shape, BINS)


@functools.cache
def _weights() -> NDArray[np.float32]:
    """Return ``(4, 256)``: what each pixel of a block counts in each of its cells.

    It falls off from the block's middle (a Gaussian of a quarter of its side) and is shared by the
    cells around the pixel, linearly in x and in y.
    """
    at = np.arange(_BLOCK, dtype=np.float64)
    bell = np.exp(-((at - CELL) ** 2) / (2 * (_BLOCK / 4) ** 2))
    place = (at + 0.5) / CELL - 0.5
    near = np.stack([np.clip(1 - np.abs(place - cell), 0, None) for cell in (0, 1)]) * bell
    # Cells column by column: the first index is across, the second down.
    return np.einsum("ax,by->abyx", near, near).reshape(4, -1).astype(np.float32)
