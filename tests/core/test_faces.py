"""Several faces of one source: each its own stream, through the same batches."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from facestage.core import lrp
from facestage.core.analyzer import Analyzer
from facestage.core.config import AnalyzerConfig, BaselineConfig, FollowConfig
from facestage.core.errors import ConfigError
from facestage.core.network.au_network import AUNetwork
from facestage.core.observer import Observer, stream_name
from facestage.core.sequence import SequenceAnalyzer
from facestage.core.types import (
    OTHER_PERSON,
    FaceChange,
    FaceState,
    Frame,
    FrameResult,
    PrototypeRetired,
    StageEvent,
)
from facestage.stream.detectors import OurDetector
from facestage.stream.sources import open_source

FPS = 15.0
START, COUNT = 44, 33  # every second frame: neutral, then the whole onset of surprise
TWO = AnalyzerConfig(
    aus="all", baseline=BaselineConfig(enabled=False), follow=FollowConfig(faces=2)
)


@pytest.fixture(scope="module")
def network() -> AUNetwork:
    return AUNetwork.load(device="cpu")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Two people: the one on the left moves, the other one keeps a neutral face."""
    pictures = []
    with open_source("demo:") as source:
        for _ in range(START + 2 * COUNT):
            grab = source.read()
            assert grab is not None
            pictures.append(grab.image[:, 140:500])
    still = pictures[0][:, ::-1]
    return [
        Frame("cam", n, np.hstack([moving, still]), pts=n / FPS)
        for n, moving in enumerate(pictures[START::2])
    ]


@pytest.fixture(scope="module")
def results(network: AUNetwork, frames: list[Frame]) -> list[FrameResult]:
    analyzer = Analyzer(OurDetector(), network, TWO)
    return [result for frame in frames for result in analyzer.update([frame])]


def of(results: list[FrameResult], stream: str) -> list[FrameResult]:
    return [result for result in results if result.frame.source == stream]


def test_each_face_is_a_stream_with_its_own_person_and_stages(results: list[FrameResult]) -> None:
    sides = {}
    for stream in ("cam", "cam/2"):
        seen = of(results, stream)
        assert len(seen) >= COUNT - 16  # the second is found at the second look at the latest
        assert [r.frame.index for r in seen] == list(range(COUNT - len(seen), COUNT))
        assert {r.face.state for r in seen} <= {FaceState.TRACKED, FaceState.MULTIPLE}
        assert len({r.face.id for r in seen}) == 1
        box = seen[-1].face.box
        assert box is not None
        sides[stream] = "left" if box[0] + box[2] / 2 < 360 else "right"
    assert set(sides.values()) == {"left", "right"}
    assert {r.face.id for r in results} == {1, 2}
    moving = next(stream for stream, side in sides.items() if side == "left")
    still = next(stream for stream, side in sides.items() if side == "right")
    stages = {stream: Counter(r.stage for r in of(results, stream)) for stream in sides}
    assert any("AU25" in label for labels in stages[moving] for label in labels or ())
    assert not any("AU25" in label for labels in stages[still] for label in labels or ())


def test_one_batch_or_many_calls_give_the_same(
    network: AUNetwork, frames: list[Frame], results: list[FrameResult]
) -> None:
    together = Analyzer(OurDetector(), network, TWO)
    batched = [r for n in range(0, COUNT, 5) for r in together.update(frames[n : n + 5])]
    assert len(batched) == len(results)
    for one, other in zip(batched, results, strict=True):
        assert (one.frame.source, one.frame.index) == (other.frame.source, other.frame.index)
        assert (one.face.state, one.face.id, one.stage) == (
            other.face.state,
            other.face.id,
            other.stage,
        )
        if one.presence is not None and other.presence is not None:
            np.testing.assert_allclose(one.presence, other.presence, atol=1e-4)


def test_all_faces_go_through_the_network_at_once(
    network: AUNetwork, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    observer = Observer(OurDetector(), network, TWO)
    observer.update(frames[:10])
    rows: list[int] = []
    looked: list[int] = []
    predict, forward, points = network.predict_prepared, lrp.forward, network.five_points

    monkeypatch.setattr(
        network, "predict_prepared", lambda x, **k: (rows.append(len(x)), predict(x, **k))[1]
    )
    monkeypatch.setattr(
        lrp, "forward", lambda m, x, *a: (rows.append(len(x)), forward(m, x, *a))[1]
    )
    monkeypatch.setattr(
        network, "five_points", lambda crops: (looked.append(len(crops)), points(crops))[1]
    )
    seen = observer.update([frames[10]])
    assert [o.frame.source for o in seen] == ["cam", "cam/2"]
    assert rows == [2]
    # The pass before found the landmarks with which they are cut out; one may have been far off.
    assert sum(looked) <= 1


def test_a_person_who_takes_anothers_place_begins_with_no_letters(
    network: AUNetwork, frames: list[Frame]
) -> None:
    follow = FollowConfig(faces=2, stranger_after=5)
    config = AnalyzerConfig(aus="all", baseline=BaselineConfig(enabled=False), follow=follow)
    analyzer = Analyzer(OurDetector(), network, config)
    for frame in frames[:-1]:
        analyzer.update([frame])
    moving = "cam" if analyzer.prototypes("cam") else "cam/2"
    assert any(track.letters for track in analyzer.prototypes(moving).values())
    letters = {
        (au, letter)
        for au, track in analyzer.prototypes(moving).items()
        for letter in track.letters
    }
    analyzer._observer.faces.memories[moving].person = 7  # as if somebody else was in this place
    (result,) = of(analyzer.update(frames[-1:]), moving)
    changes = [event for event in result.events if isinstance(event, FaceChange)]
    assert [event.reason for event in changes] == [OTHER_PERSON]
    stages = [event for event in result.events if isinstance(event, StageEvent)]
    assert [(event.kind, event.reason) for event in stages[:2]] == [
        ("exit", "other_person"),
        ("enter", "other_person"),
    ]
    retired = [event for event in result.events if isinstance(event, PrototypeRetired)]
    assert {(event.au, event.letter) for event in retired} == letters
    assert {event.into for event in retired} == {None}
    left = {letter for track in analyzer.prototypes(moving).values() for letter in track.letters}
    assert not left - {"A"}


def test_an_analyzer_of_two_faces_can_be_pickled(network: AUNetwork, frames: list[Frame]) -> None:
    analyzer = Analyzer(OurDetector(), network, TWO)
    analyzer.update(frames[:8])
    twin = pickle.loads(pickle.dumps(analyzer))
    for one, other in zip(analyzer.update(frames[8:12]), twin.update(frames[8:12]), strict=True):
        assert (one.frame.source, one.face.id, one.stage) == (
            other.frame.source,
            other.face.id,
            other.stage,
        )


def test_a_source_forgets_all_its_faces(network: AUNetwork, frames: list[Frame]) -> None:
    analyzer = Analyzer(OurDetector(), network, TWO)
    analyzer.update(frames[:6])
    assert analyzer.streams("cam") == ["cam", "cam/2"]
    analyzer.reset("cam")
    again = analyzer.update(frames[:1])
    assert (again[0].frame.source, again[0].face.id) == ("cam", 1)


def test_a_recording_with_two_faces_has_a_result_each(
    network: AUNetwork, frames: list[Frame]
) -> None:
    analyzer = SequenceAnalyzer(OurDetector(), network, AnalyzerConfig(follow=TWO.follow))
    for n in range(0, COUNT, 8):
        analyzer.update(frames[n : n + 8])
    result = analyzer.finish(source="two.mp4", fps=FPS)
    (other,) = result.others
    assert other.source == "two.mp4, face 2"
    assert [row.index for row in result.rows] == list(range(COUNT))
    assert {row.face_id for row in result.rows} | {row.face_id for row in other.rows} == {1, 2}
    assert other.rows[-1].index == COUNT - 1
    text = [
        {x for s in one.stages for x in s.labels if x.startswith("AU25")} for one in (result, other)
    ]
    assert sorted(map(bool, text)) == [False, True]
    assert all(crop is not None for crop in other.stage_crops)


def test_what_cannot_be_followed_is_refused_at_once(network: AUNetwork) -> None:
    config = AnalyzerConfig(follow=FollowConfig(follow="nurse"))
    with pytest.raises(ConfigError, match="nobody is followed by 'nurse'"):
        Analyzer(OurDetector(), network, config)


def test_names_of_streams() -> None:
    assert [stream_name("cam", place) for place in range(3)] == ["cam", "cam/2", "cam/3"]
