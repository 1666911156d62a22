"""The rules of the layout: what the core may not do, and that the package is complete."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CORE = sorted((ROOT / "core").rglob("*.py"))
FORBIDDEN = {
    "asyncio",
    "http",
    "requests",
    "selectors",
    "socket",
    "socketserver",
    "subprocess",
    "threading",
    "time",
    "urllib",
    "websockets",
}


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (level, module) of every import; level counts the dots of a relative one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_core_stays_without_io_and_never_imports_stream(path: Path) -> None:
    tree = ast.parse(path.read_text())
    depth = len(path.relative_to(ROOT / "core").parts)
    for level, module in imported(tree):
        assert level <= depth, f"imports from above core: {'.' * level}{module}"
        if level == 0:
            first = module.split(".")[0]
            assert first not in FORBIDDEN, f"does I/O or keeps time: {module}"
            assert first not in ("facestage", "stream"), f"not a relative import: {module}"
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in calls
    if path.name != "au_network.py":
        assert "open" not in calls


def test_every_package_is_listed_for_the_wheel() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        "facestage." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in ("core", "stream")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(setup["packages"]) == found | {"facestage"}


def test_core_can_be_imported_without_the_shell() -> None:
    code = "import facestage.core, sys; print([m for m in sys.modules if 'facestage.stream' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_commands_do_not_wait_for_what_few_of_them_need() -> None:
    code = """
import sys
import torch
from facestage.core import lrp, network
from facestage.stream import cli

net = network.AUNetwork.load(device="cpu").logits_module
lrp.explain(net, torch.zeros(1, 1, 96, 96), [(0, 0)])
print(sorted({"zennit", "torchvision", "scipy.stats"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
