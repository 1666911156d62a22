"""Where things lie in the repository."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
SHARED = Path(os.environ.get("FACESTAGE_SHARED", ROOT.parent / "shared"))
"""Real clips and models, if they are at hand; see the fixture ``shared``."""
BENCHMARKS = ROOT / "benchmarks"
DEMO_CLIP = ROOT / "stream" / "demo" / "face.mp4"
GOLDEN_MAPS = ROOT / "tests" / "data" / "innvestigate_gold.npz"
"""Relevance maps by iNNvestigate itself."""
