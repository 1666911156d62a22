"""The one place that knows NumPy from CuPy.

Array code elsewhere asks :func:`array_namespace` for the module its arrays belong to (or
:func:`namespace` for that of a device) and calls functions of that module; it never imports CuPy,
which may be absent.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DeviceError

__all__ = ["array_namespace", "is_numpy", "namespace", "to_numpy"]


def namespace(device: str) -> ModuleType:
    """Return the array module of a device and make that device the current one.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        DeviceError: a GPU is asked for, and CuPy, a driver or that device is missing.
    """
    if device == "cpu":
        return np
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number.isdigit() or not number):
        raise DeviceError(f"there is no array device {device!r}; use cpu, cuda or cuda:N")
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise DeviceError(
            f"arrays on {device} need CuPy, which cannot be imported ({error}); install "
            "'facestage[cuda]' (CUDA 13) or 'facestage[cuda12]', or use --window-device cpu"
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"CuPy finds no working CUDA driver for {device} ({error}); install NVIDIA's driver, "
            "choose the extra of its CUDA version ('facestage[cuda]' for 13, 'facestage[cuda12]'), "
            "or use --window-device cpu"
        ) from error
    if int(number or 0) >= count:
        raise DeviceError(
            f"{device} does not exist, CuPy sees {count} device(s); choose one below cuda:{count} "
            "or use --window-device cpu"
        )
    if number:
        cupy.cuda.Device(int(number)).use()
    return cupy


def _is_cupy(array: object) -> bool:
    # An array of CuPy exists only where CuPy was imported already; nothing is imported to find out.
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


def array_namespace(*arrays: object) -> ModuleType:
    """Return the module whose functions work on these arrays.

    Args:
        *arrays: arrays of one kind, or Python numbers and sequences (they count as NumPy).

    Returns:
        ``cupy`` if the arrays live on a GPU, else ``numpy``.

    Raises:
        TypeError: NumPy and CuPy arrays are mixed; moving data between devices is never implicit.
    """
    on_gpu = [_is_cupy(array) for array in arrays]
    if not any(on_gpu):
        return np
    if any(isinstance(array, np.ndarray) for array in arrays):
        raise TypeError(
            "NumPy and CuPy arrays cannot be mixed; move all to one side first "
            "(facestage.core.backend.to_numpy, or cupy.asarray)"
        )
    return sys.modules["cupy"]


def is_numpy(module: ModuleType) -> bool:
    """Tell whether an array module is NumPy, whose arrays need no transfer."""
    return module is np


def to_numpy(array: Any) -> NDArray[Any]:
    """Return the array as NumPy's, copied from the GPU if it lives there."""
    return sys.modules["cupy"].asnumpy(array) if _is_cupy(array) else np.asarray(array)
