"""The page in a real headless Chromium, fed by a scripted stream."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from facestage.core.action_units import AU_NAMES, au_code
from facestage.stream.protocol import (
    Cursor,
    FaceChanged,
    Gap,
    PrototypeRetire,
    PrototypeUpdate,
    SourceChanged,
    StageRevise,
    StreamInfo,
)
from facestage.stream.server.hub import Hub
from facestage.stream.server.server import Server

from tests.support.chromium import Page, find_chromium
from tests.support.scripted_page import (
    AUS,
    GREY,
    HEIGHT,
    HELLO,
    SEGMENTS,
    SHOWN,
    WIDTH,
    Script,
    browse,
    connected,
    hello,
    text,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

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
            notes = "[...document.querySelectorAll('.prototype .count')].map(e => e.textContent)"
            # AU06_A is known to be AU06_B; the stage turned out not to be one of AU12_A.
            await page.until(f"{notes}.join() === '= AU06_B,×0'")
            # A pattern that slowly became another; and one that had to make room.
            script.event(
                PrototypeUpdate(
                    label="AU12_A", at=script.frame + 4, cosine=0.61, size=1, data=b"\xff", top=1
                )
            )
            await page.until(f"{notes}.join() === '= AU06_B,×0 moved'")
            titles = "[...document.querySelectorAll('.prototype')].map(e => e.title)"
            assert "cosine 0.61" in (await page.evaluate(titles))[1]
            script.event(PrototypeRetire(label="AU12_A", into=None, at=script.frame + 5))
            await page.until(f"{notes}.join() === '= AU06_B,given up'")

            script.stage("LOST")
            script.event(FaceChanged(state="lost", previous="tracked", at=script.frame))
            await page.until(f"{text('chips')}.includes('LOST')")
            await page.until(f"{SEGMENTS} === 3")
            await page.until(f"{text('face-state')} === 'face lost'")

            script.sample(40, "AU12_A")
            await page.until("document.querySelectorAll('.bar.active').length === 1")
            assert await page.evaluate("document.querySelector('.bar.active').textContent") == (
                "AU12_A3.2"  # code with its letter, intensity
            )
            script.stats(17.25)
            await page.until(f"{text('facts')}.includes('17.3 of 30.0 fps')")
            assert "LRP enginefused" in await page.evaluate(text("facts"))
            script.event(SourceChanged(state="stalled", reason="no frame for 3 s"))
            await page.until(f"{text('veil')}.includes('Source stalled')")
        assert page.errors == []

    browse(test)


def test_the_slow_engine_is_named_with_its_reason_and_the_footer_stays_one_line() -> None:
    reason = "there is no fused rule for silu"

    async def test(page: Page) -> None:
        script = Script()
        slow = msgspec.structs.replace(HELLO, lrp_engine="reference", lrp_engine_reason=reason)
        async with Server(script.hub, hello=slow, port=0) as server:
            await page.goto(server.url)
            await page.until(f"{text('facts')}.includes('LRP enginereference: {reason}')")
            entry = (
                "[...document.querySelectorAll('#facts div')]"
                ".find(e => e.title && e.textContent.startsWith('LRP engine'))"
            )
            assert await page.evaluate(f"{entry}.title") == reason
            # The engine may change while the page is open; a reason can be of any length.
            script.stats(10.0, lrp_engine="reference", lrp_engine_reason="very " * 80 + "odd")
            await page.until(f"{text('facts')}.includes('very very')")
            wide = "document.documentElement.scrollWidth - innerWidth"
            assert await page.evaluate(wide) <= 0
            high = f"{entry}.getBoundingClientRect().height"
            line = "document.querySelector('#facts div').getBoundingClientRect().height"
            assert await page.evaluate(f"{high} - {line}") < 1
            script.stats(10.0, lrp_engine="fused")
            await page.until(f"{text('facts')}.includes('LRP enginefused')")
            assert await page.evaluate(f"{entry} === undefined")
        assert page.errors == []

    browse(test)


def test_weak_aus_are_marked_hidden_ones_left_out_and_the_baseline_told() -> None:
    units = {unit.au: unit for unit in HELLO.aus}
    units[12] = msgspec.structs.replace(units[12], grade="A")
    units[4] = msgspec.structs.replace(units[4], grade="B")
    units[25] = msgspec.structs.replace(units[25], grade="C", shown=False)
    graded = msgspec.structs.replace(HELLO, aus=tuple(units.values()), baseline=True)

    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.prototype("AU04_A")
        script.prototype("AU12_A")
        script.stage("AU04_A", "AU12_A")
        async with Server(script.hub, hello=graded, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            await page.until(f"{text('chips')}.includes('AU12_A')")
            rows = "[...document.querySelectorAll('#bars li')].map(e => e.textContent)"
            assert await page.evaluate(rows) == ["AU01", "AU02", "AU04weak", "AU06", "AU12"]
            assert await page.evaluate(text("hidden-units")) == "1 not used · "
            hint = "document.getElementById('hidden-units').title"
            assert await page.evaluate(hint) == "AU25 lips part"
            tips = "[...document.querySelectorAll('#bars li')].map(e => e.title)"
            weak, strong = (await page.evaluate(tips))[2:5:2]
            assert "less well on real faces" in weak
            assert "less well" not in strong
            assert await page.evaluate(text("chips")) == (
                "AU04_Aweakbrow lowererAU12_Alip corner puller"
            )
            marked = "[...document.querySelectorAll('.prototype')].map(e => e.textContent)"
            await page.until(f"{marked}.length === 2")
            assert [name.replace("×1", "") for name in await page.evaluate(marked)] == [
                "AU04_Aweak",
                "AU12_A",
            ]
            await page.until(f"{text('announce')}.includes('AU04 A brow lowerer (weak)')")

            hidden = "document.getElementById('baseline-state').hidden"
            script.sample(40, "AU12_A")
            await page.until("document.querySelectorAll('.bar.active').length === 1")
            assert await page.evaluate(hidden) is True
            script.sample(41, "AU12_A", baseline="learning", rest_s=12.7, rest_prior=0.136)
            await page.until(f"{text('baseline-state')} === 'learning 12 s'")
            told = "document.getElementById('baseline-state').title"
            assert "(14 % that of faces in general)" in await page.evaluate(told)
            assert await page.evaluate(hidden) is False
            script.sample(42, "AU12_A", baseline="active")
            await page.until(f"{text('baseline-state')} === 'own rest level'")
            # The bar is the presence that was judged, .9 · 2/3; the thin line the raw one.
            widths = "['.fill', '.raw'].map(c => document.querySelector(`.bar.active ${c}`)"
            assert await page.evaluate(f"{widths}.style.transform)") == [
                "scaleX(0.6)",
                "scaleX(0.9)",
            ]
            assert await page.evaluate("document.querySelector('.bar.active').textContent") == (
                "AU12_A2.1"  # intensity 3.2 · 2/3
            )
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
            red, green, blue = inside[:3]  # AU12 is alone, and has the first colour, #22ddff
            assert blue > GREY + 40
            assert blue > green > red + 30
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


RIBBON_AREA = """(() => {
  const view = document.getElementById('view');
  const scale = view.width / view.clientWidth;
  const chips = document.getElementById('stage').getBoundingClientRect().bottom;
  const ribbon = document.getElementById('history').getBoundingClientRect().top;
  const pixels = view.getContext('2d');
  const dark = (from, to) => {
    const { data } = pixels.getImageData(0, from * scale, view.width, (to - from) * scale);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) {
      count += data[i + 3] > 200 && data[i] < 40 && data[i + 1] < 40 && data[i + 2] < 40;
    }
    return count;
  };
  return { chips: dark(0, chips), between: dark(chips, ribbon), ribbon: dark(ribbon, innerHeight),
           top: ribbon };
})()"""


def test_on_the_overlay_labels_and_marks_keep_clear_of_the_ribbon() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        labels = [f"{au_code(au)}_A" for au in (1, 2, 4, 6, 12, 25)]
        script.stage(*labels)
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(f"{server.url}overlay")
            script.sample(7)
            script.heat(7, *labels)
            await page.until(f"{SHOWN} === '7'")
            await page.until(f"{RIBBON_AREA}.between > 1000")  # the grounds of the labels
            await page.until(f"{RIBBON_AREA}.top < 568")  # as soon as it knows its rows
            # The face sinks: the marks end at 142 of 180, which is at 568 of 720.
            script.sample(8)
            script.heat(8, *labels, down=48.0)
            await page.until(f"{SHOWN} === '8' && {RIBBON_AREA}.top >= 568")
            script.sample(9)
            script.heat(9, *labels, down=80.0)  # and below any ribbon: it must not push labels in
            await page.until(f"{SHOWN} === '9'")
            await page.until(f"{RIBBON_AREA}.top > 600")
            script.sample(10)
            script.heat(10, *labels, down=80.0)
            await page.until(f"{SHOWN} === '10'")
            area = await page.evaluate(RIBBON_AREA)
            assert area["between"] > 1000
            assert area["ribbon"] == area["chips"] == 0
        assert page.errors == []

    browse(test)


def test_the_shown_stream_is_chosen_by_keyboard_and_kept_in_the_address() -> None:
    async def press(page: Page, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            await page.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    async def test(page: Page) -> None:
        hub = Hub(
            [
                StreamInfo(id="left", name="Left", number=0),
                StreamInfo(id="right", name="Right", number=1),
            ]
        )
        left, right = Script(hub=hub, stream="left"), Script(hub=hub, stream="right")
        for script in (left, right):
            script.begin()
        left.prototype("AU12_A")
        left.stage("NONE")
        left.stage("AU12_A")
        right.prototype("AU04_A")
        right.stage("AU04_A")
        thumbs = (
            "[...document.querySelectorAll('.prototype .label')].map(e => e.textContent).join()"
        )
        async with Server(hub, hello=HELLO, port=0) as server:
            port = server.port
            await page.goto(server.url)
            await page.until(f"{text('chips')}.includes('AU12_A')")
            await page.until(f"{SEGMENTS} === 2 && {thumbs} === 'AU12_A'")
            for _ in range(10):
                if await page.evaluate("document.activeElement.id") == "stream":
                    break
                await press(page, "Tab", 9)
            assert await page.evaluate("document.activeElement.id") == "stream"
            await press(page, "ArrowDown", 40)
            await page.until(f"{text('chips')}.includes('AU04_A')")
            await page.until(f"{SEGMENTS} === 1 && {thumbs} === 'AU04_A'")
            await page.until("document.title === 'Right · facestage'")
            await page.until(f"{text('veil')}.includes('Waiting for the first picture')")
            for _ in range(2000):
                if (
                    all(
                        client.subscription and client.subscription.streams == ["right"]
                        for client in server.clients
                    )
                    and len(server.clients) == 2
                ):
                    break
                await asyncio.sleep(0.01)
            # Both go on; only the chosen one is drawn, under the same frame number.
            for script, grey in ((left, 30), (right, 200)):
                script.picture(40, grey)
                script.heat(40)
                script.sample(40)
            await page.until(f"{SHOWN} === '40'")
            assert abs((await pixel(page, 60, 90))[0] - 200) < 6
            right.stage("NONE")
            left.stage("AU06_A")
            await page.until(f"{SEGMENTS} === 2")
            await page.until(f"{text('chips')}.includes('NONE')")

            await press(page, "ArrowUp", 38)
            await page.until(f"{text('chips')}.includes('AU06_A')")  # told while it was not shown
            await page.until(f"{SEGMENTS} === 3 && {thumbs} === 'AU12_A'")
            await press(page, "ArrowDown", 40)
            await page.until(f"{text('chips')}.includes('NONE')")
            await page.evaluate("window.before = true")
            await page.call("Page.reload")
            await page.until("window.before === undefined && document.readyState === 'complete'")
            await page.until(f"{SEGMENTS} === 2 && {thumbs} === 'AU04_A'")
            await page.goto("about:blank")
            await page.goto(f"{server.url}overlay#stream=right")
            await page.until(f"{text('chips')}.includes('NONE')")
        # The program is started again with other sources: the one chosen is no longer there.
        script = Script("Other", stream="other")
        script.begin()
        script.stage("AU25_A")
        async with Server(script.hub, hello=HELLO, port=port):
            await page.until(f"{text('chips')}.includes('AU25_A')")

    browse(test)


def test_a_run_on_the_ribbon_has_the_letter_that_stands_for_it() -> None:
    """What is written on the lanes, asked of the modules that the page is made of."""
    script = """(async () => {
      const { Stream } = await import('/stream.js');
      const { runs } = await import('/lanes.js');
      const stream = new Stream({ id: 's', name: 's', number: 0 });
      const enter = (start, labels, from) => stream.enter({ start, labels }, from);
      const written = () => runs(stream, [...stream.segments.values()], 12, 100)
        .map((run) => `${run.texts} ${run.from}-${run.to}`);
      const steps = [];
      enter(0, ['AU12_A'], 10);
      enter(300, ['AU06_A', 'AU12_A'], 20);
      enter(600, ['AU12_B'], 30);
      steps.push(written());
      stream.revise({ start: 600, labels: ['AU12_C'] });
      steps.push(written());
      stream.retired.set('AU12_C', 'AU12_B');
      steps.push(written());
      stream.retired.set('AU12_B', 'AU12_A');
      steps.push(written());
      stream.exit({ start: 600 }, 40);
      stream.revise({ start: 999, labels: ['AU12_Z'] });
      steps.push(written());
      return steps;
    })()"""

    async def test(page: Page) -> None:
        async with Server(Script().hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            first = "A 10-30"  # one run, although another AU came
            assert await page.evaluate(script) == [
                [first, "B 30-100"],
                [first, "C 30-100"],
                [first, "C=B,C 30-100"],
                [first, "C=A,C 30-100"],
                [first, "C=A,C 30-40"],
            ]

    browse(test)


BRIGHTEST_ON_LANES = """(() => {
  const ribbon = document.getElementById('ribbon');
  const [gutter, stage, axis] = [58, 28, 17];
  const [width, height] = [ribbon.width - gutter, ribbon.height - stage - axis];
  return Math.max(...ribbon.getContext('2d').getImageData(gutter, stage, width, height).data
    .filter((_, i) => i % 4 === 0));
})()"""


def test_a_gap_in_the_source_is_a_line_across_the_ribbon() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.stage("NONE")
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await page.until(f"{SEGMENTS} === 1")
            assert await page.evaluate(BRIGHTEST_ON_LANES) < 60  # lines of the axis
            script.event(Gap(from_=1, to=9, cause="reconnect"))
            await page.until(f"{BRIGHTEST_ON_LANES} > 60")

    browse(test)


CUT = """(() => {
  const bottom = (element) => element.getBoundingClientRect().bottom;
  const top = (element) => element.getBoundingClientRect().top;
  const list = document.getElementById('thumbs');
  const cut = [...list.children].filter((tile) =>
    top(tile) < bottom(list) - 1 && bottom(tile) > bottom(list) + 1);
  const chips = document.getElementById('chips');
  const lost = [...chips.querySelectorAll('b, span')].filter((text) =>
    text.offsetParent && (bottom(text) > bottom(chips) + 1 || text.scrollWidth > text.clientWidth));
  return { tiles: cut.length, chips: lost.length, rows: list.clientHeight,
           names: [...chips.querySelectorAll('span')].filter((name) => name.offsetParent).length };
})()"""


@pytest.mark.parametrize("size", [(390, 844), (1280, 720), (1366, 768), (1920, 1080)])
def test_it_fits_the_screen(size: tuple[int, int]) -> None:
    width, height = size
    everything = sorted(AU_NAMES)
    # The eight with the longest names are the widest stage of that many.
    widest = sorted(sorted(everything, key=lambda au: -len(AU_NAMES[au]))[:8])
    dozen = sorted(widest + [au for au in everything if au not in widest][:4])

    async def test(page: Page) -> None:
        script = Script(name="A rather long name of a source that must not push anything away.mp4")
        script.begin()
        for au in dozen:
            for letter in "ABC":
                script.prototype(f"{au_code(au)}_{letter}")
        script.stage(*(f"{au_code(au)}_A" for au in dozen))
        script.stage(*(f"{au_code(au)}_A" for au in widest))
        async with Server(script.hub, hello=hello(everything), port=0) as server:
            await page.size(width, height, mobile=width < 500)
            await page.goto(server.url)
            last = f"{au_code(widest[-1])}_A"
            await page.until(f"{text('chips')}.includes('{last}')")
            lanes = "document.getElementById('ribbon').dataset.lanes"
            await page.until(f"{lanes} === '{' '.join(map(str, dozen))}'")
            lane = "Number(document.getElementById('ribbon').dataset.lane)"
            assert await page.evaluate(lane) >= 13
            await page.until("document.querySelectorAll('.prototype').length === 36")
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            cut = await page.evaluate(CUT)
            assert cut["tiles"] == cut["chips"] == 0
            assert cut["names"] == len(widest)
            assert cut["rows"] >= 80  # a whole row at least, with all AUs there are
            if width > 900:
                assert await page.evaluate("document.documentElement.scrollHeight") <= height

            script.stage(*(f"{au_code(au)}_A" for au in everything))
            await page.until(f"document.querySelectorAll('.chip').length === {len(everything)}")
            assert (await page.evaluate(CUT))["chips"] == 0
            # More than there is room for: those of the stage now, each with a readable lane.
            await page.until(f"{lanes}.split(' ').length >= 11")
            assert await page.evaluate(lane) >= 13

    browse(test)


def test_a_clock_that_is_set_does_not_make_the_picture_look_old_or_new() -> None:
    async def test(page: Page) -> None:
        script = Script()
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            offsets = await page.evaluate("""(async () => {
                const { Model } = await import("./model.js");
                const model = new Model();
                const hear = (late) => {
                    const t_emit = Date.now() / 1000 - late;
                    model.receive({ type: "heartbeat", seq: null, t_emit, data: {} });
                    return Math.round(model.now() - Date.now() / 1000);
                };
                // Late by the way, by a busy line; then the server's clock is set, both ways.
                return [0, 3, 0, 7200, 7203, -7200, -7198, 0].map(hear);
            })()""")
            assert offsets == [0, 0, 0, -7200, -7200, 7200, 7200, 0]

    browse(test)
