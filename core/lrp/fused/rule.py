"""The base of the fused engine's rules: one operation of a program, forward and backward.

The interface is that of ``torch.autograd.Function``, with relevance in place of gradients.
``forward`` runs once per frame and saves what the rule needs of the frame, mostly the denominator.
``backward`` turns the relevance of the operation's output into that of its inputs, for all
(frame, output) pairs at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..presets import Preset
from .batched_relevance import BatchIndex, Relevance
from .program import Operation, forward

__all__ = ["Context", "Rule", "quotient"]


@dataclass(frozen=True, slots=True)
class Context:
    """What :meth:`Rule.backward` knows of the forward pass.

    Attributes:
        index: the frame of each pair.
        inputs: inputs of the operation, ``(B, …)`` each.
        output: its output, ``(B, …)``.
        saved: what :meth:`Rule.forward` saved besides.
    """

    index: BatchIndex
    inputs: Sequence[torch.Tensor]
    output: torch.Tensor
    saved: Any


class Rule(ABC):
    """The LRP rule of one operation of a program under a preset.

    Args:
        operation: the operation.
        preset: constants of the rule.
    """

    def __init__(self, operation: Operation, preset: Preset) -> None:
        self.operation = operation
        self.preset = preset

    def forward(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, Any]:
        """Return the output of the operation, and what :meth:`backward` needs besides.

        Args:
            inputs: ``(B, …)`` each.
        """
        return forward(self.operation, inputs), None

    @abstractmethod
    def backward(self, ctx: Context, relevance: Relevance) -> list[Relevance]:
        """Return the relevance of each input.

        Args:
            ctx: what is known of the forward pass.
            relevance: relevance of the output.
        """


def quotient(factor: torch.Tensor | None, denominator: torch.Tensor) -> torch.Tensor:
    """Return ``factor / denominator``; a factor of None stands for 1."""
    return denominator.reciprocal() if factor is None else factor / denominator
