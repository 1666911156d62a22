"""What is remembered of a face that is followed, and how measurements correct it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .alignment import compose, crop_motion, invert, transform, warp
from .boxes import Box
from .detections import Answer
from .likeness import correlation
from .probe import Prediction, Probe

__all__ = ["FIRST_UPDATES", "Check", "Track", "correct", "distance", "predict"]

FIRST_UPDATES = 5
"""A track is new until so many measurements went into its points: from then on one of them has no
larger share than :attr:`~facestage.core.config.FaceConfig.gain`."""


@dataclass(slots=True, eq=False)
class Check:
    """What the detector was asked about the face that is followed.

    Attributes:
        place: where the face was in that picture.
        answer: what it found there.
    """

    place: Box
    answer: Answer


@dataclass(slots=True, eq=False)
class Track:
    """What is remembered of the face that is followed."""

    points: NDArray[np.float32]
    matrix: NDArray[np.float32]
    crop: NDArray[np.uint8]
    from_detector: bool
    """Points come from the detector, which then runs on every frame."""
    updates: int = 1
    """Measurements that went into the points."""
    until_check: int = 0
    """Frames until the detector is asked again."""
    check: Check | None = None
    """What it was asked and has not answered yet."""
    misses: int = 0
    """Checks in a row that found no proof of a face."""
    undetected: int = 0
    """Frames since the detector last saw the face."""
    rejected: int = 0
    """Measurements refused in a row."""
    measured: bool = True
    """The points of the last frame were measured before the face was cut out."""
    learned: bool = False
    """The landmarks of the last frame's crop are known, and agree with the points."""
    several: bool = False
    """More than one face, confirmed."""
    several_votes: int = 0
    """Checks in a row that contradict ``several``."""
    poor: bool = False
    """The last observation was of low quality."""
    proven: bool = True
    """It is clear that the face is not upside down; else the next frame must prove it."""
    given_up: bool = False
    """It could not be proved any longer."""


def predict(
    track: Track, image: NDArray[np.uint8], grey: NDArray[np.uint8], probe: Probe
) -> Prediction:
    """Move the points with the texture of the face."""
    motion, agreement = crop_motion(track.crop, warp(grey, track.matrix, probe.size))
    back = invert(track.matrix)
    points = transform(compose(back, compose(motion, track.matrix)), track.points)
    matrix = probe.fit(points)
    crop = warp(grey, matrix, probe.size)
    broken = agreement < probe.config.motion_agreement or (
        correlation(track.crop, crop) < probe.config.continuity
    )
    return Prediction(image, grey, points, matrix, crop, broken)


def correct(
    track: Track,
    predicted: NDArray[np.float32],
    measured: NDArray[np.float32],
    probe: Probe,
    *,
    late: bool = False,
) -> bool:
    """Blend prediction and measurement: the smaller their difference, the more prediction.

    Args:
        track: its points are corrected.
        predicted: ``(5, 2)`` by the texture.
        measured: ``(5, 2)`` by landmarks or the detector.
        probe: knows what can be a face.
        late: the correction shows in the next frame only. With a share g the points follow what is
            measured by (1 − g)/g frames in the mean; a late one needs g/(1 − g) for the same.

    Returns:
        Whether they agree, so that the next frame needs no measurement of its own.
    """
    config = probe.config
    track.points = predicted
    apart = distance(measured, predicted)
    impossible = not probe.plausible(measured)
    if impossible or apart > config.outlier:
        track.rejected += 1
        track.until_check = min(track.until_check, config.recheck_every)
        if impossible or track.rejected <= config.max_rejected:
            return False
        track.updates = 0  # the measurements insist: begin the average anew from them
    track.rejected = 0
    track.updates += 1
    rise = (apart - config.noise) / (config.outlier - config.noise)
    least = config.gain / (1 - config.gain) if late else config.gain
    gain = least + (1 - least) * float(np.clip(rise, 0, 1))
    gain = max(gain, 1 / track.updates)
    track.points = (predicted + np.float32(gain) * (measured - predicted)).astype(np.float32)
    return apart <= (config.near if late else config.noise)


def distance(measured: NDArray[np.float32], predicted: NDArray[np.float32]) -> float:
    """Return the mean distance of points ``(5, 2)`` from others, in eye distances of these."""
    eyes = float(np.linalg.norm(predicted[1] - predicted[0]))
    return float(np.linalg.norm(measured - predicted, axis=1).mean()) / max(eyes, 1e-6)
