"""EDF+ of a recording: intensities and scores as signals, stages and markers as annotations.

Written by the library edfio (extra ``edf``). EDF has no value for what is not known: it is −1,
below everything that can be measured, and the label of the signal's unit says so.
Source: Kemp & Olivan, Clinical Neurophysiology 114 (2003) 1755–1761.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from ...core.errors import ConfigError
from .recording import Recording
from .tiers import Tier, samples

__all__ = ["MISSING", "edf_bytes"]

MISSING = -1.0
"""Stands for what is not known."""


def edf_bytes(recording: Recording, tiers: Sequence[Tier]) -> bytes:
    """Return a recording as an EDF+ file.

    Args:
        recording: its intensities and scores.
        tiers: each span of ``stages``, markers and notices is an annotation, ``tier: text``.

    Raises:
        ConfigError: edfio is not installed, or a score can be smaller than what stands for
            nothing.
    """
    try:
        import edfio  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "EDF+ needs the package edfio; install it with: pip install 'facestage[edf]'"
        ) from error
    rate, found = samples(recording)
    below = next((one.name for one in found if one.least <= MISSING), None)
    if below is not None:
        raise ConfigError(
            f"{below} can be {MISSING:g} or less, which stands for what is not known; export to "
            "csv, or define the score so that it is never negative"
        )
    length = -(-max((len(one.values) for one in found), default=0) // rate) * rate  # whole seconds
    signals = []
    for one in found:
        values = np.full(length, MISSING)
        values[: len(one.values)] = np.nan_to_num(one.values, nan=MISSING)
        signals.append(
            edfio.EdfSignal(
                values,
                rate,
                label=one.name[:16],
                physical_dimension=one.unit,
                physical_range=(MISSING, float(np.ceil(one.most))),
                transducer_type=f"{MISSING:g}: not known",
            )
        )
    notes = [
        edfio.EdfAnnotation(
            span.start_s,
            span.end_s - span.start_s if span.end_s > span.start_s else None,
            f"{tier.name}: {span.text}",
        )
        for tier in tiers
        if not tier.name.startswith("AU")
        for span in tier.spans
    ]
    file = io.BytesIO()
    edfio.Edf(
        signals,
        annotations=notes,
        recording=edfio.Recording(equipment_code="facestage"),
    ).write(file)
    return file.getvalue()
