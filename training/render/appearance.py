"""How one person looks: drawn once per identity, the same in every picture of that person.

The values are small and immutable; all texture noise grows from `Appearance.seed`, so a face
looks the same alone, in a batch, and in every frame of a clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .wrinkles import KINDS, VARIANTS

__all__ = [
    "Appearance",
    "Backdrop",
    "Beard",
    "Brows",
    "Eyes",
    "Hair",
    "Mouth",
    "Skin",
    "Wrinkles",
    "sample_appearance",
]


@dataclass(frozen=True, slots=True)
class Skin:
    """Skin; albedos are linear reflectances.

    Attributes:
        albedo: mean reflectance, about 0.05 (very dark) to 0.65 (very light).
        mottling: amplitude of large and small patches, log albedo.
        grain: amplitude of pore-sized albedo noise, log albedo.
        pores: height of pores, groove depths.
        freckles: share of texels that start a freckle.
        moles: number of moles.
        blush: darkening of cheeks and nose, log albedo (blood absorbs green).
        eye_circles: darkening below and around the eyes, log albedo (negative: lighter).
        shadow_beard_tone: darkening of the shaved beard area, log albedo.
        oil: strength of the highlights.
        roughness: exponent of the highlights, larger is tighter.
        relief: scale of all heights in the shading.
        cavity: darkening of a groove of depth 1, log albedo.
    """

    albedo: float
    mottling: float
    grain: float
    pores: float
    freckles: float
    moles: int
    blush: float
    eye_circles: float
    shadow_beard_tone: float
    oil: float
    roughness: float
    relief: float
    cavity: float


@dataclass(frozen=True, slots=True)
class Wrinkles:
    """Which drawing of each kind of wrinkle, how much of it moves and how much stays.

    Attributes:
        variant: row of the bank per kind, and a second one to mix in.
        mix: share of the second variant per kind, 0-1.
        gain: depth at full drive per kind, groove depths.
        static: depth at rest per kind, groove depths.
    """

    variant: tuple[tuple[int, int], ...]
    mix: tuple[float, ...]
    gain: tuple[float, ...]
    static: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Brows:
    """Brows, relative to the brow line of the generic face; lengths in kit units.

    Attributes:
        albedo: reflectance of the hairs.
        density: opacity at the core, 0-1.
        thickness: half height at the inner third.
        raise_: shift upwards.
        arch: extra height of the outer third.
        tilt: slope, upwards to the outside.
        inner: distance of the inner end from the midline.
        outer: distance of the outer end from the midline.
        softness: width of the border, share of the thickness.
        roughness: visibility of single hairs, 0-1.
    """

    albedo: float
    density: float
    thickness: float
    raise_: float
    arch: float
    tilt: float
    inner: float
    outer: float
    softness: float
    roughness: float


@dataclass(frozen=True, slots=True)
class Beard:
    """Facial hair; each part's density 0-1.

    Attributes:
        albedo: reflectance of the hairs.
        moustache, goatee, full: density of the three parts.
        stubble: 0 is long and opaque, 1 is short and see-through.
    """

    albedo: float
    moustache: float
    goatee: float
    full: float
    stubble: float


@dataclass(frozen=True, slots=True)
class Mouth:
    """Lips, teeth and what lies behind.

    Attributes:
        lip_ratio: albedo of the lips over that of the skin.
        lip_border: blur of the red border, kit units.
        gloss: highlight of the lips over that of the skin.
        teeth: albedo of the teeth.
        gums: albedo of gums and tongue.
        depth: how fast light fades behind the lips, 1 / kit unit.
        separation: darkness of the lines between teeth, 0-1.
    """

    lip_ratio: float
    lip_border: float
    gloss: float
    teeth: float
    gums: float
    depth: float
    separation: float


@dataclass(frozen=True, slots=True)
class Eyes:
    """Eyeballs, lashes and make-up.

    Attributes:
        iris: albedo of the iris.
        iris_radius: kit units.
        pupil_radius: kit units.
        sclera: albedo of the white.
        veins: darkening of the white towards the corners, 0-1.
        lashes: opacity of the lashes, 0-1.
        lash_line: darkness of the line they make along the upper lid, 0-1.
        lash_length: how far they hang over a shut eye, cm.
        liner: darkness of the lash line, 0-1.
        shadow: darkness of the upper lid (make-up), log albedo.
        lid_shade: how deep the upper lid's shade on the eyeball is, 0-1.
        glint: strength of the catch-light.
    """

    iris: float
    iris_radius: float
    pupil_radius: float
    sclera: float
    veins: float
    lashes: float
    lash_line: float
    lash_length: float
    liner: float
    shadow: float
    lid_shade: float
    glint: float


@dataclass(frozen=True, slots=True)
class Hair:
    """Hair on the head; lengths in kit units of the generic head.

    Attributes:
        albedo: reflectance.
        bald: no hair on the cap.
        line: height of the hairline above the origin at the midline.
        recession: extra height of the hairline at the temples.
        softness: width of the hairline.
        strands: contrast of strands.
        volume: thickness beyond the skull.
        length: 0 ends at the ears, 1 falls to the shoulders.
        fringe: 0 none, else how far it hangs from the hairline towards the brows.
        fringe_slant: height difference of the fringe between the sides.
        fringe_gap: share of strand gaps in the fringe.
        curtain: 0 none, else how far side hair covers the cheeks.
        curl: waviness of all borders.
    """

    albedo: float
    bald: bool
    line: float
    recession: float
    softness: float
    strands: float
    volume: float
    length: float
    fringe: float
    fringe_slant: float
    fringe_gap: float
    curtain: float
    curl: float


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What is behind the person, and the clothes.

    Attributes:
        level: mean brightness of the background, linear.
        contrast: spread of its shapes, log.
        shapes: number of rectangles (windows, shelves, door frames).
        blur: standard deviation of the defocus, share of the canvas.
        clothes: albedo of the clothes.
        neckline: height of the collar, kit units.
    """

    level: float
    contrast: float
    shapes: int
    blur: float
    clothes: float
    neckline: float


@dataclass(frozen=True, slots=True)
class Appearance:
    """Everything about a person's look that is not the shape of the face.

    Attributes:
        seed: start of all texture noise of this person.
        age: 0 (young adult) to 1 (old).
        skin, wrinkles, brows, beard, mouth, eyes, hair, backdrop: the parts.
    """

    seed: int
    age: float
    skin: Skin
    wrinkles: Wrinkles
    brows: Brows
    beard: Beard
    mouth: Mouth
    eyes: Eyes
    hair: Hair
    backdrop: Backdrop


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """Draw a person.

    Args:
        rng: generator of this identity; advanced by a number of draws that depends on the result.

    Returns:
        The person's look. Skin, hair and brow tones are correlated as in people: dark skin comes
        with dark hair, fair hair with light skin, grey hair with age.
    """
    age = float(rng.beta(1.1, 1.9))
    male = bool(rng.random() < 0.5)
    albedo = _log_uniform(rng, 0.055, 0.6)
    hair_albedo = _hair_albedo(rng, albedo, age)
    return Appearance(
        seed=int(rng.integers(2**31)),
        age=age,
        skin=_sample_skin(rng, albedo, male),
        wrinkles=_sample_wrinkles(rng, age),
        brows=_sample_brows(rng, albedo, hair_albedo, male),
        beard=_sample_beard(rng, hair_albedo, male),
        mouth=_sample_mouth(rng, male),
        eyes=_sample_eyes(rng, albedo, male),
        hair=_sample_hair(rng, hair_albedo, age, male),
        backdrop=Backdrop(
            level=_log_uniform(rng, 0.02, 0.8),
            contrast=float(rng.uniform(0.1, 1.1)),
            shapes=int(rng.integers(0, 7)),
            blur=float(rng.uniform(0.01, 0.06)),
            clothes=_log_uniform(rng, 0.02, 0.7),
            neckline=float(rng.uniform(-13.0, -9.6)),
        ),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _chance(rng: np.random.Generator, probability: float, low: float, high: float) -> float:
    """Return a uniform value with the given probability, else 0."""
    happens, value = rng.random() < probability, rng.uniform(low, high)
    return float(value) if happens else 0.0


def _hair_albedo(rng: np.random.Generator, skin: float, age: float) -> float:
    grey = rng.random() < 0.6 * age**2
    if grey:
        # Against dark skin grey hair is lighter, but not many times lighter.
        return min(float(rng.uniform(0.1, 0.2) + 0.25 * min(skin, 0.5)), 0.04 + 1.6 * skin)
    if skin > 0.28 and rng.random() < 0.3:
        return float(rng.uniform(0.08, 0.2))
    return min(_log_uniform(rng, 0.012, 0.09), 0.7 * skin)


def _sample_skin(rng: np.random.Generator, albedo: float, male: bool) -> Skin:
    return Skin(
        albedo=albedo,
        mottling=float(rng.uniform(0.03, 0.14)),
        grain=float(rng.uniform(0.01, 0.06)),
        pores=float(rng.uniform(0.0, 0.055)),
        freckles=_chance(rng, 0.15, 0.001, 0.012),
        moles=int(rng.poisson(1.2)),
        blush=float(rng.uniform(0.0, 0.25)),
        eye_circles=float(rng.uniform(-0.05, 0.35)),
        shadow_beard_tone=float(rng.uniform(0.0, 0.3)) if male else 0.0,
        oil=float(rng.uniform(0.01, 0.05) + 0.08 * rng.random() * min(albedo / 0.3, 1.0)),
        roughness=_log_uniform(rng, 7.0, 30.0),
        relief=float(rng.uniform(0.7, 1.5)),
        cavity=float(rng.uniform(0.25, 0.65)),
    )


def _sample_wrinkles(rng: np.random.Generator, age: float) -> Wrinkles:
    count = len(KINDS)
    # One face in four stays smooth: there the geometry alone must tell.
    smooth = rng.random() < 0.4 * (1.0 - age)
    level = 0.05 if smooth else rng.uniform(0.6, 1.1) * (0.8 + 0.5 * age)
    gain = level * np.exp(rng.normal(0.0, 0.3, count)) * (rng.random(count) > 0.08)
    lines = age**1.5 * rng.uniform(0.0, 0.7, count) * (rng.random(count) < 0.6)
    static = lines + rng.uniform(0.0, 0.07, count)
    # Some relief is there in every adult: the lid crease, the start of the cheek fold.
    lid, fold = KINDS.index("upper_lid"), KINDS.index("nasolabial")
    gain[lid], static[lid] = rng.uniform(0.1, 1.0), 0.0
    static[fold] += rng.uniform(0.05, 0.25)
    for kind in ("omega", "chin", "dimple"):
        static[KINDS.index(kind)] *= 0.3
    return Wrinkles(
        variant=tuple((int(a), int(b)) for a, b in rng.integers(0, VARIANTS, (count, 2))),
        mix=tuple(float(m) for m in rng.beta(0.4, 0.9, count)),
        gain=tuple(float(g) for g in gain.clip(0.0, 1.7)),
        static=tuple(float(s) for s in static),
    )


def _sample_brows(rng: np.random.Generator, skin: float, hair: float, male: bool) -> Brows:
    # Most brows are much darker than the skin around them and than the hair on the head, also in
    # old age: in pictures of people the brow shows half the brightness of the forehead, and that
    # line, not the wrinkles above it, is what tells a raised brow. A few are fair or plucked.
    fair, thin = rng.random() < 0.1, rng.random() < 0.1
    contrast = _log_uniform(rng, 0.2, 0.55) if fair else _log_uniform(rng, 0.02, 0.13)
    return Brows(
        albedo=min(hair * float(rng.uniform(0.4, 0.95)), contrast * skin),
        density=float(rng.uniform(0.3, 0.8) if thin else rng.uniform(0.9, 1.0)),
        thickness=float(rng.uniform(0.42, 0.78) + (0.06 if male else -0.04)),
        raise_=float(rng.normal(-0.3, 0.18)),
        arch=float(rng.normal(0.1, 0.16)),
        tilt=float(rng.normal(0.0, 0.05)),
        inner=float(rng.uniform(0.75, 1.6)),
        outer=float(rng.uniform(5.2, 6.4)),
        softness=float(rng.uniform(0.15, 0.5)),
        roughness=float(rng.uniform(0.15, 0.7)),
    )


def _sample_beard(rng: np.random.Generator, hair: float, male: bool) -> Beard:
    style = rng.random() if male else 0.0
    low, high = rng.uniform(0.3, 1.0, 2)
    parts = {"moustache": 0.0, "goatee": 0.0, "full": 0.0}
    if 0.50 < style <= 0.60:
        parts["moustache"] = low
    elif 0.60 < style <= 0.72:
        parts.update(moustache=low, goatee=high)
    elif style > 0.72:
        parts.update(moustache=low, goatee=high, full=min(low, high))
    return Beard(
        albedo=float(np.clip(hair * rng.uniform(0.7, 1.4), 0.012, 0.45)),
        stubble=float(rng.beta(1.0, 1.0)),
        **{name: float(value) for name, value in parts.items()},
    )


def _sample_mouth(rng: np.random.Generator, male: bool) -> Mouth:
    made_up = not male and rng.random() < 0.4
    return Mouth(
        lip_ratio=float(rng.uniform(0.35, 0.7) if made_up else rng.uniform(0.6, 0.95)),
        lip_border=float(rng.uniform(0.08, 0.16) if made_up else rng.uniform(0.12, 0.3)),
        gloss=float(rng.uniform(0.5, 2.2)),
        teeth=float(rng.uniform(0.28, 0.54)),
        gums=float(rng.uniform(0.05, 0.16)),
        depth=float(rng.uniform(0.3, 0.7)),
        separation=float(rng.uniform(0.15, 0.6)),
    )


def _sample_eyes(rng: np.random.Generator, skin: float, male: bool) -> Eyes:
    fair = skin > 0.25 and rng.random() < 0.45
    made_up = not male and rng.random() < 0.5
    return Eyes(
        iris=_log_uniform(rng, 0.06, 0.2) if fair else _log_uniform(rng, 0.012, 0.06),
        iris_radius=float(rng.uniform(0.56, 0.65)),
        pupil_radius=float(rng.uniform(0.15, 0.32)),
        sclera=float(rng.uniform(0.3, 0.5) * (0.75 + 0.5 * min(skin, 0.5))),
        veins=float(rng.uniform(0.05, 0.35)),
        lashes=float(rng.uniform(0.7, 1.0) if made_up else rng.uniform(0.3, 0.95)),
        lash_line=float(rng.uniform(0.8, 1.0) if made_up else rng.uniform(0.3, 0.98)),
        lash_length=float(rng.uniform(0.3, 0.6) if made_up else rng.uniform(0.15, 0.45)),
        liner=float(rng.uniform(0.5, 0.95) if made_up else rng.uniform(0.25, 0.7)),
        shadow=float(rng.uniform(-0.1, 0.7) if made_up else rng.uniform(-0.1, 0.3)),
        lid_shade=float(rng.uniform(0.3, 0.65)),
        glint=float(rng.uniform(0.0, 1.0)),
    )


def _sample_hair(rng: np.random.Generator, albedo: float, age: float, male: bool) -> Hair:
    bald = male and rng.random() < 0.1 + 0.25 * age
    longish = rng.random() < (0.12 if male else 0.75)
    return Hair(
        albedo=albedo,
        bald=bool(bald),
        line=float(rng.normal(11.0, 0.55) + (1.2 * age**2 if male else 0.0)),
        recession=float(rng.uniform(0.0, 1.0) * (age if male else 0.2)),
        softness=float(rng.uniform(0.12, 0.4)),
        strands=float(rng.uniform(0.1, 0.38)),
        volume=float(rng.uniform(0.1, 0.8) if not longish else rng.uniform(0.5, 1.8)),
        length=float(rng.uniform(0.5, 1.0) if longish else rng.uniform(0.0, 0.2)),
        fringe=0.0 if bald else _chance(rng, 0.28, 0.15, 1.05),
        fringe_slant=float(rng.normal(0.0, 1.0)),
        fringe_gap=float(rng.uniform(0.0, 0.6)),
        curtain=_chance(rng, 0.5, 0.2, 1.0) if longish and not bald else 0.0,
        curl=float(rng.uniform(0.0, 1.0)),
    )
