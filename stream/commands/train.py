"""``facestage train``: train or fine-tune an AU network on labelled faces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from ...core.action_units import au_code
from ...core.errors import ConfigError
from ...core.network.au_network import AUNetwork
from ..compute import set_threads
from ..console import out
from ..datasets.faces import LabelledFaces
from ..learning import checkpoints
from ..learning.crops import CropSet
from ..learning.evaluate import format_table
from ..learning.networks import Start, start
from ..learning.session import Session, plan
from ..learning.splits import given_split, held_out, subject_folds, subjects_of
from ..learning.trainer import StepLosses
from ..progress import interruptible, progress
from .labels import collect, labelled_faces, make_folder
from .signatures import TrainOptions

__all__ = ["run_train"]

_LR, _LR_SCRATCH = 5e-4, 2e-3
"""Learning rates with trained and with random weights."""


def run_train(options: TrainOptions) -> None:
    """Train a network, test it on the subjects held out, and write it with its card.

    Raises:
        FacestageError: an option, the labels, the model or the folder cannot be used.
        typer.Exit: stopped by a signal; ``--resume`` goes on from there.
    """
    set_threads(options.threads)
    _check(options)
    make_folder(options.out_dir)
    run = _prepare(options)
    session = _session(options, run)
    if options.resume:
        out.print(f"resumed after {session.resume()} views", markup=False)
    _print_start(run)
    with progress("training", run.views) as update, interruptible() as interrupted:

        def on_step(losses: StepLosses) -> None:
            update(session.trainer.views, lambda: _losses(losses))

        session.run(save_every=options.save_every, on_step=on_step, stop=interrupted)
    if not session.finished:
        out.print(
            f"stopped after {session.trainer.views} of {run.views} views; the checkpoint in "
            f"{options.out_dir} is whole, go on with --resume",
            markup=False,
        )
        raise typer.Exit(130)
    outcome = session.finish(run.test, _card_fields(options, run))
    AUNetwork.load(outcome.path, "cpu")  # what was written is what can be read
    if outcome.figures:
        for line in format_table(outcome.figures):
            out.print(line, markup=False)
    out.print(f"written: {outcome.path}", markup=False)


@dataclass(frozen=True, slots=True)
class _Run:
    """What a training begins from and works on.

    Attributes:
        begin: network to begin from.
        training, test: faces to train on; faces of the subjects held out, None without any.
        views: crops to see in all, whole batches.
        lr: highest learning rate.
    """

    begin: Start
    training: CropSet
    test: CropSet | None
    views: int
    lr: float


def _check(options: TrainOptions) -> None:
    """Refuse options that contradict each other or the folder."""
    if options.epochs is not None and options.views is not None:
        raise ConfigError("--epochs and --views both say how long to train; leave one out")
    if options.epochs is not None and not math.isfinite(options.epochs):
        raise ConfigError(f"--epochs {options.epochs} has no end; give a number, such as 20")
    begun = checkpoints.latest(options.out_dir) is not None
    if options.resume and not begun:
        raise ConfigError(f"{options.out_dir} holds no checkpoint to resume; leave out --resume")
    if begun and not options.resume:
        raise ConfigError(
            f"{options.out_dir} holds checkpoints of an earlier run; go on with --resume, or name "
            "another folder"
        )


def _prepare(options: TrainOptions) -> _Run:
    faces = labelled_faces(options)
    test_subjects = _test_subjects(faces, options.holdout, options.folds, options.fold)
    begin = start(options.init, faces.coded(), options.seed, options.device)
    cache = options.crops or options.out_dir / "crops"
    crops = collect(faces, begin.base, options.detector, cache)
    testing = held_out(crops.faces, test_subjects)
    training = _part(crops, ~testing, "train")
    if not training.faces.coded():
        raise ConfigError(
            "every label of the faces to train on is blank; code at least one AU of them, or hold "
            "out other subjects"
        )
    test = _part(crops, testing, "test") if test_subjects else None
    views = options.views or math.ceil((options.epochs or 20) * len(training.faces))
    views = math.ceil(views / options.batch) * options.batch
    usual = _LR_SCRATCH if options.init == "scratch" else _LR
    return _Run(begin, training, test, views, usual if options.lr is None else options.lr)


def _session(options: TrainOptions, run: _Run) -> Session:
    config = plan(
        run.begin,
        run.views,
        lr=run.lr,
        seed=options.seed,
        freeze_batchnorm=options.freeze_batchnorm,
    )
    with progress("landmarks", len(run.training.faces)) as update:
        return Session(
            run.begin,
            run.training,
            config,
            options.out_dir,
            batch=options.batch,
            device=run.begin.base.device,
            on_progress=lambda done: update(done, str),
        )


def _test_subjects(
    faces: LabelledFaces, holdout: str | None, folds: int | None, fold: int | None
) -> tuple[str, ...]:
    if fold is not None and folds is None:
        raise ConfigError(f"--fold {fold} is one part of how many? give --folds too")
    split_column = given_split(faces)
    ways = [
        name
        for name, used in (
            ("--holdout", holdout is not None),
            ("--folds", folds is not None),
            ("a split column", bool(split_column)),
        )
        if used
    ]
    if len(ways) > 1:
        raise ConfigError(f"{' and '.join(ways)} both say whom to test on; leave one out")
    if holdout is not None:
        return subjects_of(faces, holdout)
    if folds is not None:
        return subject_folds(faces, folds, fold or 0)
    return split_column


def _part(cut: CropSet, mask: NDArray[np.bool_], name: str) -> CropSet:
    rows = np.flatnonzero(mask)
    if not len(rows):
        raise ConfigError(
            f"no face is left to {name} on; see above why pictures were left out, or choose other "
            "subjects to hold out"
        )
    return CropSet(cut.faces.take(rows), cut.crops[rows], {}, {})


def _print_start(run: _Run) -> None:
    begin, training, test = run.begin, run.training, run.test
    coded = training.faces.coded()
    out.print(
        f"training on {begin.base.device}: {len(training.faces)} faces of "
        f"{len(training.faces.subjects)} subjects, {run.views} views, labels of "
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
    untrained = [au for au in begin.facts["aus"] if au not in coded]
    if untrained:
        out.print(
            f"without a label here, so not trained: {', '.join(map(au_code, untrained))}",
            markup=False,
        )


def _card_fields(options: TrainOptions, run: _Run) -> dict[str, object]:
    begin, faces = run.begin, run.training.faces
    people = len(faces.subjects)
    origin = "" if options.init == "scratch" else f", begun from {begin.base.name}"
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
        "licence": options.licence,
        "limits": limits,
        "data": {"pictures": len(faces), "subjects": people, "sources": list(faces.notes)},
        "recipe": {
            "init": options.init
            if options.init in ("embedded", "scratch")
            else begin.base.card.sha256,
            "views": run.views,
            "batch": options.batch,
            "lr": run.lr,
            "seed": options.seed,
            "device": str(begin.base.device),
            "torch": torch.__version__,
        },
    }


def _losses(losses: StepLosses) -> str:
    return (
        f"loss {float(losses.total):.3f} (presence {float(losses.presence):.3f}, intensity "
        f"{float(losses.intensity):.4f})"
    )
