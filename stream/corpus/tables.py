"""The tables of a corpus as text: Table 1, prototypes, patterns, transitions, manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...core.action_units import au_code
from ...core.corpus.summary import PAPER_TABLES, Column, LetterFigures, PaperColumn, transitions
from ...core.stages import format_prototype
from ..datasets.sequences import SequenceItem
from ..offline.cells import csv_text, markdown_text
from .evaluate import Evaluation, Related
from .store import Stored

__all__ = [
    "LETTERS",
    "Row",
    "counted",
    "figures_of",
    "label_text",
    "lattice_csv",
    "manifest_csv",
    "markdown",
    "patterns_csv",
    "prototypes_csv",
    "stages_csv",
    "table1_csv",
    "table1_lines",
    "table1_rows",
    "transitions_csv",
]

LETTERS = {
    "none": "AU co-occurrence only",
    "sequence": "clustering, letters per sequence",
    "corpus": "clustering, letters across the corpus",
}
"""Name in the tables of each use of letters."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of Table 1 as text: a cell per column, and beside it the paper's figure.

    Cells of the paper are empty where it gives none, and ``paper`` is None where the corpus is not
    the paper's.
    """

    name: str
    ours: tuple[str, ...]
    paper: tuple[str, ...] | None


def label_text(label: str | None) -> str:
    """Return how a column is headed.

    >>> [label_text(x) for x in ("happy", "", None)]
    ['happy', 'no label', 'entire corpus']
    """
    return "entire corpus" if label is None else label or "no label"


def counted(number: int) -> str:
    """Return how many sequences in words.

    >>> counted(1), counted(2)
    ('1 sequence', '2 sequences')
    """
    return f"{number} sequence{'' if number == 1 else 's'}"


def table1_rows(evaluation: Evaluation) -> list[Row]:
    """Return the rows of Table 1, in the order of the paper."""
    columns = evaluation.table.all
    paper = PAPER_TABLES.get(evaluation.layout)

    def row(name: str, ours: Sequence[str], attribute: str, form: str) -> Row:
        if paper is None or not attribute:
            return Row(name, tuple(ours), None)
        cells = []
        for column in columns:
            known = paper.get(column.label)
            value = None if known is None else getattr(known, attribute)
            percent = form == ".0%"
            text = f"{100 * value:.0f} %" if percent and value else format(value or 0, form)
            cells.append("" if value is None else text)
        return Row(name, tuple(ours), tuple(cells))

    rows = [
        row("sequences", [str(c.sequences) for c in columns], "sequences", "d"),
        row("mean frames", [f"{c.mean_frames:.2f}" for c in columns], "mean_frames", ".2f"),
        row(
            f"unique temporal prototypes ({LETTERS['none']})",
            [str(c.aus.unique) for c in columns],
            "unique_aus",
            "d",
        ),
    ]
    uses = ["sequence", *(["corpus"] if columns[-1].corpus_letters else [])]
    for use in uses:
        # The paper's letters are those of each sequence.
        cited = use == "sequence"
        figures = [figures_of(c, use) for c in columns]
        rows += [
            row(
                f"unique temporal prototypes ({LETTERS[use]})",
                [str(f.unique) for f in figures],
                "unique" if cited else "",
                "d",
            ),
            row(
                f"mean stages ({LETTERS[use]})",
                [f"{f.mean_stages:.2f}" for f in figures],
                "mean_stages" if cited else "",
                ".2f",
            ),
            row(
                f"mean reduction in description length ({LETTERS[use]})",
                [f"{100 * f.mean_reduction:.1f} %" for f in figures],
                "reduction" if cited else "",
                ".0%",
            ),
        ]
    return rows


_HEADS = {
    "none": (("AUs only", "unique"),),
    "sequence": (("clustered", "unique"), ("", "stages"), ("", "shorter")),
    "corpus": (("corpus-wide", "unique"), ("", "stages"), ("", "shorter")),
}


def table1_lines(evaluation: Evaluation) -> list[str]:
    """Return Table 1 as text for a terminal, a line per label.

    The paper's figures stand in a line below ours, where it has any.
    """
    rows = table1_rows(evaluation)
    heads = [("", ""), ("", "sequences"), ("", "frames")]
    for use in evaluation.related:
        heads += _HEADS[use]
    lines = [list(line) for line in zip(*heads, strict=True)]
    for n, column in enumerate(evaluation.table.all):
        lines.append([label_text(column.label)[:24], *(row.ours[n] for row in rows)])
        cited = ["" if row.paper is None else row.paper[n] for row in rows]
        if any(cited):
            lines.append(["  paper", *cited])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in lines
    ]


def markdown(evaluation: Evaluation) -> str:
    """Return Table 1 as Markdown."""
    heads = [label_text(c.label) for c in evaluation.table.all]
    lines = [
        f"# Table 1: {markdown_text(evaluation.folder)}",
        "",
        "| | " + " | ".join(map(markdown_text, heads)) + " |",
        "|---|" + "---|" * len(heads),
    ]
    for row in table1_rows(evaluation):
        lines.append(f"| {row.name} | " + " | ".join(row.ours) + " |")
        if row.paper is not None:
            lines.append("| *the same, from the paper* | " + " | ".join(row.paper) + " |")
    for use in evaluation.related:
        lines += ["", f"Most common temporal prototypes ({LETTERS[use]}):", ""]
        for column in evaluation.table.all:
            common = "; ".join(
                f"{count} × {format_prototype(stages)}"
                for stages, count in figures_of(column, use).common
            )
            lines.append(f"- {markdown_text(label_text(column.label))}: {common}")
    lines += ["", *(f"- {name}: {markdown_text(value)}" for name, value in evaluation.facts)]
    if evaluation.failed:
        lines.append(f"- left out: {counted(len(evaluation.failed))}, see manifest.csv")
    if evaluation.waiting:
        lines.append(f"- **incomplete**: {counted(evaluation.waiting)} not analysed yet")
    return "\n".join(lines) + "\n"


def table1_csv(evaluation: Evaluation) -> str:
    """Return Table 1 with one line per label; the paper's figures in columns ``paper_…``."""
    paper = PAPER_TABLES.get(evaluation.layout)
    uses = list(evaluation.related)
    header = ["label", "sequences", "mean_frames"]
    for use in uses:
        header += [
            f"unique_{use}", f"mean_stages_{use}", f"mean_reduction_{use}",
            f"most_common_{use}", f"most_common_count_{use}",
        ]  # fmt: skip
    names = tuple(PaperColumn.__dataclass_fields__)
    header += [f"paper_{name}" for name in names] if paper is not None else []
    rows = []
    for column in evaluation.table.all:
        cells = [label_text(column.label), str(column.sequences), f"{column.mean_frames:.6g}"]
        for use in uses:
            figures = figures_of(column, use)
            stages, count = figures.common[0]
            cells += [
                str(figures.unique),
                f"{figures.mean_stages:.6g}",
                f"{figures.mean_reduction:.6g}",
                format_prototype(stages),
                str(count),
            ]
        if paper is not None:
            known = paper.get(column.label)
            cells += [_known(known, name) for name in names]
        rows.append(cells)
    return csv_text(header, rows)


def prototypes_csv(evaluation: Evaluation) -> str:
    """Return every different prototype: who shows it, and how many others it is included in."""
    header = ["letters", "id", "sequences", "stages", "includes", "included_in", "by_label"]
    rows = []
    for use, related in evaluation.related.items():
        shown = _labels_of(related)
        for n, (stages, count) in enumerate(related.counted):
            rows.append(
                [
                    use,
                    str(n),
                    str(count),
                    str(len(stages)),
                    str(related.order.included[n]),
                    str(related.order.including[n]),
                    shown[n],
                    format_prototype(stages),
                ]
            )
    return csv_text([*header, "prototype"], rows)


def lattice_csv(evaluation: Evaluation) -> str:
    """Return the direct inclusions: ``inner`` in ``outer``, by the ids of ``prototypes.csv``."""
    rows = (
        [use, str(inner), str(outer)]
        for use, related in evaluation.related.items()
        for inner, outer in related.order.covers.tolist()
    )
    return csv_text(["letters", "inner", "outer"], rows)


def patterns_csv(evaluation: Evaluation) -> str:
    """Return the frequent closed sub-sequences with support and lift per label.

    ``complete_from`` is the least support from which all are there, for that use of letters.
    """
    labels = [c.label for c in evaluation.table.columns if c.label is not None]
    header = ["letters", "pattern", "stages", "support", "share", "complete_from"]
    header += [f"support_{label_text(x)}" for x in labels]
    header += [f"lift_{label_text(x)}" for x in labels]
    rows = []
    for use, related in evaluation.related.items():
        mined = related.mined
        order = list(mined.totals)
        total = sum(mined.totals.values())
        for pattern in mined.patterns:
            rows.append(
                [
                    use,
                    format_prototype(pattern.stages),
                    str(len(pattern.stages)),
                    str(pattern.support),
                    f"{pattern.support / total:.4f}",
                    str(mined.min_support),
                    *(str(pattern.by_label[order.index(x)]) for x in labels),
                    *(f"{mined.lift(pattern, x):.3f}" for x in labels),
                ]
            )
    return csv_text(header, rows)


def transitions_csv(evaluation: Evaluation) -> str:
    """Return how often one stage follows another, per label, without letters."""
    rows = []
    for column in evaluation.table.all:
        prototypes = [
            s.stages
            for s in evaluation.related["none"].sequences
            if column.label in (None, s.label)
        ]
        rows += [
            [label_text(column.label), "+".join(a), "+".join(b), str(count)]
            for a, b, count in transitions(prototypes)
        ]
    return csv_text(["label", "from", "to", "count"], rows)


def stages_csv(evaluation: Evaluation) -> str:
    """Return every stage of every sequence with its duration, for statistics elsewhere."""
    rows = []
    for use in [u for u in evaluation.related if u != "none"]:
        for s in evaluation.related[use].sequences:
            for n, (labels, seconds) in enumerate(zip(s.stages, s.seconds, strict=True), 1):
                rows.append([use, s.name, s.label, str(n), "+".join(labels), f"{seconds:.4f}"])
    return csv_text(["letters", "name", "label", "stage", "labels", "seconds"], rows)


def manifest_csv(stored: Iterable[Stored], others: Iterable[tuple[SequenceItem, str, str]]) -> str:
    """Return what became of every sequence.

    Args:
        stored: the analysed ones.
        others: the rest: item, state, reason.
    """
    header = ["name", "state", "reason", "label", "subject", "view", "coded_aus", "frames"]
    header += ["stages", "prototype", "source"]
    rows: list[list[str]] = []
    for s in stored:
        coded = "" if s.item.coded is None else " ".join(map(au_code, s.item.coded))
        rows.append(
            [
                s.item.name, "done", "", s.item.label, s.item.subject, s.item.view, coded,
                str(s.sequence.frames), str(len(s.sequence.stages)),
                format_prototype(s.sequence.stages), s.item.source,
            ]
        )  # fmt: skip
    for item, state, reason in others:
        rows.append(
            [item.name, state, reason, item.label, item.subject, item.view, *[""] * 4, item.source]
        )
    return csv_text(header, sorted(rows, key=lambda cells: cells[0]))


def figures_of(column: Column, use: str) -> LetterFigures:
    """Return the figures of a column under one use of letters, see :data:`LETTERS`."""
    if use == "none":
        return column.aus
    if use == "sequence" or column.corpus_letters is None:
        return column.letters
    return column.corpus_letters


def _labels_of(related: Related) -> list[str]:
    counts: dict[object, dict[str, int]] = {}
    for s in related.sequences:
        of = counts.setdefault(s.stages, {})
        name = label_text(s.label)
        of[name] = of.get(name, 0) + 1
    return [
        ";".join(f"{label}={n}" for label, n in sorted(counts[stages].items()))
        for stages, _ in related.counted
    ]


def _known(column: PaperColumn | None, name: str) -> str:
    value = None if column is None else getattr(column, name)
    return "" if value is None else f"{value:g}"
