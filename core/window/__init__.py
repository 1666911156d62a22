"""Incremental SpRAy: sliding windows of relevance maps, their clusters, and letters that last."""

from __future__ import annotations

from .bank import WindowBank, check_window
from .letters import WindowUpdate

__all__ = ["WindowBank", "WindowUpdate", "check_window"]
