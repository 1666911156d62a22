"""The README's pictures: our own render, nobody's face.

    FACESTAGE_SCREENSHOT=docs/page.png pytest tests/stream/overlay/test_demo_page.py
    python -m tools.pictures

The first takes a picture of the page during the demo. The second numbers its parts
(``docs/page-parts.webp``) and makes the moving picture (``docs/demo.webp``) from the demo clip with
relevance over the face. Needs a Chromium, and Pillow, which torchvision brings along.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.selection import SHOWN, select_aus
from facestage.core.render.lettering import draw_text, text_width
from facestage.stream.commands.analyze import run_analyze
from facestage.stream.commands.signatures import AnalyzeOptions
from facestage.stream.live.publish import action_units
from facestage.stream.protocol import Hello, StreamInfo
from facestage.stream.server.hub import Hub
from facestage.stream.server.server import Server
from numpy.typing import NDArray
from PIL import Image

from tests.support.chromium import find_chromium, open_page

MOST_BYTES = 1_500_000
"""A page that takes longer to load is left before it is seen."""
PARTS = ("picture", "stage", "units", "prototypes", "history", "facts")
"""Elements of the page that the README explains, in its order."""
CORNERS = """
(ids) => JSON.stringify(ids.map((id) => {
  const { left, top } = document.getElementById(id).getBoundingClientRect();
  return [left, top];
}))
"""
YELLOW, BLACK = (66, 228, 240), (0, 0, 0)


async def corners(width: int, height: int) -> list[tuple[float, float]]:
    """Return the top left corner of each part of a page of this size, pixels."""
    executable = find_chromium()
    if executable is None:
        raise SystemExit("there is no Chromium; install one (Debian: apt-get install chromium)")
    network = AUNetwork.load(device="cpu")
    # The rows of Action Units decide how tall their part is.
    aus = action_units(network, select_aus(network.card, SHOWN))
    hello = Hello(server="0", model="m", device="cpu", detector="d", lrp_preset="p", aus=aus)
    hub = Hub((StreamInfo(id="demo", name="demo"),))
    async with Server(hub, hello=hello, port=0) as server, open_page(executable) as page:
        await page.size(width, height)
        await page.goto(f"http://127.0.0.1:{server.port}/")
        await page.until("document.querySelectorAll('#bars > *').length > 0")
        found = await page.evaluate(f"({CORNERS})({json.dumps(PARTS)})")
    return [(left, top) for left, top in json.loads(found)]


def number(picture: NDArray[np.uint8], at: list[tuple[float, float]]) -> None:
    """Paint 1, 2, 3, … over the corners of a picture."""
    radius = picture.shape[0] // 56
    for place, (left, top) in enumerate(at):
        x = max(round(left) - 2, radius + 3)
        y = min(max(round(top) + 2, radius + 3), picture.shape[0] - radius - 3)
        cv2.circle(picture, (x, y), radius + 3, BLACK, -1, cv2.LINE_AA)
        cv2.circle(picture, (x, y), radius, YELLOW, -1, cv2.LINE_AA)
        text, size = str(place + 1), radius * 1.2
        width = text_width(text, size, bold=True)
        draw_text(picture, text, x - width / 2, y + size / 2, size, BLACK, bold=True)


def moving_picture(first: int, last: int, step: int, width: int) -> list[Image.Image]:
    """Return pictures of the demo with relevance over the face, ``step`` frames apart."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result"
        run_analyze(AnalyzeOptions(source="demo:", out_dir=out, annotate=True))
        reader = cv2.VideoCapture(str(out / "annotated.webm"))
        pictures = []
        for index in range(last + 1):
            ok, frame = reader.read()
            if not ok:
                raise SystemExit(f"the annotated clip ends before frame {last}")
            if index >= first and (index - first) % step == 0:
                height = round(frame.shape[0] * width / frame.shape[1])
                small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
                pictures.append(Image.fromarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB)))
        reader.release()
    return pictures


def main() -> None:
    """Read the command line, make both pictures."""
    parser = argparse.ArgumentParser(description="Make the README's pictures.")
    parser.add_argument("--parts-only", action="store_true", help="not the moving picture")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the pictures")
    parser.add_argument("--first", type=int, default=60, help="frame of the demo")
    parser.add_argument("--last", type=int, default=535)
    parser.add_argument("--step", type=int, default=5, help="frames from picture to picture")
    parser.add_argument("--width", type=int, default=720, help="of the moving picture, pixels")
    parser.add_argument("--quality", type=int, default=50)
    options = parser.parse_args()

    page = cv2.imread(str(options.docs / "page.png"))
    if page is None:
        raise SystemExit(f"{options.docs / 'page.png'} cannot be read; take it first, see above")
    number(page, asyncio.run(corners(page.shape[1], page.shape[0])))
    parts = Image.fromarray(cv2.cvtColor(page, cv2.COLOR_BGR2RGB))
    parts.save(options.docs / "page-parts.webp", quality=85, method=6)

    if options.parts_only:
        return
    pictures = moving_picture(options.first, options.last, options.step, options.width)
    moving = options.docs / "demo.webp"
    # Thirty frames a second: shown at the pace of the demo.
    pictures[0].save(
        moving,
        save_all=True,
        append_images=pictures[1:],
        duration=options.step * 1000 // 30,
        loop=0,
        quality=options.quality,
        method=4,
    )
    written = moving.stat().st_size
    if written > MOST_BYTES:
        raise SystemExit(f"{moving} has {written} bytes, above {MOST_BYTES}; lower --quality")
    print(f"written: {moving}, {len(pictures)} pictures, {written / 1000:.0f} kB")


if __name__ == "__main__":
    main()
