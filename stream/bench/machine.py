"""What the machine is, and whether it was as fast afterwards as before.

A figure of a shared machine is worth nothing without that: half of the cores may have gone to
somebody else meanwhile. So a product of matrices and a copy of memory are timed before and after,
each as its best of several, and a loss of more than :data:`MOST_LOST` is said.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..compute import cores
from .figures import Environment, MachineSpeed

__all__ = ["MOST_LOST", "describe_machine", "is_as_fast", "measure_machine", "peak_memory_mb"]

MOST_LOST = 0.15
"""Share of its speed that a machine may lose while it is measured."""

_SIDE = 1024
_COPY_BYTES = 64 << 20
_LEAST_S = 0.25
"""Seconds for each of the two."""
_VARIABLES = ("OMP_", "KMP_", "GOMP_", "MKL_", "ONEDNN_", "DNNL_", "OPENBLAS_", "CUDA_", "NVIDIA_")
_FLAGS = ("sse4_2", "avx", "fma", "f16c", "neon", "asimd", "sve", "amx", "bf16")


def measure_machine(
    device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> MachineSpeed:
    """Time products of matrices on a device and copies in main memory.

    Args:
        device: the network's.
        clock: seconds.
    """
    a = torch.rand(_SIDE, _SIDE, device=device)
    b, source = torch.empty_like(a), np.ones(_COPY_BYTES, np.uint8)
    target = np.empty_like(source)

    def multiply() -> None:
        torch.mm(a, a, out=b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return MachineSpeed(
        gemm_gflops=round(2e-9 * _SIDE**3 / _best(multiply, clock), 2),
        copy_gb_per_s=round(
            2e-9 * _COPY_BYTES / _best(lambda: np.copyto(target, source), clock), 2
        ),
        load=None if load is None else round(load, 2),
    )


def _best(work: Callable[[], None], clock: Callable[[], float]) -> float:
    """Return the least seconds of some runs; the first prepares."""
    work()
    least, end = float("inf"), clock() + _LEAST_S
    while True:
        start = clock()
        work()
        least = min(least, clock() - start)
        if clock() >= end:
            return max(least, 1e-9)


def is_as_fast(before: MachineSpeed, after: MachineSpeed) -> bool:
    """Tell whether a machine lost no more than :data:`MOST_LOST`."""
    kept = 1.0 - MOST_LOST
    return (
        after.gemm_gflops >= kept * before.gemm_gflops
        and after.copy_gb_per_s >= kept * before.copy_gb_per_s
    )


def describe_machine(
    device: torch.device, *, model: str, detector: str, precision: str
) -> Environment:
    """Say what the machine and its libraries are; the rest is passed on."""
    gpu: dict[str, Any] = {}
    if device.type == "cuda":
        gpu = {"gpu": torch.cuda.get_device_name(device), "driver": _driver()}
    cpu, flags = _processor()
    return Environment(
        facestage=importlib.metadata.version("facestage"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        model=model,
        device=str(device),
        detector=detector,
        precision=precision,
        cpu=cpu,
        cpu_flags=flags,
        cores=os.cpu_count() or 1,
        affinity=cores(),
        torch_threads=torch.get_num_threads(),
        variables={k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
        torch=str(torch.__version__),
        numpy=np.__version__,
        opencv=cv2.__version__,
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version() if torch.version.cuda else None,
        cupy=_version("cupy-cuda13x") or _version("cupy-cuda12x") or _version("cupy"),
        tf32=bool(torch.backends.cuda.matmul.allow_tf32),
        **gpu,
    )


def peak_memory_mb() -> float:
    """Return the most memory this process had so far, MB (10⁶ bytes); 0 if the system is silent."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if platform.system() == "Darwin" else 1024) / 1e6


def _processor() -> tuple[str, tuple[str, ...]]:
    """Return the processor's name and those of its abilities that matter for products."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:  # not on Linux
        return platform.processor() or platform.machine(), ()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    kept = tuple(sorted(flag for flag in flags if flag.startswith(_FLAGS) or flag in _FLAGS))
    return fields.get("model name") or platform.machine(), kept


def _driver() -> str | None:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    return text.splitlines()[0].strip() if text.strip() else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
