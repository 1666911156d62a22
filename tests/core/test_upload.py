"""Copies to a GPU: what is asked of CUDA and in which order, and on a GPU that they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from facestage.core.backend import Uplink, upload


class FakeCuda:
    """Streams that write down what is asked of them."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.now = "main"

    def Stream(self, device: torch.device) -> str:  # noqa: N802
        return f"aside of {device}"

    @contextmanager
    def stream(self, stream: str) -> Iterator[None]:
        before, self.now = self.now, stream
        yield
        self.now = before

    def current_stream(self, device: torch.device) -> FakeCuda:
        assert device == torch.device("cuda:1")
        return self

    def wait_stream(self, stream: str) -> None:
        self.said.append((self.now, "waits for", stream))


class FakeTensor:
    """A tensor that can be anywhere."""

    def __init__(self, cuda: FakeCuda, place: str) -> None:
        self.cuda, self.place = cuda, place

    def pin_memory(self) -> FakeTensor:
        return FakeTensor(self.cuda, "pinned")

    def to(self, device: torch.device, *, non_blocking: bool) -> FakeTensor:
        self.cuda.said.append((self.cuda.now, "copies", self.place, str(device), non_blocking))
        return FakeTensor(self.cuda, str(device))

    def record_stream(self, stream: FakeCuda) -> None:
        self.cuda.said.append((stream.now, "is reading", self.place))


def test_a_copy_runs_aside_and_only_the_reading_stream_waits_for_it() -> None:
    cuda = FakeCuda()
    up = Uplink(torch.device("cuda:1"), cuda)
    made: Any = up(FakeTensor(cuda, "pageable"))  # type: ignore[arg-type]
    assert made.place == "cuda:1"
    assert cuda.said == [
        ("aside of cuda:1", "copies", "pinned", "cuda:1", True),
        ("main", "waits for", "aside of cuda:1"),
        ("main", "is reading", "cuda:1"),
    ]


def test_on_a_cpu_nothing_is_copied() -> None:
    tensor = torch.arange(5)
    assert upload(tensor, torch.device("cpu")) is tensor


@pytest.mark.gpu
def test_copies_arrive_whole_and_nothing_waits() -> None:
    device = torch.device("cuda")
    upload(torch.zeros(1), device)  # makes the stream
    busy = torch.randn(2048, 2048, device=device)
    batches = [torch.full((512, 512), float(n)) for n in range(32)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        sums = []
        for batch in batches:
            busy = busy @ busy * 1e-3
            sums.append(upload(batch, device).mean())
            batch.fill_(-1)  # what was handed over may be changed
        made = torch.stack(sums)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.tolist() == list(range(32))
