"""Is there a face at these points? What the landmark network says when its crop is moved.

On a face the network finds the same points again wherever the crop lies; on anything else it
answers with its mean shape. So landmarks prove a face, and tell which way is up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config import FaceConfig
from ..errors import ConfigError
from .alignment import compose, invert, similarity, transform, warp
from .boxes import Box
from .quality import NOT_A_FACE, implausible

__all__ = ["BOX_WIDTH", "Landmarks", "Prediction", "Probe", "Settled"]

BOX_WIDTH = 2.75
"""Width of a frontal face box (chin to brow, Haar's), eye distances."""
_BOX_DEPTH = 0.6
"""Height of the five points' mean in that box, box widths below its top, of an upright face."""

Landmarks = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""``(B, S, S)`` uint8 aligned crops → ``(B, 5, 2)`` float32 points in crop pixels."""


class Settled(NamedTuple):
    """A face that proved to be one.

    Attributes:
        points: ``(5, 2)`` float32 frame pixels.
        matrix: ``(2, 3)`` frame → crop.
        crop: ``(S, S)`` uint8 grey.
        proven: it is clear that it does not stand on its head.
    """

    points: NDArray[np.float32]
    matrix: NDArray[np.float32]
    crop: NDArray[np.uint8]
    proven: bool


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Where the texture of a frame says that the face is.

    Attributes:
        image: the frame.
        grey: the same in grey.
        points: ``(5, 2)`` predicted points.
        matrix, crop: the alignment of these, and the face cut out with it.
        broken: whether the texture does not continue that of the frame before.
    """

    image: NDArray[np.uint8]
    grey: NDArray[np.uint8]
    points: NDArray[np.float32]
    matrix: NDArray[np.float32]
    crop: NDArray[np.uint8]
    broken: bool


class Probe:
    """Look at places of a picture with the landmark network.

    Picklable at any time, without the landmark callable: give it back with :attr:`landmarks`.

    Args:
        landmarks: landmark network on aligned crops; None without one.
        template: ``(5, 2)`` where the points belong in the crop, crop pixels.
        template_weights: ``(5,)`` weights of the points in the fit.
        size: side of the crop, pixels.
        config: thresholds.

    Raises:
        ConfigError: shapes that do not fit.
    """

    def __init__(
        self,
        landmarks: Landmarks | None,
        template: NDArray[np.float32],
        template_weights: NDArray[np.float32],
        size: int,
        config: FaceConfig,
    ) -> None:
        self.landmarks = landmarks
        self.template = np.asarray(template, np.float32)
        self.template_weights = np.asarray(template_weights, np.float32)
        self.size = size
        self.config = config
        if self.template.shape != (5, 2) or self.template_weights.shape != (5,):
            raise ConfigError(
                f"the alignment template has shapes {self.template.shape} and "
                f"{self.template_weights.shape}; the model card must give (5, 2) and (5,)"
            )
        self._eyes_in_crop = float(np.linalg.norm(self.template[1] - self.template[0]))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "landmarks": None}

    def fit(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the alignment ``(2, 3)``, frame → crop, of points ``(5, 2)`` in the frame."""
        return similarity(points, self.template, self.template_weights)

    def box(self, points: NDArray[np.float32]) -> Box:
        """Return the face box that belongs to points: the template's, a square at any roll."""
        m = invert(self.fit(points))
        in_crop = BOX_WIDTH * self._eyes_in_crop
        side = in_crop * float(np.hypot(m[0, 0], m[1, 0]))
        middle = self.template.mean(0) - (0, (_BOX_DEPTH - 0.5) * in_crop)
        x, y = transform(m, middle)
        return float(x - side / 2), float(y - side / 2), side, side

    def plausible(self, points: NDArray[np.float32]) -> bool:
        """Tell whether points can be those of a face, in some pose."""
        return implausible(points, self.template, self.config) != NOT_A_FACE

    def measure(self, crop: NDArray[np.uint8], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the points ``(5, 2)`` of a crop in the frame, given its alignment."""
        return transform(invert(matrix), self._find(crop[None])[0])

    def measured(
        self, prediction: Prediction, landmarks: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the landmarks ``(5, 2)`` of a predicted crop in the frame; search if not given."""
        if landmarks is None:
            return self.measure(prediction.crop, prediction.matrix)
        return transform(invert(prediction.matrix), landmarks)

    def settle(
        self, points: NDArray[np.float32], grey: NDArray[np.uint8], needed: float | None = None
    ) -> Settled | None:
        """Refine first points with the landmark network; None where they do not hold.

        Args:
            points: ``(5, 2)`` roughly, frame pixels.
            grey: the frame.
            needed: least response of the landmarks; ``evidence`` of the configuration if None.
        """
        for _ in range(self.config.passes):
            matrix = self.fit(points)
            points = self.measure(warp(grey, matrix, self.size), matrix)
            if not self.plausible(points):
                return None
        evidence = self.evidence(points, grey)
        if evidence < (self.config.evidence if needed is None else needed):
            return None
        matrix = self.fit(points)
        lead = evidence - self.evidence_upside_down(matrix, grey)
        if lead < self.config.upright:
            return None
        crop = warp(grey, matrix, self.size)
        return Settled(points, matrix, crop, proven=lead >= 2 * self.config.upright)

    def evidence(self, points: NDArray[np.float32], grey: NDArray[np.uint8]) -> float:
        """Measure how well the landmarks follow the face when the crop is displaced.

        On a face the points found in a shifted, turned and scaled crop map back to the same place;
        on anything else the network answers with its mean shape wherever the crop is. Returns
        1 − ‖error‖ / ‖error of the mean shape‖, averaged over two opposite displacements:
        near 0 without a face, 0.4–0.7 with one.
        """
        matrix = self.fit(points)
        centre = (self.size - 1) / 2
        crops, moves = [], []
        for sign in (1, -1):
            scale, turn = 1.15**sign, 0.15 * sign
            a, b = scale * np.cos(turn), scale * np.sin(turn)
            shift = np.array([0.073, -0.052]) * sign * self.size
            offset = centre - np.array([[a, -b], [b, a]]) @ (centre, centre) + shift
            moves.append(np.array([[a, -b, offset[0]], [b, a, offset[1]]], np.float32))
            crops.append(warp(grey, compose(moves[-1], matrix), self.size))
        answers = self._find(np.stack(crops))
        inside = transform(matrix, points)
        error = mean_shape_error = 0.0
        for move, answer in zip(moves, answers, strict=True):
            back = invert(move)
            error += float(np.linalg.norm(transform(back, answer) - inside, axis=1).mean())
            apart = np.linalg.norm(transform(back, inside) - inside, axis=1)
            mean_shape_error += float(apart.mean())
        return 1 - error / mean_shape_error

    def evidence_upside_down(self, matrix: NDArray[np.float32], grey: NDArray[np.uint8]) -> float:
        """Measure the evidence for a face that stands on its head; 0 for no face.

        What a box detector finds of such a face lies over its mouth and chin or over a part of it,
        so the search begins at two places.
        """
        best, centre = 0.0, (self.size - 1) / 2
        for scale, below in ((1.0, 0.3), (0.6, 0.0)):
            offset = centre * (1 + scale)
            half_turn = np.array(
                [[-scale, 0, offset], [0, -scale, offset + below * self.size]], np.float32
            )
            points = transform(invert(compose(half_turn, matrix)), self.template)
            for _ in range(self.config.passes):
                turned = self.fit(points)
                points = self.measure(warp(grey, turned, self.size), turned)
            if self.plausible(points):
                best = max(best, self.evidence(points, grey))
        return best

    def _find(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.landmarks is None:
            raise ConfigError(
                "the face tracker follows a face by its landmarks and has no landmark network: "
                "call attach() with one"
            )
        return self.landmarks(crops)
