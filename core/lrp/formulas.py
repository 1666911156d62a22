"""Formulas of LRP that both engines share; see :mod:`.presets` for where they stand."""

from __future__ import annotations

import torch

from .presets import Preset

__all__ = ["away_from_zero", "favoured", "stabilized", "start_weights"]


def away_from_zero(z: torch.Tensor, amount: float) -> torch.Tensor:
    """Return ``z + amount·s(z)`` with s the sign and s(0) = +1."""
    # Comparisons that give floats are vectorised on a CPU; masks of bool take eight times longer.
    negative = torch.lt(z, 0, out=torch.empty_like(z))
    return negative.mul_(-2 * amount).add_(amount).add_(z)


def stabilized(z: torch.Tensor, preset: Preset) -> torch.Tensor:
    """Return a denominator that is safe to divide by, as the preset defines it."""
    if preset.stabilize == "zeros":
        return torch.eq(z, 0, out=torch.empty_like(z)).mul_(preset.stabilizer).add_(z)
    return away_from_zero(z, preset.stabilizer)


def start_weights(outputs: torch.Tensor, count: int, preset: Preset) -> torch.Tensor:
    """Return the weight of every logit in what is explained.

    Args:
        outputs: ``(P,)`` int64 numbers of outputs.
        count: A, how many there are.
        preset: says whether the other logits count against it.

    Returns:
        ``(P, A)`` float32: relevance starts from logits times these.
    """
    # F.one_hot looks at the values, which would wait for a GPU.
    weights = (outputs[:, None] == torch.arange(count, device=outputs.device)).float()
    if preset.contrast and count > 1:
        weights = weights - (1 - weights) / (count - 1)
    return weights


def favoured(
    weight: torch.Tensor, bias: torch.Tensor | None, gamma: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return ``w + γw⁺`` and the same of the bias; for a negative γ ``w + |γ|w⁻``."""

    def scaled(w: torch.Tensor) -> torch.Tensor:
        return w + abs(gamma) * (w.clamp(min=0) if gamma > 0 else w.clamp(max=0))

    return scaled(weight), None if bias is None else scaled(bias.detach())
