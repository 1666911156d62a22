"""The columns that docs/files.md explains are those that a recording gets."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from facestage.stream.commands.analyze import run_analyze
from facestage.stream.commands.signatures import AnalyzeOptions

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "files.md").read_text()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an analysed recording."""
    out = tmp_path_factory.mktemp("recording") / "result"
    run_analyze(AnalyzeOptions(source="demo:", out_dir=out, frames=8))
    return out


def explained(table: str) -> set[str]:
    """Return the columns that the table below a heading explains."""
    text = PAGE.partition(f"### `{table}`")[2].partition("\n#")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def columns(path: Path) -> set[str]:
    """Return the columns of a table, those of all AUs as those of AU12."""
    with path.open(newline="", encoding="utf-8") as file:
        return {re.sub(r"^AU\d\d", "AU12", name) for name in next(csv.reader(file))}


def test_stages_have_these_columns(result: Path) -> None:
    assert columns(result / "stages.csv") == explained("stages.csv")


def test_frames_have_these_columns(result: Path) -> None:
    # The name of the picture is that of an image folder's.
    assert columns(result / "frames.csv") == explained("frames.csv") - {"file"}


def test_the_files_are_those(result: Path) -> None:
    listed = set(re.findall(r"`([\w.]+\.(?:html|png|json|csv|webm))`", PAGE)) | {"prototypes"}
    there = {path.name for path in result.iterdir()}
    assert there <= listed
    assert {"report.html", "frames.csv", "strip.png"} <= there
