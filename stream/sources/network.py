"""RTSP and HTTP addresses as sources, with bounded waits."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import time
from urllib.parse import urlsplit

from av.error import ExitError, FFmpegError

from ...core.errors import ConfigError, SourceError
from .base import Grab, redact
from .ffmpeg import Decoder, VideoSource

__all__ = ["NetworkStream", "SinglePictureError", "connect"]

logger = logging.getLogger(__name__)

_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
OPTIONS_VARIABLE = "FACESTAGE_FFMPEG_OPTIONS"
"""Environment variable with options for FFmpeg: ``name=value|name=value``."""
_PICTURES = ("_pipe", "image2")
"""Ends of FFmpeg's names for formats that are nothing but pictures."""
_PROBE_S = 2.0
"""Longest wait for the plain connection that finds out why an open failed."""


class SinglePictureError(SourceError):
    """An address gives one picture and no more."""


class NetworkStream(VideoSource):
    """A video stream behind an RTSP or HTTP address, read through FFmpeg.

    RTSP goes over TCP, unless ``FACESTAGE_FFMPEG_OPTIONS`` names another transport. An HTTP address
    that states its number of frames is a recording: it ends like a file. Everything else has no
    end, and an end is a loss.

    Args:
        url: the address, with user name and password where needed.
        open_timeout_s: longest wait for the stream to open.
        read_timeout_s: longest wait for the next frame.
        realtime: whether to play a recording at its own pace.

    Raises:
        SourceError: the address is wrong, nobody listens, nothing answers in time, or what
            answers is no video; of a single picture, :class:`SinglePictureError`.
        ConfigError: ``FACESTAGE_FFMPEG_OPTIONS`` cannot be understood.
    """

    _second: Grab | None = None
    """A picture read ahead."""

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
        self._open(connect(url, open_timeout_s, read_timeout_s))
        count = self._video.frame_count
        self.endless = self.kind == "rtsp" or count is None
        self.frame_count = None if self.endless else count
        self.live = self.endless or realtime
        try:
            self._keep_only(self._decode_in_time(), read_timeout_s)
        except BaseException:
            self.close()
            raise

    def _keep_only(self, first: Grab | None, read_timeout_s: float) -> None:
        """Keep the first picture of a stream; refuse what has none, or has only that one.

        Raises:
            SinglePictureError: it is a single picture.
            SourceError: it is empty.
        """
        if not self._keep_first(first):
            raise SourceError(
                f"{self.name} opened, but sent no frame within {read_timeout_s:g} s; check the"
                " stream in a player"
            )
        # These formats are pictures one after the other without a frame around them: a snapshot
        # address of a camera gives one and closes.
        if self._video.format.endswith(_PICTURES):
            self._second = self._decode_in_time()
            if self._second is None:
                raise SinglePictureError(
                    f"{self.name} is a single picture, not a video; fetch it again and again with"
                    " --poll SECONDS (of `live`), or give the camera's video address (rtsp://…, or"
                    " its motion JPEG, often /video.mjpg or /mjpg/video.mjpg)"
                )

    def _read_on(self) -> Grab | None:
        grab, self._second = self._second, None
        grab = grab or self._decode_in_time()
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

    def _decode_in_time(self) -> Grab | None:
        """Return the next picture; None at the end, after a silence, or when the line is cut."""
        started = time.monotonic()
        try:
            grab = self._decode()
        except FFmpegError as error:
            logger.debug("%s: %s", self.name, error.strerror)
            return None
        # When the wait runs out, FFmpeg may still hand out the frame its decoder held back. It is
        # as old as the silence, so it would enter the present with the wrong time.
        late = self.endless and time.monotonic() - started >= self._read_timeout_s
        return None if late else grab


def connect(url: str, open_timeout_s: float, read_timeout_s: float) -> Decoder:
    """Connect to an address and find its video.

    Args:
        url: the address, with user name and password where needed.
        open_timeout_s: longest wait for it to open.
        read_timeout_s: longest wait for what it sends next, and for a picture that is whole.

    Raises:
        SourceError: the address is wrong, nobody listens, nothing answers in time, or what
            answers is no video.
        ConfigError: ``FACESTAGE_FFMPEG_OPTIONS`` cannot be understood.
    """
    name = redact(url)
    kind = "rtsp" if url.lower().startswith("rtsp") else "http"
    host, port = _address(url, name)
    started = time.monotonic()
    try:
        return Decoder(
            url,
            name,
            options=_options(kind, host),
            timeout=(open_timeout_s, read_timeout_s),
            live=True,
            patience_s=read_timeout_s,
        )
    except FFmpegError as error:
        left_s = open_timeout_s - (time.monotonic() - started)
        if left_s <= 0 or isinstance(error, ExitError):
            why = f"gave no video within {open_timeout_s:g} s; check that the server is up"
        else:
            why = _diagnose(host, port, min(_PROBE_S, left_s)) + _proxy_note(kind, host)
        raise SourceError(f"{name} {why}") from None


def _options(kind: str, host: str) -> dict[str, str]:
    """Return FFmpeg's options for an address; the user's come last and win.

    Raises:
        ConfigError: the user's cannot be understood.
    """
    options = {}
    if kind == "rtsp":
        # Over UDP lost packets become smeared faces.
        options["rtsp_transport"] = "tcp"
    elif _is_loopback(host):
        # No proxy can reach this machine's own addresses.
        options["http_proxy"] = ""
    for option in filter(None, os.environ.get(OPTIONS_VARIABLE, "").split("|")):
        key, separator, value = option.partition("=")
        if not separator or not key.strip():
            raise ConfigError(
                f"{OPTIONS_VARIABLE} holds {option!r}; write it as name=value|name=value"
            )
        options[key.strip()] = value
    return options


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _proxy_note(kind: str, host: str) -> str:
    """Say that a proxy stands between, where one does."""
    proxy = os.environ.get("http_proxy", "")
    if kind != "http" or not proxy or _is_loopback(host):
        return ""
    return f" (through the proxy of http_proxy, {redact(proxy)}; no_proxy={host} goes past it)"


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
