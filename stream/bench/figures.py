"""What is measured, as data: the JSON of ``facestage bench``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from ..step_clock import StepTimes

__all__ = [
    "SCENARIOS",
    "SCHEMA",
    "Closed",
    "Environment",
    "MachineSpeed",
    "Offline",
    "Paced",
    "Peer",
    "Report",
    "Results",
    "Roofline",
    "Spread",
    "StepFigures",
    "StepSamples",
    "Verdict",
    "Workload",
    "json_schema",
]

SCHEMA = "facestage/bench/1"
"""Name and version of the JSON."""
SCENARIOS = ("single", "multi", "paced", "offline")
"""What can be measured, in the order in which it is."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How a time is spread, milliseconds.

    Attributes:
        n: how many times there are.
        mean, p50, p90, p99, p999, max: mean, percentiles and the longest; ``p999`` is the 99.9th.
            A percentile is a time that occurred: the least that so large a share does not exceed.
    """

    n: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> Spread | None:
        """Return the spread of some times; None where there is none."""
        values = np.sort(np.fromiter(milliseconds, float))
        if not len(values):
            return None

        def at(per_mille: int) -> float:
            rank = -(-per_mille * len(values) // 1000)  # rounded up, without floating point
            return round(float(values[max(rank, 1) - 1]), 4)

        return cls(
            n=len(values),
            mean=round(float(values.mean()), 4),
            p50=at(500),
            p90=at(900),
            p99=at(990),
            p999=at(999),
            max=at(1000),
        )


class StepFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a step takes.

    Attributes:
        wall: by the clock on the wall, in each round in which it ran (``capture`` and ``decode`` of
            ``paced``: for each picture; ``send``: for each message).
        cpu: in which its thread computed.
        gpu: on the GPU, by its events; None on a CPU.
    """

    wall: Spread
    cpu: Spread
    gpu: Spread | None = None


class StepSamples:
    """Collect what steps took."""

    def __init__(self) -> None:
        self._wall: dict[str, list[float]] = {}
        self._cpu: dict[str, list[float]] = {}

    def add(self, times: StepTimes) -> None:
        """Note the steps of a round, a picture or a message; from any thread."""
        for name, taken in times.items():
            # Appending is safe between threads, and so is setdefault.
            self._wall.setdefault(name, []).append(1e3 * taken.wall_s)
            self._cpu.setdefault(name, []).append(1e3 * taken.cpu_s)

    def figures(
        self, order: Iterable[str], gpu_ms: Mapping[str, list[float]] | None = None
    ) -> dict[str, StepFigures]:
        """Return what each step took, in this order; ``gpu_ms``: what of it a GPU took."""
        found: dict[str, StepFigures] = {}
        for name in order:
            wall, cpu = Spread.of(self._wall.get(name, ())), Spread.of(self._cpu.get(name, ()))
            if wall is not None and cpu is not None:
                gpu = Spread.of((gpu_ms or {}).get(name, ()))
                found[name] = StepFigures(wall=wall, cpu=cpu, gpu=gpu)
        return found


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """Closed loop: the next round begins when the last is done.

    Attributes:
        cameras: frames of a round, one of each source.
        rounds: how many, the first left out.
        first_ms: the first round alone, milliseconds.
        round: a whole round; ``round_cpu``: in which its thread computed.
        frame_ms: mean per frame, milliseconds; ``frames_per_s``: 1000 ÷ that.
        active_per_frame: mean number of AUs explained in a frame.
        steps: step → what it takes per round.
    """

    cameras: int
    rounds: int
    first_ms: float
    round: Spread
    round_cpu: Spread
    frame_ms: float
    frames_per_s: float
    active_per_frame: float
    steps: dict[str, StepFigures]


class Paced(msgspec.Struct, frozen=True, kw_only=True):
    """Open loop: frames come when they are scheduled, whether or not the last is done.

    Attributes:
        cameras, fps, seconds: load.
        scheduled, analysed: frames of all cameras.
        analysed_per_s: analysed frames per second and camera.
        capture_to_emit: from the scheduled arrival of a frame until what it shows, or what a later
            one of its camera shows, is published. Frames that were dropped count, too.
        capture_to_client: the same until a websocket client has it.
        stage_age: age of the frame whose stage is shown, at any moment.
        missed_33ms, missed_67ms, missed_100ms: share of the scheduled frames whose
            ``capture_to_emit`` is longer, 0–1.
        drops: cause → frames lost; ``drop_share``: all of them of those scheduled, 0–1.
        cpu_s_per_camera_s: seconds of computing per second and camera, both clients left out.
        steps: step → what it takes.
    """

    cameras: int
    fps: float
    seconds: float
    scheduled: int
    analysed: int
    analysed_per_s: float
    capture_to_emit: Spread | None
    capture_to_client: Spread | None
    stage_age: Spread | None
    missed_33ms: float
    missed_67ms: float
    missed_100ms: float
    drops: dict[str, int]
    drop_share: float
    cpu_s_per_camera_s: float
    steps: dict[str, StepFigures]


class Offline(msgspec.Struct, frozen=True, kw_only=True):
    """A recording, as fast as it goes, in large batches.

    Attributes:
        batch: frames analysed together.
        frames, maps, seconds: what was done in which time.
        frames_per_s, maps_per_s: both per second.
        peak_memory_mb: the most memory the process had so far; ``peak_gpu_mb``: of the GPU, in this
            scenario; None on a CPU.
    """

    batch: int
    frames: int
    maps: int
    seconds: float
    frames_per_s: float
    maps_per_s: float
    peak_memory_mb: float
    peak_gpu_mb: float | None = None


class Roofline(msgspec.Struct, frozen=True, kw_only=True):
    """What the network's way forward makes of the machine, one crop at a time.

    Attributes:
        forward_gflop: operations of products and convolutions, 10⁹.
        forward_ms: median, milliseconds; ``forward_gflops``: 10⁹ operations per second.
        of_gemm: share of ``before.gemm_gflops``, 0–1.
    """

    forward_gflop: float
    forward_ms: float
    forward_gflops: float
    of_gemm: float


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Relevance maps of one frame by another engine, both timed in turn.

    Attributes:
        pairs: maps of the frame.
        ours_ms, peer_ms: medians.
        ratio: how many times as long the other takes.
        cosine: least cosine between two maps of the same pair.
    """

    pairs: int
    ours_ms: float
    peer_ms: float
    ratio: float
    cosine: float


class Results(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was measured; what was not is left out. Keys of ``multi`` and ``paced``: cameras."""

    single: Closed | None = None
    multi: dict[str, Closed] = {}
    paced: dict[str, Paced] = {}
    offline: Offline | None = None


class MachineSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the machine is by itself.

    Attributes:
        gemm_gflops: products of float32 matrices on the network's device, with its threads,
            10⁹ operations per second.
        copy_gb_per_s: bytes copied in main memory, read and written once, 10⁹ per second.
        load: processes that want a core, by the system's mean of a minute; None if it tells none.
    """

    gemm_gflops: float
    copy_gb_per_s: float
    load: float | None = None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What the figures were measured on and with. Versions and names are None where there is none.

    Attributes:
        cores, affinity: of the machine, and those that this process may use.
        variables: of the environment, of OpenMP, MKL, OpenBLAS and CUDA.
        precision: of the LRP engine's way back.
        tf32: whether torch may round products of float32 outside of our passes.
    """

    facestage: str
    model: str
    device: str
    detector: str
    precision: str
    python: str
    system: str
    cpu: str
    cpu_flags: tuple[str, ...]
    cores: int
    affinity: int
    torch_threads: int
    variables: dict[str, str]
    torch: str
    numpy: str
    opencv: str
    cuda: str | None = None
    cudnn: int | None = None
    cupy: str | None = None
    gpu: str | None = None
    driver: str | None = None
    tf32: bool = False


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; names as of the options."""

    scenarios: tuple[str, ...]
    sources: tuple[str, ...]
    cameras: tuple[int, ...]
    fps: float
    jitter: float
    seconds: float
    active: str
    window_device: str
    video: bool
    budget_s: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A limit of ``--fail-over`` and how it went; ``value`` is None if it was not measured."""

    limit: str
    value: float | None
    holds: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run of ``facestage bench``.

    Attributes:
        schema: :data:`SCHEMA`.
        environment, workload: on what, and what.
        before, after: how fast the machine was before and after.
        valid: false if the machine lost more than :data:`~.machine.MOST_LOST` meanwhile: the
            figures then say more about what else ran.
        results: what was measured.
        roofline: what the network makes of the machine. ``peers``: other engines, by name.
        cut: what the budget had no time for.
        limits: of ``--fail-over``.
    """

    schema: str
    environment: Environment
    workload: Workload
    before: MachineSpeed
    after: MachineSpeed
    valid: bool
    results: Results
    roofline: Roofline | None = None
    peers: dict[str, Peer] = {}
    cut: tuple[str, ...] = ()
    limits: tuple[Verdict, ...] = ()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of :class:`Report`."""
    schema = msgspec.json.schema(Report)
    schema["$id"] = SCHEMA
    return schema
