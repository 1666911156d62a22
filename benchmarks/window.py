"""The sliding window against its peers: time, quality, memory. One JSON and one table.

    python benchmarks/window.py [--quality eval|dev|none] [--seeds N] [--workers N] [--maps N]
                                [--json FILE]

Time is CPU time of this thread, with one thread of BLAS for all (waiting for others would count as
work of the peers), and the contestants take turns map by map, so that a busy machine slows all of
them alike. Peers: scikit-learn's ``SpectralClustering`` on the same graph at every map
(with the number of clusters counted from eigenvalues, which it cannot do itself), and our own exact
clustering of the window (:func:`facestage.core.clustering.spectral.partition`'s steps with LAPACK).

Quality is taken on streams that were not looked at while tuning (``eval``; ``dev`` are those that
were), with the strength of the AU handed over as the mass of its relevance. See
``benchmarks/streams.py``.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import multiprocessing
import pickle
import platform
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from facestage.core.clustering.graph import NO_MAP
from facestage.core.clustering.similarity import DEFAULT_NOISE
from facestage.core.clustering.spectral import SprayPreset, knn_graph, laplacian, partition
from facestage.core.config import WindowConfig
from facestage.core.window import MapInput, WindowBank
from facestage.core.window.graph_bank import GraphBank
from sklearn.cluster import SpectralClustering
from stream_quality import Quality, judge, summary
from streams import make_stream, names
from threadpoolctl import threadpool_limits

TIMED = "medium/3/dev-0"
"""Stream on which time is taken."""
EVERY = 8
"""The slow peers are timed at every so many maps."""


def scikit(x: np.ndarray, config: WindowConfig) -> np.ndarray:
    """Cluster a window as a user of scikit-learn would."""
    graph = knn_graph((x @ x.T).astype(np.float64), config.knn)
    values = np.linalg.eigvalsh(laplacian(graph))
    k = int(np.clip((values < config.tau).sum(), 1, config.max_clusters))
    if k == 1:
        return np.zeros(len(x), int)
    return SpectralClustering(k, affinity="precomputed", random_state=0).fit_predict(graph)


def exact(x: np.ndarray, preset: SprayPreset) -> np.ndarray:
    """Cluster a window by our own exact path."""
    return partition((x @ x.T).astype(np.float64), preset, DEFAULT_NOISE)[0]


def time_single(maps: int, config: WindowConfig) -> dict[str, float]:
    """Return CPU microseconds per map of the window and its peers."""
    x = make_stream(TIMED).descriptors
    preset = SprayPreset(
        "window", knn=config.knn, tau=config.tau, max_clusters=config.max_clusters,
        merge_above=config.split, restarts=3,
    )  # fmt: skip
    banks = {
        "every map": WindowBank(replace(config, every=1)),
        "event-driven": WindowBank(config),
    }
    slots = {name: bank.open() for name, bank in banks.items()}
    clock = time.thread_time
    spent: dict[str, list[float]] = {}
    warm = config.size + 20
    for i in range(warm + maps):
        for name, bank in banks.items():
            begun = clock()
            bank.update([MapInput(slots[name], i, x[i])])
            if i >= warm:
                spent.setdefault(name, []).append(clock() - begun)
        if i >= warm and i % EVERY == 0:
            window = x[i - config.size + 1 : i + 1]
            for name, run in (
                ("scikit-learn", lambda w=window: scikit(w, config)),
                ("own exact", lambda w=window: exact(w, preset)),
            ):
                begun = clock()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a graph in several parts is no fault here
                    run()
                spent.setdefault(name, []).append(clock() - begun)
    return {name: round(float(np.mean(v)) * 1e6, 1) for name, v in spent.items()}


def time_batch(count: int, maps: int, config: WindowConfig) -> dict[str, float]:
    """Return CPU microseconds per map, ``count`` windows together and one by one."""
    x = make_stream(TIMED).descriptors
    config = replace(config, every=1)  # all of them take the spectral step at once
    together, singly = WindowBank(config), WindowBank(config)
    a, b = ([bank.open() for _ in range(count)] for bank in (together, singly))
    rows = np.stack([x[i * 40 :][: config.size + 20 + maps] for i in range(count)], axis=1)
    clock, spent = time.thread_time, np.zeros(2)
    for i, now in enumerate(rows):
        begun = clock()
        together.update([MapInput(slot, i, row) for slot, row in zip(a, now, strict=True)])
        middle = clock()
        for slot, row in zip(b, now, strict=True):
            singly.update([MapInput(slot, i, row)])
        if i >= config.size + 20:
            spent += (middle - begun, clock() - middle)
    each = spent / (maps * count) * 1e6
    return {"together": round(each[0], 1), "one by one": round(each[1], 1)}


def time_graphs(count: int, maps: int, config: WindowConfig) -> dict[str, float]:
    """Return CPU microseconds per map of the spectral step alone: graphs and eigenvectors."""
    x, size = make_stream(TIMED).descriptors, config.size
    together, singly = (GraphBank(config, count, np) for _ in range(2))
    descriptors = np.zeros((count, size, x.shape[1]), np.float32)
    gram = np.full((count, size, size), NO_MAP, np.float32)
    slots, parts = list(range(count)), [1] * count
    clock, spent = time.thread_time, np.zeros(2)
    for i in range(size + 20 + maps):
        place, filled = i % size, min(i + 1, size)
        for a in slots:
            descriptors[a, place] = x[i + 40 * a]
            row = descriptors[a] @ descriptors[a, place]
            row[place] = row[filled:] = NO_MAP
            gram[a, place] = gram[a, :, place] = row
        if filled < config.linkage_below:
            continue
        new = [place] if filled > config.linkage_below else list(range(filled))
        places, counts = np.array([new] * count), [filled] * count
        begun = clock()
        _, _, values = together.advance(slots, gram, places, counts, parts)
        middle = clock()
        for a in slots:
            singly.advance([a], gram[a : a + 1], places[a : a + 1], [filled], [parts[a]])
        if i >= size + 20:
            spent += (middle - begun, clock() - middle)
        parts = np.maximum((values > 1.0 - config.tau).sum(axis=1), 1).tolist()
    each = spent / (maps * count) * 1e6
    return {"together": round(each[0], 1), "one by one": round(each[1], 1)}


def follow(name: str) -> Quality:
    """Run a stream through a window and judge what it shows."""
    stream, bank = make_stream(name), WindowBank()
    slot, last, shown = bank.open(), None, []
    maps = zip(stream.frames.tolist(), stream.descriptors, stream.masses.tolist(), strict=True)
    for frame, x, mass in maps:
        if last is not None and frame > last + 1:
            bank.gap(slot)
        last = frame
        shown.append(bank.update([MapInput(slot, frame, x, mass=mass)])[0].letter)
    return judge(stream.labels, stream.judged, shown)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quality", choices=("eval", "dev", "none"), default="eval")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that take the quality")
    parser.add_argument("--maps", type=int, default=400)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    config = WindowConfig()
    result: dict[str, object] = {"machine": platform.processor() or platform.machine()}

    with threadpool_limits(1):
        single = time_single(args.maps, config)
    result["us_per_map"] = single
    for name in ("every map", "event-driven"):
        print(
            f"{name}: {single[name]:.0f} us per map, scikit-learn "
            f"{single['scikit-learn'] / single[name]:.1f}x, own exact "
            f"{single['own exact'] / single[name]:.1f}x"
        )
    for name, timed in (("12_windows", time_batch), ("12_graphs", time_graphs)):
        with threadpool_limits(1):
            batch = timed(12, 60, config)
        result[f"us_per_map_{name}"] = batch
        ratio = batch["one by one"] / batch["together"]
        what = name.replace("_", " ")
        print(f"{what}: {batch['together']:.0f} us per map together, {ratio:.2f}x of one by one")

    bank = WindowBank(config)
    slot = bank.open()
    x = make_stream(TIMED).descriptors
    sizes = []
    for i in range(3 * len(x)):
        bank.update([MapInput(slot, i, x[i % len(x)])])
        if i % len(x) == len(x) - 1:
            state = bank.__getstate__()
            held = [*state.values(), *state["_graphs"].__getstate__().values()]
            arrays = sum(a[0].nbytes for a in held if isinstance(a, np.ndarray))
            sizes.append(arrays + len(pickle.dumps(bank.track(slot))))
    result["bytes_per_window"] = sizes
    print(f"memory per window without pictures after 1, 2, 3 rounds: {sizes} bytes")

    if args.quality != "none":
        found: dict[str, list[Quality]] = {}
        every = list(names(args.quality, args.seeds))
        every += [f"medium/ar-{k}/{args.quality}-{s}" for k in (1, 2, 3) for s in range(args.seeds)]
        with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
            for name, judged in zip(every, pool.imap(follow, every), strict=True):
                level, scenario, _ = name.split("/")
                key = f"AR .85, {scenario[3:]} patterns" if scenario.startswith("ar-") else level
                found.setdefault(key, []).append(judged)
        result["streams"] = args.quality
        result["quality"] = {key: summary(v) for key, v in found.items()}
        for key, figures in result["quality"].items():
            print(f"{key}: {figures}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
