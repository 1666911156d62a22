"""The morphable face that everything is rendered from: ICT-FaceKit, reduced to what is needed.

One generic neutral head, 55 expression shapes and 100 identity shapes as displacements of its
vertices, triangles by region, texture coordinates and 68 landmarks.

References:
    Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020;
    ICT-FaceKit, USC Institute for Creative Technologies, MIT License (see NOTICE).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from facestage.core.errors import ConfigError
from numpy.typing import NDArray

from ..render.raster import _normals, depth_map

__all__ = ["FaceKit", "load_facekit", "shared_folder"]

FILE = Path("facekit") / "ict_facekit_compact.npz"
"""The model inside the folder of shared material."""
OCCLUSION_VERSION = 1
"""Part of the name of the cached occlusion; raise it when the computation changes."""
SKY_DIRECTIONS = 120
"""Directions from which the ambient occlusion looks at the head."""
SKY_SIDE = 320
"""Side of the depth map of one direction, pixels."""


@dataclass(frozen=True)
class FaceKit:
    """A morphable head. Unit about 1 cm, x to the viewer's right, y up, z to the viewer.

    Shapes that end in ``_L`` move the subject's left side (x > 0).

    Attributes:
        generic: ``(N, 3)`` float32, vertices of the neutral head.
        expressions: ``(55, N, 3)`` float32, displacements at weight 1.
        expression_names: their names, in order.
        identities: ``(100, N, 3)`` float32, displacements per standard deviation.
        triangles: ``(T, 3)`` int32, counter-clockwise from outside, the opaque ones first.
        opaque_count: number of opaque triangles; the others are lashes and eye occlusion.
        triangle_region: ``(T,)`` int64, region of each triangle (see
        :mod:`training.render.gbuffer`).
        vertex_region: ``(N,)`` int64, region of each vertex.
        uv: ``(N, 2)`` float32, texture coordinates, v up.
        landmarks: ``(68,)`` int64, vertices of the Multi-PIE landmarks.
        occlusion: ``(N,)`` float32 in 0..1, cosine-weighted share of the sky each vertex of the
            neutral head sees.
    """

    generic: NDArray[np.float32]
    expressions: NDArray[np.float32]
    expression_names: tuple[str, ...]
    identities: NDArray[np.float32]
    triangles: NDArray[np.int32]
    opaque_count: int
    triangle_region: NDArray[np.int64]
    vertex_region: NDArray[np.int64]
    uv: NDArray[np.float32]
    landmarks: NDArray[np.int64]
    occlusion: NDArray[np.float32]

    def shape(self, name: str) -> int:
        """Return the row of an expression shape."""
        return self.expression_names.index(name)


def shared_folder() -> Path:
    """Return the folder that ``FACESTAGE_SHARED`` names, or ``../shared`` beside the repository."""
    beside = Path(__file__).resolve().parents[3] / "shared"
    return Path(os.environ.get("FACESTAGE_SHARED", beside))


def load_facekit(path: Path | None = None) -> FaceKit:
    """Load the face model.

    Args:
        path: the npz file; by default ``facekit/ict_facekit_compact.npz`` in the
            :func:`shared_folder`.

    Raises:
        ConfigError: the file is missing or is not the compact model.
    """
    if path is None:
        path = shared_folder() / FILE
    if not path.is_file():
        raise ConfigError(
            f"no face model at {path}: training faces are rendered from ICT-FaceKit (MIT, "
            "https://github.com/ICT-VGL/ICT-FaceKit) in its compact form; set FACESTAGE_SHARED to "
            f"the folder that holds {FILE.as_posix()}"
        )
    try:
        with np.load(path) as data:
            triangles = np.ascontiguousarray(data["tri"].astype(np.int32))
            generic = data["generic"].astype(np.float32)
            opaque = int(data["T0"])
            return FaceKit(
                generic=generic,
                expressions=data["expr"].astype(np.float32),
                expression_names=tuple(str(name) for name in data["enames"]),
                identities=data["ident"].astype(np.float32),
                triangles=triangles,
                opaque_count=opaque,
                triangle_region=data["treg"].astype(np.int64),
                vertex_region=data["vreg"].astype(np.int64),
                uv=data["uv"].astype(np.float32),
                landmarks=data["lm"].astype(np.int64),
                occlusion=_cached_occlusion(generic, triangles[:opaque]),
            )
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{path} is not the compact ICT-FaceKit file ({error}): fetch it again"
        ) from error


def _cached_occlusion(
    generic: NDArray[np.float32], triangles: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Read the occlusion from the user's cache folder, or compute it and try to leave it there."""
    digest = hashlib.sha256(generic.tobytes() + triangles.tobytes()).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "facestage"
    file = root / f"occlusion-{OCCLUSION_VERSION}-{digest}.npy"
    if file.is_file():
        cached = np.load(file)
        if cached.shape == (len(generic),):
            return cached
    occlusion = _occlusion(generic, triangles)
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{file.stem}-{os.getpid()}.npy")
        np.save(temporary, occlusion)
        temporary.replace(file)
    except OSError:
        pass  # a cache that cannot be written only costs the next start a few seconds
    return occlusion


def _occlusion(generic: NDArray[np.float32], triangles: NDArray[np.int32]) -> NDArray[np.float32]:
    """Look at the head from all sides of the front hemisphere and count where vertices show."""
    rng = np.random.default_rng(0)
    normals = _normals(generic[None], triangles, len(triangles))[0]
    scale = SKY_SIDE / 36
    seen, total = np.zeros(len(generic)), np.zeros(len(generic))
    for _ in range(SKY_DIRECTIONS):
        z = rng.normal(size=3)
        z[2] = abs(z[2]) - 0.2
        z /= np.linalg.norm(z)
        x = np.cross([0.0, 1.0, 0.01], z)
        x /= np.linalg.norm(x)
        turned = (generic - np.array([0.0, -2.0, 0.0], np.float32)) @ np.stack(
            [x, np.cross(z, x), z]
        ).T
        screen = np.stack(
            [
                SKY_SIDE / 2 + turned[:, 0] * scale,
                SKY_SIDE / 2 - turned[:, 1] * scale,
                turned[:, 2],
            ],
            1,
        ).astype(np.float32)
        depth = depth_map(screen[None], triangles, SKY_SIDE)[0]
        column, row = np.rint(screen[:, 0]).astype(int), np.rint(screen[:, 1]).astype(int)
        inside = (column >= 0) & (column < SKY_SIDE) & (row >= 0) & (row < SKY_SIDE)
        nearest = depth[row.clip(0, SKY_SIDE - 1), column.clip(0, SKY_SIDE - 1)]
        cosine = np.clip(normals @ z, 0, 1)
        # A quarter of a centimetre of slack: a vertex must not hide behind its own triangles.
        seen += cosine * (~inside | (nearest < turned[:, 2] + 0.25))
        total += cosine
    return (seen / np.maximum(total, 1e-3)).astype(np.float32)
