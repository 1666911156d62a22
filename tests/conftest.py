"""Shared fixtures: real clips and models when they are at hand, and one thread for torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.support.paths import SHARED


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real clips, events and detector weights; the test is skipped without it."""
    if not (SHARED / "clips").is_dir():
        pytest.skip(f"no folder of real clips at {SHARED} (set FACESTAGE_SHARED to its path)")
    return SHARED


def pytest_configure() -> None:
    # Tests run in parallel processes; one thread each keeps them from fighting over the cores.
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        # Keywords also hold the names of folders, such as that of the checkout.
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


REQUIRED = set(filter(None, os.environ.get("FACESTAGE_REQUIRE", "").split(",")))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):  # type: ignore[no-untyped-def]
    """Turn a skip into a failure for the markers in FACESTAGE_REQUIRE (``browser,rtsp``)."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail"):
        for marker in REQUIRED & {mark.name for mark in item.iter_markers()}:
            report.outcome = "failed"
            report.longrepr = (
                f"skipped although FACESTAGE_REQUIRE names {marker}: {report.longrepr}"
            )
