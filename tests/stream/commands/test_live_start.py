"""How ``live`` begins: its first line, its page, and what it says when no source is named."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.core.errors import ConfigError
from facestage.stream.commands import live
from facestage.stream.commands.cameras import Camera, no_source_text
from facestage.stream.commands.signatures import LiveOptions
from facestage.stream.protocol import Hello
from facestage.stream.server.hub import Hub

FIRST = """
import sys
class Torch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch is loaded")
            sys.exit()
sys.meta_path.insert(0, Torch())
from facestage.stream import cli
sys.argv[1:] = [WORD, "--port", "0"] + (["demo:"] if WORD == "live" else [])
cli.main()
"""


@pytest.mark.parametrize("word", ["live", "demo"])
def test_the_first_line_comes_before_torch_is_loaded(word: str) -> None:
    code = FIRST.replace("WORD", repr(word))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("facestage ")
    assert "not a medical device" in first
    assert second == "torch is loaded"


@pytest.mark.parametrize(
    ("terminal", "browser", "opens"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_the_page_is_opened_on_a_terminal_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, browser: bool, opens: bool
) -> None:
    opened: list[str] = []
    there = threading.Event()

    def show(address: str) -> None:
        opened.append(address)
        there.set()

    monkeypatch.setattr(live, "_is_terminal", lambda: terminal)
    monkeypatch.setattr(live, "_show", show)
    live.run_live(LiveOptions(sources=["demo:"], frames=2, port=0, browser=browser))
    assert there.wait(20) is True if opens else not there.is_set()
    assert all(address.startswith("http://127.0.0.1:") for address in opened)


def test_without_a_source_the_cameras_and_the_webcam_of_a_browser_are_offered() -> None:
    cameras = [Camera("/dev/video0", "Lid"), Camera("/dev/video12", error="Permission denied")]
    text = no_source_text(cameras)
    assert "facestage live 0 " in text
    assert "/dev/video0 (Lid)" in text
    assert "facestage live 12 " in text
    assert "Permission denied" in text
    assert "facestage live browser:" in text
    assert "no camera is found" not in text
    assert "no camera is found" in no_source_text([])
    with pytest.raises(ConfigError, match="browser:"):
        LiveOptions()


@pytest.mark.parametrize("level", ["picture", "outline", "none"])
def test_what_the_server_was_told_is_what_clients_are_told(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Jane Doe"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((60, 80, 3), np.uint8))
    hubs: list[Hub] = []
    real = live.Hub
    monkeypatch.setattr(
        live, "Hub", lambda *args, **more: hubs.append(real(*args, **more)) or hubs[-1]
    )
    hellos: list[Hello] = []
    make = live._hello
    monkeypatch.setattr(live, "_hello", lambda *args: hellos.append(make(*args)) or hellos[-1])
    live.run_live(LiveOptions(sources=[str(folder)], port=0, privacy=level))
    assert (hellos[0].privacy, hellos[0].video) == (level, level != "none")
    first, last = hubs[0].range
    told = b"".join(hubs[0].event_after(seq - 1) or b"" for seq in range(first, last + 1))
    assert b"Jane Doe" in told
    assert str(tmp_path).encode() not in told
