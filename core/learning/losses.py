"""Losses of the AU network, masked by missing labels per batch.

Data sets label different AUs. Here NaN is "not labelled": each AU's loss is the mean over the
samples of the batch that carry a label of it, and an AU that no sample of the batch labels gives
zero loss and exactly zero gradient. The mean over the AUs divides by all of them, so the weight of
one AU does not depend on which others the batch happens to label.

Masked outputs are replaced before anything is computed from them, not multiplied by zero after: a
NaN target (or an overflowing output that nothing judges) can never reach a gradient.

References:
    Pahl, Rieger & Seuss, *Multi-label Learning with Missing Values using Combined Facial Action
    Unit Datasets*, 2020.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

__all__ = ["intensity_loss", "landmark_loss", "presence_loss", "presence_target"]

_FULL_PRESENCE = 2.0
"""FACS intensity from which an AU is fully present: B, where DISFA's convention begins."""
_MAX_INTENSITY = 5.0
_BETA = 0.1
"""Error at which smooth L1 turns from quadratic to linear, units of the compared outputs."""


def presence_target(intensity: torch.Tensor) -> torch.Tensor:
    """Turn intensities into soft presence, ``clip(intensity / 2, 0, 1)``.

    Args:
        intensity: any shape, float, FACS 0–5; NaN where not labelled.

    Returns:
        The same shape, 0–1: 0 at 0, ½ at A, 1 from B on; NaN stays NaN.
    """
    return (intensity / _FULL_PRESENCE).clamp(0.0, 1.0)


def presence_loss(
    logits: torch.Tensor, target: torch.Tensor, pos_weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the masked binary cross-entropy of presence.

    Args:
        logits: ``(B, A)`` float presence logits.
        target: ``(B, A)`` float presence 0–1, may be soft; NaN where not labelled.
        pos_weight: ``()`` or ``(A,)`` float factor on the part of the loss that asks for presence;
            above 1 for AUs that are rare.

    Returns:
        Scalar, nats, mean over the A AUs of the mean over their labelled samples.
    """
    labelled = torch.isfinite(target)
    loss = F.binary_cross_entropy_with_logits(
        logits.where(labelled, 0.0),
        target.where(labelled, 0.0),
        pos_weight=pos_weight,
        reduction="none",
    )
    return _mean_per_au(loss, labelled)


def intensity_loss(output: torch.Tensor, intensity: torch.Tensor) -> torch.Tensor:
    """Compute the masked smooth L1 of intensity, heavier where the AU is strong.

    With ``y = intensity / 5`` the loss of one label is ``smooth_l1(output − y) · (1 + 3y)``: most
    labels of any data set are zeros, which would otherwise drown the strong ones.

    Args:
        output: ``(B, A)`` float, units of intensity / 5.
        intensity: ``(B, A)`` float, FACS 0–5; NaN where not labelled.

    Returns:
        Scalar, mean over the A AUs of the mean over their labelled samples.
    """
    labelled = torch.isfinite(intensity)
    wanted = intensity.where(labelled, 0.0) / _MAX_INTENSITY
    loss = F.smooth_l1_loss(output.where(labelled, 0.0), wanted, beta=_BETA, reduction="none")
    return _mean_per_au(loss * (1 + 3 * wanted), labelled)


def landmark_loss(
    raw: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the smooth L1 of landmarks.

    Args:
        raw: ``(B, 2·L)`` float outputs of the landmark head, x0, y0, x1, …
        target: ``(B, L, 2)`` float, what these outputs should be; NaN where a point is unknown.
        weight: ``(B, L)`` non-negative float per point, such as its visibility (NaN: unknown
            point); None weighs all alike.

    Returns:
        Scalar, weighted mean over the known points; zero (with zero gradient) without any.
    """
    known = torch.isfinite(target).all(-1)
    if weight is not None:
        known = known & torch.isfinite(weight)
    each = known.unsqueeze(-1)
    output = raw.reshape(target.shape).where(each, 0.0)
    loss = F.smooth_l1_loss(output, target.where(each, 0.0), beta=_BETA, reduction="none").mean(-1)
    share = known.to(loss.dtype) if weight is None else weight.where(known, 0.0)
    total = share.sum()
    # A batch that knows no point divides zero by one.
    return (loss * share).sum() / total.where(total > 0, 1.0)


def _mean_per_au(loss: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
    """Mean over the labelled samples of each column, then over all columns."""
    count = labelled.sum(0).clamp(min=1)
    return (loss.where(labelled, 0.0).sum(0) / count).mean()
