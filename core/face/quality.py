"""Whether a face that was found can be analysed, and if not, why."""

from __future__ import annotations

import cmath
import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config import FaceConfig
from ..types import HeadPose
from .alignment import invert, transform

__all__ = ["NOT_A_FACE", "implausible", "judge"]

NOT_A_FACE = "points do not fit a face"


def implausible(
    points: NDArray[np.float32], template: NDArray[np.float32], config: FaceConfig
) -> str:
    """Say what is wrong with five points, if they cannot be those of a face seen from the front.

    Args:
        points: ``(5, 2)`` frame pixels.
        template: ``(5, 2)`` a plain face, any scale.
        config: limits.

    Returns:
        One short phrase (:data:`NOT_A_FACE` where no pose explains the points), or ``""`` for a
        possible face.
    """
    # Five points: complex numbers are ten times faster here than arrays.
    p = [complex(x, y) for x, y in points.tolist()]
    if not all(map(cmath.isfinite, p)):
        return NOT_A_FACE
    across = p[1] - p[0]
    if abs(across) < 1e-6:
        return NOT_A_FACE
    # Coordinates of the face: x along the eyes, y down the face, in eye distances.
    nose, left, right = ((spot - (p[0] + p[1]) / 2) / across for spot in p[2:])
    mouth = (left + right) / 2
    if not 0 < nose.imag < mouth.imag or right.real <= left.real or abs(mouth.real) > mouth.imag:
        return NOT_A_FACE
    if abs(math.degrees(cmath.phase(across))) > config.max_roll_deg:
        return "head tilted too far"
    t = [complex(x, y) for x, y in template.tolist()]
    usual = ((t[3] + t[4]) / 2 - (t[0] + t[1]) / 2).imag / abs(t[1] - t[0])
    middle_line = mouth.real * nose.imag / mouth.imag
    if (
        not usual / config.max_stretch < mouth.imag < usual * config.max_stretch
        or abs(nose.real - middle_line) > config.max_nose_offset
    ):
        return "head turned away"
    return ""


def judge(
    points: NDArray[np.float32],
    matrix: NDArray[np.float32],
    crop: NDArray[np.uint8],
    frame_shape: tuple[int, ...],
    template: NDArray[np.float32],
    config: FaceConfig,
    was_refused: bool,
    pose: HeadPose | None = None,
) -> tuple[str, float]:
    """Decide whether a face is good enough to analyse.

    Args:
        points: ``(5, 2)`` frame pixels.
        matrix: ``(2, 3)`` frame → crop.
        crop: ``(S, S)`` uint8 grey.
        frame_shape: height and width of the frame first.
        template: ``(5, 2)`` of the alignment.
        config: limits.
        was_refused: the frame before was refused; the limits are then a tenth stricter, so that a
            face at a limit does not flicker.
        pose: how the head is turned, where that is known.

    Returns:
        The reason against it (or ``""``), and the quality: the worst of size, contrast and share
        inside the frame, each 1 where it costs nothing; 0 with a reason.
    """
    strict = 1.1 if was_refused else 1.0
    eyes = float(np.linalg.norm(points[1] - points[0]))
    if eyes < config.min_eye_distance_px * strict:
        return "face too small", 0.0
    if reason := implausible(points, template, config):
        return reason, 0.0
    if pose is not None and abs(pose.yaw) * strict > config.max_yaw_deg:
        return f"head turned aside by more than {config.max_yaw_deg:g}°", 0.0
    size = crop.shape[0]
    spots = transform(invert(matrix), _grid(size))
    within = (spots >= 0) & (spots < (frame_shape[1], frame_shape[0]))
    inside = float(np.count_nonzero(within[:, 0] & within[:, 1])) / len(spots)
    if inside < min(1.0, config.min_inside * strict):
        return "face partly outside the picture", 0.0
    edge = size // 6
    middle = crop[edge : size - edge, edge : size - edge]
    (mean,), (deviation,) = (values.ravel().tolist() for values in cv2.meanStdDev(middle))
    if mean < config.min_mean * strict:
        return "face too dark", 0.0
    if deviation < config.min_deviation * strict:
        return "face without contrast", 0.0
    size_share = eyes / config.good_eye_distance_px
    contrast_share = deviation / config.good_deviation
    return "", float(min(1.0, size_share, contrast_share, inside))


@functools.cache
def _grid(size: int) -> NDArray[np.float64]:
    """Return the ``(81, 2)`` places of a crop that must lie inside the picture."""
    axis = np.linspace(0.1, 0.9, 9) * size
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
