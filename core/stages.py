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

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .action_units import prototype_label
from .config import StageConfig
from .errors import ConfigError
from .steps import timed
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

_T = TypeVar("_T")


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
        """Decide which AUs are active now.

        Args:
            presence: ``(A,)`` float32 presence probability of each AU, 0–1.

        Returns:
            ``(A,)`` bool.
        """
        self._active = np.where(self._active, presence >= self.off, presence >= self.on)
        return self._active.copy()

    def reset(self) -> None:
        """Forget which AUs were active."""
        self._active = np.zeros(self.on.shape, bool)


class _Moment(NamedTuple):
    """Index of a frame, and its time in seconds."""

    frame: int
    time_s: float


@dataclass(slots=True)
class _Candidate(Generic[_T]):
    """A value that counts once it has lasted.

    Attributes:
        value: the value.
        since: the frame at which it began.
    """

    value: _T
    since: _Moment

    def date_back(self, since: _Moment) -> None:
        """Let it begin at an earlier frame; a later one changes nothing."""
        if since.frame < self.since.frame:
            self.since = since


class _Debounce(Generic[_T]):
    """A value that changes only when another one has lasted.

    Args:
        value: what it is at first.
    """

    def __init__(self, value: _T) -> None:
        self.value = value
        self.candidate: _Candidate[_T] | None = None

    def observe(self, value: _T, since: _Moment) -> None:
        """Take in what a frame shows, and the frame since which it has been so."""
        if value == self.value:
            self.candidate = None
        elif self.candidate is not None and self.candidate.value == value:
            self.candidate.date_back(since)
        else:
            self.candidate = _Candidate(value, since)

    def confirm(self, now_s: float, dwell_s: float) -> _Candidate[_T] | None:
        """Adopt and return the candidate if there is one that has lasted for the dwell."""
        candidate = self.candidate
        if candidate is None or not now_s - candidate.since.time_s >= dwell_s - _EPSILON_S:
            return None
        self.value, self.candidate = candidate.value, None
        return candidate


class _LetterDebounce(_Debounce[str | None]):
    """The letter of one AU, None while the AU is off.

    While an AU is going on its letter may still change: the AU is active all the same, and the
    letter seen most often wins.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self._votes: dict[str | None, int] = {}

    def observe(self, value: str | None, since: _Moment) -> None:
        candidate = self.candidate
        going_on = self.value is None and value is not None
        if going_on and candidate is not None:
            self._votes[value] = self._votes.get(value, 0) + 1
            if self._votes[value] >= self._votes.get(candidate.value, 0):
                candidate.value = value
            candidate.date_back(since)
            return
        super().observe(value, since)
        if going_on:
            self._votes = {value: 1}


class _Change(NamedTuple):
    """A confirmed change of an AU: its letter from a frame on, or None where it went off."""

    au: int
    letter: str | None
    since: _Moment
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
        self._aus: dict[int, _LetterDebounce] = {}
        # Whether there is a face; None until that is confirmed for the first time.
        self._face: _Debounce[bool | None] = _Debounce(None)
        self._poor_since: _Moment | None = None
        self._labels: StageLabels | None = None
        self._since = _Moment(0, 0.0)
        self._letters: dict[int, str] = {}
        # Confirmed changes that the stage does not show yet.
        self._waiting: list[_Change] = []
        self._first: _Moment | None = None
        # Index of the earliest frame to which a change may be dated.
        self._earliest = 0
        self._recent: deque[_Moment] = deque(maxlen=_MEMORY_FRAMES)

    @property
    def labels(self) -> StageLabels | None:
        """Labels of the current stage; None before the first is confirmed."""
        return self._labels

    @property
    def start(self) -> int:
        """Index of the frame at which the current stage began."""
        return self._since.frame

    @timed("stage")
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
        now = _Moment(index, time_s)
        self._check_order(now)
        self._recent.append(now)
        if self._first is None:
            self._first = now
        if letters is None:
            self._observe_absence(now, lost)
        else:
            self._observe_letters(now, letters)
        events = self._update_face(now, self._first)
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
        last = self._recent[-1]
        events: list[StageEvent] = []
        if self._labels != LOST:
            begin = _Moment(last.frame + 1, last.time_s)
            events = self._enter(LOST, begin, reason, last.frame)
        self._forget_aus(last.frame + 1)
        self._face = _Debounce(False)
        self._poor_since = None
        self._recent.clear()
        return events

    def other_person(self, index: int, time_s: float) -> list[StageEvent]:
        """Begin a stage anew: the face of the frame to come is another person's.

        The current stage ends before that frame, and ``NONE`` begins with it, also after ``NONE``.
        All AUs start again from inactive. ``LOST`` goes on until the face is confirmed.

        Args:
            index, time_s: of the frame, which :meth:`update` is given next.
        """
        self._forget_aus(index)
        if self._labels is None or self._labels == LOST:
            return []
        self._face = _Debounce(True)
        self._poor_since = None
        return self._enter(NONE, _Moment(index, time_s), "other_person", index, anew=True)

    def finish(self) -> list[StageEvent]:
        """End the sequence: return what is left to say, and the exit of the last stage.

        A sequence shorter than the dwell still gets its stage; a change too young at the end to
        be confirmed is left out, as it would be anywhere else.
        """
        events: list[StageEvent] = []
        if self._labels is None and self._first is not None and self._recent:
            face = self._face.confirm(math.inf, self.config.min_stage_s)
            if face is not None:
                labels = LOST
                if face.value:
                    for change in self._confirm_aus(math.inf):
                        self._apply(change)
                    labels = stage_labels(self._letters)
                events += self._enter(labels, self._first, "first", self._recent[-1].frame)
        if self._labels is not None:
            events.append(self._exit(self._labels, None, "end"))
        self.reset()
        return events

    def _check_order(self, now: _Moment) -> None:
        if self._recent:
            last = self._recent[-1]
        elif now.frame < self._earliest:
            last = _Moment(self._earliest - 1, now.time_s)
        else:
            return
        if now.frame <= last.frame or now.time_s < last.time_s - _EPSILON_S:
            raise ConfigError(
                f"frame {now.frame} at {now.time_s:.3f} s came after frame {last.frame} at "
                f"{last.time_s:.3f} s; call gap() where time starts again, reset() for a new source"
            )

    def _observe_absence(self, now: _Moment, lost: bool) -> None:
        """Take in a frame without a face, or with one too poor to analyse."""
        if self._face.value is not True:
            # What was seen of a face that went before it was confirmed counts for nothing.
            self._aus.clear()
            self._waiting.clear()
            self._earliest = now.frame + 1
        if lost:
            self._poor_since = None
            self._face.observe(False, now)
            return
        if self._poor_since is None:
            self._poor_since = now
        since = self._poor_since
        too_long = now.time_s - since.time_s >= self.config.lost_after_s - _EPSILON_S
        if self._face.value is not True or too_long:
            self._face.observe(False, since)

    def _observe_letters(self, now: _Moment, letters: Mapping[int, tuple[str, int]]) -> None:
        """Take in the letters of a frame with a usable face; confirm those that have lasted."""
        self._poor_since = None
        self._face.observe(True, now)
        for au in self._aus.keys() - letters.keys():
            self._aus[au].observe(None, now)
        for au, (letter, since) in letters.items():
            if au not in self._aus:
                self._aus[au] = _LetterDebounce()
            self._aus[au].observe(letter, self._dated(since, now))
        self._waiting += self._confirm_aus(now.time_s)

    def _dated(self, since: int, now: _Moment) -> _Moment:
        """Return frame ``since``, but not before the oldest one remembered nor a LOST."""
        since = max(since, self._earliest)
        dated = now
        for moment in reversed(self._recent):
            dated = moment
            if moment.frame <= since:
                break
        return dated

    def _confirm_aus(self, now_s: float) -> list[_Change]:
        """Return the changes of AUs that have lasted for the dwell, by AU."""
        changes: list[_Change] = []
        for au in sorted(self._aus):
            before = self._aus[au].value
            confirmed = self._aus[au].confirm(now_s, self.config.min_stage_s)
            if confirmed is not None:
                letter = confirmed.value
                reason = "au_off" if letter is None else "cluster_change"
                if before is None:
                    reason = "au_on"
                changes.append(_Change(au, letter, confirmed.since, reason))
        return changes

    def _apply(self, change: _Change) -> None:
        if change.letter is None:
            self._letters.pop(change.au, None)
        else:
            self._letters[change.au] = change.letter

    def _forget_aus(self, earliest: int) -> None:
        """Let every AU start from inactive, at frame ``earliest``."""
        self._aus.clear()
        self._letters.clear()
        self._waiting.clear()
        self._earliest = earliest

    def _update_face(self, now: _Moment, first: _Moment) -> list[StageEvent]:
        """Enter LOST, or leave it, once that has lasted for the dwell.

        Args:
            now: the frame.
            first: the first frame of the sequence.
        """
        at_first = self._face.value is None
        face = self._face.confirm(now.time_s, self.config.min_stage_s)
        if face is None:
            return []
        # Frames before the first confirmed state belong to it: stages leave no hole.
        since = first if at_first else face.since
        if not face.value:
            self._forget_aus(now.frame + 1)
            return self._enter(LOST, since, "first" if at_first else "face_lost", now.frame)
        for change in self._waiting:
            if change.since.frame <= face.since.frame:
                self._apply(change)
        self._waiting = [c for c in self._waiting if c.since.frame > face.since.frame]
        labels = stage_labels(self._letters)
        return self._enter(labels, since, "first" if at_first else "face_found", now.frame)

    def _advance(self, at: int) -> list[StageEvent]:
        """Turn the confirmed changes into events: a new stage, or a correction of this one.

        An expression sets in with several AUs a few frames apart. What begins less than a dwell
        after the current stage did (or before it, if confirmed late) belongs to that stage, so no
        stage of AUs is shorter than the dwell.
        """
        events: list[StageEvent] = []
        dwell = self.config.min_stage_s
        for since in sorted({change.since for change in self._waiting}):
            changes = [change for change in self._waiting if change.since.frame == since.frame]
            for change in changes:
                self._apply(change)
            too_soon = since.time_s - self._since.time_s < dwell - _EPSILON_S
            begin = self._since if since.frame <= self._since.frame or too_soon else since
            reason = min((change.reason for change in changes), key=_REASONS.index)
            events += self._enter(stage_labels(self._letters), begin, reason, at)
        self._waiting.clear()
        return events

    def _enter(
        self, labels: StageLabels, since: _Moment, reason: str, at: int, *, anew: bool = False
    ) -> list[StageEvent]:
        """Begin a stage at ``since``; correct the current one if it began no earlier.

        Without ``anew`` there is no stage with the labels of the one before it.
        """
        previous = self._labels
        if labels == previous and not anew:
            return []
        events: list[StageEvent] = []
        kind = "enter"
        if previous is not None and since.frame <= self._since.frame:
            kind, since = "revise", self._since
        elif previous is not None:
            events.append(self._exit(previous, since.frame, reason, at))
        self._labels, self._since = labels, since
        events.append(
            StageEvent(
                kind=kind,
                labels=labels,
                previous=previous,
                start=since.frame,
                start_s=since.time_s,
                end=None,
                end_s=None,
                reason=reason,
                at=at,
            )
        )
        return events

    def _exit(
        self, labels: StageLabels, before: int | None, reason: str, at: int | None = None
    ) -> StageEvent:
        """End the current stage with the last frame before ``before`` (or the last one seen)."""
        start, start_s = end, end_s = self._since
        for index, time_s in reversed(self._recent):
            if before is None or index < before:
                end, end_s = max(index, start), max(time_s, start_s)
                break
        if before is not None:
            end = before - 1  # frames dropped in between belong to the stage they interrupted
        return StageEvent(
            kind="exit",
            labels=labels,
            previous=None,
            start=start,
            start_s=start_s,
            end=end,
            end_s=end_s,
            reason=reason,
            at=end if at is None else at,
        )
