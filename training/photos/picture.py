"""One picture of a donor whose face has moved.

The moved mesh is drawn, and every pixel looks the photograph up at the place its point of the face
had before. What the photograph cannot know is added: how the light falls on the moved skin (the
ratio of the shading after and before), furrows, the inside of the mouth, lids that come down.

References:
    Liu, Shan & Zhang, "Expressive expression mapping with ratio images", SIGGRAPH 2001;
    Thies et al., "Face2Face: real-time face capture and reenactment of RGB videos", CVPR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from facestage.core.face.alignment import invert, similarity, transform
from numpy.typing import NDArray

from ..data.generator import SHADED_SIDE
from ..face.facekit import FaceKit
from ..face.facs import AU_INDEX
from ..render.appearance import Appearance
from ..render.gbuffer import (
    EYE_SOCKET,
    GUMS,
    HEAD,
    IRIS,
    MOUTH_SOCK,
    NOTHING,
    SCLERA,
    SKIN,
    TEETH,
)
from ..render.raster import interpolate, rasterise, vertex_normals
from ..render.scene import CANVAS, MARGIN, TEMPLATE, TEMPLATE_WEIGHTS
from ..render.shading import CLOSED_MOUTH, TOOTH_EDGES
from ..render.skin import wrinkle_amplitudes
from ..render.wrinkles import KINDS, TEXTURE_SIZE, WINDOW, wrinkle_bank
from .donors import Donor, five_points
from .fit import EYES
from .texture import GAMMA, Texture, look_up

__all__ = ["Moved", "draw", "move"]

Map = NDArray[np.float32]

SCALE = SHADED_SIDE / CANVAS
"""Pixels of the shaded picture per template unit."""
SHIFT = (MARGIN + 0.5) * SCALE - 0.5
"""Pixel of the shaded picture at unit 0: areas scale, not centres."""
BACKDROP_REACH = 9.0
"""Distance from the head over which what is behind it stops following, px."""
LIGHT_RANGE = (0.4, 1.2)
"""Bounds of the change of light on skin: what is brighter is a normal gone wrong, not a sheen."""
RATIO_BLUR = 1.5
"""Blur of the change of light, px: skin is smoother than the mesh's triangles."""
WRINKLE_SLOPE = 0.09
"""Change of the logarithm of light per slope of the relief (groove depths per kit unit)."""
WRINKLE_CAVITY = 0.16
"""Loss of light on the floor of a groove of depth 1, logarithm."""
WRINKLE_RANGE = (-0.7, 0.2)
"""Bounds of the change of light by furrows, logarithm."""
DEEPEST = 1.8
"""Depth that furrows together do not exceed, groove depths: skin has a thickness."""
LEAST_SLANT = 0.25
"""Least share of the light that comes from above when furrows are lit."""
LID_MOVES = 1.5
"""Way down, units, after which a lid shows its own skin and nothing of the lashes."""
EYE_CHANGES = 0.7
"""Units by which lids open or eyes turn until all of the eyeball is the one that goes on."""
LID_SHADE = 0.35
"""Loss of brightness of an eye under a lid that is nearly shut."""
UNFOLDED = 0.6
"""Loss of photograph per length of skin from which skin that is drawn out is all new."""
LASH_LINE, LASHES_FROM = 0.55, 0.1
"""Darkness of the lashes of a shut eye, and the closing from which they are drawn anew."""
WHITE_ALBEDO = 0.33
"""Albedo of the white of the eyes in the shade of their lids: tells how bright the light is."""
SKIN_ALBEDO = (0.04, 0.6)
"""Range of skin's albedo; bounds the light that the eyes tell."""
LIP_LINE = 0.25
"""Distance behind the lips, cm, up to which the inside of the mouth has their light."""
PRESSES, LIP_SHADE = {23: 0.5, 24: 1.0, 28: 1.0}, 0.9
"""Action Units that hide the red of the lips, and the darkness of the line that is left."""
SEPARATION = 0.4
"""Darkness of the lines between teeth against that of rendered heads, which are drawn finer."""
TONGUE = 0.8
"""Light on the back of the tongue, share of that on gums at the lips."""
TOOTH_BLUR, LIP_BLUR = 0.9, 0.7
"""Blur of teeth and of the edge of parted lips, px."""


@dataclass(frozen=True)
class Moved:
    """A donor's face after it moved, aligned anew.

    Attributes:
        screen: ``(N, 3)`` float32, px of the shaded picture and depth in units.
        normals: ``(N, 3)`` float32, unit, camera space.
        landmarks: ``(68, 2)`` float32, units.
        back: ``(2, 3)`` units of the picture → units of the photograph of what did not move.
    """

    screen: Map
    normals: Map
    landmarks: Map
    back: Map


@dataclass(frozen=True)
class _Seen:
    """What is seen at every pixel of the shaded picture; maps ``(S, S)`` and ``(S, S, 2 or 3)``.

    Attributes:
        region: of the surface, -1 for none.
        surface: where on the skin's cylinder, kit units.
        across: distance from the midline on the generic head, kit units.
        depth: units, nearer is larger.
        home: where in the photograph, units, if nothing had moved.
        source: where in the photograph, units, the point of the surface was.
        before, after: unit normals.
    """

    region: NDArray[np.int64]
    surface: Map
    across: Map
    depth: Map
    home: Map
    source: Map
    before: Map
    after: Map

    def any_of(self, *regions: int) -> NDArray[np.bool_]:
        """Tell where one of the regions is seen."""
        return np.isin(self.region, regions)


def move(kit: FaceKit, donor: Donor, displacement: Map) -> Moved:
    """Move a donor's face and align it as the live path would.

    Args:
        kit: the face model.
        donor: whose face.
        displacement: ``(N, 3)`` float32 of its vertices, model space, cm.
    """
    shifted = donor.vertices + displacement @ donor.project.T
    landmarks = donor.landmarks + (shifted - donor.vertices)[kit.landmarks, :2]
    align = similarity(five_points(landmarks), TEMPLATE, TEMPLATE_WEIGHTS)
    screen = np.column_stack([transform(align, shifted[:, :2]) * SCALE + SHIFT, shifted[:, 2]])
    shape = (donor.shape + displacement).astype(np.float32)
    normals = vertex_normals(torch.from_numpy(shape)[None], kit.triangles, kit.opaque_count)
    return Moved(
        screen=np.ascontiguousarray(screen, np.float32),
        normals=(normals[0].numpy() @ donor.turn.T).astype(np.float32),
        landmarks=transform(align, landmarks),
        back=invert(align),
    )


def draw(
    kit: FaceKit,
    surface: Map,
    donor: Donor,
    moved: Moved,
    activity: NDArray[np.floating],
    gap: float,
    shut: float,
    looks: Appearance,
) -> NDArray[np.uint8]:
    """Draw the picture.

    Args:
        kit: the face model.
        surface: ``(N, 3)`` float32: where on the skin's cylinder each vertex lies and how far
            across, kit units (see :func:`surface_of`).
        donor: whose photograph.
        moved: the face.
        activity: ``(23,)`` Action Units, 0-1.
        gap: between the lips, cm beyond the generic head's.
        shut: 0-1, how far the eyes are closed.
        looks: how deep furrows get, and the inside of the mouth.

    Returns:
        ``(136, 136)`` uint8, display-encoded grey.
    """
    seen = _see(kit, surface, donor, moved)
    picture = _photograph(seen, donor, moved.landmarks, shut)
    picture = _lids(picture, seen, donor.texture, moved.landmarks, shut)
    light = (picture / 255) ** GAMMA
    change = _relit(seen, donor) * _furrowed(seen, donor, activity, looks)
    light *= change.clip(*LIGHT_RANGE)
    light *= _pressed(moved.landmarks, activity)
    light = _mouth(light, seen, donor, moved, kit, gap, looks)
    encoded = 255 * light.clip(0, 1) ** (1 / GAMMA)
    small = cv2.resize(encoded, (CANVAS, CANVAS), interpolation=cv2.INTER_AREA)
    return np.rint(small).clip(0, 255).astype(np.uint8)


def _see(kit: FaceKit, surface: Map, donor: Donor, moved: Moved) -> _Seen:
    """Draw the moved mesh and find where in the photograph every pixel was."""
    opaque = kit.triangles[: kit.opaque_count]
    screen = torch.from_numpy(moved.screen)[None]
    fragments = rasterise(screen, opaque, len(opaque), SHADED_SIDE)
    own = [donor.vertices[:, :2], moved.screen[:, 2:], donor.normals, moved.normals]
    dynamic = torch.from_numpy(np.concatenate(own, 1))[None]
    value = interpolate(fragments, opaque, surface, dynamic)[0].numpy()
    triangle = fragments.triangle[0].numpy()
    covered = triangle >= 0
    region = np.where(covered, kit.triangle_region[triangle.clip(0)], NOTHING)
    row, column = np.indices(covered.shape, np.float32)
    home = transform(moved.back, (np.stack([column, row], -1) - SHIFT) / SCALE)
    head = (region == SKIN) | (region == HEAD)
    was = value[..., 3:5]
    followed = home + _followed(np.where(head[..., None], was - home, 0).astype(np.float32), head)
    return _Seen(
        region=region,
        surface=value[..., :2],
        across=value[..., 2],
        depth=value[..., 5],
        home=home,
        source=np.where(covered[..., None], was, followed).astype(np.float32),
        before=value[..., 6:9],
        after=value[..., 9:12],
    )


def _followed(shift: Map, head: NDArray[np.bool_]) -> Map:
    """Let what is behind the head follow its edge, less and less with the distance from it."""
    inner = cv2.erode(head.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    weight = cv2.GaussianBlur(inner, (0, 0), 4.0)[..., None]
    mean = cv2.GaussianBlur(shift * inner[..., None], (0, 0), 4.0) / np.maximum(weight, 1e-4)
    away = cv2.distanceTransform(1 - head.astype(np.uint8), cv2.DIST_L2, 3)
    return mean * np.exp(-0.5 * (away / BACKDROP_REACH) ** 2)[..., None]


def _photograph(seen: _Seen, donor: Donor, landmarks: Map, shut: float) -> Map:
    """Look the photograph up; where eyes open wider or turn, what goes on under their lids.

    Args:
        seen: what is seen.
        donor: whose photograph.
        landmarks: ``(68, 2)`` units, of the moved face.
        shut: 0-1, how far the eyes are closed.

    Returns:
        ``(S, S)`` float32, display-encoded, 0-255.
    """
    picture = look_up(donor.texture.photo, seen.source)
    eyes = seen.any_of(SCLERA, IRIS, EYE_SOCKET)
    if not eyes.any():
        return picture
    turned = np.hypot(*(seen.source - seen.home)[eyes].T).max()
    wider = max(lid_height(landmarks) - lid_height(donor.landmarks), turned)
    share = np.clip(wider / EYE_CHANGES, 0, 1)
    balls = look_up(donor.texture.eyeballs, seen.source)[eyes]
    picture[eyes] += (balls - picture[eyes]) * share
    picture[eyes] *= 1 - LID_SHADE * shut
    return picture


def lid_height(landmarks: NDArray[np.floating]) -> float:
    """Return the mean height between upper and lower lids of ``(68, 2)`` landmarks."""
    return float((landmarks[[41, 40, 47, 46], 1] - landmarks[[37, 38, 43, 44], 1]).mean())


def _lids(picture: Map, seen: _Seen, texture: Texture, landmarks: Map, shut: float) -> Map:
    """Give lids plain skin where the photograph has lashes, folds and the eye they now cover.

    Args:
        picture: display-encoded, 0-255.
        seen: what is seen.
        texture: of the donor.
        landmarks: ``(68, 2)`` units.
        shut: 0-1, how far the eyes are closed.
    """
    # Skin that comes out of the fold of a lid is drawn out: the photograph never saw it.
    pitch = cv2.Sobel(np.ascontiguousarray(seen.source[..., 1]), cv2.CV_32F, 0, 1, scale=SCALE / 8)
    uncovered = ((1 - pitch) / UNFOLDED).clip(0, 1) ** 2
    way = np.hypot(*np.moveaxis(seen.source - seen.home, -1, 0))
    lowered = (way / LID_MOVES).clip(0, 1) * min(1, 2 * shut)
    # Once shut, nothing of the open eye is left, not even below, where the lid hardly moves.
    share = np.maximum(np.maximum(uncovered, lowered), np.clip(3 * shut - 2, 0, 1))
    share = cv2.GaussianBlur(share.astype(np.float32), (0, 0), 0.8)
    share *= look_up(texture.lid_zone, seen.source) / 255 * seen.any_of(SKIN)
    picture = picture + (look_up(texture.lids, seen.source) - picture) * share
    if shut < LASHES_FROM:
        return picture
    lashes = np.maximum(*(_line(landmarks[eye][:4], 0.6) for eye in EYES))
    return picture * (1 - LASH_LINE * min(1, 2 * (shut - LASHES_FROM)) * lashes)


def _relit(seen: _Seen, donor: Donor) -> Map:
    """Return the light on the moved skin over that before, 1 elsewhere."""
    light = donor.texture.light
    ratio = (light.on(seen.after) / light.on(seen.before)).clip(*LIGHT_RANGE)
    ratio = np.where(seen.any_of(SKIN, HEAD), ratio, 1).astype(np.float32)
    return cv2.GaussianBlur(ratio, (0, 0), RATIO_BLUR)


def _furrowed(seen: _Seen, donor: Donor, activity: NDArray[np.floating], looks: Appearance) -> Map:
    """Return the light on the furrows that the Action Units draw over that on flat skin."""
    states = np.stack([activity, np.zeros_like(activity)])
    active, rest = wrinkle_amplitudes((looks, looks), states).reshape(2, len(KINDS), -1)
    depth = active - rest
    # The lid's fold is in the photograph, and goes with the lid.
    depth[KINDS.index("upper_lid")] = 0
    kinds, variants = np.nonzero(np.abs(depth) > 0.02)
    if not len(kinds):
        return np.ones(seen.region.shape, np.float32)
    relief = np.tensordot(depth[kinds, variants], wrinkle_bank()[kinds, variants], 1)
    relief = DEEPEST * np.tanh(relief.astype(np.float32) / DEEPEST)
    texels = TEXTURE_SIZE / WINDOW[2]
    side = cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=texels / 8)
    up = -cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=texels / 8)
    direction = donor.texture.light.direction
    across, above = direction[0], max(direction[1], LEAST_SLANT * np.linalg.norm(direction))
    slope = (side * across + up * above) / (np.hypot(across, above) + 1e-6)
    change = -WRINKLE_SLOPE * slope + WRINKLE_CAVITY * np.minimum(relief, 0)
    x = (seen.surface[..., 0] - WINDOW[0]) * texels - 0.5
    y = (WINDOW[1] + WINDOW[2] - seen.surface[..., 1]) * texels - 0.5
    light = np.exp(change.clip(*WRINKLE_RANGE).astype(np.float32))
    found = cv2.remap(light, x, y, cv2.INTER_LINEAR, borderValue=1.0)
    return np.where(seen.any_of(SKIN), found, 1).astype(np.float32)


def _mouth(
    light: Map, seen: _Seen, donor: Donor, moved: Moved, kit: FaceKit, gap: float, looks: Appearance
) -> Map:
    """Paint teeth, gums and the dark behind them where the lips have parted."""
    inside = seen.any_of(MOUTH_SOCK, TEETH, GUMS)
    if not inside.any():
        return light
    mouth = looks.mouth
    level = donor.texture.light.skin
    bright = np.clip(donor.texture.white / WHITE_ALBEDO, *(level / a for a in SKIN_ALBEDO[::-1]))
    across = np.abs(seen.across)
    lines = np.exp(-0.5 * (np.abs(across[..., None] - TOOTH_EDGES).min(-1) / 0.07) ** 2)
    tooth = (
        mouth.teeth
        * np.exp(-0.14 * (across - 1.2).clip(0))
        * (1 - SEPARATION * mouth.separation * lines)
    )
    albedo = np.where(seen.any_of(TEETH), tooth, mouth.gums)
    size = float(np.linalg.norm(donor.project[2]))
    lips = moved.screen[kit.landmarks[[62, 66]], 2].mean()
    behind = ((lips - seen.depth) / size - LIP_LINE).clip(0)
    opened = CLOSED_MOUTH + (1 - CLOSED_MOUTH) * np.clip((gap - 0.06) / 0.5, 0, 1)
    shade = 1 - 0.5 * _shade_from_above(~inside)
    tongue = mouth.gums * _tongue(seen.region.shape, moved.landmarks)
    fall = np.exp(-behind * mouth.depth)
    value = (bright * opened * (albedo * fall + tongue) * shade).astype(np.float32)
    # Teeth and lips are no scissors' cut: they are blurred within, and the edge of the lips too.
    cover = inside.astype(np.float32)
    value = _mean_of(value, cover, TOOTH_BLUR)
    soft = cv2.GaussianBlur(cover, (0, 0), LIP_BLUR) * cv2.dilate(cover, np.ones((3, 3)))
    return light + (value - light) * soft


def _pressed(landmarks: Map, activity: NDArray[np.floating]) -> Map:
    """Return the shade between lips that are pressed or rolled in: their red is no longer seen."""
    press = max(share * activity[AU_INDEX[au]] for au, share in PRESSES.items())
    inner = landmarks[60:68]
    between = (inner[[0, 1, 2, 3, 4]] + inner[[0, 7, 6, 5, 4]]) / 2
    return 1 - LIP_SHADE * press * _line(between, LIP_BLUR)


def _line(units: Map, blur: float) -> Map:
    """Draw a soft line through ``(n, 2)`` units: ``(S, S)`` float32, at most 1."""
    line = np.zeros((SHADED_SIDE, SHADED_SIDE), np.uint8)
    points = np.rint((units * SCALE + SHIFT) * 16).astype(np.int32)
    cv2.polylines(line, [points], False, 255, 1, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(line, (0, 0), blur).astype(np.float32) / 255


def _tongue(shape: tuple[int, int], landmarks: Map) -> Map:
    """Return how much of the tongue is seen, 0-1: its back rises behind the lower teeth."""
    inner = landmarks[60:68] * SCALE + SHIFT
    (left, right), (top, bottom) = (np.sort(inner[[a, b], k]) for a, b, k in ((0, 4, 0), (2, 6, 1)))
    row, column = np.indices(shape, np.float32)
    down = ((row - top) / max(bottom - top, 1)).clip(0, 1)
    across = (column - (left + right) / 2) / max(0.28 * (right - left), 1)
    return TONGUE * (down**2 * np.exp(-0.5 * across**2)).astype(np.float32)


def _mean_of(values: Map, weight: Map, sigma: float) -> Map:
    """Blur values, each with its weight; beyond the weights, what is near goes on."""
    total = cv2.GaussianBlur(weight, (0, 0), sigma)
    return cv2.GaussianBlur(values * weight, (0, 0), sigma) / np.maximum(total, 1e-3)


def _shade_from_above(cover: NDArray[np.bool_]) -> Map:
    """Return a shade, 0-1, that falls from covered pixels to those up to four units below."""
    shade = np.zeros(cover.shape, np.float32)
    for units, strength in ((1, 0.95), (2, 0.65), (3, 0.35), (4, 0.15)):
        down = round(units * SCALE)
        shade[down:] = np.maximum(shade[down:], strength * cover[:-down])
    return shade
