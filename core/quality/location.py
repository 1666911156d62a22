"""Does relevance lie where the AU shows? Mass in its region, and the pointing game.

References:
    Rieger, Kollmann, Finzel, Seuss & Schmid, *Verifying Deep Learning-based Decisions for Facial
    Expression Recognition*, ESANN 2020 (share of positive relevance in facial regions).
    Arras, Osman & Samek, *CLEVR-XAI*, Information Fusion 81, 2022 (relevance mass accuracy).
    Zhang et al., *Top-down Neural Attention by Excitation Backprop*, ECCV 2016 (pointing game).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

from ..errors import ConfigError

__all__ = ["Localisation", "localise", "pointing_game"]


@dataclass(frozen=True, slots=True, eq=False)
class Localisation:
    """Where the positive relevance of P maps lies; ``(P,)`` float64 each.

    A map without positive relevance, or without a region, has NaN.

    Attributes:
        mass: relevance mass accuracy, share of all positive relevance that lies in the region, 0–1.
        area: the region's share of the face's area, 0–1: what ``mass`` would be, were relevance
            spread evenly over the face and nowhere else.
        enrichment: share of the *face's* relevance in the region ÷ ``area``. 1 is no preference,
            1 / ``area`` the most there can be.
        outside: share of all positive relevance that lies outside the face, 0–1.
    """

    mass: NDArray[np.float64]
    area: NDArray[np.float64]
    enrichment: NDArray[np.float64]
    outside: NDArray[np.float64]


def localise(maps: ArrayLike, regions: ArrayLike, faces: ArrayLike) -> Localisation:
    """Measure how much positive relevance lies in the region of the AU.

    Args:
        maps: ``(P, H, W)`` relevance, any unit; only positive values count.
        regions: ``(P, H, W)`` bool, see :func:`~facestage.core.face.regions.au_regions`.
        faces: ``(P, H, W)`` bool, see :func:`~facestage.core.face.regions.face_region`.

    Returns:
        The figures of each map.

    Raises:
        ConfigError: the shapes differ.

    References:
        Arras et al. 2022, eq. 4; Kohlbrenner et al., IJCNN 2020, eq. 10 (weighting by size).
    """
    stack, marked = _stacks(maps, regions)
    _, face = _stacks(maps, faces)
    positive = np.maximum(stack, 0)
    everything = positive.sum(axis=(1, 2))
    in_face = np.where(face, positive, 0).sum(axis=(1, 2))
    inside = np.where(marked, positive, 0).sum(axis=(1, 2))
    of_face = np.where(marked & face, positive, 0).sum(axis=(1, 2))
    area = _ratio((marked & face).sum(axis=(1, 2)), face.sum(axis=(1, 2)))
    known = np.where(area > 0, area, np.nan)
    return Localisation(
        mass=np.where(np.isnan(known), np.nan, _ratio(inside, everything)),
        area=known,
        enrichment=_ratio(of_face, in_face) / known,
        outside=1 - _ratio(in_face, everything),
    )


def pointing_game(
    maps: ArrayLike, regions: ArrayLike, tolerance: float = 0.0
) -> NDArray[np.float64]:
    """Tell whether the most relevant pixel of each map lies in its region.

    The mean over maps is the accuracy of the pointing game; chance is the region's share of the
    area. LRP's flat rule gives neighbouring pixels exactly the same relevance, so the maximum is
    often shared: each of the pixels that share it then counts its part.

    Args:
        maps: ``(P, H, W)`` relevance.
        regions: ``(P, H, W)`` bool.
        tolerance: distance from the region that still counts as a hit, pixels (15 in the paper's
            pictures of about 500 px).

    Returns:
        ``(P,)`` float64: 1 a hit, 0 a miss, between them where a shared maximum lies on both sides;
        NaN for a map without positive relevance or an empty region.

    Raises:
        ConfigError: the shapes differ, or the tolerance is negative.

    References:
        Zhang et al., ECCV 2016, §4.2.
    """
    if not tolerance >= 0:
        raise ConfigError(f"a tolerance is a distance of 0 px or more, not {tolerance}")
    stack, marked = _stacks(maps, regions)
    hits = np.full(len(stack), np.nan)
    for row, (relevance, region) in enumerate(zip(stack, marked, strict=True)):
        if not relevance.max() > 0 or not region.any():
            continue
        # Distance of every pixel from the region; 0 inside it.
        distance = np.asarray(distance_transform_edt(~region))
        hits[row] = (distance[relevance == relevance.max()] <= tolerance).mean()
    return hits


def _stacks(maps: ArrayLike, masks: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    stack = np.asarray(maps, np.float64)
    marked = np.asarray(masks, bool)
    if stack.ndim != 3 or 0 in stack.shape[1:] or stack.shape != marked.shape:
        raise ConfigError(
            f"maps come as (P, H, W) with one region each, got shapes {stack.shape} and "
            f"{marked.shape}; draw regions at the size of the maps"
        )
    return stack, marked


def _ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """Return part ÷ whole, NaN where the whole is not positive."""
    safe = np.asarray(whole, np.float64)
    return np.asarray(part, np.float64) / np.where(safe > 0, safe, np.nan)
