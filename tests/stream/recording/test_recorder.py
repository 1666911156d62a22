"""The recorder: everything is on the disk, and the disk is never waited for."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from facestage.core.errors import ConfigError, ProtocolError
from facestage.stream import protocol
from facestage.stream.protocol import RecordState, decode
from facestage.stream.recording import files, waiting
from facestage.stream.recording.reader import open_session
from facestage.stream.recording.recorder import Recorder
from facestage.stream.server.hub import Hub

from tests.support.paths import ROOT
from tests.support.recording import Published, make_recorder, publish

PATIENCE_S = 20.0


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def states(hub: Hub) -> list[RecordState]:
    first, last = hub.range
    messages = [hub.event_after(seq - 1) for seq in range(first, last + 1)]
    found = [decode(message).data for message in messages if message is not None]
    return [data for data in found if isinstance(data, RecordState)]


def test_everything_that_was_published_is_read_again(tmp_path: Path) -> None:
    hub, recorder = make_recorder(tmp_path, streams=2)
    folder = recorder.start()
    kept, chance = Published(), random.Random(1)
    for number in range(90):
        publish(hub, number, chance, kept)
    recorder.stop()

    session = open_session(folder)
    assert session.complete
    assert session.notes == ()
    events = list(session.events())
    assert [record.seq for record in events] == list(range(1, hub.range[1] + 1))
    told = [record.message for record in events]
    assert told[1:-1] == kept.events
    assert [decode(told[n]).type for n in (0, -1)] == ["record.state"] * 2
    samples = [record.envelope for record in session.samples() if record.envelope is not None]
    assert [(one.stream, one.data.frame) for one in samples] == kept.frames
    assert recorder.dropped == 0

    # Everything in its order, by the clock of the session.
    every = list(session.records())
    assert [record.at for record in every] == sorted(record.at for record in every)
    assert session.head.model["sha256"] == "0" * 64
    assert session.head.hello.epoch == hub.epoch
    assert session.head.hello.streams == hub.streams


def test_masks_are_kept_ten_times_a_second_and_exactly(tmp_path: Path) -> None:
    hub, recorder = make_recorder(tmp_path)
    folder = recorder.start()
    sent: dict[int, protocol.Sample] = {}
    for number in range(91):
        publish(hub, number, random.Random(number))
        slot = hub._samples["heat", "cam 0"]
        sent[number] = slot.sample
    recorder.stop()
    heats = [record.envelope.data for record in open_session(folder).heat() if record.envelope]
    assert [heat.frame for heat in heats] == list(range(0, 91, 3))
    assert all(heat == sent[heat.frame] for heat in heats)


def test_the_files_are_plain_ones_that_any_program_reads(tmp_path: Path) -> None:
    hub, recorder = make_recorder(tmp_path)
    folder = recorder.start()
    for number in range(10):
        publish(hub, number, random.Random(number))
    recorder.stop()
    lines = gzip.decompress((folder / "frames/0000.jsonl.gz").read_bytes()).splitlines()
    seconds, message = json.loads(lines[3])
    assert 0 <= seconds < PATIENCE_S
    assert message["type"] == "frame"
    assert message["data"]["frame"] == 3
    assert json.loads((folder / "events.jsonl").read_text().splitlines()[1])[1]["seq"] == 2
    head = json.loads((folder / "session.json").read_text())
    assert (head["schema"], head["version"]) == ("facestage/session", 1)
    assert str(tmp_path) not in json.dumps(head)


def test_a_session_begun_later_knows_what_was_before(tmp_path: Path) -> None:
    hub, recorder = make_recorder(tmp_path)
    chance = random.Random(1)
    for number in range(15):
        publish(hub, number, chance)
    folder = recorder.start()
    for number in range(15, 30):
        publish(hub, number, chance)
    recorder.stop()
    before = open_session(folder).head.before
    stage = before.snapshots["cam 0"].stage
    assert stage is not None
    assert (before.seq, stage.labels, stage.start) == (4, ("AU12_A",), 10)
    assert [decode(message).data.label for message in before.events] == ["AU12_A"]
    # And another one, into a folder of its own.
    again = recorder.start()
    recorder.stop()
    assert again != folder
    assert again.parent == folder.parent


def test_two_recorders_of_one_place_do_not_meet(tmp_path: Path) -> None:
    clock = [1764576902.0]
    made = [make_recorder(tmp_path, wall=lambda: clock[0]) for _ in range(3)]
    folders = [recorder.start() for _, recorder in made]
    for n, (hub, _) in enumerate(made):
        publish(hub, n, random.Random(n))
    for _, recorder in made:
        recorder.stop()
    assert len(set(folders)) == 3
    for n, folder in enumerate(folders):
        frames = [record.envelope.data.frame for record in open_session(folder).samples()]  # type: ignore[union-attr]
        assert frames == [n]


def test_an_hour_is_a_file_and_each_minute_has_its_checksum(tmp_path: Path) -> None:
    now = [0.0]
    hub, recorder = make_recorder(tmp_path, ticks=lambda: now[0])
    folder = recorder.start()
    kept, chance = Published(), random.Random(1)
    for number, at in enumerate(range(0, 3 * 3600, 50)):
        now[0] = at
        publish(hub, number, chance, kept)
        recorder_is_idle(recorder)
    recorder.stop()
    names = sorted(path.name for path in (folder / "frames").iterdir())
    assert names == ["0000.jsonl.gz", "0001.jsonl.gz", "0002.jsonl.gz"]
    session = open_session(folder)
    assert session.complete
    assert [r.envelope.data.frame for r in session.samples()] == [n for _, n in kept.frames]  # type: ignore[union-attr]
    late = [r.envelope.data.frame for r in session.samples(7200.0)]  # type: ignore[union-attr]
    assert late == [n for _, n in kept.frames if n * 50 >= 7200]
    index = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    spans = [one["last_s"] - one["first_s"] for one in index if one["line"] == "range"]
    assert len(spans) > 3 * 30
    assert max(spans) <= 100
    assert index[-1]["line"] == "end"


def recorder_is_idle(recorder: Recorder) -> None:
    session = recorder._session
    assert session is not None
    eventually(lambda: not session.queue._waiting)


# ---- a disk that is slow, full or gone


def test_a_slow_disk_costs_samples_that_are_counted_and_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST_WAITING", 20)
    may_write = threading.Event()
    write = files.AppendedFile._write

    def slowly(self: files.AppendedFile, data: bytes) -> None:
        may_write.wait(PATIENCE_S)
        write(self, data)

    hub, recorder = make_recorder(tmp_path)
    folder = recorder.start()
    monkeypatch.setattr(files.AppendedFile, "_write", slowly)
    kept, chance = Published(), random.Random(1)
    for number in range(200):
        publish(hub, number, chance, kept)  # returns although nothing can be written
    may_write.set()
    recorder.stop()
    session = open_session(folder)
    assert [record.message for record in session.events()][1:-1] == kept.events
    there = sum(1 for _ in session.samples()) + sum(1 for _ in session.heat())
    assert recorder.dropped > 100
    assert there + recorder.dropped == 200 + 67
    assert session.end is not None
    assert session.end.dropped == recorder.dropped


@pytest.mark.parametrize(
    ("code", "advice"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "look at the disk")]
)
def test_a_disk_that_fails_ends_the_recording_with_one_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    hub, recorder = make_recorder(tmp_path)
    folder = recorder.start()
    chance = random.Random(1)
    for number in range(30):
        publish(hub, number, chance)
    recorder_is_idle(recorder)
    real = os.write

    def failing(handle: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    eventually(lambda: (folder / "frames/0000.jsonl.gz").stat().st_size > 1000)
    session = recorder._session
    assert session is not None
    monkeypatch.setattr(files.os, "write", failing)
    for number in range(30, 40):
        publish(hub, number, chance)
    eventually(lambda: not recorder.recording)
    monkeypatch.setattr(files.os, "write", real)
    for number in range(40, 50):  # the analysis goes on
        publish(hub, number, chance)
    recorder.stop()
    told = states(hub)
    assert [one.state for one in told] == ["recording", "stopped"]
    assert advice in told[1].reason
    assert os.strerror(code) in told[1].reason
    assert str(tmp_path) not in told[1].reason
    read = open_session(folder)
    assert not read.complete
    assert [r.envelope.data.frame for r in read.samples()][:25] == list(range(25))  # type: ignore[union-attr]


def test_it_ends_at_its_size_and_is_complete(tmp_path: Path) -> None:
    hub, recorder = make_recorder(tmp_path, most_bytes=60_000)
    folder = recorder.start()
    chance, number = random.Random(1), 0
    while recorder.recording:
        publish(hub, number, chance)
        number += 1
        time.sleep(0.002)
    recorder.stop()
    session = open_session(folder)
    assert session.complete
    assert session.end is not None
    assert "--record-max" in session.end.reason
    assert "--record-max" in states(hub)[-1].reason


def test_it_leaves_room_on_the_disk(tmp_path: Path) -> None:
    free = [10**12]
    hub, recorder = make_recorder(tmp_path, free=lambda path: free[0])
    folder = recorder.start()
    publish(hub, 0, random.Random(1))
    free[0] = 10**6
    eventually(lambda: not recorder.recording)
    recorder.stop()
    assert open_session(folder).complete
    assert "only 1 MB are left on the disk" in states(hub)[-1].reason
    with pytest.raises(ConfigError, match="only 1 MB are free there"):
        recorder.start()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_clock_that_is_set_back_is_one_event_and_breaks_no_order(tmp_path: Path) -> None:
    wall = [1764576902.0]
    hub, recorder = make_recorder(tmp_path, wall=lambda: wall[0] + time.monotonic())
    folder = recorder.start()
    publish(hub, 0, random.Random(1))
    recorder_is_idle(recorder)
    wall[0] -= 3600
    eventually(lambda: len(states(hub)) == 2)
    publish(hub, 1, random.Random(2))
    recorder.stop()
    told = states(hub)
    assert [one.state for one in told] == ["recording", "recording", "stopped"]
    assert "set back by 3600.0 s" in told[1].reason
    session = open_session(folder)
    assert session.complete
    assert session.duration_s < PATIENCE_S
    assert [r.envelope.data.frame for r in session.samples()] == [0, 1]  # type: ignore[union-attr]


def test_a_place_that_cannot_be_written_is_an_error_before_the_run(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    _, recorder = make_recorder(place)
    with pytest.raises(ConfigError, match=r"--record .*file is a file; name a folder"):
        recorder.start()
    _, recorder = make_recorder(Path("/proc/nowhere"))
    with pytest.raises(ConfigError, match="no session can be written there"):
        recorder.start()
    assert not recorder.recording


# ---- from afar


def test_clients_begin_and_end_it(tmp_path: Path) -> None:
    hub, recorder = make_recorder(tmp_path)
    recorder.command(protocol.RecordStart())
    eventually(lambda: recorder.recording)
    recorder.command(protocol.RecordStop())
    eventually(lambda: len(states(hub)) == 2)
    recorder.stop()
    assert recorder.folder is not None
    assert states(hub)[0].name == recorder.folder.name
    assert open_session(recorder.folder).complete
    with pytest.raises(ProtocolError, match="is for a replay"):
        recorder.command(protocol.Replay(command="play"))


def test_a_client_hears_why_none_could_be_begun_and_not_where(tmp_path: Path) -> None:
    hub, recorder = make_recorder(Path("/proc/nowhere"))
    recorder.command(protocol.RecordStart())
    eventually(lambda: len(states(hub)) == 1)
    (told,) = states(hub)
    assert (told.state, told.name) == ("stopped", "")
    assert "the server's log says why" in told.reason
    assert "/proc" not in told.reason


# ---- a process that is killed


def killed(place: Path, seed: int) -> tuple[Path, list[str], float]:
    """Record in another process, kill it at a moment drawn by a seed.

    Returns:
        The folder, what it said it had published, and when it was killed (monotonic clock).
    """
    moment = random.Random(seed).uniform(0.3, 2.5)
    command = [sys.executable, "-m", "tests.support.recording", str(place), "2", str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        first = process.stdout.readline()
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        at = time.monotonic()
        lines = [first, *process.stdout.read().splitlines()]
    return folder, [line for line in lines if len(line.split()) == 3], at


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_recorder_loses_less_than_a_second(tmp_path: Path, seed: int) -> None:
    folder, published, at = killed(tmp_path, seed)
    session = open_session(folder)
    assert not session.complete
    assert session.end is None
    assert "not complete" in session.notes[-1]
    told = [line.split() for line in published]
    must = [(int(frame), int(seq)) for when, frame, seq in told if float(when) <= at - 1.0]
    frames = [r.envelope.data.frame for r in session.samples()]  # type: ignore[union-attr]
    events = [record.seq for record in session.events()]
    assert events == list(range(1, len(events) + 1))
    assert sorted(frames) == frames
    if must:
        assert frames[-1] >= must[-1][0]
        assert len(events) >= must[-1][1]


def test_messages_are_kept_as_clients_get_them(tmp_path: Path) -> None:
    hub, recorder = make_recorder(tmp_path)
    folder = recorder.start()
    publish(hub, 0, random.Random(3))
    sent: dict[tuple[str, str | None], int] = {}
    told = hub.samples_since(sent, ["frame"], None)
    recorder.stop()
    (record,) = open_session(folder).samples()
    # The numbering of the hub stands in the head, once.
    message = msgspec.json.decode(record.message)
    assert {**message, "epoch": hub.epoch} == msgspec.json.decode(told[0])
