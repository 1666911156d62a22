"""Draw expressions and people: what faces do, how often, and what they look like at rest.

The mix serves training, not realism: every Action Unit is seen often, alone and in company, weak
and strong, and beside faces that do nothing at all.

References:
    Ekman & Friesen, EMFACS-7, 1983 (emotional prototypes);
    Prkachin & Solomon, "The structure, reliability and validity of pain expression", Pain 139,
    2008;
    Ambadar, Cohn & Reed, "All smiles are not created equal", J Nonverbal Behav 33, 2009.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .facs import AU_INDEX, AUS, Anatomy, Expression
from .traits import brow_room, sample_traits

__all__ = [
    "KINDS",
    "complete_expression",
    "only",
    "sample_anatomy",
    "sample_expression",
    "temporal_expressions",
]

KINDS = {
    "neutral": 0.15,
    "trace": 0.03,
    "alone": 0.25,
    "prototype": 0.24,
    "mixed": 0.26,
    "speech": 0.07,
}
"""How often each kind of face is drawn."""

PROTOTYPES: tuple[tuple[float, dict[int, float]], ...] = (
    # Smiles: felt, social, open, laughing, contemptuous, masking, controlled, embarrassed.
    (2.8, {6: 3.5, 12: 4.2, 25: 2.5}),
    (2.6, {12: 3.8}),
    (1.2, {12: 3.6, 25: 2.5}),
    (0.8, {12: 3.8, 25: 3, 26: 2.5}),
    (0.4, {12: 3.5, 43: 5}),
    (0.4, {12: 3.5, 7: 2.5}),
    (0.5, {1: 2.5, 2: 2.5, 12: 3.5, 25: 2}),
    (2.0, {6: 3.2, 12: 4.0, 25: 3, 26: 2.5, 7: 2}),
    (1.0, {6: 4, 7: 3, 12: 4.5, 25: 4, 26: 4, 10: 1.5}),
    (0.4, {12: 2, 14: 3}),
    (0.4, {12: 3.2, 15: 2, 17: 2.5}),
    (0.4, {12: 3, 23: 2.5, 24: 2}),
    (0.3, {6: 2.5, 12: 3, 15: 2, 1: 2, 2: 2}),
    (0.3, {12: 3, 20: 2, 25: 3, 4: 2}),
    # Surprise and brow flashes, down to the slight raise of listening and of emphasis.
    (0.8, {1: 1.5, 2: 1.6}),
    (0.5, {1: 1.6}),
    (0.5, {2: 1.7}),
    (0.5, {1: 1.6, 2: 1.6, 25: 2.5, 26: 1.5}),
    (1.2, {1: 4, 2: 4, 5: 3.5, 25: 2.5, 26: 3.5}),
    (0.9, {1: 4.2, 2: 4.2, 5: 4, 27: 3.5}),
    (1.2, {1: 3.5, 2: 3.5}),
    (0.6, {1: 3.5, 2: 3.5, 5: 3.5}),
    # Anger: held, open, staring, tight.
    (1.0, {4: 4, 7: 3.2, 23: 3, 5: 1.5}),
    (1.0, {4: 4.2, 5: 3, 7: 2.8, 24: 3.2}),
    (0.7, {4: 4, 5: 3, 7: 3, 10: 2.5, 16: 3, 25: 3, 26: 2, 22: 2}),
    (0.8, {4: 3.5, 7: 3.2}),
    (0.8, {4: 3.5}),
    # Disgust and contempt.
    (1.0, {9: 4, 10: 2.5, 17: 2.5, 4: 2}),
    (0.8, {10: 3.6, 25: 2.5}),
    (0.8, {9: 3.8, 16: 2.5, 25: 2.5}),
    (0.9, {14: 3.5}),
    # Sadness, worry, fear.
    (1.2, {1: 4, 4: 3.2, 15: 3.5, 17: 2.5}),
    (0.9, {1: 3.8, 4: 3}),
    (0.7, {1: 3, 4: 2.5, 6: 2.5, 15: 3}),
    (0.9, {15: 3.5, 17: 3.2}),
    (1.0, {1: 3.8, 2: 3.2, 4: 3, 5: 3.5, 20: 3.2, 25: 2.5, 26: 2}),
    (0.6, {1: 3.5, 2: 3.5, 4: 3, 5: 3.8, 20: 3.5, 27: 2.5}),
    # Pain, as Prkachin & Solomon found it: 4, 6 or 7, 9 or 10, 43; mouth open or pressed.
    (1.0, {4: 3.5, 6: 3, 7: 3, 9: 2.5, 10: 2.5, 43: 4.8}),
    (1.0, {4: 3.5, 6: 3, 7: 3.5, 10: 2.5, 25: 2.5}),
    (0.7, {4: 3.5, 7: 3.5, 9: 2.5, 43: 4, 20: 2.5, 25: 2}),
    (0.7, {4: 3, 6: 3, 7: 2.5, 12: 2, 20: 3, 25: 3.2, 26: 2.5}),
    (0.5, {4: 3, 7: 3, 24: 3, 17: 2}),
    # Cheeks and lids without the mouth: squinting at the sun, at print, in doubt, in pain.
    (1.0, {6: 3.2, 7: 3.2, 4: 2.5}),
    (0.8, {6: 3.4, 7: 2.5}),
    (0.6, {6: 3.2, 4: 3, 10: 2}),
    (0.8, {7: 3}),
    # Thinking, effort, doubt, yawning, whistling, sleepy.
    (0.6, {17: 3.2, 24: 3}),
    (0.5, {18: 4}),
    (0.5, {18: 3, 23: 2, 4: 2}),
    (0.5, {22: 4, 25: 3, 26: 2}),
    (0.5, {28: 4}),
    (0.4, {28: 3, 1: 2, 2: 2}),
    (0.5, {20: 3.5, 25: 2}),
    (0.5, {1: 2, 2: 2, 14: 2.5, 17: 2, 15: 2}),
    (0.5, {27: 4, 43: 4, 7: 2, 4: 1.5}),
    (0.5, {26: 2.5, 43: 3}),
    # Eyes shut: asleep, laughing, weeping, sobbing, straining, listening.
    (1.2, {43: 5}),
    (1.0, {6: 4, 7: 2, 12: 4.5, 25: 4, 43: 5}),
    (0.8, {1: 3.5, 4: 3.4, 7: 2.5, 15: 2.5, 17: 3, 43: 5}),
    (0.6, {1: 3, 4: 3.2, 6: 3, 7: 3.5, 20: 2.5, 25: 3, 26: 2, 43: 5}),
    (0.5, {4: 4, 6: 3, 7: 4, 43: 5}),
    (0.5, {1: 3, 2: 3, 43: 5}),
)
"""Weight and typical intensities of known combinations."""

MIXED_RATE = {
    1: 0.30, 2: 0.28, 4: 0.27, 5: 0.22, 6: 0.26, 7: 0.20, 9: 0.26, 10: 0.24, 12: 0.34, 14: 0.36,
    15: 0.34, 16: 0.26, 17: 0.32, 18: 0.34, 20: 0.32, 22: 0.38, 23: 0.34, 24: 0.42, 25: 0.22,
    26: 0.22, 27: 0.13, 28: 0.24, 43: 0.28,
}  # fmt: skip
"""Chance of each Action Unit in an independent set."""
ALONE_SHARE = dict.fromkeys(AUS, 1.0) | {
    1: 1.5, 2: 1.5, 4: 1.5, 14: 1.4, 18: 1.5, 22: 1.6, 23: 1.6, 24: 2.0, 27: 2.0, 28: 1.8, 43: 1.5,
    25: 0.8, 26: 0.8,
}  # fmt: skip
"""How often each Action Unit is drawn alone, against the others."""
SPEECH_RATE = {
    25: 0.85, 26: 0.6, 18: 0.25, 22: 0.3, 16: 0.35, 20: 0.25, 10: 0.25, 12: 0.3, 24: 0.15,
    17: 0.2, 23: 0.15, 28: 0.1, 14: 0.15, 1: 0.2, 2: 0.2, 4: 0.15, 5: 0.1, 7: 0.1, 43: 0.12,
}  # fmt: skip
"""Chance of each Action Unit while talking."""
PAIRED_AUS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 20, 43)
"""Action Units whose sides can differ."""
ONE_SIDED = {14: 0.40, 12: 0.07, 10: 0.08, 2: 0.08, 43: 0.05, 1: 0.03, 15: 0.05, 9: 0.03, 7: 0.03}
"""Chance that an Action Unit shows on one side only (contempt, a wink, a raised brow)."""
FULLY_SHUT = 0.6
"""Chance that a lid that lowers at all (from A on) shuts: blinks, sleep and pain end there."""
CHEEKS_FOLLOW = 0.25
"""Chance that a marked smile (from C on) drawn without AU 6 lifts the cheeks after all. In most
people's spontaneous smiles the two go together; a network that saw it so would read AU 6 from the
mouth."""
VARIED_PARTS = ("cheekSquint", "cheekRaiser", "orbitTighten", "lidPouch", "cheekApple")
"""Shapes of AU 6 and 12 that people show more or less of: some narrow their eyes when they smile,
in others only the cheeks rise."""
LIPS_MET = (-0.08, 0.005)
"""Mean and standard deviation of the gap at rest of lips that meet, cm beyond the generic head's,
whose lips are drawn .08 cm apart."""
LIPS_APART = (0.1, 0.42)
"""Least and greatest gap at rest of lips that do not quite meet, cm beyond the generic head's."""
LIPS_APART_SHARE = 0.06
"""Share of people whose lips do not quite meet."""
MOSTLY_SLIGHT = {1: 1.6, 2: 1.6, 4: 1.5}
"""Exponent by which the share of E that was drawn for a brow is lowered. Real raises lift the inner
brow by 1 to 2.4 px of the crop, as A to C do here; E is rare in people (`python -m training
amplitude`)."""
STRONG_GAZE = 0.10
"""Chance of a strong look up or down."""


@dataclass
class _Draft:
    """Intensities that are still being combined."""

    values: NDArray[np.float64]

    def __getitem__(self, au: int) -> float:
        return float(self.values[AU_INDEX[au]])

    def drop(self, *aus: int) -> None:
        for au in aus:
            self.values[AU_INDEX[au]] = 0

    def limit(self, au: int, bound: float) -> None:
        self.values[AU_INDEX[au]] = min(self[au], bound)


def only(au: int, intensity: float) -> Expression:
    """Return an expression of one Action Unit, both sides alike, nothing else."""
    values = np.zeros(len(AUS))
    values[AU_INDEX[au]] = intensity
    return Expression(left=values, right=values.copy())


def sample_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a person: bone, how strongly each muscle shows, and the face at rest.

    The traits at rest look like weak Action Units and are none: low lids, raised or heavy brows,
    corners that hang or lift, thin or full lips.
    """
    identity = rng.normal(0, 1, 100) * np.clip(rng.normal(0.95, 0.2), 0.4, 1.4)
    shared = np.exp(rng.normal(0, 0.10, len(AUS)))
    uneven = rng.normal(0, 0.05, len(AUS))
    rest: dict[str, float] = {}

    def both(name: str, value: float) -> None:
        tilt = rng.normal(0, 0.15) * value
        rest[f"{name}_L"] = rest.get(f"{name}_L", 0) + value + tilt
        rest[f"{name}_R"] = rest.get(f"{name}_R", 0) + value - tilt

    lids = rng.normal(0.05, 0.10)
    both("eyeBlink" if lids > 0 else "eyeWide", abs(lids) * (1 if lids > 0 else 1.3))
    if rng.random() < 0.14:  # narrow eyes
        both("eyeSquint", rng.uniform(0.1, 0.6))
        both("eyeBlink", rng.uniform(0.05, 0.22))
    brows = rng.normal(0, 0.22)
    both("browOuterUp" if brows > 0 else "browDown", abs(brows))
    both("browInnerUp", float(np.clip(rng.normal(0, 0.12), -0.2, 0.3)))
    corners = rng.normal(0, 0.13)
    both(
        "mouthSmile" if corners > 0 else "mouthFrown", abs(corners) * (0.7 if corners > 0 else 1.4)
    )
    rest["lipThin"] = float(np.clip(rng.normal(0.03, 0.25), -0.7, 0.5))
    if rng.random() < 0.04:  # lips that never quite meet
        rest["jawOpen"] = rng.uniform(0.01, 0.05)
    parts = {name: float(np.exp(rng.normal(0, 0.35))) for name in VARIED_PARTS}
    traits = sample_traits(rng)
    rest |= traits
    parts |= dict.fromkeys(("browDown", "browKnit"), brow_room(traits))
    return Anatomy(
        identity,
        shared * np.exp(uneven),
        shared * np.exp(-uneven),
        rest,
        parts,
        lip_gap=_lip_gap_at_rest(rng),
    )


def _lip_gap_at_rest(rng: np.random.Generator) -> float:
    """Draw the gap between the lips before the jaw hangs: most meet, some stay a little apart."""
    met, apart = rng.normal(*LIPS_MET), rng.uniform(*LIPS_APART)
    return float(apart if rng.random() < LIPS_APART_SHARE else met)


def sample_expression(rng: np.random.Generator, kind: str | None = None) -> Expression:
    """Draw an expression.

    Args:
        rng: random numbers; the same state gives the same expression.
        kind: one of :data:`KINDS`; drawn by their frequency when not given.

    Returns:
        Intensities of both sides, and unlabelled movements.
    """
    names = list(KINDS)
    chance = np.array(list(KINDS.values()))
    kind = kind or names[int(rng.choice(len(names), p=chance / chance.sum()))]
    draft = _Draft(_DRAWS[kind](rng))
    for au, exponent in MOSTLY_SLIGHT.items():
        draft.values[AU_INDEX[au]] = 5 * (draft[au] / 5) ** exponent
    if draft[43] > 1 and rng.random() < FULLY_SHUT:
        draft.values[AU_INDEX[43]] = rng.uniform(4.7, 5)
    if kind != "alone" and draft[12] > 3 and draft[6] < 1 and rng.random() < CHEEKS_FOLLOW:
        draft.values[AU_INDEX[6]] = rng.uniform(1.5, 4.5)
    return complete_expression(draft.values, rng, lenient=kind == "alone")


def complete_expression(
    values: NDArray[np.float64], rng: np.random.Generator, *, lenient: bool = False
) -> Expression:
    """Make an expression of intensities: drop what excludes each other, add what has no label.

    Args:
        values: ``(23,)`` 0-5; changed in place.
        rng: random numbers; the same state gives the same expression.
        lenient: leave intensities as they are, be they together or not.

    Returns:
        Intensities of both sides, gaze, and unlabelled movements.
    """
    draft = _Draft(values)
    _exclude(draft, rng, lenient=lenient)
    left, right = _sides(draft.values, rng)
    jaw = draft[26]
    closing = (
        rng.uniform(0.75, 1) if 0.5 < jaw < 4 and draft[25] < 1 and rng.random() < 0.3 else 0.0
    )
    return Expression(
        left=left,
        right=right,
        gaze=_gaze(rng),
        closing=float(closing),
        parting=float(rng.random()),
        others=_other_movements(rng),
    )


def _neutral(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.zeros(len(AUS))


def _trace(rng: np.random.Generator) -> NDArray[np.float64]:
    return (rng.random(len(AUS)) < 0.12) * rng.uniform(0, 0.8, len(AUS))


def _alone(rng: np.random.Generator) -> NDArray[np.float64]:
    values = np.zeros(len(AUS))
    share = np.array([ALONE_SHARE[au] for au in AUS])
    values[int(rng.choice(len(AUS), p=share / share.sum()))] = rng.uniform(0.5, 5)
    return values


def _prototype(rng: np.random.Generator) -> NDArray[np.float64]:
    chance = np.array([weight for weight, _ in PROTOTYPES])
    chosen = PROTOTYPES[int(rng.choice(len(PROTOTYPES), p=chance / chance.sum()))][1]
    strength = rng.uniform(0.4, 1.3)
    values = np.zeros(len(AUS))
    for au, typical in chosen.items():
        present, spread = rng.random() < 0.92, rng.uniform(0.65, 1.3)
        if au in AU_INDEX and present:
            values[AU_INDEX[au]] = np.clip(typical * strength * spread, 0, 5)
    extra = rng.random(len(AUS)) < 0.04
    return np.maximum(values, extra * 5 * rng.beta(1.2, 1.8, len(AUS)))


def _mixed(rng: np.random.Generator) -> NDArray[np.float64]:
    rate = np.array([MIXED_RATE[au] for au in AUS]) * rng.uniform(0.5, 1.5)
    return (rng.random(len(AUS)) < rate) * 5 * rng.beta(1.4, 1.4, len(AUS))


def _speech(rng: np.random.Generator) -> NDArray[np.float64]:
    rate = np.array([SPEECH_RATE.get(au, 0) for au in AUS])
    return (rng.random(len(AUS)) < rate) * 5 * rng.beta(1.2, 2.0, len(AUS))


_DRAWS = {
    "neutral": _neutral,
    "trace": _trace,
    "alone": _alone,
    "prototype": _prototype,
    "mixed": _mixed,
    "speech": _speech,
}


def _exclude(draft: _Draft, rng: np.random.Generator, *, lenient: bool) -> None:
    """Remove what one face cannot do at once."""
    if lenient:
        return
    if draft[27] > 0.3:
        draft.drop(26, 24, 28, 17, 18, 22, 23)
    if draft[28] > 1:
        draft.drop(24, 23, 25, 18, 22, 10, 16, 12, 20, 17)
        draft.limit(26, 1.2)
    if draft[26] > 0.7 or draft[25] > 0.8:
        # Open or pressed: a coin decides, so that the pressing Action Units stay frequent.
        if draft[24] > 1 and rng.random() < 0.5:
            draft.drop(25, 26, 16, 22, 10)
        else:
            draft.drop(24)
            draft.limit(17, 2)
    if draft[24] > 1 or draft[23] > 2:
        draft.drop(22)
    if draft[22] > 1:
        draft.drop(12, 20, 23, 24)
    if draft[18] > 1:
        draft.drop(12, 20)
        draft.limit(14, 2)
    if draft[20] > 1.5 and draft[12] > 2:
        draft.limit(20, 2)
    if draft[12] > 2.5:
        draft.limit(15, 2)
    if draft[5] > 0.7 and draft[43] > 0.7:
        draft.drop(5 if rng.random() < 0.6 else 43)
    if draft[5] > 2:
        draft.limit(7, 3)
        draft.limit(6, 3)


def _sides(
    values: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split intensities into left and right."""
    left, right = values.copy(), values.copy()
    for au in PAIRED_AUS:
        i = AU_INDEX[au]
        tilt, alone, side, other = (
            rng.normal(0, 0.09),
            rng.random(),
            rng.random(),
            rng.uniform(0, 0.4),
        )
        if alone < ONE_SIDED.get(au, 0.02):
            (left if side < 0.5 else right)[i] *= other
        elif tilt > 0:
            left[i] *= 1 - min(tilt, 0.5)
        else:
            right[i] *= 1 - min(-tilt, 0.5)
    return left, right


def _gaze(rng: np.random.Generator) -> tuple[float, float]:
    across, up = rng.normal(0, 0.25), rng.normal(-0.03, 0.16)
    if rng.random() < STRONG_GAZE:
        up = rng.uniform(0.5, 1.0) * (-1 if rng.random() < 0.65 else 1)
    if rng.random() < STRONG_GAZE:
        across *= 2.2
    return float(np.clip(across, -1, 1)), float(np.clip(up, -1, 1))


def _other_movements(rng: np.random.Generator) -> dict[str, float]:
    """Movements without a label here: jaw and mouth to the side, jaw forward, puffed cheeks."""
    others: dict[str, float] = {}
    for name, chance, most in (
        ("jawLeft", 0.04, 0.6),
        ("jawRight", 0.04, 0.6),
        ("jawForward", 0.07, 0.7),
        ("mouthLeft", 0.04, 0.45),
        ("mouthRight", 0.04, 0.45),
    ):
        happens, much = rng.random() < chance, rng.uniform(0, most)
        if happens:
            others[name] = float(much)
    puffs, much = rng.random() < 0.04, rng.uniform(0.1, 0.9)
    if puffs:
        others |= {"cheekPuff_L": float(much), "cheekPuff_R": float(much)}
    return others


def temporal_expressions(rng: np.random.Generator, frames: int, rate: float) -> list[Expression]:
    """Draw a sequence: expressions that come and go, neutral phases, blinks, talk, saccades.

    Args:
        rng: random numbers.
        frames: length, frames.
        rate: frames per second.

    Returns:
        One expression per frame.
    """
    left, right = np.zeros((2, frames, len(AUS)))
    closing = np.zeros(frames)
    now = int(rate * rng.uniform(0.8, 2.0))
    while now < frames:
        if rng.random() < 0.2:
            length = int(rate * rng.uniform(1.0, 3.0))
            talk = _talk(rng, length, rate)[: frames - now]
            left[now : now + length] = np.maximum(left[now : now + length], talk)
            right[now : now + length] = np.maximum(right[now : now + length], talk)
        else:
            apex = sample_expression(
                rng, str(rng.choice(["alone", "prototype", "prototype", "mixed"]))
            )
            curve = _onset_apex_offset(rng, rate)
            length = len(curve)
            span = slice(now, min(now + length, frames))
            part = curve[: span.stop - now, None]
            left[span] = np.maximum(left[span], part * apex.left)
            right[span] = np.maximum(right[span], part * apex.right)
            closing[span] = apex.closing
        now += length + int(rate * rng.uniform(0.5, 3.0))
    _blink(rng, left, right, rate)
    gaze = _saccades(rng, frames, rate)
    parting = float(rng.random())
    return [
        Expression(left[t], right[t], (gaze[t, 0], gaze[t, 1]), float(closing[t]), parting)
        for t in range(frames)
    ]


def _smooth(t: NDArray[np.float64]) -> NDArray[np.float64]:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _onset_apex_offset(rng: np.random.Generator, rate: float) -> NDArray[np.float64]:
    onset, apex, offset = rng.uniform([0.2, 0.3, 0.3], [0.8, 2.5, 1.2])
    t = np.arange(int(rate * (onset + apex + offset))) / rate
    tremor = 1 + 0.04 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * t + rng.uniform(0, 6.3))
    return _smooth(t / onset) * _smooth((onset + apex + offset - t) / offset) * tremor


def _talk(rng: np.random.Generator, frames: int, rate: float) -> NDArray[np.float64]:
    """Mouth shapes at four to six syllables a second."""
    syllables = max(2, int(frames / rate * rng.uniform(4, 6)))
    keys = np.stack(
        [np.zeros(len(AUS)), *(_speech(rng) for _ in range(syllables)), np.zeros(len(AUS))]
    )
    for key in keys:
        _exclude(_Draft(key), rng, lenient=False)
    keys[:, AU_INDEX[43]] = 0
    at = np.linspace(0, syllables + 1, frames)
    low = np.minimum(at.astype(int), syllables)
    share = _smooth(at - low)[:, None]
    return keys[low] * (1 - share) + keys[low + 1] * share


def _blink(
    rng: np.random.Generator, left: NDArray[np.float64], right: NDArray[np.float64], rate: float
) -> None:
    eye, now = AU_INDEX[43], rng.uniform(0.3, 4)
    while now * rate < len(left):
        close, reopen = rng.uniform(0.06, 0.12), rng.uniform(0.12, 0.25)
        t = np.arange(len(left)) / rate - now
        shut = 5 * _smooth(1 + t / close) * _smooth(1 - t / reopen)
        for side in (left, right):
            side[:, eye] = np.maximum(side[:, eye], shut)
        now += rng.uniform(1.5, 6)


def _saccades(rng: np.random.Generator, frames: int, rate: float) -> NDArray[np.float64]:
    gaze, start = np.zeros((frames, 2)), 0
    while start < frames:
        length = max(1, int(rate * rng.uniform(0.4, 2.5)))
        gaze[start : start + length] = _gaze(rng)
        start += length
    return gaze
