"""Who chooses and who is reported on, as training has it: one rule for both."""

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

__all__ = ["CHOOSE", "REPORT", "digest", "half_of", "is_trained_with"]
