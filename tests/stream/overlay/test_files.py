"""The files of the page: each script is served, and loaded at once."""

from __future__ import annotations

import re

from facestage.stream.server.server import _FILES

from tests.support.paths import ROOT

OVERLAY = ROOT / "stream" / "overlay"


def test_every_script_is_served_and_asked_for_at_once() -> None:
    scripts = {path.name for path in OVERLAY.glob("*.js")}
    assert scripts == {name for name in _FILES if name.endswith(".js")}
    page = (OVERLAY / "index.html").read_text()
    preloaded = re.findall(r'rel="modulepreload" href="([\w.]+)"', page)
    assert sorted(preloaded) == sorted(scripts - {"app.js"})


def test_every_script_is_checked_against_the_types_of_the_protocol() -> None:
    for path in OVERLAY.glob("*.js"):
        assert path.read_text().startswith("// @ts-check\n"), path.name
        assert "@ts-ignore" not in path.read_text(), path.name
