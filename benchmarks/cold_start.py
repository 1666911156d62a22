"""What does the first explained face wait for? Measured in processes that have done nothing yet.

Each process imports what ``facestage live`` runs, loads the embedded network, prepares LRP for it,
explains one frame with 4 outputs and goes on to steady state. On a GPU it also records the batches
of a live frame. ``facestage`` does all of it before the first frame (``warm_up``). Steps in CPU
time of one thread (on a GPU in elapsed time), medians over the processes, and as multiples of a
steady pass:

- ``torch``: torch imported;
- ``import``: everything else that ``live`` imports;
- ``load``: weights read, checked and folded;
- ``prepare``: the network lowered to LRP steps, weights laid out;
- ``first``: the first pass, which makes what libraries make once;
- ``record``: CUDA graphs of one frame with 1 to 12 outputs (nothing on a CPU);
- ``steady``: the median of the passes after 10.

    python benchmarks/cold_start.py [--device cpu] [--processes 7] [--preset …] [--out FILE]
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

OUTPUTS = 4
STEPS = ("torch", "import", "load", "prepare", "first", "record", "steady")


def once(device: str, preset: str, answer: Any) -> None:
    """Start anew; send the seconds of each step."""
    seconds: dict[str, float] = {}
    began = time.thread_time()
    import torch

    seconds["torch"] = time.thread_time() - began
    began = time.thread_time()
    importlib.import_module("facestage.stream.commands.live")
    seconds["import"] = time.thread_time() - began
    from facestage.core import lrp
    from facestage.core.network.au_network import AUNetwork

    torch.set_num_threads(1)

    def clock() -> float:
        if device == "cpu":
            return time.thread_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    if device != "cpu":
        torch.zeros(1, device=device)  # the CUDA context itself is torch's
    began = clock()
    network = AUNetwork.load(device=device)
    net, shape = network.logits_module, (1, *[network.card.input_size] * 2)
    seconds["load"] = clock() - began
    began = clock()
    engine = lrp.engine_of(net, shape, preset)
    seconds["prepare"] = clock() - began
    if engine.name != "fused":
        raise SystemExit(f"the reference engine runs: {engine.reason}")
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    pairs = [(0, output) for output in range(OUTPUTS)]

    def explain() -> float:
        start = clock()
        lrp.explain(net, x, pairs, preset)
        return clock() - start

    seconds["first"] = explain()
    began = clock()
    lrp.record(net, shape, preset, most_pairs=12)
    seconds["record"] = clock() - began
    passes = [explain() for _ in range(60)]
    seconds["steady"] = statistics.median(passes[10:])
    answer.send((seconds, torch.__version__, lrp.counts_of(net).recorded))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=7)
    parser.add_argument("--preset", default="innvestigate_a_flat")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    taken: list[dict[str, float]] = []
    load, torch_version, recorded = os.getloadavg()[0], "", 0
    for _ in range(options.processes):
        receive, send = context.Pipe(duplex=False)
        child = context.Process(target=once, args=(options.device, options.preset, send))
        child.start()
        send.close()
        try:
            seconds, torch_version, recorded = receive.recv()
        except EOFError:
            raise SystemExit("a process ended early; what it said stands above") from None
        child.join()
        taken.append(seconds)
    median = {step: statistics.median(process[step] for process in taken) for step in STEPS}
    passes = {step: round(median[step] / median["steady"], 1) for step in STEPS}
    print("| step | ms | steady passes |\n|---|---|---|")
    for step in STEPS:
        print(f"| {step} | {1e3 * median[step]:.1f} | {passes[step]} |")
    if options.out:
        facts = {
            "device": options.device,
            "preset": options.preset,
            "processor": platform.processor() or platform.machine(),
            "torch": torch_version,
            "processes": options.processes,
            "load": load,
            "recorded": recorded,
            "ms": {step: round(1e3 * median[step], 2) for step in STEPS},
            "steady_passes": passes,
        }
        options.out.write_text(
            json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
