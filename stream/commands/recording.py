"""``--record`` and ``--name``: what is recorded, under which name, and what is said of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...core.errors import ConfigError, FacestageError
from ...core.network.card import ModelCard
from ..console import err, out
from ..protocol.messages import Hello
from ..recording.reader import open_session
from ..recording.recorder import Plan, Recorder
from ..server.hub import Hub
from .report import REPORT, write_report
from .signatures import WatchOptions

__all__ = ["make_recorder", "name_sources", "parse_size", "tell_recorded"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_LEAST_SIZE = 10**6
_SETTINGS = ("device", "detector", "aus", "baseline", "lrp_preset", "lrp_precision", "min_stage")
_SETTINGS += ("faces", "follow", "policy", "paper", "window", "window_device", "realtime")
"""Options that decide what is found; the others are nobody's business in a recording."""


def make_recorder(
    options: WatchOptions, hub: Hub, hello: Hello, card: ModelCard
) -> Recorder | None:
    """Return the recorder that the options ask for, not started; None: they ask for none.

    Raises:
        ConfigError: an option has no use without another, or is no size.
    """
    if options.record is None:
        for option, wanted in (
            ("--allow-control", options.allow_control),
            ("--record-video", options.record_video),
        ):
            if wanted:
                raise ConfigError(f"{option} has no use without --record; add --record DIR")
        return None
    if options.record_video and not hello.video:
        raise ConfigError(
            "--record-video keeps the pictures that pages may see, and they may see none; leave it "
            "out, or allow pictures"
        )
    settings = {
        name: _plain(getattr(options, name)) for name in _SETTINGS if hasattr(options, name)
    }
    plan = Plan(
        place=options.record.expanduser(),
        name="+".join(options.name or ()) or "session",
        hello=hello,
        model={"name": card.name, "version": card.version, "sha256": card.sha256},
        settings=settings,
        most_bytes=parse_size(options.record_max, "--record-max"),
        video=options.record_video,
    )
    return Recorder(hub, plan)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else str(value)


def parse_size(text: str, option: str) -> int:
    """Return a size such as ``20GB``, bytes.

    >>> parse_size("1.5GB", "--record-max")
    1500000000

    Raises:
        ConfigError: it is none, or less than a megabyte.
    """
    match = _SIZE.fullmatch(text.strip())
    size = 0 if match is None else round(float(match[1]) * _UNITS[match[2].upper()])
    if size < _LEAST_SIZE:
        raise ConfigError(f"{option} {text!r} is no size; write it as 20GB or 500MB, 1MB at least")
    return size


def name_sources(streams: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the stream ids of sources: the names that were given, else those they have.

    Raises:
        ConfigError: there are not as many names as sources, or a name cannot be one.
    """
    if not names:
        return list(streams)
    if len(names) != len(streams):
        raise ConfigError(
            f"{len(names)} times --name for {len(streams)} sources; give one for each source"
        )
    for name in names:
        if not name.strip() or "/" in name or len(name) > 60 or not name.isprintable():
            raise ConfigError(
                f"--name {name!r} cannot name a source; use up to 60 printable characters, no slash"
            )
        if names.count(name) > 1:
            raise ConfigError(f"--name {name} is given twice; give each source its own")
    return list(names)


def tell_recorded(recorder: Recorder | None) -> None:
    """Say where the last session lies, write its report into it, and say where that is.

    What was recorded is safe already: a report that cannot be written is said, and no error.
    """
    if recorder is None or recorder.folder is None:
        return
    folder = recorder.folder
    dropped = f", {recorder.dropped} samples dropped" if recorder.dropped else ""
    if recorder.dropped_pictures:
        dropped += f", {recorder.dropped_pictures} pictures dropped"
    out.print(f"recorded {folder}{dropped}", markup=False)
    try:
        for path in write_report(open_session(folder), folder / REPORT, quiet=True):
            out.print(f"report   {path}", markup=False)
    except FacestageError as error:
        err.print(f"note     no report was written: {error}", markup=False)
