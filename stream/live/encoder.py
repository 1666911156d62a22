"""The encoder thread: what the compute thread found, turned into pictures, masks and messages.

A JPEG of a frame and the masks of its maps take longer than all else that the compute thread would
still have to do for it, and the next frame need not wait for them. Every batch that was analysed is
published, whole and in order; while two of them wait, the compute thread waits, too, and frames are
dropped where they always are: in the hand-over of their source, counted.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...core.scores.values import ScoreValue
from ...core.steps import step, watching
from ...core.types import Frame, FrameResult
from .. import protocol
from ..server.hub import PICTURE, Hub
from ..step_clock import StepClock, StepTimes
from . import publish
from .privacy import Privacy

__all__ = ["ROOM", "Analysed", "Emitter", "Encoder"]

ROOM = 2
"""Batches that may wait for the encoder: one would leave it idle while the next is put in."""


@dataclass(frozen=True, slots=True, eq=False)
class Analysed:
    """A face of a frame that was analysed, with what its message says of its source just then.

    Attributes:
        stream, number: id of its stream, and its number in binary messages.
        result: what was found.
        source_state: state of the source.
        dropped: frames of the source lost so far.
        tell: called when it was published.
        followed: it is the first face of its source; each other face of the frame comes after it.
        scores: values of the scores that are followed.
    """

    stream: str
    number: int
    result: FrameResult
    source_state: str
    dropped: int
    tell: Callable[[], None]
    followed: bool = True
    scores: tuple[ScoreValue, ...] = ()


class Emitter:
    """Publish frames that were analysed: picture, heat and frame message of each face together.

    Args:
        hub: where they go.
        aus: Action Units of the network, in its order.
        top_x: share of the relevance that is shown.
        video: whether pictures may be sent.
        privacy: says what may be sent of them.
        on_frame: told the monotonic time, seconds, and the latency, milliseconds, of each frame.
    """

    def __init__(
        self,
        hub: Hub,
        aus: tuple[int, ...],
        top_x: float,
        *,
        video: bool,
        on_frame: Callable[[float, float], None],
        privacy: Callable[[], Privacy] = Privacy,
    ) -> None:
        self._hub, self._aus, self._top_x, self._video = hub, aus, top_x, video
        self._on_frame = on_frame
        self._privacy = privacy
        self._batch: Sequence[Analysed] = ()
        self._encoded: tuple[NDArray[np.uint8], protocol.Picture | None] | None = None

    def publish(self, batch: Sequence[Analysed]) -> None:
        """Publish frames that were analysed together, in order."""
        heats = self._heats(batch)
        self._batch = batch
        for position, one in enumerate(batch):
            self._publish(one, heats.get(position))
            if one.followed:
                now_ns = time.monotonic_ns()
                self._on_frame(now_ns * 1e-9, (now_ns - one.result.frame.t_mono_ns) * 1e-6)
            one.tell()
        self._encoded, self._batch = None, ()

    def _heats(self, batch: Sequence[Analysed]) -> dict[int, protocol.Heat]:
        """Return the heat of the frames that anybody wants it of, by their place."""
        wanted = [n for n, one in enumerate(batch) if self._hub.wants("heat", one.stream)]
        with step("heat"):
            heats = publish.heat_messages([batch[n].result for n in wanted], self._top_x)
        return dict(zip(wanted, heats, strict=True))

    def _publish(self, one: Analysed, heat: protocol.Heat | None) -> None:
        hub, frame = self._hub, one.result.frame
        if self._video and hub.wants(PICTURE, one.stream):
            picture = self._picture(frame, one.number)
            if picture is not None:
                hub.publish_picture(picture.frame, picture.jpeg, stream=one.stream)
        if heat is not None:
            hub.publish_sample(heat, stream=one.stream, t_capture=frame.t_wall)
        message = publish.frame_message(
            one.result,
            self._aus,
            latency_ms=(time.monotonic_ns() - frame.t_mono_ns) * 1e-6,
            dropped_total=one.dropped,
            source_state=one.source_state,
            scores=one.scores,
        )
        hub.publish_sample(message, stream=one.stream, t_capture=frame.t_wall)

    def _picture(self, frame: Frame, number: int) -> protocol.Picture | None:
        """Return the JPEG of a frame; it is made once for all faces of it."""
        if self._encoded is None or self._encoded[0] is not frame.image:
            results = (one.result for one in self._batch)
            faces = [result.face for result in results if result.frame.image is frame.image]
            with step("picture"):
                shown = self._privacy().picture(frame.image, faces)
                picture = None
                if shown is not None:
                    picture = publish.encode_picture(replace(frame, image=shown), number)
                self._encoded = frame.image, picture
        return self._encoded[1]


class Encoder:
    """A thread that publishes batches in the order in which they are put in.

    Args:
        publish: publishes a batch.
        on_steps: told in the thread what the steps of each batch took.
    """

    def __init__(
        self,
        publish: Callable[[Sequence[Analysed]], None],
        on_steps: Callable[[StepTimes], None] = lambda times: None,
    ) -> None:
        self._publish, self._on_steps = publish, on_steps
        self._waiting: queue.Queue[Sequence[Analysed] | None] = queue.Queue(ROOM)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, batch: Sequence[Analysed]) -> None:
        """Hand a batch over; wait for room.

        Raises:
            BaseException: whatever an earlier batch failed of; nothing is published any more.
        """
        self.check()
        self._waiting.put(batch)

    def close(self) -> None:
        """Publish what waits, and end the thread.

        Raises:
            BaseException: whatever a batch failed of, unless that was said already.
        """
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()
        self.check()

    def check(self) -> None:
        """Raise what a batch failed of, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        clock, failed = StepClock(), False
        with watching(clock):
            while (batch := self._waiting.get()) is not None:
                if failed:
                    continue  # who puts in must never wait for a thread that has given up
                try:
                    self._publish(batch)
                except BaseException as error:  # raised again where batches are put in
                    self._error, failed = error, True
                self._on_steps(clock.take())
