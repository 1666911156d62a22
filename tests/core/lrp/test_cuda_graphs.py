"""Fixed batch shapes and short memory in the fused engine; recording itself needs a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from facestage.core.errors import ModelError
from facestage.core.lrp import LRP_PRESETS, counts_of, explain
from facestage.core.lrp.fused import cuda_graphs
from facestage.core.lrp.fused.cuda_graphs import (
    PADDED_FRAMES,
    PADDED_PAIRS,
    CudaGraphEngine,
    EagerBatch,
    GraphBatch,
)
from facestage.core.lrp.fused.engine import FusedEngine
from facestage.core.network import onednn
from facestage.core.network.folding import example_input, fold_batchnorm
from facestage.core.network.recording import Recorder, padded_size
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

SHAPE = (1, 20, 20)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(125, 7),
    ).eval()


def fused(preset: str = "innvestigate_a_flat", dtype: torch.dtype | None = None) -> FusedEngine:
    net = network()
    example = example_input(net, SHAPE)
    return FusedEngine(fold_batchnorm(net, example), example, LRP_PRESETS[preset], dtype)


def frames(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def ragged(count: int, seed: int, most: int = 7) -> tuple[list[int], list[int]]:
    """Pairs in mixed order; some frames have none, some outputs come twice."""
    random = torch.Generator().manual_seed(seed)
    total = int(torch.randint(1, most * count, (1,), generator=random))
    return (
        torch.randint(count, (total,), generator=random).tolist(),
        torch.randint(7, (total,), generator=random).tolist(),
    )


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("preset", sorted(LRP_PRESETS))
@pytest.mark.parametrize("stop", [None, 5])
def test_padded_batches_give_the_maps_of_the_exact_ones(preset: str, stop: int | None) -> None:
    plain, padded = fused(preset), CudaGraphEngine(fused(preset), EagerBatch)
    # The same sizes again and again, so that what an earlier batch left in the padding shows.
    for seed in range(12):
        x = frames(1 + seed % 4, seed)
        pairs = ragged(len(x), seed)
        maps = padded.relevance(x, *pairs, stop)
        torch.testing.assert_close(maps, plain.relevance(x, *pairs, stop), rtol=1e-4, atol=1e-6)
    assert padded.counts.recorded > 0


def test_padded_batches_of_bfloat16_give_float32_maps_near_the_exact_ones() -> None:
    plain, padded = fused(), CudaGraphEngine(fused(dtype=torch.bfloat16), EagerBatch)
    for seed in range(6):
        x = frames(1 + seed % 3, seed)
        pairs = ragged(len(x), seed)
        maps, exact = padded.relevance(x, *pairs), plain.relevance(x, *pairs)
        assert maps.dtype == torch.float32
        assert float((maps - exact).abs().sum() / exact.abs().sum()) <= 0.05


class Watch(TorchDispatchMode):
    """Notes the names of all operations, and whether convolutions get channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.convolutions: list[bool] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        self.names.add(func.name())
        if func.name() == "aten::convolution":
            self.convolutions.append(args[0].is_contiguous(memory_format=torch.channels_last))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("preset", sorted(LRP_PRESETS))
def test_a_batch_reads_no_value_and_convolves_channels_last(
    preset: str, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads a value waits for a GPU, and cannot be recorded; nor can a size that depends on
    values."""
    monkeypatch.setattr(onednn, "_may_prepack", lambda *_: False)  # as on a GPU
    batch = EagerBatch(fused(preset, dtype), 2, 4, 0)
    batch.x.copy_(frames(2))
    batch.frames.copy_(torch.tensor([0, 1, 1, 0]))
    with Watch() as seen:
        batch.run()
    assert len(seen.convolutions) >= 5
    assert all(seen.convolutions)
    reading = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2"}
    assert not reading & {name.removeprefix("aten::").split(".")[0] for name in seen.names}


def test_more_than_the_largest_shape_runs_in_rounds() -> None:
    plain, engine = fused(), fused()
    engine.frames_at_once, engine.pairs_at_once = 2, 5
    padded = CudaGraphEngine(engine, EagerBatch)
    x = frames(7)
    pairs = ragged(7, 3)
    assert len(pairs[0]) > 10
    torch.testing.assert_close(
        padded.relevance(x, *pairs), plain.relevance(x, *pairs), rtol=1e-4, atol=1e-6
    )
    assert padded.counts.pairs == len(pairs[0])
    assert padded.counts.frames >= len(set(pairs[0]))


def test_a_size_is_recorded_at_its_second_use_and_the_oldest_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = 6
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", most)
    recorded: list[tuple[int, int]] = []

    class Recorded(EagerBatch):
        def __init__(self, engine: FusedEngine, frames: int, pairs: int, end: int) -> None:
            recorded.append((frames, pairs))
            super().__init__(engine, frames, pairs, end)

    padded = CudaGraphEngine(fused(), Recorded)
    x = frames(32)

    def use(batch: int, pairs: int) -> None:
        rows = [n % batch for n in range(pairs)]
        padded.relevance(x, rows, [0] * pairs)

    use(1, 3)
    assert recorded == []
    use(1, 4)  # padded to the same shape
    assert recorded == [(1, 4)]
    use(1, 4)
    assert recorded == [(1, 4)]
    assert (padded.counts.eager, padded.counts.recorded) == (1, 1)

    shapes = [(b, p) for b in PADDED_FRAMES for p in PADDED_PAIRS if p >= b and (b, p) != (1, 4)]
    sizes = shapes[:most]
    for size in sizes:
        use(*size)
        use(*size)
    assert recorded == [(1, 4), *sizes]
    use(1, 4)  # gave its place to the last of the others: eager again
    assert recorded == [(1, 4), *sizes]
    use(1, 4)
    assert recorded == [(1, 4), *sizes, (1, 4)]


def test_what_explains_a_live_frame_can_be_recorded_ahead() -> None:
    padded = CudaGraphEngine(fused(), EagerBatch)
    padded.record(10)
    sizes = [size for size in PADDED_PAIRS if size <= 12]  # 10 is padded to 12
    assert padded.counts.recorded == padded.counts.eager == len(sizes)
    padded.record(10)
    x = frames(1)
    for pairs in range(1, 13):
        maps = padded.relevance(x, [0] * pairs, [n % 7 for n in range(pairs)])
        expected = fused().relevance(x, [0] * pairs, [n % 7 for n in range(pairs)])
        torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)
    assert padded.counts.recorded == padded.counts.eager == len(sizes)


def test_recording_ahead_ends_where_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fused()
    engine.pairs_at_once = 16

    class Large(EagerBatch):
        def __init__(self, engine: FusedEngine, frames: int, pairs: int, end: int) -> None:
            if pairs > 4:
                raise RuntimeError("not enough memory")
            super().__init__(engine, frames, pairs, end)

    padded = CudaGraphEngine(engine, Large)
    padded.record(16)
    assert engine.pairs_at_once == 8  # of the sizes only 4 fits
    assert padded.counts.recorded == 1  # 4 pairs
    assert padded.relevance(frames(1), [0] * 9, [0] * 9).shape[0] == 9


def test_all_shapes_together_stay_recorded() -> None:
    assert len(PADDED_FRAMES) * len(PADDED_PAIRS) <= cuda_graphs.MAX_GRAPHS


@pytest.mark.parametrize("count", range(1, 385))
def test_a_padded_size_holds_its_count_with_little_padding(count: int) -> None:
    size = padded_size(count, PADDED_PAIRS)
    assert size >= count
    assert count < 12 or size < 2 * count


def short_of(limit: int, engine: FusedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine's memory end at so many frames at once."""
    forward = engine._forward

    def guarded(x: torch.Tensor) -> Any:
        if len(x) > limit:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1")
        return forward(x)

    monkeypatch.setattr(engine, "_forward", guarded)


@pytest.mark.parametrize("padded", [False, True])
def test_short_memory_halves_the_rounds_and_is_counted(
    padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, x = fused(), frames(8)
    pairs = list(range(8)) * 2, [0] * 8 + [3] * 8
    expected = fused().relevance(x, *pairs)
    engine.frames_at_once = 8
    short_of(2, engine, monkeypatch)
    user = CudaGraphEngine(engine, EagerBatch) if padded else engine
    torch.testing.assert_close(user.relevance(x, *pairs), expected, rtol=1e-4, atol=1e-6)
    assert user.counts.halved == 2
    assert engine.frames_at_once == 2
    user.relevance(x, *pairs)
    assert user.counts.halved == 2  # what was learnt stays


def test_memory_for_not_even_one_pair_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fused()
    short_of(0, engine, monkeypatch)
    with pytest.raises(ModelError, match="not enough memory on cpu to explain one frame"):
        engine.relevance(frames(2), [0, 1], [0, 0])


def test_other_errors_of_the_run_are_not_taken_for_short_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = fused()

    def broken(x: torch.Tensor) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(engine, "_forward", broken)
    with pytest.raises(RuntimeError, match="something else"):
        engine.relevance(frames(1), [0], [0])


def test_counts_of_a_network_add_up_over_its_engines() -> None:
    net, x = network(), frames(3)
    assert counts_of(net).pairs == 0
    explain(net, x, [(0, 1), (2, 1), (2, 3)])
    explain(net, x, [(1, 1)], "zennit")
    assert (counts_of(net).frames, counts_of(net).pairs) == (3, 4)
    explain(net, x, [(1, 1)], engine="reference")
    assert counts_of(net).pairs == 4


def test_unchecked_input_goes_through() -> None:
    x = frames(1)
    x[0, 0, 3, 3] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        explain(network(), x, [(0, 0)])
    assert explain(network(), x, [(0, 0)], check=False).isnan().any()


@pytest.mark.gpu
def test_recorded_batches_give_the_maps_of_the_cpu_and_never_wait() -> None:
    torch.backends.cudnn.allow_tf32 = False
    try:
        net, plain = network().cuda(), fused()
        for seed in range(10):
            x = frames(1 + seed % 3, seed)
            pairs = ragged(len(x), seed)
            device = x.cuda()
            explain(net, device, list(zip(*pairs, strict=True)))
            torch.cuda.set_sync_debug_mode("error")
            try:
                maps = explain(net, device, list(zip(*pairs, strict=True)), check=False)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            torch.testing.assert_close(maps.cpu(), plain.relevance(x, *pairs), rtol=1e-3, atol=1e-5)
        assert counts_of(net).recorded > 0
    finally:
        torch.backends.cudnn.allow_tf32 = True


@pytest.mark.gpu
def test_a_recording_can_be_made_of_a_batch_with_a_stop() -> None:
    net = network().cuda()
    example = example_input(net, SHAPE)
    engine = FusedEngine(fold_batchnorm(net, example), example, LRP_PRESETS["au_specific"])
    batch = GraphBatch(engine, 2, 4, engine.end(5), Recorder(engine.device))
    batch.x.copy_(frames(2))
    batch.frames.copy_(torch.tensor([0, 1, 1, 0]))
    batch.outputs.copy_(torch.tensor([0, 1, 2, 3]))
    expected = fused("au_specific").relevance(frames(2), [0, 1, 1, 0], [0, 1, 2, 3], 5)
    torch.testing.assert_close(batch.run().cpu(), expected, rtol=1e-2, atol=1e-4)
