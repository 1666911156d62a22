"""Envelopes as JSON: bodies to bytes and back, and the JSON Schema of all text messages.

A server reads clients strictly (:func:`decode_client`); a client reads the server leniently
(:func:`decode`), so that it understands a newer one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...core.errors import ProtocolError
from .messages import (
    CLIENT_MESSAGES,
    EVENTS,
    PROTOCOL_VERSION,
    SAMPLES,
    SERVER_CONTROLS,
    Body,
    Envelope,
)

__all__ = ["UnknownTypeError", "decode", "decode_client", "encode", "json_schema"]


class _RawEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    v: int
    type: str
    stream: str | None = None
    epoch: int | None = None
    seq: int | None = None
    t_capture: float | None = None
    t_emit: float | None = None
    data: msgspec.Raw


class _RawClientEnvelope(_RawEnvelope, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


_ENCODER = msgspec.json.Encoder()
_ENVELOPE = msgspec.json.Decoder(_RawEnvelope)
_CLIENT_ENVELOPE = msgspec.json.Decoder(_RawClientEnvelope)
_SERVER_BODIES = {
    name: msgspec.json.Decoder(cls)
    for family in (EVENTS, SAMPLES, SERVER_CONTROLS)
    for name, cls in family.items()
}
_CLIENT_BODIES = {name: msgspec.json.Decoder(cls) for name, cls in CLIENT_MESSAGES.items()}


def encode(
    data: Body,
    *,
    stream: str | None = None,
    epoch: int | None = None,
    seq: int | None = None,
    t_capture: float | None = None,
    t_emit: float | None = None,
) -> bytes:
    """Put a body into its envelope.

    Args:
        data: the body; its class decides the ``type``.
        stream, epoch, seq, t_capture, t_emit: see :class:`Envelope`.

    Returns:
        UTF-8 JSON, one text message.
    """
    envelope = Envelope(
        type=data.type,
        stream=stream,
        epoch=epoch,
        seq=seq,
        t_capture=t_capture,
        t_emit=t_emit,
        data=data,
    )
    return _ENCODER.encode(envelope)


class UnknownTypeError(ProtocolError):
    """The message is well formed, but its type is not one that this side may send."""


def _decode(
    message: bytes | str,
    envelopes: msgspec.json.Decoder[Any],
    bodies: dict[str, msgspec.json.Decoder[Any]],
) -> Envelope:
    try:
        raw = envelopes.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError(
            f"not an envelope of protocol v{PROTOCOL_VERSION} ({error}); "
            "send JSON such as the messages of /schema.json"
        ) from error
    if raw.v != PROTOCOL_VERSION:
        raise ProtocolError(
            f"protocol version {raw.v} is not spoken here; use version {PROTOCOL_VERSION}"
        )
    decoder = bodies.get(raw.type)
    if decoder is None:
        raise UnknownTypeError(
            f"message type {raw.type[:40]!r} is unknown; use one of {', '.join(sorted(bodies))}"
        )
    try:
        data = decoder.decode(raw.data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError(
            f"the data of a {raw.type!r} message is wrong ({error}); see /schema.json"
        ) from error
    return Envelope(
        v=raw.v,
        type=raw.type,
        stream=raw.stream,
        epoch=raw.epoch,
        seq=raw.seq,
        t_capture=raw.t_capture,
        t_emit=raw.t_emit,
        data=data,
    )


def decode(message: bytes | str) -> Envelope:
    """Read a message of the server, as a client written in Python does.

    Unknown fields are ignored, so that a newer server can be read.

    Raises:
        ProtocolError: it is not a message of this protocol (:class:`UnknownTypeError`: its type
            is not known; a client ignores those).
    """
    return _decode(message, _ENVELOPE, _SERVER_BODIES)


def decode_client(message: bytes | str) -> Envelope:
    """Read a message of a client, strictly: unknown fields and types are refused.

    Raises:
        UnknownTypeError: no client may send this type.
        ProtocolError: it is not a message of this protocol.
    """
    return _decode(message, _CLIENT_ENVELOPE, _CLIENT_BODIES)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of all text messages, by family.

    The schema as a whole accepts any message; ``$defs/events``, ``$defs/samples``,
    ``$defs/server_controls`` and ``$defs/client_messages`` accept those of one family.
    """
    families = {
        "events": EVENTS,
        "samples": SAMPLES,
        "server_controls": SERVER_CONTROLS,
        "client_messages": CLIENT_MESSAGES,
    }
    classes = [cls for family in families.values() for cls in family.values()]
    references, definitions = msgspec.json.schema_components(classes, ref_template="#/$defs/{name}")
    reference_of = dict(zip(classes, references, strict=True))
    number, text = {"type": ["number", "null"]}, {"type": ["string", "null"]}
    for family, members in families.items():
        definitions[family] = {
            "oneOf": [
                {
                    "title": name,
                    "type": "object",
                    "properties": {
                        "v": {"const": PROTOCOL_VERSION},
                        "type": {"const": name},
                        "stream": text,
                        "epoch": {"type": ["integer", "null"]},
                        "seq": {"type": "integer" if family == "events" else "null"},
                        "t_capture": number,
                        "t_emit": number,
                        "data": reference_of[cls],
                    },
                    "required": ["v", "type", "data", *(["seq"] if family == "events" else [])],
                }
                for name, cls in members.items()
            ]
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"facestage wire protocol v{PROTOCOL_VERSION}",
        "anyOf": [{"$ref": f"#/$defs/{family}"} for family in families],
        "$defs": definitions,
    }
