"""/overlay in a real Chromium: what its address asks for, and a style sheet of the user."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from facestage.stream.server.server import Server

from tests.stream.overlay.test_page import HELLO, Script, browse
from tests.support.chromium import Page, find_chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

PARTS = ("stage", "view", "history")
VISIBLE = "document.getElementById('{}').checkVisibility()"
SAID = "document.getElementById('look-problems')?.textContent ?? ''"
# What OBS does with the style sheet of its user.
OWN_STYLE = """{
  const style = document.createElement('style');
  style.textContent = '#stage { outline: 7px solid rgb(1, 2, 3) }';
  document.head.append(style);
}"""


async def visible(page: Page) -> list[bool]:
    return [await page.evaluate(VISIBLE.format(part)) for part in PARTS]


def test_the_address_says_what_is_shown_and_how() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.stage("AU06_A", "AU12_A")
        async with Server(script.hub, hello=HELLO, port=0) as server:

            async def goto(query: str) -> None:
                await page.goto(f"{server.address}overlay{query}")
                await page.until("document.getElementById('chips').textContent.includes('AU12_A')")

            await goto("")
            assert await visible(page) == [True, True, True]
            plain = "document.getElementById('stage').getBoundingClientRect().height"
            height = await page.evaluate(plain)
            await page.evaluate(OWN_STYLE)
            width = "getComputedStyle(document.getElementById('stage')).outlineWidth"
            assert await page.evaluate(width) == "7px"
            await goto("?show=stage&scale=2")
            assert await visible(page) == [True, False, False]
            assert await page.evaluate(plain) > 1.5 * height
            await goto("?show=marks,curves&layout=corner&theme=contrast")
            assert await visible(page) == [False, True, True]
            left = "document.getElementById('history').getBoundingClientRect().left / innerWidth"
            assert await page.evaluate(left) > 0.55
            await goto("?layout=strip")
            tops = [
                await page.evaluate(
                    f"document.getElementById('{part}').getBoundingClientRect().top / innerHeight"
                )
                for part in ("stage", "history")
            ]
            assert min(tops) > 0.5
            if folder := os.environ.get("FACESTAGE_SCREENSHOTS"):
                for query in ("", "?layout=strip", "?layout=corner&theme=light"):
                    await goto(query)
                    await asyncio.sleep(0.5)
                    name = "overlay" + "".join(c if c.isalnum() else "_" for c in query)
                    await page.screenshot(Path(folder) / f"{name}.png")
        assert page.errors == []

    browse(test)


def test_words_that_are_unknown_are_said_and_the_rest_holds() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        async with Server(script.hub, hello=HELLO, port=0) as server:
            query = "?show=stage,smell&layout=spiral&scale=900&theme=<b>&colour=red"
            await page.goto(f"{server.address}overlay{query}")
            said = await page.until(SAID)
            for expected in (
                "?show=smell is unknown; use stage, marks, curves",
                "?layout=spiral is unknown; use strip, corner",
                "?scale=900 cannot be; use 0.5 to 3",
                "?theme=<b> is unknown",
                "?colour is unknown",
            ):
                assert expected in said
            assert await visible(page) == [True, False, False]
            await page.goto(f"{server.address}overlay?show=")
            await page.until("document.getElementById('connection').textContent === 'connected'")
            assert await page.evaluate(SAID) == ""
            assert await visible(page) == [True, True, True]
            await page.goto(f"{server.address}?show=stage")  # the full page is no overlay
            await page.until("document.getElementById('connection').textContent === 'connected'")
            assert await visible(page) == [True, True, True]
        assert page.errors == []

    browse(test)
