"""Inclusion of temporal prototypes against its definition, and the order it makes."""

from __future__ import annotations

import itertools
import random

import pytest
from facestage.core.corpus.relations import TemporalPrototype, includes, inclusion_order, stage_sets
from facestage.core.errors import ConfigError
from facestage.core.types import LOST, NONE, StageLabels


def included_by_definition(inner: TemporalPrototype, outer: TemporalPrototype) -> bool:
    """Try every strictly increasing map from the stages of one to those of the other."""
    wanted, offered = stage_sets(inner), stage_sets(outer)
    return any(
        all(p <= offered[place] for p, place in zip(wanted, places, strict=True))
        for places in itertools.combinations(range(len(offered)), len(wanted))
    )


def random_prototype(rng: random.Random, labels: int, longest: int) -> TemporalPrototype:
    """Return a prototype with NONE and LOST among its stages and no equal neighbours."""
    names = [f"AU{n:02d}_A" for n in range(1, labels + 1)]
    stages: list[StageLabels] = []
    for _ in range(rng.randint(1, longest)):
        chosen = tuple(sorted(rng.sample(names, rng.randint(0, min(3, labels))))) or NONE
        stage = LOST if rng.random() < 0.08 else chosen
        if not stages or stages[-1] != stage:
            stages.append(stage)
    return tuple(stages)


def test_the_example_of_the_paper() -> None:
    inner = (("AU01_A", "AU02_A"), ("AU02_A",))
    outer = (("AU01_A", "AU02_A"), ("AU02_A", "AU25_A"))
    assert includes(outer, inner)
    assert not includes(inner, outer)


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ([("A", "B")], [("A",), ("A", "B")], False),  # two stages need two
        ([("A",), ("B",)], [("B",), ("A",)], False),  # in this order
        ([("A",), ("C",), ("B",)], [("A",), ("B",)], True),  # others may lie between
        ([("A",)], [NONE], True),  # NONE asks for nothing
        ([("A",)], [NONE, ("A",)], False),  # but for a stage
        ([NONE, ("A",)], [("A",)], True),
        ([("A",), ("A", "B")], [LOST], False),
        ([("A",), LOST, ("A",)], [("A",), LOST], True),
        ([LOST], [NONE], True),
        ([("A",)], [], True),
    ],
)
def test_cases(outer: list[StageLabels], inner: list[StageLabels], expected: bool) -> None:
    assert includes(outer, inner) is expected
    assert included_by_definition(tuple(inner), tuple(outer)) is expected


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_definition(seed: int) -> None:
    rng = random.Random(seed)
    seen = set()
    for _ in range(800):
        inner, outer = random_prototype(rng, 4, 3), random_prototype(rng, 4, 6)
        expected = included_by_definition(inner, outer)
        assert includes(outer, inner) is expected
        seen.add(expected)
    assert seen == {True, False}


@pytest.mark.parametrize(("seed", "labels"), [(1, 3), (2, 5), (3, 70)])
def test_order_and_its_reduction(seed: int, labels: int) -> None:
    rng = random.Random(seed)
    made = {random_prototype(rng, labels, 5) for _ in range(120)}
    prototypes = sorted(made)
    if labels == 70:  # more labels than a word has bits: make sure that there are inclusions
        prototypes = sorted({*made, *(p[:2] for p in made), *(p[1:3] for p in made if len(p) > 2)})
    pairs = {
        (i, j)
        for i, inner in enumerate(prototypes)
        for j, outer in enumerate(prototypes)
        if i != j and included_by_definition(inner, outer)
    }
    assert pairs
    order = inclusion_order(prototypes)
    for i in range(len(prototypes)):
        assert order.included[i] == sum(j == i for _, j in pairs)
        assert order.including[i] == sum(j == i for j, _ in pairs)
    between = {(i, j) for i, k in pairs for m, j in pairs if k == m}
    covers = {(int(i), int(j)) for i, j in order.covers}
    assert covers == pairs - between
    closure = set(covers)
    while more := {(i, j) for i, k in closure for m, j in covers if k == m} - closure:
        closure |= more
    assert closure == pairs
    assert not {(j, i) for i, j in pairs} & pairs  # an order: never both ways


def test_few_or_equal_prototypes() -> None:
    assert inclusion_order([]).covers.shape == (0, 2)
    assert inclusion_order([(NONE,)]).included.tolist() == [0]
    with pytest.raises(ConfigError, match="distinct"):
        inclusion_order([(NONE,), (NONE,)])
