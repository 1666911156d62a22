"""Boxes around faces: ``(x, y, width, height)``, frame pixels."""

from __future__ import annotations

import math

__all__ = ["Box", "apart", "overlap"]

Box = tuple[float, float, float, float]


def apart(a: Box, b: Box) -> float:
    """Return the distance of the middles of two boxes, pixels."""
    return math.hypot(a[0] - b[0] + (a[2] - b[2]) / 2, a[1] - b[1] + (a[3] - b[3]) / 2)


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0–1."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (a[2] * a[3] + b[2] * b[3] - common)
