"""Do maps tell AUs apart, and stages? Cosines between maps of one frame and of one AU.

Cosines are those of the positive descriptors that clustering sees (:mod:`..relevance`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError
from ..relevance import describe

__all__ = ["AUAgreement", "StageAgreement", "between_aus", "between_stages"]


@dataclass(frozen=True, slots=True, eq=False)
class AUAgreement:
    """How alike the maps of different AUs of the same frame are.

    Attributes:
        aus: A AU numbers, ascending.
        cosine: ``(A, A)`` float64 mean over the frames in which both have a map; NaN where there is
            none, and on the diagonal.
        frames: ``(A, A)`` int64, how many frames each mean rests on.
        own: ``(A,)`` float64 mean cosine between maps of the same AU in *different* frames, the
            scale to read ``cosine`` by; NaN with fewer than two maps.
    """

    aus: tuple[int, ...]
    cosine: NDArray[np.float64]
    frames: NDArray[np.int64]
    own: NDArray[np.float64]

    def others(self, au: int) -> float:
        """Return the mean cosine of an AU's map with those of the others of its frame, or NaN."""
        row = self.aus.index(au)
        counts = self.frames[row]
        if not counts.sum():
            return float("nan")
        return float(np.nansum(self.cosine[row] * counts) / counts.sum())

    def nearest(self, au: int, least: int = 1) -> tuple[int, float] | None:
        """Return the AU whose maps are most like those of ``au``, and their mean cosine.

        Args:
            au: the AU.
            least: frames that the two must have had in common.
        """
        row = self.aus.index(au)
        values = np.where(self.frames[row] >= max(1, least), self.cosine[row], -np.inf)
        best = int(np.argmax(values))
        return None if np.isinf(values[best]) else (self.aus[best], float(values[best]))


@dataclass(frozen=True, slots=True)
class StageAgreement:
    """How alike the maps of one AU are within a stage and between stages.

    Attributes:
        within: mean cosine between maps of frames with the same label; NaN without such a pair.
        across: mean cosine between maps of frames with different labels; NaN without such a pair.
        within_pairs, across_pairs: pairs of frames each mean rests on.
    """

    within: float
    across: float
    within_pairs: int
    across_pairs: int


def between_aus(maps: ArrayLike, frames: Sequence[int], aus: Sequence[int]) -> AUAgreement:
    """Compare the maps of the AUs of each frame with each other.

    Args:
        maps: ``(P, H, W)`` relevance.
        frames: P numbers: the frame of each map.
        aus: P AU numbers; a frame has at most one map of an AU.

    Returns:
        Mean cosines. Maps without positive relevance take no part.

    Raises:
        ConfigError: lengths differ, or a frame has two maps of one AU.
    """
    stack = np.asarray(maps)
    if not len(stack) == len(frames) == len(aus):
        raise ConfigError(
            f"{len(stack)} maps, {len(frames)} frames and {len(aus)} AUs: give one of each per map"
        )
    if len(set(zip(frames, aus, strict=True))) < len(frames):
        raise ConfigError("a frame has two maps of one AU; give each pair once")
    names = tuple(sorted(set(aus)))
    count = len(names)
    total = np.zeros((count, count))
    shared = np.zeros((count, count), np.int64)
    own = np.full(count, np.nan)
    if len(stack):
        rows, valid = (part.numpy() for part in describe(stack))
        column = np.array([names.index(au) for au in aus])
        frame_of = np.asarray(frames)
        for frame in np.unique(frame_of[valid]):
            here = np.flatnonzero(valid & (frame_of == frame))
            block = np.ix_(column[here], column[here])
            total[block] += rows[here].astype(np.float64) @ rows[here].T
            shared[block] += 1
        for k in range(count):
            of_au = rows[valid & (column == k)].astype(np.float64)
            if len(of_au) > 1:
                gram = of_au @ of_au.T
                own[k] = (gram.sum() - np.trace(gram)) / (len(of_au) * (len(of_au) - 1))
    np.fill_diagonal(shared, 0)
    cosine = total / np.where(shared > 0, shared, np.nan)
    return AUAgreement(names, cosine, shared, own)


def between_stages(maps: ArrayLike, labels: Sequence[Hashable]) -> StageAgreement:
    """Compare the maps of one AU within stages and between them.

    Where the labels were themselves found by clustering these maps, ``within`` must be the larger
    one; the difference then says how far apart the clusters are, not that they are right.

    Args:
        maps: ``(N, H, W)`` relevance of one AU.
        labels: N labels of the frames, such as a stage's.

    Returns:
        Mean cosines. Maps without positive relevance take no part.

    Raises:
        ConfigError: lengths differ.
    """
    stack = np.asarray(maps)
    if len(stack) != len(labels):
        raise ConfigError(f"{len(stack)} maps and {len(labels)} labels: give one label per map")
    if not len(stack):
        return StageAgreement(float("nan"), float("nan"), 0, 0)
    rows, valid = (part.numpy() for part in describe(stack))
    descriptors = rows[valid].astype(np.float64)
    numbers: dict[Hashable, int] = {}
    number = np.array([numbers.setdefault(label, len(numbers)) for label in labels], int)[valid]
    first, second = np.triu_indices(len(descriptors), 1)
    cosine = (descriptors @ descriptors.T)[first, second]
    same = number[first] == number[second]
    return StageAgreement(
        within=float(cosine[same].mean()) if same.any() else float("nan"),
        across=float(cosine[~same].mean()) if not same.all() else float("nan"),
        within_pairs=int(same.sum()),
        across_pairs=int((~same).sum()),
    )
