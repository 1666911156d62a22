"""Compare a network's predictions with labels, AU by AU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ...core.action_units import au_code
from ...core.learning import ece, f1, icc_3_1, prevalence, roc_auc
from ...core.network.au_network import AUNetwork
from .crops import CropSet, centre

__all__ = ["SCHEMA", "AUFigures", "as_json", "evaluate_crops", "format_table"]

SCHEMA = "facestage/evaluation/1"
"""``schema`` of the JSON; the number rises when a reader would break."""

_BATCH = 64


@dataclass(frozen=True, slots=True)
class AUFigures:
    """How well one AU is predicted; NaN where the labels do not define a figure.

    Attributes:
        au: AU number.
        n: pictures with a label of it.
        prevalence: share of them in which it is present (coded so, or intensity ≥ 1).
        f1: of presence at the card's on-threshold; NaN where the AU is never present.
        auc: area under the ROC curve of the presence probability.
        icc: ICC(3,1) of intensity, over the pictures with a coded intensity; NaN where these are
            all the same.
        ece: expected calibration error of the presence probability, 15 bins.
    """

    au: int
    n: int
    prevalence: float
    f1: float
    auc: float
    icc: float
    ece: float


def evaluate_crops(
    network: AUNetwork, data: CropSet, on_progress: Callable[[int], None] | None = None
) -> list[AUFigures]:
    """Predict every picture and compare with its labels.

    Args:
        network: the network.
        data: labelled crops; their AUs may differ from the network's.
        on_progress: called with the number of crops done.

    Returns:
        Figures of the AUs that both have, ascending.
    """
    crops = centre(data.crops)
    parts = []
    for first in range(0, len(crops), _BATCH):
        parts.append(network.predict(crops[first : first + _BATCH]))
        if on_progress is not None:
            on_progress(min(first + _BATCH, len(crops)))
    presence = np.concatenate([part.presence for part in parts])
    intensity = None
    if all(part.intensity is not None for part in parts):
        intensity = np.concatenate([part.intensity for part in parts])  # type: ignore[misc]
    on, _ = network.card.thresholds()
    present = data.faces.present()
    figures = []
    for column, au in enumerate(data.faces.aus):
        if au not in network.card.aus or au not in data.faces.coded():
            continue
        output = network.card.aus.index(au)
        y, p = present[:, column], presence[:, output]
        strength = data.faces.intensity[:, column]
        # Where the AU is never present, or always equally strong, F1 or ICC is 0 whatever the
        # network: that says nothing about it, and must not be averaged with figures that do.
        icc = math.nan
        if intensity is not None and len(np.unique(strength[~np.isnan(strength)])) > 1:
            icc = icc_3_1(strength, intensity[:, output])
        figures.append(
            AUFigures(
                au=au,
                n=int((~np.isnan(y)).sum()),
                prevalence=prevalence(y),
                f1=f1(y, p >= on[output]) if (y > 0).any() else math.nan,
                auc=roc_auc(y, p),
                icc=icc,
                ece=ece(y, p),
            )
        )
    return figures


def _means(figures: Sequence[AUFigures]) -> dict[str, float]:
    """Mean of each figure over the AUs that define it."""
    means = {}
    for name in ("f1", "auc", "icc", "ece"):
        known = [v for figure in figures if not math.isnan(v := getattr(figure, name))]
        means[name] = float(np.mean(known)) if known else math.nan
    return means


def format_table(figures: Sequence[AUFigures]) -> list[str]:
    """Return the lines of a table for people; what is not defined is a dash, explained below."""

    def cell(value: float) -> str:
        return f"{'–' if math.isnan(value) else f'{value:.3f}':>8}"

    lines = [f"{'AU':<6}{'n':>8}{'preval.':>8}{'F1':>8}{'AUC':>8}{'ICC(3,1)':>10}{'ECE':>8}"]
    for f in figures:
        lines.append(
            f"{au_code(f.au):<6}{f.n:>8}{cell(f.prevalence)}{cell(f.f1)}{cell(f.auc)}"
            f"{cell(f.icc):>10}{cell(f.ece)}"
        )
    m = _means(figures)
    lines.append(
        f"{'mean':<6}{'':>16}{cell(m['f1'])}{cell(m['auc'])}{cell(m['icc']):>10}{cell(m['ece'])}"
    )
    if any("–" in line for line in lines):
        lines.append("–: not defined by these labels (none coded, or all the same)")
    return lines


def as_json(figures: Sequence[AUFigures], **facts: Any) -> dict[str, Any]:
    """Return the figures as JSON values (null where not defined), with further facts."""
    names = [field.name for field in fields(AUFigures) if field.name != "au"]
    return {
        "schema": SCHEMA,
        **facts,
        "aus": {str(f.au): _clean({name: asdict(f)[name] for name in names}) for f in figures},
        "mean": _clean(_means(figures)),
    }


def _clean(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else round(value, 6) for key, value in values.items()}
