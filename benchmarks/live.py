"""Does the live path keep up, and what happens when it cannot?

The embedded clip goes through capture thread, pipeline and hub with policy ``latest``, at its own
pace and at several times that pace, where frames must be dropped. Printed per run: frames per
second in and analysed, drops by cause (every frame is accounted for), latency from capture to emit,
the mean time of each step, and the growth of memory between the first and the last third. A
subscriber that wants everything is simulated, so pictures and heat are encoded.

    python benchmarks/live.py [--source SPEC] [--speeds 1 2 4] [--threads N] [--json FILE]
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import os
import platform
from pathlib import Path

import torch
from facestage.core.analyzer import Analyzer
from facestage.core.network.au_network import AUNetwork
from facestage.stream.compute import limit_blas
from facestage.stream.detectors import make_detector
from facestage.stream.live.pipeline import Pipeline
from facestage.stream.protocol import StreamInfo
from facestage.stream.server.hub import PICTURE, Hub
from facestage.stream.sources import Grab, Source, open_source


class Faster(Source):
    """A clip played at a multiple of its pace, by squeezing its time line."""

    def __init__(self, spec: str, speed: float) -> None:
        self._source = open_source(spec, realtime=True)
        self._speed = speed
        info = self._source.info
        self.name, self.kind, self.live, self.endless = info.name, info.kind, True, False
        self.fps = None if info.fps is None else info.fps * speed
        self.frame_count, self.size = info.frame_count, info.size

    def read(self) -> Grab | None:
        self._source.late = self.late
        grab = self._source.read()
        if grab is None:
            return None
        return grab.at(grab.index, None if grab.pts is None else grab.pts / self._speed)

    def close(self) -> None:
        self._source.close()


def resident_mb() -> float:
    """Return the resident memory of this process, MB (0 where the system does not tell)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(spec: str, speed: float, network: AUNetwork, detector: str) -> dict[str, object]:
    """Return the figures of one run."""
    hub = Hub([StreamInfo(id="clip", name="clip")])
    hub.set_interest("watcher", ["events", "frame", "heat", "stats", PICTURE], None)
    memory: list[float] = []
    analyzer = Analyzer(make_detector(detector), network)
    pipeline = Pipeline(
        analyzer,
        hub,
        on_result=lambda _, result: memory.append(resident_mb()),
    )
    analyzer.warm_up()
    stream = pipeline.add("clip", lambda: Faster(spec, speed), policy="latest")
    pipeline.open()
    summary = pipeline.run()
    grabbed = stream.capture.frames_in
    third = max(1, len(memory) // 3)
    return {
        "speed": speed,
        "fps_in": round((grabbed - 1) / max(summary.seconds, 1e-9), 1),
        "fps_analysed": round(summary.fps or 0.0, 1),
        "grabbed": grabbed,
        "analysed": summary.frames,
        "drops": summary.drops,
        "accounted_for": grabbed == summary.frames + sum(summary.drops.values()),
        "latency_p50_ms": round(summary.latency_p50_ms or 0.0, 1),
        "latency_p99_ms": round(summary.latency_p99_ms or 0.0, 1),
        "steps_ms": {step: round(ms, 1) for step, ms in summary.steps_ms.items()},
        "memory_growth_mb": round(sum(memory[-third:]) / third - sum(memory[:third]) / third, 1),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", default="demo:")
    parser.add_argument("--speeds", type=float, nargs="+", default=[1.0, 2.0, 4.0])
    parser.add_argument("--detector", default="ours")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    limit_blas(1)  # as the command does
    network = AUNetwork.load(device=args.device)
    rows = []
    for speed in args.speeds:
        row = run(args.source, speed, network, args.detector)
        rows.append(row)
        print(
            f"{speed:g}x: {row['fps_in']} frames/s in, {row['fps_analysed']} analysed, "
            f"drops {row['drops']}, latency p50 {row['latency_p50_ms']} / p99 "
            f"{row['latency_p99_ms']} ms, steps {row['steps_ms']}, memory "
            f"{row['memory_growth_mb']:+} MB"
        )
    result = {
        "model": f"{network.card.name} {network.card.version}",
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "torch_threads": torch.get_num_threads(),
            "device": str(network.device),
        },
        "source": args.source,
        "detector": args.detector,
        "runs": rows,
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
