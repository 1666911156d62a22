"""Colours of Action Units: none is shared, and none merge for those who see fewer."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from facestage.stream.server.server import Server
from numpy.typing import NDArray

from tests.support.chromium import Page, find_chromium
from tests.support.paths import ROOT
from tests.support.scripted_page import HELLO, Script, browse

Array = NDArray[np.float64]

SCRIPT = (ROOT / "stream" / "overlay" / "palette.js").read_text()
COLOURS = re.findall(r'"(#[0-9a-f]{6})"', SCRIPT.partition("NEUTRAL")[0])
NEUTRAL = re.findall(r'NEUTRAL = "(#[0-9a-f]{6})"', SCRIPT)[0]

# Machado, Oliveira and Fernandes 2009, severity 1: how linear RGB looks.
DEUTERANOPE = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
PROTANOPE = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def linear(colours: list[str]) -> Array:
    """Return linear RGB, 0–1, (colours, 3)."""
    values = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: Array) -> Array:
    """Return CIE L*a*b* (D65) of linear RGB."""
    xyz = np.clip(rgb, 0, 1) @ TO_XYZ.T / [0.95047, 1.0, 1.08883]
    cube = np.cbrt(np.maximum(xyz, 1e-9))
    f = np.where(xyz > 216 / 24389, cube, (24389 / 27 * xyz + 16) / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


@pytest.mark.parametrize(
    ("eye", "least"), [(np.eye(3), 40.0), (DEUTERANOPE, 25.0), (PROTANOPE, 25.0)]
)
def test_no_two_colours_merge(eye: Array, least: float) -> None:
    assert len(COLOURS) == 8
    seen = lab(linear(COLOURS) @ eye.T)
    for (i, first), (j, second) in itertools.combinations(enumerate(seen), 2):
        assert np.linalg.norm(first - second) >= least, (COLOURS[i], COLOURS[j])


def test_the_check_itself_finds_colours_that_merge() -> None:
    red_and_green = lab(linear(["#cc4400", "#888800"]) @ DEUTERANOPE.T)
    assert np.linalg.norm(red_and_green[0] - red_and_green[1]) < 25


def test_dark_letters_are_readable_on_each() -> None:
    weights = np.array([0.2126, 0.7152, 0.0722])
    ink = float((linear(["#0b0e11"]) @ weights)[0])
    for light in linear([*COLOURS, NEUTRAL]) @ weights:
        assert (light + 0.05) / (ink + 0.05) >= 4.5


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
def test_a_colour_is_kept_until_another_needs_it_more_and_never_shared() -> None:
    script = """import('/palette.js').then(({ Palette, NEUTRAL }) => {
      const palette = new Palette();
      palette.show([1, 2, 4]);
      const first = [1, 2, 4].map((au) => palette.colour(au));
      palette.show([2, 12, 25, 6, 7, 9, 10]);
      const kept = palette.colour(2) === first[1];
      const shown = [2, 12, 25, 6, 7, 9, 10].map((au) => palette.colour(au));
      const version = palette.version;
      palette.show([2, 12, 25, 6, 7, 9, 10]);
      const calm = palette.version === version;
      const many = [...Array(12).keys()].map((i) => i + 30);
      palette.show(many);
      const crowd = many.map((au) => palette.colour(au));
      return { kept, calm, distinct: new Set(shown).size, coloured: !shown.includes(NEUTRAL),
               crowd: new Set(crowd).size, grey: crowd.filter((c) => c === NEUTRAL).length };
    })"""

    async def test(page: Page) -> None:
        async with Server(Script().hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            assert await page.evaluate(script) == {
                "kept": True,
                "calm": True,
                "distinct": 7,
                "coloured": True,
                "crowd": 9,  # eight colours and grey
                "grey": 4,
            }

    browse(test)
