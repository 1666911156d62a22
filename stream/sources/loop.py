"""Play a source that ends again and again, as one that goes on."""

from __future__ import annotations

from collections.abc import Callable

from ...core.errors import SourceError
from .base import Grab, Source

__all__ = ["Looped"]


class Looped(Source):
    """A file or folder without an end: index and position go on rising from pass to pass.

    Meant for clips whose end meets their beginning, such as the demo: there the seam is no event
    in the face, and must not be reported as one. (A capture can also loop; it begins a new epoch
    with each pass, which ends the stage.)

    Args:
        opener: opens the source, once per pass.

    Raises:
        SourceError: the source cannot be opened or gives no picture.
    """

    def __init__(self, opener: Callable[[], Source]) -> None:
        self._opener = opener
        self._source = opener()
        first = self._source.info
        self.name, self.kind, self.live = first.name, first.kind, first.live
        self.endless, self.fps, self.frame_count = False, first.fps, None
        self.size = first.size
        self._next_index = 0
        self._next_pts = 0.0
        self._base_index = 0
        self._base_pts = 0.0

    def read(self) -> Grab | None:
        """Return the next picture; the first of the next pass after the last."""
        grab = self._source.read()
        if grab is None:
            self._source.close()
            self._source = self._opener()
            self._base_index, self._base_pts = self._next_index, self._next_pts
            grab = self._source.read()
            if grab is None:
                raise SourceError(f"{self.name} gave no picture when it was played again")
        index = self._base_index + grab.index
        pts = self._base_pts + (grab.pts or 0.0)
        self._next_index, self._next_pts = index + 1, pts + 1.0 / (self.fps or 30.0)
        return Grab(grab.image, index, pts)

    def close(self) -> None:
        """Close the source of the current pass."""
        self._source.close()
