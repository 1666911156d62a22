"""``facestage export`` and ``facestage markers``: results to other programs, markers from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...core.errors import ConfigError
from ..console import out
from ..exports.boris import boris_bytes, read_boris
from ..exports.edf import edf_bytes
from ..exports.elan import eaf_bytes, read_eaf
from ..exports.health import bundle_bytes
from ..exports.markers import (
    MARKERS,
    Marker,
    add_markers,
    marker_table,
    parse_markers,
    read_markers,
    read_text,
)
from ..exports.nova import annotation_files, read_annotation, stream_files
from ..exports.recording import Recording, read_recording
from ..exports.tiers import Tier, samples, tiers
from ..files import check_target, write_file
from ..offline.cells import csv_text
from .rest import parse_spans
from .signatures import ExportOptions, MarkerOptions

__all__ = ["run_export", "run_markers"]

_Writer = Callable[[Recording, Sequence[Tier]], bytes]

_FILES: dict[str, tuple[str, _Writer]] = {
    "elan": (".eaf", lambda recording, found: eaf_bytes(found, recording.source)),
    "boris": (
        ".boris",
        lambda recording, found: boris_bytes(
            found, recording.source, recording.fps, recording.end_s
        ),
    ),
    "csv": (".csv", lambda recording, found: _table(found)),
    "fhir": (".fhir.json", lambda recording, found: bundle_bytes(recording)),
    "edf": (".edf", edf_bytes),
}
"""Format → ending, and what makes its one file. NOVA has several files and is not among them."""


def run_export(options: ExportOptions) -> list[Path]:
    """Write results for another program; return the files.

    Raises:
        FacestageError: the folder holds no results, the format is not known, a span is none, or
            something else is in the way.
    """
    if options.to not in (*_FILES, "nova"):
        raise ConfigError(
            f"--to {options.to!r} is unknown; use one of {', '.join(sorted([*_FILES, 'nova']))}"
        )
    recording = read_recording(options.folder)
    recording = recording.without(_excluded(options.exclude or (), recording.markers))
    found = tiers(recording)
    home = options.folder.resolve()
    if options.to == "nova":
        target = options.out_file or home.with_name(f"{home.name}.nova")
        files = _nova(recording, found)
        if not options.overwrite and target.exists():
            raise _in_the_way(target)
        for name, data in files.items():
            write_file(target / name, data)
        written = [target / name for name in files]
    else:
        ending, write = _FILES[options.to]
        target = options.out_file or home.with_name(home.name + ending)
        check_target(target)
        if not options.overwrite and target.exists():
            raise _in_the_way(target)
        write_file(target, write(recording, found))
        written = [target]
    out.print(f"written: {target}", markup=False)
    return written


def _in_the_way(target: Path) -> ConfigError:
    return ConfigError(
        f"{target} exists already; name another with --out, or add --overwrite to replace it"
    )


def _excluded(texts: Sequence[str], markers: Sequence[Marker]) -> list[tuple[float, float]]:
    """Return the spans to leave out: those written out, and those of markers with that text."""
    spans: list[tuple[float, float]] = []
    for text in texts:
        marked = [(m.start_s, m.end_s) for m in markers if m.text == text]
        spans += marked or parse_spans([text])
    return spans


def _nova(recording: Recording, found: Sequence[Tier]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for tier in found:
        files |= annotation_files(tier)
    rate, steady = samples(recording)
    if steady:
        files |= stream_files("facestage", rate, steady)
    return files


def _table(found: Sequence[Tier]) -> bytes:
    rows = (
        [tier.name, f"{span.start_s:.6f}", f"{span.end_s:.6f}", span.text]
        for tier in found
        for span in tier.spans
    )
    return csv_text(["tier", "start_s", "end_s", "text"], rows).encode()


def run_markers(options: MarkerOptions) -> list[Marker]:
    """List the markers of results, after adding those of another program's file.

    Raises:
        FacestageError: the folder holds no results, or the file cannot be read.
    """
    read_recording(options.folder)
    markers = read_markers(options.folder)
    if options.from_file is not None:
        new = _read(options.from_file, options.tier)
        together = add_markers(markers, new)
        write_file(options.folder / MARKERS, marker_table(together).encode())
        out.print(
            f"{len(together) - len(markers)} of {len(new)} markers added to "
            f"{options.folder / MARKERS}",
            markup=False,
        )
        markers = together
    for one in markers:
        end = "" if one.end_s == one.start_s else f" to {one.end_s:.3f}"
        out.print(f"{one.start_s:10.3f}{end} s  {one.text}", markup=False)
    if not markers:
        out.print("no markers; add those of a file with --from")
    return markers


def _read(path: Path, tier: str | None) -> list[Marker]:
    kind = path.name.lower().removesuffix("~").rpartition(".")[2]
    if kind == "eaf":
        return read_eaf(path, tier)
    if kind == "boris":
        return read_boris(path, tier)
    if tier is not None:
        raise ConfigError(f"--tier is for .eaf and .boris; leave it out for {path.name}")
    if kind == "annotation":
        return read_annotation(path)
    if kind == "csv":
        return parse_markers(read_text(path), str(path))
    raise ConfigError(
        f"--from {path}: markers are read from .eaf (ELAN), .annotation (NOVA), .boris and .csv"
    )
