"""Hard negatives: the parts of pictures without people in which a finder sees faces."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from facestage.core.face.detection import FaceFinder

from .scenes import SIDE, Backgrounds, Picture

__all__ = ["mined"]

LONG_SIDES = (320, 640)
"""Sizes at which a picture is looked at, pixels."""
AROUND = 4.0
"""A part that is kept is this many times the false face."""


def mined(backgrounds: Backgrounds, finder: FaceFinder, most: int = 600) -> Backgrounds:
    """Look for faces where there are none.

    Args:
        backgrounds: pictures without people.
        finder: with a low threshold.
        most: parts kept, those with the highest scores.

    Returns:
        The backgrounds with their ``hard`` parts.
    """
    parts: list[tuple[float, Picture]] = []
    for picture in backgrounds.pictures:
        for quarters in range(4):
            turned = np.ascontiguousarray(np.rot90(picture, quarters))
            for side in LONG_SIDES:
                factor = side / max(turned.shape)
                small = cv2.resize(turned, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
                (found,) = finder.find([np.asarray(small, np.uint8)])
                for (x, y, w, h), score in zip(found.boxes, found.scores, strict=True):
                    half = AROUND * max(w, h) / 2
                    scale = SIDE / (2 * half)
                    matrix = np.array(
                        [
                            [scale, 0, SIDE / 2 - scale * (x + w / 2)],
                            [0, scale, SIDE / 2 - scale * (y + h / 2)],
                        ]
                    )
                    part = cv2.warpAffine(
                        small, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT
                    )
                    parts.append((float(score), np.asarray(part, np.uint8)))
    parts.sort(key=lambda part: -part[0])
    return replace(backgrounds, hard=tuple(part for _, part in parts[:most]))
