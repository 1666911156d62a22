"""Where each face of a sequence was, and what the network looked at, in a few hundred bytes a map.

A video with relevance over the face can only be drawn once the whole sequence is known: prototypes
and stages need it. Maps of that many frames would not fit in memory; their masks do.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import relevance
from ..observer import Observation

__all__ = ["FaceMasks", "MaskTrack"]


@dataclass(frozen=True, slots=True, eq=False)
class FaceMasks:
    """What lies over the face of one frame.

    Attributes:
        matrix: ``(2, 3)`` float32 similarity, frame pixels → crop pixels.
        crop_side: side of that crop, pixels.
        masks: AU number → ``(M, M)`` uint8 Top-X projection over the whole crop, 0 outside it.
    """

    matrix: NDArray[np.float32]
    crop_side: int
    masks: dict[int, NDArray[np.uint8]]


class MaskTrack:
    """Remember the masks of a sequence, compressed.

    Most cells of a mask are 0: one takes 100 to 200 bytes, and a frame with four of them about a
    kilobyte in all, so an hour of 30 frames per second takes some 120 MB.

    Args:
        side: M, cells per side of a mask.
        x: share of the positive relevance to keep, 0–1.
    """

    def __init__(self, side: int, x: float = 0.25) -> None:
        self.side = side
        self.x = x
        self._faces: dict[int, tuple[NDArray[np.float32], int, dict[int, bytes]]] = {}

    def add(self, observations: Iterable[Observation]) -> None:
        """Remember what some frames show; the masks of all their maps are made at once.

        Raises:
            ConfigError: the share or the number of cells is impossible.
        """
        analysed = [
            (observation, matrix, crop)
            for observation in observations
            if (matrix := observation.face.matrix) is not None
            and (crop := observation.face.crop) is not None
        ]
        maps = [
            relevance_map
            for observation, _, _ in analysed
            for _, relevance_map in sorted((observation.pictures or observation.maps).items())
        ]
        masks = iter(relevance.masks(np.stack(maps), self.side, self.x).numpy() if maps else ())
        for observation, matrix, crop in analysed:
            packed = {
                au: zlib.compress(next(masks).tobytes(), 1) for au in sorted(observation.maps)
            }
            self._faces[observation.frame.index] = matrix, crop.shape[0], packed

    def of(self, frame: int) -> FaceMasks | None:
        """Return what lies over the face of a frame; None where no face was analysed."""
        if frame not in self._faces:
            return None
        matrix, crop_side, packed = self._faces[frame]
        masks = {
            au: np.frombuffer(zlib.decompress(data), np.uint8).reshape(self.side, self.side)
            for au, data in packed.items()
        }
        return FaceMasks(matrix, crop_side, masks)

    @property
    def nbytes(self) -> int:
        """Size of all compressed masks, bytes."""
        return sum(len(data) for _, _, packed in self._faces.values() for data in packed.values())
