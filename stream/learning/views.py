"""Views: what the network sees of a stored crop in training, a little different each time.

View v of a run depends on (seed, v) only, and so does which picture it shows; a run that is resumed
at view v therefore goes on exactly as it would have.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.face.alignment import transform
from ...core.face.regions import MIRROR
from .crops import MARGIN, CropSet
from .trainer import TrainingBatch

__all__ = ["Views"]

_SCALE, _TURN, _SHIFT = 0.04, 0.035, 1.6
"""Standard deviations of the jitter: log scale, radians, crop pixels. What alignment leaves."""
_ORDER, _VIEW = 0, 1
"""Purposes of a random stream."""


class Views:
    """An endless, reproducible stream of training batches from stored crops.

    Args:
        data: the crops and their labels, in the AU order of the network.
        seed: of order and jitter.
        landmarks: ``(N, 68, 2)`` float32 crop pixels (without margin) to keep the landmark head
            true with; None leaves landmarks out.
        augment: False shows every crop as it is.
    """

    def __init__(
        self,
        data: CropSet,
        seed: int,
        landmarks: NDArray[np.float32] | None = None,
        *,
        augment: bool = True,
    ) -> None:
        self._crops = data.crops
        self._intensity = data.faces.intensity
        self._presence = data.faces.presence
        self._landmarks = landmarks
        self._seed = seed
        self._augment = augment
        self._side = data.crops.shape[1] - 2 * MARGIN
        self._order: tuple[int, NDArray[np.intp]] = (-1, np.empty(0, np.intp))

    def batch(self, first: int, size: int) -> TrainingBatch:
        """Return views ``first`` … ``first + size − 1`` of the run."""
        rows = [self._row(view) for view in range(first, first + size)]
        crops = np.empty((size, self._side, self._side), np.uint8)
        points = None
        if self._landmarks is not None:
            points = self._landmarks[rows]
        for i, row in enumerate(rows):
            rng = np.random.default_rng([self._seed, first + i, _VIEW])
            matrix, mirrored = self._jitter(rng)
            crops[i] = self._look(self._crops[row], matrix, rng)
            if points is not None:
                points[i] = transform(matrix, points[i] + np.float32(MARGIN))
                if mirrored:
                    points[i] = points[i][MIRROR]
        return TrainingBatch(crops, self._intensity[rows], points, presence=self._presence[rows])

    def _row(self, view: int) -> int:
        """Return the picture of a view: every picture once per epoch, in an order of its own."""
        epoch, place = divmod(view, len(self._crops))
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._seed, epoch, _ORDER])
            self._order = epoch, rng.permutation(len(self._crops))
        return int(self._order[1][place])

    def _jitter(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], bool]:
        """Return the ``(2, 3)`` map, stored crop → view, and whether it mirrors."""
        if not self._augment:
            return np.array([[1, 0, -MARGIN], [0, 1, -MARGIN]], np.float32), False
        scale, turn = math.exp(rng.normal(0, _SCALE)), rng.normal(0, _TURN)
        shift = rng.normal(0, _SHIFT, 2)
        a, b = scale * math.cos(turn), scale * math.sin(turn)
        middle = (self._side - 1) / 2
        linear = np.array([[a, -b], [b, a]])
        offset = middle + shift - linear @ np.full(2, middle + MARGIN)
        matrix = np.concatenate([linear, offset[:, None]], axis=1)
        mirrored = bool(rng.random() < 0.5)
        if mirrored:
            matrix[0] *= -1
            matrix[0, 2] += self._side - 1
        return matrix.astype(np.float32), mirrored

    def _look(
        self, crop: NDArray[np.uint8], matrix: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Cut the view; vary light, sharpness and noise as cameras do."""
        side = (self._side, self._side)
        view = cv2.warpAffine(
            crop, matrix, side, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        if not self._augment:
            return view.astype(np.uint8, copy=False)
        x = view.astype(np.float32)
        if rng.random() < 0.3:
            x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.0)).astype(np.float32)
        # Light from one side: a ramp of up to a fifth, and a gamma for the camera's own curve.
        angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.2)
        axis = np.linspace(-1, 1, self._side, dtype=np.float32)
        x *= 1 + np.float32(strength) * (
            np.float32(math.cos(angle)) * axis + np.float32(math.sin(angle)) * axis[:, None]
        )
        x = 255 * np.clip(x / 255, 0, 1) ** np.float32(math.exp(rng.normal(0, 0.2)))
        if rng.random() < 0.5:
            x += rng.normal(0, rng.uniform(0, 8), x.shape).astype(np.float32)
        return np.clip(np.rint(x), 0, 255).astype(np.uint8)
