"""What a score is: its name, its formula and what is to be said beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import ConfigError
from .formula import Formula

__all__ = ["KNOWN", "PSPI", "Score", "parse_scores"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,23}")
_TAKEN = re.compile(r"AU\d+|baseline|face|file|frame|pitch|roll|stage|time|yaw", re.IGNORECASE)
"""Names of other columns of ``frames.csv``."""
MOST_SCORES = 8
"""More scores are not followed at once."""


@dataclass(frozen=True, slots=True)
class Score:
    """A score.

    Attributes:
        name: letters and digits, a letter first; names its columns, too.
        formula: how it is made of the AUs' intensities.
        source: who defined it; empty for a user's own.
        caution: what must be said wherever it is shown; empty for a user's own.
    """

    name: str
    formula: Formula = field(compare=False)
    source: str = ""
    caution: str = ""


PSPI = Score(
    "PSPI",
    Formula("AU4 + max(AU6, AU7) + max(AU9, AU10) + AU43"),
    source="Prkachin & Solomon, Pain 139 (2008) 267–274",
    caution="Not specific to pain: a smile scores, too. It says what the face does, not what is "
    "felt.",
)
"""The Prkachin and Solomon Pain Intensity, 0–16: four terms, of which AU43 is 0 or 1."""

KNOWN = {PSPI.name: PSPI}
"""Name → score that needs no formula of the user."""


def parse_scores(texts: Sequence[str]) -> tuple[Score, ...]:
    """Return the scores that a user asked for.

    Args:
        texts: ``NAME=FORMULA``, or the name of a known score (``PSPI``).

    Raises:
        ConfigError: a name or a formula cannot be read, two scores share a name, or there are too
            many.

    >>> [score.name for score in parse_scores(["pspi", "smile=AU12*AU6"])]
    ['PSPI', 'smile']
    """
    scores = tuple(_parse(text) for text in texts)
    names = [score.name.lower() for score in scores]
    twice = next((score.name for score in scores if names.count(score.name.lower()) > 1), None)
    if twice is not None:
        raise ConfigError(f"two scores are called {twice}; give each a name of its own")
    if len(scores) > MOST_SCORES:
        raise ConfigError(
            f"{len(scores)} scores are asked for; follow at most {MOST_SCORES} at once"
        )
    return scores


def _parse(text: str) -> Score:
    name, equals, formula = text.partition("=")
    name = name.strip()
    known = next((score for key, score in KNOWN.items() if key.lower() == name.lower()), None)
    if not equals:
        if known is None:
            raise ConfigError(
                f"--score {text[:40]!r} is not known; name one of {', '.join(KNOWN)}, or define "
                "one as NAME=FORMULA, such as smile=AU12*AU6"
            )
        return known
    if known is not None:
        raise ConfigError(
            f"--score {known.name} is a score of its own and has its formula; give yours another "
            "name"
        )
    if _NAME.fullmatch(name) is None or _TAKEN.fullmatch(name):
        raise ConfigError(
            f"--score {name[:40]!r} cannot be a score's name; use up to 24 letters and digits, a "
            "letter first, and no name of another column"
        )
    try:
        return Score(name, Formula(formula))
    except ConfigError as error:
        raise ConfigError(f"--score {name}: {error}") from error
