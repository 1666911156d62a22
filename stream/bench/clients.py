"""Two websocket clients that watch what is measured, as a page does, and note what they see."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from ...core.errors import FacestageError
from ...core.types import FrameResult
from ..live.pipeline import Stream
from ..protocol import Subscribe, decode, encode
from ..protocol.messages import FrameSample

__all__ = ["Clients", "Log"]


@dataclass(slots=True)
class Log:
    """Who saw which frame when: camera → index and time, in the order of time."""

    emitted: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    received: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def note_emitted(self, stream: Stream, result: FrameResult) -> None:
        """Take in, in the compute thread, that a frame was published."""
        seen = self.emitted.setdefault(stream.id, [])
        seen.append((result.frame.index, time.monotonic()))


class Clients:
    """Two websocket clients in a thread of their own: one of everything, one of the pictures.

    Args:
        address: of the server's page.
        log: where to note what was seen.

    Attributes:
        trouble: why one of them ended early.
    """

    def __init__(self, address: str, log: Log) -> None:
        self._address = address.replace("http", "ws", 1)
        self._log = log
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._joined = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench clients", daemon=True)
        self.trouble: Exception | None = None

    def start(self) -> None:
        """Connect and subscribe; return when both have.

        Raises:
            FacestageError: one could not.
        """
        self._thread.start()
        self._joined.wait()
        self.check()

    def check(self) -> None:
        """Raise why one of them ended early, if so."""
        if self.trouble is not None:
            raise FacestageError(f"a client of the benchmark was cut off: {self.trouble}")

    def cpu_now(self) -> float:
        """Return the seconds that the thread computed so far; 0 where the system cannot tell."""
        ident = self._thread.ident
        if not self._thread.is_alive() or ident is None:
            return 0.0
        if not hasattr(time, "pthread_getcpuclockid"):  # as on Windows
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(ident))

    def stop(self) -> None:
        """Disconnect."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._watch())
        except (OSError, WebSocketException, FacestageError) as error:
            self.trouble = error
        finally:
            self._joined.set()

    async def _watch(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with (
            connect(f"{self._address}ws", max_size=None) as events,
            connect(f"{self._address}ws/frames", max_size=None) as pictures,
        ):
            for connection in (events, pictures):
                await connection.send(encode(Subscribe(), t_emit=time.time()), text=True)
            readers = [
                asyncio.create_task(self._read_events(events)),
                asyncio.create_task(_read_all(pictures)),
            ]
            stopped = asyncio.create_task(self._stop.wait())
            self._joined.set()
            await asyncio.wait([*readers, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in (*readers, stopped):
                task.cancel()
            ends = await asyncio.gather(*readers, return_exceptions=True)
        early = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
        if early:
            raise early[0] if isinstance(early[0], Exception) else ConnectionError("it was closed")

    async def _read_events(self, connection: ClientConnection) -> None:
        async for message in connection:
            now = time.monotonic()
            envelope = decode(message)
            if isinstance(envelope.data, FrameSample) and envelope.stream is not None:
                seen = self._log.received.setdefault(envelope.stream, [])
                seen.append((envelope.data.frame, now))


async def _read_all(connection: ClientConnection) -> None:
    async for _ in connection:
        pass
