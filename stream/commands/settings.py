"""``--config``: the options of a command from a file, ``facestage.toml``.

::

    [live]
    sources = ["rtsp://camera-1/stream", "rtsp://camera-2/stream"]
    name = ["bed 1", "bed 2"]
    record = "/data/sessions"

The command line and the environment come before the file.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from ...core.errors import ConfigError

__all__ = ["TABLES", "read_settings", "use_settings"]

TABLES = ("live", "demo")
"""Commands that take their options from a file."""


def use_settings(context: typer.Context, value: Path | None) -> Path | None:
    """Make what a file says the defaults of a command; called before its other options are read.

    Raises:
        ConfigError: see :func:`read_settings`.
    """
    if value is not None:
        command = context.command
        context.default_map = read_settings(value, command.name or "", command.params)
    return value


def read_settings(path: Path, name: str, parameters: Sequence[Any]) -> dict[str, Any]:
    """Read the options of a command from a file.

    Args:
        path: the file.
        name: of the command, and of its table.
        parameters: of the command, as Typer has them: ``record-max`` is ``--record-max``.

    Returns:
        Parameter → value.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is none for its option.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"--config {path} cannot be read ({error.strerror or error}); name a file of yours"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} is not valid TOML ({error}); see the README") from error
    for table in tables:
        _known(table, TABLES, f"--config {path}: [{table}]", "commands")
    values = tables.get(name, {})
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path}: {name} is no table; write [{name}]")
    keys = {_key(parameter): parameter for parameter in parameters}
    keys = {key: parameter for key, parameter in keys.items() if key not in ("config", "help")}
    settings: dict[str, Any] = {}
    for key, value in values.items():
        where = f"--config {path}: {key} in [{name}]"
        _known(key, keys, where, "options")
        settings[keys[key].name] = _value(value, keys[key], where)
    return settings


def _known(key: str, keys: Iterable[str], where: str, what: str) -> None:
    if key in keys:
        return
    near = difflib.get_close_matches(key, keys, 1, 0.0)
    raise ConfigError(f"{where} is unknown; did you mean {near[0]}? The {what} are as in --help")


def _key(parameter: Any) -> str:
    names = [name for name in parameter.opts if name.startswith("--")]
    return names[0].removeprefix("--") if names else parameter.name


def _value(value: Any, parameter: Any, where: str) -> Any:
    """Return a value as the command line would have it."""
    several = getattr(parameter, "multiple", False) or parameter.nargs != 1
    flag = getattr(parameter, "is_flag", False)
    items = value if isinstance(value, list) else [value]
    if (isinstance(value, list) and not several) or any(
        isinstance(item, bool) is not flag or not isinstance(item, bool | int | float | str)
        for item in items
    ):
        kind = "true or false" if flag else "a list of words" if several else "a word or a number"
        raise ConfigError(f"{where} is {value!r}; write {kind}")
    if flag:
        return value
    return [str(item) for item in items] if several else str(value)
