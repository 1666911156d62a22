"""From Action Units to shape weights, and from the shaped face back to labels.

Intensities are FACS A-E = 1-5, left and right apart. Most Action Units are labelled with what was
asked for. Where FACS scores a visible distance, the label is measured on the face: lips parted
(25), jaw dropped (26, 27), eyes closed (43).

References:
    Ekman, Friesen & Hager, *Facial Action Coding System: the manual*, 2002.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .correctives import CORRECTIVES, corrective_shapes
from .facekit import FaceKit
from .traits import TRAITS, trait_shapes

__all__ = ["AUS", "AU_INDEX", "Anatomy", "Expression", "FaceShapes", "Shaped", "intensity_label"]

AUS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 20, 22, 23, 24, 25, 26, 27, 28, 43)
"""Action Units in the order of all label arrays."""
AU_INDEX = {au: i for i, au in enumerate(AUS)}
"""Column of an Action Unit."""

PAIRED: dict[int, dict[str, float]] = {
    1: {"browInnerUp": 1.7},
    2: {"browOuterUp": 1.1},
    4: {"browDown": 0.95, "browKnit": 1.0},
    5: {"eyeWide": 1.65},
    6: {"cheekSquint": 0.6, "cheekRaiser": 0.55, "orbitTighten": 1.25, "lidPouch": 1.0},
    7: {"eyeSquint": 1.9, "eyeBlink": 0.16},
    9: {"noseSneer": 1.05, "mouthUpperUp": -0.45, "browDown": 0.4, "browKnit": 0.3},
    10: {"mouthUpperUp": 0.95},
    12: {"mouthSmile": 1.0, "cheekApple": 1.1},
    14: {"mouthDimple": 0.9, "cornerTuck": 1.3},
    15: {"mouthFrown": 1.7},
    16: {"mouthLowerDown": 1.15},
    20: {"mouthStretch": 1.1, "mouthSmile": 0.13},
    23: {"mouthPress": 0.25},
    24: {"mouthPress": 1.1},
}
"""Shape weights of each side at intensity E."""
SINGLE: dict[int, dict[str, float]] = {
    9: {"noseCrinkle": 1.0},
    17: {"mouthShrugLower": 0.95, "mouthShrugUpper": 0.3},
    18: {"mouthPucker": 0.85, "mouthGather": 1.4},
    22: {"mouthFunnel": 1.0},
    23: {"lipThin": 1.0, "mouthGather": 0.35},
    24: {"mouthRollLower": 0.25, "mouthRollUpper": 0.35, "lipThin": 0.5},
    28: {"mouthRollLower": 0.95, "mouthRollUpper": 0.95},
}
"""Shape weights of both sides together at intensity E."""

JAW_DROP = 0.5
"""``jawOpen`` at AU 26 E, about 14 mm at the chin; beyond it the jaw is stretched (AU 27)."""
JAW_STRETCH = 1.0
"""``jawOpen`` at AU 27 E."""
JAW_HANDOVER = 0.2
"""``jawOpen`` beyond :data:`JAW_DROP` over which AU 27 takes AU 26's place: FACS scores one."""
GAP_CLOSED, GAP_FULL = 0.05, 0.95
"""Gap between the inner lips, cm beyond the generic head's, at AU 25 intensity 0 and E."""
APERTURE_SHUT = 0.09
"""Height between the lid landmarks when the lids touch, cm."""
LEAST_OPEN = 0.2
"""Share of the aperture at rest that squint and gaze leave open."""
SHUT_DEAD_ZONE = 0.06
"""Share of the aperture that may be lost before AU 43 is scored at all."""
SINK_FROM = 0.6
"""Closing from which the eyeball gives way to the lids, which would cut through it."""
STRONG_SIDE = 0.6
"""Weight of the stronger side in the label of an uneven Action Unit."""

LIDS = {"L": ((43, 47), (44, 46)), "R": ((37, 41), (38, 40))}
"""Upper and lower lid landmarks of the subject's two eyes."""
LIPS = ((61, 67), (62, 66), (63, 65))
"""Inner upper and lower lip landmarks."""


@dataclass(frozen=True)
class Anatomy:
    """What belongs to a person and not to the expression; none of it is labelled.

    Attributes:
        identity: ``(100,)`` weights of the identity shapes, standard deviations.
        gain_left, gain_right: ``(23,)`` how far this face moves per Action Unit, 1 is typical.
        rest: weights of shapes that are there at rest (low lids, mouth corners, brows), and of the
            traits.
        parts: how far single shapes take part in this face's Action Units, 1 where not named: one
            person's AU 6 narrows the eyes, another's lifts the cheeks. Names without the side.
        lip_gap: between the inner lips at rest, cm beyond the generic head's, before the jaw hangs;
            ``None`` leaves the gap that the identity's shapes happen to make.
    """

    identity: NDArray[np.float64]
    gain_left: NDArray[np.float64]
    gain_right: NDArray[np.float64]
    rest: dict[str, float]
    parts: dict[str, float] = field(default_factory=dict)
    lip_gap: float | None = None


@dataclass(frozen=True)
class Expression:
    """What a face does.

    Attributes:
        left, right: ``(23,)`` intended intensity 0-5 on the subject's left and right side.
        gaze: right and up, -1 to 1; not labelled.
        closing: 0-1, how far the lips stay together over an open jaw.
        parting: 0-1, how lips part: 0 by the jaw and the lower lip, 1 by both lips.
        others: weights of unlabelled shapes (jaw and mouth shifts, puffed cheeks).
    """

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    gaze: tuple[float, float] = (0.0, 0.0)
    closing: float = 0.0
    parting: float = 0.5
    others: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Shaped:
    """A face with its expression on.

    Attributes:
        weights: ``(E + 100,)`` of expression, corrective and identity shapes.
        intensity: ``(23,)`` labels 0-5.
        lip_gap: between the inner lips, cm beyond the generic head's; negative when pressed.
    """

    weights: NDArray[np.float64]
    intensity: NDArray[np.float64]
    lip_gap: float


def intensity_label(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Combine both sides: an uneven action counts a bit more than its mean."""
    strong, weak = np.maximum(left, right), np.minimum(left, right)
    return STRONG_SIDE * strong + (1 - STRONG_SIDE) * weak


class FaceShapes:
    """All shapes of a face, and the rules that tie them to Action Units.

    Args:
        kit: the face model.
    """

    def __init__(self, kit: FaceKit) -> None:
        self.names = (*kit.expression_names, *CORRECTIVES, *TRAITS)
        self.index = {name: i for i, name in enumerate(self.names)}
        self.basis = np.concatenate(
            [kit.expressions, corrective_shapes(kit), trait_shapes(kit), kit.identities]
        )
        """``(E + 100, N, 3)`` float32: expressions, correctives, traits, identities."""
        self.generic = kit.generic
        heights = self.basis[:, kit.landmarks, 1].astype(np.float64)
        neutral = kit.generic[kit.landmarks, 1].astype(np.float64)
        # Lid and lip distances are linear in the weights: one number per shape.
        self._lids = {side: _distance(heights, pairs) for side, pairs in LIDS.items()}
        self._lids_neutral = {side: _distance(neutral, pairs) for side, pairs in LIDS.items()}
        self._lips = _distance(heights, LIPS)
        self._left, self._right = self._gain_matrices()

    def _gain_matrices(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``(23, E)`` weights per unit of intensity on either side."""
        left, right = np.zeros((2, len(AUS), len(self.names)))
        for au, shapes in PAIRED.items():
            for name, gain in shapes.items():
                left[AU_INDEX[au], self.index[f"{name}_L"]] += gain / 5
                right[AU_INDEX[au], self.index[f"{name}_R"]] += gain / 5
        for au, shapes in SINGLE.items():
            for name, gain in shapes.items():
                left[AU_INDEX[au], self.index[name]] += gain / 10
                right[AU_INDEX[au], self.index[name]] += gain / 10
        return left, right

    def shape(self, expression: Expression, anatomy: Anatomy) -> Shaped:
        """Put an expression on a person's face.

        Args:
            expression: what the face does.
            anatomy: whose face it is.

        Returns:
            The weights of all shapes, the labels and the gap between the lips.
        """
        n = len(self.names)
        rest = np.zeros(n + len(anatomy.identity))
        rest[n:] = anatomy.identity
        for name, value in anatomy.rest.items():
            rest[self.index[name]] += value
        if anatomy.lip_gap is not None:
            self._meet_lips(rest, anatomy.lip_gap)
        w = rest.copy()
        moved = (expression.left * anatomy.gain_left) @ self._left
        moved += (expression.right * anatomy.gain_right) @ self._right
        for name, share in anatomy.parts.items():
            for side in "LR":
                moved[self.index[f"{name}_{side}"]] *= share
        w[:n] += moved
        for name, value in expression.others.items():
            w[self.index[name]] += value
        self._open_mouth(w, expression)
        self._look(w, expression)
        intensity = intensity_label(expression.left, expression.right)
        shut = self._close_eyes(w, rest, expression, anatomy)
        intensity[AU_INDEX[43]] = 5 * intensity_label(*shut)
        jaw = w[self.index["jawOpen"]]
        over = np.clip((jaw - JAW_DROP) / JAW_HANDOVER, 0, 1)
        intensity[AU_INDEX[26]] = 5 * np.clip(jaw / JAW_DROP, 0, 1) * (1 - over)
        intensity[AU_INDEX[27]] = 5 * np.clip((jaw - JAW_DROP) / (JAW_STRETCH - JAW_DROP), 0, 1)
        gap = float(self._lips @ w)
        intensity[AU_INDEX[25]] = 5 * np.clip((gap - GAP_CLOSED) / (GAP_FULL - GAP_CLOSED), 0, 1)
        return Shaped(w, intensity, gap)

    def _meet_lips(self, rest: NDArray[np.float64], wanted: float) -> None:
        """Bring the lower lip to where it rests: identity shapes part the lips or overlap them."""
        jaw, close = self.index["jawOpen"], self.index["mouthClose"]
        gap = self._lips @ rest - self._lips[jaw] * rest[jaw]
        rest[close] += (wanted - gap) / self._lips[close]

    def _open_mouth(self, w: NDArray[np.float64], expression: Expression) -> None:
        """Drop the jaw (26, 27), part the lips (25), and keep closed lips from overlapping."""
        at = self.index
        both = intensity_label(expression.left, expression.right)
        drop, stretch, part = (both[AU_INDEX[au]] / 5 for au in (26, 27, 25))
        jaw = w[at["jawOpen"]] + drop * JAW_DROP
        if stretch > 0:
            jaw = max(jaw, JAW_DROP + stretch * (JAW_STRETCH - JAW_DROP))
        w[at["jawOpen"]] = jaw
        # mouthClose lifts the lower lip over an open jaw and must not lift it further.
        w[at["mouthClose"]] += jaw * expression.closing
        if part > 0 and expression.closing == 0:
            mix = np.zeros_like(w)
            mix[at["jawOpen"]] = 0.07
            for side in "LR":
                mix[at[f"mouthLowerDown_{side}"]] = 0.6 - 0.25 * expression.parting
                mix[at[f"mouthUpperUp_{side}"]] = 0.35 * expression.parting
            wanted = GAP_CLOSED + part * (GAP_FULL - GAP_CLOSED)
            # The jaw may not pass as dropped (26) because lips part.
            amount = np.clip((wanted - self._lips @ w) / (self._lips @ mix), 0, 1.5)
            w += amount * mix
        rolled = [at["mouthRollUpper"], at["mouthRollLower"]]
        gap = self._lips @ w - self._lips[rolled] @ w[rolled]
        if gap < -0.08:
            # A lower lip that is pushed up takes the upper lip along.
            lift = (-0.08 - gap) / self._lips[at["mouthShrugUpper"]]
            w[at["mouthShrugUpper"]] += np.clip(lift, 0, 0.9)

    def _look(self, w: NDArray[np.float64], expression: Expression) -> None:
        across, up = expression.gaze
        at = self.index
        w[at["eyeLookOut_L"]] += max(across, 0)
        w[at["eyeLookIn_R"]] += max(across, 0)
        w[at["eyeLookIn_L"]] += max(-across, 0)
        w[at["eyeLookOut_R"]] += max(-across, 0)
        for side in "LR":
            w[at[f"eyeLookUp_{side}"]] += max(up, 0)
            w[at[f"eyeLookDown_{side}"]] += max(-up, 0)

    def _close_eyes(
        self,
        w: NDArray[np.float64],
        rest: NDArray[np.float64],
        expression: Expression,
        anatomy: Anatomy,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower the lids by AU 43 and keep them from crossing.

        The lid closes from wherever gaze, squint and the face's rest left it, so looking down or
        a tight squint is not AU 43, and E is shut on every face.

        Returns:
            How far each eye (left, right) is shut, 0-1, after the dead zone.
        """
        shut = []
        asked = {"L": expression.left, "R": expression.right}
        for side in "LR":
            slope, neutral = self._lids[side], self._lids_neutral[side]
            blink, down = self.index[f"eyeBlink_{side}"], self.index[f"eyeLookDown_{side}"]
            closing = asked[side][AU_INDEX[43]] / 5
            # A closing lid covers the eye from straight ahead, wherever it looked.
            w[down] *= 1 - closing
            at_rest = max(neutral + slope @ rest - APERTURE_SHUT, 0.2)
            open_now = neutral + slope @ w - APERTURE_SHUT
            least = LEAST_OPEN * at_rest
            if open_now < least:
                # Squint and gaze alone never shut an eye.
                w[blink] -= (least - open_now) / -slope[blink]
                open_now = least
            wanted = max(open_now, 0) * (1 - closing)
            w[blink] += (open_now - wanted) / -slope[blink]
            w[self.index[f"eyeSink_{side}"]] = np.clip(
                (closing - SINK_FROM) / (1 - SINK_FROM), 0, 1
            )
            share = 1 - wanted / max(open_now, 1e-6) if closing else 0.0
            shut.append(np.clip((share - SHUT_DEAD_ZONE) / (0.95 - SHUT_DEAD_ZONE), 0, 1))
        return np.asarray(shut[0]), np.asarray(shut[1])


def _distance(
    heights: NDArray[np.float64], pairs: tuple[tuple[int, int], ...]
) -> NDArray[np.float64]:
    """Mean height of the first landmarks above the second, over the last axis."""
    upper, lower = np.array(pairs).T
    return (heights[..., upper] - heights[..., lower]).mean(-1)
