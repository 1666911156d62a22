"""``facestage doctor``: findings with next steps, an exit code, and not a byte written."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from facestage.core.errors import ModelError
from facestage.core.network.au_network import AUNetwork
from facestage.stream import cli, compute
from facestage.stream.commands import doctor
from facestage.stream.commands.cameras import find_cameras
from facestage.stream.commands.signatures import DoctorOptions

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACESTAGE_CACHE", str(tmp_path / "cache" / "of" / "models"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["facestage", "doctor", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), capsys.readouterr().out

    return run


def only(name: str) -> list[doctor.Finding]:
    return [finding for finding in doctor.examine(DoctorOptions(port=0)) if finding.name == name]


def test_a_sound_machine_is_told_so_and_nothing_is_written(call: Call, tmp_path: Path) -> None:
    code, text = call("--source", "demo:", "--port", "0")
    assert code == 0
    assert "--device auto takes" in text
    assert re.search(r"weights +au_net_v1 \S+, sha256 [0-9a-f]{64} as its card says", text)
    assert "demo: demo, 640 × 360, 30 frames/s" in text
    assert list(tmp_path.iterdir()) == []


def test_every_finding_that_is_not_right_has_its_next_step_in_json_too(call: Call) -> None:
    code, text = call("--json", "--port", "0")
    findings = json.loads(text)
    assert code == 0
    names = {finding["name"] for finding in findings}
    assert names >= {"python", "device", "threads", "weights", "codecs", "port", "clock"}
    for finding in findings:
        assert set(finding) == {"name", "state", "text", "next_step"}
        assert bool(finding["next_step"]) == (finding["state"] != "ok")


def test_a_port_in_use_is_broken(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code, text = call("--port", str(server.getsockname()[1]))
    assert code == 5
    assert "BROKEN  port" in text
    assert "--port" in text


def test_a_source_that_fails_has_a_code_of_its_own_and_keeps_its_password(call: Call) -> None:
    code, text = call(
        "--source", "rtsp://user:geheim@127.0.0.1:9/x", "--port", "0", "--open-timeout", "1"
    )
    assert code == 4
    assert "BROKEN  source" in text
    assert "geheim" not in text


def test_damaged_weights_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise ModelError("the file is damaged")

    monkeypatch.setattr(AUNetwork, "load", damaged)
    (finding,) = only("weights")
    assert (finding.state, finding.text) == ("broken", "the file is damaged")
    assert "reinstall" in finding.next_step


def test_a_clock_before_the_installation_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.time, "time", lambda: 86400.0)
    (finding,) = only("clock")
    assert finding.state == "broken"
    assert "1970-01-02" in finding.text


def test_threads_that_spin_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    (finding,) = only("threads")
    assert finding.state == "note"
    assert f"{compute.cores()} cores" in finding.text


@pytest.mark.parametrize(("version", "state"), [(12090, "broken"), (13000, "ok")])
def test_cupy_must_be_for_the_cuda_of_torch(
    version: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = types.SimpleNamespace(runtimeGetVersion=lambda: version)
    cupy = types.SimpleNamespace(__version__="13.6", cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (finding,) = doctor._cupy()
    assert finding.state == state
    assert ("cupy-cuda13x" in finding.next_step) == (state == "broken")


def test_cameras_are_asked_for_their_formats(tmp_path: Path) -> None:
    for name in ("video0", "video1", "video10", "video2", "videos"):
        (tmp_path / name).touch()
    (tmp_path / "video3").mkdir()  # what cannot be opened for writing
    codes = [b"MJPG", b"YUYV"]

    def ioctl(handle: int, request: int, data: bytearray) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if request == 0x80685600:
            # Drivers say what the whole device can, and then what this file can.
            file = 1 if not path.endswith("video1") else 0x00800000  # metadata
            struct.pack_into(
                "16s32s32sIII", data, 0, b"uvc", b"Webcam", b"usb", 0, 1 << 31 | 1, file
            )
            return
        assert request == 0xC0405602
        index, kind = struct.unpack_from("II", data)
        assert kind == 1
        if index >= len(codes):
            raise OSError(22, "Invalid argument")
        data[44:48] = codes[index]

    cameras = find_cameras(tmp_path, ioctl)
    assert [os.path.basename(camera.path) for camera in cameras] == [
        "video0", "video2", "video3", "video10",
    ]  # fmt: skip
    assert cameras[0].name == "Webcam"
    assert cameras[0].formats == ("MJPG", "YUYV")
    assert "directory" in cameras[2].error
