"""Training and evaluation of AU networks: manifests, aligned crops, the loop, checkpoints.

The commands are in :mod:`.commands`; what they mean is written in ``docs/training.md``.
"""

from __future__ import annotations
