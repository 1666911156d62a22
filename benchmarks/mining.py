"""Time the relations and the mining on synthetic corpora of temporal prototypes.

    python benchmarks/mining.py [--prototypes 10000]

Prototypes are made like those of recordings: each of seven labels has a script of a few stages;
a prototype follows it with stages left out, labels added and dropped, letters changed, and pauses
in between. ``short`` resembles CK+ (6 stages on average), ``long`` the Actor Study (18); both reach
50 stages. Times are CPU seconds of one core.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import json
import random
import time

from facestage.core.corpus.mining import mine_closed
from facestage.core.corpus.relations import TemporalPrototype, inclusion_order
from facestage.core.types import NONE

AUS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 43)
MOST = 50


def corpus(count: int, mean: float, seed: int) -> tuple[list[TemporalPrototype], list[str]]:
    """Return prototypes and their labels."""
    rng = random.Random(seed)
    scripts = {
        f"label{n}": [
            frozenset(rng.sample(AUS, rng.randint(1, 4))) for _ in range(rng.randint(2, 5))
        ]
        for n in range(7)
    }
    prototypes, labels = [], []
    for _ in range(count):
        label = rng.choice(sorted(scripts))
        length = min(MOST, max(1, round(rng.gammavariate(2.0, mean / 2.0))))
        stages = [NONE]
        while len(stages) < length:
            base = scripts[label][len(stages) * len(scripts[label]) // (length + 1)]
            aus = {au for au in base if rng.random() < 0.85}
            aus |= {au for au in AUS if rng.random() < 0.04}
            stage = tuple(f"AU{au:02d}_{rng.choices('ABC', (85, 12, 3))[0]}" for au in sorted(aus))
            if (stage or NONE) != stages[-1]:
                stages.append(stage or NONE)
        prototypes.append(tuple(stages))
        labels.append(label)
    return prototypes, labels


def main() -> None:
    """Print one line of JSON per measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prototypes", type=int, default=10_000)
    parser.add_argument("--supports", type=float, nargs="+", default=[0.2, 0.12, 0.1, 0.05, 0.02])
    parser.add_argument("--budget", type=int, default=250_000)
    options = parser.parse_args()
    for name, mean in (("short", 6.0), ("long", 18.0)):
        prototypes, labels = corpus(options.prototypes, mean, seed=1)
        stages = sum(map(len, prototypes)) / len(prototypes)
        longest = max(map(len, prototypes))
        facts = {"corpus": name, "prototypes": len(prototypes), "mean_stages": round(stages, 2)}
        print(json.dumps({**facts, "longest": longest, "distinct": len(set(prototypes))}))
        for share in options.supports:
            least = max(2, round(share * len(prototypes)))
            began = time.process_time()
            mined = mine_closed(prototypes, min_support=least, labels=labels, budget=options.budget)
            seconds = time.process_time() - began
            found = {"visited": mined.visited, "patterns": len(mined.patterns)}
            asked = {"asked_support": least, "min_support": mined.min_support}
            figures = {**asked, "cpu_s": round(seconds, 2), **found}
            print(json.dumps({**facts, **figures, "complete": mined.complete}), flush=True)
            if not mined.complete:
                break  # with less support the search would end at the same place
        began = time.process_time()
        order = inclusion_order(sorted(set(prototypes)))
        seconds = time.process_time() - began
        related = {"inclusions": int(order.included.sum()), "covers": len(order.covers)}
        print(json.dumps({**facts, "order_cpu_s": round(seconds, 2), **related}), flush=True)


if __name__ == "__main__":
    main()
