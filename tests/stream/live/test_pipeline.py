"""The compute thread: everything found is published, in order, and everything lost is counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facestage.core.analyzer import Analyzer
from facestage.core.config import AnalyzerConfig, FollowConfig
from facestage.core.errors import SourceError
from facestage.core.network.au_network import AUNetwork
from facestage.core.steps import STEPS
from facestage.core.types import FrameResult, StageEvent
from facestage.stream import protocol
from facestage.stream.detectors import OurDetector
from facestage.stream.live import publish
from facestage.stream.live.pipeline import Pipeline
from facestage.stream.protocol import Envelope, StreamInfo
from facestage.stream.server.hub import PICTURE, Hub
from facestage.stream.sources import Grab, Source, open_source
from torch import nn


@dataclass
class Scripted(Source):
    """Gives the pictures it was given; an error in the list is raised."""

    script: Sequence[np.ndarray | Exception]
    name: str = "scripted"
    kind: str = "camera"
    live: bool = False
    endless: bool = False
    fps: float | None = 25.0
    frame_count: int | None = None
    size: tuple[int, int] = (8, 6)
    closed: threading.Event = field(default_factory=threading.Event)
    at: int = 0

    def read(self) -> Grab | None:
        if self.at == len(self.script):
            return None
        item = self.script[self.at]
        self.at += 1
        if isinstance(item, Exception):
            raise item
        return Grab(item, self.at - 1, (self.at - 1) / 25)

    def close(self) -> None:
        self.closed.set()


@pytest.fixture(scope="module")
def network() -> AUNetwork:
    return AUNetwork.load(device="cpu")


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    with open_source("demo:") as source:
        grabs = [source.read() for _ in range(90)]
    return [grab.image for grab in grabs if grab is not None]


BLACK = np.zeros((60, 80, 3), np.uint8)


@dataclass
class Rig:
    pipeline: Pipeline
    hub: Hub
    stages: list[StageEvent]
    results: list[FrameResult]

    def events(self, since: int = 0) -> Iterator[Envelope]:
        first, last = self.hub.range
        for seq in range(max(first, since + 1), last + 1):
            message = self.hub.event_after(seq - 1)
            assert message is not None
            yield protocol.decode(message)


@pytest.fixture
def rig(network: AUNetwork) -> Callable[..., Rig]:
    def build(*names: str, **options: object) -> Rig:
        stages: list[StageEvent] = []
        results: list[FrameResult] = []
        hub = Hub([StreamInfo(id=name, name=name, number=n) for n, name in enumerate(names)])
        pipeline = Pipeline(
            Analyzer(OurDetector(), network),
            hub,
            on_stage=lambda _, event: stages.append(event),
            on_result=lambda _, result: results.append(result),
            **options,  # type: ignore[arg-type]
        )
        return Rig(pipeline, hub, stages, results)

    return build


def test_a_recording_is_published_whole(rig: Callable[..., Rig], faces: list[np.ndarray]) -> None:
    made = rig("a")
    source = Scripted(faces)
    made.pipeline.add("a", lambda: source, policy="every")
    made.pipeline.open()
    summary = made.pipeline.run()
    assert summary.frames == len(faces)
    assert summary.drops == {}
    assert source.closed.is_set()
    assert [r.frame.index for r in made.results] == list(range(len(faces)))
    active = [len(r.maps) for r in made.results]
    assert summary.counters == {
        "frames_explained": np.count_nonzero(active),
        "pairs_explained": sum(active),
        "engine_fallbacks": 0,
        "batches_halved": 0,
        "batches_eager": 0,
    }
    assert sum(active) > 0

    published = list(made.events())
    assert [e.seq for e in published] == list(range(1, len(published) + 1))
    types = [e.type for e in published if e.type.startswith("stage.")]
    assert types[0] == "stage.enter"
    assert types[-1] == "stage.exit"
    told = [e.data for e in published if isinstance(e.data, protocol.StageEnter)]
    assert [e.labels for e in told] == [e.labels for e in made.stages if e.kind == "enter"]
    assert summary.stages == len(told) > 1
    states = [e.data.state for e in published if isinstance(e.data, protocol.SourceChanged)]
    assert states == ["connecting", "live", "ended"]
    known = {e.data.label for e in published if isinstance(e.data, protocol.PrototypeNew)}
    assert {x for e in told for x in e.labels if x.startswith("AU")} <= known


def test_each_of_two_faces_is_published_as_a_stream_of_its_own(
    network: AUNetwork, faces: list[np.ndarray]
) -> None:
    follow = AnalyzerConfig(follow=FollowConfig(faces=2))
    analyzer = Analyzer(OurDetector(), network, follow)
    names = analyzer.streams("a")
    assert names == ["a", "a/2"]
    hub = Hub([StreamInfo(id=name, name=name, number=n) for n, name in enumerate(names)])
    hub.set_interest("me", ["frame", "heat", PICTURE], None)
    results: list[FrameResult] = []
    told: set[str] = set()
    pipeline = Pipeline(
        analyzer,
        hub,
        on_stage=lambda stream, _: told.add(stream.id),
        on_result=lambda _, result: results.append(result),
    )
    pair = [np.hstack([face[:, 140:500], face[:, 499:139:-1]]) for face in faces[60:78]]
    pipeline.add("a", lambda: Scripted(pair), policy="every")
    pipeline.open()
    summary = pipeline.run()
    assert summary.frames == len(pair)  # frames of the source, not faces
    assert {r.frame.source for r in results} == told == {"a", "a/2"}
    events = list(Rig(pipeline, hub, [], results).events())
    for name in names:
        mine = [e for e in events if e.stream == name]
        states = [e.data.state for e in mine if isinstance(e.data, protocol.SourceChanged)]
        assert states == ["connecting", "live", "ended"]
        assert [e.type for e in mine if e.type.startswith("stage.")][-1] == "stage.exit"
    samples = [protocol.decode(m) for m in hub.samples_since({}, ["frame", "heat"], None)]
    ids = {e.stream: e.data.face.id for e in samples if isinstance(e.data, protocol.FrameSample)}
    assert ids == {"a": 1, "a/2": 2}
    pictures = [protocol.unpack_picture(p) for p in hub.pictures_since({}, None)]
    assert {p.stream for p in pictures} == {0, 1}
    assert {p.frame for p in pictures} == {len(pair) - 1}
    assert pictures[0].jpeg == pictures[1].jpeg


def test_nobody_watching_costs_no_pictures(
    rig: Callable[..., Rig], faces: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rig("a")
    encoded: list[int] = []
    monkeypatch.setattr(
        "facestage.stream.live.publish.encode_picture", lambda frame, _: encoded.append(frame.index)
    )
    made.pipeline.add("a", lambda: Scripted(faces[:4]), policy="every")
    made.pipeline.open()
    made.pipeline.run()
    assert encoded == []


def test_a_watcher_gets_the_picture_the_heat_and_the_frame_of_one_moment(
    rig: Callable[..., Rig], faces: list[np.ndarray]
) -> None:
    made = rig("a")
    made.hub.set_interest("me", ["events", "frame", "heat", "stats", PICTURE], None)
    made.pipeline.add("a", lambda: Scripted(faces[80:86]), policy="every")
    made.pipeline.open()
    made.pipeline.run()
    (packed,) = made.hub.pictures_since({}, None)
    picture = protocol.unpack_picture(packed)
    samples = {
        e.type: e.data
        for e in map(protocol.decode, made.hub.samples_since({}, ["frame", "heat", "stats"], None))
    }
    assert picture.frame == samples["frame"].frame == samples["heat"].frame == 5
    assert (samples["frame"].width, samples["frame"].height) == (640, 360)
    assert {m.au for m in samples["heat"].masks} == {v.au for v in samples["frame"].aus if v.active}
    assert samples["stats"].detector == "ours"
    assert (samples["stats"].lrp_engine, samples["stats"].lrp_engine_reason) == ("fused", "")
    assert (
        samples["stats"].counters["pairs_explained"]
        == made.pipeline.metrics.counters["pairs_explained"]
        >= len(samples["heat"].masks)
    )
    assert samples["stats"].clients == 1


def test_frames_of_one_batch_get_their_own_heat(
    rig: Callable[..., Rig], faces: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rig("a", "b")
    made.hub.set_interest("me", ["heat"], ["b"])
    together: list[int] = []
    published: dict[tuple[str, int], protocol.Heat] = {}
    heat_messages = publish.heat_messages

    def batched(results: Sequence[FrameResult], top_x: float) -> list[protocol.Heat]:
        together.append(len(results))
        return heat_messages(results, top_x)

    def keep(sample: protocol.Sample, *, stream: str | None = None, **_: object) -> None:
        if isinstance(sample, protocol.Heat):
            assert stream is not None
            published[stream, sample.frame] = sample

    monkeypatch.setattr(publish, "heat_messages", batched)
    monkeypatch.setattr(made.hub, "publish_sample", keep)
    made.pipeline.add("a", lambda: Scripted(faces[:8]), policy="every")
    made.pipeline.add("b", lambda: Scripted(faces[80:88]), policy="every")
    made.pipeline.open()
    made.pipeline.run()
    assert max(together) > 1, "no batch of several frames"
    expected = {
        ("b", r.frame.index): heat_messages([r], 0.25)[0]
        for r in made.results
        if r.frame.source == "b"
    }
    assert published == expected  # nobody wants a's
    assert len(expected) == 8
    assert any(heat.masks for heat in expected.values())


def test_a_network_that_only_the_slow_engine_explains_is_told_and_counted(
    network: AUNetwork,
) -> None:
    class Smooth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network.logits_module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.silu(self.net(x))

    card = replace(network.card, landmarks=None, five_points=None)
    other = AUNetwork.from_module(Smooth(), card, device="cpu")
    hub = Hub([StreamInfo(id="a", name="a")])
    pipeline = Pipeline(Analyzer(OurDetector(), other), hub)
    pipeline.add("a", lambda: Scripted([BLACK]), policy="every")
    pipeline.open()
    hub.set_interest("me", ["stats"], None)
    assert pipeline.run().counters["engine_fallbacks"] == 1
    (message,) = hub.samples_since({}, ["stats"], None)
    told = protocol.decode(message).data
    assert told.lrp_engine == "reference"
    assert "silu" in told.lrp_engine_reason
    assert told.counters["engine_fallbacks"] == 1


def test_the_limit_on_frames_is_exact(rig: Callable[..., Rig]) -> None:
    made = rig("a", "b", max_frames=7)
    for name in ("a", "b"):
        made.pipeline.add(name, lambda: Scripted([BLACK] * 20), policy="every")
    made.pipeline.open()
    assert made.pipeline.run().frames == 7


def test_a_source_that_fails_is_told_and_does_not_stop_the_other(rig: Callable[..., Rig]) -> None:
    made = rig("good", "bad")
    made.pipeline.add("good", lambda: Scripted([BLACK] * 30), policy="every")
    made.pipeline.add(
        "bad", lambda: Scripted([BLACK, BLACK, SourceError("cable pulled")]), policy="every"
    )
    made.pipeline.open()
    summary = made.pipeline.run()
    assert summary.frames == 32
    assert [str(e) for e in made.pipeline.failed] == ["cable pulled"]
    bad = [e.data for e in made.events() if e.stream == "bad" and e.type == "source.state"]
    assert (bad[-1].state, bad[-1].reason) == ("failed", "cable pulled")
    # Its stage ends with it, not with the run.
    exits = [e.stream for e in made.events() if e.type == "stage.exit"]
    assert exits == ["bad", "good"]


def test_a_source_that_cannot_open_closes_the_others(rig: Callable[..., Rig]) -> None:
    made = rig("good", "bad")
    good = Scripted([BLACK] * 30)

    def broken() -> Source:
        raise SourceError("no such camera")

    made.pipeline.add("good", lambda: good, policy="every")
    made.pipeline.add("bad", broken)
    with pytest.raises(SourceError, match="no such camera"):
        made.pipeline.open()
    assert good.closed.wait(10)


def test_losing_the_connection_ends_the_stage_as_lost(
    rig: Callable[..., Rig], faces: list[np.ndarray]
) -> None:
    made = rig("cam")
    connections = iter(
        [
            Scripted([*faces[:20], SourceError("cut")], endless=True),
            Scripted(faces[20:40], endless=True),
        ]
    )

    def connect() -> Source:
        try:
            return next(connections)
        except StopIteration:
            raise SourceError("gone for good") from None

    stream = made.pipeline.add("cam", connect, policy="every", max_attempts=1)
    stream.capture._backoff = (0.0,)  # no waiting in a test
    made.pipeline.open()
    made.pipeline.run()
    told = [(e.kind, e.labels, e.reason) for e in made.stages]
    assert told[:3] == [
        ("enter", ("NONE",), "first"),
        ("exit", ("NONE",), "gap"),
        ("enter", ("LOST",), "gap"),
    ]
    assert told[1][0] == "exit"
    assert made.stages[1].end == 19  # all frames grabbed before the loss were analysed first
    assert ("enter", ("NONE",), "face_found") in told
    epochs = [e.data.epoch for e in made.events() if e.type == "source.state"]
    assert max(epochs) >= 1
    assert made.results[-1].frame.epoch == 1


def test_stop_ends_a_run_from_outside(rig: Callable[..., Rig]) -> None:
    made = rig("a")
    source = Scripted([BLACK] * 1_000_000)
    made.pipeline.add("a", lambda: source, policy="every")
    made.pipeline.open()
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(made.pipeline.run()))
    thread.start()
    made.pipeline.stop()
    thread.join(60)
    assert done
    assert source.closed.is_set()


# --- how many sources a run needs ---------------------------------------------------------------


def missing() -> Source:
    raise SourceError("no camera there")


class Appearing:
    """An opener that fails until the camera is plugged in."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tried = threading.Event()
        self.plugged_in = threading.Event()

    def __call__(self) -> Source:
        if not self.plugged_in.is_set():
            self.tried.set()
            raise SourceError("no camera there")
        return self.source


def test_one_missing_source_ends_a_run_that_needs_all(rig: Callable[..., Rig]) -> None:
    made = rig("a", "b", require="all")
    there = Scripted([BLACK])
    made.pipeline.add("a", lambda: there, policy="every")
    made.pipeline.add("b", missing, endless=True)
    with pytest.raises(SourceError, match="no camera there"):
        made.pipeline.open()
    assert there.closed.wait(10)


def test_a_missing_camera_is_waited_for_while_another_source_runs(rig: Callable[..., Rig]) -> None:
    made = rig("a", "b", require="any")
    later = Appearing(Scripted([BLACK] * 3, endless=True))
    seen = threading.Event()

    class Waiting(Scripted):
        def read(self) -> Grab | None:
            # The file ends only once the camera has appeared and was seen.
            if self.at == 1:
                assert later.tried.wait(60)
                later.plugged_in.set()
                assert seen.wait(60)
            return super().read()

    made.pipeline.add("a", lambda: Waiting([BLACK, BLACK]), policy="every")
    camera = made.pipeline.add("b", later, policy="every", endless=True)
    camera.capture._backoff = (0.05,)
    made.pipeline._on_result = lambda stream, _: seen.set() if stream is camera else None
    made.pipeline.open()
    runner = threading.Thread(target=made.pipeline.run)
    runner.start()
    assert seen.wait(60)
    made.pipeline.stop()
    runner.join(60)
    states = [
        e.data
        for e in made.events()
        if isinstance(e.data, protocol.SourceChanged) and e.stream == "b"
    ]
    waited = [s for s in states if s.state == "connecting" and s.retry_s is not None]
    assert waited
    assert waited[0].reason == "no camera there"
    assert "live" in [s.state for s in states]
    assert made.pipeline.unmet() is None


def test_nothing_to_run_with_ends_a_run_that_needs_any(rig: Callable[..., Rig]) -> None:
    made = rig("a", "b", require="any")
    made.pipeline.add("a", missing, endless=True)
    made.pipeline.add("b", missing)
    with pytest.raises(SourceError, match="no camera there"):
        made.pipeline.open()


@pytest.mark.parametrize(
    ("require", "lost", "fails"),
    [("all", 1, True), ("any", 1, False), ("any", 2, True), ("none", 2, False)],
)
def test_a_run_fails_only_when_too_few_sources_are_left(
    rig: Callable[..., Rig], require: str, lost: int, fails: bool
) -> None:
    made = rig("a", "b", require=require)
    for n, name in enumerate("ab"):
        script: list[np.ndarray | Exception] = [BLACK]
        if n < lost:
            script.append(SourceError("cable pulled"))
        source = Scripted(script)
        made.pipeline.add(name, lambda source=source: source, policy="every")
    made.pipeline.open()
    made.pipeline.run()
    assert [str(e) for e in made.pipeline.failed] == ["cable pulled"] * lost
    assert (made.pipeline.unmet() is not None) == fails


def test_a_run_that_needs_none_starts_with_none(rig: Callable[..., Rig]) -> None:
    made = rig("a", require="none")
    made.pipeline.add("a", missing, endless=True)
    made.pipeline.open()
    made.pipeline.stop()
    made.pipeline.run()
    assert made.pipeline.unmet() is None


def test_every_step_on_the_way_is_timed(rig: Callable[..., Rig], faces: list[np.ndarray]) -> None:
    told: list[str] = []
    made = rig("a", on_steps=told.extend)
    made.hub.set_interest("watcher", ["events", "frame", "heat", "stats", PICTURE], None)
    made.pipeline.add("a", lambda: Scripted(faces), policy="every")
    made.pipeline.open()
    summary = made.pipeline.run()
    here = set(STEPS) - {"decode", "round", "send"}  # no decoder, no GPU, no server
    assert set(summary.steps_ms) == here
    assert set(told) == here
    assert all(ms > 0 for ms in summary.steps_ms.values())
    stats = made.hub.samples_since({}, ["stats"], None)
    sample = protocol.decode(stats[0]).data
    assert isinstance(sample, protocol.Stats)
    assert list(sample.steps_ms) == [name for name in STEPS if name in here]


def test_a_picture_that_cannot_be_made_ends_the_run(
    rig: Callable[..., Rig], faces: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(frame: object, number: int) -> None:
        raise MemoryError("no room for a JPEG")

    monkeypatch.setattr(publish, "encode_picture", fail)
    made = rig("a")
    made.hub.set_interest("watcher", [PICTURE], None)
    source = Scripted(faces)
    made.pipeline.add("a", lambda: source, policy="every")
    made.pipeline.open()
    with pytest.raises(MemoryError, match="no room for a JPEG"):
        made.pipeline.run()
    assert source.closed.wait(10)
    assert not any(thread.name == "encoder" for thread in threading.enumerate())
