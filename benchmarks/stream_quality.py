"""How well letters follow the patterns of a stream: the measures of ``benchmarks/window.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

__all__ = ["Quality", "agreement", "judge", "summary"]

BEFORE, AFTER = 5, 12
"""A change of letter this close around a true change is not false, maps."""
SHORT = 15
"""Segments shorter than this are not asked for their letter, maps."""
RATE = 30.0
"""Maps per second, to state a rate per minute."""


@dataclass(frozen=True)
class Quality:
    """Figures of one stream.

    Attributes:
        ari: adjusted Rand index of shown letters and patterns, over judged maps.
        letters, patterns: how many there were.
        false_per_minute: changes of the shown letter far from any true change.
        new, known: maps until a pattern is shown and held, at its first visit and later ones.
        missed: visits of at least 15 maps in which that never happened, of all such visits.
        regained: visits that show the letter of the pattern's first visit, of all returns.
    """

    ari: float
    letters: int
    patterns: int
    false_per_minute: float
    new: tuple[int, ...]
    known: tuple[int, ...]
    missed: tuple[int, int]
    regained: tuple[int, int]


def agreement(truth: Sequence[object], found: Sequence[object]) -> float:
    """Return the adjusted Rand index; 1 if both are constant."""
    if len(set(truth)) == len(set(found)) == 1:
        return 1.0
    return float(adjusted_rand_score(truth, found))


def judge(truth: NDArray[np.int64], judged: NDArray[np.bool_], shown: Sequence[str]) -> Quality:
    """Compare the letters shown map by map with the truth."""
    names, letters = np.unique(np.asarray(shown), return_inverse=True)
    n = len(truth)
    changes = np.flatnonzero(np.diff(truth)) + 1
    near = np.zeros(n, bool)
    for at in changes:
        near[max(0, at - BEFORE) : at + AFTER] = True
    switched = np.flatnonzero(np.diff(letters)) + 1
    pattern_of = {
        letter: np.bincount(truth[(letters == letter) & judged]).argmax()
        if ((letters == letter) & judged).any()
        else -1
        for letter in range(len(names))
    }
    as_pattern = np.array([pattern_of[letter] for letter in letters])
    starts = [0, *changes]
    seen: set[int] = set()
    first: dict[int, int] = {}
    new: list[int] = []
    known: list[int] = []
    missed = visits = regained = returns = 0
    for start, end in zip(starts, [*changes, n], strict=True):
        pattern = int(truth[start])
        if end - start >= SHORT:
            if start:
                visits += 1
                states = [
                    i
                    for i in np.flatnonzero(as_pattern[start:end] == pattern)
                    if (as_pattern[start + i : start + i + 3] == pattern).all()
                ]
                if states:
                    (known if pattern in seen else new).append(int(states[0]))
                else:
                    missed += 1
            main = int(np.bincount(letters[start:end]).argmax())
            if pattern in first:
                returns += 1
                regained += first[pattern] == main
            else:
                first[pattern] = main
        seen.add(pattern)
    return Quality(
        agreement(truth[judged].tolist(), letters[judged].tolist()),
        len(names),
        len(np.unique(truth)),
        float((~near[switched]).sum()) / (n / RATE / 60),
        tuple(new),
        tuple(known),
        (missed, visits),
        (regained, returns),
    )


def _quantiles(values: list[int]) -> list[float] | None:
    return [float(v) for v in np.quantile(values, (0.5, 0.9))] if values else None


def _share(pairs: list[tuple[int, int]]) -> float | None:
    whole = sum(b for _, b in pairs)
    return round(sum(a for a, _ in pairs) / whole, 3) if whole else None


def summary(found: Sequence[Quality]) -> dict[str, object]:
    """Pool the figures of several streams."""
    return {
        "streams": len(found),
        "ari": round(float(np.mean([q.ari for q in found])), 3),
        "false_per_minute": round(float(np.mean([q.false_per_minute for q in found])), 2),
        "new_maps_median_p90": _quantiles([v for q in found for v in q.new]),
        "known_maps_median_p90": _quantiles([v for q in found for v in q.known]),
        "missed": _share([q.missed for q in found]),
        "regained": _share([q.regained for q in found]),
        "letters": [[q.letters, q.patterns] for q in found],
    }
