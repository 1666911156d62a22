"""A face detector that looks in a thread of its own, so that no frame waits for it.

A check of a face that is followed may be answered a frame later. Where nobody is followed, whoever
asks waits: there is nothing else to do for that source.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...core.face.detections import Answer, Detection, Detector
from ...core.steps import step, watching
from ..step_clock import StepClock, StepTimes

__all__ = ["BackgroundDetector"]


class _Question:
    """A picture that was handed over, and what was found in it."""

    def __init__(
        self, image: NDArray[np.uint8], smallest: float, patient: Callable[[], bool]
    ) -> None:
        self.image, self.smallest = image, smallest
        self._patient = patient
        self._answered = threading.Event()
        self._found: list[Detection] = []
        self._error: BaseException | None = None

    def answer(self, found: list[Detection], error: BaseException | None = None) -> None:
        """Note what was found, or what went wrong."""
        self._found, self._error = found, error
        self._answered.set()

    def __call__(self, wait: bool = False) -> list[Detection] | None:
        if wait or self._patient():
            self._answered.wait()
        elif not self._answered.is_set():
            return None
        if self._error is not None:
            raise self._error
        return self._found


class BackgroundDetector:
    """Lets a detector look while its callers go on; any thread may ask.

    The detector itself is used by one thread at a time. Pictures that were handed over are looked
    at in order.

    Args:
        detector: finds faces.

    Attributes:
        patient: an answer is waited for, so that the same frames always give the same results.
            Without it, one that is late is taken in with a later frame.
        on_steps: told in the detector's thread what each look took.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._busy, self._starting = threading.Lock(), threading.Lock()
        self._questions: queue.SimpleQueue[_Question] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.patient = True
        self.on_steps: Callable[[StepTimes], None] = lambda times: None

    @property
    def name(self) -> str:
        """Name of the detector."""
        return self._detector.name

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        """Return the faces of a picture, see :meth:`facestage.core.face.Detector.detect`."""
        with self._busy:
            return self._detector.detect(image, smallest)

    def ask(self, image: NDArray[np.uint8], smallest: float = 0.0) -> Answer:
        """Begin to look for the faces of a picture; what it returns tells them."""
        question = _Question(image, smallest, lambda: self.patient)
        self._questions.put(question)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="detector", daemon=True)
                self._thread.start()
        return question

    def _run(self) -> None:
        clock = StepClock()
        with watching(clock):
            while True:
                question = self._questions.get()
                try:
                    with step("detect"):
                        found = self.detect(question.image, question.smallest)
                except BaseException as error:  # raised again where it is asked for
                    question.answer([], error)
                else:
                    question.answer(found)
                self.on_steps(clock.take())
