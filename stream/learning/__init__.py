"""Training and evaluation of AU networks: aligned crops, the loop, checkpoints, figures.

``docs/training.md`` says what the commands ``train`` and ``evaluate`` mean.
"""

from __future__ import annotations
