"""The capture thread: grabs without pause, reconnects, and hands over by a bounded, counted policy.

One :class:`Capture` per source. Its thread opens the source and reads it as fast as it gives
pictures (or, for a file played in real time, at the file's pace). A
:class:`~facestage.stream.live.handover.Handover` carries the frames to the consumer.

Indices run through: ``frame.index`` minus the index of the frame handed over before, minus one, is
``frame.dropped_before``. A reconnect begins the next ``epoch``, and so do pictures of another size;
a loop does not, its ``pts`` rises from pass to pass: where a clip meets itself nothing happened in
the face. Within an epoch ``pts`` only grows; a reconnect starts it anew. ``index`` and
``t_mono_ns`` grow always.
"""

from __future__ import annotations

import enum
import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self, get_args

import numpy as np

from ...core.errors import ConfigError, FacestageError, SourceError
from ...core.steps import step, watching
from ...core.types import Frame
from ..sources.base import Grab, Source, SourceInfo
from ..step_clock import StepClock, StepTimes
from .handover import Handover, Policy

__all__ = [
    "BACKOFF_S",
    "STALL_S",
    "STEADY_CAP_S",
    "STEADY_S",
    "Capture",
    "CaptureOptions",
    "CaptureTiming",
    "SourceState",
    "SourceStateChange",
]

logger = logging.getLogger(__name__)

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Waits before the attempts to reconnect, seconds; the last one repeats."""
STEADY_S = 10.0
"""A connection that lasted longer than this was a good one, seconds."""
STEADY_CAP_S = 5.0
"""Longest wait before an attempt to get a good connection back, seconds."""
STALL_S = 2.0
"""A source without a picture for this long (or two frame periods) is stalled, seconds."""

_NO_PICTURE = np.zeros((0, 0, 3), np.uint8)
_STALL_CHECK_S = 0.5
_JITTER = 0.2
"""Share by which a wait is shortened or lengthened, so that many sources do not return at once."""
_JOIN_S = 2.0


class SourceState(enum.StrEnum):
    """Where a source is in its life: ``connecting → live → … → ended | failed``."""

    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"
    """Connected, but no picture for longer than :data:`STALL_S`."""
    RECONNECTING = "reconnecting"
    ENDED = "ended"
    FAILED = "failed"
    """Given up; :meth:`Capture.get` raises the reason."""


_FINAL = (SourceState.ENDED, SourceState.FAILED)


@dataclass(frozen=True, slots=True)
class SourceStateChange:
    """A source changed its state.

    Attributes:
        state: the new state. A new epoch announces itself by ``live`` again.
        reason: why, one sentence, without credentials.
        epoch: number of the connection (0 first).
        t: wall clock, seconds since 1970.
        source: name of the source.
        retry_s: time from now to the next attempt to open it, seconds; None where none is due.
    """

    state: SourceState
    reason: str
    epoch: int
    t: float
    source: str = ""
    retry_s: float | None = None


class _Pacer:
    """Holds each frame of a file back until it is due; a late one goes at once, none is skipped."""

    def __init__(self, clock: Callable[[], int], wait: Callable[[float], bool]) -> None:
        self._clock = clock
        self._wait = wait
        self._start_ns: int | None = None

    def hold(self, pts: float) -> bool:
        """Wait until the frame at this position, seconds, is due; return whether to stop."""
        now_ns = self._clock()
        if self._start_ns is None:
            self._start_ns = now_ns - round(pts * 1e9)
        due_ns = self._start_ns + round(pts * 1e9)
        return due_ns > now_ns and self._wait((due_ns - now_ns) * 1e-9)


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """How a source is read.

    Attributes:
        policy: what happens to frames the consumer does not come for.
        loop: begin a source that ends again; index and ``pts`` go on rising.
        reconnect: open a source that has no end (camera, network) again when it is lost.
        patient: treat a source that cannot be opened at first like one that was lost: try again,
            in the state ``connecting``. Only for sources that have no end.
        backoff: waits before the attempts to reconnect, seconds; the last one repeats. The
            sequence starts over, and no wait is longer than :data:`STEADY_CAP_S`, after a
            connection that lasted longer than :data:`STEADY_S`.
        max_attempts: attempts to reconnect after one loss before giving up; None never gives up.

    Raises:
        ConfigError: the policy is unknown or there is no back-off.
    """

    policy: Policy = "latest"
    loop: bool = False
    reconnect: bool = True
    patient: bool = False
    backoff: Sequence[float] = BACKOFF_S
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise ConfigError(f"policy {self.policy!r} is unknown; give latest, fifo or every")
        if not self.backoff or min(self.backoff) < 0:
            raise ConfigError(f"backoff is {self.backoff!r}; give at least one wait, in seconds")


@dataclass(frozen=True, slots=True)
class CaptureTiming:
    """The clocks and waits of a capture; tests replace them.

    Attributes:
        clock: monotonic clock, nanoseconds.
        wall: wall clock, seconds since 1970.
        wait: waits for an event at most so many seconds, returns whether it was set.
        jitter: random numbers in 0–1 that spread the waits by a fifth either way.
    """

    clock: Callable[[], int] = time.monotonic_ns
    wall: Callable[[], float] = time.time
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait
    jitter: Callable[[], float] = random.random


class Capture:
    """Reads one source in a thread of its own.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    Args:
        opener: opens the source; called again for each reconnect and each pass of a loop.
        options: how the source is read.
        name: name of the source in frames and state changes.
        on_state: called with each state change, in order, from the capture thread or from the
            thread that calls :meth:`get`. It must return soon and not call :meth:`stop`.
        on_ready: called in the capture thread after each frame and after the end, for a consumer
            that waits for several sources at once.
        timing: clocks and waits.
        on_steps: told in the capture thread what the steps of each picture took.
    """

    def __init__(
        self,
        opener: Callable[[], Source],
        options: CaptureOptions = CaptureOptions(),
        *,
        name: str,
        on_state: Callable[[SourceStateChange], None] | None = None,
        on_ready: Callable[[], None] | None = None,
        timing: CaptureTiming = CaptureTiming(),
        on_steps: Callable[[StepTimes], None] | None = None,
    ) -> None:
        self.name = name
        self.policy: Policy = options.policy
        self._opener = opener
        self._loop = options.loop
        self._reconnect = options.reconnect
        self._patient = options.patient
        self._backoff = tuple(options.backoff)
        self._max_attempts = options.max_attempts
        self._on_state = on_state or (lambda change: None)
        self._on_ready = on_ready or (lambda: None)
        self._on_steps = on_steps or (lambda times: None)
        self._steps = StepClock()
        self._clock = timing.clock
        self._wall = timing.wall
        self._wait = timing.wait
        self._jitter = timing.jitter
        self._stop = threading.Event()
        self._opened = threading.Event()
        self._thread: threading.Thread | None = None
        self._handover = Handover(options.policy, timing.clock)
        self._pacer = _Pacer(timing.clock, lambda seconds: self._wait(self._stop, seconds))
        # Shared between the threads, under the lock.
        self._lock = threading.Lock()
        self._state = SourceState.CONNECTING
        self._epoch = 0
        self._last_ns = 0
        self._info: SourceInfo | None = None
        self._source: Source | None = None
        self._error: FacestageError | None = None
        self._trouble: SourceError | None = None
        self._changes: deque[SourceStateChange] = deque()
        self._report_lock = threading.RLock()
        # The capture thread's own.
        self._base = 0
        self._base_pts = 0.0
        self._last_pts = 0.0
        self._index = -1
        self._frames_in = 0
        self._news = "first picture"
        self._size: tuple[int, int] | None = None
        self._away_since_ns: int | None = None
        self._connected_ns = 0
        self._backoff_step = 0
        self._longest_wait_s = self._backoff[-1]

    @property
    def state(self) -> SourceState:
        """Where the source is now."""
        return self._state

    @property
    def epoch(self) -> int:
        """Number of the current connection."""
        return self._epoch

    @property
    def info(self) -> SourceInfo | None:
        """What the source says about itself; None before it was first open."""
        return self._info

    @property
    def trouble(self) -> SourceError | None:
        """Why the source could not be opened yet, or for good; None where it could."""
        return self._trouble

    @property
    def frames_in(self) -> int:
        """Frames read so far, those lost in the hand-over included."""
        return self._frames_in

    @property
    def drops(self) -> dict[str, int]:
        """Frames lost so far, by cause."""
        return self._handover.drops

    def start(self, *, wait: bool = True) -> Self:
        """Start the thread and, unless told otherwise, wait for the source to open.

        Raises:
            SourceError: the source could not be opened. Without ``wait``, :meth:`get` raises it.
            ConfigError: it is no kind of source that is known.
        """
        if self._thread is not None:
            raise RuntimeError("a capture can be started only once")
        self._thread = threading.Thread(target=self._run, name=f"capture {self.name}", daemon=True)
        self._thread.start()
        if wait:
            self.wait_open()
        return self

    def wait_open(self, timeout: float | None = None) -> bool:
        """Wait until the source is open; return whether it is.

        Raises:
            SourceError: the source could not be opened.
            ConfigError: it is no kind of source that is known.
        """
        opened = self._opened.wait(timeout)
        if opened and self._info is None and self._error is not None:
            raise self._error
        return opened

    def get(self, timeout: float | None = None) -> Frame | None:
        """Take the next frame; as the policy has left it.

        Args:
            timeout: longest wait, seconds; None waits for ever.

        Returns:
            The frame, or None after the last one of a source that ended or was stopped.

        Raises:
            queue.Empty: none came in time.
            SourceError: the source failed for good, and all its frames have been taken.
        """
        if self._thread is None:
            raise RuntimeError("start the capture first")
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _STALL_CHECK_S if end is None else min(_STALL_CHECK_S, end - time.monotonic())
            try:
                return self._handover.get(max(0.0, left))
            except queue.Empty:
                self._check_stall()
                if end is not None and time.monotonic() >= end:
                    raise

    def get_nowait(self) -> Frame | None:
        """Take a frame that is there already; as :meth:`get` with a timeout of 0."""
        return self.get(0.0)

    def stop(self, timeout: float = _JOIN_S) -> None:
        """End the capture and wait for its thread; frames not taken yet are discarded.

        A thread held up in the operating system (a dead network) for longer than ``timeout``
        seconds is left behind; it closes the source once it wakes up.
        """
        self._stop.set()
        if (source := self._source) is not None:
            source.wake()
        self._handover.close(discard=True)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
            if thread.is_alive():
                logger.warning("%s has not answered yet; it is closed when it does", self.name)
        self._change(SourceState.ENDED, "stopped")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # --- the capture thread ---------------------------------------------------------------------

    def _run(self) -> None:
        state, reason = SourceState.ENDED, "end of the source"
        error: FacestageError | None = None
        try:
            with watching(self._steps):
                self._read_on()
        except (SourceError, ConfigError) as known:
            state, reason, error = SourceState.FAILED, str(known), known
        except Exception as unknown:
            logger.exception("reading %s failed", self.name)
            error = SourceError(
                f"{self.name} cannot be read: {type(unknown).__name__}; see the log for the cause"
            )
            error.__cause__ = unknown
            state, reason = SourceState.FAILED, str(error)
        if self._stop.is_set():
            state, reason, error = SourceState.ENDED, "stopped", None
        self._error = error
        try:
            self._change(state, reason)
        finally:
            self._handover.close(error)
            self._opened.set()
            self._on_ready()

    def _read_on(self) -> None:
        self._change(SourceState.CONNECTING, f"opening {self.name}")
        source = self._open_first()
        while source is not None:
            self._source = source  # before the order to stop is looked at, see stop()
            with source:
                info = self._info = source.info
                source.late = self.policy == "latest"
                self._trouble = self._size = None
                self._opened.set()
                self._connected_ns = self._clock()
                loss = self._read(source, info)
            if self._stop.is_set():
                return
            if loss is None and self._loop:
                source = self._begin_again(info)
            elif loss is None:
                return
            elif info.endless and self._reconnect:
                source = self._reopen(loss)
            else:
                raise loss

    def _read(self, source: Source, info: SourceInfo) -> SourceError | None:
        """Read until the end (None), a loss (its error) or the order to stop."""
        paced = info.live and not info.endless
        skipped, has_picture = 0, False
        while not self._stop.is_set():
            try:
                with step("capture"):
                    grab = source.read()
            except SourceError as loss:
                self._handover.count("decode", source.skipped - skipped)
                return loss
            self._on_steps(self._steps.take())
            passed_over, skipped = source.skipped - skipped, source.skipped
            self._handover.count("decode", passed_over)
            if grab is None:
                self._index += passed_over
                if info.endless or not has_picture:
                    what = "ended" if has_picture else "gave no picture"
                    return SourceError(f"{self.name} {what}; check it in a player")
                return None
            if paced and grab.pts is not None and self._pacer.hold(self._base_pts + grab.pts):
                return None
            self._hand_over(grab, info)
            has_picture = True
        return None

    def _hand_over(self, grab: Grab, info: SourceInfo) -> None:
        now_ns, t_wall = self._clock(), self._wall()
        if self._away_since_ns is not None:
            away_s = (now_ns - self._away_since_ns) * 1e-9
            # At least one: a reconnect never looks like the next frame.
            gap = max(1, round(away_s * info.fps) - 1) if info.fps else 1
            self._base += gap
            self._handover.count("gap", gap)
            self._away_since_ns = None
        self._index = self._base + grab.index
        self._watch_size(grab)
        pts = None if grab.pts is None else self._base_pts + grab.pts
        self._last_pts = pts or 0.0
        self._frames_in += 1
        with self._lock:
            self._last_ns = now_ns
        if self._news or self._state is not SourceState.LIVE:
            self._change(SourceState.LIVE, self._news or "pictures again")
            self._news = ""
        late = self.policy == "latest"  # of frames that are thrown away no picture is made
        self._handover.put(
            Frame(
                source=self.name,
                index=self._index,
                image=_NO_PICTURE if late else grab.image,
                t_mono_ns=now_ns,
                t_wall=t_wall,
                pts=pts,
                epoch=self._epoch,
            ),
            (lambda: grab.image) if late else None,
        )
        self._on_ready()

    def _watch_size(self, grab: Grab) -> None:
        """Begin an epoch where the pictures change their size: nothing seen before lies there."""
        size = grab.size
        if size != self._size and self._size is not None:
            before, now = (f"{width}×{height}" for width, height in (self._size, size))
            self._epoch += 1
            self._news = f"pictures of {now} now, of {before} before"
            if self._info is not None:
                self._info = replace(self._info, size=size)
        self._size = size

    def _begin_again(self, info: SourceInfo) -> Source:
        source = self._opener()
        self._base = self._index + 1
        self._base_pts = self._last_pts + 1.0 / (info.fps or 30.0)
        return source

    def _open_first(self) -> Source | None:
        """Open the source; where it is waited for, as often as it takes."""
        try:
            return self._opener()
        except SourceError as missing:
            self._trouble = missing
            if not self._patient:
                raise
            return self._try_again(SourceState.CONNECTING, missing)

    def _reopen(self, loss: SourceError) -> Source | None:
        """Try until the source opens; return None when told to stop."""
        with self._lock:
            self._away_since_ns = self._last_ns
        self._longest_wait_s = self._backoff[-1]
        if self._clock() - self._connected_ns > STEADY_S * 1e9:
            self._backoff_step = 0
            self._longest_wait_s = STEADY_CAP_S
        source = self._try_again(SourceState.RECONNECTING, loss)
        if source is not None:
            self._begin_epoch("connected again")
        return source

    def _try_again(self, state: SourceState, error: SourceError) -> Source | None:
        """Wait and open, until that works, the attempts are used up or the order to stop comes."""
        attempts = 0
        while self._max_attempts is None or attempts < self._max_attempts:
            pause_s = self._backoff[min(self._backoff_step, len(self._backoff) - 1)]
            pause_s = min(pause_s, self._longest_wait_s)
            pause_s *= 1.0 - _JITTER + 2.0 * _JITTER * self._jitter()
            logger.warning("%s; next attempt in %.1f s", error, pause_s)
            self._change(state, str(error), retry_s=pause_s)
            if self._wait(self._stop, pause_s):
                return None
            attempts += 1
            self._backoff_step += 1
            try:
                return self._opener()
            except SourceError as again:
                error = again
                if state is SourceState.CONNECTING:
                    self._trouble = again
        raise SourceError(f"{error} (given up after {attempts} attempts to reconnect)")

    def _begin_epoch(self, news: str) -> None:
        self._epoch += 1
        self._base = self._index + 1
        self._base_pts = 0.0
        self._news = news

    # --- states ---------------------------------------------------------------------------------

    def _check_stall(self) -> None:
        info = self._info
        if info is None or not info.endless:
            return
        limit_s = max(STALL_S, 2.0 / info.fps if info.fps else 0.0)
        with self._lock:
            silent_s = (self._clock() - self._last_ns) * 1e-9
            if self._state is SourceState.LIVE and silent_s > limit_s:
                self._note(SourceState.STALLED, f"no picture for {silent_s:.1f} s")
        self._report()

    def _change(self, state: SourceState, reason: str, *, retry_s: float | None = None) -> None:
        with self._lock:
            if self._state not in _FINAL:
                self._note(state, reason, retry_s)
        self._report()

    def _note(self, state: SourceState, reason: str, retry_s: float | None = None) -> None:
        self._state = state
        change = SourceStateChange(state, reason, self._epoch, self._wall(), self.name, retry_s)
        self._changes.append(change)

    def _report(self) -> None:
        # The state lock is not held meanwhile; this one only keeps the order.
        with self._report_lock:
            while self._changes:
                self._on_state(self._changes.popleft())
