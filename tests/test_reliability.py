"""The commands that the documentation of reliability names: they exist and select tests."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.support.paths import ROOT

TEXT = (ROOT / "docs/reliability.md").read_text()
COMMANDS = re.findall(r"`pytest ([^`]+)`", TEXT)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_named_command_selects_tests(command: str) -> None:
    arguments = shlex.split(command)
    words = arguments[arguments.index("-k") + 1].split(" or ") if "-k" in arguments else [""]
    files = [argument for argument in arguments if argument.endswith(".py")]
    assert files
    for file in files:
        names = re.findall(r"def (test_\w+)", (ROOT / file).read_text())
        assert any(word in name for word in words for name in names), (file, words)
    for word in words:  # each word is for something
        assert any(
            word in name
            for file in files
            for name in re.findall(r"def (test_\w+)", (ROOT / file).read_text())
        ), word


def test_figures_are_those_of_the_code() -> None:
    from facestage.stream.live import capture
    from facestage.stream.server import hub, limits

    assert f"cut off after {limits.SEND_TIMEOUT_S:g} s" in TEXT
    assert f"there are {limits.MAX_CONNECTIONS} " in TEXT
    assert f"{hub.RING_EVENTS:,} events" in TEXT
    assert f"{hub.RING_BYTES >> 20} MiB at most" in TEXT
    assert f"{limits.HISTORY_BYTES_PER_S / 2**20:g} MiB/s of the past" in TEXT
    assert f"{limits.STRANGER.bytes_per_s / 1024:g} KiB/s" in TEXT
    assert f"stalled` after {capture.STALL_S:g} s" in TEXT
    waits = ", ".join(f"{wait:g}" for wait in capture.BACKOFF_S[:-1])
    assert f"after {waits}, then every {capture.BACKOFF_S[-1]:g} s" in TEXT
