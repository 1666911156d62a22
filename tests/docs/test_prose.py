"""The README and the tutorials are short and easy to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tools.reading_ease import plain_sentences, reading_ease

FIRST_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "tutorial").glob("*.md"))]
MOST_LINES = 150
LEAST_EASE = 55.0
"""Plain English has 60 to 70; below 50 is for those who must."""
HARD = (
    "The methodological instantiation of interpretability necessitates the operationalisation of "
    "heterogeneous explanatory representations, notwithstanding computational intractability."
)
EASY = "The cat sat on the mat. It saw a bird, and it ran."


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", FIRST_PAGES, ids=lambda page: page.name)
def test_first_pages_are_easy_to_read(page: Path) -> None:
    text = page.read_text()
    assert reading_ease(text) >= LEAST_EASE
    # A single sentence may not hide behind many short ones.
    longest = max(plain_sentences(text), key=len)
    assert len(longest) <= 45, " ".join(longest)


def test_hard_prose_is_hard() -> None:
    assert reading_ease(HARD) < 0
    assert reading_ease(EASY) > 100
    with pytest.raises(ValueError, match="no sentence"):
        reading_ease("```sh\nls\n```\n")


def test_the_documents_speak_of_the_project_only() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text()
        assert "/root/" not in text, page
        assert "/tmp/wt" not in text, page


def test_the_design_is_three_pages_and_each_decision_has_its_parts() -> None:
    words = sum(map(len, plain_sentences((ROOT / "docs" / "design.md").read_text())))
    assert words <= 1_500  # of 500 a page
    decisions = sorted((ROOT / "docs" / "adr").glob("0*.md"))
    design = (ROOT / "docs" / "design.md").read_text()
    for number, page in enumerate(decisions, 1):
        assert page.name.startswith(f"{number:04d}-")
        parts = [line for line in page.read_text().splitlines() if line.startswith("## ")]
        assert parts[:3] == ["## Context", "## Decision", "## Consequences"], page.name
        assert f"adr/{page.name}" in design
