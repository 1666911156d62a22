"""When the maps of a face that are drawn are made anew, where other maps give its letters.

A page shows every frame, and nobody sees a contour change thirty times a second. So the maps to be
drawn are made for some frames only and kept, in the aligned crop, for those between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..config import ExplainConfig

__all__ = ["FacePictures"]

Descriptor = NDArray[np.float32] | None


class FacePictures:
    """The drawn maps of one face, and what it showed when they were made."""

    def __init__(self) -> None:
        self._maps: dict[int, NDArray[np.float32]] = {}
        self._descriptors: dict[int, Descriptor] = {}
        self._frames = 0

    def forget(self) -> None:
        """Forget all maps: the face is another's, or was away."""
        self.__init__()

    def due(self, descriptors: Mapping[int, Descriptor], config: ExplainConfig) -> bool:
        """Tell whether the maps of a frame are to be made; if so, they count as made.

        Args:
            descriptors: AU number → descriptor of the map that gives its letter, of every active
                AU; None for a map without positive relevance.
            config: how often, and after how large a change.
        """
        self._frames += 1
        if not descriptors:
            return False
        fresh = self._frames < config.picture_every and all(
            au in self._descriptors and _alike(self._descriptors[au], x, config.picture_cosine)
            for au, x in descriptors.items()
        )
        if not fresh:
            self._descriptors, self._frames = dict(descriptors), 0
        return not fresh

    def keep(self, maps: Mapping[int, NDArray[np.float32]]) -> None:
        """Keep the maps of a frame that were due; what was active before is forgotten."""
        self._maps = dict(maps)

    def of(self, aus: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return the kept map of each of these AUs."""
        return {au: self._maps[au] for au in aus}


def _alike(before: Descriptor, now: Descriptor, least: float) -> bool:
    if before is None or now is None:
        return before is now
    return float(before @ now) >= least
