"""Rendered sequences with known reasons, and with nuisances that are none.

A *reason* is what in the face makes an Action Unit: its left side, its right side or both; alone or
with an Action Unit that moves the same skin; with half of the mouth covered; weak or strong. A
*nuisance* changes the picture and not the reason: the head turns, the light changes, the picture is
blurred or noisy, an Action Unit moves elsewhere in the face, somebody else does the same.

Used by ``reasons.py``. It needs the generator in ``training/``, which only a checkout has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.augment.views import MARGIN, clean_view
from training.data.generator import Face, Generator
from training.face.expressions import only
from training.face.facs import AU_INDEX, AUS, Expression
from training.render.lighting import sample_lighting
from training.render.scene import Pose

__all__ = ["AXES", "GROUPS", "NUISANCES", "UNMOVED", "Sequence", "render_material"]

GROUPS: dict[str, tuple[int, ...]] = {
    "1+2": (1, 2),
    "4": (4,),
    "6+12": (6, 12),
    "12": (12,),
    "15": (15,),
    "25": (25,),
    "43": (43,),
}
"""Action Units that act together; the letters of each are judged."""

NEAR: dict[str, tuple[int, ...]] = {
    "1+2": (4,),
    "4": (9,),
    "6+12": (25,),
    "12": (25, 6),
    "15": (25,),
    "25": (12, 9),
    "43": (6, 9),
}
"""Company that moves the skin by which an Action Unit is seen: a reason of its own."""

FAR: dict[str, int] = {"1+2": 25, "4": 25, "6+12": 4, "12": 4, "15": 4, "25": 4, "43": 25}
"""Company elsewhere in the face, which is no reason."""

AXES = ("sides", "company", "covered", "strength")
"""In what the reasons of a sequence differ."""

UNMOVED = {("1+2", "company"): (2,), ("6+12", "company"): (6,), ("6+12", "covered"): (6,)}
"""Action Units of a group whose skin is not moved by what an axis changes: not judged there."""

NUISANCES = ("yaw", "pitch", "light", "blur", "noise", "elsewhere", "person")
"""What must not change a letter; ``person``: another face."""

STRONG, WEAK = 4.0, 2.0
"""FACS intensities D and B; A is below the threshold of most."""
TURN, NOD = 25.0, 12.0
"""Largest angles, degrees."""
FRAMES, GAP, RETURN = 16, 4, 6
"""Frames of a segment, of the neutral face between two, and of the base between nuisances."""
REST = 45
"""Neutral frames at the beginning, by which the rest level is learned."""
_SIDE_GROUPS = tuple(name for name in GROUPS if name != "25")
_MOUTH_GROUPS = ("6+12", "12", "15", "25")


@dataclass(frozen=True)
class Sequence:
    """Crops of one face with what is known of them.

    Attributes:
        group: key of :data:`GROUPS`.
        axis: one of :data:`AXES`, or ``nuisances``.
        person: number of the person.
        crops: ``(n, 96, 96)`` uint8.
        segment: ``(n,)`` what each frame shows: the reason, or the nuisance (``base``: none);
            empty for the neutral face.
    """

    group: str
    axis: str
    person: int
    crops: NDArray[np.uint8]
    segment: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    """One segment before it is rendered: name, face of each frame, and what is done to pictures."""

    name: str
    faces: list[Face]
    effect: str = ""


def _expression(group: str, side: str, strength: float, *others: int) -> Expression:
    """Return an expression: the Action Units of a group on a side, and others on both."""
    left, right = np.zeros(len(AUS)), np.zeros(len(AUS))
    for au in GROUPS[group]:
        if side != "right":
            left[AU_INDEX[au]] = strength
        if side != "left":
            right[AU_INDEX[au]] = strength
    for au in others:
        left[AU_INDEX[au]] = right[AU_INDEX[au]] = 3.5
    return Expression(left=left, right=right)


class _Person:
    """Somebody who does what is asked for, moving a little all the time."""

    def __init__(self, generator: Generator, number: int) -> None:
        self.number = number
        self._generator = generator
        self._rng = np.random.default_rng([generator.seed, number, 7])
        self._self = generator.face(4 * number)
        self.light = self._self.lighting
        self.other_light = sample_lighting(self._rng)
        self._phase = self._rng.uniform(0, 2 * np.pi, 3)
        self._time = 0

    def act(
        self, expression: Expression, frames: int, turn: str = "", light: bool = False
    ) -> list[Face]:
        """Return the faces of some frames; ``turn``: about which axis the head goes to and fro."""
        faces = []
        for frame in range(frames):
            self._time += 1
            sway = np.sin(2 * np.pi * self._time / np.array([41, 29, 53]) + self._phase)
            swing = np.sin(2 * np.pi * (frame + 1) / (frames + 1))
            yaw = 2 * sway[0] + (TURN * swing if turn == "yaw" else 0)
            pitch = 1.5 * sway[1] + (NOD * swing if turn == "pitch" else 0)
            pose = Pose(*np.deg2rad([yaw, pitch, sway[2]]).tolist(), self._self.pose.distance)
            factor = 1 + 0.06 * float(sway.sum()) / 3
            faces.append(
                Face(
                    self._self.anatomy,
                    replace(
                        expression, left=expression.left * factor, right=expression.right * factor
                    ),
                    pose,
                    self._self.appearance,
                    self.other_light if light else self.light,
                )
            )
        return faces


def _reasons(person: _Person, group: str, axis: str) -> list[_Plan]:
    """Return the segments of a sequence with reasons, each of which comes back."""
    if axis == "sides":
        names = ("left", "right", "both", "left", "right", "both")
        kinds = [(name, _expression(group, name, STRONG), "") for name in names]
    elif axis == "company":
        alone = ("alone", _expression(group, "both", STRONG), "")
        others = [(f"with {au}", _expression(group, "both", STRONG, au), "") for au in NEAR[group]]
        kinds = [alone, *others] * 2
    elif axis == "covered":
        both = _expression(group, "both", STRONG)
        kinds = [("open", both, ""), ("covered", both, "cover")] * 2
    else:
        kinds = [
            (name, _expression(group, "both", strength), "")
            for name, strength in (("weak", WEAK), ("strong", 5.0)) * 2
        ]
    plans = [_Plan("", person.act(only(12, 0.0), GAP * 2))]
    for name, expression, effect in kinds:
        plans.append(_Plan(name, person.act(expression, FRAMES), effect))
        plans.append(_Plan("", person.act(only(12, 0.0), GAP)))
    return plans


def _nuisances(person: _Person, other: _Person, group: str) -> list[_Plan]:
    """Return the segments of a sequence in which only nuisances change."""
    base = _expression(group, "both", STRONG)
    plans = [
        _Plan("", person.act(only(12, 0.0), GAP * 2)),
        _Plan("base", person.act(base, FRAMES + RETURN)),
    ]
    for name in NUISANCES[:-1]:
        expression = base if name != "elsewhere" else _expression(group, "both", STRONG, FAR[group])
        frames = 2 * FRAMES if name in ("yaw", "pitch") else FRAMES
        faces = person.act(expression, frames, name, light=name == "light")
        plans.append(_Plan(name, faces, name if name in ("blur", "noise") else ""))
        plans.append(_Plan("base", person.act(base, RETURN)))
    return [*plans, _Plan("person", other.act(base, FRAMES))]


def _changed(image: NDArray[np.uint8], points: NDArray[Any], effect: str, seed: int) -> Any:
    """Return a stored render with a nuisance or a cover."""
    rng = np.random.default_rng(seed)
    if effect == "blur":
        return cv2.GaussianBlur(image, (0, 0), 1.8)
    if effect == "noise":
        return np.clip(image + rng.normal(0, 9, image.shape), 0, 255).astype(np.uint8)
    if effect == "cover":  # something smooth before the right half of the mouth
        picture = image.copy()
        corner, middle = points[48] + MARGIN, points[57] + MARGIN
        centre = corner * 0.75 + middle * 0.25
        size = (abs(middle[0] - corner[0]) * 1.25, abs(middle[1] - points[33][1] - MARGIN) * 1.1)
        mask = np.zeros(image.shape, np.float32)
        cv2.ellipse(mask, (tuple(map(float, centre)), tuple(2 * v for v in size), 0.0), (1.0,), -1)
        mask = cv2.GaussianBlur(mask, (0, 0), 1.0)
        skin = float(np.median(image[40:90, 40:90]))
        return (picture * (1 - mask) + 0.8 * skin * mask).astype(np.uint8)
    return image


def _sequence(
    generator: Generator, group: str, axis: str, person: _Person, plans: list[_Plan]
) -> Sequence:
    faces = [face for plan in plans for face in plan.faces]
    effects = [plan.effect for plan in plans for _ in plan.faces]
    names = tuple(plan.name for plan in plans for _ in plan.faces)
    count = np.arange(len(faces))
    drawn = generator.draw(faces, np.full(len(faces), person.number), count)
    crops = []
    for n in count.tolist():
        image = _changed(drawn.image[n], drawn.landmarks[n], effects[n], n)
        crops.append(clean_view(image, drawn.intensity[n], drawn.landmarks[n]).image)
    return Sequence(group, axis, person.number, np.stack(crops), names)


def render_material(people: int, seed: int, folder: Path) -> Iterator[Sequence]:
    """Yield all sequences; each is kept in a folder and rendered only where it is not there yet.

    Args:
        people: how many people do everything.
        seed: of the people.
        folder: where the sequences are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = Generator(seed)
    for number in range(people):
        for group in GROUPS:
            for axis in (*AXES, "nuisances"):
                if axis == "sides" and group not in _SIDE_GROUPS:
                    continue
                if axis == "covered" and group not in _MOUTH_GROUPS:
                    continue
                path = folder / f"{seed}-{number}-{group}-{axis}.npz"
                if not path.exists():
                    person = _Person(generator, number)
                    other = _Person(generator, number + people)
                    plans = (
                        _nuisances(person, other, group)
                        if axis == "nuisances"
                        else _reasons(person, group, axis)
                    )
                    made = _sequence(generator, group, axis, person, plans)
                    np.savez_compressed(path, crops=made.crops, segment=np.array(made.segment))
                with np.load(path, allow_pickle=False) as file:
                    names = tuple(str(name) for name in file["segment"])
                    yield Sequence(group, axis, number, file["crops"], names)
