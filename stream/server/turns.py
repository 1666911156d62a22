"""Whose turn it is to be told the past, and how much of it.

History is the one thing that a client can have as much of as it likes: an hour of events for a
message of fifty bytes. So the past has a budget of its own, for all clients together, given out in
portions; what happens now has none and never waits for it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from . import limits
from .allowance import TokenBucket

__all__ = ["Turns", "cost_of"]


class Listener(Protocol):
    """Somebody who is told the past.

    Attributes:
        past_bytes: what it was told so far, as :func:`cost_of` counts.
    """

    past_bytes: int

    def take_turn(self, credit: int) -> None:
        """Be told so much more of the past, bytes."""


def cost_of(message: bytes) -> int:
    """Return what a message of the past is charged, bytes."""
    return max(len(message), limits.HISTORY_LEAST_BYTES)


class Turns:
    """Give out portions of the past, to whoever waits and has had least of it.

    Args:
        loop: runs it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._budget = TokenBucket(
            limits.HISTORY_BYTES_PER_S, limits.HISTORY_BURST_BYTES, loop.time()
        )
        self._waiting: dict[Listener, None] = {}
        self._next: asyncio.Handle | None = None

    def ask(self, listener: Listener) -> None:
        """Have a listener given a turn as soon as there is one; once, however often it asks."""
        self._waiting[listener] = None
        if self._next is None:
            self._next = self._loop.call_soon(self._give)

    def withdraw(self, listener: Listener) -> None:
        """Forget a listener that has gone."""
        self._waiting.pop(listener, None)

    def _give(self) -> None:
        self._next = None
        if not self._waiting:
            return
        now = self._loop.time()
        if not self._budget.take(limits.HISTORY_TURN_BYTES, now):
            wait = self._budget.wait(limits.HISTORY_TURN_BYTES, now)
            self._next = self._loop.call_later(wait, self._give)
            return
        listener = min(self._waiting, key=lambda waiting: waiting.past_bytes)
        del self._waiting[listener]
        listener.take_turn(limits.HISTORY_TURN_BYTES)
        # Not at once: between two turns the loop does everything else that is due.
        self._next = self._loop.call_soon(self._give)
