"""The page that gives the pictures of its camera, in a real Chromium whose camera plays a clip."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from facestage.core.analyzer import Analyzer
from facestage.core.network.au_network import AUNetwork
from facestage.core.types import Frame, FrameResult, StageEvent
from facestage.stream.commands.live import PAGE_WAIT_S
from facestage.stream.detectors import make_detector
from facestage.stream.live.capture import Capture, CaptureOptions, SourceStateChange
from facestage.stream.server.server import Server
from facestage.stream.sources import BrowserCamera, Inbox, open_source
from numpy.typing import NDArray

from tests.support.chromium import Page, find_chromium, open_page
from tests.support.paths import DEMO_CLIP, SHARED
from tests.support.wire import make_hub, serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

BITS, CELL = 10, 16
"""Cells below the picture that carry the number of its frame, and their side, pixels."""
STATE = "document.getElementById('state').textContent"
FAKE = "--use-fake-device-for-media-stream"
GRANT = "--use-fake-ui-for-media-stream"


def with_number(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Write the number of a frame below it in black and white cells."""
    height, width = image.shape[:2]
    marked = np.zeros((height + 2 * CELL, width, 3), np.uint8)
    marked[:height] = image
    for bit in range(BITS):
        if number >> bit & 1:
            marked[height:, bit * CELL : (bit + 1) * CELL] = 255
    return marked


def number_of(image: NDArray[np.uint8]) -> int:
    row = image[image.shape[0] - CELL]
    return sum((int(row[bit * CELL + CELL // 2].mean()) > 127) << bit for bit in range(BITS))


def write_y4m(path: Path, clip: Path, fps: int) -> list[NDArray[np.uint8]]:
    """Write a clip as the fake camera plays it, a number under each frame; return its pictures."""
    pictures = []
    with open_source(str(clip)) as source:
        while (grab := source.read()) is not None:
            pictures.append(with_number(grab.image, len(pictures)))
    height, width = pictures[0].shape[:2]
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420\n".encode())
        for picture in pictures:
            file.write(b"FRAME\n" + cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).tobytes())
    return pictures


@dataclass
class Receiver:
    """Reads a browser's webcam in a thread, as ``live`` does, and keeps everything."""

    inbox: Inbox
    frames: list[Frame] = field(default_factory=list)
    states: list[SourceStateChange] = field(default_factory=list)
    enough: int = 1 << 30

    def __post_init__(self) -> None:
        self.capture = Capture(
            lambda: BrowserCamera(self.inbox),
            CaptureOptions(backoff=(PAGE_WAIT_S,)),
            name=self.inbox.name,
            on_state=self.states.append,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while len(self.frames) < self.enough and (frame := self.capture.get()) is not None:
            self.frames.append(frame)

    def __enter__(self) -> Receiver:
        self.capture.start()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.capture.stop()
        self._thread.join(20)

    async def until(self, frames: int) -> None:
        async with asyncio.timeout(120):
            while len(self.frames) < frames:
                await asyncio.sleep(0.02)

    async def until_state(self, state: str, words: str) -> None:
        async with asyncio.timeout(30):
            while not any(s.state == state and words in s.reason for s in self.states):
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def camera_session(
    *flags: str, enough: int = 1 << 30, **options: Any
) -> AsyncIterator[tuple[Page, Server, Receiver]]:
    executable = find_chromium()
    assert executable is not None
    server = serving(make_hub(), **options)
    receiver = Receiver(Inbox("browser"), enough=enough)
    server.cameras = (receiver.inbox,)
    async with asyncio.timeout(240), server, open_page(executable, *flags) as page:
        await page.size(1280, 800)
        with receiver:
            yield page, server, receiver


async def turn_on(page: Page, server: Server, query: str = "") -> None:
    await page.goto(server.address + "camera" + query)
    await page.evaluate("document.getElementById('start').click()")


def judged(pictures: list[tuple[NDArray[np.uint8], float]]) -> list[FrameResult]:
    network = AUNetwork.load(device="cpu")
    analyzer = Analyzer(make_detector("ours"), network)
    results = []
    for number, (image, time_s) in enumerate(pictures):
        frame = Frame("cam", number, image, number + 1, 0.0, pts=time_s)
        results += analyzer.update([frame])
    return results


def stages(results: list[FrameResult]) -> list[tuple[str, ...]]:
    """Return the stage that each frame belongs to, as the events tell it in the end."""
    labels: list[tuple[str, ...]] = [()] * len(results)
    for result in results:
        for event in result.events:
            if isinstance(event, StageEvent) and event.kind in ("enter", "revise"):
                for number in range(event.start, len(labels)):
                    labels[number] = tuple(event.labels)
    return labels


@pytest.mark.parametrize("clip", ["demo", "single_face.mp4"])
def test_events_are_those_of_the_file_that_the_camera_plays(clip: str, tmp_path: Path) -> None:
    path = DEMO_CLIP if clip == "demo" else SHARED / "clips" / clip
    if not path.exists():
        pytest.skip(f"no {path}")
    # Slow enough for a busy machine; how the clip is cut into seconds is the same for both.
    movie = tmp_path / "camera.y4m"
    originals = write_y4m(movie, path, fps=10)

    async def receive() -> list[Frame]:
        enough = min(len(originals), 100)
        flags = (FAKE, GRANT, f"--use-file-for-fake-video-capture={movie}")
        async with camera_session(*flags, enough=enough) as (page, server, receiver):
            await turn_on(page, server)
            await receiver.until(enough)
            assert page.errors == []
            return list(receiver.frames)

    frames = asyncio.run(receive())
    numbers = [number_of(frame.image) for frame in frames]
    # In order and not mirrored, or the numbers could not be read. The camera of the browser plays
    # the last picture twice before it begins again.
    steps = np.diff(numbers) % len(originals)
    assert steps.max() < len(originals) // 2
    assert np.mean(steps == 1) > 0.8
    times = [frame.time_s for frame in frames]
    assert np.median(np.diff(times)) == pytest.approx(0.1, abs=0.02)

    seen = judged([(frame.image, time) for frame, time in zip(frames, times, strict=True)])
    truth = judged([(originals[number], time) for number, time in zip(numbers, times, strict=True)])
    apart = [
        np.abs(mine.presence - real.presence).max()
        for mine, real in zip(seen, truth, strict=True)
        if mine.presence is not None and real.presence is not None
    ]
    assert len(apart) > 0.9 * len(frames)
    assert np.median(apart) < 0.05
    # AU18 hovers at its threshold in one face at rest: compression decides about it. Of the 24
    # frames of that clip five differ in other AUs, too; why is not known yet.
    here, there = (
        [
            {label for label in labels or () if not label.startswith(("AU18", "NONE"))}
            for labels in told
        ]
        for told in (stages(seen), stages(truth))
    )
    same = np.mean([a == b for a, b in zip(here, there, strict=True)])
    assert same >= (0.7 if clip == "single_face.mp4" else 0.9)


HIDE = """Object.defineProperty(document, 'hidden', {{get: () => {hidden}, configurable: true}});
document.dispatchEvent(new Event('visibilitychange'));"""
TRACK = "document.getElementById('preview').srcObject.getVideoTracks()[0]"


def test_a_hidden_page_a_sleeping_and_a_lost_camera_are_told_to_both_sides(
    tmp_path: Path,
) -> None:
    async def session() -> None:
        async with camera_session(FAKE, GRANT) as (page, server, receiver):
            assert await page.evaluate("1") == 1
            await turn_on(page, server)
            await page.until(f"{STATE}.startsWith('Live')")
            await receiver.until(5)
            size = receiver.frames[-1].image.shape
            assert max(size) <= 1280
            style = "getComputedStyle(document.getElementById('preview')).transform"
            assert (await page.evaluate(style)).startswith("matrix(-1")  # a mirror for the person
            await page.screenshot(tmp_path / "camera.png")

            await page.evaluate(HIDE.format(hidden="true"))
            await receiver.until_state("reconnecting", "is hidden")
            assert await page.evaluate(STATE) == "Paused: this page was hidden."
            before = len(receiver.frames)
            await page.evaluate(HIDE.format(hidden="false"))
            await receiver.until(before + 3)
            assert receiver.frames[-1].epoch == 1
            await page.until(f"{STATE}.startsWith('Live')")

            # A test cannot pull a plug; the browser tells the page by these very events.
            await page.evaluate(f"{TRACK}.dispatchEvent(new Event('mute'))")
            await receiver.until_state("reconnecting", "sleeps")
            await page.evaluate(f"{TRACK}.dispatchEvent(new Event('ended'))")
            await page.until(f"{STATE}.includes('taken away')")
            await page.until("!document.getElementById('start').hidden")
            await page.evaluate("document.getElementById('start').click()")
            await page.until(f"{STATE}.startsWith('Live')")

            await page.evaluate("document.getElementById('stop').click()")
            await receiver.until_state("reconnecting", "was stopped on its page")
            assert await page.evaluate(STATE) == "The camera is off."
            assert await page.evaluate("document.getElementById('preview').srcObject") is None
            assert page.errors == []

    asyncio.run(session())


def test_the_second_page_waits_until_the_first_has_left() -> None:
    async def session() -> None:
        async with camera_session(FAKE, GRANT) as (page, server, receiver):
            first = object()
            assert receiver.inbox.claim(first, lambda result: None)
            await turn_on(page, server)
            await page.until(f"{STATE}.startsWith('Refused: another page gives the pictures')")
            receiver.inbox.release(first, "left")
            await page.until(f"{STATE}.startsWith('Live')")
            await receiver.until(2)

    asyncio.run(session())


def test_a_wrong_token_is_called_wrong_and_the_right_one_lets_the_camera_in() -> None:
    async def session() -> None:
        async with camera_session(FAKE, GRANT, token="s3cret") as (page, server, receiver):
            await turn_on(page, server, "#token=guess")
            await page.until("document.getElementById('ask').open")
            assert await page.evaluate("document.getElementById('ask-wrong').hidden") is False
            await page.evaluate(
                "document.getElementById('token').value = 's3cret';"
                "document.getElementById('ask-form').requestSubmit()"
            )
            await receiver.until(2)
            assert "s3cret" in await page.evaluate("document.getElementById('watch').href")

    asyncio.run(session())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((FAKE, "--deny-permission-prompts"), "permission was refused"),
        ((), "has no camera"),
    ],
    ids=["refused", "none"],
)
def test_a_camera_that_cannot_be_had_is_explained(flags: tuple[str, ...], says: str) -> None:
    async def session() -> None:
        async with camera_session(*flags) as (page, server, receiver):
            await turn_on(page, server)
            await page.until(f"document.getElementById('advice').textContent.includes('{says}')")
            assert await page.evaluate(STATE) == "The camera could not be started."
            assert receiver.frames == []
            assert await page.evaluate("document.getElementById('start').hidden") is False

    asyncio.run(session())


def test_plain_http_from_another_machine_is_explained() -> None:
    async def session() -> None:
        flag = "--host-resolver-rules=MAP lab.example 127.0.0.1"
        async with camera_session(FAKE, GRANT, flag) as (page, server, _):
            await page.goto(f"http://lab.example:{server.port}/camera")
            await page.until("!document.getElementById('advice').hidden")
            advice = await page.evaluate("document.getElementById('advice').textContent")
            assert "--cert" in advice
            assert f"ssh -L {server.port}:localhost:{server.port} lab.example" in advice
            assert await page.evaluate("document.getElementById('start').disabled") is True

    asyncio.run(session())
