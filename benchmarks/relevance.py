"""What do descriptors, projections and pictures cost, measured by the LRP pass they follow?

The embedded network explains P pairs of frames of the demo clip; each product of the P maps is
then timed against that pass:

- ``describe``: descriptors, made of every map of every frame;
- ``cells``: the 48×48 Top-X masks of the page, made where anybody watches. These two are what a
  live frame costs;
- ``top_x``: the pixel-exact projection; ``heatmap``: blue-white-red; ``composite``: all projections
  of a frame over its face, with contours, at the size of the maps. These go into files.

All take turns, the pass among them, so that a busy machine is unfair to none; medians of CPU time
are compared (of elapsed time on a GPU). ``one by one`` is the same product called once per map.

    python benchmarks/relevance.py [--pairs 1 4 12 48] [--device cpu] [--rounds 31] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_faces import faces
from facestage.core import lrp, relevance
from facestage.core.network import AUNetwork
from facestage.core.render.layers import compose, layers
from facestage.core.render.pictures import au_colour
from facestage.core.render.projections import heatmap
from facestage.stream.publish import MASK_SIDE
from numpy.typing import NDArray

EVERY_FRAME = ("describe", "cells")
BUDGET = 0.05
"""Most that the products of a live frame may cost, as a share of the LRP pass."""
AUS_AT_ONCE = 12


def products(
    maps: torch.Tensor, crops: NDArray[np.uint8], aus: list[int]
) -> dict[str, Callable[[slice], object]]:
    """Return what is measured: name → a call for some of the maps."""
    colours = [au_colour(au) for au in aus]
    side, per_frame = maps.shape[1], len(maps) // len(crops)

    def composite(part: slice) -> object:
        rows = range(len(maps))[part]
        made = layers(maps[part], [colours[n] for n in rows], side)
        frames = {
            n // per_frame: [m - rows[0] for m in rows if m // per_frame == n // per_frame]
            for n in rows
        }
        return [
            compose(crops[f], [made[n] for n in numbers], side) for f, numbers in frames.items()
        ]

    return {
        "describe": lambda part: relevance.describe(maps[part]),
        "cells": lambda part: relevance.cells(maps[part], MASK_SIDE),
        "top_x": lambda part: relevance.top_x(maps[part]),
        "heatmap": lambda part: heatmap(maps[part]),
        "composite": composite,
    }


def measure(
    network: AUNetwork, crops: NDArray[np.uint8], pairs: int, rounds: int
) -> dict[str, Any]:
    """Return the figures for P pairs."""
    per_frame = min(pairs, AUS_AT_ONCE)
    crops = crops[: pairs // per_frame]
    wanted = [(frame, au) for frame in range(len(crops)) for au in range(per_frame)]
    inputs = network.prepare(crops)

    def explain() -> torch.Tensor:
        return lrp.explain(network.logits_module, inputs, wanted)

    maps = explain()
    made = products(maps, crops, [network.card.aus[au] for _, au in wanted])
    whole = slice(0, len(maps))
    calls: dict[tuple[str, str], Callable[[], object]] = {("lrp", "all"): explain}
    for name, call in made.items():
        calls[name, "all"] = lambda call=call: call(whole)
        calls[name, "one by one"] = lambda call=call: [
            call(slice(n, n + 1)) for n in range(len(maps))
        ]
    on_gpu = network.device.type != "cpu"

    def clock() -> float:
        if on_gpu:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.thread_time()

    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for round_ in range(rounds + 2):
        for key, call in calls.items():
            start = clock()
            call()
            if round_ >= 2:  # the first two prepare
                times[key].append(clock() - start)
    ms = {key: 1e3 * statistics.median(taken) for key, taken in times.items()}
    lrp_ms = ms["lrp", "all"]
    figures = {
        name: {
            "ms": round(ms[name, "all"], 4),
            "share_of_lrp": round(ms[name, "all"] / lrp_ms, 4),
            "one_by_one_ms": round(ms[name, "one by one"], 4),
        }
        for name in made
    }
    live = sum(figures[name]["share_of_lrp"] for name in EVERY_FRAME)
    return {
        "pairs": pairs,
        "frames": len(crops),
        "lrp_ms": round(lrp_ms, 3),
        "products": figures,
        "every_frame_share": round(live, 4),
        "all_share": round(sum(f["share_of_lrp"] for f in figures.values()), 4),
        "within_budget": live <= BUDGET,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table: shares of the LRP pass."""
    names = list(results[0]["products"])
    lines = [
        f"| pairs | LRP pass | {' | '.join(names)} | every live frame | all |",
        f"|{'---|' * (len(names) + 4)}",
    ]
    for result in results:
        shares = [
            f"{p['ms']:.2f} ms, {100 * p['share_of_lrp']:.1f} %"
            for p in result["products"].values()
        ]
        lines.append(
            f"| {result['pairs']} | {result['lrp_ms']:.1f} ms | {' | '.join(shares)} | "
            f"{100 * result['every_frame_share']:.1f} % | {100 * result['all_share']:.1f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 4, 12, 48])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    network = AUNetwork.load(device=args.device)
    crops = faces(network, -(-max(args.pairs) // AUS_AT_ONCE))
    load = [os.getloadavg()[0]]
    results = [measure(network, crops, pairs, args.rounds) for pairs in args.pairs]
    load.append(os.getloadavg()[0])
    print(table(results))
    if args.out:
        cores = os.cpu_count() or 1
        facts = {
            "machine": {
                "processor": platform.machine(),
                "cores": cores,
                "torch": torch.__version__,
                "torch_threads": 1,
                "device": str(network.device),
                "load_average": [round(value, 2) for value in load],
                "note": "the machine was busy with other work; compare shares, not times"
                if max(load) > cores
                else "",
            },
            "rounds": args.rounds,
            "budget_share": BUDGET,
            "cases": results,
            "table": table(results),
        }
        args.out.write_text(
            json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
