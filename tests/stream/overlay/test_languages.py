"""The words of the page: each language has all of them, with their placeholders, and they fit."""

from __future__ import annotations

import json
import re

import pytest
from facestage.core.action_units import AU_NAMES
from facestage.stream.server.server import Server

from tests.support.chromium import Page, find_chromium
from tests.support.paths import ROOT
from tests.support.scripted_page import HELLO, Script, browse, connected, text

OVERLAY = ROOT / "stream" / "overlay"
WORDS: dict[str, dict[str, str]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((OVERLAY / "languages").glob("*.json"))
}
ENGLISH = WORDS["en"]
OTHERS = sorted(set(WORDS) - {"en"})
FREE = (
    "help.",
    "mark.",
    "baseline.",
    "bars.focus",
    "token.",
    "prototype.",
    "veil.",
    "tool.",
    "fact.presets.means",
)
"""Sentences in dialogs and titles have room; all others stand in a place of the page."""


def placeholders(sentence: str) -> list[str]:
    return sorted(re.findall(r"\{\w+\}", sentence))


def test_the_languages_are_those_that_can_be_chosen() -> None:
    found = re.search(r"LANGUAGES = \{(.*?)\}", (OVERLAY / "language.js").read_text())
    assert found is not None
    assert sorted(re.findall(r"(\w+):", found[1])) == sorted(WORDS)
    assert len(WORDS) == 4


@pytest.mark.parametrize("language", OTHERS)
def test_each_language_has_every_word_with_its_placeholders(language: str) -> None:
    words = WORDS[language]
    assert list(words) == list(ENGLISH)
    for key, sentence in words.items():
        assert placeholders(sentence) == placeholders(ENGLISH[key]), key
        assert sentence.strip() == sentence != "", key
    same = sum(words[key] == ENGLISH[key] for key in words)
    assert same < 0.12 * len(words)  # units and names of things; the rest is translated


@pytest.mark.parametrize("language", OTHERS)
def test_no_word_is_so_long_that_it_has_no_room(language: str) -> None:
    for key, sentence in WORDS[language].items():
        if not key.startswith(FREE):
            assert len(sentence) <= 1.5 * len(ENGLISH[key]) + 14, key


def test_every_word_that_the_scripts_say_is_there_and_none_is_left_over() -> None:
    # The pages of the camera and the kiosk have words of their own.
    every = (path.read_text() for path in OVERLAY.glob("*.js"))
    scripts = "".join(script for script in every if "./language.js" in script)
    page = (OVERLAY / "index.html").read_text()
    said = set(re.findall(r'\bsay(?:Or)?\(\s*"([^"]+)"', scripts))
    said |= set(re.findall(r'data-say(?:-\w+)?="([^"]+)"', page))
    assert said <= set(ENGLISH)
    # A key is named somewhere, or begins as a family that is (`source.${state}`).
    families = set(re.findall(r"`([\w.]+\.)\$\{", scripts)) | {"face.", "source.", "connection."}
    named = scripts + page
    for key in ENGLISH:
        assert f'"{key}"' in named or any(map(key.startswith, families | {"baseline."})), key


def test_each_action_unit_has_a_name_and_the_english_one_is_that_of_the_model() -> None:
    assert {key: word for key, word in ENGLISH.items() if key.startswith("au.")} == {
        f"au.{au}": name for au, name in AU_NAMES.items()
    }


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
def test_the_page_speaks_the_language_chosen_and_english_where_a_word_is_wrong() -> None:
    async def test(page: Page) -> None:
        script = Script()
        script.begin()
        script.stage("NONE")
        async with Server(script.hub, hello=HELLO, port=0) as server:
            await page.goto(server.url)
            await connected(page)
            chosen = json.dumps({"language": "de"})
            await page.evaluate(
                f"localStorage.setItem('facestage.settings', {json.dumps(chosen)});"
                "window.before = true"
            )
            await page.call("Page.reload")
            await page.until("window.before === undefined && document.readyState === 'complete'")
            await page.until(f"{text('connection')} === 'verbunden'")
            assert await page.evaluate("document.documentElement.lang") == "de"
            assert await page.evaluate(text("notice")) == WORDS["de"]["notice"]
            await page.until(f"{text('chips')}.includes('keine aktive AU')")
            said = await page.evaluate(
                "import('/language.js').then(({ setWords, say }) => {"
                "  setWords({ a: 'x {n}', b: 'y', c: 'z' }, { a: 'ohne', b: 'ue', d: 'mehr' });"
                "  return [say('a', { n: 3 }), say('b'), say('c'), say('d')]; })"
            )
            assert said == ["x 3", "ue", "z", "d"]
        assert page.errors == []

    browse(test)
