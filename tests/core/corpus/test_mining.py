"""Closed patterns against brute force on small corpora, and planted ones in larger."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from facestage.core.corpus.mining import Mined, mine_closed
from facestage.core.corpus.relations import TemporalPrototype, includes
from facestage.core.errors import ConfigError
from facestage.core.types import LOST, NONE, StageLabels


def corpus(seed: int, count: int, labels: int, longest: int, most: int) -> list[TemporalPrototype]:
    rng = random.Random(seed)
    names = [f"AU{n:02d}_A" for n in range(1, labels + 1)]
    made = []
    for _ in range(count):
        stages: list[StageLabels] = []
        for _ in range(rng.randint(1, longest)):
            chosen = tuple(sorted(rng.sample(names, rng.randint(0, min(most, labels))))) or NONE
            stages.append(LOST if rng.random() < 0.05 else chosen)
        made.append(tuple(stages))
    return made


def sub_sequences(prototype: TemporalPrototype) -> set[TemporalPrototype]:
    """Return every pattern that a prototype includes, the empty one left out."""
    choices = []
    for stage in prototype:
        labels = () if stage in (NONE, LOST) else stage
        choices.append(
            [s for n in range(len(labels) + 1) for s in itertools.combinations(labels, n)]
        )
    return {tuple(s for s in chosen if s) for chosen in itertools.product(*choices)} - {()}


def brute_force(prototypes: list[TemporalPrototype], least: int) -> dict[TemporalPrototype, int]:
    support: dict[TemporalPrototype, int] = {}
    for prototype in prototypes:
        for pattern in sub_sequences(prototype):
            support[pattern] = support.get(pattern, 0) + 1
    frequent = {p: n for p, n in support.items() if n >= least}
    return {
        p: n
        for p, n in frequent.items()
        if not any(m == n and q != p and includes(q, p) for q, m in frequent.items())
    }


def as_dict(mined: Mined) -> dict[TemporalPrototype, int]:
    found = {p.stages: p.support for p in mined.patterns}
    assert len(found) == len(mined.patterns), "a pattern was found twice"
    return found


@pytest.mark.parametrize(
    ("count", "labels", "longest", "most", "least"),
    [(6, 3, 4, 3, 1), (8, 3, 4, 2, 2), (10, 2, 5, 2, 2), (10, 4, 3, 3, 3), (12, 5, 4, 1, 2)],
)
@pytest.mark.parametrize("seed", range(6))
def test_equals_brute_force(
    seed: int, count: int, labels: int, longest: int, most: int, least: int
) -> None:
    prototypes = corpus(seed, count, labels, longest, most)
    mined = mine_closed(prototypes, min_support=least)
    assert mined.complete
    expected = brute_force(prototypes, least)
    assert expected
    assert as_dict(mined) == expected


def test_labels_that_always_come_together() -> None:
    """Pairs such as AU01 and AU02 are where a careless search repeats itself."""
    rng = random.Random(7)
    prototypes = [
        tuple(
            tuple(sorted({*("AU01_A", "AU02_A")[: 2 * rng.randint(0, 1)], *rng.choice(pool)}))
            or NONE
            for _ in range(rng.randint(1, 4))
        )
        for pool in [[(), ("AU25_A",), ("AU12_A", "AU25_A")]] * 12
    ]
    assert as_dict(mine_closed(prototypes, min_support=3)) == brute_force(prototypes, 3)


@pytest.mark.parametrize("shift", [0, 62, 63, 64, 127])
def test_prototypes_longer_than_a_word(shift: int) -> None:
    """The same corpus after any number of empty stages gives the same patterns."""
    prototypes = corpus(3, 8, 3, 4, 2)
    padding = tuple(NONE if n % 2 else LOST for n in range(shift))
    later = [
        (*padding[: shift - n], *p[:1], *padding[:n], *p[1:]) for n, p in enumerate(prototypes)
    ]
    assert as_dict(mine_closed(later, min_support=2)) == brute_force(prototypes, 2)


def test_support_per_label_and_lift() -> None:
    smile: TemporalPrototype = (NONE, ("AU12_A",), ("AU12_A", "AU25_A"))
    frown: TemporalPrototype = (("AU04_A",), NONE)
    prototypes = [smile, smile, smile, frown, frown, (("AU04_A", "AU12_A"),)]
    labels = ["happy", "happy", "happy", "angry", "angry", "happy"]
    mined = mine_closed(prototypes, min_support=2, labels=labels)
    assert mined.totals == {"angry": 2, "happy": 4}
    rows = {p.stages: (p.support, p.by_label) for p in mined.patterns}
    assert rows == {
        (("AU12_A",),): (4, (0, 4)),
        (("AU12_A",), ("AU12_A", "AU25_A")): (3, (0, 3)),
        (("AU04_A",),): (3, (2, 1)),
    }
    frowning = next(p for p in mined.patterns if p.stages == (("AU04_A",),))
    assert math.isclose(mined.lift(frowning, "angry"), (2 / 2) / (3 / 6))
    assert math.isclose(mined.lift(frowning, "happy"), (1 / 4) / (3 / 6))


def test_planted_patterns_come_out_of_noise() -> None:
    rng = random.Random(11)
    planted: TemporalPrototype = (("AU01_A", "AU02_A"), ("AU01_A", "AU02_A", "AU25_B"))
    prototypes = corpus(5, 300, 12, 8, 2)
    chosen = set(rng.sample(range(300), 90))
    for n in chosen:
        p = prototypes[n]
        at = rng.randint(0, len(p))
        prototypes[n] = (*p[:at], planted[0], *p[at : at + 1], planted[1], *p[at + 1 :])
    labels = ["planted" if n in chosen else "rest" for n in range(300)]
    mined = mine_closed(prototypes, min_support=85, labels=labels)
    found = next(p for p in mined.patterns if p.stages == planted)
    expected = sum(includes(p, planted) for p in prototypes)
    assert found.support == expected >= 90
    assert mined.lift(found, "planted") > 3


@pytest.mark.parametrize("budget", [1, 20, 60, 150])
def test_a_search_cut_short_is_complete_above_its_end(budget: int) -> None:
    prototypes = corpus(1, 40, 6, 6, 3)
    labels = ["a", "b"] * 20
    cut = mine_closed(prototypes, min_support=2, labels=labels, budget=budget)
    assert not cut.complete
    assert cut.visited <= budget
    assert cut.min_support > 2
    whole = mine_closed(prototypes, min_support=cut.min_support, labels=labels)
    assert whole.complete
    assert tuple(p for p in cut.patterns if p.support >= cut.min_support) == whole.patterns
    everything = mine_closed(prototypes, min_support=2, labels=labels)
    assert set(cut.patterns) <= set(everything.patterns)
    assert mine_closed(prototypes, min_support=30, budget=10_000).min_support == 30


def test_long_prototypes_with_much_in_common() -> None:
    """They share 2^85 patterns; four are closed, one of them by the period of seven stages."""
    long = tuple((f"AU{1 + n % 7:02d}_A",) for n in range(90))
    mined = mine_closed([long, long[2:], long[:-3]], min_support=2, budget=60_000)
    assert mined.complete
    assert (
        as_dict(mined)
        == {
            long[2:-3]: 3,
            long[:83]: 3,  # in long[2:] from its sixth stage on
            long[2:]: 2,
            long[:-3]: 2,
        }
    )


def test_nothing_to_find() -> None:
    assert mine_closed([], min_support=1).patterns == ()
    assert mine_closed([(NONE,), (LOST, NONE)], min_support=1).patterns == ()
    with pytest.raises(ConfigError, match="least support"):
        mine_closed([], min_support=0)
    with pytest.raises(ConfigError, match="2 labels were given for 1"):
        mine_closed([(NONE,)], min_support=1, labels=["a", "b"])
