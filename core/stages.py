"""From Action Units and letters to stages and temporal prototypes (paper §3.4).

A *stage* is the set of prototypes present; the run-length collapsed sequence of stages is the
*temporal prototype*. Three parts, each usable alone:

- :func:`temporal_prototype` collapses labels that are already known for every frame;
- :class:`PresenceGate` turns AU probabilities into on/off with hysteresis;
- :class:`StageTracker` does the collapse live: every AU is debounced on its own, and each change
  is dated back to the frame it began at.

Debouncing each AU, rather than the whole set, matters: with ten AUs flickering independently the
set as a whole would never hold still long enough to be believed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .action_units import prototype_label
from .config import StageConfig
from .errors import ConfigError
from .types import LOST, NONE, Stage, StageEvent, StageLabels

__all__ = [
    "PresenceGate",
    "StageTracker",
    "format_labels",
    "format_prototype",
    "reduction",
    "stage_labels",
    "temporal_prototype",
]

# Times come from media clocks with rounding of their own; a dwell is met to within this.
_EPSILON_S = 1e-6
# The longest look back for the time of a frame. A run that began earlier is dated to the oldest
# frame remembered, which is far beyond any dwell.
_MEMORY_FRAMES = 1024


def stage_labels(letters: Mapping[int, str]) -> StageLabels:
    """Return the labels of a stage from the letter of each active AU.

    >>> stage_labels({12: "B", 1: "A"})
    ('AU01_A', 'AU12_B')
    >>> stage_labels({})
    ('NONE',)
    """
    return tuple(prototype_label(au, letters[au]) for au in sorted(letters)) or NONE


def format_labels(labels: StageLabels) -> str:
    """Write one stage as the paper does.

    >>> format_labels(("AU01_A", "AU02_A"))
    '(AU01_A, AU02_A)'
    """
    return f"({', '.join(labels)})"


def format_prototype(stages: Iterable[Stage | StageLabels]) -> str:
    """Write a temporal prototype as the paper does.

    >>> format_prototype([("NONE",), ("AU02_A",)])
    '(NONE) → (AU02_A)'
    """
    return " → ".join(format_labels(s.labels if isinstance(s, Stage) else s) for s in stages)


def reduction(stages: int, frames: int) -> float:
    """Return the reduction in description length, ``1 − stages/frames`` (paper table 1).

    Raises:
        ConfigError: no frame, or fewer frames than stages.
    """
    if not 0 < stages <= frames:
        raise ConfigError(f"{stages} stages cannot describe {frames} frames")
    return 1.0 - stages / frames


def temporal_prototype(
    labels: Sequence[StageLabels],
    *,
    times: Sequence[float] | None = None,
    indices: Sequence[int] | None = None,
) -> tuple[Stage, ...]:
    """Collapse the labels of consecutive frames into stages (paper §3.4).

    Args:
        labels: one entry per frame.
        times: time of each frame, seconds; frame numbers when not given.
        indices: index of each frame, ascending; ``0, 1, …`` when not given.

    Returns:
        The runs of equal labels, in order; together they cover all frames.
    """
    stages: list[Stage] = []
    for position, label in enumerate(labels):
        index = position if indices is None else indices[position]
        time = float(index) if times is None else float(times[position])
        if stages and stages[-1].labels == label:
            last = stages[-1]
            stages[-1] = Stage(label, last.start, index, last.start_s, time)
        else:
            stages.append(Stage(label, index, index, time, time))
    return tuple(stages)


class PresenceGate:
    """Decide which AUs are active, with hysteresis: on at ``on``, off below ``off``.

    Args:
        on: ``(A,)`` presence probability from which an inactive AU becomes active.
        off: ``(A,)`` probability below which an active AU becomes inactive; ``off <= on``.

    Raises:
        ConfigError: shapes differ, or a threshold leaves 0–1 or ``off > on``.
    """

    def __init__(self, on: ArrayLike, off: ArrayLike) -> None:
        self.on = np.asarray(on, np.float32)
        self.off = np.asarray(off, np.float32)
        if self.on.shape != self.off.shape or self.on.ndim != 1:
            raise ConfigError(
                f"on and off thresholds must be two equally long lists, got shapes "
                f"{self.on.shape} and {self.off.shape}"
            )
        if np.any((self.off > self.on) | (self.off < 0) | (self.on > 1)):
            raise ConfigError("thresholds must satisfy 0 <= off <= on <= 1 for every AU")
        self._active = np.zeros(self.on.shape, bool)

    @property
    def active(self) -> NDArray[np.bool_]:
        """Which AUs were active last, ``(A,)``."""
        return self._active.copy()

    def update(self, presence: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which AUs are active now, ``(A,)``, given their probabilities ``(A,)``."""
        self._active = np.where(self._active, presence >= self.off, presence >= self.on)
        return self._active.copy()

    def reset(self) -> None:
        """Forget which AUs were active."""
        self._active = np.zeros(self.on.shape, bool)


@dataclass(slots=True)
class _Channel:
    """Debounce of one AU (value: its letter, None when off) or of the face (True, False)."""

    value: str | bool | None
    candidate: str | bool | None = None
    pending: bool = False
    start: int = 0
    start_s: float = 0.0
    votes: dict[str | bool | None, int] = field(default_factory=dict)

    def observe(self, value: str | bool | None, start: int, start_s: float) -> None:
        if value == self.value:
            self.pending = False
        elif self.pending and self.value is None and value and self.candidate:
            # Going on: the letter may still change, the AU is active all the same.
            self.votes[value] = self.votes.get(value, 0) + 1
            if self.votes[value] >= self.votes.get(self.candidate, 0):
                self.candidate = value
            if start < self.start:
                self.start, self.start_s = start, start_s
        elif not self.pending or value != self.candidate:
            self.pending, self.candidate = True, value
            self.start, self.start_s = start, start_s
            self.votes = {value: 1}
        elif start < self.start:
            self.start, self.start_s = start, start_s

    def ripe(self, now_s: float, dwell_s: float) -> bool:
        return self.pending and now_s - self.start_s >= dwell_s - _EPSILON_S

    def confirm(self) -> None:
        self.value, self.pending = self.candidate, False


@dataclass(slots=True)
class _Change:
    start: int
    start_s: float
    au: int
    value: str | None
    reason: str


_REASONS = ("au_on", "au_off", "cluster_change")


class StageTracker:
    """Follow the stage of one source, frame by frame.

    A label of an AU counts once it has lasted ``min_stage_s``; the stage that results is dated
    back to the frame at which the label began. Labels that begin within ``min_stage_s`` of each
    other make one stage: it is entered with the first and revised as the others prove to last, so
    that every stage of AUs lasts at least that long. Losing the face is debounced in the same way
    and ends everything: after ``LOST`` each AU starts from inactive. A face that is there but too
    poor to analyse holds the stage for ``lost_after_s`` and becomes ``LOST`` after that, because
    showing an old state for longer would be a claim nobody checked.

    Args:
        config: dwell times; ``min_stage_s=0`` follows every frame, as the paper does.
    """

    def __init__(self, config: StageConfig | None = None) -> None:
        self.config = config or StageConfig()
        if self.config.min_stage_s < 0 or self.config.lost_after_s < 0:
            raise ConfigError(
                f"dwell times cannot be negative: min_stage_s={self.config.min_stage_s}, "
                f"lost_after_s={self.config.lost_after_s}"
            )
        self.reset()

    def reset(self) -> None:
        """Return to the state before the first frame."""
        self._aus: dict[int, _Channel] = {}
        self._face = _Channel(None)
        self._poor_since: tuple[int, float] | None = None
        self._labels: StageLabels | None = None
        self._letters: dict[int, str] = {}
        self._waiting: list[_Change] = []
        self._start = 0
        self._start_s = 0.0
        self._first: tuple[int, float] | None = None
        self._broken_at = -1
        self._floor = -1
        self._recent: deque[tuple[int, float]] = deque(maxlen=_MEMORY_FRAMES)

    @property
    def labels(self) -> StageLabels | None:
        """Labels of the current stage; None before the first is confirmed."""
        return self._labels

    @property
    def start(self) -> int:
        """Index of the frame at which the current stage began."""
        return self._start

    def update(
        self,
        index: int,
        time_s: float,
        letters: Mapping[int, tuple[str, int]] | None,
        *,
        lost: bool = False,
    ) -> list[StageEvent]:
        """Take in one frame and return the changes it confirms, in order of their start.

        Args:
            index: index of the frame, larger than any before.
            time_s: its time, seconds, not smaller than any before.
            letters: for each active AU its letter and the index of the frame since which it has
                shown this letter; ``{}`` when no AU is active; None when the frame has no face or
                one too poor to analyse.
            lost: whether ``letters is None`` means that there is no face at all.

        Raises:
            ConfigError: ``index`` or ``time_s`` goes backwards (call :meth:`gap` at a break).
        """
        if self._recent or index <= self._broken_at:
            last_index, last_s = self._recent[-1] if self._recent else (self._broken_at, time_s)
            if index <= last_index or time_s < last_s - _EPSILON_S:
                raise ConfigError(
                    f"frame {index} at {time_s:.3f} s came after frame {last_index} at "
                    f"{last_s:.3f} s; call gap() where time starts again, reset() for a new source"
                )
        self._recent.append((index, time_s))
        if self._first is None:
            self._first = (index, time_s)
        dwell = self.config.min_stage_s

        if letters is None:
            self._observe_absence(index, time_s, lost)
        else:
            self._poor_since = None
            self._face.observe(True, index, time_s)
            for au in self._aus.keys() - letters.keys():
                self._aus[au].observe(None, index, time_s)
            for au, (letter, since) in letters.items():
                channel = self._aus.setdefault(au, _Channel(None))
                channel.observe(letter, *self._dated(since, index, time_s))
            for au in sorted(self._aus):
                if self._aus[au].ripe(time_s, dwell):
                    self._waiting.append(self._confirm(au))

        events: list[StageEvent] = []
        if self._face.ripe(time_s, dwell):
            first = self._face.value is None
            self._face.confirm()
            start, start_s = self._face.start, self._face.start_s
            if first:
                # Frames before the first confirmed state belong to it: stages leave no hole.
                start, start_s = self._first
            if self._face.value:
                found = self._face.start
                now = [c for c in self._waiting if c.start <= found]
                self._waiting = [c for c in self._waiting if c.start > found]
                for change in now:
                    self._apply(change)
                reason = "first" if first else "face_found"
                events += self._enter(stage_labels(self._letters), start, start_s, reason, index)
            else:
                self._aus.clear()
                self._letters.clear()
                self._waiting.clear()
                self._floor = index + 1
                reason = "first" if first else "face_lost"
                events += self._enter(LOST, start, start_s, reason, index)
        if self._face.value and self._waiting:
            events += self._advance(index)
        return events

    def gap(self, reason: str = "gap") -> list[StageEvent]:
        """Break the sequence: the source stalled, or was connected anew.

        The current stage ends with the last frame seen and ``LOST`` begins: nobody looks at the
        face now, and that must not look like ``NONE``. All AUs start again from inactive. The next
        frame's index goes on rising; its time may restart.
        """
        if self._labels is None:
            self.reset()
        if not self._recent:
            return []
        index, time_s = self._recent[-1]
        events: list[StageEvent] = []
        if self._labels != LOST:
            events = self._enter(LOST, index + 1, time_s, reason, index)
        self._aus.clear()
        self._letters.clear()
        self._waiting.clear()
        self._face = _Channel(False)
        self._poor_since = None
        self._broken_at = index
        self._floor = index + 1
        self._recent.clear()
        return events

    def finish(self) -> list[StageEvent]:
        """End the sequence: return what is left to say, and the exit of the last stage.

        A sequence shorter than the dwell still gets its stage; a change too young at the end to
        be confirmed is left out, as it would be anywhere else.
        """
        events: list[StageEvent] = []
        if self._labels is None and self._face.pending and self._recent:
            index = self._recent[-1][0]
            face = self._face
            if face.candidate:
                for au in sorted(self._aus):
                    if self._aus[au].pending:
                        self._apply(self._confirm(au))
            labels = stage_labels(self._letters) if face.candidate else LOST
            face.confirm()
            assert self._first is not None
            events += self._enter(labels, *self._first, "first", index)
        if self._labels is not None:
            events += self._exit(None, "end")
        self.reset()
        return events

    def _observe_absence(self, index: int, time_s: float, lost: bool) -> None:
        if self._face.value is not True:
            # What was seen of a face that went before it was confirmed counts for nothing.
            self._aus.clear()
            self._waiting.clear()
            self._floor = index + 1
        if lost:
            self._poor_since = None
            self._face.observe(False, index, time_s)
            return
        if self._poor_since is None:
            self._poor_since = (index, time_s)
        start, start_s = self._poor_since
        too_long = time_s - start_s >= self.config.lost_after_s - _EPSILON_S
        if self._face.value is not True or too_long:
            self._face.observe(False, start, start_s)

    def _dated(self, since: int, index: int, time_s: float) -> tuple[int, float]:
        """Return ``since`` and its time, but not before the oldest frame remembered nor a LOST."""
        since = max(since, self._floor)
        for seen, seen_s in reversed(self._recent):
            index, time_s = seen, seen_s
            if seen <= since:
                break
        return index, time_s

    def _confirm(self, au: int) -> _Change:
        channel = self._aus[au]
        before = channel.value
        channel.confirm()
        value = channel.value
        assert value is None or isinstance(value, str)
        reason = "au_on" if before is None else "au_off" if value is None else "cluster_change"
        return _Change(channel.start, channel.start_s, au, value, reason)

    def _apply(self, change: _Change) -> None:
        if change.value is None:
            self._letters.pop(change.au, None)
        else:
            self._letters[change.au] = change.value

    def _advance(self, at: int) -> list[StageEvent]:
        """Turn the confirmed changes into events: a new stage, or a correction of this one.

        An expression sets in with several AUs a few frames apart. What begins less than a dwell
        after the current stage did (or before it, told late) belongs to that stage, so no stage
        of AUs is shorter than the dwell.
        """
        events: list[StageEvent] = []
        dwell = self.config.min_stage_s
        for start, start_s in sorted({(c.start, c.start_s) for c in self._waiting}):
            changes = [c for c in self._waiting if c.start == start]
            for change in changes:
                self._apply(change)
            if start <= self._start or start_s - self._start_s < dwell - _EPSILON_S:
                start, start_s = self._start, self._start_s
            reason = min((c.reason for c in changes), key=_REASONS.index)
            events += self._enter(stage_labels(self._letters), start, start_s, reason, at)
        self._waiting.clear()
        return events

    def _enter(
        self, labels: StageLabels, start: int, start_s: float, reason: str, at: int
    ) -> list[StageEvent]:
        previous = self._labels
        if labels == previous:
            return []
        if previous is not None and start <= self._start:
            self._labels = labels
            return [
                StageEvent(
                    "revise", labels, previous, self._start, self._start_s, None, None, reason, at
                )
            ]
        events = self._exit(start, reason, at) if previous is not None else []
        self._labels, self._start, self._start_s = labels, start, start_s
        events.append(StageEvent("enter", labels, previous, start, start_s, None, None, reason, at))
        return events

    def _exit(self, before: int | None, reason: str, at: int | None = None) -> list[StageEvent]:
        """End the current stage with the last frame before ``before`` (or the last one seen)."""
        assert self._labels is not None
        end, end_s = self._start, self._start_s
        for index, time_s in reversed(self._recent):
            if before is None or index < before:
                end, end_s = max(index, self._start), max(time_s, self._start_s)
                break
        if before is not None:
            end = before - 1  # frames dropped in between belong to the stage they interrupted
        return [
            StageEvent(
                "exit",
                self._labels,
                None,
                self._start,
                self._start_s,
                end,
                end_s,
                reason,
                end if at is None else at,
            )
        ]
