"""How people differ at rest beyond the model's identity shapes: fields, and how they are drawn.

The identity shapes of ICT-FaceKit span scanned heads that were fitted to one mesh. Photographs of
neutral people show lower brows than the generic head has, and noses, chins and mouths that differ
more than the shapes allow. Each field here moves one such trait. It moves the mesh, so landmarks,
paint and wrinkles go with it. `python -m training rest` compares the result with photographs.

References:
    Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020 (the shapes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..render.gbuffer import (
    EYE_OCCLUSION,
    EYE_SOCKET,
    GUMS,
    IRIS,
    LASHES,
    MOUTH_SOCK,
    SCLERA,
    SKIN,
    TEETH,
)
from .correctives import bump, root_of_nose, smoothstep
from .facekit import FaceKit

__all__ = ["TRAITS", "Trait", "brow_room", "sample_traits", "trait_shapes"]


@dataclass(frozen=True)
class Trait:
    """How a trait is drawn: ``mean + spread * (d + skew * (d^2 - 1))``, d standard normal.

    Attributes:
        mean: over people, cm of the named movement.
        spread: about the standard deviation over people, cm.
        skew: 0 is symmetric; positive makes the far end rarer and farther.
    """

    mean: float
    spread: float
    skew: float = 0.0


TRAITS = {
    "browLow": Trait(0.72, 0.24),
    "browNear": Trait(0.11, 0.04),
    "midfaceLong": Trait(0.0, 0.28),
    "philtrumLong": Trait(-0.08, 0.20),
    "chinLong": Trait(0.13, 0.36),
    # Wide noses go farther from the generic one than narrow ones.
    "noseWide": Trait(0.06, 0.43, 0.2),
    "cornerHigh": Trait(0.08, 0.14),
    "upperLipFull": Trait(-0.04, 0.10),
}
"""The traits, in the order of :func:`trait_shapes`. Fitted to the distances of
`python -m training rest`, of photographs of 200 neutral people."""
FARTHEST = 2.0
"""Standard deviations from the middle beyond which no trait is drawn."""
BROW_ROOM = 0.5
"""Share of its lowering by AU 4 and 9 that a brow loses which is as low at rest as brows get: it is
close to the lid, and would fold over the eye."""
NOSE_WIDTH = 3.1
"""Width of the generic head's nose, cm."""
MOUTH_FOLLOWS = 0.31
"""Share of the nose's widening that mouth and inner cheeks take part in: in photographs the widths
of nose and mouth go together."""


def sample_traits(rng: np.random.Generator) -> dict[str, float]:
    """Draw the traits of a person.

    Args:
        rng: random numbers; the same state gives the same person.

    Returns:
        The weight of every field, cm.
    """
    drawn = rng.normal(0, 1, len(TRAITS)).clip(-FARTHEST, FARTHEST)
    return {
        name: float(trait.mean + trait.spread * (d + trait.skew * (d * d - 1)))
        for (name, trait), d in zip(TRAITS.items(), drawn, strict=True)
    }


def brow_room(traits: dict[str, float]) -> float:
    """Return how far a brow still goes down, 1 for brows that are no lower than most."""
    low = TRAITS["browLow"]
    share = (traits["browLow"] - low.mean) / (FARTHEST * low.spread)
    return 1 - BROW_ROOM * max(share, 0.0)


def trait_shapes(kit: FaceKit) -> NDArray[np.float32]:
    """Make the displacement fields at weight 1.

    Args:
        kit: the face model; its generic head carries the fields.

    Returns:
        ``(8, N, 3)`` float32, cm, in the order of :data:`TRAITS`.
    """
    x, y, z = kit.generic.astype(np.float64).T
    region = kit.vertex_region
    skin = ((region == SKIN) & (z > 2)).astype(float)
    lips = np.maximum(skin, region == MOUTH_SOCK)
    eyes = np.isin(region, (EYE_SOCKET, SCLERA, IRIS, LASHES, EYE_OCCLUSION))
    # Teeth, gums and the inside of the mouth hang on the lips: they move in one piece.
    mouth = np.isin(region, (MOUTH_SOCK, GUMS, TEETH))
    inside = np.maximum(skin, mouth)
    fields = {
        "browLow": _lift(-skin * _brow(x, y)),
        "browNear": _approach(skin * bump(np.abs(x), y, (1.7, 5.9), (1.0, 0.8)), x),
        "midfaceLong": _lift(-np.where(eyes, 0.0, 1 - smoothstep(y, 0.0, 2.6))),
        "philtrumLong": _lift(-np.maximum(1 - smoothstep(y, -2.4, -1.2), mouth)),
        "chinLong": _lift(-np.where(mouth, 0.0, 1 - smoothstep(y, -7.0, -4.4))),
        "noseWide": _widen(_nose(x, y) * skin + MOUTH_FOLLOWS * _lower_face(x, y) * inside, x),
        "cornerHigh": _lift(lips * bump(np.abs(x), y, (2.5, -3.5), (0.7, 0.8))),
        "upperLipFull": _lift(lips * bump(np.abs(x), y, (0.0, -2.5), (1.3, 0.35))),
    }
    return np.stack([fields[name] for name in TRAITS]).astype(np.float32)


def _brow(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ridge and brow, from the lids, which stay, to the hairline.

    The root of the nose and the temple give way over a longer stretch than the fold above the lid
    has: a short one would crease into a line across the face.
    """
    out = np.abs(x)
    middle, temple = root_of_nose(x), smoothstep(out, 4.7, 6.3)
    height = smoothstep(y, 3.8 - 1.6 * (middle + temple), 5.5 + 0.6 * middle)
    return height * (1 - smoothstep(y, 6.8, 10.5)) * (1 - smoothstep(out, 6.5, 8.5))


def _lift(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    return weight[:, None] * np.array([0.0, 1.0, 0.0])


def _nose(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wings, tip and base of the nose."""
    height = smoothstep(y, -3.2, -1.6) * (1 - smoothstep(y, 0.3, 2.5))
    return height * (1 - smoothstep(np.abs(x), 2.0, 5.0))


def _lower_face(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nose, mouth and inner cheeks; the outline of the face stays."""
    return (1 - smoothstep(y, 0.3, 2.5)) * (1 - smoothstep(np.abs(x), 3.0, 7.0))


def _widen(weight: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale away from the midline so that wings of the nose move apart by 1 cm."""
    return (weight * x / NOSE_WIDTH)[:, None] * np.array([1.0, 0.0, 0.0])


def _approach(weight: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move towards the midline, which itself stays."""
    return (-weight * np.clip(x, -1, 1))[:, None] * np.array([1.0, 0.0, 0.0])
