"""The protocol as an AsyncAPI 3.0 document, made from the same types as the JSON Schema.

Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from typing import Any

from .codec import json_schema
from .messages import CLIENT_MESSAGES, EVENTS, RESEARCH_NOTICE, SAMPLES, SERVER_CONTROLS

__all__ = ["asyncapi"]

_FAMILIES = {
    "events": EVENTS,
    "samples": SAMPLES,
    "server_controls": SERVER_CONTROLS,
    "client_messages": CLIENT_MESSAGES,
}


def asyncapi(version: str) -> dict[str, Any]:
    """Return the document.

    Args:
        version: of facestage.
    """
    schema = json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    messages: dict[str, Any] = {}
    for family, members in _FAMILIES.items():
        for place, (name, kind) in enumerate(members.items()):
            messages[_key(family, name)] = {
                "name": name,
                "title": name,
                "summary": _first_sentence(kind.__doc__ or name),
                "contentType": "application/json",
                "payload": _moved(definitions[family]["oneOf"][place]),
            }
    schemas = {
        name: _moved(definition)
        for name, definition in definitions.items()
        if name not in _FAMILIES
    }
    sent = [key for key in messages if not key.startswith("client_messages")]
    taken = [key for key in messages if key.startswith("client_messages")]
    picture = {
        "name": "picture",
        "title": "picture",
        "summary": "A 16-byte header, then a JPEG.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
    }
    handshake = [key for key in taken if key.split(".", 1)[1] in ("auth", "subscribe", "heartbeat")]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "facestage",
            "version": version,
            "description": f"Explained facial Action Units, live. {RESEARCH_NOTICE}",
        },
        "defaultContentType": "application/json",
        "channels": {
            "ws": _channel("/ws", "Messages, as JSON.", [*sent, *taken]),
            "frames": _channel("/ws/frames", "Pictures, binary.", ["picture", *handshake]),
        },
        "operations": {
            "tell": _operation("send", "ws", sent),
            "hear": _operation("receive", "ws", taken),
            "show": _operation("send", "frames", ["picture"]),
            "hearViewer": _operation("receive", "frames", handshake),
        },
        "components": {"messages": {**messages, "picture": picture}, "schemas": schemas},
    }


def _key(family: str, name: str) -> str:
    return f"{family}.{name}"


def _channel(address: str, description: str, keys: list[str]) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in keys},
        "bindings": {"ws": {"method": "GET"}},
    }


def _operation(action: str, channel: str, keys: list[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{key}"} for key in keys],
    }


def _moved(part: Any) -> Any:
    """Return a schema whose references point to where the document has its schemas."""
    if isinstance(part, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/")
            if key == "$ref" and isinstance(value, str)
            else _moved(value)
            for key, value in part.items()
        }
    return [_moved(one) for one in part] if isinstance(part, list) else part


def _first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())
