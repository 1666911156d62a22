"""The letters of a sliding window by the textbook: every map, all of it is computed anew.

This is an oracle. It shares no code with the package and takes plain numbers, and each step is the
plain form that its reference describes: slow, and easy to check by reading.

References:
    von Luxburg, "A tutorial on spectral clustering", Statistics and Computing 17, 2007 (kNN graph,
        normalised Laplacian, as many clusters as eigenvalues near zero).
    Ng, Jordan & Weiss, "On spectral clustering", NeurIPS 2001 (k-means on rows of unit length).
    Spearman, "The proof and measurement of association between two things", American Journal of
        Psychology 15, 1904 (correction of a correlation for the noise of both sides).
    Kuhn, "The Hungarian method for the assignment problem", 1955 (clusters to prototypes).
"""

from __future__ import annotations

from collections import Counter, deque

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

__all__ = ["TextbookWindow"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

HITS, OF = 3, 4
"""Another letter is confirmed when it filled so many of the latest so many maps."""
TOO_FEW = 4
"""Clusters with fewer maps show nothing new."""


def nearest_neighbour_graph(cosines: FloatArray, k: int) -> FloatArray:
    """Join each map with its ``k`` most similar others; weights ``(n, n)`` 0, ½ or 1."""
    others = cosines - 3.0 * np.eye(len(cosines))  # no map is its own neighbour
    directed = np.zeros_like(cosines)
    for i, nearest in enumerate(np.argsort(-others, axis=1)[:, :k]):
        directed[i, nearest] = 1.0
    return (directed + directed.T) / 2


def spectral_labels(cosines: FloatArray, k: int, tau: float, most: int) -> IntArray:
    """Cluster maps by the eigenvectors of the normalised Laplacian, ``(n,)`` labels."""
    n = len(cosines)
    weights = nearest_neighbour_graph(cosines, k)
    root = np.diag(1.0 / np.sqrt(weights.sum(axis=1)))
    values, vectors = scipy.linalg.eigh(np.eye(n) - root @ weights @ root)
    clusters = min(int((values < tau).sum()), most)
    rows = vectors[:, :clusters]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = KMeans(clusters, n_init=4, random_state=0).fit_predict(rows)
    return np.asarray(found, dtype=np.int64)


def mean_cosine(cosines: FloatArray, a: IntArray, b: IntArray) -> float:
    """Average the cosines of maps ``a`` with maps ``b``, no map with itself."""
    different = a[:, None] != b
    return float(cosines[np.ix_(a, b)][different].mean()) if different.any() else 1.0


def agreement(cosines: FloatArray, a: IntArray, b: IntArray) -> float:
    """Return the cosine of the patterns behind two sets of maps, corrected for attenuation.

    Noise lowers the cosine of two maps of one pattern as much as that of two maps of different
    patterns, so the latter is divided by what maps of one pattern reach.
    """
    reached = mean_cosine(cosines, a, a) * mean_cosine(cosines, b, b)
    return mean_cosine(cosines, a, b) / np.sqrt(max(reached, 1e-6))


def merge_agreeing(cosines: FloatArray, labels: IntArray, above: float) -> list[IntArray]:
    """Merge the two clusters that agree most while they do by more than ``above``.

    Returns:
        The places of the maps of each cluster.
    """
    clusters = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    while len(clusters) > 1:
        pairs = [(a, b) for a in range(len(clusters)) for b in range(a)]
        scores = [agreement(cosines, clusters[a], clusters[b]) for a, b in pairs]
        if max(scores) <= above:
            break
        a, b = pairs[int(np.argmax(scores))]
        clusters[b] = np.concatenate([clusters[b], clusters[a]])
        del clusters[a]
    return clusters


class TextbookWindow:
    """One window of maps, clustered anew and exactly at each of them.

    Args:
        size: maps in the window.
        neighbours: of each map in the graph.
        tau: eigenvalues below it count as clusters.
        most: bound on their number.
        merge_above: clusters merge while their patterns agree by more than this cosine.
        match_above: a cluster may be a known prototype from this cosine on.
    """

    def __init__(
        self,
        size: int,
        neighbours: int,
        tau: float,
        most: int,
        merge_above: float,
        match_above: float,
    ) -> None:
        self.neighbours, self.tau, self.most = neighbours, tau, most
        self.merge_above, self.match_above = merge_above, match_above
        self.window: deque[FloatArray] = deque(maxlen=size)
        self.identities: deque[int] = deque(maxlen=size)
        self.prototypes: list[FloatArray] = []
        """Mean of the maps of each prototype when it was last seen."""
        self.shown: list[int] = []
        """Prototype shown at each map so far; one confirmed later reaches back to its first."""

    def feed(self, descriptors: FloatArray) -> list[int]:
        """Take in maps ``(n, D)``, unit rows, and return the prototype shown at each so far."""
        # On a busy machine the threads of k-means wait for each other ten times as long as it runs.
        with threadpool_limits(1):
            for descriptor in descriptors:
                self.update(descriptor)
        return self.shown

    def update(self, descriptor: FloatArray) -> None:
        """Take in one map, a unit vector."""
        self.window.append(descriptor)
        self.identities.append(self.identities[-1] if self.identities else 0)
        x = np.stack(self.window)
        # In a graph of k neighbours, two groups of k + 1 maps are the least that can fall apart.
        if len(x) >= 2 * (self.neighbours + 1):
            cosines = x @ x.T
            labels = spectral_labels(cosines, self.neighbours, self.tau, self.most)
            self.name(x, merge_agreeing(cosines, labels, self.merge_above))
        self.show()

    def name(self, x: FloatArray, clusters: list[IntArray]) -> None:
        """Give each cluster the prototype it continues, one to one, or a new one."""
        clusters = sorted((c for c in clusters if len(c) >= TOO_FEW), key=lambda c: c.min())
        if not clusters:
            return
        means = np.stack([x[c].mean(axis=0) for c in clusters])
        before = np.array(self.identities)
        known = len(self.prototypes)
        found = [-1] * len(clusters)
        if known:
            cosine = 1.0 - cdist(means, np.stack(self.prototypes), "cosine")
            overlap = np.array([[(before[c] == p).mean() for p in range(known)] for c in clusters])
            for a, b in zip(*linear_sum_assignment(-(cosine + overlap)), strict=True):
                if cosine[a, b] >= self.match_above:
                    found[a] = int(b)
        for cluster, mean, identity in zip(clusters, means, found, strict=True):
            if identity < 0:
                identity = len(self.prototypes)
                self.prototypes.append(mean)
            self.prototypes[identity] = mean
            for place in cluster:
                self.identities[place] = identity

    def show(self) -> None:
        """Confirm another letter once most of the latest maps have it, back to its first map."""
        newest = list(self.identities)[::-1]
        self.shown.append(self.shown[-1] if self.shown else newest[0])
        commonest, count = Counter(newest[:OF]).most_common(1)[0]
        if commonest == self.shown[-1] or count < HITS:
            return
        length = newest.index(commonest) + 1
        while length < len(newest) and (newest[length] == commonest or length < HITS):
            length += 1
        self.shown[-length:] = [commonest] * length
