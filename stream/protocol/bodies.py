"""The bases of everything that may stand in an envelope's ``data``."""

from __future__ import annotations

from typing import ClassVar

import msgspec

__all__ = ["Body", "Event", "Sample"]


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that may stand in an envelope's ``data``; ``type`` names it there."""

    type: ClassVar[str]


class Event(Body, frozen=True, kw_only=True):
    """Base of the numbered messages."""


class Sample(Body, frozen=True, kw_only=True):
    """Base of the latest-wins messages."""
