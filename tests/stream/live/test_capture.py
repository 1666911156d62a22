"""Capture: policies, counted drops, states, reconnecting, pacing; with scripted sources.

No test sleeps: sources are held at gates (events) and clocks are moved by hand.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError, SourceError
from facestage.core.types import Frame
from facestage.stream.live.capture import (
    BACKOFF_S,
    Capture,
    CaptureOptions,
    CaptureTiming,
    SourceState,
    SourceStateChange,
)
from facestage.stream.live.handover import EVERY_FRAMES, FIFO_FRAMES, FIFO_STALE_S, Handover, Policy
from facestage.stream.sources import Grab, Source, open_source
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

T = TypeVar("T")
IMAGE = np.zeros((2, 3, 3), np.uint8)
PATIENCE_S = 60.0
"""How long a test waits for another thread before it fails; never reached when all is well."""


class Clock:
    """A monotonic clock in nanoseconds that moves only when told."""

    def __init__(self, seconds: float = 100.0) -> None:
        self.seconds = seconds

    def __call__(self) -> int:
        return round(self.seconds * 1e9)


class Gate:
    """Holds a source's thread until the test opens it; tells the test that it has arrived."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._opened = threading.Event()

    def __call__(self) -> None:
        self._arrived.set()
        assert self._opened.wait(PATIENCE_S)

    def wait_until_reached(self) -> None:
        assert self._arrived.wait(PATIENCE_S)

    def open(self) -> None:
        self._opened.set()


Step = Grab | SourceError | Exception | Callable[[], None] | None


class Script(Source):
    """A source that plays a list: pictures, errors, None for the end, functions to call."""

    kind = "script"
    name = "script"
    size = (3, 2)

    def __init__(
        self,
        steps: Iterable[Step],
        *,
        live: bool = False,
        endless: bool = False,
        fps: float | None = 25.0,
    ) -> None:
        self.live = live or endless
        self.endless = endless
        self.fps = fps
        self.frame_count = None
        self.closed = threading.Event()
        self._steps = iter(steps)

    def read(self) -> Grab | None:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            if step is None or isinstance(step, Grab):
                return step
            step()
        return None

    def close(self) -> None:
        self.closed.set()


def grabs(n: int, start: int = 0, fps: float = 25.0) -> list[Step]:
    return [Grab(IMAGE, index, index / fps) for index in range(start, start + n)]


class States:
    """Collects state changes and lets the test wait for one."""

    def __init__(self) -> None:
        self.changes: list[SourceStateChange] = []
        self._changed = threading.Condition()

    def __call__(self, change: SourceStateChange) -> None:
        with self._changed:
            self.changes.append(change)
            self._changed.notify_all()

    def wait_for(self, state: SourceState, times: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: self.names.count(state.value) >= times, PATIENCE_S
            )

    @property
    def names(self) -> list[str]:
        return [change.state.value for change in self.changes]


def scripted(*openings: Source | SourceError) -> Callable[[], Source]:
    """An opener that gives these one after the other."""
    remaining = iter(openings)

    def opener() -> Source:
        opening = next(remaining)
        if isinstance(opening, SourceError):
            raise opening
        return opening

    return opener


def no_wait(event: threading.Event, seconds: float) -> bool:
    return event.is_set()


def make(opener: Callable[[], Source] | Source, **options: Any) -> Capture:
    chosen = scripted(opener) if isinstance(opener, Source) else opener
    options = {"policy": "every", "wait": no_wait} | options

    def taken(kind: type) -> dict[str, Any]:
        return {f.name: options.pop(f.name) for f in fields(kind) if f.name in options}

    how, timing = CaptureOptions(**taken(CaptureOptions)), CaptureTiming(**taken(CaptureTiming))
    return Capture(chosen, how, **{"name": "script", "timing": timing} | options)


def take(capture: Capture) -> Frame:
    frame = capture.get(PATIENCE_S)
    assert frame is not None
    return frame


def drain(capture: Capture) -> list[Frame]:
    return list(iter(lambda: capture.get(PATIENCE_S), None))


# --- the hand-over ------------------------------------------------------------------------------


def frame(index: int, clock: Clock) -> Frame:
    return Frame("s", index, IMAGE, t_mono_ns=clock())


def test_latest_keeps_only_the_newest() -> None:
    clock = Clock()
    handover = Handover("latest", clock)
    for index in range(5):
        handover.put(frame(index, clock))
    newest = handover.get(0)
    assert newest is not None
    assert (newest.index, newest.dropped_before) == (4, 4)
    assert handover.drops == {"overwritten": 4}
    with pytest.raises(queue.Empty):
        handover.get(0)


def test_fifo_gives_all_that_is_fresh_enough() -> None:
    clock = Clock()
    handover = Handover("fifo", clock)
    for index in range(5):
        handover.put(frame(index, clock))
        clock.seconds += FIFO_STALE_S / 4
    # Frames 0 and 1 … 4 now wait since 5/4, 4/4, 3/4, 2/4 and 1/4 of the limit.
    taken = [handover.get(0) for _ in range(4)]
    assert [f and (f.index, f.dropped_before) for f in taken] == [(1, 1), (2, 0), (3, 0), (4, 0)]
    assert handover.drops == {"stale": 1}


def test_fifo_gives_nothing_rather_than_old_frames() -> None:
    clock = Clock()
    handover = Handover("fifo", clock)
    handover.put(frame(0, clock))
    clock.seconds += FIFO_STALE_S * 1.01
    with pytest.raises(queue.Empty):
        handover.get(0)
    handover.put(frame(1, clock))
    fresh = handover.get(0)
    assert fresh is not None
    assert (fresh.index, fresh.dropped_before) == (1, 1)


def test_fifo_is_bounded_for_sources_without_a_pace() -> None:
    clock = Clock()
    handover = Handover("fifo", clock)
    for index in range(FIFO_FRAMES + 10):
        handover.put(frame(index, clock))
    handover.close()
    assert [f.index for f in iter(lambda: handover.get(0), None)] == list(
        range(10, FIFO_FRAMES + 10)
    )
    assert handover.drops == {"overwritten": 10}


def test_every_makes_the_source_wait_and_loses_nothing() -> None:
    count = 3 * EVERY_FRAMES
    capture = make(Script(grabs(count))).start()
    frames = drain(capture)
    assert [f.index for f in frames] == list(range(count))
    assert all(f.dropped_before == 0 for f in frames)
    assert capture.drops == {}


def test_every_is_bounded() -> None:
    full = Gate()
    steps = [*grabs(EVERY_FRAMES), full, *grabs(2, EVERY_FRAMES)]
    capture = make(Script(steps)).start()
    full.wait_until_reached()
    full.open()
    # The reader now holds one frame for which there is no room; taking one lets it in.
    assert [take(capture).index for _ in range(EVERY_FRAMES + 2)] == list(range(EVERY_FRAMES + 2))
    assert capture.get(PATIENCE_S) is None
    assert capture.frames_in == EVERY_FRAMES + 2


@given(
    policy=st.sampled_from(["latest", "fifo"]),
    moves=st.lists(st.tuples(st.integers(0, 80), st.floats(0.0, 0.4)), max_size=12),
    gaps=st.lists(st.integers(0, 3), min_size=1),
)
def test_every_lost_frame_is_counted_once(
    policy: Policy, moves: list[tuple[int, float]], gaps: list[int]
) -> None:
    clock = Clock()
    handover = Handover(policy, clock)
    index, put, dropped, taken = -1, 0, 0, 0
    last = -1
    for burst, pause_s in moves:
        for n in range(burst):
            gap = gaps[n % len(gaps)]
            handover.count("gap", gap)
            index += 1 + gap
            put += 1
            handover.put(frame(index, clock))
        clock.seconds += pause_s
        try:
            got = handover.get(0)
        except queue.Empty:
            continue
        assert got is not None
        assert got.index - last - 1 == got.dropped_before
        last, dropped, taken = got.index, dropped + got.dropped_before, taken + 1
    handover.close()
    for got in iter(lambda: handover.get(0), None):
        last, dropped, taken = got.index, dropped + got.dropped_before, taken + 1
    # Frames lost after the last one taken have no successor to tell of them.
    assert sum(handover.drops.values()) == dropped + (index - last)
    assert taken + sum(handover.drops.values()) - handover.drops.get("gap", 0) == put


def test_end_comes_after_the_waiting_frames_and_an_error_too() -> None:
    clock = Clock()
    for error in (None, SourceError("broken")):
        handover = Handover("every", clock)
        handover.put(frame(0, clock))
        handover.close(error)
        first = handover.get()
        assert first is not None
        for _ in range(2):
            if error is None:
                assert handover.get() is None
            else:
                with pytest.raises(SourceError, match="broken"):
                    handover.get()


# --- the life of a source -----------------------------------------------------------------------


def test_a_file_is_read_to_its_end() -> None:
    states, clock = States(), Clock(5.0)
    source = Script(grabs(3))
    capture = make(source, on_state=states, clock=clock, wall=lambda: 1234.5, name="clip").start()
    frames = drain(capture)
    assert [(f.source, f.index, f.pts, f.epoch) for f in frames] == [
        ("clip", 0, 0.0, 0),
        ("clip", 1, 0.04, 0),
        ("clip", 2, 0.08, 0),
    ]
    assert {(f.t_mono_ns, f.t_wall) for f in frames} == {(5_000_000_000, 1234.5)}
    capture.stop()
    assert source.closed.is_set()
    assert states.names == ["connecting", "live", "ended"]
    assert states.changes[-1] == SourceStateChange(
        SourceState.ENDED, "end of the source", 0, 1234.5, "clip"
    )
    assert capture.state is SourceState.ENDED


def test_a_source_that_cannot_be_opened_fails_at_the_start() -> None:
    states = States()
    capture = make(scripted(SourceError("no such camera")), on_state=states)
    with pytest.raises(SourceError, match="no such camera"):
        capture.start()
    with pytest.raises(SourceError, match="no such camera"):
        capture.get()
    capture.stop()
    assert states.names == ["connecting", "failed"]
    assert states.changes[-1].reason == "no such camera"


def test_without_waiting_the_failure_comes_with_the_first_frame_asked_for() -> None:
    gate = Gate()

    def opener() -> Source:
        gate()
        raise SourceError("refused")

    capture = make(opener).start(wait=False)
    gate.wait_until_reached()
    with pytest.raises(queue.Empty):
        capture.get_nowait()
    assert capture.state is SourceState.CONNECTING
    gate.open()
    with pytest.raises(SourceError, match="refused"):
        capture.get()


def test_a_file_that_breaks_is_not_opened_again() -> None:
    states = States()
    capture = make(Script([*grabs(2), SourceError("damaged")]), on_state=states).start()
    assert [take(capture).index for _ in range(2)] == [0, 1]
    with pytest.raises(SourceError, match="damaged"):
        capture.get()
    assert states.names == ["connecting", "live", "failed"]


def test_an_unforeseen_error_ends_the_source_and_keeps_its_cause() -> None:
    fault = ZeroDivisionError("oops")
    capture = make(Script([*grabs(1), fault])).start()
    take(capture)
    with pytest.raises(SourceError, match="ZeroDivisionError") as caught:
        capture.get()
    assert caught.value.__cause__ is fault


@pytest.mark.parametrize("endless", [False, True])
def test_a_source_without_a_single_picture_is_an_error(endless: bool) -> None:
    capture = make(Script([None], endless=endless), reconnect=False).start()
    with pytest.raises(SourceError, match="gave no picture"):
        capture.get()


def test_stop_ends_a_reader_that_waits_for_room() -> None:
    source = Script(grabs(1000))
    capture = make(source).start()
    take(capture)
    capture.stop(PATIENCE_S)
    assert source.closed.is_set()
    assert capture.get() is None
    assert capture.state is SourceState.ENDED


def test_stop_does_not_wait_for_a_dead_network() -> None:
    gate, states = Gate(), States()
    source = Script([*grabs(1), gate], endless=True)
    capture = make(source, on_state=states).start()
    take(capture)
    gate.wait_until_reached()
    capture.stop(timeout=0.0)
    assert capture.get() is None
    assert states.names[-1] == "ended"
    gate.open()
    assert source.closed.wait(PATIENCE_S)
    assert states.names.count("ended") == 1


def test_context_manager_starts_and_stops() -> None:
    source = Script(grabs(100))
    with make(source) as capture:
        take(capture)
        assert capture.info is not None
        assert capture.info.fps == 25.0
    assert source.closed.is_set()


def test_ready_is_told_for_each_frame_and_for_the_end() -> None:
    calls = threading.Semaphore(0)
    capture = make(Script(grabs(3)), on_ready=calls.release).start()
    for _ in range(4):
        assert calls.acquire(timeout=PATIENCE_S)
    assert len(drain(capture)) == 3
    capture.stop()
    assert not calls.acquire(blocking=False)


def test_misuse_is_refused() -> None:
    with pytest.raises(ConfigError, match="newest"):
        make(Script([]), policy="newest")
    with pytest.raises(ConfigError, match="backoff"):
        make(Script([]), backoff=())
    capture = make(Script(grabs(1)))
    with pytest.raises(RuntimeError):
        capture.get()
    capture.start()
    with pytest.raises(RuntimeError):
        capture.start()
    capture.stop()


def test_pictures_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    for n in range(6):
        assert cv2.imwrite(str(tmp_path / f"{n}.png"), IMAGE)
    for n in (0, 2, 3, 5):
        (tmp_path / f"{n}.png").write_bytes(b"broken")
    capture = make(scripted(*(open_source(str(tmp_path)) for _ in range(2))), loop=True).start()
    frames = [take(capture) for _ in range(4)]
    capture.stop()
    # The broken last picture of the first pass leaves its place, as does the first of the second.
    assert [(f.index, f.dropped_before, f.epoch) for f in frames] == [
        (1, 1, 0),
        (4, 2, 0),
        (7, 2, 0),
        (10, 2, 0),
    ]
    assert capture.drops["decode"] == 8


# --- loops --------------------------------------------------------------------------------------


def test_a_loop_counts_on_as_if_the_clip_had_no_end() -> None:
    states = States()
    sources = [Script(grabs(2)) for _ in range(3)]
    capture = make(scripted(*sources), loop=True, on_state=states).start()
    frames = [take(capture) for _ in range(5)]
    capture.stop()
    assert [(f.index, f.epoch, f.dropped_before) for f in frames] == [(n, 0, 0) for n in range(5)]
    assert [f.pts for f in frames] == pytest.approx([n * 0.04 for n in range(5)])
    assert sources[0].closed.is_set()
    live = [(c.epoch, c.reason) for c in states.changes if c.state is SourceState.LIVE]
    assert live == [(0, "first picture")]


def test_a_loop_whose_file_has_gone_fails() -> None:
    capture = make(scripted(Script(grabs(1)), SourceError("gone")), loop=True).start()
    take(capture)
    with pytest.raises(SourceError, match="gone"):
        capture.get()


# --- reconnecting -------------------------------------------------------------------------------


class Waits:
    """Records the waits asked for and lets time pass on the clock instead."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds: list[float] = []

    def __call__(self, event: threading.Event, seconds: float) -> bool:
        self.seconds.append(seconds)
        self.clock.seconds += seconds
        return event.is_set()


def test_a_lost_stream_comes_back_as_the_next_epoch_after_a_counted_gap() -> None:
    clock, states = Clock(), States()
    waits = Waits(clock)
    lost = SourceError("stream lost")
    capture = make(
        scripted(
            Script([*grabs(2), lost], endless=True, fps=10.0),
            SourceError("refused once"),
            SourceError("refused twice"),
            Script(grabs(2), endless=True, fps=10.0),
        ),
        on_state=states,
        clock=clock,
        wait=waits,
        jitter=lambda: 0.5,
        max_attempts=3,
    ).start()
    frames = [take(capture) for _ in range(4)]
    assert waits.seconds[:3] == [1.0, 2.0, 4.0]
    # Seven seconds away at ten frames per second, the first frame back not being lost.
    assert [(f.index, f.dropped_before, f.epoch, f.pts) for f in frames] == [
        (0, 0, 0, 0.0),
        (1, 0, 0, 0.04),
        (71, 69, 1, 0.0),
        (72, 0, 1, 0.04),
    ]
    assert capture.drops == {"gap": 69}
    assert states.names[:6] == ["connecting", "live", *["reconnecting"] * 3, "live"]
    assert [c.reason for c in states.changes[2:6]] == [
        "stream lost",
        "refused once",
        "refused twice",
        "connected again",
    ]
    assert [c.epoch for c in states.changes[:6]] == [0, 0, 0, 0, 0, 1]
    capture.stop()


def test_a_reconnect_never_looks_like_the_next_frame() -> None:
    streams = [Script([*grabs(1), SourceError("lost")], endless=True, fps=None) for _ in range(2)]
    capture = make(scripted(*streams), backoff=(0.0,)).start()
    first, second = take(capture), take(capture)
    assert (first.index, second.index, second.dropped_before, second.epoch) == (0, 2, 1, 1)
    capture.stop()


def test_the_end_of_an_endless_source_is_a_loss() -> None:
    states = States()
    streams = [Script(grabs(1), endless=True) for _ in range(2)]
    capture = make(scripted(*streams), on_state=states, max_attempts=1).start()
    take(capture)
    take(capture)
    assert states.names[:4] == ["connecting", "live", "reconnecting", "live"]
    assert "script ended" in states.changes[2].reason
    capture.stop()


def test_it_gives_up_after_so_many_attempts() -> None:
    clock, states = Clock(), States()
    waits = Waits(clock)
    refusals = [SourceError(f"refusal {n}") for n in range(3)]
    capture = make(
        scripted(Script([*grabs(1), SourceError("lost")], endless=True), *refusals),
        max_attempts=3,
        clock=clock,
        wait=waits,
        on_state=states,
    ).start()
    take(capture)
    with pytest.raises(SourceError, match=r"refusal 2 \(given up after 3 attempts"):
        capture.get()
    assert len(waits.seconds) == 3
    assert states.names == ["connecting", "live", *["reconnecting"] * 3, "failed"]


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_back_off_grows_repeats_its_last_wait_and_is_spread(chance: float) -> None:
    clock = Clock()
    waits = Waits(clock)
    refusals = [SourceError("refused") for _ in range(8)]
    capture = make(
        scripted(Script([*grabs(1), SourceError("lost")], endless=True), *refusals),
        max_attempts=8,
        clock=clock,
        wait=waits,
        jitter=lambda: chance,
    ).start()
    take(capture)
    with pytest.raises(SourceError):
        capture.get()
    factor = 0.8 + 0.4 * chance
    expected = [factor * s for s in (1, 2, 4, 8, 16, 30, 30, 30)]
    assert waits.seconds == pytest.approx(expected)


@pytest.mark.parametrize(("lasted_s", "second_wait"), [(5.0, 2.0), (BACKOFF_S[-1], 1.0)])
def test_back_off_starts_over_only_after_a_connection_that_held(
    lasted_s: float, second_wait: float
) -> None:
    clock = Clock()
    waits = Waits(clock)

    def time_passes() -> None:
        clock.seconds += lasted_s

    capture = make(
        scripted(
            Script([*grabs(1), SourceError("lost")], endless=True),
            Script([*grabs(1), time_passes, SourceError("lost again")], endless=True),
            Script([*grabs(1), SourceError("lost for good")], endless=True),
        ),
        max_attempts=1,
        clock=clock,
        wait=waits,
        jitter=lambda: 0.5,
    ).start()
    for _ in range(3):
        take(capture)
    capture.stop(PATIENCE_S)
    assert waits.seconds[:2] == [1.0, second_wait]


def test_a_good_connection_is_asked_for_every_few_seconds_and_the_state_says_when() -> None:
    clock, states = Clock(), States()
    waits = Waits(clock)

    def a_while() -> None:
        clock.seconds += 10.1

    refusals = [SourceError("refused") for _ in range(7)]
    capture = make(
        scripted(Script([*grabs(1), a_while, SourceError("lost")], endless=True), *refusals),
        max_attempts=7,
        clock=clock,
        wait=waits,
        jitter=lambda: 0.5,
        on_state=states,
    ).start()
    take(capture)
    with pytest.raises(SourceError):
        capture.get()
    assert waits.seconds == pytest.approx([1, 2, 4, 5, 5, 5, 5])
    retries = [c.retry_s for c in states.changes if c.state is SourceState.RECONNECTING]
    assert retries == pytest.approx(waits.seconds)
    assert {c.retry_s for c in states.changes if c.state is not SourceState.RECONNECTING} == {None}


def test_a_source_missing_at_first_is_waited_for() -> None:
    states, waits = States(), Waits(Clock())
    capture = make(
        scripted(SourceError("no camera"), SourceError("busy"), Script(grabs(2), endless=True)),
        patient=True,
        wait=waits,
        jitter=lambda: 0.5,
        on_state=states,
    ).start(wait=False)
    assert take(capture).epoch == 0
    capture.stop(PATIENCE_S)
    assert states.names[:4] == ["connecting", "connecting", "connecting", "live"]
    assert [c.reason for c in states.changes[1:3]] == ["no camera", "busy"]
    assert [c.retry_s for c in states.changes[:4]] == [None, 1.0, 2.0, None]
    assert capture.trouble is None


def test_what_a_source_lacks_at_first_is_known_while_it_is_waited_for() -> None:
    waiting = threading.Event()
    states = States()

    def wait(event: threading.Event, seconds: float) -> bool:
        waiting.set()
        return event.wait(PATIENCE_S)

    capture = make(
        scripted(SourceError("no camera")), patient=True, wait=wait, on_state=states
    ).start(wait=False)
    assert waiting.wait(PATIENCE_S)
    assert str(capture.trouble) == "no camera"
    assert not capture.wait_open(0)
    capture.stop(PATIENCE_S)
    assert states.names[-1] == "ended"


# --- sizes --------------------------------------------------------------------------------------


def test_pictures_of_another_size_begin_an_epoch() -> None:
    states = States()
    sizes = [(48, 64), (48, 64), (24, 32), (24, 32), (48, 64)]
    pictures = [Grab(np.zeros((*size, 3), np.uint8), n, n / 25) for n, size in enumerate(sizes)]
    source = Script(pictures, endless=True)
    source.size = (64, 48)
    with make(source, reconnect=False, on_state=states) as capture:
        frames = [take(capture) for _ in sizes]
        assert capture.info is not None
        assert capture.info.size == (64, 48)
    assert [f.epoch for f in frames] == [0, 0, 1, 1, 2]
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [f.dropped_before for f in frames] == [0] * 5
    assert [f.pts for f in frames] == pytest.approx([n / 25 for n in range(5)])
    live = [(c.epoch, c.reason) for c in states.changes if c.state is SourceState.LIVE]
    assert live == [
        (0, "first picture"),
        (1, "pictures of 32×24 now, of 64×48 before"),
        (2, "pictures of 64×48 now, of 32×24 before"),
    ]


def test_reconnecting_can_be_switched_off() -> None:
    capture = make(Script([*grabs(1), SourceError("lost")], endless=True), reconnect=False).start()
    take(capture)
    with pytest.raises(SourceError, match="lost"):
        capture.get()


def test_stop_ends_a_wait_to_reconnect_at_once() -> None:
    states = States()
    capture = make(
        Script([*grabs(1), SourceError("lost")], endless=True),
        wait=threading.Event.wait,
        backoff=(3600.0,),
        on_state=states,
    ).start()
    take(capture)
    states.wait_for(SourceState.RECONNECTING)
    capture.stop(PATIENCE_S)
    assert states.names[-1] == "ended"


# --- stalls -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fps", "limit_s"), [(25.0, 2.0), (None, 2.0), (0.25, 8.0)])
def test_a_silent_stream_is_stalled_until_the_next_picture(
    fps: float | None, limit_s: float
) -> None:
    clock, states, silent, end = Clock(), States(), Gate(), Gate()
    source = Script([*grabs(1), silent, *grabs(1, 1), end], endless=True, fps=fps)
    capture = make(source, clock=clock, on_state=states, reconnect=False).start()
    take(capture)
    silent.wait_until_reached()
    clock.seconds += limit_s
    with pytest.raises(queue.Empty):
        capture.get_nowait()
    assert states.names == ["connecting", "live"]
    clock.seconds += 0.1
    for _ in range(2):
        with pytest.raises(queue.Empty):
            capture.get_nowait()
    assert states.names == ["connecting", "live", "stalled"]
    assert states.changes[-1].reason == f"no picture for {limit_s + 0.1:.1f} s"
    silent.open()
    assert take(capture).index == 1
    assert states.names == ["connecting", "live", "stalled", "live"]
    end.open()
    capture.stop(PATIENCE_S)


def test_a_blocked_get_notices_the_stall() -> None:
    clock, states, silent = Clock(), States(), Gate()
    capture = make(Script([*grabs(1), silent], endless=True), clock=clock, on_state=states).start()
    take(capture)
    silent.wait_until_reached()
    consumer = threading.Thread(target=capture.get)
    consumer.start()
    clock.seconds += 10.0
    states.wait_for(SourceState.STALLED)
    silent.open()
    capture.stop(PATIENCE_S)
    consumer.join(PATIENCE_S)
    assert not consumer.is_alive()


def test_a_file_never_stalls() -> None:
    clock, states, slow = Clock(), States(), Gate()
    capture = make(Script([*grabs(1), slow], live=True), clock=clock, on_state=states).start()
    take(capture)
    slow.wait_until_reached()
    clock.seconds += 100.0
    with pytest.raises(queue.Empty):
        capture.get_nowait()
    slow.open()
    assert drain(capture) == []
    assert states.names == ["connecting", "live", "ended"]


# --- pacing -------------------------------------------------------------------------------------


def test_a_file_in_real_time_is_released_at_its_own_pace() -> None:
    clock = Clock(50.0)
    waits = Waits(clock)
    times = [0.0, 0.1, 0.4, 0.5]  # frames need not be evenly spaced
    steps: list[Step] = [Grab(IMAGE, n, pts) for n, pts in enumerate(times)]
    capture = make(Script(steps, live=True), clock=clock, wait=waits).start()
    frames = drain(capture)
    assert [f.t_mono_ns * 1e-9 for f in frames] == pytest.approx([50.0 + t for t in times])
    assert waits.seconds == pytest.approx([0.1, 0.3, 0.1])


def test_the_pace_does_not_drift_and_late_frames_go_at_once() -> None:
    clock = Clock(0.0)
    waits = Waits(clock)

    def slow_disk() -> None:
        clock.seconds += 0.25

    steps: list[Step] = [
        Grab(IMAGE, 0, 3.0),  # the medium may begin anywhere
        slow_disk,
        Grab(IMAGE, 1, 3.1),
        Grab(IMAGE, 2, 3.2),
        Grab(IMAGE, 3, 3.3),
    ]
    capture = make(Script(steps, live=True), clock=clock, wait=waits).start()
    frames = drain(capture)
    assert [f.t_mono_ns * 1e-9 for f in frames] == pytest.approx([0.0, 0.25, 0.25, 0.3])
    assert [f.index for f in frames] == [0, 1, 2, 3]


def test_a_loop_keeps_the_pace_over_its_seam() -> None:
    clock = Clock(0.0)
    waits = Waits(clock)
    sources = [Script(grabs(2, fps=10.0), live=True, fps=10.0) for _ in range(3)]
    capture = make(scripted(*sources), loop=True, clock=clock, wait=waits).start()
    frames = [take(capture) for _ in range(5)]
    capture.stop(PATIENCE_S)
    assert [f.t_mono_ns * 1e-9 for f in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_files_not_in_real_time_and_streams_are_not_paced() -> None:
    for source in (Script(grabs(3)), Script([*grabs(3), SourceError("x")], endless=True)):
        clock = Clock()
        waits = Waits(clock)
        capture = make(source, clock=clock, wait=waits, reconnect=False).start()
        assert [take(capture).index for _ in range(3)] == [0, 1, 2]
        capture.stop(PATIENCE_S)
        assert waits.seconds == []


def test_stop_ends_the_wait_for_a_frame_that_is_due_later() -> None:
    waiting = threading.Event()

    def wait(event: threading.Event, seconds: float) -> bool:
        waiting.set()
        return event.wait(seconds)

    source = Script([Grab(IMAGE, 0, 0.0), Grab(IMAGE, 1, 3600.0)], live=True)
    capture = make(source, wait=wait).start()
    take(capture)
    assert waiting.wait(PATIENCE_S)
    capture.stop(PATIENCE_S)
    assert source.closed.is_set()
    assert capture.get() is None


class Late:
    """A picture that says when it is made."""

    def __init__(self, number: int, made: list[int]) -> None:
        self.size, self._number, self._made = (4, 3), number, made

    def __call__(self) -> NDArray[np.uint8]:
        self._made.append(self._number)
        return np.full((3, 4, 3), self._number, np.uint8)


@pytest.mark.parametrize(("policy", "makes"), [("latest", [4]), ("every", [0, 1, 2, 3, 4])])
def test_of_frames_that_are_thrown_away_no_picture_is_made(
    policy: Policy, makes: list[int]
) -> None:
    made: list[int] = []
    end = Gate()
    source = Script([*(Grab(Late(n, made), n, n / 25) for n in range(5)), end], endless=True)
    capture = make(source, policy=policy, reconnect=False).start()
    end.wait_until_reached()
    assert made == (makes if policy == "every" else [])
    assert source.late == (policy == "latest")
    frames = [take(capture) for _ in makes]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == makes
    assert made == makes
    end.open()
    capture.stop(PATIENCE_S)


def test_slow_consumer_of_a_paced_file_loses_counted_frames() -> None:
    clock, end = Clock(), Gate()
    source = Script([*grabs(10), end], live=True)
    capture = make(source, policy="latest", clock=clock, wait=Waits(clock)).start()
    end.wait_until_reached()
    newest = take(capture)
    assert (newest.index, newest.dropped_before) == (9, 9)
    assert capture.drops == {"overwritten": 9}
    assert capture.frames_in == 10
    end.open()
    assert capture.get(PATIENCE_S) is None
