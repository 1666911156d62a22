"""Scores of a recording: the same as live, but withheld in every stage that is LOST."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...core.action_units import au_code
from ...core.scores.definition import Score
from ...core.scores.tracker import LOST_FACE, ScoreFrame, ScoreTracker, judge_face
from ...core.scores.values import Notice, NoticeOff, NoticeOn, ScoreValue
from ...core.types import LOST, FrameRow, SequenceResult

__all__ = ["ScoredSequence", "score_sequence"]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSequence:
    """Scores of one face of a recording.

    Attributes:
        scores: which.
        delay_s: by how much they lag behind the face, seconds.
        values: frame → one value per score, in their order.
        notices: those that began, each with its end.
    """

    scores: tuple[Score, ...]
    delay_s: float
    values: dict[int, tuple[ScoreValue, ...]]
    notices: tuple[NoticeOff, ...]

    def header(self) -> list[str]:
        """Return the names of the columns of ``frames.csv``."""
        names: list[str] = []
        for score in self.scores:
            terms = _term_names(score)
            names += [score.name, f"{score.name}_low", f"{score.name}_high", *terms]
            names += [f"{score.name}_missing", f"{score.name}_withheld"]
            # A table is read without its manifest: what must be said stands in it.
            names += [f"{score.name}_note"] if score.caution else []
        return names

    def cells(self, frame: int) -> list[str]:
        """Return the cells of a frame under :meth:`header`."""
        if not self.scores:
            return []
        cells: list[str] = []
        for score, value in zip(self.scores, self.values[frame], strict=True):
            terms = [term.value for term in value.terms] or [None] * len(score.formula.terms)
            numbers = [value.value, value.low, value.high, *terms]
            cells += ["" if number is None else f"{number:.3f}" for number in numbers]
            cells += ["+".join(au_code(au) for au in value.missing), value.withheld]
            cells += [score.caution] if score.caution else []
        return cells

    def document(self) -> list[dict[str, object]]:
        """Return what the manifest says of each score and of its notices."""
        return [
            {
                "name": score.name,
                "formula": score.formula.text,
                "source": score.source,
                "caution": score.caution,
                "low": score.formula.low,
                "high": score.formula.high,
                "delay_s": self.delay_s,
                "notices": [_notice(one) for one in self.notices if one.score == score.name],
            }
            for score in self.scores
        ]


def score_sequence(result: SequenceResult, scores: Sequence[Score]) -> ScoredSequence:
    """Follow scores through a recording.

    Args:
        result: of one face; its own rows and stages alone are looked at.
        scores: which.

    Raises:
        ConfigError: a user's score needs an AU that the network does not know.
    """
    tracker = ScoreTracker(
        scores,
        result.aus,
        shown=[au for au in result.aus if au not in result.hidden],
        grades=result.grades,
    )
    values: dict[int, tuple[ScoreValue, ...]] = {}
    notices: list[Notice] = []
    lost = _lost_frames(result)
    last_s = float("-inf")
    for row in result.rows if scores else ():
        if row.time_s < last_s:
            notices += tracker.gap()
        last_s = row.time_s
        values[row.index], news = tracker.update(_score_frame(row, row.index in lost))
        notices += news
    notices += tracker.gap("end")
    begun = {notice.id for notice in notices if isinstance(notice, NoticeOn)}
    ended = (notice for notice in notices if isinstance(notice, NoticeOff))
    return ScoredSequence(
        tracker.scores, tracker.delay_s, values, tuple(one for one in ended if one.id in begun)
    )


def _score_frame(row: FrameRow, is_lost: bool) -> ScoreFrame:
    strength = row.adjusted_intensity
    return ScoreFrame(
        index=row.index,
        time_s=row.time_s,
        intensity=row.intensity if strength is None else strength,
        active=row.labels.keys(),
        withheld=LOST_FACE if is_lost else judge_face(row.face, "", None),
        face_id=row.face_id,
    )


def _lost_frames(result: SequenceResult) -> frozenset[int]:
    """Return the frames of all stages that are LOST."""

    def frames() -> Iterator[int]:
        for stage in result.stages:
            if stage.labels == LOST:
                yield from range(stage.start, stage.end + 1)

    return frozenset(frames())


def _term_names(score: Score) -> list[str]:
    """Name the column of each term by its AUs: ``PSPI_AU06_AU07``."""
    names: list[str] = []
    for number, term in enumerate(score.formula.terms, start=1):
        name = "_".join([score.name, *(au_code(au) for au in term.aus)])
        if not term.aus or name in names:
            name = f"{name}_term{number}"
        names.append(name)
    return names


def _notice(one: NoticeOff) -> dict[str, object]:
    return {
        "start": one.start,
        "end": one.end,
        "start_s": round(one.start_s, 4),
        "end_s": round(one.end_s, 4),
        "duration_s": round(one.duration_s, 4),
        "peak": round(one.peak.low or 0.0, 3),
        "peak_s": round(one.peak_s, 4),
        "terms": {term.text: [round(term.low, 3), round(term.high, 3)] for term in one.peak.terms},
        "reason": one.reason,
    }
