"""The report in a real Chromium: a stage leads to its time, weak AUs hide, and it fits a phone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from facestage.core.render.mask_track import MaskTrack
from facestage.stream.offline.annotate import write_annotated
from facestage.stream.offline.exports import write_analysis

from tests.core.render.test_annotated import CELLS, clip
from tests.stream.offline.test_exports import result_of, story
from tests.support.chromium import Page, find_chromium, open_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

SPAN = "document.getElementById('curves').dataset.span"
TIME = "document.getElementById('film').currentTime"
LANES = "document.getElementById('curves').dataset.rows"


def look(report: Path, test: Callable[[Page], Coroutine[Any, Any, None]]) -> None:
    async def session() -> None:
        executable = find_chromium()
        assert executable is not None
        async with asyncio.timeout(240), open_page(executable) as page:
            await page.size(1280, 800)
            await page.goto(report.as_uri())
            await test(page)

    asyncio.run(session())


def test_a_stage_leads_to_its_time_in_curves_and_video(tmp_path: Path) -> None:
    source = str(clip(tmp_path / "clip.mp4", 6))
    write_analysis(story(source=source), tmp_path / "out", film="annotated.mp4")
    film = tmp_path / "out" / "annotated.mp4"
    write_annotated(source, story(source=source), MaskTrack(CELLS), film)

    async def test(page: Page) -> None:
        await page.until(f"{SPAN} === '0.000 0.600'")
        assert await page.evaluate(LANES) == "AU01 AU12"
        await page.until("document.getElementById('film').readyState >= 2")
        # The third stage of the story begins with its fourth frame, at 0.3 s.
        await page.evaluate("document.querySelectorAll('.tile')[2].click()")
        await page.until(f"Math.abs({TIME} - 0.3) < 0.001")
        chosen = "document.querySelectorAll('[data-chosen]').length"
        assert await page.evaluate(chosen) == 2  # its tile, and its row in the table
        read = await page.evaluate("document.getElementById('readout').textContent")
        assert read.startswith("frame 3  ·  0.30 s  ·  stage 3: AU01_A + AU12_A")
        # A click into the timeline chooses, too.
        box = await page.evaluate(
            "(b => [b.x, b.y, b.width, b.height])(document.getElementById('chart')"
            ".getBoundingClientRect())"
        )
        x, y = box[0] + 0.98 * box[2], box[1] + 0.5 * box[3]
        await page.evaluate(
            "document.getElementById('chart').dispatchEvent(new MouseEvent('click',"
            f"{{clientX: {x}, clientY: {y}}}))"
        )
        await page.until(f"Math.abs({TIME} - 0.5) < 0.001")
        assert page.errors == []

    look(tmp_path / "out" / "report.html", test)


def test_curves_zoom_and_weak_aus_hide(tmp_path: Path) -> None:
    letters = [{1: "A"} if i % 20 < 9 else {12: "B"} if i % 20 < 14 else {} for i in range(200)]
    graded = replace(result_of(letters), grades={1: "B", 12: "A"})
    write_analysis(graded, tmp_path / "out", film="annotated.mp4")  # which nobody wrote

    async def test(page: Page) -> None:
        await page.until(f"{SPAN} === '0.000 20.000'")
        await page.until("!document.getElementById('no-film').hidden")
        curves = "document.getElementById('curves')"
        await page.evaluate(f"{curves}.focus()")
        await page.evaluate(
            f"{curves}.dispatchEvent(new KeyboardEvent('keydown', {{key: '+', bubbles: true}}))"
        )
        await page.until(f"{SPAN} === '5.000 15.000'")
        await page.evaluate("document.querySelectorAll('.tile')[3].click()")
        await page.until(f"{SPAN} !== '5.000 15.000'")
        shown = (
            "[...document.querySelectorAll('.weak')].filter(e => e.getClientRects().length).length"
        )
        assert await page.evaluate(shown) > 10
        assert await page.evaluate(LANES) == "AU12 AU01"
        await page.evaluate("document.getElementById('hide-weak').click()")
        assert await page.evaluate(shown) == 0
        assert await page.evaluate(LANES) == "AU12"
        assert [e for e in page.errors if "annotated.mp4" not in e] == []

        await page.evaluate("document.getElementById('hide-weak').click()")
        await page.size(390, 844, mobile=True)
        size = await page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        assert size[0] <= 390
        assert size[1] < 6 * 844

        # On paper nothing is folded, and every warning stands.
        await page.evaluate("void dispatchEvent(new Event('beforeprint'))")
        await page.call("Emulation.setEmulatedMedia", media="print")
        assert await page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
        cut = (
            "[...document.querySelectorAll('.strip .mark')].filter(e => {"
            "const box = e.closest('li').getBoundingClientRect(), own = e.getBoundingClientRect();"
            "return !own.width || own.right > box.right + 1 })"
        )
        assert await page.evaluate(f"{cut}.length") == 0

    look(tmp_path / "out" / "report.html", test)


def test_a_report_of_ten_thousand_stages_opens(tmp_path: Path) -> None:
    result = result_of([{12: "A"} if i % 2 else {} for i in range(10_000)])
    write_analysis(result, tmp_path / "out")

    async def test(page: Page) -> None:
        await page.until(f"{SPAN} === '0.000 1000.000'", 90)
        await page.evaluate("document.querySelectorAll('.tile')[479].click()")
        read = "document.getElementById('readout').textContent"
        assert "stage 480" in await page.evaluate(read)
        assert page.errors == []

    look(tmp_path / "out" / "report.html", test)
