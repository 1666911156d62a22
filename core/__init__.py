"""Algorithms of facestage: arrays in, values out; no sockets, threads, clocks or printing.

The whole chain is :class:`~facestage.core.analyzer.Analyzer` (live) and
:class:`~facestage.core.sequence.SequenceAnalyzer` (a whole recording); every step is usable alone.
"""

from __future__ import annotations

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
