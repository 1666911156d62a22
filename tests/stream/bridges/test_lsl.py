"""Values and stages through Lab Streaming Layer, read by another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from facestage.core.types import (
    FaceObservation,
    FaceState,
    Frame,
    FrameResult,
    StageEvent,
)
from facestage.stream.bridges.lsl import LslOutlets, clock_offset_s

READER = """
import json, sys, pylsl
found = {}
for kind in ("AU", "Markers"):
    name = sys.argv[1] + ("-au" if kind == "AU" else "-stages")
    (info,) = pylsl.resolve_byprop("source_id", name, timeout=20)
    found[kind] = pylsl.StreamInlet(info)
    found[kind].open_stream(timeout=20)
described = found["AU"].info(timeout=20)
labels, channel = [], described.desc().child("channels").child("channel")
while channel.name():
    labels.append(channel.child_value("label"))
    channel = channel.next_sibling()
print("ready", flush=True)
told = {"labels": labels, "rate": described.nominal_srate()}
for kind, count in (("AU", int(sys.argv[2])), ("Markers", int(sys.argv[3]))):
    told[kind] = [found[kind].pull_sample(timeout=20) for _ in range(count)]
print(json.dumps(told), flush=True)
"""
CONFIG = "[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\n"
AUS = (4, 6, 12)


def need_lsl() -> None:
    try:
        import pylsl  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs pylsl with liblsl: {error}")


def result(index: int, t_ns: int) -> FrameResult:
    has_face = index != 2
    presence = np.array([0.1, 0.2, index / 10], np.float32) if has_face else None
    event = StageEvent("enter", ("AU12_A",), None, 3, 0.1, None, None, "au_on", 5)
    return FrameResult(
        Frame("cam", index, np.zeros((2, 2, 3), np.uint8), t_ns, 0.0, index / 30),
        FaceObservation(FaceState.TRACKED if has_face else FaceState.LOST),
        presence=presence,
        intensity=None if presence is None else 5 * presence,
        events=(event,) if index == 5 else (),
    )


def test_another_process_reads_what_was_sent(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip(
        "pylsl", reason="needs pylsl with liblsl", exc_type=(ImportError, RuntimeError)
    )
    config = tmp_path / "lsl.cfg"
    config.write_text(CONFIG)
    monkeypatch.setenv("LSLAPICFG", str(config))
    name = f"test{os.getpid()}"
    outlets = LslOutlets([name], (4, 12), AUS, fps=30.0)
    with subprocess.Popen(
        [sys.executable, "-c", READER, f"facestage-{name}", "6", "1"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LSLAPICFG": str(config)},
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        begin_ns = time.monotonic_ns()
        for index in range(6):
            outlets.push(name, result(index, begin_ns + index * 33_000_000))
        told = json.loads(reader.stdout.readline())
    assert told["labels"] == [
        "AU04 presence",
        "AU12 presence",
        "AU04 intensity",
        "AU12 intensity",
    ]
    assert told["rate"] == 30.0
    begin_s = begin_ns * 1e-9 + outlets.offset_s
    for index, (values, at) in enumerate(told["AU"]):
        if index == 2:
            assert np.isnan(values).all()
        else:
            assert values == pytest.approx([0.1, index / 10, 0.5, index / 2], abs=1e-6)
        assert at == pytest.approx(begin_s + index * 0.033, abs=1e-4)
    ((stage, at),) = told["Markers"]
    assert stage == ["(AU12_A)"]
    # It was known in frame 5 and began in frame 3, two frames of 1/30 s before.
    assert at == pytest.approx(begin_s + 5 * 0.033 - (5 / 30 - 0.1), abs=1e-4)


def test_the_offset_of_the_clocks_is_steady() -> None:
    pytest.importorskip(
        "pylsl", reason="needs pylsl with liblsl", exc_type=(ImportError, RuntimeError)
    )
    assert clock_offset_s() == pytest.approx(clock_offset_s(), abs=0.005)
