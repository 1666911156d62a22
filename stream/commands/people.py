"""``--person``: whose face a source shows, and the rest level that is kept of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core.errors import ConfigError
from ...core.network.card import ModelCard
from ...core.types import RestLevels
from .rest import load_rest

__all__ = ["NOBODY", "people_of", "person_file", "rest_of_people"]

NOBODY = "-"
"""In place of a person: the source shows nobody who is known."""
_ID = re.compile(r"\w[\w.-]{0,63}")


def person_file(person: str) -> Path:
    """Return where the rest level of a person is kept.

    Raises:
        ConfigError: it is no name for a person.
    """
    if not _ID.fullmatch(person):
        raise ConfigError(
            f"--person {person!r} cannot be kept; use up to 64 letters, digits, dots, dashes and "
            "underscores, such as P07"
        )
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "facestage" / "people" / f"{person}.json"


def people_of(
    sources: Sequence[str], people: Sequence[str], *, rest: Path | None, judged: bool
) -> dict[str, Path]:
    """Return stream id of a source → file of its person, where one is named.

    Args:
        sources: stream ids.
        people: what ``--person`` says, one for each source; nothing: nobody is known.
        rest: what ``--rest`` says.
        judged: whether presence is judged by rest levels at all.

    Raises:
        ConfigError: there are not as many people as sources, one is named twice, ``--rest`` is
            given, too, or rest levels are not used.
    """
    if not people:
        return {}
    if rest is not None:
        raise ConfigError("--person keeps a rest level of its own; leave out --rest or --person")
    if not judged:
        raise ConfigError(
            "--person keeps a rest level, and with --no-baseline or --paper nothing is judged by "
            "one; leave out one of the two"
        )
    if len(people) != len(sources):
        raise ConfigError(
            f"{len(people)} times --person for {len(sources)} sources; give one for each source, "
            f"{NOBODY} where nobody is known"
        )
    known = [person for person in people if person != NOBODY]
    for person in known:
        if known.count(person) > 1:
            raise ConfigError(f"--person {person} is named twice; a rest level is of one source")
    return {
        source: person_file(person)
        for source, person in zip(sources, people, strict=True)
        if person != NOBODY
    }


def rest_of_people(files: Mapping[str, Path], card: ModelCard) -> dict[str, RestLevels]:
    """Read the rest levels of the people who have any; stream id → levels.

    Raises:
        ConfigError: a file cannot be read, is of another network, or holds an impossible number.
    """
    levels = {source: load_rest(path, card, option="--person") for source, path in files.items()}
    return {source: level for source, level in levels.items() if level is not None}
