"""Relevance of many (frame, output) pairs at once.

Relevance is kept as a product ``R = frame_factor[frame] · pair_factor[pair]``. zennit has the same
two factors, an input and its modified gradient. Whatever is the same for all pairs of a frame stays
in the frame factor. So between two layers a pair costs one multiplication: with
``q = frame_factor / denominator``, the transposed layer takes ``pair_factor · q``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

__all__ = ["BatchIndex", "Relevance"]


@dataclass(slots=True)
class Relevance:
    """Relevance of one value of a program, as a product.

    Attributes:
        pair_factor: ``(P, …)`` one entry per pair, in the order of the pairs.
        frame_factor: ``(B, …)`` one entry per frame; None stands for 1.
        tile: ``pair_factor`` is constant over tiles of so many rows and columns, and holds one
            entry for each tile; rows and columns beyond the last whole tile have no relevance.
        owned: whether ``pair_factor`` may be overwritten.
    """

    pair_factor: torch.Tensor
    frame_factor: torch.Tensor | None
    tile: tuple[int, int] = (1, 1)
    owned: bool = False


class BatchIndex:
    """The frame of each pair.

    Args:
        counts: number of pairs of each frame; only the first frame must have one. Pairs are in the
            order of their frames.
        device: of the tensors.
    """

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        self._counts, self._device = list(counts), device
        self._even = len(set(counts)) == 1
        self._frames: torch.Tensor | None = None

    @classmethod
    def from_frames(cls, frames: torch.Tensor) -> BatchIndex:
        """Make an index of frame numbers ``(P,)`` int64 in any order; their values are not read.

        A recorded batch needs this, because the values change between its runs.
        """
        index = cls((), frames.device)
        index._frames = frames
        return index

    @property
    def frames(self) -> torch.Tensor:
        """``(P,)`` int64 frame of each pair."""
        if self._frames is None:  # not asked for in a batch of one frame
            counts = torch.tensor(self._counts)
            frames = torch.arange(len(counts)).repeat_interleave(counts)
            self._frames = frames.to(self._device, non_blocking=True)
        return self._frames

    def __len__(self) -> int:
        return sum(self._counts) if self._frames is None else len(self._frames)

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Return the ``(B, …)`` values of each pair's frame: ``(P, …)``, or ``(1, …)`` if B = 1."""
        return values if len(values) == 1 else values.index_select(0, self.frames)

    def multiply(self, relevance: Relevance, q: torch.Tensor | None) -> torch.Tensor:
        """Return ``pair_factor · q`` at full size; an owned ``pair_factor`` is overwritten.

        Args:
            relevance: gives the pair factor and its tile; its frame factor is not looked at.
            q: ``(B, …)``, None for 1.
        """
        pair_factor, tile = relevance.pair_factor, relevance.tile
        if tile == (1, 1):
            if q is None:
                return pair_factor
            return self._multiply(pair_factor, q, inplace=relevance.owned)
        if q is None:
            raise ValueError("tiled relevance needs to know the size of its value")
        height, width = (n * step for n, step in zip(pair_factor.shape[2:], tile, strict=True))
        if pair_factor.shape[2:] == (1, 1) and q.shape[2:] == tile:
            return self._multiply(pair_factor, q)
        # nearest-exact, because rounding makes nearest pick the wrong tile for some entries.
        pair_factor = F.interpolate(pair_factor, (height, width), mode="nearest-exact")
        if (height, width) == q.shape[2:]:
            return self._multiply(pair_factor, q, inplace=True)
        product = q.new_zeros((len(self), *q.shape[1:]))
        whole_tiles = q[:, :, :height, :width]
        product[:, :, :height, :width] = self._multiply(pair_factor, whole_tiles, inplace=True)
        return product

    def _multiply(
        self, pair_factor: torch.Tensor, q: torch.Tensor, inplace: bool = False
    ) -> torch.Tensor:
        """Multiply ``(P, …)`` by the ``(B, …)`` of the pair's frame."""
        if pair_factor.dtype != q.dtype:
            if self._device.type == "cpu":  # a product of two dtypes takes three times as long
                pair_factor, inplace = pair_factor.to(q.dtype), True
            else:
                inplace = False
        if len(q) == 1:
            return pair_factor.mul_(q) if inplace else pair_factor * q
        if self._even:
            groups = pair_factor.unflatten(0, (len(q), -1))
            if inplace:
                groups.mul_(q.unsqueeze(1))
                return pair_factor
            return (groups * q.unsqueeze(1)).flatten(0, 1)
        if not self._counts or self._device.type != "cpu":
            return pair_factor.mul_(q[self.frames]) if inplace else pair_factor * q[self.frames]
        # Gathering q would cost as much memory traffic as the product itself.
        groups = pair_factor.split(self._counts)
        if inplace:
            for group, frame_q in zip(groups, q, strict=True):
                group.mul_(frame_q)
            return pair_factor
        return torch.cat([group * frame_q for group, frame_q in zip(groups, q, strict=True)])

    def full(self, relevance: Relevance, like: torch.Tensor) -> torch.Tensor:
        """Return relevance multiplied out, ``(P, …)``.

        Args:
            relevance: the relevance of a value.
            like: the value, ``(B, …)``.
        """
        factor = relevance.frame_factor
        if factor is None and relevance.tile != (1, 1):
            factor = torch.ones_like(like)
        return self.multiply(relevance, factor)

    def add(self, left: Relevance, right: Relevance, like: torch.Tensor) -> Relevance:
        """Add the relevance that one value receives from two operations.

        Args:
            left: from the first.
            right: from the second.
            like: the value, ``(B, …)``.
        """
        if left.frame_factor is right.frame_factor and left.tile == right.tile:
            # Sums are taken in the dtype of values, even where convolutions run in another.
            left, right = self._in_dtype_of(like, left), self._in_dtype_of(like, right)
            if right.owned and not left.owned:
                left, right = right, left
            if left.owned:
                total = left.pair_factor.add_(right.pair_factor)
            else:
                total = left.pair_factor + right.pair_factor
            return Relevance(total, left.frame_factor, left.tile, owned=True)
        return Relevance(self.full(left, like) + self.full(right, like), None, owned=True)

    @staticmethod
    def _in_dtype_of(like: torch.Tensor, relevance: Relevance) -> Relevance:
        """Return relevance whose ``pair_factor`` has the dtype of its value."""
        if relevance.pair_factor.dtype == like.dtype:
            return relevance
        return replace(relevance, pair_factor=relevance.pair_factor.to(like.dtype), owned=True)
