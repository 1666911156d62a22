"""How long steps take on a GPU, by its own events, without making anything wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import torch

from ...core.steps import DEVICE_STEPS, StepWatch

__all__ = ["GpuSteps", "cuda_events"]


class _Event(Protocol):
    """A mark in the work queued on a GPU, such as ``torch.cuda.Event``."""

    def record(self) -> None: ...
    def query(self) -> bool: ...
    def elapsed_time(self, end_event: Any) -> float: ...


def cuda_events() -> Callable[[], _Event] | None:
    """Return what makes events; None without CUDA."""
    if not torch.cuda.is_available():
        return None
    return lambda: torch.cuda.Event(enable_timing=True)


class GpuSteps:
    """Hand steps on to another watch, and mark those of the device in the work of the GPU.

    The marks are read when the GPU has passed them, which is a round or so later: reading one
    sooner would wait for it.

    Args:
        inner: hears of every step.
        event: makes an event.
        is_recording: whether what is queued now is being recorded rather than run.

    Attributes:
        ms: step → milliseconds on the GPU, each time that it ran; a step within another counts
            once.
    """

    def __init__(
        self,
        inner: StepWatch,
        event: Callable[[], _Event],
        is_recording: Callable[[], bool] = torch.cuda.is_current_stream_capturing,
    ) -> None:
        self._inner, self._event, self._is_recording = inner, event, is_recording
        self._open: list[tuple[str, list[tuple[_Event, _Event]], bool]] = []
        self._at: _Event | None = None
        self._waiting: deque[tuple[str, list[tuple[_Event, _Event]]]] = deque()
        self.ms: dict[str, list[float]] = {}

    def begin(self, name: str) -> None:
        """Hear that a step begins."""
        self._inner.begin(name)
        marked = name in DEVICE_STEPS and not self._is_recording()
        if marked:
            self._mark()
        self._open.append((name, [], marked))

    def end(self, name: str) -> None:
        """Hear that the step that began last ends."""
        found, parts, marked = self._open[-1]
        if marked:
            self._mark()
        self._open.pop()
        if marked and not any(outer for *_, outer in self._open):
            self._at = None
        if marked:
            self._waiting.append((found, parts))
            self._read()
        self._inner.end(name)

    def _mark(self) -> None:
        """Give what the GPU did since the last mark to the innermost step that is marked."""
        now = self._event()
        now.record()
        inner = next((parts for _, parts, marked in reversed(self._open) if marked), None)
        if inner is not None and self._at is not None:
            inner.append((self._at, now))
        self._at = now

    def _read(self) -> None:
        while self._waiting:
            name, parts = self._waiting[0]
            if not all(end.query() for _, end in parts):
                return
            self._waiting.popleft()
            total = sum(start.elapsed_time(end) for start, end in parts)
            self.ms.setdefault(name, []).append(total)
