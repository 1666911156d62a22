"""Face detectors: our own, which is the default, and OpenCV's Haar cascade are embedded, YuNet is
fetched on request.

All are opened with one call, :func:`make_detector`, and look at a reduced copy of the picture, so
their cost does not grow with the camera.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelError
from ..core.face.tracker import Detection, Detector
from . import model_store

if TYPE_CHECKING:
    from ..core.face.detection import FaceFinder

__all__ = ["HaarDetector", "OurDetector", "YuNetDetector", "make_detector"]

_EMBEDDED = "face_finder_v1"
"""Name of the embedded face finder in ``core/weights``."""
_CARD_SCHEMA = "facestage.face-finder-card/1"
_SMALLEST_SIDE = 64
"""Smaller pictures are padded for YuNet: with an input side of 32 pixels, where its coarsest grid
is one cell wide, OpenCV 4.14 reads memory that was never written and reports faces at 1e30."""


def _reduce(image: NDArray[np.uint8], long_side: int) -> tuple[NDArray[np.uint8], float, float]:
    """Shrink a picture to a long side, never enlarge; return it and its true scale in x and y."""
    height, width = image.shape[:2]
    factor = min(1.0, long_side / max(height, width))
    if factor == 1.0:
        return image, 1.0, 1.0
    new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False), new_width / width, new_height / height


class OurDetector:
    """Faces with five points at any roll, by the embedded face finder.

    The points are rough: they tell the tracker where a face begins and which way is up.

    Args:
        path: weights (safetensors) with their card (JSON) beside them; the embedded ones if None.
        long_side: side of the reduced picture, pixels. The time grows with its square.
        threshold: least score, 0–1, the mean of two looks; that of the card if None.

    Raises:
        ModelError: no such files, or not those of a face finder.
    """

    name = "ours"

    def __init__(
        self, path: Path | str | None = None, long_side: int = 320, threshold: float | None = None
    ) -> None:
        self.long_side = long_side
        embedded = resources.files("facestage.core.weights") / f"{_EMBEDDED}.safetensors"
        self.path = Path(str(embedded) if path is None else path)
        self._finder, self.threshold = _load_finder(self.path, threshold)

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        """Return faces with points; the score is the network's, 0–1.

        The network sees all sizes at once, and then each face once more, closely.

        Args:
            image: ``(H, W, 3)`` uint8, BGR.
            smallest: has no effect, as the network sees all sizes at once.
        """
        from ..core.face.close_up import close_up  # torch: `--help` need not wait for it

        del smallest
        # Grey first: a third of the numbers to reduce.
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        small, scale_x, scale_y = _reduce(grey, self.long_side)
        (found,) = self._finder.find([small])
        scale = np.array([scale_x, scale_y], np.float32)
        boxes = found.boxes / np.tile(scale, 2)
        # Areas are reduced, not centres: pixel centre x of the small picture is (x + ½)/s − ½.
        boxes[:, :2] += 0.5 / scale - 0.5
        points = (found.points + 0.5) / scale - 0.5
        candidates = replace(found, boxes=boxes, points=points)
        found = close_up(self._finder, grey, candidates, self.threshold)
        return [
            Detection((float(x), float(y), float(w), float(h)), float(score), spots, rough=True)
            for (x, y, w, h), score, spots in zip(
                found.boxes, found.scores, found.points, strict=True
            )
        ]


def _load_finder(path: Path, threshold: float | None) -> tuple[FaceFinder, float]:
    """Read card and weights of a face finder; build it, and return what a face's score has to be.

    The network answers with less certain ones, too: a second look at them decides.
    """
    import torch  # `--help` need not wait for it
    from safetensors import SafetensorError
    from safetensors.torch import load

    from ..core.face.close_up import CANDIDATE
    from ..core.face.detection import FaceFinder

    beside = path.with_suffix(".json")
    advice = "give the safetensors file that `python -m training finder` wrote, or use `ours`"
    try:
        card: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        tensors: dict[str, torch.Tensor] = load(path.read_bytes())
        if card["schema"] != _CARD_SCHEMA:
            raise ModelError(
                f"{beside} is a card of another kind ({card['schema']!r}, expected "
                f"{_CARD_SCHEMA!r}): {advice}"
            )
        least = float(card["threshold"]) if threshold is None else threshold
        if not 0 <= least < 1:
            raise ModelError(f"the threshold of the face finder is {least}; give 0 to below 1")
        return FaceFinder(tensors, max(0.0, least - CANDIDATE), float(card["overlap"])), least
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"{path} with its card {beside.name} is no face finder ({error!r}): {advice}"
        ) from error


class HaarDetector:
    """Frontal faces by OpenCV's boosted cascade of Haar features; boxes only.

    Args:
        long_side: side of the reduced picture, pixels. 320 finds faces from about a thirteenth of
            the picture's width on; more finds smaller ones and costs quadratically.
        neighbours: a face needs more agreeing windows than this. Measured on the clips with 320 px:
            99 of 100 faces have 7 or more; of the false hits most have 6 or fewer, the others must
            be told apart by what the landmark network sees in them.
        step: ratio between two sizes of the search window.

    Raises:
        ModelError: OpenCV has no cascade (version 5 dropped them).

    References:
        Viola & Jones, *Rapid object detection using a boosted cascade of simple features*,
        CVPR 2001; Lienhart & Maydt, ICIP 2002 (the cascade).
    """

    name = "haar"

    def __init__(self, long_side: int = 320, neighbours: int = 6, step: float = 1.1) -> None:
        self.long_side = long_side
        self.neighbours = neighbours
        self.step = step
        path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
        # OpenCV 5 has neither the class nor the file.
        self._cascade: Any = cv2.CascadeClassifier() if hasattr(cv2, "CascadeClassifier") else None
        if self._cascade is None or not path.is_file() or not self._cascade.load(str(path)):
            raise ModelError(
                f"OpenCV {cv2.__version__} has no face cascade at {path}: install "
                "'opencv-python-headless>=4.10,<5', use the detector `ours`, or run "
                "`facestage models pull yunet`"
            )

    def __reduce__(self) -> tuple[type[HaarDetector], tuple[int, int, float]]:
        return HaarDetector, (self.long_side, self.neighbours, self.step)

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        """Return frontal faces; the score is the number of windows that agree.

        Args:
            image: ``(H, W, 3)`` uint8, BGR.
            smallest: width below which faces may be left out, pixels. The small windows, of which
                there are most, take most of the time: from 36 instead of 24 pixels on it is half.
        """
        small, scale_x, scale_y = _reduce(image, self.long_side)
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        if min(grey.shape) < 24:  # the cascade's window
            return []
        # The windows that agree on a face differ in size, by a fifth as a rule.
        least = max(24, int(smallest * scale_x / 1.25))
        boxes, counts = self._cascade.detectMultiScale2(
            grey, scaleFactor=self.step, minNeighbors=self.neighbours, minSize=(least, least)
        )
        return [
            Detection(
                (
                    float(x / scale_x),
                    float(y / scale_y),
                    float(width / scale_x),
                    float(height / scale_y),
                ),
                float(count),
            )
            for (x, y, width, height), count in zip(boxes, np.ravel(counts), strict=True)
        ]


class YuNetDetector:
    """Faces with five points by the YuNet network.

    Args:
        path: its ONNX file.
        long_side: side of the reduced picture, pixels.
        threshold: least score, 0–1.
        check_hash: refuse a file that is not the YuNet of the registry. False for your own.

    Raises:
        ModelError: no such file, another file than expected, or not a detector.

    References:
        Wu, Peng & Yu, *YuNet: a tiny millisecond-level face detector*, Machine Intelligence
        Research 20, 2023.
    """

    name = "yunet"

    def __init__(
        self,
        path: Path | str,
        long_side: int = 480,
        threshold: float = 0.7,
        check_hash: bool = True,
    ) -> None:
        self.path = Path(path)
        self.long_side = long_side
        self._options = (threshold, check_hash)
        expected = model_store.MODELS["yunet"].sha256
        if not self.path.is_file():
            raise ModelError(
                f"there is no YuNet file at {self.path}: run `facestage models pull yunet`, or use "
                "an embedded detector, `ours` or `haar`"
            )
        digest = model_store.sha256_of(self.path) if check_hash else expected
        if digest != expected:
            raise ModelError(
                f"{self.path} is not the known YuNet: sha256 {digest}, expected {expected}; "
                "run `facestage models pull yunet`"
            )
        try:
            self._network = cv2.FaceDetectorYN.create(
                str(self.path), "", (320, 320), threshold, 0.3, 50
            )
        except cv2.error as error:
            raise ModelError(
                f"OpenCV {cv2.__version__} cannot use {self.path} as a YuNet network: "
                f"{str(error).strip()}; run `facestage models pull yunet`"
            ) from error

    def __reduce__(self) -> tuple[type[YuNetDetector], tuple[Path, int, float, bool]]:
        return YuNetDetector, (self.path, self.long_side, *self._options)

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        """Return faces with points; the score is the network's, 0–1.

        Args:
            image: ``(H, W, 3)`` uint8, BGR.
            smallest: has no effect, as the network sees all sizes at once.
        """
        del smallest
        small, scale_x, scale_y = _reduce(image, self.long_side)
        height, width = small.shape[:2]
        bottom, right = max(0, _SMALLEST_SIDE - height), max(0, _SMALLEST_SIDE - width)
        if bottom or right:
            padded = cv2.copyMakeBorder(small, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            small = padded.astype(np.uint8, copy=False)
        self._network.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._network.detect(small)
        if rows is None:
            return []
        scale = np.array([scale_x, scale_y], np.float32)
        detections = []
        for row in rows:
            x, y, w, h = (float(v) for v in (row[:4].reshape(2, 2) / scale).ravel())
            points = (row[4:14].reshape(5, 2) / scale).astype(np.float32)
            detections.append(Detection((x, y, w, h), float(row[14]), points))
        return detections


def make_detector(spec: str | Path = "auto") -> Detector:
    """Open a face detector.

    Args:
        spec: ``"auto"`` or ``"ours"``, the embedded face finder; ``"haar"``; ``"yunet"`` (must have
            been pulled); the path of a YuNet ONNX file or of a face finder's safetensors file.

    Returns:
        The detector; its ``name`` says which one it is.

    Raises:
        ModelError: the detector asked for cannot be used; the message names the next step.
    """
    choice = str(spec)
    if choice in ("auto", "ours"):
        return OurDetector()
    if choice == "haar":
        return HaarDetector()
    if choice == "yunet":
        return YuNetDetector(model_store.verify("yunet"))
    return OurDetector(choice) if choice.endswith(".safetensors") else YuNetDetector(choice)
