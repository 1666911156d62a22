"""Scores on the wire: what a score is, its value in a frame, and notices."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from .bodies import Body, Event

__all__ = [
    "NoticeAck",
    "NoticeAcknowledged",
    "NoticeOff",
    "NoticeOn",
    "NoticeState",
    "ScoreInfo",
    "ScorePart",
    "ScoreTerm",
    "ScoreValue",
]


class ScoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A score that is followed.

    Attributes:
        name: such as ``PSPI``. ``formula``: how it is made of AU intensities.
        source: who defined it; empty for a user's own.
        caution: what must be said wherever it is shown; may be empty.
        low, high: between them every value lies.
        on, off: a notice begins at the first and ends below the second.
        delay_s: by how much it lags behind the face, seconds: every AU goes in as its mean over
            twice that time.
        closed_s: closed eyes count after so long, seconds.
    """

    name: str
    formula: str
    source: str = ""
    caution: str = ""
    low: float
    high: float
    on: float
    off: float
    delay_s: float
    closed_s: float


class ScorePart(msgspec.Struct, frozen=True, kw_only=True):
    """An AU in a term of a score.

    ``value``: what went in, 0–5 (AU43: 0 or 1), or null where it is not known. ``grade``: of the
    AU, by the model card.
    """

    au: int
    value: float | None = None
    grade: str | None = None


class ScoreTerm(msgspec.Struct, frozen=True, kw_only=True):
    """One summand of a score.

    Attributes:
        text: as the formula has it, ``max(AU6, AU7)``.
        value: null where an AU that is not known could change it.
        low, high: between them it lies.
        aus: what went in.
    """

    text: str
    value: float | None = None
    low: float
    high: float
    aus: tuple[ScorePart, ...] = ()


class ScoreValue(msgspec.Struct, frozen=True, kw_only=True):
    """A score in one frame.

    Attributes:
        name: of the score, see :class:`ScoreInfo`.
        value: null where it is withheld, or where an AU that is not known could change it.
        low, high: between them it lies; null where it is withheld.
        terms: its summands; empty where it is withheld.
        missing: numbers of the AUs that are not known. They are not 0.
        withheld: why nothing is said of this frame; empty where something is.
    """

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    terms: tuple[ScoreTerm, ...] = ()
    missing: tuple[int, ...] = ()
    withheld: str = ""


class NoticeOn(Event, frozen=True, kw_only=True):
    """A score has been high for long. It is no alarm and no finding.

    Attributes:
        score: its name.
        id: number of the notice in its stream.
        start, start_s: frame and time at which the score rose.
        at: frame at which that counted.
        threshold: what the least value of the score (``low``) reached.
        value: the score at ``at``.
        text: the same in a sentence.
    """

    type: ClassVar[str] = "notice.on"
    score: str
    id: int
    start: int
    start_s: float
    at: int
    threshold: float
    value: ScoreValue
    text: str


class NoticeOff(Event, frozen=True, kw_only=True):
    """A notice ended.

    Attributes:
        score, id, start, start_s: as in its ``notice.on``.
        end, end_s: frame and time at which the score fell, or was last known.
        at: frame at which that counted.
        duration_s: from start to end, seconds.
        peak, peak_s: the score where its least value was largest, and when.
        reason: ``below``; why the score was withheld; or what ended the stream.
        text: the same in a sentence.
    """

    type: ClassVar[str] = "notice.off"
    score: str
    id: int
    start: int
    start_s: float
    end: int
    end_s: float
    at: int
    duration_s: float
    peak: ScoreValue
    peak_s: float
    reason: str
    text: str


class NoticeAcknowledged(Event, frozen=True, kw_only=True):
    """Somebody has seen a notice; sent once for each, whoever says so and however often."""

    type: ClassVar[str] = "notice.ack"
    id: int


class NoticeState(msgspec.Struct, frozen=True, kw_only=True):
    """A notice in a snapshot: it goes on (``off`` is null), or nobody has acknowledged it yet."""

    on: NoticeOn
    off: NoticeOff | None = None
    acknowledged: bool = False


class NoticeAck(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a client: somebody has seen this notice. One that is not open changes nothing."""

    type: ClassVar[str] = "notice.ack"
    stream: str
    id: int
