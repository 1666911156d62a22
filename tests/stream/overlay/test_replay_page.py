"""The page on a recording that the server replays: it says so, and moves in it."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from facestage.stream.recording.player import Player
from facestage.stream.recording.reader import open_session
from facestage.stream.server.server import Server

from tests.support.chromium import Page, find_chromium
from tests.support.recording import make_recorder, publish
from tests.support.scripted_page import browse, connected, text

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]


@pytest.fixture
def player(tmp_path: Path) -> Player:
    """A minute at a frame a second, paused at its begin."""
    now = [0.0]
    hub, recorder = make_recorder(tmp_path, ticks=lambda: now[0], wall=lambda: 1.7e9 + now[0])
    folder = recorder.start()
    chance = random.Random(4)
    for number in range(60):
        now[0] = float(number)
        publish(hub, number, chance)
    recorder.stop()
    return Player(open_session(folder), playing=False)


def scrub(place: int) -> str:
    return (
        "(() => {const bar = document.getElementById('scrub'); bar.value = "
        f"{place}; bar.dispatchEvent(new Event('input')); return true}})()"
    )


def test_the_page_says_that_it_is_a_replay_and_moves_both_ways(player: Player) -> None:
    async def test(page: Page) -> None:
        server = Server(player.hub, hello=player.hello, port=0, command=player.command)
        async with server:
            await page.goto(f"http://127.0.0.1:{server.port}/")
            await connected(page)
            await page.until("!document.getElementById('controls').hidden")
            await page.until(f"{text('mode')} === 'REPLAY'")
            await page.evaluate(scrub(800))
            await page.until(f"parseFloat({text('where')}) > 45")
            await page.evaluate(scrub(200))
            await page.until(f"parseFloat({text('where')}) < 15")
            # However long it stands still, a recording is not late.
            assert await page.evaluate(f"{text('mode')} === 'REPLAY'")
            assert await page.evaluate("document.getElementById('veil').hidden")
            assert await page.evaluate("document.getElementById('now').hidden")

    thread = threading.Thread(target=player.run, daemon=True)
    thread.start()
    try:
        browse(test)
    finally:
        player.stop()
        thread.join(20)
    assert not thread.is_alive()
