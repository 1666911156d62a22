"""An address that gives one picture per request, asked again and again; against a real server."""

from __future__ import annotations

import base64
import http.server
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError, SourceError
from facestage.core.types import Frame
from facestage.stream.live.capture import Capture, CaptureOptions, SourceState, SourceStateChange
from facestage.stream.sources import open_source

PATIENCE_S = 60.0
"""How long a test waits for a thread before it fails; never reached when all is well."""


def picture(level: int, size: tuple[int, int] = (64, 48), keep: float = 1.0) -> bytes:
    """A grey JPEG; ``keep`` is the share of its bytes that is sent."""
    rng = np.random.default_rng(level)
    grain = rng.integers(0, 20, (size[1], size[0], 3)).astype(np.uint8)
    data = cv2.imencode(".jpg", grain + np.uint8(level))[1].tobytes()
    return data[: int(keep * len(data))]


@dataclass
class Snapshots:
    """A camera's snapshot address.

    Attributes:
        answers: the answers in turn, the last one for ever; a number is a status.
        login: user name and password that are asked for.
        asked: monotonic time of each request that was let in, seconds.
    """

    answers: Sequence[bytes | int]
    login: str = ""
    asked: list[float] = field(default_factory=list)

    @contextmanager
    def served(self, port: int = 0) -> Iterator[str]:
        """Serve; give the address."""
        snapshots = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

            def do_GET(self) -> None:
                with suppress(OSError):  # the reader has gone
                    self.answer()

            def answer(self) -> None:
                expected = "Basic " + base64.b64encode(snapshots.login.encode()).decode()
                if snapshots.login and self.headers.get("Authorization") != expected:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                    return
                turn = min(len(snapshots.asked), len(snapshots.answers) - 1)
                snapshots.asked.append(time.monotonic())
                answer = snapshots.answers[turn]
                if isinstance(answer, int):
                    self.send_error(answer)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "image/jpeg")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/snapshot.jpg"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def level(image: np.ndarray) -> int:
    return round(float(image.mean()) - 9.5)


def take(capture: Capture) -> Frame:
    frame = capture.get(PATIENCE_S)
    assert frame is not None
    return frame


def captured(
    address: str, poll_s: float, note: Callable[[SourceStateChange], None] | None = None
) -> Capture:
    return Capture(
        lambda: open_source(address, poll_s=poll_s, read_timeout_s=PATIENCE_S),
        CaptureOptions(policy="every"),
        name="camera",
        on_state=note or (lambda change: None),
    )


def test_every_request_gives_the_next_picture() -> None:
    levels = [60, 80, 100, 120, 140]
    # The first answer says that it is a single picture; then the asking begins.
    snapshots = Snapshots([picture(n) for n in (40, *levels)])
    with snapshots.served() as address, open_source(address, poll_s=0.05) as source:
        assert (source.kind, source.live, source.endless) == ("http", True, True)
        assert (source.fps, source.size) == (20.0, (64, 48))
        grabs = [source.read() for _ in levels]
    assert [level(grab.image) for grab in grabs if grab] == pytest.approx(levels, abs=2)
    assert [grab.index for grab in grabs if grab] == [0, 1, 2, 3, 4]


def test_requests_keep_the_pace() -> None:
    snapshots = Snapshots([picture(90)])
    with snapshots.served() as address, open_source(address, poll_s=0.2) as source:
        for _ in range(4):
            source.read()
    begun = snapshots.asked[1]
    # Never sooner than the pace; how much later is the machine's business.
    assert all(time_s - begun >= 0.2 * n - 0.02 for n, time_s in enumerate(snapshots.asked[1:]))


def test_without_poll_the_error_names_it() -> None:
    with (
        Snapshots([picture(90)]).served() as address,
        pytest.raises(SourceError, match=r"is a single picture, not a video; .* --poll SECONDS"),
    ):
        open_source(address)


@pytest.mark.parametrize("poll_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pace_that_cannot_be_is_refused(poll_s: float) -> None:
    with pytest.raises(ConfigError, match="poll_s"):
        open_source("http://127.0.0.1:1/x.jpg", poll_s=poll_s)


def test_user_name_and_password_are_sent_and_not_shown() -> None:
    snapshots = Snapshots([picture(90)], login="me:secret")
    with snapshots.served() as address:
        full = address.replace("//", "//me:secret@")
        with open_source(full, poll_s=0.05) as source:
            assert source.read() is not None
            assert "secret" not in source.name
        with pytest.raises(SourceError, match="check the path, user name and password"):
            open_source(address, poll_s=0.05)


def test_broken_pictures_are_counted_and_keep_their_place() -> None:
    whole, third = picture(100), picture(130, keep=0.33)
    snapshots = Snapshots([whole, whole, third, whole, third, third, whole])
    with snapshots.served() as address, captured(address, 0.05) as capture:
        frames = [take(capture) for _ in range(3)]
        assert capture.drops["decode"] == 3
    assert [frame.index for frame in frames] == [0, 2, 5]
    assert [level(frame.image) for frame in frames] == pytest.approx([100] * 3, abs=2)


def test_nothing_but_broken_pictures_is_a_loss() -> None:
    snapshots = Snapshots([picture(90), picture(90), picture(90, keep=0.3)])
    with (
        snapshots.served() as address,
        open_source(address, poll_s=0.05, read_timeout_s=0.3) as source,
    ):
        assert source.read() is not None
        with pytest.raises(SourceError, match="nothing but broken pictures"):
            source.read()
    assert source.skipped >= 2


def test_a_refusal_is_a_loss_and_is_tried_again() -> None:
    snapshots = Snapshots([*[picture(70)] * 4, 503, 503, picture(150)])
    changes: list[SourceStateChange] = []
    with snapshots.served() as address, captured(address, 0.05, changes.append) as capture:
        frames = [take(capture) for _ in range(4)]
    assert [level(frame.image) for frame in frames] == pytest.approx([70] * 3 + [150], abs=2)
    assert [frame.epoch for frame in frames] == [0, 0, 0, 1]
    lost = [c for c in changes if c.state is SourceState.RECONNECTING]
    assert lost
    assert all(c.retry_s is not None and c.retry_s > 0 for c in lost)


def test_another_size_is_another_epoch() -> None:
    sizes = [(64, 48), (64, 48), (96, 48)]
    snapshots = Snapshots([picture(90), *(picture(90, size) for size in sizes)])
    with snapshots.served() as address, captured(address, 0.05) as capture:
        frames = [take(capture) for _ in sizes]
    assert [frame.epoch for frame in frames] == [0, 0, 1]


def test_a_long_pause_does_not_hold_up_the_end() -> None:
    snapshots = Snapshots([picture(90)])
    with snapshots.served() as address:
        capture = captured(address, 3600.0)
        with capture:
            take(capture)
            thread = capture._thread
        assert thread is not None
        assert not thread.is_alive()
        assert capture.state is SourceState.ENDED
    assert len(snapshots.asked) == 2
