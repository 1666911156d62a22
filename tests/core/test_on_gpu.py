"""The whole analysis on a GPU that is made of the CPU: results, launches, waits, errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from facestage.core import lrp, relevance
from facestage.core.analyzer import Analyzer
from facestage.core.backend import arithmetic
from facestage.core.baseline import PersonalBaseline
from facestage.core.config import AnalyzerConfig, BaselineConfig, ExplainConfig
from facestage.core.errors import ConfigError
from facestage.core.face.track import FIRST_UPDATES
from facestage.core.face.tracker import Detection
from facestage.core.lrp.fused import cuda_graphs, rounds
from facestage.core.network import au_network, recording
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.recording import Recorder, Recording
from facestage.core.observer import Observation, Observer
from facestage.core.observer.on_gpu import OnGpu
from facestage.core.sequence import SequenceAnalyzer
from facestage.core.types import Frame, FrameResult, RestLevels
from facestage.stream.detectors import OurDetector
from numpy.typing import NDArray

from tests.support.cuda_twin import POISON, CudaTwin
from tests.support.paths import ROOT

MASKS = AnalyzerConfig(explain=ExplainConfig(mask_side=48))


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    """Frames of the demo clip, in which several AUs come and go."""
    capture = cv2.VideoCapture(str(ROOT / "stream" / "demo" / "face.mp4"))
    frames = [capture.read()[1] for _ in range(310)]
    return [np.ascontiguousarray(frame) for frame in frames[250:]]


class KnownPoints:
    """A detector that gives the points it was told of each picture."""

    name = "known"

    def __init__(self, points: dict[int, NDArray[np.float32]]) -> None:
        self._points = points

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        del smallest
        points = self._points[id(image)]
        (left, top), (right, bottom) = points.min(0), points.max(0)
        box = (float(left), float(top), float(right - left), float(bottom - top))
        return [Detection(box, 1.0, points)]


@pytest.fixture(scope="module")
def points(pictures: list[NDArray[np.uint8]]) -> dict[int, NDArray[np.float32]]:
    observer = Observer(OurDetector(), AUNetwork.load(device="cpu"))
    seen = observer.update(
        [Frame("a", i, picture, pts=i / 30) for i, picture in enumerate(pictures)]
    )
    return {id(one.frame.image): one.face.points for one in seen if one.face.points is not None}


@pytest.fixture
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and small recordings: the twin computes every one of them on the CPU."""
    monkeypatch.setattr(rounds, "FRAMES", (1, 4))
    monkeypatch.setattr(au_network, "RECORDED_CROPS", (1, 4))
    monkeypatch.setattr(recording, "WARM_UP_RUNS", 0)


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch, small_rounds: None) -> Iterator[CudaTwin]:
    twin = CudaTwin()
    with twin.installed(monkeypatch):
        yield twin


def frames(
    pictures: Sequence[NDArray[np.uint8]],
    cameras: int,
    first: int,
    count: int = 1,
    epoch: int = 0,
) -> list[Frame]:
    return [
        Frame(f"c{c}", i, pictures[(i + 7 * c) % len(pictures)], 0, epoch=epoch, pts=i / 30)
        for c in range(cameras)
        for i in range(first, first + count)
    ]


def uneven_rest() -> RestLevels:
    """Rest levels above and below those of faces in general: offsets of either sign."""
    card = AUNetwork.load(device="cpu").card
    baseline = PersonalBaseline.of_network(card)
    side = np.where(np.arange(len(card.aus)) % 2, 0.9, -1.5)
    level = baseline.neutral + side * baseline.margin
    return RestLevels(level, np.full(len(card.aus), 20.0))


def same(here: FrameResult, there: FrameResult, tolerance: float) -> None:
    assert here.active == there.active
    assert (here.letters, here.stage) == (there.letters, there.stage)
    for au, values in here.maps.items():
        most = tolerance * float(np.abs(values).max()) + 1e-7
        np.testing.assert_allclose(there.maps[au], values, atol=most, rtol=0)


@pytest.mark.parametrize(
    ("cameras", "at_once", "baseline"), [(1, 1, False), (3, 2, True), (6, 1, True)]
)
def test_a_gpu_shows_what_the_cpu_shows(
    cameras: int,
    at_once: int,
    baseline: bool,
    pictures: list[NDArray[np.uint8]],
    points: dict[int, NDArray[np.float32]],
    twin: CudaTwin,
) -> None:
    """Also with several frames of a source in a round, and more frames than a round holds."""
    config = AnalyzerConfig(
        explain=MASKS.explain, baseline=BaselineConfig(enabled=baseline, prior_s=0.1)
    )
    rest = uneven_rest() if baseline else None
    here, there = (
        Analyzer(KnownPoints(points), AUNetwork.load(device=device), config, rest=rest)
        for device in ("cpu", "cuda")
    )
    explained = 0
    for first in range(0, 12, at_once):
        batch = frames(pictures, cameras, first, at_once)
        for one, other in zip(here.update(batch), there.update(batch), strict=True):
            same(one, other, 1e-3)
            explained += len(one.maps)
            for au, mask in other.masks.items():
                expected = relevance.masks(other.maps[au][None], 48).numpy()[0]
                assert ((mask > 0) != (expected > 0)).sum() <= 2  # cells on the brink
            assert other.masks.keys() == other.maps.keys()
    assert explained > 20
    assert twin.recordings <= 2 * 3 + 2


@pytest.mark.parametrize("cameras", [1, 4])
def test_a_round_is_one_launch_one_upload_and_one_wait(
    cameras: int,
    pictures: list[NDArray[np.uint8]],
    points: dict[int, NDArray[np.float32]],
    twin: CudaTwin,
) -> None:
    """Whatever the number of cameras, with a detector that gives points; and nothing is recorded in
    mid-stream."""
    analyzer = Analyzer(KnownPoints(points), AUNetwork.load(device="cuda"), MASKS)
    analyzer.warm_up()
    recorded, explained = twin.recordings, 0
    analyzer.update(frames(pictures, cameras, 0))
    for first in range(1, 8):
        twin.clear()
        explained += sum(len(r.maps) for r in analyzer.update(frames(pictures, cameras, first)))
        counts = [twin.count(kind) for kind in ("launch", "wait", "upload", "download")]
        assert counts == [1, 1, 1, 1], twin.summary()
    assert explained > 0
    assert twin.recordings == recorded


def test_what_the_rest_levels_make_active_is_explained_in_the_same_round(
    pictures: list[NDArray[np.uint8]],
    points: dict[int, NDArray[np.float32]],
    twin: CudaTwin,
) -> None:
    """Both what they raise over its threshold and what they keep below it; also where the levels
    of the person end with its connection."""
    here, there = (
        Analyzer(KnownPoints(points), AUNetwork.load(device=device), MASKS, rest=uneven_rest())
        for device in ("cpu", "cuda")
    )
    there.warm_up()
    card = there.network.card
    on, off = card.thresholds()
    raised = kept = 0
    launches = []
    for first in range(10):
        batch = frames(pictures, 2, first, epoch=first // 4)
        twin.clear()
        found = there.update(batch)
        launches.append(twin.count("launch"))
        for one, other in zip(here.update(batch), found, strict=True):
            same(one, other, 1e-3)
            assert other.presence is not None
            active = np.isin(card.aus, other.active)
            takes_part = np.isin(card.aus, there.shown)
            raised += int((active & (other.presence < off)).sum())
            kept += int((takes_part & ~active & (other.presence >= on)).sum())
    assert raised > 0
    assert kept > 0
    # A round runs twice where more became active than was expected of it.
    assert launches.count(1) >= 8
    assert max(launches) <= 2


@pytest.mark.parametrize("settle_s", [0.3, 100.0])
def test_a_recording_shows_on_a_gpu_what_it_shows_on_the_cpu(
    settle_s: float,
    pictures: list[NDArray[np.uint8]],
    points: dict[int, NDArray[np.float32]],
    twin: CudaTwin,
) -> None:
    """Frames that were held back until the rest levels were known, and those that need not wait."""
    config = AnalyzerConfig(baseline=BaselineConfig(prior_s=0.1, settle_s=settle_s))
    seen: list[list[Observation]] = []
    for device in ("cpu", "cuda"):
        analyzer = SequenceAnalyzer(KnownPoints(points), AUNetwork.load(device=device), config)
        shown = []
        for first in range(0, 24, 4):
            shown += analyzer.update(frames(pictures, 1, first, 4))
        held = [one for some in analyzer.settle() for one in some]
        assert (len(held) == 24) == (settle_s > 1)
        seen.append(shown + held)
    explained = 0
    for one, other in zip(*seen, strict=True):
        assert one.frame.index == other.frame.index
        assert one.maps.keys() == other.maps.keys()
        assert one.adjusted_presence is not None
        assert other.adjusted_presence is not None
        np.testing.assert_allclose(other.adjusted_presence, one.adjusted_presence, atol=1e-4)
        for au, values in one.maps.items():
            most = 1e-3 * float(np.abs(values).max()) + 1e-7
            np.testing.assert_allclose(other.maps[au], values, atol=most, rtol=0)
            explained += 1
    assert explained > 10


def test_recordings_stay_behind_when_an_analyzer_is_pickled(
    pictures: list[NDArray[np.uint8]],
    points: dict[int, NDArray[np.float32]],
    twin: CudaTwin,
) -> None:
    network = AUNetwork.load(device="cuda")
    network.record()
    observer = Observer(KnownPoints(points), network)
    observer.update(frames(pictures, 1, 0))
    held = recordings_in(network.__getstate__()) + recordings_in(observer.__getstate__())
    assert held == 0
    assert recordings_in(network.__dict__) + recordings_in(observer.__dict__) > 0


def recordings_in(state: dict[str, Any]) -> int:
    """Count what belongs to the GPU of this process."""
    values = [*state.values(), *state.get("_recordings", {}).values()]
    return sum(isinstance(value, Recorder | Recording | OnGpu) for value in values)


@pytest.mark.parametrize("cameras", [1, 4])
def test_landmarks_of_all_cameras_are_one_more_for_new_faces_alone(
    cameras: int, pictures: list[NDArray[np.uint8]], twin: CudaTwin
) -> None:
    """The landmarks say where to cut the crop: those of a new face come before, later the round
    finds those with which the next frame is cut."""
    analyzer = Analyzer(OurDetector(), AUNetwork.load(device="cuda"), MASKS)
    analyzer.warm_up()
    alone = 0
    for first in range(12):
        twin.clear()
        analyzer.update(frames(pictures, cameras, first))
        counts = [twin.count(kind) for kind in ("launch", "wait", "upload", "download")]
        if 1 < first < FIRST_UPDATES:  # faces are found
            assert counts == [2, 2, 2, 2], twin.summary()
        elif first > FIRST_UPDATES:
            assert counts in ([1] * 4, [2] * 4), twin.summary()
            alone += counts == [1] * 4
    assert alone > 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_faces_found_ahead_change_nothing(
    device: str, pictures: list[NDArray[np.uint8]], twin: CudaTwin
) -> None:
    """On a GPU the landmarks of new faces are left to the thread that works with it."""
    plain, ahead = (Analyzer(OurDetector(), AUNetwork.load(device=device), MASKS) for _ in range(2))
    looked: list[int] = []
    for first in range(10):
        batch = frames(pictures, 2, first)
        expected = plain.update(batch)
        twin.clear()
        for frame in batch:
            ahead.prepare(frame)
        assert twin.count("launch") == 0
        found = ahead.update(batch, lambda first=first: looked.append(first))
        for one, other in zip(expected, found, strict=True):
            assert one.face.state == other.face.state
            same(one, other, 3e-3)
            np.testing.assert_allclose(other.face.points, one.face.points, atol=1e-2)
    assert looked == list(range(10))
    (frame, _), (other, _) = (frames(pictures, 2, n) for n in (10, 11))
    ahead.prepare(frame)
    if device == "cpu":
        with pytest.raises(RuntimeError, match="another frame was prepared"):
            ahead.update([other])


def test_landmarks_of_a_gpu_are_those_of_the_cpu(twin: CudaTwin) -> None:
    crops = np.random.default_rng(0).integers(0, 255, (6, 96, 96), np.uint8)
    here, there = (AUNetwork.load(device=device) for device in ("cpu", "cuda"))
    twin.clear()
    np.testing.assert_allclose(there.five_points(crops), here.five_points(crops), atol=1e-2)
    assert there.landmarks(crops[:0]).shape == (0, 68, 2)


def test_an_au_that_was_not_expected_is_explained_all_the_same(
    pictures: list[NDArray[np.uint8]],
    points: dict[int, NDArray[np.float32]],
    twin: CudaTwin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = (
        Analyzer(KnownPoints(points), AUNetwork.load(device=device), MASKS)
        for device in ("cpu", "cuda")
    )

    def nothing(
        self: OnGpu, drafts: Sequence[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        levels = np.full((len(drafts), len(self.network.card.aus)), lrp.NEVER, np.float32)
        return levels, np.zeros(len(drafts), np.int64)

    monkeypatch.setattr(OnGpu, "levels", nothing)
    explained = 0
    for first in range(6):
        batch = frames(pictures, 2, first)
        for one, other in zip(here.update(batch), there.update(batch), strict=True):
            same(one, other, 1e-3)
            explained += len(one.maps)
    assert explained > 0


def test_a_round_with_more_pairs_than_room_runs_again(twin: CudaTwin) -> None:
    network = AUNetwork.load(device="cuda")
    engine = lrp.recorded_engine(network.logits_module, (1, 96, 96))
    assert engine is not None
    outputs = range(len(network.card.aus))
    running = lrp.Rounds(engine, network, outputs, lambda maps: [maps.sum(dim=(1, 2))])
    crops = np.random.default_rng(0).integers(0, 255, (1, 96, 96), np.uint8)
    levels = np.full((1, len(outputs)), lrp.NEVER, np.float32)
    levels[0, [2, 3, 5, 7, 11, 13]] = lrp.ALWAYS
    found = running.run(crops, levels, 1)
    assert sorted(found.slots) == [(0, output) for output in (2, 3, 5, 7, 11, 13)]
    maps = lrp.explain(
        AUNetwork.load(device="cpu").logits_module,
        AUNetwork.load(device="cpu").prepare(crops),
        sorted(found.slots),
    )
    expected = maps.numpy()
    np.testing.assert_allclose(found.maps[:6], expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(found.summaries[0][:6], expected.sum((1, 2)), rtol=1e-3, atol=1e-3)


def test_a_recording_is_made_on_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work on another device than the recording stream's would run once and never again."""
    twin = CudaTwin(devices=2)
    with twin.installed(monkeypatch):
        torch.cuda.graph(torch.cuda.CUDAGraph())  # makes torch's own stream, on device 0
        for index in (1, 0):
            recorder = Recorder(torch.device("cuda", index))
            doubled = Recording(lambda request: [request.float() * 2], 3, recorder)
            for values in ([1, 2, 3], [7, 8, 9]):
                (found,) = doubled([np.array(values, np.uint8)])
                assert found.tolist() == [2.0 * value for value in values]
            assert torch.cuda.current_device() == 0


def test_batches_on_a_second_gpu_are_replayed_with_their_own_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "WARM_UP_RUNS", 0)
    x = torch.randn(2, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    pairs = [(0, 2), (1, 5), (1, 7)]
    network = AUNetwork.load(device="cpu")
    with CudaTwin(devices=2).installed(monkeypatch):
        there = AUNetwork.load(device="cuda:1").logits_module
        for scale in (1.0, 0.5, 2.0):
            expected = lrp.explain(network.logits_module, scale * x, pairs)
            maps = lrp.explain(there, (scale * x).to("cuda:1"), pairs, check=False).cpu()
            torch.testing.assert_close(
                maps, expected, atol=1e-4 * float(expected.abs().max()), rtol=0
            )
        assert lrp.counts_of(there).recorded == 1


def test_a_failed_recording_leaves_the_stream_as_it_was(twin: CudaTwin) -> None:
    before = torch.cuda.current_stream()

    def reads(request: torch.Tensor) -> list[torch.Tensor]:
        return [request * int(request.sum())]

    with pytest.raises(RuntimeError, match="previous error"):
        Recording(reads, 3, Recorder(torch.device("cuda")))
    assert torch.cuda.current_stream() is before


def test_memory_that_ends_in_a_recording_makes_smaller_ones(
    monkeypatch: pytest.MonkeyPatch, small_rounds: None
) -> None:
    """The error that arrives is that of the recording's end, not that of the memory."""
    network = AUNetwork.load(device="cpu")
    x = torch.randn(4, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    pairs = [(row, output) for row in range(4) for output in range(3)]
    expected = lrp.explain(network.logits_module, x, pairs)
    with CudaTwin(capture_bytes=24 << 20).installed(monkeypatch):
        there = AUNetwork.load(device="cuda").logits_module
        for _ in range(6):  # each size runs once before it is recorded
            maps = lrp.explain(there, x.to("cuda"), pairs, check=False).cpu()
            torch.testing.assert_close(
                maps, expected, atol=1e-4 * float(expected.abs().max()), rtol=0
            )
        counts = lrp.counts_of(there)
    assert counts.halved > 0
    assert counts.recorded > 0


def flags() -> list[str]:
    backends = torch.backends
    return [backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision]


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9")
def test_a_gpu_does_not_round_to_tf32_unless_asked(
    twin: CudaTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = flags()
    seen: dict[str, set[str]] = {"forward": set(), "back": set()}
    for name in seen:
        method = {"forward": "_forward", "back": "_propagated"}[name]
        plainly = getattr(lrp.api.FusedEngine, method)

        def noted(self: Any, *args: Any, name: str = name, plainly: Any = plainly) -> Any:
            if name == "back":
                seen[name].update(flags())
            made = plainly(self, *args)
            return made

        monkeypatch.setattr(lrp.api.FusedEngine, method, noted)
    convolve = torch.nn.functional.conv2d

    def watched(*args: Any, **options: Any) -> torch.Tensor:
        seen["forward"].update(flags())
        return convolve(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    network = AUNetwork.load(device="cuda")
    x = network.prepare(np.full((1, 96, 96), 90, np.uint8))
    for dtype, back in ((None, "ieee"), (lrp.TF32, "tf32")):
        seen["forward"].clear()
        seen["back"].clear()
        lrp.explain(network.logits_module, x, [(0, 1)], dtype=dtype, check=False)
        assert seen == {"forward": {"ieee"}, "back": {back}}
        assert flags() == before
    monkeypatch.setattr(torch.nn.functional, "conv2d", convolve)


def test_arithmetic_of_a_cpu_is_left_alone() -> None:
    if hasattr(torch.backends.cudnn, "conv"):
        before = flags()
        with arithmetic(torch.device("cpu"), tf32=True):
            assert flags() == before


def test_tf32_is_refused_on_a_cpu() -> None:
    network = AUNetwork.load(device="cpu")
    config = AnalyzerConfig(explain=ExplainConfig(precision="tf32"))
    with pytest.raises(ConfigError, match="for GPUs, and the network runs on the CPU"):
        Observer(OurDetector(), network, config)
    with pytest.raises(ConfigError, match="precision of GPUs; use float32 on a CPU"):
        lrp.explain(network.logits_module, torch.zeros(1, 1, 96, 96), [(0, 0)], dtype=lrp.TF32)


# ---- the twin itself


def test_the_twin_refuses_what_cuda_refuses(twin: CudaTwin) -> None:
    there = torch.arange(4.0).to("cuda")
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(4)
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    with pytest.raises(RuntimeError, match="invalid device"):
        torch.zeros(1, device="cuda:3")
    assert float(there.sum()) == 6.0
    assert (there * torch.tensor(2.0)).cpu().tolist() == [0, 2, 4, 6]
    assert [twin.count(kind) for kind in ("upload", "wait")] == [1, 2]


def test_a_download_of_the_twin_arrives_when_it_was_waited_for(twin: CudaTwin) -> None:
    there = torch.ones(2, dtype=torch.uint8, device="cuda")
    host = torch.zeros(2, dtype=torch.uint8, pin_memory=True)
    host.copy_(there, non_blocking=True)
    assert host.tolist() == [POISON] * 2
    torch.cuda.Event().synchronize()
    assert host.tolist() == [1, 1]


def test_a_graph_of_the_twin_computes_from_the_same_memory(twin: CudaTwin) -> None:
    x = torch.zeros(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = (x.reshape(3, 1) + 1).sum(dim=1).mul_(2)
    x.copy_(torch.arange(3.0))
    graph.replay()
    assert y.tolist() == [2.0, 4.0, 6.0]
    assert cuda_graphs.PADDED_FRAMES[0] == 1


# ---- a real one


@pytest.mark.gpu
def test_a_real_gpu_shows_what_the_cpu_shows_and_waits_once_a_round(
    pictures: list[NDArray[np.uint8]], points: dict[int, NDArray[np.float32]]
) -> None:
    here, there = (
        Analyzer(KnownPoints(points), AUNetwork.load(device=device), MASKS)
        for device in ("cpu", "cuda")
    )
    there.warm_up()
    recorded, explained = there.counts.recorded, 0
    for first in range(12):
        batch = frames(pictures, 3, first)
        torch.cuda.set_sync_debug_mode("error")  # the one wait is for an event, which may be
        try:
            found = there.update(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for one, other in zip(here.update(batch), found, strict=True):
            same(one, other, 1e-2)
            explained += len(one.maps)
    assert explained > 20
    assert there.counts.recorded == recorded


@pytest.mark.gpu
def test_a_real_recording_is_replayed_with_its_own_input_on_every_gpu() -> None:
    for index in reversed(range(torch.cuda.device_count())):
        doubled = Recording(
            lambda request: [request.float() * 2], 3, Recorder(torch.device("cuda", index))
        )
        for values in ([1, 2, 3], [7, 8, 9]):
            (found,) = doubled([np.array(values, np.uint8)])
            assert found.tolist() == [2.0 * value for value in values]
        assert torch.cuda.current_device() == 0
