"""The encoder thread: everything in order, nothing without bound, no error lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from facestage.core.types import FaceObservation, FaceState, Frame, FrameResult
from facestage.stream import protocol
from facestage.stream.live import publish
from facestage.stream.live.encoder import ROOM, Analysed, Emitter, Encoder
from facestage.stream.protocol import StreamInfo
from facestage.stream.server.hub import PICTURE, Hub
from facestage.stream.step_clock import StepTimes


def analysed(index: int, tell: Callable[[], None] = lambda: None) -> Analysed:
    frame = Frame("a", index, np.full((6, 8, 3), index, np.uint8), 0, 0.0, index / 25)
    result = FrameResult(
        frame=frame,
        face=FaceObservation(FaceState.LOST),
        presence=None,
        intensity=None,
        active=(),
        maps={},
        letters={},
        stage=("LOST",),
        events=(),
        log={},
    )
    return Analysed("a", 0, result, "live", index, tell)


class Slow:
    """Publishes when it is let, and notes in which order."""

    def __init__(self) -> None:
        self.may = threading.Semaphore(0)
        self.busy = threading.Event()
        self.done: list[int] = []

    def __call__(self, batch: Sequence[Analysed]) -> None:
        self.busy.set()
        self.may.acquire()
        self.done += [one.result.frame.index for one in batch]


def test_batches_are_published_in_order_and_few_wait() -> None:
    slow = Slow()
    encoder = Encoder(slow)
    encoder.start()
    put: list[int] = []

    def fill() -> None:
        for n in range(ROOM + 3):
            encoder.put([analysed(2 * n), analysed(2 * n + 1)])
            put.append(n)

    feeder = threading.Thread(target=fill)
    feeder.start()
    assert slow.busy.wait(10)
    # One is being published, so many wait, and the next cannot be put in.
    feeder.join(0.2)
    assert feeder.is_alive()
    assert len(put) <= 1 + ROOM
    for _ in range(ROOM + 3):
        slow.may.release()
    feeder.join(10)
    encoder.close()
    assert slow.done == list(range(2 * (ROOM + 3)))


def test_what_waits_at_the_end_is_published() -> None:
    slow = Slow()
    encoder = Encoder(slow)
    encoder.start()
    for n in range(ROOM):
        encoder.put([analysed(n)])
    for _ in range(ROOM):
        slow.may.release()
    encoder.close()
    assert slow.done == list(range(ROOM))
    encoder.close()  # again does nothing


def test_an_error_is_raised_where_batches_are_put_in_and_nobody_waits_for_ever() -> None:
    failed = threading.Event()

    def fail(batch: Sequence[Analysed]) -> None:
        failed.set()
        raise MemoryError("no room for a JPEG")

    encoder = Encoder(fail)
    encoder.start()
    encoder.put([analysed(0)])
    assert failed.wait(10)

    def put_on() -> None:
        for n in range(1, 10 * ROOM):
            encoder.put([analysed(n)])

    with pytest.raises(MemoryError, match="no room for a JPEG"):
        put_on()
    for n in range(5 * ROOM):
        encoder.put([analysed(n)])  # taken, and thrown away
    encoder.close()


def test_an_error_of_the_last_batch_is_raised_at_the_end() -> None:
    encoder = Encoder(lambda batch: 1 / 0)  # type: ignore[arg-type, return-value]
    encoder.start()
    encoder.put([analysed(0)])
    with pytest.raises(ZeroDivisionError):
        encoder.close()


def test_a_picture_is_encoded_once_for_all_faces_of_a_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[int] = []
    encode = publish.encode_picture

    def note(frame: Frame, number: int) -> protocol.Picture | None:
        encoded.append(frame.index)
        return encode(frame, number)

    monkeypatch.setattr(publish, "encode_picture", note)
    hub = Hub([StreamInfo(id=name, name=name, number=n) for n, name in enumerate(("a", "a/2"))])
    hub.set_interest("me", ["frame", PICTURE], None)
    frames: list[float] = []
    emitter = Emitter(
        hub, (), 0.25, video=True, on_frame=lambda now_s, latency_ms: frames.append(latency_ms)
    )
    firsts = [analysed(n) for n in range(3)]
    seconds = [replace(one, stream="a/2", number=1, followed=False) for one in firsts]
    pairs = zip(firsts, seconds, strict=True)
    emitter.publish([one for pair in pairs for one in pair])
    assert encoded == [0, 1, 2]
    assert len(frames) == 3  # frames of the source, not faces
    pictures = [protocol.unpack_picture(packed) for packed in hub.pictures_since({}, None)]
    assert {(picture.stream, picture.frame) for picture in pictures} == {(0, 2), (1, 2)}
    assert pictures[0].jpeg == pictures[1].jpeg


def test_the_picture_and_the_frame_of_one_moment_come_together() -> None:
    hub = Hub([StreamInfo(id="a", name="a", number=0)])
    hub.set_interest("me", ["frame", "heat", PICTURE], None)
    told: list[str] = []
    steps: list[str] = []
    frames: list[float] = []
    emitter = Emitter(
        hub, (), 0.25, video=True, on_frame=lambda now_s, latency_ms: frames.append(latency_ms)
    )

    def note(times: StepTimes) -> None:
        steps.extend(times)

    encoder = Encoder(emitter.publish, note)
    encoder.start()
    encoder.put([analysed(n, lambda n=n: told.append(str(n))) for n in range(3)])
    encoder.close()
    assert told == ["0", "1", "2"]
    assert len(frames) == 3
    assert set(steps) == {"heat", "picture"}
    (packed,) = hub.pictures_since({}, None)
    samples = [protocol.decode(m) for m in hub.samples_since({}, ["frame", "heat"], None)]
    assert protocol.unpack_picture(packed).frame == 2
    assert {cast(protocol.FrameSample, sample.data).frame for sample in samples} == {2}
    assert {sample.data.type for sample in samples} == {"frame", "heat"}
