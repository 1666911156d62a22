"""How fast are relevance maps? The fused engine against zennit, in one process.

Every case is a network, B frames and K outputs of each. Peers, all on the same network:

- ``zennit``: one call per output (a batch of frames each), as zennit's documentation does it; with
  zennit's ``EpsilonPlusFlat`` for the preset of that name, with the preset's rules composed of
  zennit's own parts otherwise (``au_evidence`` cannot be);
- ``zennit replicated``: every pair a row of one batch;
- ``batched gradients``: zennit's rules with one forward pass and all outputs in one call of
  ``torch.autograd.grad(is_grads_batched=True)``, where that works;
- ``captum``: Captum's LRP, one call per output, where it is installed and has a rule for every
  layer; with a flat rule of ours, as it has none;
- ``reference``: this project's reference engine;
- ``fused``, ``fused stop 28``, and both with bfloat16 convolutions on the way back (slow on a CPU
  without AVX-512 or AMX for them).

The embedded network explains face crops of the demo clip, of frames in which most AUs are active,
and the outputs surest there; the others have random weights and get noise.

They take turns, so that a busy machine is unfair to none; medians of CPU time are compared (of
elapsed time with several threads or on a GPU). Maps of all float32 peers at full resolution must
agree, or the run ends with an error once its figures are written. The approximate ones are compared
by their 16×16 descriptors: cosine with those of float32 maps that stop at the same layer, and that
go to the pixels, median and minimum over the pairs that have a descriptor; for the embedded network
also over all AUs that are active in crops from all over the clip. The fused engine's operations and
bytes per second stand beside what a large matrix product and a copy reach on the same machine, and
``--memory`` adds the peak memory of each peer in a process of its own (Linux).

    python benchmarks/lrp.py [--threads 1] [--device cpu] [--preset …] [--case …] [--rounds 7]
                             [--budget 60] [--out FILE]
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import math
import multiprocessing
import os
import platform
import statistics
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_faces import certainty, faces
from facestage.core.backend import arithmetic
from facestage.core.lrp import LRP_PRESETS, explain
from facestage.core.lrp.fused.lower import lower
from facestage.core.lrp.fused.program import Convolution, Dense, Flatten, Rectify
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.folding import example_input
from facestage.core.relevance import describe
from lrp_peers import NETS, Calls, Case, peers
from numpy.typing import NDArray

CASES = {
    f"{net}-b{batch}-k{count}": (net, batch, count)
    for net, batch, count in (
        ("embedded", 1, 4),
        ("embedded", 1, 12),
        ("embedded", 8, 12),
        ("au_net", 1, 4),
        ("au_net", 1, 12),
        ("au_net", 8, 12),
        ("resnet18", 1, 4),
    )
}

SAME = 1e-3
"""Most that two float32 peers may differ, relative L1."""
CLIP_FACES = 24
"""Face crops of the demo clip that are looked at."""
APPROXIMATE: dict[str, dict[str, str]] = {
    "fused bf16": {"pixels": "fused"},
    "fused stop 28": {"pixels": "fused"},
    "fused bf16 stop 28": {"same stop": "fused stop 28", "pixels": "fused"},
}
"""Peers that give different maps → the peers their descriptors are compared with."""


@cache
def clip() -> tuple[AUNetwork, NDArray[np.uint8], NDArray[np.float32]]:
    """Return the embedded network, crops of the demo clip, and its certainty of each AU in them."""
    network = AUNetwork.load(device="cpu")
    crops = faces(network, CLIP_FACES)
    return network, crops, certainty(network, crops)


def make_case(name: str, preset: str, device: str) -> Case:
    """Return network and input of a case."""
    kind, batch, count = CASES[name]
    torch.manual_seed(0)
    make, shape = NETS[kind]
    x, outputs = torch.randn(batch, *shape), list(range(count))
    if kind == "embedded":
        network, crops, certainties = clip()
        frames = np.sort(np.argsort(-np.sort(certainties, axis=1)[:, -count:].mean(axis=1))[:batch])
        outputs = np.sort(np.argsort(-certainties[frames].mean(axis=0))[:count]).tolist()
        x = network.prepare(crops[frames])
    return Case(make().to(device), x.to(device), outputs, preset)


def fused_flop(case: Case) -> float:
    """Estimate floating-point operations of ``fused`` for one case.

    Forward twice for the inner layers (activation and denominator), once for the first; back once
    per pair for all but the first. Structural zeros count as if they were multiplied.
    """
    program = lower(case.net, example_input(case.net, case.x.shape[1:]))
    total = 0.0
    for number, operation in enumerate(program.operations):
        if not isinstance(operation, (Convolution, Dense)):
            continue
        positions = 1
        for side in program.values[number + 1].shape[1:]:
            positions *= side
        once = 2.0 * operation.weight.numel() * positions
        first = number == program.first
        passes = 1 if first or isinstance(operation, Dense) else 2
        total += once * len(case.x) * (passes + (0 if first else len(case.outputs)))
    return total


def fused_bytes(case: Case) -> float:
    """Estimate the least number of bytes ``fused`` moves for one case, if caches kept nothing.

    Forward every operation reads its sources and its weights (twice, of inner convolutions: for
    activation and denominator) and writes its output and the denominator. Backward it reads the
    relevance above for every pair, its quotient once per frame and its weights, and writes the
    relevance below.
    """
    program = lower(case.net, example_input(case.net, case.x.shape[1:]))
    frames, pairs, total = len(case.x), len(case.pairs), 0
    sizes = [math.prod(value.shape) for value in program.values]
    for number, operation in enumerate(program.operations):
        output, inputs = sizes[number + 1], sum(sizes[source] for source in operation.sources)
        weighted = isinstance(operation, (Convolution, Dense))
        weights = operation.weight.numel() if weighted else 0
        first = number == program.first
        twice = 2 if isinstance(operation, Convolution) and not first else 1
        total += frames * (inputs + twice * output) + twice * weights
        if not isinstance(operation, (Rectify, Flatten)):  # which pass relevance unchanged
            total += pairs * (output + inputs) + frames * output + (0 if first else weights)
    return 4.0 * total


def agreement(maps: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the relative L1 distance of two sets of maps."""
    return float((maps - expected).abs().sum() / expected.abs().sum())


def cosines(maps: torch.Tensor, expected: torch.Tensor) -> dict[str, float | int]:
    """Compare the descriptors of two sets of maps, of whatever size.

    Args:
        maps: ``(P, h, w)``; a map without a descriptor counts as 0 if the expected map has one.
        expected: ``(P, H, W)``; maps without a descriptor are left out.
    """
    (approximate, _), (exact, valid) = describe(maps), describe(expected)
    cosine = (approximate * exact).sum(dim=1)[valid].double()
    return {
        "pairs": len(cosine),
        "median": round(float(cosine.median()), 6),
        "minimum": round(float(cosine.min()), 6),
    }


def clip_cosines(preset: str) -> dict[str, Any]:
    """Compare descriptors of all AUs that are active in the crops of the demo clip."""
    network, crops, certainties = clip()
    pairs = [(int(frame), int(output)) for frame, output in np.argwhere(certainties >= 1)]
    x = network.prepare(crops)

    def maps(peer: str) -> torch.Tensor:
        dtype = torch.bfloat16 if "bf16" in peer else None
        stop = 28 if "stop" in peer else None
        return explain(network.logits_module, x, pairs, preset, "fused", stop, dtype=dtype)

    maps_of = {peer: maps(peer) for peer in ("fused", *APPROXIMATE)}
    return {
        peer: {to: cosines(maps_of[peer], maps_of[exact]) for to, exact in compared.items()}
        for peer, compared in APPROXIMATE.items()
    }


# ------------------------------------------------------------------------------------ measurement


def run_case(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one case; return its figures."""
    _, batch, count = CASES[name]
    case = make_case(name, options.preset, options.device)
    on_cpu_time = options.device == "cpu" and options.threads == 1

    def clock() -> float:
        if options.device != "cpu":
            torch.cuda.synchronize()
        return time.thread_time() if on_cpu_time else time.perf_counter()

    # No peer's convolutions are rounded to TF32 on a GPU, as ours are not.
    with arithmetic(torch.device(options.device)), peers(case) as calls:
        for skipped in options.skip:
            calls.pop(skipped, None)
        impossible = _drop_impossible(calls)
        maps = {peer: call() for peer, call in calls.items()}  # which also prepares
        times: dict[str, list[float]] = {peer: [] for peer in calls}
        began = time.perf_counter()
        for done in range(options.rounds):
            if done >= 3 and time.perf_counter() - began > options.budget:
                break
            for peer, call in calls.items():
                start = clock()
                call()
                times[peer].append(clock() - start)
    expected = maps.get("zennit", maps["fused"])
    flop = fused_flop(case)
    median = {peer: statistics.median(taken) for peer, taken in times.items()}
    peers_out = {}
    for peer, taken in median.items():
        same_kind = maps[peer].shape == expected.shape and "bf16" not in peer
        peers_out[peer] = {
            "same_maps": agreement(maps[peer], expected) <= SAME if same_kind else None,
            "ms_per_frame": 1e3 * taken / batch,
            "times_zennit": median["zennit"] / taken if "zennit" in median else None,
            "relative_l1": agreement(maps[peer], expected)
            if maps[peer].shape == expected.shape
            else None,
        }
        if peer in APPROXIMATE:
            peers_out[peer]["descriptors"] = {
                to: cosines(maps[peer], maps[exact]) for to, exact in APPROXIMATE[peer].items()
            }
    peers_out["fused"]["gflop_per_s"] = flop / median["fused"] / 1e9
    peers_out["fused"]["gbyte_per_s"] = fused_bytes(case) / median["fused"] / 1e9
    return {
        "case": name,
        "batch": batch,
        "outputs": count,
        "rounds": len(times["fused"]),
        "impossible": impossible,
        "gflop": flop / 1e9,
        "peers": peers_out,
    }


def _drop_impossible(calls: Calls) -> dict[str, str]:
    """Remove peers that cannot run this network at all; return why."""
    reasons: dict[str, str] = {}
    for peer in set(calls) & {"batched gradients", "captum"}:
        try:
            calls[peer]()
        except (ImportError, RuntimeError, TypeError) as error:
            reasons[peer] = (str(error).strip().splitlines() or ["?"])[0][:200]
            del calls[peer]
    return reasons


def matmul_gflops() -> float:
    """Return what a product of large float32 matrices reaches with the threads in use, GFLOP/s."""
    side = 1024
    a, b = torch.randn(side, side), torch.randn(side, side)
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    taken = []
    for _ in range(8):
        start = clock()
        a @ b
        taken.append(clock() - start)
    return 2e-9 * side**3 / min(taken)


def copy_gb_per_s() -> float:
    """Return how fast 256 MiB are copied, reading and writing counted, GB/s."""
    data = torch.zeros(64 << 20)
    target = torch.empty_like(data)
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    taken = []
    for _ in range(5):
        start = clock()
        target.copy_(data)
        taken.append(clock() - start)
    return 2e-9 * 4 * len(data) / min(taken)


def peak_mib(name: str, peer: str, preset: str) -> float | None:
    """Return the most memory one peer takes for a case beyond what it holds before, MiB.

    None where the peer cannot run the case.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_peak, args=(name, peer, preset, send))
    child.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return None
    finally:
        child.join()


def _peak(name: str, peer: str, preset: str, answer: Any) -> None:
    torch.set_num_threads(1)
    kind, batch, count = CASES[name]
    torch.manual_seed(0)
    make, shape = NETS[kind]
    case = Case(make(), torch.randn(1, *shape), [0], preset)
    with peers(case) as calls:
        calls[peer]()
        case.x, case.outputs = torch.randn(batch, *shape), list(range(count))
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak
        before = _status("VmRSS")
        calls[peer]()
        answer.send((_status("VmHWM") - before) / 1024)


def _status(field: str) -> int:
    """Return a size of this process, KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def show(result: dict[str, Any]) -> None:
    """Print one case as a table."""
    print(
        f"\n{result['case']}: {result['batch']} frame(s), {result['outputs']} outputs, "
        f"{result['rounds']} rounds"
    )
    for peer, figures in result["peers"].items():
        ratio, l1 = figures["times_zennit"], figures["relative_l1"]
        line = f"  {peer:20s} {figures['ms_per_frame']:9.1f} ms/frame"
        line += f"  {ratio:6.1f} ×" if ratio is not None else ""
        line += f"  L1 {l1:.1e}" if l1 is not None else ""
        if "gflop_per_s" in figures:
            line += f"  {figures['gflop_per_s']:.0f} GFLOP/s, {figures['gbyte_per_s']:.1f} GB/s"
        if "descriptors" in figures:
            line += "  " + show_cosines(figures["descriptors"])
        print(line, flush=True)


def show_cosines(figures: dict[str, dict[str, float | int]]) -> str:
    """Return cosines of descriptors in words."""
    return "; ".join(
        f"cosine to {to} {found['median']:.5f} (min {found['minimum']:.5f} of {found['pairs']})"
        for to, found in figures.items()
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", choices=sorted(LRP_PRESETS), default="innvestigate_a_flat")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--skip", nargs="+", default=[], help="peers to leave out")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=60, help="seconds per case after 3 rounds")
    parser.add_argument("--memory", nargs="*", choices=CASES, default=[], help="cases to weigh")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for name in options.case:
        results.append(run_case(name, options))
        show(results[-1])
    agreement_on_clip = clip_cosines(options.preset)
    print("\nactive AUs of the demo clip, descriptors against float32:")
    for peer, figures in agreement_on_clip.items():
        print(f"  {peer:20s} {show_cosines(figures)}", flush=True)
    memory = {}
    for name in options.memory:
        for peer in ("zennit", "zennit replicated", "reference", "fused", "fused stop 28"):
            memory.setdefault(name, {})[peer] = peak_mib(name, peer, options.preset)
            print(f"{name} {peer}: peak {memory[name][peer]} MiB", flush=True)
    if options.out:
        facts = {
            "preset": options.preset,
            "threads": options.threads,
            "device": options.device,
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "matmul_gflop_per_s": matmul_gflops() if options.device == "cpu" else None,
            "copy_gb_per_s": copy_gb_per_s() if options.device == "cpu" else None,
            "load": os.getloadavg()[0],
            "cases": results,
            "demo_clip_descriptors": agreement_on_clip,
            "peak_mib": memory,
        }
        options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    others = [
        f"{result['case']}: {peer}"
        for result in results
        for peer, figures in result["peers"].items()
        if figures["same_maps"] is False
    ]
    if others:
        raise SystemExit(f"other maps, so that times compare nothing: {', '.join(others)}")


if __name__ == "__main__":
    main()
