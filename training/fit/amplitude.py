"""How far each Action Unit moves the distances of a face, A to E, beside a smile of real people.

The change is from the same face at rest, found with the same landmarks as the distances of
:mod:`training.fit.rest`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from facestage.core.errors import ConfigError
from numpy.typing import NDArray

from ..data.generator import Generator
from ..face.expressions import only
from ..face.facekit import shared_folder
from .face_mesh import FaceMesh
from .rest import CROP_EYES, DISTANCES, distances, neutral_faces, rendered_distances

__all__ = ["LEVELS", "Amplitude", "rendered_amplitudes", "smiles_of_people"]

LEVELS = (1, 2, 3, 4, 5)
"""FACS intensities A to E."""
FACES = Path("faces") / "faces.csv"
"""List of photographs inside the folder of shared material."""
DETECTOR = Path("models") / "face_detection_yunet_2023mar.onnx"
"""Finds the faces in them, inside the folder of shared material."""
NEUTRAL, SMILES = "london_neutral", "london_smile"
"""Sets of photographs that show the same people."""


@dataclass(frozen=True)
class Amplitude:
    """What one Action Unit does to one distance.

    Attributes:
        au: the Action Unit, alone, both sides alike.
        distance: name in :data:`~training.fit.rest.DISTANCES`.
        pixels: mean change from rest at A to E, pixels of the AU network's crop.
    """

    au: int
    distance: str
    pixels: tuple[float, ...]


def rendered_amplitudes(
    generator: Generator,
    mesh: FaceMesh,
    aus: Sequence[int],
    people: int,
    report: Callable[[int], None] = lambda _: None,
) -> list[Amplitude]:
    """Render people with each Action Unit alone.

    Args:
        generator: of :func:`~training.fit.rest.resting_generator`.
        mesh: finds the landmarks.
        aus: Action Units.
        people: number of people, the same for each.
        report: called with the Action Unit that is done.

    Returns:
        All distances of each Action Unit, those that change most at E first.
    """
    resting = neutral_faces(generator, people)
    at_rest = rendered_distances(generator, mesh, resting)
    amplitudes = []
    for au in aus:
        faces = [replace(face, expression=only(au, level)) for level in LEVELS for face in resting]
        active = rendered_distances(generator, mesh, faces)
        changes = {
            name: (active[name].reshape(len(LEVELS), people) - at_rest[name]).mean(1) * CROP_EYES
            for name in DISTANCES
        }
        amplitudes += sorted(
            (Amplitude(au, name, tuple(change.tolist())) for name, change in changes.items()),
            key=lambda amplitude: -abs(amplitude.pixels[-1]),
        )
        report(au)
    return amplitudes


def smiles_of_people(mesh: FaceMesh, folder: Path | None = None) -> dict[str, NDArray[np.float64]]:
    """Measure people who were photographed neutral and smiling.

    Args:
        mesh: finds the landmarks.
        folder: of shared material; by default the
            :func:`~training.face.facekit.shared_folder`.

    Returns:
        ``(n,)`` change from neutral to smile per distance, pixels of the AU network's crop.

    Raises:
        ConfigError: list or detector are missing, or nobody is in both sets.
    """
    folder = shared_folder() if folder is None else folder
    for needed in (FACES, DETECTOR):
        if not (folder / needed).is_file():
            raise ConfigError(
                f"no {needed.as_posix()} in {folder}: set FACESTAGE_SHARED to the folder that "
                "holds it, or leave out --smiles"
            )
    with (folder / FACES).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = {
        name: {row["person"]: row["file"] for row in rows if row["set"] == name}
        for name in (NEUTRAL, SMILES)
    }
    both = sorted(pictures[NEUTRAL].keys() & pictures[SMILES].keys())
    if not both:
        raise ConfigError(f"{folder / FACES} has nobody in both {NEUTRAL} and {SMILES}")
    detector = cv2.FaceDetectorYN.create(str(folder / DETECTOR), "", (320, 320), 0.6)
    measured = {
        name: distances(
            np.stack(
                [
                    _photograph_landmarks(detector, mesh, folder / "faces" / pictures[name][person])
                    for person in both
                ]
            )
        )
        for name in pictures
    }
    return {
        name: (measured[SMILES][name] - measured[NEUTRAL][name]) * CROP_EYES for name in DISTANCES
    }


def _photograph_landmarks(
    detector: cv2.FaceDetectorYN, mesh: FaceMesh, path: Path
) -> NDArray[np.float64]:
    """Find the 478 landmarks of the largest face in a photograph."""
    image = cv2.imread(str(path))
    if image is None:
        raise ConfigError(f"cannot read {path}: fetch the photographs of {FACES} again")
    detector.setInputSize((image.shape[1], image.shape[0]))
    found = detector.detect(image)[1]
    if found is None:
        raise ConfigError(f"YuNet finds no face in {path}: take it out of {FACES}")
    largest = max(found, key=lambda face: face[2] * face[3])
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    return mesh.landmarks(grey, np.asarray(largest[4:14], np.float64).reshape(5, 2))
