"""Network streams that misbehave: another size, broken pictures, a snapshot, a proxy."""

from __future__ import annotations

import http.server
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from facestage.core.errors import SourceError
from facestage.core.types import Frame
from facestage.stream.live.capture import Capture, CaptureOptions, SourceState, SourceStateChange
from facestage.stream.sources import open_source

PATIENCE_S = 60.0
"""How long a test waits for a thread before it fails; never reached when all is well."""


def jpeg(width: int = 64, height: int = 48, level: int = 90, keep: float = 1.0) -> bytes:
    """A picture of an ellipse; ``keep`` is the share of its bytes that is sent."""
    rng = np.random.default_rng(level)
    picture = rng.integers(0, 60, (height, width, 3)).astype(np.uint8) + np.uint8(level)
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    return data[: int(keep * len(data))]


class Camera(http.server.BaseHTTPRequestHandler):
    """Sends a list of JPEGs as motion JPEG, then holds the line until it is told to hang up."""

    pictures: Sequence[bytes] = ()
    repeat_last = False
    hang_up: threading.Event

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""

    def do_GET(self) -> None:
        if self.path == "/snapshot.jpg":
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(self.pictures[0])))
            self.end_headers()
            self.wfile.write(self.pictures[0])
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for picture in self.pictures:
                self._send(picture)
            while self.repeat_last and not self.hang_up.wait(0.04):
                self._send(self.pictures[-1])
        except OSError:
            return  # the reader has gone
        self.hang_up.wait(PATIENCE_S)

    def _send(self, picture: bytes) -> None:
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
        self.wfile.write(head.encode() + picture + b"\r\n")


@contextmanager
def camera(*pictures: bytes, repeat_last: bool = False) -> Iterator[tuple[str, threading.Event]]:
    """Serve pictures; give the address and the event that ends the stream."""
    hang_up = threading.Event()
    handler = type(
        "One", (Camera,), {"pictures": pictures, "repeat_last": repeat_last, "hang_up": hang_up}
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", hang_up
    finally:
        hang_up.set()
        server.shutdown()
        server.server_close()
        thread.join()


def take(capture: Capture) -> Frame:
    frame = capture.get(PATIENCE_S)
    assert frame is not None
    return frame


def test_another_size_is_another_epoch_and_keeps_its_shape() -> None:
    sizes = [(64, 48)] * 12 + [(320, 180)] * 6 + [(90, 160)] * 6
    changes: list[SourceStateChange] = []
    with camera(*(jpeg(*size) for size in sizes)) as (address, hang_up):
        capture = Capture(
            lambda: open_source(f"{address}/video"),
            CaptureOptions(policy="every", reconnect=False),
            name="camera",
            on_state=changes.append,
        )
        with capture:
            frames = [take(capture) for _ in range(20)]
            hang_up.set()
            frames += [take(capture) for _ in range(4)]
    assert [frame.image.shape[1::-1] for frame in frames] == sizes
    assert [frame.epoch for frame in frames] == [0] * 12 + [1] * 6 + [2] * 6
    assert [c.reason for c in changes if c.state is SourceState.LIVE] == [
        "first picture",
        "pictures of 320×180 now, of 64×48 before",
        "pictures of 90×160 now, of 320×180 before",
    ]


def test_broken_pictures_are_counted_and_a_run_of_them_is_stalled() -> None:
    whole, third = jpeg(level=100), jpeg(level=130, keep=0.33)
    stalled = threading.Event()

    def note(change: SourceStateChange) -> None:
        if change.state is SourceState.STALLED:
            stalled.set()

    good = [whole] * 10 + [third, whole, third, third, whole]
    with camera(*good, third, repeat_last=True) as (address, _):
        capture = Capture(
            lambda: open_source(f"{address}/video", read_timeout_s=PATIENCE_S),
            CaptureOptions(policy="every", reconnect=False),
            name="camera",
            on_state=note,
        )
        with capture:
            frames = [take(capture) for _ in range(12)]
            assert capture.drops["decode"] == 3
            while not stalled.is_set():
                with pytest.raises(queue.Empty):
                    capture.get(0.1)
    # What is broken keeps its place and is never handed over.
    assert [frame.index for frame in frames] == [*range(10), 11, 14]
    assert all(np.abs(frame.image.mean() - 130) < 8 for frame in frames)


def test_nothing_but_broken_pictures_is_a_loss() -> None:
    with (
        camera(*[jpeg()] * 10, jpeg(keep=0.3), repeat_last=True) as (address, _),
        open_source(f"{address}/video", read_timeout_s=0.3) as source,
    ):
        for _ in range(10):
            assert source.read() is not None
        with pytest.raises(SourceError, match="nothing but broken pictures"):
            source.read()


def test_a_snapshot_is_no_stream() -> None:
    with (
        camera(jpeg()) as (address, _),
        pytest.raises(
            SourceError, match=r"is a single picture, not a video; .*--poll SECONDS.*rtsp://"
        ),
    ):
        open_source(f"{address}/snapshot.jpg")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_stands_before_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.delenv("no_proxy", raising=False)
    with camera(*[jpeg()] * 12) as (address, hang_up):
        with open_source(f"{address}/video".replace("127.0.0.1", host)) as source:
            assert source.read() is not None
        hang_up.set()


def test_a_proxy_in_the_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:1/")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(SourceError, match="through the proxy of http_proxy") as caught:
        open_source("http://camera.invalid/video", open_timeout_s=5.0)
    assert "secret" not in str(caught.value)
    assert "no_proxy=camera.invalid" in str(caught.value)


def test_what_a_stream_changed_is_known(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        camera(*[jpeg()] * 12) as (address, hang_up),
        open_source(f"{address}/video") as source,
    ):
        hang_up.set()
        assert source.remark == ""
    assert not caplog.records
