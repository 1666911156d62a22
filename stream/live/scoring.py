"""Scores of a live run: from results of the analyzer to values, notices and their messages."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.analyzer import Analyzer
from ...core.scores.definition import Score, parse_scores
from ...core.scores.tracker import LATE, ScoreFrame, ScoreTracker, judge_face
from ...core.scores.values import Notice, NoticeOn, ScoreTerm, ScoreValue
from ...core.types import FrameResult
from .. import protocol

__all__ = ["Scoring", "notice_message", "score_message"]

_DIGITS = 3


class Scoring:
    """Follow the scores of all streams of a run.

    Args:
        analyzer: its configuration names the scores; its network and the AUs that take part say
            what can be known.

    Raises:
        ConfigError: a score cannot be read, or needs an AU that the network does not know.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        config, card = analyzer.config, analyzer.network.card
        self._config = config.score
        self._scores = {score.name: score for score in parse_scores(config.scores)}
        self._aus, self._shown, self._grades = card.aus, analyzer.shown, card.grades
        self._trackers: dict[str, ScoreTracker] = {}
        self._epochs: dict[str, int] = {}
        self._blank = self._tracker()

    def _tracker(self) -> ScoreTracker:
        return ScoreTracker(
            self.scores,
            self._aus,
            shown=self._shown,
            grades=self._grades,
            config=self._config,
        )

    @property
    def scores(self) -> tuple[Score, ...]:
        """The scores that are followed."""
        return tuple(self._scores.values())

    def score(self, name: str) -> Score:
        """Return a score that is followed."""
        return self._scores[name]

    def infos(self) -> tuple[protocol.ScoreInfo, ...]:
        """Return the scores as ``hello`` lists them."""
        infos: list[protocol.ScoreInfo] = []
        for score in self._scores.values():
            on, off = self._blank.thresholds(score.name)
            infos.append(
                protocol.ScoreInfo(
                    name=score.name,
                    formula=score.formula.text,
                    source=score.source,
                    caution=score.caution,
                    low=round(score.formula.low, _DIGITS),
                    high=round(score.formula.high, _DIGITS),
                    on=round(on, _DIGITS),
                    off=round(off, _DIGITS),
                    delay_s=self._blank.delay_s,
                    closed_s=self._config.closed_s,
                )
            )
        return tuple(infos)

    def update(
        self, result: FrameResult, *, paced: bool, now_ns: int
    ) -> tuple[tuple[ScoreValue, ...], tuple[Notice, ...]]:
        """Take in a frame; return its scores and the notices that begin or end with it.

        Args:
            result: of the frame.
            paced: whether its source has a pace of its own, so that a frame can be late.
            now_ns: monotonic clock, nanoseconds.
        """
        if not self._scores:
            return (), ()
        frame = result.frame
        if frame.source not in self._trackers:
            self._trackers[frame.source] = self._tracker()
        tracker = self._trackers[frame.source]
        ended: tuple[Notice, ...] = ()
        if self._epochs.get(frame.source, frame.epoch) != frame.epoch:
            ended = tracker.gap()
        self._epochs[frame.source] = frame.epoch
        withheld = judge_face(result.face.state, result.face.reason, result.stage)
        if paced and now_ns - frame.t_mono_ns > self._config.budget_s * 1e9:
            withheld = withheld or LATE
        strength = result.adjusted_intensity
        values, notices = tracker.update(
            ScoreFrame(
                index=frame.index,
                time_s=frame.time_s,
                intensity=result.intensity if strength is None else strength,
                active=result.active,
                withheld=withheld,
                face_id=result.face.id,
            )
        )
        return values, (*ended, *notices)

    def gap(self, stream: str, reason: str) -> Sequence[Notice]:
        """Break a stream; return the notices that end with that."""
        tracker = self._trackers.get(stream)
        return () if tracker is None else tracker.gap(reason)


def score_message(value: ScoreValue) -> protocol.ScoreValue:
    """Return a score of a frame as the wire carries it."""
    return protocol.ScoreValue(
        name=value.name,
        value=_rounded(value.value),
        low=_rounded(value.low),
        high=_rounded(value.high),
        terms=tuple(_term_message(term) for term in value.terms),
        missing=value.missing,
        withheld=value.withheld,
    )


def _term_message(term: ScoreTerm) -> protocol.ScoreTerm:
    return protocol.ScoreTerm(
        text=term.text,
        value=_rounded(term.value),
        low=round(term.low, _DIGITS),
        high=round(term.high, _DIGITS),
        aus=tuple(
            protocol.ScorePart(au=part.au, value=_rounded(part.value), grade=part.grade)
            for part in term.aus
        ),
    )


def notice_message(notice: Notice, score: Score) -> protocol.NoticeOn | protocol.NoticeOff:
    """Return the event of a notice; its sentence says what makes a score and no more."""
    caution = f" {score.caution}" if score.caution else ""
    if isinstance(notice, NoticeOn):
        now = notice.value.low or 0.0
        return protocol.NoticeOn(
            score=notice.score,
            id=notice.id,
            start=notice.start,
            start_s=notice.start_s,
            at=notice.at,
            threshold=round(notice.threshold, _DIGITS),
            value=score_message(notice.value),
            text=f"{score.name} is at least {now:.1f} of {score.formula.high:g} "
            f"(threshold {notice.threshold:.1f}): {_terms_text(notice.value)}.{caution}",
        )
    peak = notice.peak.low or 0.0
    why = "" if notice.reason == "below" else f" It ended because: {notice.reason}."
    return protocol.NoticeOff(
        score=notice.score,
        id=notice.id,
        start=notice.start,
        start_s=notice.start_s,
        end=notice.end,
        end_s=notice.end_s,
        at=notice.at,
        duration_s=round(notice.duration_s, _DIGITS),
        peak=score_message(notice.peak),
        peak_s=notice.peak_s,
        reason=notice.reason,
        text=f"{score.name} was high for {notice.duration_s:.1f} s, at its peak at least "
        f"{peak:.1f} of {score.formula.high:g}: {_terms_text(notice.peak)}.{why}{caution}",
    )


def _terms_text(value: ScoreValue) -> str:
    """Say what each term gave: ``AU4 2.0, max(AU6, AU7) not known``."""
    return ", ".join(f"{term.text} {_term_text(term)}" for term in value.terms)


def _term_text(term: ScoreTerm) -> str:
    if term.value is not None:
        return f"{term.value:.1f}"
    known = any(part.value is not None for part in term.aus)
    return f"{term.low:.1f} to {term.high:.1f}" if known else "not known"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
