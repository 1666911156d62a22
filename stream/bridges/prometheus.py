"""What a live run counts, in the text that Prometheus reads; extra ``metrics``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ...core.errors import ConfigError

__all__ = ["BUCKETS_S", "Readings", "exposition"]

BUCKETS_S = (0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper ends of the latency buckets, seconds; .033 is a frame at 30 per second."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What is told, at one moment.

    Attributes:
        frames: frames analysed; stages: stages entered.
        grabbed: frames grabbed.
        drops: cause → frames lost.
        counters: further counters, see the docs of the protocol.
        latency_below: analysed frames whose latency is at most each of :data:`BUCKETS_S`.
        latency_sum_s: of all of them, seconds.
        clients: connected now.
        sources: source → whether it is live now.
        info: of the build: version, model, device.
    """

    frames: int
    stages: int
    grabbed: int
    drops: dict[str, int]
    counters: dict[str, int]
    latency_below: tuple[int, ...]
    latency_sum_s: float
    clients: int
    sources: dict[str, bool]
    info: dict[str, str]


def exposition(read: Callable[[], Readings]) -> Callable[[], tuple[str, bytes]]:
    """Return what makes the content type and the text of ``/metrics``.

    Args:
        read: takes the readings, each time it is asked.

    Raises:
        ConfigError: prometheus-client is not installed.
    """
    try:
        from prometheus_client import (  # pyright: ignore[reportMissingImports]
            CollectorRegistry,
        )
        from prometheus_client import (
            exposition as formats,
        )
    except ImportError as error:
        raise ConfigError(
            "--metrics needs the package prometheus-client; install it with: "
            "pip install 'facestage[metrics]'"
        ) from error

    class Collector:
        def collect(self) -> Iterator[Any]:
            return _families(read())

    registry = CollectorRegistry()
    registry.register(Collector())

    def page() -> tuple[str, bytes]:
        return formats.CONTENT_TYPE_LATEST, formats.generate_latest(registry)

    return page


def _families(now: Readings) -> Iterator[Any]:
    from prometheus_client.core import (  # pyright: ignore[reportMissingImports]
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )

    yield InfoMetricFamily("facestage", "What runs.", value=now.info)
    yield CounterMetricFamily("facestage_frames_grabbed", "Frames grabbed.", value=now.grabbed)
    yield CounterMetricFamily("facestage_frames_analysed", "Frames analysed.", value=now.frames)
    yield CounterMetricFamily("facestage_stages", "Stages entered.", value=now.stages)
    dropped = CounterMetricFamily(
        "facestage_frames_dropped", "Frames lost, by cause.", labels=["cause"]
    )
    for cause, count in sorted(now.drops.items()):
        dropped.add_metric([cause], count)
    yield dropped
    for name, count in sorted(now.counters.items()):
        yield CounterMetricFamily(f"facestage_{name}", "See docs/protocol.md.", value=count)
    edges = [*map(str, BUCKETS_S), "+Inf"]
    yield HistogramMetricFamily(
        "facestage_latency_seconds",
        "From the grab of a frame to its message.",
        buckets=list(zip(edges, [*now.latency_below, now.frames], strict=True)),
        sum_value=now.latency_sum_s,
    )
    yield GaugeMetricFamily("facestage_clients", "Clients connected.", value=now.clients)
    live = GaugeMetricFamily(
        "facestage_source_live", "1 while a source gives pictures, else 0.", labels=["source"]
    )
    for source, is_live in sorted(now.sources.items()):
        live.add_metric([source], float(is_live))
    yield live
