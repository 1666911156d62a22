"""``--metrics`` and ``--lsl``: a live run for Prometheus and for the Lab Streaming Layer."""

from __future__ import annotations

from collections.abc import Callable

from ...core.analyzer import Analyzer
from ...core.types import FrameResult
from ..bridges.lsl import LslOutlets
from ..bridges.prometheus import BUCKETS_S, Readings, exposition
from ..live.pipeline import Pipeline, Stream
from ..protocol.messages import Hello
from ..server.hub import Hub
from .signatures import WatchOptions

__all__ = ["lsl_push", "metrics_page"]

EXPECTED_FPS = 30.0
"""Frames per second that LSL is told to expect; each sample has its own time all the same."""


def lsl_push(
    options: WatchOptions, hub: Hub, analyzer: Analyzer
) -> Callable[[Stream, FrameResult], None] | None:
    """Return what is to be told of every result; None without ``--lsl``.

    Raises:
        ConfigError: pylsl is not installed.
    """
    if not options.lsl:
        return None
    streams = [stream.id for stream in hub.streams]
    aus = analyzer.network.card.aus
    outlets = LslOutlets(streams, analyzer.shown, aus, fps=EXPECTED_FPS)
    return lambda stream, result: outlets.push(stream.id, result)


def metrics_page(pipeline: Pipeline, hub: Hub, hello: Hello) -> Callable[[], tuple[str, bytes]]:
    """Return what answers ``/metrics``.

    Raises:
        ConfigError: prometheus-client is not installed.
    """

    def read() -> Readings:
        metrics = pipeline.metrics
        frames, sum_ms, below = metrics.latencies([1000 * edge for edge in BUCKETS_S])
        drops: dict[str, int] = {}
        for stream in pipeline.streams:
            for cause, count in stream.capture.drops.items():
                drops[cause] = drops.get(cause, 0) + count
        return Readings(
            frames=frames,
            stages=metrics.stages,
            grabbed=sum(stream.capture.frames_in for stream in pipeline.streams),
            drops=drops,
            counters=metrics.counters,
            latency_below=below,
            latency_sum_s=sum_ms / 1000,
            clients=hub.clients,
            sources={stream.id: stream.state == "live" for stream in pipeline.streams},
            info={"version": hello.server, "model": hello.model, "device": hello.device},
        )

    return exposition(read)
