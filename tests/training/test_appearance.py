"""The look of the rendered faces: repeatable, driven by muscles, independent of light."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import pytest
import torch
from facestage.core.errors import ConfigError

from training.face.facekit import FaceKit
from training.face.facs import AU_INDEX, AUS
from training.render.appearance import Appearance, sample_appearance
from training.render.gbuffer import HEAD, IRIS, MOUTH_SOCK, NOTHING, SCLERA, SKIN, TEETH, GBuffer
from training.render.lighting import Lighting, sample_lighting
from training.render.shading import shade
from training.render.skin import sample_skin, skin_texture, surface_coordinates, wrinkle_amplitudes
from training.render.wrinkles import KINDS, TEXTURE_SIZE, WINDOW, drives, texel_grid, wrinkle_bank

CPU = torch.device("cpu")
SIDE = 96
MOUTH_Y = -3.4


@dataclasses.dataclass(frozen=True)
class PlainKit:
    """The two fields of the face model that appearance reads."""

    generic: np.ndarray
    landmarks: np.ndarray


def landmarks() -> np.ndarray:
    """68 points of a plain face, kit units: brows, eyes, nose and lips where people have them."""
    points = np.zeros((68, 3), np.float32)
    points[:, 2] = 10.0
    points[0:17, 0] = np.linspace(-7.3, 7.3, 17)
    points[0:17, 1] = 3.7 - 11.0 * np.cos(np.linspace(-1.57, 1.57, 17)) ** 0.6
    points[17:22, :2] = [(-5.8, 5.2), (-4.9, 6.0), (-3.8, 6.3), (-2.4, 6.2), (-1.2, 5.9)]
    points[22:27, :2] = points[17:22, :2][::-1] * (-1, 1)
    points[27:31, 1] = [3.7, 2.6, 1.6, 0.4]
    points[31:36, :2] = [(-1.2, -1.1), (-0.6, -1.1), (0, -1.2), (0.6, -1.1), (1.2, -1.1)]
    points[42:45, :2] = [(1.84, 3.25), (2.78, 3.94), (3.87, 3.87)]
    points[45:48, :2] = [(4.46, 3.43), (3.86, 3.07), (2.73, 3.08)]
    points[36:42, :2] = points[[45, 44, 43, 42, 47, 46], :2] * (-1, 1)
    around = np.linspace(np.pi, -np.pi, 12, endpoint=False)
    points[48:60, 0], points[48:60, 1] = 2.5 * np.cos(around), MOUTH_Y + 0.95 * np.sin(around)
    inner = np.linspace(np.pi, -np.pi, 8, endpoint=False)
    points[60:68, 0], points[60:68, 1] = 2.2 * np.cos(inner), MOUTH_Y + 0.1 * np.sin(inner)
    return points


def kit() -> FaceKit:
    return cast(FaceKit, PlainKit(landmarks(), np.arange(68)))


def gaps(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def gbuffer(count: int, turn: float = 0.0) -> GBuffer:
    """An egg of skin with two eyeballs and a slit of teeth, seen from a turned camera."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    scale = SIDE / 22.0
    x = (columns - SIDE / 2 + 0.5) / scale
    y = 1.0 - (rows - SIDE / 2 + 0.5) / scale
    inside = (x / 7.5) ** 2 + (y / 9.0) ** 2
    covered = inside < 1
    z = 1.0 + 9.5 * (1.0 - inside).clamp(min=0.0).sqrt()
    region = torch.where(covered, SKIN, NOTHING)
    region = torch.where(covered & (y > 8.0), HEAD, region)
    ball = (x.abs() - 3.12) ** 2 / 1.3**2 + (y - 3.6) ** 2 / 0.5**2 < 1
    region = torch.where(ball, torch.where((x.abs() - 3.12).abs() < 0.6, IRIS, SCLERA), region)
    mouth = (x / 2.0) ** 2 + ((y - MOUTH_Y) / 0.5) ** 2 < 1
    region = torch.where(mouth, torch.where(y > MOUTH_Y, TEETH, MOUTH_SOCK), region)
    canonical = torch.stack([x, y, z], -1) * covered[..., None]
    normal = torch.nn.functional.normalize(torch.stack([x / 7.5, y / 9.0, z / 9.5], -1), dim=-1)
    c, s = float(np.cos(turn)), float(np.sin(turn))
    head = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    points = torch.from_numpy(landmarks())
    turned = points @ head.T
    pixels = torch.stack(
        [turned[:, 0] * scale + SIDE / 2 - 0.5, (1.0 - turned[:, 1]) * scale + SIDE / 2 - 0.5], -1
    )

    def batch(value: torch.Tensor) -> torch.Tensor:
        return value.expand(count, *value.shape).contiguous()

    return GBuffer(
        covered=batch(covered),
        region=batch(region),
        overlay=batch(torch.full_like(region, NOTHING)),
        uv=batch(canonical[..., :2]),
        canonical=batch(canonical),
        normal=batch(normal @ head.T),
        position=batch(canonical @ head.T),
        occlusion=batch(covered.float()),
        head=batch(head),
        vertices=batch(turned),
        landmarks=batch(pixels),
    )


def person(seed: int = 0) -> Appearance:
    """Return a person whose wrinkles show and whose hair and beard leave the face free."""
    look = sample_appearance(np.random.default_rng(seed))
    wrinkles = dataclasses.replace(
        look.wrinkles, gain=(1.0,) * len(KINDS), static=(0.0,) * len(KINDS)
    )
    beard = dataclasses.replace(look.beard, moustache=0.0, goatee=0.0, full=0.0)
    hair = dataclasses.replace(look.hair, bald=True, fringe=0.0, curtain=0.0)
    return dataclasses.replace(look, wrinkles=wrinkles, beard=beard, hair=hair)


def light(seed: int = 0) -> Lighting:
    return sample_lighting(np.random.default_rng(seed))


def active(**intensity: float) -> np.ndarray:
    """Return one row of activity, e.g. `active(au4=1.0)`."""
    row = np.zeros((1, len(AUS)), np.float32)
    for name, value in intensity.items():
        row[0, AU_INDEX[int(name[2:])]] = value
    return row


def patch(values: torch.Tensor, s: tuple[float, float], y: tuple[float, float]) -> torch.Tensor:
    """Return the texels of a rectangle on the flattened face."""
    grid_s, grid_y = texel_grid()
    box = (np.abs(grid_s) > s[0]) & (np.abs(grid_s) < s[1]) & (grid_y > y[0]) & (grid_y < y[1])
    return values[..., torch.from_numpy(box)]


def test_same_generator_state_gives_same_person() -> None:
    assert sample_appearance(np.random.default_rng(3)) == sample_appearance(
        np.random.default_rng(3)
    )
    assert sample_appearance(np.random.default_rng(3)) != sample_appearance(
        np.random.default_rng(4)
    )


def test_face_does_not_depend_on_its_batch() -> None:
    people = tuple(sample_appearance(np.random.default_rng(s)) for s in range(3))
    lights = tuple(light(s) for s in range(3))
    activity = np.random.default_rng(0).random((3, len(AUS))).astype(np.float32)
    together = shade(gbuffer(3), people, lights, activity, np.full(3, 0.4), kit())
    for i in (2, 0):
        alone = shade(
            gbuffer(1), people[i : i + 1], lights[i : i + 1], activity[i : i + 1], gaps(0.4), kit()
        )
        torch.testing.assert_close(alone[0], together[i], atol=2e-3, rtol=0)


def test_different_people_have_different_skin() -> None:
    texture = skin_texture((person(1), person(2)), np.zeros((2, 23)), landmarks(), CPU)
    assert (texture.maps[0, 0] - texture.maps[1, 0]).abs().mean() > 0.01


@pytest.mark.parametrize(
    ("action", "s", "y"),
    [
        ("au1", (0.0, 1.5), (6.8, 9.5)),
        ("au2", (2.5, 5.0), (6.5, 9.5)),
        ("au4", (0.0, 1.2), (4.8, 6.6)),
        ("au6", (4.9, 6.4), (2.2, 4.6)),
        ("au7", (2.2, 4.4), (2.2, 3.0)),
        ("au9", (0.2, 1.2), (2.2, 3.8)),
        ("au10", (1.4, 2.3), (-1.0, 0.8)),
        ("au12", (2.2, 3.6), (-4.0, -0.8)),
        ("au14", (2.6, 3.8), (-4.4, -2.6)),
        ("au15", (2.4, 3.4), (-5.4, -3.6)),
        ("au17", (0.0, 1.6), (-7.0, -5.0)),
        ("au20", (2.9, 4.8), (-5.0, -2.2)),
        ("au23", (0.0, 1.8), (-4.4, -2.2)),
    ],
)
def test_action_unit_folds_the_skin_where_it_should(
    action: str, s: tuple[float, float], y: tuple[float, float]
) -> None:
    people = (person(5),)
    rest = skin_texture(people, active(), landmarks(), CPU)
    moved = skin_texture(people, active(**{action: 1.0}), landmarks(), CPU)
    change = (moved.relief - rest.relief).abs()
    assert patch(change, s, y).mean() > 2.5 * change.mean()
    assert patch(moved.relief - rest.relief, s, y).min() < -0.15


def test_frown_darkens_and_roughens_the_glabella() -> None:
    people = (person(6),)
    rest = skin_texture(people, active(), landmarks(), CPU).maps
    frown = skin_texture(people, active(au4=1.0), landmarks(), CPU).maps
    where = ((0.0, 1.1), (4.9, 6.4))
    ratio = patch(frown[:, 0], *where) / patch(rest[:, 0], *where)
    assert ratio.min() < 0.88
    assert ratio.mean() < 1.0
    assert patch(frown[:, 1], *where).std() > 2 * patch(rest[:, 1], *where).std()


def test_closing_the_eye_flattens_the_lid_crease() -> None:
    crease = KINDS.index("upper_lid")
    assert drives(active())[0, crease] == 1.0
    assert drives(active(au43=1.0))[0, crease] == 0.0


def test_omega_needs_both_muscles() -> None:
    omega = KINDS.index("omega")
    assert drives(active(au1=1.0))[0, omega] == 0.0
    assert drives(active(au4=1.0))[0, omega] == 0.0
    assert drives(active(au1=1.0, au4=1.0))[0, omega] == 1.0


def test_smooth_skin_has_no_moving_wrinkles() -> None:
    look = person(7)
    smooth = dataclasses.replace(
        look, wrinkles=dataclasses.replace(look.wrinkles, gain=(0.0,) * len(KINDS))
    )
    assert not wrinkle_amplitudes((smooth,), active(au4=1.0, au6=1.0)).any()


def test_most_but_not_all_people_wrinkle() -> None:
    rng = np.random.default_rng(0)
    glabella = KINDS.index("glabella")
    gains = np.array([sample_appearance(rng).wrinkles.gain[glabella] for _ in range(300)])
    assert 0.6 < (gains > 0.3).mean() < 0.95


def test_rolled_in_lips_lose_their_red() -> None:
    look = person(8)
    painted = dataclasses.replace(look, mouth=dataclasses.replace(look.mouth, lip_ratio=0.4))
    rest = skin_texture((painted,), active(), landmarks(), CPU).maps[:, 0]
    rolled = skin_texture((painted,), active(au28=1.0), landmarks(), CPU).maps[:, 0]
    where = ((0.0, 1.2), (-4.0, -2.9))
    assert patch(rolled, *where).mean() > 1.4 * patch(rest, *where).mean()


def test_wrinkle_bank_is_repeatable_and_every_drawing_has_a_furrow() -> None:
    bank = wrinkle_bank()
    assert bank.shape[2:] == (TEXTURE_SIZE, TEXTURE_SIZE)
    assert bank.min(axis=(2, 3)).max() < -0.15
    wrinkle_bank.cache_clear()
    np.testing.assert_array_equal(wrinkle_bank(), bank)


def test_texture_lookup_finds_the_texel_of_a_point() -> None:
    texture = skin_texture((person(9),), active(), landmarks(), CPU)
    row, column = 60, 110
    grid_s, grid_y = texel_grid()
    surface = torch.tensor([[[[float(grid_s[row, column]), float(grid_y[row, column])]]]])
    found = sample_skin(texture, surface)[0, :, 0, 0]
    torch.testing.assert_close(found, texture.maps[0, :, row, column], atol=1e-3, rtol=1e-3)
    front = surface_coordinates(torch.tensor([0.0, 2.0, 10.0]))
    assert front.tolist() == pytest.approx([0.0, 2.0])
    assert WINDOW[0] < -9.0 < 9.0 < WINDOW[0] + WINDOW[2]


def mouth_and_skin(image: torch.Tensor) -> tuple[float, float]:
    buffer = gbuffer(1)
    teeth, skin = image[buffer.region == TEETH], image[buffer.region == SKIN]
    return float(teeth.max()), float(skin.median())


def test_teeth_stay_dark_behind_closed_lips_and_show_when_open() -> None:
    for seed in range(6):
        arguments = ((person(seed),), (light(seed),), active())
        # Edges are blended with the lips around: look at the light that the middle gets.
        closed, skin = mouth_and_skin(shade(gbuffer(1), *arguments, gaps(0.0), kit()))
        opened, _ = mouth_and_skin(shade(gbuffer(1), *arguments, gaps(0.9), kit()))
        assert closed < skin + 0.05
        assert opened > closed


@pytest.mark.parametrize("turn", [-1.5, -0.9, 0.0, 0.9, 1.5])
def test_picture_is_finite_and_in_range_at_any_pose(turn: float) -> None:
    rng = np.random.default_rng(11)
    people = tuple(sample_appearance(rng) for _ in range(4))
    lights = tuple(sample_lighting(rng) for _ in range(4))
    activity = rng.random((4, len(AUS))).astype(np.float32)
    image = shade(gbuffer(4, turn), people, lights, activity, rng.uniform(-0.3, 2.0, 4), kit())
    assert image.shape == (4, SIDE, SIDE)
    assert image.dtype == torch.float32
    assert bool(torch.isfinite(image).all())
    assert 0.0 <= float(image.min()) <= float(image.max()) <= 1.0
    assert (image.std((1, 2)) > 0.004).all()


def test_light_changes_the_picture_but_not_the_person() -> None:
    look = person(12)
    before = skin_texture((look,), active(), landmarks(), CPU).maps.clone()
    base = light(3)
    left = dataclasses.replace(base, key=1.5, ambient=0.1, key_direction=(-0.9, 0.0, 0.436))
    right = dataclasses.replace(left, key_direction=(0.9, 0.0, 0.436))
    images = shade(
        gbuffer(2), (look, look), (left, right), np.zeros((2, 23)), gaps(0.0, 0.0), kit()
    )
    half = SIDE // 2
    assert images[0, :, 20:half].mean() > images[0, :, half : SIDE - 20].mean()
    assert images[1, :, 20:half].mean() < images[1, :, half : SIDE - 20].mean()
    after = skin_texture((look,), active(), landmarks(), CPU).maps
    torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_exposure_brightens_every_pixel() -> None:
    look, base = person(13), light(4)
    dim = dataclasses.replace(base, exposure=0.1)
    bright = dataclasses.replace(base, exposure=0.4)
    images = shade(
        gbuffer(2), (look, look), (dim, bright), np.zeros((2, 23)), gaps(0.0, 0.0), kit()
    )
    assert bool((images[1] >= images[0]).all())


def test_eye_white_does_not_glare() -> None:
    whites, skins = [], []
    buffer = gbuffer(1)
    for seed in range(12):
        image = shade(buffer, (person(seed),), (light(seed),), active(), gaps(0.0), kit())
        whites.append(float(image[buffer.region == SCLERA].median()))
        skins.append(float(image[buffer.region == SKIN].median()))
    assert np.mean(np.array(whites) - np.array(skins)) < 0.1


def test_lengths_must_agree() -> None:
    with pytest.raises(ConfigError, match="2 faces, but 1 appearances"):
        shade(gbuffer(2), (person(),), (light(), light()), np.zeros((2, 23)), gaps(0.0, 0.0), kit())
