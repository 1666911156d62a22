"""A device made of NumPy: its arrays live "elsewhere", as CuPy's do, and never come by accident.

CuPy raises where NumPy would silently take its array; so does this twin. What is handed over goes
through ``asnumpy``, and its shape is written down. Launches, waits and uploads are counted.

Linear algebra answers as CuPy's does, which looks at no status: a Cholesky factor of a matrix that
is not positive is what cuSOLVER leaves behind, the inverse of a singular one is infinite, and no
error is raised.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.linalg import get_lapack_funcs

__all__ = ["COUNTS", "KERNELS", "Device"]


COUNTS: Counter[str] = Counter()
"""What was asked of the device: ``launch``, ``wait``, ``upload``."""
KERNELS: set[str] = set()
"""Names of the functions that were launched, with the dtypes of their arrays: a GPU compiles one
kernel for each."""
_NO_LAUNCH = {"reshape", "transpose", "diagonal", "empty", "empty_like", "ravel", "view"}
_WAITING = {"nonzero", "flatnonzero", "tolist", "item", "unique", "argwhere"}


def _launch(name: str, *arrays: Any) -> None:
    COUNTS["launch"] += 1
    dtypes = [str(np.asarray(_own(a)).dtype) for a in arrays if isinstance(a, DeviceArray)]
    KERNELS.add(f"{name.strip('_')}({', '.join(dtypes)})")


def _count_index(at: Any, *, gather: bool) -> None:
    parts = at if isinstance(at, tuple) else (at,)
    listed = sum(isinstance(part, list) for part in parts)
    COUNTS["upload"] += listed
    arrays = [part for part in parts if isinstance(part, DeviceArray)]
    COUNTS["launch"] += bool(gather and (listed or arrays))
    COUNTS["wait"] += any(gather and part.dtype == bool for part in arrays)


class DeviceArray:
    """An array on the device. Operations between it and an array of NumPy are refused."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("implicit conversion of a device array to NumPy is not allowed")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._values, name)
        return _lifted(found) if callable(found) else _there(found)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return (DeviceArray(np.asarray(row)) for row in self._values)

    def __getitem__(self, at: Any) -> DeviceArray:
        _count_index(at, gather=True)
        return DeviceArray(np.asarray(self._values[_own(at)]))

    def __setitem__(self, at: Any, values: Any) -> None:
        _count_index(at, gather=False)
        COUNTS["launch"] += 1
        self._values[_own(at)] = _own(values)

    def __bool__(self) -> bool:
        COUNTS["wait"] += 1
        return bool(self._values)

    def __int__(self) -> int:
        COUNTS["wait"] += 1
        return int(self._values)

    def __index__(self) -> int:
        COUNTS["wait"] += 1
        return self._values.__index__()

    def __float__(self) -> float:
        COUNTS["wait"] += 1
        return float(self._values)


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: DeviceArray, *others: Any) -> Any:
        _launch(name, self, *others)
        return _there(getattr(np.asarray(self._values), name)(*map(_own, others)))

    return apply


def _in_place(name: str) -> Callable[..., Any]:
    def apply(self: DeviceArray, other: Any) -> DeviceArray:
        _launch(name, self, other)
        self._values = getattr(self._values, name)(_own(other))
        return self

    return apply


_BINARY = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "matmul", "pow", "and", "or", "xor"),
    *("lshift", "rshift"),
)
for _name in _BINARY:
    setattr(DeviceArray, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(DeviceArray, f"__r{_name}__", _operator(f"__r{_name}__"))
    setattr(DeviceArray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in ("neg", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(DeviceArray, f"__{_name}__", _operator(f"__{_name}__"))
DeviceArray.__array_priority__ = 1000.0  # type: ignore[attr-defined]
DeviceArray.__array_ufunc__ = None  # type: ignore[attr-defined]


def _own(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError("an array of NumPy met one of the device")
    if isinstance(value, (tuple, list)):
        return type(value)(_own(part) for part in value)
    return value


def _there(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return DeviceArray(np.asarray(value))
    if isinstance(value, tuple) and any(isinstance(part, np.ndarray) for part in value):
        return tuple(_there(part) for part in value)
    return value


def _lifted(function: Callable[..., Any]) -> Callable[..., Any]:
    name = getattr(function, "__name__", "")

    def call(*args: Any, **options: Any) -> Any:
        if name not in _NO_LAUNCH:
            _launch(name, *args)
        COUNTS["wait"] += name in _WAITING
        own = {key: _own(value) for key, value in options.items()}
        made = function(*map(_own, args), **own)
        # As in NumPy, the answer is the very array that was given to be written to.
        return options["out"] if options.get("out") is not None else _there(made)

    return call


class Device(ModuleType):
    """Stands in for the module ``cupy``.

    Attributes:
        handed_over: shapes of the arrays that came back to the CPU.
    """

    ndarray = DeviceArray

    def __init__(self) -> None:
        super().__init__("cupy")
        self.handed_over: list[tuple[int, ...]] = []
        self.linalg = _LinearAlgebra()
        self.cuda = _Cuda()
        COUNTS.clear()

    @staticmethod
    def install(monkeypatch: pytest.MonkeyPatch) -> Device:
        """Let ``import cupy`` give a fresh device until the test ends."""
        device = Device()
        monkeypatch.setitem(sys.modules, "cupy", device)
        return device

    def asnumpy(self, array: DeviceArray) -> np.ndarray:
        """Hand an array over."""
        COUNTS["wait"] += 1
        self.handed_over.append(array._values.shape)
        return array._values.copy()

    def asarray(self, values: Any, dtype: Any = None) -> DeviceArray:
        """Take an array in."""
        COUNTS["upload"] += not isinstance(values, DeviceArray)
        own = values._values if isinstance(values, DeviceArray) else values
        return DeviceArray(np.asarray(own, dtype=dtype))

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        return found if isinstance(found, type) or not callable(found) else _lifted(found)


class _LinearAlgebra:
    """``cupy.linalg``: nothing is raised, whatever the matrices."""

    def __getattr__(self, name: str) -> Any:
        return _lifted(getattr(np.linalg, name))

    def cholesky(self, a: DeviceArray) -> DeviceArray:
        """Return lower factors; where one does not exist, what was done until then."""
        COUNTS["launch"] += 1
        (potrf,) = get_lapack_funcs(("potrf",), dtype=a._values.dtype)
        factors = [potrf(matrix, lower=1, clean=1)[0] for matrix in _matrices(a)]
        return DeviceArray(np.reshape(factors, a._values.shape))

    def inv(self, a: DeviceArray) -> DeviceArray:
        """Return inverses; infinite ones of singular matrices."""
        COUNTS["launch"] += 1
        return DeviceArray(np.reshape([_inverse(m) for m in _matrices(a)], a._values.shape))

    def eigh(self, a: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
        """Return eigenvalues and vectors; NaN for a matrix that is not finite."""
        COUNTS["launch"] += 1
        pairs = [_eigenpairs(matrix) for matrix in _matrices(a)]
        shape = a._values.shape
        values, vectors = zip(*pairs, strict=True)
        return (
            DeviceArray(np.reshape(values, shape[:-1])),
            DeviceArray(np.reshape(vectors, shape)),
        )


def _matrices(a: DeviceArray) -> np.ndarray:
    return a._values.reshape(-1, *a._values.shape[-2:])


def _inverse(matrix: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.full_like(matrix, np.inf)


def _eigenpairs(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        if np.isfinite(matrix).all():
            values, vectors = np.linalg.eigh(matrix)
            return values, vectors
    except np.linalg.LinAlgError:
        pass
    return np.full_like(matrix[0], np.nan), np.full_like(matrix, np.nan)


class _Cuda:
    """``cupy.cuda`` with one device."""

    class Device:
        """A device; entering it makes it current."""

        def __init__(self, number: int) -> None:
            self.id = number

        def use(self) -> None:
            """Make it current."""

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *failure: object) -> None:
            pass

    class ExternalStream(Device):
        """A stream of another library."""

    class Stream:
        """Streams of CuPy are not used."""

    class runtime:  # noqa: N801
        """What tells how many devices there are."""

        CUDARuntimeError = RuntimeError

        @staticmethod
        def getDeviceCount() -> int:  # noqa: N802
            """Return how many devices there are."""
            return 1
