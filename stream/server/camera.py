"""A page that gives the pictures of its own webcam: what it may say, and what becomes of it.

It is a client like any other (token, Origin, limits, heartbeat), with an allowance for pictures. It
sends one at a time and waits for the answer; a second one before that ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...core.errors import ProtocolError
from ..protocol.messages import (
    Bye,
    CameraAck,
    CameraOpen,
    CameraPause,
    CameraReady,
    Heartbeat,
    Subscribe,
)
from ..protocol.pictures import unpack_camera_picture
from . import limits
from .connection import Client, _Refusal

__all__ = ["CameraClient", "PictureInbox"]

_BAD_DATA = 1007
_POLICY = 1008
_TAKEN = 4409

_PAUSES = {
    "hidden": "the page with the camera is hidden; show it again",
    "muted": "the camera gives the page no pictures: it sleeps, or another program uses it",
    "ended": "the camera was taken away from the page, or the permission for it; allow it again",
    "stopped": "the camera was stopped on its page; start it there again",
}
_LEFT = "the page with the camera has left; open it again"


class PictureInbox(Protocol):
    """Where pictures of a browser's webcam go, as :class:`CameraClient` needs it.

    :class:`facestage.stream.sources.browser.Inbox` is one, and says what each method does.
    """

    name: str
    max_side: int

    def claim(self, giver: object, answer: Callable[[str], None]) -> bool: ...
    def offer(self, giver: object, jpeg: bytes, time_s: float) -> bool: ...
    def pause(self, giver: object, reason: str) -> None: ...
    def release(self, giver: object, reason: str) -> None: ...


class CameraClient(Client):
    """A socket of ``/ws/camera``.

    Args:
        args, options: as for :class:`~facestage.stream.server.connection.Client`.
        inboxes: of the sources that wait for a browser.
    """

    def __init__(self, *args: Any, inboxes: Sequence[PictureInbox], **options: Any) -> None:
        super().__init__(*args, pictures=False, **options)
        self._inboxes = inboxes
        self._inbox: PictureInbox | None = None
        self._loop = asyncio.get_running_loop()

    async def _read(self) -> None:
        self._connection.widen(limits.CAMERA, limits.MAX_CAMERA_BYTES)
        try:
            async for message in self._connection:
                if isinstance(message, bytes):
                    self._take_picture(message)
                    continue
                said = self._parse(message)
                if isinstance(said, CameraOpen):
                    self._open(said.source)
                elif isinstance(said, CameraPause) and self._inbox is not None:
                    self._inbox.pause(self, _PAUSES[said.reason])
                elif said.type == Heartbeat.type:
                    self._beats = True
                elif said.type == Bye.type:
                    await self._connection.close()
                elif isinstance(said, Subscribe):
                    raise _Refusal(
                        "unknown_type", _POLICY, "nothing to subscribe to on /ws/camera; use /ws"
                    )
        finally:
            if self._inbox is not None:
                self._inbox.release(self, _LEFT)

    def _open(self, source: str | None) -> None:
        if self._inbox is not None:
            raise _Refusal("bad_message", _BAD_DATA, "a second camera.open; send it once")
        wanted = [inbox for inbox in self._inboxes if source in (None, inbox.name)]
        if not wanted:
            names = ", ".join(repr(inbox.name) for inbox in self._inboxes)
            raise _Refusal(
                "bad_message",
                _BAD_DATA,
                f"there is no webcam {str(source)[:40]!r} to give; the sources are {names}",
            )
        self._inbox = next((one for one in wanted if one.claim(self, self._answer)), None)
        if self._inbox is None:
            raise _Refusal(
                "camera_taken",
                _TAKEN,
                f"another page gives the pictures of {wanted[0].name!r} already; close it first",
            )
        self._reply(
            CameraReady(
                source=self._inbox.name,
                max_bytes=limits.MAX_CAMERA_BYTES,
                max_side=self._inbox.max_side,
            )
        )

    def _take_picture(self, message: bytes) -> None:
        if self._inbox is None:
            raise _Refusal("bad_message", _BAD_DATA, "a picture before camera.open")
        try:
            jpeg, time_s = unpack_camera_picture(message)
        except ProtocolError as error:
            raise _Refusal("bad_message", _BAD_DATA, str(error)) from error
        if not self._inbox.offer(self, jpeg, time_s):
            raise _Refusal(
                "rate_limit",
                _POLICY,
                "a picture before the camera.ack of the last; wait for it",
            )

    def _answer(self, result: str) -> None:
        """Send what became of a picture; called in the thread that took it."""
        with contextlib.suppress(RuntimeError):  # the server has closed meanwhile
            self._loop.call_soon_threadsafe(self._reply, CameraAck(result=result))
