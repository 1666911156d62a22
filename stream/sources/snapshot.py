"""A snapshot address as a source: one picture per request, asked for again and again."""

from __future__ import annotations

import logging
import threading
import time

from av.error import FFmpegError

from ...core.errors import SourceError
from .base import Grab, ProbedSource, redact
from .network import connect

__all__ = ["SnapshotAddress"]

logger = logging.getLogger(__name__)


class SnapshotAddress(ProbedSource):
    """An HTTP address that gives one picture per request (``http://camera/snapshot.jpg``).

    It is asked at a steady pace; an answer that takes longer than the pace puts the next request
    off. A picture that arrives broken is left out and counted. An address that does not answer, or
    gives nothing but broken pictures for the read timeout, is a loss like that of a stream.

    Args:
        url: the address, with user name and password where needed.
        poll_s: time from one request to the next, seconds.
        open_timeout_s: longest wait for the answer to the first request.
        read_timeout_s: longest wait for each later one.

    Raises:
        SourceError: the address is wrong, nobody listens, nothing answers in time, or what
            answers is no picture.
        ConfigError: ``FACESTAGE_FFMPEG_OPTIONS`` cannot be understood.
    """

    kind = "http"
    live = True
    endless = True
    frame_count = None

    def __init__(
        self,
        url: str,
        *,
        poll_s: float,
        open_timeout_s: float = 10.0,
        read_timeout_s: float = 5.0,
    ) -> None:
        self.name = redact(url)
        self.fps = 1.0 / poll_s
        self._url = url
        self._poll_s = poll_s
        self._timeout_s = open_timeout_s
        self._patience_s = read_timeout_s
        self._closed = threading.Event()
        self._pictures = 0
        self._whole_s = self._due_s = time.monotonic()
        if not self._keep_first(self._read_on()):
            raise SourceError(f"{self.name} was closed before it gave a picture; open it anew")
        self._timeout_s = read_timeout_s

    def wake(self) -> None:
        """End the pause between two requests, and the source with it."""
        self._closed.set()

    def close(self) -> None:
        """Ask no more."""
        self._first = None
        self._closed.set()

    def _read_on(self) -> Grab | None:
        while not self._closed.wait(max(0.0, self._due_s - time.monotonic())):
            self._due_s = max(self._due_s + self._poll_s, time.monotonic())
            grab = self._fetch()
            if grab is not None:
                self._whole_s = time.monotonic()
                return grab
            broken_s = time.monotonic() - self._whole_s
            if broken_s > self._patience_s:
                raise SourceError(
                    f"{self.name} has sent nothing but broken pictures for {broken_s:.0f} s; check"
                    " the network, and the address in a browser"
                )
        return None

    def _fetch(self) -> Grab | None:
        """Ask once; return the picture, or None where what arrived is broken.

        Raises:
            SourceError: there was no answer, or one without a picture.
        """
        answer = connect(self._url, self._timeout_s, self._timeout_s)
        try:
            read = answer.read()
        except FFmpegError as error:
            logger.debug("%s: %s", self.name, error.strerror)
            read = None
        finally:
            answer.close()
        if read is None:
            self.skipped += 1
            return None
        grab = Grab(read[0], self._pictures + self.skipped)
        self._pictures += 1
        return grab
