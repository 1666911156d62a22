"""Frames that are prepared in threads of their own, and a detector that looks in the background."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np
import pytest
from facestage.core.analyzer import Analyzer
from facestage.core.errors import SourceError
from facestage.core.face.detections import Detection, Detector, ask
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import Frame, FrameResult, StageEvent
from facestage.stream.detectors import OurDetector
from facestage.stream.live.ahead import Ahead
from facestage.stream.live.background import BackgroundDetector
from facestage.stream.live.capture import Capture, CaptureOptions
from facestage.stream.live.pipeline import Pipeline
from facestage.stream.protocol import StreamInfo
from facestage.stream.server.hub import Hub
from facestage.stream.sources import Grab, Source, open_source
from facestage.stream.step_clock import StepTimes
from numpy.typing import NDArray

LONG_S = 60.0
"""Longest wait for something that comes for certain, seconds."""
IMAGE = np.zeros((60, 80, 3), np.uint8)


class Pictures(Source):
    """Gives some pictures as fast as they are asked for."""

    name, kind, live, endless = "pictures", "camera", False, False
    fps, frame_count, size = 30.0, None, (8, 6)

    def __init__(self, pictures: list[NDArray[np.uint8]]) -> None:
        self._left = list(enumerate(pictures))

    def read(self) -> Grab | None:
        if not self._left:
            return None
        index, picture = self._left.pop(0)
        return Grab(picture, index, index / 30)

    def close(self) -> None:
        self._left.clear()


@pytest.fixture(scope="module")
def network() -> AUNetwork:
    return AUNetwork.load(device="cpu")


@pytest.fixture(scope="module")
def clip() -> list[NDArray[np.uint8]]:
    """A face that is lost for a moment, and found again."""
    with open_source("demo:") as source:
        grabs = [source.read() for _ in range(58)]
    pictures = [grab.image for grab in grabs if grab is not None]
    return [*pictures[:36], *([np.zeros_like(pictures[0])] * 4), *pictures[40:]]


def run(
    network: AUNetwork, detector: Detector, clip: list[NDArray[np.uint8]], cameras: int
) -> tuple[list[FrameResult], list[StageEvent]]:
    results: list[FrameResult] = []
    stages: list[StageEvent] = []
    names = [f"c{n}" for n in range(cameras)]
    pipeline = Pipeline(
        Analyzer(detector, network),
        Hub([StreamInfo(id=name, name=name, number=n) for n, name in enumerate(names)]),
        on_stage=lambda _, event: stages.append(event),
        on_result=lambda _, result: results.append(result),
    )
    for n, name in enumerate(names):
        pipeline.add(name, lambda n=n: Pictures(clip[3 * n :]), policy="every")
    pipeline.open()
    pipeline.run()
    results.sort(key=lambda result: (result.frame.source, result.frame.index))
    return results, stages


@pytest.mark.parametrize("cameras", [1, 2])
def test_frames_prepared_in_the_background_give_the_same_results(
    cameras: int, network: AUNetwork, clip: list[NDArray[np.uint8]]
) -> None:
    (here, stages), (there, other_stages) = (
        run(network, detector, clip, cameras)
        for detector in (OurDetector(), BackgroundDetector(OurDetector()))
    )
    assert len(here) == len(there) == sum(len(clip) - 3 * n for n in range(cameras))
    assert sum(len(result.maps) for result in here) > 0
    assert len({result.face.state for result in here}) > 1
    for one, other in zip(here, there, strict=True):
        assert (one.frame.source, one.frame.index) == (other.frame.source, other.frame.index)
        assert (one.face.state, one.face.id) == (other.face.state, other.face.id)
        assert (one.active, one.letters, one.stage) == (other.active, other.letters, other.stage)
        if one.face.points is not None:
            # Frames of two cameras are batched as they come: the network rounds otherwise.
            most = 0.0 if cameras == 1 else 0.02
            np.testing.assert_allclose(other.face.points, one.face.points, atol=most, rtol=0)
    if cameras == 1:
        assert stages == other_stages


class Slow:
    """A detector that looks only once it is told to."""

    name = "slow"

    def __init__(self) -> None:
        self.go, self.looks = threading.Event(), 0
        self.error: Exception | None = None

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        assert self.go.wait(LONG_S)
        self.looks += 1
        if self.error is not None:
            raise self.error
        return [Detection((0.0, 0.0, smallest, float(len(image))), 1.0)]


def test_an_answer_is_there_when_the_detector_has_looked_and_not_before() -> None:
    slow = Slow()
    detector = BackgroundDetector(slow)
    told: queue.SimpleQueue[StepTimes] = queue.SimpleQueue()
    detector.on_steps, detector.patient = told.put, False
    answer = ask(detector, IMAGE, 7.0)
    assert answer() is None
    slow.go.set()
    (found,) = answer(wait=True) or []
    assert found.box == (0.0, 0.0, 7.0, 60.0)
    (again,) = answer() or []
    assert again is found
    assert slow.looks == 1
    assert told.get(timeout=LONG_S)["detect"].calls == 1


def test_whoever_is_patient_waits_for_the_answer() -> None:
    slow = Slow()
    answer = BackgroundDetector(slow).ask(IMAGE)
    threading.Timer(0.05, slow.go.set).start()
    assert len(answer() or []) == 1


def test_what_the_detector_failed_of_is_raised_where_its_answer_is_taken() -> None:
    slow = Slow()
    slow.error = SourceError("no picture")
    slow.go.set()
    answer = BackgroundDetector(slow).ask(IMAGE)
    with pytest.raises(SourceError, match="no picture"):
        answer(wait=True)


def taken(ahead: Ahead, ready: threading.Event) -> Frame | None:
    while True:
        assert ready.wait(LONG_S)
        ready.clear()
        try:
            return ahead.get_nowait()
        except queue.Empty:
            continue


def make_ahead(
    pictures: list[NDArray[np.uint8]], prepare: Callable[[Frame], None]
) -> tuple[Capture, Ahead, threading.Event]:
    ready = threading.Event()
    capture = Capture(lambda: Pictures(pictures), CaptureOptions(policy="every"), name="c")
    ahead = Ahead(capture, prepare, on_ready=ready.set, on_steps=lambda times: None)
    capture.start()
    ahead.start()
    return capture, ahead, ready


def test_a_frame_is_taken_only_once_the_last_one_was_looked_at() -> None:
    prepared: list[int] = []
    capture, ahead, ready = make_ahead([IMAGE] * 3, lambda frame: prepared.append(frame.index))
    try:
        for index in range(3):
            frame = taken(ahead, ready)
            assert frame is not None
            assert frame.index == index
            assert prepared == list(range(index + 1))  # and none of those after it
            assert not ahead.drained
            ahead.go_on()
        assert taken(ahead, ready) is None
    finally:
        capture.stop()
        ahead.close()


def test_what_preparing_failed_of_is_raised_where_frames_are_taken() -> None:
    def refuse(frame: Frame) -> None:
        raise SourceError(f"frame {frame.index} is no picture")

    capture, ahead, ready = make_ahead([IMAGE], refuse)
    try:
        with pytest.raises(SourceError, match="frame 0 is no picture"):
            taken(ahead, ready)
    finally:
        capture.stop()
        ahead.close()
