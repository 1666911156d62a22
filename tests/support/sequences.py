"""Results of sequences for tests that look at files and pictures, not at how they came about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facestage.core.stages import temporal_prototype
from facestage.core.types import FrameRow, SequenceResult, StageLabels


def sequence_result(
    rows: Sequence[FrameRow], labels: Sequence[StageLabels], fps: float, **fields: Any
) -> SequenceResult:
    """Return a result with these frames and the labels of each; other fields as given."""
    stages = temporal_prototype(labels, times=[row.time_s for row in rows])
    usual: dict[str, Any] = {
        "source": "/data/clip.mp4",
        "model": "net",
        "detector": "haar",
        "device": "cpu",
        "lrp_preset": "innvestigate_a_flat",
        "preset": "sequence",
        "aus": (1, 12),
        "prototypes": {},
        "stage_crops": (None,) * len(stages),
    }
    return SequenceResult(fps=fps, rows=tuple(rows), stages=stages, **usual | fields)
