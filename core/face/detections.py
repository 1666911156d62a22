"""What a face detector says of a picture, and who may be followed of those it found.

Detectors live in the shell (they read files). The order of the five points is everywhere:
viewer-left eye, viewer-right eye, nose tip, viewer-left and viewer-right mouth corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .boxes import Box, overlap

__all__ = [
    "Answer",
    "AsksLater",
    "Choice",
    "Detection",
    "Detector",
    "Known",
    "ask",
    "best_overlap",
]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A face that a detector found.

    Attributes:
        box: ``(x, y, width, height)``, frame pixels.
        score: higher is more certain; the scale is the detector's own.
        points: ``(5, 2)`` float32 frame pixels, or None from a detector that gives boxes only.
        rough: the points say where a face begins, at any roll; a landmark network, where there is
            one, measures them from then on.
    """

    box: Box
    score: float
    points: NDArray[np.float32] | None = None
    rough: bool = False


class Detector(Protocol):
    """Finds the faces of one picture; keeps no state between pictures."""

    @property
    def name(self) -> str:
        """Short name shown to the user, such as ``haar``."""
        ...

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        """Return the faces of a picture, in any order.

        Args:
            image: ``(H, W, 3)`` uint8, BGR.
            smallest: width below which faces do not matter, pixels: they may be left out where
                that saves time.
        """
        ...


class Answer(Protocol):
    """What a detector that was asked has found."""

    def __call__(self, wait: bool = False) -> list[Detection] | None:
        """Return the faces; None while it still looks, unless told to wait."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """An answer that is there already."""

    found: list[Detection]

    def __call__(self, wait: bool = False) -> list[Detection]:
        del wait
        return self.found


@runtime_checkable
class AsksLater(Protocol):
    """A detector that looks at a picture while its caller goes on."""

    def ask(self, image: NDArray[np.uint8], smallest: float = 0.0) -> Answer:
        """Begin to look for faces; the arguments are those of :meth:`Detector.detect`."""
        ...


def ask(detector: Detector, image: NDArray[np.uint8], smallest: float = 0.0) -> Answer:
    """Ask a detector for the faces of a picture; one that cannot work meanwhile looks at once."""
    if isinstance(detector, AsksLater):
        return detector.ask(image, smallest)
    return Known(detector.detect(image, smallest))


class Choice:
    """Whom a tracker may follow: whoever it finds, the one over its old place first, then by size.

    One that knows people says more, see :class:`~facestage.core.face.people.People`.
    """

    def order(self, found: Sequence[Detection], own: Detection | None) -> list[Detection]:
        """Return the faces that may be followed, the first choice first.

        Args:
            found: all faces of the picture.
            own: the one over the old place, if there is one.
        """
        return sorted(found, key=lambda d: (d is not own, -d.box[2] * d.box[3]))

    def admits(self, crop: NDArray[np.uint8], box: Box, detection: Detection | None) -> bool:
        """Tell whether a face that proved to be one may be followed.

        Args:
            crop: ``(S, S)`` uint8 grey, aligned.
            box: around its points, as :attr:`FaceTracker.box`.
            detection: where it was found; None where only the landmarks hold on to it.
        """
        return True

    def knows(self, box: Box) -> bool:
        """Tell whether a face in this place is known to be one: another tracker follows it."""
        return False


def best_overlap(found: Sequence[Detection], box: Box, least: float) -> Detection | None:
    """Return the face that overlaps a box most; None below an intersection over union."""
    best = max(found, key=lambda d: overlap(d.box, box), default=None)
    return best if best is not None and overlap(best.box, box) >= least else None
