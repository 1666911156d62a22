"""Pictures of relevance maps, prototypes and whole sequences; arrays in, arrays out."""

from __future__ import annotations

from .annotated import AnnotatedFrames
from .layers import composite
from .overlays import over, overlays
from .panels import PanelEntry, panel
from .pictures import SequencePictures, au_colour
from .projections import heatmap, projection
from .prototype_card import prototype_card
from .strips import MAX_STRIP_STAGES, legend, stage_seconds, strip

__all__ = [
    "MAX_STRIP_STAGES",
    "AnnotatedFrames",
    "PanelEntry",
    "SequencePictures",
    "au_colour",
    "composite",
    "heatmap",
    "legend",
    "over",
    "overlays",
    "panel",
    "projection",
    "prototype_card",
    "stage_seconds",
    "strip",
]
