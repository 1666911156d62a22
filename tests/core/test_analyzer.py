"""The steps together, on the embedded clip: live, offline, and the same either way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from facestage.core import lrp, relevance, sequence_store
from facestage.core.analyzer import Analyzer
from facestage.core.config import (
    AnalyzerConfig,
    BaselineConfig,
    ExplainConfig,
    StageConfig,
    WindowConfig,
)
from facestage.core.errors import ConfigError, SourceError
from facestage.core.face.tracker import Detection
from facestage.core.network.au_network import AUNetwork
from facestage.core.observer import Observation, Observer
from facestage.core.sequence import SequenceAnalyzer
from facestage.core.sequence_store import MemoryShelf
from facestage.core.types import (
    LOST,
    NONE,
    BaselineState,
    FaceChange,
    FaceState,
    Frame,
    FrameResult,
    PrototypeDrifted,
    PrototypeFound,
    PrototypeRetired,
    RestLevels,
    StageEvent,
)
from facestage.core.window.bank import WindowBank, WindowUpdate
from facestage.stream.detectors import OurDetector
from facestage.stream.sources import open_source

FPS = 30.0
COUNT = 110  # neutral, then the whole onset of surprise
EVERY = AnalyzerConfig(aus="all", baseline=BaselineConfig(enabled=False))
"""What these tests check does not depend on how the AUs of the embedded network are graded."""


@pytest.fixture(scope="module")
def network() -> AUNetwork:
    return AUNetwork.load(device="cpu")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    found: list[Frame] = []
    with open_source("demo:") as source:
        while len(found) < COUNT:
            grab = source.read()
            assert grab is not None
            found.append(Frame("demo", grab.index, grab.image, pts=grab.index / FPS))
    return found


@pytest.fixture(scope="module")
def results(network: AUNetwork, frames: list[Frame]) -> list[FrameResult]:
    analyzer = Analyzer(OurDetector(), network, EVERY)
    return [result for frame in frames for result in analyzer.update([frame])]


def blank(index: int, epoch: int = 0) -> Frame:
    return Frame("demo", index, np.zeros((360, 640, 3), np.uint8), pts=index / FPS, epoch=epoch)


def story(results: Sequence[FrameResult]) -> list[tuple[object, ...]]:
    return [
        (event.kind, event.labels, event.start, event.at)
        if isinstance(event, StageEvent)
        else (type(event).__name__, event.at)
        for result in results
        for event in result.events
    ]


def test_every_active_au_is_explained_and_lettered(
    network: AUNetwork, results: list[FrameResult]
) -> None:
    assert all(r.face.state == FaceState.TRACKED for r in results)
    assert any(r.active for r in results)
    for result in results:
        assert set(result.maps) == set(result.active)
        # Without evidence for it (a low threshold lets such an AU be active) there is no letter.
        evident = {au for au, found in result.maps.items() if np.maximum(found, 0).any()}
        assert evident <= set(result.letters) <= set(result.active)
        for found in result.maps.values():
            assert found.shape == (96, 96)
            assert np.isfinite(found).all()
        # A logit above zero is relevance above zero: what is likelier than not has a letter.
        assert result.presence is not None
        likely = {au for au, p in zip(network.card.aus, result.presence, strict=True) if p > 0.5}
        assert likely & set(result.active) <= set(result.letters)
    pairs = sum(len(result.maps) for result in results)
    assert sum(len(result.letters) for result in results) > 0.95 * pairs


def test_the_network_runs_once_for_prediction_and_explanation_while_aus_are_active(
    network: AUNetwork, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def noting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return call(*args, **options)

        return noted

    monkeypatch.setattr(network, "predict_prepared", noting("predict", network.predict_prepared))
    monkeypatch.setattr(lrp, "explain", noting("explain", lrp.explain))
    monkeypatch.setattr(lrp, "forward", noting("forward", lrp.forward))

    def observe() -> list[Observation]:
        calls.clear()
        observer = Observer(OurDetector(), network, EVERY)
        return [observer.update([frame])[0] for frame in frames[-4:]]

    shared = observe()
    assert calls == ["predict", "explain", "forward", "forward", "forward"]
    monkeypatch.setattr(AUNetwork, "reads_hidden", False)
    apart = observe()
    assert calls == ["predict", "explain"] * 4
    for one, other in zip(shared, apart, strict=True):
        assert one.presence is not None
        np.testing.assert_allclose(one.presence, other.presence, atol=1e-5)
        np.testing.assert_allclose(one.intensity, other.intensity, atol=1e-4)
        assert one.maps.keys() == other.maps.keys() != set()
        for au, found in one.maps.items():
            assert np.abs(found - other.maps[au]).sum() < 1e-3 * np.abs(found).sum()


def test_an_au_below_one_half_shows_the_same_evidence(
    network: AUNetwork, frames: list[Frame]
) -> None:
    """Hysteresis holds AUs whose logit turned negative; that alone must not change the picture."""
    (seen,) = Observer(OurDetector(), network).update(frames[-1:])
    assert seen.face.crop is not None
    x = network.prepare(seen.face.crop[None])
    module = copy.deepcopy(network.logits_module)
    *_, last = (m for m in module.modules() if isinstance(m, torch.nn.Linear))
    pairs = [(0, network.card.aus.index(au)) for au in seen.maps]
    assert pairs
    with torch.no_grad():
        before = lrp.explain(module, x, pairs).numpy()
        for _, output in pairs:
            last.bias[output] += -0.3 - module(x)[0, output]
        assert all(module(x)[0, output] < 0 for _, output in pairs)
        after = lrp.explain(module, x, pairs).numpy()
    a, valid_a = relevance.describe(before)
    b, valid_b = relevance.describe(after)
    assert valid_a.all()
    assert valid_b.all()
    assert (a * b).sum(axis=1).min() > 0.999


def test_the_clip_begins_with_none_and_turns_to_a_stage_of_aus(results: list[FrameResult]) -> None:
    enters = [
        e for r in results for e in r.events if isinstance(e, StageEvent) and e.kind == "enter"
    ]
    assert enters[0].labels == NONE
    assert enters[0].start == 0
    assert enters[1].labels[0].startswith("AU")
    assert results[-1].stage not in (None, NONE, LOST)


def test_a_prototype_comes_before_the_stage_that_shows_it(results: list[FrameResult]) -> None:
    born: set[str] = set()
    for result in results:
        for event in result.events:
            if isinstance(event, PrototypeFound):
                born.add(f"AU{event.au:02d}_{event.letter}")
            elif isinstance(event, StageEvent):
                assert {x for x in event.labels if x.startswith("AU")} <= born


def test_letters_that_drift_or_are_given_up_are_told(
    network: AUNetwork, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer = Analyzer(OurDetector(), network, EVERY)
    plain, told = WindowBank.update, []

    def update(bank: WindowBank, *args: Any, **options: Any) -> list[WindowUpdate]:
        found = plain(bank, *args, **options)
        if found and not told and len(bank) == len(found):
            told.append(found[0].letter)
            found[0] = replace(found[0], drifted=(found[0].letter,), forgotten=("Q",))
        return found

    monkeypatch.setattr(WindowBank, "update", update)
    events = [e for f in frames for r in analyzer.update([f]) for e in r.events]
    (moved,) = (e for e in events if isinstance(e, PrototypeDrifted))
    (gone,) = (e for e in events if isinstance(e, PrototypeRetired) and e.letter == "Q")
    assert moved.letter == told[0]
    assert moved.cosine == 1.0  # not of age yet
    assert moved.map.shape == (96, 96)
    assert (gone.au, gone.into, gone.at) == (moved.au, None, moved.at)
    assert any(isinstance(e, PrototypeFound) and e.letter == told[0] for e in events)


def test_hidden_aus_are_predicted_but_never_active(
    network: AUNetwork, frames: list[Frame], results: list[FrameResult]
) -> None:
    analyzer = Analyzer(OurDetector(), network, replace(EVERY, aus=(1, 26)))
    assert analyzer.shown == (1, 26)
    few = [r for f in frames for r in analyzer.update([f])]
    for one, all_of_them in zip(few, results, strict=True):
        assert one.presence is not None
        assert all_of_them.presence is not None
        np.testing.assert_array_equal(one.presence, all_of_them.presence)
        assert one.active == tuple(au for au in all_of_them.active if au in (1, 26))
        assert set(one.maps) == set(one.letters) == set(one.active)
    assert any(r.active for r in few)
    assert {label[:4] for r in few for label in (r.stage or ()) if label != "NONE"} <= {
        "AU01",
        "AU26",
    }
    sequence = SequenceAnalyzer(OurDetector(), network, replace(EVERY, aus=(1, 26)))
    sequence.update(frames)
    result = sequence.finish(source="demo", fps=FPS)
    assert {p.au for p in result.prototypes.values()} <= {1, 26}
    assert result.hidden == tuple(au for au in network.card.aus if au not in (1, 26))
    assert [sorted(row.labels) for row in result.rows] == [list(r.active) for r in few]


def test_an_au_that_makes_no_stages_keeps_its_letters(
    network: AUNetwork, frames: list[Frame], results: list[FrameResult]
) -> None:
    seen = {label[:4] for r in results for label in (r.stage or ()) if label.startswith("AU")}
    staged = tuple(int(code[2:]) for code in sorted(seen)[:1])
    config = replace(EVERY, stage_aus=staged)
    analyzer = Analyzer(OurDetector(), network, config)
    assert analyzer.staged == set(staged)
    few = [r for f in frames for r in analyzer.update([f])]
    assert [r.letters for r in few] == [r.letters for r in results]
    made = {label[:4] for r in few for label in (r.stage or ()) if label.startswith("AU")}
    assert made == set(sorted(seen)[:1]) < seen
    sequence = SequenceAnalyzer(OurDetector(), network, config)
    sequence.update(frames)
    result = sequence.finish(source="demo", fps=FPS)
    labels = {label for stage in result.stages for label in stage.labels}
    assert {label[:4] for label in labels if label.startswith("AU")} <= made
    assert {au for row in result.rows for au in row.labels} > set(staged)


def with_trait(network: AUNetwork, au: int, logit: float) -> AUNetwork:
    """Return the network as if every face looked as if it showed this AU a little."""
    module = copy.deepcopy(network.logits_module)
    *_, last = (m for m in module.modules() if isinstance(m, torch.nn.Linear))
    with torch.no_grad():
        last.bias[network.card.aus.index(au)] += logit
    return AUNetwork.from_module(
        module, replace(network.card, landmarks=None, five_points=None), device="cpu"
    )


class Points:
    """A detector that brings points, taken from the embedded network's own tracking."""

    name = "given"

    def __init__(self, results: Sequence[FrameResult]) -> None:
        self.found = {id(r.frame.image): r.face for r in results}

    def detect(self, image: np.ndarray, smallest: float = 0.0) -> list[Detection]:
        face = self.found.get(id(image))
        if face is None or face.box is None:
            return []
        return [Detection(face.box, 1.0, face.points)]


BASELINE = replace(EVERY, baseline=BaselineConfig())


def test_a_trait_is_gone_once_the_face_has_rested(
    network: AUNetwork, frames: list[Frame], results: list[FrameResult]
) -> None:
    seen = np.array([r.presence for r in results if r.presence is not None])
    logits = np.log(seen / (1 - seen))
    # The AU that moves least in this clip, as if this face showed it all the time.
    column = int(np.ptp(logits, axis=0).argmin())
    mark = network.card.aus[column]
    on = network.card.on[mark]
    trait = with_trait(network, mark, 0.8 + np.log(on / (1 - on)) - np.median(logits[:, column]))

    span = replace(EVERY, baseline=BaselineConfig(rest_from=(0.0, 1.0)))
    sequence = SequenceAnalyzer(Points(results), trait, span)
    assert sequence.update(frames) == []  # held back: a person is known only later
    whole = sequence.finish(source="demo", fps=FPS)
    assert whole.baseline
    assert [row.index for row in whole.rows] == [f.index for f in frames]
    assert whole.rows[0].baseline == BaselineState.ACTIVE  # from the first frame on
    assert not any(mark in row.labels for row in whole.rows[:30])  # the face at rest

    def live(config: AnalyzerConfig, rest: RestLevels | None = None) -> list[FrameResult]:
        analyzer = Analyzer(Points(results), trait, config, rest=rest)
        return [r for f in frames for r in analyzer.update([f])]

    plain, general, judged = live(EVERY), live(BASELINE), live(BASELINE, whole.rest)
    assert all(mark in r.active for r in plain[:60])
    assert {r.baseline for r in plain} == {BaselineState.OFF}
    # From the first frame on it could be an expression, so it does not go within seconds.
    assert all(mark in r.active for r in general[:60])
    assert general[0].rest_s == 0.0
    assert {r.baseline for r in general} == {BaselineState.LEARNING}
    assert {r.baseline for r in judged} == {BaselineState.ACTIVE}
    assert not any(mark in r.active for r in judged[:30])
    shown = {au for r in judged for au in r.active}
    assert shown & {1, 2}  # surprise still shows
    assert shown & {25, 26}
    for a, b in zip(plain, judged, strict=True):
        assert a.presence is not None
        assert b.presence is not None
        np.testing.assert_array_equal(a.presence, b.presence)  # the raw values stay
        assert b.adjusted_presence is not None
        for au in a.maps.keys() & b.maps.keys():  # so does the explanation
            np.testing.assert_allclose(a.maps[au], b.maps[au], atol=1e-5)


def test_an_au_that_shows_only_over_its_low_rest_is_explained(
    network: AUNetwork, frames: list[Frame], results: list[FrameResult]
) -> None:
    """Judged by a common threshold it is never active, so it has no map until rest is known."""
    seen = np.array([r.presence for r in results if r.presence is not None])
    logits = np.log(seen / (1 - seen))
    column = network.card.aus.index(1)
    on = np.log(network.card.on[1] / (1 - network.card.on[1]))
    shy = with_trait(network, 1, float(on - logits[:, column].max() - 0.1))
    span = replace(EVERY, baseline=BaselineConfig(rest_from=(0.0, 1.0)))
    found = {}
    for name, config in (("none", EVERY), ("rest", span)):
        sequence = SequenceAnalyzer(Points(results), shy, config)
        sequence.update(frames)
        result = sequence.finish(source="demo", fps=FPS)
        found[name] = [row for row in result.rows if 1 in row.labels]
        assert not result.remark
    assert not found["none"]
    assert len(found["rest"]) > 10
    assert any(p.au == 1 for p in result.prototypes.values())


def test_held_frames_come_in_order_however_they_are_handed_over(
    network: AUNetwork, frames: list[Frame]
) -> None:
    config = replace(EVERY, baseline=BaselineConfig(settle_s=1.0))
    stories = []
    for size in (1, 7, len(frames)):
        sequence = SequenceAnalyzer(OurDetector(), network, config)
        seen = []
        for start in range(0, len(frames), size):
            seen += sequence.update(frames[start : start + size])
        for part in sequence.settle():
            assert len(part) <= 16
            seen += part
        assert [s.frame.index for s in seen] == [f.index for f in frames]
        result = sequence.finish(source="demo", fps=FPS)
        stories.append([sorted(row.labels) for row in result.rows])
    assert stories[0] == stories[1] == stories[2]


def test_a_span_in_which_no_face_is_seen_is_said_and_costs_nothing(
    network: AUNetwork, frames: list[Frame]
) -> None:
    config = replace(EVERY, baseline=BaselineConfig(rest_from=(90.0, 92.0)))
    sequence = SequenceAnalyzer(OurDetector(), network, config)
    sequence.update(frames[:30])
    result = sequence.finish(source="demo", fps=FPS)
    assert len(result.rows) == 30
    assert "from 90 to 92 s, but no usable face was seen there" in result.remark


def test_a_baseline_ends_with_its_person(network: AUNetwork, frames: list[Frame]) -> None:
    analyzer = Analyzer(OurDetector(), network, BASELINE)
    for frame in frames[:45]:
        (last,) = analyzer.update([frame])
    (same,) = analyzer.update([frames[45]])
    assert 1 < last.rest_s < same.rest_s
    again = replace(frames[46], epoch=1)
    (other,) = analyzer.update([again])
    assert other.rest_s == 0.0
    np.testing.assert_array_equal(other.adjusted_presence, other.presence)
    best = analyzer.rest("demo")
    assert best is not None  # what was learned before is not lost to whoever keeps it
    assert np.median(best.seconds) > 1
    begun = Analyzer(OurDetector(), network, BASELINE, rest=best)
    (first,) = begun.update([frames[0]])
    assert first.rest_s > 1


def test_a_baseline_is_forgotten_when_the_face_stays_away(
    network: AUNetwork, frames: list[Frame]
) -> None:
    analyzer = Analyzer(OurDetector(), network, BASELINE)
    for frame in frames[:45]:
        analyzer.update([frame])
    known = [analyzer.update([blank(n)])[0].rest_s for n in range(45, 120)]
    assert known[0] > 1
    # Some frames pass before the face counts as lost, two seconds more before it is forgotten.
    assert known.index(0.0) in range(59, 75)


def test_chunks_change_nothing(
    network: AUNetwork, frames: list[Frame], results: list[FrameResult]
) -> None:
    analyzer = Analyzer(OurDetector(), network, EVERY)
    chunked: list[FrameResult] = []
    for start in range(0, COUNT, 7):
        chunked += analyzer.update(frames[start : start + 7])
    assert story(chunked) == story(results)
    for a, b in zip(chunked, results, strict=True):
        assert a.letters == b.letters
        assert a.presence is not None
        assert b.presence is not None
        np.testing.assert_allclose(a.presence, b.presence, atol=1e-4)


def test_two_sources_do_not_disturb_each_other(
    network: AUNetwork, frames: list[Frame], results: list[FrameResult]
) -> None:
    """Neither a wall, nor somebody else whose frames share batches with ours, which rounds
    differently."""
    for picture, exact in ((lambda image: np.full_like(image, 90), True), (np.flipud, False)):
        analyzer = Analyzer(OurDetector(), network, EVERY)
        of_first: list[FrameResult] = []
        for frame in frames[:90]:
            image = np.ascontiguousarray(picture(frame.image))
            other = Frame("other", frame.index, image, pts=frame.pts)
            of_first.append(analyzer.update([frame, other])[0])
        if exact:
            assert story(of_first) == story(results[:90])
        for alone, together in zip(results, of_first, strict=False):
            assert (alone.presence is None) == (together.presence is None)
            if alone.presence is not None and together.presence is not None:
                # Rounding may decide whether a frame's own landmarks are searched for.
                np.testing.assert_allclose(together.presence, alone.presence, atol=0.03)


def test_reset_equals_new(
    network: AUNetwork, frames: list[Frame], results: list[FrameResult]
) -> None:
    analyzer = Analyzer(OurDetector(), network, EVERY)
    analyzer.update(frames[60:])
    analyzer.reset()
    assert story([r for f in frames[:90] for r in analyzer.update([f])]) == story(results[:90])


def test_a_picture_without_a_face_is_lost(network: AUNetwork) -> None:
    analyzer = Analyzer(OurDetector(), network, EVERY)
    results = [r for n in range(10) for r in analyzer.update([blank(n)])]
    assert results[-1].stage == LOST
    assert all(not r.maps and r.presence is None for r in results)
    changes = [e for r in results for e in r.events if isinstance(e, FaceChange)]
    assert [c.state for c in changes] == [FaceState.LOST]


def test_a_new_connection_ends_the_stage(network: AUNetwork, frames: list[Frame]) -> None:
    analyzer = Analyzer(OurDetector(), network, EVERY)
    for frame in frames[:20]:
        analyzer.update([frame])
    again = Frame("demo", 20, frames[20].image, pts=0.0, epoch=1)
    events = [e for e in analyzer.update([again])[0].events if isinstance(e, StageEvent)]
    assert [(e.kind, e.labels, e.reason) for e in events] == [
        ("exit", NONE, "gap"),
        ("enter", LOST, "gap"),
    ]


def test_what_was_active_does_not_leak_into_a_new_connection(frames: list[Frame]) -> None:
    network = AUNetwork.load(device="cpu")
    card = network.card
    # Once on, an AU never goes off by itself.
    network.card = replace(card, on=dict.fromkeys(card.aus, 0.9), off=dict.fromkeys(card.aus, 0.0))
    analyzer = Analyzer(OurDetector(), network, EVERY)
    for frame in frames[80:]:
        (last,) = analyzer.update([frame])
    assert last.active
    neutral = frames[0].image
    (same,) = analyzer.update([Frame("demo", COUNT, neutral, pts=COUNT / FPS)])
    assert same.active == last.active
    (new,) = analyzer.update([Frame("demo", COUNT + 1, neutral, pts=0.0, epoch=1)])
    assert new.active == ()


def test_frames_out_of_order_are_refused_before_anything_changes(
    network: AUNetwork, frames: list[Frame], results: list[FrameResult]
) -> None:
    analyzer = Analyzer(OurDetector(), network, EVERY)
    for frame in frames[:90]:
        analyzer.update([frame])
    for wrong in ([frames[89]], [frames[90], frames[90]], [frames[91], frames[90]]):
        with pytest.raises(ConfigError, match="came after frame"):
            analyzer.update(wrong)
    assert story(analyzer.update(frames[90:])) == story(results[90:])
    sequence = SequenceAnalyzer(OurDetector(), network, EVERY)
    sequence.update(frames[:2])
    with pytest.raises(ConfigError, match="frame 1 came after frame 1"):
        sequence.update([frames[1]])


def test_a_frame_without_any_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="pts"):
        _ = Frame("camera", 0, np.zeros((4, 4, 3), np.uint8)).time_s


@pytest.mark.parametrize(
    "config",
    [
        AnalyzerConfig(stage=StageConfig(min_stage_s=-1.0)),
        AnalyzerConfig(window=WindowConfig(size=1)),
        AnalyzerConfig(explain=ExplainConfig(preset="best")),
        AnalyzerConfig(aus="best"),
        AnalyzerConfig(aus=(12, 99)),
        AnalyzerConfig(baseline=BaselineConfig(prior_s=0.0)),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_at_once(
    network: AUNetwork, config: AnalyzerConfig
) -> None:
    with pytest.raises(ConfigError):
        Analyzer(OurDetector(), network, config)


def test_pictures_are_kept_within_their_bound(
    network: AUNetwork, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence_store, "WAITING_BYTES", 0)
    analyzer = SequenceAnalyzer(OurDetector(), network, picture_bytes=200_000)
    analyzer.update(frames)
    assert analyzer._pictures._jpeg_bytes <= 200_000
    assert sum(frame.index in analyzer._pictures for frame in frames) < len(frames) / 2
    result = analyzer.finish(source="x", fps=FPS)
    assert all(crop is not None and crop.shape[:2] == (288, 288) for crop in result.stage_crops)
    for prototype in result.prototypes.values():
        members = [r.index for r in result.rows if r.labels.get(prototype.au) == prototype.letter]
        kept = [n for n in members if n in analyzer._pictures]
        assert prototype.exemplar in (kept or members)


def test_offline_covers_every_frame_and_agrees_on_what_is_active(
    network: AUNetwork, frames: list[Frame], results: list[FrameResult]
) -> None:
    analyzer = SequenceAnalyzer(OurDetector(), network, EVERY)
    for start in range(0, COUNT, 16):
        analyzer.update(frames[start : start + 16])
    result = analyzer.finish(source="demo", fps=FPS)
    assert [row.index for row in result.rows] == list(range(COUNT))
    assert [sorted(row.labels) for row in result.rows] == [list(r.active) for r in results]
    assert result.stages[0].start == 0
    assert result.stages[-1].end == COUNT - 1
    assert all(a.end + 1 == b.start for a, b in zip(result.stages, result.stages[1:], strict=False))
    shown = {label for stage in result.stages for label in stage.labels if label != "NONE"}
    assert shown <= set(result.prototypes)
    for prototype in result.prototypes.values():
        members = [
            row.index for row in result.rows if row.labels.get(prototype.au) == prototype.letter
        ]
        assert len(members) == prototype.frames
        assert members[0] == prototype.first
        assert prototype.exemplar in members
        assert prototype.crop.shape[:2] == (288, 288)


def test_thinning_keeps_the_labels_and_bounds_the_maps(
    network: AUNetwork, frames: list[Frame]
) -> None:
    def analyse(map_bytes: int) -> SequenceAnalyzer:
        analyzer = SequenceAnalyzer(OurDetector(), network, map_bytes=map_bytes)
        analyzer.update(frames)
        return analyzer

    bound = 40 * 96 * 96 * 4
    thin, full = analyse(bound), analyse(1 << 30)
    kept = sum(len(maps.maps) for maps in thin._aus.values())
    assert kept <= 40
    # What was thinned out is gone from the shelf, too.
    side = network.card.input_size
    assert isinstance(thin._shelf, MemoryShelf)
    assert [len(piece) for piece in thin._shelf._pieces.values()].count(4 * side * side) == kept
    a, b = thin.finish(source="x", fps=FPS), full.finish(source="x", fps=FPS)
    assert [row.labels for row in a.rows] == [row.labels for row in b.rows]
    assert a.stages == b.stages
    assert a.prototypes.keys() == b.prototypes.keys()


def test_the_paper_preset_follows_every_frame(network: AUNetwork, frames: list[Frame]) -> None:
    config = AnalyzerConfig(stage=StageConfig(min_stage_s=0.0))
    analyzer = SequenceAnalyzer(OurDetector(), network, config, preset="paper")
    analyzer.update(frames)
    result = analyzer.finish(source="demo", fps=FPS)
    for stage in result.stages:
        for row in result.rows[stage.start : stage.end + 1]:
            labels = tuple(f"AU{au:02d}_{x}" for au, x in sorted(row.labels.items())) or NONE
            assert labels == stage.labels


def test_no_frame_is_an_error(network: AUNetwork) -> None:
    with pytest.raises(SourceError, match="no frame"):
        SequenceAnalyzer(OurDetector(), network, EVERY).finish(source="empty", fps=FPS)
