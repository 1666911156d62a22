"""The pictures of one analysed sequence: its stages, its prototypes, their heatmaps.

All are ``(side, side, 3)`` uint8, BGR.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..action_units import AU_COLOURS
from ..config import ExplainConfig
from ..types import LOST, NONE, SequenceResult
from .layers import SMALLEST_WITH_TEXT, Layer, compose, layers
from .lettering import Colour, blend, draw_text, rounded_mask, text_width
from .projections import enlarge, heatmap

__all__ = ["SequencePictures", "au_colour", "tile_side"]

_OTHER = "#9AA0A6"
_PROTOTYPE_SIDE = 448
_SHRUNK = 0.75
"""Up to this share of a picture's side, it is shrunk instead of painted anew: that is cheaper, and
its lines and words, which grow with the side, come out as they would. Not for pictures without
words."""
_EMPTY: Colour = (248, 245, 243)
_STROKE: Colour = (232, 226, 222)
_BORDER: Colour = (206, 198, 192)
_INK: Colour = (112, 102, 94)


class SequencePictures:
    """Draw the stages and prototypes of a sequence; all projections of one size are made at once.

    Pictures are kept, so that a strip, a report and thumbnails of one sequence cost little more
    than one of them.

    Args:
        result: the sequence.
        x: share of the positive relevance shown, 0–1.

    Attributes:
        x: the same.
        tile: side in which stages are drawn side by side, pixels: smaller where there are many.
    """

    def __init__(self, result: SequenceResult, x: float = ExplainConfig().top_x) -> None:
        self._result = result
        self.x = x
        self.tile = tile_side(len(result.stages))
        self._numbers = {label: n for n, label in enumerate(result.prototypes)}
        self._layers: dict[int, tuple[Layer, ...]] = {}
        self._kept: dict[tuple[str, int | str], NDArray[np.uint8]] = {}

    def stage(self, index: int, side: int) -> NDArray[np.uint8]:
        """Return the picture of a stage, ``(side, side, 3)``; hatched where there is none."""
        return self._sized(("stage", index), side, self.tile, lambda at: self._stage(index, at))

    def prototype(self, label: str, side: int) -> NDArray[np.uint8]:
        """Return a prototype's projection over the face of its exemplar, ``(side, side, 3)``."""
        item = self._result.prototypes[label]

        def paint(at: int) -> NDArray[np.uint8]:
            return compose(item.crop, self._layers_of([label], at), at)

        return self._sized(("prototype", label), side, _PROTOTYPE_SIDE, paint)

    def heat(self, label: str, side: int) -> NDArray[np.uint8]:
        """Return a prototype's heatmap, enlarged, ``(side, side, 3)``."""
        item = self._result.prototypes[label]

        def paint(at: int) -> NDArray[np.uint8]:
            return heatmap(enlarge(item.map[None], at))[0].numpy()

        return self._sized(("heat", label), side, _PROTOTYPE_SIDE, paint)

    def _sized(
        self,
        key: tuple[str, int | str],
        side: int,
        usual: int,
        paint: Callable[[int], NDArray[np.uint8]],
    ) -> NDArray[np.uint8]:
        """Return a picture: the one kept in its usual size, shrunk, or painted in another."""
        shrunk = SMALLEST_WITH_TEXT <= side <= _SHRUNK * usual
        if side != usual and not shrunk:
            return paint(side)
        if key not in self._kept:
            self._kept[key] = paint(usual)
        picture = self._kept[key]
        if side == usual:
            return picture.copy()
        smaller = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        return smaller.astype(np.uint8, copy=False)

    def _stage(self, index: int, side: int) -> NDArray[np.uint8]:
        crop = self._result.stage_crops[index]
        labels = self._result.stages[index].labels
        if crop is None:
            return _hatched(side, "no face" if labels == LOST else "no picture")
        if labels in (NONE, LOST):
            return compose(crop, None, side)
        return compose(crop, self._layers_of(labels, side), side)

    def _layers_of(self, labels: Sequence[str], side: int) -> list[Layer]:
        if side not in self._layers:
            self._layers[side] = self._all_layers(side)
        return [self._layers[side][self._numbers[label]] for label in labels]

    def _all_layers(self, side: int) -> tuple[Layer, ...]:
        prototypes = list(self._result.prototypes.values())
        if not prototypes:
            return ()
        maps = np.stack([prototype.map for prototype in prototypes])
        colours = [au_colour(prototype.au) for prototype in prototypes]
        return layers(maps, colours, side, self.x, [str(prototype.au) for prototype in prototypes])


def tile_side(stages: int) -> int:
    """Return the side of the pictures of so many stages side by side, pixels."""
    return 248 if stages <= 24 else 192 if stages <= 81 else 136


def au_colour(au: int) -> str:
    """Return the colour of an Action Unit, ``#rrggbb``; grey for one without its own."""
    return AU_COLOURS.get(au, _OTHER)


def _hatched(side: int, text: str) -> NDArray[np.uint8]:
    """Return the empty tile of a stage without a face, or of which no picture was kept."""
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
        wide, high = text_width(text, size) + round(size * 2.4), round(size * 2.8)
        panel = rounded_mask(wide, high, high / 2)
        blend(picture, panel, (side - wide) // 2, (side - high) // 2, _EMPTY)
        draw_text(picture, text, side / 2, (side + size) / 2, size, _INK, anchor="centre")
    edge = rounded_mask(side, side, side * 0.045)
    inner = np.zeros_like(edge)
    inner[2:-2, 2:-2] = rounded_mask(side - 4, side - 4, side * 0.045 - 2)
    blend(picture, edge - inner, 0, 0, _BORDER)
    return picture
