"""The input that the networks of ``tests/support/lrp_networks.py`` are explained for."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 2, 21, 21, generator=torch.Generator().manual_seed(7))
