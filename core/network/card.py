"""Model card: everything about an AU network that is not weights, as validated data.

The card travels beside the weights as JSON (``net.safetensors`` + ``net.json``). It fixes the AU
list, how a crop is aligned and normalised, when an AU counts as present, how landmarks are decoded,
how far each AU can be relied on, and what the network may be used for.

References:
    Mitchell et al., *Model Cards for Model Reporting*, FAT* 2019.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..action_units import AU_NAMES, au_code
from ..errors import ModelError
from .card_fields import Facts, Fields, to_facts, to_integer, to_texts

__all__ = ["CARD_SCHEMA", "GRADES", "LandmarkDecoding", "ModelCard", "Normalisation"]

CARD_SCHEMA = "facestage.model-card/1"
"""The value of ``schema`` in a card that this version reads."""

GRADES = {
    "A": "reliable: shown",
    "B": "weak: shown, and marked as weak",
    "C": "not reliable: hidden unless asked for",
}
"""The grade of an AU → what it means. Grades rate how an AU does on real faces held out."""

NEUTRAL_PRESENCE = 0.1
"""The presence of an AU on a neutral face where the card does not give it, probability 0–1."""

_POINTS = 5


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How grey values become network input: ``clip((v − mean) / (std + std_offset), ±clamp)``.

    Mean and (sample) standard deviation are taken over a window inside the crop, which hair and
    background hardly reach, of values scaled to 0–1.

    Attributes:
        rows: first row and the row after the last of the window, crop pixels.
        cols: the same for columns.
        std_offset: keeps flat crops from being amplified to noise, grey values in 0–1.
        clamp: largest absolute value passed on, standard deviations.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    std_offset: float
    clamp: float


@dataclass(frozen=True, slots=True)
class LandmarkDecoding:
    """How the landmark head's output becomes crop pixels: ``(output · scale + offset) · side``.

    Attributes:
        count: number of landmarks; the head gives ``2 · count`` values x0, y0, x1, …
        scale: crop sides per unit of output.
        offset: crop sides.
    """

    count: int
    scale: float
    offset: float


@dataclass(frozen=True, slots=True, eq=False)
class ModelCard:
    """What is known about one AU network.

    Attributes:
        name, version: identify the network in results.
        aus: AU numbers in the order of the outputs, ascending.
        architecture: id of the layer structure
            (``facestage.core.network.au_network.ARCHITECTURES``), or a free name for a network
            built in code.
        input_size: side S of the square grey crop, pixels.
        template: ``(5, 2)`` float32 crop pixels: where alignment puts viewer-left eye,
            viewer-right eye, nose tip, viewer-left and viewer-right mouth corner.
        template_weights: ``(5,)`` float32 weights of these points in the alignment.
        normalisation: grey values → network input.
        on, off: AU number → presence probability at which an AU becomes active, and below which
            it stops (hysteresis, on ≥ off).
        intensity_scale: factor from the intensity output to FACS intensity 0–5.
        landmarks: decoding of the landmark head; None without one.
        five_points: for each of the five alignment points the landmarks whose mean it is; None
            without a landmark head.
        box_points: detector name → ``(5, 2)`` float32 mean position of the five points in its
            face box, as fractions of the box *width* from the top-left corner.
        sha256: of the weights file, hex; empty for a network built in code.
        trained_on, licence, intended_use: one sentence each.
        limits: known limits, one sentence each.
        grades: AU number → its grade, see :data:`GRADES`. Of all AUs, or of none: without grades
            every AU is shown, and none is marked.
        neutral: AU number → usual presence logit of neutral faces, where known.
        rise: AU number → how far its presence logit must rise over the rest level of a person who
            is known well, for it to be active; where known.
        data, recipe: what the network was trained on and how (seed, commit, …), free JSON.
        evaluation: measured figures, per AU by its number as text (``{"12": {"auc": 0.9}}``) and
            others; free JSON.
        notice: copyright notice of third parties whose material went into the weights.
    """

    name: str
    aus: tuple[int, ...]
    input_size: int
    template: NDArray[np.float32]
    template_weights: NDArray[np.float32]
    normalisation: Normalisation
    on: Mapping[int, float]
    off: Mapping[int, float]
    version: str = "0"
    architecture: str = "custom"
    intensity_scale: float = 5.0
    landmarks: LandmarkDecoding | None = None
    five_points: tuple[tuple[int, ...], ...] | None = None
    box_points: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    sha256: str = ""
    trained_on: str = ""
    licence: str = ""
    intended_use: str = ""
    limits: tuple[str, ...] = ()
    grades: Mapping[int, str] = field(default_factory=dict)
    neutral: Mapping[int, float] = field(default_factory=dict)
    rise: Mapping[int, float] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    notice: str = ""

    def neutral_logits(self) -> NDArray[np.float32]:
        """Return the presence logit of each AU on a neutral face, ``(A,)`` float32."""
        usual = math.log(NEUTRAL_PRESENCE / (1 - NEUTRAL_PRESENCE))
        return np.array([self.neutral.get(au, usual) for au in self.aus], np.float32)

    def rises(self) -> NDArray[np.float32]:
        """Return the known rise of each AU, ``(A,)`` float32 logits; NaN where not known."""
        return np.array([self.rise.get(au, math.nan) for au in self.aus], np.float32)

    def thresholds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the on and off thresholds, each ``(A,)`` float32 in the order of ``aus``."""
        on = np.array([self.on[au] for au in self.aus], np.float32)
        off = np.array([self.off[au] for au in self.aus], np.float32)
        return on, off

    @classmethod
    def from_json(cls, source: str | bytes | Mapping[str, Any]) -> ModelCard:
        """Read and validate a card.

        Args:
            source: JSON text, or the object parsed from it.

        Returns:
            The card.

        Raises:
            ModelError: the text is not JSON, a field is missing or its value cannot work; the
                message names the field.
        """
        if isinstance(source, (str, bytes)):
            try:
                source = json.loads(source)
            except ValueError as error:
                raise ModelError(
                    f"the model card is not valid JSON ({error}); restore the card that came with "
                    "the weights"
                ) from error
        if not isinstance(source, Mapping):
            raise ModelError("the model card must be a JSON object; see the embedded network's")
        return _parse(Fields(source))


def _parse(card: Fields) -> ModelCard:
    schema = card.text("schema")
    if schema != CARD_SCHEMA:
        raise card.fail("schema", f"is {schema!r}, this version reads {CARD_SCHEMA!r}")
    aus = card.get("aus", _aus, "different AU numbers in ascending order, such as [1, 2, 4]")
    unknown = [au for au in aus if au not in AU_NAMES]
    if unknown:
        raise card.fail("aus", f"holds {unknown}, which are not Action Units known here")
    crop = card.part("input")
    size = crop.integer("size", 16, 1024)
    weights = crop.array("template_weights", (_POINTS,))
    if weights.min() < 0 or weights.sum() <= 0:
        raise crop.fail("template_weights", "must not be negative, and not all zero")
    on, off = _thresholds(card.part("thresholds"), aus)
    landmarks = five = None
    if "landmarks" in card.data:
        head = card.part("landmarks")
        landmarks = LandmarkDecoding(
            head.integer("count", 5, 10_000),
            head.number("scale", 1e-6, 1e6),
            head.number("offset", -1e6, 1e6),
        )
        five = card.get(
            "five_points",
            _five_points(landmarks.count),
            f"five lists of landmark numbers below {landmarks.count}",
        )
    boxes = card.part("box_points") if "box_points" in card.data else Fields({})
    return ModelCard(
        name=card.text("name"),
        version=card.text("version"),
        architecture=card.text("architecture"),
        aus=aus,
        input_size=size,
        template=crop.array("template", (_POINTS, 2)),
        template_weights=weights,
        normalisation=_normalisation(crop.part("normalisation"), size),
        on=on,
        off=off,
        intensity_scale=card.part("intensity").number("scale", 1e-6, 1e6),
        landmarks=landmarks,
        five_points=five,
        box_points={name: boxes.array(name, (_POINTS, 2)) for name in boxes.data},
        sha256=card.get("sha256", _sha256, "64 hexadecimal digits"),
        trained_on=card.text("trained_on"),
        licence=card.text("licence"),
        intended_use=card.text("intended_use"),
        limits=card.get("limits", to_texts, "a list of texts"),
        grades=_grades(card, aus),
        neutral=_per_au(card, "neutral", aus, -50, 50),
        rise=_per_au(card, "rise", aus, 0, 50),
        data=_facts(card, "data"),
        recipe=_facts(card, "recipe"),
        evaluation=_facts(card, "evaluation"),
        notice=card.text("notice", default=""),
    )


def _normalisation(fields: Fields, size: int) -> Normalisation:
    expected = f"[first, last + 1] within 0 to {size}, at least 2 apart"
    return Normalisation(
        rows=fields.get("rows", _window(size), expected),
        cols=fields.get("cols", _window(size), expected),
        std_offset=fields.number("std_offset", 1e-6, 1.0),
        clamp=fields.number("clamp", 1e-3, 1e6),
    )


def _thresholds(fields: Fields, aus: tuple[int, ...]) -> tuple[dict[int, float], dict[int, float]]:
    usual_on, usual_off = fields.number("on", 0, 1), fields.number("off", 0, 1)
    if usual_off > usual_on:
        raise fields.fail("off", f"({usual_off}) is above on ({usual_on})")
    on, off = dict.fromkeys(aus, usual_on), dict.fromkeys(aus, usual_off)
    per_au = fields.part("per_au")
    for key, au in _au_keys(per_au, aus):
        part = per_au.part(key)
        on[au] = part.number("on", 0, 1, default=on[au])
        off[au] = part.number("off", 0, 1, default=off[au])
    for au in aus:
        if off[au] > on[au]:
            raise fields.fail("off", f"({off[au]}) is above on ({on[au]}) for {au_code(au)}")
    return on, off


def _grades(card: Fields, aus: tuple[int, ...]) -> Mapping[int, str]:
    if "grades" not in card.data:
        return {}
    fields = card.part("grades")
    grades = {}
    for key, au in _au_keys(fields, aus):
        grades[au] = fields.get(key, _grade, f"one of {', '.join(GRADES)}")
    missing = [au for au in aus if au not in grades]
    if missing:
        # An AU without a grade would be shown as if it had one.
        raise card.fail("grades", f"gives no grade to {missing}; grade all AUs or leave it out")
    return Facts(grades)


def _grade(value: Any) -> str:
    if not isinstance(value, str) or value not in GRADES:
        raise ValueError
    return value


def _per_au(
    card: Fields, name: str, aus: tuple[int, ...], least: float, most: float
) -> Mapping[int, float]:
    if name not in card.data:
        return {}
    fields = card.part(name)
    return Facts({au: fields.number(key, least, most) for key, au in _au_keys(fields, aus)})


def _facts(card: Fields, key: str) -> Mapping[str, Any]:
    expected = "an object of texts, finite numbers (null where unknown), lists and objects"
    return card.get(key, to_facts, expected, default=Facts({}))


def _au_keys(fields: Fields, aus: tuple[int, ...]) -> list[tuple[str, int]]:
    """Return the keys of an object by AU, each with its AU number."""
    numbers = {str(au): au for au in aus}
    for key in fields.data:
        if key not in numbers:
            raise fields.fail(key, "is not an AU of this network")
    return [(key, numbers[key]) for key in fields.data]


def _aus(value: Any) -> tuple[int, ...]:
    aus = tuple(map(to_integer(1, 99), value))
    if not aus or list(aus) != sorted(set(aus)):
        raise ValueError
    return aus


def _window(size: int) -> Callable[[Any], tuple[int, int]]:
    def convert(value: Any) -> tuple[int, int]:
        first, end = map(to_integer(0, size), value)
        if end - first < 2:
            raise ValueError
        return first, end

    return convert


def _five_points(count: int) -> Callable[[Any], tuple[tuple[int, ...], ...]]:
    def convert(value: Any) -> tuple[tuple[int, ...], ...]:
        points = tuple(tuple(map(to_integer(0, count - 1), point)) for point in value)
        if len(points) != _POINTS or not all(points):
            raise ValueError
        return points

    return convert


def _sha256(value: Any) -> str:
    if len(value) != 64 or set(value.lower()) - set("0123456789abcdef"):
        raise ValueError
    return value.lower()
