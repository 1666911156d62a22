"""Clips judged by the rise over a rest level: none, the one that is estimated, or the true one.

- ``none``: presence as the network gives it;
- ``live``: the estimate of live analysis, frame by frame from faces in general;
- ``recording``: that of a recording: what the clip teaches holds from its first frame on;
- ``oracle``: each person's median logit over the frames in which an AU is absent, known from the
  marks, and the threshold of a face that is known well. Nothing can know it: it is the aim.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from facestage.core.baseline import PersonalBaseline, adjust_presence
from facestage.core.network.card import ModelCard
from facestage.core.types import RestLevels
from numpy.typing import NDArray
from people_figures import rest_levels
from people_predictions import Judged, PredictedClip

__all__ = ["LIVE", "NONE", "ORACLE", "RECORDING", "RESTS", "by_rise"]

NONE, LIVE, RECORDING, ORACLE = RESTS = ("none", "live", "recording", "oracle")


def by_rise(judged: Judged, card: ModelCard, rest: str) -> Judged:
    """Return predictions in which the presence of clips is judged by the rise over rest.

    A still has one frame, so its presence stays what the network gives.

    Args:
        judged: as the network gives it.
        card: thresholds and rest levels of faces in general.
        rest: one of :data:`RESTS`.
    """
    if rest == NONE:
        return judged
    clips = []
    for clip in judged.clips:
        if rest == ORACLE:
            presence = _oracle(clip, card)
        else:
            presence, learnt = _estimated(clip, card, None)
            if rest == RECORDING:
                presence, _ = _estimated(clip, card, learnt)
        clips.append(replace(clip, prediction=replace(clip.prediction, presence=presence)))
    return replace(judged, clips=tuple(clips))


def _estimated(
    clip: PredictedClip, card: ModelCard, start: RestLevels | None
) -> tuple[NDArray[np.float64], RestLevels]:
    """Return adjusted presence ``(N, A)`` as live analysis does, and the levels in the end."""
    baseline = PersonalBaseline.of_network(card)
    if start is not None:
        baseline.begin(start)
    adjusted = clip.prediction.presence.copy()
    for frame, time_s in enumerate(clip.times[: len(adjusted)]):
        if np.isnan(adjusted[frame, 0]):
            baseline.skip(float(time_s))
            continue
        if clip.other[frame]:
            baseline.reset()
        raw = adjusted[frame].astype(np.float32)
        adjusted[frame] = baseline.update(float(time_s), raw, float(clip.quality[frame]))
    return adjusted, baseline.levels


def _oracle(clip: PredictedClip, card: ModelCard) -> NDArray[np.float64]:
    baseline = PersonalBaseline.of_network(card)
    level = rest_levels([clip], card.aus)[0]
    most = baseline.config.most_s
    known = RestLevels(
        np.where(np.isfinite(level), level, baseline.neutral), np.full(len(level), most)
    )
    baseline.begin(known)
    return adjust_presence(clip.prediction.presence.astype(np.float32), baseline.offsets).astype(
        np.float64
    )
