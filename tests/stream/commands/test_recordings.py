"""``--record``, ``replay``, ``report``, names, people and settings, as their user meets them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from facestage.core.baseline import write_rest
from facestage.core.errors import ConfigError
from facestage.core.network.au_network import EMBEDDED
from facestage.core.network.card import ModelCard
from facestage.core.types import RestLevels
from facestage.stream import cli
from facestage.stream.commands.people import people_of, person_file, rest_of_people
from facestage.stream.commands.recording import name_sources, parse_size
from facestage.stream.recording.reader import open_session
from websockets.asyncio.client import connect

from tests.support.paths import DEMO_CLIP, ROOT
from tests.support.recording import make_recorder, publish
from tests.support.wire import Peer
from tests.support.wire import run as run_bounded

Run = Callable[..., tuple[int, str, str]]
COMMAND = [sys.executable, "-m", "facestage.stream"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process; return its exit code, output and errors."""

    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["facestage", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        code = stop.value.code
        return (code if isinstance(code, int) else 1), captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hub, recorder = make_recorder(tmp_path_factory.mktemp("sessions"), 2)
    folder = recorder.start()
    chance = random.Random(7)
    for number in range(25):
        publish(hub, number, chance)
    recorder.stop()
    return folder


# ---- replay and report


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("replay {tmp}", 4, "is no session; name a folder that --record wrote"),
        ("replay {session}/..", 4, "holds 1 sessions; name one, such as"),
        ("replay {session} --from 01:00:00", 2, "--from 01:00:00 lies beyond the end"),
        ("replay {session} --from soon", 2, "is no time; write seconds, or as 00:01:20"),
        ("replay {session} --speed 0", 2, "--speed 0 is no speed"),
        ("replay {session} --speed fast", 2, "use a number up to 100, or max"),
        ("replay {session} --host 0.0.0.0", 2, "needs a secret"),
        ("report {tmp}", 4, "is no session"),
        ("report {session} --out {session}", 2, "is the session itself; name another folder"),
    ],
)
def test_each_mistake_has_its_line(
    run: Run, session: Path, tmp_path: Path, words: str, code: int, said: str
) -> None:
    got, out, err = run(*words.format(session=session, tmp=tmp_path).split())
    assert (got, out) == (code, "")
    assert err.startswith("facestage: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_session_of_two_sources_is_reported_in_two_folders(
    run: Run, session: Path, tmp_path: Path
) -> None:
    code, out, _ = run("report", session, "--out", tmp_path / "out")
    assert code == 0
    for number in (1, 2):
        folder = tmp_path / "out" / f"{number}-cam-{number - 1}"
        assert f"written: {folder / 'report.html'}" in out
        document = json.loads((folder / "temporal_prototype.json").read_text())
        assert document["text"] == "(NONE) → (AU12_A) → (NONE)"
        assert document["complete"]
        assert document["frames"] == 25
    # And again: an earlier result is replaced.
    assert run("report", session, "--out", tmp_path / "out")[0] == 0


def test_what_is_missing_is_said_and_the_rest_reported(
    run: Run, session: Path, tmp_path: Path
) -> None:
    cut = Path(shutil.copytree(session, tmp_path / "cut"))
    lines = (cut / "index.jsonl").read_text().splitlines(keepends=True)
    (cut / "index.jsonl").write_text("".join(lines[:-1]))
    (cut / "heat" / "0000.jsonl.gz").unlink()
    code, _, err = run("report", cut)
    assert code == 0
    assert "note: heat/0000.jsonl.gz is missing" in err
    assert "note: the session is not complete" in err
    folders = sorted((cut / "report").iterdir())
    document = json.loads((folders[0] / "temporal_prototype.json").read_text())
    assert not document["complete"]
    assert "not complete" in document["note"]


def test_a_replay_serves_a_client_and_ends_with_the_session(session: Path) -> None:
    async def watch(address: str) -> list[int]:
        async with connect(address.replace("http", "ws") + "ws") as connection:
            peer = Peer(connection)
            hello = await peer.until("hello")
            assert hello.data.replay.duration_s > 0
            await peer.subscribe()
            await connection.send('{"v":1,"type":"replay","data":{"command":"play"}}')
            numbers: list[int] = []
            while len(numbers) < expected:
                envelope = await peer.next()
                numbers += [] if envelope.seq is None else [envelope.seq]
            return numbers

    expected = len(list(open_session(session).events()))
    words = ["replay", str(session), "--port", "0", "--paused", "--once", "--speed", "4"]
    with subprocess.Popen(
        [*COMMAND, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        address = process.stdout.readline().split()[1]

        async def test() -> None:
            assert await watch(address) == list(range(1, expected + 1))

        run_bounded(test)
        assert process.wait(60) == 0


def test_ctrl_c_ends_a_replay_in_good_order(session: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "replay", str(session), "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("made by"):
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_live_records_its_run_and_writes_the_report(run: Run, tmp_path: Path) -> None:
    words = ["live", DEMO_CLIP, "--port", 0, "--frames", 40, "--device", "cpu"]
    code, out, _ = run(*words, "--record", tmp_path, "--name", "bed 1", "--token", "t0ken")
    assert code == 0
    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith("_bed-1")
    assert f"recorded {folder}" in out
    assert f"report   {folder / 'report' / 'report.html'}" in out
    recorded = open_session(folder)
    assert recorded.complete
    frames = [r.envelope.data for r in recorded.samples() if r.envelope]
    numbers = [data.frame for data in frames if data.type == "frame"]
    assert numbers == list(range(40))
    told = [line for line in out.splitlines() if " s  (" in line]
    stages = [r.envelope.data for r in recorded.events() if r.envelope]
    assert len(told) == sum(data.type in ("stage.enter", "stage.revise") for data in stages)
    assert len(recorded.head.model["sha256"]) == 64
    # Neither where the source lies nor the secret is anywhere in the session.
    for path in folder.rglob("*.json*"):
        if path.suffix != ".gz":
            assert str(DEMO_CLIP.parent).encode() not in path.read_bytes()
            assert b"t0ken" not in path.read_bytes()


# ---- options


def test_what_needs_a_recording_says_so(run: Run, tmp_path: Path) -> None:
    code, _, err = run("demo", "--allow-control", "--port", 0)
    assert code == 2
    assert "--allow-control has no use without --record" in err
    code, _, err = run("demo", "--record", tmp_path, "--record-max", "much", "--port", 0)
    assert code == 2
    assert "--record-max 'much' is no size" in err


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("1.5 gb", 1_500_000_000), ("500M", 5 * 10**8), ("1000000", 10**6)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "--record-max") == size


@pytest.mark.parametrize("text", ["", "0", "-1GB", "1KB", "GB", "1e9", "9" * 10 + "XB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match="is no size; write it as 20GB"):
        parse_size(text, "--record-max")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a"], "1 times --name for 2 sources"),
        (["a", "a"], "given twice"),
        (["a", "b/2"], "cannot name a source"),
        (["a", " "], "cannot name a source"),
        (["a", "x" * 61], "cannot name a source"),
        (["a", "b\n"], "cannot name a source"),
    ],
)
def test_names_that_cannot_be(names: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        name_sources(["camera 0", "camera 1"], names)


def test_names_stand_for_the_sources() -> None:
    assert name_sources(["camera 0", "x"], []) == ["camera 0", "x"]
    assert name_sources(["camera 0", "x"], ["bed 1", "Bett 2 ä"]) == ["bed 1", "Bett 2 ä"]


# ---- people


@pytest.fixture
def card() -> ModelCard:
    return ModelCard.from_json(EMBEDDED.with_suffix(".json").read_text())


def test_a_person_has_a_rest_level_of_their_own(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    files = people_of(["bed 1", "bed 2", "bed 3"], ["P07", "-", "P08"], rest=None, judged=True)
    assert files == {
        "bed 1": tmp_path / "facestage" / "people" / "P07.json",
        "bed 3": tmp_path / "facestage" / "people" / "P08.json",
    }
    assert rest_of_people(files, card) == {}
    level = RestLevels(np.linspace(-3, 1, len(card.aus)), np.full(len(card.aus), 9.0))
    files["bed 3"].parent.mkdir(parents=True)
    files["bed 3"].write_text(write_rest(level, card))
    read = rest_of_people(files, card)
    assert list(read) == ["bed 3"]
    assert read["bed 3"].level == pytest.approx(level.level, abs=1e-3)


def test_a_rest_level_of_another_network_is_refused(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = person_file("P07")
    path.parent.mkdir(parents=True)
    facts = json.loads(
        write_rest(RestLevels(np.zeros(len(card.aus)), np.ones(len(card.aus))), card)
    )
    path.write_text(json.dumps({**facts, "version": "0.9"}))
    with pytest.raises(ConfigError, match=r"--person .*P07.json: .* learned with .* 0.9"):
        rest_of_people({"bed 1": path}, card)
    assert path.exists()


@pytest.mark.parametrize(
    ("people", "options", "said"),
    [
        (["P1"], {}, "1 times --person for 2 sources"),
        (["P1", "P1"], {}, "named twice"),
        (["P1", "../etc"], {}, "cannot be kept"),
        (["P1", "P2"], {"rest": Path("me.json")}, "leave out --rest or --person"),
        (["P1", "P2"], {"judged": False}, "nothing is judged by one"),
    ],
)
def test_people_that_cannot_be(people: list[str], options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        people_of(["a", "b"], people, **({"rest": None, "judged": True} | options))  # type: ignore[arg-type]


# ---- settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[demo]\nrecrod = 'x'\n", "recrod in [demo] is unknown; did you mean record?"),
        ("[demo]\nrecord_max = '1GB'\n", "did you mean record-max?"),
        ("[dmeo]\nport = 0\n", "[dmeo] is unknown; did you mean demo?"),
        ("[demo]\nport = [1, 2]\n", "port in [demo] is [1, 2]; write a word or a number"),
        ("[demo]\nallow-control = 'yes'\n", "write true or false"),
        ("[demo]\nname = [1, {}]\n", "write a list of words"),
        ("demo = 3\n", "demo is no table; write [demo]"),
        ("[demo\n", "is not valid TOML"),
        ("[demo]\nrecord-max = '3 parsecs'\nrecord = 'x'\nport = 0\n", "is no size"),
    ],
)
def test_settings_that_cannot_be(run: Run, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "facestage.toml"
    path.write_text(text)
    code, _, err = run("demo", "--config", path)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_the_command_line_comes_before_the_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "facestage.toml"
    path.write_text("[live]\nsources = ['nowhere.mp4']\nport = 70000\nframes = 3\n")
    code, _, err = run("live", "--config", path, "--port", 0)
    assert code == 4
    assert "nowhere.mp4" in err
    code, _, err = run("live", "--config", path)
    assert code == 2
    assert "--port 70000" in err
