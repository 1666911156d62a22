"""Real portraits as training faces, with the labels that their kind allows.

A portrait was not coded by anybody. What is known of it is what its kind says: a face that was
called neutral shows no Action Unit, a plain smile shows AU 12 and none that a smile has not, and
nobody screams, frowns with all might or shuts the eyes in an official portrait. A portrait that
nobody called anything smiles if its mouth is wider, with higher corners, than any neutral one.
Everything else is unknown (NaN), and teaches nothing.

References:
    DeBruine & Jones, *Face Research Lab London Set*, 2017, doi 10.6084/m9.figshare.5047666;
    DeBruine & Jones, *Young Adult White Faces with Manipulated Versions*, 2017, doi
    10.6084/m9.figshare.4220517.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from facestage.core.errors import ConfigError
from facestage.core.face.alignment import similarity
from numpy.typing import NDArray

from ..data.generator import RenderedBatch
from ..face.facekit import shared_folder
from ..face.facs import AU_INDEX, AUS
from ..fit.face_mesh import FILE as MESH
from ..fit.face_mesh import FaceMesh
from ..fit.rest import distances
from ..render.scene import CANVAS, MARGIN, TEMPLATE, TEMPLATE_WEIGHTS
from .fit import multi_pie
from .halves import CHOOSE, half_of, is_trained_with

__all__ = [
    "Mouth",
    "Portrait",
    "labels",
    "list_portraits",
    "on_canvas",
    "parted_lips",
    "portrait_batch",
]

TABLE = Path("faces") / "faces.csv"
"""The list of photographs inside the folder of shared material."""
DETECTOR = Path("models") / "face_detection_yunet_2023mar.onnx"
"""The network that finds the faces, there too."""
FIRST_IDENTITY = 1_500_000_000
"""Identity numbers from here on are people in portraits; rendered and acting people stay below."""

NEUTRAL, NEAR_NEUTRAL, SMILE, WEAK_SMILE = "neutral", "near_neutral", "smile", "weak_smile"
NOT_LABELLED = "not_labelled"
_NOT_IN_A_SMILE = (1, 2, 4, 5, 9, 10, 14, 15, 16, 17, 18, 20, 22, 23, 24, 27, 28, 43)
"""AUs that a plain posed smile does not show. It may show 6, 7, 25 and 26."""
_NOT_IN_A_PORTRAIT = (4, 9, 15, 18, 22, 27, 28, 43)
"""AUs that nobody shows in an official portrait, whatever else they do."""
_UPPER = (1, 2, 4, 5, 9, 43)
"""AUs of the upper face, absent in a face called near neutral."""
LIPS_TOGETHER, LIPS_APART = 0.03, 0.07
"""Gap between the inner lips, distances between the eyes, up to which AU 25 is absent, and from
which it is present. In between it is unknown."""
_GAP_AT_E = 0.29
"""Gap at AU 25 E: that of the renders, .95 cm of 3.3 cm and a half of a rendered face's eyes."""
WIDE_MOUTH, HIGH_CORNERS = 0.95, 0.03
"""A portrait without a label smiles if its mouth is wider, and its corners are higher above the lip
line, than this, distances between the eyes. None of 72 neutral people is beyond both."""
SMILES_AT = 3.0
"""Intensity that stands for *there*, FACS C: nobody said how much (`training.fit.train` does not
learn it)."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """One photograph and what is known of it.

    Attributes:
        path: where it lies.
        person: name of the person, the same for every picture of them.
        expression: ``neutral``, ``near_neutral``, ``smile``, ``weak_smile`` or ``not_labelled``.
    """

    path: Path
    person: str
    expression: str


def list_portraits(folder: Path | None = None) -> list[Portrait]:
    """Return the portraits that may be trained with, in the order of the list.

    Of the people with a label these are :func:`~training.photos.halves.is_trained_with`; of the
    others all of the half that weights are chosen by, for nothing is chosen by their pictures. The
    people of the other half are reported on: no option trains with them.

    Args:
        folder: of shared material; by default the :func:`~training.face.facekit.shared_folder`.

    Raises:
        ConfigError: the list is missing or lacks a column.
    """
    folder = shared_folder() if folder is None else folder
    path = folder / TABLE
    if not path.is_file():
        raise ConfigError(
            f"no list of photographs at {path}: set FACESTAGE_SHARED to the folder that holds "
            f"{TABLE.as_posix()}"
        )
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return [
            Portrait(path.parent / row["file"], row["person"], row["expression"])
            for row in rows
            if _may_be_used(row["person"], row["expression"])
        ]
    except KeyError as error:
        raise ConfigError(f"{path} has no column {error}; it needs file, person, expression") from (
            error
        )


def _may_be_used(person: str, expression: str) -> bool:
    if expression == NOT_LABELLED:
        return half_of(person) == CHOOSE
    return is_trained_with(person)


def on_canvas(
    grey: NDArray[np.uint8], points: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut a stored face out of a photograph, aligned as renders are.

    Args:
        grey: ``(H, W)`` uint8.
        points: ``(68, 2)`` px.

    Returns:
        ``(136, 136)`` uint8, and the points in template units, ``(68, 2)`` float32.
    """
    five = np.stack(
        [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
    )
    matrix = np.asarray(similarity(five, TEMPLATE, TEMPLATE_WEIGHTS), np.float64)
    units = points @ matrix[:, :2].T + matrix[:, 2]
    shrink = 1 / float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if shrink > 1.0:
        # The blur that averaging over the area of a pixel would give.
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), 0.45 * shrink), np.uint8)
    # Template unit u lies at pixel u + MARGIN.
    placed = matrix + np.array([[0, 0, MARGIN], [0, 0, MARGIN]])
    canvas = cv2.warpAffine(
        grey, placed, (CANVAS, CANVAS), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(canvas, np.uint8), units.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Mouth:
    """A mouth as measured, in distances between the eyes.

    Attributes:
        gap: between the inner lips.
        width: from corner to corner.
        corners: height above the lip line.
    """

    gap: float
    width: float
    corners: float

    @property
    def smiles(self) -> bool:
        """Whether no neutral mouth is like this."""
        return self.width > WIDE_MOUTH and self.corners > HIGH_CORNERS


def labels(expression: str, mouth: Mouth) -> NDArray[np.float32]:
    """Say what is known of a portrait.

    Args:
        expression: as in :class:`Portrait`.
        mouth: of the picture.

    Returns:
        ``(23,)`` float32: 0 where an AU is surely absent, :data:`SMILES_AT` where it is there, NaN
        where unknown.
    """
    known = np.full(len(AUS), np.nan, np.float32)
    smiles = expression == SMILE
    absent: Sequence[int] = _NOT_IN_A_PORTRAIT
    if expression == NEUTRAL:
        absent = [au for au in AUS if au not in (25, 26)]
    elif expression == NEAR_NEUTRAL:
        absent = _UPPER
    elif expression in (SMILE, WEAK_SMILE):
        absent = _NOT_IN_A_SMILE
    elif mouth.smiles:
        # Some of them raise their brows, too.
        smiles = True
        absent = [au for au in _NOT_IN_A_SMILE if au not in (1, 2, 5)]
    known[[AU_INDEX[au] for au in absent]] = 0
    if smiles and mouth.gap > LIPS_APART:
        # A smile that shows the teeth has raised the upper lip, be that AU 10 or not.
        known[AU_INDEX[10]] = np.nan
    if smiles:
        known[AU_INDEX[12]] = SMILES_AT
    if mouth.gap < LIPS_TOGETHER:
        known[AU_INDEX[25]] = 0
        if expression == NEUTRAL:
            known[AU_INDEX[26]] = 0
    elif mouth.gap > LIPS_APART:
        known[AU_INDEX[25]] = SMILES_AT
    return known


def portrait_batch(
    portraits: Sequence[Portrait], mesh: FaceMesh | None = None, folder: Path | None = None
) -> tuple[RenderedBatch, list[Path]]:
    """Make training faces of portraits.

    Args:
        portraits: of :func:`list_portraits`.
        mesh: finds the landmarks.
        folder: of shared material, for the detector.

    Returns:
        The faces in order, and the pictures in which no face was found.

    Raises:
        ConfigError: a picture, the detector or the landmark network is missing.
    """
    mesh = FaceMesh() if mesh is None else mesh
    measured = list(_measured(portraits, mesh, shared_folder() if folder is None else folder))
    found = [(p, m) for p, m in zip(portraits, measured, strict=True) if m is not None]
    lost = [p.path for p, m in zip(portraits, measured, strict=True) if m is None]
    people = {person: n for n, person in enumerate(sorted({p.person for p, _ in found}))}
    intensity = [labels(p.expression, m.mouth) for p, m in found]
    batch = RenderedBatch(
        image=np.stack([m.image for _, m in found]),
        intensity=np.stack(intensity),
        landmarks=np.stack([m.points for _, m in found]),
        # Never a multiple of twenty: those are held out, and these people are few.
        identity=np.array([FIRST_IDENTITY + 20 * people[p.person] + 1 for p, _ in found]),
        index=np.arange(len(found)),
    )
    return batch, lost


def parted_lips(pictures: Sequence[Path], folder: Path | None = None) -> set[Path]:
    """Return the pictures in which the lips do not meet, by the mesh; or in which no face is found.

    Args:
        pictures: of faces.
        folder: of shared material, for detector and landmark network.

    Raises:
        ConfigError: a picture, the detector or the landmark network is missing.
    """
    portraits = [Portrait(path, path.stem, NEUTRAL) for path in pictures]
    folder = shared_folder() if folder is None else folder
    measured = _measured(portraits, FaceMesh(folder / MESH), folder)
    return {
        portrait.path
        for portrait, face in zip(portraits, measured, strict=True)
        if face is None or face.mouth.gap >= LIPS_TOGETHER
    }


@dataclass(frozen=True, slots=True)
class _Measured:
    image: NDArray[np.uint8]
    points: NDArray[np.float32]
    mouth: Mouth


def _measured(
    portraits: Sequence[Portrait], mesh: FaceMesh, folder: Path
) -> Iterator[_Measured | None]:
    if not (folder / DETECTOR).is_file():
        raise ConfigError(
            f"no {DETECTOR.as_posix()} in {folder}: set FACESTAGE_SHARED to the folder that holds "
            "it"
        )
    detector = cv2.FaceDetectorYN.create(str(folder / DETECTOR), "", (320, 320), 0.6)
    for portrait in portraits:
        image = cv2.imread(str(portrait.path))
        if image is None:
            raise ConfigError(f"cannot read {portrait.path}: fetch the photographs again")
        detector.setInputSize((image.shape[1], image.shape[0]))
        faces = detector.detect(image)[1]
        if faces is None:
            yield None
            continue
        largest = max(faces, key=lambda face: face[2] * face[3])
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        points = mesh.landmarks(grey, np.asarray(largest[4:14], np.float64).reshape(5, 2))
        measures = {name: float(values[0]) for name, values in distances(points[None]).items()}
        canvas, units = on_canvas(grey, multi_pie(points))
        yield _Measured(
            canvas,
            units,
            Mouth(measures["lip_gap"], measures["mouth_width"], measures["corner_above_lipline"]),
        )
