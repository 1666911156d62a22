"""The one place that knows NumPy from CuPy.

Array code elsewhere asks :func:`array_namespace` for the module its arrays belong to and calls
functions of that module; it never imports CuPy, which may be absent.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["array_namespace", "to_numpy"]


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


def to_numpy(array: Any) -> NDArray[Any]:
    """Return the array as NumPy's, copied from the GPU if it lives there."""
    return sys.modules["cupy"].asnumpy(array) if _is_cupy(array) else np.asarray(array)
