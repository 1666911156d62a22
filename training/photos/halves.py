"""Who of the real people is trained with, who is chosen by, and who is reported on.

Every person belongs to one half by a hash of the person's name that is fixed once. Weights and
thresholds are chosen on one half; figures are reported on the other. A network is calmer on faces
that it was trained with, so thresholds cannot be chosen by these: of the choosing half every second
person lends pictures to training, and the others choose.
"""

from __future__ import annotations

import hashlib

__all__ = ["CHOOSE", "REPORT", "digest", "half_of", "is_trained_with"]

CHOOSE, REPORT = "choose", "report"
"""The halves: weights and thresholds are chosen on the first, figures reported on the second."""
_SPLIT = "facestage people 1"
"""Hashed before the name. The first of the numbered splits that puts marks of AU1, 2, 4, 6, 12, 15
and 25 into both halves; taken before any figure was looked at, and never to change: a person who
moves to the other half makes every earlier choice suspect."""


def half_of(person: str) -> str:
    """Return the half a person belongs to, by name alone: the same on every machine, for ever."""
    return (CHOOSE, REPORT)[digest(person)[0] & 1]


def is_trained_with(person: str) -> bool:
    """Tell whether labelled pictures of a person may be trained with, and so choose nothing."""
    return half_of(person) == CHOOSE and bool(digest(person)[1] & 1)


def digest(person: str) -> bytes:
    """Return the 32 bytes that decide about a person."""
    return hashlib.sha256(f"{_SPLIT}:{person}".encode()).digest()
