"""Counts and latencies as Prometheus reads them, over HTTP."""

from __future__ import annotations

import asyncio
import http.client
from types import SimpleNamespace
from typing import Any

import pytest
from facestage.stream.bridges.prometheus import BUCKETS_S
from facestage.stream.commands.bridges import metrics_page
from facestage.stream.live.metrics import Metrics

from tests.support.wire import HELLO, make_hub, run, serving


def page() -> Any:
    metrics = Metrics()
    for n, latency_ms in enumerate((8.0, 15.0, 15.0, 40.0, 9000.0)):
        metrics.frame(n / 30, latency_ms)
    metrics.stage()
    metrics.count({"pairs_explained": 7})
    capture = SimpleNamespace(frames_in=9, drops={"late": 3})
    streams = [SimpleNamespace(id='a"b', state="live", capture=capture)]
    pipeline: Any = SimpleNamespace(metrics=metrics, streams=streams)
    return metrics_page(pipeline, make_hub(), HELLO)


def test_a_parser_of_prometheus_reads_every_figure() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus-client")
    kind, text = page()()
    assert kind.startswith("text/plain")
    told = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    assert told["facestage_frames_grabbed_total",] == 9
    assert told["facestage_frames_analysed_total",] == 5
    assert told["facestage_stages_total",] == 1
    assert told["facestage_pairs_explained_total",] == 7
    assert told["facestage_frames_dropped_total", ("cause", "late")] == 3
    assert told["facestage_source_live", ("source", 'a"b')] == 1
    assert told["facestage_latency_seconds_count",] == 5
    assert told["facestage_latency_seconds_sum",] == pytest.approx(9.078)
    buckets = [told["facestage_latency_seconds_bucket", ("le", f"{edge}")] for edge in BUCKETS_S]
    assert buckets == [1, 3, 3, 4, 4, 4, 4, 4, 4, 4]
    assert told["facestage_latency_seconds_bucket", ("le", "+Inf")] == 5
    info = next(key for key in told if key[0] == "facestage_info")
    assert ("model", "m") in info


def test_the_server_tells_it_by_names_of_this_machine_only() -> None:
    pytest.importorskip("prometheus_client", reason="needs prometheus-client")

    def ask(port: int, host: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()

    async def test() -> None:
        server = serving(make_hub())
        async with server:
            assert (await asyncio.to_thread(ask, server.port, "localhost"))[0] == 404
            server.readings["/metrics"] = page()
            status, text = await asyncio.to_thread(ask, server.port, "localhost")
            assert status == 200
            assert b"# HELP facestage_latency_seconds From the grab" in text
            status, _ = await asyncio.to_thread(ask, server.port, "foreign.example")
            assert status == 421

    run(test)
