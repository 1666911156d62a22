"""How a session lies on disk: its folder, its names, and what stands in its head and its index.

::

    2026-12-01T08-15-02_bed-1/
        session.json            the head: who wrote it, model, settings, sources, clock
        events.jsonl            every numbered message, as clients got it
        frames/0000.jsonl.gz    samples; an hour a file
        heat/0000.jsonl.gz      masks, ten times a second, likewise
        video/0-0000.mp4        pictures of stream 0, only with --record-video
        index.jsonl             what is whole: ranges of these files with their SHA-256; in the end
                                a line that says that the session is complete

A line of events, frames and heat is ``[seconds, message]``: the time since the session began, by a
clock that is never set, and the message. Everything but the head is only ever appended to. After a
crash the index lacks its last lines, and the files may end in the middle of one: what stands before
is read all the same.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import msgspec

from ...core.errors import ConfigError
from ..protocol.messages import Hello, Snapshot

__all__ = [
    "EVENTS",
    "FRAMES",
    "HEAD",
    "HEAT",
    "INDEX",
    "SCHEMA",
    "VERSION",
    "VIDEO",
    "Before",
    "Clock",
    "End",
    "Head",
    "Range",
    "plain_name",
    "session_folder",
]

SCHEMA = "facestage/session"
VERSION = 1
"""Version of the schema; it rises when a reader would break."""

HEAD, INDEX, EVENTS = "session.json", "index.jsonl", "events.jsonl"
FRAMES, HEAT, VIDEO = "frames", "heat", "video"

_LONGEST_NAME = 40


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """The two clocks at the same moment, the begin of the session.

    Attributes:
        wall: seconds since 1970; may be set while the session goes on.
        monotonic: seconds of the clock that is never set.
    """

    wall: float
    monotonic: float


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """What had happened when the session began: the state a client gets that joins then.

    Attributes:
        seq: number of the last event before.
        snapshots: stream id → its state.
        events: messages of the prototypes alive.
    """

    seq: int = 0
    snapshots: dict[str, Snapshot] = {}
    events: tuple[str, ...] = ()


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``session.json``.

    Attributes:
        schema, version: :data:`SCHEMA` and :data:`VERSION`.
        name: what the session is called.
        began: when it began, local time, ISO 8601 with the offset from UTC.
        clock: its clocks then.
        hello: what clients were told first: model, device, Action Units, streams.
        model: ``name``, ``version`` and ``sha256`` of the AU network.
        settings: option → value, of those that decide what is found. No address, path or secret.
        before: what had happened before.
    """

    schema: str = SCHEMA
    version: int = VERSION
    name: str
    began: str
    clock: Clock
    hello: Hello
    model: dict[str, str]
    settings: dict[str, Any] = {}
    before: Before = Before()


class Range(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="range"):
    """A line of the index: bytes of a file that are whole.

    Attributes:
        file: path in the folder.
        start, end: first byte, and the one after the last.
        sha256: of these bytes, hexadecimal.
        first_s, last_s: seconds of the first and the last record in them; None where there is none.
    """

    file: str
    start: int
    end: int
    sha256: str
    first_s: float | None = None
    last_s: float | None = None


class End(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="end"):
    """The last line of the index: the session is complete.

    Attributes:
        seconds: how long it is.
        events: number of the last event in it.
        dropped: samples that were not written because the disk was too slow.
        reason: why it ended; empty if somebody asked for it.
        sha256: of the index before this line.
    """

    seconds: float
    events: int
    dropped: int
    reason: str
    sha256: str


def plain_name(text: str) -> str:
    """Return a name for a folder: letters, digits, dots and dashes; never a path.

    >>> plain_name("Bed 1/2 (left)")
    'Bed-1-2-left'
    """
    plain = re.sub(r"[^\w.]+", "-", text, flags=re.ASCII).strip("-._")
    return plain[:_LONGEST_NAME].rstrip("-._") or "session"


def session_folder(place: Path, name: str, wall: float) -> Path:
    """Make the folder of a new session, of which no other recorder knows.

    Args:
        place: folder of the sessions; made where it is missing.
        name: what it is called.
        wall: seconds since 1970.

    Raises:
        ConfigError: it cannot be made.
    """
    stamp = datetime.datetime.fromtimestamp(wall).strftime("%Y-%m-%dT%H-%M-%S")
    number = 1
    while True:
        more = "" if number == 1 else f"_{number}"
        folder = place / f"{stamp}_{plain_name(name)}{more}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            return folder
        except FileExistsError as error:
            if not place.is_dir():
                raise ConfigError(f"--record {place} is a file; name a folder") from error
            number += 1  # somebody else's, of the same second
        except OSError as error:
            raise ConfigError(
                f"--record {place}: no session can be written there "
                f"({error.strerror or error}); name a folder of your own"
            ) from error
