"""Aligned crops of labelled pictures, found once and kept in a folder.

Faces are found as they are live: the same detector, the same tracker, the same alignment. Images
stand alone; videos are followed from their first frame, because that is what a network will see.
The crops have a margin, so that training can shift, turn and scale them.

The cache holds one npz file per image or video, named by the content of the file, the frames
wanted, and everything that changes a crop. A picture without a usable face is left out, counted by
its reason and remembered as such; so is a label past the end of its video, where the data set is
known to have such labels.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.errors import SourceError
from ...core.face.alignment import to_grey, warp
from ...core.face.tracker import Detector, FaceTracker
from ...core.network.au_network import AUNetwork
from ...core.types import FaceObservation
from ..datasets.faces import Item, LabelledFaces
from ..datasets.manifest import is_image
from ..files import write_file
from ..model_store import sha256_of
from ..sources.images import load_image
from ..sources.video import VideoFile

__all__ = [
    "MARGIN",
    "CropSet",
    "centre",
    "collect_crops",
    "detector_identity",
    "frames_to_search",
]

MARGIN = 12
"""Pixels kept around the network's crop on each side: what jitter of training may bring in."""

_FLOAT_SUFFIXES = frozenset({".hdr", ".tif", ".tiff"})
"""Image formats that can hold NaN."""

_VERSION = 1
"""Rises when the same input would give other crops."""


@dataclass(frozen=True, slots=True, eq=False)
class CropSet:
    """Labelled pictures whose face was found.

    Attributes:
        faces: their labels, row for row.
        crops: ``(N, S + 2·MARGIN, S + 2·MARGIN)`` uint8 grey.
        failures: reason → number of pictures left out.
        examples: reason → where the first of them is.
    """

    faces: LabelledFaces
    crops: NDArray[np.uint8]
    failures: dict[str, int]
    examples: dict[str, str]

    def report(self) -> list[str]:
        """Return lines that say how many faces were found, and why the others were not."""
        missing = sum(self.failures.values())
        lines = [f"faces: {len(self.faces)} of {len(self.faces) + missing} pictures"]
        lines += [
            f"  left out: {count} × {reason} (first: {self.examples[reason]})"
            for reason, count in sorted(self.failures.items(), key=lambda pair: -pair[1])
        ]
        return lines


def centre(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the network's crops ``(N, S, S)`` without the margin."""
    return np.ascontiguousarray(crops[:, MARGIN:-MARGIN, MARGIN:-MARGIN])


def frames_to_search(faces: LabelledFaces) -> int:
    """Return how many pictures must be looked at: of a video all up to the last frame wanted."""
    return sum(_length([faces.items[row] for row in rows]) for rows in _by_file(faces).values())


def detector_identity(detector: Detector) -> str:
    """Return what a detector's finds depend on: its name, and the content of its weights file.

    Raises:
        ModelError: the file is gone.
    """
    path: Path | None = getattr(detector, "path", None)  # embedded detectors have no file
    return detector.name if path is None else f"{detector.name} {sha256_of(path)}"


def collect_crops(
    faces: LabelledFaces,
    network: AUNetwork,
    detector: Detector,
    cache: Path | None,
    *,
    on_progress: Callable[[int, Path], None] | None = None,
) -> CropSet:
    """Find and cut out the face of every picture, from the cache where it knows it.

    Args:
        faces: the pictures.
        network: gives template, size and landmarks for the alignment.
        detector: finds faces.
        cache: folder of the crops, made if needed; None keeps nothing.
        on_progress: called with (pictures looked at, of :func:`frames_to_search`; their file) after
            each file and each frame of a video.

    Returns:
        The crops, in the order of ``faces``.

    Raises:
        SourceError: a file cannot be read, a frame does not exist (where that is allowed, see
            :class:`Item`: most frames of a file), or no picture holds a usable face.
        ModelError: the cache cannot be written, or the detector's weights file is gone.
    """
    finder = _Finder(network, detector)
    side = finder.side + 2 * MARGIN
    crops = np.empty((len(faces), side, side), np.uint8)
    reasons = np.empty(len(faces), object)
    done = 0
    for path, rows in _by_file(faces).items():
        items = [faces.items[row] for row in rows]

        def on_frame(count: int, before: int = done, path: Path = path) -> None:
            if on_progress is not None:
                on_progress(before + count, path)

        crops[rows], reasons[rows] = _crops_of(path, items, finder, cache, on_frame)
        done += _length(items)
        on_frame(_length(items))
    usable = np.array([not reason for reason in reasons], bool)
    failures = Counter(reason for reason in reasons if reason)
    examples: dict[str, str] = {}
    for item, reason in zip(faces.items, reasons, strict=True):
        if reason:
            place = str(item.path) if item.frame is None else f"{item.path}, frame {item.frame}"
            examples.setdefault(reason, place)
    if not usable.any():
        why = ", ".join(f"{count} × {reason}" for reason, count in failures.most_common())
        raise SourceError(
            f"in none of the {len(faces)} pictures a usable face was found ({why}); check that "
            "faces are not turned away and at least 40 pixels wide, or use another detector "
            "(--detector ours, haar, or yunet after `facestage models pull yunet`)"
        )
    rows_found = np.flatnonzero(usable)
    for to, row in enumerate(rows_found):  # in place: a copy of all crops may not fit beside them
        if to != row:
            crops[to] = crops[row]
    return CropSet(faces.take(rows_found), crops[: len(rows_found)], dict(failures), examples)


@dataclass(frozen=True, slots=True, eq=False)
class _FileCrops:
    """What one file holds.

    Attributes:
        crops: ``(n, side, side)`` uint8, in the order of the frames wanted.
        reasons: what is against each; empty where nothing is.
        end: frames of the video, where one past them was wanted; else 0.
    """

    crops: NDArray[np.uint8]
    reasons: list[str]
    end: int = 0


class _Finder:
    """Finds faces and cuts crops with a margin; knows what its crops depend on."""

    def __init__(self, network: AUNetwork, detector: Detector) -> None:
        card = network.card
        self.side = card.input_size
        self._tracker = FaceTracker.of_network(detector, network)
        facts = (_VERSION, MARGIN, detector_identity(detector), card.sha256, card.input_size)
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(card.template.tobytes() + card.template_weights.tobytes())
        self.fingerprint = digest.digest()

    def image(self, item: Item) -> _FileCrops:
        """Find the face of an image."""
        try:
            image = load_image(item.path)
            _refuse_nan(item.path)
        except SourceError as error:
            raise SourceError(f"{item.origin}: {error}") from error
        self._tracker.reset()
        crop, reason = self._cut(image, self._tracker.update(image))
        return _FileCrops(crop[None], [reason])

    def video(self, item: Item, frames: list[int], on_frame: Callable[[int], None]) -> _FileCrops:
        """Follow the face of a video to the last of these frames, or to its end."""
        side = self.side + 2 * MARGIN
        crops = np.zeros((len(frames), side, side), np.uint8)
        reasons = [""] * len(frames)
        place = {frame: i for i, frame in enumerate(frames)}
        self._tracker.reset()
        try:
            source = VideoFile(item.path)
        except SourceError as error:
            raise SourceError(f"{item.origin}: {error}") from error
        with source:
            for count in range(max(frames) + 1):
                grab = source.read()
                if grab is None:
                    return _FileCrops(crops, reasons, count)
                face = self._tracker.update(grab.image)
                if (i := place.get(grab.index)) is not None:
                    crops[i], reasons[i] = self._cut(grab.image, face)
                on_frame(count + 1)
        return _FileCrops(crops, reasons)

    def _cut(
        self, image: NDArray[np.uint8], face: FaceObservation
    ) -> tuple[NDArray[np.uint8], str]:
        side = self.side + 2 * MARGIN
        if face.crop is None or face.matrix is None:
            return np.zeros((side, side), np.uint8), face.reason or "no face found"
        wider = face.matrix.copy()
        wider[:, 2] += MARGIN
        return warp(to_grey(image), wider, side), ""


def _refuse_nan(path: Path) -> None:
    """Raise for a float image with NaN in it, which showing takes for black.

    Raises:
        SourceError: there is one.
    """
    if path.suffix.lower() not in _FLOAT_SUFFIXES:
        return
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or not np.issubdtype(pixels.dtype, np.floating):
        return
    broken = int((~np.isfinite(pixels)).sum())
    if broken:
        raise SourceError(
            f"{path} has {broken} values that are NaN or infinite; repair it, or remove the row"
        )


def _by_file(faces: LabelledFaces) -> dict[Path, list[int]]:
    """Return file → rows of its pictures."""
    rows: dict[Path, list[int]] = {}
    for row, item in enumerate(faces.items):
        rows.setdefault(item.path, []).append(row)
    return rows


def _crops_of(
    path: Path,
    items: list[Item],
    finder: _Finder,
    cache: Path | None,
    on_frame: Callable[[int], None],
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the crop and the reason against it of each item of one file."""
    frames = sorted({item.frame or 0 for item in items})
    file = None if cache is None else cache / f"{_key(path, items[0], frames, finder)}.npz"
    cut = None if file is None else _read(file, len(frames), finder)
    if cut is None:
        first = items[0]
        cut = finder.image(first) if is_image(path) else finder.video(first, frames, on_frame)
        if file is not None:
            buffer = io.BytesIO()
            texts = np.array(cut.reasons, np.str_)
            np.savez(buffer, crops=cut.crops, reasons=texts, end=cut.end)
            write_file(file, buffer.getvalue())
    if cut.end:
        _check_past_end(items, cut.end)
    place = {frame: i for i, frame in enumerate(frames)}
    at = [place[item.frame or 0] for item in items]
    past = f"past the end of {path.name} ({cut.end} frames)"
    reasons = [past if cut.end and frames[i] >= cut.end else cut.reasons[i] for i in at]
    return cut.crops[at], reasons


def _check_past_end(items: list[Item], end: int) -> None:
    """Raise for frames past the end of a video, unless that is allowed and most are within it.

    Raises:
        SourceError: one is not allowed there, or most are there.
    """
    past = [item for item in items if (item.frame or 0) >= end]
    refused = [item for item in past if not item.past_end_allowed]
    if refused:
        item = refused[0]
        raise SourceError(
            f"{item.origin}: frame {item.frame} of {item.path} does not exist, only {end} frames "
            "can be read; frames count from 0"
        )
    if len(past) > len(items) / 2:
        raise SourceError(
            f"{past[0].origin}: {len(past)} of {len(items)} labelled frames are past the end of "
            f"{past[0].path}, of which only {end} frames can be read; copy the whole video again, "
            "or the labels that belong to it"
        )


def _key(path: Path, item: Item, frames: list[int], finder: _Finder) -> str:
    digest = hashlib.sha256(finder.fingerprint)
    try:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise SourceError(
            f"{item.origin}: {path} cannot be read: {error.strerror or error}; check its "
            "permissions"
        ) from error
    digest.update(np.array(frames, np.int64).tobytes())
    return digest.hexdigest()[:32]


def _read(file: Path, count: int, finder: _Finder) -> _FileCrops | None:
    """Return what the cache holds; None where it holds nothing whole, which is then made anew."""
    side = finder.side + 2 * MARGIN
    try:
        with np.load(file, allow_pickle=False) as stored:
            crops, reasons, end = stored["crops"], stored["reasons"], int(stored["end"])
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if crops.shape != (count, side, side) or crops.dtype != np.uint8 or len(reasons) != count:
        return None
    return _FileCrops(crops, [str(reason) for reason in reasons], end)


def _length(items: list[Item]) -> int:
    """Return how many pictures of one file must be looked at."""
    return 1 + max(item.frame or 0 for item in items)
