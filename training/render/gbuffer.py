"""What the rasteriser leaves for the shading: one surface point per pixel, and what it is.

Geometry fills a :class:`GBuffer`, appearance reads it. Nothing in it depends on skin or light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..face.facekit import FaceKit
from .raster import interpolate, rasterise, rasterise_torch, vertex_normals, vertex_normals_torch
from .scene import CANVAS, MARGIN, View

__all__ = [
    "EYE_OCCLUSION",
    "EYE_SOCKET",
    "GUMS",
    "HEAD",
    "IRIS",
    "LASHES",
    "MOUTH_SOCK",
    "NOTHING",
    "SCLERA",
    "SKIN",
    "TEETH",
    "GBuffer",
    "draw_gbuffer",
]

NOTHING = -1
"""No surface at this pixel."""
SKIN, HEAD, MOUTH_SOCK, EYE_SOCKET, GUMS, TEETH, SCLERA, IRIS = range(8)
"""Opaque regions, numbered as in ``triangle_region`` of the face kit."""
LASHES, EYE_OCCLUSION = 8, 9
"""Regions drawn over the opaque ones: the lashes, and the soft shadow of lid on eyeball."""


@dataclass(frozen=True)
class GBuffer:
    """Surface attributes of B faces on a square canvas of S pixels.

    Camera space: x to the viewer's right, y up, z towards the camera; unit about 1 cm. "Head
    space, rotated" is the same with its origin in the head, before perspective. Where ``covered``
    is false the attributes are 0 and ``region`` is -1.

    Attributes:
        covered: ``(B, S, S)`` bool, an opaque surface is there.
        region: ``(B, S, S)`` int64, -1 nothing, else 0 skin ... 7 iris (constants above).
        overlay: ``(B, S, S)`` int64, -1 nothing, 8 lashes, 9 eye occlusion.
        uv: ``(B, S, S, 2)`` float32, texture coordinates, v up.
        canonical: ``(B, S, S, 3)`` float32, where the point lies on the generic neutral head.
        normal: ``(B, S, S, 3)`` float32, unit, camera space.
        position: ``(B, S, S, 3)`` float32, head space, rotated.
        occlusion: ``(B, S, S)`` float32 in 0..1, share of the sky seen by the neutral head.
        head: ``(B, 3, 3)`` float32, rotation from head to camera space (``v @ head.T``).
        vertices: ``(B, N, 3)`` float32, all vertices in head space, rotated.
        landmarks: ``(B, 68, 2)`` float32, pixels of this canvas, pixel centres at integers.
    """

    covered: torch.Tensor
    region: torch.Tensor
    overlay: torch.Tensor
    uv: torch.Tensor
    canonical: torch.Tensor
    normal: torch.Tensor
    position: torch.Tensor
    occlusion: torch.Tensor
    head: torch.Tensor
    vertices: torch.Tensor
    landmarks: torch.Tensor

    @property
    def side(self) -> int:
        """Side of the canvas, pixels."""
        return int(self.covered.shape[-1])

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.covered.device

    def __len__(self) -> int:
        """Return the number of faces."""
        return int(self.covered.shape[0])


def draw_gbuffer(kit: FaceKit, view: View, side: int = CANVAS) -> GBuffer:
    """Rasterise aligned faces: compiled loops on the CPU, plain torch elsewhere.

    Args:
        kit: the face model.
        view: the faces as the camera sees them.
        side: of the square canvas, pixels; it always shows template units -4 to 132.

    Returns:
        The surface seen at every pixel.
    """
    scale = side / CANVAS
    # The centre of unit u lies at pixel u + 4 of a 136 px canvas; areas scale, not centres.
    shift = (MARGIN + 0.5) * scale - 0.5
    screen = torch.cat([view.screen[..., :2] * scale + shift, view.screen[..., 2:]], -1)
    device = screen.device
    if device.type == "cpu":
        fragments = rasterise(screen, kit.triangles, kit.opaque_count, side)
        normals = vertex_normals(view.vertices, kit.triangles, kit.opaque_count)
    else:
        triangles = torch.from_numpy(kit.triangles).to(device).long()
        fragments = rasterise_torch(screen, triangles, kit.opaque_count, side)
        normals = vertex_normals_torch(view.vertices, triangles, kit.opaque_count)
    static = np.concatenate([kit.uv, kit.generic, kit.occlusion[:, None]], 1)
    dynamic = torch.cat([normals, view.vertices], -1)
    values = interpolate(fragments, kit.triangles, static, dynamic)
    normal = torch.nn.functional.normalize(values[..., 6:9], dim=-1)
    return GBuffer(
        covered=fragments.triangle >= 0,
        region=_regions(kit, fragments.triangle),
        overlay=_regions(kit, fragments.overlay),
        uv=values[..., 0:2],
        canonical=values[..., 2:5],
        normal=normal,
        position=values[..., 9:12],
        occlusion=values[..., 5],
        head=view.head,
        vertices=view.vertices,
        landmarks=view.landmarks * scale + shift,
    )


def _regions(kit: FaceKit, triangles: torch.Tensor) -> torch.Tensor:
    of = torch.from_numpy(kit.triangle_region).to(triangles.device)
    at = triangles.long()
    return torch.where(at >= 0, of[at.clamp(min=0)], torch.full_like(at, NOTHING))
