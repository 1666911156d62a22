"""A bounded hand-over of frames between two threads, with a policy and counted drops.

When the consumer is slow the policy says what is lost, and every frame lost is counted under its
cause:

===============  =========================================================================
``overwritten``  a newer frame took its place before the consumer came
``stale``        it waited longer than the policy ``fifo`` allows
``decode``       it could not be decoded
``gap``          it was missed while the source was away (estimated from the frame rate)
===============  =========================================================================
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core.errors import FacestageError
from ...core.types import Frame

__all__ = ["EVERY_FRAMES", "FIFO_FRAMES", "FIFO_STALE_S", "Handover", "Policy"]

Policy = Literal["latest", "fifo", "every"]
"""``latest``: only the newest frame waits. ``fifo``: all wait, for half a second at most.
``every``: none is lost, the source waits instead."""

FIFO_STALE_S = 0.5
"""Longest time a frame waits under the policy ``fifo``, seconds."""
FIFO_FRAMES = 64
"""Most frames that wait under the policy ``fifo``: half a second at 120 frames per second."""
EVERY_FRAMES = 8
"""Most frames that wait under the policy ``every`` before the source has to."""


class _Waiting(NamedTuple):
    """A frame that waits, and what makes its picture if it is taken."""

    frame: Frame
    picture: Callable[[], NDArray[np.uint8]] | None


class Handover:
    """A bounded hand-over of frames from one thread to another, with counted drops.

    Args:
        policy: what happens to frames the consumer does not come for.
        clock: monotonic clock, nanoseconds; the one the frames were stamped with.
    """

    def __init__(self, policy: Policy, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.policy: Policy = policy
        self._clock = clock
        self._changed = threading.Condition()
        self._frames: deque[_Waiting] = deque()
        self._drops: Counter[str] = Counter()
        self._last_index = -1
        self._closed = False
        self._error: FacestageError | None = None

    @property
    def drops(self) -> dict[str, int]:
        """Frames lost so far, by cause."""
        with self._changed:
            return dict(self._drops)

    def count(self, cause: str, frames: int) -> None:
        """Count frames lost before they came here."""
        if frames > 0:
            with self._changed:
                self._drops[cause] += frames

    def put(self, frame: Frame, picture: Callable[[], NDArray[np.uint8]] | None = None) -> None:
        """Hand a frame over; under ``every``, wait for room. Does nothing once closed.

        Args:
            frame: the frame.
            picture: makes its picture, where that is not made yet; only for a frame that is taken.
        """
        with self._changed:
            if self.policy == "every":
                self._changed.wait_for(lambda: self._closed or len(self._frames) < EVERY_FRAMES)
            elif self.policy == "fifo":
                self._drop_stale()
                self._drop_oldest(FIFO_FRAMES - 1)
            else:
                self._drop_oldest(0)
            if not self._closed:
                self._frames.append(_Waiting(frame, picture))
                self._changed.notify_all()

    def get(self, timeout: float | None = None) -> Frame | None:
        """Take the next frame.

        Args:
            timeout: longest wait, seconds; None waits for ever.

        Returns:
            The frame, or None after the last one of a source that ended.

        Raises:
            queue.Empty: none came in time.
            FacestageError: the source failed, and all its frames have been taken.
        """
        with self._changed:
            self._changed.wait_for(self._settled, timeout)
            if self._frames:
                frame, picture = self._frames.popleft()
                self._changed.notify_all()
                dropped = frame.index - self._last_index - 1
                self._last_index = frame.index
            elif not self._closed:
                raise queue.Empty
            elif self._error is not None:
                raise self._error
            else:
                return None
        if picture is not None:  # the other thread does not wait for it
            return dataclasses.replace(frame, image=picture(), dropped_before=dropped)
        return dataclasses.replace(frame, dropped_before=dropped) if dropped else frame

    def close(self, error: FacestageError | None = None, *, discard: bool = False) -> None:
        """End the hand-over; frames still waiting can be taken unless discarded."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            if discard:
                self._frames.clear()
            self._changed.notify_all()

    def _settled(self) -> bool:
        if self.policy == "fifo":
            self._drop_stale()
        return bool(self._frames) or self._closed

    def _drop_stale(self) -> None:
        oldest_ns = self._clock() - round(FIFO_STALE_S * 1e9)
        while self._frames and self._frames[0].frame.t_mono_ns < oldest_ns:
            self._frames.popleft()
            self._drops["stale"] += 1

    def _drop_oldest(self, keep: int) -> None:
        while len(self._frames) > keep:
            self._frames.popleft()
            self._drops["overwritten"] += 1
