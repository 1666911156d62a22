"""What a measurement of explanations consists of: the sample, the figures, what each means."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import COSTLY_FRAMES, LEAST_FRAMES
from ..errors import ConfigError
from .agreement import AUAgreement

__all__ = [
    "COSTLY_FRAMES",
    "DRAWS",
    "FIGURES",
    "LEAST_FRAMES",
    "TOLERANCE",
    "AUQuality",
    "ExplanationQuality",
    "Figure",
    "MapSample",
    "StoppedError",
    "choose_frames",
    "spread",
]

DRAWS = 3
"""Randomised networks that a similarity is the mean of."""
TOLERANCE = 3.0
"""Of the pointing game, pixels of a 96 px crop: the 3 % of the picture that Zhang et al. allow."""

FIGURES: dict[str, tuple[str, str]] = {
    "mass": ("median", "share of the positive relevance in the AU's region"),
    "area": ("median", "the region's share of the face's area"),
    "enrichment": ("median", "the region's share of the face's relevance ÷ area; 1 by chance"),
    "outside": ("median", "share of the positive relevance outside the face"),
    "hit": ("mean", f"most relevant pixel in the region, {TOLERANCE:g} px tolerance"),
    "morf_lerf": ("mean", "area between LeRF and MoRF curve, logit units; 0 by chance"),
    "morf_random": ("mean", "area between random and MoRF curve, logit units; 0 by chance"),
    "drop": ("mean", "logit of the crop − logit of the blurred crop: the scale of the areas"),
    "top_cosine": ("mean", "cosine with the map after the output layer was randomised"),
    "full_cosine": ("mean", "cosine with the map after all layers were randomised"),
    "full_rank": ("mean", "rank correlation with the map after all layers were randomised"),
    "logit": ("median", "what is explained"),
    "conserved": ("median", "sum of the map ÷ logit"),
    "dense_bias": ("median", "share of the logit that biases of the dense layers take in"),
    "dense_epsilon": ("median", "share of the logit that ε of the dense layers takes in"),
    "rest": ("median", "share of the logit that biases of the convolutions take in"),
    "positive": ("median", "positive relevance ÷ sum of absolute relevance"),
    "same_au": ("mean", "cosine with maps of the same AU in other frames"),
    "other_aus": ("mean", "cosine with maps of other AUs in the same frame"),
    "nearest": ("mean", "cosine with maps of the AU most like it, in the same frame"),
    "within_stage": ("mean", "cosine with maps of the same AU in the same stage"),
    "across_stages": ("mean", "cosine with maps of the same AU in other stages"),
}
"""Figure → how it is averaged over frames, and what it measures. Only frames in which a figure is
defined count for it; for the last two, :attr:`Figure.frames` counts pairs of frames."""


class StoppedError(Exception):
    """The work was stopped from outside; there is no result."""


@dataclass(frozen=True, slots=True, eq=False)
class MapSample:
    """A sample of F frames whose relevance maps are to be measured.

    The maps themselves are made in :func:`~facestage.core.quality.assess`: one for each AU that is
    active in a frame.

    Attributes:
        crops: ``(F, S, S)`` uint8 grey, aligned for the network.
        active: F tuples, the numbers of the AUs that are active in each frame.
        stages: F labels, the stage of each frame; empty when not known.
    """

    crops: NDArray[np.uint8]
    active: tuple[tuple[int, ...], ...]
    stages: tuple[Hashable, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A value and what it rests on.

    Attributes:
        value: the value; None when no frame gives one.
        frames: frames that gave one.
    """

    value: float | None
    frames: int


@dataclass(frozen=True, slots=True, eq=False)
class AUQuality:
    """How good the maps of one AU are.

    Attributes:
        au: AU number.
        frames: frames of the sample in which it is active.
        figures: one for each of :data:`FIGURES`.
        nearest: the AU whose maps are most like its own in the same frame, among those active with
            it in at least :data:`LEAST_FRAMES` frames; None without such an AU.
    """

    au: int
    frames: int
    figures: Mapping[str, Figure]
    nearest: int | None


@dataclass(frozen=True, slots=True, eq=False)
class ExplanationQuality:
    """How good the maps of a network are under one preset.

    Attributes:
        preset: LRP preset.
        engine: engine that explained.
        frames: frames of the sample.
        aus: every AU active in at least :data:`LEAST_FRAMES` of them.
        rare: AU → frames, of those active in fewer.
        agreement: cosines between AUs.
        layers: names of the layers in the order they were randomised.
        layer_cosine, layer_rank: per layer the mean similarity, see
            :class:`~.randomisation.Randomisation`, over all pairs and draws; NaN without any.
        with_regions: whether the network has the landmarks that regions are drawn over.
    """

    preset: str
    engine: str
    frames: int
    aus: tuple[AUQuality, ...]
    rare: Mapping[int, int]
    agreement: AUAgreement
    layers: tuple[str, ...]
    layer_cosine: tuple[float, ...]
    layer_rank: tuple[float, ...]
    with_regions: bool


def choose_frames(active: Sequence[Iterable[int]], count: int) -> list[int]:
    """Choose frames so that rare AUs are not missed.

    The AUs share the places evenly, the rarest choosing first, each evenly over its own frames;
    places left over go evenly to the other frames in which anything is active.

    Args:
        active: per frame the AUs that are active.
        count: most frames to choose.

    Returns:
        Positions in ``active``, ascending; all frames with an active AU where there are no more
        than ``count``.

    Raises:
        ConfigError: ``count`` is not positive.

    >>> choose_frames([(12,), (), (12,), (12,), (4, 12), (12,)], 3)
    [0, 2, 4]
    """
    if count < 1:
        raise ConfigError(f"at least 1 frame must be measured, not {count}")
    frames: dict[int, list[int]] = {}
    for position, aus in enumerate(active):
        for au in aus:
            frames.setdefault(au, []).append(position)
    chosen: set[int] = set()
    share = max(1, count // max(1, len(frames)))
    for own in sorted(frames.values(), key=len):
        chosen.update(spread(own, min(share, count - len(chosen))))
    left = sorted({position for own in frames.values() for position in own} - chosen)
    chosen.update(spread(left, count - len(chosen)))
    return sorted(chosen)


def spread(items: Sequence[int], count: int) -> list[int]:
    """Return at most ``count`` of the items, evenly spread and in order."""
    if count >= len(items):
        return list(items)
    if count < 1:
        return []
    positions = np.linspace(0, len(items) - 1, count).round().astype(int)
    return [items[k] for k in positions]
