"""The whole product: ``facestage demo`` watched by a real browser.

Set ``FACESTAGE_SCREENSHOT=docs/page.png`` to have the README's picture taken.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from facestage.core.network.au_network import EMBEDDED

from tests.support.chromium import find_chromium, open_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

SEGMENTS = "Number(document.getElementById('ribbon').dataset.segments)"
CHIPS = "document.getElementById('chips').textContent"


async def start_demo() -> tuple[asyncio.subprocess.Process, str]:
    """Start the demo without a terminal; return it and the address it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "facestage.stream", "demo", "--no-browser", "--port", "0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async for line in process.stdout:
        if found := re.match(rb"page +(http\S+)", line):
            return process, found[1].decode()
    raise AssertionError("the demo ended without an address")


def test_the_demo_is_explained_on_its_page(tmp_path: Path) -> None:
    picture = Path(os.environ.get("FACESTAGE_SCREENSHOT", tmp_path / "page.png"))
    executable = find_chromium()
    assert executable is not None

    async def session() -> None:
        async with asyncio.timeout(200), open_page(executable) as page:
            await page.size(1600, 900)
            process, url = await start_demo()
            try:
                await page.goto(url)
                await page.until(f"{CHIPS}.includes('NONE')")
                before = await page.evaluate(SEGMENTS)
                await page.until(f"{CHIPS}.includes('AU12_')")
                await page.until(f"{SEGMENTS} > {before + 3}")
                # The open smile: relevance of two AUs over the picture of the same frame.
                await page.until(f"{CHIPS}.includes('AU25_')")
                frame = "document.getElementById('view').dataset.frame"
                await page.until(f"Number({frame}) > 0")
                bars = "document.querySelectorAll('.bar.active').length"
                await page.until(f"{bars} >= 2")
                thumbnails = "document.querySelectorAll('.prototype').length"
                assert await page.evaluate(thumbnails) >= 5
                facts = await page.evaluate("document.getElementById('facts').textContent")
                for said in (EMBEDDED.stem, "ours", "cpu", "fused"):
                    assert said in facts
                await page.screenshot(picture)
                # It plays once without a terminal, says goodbye, and the page does not pretend.
                out, _ = await process.communicate()
                assert process.returncode == 0
                assert b"summary" in out
                await page.until(
                    "document.getElementById('connection').textContent === 'recording ended'"
                )
                veil = "document.getElementById('veil').textContent"
                await page.until(f"{veil}.startsWith('Recording ended · picture')")
                assert await page.evaluate(bars) == 0  # an old value never passes for a live one
                assert await page.evaluate(thumbnails) >= 5  # what it showed is kept
                assert await page.evaluate(SEGMENTS) > before
                # The browser logs each refused attempt to connect again; nothing else is wrong.
                strange = [e for e in page.errors if "ERR_CONNECTION_REFUSED" not in e]
                assert strange == []
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    asyncio.run(session())
    assert picture.stat().st_size > 50_000
