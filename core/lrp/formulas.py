"""Formulas of LRP that both engines share; :mod:`.presets` says where each one applies.

Names follow zennit: :func:`stabilize` is its function of that name, :func:`gamma_modified` its
``GammaMod``.
"""

from __future__ import annotations

import torch

from .presets import Preset

__all__ = ["gamma_modified", "logit_weights", "stabilize", "stabilize_denominator"]


def stabilize(z: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return ``z + ε·s(z)`` with s the sign and s(0) = +1."""
    # Comparisons that give floats are vectorised on a CPU; masks of bool take eight times longer.
    negative = torch.lt(z, 0, out=torch.empty_like(z))
    return negative.mul_(-2 * epsilon).add_(epsilon).add_(z)


def stabilize_denominator(z: torch.Tensor, preset: Preset) -> torch.Tensor:
    """Return a denominator that is safe to divide by, as the preset defines it."""
    if preset.stabilize == "zeros":
        return torch.eq(z, 0, out=torch.empty_like(z)).mul_(preset.stabilizer).add_(z)
    return stabilize(z, preset.stabilizer)


def logit_weights(outputs: torch.Tensor, count: int, preset: Preset) -> torch.Tensor:
    """Return the weight of every logit in the relevance that a backward pass starts from.

    Args:
        outputs: ``(P,)`` int64 output numbers.
        count: A, the number of logits.
        preset: says whether the other logits count against the output.

    Returns:
        ``(P, A)`` float32: relevance starts from the logits times these weights.
    """
    # F.one_hot looks at the values, which would wait for a GPU.
    weights = (outputs[:, None] == torch.arange(count, device=outputs.device)).float()
    if preset.contrast and count > 1:
        weights = weights - (1 - weights) / (count - 1)
    return weights


def gamma_modified(
    weight: torch.Tensor, bias: torch.Tensor | None, gamma: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return ``w + γw⁺`` and the same of the bias; for a negative γ return ``w + |γ|w⁻``."""

    def modified(parameter: torch.Tensor) -> torch.Tensor:
        part = parameter.clamp(min=0) if gamma > 0 else parameter.clamp(max=0)
        return parameter + abs(gamma) * part

    return modified(weight), None if bias is None else modified(bias.detach())
