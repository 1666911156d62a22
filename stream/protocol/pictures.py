"""Binary messages: a JPEG behind a 16-byte header; and where a mask lies in the frame."""

from __future__ import annotations

import struct

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from ...core.errors import ProtocolError
from .messages import PROTOCOL_VERSION

__all__ = [
    "HEADER_BYTES",
    "MAX_PICTURE_BYTES",
    "Picture",
    "mask_to_frame",
    "pack_picture",
    "unpack_camera_picture",
    "unpack_picture",
]

MAX_PICTURE_BYTES = 384 * 1024
"""Largest JPEG a server sends: with it a stalled client still holds less than 1 MB."""

_HEADER = struct.Struct("<HBBHHII")
HEADER_BYTES = _HEADER.size
"""Length of the header before the JPEG, bytes."""
_MAGIC = 0x5346  # reads "FS" in little-endian order
_KIND_JPEG = 1


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A JPEG of one frame: ``stream`` is the number of :class:`StreamInfo`."""

    stream: int
    frame: int
    jpeg: bytes


def pack_picture(picture: Picture) -> bytes:
    """Return a binary message: 16-byte little-endian header and the JPEG.

    Header: magic ``0x5346`` u16 ("FS"), version u8, kind u8 (1: JPEG), stream u16, flags u16 (0),
    frame u32 (the number modulo 2³²), reserved u32 (0).
    """
    header = _HEADER.pack(
        _MAGIC,
        PROTOCOL_VERSION,
        _KIND_JPEG,
        picture.stream,
        0,
        picture.frame & 0xFFFFFFFF,
        0,
    )
    return header + picture.jpeg


def unpack_picture(message: bytes) -> Picture:
    """Read a binary message.

    Raises:
        ProtocolError: it is too short, or not a picture of this protocol.
    """
    stream, frame, _reserved = _read_header(message)
    return Picture(stream=stream, frame=frame, jpeg=message[HEADER_BYTES:])


def unpack_camera_picture(message: bytes) -> tuple[bytes, float]:
    """Read a binary message of ``/ws/camera``: the same header, whose last field is a time.

    Returns:
        The JPEG, and when it was taken by the page's clock, seconds, to a millisecond.

    Raises:
        ProtocolError: it is too short, or not a picture of this protocol.
    """
    _stream, _frame, milliseconds = _read_header(message)
    return message[HEADER_BYTES:], milliseconds * 1e-3


def _read_header(message: bytes) -> tuple[int, int, int]:
    if len(message) <= HEADER_BYTES:
        raise ProtocolError(
            f"a picture message of {len(message)} bytes is too short; "
            f"it needs a {HEADER_BYTES}-byte header and a JPEG"
        )
    magic, version, kind, stream, _flags, frame, reserved = _HEADER.unpack_from(message)
    if (magic, version, kind) != (_MAGIC, PROTOCOL_VERSION, _KIND_JPEG):
        raise ProtocolError(
            f"not a picture of protocol v{PROTOCOL_VERSION}: "
            f"magic {magic:#06x}, version {version}, kind {kind}"
        )
    return stream, frame, reserved


def mask_to_frame(
    matrix: ArrayLike, crop_side: int, size: int
) -> tuple[float, float, float, float, float, float]:
    """Return :attr:`Heat.matrix` for a face's alignment.

    Args:
        matrix: ``(2, 3)``, frame pixels → crop pixels, both with whole numbers at pixel centres
            (as OpenCV's ``warpAffine`` takes it; :attr:`FaceObservation.matrix`).
        crop_side: side of the aligned crop, pixels.
        size: side of the mask that covers the whole crop, cells.

    Returns:
        ``(a, b, c, d, e, f)``: mask coordinates → frame coordinates, both with whole numbers at
        the corners of cells and pixels, as a canvas draws.

    Raises:
        ProtocolError: the matrix has no inverse.
    """
    forward = np.asarray(matrix, dtype=np.float64)
    linear, shift = forward[:, :2], forward[:, 2]
    determinant = float(np.linalg.det(linear))
    if not np.isfinite(determinant) or abs(determinant) < 1e-12:
        raise ProtocolError(
            f"the alignment {forward.tolist()} has no inverse; send heat with matrix None instead"
        )
    inverse = np.linalg.inv(linear)
    # crop pixel p (centre) = u * crop_side / size - 1/2; frame corner coordinate = centre + 1/2
    scale = inverse * (crop_side / size)
    offset = inverse @ (-0.5 - shift) + 0.5
    a, b, d, e = (float(value) for value in scale.ravel())
    c, f = (float(value) for value in offset)
    return a, b, c, d, e, f
