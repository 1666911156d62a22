"""``facestage models list | card | pull | verify``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.action_units import AU_NAMES, au_code
from ...core.network.au_network import AUNetwork
from ...core.network.card import GRADES, ModelCard
from .. import model_store
from ..console import out

__all__ = ["list_models", "print_card", "pull_model", "verify_model"]


def list_models() -> None:
    """List the embedded network with its grades, and the optional models, if at hand or not."""
    card = AUNetwork.load(device="cpu").card
    out.print(
        f"{card.name}  embedded  AU network, {len(card.aus)} AUs: "
        + " ".join(au_code(au) for au in card.aus),
        markup=False,
    )
    for line in _grade_lines(card):
        out.print(f"  {line}", markup=False)
    for status in model_store.list_models():
        out.print(
            f"{status.file.name}  {status.state}  {status.file.purpose} "
            f"({status.file.licence}); {status.path}",
            markup=False,
        )


def print_card(model: Path | None) -> None:
    """Print the model card of a network: grades and figures per AU, data, recipe, limits."""
    card = AUNetwork.load(model, device="cpu").card
    out.print(f"{card.name} {card.version}, {card.architecture}", markup=False)
    for name in ("trained_on", "intended_use", "licence", "sha256"):
        out.print(f"{name.replace('_', ' ')}: {getattr(card, name)}", markup=False)
    for line in (*_grade_lines(card), *_figure_lines(card)):
        out.print(line, markup=False)
    for name, facts in (("data", card.data), ("recipe", card.recipe)):
        if facts:
            out.print(f"{name}: {json.dumps(facts, default=_plain, indent=2)}", markup=False)
    for limit in card.limits:
        out.print(f"limit: {limit}", markup=False)
    if card.notice:
        out.print(f"notice: {card.notice}", markup=False)


def pull_model(name: str) -> None:
    """Fetch an optional model into the cache and check its sha256."""
    out.print(f"{name}: ready at {model_store.pull(name)}", markup=False)


def verify_model(name: str) -> None:
    """Check every byte of a cached model."""
    out.print(f"{name}: sha256 as it should be, {model_store.verify(name)}", markup=False)


def _grade_lines(card: ModelCard) -> Iterator[str]:
    if not card.grades:
        yield "no grades in its card: every AU is shown"
        return
    for grade, meaning in GRADES.items():
        aus = [au_code(au) for au in card.aus if card.grades[au] == grade]
        yield f"grade {grade} ({meaning}): {' '.join(aus) or 'none'}"


def _figure_lines(card: ModelCard) -> Iterator[str]:
    """Yield a line per AU with its grade and the figures of its evaluation."""
    for au in card.aus:
        figures = card.evaluation.get(str(au))
        values = ""
        if isinstance(figures, Mapping):
            values = ", ".join(
                f"{name} {'–' if value is None else value}" for name, value in figures.items()
            )
        grade = card.grades.get(au, "–")
        yield f"{au_code(au)}  {grade}  {AU_NAMES.get(au, ''):<22}  {values}".rstrip()


def _plain(value: Any) -> Any:
    """Return a read-only mapping as ``json`` takes it."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
