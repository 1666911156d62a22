"""The files of the page: each script is served, and loaded at once."""

from __future__ import annotations

import re

from facestage.stream.server.server import _FILES, _PAGES

from tests.support.paths import ROOT

OVERLAY = ROOT / "stream" / "overlay"


def imported(script: str) -> set[str]:
    """Return the scripts that one needs, through others as well."""
    found: set[str] = set()
    waiting = [script]
    while waiting:
        text = (OVERLAY / waiting.pop()).read_text()
        needed = set(re.findall(r'^(?:import|export)[^;]*?from "\./([\w.]+)"', text, re.M))
        waiting += needed - found
        found |= needed
    return found


def test_every_script_is_served_and_asked_for_at_once() -> None:
    scripts = {path.name for path in OVERLAY.glob("*.js")}
    assert scripts == {name for name in _FILES if name.endswith(".js")}
    used = {"curves.js"}  # of the report as well
    for name in set(_PAGES.values()):
        page = (OVERLAY / name).read_text()
        (first,) = re.findall(r'<script type="module" src="([\w.]+)">', page)
        preloaded = re.findall(r'rel="modulepreload" href="([\w.]+)"', page)
        assert sorted(preloaded) == sorted(imported(first)), name
        used |= {first, *preloaded}
    assert used == scripts


def test_every_script_is_checked_against_the_types_of_the_protocol() -> None:
    for path in OVERLAY.glob("*.js"):
        assert path.read_text().startswith("// @ts-check\n"), path.name
        assert "@ts-ignore" not in path.read_text(), path.name
