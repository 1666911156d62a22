"""Explained facial Action Units, live: which are active, why, and when the explanation changes.

``facestage.core`` holds the algorithms, ``facestage.stream`` what reads cameras and files and
serves the page; :func:`read` gives what they wrote as tables. Research software, not a medical
device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .stream.recording.tables import read

__all__ = ["__version__", "read"]


def __getattr__(name: str) -> object:
    # Neither is needed by most who import the package: both wait until they are asked for.
    if name == "read":
        from .stream.recording.tables import read

        return read
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("facestage")
