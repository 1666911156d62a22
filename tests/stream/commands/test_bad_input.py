"""What a careless or hostile user does, and the one clear answer each gets."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from facestage.core.analyzer import Analyzer
from facestage.core.config import AnalyzerConfig, WindowConfig
from facestage.core.errors import ConfigError, SourceError
from facestage.stream.detectors import make_detector
from facestage.stream.protocol import Hello
from facestage.stream.server.hub import Hub
from facestage.stream.server.server import Server
from facestage.stream.sources import open_source

from tests.support.paths import DEMO_CLIP

COMMAND = [sys.executable, "-m", "facestage.stream"]
HELLO = Hello(server="0", model="m", device="cpu", detector="d", lrp_preset="p")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **changes}


def test_a_name_that_is_not_utf8_is_refused_before_ffmpeg_crashes_on_it(tmp_path: Path) -> None:
    name = os.fsdecode(bytes(tmp_path / "bad") + b"\xff.mp4")
    try:
        shutil.copy(DEMO_CLIP, name)
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(ConfigError, match="not valid UTF-8; rename it"):
        open_source(name)


def test_a_camera_number_beyond_an_int_is_a_camera_that_is_not_there() -> None:
    with pytest.raises(SourceError, match="camera 99999999999 cannot be opened"):
        open_source("99999999999")


@pytest.mark.parametrize("size", [-5, 0, 2])
def test_a_window_that_cannot_work_is_refused_before_the_first_frame(size: int) -> None:
    with pytest.raises(ConfigError, match="window"):
        Analyzer(make_detector("ours"), None, AnalyzerConfig(window=WindowConfig(size=size)))


@pytest.mark.parametrize("lines", [1, 5], ids=["during the heading", "during the run"])
def test_a_reader_that_leaves_ends_the_run_without_a_word(lines: int) -> None:
    with subprocess.Popen(
        [*COMMAND, "live", str(DEMO_CLIP), "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
        assert (process.wait(60), errors) == (0, b"")


def test_a_terminal_without_utf8_sees_every_transition() -> None:
    done = subprocess.run(
        [*COMMAND, "live", str(DEMO_CLIP), "--port", "0", "--frames", "110"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(PYTHONIOENCODING="ascii"),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"(NONE) ? (AU" in done.stdout
    assert b"summary  110 frames" in done.stdout


def test_ctrl_c_ends_the_wait_for_a_silent_server(silent_port: int) -> None:
    with subprocess.Popen(
        [
            *(*COMMAND, "-v", "live", f"rtsp://127.0.0.1:{silent_port}/x"),
            *("--port", "0", "--open-timeout", "100"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stderr is not None
        while "serving" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0  # long before the timeout


def test_an_address_that_is_none_and_a_repeated_header_are_the_fault_of_the_client() -> None:
    def ask(port: int, target: str, extra: str) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode())
            return client.makefile("rb").readline().split()[1]

    async def answers() -> list[bytes]:
        async with Server(Hub([]), hello=HELLO, port=0) as server:
            return [
                await asyncio.to_thread(ask, server.port, target, extra)
                for target, extra in (
                    ("//[", ""),
                    ("http://[bad", ""),
                    ("/%2e%2e/secret", ""),
                    ("/?x=[", ""),
                    ("/ws", "Host: other\r\nOrigin: http://a.example\r\n"),
                    ("/ws", "Origin: http://a.example\r\nOrigin: http://b.example\r\n"),
                )
            ]

    assert asyncio.run(answers()) == [b"404", b"404", b"404", b"200", b"400", b"400"]
