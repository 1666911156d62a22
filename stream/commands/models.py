"""The commands ``facestage models list | card | pull | verify``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ...core.action_units import AU_NAMES, GRADE_MARKS, au_code
from ...core.network.au_network import AUNetwork
from ...core.network.card import GRADES, ModelCard
from .. import model_store
from ..console import out

__all__ = ["models_app", "selection_text"]

models_app = typer.Typer(no_args_is_help=True, help="Models: list, read the card, fetch, check.")


@models_app.command("list")
def models_list() -> None:
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


@models_app.command("card")
def models_card(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A .safetensors file; default: the embedded one."),
    ] = None,
) -> None:
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


@models_app.command("pull")
def models_pull(name: Annotated[str, typer.Argument(help="Such as yunet.")]) -> None:
    """Fetch an optional model into the cache and check its sha256."""
    out.print(f"{name}: ready at {model_store.pull(name)}", markup=False)


@models_app.command("verify")
def models_verify(name: Annotated[str, typer.Argument(help="Such as yunet.")]) -> None:
    """Check every byte of a cached model."""
    out.print(f"{name}: sha256 as it should be, {model_store.verify(name)}", markup=False)


def selection_text(card: ModelCard, shown: tuple[int, ...]) -> str:
    """Say in one line which AUs take part, which of them are marked, and which are left out."""
    parts = [f"{len(shown)} shown"]
    for grade, mark in GRADE_MARKS.items():
        marked = [au_code(au) for au in shown if card.grades.get(au) == grade]
        if mark and marked:
            parts.append(f"{mark}: {' '.join(marked)}")
    hidden = [au_code(au) for au in card.aus if au not in shown]
    if hidden:
        parts.append(f"hidden: {' '.join(hidden)}")
    return ", ".join(parts)


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
