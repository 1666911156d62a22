"""Blocks of a window, and which prototype each cluster continues."""

from __future__ import annotations

import numpy as np
from facestage.core.config import WindowConfig
from facestage.core.window.comparison import Overlap, products_without_overlap
from facestage.core.window.contingency import NO_PROTOTYPE, Blocks, contingency_blocks
from facestage.core.window.matching import (
    Contingency,
    best_matching,
    cluster_cosines,
    contingency,
    prototypes_of_parts,
)
from facestage.core.window.noise import corrected_lengths
from facestage.core.window.prototypes import PrototypeMemory

D = 9


def blocks_of(parts: np.ndarray, labels: np.ndarray) -> Blocks:
    x, totals = np.zeros((len(parts), D), np.float32), np.zeros((5, D))
    return contingency_blocks(parts, labels, x, totals)


def test_blocks_are_what_parts_and_prototypes_have_in_common() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((50, D)).astype(np.float32)
    parts, labels = rng.integers(0, 4, 50), rng.integers(-1, 5, 50)
    totals = rng.standard_normal((5, D))
    blocks = contingency_blocks(parts, labels, x, totals)
    assert len(set(zip(blocks.part, blocks.label, strict=True))) == len(blocks.part)
    for block, pair in enumerate(zip(blocks.part, blocks.label, strict=True)):
        inside = (parts == pair[0]) & (labels == pair[1])
        np.testing.assert_array_equal(blocks.of_map == block, inside)
        assert blocks.size[block] == inside.sum()
        np.testing.assert_allclose(blocks.sums[block], x[inside].sum(axis=0), atol=1e-5)
    both = np.concatenate((blocks.sums, totals))
    np.testing.assert_allclose(blocks.products, both @ both.T, atol=1e-5)


def test_cosines_from_products_are_those_of_the_means() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((60, D)).astype(np.float32)
    parts, labels = rng.integers(0, 3, 60), rng.integers(-1, 3, 60)
    # Most of prototype 0 lies outside of the window, 2 is nothing but maps of one cluster.
    labels[labels == 2] = 1
    labels[:5], parts[:5] = 2, 0
    memory = PrototypeMemory(WindowConfig(), D)
    for prototype in range(3):
        memory.create(0)
        for position in np.flatnonzero(labels == prototype):
            memory.add(prototype, x[position])
    memory.add(0, 30 * x[7], 30)
    energies = 0.2 / np.arange(1, 130)
    memory.refresh(energies)
    blocks = contingency_blocks(parts, labels, x, memory.totals)
    members = [[p for p, part in enumerate(blocks.part) if part == a] for a in range(3)]
    table = contingency(blocks, members, [0, 1, 2])
    sizes = np.bincount(parts)
    counts = np.array([[((parts == a) & (labels == b)).sum() for b in range(3)] for a in range(3)])
    assert table.sizes == sizes.tolist()
    assert table.counts == counts.tolist()
    assert table.totals == [(labels == b).sum() for b in range(3)]
    cosines = cluster_cosines(blocks, table, memory, energies)
    means = np.stack([x[parts == a].mean(axis=0, dtype=float) for a in range(3)])
    lengths = corrected_lengths(np.square(means).sum(axis=1), sizes, energies)
    overlap_sums = np.zeros((3, 3, D))
    for position in range(60):
        if labels[position] != NO_PROTOTYPE:
            overlap_sums[parts[position], labels[position]] += x[position]
    for a in range(3):
        np.testing.assert_allclose(
            blocks.overlap_sums(members[a], [0, 1, 2]), overlap_sums[a], atol=1e-5
        )
        overlap = Overlap(memory.with_maps(), overlap_sums[a], counts[a].astype(float))
        expected = products_without_overlap(memory, means[a], overlap, energies) / lengths[a]
        np.testing.assert_allclose(cosines[a], expected, rtol=1e-5)


def test_clusters_are_matched_for_the_best_total() -> None:
    config = WindowConfig()

    def match(
        cosines: list[list[float]], counts: list[list[int]] | None = None
    ) -> list[int | None]:
        clusters, known = len(cosines), list(range(len(cosines[0])))
        counts = counts or [[0] * len(known)] * clusters
        totals = [sum(line[b] for line in counts) for b in known]
        table = Contingency([[0]] * clusters, [10] * clusters, known, counts, totals)
        return best_matching(cosines, table, config)

    assert match([[0.99, 0.2], [0.3, 0.95]]) == [0, 1]
    # Both fit the first best; the total is best where the first cluster gives way.
    assert match([[0.96, 0.95], [0.97, 0.3]]) == [1, 0]
    # What is as similar as two clusters that are merged goes with the other; what is not, alone.
    assert match([[0.99, 0.2], [0.95, 0.3]]) == [0, 0]
    assert match([[0.99, 0.2], [0.89, 0.3]]) == [0, None]
    assert match([[0.5, 0.6]]) == [None]
    # A prototype that drifted is kept by the maps that carry it.
    assert match([[0.75, 0.6]], [[9, 0]]) == [0]
    assert match([[], []]) == [None, None]


def test_parts_pass_on_what_nearly_all_their_maps_carry() -> None:
    parts = np.repeat([0, 1, 2], [20, 10, 10])
    labels = np.repeat([3, 0, 3], [20, 10, 10])

    def inherited(labels: np.ndarray, cluster_of: dict[int, int]) -> tuple[list[int], bool]:
        blocks = blocks_of(parts, labels)
        clusters = [cluster_of[part] for part in blocks.part]
        purity = WindowConfig().part_purity
        return prototypes_of_parts(blocks, parts, clusters, blocks.label, purity)

    assert inherited(labels, {0: 0, 1: 1, 2: 0}) == ([3, 0, 3], True)
    # One prototype in two clusters, or a mixed part: something is still to be decided.
    assert inherited(labels, {0: 0, 1: 1, 2: 2}) == ([3, 0, 3], False)
    mixed = labels.copy()
    mixed[:3] = 0
    assert inherited(mixed, {0: 0, 1: 1, 2: 0}) == ([3, 0, 3], False)
    # From a part without a prototype nothing is inherited.
    mixed[:20] = NO_PROTOTYPE
    assert inherited(mixed, {0: 0, 1: 1, 2: 0}) == ([], False)
