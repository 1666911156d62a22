"""RTSP over UDP through a network that loses packets, against a real server (GStreamer)."""

from __future__ import annotations

import contextlib
import queue
import random
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from facestage.core.errors import SourceError
from facestage.core.types import Frame
from facestage.stream.live.capture import Capture, CaptureOptions, SourceState, SourceStateChange
from facestage.stream.sources import open_source
from numpy.typing import NDArray

from tests.stream.sources.test_rtsp import PATIENCE_S, Server
from tests.stream.sources.test_rtsp import clip as clip  # skips where there is no server
from tests.support.lossy_relay import LossyRelay
from tests.support.paths import DEMO_CLIP

pytestmark = [pytest.mark.rtsp, pytest.mark.xdist_group("rtsp")]

SMALL = (160, 90)
SMEARED = 12.0
"""A part of the picture (a 16th of it either way) that differs by this many grey steps is smeared;
coding alone makes 2."""


@pytest.fixture
def server(clip: object) -> Iterator[Server]:
    server = Server(DEMO_CLIP)
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def over_udp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESTAGE_FFMPEG_OPTIONS", "rtsp_transport=udp")


@pytest.fixture(scope="module")
def originals() -> NDArray[np.float32]:
    """Return the first ten seconds of the clip, small."""
    with open_source("demo:") as source:
        grabs = [source.read() for _ in range(300)]
    return np.stack([small(grab.image) for grab in grabs if grab is not None])


def small(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.resize(image, SMALL, interpolation=cv2.INTER_AREA).mean(axis=2, dtype=np.float32)


def worst(picture: NDArray[np.float32], originals: NDArray[np.float32]) -> float:
    """Return by how much the worst part of a picture differs from the original most like it."""
    difference = np.abs(originals - picture)
    nearest = difference[int(difference.mean((1, 2)).argmin())]
    return float(cv2.resize(nearest, (16, 9), interpolation=cv2.INTER_AREA).max())


def bursts(number: int, packet: bytes) -> bool:
    """Lose three packets in a row now and then, none at the beginning."""
    return number > 100 and number % 180 < 3


def at_random(share: float, after: int) -> Callable[[int, bytes], bool]:
    chance = random.Random(0)
    return lambda number, packet: number > after and chance.random() < share


def take_all(capture: Capture, frames: list[Frame | None]) -> None:
    """Take frames until the source fails."""
    while True:
        with contextlib.suppress(queue.Empty):
            frames.append(capture.get(0.1))


@pytest.mark.parametrize(
    ("lost", "whole"),
    [(bursts, 60), (at_random(0.005, 100), 60)],
    ids=["bursts", "one in two hundred"],
)
def test_no_smeared_picture_passes(
    lost: Callable[[int, bytes], bool],
    whole: int,
    server: Server,
    originals: NDArray[np.float32],
) -> None:
    seen: list[NDArray[np.float32]] = []
    with (
        LossyRelay(server.port, lost) as relay,
        open_source(f"rtsp://127.0.0.1:{relay.port}/face", read_timeout_s=PATIENCE_S) as source,
    ):
        while len(seen) < 200 and (len(seen) < whole or source.skipped < 10):
            grab = source.read()
            assert grab is not None
            seen.append(small(grab.image))
        assert source.skipped >= 10
        assert relay.dropped > 0
    assert max(worst(picture, originals) for picture in seen) < SMEARED


def test_without_loss_nothing_is_left_out(server: Server, originals: NDArray[np.float32]) -> None:
    with (
        LossyRelay(server.port, lambda number, packet: False) as relay,
        open_source(f"rtsp://127.0.0.1:{relay.port}/face", read_timeout_s=PATIENCE_S) as source,
    ):
        grabs = [source.read() for _ in range(60)]
        assert relay.dropped == 0
        assert relay.passed >= 60
    pictures = [small(grab.image) for grab in grabs if grab is not None]
    assert [grab.index for grab in grabs if grab is not None] == list(range(60))
    assert max(worst(picture, originals) for picture in pictures) < SMEARED


def test_a_run_of_broken_pictures_is_stalled_and_counted(server: Server) -> None:
    changes: list[SourceStateChange] = []
    with LossyRelay(server.port, at_random(0.4, 400)) as relay:
        capture = Capture(
            lambda: open_source(f"rtsp://127.0.0.1:{relay.port}/face"),
            CaptureOptions(policy="every", reconnect=False),
            name="camera",
            on_state=changes.append,
        )
        with capture:
            frames: list[Frame | None] = []
            with pytest.raises(SourceError, match="nothing but broken pictures"):
                take_all(capture, frames)
            assert capture.drops["decode"] > 10
    assert frames
    states = [change.state for change in changes]
    assert states.index(SourceState.LIVE) < states.index(SourceState.STALLED)
    assert states.index(SourceState.STALLED) < states.index(SourceState.FAILED)
