"""What do descriptors, projections and pictures cost, measured by the LRP pass they follow?

The embedded network explains P pairs of frames of the demo clip, in each frame those of the Action
Units it finds most active; each product of the P maps is then timed against that pass, and against
the quicker one in bfloat16:

- ``describe``: descriptors, made of every map of every frame;
- ``masks``: the 48×48 Top-X masks of the page, made where anybody watches. These two are what a
  live frame costs;
- ``overlay``: the masks of all AUs of a frame over its face, each in its colour, at the size of the
  maps: what an annotated video draws for every frame. The masks are there already;
- ``top_x``: the pixel-exact projection; ``heatmap``: blue-white-red; ``composite``: the overlay of
  a report, from the maps themselves. These are drawn once per stage and prototype.

All take turns, both passes among them, so that a busy machine is unfair to none, and the products
get the maps that the float32 pass has just made, as they do live; medians of CPU time are compared
(of elapsed time on a GPU). ``one by one`` is the same product called once per map.

Composites and heatmaps are drawn once per stage and prototype, not for every pair, so their cost in
a whole run of ``facestage analyze`` is measured, too: all pictures of the report, as it draws them.

    python benchmarks/relevance.py [--pairs 1 4 12 48] [--device cpu] [--rounds 31] [--out FILE]
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from demo_faces import faces
from facestage.core import lrp, relevance
from facestage.core.network.au_network import AUNetwork
from facestage.core.render import pictures
from facestage.core.render.layers import compose, layers
from facestage.core.render.overlays import over, overlays
from facestage.core.render.pictures import au_colour
from facestage.core.render.projections import heatmap
from facestage.core.sequence import SequenceAnalyzer
from facestage.stream.detectors import make_detector
from facestage.stream.live.publish import MASK_SIDE
from facestage.stream.offline.analyze import analyze_source
from facestage.stream.offline.exports import write_analysis
from live_offline import SHARED
from numpy.typing import NDArray

EVERY_FRAME = ("describe", "masks")
BUDGET = 0.05
"""Most that the products of a live frame may cost, as a share of the LRP pass."""
AUS_AT_ONCE = 12
CLIPS = ("WolfgangLanger_Pexels.mp4", "single_face.mp4", "intel_asl_sorry.mkv")
"""Real clips of a run, where they are at hand."""


def products(
    crops: NDArray[np.uint8], aus: list[int]
) -> dict[str, Callable[[torch.Tensor, slice], object]]:
    """Return what is measured: name → a call for all maps and the part of them to take."""
    colours = [au_colour(au) for au in aus]
    per_frame = len(aus) // len(crops)
    masks = torch.empty(0)

    def make_masks(maps: torch.Tensor, part: slice) -> object:
        nonlocal masks
        cells = relevance.masks(maps[part], MASK_SIDE)
        if len(cells) == len(aus):
            masks = cells
        return cells

    def overlay(maps: torch.Tensor, part: slice) -> object:
        rows = range(len(maps))[part]
        frames = sorted({n // per_frame for n in rows})
        counts = [sum(n // per_frame == frame for n in rows) for frame in frames]
        painted = overlays(masks[part].cpu().numpy(), colours[part], counts)
        return over(crops[frames[0] : frames[-1] + 1], painted)

    def composite(maps: torch.Tensor, part: slice) -> object:
        rows, side = range(len(maps))[part], maps.shape[1]
        drawn = layers(maps[part], [colours[n] for n in rows], side)
        frames = {
            n // per_frame: [m - rows[0] for m in rows if m // per_frame == n // per_frame]
            for n in rows
        }
        return [
            compose(crops[f], [drawn[n] for n in numbers], side) for f, numbers in frames.items()
        ]

    return {
        "describe": lambda maps, part: relevance.describe(maps[part]),
        "masks": make_masks,
        "overlay": overlay,
        "top_x": lambda maps, part: relevance.top_x(maps[part]),
        "heatmap": lambda maps, part: heatmap(maps[part]),
        "composite": composite,
    }


def measure(
    network: AUNetwork, crops: NDArray[np.uint8], pairs: int, rounds: int
) -> dict[str, Any]:
    """Return the figures for P pairs."""
    per_frame = min(pairs, AUS_AT_ONCE)
    crops = crops[: pairs // per_frame]
    inputs = network.prepare(crops)
    strongest = network.logits_module(inputs).argsort(dim=1, descending=True)[:, :per_frame]
    wanted = [(frame, au) for frame, aus in enumerate(strongest.tolist()) for au in aus]

    def explain(precision: str) -> torch.Tensor:
        dtype = lrp.PRECISIONS[precision]
        return lrp.explain(network.logits_module, inputs, wanted, dtype=dtype)

    maps = torch.empty(0)

    def remember() -> None:
        nonlocal maps
        maps = explain("float32")

    made = products(crops, [network.card.aus[au] for _, au in wanted])
    calls: dict[tuple[str, str], Callable[[], object]] = {
        ("lrp", "bfloat16"): lambda: explain("bfloat16"),
        ("lrp", "float32"): remember,
    }
    for name, call in made.items():
        calls[name, "all"] = lambda call=call: call(maps, slice(0, pairs))
        calls[name, "one by one"] = lambda call=call: [
            call(maps, slice(n, n + 1)) for n in range(pairs)
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
    lrp_ms, rough_ms = ms["lrp", "float32"], ms["lrp", "bfloat16"]
    figures = {
        name: {
            "ms": round(ms[name, "all"], 4),
            "share_of_lrp": round(ms[name, "all"] / lrp_ms, 4),
            "share_of_lrp_bfloat16": round(ms[name, "all"] / rough_ms, 4),
            "one_by_one_ms": round(ms[name, "one by one"], 4),
        }
        for name in made
    }
    live, rough = (
        sum(figures[name][share] for name in EVERY_FRAME)
        for share in ("share_of_lrp", "share_of_lrp_bfloat16")
    )
    return {
        "pairs": pairs,
        "frames": len(crops),
        "lrp_ms": round(lrp_ms, 3),
        "lrp_bfloat16_ms": round(rough_ms, 3),
        "products": figures,
        "every_frame_share": round(live, 4),
        "every_frame_share_bfloat16": round(rough, 4),
        "all_share": round(sum(f["share_of_lrp"] for f in figures.values()), 4),
        "within_budget": live <= BUDGET,
        "within_budget_bfloat16": rough <= BUDGET,
    }


def in_a_run(network: AUNetwork, source: str) -> dict[str, Any]:
    """Return what a run spends on relevance maps, and on pictures of them."""
    seconds = {"lrp": 0.0, "composite": 0.0, "heatmap": 0.0}

    def timed(step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **options: Any) -> Any:
            start = time.thread_time()
            result = call(*args, **options)
            seconds[step] += time.thread_time() - start
            return result

        return measured

    with ExitStack() as stack:
        for step, module, name in (
            ("lrp", lrp, "explain"),
            ("lrp", lrp, "forward"),
            ("lrp", lrp.Forward, "explain"),
            ("composite", pictures, "layers"),
            ("composite", pictures, "compose"),
            ("heatmap", pictures, "heatmap"),
        ):
            wrapped = timed(step, getattr(module, name))
            stack.enter_context(mock.patch.object(module, name, wrapped))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        result = analyze_source(source, SequenceAnalyzer(make_detector("ours"), network))
        write_analysis(result, Path(folder) / "run")
    return {
        "source": Path(source).name,
        "frames": len(result.rows),
        "stages": len(result.stages),
        "prototypes": len(result.prototypes),
        "lrp_ms": round(1e3 * seconds["lrp"], 1),
        "composite_share_of_lrp": round(seconds["composite"] / seconds["lrp"], 4),
        "heatmap_share_of_lrp": round(seconds["heatmap"] / seconds["lrp"], 4),
    }


def table(results: list[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table: shares of the float32 pass, and of the other."""
    names = list(results[0]["products"])
    lines = [
        f"| pairs | LRP pass | {' | '.join(names)} | every live frame | all | bfloat16 pass | "
        "every live frame, of it |",
        f"|{'---|' * (len(names) + 6)}",
    ]
    for result in results:
        shares = [
            f"{p['ms']:.2f} ms, {100 * p['share_of_lrp']:.1f} %"
            for p in result["products"].values()
        ]
        lines.append(
            f"| {result['pairs']} | {result['lrp_ms']:.1f} ms | {' | '.join(shares)} | "
            f"{100 * result['every_frame_share']:.1f} % | {100 * result['all_share']:.1f} % | "
            f"{result['lrp_bfloat16_ms']:.1f} ms | "
            f"{100 * result['every_frame_share_bfloat16']:.1f} % |"
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
    runs = []
    if network.device.type == "cpu":  # elsewhere the time of this thread is not that of the maps
        clips = [str(clip) for name in CLIPS if (clip := SHARED / "clips" / name).exists()]
        runs = [in_a_run(network, source) for source in ("demo:", *clips)]
    for run in runs:
        print(
            f"{run['source']}: {run['frames']} frames, {run['stages']} stages, "
            f"{run['prototypes']} prototypes; composites of the report "
            f"{100 * run['composite_share_of_lrp']:.1f} %, heatmaps "
            f"{100 * run['heatmap_share_of_lrp']:.1f} % of all LRP"
        )
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
            "runs": runs,
            "table": table(results),
        }
        args.out.write_text(
            json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
