"""Work on a GPU, recorded once as a CUDA graph and launched as one.

A pass through a small network is a hundred short kernels: a GPU waits for their launches longer
than it computes. A recording launches them all at once, but only for the shapes and the memory that
it was made with. So what changes goes through memory that stays: :class:`Recording` takes one
array of bytes from pinned memory and brings all results back as one, for one upload, one launch,
one download and one wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..steps import step

__all__ = ["WARM_UP_RUNS", "Recorder", "Recording", "fitting_size", "padded_size"]

WARM_UP_RUNS = 2
"""Runs before a recording: in them libraries choose algorithms and take workspace, which must not
be recorded."""

_T = TypeVar("_T")


def padded_size(count: int, sizes: Sequence[int]) -> int:
    """Return the smallest size that holds ``count``.

    Args:
        count: at least 1, at most the largest size.
        sizes: ascending.

    >>> padded_size(9, (4, 12, 24))
    12
    """
    return next(size for size in sizes if size >= count)


def fitting_size(limit: int, sizes: Sequence[int]) -> int:
    """Return the largest size that is not above a limit; the smallest where all are.

    >>> fitting_size(15, (4, 12, 24))
    12
    """
    return max((size for size in sizes if size <= limit), default=sizes[0])


class Recorder:
    """Record work on one GPU.

    All recordings share one stream and one pool of memory: what one of them leaves is lost when
    another one runs. One thread at a time may record or replay.

    Args:
        device: a CUDA device; without a number the current one.
    """

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cuda", index)
        self._stream: Any = None
        self._pool: Any = None

    def record(self, run: Callable[[], _T]) -> tuple[torch.cuda.CUDAGraph, _T]:
        """Record what a function launches.

        Args:
            run: reads and writes memory that stays, and reads no value on the host.

        Returns:
            The graph, and what ``run`` returned: tensors that each replay fills anew.

        Raises:
            RuntimeError: the work cannot be recorded, or memory was short.
        """
        # A recording takes in what runs on its own stream's device: on another one work would run
        # now and never again, without an error (PyTorch issue 87894).
        with torch.cuda.device(self.device):
            if self._stream is None:
                self._stream = torch.cuda.Stream(self.device)
                self._pool = torch.cuda.graph_pool_handle()
            before = torch.cuda.current_stream(self.device)
            self._stream.wait_stream(before)
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UP_RUNS):
                    run()
            before.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on using the GPU; their work is not recorded.
            recording = torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                capture_error_mode="thread_local",
            )
            try:
                with recording:
                    made = run()
            finally:  # one that fails leaves its stream current
                torch.cuda.set_stream(before)
        return graph, made


class Recording:
    """A function of bytes, recorded with the way to the GPU and back.

    Args:
        function: takes ``(size,)`` uint8 on the GPU and returns tensors there, of any shapes and
            dtypes; it reads no value on the host.
        size: bytes of a request.
        recorder: records it.
        name: what its run on the GPU is, of :data:`~facestage.core.steps.STEPS`.

    Attributes:
        results: what ``function`` returned, on the GPU; each call fills it anew.
    """

    def __init__(
        self,
        function: Callable[[torch.Tensor], Sequence[torch.Tensor]],
        size: int,
        recorder: Recorder,
        name: str = "round",
    ) -> None:
        self._name, device = name, recorder.device
        self._sent = torch.zeros(size, dtype=torch.uint8, pin_memory=True)
        self._request = torch.zeros(size, dtype=torch.uint8, device=device)

        def run() -> tuple[list[torch.Tensor], torch.Tensor]:
            results = list(function(self._request))
            return results, torch.cat([as_bytes(result) for result in results])

        self._graph, (self.results, self._packed) = recorder.record(run)
        self._device = device
        self._received = torch.zeros(len(self._packed), dtype=torch.uint8, pin_memory=True)
        self._arrived = torch.cuda.Event()

    def __call__(self, parts: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Run it.

        Args:
            parts: arrays whose bytes, one after the other, are the request; shorter than it leaves
                the rest as it was.

        Returns:
            The results, in memory of their own.
        """
        at, sent = 0, self._sent.numpy()
        for part in parts:
            raw = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
            sent[at : at + len(raw)] = raw
            at += len(raw)
        with torch.cuda.device(self._device):
            with step("upload"):
                self._request.copy_(self._sent, non_blocking=True)
            with step(self._name):
                self._graph.replay()
            with step("download"):
                self._received.copy_(self._packed, non_blocking=True)
                self._arrived.record()
        with step("download"):
            self._arrived.synchronize()
            return self._unpacked()

    def _unpacked(self) -> list[NDArray[Any]]:
        received, at, arrays = self._received.numpy(), 0, []
        for result in self.results:
            end = at + result.numel() * result.element_size()
            array = np.empty(tuple(result.shape), _NUMPY[result.dtype])
            array.reshape(-1).view(np.uint8)[:] = received[at:end]
            arrays.append(array)
            at = end
        return arrays


_NUMPY: dict[torch.dtype, type[np.generic]] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of a tensor, ``(n,)`` uint8, in the order of its rows."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)
