"""What a rule of the fused engine is: one operation of a program, forward and back.

``forward`` runs once per frame and keeps what the rule needs of the frame: the denominator, mostly.
``pull`` turns the relevance of the operation's output into that of its sources, for all pairs at
once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..presets import Preset
from .program import Operation, forward
from .relevance_flow import Flow, Pairs

__all__ = ["Ran", "Step", "quotient"]


@dataclass(frozen=True, slots=True)
class Ran:
    """A step that ran forward, seen from the way back.

    Attributes:
        pairs: which frame each pair belongs to.
        given: the sources, ``(B, …)`` each.
        made: the value made, ``(B, …)``.
        kept: what :meth:`Step.forward` kept besides.
    """

    pairs: Pairs
    given: Sequence[torch.Tensor]
    made: torch.Tensor
    kept: Any


class Step(ABC):
    """One operation of a program under a preset."""

    def __init__(self, operation: Operation, preset: Preset) -> None:
        self.operation = operation
        self.preset = preset

    def forward(self, given: Sequence[torch.Tensor]) -> tuple[torch.Tensor, Any]:
        """Return the value the operation makes, and what :meth:`pull` needs besides.

        Args:
            given: the sources, ``(B, …)`` each.
        """
        return forward(self.operation, given), None

    @abstractmethod
    def pull(self, flow: Flow, ran: Ran) -> list[Flow]:
        """Return the relevance of each source.

        Args:
            flow: relevance of the value made.
            ran: what the operation read and made.
        """


def quotient(factor: torch.Tensor | None, denominator: torch.Tensor) -> torch.Tensor:
    """Return ``factor / denominator``; a factor of None stands for 1."""
    return denominator.reciprocal() if factor is None else factor / denominator
