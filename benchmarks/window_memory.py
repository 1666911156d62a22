"""Memory of a sliding window over a very long time: the bank and the whole process.

    python benchmarks/window_memory.py [--maps N] [--json FILE]

One window takes a million maps, streams of two levels of difficulty over and over, with full-size
maps handed along as the live page does. At every power of ten it is written down how much the bank
holds (arrays, prototypes and letters, as pickled) and how large the process is. What grows with
time shows between the last two lines.
"""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import argparse
import itertools
import json
import pickle
import time
from pathlib import Path

import numpy as np
from facestage.core.window import MapInput, WindowBank
from streams import make_stream

NAMES = ("easy/3/dev-0", "medium/return/dev-0", "medium/3/dev-1", "easy/2/dev-1")
"""Streams that take turns."""
PICTURE = 96
"""Side of the full-size maps, pixels."""


def resident() -> int:
    """Return the memory of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", type=int, default=10**6)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    streams = [make_stream(name) for name in NAMES]
    picture = np.random.default_rng(0).standard_normal((PICTURE, PICTURE)).astype(np.float32)
    bank = WindowBank()
    slot, frame, shown, rows = bank.open(), 0, set(), []
    begun = time.thread_time()
    done = 0
    for stream in itertools.cycle(streams):
        last = None
        for index, x, mass in zip(stream.frames, stream.descriptors, stream.masses, strict=True):
            if last is None or index > last + 1:
                bank.gap(slot)
            last = index
            update = bank.update([MapInput(slot, frame, x, picture, float(mass))])[0]
            shown.add(update.letter)
            frame, done = frame + 1, done + 1
            if done >= 1000 and done in (10 ** (len(str(done)) - 1), args.maps):
                row = {
                    "maps": done,
                    "bank_bytes": len(pickle.dumps(bank)),
                    "process_bytes": resident(),
                    "us_per_map": round((time.thread_time() - begun) / done * 1e6, 1),
                    "letters_alive": len(bank.track(slot).letters),
                    "letters_shown": len(shown),
                }
                rows.append(row)
                print(row, flush=True)
                if args.json:
                    args.json.write_text(json.dumps(rows, indent=1) + "\n")
            if done == args.maps:
                return


if __name__ == "__main__":
    main()
