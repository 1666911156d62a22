"""Looking for a face: from what a detector found to a track that has proved to be one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..steps import timed
from .alignment import warp
from .boxes import Box, apart, overlap
from .detections import Answer, Choice, Detection, Detector, ask, best_overlap
from .probe import Probe
from .track import Track

__all__ = ["Search"]


class Search:
    """Find faces in a picture and begin tracks on them.

    Picklable at any time, without the detector.

    Args:
        detector: finds faces.
        probe: proves them.
        box_to_points: ``(5, 2)`` usual place of the points in a detector's box, fractions of the
            box's width from its top left corner; needed with boxes and landmarks.

    Attributes:
        detector: as given; None after unpickling.
        choice: whom a track may follow.
        detections: times the detector ran.
    """

    def __init__(
        self,
        detector: Detector,
        probe: Probe,
        box_to_points: NDArray[np.float32] | None,
    ) -> None:
        self.detector: Detector | None = detector
        self.probe = probe
        self.box_to_points = (
            None if box_to_points is None else np.asarray(box_to_points, np.float32)
        )
        self.choice = Choice()
        self.detections = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "detector": None}

    def attached(self) -> Detector:
        """Return the detector.

        Raises:
            ConfigError: there is none, after unpickling.
        """
        if self.detector is None:
            raise ConfigError(
                "the face tracker was restored from its state and has no detector: call attach()"
            )
        return self.detector

    @timed("detect")
    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        """Return the faces of a picture of any layout."""
        self.detections += 1
        return self.attached().detect(_in_colour(image), smallest)

    @timed("detect")
    def ask(self, image: NDArray[np.uint8], smallest: float = 0.0) -> Answer:
        """Ask for the faces of a picture of any layout."""
        self.detections += 1
        return ask(self.attached(), _in_colour(image), smallest)

    def acquire(
        self, found: Sequence[Detection], grey: NDArray[np.uint8], near: Box | None = None
    ) -> tuple[Track, Detection] | None:
        """Begin a track on the first detection that proves to be a face; return both.

        The one over ``near`` comes first, then the others by size.
        """
        config = self.probe.config
        own = None if near is None else best_overlap(found, near, config.same_face_overlap)
        for detection in self.choice.order(found, own):
            track = self.begin(detection, grey)
            if track is not None and self.admits(track, detection):
                track.until_check = config.verify_every if track.proven else 1
                return track, detection
        return None

    def admits(self, track: Track, detection: Detection | None) -> bool:
        """Tell whether a track may be followed, see :meth:`Choice.admits`."""
        return self.choice.admits(track.crop, self.probe.box(track.points), detection)

    def begin(self, detection: Detection, grey: NDArray[np.uint8]) -> Track | None:
        """Take a detection as a face if its points, or the landmark network, support it.

        Raises:
            ConfigError: it has no points, and nothing finds them.
        """
        points, probe = detection.points, self.probe
        if points is not None:
            if not probe.plausible(points):
                return None
            if detection.rough and probe.landmarks is not None:
                config = probe.config
                doubtful = detection.score <= config.doubtful
                return self.settle(points, grey, config.evidence_doubtful if doubtful else None)
            matrix = probe.fit(points)
            return Track(points, matrix, warp(grey, matrix, probe.size), from_detector=True)
        if probe.landmarks is None or self.box_to_points is None:
            name = self.attached().name
            missing = "landmark head" if probe.landmarks is None else f"box points for {name}"
            raise ConfigError(
                f"{name} gives boxes without points, and the AU model has no {missing} to find "
                "them: use a model whose card has it, or a detector with points (`yunet`)"
            )
        x, y, width, _ = detection.box
        if not width > 0:
            return None
        return self.settle((self.box_to_points * width + (x, y)).astype(np.float32), grey)

    def settle(
        self, points: NDArray[np.float32], grey: NDArray[np.uint8], needed: float | None = None
    ) -> Track | None:
        """Begin a track where the landmarks prove a face near points, by ``needed`` if given."""
        found = self.probe.settle(points, grey, needed)
        if found is None:
            return None
        points, matrix, crop, proven = found
        return Track(points, matrix, crop, from_detector=False, proven=proven)

    def others(
        self,
        found: Sequence[Detection],
        own: Detection | None,
        box: Box,
        grey: NDArray[np.uint8],
    ) -> tuple[bool, tuple[Detection, NDArray[np.uint8]] | None]:
        """Tell whether there is another face than the one followed.

        Args:
            found: all faces of the picture.
            own: the one followed.
            box: its place.
            grey: the picture.

        Returns:
            Whether there is; and the nearest, with its aligned crop, where it had to prove itself.
        """
        for other in sorted(found, key=lambda d: apart(d.box, box)):
            if other is own or overlap(other.box, box) > 0.1:
                continue
            if other.box[2] < self.probe.config.other_face_size * box[2]:
                continue
            if self.choice.knows(other.box):
                return True, None
            track = self.begin(other, grey)
            if track is not None:
                return True, (other, track.crop)
        return False, None


def _in_colour(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture as detectors take it, ``(H, W, 3)``."""
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
    return np.ascontiguousarray(image[:, :, :3]) if image.shape[2] == 4 else image
