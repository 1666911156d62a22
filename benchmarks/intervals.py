"""Figures with 95 % intervals that rest on people, not on frames.

Frames of one person resemble each other, so a thousand of them say little more than one. Every
interval here is as wide as the number of *people* makes it:

- a share gets Wilson's interval for that many observations. What varies between 0 and 1 has at
  most the variance of a coin with the same mean, so it is wide enough for means of shares too;
- all other figures are computed again and again for people drawn with replacement.

References:
    Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 22, 1927.
    Efron, *Bootstrap methods: another look at the jackknife*, Annals of Statistics 7(1), 1979.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRAWS", "Interval", "PairWins", "bootstrap", "bootstrap_values", "wilson"]

Interval = tuple[float, float]

DRAWS = 1000
"""Times people are drawn anew."""
_SEED = 20
_Z = 1.959964
"""Quantile of the normal distribution for 95 %."""
_FEWEST_DRAWS = 0.5
"""Share of the draws that must give a figure; with fewer there is no interval."""


def wilson(share: float, people: int) -> Interval | None:
    """Return the 95 % interval of a share.

    Args:
        share: 0–1: of people, or the mean over people of a share of each one's frames.
        people: their number.

    Returns:
        Lower and upper end; None without people.
    """
    if people == 0:
        return None
    spread = _Z * math.sqrt(share * (1 - share) / people + _Z**2 / (4 * people**2))
    middle, scale = share + _Z**2 / (2 * people), 1 + _Z**2 / people
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def bootstrap(people: int, figure: Callable[[NDArray[np.int64]], float]) -> Interval | None:
    """Return the 95 % interval of a figure by drawing people with replacement.

    Args:
        people: their number.
        figure: ``(P,)`` how often each person was drawn → the figure, NaN where these give none.

    Returns:
        Lower and upper end; None of fewer than two people, or where most draws give no figure.
    """
    if people < 2:
        return None
    random = np.random.default_rng(_SEED)
    drawn = random.multinomial(people, np.full(people, 1 / people), size=DRAWS)
    values = np.array([figure(counts) for counts in drawn])
    values = values[np.isfinite(values)]
    if len(values) < _FEWEST_DRAWS * DRAWS:
        return None
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def bootstrap_values(
    values: Sequence[float], figure: Callable[[NDArray[np.float64]], np.floating | float]
) -> Interval | None:
    """Return the 95 % interval of a figure of one value per person, such as their median."""
    array = np.asarray(values, np.float64)

    def of_drawn(counts: NDArray[np.int64]) -> float:
        return float(figure(np.repeat(array, counts)))

    return bootstrap(len(array), of_drawn)


@dataclass(frozen=True, slots=True, eq=False)
class PairWins:
    """The area under the ROC curve, taken apart by person.

    Every pair of people counts the same, however many frames each of them has: one long clip must
    not speak for everybody.

    Attributes:
        wins: ``(P, P)`` share of the pairs of a value of person p with the AU and one of person q
            without it in which the first is higher (equal ones count half); 0 where there is none.
        present: ``(P,)`` number of values with the AU.
        absent: ``(P,)`` number of values without it.
    """

    wins: NDArray[np.float64]
    present: NDArray[np.int64]
    absent: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        present: Sequence[NDArray[np.floating]],
        absent: Sequence[NDArray[np.floating]],
    ) -> PairWins:
        """Compare all values of people with the AU with all without it.

        Args:
            present: of each person the values with the AU; may be empty.
            absent: of each person, in the same order, those without it.
        """
        people = len(present)
        wins = np.zeros((people, people))
        for q, below in enumerate(absent):
            ordered = np.sort(below)
            for p, above in enumerate(present):
                if len(above) and len(ordered):
                    lower = np.searchsorted(ordered, above, "left")
                    not_higher = np.searchsorted(ordered, above, "right")
                    wins[p, q] = float((lower + not_higher).mean()) / (2 * len(ordered))
        with_au, without = (
            np.array([len(part) for part in side], np.int64) for side in (present, absent)
        )
        return cls(wins, with_au, without)

    def auc(self, counts: NDArray[np.int64] | None = None) -> float:
        """Return the area over all pairs of people, who count as often as given; NaN of none."""
        weight = np.ones(len(self.present)) if counts is None else counts.astype(np.float64)
        pairs = (weight @ (self.present > 0)) * (weight @ (self.absent > 0))
        return float(weight @ self.wins @ weight / pairs) if pairs else math.nan

    def within(self) -> NDArray[np.float64]:
        """Return ``(P,)`` each person's own area; NaN where one side is missing."""
        both = (self.present > 0) & (self.absent > 0)
        return np.where(both, np.diag(self.wins), np.nan)

    def interval(self) -> Interval | None:
        """Return the 95 % interval of :meth:`auc`; None where one person alone has the AU."""
        if (self.present > 0).sum() < 2 or (self.absent > 0).sum() < 2:
            return None
        return bootstrap(len(self.present), self.auc)
