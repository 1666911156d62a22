"""Pictures that show less of a person: blurred, or an outline alone; ``(H, W, 3)`` uint8, BGR."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import FaceObservation
from .lettering import Colour

__all__ = ["BLURRED_FACE", "blurred", "blurred_crop", "outlined"]

BLURRED_FACE = 10.0
"""Pixels across a face that a blurred picture is made of: an expression can be guessed, a person
who is not known already can not."""
_UNSEEN_FACE = 0.3
"""Width of a face that was not found, share of the picture's longer side: the blur is no weaker."""
_CROP_FACE = 0.8
"""Share of an aligned crop that the face takes."""
_GROUND: Colour = (28, 22, 18)
_LINE: Colour = (190, 180, 172)
_OVAL = ((0.5, 0.53), (0.36, 0.47))
"""Middle and half axes of the head in an aligned crop, shares of its side."""


def blurred(image: NDArray[np.uint8], faces: Sequence[FaceObservation]) -> NDArray[np.uint8]:
    """Return a picture made of so few pixels that no face is wider than :data:`BLURRED_FACE`.

    Args:
        image: ``(H, W, 3)`` uint8 BGR, or ``(H, W)`` grey.
        faces: those in it; where none has a box, the blur is that of a near face.
    """
    height, width = image.shape[:2]
    widths = [face.box[2] for face in faces if face.box is not None and face.box[2] > 0]
    # A face that was not found may be as near as that: never blur less than for it.
    near = max([*widths, _UNSEEN_FACE * max(height, width)])
    scale = min(1.0, BLURRED_FACE / near)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    few = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def blurred_crop(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an aligned crop, ``(S, S)`` uint8, blurred alike."""
    side = crop.shape[0]
    few = max(1, round(BLURRED_FACE / _CROP_FACE))
    small = cv2.resize(crop, (few, few), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def outlined(
    height: int, width: int, faces: Sequence[FaceObservation], crop_side: int = 96
) -> NDArray[np.uint8]:
    """Return a dark picture with an oval, eyes and a mouth line for each face, and nothing else.

    The oval is the same for everybody; only where the face is, how large and how turned in the
    picture comes from the person.

    Args:
        height, width: of the picture, pixels.
        faces: those that were found.
        crop_side: side of the aligned crops, pixels.
    """
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = _GROUND
    for face in faces:
        if face.matrix is None:
            continue
        square = np.vstack([face.matrix, (0, 0, 1)]).astype(np.float64)
        if not np.isfinite(square).all() or abs(np.linalg.det(square)) < 1e-12:
            continue
        back = np.linalg.inv(square).astype(np.float64)
        stroke = max(1, round(0.02 * crop_side * np.sqrt(abs(np.linalg.det(back)))))
        turn = np.linspace(0, 2 * np.pi, 73)
        (x, y), (wide, high) = _OVAL
        ring = np.stack([x + wide * np.cos(turn), y + high * np.sin(turn)], axis=1) * crop_side
        _line(canvas, _back(back, ring), stroke)
        if face.points is not None:
            points = np.asarray(face.points, np.float64)
            for eye in points[:2]:
                place = (round(float(eye[0])), round(float(eye[1])))
                cv2.circle(canvas, place, 2 * stroke, _LINE, -1, cv2.LINE_AA)
            _line(canvas, points[3:5], stroke)
    return canvas


def _back(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def _line(canvas: NDArray[np.uint8], points: NDArray[np.float64], stroke: int) -> None:
    fixed = np.rint(np.clip(points, -1e5, 1e5) * 16).astype(np.int32)
    cv2.polylines(canvas, [fixed], False, _LINE, stroke, cv2.LINE_AA, shift=4)
