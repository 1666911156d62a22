"""What waits for the disk: taken from the hub at once, given to the thread that writes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from .. import protocol
from .video import VideoRecorder

__all__ = ["HEAT_S", "MOST_WAITING", "Waiting", "WaitingQueue"]

MOST_WAITING = 8192
"""Samples that may wait for the disk: two minutes of two cameras, some 30 MB."""
HEAT_S = 0.1
"""Masks of a stream are kept so often, seconds of its own time."""
_HASTE = 1e-3
"""Frames of 30 a second are not quite a thirtieth of a second apart, seconds."""


@dataclass(slots=True)
class Waiting:
    """One message in the queue.

    Attributes:
        at: seconds since the session began.
        seq: number of an event; 0 of a sample.
        message: of an event, as clients get it; None of a sample.
        sample: the sample.
        envelope: its stream, its ``t_capture`` and its ``t_emit``.
    """

    at: float
    seq: int
    message: bytes | None
    sample: protocol.Sample | None = None
    envelope: tuple[str | None, float | None, float] = (None, None, 0.0)


class WaitingQueue:
    """What waits for the disk; a :class:`~facestage.stream.server.hub.Tap`.

    Args:
        ticks: clock that is never set, seconds.
        began: what it showed when the session began.
        sources: ids of the streams.

    Attributes:
        video: takes the pictures; None: they are not kept.
        dropped: samples that found it full.
    """

    def __init__(
        self, ticks: Callable[[], float], began: float, sources: Collection[str] = ()
    ) -> None:
        self._ticks, self._began = ticks, began
        self.sources = sources
        self._changed = threading.Condition()
        self._waiting: deque[Waiting] = deque()
        self._samples = 0
        self._closed = False
        self.video: VideoRecorder | None = None
        self.dropped = 0
        self._held: dict[str | None, Waiting] = {}
        self._heat_s: dict[str | None, float] = {}

    def now(self) -> float:
        """Return the seconds since the session began."""
        return self._ticks() - self._began

    def take_event(self, seq: int, message: bytes) -> None:
        """Take an event from the hub."""
        with self._changed:
            self._waiting.append(Waiting(self.now(), seq, message))
            self._changed.notify()

    def take_sample(
        self, sample: protocol.Sample, stream: str | None, t_capture: float | None, t_emit: float
    ) -> None:
        """Take a sample from the hub; of masks only those that are kept."""
        one = Waiting(self.now(), 0, None, sample, (stream, t_capture, t_emit))
        if isinstance(sample, protocol.Heat):
            self._held[stream] = one  # kept or not, its frame will tell: that knows the time
            return
        with self._changed:
            heat = self._held.pop(stream, None)
            if heat is not None and self._is_due(stream, sample, heat.sample):
                self._put(heat)
            self._put(one)
            self._changed.notify()

    def take_picture(self, frame: int, jpeg: bytes, stream: str, number: int) -> None:
        """Take a picture from the hub, where pictures are kept."""
        # Another face of a source has the picture of the first.
        if self.video is not None and stream.rpartition("/")[0] not in self.sources:
            self.video.take(number, frame, self.now(), jpeg)

    def _is_due(
        self, stream: str | None, frame: protocol.Sample, heat: protocol.Sample | None
    ) -> bool:
        """Tell whether masks are kept, by the frame that they belong to."""
        if not isinstance(heat, protocol.Heat) or not isinstance(frame, protocol.FrameSample):
            return False
        last = self._heat_s.get(stream)
        due = last is None or not 0 <= frame.time_s - last < HEAT_S - _HASTE
        if not due or heat.frame != frame.frame:
            return False
        self._heat_s[stream] = frame.time_s
        return True

    def _put(self, sample: Waiting) -> None:
        if self._samples >= MOST_WAITING:
            self.dropped += 1
            return
        self._samples += 1
        self._waiting.append(sample)

    def take(self, timeout: float) -> list[Waiting] | None:
        """Return what waits; wait for it at most so long. None: nothing will come any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout)
            if not self._waiting and self._closed:
                return None
            taken = list(self._waiting)
            self._waiting.clear()
            self._samples = 0
            return taken

    def close(self) -> None:
        """Say that nothing will be put in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
