"""Markers on the wire: what somebody wrote beside a moment or a span of a stream."""

from __future__ import annotations

from typing import ClassVar

from ...core.errors import ProtocolError
from .bodies import Body, Event

__all__ = ["MAX_MARKER_CHARACTERS", "Marker", "MarkerAdd"]

MAX_MARKER_CHARACTERS = 500
"""Longest text of a marker."""


class Marker(Event, frozen=True, kw_only=True):
    """Somebody marked a moment or a span.

    Attributes:
        id: number of the marker, 1 first; over all streams.
        text: what they wrote.
        start_s, end_s: on the source's time line, seconds; the same for a moment.
    """

    type: ClassVar[str] = "marker"
    id: int
    text: str
    start_s: float
    end_s: float


class MarkerAdd(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a client: mark a moment or a span of a stream.

    Attributes:
        stream: id of the stream.
        text: free text of at most :data:`MAX_MARKER_CHARACTERS`; not empty.
        start_s: on the source's time line, seconds; null: the latest frame.
        end_s: null: a moment.
    """

    type: ClassVar[str] = "marker.add"
    stream: str
    text: str
    start_s: float | None = None
    end_s: float | None = None

    def __post_init__(self) -> None:
        if not self.text.strip() or len(self.text) > MAX_MARKER_CHARACTERS:
            raise ProtocolError(
                f"a marker's text has 1 to {MAX_MARKER_CHARACTERS} characters, this one has "
                f"{len(self.text.strip())}; shorten it, or write some"
            )
        if self.start_s is not None and self.end_s is not None and self.end_s < self.start_s:
            raise ProtocolError(
                f"a marker cannot end at {self.end_s:g} s before it begins at {self.start_s:g} s; "
                "swap the two"
            )
