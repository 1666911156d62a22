"""Tensors on their way to a device.

The only place that knows how a copy is made to overlap with what a GPU computes; on a CPU nothing
is copied.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

__all__ = ["Uplink", "upload"]


class Uplink:
    """Bring tensors to one device, without waiting for it.

    To a GPU they go from pinned memory on a stream of their own, so that a copy need not wait until
    what was asked before has been computed. The stream that is current for the caller waits for the
    copy; the host waits for nothing.

    Args:
        device: where to.
        cuda: what has ``Stream``, ``stream`` and ``current_stream``; tests give another.
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device = device
        self._cuda = cuda
        self._aside = cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor on the device; on a CPU it is the same one.

        Args:
            tensor: any, on the CPU; it may be changed as soon as this returns, but on a CPU.
        """
        if self._aside is None:
            return tensor.to(self._device)
        pinned = tensor.pin_memory()  # torch keeps it until the copy is done
        with self._cuda.stream(self._aside):
            there = pinned.to(self._device, non_blocking=True)
        current = self._cuda.current_stream(self._device)
        current.wait_stream(self._aside)
        # Its memory belongs to the other stream, which must not reuse it while this one reads it.
        there.record_stream(current)
        return there


def upload(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Bring a tensor to a device by the :class:`Uplink` that all callers share.

    Args:
        tensor: any, on the CPU.
        device: where to.

    Returns:
        The tensor there; on a CPU the same one.
    """
    return _uplink(device)(tensor)


@lru_cache(maxsize=16)
def _uplink(device: torch.device) -> Uplink:
    return Uplink(device)
