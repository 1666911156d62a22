"""SpRAy on a whole set of maps: formulas, known structures, degenerate input."""

from __future__ import annotations

import dataclasses
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse
from facestage.core.clustering import spectral
from facestage.core.clustering.similarity import (
    DEFAULT_NOISE,
    NoiseModel,
    gram,
    noise_model,
    normalise,
)
from facestage.core.clustering.spectral import SPRAY_PRESETS, spray
from facestage.core.errors import ConfigError
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from tests.support.device_twin import Device
from tests.support.streams import make_stream, unit


@pytest.fixture(autouse=True)
def _no_warnings() -> None:
    warnings.simplefilter("error")


def blobs(seed: int, sizes: tuple[int, ...], noise: float = 0.05) -> np.ndarray:
    """Return well separated groups of unit vectors, one after the other."""
    rng = np.random.default_rng(seed)
    centres = np.eye(40)[: len(sizes)]
    rows = np.repeat(centres, sizes, axis=0)
    return unit(rows + noise * rng.standard_normal(rows.shape))


# ---- formulas


def test_knn_graph_is_the_average_of_both_directions() -> None:
    rng = np.random.default_rng(0)
    cosines = gram(unit(rng.standard_normal((30, 8))))
    weights = spectral.knn_graph(cosines, 4)
    expected = np.zeros((30, 30))
    for i in range(30):
        distance = [(2 - 2 * cosines[i, j], j) for j in range(30) if j != i]
        for _, j in sorted(distance)[:4]:
            expected[i, j] += 0.5
            expected[j, i] += 0.5
    np.testing.assert_array_equal(weights, expected)


def test_knn_graph_excludes_self_by_index_and_breaks_ties_by_order() -> None:
    weights = spectral.knn_graph(np.ones((5, 5)), 2)
    assert np.diagonal(weights).sum() == 0
    # Everyone's nearest are the two lowest other indices.
    directed = np.zeros((5, 5))
    for i, chosen in enumerate([(1, 2), (0, 2), (0, 1), (0, 1), (0, 1)]):
        directed[i, list(chosen)] = 1
    np.testing.assert_array_equal(weights, (directed + directed.T) / 2)


def test_laplacian_matches_its_definition_and_isolated_maps_have_degree_one() -> None:
    weights = np.array([[0, 1, 0.5, 0], [1, 0, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 0.0]])
    degree = np.diag([1.5, 1.0, 0.5, 1.0])
    root = np.diag(1 / np.sqrt(np.diagonal(degree)))
    expected = root @ (np.diag([1, 1, 1, 1]) * degree - weights) @ root
    np.testing.assert_allclose(spectral.laplacian(weights), expected, atol=1e-15)
    assert spectral.laplacian(weights)[3, 3] == 1.0


def test_zero_eigenvalues_count_the_connected_components() -> None:
    x = blobs(1, (20, 25, 30))
    result = spray(x, "paper")
    assert result.n_clusters == 3
    assert (result.eigenvalues[:3] <= 1e-8).all()
    assert result.eigenvalues[3] > 1e-3


def test_block_means_are_inner_products_of_mean_descriptors() -> None:
    x = blobs(2, (6, 9), noise=0.3)
    labels = np.repeat([0, 1], [6, 9])
    means, counts, ids = spectral.block_means(gram(x), labels)
    prototypes = spectral.mean_maps(x, labels)
    np.testing.assert_allclose(means, prototypes @ prototypes.T, atol=1e-12)
    assert counts.tolist() == [6, 9]
    assert ids.tolist() == [0, 1]


def test_merge_follows_the_noise_corrected_cosine() -> None:
    rng = np.random.default_rng(3)
    a, b = unit(rng.standard_normal(64)), unit(rng.standard_normal(64))
    b = unit(a + 0.8 * unit(b - (a @ b) * a))  # clean cosine 1/sqrt(1 + .64) = .78
    rows = unit(np.concatenate([np.tile(a, (40, 1)), np.tile(b, (40, 1))]))
    noisy = unit(rows + 0.05 * rng.standard_normal(rows.shape))
    labels = np.repeat([0, 1], 40)
    cosines = gram(noisy)
    level = 1 / (1 + 64 * 0.05**2)
    noise = NoiseModel(level, (0.0,) * 14)
    means = spectral.mean_maps(noisy, labels)
    clean = [m @ m - (1 - level) / 40 for m in means]
    expected = means[0] @ means[1] / np.sqrt(clean[0] * clean[1])
    assert expected == pytest.approx(a @ b, abs=0.02)
    merged = spectral.merge_clusters(cosines, labels, noise, expected - 1e-6)
    assert set(merged.tolist()) == {0}
    kept = spectral.merge_clusters(cosines, labels, noise, expected + 1e-6)
    np.testing.assert_array_equal(kept, labels)


def test_merge_equals_recomputing_block_means_after_each_merge() -> None:
    rng = np.random.default_rng(4)
    x = unit(np.abs(rng.standard_normal((60, 5))) ** 3)
    labels = x.argmax(axis=1) + 5 * (rng.random(60) < 0.5)
    cosines, noise = gram(x), DEFAULT_NOISE
    reference = labels.copy()
    while True:
        ids = np.unique(reference)
        best = (-1.0, 0, 0)
        for a in ids:
            for b in ids[ids > a]:
                block = [
                    cosines[np.ix_(reference == i, reference == j)].mean()
                    for i, j in ((a, b), (a, a), (b, b))
                ]
                counts = [(reference == i).sum() for i in (a, b)]
                energy = [float(noise.energy(c)) for c in counts]
                own = [max(s - e, 0.5 * s) for s, e in zip(block[1:], energy, strict=True)]
                best = max(best, (block[0] / np.sqrt(own[0] * own[1]), -a, -b))
        if best[0] <= 0.8 or len(ids) == 1:
            break
        reference[reference == -best[2]] = -best[1]
    merged = spectral.merge_clusters(cosines, labels, noise, 0.8)
    assert adjusted_rand_score(merged, reference) == 1.0
    assert 1 < len(set(merged.tolist())) < 10


def test_order_labels_counts_by_first_occurrence() -> None:
    assert spectral.order_labels(np.array([9, 9, 4, 9, 7, 4])).tolist() == [0, 0, 1, 0, 2, 1]
    assert spectral.order_labels(np.array([], dtype=np.int64)).tolist() == []


def test_neighbour_count_grows_with_the_logarithm() -> None:
    assert [spectral.neighbours(n) for n in (16, 55, 64, 200, 1000, 4096)] == [4, 6, 6, 7, 7, 9]


def test_sparse_and_dense_eigenpairs_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = make_stream(5, [(0, 150), (1, 150)])
    dense = spray(stream.descriptors)
    monkeypatch.setattr(spectral, "SPARSE_FROM", 10)
    sparse = spray(stream.descriptors)
    np.testing.assert_allclose(sparse.eigenvalues, dense.eigenvalues, atol=1e-8)
    np.testing.assert_array_equal(sparse.labels, dense.labels)


def test_dense_solver_takes_over_where_the_sparse_one_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = make_stream(6, [(0, 150), (1, 150)])
    expected = spray(stream.descriptors)

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no factorisation")

    monkeypatch.setattr(spectral, "SPARSE_FROM", 10)
    monkeypatch.setattr(spectral.sparse_linalg, "eigsh", fail)
    np.testing.assert_array_equal(spray(stream.descriptors).labels, expected.labels)


@pytest.mark.parametrize(("n", "k"), [(40, 3), (600, 7), (1500, 9)])
def test_the_sparse_laplacian_is_the_dense_one_to_the_last_bit(n: int, k: int) -> None:
    x = normalise(np.random.default_rng(n).random((n, 16)))
    cosines = gram(x)
    expected = scipy.sparse.csc_array(spectral.laplacian(spectral.knn_graph(cosines, k)))
    found = spectral._sparse_laplacian(spectral._nearest(cosines, k))
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.data, expected.data)
    assert found.indices.dtype == expected.indices.dtype


@pytest.mark.parametrize("n", [1, 511, 512, 513, 1100])
def test_cosines_made_tile_by_tile_are_those_made_at_once(n: int) -> None:
    x = normalise(np.random.default_rng(n).normal(size=(n, 16)))
    whole = np.clip(x @ x.T, -1.0, 1.0)
    whole = (whole + whole.T) / 2
    np.fill_diagonal(whole, 1.0)
    np.testing.assert_array_equal(gram(x), whole)


class Elsewhere:
    """Rows that are not in memory as a whole."""

    def __init__(self, x: np.ndarray) -> None:
        self._x = x
        self.most = 0

    def __len__(self) -> int:
        return len(self._x)

    def take(self, numbers: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(numbers))
        return self._x[numbers]


def test_rows_that_lie_elsewhere_give_the_same_and_come_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = make_stream(3, [(0, 400), (1, 400), (0, 400)]).descriptors
    monkeypatch.setattr(spectral, "_PIECE", 100)
    preset = dataclasses.replace(SPRAY_PRESETS["sequence"], max_maps=300)
    rows = Elsewhere(x)
    np.testing.assert_array_equal(spray(rows, preset).labels, spray(x, preset).labels)
    assert rows.most == 300


def test_a_long_sequence_is_clustered_with_one_matrix_of_its_size() -> None:
    n = SPRAY_PRESETS["sequence"].max_maps
    rng = np.random.default_rng(0)
    patterns = rng.random((3, 64))[np.arange(n) // 50 % 3]
    x = (patterns + 0.35 * rng.random((n, 64))).astype(np.float32)
    tracemalloc.start()
    try:
        assert spray(x).n_clusters == 3
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * 8 * n**2


# ---- known structures


@pytest.mark.parametrize("sizes", [(30, 30), (20, 40, 25), (16, 30, 20, 40)])
def test_agrees_with_scikit_learn_on_separated_data(sizes: tuple[int, ...]) -> None:
    x = blobs(len(sizes), sizes)
    affinity = spectral.knn_graph(gram(x), spectral.neighbours(len(x)))
    # A faint background keeps scikit-learn's graph connected, as it asks for.
    peer = SpectralClustering(len(sizes), affinity="precomputed", random_state=0)
    theirs = peer.fit_predict(affinity + 1e-6)
    ours = spray(x)
    assert ours.n_clusters == len(sizes)
    assert adjusted_rand_score(theirs, ours.labels) == 1.0


def test_one_drifting_pattern_is_one_cluster() -> None:
    # Rate over seeds: the statement is statistical. 60 and 200 maps, little to much noise.
    right = [
        spray(make_stream(seed, [(0, n)], noise=noise, drift=0.012).descriptors).n_clusters == 1
        for seed in range(6)
        for n in (60, 200)
        for noise in (0.05, 0.3)
    ]
    assert np.mean(right) >= 0.95


def test_counting_eigenvalues_alone_splits_a_drifting_pattern() -> None:
    # Why the sequence preset merges: without it the path-like graph falls apart.
    bare = dataclasses.replace(SPRAY_PRESETS["sequence"], merge_above=None)
    counts = [
        spray(make_stream(seed, [(0, 200)], noise=0.05, drift=0.012).descriptors, bare).n_clusters
        for seed in range(4)
    ]
    assert min(counts) > 1


@pytest.mark.parametrize("noise", [0.08, 0.3])
@pytest.mark.parametrize(
    "segments",
    [
        [(0, 30), (1, 30)],
        [(0, 70), (1, 60), (0, 40)],
        [(0, 60), (1, 50), (2, 60), (0, 50)],
        [(0, 60), (1, 60), (2, 60), (3, 60), (1, 40)],
    ],
)
def test_finds_the_patterns_of_a_sequence(segments: list[tuple[int, int]], noise: float) -> None:
    truth = len({p for p, _ in segments})
    found, scores = [], []
    for seed in range(4):
        stream = make_stream(10 + seed, segments, noise=noise)
        result = spray(stream.descriptors)
        found.append(result.n_clusters == truth)
        scores.append(adjusted_rand_score(stream.labels, result.labels))
    assert np.mean(found) >= 0.75
    assert np.mean(scores) >= 0.9


def test_few_maps_are_clustered_by_linkage() -> None:
    x = blobs(7, (6, 6))
    result = spray(x)
    assert result.labels.tolist() == [0] * 6 + [1] * 6
    assert result.eigenvalues.size == 0


def test_small_clusters_join_the_most_similar_one() -> None:
    rng = np.random.default_rng(8)
    x = blobs(8, (20, 20))
    stray = unit(x[:3] + 0.9 * np.eye(40)[20] + 0.02 * rng.standard_normal((3, 40)))
    x = np.concatenate([x[:10], stray, x[10:]])
    labels = spray(x).labels
    assert labels.tolist() == [0] * 23 + [1] * 20


def test_long_sequences_are_clustered_on_a_subset() -> None:
    stream = make_stream(9, [(0, 300), (1, 300), (0, 200)])
    preset = dataclasses.replace(SPRAY_PRESETS["sequence"], max_maps=200)
    result = spray(stream.descriptors, preset)
    assert len(result.labels) == 800
    assert result.n_clusters == 2
    assert adjusted_rand_score(stream.labels, result.labels) >= 0.97


# ---- contract


def test_labels_are_ordered_by_first_occurrence_and_deterministic() -> None:
    stream = make_stream(11, [(1, 40), (0, 40), (2, 40), (1, 20)])
    first, second = spray(stream.descriptors), spray(stream.descriptors.copy())
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.eigenvalues, second.eigenvalues)
    seen = list(dict.fromkeys(first.labels.tolist()))
    assert seen == list(range(first.n_clusters))


def test_scale_of_a_map_does_not_matter() -> None:
    stream = make_stream(12, [(0, 40), (1, 40)])
    scale = np.random.default_rng(0).uniform(1e-6, 1e6, (80, 1))
    np.testing.assert_array_equal(
        spray(stream.descriptors).labels, spray(stream.descriptors * scale).labels
    )


@pytest.mark.parametrize("clusters", [1, 2, 5])
def test_fixed_number_of_clusters(clusters: int) -> None:
    x = make_stream(13, [(0, 40), (1, 40)]).descriptors
    assert spray(x, clusters=clusters).n_clusters == clusters


@pytest.mark.parametrize("preset", sorted(SPRAY_PRESETS))
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 15, 16, 17, 40])
def test_any_number_of_maps_works(preset: str, n: int) -> None:
    x = make_stream(14, [(0, 40)]).descriptors[:n]
    result = spray(x, preset)
    assert result.labels.shape == (n,)
    assert result.labels[0] == 0
    assert result.n_clusters == len(set(result.labels.tolist()))
    assert result.preset == preset


@pytest.mark.parametrize("n", [4, 15, 16, 64])
def test_identical_maps_are_one_cluster(n: int) -> None:
    x = np.tile(unit(np.arange(1.0, 10.0)), (n, 1))
    assert spray(x).n_clusters == 1


def test_alternating_and_opposite_maps_are_two_clusters() -> None:
    a = unit(np.arange(1.0, 10.0))
    for pair in ((a, -a), (a, unit(np.eye(9)[0]))):
        x = np.stack([pair[i % 2] for i in range(40)])
        assert spray(x).labels.tolist() == [0, 1] * 20


def test_no_map_gives_no_cluster() -> None:
    result = spray(np.empty((0, 256)))
    assert result.labels.size == 0
    assert result.n_clusters == 0


def test_bad_input_is_named() -> None:
    x = make_stream(15, [(0, 20)]).descriptors
    zero = x.copy()
    zero[7] = 0
    with pytest.raises(ValueError, match=r"map 7 of 20 is zero.*leave maps without relevance out"):
        spray(zero)
    zero[7] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        spray(zero)
    with pytest.raises(ValueError, match=r"\(n, D\).*flatten"):
        spray(x.reshape(20, 16, 16))
    with pytest.raises(ConfigError, match="choose one of sequence, paper, corelay"):
        spray(x, "kmeans")
    with pytest.raises(ValueError, match="at least 1"):
        spray(x, clusters=0)


def test_noise_of_different_runs_does_not_mix() -> None:
    # Two runs of one map each side of a gap: without runs, the change would look like noise.
    x = normalise(blobs(16, (12, 12), noise=0.01))
    runs = np.repeat([0, 1], 12)
    assert noise_model(gram(x), runs).level > noise_model(gram(x[::2])).level - 1e-9
    assert spray(x, runs=runs).n_clusters == 2


# ---- on a device


@pytest.mark.parametrize(
    ("preset", "n"),
    # Ten maps with ten neighbours each are a complete graph: its eigenvectors are anybody's.
    [
        (preset, n)
        for preset in ("sequence", "paper", "corelay")
        for n in (3, 10, 15, 60, 120)
        if (preset, n) != ("corelay", 10)
    ],
)
def test_a_device_gives_the_same_clusters_and_keeps_what_is_large(
    monkeypatch: pytest.MonkeyPatch, preset: str, n: int
) -> None:
    stream = make_stream(21, [(0, 50), (1, 40), (2, 30)], noise=0.2)
    x = stream.descriptors[:: 120 // n][:n]
    # Where its eight clusters cut three patterns is up to rounding; three are not.
    clusters = 3 if preset == "corelay" else None
    expected = spray(x, preset, clusters=clusters)
    device = Device.install(monkeypatch)
    found = spray(device.asarray(x), preset, clusters=clusters)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, atol=1e-9)
    assert isinstance(found.labels, np.ndarray)
    bound = SPRAY_PRESETS[preset].max_clusters + 1
    if n > max(bound, SPRAY_PRESETS[preset].linkage_below):
        # Neither the maps nor anything of the size of their Gram matrix.
        assert max(np.prod(shape) for shape in device.handed_over) == n * bound
        assert (n, bound) in device.handed_over


def test_a_long_series_on_a_device_hands_over_its_embedding_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = make_stream(9, [(0, 300), (1, 300), (0, 200)])
    preset = dataclasses.replace(SPRAY_PRESETS["sequence"], max_maps=200)
    expected = spray(stream.descriptors, preset)
    device = Device.install(monkeypatch)
    found = spray(device.asarray(stream.descriptors), preset)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert (200, 7) in device.handed_over
    assert (800,) in device.handed_over  # which mean map is nearest
    assert max(np.prod(shape) for shape in device.handed_over) == 200 * 7


def test_the_twin_of_a_device_refuses_what_cupy_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device.install(monkeypatch)
    x = device.asarray(np.ones((3, 2)))
    with pytest.raises(TypeError, match="implicit"):
        np.asarray(x)
    with pytest.raises(TypeError, match="met"):
        _ = x @ np.ones((2, 2))
    with pytest.raises(TypeError, match="met"):
        device.stack([x, np.ones((3, 2))])


@pytest.mark.gpu
@pytest.mark.parametrize("n", [10, 60, 1500])
def test_cupy_gives_the_clusters_of_numpy(n: int) -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    x = make_stream(22, [(0, n // 2), (1, n - n // 2)], noise=0.2).descriptors
    on_gpu, on_cpu = spray(cupy.asarray(x)), spray(x)
    np.testing.assert_array_equal(on_gpu.labels, on_cpu.labels)
    np.testing.assert_allclose(on_gpu.eigenvalues, on_cpu.eigenvalues, atol=1e-6)
