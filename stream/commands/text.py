"""Phrases that several commands print: what computes, which AUs take part."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from ...core.action_units import GRADE_MARKS, au_code
from ...core.config import ExplainConfig
from ...core.network.card import ModelCard
from ...core.scores.definition import Score
from ...core.types import SequenceResult
from ..protocol.messages import Hello

__all__ = ["device_text", "lrp_text", "scores_text", "selection_text"]


def device_text(name: str) -> str:
    """Name a device; of the CPU, how many threads the network has there."""
    n = torch.get_num_threads()
    return f"{name} ({n} thread{'s' if n > 1 else ''})" if name == "cpu" else name


def lrp_text(facts: Hello | SequenceResult) -> str:
    """Name the presets and the engine that runs them; of the slow one, why it must."""
    reason = f": {facts.lrp_engine_reason}" if facts.lrp_engine_reason else ""
    usual = facts.lrp_precision == ExplainConfig().precision
    precision = "" if usual else f", {facts.lrp_precision}"
    drawn = facts.picture_preset
    pictures = f", pictures {drawn}" if drawn not in ("", facts.lrp_preset) else ""
    return f"{facts.lrp_preset} ({facts.lrp_engine} engine{precision}{reason}){pictures}"


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


def scores_text(scores: Sequence[Score], shown: Collection[int]) -> list[str]:
    """Say in a line for each score how it is made, what is missing, and what must be said."""
    lines: list[str] = []
    for score in scores:
        formula = score.formula
        line = f"{score.name} = {formula.text}, {formula.low:g} to {formula.high:g}"
        missing = [au_code(au) for au in formula.aus if au not in shown]
        if missing:
            verb = "takes" if len(missing) == 1 else "take"
            line += f"; {' '.join(missing)} {verb} no part, so only a range is told (see --aus)"
        lines.append(f"{line}. {score.caution}" if score.caution else line)
    return lines
