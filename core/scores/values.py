"""What scores give: the value of a frame with all that is known of it, and notices."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Notice", "NoticeOff", "NoticeOn", "ScorePart", "ScoreTerm", "ScoreValue"]


@dataclass(frozen=True, slots=True)
class ScorePart:
    """An AU in a term.

    Attributes:
        au: its number.
        value: the intensity that went in, 0–5 (AU43: 0 or 1); None where it is not known.
        grade: of the AU by the model card; None without grades or without the AU.
    """

    au: int
    value: float | None
    grade: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreTerm:
    """One summand of a score.

    Attributes:
        text: as the formula has it, ``max(AU6, AU7)``.
        value: None where an AU that is not known could change it.
        low, high: between them it lies.
        aus: what went in.
    """

    text: str
    value: float | None
    low: float
    high: float
    aus: tuple[ScorePart, ...]


@dataclass(frozen=True, slots=True)
class ScoreValue:
    """A score in one frame.

    Attributes:
        name: of the score.
        value: None where it is withheld, or where an AU that is not known could change it.
        low, high: between them it lies; None where it is withheld.
        terms: its summands; empty where it is withheld.
        missing: numbers of the AUs that are not known: the network has none, or they do not take
            part.
        withheld: why nothing is said of this frame, one short phrase; empty where something is.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    terms: tuple[ScoreTerm, ...] = ()
    missing: tuple[int, ...] = ()
    withheld: str = ""


@dataclass(frozen=True, slots=True)
class NoticeOn:
    """A score has been high for long; not an alarm, and no finding.

    Attributes:
        score: its name.
        id: number of the notice in its stream, 1 first.
        start, start_s: frame and time at which the score rose.
        at: frame at which the notice was given.
        threshold: what the least value of the score reached.
        value: the score now.
    """

    score: str
    id: int
    start: int
    start_s: float
    at: int
    threshold: float
    value: ScoreValue


@dataclass(frozen=True, slots=True)
class NoticeOff:
    """A notice ended.

    Attributes:
        score, id, start, start_s: as in its :class:`NoticeOn`.
        end, end_s: frame and time at which the score fell, or was last known.
        at: frame at which that counted.
        peak, peak_s: the score where its least value was largest, and when.
        reason: ``below``, or why the score was withheld, or what ended the stream.
    """

    score: str
    id: int
    start: int
    start_s: float
    end: int
    end_s: float
    at: int
    peak: ScoreValue
    peak_s: float
    reason: str

    @property
    def duration_s(self) -> float:
        """Seconds from start to end."""
        return self.end_s - self.start_s


Notice = NoticeOn | NoticeOff
