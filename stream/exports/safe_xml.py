"""XML of other programs, read without trust: no document type, no entities, a bounded size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

from ...core.errors import ConfigError
from .markers import read_bytes

__all__ = ["read_xml", "xml_bytes"]

_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What a text of XML 1.0 cannot hold."""


def read_xml(path: Path, root: str) -> ElementTree.Element:
    """Return the root of an XML file.

    A document type is what entities need that expand to gigabytes or read other files; no format
    read here has one.

    Args:
        path: of the file.
        root: tag that its root must have.

    Raises:
        ConfigError: it cannot be read, has a document type, is no XML, or has another root.
    """
    data = read_bytes(path)

    def refuse(*_: object) -> NoReturn:
        raise ConfigError(
            f"{path} has a document type, which is not read for safety; remove its <!DOCTYPE …>"
        )

    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = refuse
    try:
        checker.Parse(data, True)
        element = ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise ConfigError(
            f"{path} is no XML that can be read ({error}); export it again"
        ) from error
    if element.tag != root:
        raise ConfigError(f"{path} is no such file: it begins with <{element.tag}>, not <{root}>")
    return element


def xml_bytes(element: ElementTree.Element) -> bytes:
    """Return an element as a file; what XML 1.0 cannot hold is left out of its texts."""
    for part in element.iter():
        part.text = None if part.text is None else _allowed(part.text)
        part.attrib.update({key: _allowed(value) for key, value in part.attrib.items()})
    ElementTree.indent(element)
    return ElementTree.tostring(element, encoding="UTF-8", xml_declaration=True) + b"\n"


def _allowed(text: str) -> str:
    return _FORBIDDEN.sub("", text)
