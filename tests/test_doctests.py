"""Examples in docstrings are run, and none of them is missed."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FOLDERS = {"core": "facestage.core", "stream": "facestage.stream", "training": "training"}
"""Folder → the package it holds."""
RUNS_WHEN_IMPORTED = {"facestage.stream.__main__"}
"""Modules that are commands and do nothing but run."""
PROMPT = re.compile(r"^\s*>>> ", re.MULTILINE)


def module_files() -> dict[str, Path]:
    """Return the name of every module and its file."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


FILES = module_files()
EXAMPLES = {name: len(PROMPT.findall(path.read_text())) for name, path in FILES.items()}
"""Number of examples in the source of each module."""


def load(name: str) -> object:
    """Import a module; a test of one that needs numba is skipped where that is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == "numba" and name.startswith("training."):
            pytest.skip(f"{name} needs numba, which is not installed")
        raise


@pytest.mark.parametrize("package", FOLDERS.values())
def test_there_are_modules_and_they_import(package: str) -> None:
    names = [name for name in FILES if name == package or name.startswith(f"{package}.")]
    assert len(names) > 20
    for name in names:
        if name not in RUNS_WHEN_IMPORTED:
            load(name)


def test_there_are_examples() -> None:
    assert sum(EXAMPLES.values()) >= 29
    assert not any(EXAMPLES[name] for name in RUNS_WHEN_IMPORTED)


@pytest.mark.parametrize("name", [name for name, count in EXAMPLES.items() if count])
def test_examples_do_as_they_say(name: str) -> None:
    module = load(name)
    report: list[str] = []
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)
    # One that doctest does not find, under a constant for instance, would never be run.
    assert runner.tries == EXAMPLES[name]
