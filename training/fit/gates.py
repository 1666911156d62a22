"""Where in the face each feature of the trunk looks, so that an AU reads only what looks at it.

A read-out that may read every feature of its zone takes what tells best on renders; for AU 1 these
are features of the eyes, and its relevance then lies on the eyes. Each feature can be explained
like an output. Its relevance on portraits says where it looks: *enrichment* is the share of that
relevance that lies in the region of an AU, over the region's share of the face (1: no preference
within the face, and none outside it). An AU that reads only features enriched in its own region
cannot be concluded from elsewhere: not from the eyes, and not from hair beside the face.

References:
    Ross, Hughes & Doshi-Velez, *Right for the right reasons*, IJCAI 2017.
    Bach et al., *On pixel-wise explanations for non-linear classifier decisions by layer-wise
    relevance propagation*, PLOS ONE 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from facestage.core import lrp
from facestage.core.config import ExplainConfig
from facestage.core.face.regions import au_regions, face_region
from facestage.core.network.architectures import AUNet96, SplitHeads
from facestage.core.network.folding import fold_batchnorm
from facestage.stream.learning.trainer import TrainConfig, normalise
from numpy.typing import NDArray
from torch import nn

from ..augment.canvas import SIZE
from ..augment.views import MARGIN
from ..data.generator import RenderedBatch

__all__ = ["enrichment"]

CROP = 96
"""Side of a crop, px."""
_SILENT = 1e-3
"""A feature below this is not active in a face, and says nothing of where it looks."""
_TOGETHER = 96
"""Features that are explained at once."""


def enrichment(
    net: AUNet96,
    portraits: RenderedBatch,
    aus: Sequence[int],
    pictures: int = 36,
    seed: int = 3,
    report: Callable[[int, int], None] = lambda *_: None,
) -> NDArray[np.float64]:
    """Measure how much more each feature looks at the region of an AU than at the face.

    Args:
        net: the network.
        portraits: photographs that may be trained with, with landmarks.
        aus: AUs with a region.
        pictures: how many of them to explain, each feature in each.
        seed: of which.
        report: called after each picture with the number done and of all.

    Returns:
        ``(F, A)``: shares of the relevance summed over the pictures, weighted by activation; 0 for
        a feature that is never active.
    """
    path = _trunk(net)
    chosen = np.random.default_rng(seed).permutation(len(portraits.image))[:pictures]
    scale = CROP / (SIZE - 2 * MARGIN)
    inside = np.zeros((net.hidden.in_features, len(aus)))
    whole, area = np.zeros(net.hidden.in_features), np.zeros(len(aus))
    for done, k in enumerate(chosen, 1):
        canvas = np.ascontiguousarray(portraits.image[k, MARGIN:-MARGIN, MARGIN:-MARGIN])
        crop = cv2.resize(canvas, (CROP, CROP), interpolation=cv2.INTER_AREA)
        points = portraits.landmarks[k].astype(np.float32) * scale
        face = face_region(points, CROP)
        regions = np.stack([region & face for region in au_regions(points, aus, CROP)])
        area += regions.sum(axis=(1, 2)) / face.sum()
        x = normalise(
            torch.from_numpy(np.asarray(crop, np.uint8))[None], TrainConfig(1).normalisation
        )
        with torch.inference_mode():
            strength = path(x)[0].numpy()
        active = np.flatnonzero(strength > _SILENT)
        for start in range(0, len(active), _TOGETHER):
            part = active[start : start + _TOGETHER]
            pairs = [(0, int(feature)) for feature in part]
            maps = lrp.explain(path, x, pairs, preset=ExplainConfig().preset)
            maps = maps.numpy().reshape(len(part), -1).clip(0)
            total = maps.sum(axis=1, keepdims=True)
            maps *= strength[part, None] / np.maximum(total, np.finfo(np.float32).tiny)
            inside[part] += maps @ regions.reshape(len(aus), -1).T
            whole[part] += strength[part]
        report(done, len(chosen))
    share = inside / np.maximum(whole, np.finfo(np.float64).tiny)[:, None]
    return share / np.maximum(area / len(chosen), np.finfo(np.float64).tiny)


def _trunk(net: AUNet96) -> nn.Sequential:
    """Return the path from crop to features, BatchNorm folded."""
    example = torch.randn((2, 1, CROP, CROP), generator=torch.Generator().manual_seed(0))
    folded = AUNet96(net.aus, net.landmarks.out_features // 2, net.layout)
    folded.load_state_dict(net.state_dict())
    split = SplitHeads(fold_batchnorm(folded.eval(), example))
    layers = (*split.features, nn.Flatten())
    return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity))).eval()
