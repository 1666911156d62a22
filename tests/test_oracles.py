"""What judges the package shares no code with it."""

from __future__ import annotations

import ast

import pytest

from tests.support.paths import ROOT

ORACLES = ("relevance_twins", "textbook_window")
"""Modules of ``tests/support`` that compute by other means what the package computes."""


@pytest.mark.parametrize("name", ORACLES)
def test_an_oracle_imports_nothing_that_it_judges(name: str) -> None:
    tree = ast.parse((ROOT / "tests" / "support" / f"{name}.py").read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").partition(".")[0])
    assert {"numpy"} <= imported
    assert not imported & {"facestage", "core", "stream", "training", "tests"}
