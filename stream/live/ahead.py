"""A thread for each source that prepares its next frame while the compute thread explains the last.

Grey, motion, the cut of the face and the search for one need the landmarks of the frame before, but
not its explanation. So the next frame is taken from the capture as soon as the last one was looked
at: never earlier, so that with the policy ``latest`` it is still the newest one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from ...core.steps import watching
from ...core.types import Frame
from ..step_clock import StepClock, StepTimes
from .capture import Capture

__all__ = ["Ahead"]

_WAIT_S = 0.25
"""Longest sleep while the source has no frame, seconds: bounds how late its end is noticed."""


class Ahead:
    """Takes the frames of a capture one by one and prepares each before it is asked for.

    Args:
        capture: gives the frames.
        prepare: prepares a frame, see :meth:`facestage.core.analyzer.Analyzer.prepare`.
        on_ready: called in the thread when there is something to take.
        on_steps: told in the thread what the steps of each frame took.

    Attributes:
        lock: held while a frame is prepared.
    """

    def __init__(
        self,
        capture: Capture,
        prepare: Callable[[Frame], None],
        *,
        on_ready: Callable[[], None],
        on_steps: Callable[[StepTimes], None],
    ) -> None:
        self._capture, self._prepare = capture, prepare
        self._on_ready, self._on_steps = on_ready, on_steps
        self.lock = threading.Lock()
        self._wanted = threading.Event()
        self._stop = threading.Event()
        self._idle = True
        self._made: queue.SimpleQueue[Frame | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"ahead {capture.name}", daemon=True)

    def start(self) -> None:
        """Start the thread; the capture is started already."""
        self._wanted.set()
        self._thread.start()

    def go_on(self) -> None:
        """Take the next frame: the last one was looked at."""
        self._wanted.set()

    def get_nowait(self) -> Frame | None:
        """Return the next frame, or None after the last one.

        Raises:
            queue.Empty: none is ready.
            SourceError: the source failed for good.
        """
        made = self._made.get_nowait()
        if isinstance(made, BaseException):
            raise made
        return made

    @property
    def drained(self) -> bool:
        """Whether all frames grabbed so far were given out."""
        return self._idle and self._made.empty()

    def close(self) -> None:
        """End the thread; the capture must have been stopped."""
        self._stop.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        clock = StepClock()
        with watching(clock):
            more = True
            while more:
                self._wanted.wait()
                self._wanted.clear()
                if self._stop.is_set():
                    return
                made = self._next()
                more = isinstance(made, Frame)
                self._made.put(made)
                self._on_steps(clock.take())
                self._on_ready()

    def _next(self) -> Frame | BaseException | None:
        """Wait for the next frame and prepare it."""
        try:
            while not self._stop.is_set():
                try:
                    frame = self._capture.get(_WAIT_S if self._idle else 0.0)
                except queue.Empty:
                    self._idle = True
                    continue
                self._idle = False
                if frame is not None:
                    with self.lock:
                        self._prepare(frame)
                return frame
        except Exception as error:  # raised again where frames are taken
            return error
        return None
