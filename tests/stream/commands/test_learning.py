"""Training runs end to end: the same for the same seed, resumable, and loadable when done."""

from __future__ import annotations

import io
import json
import math
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from facestage.core.errors import ConfigError, FacestageError, ModelError, SourceError
from facestage.core.network.au_network import AUNetwork, Prediction
from facestage.stream import cli
from facestage.stream import progress as progress_module
from facestage.stream.datasets.faces import Item, LabelledFaces
from facestage.stream.learning import checkpoints
from facestage.stream.learning.crops import MARGIN, CropSet
from facestage.stream.learning.evaluate import as_json, evaluate_crops, format_table
from facestage.stream.learning.networks import Start, export, start
from facestage.stream.learning.session import Session, plan
from facestage.stream.learning.trainer import StepLosses, Trainer, TrainingBatch
from facestage.stream.progress import interruptible
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from tests.support.paths import DEMO_CLIP


def run(*args: object, **env: str) -> Result:
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], env=env)


def failure(*args: object) -> FacestageError:
    error = run(*args).exception
    assert isinstance(error, FacestageError), error
    return error


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of the demo clip by four made-up subjects, and a picture without a face."""
    folder = tmp_path_factory.mktemp("data")
    video = cv2.VideoCapture(str(DEMO_CLIP))
    lines = ["# labels: intensity", "path,subject,AU01,AU12"]
    for number in range(12):
        ok, image = video.read()
        assert ok
        cv2.imwrite(str(folder / f"{number}.png"), image)
        lines.append(f"{number}.png,s{number % 4},{number % 6},{'' if number % 3 else number % 5}")
    cv2.imwrite(str(folder / "wall.png"), np.full((200, 200), 128, np.uint8))
    (folder / "data.csv").write_text("\n".join([*lines, "wall.png,s0,1,1"]) + "\n")
    return folder


def begin(aus: tuple[int, ...] = (1, 12), seed: int = 0) -> Start:
    return start("scratch", aus, seed)


def crop_set(n: int = 10, aus: tuple[int, ...] = (1, 12)) -> CropSet:
    rng = np.random.default_rng(0)
    side = 96 + 2 * MARGIN
    labels = rng.integers(0, 6, (n, len(aus))).astype(np.float32)
    labels[rng.random(labels.shape) < 0.3] = np.nan
    items = tuple(Item(Path(f"{i}.png"), None, f"s{i % 3}", f"row {i}") for i in range(n))
    faces = LabelledFaces(items, aus, labels, np.full_like(labels, np.nan))
    return CropSet(faces, rng.integers(0, 256, (n, side, side), dtype=np.uint8), {}, {})


def session(folder: Path, *, seed: int = 0, views: int = 24) -> Session:
    first = begin(seed=seed)
    config = plan(first, views, lr=1e-3, seed=seed, freeze_batchnorm=False)
    return Session(first, crop_set(), config, folder, batch=4, device=torch.device("cpu"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_two_runs_give_identical_weights_and_another_seed_others(tmp_path: Path) -> None:
    results = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        one = session(tmp_path / name, seed=seed, views=12)
        one.run(save_every=100)
        one.finish(None, {})
        results.append((tmp_path / name / "model.safetensors").read_bytes())
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_a_run_resumed_after_k_steps_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = session(tmp_path / "whole")
    whole.run(save_every=100)
    whole.finish(None, {})

    broken = session(tmp_path / "broken")
    broken.run(save_every=100, stop=lambda: broken.trainer.step_count == 2)
    assert not broken.finished
    resumed = session(tmp_path / "broken")
    assert resumed.resume() == 8
    resumed.run(save_every=100)
    resumed.finish(None, {})
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path: Path) -> None:
    session(tmp_path).save()
    with pytest.raises(ConfigError, match=r"differs in total_views \(24 then, 48 now\), warmup"):
        session(tmp_path, views=48).resume()
    with pytest.raises(ConfigError, match="no checkpoint to resume"):
        session(tmp_path / "empty").resume()
    # The same AUs, but begun from weights that had them, where the checkpoint is from scratch.
    other = session(tmp_path)
    begun = replace(other.start, added=())
    data, config = crop_set(), other.trainer.config
    with pytest.raises(ConfigError, match=r"differs in added;"):
        Session(begun, data, config, tmp_path, batch=4, device=torch.device("cpu")).resume()


def test_a_disk_that_fills_up_while_training_costs_only_the_new_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = session(tmp_path)
    one.run(save_every=1, stop=lambda: one.trainer.step_count == 1)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(ModelError, match=r"No space left on device.*--resume"):
            one.run(save_every=1)
    assert session(tmp_path).resume() == 4


def untouched(_net: torch.nn.Module) -> None:
    return None


def spread(net: torch.nn.Module) -> None:
    """Give BatchNorm statistics that are not those of a fresh layer."""
    generator = torch.Generator().manual_seed(7)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)


@pytest.mark.parametrize("prepare", [untouched, spread])
def test_fine_tuning_starts_exactly_where_the_weights_are_and_adds_rows(
    tmp_path: Path, prepare: Callable[[torch.nn.Module], None]
) -> None:
    first = begin((2, 12))
    prepare(first.net)
    own = {"on": 0.7, "off": 0.6}
    facts = {**first.facts, "grades": {"2": "A", "12": "B"}}
    facts["thresholds"] = {"on": 0.5, "off": 0.4, "per_au": {"2": own, "12": own}}
    export(first.net, facts, tmp_path / "a.safetensors")
    base = AUNetwork.load(tmp_path / "a.safetensors", "cpu")
    again = start(str(tmp_path / "a.safetensors"), (1, 12), seed=3)
    assert again.facts["aus"] == [1, 2, 12]
    assert again.added == (1,)
    assert "grades" not in again.facts  # earned by other weights
    assert again.card().on == {1: 0.5, 2: 0.7, 12: 0.5}  # AU02 is not trained here
    tuned = AUNetwork.from_module(again.net, again.card(), "cpu")
    crops = np.random.default_rng(0).integers(0, 256, (4, 96, 96), dtype=np.uint8)
    old, new = base.infer(crops), tuned.infer(crops)
    assert np.allclose(old.presence, new.presence[:, 1:], atol=1e-5)
    assert old.intensity is not None
    assert new.intensity is not None
    assert np.allclose(old.intensity, new.intensity[:, 1:], atol=1e-4)
    assert np.allclose(old.points, new.points, atol=1e-3)  # type: ignore[arg-type]


def test_weights_that_cannot_be_trained_are_refused(tmp_path: Path) -> None:
    first = begin()
    path = tmp_path / "a.safetensors"
    export(first.net, first.facts, path)
    card = json.loads(path.with_suffix(".json").read_text())
    card["intensity"]["scale"] = 1.0
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"cannot be trained: .*intensity scale 1"):
        start(str(path), (1,), 0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged"):
        start(str(path), (1,), 0)
    with pytest.raises(ModelError, match="no weights at"):
        start(str(tmp_path / "absent.safetensors"), (1,), 0)


def test_figures_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions are replaced by known ones; the figures follow from the definitions."""
    network = AUNetwork.load(device="cpu")
    n = 6
    data = crop_set(n, aus=(1, 12, 13))
    labels = np.full((n, 3), np.nan, np.float32)
    labels[:, 1] = [0, 0, 1, 3, 5, np.nan]
    faces = LabelledFaces(data.faces.items, (1, 12, 13), labels, np.full_like(labels, np.nan))
    presence = np.zeros((n, len(network.card.aus)), np.float32)
    column = network.card.aus.index(12)
    presence[:, column] = [0.2, 0.6, 0.5, 0.9, 0.9, 0.0]
    strength = presence * 5

    class Known(AUNetwork):
        def predict(self, crops: np.ndarray):  # type: ignore[override, no-untyped-def]
            return Prediction(presence, strength)

    known = Known.__new__(Known)
    known.card = network.card
    (figures,) = evaluate_crops(known, CropSet(faces, data.crops, {}, {}))
    assert (figures.au, figures.n) == (12, 5)
    assert figures.prevalence == pytest.approx(3 / 5)
    on = network.card.on[12]
    predicted = [p >= on for p in (0.2, 0.6, 0.5, 0.9, 0.9)]
    hits = sum(predicted[2:])
    assert figures.f1 == pytest.approx(2 * hits / (3 + sum(predicted)))
    assert figures.auc == pytest.approx(5 / 6)
    assert figures.ece == pytest.approx((0.2 + 0.6 + 0.5 + 2 * 0.1) / 5, abs=1e-6)
    facts = as_json([figures], model="x")
    assert facts["aus"]["12"]["n"] == 5
    assert facts["mean"]["auc"] == pytest.approx(5 / 6, abs=1e-5)
    assert format_table([figures])[1].split()[:2] == ["AU12", "5"]


def test_undefined_figures_are_null_and_a_dash() -> None:
    data = crop_set(3, aus=(1,))
    ones = np.ones((3, 1), np.float32)
    faces = LabelledFaces(data.faces.items, (1,), ones * np.nan, ones)
    (figures,) = evaluate_crops(AUNetwork.load(device="cpu"), CropSet(faces, data.crops, {}, {}))
    assert math.isnan(figures.auc)
    assert math.isnan(figures.icc)  # no intensity was coded
    assert as_json([figures])["aus"]["1"]["auc"] is None
    assert "–" in format_table([figures])[1]


@pytest.mark.parametrize("level", [0, 3])
def test_labels_that_are_all_the_same_measure_nothing(level: int) -> None:
    data = crop_set(5, aus=(1, 12))
    labels = np.stack([np.full(5, level), [0, 1, 2, 3, 4]], axis=1).astype(np.float32)
    labels[4, 0] = np.nan  # a gap is no other label
    faces = LabelledFaces(data.faces.items, (1, 12), labels, np.full_like(labels, np.nan))
    network = AUNetwork.load(device="cpu")
    column = network.card.aus.index(1)
    says = np.zeros((5, len(network.card.aus)), np.float32)
    says[:, column] = [0.1, 0.9, 0.4, 0.6, 0.2]

    class Known(AUNetwork):
        def predict(self, crops: np.ndarray):  # type: ignore[override, no-untyped-def]
            return Prediction(says, says * 5)

    known = Known.__new__(Known)
    known.card = network.card
    same, other = evaluate_crops(known, CropSet(faces, data.crops, {}, {}))
    assert math.isnan(same.icc)
    assert math.isnan(same.auc)
    assert math.isnan(same.f1) == (level == 0)  # without a positive there is nothing to find
    assert other.icc == 0  # constant predictions of labels that vary are a failure
    facts = as_json([same, other])
    assert facts["aus"]["1"]["icc"] is None
    assert facts["mean"]["icc"] == 0
    *_, mean, note = format_table([same, other])
    assert mean.startswith("mean")
    assert note == "–: not defined by these labels (none coded, or all the same)"
    assert format_table([other])[-1].startswith("mean")


def test_train_writes_a_model_that_loads_with_figures_of_other_subjects(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--manifest", data / "data.csv", "--init", "scratch", "--out", out)
    options = (*options, "--views", 16, "--batch", 8, "--holdout", "s1", "--device", "cpu")
    options = (*options, "--detector", "ours")
    result = run("train", *options)
    assert result.exit_code == 0, result.output
    assert "left out: 1 × no face found" in result.output
    assert "held out: 3 faces of s1" in result.output
    assert "finding faces: 13 of 13  wall.png" in result.output
    assert "training: 16 of 16" in result.output
    network = AUNetwork.load(out / "model.safetensors", "cpu")
    assert network.card.aus == (1, 12)
    assert network.card.evaluation["1"]["n"] == 3
    assert network.card.recipe["seed"] == 0
    assert network.card.data["pictures"] == 9
    assert network.has_landmarks

    assert "--resume" in str(failure("train", *options))
    before = weights(out)
    shutil.rmtree(out / "crops")
    resumed = run("train", *options, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "resumed after 16 views" in resumed.output
    after = weights(out)
    assert all(torch.equal(before[key], after[key]) for key in before)

    newest = checkpoints.latest(out)
    assert newest is not None
    newest.write_bytes(b"damaged")
    assert "delete it and begin again" in str(failure("train", *options, "--resume"))


def test_evaluate_prints_a_table_and_writes_json(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    result = run(
        "evaluate",
        "--device",
        "cpu",
        "--detector",
        "ours",
        FACESTAGE_EVALUATE_MANIFEST=str(data / "data.csv"),
        FACESTAGE_EVALUATE_OUT=str(file),
    )
    assert result.exit_code == 0, result.output
    facts = json.loads(file.read_text())
    assert facts["schema"] == "facestage/evaluation/1"
    assert (facts["pictures"], facts["faces"]) == (13, 12)
    assert facts["left_out"] == {"no face found": 1}
    assert set(facts["aus"]["1"]) == {"n", "prevalence", "f1", "auc", "icc", "ece"}
    assert facts["aus"]["12"]["n"] == 4
    assert "AU01" in result.output
    assert "ICC(3,1)" in result.output


def test_bad_input_to_the_commands_is_one_clear_error(data: Path, tmp_path: Path) -> None:
    good = data / "data.csv"
    out = ("--out", tmp_path / "out", "--init", "scratch")
    assert "--manifest" in str(failure("train", *out))
    both = failure("train", *out, "--manifest", good, "--epochs", 1, "--views", 8)
    assert isinstance(both, ConfigError)
    twice = failure("train", *out, "--manifest", good, "--holdout", "s1", "--folds", 2)
    assert "--holdout and --folds" in str(twice)
    missing = failure("train", *out, "--manifest", tmp_path / "absent.csv")
    assert isinstance(missing, SourceError)
    other = tmp_path / "other.csv"
    other.write_text(f"path,subject,AU11_r\n{data / '0.png'},a,2\n")
    assert "none of the labelled AUs (AU11)" in str(failure("evaluate", "--manifest", other))
    (tmp_path / "file").write_text("not a folder")
    blocked = failure("train", "--out", tmp_path / "file", "--manifest", good)
    assert "file cannot be made" in str(blocked)
    assert not list((tmp_path / "out").iterdir())
    assert run("train", *out, "--manifest", good, "--lr", 0).exit_code == 2
    assert "--fold 1 is" in str(failure("train", *out, "--manifest", good, "--fold", 1))
    assert "--epochs inf" in str(failure("train", *out, "--manifest", good, "--epochs", "inf"))
    # Before any face is looked for, and before the manifest is even read:
    begin_again = failure("train", *out, "--manifest", tmp_path / "absent.csv", "--resume")
    assert "no checkpoint to resume" in str(begin_again)
    place = failure("evaluate", "--manifest", tmp_path / "absent.csv", "--out", tmp_path)
    assert "it is a folder" in str(place)
    two = tmp_path / "two.csv"
    two.write_text(f"path,subject,AU01\n{data / '0.png'},a,1\n{data / '0.png'},b,1\n")
    for command in (("train", *out), ("evaluate",)):
        assert "one person one name" in str(failure(*command, "--manifest", two))


def test_labels_on_the_held_out_side_only_are_nothing_to_train_on(
    data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "data.csv"
    file.write_text(f"path,subject,AU01_r\n{data / '0.png'},a,1\n{data / '1.png'},b,\n")
    options = ("--manifest", file, "--init", "scratch", "--holdout", "a", "--device", "cpu")
    error = failure("train", *options, "--out", tmp_path / "out", "--detector", "ours")
    assert "every label of the faces to train on is blank" in str(error)


def test_the_embedded_network_can_be_trained_further() -> None:
    base = AUNetwork.load(device="cpu")
    first = start("embedded", (12,), 0)
    tuned = AUNetwork.from_module(first.net, first.card(), "cpu")
    crops = np.random.default_rng(0).integers(0, 256, (2, 96, 96), dtype=np.uint8)
    assert np.allclose(base.predict(crops).presence, tuned.predict(crops).presence, atol=1e-4)


STOPS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("first", STOPS)
def test_ctrl_c_and_sigterm_are_a_question_and_the_old_handlers_come_back(
    first: signal.Signals,
) -> None:
    before = [signal.getsignal(number) for number in STOPS]
    with interruptible() as asked:
        assert not asked()
        signal.raise_signal(first)
        assert asked()
        signal.raise_signal(signal.SIGTERM)  # sent twice is still one request
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in STOPS] == before


@pytest.mark.parametrize("number", STOPS)
def test_a_run_that_is_told_to_stop_saves_and_can_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    options = ("train", "--manifest", data / "data.csv", "--init", "scratch", "--out", out)
    options = (*options, "--views", 16, "--batch", 4, "--device", "cpu", "--detector", "ours")
    step = Trainer.step

    def signalled(self: Trainer, batch: TrainingBatch) -> StepLosses:
        if self.step_count == 1:
            signal.raise_signal(number)
        return step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", signalled)
        stopped = run(*options)
    assert stopped.exit_code == 130, stopped.output
    assert "stopped after 8 of 16 views" in stopped.output
    assert "--resume" in stopped.output
    assert not (out / "model.safetensors").exists()
    resumed = run(*options, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "resumed after 8 views" in resumed.output
    assert AUNetwork.load(out / "model.safetensors", "cpu").card.aus == (1, 12)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_on_a_terminal_is_a_bar_and_elsewhere_few_lines(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=100, soft_wrap=True)
    monkeypatch.setattr(progress_module, "err", console)
    with progress_module.progress("working", 1000) as update:
        for done in range(1, 1001):
            update(done, lambda done=done: f"at {done}")
    text = written.getvalue()
    if terminal:
        assert "1000/1000" in text
        assert "\x1b" in text
    else:
        lines = text.splitlines()
        assert len(lines) == 20
        assert lines[0] == "working: 50 of 1000  at 50"
        assert lines[-1] == "working: 1000 of 1000  at 1000"
