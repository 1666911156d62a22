"""The rules of the layout: what the core may not do, and that the package is complete."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import facestage
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


def loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter and return which of the heavy packages it imported."""
    heavy = {"torch", "scipy", "cv2", "zennit", "torchvision", "scipy.stats"}
    code = f"{code}\nimport sys; print('\\nloaded', *({heavy!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.rpartition("loaded")[2].split())


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "live --help",
        "bench --help",
        "train --help",
        "models pull --help",
        "live",
        "live demo: --no-such-option",
        "analyze demo: --frames none",
        "no-such-command",
    ],
)
def test_help_and_usage_errors_wait_for_no_torch(words: str) -> None:
    code = f"""
import contextlib, sys
from facestage.stream import cli
sys.argv[1:] = {words.split()}
with contextlib.suppress(SystemExit):
    cli.main()
"""
    assert loaded_by(code) == set()


@pytest.mark.parametrize("module", ["facestage", "facestage.core", "facestage.stream.protocol"])
def test_a_client_of_the_protocol_waits_for_no_torch(module: str) -> None:
    assert loaded_by(f"import {module}") == set()


def test_commands_do_not_wait_for_what_few_of_them_need() -> None:
    code = """
import torch
from facestage.core import lrp, network
from facestage.stream.commands import analyze, live

net = network.AUNetwork.load(device="cpu").logits_module
lrp.explain(net, torch.zeros(1, 1, 96, 96), [(0, 0)])
"""
    assert not loaded_by(code) & {"zennit", "torchvision", "scipy.stats"}


@pytest.mark.parametrize(
    "package", ["facestage.core", "facestage.core.lrp", "facestage.core.network"]
)
def test_lazy_packages_hand_on_every_name_they_list(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) == set(module._HOMES)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


def test_the_package_has_a_version_and_types_and_can_be_run() -> None:
    assert (
        facestage.__version__
        == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    )
    assert (ROOT / "src" / "facestage" / "py.typed").exists()
    command = [sys.executable, "-m", "facestage", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout == f"facestage {facestage.__version__}\n"
