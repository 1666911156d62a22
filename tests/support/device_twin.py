"""A device made of NumPy: its arrays live "elsewhere", as CuPy's do, and never come by accident.

CuPy raises where NumPy would silently take its array; so does this twin. What is handed over goes
through ``asnumpy``, and its shape is written down.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

__all__ = ["Device"]


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
        return DeviceArray(np.asarray(self._values[_own(at)]))

    def __setitem__(self, at: Any, values: Any) -> None:
        self._values[_own(at)] = _own(values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __int__(self) -> int:
        return int(self._values)

    def __float__(self) -> float:
        return float(self._values)


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: DeviceArray, *others: Any) -> Any:
        return _there(getattr(np.asarray(self._values), name)(*map(_own, others)))

    return apply


for _name in (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "matmul", "rmatmul"),
    *("neg", "and", "or", "invert", "lt", "le", "gt", "ge", "eq", "ne", "pow"),
):
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
    def call(*args: Any, **options: Any) -> Any:
        own = {key: _own(value) for key, value in options.items()}
        return _there(function(*map(_own, args), **own))

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
        self.linalg = _Functions(np.linalg)

    @staticmethod
    def install(monkeypatch: pytest.MonkeyPatch) -> Device:
        """Let ``import cupy`` give a fresh device until the test ends."""
        device = Device()
        monkeypatch.setitem(sys.modules, "cupy", device)
        return device

    def asnumpy(self, array: DeviceArray) -> np.ndarray:
        """Hand an array over."""
        self.handed_over.append(array._values.shape)
        return array._values.copy()

    def asarray(self, values: Any, dtype: Any = None) -> DeviceArray:
        """Take an array in."""
        own = values._values if isinstance(values, DeviceArray) else values
        return DeviceArray(np.asarray(own, dtype=dtype))

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        return found if isinstance(found, type) or not callable(found) else _lifted(found)


class _Functions:
    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return _lifted(getattr(self._module, name))
