"""The steps of a frame by name, and where whoever has a clock can listen to them.

The core keeps no time. It says only that a step begins and ends, to a :class:`StepWatch` that the
caller gave for this thread or task with :func:`watching`; without one, a step costs a look at a
variable. Steps may lie within each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, Protocol, TypeVar

__all__ = ["DEVICE_STEPS", "STEPS", "StepWatch", "step", "timed", "watching"]

STEPS = {
    "capture": "a source is asked for its next picture, waiting included, decoding left out",
    "decode": "a picture is decoded and turned into BGR pixels, upright",
    "grey": "the picture is turned to grey",
    "motion": "the motion of the face's texture since the frame before (optical flow)",
    "warp": "the face is cut out, aligned",
    "detect": "the face detector looks at the whole picture",
    "upload": "crops are normalised and brought to the device",
    "forward": "the network runs forward: Action Units, intensities, landmarks",
    "lrp": "the network runs backward: one relevance map per active Action Unit",
    "round": "forward, lrp, describe and heat as one recorded CUDA graph; on a GPU only",
    "describe": "maps are pooled to descriptors",
    "download": "what was found is brought back from the device; on a GPU, waiting included",
    "similarity": "cosines of a new map with those in its window",
    "spectral": "the graph of a window, its eigenvectors and its parts",
    "letters": "parts become prototypes, and maps get their letters",
    "stage": "letters become the stage, each change dated",
    "picture": "the picture is turned into a JPEG",
    "heat": "maps are turned into the masks that pages show",
    "send": "messages are encoded and handed to the sockets of clients",
}
"""Name of each step, in the order of a frame, and what happens in it: the same names in
``stats.steps_ms`` on the wire, in the JSON of ``facestage bench``, in NVTX ranges and in the
documents."""

DEVICE_STEPS = ("upload", "forward", "lrp", "round", "describe", "download")
"""Steps that run on the network's device: on a GPU the host only queues them."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


class StepWatch(Protocol):
    """Hears of the steps of one thread or task."""

    def begin(self, name: str) -> None:
        """Hear that a step begins, perhaps within another."""
        ...

    def end(self, name: str) -> None:
        """Hear that the step that began last ends, also by an error."""
        ...


_watch: ContextVar[StepWatch | None] = ContextVar("facestage_step_watch", default=None)


@contextmanager
def watching(watch: StepWatch | None) -> Iterator[None]:
    """Have the steps of this thread or task told to ``watch`` meanwhile; None: to nobody."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Be a step: one of :data:`STEPS`."""
    watch = _watch.get()
    if watch is None:
        yield
        return
    watch.begin(name)
    try:
        yield
    finally:
        watch.end(name)


def timed(name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let every call of a function be a step."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            watch = _watch.get()
            if watch is None:
                return function(*args, **kwargs)
            watch.begin(name)
            try:
                return function(*args, **kwargs)
            finally:
                watch.end(name)

        return run

    return decorate
