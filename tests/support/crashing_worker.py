"""What a worker process runs in the test of crashes; importable by a spawned process."""

from __future__ import annotations

import os
from typing import Any

from facestage.stream.corpus.job import SequenceOutcome, Settings
from facestage.stream.datasets.sequences import SequenceItem


def run(settings: Settings, item: SequenceItem) -> Any:
    """Pretend to analyse; a sequence called ``kills`` takes its process with it."""
    if item.name == "kills":
        os._exit(9)
    return SequenceOutcome(item, frames=1)
