"""Scores, notices and markers on the page, in a real headless Chromium."""

from __future__ import annotations

import time

import msgspec
import pytest
from facestage.stream.protocol import (
    FaceValue,
    FrameSample,
    NoticeOff,
    NoticeOn,
    ScoreInfo,
    ScorePart,
    ScoreTerm,
    ScoreValue,
    decode,
)
from facestage.stream.server.server import Server

from tests.stream.overlay.test_page import HELLO, Script, browse, connected, text
from tests.support.chromium import Page, find_chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

CAUTION = "Not specific to pain: a smile scores, too."
PSPI = ScoreInfo(
    name="PSPI",
    formula="AU4 + max(AU9, AU10)",
    caution=CAUTION,
    low=0,
    high=16,
    on=4.8,
    off=2.88,
    delay_s=0.25,
    closed_s=0.5,
)
SCORED = msgspec.structs.replace(HELLO, scores=(PSPI,))


def value(known: bool) -> ScoreValue:
    return ScoreValue(
        name="PSPI",
        value=6.0 if known else None,
        low=6.0,
        high=6.0 if known else 8.0,
        terms=(
            ScoreTerm(text="AU4", value=3.0, low=3.0, high=3.0, aus=(ScorePart(au=4, value=3.0),)),
            ScoreTerm(
                text="max(AU9, AU10)",
                value=3.0 if known else None,
                low=3.0,
                high=3.0 if known else 5.0,
                aus=(ScorePart(au=9, value=1.0 if known else None), ScorePart(au=10, value=3.0)),
            ),
        ),
        missing=() if known else (9,),
    )


def tell(script: Script, frame: int, score: ScoreValue) -> None:
    script.hub.publish_sample(
        FrameSample(
            frame=frame,
            time_s=frame / 30,
            width=320,
            height=180,
            face=FaceValue(state="tracked", box=(110.0, 30.0, 100.0, 120.0), quality=0.9),
            scores=(score,),
        ),
        stream=script.stream,
        t_capture=time.time(),
    )


def notice(number: int) -> NoticeOn:
    return NoticeOn(
        score="PSPI",
        id=number,
        start=3,
        start_s=0.1,
        at=21,
        threshold=4.8,
        value=value(True),
        text=f"PSPI is at least 6.0 of 16, number {number}.",
    )


def events(script: Script, kind: str) -> list:
    first, last = script.hub.range
    told = [decode(script.hub.event_after(seq - 1) or b"") for seq in range(first, last + 1)]
    return [message for message in told if message.type == kind]


async def press(page: Page, key: str) -> None:
    types = "\r" if key == "Enter" else key
    for kind in ("keyDown", "keyUp"):
        await page.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key=key,
            text=types if kind == "keyDown" else "",
            windowsVirtualKeyCode=13 if key == "Enter" else ord(key.upper()),
        )


def test_a_score_shows_value_terms_what_is_missing_and_the_caution() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        async with Server(script.hub, hello=SCORED, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            row = "document.querySelector('.score')"
            shown = f"{row}.querySelector('.score-value').textContent"
            await page.until(f"{row} !== null")
            assert await page.evaluate(shown) == "–"
            tell(script, 1, value(known=True))
            await page.until(f"{shown} === '6.0 of 16'")
            terms = f"{row}.querySelector('.score-terms').textContent"
            assert await page.evaluate(terms) == "AU4 3.0 · max(AU9, AU10) 3.0"
            said = f"{row}.querySelector('.score-said').textContent"
            assert await page.evaluate(said) == CAUTION
            track = f"{row}.querySelector('.score-track')"
            filled = f"{row}.querySelector('.score-fill').getBoundingClientRect().width"
            whole = f"{track}.getBoundingClientRect().width"
            assert await page.evaluate(f"{filled} / {whole}") == pytest.approx(6 / 16, abs=0.01)

            tell(script, 2, value(known=False))
            await page.until(f"{shown} === '6.0 to 8.0 of 16'")
            assert await page.evaluate(said) == (
                f"AU9 not known, and not 0: hence the range. {CAUTION}"
            )
            assert "max(AU9, AU10) 3.0 to 5.0" in await page.evaluate(terms)

            gone = ScoreValue(name="PSPI", withheld="face lost")
            tell(script, 3, gone)
            await page.until(f"{terms} === 'withheld: face lost'")
            assert await page.evaluate(shown) == "–"
            assert await page.evaluate(f"{track}.getAttribute('aria-valuenow')") is None
            assert CAUTION in await page.evaluate(said)
        assert page.errors == []

    browse(test)


def test_a_notice_waits_until_somebody_says_that_they_have_seen_it() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.event(notice(1))
        async with Server(script.hub, hello=SCORED, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            notices = "[...document.querySelectorAll('#score-notices li span')]"
            texts = f"{notices}.map(e => e.textContent).join('|')"
            tell(script, 1, value(known=True))
            await page.until(f"{texts} === 'PSPI is at least 6.0 of 16, number 1.'")
            script.event(notice(2))
            await page.until(f"{notices}.length === 2")
            script.event(
                NoticeOff(
                    score="PSPI",
                    id=2,
                    start=3,
                    start_s=0.1,
                    end=63,
                    end_s=2.1,
                    at=108,
                    duration_s=2.0,
                    peak=value(True),
                    peak_s=1.0,
                    reason="below",
                    text="PSPI was high for 2.0 s.",
                )
            )
            await page.until(f"{texts}.startsWith('PSPI was high for 2.0 s.|')")
            await page.evaluate("document.querySelector('#score-notices button').click()")
            await page.until(f"{texts} === 'PSPI is at least 6.0 of 16, number 1.'")
            (seen,) = events(script, "notice.ack")
            assert seen.data.id == 2
            await page.evaluate("document.querySelector('#score-notices button').click()")
            await page.until(f"{notices}.length === 0")
        assert page.errors == []

    browse(test)


def test_key_m_marks_from_when_it_was_pressed() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.stage("NONE")
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            is_open = "document.getElementById('mark').open"
            await press(page, "m")  # nothing was analysed yet
            assert await page.evaluate(is_open) is False
            script.sample(30)
            await page.until("document.querySelectorAll('.bar.blank').length === 0")
            await press(page, "m")
            await page.until(is_open)
            assert await page.evaluate(text("mark-when")) == "from 1.0 s"
            script.sample(60, "AU12_A")
            for key in "mat":  # the m is a letter of the text here
                await press(page, key)
            written = "document.getElementById('mark-text').value"
            assert await page.evaluate(written) == "mat"
            await press(page, "Enter")
            await page.until(f"!{is_open}")
            active = "document.querySelectorAll('.bar.active').length"
            await page.until(f"{active} === 1")
            await page.evaluate("document.getElementById('mark-button').click()")
            await page.until(is_open)
            await page.evaluate(f"{written} = 'a span'")
            script.sample(90)
            await page.until(f"{active} === 0")
            await page.evaluate("document.getElementById('mark-span').click()")
            await page.until(f"!{is_open}")
            yellow = """(() => {
              const canvas = document.getElementById('ribbon');
              const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, 8);
              for (let i = 0; i < data.length; i += 4)
                if (data[i] === 0xe8 && data[i + 1] === 0xc1 && data[i + 2] === 0x5a) return true;
              return false;
            })()"""
            await page.until(yellow)
            one, two = (message.data for message in events(script, "marker"))
            assert (one.text, one.start_s, one.end_s) == ("mat", 1.0, 1.0)
            assert (two.text, two.start_s, two.end_s) == ("a span", 2.0, 3.0)
        assert page.errors == []

    browse(test)


def test_a_server_without_scores_has_no_row() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            assert await page.evaluate("document.getElementById('scores').hidden") is True
        assert page.errors == []

    browse(test)
