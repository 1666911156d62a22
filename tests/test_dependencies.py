"""What is installed with the package is what it uses, and each has its line of reason."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REASONS = (ROOT / "docs" / "dependencies.md").read_text()
IMPORTED_AS = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "prometheus-client": "prometheus_client",
}
"""Distribution → module, where the names differ."""
ON_DEMAND = ("edf", "lsl", "metrics", "ray")
"""Extras that the package imports where a command asks for them."""
BROUGHT_BY = {"rich": "typer", "torchvision": "zennit"}
"""Module that is not asked for by itself → the dependency that brings it."""


def names(requirements: list[str]) -> set[str]:
    """Return the distributions that requirements ask for, those with a marker left out."""
    plain = [line for line in requirements if ";" not in line]
    return {re.match(r"[\w.-]+", line)[0] for line in plain}  # type: ignore[index]


def imports() -> set[str]:
    """Return the top-level modules that the package imports, the standard library left out."""
    found = set()
    for folder in ("core", "stream"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names)


def test_each_dependency_is_used_and_each_import_is_asked_for() -> None:
    asked = {IMPORTED_AS.get(name, name) for name in names(PROJECT["dependencies"])}
    used = imports()
    assert asked <= used
    extras = [line for extra in ON_DEMAND for line in PROJECT["optional-dependencies"][extra]]
    optional = {IMPORTED_AS.get(name, name) for name in names(extras)}
    assert used - asked - set(BROUGHT_BY) == optional


def test_what_is_brought_along_is_brought() -> None:
    for module, dependency in BROUGHT_BY.items():
        assert module in names(importlib.metadata.requires(dependency) or [])


def test_each_dependency_has_its_reason() -> None:
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    for name in names(PROJECT["dependencies"] + extras) - {"facestage"}:
        assert re.search(rf"^\|.*\b{re.escape(name)}\b.*\|$", REASONS, re.MULTILINE), name


# ---- the lock files


def locked(name: str) -> dict[str, set[str]]:
    """Return distribution → versions of a lock file; every one must have hashes."""
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / name).read_text(), flags=re.MULTILINE)[1:]
    found: dict[str, set[str]] = {}
    for entry in entries:
        match = re.match(r"([a-z0-9.-]+)==([\w.]+)", entry)  # no local version such as +cpu
        assert match is not None, entry[:80]
        hashes = entry.split("--hash=")[1:]
        assert hashes, match[0]
        assert all(re.match(r"sha256:[0-9a-f]{64}\b", value) for value in hashes)
        found.setdefault(match[1], set()).add(match[2])
    return found


@pytest.mark.parametrize(
    ("name", "extras"), [("requirements.lock", []), ("requirements-dev.lock", ["dev", "training"])]
)
def test_a_lock_file_has_what_the_project_asks_for(name: str, extras: list[str]) -> None:
    versions = locked(name)
    wanted = [*PROJECT["dependencies"]]
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        if requirement.name == "facestage":
            continue
        assert versions.get(requirement.name), requirement.name
        assert all(version in requirement.specifier for version in versions[requirement.name])


def test_the_bill_of_materials_lists_what_is_locked() -> None:
    bill = json.loads((ROOT / "sbom.cdx.json").read_text())
    listed = {(part["name"], part["version"]) for part in bill["components"]}
    versions = locked("requirements.lock")
    assert listed == {(name, version) for name in versions for version in versions[name]}
