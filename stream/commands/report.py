"""``facestage report``: the files of ``analyze``, from a recorded session."""

from __future__ import annotations

from pathlib import Path

from ...core.errors import ConfigError
from ...core.scores.definition import KNOWN, Score, parse_scores
from ...core.stages import format_prototype
from .. import protocol
from ..console import err, out
from ..exports.markers import MARKERS, Marker, add_markers, marker_table, read_markers
from ..files import write_file
from ..offline.exports import check_output, write_analysis
from ..recording.folder import plain_name
from ..recording.reader import Session, open_session
from ..recording.result import session_results
from .signatures import ReportOptions

__all__ = ["run_report", "write_report"]

REPORT = "report"
"""Folder in a session for its report."""


def run_report(options: ReportOptions) -> list[Path]:
    """Write what is known from a session, and say where.

    Returns:
        The reports.

    Raises:
        FacestageError: the session cannot be read, or the folder not be written.
    """
    session = open_session(options.session)
    for note in session.notes:
        err.print(f"note: {note}", markup=False)
    target = options.out_dir or options.session / REPORT
    if target.resolve() == options.session.resolve():
        raise ConfigError(
            f"--out {target} is the session itself; name another folder for the report"
        )
    written = write_report(session, target, overwrite=options.overwrite)
    for path in written:
        out.print(f"written: {path}", markup=False)
    return written


def write_report(
    session: Session, target: Path, *, overwrite: bool = False, quiet: bool = False
) -> list[Path]:
    """Write the results of a session into a folder, of several sources one in each.

    Args:
        session: what was recorded.
        target: the folder.
        overwrite: whether what else is there is moved aside.
        quiet: whether the temporal prototypes are not printed, too.

    Returns:
        The reports.

    Raises:
        SourceError: the session has no frame.
        ConfigError: the folder cannot be written.
    """
    results = session_results(session)
    folders = _folders(list(results), target)
    for folder in folders.values():
        check_output(folder, overwrite=overwrite)
    thresholds = {unit.au: (unit.on, unit.off) for unit in session.head.hello.aus}
    scores = _scores(session)
    written: list[Path] = []
    for name, result in results.items():
        write_analysis(
            result, folders[name], overwrite=overwrite, thresholds=thresholds, scores=scores
        )
        _keep_markers(session, name, folders[name])
        if not quiet:
            head = f"{name}: " if len(results) > 1 else ""
            out.print(f"{head}{format_prototype(result.stages)}", markup=False)
        written.append(folders[name] / "report.html")
    return written


def _scores(session: Session) -> tuple[Score, ...]:
    """Return the scores that were followed."""
    infos = session.head.hello.scores
    return parse_scores(
        [one.name if one.name in KNOWN else f"{one.name}={one.formula}" for one in infos]
    )


def _keep_markers(session: Session, stream: str, folder: Path) -> None:
    """Write the markers of a stream beside its report; those that are there stay."""
    told = [record.envelope for record in session.events()]
    found = [
        Marker(one.data.start_s, one.data.end_s, " ".join(one.data.text.split()))
        for one in told
        if one is not None and one.stream == stream and isinstance(one.data, protocol.Marker)
    ]
    if found:
        together = add_markers(read_markers(folder), found)
        write_file(folder / MARKERS, marker_table(together).encode())


def _folders(names: list[str], target: Path) -> dict[str, Path]:
    if len(names) == 1:
        return {names[0]: target}
    if target.is_file():
        raise ConfigError(f"{target} is a file; name a folder for the results")
    folders: dict[str, Path] = {}
    for number, name in enumerate(names, start=1):
        # Two names may become one when they are made plain.
        folders[name] = target / f"{number}-{plain_name(name.rpartition('/')[2])}"
    return folders
