"""The page's types: TypeScript declarations of the wire protocol, made from its JSON Schema.

``python -m tests.support.schema_types`` writes them anew, after every change of the protocol.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from facestage.stream.protocol import json_schema

__all__ = ["TYPES", "declarations"]

TYPES = Path(__file__).parents[2] / "stream" / "overlay" / "protocol.d.ts"
"""Where the page's scripts look for the declarations; browsers never ask for them."""

_HEAD = """\
// Made by `python -m tests.support.schema_types` from the JSON Schema of the wire protocol; do not
// edit. What the server sends has every property, for it writes defaults too; what a client sends
// may lack those that are optional here.
"""
_PRIMITIVES = {
    "boolean": "boolean",
    "integer": "number",
    "null": "null",
    "number": "number",
    "string": "string",
}

Schema = dict[str, Any]


def declarations(schema: Schema) -> str:
    """Return one declaration per definition of the schema, in its order.

    Args:
        schema: as :func:`~facestage.stream.protocol.json_schema` makes it.

    Raises:
        ValueError: the schema says something that is not translated here.
    """
    definitions: dict[str, Schema] = schema["$defs"]
    from_clients = _reached(definitions, "client_messages")
    blocks = [_HEAD]
    for key, definition in definitions.items():
        text = _type(definition, optional=key in from_clients)
        is_object = definition.get("type") == "object"
        head = f"export interface {_name(key)} " if is_object else f"export type {_name(key)} ="
        comment = _comment(definition.get("description", ""))
        blocks.append(f"{comment}{head}{text}{'' if is_object else ';'}\n")
    return "\n".join(blocks)


def _reached(definitions: dict[str, Schema], first: str) -> set[str]:
    """Return the names of a definition and of all it refers to, through others as well."""
    found: set[str] = set()
    waiting = [first]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += re.findall(r'"#/\$defs/(\w+)"', json.dumps(definitions[key]))
    return found


def _name(key: str) -> str:
    """Return a definition's name as types are written: ``server_controls`` → ``ServerControls``."""
    return "".join(part[:1].upper() + part[1:] for part in key.split("_"))


def _comment(description: str) -> str:
    """Return a docstring as a comment, without the marks of Sphinx."""
    if not description:
        return ""
    plain = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", description)
    lines = plain.replace("``", "`").splitlines()
    if len(lines) == 1:
        return f"/** {lines[0]} */\n"
    return "\n".join(["/**", *(f" * {line}".rstrip() for line in lines), " */"]) + "\n"


def _type(schema: Schema, *, optional: bool) -> str:
    """Return the type of a schema; ``optional``: properties that are not required may be absent."""
    match schema:
        case {"$ref": reference}:
            return _name(reference.rpartition("/")[2])
        case {"const": value}:
            return json.dumps(value)
        case {"enum": values}:
            return " | ".join(map(json.dumps, values))
        case {"oneOf": members}:
            types = (" ".join(_type(member, optional=optional).split()) for member in members)
            return "".join(f"\n  | {text}" for text in types)
        case {"anyOf": members}:
            return " | ".join(_type(member, optional=optional) for member in members)
        case {"type": list() as names}:
            return " | ".join(_PRIMITIVES[name] for name in names)
        case {"type": "array", "prefixItems": items}:
            return f"[{', '.join(_type(item, optional=optional) for item in items)}]"
        case {"type": "array", "items": items}:
            of = _type(items, optional=optional)
            return f"({of})[]" if " | " in of else f"{of}[]"
        case {"type": "object", "additionalProperties": dict() as values}:
            return f"Record<string, {_type(values, optional=optional)}>"
        case {"type": "object", "properties": properties}:
            required = schema.get("required", ())
            lines = [
                f"{key}{'?' if optional and key not in required else ''}: "
                f"{_indented(_type(value, optional=optional))};"
                for key, value in properties.items()
            ]
            return "\n  ".join(["{", *lines]) + "\n}" if lines else "{}"
        case {"type": str() as name} if name in _PRIMITIVES:
            return _PRIMITIVES[name]
    raise ValueError(f"no type is known for the schema {schema}")


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")


if __name__ == "__main__":
    TYPES.write_text(declarations(json_schema()), encoding="utf-8")
