"""The kiosk in a real headless Chromium: large, dim at night, and never old without saying so."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest
from facestage.stream.protocol import SourceChanged, StreamInfo
from facestage.stream.server.hub import Hub
from facestage.stream.server.server import Server

from tests.stream.overlay.test_page import HELLO, Script, browse
from tests.support.chromium import Page, find_chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

STATES = "[...document.querySelectorAll('.state')].map(e => e.textContent).join()"
STAGES = "[...document.querySelectorAll('.stage')].map(e => e.textContent).join('|')"
VEIL = "document.querySelector('.veil').textContent"
# The page's clock, so that nobody has to wait for a picture to grow old.
CLOCK = "{const now = Date.now.bind(Date); window.ahead = 0; Date.now = () => now() + window.ahead}"


async def pictures_wanted(hub: Hub) -> None:
    async with asyncio.timeout(30):
        while not hub.wants_pictures:
            await asyncio.sleep(0.01)


def show(script: Script, frame: int, *labels: str) -> None:
    script.picture(frame)
    script.heat(frame, *labels)
    script.sample(frame, *labels)


def two() -> tuple[Hub, Script, Script]:
    hub = Hub(
        [StreamInfo(id="bed 1", name="bed 1"), StreamInfo(id="bed 2", name="bed 2", number=1)]
    )
    return hub, Script(hub=hub, stream="bed 1"), Script(hub=hub, stream="bed 2")


def test_all_sources_are_shown_with_pictures_and_words() -> None:
    hub, first, second = two()

    async def test(page: Page) -> None:
        async with Server(hub, hello=HELLO, port=0) as server:
            for script in (first, second):
                script.begin()
            first.stage("AU06_A", "AU12_B")
            second.stage("NONE")
            await page.goto(server.address + "kiosk?night=off")
            await pictures_wanted(hub)
            await page.until(
                f"{STAGES} === 'AU06 Acheek raiserAU12 Blip corner puller|no Action Unit'"
            )
            for n, script in enumerate((first, second)):
                show(script, 10 + n, "AU12_B")
            frames = "[...document.querySelectorAll('canvas')].map(e => e.dataset.frame).join()"
            await page.until(f"{frames} === '10,11'")
            assert await page.evaluate("document.body.classList.contains('night')") is False
            names = "[...document.querySelectorAll('.name')].map(e => e.textContent).join()"
            assert await page.evaluate(names) == "bed 1,bed 2"
            wide = "document.documentElement.scrollWidth - innerWidth"
            assert await page.evaluate(wide) <= 0
            if folder := os.environ.get("FACESTAGE_SCREENSHOTS"):
                for n, script in enumerate((first, second)):
                    show(script, 20 + n, "AU12_B")
                await page.screenshot(Path(folder) / "kiosk.png")
        assert page.errors == []

    browse(test)


def test_what_is_old_is_called_stale_within_two_seconds_and_live_again_at_once() -> None:
    hub, first, second = two()

    async def test(page: Page) -> None:
        async with Server(hub, hello=HELLO, port=0) as server:
            first.begin()
            second.begin()
            await page.goto(server.address + "kiosk?night=on")
            await page.evaluate(CLOCK)
            await pictures_wanted(hub)
            await page.until("document.body.classList.contains('night')")
            show(first, 1, "AU12_A")
            await page.until(f"{STATES}.startsWith('LIVE')")
            await page.evaluate("void (window.ahead = 1700)")
            await page.until(f"{STATES}.startsWith('STALE')")
            assert (await page.evaluate(VEIL)).startswith("STALE")
            dimmed = "getComputedStyle(document.querySelector('.veil')).filter"
            assert await page.evaluate(dimmed) == "none"  # what is wrong is not dimmed at night
            await page.evaluate("void (window.ahead = 0)")
            show(first, 2, "AU12_A")
            await page.until(f"{STATES}.startsWith('LIVE')")
            first.event(SourceChanged(state="reconnecting", reason="the cable is out"))
            await page.evaluate("void (window.ahead = 1700)")
            await page.until(f"{VEIL}.includes('reconnecting')")
            first.event(SourceChanged(state="ended", reason="end of the source"))
            await page.until(f"{STATES}.startsWith('ENDED')")
        await page.until(f"{VEIL}.includes('no connection to the server')")

    browse(test)


@pytest.mark.parametrize("privacy", ["none"])
def test_without_pictures_the_words_fill_the_place(privacy: str) -> None:
    hub, first, _ = two()
    blind = msgspec.structs.replace(HELLO, video=False, privacy=privacy)

    async def test(page: Page) -> None:
        async with Server(hub, hello=blind, port=0) as server:
            first.begin()
            first.stage("AU12_A")
            await page.goto(server.address + "kiosk")
            await page.until(f"{STAGES}.startsWith('AU12 Alip corner puller')")
            first.sample(3, "AU12_A")
            await page.until(f"{STATES}.startsWith('LIVE')")
            assert not hub.wants_pictures
            height = "document.querySelector('canvas').getBoundingClientRect().height"
            assert await page.evaluate(height) == 0
        assert [e for e in page.errors if "ERR_CONNECTION_REFUSED" not in e] == []

    browse(test)
