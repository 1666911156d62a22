"""Algorithms of facestage: arrays in, values out; no sockets, threads, clocks or printing.

The whole chain is :class:`~facestage.core.analyzer.Analyzer` (live) and
:class:`~facestage.core.sequence.SequenceAnalyzer` (a whole recording); every step is usable alone.

Names are imported on first use: a client of the protocol, or ``--help``, waits for no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .analyzer import Analyzer
    from .clustering.spectral import spray
    from .config import AnalyzerConfig
    from .errors import FacestageError
    from .network.au_network import AUNetwork
    from .sequence import SequenceAnalyzer
    from .stages import temporal_prototype
    from .types import Frame, FrameResult, SequenceResult, Stage

__all__ = [
    "AUNetwork",
    "Analyzer",
    "AnalyzerConfig",
    "FacestageError",
    "Frame",
    "FrameResult",
    "SequenceAnalyzer",
    "SequenceResult",
    "Stage",
    "spray",
    "temporal_prototype",
]

_HOMES = {
    "AUNetwork": "network.au_network",
    "Analyzer": "analyzer",
    "AnalyzerConfig": "config",
    "FacestageError": "errors",
    "Frame": "types",
    "FrameResult": "types",
    "SequenceAnalyzer": "sequence",
    "SequenceResult": "types",
    "Stage": "types",
    "spray": "clustering.spectral",
    "temporal_prototype": "stages",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    return value
