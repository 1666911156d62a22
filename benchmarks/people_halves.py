"""What the judging of people shares with training: who chooses, and whose lips are parted."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.append(ROOT)

from training.photos.halves import (  # noqa: E402
    CHOOSE,
    REPORT,
    digest,
    half_of,
    is_trained_with,
)
from training.photos.portraits import parted_lips  # noqa: E402

__all__ = ["CHOOSE", "REPORT", "digest", "half_of", "is_trained_with", "parted_lips"]
