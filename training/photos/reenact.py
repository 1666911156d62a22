"""Photographs that act: training pictures of real faces with known Action Units.

The donors are neutral portraits of people of whom nothing is ever reported. Each picture puts a
drawn expression on one of them, by the same tables that move the rendered heads. Pores, hair,
lashes, lenses and light are real; the movement is the model's.

References:
    Thies et al., "Face2Face: real-time face capture and reenactment of RGB videos", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.generator import RenderedBatch
from ..face.expressions import complete_expression, sample_anatomy, sample_expression
from ..face.facekit import FaceKit
from ..face.facs import AU_INDEX, AUS, Expression, FaceShapes
from ..render.appearance import sample_appearance
from ..render.skin import surface_coordinates
from .donors import Donor
from .picture import draw, move

__all__ = ["MASKED", "Reenactor", "draw_expression"]

KINDS = {"neutral": 0.15, "few": 0.5, "prototype": 0.2, "mixed": 0.15}
"""How often each kind of expression is drawn."""
MASKED = (6, 7, 17)
"""Action Units that no picture labels. What shows them is small change of skin: the pouch under the
lid, the pitted chin. A photograph has its own there, and moving it makes neither."""
NOT_DRAWN = (28,)
"""Action Units that no picture shows: lips that are rolled in leave a bright seam."""
WANTED = dict.fromkeys(AUS, 1.0) | dict.fromkeys((1, 2, 5, 9, 25, 26), 2.5) | {4: 3.5, 15: 3.5}
"""How often each Action Unit is among the few, against the others; those in :data:`MASKED` and
:data:`NOT_DRAWN` never are."""
FEW = (0.6, 0.28, 0.12)
"""Chances of one, two and three Action Units among the few."""
FAINT = 0.4
"""Least intensity of an Action Unit among the few."""
WEAK = (1, 2, 4)
"""Action Units that are mostly drawn weak: strong brows are easily seen, and on a photograph they
pull hair and forehead into what no face does."""
WEAK_UP_TO, WEAK_SHARE = 3.3, 0.85
"""Intensity of a weak brow at most, and how often it is weak."""
BONES, BONE_VARIED = 40, 0.25
"""Identity shapes that vary from picture to picture of a donor, and their standard deviation. The
neutral pictures are bent by it too, so that a bent picture says nothing of an Action Unit."""
GAZE = 0.4
"""Share of the drawn gaze that a photographed eye can follow before it shows what it never saw."""
_PICTURE, _ORDER = 91, 92
"""Streams of random numbers, apart from those of rendered faces."""


class Reenactor:
    """Makes pictures of acting donors, each a function of (seed, index) and the donors alone.

    Args:
        seed: of all pictures.
        kit: the face model.
        donors: who acts; not empty. All are seen equally often.
    """

    prefix = "acted"
    """Begins the names of its shards."""

    def __init__(self, seed: int, kit: FaceKit, donors: Sequence[Donor]) -> None:
        self.seed = seed
        self.kit = kit
        self.donors = list(donors)
        self.shapes = FaceShapes(kit)
        self._basis = self.shapes.basis.reshape(len(self.shapes.basis), -1)
        generic = torch.from_numpy(kit.generic)
        surface = surface_coordinates(generic).numpy()
        self._surface = np.column_stack([surface, kit.generic[:, 0]]).astype(np.float32)

    def render(self, indices: Sequence[int]) -> RenderedBatch:
        """Make pictures by index.

        Args:
            indices: non-negative, in any order.

        Returns:
            One picture with labels per index, in the same order; NaN where nothing is known.
        """
        at = np.asarray(indices, np.int64)
        donors = [self._donor(int(index)) for index in at]
        made = []
        for donor, index in zip(donors, at, strict=True):
            rng = np.random.default_rng([self.seed, int(index), _PICTURE])
            made.append(self.act(donor, draw_expression(rng, donor.unknown), rng))
        image, intensity, landmarks = zip(*made, strict=True)
        identity = np.array([donor.identity for donor in donors], np.int64)
        return RenderedBatch(
            np.stack(image), np.stack(intensity), np.stack(landmarks), identity, at
        )

    def _donor(self, index: int) -> Donor:
        """Return whose picture it is: all donors in turn, in an order drawn for each round."""
        turn, place = divmod(index, len(self.donors))
        order = np.random.default_rng([self.seed, turn, _ORDER]).permutation(len(self.donors))
        return self.donors[order[place]]

    def act(
        self, donor: Donor, expression: Expression, rng: np.random.Generator, *, varied: bool = True
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        """Put an expression on a donor.

        Args:
            donor: whose face.
            expression: what it does.
            rng: draws how strongly this face moves, its furrows and teeth.
            varied: also vary the bones a little.

        Returns:
            ``(136, 136)`` uint8 picture, ``(23,)`` float32 labels, ``(68, 2)`` float32 landmarks in
            template units.
        """
        looks, drawn = sample_appearance(rng), sample_anatomy(rng)
        person = replace(
            donor.rest,
            gain_left=drawn.gain_left,
            gain_right=drawn.gain_right,
            parts=drawn.parts | donor.rest.parts,
        )
        shaped = self.shapes.shape(expression, person)
        rest = self.shapes.shape(Expression(*np.zeros((2, len(AUS)))), person)
        change = shaped.weights - rest.weights
        bones = rng.normal(0, BONE_VARIED, BONES)
        if varied:
            change[len(self.shapes.names) :][:BONES] += bones
        used = np.flatnonzero(change)
        moved = (change[used].astype(np.float32) @ self._basis[used]).reshape(-1, 3)
        face = move(self.kit, donor, moved)
        picture = draw(
            self.kit,
            self._surface,
            donor,
            face,
            (expression.left + expression.right) / 10,
            shaped.lip_gap,
            float(shaped.intensity[AU_INDEX[43]]) / 5,
            looks,
        )
        labels = shaped.intensity.astype(np.float32)
        labels[[AU_INDEX[au] for au in (*MASKED, *donor.unknown)]] = np.nan
        return picture, labels, face.landmarks


def draw_expression(rng: np.random.Generator, unknown: Sequence[int] = ()) -> Expression:
    """Draw what a donor does.

    Args:
        rng: random numbers; the same state gives the same expression.
        unknown: Action Units left alone, as the photograph may already show them.
    """
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if kind == "few":
        expression = complete_expression(_few(rng), rng)
    elif kind == "neutral":
        # Through the same function: a neutral face looks about as others do.
        expression = complete_expression(np.zeros(len(AUS)), rng)
    else:
        expression = sample_expression(rng, kind)
    left, right = expression.left, expression.right
    for i in (AU_INDEX[au] for au in WEAK):
        strongest = max(left[i], right[i])
        if strongest > WEAK_UP_TO and rng.random() < WEAK_SHARE:
            weaker = rng.uniform(FAINT, WEAK_UP_TO) / strongest
            left[i] *= weaker
            right[i] *= weaker
    left[[AU_INDEX[au] for au in (*unknown, *NOT_DRAWN)]] = 0
    right[[AU_INDEX[au] for au in (*unknown, *NOT_DRAWN)]] = 0
    if not np.delete(left + right, [AU_INDEX[au] for au in MASKED]).any():
        # What is left has no label in the picture: alone it would pass for a neutral face.
        left[:], right[:] = 0, 0
    across, up = expression.gaze
    return replace(expression, gaze=(GAZE * across, GAZE * up), others={})


def _few(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw one to three Action Units, each at an intensity of its own."""
    share = np.array([0.0 if au in (*MASKED, *NOT_DRAWN) else WANTED[au] for au in AUS])
    count = 1 + int(rng.choice(len(FEW), p=FEW))
    chosen = rng.choice(len(AUS), count, replace=False, p=share / share.sum())
    values = np.zeros(len(AUS))
    values[chosen] = rng.uniform(FAINT, 5, count)
    return values
