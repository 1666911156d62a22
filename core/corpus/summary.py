"""A corpus of analysed sequences: the paper's Table 1, corpus-wide letters, typical prototypes.

Letters belong to one sequence (paper §3.4): ``AU12_A`` of two recordings need not be the same
pattern, and the paper compares prototypes by them all the same. :func:`corpus_letters` gives
letters that mean the same everywhere: the prototypes of all sequences are clustered once more.

References:
    The paper, §4 and Table 1.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..action_units import au_code, letter, parse_label, prototype_label
from ..backend import array_namespace, is_numpy, namespace
from ..clustering.spectral import spray
from ..errors import ConfigError
from ..stages import reduction
from ..types import LOST, NONE, StageLabels
from .relations import TemporalPrototype, includes

__all__ = [
    "PAPER_TABLES",
    "Column",
    "CorpusSequence",
    "LetterFigures",
    "PaperColumn",
    "Table",
    "Typical",
    "corpus_letters",
    "distinct",
    "label_order",
    "relabel",
    "table1",
    "transitions",
    "typical",
    "without_letters",
]

COMMON = 3
"""Most common prototypes kept per column of Table 1."""


@dataclass(frozen=True, slots=True)
class CorpusSequence:
    """What the evaluation needs of one sequence.

    Attributes:
        name: unique in the corpus.
        label: what was to be shown, such as ``happy``; empty where the corpus says nothing.
        frames: frames read.
        stages: its temporal prototype.
        seconds: duration of each stage.
    """

    name: str
    label: str
    frames: int
    stages: TemporalPrototype
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LetterFigures:
    """The figures of Table 1 that depend on what letters are used.

    Attributes:
        unique: different temporal prototypes.
        mean_stages: stages per sequence.
        mean_reduction: mean of 1 − stages/frames.
        common: the most common prototypes and how many sequences have them, most first.
    """

    unique: int
    mean_stages: float
    mean_reduction: float
    common: tuple[tuple[TemporalPrototype, int], ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of Table 1.

    Attributes:
        label: its label; None for the whole corpus.
        sequences: how many.
        mean_frames: frames per sequence.
        aus: with AU co-occurrence only, no letters.
        letters: with clustering, letters of each sequence as in the paper.
        corpus_letters: with clustering, letters of the corpus; None where not asked for.
    """

    label: str | None
    sequences: int
    mean_frames: float
    aus: LetterFigures
    letters: LetterFigures
    corpus_letters: LetterFigures | None


@dataclass(frozen=True, slots=True)
class Table:
    """Table 1: a column per label, ascending, the one without label last, and the whole corpus."""

    columns: tuple[Column, ...]
    whole: Column

    @property
    def all(self) -> tuple[Column, ...]:
        """All columns, the whole corpus last."""
        return (*self.columns, self.whole)


@dataclass(frozen=True, slots=True)
class PaperColumn:
    """One column of the paper's Table 1; None where the paper gives no figure.

    ``unique_aus`` and ``unique`` are the prototypes without and with clustering, ``reduction`` is
    0–1.
    """

    sequences: int | None
    mean_frames: float | None
    unique_aus: int | None
    unique: int | None
    mean_stages: float | None
    reduction: float | None


PAPER_TABLES: dict[str, dict[str | None, PaperColumn]] = {
    "ckplus": {
        "fear": PaperColumn(25, 21.84, 22, 25, 7.88, 0.64),
        "disgust": PaperColumn(59, 14.71, 58, 59, 6.85, 0.52),
        "happy": PaperColumn(69, 19.27, 56, 65, 6.57, 0.65),
        "sadness": PaperColumn(28, 19.53, 28, 28, 6.89, 0.63),
        "surprise": PaperColumn(83, 16.0, 36, 56, 3.4, 0.78),
        "anger": PaperColumn(45, 22.7, 43, 45, 8.07, 0.62),
        "contempt": PaperColumn(18, 12.9, 16, 17, 4.28, 0.65),
        "": PaperColumn(266, 18.26, 214, 243, 6.09, 0.66),
        None: PaperColumn(593, 18.1, 455, 525, 6.06, 0.66),
    },
    # The text of §4 gives these; there is no table of the Actor Study.
    "actorstudy": {None: PaperColumn(None, 129.0, None, None, 18.0, 0.86)},
}
"""Layout → label (``""``: without label, None: whole corpus) → what the paper reports."""


def without_letters(stages: Iterable[StageLabels]) -> TemporalPrototype:
    """Return the prototype with AU co-occurrence only: letters dropped, equal neighbours joined.

    >>> without_letters([("AU01_A",), ("AU01_B",), ("AU01_B", "AU02_A")])
    (('AU01',), ('AU01', 'AU02'))
    """
    bare = (
        s if s in (NONE, LOST) else tuple(au_code(parse_label(label)[0]) for label in s)
        for s in stages
    )
    return _joined((labels, 0.0) for labels in bare)[0]


def relabel(sequence: CorpusSequence, names: Mapping[str, str]) -> CorpusSequence:
    """Return a sequence with other letters; stages that become equal to the next are joined.

    Args:
        sequence: the sequence.
        names: new label of each of its labels.
    """
    renamed = (
        (s if s in (NONE, LOST) else tuple(names[label] for label in s), seconds)
        for s, seconds in zip(sequence.stages, sequence.seconds, strict=True)
    )
    stages, seconds = _joined(renamed)
    return replace(sequence, stages=stages, seconds=seconds)


def _joined(
    stages: Iterable[tuple[StageLabels, float]],
) -> tuple[TemporalPrototype, tuple[float, ...]]:
    labels: list[StageLabels] = []
    lengths: list[float] = []
    for stage, seconds in stages:
        if labels and labels[-1] == stage:
            lengths[-1] += seconds
        else:
            labels.append(stage)
            lengths.append(seconds)
    return tuple(labels), tuple(lengths)


def distinct(prototypes: Iterable[TemporalPrototype]) -> list[tuple[TemporalPrototype, int]]:
    """Count identical prototypes: most common first, then shorter ones, then by their labels."""
    counts = Counter(prototypes)
    return sorted(counts.items(), key=lambda pair: (-pair[1], len(pair[0]), pair[0]))


def label_order(label: str) -> tuple[bool, str]:
    """Return the sort key of the labels of Table 1: ascending, no label last."""
    return not label, label


def table1(
    sequences: Sequence[CorpusSequence], renamed: Sequence[CorpusSequence] | None = None
) -> Table:
    """Compute the paper's Table 1.

    Args:
        sequences: the corpus.
        renamed: the same sequences, in the same order, with corpus-wide letters.

    Raises:
        ConfigError: there is no sequence, or ``renamed`` are not the same ones.
    """
    if not sequences:
        raise ConfigError("no sequence was analysed, so there is nothing to put into a table")
    if renamed is not None and [s.name for s in renamed] != [s.name for s in sequences]:
        raise ConfigError("the sequences with corpus-wide letters are not those of the corpus")
    labels = sorted({s.label for s in sequences}, key=label_order)

    def column(label: str | None) -> Column:
        chosen = [n for n, s in enumerate(sequences) if label in (None, s.label)]
        own = [sequences[n] for n in chosen]
        return Column(
            label,
            len(own),
            float(np.mean([s.frames for s in own])),
            _figures([(without_letters(s.stages), s.frames) for s in own]),
            _figures([(s.stages, s.frames) for s in own]),
            None
            if renamed is None
            else _figures([(renamed[n].stages, renamed[n].frames) for n in chosen]),
        )

    return Table(tuple(column(label) for label in labels), column(None))


def _figures(found: Sequence[tuple[TemporalPrototype, int]]) -> LetterFigures:
    counted = distinct(stages for stages, _ in found)
    return LetterFigures(
        len(counted),
        float(np.mean([len(stages) for stages, _ in found])),
        float(np.mean([reduction(len(stages), frames) for stages, frames in found])),
        tuple(counted[:COMMON]),
    )


def corpus_letters(
    found: Sequence[Mapping[str, Any]], preset: str = "sequence", device: str = "cpu"
) -> list[dict[str, str]]:
    """Give the prototypes of all sequences letters that mean the same in the whole corpus.

    The mean maps of an AU, one per letter and sequence, go through the same SpRAy as the maps of a
    sequence. Letters go by frequency: ``A`` is the pattern found in most sequences, of equally
    frequent ones the earlier. Two letters of one sequence can become one.

    Args:
        found: of each sequence, label → descriptor ``(D,)`` of its prototype (of NumPy or CuPy,
            all alike), or None where the mean map holds nothing to compare. Such prototypes of an
            AU share the letter after all others.
        preset: SpRAy preset.
        device: where descriptors of NumPy are compared: ``cpu``, or ``cuda[:N]`` (CuPy).

    Returns:
        Of each sequence, label → label with the corpus's letter.

    Raises:
        DeviceError: the device cannot be used.
    """
    xp = namespace(device)
    by_au: dict[int, list[tuple[int, str]]] = {}
    for n, of_sequence in enumerate(found):
        for label in sorted(of_sequence):
            by_au.setdefault(parse_label(label)[0], []).append((n, label))
    names: list[dict[str, str]] = [{} for _ in found]
    for au, places in sorted(by_au.items()):
        usable = [(n, label) for n, label in places if found[n][label] is not None]
        clusters: list[int] = []
        if usable:
            rows = [found[n][label] for n, label in usable]
            # No two of them follow each other in time.
            alone = np.arange(len(rows), dtype=np.int64)
            own = array_namespace(*rows)
            descriptors = own.stack(rows)
            if is_numpy(own):
                descriptors = xp.asarray(descriptors)
            clusters = spray(descriptors, preset, runs=alone).labels.tolist()
        members = Counter(
            cluster for cluster, _ in {(c, n) for c, (n, _) in zip(clusters, usable, strict=True)}
        )
        order = sorted(members, key=lambda cluster: (-members[cluster], cluster))
        for (n, label), cluster in zip(usable, clusters, strict=True):
            names[n][label] = prototype_label(au, letter(order.index(cluster)))
        for n, label in places:
            names[n].setdefault(label, prototype_label(au, letter(len(order))))
    return names


@dataclass(frozen=True, slots=True)
class Typical:
    """A prototype that stands for many.

    Attributes:
        stages: the prototype.
        names: sequences that show exactly it.
        included_in: sequences that include it (those among them).
    """

    stages: TemporalPrototype
    names: tuple[str, ...]
    included_in: int


def typical(sequences: Sequence[CorpusSequence], count: int, longest: int) -> list[Typical]:
    """Choose the prototypes to show for a label (paper Figure 5).

    First those that most sequences share; where no two share one, those that most sequences
    include. Prototypes without any AU come last, those of more than ``longest`` stages only when
    there are no others.

    Args:
        sequences: those of one label.
        count: how many to choose at most.
        longest: stages that can be shown well.
    """
    names: dict[TemporalPrototype, list[str]] = {}
    for sequence in sequences:
        names.setdefault(sequence.stages, []).append(sequence.name)
    found = [
        Typical(stages, tuple(shown_by), sum(includes(s.stages, stages) for s in sequences))
        for stages, shown_by in names.items()
    ]

    def rank(item: Typical) -> tuple[Any, ...]:
        empty = all(stage in (NONE, LOST) for stage in item.stages)
        long = len(item.stages) > longest
        return empty, long, -len(item.names), -item.included_in, len(item.stages), item.stages

    return sorted(found, key=rank)[:count]


def transitions(
    prototypes: Iterable[TemporalPrototype],
) -> list[tuple[StageLabels, StageLabels, int]]:
    """Count the transitions from one stage to the next: most frequent first, then by labels."""
    counts = Counter(pair for p in prototypes for pair in itertools.pairwise(p))
    return sorted(
        ((a, b, n) for (a, b), n in counts.items()), key=lambda row: (-row[2], row[0], row[1])
    )
