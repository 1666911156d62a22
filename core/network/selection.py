"""Which AUs of a network take part: the reliable ones, unless the user asks for others.

An AU that does not take part is still predicted, as one forward pass predicts all AUs. But it is
never active: no relevance map, no prototype, no stage.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..action_units import au_code
from ..errors import ConfigError

if TYPE_CHECKING:
    from .card import ModelCard


__all__ = ["ALL", "RELIABLE", "SHOWN", "parse_aus", "select_aus", "staging_aus"]

SHOWN = "shown"
"""The word for the AUs graded A or B, or for all AUs of a network without grades."""
ALL = "all"
"""The word for every AU of the network."""
RELIABLE = "A"
"""The word for the AUs graded A."""

_NUMBER = re.compile(r"(?:AU)?(\d{1,3})", re.IGNORECASE)


def parse_aus(text: str) -> str | tuple[int, ...]:
    """Read a selection as a user writes it.

    Args:
        text: ``shown``, ``all``, ``A``, or AU numbers separated by commas, with or without ``AU``.

    Returns:
        One of the three words, or the numbers, ascending and each once.

    Raises:
        ConfigError: the text is none of these.

    >>> parse_aus("AU12,4, 12")
    (4, 12)
    >>> parse_aus("Shown")
    'shown'
    """
    words = {word.lower(): word for word in (SHOWN, ALL, RELIABLE)}
    wanted = text.strip()
    if wanted.lower() in words:
        return words[wanted.lower()]
    found = [_NUMBER.fullmatch(part.strip()) for part in wanted.split(",")]
    numbers = [int(match[1]) for match in found if match is not None]
    if len(numbers) < len(found):
        raise ConfigError(
            f"{text!r} names no Action Units; use {SHOWN}, {ALL}, {RELIABLE}, or numbers such as "
            "1,2,12"
        )
    return tuple(sorted(set(numbers)))


def select_aus(card: ModelCard, wanted: str | tuple[int, ...]) -> tuple[int, ...]:
    """Return the AUs of a network that take part.

    Args:
        card: the network's.
        wanted: a word or numbers, as :func:`parse_aus` returns them.

    Returns:
        AU numbers in the order of the card.

    Raises:
        ConfigError: the network lacks an AU that was asked for, has no grades to choose by, or no
            AU of the wanted grades.
    """
    if not isinstance(wanted, str):
        missing = [au for au in wanted if au not in card.aus]
        if missing or not wanted:
            what = f"has no {', '.join(map(au_code, missing))}" if missing else "was given no AU"
            raise ConfigError(f"{card.name} {what}; it has {', '.join(str(au) for au in card.aus)}")
        return tuple(au for au in card.aus if au in wanted)
    if wanted == ALL or (wanted == SHOWN and not card.grades):
        return card.aus
    if wanted not in (SHOWN, RELIABLE):
        raise ConfigError(
            f"unknown choice of Action Units {wanted!r}; use {SHOWN}, {ALL}, {RELIABLE}, or numbers"
        )
    if not card.grades:
        raise ConfigError(
            f"the card of {card.name} gives its Action Units no grades, so none is graded "
            f"{RELIABLE}; use {ALL}, or numbers"
        )
    grades = (RELIABLE,) if wanted == RELIABLE else ("A", "B")
    chosen = tuple(au for au in card.aus if card.grades[au] in grades)
    if not chosen:
        raise ConfigError(
            f"no Action Unit of {card.name} is graded {' or '.join(grades)}; use {ALL}, or numbers"
        )
    return chosen


def staging_aus(
    card: ModelCard, taking_part: tuple[int, ...], wanted: str | tuple[int, ...]
) -> tuple[int, ...]:
    """Return the AUs that make stages, of those that take part.

    Args:
        card: the network's.
        taking_part: as :func:`select_aus` chose them.
        wanted: ``shown`` or ``all``: each that takes part; ``A``: those graded A; or numbers.

    Returns:
        AU numbers in the order of the card; with ``A`` there may be none, so that the only stages
        are those of a face and of none.

    Raises:
        ConfigError: an AU that was asked for does not take part, or the network has no grades.
    """
    if wanted in (SHOWN, ALL):
        return taking_part
    if isinstance(wanted, str):
        reliable = select_aus(card, wanted)
        return tuple(au for au in taking_part if au in reliable)
    strange = [au_code(au) for au in wanted if au not in taking_part]
    if strange:
        raise ConfigError(
            f"{', '.join(strange)} cannot make stages without taking part; add them to --aus, or "
            "leave them out of --stage-aus"
        )
    return tuple(au for au in taking_part if au in wanted)
