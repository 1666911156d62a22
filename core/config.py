"""Every constant and default of the algorithms, in one place, with its unit and its reason.

Steps take the section they need; :class:`AnalyzerConfig` holds all sections. What belongs to one
network (thresholds per AU, alignment template, input size) is in its model card instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["AnalyzerConfig", "ExplainConfig", "FaceConfig", "StageConfig", "WindowConfig"]


@dataclass(frozen=True, slots=True)
class FaceConfig:
    """Face detection, tracking and quality."""


@dataclass(frozen=True, slots=True)
class ExplainConfig:
    """Relevance maps, descriptors and projections."""

    preset: str = "innvestigate_a_flat"
    """LRP preset (paper §3.2 names iNNvestigate's LRPSequentialPresetAFlat)."""
    descriptor_side: int = 16
    """Side of the area-pooled map that is compared, cells."""
    descriptor_mode: str = "positive"
    """``positive`` compares evidence for the AU only (as the projections show), or ``signed``."""
    top_x: float = 0.25
    """Share of the positive relevance mass a projection keeps (paper §3.5), 0–1."""


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """The sliding window of one AU and its prototypes."""


@dataclass(frozen=True, slots=True)
class StageConfig:
    """From AU probabilities and letters to stages."""

    min_stage_s: float = 0.2
    """Minimum dwell: a label of an AU counts once it has lasted this long, seconds."""
    lost_after_s: float = 1.0
    """A face too poor to analyse holds the stage this long before it becomes LOST, seconds."""


@dataclass(frozen=True, slots=True)
class AnalyzerConfig:
    """All sections together."""

    face: FaceConfig = field(default_factory=FaceConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    stage: StageConfig = field(default_factory=StageConfig)
