"""The pictures of one analysed sequence: its stages, its prototypes, their heatmaps.

All are ``(side, side, 3)`` uint8, BGR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..action_units import AU_COLOURS
from ..config import ExplainConfig
from ..types import LOST, NONE, SequenceResult
from .lettering import Colour, blend, draw_text, rounded_mask, text_width
from .projections import SMALLEST_WITH_TEXT, Layers, compose, enlarge, heatmap, layers

__all__ = ["SequencePictures", "au_colour"]

_OTHER = "#9AA0A6"
_AT_ONCE = 16
"""Projections prepared together: bounds the memory for what lies between map and layer."""
_EMPTY: Colour = (248, 245, 243)
_STROKE: Colour = (232, 226, 222)
_BORDER: Colour = (206, 198, 192)
_INK: Colour = (112, 102, 94)


class SequencePictures:
    """Draw the stages and prototypes of a sequence; all projections of one size are made at once.

    Args:
        result: the sequence.
        x: share of the positive relevance shown, 0–1.
    """

    def __init__(self, result: SequenceResult, x: float = ExplainConfig().top_x) -> None:
        self._result = result
        self._x = x
        self._numbers = {label: n for n, label in enumerate(result.prototypes)}
        self._layers: dict[int, Layers] = {}

    def stage(self, index: int, side: int) -> NDArray[np.uint8]:
        """Return the picture of a stage, ``(side, side, 3)``; a hatched tile where it is LOST."""
        crop = self._result.stage_crops[index]
        labels = self._result.stages[index].labels
        if crop is None:
            return _hatched(side)
        if labels in (NONE, LOST):
            return compose(crop, None, side)
        return compose(crop, self._layers_of(labels, side), side)

    def prototype(self, label: str, side: int) -> NDArray[np.uint8]:
        """Return a prototype's projection over the face of its exemplar, ``(side, side, 3)``."""
        crop = self._result.prototypes[label].crop
        return compose(crop, self._layers_of([label], side), side)

    def heat(self, label: str, side: int) -> NDArray[np.uint8]:
        """Return a prototype's heatmap, enlarged, ``(side, side, 3)``."""
        return heatmap(enlarge(self._result.prototypes[label].map[None], side))[0].numpy()

    def _layers_of(self, labels: Sequence[str], side: int) -> Layers:
        if side not in self._layers:
            self._layers[side] = self._all_layers(side)
        return self._layers[side].take([self._numbers[label] for label in labels])

    def _all_layers(self, side: int) -> Layers:
        prototypes = list(self._result.prototypes.values())
        parts: list[Layers] = []
        for first in range(0, len(prototypes), _AT_ONCE):
            part = prototypes[first : first + _AT_ONCE]
            maps = np.stack([prototype.map for prototype in part])
            colours = [au_colour(prototype.au) for prototype in part]
            names = [str(prototype.au) for prototype in part]
            parts.append(layers(maps, colours, side, self._x, names))
        return Layers(
            tuple(colour for part in parts for colour in part.colours),
            torch.cat([part.alpha for part in parts]),
            torch.cat([part.outline for part in parts]),
            tuple(name for part in parts for name in part.names),
        )


def au_colour(au: int) -> str:
    """Return the colour of an Action Unit, ``#rrggbb``; grey for one without its own."""
    return AU_COLOURS.get(au, _OTHER)


def _hatched(side: int) -> NDArray[np.uint8]:
    """Return the empty tile of a stage without a face."""
    rows, columns = np.mgrid[0:side, 0:side]
    pitch = max(8.0, side / 14)
    # Distance from the nearest diagonal, in pixels; its sign change is the soft edge.
    phase = (rows + columns) % pitch
    distance = np.abs(phase - pitch / 2) / math.sqrt(2)
    cover = np.clip(pitch / 6 - distance + 0.5, 0, 1).astype(np.float32)
    picture = np.empty((side, side, 3), np.uint8)
    picture[:] = _EMPTY
    blend(picture, cover, 0, 0, _STROKE)
    if side >= SMALLEST_WITH_TEXT:
        size = side * 0.062
        wide, high = text_width("no face", size) + round(size * 2.4), round(size * 2.8)
        panel = rounded_mask(wide, high, high / 2)
        blend(picture, panel, (side - wide) // 2, (side - high) // 2, _EMPTY)
        draw_text(picture, "no face", side / 2, (side + size) / 2, size, _INK, anchor="centre")
    edge = rounded_mask(side, side, side * 0.045)
    inner = np.zeros_like(edge)
    inner[2:-2, 2:-2] = rounded_mask(side - 4, side - 4, side * 0.045 - 2)
    blend(picture, edge - inner, 0, 0, _BORDER)
    return picture
