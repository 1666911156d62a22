"""The drawing of the inclusion lattice: what is drawn, and that it can be read."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from facestage.core.corpus.hasse import LatticeLayout, LatticePart, lattice_layout, lattice_part
from facestage.core.corpus.relations import TemporalPrototype, includes, inclusion_order
from facestage.core.errors import ConfigError

from tests.core.corpus.test_relations import random_prototype

GAP, RISE, WIDTH = 12.0, 40.0, 600.0


def some(seed: int, count: int = 60, labels: int = 4) -> list[TemporalPrototype]:
    rng = random.Random(seed)
    return sorted({random_prototype(rng, labels, 4) for _ in range(count)})


def part_of(prototypes: list[TemporalPrototype], seed: int, most: int) -> LatticePart:
    counts = np.random.default_rng(seed).integers(0, 4, (len(prototypes), 3))
    return lattice_part(prototypes, inclusion_order(prototypes, counts), most)


def drawn(seed: int, most: int = 30) -> tuple[LatticePart, np.ndarray, LatticeLayout]:
    part = part_of(some(seed), seed, most)
    rng = np.random.default_rng(seed)
    sizes = rng.uniform((60, 30), (170, 90), (len(part.shown), 2))
    return part, sizes, lattice_layout(sizes, part.covers, WIDTH, GAP, RISE)


@pytest.mark.parametrize("seed", range(4))
def test_support_counts_the_sequences_that_include_a_prototype(seed: int) -> None:
    prototypes = some(seed)
    counts = np.random.default_rng(seed).integers(0, 4, (len(prototypes), 3))
    order = inclusion_order(prototypes, counts)
    for n, inner in enumerate(prototypes):
        expected = sum(
            (counts[k] for k, outer in enumerate(prototypes) if includes(outer, inner)),
            np.zeros(3, int),
        )
        np.testing.assert_array_equal(order.support[n], expected)
    plain = inclusion_order(prototypes)
    np.testing.assert_array_equal(plain.support[:, 0], plain.including + 1)
    with pytest.raises(ConfigError, match="give a row of each"):
        inclusion_order(prototypes, counts[:-1])


@pytest.mark.parametrize(("seed", "most"), [(0, 10), (1, 25), (2, 500), (3, 1)])
def test_the_most_supported_are_drawn_with_their_own_covers(seed: int, most: int) -> None:
    prototypes = some(seed)
    counts = np.random.default_rng(seed).integers(0, 4, (len(prototypes), 3))
    order = inclusion_order(prototypes, counts)
    part = lattice_part(prototypes, order, most)
    own = [prototypes[n] for n in part.shown]
    # The transitive reduction among those shown, by brute force.
    pairs = {
        (i, j) for i, j in itertools.permutations(range(len(own)), 2) if includes(own[j], own[i])
    }
    between = {(i, j) for i, k in pairs for m, j in pairs if k == m}
    assert {tuple(pair) for pair in part.covers.tolist()} == pairs - between
    assert set(itertools.chain(*pairs)) == set(range(len(own)))
    assert len(own) <= most
    assert part.alone + part.left_out + len(own) == len(prototypes)
    total = order.support.sum(axis=1)
    assert (np.diff(total[part.shown]) <= 0).all()
    if most >= len(prototypes):
        assert part.left_out == 0
        related = {n for pair in order.covers.tolist() for n in pair}
        assert set(part.shown.tolist()) == related
    elif most > 1:
        # Whoever is more supported than all that is shown was alone among the chosen.
        chosen = np.argsort(-np.where(order.included + order.including > 0, total, -1))[:most]
        assert total[part.shown].min() >= total[chosen].min()


@pytest.mark.parametrize("seed", range(6))
def test_lines_lead_upward_and_boxes_touch_nothing(seed: int) -> None:
    part, sizes, layout = drawn(seed)
    assert len(part.covers) > 10
    np.testing.assert_allclose(layout.boxes[:, 2:], sizes)
    left, top = layout.boxes[:, 0], layout.boxes[:, 1]
    right, bottom = left + layout.boxes[:, 2], top + layout.boxes[:, 3]
    assert left.min() >= -1e-9
    assert right.max() <= layout.width + 1e-9
    assert top.min() >= -1e-9
    assert bottom.max() <= layout.height + 1e-9
    for a, b in itertools.combinations(range(len(sizes)), 2):
        apart = max(left[a] - right[b], left[b] - right[a], top[a] - bottom[b], top[b] - bottom[a])
        assert apart >= GAP - 1e-6
    for (lower, upper), line in zip(part.covers.tolist(), layout.lines, strict=True):
        assert layout.rows[lower] < layout.rows[upper]
        assert bottom[upper] < top[lower]
        assert line[0].low == pytest.approx(top[lower])
        assert line[-1].high == pytest.approx(bottom[upper])
        assert left[lower] < line[0].x < right[lower]
        assert left[upper] < line[-1].x < right[upper]
        assert len(line) == layout.rows[upper] - layout.rows[lower] + 1
        for one, other in itertools.pairwise(line):
            assert one.low >= one.high - 1e-9
            # Where a line moves sideways there is no row of boxes.
            assert one.high - other.low == pytest.approx(RISE)
            assert not ((top < one.high - 1e-6) & (bottom > other.low + 1e-6)).any()
        for piece in line[1:-1]:
            beside = (left > piece.x + GAP - 1e-6) | (right < piece.x - GAP + 1e-6)
            level = (top < piece.low) & (bottom > piece.high)
            assert (beside | ~level).all()


@pytest.mark.parametrize("seed", range(3))
def test_rows_keep_to_the_width(seed: int) -> None:
    _, sizes, layout = drawn(seed)
    for row in range(int(layout.rows.max()) + 1):
        own = sizes[layout.rows == row, 0]
        assert len(own)
        assert own.sum() + GAP * (len(own) - 1) <= WIDTH


def test_a_box_wider_than_the_width_has_a_row_of_its_own() -> None:
    sizes = np.array([[900.0, 20], [50, 20], [50, 20]])
    layout = lattice_layout(sizes, np.array([[0, 2], [1, 2]]), WIDTH)
    assert layout.rows.tolist() == [0, 1, 2]


def test_a_chain_stands_upright_and_two_of_them_do_not_cross() -> None:
    sizes = np.full((6, 2), 40.0)
    covers = np.array([[0, 2], [2, 4], [1, 3], [3, 5]])
    layout = lattice_layout(sizes, covers, WIDTH, GAP, RISE)
    middle = layout.boxes[:, 0] + 20
    np.testing.assert_allclose(middle[[0, 2, 4]], middle[0], atol=1e-6)
    np.testing.assert_allclose(middle[[1, 3, 5]], middle[1], atol=1e-6)
    assert layout.height == 3 * 40 + 2 * RISE


def test_the_same_order_gives_the_same_drawing() -> None:
    first, second = drawn(3)[2], drawn(3)[2]
    np.testing.assert_array_equal(first.boxes, second.boxes)
    assert first.lines == second.lines


def test_nothing_to_draw_and_what_cannot_be_drawn() -> None:
    part = lattice_part([(("A",),), (("B",),)], inclusion_order([(("A",),), (("B",),)]), 10)
    assert part.shown.size == 0
    assert (part.alone, part.left_out) == (2, 0)
    layout = lattice_layout(np.empty((0, 2)), part.covers, WIDTH)
    assert (layout.width, layout.height, layout.lines) == (0.0, 0.0, ())
    with pytest.raises(ConfigError, match="cycle"):
        lattice_layout(np.full((2, 2), 9.0), np.array([[0, 1], [1, 0]]), WIDTH)
