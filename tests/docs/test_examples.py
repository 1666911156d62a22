"""Each example runs as it stands, on the embedded clip or on a server of this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from facestage.stream.protocol import Hello, StageEnter, StreamInfo
from facestage.stream.server.hub import Hub
from facestage.stream.server.server import Server

from tests.support.paths import DEMO_CLIP, ROOT

EXAMPLES = ROOT / "examples"
STAGES = (
    StageEnter(labels=("NONE",), start=0, start_s=0.0, reason="first", at=0, text="(NONE)"),
    StageEnter(labels=("AU12_A",), start=3, start_s=0.1, reason="au_on", at=9, text="(AU12_A)"),
)


def run_example(
    name: str,
    words: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """Run an example as a script and return what it printed."""
    monkeypatch.setattr(sys, "argv", [name, *words])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def demo_pictures(numbers: Sequence[int]) -> list[np.ndarray]:
    """Return frames of the demo clip."""
    reader = cv2.VideoCapture(str(DEMO_CLIP))
    found = []
    for number in numbers:
        reader.set(cv2.CAP_PROP_POS_FRAMES, number)
        ok, picture = reader.read()
        assert ok
        found.append(picture)
    reader.release()
    return found


def test_every_example_is_run_and_listed() -> None:
    found = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    tested = set(re.findall(r'"(\w+\.(?:py|mjs|ipynb))"', Path(__file__).read_text()))
    assert found == tested
    listed = re.findall(r"^\| \[[^]]+\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text(), re.M)
    assert set(listed) == found


def test_a_camera_prints_its_stages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demo:", "--frames", "120"]
    lines = run_example("live_webcam.py", words, monkeypatch, capsys).splitlines()
    assert lines[0].split() == ["0.00", "s", "(NONE)"]
    # Surprise begins at 2.2 s; its AUs get letters and then a stage.
    assert any(re.fullmatch(r" +[23]\.\d\d s  new: AU\d\d_A", line) for line in lines)
    assert any(re.fullmatch(r" +[23]\.\d\d s  \(AU\d\d_A.*\)", line) for line in lines)


def test_a_network_of_ones_own_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--out", str(tmp_path / "relevance.png")]
    printed = run_example("explain_my_network.py", words, monkeypatch, capsys)
    right, disc, bar = (int(share) for share in re.findall(r"(\d+)%", printed))
    assert "engine: fused" in printed
    assert right >= 90
    assert disc >= 70  # the disc is above
    assert bar <= 30  # the bar is below
    assert cv2.imread(str(tmp_path / "relevance.png")).shape == (4 * 32 * 6, 3 * 32 * 6, 3)


def test_a_folder_of_faces_is_clustered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faces").mkdir()
    # Neutral, a closed smile, an open smile.
    for number, picture in enumerate(demo_pictures([20, 390, 395, 400, 405, 490, 495, 500])):
        cv2.imwrite(str(tmp_path / "faces" / f"{number}.png"), picture)
    words = [str(tmp_path / "faces"), "--au", "12", "--out", str(tmp_path / "clusters.png")]
    printed = run_example("spray_folder.py", words, monkeypatch, capsys)
    assert "AU12 is active in 7 of 8 faces" in printed
    clusters = [int(count) for count in re.findall(r"cluster \w: (\d+) faces", printed)]
    assert sum(clusters) == 7
    height, width, _ = cv2.imread(str(tmp_path / "clusters.png")).shape
    assert (height, width) == (192 * len(clusters), 192 * 8)


def test_a_report_is_written_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demo:", "--out", str(tmp_path / "result"), "--frames", "110"]
    printed = run_example("report.py", words, monkeypatch, capsys)
    assert (tmp_path / "result" / "report.html").exists()
    assert "temporal prototype: (NONE) → (AU" in printed
    none = re.search(r"^NONE +(\d\.\d\d) s$", printed, re.MULTILINE)
    assert none is not None
    assert 1.5 < float(none[1]) < 3.0  # the face is neutral until 2.2 s
    strong = re.search(r"^AU01 at most (\d\.\d) of 5, at (\d\.\d\d) s$", printed, re.MULTILINE)
    assert strong is not None
    assert float(strong[1]) > 1.0
    assert float(strong[2]) > 2.2


def test_a_source_of_ones_own_is_analysed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = run_example("own_source.py", ["--frames", "100"], monkeypatch, capsys)
    # The surprise comes first and the neutral face last: the film runs backwards.
    assert re.fullmatch(r"demo, backwards: \(AU\d\d_A.*\) → \(NONE\)\n", printed)


def test_events_are_read_in_python() -> None:
    command = [sys.executable, str(EXAMPLES / "read_events.py"), "ADDRESS"]
    assert asyncio.run(followed(command)) == ["cam (NONE) first", "cam (AU12_A) au_on"]


def test_events_are_read_in_javascript() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node on the PATH")
    flag = ["--experimental-websocket"] if version(node) < 22 else []
    command = [node, *flag, str(EXAMPLES / "read_events.mjs"), "ADDRESS"]
    assert asyncio.run(followed(command)) == ["cam (NONE) first", "cam (AU12_A) au_on"]


def version(node: str) -> int:
    """Return the major version of a Node."""
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.removeprefix("v").partition(".")[0])


class Line:
    """A connection between clients and a server that can be cut.

    Args:
        port: of the server, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on what a client and the server say, until the line is cut."""
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends |= {writer, forth}
        await asyncio.gather(self._hand_on(reader, forth), self._hand_on(back, writer))

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    def cut(self) -> None:
        """Cut every connection; the next one is served."""
        while self._ends:
            self._ends.pop().transport.abort()


async def followed(command: Sequence[str]) -> list[str]:
    """Return what a client prints of two stages, the second of which begins while it is cut off.

    The second one is published while nobody listens, so only a client that connects again and asks
    for what it missed can print it. It ends with the server.
    """
    hub = Hub((StreamInfo(id="cam", name="Camera"),))
    hello = Hello(server="0", model="m", device="cpu", detector="d", lrp_preset="p")
    printed = []
    async with asyncio.timeout(200):
        async with Server(hub, hello=hello, port=0) as server:
            line = Line(server.port)
            relay = await asyncio.start_server(line.serve, "127.0.0.1", 0)
            address = f"ws://127.0.0.1:{relay.sockets[0].getsockname()[1]}/ws"
            process = await asyncio.create_subprocess_exec(
                *(word.replace("ADDRESS", address) for word in command),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert process.stdout is not None
            first = asyncio.create_task(process.stdout.readline())
            while not first.done():
                # Again and again: what comes before the client's snapshot is part of that.
                hub.publish_event(STAGES[0], stream="cam")
                await asyncio.wait([first], timeout=0.05)
            printed.append(first.result())
            line.cut()
            hub.publish_event(STAGES[1], stream="cam")
            while printed[-1] and b"AU12_A" not in printed[-1]:
                printed.append(await process.stdout.readline())
        rest, err = await process.communicate()
        relay.close()
    assert process.returncode == 0, err.decode()
    assert rest == b""
    return list(dict.fromkeys(text.decode().rstrip() for text in printed))


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="the notebook draws with matplotlib")
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells)  # none is kept in the repository
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        source = "".join(cell["source"])
        exec(compile(source, f"notebook.ipynb {cell['id']}", "exec"), names)
    result = names["result"]
    letters = {label for stage in result.stages for label in stage.labels}  # type: ignore[attr-defined]
    assert "AU12_A" in letters
