"""The process as its surroundings meet it: signals, a full disk, no home, no real browser."""

from __future__ import annotations

import os
import re
import resource
import signal
import struct
import subprocess
import sys
import webbrowser
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from facestage.stream import MOST_PIXELS
from facestage.stream.commands import live, serving
from facestage.stream.protocol import decode
from websockets.sync.client import connect

COMMAND = (sys.executable, "-m", "facestage")
HEAD = "facestage 0.1.0: research software, not a medical device"
DEMO = (*COMMAND, "demo", "--no-browser", "--port", "0")


def start(*command: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def finish(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, text=True, timeout=120, **options)


def test_a_terminal_that_closes_ends_the_run_with_a_bye() -> None:
    with start(*DEMO, "--max-connections", "1") as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next(found for line in lines if (found := re.search(r"http://(\S+)/", line)))
        with connect(f"ws://{address[1]}/ws") as client:
            client.send('{"v":1,"type":"subscribe","data":{"topics":[]}}')
            kinds = [decode(client.recv(30)).type]
            with connect(f"ws://{address[1]}/ws") as another:
                assert decode(another.recv(30)).data.code == "too_many_clients"
            process.send_signal(signal.SIGHUP)
            kinds += [decode(message).type for message in client]
            assert kinds[-1] == "bye"
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "summary" in out
        assert "Traceback" not in err


def test_a_hang_up_that_nohup_ignores_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever these tests themselves were started with.
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)
    assert signal.SIGHUP in serving.ending_signals()
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    assert signal.SIGHUP not in serving.ending_signals()


@pytest.mark.parametrize("module", ["typer", "torch"])
def test_ctrl_c_while_loading_is_no_traceback(module: str, tmp_path: Path) -> None:
    # A module of that name comes first, and presses Ctrl-C while it is being imported.
    (tmp_path / f"{module}.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with start(*DEMO, env=environment) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out in ("", f"{HEAD}\n")  # said before torch is loaded
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [("--help",), ("models", "list")])
def test_a_full_disk_below_the_output_is_one_line(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = finish([*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert re.fullmatch(
        r"facestage: standard output cannot be written \(No space left on device\); .*\n",
        done.stderr,
    )


def test_a_user_without_home_and_name_needs_none(tmp_path: Path) -> None:
    # As in a container run with --user: no HOME, and nobody of that number in /etc/passwd.
    program = (
        "import os, pwd, sys\n"
        "def nobody(uid): raise KeyError(f'getpwuid(): uid not found: {uid}')\n"
        "pwd.getpwuid = nobody\n"
        "for name in ('HOME', 'USER', 'LOGNAME', 'XDG_CACHE_HOME', 'FACESTAGE_CACHE'):\n"
        "    os.environ.pop(name, None)\n"
        "from facestage.stream.cli import main\n"
        "main()\n"
    )
    done = finish(
        [sys.executable, "-c", program, "demo", "--no-browser", "--port", "0", "--frames", "2"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "summary  2 frames" in done.stdout


@pytest.mark.parametrize("name", ["www-browser", "links", "elinks", "lynx", "w3m"])
def test_a_browser_of_the_terminal_is_not_opened(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    for kind in (webbrowser.GenericBrowser, webbrowser.UnixBrowser):
        browser = kind(f"/usr/bin/{name}")
        monkeypatch.setattr(browser, "open", opened.append)
        monkeypatch.setattr(webbrowser, "get", lambda browser=browser: browser)
        live._show("http://127.0.0.1:1/")
    assert opened == []


def test_a_browser_with_windows_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    for browser in (webbrowser.BackgroundBrowser("xdg-open"), webbrowser.UnixBrowser("firefox")):
        monkeypatch.setattr(browser, "open", opened.append)
        monkeypatch.setattr(webbrowser, "get", lambda browser=browser: browser)
        live._show("http://127.0.0.1:1/")
    assert opened == ["http://127.0.0.1:1/"] * 2


def png(side: int) -> bytes:
    """Return a grey PNG of one colour; its size is that of its claim by a thousandth."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = zlib.compressobj(9)
    pixels = b"".join(rows.compress(bytes(side + 1)) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_an_image_that_claims_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    side = 20_000
    assert side**2 > MOST_PIXELS
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side))
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from facestage.core.errors import SourceError\n"
        "from facestage.stream.sources.images import load_image\n"
        "try:\n    load_image(Path(sys.argv[1]))\n"
        "except SourceError as error:\n    print(error)\n"
    )
    done = finish(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30)),
    )
    assert done.returncode == 0
    assert "bomb.png" in done.stdout
    assert f"more pixels than are decoded, {MOST_PIXELS}" in done.stdout
