"""The page in a real headless Chromium, fed by a scripted stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import cv2
import numpy as np
import pytest
from facestage.core.action_units import AU_COLOURS, AU_NAMES, au_code
from facestage.stream.hub import Hub
from facestage.stream.protocol import (
    ActionUnit,
    ActionUnitValue,
    Cursor,
    FaceChanged,
    FaceValue,
    FrameSample,
    Heat,
    Hello,
    Mask,
    Percentiles,
    PrototypeNew,
    PrototypeRetire,
    SourceChanged,
    StageEnter,
    StageExit,
    StageRevise,
    Stats,
    StreamInfo,
)
from facestage.stream.server import Server

from .chromium import Page, find_chromium, open_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

AUS = (1, 2, 4, 6, 12, 25)
HELLO = Hello(
    server="0",
    model="au_net",
    device="cpu",
    detector="haar",
    lrp_preset="innvestigate_a_flat",
    aus=tuple(
        ActionUnit(au=au, code=au_code(au), name=AU_NAMES[au], colour=AU_COLOURS[au]) for au in AUS
    ),
)
WIDTH, HEIGHT = 320, 180
SIDE = 28
MASK_FROM, MASK_TO = 8, 20  # the cells of the one square blob, both ways
GREY = 90


class Script:
    """A stream told by hand: 30 frames per second by its own account."""

    def __init__(self, name: str = "Clip", **options: Any) -> None:
        self.hub = Hub([StreamInfo(id="cam", name=name)], **options)
        self.frame = 0
        self._stage: tuple[str, ...] | None = None
        self._start = 0

    def event(self, event: Any) -> None:
        self.hub.publish_event(event, stream="cam", t_capture=time.time())

    def begin(self) -> None:
        self.event(SourceChanged(state="live"))
        self.event(FaceChanged(state="tracked", at=0))

    def stage(self, *labels: str) -> None:
        """End the stage and begin the next, six frames on."""
        self.frame += 6
        if self._stage is not None:
            self.event(
                StageExit(
                    labels=self._stage,
                    start=self._start,
                    end=self.frame - 1,
                    start_s=self._start / 30,
                    end_s=(self.frame - 1) / 30,
                    reason="au_on",
                    at=self.frame,
                )
            )
        self.event(
            StageEnter(
                labels=labels,
                previous=self._stage,
                start=self.frame,
                start_s=self.frame / 30,
                reason="au_on",
                at=self.frame,
                text=f"({', '.join(labels)})",
            )
        )
        self._stage, self._start = labels, self.frame

    def prototype(self, label: str, *, face: bool = True) -> None:
        relevance = np.zeros((SIDE, SIDE), np.uint8)
        relevance[MASK_FROM:MASK_TO, MASK_FROM:MASK_TO] = 255
        ghost = np.full((SIDE, SIDE), 100, np.uint8).tobytes() if face else b""
        self.event(
            PrototypeNew(
                label=label,
                au=int(label[2:4]),
                letter=label[5:],
                at=self.frame,
                size=SIDE,
                data=relevance.tobytes(),
                top=200,
                face=ghost,
            )
        )

    def sample(self, frame: int, *active: str) -> None:
        """Publish a ``frame``; the face box is the middle third."""
        letters = {int(label[2:4]): label[5:] for label in active}
        self.hub.publish_sample(
            FrameSample(
                frame=frame,
                time_s=frame / 30,
                width=WIDTH,
                height=HEIGHT,
                face=FaceValue(state="tracked", box=(110.0, 30.0, 100.0, 120.0), quality=0.9),
                stage=self._stage,
                aus=tuple(
                    ActionUnitValue(
                        au=au,
                        presence=0.9 if au in letters else 0.1,
                        intensity=3.2 if au in letters else 0.0,
                        active=au in letters,
                        letter=letters.get(au),
                    )
                    for au in AUS
                ),
                latency_ms=42.0,
            ),
            stream="cam",
            t_capture=time.time(),
        )

    def heat(self, frame: int, *labels: str) -> None:
        """Publish a ``heat``: one square blob that lies on the frame from 140 to 164, 70 to 94."""
        cells = np.zeros((SIDE, SIDE), np.uint8)
        cells[MASK_FROM:MASK_TO, MASK_FROM:MASK_TO] = 255
        masks = tuple(
            Mask(au=int(label[2:4]), label=label, data=cells.tobytes()) for label in labels
        )
        self.hub.publish_sample(
            Heat(frame=frame, size=SIDE, matrix=(2.0, 0.0, 124.0, 0.0, 2.0, 54.0), masks=masks),
            stream="cam",
            t_capture=time.time(),
        )

    def picture(self, frame: int, grey: int = GREY) -> None:
        image = np.full((HEIGHT, WIDTH, 3), grey, np.uint8)
        self.hub.publish_picture(frame, cv2.imencode(".jpg", image)[1].tobytes(), stream="cam")

    def stats(self, fps: float) -> None:
        self.hub.publish_sample(
            Stats(fps_in=30, fps_analysed=fps, latency_ms=Percentiles(p50=40, p99=80))
        )


def browse(test: Callable[[Page], Coroutine[Any, Any, None]]) -> None:
    async def session() -> None:
        executable = find_chromium()
        assert executable is not None
        async with asyncio.timeout(240), open_page(executable) as page:
            await page.size(1280, 720)
            await test(page)

    asyncio.run(session())


def text(element: str) -> str:
    return f"document.getElementById('{element}').textContent"


SEGMENTS = "Number(document.getElementById('ribbon').dataset.segments)"
SHOWN = "document.getElementById('view').dataset.frame"

# The colour of the picture at a point of the frame, [red, green, blue, alpha].
PIXEL = """(() => {{
  const canvas = document.getElementById('view');
  const scale = Math.min(canvas.width / {width}, canvas.height / {height});
  const x = (canvas.width - {width} * scale) / 2 + {x} * scale;
  const y = (canvas.height - {height} * scale) / 2 + {y} * scale;
  return [...canvas.getContext('2d').getImageData(Math.floor(x), Math.floor(y), 1, 1).data];
}})()"""


async def pixel(page: Page, x: float, y: float) -> list[int]:
    return await page.evaluate(PIXEL.format(width=WIDTH, height=HEIGHT, x=x, y=y))


async def connected(page: Page) -> None:
    await page.until(f"{text('connection')} === 'connected'")


def test_stages_prototypes_and_states_arrive_and_the_ribbon_grows() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            await page.until(f"{text('source-state')} === 'live'")
            assert await page.evaluate(text("source-name")) == "Clip"
            assert await page.evaluate(text("notice")) == "Research software. Not a medical device."
            assert await page.evaluate("document.querySelectorAll('#bars li').length") == len(AUS)

            script.stage("NONE")
            await page.until(f"{text('chips')}.includes('NONE')")
            await page.until(f"{SEGMENTS} === 1")
            script.prototype("AU12_A")
            script.prototype("AU06_A", face=False)
            script.stage("AU06_A", "AU12_A")
            await page.until(f"{text('chips')}.includes('AU12_Alip corner puller')")
            assert "AU06_Acheek raiser" in await page.evaluate(text("chips"))
            await page.until(f"{SEGMENTS} === 2")
            await page.until(f"{text('since')}.includes('after (NONE)')")
            await page.until(f"{text('announce')}.includes('AU12 A lip corner puller')")
            order = "[...document.querySelectorAll('.prototype .label')].map(e => e.textContent)"
            assert await page.until(order) == ["AU06_A", "AU12_A"]
            await page.until("document.querySelectorAll('.prototype.present').length === 2")

            script.event(
                StageRevise(
                    labels=("AU06_A", "AU12_B"),
                    previous=("AU06_A", "AU12_A"),
                    start=script.frame,
                    start_s=0,
                    reason="cluster_change",
                    at=script.frame + 3,
                    text="",
                )
            )
            script.event(PrototypeRetire(label="AU06_A", into="AU06_B", at=script.frame + 3))
            await page.until(f"{text('chips')}.includes('AU12_B')")
            await page.until("document.querySelectorAll('.prototype.retired').length === 1")
            assert await page.evaluate(SEGMENTS) == 2  # corrected, not another one

            script.stage("LOST")
            script.event(FaceChanged(state="lost", previous="tracked", at=script.frame))
            await page.until(f"{text('chips')}.includes('LOST')")
            await page.until(f"{SEGMENTS} === 3")
            await page.until(f"{text('face-state')} === 'face lost'")

            script.sample(40, "AU12_A")
            await page.until("document.querySelectorAll('.bar.active').length === 1")
            assert await page.evaluate("document.querySelector('.bar.active').textContent") == (
                "AU12_AC"  # code with its letter, intensity 3.2 of 5: FACS grade C
            )
            script.stats(17.25)
            await page.until(f"{text('facts')}.includes('17.3 of 30.0 fps')")
            script.event(SourceChanged(state="stalled", reason="no frame for 3 s"))
            await page.until(f"{text('veil')}.includes('Source stalled')")
        assert page.errors == []

    browse(test)


def test_relevance_is_drawn_only_over_the_frame_it_belongs_to() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.stage("AU12_A")
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            await page.until(f"{text('veil')}.includes('Waiting for the first picture')")
            await page.evaluate(
                "window.shown = [];"
                "new MutationObserver(() => window.shown.push(view.dataset.frame))"
                ".observe(document.getElementById('view'), {attributes: true})"
            )
            for _ in range(2000):
                if script.hub.wants_pictures:
                    break
                await asyncio.sleep(0.01)
            script.picture(10)
            script.heat(9, "AU12_A")
            script.sample(10, "AU12_A")
            script.stats(1.0)
            await page.until(f"{text('facts')}.includes('1.0 of 30.0 fps')")

            script.picture(11)
            script.heat(11, "AU12_A")
            script.sample(11, "AU12_A")
            await page.until(f"{SHOWN} === '11'")
            inside, outside = await pixel(page, 148, 86), await pixel(page, 60, 90)
            assert outside[3] == 255
            assert max(abs(value - GREY) for value in outside[:3]) < 6
            red, green, blue = inside[:3]  # AU12 is vermilion, #D55E00
            assert red > GREY + 40
            assert red > green + 30 > blue
            await page.until(f"!{text('veil')}.includes('Waiting')")

            script.heat(10, "AU12_A")  # too late for frame 10: time does not run backwards
            script.heat(12)
            script.sample(12)
            script.picture(12)
            await page.until(f"{SHOWN} === '12'")
            assert max(abs(value - GREY) for value in (await pixel(page, 148, 86))[:3]) < 6
            shown = await page.evaluate("window.shown.filter(frame => frame !== '-1')")
            assert [frame for i, frame in enumerate(shown) if frame not in shown[:i]] == [
                "11",
                "12",
            ]

            # Nothing new: what is on show must not pass for live.
            await page.until("document.getElementById('picture').classList.contains('stale')")
            assert "old" in await page.evaluate(text("veil"))
        assert page.errors == []

    browse(test)


def test_a_server_that_comes_back_is_joined_where_it_was_left() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.prototype("AU12_A")
        async with Server(script.hub, hello=HELLO, port=0) as server:
            port = server.port
            await page.goto(server.url)
            await connected(page)
            script.stage("NONE")
            script.stage("AU12_A")
            script.sample(script.frame, "AU12_A")
            await page.until(f"{SEGMENTS} === 2")
            await page.until("document.querySelectorAll('.bar.active').length === 1")
            last_seen = script.hub.range[1]
        await page.until(f"{text('connection')}.includes('reconnecting')")
        await page.until(f"{text('veil')}.includes('Reconnecting')")
        await page.until("document.querySelectorAll('.bar.active').length === 0")
        script.stage("NONE")  # while nobody listens
        script.stage("AU01_A")
        async with Server(script.hub, hello=HELLO, port=port) as server:
            await connected(page)
            wishes = [client.subscription for client in server.clients if not client.pictures]
            assert [wish and wish.since for wish in wishes] == [
                Cursor(epoch=script.hub.epoch, seq=last_seen)
            ]
            await page.until(f"{text('chips')}.includes('AU01_A')")
            await page.until(f"{SEGMENTS} === 4")
            script.stage("AU02_A")
            await page.until(f"{text('chips')}.includes('AU02_A')")
            await page.until(f"{SEGMENTS} === 5")
            labels = "[...document.querySelectorAll('.prototype .label')].map(e => e.textContent)"
            assert await page.evaluate(labels) == ["AU12_A"]
        # Another run of the program on the same port: nothing of the old one may remain.
        again = Script()
        again.begin()
        again.stage("AU04_A")
        async with Server(again.hub, hello=HELLO, port=port):
            await page.until(f"{text('chips')}.includes('AU04_A')")
            await page.until(f"{SEGMENTS} === 1")
            assert await page.evaluate(labels) == []
        refused = [error for error in page.errors if "ERR_CONNECTION_REFUSED" not in error]
        assert refused == []

    browse(test)


def test_a_page_opened_late_has_the_past_and_the_stage_now() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.prototype("AU12_A")
        for labels in (("NONE",), ("AU12_A",), ("NONE",), ("AU12_A",)):
            script.stage(*labels)
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await page.until(f"{text('chips')}.includes('AU12_A')")
            await page.until(f"{SEGMENTS} === 4")
            await page.until("document.querySelector('.prototype .count')?.textContent === '×2'")

    browse(test)


def test_the_token_is_asked_for_and_then_kept_in_the_address() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        async with Server(script.hub, hello=HELLO, port=0, token="a&b c") as server:
            await page.goto(server.url.partition("#")[0])
            await page.until("document.getElementById('ask').open")
            assert await page.evaluate(text("source-name")) == ""
            await page.evaluate(
                "document.getElementById('token').value = 'a&b c';"
                "document.getElementById('ask-form').requestSubmit()"
            )
            await connected(page)
            assert await page.evaluate("document.getElementById('ask').open") is False
            await page.evaluate("window.before = true")
            await page.call("Page.reload")
            await page.until("window.before === undefined && document.readyState === 'complete'")
            await connected(page)
            await page.goto("about:blank")
            await page.goto(server.url)
            await connected(page)

    browse(test)


def test_text_from_outside_is_shown_as_text() -> None:
    async def test(page: Page) -> None:
        evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
        script = Script(name=evil)
        script.begin()
        script.stage(evil)
        script.event(FaceChanged(state=evil, at=1))
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await page.until(f"{text('chips')}.includes('onerror')")
            assert await page.evaluate(text("source-name")) == evil
            await page.until(f"{text('face-state')}.includes('onerror')")
            assert await page.evaluate("document.images.length") == 0
            assert await page.evaluate("document.scripts.length") == 1
        assert page.errors == []

    browse(test)


def test_the_overlay_is_transparent_and_asks_for_no_pictures() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.stage("AU12_A")
        script.sample(7, "AU12_A")
        script.heat(7, "AU12_A")
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(f"{server.url}overlay")
            await page.until(f"{SHOWN} === '7'")
            assert not script.hub.wants_pictures
            assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == (
                "rgba(0, 0, 0, 0)"
            )
            assert (await pixel(page, 60, 90))[3] == 0
            assert (await pixel(page, 148, 86))[3] > 100
            assert (
                await page.evaluate("getComputedStyle(document.getElementById('units')).display")
                == "none"
            )
            await page.until(f"{text('chips')}.includes('AU12_A')")

    browse(test)


@pytest.mark.parametrize("size", [(390, 844), (1280, 720), (1920, 1080)])
def test_it_fits_the_screen(size: tuple[int, int]) -> None:
    async def test(page: Page) -> None:
        script = Script(name="A rather long name of a source that must not push anything away.mp4")
        script.begin()
        for label in ("AU01_A", "AU02_A", "AU04_A", "AU06_A", "AU12_A", "AU25_A"):
            script.prototype(label)
        script.stage("AU01_A", "AU02_A", "AU04_A", "AU06_A", "AU12_A", "AU25_A")
        async with Server(script.hub, hello=HELLO, port=0) as server:
            width, height = size
            await page.size(width, height, mobile=width < 500)
            await page.goto(server.url)
            await page.until(f"{text('chips')}.includes('AU25_A')")
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            if width > 900:
                assert await page.evaluate("document.documentElement.scrollHeight") <= height
                lowest = (
                    "Math.max(...[...document.querySelectorAll('.chip')]"
                    ".map(chip => chip.getBoundingClientRect().bottom))"
                    " <= document.getElementById('stage').getBoundingClientRect().bottom"
                )
                assert await page.evaluate(lowest)

    browse(test)
