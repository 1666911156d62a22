"""What to ask a GPU in its first ten minutes: is it right, does it wait, how fast is it.

Correctness comes before speed, because a fast wrong map is worth nothing. Every experiment has a
box of time and a ``try`` of its own, and leaves one line of JSON, written out at once: whatever
breaks or runs over, the lines before it stand. In order:

- ``environment``: versions, device, flags;
- ``maps``: relevance against that of a float64 network on the CPU, with TF32 off and on, and the
  same recording replayed twice;
- ``analysis``: frames of the demo clip on the device and on the CPU: active AUs, letters, maps;
- ``windows``: letters of CuPy windows against NumPy's: with noise, frozen, exact patterns;
- ``round``: launches, copies and waits of one round, as the profiler sees them (CUDA only);
- ``roofline``: large products in float32, TF32 and bfloat16, copies on the device, to it and back,
  and how long a launch and the replay of a recording take;
- ``recordings``: seconds and memory of what ``warm_up`` records;
- ``lrp``: B frames × K AUs, recorded and eager, against zennit per AU, replicated and batched;
- ``single``: one camera, frame after frame;
- ``paced``: 1 … 32 cameras at 30 frames/s; latency counts from when a frame was due, so that a
  stall shows in every frame that it delays; a frame overtaken by the next one is dropped;
- ``offline``: large batches of one recording.

The faces' points are found beforehand, on the CPU, and handed over by a detector that knows them:
what is measured is the device, not the search for faces.

    python benchmarks/gpu_first.py --device cuda [--window-device cuda] [--boxes 1] [--out FILE]
    python benchmarks/gpu_first.py --device cpu --boxes 0.1        # tries the script itself

The exit status is 1 if an experiment failed or a result is wrong.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facestage.core import lrp
from facestage.core.analyzer import Analyzer
from facestage.core.backend import arithmetic
from facestage.core.config import AnalyzerConfig, ExplainConfig, WindowConfig
from facestage.core.face.tracker import Detection
from facestage.core.network.au_network import AUNetwork
from facestage.core.network.recording import Recorder, Recording
from facestage.core.observer import Observer
from facestage.core.types import Frame
from facestage.core.window import MapInput, WindowBank
from facestage.stream.detectors import OurDetector
from facestage.stream.sources import open_source
from numpy.typing import NDArray

PRESET = "innvestigate_a_flat"
FIRST, CLIP = 200, 60
"""The first frame of the demo clip that is used, and how many: several AUs come and go there."""
FPS = 30.0
MOST_OFF = 1e-3
"""Relative L1 distance of float32 maps from those of float64 that counts as right; the CPU's are
off by 3e-7, those with TF32 would be by 1e-3 to 4e-2."""


class Box:
    """Some seconds to spend."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    @property
    def over(self) -> bool:
        return time.perf_counter() > self._end

    def turns(self, least: int = 3, most: int = 10_000) -> Iterator[int]:
        """Count turns until the time is over."""
        for turn in range(most):
            if turn >= least and self.over:
                return
            yield turn


@dataclass
class Bench:
    """What the experiments share.

    Attributes:
        device, window_device: as asked for.
        boxes: factor of all boxes.
        pictures: of the demo clip; ``points`` of the face in each, by its identity.
    """

    device: str
    window_device: str
    boxes: float
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    points: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    def box(self, seconds: float) -> Box:
        return Box(seconds * self.boxes)

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def median_ms(self, work: Callable[[], Any], box: Box) -> float:
        """Return the median of the times of some work, the device waited for.

        The first two times prepare and record. Where they take all the time there is, they count.
        """
        taken: list[float] = []
        for _ in box.turns(1):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - start)
        return 1e3 * statistics.median(taken[2:] or taken)

    def analyzer(self, device: str | None = None) -> Analyzer:
        where = self.device if device is None else device
        config = AnalyzerConfig(
            explain=ExplainConfig(preset=PRESET, mask_side=48),
            window=WindowConfig(device=self.window_device if where == self.device else "cpu"),
        )
        return Analyzer(self, AUNetwork.load(device=where), config)

    # What a detector has.
    name = "known"

    def detect(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Detection]:
        del smallest
        points = self.points[id(image)]
        (left, top), (right, bottom) = points.min(0), points.max(0)
        return [Detection((left, top, right - left, bottom - top), 1.0, points)]

    def frame(self, camera: int, index: int) -> Frame:
        picture = self.pictures[(index + 7 * camera) % len(self.pictures)]
        return Frame(f"camera {camera}", index, picture, pts=index / FPS)


def look(bench: Bench) -> None:
    """Read the clip and find the face in its frames."""
    observer = Observer(OurDetector(), AUNetwork.load(device="cpu"))
    with open_source("demo:") as source:
        while len(bench.pictures) < CLIP:
            grab = source.read()
            if grab is None:
                break
            if grab.index < FIRST:
                continue
            (seen,) = observer.update([Frame("demo", grab.index, grab.image, pts=grab.pts)])
            if seen.face.points is not None:
                bench.pictures.append(grab.image)
                bench.points[id(grab.image)] = seen.face.points


# ------------------------------------------------------------------------------------ correctness


def environment(bench: Bench) -> dict[str, Any]:
    """Tell what runs where."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "device": bench.device,
        "window_device": bench.window_device,
        "cudnn_conv_precision": str(getattr(torch.backends.cudnn, "allow_tf32", None)),
    }
    if bench.on_gpu:
        properties = torch.cuda.get_device_properties(bench.device)
        facts |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "cudnn": torch.backends.cudnn.version(),
        }
    try:
        import cupy
    except ImportError as error:
        facts["cupy"] = f"none ({error})"
    else:
        facts["cupy"] = cupy.__version__
    return facts


def _distance(maps: torch.Tensor, expected: torch.Tensor) -> float:
    maps = maps.double().cpu()
    return float((maps - expected).abs().sum() / expected.abs().sum())


def _crops(bench: Bench, network: AUNetwork, count: int) -> NDArray[np.uint8]:
    observer = Observer(bench, network)
    seen = observer.update([bench.frame(0, index) for index in range(count)])
    crops = [one.face.crop for one in seen]
    return np.stack([crop for crop in crops if crop is not None])


def maps(bench: Bench) -> dict[str, Any]:
    """Compare maps with those of a float64 network on the CPU."""
    here = AUNetwork.load(device="cpu")
    crops = _crops(bench, here, 4)
    x = here.prepare(crops).clone()
    pairs = [(row, output) for row in range(len(crops)) for output in (0, 3, 8, 11)]
    exact_net = AUNetwork.load(device="cpu").logits_module.double()
    exact = lrp.explain(exact_net, x.double(), pairs, PRESET)
    result: dict[str, Any] = {
        "cpu float32": _distance(lrp.explain(here.logits_module, x, pairs, PRESET), exact)
    }
    there = AUNetwork.load(device=bench.device).logits_module
    moved = x.to(bench.device)
    for _ in range(2):  # eager, then recorded
        found = lrp.explain(there, moved, pairs, PRESET)
    result["device float32"] = _distance(found, exact)
    again = lrp.explain(there, moved, pairs, PRESET)
    result["replayed twice, bit for bit"] = bool((again == found).all())
    halved = lrp.explain(there, 0.5 * moved, pairs, PRESET)
    result["replay reads its input"] = bool((halved != found).any())
    if bench.on_gpu:
        for _ in range(2):
            rounded = lrp.explain(there, moved, pairs, PRESET, dtype=lrp.TF32)
        result["device tf32"] = _distance(rounded, exact)
    rounded = lrp.explain(there, moved, pairs, PRESET, dtype=torch.bfloat16)
    result["device bfloat16"] = _distance(rounded, exact)
    right = result["device float32"] <= MOST_OFF and result["replay reads its input"]
    return result | {"right": right}


def analysis(bench: Bench) -> dict[str, Any]:
    """Analyse frames of three cameras on the device and on the CPU."""
    here, there = bench.analyzer("cpu"), bench.analyzer()
    there.warm_up()
    worst, frames, other_active, other_letters, explained = 0.0, 0, 0, 0, 0
    for index in bench.box(20).turns(20, CLIP):
        batch = [bench.frame(camera, index) for camera in range(3)]
        for one, other in zip(here.update(batch), there.update(batch), strict=True):
            frames += 1
            other_active += one.active != other.active
            other_letters += (one.letters, one.stage) != (other.letters, other.stage)
            for au in one.maps.keys() & other.maps.keys():
                explained += 1
                off = np.abs(one.maps[au] - other.maps[au]).sum() / np.abs(one.maps[au]).sum()
                worst = max(worst, float(off))
    return {
        "frames": frames,
        "maps": explained,
        "worst relative l1": worst,
        "frames with other active AUs": other_active,
        "frames with other letters": other_letters,
        "right": worst <= 10 * MOST_OFF and other_active <= frames // 50 and explained > 0,
    }


def _streams() -> dict[str, list[NDArray[np.float32]]]:
    random = np.random.default_rng(0)
    patterns = np.abs(random.standard_normal((3, 256)))
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)

    def noisy(n: int) -> NDArray[np.float64]:
        return np.abs(patterns[n // 40 % 3] + 0.02 * random.standard_normal(256))

    frozen = noisy(0)
    streams = {
        "with noise": [noisy(n) for n in range(220)],
        "frozen": [noisy(n) if n < 60 else frozen for n in range(220)],
        "exact patterns": [patterns[n // 40 % 3] for n in range(220)],
        "one exact pattern": [patterns[0]] * 220,
    }
    return {name: [row.astype(np.float32) for row in rows] for name, rows in streams.items()}


def windows(bench: Bench) -> dict[str, Any]:
    """Compare the letters of windows on the device with those on the CPU."""
    result: dict[str, Any] = {}
    for name, rows in _streams().items():
        letters, milliseconds = {}, {}
        for device in ("cpu", bench.window_device):
            bank = WindowBank(WindowConfig(every=1), device=device)
            slots = [bank.open(), bank.open()]
            start = time.perf_counter()
            letters[device] = [
                [u.letter for u in bank.update([MapInput(slot, n, row) for slot in slots])]
                for n, row in enumerate(rows)
            ]
            milliseconds[device] = 1e3 * (time.perf_counter() - start) / len(rows)
        differ = zip(letters["cpu"], letters[bench.window_device], strict=True)
        result[name] = {
            "other letters": sum(one != other for one, other in differ),
            "ms per map of two windows": milliseconds,
        }
    right = all(found["other letters"] == 0 for found in result.values())
    return result | {"right": right}


def round_counts(bench: Bench) -> dict[str, Any]:
    """Count what one round launches, copies and waits for."""
    if not bench.on_gpu:
        return {"skipped": "only a GPU launches"}
    from torch.profiler import ProfilerActivity, profile

    result: dict[str, Any] = {}
    for cameras in (1, 4, 32):
        analyzer = bench.analyzer()
        for index in range(4):
            analyzer.update([bench.frame(camera, index) for camera in range(cameras)])
        batch = [bench.frame(camera, 4) for camera in range(cameras)]
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            analyzer.update(batch)
        wanted = ("cudaGraphLaunch", "cudaLaunchKernel", "cudaMemcpyAsync", "Synchronize")
        result[f"{cameras} cameras"] = {
            event.key: event.count
            for event in seen.key_averages()
            if any(word in event.key for word in wanted)
        }
    return result


# ------------------------------------------------------------------------------------------ speed


def roofline(bench: Bench) -> dict[str, Any]:
    """Measure what the device can do at best."""
    side = 8192 if bench.on_gpu else 512
    result: dict[str, Any] = {}
    kinds = {"float32": (torch.float32, False), "bfloat16": (torch.bfloat16, False)}
    if bench.on_gpu:
        kinds["tf32"] = (torch.float32, True)
    for name, (dtype, tf32) in kinds.items():
        a = torch.randn(side, side, device=bench.device, dtype=dtype)
        with arithmetic(torch.device(bench.device), tf32=tf32):
            taken = bench.median_ms(lambda a=a: a @ a, bench.box(3))
        result[f"{name} tflop/s"] = 2e-9 * side**3 / taken
    data = torch.zeros((1 << 30 if bench.on_gpu else 1 << 26) // 4, device=bench.device)
    target = torch.empty_like(data)
    taken = bench.median_ms(lambda: target.copy_(data), bench.box(2))
    result["copy gb/s, read and written"] = 8e-6 * len(data) / taken
    if bench.on_gpu:
        pinned = torch.zeros(1 << 26, pin_memory=True)
        there = torch.empty(1 << 26, device=bench.device)
        up = bench.median_ms(lambda: there.copy_(pinned, non_blocking=True), bench.box(2))
        down = bench.median_ms(lambda: pinned.copy_(there, non_blocking=True), bench.box(2))
        result |= {"upload gb/s": 4e-6 * len(pinned) / up, "download gb/s": 4e-6 * 2**26 / down}
        small = torch.zeros(1, device=bench.device)
        launch = bench.median_ms(lambda: small.add_(1), bench.box(1))
        echo = Recording(lambda r: [r + 1], 64, Recorder(torch.device(bench.device)))
        sent = [np.zeros(64, np.uint8)]
        there_and_back = bench.median_ms(lambda: echo(sent), bench.box(1))
        result |= {"launch and wait us": 1e3 * launch, "recording us": 1e3 * there_and_back}
    return result


def recordings(bench: Bench) -> dict[str, Any]:
    """Measure what it takes to record all rounds."""
    analyzer = bench.analyzer()
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats(bench.device)
    start = time.perf_counter()
    analyzer.warm_up()
    bench.wait()
    result: dict[str, Any] = {
        "warm_up_s": time.perf_counter() - start,
        "recorded": analyzer.counts.recorded,
    }
    if bench.on_gpu:
        result["reserved_mib"] = torch.cuda.memory_reserved(bench.device) / 2**20
        result["peak_mib"] = torch.cuda.max_memory_allocated(bench.device) / 2**20
    return result


def lrp_peers(bench: Bench) -> dict[str, Any]:
    """Time maps of B frames × K AUs against zennit."""
    from lrp_peers import Case, peers

    here = AUNetwork.load(device="cpu")
    crops = np.concatenate([_crops(bench, here, 32)] * 2)[:32]
    result: dict[str, Any] = {}
    everything = bench.box(120)
    for batch in (1, 8, 32):
        for count in (1, 4, 12):
            if everything.over:
                result[f"B={batch} K={count}"] = "no time was left"
                continue
            net = AUNetwork.load(device=bench.device).logits_module
            x = here.prepare(crops[:batch]).clone().to(bench.device)
            case = Case(net, x, list(range(count)), PRESET)
            found: dict[str, float | str] = {}
            with arithmetic(torch.device(bench.device)), peers(case) as calls:
                wanted = ("fused", "fused bf16", "zennit", "zennit replicated", "batched gradients")
                for name in wanted:
                    try:
                        found[name] = bench.median_ms(calls[name], bench.box(1.5)) / batch
                    except Exception as error:  # one peer may be unable to, or too large
                        found[name] = f"{type(error).__name__}: {error}"[:160]
            result[f"B={batch} K={count}"] = found
    return {"ms per frame": result}


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    values = 1e3 * np.asarray(seconds)
    named = {f"p{q:g}_ms": float(np.percentile(values, q)) for q in (50, 90, 99, 99.9)}
    return named | {"max_ms": float(values.max()), "frames": len(values)}


def single(bench: Bench) -> dict[str, Any]:
    """Analyse one camera, frame after frame."""
    analyzer = bench.analyzer()
    analyzer.warm_up()
    taken, explained = [], 0
    for index in bench.box(30).turns(20):
        frame = bench.frame(0, index)
        start = time.perf_counter()
        (result,) = analyzer.update([frame])
        taken.append(time.perf_counter() - start)
        explained += len(result.maps)
    first, *rest = taken
    return _percentiles(rest) | {"first_ms": 1e3 * first, "aus_per_frame": explained / len(taken)}


def _paced(bench: Bench, cameras: int, seconds: float) -> dict[str, Any]:
    analyzer = bench.analyzer()
    analyzer.warm_up()
    analyzer.update([bench.frame(camera, 0) for camera in range(cameras)])
    # Cameras are not in step: each is due at its own part of a period.
    start, last = time.perf_counter(), [0] * cameras
    latencies: list[float] = []
    dropped = rounds = 0
    while (now := time.perf_counter()) < start + seconds:
        due = [int((now - start) * FPS + camera / cameras) for camera in range(cameras)]
        batch = [(camera, index) for camera, index in enumerate(due) if index > last[camera]]
        if not batch:
            time.sleep(0.2e-3)
            continue
        analyzer.update([bench.frame(camera, index) for camera, index in batch])
        done = time.perf_counter()
        rounds += 1
        for camera, index in batch:
            dropped += index - last[camera] - 1
            last[camera] = index
            latencies.append(done - (start + (index - camera / cameras) / FPS))
    offered = max(len(latencies) + dropped, 1)
    late = sum(latency > 0.033 for latency in latencies)
    return _percentiles(latencies) | {
        "rounds": rounds,
        "dropped_share": dropped / offered,
        "later_than_33_ms": (late + dropped) / offered,
    }


def paced(bench: Bench) -> dict[str, Any]:
    """Analyse cameras at their own pace."""
    counts = (1, 2, 4, 8, 16, 32) if bench.on_gpu else (1, 2)
    return {f"{n} cameras": _paced(bench, n, max(0.5, 8 * bench.boxes)) for n in counts}


def offline(bench: Bench) -> dict[str, Any]:
    """Observe a recording in batches of 32 frames."""
    network = AUNetwork.load(device=bench.device)
    config = AnalyzerConfig(explain=ExplainConfig(preset=PRESET))
    observer = Observer(bench, network, config)
    observer.warm_up()
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats(bench.device)
    frames = found = 0
    start = time.perf_counter()
    for turn in bench.box(20).turns(2):
        batch = [bench.frame(0, 32 * turn + n) for n in range(32)]
        found += sum(len(seen.maps) for seen in observer.update(batch))
        frames += len(batch)
    taken = time.perf_counter() - start
    result: dict[str, Any] = {"frames_per_s": frames / taken, "maps_per_s": found / taken}
    if bench.on_gpu:
        result["peak_mib"] = torch.cuda.max_memory_allocated(bench.device) / 2**20
    return result


EXPERIMENTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "environment": environment,
    "maps": maps,
    "analysis": analysis,
    "windows": windows,
    "round": round_counts,
    "roofline": roofline,
    "recordings": recordings,
    "lrp": lrp_peers,
    "single": single,
    "paced": paced,
    "offline": offline,
}


@contextmanager
def _lines(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give what writes a line of JSON to the terminal, and to a file if there is one."""
    file = None if path is None else path.open("w", encoding="utf-8")

    def write(line: dict[str, Any]) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        if file is not None:
            file.write(text + "\n")
            file.flush()

    try:
        yield write
    finally:
        if file is not None:
            file.close()


def attempt(
    name: str, experiment: Callable[[Bench], dict[str, Any]], bench: Bench
) -> dict[str, Any]:
    """Run an experiment; return its line, whatever happens in it."""
    start = time.perf_counter()
    try:
        result = experiment(bench)
        line: dict[str, Any] = {"ok": result.get("right", True), "result": result}
    except Exception as error:  # the others are to run all the same
        last = traceback.format_exc().strip().splitlines()
        line = {"ok": False, "error": f"{type(error).__name__}: {error}", "trace": last[-8:]}
    return {"experiment": name, "seconds": round(time.perf_counter() - start, 2), **line}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--window-device", help="the network's by default, if CuPy is there")
    parser.add_argument("--boxes", type=float, default=1.0, help="factor of all boxes of time")
    parser.add_argument("--budget", type=float, default=600, help="begin nothing after so many s")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--out", type=Path, help="write the lines to a file as well")
    options = parser.parse_args(arguments)
    if not options.boxes > 0:
        parser.error(f"--boxes must be above 0, not {options.boxes:g}")
    start, failed = time.perf_counter(), []
    bench = Bench(options.device, options.window_device or options.device, options.boxes)
    look(bench)
    with _lines(options.out) as write:
        for name in options.only:
            if time.perf_counter() - start > options.budget:
                write({"experiment": name, "ok": False, "error": "no time was left"})
                failed.append(name)
                continue
            line = attempt(name, EXPERIMENTS[name], bench)
            write(line)
            if not line["ok"]:
                failed.append(name)
        write({"done": True, "seconds": round(time.perf_counter() - start, 1), "failed": failed})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
