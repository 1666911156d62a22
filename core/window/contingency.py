"""Blocks of a contingency table: what each part of a window's graph and each prototype share.

A window has a handful of blocks, and all that is asked of clusters and prototypes (sums, sizes,
cosines) adds up from theirs: arrays are touched a few times, the rest is arithmetic with a few
numbers in plain Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_PROTOTYPE", "Blocks", "contingency_blocks", "large_clusters"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NO_PROTOTYPE = -1
"""Prototype id of what belongs to no prototype (yet)."""


class Blocks(NamedTuple):
    """The non-empty blocks of a window: maps of one part that carry one prototype.

    Attributes:
        of_map: ``(m,)`` block of each map by position.
        part: ``(p,)`` part of each block.
        label: ``(p,)`` prototype that its maps carry, or :data:`NO_PROTOTYPE`.
        size: ``(p,)`` how many they are.
        sums: ``(p, D)`` float32 sum of its maps.
        products: ``(p + L, p + L)`` inner products of these sums and, after them, of the sums
            behind the L prototypes (zero for a prototype without maps).
    """

    of_map: IntArray
    part: list[int]
    label: list[int]
    size: list[int]
    sums: NDArray[np.float32]
    products: list[list[float]]

    def relabelled(self, label: list[int], totals: FloatArray) -> Blocks:
        """Return these blocks once their maps carry other prototypes, of sums ``(L, D)``."""
        return self._replace(label=label, products=_products(self.sums, totals))

    def overlap_sums(self, members: list[int], prototypes: list[int]) -> FloatArray:
        """Add up the maps that some blocks have of each prototype ``(l, D)``."""
        sums = np.zeros((len(prototypes), self.sums.shape[1]))
        for block in members:
            if self.label[block] != NO_PROTOTYPE:
                sums[prototypes.index(self.label[block])] += self.sums[block]
        return sums


def contingency_blocks(
    parts: IntArray, labels: IntArray, x: NDArray[np.float32], totals: FloatArray
) -> Blocks:
    """Cut parts by the prototypes that their maps carry.

    Args:
        parts: ``(m,)`` non-negative part of each map.
        labels: ``(m,)`` prototype of each, below L, or :data:`NO_PROTOTYPE`.
        x: ``(m, D)`` descriptors.
        totals: ``(L, D)`` sums of the maps behind each prototype.
    """
    columns = len(totals) + 1
    cells = parts * columns
    cells += labels
    cells += 1
    counts = np.bincount(cells).tolist()
    filled = [cell for cell, count in enumerate(counts) if count]
    member = cells == np.array(filled)[:, None]
    sums = member.astype(np.float32) @ x
    return Blocks(
        member.argmax(axis=0),
        [cell // columns for cell in filled],
        [cell % columns - 1 for cell in filled],
        [counts[cell] for cell in filled],
        sums,
        _products(sums, totals),
    )


def _products(sums: NDArray[np.float32], totals: FloatArray) -> list[list[float]]:
    both = np.concatenate((sums, totals))
    return (both @ both.T).tolist()


def large_clusters(blocks: Blocks, clusters: Sequence[int], least: int) -> dict[int, list[int]]:
    """Return clusters of at least so many maps, in order, each with its blocks.

    Args:
        blocks: of the window.
        clusters: ``(p,)`` cluster of each block.
        least: maps.
    """
    blocks_of: dict[int, list[int]] = {}
    for block, cluster in enumerate(clusters):
        blocks_of.setdefault(cluster, []).append(block)
    return {
        cluster: members
        for cluster, members in sorted(blocks_of.items())
        if sum([blocks.size[block] for block in members]) >= least
    }
