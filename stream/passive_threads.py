"""Threads of OpenMP sleep while they wait for each other; import this module before torch.

By default they spin: libgomp for up to 300,000 rounds, libomp for 200 ms. Where another thread or
process has the core that one of them needs, the others spin until the system lets it go on, so a
pass of a few milliseconds takes up to a second. The libraries read these variables once, when they
are loaded; processes started later inherit them. A variable that is set already stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

__all__ = ["set_passive"]


def set_passive(environment: MutableMapping[str, str]) -> None:
    """Set what lets waiting threads sleep, where nothing is set yet.

    Args:
        environment: variables of a process. ``OMP_WAIT_POLICY`` is enough for libgomp (a
            ``GOMP_SPINCOUNT`` goes before it); libomp and libiomp5, which torch brings on macOS and
            Windows, spin on unless ``KMP_BLOCKTIME`` is 0.
    """
    policy = environment.setdefault("OMP_WAIT_POLICY", "passive")
    if policy.strip().lower() == "passive":
        environment.setdefault("KMP_BLOCKTIME", "0")


set_passive(os.environ)
