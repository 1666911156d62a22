"""The plan of the packages: which room may import which, and how large rooms and functions get.

A room is a module or a package directly under ``core/`` or ``stream/``. An arrow that is not in the
plan is a decision: add it here, with the floor it needs, or find another way.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PLAN = {
    # From the ground up: whatever a room imports stands above it in this list.
    "core": {
        "config": "",
        "errors": "",
        "steps": "",
        "action_units": "errors",
        "backend": "errors",
        "relevance": "errors steps",
        "types": "action_units errors",
        "sequence_store": "types",
        "learning": "",
        "clustering": "backend errors",
        "face": "action_units config errors steps types",
        "network": "action_units backend errors steps",
        "stages": "action_units config errors steps types",
        "lrp": "backend config errors network steps",
        "scores": "action_units config errors types",
        "window": "action_units backend clustering config errors steps",
        "baseline": "action_units config errors network stages types",
        "corpus": "action_units backend clustering errors stages types",
        "quality": "config errors face lrp network relevance",
        "observer": "baseline config errors face lrp network relevance stages types",
        "render": "action_units config errors observer relevance stages types",
        "analyzer": "action_units backend config errors face lrp network observer stages types "
        "window",
        "sequence": "action_units baseline clustering config errors face network observer "
        "sequence_store stages types",
    },
    "stream": {
        "console": "",
        "compute": "",
        "bridges": "",
        "demo": "",
        "model_store": "",
        "overlay": "",
        "passive_threads": "",
        "protocol": "",
        "sources": "",
        "step_clock": "",
        "templates": "",
        "files": "",
        "detectors": "model_store",
        "progress": "console",
        "server": "protocol step_clock",
        "live": "protocol server sources step_clock",
        "offline": "sources",
        "recording": "files protocol server",
        "exports": "offline",
        "datasets": "sources",
        "learning": "datasets files model_store sources",
        "corpus": "compute datasets detectors offline",
        "bench": "compute live protocol server sources step_clock",
        "commands": "bench bridges compute console corpus datasets detectors exports files "
        "learning live model_store offline progress protocol recording server sources",
        "cli": "commands console passive_threads",
        "__main__": "cli",
    },
}
MOST_ARROWS = {"core": 95, "stream": 57}
MOST_MODULES = 13
"""Modules that may lie flat in ``core/`` or ``stream/``, beside the packages."""
LONG, MOST_LONG = 60, 8
"""Lines of a long function with its docstring, and how many may be longer."""
WIDE, MOST_WIDE = 8, 2
"""Parameters of a wide function, and how many may have more."""


@functools.cache
def modules(top: str) -> dict[str, Path]:
    """Return dotted name → file of every module of a part."""
    found = {}
    for path in sorted((ROOT / top).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(top: str) -> Iterator[tuple[str, str]]:
    """Yield (module, imported module) within a part, from all relative imports."""
    known = modules(top)
    for name, path in known.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = package.split(".")
            base = base[: len(base) - node.level + 1]
            target = ".".join([*base, node.module] if node.module else base)
            for alias in node.names:
                inner = f"{target}.{alias.name}"
                yield name, inner if inner in known else target


def arrows(top: str) -> dict[str, set[str]]:
    """Return room → rooms it imports, without the facade, which hands on names of all."""
    found: dict[str, set[str]] = defaultdict(set)
    for source, target in imports(top):
        if top in (source, target) or not target.startswith(f"{top}."):
            continue
        room, other = source.split(".")[1], target.split(".")[1]
        found[room].update({other} - {room})
    return found


@pytest.mark.parametrize("top", PLAN)
def test_rooms_import_what_the_plan_allows_and_nothing_in_it_is_out_of_date(top: str) -> None:
    planned = {room: set(allowed.split()) for room, allowed in PLAN[top].items()}
    found = arrows(top)
    rooms = {name.split(".")[1] for name in modules(top) if "." in name}
    assert rooms - {"weights"} == set(planned)
    for room in planned:
        assert found.get(room, set()) == planned[room], room
    assert sum(map(len, found.values())) <= MOST_ARROWS[top]


@pytest.mark.parametrize("top", PLAN)
def test_no_circle_and_no_arrow_upwards(top: str) -> None:
    order = list(PLAN[top])
    for room, others in arrows(top).items():
        for other in others:
            assert order.index(other) < order.index(room), f"{room} imports {other}"
    within: dict[str, set[str]] = defaultdict(set)
    for source, target in imports(top):
        # A package names its modules; that they import each other is no circle through it.
        if target in modules(top) and modules(top)[target].name != "__init__.py":
            within[source].add(target)
    TopologicalSorter({k: v for k, v in within.items() if not is_package(k, top)}).prepare()


def is_package(name: str, top: str) -> bool:
    return modules(top)[name].name == "__init__.py"


@pytest.mark.parametrize("top", PLAN)
def test_few_modules_lie_flat(top: str) -> None:
    flat = [path.stem for path in (ROOT / top).glob("*.py") if path.stem != "__init__"]
    assert len(flat) <= MOST_MODULES, flat


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for top in PLAN:
        for name, path in modules(top).items():
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{name}.{node.name}", node


def test_few_functions_are_long_or_wide() -> None:
    long, wide = [], []
    for name, node in functions():
        assert node.end_lineno is not None
        if node.end_lineno - node.lineno + 1 > LONG:
            long.append(name)
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        if len([argument for argument in every if argument.arg not in ("self", "cls")]) > WIDE:
            wide.append(name)
    assert len(long) <= MOST_LONG, long
    assert len(wide) <= MOST_WIDE, wide


@pytest.mark.parametrize(
    "document", ["README.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))]
)
def test_files_that_documents_name_exist(document: str) -> None:
    path = ROOT / document if document == "README.md" else ROOT / "docs" / document
    named = re.findall(r"`((?:core|stream|training|tests|benchmarks)/[\w./]*)`", path.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
