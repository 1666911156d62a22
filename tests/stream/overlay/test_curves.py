"""The module of the curves, as page and reports use it; and the ribbon's time axis above it."""

from __future__ import annotations

import pytest
from facestage.stream.server.server import Server

from tests.support.chromium import Page, find_chromium
from tests.support.paths import ROOT
from tests.support.scripted_page import HELLO, SEGMENTS, Script, browse, connected, text

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine"),
]

ALONE = """import('/curves.js').then(({ Curves, TimeWindow, followGestures, seriesOfArrays }) => {
  const canvas = document.createElement('canvas');
  canvas.style.cssText = 'position:fixed;left:0;top:0;width:460px;height:80px;z-index:9';
  document.body.append(canvas);
  const inks = { text: '#fff', quiet: '#888', line: '#222', mark: '#0f0', cursor: '#f00' };
  const colours = () => inks;
  const curves = new Curves(canvas, { gutter: 60, colours, font: 'sans-serif' });
  const times = Float64Array.from({ length: 40_000 }, (_, i) => i / 10);
  const spike = times.map((time) => (time === 2000 ? 1 : 0.25));   // one value in an hour
  const holes = times.map((time) => (time > 1000 && time < 3000 ? NaN : 0.5));
  curves.series = [
    seriesOfArrays({ name: 'AU12', colour: '#22ddff', low: 0, high: 1, threshold: 0.5 },
      times, spike),
    seriesOfArrays({ name: 'AU6', colour: '#cc6600', low: 0, high: 1 }, times, holes),
  ];
  const view = new TimeWindow({ from: 0, to: 4000, least: 1, first: 0, last: 4000 });
  let draws = 0;
  const draw = () => {
    draws += 1;
    const marks = [{ at: 1500, strong: true }];
    curves.draw({ from: view.from, to: view.to, marks, cursor: 3500 });
  };
  followGestures(canvas, view, { gutter: 60, changed: draw, pick: (at) => (window.picked = at) });
  draw();
  Object.assign(window, { curves, view, drawn: () => draws });
  const pen = canvas.getContext('2d');
  const has = (x, y, w, h, test) => {
    const { data } = pen.getImageData(x, y, w, h);
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 100 && test(data, i)) return true;
    return false;
  };
  const cyan = (d, i) => d[i] < 90 && d[i + 1] > 150 && d[i + 2] > 180;
  const orange = (d, i) => d[i] > 150 && d[i + 2] < 60 && d[i + 1] < 140 && d[i + 1] > 60;
  const green = (d, i) => d[i] < 60 && d[i + 1] > 200 && d[i + 2] < 60;
  const red = (d, i) => d[i] > 200 && d[i + 1] < 60;
  return {
    spikeSeen: has(258, 2, 5, 6, cyan),
    elsewhere: has(300, 2, 40, 6, cyan),
    hole: has(180, 42, 160, 38, orange),
    curve: has(70, 42, 60, 38, orange),
    mark: has(209, 20, 3, 4, green),
    cursor: has(409, 20, 3, 4, red),
    read: curves.read(2000).map(({ value }) => value),
    rows: canvas.dataset.rows,
  };
})"""


def test_the_module_stands_alone_and_nothing_short_is_lost() -> None:
    source = (ROOT / "stream" / "overlay" / "curves.js").read_text()
    assert "import " not in source.replace('import("', "").partition("// Times are")[2]

    async def test(page: Page) -> None:
        async with Server(Script().hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            assert await page.evaluate(ALONE) == {
                "spikeSeen": True,
                "elsewhere": False,
                "hole": False,
                "curve": True,
                "mark": True,
                "cursor": True,
                "read": [1, None],
                "rows": "AU12 AU6",
            }
            # The wheel zooms about the pointer, dragging moves, a click picks, within the bounds.
            wheel = {"type": "mouseWheel", "x": 260, "y": 30, "deltaX": 0, "deltaY": -300}
            await page.call("Input.dispatchMouseEvent", **wheel)
            await page.until("view.to - view.from < 1500")
            middle = await page.evaluate("view.from + (view.to - view.from) / 2")
            assert middle == pytest.approx(2000, abs=1)

            async def mouse(kind: str, x: int) -> None:
                await page.call(
                    "Input.dispatchMouseEvent", type=kind, x=x, y=30, button="left", clickCount=1
                )

            before = await page.evaluate("view.from")
            for kind, x in (("mousePressed", 300), ("mouseMoved", 280), ("mouseMoved", 200)):
                await mouse(kind, x)
            await mouse("mouseReleased", 200)
            await page.until(f"view.from > {before} + 200")
            assert await page.evaluate("window.picked") is None
            await mouse("mousePressed", 260)
            await mouse("mouseReleased", 260)
            await page.until("Math.abs(window.picked - (view.from + view.to) / 2) < 5")
            await page.evaluate("view.pan(1e9)")
            assert await page.evaluate("view.to") == 4000
            await page.evaluate("view.zoom(1e9, 0)")
            assert await page.evaluate("[view.from, view.to]") == [0, 4000]
        assert page.errors == []

    browse(test)


SERIES = """import('/series.js').then(({ Series }) => {
  const series = new Series();
  const start = 1_700_000_000;
  // Two hours at 30 a second: AU12 is on for one frame every ten minutes.
  for (let i = 0; i < 216_000; i += 1) {
    series.add(start + i / 30, [['AU12', i % 18_000 === 900 ? 1 : 0.1], ['AU6', null]]);
  }
  const whole = series.columns('AU12', start, start + 7200, 900);
  const last = series.columns('AU12', start + 7170, start + 7200, 450);
  const count = (columns) => columns.high.filter((value) => value === 1).length;
  return {
    peaks: count(whole),
    least: Math.round(Math.min(...whole.low.filter((value) => !Number.isNaN(value))) * 10),
    fine: last.low.filter((value) => !Number.isNaN(value)).length,
    none: series.columns('AU6', start, start + 7200, 90).low.every(Number.isNaN),
    bytes: [series.fine.low, series.coarse.low, series.coarse.high]
      .flatMap((map) => [...map.values()])
      .reduce((sum, values) => sum + values.byteLength, 0),
    near: series.at('AU12', start + 6600 + 30),
    far: series.at('AU12', start - 5),
  };
})"""


def test_hours_are_kept_in_bounds_and_peaks_are_not_lost() -> None:
    async def test(page: Page) -> None:
        async with Server(Script().hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            found = await page.evaluate(SERIES)
            assert found["peaks"] == 12
            assert found["least"] == 1
            assert found["fine"] == 450
            assert found["none"] is True
            assert found["bytes"] < 400_000
            assert found["near"] == 1
            assert found["far"] is None
        assert page.errors == []

    browse(test)


LONG_DAY = """(async () => {
  const { Stream } = await import('/stream.js');
  const { Ribbon } = await import('/ribbon.js');
  const { Viewport } = await import('/viewport.js');
  const { Units } = await import('/units.js');
  const stream = new Stream({ id: 's', name: 's', number: 0 });
  const inks = new Proxy({}, { get: () => '#888888' });
  const canvas = document.createElement('canvas');
  canvas.style.cssText = 'position:fixed;left:0;top:0;width:900px;height:220px';
  document.body.append(canvas);
  const units = new Units();
  const ribbon = new Ribbon(canvas, units, { inks });
  const view = new Viewport();
  const now = 1_700_000_000;
  const letters = ['A', 'B', 'C'];
  for (let i = 0; i < 15_000; i += 1) {
    const at = now - 28_000 + i * 1.8;
    const aus = [4, 6, 12, 25, 43].filter((au) => (i + au) % 3);
    const labels = aus.map((au) => `AU${String(au).padStart(2, '0')}_${letters[(i >> 8) % 3]}`);
    stream.event({ type: 'stage.enter',
      data: { start: i * 54, at: i * 54, labels, previous: null, reason: 'au_on' } }, at);
  }
  view.present = now;
  view.zoom(1e9, now);
  ribbon.draw(stream, view, null);
  return { span: view.span, stages: stream.segments.size, lanes: canvas.dataset.lanes,
           marks: Number(canvas.dataset.changes) };
})()"""


def test_eight_hours_are_drawn_on_one_ribbon() -> None:
    async def test(page: Page) -> None:
        async with Server(Script().hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            found = await page.evaluate(LONG_DAY)
            assert found["span"] == 8 * 3600
            assert found["stages"] == 15_000
            assert found["lanes"] == "4 6 12 25 43"
            assert found["marks"] > 50
        assert page.errors == []

    browse(test)


def test_scores_are_curves_and_the_read_out_says_what_was_found() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.stage("AU12_A")
        script.sample(7, "AU12_A")
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            await page.until(f"{SEGMENTS} === 1")
            curves = "document.getElementById('curves')"
            if await page.evaluate(f"{curves}.hidden"):
                await page.evaluate("document.getElementById('toggle-curves').click()")
            for frame in range(8, 20):
                script.sample(frame, "AU12_A")
            await page.until(f"{curves}.dataset.rows === 'AU12'")
            box = await page.evaluate(
                f"(() => {{ const r = {curves}.getBoundingClientRect();"
                " return [r.right - 1, r.top + r.height / 2]; })()"
            )
            await page.until(f"{curves}.clientHeight > 40")
            readout = "document.getElementById('readout')"
            for step in range(40):
                x = box[0] - step
                await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=box[1])
                if "AU12 0.90" in await page.evaluate(text("readout")):
                    break
            assert "AU12_A" in await page.evaluate(text("readout"))
            assert "AU12 0.90" in await page.evaluate(text("readout"))
            await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
            await page.until(f"{readout}.hidden")
            scores = await page.evaluate(
                "import('/stream.js').then(({ Stream }) => {"
                "  const stream = new Stream({ id: 's', name: 's', number: 0 });"
                "  const sample = { frame: 1, aus: [], scores: ["
                "    { name: 'PSPI', value: 3.5, low: 0, high: 16 },"
                "    { name: 'other', value: null, low: 0, high: 1 }] };"
                "  stream.addFrame(sample, 100);"
                "  return [[...stream.series.names], stream.series.at('score PSPI', 100)]; })"
            )
            assert scores == [["score PSPI"], 3.5]
        assert page.errors == []

    browse(test)
