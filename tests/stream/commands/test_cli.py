"""The command line, as its user meets it: good runs, and every error with its exit code."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from facestage.core.errors import ConfigError
from facestage.core.lrp import SlowEngineWarning
from facestage.core.network.au_network import EMBEDDED, AUNetwork
from facestage.stream import cli, compute
from facestage.stream.commands import analyze
from facestage.stream.commands.signatures import CORPUS_LAYOUTS
from facestage.stream.commands.text import lrp_text
from facestage.stream.console import tell_warnings
from facestage.stream.datasets.sequences import LAYOUTS
from facestage.stream.protocol import Auth, Hello, decode, encode
from facestage.stream.sources import open_source
from websockets.sync.client import connect

from tests.support.paths import DEMO_CLIP

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process; return its exit code, output and errors."""

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["facestage", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        code = stop.value.code
        return (code if isinstance(code, int) else 1), captured.out, captured.err

    return call


def test_version_and_help(run: Run) -> None:
    assert run("--version")[1].startswith("facestage 0.")
    code, out, _ = run("live", "--help")
    assert code == 0
    for option in ("--policy", "--token", "--device", "--min-stage"):
        assert option in out


def test_every_command_is_listed_once_the_first_ones_first() -> None:
    names = [getattr(command.callback, "__name__", "") for command in cli.app.registered_commands]
    expected = ["demo", "live", "replay", "report", "analyze", "corpus", "export", "markers"]
    expected += ["train", "evaluate", "explain_quality", "bench", "doctor"]
    assert names == expected


def test_demo_plays_once_without_a_terminal(run: Run) -> None:
    code, out, err = run("demo", "--port", "0", "--frames", "60", "--no-browser")
    assert (code, err) == (0, "")
    assert "not a medical device" in out
    assert "page     http://127.0.0.1:" in out
    assert "device   cpu (" in out
    assert f"model {EMBEDDED.stem}, detector ours, LRP innvestigate_a_flat (fused engine)" in out
    assert "AUs      " in out
    assert "(NONE)  [first]" in out
    assert "summary  60 frames analysed" in out
    assert re.search(r"explained \d+ relevance maps in \d+ frames", out)
    assert "latency  capture to emit p50" in out


def test_demo_on_a_terminal_runs_until_ctrl_c() -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "facestage.stream", "demo", "--no-browser", "--port", "0"],
        stdin=follower,
        stdout=follower,
        stderr=subprocess.STDOUT,
    )
    os.close(follower)
    seen = b""
    try:
        while b"(NONE)" not in seen:  # the first stage: everything is running
            seen += os.read(leader, 4096)
        process.send_signal(signal.SIGINT)
        try:
            while chunk := os.read(leader, 4096):
                seen += chunk
        except OSError:  # how a terminal tells that its last writer has gone
            pass
        assert process.wait(60) == 0
    finally:
        process.kill()
        os.close(leader)
    assert b"summary  " in seen
    assert b"Traceback" not in seen


def test_live_writes_transitions_of_every_source(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "black"
    folder.mkdir()
    for n in range(12):
        cv2.imwrite(str(folder / f"{n}.png"), np.zeros((60, 80, 3), np.uint8))
    code, out, _ = run("live", str(folder), str(folder), "--port", "0")
    assert code == 0
    assert "black:     0.00 s  (LOST)  [first]" in out  # the folders above are nobody's business
    assert "black #2:     0.00 s  (LOST)  [first]" in out
    assert str(tmp_path) not in out
    assert "summary  24 frames analysed" in out
    assert "drops: none" in out


def test_analyze_writes_its_files(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("analyze", "demo:", "--out", str(tmp_path / "out"), "--frames", "100")
    assert code == 0
    written = json.loads((tmp_path / "out/temporal_prototype.json").read_text())
    told = re.findall(r"^ +(\d+) +[\d.]+ s +[\d.]+ s  (\(.+\))$", out, re.MULTILINE)
    assert [int(number) for number, _ in told] == list(range(1, len(written["stages"]) + 1))
    assert " → ".join(labels for _, labels in told) == written["text"]
    assert "AU01_A" in written["text"]
    with (tmp_path / "out/frames.csv").open() as file:
        assert len(list(csv.reader(file))) == 101
    assert (tmp_path / "out/strip.png").stat().st_size > 10_000
    assert "<svg" in (tmp_path / "out/report.html").read_text()


def frames_of(video: Path) -> list[np.ndarray]:
    capture, found = cv2.VideoCapture(str(video)), []
    while (read := capture.read())[0]:
        found.append(read[1].astype(int))
    return found


def test_an_annotated_video_shows_relevance_where_aus_are_active(run: Run, tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    command = ["analyze", "demo:", "--out", str(out_dir), "--frames", "100"]
    code, out, err = run(*command, "--annotate")
    assert (code, err) == (0, "")
    assert out.endswith(f"written: {out_dir / 'annotated.mp4'}\n")
    made = frames_of(out_dir / "annotated.mp4")
    clip = frames_of(DEMO_CLIP)[:100]
    with (out_dir / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(made) == len(rows) == 100
    height, width = clip[0].shape[:2]
    painted = [
        int((np.abs(new[:height, :width] - old).max(axis=2) > 48).sum())
        for new, old in zip(made, clip, strict=True)
    ]
    labelled = [any(v for key, v in row.items() if key.endswith("_label")) for row in rows]
    active = [n for n, yes in zip(painted, labelled, strict=True) if yes]
    rest = [n for n, yes in zip(painted, labelled, strict=True) if not yes]
    assert min(len(active), len(rest)) > 20
    assert np.median(active) > 100
    assert np.median(rest) < 10
    # A run without the option leaves no video of another one behind.
    assert run(*command)[0] == 0
    assert not (out_dir / "annotated.mp4").exists()


def test_what_was_written_is_told_when_the_annotated_video_fails(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> int:
        raise ConfigError("the disk is full")

    monkeypatch.setattr(analyze, "write_annotated", fails)
    report = tmp_path / "out" / "report.html"
    command = ["analyze", "demo:", "--out", str(report.parent), "--frames", "9", "--annotate"]
    code, out, err = run(*command)
    assert code == ConfigError.exit_code
    assert err == "facestage: the disk is full\n"
    assert out.endswith(f"written: {report}\n")
    assert report.exists()


def test_a_reader_who_leaves_early_does_not_cost_the_annotated_video(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "facestage.stream", "analyze", "demo:", "--frames", "9"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out"), "--annotate"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert len(frames_of(tmp_path / "out" / "annotated.mp4")) == 9


def test_a_video_that_breaks_off_is_not_passed_off_as_whole(run: Run, tmp_path: Path) -> None:
    clip = DEMO_CLIP
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:250_000])
    code, out, _ = run("analyze", str(cut), "--out", str(tmp_path / "out"))
    assert code == 0
    assert "note: incomplete: of 600 frames stated only" in out
    written = json.loads((tmp_path / "out/temporal_prototype.json").read_text())
    assert written["complete"] is False
    assert 0 < written["frames"] < 600


@pytest.mark.parametrize(("size", "state"), [((320, 240), "lost"), ((40, 30), "low_quality")])
def test_a_recording_without_a_face_is_a_plain_sentence(
    run: Run, tmp_path: Path, size: tuple[int, int], state: str
) -> None:
    folder = tmp_path / "wall"
    folder.mkdir()
    for n in range(6):
        assert cv2.imwrite(str(folder / f"{n}.png"), np.full((*size[::-1], 3), 90, np.uint8))
    code, out, _ = run("analyze", str(folder), "--out", str(tmp_path / "out"))
    assert code == 0
    assert f"no face could be analysed in any of the 6 frames (6 {state})" in out
    assert "reduction" not in out


def test_few_frames_with_a_face_are_said_and_sizes_may_change(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    with open_source("demo:") as source:
        for n in range(12):
            grab = source.read()
            assert grab is not None
            face = grab.image if n < 2 else cv2.resize(grab.image, (480, 270))
            picture = face if n < 4 else np.full((270, 480, 3), 90, np.uint8)
            assert cv2.imwrite(str(folder / f"{n:02d}.png"), picture)
    code, out, _ = run("analyze", str(folder), "--out", str(tmp_path / "out"))
    assert code == 0
    assert "a face could be analysed in only 4 of 12 frames (33%)" in out


def test_how_many_sources_are_needed_is_checked(run: Run) -> None:
    code, _, err = run("live", "demo:", "--require", "some", "--port", "0", "--frames", "1")
    assert code == 2
    assert "--require some is unknown; use all, any or none" in err


def test_a_missing_source_beside_another_does_not_end_a_run(run: Run, tmp_path: Path) -> None:
    command = ["live", "demo:", str(tmp_path / "gone.mp4"), "--port", "0", "--frames", "8"]
    code, out, _ = run(*command)
    assert code == 0
    assert "8 frames analysed" in out
    code, _, err = run(*command, "--require", "all")
    assert code == 4
    assert "gone.mp4 does not exist" in err


def test_analyze_as_in_the_paper(run: Run, tmp_path: Path) -> None:
    out_dir = str(tmp_path / "out")
    code, out, _ = run("analyze", "demo:", "--out", out_dir, "--frames", "90", "--paper")
    assert code == 0
    assert "SpRAy paper" in out


def test_models_list_names_what_is_there(run: Run) -> None:
    code, out, _ = run("models", "list")
    assert code == 0
    assert f"{EMBEDDED.stem}  embedded" in out
    assert "AU12" in out
    assert "yunet" in out


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    """The embedded network with a card of our own: AU01 weak, AU26 not to be shown."""
    weights = tmp_path / "graded.safetensors"
    shutil.copy(EMBEDDED, weights)
    card = json.loads(EMBEDDED.with_suffix(".json").read_text())
    grades = {str(au): "A" for au in card["aus"]} | {"1": "B", "26": "C"}
    card |= {
        "name": "graded",
        "grades": grades,
        "evaluation": {"1": {"auc": 0.71, "real_r": None}},
        "recipe": {"seed": 7, "steps": [1, 2]},
        "notice": "Copyright of somebody",
    }
    weights.with_suffix(".json").write_text(json.dumps(card))
    return weights


def test_the_card_of_a_network_is_printed(run: Run, graded: Path) -> None:
    code, out, _ = run("models", "card", str(graded))
    assert code == 0
    assert "grade B (weak: shown, and marked as weak): AU01\n" in out
    assert "grade C (not reliable: hidden unless asked for): AU26\n" in out
    assert "AU01  B  inner brow raiser       auc 0.71, real_r –\n" in out
    assert '"seed": 7' in out
    assert "notice: Copyright of somebody" in out
    code, out, _ = run("models", "card")
    assert code == 0
    assert out.startswith(EMBEDDED.stem)


def test_grades_decide_which_aus_are_analysed(run: Run, tmp_path: Path, graded: Path) -> None:
    def analyse(*options: str) -> tuple[str, list[dict[str, str]]]:
        out_dir = tmp_path / "out"
        command = ["analyze", "demo:", "--out", str(out_dir), "--frames", "110"]
        code, out, err = run(*command, "--model", str(graded), *options)
        assert code == 0, err
        with (out_dir / "frames.csv").open() as file:
            return out, list(csv.DictReader(file))

    out, rows = analyse()
    assert "AUs: 22 shown, weak: AU01, hidden: AU26\n" in out
    assert "AU26_" not in out
    assert all(row["AU26"] and row["AU26_r"] and not row["AU26_label"] for row in rows)
    assert any(row["AU25_label"] for row in rows)  # the open mouth is seen all the same
    out, rows = analyse("--aus", "all")
    assert "AUs: 23 shown, weak: AU01, poor: AU26\n" in out
    assert any(row["AU26_label"] for row in rows)
    out, rows = analyse("--aus", "AU26,25")
    assert "AU01_" not in out
    assert {name for row in rows for name in row if name.endswith("_label") and row[name]} == {
        "AU25_label",
        "AU26_label",
    }


def test_judging_by_rise_over_rest_is_the_default_and_told(run: Run, tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    command = ["analyze", "demo:", "--out", str(out_dir), "--frames", "40"]
    code, out, _ = run(*command)
    assert code == 0
    with (out_dir / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["baseline"] for row in rows} == {"learning"}
    assert all(float(row["rest_s"]) > 0.9 for row in rows)
    assert any(row["AU17_adjusted"] != row["AU17"] for row in rows)
    assert "s of rest seen; 0 of 40 frames with a usable face judged by the person's own" in out
    code, out, _ = run(*command, "--no-baseline")
    assert "baseline:" not in out
    assert "baseline" not in (out_dir / "frames.csv").read_text().splitlines()[0]
    code, out, _ = run(*command, "--paper")
    assert "baseline:" not in out
    code, out, _ = run(*command, "--paper", "--baseline")
    assert "baseline:" in out


def test_rest_levels_are_written_once_and_read_from_then_on(run: Run, tmp_path: Path) -> None:
    rest = tmp_path / "me.json"
    command = ["analyze", "demo:", "--out", str(tmp_path / "out"), "--rest", str(rest)]
    code, out, _ = run(*command, "--frames", "60", "--rest-from", "0-1s")
    assert code == 0
    assert f"rest levels written: {rest}" in out
    before = rest.read_bytes()
    code, out, _ = run(*command, "--frames", "20")
    assert code == 0
    assert rest.read_bytes() == before
    assert "20 of 20 frames with a usable face judged by the person's own level" in out
    code, out, _ = run("live", "demo:", "--port", "0", "--frames", "5", "--rest", str(rest))
    assert code == 0
    assert rest.read_bytes() == before


def test_rest_levels_that_cannot_be_used_are_refused_before_anything_is_analysed(
    run: Run, tmp_path: Path
) -> None:
    rest, out_dir = tmp_path / "me.json", tmp_path / "out"
    command = ["analyze", "demo:", "--out", str(out_dir), "--frames", "5", "--rest", str(rest)]
    run(*command, "--frames", "60")
    facts = json.loads(rest.read_text())
    shutil.rmtree(out_dir)
    rest.write_text(json.dumps(facts | {"sha256": "0" * 64}))
    refused(run(*command), 2, "learned with au_net_v1", "delete the file")
    facts["aus"]["12"]["logit"] = float("nan")
    rest.write_text(json.dumps(facts))
    refused(run(*command), 2, "AU12: logit is nan", "learn it anew")
    rest.write_text("no JSON")
    refused(run(*command), 2, "not valid JSON", str(rest))
    refused(run("live", "demo:", "demo:", "--port", "0", "--rest", str(rest)), 2, "2 sources")
    assert not out_dir.exists()


def test_options_of_rest_that_contradict_each_other_are_refused(run: Run, tmp_path: Path) -> None:
    command = ["analyze", "demo:", "--out", str(tmp_path / "out")]
    refused(run(*command, "--rest-from", "2-1s"), 2, "'2-1s' is no span", "0-2s")
    refused(run(*command, "--rest-from", "soon"), 2, "'soon' is no span")
    refused(run(*command, "--no-baseline", "--rest-from", "0-2s"), 2, "--no-baseline", "leave out")
    refused(run(*command, "--paper", "--rest", str(tmp_path / "me")), 2, "--paper", "--baseline")


def test_a_neutral_span_outside_the_recording_is_told_and_nothing_is_lost(
    run: Run, tmp_path: Path
) -> None:
    out_dir = tmp_path / "out"
    command = ["analyze", "demo:", "--out", str(out_dir), "--frames", "9"]
    code, out, _ = run(*command, "--rest-from", "90-92s")
    assert code == 0
    assert "remark: the face was said to rest from 90 to 92 s, but no usable face" in out
    assert len((out_dir / "frames.csv").read_text().splitlines()) == 10
    document = json.loads((out_dir / "temporal_prototype.json").read_text("utf-8"))
    assert "from 90 to 92 s" in document["remark"]


def test_choices_of_aus_that_cannot_work_end_with_2(
    run: Run, tmp_path: Path, graded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    for command in (["live", "demo:", "--port", "0"], ["analyze", "demo:", "--out", out]):
        refused(run(*command, "--aus", "smile"), 2, "'smile'", "shown, all, A, or numbers")
    command = ["analyze", "demo:", "--out", out, "--model", str(graded)]
    refused(run(*command, "--aus", "12,99"), 2, "graded has no AU99; it has 1, 2, 4")
    monkeypatch.setenv("FACESTAGE_AUS", "98")
    refused(run(*command), 2, "AU98")


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video\n" * 100)
    return path


def refused(result: tuple[int, str, str], code: int, *parts: str) -> None:
    got, _, err = result
    lines = [line for line in err.splitlines() if line.strip()]
    assert got == code, err
    assert len(lines) == 1, err
    for part in parts:
        assert part in lines[0]


def test_missing_and_unreadable_sources_end_with_4(
    run: Run, tmp_path: Path, text_file: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for command in (["live", "--port", "0"], ["analyze", "--out", str(tmp_path / "out")]):
        refused(run(*command, str(tmp_path / "gone.mp4")), 4, "gone.mp4")
        refused(run(*command, str(text_file)), 4, "notes.mp4")
        refused(run(*command, str(tmp_path / "empty")), 4, "empty")
    assert not (tmp_path / "out").exists()


def test_refused_port_of_a_stream_ends_with_4(run: Run) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused(run("live", f"rtsp://u:secret@127.0.0.1:{port}/x", "--port", "0"), 4, str(port))


def test_silent_server_ends_with_4_and_hides_the_password(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://user:secret@127.0.0.1:{silent.getsockname()[1]}/cam"
        result = run("live", url, "--port", "0", "--open-timeout", "1")
    refused(result, 4, "127.0.0.1")
    assert "secret" not in result[1] + result[2]


def test_the_lrp_preset_asked_for_is_the_one_used(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out"
    code, out, _ = run(
        "analyze", "demo:", "--frames", "8", "--lrp-preset", "au_specific", "--out", str(target)
    )
    assert code == 0
    assert "LRP au_specific (fused engine)" in out
    told = json.loads((target / "temporal_prototype.json").read_text())
    assert told["lrp_preset"] == "au_specific"


@pytest.mark.parametrize(
    ("asked", "letters", "pictures"),
    [
        ((), "innvestigate_a_flat", "au_specific"),
        (("--picture-preset", "zennit"), "innvestigate_a_flat", "zennit"),
        (("--paper",), "innvestigate_a_flat", "innvestigate_a_flat"),
    ],
)
def test_the_presets_of_letters_and_of_pictures_are_named(
    run: Run, tmp_path: Path, asked: tuple[str, ...], letters: str, pictures: str
) -> None:
    target = tmp_path / "out"
    code, out, _ = run("analyze", "demo:", "--frames", "8", *asked, "--out", str(target))
    assert code == 0
    told = json.loads((target / "temporal_prototype.json").read_text())
    assert (told["lrp_preset"], told["picture_preset"]) == (letters, pictures)
    assert (f", pictures {pictures}" in out) == (letters != pictures)


def test_a_picture_preset_that_is_not_known_is_refused(run: Run, tmp_path: Path) -> None:
    result = run("analyze", "demo:", "--picture-preset", "vivid", "--out", str(tmp_path / "out"))
    refused(result, 2, "vivid")
    refused(result, 2, "au_specific")


def test_the_precision_asked_for_is_the_one_used_and_named(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out"
    precise = ("--lrp-precision", "bfloat16", "--out", str(target))
    code, out, _ = run("analyze", "demo:", "--frames", "8", *precise)
    assert code == 0
    assert "LRP innvestigate_a_flat (fused engine, bfloat16)" in out
    assert "fused, bfloat16" in (target / "report.html").read_text()
    told = json.loads((target / "temporal_prototype.json").read_text())
    assert told["lrp_precision"] == "bfloat16"


def test_windows_on_a_gpu_need_cupy_and_say_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails, installed or not
    code, _, err = run("live", "demo:", "--port", "0", "--window-device", "cuda")
    assert code == 5
    assert "facestage[cuda]" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("exact", "rough", "chosen"),
    [(1.0, 0.5, "bfloat16"), (1.0, 0.95, "float32"), (1.0, 2.0, "float32"), (1.0, None, "float32")],
)
def test_auto_precision_takes_what_is_clearly_faster(
    exact: float, rough: float | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(_network: object, _preset: str, dtype: object) -> float:
        if dtype is None:
            return exact
        if rough is None:
            raise ConfigError("the reference LRP engine computes in the precision of the weights")
        return rough

    monkeypatch.setattr(compute, "_time", taken)
    network = AUNetwork.load(device="cpu")
    assert compute.choose_precision("auto", network, "zennit") == chosen
    assert compute.choose_precision("bfloat16", network, "zennit") == "bfloat16"
    monkeypatch.undo()
    assert compute._time(network, "zennit", None) > 0


def test_usage_errors_end_with_2(run: Run, tmp_path: Path) -> None:
    refused(run("live", "demo:", "--policy", "newest"), 2, "newest", "latest, fifo or every")
    refused(run("live", "demo:", "--host", "0.0.0.0"), 2, "--token")
    refused(run("live", "browser", "--port", "0"), 2, "browser")
    refused(run("live", "demo:", "--device", "tpu"), 2, "tpu")
    refused(run("live", "demo:", "--window", "1", "--port", "0"), 2, "window")
    refused(run("analyze", "demo:", "--out", str(tmp_path), "--preset", "best"), 2, "best")
    refused(run("live", "demo:", "--lrp-preset", "best"), 2, "best", "au_specific")
    refused(run("live", "demo:", "--lrp-precision", "int8"), 2, "int8", "auto or float32")
    refused(run("live", "demo:", "--paper", "--min-stage", "0.3"), 2, "--min-stage 0.3")
    (tmp_path / "mine.txt").write_text("keep me")
    refused(run("analyze", "demo:", "--out", str(tmp_path)), 2, "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "keep me"
    assert run("live")[0] == 2
    assert run("nonsense")[0] == 2


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "token.txt"
    path.write_text("s3cret&ä \nwhat follows does not count\n")
    path.chmod(0o600)
    return path


SHORT_DEMO = ["demo", "--port", "0", "--frames", "3", "--no-browser"]


def test_the_address_has_the_token_only_if_asked(run: Run, secret_file: Path) -> None:
    code, out, err = run(*SHORT_DEMO, "--token-file", str(secret_file))
    assert (code, err) == (0, "")
    assert re.search(r"^page     http://127\.0\.0\.1:\d+/  \(asks for the token", out, re.MULTILINE)
    assert "s3cret" not in out
    assert "note" not in out
    _, out, _ = run(*SHORT_DEMO, "--token-file", str(secret_file), "--print-token")
    assert re.search(
        r"^page     http://127\.0\.0\.1:\d+/#token=s3cret%26%C3%A4$", out, re.MULTILINE
    )


def test_a_token_on_the_command_line_is_said_to_be_seen(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in (["--token", "s3cret"], ["--token=s3cret"]):
        code, out, _ = run(*SHORT_DEMO, *given)
        assert code == 0
        assert "s3cret" not in out
        (note,) = [line for line in out.splitlines() if line.startswith("note ")]
        assert "process list" in note
        assert "--token-file" in note
    monkeypatch.setenv("FACESTAGE_DEMO_TOKEN", "s3cret")
    code, out, _ = run(*SHORT_DEMO)
    assert (code, "note " in out) == (0, False)
    assert "asks for the token" in out


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_secret_that_others_may_open_is_refused(run: Run, secret_file: Path, mode: int) -> None:
    secret_file.chmod(mode)
    refused(run(*SHORT_DEMO, "--token-file", str(secret_file)), 2, f"chmod 600 {secret_file}")
    secret_file.write_text("# the ward\nrtsp://user:secret@127.0.0.1/cam\n")
    result = run("live", "--port", "0", "--source-file", str(secret_file))
    refused(result, 2, f"chmod 600 {secret_file}")
    assert "secret@" not in result[2]


def test_files_of_secrets_that_cannot_be_used_are_refused(
    run: Run, secret_file: Path, tmp_path: Path
) -> None:
    both = ("--token", "x", "--token-file", str(secret_file))
    refused(run(*SHORT_DEMO, *both), 2, "leave one out")
    secret_file.write_text(" \nsecond line\n")
    refused(run(*SHORT_DEMO, "--token-file", str(secret_file)), 2, "empty")
    secret_file.write_bytes(b"\xff\xfe")
    refused(run(*SHORT_DEMO, "--token-file", str(secret_file)), 2, "UTF-8")
    refused(run(*SHORT_DEMO, "--token-file", str(tmp_path / "gone")), 2, "gone", "cannot be read")
    refused(run(*SHORT_DEMO, "--token-file", str(tmp_path)), 2, "cannot be read")
    secret_file.write_text("# nothing but this\n\n")
    refused(run("live", "--source-file", str(secret_file)), 2, "names no source")
    code, _, err = run("live")
    assert code == 2
    assert "no source is given" in err
    assert "--source-file" in err


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "left", tmp_path / "right"]
    for folder in made:
        folder.mkdir()
        cv2.imwrite(str(folder / "1.png"), np.zeros((60, 80, 3), np.uint8))
    return made


def test_sources_come_from_a_file_or_the_environment(
    run: Run, tmp_path: Path, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = folders
    listing = tmp_path / "sources.txt"
    listing.write_text(f"# two cameras\n\n  {left}\n{right}  \n")
    code, out, _ = run("live", "--port", "0", "--source-file", str(listing))
    assert code == 0
    assert "source   left, right\n" in out
    code, out, _ = run("live", str(right), "--port", "0", "--source-file", str(listing))
    assert code == 0
    assert "source   right, left, right #2\n" in out
    monkeypatch.setenv("FACESTAGE_LIVE_SOURCE", f"{right} {left}")
    code, out, _ = run("live", "--port", "0")
    assert code == 0
    assert "source   right, left\n" in out
    assert "source   left\n" in run("live", str(left), "--port", "0")[1]  # it goes first


def test_a_token_of_a_file_guards_and_is_in_no_process_list(secret_file: Path) -> None:
    command = ["live", str(DEMO_CLIP), "--realtime", "--port", "0", "--no-video"]
    with subprocess.Popen(
        [sys.executable, "-m", "facestage.stream", *command, "--token-file", str(secret_file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            page = next(line for line in process.stdout if line.startswith("page"))
            shown = subprocess.check_output(["ps", "-ww", "-o", "args=", "-p", str(process.pid)])
            assert str(secret_file).encode() in shown
            assert b"s3cret" not in shown
            address = page.split()[1].replace("http", "ws") + "ws"
            for token, answer in (("s3cret", "error"), ("s3cret&ä", "ack")):
                with connect(address) as client:
                    client.send(encode(Auth(token=token)), text=True)
                    assert decode(client.recv(timeout=20)).type == answer
        finally:
            process.kill()


def test_port_in_use_ends_with_2(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(run("live", "demo:", "--port", port), 2, port, "--port")


def test_cuda_without_cuda_ends_with_5(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused(run("live", "demo:", "--device", "cuda"), 5, "cuda", "--device cpu")


def test_damaged_models_end_with_5(run: Run, tmp_path: Path) -> None:
    weights = tmp_path / "net.safetensors"
    refused(run("live", "demo:", "--model", str(weights)), 5, "net.safetensors")
    shutil.copy(EMBEDDED, weights)
    refused(run("live", "demo:", "--model", str(weights)), 5, "card")
    shutil.copy(EMBEDDED.with_suffix(".json"), weights.with_suffix(".json"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused(run("live", "demo:", "--model", str(weights)), 5, "sha256")
    weights.write_bytes(b"")
    refused(run("live", "demo:", "--model", str(weights)), 5)
    refused(run("live", "demo:", "--detector", str(tmp_path / "x.onnx")), 5, "x.onnx")


def test_model_card_that_does_not_fit_ends_with_5(run: Run, tmp_path: Path) -> None:
    weights = tmp_path / "net.safetensors"
    shutil.copy(EMBEDDED, weights)
    card = json.loads(EMBEDDED.with_suffix(".json").read_text())
    card["aus"] = card["aus"][:-1]
    weights.with_suffix(".json").write_text(json.dumps(card))
    refused(run("live", "demo:", "--model", str(weights)), 5, "AU")


def test_options_come_from_the_environment_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESTAGE_DEMO_FRAMES", "5")
    monkeypatch.setenv("FACESTAGE_DEMO_PORT", "0")
    assert "summary  5 frames analysed" in run("demo", "--no-browser")[1]


def test_a_pipe_that_closes_early_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "facestage.stream", "demo", "--no-browser", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    guard = threading.Timer(120, process.kill)
    guard.start()
    errors = process.stderr.read()
    process.wait()
    guard.cancel()
    assert b"Traceback" not in errors


def test_a_warning_of_the_slow_engine_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(
            warnings, "showwarning", lambda text, *_, **__: others.append(str(text))
        )
        tell_warnings(SlowEngineWarning)
        warnings.warn("Net [SiLU] goes to the slow engine", SlowEngineWarning, stacklevel=1)
        warnings.warn("of somebody else", FutureWarning, stacklevel=1)
    assert capsys.readouterr().err == "facestage: Net [SiLU] goes to the slow engine\n"
    assert others == ["of somebody else"]


def test_the_engine_of_the_explanations_is_named_and_why_it_is_the_slow_one() -> None:
    told = Hello(server="0", model="m", device="cpu", detector="d", lrp_preset="zennit")
    fast = msgspec.structs.replace(told, lrp_engine="fused")
    assert lrp_text(fast) == "zennit (fused engine)"
    drawn = msgspec.structs.replace(fast, picture_preset="au_specific")
    assert lrp_text(drawn) == "zennit (fused engine), pictures au_specific"
    assert lrp_text(msgspec.structs.replace(fast, picture_preset="zennit")) == lrp_text(fast)
    slow = msgspec.structs.replace(told, lrp_engine="reference", lrp_engine_reason="no silu")
    assert lrp_text(slow) == "zennit (reference engine: no silu)"


def test_the_layouts_offered_are_those_that_can_be_read() -> None:
    assert tuple(LAYOUTS) == CORPUS_LAYOUTS
