"""Own displacement fields, where the model's shapes show an Action Unit too weakly or not at all.

The shapes of ICT-FaceKit are blendshapes for animation: full ``browDown`` lowers the inner brow by
2 mm, and ``mouthPucker`` brings each corner in by 5 mm. FACS describes more at intensity E. Each
field is a smooth bump over the generic head, so it adds to a shape without leaving its anatomy.

References:
    Ekman, Friesen & Hager, *Facial Action Coding System: the manual*, 2002, chapters 2-6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..render.gbuffer import IRIS, MOUTH_SOCK, SCLERA, SKIN
from .facekit import FaceKit

__all__ = ["CORRECTIVES", "bump", "corrective_shapes", "root_of_nose", "smoothstep"]

CORRECTIVES = (
    "browKnit_L",
    "browKnit_R",
    "orbitTighten_L",
    "orbitTighten_R",
    "lidPouch_L",
    "lidPouch_R",
    "cheekApple_L",
    "cheekApple_R",
    "cornerTuck_L",
    "cornerTuck_R",
    "noseCrinkle",
    "mouthGather",
    "lipThin",
    "eyeSink_L",
    "eyeSink_R",
)
"""Names of the fields, in the order of :func:`corrective_shapes`."""
MOUTH_Y = -3.35
"""Height of the closed mouth's line on the generic head, cm."""


def corrective_shapes(kit: FaceKit) -> NDArray[np.float32]:
    """Make the displacement fields at weight 1.

    Args:
        kit: the face model; its generic head carries the fields.

    Returns:
        ``(15, N, 3)`` float32, cm, in the order of :data:`CORRECTIVES`.
    """
    x, y, z = kit.generic.astype(np.float64).T
    skin = (kit.vertex_region == SKIN) & (z > 2)
    eyeball = (kit.vertex_region == SCLERA) | (kit.vertex_region == IRIS)
    lips = skin | (kit.vertex_region == MOUTH_SOCK)
    fields: dict[str, NDArray[np.float64]] = {}
    for side, sign in (("L", 1.0), ("R", -1.0)):
        out = x * sign  # distance from the midline towards this side
        half = smoothstep(out, -0.5, 0.5)
        fields[f"browKnit_{side}"] = half[:, None] * skin[:, None] * _brow_knit(out, y, sign)
        fields[f"orbitTighten_{side}"] = skin[:, None] * _orbit_tighten(out, y, sign)
        fields[f"lidPouch_{side}"] = skin[:, None] * _lid_pouch(out, y)
        fields[f"cheekApple_{side}"] = skin[:, None] * _cheek_apple(out, y, sign)
        # Lids that close over a protruding eyeball would cut through it.
        fields[f"eyeSink_{side}"] = _move((eyeball & (out > 0)).astype(float), 0.0, 0.0, -0.6)
        fields[f"cornerTuck_{side}"] = lips[:, None] * _corner_tuck(out, y, sign)
    fields["noseCrinkle"] = skin[:, None] * _nose_crinkle(x, y)
    fields["mouthGather"] = lips[:, None] * _mouth_gather(x, y, z)
    fields["lipThin"] = lips[:, None] * _lip_thin(x, y)
    return np.stack([fields[name] for name in CORRECTIVES]).astype(np.float32)


def smoothstep(
    x: NDArray[np.float64], low: float | NDArray[np.float64], high: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rise from 0 at ``low`` to 1 at ``high``, flat at both ends."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    at: tuple[float, float],
    width: tuple[float, float],
) -> NDArray[np.float64]:
    """Return a Gaussian bump of height 1 at ``at`` with standard deviations ``width``, cm."""
    return np.exp(-0.5 * (((x - at[0]) / width[0]) ** 2 + ((y - at[1]) / width[1]) ** 2))


def root_of_nose(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 on the midline, falling to 0 where the eyes begin."""
    return 1 - smoothstep(np.abs(x), 0.4, 1.7)


def _move(weight: NDArray[np.float64], dx: float, dy: float, dz: float) -> NDArray[np.float64]:
    return weight[:, None] * np.array([dx, dy, dz])


def _brow_knit(
    out: NDArray[np.float64], y: NDArray[np.float64], sign: float
) -> NDArray[np.float64]:
    """Corrugator and procerus: inner brow down and inwards, the glabella bulges (AU 4)."""
    # The lids stay where they are: only their cover fold is pushed down.
    # Between the eyes the skin gives way over a longer stretch, or it would crease in a line.
    middle = root_of_nose(out)
    above_lid = smoothstep(y, 4.3 - 1.6 * middle, 5.5 + 0.4 * middle)
    inner = bump(out, y, (1.5, 6.0), (1.2, 1.1)) * above_lid
    middle = bump(out, y, (3.3, 6.2), (1.3, 1.2)) * above_lid
    bulge = bump(out, y, (0.7, 5.5), (0.45, 0.6))
    return (
        _move(inner, -0.34 * sign, -0.42, 0.06)
        + _move(middle, -0.22 * sign, -0.12, 0.04)
        + _move(bulge, 0.0, -0.06, 0.16)
    )


def _orbit_tighten(
    out: NDArray[np.float64], y: NDArray[np.float64], sign: float
) -> NDArray[np.float64]:
    """Outer orbicularis oculi: skin around the eye drawn towards it, cheek up (AU 6)."""
    temple = bump(out, y, (5.6, 3.5), (0.7, 1.1))
    tail = bump(out, y, (5.4, 5.4), (0.9, 0.6)) * smoothstep(y, 4.4, 5.2)
    below_lid = 1 - smoothstep(y, 2.4, 3.0)
    cheek = bump(out, y, (4.0, 1.5), (1.5, 0.8)) * below_lid
    pouch = bump(out, y, (3.4, 2.45), (1.2, 0.25)) * below_lid
    return (
        _move(temple, -0.22 * sign, 0.0, 0.06)
        + _move(tail, -0.05 * sign, -0.22, 0.02)
        + _move(cheek, -0.03 * sign, 0.38, 0.18)
        + _move(pouch, 0.0, 0.06, 0.10)
    )


def _lid_pouch(out: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Skin bagged under the lower lid, the infraorbital furrow below it, the cheek's rim (AU 6)."""
    sag = 0.06 * (out - 3.3) ** 2  # furrow and bag hang in the middle
    along = np.exp(-0.5 * ((out - 3.3) / 1.3) ** 4)
    bag = np.exp(-0.5 * ((y - 2.55 - sag) / 0.20) ** 2)
    furrow = np.exp(-0.5 * ((y - 2.02 - sag) / 0.16) ** 2)
    rim = bump(out, y, (4.1, 1.25), (1.2, 0.45))
    return (
        _move(along * bag, 0.0, 0.0, 0.12)
        + _move(along * furrow, 0.0, 0.0, -0.16)
        + _move(rim, 0.0, 0.0, 0.14)
    )


def _cheek_apple(
    out: NDArray[np.float64], y: NDArray[np.float64], sign: float
) -> NDArray[np.float64]:
    """Zygomaticus major: flesh bulges over a deep nasolabial fold, below the orbit (AU 12)."""
    below_orbit = 1 - smoothstep(y, 0.9, 1.9)
    apple = bump(out, y, (3.9, -0.2), (0.9, 0.8)) * below_orbit
    fold = bump(out - 2.75 - 0.35 * np.clip(-0.6 - y, 0, 3) / 1.5, y, (0.0, -1.4), (0.22, 1.0))
    return _move(apple, 0.06 * sign, 0.08, 0.26) + _move(fold, 0.0, 0.0, -0.12)


def _corner_tuck(
    out: NDArray[np.float64], y: NDArray[np.float64], sign: float
) -> NDArray[np.float64]:
    """Buccinator: the corner is drawn in and back, skin bulges beside it (AU 14)."""
    corner = bump(out, y, (2.6, -3.5), (0.40, 0.40))
    beside = bump(out, y, (3.45, -3.5), (0.38, 0.85))
    return _move(corner, 0.22 * sign, 0.0, -0.30) + _move(beside, -0.10 * sign, 0.0, 0.30)


def _nose_crinkle(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levator alaeque nasi and procerus: root of the nose shortened and thickened (AU 9)."""
    root = bump(np.abs(x), y, (0.5, 4.2), (0.6, 0.9))
    sides = bump(np.abs(x), y, (1.4, 1.6), (0.5, 1.0))
    return _move(root, 0.0, -0.18, 0.12) + _move(sides, 0.0, 0.22, 0.10)


def _mouth_gather(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Incisivii labii: the corners come to the midline, the lips forward (AU 18)."""
    mouth = np.exp(-0.5 * ((np.abs(x) / 3.1) ** 4 + ((y - MOUTH_Y) / 1.4) ** 2))
    mouth *= smoothstep(z, 6.0, 9.0)
    middle = np.exp(-0.5 * ((x / 1.3) ** 2 + ((y - MOUTH_Y) / 0.9) ** 2))
    return np.stack([-0.22 * x * mouth, 0 * x, 0.10 * mouth + 0.15 * middle], 1)


def _lip_thin(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orbicularis oris: the red of both lips narrows towards the mouth's line (AU 23, 24)."""
    line = MOUTH_Y - 0.027 * np.clip(np.abs(x), 0, 2.6) ** 2
    weight = np.exp(-0.5 * (((y - line) / 1.1) ** 4 + (np.abs(x) / 2.9) ** 6))
    return np.stack([0 * x, -0.50 * (y - line) * weight, -0.10 * weight], 1)
