"""Follow the scores of one face, frame by frame, the same live and in a recording."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import ScoreConfig
from ..errors import ConfigError
from ..types import LOST, FaceState, StageLabels
from .definition import Score
from .formula import EYES_CLOSED, Interval, Term
from .notices import NoticeGate
from .values import Notice, NoticeOff, NoticeOn, ScorePart, ScoreTerm, ScoreValue

__all__ = ["LATE", "LOST_FACE", "ScoreFrame", "ScoreTracker", "judge_face"]

LOST_FACE = "face lost"
"""Why a score is withheld: there is no face, or none that counts as found yet."""
LATE = "analysed too late"
"""Why a score is withheld: the frame waited for longer than the budget allows."""
_EPSILON_S = 1e-6
"""Times come from media clocks with rounding of their own."""


def judge_face(face: FaceState, reason: str, stage: StageLabels | None) -> str:
    """Return why the scores of a frame are withheld; empty where they are not.

    Args:
        face: its state.
        reason: why the face is too poor to analyse, where it is.
        stage: the current stage; a face that is not confirmed yet counts for nothing.
    """
    if face == FaceState.LOST or stage == LOST:
        return LOST_FACE
    if face == FaceState.LOW_QUALITY:
        return f"low quality: {reason}" if reason else "low quality"
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreFrame:
    """What scores need of one frame.

    Attributes:
        index: of the frame.
        time_s: its time, seconds.
        intensity: ``(A,)`` float32, 0–5, after the person's rest level where there is one; None
            without a usable face.
        active: numbers of the active AUs; of these only AU43 matters.
        withheld: why nothing is said of the frame; empty where something is.
        face_id: number of the person; another one begins anew.
    """

    index: int
    time_s: float
    intensity: NDArray[np.float32] | None
    active: Collection[int] = ()
    withheld: str = ""
    face_id: int | None = None


class ScoreTracker:
    """Follow scores of one face.

    Every AU goes in as its mean over the last ``smooth_s``, so a score lags behind the face by half
    of that; AU43 is 1 once the eyes have been closed for ``closed_s``, and 0 before. What frames of
    another person, or of before a loss, showed goes into nothing.

    Args:
        scores: which.
        aus: AU numbers in the order of ``intensity``.
        shown: those that take part; the others count as not known.
        grades: AU number → grade by the model card.
        config: smoothing, blinks and notices.

    Raises:
        ConfigError: a user's score has an AU that the network does not know, or none that takes
            part; or the configuration cannot work.
    """

    def __init__(
        self,
        scores: Sequence[Score],
        aus: Sequence[int],
        *,
        shown: Collection[int],
        grades: Mapping[int, str] | None = None,
        config: ScoreConfig | None = None,
    ) -> None:
        self.scores = tuple(scores)
        self.config = config or ScoreConfig()
        _check(self.config)
        self._aus, self._grades = tuple(aus), dict(grades or {})
        self._shown = frozenset(shown) & frozenset(aus)
        for score in self.scores:
            self._check_aus(score)
        self._numbers = 0
        self.reset()

    def reset(self) -> None:
        """Return to the state before the first frame; numbers of notices go on."""
        self._gates = {
            score.name: NoticeGate(score.name, (score.formula.low, score.formula.high), self.config)
            for score in self.scores
        }
        self._person: int | None = None
        self._last_s: float | None = None
        self._last_index = -1
        self._forget()

    @property
    def delay_s(self) -> float:
        """By how much a score lags behind the face, seconds."""
        return self.config.smooth_s / 2

    def thresholds(self, name: str) -> tuple[float, float]:
        """Return where a notice of a score begins and where it ends, in the score's unit."""
        gate = self._gates[name]
        return gate.on, gate.off

    def update(self, frame: ScoreFrame) -> tuple[tuple[ScoreValue, ...], tuple[Notice, ...]]:
        """Take in a frame; return its scores and the notices that begin or end with it.

        Raises:
            ConfigError: the frame does not come after the one before it (call :meth:`gap` at a
                break).
        """
        if frame.index <= self._last_index or frame.time_s < (self._last_s or 0) - _EPSILON_S:
            raise ConfigError(
                f"frame {frame.index} at {frame.time_s:.3f} s came after frame "
                f"{self._last_index} at {self._last_s or 0:.3f} s; call gap() where time starts "
                "again"
            )
        notices: list[Notice] = []
        if frame.face_id is not None:
            if self._person not in (None, frame.face_id):
                notices += self._end("another person")
                self._forget()
            self._person = frame.face_id
        self._last_index, self._last_s = frame.index, frame.time_s
        values = self._values(frame)
        for value in values:
            gate = self._gates[value.name]
            notice = gate.update(frame.index, frame.time_s, value, self._numbers + 1)
            if notice is not None:
                self._numbers += isinstance(notice, NoticeOn)
                notices.append(notice)
        return values, tuple(notices)

    def gap(self, reason: str = "gap") -> tuple[NoticeOff, ...]:
        """Break the sequence; return the notices that end with that. Time may start again."""
        ended = self._end(reason)
        self._forget()
        self._last_s, self._person = None, None
        return ended

    # --- one frame ------------------------------------------------------------------------

    def _values(self, frame: ScoreFrame) -> tuple[ScoreValue, ...]:
        withheld = frame.withheld
        if frame.intensity is None:
            withheld = withheld or LOST_FACE
        if withheld or frame.intensity is None:
            self._forget()
            missing = [self._missing(score) for score in self.scores]
            return tuple(
                ScoreValue(score.name, None, None, None, missing=gone, withheld=withheld)
                for score, gone in zip(self.scores, missing, strict=True)
            )
        self._recent.append((frame.time_s, frame.intensity))
        oldest_s = frame.time_s - self.config.smooth_s + _EPSILON_S
        while self._recent[0][0] < oldest_s and len(self._recent) > 1:
            self._recent.popleft()
        mean = np.mean([row for _, row in self._recent], axis=0)
        inputs = {
            au: float(mean[i])
            for i, au in enumerate(self._aus)
            if au in self._shown and au != EYES_CLOSED
        }
        if EYES_CLOSED in self._shown:
            inputs[EYES_CLOSED] = float(self._closed(frame))
        return tuple(self._value(score, inputs) for score in self.scores)

    def _closed(self, frame: ScoreFrame) -> bool:
        """Return whether the eyes have been closed for longer than a blink."""
        if EYES_CLOSED not in frame.active:
            self._closed_since = None
            return False
        if self._closed_since is None:
            self._closed_since = frame.time_s
        return frame.time_s - self._closed_since >= self.config.closed_s - _EPSILON_S

    def _value(self, score: Score, inputs: Mapping[int, float]) -> ScoreValue:
        low, high = score.formula.evaluate(inputs)
        return ScoreValue(
            score.name,
            value=_known(Interval(low, high)),
            low=low,
            high=high,
            terms=tuple(self._term(term, inputs) for term in score.formula.terms),
            missing=self._missing(score),
        )

    def _term(self, term: Term, inputs: Mapping[int, float]) -> ScoreTerm:
        found = term.evaluate(inputs)
        parts = tuple(
            ScorePart(au, inputs.get(au), self._grades.get(au) if au in inputs else None)
            for au in term.aus
        )
        return ScoreTerm(term.text, _known(found), found.low, found.high, parts)

    def _missing(self, score: Score) -> tuple[int, ...]:
        return tuple(au for au in score.formula.aus if au not in self._shown)

    # --- state ----------------------------------------------------------------------------

    def _forget(self) -> None:
        self._recent: deque[tuple[float, NDArray[np.float32]]] = deque()
        self._closed_since: float | None = None

    def _end(self, reason: str) -> tuple[NoticeOff, ...]:
        ended = [gate.end(reason) for gate in self._gates.values()]
        return tuple(notice for notice in ended if notice is not None)

    def _check_aus(self, score: Score) -> None:
        unknown = [au for au in score.formula.aus if au not in self._aus]
        if unknown and not score.source:
            raise ConfigError(
                f"--score {score.name}: the network knows no AU{unknown[0]}; its AUs are "
                f"{', '.join(str(au) for au in self._aus)}"
            )
        if not self._shown & set(score.formula.aus):
            names = ",".join(str(au) for au in score.formula.aus)
            raise ConfigError(
                f"--score {score.name}: none of its AUs takes part, so nothing is known of it; add "
                f"--aus {names}, or --aus all"
            )


def _known(found: Interval) -> float | None:
    return found.low if found.low == found.high else None


def _check(config: ScoreConfig) -> None:
    times = (config.smooth_s, config.closed_s, config.dwell_s, config.release_s, config.budget_s)
    if min(times) < 0:
        raise ConfigError(f"times of scores cannot be negative: {config}")
    if not 0 <= config.off <= config.on <= 1:
        raise ConfigError(
            f"a notice begins at {config.on:g} and ends at {config.off:g} of a score's range; use "
            "shares of 0 to 1, the second not above the first"
        )
