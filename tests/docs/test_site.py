"""What the site takes from the program is there, and every page has its place on it."""

from __future__ import annotations

import importlib
import re

from tests.support.paths import ROOT
from tools import site
from tools.site import (
    BESIDE,
    api_blocks,
    command_pages,
    environment_table,
    public_names,
    relink,
    unlisted,
)

SETTINGS = (ROOT / "mkdocs.yml").read_text()


def test_each_page_has_its_place() -> None:
    nav = SETTINGS.partition("\nnav:")[2]
    for page in re.findall(r": ([\w/-]+\.md)$", nav, re.MULTILINE):
        assert page in BESIDE.values() or (ROOT / "docs" / page).exists(), page
    assert all((ROOT / source).exists() for source in BESIDE)
    assert "tutorial/webcam.md" not in unlisted(nav)
    assert "tutorial/webcam.md" in unlisted(nav.replace("tutorial/webcam.md", ""))


def test_links_are_those_of_the_site() -> None:
    assert relink("![a](annotated.png)", "docs/files.md") == "![a](annotated.png)"
    assert relink("[a](../README.md#more)", "docs/index.md") == "[a](repository/readme.md#more)"
    assert relink("[a](../files.md)", "docs/tutorial/webcam.md") == "[a](../files.md)"
    assert relink("[a](docs/index.md)", "README.md") == "[a](../index.md)"
    assert relink("[a](../examples/report.py)", "docs/index.md") == "a"
    assert relink("[a](https://x.org/b.md)", "docs/index.md") == "[a](https://x.org/b.md)"


def test_every_command_and_option_is_listed() -> None:
    pages = command_pages()
    for command in ("live", "analyze", "corpus", "models card", "doctor"):
        assert f"\n## facestage {command}\n" in f"\n{pages}"
    assert "| `--port` | TCP port; 0 takes a free one. | `8765` |" in pages
    assert "| `SOURCE...` |" in pages
    variables = environment_table()
    for variable in ("FACESTAGE_LIVE_PORT", "FACESTAGE_AUS", "FACESTAGE_MODELS_PULL_"):
        assert variable in variables


def test_the_variables_of_the_text_exist() -> None:
    variables = environment_table()
    text = (ROOT / "docs" / "configuration.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "stream").rglob("*.py"))
    for name in re.findall(r"FACESTAGE_[A-Z_]+[A-Z]", text):
        assert name in variables or name in source, name


def test_every_name_of_the_reference_is_there() -> None:
    text = api_blocks((ROOT / "docs" / "api.md").read_text())
    assert "<!--" not in text
    names = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    assert len(names) == len(set(names)) >= 100
    for name in names:
        module, _, last = name.rpartition(".")
        assert getattr(importlib.import_module(module), last) is not None


def test_a_lazy_package_leads_to_the_modules() -> None:
    names = public_names("facestage.core")
    assert "facestage.core.analyzer.Analyzer" in names
    assert site.site_place("LICENSE") is None
