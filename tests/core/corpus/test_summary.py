"""Table 1, corpus-wide letters and typical prototypes, each against a second computation."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from facestage.core.corpus.relations import TemporalPrototype
from facestage.core.corpus.summary import (
    PAPER_TABLES,
    CorpusSequence,
    corpus_letters,
    distinct,
    relabel,
    table1,
    transitions,
    typical,
    without_letters,
)
from facestage.core.errors import ConfigError, DeviceError
from facestage.core.types import LOST, NONE

from tests.support.device_twin import Device

SMILE: TemporalPrototype = (NONE, ("AU12_A",), ("AU12_B",), ("AU12_B", "AU25_A"))
BROWS: TemporalPrototype = (NONE, ("AU01_A", "AU02_A"))


def sequence(name: str, label: str, frames: int, stages: TemporalPrototype) -> CorpusSequence:
    return CorpusSequence(name, label, frames, stages, tuple(0.5 for _ in stages))


CORPUS = [
    sequence("a", "happy", 8, SMILE),
    sequence("b", "happy", 10, (NONE, ("AU12_A",), ("AU12_A", "AU25_A"))),
    sequence("c", "surprise", 10, BROWS),
    sequence("d", "surprise", 20, BROWS),
    sequence("e", "", 5, (LOST, NONE)),
]


def test_table_counts_and_means() -> None:
    table = table1(CORPUS)
    assert [c.label for c in table.all] == ["happy", "surprise", "", None]
    happy, surprise, unlabelled, whole = table.all
    assert (happy.sequences, happy.mean_frames) == (2, 9.0)
    # Without letters both smiles are (NONE) → (AU12) → (AU12, AU25).
    assert (happy.aus.unique, happy.letters.unique) == (1, 2)
    assert (happy.aus.mean_stages, happy.letters.mean_stages) == (3.0, 3.5)
    assert math.isclose(happy.letters.mean_reduction, ((1 - 4 / 8) + (1 - 3 / 10)) / 2)
    assert math.isclose(happy.aus.mean_reduction, ((1 - 3 / 8) + (1 - 3 / 10)) / 2)
    # A mean of ratios: not one minus the ratio of the means, 1 − 2/15.
    assert math.isclose(surprise.letters.mean_reduction, (0.8 + 0.9) / 2)
    assert surprise.letters.common == ((BROWS, 2),)
    assert unlabelled.sequences == 1
    assert (whole.sequences, whole.aus.unique, whole.letters.unique) == (5, 3, 4)
    assert whole.letters.common[0] == (BROWS, 2)
    assert whole.corpus_letters is None


def test_table_with_corpus_letters_has_both() -> None:
    same = {label: f"{label[:-1]}A" for label in ("AU12_A", "AU12_B", "AU25_A")}
    renamed = [relabel(s, same) if s.label == "happy" else s for s in CORPUS]
    assert renamed[0].stages == (NONE, ("AU12_A",), ("AU12_A", "AU25_A"))
    assert renamed[0].seconds == (0.5, 1.0, 0.5)
    happy = table1(CORPUS, renamed).columns[0]
    assert (happy.letters.unique, happy.letters.mean_stages) == (2, 3.5)
    assert happy.corpus_letters is not None
    assert (happy.corpus_letters.unique, happy.corpus_letters.mean_stages) == (1, 3.0)
    with pytest.raises(ConfigError, match="not those of the corpus"):
        table1(CORPUS, renamed[::-1])


def test_no_sequence_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no sequence"):
        table1([])


def test_without_letters() -> None:
    assert without_letters(SMILE) == (NONE, ("AU12",), ("AU12", "AU25"))
    assert without_letters((LOST, NONE, LOST)) == (LOST, NONE, LOST)
    assert without_letters(()) == ()


def test_distinct_is_ordered() -> None:
    first, second = (("AU01_A",),), (("AU02_A",),)
    assert distinct([second, first, SMILE, SMILE]) == [(SMILE, 2), (first, 1), (second, 1)]


def test_the_papers_table_is_consistent_with_itself() -> None:
    paper = PAPER_TABLES["ckplus"]
    labels = [column for label, column in paper.items() if label is not None]
    whole = paper[None]
    assert sum(c.sequences or 0 for c in labels) == whole.sequences == 593
    frames = sum((c.sequences or 0) * (c.mean_frames or 0) for c in labels) / 593
    stages = sum((c.sequences or 0) * (c.mean_stages or 0) for c in labels) / 593
    assert math.isclose(frames, whole.mean_frames or 0, abs_tol=0.15)
    assert math.isclose(stages, whole.mean_stages or 0, abs_tol=0.15)


def maps(seed: int) -> tuple[np.ndarray, ...]:
    """Return three clearly different patterns, and noise to add to them."""
    rng = np.random.default_rng(seed)
    patterns = np.zeros((3, 64), np.float32)
    for n in range(3):
        patterns[n, 20 * n : 20 * n + 16] = 1
    return patterns, rng.normal(0, 0.05, (40, 2, 64)).astype(np.float32)


def test_corpus_letters_mean_the_same_everywhere() -> None:
    """Each sequence names its patterns in its own order; the corpus sees through that."""
    patterns, noise = maps(0)
    found, truth = [], []
    for n in range(40):
        kinds = [(0, 1), (1, 0), (0, 0), (2, 0)][n % 4]
        found.append({f"AU12_{x}": patterns[k] + noise[n, i] for i, (x, k) in
                      enumerate(zip("AB", kinds, strict=True))})  # fmt: skip
        truth.append(dict(zip(("AU12_A", "AU12_B"), kinds, strict=True)))
        found[-1]["AU04_A"] = patterns[0] + noise[n, 0]
    names = corpus_letters(found)
    given = {}
    for of_sequence, kinds in zip(names, truth, strict=True):
        assert of_sequence["AU04_A"] == "AU04_A"
        for label, kind in kinds.items():
            given.setdefault(kind, set()).add(of_sequence[label])
    # Pattern 0 is in all 40 sequences, 1 in 20, 2 in 10.
    assert given == {0: {"AU12_A"}, 1: {"AU12_B"}, 2: {"AU12_C"}}


def test_corpus_letters_of_a_device_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns, noise = maps(3)
    found = [
        {"AU12_A": patterns[n % 3] + noise[n, 0], "AU04_A": patterns[n % 2] + noise[n, 1]}
        for n in range(40)
    ]
    expected = corpus_letters(found)
    device = Device.install(monkeypatch)
    # Descriptors of the device itself, as well as those that are brought there.
    there = [{label: device.asarray(row) for label, row in of.items()} for of in found]
    assert corpus_letters(there) == expected
    assert device.handed_over
    assert max(np.prod(shape) for shape in device.handed_over) <= 40 * 7
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=RuntimeError)
    )
    monkeypatch.setattr(device, "cuda", cuda, raising=False)
    device.handed_over.clear()
    assert corpus_letters(found, device="cuda") == expected
    assert device.handed_over
    with pytest.raises(DeviceError, match=r"cuda:3 does not exist.*--window-device cpu"):
        corpus_letters(found, device="cuda:3")


def test_a_prototype_without_relevance_gets_a_letter_of_its_own() -> None:
    patterns, noise = maps(1)
    found = [{"AU12_A": patterns[0] + noise[n, 0]} for n in range(6)]
    found[2]["AU12_B"] = None
    names = corpus_letters(found)
    assert names[0] == {"AU12_A": "AU12_A"}
    assert names[2] == {"AU12_A": "AU12_A", "AU12_B": "AU12_B"}
    assert corpus_letters([{}, {"AU01_A": None}]) == [{}, {"AU01_A": "AU01_A"}]


def test_typical_prefers_the_shared_then_the_included() -> None:
    short: TemporalPrototype = (("AU12_A",),)
    long: TemporalPrototype = (("AU12_A",), NONE, ("AU12_A", "AU25_A"))
    given = [
        sequence("a", "", 9, (NONE,)),
        sequence("b", "", 9, (NONE,)),
        sequence("c", "", 9, SMILE),
        sequence("d", "", 9, SMILE),
        sequence("e", "", 9, long),
        sequence("f", "", 9, short),
    ]
    chosen = typical(given, count=9, longest=4)
    assert [t.stages for t in chosen] == [SMILE, short, long, (NONE,)]
    assert [(t.names, t.included_in) for t in chosen[:2]] == [(("c", "d"), 2), (("f",), 4)]
    assert [t.stages for t in typical(given, count=2, longest=2)] == [short, SMILE]


def test_transitions_are_counted() -> None:
    a, b = ("AU01_A",), ("AU02_A",)
    assert transitions([(a, b, a, b), (NONE, a), (b,)]) == [(a, b, 2), (b, a, 1), (NONE, a, 1)]
