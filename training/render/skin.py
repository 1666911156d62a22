"""The skin texture: albedo, relief and gloss on the flattened face, moving with action units.

What belongs to the person (tone, spots, brows, beard, lips) is painted once per
:class:`~training.render.appearance.Appearance` and kept; what the muscles do (furrows, vanishing
lips) is added for a whole batch by one matrix product with the wrinkle bank.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from .appearance import Appearance
from .wrinkles import (
    CYLINDER_CENTRE_Z,
    CYLINDER_RADIUS,
    KINDS,
    TEXTURE_SIZE,
    VARIANTS,
    WINDOW,
    drives,
    texel_grid,
    wrinkle_bank,
)

__all__ = [
    "SkinTexture",
    "sample_skin",
    "skin_texture",
    "surface_coordinates",
    "wrinkle_amplitudes",
]

TEXELS_PER_UNIT = TEXTURE_SIZE / WINDOW[2]
LIP_FADE = {15: 0.5, 16: 0.3, 21: 0.95}
"""How much of the red disappears at full AU23, AU24 and AU28 (columns of `activity`)."""
PAINT_STREAM = 71
"""Constant of the random stream that paints a person's skin."""

_Map = NDArray[np.float32]


@dataclass(frozen=True)
class SkinTexture:
    """Texture of B faces.

    Attributes:
        maps: (B, 4, T, T) float32: linear albedo, slope of the relief to the side, slope upwards
            (groove depths per kit unit), gloss factor.
        relief: (B, T, T) float32, groove depths (negative in furrows).
    """

    maps: torch.Tensor
    relief: torch.Tensor


@dataclass(frozen=True)
class _Paint:
    """What stays the same in all pictures of a person; each map (T, T) float32."""

    albedo: _Map
    lip_log: _Map
    height: _Map
    gloss: _Map


def surface_coordinates(canonical: torch.Tensor) -> torch.Tensor:
    """Unroll points of the generic head onto the cylinder of the skin texture.

    Args:
        canonical: (..., 3) float, kit units.

    Returns:
        (..., 2) float: arc length to the side and height, kit units.
    """
    angle = torch.atan2(canonical[..., 0], canonical[..., 2] - CYLINDER_CENTRE_Z)
    return torch.stack([CYLINDER_RADIUS * angle, canonical[..., 1]], -1)


def sample_skin(texture: SkinTexture, surface: torch.Tensor) -> torch.Tensor:
    """Look the texture up.

    Args:
        texture: textures of B faces.
        surface: (B, S, S, 2) float32, see `surface_coordinates`.

    Returns:
        (B, 4, S, S) float32. Below the jaw, where nothing is painted, plain skin.
    """
    left, bottom, side = WINDOW
    x = (surface[..., 0] - left) / side * 2.0 - 1.0
    y = 1.0 - (surface[..., 1] - bottom) / side * 2.0
    return torch.nn.functional.grid_sample(
        texture.maps,
        torch.stack([x, y], -1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )


def wrinkle_amplitudes(
    appearances: tuple[Appearance, ...], activity: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return how deep every drawing of the wrinkle bank is in every face.

    Args:
        appearances: B persons.
        activity: (B, 23) float, AU intensity / 5.

    Returns:
        (B, K * V) float32, groove depths, for `wrinkle_bank` flattened over its first two axes.
    """
    drive = drives(activity)
    depth = np.zeros((len(appearances), len(KINDS), VARIANTS), np.float32)
    kinds = np.arange(len(KINDS))
    for b, appearance in enumerate(appearances):
        wrinkles = appearance.wrinkles
        # Furrows show late: skin has to be pushed together before it folds.
        total = np.asarray(wrinkles.gain) * drive[b] ** 1.1 + np.asarray(wrinkles.static)
        first, second = np.asarray(wrinkles.variant).T
        mix = np.asarray(wrinkles.mix)
        np.add.at(depth[b], (kinds, first), total * (1.0 - mix))
        np.add.at(depth[b], (kinds, second), total * mix)
    return depth.reshape(len(appearances), -1)


@functools.lru_cache(maxsize=4)
def _bank(device: torch.device) -> torch.Tensor:
    return torch.from_numpy(wrinkle_bank().copy()).reshape(len(KINDS) * VARIANTS, -1).to(device)


def skin_texture(
    appearances: tuple[Appearance, ...],
    activity: NDArray[np.floating],
    landmarks: NDArray[np.float32],
    device: torch.device,
) -> SkinTexture:
    """Paint the faces of a batch.

    Args:
        appearances: B persons.
        activity: (B, 23) float, AU intensity / 5, 0-1.
        landmarks: (68, 3) float32, landmarks of the generic neutral head, kit units.
        device: where the result lives.

    Returns:
        The textures.
    """
    key = np.ascontiguousarray(landmarks, np.float32).tobytes()
    paints = [_paint(appearance, key) for appearance in appearances]

    def stack(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(p, name) for p in paints])).to(device)

    shape = (len(appearances), TEXTURE_SIZE, TEXTURE_SIZE)
    amplitude = torch.from_numpy(wrinkle_amplitudes(appearances, activity)).to(device)
    moving = (amplitude @ _bank(device)).view(shape)
    # Folds cannot be deeper than skin is thick, however many of them meet.
    moving = 1.8 * torch.tanh(moving / 1.8)
    depth = stack("height") + moving

    fade = np.zeros(len(appearances))
    for column, weight in LIP_FADE.items():
        fade = np.maximum(fade, weight * activity[:, column])
    cavity = np.array([a.skin.cavity for a in appearances], np.float32)
    # Little light reaches the floor of a furrow; a bulge is no lighter than flat skin.
    exponent = _column(cavity, device) * moving.clamp(max=0.05)
    exponent -= _column(fade, device) * stack("lip_log")
    albedo = (stack("albedo") * torch.exp(exponent)).clamp(0.003, 0.9)

    maps = torch.zeros((shape[0], 4, *shape[1:]), device=device)
    half = 0.5 * TEXELS_PER_UNIT
    maps[:, 0] = albedo
    maps[:, 1, :, 1:-1] = half * (depth[:, :, 2:] - depth[:, :, :-2])
    maps[:, 2, 1:-1] = half * (depth[:, :-2] - depth[:, 2:])
    maps[:, 3] = stack("gloss")
    return SkinTexture(maps, depth)


def _column(values: NDArray[np.floating], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).to(device).view(-1, 1, 1)


def _noise(rng: np.random.Generator, cells: int) -> _Map:
    """Return smooth noise of unit variance at the grid points, with the given cells per side."""
    grid = rng.standard_normal((cells, cells), dtype=np.float32)
    if cells == TEXTURE_SIZE:
        return grid
    size = (TEXTURE_SIZE, TEXTURE_SIZE)
    return cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)


@functools.cache
def _blob(s: float, y: float, radius_s: float, radius_y: float) -> _Map:
    """Return two soft spots, mirrored to both sides, peak 1."""
    grid_s, grid_y = texel_grid()
    across = (np.abs(grid_s) - s) / radius_s
    return np.exp(-0.5 * (across**2 + ((grid_y - y) / radius_y) ** 2)).astype(np.float32)


def _smooth(values: _Map, deviation: float) -> _Map:
    """Blur by a standard deviation in kit units."""
    blurred = cv2.GaussianBlur(values, (0, 0), max(deviation * TEXELS_PER_UNIT, 0.3))
    return np.asarray(blurred, np.float32)


def _ramp(values: NDArray[np.floating], width: float) -> _Map:
    """Return a soft step from 0 to 1 at zero."""
    return (1.0 / (1.0 + np.exp(-np.clip(values / width, -30.0, 30.0)))).astype(np.float32)


@dataclass(frozen=True)
class _Chart:
    """Where things are on the flattened generic face; curves are cubics y(s) for s > 0."""

    lips: _Map
    brow: NDArray[np.float32]
    upper_lid: NDArray[np.float32]
    lower_lid: NDArray[np.float32]


@functools.lru_cache(maxsize=4)
def _chart(key: bytes) -> _Chart:
    """Locate lips, brows and lids from the 68 landmarks of the generic head."""
    landmarks = torch.from_numpy(np.frombuffer(key, np.float32).reshape(68, 3).copy())
    points = surface_coordinates(landmarks).numpy().astype(np.float64)
    left, bottom, side = WINDOW
    scale = 4.0 * TEXELS_PER_UNIT
    outline = np.stack(
        [(points[48:60, 0] - left) * scale, (bottom + side - points[48:60, 1]) * scale], 1
    )
    large = np.zeros((4 * TEXTURE_SIZE, 4 * TEXTURE_SIZE), np.uint8)
    cv2.fillPoly(large, [np.rint(outline).astype(np.int32)], 255)
    size = (TEXTURE_SIZE, TEXTURE_SIZE)
    lips = cv2.resize(large, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0

    def curve(*index: int) -> NDArray[np.float32]:
        """Return the cubic y(s) through landmarks of the side with s > 0."""
        at = points[list(index)]
        return np.polyfit(at[:, 0], at[:, 1], 3).astype(np.float32)

    return _Chart(
        lips=lips,
        brow=curve(22, 23, 24, 25, 26),
        upper_lid=curve(42, 43, 44, 45),
        lower_lid=curve(42, 47, 46, 45),
    )


@functools.lru_cache(maxsize=48)
def _paint(appearance: Appearance, key: bytes) -> _Paint:
    """Paint what a person's skin looks like at rest, without wrinkles."""
    rng = np.random.default_rng([appearance.seed, PAINT_STREAM])
    chart, skin = _chart(key), appearance.skin
    log_albedo = _complexion(rng, appearance)
    fine = rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE), dtype=np.float32)
    height = (skin.pores * (fine + 0.7 * _noise(rng, 96))).astype(np.float32)

    lips = _smooth(chart.lips, appearance.mouth.lip_border)
    lip_log = np.log(appearance.mouth.lip_ratio) * lips * (1.0 + 0.12 * _noise(rng, 24))
    log_albedo += _lash_line(appearance, chart)
    albedo = skin.albedo * np.exp(log_albedo + lip_log)

    gloss = 1.0 + (appearance.mouth.gloss - 1.0) * lips
    gloss *= 0.6 + 0.8 * _blob(0.0, 1.0, 1.1, 3.0) + 0.5 * _blob(0.0, 8.0, 3.0, 1.2)

    brow, brow_relief = _brows(rng, appearance, chart)
    albedo += brow * (appearance.brows.albedo - albedo)
    beard = _beard(rng, appearance, lips)
    albedo += beard * (appearance.beard.albedo * (1.0 + 0.25 * fine) - albedo)
    hairs = np.maximum(brow, beard)
    height += 0.35 * brow_relief + 0.3 * beard * fine
    # The neck is not on the cylinder: towards it everything ends in plain skin, not in streaks.
    face = _ramp(texel_grid()[1] + 8.7, 0.25)
    albedo = face * albedo + (1.0 - face) * skin.albedo * 0.9
    height *= face
    return _Paint(
        albedo=albedo.clip(0.003, 0.9).astype(np.float32),
        lip_log=(lip_log * (1.0 - beard)).astype(np.float32),
        height=height.astype(np.float32),
        gloss=(gloss * (1.0 - 0.8 * hairs)).astype(np.float32),
    )


def _complexion(rng: np.random.Generator, appearance: Appearance) -> _Map:
    """Return patches, blush, freckles, moles and circles under the eyes, as log albedo."""
    skin = appearance.skin
    patches = 0.6 * _noise(rng, 6) + 0.5 * _noise(rng, 14) + 0.4 * _noise(rng, 40)
    log_albedo = skin.mottling * patches + skin.grain * _noise(rng, TEXTURE_SIZE)
    cheeks = _blob(4.2, -0.2, 1.6, 1.3) + 0.8 * _blob(0.0, 0.2, 0.9, 0.9)
    log_albedo -= skin.blush * cheeks * (1.0 + 0.4 * _noise(rng, 12))
    circles = _blob(3.0, 2.35, 1.2, 0.45) + 0.6 * _blob(1.9, 2.9, 0.5, 0.7)
    log_albedo -= skin.eye_circles * circles
    log_albedo -= appearance.eyes.shadow * _blob(3.2, 4.25, 1.4, 0.4)
    shaved = np.maximum(_beard_area(), _moustache_area())
    log_albedo -= skin.shadow_beard_tone * shaved * (1.0 + 0.2 * _noise(rng, 96))
    if skin.freckles:
        seeds = (rng.random((TEXTURE_SIZE, TEXTURE_SIZE)) < skin.freckles).astype(np.float32)
        log_albedo -= 1.6 * cv2.GaussianBlur(seeds, (0, 0), 0.8) * (cheeks + 0.3)
    for _ in range(skin.moles):
        s, y, size = rng.uniform(-6.0, 6.0), rng.uniform(-7.0, 9.0), rng.uniform(0.06, 0.14)
        spot = np.exp(-0.5 * ((texel_grid()[0] - s) ** 2 + (texel_grid()[1] - y) ** 2) / size**2)
        log_albedo -= rng.uniform(0.4, 1.3) * spot.astype(np.float32)
    return log_albedo.astype(np.float32)


def _lash_line(appearance: Appearance, chart: _Chart) -> _Map:
    """Return the dark rim of the lids: lash roots, shade and eyeliner, as log albedo."""
    grid_s, grid_y = texel_grid()
    s = np.abs(grid_s)
    inside = _ramp(s - 1.75, 0.08) * _ramp(5.0 - s, 0.08)
    reach = s.clip(1.8, 4.9)
    upper = np.exp(-0.5 * ((grid_y - np.polyval(chart.upper_lid, reach)) / 0.12) ** 2)
    lower = np.exp(-0.5 * ((grid_y - np.polyval(chart.lower_lid, reach)) / 0.09) ** 2)
    dark = 1.6 * upper + 0.35 * lower
    return (-appearance.eyes.liner * dark * inside).astype(np.float32)


def _brows(rng: np.random.Generator, appearance: Appearance, chart: _Chart) -> tuple[_Map, _Map]:
    """Return the brows' opacity and the relief of their hairs."""
    brows = appearance.brows
    grid_s, grid_y = texel_grid()
    s = np.abs(grid_s)
    q = ((s - brows.inner) / (brows.outer - brows.inner)).clip(0.0, 1.0)
    centre = np.polyval(chart.brow, s.clip(0.9, 6.4)) + brows.raise_
    centre += brows.arch * np.sin(np.pi * q**1.4) + brows.tilt * (s - 3.5)
    centre += 0.08 * _noise(rng, 7)
    # Full from the second fifth on, then tapering to the tail.
    half = brows.thickness * (0.75 + 0.25 * (q / 0.2).clip(0, 1)) * (1.0 - 0.68 * q**1.7)
    # The head of the brow grows in slowly, the tail ends in a point.
    ends = _ramp(s - brows.inner, 0.16) * _ramp(brows.outer - s, 0.12)
    hairs = _strands(rng)
    edge = (1.0 - np.abs(grid_y - centre) / half) / brows.softness
    cover = _ramp(edge + 1.2 * brows.roughness * hairs, 0.55) * ends
    density = brows.density * (0.75 + 0.25 * _ramp(0.75 - q, 0.12))
    streaks = (1.0 - 0.2 * brows.roughness * (hairs < 0.0)).astype(np.float32)
    mask = (cover * density * streaks).clip(0.0, 1.0).astype(np.float32)
    return mask, (mask * (0.6 + hairs)).astype(np.float32)


def _strands(rng: np.random.Generator) -> _Map:
    """Return noise drawn out along the brow hairs, which point up and outwards."""
    noise = rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE), dtype=np.float32)
    kernel = np.zeros((5, 5), np.float32)
    cv2.line(kernel, (0, 4), (4, 1), 1.0, 1, cv2.LINE_AA)
    outwards = cv2.filter2D(noise, -1, kernel / np.linalg.norm(kernel))
    mirrored = cv2.filter2D(noise, -1, kernel[:, ::-1] / np.linalg.norm(kernel))
    half = TEXTURE_SIZE // 2
    return np.concatenate([mirrored[:, :half], outwards[:, half:]], 1).astype(np.float32)


@functools.cache
def _beard_area() -> _Map:
    """Return the area of a full beard: cheeks below the line from sideburn to lip, and chin."""
    grid_s, grid_y = texel_grid()
    s = np.abs(grid_s)
    line = np.interp(
        s,
        [0.0, 1.4, 2.6, 3.4, 5.0, 6.5, 7.6, 8.4, 9.5],
        [-4.95, -4.9, -3.6, -2.7, -2.0, -0.6, 1.6, 2.4, 2.0],
    )
    return _ramp(line - grid_y, 0.25) * _ramp(grid_y + 8.6, 0.35) * _ramp(9.0 - s, 0.3)


@functools.cache
def _moustache_area() -> _Map:
    grid_s, grid_y = texel_grid()
    s = np.abs(grid_s)
    centre = -1.95 - 0.13 * s**2
    half = 0.5 * (1.0 - 0.25 * (s / 2.6).clip(0, 1))
    return _ramp((half - np.abs(grid_y - centre)), 0.12) * _ramp(2.9 - s, 0.2)


@functools.cache
def _goatee_area() -> _Map:
    grid_s, grid_y = texel_grid()
    s = np.abs(grid_s)
    chin = _ramp(1.5 - np.abs(grid_y + 6.2), 0.25) * _ramp(1.6 - s, 0.25)
    bridge = np.exp(-0.5 * ((s - 2.6) / 0.3) ** 2) * _ramp(-2.9 - grid_y, 0.2)
    bridge *= _ramp(grid_y + 5.8, 0.3)
    return np.maximum(chin, 0.8 * bridge).astype(np.float32)


def _beard(rng: np.random.Generator, appearance: Appearance, lips: _Map) -> _Map:
    """Return the opacity of the facial hair."""
    beard = appearance.beard
    area = np.maximum.reduce(
        [
            beard.full * _beard_area(),
            beard.moustache * _moustache_area(),
            beard.goatee * _goatee_area(),
        ]
    )
    if not area.any():
        return area
    area = area * (1.0 - lips).clip(0.0, 1.0)
    hairs = 0.8 * rng.standard_normal(area.shape, dtype=np.float32) + 0.7 * _noise(rng, 40)
    cover = _ramp(5.0 * (area - 0.42) + hairs, 0.8) * np.sqrt(area)
    return (cover * (0.95 - 0.6 * beard.stubble)).astype(np.float32)
