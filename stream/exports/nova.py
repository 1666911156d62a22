"""NOVA's annotations (``.annotation``, ``.annotation~``) and streams (``.stream``, ``.stream~``).

An annotation is an XML head and, beside it under the same name and a tilde, its rows as text. Read
are the schemes FREE and DISCRETE; written is FREE. Source: the files that NOVA and the package
``hcai-nova-utils`` read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from ...core.errors import ConfigError
from .markers import Marker, read_text
from .safe_xml import read_xml, xml_bytes
from .tiers import Samples, Tier

__all__ = ["annotation_files", "read_annotation", "stream_files"]


def annotation_files(tier: Tier) -> dict[str, bytes]:
    """Return the two files of a tier, by name."""
    root = Element("annotation", {"ssi-v": "3"})
    SubElement(root, "info", ftype="ASCII", size=str(len(tier.spans)))
    SubElement(root, "meta", role="subject", annotator="facestage")
    SubElement(root, "scheme", name=tier.name, type="FREE", color="#FF4C8DFF")
    rows = io.StringIO()
    writer = csv.writer(rows, delimiter=";", lineterminator="\n")
    for span in tier.spans:
        writer.writerow([f"{span.start_s:.6f}", f"{span.end_s:.6f}", span.text, "1.000000"])
    name = f"{tier.name.replace(' ', '_')}.annotation"
    return {name: xml_bytes(root), f"{name}~": rows.getvalue().encode()}


def stream_files(name: str, rate: int, samples: Sequence[Samples]) -> dict[str, bytes]:
    """Return the two files of a stream, by name: a column for each of the samples, float32.

    What is not known is nan.
    """
    values = np.stack([one.values for one in samples], axis=1).astype("<f4")
    root = Element("stream", {"ssi-v": "2"})
    SubElement(
        root,
        "info",
        ftype="BINARY",
        sr=f"{rate:.6f}",
        dim=str(values.shape[1]),
        byte="4",
        type="FLOAT",
        delim="",
    )
    meta = SubElement(root, "meta")
    for column, one in enumerate(samples):
        SubElement(meta, "item", id=str(column), name=one.name)
    SubElement(
        root,
        "chunk",
        {
            "from": "0.000000",
            "to": f"{len(values) / rate:.6f}",
            "byte": "0",
            "num": str(len(values)),
        },
    )
    return {f"{name}.stream": xml_bytes(root), f"{name}.stream~": values.tobytes()}


def read_annotation(path: Path) -> list[Marker]:
    """Read markers from a NOVA annotation; ``path`` may be either of its two files.

    Raises:
        ConfigError: one of them is missing or damaged, or its scheme has no labels.
    """
    head = path.with_name(path.name.removesuffix("~"))
    root = read_xml(head, "annotation")
    scheme, info = root.find("scheme"), root.find("info")
    kind = "" if scheme is None else scheme.get("type", "")
    if scheme is None or kind not in ("FREE", "DISCRETE"):
        raise ConfigError(f"{head} has the scheme {kind!r}; markers are read from FREE or DISCRETE")
    if info is not None and info.get("ftype", "ASCII") != "ASCII":
        raise ConfigError(f"{head} is stored as {info.get('ftype')}; save it as ASCII in NOVA")
    names = {item.get("id"): item.get("name", "") for item in scheme.iter("item")}
    body = head.with_name(f"{head.name}~")
    markers: list[Marker] = []
    reader = csv.reader(io.StringIO(read_text(body)), delimiter=";")
    try:
        for row in reader:
            if not row:
                continue
            text = row[2] if kind == "FREE" else names.get(row[2], "")
            text = " ".join(text.split())
            if text:
                markers.append(Marker(float(row[0]), float(row[1]), text))
    except (ValueError, IndexError, csv.Error) as error:
        raise ConfigError(
            f"{body}, line {reader.line_num}: no annotation ({error}); save it again in NOVA"
        ) from error
    return markers
