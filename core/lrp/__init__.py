"""Layer-wise relevance propagation: which pixels speak for an Action Unit (paper §3.2).

:func:`explain` turns presence logits into relevance maps, all (frame, AU) pairs of a batch at
once. Which file holds what:

- ``presets.py`` is data: which rule a layer gets, with which constants; ``formulas.py`` has the
  formulas that both engines share.
- ``api.py`` has the public functions. It chooses an engine and keeps networks prepared.
- ``fused/`` is the fast engine, for sequential and residual ReLU networks. ``lower.py`` traces a
  network and ``translate.py`` turns it into a ``program.py``; ``layer_rules.py`` and
  ``convolution_rules.py`` have a ``rule.py`` for each operation; ``engine.py`` runs them, on a GPU
  through ``cuda_graphs.py``, or through ``rounds.py`` together with all else that a frame needs.
- ``reference/`` is the general engine: ``hooks.py`` has the rules as zennit hooks, ``engine.py``
  attaches them and follows autograd.

To change a rule, change it in ``fused/layer_rules.py`` or ``fused/convolution_rules.py`` and in
``reference/hooks.py``; the tests compare both engines. A new rule needs a name in ``presets.py``.

Names are imported on first use, so that the names of the presets can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import (
        CHUNK_BYTES,
        ENGINES,
        PRECISIONS,
        TF32,
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
        recorded_engine,
    )
    from .fused.engine import Reduced
    from .fused.rounds import ALWAYS, NEVER, Round, Rounds
    from .presets import ALIASES, LRP_PRESETS, Preset, lrp_preset

__all__ = [
    "ALIASES",
    "ALWAYS",
    "CHUNK_BYTES",
    "ENGINES",
    "LRP_PRESETS",
    "NEVER",
    "PRECISIONS",
    "TF32",
    "Counts",
    "EngineChoice",
    "Forward",
    "Preset",
    "Reduced",
    "Round",
    "Rounds",
    "SlowEngineWarning",
    "UnsupportedNetworkError",
    "counts_of",
    "engine_of",
    "explain",
    "forward",
    "lrp_preset",
    "record",
    "recorded_engine",
]

_HOMES = {
    "ALIASES": "presets",
    "ALWAYS": "fused.rounds",
    "CHUNK_BYTES": "api",
    "ENGINES": "api",
    "NEVER": "fused.rounds",
    "PRECISIONS": "api",
    "TF32": "api",
    "LRP_PRESETS": "presets",
    "Counts": "api",
    "EngineChoice": "api",
    "Forward": "api",
    "Preset": "presets",
    "Reduced": "fused.engine",
    "Round": "fused.rounds",
    "Rounds": "fused.rounds",
    "SlowEngineWarning": "api",
    "UnsupportedNetworkError": "api",
    "counts_of": "api",
    "engine_of": "api",
    "explain": "api",
    "forward": "api",
    "lrp_preset": "presets",
    "record": "api",
    "recorded_engine": "api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    return value
