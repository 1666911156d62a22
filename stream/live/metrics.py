"""Counts and latencies of a running pipeline: cheap to record, bounded, and said at the end."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.steps import STEPS
from ..step_clock import StepTimes

__all__ = ["COUNTERS", "LatencyHistogram", "Metrics", "Summary"]

RATE_WINDOW_S = 3.0
"""Frame rates are counted over this long, seconds: shorter jumps, longer lags."""

COUNTERS = (
    "frames_explained",
    "pairs_explained",
    "engine_fallbacks",
    "batches_halved",
    "batches_eager",
)
"""Counters that exist from the start: frames with a relevance map, (frame, AU) pairs explained,
times a network went to the slow LRP engine because the fused one has no rule for it, batches
halved because memory was short, and batches that a GPU ran operation by operation because their
shape was not recorded yet."""

RECENT_FRAMES = 256
"""Live latency percentiles are those of this many last frames."""

# Buckets from 0.1 ms to 100 s, 1.5 % wide: percentiles over days of frames in a few kB.
_EDGES_MS = np.geomspace(0.1, 1e5, 930)


class LatencyHistogram:
    """Percentiles of any number of latencies to within 1.5 %, in constant memory."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_EDGES_MS) + 1, np.int64)
        self.sum_ms = 0.0

    def add(self, milliseconds: float) -> None:
        """Record one latency, milliseconds."""
        self._counts[int(np.searchsorted(_EDGES_MS, milliseconds))] += 1
        self.sum_ms += milliseconds

    def below(self, milliseconds: float) -> int:
        """Return how many are at most so large, to within the width of a bucket."""
        return int(self._counts[: int(np.searchsorted(_EDGES_MS, milliseconds)) + 1].sum())

    def percentile(self, share: float) -> float | None:
        """Return the latency that ``share`` (0–1) of all stay below, milliseconds; None if none."""
        total = int(self._counts.sum())
        if total == 0:
            return None
        rank = max(1, int(np.ceil(share * total)))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return float(_EDGES_MS[min(bucket, len(_EDGES_MS) - 1)])


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did.

    Attributes:
        frames: frames analysed. ``drops``: cause → frames lost.
        stages: stages entered.
        latency_p50_ms, latency_p99_ms: capture → emit; None without a frame.
        seconds: from the first to the last analysed frame, on the clock.
        steps_ms: mean time of each step per analysed frame, milliseconds, see
            :data:`~facestage.core.steps.STEPS`; they run in several threads at once.
        counters: counter → total, see :data:`COUNTERS`.
    """

    frames: int
    drops: dict[str, int]
    stages: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    seconds: float
    steps_ms: dict[str, float]
    counters: dict[str, int]

    @property
    def fps(self) -> float | None:
        """Analysed frames per second; None where it cannot be said."""
        return (self.frames - 1) / self.seconds if self.frames > 1 and self.seconds > 0 else None


class Metrics:
    """Everything counted in one pipeline. Safe to read from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latency = LatencyHistogram()
        self._recent: deque[float] = deque(maxlen=RECENT_FRAMES)
        self._analysed: deque[float] = deque()
        self._frames = 0
        self._stages = 0
        self._first_s: float | None = None
        self._last_s = 0.0
        self._steps: dict[str, float] = {}
        self._counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))

    def frame(self, now_s: float, latency_ms: float) -> None:
        """Record an analysed frame: monotonic seconds now, and its capture → emit latency."""
        with self._lock:
            self._frames += 1
            self._latency.add(latency_ms)
            self._recent.append(latency_ms)
            self._analysed.append(now_s)
            while self._analysed[0] < now_s - RATE_WINDOW_S:
                self._analysed.popleft()
            self._first_s = now_s if self._first_s is None else self._first_s
            self._last_s = now_s

    def stage(self) -> None:
        """Record that a stage was entered."""
        with self._lock:
            self._stages += 1

    def count(self, log: Mapping[str, int]) -> None:
        """Add to counters, by name; a name not seen before begins a counter."""
        with self._lock:
            self._counters.update(log)

    @property
    def counters(self) -> dict[str, int]:
        """Counter → total so far; they only ever grow."""
        with self._lock:
            return dict(self._counters)

    def steps(self, times: StepTimes) -> None:
        """Record what steps took, in whichever thread."""
        with self._lock:
            for name, taken in times.items():
                self._steps[name] = self._steps.get(name, 0.0) + taken.wall_s

    @property
    def steps_ms(self) -> dict[str, float]:
        """Mean time of each step per analysed frame so far, milliseconds, in a frame's order."""
        with self._lock:
            return self._steps_ms()

    def _steps_ms(self) -> dict[str, float]:
        frames = max(self._frames, 1)
        return {name: 1e3 * self._steps[name] / frames for name in STEPS if name in self._steps}

    def fps(self, now_s: float) -> float:
        """Return analysed frames per second over the last seconds."""
        with self._lock:
            recent = sum(1 for t in self._analysed if t >= now_s - RATE_WINDOW_S)
            if self._first_s is None:
                return 0.0
            return recent / max(min(RATE_WINDOW_S, now_s - self._first_s), 1e-3)

    def recent_latency_ms(self) -> tuple[float, float] | None:
        """Return median and 99th percentile of the last frames' latencies, milliseconds."""
        with self._lock:
            if not self._recent:
                return None
            p50, p99 = np.percentile(np.fromiter(self._recent, float), (50, 99))
            return float(p50), float(p99)

    def latencies(self, edges_ms: Sequence[float]) -> tuple[int, float, tuple[int, ...]]:
        """Return frames, the sum of their latencies, and how many are at most each of the edges.

        All latencies in milliseconds.
        """
        with self._lock:
            counts = tuple(self._latency.below(edge) for edge in edges_ms)
            return self._frames, self._latency.sum_ms, counts

    @property
    def stages(self) -> int:
        """Stages entered so far."""
        with self._lock:
            return self._stages

    def summary(self, drops: dict[str, int]) -> Summary:
        """Return the whole run in figures."""
        with self._lock:
            return Summary(
                frames=self._frames,
                drops={cause: n for cause, n in sorted(drops.items()) if n},
                stages=self._stages,
                latency_p50_ms=self._latency.percentile(0.5),
                latency_p99_ms=self._latency.percentile(0.99),
                seconds=0.0 if self._first_s is None else self._last_s - self._first_s,
                steps_ms=self._steps_ms(),
                counters=dict(self._counters),
            )
