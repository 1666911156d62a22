"""The photographs that are made to act: who they are, and what is known of each before it moves.

A donor is one neutral portrait with the face model fitted to it. The photograph is the texture: all
a picture needs to know is which place of the photograph each point of the moved face came from.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from facestage.core.errors import ConfigError, SourceError
from facestage.core.face.alignment import similarity, transform
from numpy.typing import NDArray

from ..data.loader import VALIDATION_SHARE
from ..face.expressions import LIPS_MET
from ..face.facekit import FaceKit, shared_folder
from ..face.facs import AUS, Anatomy
from ..face.traits import BROW_ROOM, FARTHEST
from ..fit.face_mesh import FILE as MESH
from ..fit.face_mesh import FaceMesh
from ..render.gbuffer import SKIN
from ..render.raster import vertex_normals
from ..render.scene import TEMPLATE, TEMPLATE_WEIGHTS
from .fit import EYES, Fit, eye_distance, fit_mesh, irises, lip_gap, multi_pie
from .halves import is_trained_with
from .texture import Texture, bridge_edge, read_texture

__all__ = [
    "FIRST_IDENTITY",
    "Donor",
    "Portrait",
    "find_portraits",
    "prepare",
    "read_donors",
]

NEUTRAL, NEAR_NEUTRAL = "neutral", "near_neutral"
"""What a portrait shows, by eye: nothing, or nothing but perhaps a trace about the mouth."""
FACES = Path("faces") / "faces.csv"
"""List of photographs inside the folder of shared material."""
DETECTOR = Path("models") / "face_detection_yunet_2023mar.onnx"
"""Finds the faces in them, inside the folder of shared material."""
FIRST_IDENTITY = 1_000_000_000
"""Identities of donors begin here, far beyond those of rendered faces; a multiple of
:data:`~training.data.loader.VALIDATION_SHARE`."""
WORST_FIT = 0.06
"""Greatest mean distance of mesh and landmarks of a usable fit, distances between the eyes."""
LEAST_FACING = 0.8
"""Least cosine between face and camera: beyond, one half of the face has no texture."""
FEWEST_PIXELS = 40.0
"""Least distance between the eyes of a usable photograph, px: below it is less than the crop's."""
LIPS_PARTED = 0.02
"""Gap between the lips from which they may be parted, distances between the eyes."""
BROWS_ABOVE_LIDS, BROWS_SPREAD = 9.7, 2.0
"""Median and standard deviation, over the portraits, of the way from brow to upper lid, units."""
GLASSES = 0.11
"""Edge across the bridge of the nose from which it is that of glasses. Of 73 portraits the 66
without have up to .059, the 7 with glasses .172 and more."""
MOUTH = (10, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27, 28)
"""Action Units that a trace about the mouth may be."""


@dataclass(frozen=True)
class Portrait:
    """One photograph of the list.

    Attributes:
        path: where it lies.
        person: name of the person.
        kind: ``neutral`` or ``near_neutral``.
        identity: number of the person, the same in every picture; never held out.
    """

    path: Path
    person: str
    kind: str
    identity: int


@dataclass(frozen=True)
class Donor:
    """A photograph ready to act. Units are those of the template, y down.

    Attributes:
        identity: number of the person.
        unknown: Action Units of which the photograph may already show something.
        landmarks: ``(68, 2)`` float32, units.
        vertices: ``(N, 3)`` float32, x and y in units, depth (nearer is larger) on the same scale.
        shape: ``(N, 3)`` float32, the neutral mesh in model space, cm.
        normals: ``(N, 3)`` float32, unit, camera space.
        turn: ``(3, 3)`` float32 rotation from model to camera space.
        project: ``(3, 3)`` float32; a displacement of the model, cm, times this transposed is one
            in units and depth.
        rest: the face at rest, in the face model's terms.
        texture: the photograph.
    """

    identity: int
    unknown: tuple[int, ...]
    landmarks: NDArray[np.float32]
    vertices: NDArray[np.float32]
    shape: NDArray[np.float32]
    normals: NDArray[np.float32]
    turn: NDArray[np.float32]
    project: NDArray[np.float32]
    rest: Anatomy
    texture: Texture


def find_portraits(folder: Path) -> list[Portrait]:
    """List the neutral portraits of the people that are trained with.

    Nobody else may act: figures are reported on others, and thresholds chosen by others, and a
    network that was trained on their faces would know them. So there is no way to ask for them.

    Args:
        folder: of shared material.

    Raises:
        ConfigError: the list is missing or cannot be read.
    """
    path = folder / FACES
    if not path.is_file():
        raise ConfigError(
            f"no list of photographs at {path}: set FACESTAGE_SHARED to the folder that holds "
            f"{FACES.as_posix()}"
        )
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                (row["file"], row["person"], row["expression"])
                for row in csv.DictReader(file)
                if row["expression"] in (NEUTRAL, NEAR_NEUTRAL) and is_trained_with(row["person"])
            ]
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{path} cannot be read ({error!r}): it needs the columns file, person and expression"
        ) from error
    number = {person: k for k, person in enumerate(sorted({person for _, person, _ in rows}))}
    return [
        Portrait(path.parent / file, person, kind, identity_of(number[person]))
        for file, person, kind in sorted(rows)
    ]


def identity_of(number: int) -> int:
    """Return the identity of a donor by number from 0, passing over those that are held out."""
    rows, rest = divmod(number, VALIDATION_SHARE - 1)
    return FIRST_IDENTITY + rows * VALIDATION_SHARE + rest + 1


def read_donors(kit: FaceKit, folder: Path | None = None) -> tuple[list[Donor], list[str]]:
    """Read and fit all portraits that may act.

    Args:
        kit: the face model.
        folder: of shared material; by default the :func:`~training.face.facekit.shared_folder`.

    Returns:
        The donors, and for each portrait that is none its file with the reason.

    Raises:
        ConfigError: list, detector or landmark network are missing, a photograph cannot be read,
            or no portrait can be used.
    """
    folder = shared_folder() if folder is None else folder
    portraits = find_portraits(folder)
    if not (folder / DETECTOR).is_file():
        raise ConfigError(
            f"no face detector at {folder / DETECTOR}: set FACESTAGE_SHARED to the folder that "
            f"holds {DETECTOR.as_posix()} (OpenCV Zoo, MIT)"
        )
    detector = cv2.FaceDetectorYN.create(str(folder / DETECTOR), "", (320, 320), 0.6)
    mesh = FaceMesh(folder / MESH)
    donors, skipped = [], []
    for portrait in portraits:
        try:
            donors.append(prepare(kit, portrait, *_landmarks(detector, mesh, portrait.path)))
        except SourceError as error:
            skipped.append(f"{portrait.path.name}: {error}")
    if not donors:
        raise ConfigError(
            f"none of {len(portraits)} portraits of {folder / FACES} can be used "
            f"({skipped[0] if skipped else 'none is neutral'}); fetch the photographs again"
        )
    return donors, skipped


def _landmarks(
    detector: cv2.FaceDetectorYN, mesh: FaceMesh, path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read a photograph; return it in grey with the ``(478, 2)`` landmarks of its largest face.

    Raises:
        ConfigError: the file cannot be read.
        SourceError: no face is found.
    """
    image = cv2.imread(str(path))
    if image is None:
        raise ConfigError(f"cannot read {path}: fetch the photographs of {FACES} again")
    detector.setInputSize((image.shape[1], image.shape[0]))
    found = detector.detect(image)[1]
    if found is None:
        raise SourceError("no face is found in it")
    largest = max(found, key=lambda face: face[2] * face[3])
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    five = np.asarray(largest[4:14], np.float64).reshape(5, 2)
    return grey, mesh.landmarks(grey, five)


def prepare(
    kit: FaceKit, portrait: Portrait, grey: NDArray[np.uint8], points: NDArray[np.float64]
) -> Donor:
    """Fit the face model to a portrait and make it ready to act.

    Args:
        kit: the face model.
        portrait: whose it is and what it shows.
        grey: ``(H, W)`` the photograph.
        points: ``(478, 2)`` landmarks of MediaPipe, px.

    Raises:
        SourceError: the face is too small, turned away or not fitted, or wears glasses.
    """
    landmarks = multi_pie(points)
    between = eye_distance(landmarks)
    if not between >= FEWEST_PIXELS:
        raise SourceError(f"its eyes are {between:.0f} px apart, less than {FEWEST_PIXELS:.0f}")
    fit = fit_mesh(kit, landmarks)
    if fit.turn[2, 2] < LEAST_FACING:
        raise SourceError("the face is turned away")
    if not fit.residual <= WORST_FIT:
        raise SourceError(
            f"the face model misses its landmarks by {fit.residual:.3f} distances between the "
            f"eyes, more than {WORST_FIT}"
        )
    to_units = similarity(five_points(landmarks), TEMPLATE, TEMPLATE_WEIGHTS)
    size = float(np.hypot(*to_units[:, 0]))
    shape = fit.shape.astype(np.float32)
    normals = vertex_normals(torch.from_numpy(shape)[None], kit.triangles, kit.opaque_count)
    normals = (normals[0].numpy() @ fit.turn.T).astype(np.float32)
    flat = transform(to_units, fit.screen)
    marks = transform(to_units, landmarks)
    skin = kit.vertex_region == SKIN
    eyes = irises(points)
    eyes = np.column_stack([transform(to_units, eyes[:, :2]), eyes[:, 2] * size])
    texture = read_texture(grey, to_units, marks, eyes, flat[skin], normals[skin])
    if bridge_edge(texture.photo, marks) > GLASSES:
        raise SourceError("the face wears glasses, which would move with brows and cheeks")
    return Donor(
        identity=portrait.identity,
        unknown=_unknown(portrait.kind, lip_gap(landmarks)),
        landmarks=marks,
        vertices=np.column_stack([flat, fit.depth * size]).astype(np.float32),
        shape=shape,
        normals=normals,
        turn=fit.turn.astype(np.float32),
        project=_projection(fit, to_units, size),
        rest=_at_rest(fit, brow_room(marks)),
        texture=texture,
    )


def five_points(landmarks: NDArray[np.floating]) -> NDArray[np.floating]:
    """Reduce ``(68, 2)`` landmarks to ``(5, 2)``: eye centres, nose tip and mouth corners."""
    return np.stack([*(landmarks[eye].mean(0) for eye in EYES), *landmarks[[30, 48, 54]]])


def _projection(fit: Fit, to_units: NDArray[np.float32], size: float) -> NDArray[np.float32]:
    """Return the matrix that takes displacements of the model, cm, to units and depth."""
    camera_to_units = np.zeros((3, 3))
    camera_to_units[:2, :2] = to_units[:, :2] * (1, -1)
    camera_to_units[2, 2] = size
    return (fit.scale * camera_to_units @ fit.turn).astype(np.float32)


def _at_rest(fit: Fit, room: float) -> Anatomy:
    """Describe the fitted face in the terms of the Action Unit tables.

    The lips of a neutral face meet; where the fit leaves them, to a tenth of an eye distance, would
    else decide AU 25.
    """
    typical = np.ones(len(AUS))
    parts = dict.fromkeys(("browDown", "browKnit"), room)
    return Anatomy(fit.identity, typical, typical, dict(fit.rest), parts, lip_gap=LIPS_MET[0])


def brow_room(landmarks: NDArray[np.floating]) -> float:
    """Return how far the brows of ``(68, 2)`` landmarks, units, still go down; 1 for most."""
    lids, brows = landmarks[[37, 38, 43, 44], 1].mean(), landmarks[[19, 20, 23, 24], 1].mean()
    low = (BROWS_ABOVE_LIDS - (lids - brows)) / (FARTHEST * BROWS_SPREAD)
    return 1 - BROW_ROOM * float(np.clip(low, 0, 1))


def _unknown(kind: str, gap: float) -> tuple[int, ...]:
    """Return the Action Units that a portrait may already show.

    Args:
        kind: of the portrait.
        gap: between its lips, distances between the eyes.
    """
    if kind == NEAR_NEUTRAL:
        return MOUTH
    return (25, 26) if gap > LIPS_PARTED else ()
