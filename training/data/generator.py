"""Faces with labels, each a function of (seed, index) alone.

Four consecutive indices show one person: the same bones, skin and hair under four expressions,
poses and lights, so that a network can learn what is the person and what is the expression.

A face does not depend on the batch it is rendered in. (Up to floating-point rounding: the sums of
a matrix product may be ordered by its size, which can move a pixel by one grey level.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from facestage.core.errors import ModelError
from numpy.typing import NDArray

from ..face.expressions import sample_anatomy, sample_expression
from ..face.facekit import FaceKit, load_facekit
from ..face.facs import Anatomy, Expression, FaceShapes
from ..render.appearance import Appearance, sample_appearance
from ..render.gbuffer import draw_gbuffer
from ..render.lighting import Lighting, sample_lighting
from ..render.scene import CANVAS, Pose, sample_pose, view
from ..render.shading import shade

__all__ = ["PER_IDENTITY", "SHADED_SIDE", "Face", "Generator", "RenderedBatch"]

PER_IDENTITY = 4
"""Consecutive faces that show one person."""
BATCH = 16
"""Faces rendered together: large enough for the matrix products, small enough for the cache."""
SHADED_SIDE = 170
"""Side of the canvas that is shaded, pixels: 1.25 samples per stored pixel and direction, so that
lids and lips move by less than a pixel without stairs."""
_ANATOMY, _APPEARANCE, _EXPRESSION, _POSE, _LIGHT = range(5)
"""Streams of random numbers, so that a change to one leaves the others as they are."""


@dataclass(frozen=True)
class Face:
    """Everything that makes one picture."""

    anatomy: Anatomy
    expression: Expression
    pose: Pose
    appearance: Appearance
    lighting: Lighting


@dataclass(frozen=True)
class RenderedBatch:
    """Rendered faces.

    Attributes:
        image: ``(n, 136, 136)`` uint8, display-encoded grey, template units -4 to 132.
        intensity: ``(n, 23)`` float32, FACS 0-5, columns as ``facs.AUS``.
        landmarks: ``(n, 68, 2)`` float32, template units.
        identity: ``(n,)`` int64, equal where the person is the same (within a seed).
        index: ``(n,)`` int64.
    """

    image: NDArray[np.uint8]
    intensity: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    identity: NDArray[np.int64]
    index: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.image)

    @staticmethod
    def join(parts: Sequence[RenderedBatch]) -> RenderedBatch:
        """Concatenate batches."""
        return RenderedBatch(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("image", "intensity", "landmarks", "identity", "index")
            )
        )


class Generator:
    """Renders faces.

    Args:
        seed: of all faces; training and held-out sets use different ones.
        kit: the face model; loaded from the default place when not given.
        device: torch device of the rendering. Pictures of different devices differ by rounding.
        side: of the canvas that is shaded, pixels; it is averaged down to 136.
    """

    prefix = "faces"
    """Begins the names of its shards."""

    def __init__(
        self,
        seed: int,
        kit: FaceKit | None = None,
        device: str | torch.device = "cpu",
        side: int = SHADED_SIDE,
    ) -> None:
        self.seed = seed
        self.kit = load_facekit() if kit is None else kit
        self.shapes = FaceShapes(self.kit)
        self.device = torch.device(device)
        self.side = side
        basis = self.shapes.basis
        self._basis = torch.from_numpy(basis.reshape(len(basis), -1)).to(self.device)
        self._generic = torch.from_numpy(self.kit.generic.reshape(-1)).to(self.device)

    def face(self, index: int) -> Face:
        """Draw what makes face ``index``, without rendering it."""
        person = index // PER_IDENTITY
        rng = {
            stream: np.random.default_rng([self.seed, number, stream])
            for stream, number in (
                (_ANATOMY, person),
                (_APPEARANCE, person),
                (_EXPRESSION, index),
                (_POSE, index),
                (_LIGHT, index),
            )
        }
        return Face(
            anatomy=sample_anatomy(rng[_ANATOMY]),
            expression=sample_expression(rng[_EXPRESSION]),
            pose=sample_pose(rng[_POSE]),
            appearance=sample_appearance(rng[_APPEARANCE]),
            lighting=sample_lighting(rng[_LIGHT]),
        )

    def render(self, indices: Sequence[int]) -> RenderedBatch:
        """Render faces by index.

        Args:
            indices: non-negative, in any order.

        Returns:
            One picture with labels per index, in the same order.
        """
        at = np.asarray(indices, np.int64)
        return self.draw([self.face(int(i)) for i in at], at // PER_IDENTITY, at)

    def draw(
        self, faces: Sequence[Face], identity: NDArray[np.int64], index: NDArray[np.int64]
    ) -> RenderedBatch:
        """Render given faces.

        Args:
            faces: what to render.
            identity: ``(n,)`` int64, stored with the pictures.
            index: ``(n,)`` int64, stored with the pictures.

        Returns:
            One picture with labels per face.
        """
        parts = [
            self._draw(faces[s : s + BATCH], identity[s : s + BATCH], index[s : s + BATCH])
            for s in range(0, len(faces), BATCH)
        ]
        return RenderedBatch.join(parts)

    def portraits(self, faces: Sequence[Face]) -> NDArray[np.uint8]:
        """Render given faces at the full size of the canvas, for a look or for landmarks.

        Args:
            faces: what to render.

        Returns:
            ``(n, side, side)`` uint8, display-encoded grey, template units -4 to 132.
        """
        parts = [
            _to_bytes(self._shaded(faces[s : s + BATCH])[0], self.side)
            for s in range(0, len(faces), BATCH)
        ]
        return np.concatenate(parts)

    def _draw(
        self, faces: Sequence[Face], identity: NDArray[np.int64], index: NDArray[np.int64]
    ) -> RenderedBatch:
        image, intensity, landmarks = self._shaded(faces)
        broken = ~np.isfinite(image).all((1, 2))
        if broken.any():
            raise ModelError(
                f"shading gave pixels that are no numbers for faces {index[broken]} "
                f"of seed {self.seed}: report them, and render another range meanwhile"
            )
        return RenderedBatch(
            image=_to_bytes(image),
            intensity=intensity,
            landmarks=landmarks,
            identity=np.asarray(identity, np.int64),
            index=np.asarray(index, np.int64),
        )

    @torch.inference_mode()
    def _shaded(
        self, faces: Sequence[Face]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return pictures on the canvas (display-encoded, 0-1), labels 0-5 and landmarks."""
        shaped = [self.shapes.shape(face.expression, face.anatomy) for face in faces]
        weights = np.stack([s.weights for s in shaped]).astype(np.float32)
        moved = torch.from_numpy(weights).to(self.device) @ self._basis
        vertices = (self._generic + moved).view(len(faces), -1, 3)
        seen = view(vertices, [face.pose for face in faces], self.kit.landmarks)
        intensity = np.stack([s.intensity for s in shaped]).astype(np.float32)
        image = shade(
            draw_gbuffer(self.kit, seen, self.side),
            [face.appearance for face in faces],
            [face.lighting for face in faces],
            torch.from_numpy(intensity / 5).to(self.device),
            torch.tensor([s.lip_gap for s in shaped], device=self.device),
            self.kit,
        )
        return image.cpu().numpy(), intensity, seen.landmarks.cpu().numpy()


def _to_bytes(images: NDArray[np.float32], side: int = CANVAS) -> NDArray[np.uint8]:
    """Average down to a smaller side and round."""
    if images.shape[-1] != side:
        size = (side, side)
        images = np.stack([cv2.resize(im, size, interpolation=cv2.INTER_AREA) for im in images])
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
