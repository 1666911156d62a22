"""The compute thread: frames from the captures, through the analyzer, out to the hub.

One thread takes the frames of all sources, analyses them as one batch and publishes the events.
Capture runs in threads of its own, and so does what a frame needs before the network sees it
(:mod:`~facestage.stream.live.ahead`); pictures and masks are made in another one
(:mod:`~facestage.stream.live.encoder`), and the server has an event loop of its own, so the only
thing that can make a frame wait is the analysis of the frame before.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ...core.analyzer import Analyzer
from ...core.errors import FacestageError, SourceError
from ...core.lrp import EngineChoice
from ...core.scores.values import Notice
from ...core.steps import watching
from ...core.types import Frame, FrameResult, PrototypeFound, StageEvent
from .. import protocol
from ..server.hub import Hub
from ..sources import Source
from ..step_clock import StepClock, StepTimes
from . import publish
from .ahead import Ahead
from .background import BackgroundDetector
from .capture import BACKOFF_S, Capture, CaptureOptions, SourceState, SourceStateChange
from .encoder import Analysed, Emitter, Encoder
from .handover import Policy
from .metrics import Metrics, Summary
from .privacy import Privacy
from .scoring import Scoring, notice_message

__all__ = ["Pipeline", "Require", "Stream"]

Require = Literal["all", "any", "none"]
"""How many of the sources a run needs: each, at least one, or not even one."""

STATS_EVERY_S = 1.0
"""Period of the ``stats`` samples, seconds."""

IDLE_WAIT_S = 0.05
"""Longest sleep while no source has a frame, seconds: bounds how late a change of state is sent."""

BATCH = 4
"""Most frames of one file that are analysed together. More gains nothing on a CPU."""


@dataclass(slots=True)
class Stream:
    """One source in the pipeline, or another of the faces in it.

    Attributes:
        id: name in messages. ``number``: the same in binary messages.
        capture: its capture thread.
        state: last source state published.
        dropped: frames lost before those analysed.
        ended: whether it gave its last frame, or failed.
        finished: whether its last events were published, too.
        paused: whether it stalled or lost its connection, and its stage still has to end for that.
        drained: whether all frames grabbed so far were taken.
        ahead: prepares its frames; None where the compute thread does.
        faces: streams of the other faces of the source that may be analysed; of these only ``id``,
            ``number`` and ``capture`` are kept.
    """

    id: str
    number: int
    capture: Capture
    state: str = "connecting"
    dropped: int = 0
    ended: bool = False
    finished: bool = False
    paused: bool = False
    drained: bool = False
    ahead: Ahead | None = None
    faces: tuple[Stream, ...] = ()

    @property
    def each(self) -> tuple[Stream, ...]:
        """The stream of whoever is followed, then those of the other faces."""
        return (self, *self.faces)


class Pipeline:
    """Run captures through an analyzer and publish the results.

    Add the sources, :meth:`open` them, then :meth:`run` in a thread of its own.

    Args:
        analyzer: explains the frames. Where its detector is a
            :class:`~facestage.stream.live.background.BackgroundDetector`, frames are prepared in
            threads of their own, one a source.
        hub: where results go; it must know the streams that are added.
        video: whether pictures may be sent at all.
        require: how many of the sources the run needs. Unless it is ``all``, a source without an
            end that cannot be opened is waited for.
        max_frames: stop after this many analysed frames in total.
        on_steps: told what steps took, in the thread in which they run: after each picture read,
            each batch analysed and each message sent.
        on_stage: called in the compute thread with every stage event, after it was published.
        on_result: called in the encoder's thread with every result, after it was published (for
            recorders and tests).

    Attributes:
        streams: the sources.
        metrics: what was counted so far.
        failed: errors of sources that failed for good.
        privacy: what of a person's picture may be sent; to be set before :meth:`run`.
        scoring: follows the scores of all streams.

    Raises:
        ConfigError: a score that the analyzer's configuration names cannot be followed.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        hub: Hub,
        *,
        video: bool = True,
        require: Require = "all",
        max_frames: int | None = None,
        on_steps: Callable[[StepTimes], None] | None = None,
        on_stage: Callable[[Stream, StageEvent], None] | None = None,
        on_result: Callable[[Stream, FrameResult], None] | None = None,
    ) -> None:
        self.streams: list[Stream] = []
        self.metrics = Metrics()
        self.failed: list[SourceError] = []
        self.privacy = Privacy()
        self._analyzer = analyzer
        self._hub = hub
        self._video = video
        self._require = require
        self._max_frames = max_frames
        detector = analyzer.detector
        self._detector = detector if isinstance(detector, BackgroundDetector) else None
        self._steps = StepClock()
        self._on_steps = on_steps or (lambda times: None)
        hub.on_steps = self._note_steps
        self._on_stage = on_stage or (lambda stream, event: None)
        self._on_result = on_result or (lambda stream, result: None)
        self._engine = EngineChoice("")
        self.scoring = Scoring(analyzer)
        emitter = Emitter(
            hub,
            analyzer.network.card.aus,
            analyzer.config.explain.top_x,
            video=video,
            on_frame=self.metrics.frame,
            privacy=lambda: self.privacy,
        )
        self._encoder = Encoder(emitter.publish, self._note_steps)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._states: queue.SimpleQueue[tuple[Stream, SourceStateChange]] = queue.SimpleQueue()
        self._started_s = time.monotonic()
        self._stats_s = 0.0
        self._stats_frames_in = 0
        self._analysed = 0

    def add(
        self,
        name: str,
        opener: Callable[[], Source],
        *,
        policy: Policy = "latest",
        loop: bool = False,
        endless: bool = False,
        max_attempts: int | None = None,
        backoff: Sequence[float] = BACKOFF_S,
    ) -> Stream:
        """Add a source; it is opened by :meth:`open`.

        Args:
            name: id of one of the hub's streams. Where several faces are analysed, the hub must
                know all :meth:`~facestage.core.analyzer.Analyzer.streams` of that name.
            opener: opens the source, again after each loss.
            policy: what happens to frames that come faster than they are analysed.
            loop: begin a source that ends again.
            endless: it has no end of its own (a camera, a stream), so it may appear later.
            max_attempts: attempts to reconnect after one loss; None never gives up.
            backoff: waits before them, seconds; the last one repeats.
        """
        numbers = {info.id: info.number for info in self._hub.streams}
        capture = Capture(
            opener,
            CaptureOptions(
                policy=policy,
                loop=loop,
                patient=endless and self._require != "all",
                max_attempts=max_attempts,
                backoff=backoff,
            ),
            name=name,
            on_state=lambda change: self._note_state(stream, change),
            on_ready=self._ready.set,
            on_steps=self._note_steps,
        )
        others = [other for other in self._analyzer.streams(name) if other != name]
        faces = tuple(Stream(other, numbers[other], capture) for other in others)
        stream = Stream(name, numbers[name], capture, faces=faces)
        if self._detector is not None:
            stream.ahead = Ahead(
                capture,
                self._analyzer.prepare,
                on_ready=self._ready.set,
                on_steps=self._note_steps,
            )
        self.streams.append(stream)
        return stream

    def open(self) -> None:
        """Open the sources at once; return when as many are open as the run needs.

        Raises:
            SourceError: one that the run needs cannot be opened; the others are closed again.
            ConfigError: one is no kind of source that is known; likewise.
        """
        try:
            for stream in self.streams:
                stream.capture.start(wait=False)
            waiting = list(self.streams)
            while waiting and self._require != "none" and not self._stop.is_set():
                waiting = [stream for stream in waiting if not self._opened(stream)]
                if self._require == "any" and len(waiting) < len(self.streams):
                    return
                if missing := self._none_to_come(waiting):
                    raise missing
        except FacestageError:
            self.close()
            raise

    def _opened(self, stream: Stream) -> bool:
        """Wait a little for a source; return whether it is open.

        Raises:
            SourceError, ConfigError: it failed for good, and the run needs it.
        """
        try:
            return stream.capture.wait_open(IDLE_WAIT_S)
        except SourceError:
            if self._require == "all":
                raise
            return False

    def _none_to_come(self, waiting: list[Stream]) -> FacestageError | None:
        """Return why the first source cannot be opened, where that is so for every one."""
        troubles = [stream.capture.trouble for stream in waiting]
        return troubles[0] if troubles and None not in troubles else None

    def unmet(self) -> SourceError | None:
        """Return the first error of a source that the run needed and lost for good; else None."""
        needed = {"all": 1, "any": len(self.streams), "none": len(self.streams) + 1}
        return self.failed[0] if len(self.failed) >= max(1, needed[self._require]) else None

    def close(self) -> None:
        """Close all sources; :meth:`run` does it at its end."""
        for stream in self.streams:
            stream.capture.stop()
            if stream.ahead is not None:
                stream.ahead.close()

    def stop(self) -> None:
        """Ask :meth:`run` to end; safe from any thread and from a signal handler."""
        self._stop.set()
        self._ready.set()

    @property
    def is_stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop.is_set()

    def run(self) -> Summary:
        """Analyse until every source has ended, the limit is reached or :meth:`stop` is called.

        Returns:
            What the run did. Sources that failed for good are in :attr:`failed`.
        """
        self._started_s = self._stats_s = time.monotonic()
        self._engine, self._counts = self._analyzer.engine, self._analyzer.counts
        if self._engine.reason:
            self.metrics.count({"engine_fallbacks": 1})
        self._encoder.start()
        self._start_ahead()
        try:
            with watching(self._steps):
                while not self._stop.is_set() and not self._done():
                    self._encoder.check()
                    frames = self._collect()
                    self._publish_states()
                    if frames:
                        self._process(frames)
                    self._close_stages()
                    self._publish_stats()
        finally:
            self._end()
        return self.metrics.summary(self._drops())

    def _start_ahead(self) -> None:
        """Let frames be prepared in the background; the network is prepared by now."""
        if self._detector is not None:
            self._detector.on_steps = self._note_steps
            # Where no frame may be lost, nothing may depend on how fast the machine is.
            policies = {stream.capture.policy for stream in self.streams}
            self._detector.patient = "every" in policies
        for stream in self.streams:
            if stream.ahead is not None:
                stream.ahead.start()

    def _end(self) -> None:
        """Close the sources, publish what was analysed, then what ends with it."""
        self.close()
        try:
            self._encoder.close()
        finally:
            self._publish_states()
            for stream in self.streams:
                stream.ended = True
            self._close_stages()
            self._publish_stats(force=True)

    def _done(self) -> bool:
        if self._max_frames is not None and self._analysed >= self._max_frames:
            return True
        return all(stream.ended for stream in self.streams)

    def _note_state(self, stream: Stream, change: SourceStateChange) -> None:
        """Take in a state change in a capture thread; the compute thread publishes it."""
        self._states.put((stream, change))
        self._ready.set()

    def _collect(self) -> list[tuple[Stream, Frame]]:
        """Return the frames at hand; wait a little for the first if there is none."""
        self._ready.clear()
        frames: list[tuple[Stream, Frame]] = []
        for stream in self.streams:
            for _ in range(BATCH if stream.capture.policy == "every" else 1):
                if len(frames) + self._analysed == self._max_frames or stream.ended:
                    break
                frame = self._next(stream)
                if frame is None:
                    break
                frames.append((stream, frame))
        if not frames and not all(stream.ended for stream in self.streams):
            self._ready.wait(IDLE_WAIT_S)
        return frames

    def _next(self, stream: Stream) -> Frame | None:
        stream.drained = False
        try:
            frame = (stream.capture if stream.ahead is None else stream.ahead).get_nowait()
        except queue.Empty:
            stream.drained = stream.ahead is None or stream.ahead.drained
            return None
        except SourceError as error:
            self.failed.append(error)
            frame = None
        stream.ended = frame is None
        return frame

    def _process(self, batch: list[tuple[Stream, Frame]]) -> None:
        def go_on() -> None:
            for stream, _ in batch:
                if stream.ahead is not None:
                    stream.ahead.go_on()

        results = self._analyzer.update([frame for _, frame in batch], go_on)
        self._count_batches()
        of_face = {face.id: (stream, face) for stream, _ in batch for face in stream.each}
        analysed = []
        for result in results:
            stream, face = of_face[result.frame.source]
            self.metrics.count(result.log)
            followed = face is stream
            if followed:
                stream.dropped += result.frame.dropped_before
                self._analysed += 1
            self._publish_events(face, result)
            values, notices = self.scoring.update(
                result, paced=stream.capture.policy != "every", now_ns=time.monotonic_ns()
            )
            self._publish_notices(face, notices, result.frame)
            analysed.append(
                Analysed(
                    stream=face.id,
                    number=face.number,
                    result=result,
                    source_state=stream.state,
                    dropped=stream.dropped,
                    tell=partial(self._on_result, face, result),
                    followed=followed,
                    scores=values,
                )
            )
        self._note_steps(self._steps.take())
        self._encoder.put(analysed)

    def _note_steps(self, times: StepTimes) -> None:
        self.metrics.steps(times)
        self._on_steps(times)

    def _count_batches(self) -> None:
        """Count what the LRP engine has done since the last batch of frames."""
        before, self._counts = self._counts, self._analyzer.counts
        self.metrics.count(
            {
                "batches_halved": max(0, self._counts.halved - before.halved),
                "batches_eager": max(0, self._counts.eager - before.eager),
            }
        )

    def _publish_events(self, stream: Stream, result: FrameResult) -> None:
        """Publish the events of a frame at once: its picture and its message may come later."""
        frame, top_x = result.frame, self._analyzer.config.explain.top_x
        for event in result.events:
            if isinstance(event, StageEvent):
                self._publish_stage_events(stream, [event], frame)
            else:
                crop = self.privacy.crop(result.face.crop) if self._video else None
                message = publish.event_message(
                    event, top_x=top_x, crop=crop if isinstance(event, PrototypeFound) else None
                )
                self._hub.publish_event(message, stream=stream.id, t_capture=frame.t_wall)

    def _publish_stage_events(
        self, stream: Stream, events: Sequence[StageEvent], frame: Frame | None
    ) -> None:
        top_x = self._analyzer.config.explain.top_x
        for event in events:
            if event.kind == "enter":
                self.metrics.stage()
            self._hub.publish_event(
                publish.event_message(event, top_x=top_x),
                stream=stream.id,
                t_capture=None if frame is None else frame.t_wall,
            )
            self._on_stage(stream, event)

    def _publish_notices(
        self, stream: Stream, notices: Sequence[Notice], frame: Frame | None = None
    ) -> None:
        for notice in notices:
            self._hub.publish_event(
                notice_message(notice, self.scoring.score(notice.score)),
                stream=stream.id,
                t_capture=None if frame is None else frame.t_wall,
            )

    def _close_stages(self) -> None:
        """End the stages of sources that ended or paused, once their last frame was analysed.

        Nobody sees the face then; the stage must not go on looking alive.
        """
        for stream in self.streams:
            if stream.ended and not stream.finished:
                stream.finished = True
                for face in stream.each:
                    self._publish_stage_events(face, self._analyzer.finish(face.id), None)
                    self._publish_notices(face, self.scoring.gap(face.id, "the source ended"))
            elif stream.paused and stream.drained:
                stream.paused = False
                with nullcontext() if stream.ahead is None else stream.ahead.lock:
                    ends = [(face, self._analyzer.gap(face.id)) for face in stream.each]
                for face, events in ends:
                    self._publish_stage_events(face, events, None)
                    self._publish_notices(face, self.scoring.gap(face.id, "the source paused"))

    def _publish_states(self) -> None:
        while True:
            try:
                stream, change = self._states.get_nowait()
            except queue.Empty:
                return
            stream.state = change.state.value
            stream.paused = change.state in (SourceState.STALLED, SourceState.RECONNECTING)
            message = protocol.SourceChanged(
                state=change.state.value,
                reason=self.privacy.text(change.reason),
                epoch=change.epoch,
                retry_s=None if change.retry_s is None else round(change.retry_s, 1),
            )
            for face in stream.each:
                self._hub.publish_event(message, stream=face.id)

    def _drops(self) -> dict[str, int]:
        drops: dict[str, int] = {}
        for stream in self.streams:
            for cause, n in stream.capture.drops.items():
                drops[cause] = drops.get(cause, 0) + n
        return drops

    def _publish_stats(self, *, force: bool = False) -> None:
        now = time.monotonic()
        elapsed = now - self._stats_s
        if elapsed < STATS_EVERY_S and not force:
            return
        frames_in = sum(stream.capture.frames_in for stream in self.streams)
        fps_in = (frames_in - self._stats_frames_in) / max(elapsed, 1e-3)
        self._stats_s, self._stats_frames_in = now, frames_in
        latency = self.metrics.recent_latency_ms()
        self._hub.publish_sample(
            protocol.Stats(
                fps_in=round(fps_in, 2),
                fps_analysed=round(self.metrics.fps(now), 2),
                drops=self._drops(),
                latency_ms=None
                if latency is None
                else protocol.Percentiles(p50=round(latency[0], 2), p99=round(latency[1], 2)),
                clients=self._hub.clients,
                device=str(self._analyzer.network.device),
                model=self._analyzer.network.name,
                detector=self._analyzer.detector_name,
                lrp_engine=self._engine.name,
                lrp_engine_reason=self._engine.reason,
                counters=self.metrics.counters,
                uptime_s=round(now - self._started_s, 2),
                steps_ms={name: round(ms, 3) for name, ms in self.metrics.steps_ms.items()},
            )
        )
