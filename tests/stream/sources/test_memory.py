"""What a source leaves behind: nothing that waits for a garbage collection."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import av
import pytest
from facestage.stream.sources import ffmpeg, open_source

from tests.support.paths import DEMO_CLIP


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Count on references alone, as a busy process does for minutes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def resident_mb() -> float:
    """Return the memory of this process now, MB."""
    with open("/proc/self/status") as lines:
        line = next(line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def frames_alive() -> int:
    return sum(type(item) is av.VideoFrame for item in gc.get_objects())


def test_reopening_a_video_leaves_no_memory_behind(no_collection: None) -> None:
    def play() -> None:
        with open_source("demo:") as source:
            for _ in range(3):
                assert source.read() is not None

    for _ in range(5):
        play()
    before = resident_mb()
    for _ in range(40):
        play()
    # A picture of 640 × 360 takes .35 MB decoded; what decodes it, three times that.
    assert resident_mb() - before < 10


def test_a_decoder_goes_with_its_last_reference(no_collection: None) -> None:
    source = open_source("demo:")
    source.read()
    assert isinstance(source, ffmpeg.VideoSource)
    decoder = weakref.ref(source._video)
    source.close()
    del source
    assert decoder() is None


def test_the_side_data_of_a_picture_does_hold_it(no_collection: None) -> None:
    """The reason for the detour over a thumbnail; once this fails it can go."""
    gc.collect()
    others = frames_alive()  # of tests that ran before in this process
    with av.open(str(DEMO_CLIP)) as container:
        frame = next(container.decode(video=0))
    assert len(frame.side_data) > 0  # the encoder's name and settings
    assert frames_alive() == others + 1
    del frame
    assert frames_alive() == others + 1
    gc.collect()
    assert frames_alive() == others
