"""The AU network, its card, and what prepares it: aligned grey crops → presence and intensity.

Names are imported on first use, so that a card, or the choice of AUs, can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .au_network import AUNetwork, Prediction, resolve_device
    from .card import ModelCard, Normalisation
    from .selection import parse_aus, select_aus

__all__ = [
    "AUNetwork",
    "ModelCard",
    "Normalisation",
    "Prediction",
    "parse_aus",
    "resolve_device",
    "select_aus",
]

_HOMES = {
    "AUNetwork": "au_network",
    "ModelCard": "card",
    "Normalisation": "card",
    "Prediction": "au_network",
    "parse_aus": "selection",
    "resolve_device": "au_network",
    "select_aus": "selection",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    return value
