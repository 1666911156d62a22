"""Read a session: what is whole, what was cut off, and what was altered since."""

from __future__ import annotations

import hashlib
import heapq
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import msgspec

from ...core.errors import ProtocolError, SourceError
from .. import protocol
from ..protocol.codec import UnknownTypeError
from .film import PictureAt
from .folder import EVENTS, FRAMES, HEAD, HEAT, INDEX, SCHEMA, VERSION, VIDEO, End, Head, Range

__all__ = ["Record", "Session", "open_session"]

_PIECE = 1 << 16
"""Bytes that are read, or inflated, at once."""
_LONGEST_LINE = 1 << 24
"""A line beyond this is none of ours, bytes."""


class _Stamped(msgspec.Struct, frozen=True):
    schema: str = ""
    version: int = 0


_HEAD = msgspec.json.Decoder(Head)
_STAMPED = msgspec.json.Decoder(_Stamped)
_INDEX = msgspec.json.Decoder(Range | End)
_PICTURE = msgspec.json.Decoder(tuple[float, int, int])
_LINE = msgspec.json.Decoder(tuple[float, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Record:
    """One message of a session.

    Attributes:
        at: seconds since the session began.
        message: as clients got it, UTF-8 JSON.
        envelope: the same, read; None where its type is not known here.
        picture: where a picture is; then there is no message.
    """

    at: float
    message: bytes
    envelope: protocol.Envelope | None
    picture: PictureAt | None = None

    @property
    def seq(self) -> int | None:
        """Number of an event; None of a sample, and where the type is not known."""
        return None if self.envelope is None else self.envelope.seq


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of bytes of a file that can be read by itself."""

    path: Path
    start: int
    end: int
    last_s: float | None


class Session:
    """A session that can be read; see :func:`open_session`.

    Attributes:
        folder: where it lies.
        head: what is known from its begin.
        end: how it ended; None where it was cut off, or is still being written.
        duration_s: how long it is, seconds.
        notes: what is missing or was altered, a sentence each; what is left is read.
    """

    def __init__(self, folder: Path, head: Head) -> None:
        self.folder, self.head = folder, head
        self.end: End | None = None
        self.notes: tuple[str, ...] = ()
        self._pieces: dict[str, list[_Piece]] = {}
        self._lay_out()
        self.duration_s = self._length()

    @property
    def complete(self) -> bool:
        """Whether it was ended in good order, and nothing was lost or altered since."""
        return self.end is not None and not self.notes

    def events(self, start_s: float = 0.0) -> Iterator[Record]:
        """Read the events from a time on, in order."""
        return self._records(EVENTS, start_s)

    def samples(self, start_s: float = 0.0) -> Iterator[Record]:
        """Read the frames and what else is told of each moment, from a time on, in order."""
        return self._records(FRAMES, start_s)

    def heat(self, start_s: float = 0.0) -> Iterator[Record]:
        """Read the masks from a time on, in order."""
        return self._records(HEAT, start_s)

    @property
    def has_video(self) -> bool:
        """Whether there are pictures."""
        return bool(self._pieces.get(VIDEO))

    def pictures(self, start_s: float = 0.0) -> Iterator[Record]:
        """Say where the pictures are from a time on, in order."""
        streams: dict[int, list[_Piece]] = {}
        for piece in self._pieces.get(VIDEO, ()):
            number = piece.path.name.partition("-")[0]
            streams.setdefault(int(number), []).append(piece)
        each = (_pictures(number, pieces, start_s) for number, pieces in streams.items())
        return heapq.merge(*each, key=attrgetter("at"))

    def records(self, start_s: float = 0.0) -> Iterator[Record]:
        """Read everything from a time on, in the order in which it was published."""
        kinds = (self.events(start_s), self.pictures(start_s))
        kinds += (self.heat(start_s), self.samples(start_s))
        return heapq.merge(*kinds, key=attrgetter("at"))

    # --- Inside ---------------------------------------------------------------------------

    def _records(self, kind: str, start_s: float) -> Iterator[Record]:
        for piece in self._pieces.get(kind, ()):
            if piece.last_s is not None and piece.last_s < start_s:
                continue
            for line in _lines(piece):
                record = _record(line, start_s)
                if record is not None:
                    yield record

    def _length(self) -> float:
        last = 0.0 if self.end is None else self.end.seconds
        for kind, pieces in self._pieces.items():
            for piece in pieces[-1:] if kind != VIDEO else ():
                at = piece.last_s
                if at is None and self.end is None:
                    at = max((record.at for record in self._records(kind, 0.0)), default=0.0)
                last = max(last, at or 0.0)
        return last

    def _lay_out(self) -> None:
        """Find out what can be read, by the index and by what lies in the folder."""
        notes: list[str] = []
        whole = self._read_index(notes)
        for kind, paths in self._files(whole).items():
            pieces = self._pieces.setdefault(kind, [])
            for path in paths:
                pieces += self._pieces_of(path, whole, notes)
        if self.end is None:
            notes.append(
                "the session is not complete: it was cut off, or is still being written; what is "
                "there is read"
            )
        for one in whole:
            # Its checksum is not looked at: that would take as long as to copy it.
            video = self.folder / one.file
            if video.suffix == ".mp4" and not (video.is_file() and video.stat().st_size == one.end):
                notes.append(f"{one.file} is missing or cut off; its pictures are not shown")
        self.notes = tuple(notes)

    def _files(self, whole: list[Range]) -> dict[str, list[Path]]:
        """Return the files of each kind, those that should be there included."""
        named = {self.folder / one.file for one in whole}
        files = {EVENTS: [self.folder / EVENTS]}
        for kind in (FRAMES, HEAT, VIDEO):
            found = set((self.folder / kind).glob("*.jsonl.gz"))
            found |= {path for path in named if path.parent.name == kind and path.suffix == ".gz"}
            files[kind] = sorted(found)
        return files

    def _pieces_of(self, path: Path, whole: list[Range], notes: list[str]) -> Iterator[_Piece]:
        name = path.relative_to(self.folder).as_posix()
        size = path.stat().st_size if path.is_file() else 0
        if not path.is_file():
            if name != EVENTS or self.end is not None:
                notes.append(f"{name} is missing; what was in it is lost")
            return
        reached = 0
        for one in whole:
            if one.file != name or one.start != reached:
                continue
            reached = one.end
            if _checksum(path, one) == one.sha256:
                yield _Piece(path, one.start, one.end, one.last_s)
                continue
            span = ""
            if one.first_s is not None and one.last_s is not None:
                span = f" from {one.first_s:.0f} s to {one.last_s:.0f} s"
            notes.append(
                f"{name} was altered or is damaged{span} (checksum); this part is left out, get "
                "it from a copy"
            )
        if size > reached and self.end is not None:
            notes.append(f"{name} was added to after the end; that is left out")
        elif size > reached:
            yield _Piece(path, reached, size, None)

    def _read_index(self, notes: list[str]) -> list[Range]:
        """Return what the index says is whole; set :attr:`end`."""
        path, whole = self.folder / INDEX, []
        total = hashlib.sha256()
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            notes.append(f"{INDEX} is missing; nothing can be checked")
            return []
        for number, line in enumerate(lines, start=1):
            try:
                entry = _INDEX.decode(line)
            except msgspec.DecodeError:
                if number < len(lines):
                    notes.append(f"{INDEX} is damaged in line {number}; the rest is not checked")
                return whole
            if isinstance(entry, End):
                if entry.sha256 != total.hexdigest():
                    notes.append(f"{INDEX} was altered; its checksum is that of another")
                self.end = entry
                return whole
            whole.append(entry)
            total.update(line)
        return whole


def open_session(folder: Path) -> Session:
    """Open a session and check what its index says of it.

    Args:
        folder: that ``--record`` wrote, such as ``DIR/2026-12-01T08-15-02_bed-1``.

    Raises:
        SourceError: it is none, was written by a newer version, or holds nothing that can be read.
    """
    try:
        data = (folder / HEAD).read_bytes()
    except OSError as error:
        raise SourceError(_no_session(folder)) from error
    try:
        stamped = _STAMPED.decode(data)
        if stamped.schema == SCHEMA and stamped.version > VERSION:
            raise SourceError(
                f"{folder} was written by a newer facestage (sessions of version "
                f"{stamped.version}, this one reads {VERSION}); install a newer one"
            )
        head = _HEAD.decode(data)
    except (msgspec.DecodeError, ProtocolError) as error:
        raise SourceError(
            f"{folder / HEAD} cannot be read ({error}); get it from a copy of the session"
        ) from error
    if head.schema != SCHEMA:
        raise SourceError(_no_session(folder))
    try:
        session = Session(folder, head)
    except OSError as error:
        raise SourceError(
            f"{folder} cannot be read ({error.strerror or error}); check its rights and its disk"
        ) from error
    if next(session.records(), None) is None:
        notes = "; ".join(session.notes)
        raise SourceError(f"{folder} holds nothing that can be read ({notes or 'it is empty'})")
    return session


def _no_session(folder: Path) -> str:
    if folder.is_dir():
        inner = sorted(path.parent.name for path in folder.glob(f"*/{HEAD}"))
        if inner:
            return f"{folder} holds {len(inner)} sessions; name one, such as {folder / inner[-1]}"
    return f"{folder} is no session; name a folder that --record wrote (it holds {HEAD})"


def _checksum(path: Path, whole: Range) -> str:
    """Return the SHA-256 of a range of a file; of less where the file is shorter."""
    total, left = hashlib.sha256(), whole.end - whole.start
    with path.open("rb") as file:
        file.seek(whole.start)
        while left > 0 and (data := file.read(min(left, _PIECE))):
            total.update(data)
            left -= len(data)
    return total.hexdigest()


def _record(line: bytes, start_s: float) -> Record | None:
    """Return the message of a line; None where it is earlier, or no line of ours."""
    try:
        at, raw = _LINE.decode(line)
    except msgspec.DecodeError:
        return None
    if at < start_s:
        return None
    message = bytes(raw)
    try:
        return Record(at, message, protocol.decode(message))
    except UnknownTypeError:
        return Record(at, message, None)
    except ProtocolError:
        return None


def _pictures(number: int, pieces: list[_Piece], start_s: float) -> Iterator[Record]:
    for piece in pieces:
        if piece.last_s is not None and piece.last_s < start_s:
            continue
        video = piece.path.with_name(piece.path.name.replace(".jsonl.gz", ".mp4"))
        for line in _lines(piece):
            try:
                at, time, frame = _PICTURE.decode(line)
            except msgspec.DecodeError:
                continue
            if at >= start_s:
                yield Record(at, b"", None, PictureAt(number, frame, video, time))


def _lines(piece: _Piece) -> Iterator[bytes]:
    """Read the whole lines of a piece; what is cut off in the end is none."""
    rest = b""
    for data in _inflated(piece) if piece.path.suffix == ".gz" else _bytes(piece):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        if len(rest) > _LONGEST_LINE:
            return


def _bytes(piece: _Piece) -> Iterator[bytes]:
    left = piece.end - piece.start
    with piece.path.open("rb") as file:
        file.seek(piece.start, os.SEEK_SET)
        while left > 0 and (data := file.read(min(left, _PIECE))):
            left -= len(data)
            yield data


def _inflated(piece: _Piece) -> Iterator[bytes]:
    """Inflate members of gzip; where one breaks off, what can be inflated of it."""
    member = zlib.decompressobj(31)
    for data in _bytes(piece):
        while data:
            try:
                out = member.decompress(data, _PIECE)
            except zlib.error:  # torn off by a power cut: nothing behind it can be read
                return
            if out:
                yield out
            data = member.unconsumed_tail
            if member.eof:
                data, member = member.unused_data, zlib.decompressobj(31)
    yield member.flush()
