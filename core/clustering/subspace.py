"""Leading eigenvectors of many small graphs, carried along as the graphs change.

A window of relevance maps changes by a map or a few between two looks at it, and its leading
eigenvectors change little. So the last ones are a good start: rows of new maps are filled in from
their neighbours, a polynomial of the matrix sharpens the subspace, and a small eigenproblem in it
gives vectors and values. All windows of a batch go through each step together; a window of fewer
maps than the arrays hold has zeros in the rest, which all steps leave zero.

References:
    Zhou, Saad, Tiago & Chelikowsky, "Self-consistent-field calculations using Chebyshev-filtered
    subspace iteration", Journal of Computational Physics 219, 2006.
    Fowlkes, Belongie, Chung & Malik, "Spectral grouping using the Nyström method", TPAMI 26, 2004.
    Saad, "Numerical Methods for Large Eigenvalue Problems", 2011 (Rayleigh–Ritz, residuals).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_lapack_funcs

from ..backend import array_namespace, is_numpy, to_numpy
from .graph import flat_rows

__all__ = ["Filter", "exact_subspace", "track_subspace"]

(_SMALL_EIGEN,) = get_lapack_funcs(("sygv",), dtype=np.float32)
MOST_VALUE = 1.01
"""No eigenvalue of D^−½·A·D^−½ is farther from zero than 1, but for rounding."""
MOST_SKEW = 0.01
"""Ritz vectors whose inner products are farther than this from those of orthonormal ones come from
a small problem that failed."""
MAX_ROUNDS = 3
"""Most times the filter is applied to one change of a graph."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The polynomial that sharpens a subspace.

    Attributes:
        degree: of the Chebyshev polynomial.
        low: lower end of the interval that is damped, eigenvalue of D^−½ A D^−½.
        tolerance: largest residual |M·v − θ·v| of a wanted vector that is good enough.
    """

    degree: int = 4
    low: float = -0.5
    tolerance: float = 0.02


def exact_subspace(
    graph: NDArray[np.float32], degree: NDArray[np.float32], block: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the leading eigenvectors of one graph from a dense solver, in float64 inside.

    Args:
        graph: ``(m, m)`` A, symmetric.
        degree: ``(m,)`` D.
        block: how many, at most m.

    Returns:
        Vectors of D^−½·A·D^−½ in rows ``(block, m)`` and eigenvalues ``(block,)``, descending.
    """
    scale = degree.astype(np.float64) ** -0.5
    values, vectors = np.linalg.eigh(graph * scale[:, None] * scale)
    last = slice(None, -block - 1, -1)
    return vectors.T[last].astype(np.float32), values[last].astype(np.float32)


def track_subspace(
    graph: Any,
    degree: Any,
    vectors: Any,
    values: NDArray[np.float32],
    places: Any,
    wanted: list[int],
    how: Filter,
) -> tuple[Any, NDArray[np.float32], list[float]]:
    """Move subspaces along with their graphs.

    Args:
        graph: ``(s, W, W)`` float32 A; its diagonal is used in between, and 0 again in the end.
        degree: ``(s, W)`` float32 D, see :func:`facestage.core.clustering.graph.degrees`.
        vectors: ``(s, b, W)`` float32, those of the graphs before the change.
        values: ``(s, b)`` their eigenvalues, descending (NumPy).
        places: ``(s, c)`` columns that are new and filled in from their neighbours.
        wanted: ``(s,)`` how many leading pairs must be good.
        how: the filter.

    Returns:
        Vectors ``(s, b, W)``, values ``(s, b)`` (NumPy) and the largest residual of the wanted ones
        ``(s,)``; not a number where the iteration broke down.
    """
    xp = array_namespace(graph)
    half = [(min(max(v, 0.0), 0.9) - how.low) * 0.5 for v in values[:, -1].tolist()]
    stretch = np.array([-2.0 / h for h in half], np.float32)[:, None]
    shift = np.array([2.0 + 2.0 * how.low / h for h in half], np.float32)[:, None]
    # Inside, all is done with D^−½·v, the eigenvectors of D⁻¹·A, which one scaling makes of A.
    root = xp.sqrt(degree)[:, None]
    vectors = vectors / root
    _fill_in(vectors, graph, degree, places)
    # S = −2/half · (A·D⁻¹ − centre·I) is what the recurrence multiplies by: A with a diagonal, and
    # weights. Negative, so that LAPACK's rising eigenvalues begin with the leading ones; to a
    # polynomial of even degree it is all the same, and one of odd degree turns the vectors around.
    weight = (xp.asarray(stretch) / degree)[:, None]
    diagonal = graph.reshape(len(graph), -1)[:, :: graph.shape[1] + 1]
    diagonal[:] = xp.asarray(shift / stretch) * degree
    most = max(wanted)
    vectors, ritz, error = _filter_round(graph, weight, degree, vectors, how.degree, most)
    worst = _residuals(ritz, error, wanted, half)
    for _ in range(MAX_ROUNDS - 1):
        poor = [a for a, residual in enumerate(worst) if residual > how.tolerance]
        if not poor:
            break
        vectors[poor], ritz[poor], error = _filter_round(
            graph[poor], weight[poor], degree[poor], vectors[poor], how.degree, most
        )
        better = _residuals(ritz[poor], error, [wanted[a] for a in poor], [half[a] for a in poor])
        for a, residual in zip(poor, better, strict=True):
            worst[a] = residual
    diagonal[:] = 0.0
    values = (ritz - shift) / stretch  # those were of S
    if not is_numpy(xp):
        # No error tells that the small problem failed on a GPU, and its answer may be finite.
        for a in np.flatnonzero(~(np.abs(values) <= MOST_VALUE).all(axis=1)).tolist():
            worst[a] = np.nan
    return vectors * root, values, worst


def _fill_in(vectors: Any, graph: Any, degree: Any, places: Any) -> None:
    """Give new maps what their neighbours have in the mean, in place.

    Args:
        vectors: ``(s, b, W)`` eigenvectors of D⁻¹·A, written to.
        graph: ``(s, W, W)`` A, zero on the diagonal.
        degree: ``(s, W)`` D.
        places: ``(s, c)`` columns that are new.
    """
    size = graph.shape[1]
    new = flat_rows(places, size)
    columns = vectors.transpose(0, 2, 1)
    if len(new) == 1:  # slices, which are several times faster than lists
        at = new[0]
        columns[0, at] = 0.0
        columns[0, at] = vectors[0] @ graph[0, at] / degree[0, at]
        return
    window = array_namespace(graph).arange(len(graph))[:, None]
    columns[window, places] = 0.0
    sums = graph.reshape(-1, size)[new].reshape(*places.shape, size) @ columns
    columns[window, places] = sums / degree.reshape(-1)[new].reshape(*places.shape, 1)


def _residuals(
    ritz: NDArray[np.float32], image: NDArray[np.float32], wanted: list[int], half: list[float]
) -> list[float]:
    """Return the largest residual of the wanted vectors of each window.

    Args:
        ritz: ``(s, b)`` Ritz values θ of vectors of unit length.
        image: ``(s, c)`` |S·v|² of the first of them, which is |S·v − θ·v|² + θ².
        wanted: how many count.
        half: half the width of the interval that was stretched, see :func:`track_subspace`.
    """
    squares = (image - ritz[:, : image.shape[1]] ** 2).tolist()
    return [
        max(*line[:n], 0.0) ** 0.5 * h * 0.5
        for line, n, h in zip(squares, wanted, half, strict=True)
    ]


def _filter_round(
    matrix: Any, weight: Any, degree: Any, vectors: Any, order: int, columns: int
) -> tuple[Any, NDArray[np.float32], NDArray[np.float32]]:
    """Apply T_order to the vectors and solve the eigenproblem in the space that they span.

    Args:
        matrix: ``(s, W, W)`` symmetric; S is this with its columns multiplied by ``weight``.
        weight: ``(s, 1, W)``, multiplied into products with vectors, which have fewer numbers.
        degree: ``(s, W)`` the product in which vectors are orthogonal.
        vectors: ``(s, b, W)``.
        order: of the polynomial.
        columns: how many of the first Ritz vectors need the length of their image.

    Returns:
        Ritz vectors ``(s, b, W)``, Ritz values ``(s, b)``, both of S and rising, and the squared
        lengths of the images of the first ``columns`` of them.
    """
    xp = array_namespace(matrix)
    before, now = vectors, vectors @ matrix
    now *= 0.5 * weight
    for _ in range(order - 1):
        after = now @ matrix
        after *= weight
        after -= before
        before, now = now, after
    b = now.shape[1]
    # All inner products of the vectors and their images.
    both = xp.empty((len(now), 2 * b, now.shape[2]), xp.float32)
    both[:, :b] = now
    xp.multiply(now @ matrix, weight, out=both[:, b:])
    small = (both * degree[:, None]) @ both.transpose(0, 2, 1)
    values, turn = _ritz(small[:, b:, :b], small[:, :b, :b], xp)
    # |S·v − θ·v|² = |S·v|² − θ² of vectors of unit length.
    ahead = turn[:, :columns]
    squares = xp.einsum("sij,sij->si", ahead @ small[:, b:, b:], ahead)
    return turn @ now, to_numpy(values), to_numpy(squares)


def _ritz(small: Any, overlap: Any, xp: Any) -> tuple[Any, Any]:
    """Solve H·u = θ·C·u for batches of small matrices.

    Args:
        small: ``(s, b, b)`` H, symmetric up to rounding.
        overlap: ``(s, b, b)`` C, symmetric and positive.
        xp: array module.

    Returns:
        Values ``(s, b)`` rising and vectors in rows ``(s, b, b)``; NaN where C is not positive.
    """
    if is_numpy(xp):
        # One call of LAPACK does what takes NumPy a dozen, and these matrices are 8 × 8. Turned
        # over they lie as LAPACK wants them.
        values, turn = [], []
        for h, c in zip(small, overlap, strict=True):
            theta, u, failed = _SMALL_EIGEN(h.T, c.T)
            if failed:
                theta[:] = u[:] = np.nan
            values.append(theta)
            turn.append(u.T)
        if len(turn) == 1:
            return values[0][None], turn[0][None]
        return np.array(values), np.array(turn)
    inverse = xp.linalg.inv(xp.linalg.cholesky(overlap))
    back = inverse.transpose(0, 2, 1)
    theta, u = xp.linalg.eigh(inverse @ ((small + small.transpose(0, 2, 1)) * 0.5) @ back)
    turn = u.transpose(0, 2, 1) @ inverse
    # CuPy does not look at what Cholesky says of a matrix that is not positive: it goes on with
    # the factor as far as it came. Such vectors are not orthonormal.
    skew = turn @ overlap @ turn.transpose(0, 2, 1) - xp.eye(overlap.shape[1], dtype=xp.float32)
    sound = xp.abs(skew).max(axis=(1, 2)) <= MOST_SKEW  # NaN is not either
    return xp.where(sound[:, None], theta, xp.nan), turn
