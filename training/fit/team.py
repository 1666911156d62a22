"""Processes that train one network together, each on its part of every batch.

On a machine without a GPU one process with several threads spends much of its time waiting: most
operations of a small network are too short to be split. Whole processes, one thread each, do not
wait for one another until the gradients are averaged (synchronous data parallelism).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from facestage.core.errors import ModelError

__all__ = ["ALONE", "Team", "gathered"]


class Team:
    """One process's view of those that train together.

    Attributes:
        rank: of this process, 0 for the one that reports and writes checkpoints.
        size: number of processes.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace float tensors, in place, by their mean over the processes.

        Raises:
            ModelError: another process has ended.
        """
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        try:
            dist.all_reduce(flat)
        except RuntimeError as error:
            raise _ended(error) from error
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def agreed(self, value: Any) -> Any:
        """Return what rank 0 passed (pickled), in every process.

        Raises:
            ModelError: another process has ended.
        """
        if self.size == 1:
            return value
        box = [value]
        try:
            dist.broadcast_object_list(box, 0)
        except RuntimeError as error:
            raise _ended(error) from error
        return box[0]


ALONE = Team(0, 1)
"""A process that trains by itself."""


@contextmanager
def gathered(size: int, work: Callable[..., None], *args: Any) -> Iterator[Team]:
    """Start the other processes; this one is rank 0.

    Args:
        size: of the team, this process included.
        work: called in each other process as ``work(team, *args)``; importable by name.
        args: picklable.

    Yields:
        The team as seen by this process. On leaving, the others are stopped.
    """
    if size == 1:
        yield ALONE
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        # A forked copy of a process with threads (torch, OpenCV) may hang; a fresh one cannot.
        context = mp.get_context("spawn")
        others = [
            context.Process(target=_other, args=(rank, size, meeting, work, args), daemon=True)
            for rank in range(1, size)
        ]
        for other in others:
            other.start()
        try:
            yield _joined(0, size, meeting)
        finally:
            for other in others:
                other.terminate()
                other.join()
            if dist.is_initialized():
                dist.destroy_process_group()


def _joined(rank: int, size: int, meeting: str) -> Team:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    return Team(rank, size)


def _other(
    rank: int, size: int, meeting: str, work: Callable[..., None], args: tuple[Any, ...]
) -> None:
    work(_joined(rank, size, meeting), *args)


def _ended(error: Exception) -> ModelError:
    return ModelError(
        f"another process of this training run has ended ({error}); its message is above; run the "
        "same command again to go on from the newest checkpoint"
    )
