"""Relevance on its way back, for many (frame, output) pairs at once.

Relevance of a value is kept as a product ``R = factor[frame] · c[pair]``. Whatever belongs to the
frame stays in the factor, so between two layers a pair costs one multiplication: with
``q = factor / denominator`` of the frame, ``c·q`` is what the transposed layer takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

__all__ = ["Flow", "Pairs"]


@dataclass(slots=True)
class Flow:
    """Relevance of one value.

    Attributes:
        c: ``(P, …)`` part of the pairs, in their order.
        factor: ``(B, …)`` part of the frames; None stands for 1.
        tile: ``c`` is constant over tiles of so many rows and columns, of which it holds one
            entry each; rows and columns beyond the last whole tile have no relevance.
        owned: whether ``c`` may be overwritten.
    """

    c: torch.Tensor
    factor: torch.Tensor | None
    tile: tuple[int, int] = (1, 1)
    owned: bool = False


class Pairs:
    """Which frame each pair belongs to.

    Args:
        counts: pairs of each frame, 0 at the earliest from the second on; pairs lie in the order of
            their frames.
        device: of the tensors.
    """

    def __init__(self, counts: Sequence[int], device: torch.device) -> None:
        self._counts, self._device = list(counts), device
        self._even = len(set(counts)) == 1
        self._frames: torch.Tensor | None = None

    @classmethod
    def of(cls, frames: torch.Tensor) -> Pairs:
        """Make pairs of frame numbers ``(P,)`` int64 in any order, whose values are not read now.

        What a recorded run needs: its values change between runs.
        """
        pairs = cls((), frames.device)
        pairs._frames = frames
        return pairs

    @property
    def frames(self) -> torch.Tensor:
        """``(P,)`` int64 frame of each pair."""
        if self._frames is None:  # not asked for where there is one frame
            counts = torch.tensor(self._counts)
            frames = torch.arange(len(counts)).repeat_interleave(counts)
            self._frames = frames.to(self._device, non_blocking=True)
        return self._frames

    def __len__(self) -> int:
        return sum(self._counts) if self._frames is None else len(self._frames)

    def spread(self, q: torch.Tensor) -> torch.Tensor:
        """Return what belongs to frames, ``(B, …)``, for each pair: ``(P, …)`` or ``(1, …)``."""
        return q if len(q) == 1 else q.index_select(0, self.frames)

    def scale(self, flow: Flow, q: torch.Tensor | None) -> torch.Tensor:
        """Return ``c · q`` at full size; ``c`` is overwritten where the flow owns it.

        Args:
            flow: gives ``c`` and its tile; its factor is not looked at.
            q: ``(B, …)``, None for 1.
        """
        if flow.tile == (1, 1):
            return flow.c if q is None else self._times(flow.c, q, inplace=flow.owned)
        if q is None:
            raise ValueError("a tiled flow needs to know the size of its value")
        height, width = (n * step for n, step in zip(flow.c.shape[2:], flow.tile, strict=True))
        if flow.c.shape[2:] == (1, 1) and q.shape[2:] == flow.tile:
            return self._times(flow.c, q)
        # nearest-exact, because nearest picks the wrong tile here and there by rounding.
        c = F.interpolate(flow.c, (height, width), mode="nearest-exact")
        if (height, width) == q.shape[2:]:
            return self._times(c, q, inplace=True)
        whole = q.new_zeros((len(self), *q.shape[1:]))
        whole[:, :, :height, :width] = self._times(c, q[:, :, :height, :width], inplace=True)
        return whole

    def _times(self, c: torch.Tensor, q: torch.Tensor, inplace: bool = False) -> torch.Tensor:
        """Multiply ``(P, …)`` by the ``(B, …)`` of the pair's frame."""
        if c.dtype != q.dtype:
            if self._device.type == "cpu":  # a product of two dtypes takes thrice as long there
                c, inplace = c.to(q.dtype), True
            else:
                inplace = False
        if len(q) == 1:
            return c.mul_(q) if inplace else c * q
        if self._even:
            groups = c.unflatten(0, (len(q), -1))
            if inplace:
                groups.mul_(q.unsqueeze(1))
                return c
            return (groups * q.unsqueeze(1)).flatten(0, 1)
        if not self._counts or self._device.type != "cpu":
            return c.mul_(q[self.frames]) if inplace else c * q[self.frames]
        # Gathering q would cost as much memory traffic as the product itself.
        parts = c.split(self._counts)
        if inplace:
            for part, own in zip(parts, q, strict=True):
                part.mul_(own)
            return c
        return torch.cat([part * own for part, own in zip(parts, q, strict=True)])

    def relevance(self, flow: Flow, like: torch.Tensor) -> torch.Tensor:
        """Return R itself, ``(P, …)``.

        Args:
            flow: the relevance of a value.
            like: the value, ``(B, …)``.
        """
        factor = flow.factor
        if factor is None and flow.tile != (1, 1):
            factor = torch.ones_like(like)
        return self.scale(flow, factor)

    def merge(self, one: Flow, other: Flow, like: torch.Tensor) -> Flow:
        """Add two flows that reach the same value.

        Args:
            one: first.
            other: second.
            like: the value, ``(B, …)``.
        """
        if one.factor is other.factor and one.tile == other.tile:
            # Sums keep the precision of values, whatever convolutions run in.
            one, other = self._exact(one, like), self._exact(other, like)
            if other.owned and not one.owned:
                one, other = other, one
            c = one.c.add_(other.c) if one.owned else one.c + other.c
            return Flow(c, one.factor, one.tile, owned=True)
        c = self.relevance(one, like) + self.relevance(other, like)
        return Flow(c, None, owned=True)

    @staticmethod
    def _exact(flow: Flow, like: torch.Tensor) -> Flow:
        """Return a flow whose ``c`` has the dtype of its value."""
        if flow.c.dtype == like.dtype:
            return flow
        return replace(flow, c=flow.c.to(like.dtype), owned=True)
