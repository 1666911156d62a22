"""ELAN's annotation files (``.eaf``, format 3.0), written and read.

Source: the schema ``EAFv3.0.xsd`` of the Max Planck Institute for Psycholinguistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from ...core.errors import ConfigError
from .markers import Marker
from .safe_xml import read_xml, xml_bytes
from .tiers import MARKER_TIER, Tier

__all__ = ["eaf_bytes", "read_eaf"]

_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_KIND = "default-lt"
MOMENT_MS = 1
"""ELAN knows no moments, only spans: a moment is written as so many milliseconds, and read back
from spans no longer than that."""


def eaf_bytes(tiers: Sequence[Tier], media: str) -> bytes:
    """Return tiers as an ELAN file.

    Args:
        tiers: their times are rounded to milliseconds, the unit of the format.
        media: name of the recording's file, which ELAN looks for beside its own.
    """
    spans = [
        (tier.name, round(span.start_s * 1000), round(span.end_s * 1000), span.text)
        for tier in tiers
        for span in tier.spans
    ]
    spans = [(name, start, max(end, start + MOMENT_MS), text) for name, start, end, text in spans]
    times = sorted({time for _, start, end, _ in spans for time in (start, end)})
    slots = {time: f"ts{n}" for n, time in enumerate(times, start=1)}
    root, header = _document(media)
    last = SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId")
    last.text = str(len(spans))
    order = SubElement(root, "TIME_ORDER")
    for time, slot in slots.items():
        SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(time))
    elements = {
        tier.name: SubElement(root, "TIER", LINGUISTIC_TYPE_REF=_KIND, TIER_ID=tier.name)
        for tier in tiers
    }
    for number, (name, start, end, text) in enumerate(spans, start=1):
        annotation = SubElement(
            SubElement(elements[name], "ANNOTATION"),
            "ALIGNABLE_ANNOTATION",
            ANNOTATION_ID=f"a{number}",
            TIME_SLOT_REF1=slots[start],
            TIME_SLOT_REF2=slots[end],
        )
        SubElement(annotation, "ANNOTATION_VALUE").text = text
    SubElement(
        root,
        "LINGUISTIC_TYPE",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID=_KIND,
        TIME_ALIGNABLE="true",
    )
    return xml_bytes(root)


def _document(media: str) -> tuple[Element, Element]:
    """Return the root of a document and its header, which names the recording's file."""
    root = Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "facestage",
            "DATE": "1970-01-01T00:00:00+00:00",  # the same file for the same results
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": _XSI,
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if media:
        kind = "video/mp4" if media.lower().endswith(".mp4") else "unknown"
        place = f"./{media}"
        SubElement(
            header, "MEDIA_DESCRIPTOR", MEDIA_URL=place, MIME_TYPE=kind, RELATIVE_MEDIA_URL=place
        )
    return root, header


def read_eaf(path: Path, tier: str | None = None) -> list[Marker]:
    """Read markers from an ELAN file.

    Args:
        path: of the file.
        tier: the one to read; by default those whose name begins with ``markers``.

    Raises:
        ConfigError: it is no ELAN file, has no such tier, or an annotation has no time.
    """
    root = read_xml(path, "ANNOTATION_DOCUMENT")
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    names = [element.get("TIER_ID", "") for element in root.iter("TIER")]
    wanted = choose_tiers(path, names, tier)
    spans = _annotations(root)
    markers: list[Marker] = []
    for element in root.iter("TIER"):
        if element.get("TIER_ID") not in wanted:
            continue
        for annotation in element.iter("ANNOTATION"):
            for inner in annotation:
                text = " ".join((inner.findtext("ANNOTATION_VALUE") or "").split())
                aligned = spans.get(inner.get("ANNOTATION_ID"))
                ends = (
                    []
                    if aligned is None
                    else [
                        slots.get(aligned.get(key)) for key in ("TIME_SLOT_REF1", "TIME_SLOT_REF2")
                    ]
                )
                if text:
                    markers.append(_marker(path, text, ends))
    return markers


def choose_tiers(path: Path, names: Sequence[str], tier: str | None) -> set[str]:
    """Return the tiers to read: the one asked for, else those that hold markers by their name.

    Raises:
        ConfigError: there is none.
    """
    known = ", ".join(sorted(set(names))[:20]) or "none"
    if tier is not None:
        if tier not in names:
            raise ConfigError(f"{path} has no tier {tier!r}; its tiers are: {known}")
        return {tier}
    wanted = {name for name in names if name.lower().startswith(MARKER_TIER[:-1])}
    if not wanted:
        raise ConfigError(
            f"{path} has no tier called {MARKER_TIER!r}; say with --tier which holds the markers. "
            f"Its tiers are: {known}"
        )
    return wanted


def _annotations(root: Element) -> dict[str | None, Element]:
    """Return for the id of each annotation the one that has its times: itself, or its parent."""
    aligned = {one.get("ANNOTATION_ID"): one for one in root.iter("ALIGNABLE_ANNOTATION")}
    parents = {
        one.get("ANNOTATION_ID"): one.get("ANNOTATION_REF") for one in root.iter("REF_ANNOTATION")
    }
    found = dict(aligned)
    for name in parents:
        seen = {name}
        above = parents[name]
        while above in parents and above not in seen:
            seen.add(above)
            above = parents[above]
        if above in aligned:
            found[name] = aligned[above]
    return found


def _marker(path: Path, text: str, ends: Sequence[str | None]) -> Marker:
    try:
        start, end = (int(value) for value in ends if value is not None)
    except ValueError:
        raise ConfigError(
            f"{path}: the annotation {text[:40]!r} has no times; align it in ELAN, and save again"
        ) from None
    end = start if 0 <= end - start <= MOMENT_MS else end
    return Marker(start / 1000, end / 1000, text)
