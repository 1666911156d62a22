"""Whole heads to compose scenes of: rendered ones at any pose, and photographs of people.

Crops for the AU network end at the chin and the brow. A detector must see where a face ends, so
here the head has its hair, neck and shoulders, a mask to cut it out with, and poses as they occur
around a bed and not only before a webcam.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from pathlib import Path

import cv2
import numpy as np
import torch
from facestage.core.errors import ConfigError
from numpy.typing import NDArray

from ..augment.camera import DISPLAY_GAMMA, to_light
from ..augment.canvas import SIZE
from ..augment.occluders import occlude
from ..data.generator import Face, Generator
from ..face.facekit import FaceKit, shared_folder
from ..fit.face_mesh import FaceMesh
from ..photos.halves import CHOOSE, digest, half_of
from ..render.gbuffer import GBuffer, draw_gbuffer
from ..render.hair import hair_layers
from ..render.scene import CANVAS, PIVOT, Pose, View, five_points
from ..render.shading import _frame, _head_plane, shade
from ..render.skin import surface_coordinates

__all__ = ["Head", "Stock", "chooses", "photographed_heads", "rendered_heads"]

SIDE = 256
"""Side of a stored head, pixels."""
FACE_SHARE = 0.4
"""The face (brow to chin, cheek to cheek) of a rendered head takes this share of the side."""
FOREHEAD = 0.78
"""The rendered face is outlined up to this share of the distance from eyes to chin, above them."""
OUTLINED = (1.058, 0.68, 1.095)
"""Times that the outline of a portrait (the oval of MediaPipe's mesh) is as far from the eyes as
that of a rendered head: across, above and below. Measured on 318 frontal portraits and 146 frontal
renders in distances between the eyes: .865 and 1.273 above, 1.872 and 1.709 below, width 2.299 and
2.172. A finder trained on both must be told the same of both."""
OCCLUDED_SHARE = 0.35
"""Share of the heads that also wear or hold something before the face."""
_POSE_STREAM, _OCCLUDER_STREAM = 81, 82
_BATCH = 8

MESH_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
"""The outline of the face among the 478 points of the mesh."""
MESH_EYES = ((33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380))
MESH_NOSE, MESH_MOUTH = 4, (61, 291)
MESH68 = (
    *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 81, 13, 311, 308, 402, 14, 178),
)
"""The 68 Multi-PIE landmarks among the 478 of the mesh."""
TABLE = Path("faces") / "faces.csv"
DETECTOR = Path("models") / "face_detection_yunet_2023mar.onnx"


@dataclass(frozen=True, slots=True)
class Head:
    """One head to paste.

    Attributes:
        image: ``(256, 256)`` uint8 grey.
        alpha: ``(256, 256)`` uint8, 255 where the person is.
        outline: ``(N, 2)`` float32, points around the face, pixels.
        points: ``(5, 2)`` float32, the five points, pixels; the viewer's left first.
        visible: ``(5,)`` bool.
        extent: ``(2,)`` int64, width and height of the part that is a picture.
        whole: what is around the person is a photograph, too, and may be pasted with it.
    """

    image: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    outline: NDArray[np.float32]
    points: NDArray[np.float32]
    visible: NDArray[np.bool_]
    extent: NDArray[np.int64]
    whole: bool

    @property
    def around(self) -> NDArray[np.float32]:
        """Return the ``(N + 5, 2)`` points that the box of the face goes around."""
        return np.concatenate([self.outline, self.points])


@dataclass(frozen=True, slots=True)
class Stock:
    """Heads on disk, one array a field."""

    heads: tuple[Head, ...]

    def write(self, path: Path) -> None:
        """Write the heads; outlines are padded by their first point."""
        most = max(len(h.outline) for h in self.heads)
        outlines = [
            np.concatenate([h.outline, np.repeat(h.outline[:1], most - len(h.outline), 0)])
            for h in self.heads
        ]
        partial = path.with_name(f".{path.stem}.partial")
        with partial.open("wb") as file:
            np.savez(
                file,
                image=np.stack([h.image for h in self.heads]),
                alpha=np.stack([h.alpha for h in self.heads]),
                outline=np.stack(outlines).astype(np.float32),
                points=np.stack([h.points for h in self.heads]).astype(np.float32),
                visible=np.stack([h.visible for h in self.heads]),
                extent=np.stack([h.extent for h in self.heads]),
                whole=np.array([h.whole for h in self.heads]),
            )
        partial.replace(path)

    @staticmethod
    def read(paths: Sequence[Path]) -> Stock:
        """Read and join files.

        Raises:
            ConfigError: there is none, or one cannot be read.
        """
        if not paths:
            raise ConfigError("there are no heads: run `python -m training finder-heads` first")
        heads: list[Head] = []
        for path in paths:
            try:
                with np.load(path) as data:
                    columns = [data[field.name] for field in fields_of(Head)]
            except (OSError, KeyError, ValueError) as error:
                raise ConfigError(
                    f"{path} holds no heads ({error}): delete it and make it again"
                ) from error
            heads += [Head(*row[:6], bool(row[6])) for row in zip(*columns, strict=True)]
        return Stock(tuple(heads))


# -- rendered --------------------------------------------------------------------------------------


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw how a head is turned: half as before a webcam, half anyhow within 80 and 40 degrees.

    The roll in the picture is the composer's affair.
    """
    if rng.random() < 0.5:
        yaw, pitch = rng.normal(0, 14), rng.normal(0, 9)
    else:
        yaw, pitch = rng.uniform(-80, 80), rng.uniform(-40, 40)
    distance = np.exp(rng.uniform(np.log(45), np.log(300)))
    angles = np.deg2rad([np.clip(yaw, -80, 80), np.clip(pitch, -40, 40)]).tolist()
    return Pose(*angles, roll=0.0, distance=float(distance))


def _forehead(kit: FaceKit) -> NDArray[np.int64]:
    """Return the vertices of the upper end of the face on the generic head."""
    marks = kit.generic[kit.landmarks]
    eyes, chin = marks[36:48, 1].mean(), marks[8, 1]
    top = eyes + FOREHEAD * (eyes - chin)
    half = float(np.abs(marks[[0, 16], 0]).mean())
    wanted = [
        (x * half, top - drop * (eyes - chin))
        for x, drop in ((-0.75, 0.3), (-0.45, 0.08), (0, 0), (0.45, 0.08), (0.75, 0.3))
    ]
    front = kit.generic[:, 2] > 0
    apart = [
        np.where(front, np.hypot(kit.generic[:, 0] - x, kit.generic[:, 1] - y), np.inf)
        for x, y in wanted
    ]
    return np.array([int(a.argmin()) for a in apart])


def _seen(
    vertices: torch.Tensor,
    poses: Sequence[Pose],
    landmarks: NDArray[np.int64],
    outline: torch.Tensor,
) -> tuple[View, NDArray[np.float32]]:
    """Project whole heads, upright, the face in the upper middle; also return the outlines."""
    rotations = np.stack([pose.rotation() for pose in poses]).astype(np.float32)
    head = torch.from_numpy(rotations)
    turned = (vertices - vertices.new_tensor(PIVOT)) @ head.transpose(1, 2)
    distance = vertices.new_tensor([pose.distance for pose in poses])[:, None]
    near = distance / (distance - turned[..., 2])
    flat = torch.stack([turned[..., 0] * near, -turned[..., 1] * near], -1)
    edge = flat[:, outline]
    low, high = edge.amin(1), edge.amax(1)
    scale = FACE_SHARE * CANVAS / (high - low).amax(1)
    middle = (low + high) / 2
    # Units 0 to 128 are the crop; the canvas shows -4 to 132.
    shift = vertices.new_tensor([64.0, 58.0])
    units = (flat - middle[:, None]) * scale[:, None, None] + shift
    screen = torch.cat([units, turned[..., 2:]], -1)
    at = torch.from_numpy(landmarks)
    return View(turned, screen.contiguous(), head, units[:, at]), units[:, outline].numpy()


def rendered_heads(generator: Generator, indices: Sequence[int]) -> Iterator[Head]:
    """Render whole heads.

    Args:
        generator: of faces; its seed decides.
        indices: which.

    Yields:
        One head per index, and for some a second one with something before the face.
    """
    kit = generator.kit
    outline = torch.from_numpy(np.concatenate([kit.landmarks[:17], _forehead(kit)]))
    for start in range(0, len(indices), _BATCH):
        batch = list(indices[start : start + _BATCH])
        faces = []
        for index in batch:
            rng = np.random.default_rng([generator.seed, index, _POSE_STREAM])
            faces.append(replace(generator.face(index), pose=draw_pose(rng)))
        for index, head, marks in zip(batch, *_render(generator, faces, outline), strict=True):
            yield head
            rng = np.random.default_rng([generator.seed, index, _OCCLUDER_STREAM])
            if rng.random() < OCCLUDED_SHARE:
                yield occluded(head, marks, rng)


@torch.inference_mode()
def _render(
    generator: Generator, faces: Sequence[Face], outline: torch.Tensor
) -> tuple[list[Head], list[NDArray[np.float32]]]:
    kit = generator.kit
    shaped = [generator.shapes.shape(face.expression, face.anatomy) for face in faces]
    weights = torch.from_numpy(np.stack([s.weights for s in shaped]).astype(np.float32))
    vertices = (generator._generic + weights @ generator._basis).view(len(faces), -1, 3)
    seen, edges = _seen(vertices, [face.pose for face in faces], kit.landmarks, outline)
    gbuffer = draw_gbuffer(kit, seen, SIDE)
    intensity = np.stack([s.intensity for s in shaped]).astype(np.float32)
    people = tuple(face.appearance for face in faces)
    images = shade(
        gbuffer,
        people,
        [face.lighting for face in faces],
        torch.from_numpy(intensity / 5),
        torch.tensor([s.lip_gap for s in shaped]),
        kit,
    ).numpy()
    plane = _head_plane(gbuffer, _frame(gbuffer, kit))
    hair = hair_layers(gbuffer, people, surface_coordinates(gbuffer.canonical), plane)
    alpha = torch.maximum(gbuffer.covered.float(), hair.back).numpy()
    marks = gbuffer.landmarks.numpy()
    five = five_points(gbuffer.landmarks).numpy()
    visible = _points_seen(gbuffer, kit)
    scale = SIDE / CANVAS
    heads = [
        Head(
            np.rint(np.clip(images[i], 0, 1) * 255).astype(np.uint8),
            np.rint(255 * cv2.GaussianBlur(alpha[i], (0, 0), 0.8)).astype(np.uint8),
            outlined(((edges[i] + 4.5) * scale - 0.5).astype(np.float32), five[i]),
            five[i].astype(np.float32),
            visible[i],
            np.array([SIDE, SIDE]),
            whole=False,
        )
        for i in range(len(faces))
    ]
    return heads, list(marks)


def outlined(edge: NDArray[np.float32], points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Bring the outline of an upright rendered head to where portraits have theirs.

    Args:
        edge: ``(N, 2)`` of the render. ``points``: ``(5, 2)``.
    """
    eyes = points[:2].mean(0)
    across, above, below = OUTLINED
    away = edge - eyes
    down = np.where(away[:, 1] < 0, above, below)
    return (eyes + away * np.stack([np.full(len(edge), across), down], 1)).astype(np.float32)


def _points_seen(gbuffer: GBuffer, kit: FaceKit) -> NDArray[np.bool_]:
    """Tell which of the five points the camera sees: nothing nearer lies over their landmarks."""
    depth = gbuffer.vertices[:, torch.from_numpy(kit.landmarks), 2]
    column, row = gbuffer.landmarks.round().long().clamp(0, gbuffer.side - 1).unbind(-1)
    batch = torch.arange(len(gbuffer))[:, None]
    surface = gbuffer.position[..., 2][batch, row, column]
    clear = ((surface - depth) < 0.8).float()
    groups = (slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55))
    return np.stack([(clear[:, g].mean(1) >= 0.5).numpy() for g in groups], 1)


def occluded(head: Head, marks: NDArray[np.floating], rng: np.random.Generator) -> Head:
    """Put glasses, a mask, a hand, a tube or another thing before a face.

    Args:
        head: it.
        marks: ``(68, 2)`` its landmarks, pixels.
        rng: source of all choices.
    """
    low, high = marks.min(0), marks.max(0)
    scale = 96.0 / float((high - low).max())
    centre = (low + high) / 2
    matrix = np.array(
        [[scale, 0, SIZE / 2 - scale * centre[0]], [0, scale, SIZE / 2 - scale * centre[1]]]
    )
    crop = cv2.warpAffine(head.image, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
    placed = (marks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    done = occlude(
        to_light(np.asarray(crop, np.uint8)), placed, rng, occluder_rate=0.75, glasses_rate=0.5
    )
    shown = (255 * np.clip(done.image, 0, 1) ** (1 / DISPLAY_GAMMA)).astype(np.float32)
    size = head.image.shape[::-1]
    back = cv2.warpAffine(shown, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    cover = cv2.warpAffine(
        done.opacity, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    image = head.image + (back - head.image) * cover
    at = np.clip(np.rint(head.points), 0, SIDE - 1).astype(int)
    hidden = cover[at[:, 1], at[:, 0]] > 0.6
    return replace(
        head,
        image=np.rint(np.clip(image, 0, 255)).astype(np.uint8),
        alpha=np.maximum(head.alpha, np.rint(255 * np.clip(cover, 0, 1)).astype(np.uint8)),
        visible=head.visible & ~hidden,
        whole=False,
    )


# -- photographed ----------------------------------------------------------------------------------


def chooses(person: str) -> bool:
    """Tell whether a person chooses weights and thresholds of the finder and is not trained with.

    Photographs are few here: one in four chooses, the others lend their faces.
    """
    return half_of(person) == CHOOSE and digest(person)[2] % 4 == 0


def photographed_heads(seed: int, folder: Path | None = None) -> Iterator[Head]:
    """Cut out the people of the portraits that may be trained with: three quarters of one half.

    The last quarter of it chooses weights and thresholds. The people of the other half are reported
    on: no option trains with them.

    Args:
        seed: of what is put before some of the faces.
        folder: of shared material.

    Yields:
        One head per portrait with a face, and for some a second one with something before it.

    Raises:
        ConfigError: the list, a picture or a network is missing.
    """
    folder = shared_folder() if folder is None else folder
    if not (folder / TABLE).is_file():
        raise ConfigError(
            f"no list of photographs at {folder / TABLE}: set FACESTAGE_SHARED to the folder that "
            f"holds {TABLE.as_posix()}"
        )
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if half_of(row["person"]) == CHOOSE]
    rows = [row for row in rows if not chooses(row["person"])]
    detector = cv2.FaceDetectorYN.create(str(folder / DETECTOR), "", (320, 320), 0.6)
    mesh = FaceMesh()
    for number, row in enumerate(rows):
        image = cv2.imread(str(folder / "faces" / row["file"]))
        if image is None:
            raise ConfigError(f"cannot read {folder / 'faces' / row['file']}: restore ../shared")
        marks = mesh_of(image, detector, mesh)
        if marks is None:
            continue
        head = cut_out(image, marks)
        yield head
        rng = np.random.default_rng([seed, number, _OCCLUDER_STREAM])
        if rng.random() < OCCLUDED_SHARE:
            factor = SIDE / max(image.shape[:2])
            yield occluded(head, _sixty_eight(marks * factor), rng)


def mesh_of(
    image: NDArray[np.uint8], detector: cv2.FaceDetectorYN, mesh: FaceMesh
) -> NDArray[np.float64] | None:
    """Return the ``(478, 2)`` points of the largest face of a portrait, pixels; None without."""
    detector.setInputSize((image.shape[1], image.shape[0]))
    found = detector.detect(image)[1]
    if found is None:
        return None
    largest = max(found, key=lambda face: face[2] * face[3])
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    return mesh.landmarks(grey, np.asarray(largest[4:14], np.float64).reshape(5, 2))


def mesh_points(marks: NDArray[np.floating]) -> NDArray[np.float32]:
    """Reduce ``(478, 2)`` points of the mesh to the five points, ``(5, 2)`` float32."""
    eyes = [marks[list(eye)].mean(0) for eye in MESH_EYES]
    return np.stack([*eyes, marks[MESH_NOSE], *marks[list(MESH_MOUTH)]]).astype(np.float32)


def _sixty_eight(marks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the landmarks that occluders are placed by; those of the brows lie a bit high."""
    return np.asarray(marks[list(MESH68)], np.float64)


def cut_out(image: NDArray[np.uint8], marks: NDArray[np.floating]) -> Head:
    """Cut a person out of a portrait by GrabCut, head and shoulders."""
    height, width = image.shape[:2]
    factor = SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    marks = np.asarray(marks, np.float64) * factor
    oval = marks[list(MESH_OVAL)]
    mask = np.full(small.shape[:2], cv2.GC_PR_BGD, np.uint8)
    centre = oval.mean(0)
    spread = ((oval - centre) * 1.35 + centre - (0, 0.1 * np.ptp(oval[:, 1]))).astype(np.int32)
    cv2.fillPoly(mask, [cv2.convexHull(spread)], cv2.GC_PR_FGD)
    below = int(oval[:, 1].max())
    mask[below:, int(size[0] * 0.2) : int(size[0] * 0.8)] = cv2.GC_PR_FGD
    mask[:3], mask[: below - 5, :3], mask[: below - 5, -3:] = (cv2.GC_BGD,) * 3
    cv2.fillPoly(mask, [cv2.convexHull(oval.astype(np.int32))], cv2.GC_FGD)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(small, mask, None, *models, 3, cv2.GC_INIT_WITH_MASK)
    person = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.float32)
    person = cv2.GaussianBlur(person, (0, 0), 1.2)
    picture, alpha = np.zeros((2, SIDE, SIDE), np.uint8)
    picture[: size[1], : size[0]] = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    alpha[: size[1], : size[0]] = np.rint(255 * person)
    # Where the picture ends its border goes on, for warps that look beyond.
    picture[size[1] :] = picture[size[1] - 1]
    picture[:, size[0] :] = picture[:, size[0] - 1 : size[0]]
    return Head(
        picture,
        alpha,
        oval.astype(np.float32),
        mesh_points(marks),
        np.ones(5, bool),
        np.array(size),
        whole=True,
    )
