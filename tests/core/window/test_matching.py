"""Pieces of a window, and which pattern each cluster is."""

from __future__ import annotations

import numpy as np
from facestage.core.config import WindowConfig
from facestage.core.window.matching import (
    Pieces,
    cluster_cosines,
    cut,
    match_clusters,
    patterns_of_parts,
)
from facestage.core.window.prototypes import PrototypeMemory, clean_length
from facestage.core.window.ring import UNDECIDED

D = 9


def pieces_of(parts: np.ndarray, labels: np.ndarray) -> Pieces:
    return cut(parts, labels, np.zeros((len(parts), D), np.float32), np.zeros((5, D)))


def test_pieces_are_what_parts_and_patterns_have_in_common() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((50, D)).astype(np.float32)
    parts, labels = rng.integers(0, 4, 50), rng.integers(-1, 5, 50)
    totals = rng.standard_normal((5, D))
    pieces = cut(parts, labels, x, totals)
    assert len(set(zip(pieces.part, pieces.label, strict=True))) == len(pieces.part)
    for piece, pair in enumerate(zip(pieces.part, pieces.label, strict=True)):
        inside = (parts == pair[0]) & (labels == pair[1])
        np.testing.assert_array_equal(pieces.of == piece, inside)
        assert pieces.size[piece] == inside.sum()
        np.testing.assert_allclose(pieces.sums[piece], x[inside].sum(axis=0), atol=1e-5)
    both = np.concatenate((pieces.sums, totals))
    np.testing.assert_allclose(pieces.products, both @ both.T, atol=1e-5)


def test_cosines_from_products_are_those_of_the_means() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((60, D)).astype(np.float32)
    parts, labels = rng.integers(0, 3, 60), rng.integers(-1, 3, 60)
    # Most of pattern 0 lies outside of the window, pattern 2 is nothing but maps of one cluster.
    labels[labels == 2] = 1
    labels[:5], parts[:5] = 2, 0
    memory = PrototypeMemory(WindowConfig(), D)
    for row in range(3):
        memory.create(0)
        for place in np.flatnonzero(labels == row):
            memory.add(row, x[place])
    memory.add(0, 30 * x[7], 30)
    energies = 0.2 / np.arange(1, 130)
    memory.refresh(energies)
    pieces = cut(parts, labels, x, memory.totals)
    members = [[p for p, part in enumerate(pieces.part) if part == a] for a in range(3)]
    sizes = np.bincount(parts)
    held = np.array([[((parts == a) & (labels == b)).sum() for b in range(3)] for a in range(3)])
    found = cluster_cosines(
        pieces,
        members,
        sizes.tolist(),
        [0, 1, 2],
        held.tolist(),
        memory,
        energies,
    )
    means = np.stack([x[parts == a].mean(axis=0, dtype=float) for a in range(3)])
    lengths = clean_length(np.square(means).sum(axis=1), sizes, energies)
    own = np.zeros((3, 3, D))
    for place in range(60):
        if labels[place] != UNDECIDED:
            own[parts[place], labels[place]] += x[place]
    expected = memory.compare(means, lengths, memory.rows(), own, held, energies)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_clusters_are_matched_for_the_best_total() -> None:
    config = WindowConfig()
    nothing = [[0, 0], [0, 0]]
    sizes, everywhere = [10, 10], [0, 0]

    def match(cosine: list[list[float]]) -> list[int | None]:
        return match_clusters(
            cosine, nothing[: len(cosine)], sizes[: len(cosine)], everywhere, config
        )

    assert match([[0.99, 0.2], [0.3, 0.95]]) == [0, 1]
    # Both fit the first best; the total is best where the first cluster gives way.
    assert match([[0.96, 0.95], [0.97, 0.3]]) == [1, 0]
    # What is as similar as two clusters that are merged goes with the other; what is not, alone.
    assert match([[0.99, 0.2], [0.95, 0.3]]) == [0, 0]
    assert match([[0.99, 0.2], [0.89, 0.3]]) == [0, None]
    assert match([[0.5, 0.6]]) == [None]
    # A drifted pattern is kept by the maps that carry it.
    assert match_clusters([[0.75, 0.6]], [[9, 0]], [10], [9, 0], config) == [0]
    assert match_clusters([[], []], [[], []], sizes, [], config) == [None, None]


def test_parts_pass_on_what_nearly_all_their_maps_carry() -> None:
    parts = np.repeat([0, 1, 2], [20, 10, 10])
    labels = np.repeat([3, 0, 3], [20, 10, 10])

    def passed(labels: np.ndarray, joined: dict[int, int]) -> tuple[list[int], bool]:
        pieces = pieces_of(parts, labels)
        return patterns_of_parts(
            pieces, parts, [joined[part] for part in pieces.part], pieces.label
        )

    assert passed(labels, {0: 0, 1: 1, 2: 0}) == ([3, 0, 3], True)
    # One pattern in two clusters, a part in two minds: something is still to be decided.
    assert passed(labels, {0: 0, 1: 1, 2: 2}) == ([3, 0, 3], False)
    mixed = labels.copy()
    mixed[:3] = 0
    assert passed(mixed, {0: 0, 1: 1, 2: 0}) == ([3, 0, 3], False)
    # A part without a name passes nothing on.
    mixed[:20] = UNDECIDED
    assert passed(mixed, {0: 0, 1: 1, 2: 0}) == ([], False)
