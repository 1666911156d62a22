"""What is published is whole: the wheel, what its README says on a package index, its metadata."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tools.dist import absolute_links, project_urls

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOME = "https://example.org/facestage"
NOT_SHIPPED = {".d.ts", ".json"}
"""Endings of files beside the page that only its type check reads."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, as a release is built."""
    setuptools = pytest.importorskip("setuptools", reason="building needs setuptools")
    if int(setuptools.__version__.partition(".")[0]) < 77:
        pytest.skip(f"building needs setuptools 77, here is {setuptools.__version__}")
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in"):
        copy.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy)
    for name in ("core", "stream", "src"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(folder)]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_what_the_folders_hold(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("core", "stream"):
        for path in (ROOT / folder).rglob("*"):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            name = f"facestage/{path.relative_to(ROOT)}"
            beside_the_page = path.parent.name == "overlay"
            typed_only = beside_the_page and path.name.endswith(tuple(NOT_SHIPPED))
            assert (name in names) != typed_only, name
    assert "facestage/py.typed" in names
    assert {Path(name).parts[0] for name in names} == {
        "facestage",
        f"facestage-{PROJECT['project']['version']}.dist-info",
    }
    licences = [name for name in names if "/licenses/" in name]
    assert {Path(name).name for name in licences} == {"LICENSE", "NOTICE"}


def test_the_metadata_is_whole(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(archive.read(name))
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Author"] == "The facestage authors"
    assert metadata["Description-Content-Type"] == "text/markdown"
    minors = re.findall(r"Python :: 3\.(\d+)", " ".join(metadata.get_all("Classifier")))
    assert minors == ["11", "12", "13", "14"]
    assert len(metadata["Summary"]) <= 120


def test_the_demo_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import facestage.stream.cli as cli, facestage.core as core, sys\n"
        "assert cli.__file__.startswith(sys.argv[1]), cli.__file__\n"
        "assert core.__file__.startswith(sys.argv[1]), core.__file__\n"
        "sys.argv[1:] = ['analyze', 'demo:', '--out', 'result', '--frames', '8']\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result" / "report.html").exists()


def test_links_are_absolute_on_a_package_index() -> None:
    text = absolute_links((ROOT / "README.md").read_text(), HOME, "9.9")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert any(target.startswith(f"{HOME}/raw/v9.9/docs/") for target in targets)
    assert any(target.startswith(f"{HOME}/blob/v9.9/docs/") for target in targets)
    assert all(target.startswith(("https://", "http://", "#")) for target in targets)


def test_addresses_fit_into_the_settings() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    place = text.index("[project.optional-dependencies]")
    whole = tomllib.loads(text[:place] + project_urls(HOME) + text[place:])
    assert whole["project"]["urls"]["Homepage"] == HOME
    assert whole["project"]["optional-dependencies"] == PROJECT["project"]["optional-dependencies"]


def test_a_release_refuses_what_is_no_address(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.dist", "--home", "facestage", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "write https://" in done.stderr
