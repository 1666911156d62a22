"""The picture of one prototype for slides and papers: projection, heatmap, and what they show.

``(H, W, 3)`` uint8, BGR, on white.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..action_units import AU_NAMES, parse_label
from ..types import SequenceResult
from .lettering import Colour, bgr, draw_text, fit_text
from .pictures import SequencePictures, au_colour
from .strips import draw_pill

__all__ = ["CARD_GAP", "CARD_HEAD", "CARD_SIDE", "prototype_card"]

CARD_SIDE, CARD_GAP, CARD_HEAD = 448, 24, 48
"""Side of its two pictures, room between them, and above them, pixels."""
_FOOT, _TYPE, _SMALL = 62, 15.0, 12.0
_INK: Colour = (36, 30, 26)
_SOFT: Colour = (112, 102, 94)
_BORDER: Colour = (206, 198, 192)


def prototype_card(
    result: SequenceResult, pictures: SequencePictures, label: str
) -> NDArray[np.uint8]:
    """Draw a prototype: its projection over the face, its heatmap beside it, and captions.

    Args:
        result: the sequence. pictures: its pictures.
        label: such as ``AU12_A``.
    """
    item, side = result.prototypes[label], CARD_SIDE
    width = 2 * side + CARD_GAP
    card = np.full((CARD_HEAD + side + _FOOT, width, 3), 255, np.uint8)
    au = parse_label(label)[0]
    wide = draw_pill(card, label, 0, 8, _TYPE, bgr(au_colour(au)))
    name = ", ".join(filter(None, (AU_NAMES.get(au, ""), result.marks.get(au, ""))))
    name = fit_text(name, _TYPE, width / 2 - wide)
    used = wide + 14 + draw_text(card, name, wide + 14, 30, _TYPE, _INK)
    frames = f"{item.frames} frame{'s' if item.frames != 1 else ''}"
    facts = fit_text(f"{result.source}: {frames}", _SMALL, width - used - 20)
    draw_text(card, facts, width, 30, _SMALL, _SOFT, anchor="right")

    heat = pictures.heat(label, side)
    cv2.rectangle(heat, (0, 0), (side - 1, side - 1), _BORDER, 2)
    card[CARD_HEAD : CARD_HEAD + side, :side] = pictures.prototype(label, side)
    card[CARD_HEAD : CARD_HEAD + side, side + CARD_GAP :] = heat

    first, second = CARD_HEAD + side + 24, CARD_HEAD + side + 46
    draw_text(card, f"Top-{100 * pictures.x:g} % of positive relevance,", 0, first, _SMALL, _INK)
    draw_text(card, f"over frame {item.exemplar}", 0, second, _SMALL, _SOFT)
    right = side + CARD_GAP
    draw_text(card, "Whole map, divided by its largest value:", right, first, _SMALL, _INK)
    draw_text(card, "red speaks for the Action Unit, blue against", right, second, _SMALL, _SOFT)
    return card
