"""Light on a face and the camera's exposure: drawn per picture, apart from the person's look.

Keeping light apart lets the frames of a clip flicker while the person stays the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["LightTensors", "Lighting", "light_tensors", "sample_lighting"]

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Lighting:
    """Two lamps, a room and a camera. Directions are unit vectors towards the lamp, camera space.

    Attributes:
        key_direction, fill_direction: where the lamps are.
        key, fill, ambient: their irradiance, and that of the room, relative units.
        gradient: how the room's light varies with the direction of the surface.
        wrap: softness of the terminator, 0-0.5 (large lamps, light scattered in skin).
        shadow: depth of cast shadows of the key lamp, 0-1.
        occlusion: exponent on the ambient occlusion.
        exposure: linear level of a mid-lit skin after exposure, 1 is white.
        adaptation: how far the camera exposes for the skin's own tone, 0-1.
        gamma: display encoding exponent.
        shoulder: softness of the roll-off at white; larger is harder.
        veil: stray light added to all pixels, linear.
    """

    key_direction: Vector
    fill_direction: Vector
    key: float
    fill: float
    ambient: float
    gradient: Vector
    wrap: float
    shadow: float
    occlusion: float
    exposure: float
    adaptation: float
    gamma: float
    shoulder: float
    veil: float


_SCENES = ("room", "window", "ceiling", "two_lamps", "screen", "lamp", "flat")
_CHANCES = (0.26, 0.18, 0.14, 0.14, 0.08, 0.10, 0.10)


def sample_lighting(rng: np.random.Generator) -> Lighting:
    """Draw a lighting situation and an exposure.

    Args:
        rng: generator of this picture (or clip).

    Returns:
        The lighting: a lit room, a window at the side, a ceiling lamp, two lamps, a screen from
        below, one hard lamp, or flat light; exposed well in most cases, else dim or too bright.
    """
    scene = str(rng.choice(_SCENES, p=_CHANCES))
    side = rng.choice((-1.0, 1.0))
    turn, rise = side * rng.uniform(0.1, 0.9), rng.uniform(0.0, 0.8)
    key, fill, ambient = rng.uniform(0.5, 1.2), rng.uniform(0.0, 0.3), rng.uniform(0.25, 0.6)
    wrap, shadow = rng.uniform(0.1, 0.45), rng.uniform(0.2, 0.7)
    fill_turn, fill_rise = -side * rng.uniform(0.3, 1.2), rng.uniform(-0.2, 0.6)
    if scene == "window":
        turn, rise = side * rng.uniform(0.8, 1.5), rng.uniform(-0.1, 0.5)
        key, ambient = rng.uniform(0.7, 1.5), rng.uniform(0.2, 0.5)
    elif scene == "ceiling":
        turn, rise = rng.normal(0.0, 0.3), rng.uniform(0.8, 1.3)
        key, shadow = rng.uniform(0.6, 1.3), rng.uniform(0.3, 0.9)
    elif scene == "two_lamps":
        fill, fill_turn = rng.uniform(0.4, 1.0), -side * rng.uniform(0.5, 1.4)
    elif scene == "screen":
        turn, rise = rng.normal(0.0, 0.25), rng.uniform(-0.7, -0.1)
        key, ambient = rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.5)
    elif scene == "lamp":
        turn, rise = side * rng.uniform(0.2, 1.3), rng.uniform(0.0, 1.0)
        key, ambient, wrap = rng.uniform(1.0, 2.0), rng.uniform(0.12, 0.35), rng.uniform(0.0, 0.2)
        shadow = rng.uniform(0.6, 1.0)
    elif scene == "flat":
        key, fill, ambient = rng.uniform(0.05, 0.25), 0.0, rng.uniform(0.7, 1.0)
    exposed = rng.random()
    if exposed < 0.13:
        exposure = rng.uniform(0.03, 0.10)
    elif exposed > 0.90:
        exposure = rng.uniform(0.65, 1.1)
    else:
        exposure = rng.uniform(0.14, 0.55)
    return Lighting(
        key_direction=_direction(turn, rise),
        fill_direction=_direction(fill_turn, fill_rise),
        key=float(key),
        fill=float(fill),
        ambient=float(ambient),
        gradient=(
            float(rng.normal(0.0, 0.12)),
            float(rng.normal(0.12, 0.14)),
            float(rng.normal(0.08, 0.1)),
        ),
        wrap=float(wrap),
        shadow=float(shadow),
        occlusion=float(rng.uniform(0.8, 2.0)),
        exposure=float(exposure),
        adaptation=float(rng.uniform(0.35, 1.0)),
        gamma=float(rng.uniform(1.9, 2.4)),
        shoulder=float(rng.uniform(1.5, 6.0)),
        veil=float(rng.exponential(0.008)),
    )


def _direction(turn: float, rise: float) -> Vector:
    """Return the unit vector at an angle to the side and upwards, radians."""
    return (
        float(np.sin(turn) * np.cos(rise)),
        float(np.sin(rise)),
        float(np.cos(turn) * np.cos(rise)),
    )


@dataclass(frozen=True)
class LightTensors:
    """The lightings of a batch: directions (B, 3), scalars (B, 1, 1) float32."""

    key_direction: torch.Tensor
    fill_direction: torch.Tensor
    gradient: torch.Tensor
    key: torch.Tensor
    fill: torch.Tensor
    ambient: torch.Tensor
    wrap: torch.Tensor
    shadow: torch.Tensor
    occlusion: torch.Tensor
    exposure: torch.Tensor
    adaptation: torch.Tensor
    gamma: torch.Tensor
    shoulder: torch.Tensor
    veil: torch.Tensor


def light_tensors(lightings: tuple[Lighting, ...], device: torch.device) -> LightTensors:
    """Stack the lightings of a batch."""

    def stack(name: str) -> torch.Tensor:
        values = torch.tensor([getattr(light, name) for light in lightings], device=device)
        return values if values.ndim == 2 else values.view(-1, 1, 1)

    return LightTensors(**{name: stack(name) for name in LightTensors.__dataclass_fields__})
