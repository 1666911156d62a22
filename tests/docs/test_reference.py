"""The reference says what a caller must know: each public name has a docstring with its arrays."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.paths import ROOT
from tools.site import api_blocks

ARRAYS = re.compile(r"\b(?:NDArray|ArrayLike|Tensor|Maps)\b")
"""Annotations of arguments that have a shape."""
SHAPE = re.compile(r"``\(|\(\w+, |scalar|one per|of each|each of|as for|see :|What ")
"""How a docstring says a shape, or where it is said."""


class Public(NamedTuple):
    """A public function, method or class of the reference."""

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    docstring: str

    def __str__(self) -> str:
        return self.name


def members(name: str, node: ast.ClassDef) -> Iterator[Public]:
    """Yield the public methods and properties of a class."""
    for child in node.body:
        if not isinstance(child, ast.FunctionDef) or child.name.startswith("_"):
            continue
        # What a property is stands where it is read.
        marks = (mark for mark in child.decorator_list if isinstance(mark, ast.Attribute))
        if not any(mark.attr == "setter" for mark in marks):
            yield Public(f"{name}.{child.name}", child, ast.get_docstring(child) or "")


def reference() -> list[Public]:
    """Return everything that docs/api.md lists, with the methods of classes."""
    found = []
    text = api_blocks((ROOT / "docs" / "api.md").read_text())
    for name in re.findall(r"^::: facestage\.([\w.]+)$", text, re.MULTILINE):
        module, _, last = name.rpartition(".")
        path = ROOT.joinpath(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.parse(file.read_text()).body:
            if getattr(node, "name", None) != last:
                continue
            assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            found.append(Public(name, node, ast.get_docstring(node) or ""))
            if isinstance(node, ast.ClassDef):
                found += members(name, node)
    return found


REFERENCE = reference()


def test_there_is_a_reference() -> None:
    assert len(REFERENCE) >= 200


@pytest.mark.parametrize("public", REFERENCE, ids=str)
def test_a_public_name_says_what_it_does(public: Public) -> None:
    assert len(public.docstring) >= 15
    assert public.docstring.partition("\n\n")[0].rstrip().endswith((".", ":", "?"))


def arguments(public: Public) -> list[ast.arg]:
    """Return the arguments of a function, self left out."""
    if isinstance(public.node, ast.ClassDef):
        return []
    given = public.node.args
    every = (*given.posonlyargs, *given.args, *given.kwonlyargs)
    return [argument for argument in every if argument.arg not in ("self", "cls")]


@pytest.mark.parametrize("public", [p for p in REFERENCE if arguments(p)], ids=str)
def test_arguments_that_are_arrays_have_shapes(public: Public) -> None:
    arrays = [
        argument.arg
        for argument in arguments(public)
        if argument.annotation is not None and ARRAYS.search(ast.unparse(argument.annotation))
    ]
    for name in arrays:
        said = re.search(
            rf"^ *(?:[\w, *]+, )?{name}(?:, [\w, ]+)?: (.+(?:\n {{8,}}.+)*)",
            public.docstring,
            re.MULTILINE,
        )
        assert said is not None, f"{name} is not explained"
        assert SHAPE.search(said[1]), f"{name}: {said[1]}"
