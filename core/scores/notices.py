"""When a score is high for long: a notice, with its duration, its peak and the terms of that."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import ScoreConfig
from .values import Notice, NoticeOff, NoticeOn, ScoreValue

__all__ = ["NoticeGate"]

_EPSILON_S = 1e-6
"""Times come from media clocks with rounding of their own."""


@dataclass(slots=True)
class _Rise:
    """What is known of a score since it rose: where it began and the highest value since."""

    start: int
    start_s: float
    peak: ScoreValue
    peak_s: float
    number: int = 0
    below: tuple[int, float, str] | None = None

    def raise_to(self, value: ScoreValue, time_s: float) -> None:
        if (value.low or 0.0) > (self.peak.low or 0.0):
            self.peak, self.peak_s = value, time_s


class NoticeGate:
    """Turn one score into notices, with hysteresis.

    It looks at the least that the score can be (``low``), so an AU that is not known never makes a
    notice. A notice begins with the first frame of the run that made it.

    Args:
        name: of the score.
        bounds: least and largest value of the score.
        config: thresholds and times.
    """

    def __init__(self, name: str, bounds: tuple[float, float], config: ScoreConfig) -> None:
        least, most = bounds
        self.on = least + config.on * (most - least)
        self.off = least + config.off * (most - least)
        self._name, self._config = name, config
        self._rise: _Rise | None = None
        self._last: tuple[int, float] = (0, 0.0)

    def update(self, index: int, time_s: float, value: ScoreValue, number: int) -> Notice | None:
        """Take in the score of a frame; return the notice that begins or ends with it.

        Args:
            index, time_s: of the frame, larger than any before.
            value: the score.
            number: the next notice's.
        """
        rise = self._rise
        self._last = (index, time_s)
        if rise is not None and rise.number:
            return self._go_on(rise, index, time_s, value)
        if value.low is None or value.low < self.on:
            self._rise = None
            return None
        if rise is None:
            rise = self._rise = _Rise(index, time_s, value, time_s)
        rise.raise_to(value, time_s)
        if time_s - rise.start_s < self._config.dwell_s - _EPSILON_S:
            return None
        rise.number = number
        return NoticeOn(
            score=self._name,
            id=number,
            start=rise.start,
            start_s=rise.start_s,
            at=index,
            threshold=self.on,
            value=value,
        )

    def end(self, reason: str) -> NoticeOff | None:
        """End a notice that goes on: nobody looks at this face any more."""
        rise, self._rise = self._rise, None
        if rise is None or not rise.number:
            return None
        index, time_s = self._last if rise.below is None else rise.below[:2]
        return self._ended(rise, index, time_s, self._last[0], reason)

    def _go_on(self, rise: _Rise, index: int, time_s: float, value: ScoreValue) -> NoticeOff | None:
        if value.low is not None and value.low >= self.off:
            rise.below = None
            rise.raise_to(value, time_s)
            return None
        if rise.below is None:
            rise.below = (index, time_s, value.withheld or "below")
        end, end_s, reason = rise.below
        if time_s - end_s < self._config.release_s - _EPSILON_S:
            return None
        self._rise = None
        return self._ended(rise, end, end_s, index, reason)

    def _ended(self, rise: _Rise, end: int, end_s: float, at: int, reason: str) -> NoticeOff:
        return NoticeOff(
            score=self._name,
            id=rise.number,
            start=rise.start,
            start_s=rise.start_s,
            end=end,
            end_s=end_s,
            at=at,
            peak_s=rise.peak_s,
            peak=rise.peak,
            reason=reason,
        )
