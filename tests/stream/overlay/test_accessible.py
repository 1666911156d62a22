"""The page for everybody: names, roles, contrast, keyboard, forced colours, a table, touch."""

from __future__ import annotations

import pytest
from facestage.stream.protocol import StreamInfo
from facestage.stream.server.hub import Hub
from facestage.stream.server.past import PastRing
from facestage.stream.server.server import Server

from tests.support.chromium import Page, find_chromium
from tests.support.paths import ROOT
from tests.support.scripted_page import HELLO, Script, browse, connected, text

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

CHECK = (ROOT / "tests" / "support" / "accessible.js").read_text()


def make_script() -> Script:
    script = Script(hub=Hub([StreamInfo(id="cam", name="Clip")], past=PastRing()))
    script.begin()
    script.prototype("AU12_A")
    script.prototype("AU12_B")
    for labels in (("NONE",), ("AU06_A", "AU12_A"), ("AU12_B",)):
        script.stage(*labels)
    return script


async def press(page: Page, key: str, code: int, *, char: str = "") -> None:
    kind = {"type": "keyDown", "text": char} if char else {"type": "rawKeyDown"}
    await page.call("Input.dispatchKeyEvent", key=key, windowsVirtualKeyCode=code, **kind)
    await page.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)


async def choose(page: Page, setting: str, value: str) -> None:
    await page.evaluate(
        f"(() => {{ const e = document.getElementById('setting-{setting}'); e.value = '{value}';"
        " e.dispatchEvent(new Event('change')); })()"
    )


def test_names_roles_and_contrast_in_every_theme() -> None:
    async def test(page: Page) -> None:
        script = make_script()
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            await page.until(f"{text('chips')}.includes('AU12_B')")
            script.sample(60, "AU12_B")
            await page.until("document.querySelectorAll('.bar.active').length === 1")
            for theme in ("dark", "light", "contrast"):
                await page.evaluate("document.getElementById('open-settings').click()")
                await choose(page, "theme", theme)
                await page.until(f"document.documentElement.dataset.theme === '{theme}'")
                assert await page.evaluate(CHECK) == [], f"{theme}, settings open"
                await page.evaluate("document.getElementById('settings').close()")
                assert await page.evaluate(CHECK) == [], theme
                for opener, dialog in (("open-help", "help"), ("change-all", "changes")):
                    await page.evaluate(f"document.getElementById('{opener}').click()")
                    assert await page.evaluate(CHECK) == [], f"{theme}, {dialog} open"
                    await page.evaluate(f"document.getElementById('{dialog}').close()")
            await page.evaluate("document.querySelector('.prototype button').click()")
            await page.until("document.getElementById('prototype').open")
            assert await page.evaluate(CHECK) == []
            assert "AU12_A lip corner puller" in await page.evaluate(text("prototype-title"))
            assert "Part of 1 stages seen here" in await page.evaluate(text("prototype-body"))
            await page.evaluate("document.querySelector('#prototype-body li button').click()")
            await page.until("document.getElementById('mode').dataset.mode === 'past'")
            assert await page.evaluate(CHECK) == []
            # The check itself finds what is wrong.
            await page.evaluate(
                "document.body.insertAdjacentHTML('beforeend', '<button></button>'"
                " + '<p id=p>faint</p>'); document.getElementById('p').style.color = '#333'"
            )
            found = await page.evaluate(CHECK)
            assert [fault.partition(":")[0].split()[0] for fault in found] == ["no", "contrast"]
        assert page.errors == []

    browse(test)


def test_forced_colours_keep_bars_chips_and_letters() -> None:
    async def test(page: Page) -> None:
        script = make_script()
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.media(forced_colors="active", prefers_color_scheme="dark")
            await page.goto(server.url)
            await connected(page)
            await page.until(f"{text('chips')}.includes('AU12_B')")
            script.sample(60, "AU12_B")
            await page.until("document.querySelectorAll('.bar.active').length === 1")
            grounds = await page.evaluate(
                "['.bar.active .fill', '.bar.active .tick', 'body'].map((query) =>"
                " getComputedStyle(document.querySelector(query)).backgroundColor)"
            )
            assert len(set(grounds)) == 3  # the bar and its tick are seen
            chip = await page.evaluate(
                "(({ borderLeftColor, borderTopColor }) => [borderLeftColor, borderTopColor])"
                "(getComputedStyle(document.querySelector('.chip')))"
            )
            assert chip[0] != chip[1]  # the colour of the AU beside a border of the system's
            assert await page.evaluate(CHECK) == []
            # Letters and blocks on the ribbon are painted in colours that differ from its ground.
            different = (
                "(() => { const r = document.getElementById('ribbon');"
                " const { data } = r.getContext('2d').getImageData(0, 0, r.width, r.height);"
                " const seen = new Set();"
                " for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200)"
                "   seen.add(`${data[i]} ${data[i + 1]} ${data[i + 2]}`);"
                " return seen.size; })()"
            )
            assert await page.evaluate(different) > 5
        assert page.errors == []

    browse(test)


def test_keys_do_what_the_help_says_and_not_while_somebody_types() -> None:
    async def test(page: Page) -> None:
        script = make_script()
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            await page.until(f"{text('chips')}.includes('AU12_B')")
            script.heat(60, "AU12_B")
            script.picture(60)
            script.sample(60, "AU12_B")
            await press(page, "?", 191, char="?")
            await page.until("document.getElementById('help').open")
            keys = "[...document.querySelectorAll('#keys kbd')].map(e => e.textContent)"
            assert await page.evaluate(keys) == [
                *("?", "Space", "←", "→", "⇧ ←", "⇧ →", "End", "H", "B", "C", "T", "S", "F", "M"),
            ]
            await press(page, "t", 84, char="t")  # a dialog is open: the page does nothing
            assert await page.evaluate("document.getElementById('table').hidden") is True
            await press(page, "Escape", 27)
            await page.until("!document.getElementById('help').open")

            await press(page, "t", 84, char="t")
            await page.until("!document.getElementById('table').hidden")
            await page.until("document.querySelectorAll('#table tbody tr').length === 3")
            cells = "[...document.querySelectorAll('#table tbody tr')].map(row =>"
            rows = await page.evaluate(f"{cells} [...row.children].slice(2).map(e => e.innerText))")
            assert rows == [
                ["(AU12_B)", "AU12 A → B: new explanation · AU06 off"],
                ["(AU06_A, AU12_A)", "AU06 on A · AU12 on A"],
                ["(NONE)", ""],
            ]
            assert await page.evaluate(CHECK) == []
            await press(page, "t", 84, char="t")
            await page.until("document.getElementById('table').hidden")

            await page.until("document.getElementById('view').dataset.drawn === '12'")
            await press(page, "h", 72, char="h")
            await page.until("document.getElementById('view').dataset.drawn === ''")
            await press(page, "h", 72, char="h")
            kept = "JSON.parse(localStorage.getItem('facestage.settings'))"
            await page.until(f"{kept}.relevance === true")
            await page.evaluate("document.getElementById('open-settings').click()")
            await page.evaluate("document.getElementById('setting-keys').click()")
            await page.evaluate("document.getElementById('settings').close()")
            await press(page, "h", 72, char="h")
            await page.until(f"{kept}.keys === false")
            assert await page.evaluate(f"{kept}.relevance") is True
        assert page.errors == []

    browse(test)


def test_a_picture_to_show_to_others_has_no_face() -> None:
    middle = (
        "(() => { const v = document.getElementById('view');"
        " const pixels = (c) => [...c.getContext('2d')"
        "   .getImageData(c.width / 2 - 200, c.height / 2, 1, 1).data];"
        " return pixels(v); })()"
    )

    async def test(page: Page) -> None:
        script = make_script()
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            for _ in range(200):
                if script.hub.wants_pictures:
                    break
                await page.evaluate("1")
            script.picture(60, 200)
            script.heat(60, "AU12_B")
            script.sample(60, "AU12_B")
            await page.until("document.getElementById('view').dataset.frame === '60'")
            assert (await page.evaluate(middle))[0] > 190
            await page.evaluate(
                "HTMLAnchorElement.prototype.click = function () { window.named = this.download; };"
                "URL.createObjectURL = ((make) => (blob) => { window.blob = blob;"
                "  return make(blob); })(URL.createObjectURL);"
                "document.getElementById('take').click()"
            )
            await page.until("window.blob !== undefined && window.named.endsWith('.png')")
            found = await page.evaluate(
                "createImageBitmap(window.blob).then((image) => {"
                "  const c = document.createElement('canvas');"
                "  [c.width, c.height] = [image.width, image.height];"
                "  const pen = c.getContext('2d'); pen.drawImage(image, 0, 0);"
                "  const { data } = pen.getImageData(0, 0, c.width, c.height);"
                "  let [grey, colour] = [0, 0];"
                "  for (let i = 0; i < data.length; i += 4) {"
                "    if (Math.abs(data[i] - 200) < 4 && Math.abs(data[i + 1] - 200) < 4"
                "        && Math.abs(data[i + 2] - 200) < 4) grey += 1;"
                "    if (data[i] < 90 && data[i + 2] > 180) colour += 1;"
                "  }"
                "  return { grey, colour, pixels: c.width * c.height }; })"
            )
            assert found["grey"] < 0.002 * found["pixels"]  # but letters and lines
            assert found["colour"] > 200
            assert (await page.evaluate(middle))[0] > 190  # on the page it is still there
            await page.evaluate("document.body.focus()")
            await press(page, "b", 66, char="b")
            await page.until(f"{middle}[0] < 60")
        assert page.errors == []

    browse(test)


def test_two_fingers_zoom_and_one_moves_the_time() -> None:
    async def test(page: Page) -> None:
        script = make_script()
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.size(390, 844, mobile=True)
            await page.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
            await page.goto(server.url)
            await connected(page)
            await page.until(f"{text('chips')}.includes('AU12_B')")
            ribbon = "document.getElementById('ribbon')"
            await page.evaluate(f"{ribbon}.scrollIntoView({{block: 'center'}})")
            box = await page.evaluate(
                f"(({{left, top, width, height}}) => [left, top, width, height])"
                f"({ribbon}.getBoundingClientRect())"
            )
            y = box[1] + box[3] / 2

            async def touch(kind: str, *xs: float) -> None:
                points = [{"x": x, "y": y, "id": i} for i, x in enumerate(xs)]
                await page.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

            await touch("touchStart", 150.0, 200.0)
            for spread in (20.0, 40.0, 60.0):
                await touch("touchMove", 150.0 - spread, 200.0 + spread)
            await touch("touchEnd")
            await page.until(f"Number({ribbon}.dataset.span) < 15")
            await touch("touchStart", 150.0)
            for x in (170.0, 220.0, 300.0):
                await touch("touchMove", x)
            await touch("touchEnd")
            await page.until(f"{ribbon}.title.includes('This is the past')")
        assert page.errors == []

    browse(test)
