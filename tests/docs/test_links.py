"""Every link, anchor and picture of every page leads somewhere in the repository."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
        *(ROOT / "training").rglob("*.md"),
    )
)
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!`)!?\[(?:[^][]|\[[^]]*\])*\]\(([^)\s]+)\)")
PICTURES = {".png", ".webp", ".svg", ".jpg"}


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as repositories and the site make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        text = unicodedata.normalize("NFC", text.lower())
        anchor = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        repeated = 0
        while (name := f"{anchor}-{repeated}" if repeated else anchor) in found:
            repeated += 1
        found.add(name)
    return found


def targets(page: Path) -> list[str]:
    """Return what the links of a page lead to."""
    return LINK.findall(FENCE.sub("", page.read_text()))


def test_there_are_pages_and_links() -> None:
    assert len(PAGES) >= 30
    assert sum(len(targets(page)) for page in PAGES) >= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in targets(page):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{target} is not there"
        assert goal.is_relative_to(ROOT), f"{target} leaves the repository"
        if anchor:
            assert goal.suffix == ".md"
            assert anchor in anchors(goal), f"{target}: {sorted(anchors(goal))}"


def test_every_page_and_picture_of_the_documents_is_led_to() -> None:
    reached = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in targets(page)
        if not target.startswith(("http", "#"))
    }
    for path in (ROOT / "docs").rglob("*"):
        if path.suffix in PICTURES | {".md"}:
            assert path in reached, f"nothing leads to {path.relative_to(ROOT)}"


def test_pictures_are_small_and_say_what_they_show() -> None:
    for page in PAGES:
        for shown, target in re.findall(r"!\[([^]]*)\]\(([^)\s]+)\)", page.read_text()):
            assert len(shown) >= 10, f"{target} needs a text for those who do not see it"
            assert (page.parent / target).stat().st_size <= 1_600_000, target


def test_a_wrong_anchor_would_be_noticed() -> None:
    assert "more" in anchors(ROOT / "README.md")
    assert "ck" in anchors(ROOT / "docs" / "reproduce-paper.md")
    assert "no-such-heading" not in anchors(ROOT / "README.md")
