"""What is remembered of those who have not shown the token: their guesses and their open sockets.

Nothing here does input or output, and everything is bounded: what is remembered, how long, and how
often it is logged.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from . import limits

__all__ = ["Guesses", "Lobby", "Tally", "address_of"]

_V6_SITE_BITS = 64

_Socket = TypeVar("_Socket")


def address_of(peer: Any) -> str:
    """Return what stands for everybody who can send from where a peer sends.

    That is the IPv4 address, or the first 64 bits of the IPv6 address: whoever has one address of
    such a network has all of them.

    Args:
        peer: address of a socket, as :meth:`socket.socket.getpeername` gives it; None: not known.
    """
    if not peer:
        return "?"
    try:
        address = ipaddress.ip_address(peer[0])
    except ValueError:
        return str(peer[0])
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    site = int(address) >> (128 - _V6_SITE_BITS) << (128 - _V6_SITE_BITS)
    return f"{ipaddress.IPv6Address(site)}/{_V6_SITE_BITS}"


class Tally:
    """Count what happens again and again, to log it once per interval.

    Args:
        interval_s: shortest time between two reports, seconds.
    """

    __slots__ = ("_count", "_due", "_interval_s")

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._count = 0
        self._due = float("-inf")

    def add(self, now: float) -> int:
        """Count once more, and return :meth:`take`.

        Args:
            now: time, seconds, of any clock that only goes forward.
        """
        self._count += 1
        return self.take(now)

    def take(self, now: float) -> int:
        """Return the count to report now, and begin anew; 0: nothing to report yet.

        Args:
            now: time, seconds.
        """
        if not self._count or now < self._due:
            return 0
        self._due = now + self._interval_s
        count, self._count = self._count, 0
        return count


@dataclass(slots=True)
class _Record:
    """What is remembered of an address: when it was last refused, and when it may guess again."""

    last: float
    ready: float = float("-inf")
    wrong: int = 0
    refusals: Tally = field(default_factory=lambda: Tally(limits.REFUSAL_LOG_S))


class Guesses:
    """Slow down those who guess the token, per address.

    After each wrong token nothing from its address is answered for a time that doubles. A right
    token waits as well, or its quick answer would tell it from a wrong one, but for no longer than
    :data:`~facestage.stream.server.limits.GUESS_DELAY_MAX_S`.
    """

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()  # the last refused last

    def __len__(self) -> int:
        return len(self._records)

    def delay(self, address: str, now: float) -> float:
        """Return how long a token from an address has to wait for its answer, seconds.

        Args:
            address: of :func:`address_of`.
            now: time, seconds, of any clock that only goes forward.
        """
        record = self._records.get(address)
        if record is None or _is_stale(record, now):
            return 0.0
        return max(0.0, record.ready - now)

    def wrong(self, address: str, now: float) -> None:
        """Note a wrong token.

        Args:
            address: of :func:`address_of`.
            now: time, seconds.
        """
        record = self._record(address, now)
        wait = limits.GUESS_DELAY_S * 2.0 ** min(record.wrong, 30)
        record.ready = now + min(wait, limits.GUESS_DELAY_MAX_S)
        record.wrong += 1

    def refused(self, address: str, now: float) -> int:
        """Note that somebody was refused for want of the token.

        Args:
            address: of :func:`address_of`.
            now: time, seconds.

        Returns:
            Refusals of this address to log now; 0: none yet.
        """
        return self._record(address, now).refusals.add(now)

    def reports(self, now: float) -> list[tuple[str, int]]:
        """Return (address, refusals) to log now, and forget who was not refused for long.

        Args:
            now: time, seconds.
        """
        due = [
            (address, count)
            for address, record in self._records.items()
            if (count := record.refusals.take(now))
        ]
        while self._records and _is_stale(next(iter(self._records.values())), now):
            self._records.popitem(last=False)
        return due

    def _record(self, address: str, now: float) -> _Record:
        record = self._records.pop(address, None)
        if record is None or _is_stale(record, now):
            record = _Record(last=now)
        self._records[address] = record
        record.last = now
        if len(self._records) > limits.GUESS_ADDRESSES:
            self._records.popitem(last=False)
        return record


def _is_stale(record: _Record, now: float) -> bool:
    return now - record.last > limits.GUESS_MEMORY_S


class Lobby(Generic[_Socket]):
    """Open sockets that are not through the HTTP handshake.

    One too many pushes out another: the oldest of its address if that has too many, else the oldest
    of the address that has most. Who means well is through at once, so nobody can lock others out
    by holding sockets open.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, dict[_Socket, None]] = {}  # sockets of an address, as they came
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def sockets(self) -> list[_Socket]:
        """Return every socket."""
        return [socket for room in self._rooms.values() for socket in room]

    def enter(self, socket: _Socket, address: str) -> _Socket | None:
        """Add a socket, and return the one that has to go; None: none.

        Args:
            socket: that was opened.
            address: of :func:`address_of`.
        """
        room = self._rooms.setdefault(address, {})
        room[socket] = None
        self._count += 1
        if len(room) <= limits.MAX_HALF_OPEN_PER_ADDRESS:
            if self._count <= limits.MAX_HALF_OPEN:
                return None
            address = max(self._rooms, key=lambda name: len(self._rooms[name]))
        oldest = next(iter(self._rooms[address]))
        self.leave(oldest, address)
        return oldest

    def leave(self, socket: _Socket, address: str) -> None:
        """Remove a socket that is through, or gone; nothing happens where it was removed before.

        Args:
            socket: that was added.
            address: that it was added with.
        """
        room = self._rooms.get(address, {})
        if socket not in room:
            return
        del room[socket]
        self._count -= 1
        if not room:
            del self._rooms[address]
