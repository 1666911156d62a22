"""Names in tables: whatever a file or a label is called, it stays text where a table is opened."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

__all__ = ["csv_text", "markdown_text", "plain_text"]

_FORMULA = tuple("=+-@\t\r")
"""What a spreadsheet takes for the beginning of a formula."""
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_MARKS = re.compile(r"[\\`*_\[\]<>|~&]")
_SPACES = re.compile(r"[\s\x00-\x1f\x7f]+")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as CSV.

    A cell that a spreadsheet would take for a formula, as it may be the name of a file or a label,
    gets an apostrophe in front; so does one that begins with an apostrophe and then such a sign, so
    that the first apostrophe can be taken off again. Numbers stay numbers.

    Args:
        header: names of the columns.
        rows: their cells.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_cell(text) for text in header])
    writer.writerows([_cell(text) for text in row] for row in rows)
    return buffer.getvalue()


def _cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula.

    >>> [_cell(x) for x in ("=1+1", "-1.5e-7", "-x", "'=1", "AU12_A")]
    ["'=1+1", '-1.5e-7', "'-x", "''=1", 'AU12_A']
    """
    if text.lstrip("'").startswith(_FORMULA) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def plain_text(cell: str) -> str:
    """Return what a cell of :func:`csv_text` was made of.

    >>> [plain_text(x) for x in ("'=1+1", "''=1", "'quoted'", "AU12_A")]
    ['=1+1', "'=1", "'quoted'", 'AU12_A']
    """
    protected = cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA)
    return cell[1:] if protected else cell


def markdown_text(text: str) -> str:
    r"""Return text that means nothing to Markdown, within a line or a cell of a table.

    >>> print(markdown_text("a|b `c`\n# <d>"))
    a\|b \`c\` # \<d\>
    """
    return _MARKS.sub(r"\\\g<0>", _SPACES.sub(" ", text))
