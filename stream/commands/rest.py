"""``--baseline``, ``--rest`` and ``--rest-from``: by which rest level presence is judged.

And ``--exclude``: spans that are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...core.baseline import read_rest, write_rest
from ...core.errors import ConfigError
from ...core.network.card import ModelCard
from ...core.types import RestLevels
from ..files import check_target, write_file

__all__ = ["judges_by_rise", "load_rest", "parse_span", "parse_spans", "save_rest"]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*s?")
_MOST_BYTES = 1 << 20
"""Size beyond which a file cannot be one of rest levels, bytes."""


def judges_by_rise(
    baseline: bool | None, *, paper: bool, rest: Path | None = None, span: str | None = None
) -> bool:
    """Return whether presence is judged by its rise over rest.

    Args:
        baseline: what the user asked for; None is on, but off where the paper is followed.
        paper: whether it is.
        rest: file of rest levels, where one is named.
        span: neutral span, where one is named.

    Raises:
        ConfigError: it is not, and a file or a span of rest is named.
    """
    on = not paper if baseline is None else baseline
    if not on and (rest is not None or span is not None):
        option = "--rest" if rest is not None else "--rest-from"
        why = "--no-baseline" if baseline is False else "--paper"
        raise ConfigError(
            f"with {why} nothing is judged by a rest level, so {option} has no use; leave out one "
            "of the two" + ("" if baseline is False else ", or add --baseline")
        )
    return on


def parse_span(text: str | None) -> tuple[float, float] | None:
    """Return a span such as ``0-2s``, seconds.

    Raises:
        ConfigError: it is not one.
    """
    if text is None:
        return None
    match = _SPAN.fullmatch(text.strip())
    if match is None or float(match[1]) >= float(match[2]):
        raise ConfigError(
            f"--rest-from {text!r} is no span; give first and last second, such as 0-2s"
        )
    return float(match[1]), float(match[2])


def parse_spans(texts: Sequence[str] | None) -> list[tuple[float, float]]:
    """Return the spans of ``--exclude``, seconds.

    Raises:
        ConfigError: one of them is none.
    """
    spans: list[tuple[float, float]] = []
    for text in texts or ():
        match = _SPAN.fullmatch(text.strip())
        if match is None or float(match[1]) >= float(match[2]):
            raise ConfigError(
                f"--exclude {text[:40]!r} is no span; give first and last second, such as 12-15s"
            )
        spans.append((float(match[1]), float(match[2])))
    return spans


def load_rest(
    path: Path | None, card: ModelCard, *, sources: int = 1, option: str = "--rest"
) -> RestLevels | None:
    """Read the rest levels of a person; None where no file is named, or there is none yet.

    Args:
        path: the file.
        card: of the network that is to be judged by them.
        sources: how many are watched.
        option: that names the file.

    Raises:
        ConfigError: the file cannot be read, is of another network, holds an impossible number, or
            more than one source is to be watched.
        ModelError: it names a folder.
    """
    if path is None:
        return None
    if sources > 1:
        raise ConfigError(
            f"--rest {path} is of one person, but {sources} sources are watched; name the person "
            "of each with --person"
        )
    check_target(path)
    if not path.exists():
        return None
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{path} is no file of rest levels; name another with {option}")
        return read_rest(path.read_bytes(), card)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror or error}; name a file that you can read"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{option} {path}: {error}") from error


def save_rest(path: Path | None, rest: RestLevels | None, card: ModelCard) -> str:
    """Write what was learned to a file that was named and does not exist; say what was done.

    A file that exists is only read: what it holds is never lost to a worse one.

    Returns:
        A line for the user, empty where there is nothing to say.

    Raises:
        ModelError: the file cannot be written.
    """
    if path is None or path.exists():
        return ""
    if rest is None:
        return (
            f"{path} was not written: no face was seen at rest for a second; look at the camera "
            "with a quiet face"
        )
    write_file(path, write_rest(rest, card).encode())
    return f"rest levels written: {path}"
