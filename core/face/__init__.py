"""From a picture to an aligned crop: detection, landmarks, tracking, quality, facial regions."""

from __future__ import annotations

from .regions import au_regions, face_region
from .tracker import Detection, Detector, FaceTracker, Landmarks

__all__ = ["Detection", "Detector", "FaceTracker", "Landmarks", "au_regions", "face_region"]
