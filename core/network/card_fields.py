"""Read the fields of a JSON object one by one; an error names the field that is wrong.

A card is written by hand as often as by a program. So each value is checked where it is read, and
the message says which field is wrong, what was expected, and where to look.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError

__all__ = [
    "Facts",
    "Fields",
    "to_array",
    "to_facts",
    "to_integer",
    "to_number",
    "to_text",
    "to_texts",
]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Facts(Mapping[_K, _V]):
    """A mapping that cannot be changed; unlike ``MappingProxyType`` it can be copied and pickled.

    >>> Facts({"seed": 1})
    Facts({'seed': 1})
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[_K, _V]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: _K) -> _V:
        return self._items[key]

    def __iter__(self) -> Iterator[_K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Facts({self._items!r})"


class Fields:
    """Reads the fields of a JSON object; an error names the field that is wrong.

    Args:
        data: the object.
        path: of the object in the card, ending in a dot; empty for the card itself.
    """

    def __init__(self, data: Mapping[str, Any], path: str = "") -> None:
        self.data = data
        self.path = path

    def fail(self, key: str, why: str) -> ModelError:
        """Return the error that names a field, what is wrong with it and what to do."""
        return ModelError(
            f"model card: field {self.path + key!r} {why}; correct it in the card (that of the "
            "embedded network, in core/weights, shows the fields)"
        )

    # The default is a keyword argument, so that None can be one; a field without one is required.
    def get(self, key: str, convert: Callable[[Any], Any], expected: str, **default: Any) -> Any:
        """Return a field converted, or its ``default``; raise what :meth:`fail` returns."""
        if key not in self.data:
            if "default" in default:
                return default["default"]
            raise self.fail(key, f"is missing, expected {expected}")
        try:
            return convert(self.data[key])
        except (TypeError, ValueError, KeyError) as error:
            found = reprlib.repr(self.data[key])
            raise self.fail(key, f"is {found}, expected {expected}") from error

    def text(self, key: str, **default: Any) -> str:
        """Return a field that is a text and not blank."""
        return self.get(key, to_text, "a text", **default)

    def number(self, key: str, low: float, high: float, **default: Any) -> float:
        """Return a field that is a number from ``low`` to ``high``."""
        convert = to_number(low, high)
        return self.get(key, convert, f"a number from {low:g} to {high:g}", **default)

    def integer(self, key: str, low: int, high: int) -> int:
        """Return a field that is a whole number from ``low`` to ``high``."""
        return self.get(key, to_integer(low, high), f"a whole number from {low} to {high}")

    def array(self, key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return a field as float32 array of this shape; its numbers are finite."""
        return self.get(key, to_array(shape), f"finite numbers of shape {shape}")

    def part(self, key: str) -> Fields:
        """Return a field that is an object, as fields of its own."""
        value = self.data.get(key)
        if not isinstance(value, Mapping):
            raise self.fail(key, "is missing or not an object")
        return Fields(value, f"{self.path}{key}.")


def to_text(value: Any) -> str:
    """Return a text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def to_texts(value: Any) -> tuple[str, ...]:
    """Return a list of texts as a tuple."""
    if not isinstance(value, list):
        raise TypeError
    return tuple(to_text(item) for item in value)


def to_number(low: float, high: float) -> Callable[[Any], float]:
    """Return a reader of finite numbers from ``low`` to ``high``."""

    def convert(value: Any) -> float:
        # bool is an int to Python; in a card it is a mistake.
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError
        if not low <= value <= high:
            raise ValueError
        return float(value)

    return convert


def to_integer(low: int, high: int) -> Callable[[Any], int]:
    """Return a reader of whole numbers from ``low`` to ``high``."""

    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError
        if not low <= value <= high:
            raise ValueError
        return value

    return convert


def to_array(shape: tuple[int, ...]) -> Callable[[Any], NDArray[np.float32]]:
    """Return a reader of finite numbers of this shape; what it returns cannot be written to."""

    def convert(value: Any) -> NDArray[np.float32]:
        array = np.asarray(value, np.float32)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError
        array.flags.writeable = False
        return array

    return convert


def to_facts(value: Any) -> Facts[str, Any]:
    """Return a JSON object that cannot be changed: objects as :class:`Facts`, lists as tuples."""
    if not isinstance(value, Mapping):
        raise TypeError
    return Facts({key: _frozen(item) for key, item in value.items()})


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return to_facts(value)
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    # Python reads NaN and Infinity, which JSON does not have; other readers would fail.
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value
