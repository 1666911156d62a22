"""A photograph as the texture of a face: the picture, what lids and eyes hide in it, its light.

All maps lie in one frame, the *source frame*: template units scaled by :data:`SOURCE_SCALE`.

References:
    Knutsson & Westin, "Normalized and differential convolution", CVPR 1993 (filling from around);
    Ramamoorthi & Hanrahan, "On the relationship between radiance and irradiance", JOSA A 18(10),
    2001 (the light on a face in four numbers).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from facestage.core.face.alignment import compose, warp
from numpy.typing import NDArray

from .fit import EYES

__all__ = [
    "GAMMA",
    "SOURCE_SCALE",
    "SOURCE_SIDE",
    "Light",
    "Texture",
    "bridge_edge",
    "look_up",
    "read_light",
    "read_texture",
    "to_source",
]

Map = NDArray[np.uint8]

GAMMA = 2.2
"""Display encoding of photographs, about that of sRGB."""
SOURCE_LOW, SOURCE_EXTENT = -24.0, 176.0
"""First template unit of the source frame and units it shows: room for what moves into view."""
SOURCE_SCALE = 1.75
"""Pixels of the source frame per unit: more than a shaded picture has, so that it stays sharp."""
SOURCE_SIDE = round(SOURCE_EXTENT * SOURCE_SCALE)
"""Side of the source frame, px."""
OPEN_EYE = (0.92, 0.8)
"""Width and height, of those of the lid landmarks, within which surely the eyeball is seen."""
LASHES = (1.22, 1.1)
"""The same around eye, lashes and their shade."""
LASH_PIXELS = (1.0, 5.0)
"""Pixels of the source frame that they reach beyond it, to the side and upwards."""
BROW_WIDTH = 15
"""Width of the brows, px of the source frame, from which no skin of lids is taken."""
ZONE_BLUR = 2.0
"""Blur of the edge of what lids may replace, px of the source frame."""
IN_SHADE = 0.85
"""Brightness of the white close under a lid, share of that in the open."""
WHITE = 88
"""Percentile of an eye's brightness that stands for its white."""
FACING = 0.35
"""Least cosine between skin and camera where the light is read: no silhouettes."""
LIGHT_RIDGE = 0.03
"""Pull of the directed light to 0, so that an evenly lit face gets none by chance."""
LEAST_AMBIENT = 0.25
"""Least ambient light, share of the skin's brightness."""


@dataclass(frozen=True)
class Light:
    """Brightness of skin with normal ``n``: ``ambient + max(direction @ n, 0)``, linear.

    Attributes:
        ambient: 0-1.
        direction: ``(3,)`` float64, camera space, as long as the light is strong.
        skin: median brightness of the skin, 0-1.
    """

    ambient: float
    direction: NDArray[np.float64]
    skin: float

    def on(self, normals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the brightness of ``(..., 3)`` unit normals."""
        directed = (normals @ self.direction.astype(np.float32)).clip(0)
        return np.maximum(self.ambient + directed, 0.05 * self.skin)


@dataclass(frozen=True)
class Texture:
    """A photograph in the source frame; maps are ``(SOURCE_SIDE, SOURCE_SIDE)`` uint8.

    Attributes:
        photo: display-encoded grey.
        eyeballs: the same with each eyeball continued under its lids.
        lids: the same with skin where eyes and lashes are.
        lid_zone: 255 where ``lids`` differs from ``photo``, soft at the edge.
        light: on the skin.
        white: brightness of the white of the eyes, linear, 0-1.
    """

    photo: Map
    eyeballs: Map
    lids: Map
    lid_zone: Map
    light: Light
    white: float


def to_source(units: NDArray[np.floating]) -> NDArray[np.float32]:
    """Map ``(..., 2)`` template units to pixels of the source frame."""
    return ((units - SOURCE_LOW) * SOURCE_SCALE).astype(np.float32)


def look_up(image: NDArray, units: NDArray[np.floating]) -> NDArray[np.float32]:
    """Sample a map of the source frame at ``(H, W, 2)`` template units; float32."""
    at = to_source(units)
    found = cv2.remap(
        image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return found.astype(np.float32)


def read_texture(
    grey: Map,
    to_units: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    irises: NDArray[np.float32],
    skin: NDArray[np.float32],
    normals: NDArray[np.float32],
) -> Texture:
    """Cut a photograph out and read from it what moving it needs.

    Args:
        grey: ``(H, W)`` the photograph.
        to_units: ``(2, 3)`` similarity, its pixels → template units.
        landmarks: ``(68, 2)`` units.
        irises: ``(2, 3)`` centre and radius of each iris, units.
        skin: ``(V, 2)`` units, places of the face's skin that face the camera or not.
        normals: ``(V, 3)`` unit normals there, camera space.
    """
    frame = np.array([[SOURCE_SCALE, 0, 0], [0, SOURCE_SCALE, 0]], np.float32)
    frame[:, 2] = -SOURCE_LOW * SOURCE_SCALE
    photo = warp(grey, compose(frame, to_units), SOURCE_SIDE)
    eyes = _eye_mask(landmarks, OPEN_EYE, (0.0, 0.0), ellipse=False)
    around = _eye_mask(landmarks, LASHES, LASH_PIXELS, ellipse=True)
    return Texture(
        photo=photo,
        eyeballs=_continued(photo, eyes, irises),
        lids=_filled(photo, around, _brow_mask(landmarks)),
        lid_zone=cv2.GaussianBlur(around, (0, 0), ZONE_BLUR).astype(np.uint8),
        light=read_light(photo, skin, normals),
        white=float(np.percentile((photo[eyes > 0] / 255.0) ** GAMMA, WHITE)),
    )


def _eye_mask(
    landmarks: NDArray[np.float32],
    share: tuple[float, float],
    beyond: tuple[float, float],
    *,
    ellipse: bool,
) -> Map:
    """Draw both eyes: the polygon of the lids, or the ellipse about it, scaled and widened."""
    mask = np.zeros((SOURCE_SIDE, SOURCE_SIDE), np.uint8)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for eye in EYES:
        corners = to_source(landmarks[eye])
        centre = corners.mean(0)
        if ellipse:
            half = np.abs(corners - centre).max(0) * share + beyond
            outline = centre + half * np.column_stack([np.cos(angle), np.sin(angle)])
        else:
            outline = centre + (corners - centre) * share
        fixed = np.rint(outline * 16).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_8, 4)
    return mask


def _continued(photo: Map, known: Map, irises: NDArray[np.float32]) -> Map:
    """Paint each eyeball on beyond what its lids show: its white, its iris, its pupil.

    Args:
        photo: in the source frame.
        known: where surely an eyeball is seen.
        irises: ``(2, 3)`` centre and radius of each, units.
    """
    filled, seen = photo.astype(np.float32), cv2.medianBlur(photo, 5)
    row, column = np.indices(photo.shape, np.float32)
    for (x, y), radius in zip(to_source(irises[:, :2]), irises[:, 2] * SOURCE_SCALE, strict=True):
        away = np.hypot(column - x, row - y) / radius
        near = (known > 0) & (away < 4)
        tones = [seen[near & (away > 1.15)], seen[near & (away < 0.85)], seen[near & (away < 0.4)]]
        if not all(len(tone) for tone in tones):
            continue
        white, iris, pupil = np.percentile(tones[0], 70), np.median(tones[1]), np.min(tones[2])
        within, inmost = (1 / (1 + np.exp((away - edge) / 0.07)) for edge in (1.0, 0.38))
        ball = IN_SHADE * white + (iris - IN_SHADE * white) * within + (pupil - iris) * inmost
        filled = np.where(away < 4, ball, filled)
    soft = cv2.GaussianBlur(cv2.erode(known, np.ones((3, 3))), (0, 0), 1.0) / np.float32(255)
    return np.rint(filled + (photo - filled) * soft).clip(0, 255).astype(np.uint8)


def _brow_mask(landmarks: NDArray[np.float32]) -> Map:
    """Draw the brows, broad."""
    mask = np.zeros((SOURCE_SIDE, SOURCE_SIDE), np.uint8)
    for brow in (landmarks[17:22], landmarks[22:27]):
        fixed = np.rint(to_source(brow) * 16).astype(np.int32)
        cv2.polylines(mask, [fixed], False, 255, BROW_WIDTH, cv2.LINE_8, 4)
    return mask


def _filled(photo: Map, hidden: Map, other: Map) -> Map:
    """Fill a mask smoothly from around it: wide averages first, then narrower ones.

    Args:
        photo: in the source frame.
        hidden: what is filled.
        other: what no filling comes from.
    """
    known = ((hidden == 0) & (other == 0)).astype(np.float32)
    inside = hidden > 0
    filled = photo.astype(np.float32)
    for sigma in (24.0, 12.0, 6.0):
        weight = cv2.GaussianBlur(known, (0, 0), sigma)
        mean = cv2.GaussianBlur(known * photo, (0, 0), sigma) / np.maximum(weight, 1e-6)
        trust = np.clip(weight / 0.15, 0, 1)
        filled = np.where(inside, filled + (mean - filled) * trust, filled)
    return np.rint(filled).astype(np.uint8)


def read_light(photo: Map, skin: NDArray[np.float32], normals: NDArray[np.float32]) -> Light:
    """Read ambient and directed light from the shading of the skin, robust to its spots and hair.

    Args:
        photo: in the source frame.
        skin: ``(V, 2)`` units.
        normals: ``(V, 3)`` unit normals there, camera space.
    """
    facing = normals[:, 2] > FACING
    at = np.rint(to_source(skin[facing])).astype(int).clip(0, SOURCE_SIDE - 1)
    seen = (photo[at[:, 1], at[:, 0]] / 255.0) ** GAMMA
    basis = np.column_stack([np.ones(len(at)), normals[facing]])
    ridge = len(at) * np.diag([0, LIGHT_RIDGE, LIGHT_RIDGE, LIGHT_RIDGE])
    trust, found = np.ones(len(at)), np.zeros(4)
    for _ in range(4):
        weighted = basis * trust[:, None]
        found = np.linalg.solve(weighted.T @ basis + ridge, weighted.T @ seen)
        off = seen - basis @ found
        trust = 1 / (1 + (off / (1.5 * np.median(np.abs(off)) + 1e-3)) ** 2)
    level = float(np.median(seen))
    return Light(max(float(found[0]), LEAST_AMBIENT * level), found[1:], level)


def bridge_edge(photo: Map, landmarks: NDArray[np.float32]) -> float:
    """Measure the sharpest edge across the nose between the brows and its tip: that of glasses.

    Args:
        photo: in the source frame.
        landmarks: ``(68, 2)`` units.

    Returns:
        Change of the logarithm of brightness from one row of the source frame to the next.
    """
    marks = to_source(landmarks)
    middle = int(marks[[39, 42], 0].mean())
    top, tip = int(marks[[21, 22], 1].mean()) - 4, int(marks[29, 1])
    ridge = np.log(photo[top:tip, middle - 4 : middle + 5] + 8.0).mean(1)
    smooth = cv2.GaussianBlur(ridge[:, None], (1, 5), 0.8)[:, 0]
    return float(np.abs(np.diff(smooth)).max())
