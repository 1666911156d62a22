"""What the image is built from exists, and its check of health tells a server from none."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys

from facestage.stream.protocol import Hello
from facestage.stream.server.hub import Hub
from facestage.stream.server.server import Server

from tests.support.paths import ROOT

TEXT = (ROOT / "Dockerfile").read_text()


def test_what_is_copied_is_there_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    wanted = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE)
        for name in line.split()
    ]
    assert len(wanted) >= 6
    for name in wanted:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored


def test_it_runs_as_nobody_without_a_home() -> None:
    last = TEXT.rpartition("\nFROM ")[2]
    user = re.search(r"^USER (\d+):(\d+)$", last, re.MULTILINE)
    assert user is not None
    assert min(map(int, user.groups())) > 0
    assert "--no-create-home" in last
    assert last.index("USER") < last.index("ENTRYPOINT")


def health(port: int) -> int:
    """Run the command of HEALTHCHECK as Docker does, and return its exit code."""
    (words,) = re.findall(r'HEALTHCHECK .*? CMD (\["python".*?\])\n', TEXT, re.DOTALL)
    _, *command = json.loads(words.replace("\\\n", ""))
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "FACESTAGE_LIVE_PORT": str(port)},
        capture_output=True,
        check=False,
    )
    return done.returncode


def test_a_server_is_healthy_and_none_is_not() -> None:
    async def ask() -> tuple[int, int]:
        hello = Hello(server="0", model="m", device="cpu", detector="d", lrp_preset="p")
        async with Server(Hub(()), hello=hello, port=0) as server:
            port = server.port
            there = await asyncio.to_thread(health, port)
        return there, await asyncio.to_thread(health, port)

    there, gone = asyncio.run(ask())
    assert there == 0
    assert gone != 0
