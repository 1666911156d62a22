"""Geometry of the face step: similarities, warps without aliasing, motion between crops.

Coordinates are OpenCV's: the centre of the first pixel is ``(0, 0)``. A *matrix* is the ``(2, 3)``
affine part of a similarity ``[[a, -b, tx], [b, a, ty]]``: rotation, one scale, shift, no mirror.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError, SourceError
from ..steps import timed

__all__ = [
    "align",
    "compose",
    "crop_motion",
    "invert",
    "similarity",
    "to_grey",
    "transform",
    "warp",
]

_ANTIALIAS_SIGMA = 0.45
"""Gaussian blur of one crop pixel's footprint, in crop pixels (about half a pixel: no aliasing
left that the eye or the network sees, and no softening at scale 1)."""
_DECIMATE_ABOVE = 2.0
"""Keep at least this many pixels per crop pixel for the Gaussian when decimating by boxes."""


_ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""Points closer together than this share of their coordinates are one point."""


def similarity(src: ArrayLike, dst: ArrayLike, weights: ArrayLike) -> NDArray[np.float32]:
    """Fit the similarity that maps ``src`` to ``dst`` best, in closed form.

    Minimises Σ wₖ‖A·srcₖ − dstₖ‖² over rotation, scale and shift. In two dimensions, without
    reflection, the solution needs no SVD: with points centred on their weighted means,
    a = Σ w⟨s, d⟩ / Σ w‖s‖² and b = Σ w (s × d) / Σ w‖s‖². Deterministic, unlike OpenCV's RANSAC.

    Args:
        src: ``(N, 2)`` points, N ≥ 2, not all the same.
        dst: ``(N, 2)`` where they should go.
        weights: ``(N,)`` non-negative weights, at least two of them positive.

    Returns:
        ``(2, 3)`` float32 matrix.

    Raises:
        ConfigError: the points carry no scale (all the same, not finite, or no weight).

    References:
        Umeyama, *Least-squares estimation of transformation parameters between two point
        patterns*, IEEE TPAMI 13(4), 1991, eqs. 40–42 (here weighted, in 2-D).
    """
    # A similarity is one complex factor and one complex shift: d = (a + ib)·s + (tx + i·ty).
    source = np.ascontiguousarray(src, np.float64).view(np.complex128)[:, 0]
    target = np.ascontiguousarray(dst, np.float64).view(np.complex128)[:, 0]
    w = np.asarray(weights, np.float64)
    w = w / w.sum()
    source_mean, target_mean = w @ source, w @ target
    s = source - source_mean
    weighted = w * s
    spread = float(np.vdot(weighted, s).real)
    # The mean of equal numbers need not be that number to the last bit.
    rounding = _ROUNDING * float(np.abs(source).max())
    if not rounding**2 < spread < math.inf:
        raise ConfigError(
            f"cannot fit a similarity to the points {np.asarray(src).tolist()}: they have no "
            "extent; pass at least two distinct, finite points with positive weight"
        )
    factor = complex(np.vdot(weighted, target - target_mean)) / spread
    shift = complex(target_mean) - factor * complex(source_mean)
    a, b = factor.real, factor.imag
    return np.array([[a, -b, shift.real], [b, a, shift.imag]], np.float32)


def invert(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Invert a similarity: ``(2, 3)`` frame → crop becomes ``(2, 3)`` crop → frame, float32."""
    # Six numbers: plain Python is several times faster here than arrays.
    (a, b, x), (c, d, y) = matrix.tolist()
    scale = 1 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    return np.array([[a, b, -a * x - b * y], [c, d, -c * x - d * y]], np.float32)


def compose(second: NDArray[np.float32], first: NDArray[np.float32]) -> NDArray[np.float32]:
    """Chain two ``(2, 3)`` matrices: apply ``first``, then ``second``."""
    second_rows, ((a, b, x), (c, d, y)) = second.tolist(), first.tolist()
    rows = [[p * a + q * c, p * b + q * d, p * x + q * y + r] for p, q, r in second_rows]
    return np.array(rows, np.float32)


def transform(matrix: NDArray[np.float32], points: ArrayLike) -> NDArray[np.float32]:
    """Map ``(..., 2)`` points through a ``(2, 3)`` matrix; float32."""
    p = np.asarray(points, np.float64)
    m = np.asarray(matrix, np.float64)
    return (p @ m[:, :2].T + m[:, 2]).astype(np.float32)


@timed("grey")
def to_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert a picture to grey (ITU-R BT.601 luma).

    Args:
        image: ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` BGR or ``(H, W, 4)`` BGRA, uint8.

    Returns:
        ``(H, W)`` uint8; the input itself where it is grey already.

    Raises:
        SourceError: another shape or dtype, or an empty picture.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise SourceError(
            f"a frame has shape {image.shape} and type {image.dtype}; "
            "deliver (H, W, 3) uint8 pictures in BGR order"
        )
    if image.ndim == 2:
        return image
    channels = image.shape[2]
    if channels == 1:
        return image[:, :, 0]
    if channels not in (3, 4):
        raise SourceError(f"a frame has {channels} channels; deliver 1, 3 (BGR) or 4 (BGRA)")
    code = cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY
    return cv2.cvtColor(image, code).astype(np.uint8, copy=False)


@timed("warp")
def warp(
    image: NDArray[np.uint8], matrix: NDArray[np.float32], size: int, scale: int = 1
) -> NDArray[np.uint8]:
    """Cut the square crop that a matrix defines, without aliasing, in one resampling.

    Only the part of the picture under the crop is touched, so the cost depends on the size of the
    face and not of the frame. When the crop shrinks the picture (s < 1 crop pixels per frame
    pixel) that part is low-passed to a Gaussian of variance 0.45²·(1/s² − 1) frame pixels²: what
    the step from the frame's pixels to the crop's asks for, and zero, without a jump, at s = 1.
    Strong shrinking is done in two steps of the same total variance: boxes, then the Gaussian.

    Args:
        image: ``(H, W)`` grey or ``(H, W, C)`` uint8.
        matrix: ``(2, 3)`` similarity, frame pixels → crop pixels at scale 1.
        size: side of the crop at scale 1, pixels.
        scale: whole number of times the crop is enlarged, to show it; pixel areas correspond.

    Returns:
        ``(size·scale, size·scale[, C])`` uint8; beyond the frame its border is repeated.
    """
    side = size * scale
    # Areas, not centres, are scaled: pixel centre x becomes (x + ½)·scale − ½.
    enlarge = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]], np.float32)
    m = compose(enlarge, matrix).astype(np.float64)
    s = math.hypot(m[0, 0], m[1, 0])
    factor = max(1, int(1 / (_DECIMATE_ABOVE * s)))
    sigma = _ANTIALIAS_SIGMA * math.sqrt(max(0.0, 1 / (s * s) - 1))

    corners = transform(invert(m.astype(np.float32)), [[0, 0], [side, 0], [0, side], [side, side]])
    margin = 3 * sigma + factor + 2
    across, down = corners.T.tolist()
    x0, x1 = _span(across, margin, image.shape[1], factor)
    y0, y1 = _span(down, margin, image.shape[0], factor)
    region = image[y0:y1, x0:x1]
    m[:, 2] += m[:, :2] @ (x0, y0)
    if factor > 1:
        height, width = region.shape[:2]
        rows, columns = -(-height // factor), -(-width // factor)
        # Complete the last boxes with the border so that all of them have the same weight.
        region = cv2.copyMakeBorder(
            region, 0, rows * factor - height, 0, columns * factor - width, cv2.BORDER_REPLICATE
        )
        region = cv2.resize(region, (columns, rows), interpolation=cv2.INTER_AREA)
        m[:, 2] += m[:, :2] @ np.full(2, (factor - 1) / 2)
        m[:, :2] *= factor
        # What boxes (1/12) and the coarser bilinear sampling (1/6 on average) blurred already.
        sigma = math.sqrt(max(0.0, sigma**2 - (factor**2 - 1) / 4)) / factor
    if sigma > 0.2:  # below, the kernel's neighbours weigh under 1e-5
        region = cv2.GaussianBlur(region, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    crop = cv2.warpAffine(
        region, m, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return crop.astype(np.uint8, copy=False)


def _span(values: list[float], margin: float, extent: int, step: int) -> tuple[int, int]:
    """Range of rows or columns under the crop; never empty, even where it misses the picture."""
    low = min(max(math.floor(min(values) - margin), 0), extent - 1)
    # A start that moves in whole boxes keeps the decimation grid still while the face moves.
    low -= low % step
    high = min(max(math.ceil(max(values) + margin) + 1, low + 1), extent)
    return low, high


def align(
    image: NDArray[np.uint8],
    points: ArrayLike,
    template: ArrayLike,
    weights: ArrayLike,
    size: int,
    scale: int = 1,
) -> NDArray[np.uint8]:
    """Cut the face out so that its points lie on the template's.

    Args:
        image: ``(H, W)`` grey or ``(H, W, 3)`` BGR, uint8.
        points: ``(N, 2)`` points in frame pixels.
        template: ``(N, 2)`` where they belong, crop pixels at scale 1.
        weights: ``(N,)`` weights of the fit.
        size: side of the crop at scale 1, pixels.
        scale: whole number of times the crop is enlarged.

    Returns:
        ``(size·scale, size·scale[, 3])`` uint8.
    """
    return warp(image, similarity(points, template, weights), size, scale)


@timed("motion")
def crop_motion(
    previous: NDArray[np.uint8], current: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], float]:
    """Measure how the face moved between two crops cut with the same matrix.

    Pyramidal Lucas–Kanade on a fixed grid, then a similarity fitted by iteratively reweighted least
    squares (Geman–McClure), so that the parts that move on their own (lips, lids, a hand) do not
    pull the head along.

    Args:
        previous: ``(S, S)`` uint8 grey.
        current: ``(S, S)`` uint8 grey, the next frame under the same matrix.

    Returns:
        ``(2, 3)`` float32 matrix, place in ``previous`` → place in ``current``, and the weighted
        share of the grid that agrees with it, 0–1 (0 and the identity where nothing was found).

    References:
        Bouguet, *Pyramidal implementation of the Lucas Kanade feature tracker*, Intel, 2000.
    """
    still = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    size = previous.shape[0]
    grid = _grid(size)
    window = max(5, round(size * 0.16)) | 1
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        previous, current, grid, grid.copy(), winSize=(window, window), maxLevel=2
    )
    good = found[:, 0] > 0
    if good.sum() < 8:
        return still, 0.0
    start, end = grid[good, 0], moved[good, 0]
    noise = 0.01 * size  # disagreement at which a point counts a quarter
    motion, w = still, np.ones(len(start))
    apart = end - start
    residual = _lengths(apart - np.median(apart, axis=0))
    for _ in range(4):
        w = 1 / (1 + (residual / noise) ** 2) ** 2
        if w.sum() < 2:
            return still, 0.0
        motion = similarity(start, end, w)
        residual = _lengths(transform(motion, start) - end)
    scale = float(np.hypot(motion[0, 0], motion[1, 0]))
    if not 0.5 < scale < 2:  # no face grows like that within a frame: a fit to noise
        return still, 0.0
    return motion, float(w.sum() / len(grid))


@functools.cache
def _grid(size: int) -> NDArray[np.float32]:
    """Return the ``(49, 1, 2)`` places of a crop at which motion is measured."""
    axis = np.linspace(0.17, 0.83, 7) * size
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 1, 2).astype(np.float32)


def _lengths(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the length of each row of ``(N, 2)``."""
    return np.sqrt((vectors * vectors).sum(axis=1))
