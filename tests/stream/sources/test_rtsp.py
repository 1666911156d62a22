"""RTSP against a real server (GStreamer): frames, logins, a server lost and found again."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.errors import SourceError
from facestage.core.types import Frame
from facestage.stream.live.capture import Capture, CaptureOptions, SourceState, SourceStateChange
from facestage.stream.sources import open_source

from tests.support.paths import ROOT

pytestmark = [pytest.mark.rtsp, pytest.mark.xdist_group("rtsp")]

SYSTEM_PYTHON = Path("/usr/bin/python3")
SERVER = ROOT / "tests" / "support" / "rtsp_server.py"
BINDINGS = "import gi; gi.require_version('GstRtspServer', '1.0')"
PATIENCE_S = 60.0
"""How long a test waits for another process before it fails; never reached when all is well."""


class Server:
    """The server process; it can be killed, frozen, and started again on the same port."""

    def __init__(self, clip: Path, login: str = "") -> None:
        self._arguments = [str(SYSTEM_PYTHON), str(SERVER), str(clip), "--login", login]
        self.port = 0
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._arguments, "--port", str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def url(self, user: str = "", path: str = "face") -> str:
        return f"rtsp://{user}127.0.0.1:{self.port}/{path}"


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty seconds of a grey picture that gets brighter with every frame."""
    if not SYSTEM_PYTHON.exists():
        pytest.skip(f"no system Python at {SYSTEM_PYTHON}")
    if subprocess.run([SYSTEM_PYTHON, "-c", BINDINGS], check=False).returncode:
        pytest.skip("no GStreamer bindings (apt install gir1.2-gst-rtsp-server-1.0 python3-gi)")
    path = tmp_path_factory.mktemp("rtsp") / "clip.mp4"
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (320, 240)
    )
    for n in range(900):
        writer.write(np.full((240, 320, 3), n // 4, np.uint8))
    writer.release()
    return path


@pytest.fixture
def server(clip: Path) -> Iterator[Server]:
    server = Server(clip)
    yield server
    server.kill()


@pytest.fixture
def private_server(clip: Path) -> Iterator[Server]:
    server = Server(clip, login="viewer:sesame")
    yield server
    server.kill()


class States:
    """Collects state changes and lets the test wait for one."""

    def __init__(self) -> None:
        self.changes: list[SourceStateChange] = []
        self._changed = threading.Condition()

    def __call__(self, change: SourceStateChange) -> None:
        with self._changed:
            self.changes.append(change)
            self._changed.notify_all()

    def wait_for(self, state: SourceState, epoch: int) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: any(c.state is state and c.epoch == epoch for c in self.changes),
                PATIENCE_S,
            )

    @property
    def names(self) -> list[str]:
        """The states in order; repeated attempts to reconnect count once."""
        names = [change.state.value for change in self.changes]
        return [name for n, name in enumerate(names) if n == 0 or name != names[n - 1]]


def take(capture: Capture) -> Frame:
    frame = capture.get(PATIENCE_S)
    assert frame is not None
    return frame


def test_frames_arrive_in_order(server: Server) -> None:
    with open_source(server.url()) as source:
        assert (source.kind, source.live, source.endless) == ("rtsp", True, True)
        assert (source.size, source.frame_count) == ((320, 240), None)
        grabs = [source.read() for _ in range(40)]
    frames = [grab for grab in grabs if grab is not None]
    assert [grab.index for grab in frames] == list(range(40))
    pts = np.array([grab.pts for grab in frames])
    assert (np.diff(pts) > 0).all()
    assert np.median(np.diff(pts)) == pytest.approx(1 / 30, abs=2e-3)
    brightness = [float(grab.image.mean()) for grab in frames]
    assert brightness[-1] - brightness[0] == pytest.approx(39 / 4, abs=4.0)


def test_login_is_used_and_never_shown(
    private_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        with open_source(private_server.url("viewer:sesame@")) as source:
            assert source.name == private_server.url()
            assert source.read() is not None
        for user in ("", "viewer:wrong-pw@"):
            with pytest.raises(SourceError, match="user name and password") as caught:
                open_source(private_server.url(user))
            assert "viewer" not in str(caught.value)
            assert "wrong-pw" not in str(caught.value)
    assert "sesame" not in caplog.text
    assert "wrong-pw" not in caplog.text


def test_wrong_path(server: Server) -> None:
    with pytest.raises(SourceError, match="answers, but gives no video there"):
        open_source(server.url(path="nobody"))


def test_a_killed_server_is_found_again(
    private_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server, states = private_server, States()
    capture = Capture(
        lambda: open_source(server.url("viewer:sesame@")),
        CaptureOptions(policy="latest", backoff=(0.2,)),
        name=server.url(),
        on_state=states,
    )
    with caplog.at_level(logging.DEBUG), capture:
        before = [take(capture) for _ in range(20)]
        server.kill()
        states.wait_for(SourceState.RECONNECTING, epoch=0)
        server.start()
        states.wait_for(SourceState.LIVE, epoch=1)
        after = [take(capture)]
        while after[-1].epoch == 0:
            after.append(take(capture))
        back = take(capture)
    assert {frame.epoch for frame in before} == {0}
    assert (after[-1].epoch, back.epoch) == (1, 1)
    assert back.index > after[-1].index > before[-1].index
    assert back.t_mono_ns > after[-1].t_mono_ns > before[-1].t_mono_ns
    assert capture.drops["gap"] >= 1
    assert states.names == ["connecting", "live", "reconnecting", "live", "ended"]
    said = "".join(change.reason + change.source for change in states.changes) + caplog.text
    assert "sesame" not in said
    assert "viewer" not in said


def test_a_frozen_server_stalls_is_given_up_and_found_again(server: Server) -> None:
    states = States()
    capture = Capture(
        lambda: open_source(server.url(), open_timeout_s=3.0, read_timeout_s=3.0),
        CaptureOptions(backoff=(0.2,)),
        name=server.url(),
        on_state=states,
    )
    with capture:
        take(capture)
        server.freeze()
        with contextlib.suppress(queue.Empty):
            while True:  # frames on their way come first, then none
                capture.get(timeout=2.5)
        states.wait_for(SourceState.RECONNECTING, epoch=0)
        server.thaw()
        states.wait_for(SourceState.LIVE, epoch=1)
    assert states.names == ["connecting", "live", "stalled", "reconnecting", "live", "ended"]
