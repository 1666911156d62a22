"""What the README and the documents tell a reader to type works.

Python is run. Commands are given to the parser of the real command line, which runs nothing. Every
block of code is accounted for: what cannot be tried is named with its reason.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pytest
import typer
from facestage.core.lrp import LRP_PRESETS
from facestage.stream import cli, protocol
from facestage.stream.commands.settings import read_settings
from facestage.stream.datasets.manifest import read_manifest
from facestage.stream.protocol import Hello, StageEnter, StreamInfo, decode
from facestage.stream.server.hub import Hub
from facestage.stream.server.server import Server

from benchmarks import soak
from tests.support.paths import DEMO_CLIP, ROOT
from tests.support.recording import make_recorder, publish

PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "examples/README.md",
    ROOT / "training/README.md",
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
DRAWN = {
    "docs/architecture.md": "the picture of the folders",
    "docs/adr/0001-core-without-io.md": "the threads and what they hand over",
    "docs/protocol.md": "a conversation, as a table",
    "docs/reproduce-paper.md": "trees of files",
    "docs/tutorial/corpus.md": "a tree of files",
}
"""Pages with blocks in no language → what these show; there is nothing to run."""
NOT_RUN = {
    "pip install .": "installs the package",
    "pip install '.[cuda]'": "the same",
    "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu": "fetches it",
    "python -m venv .venv": "makes an environment",
    ".venv/Scripts/pip install .": "is for Windows",
    ".venv/Scripts/facestage demo": "is for Windows",
    "ssh -N -L 8765:127.0.0.1:8765 gpu-machine": "needs another machine",
    "ssh -L 8765:localhost:8765 gpu.example": "needs another machine",
    "git clone ADDRESS facestage": "fetches the repository",
    "pre-commit install": "changes the repository's hooks",
    "chmod 600 cameras.txt": "needs the file",
    "python -m tests.support.schema_types": "writes files of the page",
    "pip install --target /tmp/peers --no-deps quantus pandas cachetools scikit-image imageio "
    "tifffile lazy-loader tqdm": "fetches packages",
    "openssl rand -hex 16 '>' token.txt '&&' chmod 600 token.txt": "makes a secret",
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj "
    "/CN=lab.example -addext subjectAltName=DNS:lab.example -keyout privkey.pem -out "
    "fullchain.pem": "makes a certificate",
    "pip install --require-hashes -r requirements.lock": "installs the dependencies",
    "pip install --no-deps --no-build-isolation .": "installs the package",
    "uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes "
    "--no-annotate --no-header -o requirements.lock": "fetches the list of files",
    "uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 "
    "--generate-hashes --no-annotate --no-header -o requirements-dev.lock": "the same",
    "cyclonedx-py requirements requirements.lock --pyproject pyproject.toml "
    "--output-reproducible --of JSON -o sbom.cdx.json": "needs cyclonedx-bom",
    "zcat 'sessions/*/frames/0000.jsonl.gz'": "prints a recording",
    "PYTHONPATH=/tmp/peers pytest tests/core/quality/test_quality.py": "runs tests",
}
"""Lines of shell that are not given to a parser → why."""
SHORT_CLIP = 45
"""Frames of the demo clip that stand for a reader's video."""


class Block(NamedTuple):
    """A block of code: page, first line of the code, language, text."""

    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(language: str | None = None) -> list[Block]:
    """Return the blocks in a language, or all."""
    found = []
    for path in PAGES:
        text = path.read_text()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            found.append(Block(str(path.relative_to(ROOT)), line, match[1], match[2]))
    return [block for block in found if language is None or block.language == language]


def shell_lines() -> Iterator[tuple[str, str]]:
    """Yield where it stands and the text of each line of shell, comments left out."""
    for block in blocks("sh"):
        for number, line in enumerate(block.code.replace("\\\n", " ").splitlines()):
            words = shlex.split(line, comments=True)
            if words:
                yield f"{block.page}:{block.line + number}", shlex.join(words)


LINES = dict(shell_lines())


# ---- every block


def test_each_block_is_of_a_kind_that_is_tried() -> None:
    for page in PAGES:
        fences = re.findall(r"^\s*```", page.read_text(), re.MULTILINE)
        name = str(page.relative_to(ROOT))
        assert len(fences) == 2 * sum(block.page == name for block in blocks()), name
    assert {block.language for block in blocks()} <= {
        "python",
        "sh",
        "json",
        "csv",
        "nginx",
        "toml",
        "",
    }
    assert {block.page for block in blocks("")} == set(DRAWN)
    assert set(NOT_RUN) <= set(LINES.values())


# ---- Python


def test_the_readme_analyses_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = (block for block in blocks("python") if block.page == "README.md")
    reader = cv2.VideoCapture(str(DEMO_CLIP))
    size = (int(reader.get(cv2.CAP_PROP_FRAME_WIDTH)), int(reader.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    writer = cv2.VideoWriter(
        str(tmp_path / "face.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, size
    )
    assert writer.isOpened()
    for _ in range(SHORT_CLIP):
        writer.write(reader.read()[1])
    writer.release()
    monkeypatch.chdir(tmp_path)
    execute(block)
    printed = capsys.readouterr().out.splitlines()
    assert printed
    assert all("(" in line for line in printed)
    assert any(line.startswith("StageEvent(") for line in printed)


def test_a_command_runs_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block, _ = (block for block in blocks("python") if block.page == "docs/python.md")
    monkeypatch.chdir(tmp_path)
    execute(block)
    assert (tmp_path / "result" / "report.html").exists()
    assert capsys.readouterr().out.splitlines()[-1].startswith("(Stage(labels=('NONE',), start=0")


def test_a_preset_of_ones_own_explains(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in blocks("python") if block.page == "docs/howto.md")
    try:
        execute(block)
    finally:
        LRP_PRESETS.pop("mine", None)
    assert capsys.readouterr().out == "torch.Size([1, 96, 96])\n"


def test_any_network_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    _, block = (block for block in blocks("python") if block.page == "docs/python.md")
    execute(block)
    assert capsys.readouterr().out == "torch.Size([2, 32, 32]) fused\n"
    (block,) = (b for b in blocks("python") if b.page == "docs/tutorial/own-network.md")
    execute(block)
    assert capsys.readouterr().out == "torch.Size([2, 8, 8])\n"


def test_the_client_in_ten_lines_prints_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in blocks("python") if block.page == "docs/protocol.md")
    stage = StageEnter(
        labels=("AU12_A",), start=3, start_s=0.1, reason="au_on", at=9, text="(AU12_A)"
    )

    async def converse() -> str:
        hub = Hub((StreamInfo(id="cam", name="Camera"),))
        hello = Hello(server="0", model="m", device="cpu", detector="d", lrp_preset="p")
        printed = ""
        async with asyncio.timeout(60):
            async with Server(hub, hello=hello, port=0) as server:
                # The port of the page may be taken on this machine.
                address = ("127.0.0.1:8765", f"127.0.0.1:{server.port}")
                client = asyncio.create_task(asyncio.to_thread(execute, block, address))
                while not hub.clients and not client.done():
                    await asyncio.sleep(0.01)
                while "\n" not in printed and not client.done():
                    # Again and again: what comes before the client's snapshot is part of that.
                    hub.publish_event(stage, stream="cam")
                    await asyncio.sleep(0.01)
                    printed += capsys.readouterr().out
            await client  # ends with the server
        return printed

    assert "labels=('AU12_A',)" in asyncio.run(converse())


def test_a_recording_is_read_as_the_documents_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = (block for block in blocks("python") if block.page == "docs/recordings.md")
    hub, recorder = make_recorder(tmp_path)
    folder = recorder.start()
    for number in range(12):
        publish(hub, number, random.Random(number))
    recorder.stop()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["script", str(folder)])
    execute(block)
    assert "AU12_A" in capsys.readouterr().out
    assert (tmp_path / "openface.csv").exists()


def test_no_block_of_python_is_left_out() -> None:
    assert [block.page for block in blocks("python")] == [
        "README.md",
        "docs/howto.md",
        "docs/protocol.md",
        "docs/python.md",
        "docs/python.md",
        "docs/recordings.md",
        "docs/tutorial/own-network.md",
    ]


def execute(block: Block, replaced: tuple[str, str] | None = None) -> None:
    """Run a block as a script, with one piece of its text replaced."""
    code = block.code
    if replaced is not None:
        assert code.count(replaced[0]) == 1
        code = code.replace(*replaced)
    exec(compile(code, str(block), "exec"), {"__name__": "__main__"})


# ---- data


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_messages_are_messages(block: Block) -> None:
    message = json.loads(block.code)
    assert set(message) == set(protocol.Envelope.__struct_fields__)
    assert message["type"] in protocol.EVENTS
    body = StageEnter(labels=("AU12_A",), start=0, start_s=0.0, reason="au_on", at=0, text="")
    whole = json.loads(protocol.encode(body))["data"]
    assert set(message["data"]) - {"..."} <= set(whole)
    message["data"] = whole | message["data"]
    assert decode(json.dumps(message)).data.labels == ("AU12_A",)


@pytest.mark.parametrize("block", blocks("csv"), ids=str)
def test_tables_are_manifests(block: Block, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(block.code)
    for row in block.code.splitlines()[2:]:
        path = tmp_path / row.partition(",")[0]
        path.parent.mkdir(exist_ok=True)
        path.touch()
    faces = read_manifest(tmp_path / "data.csv")
    assert len(faces) == len(block.code.splitlines()) - 2


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_settings_are_options(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "facestage.toml"
    path.write_text(block.code)
    for name in tomllib.loads(block.code):
        command = applications()["facestage"].commands[name]
        settings = read_settings(path, name, command.params)
        assert len(settings) == len(tomllib.loads(block.code)[name])


# ---- commands


def parse(command: Any, name: str, words: list[str]) -> None:
    """Let the parser of a command line read words, as if they were typed, and run nothing."""
    context = typer.Context(command, info_name=name)
    while hasattr(command, "get_command"):
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name!r}"
        if hasattr(command, "get_command"):
            context = typer.Context(command, info_name=name, parent=context)
    command.make_context(name, words, parent=context)


def applications() -> dict[str, Any]:
    """Return what a line begins with → the command line that reads the rest."""
    from training.__main__ import app

    return {
        "facestage": typer.main.get_command(cli.app),
        "python -m training": typer.main.get_command(app),
    }


def all_options(command: Any) -> set[str]:
    """Return the options of a command and of all commands in it."""
    found = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    for child in getattr(command, "commands", {}).values():
        found |= all_options(child)
    return found


@pytest.mark.parametrize("where", [where for where, line in LINES.items() if line not in NOT_RUN])
def test_a_line_of_shell_is_understood(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = LINES[where]
    # What a page says to write into the file of options is there when its commands are read.
    for block in blocks("toml"):
        if where.startswith(f"{block.page}:"):
            (tmp_path / "facestage.toml").write_text(block.code)
    monkeypatch.chdir(tmp_path)
    first, *words = shlex.split(line.removeprefix(".venv/bin/"))
    if first == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert words[0] in re.findall(r"^(\w+):", makefile, re.MULTILINE)
        for name in (word.partition("=")[0] for word in words[1:]):
            assert f"$({name})" in makefile
        return
    if first == "docker":
        image = (ROOT / "Dockerfile").read_text()
        for name in re.findall(r"--build-arg '?([A-Z_]+)=", line):
            assert f"ARG {name}=" in image
        if words[0] == "run" and " facestage " in line:  # what follows the image is a command of it
            line = line[line.rindex(" facestage ") + 1 :]
        else:
            return
    if first == "python" and words[0].endswith(".py"):
        assert (ROOT / words[0]).exists()
        return
    if first == "python" and words[:2] != ["-m", "training"]:
        assert words[0] == "-m"
        assert (ROOT / f"{words[1].replace('.', '/')}.py").exists()
        return
    if first in ("ruff", "pyright", "pytest", "hadolint", "mkdocs"):
        for word in words:
            if "/" in word and not word.startswith("-"):
                assert (ROOT / word).exists()
        return
    (start,) = (start for start in applications() if line.startswith(f"{start} "))
    parse(applications()[start], start, shlex.split(line.removeprefix(start)))


def test_there_are_lines_of_shell() -> None:
    assert sum(line.startswith("facestage ") for line in LINES.values()) >= 15
    assert sum(line.startswith("python -m training ") for line in LINES.values()) >= 9


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("live 0 --colour red", "(?i)no such option.*--colour"),
        ("live 0 --port many", "integer"),
        ("analyze", "(?i)missing"),
        ("analyse face.mp4", "no command 'analyse'"),
    ],
)
def test_a_wrong_line_is_noticed(line: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        parse(applications()["facestage"], "facestage", line.split())


def test_commands_and_options_in_the_text_exist() -> None:
    lines = applications()
    options = set().union(*map(all_options, lines.values())) | {"--help"}
    options |= set(soak.command_line()._option_string_actions)
    for page in PAGES:
        for code in INLINE.findall(FENCE.sub("", page.read_text())):
            words = code.split()
            if words[0] == "facestage" and len(words) > 1 and words[1] != "COMMAND":
                command = lines["facestage"]
                for word in words[1:]:
                    if hasattr(command, "commands") and not word.startswith("-"):
                        assert word in command.commands, f"{page.name}: `{code}`"
                        command = command.commands[word]
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", code):
                assert option in options, f"{page.name}: there is no {option}"
