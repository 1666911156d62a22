"""Layer-wise relevance propagation: which pixels speak for an Action Unit (paper §3.2).

:func:`explain` turns presence logits into relevance maps, all (frame, AU) pairs of a batch at
once. Presets are data (:mod:`.presets`). Two engines run them: :mod:`.fused`, for sequential and
residual ReLU networks, and :mod:`.reference`, through zennit, for any other.

Names are imported on first use: who needs the names of the presets waits for no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import (
        CHUNK_BYTES,
        ENGINES,
        PRECISIONS,
        Counts,
        EngineChoice,
        Forward,
        SlowEngineWarning,
        UnsupportedNetworkError,
        counts_of,
        engine_of,
        explain,
        forward,
        record,
    )
    from .presets import ALIASES, LRP_PRESETS, Preset, lrp_preset

__all__ = [
    "ALIASES",
    "CHUNK_BYTES",
    "ENGINES",
    "LRP_PRESETS",
    "PRECISIONS",
    "Counts",
    "EngineChoice",
    "Forward",
    "Preset",
    "SlowEngineWarning",
    "UnsupportedNetworkError",
    "counts_of",
    "engine_of",
    "explain",
    "forward",
    "lrp_preset",
    "record",
]

_HOMES = {
    "ALIASES": "presets",
    "CHUNK_BYTES": "api",
    "ENGINES": "api",
    "PRECISIONS": "api",
    "LRP_PRESETS": "presets",
    "Counts": "api",
    "EngineChoice": "api",
    "Forward": "api",
    "Preset": "presets",
    "SlowEngineWarning": "api",
    "UnsupportedNetworkError": "api",
    "counts_of": "api",
    "engine_of": "api",
    "explain": "api",
    "forward": "api",
    "lrp_preset": "presets",
    "record": "api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    return value
