"""Is this still the same person? How alike two aligned faces are, and who was seen last.

A face is described by where its edges point: the alignment has put eyes, nose and mouth where they
belong, so the directions in each part of the crop say how brows, lids, cheeks, beard and hair lie.
Every edge is measured against the others around it, so light that is brighter, darker or comes from
the side changes little. This is no face recognition: it tells a jump within a picture from one to
another face, moments later, and nothing about who somebody is. Descriptors never leave the process.

:mod:`.looks` describes a face more coarsely, for the other question: which of those seen it is,
after minutes and from another side, where small differences must not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["LastFaces", "correlation", "describe", "likeness"]

_CELLS, _DIRECTIONS = 8, 8
_BLUR = 1.0
"""Blur before edges are measured, crop pixels: noise and coding have no say."""
_AROUND = 0.1
"""Edges are compared with those within this part of the crop's side."""
_SURELY = 0.9
"""Crops that correlate so much are of one face, and are compared no further: 99 of 100 that follow
each other do, and those of two people reach .8."""
_FLOOR = 2.0
"""Edges weaker than this, grey steps, count less: a flat cheek is no texture."""


def describe(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe an aligned face by the directions of its edges.

    Args:
        crop: ``(S, S)`` uint8 grey, S at least 16. An eighth at each border, mostly hair and
            background, is left out.

    Returns:
        ``(512,)`` float32 of unit length: 8 × 8 cells of 8 directions, each direction without its
        mean over the face; zeros where the crop is flat.

    References:
        Dalal & Triggs, *Histograms of oriented gradients for human detection*, CVPR 2005; here with
        contrast normalised around each pixel instead of each block.
    """
    side = crop.shape[0]
    smooth = cv2.GaussianBlur(crop, (0, 0), _BLUR).astype(np.float32)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    strength, angle = cv2.cartToPolar(across, down)
    strength = np.sqrt(strength / (cv2.GaussianBlur(strength, (0, 0), _AROUND * side) + _FLOOR))
    strength, angle = strength[_inner(crop)], angle[_inner(crop)]
    turn = angle * np.float32(_DIRECTIONS / (2 * np.pi))
    lower = np.floor(turn)
    upper_share = (turn - lower) * strength
    first = lower.astype(np.intp) % _DIRECTIONS
    planes = np.zeros((*strength.shape, _DIRECTIONS), np.float32)
    rows, columns = np.ogrid[: strength.shape[0], : strength.shape[1]]
    planes[rows, columns, first] = strength - upper_share
    planes[rows, columns, (first + 1) % _DIRECTIONS] = upper_share
    cells = cv2.resize(planes, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    cells = (cells - cells.mean((0, 1))).ravel()
    norm = float(np.linalg.norm(cells))
    return (cells / norm if norm > 1e-6 else np.zeros_like(cells)).astype(np.float32)


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how alike faces are, by the half of the face in which they are most alike.

    A hand, or light from the side, changes one half in a moment and leaves the other as it was;
    another person changes all of it.

    Args:
        a, b: ``(…, 512)`` float32 descriptors, see :func:`describe`; their leading shapes
            broadcast.

    Returns:
        ``(…)`` float32 cosine, −1 to 1: the largest of the upper, lower, left and right half; 0
        where a half of a face is flat.
    """
    one = a.reshape(*a.shape[:-1], _CELLS, _CELLS, _DIRECTIONS)
    other = b.reshape(*b.shape[:-1], _CELLS, _CELLS, _DIRECTIONS)
    both, half = (one * other).sum(-1), _CELLS // 2
    own, others = (one * one).sum(-1), (other * other).sum(-1)
    halves = (np.s_[..., :half, :], np.s_[..., half:, :], np.s_[..., :half], np.s_[..., half:])
    alike = [
        both[part].sum((-2, -1))
        / np.sqrt(own[part].sum((-2, -1)) * others[part].sum((-2, -1)) + 1e-12)
        for part in halves
    ]
    return np.max(alike, axis=0).astype(np.float32)


def correlation(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the Pearson correlation of two pictures of one shape; 0 where one of them is flat."""
    x, y = a.astype(np.float32).ravel(), b.astype(np.float32).ravel()
    x -= x.mean()
    y -= y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else 0.0


class LastFaces:
    """Tell whether a face can be that of the person seen last.

    The face is compared with the last one and with some from the seconds before it: a head that
    turned back looks as it did then. The longer nobody was seen, the less a face must resemble any
    of them, because expression, pose and light had time to change.

    Args:
        least: ``(seconds, likeness)`` pairs, ascending in time: how alike a face must be when so
            much time has passed; between them in a straight line.
        every_s: time between the faces that are remembered, seconds.
        count: number of them.
    """

    def __init__(
        self, least: Sequence[tuple[float, float]], every_s: float = 0.27, count: int = 10
    ) -> None:
        self._after_s, self._least = zip(*least, strict=True)
        self._every_s = every_s
        self._crops: deque[NDArray[np.uint8]] = deque(maxlen=count)
        self._last: NDArray[np.uint8] | None = None
        self._last_s = self._kept_s = 0.0

    def forget(self) -> None:
        """Forget everybody: the next face is compared with nobody."""
        self._crops.clear()
        self._last = None

    def continues(self, crop: NDArray[np.uint8], time_s: float) -> bool:
        """Take in the next usable face; return whether it can be of the person of those before.

        A face that cannot is remembered alone: it is the first of its person.

        Args:
            crop: ``(S, S)`` uint8 grey, aligned.
            time_s: its time, seconds.
        """
        same = self._last is None or self._resembles(crop, self._last, time_s - self._last_s)
        if not same:
            self._crops.clear()
        self._last, self._last_s = crop, time_s
        if not self._crops or abs(time_s - self._kept_s) >= self._every_s:
            self._crops.append(crop)
            self._kept_s = time_s
        return same

    def _resembles(self, crop: NDArray[np.uint8], last: NDArray[np.uint8], passed_s: float) -> bool:
        inner = _inner(crop)
        if correlation(last[inner], crop[inner]) >= _SURELY:
            return True
        needed = float(np.interp(passed_s, self._after_s, self._least))
        before = np.stack([describe(one) for one in (last, *self._crops)])
        return float(likeness(before, describe(crop)).max()) >= needed


def _inner(crop: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Return the part of a crop that is face: all but an eighth at each border."""
    edge = crop.shape[0] // 8
    return np.s_[edge:-edge, edge:-edge]
