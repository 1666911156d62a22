"""Clients that mean harm, in a process of their own and bounded in number, rate and time.

    python tests/support/hostile.py PORT --kind pings --sockets 10 --rate 64000 --seconds 5

They speak to 127.0.0.1 only, know no token unless they are told one, and go on sending after they
were told to leave, until the socket is gone. The last line printed is JSON: one object per socket,
see :class:`Fate`. Needs only the standard library, so that it starts at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys
import time
from dataclasses import asdict, dataclass

TICK_S = 0.01
"""Every socket sends its share of the rate this often, seconds."""
MAX_SOCKETS = 32
MAX_SECONDS = 20.0

_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
_MASK = b"\x00\x00\x00\x00"
_CLOSE = 0x88
_TAIL = 1024


def _message(kind: str, data: dict[str, object]) -> bytes:
    """Return a frame with a message of the protocol."""
    text = json.dumps({"v": 1, "type": kind, "data": data}).encode()
    assert len(text) < 126
    return b"\x81" + bytes([0x80 | len(text)]) + _MASK + text


_PING = b"\x89\x80" + _MASK
_END_OF_HEADERS = b"\r\n\r\n"

KINDS: dict[str, tuple[bytes, bytes, bytes]] = {
    "pings": (_UPGRADE + b"\r\n", b"", _PING),
    "early pings": (_UPGRADE + b"\r\n" + _PING, b"", _PING),
    "pongs": (_UPGRADE + b"\r\n", b"", b"\x8a\x80" + _MASK),
    "fragments": (_UPGRADE + b"\r\n", b"\x01\x80" + _MASK, b"\x00\x80" + _MASK),
    "messages": (_UPGRADE + b"\r\n", b"", b"\x81\x82" + _MASK + b"{}"),
    "bytes": (_UPGRADE + b"\r\n", b"", b"\x82\xfe\x10\x00" + _MASK + bytes(4096)),
    "headers": (_UPGRADE, b"", b"X-A: b\r\n"),
    "histories": (_UPGRADE + b"\r\n", b"", _message("subscribe", {"history_s": 3600})),
}
"""Name → the request, what comes after its answer, and what is sent over and over. Where the
request does not end in an empty line, its answer is not waited for."""


@dataclass
class Fate:
    """How a socket ended.

    Attributes:
        code: close code that it was given; None: none.
        gone: whether the server dropped it.
        sent: bytes that it could send.
        received: bytes that it was sent.
        seconds: how long it lived, seconds.
    """

    code: int | None = None
    gone: bool = False
    sent: int = 0
    received: int = 0
    seconds: float = 0.0


class Attacker:
    """One socket that floods.

    Args:
        port: of the server.
        kind: key of :data:`KINDS`.
        rate: repetitions per second.
        token: sent first; None: none.
    """

    def __init__(self, port: int, kind: str, rate: float, token: str | None = None) -> None:
        self._waiting, self._then, self._again = KINDS[kind]
        if token is not None:
            self._then += _message("auth", {"token": token})
        self._may_flood = not self._waiting.endswith(_END_OF_HEADERS)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setblocking(False)
        self._begin = time.monotonic()
        self._due = 0.0
        self._rate = rate
        self._tail = b""
        self.fate = Fate()

    def step(self) -> None:
        """Send what is due, and read what has come."""
        if self.fate.gone:
            return
        self.fate.seconds = time.monotonic() - self._begin
        if not self._may_flood and _END_OF_HEADERS in self._tail:
            self._may_flood = True
            self._waiting += self._then
        self._due += self._rate * TICK_S
        if self._may_flood and len(self._waiting) < len(self._again) * self._due:
            self._waiting += self._again * int(self._due)
            self._due -= int(self._due)
        try:
            with contextlib.suppress(BlockingIOError):
                data = self._socket.recv(1 << 18)
                self.fate.received += len(data)
                self._tail = (self._tail + data)[-_TAIL:]
            with contextlib.suppress(BlockingIOError):
                sent = self._socket.send(self._waiting)
                self._waiting = self._waiting[sent:]
                self.fate.sent += sent
        except OSError:
            self.fate.gone = True
        self.fate.code = self.fate.code or _close_code(self._tail)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _close_code(tail: bytes) -> int | None:
    """Return the code of the close frame that ``tail`` ends with."""
    for at in range(len(tail) - 4, -1, -1):
        if tail[at] == _CLOSE and at + 2 + tail[at + 1] == len(tail):
            return int.from_bytes(tail[at + 2 : at + 4], "big")
    return None


def attack(
    port: int,
    *,
    kind: str,
    sockets: int,
    rate: float,
    seconds: float,
    persistent: bool,
    token: str | None,
) -> list[Fate]:
    """Flood a server.

    Args:
        port: of the server, on 127.0.0.1.
        kind: key of :data:`KINDS`.
        sockets: how many at a time.
        rate: repetitions per second and socket.
        seconds: how long.
        persistent: connect again whenever the server has dropped a socket.
        token: that they know; None: none.

    Returns:
        The fate of every socket.
    """
    end = time.monotonic() + min(seconds, MAX_SECONDS)
    attackers = [Attacker(port, kind, rate, token) for _ in range(min(sockets, MAX_SOCKETS))]
    fates = [attacker.fate for attacker in attackers]
    sys.stdout.write("flooding\n")
    sys.stdout.flush()
    while time.monotonic() < end:
        for place, attacker in enumerate(attackers):
            attacker.step()
            if attacker.fate.gone and persistent:
                attacker.close()
                attackers[place] = Attacker(port, kind, rate, token)
                fates.append(attackers[place].fate)
        if all(fate.gone for fate in fates):
            break
        time.sleep(TICK_S)
    for attacker in attackers:
        attacker.close()
    return fates


def main() -> None:
    parser = argparse.ArgumentParser(description="Flood a server on 127.0.0.1.")
    parser.add_argument("port", type=int)
    parser.add_argument("--kind", choices=sorted(KINDS), default="pings")
    parser.add_argument("--sockets", type=int, default=1)
    parser.add_argument("--rate", type=float, default=64_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--persistent", action="store_true")
    parser.add_argument("--token")
    options = vars(parser.parse_args())
    fates = attack(options.pop("port"), **options)
    json.dump([asdict(fate) for fate in fates], sys.stdout)


if __name__ == "__main__":
    main()
