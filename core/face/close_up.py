"""A second look at each face that was found, at the size at which the finder sees best.

One pass over the whole picture meets faces of every size and roll. Where a face fills the picture,
the cells that speak of it see a part of it each, disagree on which way is up, and the mean of their
points collapses. So each face is cut out with its surroundings, brought to one size, and looked at
again: a pass over 96 × 96 pixels, about a tenth of one over a picture.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .detection import FaceFinder, FoundFaces

__all__ = ["CLOSE_UPS", "SIDE", "close_up"]

SIDE = 96
"""Side of the cut-out, pixels."""
SPAN = 2.4
"""Side of what is cut out, in sides of the face's box: the face is 40 pixels wide then."""
CLOSE_UPS = 4
"""Most faces of a picture that are looked at again, the most certain first."""
SAME = 0.3
"""Intersection over union from which the face of the second look is that of the first."""


def close_up(finder: FaceFinder, picture: NDArray[np.uint8], found: FoundFaces) -> FoundFaces:
    """Measure points, their visibility and the roll of the faces found in a closer look.

    Args:
        finder: found them.
        picture: ``(H, W)`` uint8 grey, as fine as there is; it may be finer than what was searched.
        found: the faces, in pixels of ``picture``.

    Returns:
        The same faces. One that the second look does not see keeps what the first saw.
    """
    count = min(len(found), CLOSE_UPS)
    if count == 0:
        return found
    cuts = [_cut(picture, box) for box in found.boxes[:count]]
    points, visible, roll = found.points.copy(), found.visible.copy(), found.roll.copy()
    for i, (seen, (_, scale, corner)) in enumerate(
        zip(finder.find([cut for cut, _, _ in cuts]), cuts, strict=True)
    ):
        boxes = seen.boxes / np.tile(scale, 2)
        boxes[:, :2] += corner
        alike = _overlap(boxes, found.boxes[i])
        if len(alike) and alike.max() >= SAME:
            best = int(alike.argmax())
            # Areas were resized, not centres.
            points[i] = (seen.points[best] + 0.5) / scale - 0.5 + corner
            visible[i], roll[i] = seen.visible[best], seen.roll[best]
    return replace(found, points=points, visible=visible, roll=roll)


def _cut(
    picture: NDArray[np.uint8], box: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return the square around a box at :data:`SIDE`, its scale in x and y, and its corner."""
    height, width = picture.shape
    side = max(SPAN * float(max(box[2], box[3])), 1.0)
    middle = box[:2] + box[2:] / 2
    # Whole pixels: what lies in the picture is resized by area, the rest repeats its edge.
    first = np.floor(middle - side / 2).astype(int)
    last = first + max(1, round(side))
    low = np.clip(first, 0, (width - 1, height - 1))
    high = np.clip(last, low + 1, (width, height))
    scale = SIDE / (last - first)
    inner = np.maximum(1, np.round((high - low) * scale)).astype(int)
    before = np.clip(np.round((low - first) * scale).astype(int), 0, SIDE - inner)
    seen = picture[low[1] : high[1], low[0] : high[0]]
    shrinks = scale.max() < 1
    small = cv2.resize(
        seen, inner.tolist(), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    after = SIDE - inner - before
    cut = cv2.copyMakeBorder(
        small, int(before[1]), int(after[1]), int(before[0]), int(after[0]), cv2.BORDER_REPLICATE
    )
    exact = inner / (high - low)
    corner = low - before / exact
    return np.asarray(cut, np.uint8), exact.astype(np.float32), corner.astype(np.float32)


def _overlap(boxes: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of ``(F, 4)`` boxes with one."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], box[:2] + box[2:])
    common = np.prod(np.maximum(high - low, 0), 1)
    return np.asarray(common / (boxes[:, 2:].prod(1) + box[2:].prod() - common), np.float32)
