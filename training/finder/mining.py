"""Hard negatives: where a finder sees faces though there is nobody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from facestage.core.face.detection import FaceFinder

from .scenes import SIDE, Backgrounds, Composer, Picture

__all__ = ["mined"]

LONG_SIDES = (320, 640)
"""Sizes at which a picture is looked at, pixels."""
AROUND = 4.0
"""A part that is kept is this many times the false face."""
EMPTY_SCENES = 500
"""Scenes of things, without people, that are looked at."""


def mined(composer: Composer, finder: FaceFinder, first: int, most: int = 800) -> Backgrounds:
    """Look for faces where there are none.

    Args:
        composer: its pictures without people, and scenes of things only.
        finder: with a low threshold.
        first: number of the first scene.
        most: parts kept, those with the highest scores.

    Returns:
        The composer's backgrounds, with the ``hard`` ones new.
    """
    plain = replace(composer.backgrounds, hard=())
    empty = Composer.of(composer, plain)
    parts = list(_of_pictures(plain, finder))
    for index in range(first, first + EMPTY_SCENES):
        image = empty.scene(index, people=False).image
        (found,) = finder.find([image])
        if len(found):
            parts.append((float(found.scores[0]), image))
    parts.sort(key=lambda part: -part[0])
    return replace(plain, hard=tuple(part for _, part in parts[:most]))


def _of_pictures(backgrounds: Backgrounds, finder: FaceFinder) -> Iterator[tuple[float, Picture]]:
    for picture in backgrounds.pictures:
        for quarters in range(4):
            turned = np.ascontiguousarray(np.rot90(picture, quarters))
            for side in LONG_SIDES:
                factor = side / max(turned.shape)
                small = cv2.resize(turned, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
                (found,) = finder.find([np.asarray(small, np.uint8)])
                for (x, y, w, h), score in zip(found.boxes, found.scores, strict=True):
                    scale = SIDE / (AROUND * max(w, h))
                    shift = SIDE / 2 - scale * np.array([x + w / 2, y + h / 2])
                    matrix = np.column_stack([scale * np.eye(2), shift])
                    part = cv2.warpAffine(
                        small, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT
                    )
                    yield float(score), np.asarray(part, np.uint8)
