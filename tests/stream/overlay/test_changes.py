"""The change as the headline: which AU, from what to what, when; and whose relevance is drawn."""

from __future__ import annotations

import pytest
from facestage.stream.server.server import Server

from tests.support.chromium import Page, find_chromium
from tests.support.scripted_page import HELLO, SHOWN, Script, browse, connected, text

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

COMPARE = """import('/changes.js').then(({ compareStages }) => {
  const last = { 12: 'A', 6: '' };
  const told = [{ au: 12, text: 'AU12: relevance moved' }];
  const say = (before, after) => compareStages(before, after, (au) => last[au] ?? '', told)
    .map(({ au, kind, before, after, text }) => [au, kind, before, after, text].join(' ').trim());
  return [
    say(['AU12_A'], ['AU12_B']),
    say(['NONE'], ['AU12_B']),
    say(['NONE'], ['AU12_A', 'AU06_A']),
    say(['AU06', 'AU12_A'], ['AU06_B', 'AU12_A']),
    say(['AU06_A', 'AU12_A'], ['AU06_A']),
    say(['AU12_A'], ['LOST']),
    say(['LOST'], ['AU12_B', 'AU04_C']),
  ];
})"""

CHOOSE = """import('/focus.js').then(({ Focus }) => {
  const settings = { pinned: [], unseen: [] };
  const focus = new Focus(settings);
  const change = (at, ...items) => ({ at, items: items.map(([au, kind]) => ({ au, kind })) });
  const changes = [change(1, [1, 'on'], [2, 'on']), change(2, [4, 'on']), change(3, [6, 'reason']),
                   change(4, [2, 'off']), change(9, [25, 'on'])];
  const active = [1, 2, 4, 6, 12, 25];
  const steps = [focus.choose(active, changes, 5)];
  focus.pointed = 12;
  steps.push(focus.choose(active, changes, 5));
  focus.pointed = null;
  focus.toggle(1);                       // always
  steps.push(focus.choose(active, changes, 5), focus.stateOf(1));
  focus.toggle(1);                       // never
  steps.push(focus.choose(active, changes, 5), focus.stateOf(1));
  focus.toggle(1);                       // in its turn
  steps.push(focus.stateOf(1), focus.choose([12], [], 5));
  return steps;
})"""

UNCROSS = """import('/callouts.js').then(({ cross, uncross }) => {
  let seed = 7;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  let [before, after] = [0, 0];
  const count = (lines) => lines.flatMap((one, i) => lines.slice(i + 1).map((other) =>
    cross(one, other))).filter(Boolean).length;
  for (let round = 0; round < 300; round += 1) {
    const lines = [0, 1, 2, 3, 4, 5].map((i) =>
      ({ x: random() * 100, y: random() * 100, side: 130, row: 20 * i }));
    before += count(lines);
    const rows = lines.map((line) => line.row).sort((a, b) => a - b);
    uncross(lines);
    after += count(lines);
    if (lines.map((line) => line.row).sort((a, b) => a - b).join() !== rows.join()) after += 1000;
  }
  return { before, after };
})"""


def test_what_changed_whose_relevance_is_drawn_and_labels_that_do_not_cross() -> None:
    """Asked of the modules that the page is made of."""

    async def test(page: Page) -> None:
        async with Server(Script().hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            moved = "AU12: relevance moved"
            assert await page.evaluate(COMPARE) == [
                [f"12 reason A B {moved}"],
                [f"12 reason A B {moved}"],  # although it was off in between
                ["6 on  A", f"12 on A A {moved}"],
                ["6 named  B"],
                [f"12 off A  {moved}"],
                [],  # without a face nobody knows
                [f"12 reason A B {moved}", "4 on  C"],
            ]
            assert await page.evaluate(CHOOSE) == [
                [6, 4, 1],  # what has not happened yet counts for nothing
                [12, 6, 4],
                [1, 6, 4],
                "pinned",
                [6, 4, 2],
                "unseen",
                "turn",
                [12],
            ]
            crossed = await page.evaluate(UNCROSS)
            assert crossed["before"] > 500
            assert crossed["after"] == 0
        assert page.errors == []

    browse(test)


MARKS = "Number(document.getElementById('ribbon').dataset.changes)"
BRIGHT_COLUMNS = """(() => {
  const ribbon = document.getElementById('ribbon');
  const { data } = ribbon.getContext('2d').getImageData(58, 2, ribbon.width - 58, 1);
  let runs = 0;
  for (let i = 0; i < data.length; i += 4) {
    const white = (j) => j >= 0 && data[j] > 250 && data[j + 1] > 250 && data[j + 2] > 250;
    if (white(i) && !white(i - 4)) runs += 1;
  }
  return runs;
})()"""


def test_a_new_explanation_is_the_headline_and_its_mark_survives_zooming_out() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.prototype("AU12_A")
        script.prototype("AU12_B")
        script.stage("NONE")
        script.stage("AU12_A")
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            await page.until(f"{text('change-words')}.startsWith('AU12 on A · ')")
            await page.until(f"{text('since')}.includes('AU12 on A')")
            assert "Action Unit on" not in await page.evaluate("document.body.textContent")
            script.stage("NONE")
            await page.until(f"{text('change-words')}.startsWith('AU12 off · ')")
            script.stage("AU12_B")
            await page.until(
                f"/^AU12 A → B: new explanation · \\d+\\.\\d s ago$/.test({text('change-words')})"
            )
            loud = "document.getElementById('change').className"
            assert await page.evaluate(loud) == "loud new-reason"
            captions = "[...document.querySelectorAll('#change figcaption')].map(e => e.innerText)"
            assert await page.evaluate(captions) == ["AU12_A", "AU12_B"]
            painted = (
                "[...document.querySelectorAll('#change canvas')].map(c => "
                "c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[3])"
            )
            assert await page.evaluate(painted) == [255, 255]
            # Another reason, long ago: it stays, quietly, and its mark is seen at every span.
            for span in (15, 60, 600, 28800):
                await page.evaluate(f"document.querySelector('[data-span=\"{span}\"]').click()")
                await page.until(
                    f"document.getElementById('ribbon').dataset.span === '{span}' && {MARKS} === 1"
                )
                assert await page.evaluate(BRIGHT_COLUMNS) == 1
            await page.until(f"{loud} === 'new-reason'")
            assert "AU12 A → B: new explanation" in await page.evaluate(text("change-words"))
            await page.evaluate("document.getElementById('change-all').click()")
            listed = "[...document.querySelectorAll('#change-list button')].map(e => e.textContent)"
            words = [line.partition(" ")[2] for line in await page.evaluate(listed)]
            assert words[:3] == ["AU12 A → B: new explanation", "AU12 off", "AU12 on A"]
        assert page.errors == []

    browse(test)


def test_at_most_three_are_drawn_unless_one_is_pointed_at_or_chosen() -> None:
    names = ["AU01_A", "AU02_A", "AU04_A", "AU06_A", "AU12_A"]
    labels = "[...document.querySelectorAll('#bars .bar')].map((row) => row.dataset.focus).join()"

    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        for i in range(len(names)):
            script.stage(*names[: i + 1])
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(f"{server.url}overlay")
            await page.until(f"{text('chips')}.includes('AU12_A')")
            script.sample(40, *names)
            script.heat(40, *names)
            await page.until(f"{SHOWN} === '40'")
            view = "document.getElementById('view').dataset.drawn"
            await page.until(f"{view} === '12 6 4'")
            await page.evaluate(
                "document.querySelector('#bars .bar').dispatchEvent("
                "new PointerEvent('pointerenter', { pointerType: 'mouse' }))"
            )
            await page.until(f"{view} === '1 12 6'")
            await page.evaluate(
                "document.querySelector('#bars .bar')"
                ".dispatchEvent(new PointerEvent('pointerleave'))"
            )
            await page.until(f"{view} === '12 6 4'")
            await page.evaluate("document.querySelectorAll('#bars .bar .name')[1].click()")
            await page.until(f"{view} === '2 12 6'")
            assert await page.evaluate(labels) == "turn,pinned,turn,turn,turn,turn"
        assert page.errors == []

    browse(test)
