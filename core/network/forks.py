"""What a process may still compute that was forked from one where a network ran.

A fork has the memory of its parent, but not the threads that torch's OpenMP keeps for its next
operation: the first one that is shared out waits for them for ever. With one thread nothing is
shared out. Processes that are spawned begin anew, and have all their threads.
"""

from __future__ import annotations

import functools
import os

import torch

__all__ = ["note_use"]


@functools.cache  # once is enough
def note_use() -> None:
    """Note that a network runs here: from now on forks of this process compute in one thread."""
    if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch.set_num_threads(1)
