"""SpRAy on one set of relevance maps: similarity, neighbour graph, spectral clustering."""

from __future__ import annotations

from .spectral import SPRAY_PRESETS, Clustering, SprayPreset, mean_maps, spray

__all__ = ["SPRAY_PRESETS", "Clustering", "SprayPreset", "mean_maps", "spray"]
