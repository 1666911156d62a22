"""Scores of a live run: what the wire says, what is late, what ends with a source."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from facestage.core.config import AnalyzerConfig, ScoreConfig
from facestage.core.types import (
    LOST,
    NONE,
    FaceObservation,
    FaceState,
    Frame,
    FrameResult,
    StageLabels,
)
from facestage.stream.live.scoring import Scoring, notice_message, score_message

AUS = (4, 6, 7, 9, 10, 12, 43)
AT_ONCE = ScoreConfig(smooth_s=0.0)
PICTURE = np.zeros((4, 4, 3), np.uint8)


def scoring(*scores: str, shown: tuple[int, ...] = AUS, config: ScoreConfig = AT_ONCE) -> Scoring:
    card = SimpleNamespace(aus=AUS, grades={4: "B", 10: "A"})
    analyzer: Any = SimpleNamespace(
        config=AnalyzerConfig(score=config, scores=scores or ("PSPI",)),
        network=SimpleNamespace(card=card),
        shown=shown,
    )
    return Scoring(analyzer)


def seen(
    index: int, au4: float, *, stage: StageLabels | None = NONE, epoch: int = 0, time_s: float = -1
) -> FrameResult:
    time_s = index / 30 if time_s < 0 else time_s
    frame = Frame("cam", index, PICTURE, t_mono_ns=1, pts=time_s, epoch=epoch)
    row = np.array([au4, 0, 0, 0, 0, 0, 0], np.float32)
    face = FaceObservation(FaceState.TRACKED, quality=1.0, id=1)
    return FrameResult(frame, face, presence=row / 5, intensity=row, stage=stage)


def feed(scores: Scoring, results: list[FrameResult], *, paced: bool = True, now_ns: int = 1):
    values, notices = [], []
    for result in results:
        found, news = scores.update(result, paced=paced, now_ns=now_ns)
        values += found
        notices += news
    return values, notices


def test_what_hello_says_of_a_score() -> None:
    pspi, smile = scoring("PSPI", "smile=AU12*AU6").infos()
    assert (pspi.name, pspi.low, pspi.high, pspi.on, pspi.off) == ("PSPI", 0.0, 16.0, 4.8, 2.88)
    assert pspi.formula == "AU4 + max(AU6, AU7) + max(AU9, AU10) + AU43"
    assert "a smile scores" in pspi.caution
    assert "Prkachin" in pspi.source
    assert (smile.high, smile.caution, smile.source) == (25.0, "", "")
    assert scoring("PSPI", config=ScoreConfig()).infos()[0].delay_s == 0.25


def test_a_value_on_the_wire_has_its_terms_grades_and_what_is_missing() -> None:
    (value,), _ = feed(scoring(shown=(4, 10, 43)), [seen(0, 2.0)])
    message = score_message(value)
    assert (message.value, message.low, message.high) == (None, 2.0, 12.0)
    assert message.missing == (6, 7, 9)
    assert [term.text for term in message.terms] == [
        "AU4",
        "max(AU6, AU7)",
        "max(AU9, AU10)",
        "AU43",
    ]
    assert message.terms[0].aus[0].grade == "B"
    assert message.terms[2].aus[1].grade == "A"
    assert message.terms[1].aus[0].value is None


def test_what_the_baseline_took_off_goes_into_no_score() -> None:
    result = replace(seen(0, 4.0), adjusted_intensity=np.full(len(AUS), 0.5, np.float32))
    (value,), _ = feed(scoring(), [result])
    assert value.terms[0].value == 0.5


def test_a_late_frame_of_a_live_source_is_withheld_and_one_of_a_file_is_not() -> None:
    late_ns = int(1.1e9)
    (value,), _ = feed(scoring(), [seen(0, 2.0)], now_ns=late_ns)
    assert (value.withheld, value.low) == ("analysed too late", None)
    (value,), _ = feed(scoring(), [seen(0, 2.0)], now_ns=late_ns, paced=False)
    assert (value.withheld, value.low) == ("", 2.0)


def test_a_face_that_is_not_confirmed_yet_is_withheld() -> None:
    (value,), _ = feed(scoring(), [seen(0, 2.0, stage=LOST)])
    assert value.withheld == "face lost"


def test_a_notice_is_a_sentence_with_terms_and_caution() -> None:
    scores = scoring(shown=(4, 10, 12, 43))
    _, notices = feed(
        scores, [seen(n, 5.0) for n in range(30)] + [seen(30, 5.0, epoch=1, time_s=0)]
    )
    on, off = (notice_message(notice, scores.score(notice.score)) for notice in notices)
    assert on.type == "notice.on"
    assert on.text == (
        "PSPI is at least 5.0 of 16 (threshold 4.8): AU4 5.0, max(AU6, AU7) not known, "
        "max(AU9, AU10) 0.0 to 5.0, AU43 0.0. Not specific to pain: a smile scores, too. It says "
        "what the face does, not what is felt."
    )
    assert off.type == "notice.off"
    assert (off.reason, off.end, off.duration_s) == ("gap", 29, pytest.approx(29 / 30, abs=1e-3))
    assert "It ended because: gap." in off.text


def test_a_source_that_ends_or_pauses_ends_its_notices() -> None:
    scores = scoring("brow=AU4")
    _, (on,) = feed(scores, [seen(n, 5.0) for n in range(30)])
    (off,) = scores.gap("cam", "the source ended")
    assert (off.id, off.reason) == (on.id, "the source ended")
    assert scores.gap("never seen", "x") == ()


def test_without_scores_nothing_is_followed() -> None:
    card = SimpleNamespace(aus=AUS, grades={})
    network = SimpleNamespace(card=card)
    analyzer: Any = SimpleNamespace(config=AnalyzerConfig(), network=network, shown=AUS)
    assert feed(Scoring(analyzer), [seen(0, 5.0)]) == ([], [])
