"""Z-buffer rasteriser in two versions of the same rules: plain torch, and compiled for one core.

A pixel belongs to a triangle when its centre lies inside; the nearest wins, at equal depth the
triangle with the lower index. Pixel centres are at integer coordinates. Front faces turn
clockwise on a canvas whose y points down.

The torch version runs on any device and needs no compiler. The numba version visits the triangles
one by one, is about ten times faster on a CPU core and releases the GIL.

References:
    Pineda, "A Parallel Algorithm for Polygon Rasterization", SIGGRAPH 1988 (edge functions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "Fragments",
    "depth_map",
    "interpolate",
    "rasterise",
    "rasterise_torch",
    "vertex_normals",
    "vertex_normals_torch",
]

FAR = -1e9
"""Depth of an empty pixel, model units (nearer is larger)."""
EDGE = -1e-5
"""Barycentric slack, so that a pixel centre on a shared edge is never lost to rounding."""
SIZE_CLASSES = (2, 4, 8, 16, 64)
"""Bounding-box sides, pixels, by which the torch version groups triangles."""
MAX_TESTS = 60_000_000
"""Pixel-triangle tests of the torch version held in memory at once."""


@dataclass(frozen=True)
class Fragments:
    """Which triangle is seen at each pixel.

    Attributes:
        triangle: ``(B, S, S)`` int32, -1 where none.
        barycentric: ``(B, S, S, 2)`` float32, weights of the triangle's 2nd and 3rd vertex.
        overlay: ``(B, S, S)`` int32, nearest overlay triangle in front of the opaque surface, or
            -1.
    """

    triangle: torch.Tensor
    barycentric: torch.Tensor
    overlay: torch.Tensor


@numba.njit(nogil=True, cache=True)
def _draw(
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    first: int,
    last: int,
    cull: bool,
    depth: NDArray[np.float32],
    seen: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> None:
    """Draw triangles ``first:last`` of one face over ``depth`` and the two buffers beside it."""
    height, width = depth.shape
    one = np.float32(1)
    edge = np.float32(EDGE)
    keep_weights = weights.shape[0] > 0
    keep_seen = seen.shape[0] > 0
    for t in range(first, last):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = vertices[i, 0], vertices[i, 1]
        bx, by = vertices[j, 0], vertices[j, 1]
        cx, cy = vertices[k, 0], vertices[k, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0 or (cull and area > 0):
            continue
        low_x, high_x = min(ax, bx, cx), max(ax, bx, cx)
        low_y, high_y = min(ay, by, cy), max(ay, by, cy)
        if high_x < 0 or high_y < 0 or low_x > width - 1 or low_y > height - 1:
            continue
        x0, x1 = max(int(np.ceil(low_x)), 0), min(int(np.floor(high_x)), width - 1)
        y0, y1 = max(int(np.ceil(low_y)), 0), min(int(np.floor(high_y)), height - 1)
        if x1 < x0 or y1 < y0:
            continue
        az, bz, cz = vertices[i, 2], vertices[j, 2], vertices[k, 2]
        inverse = one / area
        for y in range(y0, y1 + 1):
            dy = np.float32(y) - ay
            for x in range(x0, x1 + 1):
                dx = np.float32(x) - ax
                w1 = (dx * (cy - ay) - dy * (cx - ax)) * inverse
                w2 = ((bx - ax) * dy - (by - ay) * dx) * inverse
                w0 = one - w1 - w2
                if w0 < edge or w1 < edge or w2 < edge:
                    continue
                z = w0 * az + w1 * bz + w2 * cz
                if z > depth[y, x]:
                    depth[y, x] = z
                    if keep_seen:
                        seen[y, x] = t
                    if keep_weights:
                        weights[y, x, 0] = w1
                        weights[y, x, 1] = w2


@numba.njit(nogil=True, cache=True)
def _rasterise(
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    opaque: int,
    side: int,
    seen: NDArray[np.int32],
    weights: NDArray[np.float32],
    overlay: NDArray[np.int32],
) -> None:
    nothing = np.empty((0, 0, 2), np.float32)
    depth = np.empty((side, side), np.float32)
    for b in range(vertices.shape[0]):
        depth[:] = np.float32(FAR)
        _draw(vertices[b], triangles, 0, opaque, True, depth, seen[b], weights[b])
        _draw(vertices[b], triangles, opaque, len(triangles), False, depth, overlay[b], nothing)


@numba.njit(nogil=True, cache=True)
def _normals(
    vertices: NDArray[np.float32], triangles: NDArray[np.int32], count: int
) -> NDArray[np.float32]:
    normals = np.zeros_like(vertices)
    for b in range(vertices.shape[0]):
        v, n = vertices[b], normals[b]
        for t in range(count):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            ux, uy, uz = v[j, 0] - v[i, 0], v[j, 1] - v[i, 1], v[j, 2] - v[i, 2]
            wx, wy, wz = v[k, 0] - v[i, 0], v[k, 1] - v[i, 1], v[k, 2] - v[i, 2]
            x, y, z = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
            for q in (i, j, k):
                n[q, 0] += x
                n[q, 1] += y
                n[q, 2] += z
        for i in range(v.shape[0]):
            length = np.sqrt(n[i, 0] ** 2 + n[i, 1] ** 2 + n[i, 2] ** 2) + np.float32(1e-12)
            for c in range(3):
                n[i, c] /= length
    return normals


@numba.njit(nogil=True, cache=True)
def _interpolate(
    seen: NDArray[np.int32],
    weights: NDArray[np.float32],
    triangles: NDArray[np.int32],
    static: NDArray[np.float32],
    dynamic: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    faces, height, width = seen.shape
    fixed, moving = static.shape[1], dynamic.shape[2]
    for b in range(faces):
        for y in range(height):
            for x in range(width):
                t = seen[b, y, x]
                if t < 0:
                    for c in range(fixed + moving):
                        out[b, y, x, c] = 0
                    continue
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                w1, w2 = weights[b, y, x, 0], weights[b, y, x, 1]
                w0 = np.float32(1) - w1 - w2
                for c in range(fixed):
                    out[b, y, x, c] = w0 * static[i, c] + w1 * static[j, c] + w2 * static[k, c]
                for c in range(moving):
                    out[b, y, x, fixed + c] = (
                        w0 * dynamic[b, i, c] + w1 * dynamic[b, j, c] + w2 * dynamic[b, k, c]
                    )


def depth_map(
    vertices: NDArray[np.float32], triangles: NDArray[np.int32], side: int
) -> NDArray[np.float32]:
    """Render the depth of front faces only, for shadow maps.

    Args:
        vertices: ``(B, N, 3)`` float32; x, y in pixels (y down), z larger is nearer.
        triangles: ``(T, 3)`` int32.
        side: of the square canvas, pixels.

    Returns:
        ``(B, side, side)`` float32; ``-1e9`` where nothing is.
    """
    depth = np.full((len(vertices), side, side), FAR, np.float32)
    no_seen, no_weights = np.empty((0, 0), np.int32), np.empty((0, 0, 2), np.float32)
    for b in range(len(vertices)):
        _draw(vertices[b], triangles, 0, len(triangles), True, depth[b], no_seen, no_weights)
    return depth


def rasterise(
    vertices: torch.Tensor, triangles: NDArray[np.int32], opaque: int, side: int
) -> Fragments:
    """Find the visible triangles on the CPU with compiled loops.

    Args:
        vertices: ``(B, N, 3)`` float32 on the CPU; x, y in pixels (y down), z larger is nearer.
        triangles: ``(T, 3)`` int32, the opaque ones first.
        opaque: how many are opaque; the others are drawn over them, both sides visible.
        side: of the square canvas, pixels.

    Returns:
        The fragments, on the CPU.
    """
    faces = len(vertices)
    seen = np.full((faces, side, side), -1, np.int32)
    overlay = np.full((faces, side, side), -1, np.int32)
    weights = np.zeros((faces, side, side, 2), np.float32)
    points = np.ascontiguousarray(vertices.numpy())
    _rasterise(points, triangles, opaque, side, seen, weights, overlay)
    return Fragments(torch.from_numpy(seen), torch.from_numpy(weights), torch.from_numpy(overlay))


def vertex_normals(
    vertices: torch.Tensor, triangles: NDArray[np.int32], count: int
) -> torch.Tensor:
    """Return area-weighted unit normals ``(B, N, 3)`` from the first ``count`` triangles (CPU).

    Args:
        vertices: ``(B, N, 3)`` float32 on the CPU, right-handed.
        triangles: ``(T, 3)`` int32, counter-clockwise seen from outside.
        count: triangles that take part.
    """
    return torch.from_numpy(_normals(np.ascontiguousarray(vertices.numpy()), triangles, count))


def vertex_normals_torch(
    vertices: torch.Tensor, triangles: torch.Tensor, count: int
) -> torch.Tensor:
    """Return the same normals as :func:`vertex_normals` on any device.

    Args:
        vertices: ``(B, N, 3)`` float32, right-handed.
        triangles: ``(T, 3)`` int64 on the same device.
        count: triangles that take part.
    """
    used = triangles[:count]
    a, b, c = (vertices[:, used[:, i]] for i in range(3))
    cross = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices)
    for i in range(3):
        normals.index_add_(1, used[:, i], cross)
    return normals / (normals.norm(dim=-1, keepdim=True) + 1e-12)


def interpolate(
    fragments: Fragments,
    triangles: NDArray[np.int32],
    static: NDArray[np.float32],
    dynamic: torch.Tensor,
) -> torch.Tensor:
    """Interpolate vertex attributes at every pixel.

    Args:
        fragments: from either rasteriser.
        triangles: ``(T, 3)`` int32.
        static: ``(N, F)`` float32, attributes that all faces share.
        dynamic: ``(B, N, D)`` float32, attributes of each face, on the device of the fragments.

    Returns:
        ``(B, S, S, F + D)`` float32, 0 where nothing is seen.
    """
    seen = fragments.triangle
    if seen.device.type == "cpu":
        out = np.empty((*seen.shape, static.shape[1] + dynamic.shape[2]), np.float32)
        _interpolate(
            seen.numpy(),
            fragments.barycentric.numpy(),
            triangles,
            static,
            np.ascontiguousarray(dynamic.numpy()),
            out,
        )
        return torch.from_numpy(out)
    corners = torch.from_numpy(triangles).to(seen.device).long()[seen.long().clamp(min=0)]
    w = fragments.barycentric
    w = torch.cat([1 - w.sum(-1, keepdim=True), w], -1) * (seen >= 0)[..., None]
    fixed = torch.from_numpy(static).to(seen.device)
    faces = torch.arange(len(seen), device=seen.device)[:, None, None]
    parts = [
        w[..., i : i + 1] * torch.cat([fixed[corners[..., i]], dynamic[faces, corners[..., i]]], -1)
        for i in range(3)
    ]
    return parts[0] + parts[1] + parts[2]


def rasterise_torch(
    vertices: torch.Tensor, triangles: torch.Tensor, opaque: int, side: int
) -> Fragments:
    """Find the visible triangles on any device; the same result as :func:`rasterise`.

    Args:
        vertices: ``(B, N, 3)`` float32; x, y in pixels (y down), z larger is nearer.
        triangles: ``(T, 3)`` int64 on the same device, the opaque ones first.
        opaque: how many are opaque.
        side: of the square canvas, pixels.

    Returns:
        The fragments, on the device of the vertices.
    """
    depth = vertices.new_full((len(vertices) * side * side,), FAR)
    seen = _nearest(vertices, triangles, 0, opaque, side, depth, cull=True)
    overlay = _nearest(vertices, triangles, opaque, len(triangles), side, depth, cull=False)
    return Fragments(seen.int(), _weights(vertices, triangles, seen, side), overlay.int())


def _nearest(
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    first: int,
    last: int,
    side: int,
    depth: torch.Tensor,
    *,
    cull: bool,
) -> torch.Tensor:
    """Return the nearest triangle per pixel, in front of ``depth``, which is then updated.

    Triangles of similar size are tested together on one grid of offsets. The depth is settled
    first (a maximum), then the lowest index among the triangles that have it.
    """
    corners = vertices[:, triangles[first:last]]
    a, b, c = corners.unbind(2)
    area = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
        c[..., 0] - a[..., 0]
    )
    low, high = corners[..., :2].amin(2).ceil(), corners[..., :2].amax(2).floor()
    low, high = low.clamp(min=0), high.clamp(max=side - 1)
    extent = (high - low + 1).amin(-1)
    size = torch.where(extent > 0, (high - low + 1).amax(-1), torch.zeros_like(extent))
    facing = (area < 0) if cull else (area != 0)
    hits: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    smaller = 0
    for bound in (*SIZE_CLASSES, side):
        if bound <= smaller:
            continue
        faces, chosen = (facing & (size > smaller) & (size <= bound)).nonzero(as_tuple=True)
        smaller = bound
        offset = torch.arange(bound * bound, device=vertices.device)
        step = max(1, MAX_TESTS // (bound * bound))
        for s in range(0, len(faces), step):
            f, t = faces[s : s + step], chosen[s : s + step]
            pa, pb, pc = a[f, t], b[f, t], c[f, t]
            inverse = (1 / area[f, t])[:, None]
            x = low[f, t, 0:1] + offset % bound
            y = low[f, t, 1:2] + torch.div(offset, bound, rounding_mode="floor")
            dx, dy = x - pa[:, 0:1], y - pa[:, 1:2]
            u, v = pb - pa, pc - pa
            w1 = (dx * v[:, 1:2] - dy * v[:, 0:1]) * inverse
            w2 = (u[:, 0:1] * dy - u[:, 1:2] * dx) * inverse
            w0 = 1 - w1 - w2
            z = w0 * pa[:, 2:3] + w1 * pb[:, 2:3] + w2 * pc[:, 2:3]
            pixel = (f[:, None] * side + y.long()) * side + x.long()
            inside = (w0 >= EDGE) & (w1 >= EDGE) & (w2 >= EDGE) & (x < side) & (y < side)
            pixel, z, index = pixel[inside], z[inside], (t + first)[:, None].expand_as(x)[inside]
            front = z > depth[pixel]
            hits.append((pixel[front], z[front], index[front]))
    none = len(triangles)
    winner = torch.full(depth.shape, none, dtype=torch.int64, device=depth.device)
    for pixel, z, _ in hits:
        depth.scatter_reduce_(0, pixel, z, "amax")
    for pixel, z, index in hits:
        at = z == depth[pixel]
        winner.scatter_reduce_(0, pixel[at], index[at], "amin")
    winner = torch.where(winner == none, torch.full_like(winner, -1), winner)
    return winner.view(len(vertices), side, side)


def _weights(
    vertices: torch.Tensor, triangles: torch.Tensor, seen: torch.Tensor, side: int
) -> torch.Tensor:
    """Barycentric weights (2nd and 3rd vertex) at every pixel, 0 where nothing is seen."""
    faces = torch.arange(len(seen), device=seen.device)[:, None, None, None]
    corners = vertices[faces, triangles[seen.clamp(min=0)]]
    a, u, v = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    u, v = u - a, v - a
    grid = torch.arange(side, device=seen.device, dtype=vertices.dtype)
    dx, dy = grid[None, None, :] - a[..., 0], grid[None, :, None] - a[..., 1]
    inverse = 1 / (u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])
    w1 = (dx * v[..., 1] - dy * v[..., 0]) * inverse
    w2 = (u[..., 0] * dy - u[..., 1] * dx) * inverse
    w = torch.stack([w1, w2], -1)
    return torch.where((seen >= 0)[..., None], w, torch.zeros_like(w))
