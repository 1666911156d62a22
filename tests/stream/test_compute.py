"""Threads of the numerical libraries."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from facestage.stream import cli
from facestage.stream.commands.options import analyzer_config
from facestage.stream.compute import limit_blas
from facestage.stream.corpus.job import SequenceWorker, Settings
from threadpoolctl import ThreadpoolController


def threads() -> list[int]:
    """Return the number of threads of each OpenBLAS of this process."""
    importlib.import_module("scipy.linalg")  # brings its own
    found = ThreadpoolController().select(internal_api="openblas").info()
    return [library["num_threads"] for library in found]


@pytest.fixture
def several() -> Iterator[None]:
    """Let matrix products use two threads, and as many as before after the test."""
    before = threads()
    if not before:
        pytest.skip("NumPy and SciPy come without OpenBLAS here")
    with ThreadpoolController().select(internal_api="openblas").limit(limits=2):
        assert set(threads()) == {2}
        yield


@pytest.mark.usefixtures("several")
def test_products_of_matrices_are_left_to_one_thread() -> None:
    limit_blas(1)
    assert set(threads()) == {1}
    a = np.random.default_rng(0).random((64, 512))
    np.testing.assert_allclose((a @ a.T)[3, 5], (a[3] * a[5]).sum())


@pytest.mark.usefixtures("several")
def test_a_worker_of_a_corpus_keeps_to_its_threads(tmp_path: Path) -> None:
    config = analyzer_config(0.0, "shown", baseline=False)
    SequenceWorker(Settings(tmp_path / "out", {}, config, "paper", detector="ours", threads=1))
    assert set(threads()) == {1}


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("options", [["live", "--port", "0"], ["analyze", "--out", "out"]])
def test_a_stream_and_a_recording_leave_their_small_products_to_one_thread(
    options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["facestage", *options, "missing.mp4"])
    with pytest.raises(SystemExit, match="4"):
        cli.main()
    assert set(threads()) == {1}
