"""What OpenCV does not say of an image file: that it holds several pictures, or a part of one."""

from __future__ import annotations

import struct
from collections.abc import Callable

__all__ = ["breaks_off", "count_pictures", "jpeg_size"]

_MAX_PAGES = 100_000
"""Pages of a TIFF file that are followed at most: a damaged one may lead round in a circle."""


_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG after which its size stands (ITU T.81, table B.1)."""


def count_pictures(data: bytes) -> int:
    """Return how many pictures the bytes of an image file hold; 1 where they do not say.

    GIF, WebP, PNG (APNG), AVIF and TIFF can hold several. Only their headers are read. Previews of
    a TIFF page (pictures of reduced resolution) do not count.
    """
    for is_format, count in _FORMATS:
        if is_format(data):
            try:
                return max(1, count(data))
            except (struct.error, IndexError):
                return 1  # It breaks off: whether it can be read at all, the decoder will say.
    return 1


def breaks_off(data: bytes) -> bool:
    """Tell whether the bytes are a JPEG that ends before its end mark.

    OpenCV before 4.11 fills the missing part with grey and calls the picture read; the other
    formats it refuses when they are cut.
    """
    if data[:3] != b"\xff\xd8\xff":
        return False
    # A preview inside the header has an end mark of its own; the picture itself starts last.
    return data.find(b"\xff\xd9", data.rfind(b"\xff\xda")) < 0


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height that the header of a JPEG states, pixels; None: it is no JPEG.

    Nothing is decoded, so a picture that claims to be huge costs nothing.
    """
    if data[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return (width, height) if width and height else None
        if marker == 0xFF:  # fill
            at += 1
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _count_gif(data: bytes) -> int:
    at, pictures = 13 + _colour_table(data[10]), 0
    while data[at] != 0x3B:  # the trailer
        if data[at] == 0x2C:  # an image descriptor
            pictures += 1
            at += 10 + _colour_table(data[at + 9]) + 1
        elif data[at] == 0x21:  # an extension
            at += 2
        else:
            return pictures
        while data[at]:  # blocks of data, each with its length in front
            at += 1 + data[at]
        at += 1
    return pictures


def _colour_table(flags: int) -> int:
    """Return the size of the colour table that the flags of a GIF announce, bytes."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _count_webp(data: bytes) -> int:
    at, pictures = 12, 0
    while at + 8 <= len(data):
        pictures += data[at : at + 4] == b"ANMF"
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + (length & 1)
    return pictures


def _count_png(data: bytes) -> int:
    at = 8
    while data[at + 4 : at + 8] != b"IDAT":
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"acTL":
            return int(struct.unpack_from(">I", data, at + 8)[0])
        at += 12 + length
        if at >= len(data):
            break
    return 1


def _count_avif(data: bytes) -> int:
    # A sequence has tracks; the table of sample sizes of each states its number of pictures.
    pictures, at = 1, data.find(b"stsz")
    while at >= 0 and at + 16 <= len(data):
        pictures = max(pictures, struct.unpack_from(">I", data, at + 12)[0])
        at = data.find(b"stsz", at + 4)
    return pictures


def _is_avif_sequence(data: bytes) -> bool:
    if data[4:8] != b"ftyp":
        return False
    length = int.from_bytes(data[:4], "big")
    return b"avis" in data[8 : min(length, 256)]


def _count_tiff(data: bytes) -> int:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, number, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    (at,) = struct.unpack_from(order + offset, data, 8 if big else 4)
    pages = 0
    for _ in range(_MAX_PAGES):
        if not at:
            break
        (entries,) = struct.unpack_from(order + number, data, at)
        first = at + struct.calcsize(order + number)
        pages += not _is_preview(data, order, first, entry, entries)
        (at,) = struct.unpack_from(order + offset, data, first + entries * entry)
    return pages


def _is_preview(data: bytes, order: str, first: int, entry: int, entries: int) -> bool:
    """Tell whether one directory of a TIFF file describes a picture of reduced resolution."""
    for at in range(first, first + min(entries, 4096) * entry, entry):
        (tag,) = struct.unpack_from(order + "H", data, at)
        if tag == 254:  # NewSubfileType; a mask (4) is no picture of its own either
            value = struct.unpack_from(order + "I", data, at + entry - (8 if entry == 20 else 4))[0]
            return bool(value & 5)
    return False


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], int]], ...] = (
    (lambda data: data[:6] in (b"GIF87a", b"GIF89a"), _count_gif),
    (lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _count_webp),
    (lambda data: data[:8] == b"\x89PNG\r\n\x1a\n", _count_png),
    (lambda data: data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _count_tiff),
    (_is_avif_sequence, _count_avif),
)
