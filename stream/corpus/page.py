"""What a corpus looks like: its pictures, and one page that holds them and links every report."""

from __future__ import annotations

import html
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ...core.action_units import au_code, parse_label
from ...core.corpus.summary import CorpusSequence, typical
from ...core.render import PanelEntry, au_colour, panel
from ...core.stages import format_prototype, reduction
from ...core.types import LOST, NONE, StageLabels
from ..offline.encoding import jpeg_uri, png_bytes
from ..offline.report import template
from . import tables
from .evaluate import Evaluation, Related
from .graphs import histograms, transition_graph
from .lattice import lattice_picture
from .store import MOST_TILES, CorpusFolder
from .tables import LETTERS, figures_of, label_text, table1_rows

__all__ = ["write_outputs"]

TYPICAL = 4
"""Prototypes shown per label."""
TYPICAL_STAGES = 6
"""Stages up to which a prototype is shown before longer ones."""
PANEL_WIDTH = 1320
"""Width of their pictures, pixels: six stages side by side."""
MOST_INLINE = 500
"""Sequences whose rows are in the page itself. Rows of more are in a file beside it, and drawn so
many at a time: with ten thousand inside, the page had ten megabytes."""
ROWS_FILE = "sequences.js"
"""That file. It is a script: a page that is opened from a folder may not fetch data."""
_PILLS = 10
"""Stages of a sequence that are drawn in its row."""
MOST_ROWS = 200
"""Rows of the page's tables of prototypes and patterns; all are in the CSV files."""


@dataclass(frozen=True, slots=True, eq=False)
class _LabelPart:
    """The section of one label: its picture as JPEG in an address, its graph as SVG.

    ``width`` is that of the picture in percent of the widest one, so that faces have one size on
    the page; ``shown`` the sequences it is taken from, each with its report.
    """

    key: str
    name: str
    sequences: int
    picture: str
    width: float
    shown: tuple[tuple[str, str], ...]
    graph: str


def write_outputs(evaluation: Evaluation, folder: CorpusFolder) -> list[str]:
    """Write tables, pictures and ``index.html``; return their names.

    Raises:
        ConfigError: the disk is full, or a file cannot be written.
    """
    texts = {
        "table1.csv": tables.table1_csv(evaluation),
        "table1.md": tables.markdown(evaluation),
        "prototypes.csv": tables.prototypes_csv(evaluation),
        "lattice.csv": tables.lattice_csv(evaluation),
        "patterns.csv": tables.patterns_csv(evaluation),
        "transitions.csv": tables.transitions_csv(evaluation),
        "stages.csv": tables.stages_csv(evaluation),
    }
    parts = _write_labels(evaluation, folder)
    stages, durations = _distributions(evaluation)
    folder.write_text("figures/stages.svg", stages)
    folder.write_text("figures/durations.svg", durations)
    lattice = lattice_picture(evaluation.shown)
    if lattice.svg:
        folder.write_text("figures/lattice.svg", lattice.svg)
    values = {
        "evaluation": evaluation,
        "heads": [label_text(c.label) for c in evaluation.table.all],
        "rows": table1_rows(evaluation),
        "letters": LETTERS,
        "parts": parts,
        "common": _common(evaluation),
        "stages": stages,
        "durations": durations,
        "lattice": lattice,
        "figures": _headline(evaluation),
        "prototypes": _prototype_rows(evaluation.shown),
        "patterns": _pattern_rows(evaluation),
        "pattern_labels": [label_text(c.label) for c in evaluation.table.columns],
        "most": MOST_ROWS,
        "most_sequences": MOST_INLINE,
    }
    rows = _sequence_rows(evaluation)
    beside = len(rows) > MOST_INLINE
    values |= {"sequences": [] if beside else rows, "rows_file": ROWS_FILE if beside else ""}
    if beside:
        texts[ROWS_FILE] = _rows_script(rows)
    else:
        folder.remove(ROWS_FILE)
    texts["table1.html"] = template("table1.html").render(**values)
    texts["index.html"] = template("corpus.html").render(**values)
    for name, text in texts.items():
        folder.write_text(name, text)
    return [*texts, "figures"]


def _write_labels(evaluation: Evaluation, folder: CorpusFolder) -> list[_LabelPart]:
    """Write the pictures of each label; return its section of the page."""
    table = evaluation.table
    reports = {stored.item.name: stored.report for stored in evaluation.stored}
    parts: list[_LabelPart] = []
    # With one label only, the whole corpus would be the same again.
    for column in table.all if len(table.columns) > 1 else table.columns:
        name = label_text(column.label)
        key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "label"
        while any(part.key == key for part in parts):
            key += "-2"
        picture, names = _typical_picture(evaluation, folder, column.label)
        bare = [s.stages for s in _of(evaluation.related["none"], column.label)]
        graph = transition_graph(bare)
        folder.write_bytes(f"figures/typical_{key}.png", png_bytes(picture))
        folder.write_text(f"figures/transitions_{key}.svg", graph)
        width = round(100 * min(1.0, picture.shape[1] / PANEL_WIDTH), 1)
        shown = tuple((name, reports[name]) for name in names)
        uri = jpeg_uri(picture)
        parts.append(_LabelPart(key, name, column.sequences, uri, width, shown, graph))
    return parts


def _of(related: Related, label: str | None) -> list[CorpusSequence]:
    return [s for s in related.sequences if label in (None, s.label)]


def _typical_picture(
    evaluation: Evaluation, folder: CorpusFolder, label: str | None
) -> tuple[NDArray[np.uint8], list[str]]:
    """Draw the typical prototypes of a label; return also whose pictures stand for them."""
    items = {s.item.name: s.item for s in evaluation.stored}
    stages_of = {s.name: s.stages for s in evaluation.related["sequence"].sequences}
    sequences = _of(evaluation.shown, label)
    entries, names = [], []
    for chosen in typical(sequences, TYPICAL, TYPICAL_STAGES):
        name = chosen.names[0]
        names.append(name)
        tiles = folder.tiles(items[name])
        same = len(stages_of[name]) == len(chosen.stages)
        # Corpus-wide letters can join stages; then the first picture of each joined run stands.
        places = (
            range(len(chosen.stages)) if same else _joined_places(stages_of[name], chosen.stages)
        )
        tiles = [tiles[n] for n in places if n < len(tiles)][:MOST_TILES]
        shown = len(chosen.names)
        title = f"{shown} of {len(sequences)} sequence{'s' if len(sequences) != 1 else ''}"
        note = name
        if len(tiles) < len(chosen.stages):
            note += f"; first {len(tiles)} of {len(chosen.stages)} stages"
        entries.append(PanelEntry(title, note, chosen.stages, tiles))
    heading = f"Typical temporal prototypes: {label_text(label)}"
    return panel(heading, entries, PANEL_WIDTH), names


def _joined_places(stages: Sequence[StageLabels], joined: Sequence[StageLabels]) -> list[int]:
    """Return the first of the stages that make each joined one, by their AUs."""
    places, at = [], 0
    for stage in joined:
        wanted = _aus(stage)
        while at < len(stages) - 1 and _aus(stages[at]) != wanted:
            at += 1
        places.append(at)
        at += 1
    return places


def _aus(stage: StageLabels) -> tuple[int, ...] | StageLabels:
    return stage if stage in (NONE, LOST) else tuple(parse_label(x)[0] for x in stage)


def _distributions(evaluation: Evaluation) -> tuple[str, str]:
    shown = evaluation.shown
    counts = {
        label_text(c.label): [float(len(s.stages)) for s in _of(shown, c.label)]
        for c in evaluation.table.all
    }
    seconds = {
        label_text(c.label): [max(x, 1e-3) for s in _of(shown, c.label) for x in s.seconds]
        for c in evaluation.table.all
    }
    return (
        histograms(counts, "stages per sequence"),
        histograms(seconds, "duration of a stage, seconds", log=True),
    )


def _headline(evaluation: Evaluation) -> list[tuple[str, str]]:
    whole = evaluation.table.whole
    figures = whole.corpus_letters or whole.letters
    return [
        (str(whole.sequences), "sequences"),
        (f"{whole.mean_frames:.1f}", "frames on average"),
        (f"{figures.mean_stages:.2f}", "stages on average"),
        (f"{100 * figures.mean_reduction:.1f} %", "shorter description"),
        (str(whole.aus.unique), "unique prototypes, AUs only"),
        (str(figures.unique), "unique prototypes, clustered"),
    ]


def pills(stages: Sequence[StageLabels]) -> str:
    """Return a temporal prototype as HTML."""
    return '<span class="to">→</span>'.join(
        f'<span class="stage">{"".join(_pill(label) for label in stage)}</span>' for stage in stages
    )


def _pill(label: str) -> str:
    text = html.escape(label)
    if label in (NONE[0], LOST[0]):
        return f'<span class="pill {label.lower()}">{text}</span>'
    colour = au_colour(parse_label(label)[0])
    return f'<span class="pill" style="background:{colour}">{text}</span>'


def _common(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return the most common prototypes of each column, under each use of letters."""
    rows = []
    for use in evaluation.related:
        for column in evaluation.table.all:
            for stages, count in figures_of(column, use).common:
                rows.append(
                    {
                        "use": LETTERS[use],
                        "label": label_text(column.label),
                        "count": count,
                        "of": column.sequences,
                        "pills": pills(stages[:12]) + ("…" if len(stages) > 12 else ""),
                    }
                )
    return rows


def _prototype_rows(related: Related) -> list[dict[str, Any]]:
    labels: dict[object, Counter[str]] = {}
    for s in related.sequences:
        labels.setdefault(s.stages, Counter())[label_text(s.label)] += 1
    # What many others include says most about the corpus, then what many sequences share.
    order = sorted(
        range(len(related.counted)),
        key=lambda n: (-(related.order.including[n] + related.counted[n][1]), n),
    )
    return [
        {
            "count": related.counted[n][1],
            "including": int(related.order.including[n]),
            "included": int(related.order.included[n]),
            "stages": len(related.counted[n][0]),
            "labels": ", ".join(
                f"{k} {v}" for k, v in sorted(labels[related.counted[n][0]].items())
            ),
            "pills": pills(related.counted[n][0][:12])
            + ("…" if len(related.counted[n][0]) > 12 else ""),
        }
        for n in order[:MOST_ROWS]
    ]


def _pattern_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    mined = evaluation.shown.mined
    # In the order of Table 1.
    order = [
        (c.label, list(mined.totals).index(c.label))
        for c in evaluation.table.columns
        if c.label is not None
    ]
    rows = []
    for pattern in mined.patterns:
        lifts = {label: mined.lift(pattern, label) for label, _ in order}
        most = max(lifts.values())
        best = [label_text(label) for label, lift in lifts.items() if math.isclose(lift, most)]
        rows.append(
            {
                "support": pattern.support,
                "share": pattern.support / sum(mined.totals.values()),
                "stages": len(pattern.stages),
                "by_label": [pattern.by_label[n] for _, n in order],
                "lift": most,
                "best": ", ".join(best) if len(best) < len(order) else "every label",
                "pills": pills(pattern.stages),
            }
        )
    rows.sort(key=lambda row: -row["support"])
    return rows[:MOST_ROWS]


def _sequence_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    shown = {s.name: s for s in evaluation.shown.sequences}
    rows = []
    for stored in evaluation.stored:
        item = stored.item
        sequence = shown[item.name]
        count = len(sequence.stages)
        rows.append(
            {
                "item": item,
                "label": label_text(item.label),
                "report": stored.report,
                "frames": sequence.frames,
                "stages": count,
                "reduction": reduction(count, sequence.frames),
                "coded": " ".join(map(au_code, item.coded or ())),
                "text": format_prototype(sequence.stages),
                "pills": pills(sequence.stages[:_PILLS])
                + (f" … {count - _PILLS} more" if count > _PILLS else ""),
                "prototype": sequence.stages,
            }
        )
    return rows


def _rows_script(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a script that assigns them; labels are named once."""
    numbers: dict[str, int] = {}

    def number(label: str) -> int:
        return numbers.setdefault(label, len(numbers))

    sequences = [
        [
            row["item"].name,
            quote(row["report"]) if row["report"] else None,
            row["label"],
            row["item"].subject,
            row["item"].view,
            row["frames"],
            row["stages"],
            round(row["reduction"], 4),
            row["coded"],
            [list(map(number, stage)) for stage in row["prototype"][:_PILLS]],
            sorted({number(label) for stage in row["prototype"] for label in stage}),
        ]
        for row in rows
    ]
    colours = [
        [label, None if label in (NONE[0], LOST[0]) else au_colour(parse_label(label)[0])]
        for label in numbers
    ]
    data = json.dumps({"pills": colours, "sequences": sequences}, separators=(",", ":"))
    return f"globalThis.corpusSequences = {data};\n"
