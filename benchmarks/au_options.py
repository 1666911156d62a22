"""What the command lines of the benchmarks of an AU network have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from au_evidence import VIEWS
from facestage.core.errors import FacestageError

__all__ = ["network_options", "run_command"]

RESULTS = Path(__file__).resolve().parent / "results"


def network_options(description: str | None, out: str) -> argparse.ArgumentParser:
    """Return a parser of the options that say which network is judged, and on what.

    Args:
        description: docstring of the benchmark; its first line is shown.
        out: name of the JSON file in ``results`` that is written by default.
    """
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, help="safetensors file (default: embedded)")
    parser.add_argument("--views", type=int, default=VIEWS, help="rendered views to judge by")
    parser.add_argument("--cache", type=Path, help="folder that keeps the crops of YuNet")
    parser.add_argument("--shared", type=Path, help="folder of the real clips")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    parser.add_argument("--out", type=Path, default=RESULTS / out, help="JSON file to write")
    return parser


def run_command(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], None], name: str
) -> None:
    """Parse the command line and run a benchmark on one thread; end with one line on an error.

    Args:
        parser: of :func:`network_options`, with the benchmark's own options.
        run: the benchmark.
        name: of the benchmark, for the error.
    """
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        run(options)
    except FacestageError as error:
        parser.exit(error.exit_code, f"{name}: {error}\n")
