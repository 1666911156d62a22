"""From the analysed sequences of a corpus to its figures: Table 1, relations, patterns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...core.config import MIN_SHARE
from ...core.corpus.mining import Mined, mine_closed
from ...core.corpus.relations import InclusionOrder, TemporalPrototype, inclusion_order
from ...core.corpus.summary import (
    CorpusSequence,
    Table,
    corpus_letters,
    distinct,
    label_order,
    relabel,
    table1,
    without_letters,
)
from ..datasets.sequences import SequenceItem
from .store import CorpusFolder, Stored

__all__ = ["Evaluation", "EvaluationOptions", "Related", "evaluate_corpus"]

MOST_WORK = 250_000
"""Bound on the search for patterns, stages of the patterns visited (benchmarks/mining.py says what
that takes). Beyond it the least support rises, and the outputs say to what."""


@dataclass(frozen=True, slots=True, eq=False)
class Related:
    """Identity, inclusion and frequent patterns under one use of letters.

    Attributes:
        letters: ``none`` (AU co-occurrence only), ``sequence`` or ``corpus``.
        sequences: the sequences with their prototypes under that use.
        counted: different prototypes with the number of sequences that show each.
        groups: the labels, in the order of Table 1.
        order: inclusions between them, with their support in each of the groups.
        mined: frequent closed sub-sequences.
    """

    letters: str
    sequences: tuple[CorpusSequence, ...]
    counted: tuple[tuple[TemporalPrototype, int], ...]
    groups: tuple[str, ...]
    order: InclusionOrder
    mined: Mined


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A corpus, evaluated.

    Attributes:
        layout: how it lies on disk. ``folder``: where. ``facts``: its settings, by name.
        stored: the analysed sequences, in the order of the corpus.
        failed: the others, each with the reason.
        waiting: sequences not analysed yet.
        table: Table 1.
        related: under ``none``, ``sequence`` and, if asked for, ``corpus`` letters.
    """

    layout: str
    folder: str
    facts: tuple[tuple[str, str], ...]
    stored: tuple[Stored, ...]
    failed: tuple[tuple[SequenceItem, str], ...]
    waiting: int
    table: Table
    related: dict[str, Related]

    @property
    def shown(self) -> Related:
        """The relations under the letters that mean most: the corpus's, else the sequence's."""
        return self.related.get("corpus", self.related["sequence"])


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How a corpus is evaluated.

    Attributes:
        preset: SpRAy preset for corpus-wide letters.
        across: whether to give letters that mean the same in the whole corpus.
        min_share: least support of a pattern, as a share of the sequences; at least two count.
        device: where corpus-wide letters are computed: ``cpu`` (NumPy) or ``cuda[:N]`` (CuPy).
    """

    preset: str = "sequence"
    across: bool = False
    min_share: float = MIN_SHARE
    device: str = "cpu"


def evaluate_corpus(
    folder: CorpusFolder,
    items: Sequence[SequenceItem],
    options: EvaluationOptions = EvaluationOptions(),
    *,
    layout: str,
    source: str,
    facts: Sequence[tuple[str, str]] = (),
) -> Evaluation:
    """Evaluate what a folder holds of a corpus.

    Args:
        folder: the output folder.
        items: the sequences of the corpus.
        options: how.
        layout, source, facts: to write into the result.

    Raises:
        ConfigError: no sequence was analysed, or a file of the folder was changed.
        DeviceError: the device cannot be used.
    """
    stored: list[Stored] = []
    failed: list[tuple[SequenceItem, str]] = []
    for item in items:
        state = folder.state(item)
        if state == "done":
            stored.append(folder.read(item))
        elif state == "failed":
            failed.append((item, folder.reason(item)))
    sequences = [s.sequence for s in stored]
    renamed = None
    if options.across:
        descriptors = [folder.descriptors(s.item) for s in stored]
        names = corpus_letters(descriptors, options.preset, options.device)
        renamed = [relabel(s, n) for s, n in zip(sequences, names, strict=True)]
    table = table1(sequences, renamed)
    bare = [replace(s, stages=without_letters(s.stages), seconds=()) for s in sequences]
    uses = {"none": bare, "sequence": sequences, **({"corpus": renamed} if renamed else {})}
    least = max(2, math.ceil(options.min_share * len(sequences)))
    return Evaluation(
        layout,
        source,
        tuple(facts),
        tuple(stored),
        tuple(failed),
        len(items) - len(stored) - len(failed),
        table,
        {letters: _related(letters, of, least) for letters, of in uses.items()},
    )


def _related(letters: str, sequences: Sequence[CorpusSequence], least: int) -> Related:
    prototypes = [s.stages for s in sequences]
    counted = distinct(prototypes)
    groups = sorted({s.label for s in sequences}, key=label_order)
    number = {p: n for n, (p, _) in enumerate(counted)}
    counts = np.zeros((len(counted), len(groups)), np.int64)
    for s in sequences:
        counts[number[s.stages], groups.index(s.label)] += 1
    return Related(
        letters,
        tuple(sequences),
        tuple(counted),
        tuple(groups),
        inclusion_order([p for p, _ in counted], counts),
        mine_closed(
            prototypes,
            min_support=least,
            labels=[s.label for s in sequences],
            budget=MOST_WORK,
        ),
    )
