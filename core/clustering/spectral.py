"""SpRAy: spectral relevance analysis of a set of relevance maps (paper §3.3).

Maps of one Action Unit → similarity → spectral clustering → one label per map. What differs
between the variants is data: a :class:`SprayPreset`.

The maps of a sequence are a trajectory. With little noise the graph of one slowly drifting pattern
is a path, whose Laplacian has many eigenvalues near zero, so counting them (or taking the largest
gap between them) splits one pattern into several. The ``sequence`` preset therefore splits
generously and then merges clusters whose clean mean maps agree.

What grows with the square of the number of maps and beyond (similarity, graph, eigenvectors) is
computed where the maps lie, on the CPU (NumPy) or a GPU (CuPy). Only the embedding, a few numbers
per map, comes to the CPU, and k-means and merging decide there.

References:
    Lapuschkin et al., "Unmasking Clever Hans predictors and assessing what machines really
    learn", Nature Communications 10, 2019 (SpRAy).
    von Luxburg, "A tutorial on spectral clustering", Statistics and Computing 17, 2007.
    Ng, Jordan & Weiss, "On spectral clustering", NeurIPS 2001 (rows of the embedding normalised).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.cluster.hierarchy as hierarchy
import scipy.linalg
import scipy.sparse as sparse
import scipy.sparse.linalg as sparse_linalg
from numpy.typing import NDArray

from ..backend import array_namespace, is_numpy, to_numpy
from ..errors import ConfigError
from .similarity import MIN_ENERGY, MIN_EXPLAINED, TILE, NoiseModel, gram, noise_model, normalise

__all__ = [
    "SPRAY_PRESETS",
    "Clustering",
    "Rows",
    "SprayPreset",
    "block_means",
    "knn_graph",
    "laplacian",
    "linkage",
    "mean_maps",
    "merge_blocks",
    "merge_clusters",
    "order_labels",
    "partition",
    "spray",
    "spray_preset",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SPARSE_FROM = 1024
"""From this number of maps on the eigenvectors come from a sparse solver."""


@dataclass(frozen=True, slots=True)
class SprayPreset:
    """One way to cluster the maps of a sequence.

    Attributes:
        name: key in :data:`SPRAY_PRESETS`.
        knn: neighbours per map in the graph; None: ⌈ln n⌉ + 1 between 2 and 7, and ⌈ln n⌉ once
            that is more than 7.
        tau: eigenvalues below it are counted as clusters.
        tau_long: the same from ``long_from`` maps on, where eigenvalues lie closer together.
        long_from: see ``tau_long``, maps.
        max_clusters: bound on the clusters of the spectral step.
        merge_above: clusters are merged while the noise-corrected cosine of their mean maps
            exceeds this; None: never.
        min_cluster: clusters with fewer maps are dissolved into the most similar one.
        min_coherence: clusters whose maps have a lower mean cosine are dissolved likewise: onsets
            and occlusions leave maps that resemble nothing, not even each other.
        linkage_below: with fewer maps than this, average linkage replaces the graph, which cannot
            show two clusters below about 10 maps; 0: never.
        linkage_cosine: linkage joins while the mean noise-corrected cosine is at least this.
        clusters: fixed number of clusters; None: by eigenvalues.
        max_maps: of longer sequences an evenly spaced subset of this size is clustered, and the
            other maps join the cluster whose mean map is most similar.
        restarts: k-means runs with different starts; the tightest result is kept.
    """

    name: str
    knn: int | None = None
    tau: float = 0.15
    tau_long: float = 0.05
    long_from: int = 100
    max_clusters: int = 6
    merge_above: float | None = None
    min_cluster: int = 1
    min_coherence: float = -1.0
    linkage_below: int = 0
    linkage_cosine: float = 0.7
    clusters: int | None = None
    max_maps: int = 4096
    restarts: int = 8


SPRAY_PRESETS: dict[str, SprayPreset] = {
    preset.name: preset
    for preset in (
        # merge_above and long_from were calibrated together with the window's thresholds: see
        # facestage.core.config.WindowConfig, which says how. min_coherence from .6 to .8 gives the
        # same on the real clips: patterns have .9 and more, what it dissolves .57 and less.
        SprayPreset(
            "sequence", merge_above=0.90, min_cluster=4, min_coherence=0.7, linkage_below=16
        ),
        # Paper §3.3: as many clusters as the Laplacian has zero eigenvalues.
        SprayPreset("paper", tau=1e-8, tau_long=1e-8, max_clusters=64),
        # CoRelAy's defaults, for comparison.
        SprayPreset("corelay", knn=10, clusters=8, max_clusters=64),
    )
}
"""Preset name → preset. ``sequence`` is the default; ``corelay`` is for comparison only."""


def spray_preset(name: str) -> SprayPreset:
    """Return a preset of :data:`SPRAY_PRESETS`.

    Raises:
        ConfigError: no preset of that name.
    """
    if name not in SPRAY_PRESETS:
        raise ConfigError(
            f"there is no SpRAy preset {name!r}; choose one of {', '.join(SPRAY_PRESETS)}"
        )
    return SPRAY_PRESETS[name]


_PIECE = 4096
"""Maps that are compared with the mean maps together."""


class Rows(Protocol):
    """Descriptors ``(n, D)`` that lie elsewhere, and come a part at a time."""

    def __len__(self) -> int:
        """Return n."""
        ...

    def take(self, numbers: IntArray) -> NDArray[np.float32]:
        """Return the rows of these numbers, ``(m, D)``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """Clusters of the maps of one Action Unit.

    Attributes:
        labels: ``(n,)`` int64, 0 … K−1 by first occurrence.
        eigenvalues: ascending smallest eigenvalues of the normalised Laplacian of the maps that
            were clustered; empty where no graph was built.
        n_clusters: K.
        preset: name of the preset.
    """

    labels: IntArray
    eigenvalues: FloatArray
    n_clusters: int
    preset: str


def order_labels(labels: IntArray) -> IntArray:
    """Renumber labels by first occurrence.

    >>> order_labels(np.array([7, 7, 2, 7, 0])).tolist()
    [0, 0, 1, 0, 2]
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def neighbours(n: int) -> int:
    """Return how many neighbours a map gets in a graph of ``n`` maps."""
    log = math.ceil(math.log(n))
    return max(min(max(log + 1, 2), 7), log)


def knn_graph(cosines: Any, k: int) -> Any:
    """Connect each map with its ``k`` most similar ones.

    A map is excluded from its own neighbours by its index, not by its distance, so duplicates
    keep each other; of equally similar maps the earlier ones are taken.

    Args:
        cosines: ``(n, n)`` Gram matrix, NumPy or CuPy; its order is that of D² = 2 − 2·cos.
        k: neighbours, 0 ≤ k < n.

    Returns:
        ``(n, n)`` weights W = (B + Bᵀ)/2 with B the 0/1 matrix of the neighbours, likewise.
    """
    xp = array_namespace(cosines)
    graph = xp.zeros_like(cosines)
    graph[xp.arange(len(graph))[:, None], _nearest(cosines, k)] = 1.0
    return (graph + graph.T) / 2


def _nearest(cosines: Any, k: int) -> Any:
    """Return the numbers of the ``k`` most similar other maps of each, ``(n, k)``."""
    xp = array_namespace(cosines)
    nearest = []
    for start in range(0, len(cosines), TILE):
        distance = -cosines[start : start + TILE]
        row = xp.arange(len(distance))
        distance[row, start + row] = xp.inf
        # A copy, because a view would keep the whole order of all maps.
        nearest.append(xp.argsort(distance, axis=1, kind="stable")[:, :k].copy())
    return xp.concatenate(nearest)


def laplacian(weights: Any) -> Any:
    """Return the symmetric normalised Laplacian I − D^−½ W D^−½, NumPy or CuPy as the weights.

    A map without neighbour gets degree 1, so its row is that of the identity.
    """
    xp = array_namespace(weights)
    degree = weights.sum(axis=1)
    scale = 1.0 / xp.sqrt(xp.where(degree > 0, degree, 1.0))
    matrix = -weights * scale[:, None] * scale
    place = xp.arange(len(matrix))
    matrix[place, place] += 1.0
    return matrix


def _sparse_laplacian(nearest: IntArray) -> sparse.csc_array:
    """Return what :func:`laplacian` gives of a :func:`knn_graph`, without a matrix of zeros.

    The numbers are the same to the last bit: sums of weights, which are halves, are exact.

    Args:
        nearest: ``(n, k)`` neighbours of each map, k at least 1.
    """
    n, k = nearest.shape
    place = np.arange(n, dtype=np.int32)  # the solver takes no other
    at = (np.repeat(place, k), nearest.ravel().astype(np.int32))
    one_way = sparse.csr_array((np.ones(n * k), at), shape=(n, n))
    weights = ((one_way + one_way.T) / 2).tocoo()
    scale = 1.0 / np.sqrt(weights.sum(axis=1))
    rows, columns = weights.coords
    values = -weights.data * scale[rows] * scale[columns]
    at = (np.concatenate((rows, place)), np.concatenate((columns, place)))
    return sparse.csc_array((np.concatenate((values, np.ones(n))), at), shape=(n, n))


def _sparse_eigenpairs(
    matrix: sparse.csc_array, count: int
) -> tuple[FloatArray, FloatArray] | None:
    """Return the smallest eigenpairs, or None where the iteration did not converge."""
    start = np.random.default_rng(0).standard_normal(matrix.diagonal().size)
    try:
        # Shift-invert just below zero: the wanted end of the spectrum is crowded, and there a
        # plain Lanczos iteration would hardly converge.
        pairs = sparse_linalg.eigsh(matrix, k=count, sigma=-0.01, which="LM", v0=start)
    except (sparse_linalg.ArpackError, RuntimeError):
        return None
    return np.asarray(pairs[0]), np.asarray(pairs[1])


def _dense_eigenpairs(matrix: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    """Return the smallest eigenpairs of a small matrix."""
    try:
        return scipy.linalg.eigh(matrix, subset_by_index=[0, count - 1], check_finite=False)
    except np.linalg.LinAlgError:
        # The subset solver gives up on some nearly complete graphs; the full one does not.
        values, vectors = np.linalg.eigh(matrix)
        return values[:count], vectors[:, :count]


def _smallest_eigenpairs(cosines: Any, k: int, count: int) -> tuple[FloatArray, FloatArray]:
    """Return the smallest eigenvalues of the Laplacian of a graph, and their vectors.

    Args:
        cosines: ``(n, n)`` Gram matrix, NumPy or CuPy.
        k: neighbours of each map in the graph, at least 1.
        count: how many.

    Returns:
        ``(count,)`` ascending and ``(n, count)``, with at most n.
    """
    n = len(cosines)
    count = min(count, n)
    xp = array_namespace(cosines)
    if is_numpy(xp):
        pairs = None
        if n > SPARSE_FROM and count < n // 4:
            pairs = _sparse_eigenpairs(_sparse_laplacian(_nearest(cosines, k)), count)
        if pairs is None:
            pairs = _dense_eigenpairs(laplacian(knn_graph(cosines, k)), count)
        values, vectors = pairs
    else:
        # A GPU decomposes the whole matrix in less time than it takes to hand it over.
        values, vectors = xp.linalg.eigh(laplacian(knn_graph(cosines, k)))
        values, vectors = to_numpy(values[:count]), to_numpy(vectors[:, :count])
    order = np.argsort(values, kind="stable")
    values, vectors = np.clip(values[order], 0.0, None), vectors[:, order]
    # The sign of an eigenvector is arbitrary: its largest entry is made positive.
    peak = np.abs(vectors).argmax(axis=0)
    signs = np.where(vectors[peak, np.arange(count)] < 0, -1.0, 1.0)
    return values, vectors * signs


def _k_means(points: FloatArray, k: int, restarts: int) -> IntArray:
    """Cluster the rows; the first start is farthest-point, the others are seeded k-means++."""
    n = len(points)
    rng = np.random.default_rng(0)
    best: IntArray = np.zeros(n, dtype=np.int64)
    best_inertia = np.inf
    for attempt in range(restarts):
        starts = [0 if attempt == 0 else int(rng.integers(n))]
        distance = ((points - points[starts[0]]) ** 2).sum(axis=1)
        for _ in range(k - 1):
            if attempt == 0 or not distance.sum() > 0:
                starts.append(int(distance.argmax()))
            else:
                starts.append(int(rng.choice(n, p=distance / distance.sum())))
            distance = np.minimum(distance, ((points - points[starts[-1]]) ** 2).sum(axis=1))
        centres = points[starts].copy()
        labels = np.full(n, -1)
        for _ in range(30):
            squared = (centres**2).sum(axis=1) - 2.0 * points @ centres.T
            nearest = squared.argmin(axis=1)
            if np.array_equal(nearest, labels):
                break
            labels = nearest
            member = labels[:, None] == np.arange(k)
            counts = member.sum(axis=0)
            filled = counts > 0
            centres[filled] = (member.T.astype(np.float64) @ points)[filled] / counts[filled, None]
        inertia = float(((points - centres[labels]) ** 2).sum())
        if inertia < best_inertia - 1e-12:
            best_inertia, best = inertia, labels
    return best


def block_means(cosines: Any, labels: IntArray) -> tuple[FloatArray, FloatArray, IntArray]:
    """Average the Gram matrix over pairs of clusters.

    Args:
        cosines: ``(n, n)``, NumPy or CuPy.
        labels: ``(n,)``; negative labels are left out.

    Returns:
        S ``(k, k)``, sizes ``(k,)`` and labels ``(k,)`` ascending. S_ab is the inner product of
        the mean descriptors of a and b.
    """
    ids = np.unique(labels[labels >= 0])
    member = (labels[:, None] == ids).astype(np.float64)
    counts = member.sum(axis=0)
    indicator = array_namespace(cosines).asarray(member)
    products = to_numpy(indicator.T @ cosines @ indicator)
    return products / np.outer(counts, counts), counts, ids


def merge_clusters(cosines: Any, labels: IntArray, noise: NoiseModel, above: float) -> IntArray:
    """Merge clusters, most similar first, while their clean mean maps agree.

    Args:
        cosines: ``(n, n)`` Gram matrix, NumPy or CuPy.
        labels: ``(n,)`` non-negative labels.
        noise: noise of the maps.
        above: pairs merge while their noise-corrected cosine exceeds this.

    Returns:
        ``(n,)`` labels; a merged cluster carries the lower label of the two.
    """
    means, counts, ids = block_means(cosines, labels)
    total = (means * np.outer(counts, counts)).tolist()
    sizes = [round(count) for count in counts.tolist()]
    into = merge_blocks(total, sizes, noise.energy(np.arange(len(cosines) + 1)), above)
    return ids[np.asarray(into)][np.searchsorted(ids, labels)]


def merge_blocks(
    products: list[list[float]],
    sizes: list[int],
    energies: FloatArray,
    above: float,
    spread: FloatArray | None = None,
    patterns: list[int] | None = None,
) -> list[int]:
    """Merge clusters given by the inner products of their sums, see :func:`merge_clusters`.

    Args:
        products: ``k × k`` inner products of the sums of their maps.
        sizes: ``(k,)`` how many maps those are.
        energies: noise energy left in a mean of 0, 1, … maps.
        above: pairs merge while their noise-corrected cosine exceeds this, less what noise alone
            may take from it.
        spread: variance of the cosine of a mean of 0, 1, … maps by noise alone; zero if None.
        patterns: ``(k,)`` known pattern that each cluster carries, or −1; two different ones are
            never merged. None: no cluster carries one.

    Returns:
        The cluster that each one went into, always the first of those merged.
    """
    # A handful of numbers: plain Python is several times faster here than arrays.
    k = len(sizes)
    size, total = list(sizes), [line[:k] for line in products[:k]]
    carries = [-1] * k if patterns is None else list(patterns)
    into, alive = list(range(k)), [a for a in range(k) if size[a]]
    length, spare = [0.0] * k, [0.0] * k
    # By how much the cosine of a with a later b exceeds what it takes to merge them.
    excess = [[0.0] * k for _ in range(k)]
    fresh = alive
    while len(alive) > 1:
        for a in fresh:
            # Clean length of a sum of maps, and how much noise may move its cosines.
            n, own = size[a], total[a][a]
            noise = float(energies[n]) * n**2
            length[a] = max(own - noise, MIN_EXPLAINED * own, MIN_ENERGY * n**2) ** 0.5
            spare[a] = 0.0 if spread is None else float(spread[n])
        for a in fresh:
            pattern, line, own_length = carries[a], total[a], length[a]
            for b in alive:
                if b == a or (fresh is alive and b < a):
                    continue
                if pattern >= 0 and carries[b] >= 0 and pattern != carries[b]:
                    over = 0.0
                else:
                    over = line[b] / (own_length * length[b]) - above + (spare[a] + spare[b]) ** 0.5
                if a < b:
                    excess[a][b] = over
                else:
                    excess[b][a] = over
        highest = [max(line) for line in excess]
        best = max(highest)
        if best <= 0.0:
            break
        first = highest.index(best)
        second = excess[first].index(best)
        line, merged = total[first], total[second]
        line[first] += merged[first] + merged[first] + merged[second]
        for c in alive:
            if c != first:
                line[c] += merged[c]
                total[c][first] = line[c]
        size[first] += size[second]
        carries[first] = max(carries[first], carries[second])
        into = [first if a == second else a for a in into]
        alive = [a for a in alive if a != second]
        excess[second] = [0.0] * k
        for line in excess:
            line[second] = 0.0
        fresh = [first]
    return into


def linkage(cosines: FloatArray, noise: NoiseModel, cut: float) -> IntArray:
    """Cluster few maps by average linkage on the noise-corrected cosine.

    Args:
        cosines: ``(n, n)`` Gram matrix, n at least 2.
        noise: noise of the maps.
        cut: clusters join while their mean corrected cosine is at least this.

    Returns:
        ``(n,)`` labels from 0.
    """
    distance = np.clip(1.0 - cosines / noise.level, 0.0, 2.0)
    tree = hierarchy.linkage(distance[np.triu_indices(len(distance), 1)], "average")
    return hierarchy.fcluster(tree, 1.0 - cut, "distance").astype(np.int64) - 1


def partition(
    cosines: Any,
    preset: SprayPreset,
    noise: NoiseModel,
    *,
    clusters: int | None = None,
) -> tuple[IntArray, FloatArray]:
    """Cluster maps given by their Gram matrix, small clusters included.

    Args:
        cosines: ``(n, n)`` Gram matrix of maps in the order of time, NumPy or CuPy.
        preset: how.
        noise: noise of the maps.
        clusters: fixed number of clusters, instead of the preset's rule and without merging.

    Returns:
        ``(n,)`` labels in no particular order, and the eigenvalues looked at (may be empty).
    """
    n = len(cosines)
    fixed = clusters if clusters is not None else preset.clusters
    if fixed is not None:
        fixed = min(fixed, n)
    if n < 4 or fixed == 1:
        return np.zeros(n, dtype=np.int64), np.empty(0)
    if fixed is None and n < preset.linkage_below:
        return linkage(to_numpy(cosines), noise, preset.linkage_cosine), np.empty(0)
    knn = min(preset.knn if preset.knn is not None else neighbours(n), n - 1)
    bound = max(preset.max_clusters, fixed or 1)
    values, vectors = _smallest_eigenpairs(cosines, knn, bound + 1)
    tau = preset.tau_long if n >= preset.long_from else preset.tau
    k = fixed or min(max(int((values < tau).sum()), 1), bound)
    if k == 1:
        return np.zeros(n, dtype=np.int64), values
    rows = vectors[:, :k]
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    labels = _k_means(rows / np.where(length > 0, length, 1.0), k, preset.restarts)
    if fixed is None and preset.merge_above is not None:
        labels = merge_clusters(cosines, labels, noise, preset.merge_above)
    return labels, values


def _dissolve(cosines: Any, labels: IntArray, smallest: int, coherence: float = -1.0) -> IntArray:
    """Give the maps of clusters that show no pattern, map by map, to the most similar other one.

    Too few maps show none, nor do maps that have nothing in common but being unlike the others.
    """
    means, counts, ids = block_means(cosines, labels)
    coherent = ids[(counts >= smallest) & (np.diag(means) >= coherence)]
    if not coherent.size or coherent.size == ids.size:
        return labels if coherent.size else np.zeros_like(labels)
    member = (labels[:, None] == coherent).astype(np.float64)
    indicator = array_namespace(cosines).asarray(member)
    mean_cosine = to_numpy(cosines @ indicator) / member.sum(axis=0)
    return np.where(np.isin(labels, coherent), labels, coherent[mean_cosine.argmax(axis=1)])


def spray(
    descriptors: Any,
    preset: str | SprayPreset = "sequence",
    *,
    clusters: int | None = None,
    runs: NDArray[np.int64] | None = None,
) -> Clustering:
    """Cluster the relevance maps of one Action Unit in a whole sequence.

    Args:
        descriptors: ``(n, D)`` real, of NumPy or CuPy, or :class:`Rows`; one row per map, in the
            order of time. Rows are L2-normalised here (a row that is normalised already stays as
            it is).
        preset: name in :data:`SPRAY_PRESETS`, or a preset.
        clusters: fixed number of clusters (at most n), instead of the preset's rule.
        runs: ``(n,)`` number of the unbroken run of frames each map belongs to: neighbours from
            different runs say nothing about noise. One run if None.

    Returns:
        The clusters, labelled by first occurrence.

    Raises:
        ConfigError: the preset is unknown.
        ValueError: the array is not two-dimensional, a row is zero or not finite, or ``clusters``
            is not positive.
    """
    if isinstance(preset, str):
        preset = spray_preset(preset)
    if clusters is not None and clusters < 1:
        raise ValueError(f"the number of clusters must be at least 1, got {clusters}")
    x = _InMemory.of(descriptors)
    n = len(x)
    chosen = np.arange(n)
    if n > preset.max_maps:
        chosen = np.linspace(0, n - 1, preset.max_maps).round().astype(np.int64)
        if runs is None:
            runs = np.zeros(n, dtype=np.int64)
    subset = normalise(x.take(chosen))
    cosines = gram(subset)
    noise = noise_model(cosines, None if runs is None else np.asarray(runs)[chosen])
    labels, values = partition(cosines, preset, noise, clusters=clusters)
    if clusters is None and preset.min_cluster > 1:
        labels = _dissolve(cosines, labels, preset.min_cluster, preset.min_coherence)
    if n > preset.max_maps:
        labels = _nearest_mean(x, subset, labels, chosen)
    labels = order_labels(labels)
    return Clustering(labels, values, int(labels.max(initial=-1)) + 1, preset.name)


@dataclass(frozen=True, slots=True, eq=False)
class _InMemory:
    """An array as :class:`Rows`; one of CuPy gives rows of CuPy."""

    array: Any

    @classmethod
    def of(cls, descriptors: Any) -> Rows:
        """Return what rows can be taken from.

        Raises:
            ValueError: an array is not two-dimensional.
        """
        if hasattr(descriptors, "take") and not hasattr(descriptors, "dtype"):
            return descriptors
        x = array_namespace(descriptors).asarray(descriptors)
        if x.ndim != 2:
            raise ValueError(
                f"descriptors must be one row per map, (n, D), got shape {x.shape}; flatten each "
                "map"
            )
        return cls(x)

    def __len__(self) -> int:
        return len(self.array)

    def take(self, numbers: IntArray) -> Any:
        """Return rows; see :class:`Rows`."""
        return self.array[array_namespace(self.array).asarray(numbers)]


def _nearest_mean(x: Rows, subset: Any, labels: IntArray, at: IntArray) -> IntArray:
    """Extend the labels of a subset to all maps by the most similar mean map."""
    means = normalise(mean_maps(subset, labels))
    # Piece by piece: a long recording as a whole would take more memory than all the rest.
    nearest = [
        to_numpy((normalise(x.take(piece)) @ means.T).argmax(axis=1))
        for piece in np.split(np.arange(len(x)), range(_PIECE, len(x), _PIECE))
    ]
    everywhere = np.unique(labels)[np.concatenate(nearest)]
    everywhere[at] = labels
    return everywhere


def mean_maps(maps: Any, labels: IntArray) -> Any:
    """Average the maps of each cluster: the prototypes (paper §3.4).

    Args:
        maps: ``(n, …)`` relevance maps or descriptors, NumPy or CuPy.
        labels: ``(n,)`` non-negative labels.

    Returns:
        ``(K, …)`` float64 means, in ascending order of the labels, likewise.
    """
    xp = array_namespace(maps)
    members = [xp.asarray(np.flatnonzero(labels == i)) for i in np.unique(labels)]
    return xp.stack([maps[member].mean(axis=0, dtype=xp.float64) for member in members])
