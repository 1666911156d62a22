"""The examples in the tools' docstrings do as they say, and a version stands in few places."""

from __future__ import annotations

import doctest
import importlib
import re
import tomllib

import pytest

from tests.support.paths import ROOT

TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py") if path.stem != "__init__")
NEEDS = {"roles": "griffe", "pictures": "PIL"}
"""Tool → the package beyond those of the project that it needs."""


@pytest.mark.parametrize("name", TOOLS)
def test_examples_do_as_they_say(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"tools.{name} needs {NEEDS[name]}")
    module = importlib.import_module(f"tools.{name}")
    result = doctest.testmod(module)
    assert result.failed == 0
    text = (ROOT / "tools" / f"{name}.py").read_text()
    assert result.attempted == len(re.findall(r"^ +>>> ", text, re.MULTILINE))


def test_there_are_examples() -> None:
    texts = [(ROOT / "tools" / f"{name}.py").read_text() for name in TOOLS]
    assert sum(bool(re.search(r"^ +>>> ", text, re.MULTILINE)) for text in texts) >= 4


def test_the_version_is_one() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert cited[1] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
