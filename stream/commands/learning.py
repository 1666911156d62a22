"""The commands ``facestage train`` and ``facestage evaluate``."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from ...core.action_units import au_code
from ...core.errors import ConfigError
from ...core.network.au_network import AUNetwork
from ..console import out
from ..datasets.faces import LabelledFaces, merge
from ..datasets.labelled import read_ckplus, read_disfa
from ..datasets.manifest import read_manifest
from ..detectors import make_detector
from ..files import check_target, write_file
from ..learning import checkpoints
from ..learning.crops import CropSet, collect_crops, frames_to_search
from ..learning.evaluate import as_json, evaluate_crops, format_table
from ..learning.networks import Start, start
from ..learning.session import Session, plan
from ..learning.splits import check_subjects, given_split, held_out, subject_folds, subjects_of
from ..learning.trainer import StepLosses
from ..progress import interruptible, progress
from .options import Detector, Device, TorchThreads

__all__ = ["evaluate", "train"]

_LR, _LR_SCRATCH = 5e-4, 2e-3
"""Learning rates with trained and with random weights."""

Manifest = Annotated[
    list[Path] | None,
    typer.Option(help="CSV with path, frame, subject and AU columns; may be given several times."),
]
CKPlus = Annotated[Path | None, typer.Option(help="Folder of CK+ (your own copy).")]
Disfa = Annotated[Path | None, typer.Option(help="Folder of DISFA (your own copy).")]
Crops = Annotated[
    Path | None,
    typer.Option(help="Folder that keeps the aligned crops for the next run."),
]


def train(
    out_dir: Annotated[
        Path,
        typer.Option(
            "--out", envvar="FACESTAGE_TRAIN_OUT", help="Folder for checkpoints and the model."
        ),
    ],
    manifest: Manifest = None,
    ckplus: CKPlus = None,
    disfa: Disfa = None,
    init: Annotated[
        str, typer.Option(help="embedded, scratch, or a .safetensors file with its card.")
    ] = "embedded",
    epochs: Annotated[
        float | None, typer.Option(min=0.001, help="Times every picture is seen; default 20.")
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(min=1, help="Crops to see in all (whole batches), not --epochs."),
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Crops per step.")] = 48,
    lr: Annotated[
        float | None,
        typer.Option(min=1e-9, help="Highest learning rate; default 5e-4, from scratch 2e-3."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random in the run.")] = 0,
    holdout: Annotated[
        str | None,
        typer.Option(help="Subjects to test on: a share such as 0.2, or names joined by commas."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Split the subjects into N parts, test on one.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Which part of --folds, from 0; default 0.")
    ] = None,
    freeze_batchnorm: Annotated[
        bool, typer.Option("--freeze-batchnorm", help="Keep its statistics; for little data.")
    ] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 500,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")
    ] = False,
    licence: Annotated[
        str, typer.Option(help="For the model card; the data decides what is allowed.")
    ] = "Not stated; bound by the licences of the training data and of the network it began from.",
    crops: Crops = None,
    device: Device = "auto",
    detector: Detector = "auto",
    threads: TorchThreads = None,
) -> None:
    """Train or fine-tune an AU network on labelled faces, tested on other subjects."""
    _use_threads(threads)
    if epochs is not None and views is not None:
        raise ConfigError("--epochs and --views both say how long to train; leave one out")
    if epochs is not None and not math.isfinite(epochs):
        raise ConfigError(f"--epochs {epochs} has no end; give a number, such as 20")
    if resume and checkpoints.latest(out_dir) is None:
        raise ConfigError(f"{out_dir} holds no checkpoint to resume; leave out --resume")
    if not resume and checkpoints.latest(out_dir) is not None:
        raise ConfigError(
            f"{out_dir} holds checkpoints of an earlier run; go on with --resume, or name another "
            "folder"
        )
    _make_folder(out_dir)
    faces = _faces(manifest, ckplus, disfa)
    test_subjects = _test_subjects(faces, holdout, folds, fold)
    begin = start(init, faces.coded(), seed, device)
    cut = _crops(faces, begin.base, detector, crops or out_dir / "crops")
    testing = held_out(cut.faces, test_subjects)
    training = _part(cut, ~testing, "train")
    if not training.faces.coded():
        raise ConfigError(
            "every label of the faces to train on is blank; code at least one AU of them, or hold "
            "out other subjects"
        )
    test = _part(cut, testing, "test") if test_subjects else None
    total = views or math.ceil((epochs or 20) * len(training.faces))
    total = math.ceil(total / batch) * batch
    usual = _LR_SCRATCH if init == "scratch" else _LR
    rate = usual if lr is None else lr
    config = plan(begin, total, lr=rate, seed=seed, freeze_batchnorm=freeze_batchnorm)
    with progress("landmarks", len(training.faces)) as update:
        session = Session(
            begin,
            training,
            config,
            out_dir,
            batch=batch,
            device=begin.base.device,
            on_progress=lambda done: update(done, str),
        )
    if resume:
        out.print(f"resumed after {session.resume()} views", markup=False)
    _say_start(begin, training, test, total)
    with progress("training", total) as update, interruptible() as interrupted:

        def on_step(losses: StepLosses) -> None:
            update(session.trainer.views, lambda: _losses(losses))

        session.run(save_every=save_every, on_step=on_step, stop=interrupted)
    if not session.finished:
        out.print(
            f"stopped after {session.trainer.views} of {total} views; the checkpoint in {out_dir} "
            "is whole, go on with --resume",
            markup=False,
        )
        raise typer.Exit(130)
    outcome = session.finish(
        test, _card_fields(begin, training, init, batch, licence, rate, seed, total)
    )
    AUNetwork.load(outcome.path, "cpu")  # what was written is what can be read
    if outcome.figures:
        for line in format_table(outcome.figures):
            out.print(line, markup=False)
    out.print(f"written: {outcome.path}", markup=False)


def evaluate(
    manifest: Manifest = None,
    ckplus: CKPlus = None,
    disfa: Disfa = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            "--model",
            help="AU network: a .safetensors file, its card (.json) beside it; default: embedded.",
        ),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", envvar="FACESTAGE_EVALUATE_OUT", help="JSON file to write the figures to."
        ),
    ] = None,
    crops: Crops = None,
    device: Device = "auto",
    detector: Detector = "auto",
    threads: TorchThreads = None,
) -> None:
    """Compare a network with labels: F1, AUC, ICC(3,1), prevalence and calibration per AU."""
    _use_threads(threads)
    if out_file is not None:
        check_target(out_file)
        _make_folder(out_file.parent)
    network = AUNetwork.load(weights, device)
    faces = _faces(manifest, ckplus, disfa)
    unknown = [au for au in faces.coded() if au not in network.card.aus]
    if len(unknown) == len(faces.coded()):
        raise ConfigError(
            f"none of the labelled AUs ({', '.join(map(au_code, unknown))}) is known to "
            f"{network.name}; it has {', '.join(map(au_code, network.card.aus))}"
        )
    cut = _crops(faces, network, detector, crops)
    with progress("predicting", len(cut.faces)) as update:
        figures = evaluate_crops(network, cut, on_progress=lambda done: update(done, str))
    out.print(f"{network.name} on {network.device}, present from intensity 1 (A)", markup=False)
    for line in format_table(figures):
        out.print(line, markup=False)
    if unknown:
        out.print(f"not in this network: {', '.join(map(au_code, unknown))}", markup=False)
    if out_file is not None:
        facts = as_json(
            figures,
            model=network.name,
            sha256=network.card.sha256,
            data=list(faces.notes),
            pictures=len(faces),
            faces=len(cut.faces),
            subjects=len(cut.faces.subjects),
            left_out=cut.failures,
            not_in_network=unknown,
        )
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
        write_file(out_file, f"{text}\n".encode())
        out.print(f"written: {out_file}", markup=False)


def _make_folder(folder: Path) -> None:
    """Make the folder of the results before the work, which may take hours, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {folder} cannot be made: {error.strerror or error}; name another folder"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"no permission to write to {folder}; name a folder of your own")


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)


def _faces(manifests: list[Path] | None, ckplus: Path | None, disfa: Path | None) -> LabelledFaces:
    parts = [read_manifest(path) for path in manifests or ()]
    if ckplus is not None:
        parts.append(read_ckplus(ckplus))
    if disfa is not None:
        parts.append(read_disfa(disfa))
    faces = merge(parts)
    check_subjects(faces)
    for note in faces.notes:
        out.print(note, markup=False)
    return faces


def _test_subjects(
    faces: LabelledFaces, holdout: str | None, folds: int | None, fold: int | None
) -> tuple[str, ...]:
    if fold is not None and folds is None:
        raise ConfigError(f"--fold {fold} is one part of how many? give --folds too")
    given = given_split(faces)
    ways = [
        name
        for name, used in (
            ("--holdout", holdout is not None),
            ("--folds", folds is not None),
            ("a split column", bool(given)),
        )
        if used
    ]
    if len(ways) > 1:
        raise ConfigError(f"{' and '.join(ways)} both say whom to test on; leave one out")
    if holdout is not None:
        return subjects_of(faces, holdout)
    if folds is not None:
        return subject_folds(faces, folds, fold or 0)
    return given


def _crops(faces: LabelledFaces, network: AUNetwork, detector: str, cache: Path | None) -> CropSet:
    with progress("finding faces", frames_to_search(faces)) as update:
        found = collect_crops(
            faces,
            network,
            make_detector(detector),
            cache,
            on_progress=lambda done, path: update(done, lambda: path.name),
        )
    for line in found.report():
        out.print(line, markup=False)
    return found


def _part(cut: CropSet, mask: NDArray[np.bool_], name: str) -> CropSet:
    rows = np.flatnonzero(mask)
    if not len(rows):
        raise ConfigError(
            f"no face is left to {name} on; see above why pictures were left out, or choose other "
            "subjects to hold out"
        )
    return CropSet(cut.faces.take(rows), cut.crops[rows], {}, {})


def _say_start(begin: Start, training: CropSet, test: CropSet | None, total: int) -> None:
    coded = training.faces.coded()
    out.print(
        f"training on {begin.base.device}: {len(training.faces)} faces of "
        f"{len(training.faces.subjects)} subjects, {total} views, labels of "
        f"{', '.join(map(au_code, coded))}",
        markup=False,
    )
    if test is None:
        out.print("nobody is held out: no figures; use --holdout 0.2 to have some", markup=False)
    else:
        out.print(
            f"held out: {len(test.faces)} faces of {', '.join(test.faces.subjects)}", markup=False
        )
    if begin.added and len(begin.added) < len(begin.facts["aus"]):
        out.print(f"new outputs: {', '.join(map(au_code, begin.added))}", markup=False)
    kept = [au for au in begin.facts["aus"] if au not in coded]
    if kept:
        out.print(
            f"without a label here, so not trained: {', '.join(map(au_code, kept))}", markup=False
        )


def _card_fields(
    begin: Start,
    training: CropSet,
    init: str,
    batch: int,
    licence: str,
    lr: float,
    seed: int,
    views: int,
) -> dict[str, object]:
    faces = training.faces
    people = len(faces.subjects)
    origin = "" if init == "scratch" else f", begun from {begin.base.name}"
    untrained = [au for au in begin.facts["aus"] if au not in faces.coded()]
    limits = [
        "Measured only on the subjects held out of its own training data, if any.",
        "No claim about emotions, pain or intentions of a person.",
    ]
    if untrained:
        limits.insert(0, "Not trained here: " + ", ".join(map(au_code, untrained)) + ".")
    return {
        "name": f"{begin.base.name.removesuffix('_trained')}_trained",
        "trained_on": f"{len(faces)} labelled pictures of {people} subjects{origin}",
        "licence": licence,
        "limits": limits,
        "data": {"pictures": len(faces), "subjects": people, "sources": list(faces.notes)},
        "recipe": {
            "init": init if init in ("embedded", "scratch") else begin.base.card.sha256,
            "views": views,
            "batch": batch,
            "lr": lr,
            "seed": seed,
            "device": str(begin.base.device),
            "torch": torch.__version__,
        },
    }


def _losses(losses: StepLosses) -> str:
    return (
        f"loss {float(losses.total):.3f} (presence {float(losses.presence):.3f}, intensity "
        f"{float(losses.intensity):.4f})"
    )
