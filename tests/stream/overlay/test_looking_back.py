"""Looking back: pause, steps, changes, speed; and what is live is never taken for what is not."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from facestage.stream.protocol import StreamInfo
from facestage.stream.server.hub import Hub
from facestage.stream.server.past import PastRing
from facestage.stream.server.server import Server

from tests.support.chromium import Page, find_chromium
from tests.support.scripted_page import HEIGHT, HELLO, SHOWN, WIDTH, Script, browse, connected, text

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

MODE = "document.getElementById('mode').dataset.mode"
GREY_AT_A_CORNER = """(() => {
  const view = document.getElementById('view');
  const { data } = view.getContext('2d').getImageData(view.width / 2 - 200, view.height - 60, 1, 1);
  return Math.round(data[0] / 10);
})()"""


class Rehearsal:
    """A stream whose frames were grabbed in the last seconds, each with a grey of its own."""

    def __init__(self, *, past: bool = True) -> None:
        ring = PastRing() if past else None
        self.script = Script(hub=Hub([StreamInfo(id="cam", name="Clip")], past=ring))

    def play(self, frames: range, *labels: str, ago: float, stage: tuple[str, ...]) -> None:
        hub, stream = self.script.hub, self.script.stream
        real = time.time
        begin = real() - ago
        for frame in frames:
            moment = begin + (frame - frames.start) / 30
            grey = 20 + 10 * (frame % 20)
            image = np.full((HEIGHT, WIDTH, 3), grey, np.uint8)
            jpeg = cv2.imencode(".jpg", image)[1].tobytes()
            time.time = lambda moment=moment: moment  # type: ignore[assignment]
            try:
                if frame == frames.start:
                    self.script.frame = frame - 6
                    self.script.stage(*stage)
                hub.publish_picture(frame, jpeg, stream=stream)
                self.script.heat(frame, *labels)
                self.script.sample(frame, *labels)
            finally:
                time.time = real


async def press(page: Page, key: str, *, shift: bool = False) -> None:
    codes = {" ": 32, "ArrowLeft": 37, "ArrowRight": 39, "End": 35}
    for kind in ("rawKeyDown", "keyUp"):
        await page.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key=key,
            windowsVirtualKeyCode=codes[key],
            modifiers=8 if shift else 0,
        )


def test_the_past_is_paused_stepped_and_left_again() -> None:
    async def test(page: Page) -> None:
        rehearsal = Rehearsal()
        script = rehearsal.script
        script.begin()
        script.prototype("AU12_A")
        script.prototype("AU12_B")
        rehearsal.play(range(60), "AU12_A", ago=4.0, stage=("AU12_A",))
        rehearsal.play(range(60, 119), "AU12_B", ago=2.0, stage=("AU12_B",))
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            rehearsal.play(range(119, 120), "AU12_B", ago=0.0, stage=("AU12_B",))
            await page.until(f"{text('chips')}.includes('AU12_B')")
            await page.until("!document.getElementById('controls').hidden")
            assert await page.evaluate("document.getElementById('now').hidden") is True

            # To the change of explanation: the picture, the stage and the headline are of then.
            await page.evaluate("document.activeElement.blur()")
            await press(page, "ArrowLeft", shift=True)
            await press(page, "ArrowLeft", shift=True)
            await page.until(f"{MODE} === 'past'")
            await page.until(f"/^\\d+\\.\\d s ago$/.test({text('mode')})")
            both = await page.evaluate(f"[{text('where')}, {text('mode')}].map(parseFloat)")
            assert both[0] == pytest.approx(both[1], abs=0.11)
            assert await page.evaluate(text("stage-title")) == "Stage then"
            await page.until(f"{SHOWN} === '60'")
            assert await page.evaluate(GREY_AT_A_CORNER) == 2 + 60 % 20
            await page.until(f"{text('change-words')}.startsWith('AU12 A → B: new explanation')")
            await page.until("document.querySelector('.bar.active').textContent === 'AU12_B3.2'")

            await press(page, "ArrowLeft")
            await page.until(f"{SHOWN} === '59'")
            await page.until(f"{text('chips')}.includes('AU12_A')")
            await page.until("document.querySelector('.bar.active').textContent === 'AU12_A3.2'")
            await press(page, "ArrowRight")
            await press(page, "ArrowRight")
            await page.until(f"{SHOWN} === '61'")
            assert "live" not in (await page.evaluate(text("mode"))).lower()

            # A new frame of the present does not take its place; then it is played to the end.
            script.picture(500)
            script.heat(500)
            script.sample(500)
            await page.evaluate(
                "document.getElementById('speed').value = '4';"
                "document.getElementById('speed').dispatchEvent(new Event('change'))"
            )
            assert await page.evaluate(SHOWN) == "61"
            await press(page, " ")
            await page.until(f"Number({SHOWN}) > 100")
            await page.until(f"{MODE} !== 'past'")
            assert await page.evaluate("document.getElementById('now').hidden") is True
        assert page.errors == []

    browse(test)


def test_a_click_on_the_ribbon_looks_at_its_time_and_beyond_the_memory_nothing_is_made_up() -> None:
    async def click(page: Page, seconds_ago: float) -> None:
        box = await page.evaluate(
            "(() => { const r = document.getElementById('ribbon').getBoundingClientRect();"
            " return [r.left, r.top, r.width, r.height]; })()"
        )
        x = box[0] + box[2] - (box[2] - 58) * seconds_ago / 30
        for kind in ("mousePressed", "mouseReleased"):
            await page.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=box[1] + box[3] / 2,
                button="left",
                clickCount=1,
            )

    async def test(page: Page) -> None:
        rehearsal = Rehearsal()
        script = rehearsal.script
        script.begin()
        rehearsal.play(range(60), "AU12_A", ago=4.0, stage=("AU12_A",))
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            script.sample(61, "AU12_A")
            await page.until("!document.getElementById('controls').hidden")
            await click(page, 20.0)
            await page.until(f"{text('veil')} === 'No picture is kept of this time'")
            assert await page.evaluate(MODE) == "past"
            await click(page, 3.0)
            await page.until(f"Number({SHOWN}) >= 0 && Number({SHOWN}) < 60")
            await page.until("document.getElementById('veil').hidden")
            await press(page, "End")
            await page.until(f"{MODE} !== 'past'")
            # The bar goes as far back as the server said.
            await page.evaluate(
                "(() => { const bar = document.getElementById('scrub');"
                " bar.value = 500; bar.dispatchEvent(new Event('input')); })()"
            )
            await page.until(f"{text('mode')} === '5 min ago'")
        assert page.errors == []

    browse(test)


def test_a_server_without_a_past_offers_no_way_to_look_back() -> None:
    async def test(page: Page) -> None:
        rehearsal = Rehearsal(past=False)
        script = rehearsal.script
        script.begin()
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            script.stage("NONE")
            await page.until(f"{text('chips')}.includes('NONE')")
            assert await page.evaluate("document.getElementById('controls').hidden") is True
        assert page.errors == []

    browse(test)
