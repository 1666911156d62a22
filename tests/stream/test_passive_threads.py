"""Waiting threads of OpenMP sleep: the variables are set before torch is loaded, everywhere."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from facestage.stream.passive_threads import set_passive

from tests.support.paths import BENCHMARKS, DEMO_CLIP

VARIABLES = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
WATCH = f"""
import json, os, runpy, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(json.dumps({{name: os.environ.get(name) for name in {VARIABLES!r}}}), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Watch())
start = sys.argv.pop(1)
sys.argv[0] = "facestage"
if start == "script":
    from facestage.stream.cli import main
    main()
elif start.endswith(".py"):
    sys.path.insert(0, os.path.dirname(start))
    runpy.run_path(start, run_name="__main__")
else:
    runpy.run_module(start, run_name="__main__", alter_sys=True)
"""
"""Runs something, and tells the variables at the moment when it imports torch."""
SCRIPTS = sorted(p for p in BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in p.read_text())


def when_torch_is_loaded(folder: Path, *command: str, **own: str) -> dict[str, str | None]:
    """Start a process in a folder, with variables of its own; return those torch is loaded with."""
    bare = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    ended = subprocess.run(
        [sys.executable, "-c", WATCH, *command],
        cwd=folder,
        env={**bare, **own},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = ended.stdout.splitlines()[-1:]  # after what a command says before torch is loaded
    assert told, f"torch was not loaded: {ended.stdout}{ended.stderr}"
    assert told[0].startswith("{"), f"torch was not loaded: {ended.stdout}{ended.stderr}"
    return json.loads(told[0])


@pytest.mark.parametrize(
    "command",
    [
        ["script", "demo", "--frames", "1"],
        ["script", "live", "demo:"],
        ["facestage", "analyze", "demo:", "--out", "out"],
        ["facestage.stream", "corpus", str(DEMO_CLIP.parent), "--layout", "videos", "--out", "out"],
        ["script", "train", "--out", "out"],
        ["script", "evaluate"],
        ["script", "explain-quality", "demo:"],
        ["script", "models", "list"],
        [str(BENCHMARKS / "lrp.py")],
        [str(BENCHMARKS / "live.py"), "--source", str(DEMO_CLIP)],
    ],
    ids=lambda command: " ".join(map(os.path.basename, command[:2])),
)
def test_threads_sleep_before_torch_is_loaded(command: list[str], tmp_path: Path) -> None:
    assert when_torch_is_loaded(tmp_path, *command) == {
        "OMP_WAIT_POLICY": "passive",
        "KMP_BLOCKTIME": "0",
        "GOMP_SPINCOUNT": None,
    }


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    own = {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "7"}
    found = when_torch_is_loaded(tmp_path, "facestage", "analyze", "demo:", "--out", "out", **own)
    assert found == {**own, "KMP_BLOCKTIME": None}


def test_worker_processes_inherit_it() -> None:
    code = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
from facestage.stream import passive_threads
with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
    print(pool.submit(os.getenv, "OMP_WAIT_POLICY").result())
"""
    bare = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    assert subprocess.check_output([sys.executable, "-c", code], env=bare) == b"passive\n"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}),
        ({"KMP_BLOCKTIME": "5"}, {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "5"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_only_what_is_missing_is_set(own: dict[str, str], expected: dict[str, str]) -> None:
    set_passive(own)
    assert own == expected


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_begins_with_it(script: Path) -> None:
    imports = [
        node
        for node in ast.parse(script.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    first = next(node for node in imports if getattr(node, "module", "") != "__future__")
    assert isinstance(first, ast.ImportFrom)
    assert (first.module, first.names[0].name) == ("facestage.stream", "passive_threads")
