"""The first half of the pipeline: frames in, explained Action Units out.

Face (:mod:`.faces`), prediction, on/off with hysteresis, and one relevance map per active AU
(:mod:`.observer`; on a GPU :mod:`.on_gpu`); what live and offline analysis share. Letters and
stages come after, and differ between the two.
"""

from __future__ import annotations

from .draft import Draft, Look, Observation, stream_name, turns
from .observer import Observer

__all__ = ["Draft", "Look", "Observation", "Observer", "stream_name", "turns"]
