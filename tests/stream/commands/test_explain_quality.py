"""The command explain-quality: good runs, every way it ends early, and the page of figures."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError, FacestageError, SourceError
from facestage.core.quality import (
    FIGURES,
    AUQuality,
    ExplanationQuality,
    Figure,
    between_aus,
)
from facestage.core.types import FaceObservation, FaceState
from facestage.stream import cli
from facestage.stream.commands import explain_quality as quality
from facestage.stream.offline.sample import KeptCrops
from typer.testing import CliRunner, Result

from tests.support.paths import ROOT

CLIP = ROOT / "stream" / "demo" / "face.mp4"
FIRST, LAST = 244, 256
"""Frames of the demo clip: brows lowered, eyes shut; the mouth opens near the end."""

sys.path.append(str(ROOT / "benchmarks"))
explain_benchmark: Any = importlib.import_module("explain_quality")


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, ["explain-quality", "--detector", "ours", *map(str, args)])


def failure(*args: object) -> FacestageError:
    error = run(*args).exception
    assert isinstance(error, FacestageError), error
    return error


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen frames of the demo clip as a folder of images."""
    folder = tmp_path_factory.mktemp("frames")
    video = cv2.VideoCapture(str(CLIP))
    for number in range(LAST + 1):
        ok, image = video.read()
        assert ok
        if number >= FIRST:
            cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


def test_a_table_and_every_figure_with_what_it_rests_on(frames: Path, tmp_path: Path) -> None:
    target = tmp_path / "quality.json"
    done = run(frames, "--aus", "4,43", "--frames", "10", "--json", target)
    assert done.exit_code == 0, done.output
    assert "13 frames, 13 with a usable face, measured on 10" in done.output
    assert "LRP innvestigate_a_flat (fused engine)" in done.output
    assert f"written: {target}" in done.output
    facts = json.loads(target.read_text())
    assert facts["schema"] == quality.SCHEMA
    assert len(facts["frames"]) == 10
    one = facts["presets"]["innvestigate_a_flat"]
    assert one["aus"].keys() == {"4", "43"}
    for row in one["aus"].values():
        assert row["figures"].keys() == FIGURES.keys()
        for name, figure in row["figures"].items():
            assert (figure["value"] is None) == (figure["frames"] == 0), name
        assert row["figures"]["mass"]["frames"] == row["frames"] == 10
        assert row["figures"]["morf_lerf"]["frames"] == 4
        assert row["figures"]["full_cosine"]["frames"] == 4
    # Lowered brows are seen at the brows, and what is marked there carries the logit.
    brows = one["aus"]["4"]["figures"]
    assert brows["enrichment"]["value"] > 1.5
    assert brows["morf_random"]["value"] > 0
    assert brows["full_rank"]["value"] < 0.5
    layers = one["randomisation"]
    assert len(layers["layers"]) == len(layers["cosine"]) == len(layers["rank"]) == 9
    assert one["between_aus"]["frames"][0][1] == 10


def test_one_picture_is_not_enough(frames: Path) -> None:
    error = failure(frames / f"{FIRST}.png")
    assert isinstance(error, SourceError)
    assert "holds 1 frame; a figure needs an AU active in at least 5" in str(error)
    assert "give a video, or a folder of images" in str(error)


def test_a_source_without_a_face_says_so(tmp_path: Path) -> None:
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((180, 240, 3), 128, np.uint8))
    error = failure(tmp_path)
    assert isinstance(error, SourceError)
    assert "no usable face in 6 frames; give a recording" in str(error)


def test_a_source_without_an_active_au_says_so(frames: Path) -> None:
    error = failure(frames, "--aus", "28")
    assert isinstance(error, SourceError)
    assert "none of the AUs that take part (28) is active in at least 5" in str(error)
    assert "--aus all" in str(error)


def test_options_that_cannot_work_are_refused_before_the_work(frames: Path, tmp_path: Path) -> None:
    error = failure(frames, "--lrp-preset", "nonsense")
    assert isinstance(error, ConfigError)
    assert "innvestigate_a_flat" in str(error)
    error = failure(frames, "--json", tmp_path / "missing" / "q.json")
    assert isinstance(error, ConfigError)
    assert "there is no folder" in str(error)
    assert run(frames, "--frames", "0").exit_code == 2
    assert run(frames, "--frames", "4").exit_code == 2  # too few for any AU


@pytest.mark.parametrize("answers", [1, 4])
def test_ctrl_c_ends_it_without_a_file(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    """Stopped while reading (1st question) and while measuring (the source gives 3 batches)."""

    @contextmanager
    def pressed() -> Iterator[Callable[[], bool]]:
        asked = 0

        def stop() -> bool:
            nonlocal asked
            asked += 1
            return asked >= answers

        yield stop

    monkeypatch.setattr(quality, "interruptible", pressed)
    target = tmp_path / "quality.json"
    done = run(frames, "--aus", "4,43", "--json", target)
    assert done.exit_code == 130
    assert "stopped: nothing was written" in done.output
    assert ("measured on" in done.output) == (answers > 1)
    assert list(tmp_path.iterdir()) == []


def au_quality(au: int, nearest: int | None = None, **values: float | None) -> AUQuality:
    """Return figures of an AU about which nothing is wrong, but for what is given."""
    usual = dict.fromkeys(FIGURES, 0.8) | {"enrichment": 2.0} | values
    figures = {
        name: Figure(None, 0) if value is None else Figure(value, 6)
        for name, value in usual.items()
    }
    figures["nearest"] = figures.pop("alike", figures["nearest"])
    return AUQuality(au, 6, figures, nearest)


def measured(*aus: AUQuality) -> ExplanationQuality:
    return ExplanationQuality(
        preset="zennit",
        engine="fused",
        frames=9,
        aus=aus,
        rare={26: 2},
        agreement=between_aus(np.zeros((0, 4, 4)), [], []),
        layers=("1", "0"),
        layer_cosine=(0.5, float("nan")),
        layer_rank=(0.1, 0.2),
        with_regions=False,
    )


def test_what_is_wrong_with_maps_is_said_once_and_in_words() -> None:
    assert quality.findings(measured(au_quality(4, 43), au_quality(43, 4))) == []
    wrong = measured(
        au_quality(12, 25, alike=0.94),
        au_quality(16, positive=0.1, morf_random=-0.2, enrichment=0.7),
        au_quality(25, 12, alike=0.94),
    )
    found = quality.findings(wrong)
    assert [line.partition(":")[0] for line in found] == ["AU12 and AU25", *["AU16"] * 3]
    assert "nearly the same map (0.94)" in found[0]
    assert "speak more against it" in found[1]
    assert "random order" in found[2]
    assert "its region has less relevance" in found[3]
    unknown = measured(au_quality(4, **dict.fromkeys(("positive", "morf_random", "enrichment"))))
    assert quality.findings(unknown) == []


def test_the_table_says_what_is_missing() -> None:
    lines = quality.format_quality(measured(au_quality(12, 25, alike=0.94, mass=None)))
    row = next(line for line in lines if line.startswith("AU12"))
    assert row.split()[:4] == ["AU12", "6", "6", "–"]
    assert row.endswith("AU25 0.94 (6)")
    assert "active in fewer than 5 frames, not measured: AU26 (2)" in lines
    assert any(line.startswith("no regions: the network has no 68 landmarks") for line in lines)


def test_crops_are_thinned_evenly_when_they_become_too_many() -> None:
    kept = KeptCrops(limit=8)
    crop = np.zeros((4, 4), np.uint8)
    face = FaceObservation(FaceState.TRACKED, crop=crop)
    empty: Any = type("Seen", (), {})
    for number in range(40):
        seen = empty()
        seen.frame = type("Frame", (), {"index": number})
        seen.face = face
        seen.maps = {12: None}
        kept.add([seen])
    seen.face = replace(face, crop=None)
    kept.add([seen])
    assert kept.faces == 40
    assert len(kept.frames) <= 8
    index = [number for number, _, _ in kept.frames]
    assert index == list(range(0, 40, index[1]))


def test_the_page_shows_the_figures_that_were_measured() -> None:
    sources = json.loads(explain_benchmark.RESULTS.read_text(encoding="utf-8"))
    text = explain_benchmark.PAGE.read_text(encoding="utf-8")
    between = text.partition(explain_benchmark.BEGIN)[2].partition(explain_benchmark.END)[0]
    assert between.strip() == explain_benchmark.page_tables(sources)


def test_a_page_is_written_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{explain_benchmark.BEGIN}\nold\n{explain_benchmark.END}\nafter\n")
    sources = json.loads(explain_benchmark.RESULTS.read_text(encoding="utf-8"))
    explain_benchmark.write_page(sources, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| AU12 |" in text
