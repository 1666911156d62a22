"""An analyzer in other processes: forked, spawned, and pickled in the middle of a stream."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from facestage.core import Analyzer, AUNetwork, Frame
from facestage.stream.detectors import OurDetector
from facestage.stream.sources import open_source

from tests.support.paths import ROOT

PROGRAM = """
import json, multiprocessing, sys
import torch
from facestage.core import AUNetwork, lrp

def work(connection):
    network = AUNetwork.load(device="cpu").logits_module
    x = torch.linspace(0, 1, 96 * 96).reshape(1, 1, 96, 96)
    maps = lrp.explain(network, x, [(0, 0), (0, 4)])
    connection.send([torch.get_num_threads(), *maps.sum((1, 2)).tolist()])

if __name__ == "__main__":
    torch.set_num_threads(2)
    here, there = multiprocessing.Pipe()
    work(there)
    results = [here.recv()]
    process = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(there,))
    process.start()
    process.join(100)
    if process.is_alive():
        process.kill()
        sys.exit("the other process hangs")
    print(json.dumps([*results, here.recv()]))
"""


def frames(count: int) -> list[Frame]:
    with open_source("demo:") as source:
        grabs = [source.read() for _ in range(count)]
    return [Frame("demo", g.index, g.image, g.index * 10**9, pts=g.pts) for g in grabs if g]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_goes_on_after_a_network_was_used(method: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"  # spawned processes import it again
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), method],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    (own_threads, *own), (threads, *others) = json.loads(done.stdout)
    assert own_threads == 2
    if method == "fork":
        assert threads == 1  # the others are not there after a fork
    np.testing.assert_allclose(others, own, rtol=1e-3, atol=1e-4)


def test_a_pickled_analyzer_goes_on_where_it_was() -> None:
    analyzer = Analyzer(OurDetector(), AUNetwork.load(device="cpu"))
    told = frames(130)[70:]
    analyzer.update(told[:45])
    copy = pickle.loads(pickle.dumps(analyzer))
    there, here = copy.update(told[45:]), analyzer.update(told[45:])
    assert any(result.active for result in here)
    for ours, theirs in zip(here, there, strict=True):
        assert theirs.face.state == ours.face.state
        assert theirs.stage == ours.stage
        assert theirs.letters == ours.letters
        assert theirs.events == ours.events
        np.testing.assert_array_equal(theirs.presence, ours.presence)
