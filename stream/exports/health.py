"""Scores as a bundle of FHIR R4 Observations.

Codes are texts only: which LOINC code and unit a score has is for those to say who use it. The
status is ``preliminary``, as nobody has looked at the values.
Source: https://hl7.org/fhir/R4/observation.html and …/datatypes.html#SampledData.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError
from .recording import Recording, ScoreTrack
from .tiers import samples

__all__ = ["bundle_bytes"]

_SPACE = uuid.UUID("5f0c4a5e-6d5e-4c0b-9d34-0a3b6b5c8f11")
"""Names made in it are the same for the same recording."""


def bundle_bytes(recording: Recording) -> bytes:
    """Return the scores of a recording as JSON.

    Each Observation has two components, between which the score lies; a value that is withheld is
    ``E``, as the standard says it.

    Raises:
        ConfigError: the recording has no score.
    """
    if not recording.scores:
        raise ConfigError(
            "these results hold no score; analyse the recording with --score PSPI, or with one of "
            "your own"
        )
    rate, found = samples(recording)
    values = {one.name: one.values for one in found}
    entries = []
    for score in recording.scores:
        name = f"{recording.source}/{recording.model}/{score.name}"
        entries.append(
            {
                "fullUrl": uuid.uuid5(_SPACE, name).urn,
                "resource": _observation(recording, score, rate, values),
            }
        )
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    return json.dumps(bundle, ensure_ascii=False, indent=1).encode() + b"\n"


def _observation(
    recording: Recording, score: ScoreTrack, rate: int, values: dict[str, NDArray[np.float64]]
) -> dict[str, Any]:
    notes = [
        "Research software. Not a medical device.",
        f"{score.name} = {score.formula}" + (f" ({score.source})" if score.source else ""),
        "Times count from the beginning of the recording.",
    ]
    if score.caution:
        notes.append(score.caution)
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": {"text": score.name},
        "method": {"text": f"facestage, network {recording.model}"},
        "note": [{"text": text} for text in notes],
        "component": [
            {
                "code": {"text": f"{score.name}, {words}"},
                "valueSampledData": _sampled(score, rate, values[f"{score.name} {end}"]),
            }
            for end, words in (("low", "at least"), ("high", "at most"))
        ],
    }


def _sampled(score: ScoreTrack, rate: int, values: NDArray[np.float64]) -> dict[str, Any]:
    texts = ["E" if np.isnan(value) else f"{value:.3f}" for value in values]
    return {
        "origin": {"value": 0},
        "period": 1000 / rate,
        "lowerLimit": score.least,
        "upperLimit": score.most,
        "dimensions": 1,
        "data": " ".join(texts),
    }
