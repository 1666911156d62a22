"""What OpenCV 4 has and OpenCV 5 has not: the Haar cascade and ``HOGDescriptor``."""

from __future__ import annotations

import cv2
import pytest

__all__ = ["HAS_CASCADES", "needs_opencv_4"]

HAS_CASCADES = hasattr(cv2, "CascadeClassifier")

needs_opencv_4 = pytest.mark.skipif(
    not HAS_CASCADES, reason=f"OpenCV {cv2.__version__} has no Haar cascade and no HOGDescriptor"
)
