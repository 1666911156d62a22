"""What many temporal prototypes have in common: tables, inclusion, patterns (paper §3.4, §4)."""

from __future__ import annotations

from .mining import mine_closed
from .relations import inclusion_order
from .summary import CorpusSequence, table1

__all__ = ["CorpusSequence", "inclusion_order", "mine_closed", "table1"]
