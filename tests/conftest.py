"""Shared fixtures: real clips and models when they are at hand, and one thread for torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(os.environ.get("FACESTAGE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


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
        if "gpu" in item.keywords:
            item.add_marker(skip)
