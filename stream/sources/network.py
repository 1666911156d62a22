"""RTSP and HTTP addresses as sources, with bounded waits."""

from __future__ import annotations

import logging
import socket
import time
from urllib.parse import urlsplit

import cv2

from ...core.errors import SourceError
from .base import Grab, redact, valid_count, valid_fps
from .opencv import Timeline, VideoSource, prefer_tcp, quiet_logs

__all__ = ["NetworkStream"]

logger = logging.getLogger(__name__)

_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_PROBE_S = 2.0
"""Longest wait for the plain connection that finds out why an open failed."""


class NetworkStream(VideoSource):
    """A video stream behind an RTSP or HTTP address, read through FFmpeg.

    RTSP goes over TCP. An HTTP address that states its number of frames is a recording: it ends
    like a file. Everything else has no end, and an end is a loss.

    Args:
        url: the address, with user name and password where needed.
        open_timeout_s: longest wait for the stream to open.
        read_timeout_s: longest wait for the next frame.
        realtime: whether to play a recording at its own pace.

    Raises:
        SourceError: the address is wrong, nobody listens, nothing answers in time, or what
            answers is no video.
    """

    def __init__(
        self,
        url: str,
        *,
        open_timeout_s: float = 10.0,
        read_timeout_s: float = 5.0,
        realtime: bool = False,
    ) -> None:
        self.name = redact(url)
        self.kind = "rtsp" if url.lower().startswith("rtsp") else "http"
        self._read_timeout_s = read_timeout_s
        host, port = _address(url, self.name)
        quiet_logs()
        prefer_tcp()
        started = time.monotonic()
        # The timeouts work as parameters of the constructor only. One decoding thread: FFmpeg's
        # frame threads would each hold back one frame, which is latency in a live picture.
        self._video = cv2.VideoCapture(
            url,
            cv2.CAP_FFMPEG,
            [
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, max(1, round(open_timeout_s * 1000))),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, max(1, round(read_timeout_s * 1000))),
                *(cv2.CAP_PROP_N_THREADS, 1),
            ],
        )
        if not self._video.isOpened():
            left_s = open_timeout_s - (time.monotonic() - started)
            if left_s <= 0:
                why = f"gave no video within {open_timeout_s:g} s; check that the server is up"
            else:
                why = _diagnose(host, port, min(_PROBE_S, left_s))
            raise SourceError(f"{self.name} {why}")
        self.fps = valid_fps(self._video.get(cv2.CAP_PROP_FPS))
        count = valid_count(self._video.get(cv2.CAP_PROP_FRAME_COUNT))
        self.endless = self.kind == "rtsp" or count is None
        self.frame_count = None if self.endless else count
        self.live = self.endless or realtime
        self._timeline = Timeline(self.fps)
        if not self._keep_first(self._decode()):
            self.close()
            raise SourceError(
                f"{self.name} opened, but sent no frame within {read_timeout_s:g} s; check the"
                " stream in a player"
            )

    def _read_on(self) -> Grab | None:
        grab = self._decode()
        if grab is None and self.endless:
            raise SourceError(
                f"{self.name} closed, or sent nothing for {self._read_timeout_s:g} s; check the"
                " server and the network"
            )
        if grab is None and self._breaks_off():
            raise SourceError(
                f"{self.name} broke off after {self._decoded} of about {self.frame_count} frames;"
                " download the file and analyse the copy"
            )
        return grab

    def _decode(self) -> Grab | None:
        started = time.monotonic()
        ok, image = self._video.read()
        # When the wait runs out, FFmpeg still hands out the frame its decoder held back. It is as
        # old as the silence, so it would enter the present with the wrong time.
        if not ok or time.monotonic() - started >= self._read_timeout_s:
            return None
        return self._numbered(image)


def _address(url: str, name: str) -> tuple[str, int]:
    """Return host and port of an address, or raise the error that says it has none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]
    except ValueError:
        host, port = None, 0
    if not host:
        raise SourceError(
            f"{name} is not a valid address; write rtsp://user:password@host:port/path, with"
            " special characters of the password percent-encoded"
        )
    return host, port


def _diagnose(host: str, port: int, timeout_s: float) -> str:
    """Find out by a plain TCP connection why FFmpeg could not open the address."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except (socket.gaierror, UnicodeError):
        return "names a host that is unknown; check its spelling and the network"
    except ConnectionRefusedError:
        return f"refused the connection on port {port}; check the port and that the server runs"
    except TimeoutError:
        return f"did not answer on port {port}; check the address, the network and the firewall"
    except OSError as error:
        return f"cannot be reached ({error.strerror or error}); check the network"
    return "answers, but gives no video there; check the path, user name and password"
