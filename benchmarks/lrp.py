"""How fast are relevance maps? The fused engine against zennit, in one process.

Every case is a network, B frames and K outputs of each. Peers, all on the same network:

- ``zennit``: one call per output (a batch of frames each), as zennit's documentation does it;
  with zennit's ``EpsilonPlusFlat`` for the preset of that name, and with the rules of
  ``innvestigate_a_flat`` composed of zennit's own parts for the other;
- ``zennit replicated``: every pair a row of one batch;
- ``reference``: this project's reference engine;
- ``fused``, ``fused stop 28``, and both with bfloat16 convolutions (slow on a CPU without AVX-512
  or AMX for them).

- ``batched gradients``: zennit's rules with one forward pass and all outputs in one call of
  ``torch.autograd.grad(is_grads_batched=True)``, where that works.

They take turns, so that a busy machine is unfair to none; medians of CPU time are compared (of
elapsed time with several threads or on a GPU). Maps of all peers at full resolution must agree.
The fused engine's operations per second stand beside what a large matrix product reaches on the
same machine, and ``--memory`` adds the peak memory of each peer in a process of its own (Linux).

    python benchmarks/lrp.py [--threads 1] [--device cpu] [--preset …] [--case …] [--rounds 7]
                             [--budget 60] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from facestage.core.architectures import SplitHeads, au_net
from facestage.core.folding import example_input, fold_batchnorm
from facestage.core.lrp import PRESETS, explain
from facestage.core.lrp.lower import lower
from facestage.core.lrp.program import Convolution, Dense
from facestage.core.network import AUNetwork
from torch import nn

# zennit can be imported once facestage.core.lrp has been.
from zennit.attribution import Gradient  # isort: skip
from zennit.composites import EpsilonPlusFlat, LayerMapComposite  # isort: skip
from zennit.core import BasicHook  # isort: skip
from zennit.rules import ClampMod, Epsilon, Flat, Norm, Pass  # isort: skip
from zennit.types import Activation, AvgPool, Convolution as AnyConvolution, Linear  # isort: skip
from zennit.layer import Sum  # isort: skip

AUS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 22, 23, 24, 25, 26, 27, 28, 43)


# ----------------------------------------------------------------------------------- the networks


class Block(nn.Module):
    """Basic residual block. The sum is a module, as zennit's rules need it."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = (
            nn.Conv2d(given, made, 3, stride, 1, bias=False),
            nn.BatchNorm2d(made),
        )
        self.conv2, self.bn2 = nn.Conv2d(made, made, 3, 1, 1, bias=False), nn.BatchNorm2d(made)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.project: nn.Module = nn.Identity()
        if stride > 1 or given != made:
            self.project = nn.Sequential(
                nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made)
            )
        self.plus = Plus()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(self.plus(self.project(x), y))


class Plus(nn.Module):
    """``a + b``; for zennit through its own sum, which it can hook."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum()
        self.by_zennit = False

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.sum(torch.stack((a, b), dim=-1)) if self.by_zennit else a + b


def resnet18(outputs: int = 12) -> nn.Module:
    """Build an 18-layer residual network for RGB input, with random weights."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)]
    layers += [nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    given = 64
    for made in (64, 128, 256, 512):
        layers += [Block(given, made, 1 if given == made else 2), Block(made, made, 1)]
        given = made
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, outputs)]
    return _settled(nn.Sequential(*layers), (3, 112, 112))


def _settled(net: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Give BatchNorm the statistics of some input, then fold it."""
    net.train()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
        for _ in range(2):
            net(torch.randn(4, *shape))
    return fold_batchnorm(net.eval(), example_input(net, shape))


def untrained_au_net() -> nn.Module:
    """Build the presence path of the architecture ``au_net_96_zoned``."""
    folded = _settled(au_net(AUS), (1, 96, 96))
    return SplitHeads(folded).presence_logits()  # type: ignore[arg-type]


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "embedded": (lambda: AUNetwork.load(device="cpu").logits_module, (1, 96, 96)),
    "au_net": (untrained_au_net, (1, 96, 96)),
    "resnet18": (resnet18, (3, 112, 112)),
}
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


# -------------------------------------------------------------------------------------- the peers


def zennit_composite(preset: str) -> Any:
    """Return the preset made of zennit's own rules."""
    if preset == "zennit":
        return EpsilonPlusFlat()
    signed = BasicHook(
        input_modifiers=[lambda x: x.clamp(min=0), lambda x: x.clamp(max=0)],
        param_modifiers=[
            lambda p, name: p if name == "bias" else p.clamp(min=0),
            ClampMod(max=0.0, zero_params=["bias"]),
        ],
        output_modifiers=[lambda z: z] * 2,
        gradient_mapper=lambda r, z: [r / (sum(z) + 1e-7 * (sum(z) == 0))] * 2,
        reducer=lambda x, g: x[0] * g[0] + x[1] * g[1],
    )
    composite = LayerMapComposite(
        [
            (Activation, Pass()),
            ((AvgPool, Sum), Norm()),
            (AnyConvolution, signed),
            (nn.Linear, Epsilon(epsilon=0.1)),
        ]
    )
    rules = composite.module_map

    def first_flat(ctx: dict[str, bool], name: str, module: nn.Module) -> Any:
        if isinstance(module, Linear) and not ctx.get("seen"):
            ctx["seen"] = True
            return Flat()
        return rules(ctx, name, module)

    composite.module_map = first_flat
    return composite


@dataclass
class Case:
    """One network with its input.

    Attributes:
        net: ``(B, C, H, W)`` → ``(B, A)``.
        x: ``(B, C, H, W)``.
        outputs: K outputs, explained of every frame.
        preset: LRP preset.
    """

    net: nn.Module
    x: torch.Tensor
    outputs: list[int]
    preset: str

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs, frame by frame."""
        return [(frame, output) for frame in range(len(self.x)) for output in self.outputs]

    def zennit(self, attribute: Gradient) -> torch.Tensor:
        """Return ``(P, H, W)`` from one call per output."""
        maps = []
        for output in self.outputs:

            def start(logits: torch.Tensor, output: int = output) -> torch.Tensor:
                pick = torch.zeros_like(logits)
                pick[:, output] = logits.detach()[:, output]
                return pick

            _, relevance = attribute(self.x.clone(), start)
            maps.append(relevance.detach().sum(dim=1))
        return torch.stack(maps, dim=1).flatten(0, 1)

    def zennit_replicated(self, attribute: Gradient) -> torch.Tensor:
        """Return ``(P, H, W)`` from one call with a row per pair."""
        x = self.x.repeat_interleave(len(self.outputs), 0)
        wanted = torch.tensor(self.outputs * len(self.x), device=x.device)

        def start(logits: torch.Tensor) -> torch.Tensor:
            return logits.detach() * F.one_hot(wanted, logits.shape[1])

        _, relevance = attribute(x, start)
        return relevance.detach().sum(dim=1)

    def batched_gradients(self, attribute: Gradient) -> torch.Tensor:
        """Return ``(P, H, W)`` from one forward pass and one call for all outputs."""
        del attribute  # its hooks are on the network
        leaf = self.x.clone().requires_grad_()
        logits = self.net(leaf)
        starts = torch.zeros((len(self.outputs), *logits.shape), device=logits.device)
        for at, output in enumerate(self.outputs):
            starts[at, :, output] = logits.detach()[:, output]
        (relevance,) = torch.autograd.grad(logits, leaf, starts, is_grads_batched=True)
        return relevance.sum(dim=2).transpose(0, 1).flatten(0, 1)

    def ours(self, engine: str, **options: Any) -> torch.Tensor:
        """Return the maps of one of this project's engines."""
        return explain(self.net, self.x, self.pairs, self.preset, engine, **options)


def peers(case: Case, attribute: Gradient) -> dict[str, Callable[[], torch.Tensor]]:
    """Return what is compared: name → a call that explains all pairs of the case."""
    half = {"dtype": torch.bfloat16}
    return {
        "zennit": lambda: case.zennit(attribute),
        "zennit replicated": lambda: case.zennit_replicated(attribute),
        "batched gradients": lambda: case.batched_gradients(attribute),
        "reference": lambda: case.ours("reference"),
        "fused": lambda: case.ours("fused"),
        "fused stop 28": lambda: case.ours("fused", stop=28),
        "fused bf16": lambda: case.ours("fused", **half),
        "fused bf16 stop 28": lambda: case.ours("fused", stop=28, **half),
    }


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


def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the relative L1 distance of two sets of maps."""
    return float((one - other).abs().sum() / other.abs().sum())


# ------------------------------------------------------------------------------------ measurement


def run_case(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one case; return its figures."""
    kind, batch, count = CASES[name]
    torch.manual_seed(0)
    make, shape = NETS[kind]
    net = make().to(options.device)
    case = Case(
        net,
        torch.randn(batch, *shape).to(options.device),
        list(range(count)),
        options.preset,
    )
    on_cpu_time = options.device == "cpu" and options.threads == 1

    def clock() -> float:
        if options.device != "cpu":
            torch.cuda.synchronize()
        return time.thread_time() if on_cpu_time else time.perf_counter()

    plus = [module for module in net.modules() if isinstance(module, Plus)]
    # A copy, so that the hooks of one are not in the way of the others.
    hooked = fold_batchnorm(net, example_input(net, shape))
    for module in hooked.modules():
        if isinstance(module, Plus):
            module.by_zennit = True
    assert len(plus) == sum(isinstance(module, Plus) for module in hooked.modules())
    zennit_case = Case(hooked, case.x, case.outputs, case.preset)
    with Gradient(hooked, zennit_composite(options.preset)) as attribute:
        calls = peers(case, attribute)
        calls["zennit"] = lambda: zennit_case.zennit(attribute)
        calls["zennit replicated"] = lambda: zennit_case.zennit_replicated(attribute)
        calls["batched gradients"] = lambda: zennit_case.batched_gradients(attribute)
        impossible = _drop_impossible(calls)
        for skipped in options.skip:
            calls.pop(skipped, None)
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
        peers_out[peer] = {
            "ms_per_frame": 1e3 * taken / batch,
            "times_zennit": median["zennit"] / taken if "zennit" in median else None,
            "relative_l1": agreement(maps[peer], expected)
            if maps[peer].shape == expected.shape
            else None,
        }
    peers_out["fused"]["gflop_per_s"] = flop / median["fused"] / 1e9
    return {
        "case": name,
        "batch": batch,
        "outputs": count,
        "rounds": len(times["fused"]),
        "impossible": impossible,
        "gflop": flop / 1e9,
        "peers": peers_out,
    }


def _drop_impossible(calls: dict[str, Callable[[], torch.Tensor]]) -> dict[str, str]:
    """Remove peers that cannot run this network at all; return why."""
    reasons: dict[str, str] = {}
    try:
        calls["batched gradients"]()
    except RuntimeError as error:
        reasons["batched gradients"] = (str(error).strip().splitlines() or ["?"])[0][:200]
        del calls["batched gradients"]
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
    other = torch.empty_like(data)
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    taken = []
    for _ in range(5):
        start = clock()
        other.copy_(data)
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
    net = make()
    hooked = fold_batchnorm(net, example_input(net, shape))
    for module in hooked.modules():
        if isinstance(module, Plus):
            module.by_zennit = True
    theirs = peer in ("zennit", "zennit replicated", "batched gradients")
    with Gradient(hooked if theirs else net, zennit_composite(preset)) as attribute:
        # Hooks only where they belong; ours must not see them.
        small = Case(hooked if theirs else make(), torch.randn(1, *shape), [0], preset)
        large = Case(small.net, torch.randn(batch, *shape), list(range(count)), preset)
        peers(small, attribute)[peer]()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak
        before = _status("VmRSS")
        peers(large, attribute)[peer]()
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
            line += f"  {figures['gflop_per_s']:.0f} GFLOP/s"
        print(line, flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="innvestigate_a_flat")
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
            "peak_mib": memory,
        }
        options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
