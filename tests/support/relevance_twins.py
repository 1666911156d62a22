"""Relevance products one map at a time, in plain NumPy and OpenCV: what the batched code must give.

This is how the products were first written. It is slow and easy to check by reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Picture = NDArray[np.uint8]

FAINTEST, STRONGEST = 0.40, 0.85
BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16


def shares(size: int, side: int) -> NDArray[np.float64]:
    """Return ``(side, size)``: the share of each pixel in the mean of each cell."""
    edges = np.arange(side + 1) * (size / side)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(overlap, 0) * (side / size)


def describe(image: Map, side: int = 16, mode: str = "positive") -> tuple[Map, bool]:
    """Return the descriptor of one map, and whether it has one."""
    if mode == "positive":
        image = np.maximum(image, 0)
    height, width = image.shape
    cells = (shares(height, side) @ image.astype(np.float64) @ shares(width, side).T).ravel()
    largest = np.abs(cells).max()
    if largest == 0:
        return np.zeros(side * side, np.float32), False
    cells = cells / largest
    return (cells / np.linalg.norm(cells)).astype(np.float32), True


def top_x(image: Map, x: float) -> NDArray[np.bool_]:
    """Rank all pixels of one map; keep them until their sum reaches x·M."""
    values = np.where(image > 0, image, 0).ravel().astype(np.float64)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    reached = np.cumsum(ranked)
    before = np.concatenate(([0.0], reached[:-1]))
    mask = np.empty(values.shape, bool)
    mask[order] = (before < x * reached[-1]) & (ranked > 0)
    return mask.reshape(image.shape)


def cells(image: Map, side: int, x: float) -> tuple[Picture, int]:
    """Return the positive relevance in 0–255 cells, and the level at which Top-X begins."""
    means = cv2.resize(np.maximum(image, 0), (side, side), interpolation=cv2.INTER_AREA)
    means = means.astype(np.float32)
    peak = float(means.max())
    if peak <= 0:
        return np.zeros((side, side), np.uint8), 255
    scaled = np.rint(means * (255 / peak)).astype(np.uint8)
    return scaled, max(1, int(scaled[top_x(means, x)].min()))


def heatmap(image: Map) -> Picture:
    """Colour one map blue-white-red."""
    peak = np.abs(image).max(initial=0.0)
    share = image / peak if peak > 0 else image
    fade = np.rint(255 * (1 - np.abs(share))).astype(np.uint8)
    blue = np.where(share > 0, fade, 255)
    red = np.where(share < 0, fade, 255)
    return np.stack([blue, fade, red], axis=-1).astype(np.uint8)


def opacity(strength: Map) -> Map:
    """Return the opacity of relevance that is scaled to 0–1."""
    return FAINTEST + (STRONGEST - FAINTEST) * strength


def projection(image: Map, bgr: tuple[int, int, int], x: float) -> Picture:
    """Return the Top-X projection of one map in one colour."""
    positive = np.maximum(image, 0)
    peak = positive.max()
    strength = positive / peak if peak > 0 else positive
    picture = np.empty((*image.shape, 4), np.uint8)
    picture[..., :3] = bgr
    picture[..., 3] = np.where(top_x(image, x), np.rint(255 * opacity(strength)), 0)
    return picture


def smooth(image: Map) -> Map:
    """Smooth one map."""
    made = cv2.sepFilter2D(image, -1, BINOMIAL, BINOMIAL, borderType=cv2.BORDER_REFLECT)
    return np.asarray(made, np.float32)


def enlarge(image: Map, side: int) -> Map:
    """Smooth and enlarge one map."""
    made = cv2.resize(smooth(image), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(made, np.float32)


class Layer(NamedTuple):
    """One projection at picture size."""

    bgr: tuple[int, int, int]
    alpha: Map
    outline: Map


def layer(image: Map, bgr: tuple[int, int, int], side: int, x: float) -> Layer:
    """Return the projection of one enlarged map, with its contour."""
    values = np.maximum(smooth(image), 0)
    mask = top_x(values, x)
    if not mask.any():
        nothing = np.zeros((side, side), np.float32)
        return Layer(bgr, nothing, nothing)
    level = (values[mask].min() + values[~mask].max(initial=0)) / 2
    strength = cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC)
    down, right = np.gradient(strength)
    slope = np.maximum(np.hypot(down, right), 1e-6 * values.max())
    distance = (strength - level) / slope
    inside = np.clip(distance + 0.5, 0, 1)
    outline = np.clip(max(1.0, side / 200) / 2 + 0.5 - np.abs(distance), 0, 1)
    alpha = inside * opacity(np.clip(strength / values.max(), 0, 1))
    return Layer(bgr, alpha.astype(np.float32), outline.astype(np.float32))


def compose(crop: Picture, layers: Sequence[Layer], side: int) -> Picture:
    """Paint layers over a grey crop of the same size, one after the other."""
    face = cv2.resize(crop, (side, side), interpolation=cv2.INTER_CUBIC)
    picture = np.repeat(face[..., None], 3, axis=2).astype(np.float32) * 0.58 + 40.0
    present = np.stack([item.alpha > 0 for item in layers])
    rank = np.cumsum(present, axis=0) - 1
    count = np.maximum(present.sum(axis=0), 1)
    width = max(3.0, side / 45)
    rows, columns = np.mgrid[0:side, 0:side]
    along = (rows + columns) * (1 / (width * np.sqrt(2)))
    edge = np.rint(along).astype(int)
    after = np.clip((along - edge) * width + 0.5, 0, 1).astype(np.float32)
    tint = np.zeros((side, side, 3), np.float32)
    alpha = np.zeros((side, side, 1), np.float32)
    for item, here, place in zip(layers, present, rank, strict=True):
        share = here * ((edge - 1) % count == place) * (1 - after)
        share = (share + here * (edge % count == place) * after)[..., None].astype(np.float32)
        tint += share * np.asarray(item.bgr, np.float32)
        alpha += share * item.alpha[..., None]
    picture += alpha * (tint - picture)
    for item in sorted(layers, key=lambda item: -np.count_nonzero(item.alpha)):
        bright = 255 - 0.6 * (255 - np.asarray(item.bgr, np.float32))
        picture += item.outline[..., None] * (bright - picture)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
