"""Sessions that were cut, altered, mixed up or are none: what is left is read, and said."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from facestage.core.errors import SourceError
from facestage.stream.recording.reader import Session, open_session

from tests.support.recording import make_recorder, publish

SECONDS = 200
"""Length of the session: three marks of a minute, and a rest."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete session of a frame a second."""
    now = [0.0]
    hub, recorder = make_recorder(tmp_path_factory.mktemp("sessions"), ticks=lambda: now[0])
    folder = recorder.start()
    chance = random.Random(4)
    for number in range(SECONDS):
        now[0] = float(number)
        publish(hub, number, chance)
    recorder.stop()
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "session"))


def frames(session: Session) -> list[int]:
    return [r.envelope.data.frame for r in session.samples() if r.envelope is not None]


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]


def end_of_it_gone(folder: Path) -> None:
    """Make a session as a killed recorder leaves it."""
    text = (folder / "index.jsonl").read_text().splitlines(keepends=True)
    (folder / "index.jsonl").write_text("".join(text[:-1]))


def test_the_session_is_whole(original: Path) -> None:
    session = open_session(original)
    assert session.complete
    assert frames(session) == list(range(SECONDS))
    assert len([one for one in lines(original) if one["line"] == "range"]) > 3


@pytest.mark.parametrize("seed", range(8))
def test_cut_anywhere_it_is_read_up_to_there(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    end_of_it_gone(folder)
    path = folder / chance.choice(["frames/0000.jsonl.gz", "events.jsonl", "index.jsonl"])
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])
    session = open_session(folder)
    assert not session.complete
    assert any("not complete" in note for note in session.notes)
    seen = frames(session)
    # Of the minutes that the index calls whole one is lost at most, the rest as far as it goes.
    assert seen == sorted(set(seen))
    assert set(seen) <= set(range(SECONDS))
    events = [record.seq for record in session.events()]
    assert events == sorted(set(events))
    if path.name != "0000.jsonl.gz":
        assert len(seen) == SECONDS
    if path.name == "index.jsonl":
        assert events[-1] == open_session(folder).head.before.seq + len(events)


def test_an_altered_file_costs_the_minute_that_was_altered(folder: Path) -> None:
    path = folder / "frames" / "0000.jsonl.gz"
    ranges = [one for one in lines(folder) if one.get("file") == "frames/0000.jsonl.gz"]
    second = ranges[1]
    data = bytearray(path.read_bytes())
    data[int(second["start"]) + 100] ^= 1  # type: ignore[call-overload]
    path.write_bytes(data)
    session = open_session(folder)
    assert not session.complete
    (note,) = session.notes
    first_s, last_s = float(second["first_s"]), float(second["last_s"])  # type: ignore[arg-type]
    assert f"from {first_s:.0f} s to {last_s:.0f} s (checksum)" in note
    kept = [n for n in range(SECONDS) if not first_s <= n <= last_s]
    assert frames(session) == kept
    assert len(list(session.events())) > SECONDS / 10


@pytest.mark.parametrize("name", ["frames/0000.jsonl.gz", "heat/0000.jsonl.gz", "events.jsonl"])
def test_a_missing_file_is_said_and_the_others_are_read(folder: Path, name: str) -> None:
    (folder / name).unlink()
    session = open_session(folder)
    assert session.notes == (f"{name} is missing; what was in it is lost",)
    assert next(session.records(), None) is not None


def test_a_missing_or_altered_index_is_said(folder: Path) -> None:
    text = (folder / "index.jsonl").read_text()
    (folder / "index.jsonl").write_text(text.replace('"start":0', '"start": 0', 1))
    assert any("was altered" in note for note in open_session(folder).notes)
    (folder / "index.jsonl").write_text("no JSON\n" + text)
    assert any("damaged in line 1" in note for note in open_session(folder).notes)
    (folder / "index.jsonl").unlink()
    session = open_session(folder)
    assert any("nothing can be checked" in note for note in session.notes)
    assert frames(session) == list(range(SECONDS))


def test_what_was_added_after_the_end_is_no_part_of_it(folder: Path) -> None:
    with (folder / "events.jsonl").open("ab") as file:
        file.write(b'[1.0,{"v":1,"type":"gap"}]\n')
    session = open_session(folder)
    assert session.notes == ("events.jsonl was added to after the end; that is left out",)
    assert [r.seq for r in session.events()] == list(range(1, len(list(session.events())) + 1))


def test_lines_of_a_newer_version_are_passed_over(folder: Path) -> None:
    end_of_it_gone(folder)
    message = '{"v":1,"type":"later.kind","stream":null,"epoch":1,"seq":99,"data":{"x":1}}'
    with (folder / "events.jsonl").open("ab") as file:
        file.write(f"[199.5,{message}]\nno line\n".encode())
    *_, last = open_session(folder).events()
    assert last.envelope is None
    assert json.loads(last.message)["type"] == "later.kind"


def test_a_folder_that_is_none_says_what_to_name_instead(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (empty, tmp_path / "nowhere", folder / "session.json"):
        with pytest.raises(SourceError, match="is no session; name a folder that --record wrote"):
            open_session(path)
    with pytest.raises(SourceError, match=r"holds 1 sessions; name one, such as .*session"):
        open_session(tmp_path)


def test_a_head_of_a_newer_version_or_another_program_is_refused(folder: Path) -> None:
    head = json.loads((folder / "session.json").read_text())
    (folder / "session.json").write_text(json.dumps({**head, "version": 2, "clock": "new"}))
    with pytest.raises(SourceError, match=r"newer facestage .*version 2, this one reads 1"):
        open_session(folder)
    (folder / "session.json").write_text(json.dumps({**head, "schema": "other"}))
    with pytest.raises(SourceError, match="is no session"):
        open_session(folder)
    for text in ("", "{", '{"schema": 3}', json.dumps({**head, "hello": 3})):
        (folder / "session.json").write_text(text)
        with pytest.raises(SourceError, match=r"cannot be read .* get it from a copy"):
            open_session(folder)


def test_a_session_without_a_record_is_an_error(folder: Path) -> None:
    for path in ("events.jsonl", "frames/0000.jsonl.gz", "heat/0000.jsonl.gz"):
        (folder / path).write_bytes(b"")
    with pytest.raises(SourceError, match="holds nothing that can be read"):
        open_session(folder)


def test_two_wall_clocks_do_not_mix_up_the_order(tmp_path: Path) -> None:
    now, wall = [0.0], [1.7e9]
    hub, recorder = make_recorder(tmp_path, ticks=lambda: now[0], wall=lambda: wall[0])
    folder = recorder.start()
    for number in range(20):
        now[0], wall[0] = float(number), 1.7e9 + (number if number < 10 else number - 7200)
        publish(hub, number, random.Random(number))
    recorder.stop()
    session = open_session(folder)
    assert frames(session) == list(range(20))
    assert session.duration_s == 19.0
