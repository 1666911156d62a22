"""References of docstrings as the site writes them: for mkdocstrings.

Docstrings name what they mean as Sphinx does: the word ``class`` between colons, then the name. The
site shows the last part of the name.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["Roles", "plain_references"]

_ROLE = re.compile(r":(?:class|func|data|meth|attr|mod|exc):`(~?)([\w.]+)`")
_LITERAL = re.compile(r"(?<!`)``([^`]+)``(?!`)")
_EXAMPLE = re.compile(r"^( *)(>>> .*(?:\n\1\S.*)*)", re.MULTILINE)


def plain_references(text: str) -> str:
    """Turn roles and literals of a docstring into Markdown.

    >>> plain_references("See :func:`~a.b.c`, :meth:`load` and ``x``.")
    'See `c`, `load` and `x`.'
    """
    text = _EXAMPLE.sub(lambda example: _fenced(example[2], example[1]), text)
    text = _ROLE.sub(lambda role: f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`", text)
    return _LITERAL.sub(r"`\1`", text)


def _fenced(example: str, indent: str) -> str:
    """Return an example, whose first line has lost its indent, as a block of code."""
    return f"{indent}```pycon\n{indent}{example}\n{indent}```"


class Roles(griffe.Extension):
    """Rewrites the docstring of everything that is loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = plain_references(obj.docstring.value)
