"""A network that loses packets: between an RTSP server on this machine and its client, over UDP."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

__all__ = ["LossyRelay"]

_WAKE_S = 0.1
"""How often a thread looks whether it is over, seconds."""


class LossyRelay:
    """Stands between a client and a server: RTSP passes, RTP packets may be lost.

    In the client's SETUP the ports for RTP and RTCP are replaced by the relay's own, so that the
    server sends there; what is not lost is handed on.

    Args:
        server_port: where the server listens, on 127.0.0.1.
        lost: told the number of an RTP packet and the packet; says whether it is lost.

    Attributes:
        port: where the client connects to.
        passed, dropped: RTP packets so far.
    """

    def __init__(self, server_port: int, lost: Callable[[int, bytes], bool]) -> None:
        self._server_port = server_port
        self._lost = lost
        self.passed = self.dropped = 0
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self._door.settimeout(_WAKE_S)
        self.port = self._door.getsockname()[1]

    def __enter__(self) -> Self:
        self._begin(self._admit)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._door.close()

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _admit(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._door.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._begin(self._hand_on, client, server, self._with_own_ports)
                self._begin(self._hand_on, server, client, bytes)

    def _hand_on(
        self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]
    ) -> None:
        """Hand on what one side of an RTSP connection says."""
        with contextlib.suppress(OSError):
            for data in self._received(source):
                target.sendall(change(data))
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _with_own_ports(self, request: bytes) -> bytes:
        """Put the relay's ports into a SETUP; it has no body, so no length changes."""
        asked = re.search(rb"client_port=(\d+)-(\d+)", request)
        if asked is None:
            return request
        rtp, rtcp = _port_pair()
        for side, port in zip((rtp, rtcp), asked.groups(), strict=True):
            self._begin(self._relay, side, int(port), side is rtp)
        own = f"client_port={rtp.getsockname()[1]}-{rtcp.getsockname()[1]}"
        return request.replace(asked[0], own.encode())

    def _relay(self, side: socket.socket, port: int, counted: bool) -> None:
        """Hand on the packets that arrive at a port, those that are counted not all."""
        number = 0
        for packet in self._received(side):
            number += 1
            if counted and self._lost(number, packet):
                self.dropped += 1
                continue
            self.passed += counted
            with contextlib.suppress(OSError):  # the client has gone
                side.sendto(packet, ("127.0.0.1", port))
        side.close()

    def _received(self, side: socket.socket) -> Iterator[bytes]:
        """Give what a socket receives, until it is closed or all is over."""
        side.settimeout(_WAKE_S)
        while not self._over.is_set():
            try:
                data = side.recv(65536)
            except TimeoutError:
                continue
            if not data:
                return
            yield data


def _port_pair() -> tuple[socket.socket, socket.socket]:
    """Return sockets at an even port, as RTP wants it, and at the next one."""
    while True:
        rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rtcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rtp.bind(("127.0.0.1", 0))
        port = rtp.getsockname()[1]
        with contextlib.suppress(OSError):
            if port % 2 == 0:
                rtcp.bind(("127.0.0.1", port + 1))
                return rtp, rtcp
        rtp.close()
        rtcp.close()
