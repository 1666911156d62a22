"""The AsyncAPI document: every message is there once, and every reference leads somewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from facestage.stream import protocol
from facestage.stream.protocol.asyncapi import asyncapi

from tests.stream.protocol.test_protocol import BODIES, CLIENT_BODIES

DOCUMENT = json.loads(json.dumps(asyncapi("1.2.3")))


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def found(pointer: str) -> Any:
    part: Any = DOCUMENT
    for key in pointer.removeprefix("#/").split("/"):
        part = part[key.replace("~1", "/").replace("~0", "~")]
    return part


def test_every_reference_leads_somewhere() -> None:
    pointers = set(references(DOCUMENT))
    assert len(pointers) > 40
    for pointer in pointers:
        assert isinstance(found(pointer), dict), pointer


def test_every_message_is_told_in_the_direction_it_goes() -> None:
    told = {
        name: [found(found(one["$ref"])["$ref"])["name"] for one in operation["messages"]]
        for name, operation in DOCUMENT["operations"].items()
    }
    families = (protocol.EVENTS, protocol.SAMPLES, protocol.SERVER_CONTROLS)
    assert told["tell"] == [name for family in families for name in family]
    assert told["hear"] == list(protocol.CLIENT_MESSAGES)
    assert DOCUMENT["operations"]["tell"]["action"] == "send"
    assert DOCUMENT["operations"]["hear"]["action"] == "receive"


@pytest.mark.parametrize("body", [*BODIES, *CLIENT_BODIES], ids=lambda body: body.type)
def test_messages_keep_to_their_payload(body: protocol.Body) -> None:
    family = next(
        name
        for name, kinds in (
            ("events", protocol.EVENTS),
            ("samples", protocol.SAMPLES),
            ("server_controls", protocol.SERVER_CONTROLS),
            ("client_messages", protocol.CLIENT_MESSAGES),
        )
        if type(body) in kinds.values()
    )
    seq = 5 if family == "events" else None
    message = json.loads(protocol.encode(body, seq=seq))
    payload = DOCUMENT["components"]["messages"][f"{family}.{body.type}"]["payload"]
    schema = {**payload, "components": DOCUMENT["components"]}
    jsonschema.validate(message, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**message, "type": "other"}, schema)


def test_the_document_is_valid_by_the_specification() -> None:
    place = os.environ.get("ASYNCAPI_SCHEMA")
    if not place:
        pytest.skip("needs ASYNCAPI_SCHEMA: schemas/3.0.0.json of the npm package @asyncapi/specs")
    jsonschema.Draft7Validator(json.loads(Path(place).read_text())).validate(DOCUMENT)
