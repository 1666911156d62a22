"""Closed loop: the next round of frames begins when the last one is done."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ...core import lrp
from ...core.analyzer import Analyzer
from ...core.network.au_network import AUNetwork
from ...core.steps import STEPS, StepWatch, step, watching
from ...core.types import Frame, FrameResult
from ..live import publish
from ..step_clock import Ranges, StepClock
from .figures import Closed, Offline, Peer, Roofline, Spread, StepSamples
from .gpu_steps import GpuSteps, cuda_events
from .machine import peak_memory_mb

__all__ = [
    "Clocks",
    "Round",
    "compare_engines",
    "measure",
    "measure_roofline",
    "run_closed",
    "run_offline",
]

LEAST_ROUNDS = 3
"""Rounds that are made however little time there is."""
OFFLINE_BATCH = 16
"""Frames that are analysed together offline: as in the figures that py-feat publishes."""

Round = Callable[[], Sequence[int]]
"""Makes a round; returns how many AUs each of its frames had explained."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Clocks, seconds: ``wall``, and what this thread computed."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.thread_time


def turns(seconds: float, wall: Callable[[], float]) -> Iterator[int]:
    """Count rounds until the time is over; at least :data:`LEAST_ROUNDS`."""
    start, turn = wall(), 0
    while turn < LEAST_ROUNDS or wall() - start < seconds:
        yield turn
        turn += 1


def measure(
    make_round: Round,
    cameras: int,
    seconds: float,
    *,
    clocks: Clocks = Clocks(),
    on_gpu: bool = False,
) -> Closed:
    """Make rounds for some time; the first is told apart.

    Args:
        make_round: reads, analyses and encodes the frames of a round.
        cameras: frames of a round.
        seconds: for how long.
        clocks: what time is read from.
        on_gpu: whether the steps of the device run on a GPU.
    """
    host = StepClock(clocks.wall, clocks.cpu, _ranges() if on_gpu else None)
    events = cuda_events() if on_gpu else None
    gpu = None if events is None else GpuSteps(host, events)
    watch: StepWatch = host if gpu is None else gpu
    samples, active = StepSamples(), []
    wall_ms: list[float] = []
    cpu_ms: list[float] = []
    for turn in turns(seconds, clocks.wall):
        wall, cpu = clocks.wall(), clocks.cpu()
        with watching(watch):
            explained = make_round()
        wall_ms.append(1e3 * (clocks.wall() - wall))
        cpu_ms.append(1e3 * (clocks.cpu() - cpu))
        taken = host.take()
        if turn:
            samples.add(taken)
            active += explained
    spread, cpu_spread = Spread.of(wall_ms[1:]), Spread.of(cpu_ms[1:])
    assert spread is not None  # there are several rounds
    assert cpu_spread is not None
    return Closed(
        cameras=cameras,
        rounds=len(wall_ms) - 1,
        first_ms=round(wall_ms[0], 3),
        round=spread,
        round_cpu=cpu_spread,
        frame_ms=round(spread.mean / cameras, 4),
        frames_per_s=round(1e3 * cameras / max(spread.mean, 1e-6), 2),
        active_per_frame=round(statistics.fmean(active), 3) if active else 0.0,
        steps=samples.figures(STEPS, None if gpu is None else gpu.ms),
    )


def _ranges() -> Ranges:
    """Return the ranges that NVIDIA's profilers show."""
    return torch.cuda.nvtx


def run_closed(
    analyzer: Analyzer, read: Sequence[Callable[[], Frame]], seconds: float, *, video: bool
) -> Closed:
    """Measure rounds of one frame of each camera: read, analysed, encoded for a page.

    Args:
        analyzer: warmed up.
        read: one per camera.
        seconds: for how long.
        video: whether the picture is encoded, too.
    """

    def make_round() -> list[int]:
        frames = []
        for camera in read:
            with step("capture"):
                frames.append(camera())
        results = analyzer.update(frames)
        _encode(results, analyzer.config.explain.top_x, video=video)
        return [len(result.maps) for result in results]

    return measure(make_round, len(read), seconds, on_gpu=analyzer.network.device.type == "cuda")


def _encode(results: Sequence[FrameResult], top_x: float, *, video: bool) -> None:
    """Make what a page is sent of each frame."""
    with step("heat"):
        publish.heat_messages(results, top_x)
    if video:
        for number, result in enumerate(results):
            with step("picture"):
                publish.encode_picture(result.frame, number)


def run_offline(analyzer: Analyzer, read: Callable[[], Frame], seconds: float) -> Offline:
    """Measure a recording in large batches, as fast as it goes."""
    device = analyzer.network.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    frames = maps = 0
    start = end = time.perf_counter()
    while end - start < seconds or not frames:
        results = analyzer.update([read() for _ in range(OFFLINE_BATCH)])
        frames += len(results)
        maps += sum(len(result.maps) for result in results)
        end = time.perf_counter()
    taken = max(end - start, 1e-9)
    return Offline(
        batch=OFFLINE_BATCH,
        frames=frames,
        maps=maps,
        seconds=round(taken, 3),
        frames_per_s=round(frames / taken, 2),
        maps_per_s=round(maps / taken, 2),
        peak_memory_mb=round(peak_memory_mb(), 1),
        peak_gpu_mb=round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
        if device.type == "cuda"
        else None,
    )


def measure_roofline(network: AUNetwork, seconds: float, gemm_gflops: float) -> Roofline:
    """Compare the network's way forward, one crop at a time, with what the machine can do.

    Args:
        network: on any device.
        seconds: for how long.
        gemm_gflops: what the machine can do, 10⁹ operations per second.
    """
    size = network.card.input_size
    x = network.prepare(np.zeros((1, size, size), np.uint8))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.logits_module(x.clone())
    taken = []
    for _ in turns(seconds, time.perf_counter):
        start = time.perf_counter()
        network.predict_prepared(x)  # which waits for the device
        taken.append(time.perf_counter() - start)
    gflop, median_s = 1e-9 * counter.get_total_flops(), statistics.median(taken[1:])
    return Roofline(
        forward_gflop=round(gflop, 5),
        forward_ms=round(1e3 * median_s, 4),
        forward_gflops=round(gflop / median_s, 2),
        of_gemm=round(gflop / median_s / gemm_gflops, 4),
    )


def compare_engines(
    network: AUNetwork, crop: torch.Tensor, pairs: int, seconds: float, preset: str
) -> Peer:
    """Explain a frame with the fast engine and with zennit's rules, in turn.

    Args:
        network: on any device.
        crop: ``(1, 1, S, S)`` float32 on it.
        pairs: how many of its outputs.
        seconds: for how long.
        preset: LRP preset.
    """
    wanted = [(0, output) for output in range(min(pairs, len(network.card.aus)))]
    taken: dict[str, list[float]] = {"auto": [], "reference": []}
    maps: dict[str, torch.Tensor] = {}
    for _ in turns(seconds, time.perf_counter):
        for engine, times in taken.items():
            start = time.perf_counter()
            maps[engine] = lrp.explain(
                network.logits_module, crop, wanted, preset=preset, engine=engine
            ).cpu()
            times.append(1e3 * (time.perf_counter() - start))
    ours, peer = (statistics.median(times[1:]) for times in taken.values())
    flat = [one.reshape(len(wanted), -1).double() for one in maps.values()]
    cosines = torch.nn.functional.cosine_similarity(flat[0], flat[1])
    return Peer(
        pairs=len(wanted),
        ours_ms=round(ours, 4),
        peer_ms=round(peer, 4),
        ratio=round(peer / ours, 3),
        cosine=round(float(cosines.min()), 6),
    )
