"""The webcam of a browser as a source: pictures that a page sends, one at a time.

Two sides meet in an :class:`Inbox`. The server's event loop puts in what a page sends
(:mod:`facestage.stream.server.camera`); a :class:`BrowserCamera`, in its capture thread, takes it
out and says when the page may send the next. A page that stops giving pictures says why, and that
is a loss like that of any camera, with the page's reason.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.errors import SourceError
from ...core.steps import step
from .base import Grab, Source
from .opencv import quiet_logs
from .pictures import breaks_off, jpeg_size

__all__ = ["MAX_SIDE", "BrowserCamera", "Inbox", "browser_name"]

MAX_SIDE = 4096
"""Longest side of a picture that is taken, pixels: the page sends 1280, and one of 8K would take
100 MB and a fifth of a second for nothing."""

_SPEC = re.compile("browser:([A-Za-z0-9_-]{0,32})")


def browser_name(spec: str) -> str | None:
    """Return the name of a browser's webcam; None where the source is something else.

    ``browser:`` is the webcam ``browser``, ``browser:left`` the webcam ``browser left``, unless
    there is a file of that name.
    """
    match = _SPEC.fullmatch(spec)
    if match is None or (match[1] and os.path.exists(spec)):
        return None
    return f"browser {match[1]}".strip()


@dataclass(frozen=True, slots=True)
class _Sent:
    """A JPEG that a page has sent, and when it was taken by the page's clock, seconds."""

    giver: object
    jpeg: bytes
    time_s: float


@dataclass(frozen=True, slots=True)
class _Loss:
    """No picture follows, and why."""

    reason: str


class Inbox:
    """Where the pictures of one browser's webcam arrive; safe from any thread.

    One page at a time gives pictures, and it gives the next when the last one was answered: so at
    most one picture waits, and none is old.

    Args:
        name: of the source.
    """

    max_side = MAX_SIDE

    def __init__(self, name: str) -> None:
        self.name = name
        self._news = threading.Condition()
        self._waiting: deque[_Sent | _Loss] = deque()
        self._giver: object | None = None
        self._answer: Callable[[str], None] = lambda result: None
        self._in_flight = False
        self._opened = False
        self._told = ""

    # --- the page's side ------------------------------------------------------------------------

    def claim(self, giver: object, answer: Callable[[str], None]) -> bool:
        """Become the one that gives pictures; False where another is it.

        Args:
            giver: who.
            answer: called in any thread with what became of each picture: ``taken``, ``broken``,
                ``too_large`` or ``late``.
        """
        with self._news:
            if self._giver not in (None, giver):
                return False
            self._giver, self._answer = giver, answer
            return True

    def offer(self, giver: object, jpeg: bytes, time_s: float) -> bool:
        """Give a picture; False where the one before has not been answered yet.

        Args:
            giver: who; it must have claimed the inbox.
            jpeg: the picture.
            time_s: when it was taken by the giver's clock, seconds.
        """
        with self._news:
            if self._giver is not giver or self._in_flight:
                return False
            self._in_flight = True
            self._waiting.append(_Sent(giver, jpeg, time_s))
            self._news.notify_all()
            return True

    def pause(self, giver: object, reason: str) -> None:
        """Say that no picture follows for now, and why, one sentence."""
        with self._news:
            if self._giver is giver:
                self._lose(reason)

    def release(self, giver: object, reason: str) -> None:
        """Give no more pictures, and leave the place to others."""
        with self._news:
            if self._giver is giver:
                self._giver, self._answer = None, lambda result: None
                self._in_flight = False
                # Nobody is there to answer for what waits; so givers that come and go pile up none.
                self._waiting = deque(one for one in self._waiting if isinstance(one, _Loss))
                self._lose(reason)

    def _lose(self, reason: str) -> None:
        if not (self._waiting and isinstance(self._waiting[-1], _Loss)):
            self._waiting.append(_Loss(reason))
            self._news.notify_all()

    # --- the source's side ----------------------------------------------------------------------

    def begin(self) -> None:
        """Forget what came before: a picture that waited is answered ``late``."""
        with self._news:
            old, self._waiting = self._waiting, deque()
            self._opened = False
            for item in old:
                if isinstance(item, _Sent):
                    self.answer(item, "late")
            if old and isinstance(old[-1], _Loss):  # that is how it is now
                self._waiting.append(old[-1])

    def take(self, is_over: Callable[[], bool]) -> _Sent | None:
        """Wait for the next picture; None once it is over.

        Raises:
            SourceError: no picture follows for now.
        """
        with self._news:
            while not is_over():
                if not self._waiting:
                    self._news.wait()
                    continue
                item = self._waiting.popleft()
                if isinstance(item, _Sent):
                    self._opened = True
                    return item
                # Where nothing was given, nothing is lost, but the reason may be another by now.
                is_news = bool(self._told) and item.reason != self._told and not self._waiting
                if self._opened or is_news:
                    self._told = item.reason
                    raise SourceError(item.reason)
        return None

    def answer(self, sent: _Sent, result: str) -> None:
        """Tell the page what became of its picture; it may send the next."""
        with self._news:
            if sent.giver is self._giver:
                self._in_flight = False
                self._answer(result)

    def wake(self) -> None:
        """Have :meth:`take` look whether it is over."""
        with self._news:
            self._news.notify_all()


class BrowserCamera(Source):
    """The pictures that a page sends from the webcam of its browser.

    It is open at once, because the page can only come once the server runs; :meth:`read` waits for
    it. ``pts`` is the page's own clock, so a slow line moves no event. A picture that is broken or
    larger than :data:`MAX_SIDE` is left out and counted.

    Args:
        inbox: where they arrive.
    """

    kind = "browser"
    live = True
    endless = True
    fps = None
    frame_count = None
    size = (0, 0)
    """Known with the first picture."""

    def __init__(self, inbox: Inbox) -> None:
        quiet_logs()
        self.name = inbox.name
        self._inbox = inbox
        self._pictures = 0
        self._first_s: float | None = None
        self._last_s = -1.0
        self._over = False
        inbox.begin()

    def read(self) -> Grab | None:
        """Return the next picture; see :meth:`Source.read`."""
        while (sent := self._inbox.take(lambda: self._over)) is not None:
            with step("decode"):
                image, result = _decode(sent.jpeg)
            self._inbox.answer(sent, result)
            if image is None:
                self.skipped += 1
                continue
            if self._first_s is None:
                self._first_s = sent.time_s
            # A page whose clock stands or runs back gets a picture's least length.
            self._last_s = max(sent.time_s - self._first_s, self._last_s + 1e-3)
            grab = Grab(image, self._pictures + self.skipped, pts=max(0.0, self._last_s))
            self._pictures += 1
            self.size = (image.shape[1], image.shape[0])
            return grab
        return None

    def wake(self) -> None:
        """End the wait for a picture, for good."""
        self._over = True
        self._inbox.wake()

    def close(self) -> None:
        """Take no more pictures."""
        self.wake()


def _decode(jpeg: bytes) -> tuple[NDArray[np.uint8] | None, str]:
    """Return a picture, ``(H, W, 3)`` uint8 BGR, and ``taken``; or None and why not."""
    size = jpeg_size(jpeg)
    if size is None or breaks_off(jpeg):
        return None, "broken"
    if max(size) > MAX_SIDE:
        return None, "too_large"
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return (None, "broken") if image is None else (np.asarray(image, np.uint8), "taken")
