"""Learning on tensors and arrays: losses that skip missing labels, and figures of agreement.

Nothing here opens a file or keeps state; the training loop is :mod:`facestage.stream.learning`.
"""

from __future__ import annotations

from .losses import intensity_loss, landmark_loss, presence_loss, presence_target
from .metrics import correlation, ece, f1, icc_3_1, prevalence, roc_auc

__all__ = [
    "correlation",
    "ece",
    "f1",
    "icc_3_1",
    "intensity_loss",
    "landmark_loss",
    "presence_loss",
    "presence_target",
    "prevalence",
    "roc_auc",
]
