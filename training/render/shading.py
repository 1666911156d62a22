"""From geometry, person and light to a grey picture.

One deferred pass over the G-buffer: materials by region, a relief from the wrinkles, two lamps
with wrapped diffuse light and highlights, shadows marched through the depth of the picture
itself, ambient occlusion, eyeballs in the shade of the lids and teeth in the shade of the lips.
All of it in batched torch on the device of the G-buffer.

References:
    Blinn, "Models of Light Reflection for Computer Synthesized Pictures", SIGGRAPH 1977;
    McGuire & Mara, "Efficient GPU Screen-Space Ray Tracing", JCGT 3(4), 2014 (shadow march).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from facestage.core.errors import ConfigError

from ..face.facekit import FaceKit
from .appearance import Appearance, sample_appearance
from .gbuffer import (
    EYE_OCCLUSION,
    EYE_SOCKET,
    GUMS,
    HEAD,
    IRIS,
    LASHES,
    MOUTH_SOCK,
    SCLERA,
    SKIN,
    TEETH,
    GBuffer,
)
from .hair import HairLayers, backdrop, clothes, hair_layers
from .lashes import lash_cover
from .lighting import Lighting, LightTensors, light_tensors, sample_lighting
from .skin import sample_skin, skin_texture, surface_coordinates
from .wrinkles import CYLINDER_RADIUS

__all__ = ["Appearance", "Lighting", "sample_appearance", "sample_lighting", "shade"]

REFERENCE_SIDE = 136
"""Canvas side for which pixel distances below are meant."""
RELIEF = 0.12
"""Height of a groove of depth 1, kit units."""
EYE_CENTRE = (3.12, 3.62)
"""Centre of the eyeball in the generic head: distance from the midline, height."""
EYE_FRONT = 7.0
"""Points of the eyeball behind this depth are white, whatever their distance from the axis."""
TOOTH_EDGES = (0.0, 0.86, 1.54, 2.26, 2.92, 3.4)
"""Distances of the lines between the teeth from the midline, kit units."""
CLOSED_MOUTH = 0.04
"""Share of light that reaches teeth and tongue between closed lips."""
HIDDEN_SKY = 0.8
"""Share of the sky that reaches eyeballs and open mouths before their own shades."""
SHADOW_STEPS = (0.25, 0.5, 0.8, 1.15, 1.6, 2.2, 3.0, 4.0, 5.2)
"""Distances along the ray to the key lamp at which the depth is compared, kit units."""


@dataclass(frozen=True)
class _Frame:
    """How the camera's axes lie on the canvas: x_px = a x + b y + t_x, y_px = b x - a y + t_y."""

    a: torch.Tensor
    b: torch.Tensor
    offset: torch.Tensor


def shade(
    gbuffer: GBuffer,
    appearances: Sequence[Appearance],
    lightings: Sequence[Lighting],
    activity: np.ndarray | torch.Tensor,
    lip_gap: np.ndarray | torch.Tensor,
    kit: FaceKit,
) -> torch.Tensor:
    """Light and colour the faces of a batch.

    Args:
        gbuffer: geometry of B faces on a canvas of S pixels.
        appearances: B persons.
        lightings: B lightings.
        activity: (B, 23) float, AU intensity / 5, 0-1, in the fixed order of AUs.
        lip_gap: (B,) float, opening between the lips above that of closed lips, kit units.
        kit: the face model that was rasterised.

    Returns:
        (B, S, S) float32, display-encoded, 0-1.

    Raises:
        ConfigError: the lengths of the arguments differ.
    """
    people, lights = tuple(appearances), tuple(lightings)
    device, count = gbuffer.device, len(gbuffer)
    muscle = np.asarray(torch.as_tensor(activity).cpu(), np.float32)
    gap = torch.as_tensor(lip_gap, dtype=torch.float32, device=device).view(-1, 1, 1)
    if not len(people) == len(lights) == len(muscle) == len(gap) == count:
        raise ConfigError(
            f"{count} faces, but {len(people)} appearances, {len(lights)} lightings, "
            f"{len(muscle)} rows of activity and {len(gap)} lip gaps: give one of each per face"
        )
    light = light_tensors(lights, device)
    surface = surface_coordinates(gbuffer.canonical)
    texture = skin_texture(people, muscle, kit.generic[kit.landmarks], device)
    maps = sample_skin(texture, surface)
    frame = _frame(gbuffer, kit)
    hair = hair_layers(gbuffer, people, surface, _head_plane(gbuffer, frame))

    is_skin = (gbuffer.region == SKIN).float()
    normal = _bumped(
        gbuffer, surface, maps, people, is_skin * (1.0 - hair.cap) * (1.0 - hair.front)
    )
    albedo, gloss = _materials(gbuffer, maps, people, hair)
    diffuse, highlight = _light(gbuffer, normal, light, frame, people, gloss)
    enclosed = _mouth_light(gbuffer, people, gap, kit) * _eye_light(gbuffer, people)
    linear = albedo * diffuse * enclosed * (1.0 - 0.45 * hair.cast)
    linear = linear + highlight * (1.0 - hair.front)

    linear = _overlays(linear, gbuffer, people)
    lids = torch.as_tensor(kit.landmarks, device=device)
    linear = linear * (1.0 - 0.95 * lash_cover(gbuffer, people, lids) * (1.0 - hair.front))
    behind = _behind(people, gbuffer, light, hair)
    linear = torch.where(gbuffer.covered, linear, behind)
    linear = _antialiased(linear, gbuffer)
    return _develop(linear, light, people)


def _values(
    people: tuple[Appearance, ...], part: str, name: str, like: torch.Tensor
) -> torch.Tensor:
    """Return one value per person, (B, 1, 1) on the device of `like`."""
    values = [float(getattr(getattr(person, part), name)) for person in people]
    return torch.tensor(values, device=like.device).view(-1, 1, 1)


def _frame(gbuffer: GBuffer, kit: FaceKit) -> _Frame:
    """Fit the similarity from camera to canvas by least squares over the landmarks."""
    index = torch.as_tensor(kit.landmarks, device=gbuffer.device)
    source = gbuffer.vertices[:, index, :2]
    source = source * source.new_tensor([1.0, -1.0])
    target = gbuffer.landmarks
    mean_s, mean_t = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    s, t = source - mean_s, target - mean_t
    power = (s**2).sum((1, 2)).clamp(min=1e-6)
    a = (s * t).sum((1, 2)) / power
    b = (s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]).sum(1) / power
    moved = torch.stack(
        [
            a * mean_s[:, 0, 0] - b * mean_s[:, 0, 1],
            b * mean_s[:, 0, 0] + a * mean_s[:, 0, 1],
        ],
        -1,
    )
    return _Frame(a, b, mean_t[:, 0] - moved)


def _head_plane(gbuffer: GBuffer, frame: _Frame) -> torch.Tensor:
    """Return the head coordinates of all pixels on the plane through the middle of the head."""
    side = torch.arange(gbuffer.side, device=gbuffer.device, dtype=torch.float32)
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    x = columns - frame.offset[:, 0].view(-1, 1, 1)
    y = rows - frame.offset[:, 1].view(-1, 1, 1)
    a, b = frame.a.view(-1, 1, 1), frame.b.view(-1, 1, 1)
    size = a**2 + b**2
    camera_x, camera_y = (a * x + b * y) / size, (b * x - a * y) / size
    # At turns near the profile the plane is seen from its edge; keep it from degenerating.
    turn = gbuffer.head[:, :2, :2]
    determinant = turn[:, 0, 0] * turn[:, 1, 1] - turn[:, 0, 1] * turn[:, 1, 0]
    inverse = turn / determinant.clamp(min=0.5).view(-1, 1, 1)
    m = inverse.view(-1, 4, 1, 1)
    return torch.stack(
        [m[:, 3] * camera_x - m[:, 1] * camera_y, m[:, 0] * camera_y - m[:, 2] * camera_x], -1
    )


def _bumped(
    gbuffer: GBuffer,
    surface: torch.Tensor,
    maps: torch.Tensor,
    people: tuple[Appearance, ...],
    where: torch.Tensor,
) -> torch.Tensor:
    """Tilt the normals by the slope of the relief."""
    angle = surface[..., 0] / CYLINDER_RADIUS
    height = RELIEF * _values(people, "skin", "relief", where) * where
    sideways, upwards = maps[:, 1] * height, maps[:, 2] * height
    tilt = torch.stack([sideways * angle.cos(), upwards, -sideways * angle.sin()], -1)
    tilt = tilt.clamp_(-1.2, 1.2).flatten(1, 2) @ gbuffer.head.mT
    normal = gbuffer.normal - tilt.view_as(gbuffer.normal)
    length = (normal[..., 0] ** 2 + normal[..., 1] ** 2 + normal[..., 2] ** 2).clamp(min=1e-9)
    return normal * length.rsqrt()[..., None]


def _materials(
    gbuffer: GBuffer, maps: torch.Tensor, people: tuple[Appearance, ...], hair: HairLayers
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the albedo and the gloss of every pixel."""
    region = gbuffer.region
    skin_tone = _values(people, "skin", "albedo", maps)
    gums = _values(people, "mouth", "gums", maps)
    albedo = torch.where(region == SKIN, maps[:, 0], 0.85 * skin_tone.expand_as(maps[:, 0]))
    albedo = torch.where(region == EYE_SOCKET, 0.5 * skin_tone, albedo)
    albedo = torch.where((region == MOUTH_SOCK) | (region == GUMS), gums, albedo)
    albedo = _painted(albedo, gbuffer, region == TEETH, people, _teeth)
    albedo = _painted(albedo, gbuffer, _eyes(gbuffer), people, _eyeballs)

    dressed, cloth = clothes(people, gbuffer)
    albedo = torch.lerp(albedo, cloth.expand_as(albedo), dressed)
    hairs = _values(people, "hair", "albedo", maps) * hair.tone
    cover = torch.maximum(hair.cap, hair.front)
    albedo = torch.lerp(albedo, hairs, cover)
    is_skin = (region == SKIN).float()
    gloss = (is_skin * maps[:, 3] + 0.8 * (region == HEAD).float()) * (1.0 - dressed)
    return albedo, gloss * (1.0 - 0.9 * cover)


def _eyes(gbuffer: GBuffer) -> torch.Tensor:
    return (gbuffer.region == SCLERA) | (gbuffer.region == IRIS)


def _painted(
    albedo: torch.Tensor,
    gbuffer: GBuffer,
    where: torch.Tensor,
    people: tuple[Appearance, ...],
    paint: Callable[[torch.Tensor, Callable[[str, str], torch.Tensor]], torch.Tensor],
) -> torch.Tensor:
    """Fill a small region; `paint` sees (P, 3) canonical points and a person's values there."""
    face, row, column = where.nonzero(as_tuple=True)

    def value(part: str, name: str) -> torch.Tensor:
        return _values(people, part, name, albedo).flatten()[face]

    result = albedo.clone()
    result[face, row, column] = paint(gbuffer.canonical[face, row, column], value)
    return result


def _teeth(points: torch.Tensor, value: Callable[[str, str], torch.Tensor]) -> torch.Tensor:
    across = points[:, 0].abs()
    nearest = (across[:, None] - across.new_tensor(TOOTH_EDGES)).abs().amin(1)
    lines = torch.exp(-0.5 * (nearest / 0.07) ** 2)
    # Incisors are the lightest; every tooth further back is darker.
    tone = value("mouth", "teeth") * torch.exp(-0.14 * (across - 1.2).clamp(min=0.0))
    return tone * (1.0 - value("mouth", "separation") * lines)


def _eyeballs(points: torch.Tensor, value: Callable[[str, str], torch.Tensor]) -> torch.Tensor:
    """Return iris, limbal ring, pupil and white."""
    radius = torch.hypot(points[:, 0].abs() - EYE_CENTRE[0], points[:, 1] - EYE_CENTRE[1])
    radius = torch.where(points[:, 2] > EYE_FRONT, radius, torch.full_like(radius, 9.0))
    outer, pupil = value("eyes", "iris_radius"), value("eyes", "pupil_radius")
    iris = value("eyes", "iris") * (0.75 + 0.6 * radius / outer)
    iris = iris * (1.0 - 0.55 * torch.exp(-0.5 * ((radius - outer) / 0.07) ** 2))
    iris = torch.lerp(torch.full_like(iris, 0.01), iris, torch.sigmoid((radius - pupil) / 0.03))
    white = value("eyes", "sclera")
    white = white * (1.0 - value("eyes", "veins") * ((radius - outer) / 0.8).clamp(0.0, 1.0))
    return torch.lerp(iris, white, torch.sigmoid((radius - outer) / 0.035))


def _light(
    gbuffer: GBuffer,
    normal: torch.Tensor,
    light: LightTensors,
    frame: _Frame,
    people: tuple[Appearance, ...],
    gloss: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the irradiance and the highlights of every pixel."""

    view = normal.new_tensor([0.0, 0.0, 1.0])
    half = F.normalize(light.key_direction + view, dim=-1)
    half_fill = F.normalize(light.fill_direction + view, dim=-1)
    directions = torch.stack(
        [light.key_direction, light.fill_direction, light.gradient, half, half_fill], -1
    )
    facing = (normal.flatten(1, 2) @ directions).view(*normal.shape[:3], -1)
    key, fill, gradient, mirror, mirror_fill = facing.unbind(-1)

    # The occlusion was measured on a closed, neutral face: inside of it, mouth and eyes have
    # shades of their own.
    hidden = gbuffer.region >= MOUTH_SOCK
    open_sky = torch.where(hidden, HIDDEN_SKY, gbuffer.occlusion.clamp(0.02, 1.0))
    open_sky = open_sky**light.occlusion
    lit = _shadow(gbuffer, light, frame)
    key = ((key + light.wrap) / (1.0 + light.wrap)).clamp(min=0.0) * lit
    room = (light.ambient * (1.0 + gradient)).clamp(min=0.04)
    direct = light.key * key + light.fill * fill.clamp(min=0.0)
    irradiance = room * open_sky + direct * (0.35 + 0.65 * open_sky)

    exponent = _values(people, "skin", "roughness", gloss)
    oil = _values(people, "skin", "oil", gloss) * gloss
    # At grazing angles skin shines more (Schlick), at most threefold here.
    rim = 1.0 + 2.0 * (1.0 - normal[..., 2].clamp(0.0, 1.0)) ** 4
    shine = light.key * lit * mirror.clamp(min=0.0) ** exponent
    shine = shine + light.fill * mirror_fill.clamp(min=0.0) ** exponent
    highlight = oil * rim * shine * open_sky

    face, row, column = _eyes(gbuffer).nonzero(as_tuple=True)
    glint = light.key[face, 0, 0] * mirror[face, row, column].clamp(min=0.0) ** 160.0
    glint = glint + light.fill[face, 0, 0] * mirror_fill[face, row, column].clamp(min=0.0) ** 200.0
    glint = 0.45 * glint * _values(people, "eyes", "glint", gloss)[face, 0, 0]
    highlight[face, row, column] += glint
    return irradiance, highlight


def _shadow(gbuffer: GBuffer, light: LightTensors, frame: _Frame) -> torch.Tensor:
    """March towards the key lamp through the picture's own depth, at half resolution.

    Returns:
        (B, S, S) float32, share of the key light that arrives.
    """
    side = gbuffer.side
    step = 2
    depth = torch.where(gbuffer.covered, gbuffer.position[..., 2], torch.full((), -50.0))
    coarse = depth[:, ::step, ::step]
    rows = torch.arange(0, side, step, device=gbuffer.device, dtype=torch.float32)
    y, x = torch.meshgrid(rows, rows, indexing="ij")
    lx, ly, lz = light.key_direction.T[:, :, None, None]
    a, b = frame.a.view(-1, 1, 1), frame.b.view(-1, 1, 1)
    across, down = a * lx + b * ly, b * lx - a * ly
    blocked = torch.zeros_like(coarse)
    scale = 2.0 / side
    for distance in SHADOW_STEPS:
        grid = torch.stack(
            [
                (x + distance * across + 0.5) * scale - 1.0,
                (y + distance * down + 0.5) * scale - 1.0,
            ],
            -1,
        )
        found = F.grid_sample(
            depth[:, None], grid, mode="nearest", padding_mode="border", align_corners=False
        )[:, 0]
        above = found - (coarse + distance * lz)
        # A surface far in front of the ray is another part of the head, not an occluder here.
        block = torch.sigmoid((above - 0.12 - 0.04 * distance) * 9.0) * (above < 3.5)
        blocked = torch.maximum(blocked, block)
    soft = F.avg_pool2d(F.pad(blocked[:, None], (1, 1, 1, 1), mode="replicate"), 3, 1)
    full = F.interpolate(soft, size=(side, side), mode="bilinear", align_corners=False)[:, 0]
    return 1.0 - light.shadow * full


def _mouth_light(
    gbuffer: GBuffer, people: tuple[Appearance, ...], gap: torch.Tensor, kit: FaceKit
) -> torch.Tensor:
    """Return how much light reaches the inside of the mouth, 1 elsewhere."""
    region = gbuffer.region
    inside = ((region == MOUTH_SOCK) | (region == GUMS) | (region == TEETH)).float()
    index = torch.as_tensor(kit.landmarks[[62, 66]], device=gbuffer.device)
    forward = gbuffer.head[:, :, 2]
    lips = (gbuffer.vertices[:, index] @ forward[..., None]).mean((1, 2))
    depth = (gbuffer.position.flatten(1, 2) @ forward[..., None]).view_as(inside)
    behind = (lips.view(-1, 1, 1) - 0.25 - depth).clamp(min=0.0)
    fall = torch.exp(-behind * _values(people, "mouth", "depth", gap))
    opened = CLOSED_MOUTH + (1.0 - CLOSED_MOUTH) * ((gap - 0.06) / 0.5).clamp(0.0, 1.0)
    lip_shade = _shade_from_above(1.0 - inside, gbuffer.side)
    return torch.where(inside > 0, fall * opened * (1.0 - 0.5 * lip_shade), torch.ones_like(fall))


def _eye_light(gbuffer: GBuffer, people: tuple[Appearance, ...]) -> torch.Tensor:
    """Return the shade of lids and lashes on the eyeballs, 1 elsewhere."""
    ball = _eyes(gbuffer).float()
    lid = _values(people, "eyes", "lid_shade", ball)
    above = _shade_from_above(1.0 - ball, gbuffer.side)
    around = F.avg_pool2d(F.pad(1.0 - ball[:, None], (1, 1, 1, 1), mode="replicate"), 3, 1)[:, 0]
    shaded = 0.85 * (1.0 - lid * above) * (1.0 - 0.2 * around)
    return torch.where(ball > 0, shaded, torch.ones_like(shaded))


def _shade_from_above(cover: torch.Tensor, side: int) -> torch.Tensor:
    """Return a shade that falls from covered pixels to those up to four below, 0-1."""
    shade = torch.zeros_like(cover)
    unit = side / REFERENCE_SIDE
    for k, strength in ((1, 0.95), (2, 0.65), (3, 0.35), (4, 0.15)):
        shift = max(round(k * unit), 1)
        moved = F.pad(cover[:, None, :-shift], (0, 0, shift, 0), mode="replicate")[:, 0]
        shade = torch.maximum(shade, strength * moved)
    return shade


def _overlays(
    linear: torch.Tensor, gbuffer: GBuffer, people: tuple[Appearance, ...]
) -> torch.Tensor:
    """Draw the lashes and the soft shade where lid and eyeball meet.

    The lash cards are wide and mostly air: at this size they are a thin veil.
    """
    lashes = 1.0 - 0.35 * _values(people, "eyes", "lashes", linear)
    linear = torch.where(gbuffer.overlay == LASHES, linear * lashes, linear)
    return torch.where(gbuffer.overlay == EYE_OCCLUSION, 0.85 * linear, linear)


def _behind(
    people: tuple[Appearance, ...], gbuffer: GBuffer, light: LightTensors, hair: HairLayers
) -> torch.Tensor:
    """Return the background with the silhouette of the hair in front of it."""
    room = backdrop(people, gbuffer.side, gbuffer.device)
    tone = _values(people, "hair", "albedo", room) * hair.tone
    lit = tone * (0.55 * light.ambient + 0.3 * light.key + 0.15 * light.fill)
    # The background has its own light; only the exposure is shared.
    room = room * (light.ambient + 0.5 * light.key) * _values(people, "skin", "albedo", room)
    return torch.lerp(room / 0.3, lit, hair.back)


def _antialiased(linear: torch.Tensor, gbuffer: GBuffer) -> torch.Tensor:
    """Soften the steps along the borders of regions and silhouettes."""
    code = gbuffer.region.float()[:, None]
    code = F.pad(code, (1, 1, 1, 1), mode="replicate")
    border = F.max_pool2d(code, 3, 1) + F.max_pool2d(-code, 3, 1) > 0
    padded = F.pad(linear[:, None], (1, 1, 1, 1), mode="replicate")
    kernel = linear.new_tensor([0.21, 0.58, 0.21])
    soft = F.conv2d(padded, (kernel[:, None] * kernel).view(1, 1, 3, 3))
    return torch.where(border, soft, linear[:, None])[:, 0]


def _develop(
    linear: torch.Tensor, light: LightTensors, people: tuple[Appearance, ...]
) -> torch.Tensor:
    """Expose, roll the highlights off and encode for display."""
    tone = _values(people, "skin", "albedo", linear)
    # A camera exposes for what it sees: partly for the tone of the skin, fully for the light.
    reference = 0.25 * (tone / 0.25) ** light.adaptation
    reference = reference * (0.75 * light.ambient + 0.6 * light.key + 0.3 * light.fill)
    exposed = linear * light.exposure / reference + light.veil
    exposed = exposed.clamp(min=0.0)
    rolled = exposed / (1.0 + exposed**light.shoulder) ** (1.0 / light.shoulder)
    return rolled.clamp(0.0, 1.0) ** (1.0 / light.gamma)
