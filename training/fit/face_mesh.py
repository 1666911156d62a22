"""MediaPipe's 478 landmarks of a face, to measure rendered and photographed faces alike.

The network is a measuring tool of the workshop: it is neither part of the product nor of its
training. OpenCV runs it.

References:
    Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs",
    CVPR Workshops 2019; MediaPipe, Google, Apache License 2.0.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from facestage.core.errors import ConfigError
from numpy.typing import NDArray

from ..face.facekit import shared_folder

__all__ = ["POINTS", "FaceMesh"]

FILE = Path("models") / "face_landmarks_detector.tflite"
"""The network inside the folder of shared material."""
POINTS = 478
"""Landmarks of a face, the irises among them."""
INPUT = 256
"""Side of the network's input, pixels."""
OUTER_CORNERS = (33, 263)
"""Outer corners of the viewer's left and right eye: they give the tilt of the head."""
ROOM = 1.5
"""Side of the crop over the longer side of the box around the landmarks."""


class FaceMesh:
    """The landmark network.

    Args:
        path: the tflite file; by default ``models/face_landmarks_detector.tflite`` in the
            :func:`~training.face.facekit.shared_folder`.

    Raises:
        ConfigError: the file is missing or OpenCV cannot read it.
    """

    def __init__(self, path: Path | None = None) -> None:
        path = shared_folder() / FILE if path is None else path
        if not path.is_file():
            raise ConfigError(
                f"no landmark network at {path}: take face_landmarks_detector.tflite out of "
                "MediaPipe's face_landmarker.task (Apache-2.0, a zip file; "
                "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker) and set "
                f"FACESTAGE_SHARED to the folder that holds {FILE.as_posix()}"
            )
        try:
            self._net = cv2.dnn.readNetFromTFLite(str(path))
        except cv2.error as error:
            raise ConfigError(
                f"OpenCV cannot read {path} ({error}): take the file out of face_landmarker.task "
                "again, or install opencv-python 4.8 or newer"
            ) from error
        self._outputs = self._net.getUnconnectedOutLayersNames()

    def landmarks(
        self, image: NDArray[np.uint8], five_points: NDArray[np.floating], rounds: int = 2
    ) -> NDArray[np.float64]:
        """Find the landmarks of one face.

        Args:
            image: ``(H, W)`` uint8, grey.
            five_points: ``(5, 2)`` px: eyes, nose tip, mouth corners, the viewer's left first.
            rounds: crops in turn; each but the first is cut around the landmarks of the last.

        Returns:
            ``(478, 2)`` float64, px of ``image``.
        """
        eyes, mouth = five_points[:2], five_points[3:]
        across, down = eyes[1] - eyes[0], mouth.mean(0) - eyes.mean(0)
        centre = (eyes.mean(0) + mouth.mean(0)) / 2
        side = max(3.9 * np.hypot(*across), 4 * np.hypot(*down))
        points = np.zeros((POINTS, 2))
        for _ in range(rounds):
            turn = _rotation(across)
            points = self._look(image, turn, centre, float(side))
            across = points[OUTER_CORNERS[1]] - points[OUTER_CORNERS[0]]
            turn = _rotation(across)
            upright = points @ turn.T
            low, high = upright.min(0), upright.max(0)
            centre, side = turn.T @ (low + high) / 2, ROOM * (high - low).max()
        return points

    def _look(
        self,
        image: NDArray[np.uint8],
        turn: NDArray[np.float64],
        centre: NDArray[np.float64],
        side: float,
    ) -> NDArray[np.float64]:
        """Run the network once on an upright square around ``centre``."""
        linear = turn * INPUT / side
        matrix = np.column_stack([linear, INPUT / 2 - linear @ centre])
        shrinks = side > INPUT
        crop = cv2.warpAffine(
            image, matrix, (INPUT, INPUT), flags=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        colour = cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR)
        self._net.setInput(cv2.dnn.blobFromImage(colour, 1 / 255))
        # The other outputs are single scores.
        found = max(self._net.forward(self._outputs), key=np.size).reshape(-1, 3)[:, :2]
        return np.asarray((found - matrix[:, 2]) @ np.linalg.inv(linear).T, np.float64)


def _rotation(across: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the ``(2, 2)`` rotation that makes a vector horizontal."""
    x, y = across / np.hypot(*across)
    return np.array([[x, y], [-y, x]])
