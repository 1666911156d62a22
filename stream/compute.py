"""How the processor is used: threads of the numerical libraries, precision of the LRP engine.

Threads of one product of matrices wait for each other. Where another thread or process has a core,
they wait until it lets go: products that take microseconds then take up to a tenth of a second.
Those of OpenMP at least do not spin, see :mod:`~facestage.stream.passive_threads`.
"""

from __future__ import annotations

import os
import time

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from ..core.errors import ConfigError, ModelError
from ..core.lrp import PRECISIONS, explain
from ..core.lrp.api import Reduced
from ..core.network.au_network import AUNetwork

__all__ = ["AUTO", "choose_precision", "cores", "limit_blas", "set_threads", "use_threads"]

AUTO = "auto"
_ROUNDS = 3
_PAIRS = 4
_LEAST_GAIN = 1.1
"""Less than this is not worth other maps than everybody else gets."""


def choose_precision(wanted: str, network: AUNetwork, preset: str) -> str:
    """Return a name of :data:`~facestage.core.lrp.PRECISIONS`.

    ``auto`` explains an empty crop a few times in ``float32`` and in ``bfloat16`` and takes the
    faster one, ``float32`` where the other gains less than a tenth or cannot run; that takes a
    tenth or two of a second, most of it for preparing both.

    Args:
        wanted: ``auto`` or a name.
        network: to explain.
        preset: LRP preset.

    Raises:
        ConfigError: there is no such precision.
    """
    if wanted in PRECISIONS:
        return wanted
    if wanted != AUTO:
        raise ConfigError(
            f"unknown --lrp-precision {wanted!r}; use {AUTO} or {' or '.join(PRECISIONS)}"
        )
    exact = _time(network, preset, PRECISIONS["float32"])
    try:
        reduced = _time(network, preset, PRECISIONS["bfloat16"])
    except (ConfigError, ModelError, RuntimeError):
        return "float32"  # the reference engine, or a device without it
    return "bfloat16" if reduced * _LEAST_GAIN < exact else "float32"


def _time(network: AUNetwork, preset: str, dtype: Reduced) -> float:
    """Return the least seconds of some passes."""
    size = network.card.input_size
    x = network.prepare(np.zeros((1, size, size), np.uint8))
    pairs = [(0, output) for output in range(min(_PAIRS, len(network.card.aus)))]
    taken = []
    for _ in range(1 + _ROUNDS):
        start = time.perf_counter()
        explain(network.logits_module, x, pairs, preset, dtype=dtype).sum().item()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])  # the first prepares


def limit_blas(threads: int) -> None:
    """Let NumPy's and SciPy's products of matrices use so many threads in this process.

    Products of torch are not concerned: they follow ``torch.set_num_threads``. Nothing changes
    where NumPy does not bring OpenBLAS along, as on macOS.

    Args:
        threads: 1 or more.
    """
    ThreadpoolController().select(internal_api="openblas").limit(limits=threads)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(wanted: int | None) -> None:
    """Share the cores out between the network and the rest: capture, decoding, server.

    Threads of the network wait for each other. Even those that sleep meanwhile
    (:mod:`~facestage.stream.passive_threads`) lose time to whatever else has their core.

    Args:
        wanted: threads of the network; None for half the cores.
    """
    torch.set_num_threads(wanted or max(1, cores() // 2))
    limit_blas(1)  # products of windows and sequences are small: more threads made them no faster


def set_threads(threads: int | None) -> None:
    """Let torch use so many threads; None leaves it to torch."""
    if threads is not None:
        torch.set_num_threads(threads)
